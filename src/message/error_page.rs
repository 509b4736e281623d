//! The page that goes with an error: text, HTML or JSON as the client prefers, or the operator's own.
//!
//! Pages stand alone (no scripts, no other files), and nothing of the request but its id gets into them.

use crate::message::status::reason;
use crate::message::token::Token;
use std::path::Path;

#[cfg(test)]
mod tests;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// The kinds of page, in the order in which they are taken when a client does not care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Html,
    Json,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Text, Self::Html, Self::Json];

    const fn media_type(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Text => (b"text", b"plain"),
            Self::Html => (b"text", b"html"),
            Self::Json => (b"application", b"json"),
        }
    }
}

/// Writes the page for an error and gives its content type.
///
/// `accept` is the request's Accept field; with several fields, the first. Text is sent where nothing is
/// accepted by name or at all: an error page in the wrong kind is better than none.
pub fn render(
    status: u16,
    token: Token,
    request_id: &[u8],
    accept: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> &'static str {
    out.clear();
    let page = Page {
        status,
        token,
        request_id,
    };
    match preferred(accept.unwrap_or_default()) {
        Kind::Text => page.text(out),
        Kind::Html => page.html(out),
        Kind::Json => page.json(out),
    }
}

/// What to try, for the client's side of the wire. Empty where there is nothing to do but wait.
const fn hint(token: Token) -> &'static str {
    match token {
        Token::BadRequest | Token::BadHost | Token::BadFraming => {
            "Send a request that conforms to HTTP; the gateway's access log names the defect."
        }
        Token::BadHandshake => {
            "Send the handshake that RFC 6455 asks for; a proxy in front has to pass Connection and Upgrade on."
        }
        Token::UpgradeRequired => "Use version 13.",
        Token::Unauthorized => "Send credentials.",
        Token::Denied => "Ask the operator for access.",
        Token::NoRoute | Token::Misdirected => "Check the host name and the path.",
        Token::MethodNotAllowed => "Use another method.",
        Token::RequestTimeout => "Send the request without pauses.",
        Token::BodyTooLarge => "Send a smaller body.",
        Token::UriTooLong => "Use a shorter URL.",
        Token::ExpectationFailed => "Send the request without the Expect header.",
        Token::RateLimited => "Send fewer requests.",
        Token::HeadersTooLarge => "Send fewer or smaller headers; clearing the site's cookies often helps.",
        Token::NotImplemented => "Use the chunked transfer coding or a Content-Length.",
        Token::HttpVersion => "Use HTTP/1.1.",
        Token::Internal => "Tell the operator, with the request id.",
        Token::ConnectFailed
        | Token::TlsFailed
        | Token::DnsFailed
        | Token::UpstreamReset
        | Token::BadResponse
        | Token::UpgradeRefused
        | Token::NoEndpoint
        | Token::BreakerOpen
        | Token::Overloaded
        | Token::StickyMissing
        | Token::Draining
        | Token::ConnectTimeout
        | Token::ResponseTimeout
        | Token::Deadline
        | Token::AbortedUpstream => "Try again in a moment.",
        Token::ClientClosed | Token::AbortedClient => "",
    }
}

/// The heading of a page.
fn title(status: u16) -> &'static str {
    match reason(status) {
        "" => "Error",
        reason => reason,
    }
}

struct Page<'a> {
    status: u16,
    token: Token,
    request_id: &'a [u8],
}

impl Page<'_> {
    fn text(&self, out: &mut Vec<u8>) -> &'static str {
        push_number(self.status, out);
        push_all(&[" ", title(self.status), "\n", self.token.text(), "\n"], out);
        push_all(&["error: ", self.token.name(), "\n"], out);
        if !self.request_id.is_empty() {
            push_all(&["request id: "], out);
            out.extend(self.request_id.iter().filter(|b| !b.is_ascii_control()));
            out.push(b'\n');
        }
        TEXT
    }

    fn html(&self, out: &mut Vec<u8>) -> &'static str {
        let title = title(self.status);
        push_all(
            &["<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"],
            out,
        );
        push_all(
            &["<meta name=\"viewport\" content=\"width=device-width\">\n<title>"],
            out,
        );
        push_number(self.status, out);
        push_all(
            &[
                " ",
                title,
                "</title>\n<style>",
                STYLE,
                "</style>\n</head>\n<body>\n<main>\n<h1>",
            ],
            out,
        );
        push_number(self.status, out);
        push_all(&[" ", title, "</h1>\n<p>"], out);
        escape_html(self.token.text().as_bytes(), out);
        if !hint(self.token).is_empty() {
            push_all(&[" "], out);
            escape_html(hint(self.token).as_bytes(), out);
        }
        push_all(&["</p>\n<p><code>", self.token.name(), "</code>"], out);
        if !self.request_id.is_empty() {
            push_all(&[" · request id <code>"], out);
            escape_html(self.request_id, out);
            push_all(&["</code>"], out);
        }
        push_all(&["</p>\n</main>\n</body>\n</html>\n"], out);
        HTML
    }

    fn json(&self, out: &mut Vec<u8>) -> &'static str {
        push_all(
            &["{\"error\":{\"code\":\"", self.token.name(), "\",\"message\":\""],
            out,
        );
        escape_json(self.token.text().as_bytes(), out);
        push_all(&["\",\"hint\":\""], out);
        escape_json(hint(self.token).as_bytes(), out);
        push_all(&["\",\"request_id\":\""], out);
        escape_json(self.request_id, out);
        push_all(&["\"}}\n"], out);
        JSON
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36em;padding:0 1em;\
color:#222;background:#fff}h1{font-size:1.4em}code{font-size:.9em}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

fn push_all(texts: &[&str], out: &mut Vec<u8>) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

fn push_number(number: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Escapes for text and quoted attributes. Bytes that are no UTF-8 become the replacement character.
fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '&' => push_all(&["&amp;"], out),
            '<' => push_all(&["&lt;"], out),
            '>' => push_all(&["&gt;"], out),
            '"' => push_all(&["&quot;"], out),
            '\'' => push_all(&["&#39;"], out),
            c if c.is_control() => {}
            c => push_all(&[c.encode_utf8(&mut [0; 4])], out),
        }
    }
}

/// Escapes for a JSON string, which may itself stand in HTML: `<` is escaped too.
fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' => push_all(&["\\\""], out),
            '\\' => push_all(&["\\\\"], out),
            '<' => push_all(&["\\u003c"], out),
            c if c.is_control() => {}
            c => push_all(&[c.encode_utf8(&mut [0; 4])], out),
        }
    }
}

/// How much a client wants a kind of page. Compared field by field: quality, then how exactly the range names
/// the kind, then earlier in the list.
type Preference = (u16, u8, std::cmp::Reverse<usize>);

/// The kind that the Accept field prefers (RFC 9110 section 12.5.1).
fn preferred(accept: &[u8]) -> Kind {
    let mut best = (Kind::Text, (0, 0, std::cmp::Reverse(usize::MAX)));
    for kind in Kind::ALL {
        if let Some(preference) = preference(accept, kind)
            && preference.0 > 0
            && preference > best.1
        {
            best = (kind, preference);
        }
    }
    best.0
}

/// The quality that the most exact range naming this kind gives it.
fn preference(accept: &[u8], kind: Kind) -> Option<Preference> {
    let (wanted, wanted_sub) = kind.media_type();
    let ranges = accept
        .split(|&b| b == b',')
        .enumerate()
        .filter_map(|(place, range)| {
            let mut parts = range.split(|&b| b == b';');
            let (main, sub) = split_type(parts.next()?.trim_ascii())?;
            let exactness = match (main, sub) {
                (b"*", b"*") => 0,
                (main, b"*") if main.eq_ignore_ascii_case(wanted) => 1,
                (main, sub) if main.eq_ignore_ascii_case(wanted) && sub.eq_ignore_ascii_case(wanted_sub) => 2,
                _ => return None,
            };
            let quality = parts.find_map(quality).unwrap_or(1000);
            Some((exactness, std::cmp::Reverse(place), quality))
        });
    let (exactness, place, quality) = ranges.max()?;
    Some((quality, exactness, place))
}

fn split_type(range: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = memchr::memchr(b'/', range)?;
    Some((&range[..slash], &range[slash + 1..]))
}

/// A parameter `q=0.8` in thousandths; `None` for other parameters. What cannot be read is no wish at all.
fn quality(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let value = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let value = std::str::from_utf8(value)
        .ok()
        .and_then(|v| v.parse::<f32>().ok());
    let value = value.filter(|v| (0.0..=1.0).contains(v)).unwrap_or(0.0);
    Some((value * 1000.0) as u16)
}

/// The operator's own page for a status. `${status}`, `${token}` and `${request_id}` in it are replaced, escaped
/// for the kind of file; any other `$` is text, since pages carry style and script of their own.
#[derive(Clone, Debug)]
pub struct OwnPage {
    bytes: Box<[u8]>,
    kind: Option<Kind>,
    content_type: &'static str,
}

/// Extension to content type, for own pages; anything else is served as bytes without variables.
const EXTENSIONS: [(&str, Option<Kind>, &str); 7] = [
    ("html", Some(Kind::Html), HTML),
    ("htm", Some(Kind::Html), HTML),
    ("txt", Some(Kind::Text), TEXT),
    ("md", Some(Kind::Text), TEXT),
    ("json", Some(Kind::Json), JSON),
    ("xml", Some(Kind::Html), "application/xml"),
    ("svg", Some(Kind::Html), "image/svg+xml"),
];

impl OwnPage {
    /// A page from a file's name and content.
    #[must_use]
    pub fn new(path: &Path, bytes: Vec<u8>) -> Self {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let known = EXTENSIONS
            .iter()
            .find(|(text, ..)| text.eq_ignore_ascii_case(extension));
        let (kind, content_type) = known.map_or((None, "application/octet-stream"), |(_, kind, text)| {
            (*kind, *text)
        });
        Self {
            bytes: bytes.into_boxed_slice(),
            kind,
            content_type,
        }
    }

    /// Writes the page and gives its content type.
    pub fn render(&self, status: u16, token: Token, request_id: &[u8], out: &mut Vec<u8>) -> &'static str {
        out.clear();
        let Some(kind) = self.kind else {
            out.extend_from_slice(&self.bytes);
            return self.content_type;
        };
        let mut rest = &*self.bytes;
        while let Some(at) = memchr::memchr(b'$', rest) {
            let (text, from) = rest.split_at(at);
            out.extend_from_slice(text);
            if let Some(after) = from.strip_prefix(b"${status}") {
                push_number(status, out);
                rest = after;
            } else if let Some(after) = from.strip_prefix(b"${token}") {
                push_all(&[token.name()], out);
                rest = after;
            } else if let Some(after) = from.strip_prefix(b"${request_id}") {
                match kind {
                    Kind::Text => out.extend(request_id.iter().filter(|b| !b.is_ascii_control())),
                    Kind::Html => escape_html(request_id, out),
                    Kind::Json => escape_json(request_id, out),
                }
                rest = after;
            } else {
                out.push(b'$');
                rest = &from[1..];
            }
        }
        out.extend_from_slice(rest);
        self.content_type
    }
}
