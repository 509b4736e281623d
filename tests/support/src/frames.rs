//! HTTP/2 frame by frame, for clients that no library would be: written and read as bytes, in order or not.

use crate::address::Address;
use crate::raw::{Broken, Conn};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    #[must_use]
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// The frame as it is sent.
    ///
    /// # Panics
    /// When the payload is longer than a frame can say.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len())
            .expect("a short payload")
            .to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[self.kind, self.flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Four bytes of the payload as a number.
    #[must_use]
    pub fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).expect("four bytes");
        u32::from_be_bytes(bytes.try_into().expect("four"))
    }
}

/// A request's fields as a header block: literals that enter no table.
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(name, &mut out);
        text(value, &mut out);
    }
    out
}

/// A string as HPACK has it, not compressed.
pub fn text(text: &str, out: &mut Vec<u8>) {
    let length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            out.push((rest % 128 + 128) as u8);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
}

/// The pseudo-fields of a GET.
#[must_use]
pub fn get(path: &str) -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
    ])
}

fn try_next(conn: &mut Conn) -> Result<Frame, Broken> {
    let head = conn.try_read(9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = if length > 0 {
        conn.try_read(length)?
    } else {
        Vec::new()
    };
    Ok(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
        payload,
    })
}

/// The fields of a response.
#[must_use]
pub fn status(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let status = status.to_string();
    let mut all = vec![(":status", status.as_str())];
    all.extend_from_slice(fields);
    block(&all)
}

/// The server's end of a connection, for a script.
#[derive(Debug)]
pub struct Served<'a> {
    pub conn: &'a mut Conn,
}

impl<'a> Served<'a> {
    /// Reads the preface, and says what it allows.
    ///
    /// # Errors
    /// The client is gone, or speaks something else.
    pub fn accept(conn: &'a mut Conn, settings: &[(u16, u32)]) -> Result<Self, Broken> {
        let preface = conn.try_read(PREFACE.len())?;
        if preface != PREFACE {
            return Err(Broken::Malformed(format!("no preface: {preface:?}")));
        }
        let mut served = Self { conn };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(key, value)| {
                let mut bytes = key.to_be_bytes().to_vec();
                bytes.extend_from_slice(&value.to_be_bytes());
                bytes
            })
            .collect();
        served.send(&Frame::new(SETTINGS, 0, 0, payload));
        Ok(served)
    }

    /// Sends a frame, if somebody is there to take it.
    pub fn send(&mut self, frame: &Frame) -> &mut Self {
        let _gone = self.conn.try_send(frame.bytes());
        self
    }

    /// A whole answer.
    pub fn answer(&mut self, stream: u32, code: u16, body: &[u8]) -> &mut Self {
        self.send(&Frame::new(HEADERS, END_HEADERS, stream, status(code, &[])));
        self.send(&Frame::new(DATA, END_STREAM, stream, body))
    }

    pub fn reset(&mut self, stream: u32, code: u32) -> &mut Self {
        self.send(&Frame::new(RST_STREAM, 0, stream, code.to_be_bytes()))
    }

    pub fn goaway(&mut self, last: u32, code: u32) -> &mut Self {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.send(&Frame::new(GOAWAY, 0, 0, payload))
    }

    /// The next frame; SETTINGS are acknowledged and PINGs answered.
    ///
    /// # Errors
    /// The connection ended.
    pub fn try_next(&mut self) -> Result<Frame, Broken> {
        let frame = try_next(self.conn)?;
        match (frame.kind, frame.flags & ACK) {
            (SETTINGS, 0) => drop(self.send(&Frame::new(SETTINGS, ACK, 0, ""))),
            (PING, 0) => drop(self.send(&Frame::new(PING, ACK, 0, frame.payload.clone()))),
            _ => {}
        }
        Ok(frame)
    }

    /// The next frame of this kind.
    ///
    /// # Errors
    /// The connection ended before.
    pub fn next_of(&mut self, kind: u8) -> Result<Frame, Broken> {
        loop {
            let frame = self.try_next()?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// Reads to the end.
    pub fn drain(&mut self) {
        while self.try_next().is_ok() {}
    }
}

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub struct Peer {
    pub conn: Conn,
}

impl Peer {
    /// Connects and sends preface and empty SETTINGS.
    #[track_caller]
    #[must_use]
    pub fn connect(address: impl Into<Address>) -> Self {
        let mut peer = Self {
            conn: Conn::connect(address),
        };
        peer.conn.send(PREFACE);
        peer.send(&Frame::new(SETTINGS, 0, 0, ""));
        peer
    }

    #[track_caller]
    pub fn send(&mut self, frame: &Frame) -> &mut Self {
        self.conn.send(frame.bytes());
        self
    }

    /// A request without a body.
    #[track_caller]
    pub fn get(&mut self, stream: u32, path: &str) -> &mut Self {
        self.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get(path)))
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection ended.
    pub fn try_next(&mut self) -> Result<Frame, Broken> {
        try_next(&mut self.conn)
    }

    /// The next frame that this holds for; others are passed over.
    ///
    /// # Panics
    /// When the connection ends before.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.try_next() {
                Ok(frame) if wanted(&frame) => return frame,
                Ok(_) => {}
                Err(broken) => panic!("the connection ended: {broken:?}"),
            }
        }
    }

    /// The next frame of this kind.
    #[track_caller]
    pub fn next_of(&mut self, kind: u8) -> Frame {
        self.until(|frame| frame.kind == kind)
    }

    /// Sends this again and again while it is taken, as often as said at most; how it ended: the error code of GOAWAY,
    /// if one came.
    #[track_caller]
    pub fn flood(&mut self, bytes: &[u8], times: usize) -> Option<u32> {
        for _ in 0..times {
            if self.conn.try_send(bytes).is_err() {
                break;
            }
        }
        self.goaway()
    }

    /// Reads to the end: the error code of the last GOAWAY.
    pub fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Ok(frame) = self.try_next() {
            if frame.kind == GOAWAY {
                code = Some(frame.number(4));
            }
        }
        code
    }
}
