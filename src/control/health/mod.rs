//! Active checks: a prober for each endpoint whose upstream has `health`, whatever its address comes from.
//!
//! Probers come and go with the snapshots, and what they have found out lives in the endpoint's state: a reload
//! starts nobody anew. Their verdicts reach the workers as one word of that state, read at every pick.
//!
//! | file | does |
//! |---|---|
//! | [`prober`] | probes one endpoint, time and again |
//! | [`probe`], [`http2`], [`grpc`], [`websocket`] | one probe |
//! | [`line`] | learns at once that an idle endpoint is gone |
//! | [`fail_open`] | tells when verdicts are not heeded because they speak against everybody |
//! | [`view`] | what the API and the scrape show |

pub mod fail_open;
mod grpc;
mod http2;
mod line;
mod probe;
mod prober;
pub mod view;
mod websocket;

use self::probe::Question;
use self::prober::Prober;
use super::gateway::Gateway;
use crate::base::clock::Millis;
use crate::base::task;
use crate::snapshot::Snapshot;
use crate::upstream::conn::Dial;
use crate::upstream::shared::check::{CheckPlan, HOLD};
use crate::upstream::shared::health::Record;
use crate::upstream::shared::standing::Health;
use crate::upstream::shared::{AdminState, EndpointKey, EndpointPlan, EndpointState};
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Probes under way at the same time; each holds a descriptor.
const MAX_PROBES: usize = 1024;

/// Keeps a prober for each endpoint that is to be checked, until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut swaps = gateway.live.swaps();
    let mut checkers = Checkers {
        permits: Arc::new(Semaphore::new(MAX_PROBES)),
        running: HashMap::new(),
        gateway,
    };
    loop {
        let snapshot = checkers.gateway.live.load();
        checkers.follow(&snapshot);
        drop(snapshot);
        if swaps.changed().await.is_err() {
            return;
        }
    }
}

struct Checkers {
    gateway: Arc<Gateway>,
    permits: Arc<Semaphore>,
    running: HashMap<EndpointKey, Running>,
}

/// A prober at work; dropping it ends it.
struct Running {
    state: Arc<EndpointState>,
    check: Arc<CheckPlan>,
    authority: Arc<str>,
    dial: Arc<Dial>,
    server_name: Option<ServerName<'static>>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// Whether it does what is wanted of a prober for this endpoint.
    fn serves(&self, endpoint: &EndpointPlan, check: &CheckPlan, dial: &Arc<Dial>) -> bool {
        Arc::ptr_eq(&self.state, &endpoint.state)
            && self.check.check == check.check
            && self.authority == endpoint.authority
            && Arc::ptr_eq(&self.dial, dial)
            && self.server_name == endpoint.server_name
            && !self.task.is_finished()
    }
}

impl Checkers {
    fn follow(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.running);
        for upstream in &snapshot.upstreams {
            for endpoint in &upstream.endpoints {
                let Some(check) = &upstream.health else {
                    forget(&endpoint.state);
                    continue;
                };
                if endpoint.admin == AdminState::Maintenance {
                    suspend(&endpoint.state);
                    continue;
                }
                let key = &endpoint.state.key;
                let running = match before.remove(key) {
                    Some(running) if running.serves(endpoint, check, &upstream.dial) => running,
                    // A new one does not begin before the old one has ended.
                    other => {
                        drop(other);
                        self.start(endpoint, check, &upstream.dial)
                    }
                };
                self.running.insert(key.clone(), running);
            }
        }
    }

    fn start(&self, endpoint: &EndpointPlan, check: &Arc<CheckPlan>, dial: &Arc<Dial>) -> Running {
        begin(&endpoint.state);
        let prober = Prober::new(
            Arc::clone(&self.gateway),
            Arc::clone(&endpoint.state),
            Question::new(Arc::clone(check), Arc::clone(dial), endpoint),
            Arc::clone(&self.permits),
        );
        Running {
            state: Arc::clone(&endpoint.state),
            check: Arc::clone(check),
            authority: Arc::clone(&endpoint.authority),
            dial: Arc::clone(dial),
            server_name: endpoint.server_name.clone(),
            task: task::spawn(prober.run()),
        }
    }
}

/// Makes sure that there is a record. What was known stays known, also to other checks than those that found it
/// out; an endpoint that served unchecked goes on serving until probes say otherwise.
fn begin(state: &EndpointState) {
    let now = Millis::now();
    let mut record = state.checks.lock();
    if record.is_none() {
        let presumed = match state.standing.health() {
            Health::Unchecked => Health::Healthy,
            presumed => presumed,
        };
        *record = Some(Box::new(Record::new(presumed, now)));
    }
    match record
        .as_ref()
        .map_or(Health::Unchecked, |record| record.health())
    {
        Health::Pending => state.standing.await_verdict(now.plus(HOLD)),
        verdict if verdict == state.standing.health() => {}
        verdict => state.standing.set_health(verdict),
    }
}

/// Nobody checks it any more.
fn forget(state: &EndpointState) {
    if state.standing.health() != Health::Unchecked {
        *state.checks.lock() = None;
        state.standing.set_health(Health::Unchecked);
    }
}

/// Whatever becomes of it now is no news; when it is back, nothing is known of it.
fn suspend(state: &EndpointState) {
    *state.checks.lock() = None;
    state.standing.set_health(Health::Pending);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(presumed: Health) -> EndpointState {
        let key = EndpointKey {
            upstream: "api".into(),
            address: "a:1".into(),
        };
        EndpointState::new(key, Vec::new()).presumed(presumed)
    }

    fn verdict(state: &EndpointState) -> (Health, Health) {
        let known = state.checks.lock().as_ref().map(|record| record.verdict());
        (state.standing.health(), known.unwrap_or(Health::Unchecked))
    }

    #[test]
    fn an_endpoint_that_serves_goes_on_serving_when_checks_begin() {
        let served = state(Health::Unchecked);
        begin(&served);
        assert_eq!(verdict(&served), (Health::Healthy, Health::Healthy));
    }

    #[test]
    fn a_new_endpoint_is_what_it_is_presumed_to_be() {
        for presumed in [Health::Pending, Health::Healthy, Health::Unhealthy] {
            let new = state(presumed);
            begin(&new);
            assert_eq!(verdict(&new), (presumed, presumed));
        }
    }

    #[test]
    fn other_checks_begin_with_what_is_known() {
        let down = state(Health::Unhealthy);
        begin(&down);
        begin(&down);
        assert_eq!(verdict(&down), (Health::Unhealthy, Health::Unhealthy));
    }

    #[test]
    fn after_maintenance_nothing_is_known() {
        let back = state(Health::Unhealthy);
        begin(&back);
        suspend(&back);
        begin(&back);
        assert_eq!(verdict(&back), (Health::Pending, Health::Pending));
        assert!(back.standing.awaits_verdict(Millis::now()));
    }

    #[test]
    fn without_checks_no_verdict_stands() {
        let free = state(Health::Unhealthy);
        begin(&free);
        forget(&free);
        assert_eq!(verdict(&free), (Health::Unchecked, Health::Unchecked));
    }
}
