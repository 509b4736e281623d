//! One gateway's copy of a table that all of them have. Each key has a value, or the memory that it was removed, with
//! a revision and the node that gave it; the later one wins, everywhere alike. Pure.

use crate::cluster::store::{Entry, LAST_REVISION, MAX_ENTRIES};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What this gateway knows of a table, and what the store does not know yet.
#[derive(Debug, Default)]
pub struct Replica {
    entries: BTreeMap<String, Entry>,
    /// Keys whose entries the store may not have.
    unsent: BTreeSet<String>,
}

/// What became of an entry from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It is newer, and says something else than what was known.
    News,
    /// It is newer and says the same.
    Same,
    /// What is known is newer, or just that.
    Older,
    /// There is no room.
    Full,
    /// No gateway can have given it.
    Unsound,
}

impl Replica {
    /// A copy that goes on from these, which the store may not have.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut replica = Self::default();
        for entry in entries {
            let key = entry.key.clone();
            if matches!(replica.merge(entry), Merged::News | Merged::Same) {
                replica.unsent.insert(key);
            }
        }
        replica
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The value that stands; `None` where there is none, or it was removed.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Bytes> {
        self.entries.get(key)?.value.as_ref()
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// This gateway gives a key another value, or removes it, at a moment that stands for the revision; later than
    /// whatever is known of the key, however clocks differ. `None`: it stands so already, or there is no room.
    pub fn set(&mut self, key: &str, value: Option<Bytes>, moment: u64, node: &str) -> Option<Entry> {
        if !self.entries.contains_key(key) && !self.has_room() {
            return None;
        }
        let known = self.entries.get(key);
        let unchanged = match known {
            Some(known) => known.value == value,
            None => value.is_none(),
        };
        if unchanged {
            return None;
        }
        let revision = moment
            .max(known.map_or(0, |known| known.revision + 1))
            .min(LAST_REVISION);
        let entry = Entry {
            key: key.to_owned(),
            value,
            revision,
            node: node.to_owned(),
        };
        self.entries.insert(key.to_owned(), entry.clone());
        self.unsent.insert(key.to_owned());
        Some(entry)
    }

    /// Takes an entry from elsewhere, if it is newer.
    pub fn merge(&mut self, entry: Entry) -> Merged {
        if !entry.is_sound() {
            return Merged::Unsound;
        }
        if !self.entries.contains_key(&entry.key) && !self.has_room() {
            return Merged::Full;
        }
        let known = self.entries.get(&entry.key);
        if known.is_some_and(|known| !entry.beats(known)) {
            return Merged::Older;
        }
        let before = known.and_then(|known| known.value.as_ref());
        let merged = if before == entry.value.as_ref() {
            Merged::Same
        } else {
            Merged::News
        };
        self.unsent.remove(&entry.key);
        self.entries.insert(entry.key.clone(), entry);
        merged
    }

    /// Makes room: forgets the oldest of what was removed.
    fn has_room(&mut self) -> bool {
        if self.entries.len() < MAX_ENTRIES {
            return true;
        }
        let removed = self.entries.values().filter(|entry| entry.value.is_none());
        let oldest = removed
            .min_by_key(|entry| entry.revision)
            .map(|entry| entry.key.clone());
        oldest.is_some_and(|key| {
            self.unsent.remove(&key);
            self.entries.remove(&key).is_some()
        })
    }

    /// What the store has now, all of it: what it lacks, or has older, is to be sent.
    pub fn compare(&mut self, store: &[Entry]) {
        let store: BTreeMap<&str, &Entry> = store.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        let lacks = |entry: &&Entry| match store.get(entry.key.as_str()) {
            // That it was removed is worth telling only where it is not.
            None => entry.value.is_some(),
            Some(stored) => entry.beats(stored) && entry.value != stored.value,
        };
        self.unsent = self
            .entries
            .values()
            .filter(lacks)
            .map(|entry| entry.key.clone())
            .collect();
    }

    /// What is to be written to the store.
    #[must_use]
    pub fn unsent(&self) -> Vec<Entry> {
        self.unsent
            .iter()
            .filter_map(|key| self.entries.get(key))
            .cloned()
            .collect()
    }

    /// The store has this entry, or a later one.
    pub fn sent(&mut self, entry: &Entry) {
        if self.entries.get(&entry.key) == Some(entry) {
            self.unsent.remove(&entry.key);
        }
    }

    /// Forgets a key that nobody needs any more.
    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
        self.unsent.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: &str, value: Option<&str>, revision: u64, node: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            revision,
            node: node.to_owned(),
        }
    }

    fn bytes(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_change_is_later_than_all_that_is_known_whatever_the_clock_says() {
        let mut replica = Replica::default();
        replica.merge(entry("a", Some("theirs"), 900, "z"));
        let mine = replica.set("a", bytes("mine"), 100, "b").unwrap();
        assert_eq!(mine.revision, 901);
        assert_eq!(replica.unsent(), std::slice::from_ref(&mine));
        assert!(
            replica.set("a", bytes("mine"), 5000, "b").is_none(),
            "it stands so already"
        );
        replica.sent(&mine);
        assert!(replica.unsent().is_empty());
        assert!(
            replica.set("x", None, 1, "b").is_none(),
            "what was never there is not removed"
        );
    }

    #[test]
    fn what_was_written_meanwhile_is_still_to_be_sent() {
        let mut replica = Replica::default();
        let first = replica.set("a", bytes("1"), 1, "b").unwrap();
        let second = replica.set("a", bytes("2"), 1, "b").unwrap();
        replica.sent(&first);
        assert_eq!(replica.unsent(), [second]);
    }

    #[test]
    fn a_store_that_lost_everything_is_filled_again_and_a_newer_one_is_left_alone() {
        let mut replica = Replica::default();
        replica.merge(entry("a", Some("1"), 5, "x"));
        replica.merge(entry("b", None, 6, "x"));
        replica.compare(&[]);
        assert_eq!(
            replica.unsent().len(),
            1,
            "a removal need not be told to an empty store"
        );
        replica.compare(&[entry("a", Some("1"), 5, "y"), entry("b", Some("old"), 2, "x")]);
        assert_eq!(
            replica
                .unsent()
                .iter()
                .map(|entry| entry.key.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
        replica.compare(&[entry("a", Some("2"), 7, "x"), entry("b", None, 6, "x")]);
        assert!(replica.unsent().is_empty());
    }

    #[test]
    fn a_full_table_takes_no_more_but_forgets_what_was_removed() {
        let mut replica = Replica::default();
        for n in 0..MAX_ENTRIES {
            assert_eq!(
                replica.merge(entry(&format!("k{n}"), Some("v"), 1, "x")),
                Merged::News
            );
        }
        assert_eq!(replica.merge(entry("more", Some("v"), 1, "x")), Merged::Full);
        assert!(replica.set("more", bytes("v"), 1, "x").is_none());
        replica.merge(entry("k7", None, 2, "x"));
        assert_eq!(replica.merge(entry("more", Some("v"), 1, "x")), Merged::News);
        assert!(replica.get("k7").is_none());
    }

    #[test]
    fn what_no_gateway_can_have_written_is_not_taken_and_a_change_can_always_be_made() {
        let mut replica = Replica::default();
        let long = "x".repeat(20_000);
        for bad in [
            entry("a", Some("v"), u64::MAX, "x"),
            entry("a", Some("v"), LAST_REVISION + 1, "x"),
            entry("a", Some("v"), 1, "x\n\u{1b}[31m"),
            entry("a", Some("v"), 1, ""),
            entry("a", Some(&long), 1, "x"),
            entry("a\nb", Some("v"), 1, "x"),
            entry(&long, Some("v"), 1, "x"),
        ] {
            assert_eq!(replica.merge(bad), Merged::Unsound);
        }
        assert!(replica.is_empty());
        assert_eq!(
            replica.merge(entry("a", Some("v"), LAST_REVISION, "x")),
            Merged::News
        );
        assert_eq!(
            replica.set("a", bytes("mine"), 5, "y").unwrap().revision,
            LAST_REVISION
        );
    }

    fn writes() -> impl Strategy<Value = Vec<(u8, Option<u8>, u64, u8)>> {
        proptest::collection::vec((0..4u8, proptest::option::of(0..3u8), 0..6u64, 0..3u8), 1..40)
    }

    proptest! {
        /// Whatever is heard, in whatever order and how often, all come to the same.
        #[test]
        fn copies_agree_whatever_the_order(writes in writes(), seed in any::<u64>()) {
            let entries: Vec<Entry> = writes
                .iter()
                .map(|(key, _, revision, node)| {
                    // One node gives one value to a revision.
                    let there = (revision + u64::from(*node) + u64::from(*key)) % 3 > 0;
                    let value = there.then(|| format!("{key}-{revision}-{node}"));
                    entry(&format!("k{key}"), value.as_deref(), *revision, &format!("n{node}"))
                })
                .collect();
            let mut shuffled = entries.clone();
            shuffled.extend(entries.iter().cloned());
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            let (mut a, mut b) = (Replica::default(), Replica::default());
            for entry in entries { a.merge(entry); }
            for entry in shuffled { b.merge(entry); }
            prop_assert_eq!(a.entries().collect::<Vec<_>>(), b.entries().collect::<Vec<_>>());
        }

        /// Two that were apart and changed the same things come to the same when they hear of each other.
        #[test]
        fn copies_that_were_apart_agree_afterwards(ours in writes(), theirs in writes()) {
            let apply = |replica: &mut Replica, writes: &[(u8, Option<u8>, u64, u8)], node: &str| {
                for (key, value, moment, _) in writes {
                    let value = value.map(|value| Bytes::from(format!("{node}{value}")));
                    replica.set(&format!("k{key}"), value, *moment, node);
                }
            };
            let (mut a, mut b) = (Replica::default(), Replica::default());
            apply(&mut a, &ours, "a");
            apply(&mut b, &theirs, "b");
            let (from_a, from_b) = (a.unsent(), b.unsent());
            for entry in from_b { a.merge(entry); }
            for entry in from_a { b.merge(entry); }
            prop_assert_eq!(a.entries().collect::<Vec<_>>(), b.entries().collect::<Vec<_>>());
        }
    }
}
