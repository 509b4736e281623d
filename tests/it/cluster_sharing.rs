//! What gateways share over Redis: overrides, registrations, verdicts, secrets, events; while it is there, while it is
//! away, and when it comes back empty.

use crate::gateway;
use serde_json::{Value, json};
use testkit::redis::{self, Redis};
use testkit::{Backend, Gateway, Response, eventually, eventually_some};

const TOKEN: &str = "operator-operator-operator";
const KEY: &str = "0123456789abcdef0123456789abcdef";

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
paths = ["/registered"]
upstream = "registered"
[[routes]]
paths = ["/sticky"]
upstream = "sticky"
[[routes]]
upstream = "app"
timeouts = { connect = "300ms" }
[upstreams.app]
endpoints = ["@a@", "@b@"]
health = { path = "/health", interval = "@interval@", timeout = "300ms", fall = 3, rise = 1 }
retry = { attempts = 2 }
[upstreams.sticky]
endpoints = ["@a@", "@b@"]
sticky = { cookie = "at" }
[upstreams.registered]
discover = { registry = { service = "registered" } }
[cluster]
redis = "@redis@"
node = "@node@"
key = "env:CLUSTER_KEY"
heartbeat = "200ms"
gone_after = "1s"
[runtime]
workers = 1
state_dir = "@state@"
[admin]
address = "127.0.0.1:0"
tokens = [{ name = "ops", role = "operator", token = "env:TOKEN" }]
"#;

struct Node {
    gateway: Gateway,
    state: tempfile::TempDir,
    name: &'static str,
}

struct Scene {
    a: Backend,
    b: Backend,
    redis: Redis,
    interval: &'static str,
}

impl Scene {
    /// `None` where there is no Redis to test with.
    fn new() -> Option<Self> {
        Self::checked_every("1h")
    }

    fn checked_every(interval: &'static str) -> Option<Self> {
        redis::installed().then(|| Self {
            a: Backend::text("a"),
            b: Backend::text("b"),
            redis: Redis::start(),
            interval,
        })
    }

    fn node(&self, name: &'static str) -> Node {
        self.node_in(name, tempfile::tempdir().expect("directory"))
    }

    fn node_in(&self, name: &'static str, state: tempfile::TempDir) -> Node {
        let gateway = gateway(CONFIG)
            .env("TOKEN", TOKEN)
            .env("CLUSTER_KEY", KEY)
            .token(TOKEN)
            .with("a", self.a.address())
            .with("b", self.b.address())
            .with("interval", self.interval)
            .with("redis", self.redis.url())
            .with("node", name)
            .with("state", state.path().display())
            .start();
        Node { gateway, state, name }
    }

    fn restarted(&self, node: Node) -> Node {
        assert_eq!(node.gateway.stop(), Some(0));
        self.node_in(node.name, node.state)
    }
}

impl Node {
    fn put(&self, path: &str, body: &Value) -> Response {
        let answer = self.gateway.admin_call("PUT", path, "", &body.to_string());
        assert_eq!(answer.status, 200, "{answer}");
        answer
    }

    fn post(&self, path: &str, body: &Value) -> Response {
        self.gateway.admin_call("POST", path, "", &body.to_string())
    }

    fn drain(&self, backend: &Backend, reason: &str) {
        let path = format!("/api/v1/upstreams/app/endpoints/{}", backend.address());
        self.put(&path, &json!({ "state": "draining", "reason": reason }));
    }

    fn overrides(&self) -> Value {
        self.gateway.admin_get("/api/v1/overrides").json()
    }

    fn state_of(&self, backend: &Backend) -> String {
        let endpoint = self.gateway.endpoint(&backend.address());
        endpoint["state"].as_str().unwrap_or_default().to_owned()
    }

    fn sees(&self, backend: &Backend, state: &str) {
        eventually(&format!("{} sees it {state}", self.name), || {
            self.state_of(backend) == state
        });
    }

    fn weighs(&self, backend: &Backend, weight: u64) {
        let seen = || self.gateway.endpoint(&backend.address())["weight"] == weight;
        eventually(&format!("{} weighs it {weight}", self.name), seen);
    }

    fn bus_is(&self, state: &str) {
        eventually(&format!("the bus of {} is {state}", self.name), || {
            self.gateway.stats()["cluster"]["bus"]["condition"] == state
        });
    }
}

#[test]
fn what_an_operator_sets_on_one_gateway_holds_on_all_and_can_be_taken_back_on_any() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    one.drain(&scene.a, "new disk");
    two.sees(&scene.a, "draining");
    let told = two.overrides().to_string();
    assert!(
        told.contains("new disk") && told.contains("token ops"),
        "who and why: {told}"
    );
    assert!((0..4).all(|_| two.gateway.get("/").text() == "b"));
    let weight = format!("/api/v1/upstreams/app/endpoints/{}", scene.b.address());
    two.put(&weight, &json!({ "weight": 7 }));
    one.weighs(&scene.b, 7);
    two.put(
        "/api/v1/upstreams/app/balance",
        &json!({ "balance": "least_connections" }),
    );
    eventually("the algorithm is the same", || {
        one.gateway.admin_get("/api/v1/upstreams/app").json()["balance"] == "least_connections"
    });
    let path = format!("/api/v1/upstreams/app/endpoints/{}", scene.a.address());
    assert_eq!(two.gateway.admin_call("DELETE", &path, "", "").status, 200);
    one.sees(&scene.a, "active");
    let three = scene.node("gw-3");
    three.weighs(&scene.b, 7);
    assert_eq!(
        three.state_of(&scene.a),
        "active",
        "what was taken back is not there for a new one"
    );
    let audit = three.gateway.admin_get("/api/v1/audit").text();
    assert!(
        audit.contains("overrides.share") && audit.contains("cluster gw-2"),
        "{audit}"
    );
}

#[test]
fn changes_made_apart_come_together_and_the_later_one_wins() {
    let Some(mut scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    one.drain(&scene.a, "first");
    two.sees(&scene.a, "draining");
    scene.redis.kill();
    one.bus_is("down");
    two.bus_is("down");
    let path = format!("/api/v1/upstreams/app/endpoints/{}", scene.b.address());
    one.put(&path, &json!({ "weight": 3 }));
    two.put(&path, &json!({ "weight": 5 }));
    let back = format!("/api/v1/upstreams/app/endpoints/{}", scene.a.address());
    two.put(&back, &json!({ "state": "active" }));
    assert_eq!(one.gateway.get("/").status, 200, "nobody waits for Redis");
    // It lost all it had: what the gateways know is written again.
    scene.redis.start_again();
    one.weighs(&scene.b, 5);
    one.sees(&scene.a, "active");
    assert_eq!(two.gateway.endpoint(&scene.b.address())["weight"], 5);
}

#[test]
fn overrides_outlive_the_restart_of_a_gateway_and_what_changed_meanwhile_wins() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    one.drain(&scene.a, "disk");
    let weight = format!("/api/v1/upstreams/app/endpoints/{}", scene.b.address());
    one.put(&weight, &json!({ "weight": 9 }));
    two.sees(&scene.a, "draining");
    two.weighs(&scene.b, 9);
    assert_eq!(one.gateway.stop(), Some(0));
    let path = format!("/api/v1/upstreams/app/endpoints/{}", scene.a.address());
    two.put(&path, &json!({ "state": "active" }));
    let one = scene.node_in("gw-1", one.state);
    one.sees(&scene.a, "active");
    one.weighs(&scene.b, 9);
    assert_eq!(
        two.state_of(&scene.a),
        "active",
        "the old word is not heard again"
    );
}

#[test]
fn a_flush_loses_nothing() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    one.drain(&scene.a, "disk");
    two.sees(&scene.a, "draining");
    assert_eq!(scene.redis.ask(&["FLUSHALL"]).trim(), "OK");
    let three = scene.node("gw-3");
    three.sees(&scene.a, "draining");
    assert_eq!(
        (one.state_of(&scene.a), two.state_of(&scene.a)),
        ("draining".into(), "draining".into())
    );
}

#[test]
fn garbage_in_the_store_and_on_the_channel_changes_nothing() {
    let Some(scene) = Scene::new() else { return };
    let one = scene.node("gw-1");
    one.drain(&scene.a, "disk");
    eventually("it is in the store", || {
        !scene.redis.ask(&["KEYS", "*overrides*"]).is_empty()
    });
    let keys = scene.redis.ask(&["KEYS", "*overrides*"]);
    for key in keys.split_whitespace().filter(|key| key.contains("overrides")) {
        let _kind_does_not_matter = scene.redis.try_ask(&["HSET", key, "state|app|x", "garbage"]);
        let _kind_does_not_matter = scene.redis.try_ask(&["HSET", key, "{}", "\u{1}\u{2}"]);
    }
    let two = scene.node("gw-2");
    eventually("it is serving", || two.gateway.get("/").status == 200);
    assert_eq!(one.state_of(&scene.a), "draining");
}

#[test]
fn a_server_that_registers_with_one_gateway_is_an_endpoint_of_all() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    let server = Backend::text("here");
    let body =
        json!({ "id": "s1", "name": "registered", "address": server.address().to_string(), "ttl": "2s" });
    assert_eq!(one.post("/api/v1/services", &body).status, 201);
    eventually("the other one has it", || {
        two.gateway.get("/registered").text() == "here"
    });
    for n in 0..6 {
        // Heartbeats go to any of them.
        let to = if n % 2 == 0 { &one } else { &two };
        let beat = to.post("/api/v1/services/s1/heartbeat", &json!({}));
        assert_eq!(beat.status, 200, "{beat}");
    }
    let removed = two.gateway.admin_call("DELETE", "/api/v1/services/s1", "", "");
    assert_eq!(removed.status, 200, "{removed}");
    eventually("it is gone at the first", || {
        one.gateway.get("/registered").status == 503
    });
    assert_eq!(one.post("/api/v1/services", &body).status, 201);
    eventually("it is back", || two.gateway.get("/registered").text() == "here");
    eventually("its time is over at both", || {
        one.gateway.get("/registered").status == 503 && two.gateway.get("/registered").status == 503
    });
}

#[test]
fn while_redis_is_away_registrations_made_elsewhere_stay() {
    let Some(mut scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    let server = Backend::text("here");
    let body =
        json!({ "id": "s1", "name": "registered", "address": server.address().to_string(), "ttl": "1s" });
    assert_eq!(one.post("/api/v1/services", &body).status, 201);
    eventually("the other one has it", || {
        two.gateway.get("/registered").text() == "here"
    });
    scene.redis.kill();
    two.bus_is("down");
    let since = std::time::Instant::now();
    eventually("more than its time passes", || {
        assert_eq!(one.post("/api/v1/services/s1/heartbeat", &json!({})).status, 200);
        assert_eq!(two.gateway.get("/registered").text(), "here");
        since.elapsed().as_millis() > 2500
    });
}

#[test]
fn what_one_gateway_finds_down_the_others_look_at_at_once() {
    let Some(scene) = Scene::new() else { return };
    // It falls silent, so that no connection that ends tells of it.
    let relay = testkit::Relay::to(scene.a.address());
    let states = [(); 2].map(|()| tempfile::tempdir().expect("directory"));
    let start = |name: &str, interval: &str, state: &tempfile::TempDir| {
        gateway(CONFIG)
            .env("TOKEN", TOKEN)
            .env("CLUSTER_KEY", KEY)
            .token(TOKEN)
            .with("a", relay.address())
            .with("b", scene.b.address())
            .with("interval", interval)
            .with("redis", scene.redis.url())
            .with("node", name)
            .with("state", state.path().display())
            .start()
    };
    // The second probes once an hour, and asks for three failures in a row.
    let (one, two) = (
        start("gw-1", "100ms", &states[0]),
        start("gw-2", "1h", &states[1]),
    );
    let state = |node: &Gateway| node.endpoint(&relay.address())["state"].clone();
    for node in [&one, &two] {
        eventually("it is well", || state(node) == "active");
        eventually("the bus is live", || {
            node.stats()["cluster"]["bus"]["condition"] == "live"
        });
    }
    relay.set(testkit::Fault::Blackhole);
    eventually("the first finds it", || state(&one) == "unhealthy");
    eventually("the second has looked", || state(&two) == "unhealthy");
    assert_eq!(two.events("endpoint.unhealthy").len(), 1, "by its own eyes");
}

#[test]
fn what_is_down_for_one_alone_is_not_for_others() {
    let Some(scene) = Scene::checked_every("100ms") else {
        return;
    };
    let relay = testkit::Relay::to(scene.a.address());
    let two = scene.node("gw-2");
    // The first one has another way to it, and that is broken.
    let state = tempfile::tempdir().expect("directory");
    let config = CONFIG.replacen("[\"@a@\", \"@b@\"]", "[\"@a@\", \"@b@\", \"@r@\"]", 1);
    let one = gateway(&config)
        .env("TOKEN", TOKEN)
        .env("CLUSTER_KEY", KEY)
        .token(TOKEN)
        .with("a", scene.a.address())
        .with("b", scene.b.address())
        .with("r", relay.address())
        .with("interval", "100ms")
        .with("redis", scene.redis.url())
        .with("node", "gw-1")
        .with("state", state.path().display())
        .start();
    relay.refuse();
    eventually("it is down there", || {
        one.endpoint(&relay.address())["state"] == "unhealthy"
    });
    let verdicts = eventually_some("the vote is told", || {
        let told = two.gateway.admin_get("/api/v1/clustering/verdicts").json();
        let list = told["verdicts"].as_array()?.clone();
        (!list.is_empty()).then_some(list)
    });
    assert_eq!(verdicts[0]["down"], json!(["gw-1"]), "{verdicts:?}");
    assert_eq!(two.state_of(&scene.a), "active");
}

#[test]
fn a_sticky_cookie_of_one_gateway_leads_to_the_same_endpoint_through_another() {
    let Some(scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    for node in [&one, &two] {
        eventually("the cluster's key is in use", || {
            !node.gateway.events("keys.sticky").is_empty()
        });
    }
    let cookie_of = |answer: &Response| {
        let set = answer.header("set-cookie").expect("a cookie").to_owned();
        set.split(';').next().expect("a value").to_owned()
    };
    let honours = |node: &Node, cookie: &str, text: &str| {
        let request = format!("GET /sticky HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n");
        (0..6).all(|_| node.gateway.send(&request).text() == text)
    };
    for (made, used) in [(&one, &two), (&two, &one)] {
        let answer = made.gateway.get("/sticky");
        let (cookie, text) = (cookie_of(&answer), answer.text());
        eventually("it is honoured elsewhere", || honours(used, &cookie, &text));
    }
    let answer = one.gateway.get("/sticky");
    let (cookie, text) = (cookie_of(&answer), answer.text());
    let three = scene.node("gw-3");
    eventually("a new one honours it", || honours(&three, &cookie, &text));
    let stored = scene.redis.ask(&["KEYS", "*keys*"]);
    assert!(stored.contains("keys"), "{stored}");
    let one = scene.restarted(one);
    eventually("and after a restart", || honours(&one, &cookie, &text));
}

#[test]
fn events_of_all_gateways_are_in_one_log_also_those_from_while_redis_was_away() {
    let Some(mut scene) = Scene::new() else { return };
    let (one, two) = (scene.node("gw-1"), scene.node("gw-2"));
    let log = |node: &Node, query: &str| -> Vec<Value> {
        let answer = node
            .gateway
            .admin_get(&format!("/api/v1/events?scope=cluster&{query}"));
        if answer.status == 503 {
            return Vec::new();
        }
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()["events"].as_array().expect("events").clone()
    };
    one.bus_is("live");
    one.drain(&scene.a, "disk");
    let found = eventually_some("the other one's event", || {
        log(&two, "type=endpoint.draining").pop()
    });
    assert_eq!(
        (&found["node"], found.get("late")),
        (&json!("gw-1"), None),
        "{found}"
    );
    scene.redis.pause();
    one.bus_is("down");
    let weight = format!("/api/v1/upstreams/app/endpoints/{}", scene.b.address());
    one.put(&weight, &json!({ "weight": 4 }));
    assert_eq!(one.gateway.admin_get("/api/v1/events?scope=cluster").status, 503);
    scene.redis.resume();
    let late = eventually_some("it is appended later", || {
        log(&two, "type=endpoint.weighed").pop()
    });
    assert_eq!(late["node"], "gw-1", "{late}");
    let _restarted = &mut scene;
}
