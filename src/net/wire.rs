//! A transport with what was read but not used yet, and what was written but not taken yet.
//!
//! Both rests are empty nearly always and then own no memory. Nothing is read from the other side while a rest
//! waits to be written: that is the back-pressure, and the bound of the memory.

use super::scratch;
use super::transport::Transport;
use super::unsent::Share;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

/// See the module's text.
#[derive(Debug)]
pub struct Wire {
    pub transport: Transport,
    /// Read, not used: the beginning of a head, body that came with a head, pipelined requests.
    carry: Vec<u8>,
    /// To be written before anything else.
    unsent: Vec<u8>,
    /// How much of `unsent` is gone.
    sent: usize,
    held: Share,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

impl Wire {
    #[must_use]
    pub const fn new(transport: Transport) -> Self {
        Self {
            transport,
            carry: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            held: Share::new(),
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// Bytes read and not used yet.
    #[must_use]
    pub fn carried(&self) -> &[u8] {
        &self.carry
    }

    /// Uses the first `n` carried bytes.
    pub fn consume(&mut self, n: usize) {
        if n >= self.carry.len() {
            self.carry = Vec::new();
        } else {
            self.carry.drain(..n);
        }
    }

    /// Puts back bytes that were read and belong to what comes next.
    pub fn carry(&mut self, rest: &[u8]) {
        self.carry.extend_from_slice(rest);
    }

    /// Takes all carried bytes, for whoever goes on with the transport.
    #[must_use]
    pub fn take_carried(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.carry)
    }

    /// Reads once behind the carried bytes and shows all of them; `use_it` says how many it used, the rest is
    /// carried. `Ok(None)` is the end of the stream.
    pub fn poll_more<R>(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        use_it: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<Option<R>>> {
        scratch::with_in(|buffer| {
            let n = ready!(self.transport.poll_read(cx, &mut buffer[..size]))?;
            if n == 0 {
                return Poll::Ready(Ok(None));
            }
            self.bytes_read += n as u64;
            let result = if self.carry.is_empty() {
                let (used, result) = use_it(&buffer[..n]);
                if used < n {
                    self.carry = buffer[used..n].to_vec();
                }
                result
            } else {
                self.carry.extend_from_slice(&buffer[..n]);
                let (used, result) = use_it(&self.carry);
                self.consume(used);
                result
            };
            Poll::Ready(Ok(Some(result)))
        })
    }

    /// Whether something still waits to be written.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.sent < self.unsent.len() || self.transport.unsent() > 0
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        (self.unsent.len() - self.sent) as u64
    }

    /// Writes the parts in order, at once as far as the transport takes them; the rest is kept for
    /// [`Self::poll_flush`]. Returns whether all of it is gone.
    pub fn send(&mut self, cx: &mut Context<'_>, parts: &[&[u8]]) -> io::Result<bool> {
        let mut skip = 0;
        if !self.has_unsent() {
            skip = match self.write_once(cx, parts) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
        }
        for part in parts {
            if skip >= part.len() {
                skip -= part.len();
            } else {
                self.unsent.extend_from_slice(&part[skip..]);
                skip = 0;
            }
        }
        self.held.is(self.unsent.capacity());
        Ok(!self.has_unsent())
    }

    fn write_once(&mut self, cx: &mut Context<'_>, parts: &[&[u8]]) -> Poll<io::Result<usize>> {
        const MAX_PARTS: usize = 4;
        let n = match parts {
            [] => 0,
            [one] => ready!(self.transport.poll_write(cx, one))?,
            [first, second] => ready!(
                self.transport
                    .poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
            )?,
            many => {
                let mut slices = [IoSlice::new(&[]); MAX_PARTS];
                let count = many.len().min(MAX_PARTS);
                for (slice, part) in slices.iter_mut().zip(many) {
                    *slice = IoSlice::new(part);
                }
                ready!(self.transport.poll_write_vectored(cx, &slices[..count]))?
            }
        };
        self.bytes_written += n as u64;
        Poll::Ready(Ok(n))
    }

    /// Writes what is left over; ready when nothing is.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let n = ready!(self.transport.poll_write(cx, &self.unsent[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
            self.bytes_written += n as u64;
        }
        if self.sent > 0 {
            self.unsent = Vec::new();
            self.sent = 0;
            self.held.is(0);
        }
        self.transport.poll_drain(cx)
    }

    /// Whether both rests are empty.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.carry.is_empty() && !self.has_unsent()
    }
}
