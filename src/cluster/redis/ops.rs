//! Operations on what the store holds.

use super::fault::Fault;
use super::health::Connection;
use super::link::{Link, NoAnswer};
use super::resp::Value;
use super::{Client, Plane, scripts};
use crate::cluster::configs::ConfigMark;
use crate::cluster::embedded::holding;
use crate::cluster::listener::Cause;
use crate::cluster::names::{NodeId, is_holder, is_part};
use crate::cluster::state::Reason;
use crate::cluster::store::{
    Beat, Beating, Entry, Forgotten, LAST_REVISION, Lease, LeaseView, LoggedEvent, MAX_ENTRIES, MAX_EVENT,
    MAX_EVENTS, MAX_KEY, MAX_LEASES, MAX_MEMBERS, MAX_VALUE, REMEMBERED, Seen, StoreError, Table, Written,
};
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an operation may take.
pub(super) const OPERATION: Duration = Duration::from_millis(500);
/// How long one that moves much may take.
pub(super) const LARGE: Duration = Duration::from_secs(2);
/// What a server says of a stream at the end of all ids.
const NOTHING_FOLLOWS: &str = "exhausted the last possible ID";
/// Entries that are asked for at once.
const PAGE: &str = "64";
/// Most pages of a table: more can't be there, whatever the store says.
const PAGES: usize = 4 * MAX_ENTRIES;

pub(super) const TROUBLED: StoreError = StoreError::Malformed("an answer of another shape");

impl Client {
    pub(super) fn key(&self, name: &str) -> String {
        self.plane.names.key(name)
    }

    pub(in crate::cluster) async fn beat(&self, beating: &Beating) -> Result<Beat, StoreError> {
        let keys = [self.key("gen"), self.key("mi"), self.key("cfg"), self.key("l")];
        let args = [
            beating.node.as_str().as_bytes(),
            &number(beating.incarnation),
            &number(beating.beat),
            if beating.leaving { b"1" } else { b"0" },
            &beating.record,
            &millis(beating.gone_after),
            format!("{:016x}", fastrand::u64(..)).as_bytes(),
            &number(MAX_MEMBERS as u64),
            &number(MAX_LEASES as u64),
        ]
        .map(<[u8]>::to_vec);
        let answer = self
            .script(Connection::Heartbeat, scripts::BEAT, &keys, &args, OPERATION)
            .await;
        let beat = read_beat(&answer?)?;
        self.plane.wrote();
        self.plane.saw(&beat.generation);
        Ok(beat)
    }

    pub(in crate::cluster) async fn forget(
        &self,
        node: &NodeId,
        dry_run: bool,
    ) -> Result<Forgotten, StoreError> {
        let keys = [self.key("mi")];
        let goes: &[u8] = if dry_run { b"0" } else { b"1" };
        let args = [node.as_str().as_bytes().to_vec(), goes.to_vec()];
        let answer = self
            .script(Connection::Commands, scripts::FORGET, &keys, &args, OPERATION)
            .await?;
        match answer.text() {
            Some("alive") => Ok(Forgotten::Alive),
            Some("gone") => Ok(Forgotten::Gone),
            Some("unknown") => Ok(Forgotten::Unknown),
            _ => Err(TROUBLED),
        }
    }

    pub(in crate::cluster) async fn put(
        &self,
        table: Table,
        entry: &Entry,
        lease: Option<&Lease>,
    ) -> Result<Written, StoreError> {
        let keys = [self.plane.names.table(table.name()), self.key("l")];
        let (task, token, holder) = match lease {
            Some(lease) => (lease.task.as_str(), lease.token, lease.holder.as_str()),
            None => ("", 0, ""),
        };
        let args = [
            entry.key.as_bytes(),
            &number(entry.revision),
            entry.node.as_bytes(),
            if entry.value.is_some() { b"1" } else { b"0" },
            entry.value.as_deref().unwrap_or_default(),
            &number(MAX_ENTRIES as u64),
            &millis(REMEMBERED),
            task.as_bytes(),
            &number(token),
            holder.as_bytes(),
            &number(LAST_REVISION),
            &number(MAX_KEY as u64),
        ]
        .map(<[u8]>::to_vec);
        let answer = self
            .script(Connection::Commands, scripts::PUT, &keys, &args, OPERATION)
            .await?;
        match answer.text() {
            Some("stored") => Ok(Written::Stored),
            Some("older") => Ok(Written::Older),
            Some("fenced") => Err(StoreError::Fenced),
            Some("full") => Err(StoreError::Full),
            _ => Err(TROUBLED),
        }
    }

    pub(in crate::cluster) async fn read(&self, table: Table) -> Result<Vec<Entry>, StoreError> {
        let key = [self.plane.names.table(table.name())];
        let mut cursor = "0".to_owned();
        // A key may come twice while others write.
        let mut found: HashMap<String, Entry> = HashMap::new();
        for _ in 0..PAGES {
            let args = [
                cursor.clone().into_bytes(),
                PAGE.into(),
                number(MAX_KEY as u64),
                // With a revision, a node, and the rest that stands before the value.
                number(MAX_VALUE as u64 + 256),
            ];
            let answer = self
                .script(Connection::Commands, scripts::READ, &key, &args, LARGE)
                .await?;
            let [next, page] = answer.list().ok_or(TROUBLED)? else {
                return Err(TROUBLED);
            };
            for pair in page.list().ok_or(TROUBLED)?.chunks_exact(2) {
                // What is none of ours is passed over.
                if let [key, value] = pair
                    && let Some(entry) = entry(key, value)
                    && found.get(&entry.key).is_none_or(|known| entry.beats(known))
                {
                    found.insert(entry.key.clone(), entry);
                }
            }
            if found.len() > 2 * MAX_ENTRIES {
                return Err(StoreError::Malformed(
                    "a table with more entries than it can have",
                ));
            }
            next.text().ok_or(TROUBLED)?.clone_into(&mut cursor);
            if cursor == "0" {
                return Ok(found.into_values().collect());
            }
        }
        Err(StoreError::Malformed("a table without an end"))
    }

    pub(in crate::cluster) async fn purge(&self, table: Table) -> Result<(), StoreError> {
        let key = self.plane.names.table(table.name());
        let args: [&[u8]; 2] = [b"UNLINK", key.as_bytes()];
        self.call(Connection::Commands, &args, OPERATION).await.map(drop)
    }

    pub(in crate::cluster) async fn acquire(
        &self,
        task: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        // Held from before it was asked for, so that it ends here before it does in the store.
        let asked = Instant::now();
        let keys = [self.key("l"), self.key("lt")];
        let args = [
            task.as_bytes(),
            holder.as_bytes(),
            &millis(ttl),
            &number(MAX_LEASES as u64),
        ]
        .map(<[u8]>::to_vec);
        let answer = self
            .script(Connection::Heartbeat, scripts::ACQUIRE, &keys, &args, OPERATION)
            .await?;
        match answer.text() {
            Some("") => Ok(None),
            Some("full") => Err(StoreError::Full),
            _ => Ok(Some(Lease {
                task: task.to_owned(),
                holder: holder.to_owned(),
                token: answer.count().ok_or(TROUBLED)?,
                until: asked + holding(ttl),
            })),
        }
    }

    pub(in crate::cluster) async fn renew(
        &self,
        lease: &Lease,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let asked = Instant::now();
        let held = self.change(lease, &millis(ttl)).await?;
        Ok(held.then(|| Lease {
            until: asked + holding(ttl),
            ..lease.clone()
        }))
    }

    pub(in crate::cluster) async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.change(lease, b"0").await.map(drop)
    }

    async fn change(&self, lease: &Lease, ttl: &[u8]) -> Result<bool, StoreError> {
        let keys = [self.key("l")];
        let args = [
            lease.task.as_bytes(),
            lease.holder.as_bytes(),
            &number(lease.token),
            ttl,
        ]
        .map(<[u8]>::to_vec);
        let answer = self
            .script(Connection::Heartbeat, scripts::RENEW, &keys, &args, OPERATION)
            .await?;
        Ok(answer.number() == Some(1))
    }

    pub(in crate::cluster) async fn append(&self, payload: &[u8]) -> Result<String, StoreError> {
        match self.try_append(payload).await {
            // Somebody put the last event there that there can be: nothing could ever follow it.
            Err(StoreError::Refused(_, why)) if why.contains(NOTHING_FOLLOWS) => {
                let key = self.key("ev");
                let args: [&[u8]; 2] = [b"UNLINK", key.as_bytes()];
                self.call(Connection::Commands, &args, OPERATION).await?;
                self.try_append(payload).await
            }
            done => done,
        }
    }

    async fn try_append(&self, payload: &[u8]) -> Result<String, StoreError> {
        let (key, most) = (self.key("ev"), number(MAX_EVENTS as u64));
        let args: [&[u8]; 8] = [
            b"XADD",
            key.as_bytes(),
            b"MAXLEN",
            b"~",
            &most,
            b"*",
            b"d",
            payload,
        ];
        let answer = self.call(Connection::Commands, &args, OPERATION).await?;
        answer.text().map(str::to_owned).ok_or(TROUBLED)
    }

    pub(in crate::cluster) async fn events(
        &self,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let key = self.key("ev");
        let from = after.map_or_else(|| "-".to_owned(), |(at, number)| format!("({at}-{number}"));
        let args = [from.into_bytes(), number(limit as u64), number(MAX_EVENT as u64)];
        let answer = self
            .script(Connection::Commands, scripts::EVENTS, &[key], &args, LARGE)
            .await?;
        let events = answer
            .list()
            .ok_or(TROUBLED)?
            .chunks_exact(2)
            .filter_map(|event| {
                let [id, payload] = event else {
                    return None;
                };
                Some(LoggedEvent {
                    id: id.text()?.to_owned(),
                    payload: payload.bytes()?,
                })
            });
        Ok(events.collect())
    }

    pub(in crate::cluster) async fn last_event(&self) -> Result<Option<String>, StoreError> {
        let key = self.key("ev");
        let args: [&[u8]; 6] = [b"XREVRANGE", key.as_bytes(), b"+", b"-", b"COUNT", b"1"];
        let answer = self.call(Connection::Commands, &args, OPERATION).await?;
        let last = answer.list().ok_or(TROUBLED)?.first();
        let id = last.and_then(|event| event.list()?.first()?.text());
        Ok(id.map(str::to_owned))
    }

    pub(super) async fn script(
        &self,
        connection: Connection,
        script: &str,
        keys: &[String],
        args: &[Vec<u8>],
        within: Duration,
    ) -> Result<Value, StoreError> {
        let count = number(keys.len() as u64);
        let mut all: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), &count];
        all.extend(keys.iter().map(String::as_bytes));
        all.extend(args.iter().map(Vec::as_slice));
        self.ask(connection, &all, keys, within).await
    }

    /// A command whose key is the first of its arguments.
    pub(super) async fn call(
        &self,
        connection: Connection,
        args: &[&[u8]],
        within: Duration,
    ) -> Result<Value, StoreError> {
        let key = args.get(1).map(|key| String::from_utf8_lossy(key).into_owned());
        self.ask(connection, args, key.as_slice(), within).await
    }

    async fn ask(
        &self,
        connection: Connection,
        args: &[&[u8]],
        keys: &[String],
        within: Duration,
    ) -> Result<Value, StoreError> {
        let plane = &self.plane;
        let link: Option<Arc<Link>> = match connection {
            Connection::Heartbeat => plane.heartbeat.load_full(),
            Connection::Commands | Connection::Subscription => plane.commands.load_full(),
        };
        let Some(link) = link else {
            let fault = plane.health.fault(connection);
            return Err(StoreError::Away(
                fault.map_or(Reason::Starting, |fault| fault.reason),
            ));
        };
        match link.call(args, within).await {
            Ok(Value::Error(text)) if text.starts_with("FULL ") => Err(StoreError::Full),
            Ok(Value::Error(text)) => {
                let fault = about(Fault::said(&text), keys);
                plane.refused(what(keys), &fault);
                Err(StoreError::Refused(fault.reason, fault.detail))
            }
            Ok(value) => {
                plane.done(what(keys));
                Ok(value)
            }
            Err(NoAnswer::Busy) => Err(StoreError::Busy),
            Err(NoAnswer::Ended(fault)) => Err(StoreError::Unknown(fault.reason)),
        }
    }
}

impl Plane {
    /// A write went through.
    fn wrote(&self) {
        self.health.wrote(std::time::Instant::now());
        self.tell();
    }

    /// The store's content is this. When it is another than before, what was there is gone.
    fn saw(&self, generation: &str) {
        let mut known = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() == Some(generation) {
            return;
        }
        if known.is_some() {
            self.shared.counters.flushes.inc();
            self.shared.ears.reset(Cause::Flushed);
            tracing::warn!("the cluster's store lost what it had");
        }
        *known = Some(generation.to_owned());
    }
}

/// What a command is about, for telling one that is refused from another. Of limits there are many.
fn what(keys: &[String]) -> &str {
    let key = keys.first().map_or("", String::as_str);
    key.split_once("{c}rl:").map_or(key, |(limits, _)| limits)
}

/// Says which key it is that holds something else: the server names none.
fn about(fault: Fault, keys: &[String]) -> Fault {
    match (fault.reason, keys) {
        (Reason::WrongType, [key]) => Fault::new(
            Reason::WrongType,
            format!("{key} holds something of another kind: delete it"),
        ),
        (Reason::WrongType, keys) => Fault::new(
            Reason::WrongType,
            format!(
                "one of {} holds something of another kind: delete it",
                keys.join(", ")
            ),
        ),
        _ => fault,
    }
}

pub(super) fn number(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

pub(super) fn millis(duration: Duration) -> Vec<u8> {
    duration.as_millis().max(1).to_string().into_bytes()
}

/// `revision node there since value`; nothing for what no gateway writes.
fn entry(key: &Value, value: &Value) -> Option<Entry> {
    let key = key.text()?.to_owned();
    let value = value.bytes()?;
    let mut at = 0;
    let mut word = || {
        let rest = value.get(at..)?;
        let end = memchr::memchr(b' ', rest)?;
        at += end + 1;
        std::str::from_utf8(rest.get(..end)?).ok()
    };
    let revision = word()?.parse().ok()?;
    let node = word()?.to_owned();
    let there = word()? == "1";
    word()?;
    let entry = Entry {
        key,
        value: there.then(|| Bytes::copy_from_slice(value.get(at..).unwrap_or_default())),
        revision,
        node,
    };
    entry.is_sound().then_some(entry)
}

fn read_beat(answer: &Value) -> Result<Beat, StoreError> {
    let [duplicate, generation, now, version, sha256, members, leases] = answer.list().ok_or(TROUBLED)?
    else {
        return Err(TROUBLED);
    };
    let members = members
        .list()
        .ok_or(TROUBLED)?
        .chunks_exact(6)
        .filter_map(|parts| {
            let [node, incarnation, beat, age, left, record] = parts else {
                return None;
            };
            Some(Seen {
                // What somebody else wrote there is no member.
                node: NodeId::known_as(node.text()?).ok()?,
                incarnation: incarnation.count()?,
                beat: beat.count()?,
                // The clock of another master may be behind.
                age: Duration::from_millis(u64::try_from(age.number()?.max(0)).ok()?),
                left: left.number()? == 1,
                record: record.bytes()?,
            })
        });
    let leases = leases
        .list()
        .ok_or(TROUBLED)?
        .chunks_exact(4)
        .filter_map(|parts| {
            let [task, holder, token, remaining] = parts else {
                return None;
            };
            let (task, holder) = (task.text()?, holder.text()?);
            (is_part(task) && is_holder(holder)).then_some(())?;
            Some(LeaseView {
                task: task.to_owned(),
                holder: holder.to_owned(),
                token: token.count()?,
                remaining: Duration::from_millis(remaining.count()?),
            })
        });
    Ok(Beat {
        duplicate: duplicate.count(),
        members: members.collect(),
        generation: generation.text().ok_or(TROUBLED)?.to_owned(),
        now: Timestamp::from_millisecond(now.number().ok_or(TROUBLED)?).map_err(|_| TROUBLED)?,
        config: ConfigMark {
            version: version.count().unwrap_or(0),
            sha256: sha256.text().unwrap_or_default().to_owned(),
        },
        leases: leases.collect(),
    })
}
