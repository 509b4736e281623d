//! Writes the history: hears of endpoints that went and came, and counts what that cost.
//!
//! What it cost is known from counters that the workers keep anyway. They are read twice a second; what changed is
//! remembered for a while, so that the requests that failed before the verdict are counted too.

use super::{Cost, FailOver, Trigger, file};
use crate::base::clock::Millis;
use crate::control::gateway::Gateway;
use crate::telemetry::events::Event;
use crate::upstream::shared::EndpointKey;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How often the counters are read.
const LOOK: Duration = Duration::from_millis(500);
/// How long after a verdict what was under way may still fail.
const AFTER: Duration = Duration::from_secs(1);
/// How long changes of the counters are remembered: the longest detection whose cost is told whole.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Events read at a time.
const PAGE: usize = 256;

/// Keeps the history until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut feed = gateway.journal.events.subscribe();
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut follower = Follower {
        gateway,
        heard: 0,
        faults: Faults::default(),
        open: Vec::new(),
    };
    loop {
        tokio::select! {
            // What the feed has lost, the ring still has.
            heard = feed.next() => match heard {
                Some(_) => follower.hear(),
                None => return,
            },
            _ = interval.tick() => {
                follower.look();
                follower.keep().await;
            }
        }
    }
}

/// An entry whose cost may still grow.
struct Open {
    id: u64,
    key: EndpointKey,
    /// Failures count from here on.
    since: Millis,
    until: Millis,
}

struct Follower {
    gateway: Arc<Gateway>,
    /// The number of the last event that was read.
    heard: u64,
    faults: Faults,
    open: Vec<Open>,
}

impl Follower {
    fn hear(&mut self) {
        loop {
            let page = self.gateway.journal.events.list(self.heard, PAGE);
            let Some(last) = page.events.last() else { return };
            self.heard = last.id;
            for event in &page.events {
                self.take(event);
            }
        }
    }

    fn take(&mut self, event: &Event) {
        let Some((trigger, from, to)) = meaning(event.kind) else {
            return;
        };
        let Some((upstream, address)) = event.target.split_once('/') else {
            return;
        };
        let key = EndpointKey {
            upstream: upstream.into(),
            address: address.into(),
        };
        let detection_ms = event.data["detection_ms"].as_f64();
        let id = self.gateway.failovers.record(FailOver {
            trigger,
            from,
            to,
            reason: event.reason.clone(),
            detection_ms,
            in_flight: self
                .gateway
                .registry
                .known(&key)
                .map_or(0, |endpoint| endpoint.load()),
            key: key.clone(),
        });
        if to != "active" {
            let now = Millis::now();
            let before = Duration::from_secs_f64(detection_ms.unwrap_or(0.0).max(0.0) / 1000.0) + LOOK;
            self.open.push(Open {
                id,
                key,
                since: Millis(
                    now.0
                        .saturating_sub(u64::try_from(before.as_millis()).unwrap_or(0)),
                ),
                until: now.plus(AFTER),
            });
        }
    }

    /// Reads the counters, and tells what open entries have cost by now.
    fn look(&mut self) {
        let now = Millis::now();
        self.faults.note(&self.gateway, now);
        for open in &self.open {
            let cost = self.faults.since(&open.key, open.since);
            self.gateway.failovers.cost(open.id, cost);
        }
        self.open.retain(|open| open.until > now);
    }

    /// Writes the history down, when something came.
    async fn keep(&self) {
        let Some(directory) = self.gateway.node.state_dir.clone() else {
            return;
        };
        let Some(entries) = self.gateway.failovers.unkept() else {
            return;
        };
        let saved = tokio::task::spawn_blocking(move || file::save(&directory, &entries)).await;
        if !matches!(saved, Ok(Ok(()))) {
            tracing::debug!("the history of fail-overs could not be kept");
        }
    }
}

/// What an event means: what found out, and between which states.
fn meaning(kind: &str) -> Option<(Trigger, &'static str, &'static str)> {
    Some(match kind {
        "endpoint.unhealthy" => (Trigger::Active, "active", "unhealthy"),
        "endpoint.healthy" => (Trigger::Active, "unhealthy", "active"),
        "endpoint.ejected" => (Trigger::Passive, "active", "ejected"),
        "endpoint.readmitted" => (Trigger::Passive, "ejected", "active"),
        _ => return None,
    })
}

/// What has failed where, and when.
#[derive(Debug, Default)]
struct Faults {
    /// Faults and retries so far, of endpoints that had some.
    totals: HashMap<EndpointKey, (u64, u64)>,
    /// What came between two looks, the oldest first.
    changes: VecDeque<(Millis, EndpointKey, u64, u64)>,
}

impl Faults {
    fn note(&mut self, gateway: &Gateway, now: Millis) {
        let outcomes = gateway.metrics.outcomes();
        let counted = outcomes.iter().flat_map(|(upstream, endpoints)| {
            endpoints.iter().map(move |(address, counted)| {
                let key = EndpointKey {
                    upstream: (**upstream).into(),
                    address: (**address).into(),
                };
                (key, counted.faults, counted.retried)
            })
        });
        self.add(counted.filter(|(_, faults, _)| *faults > 0), now);
    }

    fn add(&mut self, counted: impl Iterator<Item = (EndpointKey, u64, u64)>, now: Millis) {
        let mut totals = HashMap::with_capacity(self.totals.len());
        for (key, faults, retried) in counted {
            let (old_faults, old_retried) = self.totals.get(&key).copied().unwrap_or_default();
            let more = (
                faults.saturating_sub(old_faults),
                retried.saturating_sub(old_retried),
            );
            if more != (0, 0) {
                self.changes.push_back((now, key.clone(), more.0, more.1));
            }
            totals.insert(key, (faults, retried));
        }
        // Those that left the configuration have left the counters too.
        self.totals = totals;
        while self
            .changes
            .front()
            .is_some_and(|(at, ..)| now.since(*at) > REMEMBERED)
        {
            self.changes.pop_front();
        }
    }

    fn since(&self, key: &EndpointKey, since: Millis) -> Cost {
        let of_it = self
            .changes
            .iter()
            .filter(|(at, of, ..)| *at >= since && of == key);
        let (faults, retried) = of_it.fold((0, 0), |sum: (u64, u64), (_, _, faults, retried)| {
            (sum.0 + faults, sum.1 + retried)
        });
        Cost {
            retried,
            failed: faults.saturating_sub(retried),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> EndpointKey {
        EndpointKey {
            upstream: "app".into(),
            address: address.into(),
        }
    }

    #[test]
    fn the_cost_of_a_fail_over_is_what_failed_there_from_the_first_sign_on() {
        let mut faults = Faults::default();
        faults.add([(key("a"), 100, 90), (key("b"), 7, 7)].into_iter(), Millis(1_000));
        faults.add([(key("a"), 100, 90), (key("b"), 7, 7)].into_iter(), Millis(2_000));
        faults.add([(key("a"), 103, 92), (key("b"), 9, 7)].into_iter(), Millis(3_000));
        faults.add([(key("a"), 108, 97), (key("b"), 9, 7)].into_iter(), Millis(4_000));
        let cost = |address, since| {
            let cost = faults.since(&key(address), Millis(since));
            (cost.retried, cost.failed)
        };
        assert_eq!(cost("a", 2_500), (7, 1));
        assert_eq!(cost("a", 3_500), (5, 0));
        assert_eq!(cost("b", 2_500), (0, 2));
        assert_eq!(cost("c", 0), (0, 0));
    }

    #[test]
    fn counters_that_begin_anew_and_old_changes_are_forgotten() {
        let mut faults = Faults::default();
        faults.add([(key("a"), 50, 0)].into_iter(), Millis(1));
        faults.add(std::iter::empty(), Millis(2));
        faults.add([(key("a"), 3, 0)].into_iter(), Millis(3));
        assert_eq!(faults.since(&key("a"), Millis(2)).failed, 3);
        faults.add(std::iter::empty(), Millis(4).plus(REMEMBERED));
        assert!(faults.changes.is_empty() && faults.totals.is_empty());
    }

    #[test]
    fn only_endpoints_that_go_or_come_make_history() {
        assert_eq!(
            meaning("endpoint.unhealthy"),
            Some((Trigger::Active, "active", "unhealthy"))
        );
        assert_eq!(meaning("config.applied"), None);
    }
}
