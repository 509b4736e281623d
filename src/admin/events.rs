//! What happened to the gateway: a list to ask for, and a stream of server-sent events to follow.
//!
//! Both read the one ring of [`crate::telemetry::events`]; a stream is woken by the feed and reads what is new
//! there, so that a reader costs no memory of its own however slow it is, and learns how many events went by that
//! the ring no longer has. Those of all gateways are in [`cluster`].

mod cluster;

use super::Api;
use super::paging::{DEFAULT_LIMIT, MAX_LIMIT};
use super::problem::Problem;
use crate::control::Gateway;
use crate::telemetry::events::{Event, Events, Filter, Severity, Subscription};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Streams at the same time, so that they leave connections to those who ask.
const MAX_STREAMS: usize = 32;
/// Age at which a stream ends; whoever follows comes back with the number of the last event. Below the age at which
/// the server would cut the connection.
const MAX_AGE: Duration = Duration::from_secs(590);
/// How often a quiet stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);
/// Events read at a time.
const PAGE: usize = 64;

static STREAMS: Semaphore = Semaphore::const_new(MAX_STREAMS);

/// Events after a place, the oldest first; with `Accept: text/event-stream` the stream.
///
/// # Errors
/// 400 for a question without sense, 503 when too many follow.
pub async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        return stream(State(api), headers, query).await;
    }
    let asked = Asked::read(query, run(&api.gateway))?;
    if asked.of_the_cluster {
        return cluster::list(&api.gateway.cluster.bus, &asked).await;
    }
    asked.is_about(&api.gateway)?;
    let since = asked.since.unwrap_or_default();
    let page = api.gateway.journal.events.find(since, asked.limit, &asked.filter);
    let events: Vec<&Event> = page.events.iter().map(AsRef::as_ref).collect();
    let answer: Value = json!({
        "events": events,
        "next": page.read_to,
        "lost": page.lost,
        "run": run(&api.gateway),
    });
    Ok(Json(answer).into_response())
}

/// Events from now on, or after the one that `Last-Event-ID`, `since` or `after` names.
///
/// # Errors
/// 400 for a question without sense, 503 when too many follow.
pub async fn stream(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    let place = STREAMS.try_acquire().map_err(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            format!("{MAX_STREAMS} follow the events already"),
        )
        .hint("ask for the list from time to time")
    })?;
    let run = run(&api.gateway);
    let mut asked = Asked::read(query, run)?;
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().unwrap_or_default();
        asked.begin(last, run)?;
        asked.place = Some(last.to_owned()).filter(|_| asked.filter.since.is_none());
    }
    if asked.of_the_cluster {
        return cluster::follow(&api.gateway.cluster.bus, asked, place).await;
    }
    asked.is_about(&api.gateway)?;
    let events = Arc::clone(&api.gateway.journal.events);
    let tail = Tail {
        feed: events.subscribe(),
        // After the subscription: what comes in between is read from the ring.
        last: asked.since.unwrap_or_else(|| match asked.filter.since {
            Some(_) => 0,
            None => events.last_id(),
        }),
        events,
        run,
        filter: asked.filter,
        waiting: VecDeque::from([first(asked.of_another_run, run)]),
        until: Instant::now() + MAX_AGE,
        _place: place,
    };
    Ok(streamed(stream::unfold(tail, |mut tail| async {
        let frame = tail.next().await?;
        Some((frame, tail))
    })))
}

/// An answer that goes on with these frames.
fn streamed(frames: impl Stream<Item = sse::Event> + Send + 'static) -> Response {
    let stream = Sse::new(frames.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Proxies that buffer let it through as it comes.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    (unbuffered, stream).into_response()
}

/// Numbers of events begin anew with each process; this tells one's from another's.
fn run(gateway: &Gateway) -> i64 {
    gateway.node.started.as_millisecond()
}

/// What a stream begins with.
fn first(of_another_run: bool, run: i64) -> sse::Event {
    let frame = sse::Event::default().retry(RETRY);
    if of_another_run {
        // What came between the last event of that run and its end is not known here.
        frame.event("reset").data(json!({ "run": run }).to_string())
    } else {
        frame.comment("events")
    }
}

/// What was asked for.
#[derive(Debug, Default)]
struct Asked {
    filter: Filter,
    /// The number after which events are wanted.
    since: Option<u64>,
    limit: usize,
    /// Those of all gateways.
    of_the_cluster: bool,
    /// The place as it was written.
    place: Option<String>,
    /// The place was one in the events of another process.
    of_another_run: bool,
}

impl Asked {
    fn read(query: Result<Query<Vec<(String, String)>>, QueryRejection>, run: i64) -> Result<Self, Problem> {
        let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
        let mut asked = Self {
            limit: DEFAULT_LIMIT,
            ..Self::default()
        };
        for (name, value) in query {
            match name.as_str() {
                "type" => {
                    let kinds = value
                        .split(',')
                        .map(|kind| kind.trim().trim_end_matches(['.', '*']));
                    let kinds = kinds.filter(|kind| !kind.is_empty()).map(str::to_owned);
                    asked.filter.kinds.extend(kinds);
                }
                "severity" => asked.filter.severity = Some(severity(&value)?),
                "target" => asked.filter.target = Some(value),
                "node" => asked.filter.node = Some(value),
                "limit" => {
                    let limit = value.parse::<usize>().map_err(|_| {
                        Problem::bad_request(format!("limit must be a whole number, not {value:?}"))
                    })?;
                    asked.limit = limit.clamp(1, MAX_LIMIT);
                }
                "since" | "after" | "cursor" => {
                    asked.begin(&value, run)?;
                    asked.place = Some(value).filter(|_| asked.filter.since.is_none());
                }
                "scope" => match value.as_str() {
                    "cluster" => asked.of_the_cluster = true,
                    "node" => asked.of_the_cluster = false,
                    _ => return Err(Problem::bad_request("scope is node or cluster")),
                },
                _ => {
                    return Err(Problem::bad_request(format!(
                        "there is no parameter {name:?} here"
                    )));
                }
            }
        }
        Ok(asked)
    }

    /// Begins after an event by its number, alone or with its run, or after a moment.
    /// Refuses to pass this gateway's events off as another's.
    fn is_about(&self, gateway: &Gateway) -> Result<(), Problem> {
        let own = gateway.cluster.bus.node();
        match &self.filter.node {
            Some(node) if *node != own.as_str() => Err(Problem::bad_request(format!(
                "these are the events of {own}, not of {node:?}"
            ))
            .hint("scope=cluster has those of all gateways")),
            Some(_) | None => Ok(()),
        }
    }

    fn begin(&mut self, text: &str, run: i64) -> Result<(), Problem> {
        if let Ok(number) = text.parse() {
            self.since = Some(number);
        } else if let Some((of, number)) = text.split_once('-')
            && let (Ok(of), Ok(number)) = (of.parse::<i64>(), number.parse())
        {
            self.of_another_run = of != run;
            self.since = Some(if self.of_another_run { 0 } else { number });
        } else if let Ok(moment) = text.parse::<Timestamp>() {
            self.filter.since = Some(moment);
        } else {
            return Err(Problem::bad_request(format!(
                "{text:?} is neither the number of an event nor a moment"
            ))
            .hint("such as 17, or 2026-12-24T18:00:00Z"));
        }
        Ok(())
    }
}

fn severity(name: &str) -> Result<Severity, Problem> {
    Severity::from_name(name).ok_or_else(|| {
        Problem::bad_request(format!("there is no severity {name:?}"))
            .hint("one of info, warning, error; those above it are told as well")
    })
}

/// One who follows.
struct Tail {
    events: Arc<Events>,
    feed: Subscription,
    run: i64,
    filter: Filter,
    /// The number up to which events were read.
    last: u64,
    /// Read, not sent yet; at most a page.
    waiting: VecDeque<sse::Event>,
    until: Instant,
    _place: SemaphorePermit<'static>,
}

impl Tail {
    /// The next frame; `None` when the stream has been long enough or nothing will come any more.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            self.read();
            if self.waiting.is_empty() {
                tokio::select! {
                    // What it missed it reads from the ring.
                    heard = self.feed.next() => drop(heard?),
                    () = tokio::time::sleep_until(self.until) => return None,
                }
            }
        }
    }

    fn read(&mut self) {
        let page = self.events.find(self.last, PAGE, &self.filter);
        // From the beginning nothing was missed by this reader.
        if page.lost > 0 && self.last > 0 {
            let told = json!({ "lost": page.lost }).to_string();
            self.waiting
                .push_back(sse::Event::default().event("lost").data(told));
        }
        self.last = page.read_to;
        let run = self.run;
        self.waiting
            .extend(page.events.iter().filter_map(|event| frame(event, run)));
    }
}

fn frame(event: &Event, run: i64) -> Option<sse::Event> {
    let frame = sse::Event::default().id(format!("{run}-{}", event.id));
    match frame.json_data(event) {
        Ok(frame) => Some(frame),
        Err(error) => {
            tracing::error!(%error, event = event.kind, "an event can't be written as JSON");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Result<Asked, Problem> {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Asked::read(Ok(Query(pairs.collect())), 1000)
    }

    #[test]
    fn a_place_is_a_number_a_number_of_a_run_or_a_moment() {
        assert_eq!(asked(&[("since", "17")]).unwrap().since, Some(17));
        let same = asked(&[("after", "1000-17")]).unwrap();
        assert_eq!((same.since, same.of_another_run), (Some(17), false));
        let other = asked(&[("cursor", "999-17")]).unwrap();
        assert_eq!((other.since, other.of_another_run), (Some(0), true));
        let moment = asked(&[("since", "2026-11-21T12:00:00Z")]).unwrap();
        assert!(moment.since.is_none() && moment.filter.since.is_some());
        for wrong in ["", "x", "-1", "1000-", "1000-x", "yesterday", "1-2-3"] {
            assert!(asked(&[("since", wrong)]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn filters_are_read_and_what_is_none_is_refused() {
        let all = asked(&[
            ("type", "endpoint.*, config"),
            ("type", "bus."),
            ("severity", "warning"),
        ])
        .unwrap();
        assert_eq!(all.filter.kinds, ["endpoint", "config", "bus"]);
        assert_eq!(all.filter.severity, Some(Severity::Warning));
        assert_eq!(asked(&[("limit", "0")]).unwrap().limit, 1);
        assert_eq!(asked(&[("limit", "999999")]).unwrap().limit, MAX_LIMIT);
        for wrong in [("severity", "bad"), ("limit", "many"), ("tpye", "config")] {
            assert!(asked(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
