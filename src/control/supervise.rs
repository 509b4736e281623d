//! Looks after the workers: who is late, who is stuck, what they report.

use super::gateway::Gateway;
use super::workers::{Cause, MAX_REPLACEMENTS, STALLED, Sight};
use crate::proxy::worker::Report;
use crate::telemetry::events::Severity;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How often the workers are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Accepting that pauses is told once in this time per listener; the counter has them all.
const PAUSE_TOLD: Duration = Duration::from_secs(10);

/// Watches the workers until it is dropped.
#[derive(Debug)]
pub struct Supervisor {
    gateway: Arc<Gateway>,
    reports: mpsc::Receiver<Report>,
    pauses_told: HashMap<Arc<str>, Instant>,
    give_up: watch::Sender<bool>,
}

impl Supervisor {
    /// The supervisor, and what becomes true when the process must end.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, reports: mpsc::Receiver<Report>) -> (Self, watch::Receiver<bool>) {
        let give_up = watch::Sender::new(false);
        let must_end = give_up.subscribe();
        let supervisor = Self {
            gateway,
            reports,
            pauses_told: HashMap::new(),
            give_up,
        };
        (supervisor, must_end)
    }

    pub async fn run(mut self) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => self.look(),
                Some(report) = self.reports.recv() => self.hear(report),
            }
        }
    }

    fn look(&self) {
        let sights = {
            let plane = &mut *self.gateway.plane();
            plane.workers.look(&plane.listeners)
        };
        for sight in sights {
            self.tell(&sight);
        }
    }

    fn tell(&self, sight: &Sight) {
        let control = &self.gateway.metrics.control;
        let note = |level, kind, worker: usize, text: String| {
            self.gateway
                .journal
                .note(level, kind, &format!("worker {worker}"), text);
        };
        match sight {
            Sight::Late { worker, silent } => {
                control.workers_stalled.inc();
                let ms = silent.as_millis();
                note(
                    Severity::Warning,
                    "worker.late",
                    *worker,
                    format!("has not turned for {ms} ms"),
                );
            }
            Sight::Back { worker } => note(Severity::Info, "worker.back", *worker, "turns again".to_owned()),
            Sight::Replaced { worker, why } => {
                control.workers_replaced.inc();
                let why = match why {
                    Cause::Stalled => format!("did not turn for {} s", STALLED.as_secs()),
                    Cause::Died => "ended by itself".to_owned(),
                };
                note(
                    Severity::Error,
                    "worker.replaced",
                    *worker,
                    format!("{why}; its sockets went to a new thread"),
                );
            }
            Sight::NotReplaced { worker, error } => {
                note(
                    Severity::Error,
                    "worker.not_replaced",
                    *worker,
                    format!("could not be replaced: {error}"),
                );
            }
            Sight::GiveUp => {
                if !self.give_up.send_replace(true) {
                    let text = format!("{MAX_REPLACEMENTS} workers were replaced already: the gateway ends");
                    self.gateway
                        .journal
                        .note(Severity::Error, "worker.give_up", "", text);
                }
            }
        }
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Unlistened { worker, socket } => self.gateway.closed(worker, socket),
            Report::Panicked { worker, count } => {
                let text =
                    format!("{count} connections ended by a bug in the gateway; others are not affected");
                self.gateway
                    .journal
                    .note(Severity::Error, "worker.panic", &format!("worker {worker}"), text);
            }
            Report::AcceptPaused {
                worker,
                listener,
                error,
            } => self.accept_paused(worker, &listener, &error),
        }
    }

    fn accept_paused(&mut self, worker: usize, listener: &Arc<str>, error: &str) {
        let now = Instant::now();
        if self
            .pauses_told
            .get(listener)
            .is_some_and(|told| now.duration_since(*told) < PAUSE_TOLD)
        {
            return;
        }
        // Bounded by the listeners of the moment, not by all there ever were.
        self.pauses_told
            .retain(|_, told| now.duration_since(*told) < PAUSE_TOLD);
        self.pauses_told.insert(listener.clone(), now);
        let text = format!("worker {worker} pauses accepting: {error}");
        self.gateway.journal.note(
            Severity::Warning,
            "accept.paused",
            &format!("listener {listener}"),
            text,
        );
    }
}
