//! Heads out: what was received, with its edits, and framing that is always our own word.
//!
//! Kept lines are copied as they stand, in runs as long as the dropped ones allow. Content-Length and
//! Transfer-Encoding are kept only where they say exactly how the body is sent, else written anew.

use crate::message::edits::Edits;
use crate::message::framing::{BodyKind, is_bodiless};
use crate::message::head::{HeadBuf, RequestHead, ResponseHead, Version};
use crate::message::names::Name;
use crate::message::status::reason;

/// Writes the head of a request for an HTTP/1.1 endpoint: the target is the edited one, the version 1.1
/// whatever the client spoke, and `framing` says how the body will follow ([`BodyKind::None`] or
/// [`BodyKind::UntilClose`]: none follows).
pub fn request_head(head: &RequestHead, edits: &Edits, framing: BodyKind, out: &mut Vec<u8>) {
    let buf = &head.buf;
    out.reserve(buf.bytes.len() + edits.added_bytes() + FRAMING_BYTES);
    let fields = fields_start(buf);
    // As received, the request line is just the beginning of the first run.
    let mut from = head.method_text.start as usize;
    if edits.target().is_some() || head.version != Version::H11 {
        out.extend_from_slice(head.method_text());
        out.push(b' ');
        out.extend_from_slice(edits.target().unwrap_or_else(|| head.target()));
        out.extend_from_slice(b" HTTP/1.1\r\n");
        from = fields;
    }
    field_lines(buf, from, edits, Framing::of(framing), out);
}

/// Writes the head of a response for an HTTP/1 client, always as HTTP/1.1 (RFC 9110 section 6.2). Where
/// there is no body because of the method or the status, Content-Length is kept as it was for HEAD and 304,
/// where it tells of the body that is not sent.
pub fn response_head(head: &ResponseHead, edits: &Edits, framing: BodyKind, out: &mut Vec<u8>) {
    let buf = &head.buf;
    out.reserve(buf.bytes.len() + edits.added_bytes() + FRAMING_BYTES);
    let mut from = 0;
    // The space after the status must be sent also where no reason follows (RFC 9112 section 4).
    let canonical = head.version == Version::H11 && buf.bytes.get(STATUS_END) == Some(&b' ');
    if !canonical {
        status_line(head.status, head.reason(), out);
        from = fields_start(buf);
    }
    let framing = match framing {
        BodyKind::None if head.status == 304 || !is_bodiless(head.status) => Framing::AsReceived,
        other => Framing::of(other),
    };
    field_lines(buf, from, edits, framing, out);
}

/// Writes a whole response of our own: Content-Length unless the status has no body, then `fields`, then the
/// body unless it only answers HEAD (`send_body` false). Field values cannot break out of their lines.
pub fn simple_response(
    status: u16,
    fields: &[(&str, &[u8])],
    body: &[u8],
    send_body: bool,
    out: &mut Vec<u8>,
) {
    status_line(status, reason(status).as_bytes(), out);
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        let start = out.len();
        out.extend_from_slice(value);
        crate::message::bytes::blank_controls(&mut out[start..]);
        out.extend_from_slice(b"\r\n");
    }
    if is_bodiless(status) {
        out.extend_from_slice(b"\r\n");
        return;
    }
    content_length(body.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    if send_body {
        out.extend_from_slice(body);
    }
}

/// Writes the size line of a chunk. Its payload and CRLF follow.
pub fn chunk_size(size: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (u64::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(DIGITS[(size >> (place * 4) & 0xf) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk with these trailer lines, each with its CRLF.
pub fn last_chunk(trailer_lines: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailer_lines);
    out.extend_from_slice(b"\r\n");
}

/// Where the status ends in a status line of version 1.x.
const STATUS_END: usize = "HTTP/1.1 200".len();
/// Room for a framing line and the empty line.
const FRAMING_BYTES: usize = 64;

/// Where the first field line begins.
fn fields_start(head: &HeadBuf) -> usize {
    head.fields
        .first()
        .map_or(head.bytes.len() - 2, |field| field.name.start as usize)
}

fn status_line(status: u16, reason: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

fn content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What the framing fields must say.
#[derive(Clone, Copy)]
enum Framing {
    Nothing,
    Length(u64),
    Chunked,
    /// Content-Length as it stands, if any.
    AsReceived,
}

impl Framing {
    const fn of(kind: BodyKind) -> Self {
        match kind {
            BodyKind::None | BodyKind::UntilClose => Self::Nothing,
            BodyKind::Length(length) => Self::Length(length),
            BodyKind::Chunked => Self::Chunked,
        }
    }

    /// Whether this field line says exactly what must be said.
    fn is_said_by(self, id: Name, value: &[u8]) -> bool {
        match (self, id) {
            (Self::Length(length), Name::ContentLength) => says(value, length),
            (Self::Chunked, Name::TransferEncoding) => value.eq_ignore_ascii_case(b"chunked"),
            (Self::AsReceived, Name::ContentLength) => true,
            _ => false,
        }
    }
}

/// Whether the text is this number in its plainest form.
fn says(text: &[u8], number: u64) -> bool {
    (text.len() == 1 || text.first() != Some(&b'0'))
        && crate::message::framing::parse_length(text) == Some(number)
}

/// Copies everything from `from` on but the dropped lines, then what was added and the empty line.
fn field_lines(head: &HeadBuf, from: usize, edits: &Edits, framing: Framing, out: &mut Vec<u8>) {
    let kept = kept_framing(head, edits, framing);
    let mut run = from;
    let mut skip = |index: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(&head.bytes[run..head.fields[index].name.start as usize]);
        run = head.line_end(index);
    };
    if kept.all {
        for index in edits.dropped(head.fields.len()) {
            skip(index, out);
        }
    } else {
        for (index, field) in head.fields.iter().enumerate() {
            let framing = matches!(field.id, Name::ContentLength | Name::TransferEncoding);
            if edits.is_dropped(index) || framing && kept.index != Some(index) {
                skip(index, out);
            }
        }
    }
    out.extend_from_slice(&head.bytes[run..head.bytes.len() - 2]);
    edits.write_lines(out);
    match framing {
        Framing::Length(length) if kept.index.is_none() => content_length(length, out),
        Framing::Chunked if kept.index.is_none() => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

struct KeptFraming {
    /// The framing field that stays.
    index: Option<usize>,
    /// There is no other.
    all: bool,
}

fn kept_framing(head: &HeadBuf, edits: &Edits, framing: Framing) -> KeptFraming {
    let length = head.index_of(Name::ContentLength);
    let coding = head.index_of(Name::TransferEncoding);
    let index = length.or(coding).filter(|&index| {
        !edits.is_dropped(index) && framing.is_said_by(head.fields[index].id, head.value(index))
    });
    let only = |index: usize| !head.repeats(head.fields[index].id);
    let all = match index {
        Some(index) => (length.is_none() || coding.is_none()) && only(index),
        None => length.is_none() && coding.is_none(),
    };
    KeptFraming { index, all }
}

#[cfg(test)]
mod tests;
