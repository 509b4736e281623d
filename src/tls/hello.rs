//! The ClientHello, read far enough to choose who answers it: the name asked for and the protocols offered
//! (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301). The session itself reads it again and in full.

/// Bytes of a ClientHello; large ones, with post-quantum key shares and tickets, have about 4 KiB.
pub const MAX_HELLO: usize = 16 * 1024;
/// Bytes of all records that carry one: fragments as small as clients send them in earnest.
const MAX_RECORDS: usize = MAX_HELLO * 2;
/// Header of a record: type, version, length.
const RECORD_HEADER: usize = 5;
/// Plaintext of one record (RFC 8446 section 5.1).
const MAX_RECORD: usize = 16 * 1024;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;
/// Longest name that DNS can hold.
const MAX_NAME: usize = 253;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// More must be read to tell.
    Partial,
    Hello(Hello),
    Refused(NoHello),
}

/// What a ClientHello asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// In lower case, without a trailing dot.
    pub server_name: Option<String>,
    /// In the client's order.
    pub protocols: Vec<Vec<u8>>,
}

/// Why the first bytes of a connection are not answered by a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHello {
    /// A request of HTTP without TLS.
    PlainHttp,
    /// Nothing that TLS begins with.
    NotTls,
    /// It begins like TLS, and then breaks its rules.
    Malformed,
    /// Longer than [`MAX_HELLO`].
    TooLarge,
}

/// Reads what has come so far.
#[must_use]
pub fn read(bytes: &[u8]) -> Greeting {
    let Some(first) = bytes.first() else {
        return Greeting::Partial;
    };
    if *first != HANDSHAKE {
        return match method(bytes) {
            Some(true) => Greeting::Refused(NoHello::PlainHttp),
            Some(false) => Greeting::Refused(NoHello::NotTls),
            None => Greeting::Partial,
        };
    }
    match message(bytes) {
        Ok(Some(body)) => hello(&body).map_or(Greeting::Refused(NoHello::Malformed), Greeting::Hello),
        Ok(None) if bytes.len() > MAX_RECORDS => Greeting::Refused(NoHello::TooLarge),
        Ok(None) => Greeting::Partial,
        Err(why) => Greeting::Refused(why),
    }
}

/// Whether a method of HTTP stands here; `None` when it may become one.
fn method(bytes: &[u8]) -> Option<bool> {
    const LONGEST: usize = 20;
    let word = bytes
        .iter()
        .take(LONGEST)
        .take_while(|b| b.is_ascii_uppercase())
        .count();
    match bytes.get(word) {
        Some(b' ') => Some(word >= 3),
        Some(_) => Some(false),
        None => None,
    }
}

/// The handshake message in the records at the front; `None` while it is not complete.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, NoHello> {
    let mut rest = bytes;
    let mut message = Vec::new();
    loop {
        // Each part is judged as soon as it is there: nonsense does not get to wait for more of it.
        if rest.get(1).is_some_and(|major| *major != 3) {
            return Err(if message.is_empty() {
                NoHello::NotTls
            } else {
                NoHello::Malformed
            });
        }
        let Some((header, body)) = rest.split_at_checked(RECORD_HEADER) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != HANDSHAKE || length == 0 {
            return Err(NoHello::Malformed);
        }
        if length > MAX_RECORD {
            return Err(NoHello::TooLarge);
        }
        let whole = body.len() >= length;
        message.extend_from_slice(&body[..length.min(body.len())]);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NoHello::Malformed);
        }
        if let [_, a, b, c, ..] = message[..] {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > MAX_HELLO {
                return Err(NoHello::TooLarge);
            }
            if message.len() >= 4 + length {
                message.truncate(4 + length);
                message.drain(..4);
                return Ok(Some(message));
            }
        }
        if !whole {
            return Ok(None);
        }
        rest = &body[length..];
    }
}

/// Reads a ClientHello's body; `None` when it is malformed.
fn hello(body: &[u8]) -> Option<Hello> {
    let mut at = Reader(body);
    at.take(2 + 32)?;
    at.vector8()?;
    at.vector16()?;
    at.vector8()?;
    let mut found = Hello::default();
    if at.0.is_empty() {
        return Some(found);
    }
    let mut extensions = Reader(at.vector16()?);
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        match kind {
            SERVER_NAME if !named => {
                named = true;
                found.server_name = server_name(content)?;
            }
            ALPN if !offered => {
                offered = true;
                found.protocols = protocols(content)?;
            }
            // Twice the same would leave open which one counts.
            SERVER_NAME | ALPN => return None,
            _ => {}
        }
    }
    Some(found)
}

/// The one host name of the extension.
fn server_name(content: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(Reader(content).vector16()?);
    let kind = list.take(1)?;
    let name = list.vector16()?;
    if kind != [HOST_NAME] || !list.0.is_empty() {
        return None;
    }
    host_name(std::str::from_utf8(name).ok()?)
}

/// A host name in the form in which it is looked up; `None` when it is no name at all. A literal address counts as no
/// name: it is not allowed in the extension, and clients that send one mean none.
#[must_use]
pub fn host_name(name: &str) -> Option<Option<String>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Some(None);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
        return None;
    }
    Some(Some(name.to_ascii_lowercase()))
}

fn protocols(content: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(Reader(content).vector16()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?;
        if name.is_empty() {
            return None;
        }
        found.push(name.to_vec());
    }
    Some(found)
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;
