//! What a gateway does about the configuration that the store has, beside the one that it has in force itself. Pure.
//!
//! The highest version wins. A store that has none was flushed, or is new: an empty configuration is never meant by
//! that. One that has a lower version lost some in a fail-over; whoever has the highest publishes it again, after a
//! while in which others who know more can be heard.

use crate::cluster::configs::ConfigMark;
use std::time::{Duration, Instant};

/// How long a store has a lower version before it is given the higher one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often something that was refused is tried again: what it lacked may be there by now.
const AGAIN: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is as it should be, or must be waited for.
    Nothing,
    /// The store has something that was not looked at.
    Read,
    /// The store is to have what this gateway has.
    Publish,
}

/// What was found in the store, over time.
#[derive(Debug, Default)]
pub struct Watch {
    /// What was looked at last, whatever came of it.
    looked_at: ConfigMark,
    /// When it is to be looked at again, as it could not be taken.
    again: Option<Instant>,
    /// Since when the store has a lower version.
    lower_since: Option<Instant>,
}

impl Watch {
    /// The store has this, while the gateway has `own` in force (0: nothing).
    pub fn step(&mut self, stored: &ConfigMark, own: u64, now: Instant) -> Step {
        if stored.version >= own {
            self.lower_since = None;
        }
        if stored.version < own {
            let since = *self.lower_since.get_or_insert(now);
            let waited = stored.version == 0 || now.duration_since(since) >= PATIENCE;
            return if waited { Step::Publish } else { Step::Nothing };
        }
        let due = self.again.is_some_and(|again| now >= again);
        if stored.version > 0 && (*stored != self.looked_at || due) {
            return Step::Read;
        }
        Step::Nothing
    }

    /// This was looked at; `taken`: it is in force now.
    pub fn looked_at(&mut self, mark: ConfigMark, taken: bool, now: Instant) {
        self.looked_at = mark;
        self.again = (!taken).then(|| now + AGAIN);
    }

    /// What could not be taken may find what it lacked.
    pub fn hurry(&mut self, now: Instant) {
        self.again = self.again.map(|_| now);
    }

    /// Whether the store has something that is not in force here.
    #[must_use]
    pub fn behind(&self, stored: &ConfigMark, own: u64) -> bool {
        stored.version > own
            || (stored.version == own && own > 0 && (*stored != self.looked_at || self.again.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(version: u64, sha256: &str) -> ConfigMark {
        ConfigMark {
            version,
            sha256: sha256.to_owned(),
        }
    }

    #[test]
    fn what_is_new_is_read_once_and_what_was_refused_now_and_then() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        assert_eq!(watch.step(&mark(0, ""), 0, now), Step::Nothing);
        let one = mark(1, "a");
        assert_eq!(watch.step(&one, 0, now), Step::Read);
        assert!(watch.behind(&one, 0));
        watch.looked_at(one.clone(), true, now);
        assert_eq!(watch.step(&one, 1, now), Step::Nothing);
        assert!(!watch.behind(&one, 1));
        let two = mark(2, "b");
        watch.looked_at(two.clone(), false, now);
        assert_eq!(watch.step(&two, 1, now), Step::Nothing);
        assert!(watch.behind(&two, 1));
        assert_eq!(watch.step(&two, 1, now + AGAIN), Step::Read);
        watch.hurry(now);
        assert_eq!(watch.step(&two, 1, now), Step::Read);
        watch.looked_at(two.clone(), true, now);
        watch.hurry(now);
        assert_eq!(watch.step(&two, 2, now), Step::Nothing);
    }

    #[test]
    fn of_two_with_one_number_the_stores_counts() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        watch.looked_at(mark(3, "ours"), true, now);
        assert_eq!(watch.step(&mark(3, "theirs"), 3, now), Step::Read);
    }

    #[test]
    fn an_empty_store_is_filled_at_once_and_a_lower_one_after_a_while() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        assert_eq!(watch.step(&mark(0, ""), 7, now), Step::Publish);
        let mut watch = Watch {
            looked_at: mark(7, "a"),
            ..Watch::default()
        };
        assert_eq!(watch.step(&mark(5, "b"), 7, now), Step::Nothing);
        assert_eq!(watch.step(&mark(6, "c"), 7, now + PATIENCE / 2), Step::Nothing);
        assert_eq!(watch.step(&mark(6, "c"), 7, now + PATIENCE), Step::Publish);
        assert_eq!(watch.step(&mark(7, "a"), 7, now + PATIENCE), Step::Nothing);
        // It is counted anew.
        assert_eq!(watch.step(&mark(6, "c"), 7, now + PATIENCE * 2), Step::Nothing);
    }
}
