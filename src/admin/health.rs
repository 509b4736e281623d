//! Is it alive, may it have traffic.

use super::Api;
use crate::cluster::Reason;
use crate::control::gateway::Phase;
use crate::control::{Gateway, memory};
use crate::telemetry::process::ProcessStats;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

/// The body of `/health`, `/livez` and `/readyz`.
#[derive(Debug, Serialize)]
pub struct Health {
    /// `healthy`; `degraded` when a worker does not turn; `starting`, `draining`; `unhealthy` when none turns.
    pub status: &'static str,
    pub cluster: Cluster,
}

/// The workers of this gateway, and whether it is one of several.
#[derive(Debug, Serialize)]
pub struct Cluster {
    pub mode: bool,
    pub workers: usize,
    /// Workers that turn.
    pub active: usize,
    pub memory: Memory,
    /// How the bus among gateways is: `embedded`, `live`, `degraded`, `down`, `resync`. No request waits for it, so it
    /// decides nothing here.
    pub bus: &'static str,
    /// Why it is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_reason: Option<&'static str>,
    /// Gateways that are there, this one counted.
    pub nodes: usize,
}

#[derive(Debug, Serialize)]
pub struct Memory {
    pub total: String,
    pub used: String,
}

impl Health {
    fn of(gateway: &Gateway) -> Self {
        let workers = gateway.workers();
        let active = workers.iter().filter(|worker| worker.turning).count();
        let bus = gateway.cluster.bus.state();
        Self {
            status: status(gateway.phase(), workers.len(), active),
            cluster: Cluster {
                mode: !gateway.cluster.bus.is_embedded(),
                workers: workers.len(),
                active,
                memory: Memory {
                    total: megabytes(memory::total()),
                    used: megabytes(ProcessStats::read().resident),
                },
                bus: bus.condition.name(),
                bus_reason: bus.reason.map(Reason::name),
                nodes: gateway.cluster.view().members.len() + 1,
            },
        }
    }
}

fn status(phase: Phase, workers: usize, active: usize) -> &'static str {
    match phase {
        Phase::Starting | Phase::Draining => phase.name(),
        Phase::Serving if active == 0 => "unhealthy",
        Phase::Serving if active < workers => "degraded",
        Phase::Serving => "healthy",
    }
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{}MB", bytes >> 20))
}

/// For people and dashboards: always 200 while somebody turns.
pub async fn health(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    let health = Health::of(&api.gateway);
    (alive(&health), Json(health))
}

/// 503 tells an orchestrator to start us anew.
pub async fn livez(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    let health = Health::of(&api.gateway);
    (alive(&health), Json(health))
}

/// 503 tells a load balancer to send nobody here: before the start is done, and from the first moment of a
/// drain on.
pub async fn readyz(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    let health = Health::of(&api.gateway);
    let ready = matches!(health.status, "healthy" | "degraded");
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(health))
}

fn alive(health: &Health) -> StatusCode {
    if health.status == "unhealthy" {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_turn_is_seen() {
        assert_eq!(status(Phase::Serving, 4, 4), "healthy");
        assert_eq!(status(Phase::Serving, 4, 3), "degraded");
        assert_eq!(status(Phase::Serving, 4, 0), "unhealthy");
        assert_eq!(status(Phase::Draining, 4, 4), "draining");
        assert_eq!(status(Phase::Starting, 4, 4), "starting");
    }

    #[test]
    fn memory_is_in_whole_megabytes() {
        assert_eq!(megabytes(Some(2048 << 20)), "2048MB");
        assert_eq!(megabytes(None), "unknown");
    }
}
