//! HTTP/1 messages as a test wants to look at them, and a parser stricter than any client in the field: what
//! it refuses is a bug of whoever sent it.

use std::fmt;

/// Field lines in the order received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The only value of this field.
    ///
    /// # Panics
    /// When the field came more than once.
    #[track_caller]
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came more than once: {all:?}");
        all.first().copied()
    }

    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.0
            .iter()
            .filter(same)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Whether a comma-separated field carries this element, any case.
    #[must_use]
    pub fn lists(&self, name: &str, element: &str) -> bool {
        let values = self.all(name);
        values
            .iter()
            .flat_map(|v| v.split(','))
            .any(|e| e.trim().eq_ignore_ascii_case(element))
    }

    /// # Panics
    /// When the value is no number.
    #[must_use]
    pub fn content_length(&self) -> Option<usize> {
        self.get("content-length")
            .map(|v| v.parse().unwrap_or_else(|_| panic!("content-length {v:?}")))
    }

    #[must_use]
    pub fn chunked(&self) -> bool {
        self.lists("transfer-encoding", "chunked")
    }
}

/// A request as a backend saw it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// `HTTP/1.1`
    pub version: String,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The head exactly as received.
    pub head: Vec<u8>,
    /// Number of the connection at this backend, and of the request on it, both from 0.
    pub connection: usize,
    pub number: usize,
}

impl Request {
    #[track_caller]
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// A response as a client saw it.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The head exactly as received.
    pub head: Vec<u8>,
    /// Why the body ended before its framing said so; `None` for a complete response.
    pub cut: Option<String>,
}

impl Response {
    #[track_caller]
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Why the gateway answered by itself.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.headers.get("x-tidegate-error")
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is no JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self}"))
    }

    /// Whether the connection may carry another request.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.version == "HTTP/1.1" && !self.headers.lists("connection", "close")
    }

    /// # Panics
    /// When status and token are not these.
    #[track_caller]
    pub fn expect(&self, status: u16, token: Option<&str>) {
        assert_eq!((self.status, self.token()), (status, token), "{self}");
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(400)];
        f.write_str(&String::from_utf8_lossy(&self.head))?;
        f.write_str(&String::from_utf8_lossy(body))?;
        write!(f, " ({} body bytes)", self.body.len())
    }
}

/// A message is not what RFC 9112 allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| bytes.iter().map(|&b| char::from(b)).collect())
}

/// Splits a complete head (with its empty line) into its start line and its fields.
///
/// # Errors
/// On anything RFC 9112 does not allow a sender to produce.
pub fn parse_head(head: &[u8]) -> Result<(String, Fields), Malformed> {
    let bad = |why: &str| Malformed(format!("{why} in head {:?}", text(head)));
    let inner = head
        .strip_suffix(b"\r\n\r\n")
        .ok_or_else(|| bad("no empty line"))?;
    let mut lines = Vec::new();
    let mut rest = inner;
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if lines
        .iter()
        .any(|line| line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)))
    {
        return Err(bad("bare CR, LF or NUL"));
    }
    let start = text(lines[0]);
    let fields = lines[1..]
        .iter()
        .map(|line| parse_field(line).ok_or_else(|| bad("bad field line")));
    Ok((start, Fields(fields.collect::<Result<_, _>>()?)))
}

fn parse_field(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if name.is_empty() || !name.iter().all(token) {
        return None;
    }
    Some((text(name), text(value).trim_matches([' ', '\t']).to_owned()))
}

/// `HTTP/1.1 200 OK` into its parts.
///
/// # Errors
/// When it is no status line.
pub fn parse_status_line(line: &str) -> Result<(String, u16, String), Malformed> {
    let bad = || Malformed(format!("status line {line:?}"));
    let (version, rest) = line.split_once(' ').ok_or_else(bad)?;
    let (code, reason) = rest.split_once(' ').ok_or_else(bad)?;
    let three_digits = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || !three_digits {
        return Err(bad());
    }
    Ok((
        version.to_owned(),
        code.parse().map_err(|_| bad())?,
        reason.to_owned(),
    ))
}

/// `GET /path HTTP/1.1` into its parts.
///
/// # Errors
/// When it is no request line.
pub fn parse_request_line(line: &str) -> Result<(String, String, String), Malformed> {
    let parts: Vec<&str> = line.split(' ').collect();
    match parts[..] {
        [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] if !method.is_empty() && !target.is_empty() => {
            Ok((method.to_owned(), target.to_owned(), version.to_owned()))
        }
        _ => Err(Malformed(format!("request line {line:?}"))),
    }
}
