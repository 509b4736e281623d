//! HTTP/2 connections to endpoints, each shared by many requests.
//!
//! A [`Mux`] is what requests see of a connection: whether it takes one more. Its [`Driver`] is the task that moves
//! its frames. A request takes a [`Seat`] and sends its head, and has a [`Call`] then, which is the stream.
//!
//! What an endpoint may send before somebody takes it is bounded by the windows that it is given; what waits to be
//! sent to it, by the send buffer of each stream. Nobody is pushed anything: that is refused in our SETTINGS.

mod call;
mod driver;
mod flood;
mod io;

pub use call::{Call, Ended};
pub use driver::Driver;

use super::{BeginError, Behalf, Conn, Dial, Http2, Target};
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use io::{FrameIo, Watch};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

/// Largest list of fields taken, as RFC 9113 section 6.5.2 counts: what passes for a head in HTTP/1.1.
const HEADER_LIST: u32 = 256 * 1024 + 32 * 512;
/// Streams that the endpoint broke the rules on, after which the connection is given up.
const MOST_BROKEN_STREAMS: usize = 64;

/// A connection as requests see it.
#[derive(Debug)]
pub struct Mux {
    /// `None` once it takes no more requests.
    send: RefCell<Option<SendRequest<Bytes>>>,
    /// Where it leads.
    pub target: Target,
    /// How it was begun.
    pub dial: Arc<Dial>,
    /// The client whom it was announced for; without one it serves any.
    client: Option<Weak<Behalf>>,
    /// The endpoint's count of moves when it was last seen to lead there.
    pub moves: Cell<u64>,
    pub opened: Instant,
    /// Requests on it now.
    streams: Cell<u32>,
    /// Requests that were ever on it.
    requests: Cell<u64>,
    /// Since when there is none.
    idle_since: Cell<Instant>,
    closed: Cell<bool>,
    /// The driver's.
    waker: RefCell<Option<Waker>>,
    /// Counts the requests that are on connections now.
    count: Count,
}

/// Told of one more, or one less.
pub struct Count(pub Box<dyn Fn(i64)>);

impl std::fmt::Debug for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Count")
    }
}

/// A connection as the engine has it.
pub type Session<T> = (SendRequest<Bytes>, Connection<T, Bytes>);

/// Begins HTTP/2. Ready once the endpoint has said how many requests it takes: whoever speaks no HTTP/2 is found out
/// before there is one. Bounded by the caller's deadline.
///
/// # Errors
/// The connection broke, or the endpoint does not speak HTTP/2.
pub async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    bounds: &Http2,
) -> Result<Session<T>, BeginError> {
    let (send, mut connection) = builder(bounds).handshake::<_, Bytes>(io).await.map_err(broken)?;
    poll_fn(|cx| poll_settings(cx, &send, &mut connection)).await?;
    Ok((send, connection))
}

impl Mux {
    /// Goes on in HTTP/2 with a connection that was begun, as [`handshake`] does. Nothing moves on it before its driver
    /// runs.
    ///
    /// # Errors
    /// As for [`handshake`].
    pub async fn open(conn: Conn, count: Count) -> Result<(Rc<Self>, Driver), BeginError> {
        let now = Instant::now();
        let watch = Rc::new(Watch::new(now));
        let io = FrameIo::new(conn.wire.transport, watch.clone());
        let (send, connection) = handshake(io, &conn.dial.http2).await?;
        let mux = Rc::new(Self {
            send: RefCell::new(Some(send)),
            target: conn.target,
            dial: conn.dial,
            client: conn.client,
            moves: Cell::new(conn.moves),
            opened: conn.opened,
            streams: Cell::new(0),
            requests: Cell::new(0),
            idle_since: Cell::new(now),
            closed: Cell::new(false),
            waker: RefCell::default(),
            count,
        });
        let driver = Driver::new(connection, mux.clone(), watch);
        Ok((mux, driver))
    }

    /// Whether requests of this client may go on it, begun in this way.
    #[must_use]
    pub fn is_for(&self, dial: &Arc<Dial>, client: Option<&Arc<Behalf>>) -> bool {
        Arc::ptr_eq(&self.dial, dial) && Behalf::fits(self.client.as_ref(), client)
    }

    /// Whether it was announced for a client that has gone.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        Behalf::has_gone(self.client.as_ref())
    }

    /// A place on it for one request, if it takes one more: by the endpoint's word, and by ours.
    #[must_use]
    pub fn take_seat(self: &Rc<Self>) -> Option<Seat> {
        if self.streams.get() >= self.most_streams() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        self.requests.set(self.requests.get() + 1);
        (self.count.0)(1);
        Some(Seat { mux: self.clone() })
    }

    /// How many requests it takes at once now.
    #[must_use]
    pub fn most_streams(&self) -> u32 {
        self.send.borrow().as_ref().map_or(0, |send| {
            let theirs = u32::try_from(send.current_max_send_streams()).unwrap_or(u32::MAX);
            theirs.min(self.dial.http2.streams)
        })
    }

    /// Requests on it now.
    #[must_use]
    pub const fn streams(&self) -> u32 {
        self.streams.get()
    }

    /// Requests that were ever on it.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Since when nothing runs on it; `None`: something does.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }

    /// Whether it takes requests, now or when others have ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.send.borrow().is_some()
    }

    /// Whether the connection is gone, or about to be: for all requests that are on it, too.
    fn is_broken(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let broken = |send: &mut SendRequest<Bytes>| match send.poll_ready(&mut cx) {
            Poll::Ready(Err(error)) => !(error.is_go_away() && error.is_remote()),
            Poll::Ready(Ok(())) | Poll::Pending => false,
        };
        self.closed.get() || self.send.borrow_mut().as_mut().is_some_and(broken)
    }

    /// Takes no more requests. It is closed in order when those that run have ended.
    pub fn leave(&self) {
        let send = self.send.borrow_mut().take();
        if send.is_some() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

fn builder(bounds: &Http2) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(bounds.window)
        .initial_connection_window_size(bounds.connection_window)
        .max_frame_size(bounds.frame_bytes)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(bounds.send_buffer)
        .max_concurrent_reset_streams(bounds.streams as usize)
        .max_local_error_reset_streams(Some(MOST_BROKEN_STREAMS))
        // None may be opened before the endpoint's SETTINGS say how many: that is how they are waited for.
        .initial_max_send_streams(0);
    builder
}

fn poll_settings<T: AsyncRead + AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    send: &SendRequest<Bytes>,
    connection: &mut Connection<T, Bytes>,
) -> Poll<Result<(), BeginError>> {
    let polled = Pin::new(connection).poll(cx);
    match polled {
        Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
        Poll::Ready(Ok(())) => {
            Poll::Ready(Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()))
        }
        Poll::Pending if send.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    }
}

fn broken(error: h2::Error) -> BeginError {
    if error.is_io() {
        return crate::net::frames::as_io(error).into();
    }
    BeginError::NotHttp2(Some(error))
}

/// A place on a connection; dropping it, however the request ends, gives it back.
#[derive(Debug)]
pub struct Seat {
    mux: Rc<Mux>,
}

impl Seat {
    /// Whether the endpoint lets streams be asked for other protocols (RFC 8441 section 3).
    #[must_use]
    pub fn takes_extended_connect(&self) -> bool {
        let send = self.mux.send.borrow();
        send.as_ref()
            .is_some_and(SendRequest::is_extended_connect_protocol_enabled)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mux = &self.mux;
        (mux.count.0)(-1);
        let left = mux.streams.get() - 1;
        mux.streams.set(left);
        if left == 0 {
            mux.idle_since.set(Instant::now());
            // Its deadlines are others now.
            mux.wake();
        }
    }
}
