//! Tells the rest of the gateway what is registered: endpoints, events of those that end, the file.

use super::{Instance, Services, file};
use crate::control::gateway::Gateway;
use crate::telemetry::events::Severity;
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long what is different waits to be written down, so that many heartbeats are one writing.
const LATER: Duration = Duration::from_millis(500);
/// Longest sleep when nothing is due; the clock may be set meanwhile.
const IDLE: Duration = Duration::from_secs(5);
/// Ends that are told one by one at a time.
const TOLD: usize = 20;

/// Offers what is registered to the upstreams. Whether that is different from before.
pub fn offer(gateway: &Gateway) -> bool {
    let offers = gateway.services.offers();
    let changed = offers.is_some_and(|offers| gateway.names.directory.offer(offers));
    if changed {
        gateway.upstreams_changed.notify_one();
    }
    changed
}

/// Follows the registrations until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let services = &gateway.services;
    let mut write_at: Option<Instant> = None;
    loop {
        let deaf = !gateway.cluster.bus.state().works();
        let over = services.expire(Timestamp::now(), deaf);
        tell(&gateway, &over);
        offer(&gateway);
        let idle = Instant::now() + sleep(services);
        tokio::select! {
            () = services.changed.notified() => {
                write_at.get_or_insert_with(|| Instant::now() + LATER);
            }
            () = tokio::time::sleep_until(write_at.unwrap_or(idle).min(idle)) => {
                if write_at.is_none_or(|at| at <= Instant::now()) {
                    write_at = None;
                    keep(&gateway).await;
                }
            }
        }
    }
}

fn sleep(services: &Services) -> Duration {
    let left = services
        .next_end()
        .map(|end| end.duration_since(Timestamp::now()));
    let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
    // A moment later than its end, so that it is over then.
    left.map_or(IDLE, |left| (left + Duration::from_millis(2)).min(IDLE))
}

fn tell(gateway: &Gateway, over: &[Instance]) {
    for instance in over.iter().take(TOLD) {
        let service = &instance.service;
        gateway.journal.events.post(
            "service.expired",
            Severity::Warning,
            format!("{}/{}", service.name, service.id),
            format!(
                "{} was not renewed since {}",
                service.socket(),
                instance.last_heartbeat
            ),
            json!({ "ttl_s": service.ttl.as_secs_f64(), "node_id": service.node_id }),
        );
    }
    if over.len() > TOLD {
        let text = format!("{} others were not renewed either", over.len() - TOLD);
        gateway
            .journal
            .note(Severity::Warning, "service.expired", "", text);
    }
}

/// Writes everything down, when something is different.
pub async fn keep(gateway: &Gateway) {
    let Some(directory) = gateway.node.state_dir.clone() else {
        return;
    };
    let Some(instances) = gateway.services.unkept() else {
        return;
    };
    let saved = tokio::task::spawn_blocking(move || file::save(&directory, &instances)).await;
    if !matches!(saved, Ok(Ok(()))) {
        tracing::debug!("the registered services could not be kept");
    }
}
