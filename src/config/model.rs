//! The configuration as the operator wrote it, parsed into exact scalars, with every default filled in.
//!
//! Nothing here is compiled or resolved: references between objects are names, files are paths. `snapshot`
//! turns it into something that can serve.

pub use crate::message::causes::{Cause, Causes};
pub use crate::message::path::{DotSegments, DoubleSlash, EncodedSlash, PathPolicy};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Name of a listener, route or upstream: `[A-Za-z0-9_.-]{1,64}`.
pub type Name = String;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub runtime: Runtime,
    pub log: Log,
    pub dns: Dns,
    pub listeners: BTreeMap<Name, Listener>,
    /// In the order of the file; included files follow in theirs.
    pub routes: Vec<Route>,
    pub upstreams: BTreeMap<Name, Upstream>,
    pub admin: Option<Admin>,
}

/// Number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Usable cores: affinity mask and cgroup quota counted.
    Auto,
    Count(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    pub workers: Workers,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    /// `None`: `/var/lib/tidegate` when it can be written, else the user's state home.
    pub state_dir: Option<PathBuf>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub pid_file: Option<PathBuf>,
    /// Client connections over all listeners; beyond it accepting waits. 0: no limit.
    pub max_connections: usize,
    /// TLS handshakes in progress on one worker; beyond it they wait their turn. 0: no limit.
    pub max_handshakes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    /// Access log of every listener without its own; `None` when not configured.
    pub access: Option<AccessLog>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AccessFormat {
    Combined,
    Json,
    /// An nginx `log_format` string.
    Template(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    pub off: bool,
    /// A file; `-` is standard output.
    pub path: PathBuf,
    pub format: AccessFormat,
    /// Share of records written, 0–1; records with status >= 500 or a token are always written.
    pub sample: f64,
    /// Names of query parameters whose values are written as `***`.
    pub redact_query: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Empty: those of the system.
    pub servers: Vec<SocketAddr>,
    pub hosts_file: PathBuf,
    pub family: AddressFamily,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    /// For one look-up, whatever it asks.
    pub timeout: Duration,
}

/// Which addresses of a name are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    Any,
    Ipv4,
    Ipv6,
}

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

/// Certificates that the gateway gets itself (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    pub directory: String,
    pub email: Option<String>,
    pub challenge: AcmeChallenge,
    /// As written. Empty: those of the routes, see [`super::acme::names`].
    pub names: Vec<String>,
    pub single_certificate: bool,
    pub eab: Option<ExternalAccount>,
    pub profile: Option<String>,
    /// Roots for the authority's own server; `None`: those of the system.
    pub ca: Option<PathBuf>,
    pub key_type: AcmeKey,
    pub renew_before: Option<Duration>,
    pub retry: Duration,
}

/// How names are shown to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// RFC 8737.
    TlsAlpn01,
    /// RFC 8555 section 8.3.
    Http01,
}

/// Kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeKey {
    P256,
    P384,
    Rsa2048,
    Rsa4096,
}

/// An account with the authority that exists outside of the protocol (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    pub kid: String,
    /// In base64url.
    pub key: Secret,
}

/// Connections whose TLS is not opened here, by the name that clients ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Passthrough {
    /// No regex.
    pub sni: HostPattern,
    pub upstream: Name,
    /// To connect to an endpoint; zero: no bound.
    pub connect: Duration,
    pub tunnel: WebSocket,
}

/// What clients that ask for a name of no certificate, or for none, are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownName {
    Reject,
    /// The first certificate.
    First,
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS 1.3.
    Modern,
    /// TLS 1.2 and 1.3.
    Intermediate,
}

/// A protocol that is agreed on in the handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    H2,
    Http11,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// No certificate is asked for.
    None,
    /// One that is shown must be good.
    Optional,
    Required,
}

/// Cipher suites by their registered names, in the order of preference.
pub const TLS_SUITES: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];
/// How many of [`TLS_SUITES`] are those of TLS 1.3.
pub const TLS13_SUITES: usize = 3;

/// Key-exchange groups, in the order of preference.
pub const TLS_GROUPS: [&str; 5] = [
    "X25519MLKEM768",
    "X25519",
    "secp256r1",
    "secp384r1",
    "SecP256r1MLKEM768",
];

#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// At least one, unless there is `acme`.
    pub certificates: Vec<CertificateFiles>,
    pub default: UnknownName,
    pub policy: TlsPolicy,
    /// Names of [`TLS_SUITES`]; empty: all of the policy.
    pub ciphers: Vec<String>,
    /// Names of [`TLS_GROUPS`]; empty: the usual ones.
    pub groups: Vec<String>,
    pub alpn: Vec<Alpn>,
    pub client_auth: Option<ClientAuth>,
    /// Terms for clients that ask for certain names.
    pub client_auth_by_name: Vec<NamedClientAuth>,
    pub session_tickets: bool,
}

/// A chain and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    pub mode: ClientAuthMode,
    /// There, unless the mode is none.
    pub ca: Option<PathBuf>,
    pub crl: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedClientAuth {
    /// Names and `*.` wildcards.
    pub names: Vec<String>,
    pub auth: ClientAuth,
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
    pub max_connection_age: Duration,
    pub h2: H2Limits,
}

/// Bounds of HTTP/2 connections.
#[derive(Clone, Debug, PartialEq)]
pub struct H2Limits {
    /// Requests at once on a connection.
    pub streams: u32,
    /// Bytes of a request body ahead of the endpoint.
    pub window: u32,
    /// The same for all of a connection.
    pub connection_window: u32,
    /// Bytes of a response that wait for the connection.
    pub send_buffer: usize,
    /// Largest frame taken.
    pub frame_bytes: u32,
    /// Silence after which a PING is sent; zero: never.
    pub ping: Duration,
    pub ping_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub x_forwarded: bool,
    pub forwarded: bool,
    pub via: bool,
}

/// Header changes: removed first, then set, then added. Values are templates, see `message::template`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    pub set: BTreeMap<String, String>,
    pub add: BTreeMap<String, String>,
    pub remove: Vec<String>,
}

/// `example.com`, `*.example.com`, `~^regex$`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(String),
    /// The part after `*.`; matches one or more labels before it.
    Wildcard(String),
    Regex(String),
}

/// `/prefix`, `=/exact`, `~^/regex$`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    Exact(String),
    /// By segment: `/ws` matches `/ws` and `/ws/x`, not `/wsx`.
    Prefix(String),
    Regex(String),
}

/// A condition on a header, query parameter or cookie, by name: `"value"`, `"~regex"`, `"*"` (present), `"!"` (absent).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValuePattern {
    Exact(String),
    Regex(String),
    Present,
    Absent,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Given, or `route-N` by position (from 1).
    pub name: Name,
    pub hosts: Vec<HostPattern>,
    /// Empty: every path.
    pub paths: Vec<PathPattern>,
    pub methods: Vec<String>,
    pub headers: BTreeMap<String, ValuePattern>,
    pub query: BTreeMap<String, ValuePattern>,
    pub cookies: BTreeMap<String, ValuePattern>,
    pub client_ip: Vec<IpNet>,
    /// Listener names; empty: all.
    pub listeners: Vec<Name>,
    /// Higher is tried first, before any specificity.
    pub priority: i32,
    pub action: Action,
    pub rewrite: Rewrite,
    pub host: HostHeader,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub timeouts: Timeouts,
    pub websocket: WebSocket,
    /// Largest request body here; `None`: the listener's.
    pub body_limit: Option<u64>,
    /// `Upgrade` protocols passed through besides `websocket`; lower case.
    pub upgrades: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Upstream(Name),
    /// Upstream to weight; at least one weight above 0.
    Split(BTreeMap<Name, u32>),
    Redirect {
        to: String,
        status: u16,
    },
    Respond {
        status: u16,
        body: String,
        headers: BTreeMap<String, String>,
    },
}

/// Change of the path before it is forwarded: strip, then regex, then add.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    pub strip_prefix: Option<String>,
    pub add_prefix: Option<String>,
    pub regex: Option<(String, String)>,
}

/// The Host header that the endpoint sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    Preserve,
    /// The endpoint's address as written.
    Endpoint,
    Name(String),
}

/// Upstream side timeouts of a route; zero: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request sent to the response head, per attempt.
    pub response: Duration,
    /// Longest silence in the response body.
    pub idle: Duration,
    /// From the request head to the last byte, all attempts together.
    pub total: Duration,
}

/// Bounds of tunnels, WebSockets and others; zero: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Longest silence in both directions.
    pub idle: Duration,
    /// Longest life.
    pub max_age: Duration,
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
    pub name: DnsName,
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
    /// The PROXY protocol header that connections begin with; `None`: none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `None`: endpoints are spoken to in the clear.
    pub tls: Option<UpstreamTls>,
    pub pool: Pool,
    /// `None`: endpoints are not probed.
    pub health: Option<Health>,
    pub outlier: Outlier,
    pub retry: Retry,
    pub breaker: Breaker,
    pub queue: Queue,
    pub drain: Drain,
    /// Over which an endpoint that is new, or back, comes to its full share; zero: at once.
    pub slow_start: Duration,
}

/// TLS to endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name asked for, and to be in the certificate; `None`: the host of the endpoint's address, or of the name
    /// that it was discovered by.
    pub server_name: Option<String>,
    /// Whom to trust; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What the gateway shows; both or none.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whether certificates are looked at.
    pub verify: bool,
}

/// When an upstream is left alone. Never, by `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Breaker {
    /// Requests at the same time, tunnels not counted; 0: any number.
    pub max_requests: u32,
    /// Share of failed requests that opens it, 0–1; 0: none does.
    pub error_rate: f64,
    /// Requests within the window below which the rate says nothing.
    pub min_requests: u64,
    pub window: Duration,
    pub open_for: Duration,
}

/// How endpoints leave that are told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// When what still runs there is cut, where whoever says so names no time; zero: never.
    pub deadline: Duration,
}

/// Requests that find every endpoint at its `max_connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait, over all workers; 0: none.
    pub max: usize,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthKind {
    Http,
    /// A connection is enough.
    Tcp,
    /// A handshake that is answered with 101.
    Websocket,
}

/// What is presumed of an endpoint before its first probe has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialHealth {
    /// Nothing: requests wait for it a moment.
    Probing,
    Healthy,
    Unhealthy,
}

/// Statuses as ranges, ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(pub Vec<(u16, u16)>);

impl StatusSet {
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl std::fmt::Display for StatusSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

/// `text` somewhere in it, or `~regex`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextPattern {
    Contains(String),
    Regex(String),
}

/// How endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub kind: HealthKind,
    pub method: String,
    /// With its query.
    pub path: String,
    /// `None`: the endpoint's address.
    pub host: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub status: StatusSet,
    pub body: Option<TextPattern>,
    /// `None`: the endpoint's.
    pub port: Option<u16>,
    pub interval: Duration,
    /// From the first failure until all is well again.
    pub fast_interval: Duration,
    /// From the beginning of the connection to the last byte of the answer.
    pub timeout: Duration,
    /// Passes in a row that make an endpoint healthy again.
    pub rise: u32,
    /// Failures in a row that make it unhealthy.
    pub fall: u32,
    /// Share by which waits are shorter at random, 0–1.
    pub jitter: f64,
    pub initial: InitialHealth,
}

/// When traffic's own experience takes an endpoint out. Nothing is, by `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlier {
    /// Failures in a row that eject; 0: they do not.
    pub consecutive_failures: u32,
    /// What the error rate is taken over.
    pub window: Duration,
    /// Share of failed requests that ejects, 0–1; 0: it does not.
    pub error_rate: f64,
    /// Requests within the window below which the rate says nothing.
    pub min_requests: u64,
    /// Time of a first ejection.
    pub eject: Duration,
    pub max_eject: Duration,
    /// Share of the endpoints that may be out, 0–1.
    pub max_ejected: f64,
    /// What is a failure.
    pub on: Causes,
}

/// When a request is sent to another endpoint. Never, by `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retry {
    /// Tries of a request that was sent, the first included.
    pub attempts: u32,
    /// Share of the requests that may be repeated, 0–1.
    pub budget: f64,
    /// After what.
    pub on: Causes,
    /// Bytes of a request body kept for another endpoint.
    pub body: u64,
    /// Methods that are not idempotent too.
    pub non_idempotent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Idle connections kept per endpoint and worker.
    pub idle_per_worker: usize,
    pub idle_timeout: Duration,
    /// Requests on one connection; 0: no limit.
    pub max_requests: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

/// A secret value; shows itself as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    pub name: String,
    pub role: Role,
    pub token: Secret,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: ListenAddress,
    pub tokens: Vec<AdminToken>,
}
