//! What was heard twice, and what was missed: for each speaker and topic the numbers that came last.

use super::bus::Topic;
use std::collections::HashMap;

/// Numbers behind the highest that are still told apart.
pub const WINDOW: u64 = 1024;
/// Speakers, each with one topic, that are remembered.
const SPEAKERS: usize = 4096;

/// So many in a row, far behind the highest, are somebody who goes on from there.
const GOES_ON: u64 = 8;

const WORDS: usize = (WINDOW / 64) as usize;

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one, or the first that is heard.
    New,
    /// New, and so many before it were missed.
    After(u64),
    /// Heard before, or so old that nobody knows.
    Again,
}

#[derive(Debug)]
struct Speaker {
    highest: u64,
    /// Of those that are too far behind the highest, how many came in a row, and the last.
    behind: (u64, u64),
    /// The bit of a number is set when it was heard; each number has the one of its remainder.
    heard: [u64; WORDS],
    used: u64,
}

/// The numbers of all who speak.
#[derive(Debug, Default)]
pub struct Windows {
    /// Whoever speaks is who it says.
    signed: bool,
    speakers: HashMap<(Box<str>, u64, Topic), Speaker>,
    turn: u64,
}

impl Windows {
    /// Of announcements that are signed, or of such as anybody may have made in another's name.
    #[must_use]
    pub fn new(signed: bool) -> Self {
        Self {
            signed,
            ..Self::default()
        }
    }

    /// Takes note of a number that an incarnation of a node used on a topic.
    pub fn hear(&mut self, source: &str, incarnation: u64, topic: Topic, seq: u64) -> Verdict {
        self.turn += 1;
        let key = (source.into(), incarnation, topic);
        if let Some(speaker) = self.speakers.get_mut(&key) {
            speaker.used = self.turn;
            return speaker.hear(seq, self.signed);
        }
        if self.speakers.len() >= SPEAKERS {
            self.forget_half();
        }
        let mut speaker = Speaker {
            highest: seq,
            behind: (0, 0),
            heard: [0; WORDS],
            used: self.turn,
        };
        speaker.mark(seq);
        self.speakers.insert(key, speaker);
        Verdict::New
    }

    /// Those who have not spoken for longest.
    fn forget_half(&mut self) {
        let mut used: Vec<u64> = self.speakers.values().map(|speaker| speaker.used).collect();
        used.sort_unstable();
        let from = used.get(used.len() / 2).copied().unwrap_or(0);
        self.speakers.retain(|_, speaker| speaker.used >= from);
    }
}

impl Speaker {
    fn hear(&mut self, seq: u64, signed: bool) -> Verdict {
        if seq > self.highest {
            let missed = seq - self.highest - 1;
            if missed >= WINDOW {
                self.heard = [0; WORDS];
            } else {
                for between in self.highest + 1..seq {
                    self.clear(between);
                }
            }
            self.highest = seq;
            self.mark(seq);
            return if missed == 0 {
                Verdict::New
            } else {
                Verdict::After(missed)
            };
        }
        if self.highest - seq >= WINDOW {
            return if signed { Verdict::Again } else { self.old(seq) };
        }
        if self.has(seq) {
            return Verdict::Again;
        }
        self.mark(seq);
        Verdict::New
    }

    /// One that is far behind was heard before. Unless it goes on from there: then another said the highest in its name,
    /// and what it says from here on is listened to again.
    fn old(&mut self, seq: u64) -> Verdict {
        let (row, last) = self.behind;
        let row = if row > 0 && last.checked_add(1) == Some(seq) {
            row + 1
        } else {
            1
        };
        self.behind = (row, seq);
        if row < GOES_ON {
            return Verdict::Again;
        }
        *self = Self {
            highest: seq,
            behind: (0, 0),
            heard: [0; WORDS],
            used: self.used,
        };
        self.mark(seq);
        Verdict::After(row - 1)
    }

    const fn place(seq: u64) -> (usize, u64) {
        let at = seq % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }

    fn mark(&mut self, seq: u64) {
        let (word, bit) = Self::place(seq);
        if let Some(word) = self.heard.get_mut(word) {
            *word |= bit;
        }
    }

    fn clear(&mut self, seq: u64) {
        let (word, bit) = Self::place(seq);
        if let Some(word) = self.heard.get_mut(word) {
            *word &= !bit;
        }
    }

    fn has(&self, seq: u64) -> bool {
        let (word, bit) = Self::place(seq);
        self.heard.get(word).is_some_and(|word| word & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn hear(windows: &mut Windows, seq: u64) -> Verdict {
        windows.hear("gw", 1, Topic::Control, seq)
    }

    #[test]
    fn numbers_in_a_row_are_new_and_a_hole_is_told_once() {
        let mut windows = Windows::default();
        // Where one begins to listen there is no hole.
        assert_eq!(hear(&mut windows, 100), Verdict::New);
        assert_eq!(hear(&mut windows, 101), Verdict::New);
        assert_eq!(hear(&mut windows, 105), Verdict::After(3));
        assert_eq!(hear(&mut windows, 106), Verdict::New);
        assert_eq!(hear(&mut windows, 103), Verdict::New);
        assert_eq!(hear(&mut windows, 103), Verdict::Again);
        assert_eq!(hear(&mut windows, 106), Verdict::Again);
        assert_eq!(hear(&mut windows, u64::MAX), Verdict::After(u64::MAX - 107));
        assert_eq!(hear(&mut windows, 106), Verdict::Again);
    }

    #[test]
    fn who_was_made_to_seem_far_ahead_by_another_is_heard_again_soon() {
        let mut windows = Windows::new(false);
        assert_eq!(hear(&mut windows, 40), Verdict::New);
        assert_eq!(hear(&mut windows, u64::MAX), Verdict::After(u64::MAX - 41));
        for seq in 41..48 {
            assert_eq!(hear(&mut windows, seq), Verdict::Again, "{seq}");
        }
        assert_eq!(hear(&mut windows, 48), Verdict::After(7));
        assert_eq!(hear(&mut windows, 49), Verdict::New);
        assert_eq!(hear(&mut windows, 49), Verdict::Again);
        // One that is said again and again goes on nowhere.
        let mut windows = Windows::new(false);
        assert_eq!(hear(&mut windows, 5000), Verdict::New);
        assert!((0..100).all(|_| hear(&mut windows, 7) == Verdict::Again));
    }

    #[test]
    fn what_is_signed_and_was_said_before_is_never_new_again() {
        let mut windows = Windows::new(true);
        assert_eq!(hear(&mut windows, 5000), Verdict::New);
        assert!((0..3000).all(|seq| hear(&mut windows, seq) == Verdict::Again));
    }

    #[test]
    fn speakers_topics_and_incarnations_are_apart() {
        let mut windows = Windows::default();
        assert_eq!(windows.hear("a", 1, Topic::Control, 5), Verdict::New);
        assert_eq!(windows.hear("b", 1, Topic::Control, 5), Verdict::New);
        assert_eq!(windows.hear("a", 2, Topic::Control, 1), Verdict::New);
        assert_eq!(windows.hear("a", 1, Topic::Health, 5), Verdict::New);
        assert_eq!(windows.hear("a", 1, Topic::Control, 5), Verdict::Again);
    }

    #[test]
    fn those_who_speak_under_ever_new_names_use_bounded_memory() {
        let mut windows = Windows::default();
        for n in 0..3 * SPEAKERS as u64 {
            windows.hear("kept", 1, Topic::Control, 9);
            windows.hear("new", n, Topic::Control, 1);
        }
        assert!(windows.speakers.len() <= SPEAKERS);
        assert_eq!(windows.hear("kept", 1, Topic::Control, 9), Verdict::Again);
    }

    proptest! {
        #[test]
        fn no_number_is_new_twice(seqs in proptest::collection::vec(0_u64..3000, 0..400)) {
            let mut windows = Windows::default();
            let mut new = HashSet::new();
            for seq in seqs {
                if hear(&mut windows, seq) != Verdict::Again {
                    prop_assert!(new.insert(seq), "{seq} was new twice");
                }
            }
        }

        #[test]
        fn within_the_window_nothing_new_is_dropped(seqs in proptest::collection::vec(0_u64..WINDOW, 0..400)) {
            let mut windows = Windows::default();
            let mut heard = HashSet::new();
            for seq in seqs {
                let again = hear(&mut windows, seq) == Verdict::Again;
                prop_assert_eq!(again, !heard.insert(seq));
            }
        }
    }
}
