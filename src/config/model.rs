//! The configuration as the operator wrote it, parsed into exact scalars, with every default filled in.
//!
//! Nothing here is compiled or resolved: references between objects are names, files are paths. `snapshot`
//! turns it into something that can serve.

mod cluster;
mod http2;
mod listener;
mod process;
mod resilience;
mod route;
mod sticky;
mod tls;
mod upstream;

pub use crate::message::causes::{Cause, Causes};
pub use crate::message::path::{DotSegments, DoubleSlash, EncodedSlash, PathPolicy};
pub use cluster::{Cluster, ConfigSource, DuplicateNode, Labels, RedisAddress, RedisKind, RedisUrl};
pub use http2::Http2Bounds;
pub use listener::{
    AcceptProxy, Forwarded, Limits, ListenAddress, Listener, Passthrough, Protocol, Protocols, ProxyVersion,
    RequestIdPolicy,
};
pub use process::{
    AccessFormat, AccessLog, AddressFamily, Admin, AdminToken, Dns, Grant, Log, LogFormat, LogLevel, Role,
    Runtime, Workers,
};
pub use resilience::{Breaker, Health, HealthKind, InitialHealth, Outlier, Retry, StatusSet, TextPattern};
pub use route::{
    Action, HeaderEdits, HostHeader, HostPattern, PathPattern, Rewrite, Route, Timeouts, TunnelBounds,
    ValuePattern, WebSocket,
};
use std::collections::BTreeMap;
pub use sticky::{Learn, OnMissing, SameSite, Secure, SessionName, Sticky, StickyBy, StickyCookie};
pub use tls::{
    Acme, AcmeChallenge, AcmeKey, Alpn, CertificateFiles, ClientAuth, ClientAuthMode, ExternalAccount,
    NamedClientAuth, TLS_GROUPS, TLS_SUITES, TLS13_SUITES, Tls, TlsPolicy, UnknownName, UpstreamTls,
};
pub use upstream::{
    Balance, Discover, DiscoverFrom, DnsName, Drain, Endpoint, EndpointAddress, HashKey, Pool, Queue,
    Rebalance, Services, ShedOrder, Upstream, UpstreamProtocol,
};

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
    pub cluster: Cluster,
    pub admin: Option<Admin>,
}

/// A secret value; shows itself as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
