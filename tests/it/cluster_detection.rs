//! How fast several gateways agree: on a server that dies, and on one of them that does. The times are their own, of
//! one machine's clock; a busy machine makes them longer, so that they are held to several times the goal.
//! `benches/failover` publishes them.

use crate::app_server::Server;
use crate::cluster_kit::await_members;
use crate::gateway;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use testkit::gateway::Sig;
use testkit::redis::{self, Redis};
use testkit::{Gateway, eventually, eventually_some};

const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@a@", "@b@"]
health = { @health@ }
[cluster]
redis = "@redis@"
node = "@node@"
"#;

const NODES: [&str; 3] = ["gw-a", "gw-b", "gw-c"];

/// Three gateways in front of two servers, each with checks of its own.
fn three(redis: &Redis, servers: &[Server; 2], health: [&str; 3]) -> [Gateway; 3] {
    let mut health = health.iter();
    let gateways = NODES.map(|node| {
        gateway(CONFIG)
            .with("a", servers[0].address())
            .with("b", servers[1].address())
            .with("health", health.next().expect("one for each"))
            .with("redis", redis.url())
            .with("node", node)
            .start()
    });
    for gateway in &gateways {
        await_members(gateway, &NODES);
        for server in servers {
            eventually("it is well", || {
                gateway.endpoint(&server.address())["state"] == "active"
            });
        }
    }
    gateways
}

/// When a gateway wrote down the first event of this kind about something.
#[track_caller]
fn written(gateway: &Gateway, kind: &str, about: &str) -> (Timestamp, Value) {
    eventually_some(&format!("{kind} of {about}"), || {
        let events = gateway.events(kind);
        let event = events.iter().find(|event| event["target"] == about)?;
        let at = event["ts"].as_str()?.parse().ok()?;
        Some((at, event["data"].clone()))
    })
}

/// A line for `benches/failover`, as `detection` has them.
fn publish(what: &str, own: Duration, from_the_signal: Duration) {
    let (own, all) = (own.as_millis(), from_the_signal.as_millis());
    eprintln!("figure: {what}: {own} ms, {all} ms");
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

/// From the first gateway's decision to the last one's, and to that from the signal.
fn spread(gateways: &[Gateway], server: &Server, signalled: Timestamp) -> (Duration, Duration) {
    let target = format!("app/{}", server.address());
    let decided: Vec<Timestamp> = gateways
        .iter()
        .map(|gateway| written(gateway, "endpoint.unhealthy", &target).0)
        .collect();
    let first = *decided.iter().min().expect("three");
    let last = *decided.iter().max().expect("three");
    (between(first, last), between(signalled, last))
}

const GOAL: Duration = Duration::from_millis(100);

/// Row 16 of the failure matrix.
#[test]
fn a_server_that_is_killed_is_avoided_by_every_gateway_a_moment_after_the_first_one() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let mut servers = [Server::start("a"), Server::start("b")];
    let often = "interval = \"5m\", jitter = 0.0, fast_interval = \"200ms\", timeout = \"1s\", fall = 3";
    let gateways = three(&redis, &servers, [often; 3]);
    let signalled = Timestamp::now();
    servers[0].kill();
    let (spread, all) = spread(&gateways, &servers[0], signalled);
    publish("kill -9 idle, first of 3 gateways to last", spread, all);
    assert!(spread <= 10 * GOAL, "{spread:?}");
    for gateway in &gateways {
        assert_eq!(gateway.get("/whoami").status, 200);
    }
}

#[test]
fn gateways_that_would_not_have_looked_for_minutes_avoid_it_because_one_has_seen_it() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let mut servers = [Server::start("a"), Server::start("b")];
    // No connection is kept that would tell of its end, and only one of them looks.
    let often = "kind = \"tcp\", interval = \"200ms\", timeout = \"1s\", fall = 3";
    let seldom = "kind = \"tcp\", interval = \"5m\", jitter = 0.0, timeout = \"1s\", fall = 3";
    let gateways = three(&redis, &servers, [often, seldom, seldom]);
    let signalled = Timestamp::now();
    servers[0].kill();
    let (spread, all) = spread(&gateways, &servers[0], signalled);
    publish("kill -9 seen by one of 3 gateways, to last", spread, all);
    assert!(spread <= 10 * GOAL, "{spread:?}");
    let target = format!("app/{}", servers[0].address());
    for gateway in &gateways[1..] {
        assert_eq!(gateway.events("endpoint.unhealthy").len(), 1);
        let (_, data) = written(gateway, "endpoint.unhealthy", &target);
        assert_eq!(data["trigger"], "active", "by its own eyes: {data}");
    }
}

/// Row 13 of the failure matrix, as far as its members know.
#[test]
fn a_gateway_that_is_killed_is_gone_from_the_others_lists_in_its_time() {
    const GONE_AFTER: Duration = Duration::from_secs(3);
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let servers = [Server::start("a"), Server::start("b")];
    let [one, two, three] = three(&redis, &servers, ["interval = \"5m\""; 3]);
    let signalled = Timestamp::now();
    three.signal(Sig::KILL);
    let told = [&one, &two].map(|gateway| written(gateway, "cluster.gone", NODES[2]));
    let silent = told
        .iter()
        .filter_map(|(_, data)| data["silent_ms"].as_u64())
        .max();
    let silent = Duration::from_millis(silent.expect("silent_ms"));
    let last = told.iter().map(|(at, _)| *at).max().expect("two");
    publish("kill -9 of a gateway", silent, between(signalled, last));
    assert!(silent >= GONE_AFTER && silent <= 2 * GONE_AFTER, "{silent:?}");
    for gateway in [&one, &two] {
        await_members(gateway, &NODES[..2]);
    }
}
