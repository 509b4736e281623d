//! Connections of one worker to one endpoint that requests share: who gets on which, and when another is opened.
//!
//! A connection is opened for those that find the others full. Whoever comes while one is being opened waits for it, as
//! many as it is likely to take: a burst opens as many connections as it needs and not one for each request. It is
//! opened by those that wait for it; when the last of them leaves, so does it.

use super::{LocalEndpoint, is_worn_out};
use crate::base::task;
use crate::telemetry::metrics::EndpointSeries;
use crate::upstream::conn::h2::{Count, Mux, Seat};
use crate::upstream::conn::{BeginError, Behalf, Caller, Conn, Dial};
use futures_util::future::{FutureExt, LocalBoxFuture, Shared, WeakShared};
use rustls::pki_types::ServerName;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Muxes {
    /// In the order they were opened; the first that has room is taken, so that those that are not needed fall idle.
    open: RefCell<Vec<Rc<Mux>>>,
    opening: RefCell<Vec<Begun>>,
    /// How many requests the endpoint took at once on the last connection; 0: nobody knows.
    last_most: Cell<u32>,
    /// What the last connection came to where that is for the endpoint to say: it speaks HTTP/1.1.
    speaks_http1: Cell<bool>,
}

/// A connection that is being opened.
#[derive(Debug)]
struct Begun {
    outcome: WeakShared<LocalBoxFuture<'static, Outcome>>,
    in_handshake: Rc<Cell<bool>>,
    dial: Arc<Dial>,
    client: Option<Weak<Behalf>>,
}

impl Begun {
    fn is_for(&self, dial: &Arc<Dial>, client: Option<&Arc<Behalf>>) -> bool {
        Arc::ptr_eq(&self.dial, dial) && Behalf::fits(self.client.as_ref(), client)
    }
}

type Outcome = Result<Opened, Rc<BeginError>>;

/// A connection that is being opened, as one of those sees it that wait for it.
pub struct Opening {
    pub outcome: Shared<LocalBoxFuture<'static, Outcome>>,
    in_handshake: Rc<Cell<bool>>,
}

impl Opening {
    /// Whether TLS is what it waits for.
    #[must_use]
    pub fn is_in_handshake(&self) -> bool {
        self.in_handshake.get()
    }

    /// Whether nobody else waits for it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.outcome.strong_count() == Some(1)
    }
}

/// What the opening of a connection came to.
#[derive(Clone)]
pub enum Opened {
    /// One that is shared: it is among the endpoint's now.
    Shared,
    /// The endpoint speaks HTTP/1.1: the connection is for whoever takes it first.
    Alone(Rc<Cell<Option<Box<Conn>>>>),
}

/// What there is for a request that may share a connection.
pub enum Joined {
    /// A place on one.
    Seated(Seat),
    /// The endpoint is known to speak HTTP/1.1: each request has its own.
    Alone,
    /// All are full, or there is none.
    Full,
}

impl Muxes {
    /// No more requests go on those there are.
    pub fn leave(&self) {
        for mux in self.open.take() {
            mux.leave();
        }
        self.opening.borrow_mut().clear();
        self.last_most.set(0);
        self.speaks_http1.set(false);
    }
}

impl LocalEndpoint {
    /// A place on a connection that was begun in this way and, where connections are announced, for this client.
    pub fn join(&self, dial: &Arc<Dial>, client: Option<&Arc<Behalf>>) -> Joined {
        let (pool, now) = (self.pool.get(), Instant::now());
        let mut seat = None;
        self.muxes.open.borrow_mut().retain(|mux| {
            // Whom it was opened for it serves, however long that took.
            let worn_out = mux.requests() > 0 && is_worn_out(pool, mux.requests(), mux.opened, now);
            if worn_out || !mux.is_open() || !self.is_led_to_by(mux) {
                mux.leave();
                return false;
            }
            if seat.is_none() && mux.is_for(dial, client) {
                seat = mux.take_seat();
            }
            true
        });
        match seat {
            Some(seat) => Joined::Seated(seat),
            None if self.muxes.speaks_http1.get() => Joined::Alone,
            None => Joined::Full,
        }
    }

    /// The connection that is being opened, if it is likely to have room for one more; else another one.
    pub fn open_another(
        self: &Rc<Self>,
        dial: &Arc<Dial>,
        client: Option<&Arc<Behalf>>,
        server_name: Option<&ServerName<'static>>,
    ) -> Opening {
        let mut opening = self.muxes.opening.borrow_mut();
        opening.retain(|begun| {
            begun
                .outcome
                .upgrade()
                .is_some_and(|outcome| outcome.peek().is_none())
        });
        let most = match self.muxes.last_most.get() {
            0 => dial.http2.streams,
            most => most.min(dial.http2.streams),
        };
        for begun in opening.iter().filter(|begun| begun.is_for(dial, client)) {
            if let Some(outcome) = begun.outcome.upgrade()
                // One of them is this one.
                && outcome.strong_count().unwrap_or(0) <= most as usize
            {
                return Opening {
                    outcome,
                    in_handshake: begun.in_handshake.clone(),
                };
            }
        }
        let in_handshake = Rc::<Cell<bool>>::default();
        let (endpoint, told) = (self.clone(), in_handshake.clone());
        let outcome = open(
            endpoint,
            dial.clone(),
            client.cloned(),
            server_name.cloned(),
            told,
        );
        let outcome = outcome.boxed_local().shared();
        if let Some(weak) = outcome.downgrade() {
            opening.push(Begun {
                outcome: weak,
                in_handshake: in_handshake.clone(),
                dial: dial.clone(),
                client: client.map(Arc::downgrade),
            });
        }
        Opening {
            outcome,
            in_handshake,
        }
    }

    /// A connection has come to HTTP/2 that was not opened for it.
    pub fn speaks_http2(&self) {
        self.muxes.speaks_http1.set(false);
    }

    /// Whether a connection leads where the endpoint's name leads now.
    fn is_led_to_by(&self, mux: &Mux) -> bool {
        let moves = self.state.moves();
        if mux.moves.get() != moves && self.state.leads_to(&mux.target) {
            mux.moves.set(moves);
        }
        mux.moves.get() == moves
    }

    /// Lets go of connections that nobody has used for so long, or that take no more requests.
    pub(super) fn sweep_muxes(&self, timeout: Duration, now: Instant) {
        let dial = self.dial.borrow();
        let mut idle = 0;
        let most_idle = self.pool.get().idle_per_worker;
        self.muxes.open.borrow_mut().retain(|mux| {
            let idle_since = mux.idle_since();
            idle += usize::from(idle_since.is_some());
            let tired = idle_since
                .is_some_and(|since| idle > most_idle || now.saturating_duration_since(since) >= timeout);
            let wanted = mux.is_open() && !mux.is_orphan() && Arc::ptr_eq(&mux.dial, &dial);
            let stays = wanted && !tired && self.is_led_to_by(mux);
            if !stays {
                mux.leave();
            }
            stays
        });
    }
}

/// Counts a connection, until dropped.
struct Open(Arc<EndpointSeries>);

impl Open {
    fn new(series: &Arc<EndpointSeries>) -> Self {
        series.http2_connections.inc();
        Self(series.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.http2_connections.dec();
    }
}

async fn open(
    endpoint: Rc<LocalEndpoint>,
    dial: Arc<Dial>,
    client: Option<Arc<Behalf>>,
    server_name: Option<ServerName<'static>>,
    in_handshake: Rc<Cell<bool>>,
) -> Outcome {
    let series = &endpoint.series;
    let started = Instant::now();
    let opened = begin(
        &endpoint,
        &dial,
        client.as_ref(),
        server_name.as_ref(),
        &in_handshake,
    )
    .await;
    match &opened {
        Ok(_) => {
            series.connects.inc();
            series.connect_seconds.record(started.elapsed());
        }
        Err(_) => series.connects_failed.inc(),
    }
    opened.map_err(Rc::new)
}

async fn begin(
    endpoint: &Rc<LocalEndpoint>,
    dial: &Arc<Dial>,
    client: Option<&Arc<Behalf>>,
    server_name: Option<&ServerName<'static>>,
    in_handshake: &Cell<bool>,
) -> Result<Opened, BeginError> {
    let targets = endpoint.state.targets();
    let first = endpoint.state.turn(targets.list.len());
    let conn = Conn::open_any(&targets.list, first, dial).await?;
    in_handshake.set(dial.tls.is_some());
    let conn = conn.begin(Caller::Client(client), server_name).await?;
    in_handshake.set(false);
    match conn.is_resumed() {
        Some(true) => endpoint.series.tls_resumed.inc(),
        Some(false) => endpoint.series.tls_full.inc(),
        None => {}
    }
    let muxes = &endpoint.muxes;
    if !conn.speaks_http2()? {
        muxes.speaks_http1.set(true);
        return Ok(Opened::Alone(Rc::new(Cell::new(Some(Box::new(conn))))));
    }
    let series = endpoint.series.clone();
    let count = Count(Box::new(move |n| series.http2_streams.add(n)));
    let (mux, driver) = Mux::open(conn, count).await?;
    let open = Open::new(&endpoint.series);
    task::spawn_local(async move {
        driver.await;
        drop(open);
    });
    muxes.speaks_http1.set(false);
    muxes.last_most.set(mux.most_streams());
    muxes.open.borrow_mut().push(mux);
    Ok(Opened::Shared)
}
