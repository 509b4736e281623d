//! What speaks for and against an endpoint, as one number: the time that a request sent there is expected to take.
//!
//! `least_time` and `adaptive` compare these numbers, and the admin API shows them, so that every pick can be
//! worked out by hand.

use crate::base::clock::Millis;
use crate::config::model::Balance;
use crate::upstream::shared::latency::left;
use crate::upstream::shared::plan::{EndpointPlan, UpstreamPlan};
use serde::Serialize;

/// An endpoint where every request fails is as bad as one that is so many times slower.
const FAILURE_COST: f32 = 100.0;
/// An idle endpoint's own past is worth less and less: half as much after a fifth of this, a hundredth after two.
const IDLE_MS: f32 = 10_600.0;
/// Where nobody has answered yet, all are taken to be equally quick.
const UNKNOWN_US: f32 = 1_000.0;
/// How long a worker goes on with what it found the others to take.
const OTHERS_MS: u64 = 100;

/// An endpoint's score and what it is made of; the lowest is best. With `q` for `(load + 1) / weight` it is
///
/// - `latency × q` for `least_time`,
/// - `latency × q^1.5 × penalty` for `adaptive`. There the queue counts for more than its length, because it is known
///   now, and the latency from before: an endpoint that stands still still looks quick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Microseconds that an answer is expected to take: a mean in which slow answers count at once and are forgotten
    /// slowly. While nothing runs there, it nears what the others take: for `adaptive` their median; for `least_time`,
    /// which gives nothing to any but the best, the lowest, or who was unlucky once would starve.
    pub latency_us: f32,
    /// Requests that run there.
    pub load: u32,
    /// How many times as bad failures make it; 1 without, and for `least_time`.
    pub penalty: f32,
    pub weight: u32,
    /// Microseconds.
    pub score: f32,
    /// Time since the last answer; `None` before the first.
    pub(super) age_ms: Option<f32>,
}

impl Score {
    /// Works out the score; `others_us` is what the others take.
    pub(super) fn of(balance: Balance, endpoint: &EndpointPlan, others_us: f32, now: Millis) -> Self {
        let state = &endpoint.state;
        let load = state.in_flight();
        let seen = state.latency.seen(now);
        let latency_us = match seen {
            None => others_us,
            Some(seen) if load > 0 => seen.micros,
            Some(seen) => {
                let kept = left(seen.age_ms, IDLE_MS);
                let own = (kept * kept) * (kept * kept);
                seen.micros * own + others_us * (1.0 - own)
            }
        };
        let q = (load as f32 + 1.0) / endpoint.weight.max(1) as f32;
        let (queue, penalty) = match balance {
            Balance::LeastTime => (q, 1.0),
            _ => (q * q.sqrt(), 1.0 + FAILURE_COST * state.latency.failing(now)),
        };
        Self {
            latency_us,
            load,
            penalty,
            weight: endpoint.weight,
            score: latency_us * queue * penalty,
            age_ms: seen.map(|seen| seen.age_ms),
        }
    }
}

/// A score as it is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScoreShown {
    pub latency_ms: f64,
    pub load: u32,
    pub penalty: f64,
    pub score: f64,
}

impl From<Score> for ScoreShown {
    fn from(score: Score) -> Self {
        let thousandths = |value: f32| (f64::from(value) * 1e3).round() / 1e3;
        Self {
            latency_ms: thousandths(score.latency_us / 1e3),
            load: score.load,
            penalty: thousandths(score.penalty),
            score: thousandths(score.score / 1e3),
        }
    }
}

/// The scores of all endpoints of an upstream, in the order of the file.
#[must_use]
pub fn scores(plan: &UpstreamPlan, now: Millis) -> Vec<Score> {
    let others = |backup: bool| {
        let rank = plan.endpoints.iter();
        let rank = rank.filter(|endpoint| endpoint.is_open() && endpoint.backup == backup);
        others_us(plan.balance, rank, now)
    };
    let others = [others(false), others(true)];
    let score = |endpoint: &EndpointPlan| {
        Score::of(plan.balance, endpoint, others[usize::from(endpoint.backup)], now)
    };
    plan.endpoints.iter().map(score).collect()
}

/// What these endpoints take: the lower median, or the lowest.
fn others_us<'a>(balance: Balance, endpoints: impl Iterator<Item = &'a EndpointPlan>, now: Millis) -> f32 {
    let seen = endpoints.filter_map(|endpoint| endpoint.state.latency.seen(now));
    let mut seen: Vec<f32> = seen.map(|seen| seen.micros).collect();
    if seen.is_empty() {
        return UNKNOWN_US;
    }
    let place = match balance {
        Balance::LeastTime => 0,
        _ => (seen.len() - 1) / 2,
    };
    *seen.select_nth_unstable_by(place, f32::total_cmp).1
}

/// A worker's note of what the endpoints take, so that a pick does not look at every one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Others {
    us: f32,
    found: Millis,
}

impl Others {
    pub fn get<'a>(
        &mut self,
        balance: Balance,
        endpoints: impl Iterator<Item = &'a EndpointPlan>,
        now: Millis,
    ) -> f32 {
        if self.found == Millis::NEVER || now.0 >= self.found.0 + OTHERS_MS {
            *self = Self {
                us: others_us(balance, endpoints, now),
                found: now,
            };
        }
        self.us
    }
}
