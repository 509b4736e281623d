//! Who is there: pure, told what the store says and what time it is.
//!
//! Whether a node lives is judged by its beats: a count that goes on. When it did is measured on this node's own
//! monotonic clock, with the store's clock only for the time between a beat and our look at it; so neither a clock
//! that is set nor another master's clock makes a member come or go. While this node does not hear the store it
//! judges nobody: it may be the one that is cut off. Unless members answer it directly: then it goes by that, and those
//! who don't are gone in their time, if another one does, or their host says that nobody is there.

use super::names::NodeId;
use super::record::Record;
use super::store::Seen;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Longest that a node that lives may take to find its way back to a store that was away, on top of the time it has
/// anyway.
const WAY_BACK: Duration = Duration::from_secs(2);
/// Questions in a row that a member must have left unanswered: one alone may be lost, or asked before we slept.
const MISSES: u32 = 2;
/// Members that are asked directly.
const MOST_ASKED: usize = 15;
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
    /// When it last answered a question of ours.
    answered: Option<Instant>,
    /// Questions since then that it did not.
    misses: u32,
    /// Its host said that nobody listens there.
    refused: bool,
}

/// A gateway that is to be asked whether it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub incarnation: u64,
    pub address: SocketAddr,
}

impl Member {
    /// Time since its last sign of life, as far as we know.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Duration {
        let last = self
            .answered
            .map_or(self.last, |answered| answered.max(self.last));
        now.saturating_duration_since(last)
    }

    /// Whether its last sign of life was an answer to us, and not a beat.
    #[must_use]
    pub fn is_known_directly(&self) -> bool {
        self.answered.is_some_and(|answered| answered > self.last)
    }

    /// Time since its last beat, which alone counts while the store is heard.
    fn beatless(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    const fn answer(&mut self, now: Instant) {
        self.answered = Some(now);
        self.misses = 0;
        self.refused = false;
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
    /// Those that left questions unanswered and were taken for gone, while the store is away: they may answer yet.
    lost: BTreeMap<NodeId, Member>,
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
            lost: BTreeMap::new(),
            old: BTreeMap::new(),
            heard: None,
            interrupted: false,
        }
    }

    /// The store did not answer, or can't be asked: others may not have heard it either, and nobody is judged by beats
    /// until it is heard again.
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

    /// Whether beats would be heard: only then does a missing one say something about its sender.
    fn hears(&self, now: Instant) -> bool {
        self.fresh(now) && !self.interrupted
    }

    /// From when on a member is suspected.
    fn suspect_after(&self) -> Duration {
        (self.gone_after * 2 / 3).max(self.heartbeat + self.heartbeat / 2)
    }

    /// Takes what the store said just now.
    pub fn hear(&mut self, now: Instant, seen: &[Seen]) -> Vec<Change> {
        let before = self.heard;
        let interrupted = std::mem::take(&mut self.interrupted);
        if interrupted || !self.fresh(now) {
            // Others were cut off too, or we slept: those who live have the time to come back.
            for member in self.members.values_mut() {
                member.last = member.last.max(now + WAY_BACK);
            }
        }
        self.heard = Some(now);
        self.lost.clear();
        let mut changes = Vec::new();
        for seen in seen {
            if seen.node.configured() == self.own.0 && seen.incarnation == self.own.1 {
                changes.extend(self.succeed(now, &seen.node));
                continue;
            }
            self.see(now, before, seen, &mut changes);
        }
        self.forget();
        changes
    }

    /// This node has an id by now that another one had. In the store its record took the place of that one's, and with it
    /// of that one's last word.
    fn succeed(&mut self, now: Instant, id: &NodeId) -> Option<Change> {
        let suspect_after = self.suspect_after();
        let member = self.remove(id)?;
        Some(match member.beatless(now) < suspect_after {
            true => Change::Left(member),
            false => Change::Gone(member),
        })
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
                let mut age = seen.age.min(since);
                if member.last > now {
                    // Our last look was long ago, and another master may have another clock: a node that lives beats
                    // once in this time.
                    age = age.min(self.heartbeat);
                }
                member.last = now.checked_sub(age).unwrap_or(now);
                member.beat = seen.beat;
                member.record = Record::decode(&seen.record);
                if member.liveness == Liveness::Suspect && member.beatless(now) < suspect_after {
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
            answered: None,
            misses: 0,
            refused: false,
        };
        self.members.insert(seen.node.clone(), member.clone());
        changes.push(Change::Joined(member));
    }

    /// A node says that it goes.
    pub fn leave(&mut self, node: &NodeId, incarnation: u64) -> Option<Change> {
        // It was taken for gone already, and is.
        self.lost.remove(node);
        let known = self.members.get(node)?;
        if known.incarnation != incarnation {
            return None;
        }
        self.remove(node).map(Change::Left)
    }

    /// Those to ask directly, this node's next ones in the order of ids: those that say where.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let all = || self.members.values().chain(self.lost.values());
        let address = |member: &Member| member.record.ping.parse().ok();
        let mut peers: Vec<Peer> = all()
            .filter_map(|member| {
                Some(Peer {
                    node: member.node.clone(),
                    incarnation: member.incarnation,
                    address: address(member)?,
                })
            })
            .collect();
        peers.sort_unstable_by(|a, b| {
            let before = |peer: &Peer| peer.node.as_str() < self.own.0.as_str();
            (before(a), &a.node).cmp(&(before(b), &b.node))
        });
        peers.truncate(MOST_ASKED);
        peers
    }

    /// A member answered us. Which says nothing new while the store is heard.
    pub fn answered(
        &mut self,
        now: Instant,
        node: &NodeId,
        incarnation: u64,
        record: Record,
    ) -> Option<Change> {
        let deaf = !self.hears(now);
        if deaf
            && self
                .lost
                .get(node)
                .is_some_and(|lost| lost.incarnation == incarnation)
        {
            let mut member = self.lost.remove(node)?;
            member.liveness = Liveness::Alive;
            member.answer(now);
            member.record = record;
            self.old.remove(node);
            self.members.insert(node.clone(), member.clone());
            return Some(Change::Joined(member));
        }
        let member = self.members.get_mut(node)?;
        if member.incarnation != incarnation {
            return None;
        }
        member.answer(now);
        if !deaf {
            return None;
        }
        member.record = record;
        if member.liveness == Liveness::Alive {
            return None;
        }
        member.liveness = Liveness::Alive;
        Some(Change::Recovered(member.clone()))
    }

    /// A member did not answer us; whether its host said that nobody listens there.
    pub fn missed(&mut self, node: &NodeId, incarnation: u64, refused: bool) {
        if let Some(member) = self.members.get_mut(node)
            && member.incarnation == incarnation
        {
            member.misses = member.misses.saturating_add(1);
            member.refused = refused;
        }
    }

    /// For how long each member has been silent, of those that may be judged: while the store is not heard, only those
    /// that answered once and don't any more, and only if it is not us who are cut off.
    fn silences(&self, now: Instant) -> Vec<(NodeId, Duration)> {
        let all = self.members.values();
        if self.hears(now) {
            return all
                .map(|member| (member.node.clone(), member.beatless(now)))
                .collect();
        }
        let near = |member: &Member| member.misses == 0 && member.answered.is_some();
        let company = self.members.values().any(near);
        all.filter(|member| member.answered.is_some() && member.misses >= MISSES)
            .filter(|member| company || member.refused)
            .map(|member| (member.node.clone(), member.silent(now)))
            .collect()
    }

    /// Looks at who has been silent for too long.
    pub fn lapse(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let deaf = !self.hears(now);
        let (suspect_after, gone_after) = (self.suspect_after(), self.gone_after);
        let mut gone = Vec::new();
        for (node, silent) in self.silences(now) {
            let Some(member) = self.members.get_mut(&node) else {
                continue;
            };
            if silent >= gone_after {
                gone.push(member.node.clone());
            } else if silent >= suspect_after && member.liveness == Liveness::Alive {
                member.liveness = Liveness::Suspect;
                changes.push(Change::Suspected(member.clone()));
            }
        }
        for node in gone {
            let Some(member) = self.remove(&node) else {
                continue;
            };
            if deaf {
                self.lost.insert(node, member.clone());
            }
            changes.push(Change::Gone(member));
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

    /// Takes a member off the list; its old record does not bring it back.
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
