//! Follows names with the endpoints that they stand for: other upstreams, and one swap. Routes, listeners and files
//! are not looked at, and nothing is told here: the names are.

use super::dns::FIRST_ANSWERS;
use super::gateway::Gateway;
use crate::snapshot;
use crate::upstream::shared::{EndpointPlan, UpstreamPlan};
use std::sync::Arc;

/// Puts the upstreams in force as the names stand now. Only the mutator calls it. No await: nobody sees a half of
/// it. Whether anything is different.
pub(super) fn refresh(gateway: &Gateway) -> bool {
    let Some(upstreams) = news(gateway) else {
        return false;
    };
    let generation = gateway.live.generation() + 1;
    let snapshot = gateway.live.load().with_upstreams(generation, upstreams);
    gateway.live.swap(snapshot);
    gateway.plane().workers.snapshot_moved();
    gateway.metrics.control.swapped(generation);
    gateway.endpoints_changed.notify_one();
    true
}

/// Waits until the names of a gateway that starts have been looked up, and what they stand for is in force; but
/// not for those that take long.
pub async fn settle(gateway: &Gateway) {
    gateway.names.settle(&gateway.running.load_full().config).await;
    gateway.names.settled();
    let mut swaps = gateway.live.swaps();
    let in_force = async { while news(gateway).is_some() && swaps.changed().await.is_ok() {} };
    if tokio::time::timeout(FIRST_ANSWERS, in_force).await.is_err() {
        tracing::debug!("discovered endpoints take long to be put in force");
    }
}

/// The upstreams as the names stand now, where they differ from those in force.
fn news(gateway: &Gateway) -> Option<Vec<Arc<UpstreamPlan>>> {
    let running = gateway.running.load_full();
    let live = gateway.live.load();
    let upstreams = snapshot::upstreams(
        &running.config,
        &live.dials(),
        &gateway.registry,
        &gateway.names.directory,
        &gateway.overrides.load(),
    );
    (!same(&live.upstreams, &upstreams)).then_some(upstreams)
}

/// Whether these are the same endpoints, used in the same way.
fn same(before: &[Arc<UpstreamPlan>], after: &[Arc<UpstreamPlan>]) -> bool {
    let endpoint = |(before, after): (&EndpointPlan, &EndpointPlan)| {
        Arc::ptr_eq(&before.state, &after.state)
            && (before.weight, before.backup) == (after.weight, after.backup)
    };
    let upstream = |(before, after): (&Arc<UpstreamPlan>, &Arc<UpstreamPlan>)| {
        let signs_alike = match (&before.sticky, &after.sticky) {
            (Some(before), Some(after)) => before.signs_like(after),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        signs_alike
            && before.name == after.name
            && before.endpoints.len() == after.endpoints.len()
            && before.endpoints.iter().zip(&after.endpoints).all(endpoint)
    };
    before.len() == after.len() && before.iter().zip(after).all(upstream)
}
