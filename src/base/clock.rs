//! Moments that fit into an atomic, and the date that gateways agree on.

use jiff::{SignedDuration, Timestamp};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How far the two clocks may drift apart before the calendar's is believed to have been set.
const RESET: Duration = Duration::from_secs(1);

/// A difference between this machine's date and others' that is not worth following: what clocks that are kept in
/// time differ by, and the way of an answer.
pub const NEAR: Duration = Duration::from_secs(2);

/// Milliseconds that the date others go by is ahead of this machine's.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// The date that gateways which share a store agree on: this machine's, unless its clock is off. For what is told to
/// others with a date, or was told by them; what only this gateway knows of is this machine's.
#[must_use]
pub fn calendar() -> Timestamp {
    let now = Timestamp::now();
    match AHEAD.load(Ordering::Relaxed) {
        0 => now,
        ahead => now.checked_add(SignedDuration::from_millis(ahead)).unwrap_or(now),
    }
}

/// The others' date is this now. Gives how far this machine's is ahead of it, where that is worth telling.
pub fn calendar_is(there: Timestamp) -> Option<SignedDuration> {
    let ahead = ahead(Timestamp::now(), there);
    AHEAD.store(ahead, Ordering::Relaxed);
    (ahead != 0).then(|| SignedDuration::from_millis(-ahead))
}

/// Milliseconds that are to be added to what is read here.
fn ahead(here: Timestamp, there: Timestamp) -> i64 {
    let ahead = there.as_millisecond().saturating_sub(here.as_millisecond());
    if u128::from(ahead.unsigned_abs()) < NEAR.as_millis() {
        0
    } else {
        ahead
    }
}

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
    fn the_date_of_others_is_followed_where_it_is_another() {
        let at = |ms: i64| Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap();
        assert_eq!(ahead(at(0), at(0)), 0);
        assert_eq!((ahead(at(0), at(1999)), ahead(at(1999), at(0))), (0, 0));
        assert_eq!(ahead(at(3_600_000), at(0)), -3_600_000, "an hour ahead");
        assert_eq!(ahead(at(0), at(3_600_000)), 3_600_000, "an hour behind");
        assert!(ahead(Timestamp::MIN, Timestamp::MAX) > 0);
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
