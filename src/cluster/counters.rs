//! What happened on the bus, in numbers.

use super::state::Reason;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers of one bus.
#[derive(Debug)]
pub struct Counters {
    pub announced: Count,
    /// Announcements that found no room, or no connection.
    pub announce_drops: Count,
    pub received: Count,
    /// Heard twice.
    pub duplicates: Count,
    /// Times that announcements of a node were missed.
    pub gaps: Count,
    /// Of a version that this one does not know.
    pub unknown: Count,
    /// On our channels, and nothing that a gateway says.
    pub garbage: Count,
    /// Not signed by our key.
    pub forged: Count,
    pub too_large: Count,
    pub probe_failures: Count,
    /// Times that the store was found to have lost what it had.
    pub flushes: Count,
    reconnects: Vec<Count>,
    begin: Instant,
    /// Nanoseconds; 0 before the first.
    rtt: AtomicU64,
    /// Milliseconds since `begin`, plus one.
    last_ok: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            announced: Count::default(),
            announce_drops: Count::default(),
            received: Count::default(),
            duplicates: Count::default(),
            gaps: Count::default(),
            unknown: Count::default(),
            garbage: Count::default(),
            forged: Count::default(),
            too_large: Count::default(),
            probe_failures: Count::default(),
            flushes: Count::default(),
            reconnects: Reason::ALL.iter().map(|_| Count::default()).collect(),
            begin: Instant::now(),
            rtt: AtomicU64::new(0),
            last_ok: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// A connection ended for this reason and is to be made again.
    pub(super) fn reconnect(&self, reason: Reason) {
        if let Some(count) = self.reconnects.get(reason as usize) {
            count.inc();
        }
    }

    /// How often connections ended, by the reason.
    pub fn reconnects(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .iter()
            .copied()
            .zip(self.reconnects.iter().map(Count::get))
    }

    /// An answer came, this long after it was asked for.
    pub(super) fn answered(&self, rtt: Duration) {
        let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.rtt.store(nanos, Ordering::Relaxed);
        let at = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last_ok.store(at + 1, Ordering::Relaxed);
    }

    /// The latest round trip.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        let nanos = self.rtt.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Time since the store last answered; `None` before it ever did.
    #[must_use]
    pub fn last_ok_age(&self) -> Option<Duration> {
        let at = self.last_ok.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.begin.elapsed().saturating_sub(Duration::from_millis(at)))
    }
}
