//! Which requests go where, and what is changed on the way.

use super::Name;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::time::Duration;

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

/// Bounds of any tunnel; zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelBounds {
    /// Longest silence in both directions.
    pub idle: Duration,
    /// Longest life.
    pub max_age: Duration,
}

/// What WebSockets and other upgraded connections of a route are held to; zero: no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocket {
    pub bounds: TunnelBounds,
    /// Longest silence of the client, whatever the endpoint says, and the other way round.
    pub client_idle: Duration,
    pub endpoint_idle: Duration,
    /// From the handshake's head to the endpoint's answer.
    pub handshake_timeout: Duration,
    /// Handshakes per second.
    pub accept_rate: u32,
    /// Tunnels open at the same time.
    pub connections: usize,
    /// Those of one client address.
    pub connections_per_ip: usize,
    /// Pages that may open WebSockets, in lower case; empty: all.
    pub origins: Vec<String>,
    /// Frames are looked at.
    pub inspect: bool,
    /// Silence after which a client is asked for a sign of life; with `inspect`.
    pub ping: Duration,
    /// Largest message in bytes; with `inspect`.
    pub max_message: u64,
    /// Messages, and bytes, per second of a client; with `inspect`.
    pub message_rate: u32,
    pub byte_rate: u64,
    /// A record when the tunnel opens, too.
    pub log_open: bool,
}

impl WebSocket {
    /// Whether frames are looked at, for their own sake or that of a bound.
    #[must_use]
    pub fn inspects(&self) -> bool {
        self.inspect
            || !self.ping.is_zero()
            || self.max_message > 0
            || self.message_rate > 0
            || self.byte_rate > 0
    }
}
