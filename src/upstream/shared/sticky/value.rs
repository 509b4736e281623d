//! The value of a sticky cookie: where a session belongs, as text that nobody else can make.
//!
//! ```text
//! 1 base64url( key id 4 | issued at 4 | endpoint id 12 | tag 16 )
//! ```
//!
//! 49 characters. The tag is an HMAC-SHA-256 over what stands before it; the endpoint's id is one over its address:
//! who reads a value learns nothing about what is behind the gateway. Both are made with keys that are derived from
//! the secret and the upstream's name, so a value means something to one upstream only, and gateways with the same
//! secret, upstream and addresses make and read the same values with nothing to agree on. Three keys derived from one
//! secret for three uses: none says anything about another.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

/// Characters of every value.
pub const LENGTH: usize = 1 + TEXT;
/// The form that is described here; another one would begin with another character.
const VERSION: u8 = b'1';
const KEY_ID: usize = 4;
const ENDPOINT_ID: usize = 12;
const TAG: usize = 16;
/// What the tag is over, after the version.
const SIGNED: usize = KEY_ID + 4 + ENDPOINT_ID;
const BYTES: usize = SIGNED + TAG;
/// Divisible by three, so that each value has one text only.
const TEXT: usize = BYTES / 3 * 4;
const _: () = assert!(BYTES.is_multiple_of(3), "base64 without padding or spare bits");

/// Seconds that another gateway's clock may be ahead of ours.
const MOST_AHEAD: u32 = 3600;

/// What stands for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointId([u8; ENDPOINT_ID]);

/// Why a value says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It has not the form of a value.
    Malformed,
    /// It was made with a key that is not ours, or for another upstream.
    Foreign,
    /// It was changed, or made up.
    Tampered,
    /// Its time is over.
    Expired,
}

/// What a good value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub endpoint: EndpointId,
    /// Which of the keys it was made with.
    pub key: usize,
    /// Seconds since it was made.
    pub age: u32,
}

/// A secret, ready for use in one upstream.
#[derive(Clone)]
pub struct Key {
    id: [u8; KEY_ID],
    tag: hmac::Key,
    endpoint: hmac::Key,
}

impl std::fmt::Debug for Key {
    /// Without what is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Whether it is the same key.
    pub fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }

    #[must_use]
    pub fn new(secret: &[u8], upstream: &str) -> Self {
        let secret = hmac::Key::new(HMAC_SHA256, secret);
        let derive = |purpose: &str| {
            let mut context = hmac::Context::with_key(&secret);
            for part in ["tidegate sticky 1", purpose, upstream] {
                context.update(part.as_bytes());
                context.update(&[0]);
            }
            context.sign()
        };
        Self {
            id: first(derive("key id").as_ref()),
            tag: hmac::Key::new(HMAC_SHA256, derive("tag").as_ref()),
            endpoint: hmac::Key::new(HMAC_SHA256, derive("endpoint id").as_ref()),
        }
    }

    /// What stands for the endpoint with this address.
    #[must_use]
    pub fn endpoint(&self, address: &str) -> EndpointId {
        EndpointId(first(hmac::sign(&self.endpoint, address.as_bytes()).as_ref()))
    }

    /// Appends the value that says, from `now` on (in seconds of Unix time), that a session belongs to an endpoint.
    pub fn make(&self, endpoint: EndpointId, now: u32, out: &mut Vec<u8>) {
        let mut bytes = [0; BYTES];
        bytes[..KEY_ID].copy_from_slice(&self.id);
        bytes[KEY_ID..KEY_ID + 4].copy_from_slice(&now.to_be_bytes());
        bytes[KEY_ID + 4..SIGNED].copy_from_slice(&endpoint.0);
        let tag = self.tag(&bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&tag);
        let mut text = [0; TEXT];
        // It has the room that it needs.
        let _written = BASE64.encode_slice(bytes, &mut text);
        out.push(VERSION);
        out.extend_from_slice(&text);
    }

    fn tag(&self, signed: &[u8]) -> [u8; TAG] {
        first(hmac::sign(&self.tag, signed).as_ref())
    }
}

/// Reads a value that was made with one of these keys, no longer than `ttl` seconds ago (0: whenever).
///
/// # Errors
/// Why it says nothing.
pub fn read(keys: &[Key], value: &[u8], now: u32, ttl: u32) -> Result<Claim, Unfit> {
    let Some((&VERSION, text)) = value.split_first() else {
        return Err(Unfit::Malformed);
    };
    let mut bytes = [0; BYTES];
    // The length first: what is as long as a client likes is not decoded.
    if text.len() != TEXT || BASE64.decode_slice(text, &mut bytes) != Ok(BYTES) {
        return Err(Unfit::Malformed);
    }
    let (signed, tag) = bytes.split_at(SIGNED);
    let mut why = Unfit::Foreign;
    for (key, candidate) in keys.iter().enumerate() {
        if candidate.id != first::<KEY_ID>(signed) {
            continue;
        }
        if verify_slices_are_equal(&candidate.tag(signed), tag).is_err() {
            why = Unfit::Tampered;
            continue;
        }
        let issued = u32::from_be_bytes(first(&signed[KEY_ID..]));
        let age = now.saturating_sub(issued);
        let over = ttl > 0 && age >= ttl || issued > now.saturating_add(MOST_AHEAD);
        if over {
            return Err(Unfit::Expired);
        }
        return Ok(Claim {
            endpoint: EndpointId(first(&signed[KEY_ID + 4..])),
            key,
            age,
        });
    }
    Err(why)
}

/// The first bytes of what has at least as many.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u32 = 1_800_000_000;
    const DAY: u32 = 86_400;

    fn key(secret: &str) -> Key {
        Key::new(secret.as_bytes(), "app")
    }

    fn made(key: &Key, address: &str) -> Vec<u8> {
        let mut value = Vec::new();
        key.make(key.endpoint(address), NOW, &mut value);
        value
    }

    #[test]
    fn a_value_says_where_a_session_belongs_and_shows_no_address() {
        let key = key("secret");
        let value = made(&key, "10.0.0.1:80");
        assert_eq!(value.len(), LENGTH);
        let claim = read(std::slice::from_ref(&key), &value, NOW + 5, DAY).unwrap();
        assert_eq!(
            (claim.endpoint, claim.key, claim.age),
            (key.endpoint("10.0.0.1:80"), 0, 5)
        );
        assert_ne!(key.endpoint("10.0.0.1:80"), key.endpoint("10.0.0.2:80"));
        assert!(
            value
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        );
    }

    /// Values are kept by browsers over upgrades of the gateway: this text must be read, and made, for ever.
    #[test]
    fn a_value_of_version_1_is_what_it_always_was() {
        let key = Key::new(b"0123456789abcdef0123456789abcdef", "app");
        let value = String::from_utf8(made(&key, "10.0.0.1:3000")).unwrap();
        assert_eq!(value, "157K3tGtJ0gDsbMsdnNVQ0x1Da9nYdMGeYfBa3C8EY5-dnNQh");
    }

    #[test]
    fn gateways_with_the_same_secret_agree_and_others_do_not() {
        let value = made(&key("secret"), "a:1");
        assert!(read(&[key("secret")], &value, NOW, DAY).is_ok());
        assert_eq!(read(&[key("another")], &value, NOW, DAY), Err(Unfit::Foreign));
        let elsewhere = Key::new(b"secret", "other");
        assert_eq!(read(&[elsewhere], &value, NOW, DAY), Err(Unfit::Foreign));
        assert_eq!(read(&[], &value, NOW, DAY), Err(Unfit::Foreign));
    }

    #[test]
    fn an_older_key_reads_what_it_has_made() {
        let (old, new) = (key("old"), key("new"));
        let value = made(&old, "a:1");
        let claim = read(&[new, old.clone()], &value, NOW, DAY).unwrap();
        assert_eq!((claim.key, claim.endpoint), (1, old.endpoint("a:1")));
    }

    #[test]
    fn time_runs_out_unless_there_is_no_bound() {
        let keys = [key("secret")];
        let value = made(&keys[0], "a:1");
        assert!(read(&keys, &value, NOW + DAY - 1, DAY).is_ok());
        assert_eq!(read(&keys, &value, NOW + DAY, DAY), Err(Unfit::Expired));
        assert!(read(&keys, &value, u32::MAX, 0).is_ok());
        assert!(
            read(&keys, &value, NOW - MOST_AHEAD, DAY).is_ok(),
            "clocks differ"
        );
        assert_eq!(
            read(&keys, &value, NOW - MOST_AHEAD - 1, DAY),
            Err(Unfit::Expired)
        );
        assert_eq!(read(&keys, &value, NOW - MOST_AHEAD - 1, 0), Err(Unfit::Expired));
    }

    #[test]
    fn what_is_not_a_value_is_told_apart_from_one_that_was_changed() {
        let keys = [key("secret")];
        let value = made(&keys[0], "a:1");
        let read = |value: &[u8]| read(&keys, value, NOW, DAY);
        for text in [&b""[..], b"1", b"2", &value[1..], &value[..LENGTH - 1], b"x=y"] {
            assert_eq!(read(text), Err(Unfit::Malformed));
        }
        let with = |at: usize, byte: u8| {
            let mut value = value.clone();
            value[at] = byte;
            value
        };
        assert_eq!(read(&with(0, b'2')), Err(Unfit::Malformed), "a version to come");
        assert_eq!(read(&with(10, b'=')), Err(Unfit::Malformed));
        let last = if value[LENGTH - 1] == b'A' { b'B' } else { b'A' };
        assert_eq!(read(&with(LENGTH - 1, last)), Err(Unfit::Tampered));
    }

    proptest! {
        #[test]
        fn nothing_that_was_not_made_here_says_anything(value in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(read(&[key("a"), key("b")], &value, NOW, DAY).is_err());
        }

        #[test]
        fn what_has_the_form_of_a_value_says_nothing_either(body in "1[A-Za-z0-9_-]{48}") {
            prop_assert!(read(&[key("a"), key("b")], body.as_bytes(), NOW, 0).is_err());
        }

        #[test]
        fn a_value_of_ours_with_any_character_changed_says_nothing(at in 0..LENGTH, byte in any::<u8>()) {
            let keys = [key("secret")];
            let mut value = made(&keys[0], "a:1");
            prop_assume!(value[at] != byte);
            value[at] = byte;
            prop_assert!(read(&keys, &value, NOW, DAY).is_err());
        }

        #[test]
        fn what_was_made_is_read(secret in ".{1,40}", upstream in "[a-z]{1,9}", address in ".{0,40}", age in 0..DAY) {
            let key = Key::new(secret.as_bytes(), &upstream);
            let value = made(&key, &address);
            let claim = read(std::slice::from_ref(&key), &value, NOW + age, DAY).unwrap();
            prop_assert_eq!((claim.endpoint, claim.age), (key.endpoint(&address), age));
        }
    }
}
