//! Who probes an endpoint that several gateways check. Pure.
//!
//! While all is quiet two of them do, whoever bids highest for it, and the others go by what these say. Whatever
//! happens, everybody looks for itself at once and goes on until all has been quiet for a while: rest is what has to be
//! earned, probing is what happens otherwise.
//!
//! Gateways that see different members choose differently, and that can only make more of them probe: each is a member
//! in its own eyes, so whoever bids highest of all is among the highest in its own, and never rests.

use crate::base::clock::Millis;
use crate::upstream::shared::balancer::ring::hash;
use std::time::Duration;

/// Gateways that go on probing: one alone could be wrong, or gone, without anybody's notice.
pub const PROBERS: usize = 2;
/// Intervals that a passed probe of another is good for.
const FRESH_INTERVALS: u32 = 3;
/// What its announcement may take on top: they are made once a second.
const WAY: Duration = Duration::from_secs(2);
/// How long all must have been quiet.
const QUIET: Duration = Duration::from_secs(2);
/// Longest rest without another look at whether it is deserved.
pub const REST: Duration = Duration::from_secs(1);

/// Why a gateway probes, or that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Others probe, and are believed until then.
    Rest(Millis),
    /// It is one of those who do.
    Own,
    /// It does not hear the others, or has no say.
    Apart,
    /// Something here speaks against the endpoint.
    Unwell,
    /// Another gateway holds it for down.
    Doubted,
    /// Something changed not long ago.
    Settling,
    /// Those whose turn it is have not said that it is well.
    Unheard,
}

impl Turn {
    /// One word for it, as the API has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rest(_) => "rest",
            Self::Own => "turn",
            Self::Apart => "apart",
            Self::Unwell => "unwell",
            Self::Doubted => "doubted",
            Self::Settling => "settling",
            Self::Unheard => "unheard",
        }
    }
}

/// What there is to be seen of an endpoint.
pub struct Seen<'a> {
    /// What it is known by among the gateways.
    pub endpoint: u64,
    /// This gateway.
    pub own: &'a str,
    /// Those who check it and whose word counts, this one among them; in order.
    pub members: &'a [&'a str],
    pub interval: Duration,
    /// Others are heard, and hear this gateway.
    pub connected: bool,
    /// Neither probes nor traffic of this gateway speak against it.
    pub well: bool,
    /// When the last probe of this gateway began that passed.
    pub passed: Millis,
    /// Another gateway holds it for down.
    pub doubted: bool,
    /// When the last probe began that passed, as another gateway says.
    pub says: &'a dyn Fn(&str) -> Option<Millis>,
}

/// What a gateway remembers of an endpoint between two looks.
#[derive(Debug, Default)]
pub struct Turns {
    /// The members of the last look, and who of them probe.
    members: Vec<String>,
    probers: Vec<String>,
    /// When all was not quiet last.
    disturbed: Millis,
    rested: bool,
}

impl Turns {
    /// Looks again.
    pub fn look(&mut self, now: Millis, seen: &Seen<'_>) -> Turn {
        let turn = self.turn(now, seen);
        let unexpected = self.rested && turn == Turn::Unheard;
        if unexpected || matches!(turn, Turn::Apart | Turn::Unwell | Turn::Doubted) {
            self.disturbed = now;
        }
        self.rested = matches!(turn, Turn::Rest(_));
        turn
    }

    /// Somebody found something: all is not quiet.
    pub fn disturb(&mut self, now: Millis) {
        self.disturbed = now;
        self.rested = false;
    }

    /// Whose turn it was at the last look.
    #[must_use]
    pub fn probers(&self) -> &[String] {
        &self.probers
    }

    fn turn(&mut self, now: Millis, seen: &Seen<'_>) -> Turn {
        if self.members != seen.members {
            self.members = owned(seen.members);
            self.probers = owned(&probers(seen.members, seen.own, seen.endpoint));
            self.disturbed = now;
        }
        if !seen.connected {
            return Turn::Apart;
        }
        if !seen.well {
            return Turn::Unwell;
        }
        if seen.doubted {
            return Turn::Doubted;
        }
        if self.probers.iter().any(|prober| prober == seen.own) {
            return Turn::Own;
        }
        // Quiet is what has been looked at since.
        if now < self.disturbed.plus(QUIET) || seen.passed <= self.disturbed {
            return Turn::Settling;
        }
        let good_for = seen.interval.saturating_mul(FRESH_INTERVALS).saturating_add(WAY);
        let mut until = now.plus(REST);
        for prober in &self.probers {
            match (seen.says)(prober) {
                Some(at) if at > self.disturbed && at.plus(good_for) > now => {
                    until = until.min(at.plus(good_for))
                }
                _ => return Turn::Unheard,
            }
        }
        Turn::Rest(until)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Who goes on probing an endpoint, in the eyes of one that sees these members; itself is always one of them.
#[must_use]
pub fn probers<'a>(members: &[&'a str], own: &'a str, endpoint: u64) -> Vec<&'a str> {
    let bid = |node: &str| {
        hash(
            [endpoint.to_be_bytes().as_slice(), node.as_bytes()]
                .concat()
                .as_slice(),
        )
    };
    let mut bids: Vec<(u64, &str)> = members.iter().map(|&node| (bid(node), node)).collect();
    if !members.contains(&own) {
        bids.push((bid(own), own));
    }
    bids.sort_unstable_by(|a, b| b.cmp(a));
    bids.truncate(PROBERS);
    bids.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests;
