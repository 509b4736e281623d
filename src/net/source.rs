//! Where a body's bytes come from: a wire, or one direction of an HTTP/2 stream.

use super::wire::Wire;
use http::HeaderMap;
use std::io;
use std::task::{Context, Poll};

/// See the module's text.
pub trait Source {
    /// Bytes read and not used yet.
    fn carried(&self) -> &[u8];

    /// Uses the first `n` carried bytes.
    fn consume(&mut self, n: usize);

    /// Reads once, about `size` bytes, and shows all that is there; `use_it` says how many it used, the rest is
    /// carried. `Ok(None)` is the end.
    ///
    /// # Errors
    /// The other side failed, or took the stream back.
    fn poll_more<R>(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        use_it: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<Option<R>>>;

    /// Ready when reading is worth a try.
    ///
    /// # Errors
    /// As for reading.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// What was used has been taken by the other side: as much may come again.
    fn release(&mut self) {}

    /// Fields that came behind the end, where the source has a place for them.
    ///
    /// # Errors
    /// As for reading.
    fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<HeaderMap>>> {
        Poll::Ready(Ok(None))
    }

    /// The wire, for who can move its bytes without looking at them.
    fn wire(&mut self) -> Option<&mut Wire> {
        None
    }
}

impl Source for Wire {
    #[inline]
    fn carried(&self) -> &[u8] {
        Self::carried(self)
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        Self::consume(self, n);
    }

    #[inline]
    fn poll_more<R>(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        use_it: impl FnOnce(&[u8]) -> (usize, R),
    ) -> Poll<io::Result<Option<R>>> {
        Self::poll_more(self, cx, size, use_it)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_readable(cx)
    }

    #[inline]
    fn wire(&mut self) -> Option<&mut Wire> {
        Some(self)
    }
}
