//! What the gateways of a cluster share, beyond knowing of each other. Every gateway has all of it itself and goes by
//! that; the bus makes the copies agree, and while it is away nothing is lost: what changed is told when it is back.
//!
//! | file | shares |
//! |---|---|
//! | [`overrides`] | drains, maintenance, weights, algorithms and thresholds that an operator set on any gateway |
//! | [`events`] | what happened, into the cluster's log |
//! | [`health`] | verdicts on endpoints: whoever finds one down makes the others look at once |
//! | [`probing`] | probes: where all is quiet, two gateways make them for all |
//! | [`services`] | what registered itself |
//! | [`config`] | the configuration itself, for gateways that follow it |
//! | [`keys`] | the secrets of sticky cookies and TLS tickets, sealed |
//! | [`identity`] | ids of the cluster and of its gateways in the form that other systems have |
//! | [`replica`] | one gateway's copy of a shared table, pure |
//! | [`verdict`] | what a majority may decide, pure |
//! | [`turns`] | who probes, and who may rest, pure |
//! | [`seal`] | secrets under the cluster's key |

pub mod config;
pub mod events;
pub mod health;
pub mod identity;
pub mod keys;
pub mod overrides;
pub mod probing;
pub mod replica;
pub mod seal;
pub mod services;
pub mod turns;
pub mod verdict;

use super::command::Commands;
use super::gateway::Gateway;
use crate::base::task;
use crate::cluster::store::{Entry, StoreError, Table, Written};
use crate::cluster::{Bus, Topic};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an announcement of an entry is called.
const KIND: &str = "entry";

/// Starts sharing, where there is anybody to share with.
pub fn start(gateway: &Arc<Gateway>, commands: &Commands) {
    // Also alone: versions, and the way back to one, are of use to one gateway too.
    task::spawn(config::run(Arc::clone(gateway), commands.clone()));
    // One alone has a log too, so that whoever asks for the cluster's need not know.
    task::spawn(events::run(Arc::clone(gateway)));
    task::spawn(identity::run(Arc::clone(gateway)));
    if gateway.cluster.bus.is_embedded() {
        return;
    }
    task::spawn(overrides::run(Arc::clone(gateway), commands.clone()));
    task::spawn(health::run(Arc::clone(gateway)));
    task::spawn(probing::run(Arc::clone(gateway)));
    task::spawn(services::run(Arc::clone(gateway)));
    task::spawn(keys::run(Arc::clone(gateway)));
}

/// An entry as it is announced, and kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    revision: u64,
    node: String,
}

impl Told {
    fn of(entry: &Entry) -> Option<Self> {
        let value = match &entry.value {
            Some(value) => Some(std::str::from_utf8(value).ok()?.to_owned()),
            None => None,
        };
        Some(Self {
            key: entry.key.clone(),
            value,
            revision: entry.revision,
            node: entry.node.clone(),
        })
    }

    fn entry(self) -> Entry {
        Entry {
            key: self.key,
            value: self.value.map(Bytes::from),
            revision: self.revision,
            node: self.node,
        }
    }

    fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// Tells the others of an entry. Whoever misses it finds it in the store.
fn announce(bus: &Bus, topic: Topic, entry: &Entry) {
    if let Some(told) = Told::of(entry) {
        let _heard = bus.announce(topic, KIND, &told.bytes());
    }
}

/// Brings an entry, or that it was removed, to the store.
async fn put(bus: &Bus, table: Table, entry: &Entry) -> Result<Written, StoreError> {
    match entry.value.clone() {
        Some(value) => bus.put(table, &entry.key, value, entry.revision).await,
        None => bus.remove(table, &entry.key, entry.revision).await,
    }
}

/// A moment as a revision: milliseconds of Unix time.
fn moment(at: jiff::Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}
