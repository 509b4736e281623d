//! The history of fail-overs: each time an endpoint stopped or began to take requests, what found out, how long
//! that took, and what it cost. Bounded; the latest are kept, over restarts too.

pub mod file;
pub mod follow;

use crate::upstream::shared::EndpointKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries kept.
pub const KEPT: usize = 1000;

/// What found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A health check.
    Active,
    /// Requests of clients.
    Passive,
    /// An operator.
    Manual,
    /// A drill.
    Test,
}

/// One change, as whoever sees it tells it.
#[derive(Clone, Debug)]
pub struct FailOver {
    pub key: EndpointKey,
    pub trigger: Trigger,
    /// Words of the endpoint's state: `active`, `unhealthy`, `ejected`, `draining`, `maintenance`.
    pub from: &'static str,
    pub to: &'static str,
    pub reason: String,
    /// From the first sign to the verdict; `None` when nothing had to be detected.
    pub detection_ms: Option<f64>,
    /// Requests and tunnels at the endpoint at that moment.
    pub in_flight: u32,
}

/// One entry of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: u64,
    /// RFC 3339.
    pub time: String,
    /// `upstream/address`.
    pub node: String,
    pub upstream: String,
    pub address: String,
    pub from: String,
    pub to: String,
    pub trigger: Trigger,
    pub reason: String,
    pub detection_ms: Option<f64>,
    pub in_flight: u32,
    /// Requests that failed there and were given to another endpoint, and those that were not: from the first sign to
    /// a second after the verdict.
    pub retried: u64,
    pub failed: u64,
}

/// What a fail-over cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub retried: u64,
    pub failed: u64,
}

#[derive(Debug, Default)]
struct History {
    entries: VecDeque<Entry>,
    last_id: u64,
    /// Something was noted since it was last kept.
    unkept: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct FailOvers(Mutex<History>);

impl FailOvers {
    /// A history that goes on from these entries.
    #[must_use]
    pub fn new(mut entries: VecDeque<Entry>) -> Self {
        entries.drain(..entries.len().saturating_sub(KEPT));
        Self(Mutex::new(History {
            last_id: entries.back().map_or(0, |entry| entry.id),
            entries,
            unkept: false,
        }))
    }

    /// Notes one; its number.
    pub fn record(&self, told: FailOver) -> u64 {
        let mut history = self.lock();
        history.last_id += 1;
        if history.entries.len() == KEPT {
            history.entries.pop_front();
        }
        let id = history.last_id;
        history.unkept = true;
        history.entries.push_back(Entry {
            id,
            time: Timestamp::now().to_string(),
            node: told.key.to_string(),
            upstream: told.key.upstream.to_string(),
            address: told.key.address.to_string(),
            from: told.from.to_owned(),
            to: told.to.to_owned(),
            trigger: told.trigger,
            reason: told.reason,
            detection_ms: told.detection_ms,
            in_flight: told.in_flight,
            retried: 0,
            failed: 0,
        });
        id
    }

    /// What an entry cost, as far as is known by now.
    pub fn cost(&self, id: u64, cost: Cost) {
        let mut history = self.lock();
        history.unkept = true;
        if let Some(entry) = history.entries.iter_mut().rev().find(|entry| entry.id == id) {
            (entry.retried, entry.failed) = (cost.retried, cost.failed);
        }
    }

    /// Entries with a number above `since`, the oldest first, at most `limit`.
    #[must_use]
    pub fn list(&self, since: u64, limit: usize) -> Vec<Entry> {
        let history = self.lock();
        let newer = history.entries.iter().filter(|entry| entry.id > since);
        newer.take(limit).cloned().collect()
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().last_id
    }

    /// Everything, if something came since this was last asked.
    fn unkept(&self) -> Option<Vec<Entry>> {
        let mut history = self.lock();
        std::mem::take(&mut history.unkept).then(|| history.entries.iter().cloned().collect())
    }

    /// Whole after a panic too: an entry is either there or not.
    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ejected() -> FailOver {
        FailOver {
            key: EndpointKey {
                upstream: "app".into(),
                address: "a:1".into(),
            },
            trigger: Trigger::Passive,
            from: "active",
            to: "ejected",
            reason: "5 failures in a row".to_owned(),
            detection_ms: Some(1.5),
            in_flight: 3,
        }
    }

    #[test]
    fn an_entry_tells_what_found_out_how_fast_and_what_it_cost() {
        let history = FailOvers::default();
        let id = history.record(ejected());
        history.cost(
            id,
            Cost {
                retried: 5,
                failed: 1,
            },
        );
        let mut entry = serde_json::to_value(&history.list(0, 10)[0]).unwrap();
        assert!(
            entry["time"]
                .take()
                .as_str()
                .unwrap()
                .parse::<Timestamp>()
                .is_ok()
        );
        assert_eq!(
            entry,
            serde_json::json!({
                "id": 1, "time": null, "node": "app/a:1", "upstream": "app", "address": "a:1", "from": "active",
                "to": "ejected", "trigger": "passive", "reason": "5 failures in a row", "detection_ms": 1.5,
                "in_flight": 3, "retried": 5, "failed": 1,
            })
        );
    }

    #[test]
    fn the_history_is_bounded_and_read_piece_by_piece() {
        let history = FailOvers::default();
        for _ in 0..KEPT + 5 {
            history.record(ejected());
        }
        let first = history.list(0, 10);
        assert_eq!(
            (first.len(), first[0].id, history.count()),
            (10, 6, KEPT as u64 + 5)
        );
        assert_eq!(history.list(KEPT as u64 + 4, 10).len(), 1);
    }

    #[test]
    fn a_history_goes_on_where_it_ended_and_is_kept_once() {
        let before = FailOvers::default();
        before.record(ejected());
        before.record(ejected());
        let kept = before.unkept().unwrap();
        assert!(before.unkept().is_none(), "nothing came since");
        let after = FailOvers::new(kept.into());
        assert!(after.unkept().is_none(), "it is kept already");
        assert_eq!((after.count(), after.record(ejected())), (2, 3));
        assert_eq!(after.list(0, 10).len(), 3);
    }
}
