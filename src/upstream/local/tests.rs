use super::*;
use crate::config::model::Balance;
use crate::upstream::shared::balancer::tests::{ALL, endpoint, plan_of};
use crate::upstream::shared::standing::Health;
use std::time::Duration;

/// Endpoints of all kinds: light and heavy, backups, with and without a limit, new, warm and ejected.
fn some_upstream(balance: Balance, rng: &mut fastrand::Rng) -> Rc<LocalUpstream> {
    let limited = rng.bool();
    let endpoints: Vec<_> = (0..6)
        .map(|n| {
            let mut endpoint = endpoint(format!("e{n}:80"), rng.u32(..4), n > 3);
            endpoint.max_connections = if limited { rng.u32(..4) } else { 0 };
            let standing = &endpoint.state.standing;
            standing.came_in(Millis(rng.u64(..20_000)));
            if rng.u32(..4) == 0 {
                standing.eject(Millis(1), Millis(rng.u64(..15_000)));
            }
            endpoint
        })
        .collect();
    let mut plan = plan_of(balance, [0.0, 1.25][rng.usize(..2)], endpoints);
    plan.resilience.slow_start = [Duration::ZERO, Duration::from_secs(10)][rng.usize(..2)];
    plan.resilience.limited = limited;
    let metrics = WorkerMetrics::new(0);
    Endpoints::default()
        .rebuild(&[Arc::new(plan)], &metrics)
        .remove(0)
}

#[test]
fn what_is_previewed_is_what_is_picked_for_every_algorithm_and_state() {
    let mut rng = fastrand::Rng::with_seed(20_261_121);
    for balance in ALL {
        let mut picked = 0;
        for _ in 0..50 {
            let upstream = some_upstream(balance, &mut rng);
            let mut now = Millis(10_000);
            let mut running = Vec::new();
            for _ in 0..200 {
                let ask = Ask {
                    now,
                    key: rng.bool().then(|| rng.u64(..)),
                };
                let told = upstream.preview(ask);
                match upstream.take(&[], ask) {
                    Taken::At(index, in_flight) => {
                        assert_eq!(told, Some(index), "{balance:?}");
                        picked += 1;
                        let latency = &upstream.endpoints[index].state.latency;
                        let slowest = 1 << rng.u32(8..16);
                        let took = Duration::from_micros(rng.u64(100..slowest));
                        match rng.u32(..8) {
                            0 => latency.failed(took, now),
                            _ => latency.answered(took, now),
                        }
                        running.push(in_flight);
                    }
                    Taken::Full | Taken::Nobody => assert_eq!(told, None, "{balance:?}"),
                }
                while running.len() > 8 || !running.is_empty() && rng.bool() {
                    running.swap_remove(rng.usize(..running.len()));
                }
                now = now.plus(Duration::from_millis(rng.u64(..100)));
            }
        }
        assert!(picked > 5_000, "{balance:?}: {picked}");
    }
}

#[test]
fn where_nobody_is_well_those_that_only_came_and_went_are_picked_and_others_where_there_are_none() {
    use Health::{Healthy, Held, Unhealthy};
    let now = Millis(10);
    for (health, fallback, picked) in [
        ([Healthy, Held, Unhealthy], Fallback::None, &[0][..]),
        ([Held, Unhealthy, Held], Fallback::Held, &[0, 2]),
        ([Unhealthy, Unhealthy, Held], Fallback::Held, &[2]),
        ([Unhealthy; 3], Fallback::All, &[0, 1, 2]),
    ] {
        let endpoints = (0..3).map(|n| endpoint(format!("e{n}:80"), 1, false)).collect();
        let plan = Arc::new(plan_of(Balance::RoundRobin, 0.0, endpoints));
        for (endpoint, health) in plan.endpoints.iter().zip(health) {
            endpoint.state.standing.set_health(health);
        }
        assert_eq!(plan.fallback(now), fallback);
        assert_eq!(plan.fails_open(now), fallback == Fallback::All);
        let metrics = WorkerMetrics::new(0);
        let upstream = Endpoints::default().rebuild(&[plan], &metrics).remove(0);
        let mut all: Vec<usize> = (0..9)
            .filter_map(|_| upstream.pick(&[], Ask { now, key: None }))
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, picked, "{health:?}");
    }
    let nobody = plan_of(Balance::RoundRobin, 0.0, Vec::new());
    assert_eq!(nobody.fallback(now), Fallback::None);
}
