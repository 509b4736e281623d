//! The handle to what gateways share. Cheap to clone; everything behind it is either in this process or over Redis,
//! and nobody who holds it sees which.

use super::configs::{MAX_ABOUT, MAX_CONTENT, Publication, Published, SharedConfig};
use super::counters::Counters;
use super::embedded::Embedded;
use super::envelope::{UNDERSTOOD, Versions};
use super::limits::take::{BucketId, Take, Taken};
use super::listener::{Ears, Listener};
use super::names::NodeId;
use super::redis::Client;
use super::state::BusState;
use super::store::{
    Beat, Beating, EVENTS_AT_ONCE, Entry, Forgotten, Lease, LoggedEvent, MAX_EVENT, MAX_PAYLOAD, MAX_RECORD,
    MAX_VALUE, StoreError, Table, Written, check_key, check_length, check_part, check_revision,
    check_version,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What an announcement is about. Each is a channel of its own, and in order for each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Configuration and other things to be read again.
    Control,
    Health,
    Members,
    Overrides,
    Keys,
    Services,
    Events,
    /// What is said to this node alone.
    Node,
}

impl Topic {
    pub const ALL: [Self; 8] = [
        Self::Control,
        Self::Health,
        Self::Members,
        Self::Overrides,
        Self::Keys,
        Self::Services,
        Self::Events,
        Self::Node,
    ];

    /// The name of its channel; a node's own channel has the node in it.
    #[must_use]
    pub const fn channel(self) -> &'static str {
        match self {
            Self::Control => "ctl",
            Self::Health => "hlt",
            Self::Members => "mem",
            Self::Overrides => "ovr",
            Self::Keys => "key",
            Self::Services => "svc",
            Self::Events => "ev",
            Self::Node => "n",
        }
    }
}

/// Longest name of what a payload is.
pub const MAX_KIND: usize = 64;

/// The way to what gateways share.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Shared>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Embedded(Embedded),
    Redis(Client),
}

/// What both bodies need of the bus.
#[derive(Debug)]
pub struct Shared {
    /// What this node is known by now; another id while somebody else has its own.
    pub known_as: ArcSwap<NodeId>,
    pub incarnation: u64,
    pub ears: Ears,
    pub counters: Counters,
    pub state: watch::Sender<BusState>,
}

impl Shared {
    pub(super) fn new(node: NodeId, incarnation: u64, state: BusState) -> Arc<Self> {
        Arc::new(Self {
            known_as: ArcSwap::from_pointee(node),
            incarnation,
            ears: Ears::default(),
            counters: Counters::default(),
            state: watch::Sender::new(state),
        })
    }
}

impl Bus {
    /// A cluster of one, in this process.
    #[must_use]
    pub fn embedded(node: NodeId, incarnation: u64) -> Self {
        Self::in_process(&super::embedded::Memory::default(), node, incarnation)
    }

    /// A node among others of this process, which share `memory`.
    #[must_use]
    pub fn in_process(memory: &super::embedded::Memory, node: NodeId, incarnation: u64) -> Self {
        let shared = Shared::new(node, incarnation, BusState::embedded());
        let body = Body::Embedded(memory.join(&shared));
        Self { shared, body }
    }

    /// A node among those that share a Redis. Nothing is done before [`Bus::start`].
    #[must_use]
    pub fn redis(options: super::redis::Options, node: NodeId, incarnation: u64) -> Self {
        let shared = Shared::new(node, incarnation, super::redis::starting());
        let client = Client::new(options, Arc::clone(&shared));
        Self {
            shared,
            body: Body::Redis(client),
        }
    }

    /// Begins to connect; its tasks run on the calling runtime until [`Bus::end`].
    pub fn start(&self) {
        if let Body::Redis(body) = &self.body {
            body.start();
        }
    }

    /// Gets into the Redis in another way from now on; `anew`: also where it is in already. Nothing else changes.
    pub fn access(&self, access: super::redis::Access, anew: bool) {
        if let Body::Redis(body) = &self.body {
            body.access(access, anew);
        }
    }

    #[must_use]
    pub const fn is_embedded(&self) -> bool {
        matches!(self.body, Body::Embedded(_))
    }

    /// What this node is known by.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::clone(&self.shared.known_as.load())
    }

    /// From now on it is known by this.
    pub(crate) fn known_as(&self, node: NodeId) {
        self.shared.known_as.store(Arc::new(node));
    }

    /// The versions of announcements that this node understands.
    #[must_use]
    pub fn versions(&self) -> Versions {
        match &self.body {
            Body::Embedded(_) => UNDERSTOOD,
            Body::Redis(body) => body.versions(),
        }
    }

    /// The version that it speaks.
    #[must_use]
    pub fn spoken(&self) -> u8 {
        match &self.body {
            Body::Embedded(_) => UNDERSTOOD.greatest,
            Body::Redis(body) => body.spoken(),
        }
    }

    /// From now on it speaks this one.
    pub(crate) fn speak(&self, version: u8) {
        if let Body::Redis(body) = &self.body {
            body.speak(version);
        }
    }

    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// How the bus is now.
    #[must_use]
    pub fn state(&self) -> BusState {
        let mut state = self.shared.state.borrow().clone();
        state.rtt = self.shared.counters.rtt();
        state
    }

    /// Follows the condition of the bus; [`BusState::rtt`] is kept out of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BusState> {
        self.shared.state.subscribe()
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Each connection that the bus keeps, and whether it works; none in one process.
    pub fn connections(&self) -> impl Iterator<Item = (&'static str, bool)> + use<> {
        let connections = match &self.body {
            Body::Embedded(_) => None,
            Body::Redis(body) => Some(body.connections()),
        };
        connections.into_iter().flatten()
    }

    /// Whether beats can be sent now, as far as is known: nothing is heard of others otherwise.
    #[must_use]
    pub fn can_beat(&self) -> bool {
        match &self.body {
            Body::Embedded(_) => true,
            Body::Redis(body) => body.can_beat(),
        }
    }

    /// Messages that listeners of this process were too slow for.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.shared.ears.overflows()
    }

    /// Tells all other nodes, at most once. Never waits: what finds no room is counted and gone, and a listener that
    /// misses something hears of a gap. This node does not hear it.
    ///
    /// Gives whether it is on its way.
    pub fn announce(&self, topic: Topic, kind: &str, payload: &Bytes) -> bool {
        self.send(topic, None, kind, payload)
    }

    /// Tells one node, which hears it as [`Topic::Node`].
    pub fn tell(&self, node: &NodeId, kind: &str, payload: &Bytes) -> bool {
        self.send(Topic::Node, Some(node), kind, payload)
    }

    fn send(&self, topic: Topic, to: Option<&NodeId>, kind: &str, payload: &Bytes) -> bool {
        let fits = payload.len() <= MAX_PAYLOAD && kind.len() <= MAX_KIND;
        let addressed = (topic == Topic::Node) == to.is_some();
        let sent = fits
            && addressed
            && match &self.body {
                Body::Embedded(body) => body.announce(topic, to, kind, payload),
                Body::Redis(body) => body.announce(topic, to, kind, payload),
            };
        let counters = &self.shared.counters;
        if sent {
            &counters.announced
        } else {
            &counters.announce_drops
        }
        .inc();
        sent
    }

    /// Hears what other nodes announce on these topics from now on.
    #[must_use]
    pub fn listen(&self, topics: &[Topic]) -> Listener {
        self.shared.ears.listen(topics)
    }

    /// Renews this node's record and gives everybody's. One task of the gateway does it, see [`super::membership`].
    ///
    /// # Errors
    /// Nobody knows whether the record was renewed.
    pub async fn beat(&self, beating: &Beating) -> Result<Beat, StoreError> {
        check_length("a member's record", beating.record.len(), MAX_RECORD)?;
        match &self.body {
            Body::Embedded(body) => body.beat(beating),
            Body::Redis(body) => body.beat(beating).await,
        }
    }

    /// Writes a key of a table, unless a later value is there: the higher revision wins, then the greater node id.
    ///
    /// # Errors
    /// It was not written, or nobody knows.
    pub async fn put(
        &self,
        table: Table,
        key: &str,
        value: Bytes,
        revision: u64,
    ) -> Result<Written, StoreError> {
        self.write(table, key, Some(value), revision, None).await
    }

    /// The same, if the lease is still in force.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when somebody else does the chore by now.
    pub async fn put_fenced(
        &self,
        table: Table,
        key: &str,
        value: Bytes,
        revision: u64,
        lease: &Lease,
    ) -> Result<Written, StoreError> {
        self.write(table, key, Some(value), revision, Some(lease)).await
    }

    /// Removes a key, unless a later value is there. That it was removed stays known, so that no older value returns.
    ///
    /// # Errors
    /// It was not removed, or nobody knows.
    pub async fn remove(&self, table: Table, key: &str, revision: u64) -> Result<Written, StoreError> {
        self.write(table, key, None, revision, None).await
    }

    async fn write(
        &self,
        table: Table,
        key: &str,
        value: Option<Bytes>,
        revision: u64,
        lease: Option<&Lease>,
    ) -> Result<Written, StoreError> {
        check_part(table.name())?;
        check_key(key)?;
        check_revision(revision)?;
        check_length("a value", value.as_ref().map_or(0, Bytes::len), MAX_VALUE)?;
        let entry = Entry {
            key: key.to_owned(),
            value,
            revision,
            node: self.node().configured().to_owned(),
        };
        match &self.body {
            Body::Embedded(body) => body.put(table, entry, lease),
            Body::Redis(body) => body.put(table, &entry, lease).await,
        }
    }

    /// All keys of a table, also those that were removed and are remembered as such. In no order.
    ///
    /// # Errors
    /// It can't be read now.
    pub async fn read(&self, table: Table) -> Result<Vec<Entry>, StoreError> {
        check_part(table.name())?;
        match &self.body {
            Body::Embedded(body) => Ok(body.read(table)),
            Body::Redis(body) => body.read(table).await,
        }
    }

    /// Forgets a whole table: for a cluster that is no more.
    ///
    /// # Errors
    /// Nobody knows whether it is gone.
    pub async fn purge(&self, table: Table) -> Result<(), StoreError> {
        check_part(table.name())?;
        match &self.body {
            Body::Embedded(body) => {
                body.purge(table);
                Ok(())
            }
            Body::Redis(body) => body.purge(table).await,
        }
    }

    /// Drops the record of a node that does not live; `dry_run`: says only what would be.
    ///
    /// # Errors
    /// Nobody knows whether it is gone.
    pub async fn forget(&self, node: &NodeId, dry_run: bool) -> Result<Forgotten, StoreError> {
        match &self.body {
            Body::Embedded(body) => Ok(body.forget(node, dry_run)),
            Body::Redis(body) => body.forget(node, dry_run).await,
        }
    }

    /// Asks for the lease of a chore; `None` while somebody else has it. It lapses `ttl` after the last renewal, and
    /// its holder stops earlier: [`Lease::until`] is seven tenths of that, from before it was asked for.
    ///
    /// # Errors
    /// Nobody knows whether this node has it now: then it does not act.
    pub async fn acquire(&self, task: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        check_part(task)?;
        let holder = self.holder();
        match &self.body {
            Body::Embedded(body) => body.acquire(task, &holder, ttl),
            Body::Redis(body) => body.acquire(task, &holder, ttl).await,
        }
    }

    /// Renews it; `None` when it is somebody else's by now, or lapsed.
    ///
    /// # Errors
    /// Nobody knows whether it goes on: it is held as long as it was.
    pub async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        match &self.body {
            Body::Embedded(body) => Ok(body.renew(lease, ttl)),
            Body::Redis(body) => body.renew(lease, ttl).await,
        }
    }

    /// Gives it back, so that others need not wait for it to lapse.
    ///
    /// # Errors
    /// Then it lapses.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        match &self.body {
            Body::Embedded(body) => {
                body.release(lease);
                Ok(())
            }
            Body::Redis(body) => body.release(lease).await,
        }
    }

    /// Who holds leases: a node and its incarnation.
    #[must_use]
    pub fn holder(&self) -> String {
        format!("{}/{}", self.node(), self.shared.incarnation)
    }

    /// Puts an event behind those of the cluster's log, which keeps the last ones. Gives its id.
    ///
    /// # Errors
    /// Nobody knows whether it is there.
    pub async fn append(&self, payload: Bytes) -> Result<String, StoreError> {
        check_length("an event", payload.len(), MAX_EVENT)?;
        match &self.body {
            Body::Embedded(body) => Ok(body.append(payload)),
            Body::Redis(body) => body.append(&payload).await,
        }
    }

    /// Events after one, the oldest first, at most [`EVENTS_AT_ONCE`]; without one from the oldest that is kept.
    ///
    /// # Errors
    /// They can't be read now.
    pub async fn events(&self, after: Option<&str>, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        let limit = limit.min(EVENTS_AT_ONCE);
        let after = after.map(event_id).transpose()?;
        match &self.body {
            Body::Embedded(body) => Ok(body.events(after, limit)),
            Body::Redis(body) => body.events(after, limit).await,
        }
    }

    /// The id of the last event; `None` while there is none.
    ///
    /// # Errors
    /// It can't be read now.
    pub async fn last_event(&self) -> Result<Option<String>, StoreError> {
        match &self.body {
            Body::Embedded(body) => Ok(body.last_event()),
            Body::Redis(body) => body.last_event().await,
        }
    }

    /// Publishes a configuration in place of the version that it names.
    ///
    /// # Errors
    /// Nobody knows which version is in force.
    pub async fn publish_config(&self, new: Publication) -> Result<Published, StoreError> {
        check_length("a configuration", new.content.len(), MAX_CONTENT)?;
        check_length("a summary", new.about.len(), MAX_ABOUT)?;
        check_version(new.version)?;
        if new.version <= new.expected {
            return Err(StoreError::Name(format!("version {}", new.version)));
        }
        match &self.body {
            Body::Embedded(body) => Ok(body.configs(|configs| configs.publish(new))),
            Body::Redis(body) => body.publish_config(&new).await,
        }
    }

    /// Versions that the store keeps, each with its summary; in no order.
    ///
    /// # Errors
    /// They can't be read now.
    pub async fn config_versions(&self) -> Result<Vec<(u64, Bytes)>, StoreError> {
        match &self.body {
            Body::Embedded(body) => Ok(body.configs(|configs| configs.list())),
            Body::Redis(body) => body.config_versions().await,
        }
    }

    /// The content of a version; `None` where it is not kept.
    ///
    /// # Errors
    /// It can't be read now.
    pub async fn config_version(&self, version: u64) -> Result<Option<Bytes>, StoreError> {
        match &self.body {
            Body::Embedded(body) => Ok(body.configs(|configs| configs.version(version))),
            Body::Redis(body) => body.config_version(version).await,
        }
    }

    /// Lays out a content for others to look at before it is published: one at a time, for [`LAID_OUT`].
    ///
    /// [`LAID_OUT`]: super::configs::LAID_OUT
    ///
    /// # Errors
    /// Nobody knows whether they can.
    pub async fn lay_out_config(&self, id: &str, content: Bytes) -> Result<(), StoreError> {
        check_part(id)?;
        check_length("a configuration", content.len(), MAX_CONTENT)?;
        match &self.body {
            Body::Embedded(body) => {
                body.configs(|configs| configs.lay_out(id, content));
                Ok(())
            }
            Body::Redis(body) => body.lay_out_config(id, &content).await,
        }
    }

    /// What was laid out under this id; `None` where it is gone, or another took its place.
    ///
    /// # Errors
    /// It can't be read now.
    pub async fn laid_out_config(&self, id: &str) -> Result<Option<Bytes>, StoreError> {
        check_part(id)?;
        match &self.body {
            Body::Embedded(body) => Ok(body.configs(|configs| configs.laid_out(id))),
            Body::Redis(body) => body.laid_out_config(id).await,
        }
    }

    /// The shared configuration; `None` where there never was one, or the store lost it.
    ///
    /// # Errors
    /// It can't be read now.
    pub async fn config(&self) -> Result<Option<SharedConfig>, StoreError> {
        match &self.body {
            Body::Embedded(body) => Ok(body.configs(|configs| configs.now())),
            Body::Redis(body) => body.config().await,
        }
    }

    /// Takes from a bucket that all gateways share, see [`super::limits`].
    ///
    /// # Errors
    /// Nobody knows whether anything was taken.
    pub async fn take(&self, bucket: BucketId, take: &Take) -> Result<Taken, StoreError> {
        match &self.body {
            Body::Embedded(body) => body.take(bucket, take),
            Body::Redis(body) => body.take(bucket, take).await,
        }
    }

    /// Lets go of everything: what was announced before is sent, for a moment's time, and listeners hear the end.
    pub async fn end(&self) {
        if let Body::Redis(body) = &self.body {
            body.end().await;
        }
        self.shared.ears.end();
    }
}

/// The two numbers of an event's id.
fn event_id(text: &str) -> Result<(u64, u64), StoreError> {
    let (at, number) = text.split_once('-').unwrap_or((text, "0"));
    match (at.parse(), number.parse()) {
        (Ok(at), Ok(number)) => Ok((at, number)),
        _ => Err(StoreError::Name(text.chars().take(40).collect())),
    }
}

#[cfg(test)]
mod tests;
