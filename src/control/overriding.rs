//! Carrying out a change of endpoints or balancers: new overrides, kept on disk, and one swap. Routes, listeners
//! and files are not looked at: what an operator asks of an endpoint does not wait for a good configuration.

use super::command::{Action, Command, Outcome};
use super::drains;
use super::failover::{FailOver, Trigger};
use super::gateway::{Gateway, Phase};
use super::overrides::{self, Asked, file};
use super::status;
use crate::config::diagnostic::Diagnostic;
use crate::snapshot;
use crate::upstream::shared::{AdminState, EndpointKey, EndpointPlan, Overrides, UpstreamPlan};
use jiff::Timestamp;
use std::sync::Arc;

/// Does what the command asks, or says what it would do. Only the mutator calls it: nobody else changes what is
/// read here.
pub(super) async fn carry_out(gateway: &Gateway, command: &Command) -> Outcome {
    let before = gateway.overrides.load_full();
    let live = gateway.live.load();
    let asked = Asked {
        by: command.actor.to_string(),
        at: Timestamp::now(),
    };
    let after = match &command.action {
        Action::ChangeEndpoint { endpoint, wish } => {
            overrides::with_endpoint(&before, &live.upstreams, endpoint, wish, &asked)
        }
        Action::ChangeBalance(wish) => overrides::with_balance(&before, &live.upstreams, wish, &asked),
        Action::ChangeThresholds(wish) => overrides::with_thresholds(&before, &live.upstreams, wish, &asked),
        Action::Reload | Action::SetLogLevel { .. } | Action::ReopenLogs => return Outcome::Done,
    };
    let after = match after {
        Ok(after) => after,
        Err(refused) => {
            let refused = Diagnostic::error(command.action.target(), refused.to_string());
            return Outcome::Rejected(vec![refused]);
        }
    };
    let generation = gateway.live.generation();
    if after == *before {
        return Outcome::Unchanged { generation };
    }
    if gateway.phase() == Phase::Draining {
        return Outcome::Rejected(vec![Diagnostic::error("", "the gateway is ending")]);
    }
    let config = &gateway.running.load_full().config;
    let upstreams = snapshot::upstreams(config, &gateway.registry, &gateway.names.directory, &after);
    let mut warnings = overrides::warnings(&live.upstreams, &upstreams);
    if let Action::ChangeThresholds(wish) = &command.action {
        warnings.extend(overrides::idle_thresholds(&live.upstreams, wish));
    }
    let changes = overrides::changes(&before, &after);
    let generation = generation + 1;
    if !command.dry_run {
        warnings.extend(keep(gateway, &after).await);
        note(gateway, command, &live.upstreams, &upstreams);
        put_in_force(gateway, generation, upstreams, after);
    }
    Outcome::Applied {
        generation,
        changes,
        warnings,
    }
}

fn put_in_force(gateway: &Gateway, generation: u64, upstreams: Vec<Arc<UpstreamPlan>>, overrides: Overrides) {
    drains::spare(gateway, |key| overrides.admin_of(key) != AdminState::Active);
    let snapshot = gateway.live.load().with_upstreams(generation, upstreams);
    gateway.live.swap(snapshot);
    gateway.overrides.store(Arc::new(overrides));
    gateway.plane().workers.snapshot_moved();
    gateway.metrics.control.swapped(generation);
    gateway.endpoints_changed.notify_one();
    gateway.drains.look();
}

/// Keeps the overrides for the next start. When that can't be, the change is made all the same: a full disk is
/// no reason to send requests to a server that somebody wants to take away.
async fn keep(gateway: &Gateway, overrides: &Overrides) -> Option<Diagnostic> {
    let lost = |why: String| {
        let text = format!("{why}: the change lasts until the gateway ends");
        Some(Diagnostic::warning("runtime.state_dir", text))
    };
    let Some(directory) = gateway.node.state_dir.clone() else {
        return lost("there is no state directory".to_owned());
    };
    let overrides = overrides.clone();
    let saved = tokio::task::spawn_blocking(move || file::save(&directory, &overrides)).await;
    match saved {
        Ok(Ok(())) => None,
        Ok(Err(error)) => lost(format!("it can't be written: {error}")),
        Err(panic) => lost(format!("internal error: {panic}")),
    }
}

/// Puts an endpoint that an operator took away, or gave back, into the history.
fn note(gateway: &Gateway, command: &Command, before: &[Arc<UpstreamPlan>], after: &[Arc<UpstreamPlan>]) {
    let Action::ChangeEndpoint { endpoint: key, wish } = &command.action else {
        return;
    };
    let (Some(old), Some(new)) = (find(before, key), find(after, key)) else {
        return;
    };
    if old.admin == new.admin {
        return;
    }
    let why = wish.reason.as_deref().unwrap_or("no reason given");
    gateway.failovers.record(FailOver {
        key: key.clone(),
        trigger: Trigger::Manual,
        from: status::condition(old).name(),
        to: status::condition(new).name(),
        reason: format!("by {}: {why}", command.actor),
        detection_ms: None,
        in_flight: new.state.load(),
    });
}

fn find<'a>(plans: &'a [Arc<UpstreamPlan>], key: &EndpointKey) -> Option<&'a EndpointPlan> {
    let plan = plans.iter().find(|plan| plan.name == key.upstream)?;
    plan.endpoints.iter().find(|endpoint| endpoint.state.key == *key)
}
