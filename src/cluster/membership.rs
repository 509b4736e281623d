//! Who is there: pure, told what the store says and what time it is.
//!
//! Whether a node lives is judged by its beats: a count that goes on. When it did is measured on this node's own
//! monotonic clock, with the store's clock only for the time between a beat and our look at it; so neither a clock
//! that is set nor another master's clock makes a member come or go. While this node does not hear the store it
//! judges nobody: it may be the one that is cut off.

use super::names::NodeId;
use super::record::Record;
use super::store::Seen;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest that a node that lives may take to find its way back to a store that was away, on top of the time it has
/// anyway.
const WAY_BACK: Duration = Duration::from_secs(2);
/// Nodes whose old records are remembered, so that they are not taken for new ones.
const REMEMBERED: usize = 1024;

/// What is known of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    Alive,
    /// A beat is late.
    Suspect,
}

/// Another node.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub node: NodeId,
    pub incarnation: u64,
    pub liveness: Liveness,
    pub record: Record,
    beat: u64,
    /// Of its last beat, as far as we know.
    last: Instant,
}

impl Member {
    /// Time since its last beat, as far as we know.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Joined(Member),
    /// It said so.
    Left(Member),
    /// It was silent for too long, or another incarnation has its id.
    Gone(Member),
    Suspected(Member),
    Recovered(Member),
}

/// All other nodes. Every node joins once before it leaves or is gone, and is that once before it joins again.
#[derive(Debug)]
pub struct Membership {
    own: (String, u64),
    heartbeat: Duration,
    gone_after: Duration,
    members: BTreeMap<NodeId, Member>,
    /// Beats of those that are not members, as they were last seen.
    old: BTreeMap<NodeId, (u64, u64)>,
    heard: Option<Instant>,
    interrupted: bool,
}

impl Membership {
    /// Of the node with this id and incarnation.
    #[must_use]
    pub fn new(own: &NodeId, incarnation: u64, heartbeat: Duration, gone_after: Duration) -> Self {
        Self {
            own: (own.configured().to_owned(), incarnation),
            heartbeat,
            gone_after,
            members: BTreeMap::new(),
            old: BTreeMap::new(),
            heard: None,
            interrupted: false,
        }
    }

    /// The store did not answer: others may not have heard it either.
    pub const fn interrupt(&mut self) {
        self.interrupted = true;
    }

    #[must_use]
    pub const fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// Whether what is known is about now: the store was heard lately.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_duration_since(heard) <= self.heartbeat * 3 / 2)
    }

    /// From when on a member is suspected.
    fn suspect_after(&self) -> Duration {
        (self.gone_after * 2 / 3).max(self.heartbeat + self.heartbeat / 2)
    }

    /// Takes what the store said just now.
    pub fn hear(&mut self, now: Instant, seen: &[Seen]) -> Vec<Change> {
        let before = self.heard;
        if !self.fresh(now) || std::mem::take(&mut self.interrupted) {
            // Others were cut off too, or we slept: those who live have the time to come back.
            for member in self.members.values_mut() {
                member.last = member.last.max(now + WAY_BACK);
            }
        }
        self.heard = Some(now);
        let mut changes = Vec::new();
        for seen in seen {
            if seen.node.configured() == self.own.0 && seen.incarnation == self.own.1 {
                continue;
            }
            self.see(now, before, seen, &mut changes);
        }
        self.forget();
        changes
    }

    fn see(&mut self, now: Instant, before: Option<Instant>, seen: &Seen, changes: &mut Vec<Change>) {
        let suspect_after = self.suspect_after();
        if seen.left {
            if self
                .members
                .get(&seen.node)
                .is_some_and(|known| known.incarnation == seen.incarnation)
                && let Some(member) = self.remove(&seen.node)
            {
                changes.push(Change::Left(member));
            }
            self.old.insert(seen.node.clone(), (seen.incarnation, seen.beat));
            return;
        }
        if let Some(member) = self.members.get_mut(&seen.node) {
            if member.incarnation == seen.incarnation {
                if seen.beat <= member.beat {
                    return;
                }
                // It came after our last look, whatever the store's clock says.
                let since = before.map_or(seen.age, |before| now.saturating_duration_since(before));
                let last = now.checked_sub(seen.age.min(since)).unwrap_or(now);
                member.last = last.max(member.last.min(now));
                member.beat = seen.beat;
                member.record = Record::decode(&seen.record);
                if member.liveness == Liveness::Suspect && member.silent(now) < suspect_after {
                    member.liveness = Liveness::Alive;
                    changes.push(Change::Recovered(member.clone()));
                }
                return;
            }
            if let Some(member) = self.remove(&seen.node) {
                changes.push(Change::Gone(member));
            }
        }
        let age = match self.old.get(&seen.node) {
            Some((incarnation, beat)) if *incarnation == seen.incarnation => {
                if seen.beat <= *beat {
                    return;
                }
                // It goes on where it was last seen.
                seen.age.min(suspect_after / 2)
            }
            _ if seen.age >= self.gone_after => {
                // Of somebody who died before we came, or the store's clock was set: the next beat will tell.
                self.old.insert(seen.node.clone(), (seen.incarnation, seen.beat));
                return;
            }
            _ => seen.age,
        };
        self.old.remove(&seen.node);
        let member = Member {
            node: seen.node.clone(),
            incarnation: seen.incarnation,
            liveness: Liveness::Alive,
            record: Record::decode(&seen.record),
            beat: seen.beat,
            last: now.checked_sub(age).unwrap_or(now),
        };
        self.members.insert(seen.node.clone(), member.clone());
        changes.push(Change::Joined(member));
    }

    /// A node says that it goes.
    pub fn leave(&mut self, node: &NodeId, incarnation: u64) -> Option<Change> {
        let known = self.members.get(node)?;
        if known.incarnation != incarnation {
            return None;
        }
        self.remove(node).map(Change::Left)
    }

    /// Looks at who has been silent for too long. Nobody has while we are deaf ourselves.
    pub fn lapse(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        if !self.fresh(now) {
            return changes;
        }
        let (suspect_after, gone_after) = (self.suspect_after(), self.gone_after);
        let mut gone = Vec::new();
        for member in self.members.values_mut() {
            let silent = member.silent(now);
            if silent >= gone_after {
                gone.push(member.node.clone());
            } else if silent >= suspect_after && member.liveness == Liveness::Alive {
                member.liveness = Liveness::Suspect;
                changes.push(Change::Suspected(member.clone()));
            }
        }
        for node in gone {
            changes.extend(self.remove(&node).map(Change::Gone));
        }
        changes
    }

    /// When [`Membership::lapse`] may find something next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let suspect_after = self.suspect_after();
        let of = |member: &Member| match member.liveness {
            Liveness::Alive => member.last + suspect_after,
            Liveness::Suspect => member.last + self.gone_after,
        };
        self.members.values().map(of).min()
    }

    fn remove(&mut self, node: &NodeId) -> Option<Member> {
        let member = self.members.remove(node)?;
        self.old.insert(node.clone(), (member.incarnation, member.beat));
        Some(member)
    }

    fn forget(&mut self) {
        while self.old.len() > REMEMBERED {
            self.old.pop_first();
        }
    }
}

#[cfg(test)]
mod tests;
