//! Moments that fit into an atomic.

use jiff::Timestamp;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How far the two clocks may drift apart before the calendar's is believed to have been set.
const RESET: Duration = Duration::from_secs(1);

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

    /// The same moment on the calendar. Two looks at one moment give the same text, as long as nobody sets the
    /// calendar's clock by more than [`RESET`].
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        let now = i64::try_from(Self::now().0).unwrap_or(i64::MAX);
        let at = i64::try_from(self.0).unwrap_or(i64::MAX);
        static SAID: AtomicI64 = AtomicI64::new(i64::MIN);
        let begin = settled(&SAID, Timestamp::now().as_millisecond().saturating_sub(now));
        Timestamp::from_millisecond(begin.saturating_add(at)).unwrap_or(Timestamp::MAX)
    }

    /// Time from `earlier` to here; none if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// When the monotonic clock began, by the calendar's: what was said before, if that is about the same.
fn settled(said: &AtomicI64, begin: i64) -> i64 {
    let before = said.load(Ordering::Relaxed);
    if u128::from(begin.saturating_sub(before).unsigned_abs()) <= RESET.as_millis() {
        return before;
    }
    said.store(begin, Ordering::Relaxed);
    begin
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_one_date_and_it_is_the_right_one() {
        let at = Millis::now();
        let first = at.timestamp();
        let off = Timestamp::now().as_millisecond() - first.as_millisecond();
        assert!((-2000..2000).contains(&off), "{off}");
        for _ in 0..1000 {
            assert_eq!(at.timestamp(), first);
        }
        let later = at.plus(Duration::from_millis(2500));
        assert_eq!(later.timestamp().as_millisecond() - first.as_millisecond(), 2500);
        assert_eq!(Millis(u64::MAX).timestamp(), Timestamp::MAX);
    }

    #[test]
    fn a_calendar_that_is_set_is_followed() {
        let said = AtomicI64::new(i64::MIN);
        assert_eq!(settled(&said, 5_000_000), 5_000_000);
        assert_eq!(settled(&said, 5_000_900), 5_000_000, "drift");
        assert_eq!(settled(&said, 5_002_000), 5_002_000, "set");
    }

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
