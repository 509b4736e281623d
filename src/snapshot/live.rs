//! The snapshot that is served now. Routes and endpoints change together, in one store.

use super::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Holds the live snapshot. Control swaps it; workers compare the generation per request and load it only when
/// that has moved.
#[derive(Debug)]
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
    swaps: watch::Sender<u64>,
}

impl Live {
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        let generation = AtomicU64::new(snapshot.generation);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            swaps: watch::Sender::new(generation.load(Ordering::Relaxed)),
            generation,
        }
    }

    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    #[inline]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes a snapshot live; returns the one before.
    pub fn swap(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let generation = snapshot.generation;
        let before = self.snapshot.swap(Arc::new(snapshot));
        self.generation.store(generation, Ordering::Release);
        self.swaps.send_replace(generation);
        before
    }

    /// Rings at every swap, with the generation; for tasks of control.
    #[must_use]
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }
}
