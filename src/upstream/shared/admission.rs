//! What stands before an upstream, for all workers and over reloads: its breaker, its bound on requests at the same
//! time, and the line of those who wait for room.

use super::breaker::{Breaker, Leave};
use super::queue::Queue;
use crate::base::clock::Millis;
use crate::config::model;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Admission {
    pub breaker: Breaker,
    pub queue: Queue,
    /// Requests let in that have not ended; counted only where they are bounded.
    running: AtomicU32,
    crowded: AtomicU64,
}

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The breaker is open; for so long.
    Open(Duration),
    /// `breaker.max_requests` run.
    Crowded,
}

impl Admission {
    /// Lets a request in, or tells why not.
    ///
    /// # Errors
    /// The breaker is open, or too many requests run.
    pub fn enter(&self, rules: &model::Breaker, now: Millis) -> Result<Permit<'_>, Refused> {
        let mut permit = Permit {
            admission: self,
            counted: false,
            trial: None,
            well: None,
            open_for: rules.open_for,
        };
        if rules.max_requests > 0 {
            let one_more = |n: u32| (n < rules.max_requests).then_some(n + 1);
            if self.running.fetch_update(Relaxed, Relaxed, one_more).is_err() {
                self.crowded.fetch_add(1, Relaxed);
                return Err(Refused::Crowded);
            }
            permit.counted = true;
        }
        if rules.error_rate > 0.0 {
            match self.breaker.ask(now) {
                Ok(Leave::Plain) => {}
                Ok(Leave::Trial(of)) => permit.trial = Some(of),
                Err(left) => return Err(Refused::Open(left)),
            }
        }
        Ok(permit)
    }

    /// Requests turned away because too many ran.
    #[must_use]
    pub fn crowded(&self) -> u64 {
        self.crowded.load(Relaxed)
    }
}

/// A request that was let in, until it ends.
#[derive(Debug)]
pub struct Permit<'a> {
    admission: &'a Admission,
    counted: bool,
    trial: Option<Millis>,
    well: Option<bool>,
    open_for: Duration,
}

impl Permit<'_> {
    /// Whether the upstream did well; without this, nothing is told.
    pub const fn went(&mut self, well: bool) {
        self.well = Some(well);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.admission.running.fetch_sub(1, Relaxed);
        }
        if let Some(of) = self.trial {
            self.admission
                .breaker
                .tried(of, self.well, Millis::now(), self.open_for);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_bound_run_at_once_and_whoever_ends_makes_room() {
        let admission = Admission::default();
        let rules = model::Breaker {
            max_requests: 2,
            ..model::Breaker::default()
        };
        let enter = || admission.enter(&rules, Millis(1));
        let (first, _second) = (enter().unwrap(), enter().unwrap());
        assert_eq!(enter().unwrap_err(), Refused::Crowded);
        drop(first);
        assert!(enter().is_ok());
        assert_eq!(admission.crowded(), 1);
    }

    #[test]
    fn a_request_that_the_breaker_turns_away_takes_no_place() {
        let admission = Admission::default();
        let rules = model::Breaker {
            max_requests: 1,
            error_rate: 0.5,
            open_for: Duration::from_secs(5),
            ..model::Breaker::default()
        };
        admission
            .breaker
            .open(Default::default(), Millis(1), rules.open_for);
        for _ in 0..5 {
            let refused = admission.enter(&rules, Millis(1)).unwrap_err();
            assert_eq!(refused, Refused::Open(Duration::from_secs(5)));
        }
        assert_eq!(admission.running.load(Relaxed), 0);
    }
}
