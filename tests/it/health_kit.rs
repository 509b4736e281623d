//! Endpoints that are checked, for the tests of that.

use crate::gateway;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::{Address, Backend, Builder, Gateway, Reply, Request, eventually_some};

/// Quick enough for a test, slow enough for a busy machine.
pub(crate) const QUICK: &str =
    r#"path = "/health", interval = "60ms", fast_interval = "20ms", timeout = "2s", rise = 2, fall = 2"#;

/// One upstream with these checks and endpoints.
pub(crate) fn config(health: &str, endpoints: &[Address]) -> String {
    let mut list = String::new();
    for endpoint in endpoints {
        write!(list, "\"{endpoint}\", ").unwrap();
    }
    format!(
        r#"
        runtime = {{ workers = 1 }}
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{list}]
        health = {{ {health} }}
        "#
    )
}

pub(crate) fn checked(health: &str, endpoints: &[Address]) -> Builder {
    gateway(&config(health, endpoints))
}

/// Answers `/health` as told, and everything else with its name.
pub(crate) fn named(
    name: &'static str,
    health: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Backend {
    Backend::http(move |request| match request.target.as_str() {
        "/health" => health(request),
        _ => Reply::ok(name),
    })
}

/// The same, well or not by a switch.
pub(crate) fn switched(name: &'static str) -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&well);
    let backend = named(name, move |_| match now.load(Ordering::SeqCst) {
        true => Reply::ok("ok"),
        false => Reply::new(503, "no"),
    });
    (backend, well)
}

pub(crate) fn upstream(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/upstreams/app").json()
}

#[track_caller]
pub(crate) fn becomes(gateway: &Gateway, address: &Address, state: &str) -> Value {
    eventually_some(&format!("{address} is {state}"), || {
        let endpoint = gateway.endpoint(address);
        (endpoint["health"]["state"] == state).then_some(endpoint)
    })
}

/// Who answered each of so many requests.
pub(crate) fn answers(gateway: &Gateway, n: usize) -> String {
    let mut conn = gateway.connect();
    (0..n).map(|_| conn.get("/").text()).collect()
}

/// Requests that were no probes.
pub(crate) fn served(backend: &Backend) -> usize {
    backend.requests().iter().filter(|r| r.target == "/").count()
}
