//! One normal form of the path, for matching and for forwarding.
//!
//! What the gateway matched is what the endpoint gets: if the two read a path differently, a route (and
//! whatever guards it) could be walked around. Escapes of unreserved characters are decoded, the others are
//! written in upper case, and then dot segments, double slashes and encoded slashes follow the policy.

use super::bytes::is_target_byte;
use super::token::{Reject, Token};

#[cfg(test)]
mod tests;

/// What happens to the segments `.` and `..`, written plainly or as `%2e`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DotSegments {
    /// As RFC 3986 section 5.2.4; above the root is the root.
    Resolve,
    Reject,
    Keep,
}

/// What happens to `//`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubleSlash {
    Merge,
    Reject,
    Keep,
}

/// What happens to `%2F`, and to `%5C`, which some servers take for a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlash {
    Reject,
    Keep,
    /// Both become `/` and separate segments.
    Decode,
}

/// One form of the path for matching and forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPolicy {
    pub dot_segments: DotSegments,
    pub double_slash: DoubleSlash,
    pub encoded_slash: EncodedSlash,
}

impl Default for PathPolicy {
    /// The safest that still serves every ordinary request.
    fn default() -> Self {
        Self {
            dot_segments: DotSegments::Resolve,
            double_slash: DoubleSlash::Merge,
            encoded_slash: EncodedSlash::Reject,
        }
    }
}

/// Where the normal form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normal {
    /// The path is normal as it stands; `out` means nothing.
    AsIs,
    /// It was written to `out`.
    Written,
}

impl Normal {
    /// The normal form, from what was given and what was written.
    #[must_use]
    pub fn of<'a>(self, path: &'a [u8], out: &'a [u8]) -> &'a [u8] {
        match self {
            Self::AsIs => path,
            Self::Written => out,
        }
    }
}

const fn bad(detail: &'static str) -> Reject {
    Reject::new(Token::BadRequest, detail)
}

/// Brings a path (without query) to its normal form. Doing it twice changes nothing more.
///
/// # Errors
/// `bad_request`: no leading slash, a character that no path has, a broken escape, `%00`, or what the policy
/// rejects.
pub fn normalise(path: &[u8], policy: &PathPolicy, out: &mut Vec<u8>) -> Result<Normal, Reject> {
    if is_plainly_normal(path) {
        return Ok(Normal::AsIs);
    }
    out.clear();
    if path.is_empty() {
        out.push(b'/');
        return Ok(Normal::Written);
    }
    if path[0] != b'/' {
        return Err(bad("path does not begin with a slash"));
    }
    decode(path, policy.encoded_slash, out)?;
    settle_segments(policy, out)?;
    Ok(if out == path {
        Normal::AsIs
    } else {
        Normal::Written
    })
}

/// One scan that proves most paths normal under every policy: no escape, no `//`, no segment that begins
/// with a dot.
fn is_plainly_normal(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else {
        return false;
    };
    let plain = rest.iter().fold(true, |plain, &b| plain & PLAIN[b as usize]);
    // Branchless over neighbours, so that it compiles to comparisons of vectors.
    let special = path.iter().zip(rest).fold(false, |any, (&a, &b)| {
        any | (a == b'/') & ((b == b'/') | (b == b'.'))
    });
    plain && !special
}

/// Bytes that may stand in a path and mean themselves.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_target_byte(byte as u8) && !matches!(byte as u8, b'%' | b'?');
        byte += 1;
    }
    table
};

fn decode(path: &[u8], slashes: EncodedSlash, out: &mut Vec<u8>) -> Result<(), Reject> {
    let mut i = 0;
    while i < path.len() {
        let byte = path[i];
        if byte != b'%' {
            if !PLAIN[byte as usize] {
                return Err(bad("path has an invalid character"));
            }
            out.push(byte);
            i += 1;
            continue;
        }
        let Some(value) = escape(&path[i + 1..]) else {
            return Err(bad("path has a broken escape"));
        };
        i += 3;
        match value {
            0 => return Err(bad("path has an encoded NUL")),
            b'/' | b'\\' if slashes == EncodedSlash::Reject => {
                return Err(bad("path has an encoded slash"));
            }
            b'/' | b'\\' if slashes == EncodedSlash::Decode => out.push(b'/'),
            value if is_unreserved(value) => out.push(value),
            value => push_escape(value, out),
        }
    }
    Ok(())
}

/// The byte that the two hex digits at the start of `digits` stand for.
pub(super) fn escape(digits: &[u8]) -> Option<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let value = hex(*digits.first()?)? * 16 + hex(*digits.get(1)?)?;
    u8::try_from(value).ok()
}

/// Writes `%XX`.
pub fn push_escape(value: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(value >> 4)],
        DIGITS[usize::from(value & 15)],
    ]);
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Applies the rules for `//`, `.` and `..` to the decoded path in `out`, in place: it only ever gets shorter.
fn settle_segments(policy: &PathPolicy, out: &mut Vec<u8>) -> Result<(), Reject> {
    let mut read = 1;
    let mut write = 1;
    loop {
        let end = memchr::memchr(b'/', &out[read..]).map_or(out.len(), |at| read + at);
        let last = end == out.len();
        match &out[read..end] {
            b"" if !last => match policy.double_slash {
                DoubleSlash::Merge => {}
                DoubleSlash::Reject => return Err(bad("path has a double slash")),
                DoubleSlash::Keep => write = copy_segment(out, read..end, write, last),
            },
            b"." | b".." if policy.dot_segments == DotSegments::Reject => {
                return Err(bad("path has a dot segment"));
            }
            b"." if policy.dot_segments == DotSegments::Resolve => {}
            b".." if policy.dot_segments == DotSegments::Resolve => {
                // Back over the slash that ends the parent, to the one that begins it.
                write = memchr::memrchr(b'/', &out[..write - 1]).map_or(1, |at| at + 1);
            }
            _ => write = copy_segment(out, read..end, write, last),
        }
        if last {
            out.truncate(write);
            return Ok(());
        }
        read = end + 1;
    }
}

/// Moves a segment and the slash after it down to `write`; returns where the next one goes.
fn copy_segment(out: &mut [u8], segment: std::ops::Range<usize>, write: usize, last: bool) -> usize {
    let end = if last { segment.end } else { segment.end + 1 };
    out.copy_within(segment.start..end, write);
    write + end - segment.start
}

/// Whether any segment is `.` or `..`, in a path whose unreserved characters are plain.
#[must_use]
pub fn has_dot_segments(path: &[u8]) -> bool {
    path.split(|&b| b == b'/')
        .any(|segment| matches!(segment, b"." | b".."))
}

/// Whether `prefix` holds `path` by segment: `/ws` holds `/ws` and `/ws/x`, not `/wsx`. A prefix that ends in
/// a slash holds only what has that slash.
#[must_use]
pub fn under_prefix(path: &[u8], prefix: &[u8]) -> bool {
    path.starts_with(prefix) && at_boundary(path, prefix.len())
}

/// Whether a prefix of this length, known to be one byte for byte, ends where a segment ends.
#[must_use]
pub fn at_boundary(path: &[u8], len: usize) -> bool {
    path.len() == len || path[len] == b'/' || (len > 0 && path[len - 1] == b'/')
}

/// A path from configuration in the form that normal paths have: characters that a URI cannot carry are
/// escaped, so that an operator may write `/café` or `/two words`. Slashes and dots stay as written.
///
/// # Errors
/// What is wrong, for a diagnostic.
pub fn from_config(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => escaped.push(byte),
            b'?' | b'#' => return Err("a path has no `?` or `#`"),
            byte if PLAIN[byte as usize] => escaped.push(byte),
            byte => push_escape(byte, &mut escaped),
        }
    }
    let keep = PathPolicy {
        dot_segments: DotSegments::Keep,
        double_slash: DoubleSlash::Keep,
        encoded_slash: EncodedSlash::Keep,
    };
    if escaped.is_empty() {
        return Err("a path begins with `/`");
    }
    let mut out = Vec::new();
    match normalise(&escaped, &keep, &mut out) {
        Ok(Normal::AsIs) => Ok(escaped),
        Ok(Normal::Written) => Ok(out),
        Err(reject) => Err(reject.detail),
    }
}
