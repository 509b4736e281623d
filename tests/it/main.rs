//! The gateway as its users meet it: the real binary, real sockets, real files. One file per behaviour; a test
//! carries the configuration it needs.

// Helpers of tests are tests too, but clippy knows only functions marked as such.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::string_slice,
    clippy::let_underscore_must_use
)]

use testkit::{Backend, Builder, Gateway};

mod access_log;
mod acme;
mod acme_faults;
mod acme_real;
mod admin;
mod app_server;
mod bad_answers;
mod bad_input;
mod bad_upstreams;
mod balancing;
mod both_ways;
mod both_ways_kit;
mod breaker;
mod changes;
mod changes_asked;
mod changes_kept;
mod changes_kit;
mod check;
mod cli;
mod cluster_config;
mod cluster_contract;
mod cluster_detection;
mod cluster_hostile;
mod cluster_keys;
mod cluster_kit;
mod cluster_members;
mod cluster_operator;
mod cluster_outputs;
mod cluster_ping;
mod cluster_probing;
mod cluster_published;
mod cluster_published_faults;
mod cluster_published_refused;
mod cluster_purge;
mod cluster_redis;
mod cluster_sentinel;
mod cluster_sessions;
mod cluster_sharing;
mod clustering_api;
mod compose;
mod config_examples;
mod dashboard;
mod detection;
mod differential;
mod drain;
mod drills;
mod errors;
mod event_log;
mod explain;
mod explain_tls;
mod failover;
mod fds;
mod flapping;
mod forwarding;
mod framing;
mod grpc;
mod grpc_errors;
mod grpc_health;
mod grpc_kit;
mod grpc_peers;
mod grpc_tls;
mod h2_client;
mod h2_server;
mod h2_upstream;
mod h2_upstream_faults;
mod h2_upstream_peers;
mod h2_upstream_pool;
mod headers;
mod health;
mod health_kit;
mod health_probes;
mod http2;
mod http2_abuse;
mod http2_hostile;
mod http2_life;
mod http2_rules;
mod interim;
mod keep_alive;
mod kit;
mod large_bodies;
mod lasting;
mod limits;
mod listeners;
mod matrix_backends;
mod matrix_clocks;
mod matrix_gateways;
mod matrix_kit;
mod matrix_network;
mod matrix_versions;
mod names;
mod outlier;
mod passthrough;
mod passthrough_ends;
mod proxy_protocol;
mod proxy_protocol_out;
mod proxy_protocol_peers;
mod queue;
mod readme;
mod rebalance;
mod reload;
mod retries;
mod rewrites;
mod routing;
mod services;
mod slow_start;
mod sticky;
mod sticky_gateways;
mod sticky_h2;
mod sticky_learn;
mod sticky_moves;
mod streaming;
mod timeouts;
mod tls;
mod tls_bad_input;
mod tls_clients;
mod tls_only;
mod tls_peers;
mod tls_reload;
mod tunnel;
mod tunnel_drain;
mod tunnel_reload;
mod tunnels;
mod upstream_tls;
mod upstream_tls_faults;
mod vanished;
mod websocket;
mod websocket_bad_input;
mod websocket_browser;
mod websocket_frames;
mod websocket_h2;
mod websocket_h2_upstream;
mod websocket_h2_upstream_ends;
mod workers;

/// The binary under test: the one just built, or another one named by `TIDEGATE_TEST_BINARY`.
fn binary() -> String {
    std::env::var("TIDEGATE_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tidegate").to_owned())
}

/// A gateway with this configuration.
fn gateway(config: &str) -> Builder {
    Gateway::builder(&binary()).config(config)
}

/// One listener, `web`, that sends everything to `@app@`.
const PLAIN: &str = r#"
[listeners.web]
address = "127.0.0.1:0"

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = [{ address = "@app@" }]
"#;

/// A gateway that sends everything to one backend.
fn in_front_of(backend: &Backend) -> Gateway {
    gateway(PLAIN).with("app", backend.address()).start()
}
