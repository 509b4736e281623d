//! What would be said too often, said now and then: with how often it happened meanwhile.

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
}
