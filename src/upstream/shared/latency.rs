//! How an endpoint answered lately, in two cells that any worker writes without waiting: how long it took, and
//! which share failed.
//!
//! Both are lossy on purpose. Two workers that write at once lose one sample of two, and the next one makes up
//! for it.

use crate::base::clock::Millis;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a slow answer is remembered: after so much time, answers as quick as ever have made up for half of it.
const MEMORY_MS: f32 = 500.0;
/// Weight of one request in the share of failures: about the last twenty count.
const FAILURE_WEIGHT: f32 = 1.0 / 16.0;
/// After so much time without requests, half of the failures are forgiven.
const FORGIVING_MS: f32 = 10_000.0;
/// Below this share an endpoint counts as one that does not fail, and its cell is not written any more.
const NEGLIGIBLE: f32 = 0.001;
/// What a first answer that is a failure says of the time an endpoint takes: nothing good.
const FIRST_FAILURE_US: f32 = 1e6;

/// A number with the moment at which it was noted.
#[derive(Debug, Default)]
struct Dated(AtomicU64);

/// What a [`Dated`] holds: a number above 0, and the low bits of the moment.
#[derive(Clone, Copy)]
struct Noted {
    bits: u64,
    value: f32,
}

impl Dated {
    fn read(&self) -> Option<Noted> {
        let bits = self.0.load(Relaxed);
        (bits != 0).then(|| Noted {
            bits,
            value: f32::from_bits((bits >> 32) as u32),
        })
    }

    /// Notes a number in place of what was read, unless somebody else just did.
    fn write(&self, before: Option<Noted>, value: f32, now: Millis) {
        let bits = u64::from(value.to_bits()) << 32 | u64::from(now.0 as u32);
        let before = before.map_or(0, |noted| noted.bits);
        // Lossy, see the module's text.
        let _lost = self.0.compare_exchange(before, bits, Relaxed, Relaxed);
    }

    fn clear(&self, before: Noted) {
        let _lost = self.0.compare_exchange(before.bits, 0, Relaxed, Relaxed);
    }
}

impl Noted {
    /// Milliseconds from then to now. The clock's low bits come round after 49 days; who was idle for half of that
    /// counts as seen just now, and is found out by the next request.
    fn age_ms(self, now: Millis) -> f32 {
        let age = (now.0 as u32).wrapping_sub(self.bits as u32);
        if age > u32::MAX / 2 { 0.0 } else { age as f32 }
    }
}

/// How much of a value is left after a time: half after `half_ms`, a third after twice that.
pub(super) fn left(age_ms: f32, half_ms: f32) -> f32 {
    half_ms / (half_ms + age_ms)
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Latency {
    answers: Dated,
    failures: Dated,
}

/// What is known of an endpoint's answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Peak-sensitive mean: a slow answer raises it at once, quick ones lower it over time.
    pub micros: f32,
    /// Since the last one.
    pub age_ms: f32,
}

impl Latency {
    /// An attempt was answered after so long.
    pub fn answered(&self, took: Duration, now: Millis) {
        self.note(micros(took), now);
        // As long as nothing fails, nothing is written here.
        if let Some(before) = self.failures.read() {
            let share = before.value * left(before.age_ms(now), FORGIVING_MS) * (1.0 - FAILURE_WEIGHT);
            if share < NEGLIGIBLE {
                self.failures.clear(before);
            } else {
                self.failures.write(Some(before), share, now);
            }
        }
    }

    /// An attempt failed after so long. A quick failure is no quick answer: it takes at least what answers take.
    pub fn failed(&self, took: Duration, now: Millis) {
        let usual = self.answers.read().map_or(FIRST_FAILURE_US, |noted| noted.value);
        self.note(micros(took).max(usual), now);
        let before = self.failures.read();
        let share = before.map_or(0.0, |noted| noted.value * left(noted.age_ms(now), FORGIVING_MS));
        self.failures
            .write(before, share + (1.0 - share) * FAILURE_WEIGHT, now);
    }

    fn note(&self, sample: f32, now: Millis) {
        let before = self.answers.read();
        let value = match before {
            Some(mean) if sample < mean.value => {
                let keep = left(mean.age_ms(now), MEMORY_MS);
                mean.value * keep + sample * (1.0 - keep)
            }
            _ => sample,
        };
        self.answers.write(before, value, now);
    }

    /// `None` before the first answer.
    #[must_use]
    pub fn seen(&self, now: Millis) -> Option<Seen> {
        let noted = self.answers.read()?;
        Some(Seen {
            micros: noted.value,
            age_ms: noted.age_ms(now),
        })
    }

    /// Share of requests that failed lately, 0 to 1.
    #[must_use]
    pub fn failing(&self, now: Millis) -> f32 {
        self.failures
            .read()
            .map_or(0.0, |noted| noted.value * left(noted.age_ms(now), FORGIVING_MS))
    }
}

/// At least one, so that no endpoint is infinitely quick.
fn micros(took: Duration) -> f32 {
    (took.as_secs_f32() * 1e6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn mean(latency: &Latency, now: u64) -> f32 {
        latency.seen(Millis(now)).unwrap().micros / 1e3
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_quick_ones_make_up_for_it_slowly() {
        let latency = Latency::default();
        assert_eq!(latency.seen(Millis(1)), None);
        latency.answered(ms(10), Millis(1));
        assert_eq!(mean(&latency, 1), 10.0);
        latency.answered(ms(100), Millis(2));
        assert_eq!(mean(&latency, 2), 100.0);
        latency.answered(ms(10), Millis(12));
        assert!(
            (98.0..99.0).contains(&mean(&latency, 12)),
            "{}",
            mean(&latency, 12)
        );
        for now in (22..8_000).step_by(10) {
            latency.answered(ms(10), Millis(now));
        }
        assert!(
            (10.0..14.0).contains(&mean(&latency, 8_000)),
            "{}",
            mean(&latency, 8_000)
        );
    }

    #[test]
    fn a_quick_failure_does_not_make_an_endpoint_look_quick() {
        let latency = Latency::default();
        latency.failed(ms(1), Millis(1));
        assert_eq!(mean(&latency, 1), 1000.0);
        let latency = Latency::default();
        latency.answered(ms(50), Millis(1));
        for now in 2..1000 {
            latency.failed(ms(1), Millis(now));
        }
        assert_eq!(mean(&latency, 1000), 50.0);
        latency.failed(ms(5000), Millis(1001));
        assert_eq!(mean(&latency, 1001), 5000.0, "a timeout is slow");
    }

    #[test]
    fn the_share_of_failures_rises_falls_and_is_forgiven_in_time() {
        let latency = Latency::default();
        assert_eq!(latency.failing(Millis(1)), 0.0);
        for _ in 0..100 {
            latency.failed(ms(1), Millis(1));
        }
        assert!(latency.failing(Millis(1)) > 0.95);
        assert!((0.45..0.5).contains(&latency.failing(Millis(10_001))));
        for _ in 0..100 {
            latency.answered(ms(1), Millis(2));
        }
        assert!(
            latency.failing(Millis(2)) < 0.01,
            "{}",
            latency.failing(Millis(2))
        );
        for _ in 0..100 {
            latency.answered(ms(1), Millis(2));
        }
        assert!(latency.failures.read().is_none(), "it is not written any more");
    }

    #[test]
    fn a_moment_noted_by_a_worker_that_is_ahead_is_now() {
        let latency = Latency::default();
        latency.answered(ms(10), Millis(50));
        assert_eq!(latency.seen(Millis(40)).unwrap().age_ms, 0.0);
        latency.answered(ms(1), Millis(40));
        assert_eq!(mean(&latency, 40), 10.0);
    }
}
