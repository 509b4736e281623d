//! Overrides on all gateways: what an operator sets on one of them holds on each.
//!
//! Every piece has a revision; the later one wins, then the greater node id, so that gateways that were apart come to
//! the same. A piece that can't be taken here (of a later version, or for want of room) is left alone and not taken
//! for something that an operator removed. An override of an endpoint that the file no longer has sleeps, here as on
//! one gateway; one whose time is over is taken back by each gateway by itself, and no later than an hour after that
//! forgotten by the store.

use super::replica::{Merged, Replica};
use super::{KIND, Told, announce, moment, put};
use crate::base::clock::calendar;
use crate::base::seldom::Seldom;
use crate::cluster::bus::Topic;
use crate::cluster::listener::Heard;
use crate::cluster::store::{Entry, StoreError, Table};
use crate::control::command::{Action, Actor, Command, Commands, Outcome, SharedPiece};
use crate::control::gateway::Gateway;
use crate::control::overrides::pieces;
use crate::control::state_dir::{read_bounded, write_atomically};
use crate::telemetry::events::Severity;
use crate::upstream::shared::overrides::Overrides;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const FILE: &str = "shared_overrides.json";
/// Bytes of the file that are read; ours has fewer.
const MAX_BYTES: u64 = 128 << 20;
/// How often the copy is compared with the store, whatever was announced.
const COMPARE: Duration = Duration::from_secs(5);
/// How long what ended by itself is kept in the store.
const ENDED: SignedDuration = SignedDuration::from_hours(1);

/// Shares until the bus ends.
pub async fn run(gateway: Arc<Gateway>, commands: Commands) {
    let mut ears = gateway.cluster.bus.listen(&[Topic::Overrides]);
    let mut sharer = Sharer::begin(gateway, commands).await;
    let mut ticks = interval(COMPARE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let gateway = Arc::clone(&sharer.gateway);
        tokio::select! {
            heard = ears.next() => match heard {
                None => return,
                Some(Heard::Message(message)) if &*message.kind == KIND => {
                    if let Some(told) = Told::read(&message.payload) {
                        sharer.take(vec![told.entry()]).await;
                    }
                }
                Some(Heard::Message(_)) => {}
                Some(Heard::Gap | Heard::Reset(_)) => sharer.compare().await,
            },
            () = gateway.overrides_changed.notified() => {
                sharer.note();
                sharer.send().await;
            }
            _ = ticks.tick() => sharer.compare().await,
        }
        sharer.keep().await;
    }
}

struct Sharer {
    gateway: Arc<Gateway>,
    commands: Commands,
    replica: Replica,
    /// The pieces in force when they were last looked at.
    seen: BTreeMap<String, String>,
    unkept: bool,
    /// Entries that can't be put in force here, by key: not tried again until they are others.
    untakable: BTreeMap<String, Entry>,
    telling: Seldom,
    /// What was told of the store's refusal.
    refused: Option<StoreError>,
}

impl Sharer {
    async fn begin(gateway: Arc<Gateway>, commands: Commands) -> Self {
        let directory = gateway.node.state_dir.clone();
        let kept = match directory {
            Some(directory) => tokio::task::spawn_blocking(move || load(&directory)).await,
            None => Ok(Ok(Vec::new())),
        };
        let kept = match kept {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the revisions of shared overrides can't be read: those in force count by their age");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let mut sharer = Self {
            replica: Replica::new(kept.into_iter().map(Told::entry)),
            seen: BTreeMap::new(),
            gateway,
            commands,
            unkept: false,
            untakable: BTreeMap::new(),
            telling: Seldom::default(),
            refused: None,
        };
        // What is in force and was never shared counts from when it was said.
        let node = sharer.node();
        sharer.seen = pieces::pieces(&sharer.gateway.overrides.load());
        for (key, piece) in &sharer.seen {
            let at = pieces::since(piece).map_or(0, moment);
            sharer.unkept |= sharer
                .replica
                .set(key, Some(Bytes::from(piece.clone())), at, &node)
                .is_some();
        }
        sharer
    }

    fn node(&self) -> String {
        self.gateway.cluster.bus.node().configured().to_owned()
    }

    /// Notes what was changed on this gateway, and tells the others.
    fn note(&mut self) {
        let now = pieces::pieces(&self.gateway.overrides.load());
        if now == self.seen {
            return;
        }
        let (node, at) = (self.node(), moment(calendar()));
        let changed = now
            .iter()
            .filter(|(key, piece)| self.seen.get(*key) != Some(*piece));
        let changed = changed.map(|(key, piece)| (key.clone(), Some(Bytes::from(piece.clone()))));
        let gone = self.seen.iter().filter(|(key, _)| !now.contains_key(*key));
        // What ended by itself does so everywhere. Before the date of others is known it ends by this machine's.
        let gone = gone.filter(|(_, piece)| !has_ended(piece) && !has_ended_here(piece));
        let gone = gone.map(|(key, _)| (key.clone(), None));
        let news: Vec<(String, Option<Bytes>)> = changed.chain(gone).collect();
        for (key, value) in news {
            if let Some(entry) = self.replica.set(&key, value, at, &node) {
                self.unkept = true;
                announce(&self.gateway.cluster.bus, Topic::Overrides, &entry);
            }
        }
        self.seen = now;
    }

    /// Writes to the store what it does not have.
    async fn send(&mut self) {
        for entry in self.replica.unsent() {
            match put(&self.gateway.cluster.bus, Table::OVERRIDES, &entry).await {
                Ok(_) => {
                    self.replica.sent(&entry);
                    self.refused = None;
                }
                Err(error) if error.passes() => return,
                Err(error) => {
                    if self.refused.as_ref() != Some(&error) {
                        let text = format!("{} can't be shared: {error}", entry.key);
                        let journal = &self.gateway.journal;
                        journal.note(Severity::Warning, "overrides.not_shared", "", text);
                        self.refused = Some(error);
                    }
                }
            }
        }
    }

    /// Makes copy and store agree.
    async fn compare(&mut self) {
        self.note();
        let Ok(store) = self.gateway.cluster.bus.read(Table::OVERRIDES).await else {
            return;
        };
        let over = store.iter().filter(|entry| ended_long_ago(entry)).cloned();
        for entry in over.collect::<Vec<_>>() {
            let bus = &self.gateway.cluster.bus;
            let _tried_again_next_time = bus.remove(Table::OVERRIDES, &entry.key, entry.revision + 1).await;
        }
        self.replica.compare(&store);
        self.take(store).await;
        self.send().await;
    }

    /// Takes entries from elsewhere, and puts in force what is news.
    async fn take(&mut self, entries: Vec<Entry>) {
        self.note();
        for entry in entries {
            // Nothing of ours is under such a key.
            if entry
                .value
                .as_ref()
                .is_some_and(|value| std::str::from_utf8(value).is_err())
            {
                continue;
            }
            if matches!(self.replica.merge(entry), Merged::News | Merged::Same) {
                self.unkept = true;
            }
        }
        self.put_in_force().await;
    }

    /// Whatever the copy says and is not so.
    async fn put_in_force(&mut self) {
        let mut by_node: BTreeMap<String, Vec<SharedPiece>> = BTreeMap::new();
        let mut tried: Vec<(Entry, Option<String>)> = Vec::new();
        for entry in self.replica.entries() {
            if self.untakable.get(&entry.key) == Some(entry) {
                continue;
            }
            let text = entry
                .value
                .as_ref()
                .and_then(|value| std::str::from_utf8(value).ok());
            let wanted = text.filter(|piece| !has_ended(piece));
            let in_force = self.seen.get(&entry.key);
            if wanted != in_force.map(String::as_str) && in_force.is_none_or(|piece| text != Some(piece)) {
                if let Err(error) = pieces::with_piece(&Overrides::default(), &entry.key, wanted) {
                    if let Some(times) = self.telling.happened(1, std::time::Instant::now()) {
                        tracing::warn!(key = entry.key, times, %error, "an override of another gateway can't be taken");
                    }
                    self.untakable.insert(entry.key.clone(), entry.clone());
                    continue;
                }
                tried.push((entry.clone(), wanted.map(str::to_owned)));
                by_node.entry(entry.node.clone()).or_default().push(SharedPiece {
                    key: entry.key.clone(),
                    before: in_force.cloned(),
                    after: wanted.map(str::to_owned),
                });
            }
        }
        for (node, pieces) in by_node {
            let command = Command {
                actor: Actor::Cluster { node },
                dry_run: false,
                action: Action::ShareOverrides(pieces),
            };
            match self.commands.submit(command).await {
                // The next comparison tries again.
                Err(error) => return tracing::debug!(%error, "shared overrides wait"),
                Ok(Outcome::Rejected(_)) => return,
                Ok(_) => {}
            }
        }
        // What was taken is no change of ours, and what was changed meanwhile is told apart by the mutator.
        let now = pieces::pieces(&self.gateway.overrides.load());
        for (entry, wanted) in tried {
            if now.get(&entry.key) != wanted.as_ref() {
                self.untakable.insert(entry.key.clone(), entry);
            }
        }
        let replica = &self.replica;
        self.untakable
            .retain(|key, entry| replica.get(key) == Some(entry));
        for (key, piece) in &now {
            let told = self.replica.value(key);
            if told.is_some_and(|told| told == piece.as_bytes()) {
                self.seen.insert(key.clone(), piece.clone());
            }
        }
        let replica = &self.replica;
        self.seen
            .retain(|key, _| now.contains_key(key) || replica.value(key).is_some());
    }

    /// Writes revisions down, so that a restart makes nothing newer than it is.
    async fn keep(&mut self) {
        if !std::mem::take(&mut self.unkept) {
            return;
        }
        let Some(directory) = self.gateway.node.state_dir.clone() else {
            return;
        };
        let told: Vec<Told> = self.replica.entries().filter_map(Told::of).collect();
        let saved = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&told)?;
            write_atomically(&directory.join(FILE), &text)
        });
        if !matches!(saved.await, Ok(Ok(()))) {
            tracing::debug!("the revisions of shared overrides could not be kept");
        }
    }
}

fn load(directory: &Path) -> io::Result<Vec<Told>> {
    match read_bounded(&directory.join(FILE), MAX_BYTES)? {
        Some(bytes) => Ok(serde_json::from_slice(&bytes)?),
        None => Ok(Vec::new()),
    }
}

fn has_ended(piece: &str) -> bool {
    pieces::until(piece).is_some_and(|until| until <= calendar())
}

/// By this machine's clock, which may be off.
fn has_ended_here(piece: &str) -> bool {
    pieces::until(piece).is_some_and(|until| until <= Timestamp::now())
}

fn ended_long_ago(entry: &Entry) -> bool {
    let text = entry
        .value
        .as_ref()
        .and_then(|value| std::str::from_utf8(value).ok());
    let until = text.and_then(pieces::until);
    until.is_some_and(|until| calendar().duration_since(until) > ENDED)
}
