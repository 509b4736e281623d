//! A histogram of durations with fixed, decimal buckets.
//!
//! Ten buckets per decade from 10 µs to 100 s: fine enough for quantiles, while a scrape shows only every
//! third or so ([`SHOWN`]), so that a route costs twenty lines and not seventy.

use super::cells::Counter;
use std::time::Duration;

/// Steps within a decade, in tenths. Neighbours differ by at most a third.
const STEPS: [u64; 10] = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80];
const DECADES: usize = 7;

/// How many finite bounds there are.
pub const BOUNDS: usize = STEPS.len() * DECADES + 1;

/// Upper bounds of the buckets in microseconds, inclusive: 10 µs, 12 µs … 80 s, 100 s.
pub const BOUNDS_US: [u64; BOUNDS] = bounds();

/// Indexes of the bounds that a scrape shows: 1, 2.5 and 5 of each decade from 100 µs on.
pub const SHOWN: [usize; 19] = shown();

const fn bounds() -> [u64; BOUNDS] {
    let mut table = [0; BOUNDS];
    let (mut i, mut scale) = (0, 1);
    while i < BOUNDS {
        table[i] = STEPS[i % STEPS.len()] * scale;
        i += 1;
        if i % STEPS.len() == 0 {
            scale *= 10;
        }
    }
    table
}

const fn shown() -> [usize; 19] {
    let mut table = [0; 19];
    let (mut at, mut i) = (0, STEPS.len());
    while i < BOUNDS {
        let step = i % STEPS.len();
        if step == 0 || step == 4 || step == 7 {
            table[at] = i;
            at += 1;
        }
        i += 1;
    }
    table
}

/// Durations counted into buckets. One writer.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BOUNDS + 1],
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Counter::default()),
            sum_us: Counter::default(),
        }
    }
}

impl Histogram {
    #[inline]
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].inc();
        self.sum_us.add(us);
    }

    /// The counts of this moment. Buckets are read one after the other, so a scrape during traffic may be off
    /// by the records made meanwhile.
    #[must_use]
    pub fn counts(&self) -> HistogramCounts {
        HistogramCounts {
            buckets: std::array::from_fn(|i| self.buckets[i].get()),
            sum_us: self.sum_us.get(),
        }
    }

    pub(super) fn absorb(&self, other: &Self) {
        for (mine, theirs) in self.buckets.iter().zip(&other.buckets) {
            mine.add(theirs.get());
        }
        self.sum_us.add(other.sum_us.get());
    }
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramCounts {
    /// Records per bucket; the last holds what exceeds every bound.
    pub buckets: [u64; BOUNDS + 1],
    pub sum_us: u64,
}

impl Default for HistogramCounts {
    fn default() -> Self {
        Self {
            buckets: [0; BOUNDS + 1],
            sum_us: 0,
        }
    }
}

impl HistogramCounts {
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_us.checked_div(self.count()).map(Duration::from_micros)
    }

    /// What was recorded after `earlier`, for windows.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i])),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
        }
    }

    /// Estimates the quantile `q` (0–1) by linear interpolation within its bucket, `None` without records.
    ///
    /// The true value lies in the same bucket, so from 10 µs to 100 s the estimate is off by less than a third
    /// of itself; beyond 100 s it says 100 s.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * total as f64;
        let mut before = 0;
        for (i, in_bucket) in self.buckets.iter().enumerate() {
            let reached = before + in_bucket;
            if *in_bucket > 0 && reached as f64 >= rank {
                let low = i.checked_sub(1).map_or(0, |below| BOUNDS_US[below]) as f64;
                let high = BOUNDS_US[i.min(BOUNDS - 1)] as f64;
                let share = ((rank - before as f64) / *in_bucket as f64).clamp(0.0, 1.0);
                return Some(Duration::from_micros((low + (high - low) * share) as u64));
            }
            before = reached;
        }
        Some(Duration::from_micros(BOUNDS_US[BOUNDS - 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_run_from_ten_microseconds_to_a_hundred_seconds() {
        assert_eq!(BOUNDS_US[0], 10);
        assert_eq!(BOUNDS_US[BOUNDS - 1], 100_000_000);
        assert!(BOUNDS_US.windows(2).all(|w| w[0] < w[1] && w[1] * 3 <= w[0] * 4));
        assert_eq!(SHOWN.map(|i| BOUNDS_US[i])[..5], [100, 250, 500, 1_000, 2_500]);
        assert_eq!(BOUNDS_US[SHOWN[18]], 100_000_000);
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(100));
        histogram.record(Duration::from_micros(101));
        histogram.record(Duration::from_secs(101));
        let counts = histogram.counts();
        assert_eq!(counts.buckets[SHOWN[0]], 1);
        assert_eq!(counts.buckets[SHOWN[0] + 1], 1);
        assert_eq!(counts.buckets[BOUNDS], 1);
        assert_eq!(counts.sum_us, 101_000_201);
    }

    #[test]
    fn quantiles_are_within_a_third_of_the_truth() {
        let histogram = Histogram::default();
        let mut values: Vec<u64> = (0..10_000).map(|_| fastrand::u64(10..3_000_000)).collect();
        for us in &values {
            histogram.record(Duration::from_micros(*us));
        }
        values.sort_unstable();
        let counts = histogram.counts();
        for (q, at) in [(0.5, 4_999), (0.9, 8_999), (0.99, 9_899)] {
            let estimate = counts.quantile(q).unwrap().as_micros() as f64;
            let truth = values[at] as f64;
            assert!(
                (estimate - truth).abs() <= truth / 3.0,
                "q{q}: {estimate} for {truth}"
            );
        }
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(HistogramCounts::default().quantile(0.5), None);
        assert_eq!(HistogramCounts::default().mean(), None);
    }

    #[test]
    fn a_window_holds_only_what_came_after_its_start() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(9));
        let start = histogram.counts();
        histogram.record(Duration::from_millis(1));
        let window = histogram.counts().since(&start);
        assert_eq!((window.count(), window.sum_us), (1, 1_000));
    }
}
