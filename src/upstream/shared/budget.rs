//! How many retries are fine: a share of the requests of the last seconds, and always a few.
//!
//! When an upstream fails as a whole, every retry adds to what breaks it. A share bounds that: with 0.2, it never
//! sees more than 1.2 times the requests. The floor lets retries help where there are few requests.

use crate::base::clock::Millis;

/// Retries a second that are always fine.
pub const FLOOR: u32 = 10;
/// Seconds that requests are remembered.
const SECONDS: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    requests: u32,
    retries: u32,
}

/// One worker's budget for one upstream.
#[derive(Debug)]
pub struct Budget {
    seconds: [Second; SECONDS],
    /// Sums of the seconds.
    requests: u64,
    retries: u64,
    /// Number of the current second.
    current: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            seconds: [Second::default(); SECONDS],
            requests: 0,
            retries: 0,
            current: 0,
        }
    }
}

impl Budget {
    /// A request has begun.
    pub fn request(&mut self, now: Millis) {
        let second = self.at(now);
        second.requests = second.requests.saturating_add(1);
        self.requests += 1;
    }

    /// Takes a retry, if there is one left. `share` is of the requests.
    pub fn take(&mut self, share: f64, now: Millis) -> bool {
        let below_floor = self.at(now).retries < FLOOR;
        if !below_floor && self.retries as f64 >= share * self.requests as f64 {
            return false;
        }
        let second = self.at(now);
        second.retries = second.retries.saturating_add(1);
        self.retries += 1;
        true
    }

    /// The second of this moment; those that have passed meanwhile are forgotten.
    fn at(&mut self, now: Millis) -> &mut Second {
        let number = now.0 / 1000;
        if number > self.current {
            let passed = (number - self.current).min(SECONDS as u64);
            for step in 0..passed {
                let gone = std::mem::take(&mut self.seconds[((number - step) % SECONDS as u64) as usize]);
                self.requests -= u64::from(gone.requests);
                self.retries -= u64::from(gone.retries);
            }
            self.current = number;
        }
        // A moment from before, taken a little earlier than the last: it counts as now.
        &mut self.seconds[(self.current % SECONDS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(budget: &mut Budget, tries: u32, share: f64, now: Millis) -> u32 {
        (0..tries).map(|_| u32::from(budget.take(share, now))).sum()
    }

    #[test]
    fn a_share_of_the_requests_may_be_repeated_and_always_a_few() {
        let mut budget = Budget::default();
        let now = Millis(5_000);
        assert_eq!(taken(&mut budget, 100, 0.2, now), FLOOR, "without any request");
        for _ in 0..1000 {
            budget.request(now);
        }
        assert_eq!(taken(&mut budget, 1000, 0.2, now), 200 - FLOOR);
        assert_eq!(taken(&mut budget, 100, 0.2, Millis(6_000)), FLOOR, "each second");
    }

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let mut budget = Budget::default();
        for _ in 0..1000 {
            budget.request(Millis(1_000));
        }
        assert_eq!(taken(&mut budget, 1000, 0.5, Millis(10_900)), 500);
        assert_eq!(taken(&mut budget, 1000, 0.5, Millis(11_000)), FLOOR);
        assert_eq!(budget.requests, 0);
    }

    #[test]
    fn a_clock_that_jumps_far_forgets_everything_and_breaks_nothing() {
        let mut budget = Budget::default();
        budget.request(Millis(1_000));
        assert!(budget.take(0.2, Millis(u64::MAX)));
        budget.request(Millis(1));
        assert_eq!((budget.requests, budget.retries), (1, 1));
    }

    proptest! {
        #[test]
        fn a_storm_never_gets_more_than_the_share_and_the_floor(
            share in 0.0f64..1.0, steps in prop::collection::vec((0u64..400, 0u32..30), 1..200)
        ) {
            let mut budget = Budget::default();
            let (mut now, mut begun, mut all) = (Millis(1_000), 0u64, 0u64);
            for (wait, requests) in steps {
                now = Millis(now.0 + wait);
                for _ in 0..requests {
                    budget.request(now);
                    begun += 1;
                    // Each request would be repeated three times.
                    all += u64::from(taken(&mut budget, 3, share, now));
                }
            }
            let floor = u64::from(FLOOR) * (now.0 / 1000);
            prop_assert!(all as f64 <= share * begun as f64 + floor as f64 + 1.0, "{all} of {begun}");
            let sums = budget.seconds.iter().fold((0, 0), |(a, b), s| (a + u64::from(s.requests), b + u64::from(s.retries)));
            prop_assert_eq!(sums, (budget.requests, budget.retries));
        }
    }
}
