//! Tunnels after a scale-out: an endpoint that is new, or back, has none, and those that live for hours leave it idle.
//! Where the configuration asks for it, some of the others' are asked to come back, and find the new one.
//!
//! All of this is decided here and carried out elsewhere. A round begins when an endpoint joins, and never by itself:
//! what is uneven for other reasons stays so. It is measured by the tunnels that there were when it began, so that
//! clients who take their time to come back make nobody look fuller than he is, and asks only tunnels that were open
//! then, so that nobody is asked twice.

use crate::base::clock::Millis;
use crate::config::model::Rebalance;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// A round is over when nothing has moved for so long. Who was asked last is back by then, if it wants to be.
const QUIET: Duration = Duration::from_secs(10);
/// Longest time between two looks that counts: a process that was stopped has not saved up.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// An endpoint that may be given tunnels.
#[derive(Clone, Debug)]
pub struct Member {
    pub address: Arc<str>,
    pub weight: u32,
    /// Its tunnels, but for those that are going.
    pub tunnels: u32,
    /// Of these, so many are to be asked, and nobody has yet.
    pub due: u32,
}

/// What a look has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Began,
    /// So many are still above the threshold, and nobody there may be asked.
    Ended {
        left: u32,
    },
}

/// One upstream, from look to look.
#[derive(Debug, Default)]
pub struct Watch {
    /// `None` before the first look: those that are there from the start have not joined.
    known: Option<BTreeSet<Arc<str>>>,
    /// An endpoint has joined, and has its full share from this moment on.
    joined: Option<Millis>,
    pub round: Option<Round>,
}

/// Tunnels are being asked to go.
#[derive(Clone, Debug)]
pub struct Round {
    pub began: Millis,
    /// Tunnels when it began.
    pub total: u64,
    /// Asked so far.
    pub asked: u64,
    /// Above the threshold at the last look.
    pub surplus: u32,
    looked: Millis,
    /// When somebody was last told to ask, or did.
    moved: Millis,
    due: u32,
    credit: f64,
}

impl Watch {
    /// Looks at who is there. `slow_start` is how long a new one takes to its full share. How many more of each member's
    /// tunnels are to be asked now is written into its `due`.
    pub fn look(
        &mut self,
        now: Millis,
        rules: Rebalance,
        slow_start: Duration,
        members: &mut [Member],
    ) -> Option<Change> {
        let present: BTreeSet<Arc<str>> = members.iter().map(|member| member.address.clone()).collect();
        if let Some(known) = &self.known
            && !present.is_subset(known)
        {
            self.joined = Some(now.plus(slow_start));
        }
        self.known = Some(present);
        let mut change = None;
        if self.joined.is_some_and(|at| at <= now) {
            self.joined = None;
            let round = Round::new(now, members);
            if round.surpluses(rules, members).iter().any(|surplus| *surplus > 0) {
                change = self.round.is_none().then_some(Change::Began);
                self.round = Some(round);
            }
        }
        let round = self.round.as_mut()?;
        round.step(now, rules, members);
        if now.since(round.moved) >= QUIET {
            let left = round.surplus;
            self.round = None;
            return Some(Change::Ended { left });
        }
        change
    }

    /// Whether somebody has joined, or a round runs.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.joined.is_some() || self.round.is_some()
    }

    /// Ends what runs, and begins anew with the next look.
    pub fn rest(&mut self) {
        *self = Self::default();
    }
}

impl Round {
    fn new(now: Millis, members: &[Member]) -> Self {
        Self {
            began: now,
            total: all(members),
            asked: 0,
            surplus: 0,
            looked: now,
            moved: now,
            due: 0,
            credit: 0.0,
        }
    }

    /// Tunnels of each member that are above the threshold.
    fn surpluses(&self, rules: Rebalance, members: &[Member]) -> Vec<u32> {
        let total = self.total.max(all(members)) as f64;
        let weights: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        let surplus = |member: &Member| {
            let fair = total * f64::from(member.weight) / weights.max(1.0);
            // A whole tunnel above it is above it; a hair is the arithmetic's.
            let most = (fair * (1.0 + rules.threshold) - 1e-6).ceil().max(0.0);
            member.tunnels.saturating_sub(most as u32)
        };
        members.iter().map(surplus).collect()
    }

    fn step(&mut self, now: Millis, rules: Rebalance, members: &mut [Member]) {
        let passed = now.since(self.looked).min(LONGEST_LOOK);
        self.looked = now;
        let surpluses = self.surpluses(rules, members);
        self.surplus = surpluses.iter().sum();
        let due: u32 = members.iter().map(|member| member.due).sum();
        if due < self.due {
            self.moved = now;
        }
        // What waits to be asked is not asked for again; nor does it pile up where nobody may be.
        let most_due = (f64::from(rules.rate) * LONGEST_LOOK.as_secs_f64()).max(1.0);
        let open: Vec<u32> = members
            .iter()
            .zip(&surpluses)
            .map(|(member, surplus)| surplus.saturating_sub(member.due))
            .collect();
        let all_open: u32 = open.iter().sum();
        self.credit = (self.credit + f64::from(rules.rate) * passed.as_secs_f64()).min(most_due);
        let now_due = (self.credit as u32)
            .min(all_open)
            .min((most_due as u32).saturating_sub(due));
        let mut left = now_due;
        let mut fullest: Vec<usize> = (0..members.len()).collect();
        fullest.sort_by_key(|index| std::cmp::Reverse(open[*index]));
        for index in fullest {
            let share = f64::from(now_due) * f64::from(open[index]) / f64::from(all_open.max(1));
            let given = (share.ceil() as u32).min(open[index]).min(left);
            members[index].due += given;
            left -= given;
        }
        let given = now_due - left;
        if given > 0 {
            self.moved = now;
            self.credit -= f64::from(given);
            self.asked += u64::from(given);
        }
        self.due = due + given;
    }
}

fn all(members: &[Member]) -> u64 {
    members.iter().map(|member| u64::from(member.tunnels)).sum()
}

/// What workers are told of an endpoint's part in a round.
#[derive(Debug)]
pub struct Asking {
    /// Tunnels opened from this moment on stay.
    pub opened_before: Millis,
    due: AtomicU32,
}

impl Asking {
    #[must_use]
    pub const fn new(opened_before: Millis) -> Self {
        Self {
            opened_before,
            due: AtomicU32::new(0),
        }
    }

    #[must_use]
    pub fn due(&self) -> u32 {
        self.due.load(Relaxed)
    }

    /// Has so many more asked.
    pub fn add(&self, more: u32) {
        self.due.fetch_add(more, Relaxed);
    }

    /// Takes on to ask so many, or those that there are.
    #[must_use]
    pub fn take(&self, most: u32) -> u32 {
        let left = |due: u32| Some(due.saturating_sub(most));
        match self.due.fetch_update(Relaxed, Relaxed, left) {
            Ok(due) | Err(due) => due.min(most),
        }
    }
}

#[cfg(test)]
mod tests;
