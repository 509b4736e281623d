//! What one worker owns of the upstreams: pools of idle connections and its place in the balancers. Nothing here
//! is shared, so nothing is locked.

mod muxes;

pub use muxes::{Joined, Opened, Opening};

use super::conn::{Behalf, Conn, Dial};
use super::shared::admission::Admission;
use super::shared::balancer::Balancer;
use super::shared::breaker::BreakerState;
use super::shared::budget::Budget;
use super::shared::sticky::{self, Missing};
use super::shared::{Ask, EndpointKey, EndpointState, Fallback, UpstreamPlan};
use crate::base::clock::Millis;
use crate::config::model::Pool;
use crate::telemetry::metrics::EndpointSeries;
use crate::telemetry::metrics::WorkerMetrics;
use muxes::Muxes;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// A worker's side of one endpoint; found again by its key when the view is rebuilt, so pools survive reloads.
#[derive(Debug)]
pub struct LocalEndpoint {
    pub state: Arc<EndpointState>,
    pub series: Arc<EndpointSeries>,
    pool: Cell<Pool>,
    /// How its connections begin now; the pool keeps no others.
    dial: RefCell<Arc<Dial>>,
    /// Boxed, because they come and go with every request: moving them costs 600 instructions each time.
    #[expect(clippy::vec_box, reason = "moved more often than made")]
    idle: RefCell<Vec<Box<Conn>>>,
    /// Connections that requests share.
    muxes: Muxes,
    /// Whom to tell of room here; `None` where there is always room.
    line: RefCell<Option<Arc<Admission>>>,
    /// What is left of the last slice of tunnels that were asked to go.
    pub shed_credit: Cell<f64>,
}

impl LocalEndpoint {
    /// The idle connection used last, which is the one most likely to live, of those that were begun in this way and,
    /// where connections are announced, for this client.
    pub fn checkout(&self, dial: &Arc<Dial>, client: Option<&Arc<Behalf>>) -> Option<Box<Conn>> {
        let mut idle = self.idle.borrow_mut();
        // Nearly always the last.
        while let Some(at) = idle.iter().rposition(|conn| conn.is_for(dial, client)) {
            let mut conn = idle.remove(at);
            self.series.connections_idle.dec();
            if conn.is_usable() && self.is_reached_by(&mut conn) {
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection whose exchange ended whole, if the pool has room for it.
    pub fn checkin(&self, mut conn: Box<Conn>, now: Instant) {
        let pool = self.pool.get();
        let worn_out = is_worn_out(pool, conn.requests, conn.opened, now);
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= pool.idle_per_worker {
            let before = idle.len();
            idle.retain(|conn| !conn.is_orphan());
            self.series
                .connections_idle
                .add(idle.len() as i64 - before as i64);
        }
        if !Arc::ptr_eq(&conn.dial, &self.dial.borrow()) {
            // Connections begin in another way by now.
            return;
        }
        if worn_out || idle.len() >= pool.idle_per_worker || !conn.wire.is_clean() {
            return;
        }
        conn.idle_since = now;
        idle.push(conn);
        self.series.connections_idle.inc();
    }

    /// Whether a connection leads where the endpoint's name leads now.
    fn is_reached_by(&self, conn: &mut Conn) -> bool {
        let moves = self.state.moves();
        if conn.moves != moves && self.state.leads_to(&conn.target) {
            conn.moves = moves;
        }
        conn.moves == moves
    }

    /// Closes idle connections that are too old or that the endpoint has closed.
    pub fn sweep(&self, now: Instant) {
        let timeout = self.pool.get().idle_timeout;
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain_mut(|conn| {
            let young = now.saturating_duration_since(conn.idle_since) < timeout;
            let wanted = !conn.is_orphan() && Arc::ptr_eq(&conn.dial, &self.dial.borrow());
            wanted && young && conn.is_usable() && self.is_reached_by(conn)
        });
        self.sweep_muxes(timeout, now);
        self.series
            .connections_idle
            .add(idle.len() as i64 - before as i64);
    }
}

/// Whether a connection takes no more requests: it had as many as it may, or is too old.
fn is_worn_out(pool: Pool, requests: u64, opened: Instant, now: Instant) -> bool {
    pool.max_requests > 0 && requests >= pool.max_requests
        || !pool.max_age.is_zero() && now.saturating_duration_since(opened) >= pool.max_age
}

impl LocalEndpoint {
    /// Connections begin in this way from now on; those that were begun in another are let go.
    fn begin_with(&self, dial: &Arc<Dial>) {
        if Arc::ptr_eq(&self.dial.borrow(), dial) {
            return;
        }
        *self.dial.borrow_mut() = dial.clone();
        self.muxes.leave();
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        self.series.connections_idle.add(-(idle.len() as i64));
    }

    /// A request or tunnel has left.
    fn freed(&self) {
        if let Some(admission) = &*self.line.borrow() {
            admission.queue.freed();
        }
    }
}

impl Drop for LocalEndpoint {
    fn drop(&mut self) {
        self.muxes.leave();
        self.series
            .connections_idle
            .add(-(self.idle.borrow().len() as i64));
    }
}

/// A worker's side of one upstream.
#[derive(Debug)]
pub struct LocalUpstream {
    pub plan: Arc<UpstreamPlan>,
    pub endpoints: Vec<Rc<LocalEndpoint>>,
    balancer: RefCell<Balancer>,
    budget: Rc<RefCell<Budget>>,
}

impl LocalUpstream {
    /// A request for this upstream has begun.
    pub fn note_request(&self, now: Millis) {
        self.budget.borrow_mut().request(now);
    }

    /// Whether the breaker is open.
    #[must_use]
    pub fn is_broken(&self, now: Millis) -> bool {
        let policies = &self.plan.resilience;
        policies.breaker.error_rate > 0.0 && policies.admission.breaker.state(now) == BreakerState::Open
    }

    /// Takes a retry out of the budget, if there is one in it.
    #[must_use]
    pub fn take_retry(&self, now: Millis) -> bool {
        let share = self.plan.resilience.retry.budget;
        self.budget.borrow_mut().take(share, now)
    }

    /// The endpoint for the next attempt, not one of those tried already.
    pub fn pick(&self, tried: &[usize], ask: Ask) -> Option<usize> {
        self.pick_by(&mut self.balancer.borrow_mut(), tried, ask)
    }

    /// What [`Self::pick`] would give now for a first attempt, without moving on.
    pub fn preview(&self, ask: Ask) -> Option<usize> {
        self.pick_by(&mut self.balancer.borrow().clone(), &[], ask)
    }

    fn pick_by(&self, balancer: &mut Balancer, tried: &[usize], ask: Ask) -> Option<usize> {
        let endpoints = &self.plan.endpoints;
        let limited = self.plan.resilience.limited;
        let free = |index: usize| !tried.contains(&index) && (!limited || endpoints[index].has_room());
        let good = |index: usize| endpoints[index].state.standing.is_good(ask.now);
        if !self.plan.resilience.slow_start.is_zero() {
            // One who starts slowly takes part in as many picks as it has of its weight; backups are for later.
            let draw = balancer.draw();
            let warm =
                |index: usize| !endpoints[index].backup && self.plan.part(&endpoints[index], ask.now) > draw;
            let picked = balancer.pick(&self.plan, ask, |index| good(index) && free(index) && warm(index));
            if picked.is_some() {
                return picked;
            }
        }
        let picked = balancer.pick(&self.plan, ask, |index| good(index) && free(index));
        if picked.is_some() {
            return picked;
        }
        let fallback = self.plan.fallback(ask.now);
        if fallback == Fallback::None {
            return None;
        }
        let admitted = |index: usize| fallback.admits(&endpoints[index].state.standing, ask.now);
        balancer.pick(&self.plan, ask, |index| admitted(index) && free(index))
    }

    /// The endpoint for the next attempt, with a place at it.
    pub fn take(&self, tried: &[usize], ask: Ask) -> Taken {
        let mut picked = self.pick(tried, ask);
        let mut passed = SmallVec::<[usize; 8]>::new();
        while let Some(index) = picked {
            let (endpoint, most) = (&self.endpoints[index], self.plan.endpoints[index].max_connections);
            if let Some(in_flight) = InFlight::within(endpoint.clone(), most) {
                return Taken::At(index, in_flight);
            }
            // Another worker was quicker.
            if passed.is_empty() {
                passed.extend_from_slice(tried);
            }
            passed.push(index);
            picked = self.pick(&passed, ask);
        }
        if self.plan.resilience.limited && self.someone_is_full(tried, ask.now) {
            Taken::Full
        } else {
            Taken::Nobody
        }
    }

    /// A place at the endpoint that a session belongs to.
    ///
    /// # Errors
    /// Why the session can't be there.
    pub fn take_home(&self, index: usize, now: Millis) -> Result<InFlight, Missing> {
        let plan = &self.plan.endpoints[index];
        sticky::keeps(plan, || self.plan.fallback(now), now)?;
        InFlight::within(self.endpoints[index].clone(), plan.max_connections).ok_or(Missing::Full)
    }

    /// Whether an endpoint is passed over only because it is at its limit.
    fn someone_is_full(&self, tried: &[usize], now: Millis) -> bool {
        let fallback = self.plan.fallback(now);
        let mut endpoints = self.plan.endpoints.iter().enumerate();
        endpoints.any(|(index, endpoint)| {
            endpoint.is_open()
                && endpoint.max_connections > 0
                && !tried.contains(&index)
                && fallback.admits(&endpoint.state.standing, now)
        })
    }
}

/// What a pick came to.
#[derive(Debug)]
pub enum Taken {
    /// The endpoint's index, and the place.
    At(usize, InFlight),
    /// All that could be picked are at their limits.
    Full,
    /// There is no endpoint to pick.
    Nobody,
}

/// All endpoints of a worker by key.
#[derive(Debug, Default)]
pub struct Endpoints {
    known: HashMap<EndpointKey, Rc<LocalEndpoint>>,
    budgets: HashMap<Arc<str>, Rc<RefCell<Budget>>>,
}

impl Endpoints {
    /// Builds the upstreams of a new snapshot, with the pools of every endpoint that was known; pools of the
    /// others close.
    pub fn rebuild(
        &mut self,
        plans: &[Arc<UpstreamPlan>],
        metrics: &WorkerMetrics,
    ) -> Vec<Rc<LocalUpstream>> {
        let mut known = HashMap::new();
        let mut upstreams = Vec::with_capacity(plans.len());
        let mut budgets = HashMap::with_capacity(plans.len());
        for plan in plans {
            let mut endpoints = Vec::with_capacity(plan.endpoints.len());
            for endpoint in &plan.endpoints {
                let key = &endpoint.state.key;
                let local = self
                    .known
                    .remove(key)
                    .filter(|local| Arc::ptr_eq(&local.state, &endpoint.state));
                let local = local.unwrap_or_else(|| {
                    Rc::new(LocalEndpoint {
                        state: endpoint.state.clone(),
                        series: metrics.endpoint(&key.upstream, &key.address),
                        pool: Cell::new(plan.pool),
                        dial: RefCell::new(plan.dial.clone()),
                        idle: RefCell::default(),
                        muxes: Muxes::default(),
                        line: RefCell::default(),
                        shed_credit: Cell::default(),
                    })
                });
                local.pool.set(plan.pool);
                local.begin_with(&plan.dial);
                let policies = &plan.resilience;
                *local.line.borrow_mut() = policies.limited.then(|| policies.admission.clone());
                known.insert(key.clone(), local.clone());
                endpoints.push(local);
            }
            let balancer = RefCell::new(Balancer::new(plan, fastrand::u64(..)));
            let budget = self.budgets.remove(&plan.name).unwrap_or_default();
            budgets.insert(plan.name.clone(), budget.clone());
            upstreams.push(Rc::new(LocalUpstream {
                plan: plan.clone(),
                endpoints,
                balancer,
                budget,
            }));
        }
        self.budgets = budgets;
        for gone in std::mem::replace(&mut self.known, known).into_values() {
            // Requests that still run hold the endpoint; its idle connections serve nobody.
            gone.pool.set(Pool {
                idle_per_worker: 0,
                ..gone.pool.get()
            });
            gone.series
                .connections_idle
                .add(-(gone.idle.borrow().len() as i64));
            gone.idle.borrow_mut().clear();
            gone.muxes.leave();
        }
        upstreams
    }

    /// Ends connections that requests share in order, when those that run on them have ended.
    pub fn leave(&self) {
        for endpoint in self.known.values() {
            endpoint.muxes.leave();
        }
    }

    pub fn sweep(&self, now: Instant) {
        for endpoint in self.known.values() {
            endpoint.sweep(now);
        }
    }
}

/// A request at an endpoint, from the pick to the last byte. Dropping it, however the request ends, takes it off
/// the endpoint's count.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Rc<LocalEndpoint>,
}

impl InFlight {
    /// A place at an endpoint that takes `most` requests and tunnels (0: any number), if there is one.
    #[must_use]
    pub fn within(endpoint: Rc<LocalEndpoint>, most: u32) -> Option<Self> {
        if most == 0 {
            endpoint.state.request_started();
        } else if !endpoint.state.request_started_within(most) {
            return None;
        }
        endpoint.series.connections_active.inc();
        Some(Self { endpoint })
    }

    #[must_use]
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.endpoint
    }

    /// The request became a tunnel.
    #[must_use]
    pub fn into_tunnel(self) -> OpenTunnel {
        self.endpoint.state.tunnel_opened();
        OpenTunnel {
            endpoint: self.endpoint.clone(),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.state.request_ended();
        self.endpoint.series.connections_active.dec();
        self.endpoint.freed();
    }
}

/// An open tunnel at an endpoint.
#[derive(Debug)]
pub struct OpenTunnel {
    endpoint: Rc<LocalEndpoint>,
}

impl OpenTunnel {
    #[must_use]
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.endpoint
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.endpoint.state.tunnel_closed();
        self.endpoint.freed();
    }
}

#[cfg(test)]
mod tests;
