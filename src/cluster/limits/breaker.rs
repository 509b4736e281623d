//! Whether the store is worth asking. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// Failures without a success between for so long open it.
const TROUBLE: Duration = Duration::from_millis(500);

/// Closed while the store answers. Open, nobody asks it but who probes.
#[derive(Debug)]
pub struct Breaker {
    /// Failures in a row that open it.
    most: u32,
    failures: u32,
    /// When the first of them was.
    since: Option<Instant>,
    open: bool,
}

impl Breaker {
    /// One that so many failures in a row open.
    #[must_use]
    pub const fn new(most: u32) -> Self {
        Self {
            most,
            failures: 0,
            since: None,
            open: false,
        }
    }

    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    pub const fn succeeded(&mut self) {
        self.failures = 0;
        self.since = None;
        self.open = false;
    }

    /// No answer, or not in time. `away`: there is not even a connection, and waiting for more of this teaches nothing.
    pub fn failed(&mut self, now: Instant, away: bool) {
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        self.open |= away || self.failures >= self.most || now.saturating_duration_since(since) >= TROUBLE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_failures_opens_it_and_a_success_between_does_not() {
        let (mut breaker, now) = (Breaker::new(3), Instant::now());
        for _ in 0..2 {
            breaker.failed(now, false);
            breaker.failed(now, false);
            assert!(!breaker.is_open());
            breaker.succeeded();
        }
        for _ in 0..3 {
            breaker.failed(now, false);
        }
        assert!(breaker.is_open());
        breaker.succeeded();
        assert!(!breaker.is_open());
    }

    #[test]
    fn few_failures_over_a_long_time_open_it_and_so_does_a_lost_connection() {
        let (mut breaker, now) = (Breaker::new(100), Instant::now());
        breaker.failed(now, false);
        breaker.failed(now + TROUBLE / 2, false);
        assert!(!breaker.is_open());
        breaker.failed(now + TROUBLE, false);
        assert!(breaker.is_open());
        let mut breaker = Breaker::new(100);
        breaker.failed(now, true);
        assert!(breaker.is_open());
    }
}
