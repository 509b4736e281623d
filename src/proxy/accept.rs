//! Accepting: from one socket, as long as there is room, and to the worker that has the most of it.

use super::worker::{Command, ListenSocket, Report, Worker};
use crate::net::listen::Socket;
use crate::net::transport::Transport;
use crate::telemetry::metrics::ListenerSeries;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};

/// Connections accepted in one turn; then other tasks have theirs.
const ACCEPTS_PER_TURN: usize = 64;
/// Connections that the kernel queues at most for one socket: what is taken from a queue before it is closed.
const MOST_QUEUED: usize = 65_536;
/// Accepting rests this long when descriptors or memory run out.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a full listener looks for room; connections wait in the kernel's queue meanwhile.
const ROOM_CHECK: Duration = Duration::from_millis(10);
/// An accepted connection that no worker serves yet. It belongs to no runtime: any worker may take it.
#[derive(Debug)]
pub struct Accepted {
    pub listener: Arc<str>,
    pub socket: OwnedFd,
    /// `None` on unix sockets.
    pub peer: Option<SocketAddr>,
    count: CountedConnection,
}

/// Counts a connection for its listener, wherever it is served, until dropped.
#[derive(Debug)]
pub(super) struct CountedConnection(Arc<AtomicUsize>);

impl CountedConnection {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Accepted {
    /// Joins the calling worker's runtime.
    pub(super) fn into_transport(self) -> io::Result<(Transport, CountedConnection)> {
        let transport = if self.peer.is_some() {
            Transport::Tcp(TcpStream::from_std(self.socket.into())?)
        } else {
            Transport::Unix(UnixStream::from_std(self.socket.into())?)
        };
        Ok((transport, self.count))
    }
}

/// The accept loop of one socket. When it is aborted, what the kernel has queued is still accepted before the
/// descriptor closes, because closing the last descriptor of a socket resets its queue.
pub(super) async fn run(worker: Rc<Worker>, socket: ListenSocket) {
    let ListenSocket { id, listener, socket } = socket;
    let series = worker.metrics.listener(&listener);
    let count = worker.context.board.listener_count(&listener);
    // Deprecated in favour of an unsafe twin, because a type could give a different descriptor each time it is
    // asked. `Socket` owns one descriptor and gives that one.
    #[allow(deprecated)]
    let registered = AsyncFd::with_interest(socket, Interest::READABLE);
    let socket = match registered {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = &*listener, %error, "cannot wait for connections");
            return;
        }
    };
    let accepting = Accepting {
        worker,
        listener,
        socket,
        series,
        count,
        id,
    };
    accepting.forever().await;
}

struct Accepting {
    worker: Rc<Worker>,
    listener: Arc<str>,
    socket: AsyncFd<Socket>,
    series: Arc<ListenerSeries>,
    count: Arc<AtomicUsize>,
    id: super::worker::SocketId,
}

/// What one try to accept came to.
enum Accept {
    One,
    QueueEmpty,
    Exhausted(Errno),
}

impl Accepting {
    async fn forever(&self) {
        loop {
            while !self.has_room() {
                tokio::time::sleep(ROOM_CHECK).await;
            }
            let Ok(mut ready) = self.socket.readable().await else {
                return;
            };
            match self.turn() {
                Accept::One => tokio::task::yield_now().await,
                Accept::QueueEmpty => ready.clear_ready(),
                Accept::Exhausted(error) => self.pause(error).await,
            }
        }
    }

    /// Accepts until the queue is empty, there is no room, or it is the turn of others.
    fn turn(&self) -> Accept {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.has_room() {
                return Accept::One;
            }
            match self.one() {
                Accept::One => {}
                other => return other,
            }
        }
        Accept::One
    }

    fn has_room(&self) -> bool {
        if self.worker.status.retired.load(Ordering::Relaxed) {
            return false;
        }
        let view = self.worker.view();
        let process = view.snapshot.max_connections;
        if process > 0 && self.worker.context.board.connections() >= process {
            return false;
        }
        let limit = view
            .listener_named(&self.listener)
            .map_or(0, |l| l.plan.limits.connections);
        limit == 0 || self.count.load(Ordering::Relaxed) < limit
    }

    fn one(&self) -> Accept {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, peer) = match self.socket.get_ref() {
            Socket::Tcp(listener) => match rustix::net::acceptfrom_with(listener, flags) {
                Ok((socket, peer)) => (socket, peer.and_then(|peer| SocketAddr::try_from(peer).ok())),
                Err(error) => return refused(error),
            },
            Socket::Unix(listener) => match rustix::net::accept_with(listener, flags) {
                Ok(socket) => (socket, None),
                Err(error) => return refused(error),
            },
        };
        let highest = socket.as_raw_fd();
        self.series.connections_accepted.inc();
        self.worker.metrics.worker.accepted.inc();
        let count = CountedConnection::new(&self.count);
        self.place(Accepted {
            listener: self.listener.clone(),
            socket,
            peer,
            count,
        });
        // The kernel hands out the lowest free descriptor: a high one means that few are left, and those are for
        // the endpoints of the connections accepted already.
        if highest as usize >= self.worker.context.board.accept_fd_limit() {
            return Accept::Exhausted(Errno::MFILE);
        }
        Accept::One
    }

    /// To the least loaded worker when this one holds many more; the kernel's spreading over sockets is blind to
    /// how long connections live. A connection never moves once a worker serves it.
    fn place(&self, accepted: Accepted) {
        let worker = &self.worker;
        let mine = worker.status.connections.load(Ordering::Relaxed);
        let Some(peer) = worker.context.board.better_place(worker.index, mine) else {
            return worker.clone().register(accepted);
        };
        match peer.commands.try_send(Command::Handoff(accepted)) {
            Ok(()) => self.series.connections_moved.inc(),
            Err(error) => {
                if let Command::Handoff(accepted) = error.into_inner() {
                    worker.clone().register(accepted);
                }
            }
        }
    }

    async fn pause(&self, error: Errno) {
        self.worker.metrics.worker.accept_pauses.inc();
        self.worker.report(Report::AcceptPaused {
            worker: self.worker.index,
            listener: self.listener.clone(),
            error: io::Error::from(error).to_string(),
        });
        tokio::time::sleep(PAUSE).await;
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        // A worker that ends takes nothing any more.
        if self.worker.stopped.get() {
            return;
        }
        for _ in 0..MOST_QUEUED {
            if !matches!(self.one(), Accept::One) {
                break;
            }
        }
        self.worker.report(Report::Unlistened {
            worker: self.worker.index,
            socket: self.id,
        });
    }
}

fn refused(error: Errno) -> Accept {
    match error {
        Errno::AGAIN => Accept::QueueEmpty,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Accept::Exhausted(error),
        // The connection was gone before it was taken, or the network told of an error on it: the next one.
        _ => Accept::One,
    }
}
