//! What a worker knows of each tunnel: who it is, how much it moved, since when it is silent, what it is told to do.
//!
//! A tunnel has no timer of its own. It writes down how much it moved; a worker's sweep looks at all cards twice a
//! second, sees who has been silent for too long or is too old, and wakes him with the order to go.

use crate::base::clock::Millis;
use crate::proxy::view::RouteView;
use crate::proxy::worker::Entry;
use crate::snapshot::PassthroughPlan;
use crate::snapshot::{TunnelBounds, WebSocket};
use crate::telemetry::metrics::Closed;
use crate::upstream::local::LocalEndpoint;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longest silence once one side has ended its direction: it may still be told something, but who closed a socket
/// looks no different, and a peer that never ends the other direction must not keep the tunnel.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(30);
/// How long a tunnel that is ended may take for its goodbyes.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Close codes (RFC 6455 section 7.4.1, and the registry for 1012).
pub(in crate::proxy) const GOING_AWAY: u16 = 1001;
pub(super) const PROTOCOL_ERROR: u16 = 1002;
pub(super) const POLICY: u16 = 1008;
pub(super) const TOO_LARGE: u16 = 1009;
pub(super) const SERVICE_RESTART: u16 = 1012;
pub(super) const BAD_GATEWAY: u16 = 1014;

/// What a tunnel is held to, and where that is configured.
#[derive(Debug)]
pub(super) enum Terms {
    Route(Rc<RouteView>),
    Passthrough(Arc<PassthroughPlan>),
    None,
}

impl Terms {
    fn bounds(&self) -> TunnelBounds {
        match self {
            Self::Route(route) => route.plan.websocket.bounds,
            Self::Passthrough(plan) => plan.tunnel,
            Self::None => TunnelBounds::default(),
        }
    }

    pub fn websocket(&self) -> Option<&WebSocket> {
        match self {
            Self::Route(route) => Some(&route.plan.websocket),
            Self::Passthrough(_) | Self::None => None,
        }
    }

    /// The key that a bound is configured by.
    const fn key(&self, of_route: &'static str, of_passthrough: &'static str) -> &'static str {
        match self {
            Self::Route(_) => of_route,
            Self::Passthrough(_) | Self::None => of_passthrough,
        }
    }
}

/// One side of a tunnel, by what came from it.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub bytes: Cell<u64>,
    pub messages: Cell<u64>,
    /// Of the bytes, what the last sweep saw, and since when that has not changed.
    seen: Cell<u64>,
    since: Cell<Millis>,
    /// It was asked for a sign of life.
    asked: Cell<bool>,
}

impl Side {
    fn look(&self, now: Millis) {
        if self.seen.replace(self.bytes.get()) != self.bytes.get() {
            self.since.set(now);
            self.asked.set(false);
        }
    }
}

/// Why a tunnel is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Leave {
    pub why: Closed,
    /// What a close frame says.
    pub code: u16,
    /// The key of the bound that it went beyond.
    pub key: Option<&'static str>,
}

/// See the module's text.
#[derive(Debug)]
pub(in crate::proxy) struct Card {
    pub id: u64,
    pub opened: Millis,
    pub client: IpAddr,
    pub listener: Arc<str>,
    /// As metrics know it.
    pub route: Arc<str>,
    pub endpoint: Rc<LocalEndpoint>,
    pub(super) terms: Terms,
    pub kind: Kind,
    pub inspected: bool,
    /// Its client would come back to where it is.
    pub held: bool,
    entry: Rc<Entry>,
    pub(super) client_side: Side,
    pub(super) endpoint_side: Side,
    pub(super) half_closed: Cell<bool>,
    /// The order to go, from when it is given on.
    leave: Cell<Option<Leave>>,
    left_at: Cell<Millis>,
    /// The goodbyes took too long.
    pub(super) cut: Cell<bool>,
    /// The client is to be sent a ping.
    pub(super) ping: Cell<bool>,
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.leave.get().is_some() {
            self.endpoint.state.tunnel_left();
        }
    }
}

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Websocket,
    /// Another protocol that was switched to.
    Other,
    /// TLS passed on unopened.
    Tls,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Other => "other",
            Self::Tls => "tls",
        }
    }
}

/// Who is at the ends of a tunnel.
pub(super) struct Ends {
    pub client: IpAddr,
    pub listener: Arc<str>,
    pub route: Arc<str>,
    pub endpoint: Rc<LocalEndpoint>,
    /// The client would come back to it.
    pub held: bool,
}

impl Card {
    pub(super) fn new(
        id: u64,
        ends: Ends,
        terms: Terms,
        (kind, inspected): (Kind, bool),
        entry: Rc<Entry>,
    ) -> Self {
        let now = Millis::now();
        let Ends {
            client,
            listener,
            route,
            endpoint,
            held,
        } = ends;
        let side = || Side {
            since: Cell::new(now),
            ..Side::default()
        };
        Self {
            id,
            opened: now,
            client,
            listener,
            route,
            endpoint,
            terms,
            kind,
            inspected,
            held,
            entry,
            client_side: side(),
            endpoint_side: side(),
            half_closed: Cell::new(false),
            leave: Cell::new(None),
            left_at: Cell::new(Millis::NEVER),
            cut: Cell::new(false),
            ping: Cell::new(false),
        }
    }

    /// The order to go, if it was given.
    pub const fn leave(&self) -> Option<Leave> {
        self.leave.get()
    }

    /// Gives the order to go; the first one counts. Whether this was it.
    pub fn give_leave(&self, leave: Leave) -> bool {
        if self.leave.get().is_some() {
            return false;
        }
        self.note_leave(leave);
        self.entry.wake();
        true
    }

    /// The same, by the tunnel itself.
    pub(super) fn note_leave(&self, leave: Leave) {
        if self.leave.replace(Some(leave)).is_none() {
            self.endpoint.state.tunnel_leaves();
        }
        self.left_at.set(Millis::now());
    }

    /// When something last came from either side, as far as sweeps have seen.
    pub fn active(&self) -> Millis {
        self.client_side.since.get().max(self.endpoint_side.since.get())
    }

    /// Holds the tunnel to its terms.
    pub fn sweep(&self, now: Millis) {
        self.client_side.look(now);
        self.endpoint_side.look(now);
        if self.leave.get().is_some() {
            if now.since(self.left_at.get()) >= CLOSE_WAIT && !self.cut.replace(true) {
                self.entry.wake();
            }
            return;
        }
        if let Some(leave) = self.beyond(now) {
            // Of a half-closed one nobody is left to say goodbye to.
            self.cut.set(self.half_closed.get());
            self.give_leave(leave);
            return;
        }
        let ping = self.terms.websocket().map_or(Duration::ZERO, |rules| rules.ping);
        let client = &self.client_side;
        if self.inspected
            && !ping.is_zero()
            && now.since(client.since.get()) >= ping
            && !client.asked.replace(true)
        {
            self.ping.set(true);
            self.entry.wake();
        }
    }

    /// The bound that the tunnel has gone beyond, if any.
    fn beyond(&self, now: Millis) -> Option<Leave> {
        let TunnelBounds { idle, max_age } = self.terms.bounds();
        let idle = match (self.half_closed.get(), idle.is_zero()) {
            (true, true) => HALF_CLOSED_IDLE,
            (true, false) => idle.min(HALF_CLOSED_IDLE),
            (false, _) => idle,
        };
        let (client, endpoint) = (self.client_side.since.get(), self.endpoint_side.since.get());
        let over = |bound: Duration, since: Millis| !bound.is_zero() && now.since(since) >= bound;
        let leave = |why, key| {
            Some(Leave {
                why,
                code: GOING_AWAY,
                key: Some(key),
            })
        };
        if over(idle, client.max(endpoint)) {
            let key = self
                .terms
                .key("routes.websocket.idle", "listeners.passthrough.idle");
            return leave(Closed::Idle, key);
        }
        if over(max_age, self.opened) {
            let key = self
                .terms
                .key("routes.websocket.max_age", "listeners.passthrough.max_age");
            return leave(Closed::Age, key);
        }
        let rules = self.terms.websocket()?;
        if over(rules.client_idle, client) {
            return leave(Closed::Idle, "routes.websocket.client_idle");
        }
        if over(rules.endpoint_idle, endpoint) {
            return leave(Closed::Idle, "routes.websocket.endpoint_idle");
        }
        if self.inspected && self.client_side.asked.get() && over(rules.ping * 2, client) {
            return leave(Closed::Lost, "routes.websocket.ping");
        }
        None
    }
}
