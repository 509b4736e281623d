//! Waiting for the first verdict on endpoints, where nothing is known of any: just after a start, for a moment.

use crate::base::clock::Millis;
use crate::upstream::shared::UpstreamPlan;
use crate::upstream::shared::standing::Standing;
use std::time::{Duration, Instant};

/// First wait; it doubles up to the longest. Control wakes no worker, and a probe is a matter of milliseconds.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(32);

/// Returns when there is a verdict, when it is late, or at `deadline`.
pub(super) async fn until_verdict(upstream: &UpstreamPlan, deadline: Option<Instant>) {
    until(|now| !upstream.awaits_verdict(now), deadline).await;
}

/// The same for one endpoint, which others can't stand in for.
pub(super) async fn until_known(standing: &Standing, deadline: Option<Instant>) {
    until(|now| !standing.awaits_verdict(now), deadline).await;
}

async fn until(known: impl Fn(Millis) -> bool, deadline: Option<Instant>) {
    let mut wait = FIRST;
    while !known(Millis::now()) {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return;
        }
        tokio::time::sleep(left.map_or(wait, |left| wait.min(left))).await;
        wait = (wait * 2).min(LONGEST);
    }
}
