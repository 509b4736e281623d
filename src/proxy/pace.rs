//! Whether a direction moves: when it last did, and whether it is fast enough. Pure; `now` is an argument.

use std::time::{Duration, Instant};

/// A rate is judged over this long where no idle time is configured.
const WINDOW: Duration = Duration::from_secs(30);

/// The progress of one direction.
#[derive(Debug, Default)]
pub(super) struct Pace {
    moved: Option<(u64, Instant)>,
    window: Option<(u64, Instant)>,
}

impl Pace {
    /// Notes a byte count that only grows; returns since when it has not.
    pub fn note(&mut self, bytes: u64, now: Instant) -> Instant {
        match self.moved {
            Some((then, since)) if then == bytes => since,
            _ => {
                self.moved = Some((bytes, now));
                now
            }
        }
    }

    /// When the window ends in which too little came; until then there is time to catch up. `rate` is in bytes
    /// per second, 0 is no bound. The window is as long as the direction may be silent: who is judged by his rate
    /// is never cut sooner than who says nothing.
    pub fn too_slow_at(&mut self, bytes: u64, rate: u64, silence: Duration, now: Instant) -> Option<Instant> {
        if rate == 0 {
            return None;
        }
        let window = if silence.is_zero() { WINDOW } else { silence };
        let (before, since) = *self.window.get_or_insert((bytes, now));
        let due = (u128::from(rate) * window.as_millis() / 1000).max(1);
        if u128::from(bytes.saturating_sub(before)) >= due {
            self.window = Some((bytes, now));
            return Some(now + window);
        }
        Some(since + window)
    }

    /// The direction waits for the other side, which is not its fault.
    pub const fn excused(&mut self) {
        self.window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_counts_from_the_last_byte() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.note(5, start), start);
        assert_eq!(pace.note(5, start + SECOND), start);
        assert_eq!(pace.note(6, start + 2 * SECOND), start + 2 * SECOND);
    }

    #[test]
    fn a_byte_a_second_is_cut_at_the_end_of_the_first_window() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..10 {
            let at = pace.too_slow_at(u64::from(second), 100, 10 * SECOND, start + second * SECOND);
            assert_eq!(at, Some(start + 10 * SECOND));
        }
    }

    #[test]
    fn enough_bytes_open_a_new_window() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let _first = pace.too_slow_at(0, 100, 10 * SECOND, start);
        assert_eq!(
            pace.too_slow_at(1000, 100, 10 * SECOND, start + SECOND),
            Some(start + 11 * SECOND)
        );
    }

    #[test]
    fn time_held_up_by_the_other_side_does_not_count() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let _first = pace.too_slow_at(0, 100, 10 * SECOND, start);
        pace.excused();
        assert_eq!(
            pace.too_slow_at(0, 100, 10 * SECOND, start + 60 * SECOND),
            Some(start + 70 * SECOND)
        );
    }

    #[test]
    fn no_rate_is_no_bound() {
        assert_eq!(Pace::default().too_slow_at(0, 0, SECOND, Instant::now()), None);
    }
}
