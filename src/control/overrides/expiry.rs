//! Changes that were given a time, and are taken back when it is over.
//!
//! The end is a moment on the calendar, because it must mean the same after a restart. While the gateway runs it is
//! counted down on the clock that does not jump, so that a calendar that is set makes no change last longer than it was
//! given, or end before.

use crate::upstream::shared::overrides::{EndpointOverride, Override, Overrides};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// When which changes end.
#[derive(Debug, Default)]
pub struct Ends(BTreeMap<Timestamp, Instant>);

impl Ends {
    /// Takes up what is new among these, and forgets what is no longer there.
    pub fn follow(&mut self, overrides: &Overrides, calendar: Timestamp, now: Instant) {
        let known = std::mem::take(&mut self.0);
        for (until, since) in ends(overrides) {
            let at = known.get(&until).copied().unwrap_or_else(|| {
                let left = until.duration_since(calendar).min(until.duration_since(since));
                now + Duration::try_from(left).unwrap_or(Duration::ZERO)
            });
            self.0.insert(until, at);
        }
    }

    /// When the next one ends.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// Those that have ended by now.
    #[must_use]
    pub fn over(&self, now: Instant) -> BTreeSet<Timestamp> {
        let over = self.0.iter().filter(|(_, at)| **at <= now);
        over.map(|(until, _)| *until).collect()
    }
}

/// The end and the beginning of each change that has an end.
fn ends(overrides: &Overrides) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    times(overrides).filter_map(|(since, until)| Some((until?, since)))
}

/// Since when each change holds, and until when where it ends by itself.
pub(super) fn times(overrides: &Overrides) -> impl Iterator<Item = (Timestamp, Option<Timestamp>)> {
    const fn of<T>(told: &Override<T>) -> (Timestamp, Option<Timestamp>) {
        (told.since, told.until)
    }
    let endpoints = overrides
        .endpoints()
        .flat_map(|(_, told)| [told.leave.as_ref().map(of), told.weight.as_ref().map(of)])
        .flatten();
    let balances = overrides.balances().map(|(_, told)| of(told));
    let thresholds = overrides.all_thresholds().map(|(_, told)| of(told));
    endpoints.chain(balances).chain(thresholds)
}

/// These without those that end at a moment for which `is_over` holds.
#[must_use]
pub fn without(overrides: &Overrides, is_over: impl Fn(Timestamp) -> bool) -> Overrides {
    those_left(overrides, |remark| remark.until.is_some_and(&is_over))
}

/// What is said of an override, beside its value.
pub(super) struct Remark<'a> {
    pub node: Option<&'a str>,
    pub until: Option<Timestamp>,
}

impl<'a> Remark<'a> {
    fn of<T>(told: &'a Override<T>) -> Self {
        Self {
            node: told.node.as_deref(),
            until: told.until,
        }
    }
}

/// These without those that go.
pub(super) fn those_left(overrides: &Overrides, goes: impl Fn(Remark<'_>) -> bool) -> Overrides {
    let mut after = overrides.clone();
    for (key, told) in overrides.endpoints() {
        let left = EndpointOverride {
            leave: told.leave.clone().filter(|leave| !goes(Remark::of(leave))),
            weight: told.weight.clone().filter(|weight| !goes(Remark::of(weight))),
        };
        after.set_endpoint(key.clone(), left);
    }
    for (upstream, _) in overrides.balances().filter(|(_, told)| goes(Remark::of(told))) {
        after.set_balance(upstream.clone(), None);
    }
    for (upstream, _) in overrides
        .all_thresholds()
        .filter(|(_, told)| goes(Remark::of(told)))
    {
        after.remove_thresholds(upstream);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Balance;
    use crate::upstream::shared::overrides::{Algorithm, Leave, Thresholds};
    use crate::upstream::shared::{AdminState, EndpointKey};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Told at the second 1000.
    fn said<T>(value: T, until: Option<i64>) -> Override<T> {
        Override {
            value,
            by: "ann".to_owned(),
            node: None,
            since: at(1000),
            reason: None,
            until: until.map(at),
        }
    }

    fn key() -> EndpointKey {
        EndpointKey {
            upstream: "app".into(),
            address: "a:1".into(),
        }
    }

    fn one_of_each() -> Overrides {
        let mut overrides = Overrides::default();
        let leave = Leave {
            state: AdminState::Draining,
            deadline: None,
        };
        let told = EndpointOverride {
            leave: Some(said(leave, Some(1010))),
            weight: Some(said(7, Some(1020))),
        };
        overrides.set_endpoint(key(), told);
        let algorithm = Algorithm {
            balance: Balance::First,
            key: None,
        };
        overrides.set_balance("app".into(), Some(said(algorithm, Some(1030))));
        let thresholds = Thresholds {
            fall: Some(1),
            ..Thresholds::default()
        };
        overrides.set_thresholds("app".into(), said(thresholds, Some(1040)));
        overrides.set_thresholds("api".into(), said(thresholds, None));
        overrides
    }

    #[test]
    fn each_ends_in_its_time_and_what_has_no_end_stays() {
        let all = one_of_each();
        let mut ends = Ends::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        ends.follow(&all, at(1000), begin);
        let left = |seconds| {
            let over = ends.over(after(seconds));
            without(&all, |until| over.contains(&until))
        };
        assert_eq!(ends.next(), Some(after(10)));
        assert_eq!(left(9), all);
        let told = left(10).endpoint(&key()).unwrap().clone();
        assert!(told.leave.is_none() && told.weight.is_some());
        assert!(left(20).endpoint(&key()).is_none() && left(20).balance("app").is_some());
        assert!(left(30).balance("app").is_none() && left(30).thresholds("app").is_some());
        assert!(left(40).thresholds("app").is_none());
        assert_eq!(left(1 << 40).len(), 1);
    }

    #[test]
    fn a_calendar_that_is_set_moves_no_end() {
        let all = one_of_each();
        let begin = Instant::now();
        let in_time = begin + Duration::from_secs(10);
        for calendar in [at(0), at(1000), at(9000)] {
            let mut ends = Ends::default();
            ends.follow(&all, at(1000), begin);
            ends.follow(&all, calendar, begin + Duration::from_secs(1));
            assert_eq!(ends.next(), Some(in_time), "{calendar}");
        }
        // After a restart there is only the calendar; set back, it gives no more than the whole.
        let mut ends = Ends::default();
        ends.follow(&all, at(0), begin);
        assert_eq!(ends.next(), Some(in_time));
        ends.follow(&Overrides::default(), at(0), begin);
        assert_eq!(ends.next(), None);
    }
}
