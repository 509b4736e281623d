//! A byte stream to a client or an endpoint.

use super::secure::{ANY, Secure};
use rustix::net::RecvFlags;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// TCP or a unix socket, or TLS over one of them.
#[derive(Debug)]
pub enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed: the others must not pay for its size.
    Tls(Box<Secure>),
}

impl Transport {
    /// Reads once; 0 is the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = match self {
            Self::Tls(secure) => return secure.poll_read(cx, into),
            Self::Tcp(_) | Self::Unix(_) => ReadBuf::new(into),
        };
        ready!(match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Tls(_) => Poll::Ready(Ok(())),
        })?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Ready when reading is worth a try; there may be nothing all the same.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(secure) => secure.poll_readable(cx),
        }
    }

    /// Writes once; a stream that takes nothing is an error.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(secure) => secure.poll_write(cx, bytes),
        }
    }

    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(secure) => secure.poll_write_vectored(cx, parts),
        }
    }

    /// Ends our direction; the other side still may send.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(secure) => secure.poll_shutdown(cx),
        }
    }

    /// Bytes that were counted as written and that the socket has not taken.
    #[must_use]
    pub fn unsent(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(secure) => secure.unsent(),
        }
    }

    /// Writes what [`Self::unsent`] tells of; ready when nothing is left.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(secure) => secure.poll_drain(cx),
        }
    }

    /// Whether it is TLS.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Has the next read, if it finds nothing, wait for so many bytes; see [`super::gather`]. Only over TLS: what is
    /// not sealed comes in large pieces by itself.
    pub const fn gather(&mut self, least: u32) {
        if let Self::Tls(secure) = self {
            secure.gather(least);
        }
    }

    /// Whether it waits for more than any byte.
    #[must_use]
    pub const fn is_gathering(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(secure) => secure.is_gathering(),
        }
    }

    /// Waits for any byte from now on.
    pub fn gather_no_more(&mut self) {
        if let Self::Tls(secure) = self {
            secure.wake_at(ANY);
        }
    }

    /// Our address; `None` on unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
            Self::Tls(secure) => secure.socket().local_addr(),
        }
    }

    /// Whether bytes, or the end of the stream, wait in the kernel. They stay there.
    pub(super) fn has_bytes(&self) -> bool {
        let peek = |fd: std::os::fd::BorrowedFd<'_>| {
            let mut byte = [0];
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            !matches!(
                rustix::net::recv(fd, &mut byte, flags),
                Err(rustix::io::Errno::AGAIN)
            )
        };
        match self {
            Self::Tcp(stream) => peek(stream.as_fd()),
            Self::Unix(stream) => peek(stream.as_fd()),
            Self::Tls(secure) => secure.stirs(),
        }
    }

    /// Writes what the socket takes now, for who is about to close it.
    pub(super) fn try_write(&self, bytes: &[u8]) {
        let _best_effort = match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tls(_) => Ok(0),
        };
    }

    /// Whether an idle connection has something to read: the end of the stream, or bytes nobody asked for. Costs a
    /// system call only where the last read may have left something, or something has come since.
    #[must_use]
    pub fn stirs(&self) -> bool {
        // Not by asking for readiness first: a task that has used up its turn would be told that there is none.
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
            Self::Tls(secure) => return secure.stirs(),
        };
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Makes dropping the stream reset the connection instead of ending it in order, so that the other side
    /// cannot take a cut answer for a whole one.
    pub fn reset_on_drop(&mut self) {
        match self {
            Self::Tcp(stream) => {
                // Failing leaves an ordinary close, which is the best that is left to do.
                let _ignored = socket2::SockRef::from(&*stream).set_linger(Some(std::time::Duration::ZERO));
            }
            Self::Unix(_) => {}
            Self::Tls(secure) => secure.reset_on_drop(),
        }
    }
}

/// As engines want it that own their transport.
impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = ready!(Self::poll_read(self.get_mut(), cx, into.initialize_unfilled()))?;
        into.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(self.get_mut(), cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut(), cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;

    #[tokio::test]
    async fn a_closed_connection_stirs_also_for_a_task_that_used_up_its_turn() {
        let (near, far) = UnixStream::pair().unwrap();
        assert!(!Transport::Unix(far).stirs());
        near.readable().await.unwrap();
        let near = Transport::Unix(near);
        let stirs = std::future::poll_fn(|cx| {
            while std::pin::pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
            Poll::Ready(near.stirs())
        });
        assert!(stirs.await);
    }
}
