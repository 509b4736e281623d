//! Gets tokens for those who need more, and finds out when the store answers again. The only one that waits.

use super::limit::Rate;
use super::take::{BucketId, Take};
use super::{Errand, Health, STRICT, is_open};
use crate::cluster::bus::Bus;
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How long a lease may take: what it is worth.
const LEASE: Duration = Duration::from_millis(100);
/// Between tries while the store does not answer.
const PROBE: Duration = Duration::from_secs(1);
/// Leases that are asked for together.
const TOGETHER: usize = 64;
/// What a try takes. It writes, as a decision does: a store that is full or a replica reads all the same.
const PROBING: Take = Take {
    rate: Rate {
        interval: Duration::from_millis(1),
        burst: 1,
    },
    owed: 0,
    wanted: 1,
    credit: 0,
};

/// See the module's text.
#[derive(Debug)]
pub struct Keeper {
    bus: Bus,
    health: Arc<Health>,
    errands: mpsc::Receiver<Errand>,
}

impl Keeper {
    pub(super) const fn new(bus: Bus, health: Arc<Health>, errands: mpsc::Receiver<Errand>) -> Self {
        Self { bus, health, errands }
    }

    /// Runs until the last limiter is gone.
    pub async fn run(mut self) {
        let mut probes = interval(PROBE);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut errands = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                received = self.errands.recv_many(&mut errands, TOGETHER) => {
                    if received == 0 {
                        return;
                    }
                    join_all(errands.drain(..).map(|errand| self.lease(errand))).await;
                }
                _ = probes.tick() => self.probe().await,
            }
        }
    }

    async fn lease(&self, Errand { limiter, id }: Errand) {
        if is_open(&self.health.leases) {
            limiter.keys.known(id, |known| known.leased.failed());
            return;
        }
        let gateways = limiter.common.gateways.load(Ordering::Relaxed);
        let Some(take) = limiter
            .keys
            .known(id, |known| known.leased.ask(&limiter.limit, gateways))
        else {
            return;
        };
        let answer = timeout(LEASE, self.bus.take(id, &take)).await;
        let taken = self.health.lease(answer.ok());
        limiter.keys.known(id, |known| match taken {
            Some(taken) => known.leased.answered(Instant::now(), &take, taken),
            None => known.leased.failed(),
        });
    }

    /// Asks for nothing that anybody needs, as quickly as an answer has to be.
    async fn probe(&self) {
        let id = BucketId::of("", b"");
        if is_open(&self.health.strict) {
            let answer = timeout(STRICT, self.bus.take(id, &PROBING)).await;
            self.health.strict(answer.ok());
        }
        if is_open(&self.health.leases) {
            let answer = timeout(LEASE, self.bus.take(id, &PROBING)).await;
            self.health.lease(answer.ok());
        }
    }
}
