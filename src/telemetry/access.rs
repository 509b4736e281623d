//! The access record: everything that is known about one request when it ends, borrowed from where it lies.

use crate::message::grpc::Code;
use crate::message::head::{RequestHead, ResponseHead, Version};
use crate::message::token::Token;
use crate::telemetry::metrics::Closed;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

/// How one try at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response head arrived.
    Answered(u16),
    /// It was connected to, and got the connection unopened.
    Connected,
    /// It failed, for this reason.
    Failed(Token),
    /// The client left, or the request was refused, before it ended.
    Cancelled,
}

/// One try at an endpoint; `None` for points that were not reached.
#[derive(Clone, Debug)]
pub struct AttemptRecord<'a> {
    /// Endpoint address as written.
    pub endpoint: &'a str,
    pub outcome: Outcome,
    /// The connection came from the pool.
    pub reused: bool,
    /// What the endpoint was spoken to in.
    pub version: Version,
    pub started: Instant,
    pub connected: Option<Instant>,
    pub head: Option<Instant>,
    pub ended: Instant,
}

/// What a proxy in front announced of the connection by a PROXY protocol header.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnnouncedRecord<'a> {
    /// 1 or 2.
    pub version: u8,
    /// The client, and where it connected to; `None` where the proxy did not say.
    pub source: Option<SocketAddr>,
    pub destination: Option<SocketAddr>,
    /// What only version 2 can tell.
    pub alpn: Option<&'a [u8]>,
    pub authority: Option<&'a [u8]>,
    pub unique_id: Option<&'a [u8]>,
    pub tls_version: Option<&'a [u8]>,
    pub tls_common_name: Option<&'a [u8]>,
    pub tls_cipher: Option<&'a [u8]>,
}

/// Who ended the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// Request and response were complete.
    Done,
    /// It has not ended: the record tells that a tunnel opened.
    Open,
    Client,
    Endpoint,
    Gateway,
}

/// What became of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelRecord {
    /// `None` while it is open.
    pub closed: Option<Closed>,
    /// Of the first close frame, where frames were looked at.
    pub code: Option<u16>,
    /// Messages of the client, and of the endpoint; `None` where frames were not looked at.
    pub messages: Option<(u64, u64)>,
}

/// A client's TLS session.
#[derive(Clone, Copy, Debug)]
pub struct TlsRecord<'a> {
    /// `TLSv1.3`.
    pub protocol: &'a str,
    pub cipher: &'a str,
    /// Of the key exchange.
    pub group: &'a str,
    /// What was agreed on by ALPN.
    pub alpn: Option<&'a [u8]>,
    pub server_name: Option<&'a str>,
    pub resumed: bool,
    /// Of the client's certificate, if it showed one.
    pub client: Option<TlsClientRecord<'a>>,
}

/// What a client's certificate says.
#[derive(Clone, Copy, Debug)]
pub struct TlsClientRecord<'a> {
    pub subject: &'a str,
    pub issuer: &'a str,
    pub serial: &'a str,
    /// SHA-256.
    pub fingerprint: &'a str,
}

/// One request, complete or not. A tunnel (after 101) is one record at its end.
///
/// It holds points in time as they were taken; the formats that want differences make them.
#[derive(Debug)]
pub struct AccessRecord<'a> {
    /// When the request's first byte was read, when its head was complete, and when all was over.
    pub start: Instant,
    pub head_done: Instant,
    pub end: Instant,
    /// `end` by the clock on the wall.
    pub time: SystemTime,
    /// The client as resolved through trusted proxies.
    pub client: IpAddr,
    /// The TCP peer, whomever it announces; `None` on unix sockets.
    pub peer: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
    /// `None` where nobody announces connections.
    pub announced: Option<AnnouncedRecord<'a>>,
    pub listener: &'a str,
    /// `http` or `https`; `tls` where it was passed on unopened.
    pub scheme: &'static str,
    /// `None` in the clear.
    pub tls: Option<TlsRecord<'a>>,
    /// Number of the connection in this process, and of the request on it (from 1).
    pub connection: u64,
    pub connection_requests: u64,
    /// `None` when no head could be read, or none was looked for.
    pub request: Option<&'a RequestHead>,
    /// The normalised host without port, and path without query, that routing saw.
    pub host: &'a [u8],
    pub path: &'a [u8],
    pub request_id: &'a [u8],
    pub route: Option<&'a str>,
    pub upstream: Option<&'a str>,
    /// Status sent; 499 when the client left before one was, 408/400 … for refused heads. An error of our own counts as
    /// its own status, though calls of gRPC are told of it by a 200 with a `grpc-status`.
    pub status: u16,
    /// How a call of gRPC ended, as its client was told; `None` for other requests, and where nobody could tell him.
    pub grpc_status: Option<Code>,
    pub token: Option<Token>,
    /// What exactly was wrong, for refused messages.
    pub detail: Option<&'static str>,
    /// Key of the deadline that cut the request, such as `routes.timeouts.response`.
    pub timeout: Option<&'static str>,
    pub ended: EndedBy,
    /// The endpoint's response head, when there was one.
    pub response: Option<&'a ResponseHead>,
    /// Bytes read from the client: head and body.
    pub bytes_received: u64,
    /// Bytes written to the client: head and body; body alone.
    pub bytes_sent: u64,
    pub body_bytes_sent: u64,
    /// Time in line for an endpoint below its `max_connections`.
    pub queued: Duration,
    /// What became of its session, where the upstream keeps sessions.
    pub sticky: Option<&'static str>,
    pub attempts: &'a [AttemptRecord<'a>],
    /// The connection was upgraded, or passed on unopened, and this record covers the tunnel.
    pub tunnel: Option<TunnelRecord>,
}

impl AccessRecord<'_> {
    /// Time from the request's start to this point.
    #[must_use]
    pub fn since_start(&self, point: Instant) -> Duration {
        point.saturating_duration_since(self.start)
    }

    #[must_use]
    pub fn duration(&self) -> Duration {
        self.since_start(self.end)
    }
}
