//! What would be said too often, said now and then: with how often it happened meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Between two times that it is said.
const QUIET: Duration = Duration::from_secs(60);

/// One thing that may happen often.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// It happened so many times. Gives how many there are to be told of, where it is to be said now.
    pub fn happened(&mut self, times: u64, now: Instant) -> Option<u64> {
        self.times = self.times.saturating_add(times);
        let quiet = self
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < QUIET);
        if quiet || self.times == 0 {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

/// Things that may happen often, for one of few causes each.
#[derive(Debug)]
pub struct PerCause<K>(HashMap<K, Seldom>);

impl<K> Default for PerCause<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> PerCause<K> {
    /// It happened for this cause; whether that is to be said now.
    pub fn is_news(&mut self, cause: K, now: Instant) -> bool {
        self.0.entry(cause).or_default().happened(1, now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_together_later() {
        let (mut seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.happened(0, now), None);
        assert_eq!(seldom.happened(1, now), Some(1));
        for _ in 0..100 {
            assert_eq!(seldom.happened(2, now + QUIET / 2), None);
        }
        assert_eq!(seldom.happened(0, now + QUIET), Some(200));
        assert_eq!(seldom.happened(0, now + QUIET * 3), None);
    }

    #[test]
    fn a_cause_is_told_once_however_often_it_is_met() {
        let (mut told, now) = (PerCause::default(), Instant::now());
        let mut lines = 0;
        for n in 0..600 {
            let cause = if n % 2 == 0 { "closed" } else { "refused" };
            lines += usize::from(told.is_news(cause, now + Duration::from_millis(100) * n));
        }
        assert_eq!(lines, 2);
        assert!(told.is_news("closed", now + QUIET));
    }
}
