//! Registrations on all gateways: a server registers with one of them and is an endpoint of each.
//!
//! How long a registration still holds is counted by each gateway on its own clock from when it heard of the last
//! heartbeat. A registration that ends, or is taken away, where it was made is taken away everywhere. While the bus is
//! away nobody ends what was made elsewhere: its heartbeats can't be heard.

use super::replica::{Merged, Replica};
use super::{KIND, Told, announce, moment, put};
use crate::base::clock::calendar;
use crate::base::seldom::Seldom;
use crate::cluster::bus::Topic;
use crate::cluster::listener::Heard;
use crate::cluster::store::{Entry, Table};
use crate::control::gateway::Gateway;
use crate::control::services::Instance;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long an entry of the store that stands for nothing is left alone.
const DEAD: Duration = Duration::from_secs(60);
/// How often the copy is compared with the store, whatever was announced.
const COMPARE: Duration = Duration::from_secs(5);
/// Changes made within this time are told together.
const TOGETHER: Duration = Duration::from_millis(50);

/// Shares until the bus ends.
pub async fn run(gateway: Arc<Gateway>) {
    let mut ears = gateway.cluster.bus.listen(&[Topic::Services]);
    let mut ticks = interval(COMPARE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sharer = Sharer {
        gateway: &gateway,
        replica: Replica::default(),
        told: BTreeMap::new(),
        dead: BTreeMap::new(),
        unreadable: BTreeMap::new(),
        telling: Seldom::default(),
    };
    let mut tell_at: Option<Instant> = None;
    loop {
        let far = Instant::now() + COMPARE;
        tokio::select! {
            heard = ears.next() => match heard {
                None => return,
                Some(Heard::Message(message)) if &*message.kind == KIND => {
                    if let Some(told) = Told::read(&message.payload) {
                        sharer.take(vec![told.entry()]);
                    }
                }
                Some(Heard::Message(_)) => {}
                Some(Heard::Gap | Heard::Reset(_)) => sharer.compare().await,
            },
            () = gateway.services.to_share.notified() => {
                tell_at.get_or_insert_with(|| Instant::now() + TOGETHER);
            }
            () = tokio::time::sleep_until(tell_at.unwrap_or(far)), if tell_at.is_some() => {
                tell_at = None;
                sharer.tell();
                sharer.send().await;
            }
            _ = ticks.tick() => sharer.compare().await,
        }
    }
}

/// When a heartbeat was last told, and of which registration.
type Beat = (Timestamp, Instance);

struct Sharer<'a> {
    gateway: &'a Gateway,
    replica: Replica,
    /// What was told of our own registrations.
    told: BTreeMap<String, Beat>,
    /// In the store, and ended here; since when.
    dead: BTreeMap<String, Instant>,
    /// Those that can't be read here, as they were when that was told.
    unreadable: BTreeMap<String, Entry>,
    telling: Seldom,
}

fn read(value: &[u8]) -> Option<Instance> {
    serde_json::from_slice(value).ok()
}

impl Sharer<'_> {
    fn node(&self) -> String {
        self.gateway.cluster.bus.node().configured().to_owned()
    }

    /// Tells what is new about the registrations that were made, or renewed last, here.
    fn tell(&mut self) {
        let (node, at) = (self.node(), moment(calendar()));
        let own: BTreeMap<String, Instance> = self
            .gateway
            .services
            .own()
            .into_iter()
            .map(|instance| (instance.service.id.clone(), instance))
            .collect();
        for (id, instance) in &own {
            let due = match self.told.get(id) {
                None => true,
                Some((_, before)) if before.service != instance.service => true,
                // Not each heartbeat: a third of its time leaves room for two that are lost.
                Some((beat, _)) => {
                    let since = instance.last_heartbeat.duration_since(*beat);
                    since.as_secs_f64() >= instance.service.ttl.as_secs_f64() / 3.0
                }
            };
            if !due {
                continue;
            }
            if let Ok(text) = serde_json::to_string(instance) {
                self.set(id, Some(text.into()), at, &node);
                self.told
                    .insert(id.clone(), (instance.last_heartbeat, instance.clone()));
            }
        }
        for id in self.gateway.services.take_removed() {
            self.told.remove(&id);
            self.set(&id, None, at, &node);
        }
        let gone: Vec<String> = self
            .told
            .keys()
            .filter(|id| !own.contains_key(*id))
            .cloned()
            .collect();
        for id in gone {
            self.told.remove(&id);
            // Another gateway may have it by now: then it is not gone.
            if self.gateway.services.get(&id).is_none() {
                self.set(&id, None, at, &node);
            }
        }
    }

    fn set(&mut self, id: &str, value: Option<Bytes>, at: u64, node: &str) {
        if let Some(entry) = self.replica.set(id, value, at, node) {
            announce(&self.gateway.cluster.bus, Topic::Services, &entry);
        }
    }

    async fn send(&mut self) {
        for entry in self.replica.unsent() {
            match put(&self.gateway.cluster.bus, Table::SERVICES, &entry).await {
                Ok(_) => self.replica.sent(&entry),
                Err(error) if error.passes() => return,
                Err(error) => tracing::debug!(%error, id = entry.key, "a registration can't be shared"),
            }
        }
    }

    async fn compare(&mut self) {
        self.tell();
        let Ok(store) = self.gateway.cluster.bus.read(Table::SERVICES).await else {
            return;
        };
        self.replica.compare(&store);
        self.forget_the_dead(&store).await;
        self.take(store);
        self.send().await;
    }

    /// What a gateway registered that is no more, and nobody renewed since, is taken out of the store by whoever notices.
    async fn forget_the_dead(&mut self, store: &[Entry]) {
        let services = &self.gateway.services;
        let now = Instant::now();
        let mut dead = BTreeMap::new();
        for entry in store.iter().filter(|entry| entry.value.is_some()) {
            // What a later version wrote is its to take out.
            let is_ours = entry.value.as_ref().is_some_and(|value| read(value).is_some());
            if services.get(&entry.key).is_some() || self.replica.get(&entry.key) != Some(entry) || !is_ours {
                continue;
            }
            let since = self.dead.get(&entry.key).copied().unwrap_or(now);
            if now.duration_since(since) > DEAD {
                let bus = &self.gateway.cluster.bus;
                let _tried_again = bus.remove(Table::SERVICES, &entry.key, entry.revision + 1).await;
            } else {
                dead.insert(entry.key.clone(), since);
            }
        }
        self.dead = dead;
    }

    fn take(&mut self, entries: Vec<Entry>) {
        let replica = &self.replica;
        self.unreadable
            .retain(|key, entry| replica.get(key) == Some(entry));
        let (mut unreadable, mut one) = (0, String::new());
        for entry in entries {
            if matches!(
                self.replica.merge(entry.clone()),
                Merged::Older | Merged::Full | Merged::Unsound
            ) {
                continue;
            }
            let services = &self.gateway.services;
            match &entry.value {
                Some(value) => {
                    let Some(instance) = read(value) else {
                        one.clone_from(&entry.key);
                        unreadable += u64::from(!self.unreadable.contains_key(&entry.key));
                        self.unreadable.insert(entry.key.clone(), entry);
                        continue;
                    };
                    if instance.service.id == entry.key && instance.service.check().is_ok() {
                        services.heard(instance, &entry.node, Timestamp::now());
                        // Renewed elsewhere last: it is no longer ours to tell.
                        self.told.remove(&entry.key);
                    }
                }
                None => {
                    services.gone_elsewhere(&entry.key);
                    self.told.remove(&entry.key);
                }
            }
        }
        if let Some(times) = self.telling.happened(unreadable, std::time::Instant::now()) {
            tracing::warn!(id = one, times, "a registration that can't be read is left alone");
        }
    }
}
