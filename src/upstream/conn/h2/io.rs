//! The transport as the HTTP/2 engine sees it.

use super::flood::Flood;
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
    pub const fn new(now: Instant) -> Self {
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
    flood: Flood,
}

impl FrameIo {
    pub fn new(transport: Transport, watch: Rc<Watch>) -> Self {
        Self {
            flood: Flood::new(watch.last_read()),
            transport,
            watch,
        }
    }

    fn sent(&mut self, parts: &[IoSlice<'_>], written: usize) {
        let mut left = written;
        for part in parts {
            let seen = part.len().min(left);
            self.flood.sent(&part[..seen]);
            left -= seen;
        }
    }
}

impl AsyncRead for FrameIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(AsyncRead::poll_read(Pin::new(&mut self.transport), cx, into))?;
        let now = Instant::now();
        self.watch.last_read.set(now);
        if self.flood.received(&into.filled()[before..], now) {
            let what = "the endpoint floods the connection with frames that carry nothing";
            return Poll::Ready(Err(io::Error::other(what)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrameIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(self.transport.poll_write(cx, bytes))?;
        self.sent(&[IoSlice::new(bytes)], n);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.transport.poll_write_vectored(cx, parts))?;
        self.sent(parts, n);
        Poll::Ready(Ok(n))
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
