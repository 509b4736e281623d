//! Host and request-target rules: what is accepted, and the one normal form that routing sees.
//!
//! Stricter than RFC 3986 where leniency would give one host two spellings: percent-escapes, empty labels and
//! IPvFuture are refused in a host, user information in an authority is refused everywhere. An empty host is
//! refused too: `http` and `https` need one (RFC 9110 section 4.2.1), and there is no default to fall back to.

use super::bytes::is_target;
use super::head::Method;
use super::token::{Reject, Token};
use std::net::{Ipv4Addr, Ipv6Addr};

#[cfg(test)]
mod tests;

/// Longest host accepted, in bytes: no DNS name is longer.
pub const MAX_HOST: usize = 255;

/// What kind of name a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    Name,
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// A valid host with its port, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// Without port and trailing dot; IPv6 in its brackets; case as received. ASCII.
    text: &'a [u8],
    kind: HostKind,
    port: Option<u16>,
    /// `text` is the normal form.
    normal: bool,
}

impl<'a> Host<'a> {
    /// As received, without port and trailing dot.
    #[must_use]
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }
    #[must_use]
    pub const fn kind(&self) -> HostKind {
        self.kind
    }
    /// `None` when absent or empty (`example.com:`).
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The normal form: lower case, no trailing dot, no port, IPv6 as RFC 5952 writes it, in brackets.
    /// Borrows what was received when that is normal already, which is nearly always; else writes `buf` anew.
    #[must_use]
    pub fn normal<'b>(&self, buf: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.normal {
            return self.text;
        }
        match self.kind {
            HostKind::V6(address) => *buf = format!("[{address}]").into_bytes(),
            HostKind::Name | HostKind::V4(_) => {
                buf.clear();
                buf.extend_from_slice(self.text);
                buf.make_ascii_lowercase();
            }
        }
        buf
    }

    /// Whether both name the same host and port; a missing port is the default of `scheme`.
    #[must_use]
    pub fn same_as(&self, other: &Host<'_>, scheme: Scheme) -> bool {
        let same_name = match (self.kind, other.kind) {
            (HostKind::V6(a), HostKind::V6(b)) => a == b,
            _ => self.text.eq_ignore_ascii_case(other.text),
        };
        let port = |host: &Host<'_>| host.port.unwrap_or_else(|| scheme.default_port());
        same_name && port(self) == port(other)
    }
}

/// The schemes a gateway forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

const fn bad_host(detail: &'static str) -> Reject {
    Reject::new(Token::BadHost, detail)
}
const fn bad_request(detail: &'static str) -> Reject {
    Reject::new(Token::BadRequest, detail)
}

/// What a byte is in a name; 0 for digits.
mod class {
    pub(super) const LOWER: u8 = 1;
    pub(super) const UPPER: u8 = 2;
    pub(super) const DOT: u8 = 4;
    pub(super) const OTHER: u8 = 8;
    pub(super) const INVALID: u8 = 16;
}

const CLASS: [u8; 256] = {
    let mut table = [class::INVALID; 256];
    let mut index = 0;
    while index < 128 {
        let byte = index as u8;
        table[index] = match byte {
            b'0'..=b'9' => 0,
            b'a'..=b'z' => class::LOWER,
            b'A'..=b'Z' => class::UPPER,
            b'.' => class::DOT,
            b'-' | b'_' | b'~' => class::OTHER,
            // The sub-delims of RFC 3986 but for the comma, which would join two Host fields to one.
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => class::OTHER,
            _ => class::INVALID,
        };
        index += 1;
    }
    table
};

/// Reads `host [":" port]`: the value of a Host field, or an authority.
///
/// # Errors
/// `bad_host`, saying what is wrong.
pub fn parse_host(value: &[u8]) -> Result<Host<'_>, Reject> {
    if value.first() == Some(&b'[') {
        return parse_v6(value);
    }
    let mut seen = 0;
    let mut empty_label = false;
    let mut previous = class::DOT;
    let mut end = 0;
    for &byte in value {
        if byte == b':' {
            break;
        }
        let class = CLASS[byte as usize];
        seen |= class;
        empty_label |= class & previous & class::DOT != 0;
        previous = class;
        end += 1;
    }
    let (name, port) = value.split_at(end);
    let port = match port {
        [] => None,
        [_, digits @ ..] => parse_port(digits)?,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(bad_host("host is empty"));
    }
    if name.len() > MAX_HOST {
        return Err(bad_host("host is too long"));
    }
    if seen & class::INVALID != 0 {
        return Err(bad_host(match name {
            _ if name.contains(&b'@') => "host has user information",
            _ if name.is_ascii() => "host has an invalid character",
            _ => "host is not ASCII",
        }));
    }
    if empty_label {
        return Err(bad_host("host has an empty label"));
    }
    let kind = match seen & (class::LOWER | class::UPPER | class::OTHER) {
        0 => v4_or_name(name)?,
        _ => HostKind::Name,
    };
    Ok(Host {
        text: name,
        kind,
        port,
        normal: seen & class::UPPER == 0,
    })
}

/// Four labels of digits are an IPv4 address or nothing; any other name is a name.
fn v4_or_name(name: &[u8]) -> Result<HostKind, Reject> {
    if name.iter().filter(|&&b| b == b'.').count() != 3 {
        return Ok(HostKind::Name);
    }
    match parse_address(name) {
        Some(address) => Ok(HostKind::V4(address)),
        None => Err(bad_host("host is not a valid IPv4 address")),
    }
}

fn parse_address<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn parse_v6(value: &[u8]) -> Result<Host<'_>, Reject> {
    let Some(end) = memchr::memchr(b']', value) else {
        return Err(bad_host("IPv6 host is not closed by a bracket"));
    };
    let Some(address) = parse_address(&value[1..end]) else {
        return Err(bad_host("host is not a valid IPv6 address"));
    };
    let (text, rest) = value.split_at(end + 1);
    let port = match rest {
        [] => None,
        [b':', digits @ ..] => parse_port(digits)?,
        _ => return Err(bad_host("host has text after the IPv6 address")),
    };
    Ok(Host {
        text,
        kind: HostKind::V6(address),
        port,
        normal: false,
    })
}

fn parse_port(digits: &[u8]) -> Result<Option<u16>, Reject> {
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad_host("port is not a number"));
    }
    let port = digits
        .iter()
        .fold(0, |port: u32, digit| port * 10 + u32::from(digit - b'0'));
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(bad_host("port is out of range")),
    }
}

/// A request target, taken apart (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`.
    Origin { path: &'a [u8], query: Option<&'a [u8]> },
    /// `http://host/path?query`. An empty path reads as `/`, or as `*` for OPTIONS without a query
    /// (RFC 9112 section 3.2.4).
    Absolute {
        scheme: Scheme,
        host: Host<'a>,
        path: &'a [u8],
        query: Option<&'a [u8]>,
    },
    /// `*`, of OPTIONS only.
    Asterisk,
    /// `host:port`, of CONNECT only.
    Authority(Host<'a>),
}

impl<'a> Target<'a> {
    /// The path as received; `*` for asterisk-form, empty for authority-form.
    #[must_use]
    pub const fn path(&self) -> &'a [u8] {
        match *self {
            Self::Origin { path, .. } | Self::Absolute { path, .. } => path,
            Self::Asterisk => b"*",
            Self::Authority(_) => b"",
        }
    }
    /// Without the question mark; `None` when there is none.
    #[must_use]
    pub const fn query(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Origin { query, .. } | Self::Absolute { query, .. } => query,
            Self::Asterisk | Self::Authority(_) => None,
        }
    }
    /// Whether the request is about the server as a whole.
    #[must_use]
    pub fn is_asterisk(&self) -> bool {
        self.path() == b"*"
    }

    /// The host that the request is for: the target's own when it carries one, else the Host field's.
    ///
    /// # Errors
    /// `bad_host` when neither is there, or when both are and name different hosts.
    pub fn effective_host(&self, field: Option<Host<'a>>) -> Result<Host<'a>, Reject> {
        let (own, scheme) = match *self {
            Self::Absolute { scheme, host, .. } => (host, scheme),
            Self::Authority(host) => (host, Scheme::Http),
            Self::Origin { .. } | Self::Asterisk => {
                return field.ok_or_else(|| bad_host("Host is missing"));
            }
        };
        match field {
            Some(field) if !own.same_as(&field, scheme) => {
                Err(bad_host("Host differs from the request target"))
            }
            _ => Ok(own),
        }
    }
}

/// Reads a request target in the form that belongs to the method.
///
/// # Errors
/// `bad_request` for a target that is malformed or not for this method, `bad_host` for a bad authority in it.
pub fn parse_target(method: Method, target: &[u8]) -> Result<Target<'_>, Reject> {
    if !is_target(target) {
        return Err(bad_request("request target has an invalid character"));
    }
    target_form(method, target)
}

/// [`parse_target`] for the target of a [`super::head::RequestHead`], whose bytes were checked when it was made.
///
/// # Errors
/// As [`parse_target`].
#[inline]
pub fn target_form(method: Method, target: &[u8]) -> Result<Target<'_>, Reject> {
    if target.is_empty() {
        return Err(bad_request("request target is empty"));
    }
    if method == Method::Connect {
        return parse_authority_form(target);
    }
    if target[0] == b'/' {
        let (path, query) = split_query(target);
        return Ok(Target::Origin { path, query });
    }
    if target == b"*" {
        return match method {
            Method::Options => Ok(Target::Asterisk),
            _ => Err(bad_request("request target * is for OPTIONS only")),
        };
    }
    parse_absolute(method, target)
}

fn parse_authority_form(target: &[u8]) -> Result<Target<'_>, Reject> {
    let host = parse_host(target)?;
    if host.port.is_none() {
        return Err(bad_request("CONNECT target has no port"));
    }
    Ok(Target::Authority(host))
}

fn parse_absolute(method: Method, target: &[u8]) -> Result<Target<'_>, Reject> {
    let (scheme, rest) = split_scheme(target)
        .ok_or_else(|| bad_request("request target is neither a path nor an http(s) URI"))?;
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let host = parse_host(authority)?;
    let (path, query) = split_query(rest);
    let path = match path {
        b"" if method == Method::Options && query.is_none() => b"*",
        b"" => b"/",
        path => path,
    };
    Ok(Target::Absolute {
        scheme,
        host,
        path,
        query,
    })
}

/// Takes `http://` or `https://` off, whatever its case.
#[must_use]
pub fn split_scheme(uri: &[u8]) -> Option<(Scheme, &[u8])> {
    [(Scheme::Http, "http://"), (Scheme::Https, "https://")]
        .into_iter()
        .find_map(|(scheme, prefix)| {
            let (head, rest) = uri.split_at_checked(prefix.len())?;
            head.eq_ignore_ascii_case(prefix.as_bytes())
                .then_some((scheme, rest))
        })
}

fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}
