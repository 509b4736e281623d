//! Balancing and fail-over as dashboards of clusters know them: the shapes, and that what they say is so.

use crate::gateway;
use serde_json::{Value, json};
use testkit::{Backend, Gateway, Reply, Response, eventually, eventually_some};

const TOKEN: &str = "operator-operator-operator";

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
paths = ["/app"]
upstream = "app"
[[routes]]
upstream = "other"
[upstreams.app]
endpoints = [{ address = "@a@", weight = 3 }, { address = "@b@" }]
health = { path = "/health", interval = "50ms", fast_interval = "20ms", timeout = "1s", fall = 2, rise = 1 }
outlier = { consecutive_failures = 3, eject = "300ms" }
[upstreams.other]
balance = "least_connections"
endpoints = ["@b@"]
[runtime]
workers = 1
state_dir = "@state@"
[admin]
address = "127.0.0.1:0"
tokens = [{ name = "ops", role = "operator", token = "env:TOKEN" }]
"#;

fn started(a: &Backend, b: &Backend, state: &tempfile::TempDir) -> Gateway {
    gateway(CONFIG)
        .env("TOKEN", TOKEN)
        .token(TOKEN)
        .with("a", a.address())
        .with("b", b.address())
        .with("state", state.path().display())
        .start()
}

struct Scene {
    a: Backend,
    b: Backend,
    state: tempfile::TempDir,
    gateway: Gateway,
}

impl Scene {
    fn of(a: Backend, b: Backend) -> Self {
        let state = tempfile::tempdir().expect("directory");
        let gateway = started(&a, &b, &state);
        let scene = Self { a, b, state, gateway };
        eventually("all are found well", || {
            let stats = scene.get("load-balancer/stats").to_string();
            !stats.contains("pending")
        });
        scene
    }

    fn plain() -> Self {
        Self::of(Backend::text("a"), Backend::text("b"))
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.gateway.admin_get(&format!("/api/v1/clustering/{path}"));
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()
    }

    fn put(&self, path: &str, body: &Value) -> Response {
        let path = format!("/api/v1/clustering/{path}");
        self.gateway.admin_call("PUT", &path, "", &body.to_string())
    }

    /// The first entry of the history that goes to this state.
    fn entry(&self, to: &str) -> Value {
        eventually_some(&format!("a fail-over to {to}"), || {
            let history = self.get("failover/history");
            let entries = history["history"].as_array()?;
            entries.iter().find(|entry| entry["to"] == to).cloned()
        })
    }
}

fn of<'a>(answer: &'a Value, upstream: &str) -> &'a Value {
    let upstreams = answer["upstreams"].as_array().expect("upstreams");
    let found = upstreams.iter().find(|shown| shown["upstream"] == upstream);
    found.unwrap_or_else(|| panic!("no {upstream} in {answer}"))
}

#[test]
fn the_balancers_configuration_is_told_for_each_upstream() {
    let scene = Scene::plain();
    let config = scene.get("load-balancer/config");
    assert_eq!(config["algorithm"], Value::Null, "they differ: {config}");
    let algorithms = config["algorithms"].as_array().expect("algorithms");
    for name in ["round_robin", "least_connections", "adaptive", "hash"] {
        assert!(algorithms.contains(&json!(name)), "{name}: {config}");
    }
    let app = of(&config, "app");
    assert_eq!(
        (&app["algorithm"], &app["configured"], &app["override"]),
        (&json!("round_robin"), &json!("round_robin"), &Value::Null),
        "{config}"
    );
    let first = &app["endpoints"][0];
    assert_eq!(
        (&first["address"], &first["weight"], &first["state"]),
        (&json!(scene.a.address().to_string()), &json!(3), &json!("active")),
        "{config}"
    );
}

#[test]
fn the_algorithm_is_switched_for_one_upstream_or_for_all() {
    let scene = Scene::plain();
    let path = "load-balancer/algorithm";
    let one = scene.put(
        path,
        &json!({ "pool": "app", "algorithm": "hash", "params": { "key": "header:x-user" } }),
    );
    assert_eq!(one.status, 200, "{one}");
    let config = scene.get("load-balancer/config");
    let app = of(&config, "app");
    assert_eq!(
        (&app["algorithm"], &app["override"]["key"], &app["configured"]),
        (&json!("hash"), &json!("header:x-user"), &json!("round_robin")),
        "{config}"
    );
    let texts: Vec<String> = (0..10)
        .map(|_| {
            let request = "GET /app HTTP/1.1\r\nHost: test\r\nX-User: ann\r\n\r\n";
            scene.gateway.send(request).text()
        })
        .collect();
    assert!(
        texts.iter().all(|text| *text == texts[0]),
        "one key, one endpoint: {texts:?}"
    );

    let all = scene.put(path, &json!({ "algorithm": "ai_optimized" }));
    assert_eq!(all.status, 200, "{all}");
    assert_eq!(scene.get("load-balancer/config")["algorithm"], "adaptive");
    for (body, status) in [
        (json!({ "algorithm": "best" }), 422),
        (json!({ "upstream": "none", "algorithm": "adaptive" }), 404),
        (json!({ "upstream": "app" }), 400),
        (
            json!({ "algorithm": "adaptive", "params": { "key": "uri" } }),
            422,
        ),
        (json!({ "algorithm": "hash", "params": { "key": "moon" } }), 422),
        (json!({ "algorithm": "hash", "params": { "speed": 1 } }), 400),
    ] {
        let answer = scene.put(path, &body);
        assert_eq!(answer.status, status, "{body}: {answer}");
    }
    assert_eq!(scene.get("load-balancer/config")["algorithm"], "adaptive");
}

#[test]
fn the_balancers_stats_tell_who_was_picked() {
    let scene = Scene::plain();
    let mut conn = scene.gateway.connect();
    for _ in 0..40 {
        assert_eq!(conn.get("/app").status, 200);
    }
    let stats = scene.get("load-balancer/stats");
    let app = of(&stats, "app");
    assert_eq!(
        (&app["picks"], &app["algorithm"]),
        (&json!(40), &json!("round_robin")),
        "{stats}"
    );
    let shares: Vec<(&Value, &Value)> = (0..2)
        .map(|n| (&app["endpoints"][n]["picks"], &app["endpoints"][n]["share"]))
        .collect();
    assert_eq!(
        shares,
        [(&json!(30), &json!(0.75)), (&json!(10), &json!(0.25))],
        "{stats}"
    );
    let first = &app["endpoints"][0];
    for key in ["in_flight", "weight_now", "ewma_ms", "failures", "last_error"] {
        assert!(first.get(key).is_some(), "{key}: {stats}");
    }
    assert_eq!(
        of(&stats, "other")["endpoints"][0]["share"],
        Value::Null,
        "nobody was picked"
    );
}

#[test]
fn a_backend_that_dies_idle_is_in_the_history_with_its_detection_time() {
    let scene = Scene::plain();
    scene.a.down();
    let entry = scene.entry("unhealthy");
    assert_eq!(
        (
            &entry["trigger"],
            &entry["from"],
            &entry["upstream"],
            &entry["address"]
        ),
        (
            &json!("active"),
            &json!("active"),
            &json!("app"),
            &json!(scene.a.address().to_string())
        ),
        "{entry}"
    );
    assert!(
        entry["detection_ms"].as_f64().is_some_and(|ms| ms < 5000.0),
        "{entry}"
    );
    assert!(
        entry["time"].as_str().is_some_and(|time| time.ends_with('Z')),
        "{entry}"
    );
    assert_eq!(
        (&entry["in_flight"], &entry["failed"]),
        (&json!(0), &json!(0)),
        "{entry}"
    );
    let upstream = scene.gateway.admin_get("/api/v1/upstreams/app").json();
    let dead = &upstream["endpoints"][0];
    assert!(dead["since"].is_string() && dead["reason"].is_string(), "{dead}");

    scene.a.up();
    let back = scene.entry("active");
    assert_eq!(
        (&back["from"], &back["trigger"]),
        (&json!("unhealthy"), &json!("active")),
        "{back}"
    );
    let history = scene.get("failover/history?limit=1");
    assert_eq!(history["history"].as_array().map(Vec::len), Some(1), "{history}");
    let next = scene.get(&format!("failover/history?since={}", history["next"]));
    assert_ne!(next["history"][0]["id"], history["history"][0]["id"], "{next}");
}

#[test]
fn requests_that_failed_are_counted_with_the_fail_over_and_outlive_a_restart() {
    // Well by its checks, and closing whatever else comes.
    let a = Backend::http(|request| match request.target.as_str() {
        "/health" => Reply::ok("well"),
        _ => Reply::close(),
    });
    let scene = Scene::of(a, Backend::text("b"));
    let mut conn = scene.gateway.connect();
    for _ in 0..12 {
        assert_eq!(conn.get("/app").text(), "b", "it was tried again elsewhere");
    }
    let entry = scene.entry("ejected");
    assert_eq!(entry["trigger"], "passive", "{entry}");
    let stats = scene.get("load-balancer/stats");
    let bad = &of(&stats, "app")["endpoints"][0];
    assert_eq!(bad["last_error"], "upstream_reset", "{stats}");
    assert!(bad["last_error_at"].is_string(), "{stats}");
    assert!(entry["detection_ms"].is_number(), "{entry}");
    eventually("what it cost is counted", || {
        scene.entry("ejected")["retried"].as_u64() >= Some(3)
    });
    assert_eq!(scene.entry("ejected")["failed"], 0);
    let back = scene.entry("active");
    assert_eq!(
        (&back["from"], &back["trigger"]),
        (&json!("ejected"), &json!("passive")),
        "{back}"
    );

    let kept = scene.state.path().join("failovers.json");
    eventually("the history is kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"to\":\"active\""))
    });
    let Scene { a, b, state, gateway } = scene;
    assert_eq!(gateway.stop(), Some(0));
    let gateway = started(&a, &b, &state);
    let scene = Scene { a, b, state, gateway };
    let again = scene.entry("ejected");
    assert_eq!((&again["id"], &again["time"]), (&entry["id"], &entry["time"]));
    assert!(scene.b.hits() > 0);
}

#[test]
fn thresholds_are_told_changed_and_taken_back() {
    let scene = Scene::plain();
    let path = "failover/thresholds";
    let config = scene.get("failover/config");
    let app = of(&config, "app");
    for (key, value) in [
        ("detection_timeout", json!("1s")),
        ("recovery_timeout", json!("300ms")),
        ("fall", json!(2)),
        ("rise", json!(1)),
        ("consecutive_failures", json!(3)),
        ("max_attempts", json!(2)),
        ("error_rate", json!(0.5)),
        ("override", Value::Null),
    ] {
        assert_eq!(app[key], value, "{key}: {config}");
    }
    let other = of(&config, "other");
    assert_eq!(
        (&other["fall"], &other["max_attempts"]),
        (&Value::Null, &json!(2)),
        "{config}"
    );

    let wish = json!({
        "upstream": "app", "detection_timeout": 0.5, "recovery_timeout": "20s", "fall": 5, "max_attempts": 1,
        "reason": "flaky net",
    });
    let answer = scene.put(path, &wish);
    assert_eq!(answer.status, 200, "{answer}");
    let check = |scene: &Scene| {
        let config = scene.get("failover/config");
        let app = of(&config, "app").clone();
        assert_eq!(
            (
                &app["detection_timeout"],
                &app["recovery_timeout"],
                &app["fall"],
                &app["rise"]
            ),
            (&json!("500ms"), &json!("20s"), &json!(5), &json!(1)),
            "{config}"
        );
        assert_eq!(
            (&app["configured"]["fall"], &app["override"]["reason"]),
            (&json!(2), &json!("flaky net"))
        );
    };
    check(&scene);
    scene
        .gateway
        .reload(&CONFIG.replace("rise = 1", "rise = 1, jitter = 0.2"));
    check(&scene);

    // They are in force: a single try, so that clients see the failure.
    scene.a.down();
    let mut conn = scene.gateway.connect();
    conn.send("POST /app HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    let _ = conn.response_to("POST");
    scene.a.up();

    let answer = scene.put(
        path,
        &json!({ "detection_timeout": null, "recovery_timeout": null, "fall": null, "max_attempts": null }),
    );
    assert_eq!(answer.status, 200, "{answer}");
    let config = scene.get("failover/config");
    assert_eq!(
        (&of(&config, "app")["fall"], &of(&config, "app")["override"]),
        (&json!(2), &Value::Null),
        "{config}"
    );

    let idle = scene.put(path, &json!({ "upstream": "other", "fall": 4 })).json();
    assert!(idle["warnings"].to_string().contains("nobody checks"), "{idle}");
    for (body, status) in [
        (json!({ "fall": 0 }), 422),
        (json!({ "error_rate": 1.5 }), 422),
        (json!({ "max_attempts": 9 }), 422),
        (json!({ "detection_timeout": -1 }), 422),
        (json!({ "detection_timeout": "soon" }), 422),
        (json!({ "recovery_timeout": 0 }), 422),
        (json!({ "quorum": 2 }), 400),
        (json!({ "latency_ms": 200 }), 400),
        (json!({ "moon": "full" }), 400),
        (json!({ "upstream": "none", "fall": 1 }), 404),
    ] {
        let answer = scene.put(path, &body);
        assert_eq!(answer.status, status, "{body}: {answer}");
    }
    for (body, word) in [
        (json!({ "quorum": 2 }), "cluster of gateways"),
        (json!({ "latency_ms": 200 }), "adaptive"),
    ] {
        let answer = scene.put(path, &body);
        assert!(answer.text().contains(word), "{body}: {answer}");
    }
}
