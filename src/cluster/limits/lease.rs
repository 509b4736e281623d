//! One key's tokens on one gateway, leased from the bucket that all share. Pure.
//!
//! A request takes a token where there is one. Where there is none and nobody knows whether the store has any, the
//! gateway grants its own share on credit and says so to the store with the next lease, which counts it: nobody waits
//! for an answer, and in the long run nothing is granted twice. Tokens do not lapse; a gateway holds at most one lease
//! of a key, so that one whose traffic went elsewhere keeps no more than that from the others, once.

use super::Verdict;
use super::bucket::Bucket;
use super::limit::Limit;
use super::take::{Take, Taken};
use std::time::Duration;
use tokio::time::Instant;

/// For so long after the store has some again it is taken to have none, while it is being asked.
const GRACE: Duration = Duration::from_millis(20);
/// Longest time that the store is not asked again, whatever it said.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// An answer that takes longer is not waited for.
const LOST: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leased {
    tokens: u32,
    /// Granted on credit, and not told yet.
    owed: u32,
    asked: Option<Instant>,
    /// The store has none until then.
    empty_until: Option<Instant>,
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// The store is to be asked for more.
    pub ask: bool,
}

impl Leased {
    /// Decides on a request. `own` is what this gateway granted of the key in all; `works`: the store answers.
    pub fn decide(
        &mut self,
        now: Instant,
        limit: &Limit,
        gateways: u32,
        own: &mut Bucket,
        works: bool,
    ) -> Decision {
        let share = limit.share(gateways);
        let known_empty = self.empty_until.filter(|_| works);
        let verdict = if self.tokens > 0 {
            self.tokens -= 1;
            own.note(now, share);
            Verdict::Admitted
        } else if let Some(until) = known_empty.filter(|until| now < *until + GRACE) {
            Verdict::Refused {
                retry_after: (until + GRACE).duration_since(now),
            }
        } else {
            match own.take(now, share) {
                Ok(()) => {
                    // While the store is away nothing is owed: what was granted then is long past when it is back.
                    self.owed = if works { self.owed.saturating_add(1) } else { 0 };
                    Verdict::Admitted
                }
                Err(retry_after) => Verdict::Refused { retry_after },
            }
        };
        let waits = self
            .asked
            .is_some_and(|asked| now.saturating_duration_since(asked) < LOST);
        let few = self.tokens <= limit.lease() / 2;
        let empty = known_empty.is_some_and(|until| now < until);
        let ask = works && few && !waits && !empty;
        if ask {
            self.asked = Some(now);
        }
        Decision { verdict, ask }
    }

    /// What to ask of the store.
    pub fn ask(&mut self, limit: &Limit, gateways: u32) -> Take {
        Take {
            rate: limit.rate(),
            owed: std::mem::take(&mut self.owed),
            wanted: limit.lease().saturating_sub(self.tokens),
            credit: limit.credit(gateways),
        }
    }

    /// The store's answer to that.
    pub fn answered(&mut self, now: Instant, asked: &Take, taken: Taken) {
        self.asked = None;
        self.tokens = self.tokens.saturating_add(taken.granted.min(asked.wanted));
        let wait = taken.wait.min(LONGEST_WAIT);
        self.empty_until = (taken.granted < asked.wanted).then_some(now + wait);
    }

    /// The store was not asked, or did not answer. What was owed may have been counted: it is not told again.
    pub const fn failed(&mut self) {
        self.asked = None;
        self.empty_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> Limit {
        Limit::new(100, Duration::from_secs(1), 20).unwrap()
    }

    #[test]
    fn a_new_key_is_granted_on_credit_which_is_told_with_the_first_lease() {
        let (limit, now) = (limit(), Instant::now());
        let (mut leased, mut own) = (Leased::default(), Bucket::default());
        let first = leased.decide(now, &limit, 2, &mut own, true);
        assert_eq!((first.verdict, first.ask), (Verdict::Admitted, true));
        let second = leased.decide(now, &limit, 2, &mut own, true);
        assert_eq!(
            (second.verdict, second.ask),
            (Verdict::Admitted, false),
            "it is asked once"
        );
        let take = leased.ask(&limit, 2);
        assert_eq!((take.owed, take.wanted), (2, 10));
        leased.answered(
            now,
            &take,
            Taken {
                granted: 10,
                wait: Duration::ZERO,
            },
        );
        for n in 0..10 {
            let decision = leased.decide(now, &limit, 2, &mut own, true);
            assert_eq!(
                (decision.verdict, decision.ask),
                (Verdict::Admitted, n == 4),
                "{n}"
            );
        }
        assert_eq!(leased.ask(&limit, 2).owed, 0, "tokens are paid for");
    }

    #[test]
    fn while_the_store_has_none_nothing_is_granted_and_nothing_asked() {
        let (limit, now) = (limit(), Instant::now());
        let (mut leased, mut own) = (Leased::default(), Bucket::default());
        let take = leased.ask(&limit, 1);
        let wait = Duration::from_millis(30);
        leased.answered(now, &take, Taken { granted: 0, wait });
        let decision = leased.decide(now, &limit, 1, &mut own, true);
        assert!(matches!(decision.verdict, Verdict::Refused { .. }) && !decision.ask);
        // As soon as it has some it is asked, and for the moment that this takes what it said stands.
        let decision = leased.decide(now + wait, &limit, 1, &mut own, true);
        assert!(matches!(decision.verdict, Verdict::Refused { .. }) && decision.ask);
        let later = leased.decide(now + wait + GRACE, &limit, 1, &mut own, true);
        assert_eq!(
            later.verdict,
            Verdict::Admitted,
            "no answer: it goes by its own share"
        );
    }

    #[test]
    fn without_the_store_a_gateway_goes_by_its_share_at_once_whatever_the_store_said_last() {
        let (limit, now) = (limit(), Instant::now());
        let (mut leased, mut own) = (Leased::default(), Bucket::default());
        let take = leased.ask(&limit, 2);
        leased.answered(
            now,
            &take,
            Taken {
                granted: 0,
                wait: Duration::from_secs(9),
            },
        );
        let mut granted = 0;
        for _ in 0..50 {
            let decision = leased.decide(now, &limit, 2, &mut own, false);
            assert!(!decision.ask);
            granted += u32::from(decision.verdict == Verdict::Admitted);
        }
        assert_eq!(granted, limit.share(2).burst);
        assert_eq!(leased.ask(&limit, 2).owed, 0);
    }
}
