use super::*;
use crate::config::model::Pool;
use crate::upstream::shared::AdminState;
use crate::upstream::shared::state::{EndpointKey, EndpointState};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

fn plan(balance: Balance, weights: &[(u32, bool)]) -> UpstreamPlan {
    let endpoints = weights
        .iter()
        .enumerate()
        .map(|(i, &(weight, backup))| {
            let key = EndpointKey {
                upstream: "u".into(),
                address: format!("10.0.0.{i}:80").into(),
            };
            EndpointPlan {
                authority: key.address.clone(),
                state: Arc::new(EndpointState::new(key, vec![])),
                weight,
                backup,
                admin: AdminState::Active,
            }
        })
        .collect();
    let pool = Pool {
        idle_per_worker: 1,
        idle_timeout: Duration::from_secs(1),
        max_requests: 0,
    };
    UpstreamPlan {
        name: "u".into(),
        balance,
        endpoints,
        pool,
        health: None,
    }
}

#[test]
fn weights_five_one_one_never_burst() {
    let plan = plan(Balance::Weighted, &[(5, false), (1, false), (1, false)]);
    let mut balancer = Balancer::new(&plan, 1);
    balancer.current = vec![0; 3];
    let picks: Vec<_> = (0..7).filter_map(|_| balancer.pick(&plan, |_| true)).collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn workers_start_at_different_endpoints() {
    let plan = plan(Balance::RoundRobin, &[(1, false); 4]);
    let firsts: std::collections::HashSet<_> = (0..64)
        .filter_map(|seed| Balancer::new(&plan, seed).pick(&plan, |_| true))
        .collect();
    assert_eq!(firsts.len(), 4);
}

#[test]
fn backups_serve_only_when_no_primary_can() {
    let plan = plan(Balance::RoundRobin, &[(1, false), (1, true)]);
    let mut balancer = Balancer::new(&plan, 3);
    assert!((0..10).all(|_| balancer.pick(&plan, |_| true) == Some(0)));
    assert_eq!(balancer.pick(&plan, |i| i != 0), Some(1));
    assert_eq!(balancer.pick(&plan, |_| false), None);
}

#[test]
fn least_connections_counts_requests_and_tunnels_per_weight() {
    let plan = plan(Balance::LeastConnections, &[(2, false), (1, false), (1, false)]);
    let mut balancer = Balancer::new(&plan, 3);
    plan.endpoints[0].state.request_started();
    plan.endpoints[1].state.tunnel_opened();
    assert_eq!(
        balancer.pick(&plan, |i| i < 2),
        Some(0),
        "(1+1)/2 is less than (1+1)/1"
    );
    plan.endpoints[0].state.request_started();
    plan.endpoints[0].state.request_started();
    assert_eq!(balancer.pick(&plan, |_| true), Some(2));
}

#[test]
fn least_connections_spreads_over_equal_endpoints() {
    let plan = plan(Balance::LeastConnections, &[(1, false); 4]);
    let mut balancer = Balancer::new(&plan, 9);
    let mut counts = [0; 4];
    for _ in 0..4000 {
        counts[balancer.pick(&plan, |_| true).unwrap()] += 1;
    }
    assert!(counts.iter().all(|&c| (800..1200).contains(&c)), "{counts:?}");
}

proptest! {
    #[test]
    fn each_round_gives_every_endpoint_exactly_its_weight(weights in prop::collection::vec(0u32..8, 1..8), seed: u64) {
        let total: u32 = weights.iter().sum();
        let plan = plan(Balance::RoundRobin, &weights.iter().map(|&w| (w, false)).collect::<Vec<_>>());
        let mut balancer = Balancer::new(&plan, seed);
        let mut counts = vec![0; weights.len()];
        for _ in 0..total * 3 {
            counts[balancer.pick(&plan, |_| true).unwrap()] += 1;
        }
        prop_assert_eq!(counts, weights.iter().map(|w| w * 3).collect::<Vec<_>>());
    }
}
