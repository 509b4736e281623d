//! The handshake of a probe that asks whether an endpoint lets WebSockets in (RFC 6455 section 4).

use crate::message::framing::connection_has;
use crate::message::head::HeadBuf;
use crate::message::names::Name;
use crate::ws::handshake::{accept_of, new_key};

/// The key of one handshake.
pub(super) struct Key(String);

impl Key {
    pub fn random() -> Self {
        Self(new_key())
    }

    /// The fields of the request that ask for the switch, and the end of its head.
    pub fn fields(&self) -> Vec<u8> {
        format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            self.0
        )
        .into_bytes()
    }

    /// Holds the head of a 101 to what the key asks for.
    pub fn check(&self, head: &HeadBuf) -> Result<(), &'static str> {
        let upgrade = head.get(Name::Upgrade);
        if !upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) {
            return Err("Upgrade is not websocket");
        }
        if !connection_has(head, b"upgrade") {
            return Err("Connection is not Upgrade");
        }
        let accept = accept_of(self.0.as_bytes());
        let mut found = head.find(b"sec-websocket-accept");
        if found.next() != Some(accept.as_bytes()) || found.next().is_some() {
            return Err("Sec-WebSocket-Accept does not fit the key");
        }
        Ok(())
    }
}

/// A masked close frame with code 1000.
pub(super) fn close_frame() -> [u8; 8] {
    const CODE: [u8; 2] = 1000_u16.to_be_bytes();
    let mask: [u8; 4] = fastrand::u32(..).to_be_bytes();
    let [a, b, c, d] = mask;
    [0x88, 0x82, a, b, c, d, CODE[0] ^ a, CODE[1] ^ b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{HeadLimits, Parsed, parse_response};

    const LIMITS: HeadLimits = HeadLimits {
        head_bytes: 4096,
        fields: 16,
        target_bytes: 0,
    };

    fn head(fields: &str) -> HeadBuf {
        let text = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
        let mut buf = HeadBuf::default();
        let parsed = parse_response(text.as_bytes(), &LIMITS, &mut 0, &mut buf);
        assert!(matches!(parsed, Parsed::Complete { .. }), "{text}");
        buf
    }

    #[test]
    fn only_the_right_answer_to_the_key_counts() {
        // The example of RFC 6455 section 1.3.
        let key = Key("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let (upgrade, connection) = ("Upgrade: WebSocket\r\n", "Connection: keep-alive, Upgrade\r\n");
        assert_eq!(key.check(&head(&[upgrade, connection, accept].concat())), Ok(()));
        let wrong = "Sec-WebSocket-Accept: aaaaLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        for fields in [
            [connection, accept, ""],
            [upgrade, accept, ""],
            [upgrade, connection, ""],
            [upgrade, connection, wrong],
            ["Upgrade: h2c\r\n", connection, accept],
        ] {
            assert!(key.check(&head(&fields.concat())).is_err(), "{fields:?}");
        }
        assert!(
            key.check(&head(&[upgrade, connection, accept, accept].concat()))
                .is_err()
        );
    }

    #[test]
    fn keys_are_new_each_time() {
        assert_ne!(Key::random().0, Key::random().0);
    }

    #[test]
    fn the_goodbye_is_a_masked_close_with_its_code() {
        let [opcode, len, a, b, _, _, first, second] = close_frame();
        assert_eq!((opcode, len), (0x88, 0x80 | 2));
        assert_eq!(u16::from_be_bytes([first ^ a, second ^ b]), 1000);
    }
}
