//! Slow start: an endpoint that is new, or back, gets its share little by little. What it has to load, to compile or
//! to connect to it would otherwise have to do under full load.

use crate::base::clock::Millis;
use std::time::Duration;

/// What it gets at once: without any requests nothing gets warm.
pub const LEAST: f64 = 0.1;

/// The part of its weight that an endpoint has at `now`, when it came at `since`; it grows evenly over `window`.
#[must_use]
pub fn part(since: Millis, now: Millis, window: Duration) -> f64 {
    if window.is_zero() || since == Millis::NEVER {
        return 1.0;
    }
    let passed = now.since(since);
    if passed >= window {
        return 1.0;
    }
    (passed.as_secs_f64() / window.as_secs_f64()).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn the_part_grows_evenly_from_a_tenth_to_the_whole() {
        let parts: Vec<f64> = [1_000, 1_500, 3_000, 6_000, 10_999, 11_000, 99_000]
            .map(|now| part(Millis(1_000), Millis(now), WINDOW))
            .to_vec();
        assert_eq!(parts, [0.1, 0.1, 0.2, 0.5, 0.9999, 1.0, 1.0]);
    }

    #[test]
    fn who_was_always_there_has_all_and_so_has_everybody_without_a_window() {
        assert_eq!(part(Millis::NEVER, Millis(5), WINDOW), 1.0);
        assert_eq!(part(Millis(5), Millis(5), Duration::ZERO), 1.0);
    }

    #[test]
    fn a_clock_that_is_behind_gives_the_least() {
        assert_eq!(part(Millis(9_000), Millis(1_000), WINDOW), LEAST);
    }
}
