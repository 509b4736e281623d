//! Field names that the gateway itself reads or writes, recognised once while the head is parsed.

macro_rules! names {
    ($( $variant:ident $text:literal; )*) => {
        /// A field name known to the gateway; everything else is [`Name::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Name { Other, $( $variant, )* }

        impl Name {
            /// How many names there are, `Other` included: the size of a head's index.
            pub const COUNT: usize = [ Self::Other, $( Self::$variant, )* ].len();
            /// All known names with their lower-case text.
            pub const ALL: &'static [(Self, &'static str)] = &[ $( (Self::$variant, $text), )* ];

            /// Lower-case text; empty for `Other`.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { Self::Other => "", $( Self::$variant => $text, )* } }
        }
    };
}

names! {
    Accept "accept";
    Authorization "authorization";
    Connection "connection";
    ContentLength "content-length";
    ContentType "content-type";
    Cookie "cookie";
    Expect "expect";
    Forwarded "forwarded";
    Host "host";
    Http2Settings "http2-settings";
    IdempotencyKey "idempotency-key";
    KeepAlive "keep-alive";
    Location "location";
    MaxForwards "max-forwards";
    Origin "origin";
    ProxyAuthenticate "proxy-authenticate";
    ProxyAuthorization "proxy-authorization";
    ProxyConnection "proxy-connection";
    Referer "referer";
    Refresh "refresh";
    RetryAfter "retry-after";
    SecWebsocketAccept "sec-websocket-accept";
    SecWebsocketKey "sec-websocket-key";
    SecWebsocketVersion "sec-websocket-version";
    Server "server";
    SetCookie "set-cookie";
    Te "te";
    Trailer "trailer";
    TransferEncoding "transfer-encoding";
    Upgrade "upgrade";
    UserAgent "user-agent";
    Via "via";
    XAccelBuffering "x-accel-buffering";
    XForwardedFor "x-forwarded-for";
    XForwardedHost "x-forwarded-host";
    XForwardedPort "x-forwarded-port";
    XForwardedProto "x-forwarded-proto";
    XRealIp "x-real-ip";
    XRequestId "x-request-id";
}

impl Name {
    /// Recognises a field name, whatever its case.
    #[must_use]
    pub fn recognise(name: &[u8]) -> Self {
        // Length first: almost every unknown name is turned away without comparing a byte.
        let mut found = Self::Other;
        for &(id, text) in Self::ALL {
            if text.len() == name.len() && text.as_bytes().eq_ignore_ascii_case(name) {
                found = id;
            }
        }
        found
    }
}
