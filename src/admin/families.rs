//! Families of a scrape that are not counted by workers: what upstreams do about failures and about too much.

use crate::base::clock::Millis;
use crate::control::acme::view::OrderView;
use crate::control::rebalance::Rebalances;
use crate::control::services::{Query, Services};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{Encoder, catalogue};
use crate::upstream::shared::breaker::BreakerState;
use crate::upstream::shared::rebalance::Round;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// Adds them to a scrape.
pub(super) fn resilience(snapshot: &Snapshot, encoder: &mut Encoder) {
    ejections(snapshot, encoder);
    breakers(snapshot, encoder);
    queues(snapshot, encoder);
    encoder.family(&catalogue::UPSTREAM_UNVERIFIED, |samples| {
        for plan in &snapshot.upstreams {
            if let Some(tls) = &plan.dial.tls {
                samples.add(&[&plan.name], u64::from(!tls.is_verified()));
            }
        }
    });
}

/// Adds how far tunnels are with going to endpoints that joined.
pub(super) fn rebalance(rounds: &Rebalances, snapshot: &Snapshot, encoder: &mut Encoder) {
    let rounds: Vec<(&str, Round)> = snapshot
        .upstreams
        .iter()
        .filter_map(|plan| Some((&*plan.name, rounds.progress(&plan.name)?.round)))
        .collect();
    encoder.family(&catalogue::REBALANCE_SURPLUS, |samples| {
        for (upstream, round) in &rounds {
            samples.add(&[upstream], u64::from(round.surplus));
        }
    });
    encoder.family(&catalogue::REBALANCE_ASKED, |samples| {
        for (upstream, round) in &rounds {
            samples.add(&[upstream], round.asked);
        }
    });
}

/// Adds how getting certificates goes.
pub(super) fn orders(orders: &[OrderView], encoder: &mut Encoder) {
    let shown: Vec<(String, &OrderView)> = orders
        .iter()
        .map(|order| (order.names.join(","), order))
        .collect();
    encoder.family(&catalogue::ACME_NEXT_ORDER, |samples| {
        for (names, order) in &shown {
            samples.add(&[names], order.due);
        }
    });
    encoder.family(&catalogue::ACME_FAILING, |samples| {
        for (names, order) in &shown {
            samples.add(&[names], u64::from(order.failures));
        }
    });
}

/// Adds what registered itself.
pub(super) fn services(services: &Services, encoder: &mut Encoder) {
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for instance in services.find(&Query::default()) {
        let service = instance.service;
        *counts.entry((service.name, service.health.name())).or_default() += 1;
    }
    encoder.family(&catalogue::SERVICES, |samples| {
        for ((name, health), count) in &counts {
            samples.add(&[name, health], *count);
        }
    });
}

/// When certificates run out.
pub(super) fn certificates(snapshot: &Snapshot, encoder: &mut Encoder) {
    encoder.family(&catalogue::TLS_EXPIRY, |samples| {
        for listener in &snapshot.listeners {
            for certificate in listener.tls.iter().flat_map(|tls| tls.certificates()) {
                let file = certificate.path.display().to_string();
                samples.add(&[&listener.name, &file], certificate.not_after);
            }
        }
    });
}

fn ejections(snapshot: &Snapshot, encoder: &mut Encoder) {
    let endpoints = || {
        snapshot.upstreams.iter().flat_map(|plan| {
            let name = &*plan.name;
            plan.endpoints.iter().map(move |endpoint| (name, &endpoint.state))
        })
    };
    let now = Millis::now();
    encoder.family(&catalogue::ENDPOINT_EJECTED, |samples| {
        for (upstream, state) in endpoints() {
            samples.add(
                &[upstream, &state.key.address],
                state.standing.ejected_until() > now,
            );
        }
    });
    encoder.family(&catalogue::ENDPOINT_EJECTIONS, |samples| {
        for (upstream, state) in endpoints() {
            samples.add(&[upstream, &state.key.address], state.ejections.total());
        }
    });
}

fn breakers(snapshot: &Snapshot, encoder: &mut Encoder) {
    let now = Millis::now();
    encoder.family(&catalogue::BREAKER_STATE, |samples| {
        for plan in &snapshot.upstreams {
            let state: u64 = match plan.resilience.admission.breaker.state(now) {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            samples.add(&[&plan.name], state);
        }
    });
    encoder.family(&catalogue::BREAKER_OPENED, |samples| {
        for plan in &snapshot.upstreams {
            samples.add(&[&plan.name], plan.resilience.admission.breaker.opened());
        }
    });
    encoder.family(&catalogue::BREAKER_REFUSED, |samples| {
        for plan in &snapshot.upstreams {
            let admission = &plan.resilience.admission;
            samples.add(&[&plan.name, "open"], admission.breaker.refused());
            samples.add(&[&plan.name, "max_requests"], admission.crowded());
        }
    });
}

fn queues(snapshot: &Snapshot, encoder: &mut Encoder) {
    encoder.family(&catalogue::QUEUE_WAITING, |samples| {
        for plan in &snapshot.upstreams {
            samples.add(&[&plan.name], plan.resilience.admission.queue.waiting() as u64);
        }
    });
    encoder.family(&catalogue::QUEUE_REQUESTS, |samples| {
        for plan in &snapshot.upstreams {
            let counts = &plan.resilience.admission.queue.counts;
            for (result, count) in [
                ("served", &counts.served),
                ("full", &counts.full),
                ("late", &counts.late),
            ] {
                samples.add(&[&plan.name, result], count.load(Relaxed));
            }
        }
    });
    encoder.family(&catalogue::QUEUE_WAIT, |samples| {
        for plan in &snapshot.upstreams {
            let ms = plan.resilience.admission.queue.counts.served_ms.load(Relaxed);
            samples.add(&[&plan.name], ms as f64 / 1000.0);
        }
    });
}
