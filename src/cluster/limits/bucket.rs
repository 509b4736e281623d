//! One key's use of a rate, as one moment: when all of it will be allowed again (the "theoretical arrival time" of the
//! generic cell rate algorithm). Pure.

use super::limit::Rate;
use std::time::Duration;
use tokio::time::Instant;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    free_at: Option<Instant>,
}

impl Bucket {
    /// Takes one, or says how long it is until one may be taken.
    pub fn take(&mut self, now: Instant, rate: Rate) -> Result<(), Duration> {
        let (at, most) = (self.at(now, rate), now + rate.whole());
        let after = at + rate.interval;
        if after > most {
            // What another rate left there ends as this one has it.
            self.free_at = Some(at);
            return Err(after.duration_since(most));
        }
        self.free_at = Some(after);
        Ok(())
    }

    /// One was taken, whether or not that was allowed here.
    pub fn note(&mut self, now: Instant, rate: Rate) {
        let after = self.at(now, rate) + rate.interval;
        self.free_at = Some(after.min(now + rate.whole()));
    }

    /// Whether it is as if nothing had ever been taken.
    #[must_use]
    pub fn is_free(&self, now: Instant) -> bool {
        self.free_at.is_none_or(|at| at <= now)
    }

    /// Never further away than this rate can make it: it may have been another when it was taken.
    fn at(&self, now: Instant, rate: Rate) -> Instant {
        self.free_at.map_or(now, |at| at.clamp(now, now + rate.whole()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        interval: Duration::from_millis(10),
        burst: 3,
    };

    #[test]
    fn so_many_at_once_and_then_one_in_each_interval() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(bucket.take(now, RATE), Ok(()));
        }
        assert_eq!(bucket.take(now, RATE), Err(RATE.interval));
        let later = now + Duration::from_millis(4);
        assert_eq!(bucket.take(later, RATE), Err(Duration::from_millis(6)));
        assert_eq!(bucket.take(now + RATE.interval, RATE), Ok(()));
        assert!(bucket.take(now + RATE.interval, RATE).is_err());
        assert!(bucket.is_free(now + RATE.whole() + RATE.interval) && !bucket.is_free(now));
    }

    #[test]
    fn what_was_taken_at_a_slower_rate_keeps_nobody_waiting_for_longer_than_this_one_does() {
        let slow = Rate {
            interval: Duration::from_secs(60),
            burst: 10,
        };
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        for _ in 0..20 {
            bucket.note(now, slow);
        }
        assert_eq!(bucket.take(now, slow), Err(slow.interval));
        assert_eq!(bucket.take(now, RATE), Err(RATE.interval));
        assert_eq!(bucket.take(now + RATE.interval, RATE), Ok(()));
    }
}
