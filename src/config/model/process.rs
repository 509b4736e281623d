//! The process itself: workers, logs, DNS, and the admin API.

use super::{Drain, ListenAddress, Secret};
use crate::config::choices::Choice;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// How tunnels are asked to go; the deadline is [`Self::drain_timeout`]'s.
    pub drain: Drain,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    Role(Role),
    /// To register the services that this upstream discovers, and nothing else.
    Register(String),
}

/// As it is written.
impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role(role) => f.write_str(role.name()),
            Self::Register(upstream) => write!(f, "{REGISTER}{upstream}"),
        }
    }
}

/// What the grant to register begins with; the name of the upstream follows.
const REGISTER: &str = "register:";

impl Grant {
    /// Of its text; `None` for what is none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text.strip_prefix(REGISTER) {
            Some(upstream) => Some(Self::Register(upstream.to_owned())),
            None => Role::from_name(text).map(Self::Role),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    pub name: String,
    pub role: Grant,
    pub token: Secret,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: ListenAddress,
    pub tokens: Vec<AdminToken>,
}
