//! Connections to endpoints: opening one, what is said on it first, and telling whether an idle one still lives.

mod dial;
pub mod h2;

pub use dial::{ALPN_HTTP2, ALPN_HTTP11, BeginError, Behalf, Caller, Dial, Http2, Speaks};

use crate::net::transport::Transport;
use crate::net::wire::Wire;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::unconstrained;

/// First keep-alive probe on a silent connection; dead hosts are found without traffic.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one of several targets is waited for before the next is tried (RFC 8305 section 5).
const PASS_OVER: Duration = Duration::from_millis(250);
/// Targets of a name that one connection tries.
const MAX_TRIED: usize = 8;

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An HTTP/1.1 connection to an endpoint.
#[derive(Debug)]
pub struct Conn {
    pub wire: Wire,
    /// Where it leads.
    pub target: Target,
    /// How it was begun.
    pub dial: Arc<Dial>,
    /// The client whom it was announced for; without one it serves any.
    pub(super) client: Option<Weak<Behalf>>,
    /// The endpoint's count of moves when it was last seen to lead there.
    pub moves: u64,
    /// Requests sent on it.
    pub requests: u64,
    pub opened: Instant,
    /// When it was last put into the pool.
    pub idle_since: Instant,
}

impl Conn {
    /// Opens a connection, to be begun with [`Self::begin`]. Bounded by the caller's deadline.
    pub async fn open(target: &Target, dial: &Arc<Dial>) -> io::Result<Self> {
        let transport = match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                tune(&stream)?;
                Transport::Tcp(stream)
            }
            Target::Unix(path) => Transport::Unix(UnixStream::connect(path).await?),
        };
        let now = Instant::now();
        Ok(Self {
            wire: Wire::new(transport),
            opened: now,
            target: target.clone(),
            dial: Arc::clone(dial),
            client: None,
            moves: 0,
            requests: 0,
            idle_since: now,
        })
    }

    /// Opens a connection to one of several targets, `first` before the others. The next one is tried when one
    /// fails or is slow, so that a name with a dead address costs nobody a request. Bounded by the caller's
    /// deadline.
    pub async fn open_any(targets: &[Target], first: usize, dial: &Arc<Dial>) -> io::Result<Self> {
        let tries = targets.len().min(MAX_TRIED);
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (tried, target) in targets.iter().cycle().skip(first).take(tries).enumerate() {
            let opening = Self::open(target, dial);
            let opened = if tried + 1 == tries {
                opening.await
            } else {
                tokio::time::timeout(PASS_OVER, opening)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match opened {
                Ok(conn) => return Ok(conn),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Whether requests may go on it: it was begun in this way, and announced for nobody else.
    #[must_use]
    pub fn is_for(&self, dial: &Arc<Dial>, client: Option<&Arc<Behalf>>) -> bool {
        Arc::ptr_eq(&self.dial, dial) && Behalf::fits(self.client.as_ref(), client)
    }

    /// Whether it was announced for a client that has gone.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        Behalf::has_gone(self.client.as_ref())
    }

    /// Whether an idle connection can carry another request: nothing was sent to it unasked, it was not closed.
    #[must_use]
    pub fn is_usable(&mut self) -> bool {
        self.wire.is_clean() && (!self.wire.transport.stirs() || self.is_quiet_within())
    }

    /// Whether what has come is only TLS speaking to itself: session tickets are sent whenever the other side likes.
    fn is_quiet_within(&mut self) -> bool {
        if !matches!(self.wire.transport, Transport::Tls(_)) {
            return false;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let transport = &mut self.wire.transport;
        // Unconstrained: who has used up its turn would be told that there is nothing.
        let read = unconstrained(poll_fn(|cx| {
            Poll::Ready(transport.poll_read(cx, &mut [0]).is_pending())
        }));
        pin!(read).poll(&mut cx) == Poll::Ready(true) && !self.wire.transport.stirs()
    }
}

/// Options of a TCP connection to an endpoint.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}
