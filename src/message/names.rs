//! Field names that the gateway itself reads or writes, recognised once while the head is parsed.

macro_rules! names {
    ($( $variant:ident $text:literal; )*) => {
        /// A field name known to the gateway. Everything else is [`Name::Other`], or [`Name::Underscored`] if
        /// there is an underscore in it: applications that turn `-` into `_` cannot tell it from a known one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Name { Other, Underscored, $( $variant, )* }

        impl Name {
            /// How many names there are, the unknown ones included: the size of a head's index.
            pub const COUNT: usize = [ Self::Other, Self::Underscored, $( Self::$variant, )* ].len();
            /// All known names with their lower-case text.
            pub const ALL: &'static [(Self, &'static str)] = &[ $( (Self::$variant, $text), )* ];

            /// Lower-case text; empty for an unknown name.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { Self::Other | Self::Underscored => "", $( Self::$variant => $text, )* } }
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
        let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
        match Self::recognise_plain(name) {
            Self::Other if name.contains(&b'_') => Self::Underscored,
            // It may only look like it, by the bit that case does not count.
            known if known != Self::Other && name.iter().all(plain) => known,
            _ => Self::Other,
        }
    }

    /// Recognises a name made of letters, digits and hyphens only; for a name in lower case, any token will do.
    #[must_use]
    #[inline]
    pub(crate) fn recognise_plain(name: &[u8]) -> Self {
        let (candidate, text) = SLOTS[known_slot(name)];
        if is_same(name, text.as_bytes()) {
            candidate
        } else {
            Self::Other
        }
    }
}

/// Whether a plain name is this lower-case one: setting one bit makes lower case of letters and leaves
/// digits and hyphens. Compares words that may overlap.
#[inline]
pub(super) fn is_same(name: &[u8], known: &[u8]) -> bool {
    const WORD: u64 = 0x2020_2020_2020_2020;
    const HALF: u32 = 0x2020_2020;
    if name.len() != known.len() {
        return false;
    }
    if let (Some(a), Some(z), Some(known_a), Some(known_z)) = (
        name.first_chunk(),
        name.last_chunk(),
        known.first_chunk(),
        known.last_chunk(),
    ) {
        let same = |a: &[u8; 8], b: &[u8; 8]| u64::from_le_bytes(*a) | WORD == u64::from_le_bytes(*b);
        let between = || {
            let (a, b) = (name[8..].as_chunks().0, known[8..].as_chunks().0);
            a.iter().zip(b).all(|(a, b)| same(a, b))
        };
        return same(a, known_a) && same(z, known_z) && (name.len() <= 16 || between());
    }
    if let (Some(a), Some(z), Some(known_a), Some(known_z)) = (
        name.first_chunk(),
        name.last_chunk(),
        known.first_chunk(),
        known.last_chunk(),
    ) {
        let same = |a: &[u8; 4], b: &[u8; 4]| u32::from_le_bytes(*a) | HALF == u32::from_le_bytes(*b);
        return same(a, known_a) && same(z, known_z);
    }
    name.iter().zip(known).all(|(a, b)| a | 0x20 == *b)
}

// A perfect hash over the length and the last four bytes: one look and one comparison per name, and almost every
// unknown name is turned away without comparing at all.

pub(super) const SLOT_COUNT: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 8;
const MULTIPLIER: u32 = find_multiplier();
static SLOTS: [(Name, &str); SLOT_COUNT] = fill_slots();

/// The slot of a name, whatever its case, where no two of the known ones share any.
#[inline]
pub(super) fn known_slot(name: &[u8]) -> usize {
    slot(name, MULTIPLIER)
}

/// The slot of a name, whatever its case.
#[inline]
const fn slot(name: &[u8], multiplier: u32) -> usize {
    let tail = match name.last_chunk::<4>() {
        Some(tail) => u32::from_le_bytes(*tail) | 0x2020_2020,
        None => short_tail(name),
    };
    let key = tail.wrapping_add(name.len() as u32);
    (key.wrapping_mul(multiplier) >> (u32::BITS - SLOT_BITS)) as usize
}

/// The bytes of a name of less than four.
const fn short_tail(name: &[u8]) -> u32 {
    let mut tail = 0;
    let mut index = 0;
    while index < name.len() {
        tail = tail << 8 | (name[index] | 0x20) as u32;
        index += 1;
    }
    tail
}

/// The first odd multiplier of a fixed sequence under which no two known names share a slot.
const fn find_multiplier() -> u32 {
    let mut multiplier: u32 = 0x9e37_79b1;
    while !is_perfect(multiplier) {
        multiplier = multiplier.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f) | 1;
    }
    multiplier
}

const fn is_perfect(multiplier: u32) -> bool {
    let mut taken = [false; SLOT_COUNT];
    let mut index = 0;
    while index < Name::ALL.len() {
        let slot = slot(Name::ALL[index].1.as_bytes(), multiplier);
        if taken[slot] {
            return false;
        }
        taken[slot] = true;
        index += 1;
    }
    true
}

const fn fill_slots() -> [(Name, &'static str); SLOT_COUNT] {
    let mut slots = [(Name::Other, ""); SLOT_COUNT];
    let mut index = 0;
    while index < Name::ALL.len() {
        slots[slot(Name::ALL[index].1.as_bytes(), MULTIPLIER)] = Name::ALL[index];
        index += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_recognised_in_any_case() {
        for &(id, text) in Name::ALL {
            assert_eq!(Name::recognise(text.as_bytes()), id);
            assert_eq!(Name::recognise(text.to_ascii_uppercase().as_bytes()), id);
            assert_eq!(id.text(), text);
        }
    }

    #[test]
    fn what_only_resembles_a_known_name_is_not_one() {
        for text in [
            "",
            "x",
            "hos",
            "hosts",
            "h_st",
            "ho\u{13}t",
            "x-forwarded-pnrt",
            "Content\rLength",
        ] {
            let id = Name::recognise(text.as_bytes());
            assert!(
                matches!(id, Name::Other | Name::Underscored),
                "{text:?} is {id:?}"
            );
        }
    }

    #[test]
    fn an_underscore_is_noticed() {
        assert_eq!(Name::recognise(b"X_Forwarded_For"), Name::Underscored);
        assert_eq!(Name::recognise(b"_"), Name::Underscored);
        assert_eq!(Name::recognise(b"x-custom"), Name::Other);
    }
}
