//! Choosing an endpoint: what each algorithm costs with few and with many endpoints.

use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tidegate::config::model::{Balance, Pool};
use tidegate::upstream::shared::balancer::Balancer;
use tidegate::upstream::shared::{AdminState, EndpointKey, EndpointPlan, EndpointState, UpstreamPlan};

fn plan(balance: Balance, count: usize) -> UpstreamPlan {
    let endpoints = (0..count)
        .map(|i| {
            let key = EndpointKey {
                upstream: "u".into(),
                address: format!("10.0.{}.{}:80", i / 256, i % 256).into(),
            };
            let authority = key.address.clone();
            let state = Arc::new(EndpointState::new(key, vec![]));
            EndpointPlan {
                state,
                weight: 1 + (i % 3) as u32,
                backup: false,
                admin: AdminState::Active,
                authority,
            }
        })
        .collect();
    let pool = Pool {
        idle_per_worker: 64,
        idle_timeout: Duration::from_secs(55),
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

pub fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for (name, balance) in [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
    ] {
        for count in [3, 30, 1000] {
            let plan = plan(balance, count);
            let mut balancer = Balancer::new(&plan, 7);
            group.bench_with_input(BenchmarkId::new(name, count), &plan, |b, plan| {
                b.iter(|| black_box(balancer.pick(plan, |_| true)));
            });
        }
    }
    group.finish();
}
