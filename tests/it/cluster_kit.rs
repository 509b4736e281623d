//! Gateways that share a Redis, for the tests of that.

use crate::gateway;
use serde_json::Value;
use std::time::{Duration, Instant};
use testkit::{Backend, Builder, Gateway, eventually};

/// A gateway named `@node@` on `@redis@`, in front of `@app@`.
pub const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@app@"]
[cluster]
redis = "@redis@"
node = "@node@"
@more@
"#;

/// One that is not started yet.
#[must_use]
pub fn node(name: &str, redis: &str, app: &Backend) -> Builder {
    with(name, redis, app, "")
}

/// One with further keys of `[cluster]`.
#[must_use]
pub fn with(name: &str, redis: &str, app: &Backend, more: &str) -> Builder {
    gateway(CONFIG)
        .with("more", more)
        .with("node", name)
        .with("redis", redis)
        .with("app", app.address())
}

/// What a gateway says of the cluster.
#[must_use]
pub fn cluster(gateway: &Gateway) -> Value {
    gateway.stats()["cluster"].clone()
}

/// The others and itself, by name.
#[must_use]
pub fn members(gateway: &Gateway) -> Vec<String> {
    let cluster = cluster(gateway);
    let members = cluster["members"].as_array().expect("members");
    let mut names: Vec<String> = members
        .iter()
        .map(|member| member["node"].as_str().expect("node").to_owned())
        .collect();
    names.sort();
    names
}

/// The condition of the bus, and why.
#[must_use]
pub fn bus(gateway: &Gateway) -> (String, String) {
    let bus = cluster(gateway)["bus"].clone();
    let word = |key: &str| bus[key].as_str().unwrap_or_default().to_owned();
    (word("condition"), word("reason"))
}

/// Waits for a condition of the bus and gives the time that took.
#[track_caller]
pub fn await_bus(gateway: &Gateway, condition: &str) -> Duration {
    let begin = Instant::now();
    eventually(&format!("the bus is {condition}"), || bus(gateway).0 == condition);
    begin.elapsed()
}

/// Waits until a gateway sees exactly these and gives the time that took.
#[track_caller]
pub fn await_members(gateway: &Gateway, names: &[&str]) -> Duration {
    let begin = Instant::now();
    eventually(&format!("{names:?} are there"), || members(gateway) == names);
    begin.elapsed()
}

/// How many events of this kind are about this node.
#[must_use]
pub fn events_about(gateway: &Gateway, kind: &str, node: &str) -> usize {
    let events = gateway.events(kind);
    events.iter().filter(|event| event["target"] == node).count()
}

/// Proxied requests that go on while something happens: every one of them is answered.
#[track_caller]
pub fn serves(gateway: &Gateway) {
    for _ in 0..20 {
        let answer = gateway.get("/");
        assert_eq!(answer.status, 200, "{answer}");
    }
}
