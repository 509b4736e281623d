//! Sessions of applications, learned from what passes: which endpoint each belongs to.
//!
//! The table is the process's own, and what it forgets costs a session its place and nothing else. It is bounded by
//! generations: what is used goes into the young one; when that has half of the room, it becomes the old one, and what
//! was not used since the turn before is forgotten. So at least the half of the bound that was used last is always
//! known, with neither a list to keep nor anything to search.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Least bound: one to each part and generation.
pub const LEAST: usize = 128;
/// Parts, each with a lock of its own, of a table with room for so many that it is worth it.
const PARTS: usize = 64;
/// Sessions below which a part is not worth a lock.
const WORTH: usize = 1024;

/// A session as the table knows it: a hash of its name under a key of this process, so that nobody can choose names
/// that fall together. Two sessions share one by an accident of 1 in 10¹³ at a million sessions; they are then sent to
/// the same endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session(u64);

/// Where a session belongs.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Hash of the endpoint's address.
    endpoint: u64,
    /// When it was last used, in seconds since the process began.
    used: u32,
}

#[derive(Debug, Default)]
struct Part {
    young: HashMap<Session, Place>,
    old: HashMap<Session, Place>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Sessions {
    parts: Box<[Mutex<Part>]>,
    /// Sessions of one generation of one part.
    room: usize,
    most: usize,
    names: RandomState,
}

impl Sessions {
    /// A table that knows at most so many sessions; no less than [`LEAST`] are.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(LEAST);
        let parts = (most / WORTH).clamp(1, PARTS);
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            room: most / parts / 2,
            most,
            names: RandomState::new(),
        }
    }

    /// Most sessions that are known at a time.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// The session of this name.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Session {
        Session(self.names.hash_one(name))
    }

    /// The endpoint of a session that was used within the last `idle` seconds (0: ever); this is a use.
    #[must_use]
    pub fn find(&self, session: Session, now: u32, idle: u32) -> Option<u64> {
        self.with_part(session, |part| {
            let known = match part.young.get(&session) {
                Some(place) => *place,
                None => part.old.remove(&session)?,
            };
            if idle > 0 && now.saturating_sub(known.used) >= idle {
                part.young.remove(&session);
                return None;
            }
            self.put(part, session, known.endpoint, now);
            Some(known.endpoint)
        })
    }

    /// The same, and no use: nothing is changed.
    #[must_use]
    pub fn peek(&self, session: Session, now: u32, idle: u32) -> Option<u64> {
        self.with_part(session, |part| {
            let known = part.young.get(&session).or_else(|| part.old.get(&session))?;
            (idle == 0 || now.saturating_sub(known.used) < idle).then_some(known.endpoint)
        })
    }

    /// A session belongs to an endpoint from now on.
    pub fn learn(&self, session: Session, endpoint: u64, now: u32) {
        self.with_part(session, |part| {
            part.old.remove(&session);
            self.put(part, session, endpoint, now);
        });
    }

    fn put(&self, part: &mut Part, session: Session, endpoint: u64, used: u32) {
        if part.young.len() >= self.room && !part.young.contains_key(&session) {
            // The old one's memory serves the next.
            std::mem::swap(&mut part.young, &mut part.old);
            part.young.clear();
        }
        part.young.insert(session, Place { endpoint, used });
    }

    /// Sessions known now, among them some whose time is over.
    #[must_use]
    pub fn len(&self) -> usize {
        let count = |part: &Mutex<Part>| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.young.len() + part.old.len()
        };
        self.parts.iter().map(count).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with_part<T>(&self, session: Session, act: impl FnOnce(&mut Part) -> T) -> T {
        // The upper bits: the maps within use the lower ones.
        let part = (session.0 >> 48) as usize % self.parts.len();
        let mut part = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sessions: &Sessions, n: usize) -> Session {
        sessions.named(&n.to_be_bytes())
    }

    #[test]
    fn a_session_stays_where_it_was_last_learned_to_be() {
        let sessions = Sessions::new(LEAST);
        let session = sessions.named(b"abc");
        assert_eq!(sessions.find(session, 1, 0), None);
        sessions.learn(session, 7, 1);
        sessions.learn(session, 8, 2);
        assert_eq!(sessions.find(session, 3, 0), Some(8));
        assert_eq!(sessions.peek(session, 3, 0), Some(8));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_session_is_forgotten_when_it_was_not_used_for_long() {
        let sessions = Sessions::new(LEAST);
        let session = sessions.named(b"abc");
        sessions.learn(session, 7, 100);
        assert_eq!(sessions.find(session, 109, 10), Some(7));
        assert_eq!(sessions.find(session, 118, 10), Some(7), "each use counts");
        assert_eq!(sessions.peek(session, 128, 10), None);
        assert_eq!(sessions.find(session, 128, 10), None);
        assert!(sessions.is_empty());
    }

    #[test]
    fn there_are_never_more_than_the_bound_and_those_used_last_are_known() {
        for most in [LEAST, 1_500, 200_000] {
            let sessions = Sessions::new(most);
            for n in 0..3 * most {
                sessions.learn(named(&sessions, n), 1, 1);
            }
            assert!(sessions.len() <= most, "{} of {most}", sessions.len());
            // Parts fill unevenly where there are several: what was used among the last quarter is safe.
            for n in 3 * most - most / 4..3 * most {
                assert_eq!(sessions.peek(named(&sessions, n), 1, 0), Some(1), "{n} of {most}");
            }
        }
    }

    #[test]
    fn what_is_in_use_outlives_any_number_of_newcomers() {
        let sessions = Sessions::new(LEAST);
        let kept = sessions.named(b"kept");
        sessions.learn(kept, 7, 1);
        for n in 0..10 * LEAST {
            sessions.learn(named(&sessions, n), 1, 1);
            if n % 50 == 0 {
                assert_eq!(sessions.find(kept, 1, 0), Some(7), "after {n}");
            }
        }
    }

    #[test]
    fn threads_may_learn_at_the_same_time() {
        let sessions = Sessions::new(100_000);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let sessions = &sessions;
                scope.spawn(move || {
                    for n in 0..5_000 {
                        let session = sessions.named(&[thread.to_be_bytes(), u64::to_be_bytes(n)].concat());
                        sessions.learn(session, thread, 1);
                        assert_eq!(sessions.find(session, 1, 0), Some(thread));
                    }
                });
            }
        });
        assert_eq!(sessions.len(), 20_000);
    }
}
