//! Keeps names resolved: those of endpoints, and those that endpoints are discovered by.
//!
//! The gateway serves before the first answer: an endpoint without an address is passed over, and tried again
//! soon. An answer, also that there is none (RFC 2308), is asked for again when its time to live has passed, within `dns.min_ttl` and `dns.max_ttl`. A
//! look-up that fails or finds nothing keeps the last good answer, however old: a dead name server must not take
//! down what runs.
//!
//! | file | does |
//! |---|---|
//! | `lookup` | one look-up: hosts file, search domains, name servers |
//! | `answer` | from records to places, pure |
//! | `hosts`, `system` | the system's files |
//! | `names` | who uses which name, and waiting for the first answers |
//! | `pace` | how often a name is told about |

mod answer;
mod hosts;
mod lookup;
mod names;
mod pace;
mod system;

pub use names::{FIRST_ANSWERS, Names};

use super::gateway::Gateway;
use crate::config::model::{Dns, DnsName};
use crate::telemetry::events::Severity;
use crate::telemetry::metrics::DnsResult;
use crate::upstream::shared::names::Place;
use crate::upstream::shared::{EndpointState, Target};
use answer::Known;
pub use answer::LookupError;
use lookup::Found;
use names::Uses;
use pace::Pace;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use system::System;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Look-ups under way at the same time.
const MAX_LOOKUPS: usize = 64;
/// First wait after a failure; it doubles up to `dns.max_ttl`.
const RETRY: Duration = Duration::from_secs(1);
/// Longest sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(60);
/// Addresses that are told of an answer.
const TOLD: usize = 8;

/// When a name is due, and what became of it.
#[derive(Debug)]
struct Watch {
    due: Instant,
    under_way: bool,
    /// Look-ups in a row that failed.
    failures: u32,
    /// The hosts of the last good answer with their addresses.
    known: Arc<Known>,
    pace: Pace,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self {
            due: now,
            under_way: false,
            failures: 0,
            known: Arc::default(),
            pace: Pace::new(now),
        }
    }
}

type Lookup = (DnsName, Result<Found, LookupError>);

/// Resolves until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut wanted = gateway.names.wanted();
    let mut resolver = Resolver {
        gateway,
        uses: BTreeMap::new(),
        watches: BTreeMap::new(),
        lookups: JoinSet::new(),
        system: System::default(),
        dns: None,
        cut: BTreeSet::new(),
    };
    resolver.follow_config(&wanted.borrow_and_update().clone());
    loop {
        resolver.start_due();
        let next = resolver.next_due();
        tokio::select! {
            () = resolver.gateway.endpoints_changed.notified() => {
                let more = wanted.borrow().clone();
                resolver.follow_config(&more);
            }
            Ok(()) = wanted.changed() => {
                let more = wanted.borrow_and_update().clone();
                resolver.follow_config(&more);
            }
            Some(done) = resolver.lookups.join_next() => match done {
                Ok(lookup) => resolver.finished(lookup),
                Err(_) => resolver.ask_again(),
            },
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// Looks a host up once, for who asks seldom and keeps nothing.
///
/// # Errors
/// There is no answer, or none to connect to.
pub async fn look_up(dns: &Dns, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
    let name = DnsName::Host {
        host: host.to_owned(),
        port,
    };
    let found = System::default()
        .asker(dns)?
        .look_up(&name, &Known::new())
        .await?;
    Ok(found.places.iter().map(|place| place.address).collect())
}

#[derive(Debug)]
struct Resolver {
    gateway: Arc<Gateway>,
    /// The names of the configuration in force, and of one that is to be.
    uses: BTreeMap<DnsName, Uses>,
    watches: BTreeMap<DnsName, Watch>,
    lookups: JoinSet<Lookup>,
    system: System,
    /// By what the names were asked.
    dns: Option<Dns>,
    /// Upstreams that use fewer endpoints than they have.
    cut: BTreeSet<String>,
}

impl Resolver {
    /// Takes up names that came, with the answer they have already, and lets go of those that went.
    fn follow_config(&mut self, more: &BTreeSet<DnsName>) {
        let running = self.gateway.running.load_full();
        self.uses = names::uses(&running.config);
        for name in more {
            self.uses.entry(name.clone()).or_default();
        }
        self.watches.retain(|name, _| self.uses.contains_key(name));
        self.gateway
            .names
            .directory
            .retain(|name| self.uses.contains_key(name));
        for name in self.uses.keys() {
            self.watches
                .entry(name.clone())
                .or_insert_with(|| Watch::new(Instant::now()));
            // An endpoint of a known name that a reload added.
            let places = self.gateway.names.directory.places(name);
            if !places.is_empty() {
                self.hand_out(name, |state| state.set_targets(targets(&places)));
            }
        }
        if self.dns.as_ref() != Some(&running.config.dns) {
            self.dns = Some(running.config.dns.clone());
            self.ask_all();
        }
        self.tell_cuts();
        // What was answered between the compiling of a snapshot and now.
        if self.uses.values().any(|uses| !uses.upstreams.is_empty()) {
            self.gateway.upstreams_changed.notify_one();
        }
    }

    /// Other servers may say something else.
    fn ask_all(&mut self) {
        let now = Instant::now();
        for watch in self.watches.values_mut() {
            watch.failures = 0;
            watch.due = now;
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let running = self.gateway.running.load_full();
        for (name, watch) in &mut self.watches {
            if self.lookups.len() >= MAX_LOOKUPS {
                return;
            }
            if watch.due > now || watch.under_way {
                continue;
            }
            watch.under_way = true;
            let (name, known) = (name.clone(), Arc::clone(&watch.known));
            match self.system.asker(&running.config.dns) {
                Ok(asker) => drop(self.lookups.spawn(async move {
                    let found = asker.look_up(&name, &known).await;
                    (name, found)
                })),
                Err(error) => drop(self.lookups.spawn(async move { (name, Err(error)) })),
            }
        }
    }

    /// A look-up ended without an answer, by a bug: nobody knows which, so all that are under way are due.
    fn ask_again(&mut self) {
        for watch in self.watches.values_mut().filter(|watch| watch.under_way) {
            watch.under_way = false;
            watch.due = Instant::now() + RETRY;
        }
    }

    fn next_due(&self) -> Instant {
        let waiting = self.watches.values().filter(|watch| !watch.under_way);
        // With all places taken, a finished look-up is what there is to wait for.
        let earliest = if self.lookups.len() < MAX_LOOKUPS {
            waiting.map(|watch| watch.due).min()
        } else {
            None
        };
        earliest.unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn finished(&mut self, (name, result): Lookup) {
        let counts = &self.gateway.metrics.control.dns;
        counts.inc(match &result {
            Ok(_) => DnsResult::Ok,
            Err(LookupError::NoSuchName(_)) => DnsResult::NoSuchName,
            Err(LookupError::NoAddress(_)) => DnsResult::NoAddress,
            Err(LookupError::ServerFailed(_)) => DnsResult::ServerFailed,
            Err(LookupError::Timeout) => DnsResult::Timeout,
            Err(LookupError::Failed(_)) => DnsResult::Failed,
        });
        if self.watches.contains_key(&name) {
            match result {
                Ok(found) => self.found(&name, found),
                Err(error) => self.failed(&name, &error),
            }
        }
        self.gateway.names.answered();
    }

    fn found(&mut self, name: &DnsName, found: Found) {
        let changed = self.gateway.names.directory.found(name, &found.places);
        self.hand_out(name, |state| state.set_targets(targets(&found.places)));
        let Some(watch) = self.watches.get_mut(name) else {
            return;
        };
        let (now, dns) = (Instant::now(), &self.gateway.running.load().config.dns);
        watch.under_way = false;
        watch.due = now + answer::keep(found.ttl, dns.min_ttl, dns.max_ttl, fastrand::f64());
        watch.known = Arc::new(found.known);
        let recovered = std::mem::take(&mut watch.failures) > 0;
        let untold = if changed || recovered || watch.pace.owes(now) {
            watch.pace.tell(now)
        } else {
            None
        };
        if let Some(untold) = untold {
            self.tell_found(name, &found.places, untold);
        }
        let discovers = self.uses.get(name).is_some_and(|uses| !uses.upstreams.is_empty());
        if changed && discovers {
            self.tell_cuts();
            self.gateway.upstreams_changed.notify_one();
        }
    }

    fn failed(&mut self, name: &DnsName, error: &LookupError) {
        self.gateway.names.directory.failed(name, &error.to_string());
        self.hand_out(name, |state| state.resolution_failed(error.to_string()));
        let Some(watch) = self.watches.get_mut(name) else {
            return;
        };
        let now = Instant::now();
        watch.under_way = false;
        watch.failures = watch.failures.saturating_add(1);
        let dns = &self.gateway.running.load().config.dns;
        watch.due = now
            + match error.ttl() {
                Some(ttl) => answer::keep(ttl, dns.min_ttl, dns.max_ttl, fastrand::f64()),
                None => backoff(watch.failures, dns.max_ttl),
            };
        // The first of a row is news.
        if watch.failures == 1
            && let Some(untold) = watch.pace.tell(now)
        {
            self.tell_failed(name, error, untold);
        }
    }

    fn tell_found(&self, name: &DnsName, places: &[Place], untold: u32) {
        let shown: Vec<String> = places.iter().take(TOLD).map(|place| shown(name, place)).collect();
        let rest = match places.len().saturating_sub(TOLD) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let text = format!("resolves to {}{rest}{}", shown.join(", "), in_between(untold));
        let journal = &self.gateway.journal;
        journal.note(Severity::Info, "endpoint.resolved", &name.to_string(), text);
    }

    fn tell_failed(&self, name: &DnsName, error: &LookupError, untold: u32) {
        let rest = if self.gateway.names.directory.places(name).is_empty() {
            "it gets no requests until it resolves"
        } else {
            "the last answer stays in use"
        };
        let text = format!("cannot be resolved: {error}; {rest}{}", in_between(untold));
        let journal = &self.gateway.journal;
        journal.note(Severity::Warning, "endpoint.unresolved", &name.to_string(), text);
    }

    /// Tells which upstreams use fewer endpoints than they have, once when it begins.
    fn tell_cuts(&mut self) {
        let mut cut = BTreeSet::new();
        for (name, uses) in &self.uses {
            let found = self.gateway.names.directory.places(name).len();
            for (upstream, most) in uses.upstreams.iter().filter(|(_, most)| found > *most) {
                cut.insert(upstream.clone());
                if !self.cut.contains(upstream) {
                    let text = format!(
                        "{name} stands for {found} endpoints, of which discover.max_endpoints lets in {most}"
                    );
                    let journal = &self.gateway.journal;
                    journal.note(Severity::Warning, "upstream.endpoints_left_out", upstream, text);
                }
            }
        }
        self.cut = cut;
    }

    /// Does something to each endpoint of this name that is in force.
    fn hand_out(&self, name: &DnsName, act: impl Fn(&EndpointState)) {
        for key in self.uses.get(name).into_iter().flat_map(|uses| &uses.endpoints) {
            act(&self.gateway.registry.endpoint(key.clone(), Vec::new));
        }
    }
}

/// A host's port is known; a service's is news.
fn shown(name: &DnsName, place: &Place) -> String {
    match name {
        DnsName::Host { .. } => place.address.ip().to_string(),
        DnsName::Service(_) => place.address.to_string(),
    }
}

fn in_between(untold: u32) -> String {
    match untold {
        0 => String::new(),
        n => format!("; it changed {n} times in between"),
    }
}

fn targets(places: &[Place]) -> Vec<Target> {
    places.iter().map(|place| Target::Tcp(place.address)).collect()
}

fn backoff(failures: u32, most: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (RETRY * 2_u32.pow(doublings)).min(most.max(RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tried_again_after_a_growing_wait() {
        let most = Duration::from_secs(30);
        let waits: Vec<u64> = [1, 2, 3, 5, 6, u32::MAX]
            .map(|n| backoff(n, most).as_secs())
            .to_vec();
        assert_eq!(waits, [1, 2, 4, 16, 30, 30]);
        assert_eq!(backoff(3, Duration::ZERO), RETRY, "never a busy loop");
    }
}
