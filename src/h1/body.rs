//! Bodies in: where the payload lies in the bytes that arrive (RFC 9112 sections 6 and 7).
//!
//! The decoder keeps no payload. It takes every byte it is given, so its caller never holds a rest: a chunk
//! size that is split over two reads is remembered here as a number. Two ways to use it:
//!
//! - [`BodyDecoder::step`] tells where payload is: for sinks that are not chunked, or frame anew.
//! - [`BodyDecoder::relay_chunked`] tells how much of a chunked body can be sent on as it stands. Only
//!   canonical framing is; a size line with an extension, with leading zeros, or split over two reads is
//!   replaced by one of our own.

use super::parse::{HeadLimits, parse_field};
use super::write;
use crate::message::framing::{BodyKind, MAX_LENGTH};
use crate::message::hop::is_forwardable_trailer;
use crate::message::token::{Reject, Token};
use std::ops::Range;

/// Digits of a chunk size; as many as 64 bits take.
const SIZE_DIGITS: u8 = 16;
/// Bytes of chunk extension in one size line.
const LINE_EXTENSION_BYTES: u32 = 256;
/// Bytes of chunk extensions in one body: no more than a flood's worth of free rides.
const BODY_EXTENSION_BYTES: u32 = 16 * 1024;

/// Bounds of what is not payload, and which faults to report.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Bytes of the trailer section.
    pub trailer_bytes: usize,
    /// Fields in the trailer section.
    pub trailer_fields: usize,
    malformed: Token,
    too_large: Token,
    truncated: Token,
}

impl ChunkLimits {
    /// For bodies of requests: faults are `bad_framing`, `headers_too_large`, `aborted_client`.
    #[must_use]
    pub const fn request(head: &HeadLimits) -> Self {
        Self {
            trailer_bytes: head.head_bytes,
            trailer_fields: head.fields,
            malformed: Token::BadFraming,
            too_large: Token::HeadersTooLarge,
            truncated: Token::AbortedClient,
        }
    }

    /// For bodies of responses: faults are `bad_response` and `aborted_upstream`.
    #[must_use]
    pub const fn response(head: &HeadLimits) -> Self {
        Self {
            trailer_bytes: head.head_bytes,
            trailer_fields: head.fields,
            malformed: Token::BadResponse,
            too_large: Token::BadResponse,
            truncated: Token::AbortedUpstream,
        }
    }
}

/// What the next bytes are. Ranges are relative to the input of the step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Payload at `data`; `consumed` also counts framing around it.
    Data { data: Range<usize>, consumed: usize },
    /// Nothing but framing.
    Framing { consumed: usize },
    /// The body has ended with these trailer lines: checked, those not to be passed on left out, each with
    /// its CRLF. A body without trailers ends without this step.
    Trailers { consumed: usize, lines: Vec<u8> },
    /// The input was empty.
    NeedMore,
    /// The body has ended; no byte of the input belongs to it.
    End,
}

/// What is to be sent on for the input of one [`BodyDecoder::relay_chunked`].
#[derive(Debug, PartialEq, Eq)]
pub struct Relay {
    /// To be sent as they stand, after what was made.
    pub verbatim: Range<usize>,
    /// How much of the input this call took; all of it only when repeated.
    pub consumed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Payload of known length, `left` of it to come.
    Length,
    UntilClose,
    /// In the digits of a size line, `left` being the number so far.
    Size,
    /// In the extension of a size line.
    Extension,
    /// After the return of a size line.
    SizeLineFeed,
    /// Payload of a chunk, `left` of it to come.
    Data,
    DataReturn,
    DataLineFeed,
    /// In the trailer section.
    Trailer,
    End,
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    digits: u8,
    line_extension: u32,
    body_extensions: u32,
    left: u64,
    payload: u64,
    limits: ChunkLimits,
    trailer: Trailer,
}

/// The trailer section as far as it has arrived.
#[derive(Debug, Default)]
struct Trailer {
    /// Lines to be passed on, then the line that is arriving.
    lines: Vec<u8>,
    line_start: usize,
    /// Bytes and fields seen, those left out included.
    bytes: usize,
    fields: usize,
}

impl BodyDecoder {
    #[must_use]
    pub fn new(kind: BodyKind, limits: ChunkLimits) -> Self {
        let (state, left) = match kind {
            BodyKind::None | BodyKind::Length(0) => (State::End, 0),
            BodyKind::Length(length) => (State::Length, length),
            BodyKind::Chunked => (State::Size, 0),
            BodyKind::UntilClose => (State::UntilClose, 0),
        };
        Self {
            state,
            digits: 0,
            line_extension: 0,
            body_extensions: 0,
            left,
            payload: 0,
            limits,
            trailer: Trailer::default(),
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Whether it was given nothing yet.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        let begun = matches!(self.state, State::Size) && self.digits == 0;
        self.payload == 0 && (begun || matches!(self.state, State::Length | State::UntilClose))
    }

    /// Ends with its source, and not before. For bodies whose length somebody else sees to.
    pub fn goes_to_its_end(&mut self) {
        (self.state, self.left) = (State::UntilClose, 0);
    }

    /// Bytes of payload so far.
    #[must_use]
    pub const fn payload(&self) -> u64 {
        self.payload
    }

    /// Bytes of payload so far and those announced: by Content-Length, or by the size of the present chunk.
    /// A limit is best held against this.
    #[must_use]
    pub const fn announced(&self) -> u64 {
        match self.state {
            State::Length | State::Data => self.payload + self.left,
            _ => self.payload,
        }
    }

    /// Bytes still to come of a body with Content-Length; `None` when that is not known.
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length => Some(self.left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// Counts payload of a body with Content-Length, or until close, that went past the decoder (spliced).
    pub fn skip(&mut self, len: u64) {
        match self.state {
            State::Length => self.take(
                usize::try_from(len.min(self.left)).unwrap_or(usize::MAX),
                State::End,
            ),
            State::UntilClose => self.payload += len,
            _ => {}
        }
    }

    /// The peer sends no more.
    ///
    /// # Errors
    /// `aborted_client` or `aborted_upstream` unless the body ends by that or has ended already.
    pub fn at_eof(&mut self) -> Result<(), Reject> {
        match self.state {
            State::UntilClose => self.state = State::End,
            State::End => {}
            _ => return Err(Reject::new(self.limits.truncated, "body ends too early")),
        }
        Ok(())
    }

    /// Finds the next payload in the input, which begins where the last step stopped.
    ///
    /// # Errors
    /// See [`ChunkLimits::request`] and [`ChunkLimits::response`].
    #[inline]
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Reject> {
        match self.state {
            State::End => Ok(Step::End),
            _ if input.is_empty() => Ok(Step::NeedMore),
            State::Length => {
                let len = self.payload_in(input);
                self.take(len, State::End);
                Ok(Step::Data {
                    data: 0..len,
                    consumed: len,
                })
            }
            State::UntilClose => {
                self.payload += input.len() as u64;
                Ok(Step::Data {
                    data: 0..input.len(),
                    consumed: input.len(),
                })
            }
            _ => self.step_chunked(input),
        }
    }

    fn step_chunked(&mut self, input: &[u8]) -> Result<Step, Reject> {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            match self.state {
                State::DataReturn | State::DataLineFeed => at += self.data_end(rest)?,
                State::Size | State::Extension | State::SizeLineFeed => at += self.size_line(rest)?,
                State::Data => {
                    let len = self.payload_in(rest);
                    self.take(len, State::DataReturn);
                    let data = at..at + len;
                    let end = if self.state == State::Data {
                        0
                    } else {
                        self.data_end(&rest[len..])?
                    };
                    return Ok(Step::Data {
                        consumed: data.end + end,
                        data,
                    });
                }
                State::Trailer => {
                    at += self.trailer_lines(rest)?;
                    if self.state == State::End && !self.trailer.lines.is_empty() {
                        let lines = std::mem::take(&mut self.trailer.lines);
                        return Ok(Step::Trailers { consumed: at, lines });
                    }
                }
                State::End | State::Length | State::UntilClose => break,
            }
        }
        Ok(Step::Framing { consumed: at })
    }

    /// For a chunked sink: takes from the input what can be sent on as it stands. What has to be sent before
    /// that, in place of framing which cannot, is appended to `made`. Takes at least one byte unless the
    /// input is empty or the body has ended; to be repeated while there is input. Trailers are passed on.
    /// Only for bodies that are [`BodyKind::Chunked`]; of others nothing is taken.
    ///
    /// # Errors
    /// As [`Self::step`]; nothing of this input may then be sent.
    pub fn relay_chunked(&mut self, input: &[u8], made: &mut Vec<u8>) -> Result<Relay, Reject> {
        let start = self.make(input, made)?;
        let mut at = start;
        while at < input.len() {
            let rest = &input[at..];
            match self.state {
                State::Data => {
                    let len = self.payload_in(rest);
                    self.take(len, State::DataReturn);
                    at += len;
                }
                State::DataReturn | State::DataLineFeed => at += self.data_end(rest)?,
                State::Size => match self.canonical(rest) {
                    Some(Canonical::Chunk { line, size }) => {
                        self.begin_chunk(size)?;
                        at += line;
                    }
                    Some(Canonical::Last) => {
                        self.state = State::End;
                        at += LAST_CHUNK.len();
                    }
                    None => break,
                },
                _ => break,
            }
        }
        Ok(Relay {
            verbatim: start..at,
            consumed: at,
        })
    }

    /// Takes framing that cannot be sent on as it stands, and makes what takes its place once it is complete.
    fn make(&mut self, input: &[u8], made: &mut Vec<u8>) -> Result<usize, Reject> {
        let mut at = 0;
        let in_line = matches!(self.state, State::Extension | State::SizeLineFeed);
        if in_line || self.state == State::Size && self.canonical(input).is_none() {
            at = self.size_line(input)?;
            if self.state == State::Data {
                write::chunk_size(self.left, made);
            }
        }
        if self.state == State::Trailer {
            at += self.trailer_lines(&input[at..])?;
            if self.state == State::End {
                write::last_chunk(&self.trailer.lines, made);
                self.trailer.lines = Vec::new();
            }
        }
        Ok(at)
    }

    /// How much of the input is payload of the present chunk or body.
    #[inline]
    fn payload_in(&self, input: &[u8]) -> usize {
        usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()))
    }

    /// Counts payload, and goes on to `next` after its last byte.
    #[inline]
    fn take(&mut self, len: usize, next: State) {
        self.payload += len as u64;
        self.left -= len as u64;
        if self.left == 0 {
            self.state = next;
        }
    }

    const fn malformed<T>(&self, detail: &'static str) -> Result<T, Reject> {
        Err(Reject::new(self.limits.malformed, detail))
    }

    /// CRLF after a chunk's payload.
    #[inline]
    fn data_end(&mut self, input: &[u8]) -> Result<usize, Reject> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            self.state = match (self.state, byte) {
                (State::DataReturn, b'\r') => State::DataLineFeed,
                (State::DataLineFeed, b'\n') => State::Size,
                (State::DataReturn | State::DataLineFeed, _) => {
                    return self.malformed("chunk is longer than its size");
                }
                _ => break,
            };
            at += 1;
        }
        Ok(at)
    }

    /// Digits, extension, CRLF, or as much of that as is there.
    fn size_line(&mut self, input: &[u8]) -> Result<usize, Reject> {
        for (at, &byte) in input.iter().enumerate() {
            match (self.state, byte) {
                (State::Size, b'\r') if self.digits > 0 => self.state = State::SizeLineFeed,
                (State::Size, b';') if self.digits > 0 => {
                    self.state = State::Extension;
                    self.line_extension = 0;
                }
                (State::Size, _) => self.size_digit(byte)?,
                (State::Extension, b'\r') => self.state = State::SizeLineFeed,
                (State::Extension, _) => self.extension_byte(byte)?,
                (State::SizeLineFeed, b'\n') => {
                    self.begin_chunk(self.left)?;
                    return Ok(at + 1);
                }
                _ => return self.malformed("invalid end of a chunk size"),
            }
        }
        Ok(input.len())
    }

    fn size_digit(&mut self, byte: u8) -> Result<(), Reject> {
        let Some(digit) = hex_digit(byte) else {
            return self.malformed("invalid chunk size");
        };
        if self.digits == SIZE_DIGITS {
            return self.malformed("chunk size too long");
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(())
    }

    fn extension_byte(&mut self, byte: u8) -> Result<(), Reject> {
        if byte < 0x20 && byte != b'\t' || byte == 0x7f {
            return self.malformed("control character in a chunk extension");
        }
        self.line_extension += 1;
        self.body_extensions += 1;
        if self.line_extension > LINE_EXTENSION_BYTES || self.body_extensions > BODY_EXTENSION_BYTES {
            return self.malformed("chunk extensions too long");
        }
        Ok(())
    }

    fn begin_chunk(&mut self, size: u64) -> Result<(), Reject> {
        if size > MAX_LENGTH - self.payload.min(MAX_LENGTH) {
            return self.malformed("chunk size too large");
        }
        self.digits = 0;
        self.left = size;
        self.state = if size == 0 { State::Trailer } else { State::Data };
        Ok(())
    }

    /// Whether a whole size line stands here that can be sent on as it is.
    #[inline]
    fn canonical(&self, input: &[u8]) -> Option<Canonical> {
        if self.digits > 0 {
            return None;
        }
        let mut size = 0;
        let mut digits = 0;
        while let Some(digit) = input.get(digits).copied().and_then(hex_digit) {
            if digits == SIZE_DIGITS as usize {
                return None;
            }
            size = size << 4 | u64::from(digit);
            digits += 1;
        }
        if size == 0 {
            return input.starts_with(LAST_CHUNK).then_some(Canonical::Last);
        }
        let ends = input[digits..].starts_with(b"\r\n") && input[0] != b'0';
        ends.then_some(Canonical::Chunk {
            line: digits + 2,
            size,
        })
    }

    /// Takes trailer lines up to and including the empty one.
    fn trailer_lines(&mut self, input: &[u8]) -> Result<usize, Reject> {
        // The common case, without a copy.
        if self.trailer.bytes == 0 && input.starts_with(b"\r\n") {
            self.state = State::End;
            return Ok(2);
        }
        let mut at = 0;
        while at < input.len() && self.state == State::Trailer {
            let rest = &input[at..];
            let len = memchr::memchr(b'\n', rest).map_or(rest.len(), |feed| feed + 1);
            self.trailer.bytes += len;
            if self.trailer.bytes > self.limits.trailer_bytes {
                return Err(Reject::new(self.limits.too_large, "trailer section too long"));
            }
            self.trailer.lines.extend_from_slice(&rest[..len]);
            at += len;
            if rest[len - 1] == b'\n' {
                self.trailer_line()?;
            }
        }
        Ok(at)
    }

    /// Checks the line that has just become complete.
    fn trailer_line(&mut self) -> Result<(), Reject> {
        let trailer = &mut self.trailer;
        let line = &trailer.lines[trailer.line_start..];
        if line == b"\r\n" {
            trailer.lines.truncate(trailer.line_start);
            self.state = State::End;
            return Ok(());
        }
        if trailer.fields == self.limits.trailer_fields {
            return Err(Reject::new(self.limits.too_large, "too many trailer fields"));
        }
        trailer.fields += 1;
        let field = parse_field(line).map_err(|detail| Reject::new(self.limits.malformed, detail))?;
        if !is_forwardable_trailer(field.name.of(line)) {
            trailer.lines.truncate(trailer.line_start);
        }
        trailer.line_start = trailer.lines.len();
        Ok(())
    }
}

/// The last chunk with no trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A size line that can be sent on as it stands.
enum Canonical {
    Chunk { line: usize, size: u64 },
    Last,
}

#[inline]
const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
