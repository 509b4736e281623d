//! The state of one endpoint, shared by all workers and kept over reloads.

use super::check::HOLD;
use super::drill::Drill;
use super::health::Checks;
use super::latency::Latency;
use super::outlier::{Ejections, LastFault};
use super::rebalance::Asking;
use super::shed::Shed;
use super::standing::{Health, Standing};
use crate::base::clock::Millis;
use crate::upstream::conn::Target;
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Identity of an endpoint: its upstream, and its address as written. The same address in two upstreams is two
/// endpoints, because their health and load are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    pub upstream: Arc<str>,
    pub address: Arc<str>,
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.upstream, self.address)
    }
}

/// What a name stands for now. An address that needs no resolving has one target from the start.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// In the order to try; empty while the name has not been resolved.
    pub list: Vec<Target>,
    /// Why the last resolution failed; the list then holds the last good answer.
    pub error: Option<String>,
}

/// Shared state of one endpoint. Counters that several workers write are padded.
#[derive(Debug)]
pub struct EndpointState {
    pub key: EndpointKey,
    pub standing: CachePadded<Standing>,
    /// What its checks have found out.
    pub checks: Checks,
    /// How it answers; written where the algorithm asks for it.
    pub latency: CachePadded<Latency>,
    targets: ArcSwap<Targets>,
    /// Counts the changes of what it stands for, so that a pooled connection learns at the price of one load
    /// whether it may lead astray.
    moves: AtomicU64,
    /// Requests now at the endpoint, over all workers, in the lower half; open tunnels (upgraded connections) in the
    /// upper. One number, because `max_connections` bounds their sum exactly.
    load: CachePadded<AtomicU64>,
    /// Failures since the last success.
    failure_streak: CachePadded<AtomicU32>,
    /// When the first of them was; written with it.
    failing_since: AtomicU64,
    pub last_fault: LastFault,
    /// What traffic's verdicts on it were.
    pub ejections: Ejections,
    /// Where the next connection starts among several targets.
    next_target: AtomicU64,
    /// Its tunnels are asked to go.
    shed: ArcSwapOption<Shed>,
    /// Some of them are, because another endpoint has joined.
    asking: ArcSwapOption<Asking>,
    /// Tunnels that were told to go, and are still there.
    leaving: AtomicU32,
    /// A fail-over drill, and whether there is one: a load that costs those nothing who hold none.
    drilled: AtomicBool,
    drill: ArcSwapOption<Drill>,
}

impl EndpointState {
    #[must_use]
    pub fn new(key: EndpointKey, targets: Vec<Target>) -> Self {
        Self {
            key,
            standing: CachePadded::default(),
            checks: Checks::default(),
            latency: CachePadded::default(),
            targets: ArcSwap::from_pointee(Targets {
                list: targets,
                error: None,
            }),
            moves: AtomicU64::new(0),
            load: CachePadded::default(),
            failure_streak: CachePadded::default(),
            failing_since: AtomicU64::new(0),
            last_fault: LastFault::default(),
            ejections: Ejections::default(),
            next_target: AtomicU64::new(fastrand::u64(..)),
            shed: ArcSwapOption::empty(),
            asking: ArcSwapOption::empty(),
            leaving: AtomicU32::new(0),
            drilled: AtomicBool::new(false),
            drill: ArcSwapOption::empty(),
        }
    }

    /// As one that will be checked, of which this is presumed until then.
    #[must_use]
    pub fn presumed(self, health: Health) -> Self {
        match health {
            Health::Pending => self.standing.await_verdict(Millis::now().plus(HOLD)),
            other => self.standing.set_health(other),
        }
        self
    }

    /// How its tunnels are asked to go, if they are.
    #[must_use]
    pub fn shed(&self) -> Option<Arc<Shed>> {
        self.shed.load_full()
    }

    /// Whether its tunnels are asked to go.
    #[must_use]
    pub fn is_shedding(&self) -> bool {
        self.shed.load().is_some()
    }

    /// Has its tunnels asked to go, or lets them stay.
    pub fn set_shed(&self, shed: Option<Shed>) {
        self.shed.store(shed.map(Arc::new));
    }

    /// Its part in moving tunnels to an endpoint that joined, if it has one.
    #[must_use]
    pub fn asking(&self) -> Option<Arc<Asking>> {
        self.asking.load_full()
    }

    /// Whether some of its tunnels are to be asked to go.
    #[must_use]
    pub fn has_to_ask(&self) -> bool {
        self.asking.load().as_ref().is_some_and(|asking| asking.due() > 0)
    }

    pub fn set_asking(&self, asking: Option<Arc<Asking>>) {
        self.asking.store(asking);
    }

    /// A tunnel was told to go.
    pub fn tunnel_leaves(&self) {
        self.leaving.fetch_add(1, Ordering::Relaxed);
    }

    /// One that was told to go has gone.
    pub fn tunnel_left(&self) {
        self.leaving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tunnels, but for those that were told to go.
    #[must_use]
    pub fn tunnels_staying(&self) -> u32 {
        self.tunnels()
            .saturating_sub(self.leaving.load(Ordering::Relaxed))
    }

    /// The drill that is held here, if one is.
    #[must_use]
    pub fn drill(&self) -> Option<Arc<Drill>> {
        if self.drilled.load(Ordering::Relaxed) {
            self.drill.load_full()
        } else {
            None
        }
    }

    /// Holds a drill here, or ends it.
    pub fn set_drill(&self, drill: Option<Arc<Drill>>) {
        let held = drill.is_some();
        self.drill.store(drill);
        self.drilled.store(held, Ordering::Relaxed);
    }

    #[must_use]
    pub fn targets(&self) -> Arc<Targets> {
        self.targets.load_full()
    }

    /// A name was resolved anew. Idle connections to addresses no longer listed are closed, busy ones finish.
    pub fn set_targets(&self, list: Vec<Target>) {
        let before = self.targets.load();
        let moved = before.list != list;
        if moved || before.error.is_some() {
            self.targets.store(Arc::new(Targets { list, error: None }));
        }
        if moved {
            self.moves.fetch_add(1, Ordering::Release);
        }
    }

    /// How often its targets have changed.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// Whether a connection to this place still leads to the endpoint.
    #[must_use]
    pub fn leads_to(&self, target: &Target) -> bool {
        self.targets.load().list.contains(target)
    }

    /// A resolution failed: keep the last good answer, remember why.
    pub fn resolution_failed(&self, error: String) {
        let list = self.targets.load().list.clone();
        self.targets.store(Arc::new(Targets {
            list,
            error: Some(error),
        }));
    }

    /// The target for a new connection; they take turns.
    #[must_use]
    pub fn next_target(&self) -> Option<Target> {
        let targets = self.targets.load();
        let turn = self.turn(targets.list.len());
        targets.list.get(turn).cloned()
    }

    /// Where a new connection starts among this many targets.
    #[must_use]
    pub fn turn(&self, targets: usize) -> usize {
        match targets {
            0 | 1 => 0,
            n => (self.next_target.fetch_add(1, Ordering::Relaxed) % n as u64) as usize,
        }
    }

    /// Requests and tunnels now at the endpoint: what least-connections compares.
    #[must_use]
    pub fn load(&self) -> u32 {
        sum(self.load.load(Ordering::SeqCst))
    }

    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.load(Ordering::Relaxed) as u32
    }

    #[must_use]
    pub fn tunnels(&self) -> u32 {
        (self.load.load(Ordering::Relaxed) >> 32) as u32
    }

    #[must_use]
    pub fn failure_streak(&self) -> u32 {
        self.failure_streak.load(Ordering::Relaxed)
    }

    /// Called by the guard of `upstream::local` alone, once when a request starts and once when it ends.
    pub(crate) fn request_started(&self) {
        self.load.fetch_add(1, Ordering::SeqCst);
    }

    /// The same where no more than `most` requests and tunnels may be there. Whether there was room.
    pub(crate) fn request_started_within(&self, most: u32) -> bool {
        let one_more = |load| (sum(load) < most).then_some(load + 1);
        self.load
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
    }

    pub(crate) fn request_ended(&self) {
        self.load.fetch_sub(1, Ordering::SeqCst);
    }
    pub(crate) fn tunnel_opened(&self) {
        self.load.fetch_add(TUNNEL, Ordering::SeqCst);
    }
    pub(crate) fn tunnel_closed(&self) {
        self.load.fetch_sub(TUNNEL, Ordering::SeqCst);
    }

    /// An attempt got an answer.
    pub fn succeeded(&self) {
        // The line stays shared by all workers as long as nothing fails.
        if self.failure_streak.load(Ordering::Relaxed) != 0 {
            self.failure_streak.store(0, Ordering::Relaxed);
        }
    }

    /// An attempt failed on the endpoint's side. How many have in a row, this one included.
    pub fn failed(&self, now: Millis) -> u32 {
        let before = self.failure_streak.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.failing_since.store(now.0, Ordering::Relaxed);
        }
        before.saturating_add(1)
    }

    /// When the failures since the last success began; it means nothing when there are none.
    #[must_use]
    pub fn failing_since(&self) -> Millis {
        Millis(self.failing_since.load(Ordering::Relaxed))
    }
}

/// One tunnel in the number of both.
const TUNNEL: u64 = 1 << 32;

const fn sum(load: u64) -> u32 {
    (load as u32).saturating_add((load >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_tunnels_are_told_apart_and_bounded_together() {
        let key = EndpointKey {
            upstream: "u".into(),
            address: "a:1".into(),
        };
        let state = EndpointState::new(key, Vec::new());
        assert!(state.request_started_within(2));
        state.tunnel_opened();
        assert_eq!((state.in_flight(), state.tunnels(), state.load()), (1, 1, 2));
        assert!(!state.request_started_within(2) && state.request_started_within(3));
        state.request_ended();
        state.request_ended();
        assert!(state.request_started_within(2));
        state.tunnel_closed();
        assert_eq!((state.in_flight(), state.tunnels()), (1, 0));
    }

    #[test]
    fn many_threads_never_get_more_places_than_there_are() {
        let key = EndpointKey {
            upstream: "u".into(),
            address: "a:1".into(),
        };
        let state = EndpointState::new(key, Vec::new());
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if state.request_started_within(3) {
                            most.fetch_max(state.load(), Ordering::SeqCst);
                            state.request_ended();
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(state.load(), 0);
    }
}
