//! The gateway as the API shows it: built when somebody asks, from the configuration in force, the live state of
//! endpoints, and the metric blocks. Never stored.

pub mod cluster;
mod overridden;
mod shape;
pub mod sticky;
pub mod tls;
mod written;

pub use cluster::ClusterStatus;
use overridden::describe;
pub use overridden::*;
pub use shape::*;

use super::gateway::Gateway;
use super::health;
use super::rebalance::Progress;
use crate::base::clock::Millis;
use crate::config::model::{Action, HostPattern, PathPattern, Route};
use crate::net::listen::Address;
use crate::telemetry::metrics::{
    EndpointSeries, HistogramCounts, ListenerSeries, RouteSeries, Totals, WorkerSeries,
};
use crate::telemetry::process::ProcessStats;
use crate::upstream::conn::Speaks;
use crate::upstream::shared::balancer::score::scores;
use crate::upstream::shared::standing::Health;
use crate::upstream::shared::{AdminState, EndpointPlan, Target, UpstreamPlan};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Status {
    #[must_use]
    pub fn of(gateway: &Gateway) -> Self {
        let totals = gateway.metrics.totals();
        let listeners = listeners(gateway, &totals);
        let routes = routes(gateway, &totals);
        let upstreams = upstreams(gateway, &totals);
        Self {
            node: node(gateway),
            config: config(gateway),
            totals: TotalsStatus {
                connections: listeners.iter().map(|listener| listener.connections).sum(),
                connections_total: listeners.iter().map(|listener| listener.connections_total).sum(),
                requests_total: listeners.iter().map(|listener| listener.requests).sum(),
                in_flight: upstreams
                    .iter()
                    .map(|upstream| u64::from(upstream.in_flight))
                    .sum(),
                open_websockets: upstreams
                    .iter()
                    .map(|upstream| u64::from(upstream.open_websockets))
                    .sum(),
            },
            listeners,
            routes,
            upstreams,
            workers: workers(gateway, &totals),
            cluster: ClusterStatus::of(gateway),
            access_log: access_log(gateway),
            process: process(),
        }
    }
}

fn node(gateway: &Gateway) -> NodeStatus {
    let up = Timestamp::now().duration_since(gateway.node.started);
    NodeStatus {
        id: gateway.node.id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        state: gateway.phase().name(),
        drain: gateway.board.shed().map(|shed| NodeDrainStatus {
            connections: gateway.board.connections(),
            open_websockets: gateway.board.tunnels(),
            estimated_end: shed.deadline.and_then(|deadline| {
                let left = deadline.saturating_duration_since(std::time::Instant::now());
                Some(Timestamp::now().checked_add(left).ok()?.to_string())
            }),
        }),
        started: gateway.node.started.to_string(),
        uptime_seconds: u64::try_from(up.as_secs()).unwrap_or(0),
        state_dir: gateway
            .node
            .state_dir
            .as_ref()
            .map(|path| path.display().to_string()),
        control_socket: gateway
            .node
            .control_socket
            .as_ref()
            .map(|path| path.display().to_string()),
    }
}

fn config(gateway: &Gateway) -> ConfigStatus {
    let running = gateway.running.load();
    ConfigStatus {
        generation: gateway.live.generation(),
        files: running
            .files
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        warnings: running.warnings.len(),
        last_reload: gateway.journal.last("config.reload"),
    }
}

/// The listeners of the configuration in force with what was counted for them.
#[must_use]
pub fn listeners(gateway: &Gateway, totals: &Totals) -> Vec<ListenerStatus> {
    let bound: BTreeMap<String, Address> = gateway
        .bound()
        .into_iter()
        .map(|listener| (listener.name.to_string(), listener.address))
        .collect();
    let none = ListenerSeries::default();
    let running = gateway.running.load();
    let status = |name: &String| {
        let series = totals.listeners.get(name.as_str()).unwrap_or(&none);
        ListenerStatus {
            name: name.clone(),
            address: bound.get(name).map(ToString::to_string),
            connections: series.connections_open.get(),
            connections_total: series.connections_accepted.get(),
            connections_refused: series.connections_refused.sum(),
            requests: series.requests.get(),
            bytes_received: series.bytes_received.get(),
            bytes_sent: series.bytes_sent.get(),
        }
    };
    running.config.listeners.keys().map(status).collect()
}

/// The routes of the configuration in force with what was counted for them.
#[must_use]
pub fn routes(gateway: &Gateway, totals: &Totals) -> Vec<RouteStatus> {
    let running = gateway.running.load();
    running
        .config
        .routes
        .iter()
        .map(|route| route_status(route, totals))
        .collect()
}

fn route_status(route: &Route, totals: &Totals) -> RouteStatus {
    let series: Vec<&RouteSeries> = totals
        .routes
        .range((Box::from(route.name.as_str()), Box::from(""))..)
        .take_while(|((name, _), _)| **name == *route.name)
        .map(|(_, series)| series)
        .collect();
    let sum = |count: fn(&RouteSeries) -> u64| series.iter().map(|series| count(series)).sum();
    let (action, upstreams) = match &route.action {
        Action::Upstream(name) => ("upstream", vec![name.clone()]),
        Action::Split(weights) => ("split", weights.keys().cloned().collect()),
        Action::Redirect { .. } => ("redirect", Vec::new()),
        Action::Respond { .. } => ("respond", Vec::new()),
    };
    RouteStatus {
        name: route.name.clone(),
        hosts: route.hosts.iter().map(host_text).collect(),
        paths: route.paths.iter().map(path_text).collect(),
        methods: route.methods.clone(),
        listeners: route.listeners.clone(),
        priority: route.priority,
        action,
        upstreams,
        requests: sum(|series| series.requests.sum()),
        statuses: sums(series.iter().flat_map(|series| series.requests.iter())),
        errors: sums(series.iter().flat_map(|series| series.errors.iter())),
        open_websockets: series.iter().map(|series| series.tunnels_open.get()).sum(),
        latency: latency(series.iter().map(|series| series.duration.counts())),
        bytes_received: sum(|series| series.bytes_received.get()),
        bytes_sent: sum(|series| series.bytes_sent.get()),
    }
}

/// As the operator wrote it.
fn host_text(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Wildcard(rest) => format!("*.{rest}"),
        HostPattern::Regex(regex) => format!("~{regex}"),
    }
}

/// As the operator wrote it.
fn path_text(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => format!("={path}"),
        PathPattern::Prefix(path) => path.clone(),
        PathPattern::Regex(regex) => format!("~{regex}"),
    }
}

fn sums(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (label, count) in counts.filter(|(_, count)| *count > 0) {
        *sums.entry(label).or_default() += count;
    }
    sums
}

/// The upstreams in force with the live state of their endpoints.
#[must_use]
pub fn upstreams(gateway: &Gateway, totals: &Totals) -> Vec<UpstreamStatus> {
    let snapshot = gateway.live.load();
    snapshot
        .upstreams
        .iter()
        .map(|plan| upstream_status(gateway, plan, totals))
        .collect()
}

/// One upstream by its name.
#[must_use]
pub fn upstream(gateway: &Gateway, name: &str) -> Option<UpstreamStatus> {
    let snapshot = gateway.live.load();
    let plan = snapshot.upstreams.iter().find(|plan| &*plan.name == name)?;
    Some(upstream_status(gateway, plan, &gateway.metrics.totals()))
}

fn upstream_status(gateway: &Gateway, plan: &UpstreamPlan, totals: &Totals) -> UpstreamStatus {
    let mut endpoints: Vec<EndpointStatus> = plan
        .endpoints
        .iter()
        .map(|endpoint| endpoint_status(plan, endpoint, totals))
        .collect();
    if plan.learns() {
        for (endpoint, score) in endpoints.iter_mut().zip(scores(plan, Millis::now())) {
            endpoint.score = Some(score.into());
        }
    }
    let picks: u64 = endpoints.iter().map(|endpoint| endpoint.requests).sum();
    for endpoint in &mut endpoints {
        endpoint.share = (picks > 0).then(|| endpoint.requests as f64 / picks as f64);
    }
    let mut status = UpstreamStatus {
        name: plan.name.to_string(),
        balance: plan.balance_name(),
        balance_override: None,
        discovery: None,
        protocol: match plan.dial.speaks {
            Speaks::Http1 => "h1",
            Speaks::Http2 => "h2",
            Speaks::Either => "auto",
        },
        tls: plan.dial.tls.as_ref().map(|tls| TlsStatus {
            verified: tls.is_verified(),
        }),
        sticky: sticky::status(plan, totals),
        breaker: breaker_status(plan),
        queue: queue_status(plan),
        rebalance: gateway
            .rebalances
            .progress(&plan.name)
            .as_ref()
            .map(rebalance_status),
        ready_endpoints: endpoints.iter().filter(|endpoint| endpoint.ready).count(),
        fail_open: plan.fails_open(Millis::now()),
        in_flight: endpoints.iter().map(|endpoint| endpoint.in_flight).sum(),
        open_websockets: endpoints.iter().map(|endpoint| endpoint.open_websockets).sum(),
        requests: endpoints.iter().map(|endpoint| endpoint.requests).sum(),
        failures: endpoints.iter().map(|endpoint| endpoint.failures).sum(),
        endpoints,
    };
    describe(gateway, &mut status);
    written::describe(gateway, &mut status);
    status
}

fn rebalance_status(progress: &Progress) -> RebalanceStatus {
    RebalanceStatus {
        since: progress.round.began.timestamp().to_string(),
        at_start: progress.round.total,
        asked: progress.round.asked,
        surplus: progress.round.surplus,
        rate: progress.rules.rate,
        threshold: progress.rules.threshold,
        estimated_end: progress.end().timestamp().to_string(),
    }
}

/// What this endpoint can be given now.
#[must_use]
pub fn condition(endpoint: &EndpointPlan) -> EndpointCondition {
    let standing = &endpoint.state.standing;
    match (endpoint.admin, standing.health()) {
        (AdminState::Draining, _) => EndpointCondition::Draining,
        (AdminState::Maintenance, _) => EndpointCondition::Maintenance,
        _ if endpoint.weight == 0 => EndpointCondition::Disabled,
        _ if endpoint.state.targets().list.is_empty() => EndpointCondition::Unresolved,
        (_, Health::Unhealthy | Health::Held) => EndpointCondition::Unhealthy,
        (_, Health::Pending) => EndpointCondition::Pending,
        _ if !standing.is_good(Millis::now()) => EndpointCondition::Ejected,
        _ => EndpointCondition::Active,
    }
}

fn endpoint_status(plan: &UpstreamPlan, endpoint: &EndpointPlan, totals: &Totals) -> EndpointStatus {
    let none = EndpointSeries::default();
    let address = &*endpoint.state.key.address;
    let series = totals
        .endpoints
        .get(&((&*plan.name).into(), address.into()))
        .unwrap_or(&none);
    let targets = endpoint.state.targets();
    let state = condition(endpoint);
    let last_fault = endpoint.state.last_fault.get();
    EndpointStatus {
        address: address.to_owned(),
        state,
        since: None,
        reason: None,
        ready: state == EndpointCondition::Active,
        admin_state: endpoint.admin.name(),
        weight: endpoint.weight,
        weight_now: plan.weight_now(endpoint, Millis::now()),
        backup: endpoint.backup,
        zone: None,
        discovered: false,
        overrides: None,
        drain: None,
        max_connections: endpoint.max_connections,
        in_flight: endpoint.state.in_flight(),
        open_websockets: endpoint.state.tunnels(),
        score: None,
        requests: series.attempts.get(),
        share: None,
        failures: series.failures.sum(),
        last_error: last_fault.map(|(fault, _)| fault.to_string()),
        last_error_at: last_fault.map(|(_, at)| format!("{:.3}", at.timestamp())),
        failure_streak: endpoint.state.failure_streak(),
        ejections: endpoint.state.ejections.total(),
        last_ejection: ejection(endpoint),
        errors: sums(series.failures.iter()),
        retries: RetryStatus {
            taken: series.retries.get(),
            given: series.retries_given.get(),
            suppressed: sums(series.retries_suppressed.iter()),
        },
        connections: PoolStatus {
            active: series.connections_active.get(),
            idle: series.connections_idle.get(),
            http2: series.http2_connections.get(),
            http2_streams: series.http2_streams.get(),
            opened: series.connects.get(),
            failed: series.connects_failed.get(),
            reused: series.reuses.get(),
        },
        tls: plan.dial.tls.as_ref().map(|_| HandshakeStatus {
            full: series.tls_full.get(),
            resumed: series.tls_resumed.get(),
            failed: sums(series.tls_failed.iter()),
        }),
        latency: latency([series.response_seconds.counts()]),
        bytes_sent: series.bytes_sent.get(),
        bytes_received: series.bytes_received.get(),
        resolved: targets.list.iter().map(target_text).collect(),
        resolve_error: targets.error.clone(),
        health: health::view::of(&endpoint.state),
    }
}

fn breaker_status(plan: &UpstreamPlan) -> BreakerStatus {
    let (now, admission) = (Millis::now(), &plan.resilience.admission);
    let breaker = &admission.breaker;
    let last = breaker.last();
    BreakerStatus {
        state: breaker.state(now).name(),
        opened: breaker.opened(),
        refused: breaker.refused(),
        crowded: admission.crowded(),
        reason: last.as_ref().map(ToString::to_string),
        since: last.as_ref().map(|last| moment(last.since, now)),
        until: last.as_ref().map(|last| moment(last.until, now)),
    }
}

fn queue_status(plan: &UpstreamPlan) -> Option<QueueStatus> {
    let policies = &plan.resilience;
    let queue = &policies.admission.queue;
    policies.limited.then(|| QueueStatus {
        waiting: queue.waiting(),
        max: policies.queue.max,
        served: queue.counts.served.load(Relaxed),
        served_ms: queue.counts.served_ms.load(Relaxed),
        full: queue.counts.full.load(Relaxed),
        late: queue.counts.late.load(Relaxed),
    })
}

fn ejection(endpoint: &EndpointPlan) -> Option<EjectionStatus> {
    let now = Millis::now();
    let last = endpoint.state.ejections.last()?;
    Some(EjectionStatus {
        reason: last.reason.to_string(),
        since: moment(last.since, now),
        until: moment(last.until, now),
        over: last.until <= now,
    })
}

/// A moment of the monotonic clock on the one on the wall.
fn moment(at: Millis, now: Millis) -> String {
    let wall = Timestamp::now();
    let moved = if at > now {
        wall.checked_add(at.since(now))
    } else {
        wall.checked_sub(now.since(at))
    };
    moved.unwrap_or(wall).to_string()
}

fn target_text(target: &Target) -> String {
    match target {
        Target::Tcp(address) => address.to_string(),
        Target::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn latency(counts: impl IntoIterator<Item = HistogramCounts>) -> Latency {
    let mut all = HistogramCounts::default();
    for counts in counts {
        for (sum, bucket) in all.buckets.iter_mut().zip(counts.buckets) {
            *sum += bucket;
        }
        all.sum_us += counts.sum_us;
    }
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let samples = all.count();
    Latency {
        samples,
        mean_ms: all.mean().map(ms),
        p50_ms: all.quantile(0.5).map(ms),
        p90_ms: all.quantile(0.9).map(ms),
        p99_ms: all.quantile(0.99).map(ms),
    }
}

/// Each worker with what was counted for it and its predecessors.
#[must_use]
pub fn workers(gateway: &Gateway, totals: &Totals) -> Vec<WorkerStatus> {
    let none = WorkerSeries::default();
    let status = |view: super::workers::WorkerView| {
        let series = totals.workers.get(&view.worker).unwrap_or(&none);
        WorkerStatus {
            worker: view.worker,
            state: if view.turning { "active" } else { "late" },
            connections: view.connections,
            connections_total: series.accepted.get(),
            requests: series.requests.get(),
            cpu_seconds: series.cpu_us.get() as f64 / 1e6,
            loop_lag_max_ms: series.loop_lag_max_us.get() as f64 / 1e3,
            loop_lag: latency([series.loop_lag.counts()]),
            silent_ms: u64::try_from(view.silent.as_millis()).unwrap_or(u64::MAX),
            generation: view.generation,
            panics: series.panics.get(),
            restarts: view.replacements,
        }
    };
    gateway.workers().into_iter().map(status).collect()
}

fn access_log(gateway: &Gateway) -> AccessLogStatus {
    let series = &gateway.metrics.access_log;
    AccessLogStatus {
        written: series.records_written.get(),
        dropped: series.records_dropped.get(),
        failed: series.records_failed.get(),
    }
}

fn process() -> ProcessStatus {
    let stats = ProcessStats::read();
    ProcessStatus {
        cpu_seconds: stats.cpu.map(|cpu| cpu.as_secs_f64()),
        memory_bytes: stats.resident,
        memory_peak_bytes: stats.peak,
        open_files: stats.open_fds,
        max_files: stats.max_fds,
        threads: stats.threads,
    }
}
