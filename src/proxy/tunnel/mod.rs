//! After 101, or where TLS is passed on unopened: bytes both ways, whatever they mean.
//!
//! A tunnel may live for hours and there may be very many, so it is a task of its own that holds the two wires,
//! the record it will write, and nothing of the snapshot. Half-close is kept: when one side ends its direction,
//! the other is told, and may go on sending.
//!
//! | module | what it is about |
//! |---|---|
//! | `pump` | one direction |
//! | `inspect` | what a direction of a WebSocket is held to, where frames are looked at |
//! | [`card`] | what the worker knows of a tunnel, and holds it to without a timer of its own |
//! | [`book`] | all of a worker's tunnels |

pub mod book;
pub mod card;
mod inspect;
mod pump;

use self::card::{
    BAD_GATEWAY, Card, Ends, GOING_AWAY, Kind, Leave, POLICY, PROTOCOL_ERROR, TOO_LARGE, Terms,
};
use self::inspect::{Broken, Inspector};
use self::pump::{Direction, Stopped};
use super::client::{Client, Link};
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::peer::Peer;
use super::upgrade;
use super::worker::Entry;
use crate::message::names::Name;
use crate::message::token::Token;
use crate::net::alarm::Alarm;
use crate::telemetry::access::{EndedBy, TunnelRecord};
use crate::telemetry::metrics::{Closed, RouteSeries};
use crate::upstream::local::OpenTunnel;
use crate::ws::frames::Speaker;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A close frame without a code, and none at all (RFC 6455 section 7.4.1).
const NO_CLOSE: u16 = 1006;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Tunnel {
    peer: Peer,
    context: RequestContext,
    kind: Kind,
    up: Direction,
    down: Direction,
    /// Who ended it first, and the code that he gave.
    first: Option<Closed>,
    code: Option<u16>,
    /// Of the messages that passed, those that are counted already.
    counted_messages: (u64, u64),
    open: OpenTunnel,
    _counted: Counted,
}

impl Tunnel {
    pub fn new(peer: Peer, open: OpenTunnel, mut context: RequestContext) -> Self {
        let kind = kind(&context);
        let rules = match (kind, &context.route) {
            (Kind::Websocket, Some(route)) => Some(&route.plan.websocket).filter(|rules| rules.inspects()),
            _ => None,
        };
        let inspector = |speaker| rules.map(|rules| Box::new(Inspector::new(speaker, rules)));
        let (up, down) = (inspector(Speaker::Client), inspector(Speaker::Server));
        context.tunnel = Some(TunnelRecord::default());
        if context
            .route
            .as_ref()
            .is_some_and(|route| route.plan.websocket.log_open)
        {
            context.record_opening();
        }
        context.settle();
        let counted = Counted::new(context.series.clone());
        Self {
            peer,
            context,
            kind,
            up: Direction::new(true, up),
            down: Direction::new(false, down),
            first: None,
            code: None,
            counted_messages: (0, 0),
            open,
            _counted: counted,
        }
    }

    /// How the worker knows it.
    fn card(&self, client: &Client, entry: &Rc<Entry>) -> Card {
        let context = &self.context;
        let (terms, route) = match (&context.passthrough, &context.route) {
            (None, Some(route)) => (Terms::Route(route.clone()), route.plan.name.clone()),
            (Some(plan), _) => {
                let name = format!("passthrough:{}", context.listener.plan.name);
                (Terms::Passthrough(plan.clone()), name.into())
            }
            // Whatever switched was on a route.
            (None, None) => (Terms::None, "".into()),
        };
        let ends = Ends {
            client: context.client_ip,
            listener: context.listener.plan.name.clone(),
            route,
            endpoint: self.open.endpoint().clone(),
            held: context.has_home(),
        };
        let id = context.worker.context.board.number_tunnel();
        let card = Card::new(
            id,
            ends,
            terms,
            (self.kind, self.up.inspector.is_some()),
            entry.clone(),
        );
        card.client_side.bytes.set(client.link.bytes_read());
        card.endpoint_side.bytes.set(self.peer.bytes_read());
        card
    }

    /// Does what the worker told, moves both directions; ready when both have ended or one has failed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        card: &Card,
    ) -> Poll<Result<(), ProxyError>> {
        if card.cut.get() {
            return Poll::Ready(Ok(()));
        }
        if let Some(leave) = card.leave() {
            // What the client still has to say, his own goodbye included, goes on to the endpoint.
            self.down.leave(leave.code);
        } else if card.ping.take() {
            self.down.ping();
        }
        let moved = self.poll_directions(cx, client, card);
        card.client_side.bytes.set(client.link.bytes_read());
        card.endpoint_side.bytes.set(self.peer.bytes_read());
        self.note_frames(card);
        if self.up.is_ended() != self.down.is_ended() {
            card.half_closed.set(true);
            let by = if self.up.is_ended() {
                Closed::Client
            } else {
                Closed::Endpoint
            };
            self.first.get_or_insert(by);
        }
        moved
    }

    fn poll_directions(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        card: &Card,
    ) -> Poll<Result<(), ProxyError>> {
        // Twice where one direction's end is another's beginning: who breaks a rule is told so by the other.
        for _ in 0..2 {
            let up = match (&mut client.link, &mut self.peer) {
                (Link::H1(wire), Peer::H1(conn)) => self.up.poll(cx, wire, &mut conn.wire),
                (Link::H2(stream), Peer::H1(conn)) => self.up.poll(cx, &mut stream.inbound, &mut conn.wire),
                (Link::H1(wire), Peer::H2(call)) => self.up.poll(cx, wire, &mut call.outbound),
                (Link::H2(stream), Peer::H2(call)) => {
                    self.up.poll(cx, &mut stream.inbound, &mut call.outbound)
                }
            };
            if let Poll::Ready(Err(stopped)) = up {
                match stopped {
                    Stopped::Broken(broken) => {
                        let leave = told(broken);
                        card.note_leave(leave);
                        self.down.leave(leave.code);
                        self.up.leave(GOING_AWAY);
                        continue;
                    }
                    stopped if card.leave().is_none() => return Poll::Ready(Err(up_error(stopped))),
                    _ => return Poll::Ready(Ok(())),
                }
            }
            if let Link::H2(stream) = &mut client.link
                && stream.watch(cx).is_err()
                && card.leave().is_none()
                && !self.up.is_ended()
            {
                let gone = io::ErrorKind::ConnectionReset.into();
                return Poll::Ready(Err(down_error(Stopped::Write(gone))));
            }
            let down = match (&mut client.link, &mut self.peer) {
                (Link::H1(wire), Peer::H1(conn)) => self.down.poll(cx, &mut conn.wire, wire),
                (Link::H1(wire), Peer::H2(call)) => match &mut call.inbound {
                    Some(inbound) => self.down.poll(cx, inbound, wire),
                    None => Poll::Ready(Err(not_there(Stopped::Read))),
                },
                (Link::H2(stream), peer) => match (stream.outbound(), peer) {
                    (None, _) => Poll::Ready(Err(not_there(Stopped::Write))),
                    (Some(outbound), Peer::H1(conn)) => self.down.poll(cx, &mut conn.wire, outbound),
                    (Some(outbound), Peer::H2(call)) => match &mut call.inbound {
                        Some(inbound) => self.down.poll(cx, inbound, outbound),
                        None => Poll::Ready(Err(not_there(Stopped::Read))),
                    },
                },
            };
            match down {
                Poll::Ready(Err(Stopped::Broken(broken))) => {
                    let leave = told(broken);
                    card.note_leave(leave);
                    self.down.leave(BAD_GATEWAY);
                    self.up.leave(leave.code);
                }
                Poll::Ready(Err(stopped)) if card.leave().is_none() => {
                    return Poll::Ready(Err(down_error(stopped)));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                _ => break,
            }
        }
        // A stream that has ended and was then reset takes nothing more either: it is closed.
        if let Peer::H2(call) = &mut self.peer
            && self.down.is_ended()
            && !call.outbound.is_ended()
            && call.outbound.poll_reset(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        // Who was told to go is gone when he has nothing more to say and has heard us.
        // Nobody hears him either once the endpoint has ended.
        let gone = match card.leave() {
            None => self.up.is_ended() && self.down.is_ended(),
            Some(_) => self.down.is_ended() || self.up.is_ended() && self.down.is_silent(),
        };
        match gone {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Counts messages, and notes whose close frame was first.
    fn note_frames(&mut self, card: &Card) {
        let (Some(up), Some(down)) = (&self.up.inspector, &self.down.inspector) else {
            return;
        };
        let (before_up, before_down) = self.counted_messages;
        if (up.messages, down.messages) != self.counted_messages {
            if let Some(series) = &self.context.series {
                series.messages_received.add(up.messages - before_up);
                series.messages_sent.add(down.messages - before_down);
            }
            self.counted_messages = (up.messages, down.messages);
            card.client_side.messages.set(up.messages);
            card.endpoint_side.messages.set(down.messages);
        }
        if self.code.is_none() && card.leave().is_none() {
            let closed = up.close.map(|code| (Closed::Client, code));
            if let Some((by, code)) = closed.or_else(|| down.close.map(|code| (Closed::Endpoint, code))) {
                self.code = Some(code);
                self.first = Some(by);
            }
        }
    }

    /// Notes how it ended, for the record and the counts.
    fn ended(&mut self, client: &mut Client, card: &Card) {
        let worker = &self.context.worker;
        let stopped = worker.stopped.get() || self.open.endpoint().state.standing.is_cut();
        let leave = card.leave();
        let closed = match (leave, self.first) {
            (Some(leave), _) => leave.why,
            (None, Some(first)) => first,
            (None, None) if stopped => Closed::Deadline,
            (None, None) => match self.context.ended {
                EndedBy::Endpoint => Closed::Endpoint,
                _ => Closed::Client,
            },
        };
        let inspected = self.up.inspector.is_some();
        let code = match leave {
            Some(leave) if inspected => Some(leave.code),
            _ => self.code,
        };
        if let Some(series) = &self.context.series {
            series.tunnels_closed.inc(closed);
            if inspected {
                series.close_codes.inc(code.unwrap_or(NO_CLOSE));
            }
        }
        self.context.tunnel = Some(TunnelRecord {
            closed: Some(closed),
            code,
            messages: inspected.then_some(self.counted_messages),
        });
        self.context.note_bytes(client);
    }
}

/// What a tunnel of this request carries.
fn kind(context: &RequestContext) -> Kind {
    if context.passthrough.is_some() {
        return Kind::Tls;
    }
    let upgrade = context
        .request
        .as_ref()
        .and_then(|head| head.buf.get(Name::Upgrade));
    match upgrade.is_some_and(upgrade::is_websocket) {
        true => Kind::Websocket,
        false => Kind::Other,
    }
}

/// A tunnel and its client; however it ends, it is taken off the worker's list, and its record tells how much it moved.
struct Running {
    tunnel: Box<Tunnel>,
    client: Box<Client>,
    card: Rc<Card>,
    place: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        let worker = self.tunnel.context.worker.clone();
        worker.tunnels.leave(self.place);
        worker.count_tunnels();
        self.tunnel.ended(&mut self.client, &self.card);
    }
}

/// Runs a tunnel to its end. `held` are the connection's places in the counts, given up with it.
pub(super) async fn run<T>(tunnel: Box<Tunnel>, mut client: Box<Client>, entry: Rc<Entry>, held: T) {
    // The alarm so far wakes the task that the connection was served by, and a tunnel needs none.
    client.alarm = Alarm::default();
    let worker = tunnel.context.worker.clone();
    let card = Rc::new(tunnel.card(&client, &entry));
    let place = worker.tunnels.enter(&card);
    worker.count_tunnels();
    drop(worker);
    let mut running = Running {
        tunnel,
        client,
        card,
        place,
    };
    entry.served_here().await;
    drop(entry);
    let result = poll_fn(|cx| {
        let Running {
            tunnel, client, card, ..
        } = &mut running;
        if tunnel.open.endpoint().state.standing.is_cut() {
            return Poll::Ready(Err(ProxyError::cut()));
        }
        tunnel.poll(cx, client, card)
    })
    .await;
    let context = &mut running.tunnel.context;
    match (result, running.card.leave()) {
        (Err(error), _) => context.failed(&error),
        (Ok(()), Some(leave)) => context.failed(&left(leave)),
        (Ok(()), None) => context.ended = EndedBy::Done,
    }
    drop(running);
    drop(held);
}

/// A tunnel that was told to go, as its record has it.
fn left(leave: Leave) -> ProxyError {
    let token = match leave.why {
        Closed::Drain | Closed::Rebalance | Closed::Deadline => Token::Draining,
        _ => Token::AbortedClient,
    };
    ProxyError {
        timeout: leave.key,
        ..ProxyError::new(token, Side::Gateway)
    }
}

/// What is done about a side that breaks a rule.
const fn told(broken: Broken) -> Leave {
    match broken {
        Broken::Malformed(_) => Leave {
            why: Closed::Protocol,
            code: PROTOCOL_ERROR,
            key: None,
        },
        Broken::TooLarge => Leave {
            why: Closed::Limit,
            code: TOO_LARGE,
            key: Some("routes.websocket.max_message"),
        },
        Broken::TooMany => Leave {
            why: Closed::Limit,
            code: POLICY,
            key: Some("routes.websocket.message_rate"),
        },
    }
}

fn not_there(side: fn(io::Error) -> Stopped) -> Stopped {
    side(io::ErrorKind::NotConnected.into())
}

fn up_error(stopped: Stopped) -> ProxyError {
    match stopped {
        Stopped::Read(error) => ProxyError::io(Token::AbortedClient, Side::Client, &error),
        Stopped::Write(error) => ProxyError::io(Token::AbortedUpstream, Side::Endpoint, &error),
        Stopped::Broken(_) => ProxyError::new(Token::Internal, Side::Gateway),
    }
}

fn down_error(stopped: Stopped) -> ProxyError {
    match stopped {
        Stopped::Read(error) => ProxyError::io(Token::AbortedUpstream, Side::Endpoint, &error),
        Stopped::Write(error) => ProxyError::io(Token::AbortedClient, Side::Client, &error),
        Stopped::Broken(_) => ProxyError::new(Token::Internal, Side::Gateway),
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
