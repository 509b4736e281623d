//! A client connection from accept to close: one request after another, in order.

use super::accept::Accepted;
use super::client::{self, Client, Link};
use super::ends::Ends;
use super::error::ProxyError;
use super::h2::{self, Preface};
use super::handshake::Greeted;
use super::pace::Pace;
use super::service::{self, After, Begun};
use super::tunnel;
use super::view::ListenerView;
use super::worker::{Entry, Registered, Worker};
use super::{handshake, heads, linger, passthrough};
use crate::base::task;
use crate::h1::parse::{self, Parsed, RequestLine};
use crate::message::head::{HeadBuf, RequestHead};
use crate::message::token::{Reject, Token};
use crate::net::scratch::FIRST_READ;
use crate::net::transport::Transport;
use crate::net::wire::Wire;
use crate::telemetry::metrics::{ListenerSeries, Refusal};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// How long a new connection may take for its first byte while the gateway drains.
pub(super) const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Serves a connection to its end. Dropping the future cuts the connection; everything it holds is counted off.
pub(super) async fn run(
    worker: Rc<Worker>,
    registered: Registered,
    entry: Rc<Entry>,
    accepted: Accepted,
    number: u64,
) {
    let Some(listener) = worker.view().listener(entry.listener).cloned() else {
        return;
    };
    let open = Open::new(&listener.series);
    let peer = accepted.peer;
    let Ok((transport, count)) = accepted.into_transport() else {
        return;
    };
    let ends = match &listener.plan.proxy_protocol {
        None => Ends::of(&transport, peer),
        Some(expected) => Box::pin(Ends::announced(&transport, peer, expected, &listener)).await,
    };
    let Some(ends) = ends else { return };
    let Some(permit) = admit(&worker, &listener, &transport, &ends) else {
        return;
    };
    let (transport, tls) = if listener.plan.expects_tls() {
        entry.served_here().await;
        // Boxed, so that a connection that serves does not hold the room of its handshake.
        match Box::pin(handshake::run(&worker, &listener, transport, &ends)).await {
            Some(Greeted::Session(transport, secured)) => (transport, Some(secured)),
            Some(Greeted::Unopened(unopened)) => {
                let whose = (ends, entry.listener, number);
                let passed = Box::pin(passthrough::pass(&worker, listener, unopened, whose)).await;
                if let Some((tunnel, client)) = passed {
                    hand_over(tunnel, client, &entry, (registered, count, open, permit));
                }
                return;
            }
            None => return,
        }
    } else {
        (transport, None)
    };
    let mut client = Box::new(Client::new(transport, ends, tls, entry.listener, number));
    let Some(spoken) = spoken(&worker, &entry, &mut client, &listener).await else {
        return;
    };
    drop(listener);
    if spoken == Preface::H2 {
        return Box::pin(h2::serve(&worker, &entry, *client)).await;
    }
    let tunnel = requests(&worker, &entry, &mut client).await;
    if let Some(tunnel) = tunnel {
        hand_over(tunnel, client, &entry, (registered, count, open, permit));
    }
}

/// Has a tunnel run as a small task of its own: it may live for hours, and holds nothing it does not need.
fn hand_over<T: 'static>(tunnel: Box<tunnel::Tunnel>, client: Box<Client>, entry: &Rc<Entry>, held: T) {
    let task = task::spawn_local(tunnel::run(tunnel, client, entry.clone(), held));
    entry.adopt(&task);
}

/// Which protocol a connection speaks: over TLS what was agreed on (RFC 7301), else what its first bytes say. `None` to
/// close it.
async fn spoken(
    worker: &Worker,
    entry: &Entry,
    client: &mut Client,
    listener: &ListenerView,
) -> Option<Preface> {
    if let Some(tls) = &client.tls {
        let h2 = tls.alpn.as_deref() == Some(b"h2");
        return Some(if h2 { Preface::H2 } else { Preface::H1 });
    }
    let protocols = listener.plan.protocols;
    if !protocols.h2c {
        return Some(Preface::H1);
    }
    entry.served_here().await;
    match Box::pin(h2::preface(worker, client, &listener.plan)).await {
        Preface::Gone => None,
        Preface::H1 if !protocols.h1 => None,
        spoken => Some(spoken),
    }
}

/// The client's share of the listener: `None` when it has too many connections already.
fn admit(
    worker: &Worker,
    listener: &ListenerView,
    transport: &Transport,
    ends: &Ends,
) -> Option<Option<super::board::ClientPermit>> {
    let limit = listener.plan.limits.connections_per_ip;
    let (true, Some(peer)) = (limit > 0, ends.client) else {
        return Some(None);
    };
    let permit = worker
        .context
        .board
        .admit_client(&listener.plan.name, peer.ip(), limit);
    if permit.is_none() {
        listener.series.connections_refused.inc(Refusal::Client);
        // On a TLS listener it would be no answer, and a handshake costs too much for one.
        if !listener.plan.expects_tls() {
            client::refuse(transport);
        }
    }
    permit.map(Some)
}

/// Counts an open connection of a listener, until dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<ListenerSeries>);

impl Open {
    fn new(series: &Arc<ListenerSeries>) -> Self {
        series.connections_open.inc();
        Self(series.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_open.dec();
    }
}

/// Serves requests until the connection ends or becomes a tunnel.
async fn requests(
    worker: &Rc<Worker>,
    entry: &Rc<Entry>,
    client: &mut Client,
) -> Option<Box<tunnel::Tunnel>> {
    entry.served_here().await;
    loop {
        let mut reading = Reading::new(client.opened);
        let next = poll_fn(|cx| reading.poll(cx, worker, client)).await;
        let (start, listener) = (reading.first_byte, reading.listener.take());
        let listener = match (&next, listener) {
            (Next::Close, _) | (_, None) => return None,
            (_, Some(listener)) => listener,
        };
        client.requests += 1;
        let start = start.unwrap_or_else(Instant::now);
        let begun = Begun {
            worker: worker.clone(),
            listener,
            start,
            head_done: reading.last_read.unwrap_or(start),
        };
        // Boxed, so that an idle connection holds the small loop and not the request's state.
        let after = match next {
            Next::Request(head) => in_a_box(|| service::serve(client, begun, head)).await,
            Next::Refused(error) => Box::pin(service::refuse(client, begun, error)).await,
            Next::Close => return None,
        };
        match after {
            After::KeepAlive => {}
            After::Close => return None,
            After::Linger => {
                linger::close(client).await;
                return None;
            }
            After::Tunnel(tunnel) => return Some(tunnel),
        }
    }
}

/// A future made where it is going to live. `Box::pin` makes it on the stack and copies all of it, though nearly all of
/// it is room for what comes later.
pub(super) fn in_a_box<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}

/// What came of waiting for a request.
enum Next {
    Request(RequestHead),
    /// A head that cannot be taken, or did not come in time.
    Refused(ProxyError),
    /// The client left, was idle for too long, or the gateway ends connections.
    Close,
}

/// Waiting for a head. Holds no buffer until a byte came.
struct Reading {
    idle_since: Option<Instant>,
    first_byte: Option<Instant>,
    last_read: Option<Instant>,
    listener: Option<Rc<ListenerView>>,
    scanned: usize,
    opened: Instant,
    /// How fast the client takes the end of the last response.
    taken: Pace,
}

impl Reading {
    fn new(opened: Instant) -> Self {
        Self {
            idle_since: None,
            first_byte: None,
            last_read: None,
            listener: None,
            scanned: 0,
            opened,
            taken: Pace::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, worker: &Worker, client: &mut Client) -> Poll<Next> {
        let view = worker.view();
        let Some(listener) = view.listener(client.listener) else {
            return Poll::Ready(Next::Close);
        };
        let Client {
            link: Link::H1(wire),
            alarm,
            ..
        } = client
        else {
            return Poll::Ready(Next::Close);
        };
        if wire.has_unsent() {
            // The end of the last response. Nothing is read before it is gone: who asks and does not read the answers
            // would have them gather here without end.
            if !ready!(linger::poll_flush(
                cx,
                wire,
                alarm,
                &mut self.taken,
                &listener.plan
            )) {
                return Poll::Ready(Next::Close);
            }
        }
        loop {
            match self.read(cx, listener, wire) {
                Poll::Ready(Some(next)) => {
                    self.listener = Some(listener.clone());
                    return Poll::Ready(next);
                }
                Poll::Ready(None) => {}
                Poll::Pending => break,
            }
        }
        let idle = self.first_byte.is_none();
        let served = client.requests > 0;
        if idle && served && (worker.draining.get() || listener.removed || self.too_old(listener)) {
            return Poll::Ready(Next::Close);
        }
        let next = ready!(self.poll_deadline(cx, listener, client, worker.draining.get()));
        self.listener = Some(listener.clone());
        Poll::Ready(next)
    }

    /// One step: parses what is carried, or reads. `None`: something came, go on.
    fn read(&mut self, cx: &mut Context<'_>, listener: &ListenerView, wire: &mut Wire) -> Poll<Option<Next>> {
        let limits = &listener.plan.head_limits;
        if self.first_byte.is_none() && !wire.carried().is_empty() {
            self.first_byte = Some(Instant::now());
            let mut buf = heads::take();
            let parsed = parse::parse_request(wire.carried(), limits, &mut self.scanned, &mut buf);
            let (used, next) = taken(&parsed, buf);
            wire.consume(used);
            return Poll::Ready(next);
        }
        let scanned = &mut self.scanned;
        let read = ready!(wire.poll_more(cx, FIRST_READ, |bytes| {
            let mut buf = heads::take();
            let parsed = parse::parse_request(bytes, limits, scanned, &mut buf);
            taken(&parsed, buf)
        }));
        let next = match read {
            Ok(Some(next)) => next,
            Ok(None) | Err(_) if self.first_byte.is_none() => Some(Next::Close),
            Ok(None) => {
                let half = Reject::new(
                    Token::ClientClosed,
                    "the connection ended within the request head",
                );
                Some(Next::Refused(ProxyError::refused(half)))
            }
            Err(error) => Some(Next::Refused(ProxyError::client_gone(&error))),
        };
        self.last_read = Some(Instant::now());
        self.first_byte = self.first_byte.or(self.last_read);
        Poll::Ready(next)
    }

    fn too_old(&self, listener: &ListenerView) -> bool {
        let age = listener.plan.limits.max_connection_age;
        !age.is_zero() && self.opened.elapsed() >= age
    }

    fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        listener: &ListenerView,
        client: &mut Client,
        draining: bool,
    ) -> Poll<Next> {
        let limits = &listener.plan.limits;
        let (since, allowed) = match self.first_byte {
            Some(first) => (first, limits.header_timeout),
            // A new connection's first request is likely to be on its way.
            None if draining => (self.opened, limits.keep_alive.min(FIRST_REQUEST_GRACE)),
            None => (
                *self.idle_since.get_or_insert_with(Instant::now),
                limits.keep_alive,
            ),
        };
        if allowed.is_zero() || !client.alarm.passed(cx, since + allowed) {
            return Poll::Pending;
        }
        Poll::Ready(if self.first_byte.is_some() {
            Next::Refused(ProxyError::late(
                Token::RequestTimeout,
                super::error::Side::Client,
                "listeners.limits.header_timeout",
            ))
        } else {
            Next::Close
        })
    }
}

/// How many bytes a parse used, and what it came to.
fn taken(parsed: &Parsed<RequestLine>, buf: Box<HeadBuf>) -> (usize, Option<Next>) {
    match parsed {
        Parsed::Complete { head, len } => (*len, Some(Next::Request(head.with(buf)))),
        Parsed::Partial => {
            heads::give(buf);
            (0, None)
        }
        Parsed::Reject(reject) => {
            heads::give(buf);
            (0, Some(Next::Refused(ProxyError::refused(*reject))))
        }
    }
}
