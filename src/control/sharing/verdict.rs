//! What a cluster of gateways thinks of an endpoint, and whether that counts here. Pure.
//!
//! The local view comes first: an endpoint that answers here is used here, whatever others find, because the way to
//! it may be broken for them alone. Only where nothing is known here, or what is known is doubtful already, the
//! majority decides.

use std::time::Duration;

/// How old an opinion may be in probe intervals.
pub const FRESH_INTERVALS: u32 = 3;
/// A local success so recent outweighs everybody.
pub const RECENT: Duration = Duration::from_secs(2);

/// What one gateway says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    Up,
    Down,
}

/// A gateway that votes, with its opinion and how old that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote<'a> {
    pub node: &'a str,
    pub opinion: Opinion,
    pub age: Duration,
}

/// What is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// Nothing: it is not checked, and nothing was sent there lately.
    Unknown,
    /// It answered so long ago, and nothing has failed since.
    Good(Duration),
    /// It failed since it last answered, but not often enough to say so.
    Suspect,
    Down,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By the local view alone.
    Local,
    /// The majority says it is down, and nothing here speaks against it.
    Down,
}

/// How many of those who vote must say that it is down.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    match voters {
        0 | 1 => 1,
        n => {
            let half = n / 2 + 1;
            if half < 2 { 2 } else { half }
        }
    }
}

/// The verdict on an endpoint. `members` are those who are there and may vote, this gateway among them; `fresh` is how
/// old an opinion may be.
#[must_use]
pub fn verdict(members: &[&str], votes: &[Vote<'_>], fresh: Duration, local: Local) -> Verdict {
    match local {
        Local::Down => return Verdict::Local,
        Local::Good(ago) if ago <= RECENT => return Verdict::Local,
        Local::Unknown | Local::Suspect | Local::Good(_) => {}
    }
    // Each node once, by its latest opinion.
    let latest = members.iter().filter_map(|member| {
        let of_it = votes
            .iter()
            .filter(|vote| vote.node == *member && vote.age <= fresh);
        of_it.min_by_key(|vote| vote.age)
    });
    let (mut voters, mut down) = (0, 0);
    for vote in latest {
        voters += 1;
        down += usize::from(vote.opinion == Opinion::Down);
    }
    // One alone is heard only by itself.
    let enough = members.len() > 1 && down >= majority(voters).max(2);
    if enough { Verdict::Down } else { Verdict::Local }
}

/// How many more endpoints of an upstream may be kept from requests on others' word: at most half of all are.
#[must_use]
pub const fn room(endpoints: usize, out: usize) -> usize {
    (endpoints / 2).saturating_sub(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRESH: Duration = Duration::from_secs(3);

    fn vote(node: &str, opinion: Opinion, age: u64) -> Vote<'_> {
        Vote {
            node,
            opinion,
            age: Duration::from_secs(age),
        }
    }

    fn of(members: &[&str], votes: &[Vote<'_>], local: Local) -> Verdict {
        verdict(members, votes, FRESH, local)
    }

    #[test]
    fn a_majority_of_fresh_voters_decides_where_nothing_is_known() {
        use Opinion::{Down, Up};
        let all = ["a", "b", "c"];
        let two = [vote("a", Down, 0), vote("b", Down, 1)];
        assert_eq!(of(&all, &two, Local::Unknown), Verdict::Down);
        assert_eq!(of(&all, &two, Local::Suspect), Verdict::Down);
        assert_eq!(
            of(&all, &two[..1], Local::Unknown),
            Verdict::Local,
            "one of three is no majority"
        );
        let split = [vote("a", Down, 0), vote("b", Up, 0), vote("c", Up, 0)];
        assert_eq!(of(&all, &split, Local::Unknown), Verdict::Local);
        let stale = [vote("a", Down, 0), vote("b", Down, 9)];
        assert_eq!(of(&all, &stale, Local::Unknown), Verdict::Local);
        let strangers = [vote("x", Down, 0), vote("y", Down, 0)];
        assert_eq!(
            of(&all, &strangers, Local::Unknown),
            Verdict::Local,
            "who left has no vote"
        );
    }

    #[test]
    fn a_recent_local_success_wins_over_everybody() {
        let all = ["a", "b", "c"];
        let votes = [
            vote("a", Opinion::Down, 0),
            vote("b", Opinion::Down, 0),
            vote("c", Opinion::Down, 0),
        ];
        assert_eq!(
            of(&all, &votes, Local::Good(Duration::from_secs(1))),
            Verdict::Local
        );
        assert_eq!(
            of(&all, &votes, Local::Good(Duration::from_secs(60))),
            Verdict::Down
        );
    }

    #[test]
    fn who_changed_its_mind_has_one_vote_and_it_is_the_last() {
        let votes = [
            vote("a", Opinion::Down, 2),
            vote("a", Opinion::Up, 0),
            vote("b", Opinion::Down, 0),
        ];
        assert_eq!(of(&["a", "b"], &votes, Local::Unknown), Verdict::Local);
        let twice = [vote("b", Opinion::Down, 0), vote("b", Opinion::Down, 1)];
        assert_eq!(
            of(&["a", "b"], &twice, Local::Unknown),
            Verdict::Local,
            "nobody votes twice"
        );
    }

    #[test]
    fn majorities_are_never_one_of_several() {
        assert_eq!([0, 1, 2, 3, 4, 5, 10].map(majority), [1, 1, 2, 2, 3, 3, 6]);
        assert_eq!(
            (room(4, 0), room(4, 2), room(3, 1), room(1, 0), room(4, 9)),
            (2, 0, 0, 0, 0)
        );
    }

    fn opinions() -> impl Strategy<Value = Vec<(usize, bool, u64)>> {
        proptest::collection::vec((0..6usize, any::<bool>(), 0..6u64), 0..20)
    }

    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    proptest! {
        /// One gateway, however loud, never takes an endpoint from the others.
        #[test]
        fn one_voice_is_never_enough(age in 0..3u64, times in 1..9usize, members in 2..6usize, who in 0..6usize) {
            let votes: Vec<Vote<'_>> = (0..times).map(|_| vote(NAMES[who], Opinion::Down, age)).collect();
            prop_assert_eq!(of(&NAMES[..members], &votes, Local::Unknown), Verdict::Local);
        }

        /// Another voice against an endpoint never saves it, and one for it never dooms it.
        #[test]
        fn more_downs_never_help_and_more_ups_never_hurt(opinions in opinions(), members in 1..6usize) {
            let votes: Vec<Vote<'_>> = opinions
                .iter()
                .map(|(who, down, age)| {
                    vote(NAMES[*who], if *down { Opinion::Down } else { Opinion::Up }, *age)
                })
                .collect();
            let members = &NAMES[..members];
            let before = of(members, &votes, Local::Unknown);
            for who in members {
                let change = |opinion| {
                    let mut votes: Vec<Vote<'_>> = votes.iter().filter(|vote| vote.node != *who).cloned().collect();
                    votes.push(vote(who, opinion, 0));
                    of(members, &votes, Local::Unknown)
                };
                let was_heard = votes.iter().any(|vote| vote.node == *who && vote.age <= FRESH);
                if before == Verdict::Down && was_heard {
                    prop_assert_eq!(change(Opinion::Down), Verdict::Down);
                }
                if before == Verdict::Local && was_heard {
                    prop_assert_eq!(change(Opinion::Up), Verdict::Local);
                }
            }
        }

        /// The order in which opinions came makes no difference, and neither do those of strangers.
        #[test]
        fn order_and_strangers_make_no_difference(opinions in opinions(), members in 1..4usize) {
            let votes: Vec<Vote<'_>> = opinions
                .iter()
                .map(|(who, down, age)| {
                    let opinion = if *down { Opinion::Down } else { Opinion::Up };
                    // Two opinions of one age would be a draw.
                    vote(NAMES[*who], opinion, *age)
                })
                .collect();
            let mut one_each: Vec<Vote<'_>> = Vec::new();
            for vote in votes {
                if one_each.iter().all(|known| known.node != vote.node) {
                    one_each.push(vote);
                }
            }
            let members = &NAMES[..members];
            let verdict = of(members, &one_each, Local::Unknown);
            let known: Vec<Vote<'_>> = one_each.iter().rev().filter(|vote| members.contains(&vote.node)).cloned().collect();
            prop_assert_eq!(of(members, &known, Local::Unknown), verdict);
        }
    }
}
