mod by_key;
mod by_latency;

use super::*;
use crate::config::model::{HashKey, Pool};
use crate::upstream::shared::state::{EndpointKey, EndpointState};
use crate::upstream::shared::{AdminState, Hashing};
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const ALL: [Balance; 9] = [
    Balance::RoundRobin,
    Balance::Weighted,
    Balance::LeastConnections,
    Balance::RandomTwo,
    Balance::LeastTime,
    Balance::Adaptive,
    Balance::IpHash,
    Balance::Hash,
    Balance::First,
];

pub(crate) fn endpoint(address: String, weight: u32, backup: bool) -> EndpointPlan {
    let key = EndpointKey {
        upstream: "u".into(),
        address: address.into(),
    };
    EndpointPlan {
        authority: key.address.clone(),
        server_name: None,
        state: Arc::new(EndpointState::new(key, vec![])),
        weight,
        backup,
        admin: AdminState::Active,
        max_connections: 0,
    }
}

pub(crate) fn plan_of(balance: Balance, bounded_load: f64, endpoints: Vec<EndpointPlan>) -> UpstreamPlan {
    UpstreamPlan {
        name: "u".into(),
        balance,
        hashing: Hashing::new(balance, HashKey::ClientIp, bounded_load, None, &endpoints),
        endpoints,
        pool: Pool {
            idle_per_worker: 1,
            idle_timeout: Duration::from_secs(1),
            max_requests: 0,
            max_age: Duration::ZERO,
        },
        dial: Default::default(),
        sticky: None,
        health: None,
        resilience: Default::default(),
    }
}

fn plan(balance: Balance, weights: &[(u32, bool)]) -> UpstreamPlan {
    let endpoints = weights
        .iter()
        .enumerate()
        .map(|(i, &(weight, backup))| endpoint(format!("10.0.0.{i}:80"), weight, backup))
        .collect();
    plan_of(balance, 0.0, endpoints)
}

const fn ask(key: u64) -> Ask {
    Ask {
        now: Millis(1000),
        key: Some(key),
    }
}

/// Picks with a key of their own each, by endpoint.
fn counts(plan: &UpstreamPlan, seed: u64, picks: u64, usable: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut balancer = Balancer::new(plan, seed);
    let mut counts = vec![0; plan.endpoints.len()];
    for key in 0..picks {
        if let Some(index) = balancer.pick(plan, ask(key), &usable) {
            counts[index] += 1;
        }
    }
    counts
}

fn picks(plan: &UpstreamPlan, seed: u64, n: u64) -> String {
    let mut balancer = Balancer::new(plan, seed);
    let name = |index: usize| char::from(b'a' + index as u8);
    (0..n)
        .filter_map(|_| balancer.pick(plan, ask(0), |_| true).map(name))
        .collect()
}

// What holds for every algorithm.

#[test]
fn backups_serve_only_when_no_primary_can() {
    for balance in ALL {
        let plan = plan(balance, &[(1, false), (1, true)]);
        assert_eq!(counts(&plan, 3, 50, |_| true), [50, 0], "{balance:?}");
        assert_eq!(counts(&plan, 3, 50, |i| i != 0), [0, 50], "{balance:?}");
        assert_eq!(counts(&plan, 3, 50, |_| false), [0, 0], "{balance:?}");
    }
}

#[test]
fn nobody_of_weight_zero_or_out_of_service_is_picked() {
    for balance in ALL {
        let mut endpoints: Vec<_> = (0..4)
            .map(|i| endpoint(format!("e{i}:80"), u32::from(i != 0), false))
            .collect();
        endpoints[1].admin = AdminState::Draining;
        endpoints[2].admin = AdminState::Maintenance;
        let plan = plan_of(balance, 1.25, endpoints);
        assert_eq!(counts(&plan, 1, 50, |_| true), [0, 0, 0, 50], "{balance:?}");
        let none = plan_of(balance, 1.25, vec![endpoint("e:80".to_owned(), 0, false)]);
        assert_eq!(counts(&none, 1, 5, |_| true), [0]);
        assert_eq!(counts(&plan_of(balance, 1.25, vec![]), 1, 5, |_| true), [0; 0]);
    }
}

#[test]
fn equal_endpoints_get_equal_shares() {
    for balance in ALL.into_iter().filter(|balance| *balance != Balance::First) {
        let plan = plan(balance, &[(1, false); 5]);
        let counts = counts(&plan, 11, 10_000, |_| true);
        // A ring's shares differ by its points; the others by chance.
        let allowed = if plan.hash_key().is_some() {
            1400..2600
        } else {
            1880..2120
        };
        assert!(
            counts.iter().all(|c| allowed.contains(c)),
            "{balance:?}: {counts:?}"
        );
    }
}

#[test]
fn weights_are_shares_where_nothing_runs() {
    for balance in ALL
        .into_iter()
        .filter(|balance| !matches!(balance, Balance::First | Balance::LeastTime | Balance::Adaptive))
    {
        let plan = plan(balance, &[(6, false), (3, false), (1, false)]);
        let counts = counts(&plan, 5, 10_000, |_| true);
        let off = if plan.hash_key().is_some() { 900 } else { 200 };
        for (count, share) in counts.iter().zip([6000, 3000, 1000]) {
            assert!(count.abs_diff(share) < off, "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn the_same_place_gives_the_same_pick() {
    for balance in ALL {
        let plan = plan(balance, &[(1, false), (2, false), (3, false)]);
        let mut balancer = Balancer::new(&plan, 4);
        for key in 0..100 {
            let preview = balancer.clone().pick(&plan, ask(key), |_| true);
            assert_eq!(balancer.pick(&plan, ask(key), |_| true), preview, "{balance:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_pick_is_open_and_usable_and_there_is_one_whenever_somebody_is(
        endpoints in prop::collection::vec((0u32..4, any::<bool>(), any::<bool>(), 0u32..5), 0..100),
        algorithm in 0..ALL.len(),
        bounded in any::<bool>(),
        seed: u64,
    ) {
        let plans = endpoints.iter().enumerate().map(|(i, (weight, backup, ..))| {
            endpoint(format!("h{i}:1"), *weight, *backup)
        });
        let plan = plan_of(ALL[algorithm], if bounded { 1.25 } else { 0.0 }, plans.collect());
        for (plan, (.., load)) in plan.endpoints.iter().zip(&endpoints) {
            (0..*load).for_each(|_| plan.state.request_started());
        }
        let usable = |index: usize| endpoints[index].2;
        let somebody = plan.endpoints.iter().enumerate().any(|(i, e)| e.is_open() && usable(i));
        let primary = plan.endpoints.iter().enumerate().any(|(i, e)| e.is_open() && usable(i) && !e.backup);
        let mut balancer = Balancer::new(&plan, seed);
        for key in 0..20 {
            let picked = balancer.pick(&plan, ask(key), usable);
            prop_assert_eq!(picked.is_some(), somebody);
            if let Some(index) = picked {
                prop_assert!(plan.endpoints[index].is_open() && usable(index));
                prop_assert!(!(primary && plan.endpoints[index].backup));
            }
        }
    }
}

// Turns.

#[test]
fn weights_five_one_one_never_burst() {
    let plan = plan(Balance::Weighted, &[(5, false), (1, false), (1, false)]);
    for seed in 0..100 {
        let order = picks(&plan, seed, 70);
        assert!(
            !order.contains("aaaa") && !order.contains("bc") && !order.contains("cb"),
            "{order}"
        );
        let round: String = order.chars().take(7).collect();
        assert_eq!(round.repeat(10), order);
    }
}

#[test]
fn equal_endpoints_take_turns_in_the_order_of_the_file() {
    let plan = plan(Balance::RoundRobin, &[(3, false); 4]);
    let order = picks(&plan, 9, 40);
    assert!("abcd".repeat(11).contains(&order), "{order}");
}

#[test]
fn workers_start_at_different_endpoints() {
    let plan = plan(Balance::RoundRobin, &[(1, false); 4]);
    let firsts: HashSet<_> = (0..64).map(|seed| picks(&plan, seed, 1)).collect();
    assert_eq!(firsts.len(), 4);
}

#[test]
fn who_could_not_be_picked_does_not_make_up_for_it_later() {
    let plan = plan(Balance::RoundRobin, &[(1, false), (2, false), (3, false)]);
    let mut balancer = Balancer::new(&plan, 2);
    for _ in 0..1000 {
        balancer.pick(&plan, ask(0), |index| index != 2);
    }
    let mut counts = [0; 3];
    for _ in 0..12 {
        counts[balancer.pick(&plan, ask(0), |_| true).unwrap()] += 1;
    }
    assert!(counts[2] <= 7 && counts[0] >= 1, "{counts:?}");
}

#[test]
fn the_share_of_who_is_out_goes_to_the_others_by_weight() {
    let plan = plan(Balance::RoundRobin, &[(1, false); 4]);
    assert_eq!(counts(&plan, 1, 300, |index| index != 1), [100, 0, 100, 100]);
}

proptest! {
    #[test]
    fn each_round_gives_every_endpoint_exactly_its_weight(weights in prop::collection::vec(0u32..8, 1..8), seed: u64) {
        let total: u32 = weights.iter().sum();
        let plan = plan(Balance::RoundRobin, &weights.iter().map(|&w| (w, false)).collect::<Vec<_>>());
        let counts = counts(&plan, seed, u64::from(total * 3), |_| true);
        prop_assert_eq!(counts, weights.iter().map(|w| w * 3).collect::<Vec<_>>());
    }

    #[test]
    fn no_endpoint_is_ever_more_than_a_turn_ahead_of_its_share(weights in prop::collection::vec(1u32..1_000_000, 1..6), seed: u64) {
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let plan = plan(Balance::RoundRobin, &weights.iter().map(|&w| (w, false)).collect::<Vec<_>>());
        let mut balancer = Balancer::new(&plan, seed);
        let mut counts = vec![0f64; weights.len()];
        for picks in 1..=200 {
            counts[balancer.pick(&plan, ask(0), |_| true).unwrap()] += 1.0;
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(picks) * f64::from(*weight) / total;
                // One turn of one's own, and one of each other that came early.
                prop_assert!((count - share).abs() < 1.0 + weights.len() as f64, "{counts:?} of {weights:?}");
            }
        }
    }
}

// Loads.

#[test]
fn least_connections_counts_requests_and_tunnels_per_weight() {
    let plan = plan(Balance::LeastConnections, &[(2, false), (1, false), (1, false)]);
    plan.endpoints[0].state.request_started();
    plan.endpoints[1].state.tunnel_opened();
    assert_eq!(
        counts(&plan, 1, 20, |i| i < 2),
        [20, 0, 0],
        "a half is less than one"
    );
    plan.endpoints[0].state.request_started();
    plan.endpoints[0].state.tunnel_opened();
    assert_eq!(counts(&plan, 1, 20, |i| i < 2), [0, 20, 0]);
    assert_eq!(counts(&plan, 1, 20, |_| true), [0, 0, 20]);
}

#[test]
fn what_stays_is_spread_by_weight() {
    for balance in [Balance::LeastConnections, Balance::RandomTwo] {
        let plan = plan(balance, &[(3, false), (1, false), (1, false)]);
        let mut balancer = Balancer::new(&plan, 8);
        for _ in 0..500 {
            let index = balancer.pick(&plan, ask(0), |_| true).unwrap();
            plan.endpoints[index].state.tunnel_opened();
        }
        let loads: Vec<u32> = plan.endpoints.iter().map(|e| e.state.load()).collect();
        assert!(
            loads[0].abs_diff(300) < 5 && loads[1].abs_diff(100) < 5,
            "{balance:?}: {loads:?}"
        );
    }
}

#[test]
fn among_a_thousand_the_load_is_even_though_few_are_looked_at() {
    for (balance, most) in [(Balance::LeastConnections, 11), (Balance::RandomTwo, 14)] {
        let endpoints = (0..1000).map(|i| endpoint(format!("e{i}:1"), 1, false)).collect();
        let plan = plan_of(balance, 0.0, endpoints);
        let mut balancer = Balancer::new(&plan, 8);
        for _ in 0..10_000 {
            let index = balancer.pick(&plan, ask(0), |_| true).unwrap();
            plan.endpoints[index].state.request_started();
        }
        let highest = plan.endpoints.iter().map(|e| e.state.load()).max().unwrap();
        assert!(highest <= most, "{balance:?}: {highest}");
    }
}

#[test]
fn random_two_takes_the_less_loaded_of_two() {
    let plan = plan(Balance::RandomTwo, &[(1, false); 4]);
    plan.endpoints[0].state.request_started();
    let counts = counts(&plan, 3, 3000, |_| true);
    assert_eq!(counts[0], 0, "whomever it is compared with is less loaded");
    assert!(counts[1..].iter().all(|c| (850..1150).contains(c)), "{counts:?}");
}

// Times.

// Keys.

#[test]
fn first_goes_down_the_file() {
    let plan = plan(Balance::First, &[(1, false), (5, false), (1, true)]);
    assert_eq!(counts(&plan, 1, 10, |_| true), [10, 0, 0]);
    assert_eq!(counts(&plan, 1, 10, |index| index != 0), [0, 10, 0]);
    assert_eq!(counts(&plan, 1, 10, |index| index == 2), [0, 0, 10]);
}
