//! What an operator of several gateways sees and does: which connection is broken, where a change was made, gateways
//! that left for good, everybody's events as they come.

use crate::cluster_kit::{await_bus, await_members, node};
use crate::event_log::Follower;
use crate::gateway;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::gateway::Sig;
use testkit::redis::{self, Redis};
use testkit::{Backend, Fault, Gateway, Relay, Response, eventually, eventually_some, holds_for};

pub const TOKEN: &str = "admin-admin-admin-admin";
const WATCHES: &str = "viewer-viewer-viewer";

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@app@", "127.0.0.1:1"]
[cluster]
@redis@
node = "@node@"
heartbeat = "200ms"
gone_after = "1s"
[runtime]
workers = 1
[admin]
address = "127.0.0.1:0"
tokens = [
  { name = "ann", role = "admin", token = "env:TOKEN" },
  { name = "eve", role = "viewer", token = "env:WATCHES" },
]
"#;

pub fn started(name: &str, redis: &str, app: &Backend) -> Gateway {
    gateway(CONFIG)
        .env("TOKEN", TOKEN)
        .env("WATCHES", WATCHES)
        .token(TOKEN)
        .with("redis", redis)
        .with("node", name)
        .with("app", app.address())
        .start()
}

/// Two gateways that know of each other.
pub fn pair(redis: &Redis, app: &Backend) -> (Gateway, Gateway) {
    let line = format!("redis = \"{}\"", redis.url());
    let (a, b) = (started("gw-a", &line, app), started("gw-b", &line, app));
    for gateway in [&a, &b] {
        await_bus(gateway, "live");
        await_members(gateway, &["gw-a", "gw-b"]);
    }
    (a, b)
}

pub fn change(gateway: &Gateway, address: &str, wish: &Value) {
    let path = format!("/api/v1/upstreams/app/endpoints/{address}");
    let answer = gateway.admin_call("PUT", &path, "", &wish.to_string());
    assert_eq!(answer.status, 200, "{answer}");
}

pub fn overrides(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/overrides").json()
}

#[test]
fn each_connection_to_the_redis_tells_whether_it_works() {
    if !redis::installed() {
        return;
    }
    let (mut redis, app) = (Redis::start(), Backend::text("app"));
    let relay = Relay::to(redis.address());
    let a = node("gw-a", &format!("redis://{}", relay.address()), &app).start();
    await_bus(&a, "live");
    let up = |connection: &str| {
        let label = format!("tidegate_bus_up{{conn=\"{connection}\"}} ");
        let page = a.metrics();
        let line = page.lines().find_map(|line| line.strip_prefix(&label));
        line.map(str::to_owned)
    };
    let is = |connection: &str, wanted: &str| up(connection).as_deref() == Some(wanted);
    for connection in ["cmd", "sub", "hb"] {
        assert!(is(connection, "1"), "{connection}");
    }
    relay.set(Fault::Mute("tidegate-subscription"));
    eventually("one of them is broken", || is("sub", "0"));
    assert!(is("cmd", "1") && is("hb", "1"), "{}", a.metrics());
    relay.set(Fault::None);
    eventually("it works again", || is("sub", "1"));
    redis.kill();
    eventually("none works", || ["cmd", "sub", "hb"].iter().all(|c| is(c, "0")));
    let alone = crate::in_front_of(&app);
    assert!(!alone.metrics().contains("tidegate_bus_up{"), "there is none");
}

#[test]
fn a_change_names_the_gateway_that_it_was_made_on_everywhere() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = pair(&redis, &app);
    change(
        &a,
        "127.0.0.1:1",
        &json!({ "state": "draining", "reason": "disk" }),
    );
    let of = |gateway: &Gateway| overrides(gateway)["endpoints"][0]["state"].clone();
    eventually("it holds on the other", || of(&b)["value"] == "draining");
    for gateway in [&a, &b] {
        let told = of(gateway);
        assert_eq!(
            (&told["node"], &told["by"]),
            (&json!("gw-a"), &json!("token ann"))
        );
        let status = gateway.cli(&["status"]).expect(0).stdout;
        assert!(status.contains("by token ann on gw-a at "), "{status}");
    }
    let events = b.events("overrides.shared");
    assert_eq!(events[0]["data"]["node"], "gw-a", "{events:?}");
    // Whoever changes it again changes where it was made.
    change(&b, "127.0.0.1:1", &json!({ "weight": 4 }));
    let weight = |gateway: &Gateway| overrides(gateway)["endpoints"][0]["weight"]["node"].clone();
    eventually("the weight is from the other", || weight(&a) == "gw-b");
    assert_eq!(of(&a)["node"], "gw-a");
    change(&b, "127.0.0.1:1", &json!({ "state": "maintenance" }));
    eventually("and so is the state now", || of(&a)["node"] == "gw-b");
}

#[test]
fn one_gateway_alone_names_itself_to_the_api_and_nobody_in_its_status() {
    let app = Backend::text("app");
    let alone = started("gw-1", "", &app);
    change(&alone, "127.0.0.1:1", &json!({ "state": "draining" }));
    assert_eq!(overrides(&alone)["endpoints"][0]["state"]["node"], "gw-1");
    let status = alone.cli(&["status"]).expect(0).stdout;
    assert!(status.contains("by token ann at "), "{status}");
}

fn forget(gateway: &Gateway, node: &str, query: &str) -> Response {
    let path = format!("/api/v1/clustering/nodes/{node}?{query}");
    gateway.admin_call("DELETE", &path, "", "")
}

#[test]
fn a_gateway_that_left_for_good_is_forgotten_with_what_was_changed_on_it() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = pair(&redis, &app);
    let line = format!("redis = \"{}\"", redis.url());
    let c = started("gw-c", &line, &app);
    await_members(&c, &["gw-a", "gw-b", "gw-c"]);
    change(&b, "127.0.0.1:1", &json!({ "state": "draining" }));
    change(&c, &app.address().to_string(), &json!({ "weight": 5 }));
    let all = |gateway: &Gateway| overrides(gateway)["endpoints"].as_array().map_or(0, Vec::len);
    for gateway in [&a, &c] {
        eventually("both changes hold", || all(gateway) == 2);
    }
    assert_eq!(forget(&a, "gw-b", "").status, 409, "it lives");
    assert_eq!(forget(&a, "gw-a", "").status, 409, "so does this one");
    b.signal(Sig::KILL);
    await_members(&a, &["gw-a", "gw-c"]);
    let token = format!("Authorization: Bearer {WATCHES}\r\n");
    let path = "/api/v1/clustering/nodes/gw-b";
    assert_eq!(a.admin_call("DELETE", path, &token, "").status, 403);
    for unknown in ["gw-x", "a%7Bb", "app%2F127.0.0.1:1", "gw-b%0A"] {
        assert_eq!(forget(&a, unknown, "").status, 404, "{unknown}");
    }
    assert_eq!(forget(&a, "gw-b", "overrides=perhaps").status, 400);
    let kept = |key: &str| redis.ask(&["HKEYS", "tidegate:1:default:{c}mi"]).contains(key);
    let trial = forget(&a, "gw-b", "overrides=remove&dry_run=true");
    assert_eq!(trial.status, 200, "{trial}");
    assert_eq!(
        trial.json()["overrides"]["of"],
        json!(["endpoint app/127.0.0.1:1"])
    );
    assert!(kept("gw-b") && all(&a) == 2, "nothing changed");
    // Its changes are the cluster's unless somebody says otherwise.
    let told = a.cli(&["cluster", "forget", "gw-b"]).expect(0).stdout;
    assert!(
        told.contains("gw-b forgotten") && told.contains("kept: endpoint app/"),
        "{told}"
    );
    assert!(!kept("gw-b") && kept("gw-a"));
    assert_eq!(all(&a), 2);
    let done = forget(&a, "gw-b", "overrides=remove");
    assert_eq!(done.json()["overrides"]["fate"], "removed", "{done}");
    for gateway in [&a, &c] {
        eventually("its change is taken back", || all(gateway) == 1);
        assert_eq!(overrides(gateway)["endpoints"][0]["weight"]["node"], "gw-c");
    }
    assert_eq!(
        forget(&a, "gw-b", "overrides=remove").status,
        404,
        "nothing is left of it"
    );
    assert_eq!(
        a.events("cluster.forgotten").len(),
        2,
        "{:?}",
        a.events("cluster.forgotten")
    );
    redis.pause();
    await_bus(&a, "down");
    assert_eq!(forget(&a, "gw-b", "").status, 503);
    redis.resume();
}

fn follower(gateway: &Gateway, target: &str, headers: &str) -> Follower {
    let headers = format!("Accept: text/event-stream\r\nAuthorization: Bearer {TOKEN}\r\n{headers}");
    Follower::of(gateway, target, &headers)
}

#[test]
fn events_of_all_gateways_are_followed_on_any_and_on_from_any_other() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = pair(&redis, &app);
    let target = "/api/v1/events?scope=cluster&type=endpoint.draining,endpoint.weighed,endpoint.maintenance,endpoint.active";
    let mut on_a = follower(&a, target, "");
    change(
        &b,
        "127.0.0.1:1",
        &json!({ "state": "draining", "reason": "disk" }),
    );
    let first = on_a.next();
    assert_eq!(
        (&first.data["type"], &first.data["node"]),
        (&json!("endpoint.draining"), &json!("gw-b"))
    );
    assert_eq!(first.data["cluster_id"], first.id.as_str());
    drop(on_a);
    change(&a, "127.0.0.1:1", &json!({ "weight": 4 }));
    change(&b, "127.0.0.1:1", &json!({ "state": "maintenance" }));
    let mut on_b = follower(&b, target, &format!("Last-Event-ID: {}\r\n", first.id));
    let found = [on_b.next(), on_b.next()];
    let mut told: Vec<(&str, &str)> = found
        .iter()
        .map(|frame| {
            (
                frame.data["node"].as_str().unwrap(),
                frame.data["type"].as_str().unwrap(),
            )
        })
        .collect();
    // Each gateway appends its own.
    told.sort_unstable();
    assert_eq!(
        told,
        [("gw-a", "endpoint.weighed"), ("gw-b", "endpoint.maintenance")]
    );
    // While the log can't be read the stream says so, and goes on afterwards.
    redis.pause();
    let away = on_b.next();
    assert_eq!(away.event, "away", "{away:?}");
    redis.resume();
    await_bus(&b, "live");
    change(&b, "127.0.0.1:1", &json!({ "state": "active" }));
    assert_eq!(on_b.next().data["type"], "endpoint.active");
    let wrong = "Last-Event-ID: yesterday-x\r\n";
    let answer = a.admin_call("GET", "/api/v1/events/stream?scope=cluster", wrong, "");
    assert_eq!(answer.status, 400, "{answer}");
}

#[test]
fn one_gateway_alone_has_the_cluster_s_events_too() {
    let app = Backend::text("app");
    let alone = started("gw-1", "", &app);
    let mut follower = follower(&alone, "/api/v1/events/stream?scope=cluster&type=endpoint", "");
    change(&alone, "127.0.0.1:1", &json!({ "state": "draining" }));
    let event = follower.next();
    assert_eq!(
        (&event.data["node"], &event.data["type"]),
        (&json!("gw-1"), &json!("endpoint.draining"))
    );
    let page = alone
        .admin_get("/api/v1/events?scope=cluster&type=endpoint")
        .json();
    assert_eq!(page["events"][0]["cluster_id"], event.id.as_str(), "{page}");
}

#[test]
fn a_reader_who_takes_nothing_is_told_so_and_ended_and_one_before_all_that_is_kept_is_told_that() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let line = format!("redis = \"{}\"", redis.url());
    let a = started("gw-a", &line, &app);
    await_bus(&a, "live");
    // More than sockets hold.
    let text = "x".repeat(15 << 10);
    for n in 0..1200 {
        let event = json!({ "type": "test.large", "severity": "info", "target": "", "n": n, "reason": text });
        let _id = redis.ask(&["XADD", "tidegate:1:default:{c}ev", "*", "d", &event.to_string()]);
    }
    let mut follower = follower(&a, "/api/v1/events?scope=cluster", "Last-Event-ID: 5-0\r\n");
    assert_eq!(follower.next().event, "lost");
    holds_for(Duration::from_secs(7), "others are served", || {
        a.admin_get("/health").status == 200
    });
    let slow = eventually_some("it is told", || {
        let frame = follower.next();
        (frame.event == "slow").then_some(frame)
    });
    let why = slow.data["reason"].as_str().expect("a reason");
    assert!(why.contains("waited"), "{why}");
}
