//! After 101, or where TLS is passed on unopened: bytes both ways, whatever they mean.
//!
//! A tunnel may live for hours and there may be very many, so it is a task of its own that holds the two wires,
//! the record it will write, and nothing of the snapshot. Half-close is kept: when one side ends its direction,
//! the other is told, and may go on sending.

use super::client::{Client, Link};
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::exchange::RESPONSE_HEAD;
use super::flow::{Flow, FlowError, Framing};
use super::worker::Entry;
use crate::h1::body::ChunkLimits;
use crate::message::framing::BodyKind;
use crate::message::token::Token;
use crate::net::alarm::Alarm;
use crate::net::wire::Wire;
use crate::telemetry::access::EndedBy;
use crate::telemetry::metrics::RouteSeries;
use crate::upstream::conn::Conn;
use crate::upstream::local::OpenTunnel;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Longest silence once one side has ended its direction: it may still be told something, but who closed a socket
/// looks no different, and a peer that never ends the other direction must not keep the tunnel.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(30);

/// Where the longest silence and the longest life are configured.
const WEBSOCKET_KEYS: [&str; 2] = ["routes.websocket.idle", "routes.websocket.max_age"];
const PASSTHROUGH_KEYS: [&str; 2] = ["listeners.passthrough.idle", "listeners.passthrough.max_age"];

/// See the module's text.
#[derive(Debug)]
pub(super) struct Tunnel {
    conn: Box<Conn>,
    context: RequestContext,
    up: Direction,
    down: Direction,
    open: OpenTunnel,
    _counted: Counted,
}

impl Tunnel {
    pub fn new(conn: Box<Conn>, open: OpenTunnel, mut context: RequestContext) -> Self {
        context.tunnel = true;
        context.settle();
        let counted = Counted::new(context.series.clone());
        Self {
            conn,
            context,
            up: Direction::new(),
            down: Direction::new(),
            open,
            _counted: counted,
        }
    }

    /// Moves both directions; ready when both have ended or one has failed.
    fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Result<(), ProxyError>> {
        let Link::H1(wire) = &mut client.link else {
            // No stream becomes a tunnel yet.
            return Poll::Ready(Err(ProxyError::new(Token::Internal, Side::Gateway)));
        };
        let up = self.up.poll(cx, wire, &mut self.conn.wire);
        if let Poll::Ready(Err(error)) = up {
            return Poll::Ready(Err(up_error(&error)));
        }
        let down = self.down.poll(cx, &mut self.conn.wire, wire);
        if let Poll::Ready(Err(error)) = down {
            return Poll::Ready(Err(down_error(&error)));
        }
        if up.is_ready() && down.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    const fn half_closed(&self) -> bool {
        self.up.ended || self.down.ended
    }

    fn moved(&self, client: &Client) -> u64 {
        client.link.bytes_read() + self.conn.wire.bytes_read
    }
}

/// A tunnel and its client; however it ends, its record tells how much it moved.
struct Running {
    tunnel: Box<Tunnel>,
    client: Box<Client>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tunnel.context.note_bytes(&mut self.client);
    }
}

/// Runs a tunnel to its end. `held` are the connection's places in the counts, given up with it.
pub(super) async fn run<T>(tunnel: Box<Tunnel>, mut client: Box<Client>, entry: Rc<Entry>, held: T) {
    // The alarm so far wakes the task that the connection was served by.
    client.alarm = Alarm::default();
    let mut bounds = Bounds::new(&tunnel, &client);
    let mut running = Running { tunnel, client };
    entry.served_here().await;
    drop(entry);
    let result = poll_fn(|cx| {
        let Running { tunnel, client } = &mut running;
        if tunnel.open.endpoint().state.standing.is_cut() {
            return Poll::Ready(Err(ProxyError::cut()));
        }
        if let Poll::Ready(done) = tunnel.poll(cx, client) {
            return Poll::Ready(done);
        }
        match bounds.next(tunnel.moved(client), tunnel.half_closed(), Instant::now()) {
            Some((by, late)) if client.alarm.passed(cx, by) => Poll::Ready(Err(late)),
            _ => Poll::Pending,
        }
    })
    .await;
    match result {
        Ok(()) => running.tunnel.context.ended = EndedBy::Done,
        Err(error) => running.tunnel.context.failed(&error),
    }
    drop(running);
    drop(held);
}

/// How long a tunnel may go on.
struct Bounds {
    idle: Duration,
    /// Where that and the longest life are configured.
    keys: [&'static str; 2],
    /// The end of its life.
    end: Option<Instant>,
    moved: u64,
    since: Instant,
}

impl Bounds {
    fn new(tunnel: &Tunnel, client: &Client) -> Self {
        let context = &tunnel.context;
        let (bounds, keys) = match &context.passthrough {
            Some(plan) => (Some(plan.tunnel), PASSTHROUGH_KEYS),
            None => (
                context.route.as_ref().map(|route| route.plan.websocket),
                WEBSOCKET_KEYS,
            ),
        };
        let now = Instant::now();
        let age = bounds.map_or(Duration::ZERO, |bounds| bounds.max_age);
        Self {
            idle: bounds.map_or(Duration::ZERO, |bounds| bounds.idle),
            keys,
            end: (!age.is_zero()).then(|| now + age),
            moved: tunnel.moved(client),
            since: now,
        }
    }

    /// The deadline that comes first, and what it means when it passes.
    fn next(&mut self, moved: u64, half_closed: bool, now: Instant) -> Option<(Instant, ProxyError)> {
        if moved != self.moved {
            (self.moved, self.since) = (moved, now);
        }
        let late = |key| ProxyError::late(Token::AbortedClient, Side::Gateway, key);
        let idle = match (half_closed, self.idle.is_zero()) {
            (true, true) => HALF_CLOSED_IDLE,
            (true, false) => self.idle.min(HALF_CLOSED_IDLE),
            (false, _) => self.idle,
        };
        let silent = (!idle.is_zero()).then(|| (self.since + idle, late(self.keys[0])));
        let old = self.end.map(|end| (end, late(self.keys[1])));
        match (silent, old) {
            (Some(silent), Some(old)) => Some(if silent.0 <= old.0 { silent } else { old }),
            (silent, old) => silent.or(old),
        }
    }
}

/// One way of a tunnel.
#[derive(Debug)]
struct Direction {
    flow: Flow,
    ended: bool,
}

impl Direction {
    fn new() -> Self {
        let limits = ChunkLimits::response(&RESPONSE_HEAD);
        Self {
            flow: Flow::new(BodyKind::UntilClose, Framing::Plain, limits),
            ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Wire, to: &mut Wire) -> Poll<Result<(), FlowError>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        ready!(self.flow.poll(cx, from, to))?;
        ready!(to.transport.poll_shutdown(cx)).map_err(FlowError::Write)?;
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}

fn up_error(error: &FlowError) -> ProxyError {
    match error {
        FlowError::Read(error) => ProxyError::io(Token::AbortedClient, Side::Client, error),
        FlowError::Write(error) => ProxyError::io(Token::AbortedUpstream, Side::Endpoint, error),
        FlowError::Malformed(_) => ProxyError::new(Token::Internal, Side::Gateway),
    }
}

fn down_error(error: &FlowError) -> ProxyError {
    match error {
        FlowError::Read(error) => ProxyError::io(Token::AbortedUpstream, Side::Endpoint, error),
        FlowError::Write(error) => ProxyError::io(Token::AbortedClient, Side::Client, error),
        FlowError::Malformed(_) => ProxyError::new(Token::Internal, Side::Gateway),
    }
}

/// Counts an open tunnel of a route, until dropped.
#[derive(Debug)]
struct Counted(Option<Arc<RouteSeries>>);

impl Counted {
    fn new(series: Option<Arc<RouteSeries>>) -> Self {
        if let Some(series) = &series {
            series.tunnels_open.inc();
            series.tunnels_total.inc();
        }
        Self(series)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(series) = &self.0 {
            series.tunnels_open.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a function's future holds while it waits.
    fn future_size<F, A, B, C, D>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_tunnel_is_small() {
        // Ten thousand of them wait at a time: this is what each costs beside its two sockets and its record.
        assert!(
            future_size(run::<[usize; 8]>) <= 512,
            "{}",
            future_size(run::<[usize; 8]>)
        );
        assert!(size_of::<Tunnel>() + size_of::<Client>() <= 3072);
    }
}
