//! The transport as the HTTP/2 engine sees it: what was read already comes first, and the guard looks at all of it.

use super::guard::{Codes, Guard};
use crate::net::scratch::{self, LARGEST_READ};
use crate::net::transport::Transport;
use crate::telemetry::metrics::Abuse;
use bytes::{Buf, Bytes};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the connection's task may ask about its transport, which the engine owns.
#[derive(Debug)]
pub(super) struct Watch {
    guard: RefCell<Guard>,
    last_read: Cell<Instant>,
    /// The transport had nothing to read when it was asked in this turn, and wakes the task when it has.
    drained: Cell<bool>,
    /// Since when the transport takes nothing of what it was given.
    stalled_since: Cell<Option<Instant>>,
}

impl Watch {
    pub fn new(guard: Guard, now: Instant) -> Self {
        Self {
            guard: RefCell::new(guard),
            last_read: Cell::new(now),
            drained: Cell::new(false),
            stalled_since: Cell::new(None),
        }
    }

    /// The connection's task has its turn: the engine, which asks for more to read with every stream that it gives, may
    /// ask the transport again.
    pub fn begin_turn(&self) {
        self.drained.set(false);
    }

    pub fn found(&self) -> Option<Abuse> {
        self.guard.borrow().found()
    }

    pub fn head_since(&self) -> Option<Instant> {
        self.guard.borrow().head_since()
    }

    pub fn provoked(&self) -> u32 {
        self.guard.borrow().provoked()
    }

    pub fn take_codes(&self) -> Option<Codes> {
        self.guard.borrow_mut().take_codes()
    }

    pub fn excuse_reset(&self) {
        self.guard.borrow_mut().excuse_reset();
    }

    pub const fn last_read(&self) -> Instant {
        self.last_read.get()
    }

    pub const fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since.get()
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct FrameIo {
    transport: Transport,
    carried: Bytes,
    watch: Rc<Watch>,
}

impl FrameIo {
    pub const fn new(transport: Transport, carried: Bytes, watch: Rc<Watch>) -> Self {
        Self {
            transport,
            carried,
            watch,
        }
    }

    /// Notes what came of writing.
    fn written(&self, bytes: &[IoSlice<'_>], result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => {
                if self.watch.stalled_since.get().is_none() {
                    self.watch.stalled_since.set(Some(Instant::now()));
                }
            }
            Poll::Ready(Ok(mut n)) => {
                self.watch.stalled_since.set(None);
                let mut guard = self.watch.guard.borrow_mut();
                for piece in bytes {
                    let seen = piece.len().min(n);
                    guard.sent(&piece[..seen]);
                    n -= seen;
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        result
    }
}

impl AsyncRead for FrameIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection is about to be closed: what else comes is not worth reading.
        if self.watch.drained.get() || self.watch.found().is_some() {
            return Poll::Pending;
        }
        let before = into.filled().len();
        if self.carried.is_empty() {
            // By way of scratch: to initialise all the room that the engine offers costs more than to copy what came.
            let most = into.remaining().min(LARGEST_READ);
            let read = scratch::with_in(|buffer| {
                let n = ready!(self.transport.poll_read(cx, &mut buffer[..most]))?;
                into.put_slice(&buffer[..n]);
                Poll::Ready(io::Result::Ok(()))
            });
            self.watch.drained.set(read.is_pending());
            ready!(read)?;
        } else {
            let n = self.carried.len().min(into.remaining());
            into.put_slice(&self.carried[..n]);
            self.carried.advance(n);
        }
        let now = Instant::now();
        self.watch.last_read.set(now);
        self.watch
            .guard
            .borrow_mut()
            .received(&into.filled()[before..], now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrameIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.transport.poll_write(cx, bytes);
        self.written(&[IoSlice::new(bytes)], result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.transport.poll_write_vectored(cx, bytes);
        self.written(bytes, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_drain(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}
