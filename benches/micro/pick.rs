//! Choosing an endpoint: what each algorithm costs with few and with many endpoints.

use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tidegate::base::clock::Millis;
use tidegate::config::choices::Choice;
use tidegate::config::model::{Balance, HashKey, Pool};
use tidegate::upstream::shared::balancer::Balancer;
use tidegate::upstream::shared::{
    AdminState, Ask, EndpointKey, EndpointPlan, EndpointState, Hashing, UpstreamPlan,
};

fn plan(balance: Balance, count: usize) -> UpstreamPlan {
    let endpoints: Vec<_> = (0..count)
        .map(|i| {
            let key = EndpointKey {
                upstream: "u".into(),
                address: format!("10.0.{}.{}:80", i / 256, i % 256).into(),
            };
            let authority = key.address.clone();
            let state = Arc::new(EndpointState::new(key, vec![]));
            state.latency.answered(Duration::from_millis(10), Millis(1));
            EndpointPlan {
                state,
                weight: 1 + (i % 3) as u32,
                backup: false,
                admin: AdminState::Active,
                max_connections: 0,
                authority,
                server_name: None,
            }
        })
        .collect();
    UpstreamPlan {
        name: "u".into(),
        balance,
        hashing: Hashing::new(balance, HashKey::Uri, 1.25, None, &endpoints),
        endpoints,
        dial: Default::default(),
        sticky: None,
        health: None,
        pool: Pool {
            idle_per_worker: 64,
            idle_timeout: Duration::from_secs(55),
            max_requests: 0,
            max_age: Duration::ZERO,
        },
        resilience: Default::default(),
    }
}

pub fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for balance in [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::RandomTwo,
        Balance::LeastTime,
        Balance::Adaptive,
        Balance::Hash,
        Balance::First,
    ] {
        for count in [3, 30, 1000] {
            let plan = plan(balance, count);
            let mut balancer = Balancer::new(&plan, 7);
            // As in the gateway, the filter looks at how each endpoint stands.
            let good = |index: usize| plan.endpoints[index].state.standing.is_good(Millis(1));
            let mut ask = Ask {
                now: Millis(1),
                key: Some(0),
            };
            group.bench_function(BenchmarkId::new(balance.name(), count), |b| {
                b.iter(|| {
                    ask.key = ask.key.map(|key| key + 1);
                    black_box(balancer.pick(&plan, ask, good))
                });
            });
        }
    }
    group.finish();
}
