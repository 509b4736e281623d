//! Watches how endpoints do: ejects by error rate, tells of ejections and of returns, forgives.
//!
//! Workers eject by themselves when failures come in a row, and an ejection ends by itself; what needs the counts of
//! all workers, or has to be written down, is done here, a few times a second.

use super::breaker;
use super::gateway::Gateway;
use crate::base::clock::Millis;
use crate::telemetry::events::Severity;
use crate::telemetry::metrics::Outcomes;
use crate::upstream::shared::outlier::{self, Ejection, Reason};
use crate::upstream::shared::rate::{Tally, Window};
use crate::upstream::shared::{EndpointKey, EndpointState, UpstreamPlan};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How often the endpoints are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Looks at all endpoints until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut watcher = Watcher {
        gateway,
        endpoints: HashMap::new(),
        upstreams: HashMap::new(),
    };
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        watcher.look(Millis::now());
    }
}

/// What is remembered of an endpoint between two looks.
#[derive(Debug)]
struct Watch {
    state: Arc<EndpointState>,
    window: Window,
    /// Ejections told so far.
    told: u64,
    /// The last one told has not been told to be over.
    out: bool,
}

impl Watch {
    fn new(state: &Arc<EndpointState>) -> Self {
        Self {
            state: state.clone(),
            window: Window::default(),
            told: 0,
            out: false,
        }
    }
}

#[derive(Debug)]
struct Watcher {
    gateway: Arc<Gateway>,
    /// Those of the snapshot in force.
    endpoints: HashMap<EndpointKey, Watch>,
    upstreams: HashMap<Arc<str>, breaker::Watch>,
}

impl Watcher {
    fn look(&mut self, now: Millis) {
        let snapshot = self.gateway.live.load();
        let judged = snapshot
            .upstreams
            .iter()
            .any(|plan| judges_by_rate(plan) || breaker::is_judged(plan));
        let outcomes = if judged {
            self.gateway.metrics.outcomes()
        } else {
            BTreeMap::new()
        };
        for plan in &snapshot.upstreams {
            let of_upstream = outcomes.get(&*plan.name);
            for (index, endpoint) in plan.endpoints.iter().enumerate() {
                let key = &endpoint.state.key;
                let watch = self
                    .endpoints
                    .entry(key.clone())
                    .or_insert_with(|| Watch::new(&endpoint.state));
                if !Arc::ptr_eq(&watch.state, &endpoint.state) {
                    *watch = Watch::new(&endpoint.state);
                }
                let counted = of_upstream.and_then(|endpoints| endpoints.get(&*key.address));
                watch.judge(plan, index, counted.copied().unwrap_or_default(), now);
                watch.tell(&self.gateway, now);
                endpoint.state.ejections.forgive(now);
            }
            let mut all = Outcomes::default();
            for counted in of_upstream.into_iter().flat_map(BTreeMap::values) {
                all.requests += counted.requests;
                all.faults += counted.faults;
            }
            let watch = self.upstreams.entry(plan.name.clone()).or_default();
            watch.look(&self.gateway, plan, all, now);
        }
        if self.upstreams.len() > snapshot.upstreams.len() {
            let known = |name: &Arc<str>| snapshot.upstreams.iter().any(|plan| plan.name == *name);
            self.upstreams.retain(|name, _| known(name));
        }
        let in_force: usize = snapshot.upstreams.iter().map(|plan| plan.endpoints.len()).sum();
        if self.endpoints.len() > in_force {
            self.forget_others();
        }
    }

    /// An endpoint that left the configuration is held by nobody else once its last request has ended.
    fn forget_others(&mut self) {
        let snapshot = self.gateway.live.load();
        let known = |watch: &Watch| {
            let endpoints = snapshot.upstreams.iter().flat_map(|plan| &plan.endpoints);
            endpoints
                .into_iter()
                .any(|endpoint| Arc::ptr_eq(&endpoint.state, &watch.state))
        };
        self.endpoints.retain(|_, watch| known(watch));
    }
}

fn judges_by_rate(plan: &UpstreamPlan) -> bool {
    plan.resilience.outlier.error_rate > 0.0
}

impl Watch {
    fn judge(&mut self, plan: &UpstreamPlan, index: usize, counted: Outcomes, now: Millis) {
        let rules = &plan.resilience.outlier;
        if !judges_by_rate(plan) {
            return self.window.restart();
        }
        let counters = Tally {
            requests: counted.requests,
            failures: counted.faults,
        };
        let tally = self.window.observe(now, counters, rules.window);
        if !tally.reaches(rules.error_rate, rules.min_requests) {
            return;
        }
        let Tally { requests, failures } = tally;
        if outlier::eject(plan, index, Reason::TooMany { failures, requests }, now) {
            // When it comes back, it is judged by what it does then.
            self.window.restart();
        }
    }

    fn tell(&mut self, gateway: &Gateway, now: Millis) {
        let total = self.state.ejections.total();
        // It may have come back and failed again since the last look.
        if self.out && (total != self.told || self.state.standing.ejected_until() <= now) {
            self.out = false;
            self.window.restart();
            let text = "gets requests again".to_owned();
            gateway.journal.note(
                Severity::Info,
                "endpoint.readmitted",
                &name(&self.state.key),
                text,
            );
        }
        if total != self.told
            && let Some(last) = self.state.ejections.last()
        {
            self.told = total;
            self.out = true;
            // What failed before and while it is out says nothing of how it will do.
            self.window.restart();
            tell_ejected(gateway, &self.state, &last, total);
        }
    }
}

fn tell_ejected(gateway: &Gateway, state: &EndpointState, ejection: &Ejection, times: u64) {
    let time = ejection.until.since(ejection.since);
    let text = format!("{}; left alone for {:.1} s", ejection.reason, time.as_secs_f64());
    let detection = ejection.detection.map(|time| time.as_millis() as u64);
    let data = json!({
        "trigger": if matches!(ejection.reason, Reason::Cluster { .. }) { "cluster" } else { "passive" },
        "detection_ms": detection,
        "upstream": &*state.key.upstream,
        "endpoint": &*state.key.address,
        "reason": ejection.reason.to_string(),
        "seconds": time.as_secs_f64(),
        "times": times,
        "in_flight": state.in_flight(),
    });
    gateway.journal.events.post(
        "endpoint.ejected",
        Severity::Warning,
        name(&state.key),
        text,
        data,
    );
}

fn name(key: &EndpointKey) -> String {
    format!("{}/{}", key.upstream, key.address)
}
