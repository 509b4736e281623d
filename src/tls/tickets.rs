//! Session tickets under our own keys.
//!
//! The keys belong to the process and not to a listener, a worker or a generation: any worker resumes what
//! another began, and a reload ends no session. Which listener and which terms for client certificates a ticket
//! was made under is authenticated with it, so that it opens no other door. Keys are plain bytes under an id:
//! several gateways can be given the same ones.

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// A key makes tickets for this long, and opens them for as long again: what is stolen opens what was recorded
/// in that time and no more (forward secrecy ends with the key).
pub const ROTATION_SECONDS: u64 = 6 * 3600;
/// Keys kept: the one that makes tickets and the one before.
const KEPT: usize = 2;
const ID_LEN: usize = 16;
const SECRET_LEN: usize = 32;
/// Longest ticket: with the chain of a client's certificate in it, one has some KiB. Its length must fit into two bytes
/// besides, and a client may show a chain that does not.
const MAX_TICKET: usize = 16 * 1024;

/// One key.
pub struct TicketKey {
    id: [u8; ID_LEN],
    born: u64,
    key: LessSafeKey,
}

impl std::fmt::Debug for TicketKey {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketKey")
            .field("born", &self.born)
            .finish_non_exhaustive()
    }
}

impl TicketKey {
    /// A key from its parts; `born` is in seconds of Unix time. `None` only when the provider fails.
    #[must_use]
    pub fn from_secret(id: [u8; ID_LEN], secret: &[u8; SECRET_LEN], born: u64) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).ok()?);
        Some(Self { id, born, key })
    }

    fn random(born: u64) -> Option<Self> {
        let (mut id, mut secret) = ([0; ID_LEN], [0; SECRET_LEN]);
        rand::fill(&mut id).ok()?;
        rand::fill(&mut secret).ok()?;
        Self::from_secret(id, &secret, born)
    }

    /// Whether it is its turn still.
    const fn makes_tickets(&self, now: u64) -> bool {
        self.is_of_this_time(now) && now < self.born.saturating_add(ROTATION_SECONDS)
    }

    const fn opens_tickets(&self, now: u64) -> bool {
        self.is_of_this_time(now) && now < self.born.saturating_add(ROTATION_SECONDS * KEPT as u64)
    }

    /// Clocks of several gateways differ a little. One that was set back must not make a key last until it is where
    /// it was.
    const fn is_of_this_time(&self, now: u64) -> bool {
        self.born <= now.saturating_add(ROTATION_SECONDS)
    }
}

/// The keys of a process, the newest first. The first is made when it is needed: a process that speaks no TLS has no
/// use for one, and randomness from nothing costs a tenth of a second.
#[derive(Debug, Default)]
pub struct TicketRing {
    keys: ArcSwap<Vec<Arc<TicketKey>>>,
    turning: Mutex<()>,
}

impl TicketRing {
    /// Puts these keys in the place of those that are there; the first makes tickets.
    pub fn install(&self, keys: Vec<TicketKey>) {
        let keys = keys.into_iter().take(KEPT).map(Arc::new).collect();
        let _turn = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.store(Arc::new(keys));
    }

    /// The keys as they stand at `now`, after a rotation where one was due. None at all should the provider fail: then
    /// nothing is resumed.
    fn current(&self, now: u64) -> Arc<Vec<Arc<TicketKey>>> {
        let keys = self.keys.load_full();
        if keys.first().is_some_and(|key| key.makes_tickets(now)) {
            return keys;
        }
        let _turn = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load_full();
        if keys.first().is_some_and(|key| key.makes_tickets(now)) {
            return keys;
        }
        let fresh = TicketKey::random(now).map(Arc::new);
        let next: Vec<_> = fresh
            .into_iter()
            .chain(keys.iter().filter(|key| key.opens_tickets(now)).cloned())
            .take(KEPT)
            .collect();
        let next = Arc::new(next);
        self.keys.store(Arc::clone(&next));
        next
    }

    fn seal(&self, plain: &[u8], binding: &[u8], now: u64) -> Option<Vec<u8>> {
        let keys = self.current(now);
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let length = ID_LEN + NONCE_LEN + plain.len() + key.key.algorithm().tag_len();
        if length > MAX_TICKET {
            return None;
        }
        let mut ticket = Vec::with_capacity(length);
        ticket.extend_from_slice(&key.id);
        ticket.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.key
            .seal_in_place_append_tag(nonce, Aad::from(binding), &mut sealed)
            .ok()?;
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], binding: &[u8], now: u64) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (id, rest) = ticket.split_first_chunk::<ID_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.current(now);
        let key = keys.iter().find(|key| key.id == *id && key.opens_tickets(now))?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key
            .key
            .open_in_place(nonce, Aad::from(binding), &mut bytes)
            .ok()?
            .len();
        bytes.truncate(length);
        Some(bytes)
    }
}

/// Makes and opens the tickets of one listener on one set of terms.
#[derive(Debug)]
pub struct BoundTickets {
    ring: Arc<TicketRing>,
    binding: Box<[u8]>,
}

impl BoundTickets {
    #[must_use]
    pub fn new(ring: Arc<TicketRing>, binding: &[u8]) -> Self {
        // Now, and not within somebody's handshake.
        let _made = ring.current(unix_now());
        Self {
            ring,
            binding: binding.into(),
        }
    }
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // A ticket made at the end of a key's turn lives no longer than this.
        u32::try_from(ROTATION_SECONDS).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.ring.seal(plain, &self.binding, unix_now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.ring.open(cipher, &self.binding, unix_now())
    }
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(born: u64) -> TicketRing {
        let ring = TicketRing::default();
        ring.install(vec![TicketKey::random(born).unwrap()]);
        ring
    }

    #[test]
    fn a_ticket_opens_where_it_was_made_and_nowhere_else() {
        let ring = ring(1000);
        let ticket = ring.seal(b"secret", b"web/none", 1000).unwrap();
        assert_eq!(ring.open(&ticket, b"web/none", 1000).unwrap(), b"secret");
        assert_eq!(ring.open(&ticket, b"web/required", 1000), None);
        assert!(memchr::memmem::find(&ticket, b"secret").is_none());
    }

    #[test]
    fn a_ticket_outlives_one_rotation_and_not_two() {
        let ring = ring(1000);
        let ticket = ring.seal(b"x", b"", 1000).unwrap();
        let later = 1000 + ROTATION_SECONDS;
        let next = ring.seal(b"y", b"", later).unwrap();
        assert_ne!(ticket[..ID_LEN], next[..ID_LEN], "another key makes them now");
        assert!(ring.open(&ticket, b"", later).is_some());
        assert!(ring.open(&ticket, b"", later + ROTATION_SECONDS).is_none());
        assert!(ring.open(&next, b"", later + ROTATION_SECONDS).is_some());
    }

    #[test]
    fn an_old_key_opens_nothing_even_if_nobody_came_in_between() {
        let ring = ring(1000);
        let ticket = ring.seal(b"x", b"", 1000).unwrap();
        assert!(ring.open(&ticket, b"", 1000 + 3 * ROTATION_SECONDS).is_none());
    }

    #[test]
    fn what_makes_too_long_a_ticket_gets_none() {
        let ring = ring(1000);
        let ticket = ring.seal(&[7; MAX_TICKET - 44], b"", 1000).unwrap();
        assert_eq!(ticket.len(), MAX_TICKET);
        assert!(ring.open(&ticket, b"", 1000).is_some());
        assert_eq!(ring.seal(&[7; MAX_TICKET - 43], b"", 1000), None);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_make_keys_last() {
        let year = 365 * 24 * 3600;
        let ring = ring(10 * year);
        let ticket = ring.seal(b"x", b"", 10 * year).unwrap();
        assert!(
            ring.open(&ticket, b"", 10 * year - 60).is_some(),
            "a little is nothing"
        );
        assert!(ring.open(&ticket, b"", 9 * year).is_none());
        let next = ring.seal(b"y", b"", 9 * year).unwrap();
        assert_ne!(ticket[..ID_LEN], next[..ID_LEN]);
        assert!(ring.open(&next, b"", 9 * year + 1).is_some());
        let last = TicketKey::from_secret([1; 16], &[2; 32], u64::MAX).unwrap();
        assert!(!last.makes_tickets(0) && last.opens_tickets(u64::MAX - 1));
    }

    #[test]
    fn gateways_with_the_same_keys_open_each_others_tickets() {
        let key = || TicketKey::from_secret([1; 16], &[2; 32], 1000).unwrap();
        let (one, other) = (TicketRing::default(), TicketRing::default());
        one.install(vec![key()]);
        let ticket = one.seal(b"x", b"web", 1001).unwrap();
        assert_eq!(other.open(&ticket, b"web", 1001), None);
        other.install(vec![key()]);
        assert!(other.open(&ticket, b"web", 1001).is_some());
    }

    proptest! {
        #[test]
        fn nothing_that_was_not_made_here_opens(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(ring(1000).open(&bytes, b"", 1000), None);
        }

        #[test]
        fn a_ticket_with_one_bit_changed_does_not_open(bit in 0usize..8 * 50) {
            let ring = ring(1000);
            let mut ticket = ring.seal(b"state", b"web", 1000).unwrap();
            let bit = bit % (ticket.len() * 8);
            ticket[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(ring.open(&ticket, b"web", 1000), None);
        }
    }
}
