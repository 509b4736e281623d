//! Counting requests against limits, on one gateway or on all together: a primitive that policies are built from.
//!
//! | a limiter that is | grants |
//! |---|---|
//! | [`Mode::Local`] | by its own count: the limit divided by the gateways that live, and a fifth more. Nothing is shared |
//! | [`Mode::Shared`] | tokens for 100 ms, leased beforehand from a bucket that all gateways share. Deciding never waits |
//! | [`Mode::Strict`] | what that bucket says, asked for each request, within 5 ms |
//!
//! Whatever is wrong with the store, requests are not refused for it: a decision that can't be had in time falls to the
//! gateway's own count, and while a breaker is open all of them do ([`Limiter::mode`] says so). The store is then
//! tried each second, by nobody who serves a request.
//!
//! What is granted over any time W by n gateways, where `steady` is W × count / period, is at most
//!
//! | mode | granted |
//! |---|---|
//! | local | 1.2 × (burst + steady) + n; with n = 1 burst + steady |
//! | shared | burst + steady, and twice 1.2 × burst + n on credit, and a lease for each gateway. Credit is paid back |
//! | strict | burst + steady |
//!
//! A change between modes, of the number of gateways, or of the master of a Redis, may grant what a gateway's own count
//! allows at once, once more; and a store that was away has the burst again, which nobody took from it meanwhile. A limiter knows 65,536 keys (see [`table`] for what happens to more); in the store a key
//! is there for as long as it matters, which is until all that may come at once may come again, and named by a hash.
//! All keys have the cluster's tag: in a Redis Cluster, one master counts.

pub mod breaker;
pub mod bucket;
mod keeper;
pub mod lease;
pub mod limit;
pub mod table;
pub mod take;

pub use keeper::Keeper;
pub use limit::{Limit, LimitError, Rate};

use super::bus::Bus;
use super::store::StoreError;
use breaker::Breaker;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use table::Keys;
use take::{BucketId, Take};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// How long a request may wait for a strict decision.
const STRICT: Duration = Duration::from_millis(5);
/// Strict decisions in a row that were not had in time before no more are asked for.
const STRICT_FAILURES: u32 = 5;
/// Leases of which one fails before no more are asked for: each stands for many requests.
const LEASE_FAILURES: u32 = 1;
/// Keys that wait for a lease.
const QUEUE: usize = 1024;

/// How decisions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Local,
    Shared,
    Strict,
}

impl Mode {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Shared => "shared",
            Self::Strict => "strict",
        }
    }

    /// What suits this bus where nothing is said.
    #[must_use]
    pub const fn usual(bus: &Bus) -> Self {
        if bus.is_embedded() {
            Self::Local
        } else {
            Self::Shared
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    Refused {
        /// Earlier than this it is refused again, unless others leave something.
        retry_after: Duration,
    },
}

/// What all limiters of a gateway have in common.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Common>);

#[derive(Debug)]
struct Common {
    bus: Bus,
    gateways: AtomicU32,
    health: Arc<Health>,
    queue: mpsc::Sender<Errand>,
}

/// Whether the store is asked.
#[derive(Debug)]
struct Health {
    strict: Mutex<Breaker>,
    leases: Mutex<Breaker>,
}

/// A key that is to have more tokens.
#[derive(Debug)]
struct Errand {
    limiter: Arc<Limiter>,
    id: BucketId,
}

impl Limits {
    /// Limits over this bus, and the task that gets tokens for them.
    #[must_use]
    pub fn new(bus: Bus) -> (Self, Keeper) {
        let (queue, errands) = mpsc::channel(QUEUE);
        let health = Arc::new(Health {
            strict: Mutex::new(Breaker::new(STRICT_FAILURES)),
            leases: Mutex::new(Breaker::new(LEASE_FAILURES)),
        });
        let keeper = Keeper::new(bus.clone(), Arc::clone(&health), errands);
        let common = Common {
            bus,
            gateways: AtomicU32::new(1),
            health,
            queue,
        };
        (Self(Arc::new(common)), keeper)
    }

    /// So many gateways live, this one counted.
    pub fn gateways(&self, gateways: u32) {
        self.0.gateways.store(gateways.max(1), Ordering::Relaxed);
    }

    /// Counts keys against a limit. Gateways that give it the same name share it.
    #[must_use]
    pub fn limiter(&self, name: &str, limit: Limit, mode: Mode) -> Arc<Limiter> {
        Arc::new(Limiter {
            name: name.into(),
            limit,
            wanted: mode,
            keys: Keys::default(),
            common: Arc::clone(&self.0),
        })
    }
}

/// One limit, for many keys.
#[derive(Debug)]
pub struct Limiter {
    name: Box<str>,
    limit: Limit,
    wanted: Mode,
    keys: Keys,
    common: Arc<Common>,
}

impl Limiter {
    /// How decisions are made now: as wanted, or local while the store can't be asked.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let breaker = match self.wanted {
            Mode::Local => return Mode::Local,
            Mode::Shared => &self.common.health.leases,
            Mode::Strict => &self.common.health.strict,
        };
        if is_open(breaker) {
            Mode::Local
        } else {
            self.wanted
        }
    }

    /// Decides on one more request of a key, which may be any bytes. Waits for nothing, but 5 ms at most where the
    /// limit is strict.
    pub async fn admit(self: &Arc<Self>, key: &[u8]) -> Verdict {
        let id = BucketId::of(&self.name, key);
        match self.mode() {
            Mode::Local => self.by_itself(id),
            Mode::Shared => self.by_lease(id),
            Mode::Strict => self.by_the_store(id).await,
        }
    }

    /// Keys that this gateway knows.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    fn others(&self) -> u32 {
        self.common.gateways.load(Ordering::Relaxed)
    }

    /// By the gateway's own count.
    fn by_itself(self: &Arc<Self>, id: BucketId) -> Verdict {
        let now = Instant::now();
        let decided = self.keys.with(id, now, |known| {
            // Also where tokens are left: they are paid for.
            known
                .leased
                .decide(now, &self.limit, self.others(), &mut known.own, false)
        });
        decided.map_or(Verdict::Admitted, |decided| decided.verdict)
    }

    fn by_lease(self: &Arc<Self>, id: BucketId) -> Verdict {
        let now = Instant::now();
        let decided = self.keys.with(id, now, |known| {
            known
                .leased
                .decide(now, &self.limit, self.others(), &mut known.own, true)
        });
        let Some(decided) = decided else {
            return Verdict::Admitted;
        };
        if decided.ask {
            let limiter = Arc::clone(self);
            if self.common.queue.try_send(Errand { limiter, id }).is_err() {
                self.keys.known(id, |known| known.leased.failed());
            }
        }
        decided.verdict
    }

    async fn by_the_store(self: &Arc<Self>, id: BucketId) -> Verdict {
        let take = Take {
            rate: self.limit.rate(),
            owed: 0,
            wanted: 1,
            credit: 0,
        };
        let asked = timeout(STRICT, self.common.bus.take(id, &take)).await;
        let Some(taken) = self.common.health.strict(asked.ok()) else {
            return self.by_itself(id);
        };
        if taken.granted == 0 {
            return Verdict::Refused {
                retry_after: taken.wait,
            };
        }
        // Counted here too, so that there is no second burst when the store goes away.
        let (now, share) = (Instant::now(), self.limit.share(self.others()));
        self.keys.with(id, now, |known| known.own.note(now, share));
        Verdict::Admitted
    }
}

impl Health {
    /// An answer to a strict question, or that there was none in time.
    fn strict(&self, answer: Option<Result<take::Taken, StoreError>>) -> Option<take::Taken> {
        note(&self.strict, answer)
    }

    fn lease(&self, answer: Option<Result<take::Taken, StoreError>>) -> Option<take::Taken> {
        note(&self.leases, answer)
    }
}

fn note(breaker: &Mutex<Breaker>, answer: Option<Result<take::Taken, StoreError>>) -> Option<take::Taken> {
    let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Some(Ok(taken)) => {
            breaker.succeeded();
            Some(taken)
        }
        Some(Err(error)) => {
            breaker.failed(Instant::now(), matches!(error, StoreError::Away(_)));
            None
        }
        None => {
            breaker.failed(Instant::now(), false);
            None
        }
    }
}

fn is_open(breaker: &Mutex<Breaker>) -> bool {
    breaker.lock().unwrap_or_else(PoisonError::into_inner).is_open()
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
