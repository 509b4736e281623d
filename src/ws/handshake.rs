//! The key of a handshake and what proves that the other side understood it (RFC 6455 section 4).

use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The one version there is.
pub const VERSION: &[u8] = b"13";

/// A new random key.
#[must_use]
pub fn new_key() -> String {
    generate_key()
}

/// What a server answers to this key.
#[must_use]
pub fn accept_of(key: &[u8]) -> String {
    derive_accept_key(key)
}

/// Whether it is 16 bytes in base64.
#[must_use]
pub fn is_key(value: &[u8]) -> bool {
    const TEXT: usize = 22;
    value.len() == TEXT + 2
        && value.ends_with(b"==")
        && value[..TEXT]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_16_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(is_key(new_key().as_bytes()));
        for wrong in [
            &b""[..],
            b"short==",
            b"dGhlIHNhbXBsZSBub25jZQ=",
            b"dGhlIHNhbXBsZSBub25jZQAA",
            b"dGhlIHNhbXBs ZSBub25jZ==",
            b"dGhlIHNhbXBsZSBub25jZQ==x",
        ] {
            assert!(!is_key(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        assert_eq!(
            accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
