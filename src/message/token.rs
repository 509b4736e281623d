//! Error tokens: one short word per way a request can end badly. The same word stands in the access log,
//! the metric label and the `X-Tidegate-Error` response header.

macro_rules! tokens {
    ($( $variant:ident $name:literal $status:literal $close:literal $text:literal; )*) => {
        /// Why a request was not answered by an endpoint, or not answered to its end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Token { $( #[doc = $text] $variant, )* }

        impl Token {
            /// Every token, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The word used in logs, metrics and headers.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $( Self::$variant => $name, )* } }

            /// The status sent when the head of the answer is not out yet; 499 is only ever logged.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $( Self::$variant => $status, )* } }

            /// Whether an HTTP/1.1 client connection must end after this answer.
            #[must_use]
            pub const fn closes(self) -> bool { match self { $( Self::$variant => $close, )* } }

            /// A sentence for the error page.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { $( Self::$variant => $text, )* } }
        }
    };
}

tokens! {
    BadRequest "bad_request" 400 true "The request head is malformed.";
    BadHost "bad_host" 400 true "The Host header is missing, repeated or invalid.";
    BadFraming "bad_framing" 400 true "The length of the request body is ambiguous.";
    BadHandshake "bad_handshake" 400 true "The WebSocket handshake is malformed.";
    Unauthorized "unauthorized" 401 false "Credentials are required.";
    Denied "denied" 403 false "Access is denied.";
    NoRoute "no_route" 404 false "No route matches this request.";
    MethodNotAllowed "method_not_allowed" 405 true "The method is not allowed here.";
    RequestTimeout "request_timeout" 408 true "The request did not arrive in time.";
    BodyTooLarge "body_too_large" 413 true "The request body is larger than allowed.";
    UriTooLong "uri_too_long" 414 true "The request target is longer than allowed.";
    ExpectationFailed "expectation_failed" 417 true "The expectation is not supported.";
    Misdirected "misdirected" 421 false "This connection does not serve the requested host.";
    UpgradeRequired "upgrade_required" 426 false "The version of WebSocket is not supported.";
    RateLimited "rate_limited" 429 false "Too many requests.";
    HeadersTooLarge "headers_too_large" 431 true "The request head is larger than allowed.";
    ClientClosed "client_closed" 499 true "The client went away.";
    Internal "internal" 500 true "The gateway made an error.";
    NotImplemented "not_implemented" 501 true "The transfer coding is not supported.";
    ConnectFailed "connect_failed" 502 false "The endpoint could not be reached.";
    TlsFailed "tls_failed" 502 false "The TLS handshake with the endpoint failed.";
    DnsFailed "dns_failed" 502 false "The name of the endpoint could not be resolved.";
    UpstreamReset "upstream_reset" 502 false "The endpoint closed the connection before it answered.";
    BadResponse "bad_response" 502 false "The endpoint's answer could not be understood.";
    UpgradeRefused "upgrade_refused" 502 false "The endpoint switched protocols without being asked.";
    NoEndpoint "no_endpoint" 503 false "No endpoint is available.";
    BreakerOpen "breaker_open" 503 false "The upstream is failing and is being left alone.";
    Overloaded "overloaded" 503 false "The gateway or the upstream is at its limit.";
    StickyMissing "sticky_missing" 503 false "The server of this session is not available.";
    Draining "draining" 503 true "The gateway, or the endpoint, is being shut down.";
    ConnectTimeout "connect_timeout" 504 false "Connecting to the endpoint took too long.";
    ResponseTimeout "response_timeout" 504 false "The endpoint took too long to answer.";
    Deadline "deadline" 504 false "The request took longer than allowed.";
    HttpVersion "http_version" 505 true "The HTTP version is not supported.";
    AbortedUpstream "aborted_upstream" 502 true "The endpoint failed in the middle of its answer.";
    AbortedClient "aborted_client" 499 true "The client failed in the middle of the exchange.";
}

/// A refusal while reading a message: the token, and for the log what exactly was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    pub token: Token,
    pub detail: &'static str,
}

impl Reject {
    #[must_use]
    pub const fn new(token: Token, detail: &'static str) -> Self {
        Self { token, detail }
    }
}
