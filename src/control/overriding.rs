//! Carrying out a change of endpoints or balancers: new overrides, kept on disk, and one swap. Routes, listeners
//! and files are not looked at: what an operator asks of an endpoint does not wait for a good configuration.

use super::change::Change;
use super::command::{Action, Command, Outcome, SharedPiece};
use super::drains;
use super::failover::{FailOver, Trigger};
use super::gateway::{Gateway, Phase};
use super::overrides::{self, Asked, EndpointWish, Wish, departed, expiry, file, pieces};
use super::status;
use crate::base::clock::calendar;
use crate::config::diagnostic::Diagnostic;
use crate::snapshot;
use crate::upstream::shared::{AdminState, EndpointKey, EndpointPlan, Overrides, UpstreamPlan};
use std::sync::Arc;

/// Does what the command asks, or says what it would do. Only the mutator calls it: nobody else changes what is
/// read here.
pub(super) async fn carry_out(gateway: &Gateway, command: &Command) -> Outcome {
    let before = gateway.overrides.load_full();
    let live = gateway.live.load();
    let asked = Asked {
        by: command.actor.to_string(),
        node: gateway.cluster.bus.node().configured().to_owned(),
        at: calendar(),
    };
    let after = match &command.action {
        Action::ChangeEndpoint { endpoint, wish } => {
            let wish = with_usual_deadline(gateway, &before, endpoint, wish);
            overrides::with_endpoint(&before, &live.upstreams, endpoint, &wish, &asked)
        }
        Action::ChangeBalance(wish) => overrides::with_balance(&before, &live.upstreams, wish, &asked),
        Action::ChangeThresholds(wish) => overrides::with_thresholds(&before, &live.upstreams, wish, &asked),
        Action::ShareOverrides(pieces) => Ok(taken_over(&before, pieces)),
        Action::ForgetNode {
            node,
            overrides: true,
        } => Ok(departed::without(&before, node)),
        Action::Expire(ends) => Ok(expiry::without(&before, |until| ends.contains(&until))),
        Action::Reload
        | Action::ReloadTls
        | Action::SetLogLevel { .. }
        | Action::ReopenLogs
        | Action::CloseTunnels { .. }
        | Action::RegisterService { .. }
        | Action::Drill(_)
        | Action::FollowConfig(_)
        | Action::PublishConfig { .. }
        | Action::ForgetNode { overrides: false, .. }
        | Action::DeregisterService { .. } => return Outcome::Done,
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
    let upstreams = snapshot::upstreams(
        config,
        &live.dials(),
        &gateway.registry,
        &gateway.names.directory,
        &after,
    );
    let mut warnings = overrides::warnings(&live.upstreams, &upstreams);
    if let Action::ChangeThresholds(wish) = &command.action {
        warnings.extend(overrides::idle_thresholds(&live.upstreams, wish));
    }
    let changes = overrides::changes(&before, &after);
    let generation = generation + 1;
    if !command.dry_run {
        warnings.extend(keep(gateway, &after).await);
        note(gateway, command, &changes, &live.upstreams, &upstreams);
        put_in_force(gateway, generation, upstreams, after);
    }
    Outcome::Applied {
        generation,
        changes,
        warnings,
    }
}

/// The overrides with what other gateways say. A piece that was changed here meanwhile stays, and so does what can't be
/// read; that is told by whoever shares.
fn taken_over(before: &Overrides, shared: &[SharedPiece]) -> Overrides {
    let now = pieces::pieces(before);
    let mut after = before.clone();
    for piece in shared
        .iter()
        .filter(|piece| now.get(&piece.key) == piece.before.as_ref())
    {
        match pieces::with_piece(&after, &piece.key, piece.after.as_deref()) {
            Ok(with) => after = with,
            Err(error) => {
                tracing::warn!(key = piece.key, %error, "an override of another gateway can't be taken");
            }
        }
    }
    after
}

/// A wish to leave that names no deadline has that of the upstream, `drain.deadline`.
fn with_usual_deadline(
    gateway: &Gateway,
    before: &Overrides,
    key: &EndpointKey,
    wish: &EndpointWish,
) -> EndpointWish {
    let leaves = matches!(wish.state, Some(AdminState::Draining | AdminState::Maintenance));
    let anew = before.admin_of(key) == AdminState::Active;
    let config = &gateway.running.load().config;
    let usual = config
        .upstreams
        .get(&*key.upstream)
        .map(|upstream| upstream.drain.deadline);
    let mut wish = wish.clone();
    if let Some(usual) = usual
        && leaves
        && anew
        && wish.deadline == Wish::Keep
        && !usual.is_zero()
    {
        wish.deadline = Wish::To(usual);
    }
    wish
}

fn put_in_force(gateway: &Gateway, generation: u64, upstreams: Vec<Arc<UpstreamPlan>>, overrides: Overrides) {
    drains::spare(gateway, |key| overrides.admin_of(key) != AdminState::Active);
    let snapshot = gateway.live.load().with_upstreams(generation, upstreams);
    gateway.live.swap(snapshot);
    gateway.overrides.store(Arc::new(overrides));
    gateway.plane().workers.snapshot_moved();
    gateway.metrics.control.swapped(generation);
    gateway.endpoints_changed.notify_one();
    gateway.overrides_changed.notify_one();
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

/// Puts endpoints that an operator took away, or gave back, into the history.
fn note(
    gateway: &Gateway,
    command: &Command,
    changes: &[Change],
    before: &[Arc<UpstreamPlan>],
    after: &[Arc<UpstreamPlan>],
) {
    let why = match &command.action {
        Action::ChangeEndpoint { wish, .. } => wish.reason.as_deref().unwrap_or("no reason given"),
        Action::Expire(_) => "the time it was given is over",
        Action::ForgetNode { .. } => "the gateway that it was made on is forgotten",
        Action::ShareOverrides(_) => "as another gateway has it",
        _ => return,
    };
    for change in changes.iter().filter(|change| change.object == "endpoint") {
        let Some((upstream, address)) = change.name.split_once('/') else {
            continue;
        };
        let key = EndpointKey {
            upstream: upstream.into(),
            address: address.into(),
        };
        let (Some(old), Some(new)) = (find(before, &key), find(after, &key)) else {
            continue;
        };
        if old.admin != new.admin {
            let trigger = if gateway.drills.is_held(&key) {
                Trigger::Test
            } else {
                Trigger::Manual
            };
            gateway.failovers.record(FailOver {
                key,
                trigger,
                from: status::condition(old).name(),
                to: status::condition(new).name(),
                reason: format!("by {}: {why}", command.actor),
                detection_ms: None,
                in_flight: new.state.load(),
            });
        }
    }
}

fn find<'a>(plans: &'a [Arc<UpstreamPlan>], key: &EndpointKey) -> Option<&'a EndpointPlan> {
    let plan = plans.iter().find(|plan| plan.name == key.upstream)?;
    plan.endpoints.iter().find(|endpoint| endpoint.state.key == *key)
}
