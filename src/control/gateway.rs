//! What the tasks of the control runtime share: the way to everything that runs.

use super::acme::view::OrderView;
use super::cluster::Cluster;
use super::dns::Names;
use super::drains::Drains;
use super::drills::Drills;
use super::failover::FailOvers;
use super::following::Following;
use super::journal::Journal;
use super::listeners::{BoundListener, Listeners, Moves};
use super::rebalance::Rebalances;
use super::services::Services;
use super::sharing::health::Opinions;
use super::sharing::probing::Probing;
use super::workers::{WorkerView, Workers};
use crate::config::Loaded;
use crate::net::listen::{Address, Socket, SocketFile};
use crate::proxy::board::Board;
use crate::proxy::worker::SocketId;
use crate::snapshot::Live;
use crate::telemetry::metrics::Metrics;
use crate::tls::acme::Acme;
use crate::tls::tickets::TicketRing;
use crate::upstream::shared::{Overrides, Registry};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Longest wait for workers to empty their accept queues.
const CLOSING: Duration = Duration::from_secs(1);

/// Where the gateway is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    Starting,
    Serving,
    Draining,
}

impl Phase {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// This process among others.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: String,
    pub started: Timestamp,
    pub state_dir: Option<PathBuf>,
    /// The control socket, where there is one.
    pub control_socket: Option<PathBuf>,
}

/// The sockets and the threads that serve them. One lock for both: they change together, and never across an
/// await.
#[derive(Debug)]
pub struct Plane {
    pub listeners: Listeners,
    pub workers: Workers,
}

/// The admin listener's socket. A new one replaces it when a reload changes the address.
#[derive(Debug)]
pub struct AdminSocket {
    /// As written.
    pub written: Address,
    /// As really bound.
    pub bound: Address,
    pub socket: Socket,
    pub file: Option<SocketFile>,
}

/// The admin listener on the control runtime.
#[derive(Debug)]
pub enum AdminListener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl AdminSocket {
    /// A descriptor of its own to accept from.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn listener(&self) -> io::Result<AdminListener> {
        Ok(match self.socket.try_clone()? {
            Socket::Tcp(socket) => AdminListener::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Socket::Unix(socket) => AdminListener::Unix(tokio::net::UnixListener::from_std(socket)?),
        })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = file.remove()
        {
            tracing::warn!(file = %file.path().display(), %error, "socket file could not be removed");
        }
    }
}

/// The running gateway, as the control side sees it.
#[derive(Debug)]
pub struct Gateway {
    pub node: Node,
    pub live: Arc<Live>,
    /// Keys of TLS sessions: they outlive every configuration.
    pub tickets: Arc<TicketRing>,
    /// Certificates that the gateway gets itself: they do too.
    pub acme: Arc<Acme>,
    /// How getting them goes.
    pub orders: ArcSwap<Vec<OrderView>>,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    pub board: Arc<Board>,
    pub journal: Journal,
    /// The configuration in force, as loaded.
    pub running: ArcSwap<Loaded>,
    /// What the names of endpoints stand for.
    pub names: Names,
    /// What operators changed, laid over it. The mutator alone stores it.
    pub overrides: ArcSwap<Overrides>,
    pub drains: Drains,
    pub drills: Drills,
    /// What other gateways say of the endpoints.
    pub opinions: Opinions,
    /// Probes that gateways make for each other.
    pub probing: Probing,
    /// What registered itself.
    pub services: Services,
    pub rebalances: Rebalances,
    pub failovers: FailOvers,
    /// The gateways that this one is among.
    pub cluster: Cluster,
    /// What they published to serve from.
    pub following: Following,
    /// Rung when the overrides have changed.
    pub overrides_changed: Notify,
    /// Rung when endpoints may have changed.
    pub endpoints_changed: Notify,
    /// Rung when the upstreams of the configuration in force are to be compiled anew.
    pub upstreams_changed: Notify,
    admin: watch::Sender<Option<Arc<AdminSocket>>>,
    /// Sockets that workers were told to close and have not closed yet.
    closing: watch::Sender<HashSet<(usize, SocketId)>>,
    plane: Mutex<Plane>,
    phase: AtomicU8,
}

/// The parts of a [`Gateway`] that somebody else makes.
#[derive(Debug)]
pub struct Parts {
    pub node: Node,
    pub live: Arc<Live>,
    pub tickets: Arc<TicketRing>,
    pub acme: Arc<Acme>,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    pub board: Arc<Board>,
    pub journal: Journal,
    pub loaded: Loaded,
    pub overrides: Overrides,
    pub failovers: FailOvers,
    pub services: Services,
    pub cluster: Cluster,
    pub following: Following,
    pub listeners: Listeners,
    pub workers: Workers,
    pub admin: Option<AdminSocket>,
}

impl Gateway {
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            node: parts.node,
            live: parts.live,
            tickets: parts.tickets,
            acme: parts.acme,
            orders: ArcSwap::default(),
            registry: parts.registry,
            metrics: parts.metrics,
            board: parts.board,
            journal: parts.journal,
            running: ArcSwap::from_pointee(parts.loaded),
            names: Names::default(),
            overrides: ArcSwap::from_pointee(parts.overrides),
            drains: Drains::default(),
            drills: Drills::default(),
            opinions: Opinions::default(),
            probing: Probing::default(),
            services: parts.services,
            rebalances: Rebalances::default(),
            failovers: parts.failovers,
            cluster: parts.cluster,
            following: parts.following,
            overrides_changed: Notify::new(),
            endpoints_changed: Notify::new(),
            upstreams_changed: Notify::new(),
            admin: watch::Sender::new(parts.admin.map(Arc::new)),
            closing: watch::Sender::default(),
            plane: Mutex::new(Plane {
                listeners: parts.listeners,
                workers: parts.workers,
            }),
            phase: AtomicU8::new(Phase::Starting as u8),
        })
    }

    /// The sockets and threads. A panic while they were held leaves them whole: their changes are single steps.
    pub fn plane(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Goes on to a later phase; there is no way back.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// The open listeners by name.
    #[must_use]
    pub fn bound(&self) -> Vec<BoundListener> {
        self.plane().listeners.bound()
    }

    #[must_use]
    pub fn workers(&self) -> Vec<WorkerView> {
        self.plane().workers.view()
    }

    /// Carries out what a change of listeners means for the workers.
    pub fn move_sockets(&self, plane: &mut Plane, moves: Moves) {
        self.closing
            .send_modify(|closing| closing.extend(moves.unlisten.iter().copied()));
        plane.workers.apply(moves);
    }

    /// A worker has closed a socket that it was told to close.
    pub(super) fn closed(&self, worker: usize, socket: SocketId) {
        self.closing
            .send_if_modified(|closing| closing.remove(&(worker, socket)));
    }

    /// Waits until the workers have closed what they were told to close: then the addresses are free, and all
    /// who had connected there are counted. A worker that is stuck is not waited for longer than [`CLOSING`].
    pub async fn sockets_closed(&self) {
        let mut closing = self.closing.subscribe();
        if tokio::time::timeout(CLOSING, closing.wait_for(HashSet::is_empty))
            .await
            .is_err()
        {
            tracing::debug!("a worker takes long to close its sockets");
            self.closing.send_modify(HashSet::clear);
        }
    }

    /// Follows the admin listener through reloads.
    #[must_use]
    pub fn admin_socket(&self) -> watch::Receiver<Option<Arc<AdminSocket>>> {
        self.admin.subscribe()
    }

    /// Ends the admin listener, or puts another in its place.
    pub fn replace_admin(&self, socket: Option<AdminSocket>) {
        self.admin.send_replace(socket.map(Arc::new));
    }
}
