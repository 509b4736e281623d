//! How many of the requests of the last while failed, from counters that only grow.

use crate::base::clock::Millis;
use std::collections::VecDeque;
use std::time::Duration;

/// Parts of a window: how finely it moves on.
const PARTS: u32 = 10;

/// Requests and those among them that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: u64,
    pub failures: u64,
}

impl Tally {
    /// Whether so large a share of at least so many requests failed. A rate of 0 is never reached: it is off.
    #[must_use]
    pub fn reaches(self, rate: f64, least_requests: u64) -> bool {
        rate > 0.0
            && self.failures > 0
            && self.requests >= least_requests
            && self.failures as f64 >= rate * self.requests as f64
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
        }
    }
}

/// A window that moves over the counters of one endpoint or upstream.
#[derive(Debug, Default)]
pub struct Window {
    /// What the counters were, the oldest first; the first is from just before the window.
    marks: VecDeque<(Millis, Tally)>,
}

impl Window {
    /// What came in within the window, given what the counters are now.
    pub fn observe(&mut self, now: Millis, counters: Tally, length: Duration) -> Tally {
        // Counters that fell are others: those of an endpoint that was away.
        let fell = |(_, last): &(Millis, Tally)| {
            last.requests > counters.requests || last.failures > counters.failures
        };
        if self.marks.back().is_some_and(fell) {
            self.restart();
        }
        while self.marks.len() > 1 && self.marks.get(1).is_some_and(|(at, _)| now.since(*at) >= length) {
            self.marks.pop_front();
        }
        let due = self
            .marks
            .back()
            .is_none_or(|(at, _)| now.since(*at) >= length / PARTS);
        if due {
            self.marks.push_back((now, counters));
        }
        let before = self.marks.front().map_or(counters, |(_, tally)| *tally);
        counters.since(before)
    }

    /// Forgets what came so far.
    pub fn restart(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn tally(requests: u64, failures: u64) -> Tally {
        Tally { requests, failures }
    }

    #[test]
    fn only_what_came_within_the_window_counts() {
        let mut window = Window::default();
        assert_eq!(window.observe(Millis(1), tally(500, 400), LENGTH), tally(0, 0));
        for second in 1..=5 {
            let counters = tally(500 + second * 10, 400 + second);
            let seen = window.observe(Millis(1 + second * 1000), counters, LENGTH);
            assert_eq!(seen, tally(second * 10, second));
        }
        // Nothing more came: what did passes out of the window.
        let late = window.observe(Millis(13_500), tally(550, 405), LENGTH);
        assert!(late.requests < 50 && late.requests > 0, "{late:?}");
        assert_eq!(
            window.observe(Millis(60_000), tally(550, 405), LENGTH),
            tally(0, 0)
        );
    }

    #[test]
    fn marks_are_bounded_however_often_it_is_asked() {
        let mut window = Window::default();
        for ms in 1..100_000 {
            window.observe(Millis(ms), tally(ms, 0), LENGTH);
        }
        assert!(window.marks.len() <= PARTS as usize + 2, "{}", window.marks.len());
    }

    #[test]
    fn counters_that_begin_anew_are_not_taken_for_failures() {
        let mut window = Window::default();
        window.observe(Millis(1), tally(500, 400), LENGTH);
        assert_eq!(window.observe(Millis(2), tally(3, 1), LENGTH), tally(0, 0));
        assert_eq!(window.observe(Millis(3), tally(5, 2), LENGTH), tally(2, 1));
    }

    #[test]
    fn a_rate_needs_its_least_number_of_requests() {
        assert!(tally(20, 10).reaches(0.5, 20));
        assert!(!tally(19, 19).reaches(0.5, 20));
        assert!(!tally(20, 9).reaches(0.5, 20));
        assert!(!tally(20, 20).reaches(0.0, 1), "0 is off");
        assert!(!tally(0, 0).reaches(0.5, 0));
    }
}
