//! A fail-over drill at an endpoint: some attempts there are swallowed as a dead host would, so that it is seen what
//! becomes of them. Marked requests are, by a word that only whoever began the drill knows, and perhaps a small
//! share of all. It ends by itself.

use crate::base::clock::Millis;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The header that marks a request.
pub const HEADER: &str = "x-tidegate-drill";

/// One drill at one endpoint, with what it came to so far.
#[derive(Debug)]
pub struct Drill {
    mark: Box<str>,
    share: f64,
    ends: Millis,
    /// Attempts that were swallowed.
    taken: AtomicU64,
    /// Those that were then made elsewhere.
    retried: AtomicU64,
    /// Requests that lost an attempt here and were answered, and those that were not.
    answered: AtomicU64,
    failed: AtomicU64,
    /// Time that the swallowed attempts took, in microseconds.
    waited: AtomicU64,
}

/// What a drill came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    pub taken: u64,
    pub retried: u64,
    pub answered: u64,
    pub failed: u64,
    pub waited: Duration,
}

impl Drill {
    #[must_use]
    pub fn new(mark: &str, share: f64, ends: Millis) -> Self {
        Self {
            mark: mark.into(),
            share,
            ends,
            taken: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            waited: AtomicU64::new(0),
        }
    }

    /// Whether it takes an attempt of a request with this mark; `lot` is drawn from 0 to 1.
    #[must_use]
    pub fn takes(&self, mark: Option<&[u8]>, lot: f64, now: Millis) -> bool {
        now < self.ends && (mark == Some(self.mark.as_bytes()) || lot < self.share)
    }

    pub fn swallowed(&self, waited: Duration) {
        self.taken.fetch_add(1, Relaxed);
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(waited, Relaxed);
    }

    pub fn went_elsewhere(&self) {
        self.retried.fetch_add(1, Relaxed);
    }

    /// A request that lost an attempt here came to its end.
    pub fn ended(&self, answered: bool) {
        let count = if answered { &self.answered } else { &self.failed };
        count.fetch_add(1, Relaxed);
    }

    #[must_use]
    pub fn came(&self) -> Came {
        Came {
            taken: self.taken.load(Relaxed),
            retried: self.retried.load(Relaxed),
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            waited: Duration::from_micros(self.waited.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_what_is_marked_and_its_share_until_it_ends() {
        let drill = Drill::new("secret", 0.1, Millis(100));
        let takes = |mark: Option<&str>, lot, now| drill.takes(mark.map(str::as_bytes), lot, Millis(now));
        assert!(takes(Some("secret"), 0.9, 1) && takes(None, 0.05, 1));
        assert!(!takes(Some("secre"), 0.9, 1) && !takes(Some(""), 0.9, 1) && !takes(None, 0.1, 1));
        assert!(!takes(Some("secret"), 0.0, 100), "it is over");
        assert!(
            !Drill::new("secret", 0.0, Millis(100)).takes(None, 0.0, Millis(1)),
            "no share"
        );
    }

    #[test]
    fn it_counts_what_became_of_requests() {
        let drill = Drill::new("m", 0.0, Millis(1));
        drill.swallowed(Duration::from_millis(5));
        drill.swallowed(Duration::from_millis(7));
        drill.went_elsewhere();
        drill.ended(true);
        drill.ended(false);
        let came = Came {
            taken: 2,
            retried: 1,
            answered: 1,
            failed: 1,
            waited: Duration::from_millis(12),
        };
        assert_eq!(drill.came(), came);
    }
}
