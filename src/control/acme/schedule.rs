//! When to renew, and when to try again. Pure: times and luck are arguments.

use std::time::Duration;

/// Longest wait after failures in a row, what the authority asks for aside.
pub const MAX_BACKOFF: Duration = Duration::from_secs(6 * 3600);
/// Longest wait that an authority may ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// A certificate that is this young is not renewed, whatever anybody says: an authority that suggests to renew what
/// it has just issued must not be asked without end.
const YOUNG: i64 = 3600;
/// Failures that make the wait longer.
const MAX_STEPS: u32 = 16;

/// How long a certificate is good for. In seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub not_before: i64,
    pub not_after: i64,
    /// When we got it.
    pub stored: i64,
}

impl Lifetime {
    const fn length(self) -> i64 {
        let length = self.not_after - self.not_before;
        if length > 0 { length } else { 0 }
    }
}

/// When to renew. `before` is what the operator wants to have left, `suggested` a moment in the authority's own
/// window. `luck`, from 0 to 1, spreads those who began together: they come earlier by up to a tenth of what is
/// left then.
#[must_use]
pub fn renewal(life: Lifetime, before: Option<Duration>, suggested: Option<i64>, luck: f64) -> i64 {
    let length = life.length();
    let left = before.map_or(length / 3, |before| seconds(before).min(length));
    let due = life.not_after - left - (left as f64 / 10.0 * luck) as i64;
    let due = match (suggested, before) {
        (Some(suggested), None) => suggested,
        (Some(suggested), Some(_)) => suggested.min(due),
        (None, _) => due,
    };
    // Authorities err, and an expired certificate serves nobody.
    let latest = life.not_after - length / 10;
    let earliest = life.stored + YOUNG.min(length / 3);
    due.min(latest).max(earliest)
}

/// A moment in a window that the authority suggests (RFC 9773 section 4.2); `None` when it is none.
#[must_use]
pub fn in_window(start: i64, end: i64, luck: f64) -> Option<i64> {
    (start < end).then(|| start + ((end - start) as f64 * luck) as i64)
}

/// The wait after so many failures in a row: three times as long with each, give or take a fifth; and no shorter
/// than the authority asks for.
#[must_use]
pub fn backoff(first: Duration, failures: u32, retry_after: Option<Duration>, luck: f64) -> Duration {
    let times = 3_u32.saturating_pow(failures.saturating_sub(1).min(MAX_STEPS));
    let wait = first.saturating_mul(times).min(MAX_BACKOFF.max(first));
    let wait = wait.mul_f64(0.8 + 0.4 * luck);
    wait.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;
    const LIFE: Lifetime = Lifetime {
        not_before: 0,
        not_after: 90 * DAY,
        stored: 0,
    };

    #[test]
    fn a_third_of_the_lifetime_is_left_at_a_renewal() {
        assert_eq!(renewal(LIFE, None, None, 0.0), 60 * DAY);
        assert_eq!(renewal(LIFE, None, None, 1.0), 57 * DAY);
    }

    #[test]
    fn the_operators_wish_and_the_authoritys_are_both_heard() {
        let before = Some(Duration::from_secs(10 * DAY as u64));
        assert_eq!(renewal(LIFE, before, None, 0.0), 80 * DAY);
        assert_eq!(renewal(LIFE, before, Some(40 * DAY), 0.0), 40 * DAY);
        assert_eq!(renewal(LIFE, before, Some(85 * DAY), 0.0), 80 * DAY);
        assert_eq!(renewal(LIFE, None, Some(70 * DAY), 0.0), 70 * DAY);
    }

    #[test]
    fn nobody_makes_us_renew_too_late_or_without_end() {
        assert_eq!(renewal(LIFE, None, Some(400 * DAY), 0.0), 81 * DAY);
        assert_eq!(renewal(LIFE, None, Some(-5), 0.0), YOUNG);
        let long = Some(Duration::from_secs(400 * DAY as u64));
        assert_eq!(renewal(LIFE, long, None, 0.0), YOUNG);
        let short = Lifetime {
            not_after: 30,
            ..LIFE
        };
        assert_eq!(renewal(short, None, Some(0), 0.0), 10);
        let turned = Lifetime {
            not_after: -DAY,
            ..LIFE
        };
        assert_eq!(renewal(turned, None, None, 0.5), 0, "at once, and never a panic");
    }

    #[test]
    fn waits_grow_to_a_bound_and_heed_what_the_authority_asks_for() {
        let first = Duration::from_secs(60);
        let waits: Vec<u64> = [1, 2, 3, 6, 7, u32::MAX]
            .map(|n| backoff(first, n, None, 0.5).as_secs())
            .to_vec();
        assert_eq!(waits, [60, 180, 540, 14_580, 21_600, 21_600]);
        assert_eq!(backoff(first, 1, None, 0.0).as_secs(), 48);
        let asked = Some(Duration::from_secs(7200));
        assert_eq!(backoff(first, 1, asked, 0.5).as_secs(), 7200);
        assert_eq!(backoff(first, 1, Some(Duration::MAX), 0.5), MAX_RETRY_AFTER);
    }

    proptest! {
        #[test]
        fn a_window_is_met_somewhere_inside(start in -1000_i64..1000, length in 0_i64..1000, luck in 0.0..1.0_f64) {
            match in_window(start, start + length, luck) {
                Some(at) => prop_assert!((start..=start + length).contains(&at)),
                None => prop_assert_eq!(length, 0),
            }
        }
    }
}
