//! Groups of endpoints, and how connections to them are made.

use super::{Breaker, Health, Http2Bounds, Outlier, ProxyVersion, Retry, Sticky, UpstreamTls};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsName {
    /// The addresses of a host (A and AAAA), each with this port.
    Host { host: String, port: u16 },
    /// The services of a name (SRV, RFC 2782).
    Service(String),
}

impl std::fmt::Display for DnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => f.write_str(name),
        }
    }
}

/// Which registered services are an upstream's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Services {
    pub service: String,
    /// What each of them has.
    pub tags: Vec<String>,
}

impl std::fmt::Display for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "service {}", self.service)?;
        match self.tags.as_slice() {
            [] => Ok(()),
            tags => write!(f, " with {}", tags.join(", ")),
        }
    }
}

/// Who knows the endpoints that are not in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoverFrom {
    Dns(DnsName),
    /// They say so themselves.
    Registry(Services),
}

impl std::fmt::Display for DiscoverFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Registry(services) => services.fmt(f),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    /// The same algorithm as `round_robin`, which honours weights; kept as the name people look for.
    Weighted,
    LeastConnections,
    RandomTwo,
    LeastTime,
    Adaptive,
    /// `hash` by the client's address.
    IpHash,
    Hash,
    First,
}

/// What `hash` knows a request by: `header:NAME`, `cookie:NAME`, `query:NAME`, `uri`, `client_ip`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashKey {
    Header(String),
    Cookie(String),
    Query(String),
    /// Path and query.
    Uri,
    #[default]
    ClientIp,
}

/// As it is written.
impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Uri => f.write_str("uri"),
            Self::ClientIp => f.write_str("client_ip"),
        }
    }
}

/// `host:port`, `ip:port`, `unix:/path`; the text as written is the endpoint's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    Ip(SocketAddr),
    Name { host: String, port: u16 },
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// As written; unique within the upstream.
    pub text: String,
    /// 0: no new requests.
    pub weight: u32,
    pub backup: bool,
    /// Requests and tunnels at the same time; 0: any number.
    pub max_connections: u32,
    /// A label for where it stands.
    pub zone: Option<String>,
}

impl Endpoint {
    /// An endpoint of which only the address is known.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address: EndpointAddress::Ip(address),
            text: address.to_string(),
            weight: 1,
            backup: false,
            max_connections: 0,
            zone: None,
        }
    }
}

/// Endpoints that DNS names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    pub from: DiscoverFrom,
    /// Those beyond it are left out.
    pub max_endpoints: usize,
    /// Of each; 0: any number.
    pub max_connections: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub balance: Balance,
    pub key: HashKey,
    /// Most that an endpoint may have for its keys, times its share of all that runs; 0: any number.
    pub bounded_load: f64,
    /// Those that the configuration names; discovered ones come beside them.
    pub endpoints: Vec<Endpoint>,
    pub discover: Option<Discover>,
    pub protocol: UpstreamProtocol,
    pub http2: Http2Bounds,
    /// The PROXY protocol header that connections begin with; `None`: none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `None`: endpoints are spoken to in the clear.
    pub tls: Option<UpstreamTls>,
    pub pool: Pool,
    /// `None`: each request is balanced by itself.
    pub sticky: Option<Sticky>,
    /// `None`: endpoints are not probed.
    pub health: Option<Health>,
    pub outlier: Outlier,
    pub retry: Retry,
    pub breaker: Breaker,
    pub queue: Queue,
    pub drain: Drain,
    /// `None`: what is uneven after an endpoint joined stays so.
    pub rebalance: Option<Rebalance>,
    /// Over which an endpoint that is new, or back, comes to its full share; zero: at once.
    pub slow_start: Duration,
}

/// What endpoints are spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2: by prior knowledge in the clear, by ALPN over TLS.
    H2,
    /// What ALPN says; in the clear HTTP/1.1.
    Auto,
}

/// How endpoints leave that are told to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drain {
    /// When what still runs there is cut, where whoever says so names no time; zero: never.
    pub deadline: Duration,
    /// Tunnels asked to go per second; 0: as many as it takes to be done by the deadline.
    pub rate: u32,
    /// How much a slice's size varies, as a part of it.
    pub jitter: f64,
    pub order: ShedOrder,
}

/// How tunnels are moved to an endpoint that joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rebalance {
    /// Tunnels asked to go per second.
    pub rate: u32,
    /// How far an endpoint may be above its share, as a part of it.
    pub threshold: f64,
}

/// Which tunnels are asked to go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShedOrder {
    Oldest,
    /// Who has been silent for longest.
    #[default]
    LeastActive,
}

/// Requests that find every endpoint at its `max_connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait, over all workers; 0: none.
    pub max: usize,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Idle connections kept per endpoint and worker.
    pub idle_per_worker: usize,
    pub idle_timeout: Duration,
    /// Requests on one connection; 0: no limit.
    pub max_requests: u64,
    /// Zero: any.
    pub max_age: Duration,
}
