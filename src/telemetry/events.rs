//! The gateway's own events, for operators: what changed, and why. Plain data, in a bounded ring for those who
//! ask, and as a feed for those who listen; a listener too slow for the feed learns how many it lost.

use super::metrics::Metrics;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events kept for those who ask.
pub const RING: usize = 1024;

/// Events a listener may be behind.
pub const FEED: usize = 256;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

impl Severity {
    /// By its name in JSON.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "info" => Self::Info,
            "warning" => Self::Warning,
            "error" => Self::Error,
            _ => return None,
        })
    }
}

/// Which events are wanted; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Types, or what they begin with up to a dot: `endpoint` has `endpoint.ejected`. Empty: any.
    pub kinds: Vec<String>,
    /// At least so severe.
    pub severity: Option<Severity>,
    /// What it happened to, or what that belongs to: `app` has `app/10.0.0.1:80`.
    pub target: Option<String>,
    /// On this gateway, where those of several are told.
    pub node: Option<String>,
    /// Later than this.
    pub since: Option<Timestamp>,
}

impl Filter {
    #[must_use]
    pub fn admits(&self, event: &Event) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.iter().any(|kind| is_or_below(event.kind, kind, '.'));
        let target = self.target.as_ref();
        kind && self.severity.is_none_or(|least| event.severity >= least)
            && target.is_none_or(|target| is_or_below(&event.target, target, '/'))
            && self.since.is_none_or(|since| event.time > since)
    }
}

impl Filter {
    /// The same for an event as another gateway told it.
    #[must_use]
    pub fn admits_told(&self, event: &Value) -> bool {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let kind =
            self.kinds.is_empty() || self.kinds.iter().any(|kind| is_or_below(text("type"), kind, '.'));
        let severity = Severity::from_name(text("severity"));
        let target = self.target.as_ref();
        kind && self
            .severity
            .is_none_or(|least| severity.is_some_and(|severity| severity >= least))
            && target.is_none_or(|target| is_or_below(text("target"), target, '/'))
            && self.node.as_ref().is_none_or(|node| text("node") == node)
            && self
                .since
                .is_none_or(|since| text("ts").parse::<Timestamp>().is_ok_and(|at| at > since))
    }
}

fn is_or_below(name: &str, wanted: &str, separator: char) -> bool {
    name.strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

/// Something that happened to the gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Counts from 1 in each process; later events have higher ones.
    pub id: u64,
    #[serde(rename = "ts", serialize_with = "as_text")]
    pub time: Timestamp,
    /// Subject and verb, such as `config.applied`, `worker.replaced`, `listener.bound`, `drain.started`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub severity: Severity,
    /// What it happened to: the name of a listener, an endpoint, a worker. May be empty.
    pub target: String,
    /// Why, in a sentence. May be empty.
    pub reason: String,
    pub data: Value,
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

#[derive(Debug, Default)]
struct Ring {
    last_id: u64,
    events: VecDeque<Arc<Event>>,
}

/// All events of the process.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    feed: broadcast::Sender<Arc<Event>>,
    metrics: Arc<Metrics>,
}

/// Part of the ring.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order they happened.
    pub events: Vec<Arc<Event>>,
    /// Events after `since` that the ring no longer has.
    pub lost: u64,
    /// The number up to which the ring was looked through: where to go on.
    pub read_to: u64,
}

impl Events {
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            ring: Mutex::default(),
            feed: broadcast::Sender::new(FEED),
            metrics,
        })
    }

    /// Notes an event, tells the listeners, and writes it to the log.
    pub fn post(
        &self,
        kind: &'static str,
        severity: Severity,
        target: impl Into<String>,
        reason: impl Into<String>,
        data: Value,
    ) -> Arc<Event> {
        let mut ring = self.lock();
        ring.last_id += 1;
        let event = Arc::new(Event {
            id: ring.last_id,
            time: Timestamp::now(),
            kind,
            severity,
            target: target.into(),
            reason: reason.into(),
            data,
        });
        if ring.events.len() == RING {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::clone(&event));
        // Sent under the lock, so that the feed has the order of the ring.
        let _nobody_listens = self.feed.send(Arc::clone(&event));
        drop(ring);
        self.metrics.control.events.inc();
        log(&event);
        event
    }

    /// At most `limit` events with an id above `since`, the oldest first; `since` 0 is the beginning.
    #[must_use]
    pub fn list(&self, since: u64, limit: usize) -> Page {
        self.find(since, limit, &Filter::default())
    }

    /// The same, of those that a filter admits. What was lost is counted whatever it was.
    #[must_use]
    pub fn find(&self, since: u64, limit: usize, filter: &Filter) -> Page {
        let ring = self.lock();
        let oldest = ring.events.front().map_or(ring.last_id + 1, |e| e.id);
        let mut newer = ring.events.iter().skip_while(|e| e.id <= since);
        let wanted = newer.by_ref().filter(|e| filter.admits(e));
        let events: Vec<_> = wanted.take(limit).cloned().collect();
        let more = newer.next().is_some();
        Page {
            lost: oldest.saturating_sub(since.saturating_add(1)),
            read_to: match events.last() {
                Some(last) if more => last.id,
                _ => since.max(ring.last_id),
            },
            events,
        }
    }

    /// The number of the latest event; 0 before the first.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.lock().last_id
    }

    /// The latest `limit` events, the oldest first.
    #[must_use]
    pub fn latest(&self, limit: usize) -> Vec<Arc<Event>> {
        let ring = self.lock();
        let skipped = ring.events.len().saturating_sub(limit);
        ring.events.iter().skip(skipped).cloned().collect()
    }

    /// Listens to the events from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription {
            feed: self.feed.subscribe(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Whole after a panic too: an event is either in the ring or not.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With control characters escaped, because a reason may quote what somebody else wrote.
fn log(event: &Event) {
    let kind = event.kind;
    let object = Some(event.target.as_str()).filter(|t| !t.is_empty());
    let data = Some(&event.data)
        .filter(|d| !d.is_null())
        .map(tracing::field::display);
    let reason = on_one_line(&event.reason);
    match event.severity {
        Severity::Info => tracing::info!(event = kind, object, data, "{reason}"),
        Severity::Warning => tracing::warn!(event = kind, object, data, "{reason}"),
        Severity::Error => tracing::error!(event = kind, object, data, "{reason}"),
    }
}

/// A text that can neither end its line nor steer a terminal. Quotes stay: the log's own form sees to them.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Heard {
    Event(Arc<Event>),
    /// It was too slow, and so many events passed it by.
    Lost(u64),
}

/// One listener.
#[derive(Debug)]
pub struct Subscription {
    feed: broadcast::Receiver<Arc<Event>>,
    metrics: Arc<Metrics>,
}

impl Subscription {
    /// Waits for the next event; `None` when there will be none any more. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.feed.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(lost)) => {
                self.metrics.control.events_lost.add(lost);
                Some(Heard::Lost(lost))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(events: &Events, target: &str) -> u64 {
        let data = serde_json::json!({ "generation": 2 });
        events
            .post("config.applied", Severity::Info, target, "file changed", data)
            .id
    }

    #[test]
    fn a_reason_stays_on_its_line_and_reads_as_it_was_written() {
        assert_eq!(on_one_line("can't read \"x\""), "can't read \"x\"");
        assert_eq!(on_one_line("a\r\nb\u{1b}[31m"), "a\\r\\nb\\u{1b}[31m");
    }

    #[test]
    fn an_event_is_plain_json() {
        let events = Events::new(Metrics::new());
        post(&events, "main");
        let mut json = serde_json::to_value(&events.latest(1)[0]).unwrap();
        let ts = json["ts"].take();
        assert!(ts.as_str().unwrap().parse::<Timestamp>().is_ok());
        assert_eq!(
            json,
            serde_json::json!({ "id": 1, "ts": null, "type": "config.applied", "severity": "info",
                "target": "main", "reason": "file changed", "data": { "generation": 2 } })
        );
    }

    #[test]
    fn the_ring_is_bounded_and_says_what_it_no_longer_has() {
        let events = Events::new(Metrics::new());
        for _ in 0..RING + 10 {
            post(&events, "");
        }
        let page = events.list(0, 3);
        assert_eq!(page.lost, 10);
        assert_eq!(page.events.iter().map(|e| e.id).collect::<Vec<_>>(), [11, 12, 13]);
        assert_eq!(events.list(5, usize::MAX).events.len(), RING);
        assert_eq!(events.list(5, 1).lost, 5);
        let page = events.list(RING as u64 + 9, 9);
        assert_eq!((page.lost, page.events.len()), (0, 1));
        assert!(events.list(u64::MAX, 9).events.is_empty());
        assert_eq!(Events::new(Metrics::new()).list(0, 9).lost, 0);
    }

    #[test]
    fn a_filter_finds_its_events_and_says_how_far_it_looked() {
        let events = Events::new(Metrics::new());
        let kinds = [
            "endpoint.ejected",
            "endpoints.x",
            "config.applied",
            "endpoint.readmitted",
            "endpoint",
        ];
        for (n, kind) in kinds.into_iter().enumerate() {
            let severity = if n == 0 { Severity::Warning } else { Severity::Info };
            events.post(
                kind,
                severity,
                if n == 3 { "app/a:1" } else { "apple" },
                "",
                Value::Null,
            );
        }
        let ids = |filter: &Filter, since, limit| {
            let page = events.find(since, limit, filter);
            (page.events.iter().map(|e| e.id).collect::<Vec<_>>(), page.read_to)
        };
        let endpoint = Filter {
            kinds: vec!["endpoint".to_owned()],
            ..Filter::default()
        };
        assert_eq!(ids(&endpoint, 0, 9), (vec![1, 4, 5], 5));
        assert_eq!(ids(&endpoint, 0, 2), (vec![1, 4], 4));
        assert_eq!(
            ids(&endpoint, 1, 1),
            (vec![4], 4),
            "no further than what was taken"
        );
        let severe = Filter {
            severity: Some(Severity::Warning),
            ..Filter::default()
        };
        assert_eq!(ids(&severe, 0, 9), (vec![1], 5));
        let app = Filter {
            target: Some("app".to_owned()),
            ..Filter::default()
        };
        assert_eq!(ids(&app, 0, 9), (vec![4], 5));
        let later = Filter {
            since: Some(Timestamp::MAX),
            ..Filter::default()
        };
        assert_eq!(ids(&later, 0, 9), (vec![], 5));
        assert_eq!(ids(&app, 77, 9), (vec![], 77), "a place beyond the end stays");
    }

    #[tokio::test]
    async fn a_slow_listener_learns_how_many_it_lost() {
        let metrics = Metrics::new();
        let events = Events::new(Arc::clone(&metrics));
        let mut listener = events.subscribe();
        for _ in 0..FEED + 7 {
            post(&events, "");
        }
        assert!(matches!(listener.next().await, Some(Heard::Lost(7))));
        let Some(Heard::Event(event)) = listener.next().await else {
            panic!("no event")
        };
        assert_eq!(event.id, 8);
        assert_eq!(metrics.control.events_lost.get(), 7);
        assert_eq!(metrics.control.events.get(), FEED as u64 + 7);
    }

    #[tokio::test]
    async fn the_feed_ends_with_the_events() {
        let events = Events::new(Metrics::new());
        let mut listener = events.subscribe();
        drop(events);
        assert!(listener.next().await.is_none());
    }
}
