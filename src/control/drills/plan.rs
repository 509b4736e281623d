//! What would become of an endpoint's load, told beforehand.

use crate::control::status::{self, EndpointCondition};
use crate::upstream::shared::{EndpointKey, EndpointPlan, UpstreamPlan};
use serde::Serialize;

/// Others that are told one by one.
const TOLD: usize = 100;

/// Whether the rest would carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    #[default]
    Ok,
    /// Those left have fewer free places than run at the endpoint.
    Tight,
    /// There is nobody else.
    Alone,
}

/// One who would take over.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    pub address: String,
    pub state: EndpointCondition,
    pub backup: bool,
    pub weight: u32,
    /// Of new requests, by weight, in per cent.
    pub share_now: f64,
    pub share_then: f64,
    pub in_flight: u32,
    pub open_websockets: u32,
    /// Places left; `None`: any number.
    pub free: Option<u32>,
}

/// The plan.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    pub verdict: Verdict,
    pub state: Option<EndpointCondition>,
    /// What runs at the endpoint and would have to go.
    pub in_flight: u32,
    pub open_websockets: u32,
    pub share_now: f64,
    /// Others that take requests.
    pub ready: usize,
    pub others: Vec<Other>,
    /// How a failure is found: health checks, and failures of requests in a row.
    pub detection: Detection,
}

/// How long finding a failure takes at most.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Detection {
    pub health_checks_ms: Option<u64>,
    pub consecutive_failures: Option<u32>,
}

/// The plan for an endpoint; `None` when there is no such.
#[must_use]
pub fn of(upstreams: &[std::sync::Arc<UpstreamPlan>], key: &EndpointKey) -> Option<Plan> {
    let upstream = upstreams.iter().find(|plan| plan.name == key.upstream)?;
    let own = upstream
        .endpoints
        .iter()
        .position(|endpoint| endpoint.state.key == *key)?;
    let takes: Vec<bool> = upstream.endpoints.iter().map(takes).collect();
    let mut then = takes.clone();
    then[own] = false;
    let (now, then) = (
        shares(&upstream.endpoints, &takes),
        shares(&upstream.endpoints, &then),
    );
    let endpoint = &upstream.endpoints[own];
    let others: Vec<Other> = (0..upstream.endpoints.len())
        .filter(|at| *at != own)
        .map(|at| other(&upstream.endpoints[at], now[at], then[at]))
        .collect();
    let ready = others.iter().filter(|other| other.share_then > 0.0).count();
    let free = others
        .iter()
        .filter(|other| other.share_then > 0.0)
        .map(|other| other.free);
    // One without a limit takes all.
    let free: Option<u64> = free.map(|free| free.map(u64::from)).sum();
    let load = u64::from(endpoint.state.load());
    Some(Plan {
        verdict: match (ready, free) {
            (0, _) => Verdict::Alone,
            (_, Some(free)) if free < load => Verdict::Tight,
            (_, _) => Verdict::Ok,
        },
        state: Some(status::condition(endpoint)),
        in_flight: endpoint.state.in_flight(),
        open_websockets: endpoint.state.tunnels(),
        share_now: now[own],
        ready,
        others: others.into_iter().take(TOLD).collect(),
        detection: detection(upstream),
    })
}

fn takes(endpoint: &EndpointPlan) -> bool {
    status::condition(endpoint) == EndpointCondition::Active
}

/// Each one's share of new requests, in per cent: backups have one only where nobody else has.
fn shares(endpoints: &[EndpointPlan], takes: &[bool]) -> Vec<f64> {
    let first = |backup: bool| {
        let mut taking = endpoints.iter().zip(takes);
        taking.any(|(endpoint, takes)| *takes && endpoint.backup == backup)
    };
    let backups = !first(false);
    let weight = |(endpoint, takes): (&EndpointPlan, &bool)| {
        if *takes && endpoint.backup == backups {
            f64::from(endpoint.weight)
        } else {
            0.0
        }
    };
    let weights: Vec<f64> = endpoints.iter().zip(takes).map(weight).collect();
    let sum = weights.iter().sum::<f64>().max(1.0);
    weights
        .iter()
        .map(|weight| (weight / sum * 10_000.0).round() / 100.0)
        .collect()
}

fn other(endpoint: &EndpointPlan, share_now: f64, share_then: f64) -> Other {
    let most = endpoint.max_connections;
    Other {
        address: endpoint.state.key.address.to_string(),
        state: status::condition(endpoint),
        backup: endpoint.backup,
        weight: endpoint.weight,
        share_now,
        share_then,
        in_flight: endpoint.state.in_flight(),
        open_websockets: endpoint.state.tunnels(),
        free: (most > 0).then(|| most.saturating_sub(endpoint.state.load())),
    }
}

fn detection(upstream: &UpstreamPlan) -> Detection {
    let failures = upstream.resilience.outlier.consecutive_failures;
    Detection {
        health_checks_ms: upstream.health.as_ref().map(|check| {
            let time = check.cadence.interval + check.cadence.timeout * check.cadence.fall;
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        }),
        consecutive_failures: (failures > 0).then_some(failures),
    }
}
