//! How much is allowed, and what of it one gateway may grant by itself.

use std::time::Duration;

/// Most requests that a limit may allow in its period, and most that may come at once.
const MAX_COUNT: u32 = 1_000_000;
/// Shortest and longest time between two requests of one who asks steadily.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(86_400);
/// Longest time until somebody who took everything has it all back; a key stays in the store for no longer.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// Tokens are leased for so long.
const LEASED: Duration = Duration::from_millis(100);
/// By how many percent the shares of the gateways together exceed the limit: requests don't come to all alike.
const SHARED_OUT: u64 = 120;

/// A limit that can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("a limit allows 1 to {MAX_COUNT} requests in its period, and as many at once")]
    Count,
    #[error("a limit allows at most a million requests in a second, and one in a day at least")]
    Period,
    #[error("what comes at once must be allowed again within a week")]
    Burst,
}

/// So many requests in a period, evenly, of which some may come at once. Over any time W there are never more than
/// `burst + W × count / period`: no period begins anew, so none is used twice at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    rate: Rate,
}

impl Limit {
    /// # Errors
    /// It can't be kept.
    pub fn new(count: u32, period: Duration, burst: u32) -> Result<Self, LimitError> {
        let counts = 1..=MAX_COUNT;
        if !counts.contains(&count) || !counts.contains(&burst) {
            return Err(LimitError::Count);
        }
        // Rounded up: never more than was said.
        let nanos = period.as_nanos().div_ceil(u128::from(count));
        let interval = u64::try_from(nanos).map(Duration::from_nanos);
        let interval = interval.map_err(|_| LimitError::Period)?;
        if !INTERVALS.contains(&interval) {
            return Err(LimitError::Period);
        }
        let rate = Rate { interval, burst };
        if rate.whole() > LONGEST {
            return Err(LimitError::Burst);
        }
        Ok(Self { rate })
    }

    /// Of all gateways together.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// What one of so many gateways grants where it has to go by itself: its part, and a fifth more, and never
    /// more than all of them may. At least one request may always come at once.
    #[must_use]
    pub fn share(&self, gateways: u32) -> Rate {
        let gateways = u64::from(gateways.max(1));
        let nanos = self.rate.interval.as_nanos() * u128::from(gateways) * 100;
        let nanos = nanos.div_ceil(u128::from(SHARED_OUT)).min(u128::from(u64::MAX));
        let burst = (u64::from(self.rate.burst) * SHARED_OUT).div_ceil(gateways * 100);
        Rate {
            interval: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(self.rate.interval),
            burst: u32::try_from(burst).unwrap_or(u32::MAX).clamp(1, self.rate.burst),
        }
    }

    /// Tokens that are leased at once.
    #[must_use]
    pub fn lease(&self) -> u32 {
        let worth = LEASED.as_nanos() / self.rate.interval.as_nanos().max(1);
        u32::try_from(worth).unwrap_or(u32::MAX).clamp(1, self.rate.burst)
    }

    /// Most that gateways may have granted on credit, together.
    #[must_use]
    pub fn credit(&self, gateways: u32) -> u32 {
        let gateways = gateways.max(1);
        self.share(gateways)
            .burst
            .saturating_mul(gateways)
            .saturating_mul(2)
    }
}

/// One request in each interval, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub interval: Duration,
    pub burst: u32,
}

impl Rate {
    /// How long it takes until all that may come at once may come again.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.interval.saturating_mul(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_can_not_be_kept_are_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Limit::new(0, second, 1), Err(LimitError::Count));
        assert_eq!(Limit::new(1, second, 0), Err(LimitError::Count));
        assert_eq!(Limit::new(MAX_COUNT + 1, second, 1), Err(LimitError::Count));
        assert_eq!(
            Limit::new(1000, Duration::from_nanos(1), 1),
            Err(LimitError::Period)
        );
        assert_eq!(Limit::new(1, second * 86_401, 1), Err(LimitError::Period));
        assert_eq!(Limit::new(1, Duration::MAX, 1), Err(LimitError::Period));
        assert_eq!(Limit::new(1, second * 86_400, 8), Err(LimitError::Burst));
        assert!(Limit::new(MAX_COUNT, second, MAX_COUNT).is_ok());
    }

    #[test]
    fn shares_exceed_the_limit_by_a_fifth_and_that_of_one_by_nothing() {
        let limit = Limit::new(100, Duration::from_secs(1), 50).unwrap();
        assert_eq!(limit.share(0), limit.rate());
        assert_eq!(limit.share(1), limit.rate());
        let third = limit.share(3);
        assert_eq!((third.interval, third.burst), (Duration::from_millis(25), 20));
        assert_eq!(limit.share(1000).burst, 1);
        assert_eq!(limit.lease(), 10);
        let slow = Limit::new(5, Duration::from_secs(60), 5).unwrap();
        assert_eq!((slow.lease(), slow.share(2).burst), (1, 3));
    }
}
