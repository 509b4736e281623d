//! Which version of announcements a gateway speaks: the greatest that all who are there understand. Pure.
//!
//! It is lowered at once, when somebody comes who understands less, and raised only after everybody has understood more
//! for a while: gateways that are replaced one after another, back and forth, hear each other all the time.

use super::envelope::Versions;
use std::time::{Duration, Instant};

/// What is spoken, and since when it could be more.
#[derive(Debug)]
pub struct Speech {
    own: Versions,
    spoken: u8,
    patience: Duration,
    /// The least that it could have been all that time.
    could: Option<(u8, Instant)>,
}

impl Speech {
    /// Of a gateway that understands these. It begins with the least: it has heard of nobody yet.
    #[must_use]
    pub const fn new(own: Versions, patience: Duration) -> Self {
        Self {
            own,
            spoken: own.least,
            patience,
            could: None,
        }
    }

    /// The version to speak, with these others there.
    pub fn with(&mut self, now: Instant, others: impl IntoIterator<Item = Versions>) -> u8 {
        let all = others
            .into_iter()
            .map(|other| other.greatest)
            .fold(self.own.greatest, u8::min)
            .max(self.own.least);
        if all <= self.spoken {
            self.spoken = all;
            self.could = None;
            return all;
        }
        let (version, since) = self.could.unwrap_or((all, now));
        let could = (version.min(all), since);
        self.could = Some(could);
        if now.saturating_duration_since(since) >= self.patience {
            self.spoken = could.0;
            self.could = None;
        }
        self.spoken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn versions(least: u8, greatest: u8) -> Versions {
        Versions { least, greatest }
    }

    const OLD: Versions = versions(1, 1);
    const NEW: Versions = versions(1, 2);
    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn the_lowest_common_version_is_spoken_and_raised_only_after_a_while() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut speech = Speech::new(NEW, PATIENCE);
        assert_eq!(speech.with(after(0), [OLD, NEW]), 1);
        assert_eq!(speech.with(after(20), [OLD, NEW]), 1, "as long as one is there");
        assert_eq!(speech.with(after(21), [NEW, NEW]), 1, "it may be back");
        assert_eq!(speech.with(after(30), [NEW, NEW]), 1);
        assert_eq!(speech.with(after(31), [NEW, NEW]), 2);
        assert_eq!(speech.with(after(32), [NEW, OLD]), 1, "at once");
        assert_eq!(speech.with(after(33), [NEW]), 1);
        assert_eq!(speech.with(after(42), [NEW, OLD]), 1, "it came back in time");
        assert_eq!(speech.with(after(44), [NEW]), 1, "and that counts anew");
        assert_eq!(speech.with(after(54), [NEW]), 2);
    }

    #[test]
    fn nobody_speaks_what_it_does_not_understand_itself() {
        let now = Instant::now();
        let mut old = Speech::new(OLD, Duration::ZERO);
        assert_eq!(old.with(now, [versions(1, 9)]), 1);
        let mut later = Speech::new(versions(2, 3), Duration::ZERO);
        assert_eq!(later.with(now, [OLD]), 2, "they do not understand each other");
        assert_eq!(later.with(now, []), 3);
    }

    #[test]
    fn what_all_understand_for_long_enough_is_spoken_though_some_understand_more() {
        let begin = Instant::now();
        let mut speech = Speech::new(versions(1, 3), PATIENCE);
        assert_eq!(speech.with(begin, [versions(1, 2)]), 1);
        // More still since a moment ago: that does not begin the wait anew.
        assert_eq!(speech.with(begin + Duration::from_secs(9), [versions(1, 3)]), 1);
        assert_eq!(speech.with(begin + PATIENCE, [versions(1, 2)]), 2);
    }
}
