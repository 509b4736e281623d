//! The values of variables, written into the line.

use super::clock::{TimeFormat, push_seconds, push_time};
use super::escape::Escape;
use super::redact::Redact;
use super::variables::{Announced, FieldName, Plain, Variable};
use crate::message::head::{HeadBuf, RequestHead};
use crate::message::names::Name;
use crate::telemetry::access::{
    AccessRecord, AnnouncedRecord, AttemptRecord, EndedBy, Outcome, TlsClientRecord, TlsRecord,
};
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Instant;

/// What is known before any request.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) pid: u32,
    pub(super) hostname: Box<[u8]>,
}

impl Host {
    pub(super) fn this() -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            pid: std::process::id(),
            hostname: hostname.trim().as_bytes().into(),
        }
    }
}

/// Writes one value: everything that a client or an endpoint had a hand in goes through `text` or `uri`.
pub(super) struct Value<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) escape: Escape,
    pub(super) redact: &'a Redact,
}

impl Value<'_> {
    fn text(&mut self, bytes: &[u8]) {
        self.escape.push(self.out, bytes);
    }

    fn uri(&mut self, bytes: &[u8]) {
        let Self { out, escape, redact } = self;
        redact.uri(bytes, |piece| escape.push(out, piece));
    }

    fn query(&mut self, bytes: &[u8]) {
        let Self { out, escape, redact } = self;
        redact.query(bytes, |piece| escape.push(out, piece));
    }

    fn number(&mut self, n: u64) {
        push_number(self.out, n);
    }

    pub(super) fn variable(&mut self, variable: &Variable, record: &AccessRecord<'_>, host: &Host) {
        let before = self.out.len();
        match variable {
            Variable::Plain(plain) => self.plain(*plain, record, host),
            Variable::Header(name) => {
                if let Some(request) = record.request {
                    self.fields(&request.buf, name);
                }
            }
            Variable::UpstreamHeader(name) => {
                if let Some(response) = record.response {
                    self.fields(&response.buf, name);
                }
            }
            Variable::Cookie(name) => self.text(cookie(record, name).unwrap_or_default()),
            Variable::Argument(name) => self.argument(record, name),
        }
        if self.out.len() == before {
            self.out.extend_from_slice(self.escape.absent());
        }
    }

    fn plain(&mut self, plain: Plain, record: &AccessRecord<'_>, host: &Host) {
        let request = record.request;
        match plain {
            Plain::RemoteAddr => push_ip(self.out, record.client),
            Plain::RemotePort => {
                let announced = record.announced.and_then(|announced| announced.source);
                self.optional(announced.or(record.peer).map(|p| p.port()));
            }
            Plain::RealipRemoteAddr => record.peer.iter().for_each(|p| push_ip(self.out, p.ip())),
            Plain::ProxyProtocol(what) => {
                if let Some(announced) = &record.announced {
                    self.announced(what, announced);
                }
            }
            Plain::RemoteUser => self.remote_user(request),
            Plain::TimeLocal => push_time(self.out, record.time, TimeFormat::Common),
            Plain::TimeIso8601 => push_time(self.out, record.time, TimeFormat::Iso8601),
            Plain::Msec => push_time(self.out, record.time, TimeFormat::Unix),
            Plain::Request => self.request_line(request),
            Plain::RequestMethod => self.text(request.map_or(b"", RequestHead::method_text)),
            Plain::RequestUri => self.uri(request.map_or(b"", |r| origin_form(r.target()))),
            Plain::Uri => self.text(record.path),
            Plain::Args => self.query(query(record)),
            Plain::IsArgs => self.text(if query(record).is_empty() { b"" } else { b"?" }),
            Plain::ServerProtocol => self.text(request.map_or("", |r| r.version.text()).as_bytes()),
            Plain::Scheme => self.text(record.scheme.as_bytes()),
            Plain::Https => self.text(if record.scheme == "https" { b"on" } else { b"" }),
            Plain::SslProtocol
            | Plain::SslCipher
            | Plain::SslCurve
            | Plain::SslAlpn
            | Plain::SslServerName
            | Plain::SslSessionReused
            | Plain::SslClientVerify
            | Plain::SslClientSubject
            | Plain::SslClientIssuer
            | Plain::SslClientSerial
            | Plain::SslClientFingerprint => {
                if let Some(tls) = &record.tls {
                    self.text(session(plain, tls));
                }
            }
            Plain::Host => self.text(record.host),
            Plain::ContentLength => self.known(request, Name::ContentLength),
            Plain::ContentType => self.known(request, Name::ContentType),
            Plain::Status => self.number(record.status.into()),
            Plain::BytesSent => self.number(record.bytes_sent),
            Plain::BodyBytesSent => self.number(record.body_bytes_sent),
            Plain::RequestLength => self.number(record.bytes_received),
            Plain::RequestTime => push_seconds(self.out, record.duration()),
            Plain::RequestId => self.text(record.request_id),
            Plain::RequestCompletion => self.text(if record.ended == EndedBy::Done { b"OK" } else { b"" }),
            Plain::Connection => self.number(record.connection),
            Plain::ConnectionRequests => self.number(record.connection_requests),
            Plain::Pipe => self.text(b"."),
            Plain::Pid => self.number(host.pid.into()),
            Plain::Hostname => self.text(&host.hostname),
            Plain::ServerAddr => record.server.iter().for_each(|s| push_ip(self.out, s.ip())),
            Plain::ServerPort => self.optional(record.server.map(|s| s.port())),
            Plain::UpstreamAddr => self.attempts(record, |v, a| v.text(a.endpoint.as_bytes())),
            Plain::UpstreamStatus => self.attempts(record, |v, a| match a.outcome {
                Outcome::Answered(status) => v.number(status.into()),
                Outcome::Failed(token) => v.number(token.status().into()),
                Outcome::Connected | Outcome::Cancelled => v.out.push(b'-'),
            }),
            Plain::UpstreamProtocol => {
                self.attempts(record, |v, a| v.text(a.version.text().as_bytes()));
            }
            Plain::UpstreamConnectTime => self.attempts(record, |v, a| v.since(a, a.connected)),
            Plain::UpstreamHeaderTime => self.attempts(record, |v, a| v.since(a, a.head)),
            Plain::UpstreamResponseTime => self.attempts(record, |v, a| v.since(a, Some(a.ended))),
            Plain::NeverSet => {}
            Plain::Listener => self.text(record.listener.as_bytes()),
            Plain::Route => self.text(record.route.unwrap_or_default().as_bytes()),
            Plain::Upstream => self.text(record.upstream.unwrap_or_default().as_bytes()),
            Plain::GrpcStatus => match record.grpc_status {
                Some(code) => self.number(code.number().into()),
                None => self.text(b""),
            },
            Plain::Token => self.text(record.token.map_or("", |t| t.name()).as_bytes()),
            Plain::Timeout => self.text(record.timeout.unwrap_or_default().as_bytes()),
            Plain::Detail => self.text(record.detail.unwrap_or_default().as_bytes()),
            Plain::Ended => self.text(ended_by(record.ended).as_bytes()),
            Plain::Close => {
                let closed = record.tunnel.and_then(|tunnel| tunnel.closed);
                self.text(closed.map_or("", |closed| closed.name()).as_bytes());
            }
            Plain::CloseCode => self.optional(record.tunnel.and_then(|tunnel| tunnel.code)),
            Plain::Attempts => self.number(record.attempts.len() as u64),
            Plain::QueueTime => push_seconds(self.out, record.queued),
            Plain::Sticky => self.text(record.sticky.unwrap_or_default().as_bytes()),
        }
    }

    fn announced(&mut self, what: Announced, of: &AnnouncedRecord<'_>) {
        match what {
            Announced::Addr => of.source.iter().for_each(|s| push_ip(self.out, s.ip())),
            Announced::Port => self.optional(of.source.map(|s| s.port())),
            Announced::ServerAddr => of.destination.iter().for_each(|d| push_ip(self.out, d.ip())),
            Announced::ServerPort => self.optional(of.destination.map(|d| d.port())),
            Announced::Alpn => self.text(of.alpn.unwrap_or_default()),
            Announced::Authority => self.text(of.authority.unwrap_or_default()),
            Announced::UniqueId => self.text(of.unique_id.unwrap_or_default()),
            Announced::SslVersion => self.text(of.tls_version.unwrap_or_default()),
            Announced::SslCn => self.text(of.tls_common_name.unwrap_or_default()),
            Announced::SslCipher => self.text(of.tls_cipher.unwrap_or_default()),
        }
    }

    fn optional(&mut self, port: Option<u16>) {
        if let Some(port) = port {
            self.number(port.into());
        }
    }

    fn known(&mut self, request: Option<&RequestHead>, name: Name) {
        self.text(request.and_then(|r| r.buf.get(name)).unwrap_or_default());
    }

    fn request_line(&mut self, request: Option<&RequestHead>) {
        let Some(request) = request else { return };
        self.text(request.method_text());
        self.out.push(b' ');
        self.uri(request.target());
        self.out.push(b' ');
        self.out.extend_from_slice(request.version.text().as_bytes());
    }

    /// All values of a field, joined; `;` for cookies, as they are lists of their own kind.
    fn fields(&mut self, head: &HeadBuf, name: &FieldName) {
        if matches!(name.id, Name::Other | Name::Underscored) {
            self.joined(name, head.find(&name.text));
        } else {
            // Found while the head was read: no search.
            self.joined(name, head.all(name.id));
        }
    }

    fn joined<'v>(&mut self, name: &FieldName, values: impl Iterator<Item = &'v [u8]>) {
        for (i, value) in values.enumerate() {
            if i > 0 {
                let separator: &[u8] = if name.id == Name::Cookie { b"; " } else { b", " };
                self.out.extend_from_slice(separator);
            }
            if name.is_uri {
                self.uri(value);
            } else {
                self.text(value);
            }
        }
    }

    fn argument(&mut self, record: &AccessRecord<'_>, name: &[u8]) {
        let parameter = query(record).split(|b| *b == b'&').find_map(|parameter| {
            let mut halves = parameter.splitn(2, |b| *b == b'=');
            let found = halves.next()?.eq_ignore_ascii_case(name);
            found.then(|| halves.next().unwrap_or_default())
        });
        match parameter {
            Some(value) if !value.is_empty() && self.redact.hides(name) => self.text(b"***"),
            // The value of a parameter may carry a URI of its own, or a second parameter after a semicolon.
            Some(value) => self.uri_in_value(value),
            None => {}
        }
    }

    fn uri_in_value(&mut self, value: &[u8]) {
        let start = memchr::memchr3(b';', b'?', b'#', value).map_or(value.len(), |at| at + 1);
        let (plain, rest) = value.split_at(start);
        self.text(plain);
        self.query(rest);
    }

    fn attempts(&mut self, record: &AccessRecord<'_>, each: impl Fn(&mut Self, &AttemptRecord<'_>)) {
        for (i, attempt) in record.attempts.iter().enumerate() {
            if i > 0 {
                self.out.extend_from_slice(b", ");
            }
            each(self, attempt);
        }
    }

    fn since(&mut self, attempt: &AttemptRecord<'_>, point: Option<Instant>) {
        match point {
            Some(point) => push_seconds(self.out, point.saturating_duration_since(attempt.started)),
            None => self.out.push(b'-'),
        }
    }

    /// The user of Basic credentials, of which only the part before the colon is ever decoded into the line.
    fn remote_user(&mut self, request: Option<&RequestHead>) {
        let Some(credentials) = request.and_then(|r| r.buf.get(Name::Authorization)) else {
            return;
        };
        let Some((scheme, encoded)) = credentials.split_at_checked(6) else {
            return;
        };
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return;
        }
        let mut user = [0; MAX_USER];
        if let Some(length) = decode_user(encoded.trim_ascii(), &mut user) {
            self.text(&user[..length]);
        }
    }
}

/// Longest user name written.
const MAX_USER: usize = 128;

/// Decodes base64 up to the colon. `None` when it is no base64, or has no colon within [`MAX_USER`] bytes.
fn decode_user(encoded: &[u8], user: &mut [u8; MAX_USER]) -> Option<usize> {
    let (mut bits, mut held, mut length) = (0_u32, 0, 0);
    for symbol in encoded {
        let six = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            match (bits >> held & 0xff) as u8 {
                b':' => return Some(length),
                byte => *user.get_mut(length)? = byte,
            }
            length += 1;
        }
    }
    None
}

/// The query without its question mark; empty when there is none.
pub(super) fn query<'a>(record: &AccessRecord<'a>) -> &'a [u8] {
    let target = record.request.map_or(b"".as_slice(), RequestHead::target);
    match memchr::memchr(b'?', target) {
        Some(mark) => &target[mark + 1..],
        None => b"",
    }
}

/// Path and query of a target, also of one in absolute form.
fn origin_form(target: &[u8]) -> &[u8] {
    if target.first().is_none_or(|b| *b == b'/' || *b == b'*') {
        return target;
    }
    let Some(authority) = memchr::memmem::find(target, b"://").map(|at| &target[at + 3..]) else {
        return target;
    };
    match authority.iter().position(|b| matches!(b, b'/' | b'?')) {
        Some(path) => &authority[path..],
        None => b"/",
    }
}

/// What a variable says of a TLS session; empty where there is nothing to say.
fn session<'a>(plain: Plain, tls: &TlsRecord<'a>) -> &'a [u8] {
    let of_client = |read: fn(TlsClientRecord<'a>) -> &'a str| tls.client.map_or("", read).as_bytes();
    match plain {
        Plain::SslProtocol => tls.protocol.as_bytes(),
        Plain::SslCipher => tls.cipher.as_bytes(),
        Plain::SslCurve => tls.group.as_bytes(),
        Plain::SslAlpn => tls.alpn.unwrap_or_default(),
        Plain::SslServerName => tls.server_name.unwrap_or_default().as_bytes(),
        // As nginx writes them.
        Plain::SslSessionReused => {
            if tls.resumed {
                b"r"
            } else {
                b"."
            }
        }
        Plain::SslClientVerify => {
            if tls.client.is_some() {
                b"SUCCESS"
            } else {
                b"NONE"
            }
        }
        Plain::SslClientSubject => of_client(|client| client.subject),
        Plain::SslClientIssuer => of_client(|client| client.issuer),
        Plain::SslClientSerial => of_client(|client| client.serial),
        Plain::SslClientFingerprint => of_client(|client| client.fingerprint),
        _ => b"",
    }
}

fn cookie<'a>(record: &AccessRecord<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let request = record.request?;
    request.buf.all(Name::Cookie).find_map(|field| {
        field.split(|b| *b == b';').find_map(|pair| {
            let mut halves = pair.trim_ascii().splitn(2, |b| *b == b'=');
            (halves.next()? == name).then(|| halves.next())?
        })
    })
}

pub(super) const fn ended_by(ended: EndedBy) -> &'static str {
    match ended {
        EndedBy::Done => "done",
        EndedBy::Open => "open",
        EndedBy::Client => "client",
        EndedBy::Endpoint => "endpoint",
        EndedBy::Gateway => "gateway",
    }
}

pub(super) fn push_number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// An address; the common case without the formatting machinery.
pub(super) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let mut text = [b'.'; "255.255.255.255.".len()];
            let mut length = 0;
            for octet in ip.octets() {
                for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
                    if octet >= least {
                        text[length] = b'0' + octet / unit % 10;
                        length += 1;
                    }
                }
                // Over the dot that is there.
                length += 1;
            }
            out.extend_from_slice(&text[..length - 1]);
        }
        IpAddr::V6(ip) => {
            let _infallible = write!(out, "{ip}");
        }
    }
}
