//! A request's head from HTTP/2, in the form that every head has here: as HTTP/1.1 would have written it.
//!
//! The authority becomes Host, the crumbs of Cookie are joined (RFC 9113 sections 8.3.1 and 8.2.3), and from then on
//! there is one routing, one policy and one log for both. Names come in lower case and without those of the
//! connection, pseudo-fields in their order: who reads the frames has seen to that and resets the stream otherwise
//! (section 8.1.1).

use super::bytes::{is_target, is_token};
use super::fields::is_of_connection;
use super::head::{Field, HeadBuf, Method, RequestHead, ResponseHead, Span, Version};
use super::names::Name;
use super::scan::plain_name_len;
use super::status::reason;
use super::token::{Reject, Token};
use http::request::Parts;
use http::{HeaderMap, header};

/// Bounds of a head, as text.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub head_bytes: usize,
    pub fields: usize,
    pub target_bytes: usize,
}

/// What an extended CONNECT asks for (RFC 8441), and the key of the handshake that HTTP/1.1 would have begun it with.
#[derive(Clone, Copy, Debug)]
pub struct Extended<'a> {
    pub protocol: &'a str,
    pub key: &'a str,
}

/// Writes a head into the buffer; an extended CONNECT as the GET with Upgrade that it stands for.
///
/// # Errors
/// `uri_too_long`, `headers_too_large`; `bad_host` where Host and the authority are at odds; `bad_request` for what is
/// no target, or no field.
pub fn request(
    parts: &Parts,
    extended: Option<Extended<'_>>,
    most: Most,
    mut buf: Box<HeadBuf>,
) -> Result<RequestHead, (Reject, Box<HeadBuf>)> {
    buf.clear();
    match write(parts, extended, most, &mut buf) {
        Ok((method_text, target)) => Ok(RequestHead {
            method: Method::recognise(method_text.of(&buf.bytes)),
            buf,
            method_text,
            target,
            version: Version::H2,
        }),
        Err(reject) => Err((reject, buf)),
    }
}

/// Writes the head of an endpoint's response into the buffer; `target_bytes` does not matter.
///
/// # Errors
/// `bad_response`: it is larger than allowed, or has a field that can't be passed on.
pub fn response(
    status: u16,
    headers: &HeaderMap,
    most: Most,
    mut buf: Box<HeadBuf>,
) -> Result<ResponseHead, (Reject, Box<HeadBuf>)> {
    buf.clear();
    let bytes = &mut buf.bytes;
    bytes.extend_from_slice(b"HTTP/2.0 ");
    bytes.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    bytes.push(b' ');
    let start = bytes.len();
    bytes.extend_from_slice(reason(status).as_bytes());
    let reason = Span::new(start, bytes.len());
    bytes.extend_from_slice(b"\r\n");
    if let Err(reject) = response_fields(headers, most, &mut buf) {
        return Err((reject, buf));
    }
    buf.bytes.extend_from_slice(b"\r\n");
    Ok(ResponseHead {
        buf,
        version: Version::H2,
        status,
        reason,
    })
}

fn response_fields(headers: &HeaderMap, most: Most, buf: &mut HeadBuf) -> Result<(), Reject> {
    for (name, value) in headers {
        let name = name.as_str().as_bytes();
        let id = recognise(name).unwrap_or(Name::Other);
        if is_of_connection(id) {
            let detail = "a field of the connection in HTTP/2";
            return Err(Reject::new(Token::BadResponse, detail));
        }
        push(buf, most, name, id, value.as_bytes()).map_err(|reject| match reject.token {
            Token::HeadersTooLarge => {
                Reject::new(Token::BadResponse, "the head of the response is too large")
            }
            _ => Reject::new(Token::BadResponse, reject.detail),
        })?;
    }
    Ok(())
}

fn write(
    parts: &Parts,
    extended: Option<Extended<'_>>,
    most: Most,
    buf: &mut HeadBuf,
) -> Result<(Span, Span), Reject> {
    let method = match extended {
        Some(_) => b"GET",
        None => parts.method.as_str().as_bytes(),
    };
    let authority = parts.uri.authority().map_or("", http::uri::Authority::as_str);
    let target = match parts.uri.path_and_query() {
        Some(target) if !target.as_str().is_empty() => target.as_str(),
        _ if parts.method == http::Method::CONNECT && extended.is_none() => authority,
        _ => "/",
    };
    if target.len() > most.target_bytes {
        return Err(Reject::new(
            Token::UriTooLong,
            "the path is longer than `limits.uri_bytes`",
        ));
    }
    if !is_target(target.as_bytes()) {
        return Err(Reject::new(
            Token::BadRequest,
            "the path has a byte that may not stand in one",
        ));
    }
    buf.fields.reserve(parts.headers.len() + 1);
    let bytes = &mut buf.bytes;
    bytes.extend_from_slice(method);
    bytes.push(b' ');
    bytes.extend_from_slice(target.as_bytes());
    bytes.extend_from_slice(b" HTTP/2.0\r\n");
    let method_text = Span::new(0, method.len());
    let target = Span::new(method.len() + 1, method.len() + 1 + target.len());
    if let Some(host) = host(&parts.headers, authority)? {
        push(buf, most, b"host", Name::Host, host)?;
    }
    if let Some(Extended { protocol, key }) = extended {
        // The engine takes any text for one; as a field it could end its line.
        if !is_token(protocol.as_bytes()) {
            return Err(Reject::new(Token::BadRequest, "a protocol that is none"));
        }
        push(buf, most, b"connection", Name::Connection, b"upgrade")?;
        push(buf, most, b"upgrade", Name::Upgrade, protocol.as_bytes())?;
        push(
            buf,
            most,
            b"sec-websocket-key",
            Name::SecWebsocketKey,
            key.as_bytes(),
        )?;
    }
    fields(&parts.headers, extended.is_some(), most, buf)?;
    buf.bytes.extend_from_slice(b"\r\n");
    Ok((method_text, target))
}

/// What Host is to say: the authority, and Host itself where there is none.
fn host<'a>(headers: &'a HeaderMap, authority: &'a str) -> Result<Option<&'a [u8]>, Reject> {
    let mut named = headers.get_all(header::HOST).iter();
    let first = named.next().map(http::HeaderValue::as_bytes);
    if named.next().is_some() {
        return Err(Reject::new(Token::BadHost, "Host more than once"));
    }
    match (authority.as_bytes(), first) {
        (b"", named) => Ok(named),
        (authority, Some(named)) if !named.eq_ignore_ascii_case(authority) => {
            Err(Reject::new(Token::BadHost, "Host is not the authority"))
        }
        (authority, _) => Ok(Some(authority)),
    }
}

fn fields(headers: &HeaderMap, extended: bool, most: Most, buf: &mut HeadBuf) -> Result<(), Reject> {
    let mut cookie_joined = false;
    // Nearly always each name is there once.
    let repeats = headers.len() > headers.keys_len();
    for (name, value) in headers {
        let name = name.as_str().as_bytes();
        let Some(id) = recognise(name) else {
            return Err(Reject::new(Token::BadRequest, "a name that is none"));
        };
        match id {
            Name::Host => {}
            // It has no meaning in HTTP/2 (RFC 8441 section 5), and here it is ours.
            Name::SecWebsocketKey if extended => {}
            Name::Cookie if cookie_joined => {}
            Name::Cookie if repeats => {
                cookie_joined = true;
                push(buf, most, name, id, &cookie(headers)?)?;
            }
            id if is_of_connection(id) => {
                return Err(Reject::new(
                    Token::BadRequest,
                    "a field of the connection in HTTP/2",
                ));
            }
            id => push(buf, most, name, id, value.as_bytes())?,
        }
    }
    Ok(())
}

/// Between the crumbs of Cookie.
const JOINT: &[u8] = b"; ";

/// The crumbs of Cookie, joined.
fn cookie(headers: &HeaderMap) -> Result<Vec<u8>, Reject> {
    let mut joined = Vec::new();
    for (index, crumb) in headers.get_all(header::COOKIE).iter().enumerate() {
        if is_surrounded(crumb.as_bytes()) {
            return Err(surrounded());
        }
        if index > 0 {
            joined.extend_from_slice(JOINT);
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    Ok(joined)
}

/// Which name this is, one that the engine has read: in lower case, and without any control character. `None`: what
/// reads the head next does not take it for one.
#[inline]
fn recognise(name: &[u8]) -> Option<Name> {
    match Name::recognise_plain(name) {
        Name::Other if plain_name_len(name) < name.len() => recognise_unusual(name),
        id => Some(id),
    }
}

/// The engine takes a quotation mark for a letter of a name.
#[cold]
fn recognise_unusual(name: &[u8]) -> Option<Name> {
    is_token(name).then(|| match name.contains(&b'_') {
        true => Name::Underscored,
        false => Name::Other,
    })
}

/// Appends a field.
#[inline]
fn push(buf: &mut HeadBuf, most: Most, name: &[u8], id: Name, value: &[u8]) -> Result<(), Reject> {
    let line = name.len() + value.len() + ": \r\n".len();
    let bytes = buf.bytes.len() + line + JOINT.len();
    if bytes > most.head_bytes || buf.fields.len() >= most.fields.min(HeadBuf::MAX_FIELDS) {
        return Err(too_large());
    }
    if is_surrounded(value) {
        return Err(surrounded());
    }
    let bytes = &mut buf.bytes;
    bytes.reserve(line);
    let start = bytes.len();
    bytes.extend_from_slice(name);
    let name = Span::new(start, bytes.len());
    bytes.extend_from_slice(b": ");
    let start = bytes.len();
    bytes.extend_from_slice(value);
    let value = Span::new(start, bytes.len());
    bytes.extend_from_slice(b"\r\n");
    buf.push(Field { name, value, id });
    Ok(())
}

#[inline]
const fn is_surrounded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

#[cold]
const fn too_large() -> Reject {
    Reject::new(
        Token::HeadersTooLarge,
        "the head is larger than `limits.header_bytes` and `limits.headers` allow",
    )
}

#[cold]
const fn surrounded() -> Reject {
    Reject::new(Token::BadRequest, "a value begins or ends with a space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const MOST: Most = Most {
        head_bytes: 1024,
        fields: 8,
        target_bytes: 64,
    };

    fn flat(builder: http::request::Builder) -> Result<RequestHead, Reject> {
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        request(&parts, None, MOST, Box::default()).map_err(|(reject, _)| reject)
    }

    fn text(head: &RequestHead) -> &str {
        std::str::from_utf8(&head.buf.bytes).unwrap()
    }

    #[test]
    fn a_head_reads_as_http_1_would_have_written_it() {
        let head = flat(
            Request::get("https://example.com/a?b=c")
                .header("cookie", "a=1")
                .header("accept", "*/*")
                .header("cookie", "b=2")
                .header("cookie", "c=3"),
        )
        .unwrap();
        assert_eq!(
            text(&head),
            "GET /a?b=c HTTP/2.0\r\nhost: example.com\r\ncookie: a=1; b=2; c=3\r\naccept: */*\r\n\r\n"
        );
        assert_eq!(head.method, Method::Get);
        assert_eq!(head.target(), b"/a?b=c");
        assert_eq!(head.buf.get(Name::Host), Some(&b"example.com"[..]));
        assert_eq!(head.buf.get(Name::Cookie), Some(&b"a=1; b=2; c=3"[..]));
        assert_eq!(
            head.buf.line_end(head.buf.fields.len() - 1),
            head.buf.bytes.len() - 2
        );
    }

    #[test]
    fn host_and_authority_must_agree_and_either_is_enough() {
        let host = |builder: http::request::Builder| {
            flat(builder).map(|head| {
                head.buf
                    .get(Name::Host)
                    .map(|host| String::from_utf8(host.to_vec()).unwrap())
            })
        };
        assert_eq!(
            host(Request::get("http://a.example/").header("host", "A.example"))
                .unwrap()
                .as_deref(),
            Some("a.example")
        );
        assert_eq!(
            host(Request::get("/").header("host", "b.example"))
                .unwrap()
                .as_deref(),
            Some("b.example")
        );
        assert_eq!(host(Request::get("/")).unwrap(), None);
        for wrong in [
            Request::get("http://a.example/").header("host", "b.example"),
            Request::get("http://a.example/")
                .header("host", "a.example")
                .header("host", "a.example"),
        ] {
            assert_eq!(host(wrong).unwrap_err().token, Token::BadHost);
        }
    }

    #[test]
    fn bounds_are_held_on_the_text() {
        let long = "x".repeat(1000);
        let refused = |builder| flat(builder).unwrap_err().token;
        assert_eq!(refused(Request::get(format!("/{long}"))), Token::UriTooLong);
        assert_eq!(
            refused(Request::get("/").header("x", long.repeat(2))),
            Token::HeadersTooLarge
        );
        let many = (0..9).fold(Request::get("/"), |builder, i| {
            builder.header(format!("x-{i}"), "1")
        });
        assert_eq!(refused(many), Token::HeadersTooLarge);
    }

    #[test]
    fn what_cannot_be_passed_on_as_it_means_is_refused() {
        let refused = |builder| flat(builder).unwrap_err().token;
        assert_eq!(
            refused(Request::get("/").header("connection", "x")),
            Token::BadRequest
        );
        assert_eq!(
            refused(Request::get("/").header("transfer-encoding", "chunked")),
            Token::BadRequest
        );
        assert_eq!(refused(Request::get("/").header("x", "a ")), Token::BadRequest);
        let quoted = header::HeaderName::from_lowercase(b"x\"y").unwrap();
        assert_eq!(refused(Request::get("/").header(quoted, "a")), Token::BadRequest);
        assert_eq!(refused(Request::get("/{a}")), Token::BadRequest);
    }

    #[test]
    fn an_extended_connect_is_the_handshake_that_it_stands_for() {
        let extended = Extended {
            protocol: "websocket",
            key: "AAAAAAAAAAAAAAAAAAAAAA==",
        };
        let (parts, ()) = Request::connect("https://a.example/chat?x=1")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "of no meaning")
            .body(())
            .unwrap()
            .into_parts();
        let head = request(&parts, Some(extended), MOST, Box::default()).unwrap();
        assert_eq!(
            text(&head),
            "GET /chat?x=1 HTTP/2.0\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n"
        );
        assert_eq!(head.method, Method::Get);
    }

    #[test]
    fn connect_names_its_authority() {
        let (parts, ()) = Request::connect("a.example:443").body(()).unwrap().into_parts();
        let head = request(&parts, None, MOST, Box::default()).unwrap();
        assert_eq!(head.target(), b"a.example:443");
        assert_eq!(head.method, Method::Connect);
    }

    #[test]
    fn a_response_reads_as_http_1_would_have_written_it() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", "a=1".parse().unwrap());
        headers.append("x-a", "1".parse().unwrap());
        headers.append("set-cookie", "b=2".parse().unwrap());
        let head = response(404, &headers, MOST, Box::default()).unwrap();
        let text = std::str::from_utf8(&head.buf.bytes).unwrap();
        let expected = "HTTP/2.0 404 Not Found\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-a: 1\r\n\r\n";
        assert_eq!(text, expected);
        assert_eq!((head.status, head.reason()), (404, &b"Not Found"[..]));
        headers.append("x-long", "x".repeat(2000).parse().unwrap());
        let (reject, _) = response(200, &headers, MOST, Box::default()).unwrap_err();
        assert_eq!(reject.token, Token::BadResponse);
        let mut headers = HeaderMap::new();
        headers.append("connection", "close".parse().unwrap());
        let (reject, _) = response(200, &headers, MOST, Box::default()).unwrap_err();
        assert_eq!(reject.token, Token::BadResponse);
    }
}
