//! The secrets that gateways must have in common: what sticky cookies are signed with where the configuration names no
//! key, and the keys of TLS session tickets. All have them from the store, sealed under `cluster.key`. Without that key
//! nothing is shared. One gateway makes the keys of tickets, for as long as it is there; that of cookies is made once, by
//! whoever is first, and each that joins adds its own.
//!
//! A gateway that joins takes the cluster's secrets and goes on honouring its own. Those of cookies are kept in the state
//! directory, for nobody else to read: a start without Redis honours every cookie, and an empty Redis has them again. Ticket keys are made every six hours
//! and open for as long again, so that a session begun on one gateway is resumed on any.

use super::seal::Seal;
use crate::base::clock::calendar;
use crate::cluster::bus::{Bus, Topic};
use crate::cluster::store::{Entry, Lease, Table, Written};
use crate::control::acme::store;
use crate::control::gateway::Gateway;
use crate::control::state_dir::read_bounded;
use crate::telemetry::events::Severity;
use crate::tls::tickets::{ROTATION_SECONDS, TicketKey};
use aws_lc_rs::rand;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const LEASE: Duration = Duration::from_secs(10);
/// How often the lease is renewed and the store looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Entries of the table, and the leases under which they are written.
const TICKETS: &str = "tickets";
const STICKY: &str = "sticky";
const KIND: &str = "changed";
/// Name of the file in the state directory.
const FILE: &str = "cluster_secrets";
/// Bytes of the file that are read; ours has fewer.
const MAX_BYTES: u64 = 128 << 10;
/// Secrets of cookies that are honoured: the cluster's, and those that gateways brought along.
const MOST_SECRETS: usize = 8;
/// Looks at which nothing could be opened, and nobody was there who could, before it is made anew.
const PATIENCE: u32 = 1;
/// How long before its time is over the next ticket key is made.
const AHEAD_SECONDS: u64 = 600;

/// One ticket key as it is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SharedTicketKey {
    id: String,
    secret: String,
    born: u64,
}

/// Shares until the bus ends.
pub async fn run(gateway: Arc<Gateway>) {
    let Some(seal) = seal(&gateway) else {
        return;
    };
    let registry = Arc::clone(&gateway.registry);
    let own = tokio::task::spawn_blocking(move || registry.own_key().secret().map(<[u8]>::to_vec)).await;
    let own = own.ok().and_then(Result::ok).filter(|own| !own.is_empty());
    let mut ears = gateway.cluster.bus.listen(&[Topic::Keys]);
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut keeper = Keeper {
        sticky: gateway.node.state_dir.as_deref().map(kept).unwrap_or_default(),
        gateway: &gateway,
        seal,
        own: own.map(|own| hex(&own)),
        makes_tickets: Chore::new(TICKETS),
        brings_sticky: Chore::new(STICKY),
        tickets: Vec::new(),
        told: String::new(),
        closed: 0,
    };
    loop {
        tokio::select! {
            heard = ears.next() => match heard {
                None => return,
                Some(_) => keeper.look().await,
            },
            _ = ticks.tick() => keeper.look().await,
        }
    }
}

/// What seals for the gateway's cluster; `None` without `cluster.key`.
pub(super) fn seal(gateway: &Gateway) -> Option<Seal> {
    let running = gateway.running.load();
    let key = running.config.cluster.key.as_ref()?;
    Seal::new(key.0.as_bytes(), &gateway.cluster.name)
}

struct Keeper<'a> {
    gateway: &'a Gateway,
    seal: Seal,
    /// What this gateway signs cookies with by itself.
    own: Option<String>,
    makes_tickets: Chore,
    brings_sticky: Chore,
    /// What is in use, as it was shared.
    tickets: Vec<SharedTicketKey>,
    sticky: Vec<String>,
    /// What was told of a store that can't be opened.
    told: String,
    /// Looks in a row at which it could not, and everybody who was there had our key.
    closed: u32,
}

impl Keeper<'_> {
    async fn look(&mut self) {
        let bus = &self.gateway.cluster.bus;
        let Ok(entries) = bus.read(Table::KEYS).await else {
            return;
        };
        let find = |key: &str| entries.iter().find(|entry| entry.key == key);
        let (tickets, sticky) = (find(TICKETS), find(STICKY));
        let mut unreadable = Vec::new();
        // Nobody takes them away: what was is to be there again.
        let there = |entry: &&Entry| entry.value.is_some();
        match tickets
            .filter(there)
            .map(|entry| self.open::<Vec<SharedTicketKey>>(entry))
        {
            Some(Some(keys)) => self.use_tickets(keys),
            Some(None) => unreadable.push(TICKETS),
            None => {}
        }
        match sticky.filter(there).map(|entry| self.open::<Vec<String>>(entry)) {
            Some(Some(secrets)) => self.use_sticky(secrets).await,
            Some(None) => unreadable.push(STICKY),
            None => {}
        }
        if unreadable.is_empty() {
            self.told.clear();
            self.closed = 0;
        } else if !self.nobody_opens_it() {
            return;
        }
        let of = |entry: Option<&Entry>, key| Place {
            missing: entry.is_none_or(|entry| entry.value.is_none()) || unreadable.contains(&key),
            revision: entry.map_or(0, |entry| entry.revision + 1),
        };
        let (tickets, sticky) = (of(tickets, TICKETS), of(sticky, STICKY));
        if self.makes_tickets.hold(bus).await && (tickets.missing || self.rotation_is_due()) {
            if !unreadable.is_empty() {
                let text = "the cluster's secrets were sealed under a cluster.key that no gateway has any more: they are made anew".to_owned();
                self.gateway
                    .journal
                    .note(Severity::Warning, "keys.renewed", "", text);
            }
            self.write_tickets(tickets).await;
        }
        let lost = sticky.missing && !self.sticky.is_empty();
        if !lost && !self.brings_a_secret() {
            // Others have theirs to bring.
            self.brings_sticky.end(bus).await;
        } else if self.brings_sticky.hold(bus).await {
            self.write_sticky(sticky).await;
        }
    }

    /// Whether what can't be opened here can't be opened anywhere, for long enough: `cluster.key` is another on all.
    fn nobody_opens_it(&mut self) -> bool {
        let cluster = &self.gateway.cluster;
        let view = cluster.view();
        let alike = view
            .members
            .iter()
            .all(|member| cluster.has_our_key(&member.record));
        if !view.fresh || !alike {
            self.closed = 0;
            return false;
        }
        self.closed = self.closed.saturating_add(1);
        self.closed > PATIENCE
    }

    fn open<T: for<'de> Deserialize<'de>>(&mut self, entry: &Entry) -> Option<T> {
        let value = entry.value.as_ref()?;
        let opened = std::str::from_utf8(value)
            .map_err(|_| "it is no text".to_owned())
            .and_then(|text| {
                self.seal
                    .open(&entry.key, text)
                    .map_err(|error| error.to_string())
            })
            .and_then(|plain| serde_json::from_slice(&plain).map_err(|error| error.to_string()));
        match opened {
            Ok(opened) => Some(opened),
            Err(why) => {
                if self.told != why {
                    let text =
                        format!("the cluster's secrets can't be opened: {why}; this gateway goes by its own");
                    self.gateway
                        .journal
                        .note(Severity::Error, "keys.unreadable", &entry.key, text);
                    self.told = why;
                }
                None
            }
        }
    }

    fn use_tickets(&mut self, keys: Vec<SharedTicketKey>) {
        if keys == self.tickets {
            return;
        }
        let read = |shared: &SharedTicketKey| {
            let id = unhex(&shared.id)?.try_into().ok()?;
            let secret: [u8; 32] = unhex(&shared.secret)?.try_into().ok()?;
            TicketKey::from_secret(id, &secret, shared.born)
        };
        let read: Vec<TicketKey> = keys.iter().filter_map(read).collect();
        if read.is_empty() {
            return;
        }
        self.gateway.tickets.install(read);
        self.tickets = keys;
        let text = "the keys of TLS session tickets are the cluster's".to_owned();
        self.gateway
            .journal
            .note(Severity::Info, "keys.tickets", "", text);
    }

    async fn use_sticky(&mut self, secrets: Vec<String>) {
        if secrets == self.sticky || secrets.len() > MOST_SECRETS {
            return;
        }
        let Some(read) = read_secrets(&secrets) else {
            return;
        };
        if self.gateway.registry.own_key().share(read) {
            // Compiled anew with them.
            self.gateway.upstreams_changed.notify_one();
        }
        // Those behind the first are what gateways that joined brought along: honoured, and nothing to tell.
        let another = secrets.first() != self.sticky.first();
        self.sticky = secrets;
        self.keep().await;
        if another {
            let text = "sticky cookies are signed with the cluster's key".to_owned();
            self.gateway.journal.note(Severity::Info, "keys.sticky", "", text);
        }
    }

    /// Writes the secrets of cookies down for the next start.
    async fn keep(&self) {
        let Some(directory) = self.gateway.node.state_dir.clone() else {
            return;
        };
        let secrets = serde_json::to_vec(&self.sticky).unwrap_or_default();
        let kept = tokio::task::spawn_blocking(move || store::write(&directory.join(FILE), &secrets)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "the cluster's secrets of cookies are not kept: a start without Redis will not know them");
        }
    }

    /// What this gateway has signed with so far stays good everywhere; where nobody was first, it is what all sign with.
    fn brings_a_secret(&self) -> bool {
        let own = self.own.as_ref();
        own.is_some_and(|own| self.sticky.len() < MOST_SECRETS && !self.sticky.contains(own))
    }

    fn rotation_is_due(&self) -> bool {
        let now = now();
        self.tickets
            .first()
            .is_none_or(|newest| newest.born.saturating_add(ROTATION_SECONDS - AHEAD_SECONDS) <= now)
    }

    async fn write_tickets(&self, place: Place) {
        let mut keys = self.tickets.clone();
        let (Some(id), Some(secret)) = (random::<16>(), random::<32>()) else {
            return;
        };
        let newest = SharedTicketKey {
            id: hex(&id),
            secret: hex(&secret),
            born: now(),
        };
        keys.insert(0, newest);
        keys.truncate(2);
        self.put(&self.makes_tickets, &keys, place).await;
    }

    async fn write_sticky(&self, place: Place) {
        let own = self.own.as_ref().filter(|_| self.brings_a_secret());
        let secrets: Vec<String> = self.sticky.iter().chain(own).cloned().collect();
        if !secrets.is_empty() {
            self.put(&self.brings_sticky, &secrets, place).await;
        }
    }

    async fn put<T: Serialize>(&self, chore: &Chore, value: &T, place: Place) {
        let (key, Some(lease)) = (chore.task, &chore.lease) else {
            return;
        };
        let Ok(plain) = serde_json::to_vec(value) else {
            return;
        };
        let Some(sealed) = self.seal.seal(key, &plain) else {
            return;
        };
        let revision = super::moment(calendar()).max(place.revision);
        let bus = &self.gateway.cluster.bus;
        let written = bus
            .put_fenced(Table::KEYS, key, Bytes::from(sealed), revision, lease)
            .await;
        if matches!(written, Ok(Written::Stored)) {
            let _read_again_soon = bus.announce(Topic::Keys, KIND, &Bytes::new());
        }
    }
}

/// What only one gateway does at a time.
struct Chore {
    task: &'static str,
    lease: Option<Lease>,
}

impl Chore {
    const fn new(task: &'static str) -> Self {
        Self { task, lease: None }
    }

    /// Whether it is this gateway's now.
    async fn hold(&mut self, bus: &Bus) -> bool {
        let lease = match self.lease.take() {
            Some(lease) => bus.renew(&lease, LEASE).await.ok().flatten(),
            None => None,
        };
        self.lease = match lease {
            Some(lease) => Some(lease),
            None => bus.acquire(self.task, LEASE).await.ok().flatten(),
        };
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.held(tokio::time::Instant::now()))
    }

    /// Leaves it to others.
    async fn end(&mut self, bus: &Bus) {
        if let Some(lease) = self.lease.take() {
            let _lapses_otherwise = bus.release(&lease).await;
        }
    }
}

/// Where something is written.
#[derive(Clone, Copy)]
struct Place {
    /// Nothing is there, or nothing that anybody can open.
    missing: bool,
    /// The least that counts as later.
    revision: u64,
}

/// What was kept of the cluster's secrets of cookies. Blocking.
fn kept(directory: &Path) -> Vec<String> {
    let secrets = match read_bounded(&directory.join(FILE), MAX_BYTES) {
        Ok(None) => return Vec::new(),
        Ok(Some(bytes)) => serde_json::from_slice::<Vec<String>>(&bytes).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    if read_secrets(&secrets).is_none() {
        tracing::warn!(
            "the cluster's secrets of cookies that were kept can't be read: they come from the cluster"
        );
        return Vec::new();
    }
    secrets
}

/// The same for those who sign with them. Blocking.
#[must_use]
pub fn kept_secrets(directory: &Path) -> Vec<Vec<u8>> {
    read_secrets(&kept(directory)).unwrap_or_default()
}

/// Secrets as they are shared; `None` where they are none.
fn read_secrets(secrets: &[String]) -> Option<Vec<Vec<u8>>> {
    let read: Option<Vec<Vec<u8>>> = secrets.iter().map(|secret| unhex(secret)).collect();
    let good = |read: &Vec<Vec<u8>>| {
        (1..=MOST_SECRETS).contains(&read.len()) && read.iter().all(|secret| secret.len() >= 16)
    };
    read.filter(good)
}

fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_were_kept_are_read_back_and_anything_else_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        assert!(kept(directory.path()).is_empty());
        let secrets = vec![hex(&[7; 32]), hex(&[8; 16])];
        let path = directory.path().join(FILE);
        std::fs::write(&path, serde_json::to_vec(&secrets).unwrap()).unwrap();
        assert_eq!(kept(directory.path()), secrets);
        assert_eq!(kept_secrets(directory.path()), [vec![7; 32], vec![8; 16]]);
        let short = serde_json::to_string(&[hex(&[7; 15])]).unwrap();
        let many = serde_json::to_string(&vec![hex(&[7; 32]); MOST_SECRETS + 1]).unwrap();
        for bad in ["", "[]", "[\"zz\"]", "{}", &short, &many] {
            std::fs::write(&path, bad).unwrap();
            assert!(kept(directory.path()).is_empty(), "{bad}");
        }
    }
}
