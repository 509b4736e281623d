//! Fields between our form and the map that HTTP/2 takes and gives: responses' heads, and trailers both ways.

use super::edits::Edits;
use super::framing::{BodyKind, is_bodiless};
use super::head::{RequestHead, ResponseHead};
use super::hop::is_forwardable_trailer;
use super::kept_fields::{field, field_name};
use super::names::Name;
use bytes::Bytes;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// Whether a field of this name has no place in HTTP/2: it speaks of the connection (RFC 9113 section 8.2.2).
#[must_use]
pub const fn is_of_connection(id: Name) -> bool {
    matches!(
        id,
        Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Http2Settings
    )
}

/// The fields of an endpoint's response with their edits, and how many bytes they take as text. `body` is how the body
/// will follow; Content-Length stays where it says just that, or where it tells of a body that is not sent.
#[must_use]
pub fn of_response(head: &ResponseHead, edits: &Edits, body: BodyKind) -> (HeaderMap, u64) {
    let keeps_length = match body {
        BodyKind::Length(_) => true,
        BodyKind::None => head.status == 304 || !is_bodiless(head.status),
        BodyKind::Chunked | BodyKind::UntilClose => false,
    };
    let buf = &head.buf;
    // One copy for all values that are not at hand, which are pieces of it.
    let mut bytes = None;
    let mut fields = Fields::with_capacity(buf.fields.len() + edits.lines().count());
    for (index, found) in buf.fields.iter().enumerate() {
        let stays = !edits.is_dropped(index)
            && !is_of_connection(found.id)
            && (found.id != Name::ContentLength || keeps_length);
        if let (true, Some((name, value))) = (stays, field(buf.name(index), buf.value(index))) {
            let value = value.or_else(|| {
                let bytes = bytes.get_or_insert_with(|| Bytes::copy_from_slice(&buf.bytes));
                let piece = bytes.slice(found.value.start as usize..found.value.end as usize);
                HeaderValue::from_maybe_shared(piece).ok()
            });
            fields.put(name, value);
        }
    }
    for line in edits.lines() {
        fields.add_lines(line);
    }
    fields.done()
}

/// What goes to an endpoint in HTTP/2 as the head of a request.
#[derive(Debug)]
pub struct RequestFields {
    pub method: Method,
    pub uri: Uri,
    pub fields: HeaderMap,
    /// What it takes as text.
    pub bytes: u64,
}

/// A client's request with its edits, for an endpoint that speaks HTTP/2: Host becomes the authority, the scheme is how
/// the endpoint is reached (`secure`: by TLS). `body` is how the body will follow. `None`: Host or target can't be
/// written so.
#[must_use]
pub fn of_request(head: &RequestHead, edits: &Edits, body: BodyKind, secure: bool) -> Option<RequestFields> {
    let buf = &head.buf;
    // One copy for all values, which are pieces of it.
    let bytes = Bytes::copy_from_slice(&buf.bytes);
    let mut fields = Fields::with_capacity(buf.fields.len() + 8);
    let mut authority: Option<Bytes> = None;
    for (index, field) in buf.fields.iter().enumerate() {
        if edits.is_dropped(index) || is_of_connection(field.id) {
            continue;
        }
        let value = bytes.slice(field.value.start as usize..field.value.end as usize);
        match field.id {
            Name::Host => authority = Some(value),
            // Ours to write.
            Name::ContentLength | Name::Te => {}
            id => fields.append(
                buf.name(index),
                secret(id, HeaderValue::from_maybe_shared(value).ok()),
            ),
        }
    }
    for line in edits.lines() {
        fields.add_request_lines(line, &mut authority);
    }
    if let BodyKind::Length(length) = body {
        fields.add(b"content-length", itoa::Buffer::new().format(length).as_bytes());
    }
    let target = Bytes::copy_from_slice(edits.target().unwrap_or_else(|| head.target()));
    let (fields, bytes) = fields.done();
    let line = (head.method_text().len() + target.len()) as u64;
    let mut uri = uri::Parts::default();
    uri.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(Authority::from_maybe_shared(authority?).ok()?);
    uri.path_and_query = Some(PathAndQuery::from_maybe_shared(target).ok()?);
    Some(RequestFields {
        method: Method::from_bytes(head.method_text()).ok()?,
        uri: Uri::from_parts(uri).ok()?,
        fields,
        bytes: bytes + line,
    })
}

/// The same for one that asks for another protocol: the extended CONNECT that stands for its GET with Upgrade (RFC 8441
/// section 5). The handshake's key has no meaning there.
#[must_use]
pub fn of_connect(head: &RequestHead, edits: &Edits, secure: bool) -> Option<RequestFields> {
    let mut sent = of_request(head, edits, BodyKind::None, secure)?;
    sent.method = Method::CONNECT;
    sent.fields.remove(http::header::SEC_WEBSOCKET_KEY);
    Some(sent)
}

/// Marks what is never to enter the table of a connection's compression, which requests of many clients share
/// (RFC 7541 section 7.1.3).
fn secret(id: Name, value: Option<HeaderValue>) -> Option<HeaderValue> {
    let mut value = value?;
    value.set_sensitive(matches!(id, Name::Cookie | Name::Authorization));
    Some(value)
}

/// The fields of a response of our own.
#[must_use]
pub fn of_own(own: &[(&str, &[u8])], length: Option<usize>) -> (HeaderMap, u64) {
    let mut fields = Fields::with_capacity(own.len() + 1);
    for (name, value) in own {
        if !is_of_connection(Name::recognise(name.as_bytes())) {
            fields.add(name.as_bytes(), value);
        }
    }
    if let Some(length) = length {
        fields.add(b"content-length", itoa::Buffer::new().format(length).as_bytes());
    }
    fields.done()
}

/// Trailer lines, each with its CRLF, as a map.
#[must_use]
pub fn map_of_lines(lines: &[u8]) -> HeaderMap {
    let mut fields = Fields::with_capacity(4);
    fields.add_lines(lines);
    fields.map
}

/// The trailers that may be passed on.
#[must_use]
pub fn passed_on(trailers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers {
        if is_forwardable_trailer(name.as_str().as_bytes()) {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// The trailers that may be passed on as lines, each with its CRLF.
#[must_use]
pub fn trailer_lines(trailers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        if is_forwardable_trailer(name.as_str().as_bytes()) {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
    }
    lines
}

/// Lines without their ends.
fn each_line(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if lines.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', lines).map_or(lines.len(), |feed| feed + 1);
        let (line, rest) = lines.split_at(end);
        lines = rest;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// A map that grows.
struct Fields {
    map: HeaderMap,
    /// What the fields take as text.
    bytes: u64,
}

impl Fields {
    fn with_capacity(fields: usize) -> Self {
        Self {
            map: HeaderMap::with_capacity(fields),
            bytes: 0,
        }
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.append(name, HeaderValue::from_bytes(value).ok());
    }

    fn append(&mut self, name: &[u8], value: Option<HeaderValue>) {
        if let Some(name) = field_name(name) {
            self.put(name, value);
        }
    }

    /// What was checked when it was read, or was blanked when it was made, is a field: none is lost.
    fn put(&mut self, name: HeaderName, value: Option<HeaderValue>) {
        if let Some(value) = value {
            self.bytes += (name.as_str().len() + value.len() + 4) as u64;
            let _full = self.map.try_append(name, value);
        }
    }

    /// Lines of edits and trailers, without those that speak of a connection.
    fn add_lines(&mut self, lines: &[u8]) {
        for line in each_line(lines) {
            if let Some(colon) = memchr::memchr(b':', line) {
                let (name, value) = (&line[..colon], super::bytes::trim(&line[colon + 1..]));
                if !is_of_connection(Name::recognise(name)) {
                    self.add(name, value);
                }
            }
        }
    }

    /// The same of a request; Host goes where the authority is kept.
    fn add_request_lines(&mut self, lines: &[u8], authority: &mut Option<Bytes>) {
        for line in each_line(lines) {
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let (name, value) = (&line[..colon], super::bytes::trim(&line[colon + 1..]));
            match Name::recognise(name) {
                Name::Host => *authority = Some(Bytes::copy_from_slice(value)),
                // Framing is ours.
                Name::ContentLength => {}
                id if is_of_connection(id) => {}
                id => self.append(name, secret(id, HeaderValue::from_bytes(value).ok())),
            }
        }
    }

    fn done(self) -> (HeaderMap, u64) {
        (self.map, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::{Field, HeadBuf, Span, Version};

    fn response(status: u16, lines: &[(&str, &str)]) -> ResponseHead {
        let mut buf = Box::new(HeadBuf::default());
        buf.bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        for (name, value) in lines {
            let start = buf.bytes.len();
            buf.bytes.extend_from_slice(name.as_bytes());
            let colon = buf.bytes.len();
            buf.bytes.extend_from_slice(b": ");
            buf.bytes.extend_from_slice(value.as_bytes());
            let field = Field {
                name: Span::new(start, colon),
                value: Span::new(colon + 2, buf.bytes.len()),
                id: Name::recognise(name.as_bytes()),
            };
            buf.bytes.extend_from_slice(b"\r\n");
            buf.push(field);
        }
        buf.bytes.extend_from_slice(b"\r\n");
        ResponseHead {
            buf,
            version: Version::H11,
            status,
            reason: Span::default(),
        }
    }

    fn texts(map: &HeaderMap) -> Vec<String> {
        map.iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect()
    }

    #[test]
    fn a_response_loses_what_speaks_of_the_connection_and_keeps_repeated_fields_in_order() {
        let head = response(
            200,
            &[
                ("Server", "x"),
                ("Connection", "close"),
                ("Set-Cookie", "a=1"),
                ("Keep-Alive", "timeout=5"),
                ("Set-Cookie", "b=2"),
                ("Content-Length", "7"),
                ("X-Gone", "1"),
            ],
        );
        let mut edits = Edits::default();
        edits.drop_index(6);
        edits.add(b"X-Added", b"y");
        edits.add(b"Connection", b"close");
        let (map, bytes) = of_response(&head, &edits, BodyKind::Length(7));
        assert_eq!(
            texts(&map),
            [
                "server: x",
                "set-cookie: a=1",
                "set-cookie: b=2",
                "content-length: 7",
                "x-added: y"
            ]
        );
        assert_eq!(
            bytes,
            texts(&map).iter().map(|line| line.len() as u64 + 2).sum::<u64>()
        );
    }

    #[test]
    fn a_length_stays_only_where_it_is_true() {
        let says = |status, body| {
            let head = response(status, &[("Content-Length", "7")]);
            !of_response(&head, &Edits::default(), body).0.is_empty()
        };
        assert!(says(200, BodyKind::Length(7)));
        assert!(says(200, BodyKind::None), "the answer to HEAD");
        assert!(says(304, BodyKind::None));
        assert!(!says(204, BodyKind::None));
        assert!(!says(200, BodyKind::Chunked));
        assert!(!says(200, BodyKind::UntilClose));
    }

    #[test]
    fn a_response_of_our_own_says_nothing_of_the_connection() {
        let (map, _) = of_own(&[("Connection", b"close"), ("Retry-After", b"1")], Some(0));
        assert_eq!(texts(&map), ["retry-after: 1", "content-length: 0"]);
    }

    #[test]
    fn trailers_that_mean_something_in_a_head_are_left_out() {
        let map = map_of_lines(b"Grpc-Status: 0\r\nContent-Length: 5\r\nx-sum: a b\r\n");
        let lines = trailer_lines(&map);
        assert_eq!(lines, b"grpc-status: 0\r\nx-sum: a b\r\n");
        assert_eq!(texts(&passed_on(&map)), ["grpc-status: 0", "x-sum: a b"]);
    }

    fn asked(edit: impl FnOnce(&HeadBuf, &mut Edits), body: BodyKind) -> RequestFields {
        let mut buf = Box::new(HeadBuf::default());
        buf.bytes.extend_from_slice(b"POST /a?b HTTP/1.1\r\n");
        for (name, value) in [
            ("Host", "Example.com:8080"),
            ("Connection", "x-private, te"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Cookie", "a=1"),
            ("X-A", "1"),
        ] {
            let start = buf.bytes.len();
            buf.bytes
                .extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            let end = start + name.len();
            buf.push(Field {
                name: Span::new(start, end),
                value: Span::new(end + 2, end + 2 + value.len()),
                id: Name::recognise(name.as_bytes()),
            });
        }
        buf.bytes.extend_from_slice(b"\r\n");
        let head = RequestHead {
            method: crate::message::head::Method::Post,
            method_text: Span::new(0, 4),
            target: Span::new(5, 9),
            version: Version::H11,
            buf,
        };
        let mut edits = Edits::default();
        edit(&head.buf, &mut edits);
        of_request(&head, &edits, body, true).unwrap()
    }

    #[test]
    fn a_request_has_its_host_as_authority_and_nothing_of_the_connection() {
        let sent = asked(
            |_, edits| {
                edits.add(b"TE", b"trailers");
                edits.add(b"Connection", b"TE");
                edits.add(b"X-Request-Id", b"7");
            },
            BodyKind::Chunked,
        );
        assert_eq!(sent.uri, "https://Example.com:8080/a?b");
        assert_eq!(sent.method, Method::POST);
        let expected = ["cookie: a=1", "x-a: 1", "te: trailers", "x-request-id: 7"];
        assert_eq!(texts(&sent.fields), expected);
        assert!(sent.fields["cookie"].is_sensitive() && !sent.fields["x-a"].is_sensitive());
    }

    #[test]
    fn edits_of_a_request_win_and_its_length_is_the_bodys() {
        let sent = asked(
            |head, edits| {
                edits.drop_named(head, b"host");
                edits.add(b"Host", b"api.internal");
                edits.add(b"Content-Length", b"99");
                edits.set_target(b"/other");
            },
            BodyKind::Length(4),
        );
        assert_eq!(sent.uri, "https://api.internal/other");
        assert_eq!(
            texts(&sent.fields),
            ["cookie: a=1", "x-a: 1", "content-length: 4"]
        );
    }
}
