//! Metrics: per-worker blocks of single-writer cells, summed when somebody asks.
//!
//! A worker looks its series up by name when it rebuilds its view (a reload), and from then on counts through
//! the handle without a lock, a hash or a shared write. Handles of the same name are the same cells, so counts
//! survive reloads.

pub mod catalogue;
mod cells;
mod collect;
mod exposition;
mod faults;
mod grpc;
mod histogram;
mod http2;
mod process_wide;
mod scrape;
pub mod series;
mod sticky;
mod tunnels;

pub use cells::{Counter, Gauge, SharedCounter, SharedGauge};
pub use collect::{Outcomes, Totals};
pub use exposition::{Encoder, Exposition, Number, Samples};
pub use faults::{HeaderFault, PerHeaderFault, PerTlsFault, TlsFault};
pub use grpc::PerGrpcStatus;
pub use histogram::{BOUNDS, BOUNDS_US, Histogram, HistogramCounts, SHOWN};
pub use http2::{Abuse, PerAbuse, PerCode, RESET_CODES};
pub use process_wide::{AccessLogSeries, AcmeFailure, ControlSeries, DnsResult, ReloadResult};
pub use series::{
    CLASSES, EndpointSeries, Handshake, ListenerSeries, NoRetry, PerClass, PerNoRetry, PerRefusal, PerToken,
    Refusal, RouteSeries, TlsFailure, WorkerSeries,
};
pub use sticky::{CookieSet, PerCookieSet, PerSticky, Sticky};
pub use tunnels::{Closed, PerCloseCode, PerClosed};

use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most series of one kind (listeners, routes, endpoints) in one worker. Names beyond it are counted together
/// under [`OTHER`] and in `tidegate_series_capped_total`.
pub const MAX_SERIES: usize = 4096;

/// The name under which everything beyond [`MAX_SERIES`] is counted.
pub const OTHER: &str = "other";

/// The route name under which requests are counted that matched no route.
pub const UNROUTED: &str = "-";

/// Identifies one series, for [`Metrics::retain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKey<'a> {
    Listener(&'a str),
    Route { route: &'a str, upstream: &'a str },
    Endpoint { upstream: &'a str, address: &'a str },
}

/// Series by name. Two-part names, because routes are kept per upstream and endpoints within theirs.
type Series<T> = BTreeMap<(Box<str>, Box<str>), Arc<T>>;

#[derive(Debug, Default)]
struct Registered {
    listeners: Series<ListenerSeries>,
    routes: Series<RouteSeries>,
    endpoints: Series<EndpointSeries>,
}

/// What one worker counts.
#[derive(Debug)]
pub struct WorkerMetrics {
    index: usize,
    /// The worker's own series.
    pub worker: WorkerSeries,
    registered: Mutex<Registered>,
    capped: SharedCounter,
}

impl WorkerMetrics {
    /// A block on its own, for tests; [`Metrics::add_worker`] makes one that is scraped.
    #[must_use]
    pub fn new(index: usize) -> Arc<Self> {
        Arc::new(Self {
            index,
            worker: WorkerSeries::default(),
            registered: Mutex::default(),
            capped: SharedCounter::default(),
        })
    }

    /// The worker's number, its label. A replaced worker's successor has the same.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The series of a listener. Takes a lock: look up once per view, not per request. So do the others.
    #[must_use]
    pub fn listener(&self, name: &str) -> Arc<ListenerSeries> {
        self.get(&mut self.lock().listeners, (name, ""))
    }

    /// The series of a route's requests that reach no upstream: redirects, fixed answers, errors before the
    /// choice. Also of all its requests, where upstreams are not told apart.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteSeries> {
        self.route_to(name, "")
    }

    /// The series of a route's requests that go to `upstream`.
    #[must_use]
    pub fn route_to(&self, name: &str, upstream: &str) -> Arc<RouteSeries> {
        self.get(&mut self.lock().routes, (name, upstream))
    }

    /// The series of an endpoint by its address as written.
    #[must_use]
    pub fn endpoint(&self, upstream: &str, address: &str) -> Arc<EndpointSeries> {
        self.get(&mut self.lock().endpoints, (upstream, address))
    }

    fn get<T: Default>(&self, series: &mut Series<T>, name: (&str, &str)) -> Arc<T> {
        let mut key = (name.0.into(), name.1.into());
        if !series.contains_key(&key) && series.len() >= MAX_SERIES {
            self.capped.inc();
            key = (OTHER.into(), if name.1.is_empty() { "" } else { OTHER }.into());
        }
        Arc::clone(series.entry(key).or_default())
    }

    /// Lets go of the series that `keep` refuses and that no worker holds any more.
    pub fn retain(&self, keep: impl Fn(SeriesKey<'_>) -> bool) {
        let mut registered = self.lock();
        registered
            .listeners
            .retain(|(name, _), series| Arc::strong_count(series) > 1 || keep(SeriesKey::Listener(name)));
        registered.routes.retain(|(route, upstream), series| {
            Arc::strong_count(series) > 1 || keep(SeriesKey::Route { route, upstream })
        });
        registered.endpoints.retain(|(upstream, address), series| {
            Arc::strong_count(series) > 1 || keep(SeriesKey::Endpoint { upstream, address })
        });
    }

    /// A panic while it was held can at worst have lost one entry: the maps stay usable.
    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is counted in the process. One per process, shared by reference count.
#[derive(Debug)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    pub control: ControlSeries,
    pub access_log: Arc<AccessLogSeries>,
    started: Timestamp,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Arc<Self> {
        let metrics = Self {
            workers: Mutex::default(),
            control: ControlSeries::default(),
            access_log: Arc::default(),
            started: Timestamp::now(),
        };
        metrics.control.last_reload_success.set(1);
        Arc::new(metrics)
    }

    /// Makes the block of a worker. A replaced worker's block stays, so that nothing counted gets lost; the
    /// control side bounds how often that happens.
    #[must_use]
    pub fn add_worker(&self, index: usize) -> Arc<WorkerMetrics> {
        let block = WorkerMetrics::new(index);
        self.lock().push(Arc::clone(&block));
        block
    }

    /// The blocks of all workers, replaced ones included.
    #[must_use]
    pub fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.lock().clone()
    }

    /// When the process's metrics began, which is when it started.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// Lets go of the series of objects that no longer exist, on all workers. A series that a worker still
    /// holds stays until the next call.
    pub fn retain(&self, keep: impl Fn(SeriesKey<'_>) -> bool) {
        for worker in self.workers() {
            worker.retain(&keep);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<WorkerMetrics>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
