//! What workers and control see of each other: one padded block per worker, connection counts per listener and
//! per client. Written when connections come and go, never per request.

use super::worker::Command;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::Sender;

/// One worker as others see it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerStatus {
    /// Client connections it holds, tunnels included.
    pub connections: AtomicUsize,
    /// When it last turned, in milliseconds since the board was made.
    pub last_tick_ms: AtomicU64,
    /// Generation of the snapshot that it serves from.
    pub generation: AtomicU64,
    /// Its sockets were given to another worker, because it stopped turning or is to end.
    pub retired: AtomicBool,
}

/// A worker and the way to it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub index: usize,
    pub status: Arc<WorkerStatus>,
    pub commands: Sender<Command>,
}

/// Shared by all workers and control.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    peers: ArcSwap<Vec<Peer>>,
    listeners: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
    clients: Clients,
    /// Highest descriptor number that accepting may use; above it are those for endpoints, files and control.
    accept_fd_limit: AtomicUsize,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            peers: ArcSwap::default(),
            listeners: Mutex::default(),
            clients: Clients::default(),
            accept_fd_limit: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Board {
    /// Milliseconds since the board was made.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    #[must_use]
    pub fn peers(&self) -> Arc<Vec<Peer>> {
        self.peers.load_full()
    }

    /// Adds a worker, or puts a new one in the place of the one with its index.
    pub fn join(&self, peer: &Peer) {
        self.peers.rcu(|peers| {
            let mut peers: Vec<Peer> = peers.iter().filter(|p| p.index != peer.index).cloned().collect();
            peers.push(peer.clone());
            peers.sort_by_key(|p| p.index);
            peers
        });
    }

    /// Client connections of all workers.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.peers
            .load()
            .iter()
            .map(|p| p.status.connections.load(Ordering::Relaxed))
            .sum()
    }

    /// The least loaded worker, if `mine` is so far above it that a new connection should go there. Small
    /// differences are left alone: moving a connection costs a wake-up of the other thread.
    #[must_use]
    pub fn better_place(&self, me: usize, mine: usize) -> Option<Peer> {
        const LEAST_DIFFERENCE: usize = 32;
        const SHARE: usize = 8; // 12 %
        let peers = self.peers.load();
        let (load, least) = peers
            .iter()
            .filter(|p| p.index != me && !p.status.retired.load(Ordering::Relaxed))
            .map(|p| (p.status.connections.load(Ordering::Relaxed), p))
            .min_by_key(|(load, _)| *load)?;
        (mine > load + LEAST_DIFFERENCE.max(load / SHARE)).then(|| least.clone())
    }

    /// Open connections of a listener; the count lives on over reloads.
    #[must_use]
    pub fn listener_count(&self, name: &Arc<str>) -> Arc<AtomicUsize> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.entry(name.clone()).or_default().clone()
    }

    pub fn set_accept_fd_limit(&self, limit: usize) {
        self.accept_fd_limit.store(limit, Ordering::Relaxed);
    }

    #[must_use]
    pub fn accept_fd_limit(&self) -> usize {
        self.accept_fd_limit.load(Ordering::Relaxed)
    }

    /// Counts a connection of this client at this listener, unless it has `limit` already.
    #[must_use]
    pub fn admit_client(
        self: &Arc<Self>,
        listener: &Arc<str>,
        client: IpAddr,
        limit: usize,
    ) -> Option<ClientPermit> {
        let key = (listener.clone(), client_group(client));
        self.clients.admit(&key, limit).then(|| ClientPermit {
            board: self.clone(),
            key,
        })
    }
}

/// One connection counted for its client, until dropped.
#[derive(Debug)]
pub struct ClientPermit {
    board: Arc<Board>,
    key: ClientKey,
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.board.clients.leave(&self.key);
    }
}

type ClientKey = (Arc<str>, IpAddr);

/// Who counts as one client: an IPv4 address, or an IPv6 /64, which is what one subscriber gets.
fn client_group(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

/// Connections per client. An entry lives as long as its connections, so the table is as bounded as they are.
#[derive(Debug)]
struct Clients {
    shards: [Mutex<HashMap<ClientKey, usize>>; Self::SHARDS],
    hasher: std::hash::RandomState,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: std::hash::RandomState::new(),
        }
    }
}

impl Clients {
    const SHARDS: usize = 64;

    fn shard(&self, key: &ClientKey) -> std::sync::MutexGuard<'_, HashMap<ClientKey, usize>> {
        use std::hash::BuildHasher;
        let index = self.hasher.hash_one(key) as usize % Self::SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, key: &ClientKey, limit: usize) -> bool {
        let mut shard = self.shard(key);
        let count = shard.entry(key.clone()).or_default();
        let room = *count < limit;
        if room {
            *count += 1;
        }
        room
    }

    fn leave(&self, key: &ClientKey) {
        let mut shard = self.shard(key);
        if let Some(count) = shard.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board_with(loads: &[usize]) -> Board {
        let board = Board::default();
        for (index, load) in loads.iter().enumerate() {
            let status = Arc::new(WorkerStatus::default());
            status.connections.store(*load, Ordering::Relaxed);
            board.join(&Peer {
                index,
                status,
                commands: tokio::sync::mpsc::channel(1).0,
            });
        }
        board
    }

    #[test]
    fn a_connection_moves_only_when_the_difference_is_worth_it() {
        let board = board_with(&[132, 100]);
        assert!(board.better_place(0, 132).is_none());
        assert_eq!(board.better_place(0, 133).unwrap().index, 1);
        let board = board_with(&[0, 1000]);
        assert!(board.better_place(0, 1125).is_none());
        assert_eq!(board.better_place(0, 1126).unwrap().index, 1);
    }

    #[test]
    fn a_retired_worker_gets_nothing_and_is_replaced_by_its_index() {
        let board = board_with(&[500, 0]);
        board.peers()[1].status.retired.store(true, Ordering::Relaxed);
        assert!(board.better_place(0, 500).is_none());
        board.join(&Peer {
            index: 1,
            status: Arc::default(),
            commands: tokio::sync::mpsc::channel(1).0,
        });
        assert_eq!(board.better_place(0, 500).unwrap().index, 1);
        assert_eq!(board.peers().len(), 2);
    }

    #[test]
    fn a_client_is_counted_until_its_connections_end() {
        let board = Arc::new(Board::default());
        let web: Arc<str> = "web".into();
        let ip: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let first = board.admit_client(&web, ip, 1);
        assert!(first.is_some());
        assert!(
            board.admit_client(&web, "10.0.0.1".parse().unwrap(), 1).is_none(),
            "the same client in IPv4"
        );
        assert!(
            board.admit_client(&"other".into(), ip, 1).is_some(),
            "counted per listener"
        );
        drop(first);
        assert!(board.admit_client(&web, ip, 1).is_some());
        assert!(
            board
                .clients
                .shards
                .iter()
                .map(|s| s.lock().unwrap().len())
                .sum::<usize>()
                == 0
        );
    }

    #[test]
    fn ipv6_clients_are_counted_by_their_network() {
        assert_eq!(
            client_group("2001:db8::1".parse().unwrap()),
            client_group("2001:db8::2:3".parse().unwrap())
        );
    }
}
