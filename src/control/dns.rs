//! Keeps the names of endpoints resolved.
//!
//! The gateway serves before the first answer: an endpoint without an address is passed over, and tried again
//! soon. A failed look-up keeps the last good answer, however old: a dead name server must not take down what
//! runs. The system's resolver tells no time to live, so answers are asked for again at a fixed age.

use super::gateway::Gateway;
use crate::config::Config;
use crate::config::model::EndpointAddress;
use crate::telemetry::events::Severity;
use crate::upstream::shared::{EndpointKey, EndpointState, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Look-ups under way at the same time; each holds a thread.
pub const MAX_LOOKUPS: usize = 16;
/// Age at which a good answer is asked for again, within `dns.min_ttl` and `dns.max_ttl`.
const REFRESH: Duration = Duration::from_secs(30);
/// First wait after a failure; it doubles up to the refresh age.
const RETRY: Duration = Duration::from_secs(1);

/// A name with its port, as endpoints have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name {
    host: String,
    port: u16,
}

/// When a name is due, and what became of it.
#[derive(Debug)]
struct Watch {
    due: Instant,
    under_way: bool,
    failures: u32,
    /// The last good answer, sorted.
    answer: Option<BTreeSet<SocketAddr>>,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self {
            due: now,
            under_way: false,
            failures: 0,
            answer: None,
        }
    }
}

type Lookup = (Name, io::Result<Vec<SocketAddr>>);

/// Resolves until the runtime ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut resolver = Resolver {
        gateway,
        names: BTreeMap::new(),
        watches: BTreeMap::new(),
        lookups: JoinSet::new(),
    };
    resolver.follow_config();
    loop {
        resolver.start_due();
        let next = resolver.next_due();
        tokio::select! {
            () = resolver.gateway.endpoints_changed.notified() => resolver.follow_config(),
            Some(done) = resolver.lookups.join_next() => match done {
                Ok(lookup) => resolver.finished(lookup),
                Err(_) => resolver.ask_again(),
            },
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

#[derive(Debug)]
struct Resolver {
    gateway: Arc<Gateway>,
    /// Those of the configuration in force, each with its endpoints.
    names: BTreeMap<Name, Vec<EndpointKey>>,
    watches: BTreeMap<Name, Watch>,
    lookups: JoinSet<Lookup>,
}

impl Resolver {
    /// Takes up names that came, with the answer they have already, and lets go of those that went.
    fn follow_config(&mut self) {
        self.names = names(&self.gateway.running.load().config);
        self.watches.retain(|name, _| self.names.contains_key(name));
        for name in self.names.keys() {
            self.watches
                .entry(name.clone())
                .or_insert_with(|| Watch::new(Instant::now()));
        }
        for (name, watch) in &self.watches {
            if let Some(answer) = &watch.answer {
                // An endpoint of a known name that a reload added.
                self.hand_out(name, |state| {
                    if state.targets().list.is_empty() {
                        state.set_targets(targets(answer));
                    }
                });
            }
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for (name, watch) in &mut self.watches {
            if self.lookups.len() >= MAX_LOOKUPS {
                return;
            }
            if watch.due <= now && !watch.under_way {
                watch.under_way = true;
                self.lookups.spawn(look_up(name.clone()));
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
        // With all threads taken, a finished look-up is what there is to wait for.
        let earliest = if self.lookups.len() < MAX_LOOKUPS {
            waiting.map(|watch| watch.due).min()
        } else {
            None
        };
        earliest.unwrap_or_else(|| Instant::now() + REFRESH)
    }

    fn finished(&mut self, (name, result): Lookup) {
        let dns = self.gateway.running.load().config.dns.clone();
        let refresh = REFRESH.clamp(dns.min_ttl.min(dns.max_ttl), dns.max_ttl);
        let Some(watch) = self.watches.get_mut(&name) else {
            return;
        };
        watch.under_way = false;
        match result {
            Ok(found) => {
                let failed_before = std::mem::take(&mut watch.failures) > 0;
                watch.due = Instant::now() + refresh;
                let answer: BTreeSet<SocketAddr> = found.into_iter().collect();
                let changed = watch.answer.as_ref() != Some(&answer);
                watch.answer = Some(answer.clone());
                self.gateway.metrics.control.dns_ok.inc();
                if changed || failed_before {
                    self.resolved(&name, &answer);
                }
            }
            Err(error) => {
                watch.failures = watch.failures.saturating_add(1);
                watch.due = Instant::now() + backoff(watch.failures, refresh);
                let first = watch.failures == 1;
                self.gateway.metrics.control.dns_failed.inc();
                self.failed(&name, &error, first);
            }
        }
    }

    fn resolved(&self, name: &Name, answer: &BTreeSet<SocketAddr>) {
        let list = targets(answer);
        self.hand_out(name, |state| state.set_targets(list.clone()));
        let addresses: Vec<String> = answer.iter().map(|address| address.ip().to_string()).collect();
        let text = format!("resolves to {}", addresses.join(", "));
        self.gateway
            .journal
            .note(Severity::Info, "endpoint.resolved", &name.to_string(), text);
    }

    fn failed(&self, name: &Name, error: &io::Error, first: bool) {
        self.hand_out(name, |state| state.resolution_failed(error.to_string()));
        if first {
            let known = self.watches.get(name).is_some_and(|watch| watch.answer.is_some());
            let rest = if known {
                "the last answer stays in use"
            } else {
                "it gets no requests until it resolves"
            };
            let text = format!("cannot be resolved: {error}; {rest}");
            self.gateway
                .journal
                .note(Severity::Warning, "endpoint.unresolved", &name.to_string(), text);
        }
    }

    /// Does something to each endpoint of this name that is in force.
    fn hand_out(&self, name: &Name, act: impl Fn(&EndpointState)) {
        for key in self.names.get(name).into_iter().flatten() {
            act(&self.gateway.registry.endpoint(key.clone(), Vec::new));
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The names of a configuration, each with its endpoints.
fn names(config: &Config) -> BTreeMap<Name, Vec<EndpointKey>> {
    let mut names: BTreeMap<Name, Vec<EndpointKey>> = BTreeMap::new();
    for (upstream, plan) in &config.upstreams {
        for endpoint in &plan.endpoints {
            if let EndpointAddress::Name { host, port } = &endpoint.address {
                let key = EndpointKey {
                    upstream: upstream.as_str().into(),
                    address: endpoint.text.as_str().into(),
                };
                names
                    .entry(Name {
                        host: host.clone(),
                        port: *port,
                    })
                    .or_default()
                    .push(key);
            }
        }
    }
    names
}

fn targets(answer: &BTreeSet<SocketAddr>) -> Vec<Target> {
    answer.iter().copied().map(Target::Tcp).collect()
}

fn backoff(failures: u32, most: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (RETRY * 2_u32.pow(doublings)).min(most.max(RETRY))
}

async fn look_up(name: Name) -> Lookup {
    let found = tokio::net::lookup_host((name.host.as_str(), name.port))
        .await
        .and_then(|found| {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() {
                Err(io::Error::other("the name has no address"))
            } else {
                Ok(found)
            }
        });
    (name, found)
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

    #[tokio::test]
    async fn a_name_of_this_host_is_found() {
        let (name, found) = look_up(Name {
            host: "localhost".to_owned(),
            port: 80,
        })
        .await;
        assert!(
            found
                .unwrap()
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 80)
        );
        assert_eq!(name.to_string(), "localhost:80");
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_an_error() {
        let (_, found) = look_up(Name {
            host: "name.invalid".to_owned(),
            port: 80,
        })
        .await;
        assert!(found.is_err());
    }
}
