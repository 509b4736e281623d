//! Probes one endpoint until it is dropped: when the interval is over, or at once when the endpoint ends the
//! connection that it kept open.

use super::line::Line;
use super::probe::{Probed, Question};
use crate::base::clock::Millis;
use crate::control::gateway::Gateway;
use crate::telemetry::events::Severity;
use crate::upstream::shared::health::Turn;
use crate::upstream::shared::{EndpointState, Target};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

/// Addresses of one name that are asked at the same time. Where a name has more, they take turns.
const MOST_TARGETS: usize = 4;
/// Time over which gateways spread that look at once.
const ALARM_SPREAD: Duration = Duration::from_millis(20);
/// How soon it is looked again whether a name has been resolved.
const UNRESOLVED: Duration = Duration::from_millis(20);

/// See the module's text.
pub(super) struct Prober {
    gateway: Arc<Gateway>,
    state: Arc<EndpointState>,
    question: Question,
    permits: Arc<Semaphore>,
    line: Line,
    /// Which address is asked first.
    first: usize,
}

impl Prober {
    pub fn new(
        gateway: Arc<Gateway>,
        state: Arc<EndpointState>,
        question: Question,
        permits: Arc<Semaphore>,
    ) -> Self {
        Self {
            gateway,
            state,
            question,
            permits,
            line: Line::default(),
            first: 0,
        }
    }

    pub async fn run(mut self) {
        let mut out_of_turn = false;
        loop {
            let (began, wait) = match self.left_out() {
                Some(wait) => (Instant::now(), wait),
                None => self.probe().await,
            };
            // A server that hangs up after each answer is not asked without end.
            out_of_turn = tokio::select! {
                () = sleep_until(began + wait) => false,
                () = self.line.ended(), if !out_of_turn => true,
                () = self.state.checks.alarmed() => {
                    // Not all gateways in the same moment.
                    sleep(ALARM_SPREAD.mul_f64(fastrand::f64())).await;
                    false
                }
            };
            if out_of_turn && let Some(record) = self.state.checks.lock().as_deref_mut() {
                record.line_ended();
            }
        }
    }

    /// One probe: when it began, and how long it is from there to the next.
    async fn probe(&mut self) -> (Instant, Duration) {
        let targets = self.targets().await;
        let began = Instant::now();
        let probed = {
            let _permit = self.permits.acquire().await;
            self.question.ask(&targets).await
        };
        (began, self.note(probed))
    }

    /// Leaves a probe out that other gateways make; how long it is to the next one.
    fn left_out(&mut self) -> Option<Duration> {
        let now = Millis::now();
        let mut checks = self.state.checks.lock();
        let record = checks.as_deref_mut().filter(|record| record.is_quiet())?;
        if !self.state.checks.rests(now) {
            return None;
        }
        record.skip();
        let wait = record.wait(&self.question.plan.cadence, fastrand::f64());
        record.next_probe = now.plus(wait);
        drop(checks);
        // Those who probe keep one that tells of its end.
        self.line.replace(None);
        Some(wait)
    }

    /// Where to ask. A name that stands for nothing yet is waited for: that it does not resolve is told elsewhere,
    /// and says nothing of the endpoint.
    async fn targets(&mut self) -> Vec<Target> {
        loop {
            let known = self.state.targets();
            if !known.list.is_empty() {
                let asked = known.list.iter().cycle().skip(self.first % known.list.len());
                self.first = self.first.wrapping_add(1);
                return asked.take(known.list.len().min(MOST_TARGETS)).cloned().collect();
            }
            sleep(UNRESOLVED).await;
        }
    }

    /// Takes a probe in; how long to wait from its beginning to that of the next.
    fn note(&mut self, probed: Probed) -> Duration {
        self.line.replace(probed.line);
        let cadence = &self.question.plan.cadence;
        let (began, now) = (probed.probe.began, Millis::now());
        let passed = probed.probe.outcome.is_ok();
        let mut checks = self.state.checks.lock();
        let Some(record) = checks.as_deref_mut() else {
            return cadence.interval;
        };
        let turn = record.note(probed.probe, cadence, now);
        let wait = record.wait(cadence, fastrand::f64());
        record.next_probe = began.plus(wait).max(now);
        let first_failure = record.streaks().1 == 1;
        if self.state.standing.health() != record.health() {
            self.state.standing.set_health(record.health());
        }
        drop(checks);
        if self.question.plan.check.share {
            let probing = &self.gateway.probing;
            match (passed, first_failure) {
                (true, _) => probing.passed(&self.state.key, began),
                (false, true) => probing.failed(&self.state.key),
                (false, false) => {}
            }
        }
        if let Some(turn) = turn {
            self.tell(&turn);
        }
        wait
    }

    fn tell(&self, turn: &Turn) {
        let key = &self.state.key;
        let target = format!("{}/{}", key.upstream, key.address);
        let ms = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut data = json!({
            "upstream": key.upstream,
            "endpoint": key.address,
            "in_flight": self.state.in_flight(),
            "open_websockets": self.state.tunnels(),
        });
        let (kind, severity, reason) = match turn {
            Turn::FoundWell => {
                tracing::debug!(endpoint = target, "passed its first check");
                return;
            }
            Turn::Recovered { after } => {
                data["down_ms"] = Value::from(ms(after));
                let reason = format!("passes its checks again after {:.1} s", after.as_secs_f64());
                ("endpoint.healthy", Severity::Info, reason)
            }
            Turn::Failed {
                reason,
                detection,
                hold,
            } => {
                data["trigger"] = Value::from("active");
                data["cause"] = Value::from(reason.token());
                data["detection_ms"] = Value::from(ms(detection));
                let mut text = format!("fails its checks: {reason}");
                if let Some(hold) = hold {
                    data["hold_seconds"] = Value::from(hold.time.as_secs_f64());
                    data["flaps"] = Value::from(hold.flaps);
                    let seconds = hold.time.as_secs_f64();
                    // Writing to a string does not fail.
                    let _written = write!(text, "; it is flapping, and held for {seconds:.1} s at least");
                }
                ("endpoint.unhealthy", Severity::Warning, text)
            }
        };
        self.gateway
            .journal
            .events
            .post(kind, severity, target, reason, data);
    }
}
