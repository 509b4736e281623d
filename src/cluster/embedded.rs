//! The body of the bus inside one process: nothing to install, and every operation at once. Several nodes of one
//! process may share a [`Memory`], which is how tests look at many gateways without starting any.

use super::bus::{Shared, Topic};
use super::configs::Configs;
use super::limits::take::{self, BucketId, Take, Taken};
use super::listener::Message;
use super::names::NodeId;
use super::store::{
    Beat, Beating, Entry, Forgotten, Lease, LeaseView, LoggedEvent, MAX_BUCKETS, MAX_ENTRIES, MAX_LEASES,
    MAX_MEMBERS, REMEMBERED, Seen, StoreError, Table, Written,
};
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Events that are kept.
const EVENTS: usize = 1000;
/// Least time between looks for buckets that are free, when there is no room for more.
const SWEPT: Duration = Duration::from_millis(100);

/// What the nodes of one process share.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<Content>>);

#[derive(Debug)]
struct Content {
    generation: String,
    nodes: Vec<Weak<Shared>>,
    /// Of each node and topic, what it announced last.
    sequences: HashMap<(u64, Topic), u64>,
    tables: HashMap<&'static str, HashMap<String, Kept>>,
    members: BTreeMap<NodeId, Member>,
    leases: BTreeMap<String, Held>,
    events: VecDeque<LoggedEvent>,
    last_event: (u64, u64),
    configs: Configs,
    /// Of each bucket, when it will be free; counted from `begin`.
    buckets: HashMap<BucketId, Duration>,
    /// When those that are free were last looked for.
    swept: Duration,
    begin: Instant,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    since: Instant,
}

#[derive(Debug)]
struct Member {
    incarnation: u64,
    beat: u64,
    at: Instant,
    gone_after: Duration,
    left: bool,
    record: Bytes,
}

#[derive(Debug)]
struct Held {
    holder: String,
    token: u64,
    /// `None`: given back.
    until: Option<Instant>,
}

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Content {
            generation: format!("{:016x}", fastrand::u64(..)),
            nodes: Vec::new(),
            sequences: HashMap::new(),
            tables: HashMap::new(),
            members: BTreeMap::new(),
            leases: BTreeMap::new(),
            events: VecDeque::new(),
            last_event: (0, 0),
            configs: Configs::default(),
            buckets: HashMap::new(),
            swept: Duration::ZERO,
            begin: Instant::now(),
        })))
    }
}

impl Memory {
    pub(super) fn join(&self, shared: &Arc<Shared>) -> Embedded {
        self.lock().nodes.push(Arc::downgrade(shared));
        Embedded {
            memory: self.clone(),
            shared: Arc::downgrade(shared),
            incarnation: shared.incarnation,
        }
    }

    /// Whole after a panic too: each change is one step.
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's way to the memory.
#[derive(Clone, Debug)]
pub struct Embedded {
    memory: Memory,
    shared: Weak<Shared>,
    incarnation: u64,
}

impl Embedded {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.memory.lock()
    }

    pub(super) fn announce(&self, topic: Topic, to: Option<&NodeId>, kind: &str, payload: &Bytes) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        let source = shared.known_as.load_full();
        let mut content = self.lock();
        let seq = content.sequences.entry((self.incarnation, topic)).or_default();
        *seq += 1;
        let message = Message {
            topic,
            source: source.as_str().into(),
            incarnation: self.incarnation,
            seq: *seq,
            kind: kind.into(),
            payload: payload.clone(),
        };
        content.nodes.retain(|node| node.strong_count() > 0);
        for node in content.nodes.iter().filter_map(Weak::upgrade) {
            let meant = to.is_none_or(|to| **node.known_as.load() == *to);
            if !Arc::ptr_eq(&node, &shared) && meant {
                node.counters.received.inc();
                node.ears.tell(&message);
            }
        }
        true
    }

    pub(super) fn beat(&self, beating: &Beating) -> Result<Beat, StoreError> {
        let now = Instant::now();
        let mut content = self.lock();
        let other = content.members.get(&beating.node).filter(|member| {
            let alive = !member.left && now.duration_since(member.at) < member.gone_after;
            alive && member.incarnation != beating.incarnation
        });
        let duplicate = other.map(|member| member.incarnation);
        if duplicate.is_none() {
            let full = content.members.len() >= MAX_MEMBERS;
            if full && !content.members.contains_key(&beating.node) {
                return Err(StoreError::Full);
            }
            let member = Member {
                incarnation: beating.incarnation,
                beat: beating.beat,
                at: now,
                gone_after: beating.gone_after,
                left: beating.leaving,
                record: beating.record.clone(),
            };
            content.members.insert(beating.node.clone(), member);
        }
        content
            .members
            .retain(|_, member| now.duration_since(member.at) < member.gone_after * 20);
        let members = content.members.iter().map(|(node, member)| Seen {
            node: node.clone(),
            incarnation: member.incarnation,
            beat: member.beat,
            age: now.duration_since(member.at),
            left: member.left,
            record: member.record.clone(),
        });
        Ok(Beat {
            duplicate,
            members: members.collect(),
            generation: content.generation.clone(),
            now: Timestamp::now(),
            config: content.configs.mark(),
            leases: leases(&content, now),
        })
    }

    pub(super) fn forget(&self, node: &NodeId, dry_run: bool) -> Forgotten {
        let mut content = self.lock();
        let Some(member) = content.members.get(node) else {
            return Forgotten::Unknown;
        };
        if !member.left && member.at.elapsed() < member.gone_after {
            return Forgotten::Alive;
        }
        if !dry_run {
            content.members.remove(node);
        }
        Forgotten::Gone
    }

    pub(super) fn put(
        &self,
        table: Table,
        entry: Entry,
        lease: Option<&Lease>,
    ) -> Result<Written, StoreError> {
        let now = Instant::now();
        let mut content = self.lock();
        if let Some(lease) = lease {
            let held = content.leases.get(&lease.task);
            let good = held.is_some_and(|held| held.is(lease, now));
            if !good {
                return Err(StoreError::Fenced);
            }
        }
        let table = content.tables.entry(table.name()).or_default();
        if let Some(kept) = table.get(&entry.key) {
            if kept.entry == entry {
                return Ok(Written::Stored);
            }
            if !entry.beats(&kept.entry) {
                return Ok(Written::Older);
            }
        } else if table.len() >= MAX_ENTRIES {
            table.retain(|_, kept| kept.entry.value.is_some() || now.duration_since(kept.since) < REMEMBERED);
            if table.len() >= MAX_ENTRIES {
                return Err(StoreError::Full);
            }
        }
        table.insert(entry.key.clone(), Kept { entry, since: now });
        Ok(Written::Stored)
    }

    pub(super) fn read(&self, table: Table) -> Vec<Entry> {
        let content = self.lock();
        let table = content.tables.get(table.name());
        table
            .into_iter()
            .flatten()
            .map(|(_, kept)| kept.entry.clone())
            .collect()
    }

    pub(super) fn purge(&self, table: Table) {
        self.lock().tables.remove(table.name());
    }

    pub(super) fn acquire(
        &self,
        task: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let now = Instant::now();
        let mut content = self.lock();
        if !content.leases.contains_key(task) && content.leases.len() >= MAX_LEASES {
            return Err(StoreError::Full);
        }
        let held = content.leases.entry(task.to_owned()).or_insert_with(|| Held {
            holder: String::new(),
            token: 0,
            until: None,
        });
        let taken = held.until.is_some_and(|until| now < until);
        if taken && held.holder != holder {
            return Ok(None);
        }
        if !taken {
            held.token += 1;
            held.holder = holder.to_owned();
        }
        held.until = Some(now + ttl);
        Ok(Some(Lease {
            task: task.to_owned(),
            holder: holder.to_owned(),
            token: held.token,
            until: now + holding(ttl),
        }))
    }

    pub(super) fn renew(&self, lease: &Lease, ttl: Duration) -> Option<Lease> {
        let now = Instant::now();
        let mut content = self.lock();
        let held = content.leases.get_mut(&lease.task)?;
        if !held.is(lease, now) {
            return None;
        }
        held.until = Some(now + ttl);
        Some(Lease {
            until: now + holding(ttl),
            ..lease.clone()
        })
    }

    pub(super) fn release(&self, lease: &Lease) {
        let now = Instant::now();
        let mut content = self.lock();
        if let Some(held) = content.leases.get_mut(&lease.task)
            && held.is(lease, now)
        {
            held.until = None;
        }
    }

    pub(super) fn take(&self, bucket: BucketId, take: &Take) -> Result<Taken, StoreError> {
        let mut content = self.lock();
        let now = content.begin.elapsed();
        let free_at = content.buckets.get(&bucket).copied();
        if free_at.is_none() && content.buckets.len() >= MAX_BUCKETS {
            if now.saturating_sub(content.swept) > SWEPT {
                content.swept = now;
                content.buckets.retain(|_, free_at| *free_at > now);
            }
            if content.buckets.len() >= MAX_BUCKETS {
                return Err(StoreError::Full);
            }
        }
        let (free_at, taken) = take::step(free_at.unwrap_or_default(), now, take);
        content.buckets.insert(bucket, free_at);
        Ok(taken)
    }

    pub(super) fn append(&self, payload: Bytes) -> String {
        let mut content = self.lock();
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        let (at, number) = content.last_event;
        content.last_event = if now > at { (now, 0) } else { (at, number + 1) };
        let id = format!("{}-{}", content.last_event.0, content.last_event.1);
        if content.events.len() == EVENTS {
            content.events.pop_front();
        }
        content.events.push_back(LoggedEvent {
            id: id.clone(),
            payload,
        });
        id
    }

    pub(super) fn events(&self, after: Option<(u64, u64)>, limit: usize) -> Vec<LoggedEvent> {
        let content = self.lock();
        let numbers = |event: &LoggedEvent| {
            let (at, number) = event.id.split_once('-')?;
            Some((at.parse::<u64>().ok()?, number.parse::<u64>().ok()?))
        };
        let from = content.events.partition_point(|event| numbers(event) <= after);
        content.events.iter().skip(from).take(limit).cloned().collect()
    }

    pub(super) fn last_event(&self) -> Option<String> {
        self.lock().events.back().map(|event| event.id.clone())
    }

    /// Does something with the shared configuration.
    pub(super) fn configs<T>(&self, act: impl FnOnce(&mut Configs) -> T) -> T {
        act(&mut self.lock().configs)
    }
}

impl Held {
    fn is(&self, lease: &Lease, now: Instant) -> bool {
        self.token == lease.token
            && self.holder == lease.holder
            && self.until.is_some_and(|until| now < until)
    }
}

/// How long a holder goes by a lease that the store keeps for `ttl`.
pub(super) fn holding(ttl: Duration) -> Duration {
    ttl * 7 / 10
}

fn leases(content: &Content, now: Instant) -> Vec<LeaseView> {
    let held = content.leases.iter().filter_map(|(task, held)| {
        Some(LeaseView {
            task: task.clone(),
            holder: held.holder.clone(),
            token: held.token,
            remaining: held.until?.checked_duration_since(now)?,
        })
    });
    held.collect()
}
