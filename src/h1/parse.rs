//! Heads in: the request line or status line and the field lines, in one pass (RFC 9112 sections 2 to 5).

use crate::message::bytes::{is_token_byte, target_len};
use crate::message::head::{Field, HeadBuf, Method, RequestHead, ResponseHead, Span, Version};
use crate::message::names::Name;
use crate::message::scan::find_control;
use crate::message::token::{Reject, Token};

mod quick;

/// Bounds of one head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head: start line, field lines and the empty line.
    pub head_bytes: usize,
    /// Field lines; [`HeadBuf::MAX_FIELDS`] bounds them in any case.
    pub fields: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
}

/// What became of the input.
#[derive(Debug)]
pub enum Parsed<T> {
    /// A whole head, `len` bytes of the input.
    Complete { head: T, len: usize },
    /// Nothing wrong so far; more bytes are needed.
    Partial,
    /// The connection is beyond repair.
    Reject(Reject),
}

/// A request line, as offsets into the [`HeadBuf`] filled with it.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine {
    pub method: Method,
    pub method_text: Span,
    pub target: Span,
    pub version: Version,
}

impl RequestLine {
    /// The head made of this line and the buffer filled with it.
    #[must_use]
    pub fn with(self, buf: Box<HeadBuf>) -> RequestHead {
        RequestHead {
            buf,
            method: self.method,
            method_text: self.method_text,
            target: self.target,
            version: self.version,
        }
    }
}

/// A status line, as offsets into the [`HeadBuf`] filled with it.
#[derive(Clone, Copy, Debug)]
pub struct StatusLine {
    pub version: Version,
    pub status: u16,
    pub reason: Span,
}

impl StatusLine {
    /// The head made of this line and the buffer filled with it.
    #[must_use]
    pub fn with(self, buf: Box<HeadBuf>) -> ResponseHead {
        ResponseHead {
            buf,
            version: self.version,
            status: self.status,
            reason: self.reason,
        }
    }
}

/// Longest method; the longest registered one has 17 bytes.
const METHOD_BYTES: usize = 32;
/// A start line is read anew with each arrival while it is this short, so that what is not HTTP is refused
/// with its first bytes.
const OPENING_BYTES: usize = 64;
/// Up to here the end of a status line is looked for as soon as it arrives.
const STATUS_LINE_BYTES: usize = 1024;

/// Why reading stopped before the end of the head.
enum Stop {
    Partial,
    Fault(Reject),
}

type Scan<T> = Result<T, Stop>;

const fn malformed(detail: &'static str) -> Stop {
    Stop::Fault(Reject::new(Token::BadRequest, detail))
}

const fn too_large(detail: &'static str) -> Stop {
    Stop::Fault(Reject::new(Token::HeadersTooLarge, detail))
}

/// Reads a request head. `scanned` remembers how far an incomplete head was looked at, so that a head which
/// arrives byte by byte costs no more than one which arrives at once: the caller keeps it, 0 at the start of
/// each head, and passes the same growing input. On [`Parsed::Complete`] the buffer holds the head.
pub fn parse_request(
    input: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    buf: &mut HeadBuf,
) -> Parsed<RequestLine> {
    let line_bytes = METHOD_BYTES + limits.target_bytes + b"  HTTP/1.1\r\n".len();
    parse(input, limits, scanned, buf, line_bytes, request_line).unwrap_or_else(Parsed::Reject)
}

/// Reads a response head, as [`parse_request`] does. Every fault is a [`Token::BadResponse`].
pub fn parse_response(
    input: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    buf: &mut HeadBuf,
) -> Parsed<StatusLine> {
    parse(input, limits, scanned, buf, STATUS_LINE_BYTES, status_line)
        .unwrap_or_else(|fault| Parsed::Reject(Reject::new(Token::BadResponse, fault.detail)))
}

#[inline]
fn parse<T>(
    input: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    buf: &mut HeadBuf,
    line_bytes: usize,
    start_line: impl FnOnce(&[u8], &HeadLimits) -> Scan<(T, usize)>,
) -> Result<Parsed<T>, Reject> {
    let whole = &input[..input.len().min(limits.head_bytes)];
    let mut result = Err(Stop::Partial);
    if *scanned == 0 || worth_parsing(whole, *scanned, line_bytes)? {
        result = start_line(whole, limits).and_then(|(head, fields_start)| {
            let len = match quick::field_lines(whole, fields_start, limits.fields, buf) {
                Some(len) => len,
                None => field_lines(whole, fields_start, limits.fields, buf)?,
            };
            Ok((head, len))
        });
    }
    match result {
        Ok((head, len)) => {
            buf.bytes.extend_from_slice(&whole[..len]);
            *scanned = 0;
            Ok(Parsed::Complete { head, len })
        }
        Err(Stop::Partial) if whole.len() == limits.head_bytes => {
            Err(Reject::new(Token::HeadersTooLarge, "head too long"))
        }
        Err(Stop::Partial) => {
            *scanned = whole.len();
            Ok(Parsed::Partial)
        }
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

/// Looks at what arrived since the last time: faults that show without knowing the place, and whether it is
/// worth reading the head from its start: at its end, at the end of the start line, and when that is overdue.
fn worth_parsing(input: &[u8], scanned: usize, line_bytes: usize) -> Result<bool, Reject> {
    let line_open = scanned <= line_bytes && !ends_a_line(input, scanned);
    let mut at = scanned;
    loop {
        at = find_control(input, at);
        match input.get(at) {
            None => break,
            Some(b'\n') if input[..at].ends_with(b"\r") => {
                if line_open || input[..at].ends_with(b"\r\n\r") {
                    return Ok(true);
                }
            }
            // What follows a return is looked at when it is there.
            Some(b'\r') if matches!(input.get(at + 1), None | Some(b'\n')) => {}
            Some(b'\t') => {}
            Some(_) => return Err(Reject::new(Token::BadRequest, "control character in the head")),
        }
        at += 1;
    }
    // A return that was last the time before.
    if input.get(scanned - 1) == Some(&b'\r') && !matches!(input.get(scanned), None | Some(b'\n')) {
        return Err(Reject::new(
            Token::BadRequest,
            "carriage return without line feed",
        ));
    }
    Ok(line_open && (scanned < OPENING_BYTES || input.len() > line_bytes))
}

/// Whether the start line ends within the first `len` bytes.
fn ends_a_line(input: &[u8], len: usize) -> bool {
    let leading = if input.starts_with(b"\r\n") { 2 } else { 0 };
    input
        .get(leading..len)
        .is_some_and(|line| memchr::memchr(b'\n', line).is_some())
}

fn request_line(input: &[u8], limits: &HeadLimits) -> Scan<(RequestLine, usize)> {
    let start = skip_empty_line(input)?;
    let method_end = method_end(input, start)?;
    let target_start = method_end + 1;
    let target_end = target_end(input, target_start, limits.target_bytes)?;
    let (version, version_end) = version(input, target_end + 1)?;
    let line = RequestLine {
        method: Method::recognise(&input[start..method_end]),
        method_text: Span::new(start, method_end),
        target: Span::new(target_start, target_end),
        version,
    };
    Ok((line, line_feed(input, version_end)?))
}

/// One empty line before a request is tolerated (RFC 9112 section 2.2): old clients send one after a body.
fn skip_empty_line(input: &[u8]) -> Scan<usize> {
    match input {
        [b'\r', b'\n', ..] => Ok(2),
        [] | [b'\r'] => Err(Stop::Partial),
        _ => Ok(0),
    }
}

fn method_end(input: &[u8], start: usize) -> Scan<usize> {
    let mut at = start;
    loop {
        match input.get(at) {
            Some(&b) if is_token_byte(b) && at - start < METHOD_BYTES => at += 1,
            Some(b' ') if at > start => return Ok(at),
            Some(_) => return Err(malformed("invalid method")),
            None => return Err(Stop::Partial),
        }
    }
}

fn target_end(input: &[u8], start: usize, limit: usize) -> Scan<usize> {
    let rest = input.get(start..).unwrap_or_default();
    let len = target_len(rest);
    if len > limit {
        return Err(Stop::Fault(Reject::new(Token::UriTooLong, "target too long")));
    }
    match rest.get(len) {
        Some(b' ') if len > 0 => Ok(start + len),
        Some(b' ') => Err(malformed("more than one space before the target")),
        Some(b'\r' | b'\n') => Err(malformed("request line without version")),
        Some(_) => Err(malformed("invalid character in the target")),
        None => Err(Stop::Partial),
    }
}

/// `HTTP/1.1` or `HTTP/1.0`, and where it ends.
fn version(input: &[u8], start: usize) -> Scan<(Version, usize)> {
    let rest = input.get(start..).unwrap_or_default();
    const H11: u64 = u64::from_le_bytes(*b"HTTP/1.1");
    match rest.first_chunk::<8>() {
        // Compared as a word, which byte patterns are not.
        Some(text) if u64::from_le_bytes(*text) == H11 => Ok((Version::H11, start + 8)),
        Some(b"HTTP/1.0") => Ok((Version::H10, start + 8)),
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Stop::Fault(Reject::new(
                Token::HttpVersion,
                "HTTP version not supported",
            )))
        }
        None if b"HTTP/".starts_with(rest) || rest.starts_with(b"HTTP/") => Err(Stop::Partial),
        Some(_) | None => Err(malformed("invalid HTTP version")),
    }
}

/// The position after CRLF, which must stand here.
fn line_feed(input: &[u8], at: usize) -> Scan<usize> {
    match input.get(at..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(at + 2),
        [] | [b'\r'] => Err(Stop::Partial),
        [b'\n', ..] => Err(malformed("line feed without carriage return")),
        [b'\r', ..] => Err(malformed("carriage return without line feed")),
        _ => Err(malformed("start line does not end after the version")),
    }
}

fn status_line(input: &[u8], _: &HeadLimits) -> Scan<(StatusLine, usize)> {
    let (version, version_end) = version(input, 0)?;
    let (status, status_end) = status(input, version_end)?;
    // The reason may be missing, and the space before it as well.
    let reason_start = match input.get(status_end) {
        None => return Err(Stop::Partial),
        Some(b' ') => status_end + 1,
        Some(b'\r') => status_end,
        Some(_) => return Err(malformed("status is not three digits")),
    };
    let (reason_end, next) = text_line_end(input, reason_start)?;
    let line = StatusLine {
        version,
        status,
        reason: Span::new(reason_start, reason_end),
    };
    Ok((line, next))
}

/// A space and three digits, 100 to 599: beyond that a status has no meaning (RFC 9110 section 15).
fn status(input: &[u8], at: usize) -> Scan<(u16, usize)> {
    let rest = input.get(at..).unwrap_or_default();
    let digit = |b: u8| u16::from(b - b'0');
    match rest.first_chunk::<4>() {
        Some(&[b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            Ok((digit(a) * 100 + digit(b) * 10 + digit(c), at + 4))
        }
        None if rest
            .iter()
            .zip(" 000".bytes())
            .all(|(&b, want)| b == want || b.is_ascii_digit()) =>
        {
            Err(Stop::Partial)
        }
        Some(_) | None => Err(malformed("invalid status")),
    }
}

/// Reads field lines up to and including the empty line; returns the position after it.
fn field_lines(input: &[u8], mut at: usize, limit: usize, buf: &mut HeadBuf) -> Scan<usize> {
    buf.clear();
    let limit = limit.min(HeadBuf::MAX_FIELDS);
    loop {
        match input.get(at) {
            Some(b'\r') => return line_feed(input, at),
            Some(b' ' | b'\t') => return Err(malformed("line folding")),
            Some(_) if buf.fields.len() == limit => return Err(too_large("too many header fields")),
            Some(_) => {}
            None => return Err(Stop::Partial),
        }
        let (field, next) = field_line(input, at)?;
        buf.push(field);
        at = next;
    }
}

fn field_line(input: &[u8], start: usize) -> Scan<(Field, usize)> {
    let (name_end, id) = field_name(input, start)?;
    let mut value_start = name_end + 1;
    while let Some(b' ' | b'\t') = input.get(value_start) {
        value_start += 1;
    }
    let (line_end, next) = text_line_end(input, value_start)?;
    let mut value_end = line_end;
    while value_end > value_start && matches!(input[value_end - 1], b' ' | b'\t') {
        value_end -= 1;
    }
    let field = Field {
        name: Span::new(start, name_end),
        value: Span::new(value_start, value_end),
        id,
    };
    Ok((field, next))
}

/// Where the name that begins here ends, its colon that is, and which one it is.
fn field_name(input: &[u8], start: usize) -> Scan<(usize, Name)> {
    let mut end = start;
    while input.get(end).is_some_and(|&b| is_token_byte(b)) {
        end += 1;
    }
    match input.get(end) {
        Some(b':') if end > start => Ok((end, Name::recognise(&input[start..end]))),
        Some(b':') => Err(malformed("empty header name")),
        Some(b' ' | b'\t') => Err(malformed("white space in a header name")),
        Some(b'\r' | b'\n') => Err(malformed("header line without a colon")),
        Some(_) => Err(malformed("invalid character in a header name")),
        None => Err(Stop::Partial),
    }
}

/// Where the text of this line ends, and where the next line begins.
fn text_line_end(input: &[u8], mut at: usize) -> Scan<(usize, usize)> {
    loop {
        at = find_control(input, at);
        match input.get(at) {
            Some(b'\r') => return Ok((at, line_feed(input, at)?)),
            Some(b'\t') => at += 1,
            Some(b'\n') => return Err(malformed("line feed without carriage return")),
            Some(_) => return Err(malformed("control character in the head")),
            None => return Err(Stop::Partial),
        }
    }
}

/// Reads one complete line, CRLF included, as a field.
pub(super) fn parse_field(line: &[u8]) -> Result<Field, &'static str> {
    match field_line(line, 0) {
        Ok((field, next)) if next == line.len() => Ok(field),
        Ok(_) | Err(Stop::Partial) => Err("incomplete field line"),
        Err(Stop::Fault(fault)) => Err(fault.detail),
    }
}

#[cfg(test)]
pub(crate) mod tests;
