//! One request and the check of its whole answer: status and length, or the echoed bytes.

use crate::requests::{
    LARGE_BODY, SMALL_BODY, UPLOAD_ANSWER, WEBSOCKET_ACCEPT, content_length, echo_frames, get, head_end,
    upload, websocket,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::str::FromStr;
use std::time::Duration;

/// A blocking step of opening a connection may take this long.
const OPENING: Duration = Duration::from_secs(10);
/// A response head larger than this is wrong.
const MAX_HEAD: usize = 32 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Small,
    Down,
    Up,
    Echo,
    /// A WebSocket handshake, and the connection's end.
    Upgrade,
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "small" => Ok(Self::Small),
            "down" => Ok(Self::Down),
            "up" => Ok(Self::Up),
            "echo" => Ok(Self::Echo),
            "upgrade" => Ok(Self::Upgrade),
            _ => Err(()),
        }
    }
}

/// What is sent and what must come back.
pub struct Plan {
    pub request: Vec<u8>,
    expected: Expected,
}

enum Expected {
    /// A 200 with a body of this length.
    Body(usize),
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// A 101 with the right answer to the key.
    Switch,
}

/// How much of an answer has come.
#[derive(Default)]
pub struct Progress {
    /// The head while incomplete.
    head: Vec<u8>,
    /// Body bytes, or echoed bytes, so far.
    received: usize,
    in_body: bool,
}

impl Plan {
    pub fn new(kind: Kind) -> Self {
        let body = |request, length| Self {
            request,
            expected: Expected::Body(length),
        };
        match kind {
            Kind::Small => body(get("/small"), SMALL_BODY),
            Kind::Down => body(get("/down"), LARGE_BODY),
            Kind::Up => body(upload(), UPLOAD_ANSWER),
            Kind::Echo => {
                let (request, answer) = echo_frames();
                Self {
                    request,
                    expected: Expected::Bytes(answer),
                }
            }
            Kind::Upgrade => Self {
                request: websocket(),
                expected: Expected::Switch,
            },
        }
    }

    /// Takes bytes of the answer: `Some(complete)`, or `None` when they are not what must come.
    pub fn take(&self, progress: &mut Progress, bytes: &[u8]) -> Option<bool> {
        match &self.expected {
            Expected::Bytes(answer) => {
                let end = progress.received + bytes.len();
                let right = answer.get(progress.received..end)? == bytes;
                progress.received = end;
                right.then_some(end == answer.len())
            }
            Expected::Body(length) => take_response(*length, progress, bytes),
            Expected::Switch => {
                progress.head.extend_from_slice(bytes);
                match head_end(&progress.head) {
                    Some(end) => (end == progress.head.len() && switches(&progress.head)).then_some(true),
                    None => (progress.head.len() < MAX_HEAD).then_some(false),
                }
            }
        }
    }
}

/// Whether this head accepts our handshake.
fn switches(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    head.starts_with("HTTP/1.1 101 ") && head.contains(WEBSOCKET_ACCEPT)
}

fn take_response(length: usize, progress: &mut Progress, bytes: &[u8]) -> Option<bool> {
    if progress.in_body {
        progress.received += bytes.len();
    } else if progress.head.is_empty() && bytes.ends_with(b"xx") && bytes.len() < 4096 {
        // The whole small answer in one read, without a copy.
        progress.received = body_after_head(bytes, length)??;
        progress.in_body = true;
    } else {
        progress.head.extend_from_slice(bytes);
        match body_after_head(&progress.head, length)? {
            Some(received) => (progress.received, progress.in_body) = (received, true),
            None if progress.head.len() < MAX_HEAD => return Some(false),
            None => return None,
        }
    }
    (progress.received <= length).then_some(progress.received == length)
}

/// Outer `None`: a wrong head. Inner `None`: not complete. Else the body bytes after it.
fn body_after_head(bytes: &[u8], length: usize) -> Option<Option<usize>> {
    let Some(end) = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
    else {
        return Some(None);
    };
    let right = bytes.starts_with(b"HTTP/1.1 200 ") && content_length(&bytes[..end]) == length;
    right.then_some(Some(bytes.len() - end))
}

/// A connection ready for its first exchange; a WebSocket is upgraded already.
pub fn open(port: u16, as_websocket: bool) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    if as_websocket {
        stream.set_read_timeout(Some(OPENING))?;
        stream.write_all(&websocket())?;
        let head = read_head(&mut stream)?;
        if !switches(&head) {
            let head = String::from_utf8_lossy(&head);
            let line = head.lines().next().unwrap_or_default();
            return Err(io::Error::other(format!("upgrade refused: {line:?}")));
        }
    }
    Ok(stream)
}

/// One small exchange on a fresh connection, blocking.
pub fn exchange_once(stream: &mut TcpStream, plan: &Plan) -> io::Result<()> {
    stream.set_read_timeout(Some(OPENING))?;
    stream.write_all(&plan.request)?;
    let mut progress = Progress::default();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        match plan.take(&mut progress, &buffer[..count]) {
            Some(true) => return Ok(()),
            Some(false) if count > 0 => {}
            _ => return Err(io::Error::other("a wrong answer")),
        }
    }
}

fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head_end(&head).is_none() {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(head)
}
