//! Host and request-target rules: what is accepted, and the one normal form that routing sees.
//!
//! Stricter than RFC 3986 where leniency would give one host two spellings: percent-escapes, empty labels and
//! IPvFuture are refused in a host, user information in an authority is refused everywhere. An empty host is
//! refused too: `http` and `https` need one (RFC 9110 section 4.2.1), and there is no default to fall back to.

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
    /// Without port and trailing dot; IPv6 in its brackets; case as received.
    text: &'a str,
    kind: HostKind,
    port: Option<u16>,
    /// `text` is the normal form.
    normal: bool,
}

impl<'a> Host<'a> {
    /// As received, without port and trailing dot.
    #[must_use]
    pub const fn text(&self) -> &'a str {
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
    pub fn normal<'b>(&self, buf: &'b mut String) -> &'b str
    where
        'a: 'b,
    {
        if self.normal {
            return self.text;
        }
        match self.kind {
            HostKind::V6(address) => *buf = format!("[{address}]"),
            HostKind::Name | HostKind::V4(_) => {
                buf.clear();
                buf.push_str(self.text);
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

/// Reads `host [":" port]`: the value of a Host field, or an authority.
///
/// # Errors
/// `bad_host`, saying what is wrong.
pub fn parse_host(value: &[u8]) -> Result<Host<'_>, Reject> {
    let Ok(value) = std::str::from_utf8(value) else {
        return Err(bad_host("host is not ASCII"));
    };
    if value.starts_with('[') {
        return parse_v6(value);
    }
    let (name, port) = match value.split_once(':') {
        Some((name, port)) => (name, parse_port(port)?),
        None => (value, None),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(bad_host("host is empty"));
    }
    if name.len() > MAX_HOST {
        return Err(bad_host("host is too long"));
    }
    let normal = check_name(name.as_bytes())?;
    Ok(Host {
        text: name,
        kind: v4_or_name(name)?,
        port,
        normal,
    })
}

/// Whether the name is lower case already; an error when it is no name.
fn check_name(name: &[u8]) -> Result<bool, Reject> {
    let mut lower = true;
    let mut previous = b'.';
    for &byte in name {
        match byte {
            b'.' if previous == b'.' => return Err(bad_host("host has an empty label")),
            b'A'..=b'Z' => lower = false,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {}
            // The sub-delims of RFC 3986 but for the comma, which would join two Host fields to one.
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => {}
            b'@' => return Err(bad_host("host has user information")),
            _ => return Err(bad_host("host has an invalid character")),
        }
        previous = byte;
    }
    if previous == b'.' {
        return Err(bad_host("host has an empty label"));
    }
    Ok(lower)
}

/// Four labels of digits are an IPv4 address or nothing; any other name is a name.
fn v4_or_name(name: &str) -> Result<HostKind, Reject> {
    let digits_and_dots = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !digits_and_dots || name.bytes().filter(|&b| b == b'.').count() != 3 {
        return Ok(HostKind::Name);
    }
    match name.parse() {
        Ok(address) => Ok(HostKind::V4(address)),
        Err(_) => Err(bad_host("host is not a valid IPv4 address")),
    }
}

fn parse_v6(value: &str) -> Result<Host<'_>, Reject> {
    let Some(end) = value.find(']') else {
        return Err(bad_host("IPv6 host is not closed by a bracket"));
    };
    let (text, rest) = value.split_at(end + 1);
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let Some(address) = inner.and_then(|t| t.parse::<Ipv6Addr>().ok()) else {
        return Err(bad_host("host is not a valid IPv6 address"));
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => parse_port(port)?,
        None if rest.is_empty() => None,
        None => return Err(bad_host("host has text after the IPv6 address")),
    };
    Ok(Host {
        text,
        kind: HostKind::V6(address),
        port,
        normal: false,
    })
}

fn parse_port(digits: &str) -> Result<Option<u16>, Reject> {
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad_host("port is not a number"));
    }
    match digits.parse::<u16>() {
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

/// Bytes that may stand in a path or a query: RFC 3986, and the square brackets that browsers leave as they are.
/// Not: controls, space, non-ASCII, and `"` `#` `<` `>` `\` `^` `` ` `` `{` `|` `}`.
pub(super) const TARGET_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?%[]";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    table
};

/// Reads a request target in the form that belongs to the method.
///
/// # Errors
/// `bad_request` for a target that is malformed or not for this method, `bad_host` for a bad authority in it.
pub fn parse_target(method: Method, target: &[u8]) -> Result<Target<'_>, Reject> {
    if target.is_empty() {
        return Err(bad_request("request target is empty"));
    }
    if !target.iter().all(|&b| TARGET_BYTE[b as usize]) {
        return Err(bad_request("request target has an invalid character"));
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
