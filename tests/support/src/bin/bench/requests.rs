//! What goes over the wire: the same bytes for every proxy.
//!
//! The small request is what a browser sends (13 header lines, about 830 bytes); the answer is an API's (128 bytes
//! of body under ten header lines).

/// The example key of RFC 6455 1.3 and its answer, so that nothing here needs SHA-1.
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const SMALL_BODY: usize = 128;
pub const LARGE_BODY: usize = 1 << 20;
pub const UPLOAD_ANSWER: usize = 2;
/// Payload of an echoed message.
pub const ECHO: usize = 64;

const BROWSER: &str = "Host: bench.test\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-US,en;q=0.9,de;q=0.8\r\n\
Cookie: session=0f3b6c1d9a7e42588b1c7d5e2f904a6b.c2FtcGxlLXNlc3Npb24tdmFsdWUtb2Ytb3JkaW5hcnktbGVuZ3Ro.9d8c7b6a5f4e3d2c; \
theme=dark; _ga=GA1.2.1234567890.1700000000; _gid=GA1.2.987654321.1700000000; csrftoken=8f14e45fceea167a5a36dedd4bea2543\r\n\
Referer: https://bench.test/catalog/items?page=6&sort=asc\r\n\
Cache-Control: max-age=0\r\n\
Sec-Fetch-Dest: document\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-Site: same-origin\r\n\
X-Request-Start: t=1700000000000\r\n\
DNT: 1\r\n";

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path}?id=42&page=7 HTTP/1.1\r\n{BROWSER}\r\n").into_bytes()
}

pub fn upload() -> Vec<u8> {
    let lines = format!("Content-Type: application/octet-stream\r\nContent-Length: {LARGE_BODY}\r\n");
    let mut request = format!("POST /upload?id=42 HTTP/1.1\r\n{BROWSER}{lines}\r\n").into_bytes();
    request.resize(request.len() + LARGE_BODY, b'u');
    request
}

pub fn websocket() -> Vec<u8> {
    let lines = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n"
    );
    format!("GET /ws HTTP/1.1\r\n{BROWSER}{lines}\r\n").into_bytes()
}

/// A response with a body of `length` bytes.
pub fn answer(length: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\n\
         Server: origin/1.0\r\n\
         Date: Fri, 20 Nov 2026 21:00:00 GMT\r\n\
         Content-Type: application/json; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         Cache-Control: private, max-age=0, must-revalidate\r\n\
         ETag: \"5f1c-9b8e7a6d5c4b3a29\"\r\n\
         Vary: Accept-Encoding, Cookie\r\n\
         X-Request-Id: 7c9e6679-7425-40de-944b-e07fc1f90ae7\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Strict-Transport-Security: max-age=31536000\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

/// What the origin answers to an upgrade.
pub fn switch() -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
    )
    .into_bytes()
}

/// A masked binary message as a client sends it, and the same message as the server echoes it.
pub fn echo_frames() -> (Vec<u8>, Vec<u8>) {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let payload = [b'q'; ECHO];
    let mut sent = vec![0x82, 0x80 | ECHO as u8];
    sent.extend(mask);
    sent.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    let mut echoed = vec![0x82, ECHO as u8];
    echoed.extend(payload);
    (sent, echoed)
}

/// End of the head, after its empty line.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    if bytes.ends_with(b"\r\n\r\n") && bytes.len() < 2048 {
        // The usual case: one message without a body fills the read. A second head in it would be pipelining, which
        // no load here does.
        return Some(bytes.len());
    }
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The value of `Content-Length`, 0 without one.
pub fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME));
    let text = line.and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
