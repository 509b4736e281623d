//! Every metric there is: name, type, labels, meaning. One table, from which the scrape takes its `HELP` and
//! `TYPE` lines and `config/METRICS.md` is made; a metric that is not in it cannot be written.

use std::fmt::Write as _;

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Where the values of a family come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The blocks of this module.
    Blocks,
    /// The live state of endpoints and connections, which the caller of a scrape adds.
    Live,
}

/// One metric with all its label values.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One line, without backslashes.
    pub help: &'static str,
    pub origin: Origin,
}

macro_rules! families {
    ($( $origin:ident { $( $constant:ident $name:literal $kind:ident [$($label:literal)*] $help:literal; )* } )*) => {
        $( $( #[doc = $help] pub static $constant: Family = Family {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help, origin: Origin::$origin,
        }; )* )*
        /// All families in the order of the table.
        pub static ALL: &[&Family] = &[ $( $( &$constant, )* )* ];
    };
}

families! {
    Blocks {
        BUILD_INFO "tidegate_build_info" Gauge ["version"] "Always 1; the label tells the version.";
        UPTIME "tidegate_uptime_seconds" Gauge [] "Time since the process started.";

        CONNECTIONS "tidegate_connections_total" Counter ["listener"] "Client connections accepted.";
        CONNECTIONS_OPEN "tidegate_connections_open" Gauge ["listener"] "Client connections open, tunnels included.";
        CONNECTIONS_REFUSED "tidegate_connections_refused_total" Counter ["listener" "limit"] "Client connections closed unserved, by the limit that was reached: process, listener, client, draining.";
        PROXY_HEADERS_REFUSED "tidegate_proxy_protocol_refused_total" Counter ["listener" "fault"] "Client connections closed unserved where a PROXY protocol header is expected, by what was wrong: untrusted (the peer), missing, malformed, too_large, checksum, timeout, ended (within it), empty (ended before the first byte, as checks of a port do).";
        CONNECTIONS_MOVED "tidegate_connections_moved_total" Counter ["listener"] "Accepted connections handed to a less loaded worker.";
        LISTENER_REQUESTS "tidegate_listener_requests_total" Counter ["listener"] "Requests begun, refused heads included.";
        HEADS_REFUSED "tidegate_heads_refused_total" Counter ["listener" "token"] "Requests refused before routing, by error token.";
        TLS_HANDSHAKES "tidegate_tls_handshakes_total" Counter ["listener" "version" "resumed"] "TLS handshakes that succeeded, by version and whether an earlier session was resumed.";
        TLS_HANDSHAKE_DURATION "tidegate_tls_handshake_seconds" Histogram ["listener"] "From accepting a TLS connection to the end of its handshake.";
        TLS_FAILURES "tidegate_tls_handshake_failures_total" Counter ["listener" "reason"] "Connections to a TLS listener that came to no session, by reason: plain_http, not_tls, too_large (the ClientHello), timeout, closed (the client left), unknown_name, no_certificate (none that the client can verify), incompatible (no version, suite or group in common), alpn, client_certificate, alert (the client refused), protocol (the client broke the rules), challenge (no failure: an authority that issues a certificate looked whether the name is ours).";
        LISTENER_RECEIVED "tidegate_listener_received_bytes_total" Counter ["listener"] "Bytes read from clients: heads, bodies, tunnels.";
        LISTENER_SENT "tidegate_listener_sent_bytes_total" Counter ["listener"] "Bytes written to clients: heads, bodies, tunnels.";
        H2_CONNECTIONS "tidegate_h2_connections_total" Counter ["listener"] "Connections that spoke HTTP/2.";
        H2_STREAMS "tidegate_h2_streams_total" Counter ["listener"] "Requests begun in HTTP/2.";
        H2_STREAMS_OPEN "tidegate_h2_streams_open" Gauge ["listener"] "Requests running in HTTP/2.";
        H2_RESETS "tidegate_h2_resets_total" Counter ["listener" "by" "code"] "Streams reset, by whom (client, gateway) and by error code. A code appears when first counted.";
        H2_ERRORS "tidegate_h2_errors_total" Counter ["listener" "by" "code"] "HTTP/2 connections ended with an error, by who said so (client, gateway) and by error code. A code appears when first counted.";
        H2_ABUSES "tidegate_h2_abuses_total" Counter ["listener" "kind"] "HTTP/2 connections closed for what their clients did: rapid_reset, made_you_reset, header_bomb, continuation, settings, ping, empty_frames, control_frames, window_stall, slow_head, small_frames.";

        REQUESTS "tidegate_requests_total" Counter ["route" "upstream" "code_class"] "Requests ended, by class of the status sent; none: the client left before one was. A tunnel counts as 1xx when it ends. TLS passed on unopened counts with the route passthrough:LISTENER when it ends, as 2xx if an endpoint was reached.";
        REQUEST_DURATION "tidegate_request_duration_seconds" Histogram ["route" "upstream"] "From the first byte of the request to the last byte of the response; tunnels are left out.";
        REQUEST_ERRORS "tidegate_request_errors_total" Counter ["route" "upstream" "token"] "Requests that ended with an error, by token.";
        RECEIVED "tidegate_received_bytes_total" Counter ["route" "upstream"] "Bytes read from clients for requests of a route.";
        SENT "tidegate_sent_bytes_total" Counter ["route" "upstream"] "Bytes written to clients for requests of a route.";
        STICKY_SESSIONS "tidegate_sticky_sessions_total" Counter ["route" "upstream" "outcome"] "Requests to upstreams that keep sessions by cookie or by learning, by outcome: kept (the session's endpoint had the request), new (it came with none), malformed, foreign (another key or upstream), tampered, expired (its cookie); unknown (not learned here); gone, unwell, full, failed (its endpoint). An outcome appears when first counted.";
        STICKY_COOKIES "tidegate_sticky_cookies_total" Counter ["route" "upstream" "reason"] "Sticky cookies set, by reason: new, moved (another endpoint has the session now), replaced (what came was of no use), renewed (the same endpoint, and a fresh signature). A reason appears when first counted.";
        WS_OPEN "tidegate_ws_open" Gauge ["route" "upstream"] "Tunnels open: WebSockets and other upgraded connections; TLS passed on unopened, with the route passthrough:LISTENER.";
        WS_OPENED "tidegate_ws_opened_total" Counter ["route" "upstream"] "Tunnels opened.";
        WS_CLOSED "tidegate_ws_closed_total" Counter ["route" "upstream" "reason"] "Tunnels ended, by whom or why: client, endpoint; the gateway for idle, age, drain (it was asked to go), rebalance (another endpoint joined), deadline (of a drain), limit, protocol (what came was no frame), lost (a ping was not answered), kicked (an operator). A reason appears when first counted.";
        WS_CLOSE_CODES "tidegate_ws_close_codes_total" Counter ["route" "upstream" "code"] "WebSockets ended whose frames were looked at, by the code of the first close frame; 1005: one without a code, 1006: there was none. A code appears when first counted.";
        WS_MESSAGES "tidegate_ws_messages_total" Counter ["route" "upstream" "from"] "Messages passed on in WebSockets whose frames are looked at, by whom they are from: client, endpoint.";

        LB_PICKS "tidegate_lb_picks_total" Counter ["upstream" "endpoint"] "Attempts: times the endpoint was picked for a request.";
        RETRIES "tidegate_retries_total" Counter ["upstream" "endpoint"] "Attempts that followed a failed one of the same request.";
        RETRIES_GIVEN "tidegate_retries_given_total" Counter ["upstream" "endpoint"] "Failures of the endpoint after which another one was tried for the same request.";
        RETRIES_SUPPRESSED "tidegate_retries_suppressed_total" Counter ["upstream" "endpoint" "reason"] "Failures of the endpoint after which no other was tried though retry.on names them, by reason: attempts, method, body, endpoints (there is no other), budget.";
        UPSTREAM_RESPONSES "tidegate_upstream_responses_total" Counter ["upstream" "endpoint" "code_class"] "Response heads received from the endpoint, by class of their status.";
        UPSTREAM_GRPC "tidegate_upstream_grpc_responses_total" Counter ["upstream" "endpoint" "grpc_status"] "Calls of gRPC that the endpoint answered to the end, by status: OK, CANCELLED, UNKNOWN and so on; missing where there was none. A status appears when first counted.";
        UPSTREAM_FAILURES "tidegate_upstream_failures_total" Counter ["upstream" "endpoint" "token"] "Attempts that failed, by error token.";
        UPSTREAM_DURATION "tidegate_upstream_duration_seconds" Histogram ["upstream" "endpoint"] "From the request's first byte sent to the endpoint until its response head.";
        UPSTREAM_CONNECTS "tidegate_upstream_connects_total" Counter ["upstream" "endpoint"] "Connections opened to the endpoint.";
        UPSTREAM_CONNECTS_FAILED "tidegate_upstream_connects_failed_total" Counter ["upstream" "endpoint"] "Connections to the endpoint that could not be opened.";
        UPSTREAM_TLS "tidegate_upstream_tls_handshakes_total" Counter ["upstream" "endpoint" "kind"] "TLS handshakes with the endpoint that came about: full or resumed.";
        UPSTREAM_TLS_FAILED "tidegate_upstream_tls_failures_total" Counter ["upstream" "endpoint" "reason"] "TLS handshakes with the endpoint that failed (tls_failed), by reason: expired, not_yet_valid, self_signed, unknown_issuer, wrong_name, bad_certificate (its certificate); client_certificate (it wants ours, or another), unknown_name, incompatible, refused (what it says); not_tls, protocol, closed, timeout.";
        UPSTREAM_REUSES "tidegate_upstream_reuses_total" Counter ["upstream" "endpoint"] "Attempts on a pooled connection.";
        UPSTREAM_CONNECT_DURATION "tidegate_upstream_connect_seconds" Histogram ["upstream" "endpoint"] "Time to open a connection to the endpoint.";
        UPSTREAM_CONNECTIONS "tidegate_upstream_connections" Gauge ["upstream" "endpoint" "state"] "Connections to the endpoint: active (requests that are there, in HTTP/2 too) or idle (in HTTP/1.1).";
        UPSTREAM_H2_CONNECTIONS "tidegate_upstream_http2_connections" Gauge ["upstream" "endpoint"] "HTTP/2 connections to the endpoint, which requests share.";
        UPSTREAM_H2_STREAMS "tidegate_upstream_http2_streams" Gauge ["upstream" "endpoint"] "Requests on HTTP/2 connections to the endpoint.";
        UPSTREAM_SENT "tidegate_upstream_sent_bytes_total" Counter ["upstream" "endpoint"] "Bytes written to the endpoint.";
        UPSTREAM_RECEIVED "tidegate_upstream_received_bytes_total" Counter ["upstream" "endpoint"] "Bytes read from the endpoint.";

        WORKER_ACCEPTED "tidegate_worker_accepted_total" Counter ["worker"] "Connections accepted by the worker.";
        WORKER_CONNECTIONS "tidegate_worker_connections_open" Gauge ["worker"] "Client connections the worker holds.";
        WORKER_REQUESTS "tidegate_worker_requests_total" Counter ["worker"] "Requests served by the worker.";
        UNSENT "tidegate_unsent_bytes" Gauge ["worker"] "Bytes that wait for sockets that do not take them, those within HTTP/2 connections aside. From 64 MiB on reads are small.";
        TLS_RUNNING "tidegate_tls_handshakes_running" Gauge ["worker"] "TLS handshakes in progress.";
        WORKER_CPU "tidegate_worker_cpu_seconds_total" Counter ["worker"] "Processor time of the worker's thread.";
        LOOP_TICKS "tidegate_loop_ticks_total" Counter ["worker"] "Ticks of the worker, ten a second; one that stands still has stalled.";
        LOOP_LAG "tidegate_loop_lag_seconds" Histogram ["worker"] "How late the worker's ticks came.";
        LOOP_LAG_MAX "tidegate_loop_lag_max_seconds" Gauge ["worker"] "The latest tick since the start.";
        PANICS "tidegate_panics_total" Counter ["worker"] "Panics, each confined to one connection. Must be zero.";
        ACCEPT_PAUSES "tidegate_accept_pauses_total" Counter ["worker"] "Times accepting paused because file descriptors ran out.";
        REPORTS_DROPPED "tidegate_worker_reports_dropped_total" Counter ["worker"] "Reports to the control side dropped because its queue was full.";
        WORKERS_STALLED "tidegate_workers_stalled_total" Counter [] "Workers found standing still.";
        WORKERS_REPLACED "tidegate_workers_replaced_total" Counter [] "Workers whose sockets were given to a new one.";

        CONFIG_RELOADS "tidegate_config_reloads_total" Counter ["result"] "Reloads, by result: applied, unchanged, rejected.";
        CONFIG_SUCCESS "tidegate_config_last_reload_success" Gauge [] "1 when the last reload was not rejected.";
        CONFIG_APPLIED "tidegate_config_last_applied_timestamp_seconds" Gauge [] "When the serving configuration was applied.";
        CERTIFICATES_REFUSED "tidegate_tls_certificates_refused_total" Counter [] "Pairs of a certificate and a key in files that a reload refused: what they were before goes on serving.";
        CONFIG_GENERATION "tidegate_config_generation" Gauge [] "Number of the configuration that serves.";
        ACME_ORDERS "tidegate_acme_orders_total" Counter ["result"] "Certificates that were ordered from an authority, by result: issued (the first of its names), renewed, failed.";
        ACME_FAILURES "tidegate_acme_failures_total" Counter ["reason"] "Orders that failed, by reason: unreachable, server (the authority answered with an error of its own, or nonsense), rate_limited, account, refused, challenge (it could not see that a name is ours), certificate (what it issued can't be used), storage, internal.";
        DNS_RESOLUTIONS "tidegate_dns_resolutions_total" Counter ["result"] "Look-ups of names, by result: ok, no_such_name, no_address (the name has none), server_failed, timeout, failed. All but ok keep the last good answer.";
        EVENTS "tidegate_events_total" Counter [] "Events posted.";
        EVENTS_LOST "tidegate_events_lost_total" Counter [] "Events that slow readers missed, summed over readers.";
        LOG_SUPPRESSED "tidegate_log_lines_suppressed_total" Counter [] "Lines of the application log left out by a rate limit.";
        LOG_DROPPED "tidegate_log_lines_dropped_total" Counter [] "Lines of the application log dropped because stderr took none.";
        ADMIN_REQUESTS "tidegate_admin_requests_total" Counter [] "Requests to the admin API.";
        ADMIN_DENIED "tidegate_admin_denied_total" Counter [] "Requests to the admin API refused for their credentials or role.";
        SERIES_CAPPED "tidegate_series_capped_total" Counter [] "Lookups counted under the name other because there were too many series.";

        ACCESS_LOG_RECORDS "tidegate_access_log_records_total" Counter ["result"] "Access records by result: written, dropped (the writer's queue was full), failed (the disk refused them).";
        ACCESS_LOG_BYTES "tidegate_access_log_bytes_total" Counter [] "Bytes written to access logs.";
        ACCESS_LOG_ERRORS "tidegate_access_log_errors_total" Counter [] "Failed opens and writes of access logs.";
        ACCESS_LOG_REOPENS "tidegate_access_log_reopens_total" Counter [] "Access logs reopened on request.";

        CPU "tidegate_process_cpu_seconds_total" Counter [] "Processor time of the process, user and system.";
        MEMORY "tidegate_memory_bytes" Gauge ["kind"] "Memory of the process: resident now, and at its peak.";
        OPEN_FDS "tidegate_process_open_fds" Gauge [] "File descriptors open.";
        MAX_FDS "tidegate_process_max_fds" Gauge [] "File descriptors allowed.";
        THREADS "tidegate_process_threads" Gauge [] "Threads of the process.";
        START_TIME "tidegate_process_start_time_seconds" Gauge [] "When the process started, in Unix time.";
    }
    Live {
        SERVICES "tidegate_services" Gauge ["service" "health"] "Services that registered themselves, by what they say of their health: healthy, warning, critical.";
        BUS_STATE "tidegate_bus_state" Gauge [] "How the bus among gateways is: 0 embedded (a cluster of one), 1 live, 2 degraded, 3 down, 4 resync (being read again). No request waits for it.";
        BUS_UP "tidegate_bus_up" Gauge ["conn"] "1 while this connection to the Redis of the cluster works: cmd (commands), sub (what others announce), hb (heartbeats); absent without one.";
        BUS_RTT "tidegate_bus_rtt_seconds" Gauge [] "The latest round trip to the Redis of the cluster; absent before the first and without one.";
        BUS_LAST_OK "tidegate_bus_last_ok_age_seconds" Gauge [] "Time since the Redis of the cluster last answered; absent before it did and without one.";
        BUS_RECONNECTS "tidegate_bus_reconnects_total" Counter ["reason"] "Connections to the Redis of the cluster that ended or could not be made, by reason: resolve, refused, unreachable, timeout, closed, tls, auth, permission, read_only, no_replicas, loading, busy, cluster_down, no_master, out_of_memory, disk, not_redis, wrong_type, protocol, too_large, deaf (what the gateway tells itself does not arrive), unsubscribed, moved. A reason appears when first counted.";
        BUS_PROBE_FAILURES "tidegate_bus_probe_failures_total" Counter [] "Times that what the gateway tells itself over the Redis of the cluster did not arrive.";
        BUS_ANNOUNCEMENTS "tidegate_bus_announcements_total" Counter ["result"] "What the gateway announced to others: sent, dropped (no connection, or no room).";
        BUS_MESSAGES "tidegate_bus_messages_total" Counter ["result"] "What came on the channels of the cluster: received; duplicate; unknown_version, garbage, forged (not signed by cluster.key), too_large, which are passed over.";
        BUS_GAPS "tidegate_bus_seq_gaps_total" Counter [] "Times that announcements of another gateway were missed, and what they are about was read again.";
        BUS_OVERFLOWS "tidegate_bus_overflows_total" Counter [] "Announcements that a part of this gateway was too slow for.";
        BUS_FLUSHES "tidegate_bus_flushes_total" Counter [] "Times that the Redis of the cluster was found to have lost what it had.";
        CLUSTER_MEMBERS "tidegate_cluster_members" Gauge ["state"] "Gateways of the cluster, this one counted, by state: alive, suspect, draining.";
        CLUSTER_FLAPS "tidegate_cluster_member_flaps_total" Counter [] "Gateways that joined, left, or gave no sign of life any more.";
        CLUSTER_PINGS "tidegate_cluster_pings_total" Counter ["result"] "Questions among gateways whether they live (cluster.ping): answered, refused (nobody listens there), silent (no answer in time), garbage (something else answers there), forged (not signed by cluster.key, or an answer to another question); of others' questions: served, rejected (not signed by cluster.key, or for another gateway). Absent without it.";
        CLUSTER_LEASE "tidegate_cluster_lease" Gauge ["task"] "1 where this gateway does a chore that only one does, 0 where another does.";
        CLUSTER_CONFIG "tidegate_cluster_config_version" Gauge [] "Version of the configuration that the cluster shares; 0 for none.";
        CFG_VERSION "tidegate_cfg_version" Gauge [] "Version of the cluster's configuration that this gateway has in force; 0 while it goes by its own file.";
        CFG_LAG "tidegate_cfg_lag_seconds" Gauge [] "How long the cluster has a configuration that this gateway has not in force; 0 while it has not.";
        ENDPOINT_READY "tidegate_endpoint_ready" Gauge ["upstream" "endpoint"] "1 when the endpoint may be picked.";
        ENDPOINT_WEIGHT "tidegate_endpoint_weight" Gauge ["upstream" "endpoint"] "Weight of the endpoint.";
        ENDPOINT_IN_FLIGHT "tidegate_endpoint_in_flight" Gauge ["upstream" "endpoint"] "Requests the endpoint is working on.";
        ENDPOINT_TUNNELS "tidegate_endpoint_tunnels" Gauge ["upstream" "endpoint"] "Tunnels open to the endpoint.";
        ENDPOINT_DRAIN_SECONDS "tidegate_endpoint_drain_seconds" Gauge ["upstream" "endpoint"] "Time until the last tunnel of an endpoint that takes nothing new will have been asked to go, or cut; absent where nobody knows.";
        ENDPOINT_DRAIN_LEFT "tidegate_endpoint_drain_left" Gauge ["upstream" "endpoint"] "Requests and tunnels left at an endpoint that takes nothing new, as an operator asked.";
        REBALANCE_SURPLUS "tidegate_upstream_rebalance_surplus" Gauge ["upstream"] "Tunnels above the threshold of `rebalance`, over all endpoints; absent unless tunnels are being asked to go because an endpoint joined.";
        REBALANCE_ASKED "tidegate_upstream_rebalance_asked" Gauge ["upstream"] "Tunnels asked to go so far because an endpoint joined; absent unless some are.";
        ENDPOINT_HEALTH "tidegate_endpoint_health" Gauge ["upstream" "endpoint"] "1 while the endpoint passes its checks, 0 while it fails them or none has ended; absent where nobody checks.";
        ENDPOINT_HELD "tidegate_endpoint_held" Gauge ["upstream" "endpoint"] "1 while the endpoint is out, whatever its checks say now, because they passed and failed by turns (health.max_hold); absent where nobody checks.";
        ENDPOINT_FLAPS "tidegate_endpoint_flaps_total" Counter ["upstream" "endpoint"] "Times the endpoint failed its checks again soon after it had passed them, and was held; absent where nobody checks.";
        HEALTH_PROBES "tidegate_health_probes_total" Counter ["upstream" "endpoint" "result"] "Probes, by result: passed, or why not: connect_failed, connect_timeout, timeout, closed, malformed, status, body, too_large, handshake (of a WebSocket), tls_failed, grpc (its health service says another word than SERVING).";
        HEALTH_PROBES_SKIPPED "tidegate_health_probes_skipped_total" Counter ["upstream" "endpoint"] "Probes left out because other gateways of the cluster made them (health.share).";
        HEALTH_PROBE_DURATION "tidegate_health_probe_seconds" Histogram ["upstream" "endpoint"] "How long probes took that passed, connecting included.";
        UPSTREAM_UNVERIFIED "tidegate_upstream_tls_unverified" Gauge ["upstream"] "1 where endpoints are spoken to by TLS and need not prove who they are (tls.verify = false), 0 where they must; absent in the clear.";
        UPSTREAM_FAIL_OPEN "tidegate_upstream_fail_open" Gauge ["upstream"] "1 while no endpoint is well and requests are sent to them all the same.";
        ENDPOINT_EJECTED "tidegate_endpoint_ejected" Gauge ["upstream" "endpoint"] "1 while the endpoint gets no requests because requests failed at it.";
        ENDPOINT_EJECTIONS "tidegate_endpoint_ejections_total" Counter ["upstream" "endpoint"] "Times the endpoint was ejected because requests failed at it.";
        BREAKER_STATE "tidegate_breaker_state" Gauge ["upstream"] "Breaker of the upstream: 0 closed, 1 half-open, 2 open.";
        BREAKER_OPENED "tidegate_breaker_opened_total" Counter ["upstream"] "Times the breaker opened.";
        BREAKER_REFUSED "tidegate_breaker_refused_total" Counter ["upstream" "reason"] "Requests turned away before an endpoint was picked: open (the breaker), max_requests (so many were running).";
        QUEUE_WAITING "tidegate_queue_waiting" Gauge ["upstream"] "Requests waiting for an endpoint below its max_connections.";
        QUEUE_REQUESTS "tidegate_queue_requests_total" Counter ["upstream" "result"] "Requests that found every endpoint at its max_connections: served (after a wait), full (the queue was), late (waited in vain).";
        QUEUE_WAIT "tidegate_queue_wait_seconds_total" Counter ["upstream"] "Time that served requests waited, in all.";
        TLS_EXPIRY "tidegate_tls_certificate_expiry_timestamp_seconds" Gauge ["listener" "certificate"] "When a certificate in use runs out, in Unix time, by its file.";
        ACME_NEXT_ORDER "tidegate_acme_next_order_timestamp_seconds" Gauge ["certificate"] "When a certificate is ordered next: renewed, or tried again after a failure.";
        ACME_FAILING "tidegate_acme_failures_in_a_row" Gauge ["certificate"] "Orders of a certificate that failed since one succeeded.";
        DRAIN_SECONDS "tidegate_drain_seconds" Gauge [] "Time until what is left is cut; absent unless the gateway is shutting down.";
        DRAINING "tidegate_draining" Gauge [] "1 while the gateway is shutting down.";
    }
}

/// The catalogue as a page of documentation.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from the catalogue in the code; a test holds it equal. Served at `/metrics` of the admin\n\
         listener, as Prometheus text or, when asked for by `Accept`, as OpenMetrics.\n\n\
         Label values are names from the configuration and words from fixed lists, never a client's. Beyond\n\
         4096 listeners, routes (per upstream) or endpoints the rest is counted as `other`. Requests that match\n\
         no route have the route `-`; requests that reach no upstream have an empty one. Labels by error token\n\
         appear when first counted. Times are in seconds.\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for family in ALL {
        let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let _infallible = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.name(),
            labels.join(" "),
            family.help
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_page_equals_the_catalogue() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/METRICS.md");
        if std::env::var_os("TIDEGATE_REFRESH").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == markdown(),
            "config/METRICS.md is old: run the tests with TIDEGATE_REFRESH=1"
        );
    }

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let names: BTreeSet<_> = ALL.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            assert!(family.name.starts_with("tidegate_"), "{}", family.name);
            assert_eq!(
                family.kind == Kind::Counter,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
            assert!(!family.help.contains(['\\', '\n', '"', '|']), "{}", family.name);
            if family.kind == Kind::Histogram {
                assert!(family.name.ends_with("_seconds"), "{}", family.name);
            }
        }
    }
}
