//! What speaks for and against an endpoint, as one number: the time that a request sent there is expected to take.
//!
//! `least_time` and `adaptive` compare these numbers, and the admin API shows them, so that every pick can be
//! worked out by hand.

use crate::base::clock::Millis;
use crate::upstream::shared::latency::left;
use crate::upstream::shared::plan::{EndpointPlan, UpstreamPlan};
use serde::Serialize;

/// An endpoint where every request fails is as bad as one that is so many times slower.
const FAILURE_COST: f32 = 100.0;
/// An idle endpoint's own past is worth less and less: half as much after a fifth of this, a hundredth after two.
const IDLE_MS: f32 = 26_400.0;
/// Where nobody has answered yet, all are taken to be equally quick.
const UNKNOWN_US: f32 = 1_000.0;
/// How long a worker goes on with the median that it found.
const MEDIAN_MS: u64 = 100;

/// An endpoint's score and what it is made of: `latency × q^1.5 × penalty`, where `q` is `(load + 1) / weight`. The
/// lowest is best.
///
/// The queue counts for more than its length, because it is known now, and the latency from before: an endpoint that
/// stands still still looks quick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Microseconds that an answer is expected to take: a mean in which slow answers count at once and are forgotten
    /// slowly. While nothing runs there, it nears the median of all.
    pub latency_us: f32,
    /// Requests that run there.
    pub load: u32,
    /// 1 without failures; times as bad as it would be without them.
    pub penalty: f32,
    pub weight: u32,
    /// Of `adaptive`.
    pub score: f32,
    /// Of `least_time`: `latency × q`, in microseconds.
    pub time: f32,
    /// Time since the last answer; `None` before the first.
    pub(super) age_ms: Option<f32>,
}

impl Score {
    /// Works out the scores; `median_us` is the median of the answers of all.
    #[must_use]
    pub fn of(endpoint: &EndpointPlan, median_us: f32, now: Millis) -> Self {
        let state = &endpoint.state;
        let load = state.in_flight();
        let seen = state.latency.seen(now);
        let latency_us = match seen {
            None => median_us,
            Some(seen) if load > 0 => seen.micros,
            Some(seen) => {
                let kept = left(seen.age_ms, IDLE_MS);
                let own = (kept * kept) * (kept * kept);
                seen.micros * own + median_us * (1.0 - own)
            }
        };
        let penalty = 1.0 + FAILURE_COST * state.latency.failing(now);
        let per_weight = (load as f32 + 1.0) / endpoint.weight.max(1) as f32;
        Self {
            latency_us,
            load,
            penalty,
            weight: endpoint.weight,
            score: latency_us * per_weight * per_weight.sqrt() * penalty,
            time: latency_us * per_weight,
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
    let median = |backup: bool| {
        let rank = plan
            .endpoints
            .iter()
            .filter(|it| it.is_open() && it.backup == backup);
        median_us(rank, now)
    };
    let medians = [median(false), median(true)];
    let score = |endpoint: &EndpointPlan| Score::of(endpoint, medians[usize::from(endpoint.backup)], now);
    plan.endpoints.iter().map(score).collect()
}

/// The lower median of what was seen of these endpoints.
fn median_us<'a>(endpoints: impl Iterator<Item = &'a EndpointPlan>, now: Millis) -> f32 {
    let seen = endpoints.filter_map(|endpoint| endpoint.state.latency.seen(now));
    let mut seen: Vec<f32> = seen.map(|seen| seen.micros).collect();
    if seen.is_empty() {
        return UNKNOWN_US;
    }
    let middle = (seen.len() - 1) / 2;
    *seen.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// A worker's copy of the median, so that a pick does not look at every endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Median {
    us: f32,
    found: Millis,
}

impl Median {
    pub fn get<'a>(&mut self, endpoints: impl Iterator<Item = &'a EndpointPlan>, now: Millis) -> f32 {
        if self.found == Millis::NEVER || now.0 >= self.found.0 + MEDIAN_MS {
            *self = Self {
                us: median_us(endpoints, now),
                found: now,
            };
        }
        self.us
    }
}
