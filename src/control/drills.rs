//! Fail-over drills: what would become of an endpoint's load is told, or tried out for a while at the endpoint
//! itself, and reported. A drill ends by itself, also when the gateway that began it does.
//!
//! | mode | does |
//! |---|---|
//! | `simulate` | nothing: the plan is the report |
//! | `drain` | the endpoint takes nothing new until the drill is over, as an override that ends |
//! | `blackhole` | attempts of marked requests, and perhaps a small share of all, are swallowed as by a dead host |

pub mod plan;
pub mod run;

use crate::base::clock::Millis;
use crate::upstream::shared::EndpointKey;
use crate::upstream::shared::drill::{Came, Drill};
use jiff::Timestamp;
use plan::Plan;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Drills at the same time, and reports that are kept.
pub const MAX_RUNNING: usize = 16;
pub const KEPT: usize = 100;
/// How long one may take.
pub const SHORTEST: Duration = Duration::from_secs(1);
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Largest share of all requests that one may swallow attempts of.
pub const LARGEST_SHARE: f64 = 0.1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Simulate,
    Drain,
    Blackhole,
}

impl Mode {
    pub const NAMES: [&str; 3] = ["simulate", "drain", "blackhole"];

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "simulate" => Self::Simulate,
            "drain" => Self::Drain,
            "blackhole" => Self::Blackhole,
            _ => return None,
        })
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simulate => Self::NAMES[0],
            Self::Drain => Self::NAMES[1],
            Self::Blackhole => Self::NAMES[2],
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillWish {
    pub endpoint: EndpointKey,
    pub mode: Mode,
    pub duration: Duration,
    pub share: f64,
    pub reason: Option<String>,
    /// Also where nobody could take over.
    pub force: bool,
}

/// How far a drill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    /// Its time was over, and everything is as before.
    Done,
    /// Somebody ended it.
    Stopped,
    /// The endpoint left the configuration meanwhile.
    Gone,
}

/// What happened at all endpoints of the upstream while the drill ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Meanwhile {
    pub requests: u64,
    pub faults: u64,
    pub retried: u64,
}

impl Meanwhile {
    const fn since(self, begin: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(begin.requests),
            faults: self.faults.saturating_sub(begin.faults),
            retried: self.retried.saturating_sub(begin.retried),
        }
    }
}

/// One drill, as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub id: u64,
    pub mode: Mode,
    pub state: State,
    pub node: String,
    pub upstream: String,
    pub address: String,
    pub by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub started_at: String,
    pub ends_at: String,
    pub ended_at: Option<String>,
    pub share: f64,
    /// Attempts that the drill swallowed, those of them made elsewhere then, and how the requests ended.
    pub taken: u64,
    pub retried: u64,
    pub answered: u64,
    pub failed: u64,
    /// What a swallowed attempt cost a request on average: the time to detect.
    pub detection_ms: Option<f64>,
    pub meanwhile: Meanwhile,
    /// What was foreseen.
    pub plan: Plan,
}

/// One drill with what it works on.
#[derive(Debug)]
struct Entry {
    report: Report,
    endpoint: EndpointKey,
    drill: Option<Arc<Drill>>,
    ends: Millis,
    begin: Meanwhile,
    /// Its entry in the history of fail-overs.
    history: Option<u64>,
}

impl Entry {
    fn count(&mut self, now: Meanwhile) -> Came {
        let came = self.drill.as_ref().map(|drill| drill.came()).unwrap_or_default();
        let report = &mut self.report;
        (report.taken, report.retried) = (came.taken, came.retried);
        (report.answered, report.failed) = (came.answered, came.failed);
        let mean = came.waited.as_secs_f64() * 1000.0 / came.taken.max(1) as f64;
        report.detection_ms = (came.taken > 0).then_some((mean * 100.0).round() / 100.0);
        report.meanwhile = now.since(self.begin);
        came
    }
}

#[derive(Debug, Default)]
struct Book {
    last_id: u64,
    /// The oldest first.
    entries: VecDeque<Entry>,
}

impl Book {
    fn running(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.report.state == State::Running)
    }
}

/// Why a drill is not held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such endpoint")]
    NoEndpoint,
    #[error("a drill takes from 1s to 1h")]
    Duration,
    #[error("a share is from 0 to {LARGEST_SHARE}")]
    Share,
    #[error("a share is for a blackhole")]
    ShareOfWhat,
    #[error("a reason has at most {} characters", super::overrides::MAX_REASON)]
    LongReason,
    #[error("a drill is held there already")]
    Held,
    #[error("{MAX_RUNNING} drills are held already")]
    TooMany,
    #[error("the endpoint is {0}: a drill wants one that takes requests")]
    NotActive(&'static str),
    #[error("nobody could take over: requests would fail")]
    Alone,
    #[error("{0}")]
    Override(String),
}

/// All drills of this process.
#[derive(Debug, Default)]
pub struct Drills {
    book: Mutex<Book>,
    begun: Notify,
}

impl Drills {
    /// Whether a drill is held there.
    #[must_use]
    pub fn is_held(&self, endpoint: &EndpointKey) -> bool {
        self.book().running().any(|entry| entry.endpoint == *endpoint)
    }

    /// Reports, the latest first.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.book()
            .entries
            .iter()
            .rev()
            .map(|entry| entry.report.clone())
            .collect()
    }

    #[must_use]
    pub fn report(&self, id: u64) -> Option<Report> {
        let book = self.book();
        book.entries
            .iter()
            .find(|entry| entry.report.id == id)
            .map(|entry| entry.report.clone())
    }

    /// Takes a new one into the book, unless there is no room.
    fn open(
        &self,
        wish: &DrillWish,
        plan: Plan,
        by: String,
        drill: Option<Arc<Drill>>,
        begin: Meanwhile,
    ) -> Result<Report, Refused> {
        let mut book = self.book();
        let runs = wish.mode != Mode::Simulate;
        if runs && book.running().any(|entry| entry.endpoint == wish.endpoint) {
            return Err(Refused::Held);
        }
        if runs && book.running().count() >= MAX_RUNNING {
            return Err(Refused::TooMany);
        }
        book.last_id += 1;
        let now = Timestamp::now();
        let ends = now.checked_add(wish.duration).unwrap_or(Timestamp::MAX);
        let report = Report {
            id: book.last_id,
            mode: wish.mode,
            state: if runs { State::Running } else { State::Done },
            node: wish.endpoint.to_string(),
            upstream: wish.endpoint.upstream.to_string(),
            address: wish.endpoint.address.to_string(),
            by,
            reason: wish.reason.clone(),
            started_at: now.to_string(),
            ends_at: if runs { ends } else { now }.to_string(),
            ended_at: (!runs).then(|| now.to_string()),
            share: wish.share,
            taken: 0,
            retried: 0,
            answered: 0,
            failed: 0,
            detection_ms: None,
            meanwhile: Meanwhile::default(),
            plan,
        };
        if book.entries.len() == KEPT {
            // Fewer run than are kept, so that one that does not is found.
            let over = book
                .entries
                .iter()
                .position(|entry| entry.report.state != State::Running);
            book.entries.remove(over.unwrap_or(0));
        }
        book.entries.push_back(Entry {
            report: report.clone(),
            endpoint: wish.endpoint.clone(),
            drill,
            ends: Millis::now().plus(wish.duration),
            begin,
            history: None,
        });
        drop(book);
        self.begun.notify_one();
        Ok(report)
    }

    /// Takes one out that did not come about.
    fn withdraw(&self, id: u64) {
        self.book().entries.retain(|entry| entry.report.id != id);
    }

    /// Whole after a panic too: each change is a single step.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(mode: Mode, address: &str) -> DrillWish {
        DrillWish {
            endpoint: EndpointKey {
                upstream: "app".into(),
                address: address.into(),
            },
            mode,
            duration: Duration::from_secs(5),
            share: 0.0,
            reason: None,
            force: false,
        }
    }

    fn open(drills: &Drills, mode: Mode, address: &str) -> Result<Report, Refused> {
        drills.open(
            &wish(mode, address),
            Plan::default(),
            "ops".to_owned(),
            None,
            Meanwhile::default(),
        )
    }

    #[test]
    fn one_endpoint_holds_one_drill_and_simulations_are_no_drill() {
        let drills = Drills::default();
        let first = open(&drills, Mode::Blackhole, "a:1").unwrap();
        assert_eq!(open(&drills, Mode::Drain, "a:1").unwrap_err(), Refused::Held);
        assert_eq!(open(&drills, Mode::Simulate, "a:1").unwrap().state, State::Done);
        drills.withdraw(first.id);
        assert!(open(&drills, Mode::Drain, "a:1").is_ok());
    }

    #[test]
    fn drills_and_reports_are_bounded() {
        let drills = Drills::default();
        for n in 0..MAX_RUNNING {
            open(&drills, Mode::Drain, &format!("a:{n}")).unwrap();
        }
        assert_eq!(open(&drills, Mode::Drain, "b:1").unwrap_err(), Refused::TooMany);
        for _ in 0..2 * KEPT {
            open(&drills, Mode::Simulate, "a:1").unwrap();
        }
        let reports = drills.reports();
        assert_eq!(reports.len(), KEPT);
        let running = reports.iter().filter(|report| report.state == State::Running);
        assert_eq!(running.count(), MAX_RUNNING, "one that runs is never forgotten");
    }
}
