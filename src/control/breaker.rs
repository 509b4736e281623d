//! Opens breakers, tells what becomes of them, and sees to it that nobody waits in line beside an empty place.

use super::gateway::Gateway;
use crate::base::clock::Millis;
use crate::telemetry::events::Severity;
use crate::telemetry::metrics::Outcomes;
use crate::upstream::shared::UpstreamPlan;
use crate::upstream::shared::breaker::BreakerState;
use crate::upstream::shared::rate::{Tally, Window};
use serde_json::json;

/// What is remembered of an upstream between two looks.
#[derive(Debug)]
pub(super) struct Watch {
    window: Window,
    told: BreakerState,
    /// Openings told so far.
    opened: u64,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            window: Window::default(),
            told: BreakerState::Closed,
            opened: 0,
        }
    }
}

impl Watch {
    /// Looks once; `counted` is over all endpoints.
    pub fn look(&mut self, gateway: &Gateway, plan: &UpstreamPlan, counted: Outcomes, now: Millis) {
        self.judge(plan, counted, now);
        self.tell(gateway, plan, now);
        serve_line(plan, now);
    }

    fn judge(&mut self, plan: &UpstreamPlan, counted: Outcomes, now: Millis) {
        let rules = &plan.resilience.breaker;
        let breaker = &plan.resilience.admission.breaker;
        if !is_judged(plan) {
            // It was turned off while it was open.
            if breaker.state(now) != BreakerState::Closed {
                breaker.close();
            }
            return self.window.restart();
        }
        if breaker.state(now) != BreakerState::Closed {
            // It closes by its trials, and is judged by what comes then.
            return self.window.restart();
        }
        let counters = Tally {
            requests: counted.requests,
            failures: counted.faults,
        };
        let tally = self.window.observe(now, counters, rules.window);
        if tally.reaches(rules.error_rate, rules.min_requests) {
            breaker.open(tally, now, rules.open_for);
        }
    }

    fn tell(&mut self, gateway: &Gateway, plan: &UpstreamPlan, now: Millis) {
        let breaker = &plan.resilience.admission.breaker;
        let (state, opened) = (breaker.state(now), breaker.opened());
        let note = |severity, kind, text: &str| {
            gateway.journal.note(severity, kind, &plan.name, text.to_owned());
        };
        if opened != self.opened
            && let Some(last) = breaker.last()
        {
            self.opened = opened;
            let seconds = last.until.since(last.since).as_secs_f64();
            let text = format!("{last}; all are turned away for {seconds:.1} s");
            let data = json!({ "upstream": &*plan.name, "reason": last.to_string(), "seconds": seconds, "times": opened });
            gateway
                .journal
                .events
                .post("breaker.opened", Severity::Error, &*plan.name, text, data);
            self.told = BreakerState::Open;
        }
        if state != self.told {
            match state {
                BreakerState::Closed => {
                    note(Severity::Info, "breaker.closed", "lets everything through again")
                }
                BreakerState::HalfOpen => note(
                    Severity::Info,
                    "breaker.half_open",
                    "lets a few requests through to see",
                ),
                BreakerState::Open => {}
            }
            self.told = state;
        }
    }
}

/// Whether the counts of the upstream's attempts matter.
pub(super) fn is_judged(plan: &UpstreamPlan) -> bool {
    plan.resilience.breaker.error_rate > 0.0
}

/// Who leaves a place calls one in line. Places also come by other ways: an endpoint gets well, or may take more.
fn serve_line(plan: &UpstreamPlan, now: Millis) {
    let queue = &plan.resilience.admission.queue;
    let waiting = queue.waiting();
    if waiting == 0 {
        return;
    }
    let fallback = plan.fallback(now);
    let usable = plan
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.is_open() && fallback.admits(&endpoint.state.standing, now));
    let mut room = 0;
    let mut any = false;
    for endpoint in usable {
        any = true;
        room += match endpoint.max_connections {
            0 => waiting,
            most => most.saturating_sub(endpoint.state.load()) as usize,
        };
    }
    // With nobody left to wait for, they are all told so.
    let called = if any { room.min(waiting) } else { waiting };
    for _ in 0..called {
        queue.freed();
    }
}
