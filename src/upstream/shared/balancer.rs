//! Which endpoint next: pure algorithms over weights, loads, times and a filter.
//!
//! A balancer knows the endpoints that are meant to take requests; whether one may be picked just now (it is well,
//! was not tried yet, has room) is the filter's word. Primary endpoints come first, backups only when no primary
//! passes.
//!
//! | algorithm | picks | looks at |
//! |---|---|---|
//! | `round_robin`, `weighted` | whose turn it is, smoothly by weight | the heap's top |
//! | `least_connections` | fewest requests and tunnels per weight | all up to [`MOST_SCANNED`], else [`SAMPLE`] drawn by weight |
//! | `random_two` | the less loaded of two drawn by weight | two |
//! | `least_time` | shortest latency × load per weight | as `least_connections` |
//! | `adaptive` | whose turn it is, unless another one is clearly better | it and [`RIVALS`] others |
//! | `ip_hash`, `hash` | the key's place on the ring, or the next with room | the ring |
//! | `first` | the first in the file | until one passes |

mod draw;
pub mod ring;
pub mod score;
mod wheel;

use super::plan::{EndpointPlan, UpstreamPlan};
use crate::base::clock::Millis;
use crate::config::model::Balance;
use draw::{Draw, Lottery};
use score::{Others, Score};
use wheel::Wheel;

/// Endpoints that are all looked at for the best of them.
pub const MOST_SCANNED: usize = 64;
/// Of more, so many are drawn for each pick. The best of these is nearly always among the best of all, and workers
/// that choose at the same time do not all choose the same.
pub const SAMPLE: usize = 16;
/// Others that the one whose turn it is must stand up to, for `adaptive`.
pub const RIVALS: usize = 3;
/// How much better a rival must be. Endpoints that are alike differ by chance, and chance shall not decide who works.
const CLEARLY: f32 = 1.25;
/// One pick in so many goes to an endpoint that was not heard of for a while, whatever is thought of it.
const EXPLORE: u32 = 100;
/// Not heard of, and nothing runs there: one request at most finds out.
const UNHEARD_MS: f32 = 1_000.0;

/// What a pick depends on besides the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub now: Millis,
    /// Hash of what the request, or its session, is known by; `None` where it has nothing of the kind.
    pub key: Option<u64>,
}

/// A worker's position in an upstream's algorithm. Workers start at random places, so that together they do not
/// send their first requests to the same endpoint.
#[derive(Clone, Debug)]
pub struct Balancer {
    primaries: Rank,
    backups: Rank,
    rng: fastrand::Rng,
}

impl Balancer {
    #[must_use]
    pub fn new(plan: &UpstreamPlan, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            primaries: Rank::new(plan, false, &mut rng),
            backups: Rank::new(plan, true, &mut rng),
            rng,
        }
    }

    /// A number from 0 to 1 by chance: that of this balancer, so that a copy of it draws the same.
    pub fn draw(&mut self) -> f64 {
        self.rng.f64()
    }

    /// Index of the endpoint for the next attempt, or `None` when none passes the filter.
    pub fn pick(&mut self, plan: &UpstreamPlan, ask: Ask, usable: impl Fn(usize) -> bool) -> Option<usize> {
        self.primaries
            .pick(plan, ask, &mut self.rng, &usable)
            .or_else(|| self.backups.pick(plan, ask, &mut self.rng, &usable))
    }
}

/// Primaries, or backups. A member is a position in `members`.
#[derive(Clone, Debug)]
struct Rank {
    /// Indexes of the endpoints that are meant to take requests, in the order of the file.
    members: Vec<u32>,
    backup: bool,
    wheel: Wheel,
    draw: Draw,
    others: Others,
}

impl Rank {
    fn new(plan: &UpstreamPlan, backup: bool, rng: &mut fastrand::Rng) -> Self {
        let open = plan.endpoints.iter().enumerate();
        let open = open.filter(|(_, endpoint)| endpoint.is_open() && endpoint.backup == backup);
        let (members, weights): (Vec<u32>, Vec<u32>) = open
            .map(|(index, endpoint)| (index as u32, endpoint.weight))
            .unzip();
        Self {
            wheel: Wheel::new(&weights, rng),
            draw: Draw::new(&weights),
            members,
            backup,
            others: Others::default(),
        }
    }

    fn pick(
        &mut self,
        plan: &UpstreamPlan,
        ask: Ask,
        rng: &mut fastrand::Rng,
        usable: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        // A session has a key too, whatever the others are picked by.
        if plan.hash_key().is_some() || ask.key.is_some() && plan.sticky.is_some() {
            return self.by_key(plan, ask.key, rng, usable);
        }
        let Self {
            members,
            wheel,
            draw,
            others,
            ..
        } = self;
        let endpoint = |member: usize| &plan.endpoints[members[member] as usize];
        let usable = |member: usize| usable(members[member] as usize);
        let mut others = || {
            let all = members.iter().map(|index| &plan.endpoints[*index as usize]);
            others.get(plan.balance, all, ask.now)
        };
        let picked = match plan.balance {
            Balance::LeastConnections => least(members.len(), draw, rng, usable, |member| {
                (load_per_weight(endpoint(member)), endpoint(member).weight)
            }),
            Balance::LeastTime => {
                let others = others();
                least(members.len(), draw, rng, usable, |member| {
                    let score = Score::of(plan.balance, endpoint(member), others, ask.now);
                    (f64::from(score.score), score.weight)
                })
            }
            Balance::RandomTwo => {
                less_loaded_of_two(draw, rng, usable, |member| load_per_weight(endpoint(member)))
            }
            Balance::Adaptive => {
                let others = others();
                adapt(wheel, draw, rng, usable, |member| {
                    Score::of(plan.balance, endpoint(member), others, ask.now)
                })
            }
            Balance::First => (0..members.len()).find(|member| usable(*member)),
            Balance::RoundRobin | Balance::Weighted | Balance::IpHash | Balance::Hash => wheel.turn(usable),
        };
        Some(members[picked?] as usize)
    }

    /// The endpoint that the ring has for the key. With a bound on the load, the next one on the ring that is within
    /// it: no more than so many times its share of all that runs.
    fn by_key(
        &self,
        plan: &UpstreamPlan,
        key: Option<u64>,
        rng: &mut fastrand::Rng,
        usable: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let ring = plan.hashing.ring(self.backup);
        // Who has nothing to be known by goes anywhere.
        let key = key.unwrap_or_else(|| rng.u64(..));
        let home = ring.pick(key, usable)?;
        let bound = plan.hashing.bounded_load;
        if bound <= 0.0 || plan.endpoints[home].state.load() == 0 {
            return Some(home);
        }
        let (mut load, mut weight) = (1.0, 0.0);
        for index in self
            .members
            .iter()
            .map(|index| *index as usize)
            .filter(|index| usable(*index))
        {
            load += f64::from(plan.endpoints[index].state.load());
            weight += f64::from(plan.endpoints[index].weight);
        }
        let has_room = |index: usize| {
            let endpoint = &plan.endpoints[index];
            let most = (bound * load * f64::from(endpoint.weight) / weight).ceil();
            f64::from(endpoint.state.load()) < most
        };
        ring.pick(key, |index| usable(index) && has_room(index))
            .or(Some(home))
    }
}

fn load_per_weight(endpoint: &EndpointPlan) -> f64 {
    f64::from(endpoint.state.load()) / f64::from(endpoint.weight.max(1))
}

/// The lowest cost; among equals a random one, so that workers do not all choose the same idle endpoint. `cost` also
/// tells the weight.
fn least(
    count: usize,
    draw: &Draw,
    rng: &mut fastrand::Rng,
    usable: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> (f64, u32),
) -> Option<usize> {
    let mut lowest = f64::INFINITY;
    let mut equals = Lottery::default();
    let mut consider = |member: usize, rng: &mut fastrand::Rng| {
        let (cost, weight) = cost(member);
        if cost < lowest {
            lowest = cost;
            equals = Lottery::default();
        }
        if cost <= lowest {
            equals.enter(member, u64::from(weight), rng);
        }
    };
    if count <= MOST_SCANNED {
        for member in (0..count).filter(|member| usable(*member)) {
            consider(member, rng);
        }
    } else {
        for _ in 0..SAMPLE {
            consider(draw.draw(rng, &usable)?, rng);
        }
    }
    equals.winner
}

fn less_loaded_of_two(
    draw: &Draw,
    rng: &mut fastrand::Rng,
    usable: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> f64,
) -> Option<usize> {
    let first = draw.draw(rng, &usable)?;
    let second = draw.draw(rng, |member| member != first && usable(member));
    // Among equals the first, which was drawn by weight.
    second
        .filter(|second| cost(*second) < cost(first))
        .or(Some(first))
}

/// Turns by weight, from which a pick departs for a reason: another one is clearly better, or was not heard of for a
/// while. So endpoints that are alike are treated alike, and none is forgotten.
fn adapt(
    wheel: &mut Wheel,
    draw: &Draw,
    rng: &mut fastrand::Rng,
    usable: impl Fn(usize) -> bool,
    score: impl Fn(usize) -> Score,
) -> Option<usize> {
    let turn = wheel.turn(&usable)?;
    if rng.u32(0..EXPLORE) == 0
        && let Some(member) = draw.draw(rng, &usable)
    {
        let score = score(member);
        if score.load == 0 && score.age_ms.is_none_or(|age| age > UNHEARD_MS) {
            return Some(member);
        }
    }
    let mut best = turn;
    let mut lowest = score(turn).score / CLEARLY;
    for _ in 0..RIVALS {
        let Some(rival) = draw.draw(rng, |member| member != turn && usable(member)) else {
            break;
        };
        let score = score(rival).score;
        if score < lowest {
            (best, lowest) = (rival, score);
        }
    }
    Some(best)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;
