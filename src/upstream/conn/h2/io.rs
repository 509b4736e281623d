//! The transport as the HTTP/2 engine sees it.

use crate::net::transport::Transport;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may be asked about a transport that the engine owns.
#[derive(Debug)]
pub(super) struct Watch {
    last_read: Cell<Instant>,
}

impl Watch {
    pub fn new(now: Instant) -> Self {
        Self {
            last_read: Cell::new(now),
        }
    }

    pub const fn last_read(&self) -> Instant {
        self.last_read.get()
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct FrameIo {
    transport: Transport,
    watch: Rc<Watch>,
}

impl FrameIo {
    pub const fn new(transport: Transport, watch: Rc<Watch>) -> Self {
        Self { transport, watch }
    }
}

impl AsyncRead for FrameIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.transport.poll_read(cx, into.initialize_unfilled()))?;
        into.advance(n);
        self.watch.last_read.set(Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrameIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.transport.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.transport.poll_write_vectored(cx, bytes)
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
