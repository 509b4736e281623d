//! What workers and control see of each other: one padded block per worker, connection counts per listener and
//! per client. Written when connections come and go, never per request.

use super::worker::Command;
use crate::upstream::shared::shed::Shed;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// One worker as others see it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerStatus {
    /// Client connections it holds, tunnels included.
    pub connections: AtomicUsize,
    /// Tunnels among them, and on streams of HTTP/2.
    pub tunnels: AtomicUsize,
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
    clients: Arc<Clients>,
    /// Tunnels of listeners and routes that bound them, and of their clients.
    tallies: Mutex<HashMap<TallyKey, Arc<Tally>>>,
    tunnel_clients: Arc<Clients>,
    /// The number of the last tunnel that was opened.
    tunnel_numbers: AtomicU64,
    /// All tunnels are asked to go: the gateway drains.
    shed: ArcSwapOption<Shed>,
    /// Highest descriptor number that accepting may use; above it are those for endpoints, files and control.
    accept_fd_limit: AtomicUsize,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            peers: ArcSwap::default(),
            listeners: Mutex::default(),
            clients: Arc::default(),
            tallies: Mutex::default(),
            tunnel_clients: Arc::default(),
            tunnel_numbers: AtomicU64::new(0),
            shed: ArcSwapOption::empty(),
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

    /// Tunnels of all workers.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.peers
            .load()
            .iter()
            .map(|p| p.status.tunnels.load(Ordering::Relaxed))
            .sum()
    }

    /// A number for a new tunnel.
    #[must_use]
    pub fn number_tunnel(&self) -> u64 {
        self.tunnel_numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has all tunnels asked to go.
    pub fn set_shed(&self, shed: Shed) {
        self.shed.store(Some(Arc::new(shed)));
    }

    /// How all tunnels are asked to go, if they are.
    #[must_use]
    pub fn shed(&self) -> Option<Arc<Shed>> {
        self.shed.load_full()
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
    pub fn admit_client(&self, listener: &Arc<str>, client: IpAddr, limit: usize) -> Option<ClientPermit> {
        ClientPermit::of(&self.clients, listener, client, limit)
    }

    /// Counts a tunnel of this client on this route, unless it has `limit` already.
    #[must_use]
    pub fn admit_tunnel(&self, route: &Arc<str>, client: IpAddr, limit: usize) -> Option<ClientPermit> {
        ClientPermit::of(&self.tunnel_clients, route, client, limit)
    }

    /// The tunnels of a listener or route; the count lives on over reloads.
    #[must_use]
    pub fn tally(&self, kind: &'static str, name: &Arc<str>) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.entry((kind, name.clone())).or_default().clone()
    }
}

/// Tunnels of something that bounds how many there are and how fast they come, over all workers.
#[derive(Debug, Default)]
pub struct Tally {
    open: AtomicUsize,
    /// When the next handshake has its turn, in nanoseconds since [`Tally::epoch`].
    next: AtomicU64,
}

impl Tally {
    /// The first moment that was asked for.
    fn epoch(now: Instant) -> Instant {
        static EPOCH: OnceLock<Instant> = OnceLock::new();
        *EPOCH.get_or_init(|| now)
    }

    /// A place for one more, unless there are `limit`.
    #[must_use]
    pub fn enter(self: Arc<Self>, limit: usize) -> Option<TunnelPermit> {
        let entered = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then_some(open + 1)
            });
        entered.ok().map(|_| TunnelPermit(self))
    }

    /// Takes the next turn, `interval` after the one before. How long until then; if that is beyond `patience` no turn
    /// is taken.
    ///
    /// # Errors
    /// How long it would be.
    pub fn turn(&self, now: Instant, interval: Duration, patience: Duration) -> Result<Duration, Duration> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(Self::epoch(now)));
        let taken = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                let at = next.max(now);
                (at - now <= nanos(patience)).then_some(at.saturating_add(nanos(interval)))
            });
        let wait = |next: u64| Duration::from_nanos(next.saturating_sub(now));
        taken.map(wait).map_err(wait)
    }
}

/// One tunnel counted, until dropped.
#[derive(Debug)]
pub struct TunnelPermit(Arc<Tally>);

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection counted for its client, until dropped.
#[derive(Debug)]
pub struct ClientPermit {
    clients: Arc<Clients>,
    key: ClientKey,
}

impl ClientPermit {
    fn of(clients: &Arc<Clients>, name: &Arc<str>, client: IpAddr, limit: usize) -> Option<Self> {
        let key = (name.clone(), client_group(client));
        clients.admit(&key, limit).then(|| Self {
            clients: clients.clone(),
            key,
        })
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.clients.leave(&self.key);
    }
}

/// Of which kind of thing, and its name.
type TallyKey = (&'static str, Arc<str>);

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
    fn turns_are_taken_one_interval_apart_and_not_beyond_patience() {
        let tally = Tally::default();
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let take = |at: Instant| tally.turn(at, ms(100), ms(250));
        assert_eq!(take(now), Ok(ms(0)));
        assert_eq!(take(now), Ok(ms(100)));
        assert_eq!(take(now), Ok(ms(200)));
        assert_eq!(take(now), Err(ms(300)), "no turn was taken");
        assert_eq!(take(now), Err(ms(300)));
        assert_eq!(take(now + ms(100)), Ok(ms(200)));
        assert_eq!(
            take(now + Duration::from_secs(9)),
            Ok(ms(0)),
            "turns are not saved up"
        );
        assert_eq!(take(now + Duration::from_secs(9)), Ok(ms(100)));
    }

    #[test]
    fn places_are_given_up_with_the_tunnel() {
        let board = Board::default();
        let enter = || board.tally("route", &"chat".into()).enter(1);
        let first = enter();
        assert!(first.is_some() && enter().is_none());
        assert!(board.tally("listener", &"chat".into()).enter(1).is_some());
        drop(first);
        assert!(enter().is_some());
    }

    #[test]
    fn ipv6_clients_are_counted_by_their_network() {
        assert_eq!(
            client_group("2001:db8::1".parse().unwrap()),
            client_group("2001:db8::2:3".parse().unwrap())
        );
    }
}
