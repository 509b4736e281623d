//! The names in use, and waiting for their first answers.

use crate::config::Config;
use crate::config::model::{DiscoverFrom, DnsName, EndpointAddress};
use crate::upstream::shared::EndpointKey;
use crate::upstream::shared::names::Directory;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

/// Longest wait for names that have not been looked up yet, at a start and before a reload is put in force.
/// Whoever answers later is followed then.
pub const FIRST_ANSWERS: Duration = Duration::from_secs(1);

/// What names stand for, and who wants to know.
#[derive(Debug, Default)]
pub struct Names {
    pub directory: Directory,
    /// Names of a configuration that is to be put in force.
    wanted: watch::Sender<BTreeSet<DnsName>>,
    /// Rung when a look-up has ended.
    answered: watch::Sender<()>,
}

impl Names {
    /// Waits until every name of a configuration has been looked up once, but no longer than [`FIRST_ANSWERS`].
    pub async fn settle(&self, config: &Config) {
        let missing: BTreeSet<DnsName> = uses(config)
            .into_keys()
            .filter(|name| self.directory.answer(name).is_none())
            .collect();
        if missing.is_empty() {
            return;
        }
        let mut answered = self.answered.subscribe();
        self.wanted.send_replace(missing.clone());
        let all = answered.wait_for(|()| missing.iter().all(|name| self.directory.answer(name).is_some()));
        let in_time = tokio::time::timeout(FIRST_ANSWERS, all).await.is_ok();
        if !in_time {
            tracing::debug!("some names take long to be looked up");
        }
    }

    /// What [`Self::settle`] waited for is in force by now, or will not be.
    pub fn settled(&self) {
        self.wanted
            .send_if_modified(|wanted| !std::mem::take(wanted).is_empty());
    }

    pub(super) fn wanted(&self) -> watch::Receiver<BTreeSet<DnsName>> {
        self.wanted.subscribe()
    }

    pub(super) fn answered(&self) {
        self.answered.send_replace(());
    }
}

/// Who uses a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    /// Endpoints that are written with it.
    pub endpoints: Vec<EndpointKey>,
    /// Upstreams that discover their endpoints by it, each with the number that it takes.
    pub upstreams: Vec<(String, usize)>,
}

/// The names of a configuration with their users.
pub(super) fn uses(config: &Config) -> BTreeMap<DnsName, Uses> {
    let mut uses: BTreeMap<DnsName, Uses> = BTreeMap::new();
    for (upstream, plan) in &config.upstreams {
        for endpoint in &plan.endpoints {
            if let EndpointAddress::Name { host, port } = &endpoint.address {
                let name = DnsName::Host {
                    host: host.clone(),
                    port: *port,
                };
                uses.entry(name).or_default().endpoints.push(EndpointKey {
                    upstream: upstream.as_str().into(),
                    address: endpoint.text.as_str().into(),
                });
            }
        }
        if let Some(discover) = &plan.discover
            && let DiscoverFrom::Dns(name) = &discover.from
        {
            let users = &mut uses.entry(name.clone()).or_default().upstreams;
            users.push((upstream.clone(), discover.max_endpoints));
        }
    }
    uses
}
