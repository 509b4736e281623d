//! The text of a scrape: every family that workers and the control plane count for.

use super::catalogue as names;
use super::exposition::{Encoder, Exposition, Number, Samples};
use super::{
    AccessLogSeries, ControlSeries, EndpointSeries, ListenerSeries, Metrics, RouteSeries, Totals,
    WorkerSeries,
};
use crate::telemetry::log;
use crate::telemetry::process::ProcessStats;
use jiff::Timestamp;
use std::time::Duration;

impl Metrics {
    /// The text of a scrape. `extra` adds the families of [`names::Origin::Live`].
    #[must_use]
    pub fn render(&self, exposition: Exposition, extra: impl FnOnce(&mut Encoder)) -> String {
        let totals = self.totals();
        let mut encoder = Encoder::new(exposition);
        let e = &mut encoder;
        process(e, self.started());
        listeners(e, &totals);
        routes(e, &totals);
        endpoints(e, &totals);
        workers(e, &totals);
        control(e, &self.control);
        access_log(e, &self.access_log);
        one(e, &names::SERIES_CAPPED, totals.series_capped);
        extra(e);
        encoder.finish()
    }
}

fn process(e: &mut Encoder, started: Timestamp) {
    e.family(&names::BUILD_INFO, |s| s.add(&[env!("CARGO_PKG_VERSION")], 1u64));
    let up = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
    one(e, &names::UPTIME, up.as_secs_f64());
    one(e, &names::START_TIME, started.as_second());
    let stats = ProcessStats::read();
    maybe(e, &names::CPU, stats.cpu.map(|cpu| cpu.as_secs_f64()));
    e.family(&names::MEMORY, |s| {
        for (kind, bytes) in [("resident", stats.resident), ("peak", stats.peak)] {
            if let Some(bytes) = bytes {
                s.add(&[kind], bytes);
            }
        }
    });
    maybe(e, &names::OPEN_FDS, stats.open_fds);
    maybe(e, &names::MAX_FDS, stats.max_fds);
    maybe(e, &names::THREADS, stats.threads);
}

fn listeners(e: &mut Encoder, totals: &Totals) {
    let mut each = |family: &'static names::Family, add: &dyn Fn(&mut Samples<'_>, &str, &ListenerSeries)| {
        e.family(family, |s| {
            for (name, series) in &totals.listeners {
                add(s, name, series);
            }
        });
    };
    each(&names::CONNECTIONS, &|s, l, x| {
        s.add(&[l], x.connections_accepted.get())
    });
    each(&names::CONNECTIONS_OPEN, &|s, l, x| {
        s.add(&[l], x.connections_open.get())
    });
    each(&names::CONNECTIONS_REFUSED, &|s, l, x| {
        for (limit, n) in x.connections_refused.iter() {
            s.add(&[l, limit], n);
        }
    });
    each(&names::PROXY_HEADERS_REFUSED, &|s, l, x| {
        for (fault, n) in x.proxy_headers_refused.iter() {
            s.add(&[l, fault], n);
        }
    });
    each(&names::CONNECTIONS_MOVED, &|s, l, x| {
        s.add(&[l], x.connections_moved.get())
    });
    each(&names::LISTENER_REQUESTS, &|s, l, x| {
        s.add(&[l], x.requests.get())
    });
    each(&names::HEADS_REFUSED, &|s, l, x| {
        for (token, n) in x.heads_refused.iter() {
            s.add(&[l, token], n);
        }
    });
    each(&names::TLS_HANDSHAKES, &|s, l, x| {
        for ([version, resumed], n) in x.tls_handshakes.iter() {
            s.add(&[l, version, resumed], n);
        }
    });
    each(&names::TLS_HANDSHAKE_DURATION, &|s, l, x| {
        s.histogram(&[l], &x.tls_handshake_seconds.counts())
    });
    each(&names::TLS_FAILURES, &|s, l, x| {
        for (reason, n) in x.tls_failures.iter() {
            s.add(&[l, reason], n);
        }
    });
    each(&names::LISTENER_RECEIVED, &|s, l, x| {
        s.add(&[l], x.bytes_received.get())
    });
    each(&names::LISTENER_SENT, &|s, l, x| s.add(&[l], x.bytes_sent.get()));
    each(&names::H2_CONNECTIONS, &|s, l, x| {
        s.add(&[l], x.h2_connections.get())
    });
    each(&names::H2_STREAMS, &|s, l, x| s.add(&[l], x.h2_streams.get()));
    each(&names::H2_STREAMS_OPEN, &|s, l, x| {
        s.add(&[l], x.h2_streams_open.get())
    });
    each(&names::H2_RESETS, &|s, l, x| {
        for (by, resets) in [("client", &x.h2_resets_received), ("gateway", &x.h2_resets_sent)] {
            for (code, n) in resets.iter() {
                s.add(&[l, by, code], n);
            }
        }
    });
    each(&names::H2_ERRORS, &|s, l, x| {
        for (by, errors) in [("client", &x.h2_errors_received), ("gateway", &x.h2_errors_sent)] {
            for (code, n) in errors.iter() {
                s.add(&[l, by, code], n);
            }
        }
    });
    each(&names::H2_ABUSES, &|s, l, x| {
        for (kind, n) in x.h2_abuses.iter() {
            s.add(&[l, kind], n);
        }
    });
}

fn routes(e: &mut Encoder, totals: &Totals) {
    let mut each = |family: &'static names::Family,
                    add: &dyn Fn(&mut Samples<'_>, &[&str; 2], &RouteSeries)| {
        e.family(family, |s| {
            for ((route, upstream), series) in &totals.routes {
                add(s, &[route, upstream], series);
            }
        });
    };
    each(&names::REQUESTS, &|s, [r, u], x| {
        for (class, n) in x.requests.iter() {
            s.add(&[r, u, class], n);
        }
    });
    each(&names::REQUEST_DURATION, &|s, l, x| {
        s.histogram(l, &x.duration.counts())
    });
    each(&names::REQUEST_ERRORS, &|s, [r, u], x| {
        for (token, n) in x.errors.iter() {
            s.add(&[r, u, token], n);
        }
    });
    each(&names::RECEIVED, &|s, l, x| s.add(l, x.bytes_received.get()));
    each(&names::SENT, &|s, l, x| s.add(l, x.bytes_sent.get()));
    each(&names::STICKY_SESSIONS, &|s, [r, u], x| {
        for (outcome, n) in x.sessions.iter() {
            s.add(&[r, u, outcome], n);
        }
    });
    each(&names::STICKY_COOKIES, &|s, [r, u], x| {
        for (reason, n) in x.cookies_set.iter() {
            s.add(&[r, u, reason], n);
        }
    });
    each(&names::WS_OPEN, &|s, l, x| s.add(l, x.tunnels_open.get()));
    each(&names::WS_OPENED, &|s, l, x| s.add(l, x.tunnels_total.get()));
    each(&names::WS_CLOSED, &|s, [r, u], x| {
        for (reason, n) in x.tunnels_closed.iter() {
            s.add(&[r, u, reason], n);
        }
    });
    each(&names::WS_CLOSE_CODES, &|s, [r, u], x| {
        for (code, n) in x.close_codes.iter() {
            s.add(&[r, u, code], n);
        }
    });
    each(&names::WS_MESSAGES, &|s, [r, u], x| {
        s.add(&[r, u, "client"], x.messages_received.get());
        s.add(&[r, u, "endpoint"], x.messages_sent.get());
    });
}

fn endpoints(e: &mut Encoder, totals: &Totals) {
    let mut each = |family: &'static names::Family,
                    add: &dyn Fn(&mut Samples<'_>, &[&str; 2], &EndpointSeries)| {
        e.family(family, |s| {
            for ((upstream, address), series) in &totals.endpoints {
                add(s, &[upstream, address], series);
            }
        });
    };
    each(&names::LB_PICKS, &|s, l, x| s.add(l, x.attempts.get()));
    each(&names::RETRIES, &|s, l, x| s.add(l, x.retries.get()));
    each(&names::RETRIES_GIVEN, &|s, l, x| s.add(l, x.retries_given.get()));
    each(&names::RETRIES_SUPPRESSED, &|s, [u, a], x| {
        for (reason, n) in x.retries_suppressed.iter() {
            s.add(&[u, a, reason], n);
        }
    });
    each(&names::UPSTREAM_RESPONSES, &|s, [u, a], x| {
        for (class, n) in x.responses.iter() {
            s.add(&[u, a, class], n);
        }
    });
    each(&names::UPSTREAM_GRPC, &|s, [u, a], x| {
        for (status, n) in x.grpc.iter() {
            s.add(&[u, a, status], n);
        }
    });
    each(&names::UPSTREAM_FAILURES, &|s, [u, a], x| {
        for (token, n) in x.failures.iter() {
            s.add(&[u, a, token], n);
        }
    });
    each(&names::UPSTREAM_DURATION, &|s, l, x| {
        s.histogram(l, &x.response_seconds.counts())
    });
    each(&names::UPSTREAM_CONNECTS, &|s, l, x| s.add(l, x.connects.get()));
    each(&names::UPSTREAM_CONNECTS_FAILED, &|s, l, x| {
        s.add(l, x.connects_failed.get())
    });
    each(&names::UPSTREAM_TLS, &|s, [u, a], x| {
        for (kind, n) in [("full", x.tls_full.get()), ("resumed", x.tls_resumed.get())] {
            if n > 0 {
                s.add(&[u, a, kind], n);
            }
        }
    });
    each(&names::UPSTREAM_TLS_FAILED, &|s, [u, a], x| {
        for (reason, n) in x.tls_failed.iter() {
            s.add(&[u, a, reason], n);
        }
    });
    each(&names::UPSTREAM_REUSES, &|s, l, x| s.add(l, x.reuses.get()));
    each(&names::UPSTREAM_CONNECT_DURATION, &|s, l, x| {
        s.histogram(l, &x.connect_seconds.counts())
    });
    each(&names::UPSTREAM_CONNECTIONS, &|s, [u, a], x| {
        s.add(&[u, a, "active"], x.connections_active.get());
        s.add(&[u, a, "idle"], x.connections_idle.get());
    });
    each(&names::UPSTREAM_H2_CONNECTIONS, &|s, l, x| {
        s.add(l, x.http2_connections.get())
    });
    each(&names::UPSTREAM_H2_STREAMS, &|s, l, x| {
        s.add(l, x.http2_streams.get())
    });
    each(&names::UPSTREAM_SENT, &|s, l, x| s.add(l, x.bytes_sent.get()));
    each(&names::UPSTREAM_RECEIVED, &|s, l, x| {
        s.add(l, x.bytes_received.get())
    });
}

fn workers(e: &mut Encoder, totals: &Totals) {
    let mut each = |family: &'static names::Family, add: &dyn Fn(&mut Samples<'_>, &str, &WorkerSeries)| {
        e.family(family, |s| {
            for (worker, series) in &totals.workers {
                add(s, itoa::Buffer::new().format(*worker), series);
            }
        });
    };
    each(&names::WORKER_ACCEPTED, &|s, w, x| s.add(&[w], x.accepted.get()));
    each(&names::WORKER_CONNECTIONS, &|s, w, x| {
        s.add(&[w], x.connections_open.get())
    });
    each(&names::WORKER_REQUESTS, &|s, w, x| s.add(&[w], x.requests.get()));
    each(&names::UNSENT, &|s, w, x| s.add(&[w], x.unsent_bytes.get()));
    each(&names::TLS_RUNNING, &|s, w, x| {
        s.add(&[w], x.tls_handshakes_running.get())
    });
    each(&names::WORKER_CPU, &|s, w, x| s.add(&[w], micros(x.cpu_us.get())));
    each(&names::LOOP_TICKS, &|s, w, x| s.add(&[w], x.loop_ticks.get()));
    each(&names::LOOP_LAG, &|s, w, x| {
        s.histogram(&[w], &x.loop_lag.counts())
    });
    each(&names::LOOP_LAG_MAX, &|s, w, x| {
        s.add(&[w], micros(x.loop_lag_max_us.get()))
    });
    each(&names::PANICS, &|s, w, x| s.add(&[w], x.panics.get()));
    each(&names::ACCEPT_PAUSES, &|s, w, x| {
        s.add(&[w], x.accept_pauses.get())
    });
    each(&names::REPORTS_DROPPED, &|s, w, x| {
        s.add(&[w], x.reports_dropped.get())
    });
}

fn control(e: &mut Encoder, control: &ControlSeries) {
    one(e, &names::WORKERS_STALLED, control.workers_stalled.get());
    one(e, &names::WORKERS_REPLACED, control.workers_replaced.get());
    e.family(&names::CONFIG_RELOADS, |s| {
        s.add(&["applied"], control.reloads_applied.get());
        s.add(&["unchanged"], control.reloads_unchanged.get());
        s.add(&["rejected"], control.reloads_rejected.get());
    });
    one(e, &names::CONFIG_SUCCESS, control.last_reload_success.get());
    one(e, &names::CONFIG_APPLIED, control.last_applied.get());
    one(
        e,
        &names::CERTIFICATES_REFUSED,
        control.certificates_refused.get(),
    );
    one(e, &names::CONFIG_GENERATION, control.generation.get());
    e.family(&names::ACME_ORDERS, |s| {
        s.add(&["issued"], control.acme.issued.get());
        s.add(&["renewed"], control.acme.renewed.get());
        s.add(
            &["failed"],
            control.acme.failures.iter().map(|(_, count)| count).sum::<u64>(),
        );
    });
    e.family(&names::ACME_FAILURES, |s| {
        for (reason, count) in control.acme.failures.iter() {
            s.add(&[reason], count);
        }
    });
    e.family(&names::DNS_RESOLUTIONS, |s| {
        for (result, count) in control.dns.iter() {
            s.add(&[result], count);
        }
    });
    one(e, &names::EVENTS, control.events.get());
    one(e, &names::EVENTS_LOST, control.events_lost.get());
    one(e, &names::LOG_SUPPRESSED, log::COUNTS.suppressed.get());
    one(e, &names::LOG_DROPPED, log::COUNTS.dropped.get());
    one(e, &names::ADMIN_REQUESTS, control.admin_requests.get());
    one(e, &names::ADMIN_DENIED, control.admin_denied.get());
}

fn access_log(e: &mut Encoder, log: &AccessLogSeries) {
    e.family(&names::ACCESS_LOG_RECORDS, |s| {
        s.add(&["written"], log.records_written.get());
        s.add(&["dropped"], log.records_dropped.get());
        s.add(&["failed"], log.records_failed.get());
    });
    one(e, &names::ACCESS_LOG_BYTES, log.bytes_written.get());
    one(e, &names::ACCESS_LOG_ERRORS, log.errors.get());
    one(e, &names::ACCESS_LOG_REOPENS, log.reopens.get());
}

/// A family of one sample without labels.
fn one(e: &mut Encoder, family: &'static names::Family, value: impl Into<Number>) {
    e.family(family, |s| s.add(&[], value));
}

/// The same, for a value that may be unknown.
fn maybe(e: &mut Encoder, family: &'static names::Family, value: Option<impl Into<Number>>) {
    e.family(family, |s| {
        if let Some(value) = value {
            s.add(&[], value);
        }
    });
}

fn micros(us: i64) -> Number {
    Number::Micros(u64::try_from(us).unwrap_or(0))
}

#[cfg(test)]
mod tests;
