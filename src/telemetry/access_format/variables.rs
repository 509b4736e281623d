//! The variables of a log format: nginx's names, and our own under `tidegate_`.

use crate::message::names::Name;

/// A variable without a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    RemoteAddr,
    RemotePort,
    RemoteUser,
    RealipRemoteAddr,
    ProxyProtocol(Announced),
    TimeLocal,
    TimeIso8601,
    Msec,
    Request,
    RequestMethod,
    RequestUri,
    Uri,
    Args,
    IsArgs,
    ServerProtocol,
    Scheme,
    Https,
    SslProtocol,
    SslCipher,
    SslCurve,
    SslAlpn,
    SslServerName,
    SslSessionReused,
    SslClientVerify,
    SslClientSubject,
    SslClientIssuer,
    SslClientSerial,
    SslClientFingerprint,
    Host,
    ContentLength,
    ContentType,
    Status,
    BytesSent,
    BodyBytesSent,
    RequestLength,
    RequestTime,
    RequestId,
    RequestCompletion,
    Connection,
    ConnectionRequests,
    Pipe,
    Pid,
    Hostname,
    ServerAddr,
    ServerPort,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamProtocol,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    UpstreamResponseTime,
    /// Of modules that the gateway does not have, so never set; common in formats people bring along.
    NeverSet,
    Listener,
    Route,
    Upstream,
    GrpcStatus,
    Token,
    Timeout,
    Detail,
    Ended,
    Close,
    CloseCode,
    Attempts,
    QueueTime,
    Sticky,
}

/// What a proxy in front announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    Addr,
    Port,
    ServerAddr,
    ServerPort,
    Alpn,
    Authority,
    UniqueId,
    SslVersion,
    SslCn,
    SslCipher,
}

/// All plain variables by name.
pub(super) const PLAIN: &[(&str, Plain)] = &[
    ("remote_addr", Plain::RemoteAddr),
    ("binary_remote_addr", Plain::RemoteAddr),
    ("remote_port", Plain::RemotePort),
    ("remote_user", Plain::RemoteUser),
    ("realip_remote_addr", Plain::RealipRemoteAddr),
    ("proxy_protocol_addr", Plain::ProxyProtocol(Announced::Addr)),
    ("proxy_protocol_port", Plain::ProxyProtocol(Announced::Port)),
    (
        "proxy_protocol_server_addr",
        Plain::ProxyProtocol(Announced::ServerAddr),
    ),
    (
        "proxy_protocol_server_port",
        Plain::ProxyProtocol(Announced::ServerPort),
    ),
    ("proxy_protocol_tlv_alpn", Plain::ProxyProtocol(Announced::Alpn)),
    (
        "proxy_protocol_tlv_authority",
        Plain::ProxyProtocol(Announced::Authority),
    ),
    (
        "proxy_protocol_tlv_unique_id",
        Plain::ProxyProtocol(Announced::UniqueId),
    ),
    (
        "proxy_protocol_tlv_ssl_version",
        Plain::ProxyProtocol(Announced::SslVersion),
    ),
    (
        "proxy_protocol_tlv_ssl_cn",
        Plain::ProxyProtocol(Announced::SslCn),
    ),
    (
        "proxy_protocol_tlv_ssl_cipher",
        Plain::ProxyProtocol(Announced::SslCipher),
    ),
    ("time_local", Plain::TimeLocal),
    ("time_iso8601", Plain::TimeIso8601),
    ("msec", Plain::Msec),
    ("request", Plain::Request),
    ("request_method", Plain::RequestMethod),
    ("request_uri", Plain::RequestUri),
    ("uri", Plain::Uri),
    ("document_uri", Plain::Uri),
    ("args", Plain::Args),
    ("query_string", Plain::Args),
    ("is_args", Plain::IsArgs),
    ("server_protocol", Plain::ServerProtocol),
    ("scheme", Plain::Scheme),
    ("https", Plain::Https),
    ("ssl_protocol", Plain::SslProtocol),
    ("ssl_cipher", Plain::SslCipher),
    ("ssl_curve", Plain::SslCurve),
    ("ssl_alpn_protocol", Plain::SslAlpn),
    ("ssl_server_name", Plain::SslServerName),
    ("ssl_session_reused", Plain::SslSessionReused),
    ("ssl_client_verify", Plain::SslClientVerify),
    ("ssl_client_s_dn", Plain::SslClientSubject),
    ("ssl_client_i_dn", Plain::SslClientIssuer),
    ("ssl_client_serial", Plain::SslClientSerial),
    ("ssl_client_fingerprint", Plain::SslClientFingerprint),
    ("host", Plain::Host),
    ("content_length", Plain::ContentLength),
    ("content_type", Plain::ContentType),
    ("status", Plain::Status),
    ("bytes_sent", Plain::BytesSent),
    ("body_bytes_sent", Plain::BodyBytesSent),
    ("request_length", Plain::RequestLength),
    ("request_time", Plain::RequestTime),
    ("request_id", Plain::RequestId),
    ("request_completion", Plain::RequestCompletion),
    ("connection", Plain::Connection),
    ("connection_requests", Plain::ConnectionRequests),
    ("pipe", Plain::Pipe),
    ("pid", Plain::Pid),
    ("hostname", Plain::Hostname),
    ("server_addr", Plain::ServerAddr),
    ("server_port", Plain::ServerPort),
    ("server_name", Plain::Listener),
    ("upstream_addr", Plain::UpstreamAddr),
    ("upstream_status", Plain::UpstreamStatus),
    ("upstream_connect_time", Plain::UpstreamConnectTime),
    ("upstream_header_time", Plain::UpstreamHeaderTime),
    ("upstream_response_time", Plain::UpstreamResponseTime),
    ("upstream_queue_time", Plain::QueueTime),
    ("upstream_cache_status", Plain::NeverSet),
    ("gzip_ratio", Plain::NeverSet),
    ("tidegate_client", Plain::RemoteAddr),
    ("tidegate_listener", Plain::Listener),
    ("tidegate_route", Plain::Route),
    ("tidegate_upstream", Plain::Upstream),
    ("tidegate_grpc_status", Plain::GrpcStatus),
    ("tidegate_upstream_protocol", Plain::UpstreamProtocol),
    ("tidegate_token", Plain::Token),
    ("tidegate_timeout", Plain::Timeout),
    ("tidegate_detail", Plain::Detail),
    ("tidegate_ended", Plain::Ended),
    ("tidegate_close", Plain::Close),
    ("tidegate_close_code", Plain::CloseCode),
    ("tidegate_attempts", Plain::Attempts),
    ("tidegate_queue_time", Plain::QueueTime),
    ("tidegate_sticky", Plain::Sticky),
];

/// Headers whose value is a URI, redacted like one.
const URI_HEADERS: [&[u8]; 5] = [b"referer", b"location", b"content-location", b"refresh", b"link"];

/// The name of a header in its wire form, with `-` for `_`, and what is known of it before any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldName {
    pub(super) text: Box<[u8]>,
    pub(super) id: Name,
    pub(super) is_uri: bool,
}

impl FieldName {
    fn new(variable: &str) -> Self {
        let text: Box<[u8]> = variable
            .bytes()
            .map(|b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() })
            .collect();
        Self {
            id: Name::recognise(&text),
            is_uri: URI_HEADERS.contains(&&*text),
            text,
        }
    }
}

/// A variable as compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Plain(Plain),
    /// Field of the request.
    Header(FieldName),
    /// Field of the endpoint's response.
    UpstreamHeader(FieldName),
    Cookie(Box<[u8]>),
    /// Query parameter.
    Argument(Box<[u8]>),
}

impl Variable {
    /// The variable of this name, or `None`.
    pub(super) fn named(name: &str) -> Option<Self> {
        if let Some((_, plain)) = PLAIN.iter().find(|(n, _)| *n == name) {
            return Some(Self::Plain(*plain));
        }
        let rest = |prefix| name.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
        if let Some(field) = rest("http_") {
            return Some(Self::Header(FieldName::new(field)));
        }
        if let Some(field) = rest("upstream_http_") {
            return Some(Self::UpstreamHeader(FieldName::new(field)));
        }
        if let Some(cookie) = rest("cookie_") {
            return Some(Self::Cookie(cookie.as_bytes().into()));
        }
        rest("arg_").map(|argument| Self::Argument(argument.as_bytes().into()))
    }
}

/// What to write instead of a variable that does not exist, if anything comes near.
pub(super) fn suggestion(name: &str) -> Option<String> {
    if let Some(field) = name.strip_prefix("sent_http_") {
        return Some(format!("upstream_http_{field}"));
    }
    let near = |candidate: &str| distance(name.as_bytes(), candidate.as_bytes());
    PLAIN
        .iter()
        .map(|(candidate, _)| (near(candidate), *candidate))
        .min()
        .filter(|(edits, _)| *edits <= 1 + name.len() / 4)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Levenshtein distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
