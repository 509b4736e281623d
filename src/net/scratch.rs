//! The buffers of a worker, shared by all its connections.
//!
//! Data is read into scratch and written on from there within one poll, so the bytes are hot in the cache and an
//! idle connection owns no buffer. Scratch is lent to a closure: what it lends cannot be carried over an await.
//! Borrowing it twice is a bug and panics.

use super::unsent;
use std::cell::RefCell;

/// Largest single read.
pub const LARGEST_READ: usize = 256 * 1024;
/// First read of a direction, and the size returned to when a write does not take everything.
pub const FIRST_READ: usize = 16 * 1024;

thread_local! {
    static IN: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST_READ].into_boxed_slice());
    static OUT: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(FIRST_READ));
}

/// Lends the buffer that is read into.
pub fn with_in<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    IN.with(|buffer| use_it(&mut buffer.borrow_mut()))
}

/// Lends the buffer in which heads are written; it comes empty.
pub fn with_out<R>(use_it: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    OUT.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        buffer.clear();
        use_it(&mut buffer)
    })
}

/// How much to read next in one direction: grows with bulk, falls back when the other side does not keep up.
#[derive(Clone, Copy, Debug)]
pub struct ReadSize(u32);

impl Default for ReadSize {
    fn default() -> Self {
        Self(FIRST_READ as u32)
    }
}

impl ReadSize {
    #[must_use]
    #[inline]
    pub fn get(self) -> usize {
        let size = self.0 as usize;
        if unsent::is_scarce() {
            size.min(unsent::SCARCE_READ)
        } else {
            size
        }
    }

    /// A read filled the buffer and all of it could be written.
    pub fn grow(&mut self) {
        self.0 = (self.0 * 2).min(LARGEST_READ as u32);
    }

    pub fn reset(&mut self) {
        self.0 = FIRST_READ as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_double_up_to_the_largest_and_fall_back() {
        let mut size = ReadSize::default();
        for _ in 0..10 {
            size.grow();
        }
        assert_eq!(size.get(), LARGEST_READ);
        size.reset();
        assert_eq!(size.get(), FIRST_READ);
    }

    #[test]
    fn the_out_buffer_comes_empty() {
        with_out(|out| out.extend_from_slice(b"left over"));
        with_out(|out| assert!(out.is_empty()));
    }
}
