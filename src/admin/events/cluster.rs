//! Events of all gateways, from the log that they share: as a list, and as a stream to follow.
//!
//! A stream reads the log from where it is, a page at a time and only as fast as its reader takes it: a reader costs a
//! page of memory. One that lets a frame wait for too long is told so and ended; it comes back with the id of the last
//! event that it had, which is the log's own, so that any gateway can go on from there.

use super::super::problem::Problem;
use super::{Asked, MAX_AGE, RETRY, streamed};
use crate::cluster::store::{EVENTS_AT_ONCE, LoggedEvent, MAX_EVENTS};
use crate::cluster::{Bus, StoreError};
use crate::telemetry::events::Filter;
use axum::Json;
use axum::http::StatusCode;
use axum::response::sse;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};

/// Events read at a time.
const PAGE: usize = 16;
/// How often a reader who has everything looks for more.
const LOOK: Duration = Duration::from_millis(500);
/// How often while the log can't be read.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a frame may wait for a reader who has not taken the one before.
const SLOW: Duration = Duration::from_secs(5);
/// Before all that the log can have.
const BEGINNING: &str = "0-0";

/// Events of all gateways after a place.
pub(super) async fn list(bus: &Bus, asked: &Asked) -> Result<Response, Problem> {
    let mut after = asked.place.clone();
    let mut found: Vec<Value> = Vec::new();
    // The log keeps a bounded number; so many pages have it all.
    for _ in 0..=MAX_EVENTS / EVENTS_AT_ONCE {
        let page = bus.events(after.as_deref(), EVENTS_AT_ONCE).await;
        let page = page.map_err(|error| unreadable(&error))?;
        let Some(last) = page.last() else { break };
        let whole = page.len() < EVENTS_AT_ONCE;
        after = Some(last.id.clone());
        for logged in &page {
            let Some(event) = admitted(logged, &asked.filter) else {
                continue;
            };
            found.push(event);
            if found.len() == asked.limit {
                after = Some(logged.id.clone());
                break;
            }
        }
        if whole || found.len() == asked.limit {
            break;
        }
    }
    Ok(Json(json!({ "events": found, "next": after, "scope": "cluster" })).into_response())
}

/// An event that is wanted, with its id in the log.
fn admitted(logged: &LoggedEvent, filter: &Filter) -> Option<Value> {
    let mut event = serde_json::from_slice::<Value>(&logged.payload).ok()?;
    if !event.is_object() || !filter.admits_told(&event) {
        return None;
    }
    event["cluster_id"] = Value::from(logged.id.as_str());
    Some(event)
}

fn unreadable(error: &StoreError) -> Problem {
    match error {
        StoreError::Name(_) => Problem::bad_request("the place is none in the cluster's log"),
        error => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
            .hint("without scope=cluster the events of this gateway are told"),
    }
}

/// Events of all gateways from now on, or after a place.
pub(super) async fn follow(
    bus: &Bus,
    asked: Asked,
    place: SemaphorePermit<'static>,
) -> Result<Response, Problem> {
    let (after, missed) = begin(bus, &asked).await.map_err(|error| unreadable(&error))?;
    let mut waiting = VecDeque::from([sse::Event::default().retry(RETRY).comment("events")]);
    waiting.extend(missed.map(|oldest| told("lost", &json!({ "kept_from": oldest }))));
    let tail = Tail {
        bus: bus.clone(),
        filter: asked.filter,
        after,
        waiting,
        behind: false,
        given: None,
        away: false,
        ended: false,
        until: Instant::now() + MAX_AGE,
        _place: place,
    };
    Ok(streamed(stream::unfold(tail, |mut tail| async {
        let frame = tail.next().await?;
        Some((frame, tail))
    })))
}

/// After which event to begin, and the oldest that is kept where some before it are not any more.
async fn begin(bus: &Bus, asked: &Asked) -> Result<(String, Option<String>), StoreError> {
    let beginning = || BEGINNING.to_owned();
    let Some(place) = &asked.place else {
        // After a moment is after all those before it, which the filter passes over.
        let after = match asked.filter.since {
            Some(_) => None,
            None => bus.last_event().await?,
        };
        return Ok((after.unwrap_or_else(beginning), None));
    };
    // Refused if it is no place at all.
    bus.events(Some(place), 1).await?;
    let oldest = bus.events(None, 1).await?.into_iter().next();
    let gone = oldest.filter(|oldest| numbers(place) < numbers(&oldest.id) && place != "0");
    Ok((place.clone(), gone.map(|oldest| oldest.id)))
}

fn numbers(id: &str) -> Option<(u64, u64)> {
    let (at, number) = id.split_once('-').unwrap_or((id, "0"));
    Some((at.parse().ok()?, number.parse().ok()?))
}

fn told(event: &str, data: &Value) -> sse::Event {
    sse::Event::default().event(event).data(data.to_string())
}

/// One who follows.
struct Tail {
    bus: Bus,
    filter: Filter,
    /// The event up to which the log was read.
    after: String,
    /// Read, not sent yet; at most a page, and what is told between.
    waiting: VecDeque<sse::Event>,
    /// There was a whole page: there may be more.
    behind: bool,
    /// When the reader was given a frame after which there were more.
    given: Option<Instant>,
    /// The log could not be read when it was last tried.
    away: bool,
    ended: bool,
    until: Instant,
    _place: SemaphorePermit<'static>,
}

impl Tail {
    /// The next frame; `None` when the stream has been long enough.
    async fn next(&mut self) -> Option<sse::Event> {
        if self.ended {
            return None;
        }
        if self.given.is_some_and(|given| given.elapsed() > SLOW) {
            self.ended = true;
            let why = format!("events waited for more than {} s for this reader", SLOW.as_secs());
            return Some(told("slow", &json!({ "reason": why })));
        }
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                let more = self.behind || !self.waiting.is_empty();
                self.given = more.then(Instant::now);
                return Some(frame);
            }
            let pause = match self.read().await {
                Ok(()) if self.behind || !self.waiting.is_empty() => continue,
                Ok(()) => LOOK,
                Err(error) => {
                    if !std::mem::replace(&mut self.away, true) {
                        let why = json!({ "reason": error.to_string() });
                        self.waiting.push_back(told("away", &why));
                        continue;
                    }
                    AGAIN
                }
            };
            if Instant::now() + pause > self.until {
                return None;
            }
            sleep(pause).await;
        }
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let page = self.bus.events(Some(&self.after), PAGE).await?;
        self.away = false;
        self.behind = page.len() == PAGE;
        if let Some(last) = page.last() {
            self.after.clone_from(&last.id);
        }
        let wanted = page.iter().filter_map(|logged| {
            let event = admitted(logged, &self.filter)?;
            let frame = sse::Event::default().id(&logged.id);
            frame.json_data(event).ok()
        });
        self.waiting.extend(wanted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeId;
    use bytes::Bytes;

    fn bus() -> Bus {
        Bus::embedded(NodeId::new("a").unwrap(), 1)
    }

    fn event(n: usize) -> Bytes {
        json!({ "type": "test.event", "severity": "info", "target": "", "n": n, "ts": "2026-11-21T00:00:00Z" })
            .to_string()
            .into()
    }

    static PLACES: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(8);

    fn tail(bus: &Bus) -> Tail {
        Tail {
            bus: bus.clone(),
            filter: Filter::default(),
            after: BEGINNING.to_owned(),
            waiting: VecDeque::new(),
            behind: false,
            given: None,
            away: false,
            ended: false,
            until: Instant::now() + MAX_AGE,
            _place: PLACES.try_acquire().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_reader_costs_a_page_and_one_that_lets_frames_wait_is_ended_with_a_reason() {
        let bus = bus();
        for n in 0..100 {
            bus.append(event(n)).await.unwrap();
        }
        let mut quick = tail(&bus);
        for _ in 0..100 {
            assert!(quick.next().await.is_some());
            assert!(quick.waiting.len() < PAGE);
        }
        // There is nothing more: however late it comes back, nothing waited for it.
        assert!(quick.given.is_none());
        bus.append(event(100)).await.unwrap();
        let frame = quick.next().await.unwrap();
        assert!(format!("{frame:?}").contains("test.event"), "{frame:?}");
        let mut slow = tail(&bus);
        assert!(slow.next().await.is_some());
        let given = slow.given.expect("more waits");
        slow.given = given.checked_sub(SLOW * 2);
        let frame = slow.next().await.unwrap();
        assert!(format!("{frame:?}").contains("waited for more than"), "{frame:?}");
        assert!(slow.next().await.is_none());
    }

    #[tokio::test]
    async fn a_place_before_the_oldest_event_is_told_and_one_that_is_none_refused() {
        let bus = bus();
        let first = bus.append(event(0)).await.unwrap();
        let last = bus.append(event(1)).await.unwrap();
        let at = |place: &str| Asked {
            place: Some(place.to_owned()),
            ..Asked::default()
        };
        assert_eq!(begin(&bus, &Asked::default()).await.unwrap(), (last, None));
        assert_eq!(begin(&bus, &at(&first)).await.unwrap(), (first.clone(), None));
        let (after, oldest) = begin(&bus, &at("5-0")).await.unwrap();
        assert_eq!((after.as_str(), oldest), ("5-0", Some(first)));
        assert_eq!(
            begin(&bus, &at("0")).await.unwrap().1,
            None,
            "all of it was asked for"
        );
        assert!(begin(&bus, &at("x-y")).await.is_err());
    }
}
