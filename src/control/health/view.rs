//! The checks of endpoints as the API and the scrape show them.

use crate::base::clock::Millis;
use crate::control::status::{HealthStatus, ProbeStatus};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{Encoder, catalogue};
use crate::upstream::shared::EndpointState;
use crate::upstream::shared::health::{Failure, Probe, Record};
use crate::upstream::shared::standing::Health;

/// What its checks say of an endpoint; `None` where nobody checks.
#[must_use]
pub fn of(state: &EndpointState) -> Option<HealthStatus> {
    let now = Millis::now();
    state.checks.lock().as_deref().map(|record| {
        let (passes, failures) = record.streaks();
        HealthStatus {
            state: word(record.verdict()),
            since: text(record.since()),
            reason: record.reason().map(ToString::to_string),
            held_until: record.held_until(now).map(text),
            flaps: record.flaps(),
            passes_in_a_row: passes,
            failures_in_a_row: failures,
            probes: record.counts().filter(|(_, count)| *count > 0).collect(),
            probes_skipped: record.skipped(),
            next_probe: text(record.next_probe.max(now)),
            last_results: record.results().rev().map(result).collect(),
        }
    })
}

fn result(probe: &Probe) -> ProbeStatus {
    let failure = probe.outcome.as_ref().err();
    ProbeStatus {
        at: text(probe.began),
        passed: failure.is_none(),
        latency_ms: probe.took.as_micros() as f64 / 1000.0,
        status: probe.status,
        cause: failure.map(Failure::token),
        reason: failure.map(ToString::to_string),
    }
}

const fn word(health: Health) -> &'static str {
    match health {
        Health::Unchecked => "unchecked",
        Health::Pending => "pending",
        Health::Healthy => "healthy",
        Health::Unhealthy | Health::Held => "unhealthy",
    }
}

/// RFC 3339.
fn text(at: Millis) -> String {
    format!("{:.3}", at.timestamp())
}

/// Adds the families of checks to a scrape.
pub fn families(snapshot: &Snapshot, encoder: &mut Encoder) {
    let now = Millis::now();
    encoder.family(&catalogue::UPSTREAM_FAIL_OPEN, |samples| {
        for upstream in &snapshot.upstreams {
            samples.add(&[&upstream.name], upstream.fails_open(now));
        }
    });
    let each = |visit: &mut dyn FnMut(&EndpointState, &Record)| {
        for endpoint in snapshot.upstreams.iter().flat_map(|upstream| &upstream.endpoints) {
            if let Some(record) = endpoint.state.checks.lock().as_deref() {
                visit(&endpoint.state, record);
            }
        }
    };
    encoder.family(&catalogue::ENDPOINT_HEALTH, |samples| {
        each(&mut |state, record| {
            let healthy = record.verdict() == Health::Healthy;
            samples.add(&[&state.key.upstream, &state.key.address], healthy);
        });
    });
    encoder.family(&catalogue::ENDPOINT_HELD, |samples| {
        each(&mut |state, record| {
            let held = record.held_until(now).is_some();
            samples.add(&[&state.key.upstream, &state.key.address], held);
        });
    });
    encoder.family(&catalogue::ENDPOINT_FLAPS, |samples| {
        each(&mut |state, record| {
            samples.add(&[&state.key.upstream, &state.key.address], record.flaps());
        });
    });
    encoder.family(&catalogue::HEALTH_PROBES, |samples| {
        each(&mut |state, record| {
            for (result, count) in record
                .counts()
                .filter(|(result, n)| *n > 0 || *result == "passed")
            {
                samples.add(&[&state.key.upstream, &state.key.address, result], count);
            }
        });
    });
    encoder.family(&catalogue::HEALTH_PROBES_SKIPPED, |samples| {
        each(&mut |state, record| {
            samples.add(&[&state.key.upstream, &state.key.address], record.skipped());
        });
    });
    encoder.family(&catalogue::HEALTH_PROBE_DURATION, |samples| {
        each(&mut |state, record| {
            samples.histogram(
                &[&state.key.upstream, &state.key.address],
                &record.latency.counts(),
            );
        });
    });
}
