//! A worker's view of the snapshot: the same objects with what the worker owns of each.
//!
//! A request takes the few handles that it needs (`ListenerView`, `RouteView`, `LocalUpstream`) and lets go of
//! the view itself, so that a tunnel or a long download never keeps an old snapshot alive.

use super::board::WorkerStatus;
use super::worker::WorkerContext;
use crate::snapshot::{ListenerPlan, PassthroughPlan, RoutePlan, Snapshot, Target};
use crate::telemetry::metrics::WorkerMetrics;
use crate::telemetry::metrics::{ListenerSeries, RouteSeries};
use crate::upstream::local::{Endpoints, LocalUpstream};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A listener's number on this worker, by its name; connections keep it over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerKey(usize);

#[derive(Debug)]
pub(super) struct ListenerView {
    pub plan: Arc<ListenerPlan>,
    /// Index in the snapshot, by which routes know it; of a removed one, an index that no route knows.
    pub index: u32,
    /// It left the configuration. Connections that it accepted have their request served.
    pub removed: bool,
    pub series: Arc<ListenerSeries>,
    /// One per rule of the plan's `passthrough`; none of a removed one.
    pub passthrough: Vec<PassthroughView>,
}

#[derive(Debug)]
pub(super) struct PassthroughView {
    pub plan: Arc<PassthroughPlan>,
    pub upstream: Rc<LocalUpstream>,
    pub series: Arc<RouteSeries>,
}

#[derive(Debug)]
pub(super) struct RouteView {
    pub plan: Arc<RoutePlan>,
    /// One per target of the route's action; a single one when it has none.
    series: Vec<Arc<RouteSeries>>,
}

impl RouteView {
    /// Counters of the route towards its n-th target.
    pub fn series(&self, target: usize) -> &Arc<RouteSeries> {
        &self.series[target]
    }
}

#[derive(Debug)]
pub(super) struct View {
    pub snapshot: Arc<Snapshot>,
    listeners: Vec<Option<Rc<ListenerView>>>,
    pub routes: Vec<Rc<RouteView>>,
    pub upstreams: Vec<Rc<LocalUpstream>>,
}

impl View {
    /// `None` for a name that no snapshot of this worker had.
    pub fn listener(&self, key: ListenerKey) -> Option<&Rc<ListenerView>> {
        self.listeners.get(key.0)?.as_ref()
    }

    pub fn listener_named(&self, name: &str) -> Option<&Rc<ListenerView>> {
        self.listeners
            .iter()
            .flatten()
            .find(|listener| *listener.plan.name == *name)
    }
}

/// The view, and what lives on when it is rebuilt.
#[derive(Debug)]
pub(super) struct Views {
    current: Rc<View>,
    endpoints: Endpoints,
    keys: HashMap<Arc<str>, ListenerKey>,
}

impl Views {
    pub fn new(context: &WorkerContext, metrics: &WorkerMetrics) -> Self {
        let mut endpoints = Endpoints::default();
        let mut keys = HashMap::new();
        let current = build(context.live.load(), &[], &mut endpoints, &mut keys, metrics);
        Self {
            current,
            endpoints,
            keys,
        }
    }

    /// The view of the snapshot that is live now.
    #[inline]
    pub fn current(
        &mut self,
        context: &WorkerContext,
        metrics: &WorkerMetrics,
        status: &WorkerStatus,
    ) -> Rc<View> {
        if context.live.generation() != self.current.snapshot.generation {
            self.rebuild(context, metrics, status);
        }
        self.current.clone()
    }

    #[cold]
    fn rebuild(&mut self, context: &WorkerContext, metrics: &WorkerMetrics, status: &WorkerStatus) {
        let before = self.current.clone();
        self.current = build(
            context.live.load(),
            &before.listeners,
            &mut self.endpoints,
            &mut self.keys,
            metrics,
        );
        status
            .generation
            .store(self.current.snapshot.generation, Ordering::Relaxed);
    }

    /// The number of a listener's name; new names get the next one.
    pub fn key(&mut self, name: &Arc<str>) -> ListenerKey {
        let next = ListenerKey(self.keys.len());
        *self.keys.entry(name.clone()).or_insert(next)
    }

    /// See [`Endpoints::leave`].
    pub fn leave(&self) {
        self.endpoints.leave();
    }

    pub fn sweep(&self, now: Instant) {
        self.endpoints.sweep(now);
    }
}

fn build(
    snapshot: Arc<Snapshot>,
    before: &[Option<Rc<ListenerView>>],
    endpoints: &mut Endpoints,
    keys: &mut HashMap<Arc<str>, ListenerKey>,
    metrics: &WorkerMetrics,
) -> Rc<View> {
    for plan in &snapshot.listeners {
        let next = ListenerKey(keys.len());
        keys.entry(plan.name.clone()).or_insert(next);
    }
    let upstreams = endpoints.rebuild(&snapshot.upstreams, metrics);
    let mut listeners: Vec<_> = before.iter().map(|view| view.as_ref().map(removed)).collect();
    listeners.resize(keys.len(), None);
    for (index, plan) in snapshot.listeners.iter().enumerate() {
        let series = metrics.listener(&plan.name);
        let view = ListenerView {
            plan: plan.clone(),
            index: index as u32,
            removed: false,
            series,
            passthrough: passthrough_views(plan, &upstreams, metrics),
        };
        if let Some(key) = keys.get(&plan.name) {
            listeners[key.0] = Some(Rc::new(view));
        }
    }
    let routes = snapshot
        .routes
        .iter()
        .map(|plan| Rc::new(route_view(plan, &snapshot, metrics)))
        .collect();
    Rc::new(View {
        listeners,
        routes,
        upstreams,
        snapshot,
    })
}

/// A listener's connections that go on unopened have the counters of a route, under a name that no route can have.
fn passthrough_views(
    plan: &ListenerPlan,
    upstreams: &[Rc<LocalUpstream>],
    metrics: &WorkerMetrics,
) -> Vec<PassthroughView> {
    let view = |rule: &Arc<PassthroughPlan>| {
        let upstream = upstreams[rule.upstream].clone();
        PassthroughView {
            plan: rule.clone(),
            series: metrics.route_to(&format!("passthrough:{}", plan.name), &upstream.plan.name),
            upstream,
        }
    };
    plan.passthrough.rules().iter().map(view).collect()
}

fn removed(view: &Rc<ListenerView>) -> Rc<ListenerView> {
    if view.removed {
        return view.clone();
    }
    let (plan, series) = (view.plan.clone(), view.series.clone());
    Rc::new(ListenerView {
        plan,
        index: u32::MAX,
        removed: true,
        series,
        passthrough: Vec::new(),
    })
}

fn route_view(plan: &Arc<RoutePlan>, snapshot: &Snapshot, metrics: &WorkerMetrics) -> RouteView {
    let towards = |target: &Target| metrics.route_to(&plan.name, &snapshot.upstreams[target.upstream].name);
    let mut series: Vec<_> = plan.targets().iter().map(towards).collect();
    if series.is_empty() {
        series.push(metrics.route(&plan.name));
    }
    RouteView {
        plan: plan.clone(),
        series,
    }
}
