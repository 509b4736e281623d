//! What is asked of the bucket that all gateways share, and what comes of it: the same in a script of Redis, in the
//! memory of a cluster of one, and in a simulation. Pure.

use super::limit::Rate;
use std::time::Duration;

/// Names a bucket in the store: a hash, so that nothing of what a client sent gets into a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketId([u8; 16]);

impl BucketId {
    /// Of a key under a limit. The same on every gateway.
    #[must_use]
    pub fn of(limit: &str, key: &[u8]) -> Self {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        // The length keeps what belongs to the name apart from what belongs to the key.
        digest.update(&(limit.len() as u64).to_be_bytes());
        digest.update(limit.as_bytes());
        digest.update(key);
        let mut id = [0; 16];
        for (id, byte) in id.iter_mut().zip(digest.finish().as_ref()) {
            *id = *byte;
        }
        Self(id)
    }

    /// In hexadecimal digits.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A number that is spread evenly.
    #[must_use]
    pub const fn spread(&self) -> usize {
        self.0[0] as usize
    }
}

impl std::fmt::Debug for BucketId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    pub rate: Rate,
    /// Granted already, and to be counted whether there is room or not.
    pub owed: u32,
    pub wanted: u32,
    /// How many more than the burst may be owed. What is beyond it is of a master whose clock was ahead.
    pub credit: u32,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub granted: u32,
    /// How long it takes until one more may be taken; zero where it may be now.
    pub wait: Duration,
}

/// One step: when the bucket will be free, by the store's clock, before and after it.
#[must_use]
pub fn step(free_at: Duration, now: Duration, take: &Take) -> (Duration, Taken) {
    let Rate { interval, burst } = take.rate;
    let full = now + interval.saturating_mul(burst);
    let most = full + interval.saturating_mul(take.credit);
    let mut at = free_at.clamp(now, most);
    at = (at + interval.saturating_mul(take.owed)).min(most);
    let room = full.saturating_sub(at).as_nanos() / interval.as_nanos().max(1);
    let granted = u32::try_from(room).unwrap_or(u32::MAX).min(take.wanted);
    at += interval.saturating_mul(granted);
    let wait = (at + interval).saturating_sub(full);
    (at, Taken { granted, wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(owed: u32, wanted: u32) -> Take {
        Take {
            rate: Rate {
                interval: Duration::from_millis(10),
                burst: 5,
            },
            owed,
            wanted,
            credit: 4,
        }
    }

    #[test]
    fn what_is_owed_is_counted_first_and_may_exceed_the_burst() {
        let now = Duration::from_secs(100);
        let millis = Duration::from_millis;
        let (at, taken) = step(Duration::ZERO, now, &take(2, 2));
        assert_eq!((at, taken.granted, taken.wait), (now + millis(40), 2, millis(0)));
        let (at, taken) = step(at, now, &take(0, 7));
        assert_eq!((at, taken.granted, taken.wait), (now + millis(50), 1, millis(10)));
        let (at, taken) = step(at, now, &take(3, 1));
        assert_eq!((at, taken.granted, taken.wait), (now + millis(80), 0, millis(40)));
        // What is owed is bounded, as is what a clock that was ahead left there.
        let (at, taken) = step(at, now, &take(1000, 1));
        assert_eq!((at, taken.granted, taken.wait), (now + millis(90), 0, millis(50)));
        assert_eq!(step(now * 2, now, &take(0, 1)).0, now + millis(90));
    }

    #[test]
    fn what_clients_send_is_not_in_a_name_and_limits_are_apart() {
        let hostile = BucketId::of("per-ip", b"}{\r\n\0\xff*?[");
        assert_eq!(hostile.text().len(), 32);
        assert!(hostile.text().bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(hostile, BucketId::of("per-ip", b"}{\r\n\0\xff*?["));
        assert_ne!(BucketId::of("ab", b"c"), BucketId::of("a", b"bc"));
        assert_ne!(
            BucketId::of("a", &[b'x'; 10_240]),
            BucketId::of("a", &[b'x'; 10_241])
        );
    }
}
