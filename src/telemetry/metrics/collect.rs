//! Sums over the workers.

use super::{EndpointSeries, ListenerSeries, Metrics, RouteSeries, Series, WorkerMetrics, WorkerSeries};
use std::collections::BTreeMap;

/// Everything counted so far, summed over workers, replaced ones included.
#[derive(Debug, Default)]
pub struct Totals {
    pub listeners: BTreeMap<Box<str>, ListenerSeries>,
    /// By route and upstream; the upstream is empty where none was chosen.
    pub routes: BTreeMap<(Box<str>, Box<str>), RouteSeries>,
    /// By upstream and address.
    pub endpoints: BTreeMap<(Box<str>, Box<str>), EndpointSeries>,
    pub workers: BTreeMap<usize, WorkerSeries>,
    pub series_capped: u64,
}

impl Totals {
    fn add(&mut self, worker: &WorkerMetrics) {
        let registered = worker.lock();
        for ((name, _), series) in &registered.listeners {
            self.listeners.entry(name.clone()).or_default().absorb(series);
        }
        add_all(&mut self.routes, &registered.routes, RouteSeries::absorb);
        add_all(&mut self.endpoints, &registered.endpoints, EndpointSeries::absorb);
        self.workers
            .entry(worker.index)
            .or_default()
            .absorb(&worker.worker);
        self.series_capped += worker.capped.get();
    }
}

type Key = (Box<str>, Box<str>);

fn add_all<T: Default>(into: &mut BTreeMap<Key, T>, from: &Series<T>, absorb: impl Fn(&T, &T)) {
    for (key, series) in from {
        absorb(into.entry(key.clone()).or_default(), series);
    }
}

/// How the attempts at one endpoint came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Attempts that were answered or failed.
    pub requests: u64,
    /// Those that speak against the endpoint.
    pub faults: u64,
    /// Failures after which another endpoint was tried.
    pub given: u64,
}

impl Metrics {
    /// How attempts came out so far, by upstream and address. Costs much less than [`Self::totals`].
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<Box<str>, BTreeMap<Box<str>, Outcomes>> {
        let mut all: BTreeMap<Box<str>, BTreeMap<Box<str>, Outcomes>> = BTreeMap::new();
        for worker in self.workers() {
            for ((upstream, address), series) in &worker.lock().endpoints {
                let endpoints = match all.get_mut(upstream) {
                    Some(endpoints) => endpoints,
                    None => all.entry(upstream.clone()).or_default(),
                };
                let sum = match endpoints.get_mut(address) {
                    Some(sum) => sum,
                    None => endpoints.entry(address.clone()).or_default(),
                };
                sum.requests += series.responses.sum() + series.failures.sum();
                sum.faults += series.faults.get();
                sum.given += series.retries_given.get();
            }
        }
        all
    }

    /// Sums over the workers. Costs some microseconds per series and worker.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for worker in self.workers() {
            totals.add(&worker);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_SERIES, OTHER, SeriesKey};
    use super::*;

    #[test]
    fn a_handle_looked_up_again_is_the_same_cells() {
        let block = WorkerMetrics::new(0);
        block.route("api").requests.inc(200);
        block.route("api").requests.inc(200);
        assert_eq!(block.route("api").requests.sum(), 2);
        assert_eq!(block.route_to("api", "app").requests.sum(), 0);
    }

    #[test]
    fn series_of_removed_objects_go_once_no_worker_holds_them() {
        let metrics = Metrics::new();
        let block = metrics.add_worker(0);
        let held = block.route("gone");
        let _kept = block.route("stays");
        drop(block.endpoint("app", "1.1.1.1:1"));
        let live = |key: SeriesKey<'_>| {
            key == SeriesKey::Route {
                route: "stays",
                upstream: "",
            }
        };
        metrics.retain(live);
        assert!(metrics.totals().endpoints.is_empty());
        assert_eq!(metrics.totals().routes.len(), 2);
        drop(held);
        metrics.retain(live);
        let left: Vec<_> = metrics
            .totals()
            .routes
            .into_keys()
            .map(|(route, _)| route)
            .collect();
        assert_eq!(left, ["stays".into()]);
    }

    #[test]
    fn beyond_the_cap_series_are_counted_as_other() {
        let metrics = Metrics::new();
        let block = metrics.add_worker(0);
        for i in 0..MAX_SERIES + 10 {
            block.endpoint("app", &i.to_string()).attempts.inc();
        }
        let totals = metrics.totals();
        assert_eq!(totals.endpoints.len(), MAX_SERIES + 1);
        assert_eq!(totals.endpoints[&(OTHER.into(), OTHER.into())].attempts.get(), 10);
        assert_eq!(totals.series_capped, 10);
    }

    #[test]
    fn a_replaced_worker_keeps_what_it_counted() {
        let metrics = Metrics::new();
        metrics.add_worker(0).worker.requests.add(5);
        metrics.add_worker(0).worker.requests.add(2);
        assert_eq!(metrics.totals().workers[&0].requests.get(), 7);
    }
}
