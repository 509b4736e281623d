//! Which endpoint next: pure algorithms over weights, loads and a filter.
//!
//! A balancer orders candidates; whether one may be used (its weight is above 0, it was not tried yet) is the
//! filter's word. Primary endpoints come first, backups only when no primary passes.

use super::plan::{EndpointPlan, UpstreamPlan};
use crate::config::model::Balance;

/// A worker's position in an upstream's algorithm. Workers start at random places, so that together they do not
/// send their first requests to the same endpoint.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// Smooth weighted round robin: each endpoint's current weight.
    current: Vec<i64>,
    rng: fastrand::Rng,
}

impl Balancer {
    #[must_use]
    pub fn new(plan: &UpstreamPlan, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut balancer = Self {
            current: vec![0; plan.endpoints.len()],
            rng: rng.fork(),
        };
        let total: u64 = plan.endpoints.iter().map(|e| u64::from(e.weight)).sum();
        // Turn the wheel to a random position; more turns than one round of a small upstream change nothing.
        const MAX_TURNS: u64 = 64;
        if total > 0 {
            for _ in 0..rng.u64(0..total.min(MAX_TURNS)) {
                balancer.turn(&plan.endpoints, |index| !plan.endpoints[index].backup);
            }
        }
        balancer
    }

    /// Index of the endpoint for the next attempt, or `None` when none passes the filter.
    pub fn pick(&mut self, plan: &UpstreamPlan, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let endpoints = &plan.endpoints;
        let open = |index: usize| endpoints[index].is_open() && usable(index);
        self.pick_from(plan, |index| !endpoints[index].backup && open(index))
            .or_else(|| self.pick_from(plan, |index| endpoints[index].backup && open(index)))
    }

    fn pick_from(&mut self, plan: &UpstreamPlan, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match plan.balance {
            Balance::RoundRobin | Balance::Weighted => self.turn(&plan.endpoints, usable),
            Balance::LeastConnections => self.least_loaded(&plan.endpoints, usable),
        }
    }

    /// Smooth weighted round robin, as nginx made it known: raise each by its weight, take the highest, lower it
    /// by the sum. A 5:1:1 upstream gets a a b a c a a, never five in a row and then the others.
    fn turn(&mut self, endpoints: &[EndpointPlan], usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (index, endpoint) in endpoints.iter().enumerate() {
            if !usable(index) {
                continue;
            }
            let weight = i64::from(endpoint.weight);
            self.current[index] += weight;
            total += weight;
            if best.is_none_or(|b| self.current[index] > self.current[b]) {
                best = Some(index);
            }
        }
        let best = best?;
        self.current[best] -= total;
        Some(best)
    }

    /// Fewest requests and tunnels per weight; among equals a random one, so that workers do not all choose the
    /// same idle endpoint.
    fn least_loaded(&mut self, endpoints: &[EndpointPlan], usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(usize, u64, u64)> = None;
        let mut equals = 0;
        for (index, endpoint) in endpoints.iter().enumerate() {
            if !usable(index) {
                continue;
            }
            // (load + 1) / weight, compared crosswise; with +1 the heavier of two idle endpoints comes first.
            let (load, weight) = (u64::from(endpoint.state.load()) + 1, u64::from(endpoint.weight));
            let order = best.map_or(std::cmp::Ordering::Less, |(_, l, w)| {
                (load * w).cmp(&(l * weight))
            });
            match order {
                std::cmp::Ordering::Less => {
                    best = Some((index, load, weight));
                    equals = 1;
                }
                std::cmp::Ordering::Equal => {
                    equals += 1;
                    if self.rng.u32(0..equals) == 0 {
                        best = Some((index, load, weight));
                    }
                }
                std::cmp::Ordering::Greater => {}
            }
        }
        best.map(|(index, ..)| index)
    }
}

#[cfg(test)]
mod tests;
