//! How often a name is told about: one that flips every second, or fails every other time, must not push
//! everything else out of the events.

use std::time::Duration;
use tokio::time::Instant;

/// Sentences about a name in a row.
const BURST: u32 = 4;
/// Time after which a further one may be told.
const REST: Duration = Duration::from_secs(10);

/// A small bucket of sentences.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    filled: Instant,
    /// Changes that were not told.
    untold: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            filled: now,
            untold: 0,
        }
    }

    /// Something changed. `Some` when it may be told, with the number of changes before it that were not.
    pub(super) fn tell(&mut self, now: Instant) -> Option<u32> {
        self.fill(now);
        if self.left == 0 {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.untold))
    }

    /// Whether a change waits that may be told by now.
    pub(super) fn owes(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.untold > 0 && self.left > 0
    }

    fn fill(&mut self, now: Instant) {
        let rests = now.saturating_duration_since(self.filled).as_nanos() / REST.as_nanos();
        let rests = u32::try_from(rests).unwrap_or(BURST).min(BURST);
        if rests > 0 {
            self.left = (self.left + rests).min(BURST);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_flips_every_second_is_told_about_now_and_then_and_nothing_is_forgotten() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let mut told = 0;
        let mut counted = 0;
        for second in 0..600 {
            if let Some(untold) = pace.tell(begin + Duration::from_secs(second)) {
                told += 1;
                counted += 1 + untold;
            }
        }
        assert!((60..=64).contains(&told), "{told}");
        assert!(counted > 580, "{counted}");
    }

    #[test]
    fn what_was_not_told_is_owed_until_it_may_be() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        for _ in 0..BURST {
            assert_eq!(pace.tell(begin), Some(0));
        }
        assert_eq!(pace.tell(begin), None);
        assert!(!pace.owes(begin + REST / 2));
        assert!(pace.owes(begin + REST));
        assert_eq!(pace.tell(begin + REST), Some(1));
        assert!(!pace.owes(begin + REST));
    }
}
