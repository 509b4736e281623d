//! What gRPC says in HTTP: its content type, its statuses, the time that a client allows, and how our own errors are
//! told to its clients.
//!
//! Sources: gRPC over HTTP/2 (`PROTOCOL-HTTP2.md`), `statuscodes.md` and `http-grpc-status-mapping.md` of the gRPC
//! project. The last is for clients that find no `grpc-status` in an answer; we know more than a status of HTTP says,
//! and [`Code::of_token`] is where that goes in.

use super::head::HeadBuf;
use super::token::{Reject, Token};
use http::HeaderMap;
use std::time::Duration;

/// Content type of every message of gRPC; a dot-less suffix names the encoding of the messages.
pub const CONTENT_TYPE: &str = "application/grpc";
/// Field that carries the status, in the trailers or, where there is no answer but it, in the head.
pub const STATUS: &str = "grpc-status";
/// Field with a text for the developer, percent-encoded.
pub const MESSAGE: &str = "grpc-message";
/// Field with the time that a client allows for the whole call.
pub const TIMEOUT: &str = "grpc-timeout";

/// Digits in a time allowed.
const MOST_DIGITS: usize = 8;

macro_rules! codes {
    ($( $variant:ident $name:literal; )*) => {
        /// How a call ended, by its number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Code { $( $variant, )* }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The name that all languages use.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $( Self::$variant => $name, )* } }
        }
    };
}

codes! {
    Ok "OK";
    Cancelled "CANCELLED";
    Unknown "UNKNOWN";
    InvalidArgument "INVALID_ARGUMENT";
    DeadlineExceeded "DEADLINE_EXCEEDED";
    NotFound "NOT_FOUND";
    AlreadyExists "ALREADY_EXISTS";
    PermissionDenied "PERMISSION_DENIED";
    ResourceExhausted "RESOURCE_EXHAUSTED";
    FailedPrecondition "FAILED_PRECONDITION";
    Aborted "ABORTED";
    OutOfRange "OUT_OF_RANGE";
    Unimplemented "UNIMPLEMENTED";
    Internal "INTERNAL";
    Unavailable "UNAVAILABLE";
    DataLoss "DATA_LOSS";
    Unauthenticated "UNAUTHENTICATED";
}

impl Code {
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code of this number; a number that nobody has defined is an unknown error.
    #[must_use]
    pub fn of_number(number: u32) -> Self {
        let known = usize::try_from(number)
            .ok()
            .and_then(|place| Self::ALL.get(place));
        known.copied().unwrap_or(Self::Unknown)
    }

    /// The code that a field's value stands for; what is no number is an unknown error.
    #[must_use]
    pub fn of_text(text: &[u8]) -> Self {
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.map_or(Self::Unknown, Self::of_number)
    }

    /// What a client of gRPC is told for an error of ours. config/GRPC.md has the table with its reasons.
    #[must_use]
    pub const fn of_token(token: Token) -> Self {
        match token {
            Token::BadRequest
            | Token::BadHost
            | Token::BadFraming
            | Token::ExpectationFailed
            | Token::HttpVersion
            | Token::BadHandshake
            | Token::UpgradeRequired
            | Token::Internal => Self::Internal,
            Token::Unauthorized => Self::Unauthenticated,
            Token::Denied => Self::PermissionDenied,
            Token::NoRoute | Token::MethodNotAllowed | Token::Misdirected | Token::NotImplemented => {
                Self::Unimplemented
            }
            Token::BodyTooLarge | Token::UriTooLong | Token::HeadersTooLarge => Self::ResourceExhausted,
            Token::RequestTimeout | Token::ResponseTimeout | Token::Deadline => Self::DeadlineExceeded,
            Token::ClientClosed | Token::AbortedClient => Self::Cancelled,
            Token::RateLimited
            | Token::ConnectFailed
            | Token::TlsFailed
            | Token::DnsFailed
            | Token::UpstreamReset
            | Token::BadResponse
            | Token::UpgradeRefused
            | Token::NoEndpoint
            | Token::StickyMissing
            | Token::BreakerOpen
            | Token::Overloaded
            | Token::Draining
            | Token::ConnectTimeout
            | Token::AbortedUpstream => Self::Unavailable,
        }
    }
}

/// Whether this content type is gRPC's: `application/grpc`, alone or with a `+suffix` or parameters. gRPC-Web, which is
/// `application/grpc-web`, is plain HTTP.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    let Some((start, rest)) = content_type.split_at_checked(CONTENT_TYPE.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes())
        && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// The time that a client allows for its call; `None` where it does not say.
///
/// # Errors
/// `bad_request` for what is no time, and for more than one.
pub fn timeout(head: &HeadBuf) -> Result<Option<Duration>, Reject> {
    let mut given = head.find(TIMEOUT.as_bytes());
    let Some(value) = given.next() else {
        return Ok(None);
    };
    match (parse_timeout(value), given.next()) {
        (Some(allowed), None) => Ok(Some(allowed)),
        _ => Err(Reject::new(Token::BadRequest, "grpc-timeout is malformed")),
    }
}

fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes a time as finely as its digits allow, and never as more than it is.
pub fn write_timeout(left: Duration, out: &mut Vec<u8>) {
    let most = 10_u128.pow(MOST_DIGITS as u32);
    let units = [
        (left.as_nanos(), b'n'),
        (left.as_micros(), b'u'),
        (left.as_millis(), b'm'),
        (u128::from(left.as_secs()), b'S'),
        (u128::from(left.as_secs() / 3600), b'H'),
    ];
    let (number, unit) = units
        .into_iter()
        .find(|(number, _)| *number < most)
        .unwrap_or((most - 1, b'H'));
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.push(unit);
}

/// A text as `grpc-message` carries it: what is not printable ASCII, and `%`, as `%XX`.
#[must_use]
pub fn message(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// The other way, for texts from elsewhere: what is no escape, or no UTF-8, stands as it can.
#[must_use]
pub fn read_message(encoded: &[u8]) -> String {
    percent_encoding::percent_decode(encoded)
        .decode_utf8_lossy()
        .into_owned()
}

/// How a call ended, by the trailers behind its answer or the head that is all of it.
#[must_use]
pub fn status_in(fields: &HeaderMap) -> Option<Code> {
    fields.get(STATUS).map(|value| Code::of_text(value.as_bytes()))
}

#[cfg(test)]
mod tests;
