//! What a worker holds of bytes that sockets do not take, over all its connections.
//!
//! Each connection holds one read at most and is read for no further until that is gone, and a read may have 256 KiB:
//! times the connections that a gateway may have, that is more than a machine has. So once [`PLENTY`] is held, reads
//! get small: beyond it a connection adds [`SCARCE_READ`] and no more. Nobody is cut for it, and who takes nothing at
//! all is cut by `limits.send_timeout`.

use std::cell::Cell;

/// Bytes held by a worker from which on reads are small.
pub const PLENTY: isize = 64 * 1024 * 1024;
/// Size of reads then.
pub const SCARCE_READ: usize = 4 * 1024;

thread_local! {
    // Signed: what is counted on one thread may end on another, where connections are not those of workers.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// Bytes that are held on this thread.
#[must_use]
pub fn held() -> isize {
    HELD.get()
}

/// Whether reads are to be small.
#[must_use]
pub fn is_scarce() -> bool {
    held() > PLENTY
}

/// The share of one connection.
#[derive(Debug, Default)]
pub struct Share(usize);

impl Share {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// The connection holds so many bytes now.
    #[inline]
    pub fn is(&mut self, bytes: usize) {
        if bytes != self.0 {
            let more = bytes as isize - self.0 as isize;
            HELD.set(HELD.get() + more);
            self.0 = bytes;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.is(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::scratch::{LARGEST_READ, ReadSize};

    #[test]
    fn what_is_held_is_the_sum_of_the_shares() {
        let (mut one, mut other) = (Share::new(), Share::new());
        one.is(100);
        other.is(20);
        one.is(70);
        assert_eq!(held(), 90);
        drop(one);
        assert_eq!(held(), 20);
        other.is(0);
        assert_eq!(held(), 0);
    }

    #[test]
    fn reads_are_small_while_much_is_held_and_large_again_afterwards() {
        let mut size = ReadSize::default();
        for _ in 0..10 {
            size.grow();
        }
        let mut share = Share::new();
        share.is(PLENTY as usize);
        assert_eq!(size.get(), LARGEST_READ);
        share.is(PLENTY as usize + 1);
        assert_eq!(size.get(), SCARCE_READ);
        drop(share);
        assert_eq!(size.get(), LARGEST_READ);
    }
}
