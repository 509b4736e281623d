//! Where clients connect.

use super::{AccessLog, Acme, HeaderEdits, HostPattern, Http2Bounds, Name, PathPolicy, Tls, TunnelBounds};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Address of a listener, as written: `:0` keeps its port over reloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestIdPolicy {
    Generate,
    IfTrusted,
    AlwaysKeep,
    Off,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub address: ListenAddress,
    /// Permission bits of a unix-socket listener, e.g. 0o660.
    pub mode: Option<u32>,
    pub protocols: Protocols,
    /// Pending connections the kernel keeps; at least 1.
    pub backlog: u32,
    pub trusted_proxies: Vec<IpNet>,
    /// `None`: no PROXY protocol header is expected.
    pub proxy_protocol: Option<AcceptProxy>,
    pub limits: Limits,
    pub path_policy: PathPolicy,
    pub request_id: RequestIdPolicy,
    /// Status to file with the page to send.
    pub error_pages: BTreeMap<u16, PathBuf>,
    /// Send `X-Tidegate-Error` with the token of a failed request.
    pub error_header: bool,
    pub forwarded: Forwarded,
    /// Own access log; `None` inherits `log.access`.
    pub access_log: Option<AccessLog>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// `None`: clients come in the clear.
    pub tls: Option<Tls>,
    /// Then there is `tls` as well.
    pub acme: Option<Acme>,
    /// Names whose TLS is passed on unopened.
    pub passthrough: Vec<Passthrough>,
    /// Answer every request by a redirect to the same over HTTPS.
    pub redirect_https: bool,
    /// How long browsers are told to come by HTTPS only.
    pub hsts: Option<Duration>,
}

/// Connections whose TLS is not opened here, by the name that clients ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Passthrough {
    /// No regex.
    pub sni: HostPattern,
    pub upstream: Name,
    /// To connect to an endpoint; zero: no bound.
    pub connect: Duration,
    pub tunnel: TunnelBounds,
}

/// A protocol that a listener speaks without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    H1,
    /// HTTP/2 by prior knowledge.
    H2c,
}

/// The protocols that a listener speaks without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    pub h1: bool,
    pub h2c: bool,
}

/// Who sends PROXY protocol headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptProxy {
    /// Others are refused.
    pub trusted: Vec<IpNet>,
    /// From the connection to the last byte of its header.
    pub timeout: Duration,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// Limits of a listener; 0 means no limit wherever that is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub header_bytes: u64,
    pub headers: usize,
    pub uri_bytes: u64,
    /// Request body; 0: no limit.
    pub body: u64,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// Longest silence while a request body is awaited.
    pub body_idle: Duration,
    /// Longest time without progress while the client does not read the response.
    pub send_timeout: Duration,
    /// Idle time between requests.
    pub keep_alive: Duration,
    pub requests_per_connection: u64,
    /// Bytes per second below which a client is cut, as a mean over `body_idle` while it sends a body and over
    /// `send_timeout` while it reads a response. 0: no limit.
    pub min_rate: u64,
    /// From the first byte on a TLS connection until it may carry requests.
    pub handshake_timeout: Duration,
    pub connections: usize,
    pub connections_per_ip: usize,
    /// Tunnels open at the same time; 0: any number.
    pub tunnels: usize,
    pub max_connection_age: Duration,
    pub h2: Http2Bounds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub x_forwarded: bool,
    pub forwarded: bool,
    pub via: bool,
}
