//! Paths in an answer, from the endpoint's view to the client's.

use crate::message::host::{Host, Scheme, parse_host, split_scheme};
use crate::message::path::under_prefix;

/// The prefixes between the two views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backward<'a> {
    /// What the client's path has and the endpoint's has not; without a last slash, may be empty.
    pub(super) stripped: &'a [u8],
    /// What the endpoint's path has and the client's has not; likewise.
    pub(super) added: &'a [u8],
}

/// Who the client and the endpoint think they talk to.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The scheme and host of the client's request.
    pub scheme: Scheme,
    pub host: Host<'a>,
    /// Authorities that mean the endpoint: its address as written, the Host it was sent.
    pub endpoint: &'a [&'a [u8]],
}

impl Backward<'_> {
    /// Writes the client's view of a Location value; `false` when the value stays as it is: another host, a
    /// path outside the added prefix, a relative path.
    pub fn location(&self, value: &[u8], seen: &Seen<'_>, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(place) = place(value, seen) else {
            return false;
        };
        out.extend_from_slice(place.kept);
        self.path(place.path, out)
    }

    /// Writes the client's view of a Refresh value (`5; url=/x`), by the rules of [`Self::location`].
    pub fn refresh(&self, value: &[u8], seen: &Seen<'_>, out: &mut Vec<u8>) -> bool {
        let Some((before, url, after)) = split_refresh(value) else {
            return false;
        };
        if !self.location(url, seen, out) {
            return false;
        }
        out.splice(0..0, before.iter().copied());
        out.extend_from_slice(after);
        true
    }

    /// Writes the client's view of a Set-Cookie value: its Path attribute. `false` when the value stays as it
    /// is. Cookies named `__Host-` must have `Path=/` and keep it.
    pub fn set_cookie(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        if value
            .get(..7)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"__host-"))
        {
            return false;
        }
        let mut changed = false;
        for (i, part) in value.split(|&b| b == b';').enumerate() {
            if i > 0 {
                out.push(b';');
            }
            match cookie_path(part) {
                Some(at) if i > 0 => {
                    let (before, path) = part.split_at(at);
                    out.extend_from_slice(before);
                    changed |= self.cookie_path(path, out);
                }
                _ => out.extend_from_slice(part),
            }
        }
        changed
    }

    /// A cookie's path holds what is below it, so one above the added prefix holds all the client can see.
    fn cookie_path(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        let path = path.trim_ascii_end();
        let within = path.strip_suffix(b"/").unwrap_or(path);
        let rest = if under_prefix(path, self.added) {
            &path[self.added.len()..]
        } else if under_prefix(self.added, within) {
            b""
        } else {
            out.extend_from_slice(path);
            return false;
        };
        // `Path=/ws` holds `/ws` and all below, `Path=/ws/` not `/ws` itself.
        let rest = if rest == b"/" { b"" } else { rest };
        out.extend_from_slice(self.stripped);
        out.extend_from_slice(rest);
        if self.stripped.is_empty() && rest.is_empty() {
            out.push(b'/');
        }
        true
    }

    /// Appends the client's view of an absolute path with query and fragment.
    fn path(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        let end = path
            .iter()
            .position(|b| matches!(b, b'?' | b'#'))
            .unwrap_or(path.len());
        let (path, tail) = path.split_at(end);
        let path = if path.is_empty() { b"/" } else { path };
        if !under_prefix(path, self.added) {
            return false;
        }
        let rest = &path[self.added.len()..];
        out.extend_from_slice(self.stripped);
        out.push(b'/');
        // Two slashes at the start, or what browsers take for them, would name a host.
        let slashes = match (self.stripped, out.len()) {
            (b"", 1) => rest.iter().take_while(|b| matches!(b, b'/' | b'\\')).count(),
            _ => usize::from(rest.first() == Some(&b'/')),
        };
        out.extend_from_slice(&rest[slashes..]);
        out.extend_from_slice(tail);
        true
    }
}

/// A URI reference that stays within the route.
struct Place<'a> {
    /// Scheme and authority that the client's view keeps.
    kept: &'a [u8],
    /// Absolute path with query and fragment; may be empty after an authority.
    path: &'a [u8],
}

/// `None` for other hosts and for what is relative to the current path, which holds in both views.
fn place<'a>(value: &'a [u8], seen: &Seen<'_>) -> Option<Place<'a>> {
    let (scheme, rest) = match value.strip_prefix(b"//") {
        Some(rest) => (seen.scheme, rest),
        None if value.first() == Some(&b'/') => {
            return Some(Place {
                kept: b"",
                path: value,
            });
        }
        None => split_scheme(value)?,
    };
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = parse_host(authority).ok()?;
    let is_endpoint = |own: &&[u8]| parse_host(own).is_ok_and(|own| own.same_as(&host, scheme));
    if host.same_as(&seen.host, scheme) {
        // To the same host by another scheme is the redirect to https: a bare path would send it in circles.
        let kept_len = if scheme == seen.scheme {
            0
        } else {
            value.len() - path.len()
        };
        let kept = &value[..kept_len];
        return Some(Place { kept, path });
    }
    seen.endpoint
        .iter()
        .any(is_endpoint)
        .then_some(Place { kept: b"", path })
}

/// Takes `5; url="/x"` apart: what is before the URL, the URL, what is after.
fn split_refresh(value: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let at = value.iter().position(|b| matches!(b, b';' | b','))? + 1;
    let mut start = at + space(&value[at..]);
    let label = value.get(start..start + 3);
    if label.is_some_and(|label| label.eq_ignore_ascii_case(b"url")) {
        let equals = start + 3 + space(&value[start + 3..]);
        if value.get(equals) == Some(&b'=') {
            start = equals + 1;
            start += space(&value[start..]);
        }
    }
    let mut end = value.len();
    if let Some(quote @ (b'"' | b'\'')) = value.get(start) {
        start += 1;
        let close = value[start..].iter().position(|b| b == quote);
        end = close.map_or(end, |close| start + close);
    }
    Some((&value[..start], &value[start..end], &value[end..]))
}

fn space(text: &[u8]) -> usize {
    text.len() - text.trim_ascii_start().len()
}

/// Where the value of a Path attribute begins, when it is an absolute path.
fn cookie_path(part: &[u8]) -> Option<usize> {
    let equals = memchr::memchr(b'=', part)?;
    let (name, value) = part.split_at(equals);
    let start = equals + 1 + space(&value[1..]);
    let is_path = name.trim_ascii().eq_ignore_ascii_case(b"path");
    (is_path && part.get(start) == Some(&b'/')).then_some(start)
}
