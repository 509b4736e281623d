//! What differs from the file, and who said so: beside each endpoint and upstream, and as a list of its own.

use super::{EndpointCondition, EndpointStatus, UpstreamStatus};
use crate::config::Choice;
use crate::config::form::quantity;
use crate::config::model::{Config, Upstream};
use crate::control::drains::{Left, Progress};
use crate::control::gateway::Gateway;
use crate::upstream::shared::overrides::{Algorithm, EndpointOverride, Leave, Override, Thresholds};
use crate::upstream::shared::{EndpointKey, EndpointState};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

/// Who said so, when, and why.
#[derive(Debug, Serialize)]
pub struct Said {
    pub by: String,
    /// The gateway that it was said to; `null`: nobody wrote it down.
    pub node: Option<String>,
    /// RFC 3339.
    pub since: String,
    pub reason: Option<String>,
    /// When it is taken back, RFC 3339; `null`: never by itself.
    pub until: Option<String>,
}

impl Said {
    fn of<T>(told: &Override<T>) -> Self {
        Self {
            by: told.by.clone(),
            node: told.node.clone(),
            since: told.since.to_string(),
            reason: told.reason.clone(),
            until: told.until.map(|until| until.to_string()),
        }
    }
}

/// `draining` or `maintenance`.
#[derive(Debug, Serialize)]
pub struct LeaveStatus {
    pub value: &'static str,
    /// RFC 3339; `null`: none.
    pub deadline: Option<String>,
    #[serde(flatten)]
    pub said: Said,
}

#[derive(Debug, Serialize)]
pub struct WeightStatus {
    pub value: u32,
    /// The file's; `null` when the file has no such endpoint.
    pub configured: Option<u32>,
    #[serde(flatten)]
    pub said: Said,
}

#[derive(Debug, Serialize)]
pub struct BalanceStatus {
    pub value: &'static str,
    /// What `hash` knows requests by, where that is not what the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The file's; `null` when the file has no such upstream.
    pub configured: Option<&'static str>,
    #[serde(flatten)]
    pub said: Said,
}

/// When endpoints are taken for failed, and what is done about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ThresholdStatus {
    /// `null`, with `fall` and `rise`, where nobody checks.
    pub detection_timeout: Option<String>,
    pub fall: Option<u32>,
    pub rise: Option<u32>,
    pub consecutive_failures: Option<u32>,
    pub error_rate: Option<f64>,
    pub recovery_timeout: Option<String>,
    pub max_attempts: Option<u32>,
}

/// Thresholds that differ from the file's; `null` are those that do not.
#[derive(Debug, Serialize)]
pub struct ThresholdOverrideStatus {
    #[serde(flatten)]
    pub told: ThresholdStatus,
    #[serde(flatten)]
    pub said: Said,
}

/// The thresholds of one upstream.
#[derive(Debug, Serialize)]
pub struct UpstreamThresholds {
    pub upstream: String,
    #[serde(flatten)]
    pub now: ThresholdStatus,
    /// The file's.
    pub configured: Option<ThresholdStatus>,
    #[serde(rename = "override")]
    pub told: Option<ThresholdOverrideStatus>,
}

/// What differs from the file at one endpoint.
#[derive(Debug, Serialize)]
pub struct EndpointOverrideStatus {
    pub state: Option<LeaveStatus>,
    pub weight: Option<WeightStatus>,
}

/// How far an endpoint is that takes nothing new.
#[derive(Debug, Serialize)]
pub struct DrainStatus {
    /// RFC 3339; `null`: none.
    pub deadline: Option<String>,
    pub at_start: Left,
    pub left: Left,
    /// What the deadline ended.
    pub cut: Option<Left>,
    /// RFC 3339; `null` while something is left.
    pub finished: Option<String>,
    /// Tunnels asked to go per second; 0: as many as it takes to be done by the deadline.
    pub rate: u32,
    /// RFC 3339: when the last tunnel will have been asked to go, or cut; `null` where nobody knows.
    pub estimated_end: Option<String>,
}

/// One endpoint in the list of overrides.
#[derive(Debug, Serialize)]
pub struct OverriddenEndpoint {
    pub upstream: String,
    pub address: String,
    /// Whether it is in force: the configuration has this endpoint.
    pub in_force: bool,
    #[serde(flatten)]
    pub told: EndpointOverrideStatus,
}

/// One upstream in the list of overrides.
#[derive(Debug, Serialize)]
pub struct OverriddenBalance {
    pub upstream: String,
    /// Whether it is in force: the configuration has this upstream.
    pub in_force: bool,
    #[serde(flatten)]
    pub told: BalanceStatus,
}

/// Fills in what differs from the file.
pub(super) fn describe(gateway: &Gateway, upstream: &mut UpstreamStatus) {
    let overrides = gateway.overrides.load();
    let running = gateway.running.load();
    upstream.balance_override = overrides
        .balance(&upstream.name)
        .map(|told| balance(&running.config, &upstream.name, told));
    let name = upstream.name.as_str();
    for endpoint in &mut upstream.endpoints {
        (endpoint.since, endpoint.reason) = verdict(endpoint);
        let key = EndpointKey {
            upstream: name.into(),
            address: endpoint.address.as_str().into(),
        };
        describe_endpoint(gateway, &running.config, &key, overrides.endpoint(&key), endpoint);
    }
}

/// Since when and why checks or traffic speak against an endpoint.
fn verdict(endpoint: &EndpointStatus) -> (Option<String>, Option<String>) {
    let health = endpoint.health.as_ref();
    let ejection = endpoint.last_ejection.as_ref();
    match endpoint.state {
        EndpointCondition::Ejected => ejection.map_or((None, None), |last| {
            (Some(last.since.clone()), Some(last.reason.clone()))
        }),
        EndpointCondition::Unhealthy | EndpointCondition::Pending | EndpointCondition::Active => health
            .map_or((None, None), |health| {
                (Some(health.since.clone()), health.reason.clone())
            }),
        EndpointCondition::Unresolved => (None, endpoint.resolve_error.clone()),
        EndpointCondition::Draining | EndpointCondition::Maintenance | EndpointCondition::Disabled => {
            (None, None)
        }
    }
}

fn describe_endpoint(
    gateway: &Gateway,
    config: &Config,
    key: &EndpointKey,
    told: Option<&EndpointOverride>,
    status: &mut EndpointStatus,
) {
    let Some(told) = told else { return };
    status.admin_state = told.admin().name();
    status.overrides = Some(endpoint(config, key, told));
    status.drain = told.leave.as_ref().and_then(|leave| {
        let progress = gateway.drains.progress(key);
        let endpoint = gateway.registry.known(key)?;
        Some(drain(leave, progress, &endpoint))
    });
    if let Some(leave) = &told.leave {
        status.since = Some(leave.since.to_string());
        status.reason = Some(match &leave.reason {
            Some(reason) => format!("by {}: {reason}", leave.by),
            None => format!("by {}", leave.by),
        });
    }
}

fn endpoint(config: &Config, key: &EndpointKey, told: &EndpointOverride) -> EndpointOverrideStatus {
    let upstream = config.upstreams.get(&*key.upstream);
    let configured = upstream.and_then(|upstream| {
        let mut endpoints = upstream.endpoints.iter();
        endpoints.find(|endpoint| *endpoint.text == *key.address)
    });
    EndpointOverrideStatus {
        state: told.leave.as_ref().map(|leave| LeaveStatus {
            value: leave.value.state.name(),
            deadline: leave.value.deadline.map(|deadline| deadline.to_string()),
            said: Said::of(leave),
        }),
        weight: told.weight.as_ref().map(|weight| WeightStatus {
            value: weight.value,
            configured: configured.map(|endpoint| endpoint.weight),
            said: Said::of(weight),
        }),
    }
}

fn balance(config: &Config, upstream: &str, told: &Override<Algorithm>) -> BalanceStatus {
    let configured = config.upstreams.get(upstream);
    BalanceStatus {
        value: told.value.balance.name(),
        key: told.value.key.as_ref().map(ToString::to_string),
        configured: configured.map(|upstream| upstream.balance.name()),
        said: Said::of(told),
    }
}

fn drain(leave: &Override<Leave>, progress: Option<Progress>, endpoint: &EndpointState) -> DrainStatus {
    let left = Left {
        in_flight: endpoint.in_flight(),
        open_websockets: endpoint.tunnels(),
    };
    DrainStatus {
        deadline: leave.value.deadline.map(|deadline| deadline.to_string()),
        at_start: progress.as_ref().map_or(left, |progress| progress.at_start),
        left,
        cut: progress.as_ref().and_then(|progress| progress.cut),
        rate: progress.as_ref().map_or(0, |progress| progress.rate),
        estimated_end: progress
            .as_ref()
            .and_then(|progress| progress.end)
            .and_then(|end| {
                Timestamp::now()
                    .checked_add(end.saturating_duration_since(Instant::now()))
                    .ok()
            })
            .map(|end| end.to_string()),
        finished: progress
            .and_then(|progress| progress.finished)
            .map(|at| at.to_string()),
    }
}

/// The thresholds of every upstream.
#[must_use]
pub fn thresholds(gateway: &Gateway) -> Vec<UpstreamThresholds> {
    let overrides = gateway.overrides.load();
    let config = &gateway.running.load().config;
    let of = |(name, upstream): (&String, &Upstream)| UpstreamThresholds {
        upstream: name.clone(),
        now: threshold_status(&overrides.over(name, upstream)),
        configured: Some(threshold_status(upstream)),
        told: overrides.thresholds(name).map(threshold_override),
    };
    config.upstreams.iter().map(of).collect()
}

fn threshold_status(upstream: &Upstream) -> ThresholdStatus {
    let health = upstream.health.as_ref();
    ThresholdStatus {
        detection_timeout: health.map(|health| quantity::write_duration(health.timeout)),
        fall: health.map(|health| health.fall),
        rise: health.map(|health| health.rise),
        consecutive_failures: Some(upstream.outlier.consecutive_failures),
        error_rate: Some(upstream.outlier.error_rate),
        recovery_timeout: Some(quantity::write_duration(upstream.outlier.eject)),
        max_attempts: Some(upstream.retry.attempts),
    }
}

fn threshold_override(told: &Override<Thresholds>) -> ThresholdOverrideStatus {
    let value = &told.value;
    ThresholdOverrideStatus {
        told: ThresholdStatus {
            detection_timeout: value.detection_timeout.map(quantity::write_duration),
            fall: value.fall,
            rise: value.rise,
            consecutive_failures: value.consecutive_failures,
            error_rate: value.error_rate,
            recovery_timeout: value.recovery_timeout.map(quantity::write_duration),
            max_attempts: value.max_attempts,
        },
        said: Said::of(told),
    }
}

/// One upstream in the list of overrides.
#[derive(Debug, Serialize)]
pub struct OverriddenThresholds {
    pub upstream: String,
    /// Whether it is in force: the configuration has this upstream.
    pub in_force: bool,
    #[serde(flatten)]
    pub told: ThresholdOverrideStatus,
}

/// Everything that differs from the file.
#[derive(Debug, Serialize)]
pub struct OverridesStatus {
    pub endpoints: Vec<OverriddenEndpoint>,
    pub balances: Vec<OverriddenBalance>,
    pub thresholds: Vec<OverriddenThresholds>,
}

/// Every override, in force or not.
#[must_use]
pub fn overrides(gateway: &Gateway) -> OverridesStatus {
    let overrides = gateway.overrides.load();
    let config = &gateway.running.load().config;
    let live = gateway.live.load();
    let plan = |name: &str| live.upstreams.iter().find(|plan| *plan.name == *name);
    let endpoints = overrides.endpoints().map(|(key, told)| OverriddenEndpoint {
        upstream: key.upstream.to_string(),
        address: key.address.to_string(),
        in_force: plan(&key.upstream).is_some_and(|plan| plan.endpoints.iter().any(|e| e.state.key == *key)),
        told: endpoint(config, key, told),
    });
    let balances = overrides.balances().map(|(upstream, told)| OverriddenBalance {
        upstream: upstream.to_string(),
        in_force: plan(upstream).is_some(),
        told: balance(config, upstream, told),
    });
    let thresholds = overrides
        .all_thresholds()
        .map(|(upstream, told)| OverriddenThresholds {
            upstream: upstream.to_string(),
            in_force: plan(upstream).is_some(),
            told: threshold_override(told),
        });
    OverridesStatus {
        endpoints: endpoints.collect(),
        balances: balances.collect(),
        thresholds: thresholds.collect(),
    }
}
