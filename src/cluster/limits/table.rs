//! What one gateway knows of each key, for a bounded number of keys.
//!
//! When there is no room for another key, the one that was used least lately of a few that are looked at is forgotten:
//! its owner may then have what comes at once again from this gateway, and nobody is refused because others use many
//! keys. What the store knows of it stays there.

use super::bucket::Bucket;
use super::lease::Leased;
use super::take::BucketId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Parts with a lock each.
const SHARDS: usize = 64;
/// Keys in a part: 65,536 in all.
const KEYS: usize = 1024;
/// Keys that are looked at to find one to forget.
const LOOKED_AT: usize = 8;

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    id: BucketId,
    used: Instant,
    /// All that this gateway granted.
    pub own: Bucket,
    pub leased: Leased,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<BucketId, usize>,
    known: Vec<Known>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Keys {
    shards: Vec<Mutex<Shard>>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        }
    }
}

impl Keys {
    /// Looks at a key that is used now.
    pub fn with<T>(&self, id: BucketId, now: Instant, look: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut shard = self.shard(id)?;
        let at = match shard.places.get(&id) {
            Some(at) => *at,
            None => shard.add(id, now),
        };
        let known = shard.known.get_mut(at)?;
        known.used = now;
        Some(look(known))
    }

    /// Looks at a key if it is still known.
    pub fn known<T>(&self, id: BucketId, look: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut shard = self.shard(id)?;
        let at = *shard.places.get(&id)?;
        shard.known.get_mut(at).map(look)
    }

    /// Keys that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).known.len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, id: BucketId) -> Option<MutexGuard<'_, Shard>> {
        self.shards.get(id.spread() % SHARDS).map(lock)
    }
}

impl Shard {
    /// Gives the place of a new key.
    fn add(&mut self, id: BucketId, now: Instant) -> usize {
        let new = Known {
            id,
            used: now,
            own: Bucket::default(),
            leased: Leased::default(),
        };
        let at = if self.known.len() < KEYS {
            self.known.push(new);
            self.known.len() - 1
        } else {
            let looked_at = (0..LOOKED_AT).map(|_| fastrand::usize(..self.known.len()));
            let oldest = looked_at.min_by_key(|at| self.known.get(*at).map(|known| known.used));
            let at = oldest.unwrap_or(0);
            if let Some(known) = self.known.get_mut(at) {
                self.places.remove(&known.id);
                *known = new;
            }
            at
        };
        self.places.insert(id, at);
        at
    }
}

/// Whole after a panic too: each change is one step.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ever_new_keys_use_bounded_memory_and_do_not_displace_one_in_use() {
        let (keys, begin) = (Keys::default(), Instant::now());
        let busy = BucketId::of("test", b"busy");
        let rate = super::super::Limit::new(1, Duration::from_secs(3600), 1)
            .unwrap()
            .rate();
        assert_eq!(
            keys.with(busy, begin, |known| known.own.take(begin, rate)),
            Some(Ok(()))
        );
        for n in 0..2 * (SHARDS * KEYS) as u64 {
            let now = begin + Duration::from_micros(n);
            keys.with(BucketId::of("test", &n.to_be_bytes()), now, |_| ());
            if n % 64 == 0 {
                keys.with(busy, now, |_| ());
            }
        }
        assert!(
            keys.len() <= SHARDS * KEYS && keys.len() > SHARDS * KEYS * 9 / 10,
            "{}",
            keys.len()
        );
        let refused = keys.known(busy, |known| known.own.take(begin, rate).is_err());
        assert_eq!(refused, Some(true), "what it used is still known");
        let first = keys.known(BucketId::of("test", &0_u64.to_be_bytes()), |_| ());
        assert!(first.is_none(), "one that was used least lately is forgotten");
        for shard in &keys.shards {
            let shard = lock(shard);
            assert_eq!(shard.places.len(), shard.known.len());
        }
    }
}
