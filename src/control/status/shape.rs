//! What the API shows: plain data, as JSON names it.

use super::cluster::ClusterStatus;
use super::overridden::{BalanceStatus, DrainStatus, EndpointOverrideStatus};
use super::sticky::StickyStatus;
use crate::control::journal::AuditEntry;
use crate::upstream::shared::balancer::score::ScoreShown;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything at a glance.
#[derive(Debug, Serialize)]
pub struct Status {
    pub node: NodeStatus,
    pub config: ConfigStatus,
    pub listeners: Vec<ListenerStatus>,
    pub routes: Vec<RouteStatus>,
    pub upstreams: Vec<UpstreamStatus>,
    pub workers: Vec<WorkerStatus>,
    pub cluster: ClusterStatus,
    pub totals: TotalsStatus,
    pub access_log: AccessLogStatus,
    pub process: ProcessStatus,
}

#[derive(Debug, Serialize)]
pub struct NodeStatus {
    pub id: String,
    pub version: &'static str,
    pub pid: u32,
    /// `starting`, `serving`, `draining`.
    pub state: &'static str,
    /// How far its end is; `null` before.
    pub drain: Option<NodeDrainStatus>,
    /// RFC 3339.
    pub started: String,
    pub uptime_seconds: u64,
    pub state_dir: Option<String>,
    pub control_socket: Option<String>,
}

/// How far the end of the gateway is.
#[derive(Debug, Serialize)]
pub struct NodeDrainStatus {
    /// Connections and tunnels that are left.
    pub connections: usize,
    pub open_websockets: usize,
    /// RFC 3339: when what is left is cut. Tunnels are asked to go until shortly before.
    pub estimated_end: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ConfigStatus {
    pub generation: u64,
    pub files: Vec<String>,
    pub warnings: usize,
    pub last_reload: Option<AuditEntry>,
}

#[derive(Debug, Default, Serialize)]
pub struct TotalsStatus {
    pub connections: i64,
    pub connections_total: u64,
    pub requests_total: u64,
    pub in_flight: u64,
    pub open_websockets: u64,
}

#[derive(Debug, Serialize)]
pub struct ListenerStatus {
    pub name: String,
    /// As really bound; `null` for one that is just closing.
    pub address: Option<String>,
    pub connections: i64,
    pub connections_total: u64,
    pub connections_refused: u64,
    pub requests: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

#[derive(Debug, Serialize)]
pub struct RouteStatus {
    pub name: String,
    pub hosts: Vec<String>,
    pub paths: Vec<String>,
    pub methods: Vec<String>,
    pub listeners: Vec<String>,
    pub priority: i32,
    /// `upstream`, `split`, `redirect`, `respond`.
    pub action: &'static str,
    pub upstreams: Vec<String>,
    pub requests: u64,
    /// By class of the status sent; `none`: the client left before.
    pub statuses: BTreeMap<&'static str, u64>,
    /// By token.
    pub errors: BTreeMap<&'static str, u64>,
    pub open_websockets: i64,
    pub latency: Latency,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

#[derive(Debug, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    pub balance: &'static str,
    /// By what endpoints are discovered, where they are.
    pub discovery: Option<DiscoveryStatus>,
    /// Where that is not the file's.
    pub balance_override: Option<BalanceStatus>,
    /// What endpoints are spoken to in: `h1`, `h2`, or what each agrees on.
    pub protocol: &'static str,
    /// `null` where endpoints are spoken to in the clear.
    pub tls: Option<TlsStatus>,
    /// `null` where each request is balanced by itself.
    pub sticky: Option<StickyStatus>,
    pub breaker: BreakerStatus,
    /// `null` where no endpoint has a `max_connections`.
    pub queue: Option<QueueStatus>,
    /// While tunnels are asked to go because an endpoint joined.
    pub rebalance: Option<RebalanceStatus>,
    pub ready_endpoints: usize,
    /// No endpoint is well, and requests are sent to them all the same.
    pub fail_open: bool,
    pub in_flight: u32,
    pub open_websockets: u32,
    pub requests: u64,
    pub failures: u64,
    pub endpoints: Vec<EndpointStatus>,
}

#[derive(Debug, Serialize)]
pub struct TlsStatus {
    /// Whether endpoints must prove who they are.
    pub verified: bool,
}

#[derive(Debug, Serialize)]
pub struct DiscoveryStatus {
    /// The name that is looked up.
    pub name: String,
    /// Endpoints that the name stands for.
    pub found: usize,
    /// Those of them that are left out: beyond `discover.max_endpoints`, or written in the configuration.
    pub left_out: usize,
    /// Why the last look-up failed; the endpoints then are those of the last good answer.
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct EndpointStatus {
    /// Less than `weight` while it starts slowly.
    pub weight_now: f64,
    pub address: String,
    pub state: EndpointCondition,
    /// When that began, RFC 3339, and why; `null` where nobody said so and nothing happened.
    pub since: Option<String>,
    pub reason: Option<String>,
    pub ready: bool,
    /// What operators want of it: `active`, `draining`, `maintenance`; `state` is what came of that.
    pub admin_state: &'static str,
    pub weight: u32,
    pub backup: bool,
    pub zone: Option<String>,
    /// Not written in the configuration.
    pub discovered: bool,
    /// What differs from the file.
    #[serde(rename = "override")]
    pub overrides: Option<EndpointOverrideStatus>,
    /// While it is told to leave.
    pub drain: Option<DrainStatus>,
    /// 0: any number.
    pub max_connections: u32,
    pub in_flight: u32,
    pub open_websockets: u32,
    /// What speaks for and against it, where the algorithm learns (`least_time`, `adaptive`); the lowest is best.
    pub score: Option<ScoreShown>,
    /// Times it was picked, and which share of all picks of its upstream that is, 0–1.
    pub requests: u64,
    pub share: Option<f64>,
    pub failures: u64,
    /// The latest of them, as a token or `status N`, and when it was.
    pub last_error: Option<String>,
    pub last_error_at: Option<String>,
    /// Failures since the last success.
    pub failure_streak: u32,
    /// Times it was ejected since it became known.
    pub ejections: u64,
    /// The latest, over or not.
    pub last_ejection: Option<EjectionStatus>,
    pub errors: BTreeMap<&'static str, u64>,
    pub retries: RetryStatus,
    pub connections: PoolStatus,
    /// `null` where it is spoken to in the clear.
    pub tls: Option<HandshakeStatus>,
    pub latency: Latency,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Where the address leads now.
    pub resolved: Vec<String>,
    pub resolve_error: Option<String>,
    /// What its checks say; `null` where nobody checks.
    pub health: Option<HealthStatus>,
}

#[derive(Debug, Serialize)]
pub struct HealthStatus {
    /// `pending`, `healthy`, `unhealthy`.
    pub state: &'static str,
    /// RFC 3339, as all moments here.
    pub since: String,
    /// Why it is not well: the last failure.
    pub reason: Option<String>,
    /// It came and went, and is not well again before then, whatever its probes say.
    pub held_until: Option<String>,
    /// How often it was held.
    pub flaps: u64,
    pub passes_in_a_row: u32,
    pub failures_in_a_row: u32,
    /// By what they came to.
    pub probes: BTreeMap<&'static str, u64>,
    /// Left out, because other gateways of the cluster made them.
    pub probes_skipped: u64,
    pub next_probe: String,
    /// The latest first.
    pub last_results: Vec<ProbeStatus>,
}

#[derive(Debug, Serialize)]
pub struct ProbeStatus {
    pub at: String,
    pub passed: bool,
    pub latency_ms: f64,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    /// Why it failed, in one word and in a sentence.
    pub cause: Option<&'static str>,
    pub reason: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct BreakerStatus {
    /// `closed`, `half_open`, `open`.
    pub state: &'static str,
    /// Times it opened.
    pub opened: u64,
    /// Requests that it turned away, and those turned away because `max_requests` ran.
    pub refused: u64,
    pub crowded: u64,
    /// Of the latest opening, over or not; the times in RFC 3339.
    pub reason: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
}

/// Requests that found every endpoint at its limit.
#[derive(Debug, Serialize)]
pub struct QueueStatus {
    pub waiting: usize,
    pub max: usize,
    /// Got a place, and the milliseconds that they waited in all.
    pub served: u64,
    pub served_ms: u64,
    /// Did not fit into the line.
    pub full: u64,
    /// Waited in vain.
    pub late: u64,
}

/// How far tunnels are with going to an endpoint that joined.
#[derive(Debug, Serialize)]
pub struct RebalanceStatus {
    /// RFC 3339, as all moments here.
    pub since: String,
    /// Tunnels there were then.
    pub at_start: u64,
    /// Asked to go so far, and how many are still above the threshold.
    pub asked: u64,
    pub surplus: u32,
    /// Asked per second.
    pub rate: u32,
    pub threshold: f64,
    /// When the last of the surplus will have been asked.
    pub estimated_end: String,
}

/// Why requests were kept from an endpoint, and for how long.
#[derive(Debug, Serialize)]
pub struct EjectionStatus {
    pub reason: String,
    /// RFC 3339.
    pub since: String,
    pub until: String,
    pub over: bool,
}

/// What an endpoint can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointCondition {
    Active,
    /// Its checks have come to no verdict yet.
    Pending,
    /// Its checks fail.
    Unhealthy,
    /// Requests failed at it; it is let back in after a while.
    Ejected,
    /// Told to finish what runs and to take nothing new.
    Draining,
    /// Told to take nothing.
    Maintenance,
    /// Its weight is 0: no new requests.
    Disabled,
    /// Its name has not been resolved yet, or never could be.
    Unresolved,
}

impl EndpointCondition {
    /// The word for it, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Disabled => "disabled",
            Self::Unresolved => "unresolved",
        }
    }
}

/// Requests that went on to another endpoint after a failure.
#[derive(Debug, Serialize)]
pub struct RetryStatus {
    /// That it got after they failed at another one.
    pub taken: u64,
    /// That another one got after they failed here.
    pub given: u64,
    /// That no other one got, by the reason why not.
    pub suppressed: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
pub struct PoolStatus {
    pub active: i64,
    pub idle: i64,
    /// Those that requests share, and the requests on them.
    pub http2: i64,
    pub http2_streams: i64,
    pub opened: u64,
    pub failed: u64,
    pub reused: u64,
}

/// TLS handshakes with an endpoint.
#[derive(Debug, Serialize)]
pub struct HandshakeStatus {
    pub full: u64,
    pub resumed: u64,
    /// Those that failed, by the reason.
    pub failed: BTreeMap<&'static str, u64>,
}

/// Quantiles since the start, in milliseconds; `null` without a sample.
#[derive(Debug, Serialize)]
pub struct Latency {
    pub samples: u64,
    pub mean_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct WorkerStatus {
    pub worker: usize,
    /// `active`, `late`.
    pub state: &'static str,
    pub connections: usize,
    pub connections_total: u64,
    pub requests: u64,
    pub cpu_seconds: f64,
    /// How late the worker's clock was: the longest, and quantiles.
    pub loop_lag_max_ms: f64,
    pub loop_lag: Latency,
    /// Since it last showed that it turns.
    pub silent_ms: u64,
    pub generation: u64,
    pub panics: u64,
    pub restarts: usize,
}

#[derive(Debug, Serialize)]
pub struct AccessLogStatus {
    pub written: u64,
    pub dropped: u64,
    pub failed: u64,
}

#[derive(Debug, Serialize)]
pub struct ProcessStatus {
    pub cpu_seconds: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub memory_peak_bytes: Option<u64>,
    pub open_files: Option<u64>,
    pub max_files: Option<u64>,
    pub threads: Option<u64>,
}
