//! Names of the cluster and of its gateways that are no one else's, in the form that other systems have for them:
//! `cluster-RANDOM-SECONDS-RANDOM` and `node-SUFFIX-NUMBER-RANDOM`, where the suffix is the last part of the cluster's and
//! the number counts up as gateways get theirs. They are shown and nothing is decided by them: what a gateway is known by
//! is `cluster.node`.
//!
//! The cluster's is made by the first gateway and kept in the store, and by each gateway in its state directory: a flush
//! loses it no more than a restart does.

use crate::cluster::store::{StoreError, Table};
use crate::control::acme::store;
use crate::control::gateway::Gateway;
use crate::control::state_dir::read_bounded;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const TABLE: Table = Table::named("identity");
const CLUSTER: &str = "cluster";
/// The lease whose token is the number: each who has it gets the next.
const TASK: &str = "identity";
const LEASE: Duration = Duration::from_secs(2);
/// Name of the file in the state directory.
const FILE: &str = "cluster_identity";
/// Bytes of it that are read; ours has fewer.
const MAX_BYTES: u64 = 4096;
/// How often it is looked at while it isn't settled, and later.
const SOON: Duration = Duration::from_secs(1);
const SELDOM: u32 = 30;
/// Characters of what is random.
const RANDOM: usize = 8;

/// What a gateway is called in this form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Empty before the store has told it.
    pub cluster: String,
    /// Empty before it has its number.
    pub node: String,
}

impl Identity {
    /// Whether the gateway's is one of that cluster.
    fn is_settled(&self) -> bool {
        let suffix = suffix(&self.cluster);
        suffix.is_some() && suffix == of_cluster(&self.node)
    }
}

/// Finds out, keeps, and brings back to the store what it lost, for as long as the gateway lives.
pub async fn run(gateway: Arc<Gateway>) {
    let directory = gateway.node.state_dir.clone();
    let mut known = directory.as_deref().map(kept).unwrap_or_default();
    if known.is_settled() {
        gateway.cluster.call(known.clone());
    }
    let mut ticks = interval(SOON);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rest = 0;
    loop {
        ticks.tick().await;
        if rest > 0 {
            rest -= 1;
            continue;
        }
        // While the store is away it is asked again.
        let Ok(found) = look(&gateway, &known).await else {
            continue;
        };
        if found == known {
            rest = if known.is_settled() { SELDOM } else { 0 };
            continue;
        }
        known = found;
        gateway.cluster.call(known.clone());
        if let Some(directory) = directory.clone().filter(|_| known.is_settled()) {
            let text = serde_json::to_vec(&known).unwrap_or_default();
            let kept = tokio::task::spawn_blocking(move || store::write(&directory.join(FILE), &text)).await;
            if let Ok(Err(error)) = kept {
                tracing::debug!(%error, "the ids of cluster and gateway are not kept");
            }
        }
    }
}

async fn look(gateway: &Gateway, known: &Identity) -> Result<Identity, StoreError> {
    let bus = &gateway.cluster.bus;
    let entries = bus.read(TABLE).await?;
    let stored = entries
        .iter()
        .find(|entry| entry.key == CLUSTER)
        .and_then(|entry| String::from_utf8(entry.value.as_ref()?.to_vec()).ok())
        .filter(|id| suffix(id).is_some());
    let Some(cluster) = stored else {
        let cluster = match suffix(&known.cluster) {
            Some(_) => known.cluster.clone(),
            None => new_cluster(Timestamp::now()),
        };
        let revision = entries.iter().map(|entry| entry.revision + 1).max().unwrap_or(1);
        bus.put(TABLE, CLUSTER, Bytes::from(cluster), revision).await?;
        // Of several who did so at once one has won: the next look tells.
        return Ok(known.clone());
    };
    let now = Identity {
        cluster,
        node: known.node.clone(),
    };
    if now.is_settled() {
        return Ok(now);
    }
    let Some(lease) = bus.acquire(TASK, LEASE).await? else {
        return Ok(Identity {
            node: String::new(),
            ..now
        });
    };
    let number = lease.token;
    let _lapses_otherwise = bus.release(&lease).await;
    Ok(Identity {
        node: new_node(&now.cluster, number),
        ..now
    })
}

fn new_cluster(at: Timestamp) -> String {
    format!("cluster-{}-{}-{}", random(), at.as_second(), random())
}

fn new_node(cluster: &str, number: u64) -> String {
    let suffix = suffix(cluster).unwrap_or_default();
    format!("node-{suffix}-{number}-{}", random())
}

fn random() -> String {
    let letters = || fastrand::char('a'..='z');
    let any = || match fastrand::u8(..36) {
        digit @ 0..10 => char::from(b'0' + digit),
        letter => char::from(b'a' + letter - 10),
    };
    // A letter first, so that no part is taken for a number.
    std::iter::once(letters())
        .chain(std::iter::repeat_with(any).take(RANDOM - 1))
        .collect()
}

/// The last part of a cluster's id; `None` where it is none.
fn suffix(cluster: &str) -> Option<&str> {
    let mut parts = cluster.strip_prefix("cluster-")?.split('-');
    let (first, seconds, last) = (parts.next()?, parts.next()?, parts.next()?);
    let good = is_random(first)
        && is_random(last)
        && parts.next().is_none()
        && seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0);
    good.then_some(last)
}

/// The cluster's suffix in a node's id; `None` where it is none.
fn of_cluster(node: &str) -> Option<&str> {
    let mut parts = node.strip_prefix("node-")?.split('-');
    let (suffix, number, last) = (parts.next()?, parts.next()?, parts.next()?);
    let good =
        is_random(suffix) && is_random(last) && parts.next().is_none() && number.parse::<u64>().is_ok();
    good.then_some(suffix)
}

fn is_random(part: &str) -> bool {
    part.len() == RANDOM && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Blocking.
fn kept(directory: &Path) -> Identity {
    let text = read_bounded(&directory.join(FILE), MAX_BYTES).ok().flatten();
    let read = text.and_then(|text| serde_json::from_slice::<Identity>(&text).ok());
    read.filter(Identity::is_settled).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_read_as_they_are_made() {
        let cluster = new_cluster(Timestamp::now());
        let node = new_node(&cluster, 3);
        assert_eq!(of_cluster(&node), suffix(&cluster), "{cluster} {node}");
        assert!(Identity { cluster, node }.is_settled());
    }

    #[test]
    fn what_is_no_id_is_not_taken_for_one() {
        for bad in [
            "",
            "cluster-",
            "cluster-abcdefgh-0-abcdefgh",
            "cluster-abcdefgh-yesterday-abcdefgh",
            "cluster-abcdefgh--1-abcdefgh",
            "cluster-abcdefgh-99999999999-abcdefgh",
            "cluster-abcdefgh-1-abcdefgh-1",
            "cluster-ABCDEFGH-1-abcdefgh",
            "cluster-abcdefgh-1-abc",
        ] {
            assert_eq!(suffix(bad), None, "{bad}");
        }
        for bad in [
            "node-abcdefgh-x-abcdefgh",
            "node-abcdefgh-1",
            "gw-1",
            "node-abcdefgh-1-abcdefg\n",
        ] {
            assert_eq!(of_cluster(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "\\PC{0,60}") {
            let _ = (suffix(&text), of_cluster(&text));
        }
    }
}
