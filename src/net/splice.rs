//! Large bodies from socket to socket through a pipe, without passing through user space (splice(2)).
//!
//! Pays from a few hundred KiB on; below that setting it up costs more than copying. Pipes are kept per worker.

use super::transport::Transport;
use rustix::pipe::{PipeFlags, SpliceFlags};
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// Bodies with less than this still to come are copied.
pub const WORTHWHILE: u64 = 256 * 1024;
/// Bytes that a pipe is asked to hold, and that one call moves at most.
const PIPE_BYTES: usize = 256 * 1024;
/// Pipes in use and kept by one worker; further bodies are copied.
const MOST_PIPES: usize = 64;

/// Pipes of this worker that wait to be used, and how many there are in all.
#[derive(Default)]
struct Pipes {
    idle: Vec<(OwnedFd, OwnedFd)>,
    count: usize,
}

thread_local! {
    static PIPES: RefCell<Pipes> = RefCell::default();
}

/// A pipe with bytes on their way.
#[derive(Debug)]
pub struct Splice {
    /// Reading end and writing end; taken out only when dropped.
    pipe: Option<(OwnedFd, OwnedFd)>,
    held: usize,
}

impl Splice {
    /// A pipe, unless the worker has too many already or the process has no descriptor left.
    #[must_use]
    pub fn new() -> Option<Self> {
        PIPES.with(|pipes| {
            let mut pipes = pipes.borrow_mut();
            if let Some(pipe) = pipes.idle.pop() {
                return Some(Self {
                    pipe: Some(pipe),
                    held: 0,
                });
            }
            if pipes.count >= MOST_PIPES {
                return None;
            }
            let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // A smaller pipe works too: the system limits what an unprivileged process may have.
            let _size = rustix::pipe::fcntl_setpipe_size(&pipe.1, PIPE_BYTES);
            pipes.count += 1;
            Some(Self {
                pipe: Some(pipe),
                held: 0,
            })
        })
    }

    /// Whether bytes wait in the pipe.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        self.held > 0
    }

    /// Moves up to `most` bytes from a socket into the empty pipe; 0 is the end of the stream.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &Transport,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let (Transport::Tcp(stream), Some((_, pipe))) = (from, &self.pipe) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let most = usize::try_from(most).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let moved = stream.try_io(Interest::READABLE, || {
                Ok(rustix::pipe::splice(stream, None, pipe, None, most, flags())?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(moved) => {
                    self.held = moved;
                    return Poll::Ready(Ok(moved));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves what the pipe holds into a socket; ready when it is empty. `written` is told of every step.
    pub fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        to: &Transport,
        mut written: impl FnMut(u64),
    ) -> Poll<io::Result<()>> {
        let (Transport::Tcp(stream), Some((pipe, _))) = (to, &self.pipe) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        while self.held > 0 {
            ready!(stream.poll_write_ready(cx))?;
            let moved = stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::pipe::splice(
                    pipe,
                    None,
                    stream,
                    None,
                    self.held,
                    flags(),
                )?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => {
                    self.held -= moved;
                    written(moved as u64);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

impl Drop for Splice {
    /// An empty pipe is kept for the next body; one with bytes of a broken exchange is closed.
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        // At the end of the thread there may be nothing left to give it back to.
        let _closed = PIPES.try_with(|pipes| {
            let mut pipes = pipes.borrow_mut();
            if self.held == 0 {
                pipes.idle.push(pipe);
            } else {
                pipes.count -= 1;
            }
        });
    }
}

/// Whether bytes can be moved between these two.
#[must_use]
pub const fn possible(from: &Transport, to: &Transport) -> bool {
    matches!((from, to), (Transport::Tcp(_), Transport::Tcp(_)))
}
