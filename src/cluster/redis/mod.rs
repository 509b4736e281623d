//! The body of the bus over Redis: one server, the master that sentinels name, or the node of a Redis Cluster that
//! serves our keys.
//!
//! Three connections, each kept by a task of its own that resolves, connects, and looks at the role of who answers,
//! again and again, for as long as it takes:
//!
//! | connection | carries |
//! |---|---|
//! | `commands` | operations and announcements, and a ping that tells how it is |
//! | `subscription` | what others announce, and nothing else: what a server sends there unasked is never taken for an answer |
//! | `heartbeat` | beats and leases, so that nothing delays them |
//!
//! The subscription is proved by what this node tells itself: a server that answers pings may still deliver nothing.
//! Nothing here retries a command: after a deadline nobody knows what the next answer on the connection belongs to,
//! so the connection ends.

mod configs;
mod dial;
mod fault;
mod health;
mod keep;
mod limits;
mod link;
mod ops;
pub mod purge;
mod resolve;
mod resp;
mod scripts;
mod subscription;

use super::bus::{Shared, Topic};
use super::envelope::{Envelope, Key, Versions};
use super::names::{Names, NodeId};
use super::state::{BusState, Condition, Reason};
use crate::base::seldom::PerCause;
use crate::base::task;
use crate::config::model::{RedisKind, RedisUrl};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use fault::Fault;
use health::{Connection, Health};
use link::Link;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Announcements that wait to be sent.
const OUTGOING: usize = 1024;
/// How long the end waits for what was announced before.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A user and a password, either of which may be missing.
#[derive(Clone, Default)]
pub struct Login {
    pub user: Option<String>,
    pub password: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// TLS to the servers.
#[derive(Clone, Debug)]
pub struct Secure {
    pub config: Arc<ClientConfig>,
    /// The name in every certificate; `None`: the host that is connected to.
    pub name: Option<ServerName<'static>>,
}

/// Which Redis, and how to get in.
#[derive(Clone, Debug)]
pub struct Access {
    pub url: RedisUrl,
    pub login: Login,
    pub sentinel_login: Login,
    pub secure: Option<Secure>,
}

impl Access {
    /// Whether there is one server, and no other to look for.
    fn is_of_one(&self) -> bool {
        self.url.kind == RedisKind::Single && self.url.addresses.len() == 1
    }
}

/// What the bus needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    pub access: Access,
    pub names: Names,
    /// Signs what is announced; with it nothing else is believed.
    pub key: Option<Key>,
    /// Of announcements, that are understood.
    pub versions: Versions,
}

#[cfg(test)]
impl Options {
    /// A server on this machine, without passwords, TLS, or a key.
    pub(in crate::cluster) fn plain(kind: RedisKind, port: u16) -> Self {
        use crate::config::model::{RedisAddress, RedisUrl};
        let host = "127.0.0.1".to_owned();
        let url = RedisUrl {
            kind,
            tls: false,
            addresses: vec![RedisAddress::Tcp { host, port }],
            database: 0,
            user: None,
            password: None,
        };
        let access = Access {
            url,
            login: Login::default(),
            sentinel_login: Login::default(),
            secure: None,
        };
        Self {
            access,
            names: Names::new("tidegate", "test"),
            key: None,
            versions: super::envelope::UNDERSTOOD,
        }
    }
}

/// The state before the first connection.
#[must_use]
pub fn starting() -> BusState {
    BusState::new(
        Condition::Down,
        Some(Reason::Starting),
        "not connected yet".to_owned(),
    )
}

/// The way to the Redis.
#[derive(Clone, Debug)]
pub struct Client {
    plane: Arc<Plane>,
    tasks: Arc<Mutex<Tasks>>,
}

#[derive(Debug)]
enum Tasks {
    /// Not started; what is announced waits here.
    Ready(mpsc::Receiver<Outgoing>),
    Running(Vec<JoinHandle<()>>),
}

/// What the tasks of one bus share.
#[derive(Debug)]
struct Plane {
    /// May be exchanged while it runs.
    access: ArcSwap<Access>,
    names: Names,
    key: Option<Key>,
    versions: Versions,
    /// The version that is spoken: not one that somebody who is there does not understand.
    spoken: AtomicU8,
    shared: Arc<Shared>,
    commands: ArcSwapOption<Link>,
    heartbeat: ArcSwapOption<Link>,
    health: Health,
    resolver: resolve::Resolver,
    outgoing: mpsc::Sender<Outgoing>,
    /// Of each channel, what was announced last.
    sequences: [AtomicU64; Topic::ALL.len()],
    /// Counts the times that somebody found that the server is not the right one any more: all connections are made
    /// anew then.
    moved: watch::Sender<u64>,
    ending: watch::Sender<bool>,
    /// What was told of announcements that could not be read.
    unreadable: Mutex<PerCause<&'static str>>,
    /// The script's own hash of the store's content, as last seen.
    generation: Mutex<Option<String>>,
}

/// An announcement on its way out.
#[derive(Debug)]
struct Outgoing {
    channel: String,
    bytes: Vec<u8>,
}

impl Client {
    pub(super) fn new(options: Options, shared: Arc<Shared>) -> Self {
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let plane = Arc::new(Plane {
            resolver: resolve::Resolver::new(&options.access),
            health: Health::default(),
            access: ArcSwap::from_pointee(options.access),
            names: options.names,
            key: options.key,
            versions: options.versions,
            spoken: AtomicU8::new(options.versions.least),
            shared,
            commands: ArcSwapOption::empty(),
            heartbeat: ArcSwapOption::empty(),
            outgoing,
            sequences: Default::default(),
            moved: watch::Sender::new(0),
            ending: watch::Sender::new(false),
            unreadable: Mutex::default(),
            generation: Mutex::default(),
        });
        Self {
            plane,
            tasks: Arc::new(Mutex::new(Tasks::Ready(queue))),
        }
    }

    /// Begins to connect, on the calling runtime. Once.
    pub(super) fn start(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Tasks::Ready(queue) = std::mem::replace(&mut *tasks, Tasks::Running(Vec::new())) else {
            return;
        };
        let mut running = vec![task::spawn(keep::send(Arc::clone(&self.plane), queue))];
        for connection in Connection::ALL {
            running.push(task::spawn(keep::run(Arc::clone(&self.plane), connection)));
        }
        *tasks = Tasks::Running(running);
    }

    /// Gets in another way from now on. `anew`: also where it is in already.
    pub(super) fn access(&self, access: Access, anew: bool) {
        self.plane.resolver.begin_with(&access.url.addresses);
        self.plane.access.store(Arc::new(access));
        if anew {
            self.plane.move_on();
        }
    }

    /// Each connection, and whether it works.
    pub(super) fn connections(&self) -> [(&'static str, bool); 3] {
        Connection::ALL.map(|connection| (connection.label(), self.plane.health.fault(connection).is_none()))
    }

    /// Whether the connection of heartbeats works.
    pub(super) fn can_beat(&self) -> bool {
        self.plane.health.fault(Connection::Heartbeat).is_none()
    }

    pub(super) fn versions(&self) -> Versions {
        self.plane.versions
    }

    pub(super) fn spoken(&self) -> u8 {
        self.plane.spoken.load(Ordering::Relaxed)
    }

    pub(super) fn speak(&self, version: u8) {
        self.plane.spoken.store(version, Ordering::Relaxed);
    }

    /// Puts an announcement into the queue.
    pub(super) fn announce(&self, topic: Topic, to: Option<&NodeId>, kind: &str, payload: &Bytes) -> bool {
        let plane = &self.plane;
        let Some(sequence) = plane.sequences.get(topic as usize) else {
            return false;
        };
        let name = channel_name(topic, to.map(NodeId::as_str));
        // Counted even if it finds no room: those who listen then see that they missed something.
        let seq = sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let source = plane.shared.known_as.load_full();
        let envelope = Envelope {
            source: source.as_str().into(),
            incarnation: plane.shared.incarnation,
            seq,
            kind: kind.into(),
            payload,
        };
        let Some(bytes) = envelope.encode(self.spoken(), &name, plane.key.as_ref()) else {
            return false;
        };
        let outgoing = Outgoing {
            channel: plane.names.channel(&name),
            bytes,
        };
        plane.commands.load().is_some() && plane.outgoing.try_send(outgoing).is_ok()
    }

    /// Says what was to be said, for a moment's time, and ends every connection.
    pub(super) async fn end(&self) {
        let said = async {
            while self.plane.outgoing.capacity() < OUTGOING && self.plane.commands.load().is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        drop(tokio::time::timeout(LAST_WORDS, said).await);
        self.plane.ending.send_replace(true);
        let tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *tasks, Tasks::Running(Vec::new()))
        };
        if let Tasks::Running(tasks) = tasks {
            for task in tasks {
                task.abort();
                drop(task.await);
            }
        }
        self.plane.commands.store(None);
        self.plane.heartbeat.store(None);
        let state = BusState::new(Condition::Down, Some(Reason::Ended), String::new());
        self.plane.shared.state.send_replace(state);
    }
}

/// The channel of a topic, without the prefix.
fn channel_name(topic: Topic, node: Option<&str>) -> String {
    match node {
        Some(node) => format!("{}:{node}", topic.channel()),
        None => topic.channel().to_owned(),
    }
}

impl Plane {
    /// All channels that this node hears, without the prefix, and what they are about.
    fn channels(&self) -> BTreeMap<String, Topic> {
        let known_as = self.shared.known_as.load_full();
        let second = known_as.second(self.shared.incarnation);
        let mut channels = BTreeMap::new();
        for topic in Topic::ALL {
            if topic == Topic::Node {
                channels.insert(channel_name(topic, Some(known_as.configured())), topic);
                channels.insert(channel_name(topic, Some(second.as_str())), topic);
            } else {
                channels.insert(channel_name(topic, None), topic);
            }
        }
        channels
    }

    /// What this node tells itself on.
    fn probe_channel(&self) -> String {
        let node = self.shared.known_as.load_full();
        self.names.probe_channel(&node, self.shared.incarnation)
    }

    /// A connection works.
    fn up(&self, connection: Connection, server: &str) {
        self.health.up(connection, server);
        self.tell();
    }

    /// A connection ended, or could not be made.
    fn down(&self, connection: Connection, fault: &Fault) {
        self.health.down(connection, fault);
        self.tell();
    }

    /// A command was refused, for a reason that says something about the server.
    fn refused(&self, what: &str, fault: &Fault) {
        // One that stands alone and wants replicas goes on telling and announcing; nobody else would.
        let only = fault.reason == Reason::NoReplicas && self.access.load().is_of_one();
        if fault.reason.asks_elsewhere() && !only {
            self.move_on();
        }
        self.health.refused(what, fault, Instant::now());
        self.tell();
    }

    /// A command went through.
    fn done(&self, what: &str) {
        if self.health.done(what) {
            self.tell();
        }
    }

    /// Another server is to be looked for.
    fn move_on(&self) {
        self.moved.send_modify(|times| *times += 1);
    }

    /// Tells the condition of the bus to those who follow it, if it is another.
    fn tell(&self) {
        let now = self.health.state();
        self.shared.state.send_if_modified(|state| {
            let same = state.condition == now.condition && state.reason == now.reason;
            if same {
                // What is met changes with every attempt; since when it is so does not.
                let differs = state.detail != now.detail || state.server != now.server;
                state.detail = now.detail;
                state.server = now.server;
                return differs;
            }
            *state = now;
            true
        });
    }
}
