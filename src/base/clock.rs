//! Moments that fit into an atomic.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Milliseconds on the monotonic clock, from about when the process began; 0 stands for "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    pub const NEVER: Self = Self(0);

    #[must_use]
    pub fn now() -> Self {
        Self::of(Instant::now())
    }

    /// Moments before the first one asked for are the first.
    #[must_use]
    pub fn of(at: Instant) -> Self {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        let since = at.saturating_duration_since(*BEGIN.get_or_init(|| at));
        Self(1 + millis(since))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Time from `earlier` to here; none if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_their_order_and_are_never_never() {
        let begin = Instant::now();
        let first = Millis::of(begin);
        let later = Millis::of(begin + Duration::from_millis(1500));
        assert!(first > Millis::NEVER);
        assert_eq!(later.since(first), Duration::from_millis(1500));
        assert_eq!(first.plus(Duration::from_millis(1500)), later);
        assert_eq!(first.since(later), Duration::ZERO);
        assert_eq!(first.plus(Duration::MAX), Millis(u64::MAX));
    }
}
