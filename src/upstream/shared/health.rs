//! What active checks have found out about an endpoint: the last probes, the verdict they add up to, and when the
//! next one is due. Pure: whoever probes hands results and moments in.
//!
//! One probe decides where nothing is known yet; from then on it takes `fall` failures in a row to speak against an
//! endpoint and `rise` passes in a row to speak for it again. From the first failure on probes follow faster, so
//! that a verdict against an endpoint takes at most `interval + fall × timeout`.
//!
//! One that fails again soon after it was found well is not well again before its hold is over, see
//! [`flapping`](super::flapping), however many probes pass. The next one is due at the very end of it.

use super::flapping::{Flapping, Hold};
use super::standing::Health;
use crate::base::clock::Millis;
use crate::config::model;
use crate::telemetry::metrics::Histogram;
use crate::telemetry::metrics::TlsFault;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Probes that are remembered for whoever asks.
pub const RESULTS_KEPT: usize = 10;
/// From the beginning of one probe to that of the next, at least: no configuration makes the checks a flood.
const LEAST_WAIT: Duration = Duration::from_millis(10);
/// The same, at most, while it is made sure that an endpoint which closed its idle connection is gone.
const HURRIED_WAIT: Duration = Duration::from_millis(50);

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no connection within {}", short(*.0))]
    ConnectTimeout(Duration),
    #[error("no TLS: {reason}")]
    Tls { fault: TlsFault, reason: String },
    #[error("no whole answer within {}, {bytes} bytes of it came", short(*.within))]
    Timeout { within: Duration, bytes: u64 },
    #[error("the connection ended before the answer was whole")]
    Closed,
    #[error("the answer is not understood: {0}")]
    Malformed(&'static str),
    #[error("status {found}, accepted: {accepted}")]
    Status { found: u16, accepted: String },
    #[error("the body does not have what it should")]
    Body,
    #[error("the answer's body is larger than {0} bytes")]
    TooLarge(u64),
    /// What the service of gRPC for it said.
    #[error("{0}")]
    Grpc(String),
    #[error("the WebSocket handshake went wrong: {0}")]
    Handshake(&'static str),
}

impl Failure {
    /// One word for it, as metrics and the API have it.
    #[must_use]
    pub const fn token(&self) -> &'static str {
        RESULTS[self.place()]
    }

    const fn place(&self) -> usize {
        match self {
            Self::Connect(_) => 1,
            Self::ConnectTimeout(_) => 2,
            Self::Timeout { .. } => 3,
            Self::Closed => 4,
            Self::Malformed(_) => 5,
            Self::Status { .. } => 6,
            Self::Body => 7,
            Self::TooLarge(_) => 8,
            Self::Handshake(_) => 9,
            Self::Tls { .. } => 10,
            Self::Grpc(_) => 11,
        }
    }
}

/// What a probe can come to, in one word.
pub const RESULTS: [&str; 12] = [
    "passed",
    "connect_failed",
    "connect_timeout",
    "timeout",
    "closed",
    "malformed",
    "status",
    "body",
    "too_large",
    "handshake",
    "tls_failed",
    "grpc",
];

fn short(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub began: Millis,
    pub took: Duration,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    pub outcome: Result<(), Failure>,
}

/// What turns a verdict, and how fast probes follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cadence {
    pub rise: u32,
    pub fall: u32,
    pub interval: Duration,
    /// From the first failure until all is well again.
    pub fast_interval: Duration,
    pub timeout: Duration,
    /// Share by which a wait may be shorter.
    pub jitter: f64,
    /// How long an endpoint that comes and goes is held at most; 0: never.
    pub max_hold: Duration,
}

impl Cadence {
    #[must_use]
    pub const fn of(check: &model::Health) -> Self {
        Self {
            rise: check.rise,
            fall: check.fall,
            interval: check.interval,
            fast_interval: check.fast_interval,
            timeout: check.timeout,
            jitter: check.jitter,
            max_hold: check.max_hold,
        }
    }
}

/// A verdict that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The first verdict, and a good one.
    FoundWell,
    /// Well again after so long.
    Recovered { after: Duration },
    /// `detection`: since the first probe that failed began. `hold`: it comes and goes.
    Failed {
        reason: Failure,
        detection: Duration,
        hold: Option<Hold>,
    },
}

/// What is known of one endpoint.
#[derive(Debug)]
pub struct Record {
    verdict: Health,
    since: Millis,
    /// Why it is not well.
    reason: Option<Failure>,
    /// In a row, up to now.
    passes: u32,
    failures: u32,
    failing_since: Millis,
    /// The idle connection ended since the last pass.
    hurried: bool,
    flapping: Flapping,
    /// It passes often enough, and is held all the same.
    held: bool,
    /// Another gateway found it down: until then one failure is enough.
    witnessed_until: Millis,
    probes: u64,
    /// Left out, because other gateways made them.
    skipped: u64,
    results: VecDeque<Probe>,
    counts: [u64; RESULTS.len()],
    /// How long probes took that passed.
    pub latency: Histogram,
    /// When the next probe begins; [`Millis::NEVER`] while one is under way.
    pub next_probe: Millis,
}

impl Record {
    /// Nothing is known but what is presumed.
    #[must_use]
    pub fn new(presumed: Health, now: Millis) -> Self {
        Self {
            verdict: presumed,
            since: now,
            reason: None,
            passes: 0,
            failures: 0,
            failing_since: Millis::NEVER,
            hurried: false,
            flapping: Flapping::default(),
            held: false,
            witnessed_until: Millis::NEVER,
            probes: 0,
            skipped: 0,
            results: VecDeque::with_capacity(RESULTS_KEPT),
            counts: [0; RESULTS.len()],
            latency: Histogram::default(),
            next_probe: Millis::NEVER,
        }
    }

    /// Takes a probe in. The verdict that it changes, if any.
    pub fn note(&mut self, probe: Probe, cadence: &Cadence, now: Millis) -> Option<Turn> {
        let (began, outcome) = (probe.began, probe.outcome.clone());
        self.remember(probe);
        self.flapping.bound(cadence.max_hold);
        match outcome {
            Ok(()) => self.passed(cadence, now),
            Err(failure) => self.failed(failure, began, cadence, now),
        }
    }

    fn remember(&mut self, probe: Probe) {
        let place = probe.outcome.as_ref().map_or_else(Failure::place, |()| 0);
        self.counts[place] += 1;
        self.probes += 1;
        if place == 0 {
            self.latency.record(probe.took);
        }
        if self.results.len() == RESULTS_KEPT {
            self.results.pop_front();
        }
        self.results.push_back(probe);
    }

    fn passed(&mut self, cadence: &Cadence, now: Millis) -> Option<Turn> {
        self.passes = self.passes.saturating_add(1);
        self.failures = 0;
        self.hurried = false;
        let enough = match self.verdict {
            Health::Healthy => return None,
            Health::Unhealthy | Health::Held => self.passes >= cadence.rise,
            Health::Unchecked | Health::Pending => true,
        };
        if !enough {
            return None;
        }
        if self.verdict == Health::Unhealthy && now < self.flapping.until() {
            self.held = true;
            return None;
        }
        let turn = match self.verdict {
            Health::Unhealthy => Turn::Recovered {
                after: now.since(self.since),
            },
            _ => Turn::FoundWell,
        };
        self.turn(Health::Healthy, None, now);
        Some(turn)
    }

    fn failed(&mut self, failure: Failure, began: Millis, cadence: &Cadence, now: Millis) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        self.passes = 0;
        self.held = false;
        if self.failures == 1 {
            self.failing_since = began;
        }
        let enough = match self.verdict {
            Health::Unhealthy | Health::Held => {
                self.reason = Some(failure);
                return None;
            }
            Health::Healthy => self.failures >= cadence.fall || began <= self.witnessed_until,
            Health::Unchecked | Health::Pending => true,
        };
        if !enough {
            return None;
        }
        let well_for = match self.verdict {
            Health::Healthy => self.failing_since.since(self.since),
            _ => Duration::ZERO,
        };
        let hold = self.flapping.failed(well_for, cadence.max_hold, now);
        self.turn(Health::Unhealthy, Some(failure.clone()), now);
        Some(Turn::Failed {
            reason: failure,
            detection: now.since(self.failing_since),
            hold,
        })
    }

    fn turn(&mut self, verdict: Health, reason: Option<Failure>, now: Millis) {
        self.verdict = verdict;
        self.since = now;
        self.reason = reason;
        self.hurried = false;
        self.held = false;
    }

    /// A probe was due, and others make it.
    pub const fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Probes that were left out, because other gateways made them.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// It is well, and nothing has failed since it was last found so.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.verdict == Health::Healthy && self.failures == 0
    }

    /// Another gateway found it down: a failure of a probe that begins by then is the second witness.
    pub fn witnessed(&mut self, until: Millis) {
        self.witnessed_until = until;
    }

    /// The endpoint ended the connection that was kept open to learn of just that.
    pub fn line_ended(&mut self) {
        self.hurried = self.verdict == Health::Healthy;
    }

    /// From the beginning of the last probe to that of the next. `random` lies between 0 and 1.
    #[must_use]
    pub fn wait(&self, cadence: &Cadence, random: f64) -> Duration {
        let fast = cadence.fast_interval.min(cadence.interval);
        let jitter = match self.probes {
            // All endpoints are probed when the gateway starts; from there they spread over the interval.
            1 => 1.0,
            _ => cadence.jitter,
        };
        let shortened = |wait: Duration| wait.mul_f64((1.0 - jitter * random).clamp(0.0, 1.0));
        let wait = match self.verdict {
            Health::Healthy if self.failures == 0 => shortened(cadence.interval),
            Health::Healthy if self.hurried => fast.min(cadence.timeout).min(HURRIED_WAIT),
            // Never longer than a probe may take, or the bound of the verdict would not hold.
            Health::Healthy => fast.min(cadence.timeout),
            Health::Unhealthy | Health::Held | Health::Unchecked | Health::Pending => {
                shortened(fast).min(self.rest_of_hold())
            }
        };
        wait.max(LEAST_WAIT)
    }

    /// From the beginning of the last probe to the end of the hold; [`Duration::MAX`] where that does not lie ahead.
    fn rest_of_hold(&self) -> Duration {
        let began = self.results.back().map_or(Millis::NEVER, |last| last.began);
        match self.flapping.until().since(began) {
            Duration::ZERO => Duration::MAX,
            rest => rest,
        }
    }

    #[must_use]
    pub const fn verdict(&self) -> Health {
        self.verdict
    }

    /// The verdict, as picks are to know it.
    #[must_use]
    pub const fn health(&self) -> Health {
        match self.verdict {
            Health::Unhealthy if self.held => Health::Held,
            verdict => verdict,
        }
    }

    /// Until when it is not well again, however many probes pass; `None` where only they decide.
    #[must_use]
    pub fn held_until(&self, now: Millis) -> Option<Millis> {
        let until = self.flapping.until();
        (self.verdict == Health::Unhealthy && now < until).then_some(until)
    }

    /// How often it was held.
    #[must_use]
    pub const fn flaps(&self) -> u64 {
        self.flapping.flaps()
    }

    /// When the verdict was come to.
    #[must_use]
    pub const fn since(&self) -> Millis {
        self.since
    }

    /// Why the last probe failed of an endpoint that is not well.
    #[must_use]
    pub const fn reason(&self) -> Option<&Failure> {
        self.reason.as_ref()
    }

    /// Passes and failures in a row; one of them is 0.
    #[must_use]
    pub const fn streaks(&self) -> (u32, u32) {
        (self.passes, self.failures)
    }

    /// The last probes, the oldest first.
    pub fn results(&self) -> impl DoubleEndedIterator<Item = &Probe> {
        self.results.iter()
    }

    /// How many probes came to what.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.counts)
    }
}

/// The record of an endpoint, there while it is checked. Control's alone: no worker ever takes the lock.
#[derive(Debug, Default)]
pub struct Checks {
    record: Mutex<Option<Box<Record>>>,
    /// Whoever probes is to look at once.
    alarm: Notify,
    /// Until when other gateways probe in its place.
    rest_until: AtomicU64,
}

impl Checks {
    /// A panic while it was held can at worst have lost one probe.
    pub fn lock(&self) -> MutexGuard<'_, Option<Box<Record>>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another gateway found the endpoint down: a probe is made at once, and its failure is enough for a verdict until
    /// this moment. Nothing where nobody checks, or where it is known already.
    pub fn alarm(&self, until: Millis) {
        let mut record = self.lock();
        if let Some(record) = record
            .as_deref_mut()
            .filter(|record| record.verdict == Health::Healthy)
        {
            record.witnessed(until);
            self.wake();
        }
    }

    /// Another gateway's probe failed: one is made at once, unless it is being found out already what is wrong.
    pub fn look(&self) {
        if self.lock().as_deref().is_some_and(Record::is_quiet) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.rest_until.store(Millis::NEVER.0, Relaxed);
        self.alarm.notify_one();
    }

    /// Probes need not be made until then: other gateways make them.
    pub fn rest(&self, until: Millis) {
        self.rest_until.store(until.0, Relaxed);
    }

    /// They are to be made again, the first one at once.
    pub fn end_rest(&self) {
        if self.rest_until.swap(Millis::NEVER.0, Relaxed) != Millis::NEVER.0 {
            self.alarm.notify_one();
        }
    }

    /// Whether others make them.
    #[must_use]
    pub fn rests(&self, now: Millis) -> bool {
        now.0 < self.rest_until.load(Relaxed)
    }

    /// Waits until a probe is to be made at once.
    pub async fn alarmed(&self) {
        self.alarm.notified().await;
    }
}

#[cfg(test)]
mod tests;
