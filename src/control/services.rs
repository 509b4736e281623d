//! Services that application servers register themselves: where each is, what it is, how it says it is, and until
//! when that holds. Upstreams with `discover.registry` have them as endpoints.
//!
//! A registration that is not renewed ends with its time to live. Everything is bounded, and pure: time is an
//! argument, [`keep`] tells the rest of the gateway, and [`file`] keeps it over restarts.

pub mod file;
pub mod keep;
pub mod register;

use crate::upstream::shared::names::{Offer, Place};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Registrations, and those of one service.
pub const MAX_INSTANCES: usize = 4096;
pub const MAX_OF_A_SERVICE: usize = 1024;
/// Time to live where none is asked for, and its bounds.
pub const TTL: Duration = Duration::from_secs(30);
pub const SHORTEST_TTL: Duration = Duration::from_secs(1);
pub const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);
/// Tags, and entries of metadata, that one may have.
const MAX_TAGS: usize = 32;
/// Bytes of an id, of a tag, and of a key, a value of metadata.
const MAX_ID: usize = 128;
const MAX_TEXT: usize = 256;

/// How a service says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    #[default]
    Healthy,
    /// It works, with trouble.
    Warning,
    /// It can't: it gets no requests.
    Critical,
}

impl Condition {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub version: String,
    pub address: IpAddr,
    pub port: u16,
    pub weight: u32,
    #[serde(default)]
    pub node_id: String,
    #[serde(default)]
    pub health_endpoint: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    pub health: Condition,
    #[serde(with = "seconds")]
    pub ttl: Duration,
}

/// A time as a number of seconds.
mod seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        time.as_secs_f64().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// A moment as text.
mod text {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Service {
    #[must_use]
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Checks all that a stranger may have written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Refused> {
        check_id(&self.id)?;
        if crate::config::form::name(&self.name).is_err() {
            return Err(Refused::Name);
        }
        if self.port == 0 || self.address.is_unspecified() || self.address.is_multicast() {
            return Err(Refused::Address);
        }
        if self.weight > super::overrides::MAX_WEIGHT {
            return Err(Refused::Weight);
        }
        if !(SHORTEST_TTL..=LONGEST_TTL).contains(&self.ttl) {
            return Err(Refused::Ttl);
        }
        if self.tags.len() > MAX_TAGS || self.metadata.len() > MAX_TAGS {
            return Err(Refused::TooManyTags);
        }
        let words = self.tags.iter().chain(self.metadata.keys());
        let mut texts = words.clone().chain(self.metadata.values()).chain([
            &self.version,
            &self.node_id,
            &self.health_endpoint,
        ]);
        if texts.any(|text| text.len() > MAX_TEXT || text.chars().any(char::is_control)) {
            return Err(Refused::Text);
        }
        if words.clone().any(String::is_empty) {
            return Err(Refused::Text);
        }
        Ok(())
    }
}

fn check_id(id: &str) -> Result<(), Refused> {
    let well = |b: u8| b.is_ascii_alphanumeric() || b"_.:-[]@".contains(&b);
    if (1..=MAX_ID).contains(&id.len()) && id.bytes().all(well) {
        Ok(())
    } else {
        Err(Refused::Id)
    }
}

/// A registration that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    #[serde(flatten)]
    pub service: Service,
    /// By whom.
    pub registered_by: String,
    #[serde(with = "text")]
    pub registered_at: Timestamp,
    #[serde(with = "text")]
    pub last_heartbeat: Timestamp,
    #[serde(with = "text")]
    pub expires_at: Timestamp,
    /// The gateway that heard its last heartbeat; `None`: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_by: Option<String>,
}

/// Why something can't be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("an id has 1 to {MAX_ID} characters A-Z a-z 0-9 _ . : - [ ] @")]
    Id,
    #[error("a name has 1 to 64 characters A-Z a-z 0-9 _ . -")]
    Name,
    #[error("an address is that of one host, with a port above 0")]
    Address,
    #[error("a weight is a number from 0 to 1000000")]
    Weight,
    #[error("a time to live is from 1s to 24h")]
    Ttl,
    #[error("a service has at most {MAX_TAGS} tags and {MAX_TAGS} entries of metadata")]
    TooManyTags,
    #[error(
        "a text has at most {MAX_TEXT} bytes and no control characters, and a tag or key has at least one"
    )]
    Text,
    #[error("the id is that of an instance of the service {0:?}")]
    Taken(String),
    #[error("{MAX_INSTANCES} services, or {MAX_OF_A_SERVICE} of this name, are registered already")]
    Full,
    #[error("nothing is registered under the id {0:?}: it was never, or it has expired")]
    Unknown(String),
}

/// What a registration was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    New,
    /// Known, and different from before.
    Changed,
    /// The same once more: a heartbeat.
    Renewed,
}

#[derive(Debug, Default)]
struct Table {
    instances: BTreeMap<String, Instance>,
    /// Something is different from what the file has, and from what was offered to the upstreams.
    unkept: bool,
    unoffered: bool,
    /// Taken away here, and not told to other gateways yet.
    removed: BTreeSet<String>,
}

/// All registrations.
#[derive(Debug, Default)]
pub struct Services {
    table: Mutex<Table>,
    /// Rung when there is something to tell: endpoints, expiry.
    pub(super) changed: Notify,
    /// Rung when there is something to tell other gateways.
    pub(super) to_share: Notify,
}

impl Services {
    /// A table that goes on from these, but for those whose time is over.
    #[must_use]
    pub fn new(instances: Vec<Instance>, now: Timestamp) -> Self {
        let services = Self::default();
        let mut table = services.table();
        for mut instance in instances.into_iter().take(MAX_INSTANCES) {
            // A clock that was set back gives nobody longer than they asked for.
            instance.expires_at = instance.expires_at.min(end(now, instance.service.ttl));
            if instance.expires_at > now {
                table.instances.insert(instance.service.id.clone(), instance);
                table.unoffered = true;
            }
        }
        drop(table);
        services
    }

    /// Registers, or renews and changes what is registered under the same id.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    pub fn register(
        &self,
        service: Service,
        by: &str,
        now: Timestamp,
    ) -> Result<(Registered, Instance), Refused> {
        service.check()?;
        let mut table = self.table();
        let known = table.instances.get(&service.id);
        if let Some(known) = known
            && known.service.name != service.name
        {
            return Err(Refused::Taken(known.service.name.clone()));
        }
        let of_name = table
            .instances
            .values()
            .filter(|of| of.service.name == service.name);
        if known.is_none() && (table.instances.len() >= MAX_INSTANCES || of_name.count() >= MAX_OF_A_SERVICE)
        {
            return Err(Refused::Full);
        }
        let what = match known {
            None => Registered::New,
            Some(known) if known.service == service => Registered::Renewed,
            Some(_) => Registered::Changed,
        };
        let instance = Instance {
            registered_by: known.map_or_else(|| by.to_owned(), |known| known.registered_by.clone()),
            registered_at: known.map_or(now, |known| known.registered_at),
            last_heartbeat: now,
            expires_at: end(now, service.ttl),
            heard_by: None,
            service,
        };
        table.removed.remove(&instance.service.id);
        table
            .instances
            .insert(instance.service.id.clone(), instance.clone());
        table.unkept = true;
        table.unoffered |= what != Registered::Renewed;
        drop(table);
        self.ring();
        Ok((what, instance))
    }

    /// Renews a registration, perhaps with another health. The second part is the health before.
    ///
    /// # Errors
    /// There is none.
    pub fn renew(
        &self,
        id: &str,
        health: Option<Condition>,
        now: Timestamp,
    ) -> Result<(Instance, Condition), Refused> {
        let mut table = self.table();
        let Some(instance) = table.instances.get_mut(id) else {
            return Err(Refused::Unknown(id.to_owned()));
        };
        let before = instance.service.health;
        instance.service.health = health.unwrap_or(before);
        instance.last_heartbeat = now;
        instance.expires_at = end(now, instance.service.ttl);
        instance.heard_by = None;
        let instance = instance.clone();
        table.unkept = true;
        table.unoffered |= instance.service.health != before;
        drop(table);
        self.ring();
        Ok((instance, before))
    }

    /// Takes a registration away.
    ///
    /// # Errors
    /// There is none.
    pub fn deregister(&self, id: &str) -> Result<Instance, Refused> {
        let mut table = self.table();
        let gone = table.instances.remove(id);
        let gone = gone.ok_or_else(|| Refused::Unknown(id.to_owned()))?;
        (table.unkept, table.unoffered) = (true, true);
        if table.removed.len() < MAX_INSTANCES {
            table.removed.insert(id.to_owned());
        }
        drop(table);
        self.ring();
        Ok(gone)
    }

    /// Another gateway heard a heartbeat, just now as far as this one knows.
    pub fn heard(&self, mut instance: Instance, by: &str, now: Timestamp) {
        let mut table = self.table();
        let known = table.instances.get(&instance.service.id);
        if known.is_none() && table.instances.len() >= MAX_INSTANCES {
            return;
        }
        let news = known.is_none_or(|known| known.service != instance.service);
        instance.heard_by = Some(by.to_owned());
        instance.expires_at = end(now, instance.service.ttl);
        table.removed.remove(&instance.service.id);
        table.instances.insert(instance.service.id.clone(), instance);
        table.unkept = true;
        table.unoffered |= news;
        drop(table);
        self.changed.notify_one();
    }

    /// It was taken away, or ended, at another gateway.
    pub fn gone_elsewhere(&self, id: &str) {
        let mut table = self.table();
        if table.instances.remove(id).is_some() {
            (table.unkept, table.unoffered) = (true, true);
        }
        drop(table);
        self.changed.notify_one();
    }

    /// Those whose last heartbeat was heard here.
    #[must_use]
    pub fn own(&self) -> Vec<Instance> {
        let table = self.table();
        table
            .instances
            .values()
            .filter(|instance| instance.heard_by.is_none())
            .cloned()
            .collect()
    }

    /// Those that were taken away here since this was last asked.
    pub fn take_removed(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.table().removed)
    }

    fn ring(&self) {
        self.changed.notify_one();
        self.to_share.notify_one();
    }

    /// Takes away those whose time is over, and gives them; while other gateways can't be heard, not what they hear of.
    pub fn expire(&self, now: Timestamp, deaf: bool) -> Vec<Instance> {
        let mut table = self.table();
        if deaf {
            let heard_of = table
                .instances
                .values_mut()
                .filter(|instance| instance.heard_by.is_some());
            for instance in heard_of.filter(|instance| instance.expires_at <= now) {
                instance.expires_at = end(now, instance.service.ttl);
            }
        }
        let over: Vec<String> = table
            .instances
            .values()
            .filter(|instance| instance.expires_at <= now)
            .map(|instance| instance.service.id.clone())
            .collect();
        table.unkept |= !over.is_empty();
        table.unoffered |= !over.is_empty();
        let over = over
            .iter()
            .filter_map(|id| table.instances.remove(id))
            .collect::<Vec<_>>();
        drop(table);
        if !over.is_empty() {
            self.to_share.notify_one();
        }
        over
    }

    /// When the next one ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Timestamp> {
        self.table()
            .instances
            .values()
            .map(|instance| instance.expires_at)
            .min()
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<Instance> {
        self.table().instances.get(id).cloned()
    }

    /// Those that a query finds, by id.
    #[must_use]
    pub fn find(&self, query: &Query) -> Vec<Instance> {
        let table = self.table();
        table
            .instances
            .values()
            .filter(|instance| query.finds(instance))
            .cloned()
            .collect()
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.table().instances.len()
    }

    /// What upstreams may use, if it can be different from when this was last asked.
    #[must_use]
    pub fn offers(&self) -> Option<Vec<Offer>> {
        let mut table = self.table();
        if !std::mem::take(&mut table.unoffered) {
            return None;
        }
        let able = table.instances.values().map(|instance| &instance.service);
        let able = able.filter(|service| service.health != Condition::Critical);
        Some(
            able.map(|service| Offer {
                service: service.name.as_str().into(),
                tags: service.tags.clone().into(),
                place: Place {
                    backup: false,
                    address: service.socket(),
                    weight: service.weight,
                },
            })
            .collect(),
        )
    }

    /// Everything, if it is not as it was when this was last asked.
    fn unkept(&self) -> Option<Vec<Instance>> {
        let mut table = self.table();
        std::mem::take(&mut table.unkept).then(|| table.instances.values().cloned().collect())
    }

    /// Whole after a panic too: an entry is either there or not.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(now: Timestamp, ttl: Duration) -> Timestamp {
    let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
    now.checked_add(ttl).unwrap_or(Timestamp::MAX)
}

/// Which registrations are asked for; by default all.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub name: Option<String>,
    pub version: Option<String>,
    pub node_id: Option<String>,
    /// In one of these conditions; empty: any.
    pub health: Vec<Condition>,
    pub tags: Vec<String>,
    pub metadata: Vec<(String, String)>,
}

impl Query {
    fn finds(&self, instance: &Instance) -> bool {
        let service = &instance.service;
        let is = |wanted: &Option<String>, it: &str| wanted.as_ref().is_none_or(|wanted| wanted == it);
        is(&self.name, &service.name)
            && is(&self.version, &service.version)
            && is(&self.node_id, &service.node_id)
            && (self.health.is_empty() || self.health.contains(&service.health))
            && self.tags.iter().all(|tag| service.tags.contains(tag))
            && self
                .metadata
                .iter()
                .all(|(key, value)| service.metadata.get(key) == Some(value))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.socket())?;
        if self.health != Condition::Healthy {
            write!(f, ", {}", self.health.name())?;
        }
        match self.tags.as_slice() {
            [] => Ok(()),
            tags => write!(f, ", tags {}", tags.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
