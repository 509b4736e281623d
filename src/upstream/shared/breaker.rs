//! The breaker of an upstream: when too much of what it is asked fails, it is asked nothing for a while, and then a
//! little, to see.
//!
//! Closed, it costs a request one look at a number. Control opens it, from the counts of all workers. When its time
//! is over it is half-open: a few requests are let through; if all of them go well it closes, and if one fails it
//! opens again.

use super::rate::Tally;
use crate::base::clock::Millis;
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Requests that have to go well before it closes.
pub const TRIALS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

impl BreakerState {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Why it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// `None`: a trial failed.
    pub tally: Option<Tally>,
    pub since: Millis,
    pub until: Millis,
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tally {
            Some(tally) => write!(f, "{} of {} requests failed", tally.failures, tally.requests),
            None => f.write_str("a request that was let through to see failed too"),
        }
    }
}

/// See the module's text. Outlives reloads.
#[derive(Debug, Default)]
pub struct Breaker {
    /// 0: closed.
    open_until: AtomicU64,
    trials: Mutex<Trials>,
    last: ArcSwapOption<Opening>,
    opened: AtomicU64,
    refused: AtomicU64,
}

/// Since it became half-open.
#[derive(Debug, Default)]
struct Trials {
    running: u32,
    passed: u32,
}

/// Leave to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Like any other.
    Plain,
    /// Its outcome decides. Told by which opening it is about.
    Trial(Millis),
}

impl Breaker {
    /// Leave to send a request, or how long there will be none.
    ///
    /// # Errors
    /// It is open, or half-open with its trials under way.
    pub fn ask(&self, now: Millis) -> Result<Leave, Duration> {
        let until = Millis(self.open_until.load(Relaxed));
        if until == Millis::NEVER {
            return Ok(Leave::Plain);
        }
        if now >= until {
            let mut trials = self.lock();
            if trials.running + trials.passed < TRIALS {
                trials.running += 1;
                return Ok(Leave::Trial(until));
            }
        }
        self.refused.fetch_add(1, Relaxed);
        Err(until.since(now))
    }

    /// A trial has ended, well or not; `None`: without telling anything.
    pub fn tried(&self, of: Millis, well: Option<bool>, now: Millis, open_for: Duration) {
        let mut trials = self.lock();
        // It has been decided without this one.
        if self.open_until.load(Relaxed) != of.0 {
            return;
        }
        trials.running = trials.running.saturating_sub(1);
        match well {
            None => {}
            Some(true) => {
                trials.passed += 1;
                if trials.passed >= TRIALS {
                    *trials = Trials::default();
                    self.open_until.store(0, Relaxed);
                }
            }
            Some(false) => {
                *trials = Trials::default();
                self.note_opening(None, now, open_for);
            }
        }
    }

    /// Opens it, if it is closed. Whether it was opened by this call.
    pub fn open(&self, tally: Tally, now: Millis, open_for: Duration) -> bool {
        let mut trials = self.lock();
        if self.open_until.load(Relaxed) != 0 {
            return false;
        }
        *trials = Trials::default();
        self.note_opening(Some(tally), now, open_for);
        true
    }

    /// Closes it, when it is no longer wanted.
    pub fn close(&self) {
        let mut trials = self.lock();
        *trials = Trials::default();
        self.open_until.store(0, Relaxed);
    }

    fn note_opening(&self, tally: Option<Tally>, since: Millis, open_for: Duration) {
        // Another moment than the last one, by which trials are told apart.
        let until = Millis(since.plus(open_for).0.max(self.open_until.load(Relaxed) + 1));
        self.last.store(Some(Arc::new(Opening { tally, since, until })));
        self.opened.fetch_add(1, Relaxed);
        self.open_until.store(until.0, Relaxed);
    }

    #[must_use]
    pub fn state(&self, now: Millis) -> BreakerState {
        match Millis(self.open_until.load(Relaxed)) {
            Millis::NEVER => BreakerState::Closed,
            until if now < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// The latest, over or not.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Opening>> {
        self.last.load_full()
    }

    /// Times it opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Requests that it turned away.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Whole after a panic too: the counts are set in single steps.
    fn lock(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(5);
    const BAD: Tally = Tally {
        requests: 100,
        failures: 60,
    };

    fn half_open() -> (Breaker, Millis) {
        let breaker = Breaker::default();
        assert!(breaker.open(BAD, Millis(1_000), OPEN_FOR));
        (breaker, Millis(6_000))
    }

    fn trial(breaker: &Breaker, now: Millis) -> Millis {
        match breaker.ask(now) {
            Ok(Leave::Trial(of)) => of,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn open_it_turns_everything_away_and_tells_for_how_long() {
        let breaker = Breaker::default();
        assert_eq!(breaker.ask(Millis(1)), Ok(Leave::Plain));
        assert!(breaker.open(BAD, Millis(1_000), OPEN_FOR));
        assert!(!breaker.open(BAD, Millis(1_100), OPEN_FOR), "it is open");
        assert_eq!(breaker.ask(Millis(2_000)), Err(Duration::from_secs(4)));
        assert_eq!(breaker.state(Millis(2_000)), BreakerState::Open);
        assert_eq!((breaker.opened(), breaker.refused()), (1, 1));
        assert_eq!(breaker.last().unwrap().to_string(), "60 of 100 requests failed");
    }

    #[test]
    fn half_open_it_lets_a_few_through_and_closes_when_all_went_well() {
        let (breaker, now) = half_open();
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        let trials: Vec<Millis> = (0..TRIALS).map(|_| trial(&breaker, now)).collect();
        assert_eq!(breaker.ask(now), Err(Duration::ZERO), "no more than that at once");
        for of in trials {
            assert_eq!(breaker.state(now), BreakerState::HalfOpen);
            breaker.tried(of, Some(true), now, OPEN_FOR);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        assert_eq!(breaker.ask(now), Ok(Leave::Plain));
    }

    #[test]
    fn one_failed_trial_opens_it_again_and_the_others_no_longer_count() {
        let (breaker, now) = half_open();
        let (first, second) = (trial(&breaker, now), trial(&breaker, now));
        breaker.tried(first, Some(false), now, OPEN_FOR);
        assert_eq!(breaker.state(now), BreakerState::Open);
        breaker.tried(second, Some(true), now, OPEN_FOR);
        assert_eq!(breaker.state(Millis(10_999)), BreakerState::Open);
        let later = Millis(11_000);
        for _ in 0..TRIALS {
            let of = trial(&breaker, later);
            breaker.tried(of, Some(true), later, OPEN_FOR);
        }
        assert_eq!(breaker.state(later), BreakerState::Closed);
        assert_eq!(breaker.opened(), 2);
    }

    #[test]
    fn a_trial_that_tells_nothing_leaves_its_place_to_another() {
        let (breaker, now) = half_open();
        for _ in 0..20 {
            let of = trial(&breaker, now);
            breaker.tried(of, None, now, OPEN_FOR);
        }
        assert_eq!(breaker.state(now), BreakerState::HalfOpen);
    }

    #[test]
    fn openings_in_the_same_moment_are_told_apart() {
        let (breaker, now) = half_open();
        let stale = trial(&breaker, now);
        breaker.close();
        assert!(breaker.open(BAD, Millis(1_000), OPEN_FOR));
        breaker.tried(stale, Some(false), now, Duration::ZERO);
        assert_eq!(breaker.opened(), 2 + u64::from(stale == Millis(6_000)));
    }
}
