//! The gateway among others.

use super::{ListenAddress, Secret, UpstreamTls};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A gateway in a cluster; without Redis a cluster of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    pub name: String,
    /// Whether `redis` counts.
    pub enabled: bool,
    /// `None`: the bus is in this process.
    pub redis: Option<RedisUrl>,
    /// In place of the one in the URL.
    pub redis_user: Option<String>,
    pub redis_password: Option<Secret>,
    pub sentinel_user: Option<String>,
    pub sentinel_password: Option<Secret>,
    /// Terms of `rediss://`.
    pub redis_tls: UpstreamTls,
    /// `None`: the one kept in the state directory.
    pub node: Option<String>,
    /// First part of keys and channels.
    pub prefix: String,
    /// Signs what is announced and seals what is shared.
    pub key: Option<Secret>,
    pub heartbeat: Duration,
    pub gone_after: Duration,
    pub duplicate: DuplicateNode,
    pub config: ConfigSource,
    /// Gateways ask each other whether they live.
    pub ping: bool,
    /// Where others reach the admin listener; `None`: where it is.
    pub advertise: Option<ListenAddress>,
    pub labels: Labels,
}

/// What a gateway does that finds another with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateNode {
    /// It takes part under its id with its incarnation behind it, until the id is free.
    Rename,
    /// It stays out of the cluster until the id is free.
    Refuse,
}

/// Where a gateway has what it serves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// From its own file alone.
    Off,
    /// From the cluster, once something is published there.
    Follow,
}

/// Where a node is and what it is for; empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub role: String,
    pub region: String,
    pub zone: String,
}

/// How the servers of a URL belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisKind {
    /// One server; with several addresses, the first that is a master.
    Single,
    /// The addresses are sentinels', which know the master of this name.
    Sentinel { master: String },
    /// The addresses are some nodes of a Redis Cluster.
    Cluster,
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RedisAddress {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which Redis, and how to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    pub kind: RedisKind,
    pub tls: bool,
    /// At least one.
    pub addresses: Vec<RedisAddress>,
    pub database: u32,
    pub user: Option<String>,
    pub password: Option<Secret>,
}
