//! What happened on this gateway, put into the cluster's log. What happens while the store is away is kept by the ring
//! of events and appended later, at its own time and marked as late; what the ring no longer has by then is told as
//! lost.

use crate::cluster::store::MAX_EVENT;
use crate::control::gateway::Gateway;
use crate::telemetry::events::Event;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Events read at a time.
const PAGE: usize = 64;
/// How long a refused or unanswered append waits.
const AGAIN: Duration = Duration::from_secs(1);
/// One that could not be appended within this time is late.
const LATE: Duration = Duration::from_secs(2);
/// Longest text of an event in the log.
const MAX_TEXT: usize = 2048;

/// Appends until the events end.
pub async fn run(gateway: Arc<Gateway>) {
    let events = Arc::clone(&gateway.journal.events);
    let mut feed = events.subscribe();
    let mut read = 0;
    let mut failing: Option<Instant> = None;
    loop {
        let page = events.list(read, PAGE);
        if page.lost > 0 && read > 0 {
            let lost = record(&gateway, None, page.lost);
            if append(&gateway, &lost).await.is_err() {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            // Told once.
            read = page.events.first().map_or(page.read_to, |first| first.id - 1);
        }
        for event in &page.events {
            let late = failing.is_some_and(|since| since.elapsed() > LATE);
            let told = told(&gateway, event, late);
            match append(&gateway, &told).await {
                Ok(()) => {
                    read = event.id;
                    if !late {
                        failing = None;
                    }
                }
                Err(()) => {
                    failing.get_or_insert_with(Instant::now);
                    break;
                }
            }
        }
        if page.events.last().is_some_and(|last| last.id == read) {
            // All that waited is there.
            if events.last_id() == read {
                failing = None;
            }
            continue;
        }
        if page.events.is_empty() {
            read = page.read_to;
            if feed.next().await.is_none() {
                return;
            }
        } else {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn append(gateway: &Gateway, told: &Value) -> Result<(), ()> {
    let bytes = serde_json::to_vec(told).unwrap_or_default();
    if bytes.len() > MAX_EVENT {
        // Cut to size before; its data is what is left.
        let mut short = told.clone();
        short["data"] = Value::Null;
        let bytes = serde_json::to_vec(&short).unwrap_or_default();
        return put(gateway, bytes.into()).await;
    }
    put(gateway, bytes.into()).await
}

async fn put(gateway: &Gateway, bytes: Bytes) -> Result<(), ()> {
    match gateway.cluster.bus.append(bytes).await {
        Ok(_) => Ok(()),
        Err(error) if error.passes() => Err(()),
        Err(error) => {
            tracing::debug!(%error, "an event is not in the cluster's log");
            Err(())
        }
    }
}

fn told(gateway: &Gateway, event: &Event, late: bool) -> Value {
    let mut told = serde_json::to_value(event).unwrap_or_default();
    told["reason"] = Value::from(shortened(&event.reason));
    told["target"] = Value::from(shortened(&event.target));
    told["node"] = Value::from(gateway.cluster.bus.node().as_str());
    told["run"] = Value::from(gateway.node.started.as_millisecond());
    if late {
        told["late"] = Value::from(true);
    }
    told
}

fn record(gateway: &Gateway, target: Option<&str>, lost: u64) -> Value {
    json!({
        "id": 0,
        "ts": jiff::Timestamp::now().to_string(),
        "type": "events.lost",
        "severity": "warning",
        "target": target.unwrap_or_default(),
        "reason": format!("{lost} events of this gateway came while the cluster's log was away, and are not in it"),
        "data": { "lost": lost },
        "node": gateway.cluster.bus.node().as_str(),
    })
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
