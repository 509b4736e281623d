//! How long a body is, and who says so (RFC 9112 section 6); when a connection lasts (section 9.3); what a
//! request expects or wants to switch to.

use super::bytes::list;
use super::head::{HeadBuf, Method, RequestHead, ResponseHead, Version};
use super::names::Name;
use super::token::{Reject, Token};

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is no body, whatever the head says (or it says nothing).
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the peer closes the connection, responses only, or in HTTP/2 ends the stream.
    UntilClose,
}

/// Longest length of a body or of a chunk. Past this, signed arithmetic in another parser may go wrong.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// Most options in the Connection fields of one head: each is looked for among all fields.
pub const MAX_CONNECTION_OPTIONS: usize = 32;

/// What is wrong with the framing of a message, before it is known whose fault that is.
struct Fault {
    /// The coding is well-formed but not ours.
    unknown_coding: bool,
    detail: &'static str,
}

const fn ambiguous(detail: &'static str) -> Fault {
    Fault {
        unknown_coding: false,
        detail,
    }
}

/// The framing of a request's body. Everything that two parsers could read in two ways is `bad_framing`; a
/// transfer coding other than chunked is `not_implemented`.
///
/// # Errors
/// See above; the connection must be closed.
#[inline]
pub fn request_body(head: &RequestHead) -> Result<BodyKind, Reject> {
    let declared = declared(&head.buf, head.version).map_err(|fault| {
        let token = if fault.unknown_coding {
            Token::NotImplemented
        } else {
            Token::BadFraming
        };
        Reject::new(token, fault.detail)
    })?;
    Ok(declared.unwrap_or(BodyKind::None))
}

/// The framing of a response's body, given the method of the request that it answers.
///
/// # Errors
/// `bad_response`. Wrong framing is refused also where there is no body (HEAD, 304), because it would be
/// passed on.
#[inline]
pub fn response_body(head: &ResponseHead, request_method: Method) -> Result<BodyKind, Reject> {
    let declared =
        declared(&head.buf, head.version).map_err(|fault| Reject::new(Token::BadResponse, fault.detail))?;
    if request_method == Method::Head || is_bodiless(head.status) {
        return Ok(BodyKind::None);
    }
    Ok(declared.unwrap_or(BodyKind::UntilClose))
}

/// Whether responses with this status never have a body.
#[must_use]
pub const fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// What the head says about the body's length.
#[inline]
fn declared(head: &HeadBuf, version: Version) -> Result<Option<BodyKind>, Fault> {
    match (
        head.has(Name::TransferEncoding),
        head.index_of(Name::ContentLength),
    ) {
        (false, None) => Ok(None),
        (false, Some(first)) => {
            if head.repeats(Name::ContentLength) {
                return Err(ambiguous("Content-Length more than once"));
            }
            match parse_length(head.value(first)) {
                Some(length) => Ok(Some(BodyKind::Length(length))),
                None => Err(ambiguous("invalid Content-Length")),
            }
        }
        (true, Some(_)) => Err(ambiguous("both Content-Length and Transfer-Encoding")),
        (true, None) if version < Version::H11 => Err(ambiguous("Transfer-Encoding in HTTP/1.0")),
        (true, None) => transfer_coding(head),
    }
}

/// Exactly one `chunked` is all that is understood.
fn transfer_coding(head: &HeadBuf) -> Result<Option<BodyKind>, Fault> {
    let mut chunked = 0;
    let mut unknown = false;
    for coding in list(head.all(Name::TransferEncoding)) {
        if chunked > 0 {
            return Err(ambiguous("Transfer-Encoding goes on after chunked"));
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            chunked += 1;
        } else if super::bytes::is_token(coding) {
            unknown = true;
        } else {
            return Err(ambiguous("invalid Transfer-Encoding"));
        }
    }
    if unknown {
        return Err(Fault {
            unknown_coding: true,
            detail: "transfer coding other than chunked",
        });
    }
    Ok(Some(BodyKind::Chunked))
}

/// A length: digits and nothing else, at most [`MAX_LENGTH`].
#[must_use]
pub fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut length: u64 = 0;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length * 10 + u64::from(byte - b'0');
    }
    (length <= MAX_LENGTH).then_some(length)
}

/// What a request must satisfy beyond its syntax and its body's framing: Host exactly once from HTTP/1.1 on and at
/// most once in HTTP/1.0, no switch to HTTP/2, a Connection field of sane length. What Host says is the
/// matter of [`super::host`].
///
/// # Errors
/// `bad_host`, `bad_request`.
pub fn check_request(head: &RequestHead) -> Result<(), Reject> {
    if head.buf.repeats(Name::Host) {
        return Err(Reject::new(Token::BadHost, "Host more than once"));
    }
    if head.version >= Version::H11 && !head.buf.has(Name::Host) {
        return Err(Reject::new(Token::BadHost, "no Host"));
    }
    // A gateway that lets this pass has an HTTP/2 connection behind it that no rule of its own sees.
    if head.buf.has(Name::Upgrade)
        && list(head.buf.all(Name::Upgrade)).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"))
    {
        return Err(Reject::new(Token::BadRequest, "Upgrade: h2c"));
    }
    check_connection(&head.buf, Token::BadRequest)
}

/// What a response must satisfy beyond its syntax and its body's framing.
///
/// # Errors
/// `bad_response`.
pub fn check_response(head: &ResponseHead) -> Result<(), Reject> {
    check_connection(&head.buf, Token::BadResponse)
}

fn check_connection(head: &HeadBuf, token: Token) -> Result<(), Reject> {
    if !head.has(Name::Connection) {
        return Ok(());
    }
    // So few bytes hold no more options than are allowed: counting them is seldom needed.
    let bytes: usize = head.all(Name::Connection).map(|value| value.len() + 1).sum();
    if bytes > MAX_CONNECTION_OPTIONS
        && list(head.all(Name::Connection))
            .nth(MAX_CONNECTION_OPTIONS)
            .is_some()
    {
        return Err(Reject::new(token, "too many Connection options"));
    }
    Ok(())
}

/// Whether Connection names this option.
#[must_use]
pub fn connection_has(head: &HeadBuf, option: &[u8]) -> bool {
    head.has(Name::Connection)
        && head
            .all(Name::Connection)
            .any(|value| names_option(value, option))
}

/// Whether a list of options names this one.
fn names_option(value: &[u8], option: &[u8]) -> bool {
    // Too short, or nothing else: nearly always.
    value.len() >= option.len()
        && (value.eq_ignore_ascii_case(option)
            || memchr::memchr(b',', value).is_some()
                && list(std::iter::once(value)).any(|named| named.eq_ignore_ascii_case(option)))
}

/// Whether the sender closes after this message.
#[must_use]
pub fn wants_close(head: &HeadBuf) -> bool {
    connection_has(head, b"close")
}

/// Whether the connection outlives this message as far as its sender is concerned (RFC 9112 section 9.3).
#[must_use]
pub fn persistent(version: Version, head: &HeadBuf) -> bool {
    !wants_close(head) && (version > Version::H10 || connection_has(head, b"keep-alive"))
}

/// Whether the client waits for 100 (Continue). An expectation in HTTP/1.0 is ignored (RFC 9110 section
/// 10.1.1).
///
/// # Errors
/// `expectation_failed` for any other expectation.
pub fn expects_continue(head: &RequestHead) -> Result<bool, Reject> {
    if head.version < Version::H11 || !head.buf.has(Name::Expect) {
        return Ok(false);
    }
    if list(head.buf.all(Name::Expect)).all(|wanted| wanted.eq_ignore_ascii_case(b"100-continue")) {
        return Ok(true);
    }
    Err(Reject::new(
        Token::ExpectationFailed,
        "expectation other than 100-continue",
    ))
}

/// The protocols that the client wants to switch to, as written in Upgrade; `None` in HTTP/1.0 and where
/// Connection does not name the field.
#[must_use]
pub fn upgrade_protocol(head: &RequestHead) -> Option<&[u8]> {
    if head.version < Version::H11 {
        return None;
    }
    let protocol = head.buf.get(Name::Upgrade)?;
    connection_has(&head.buf, b"upgrade").then_some(protocol)
}

#[cfg(test)]
mod tests;
