//! WebSocket peers (RFC 6455), just enough to hold a conversation: small frames, unfragmented.

use crate::backend::Backend;
use crate::message::Response;
use crate::raw::{Broken, Conn};
use std::fmt::Write as _;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake request for this target; extra header lines end in CRLF.
#[must_use]
pub fn handshake(target: &str, extra: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extra}\r\n"
    )
}

/// The answer to a handshake with this key.
#[must_use]
pub fn accepted(key: &str) -> String {
    let accept = base64(&sha1(format!("{key}{GUID}").as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// One frame; clients mask.
#[must_use]
pub fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    let bit = if masked { 0x80 } else { 0 };
    match payload.len() {
        len @ 0..=125 => out.push(bit | len as u8),
        len @ 126..=0xffff => {
            out.push(bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if masked {
        let mask = [0x12, 0x34, 0x56, 0x78];
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    } else {
        out.extend_from_slice(payload);
    }
    out
}

/// Reads one frame: opcode and unmasked payload.
///
/// # Errors
/// When it does not come in time.
pub fn read_frame(conn: &mut Conn) -> Result<(u8, Vec<u8>), Broken> {
    let head = conn.try_read(2)?;
    let len = match head[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes(
            conn.try_read(2)?.try_into().unwrap_or_default(),
        )),
        127 => u64::from_be_bytes(conn.try_read(8)?.try_into().unwrap_or_default()),
        len => u64::from(len),
    };
    let mask = if head[1] & 0x80 == 0 {
        vec![0; 4]
    } else {
        conn.try_read(4)?
    };
    let payload = conn.try_read(len as usize)?;
    let payload = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(b, m)| b ^ m)
        .collect();
    Ok((head[0] & 0x0f, payload))
}

/// A client that was let in.
#[derive(Debug)]
pub struct Client {
    pub conn: Conn,
    pub answer: Response,
}

impl Client {
    /// # Panics
    /// When the answer is not 101 with the right accept value.
    #[track_caller]
    #[must_use]
    pub fn connect(mut conn: Conn, target: &str) -> Self {
        let answer = conn.send(handshake(target, "")).response();
        assert_eq!(answer.status, 101, "{answer}");
        assert_eq!(
            answer.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        Self { conn, answer }
    }

    pub fn send(&mut self, text: &str) {
        self.conn.send(frame(TEXT, text.as_bytes(), true));
    }

    /// The next text.
    ///
    /// # Panics
    /// When something else comes, or nothing.
    #[track_caller]
    pub fn receive(&mut self) -> String {
        let (opcode, payload) = read_frame(&mut self.conn).expect("a frame");
        assert_eq!(opcode, TEXT);
        String::from_utf8_lossy(&payload).into_owned()
    }

    /// Sends a text and expects it back.
    #[track_caller]
    pub fn echo(&mut self, text: &str) {
        self.send(text);
        assert_eq!(self.receive(), text);
    }
}

/// A server that returns each message; answers a close with a close.
#[must_use]
pub fn echo_backend() -> Backend {
    Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        visit.hit(request);
        let _ = conn.try_send(accepted(&key));
        while let Ok((opcode, payload)) = read_frame(conn) {
            let back = if opcode == PING { PONG } else { opcode };
            if conn.try_send(frame(back, &payload, false)).is_err() || opcode == CLOSE {
                return;
            }
        }
    })
}

fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [
        0x6745_2301_u32,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w: Vec<u32> = block
            .chunks_exact(4)
            .map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
            .collect();
        for i in 16..80 {
            let next = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
            w.push(next.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in w.iter().enumerate() {
            let (f, k) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(f)
                .wrapping_add(e)
                .wrapping_add(k)
                .wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d, e]) {
            *s = s.wrapping_add(v);
        }
    }
    let mut out = [0; 20];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |w, &b| w << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let symbol = if i <= chunk.len() {
                char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63])
            } else {
                '='
            };
            let _ = write!(out, "{symbol}");
        }
    }
    out
}
