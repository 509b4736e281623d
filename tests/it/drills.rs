//! Fail-over drills: what is foreseen, what happens to marked requests, to a share and to none, and that everything
//! is as before afterwards.

use crate::gateway;
use serde_json::{Value, json};
use testkit::{Backend, Gateway, Response, eventually, eventually_some};

const TOKEN: &str = "operator-operator-operator";

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
paths = ["/alone"]
upstream = "alone"
[[routes]]
upstream = "app"
timeouts = { connect = "50ms" }
[upstreams.app]
endpoints = [{ address = "@a@", weight = 3 }, { address = "@b@" }]
outlier = { consecutive_failures = 2 }
[upstreams.alone]
endpoints = ["@a@"]
[runtime]
workers = 1
state_dir = "@state@"
[admin]
address = "127.0.0.1:0"
tokens = [{ name = "ops", role = "operator", token = "env:TOKEN" }]
"#;

struct Scene {
    a: Backend,
    _b: Backend,
    state: tempfile::TempDir,
    gateway: Gateway,
}

impl Scene {
    fn new() -> Self {
        let (a, b) = (Backend::text("a"), Backend::text("b"));
        let state = tempfile::tempdir().expect("directory");
        let gateway = gateway(CONFIG)
            .env("TOKEN", TOKEN)
            .token(TOKEN)
            .with("a", a.address())
            .with("b", b.address())
            .with("state", state.path().display())
            .start();
        Self {
            a,
            _b: b,
            state,
            gateway,
        }
    }

    fn post(&self, body: &Value) -> Response {
        self.gateway.admin_call("POST", PATH, "", &body.to_string())
    }

    fn begin(&self, mode: &str, more: &Value) -> Value {
        let mut body = json!({ "node": self.node(), "mode": mode });
        let more = more.as_object().cloned().unwrap_or_default();
        body.as_object_mut().expect("an object").extend(more);
        let answer = self.post(&body);
        assert!((200..300).contains(&answer.status), "{answer}");
        answer.json()
    }

    fn node(&self) -> String {
        format!("app/{}", self.a.address())
    }

    fn report(&self, id: u64) -> Value {
        let answer = self.gateway.admin_get(&format!("{PATH}/{id}"));
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()
    }

    fn ended(&self, id: u64) -> Value {
        eventually_some("the end of the drill", || {
            Some(self.report(id)).filter(|report| report["state"] != "running")
        })
    }

    fn history(&self) -> Vec<Value> {
        let history = self
            .gateway
            .admin_get("/api/v1/clustering/failover/history")
            .json();
        history["history"].as_array().expect("entries").clone()
    }

    fn get_marked(&self, mark: &str) -> Response {
        self.gateway.send(format!(
            "GET / HTTP/1.1\r\nHost: x\r\nx-tidegate-drill: {mark}\r\n\r\n"
        ))
    }
}

const PATH: &str = "/api/v1/clustering/failover/test";

fn id(answer: &Value) -> u64 {
    answer["report"]["id"].as_u64().expect("a number")
}

fn mark(answer: &Value) -> &str {
    answer["header"]["value"].as_str().expect("a mark")
}

#[test]
fn a_simulation_tells_who_would_take_over_and_changes_nothing() {
    let scene = Scene::new();
    let answer = scene.begin("simulate", &Value::Null);
    let plan = &answer["report"]["plan"];
    assert_eq!(
        (&plan["verdict"], &plan["share_now"]),
        (&json!("ok"), &json!(75.0)),
        "{answer}"
    );
    let other = &plan["others"][0];
    assert_eq!(
        (&other["share_now"], &other["share_then"]),
        (&json!(25.0), &json!(100.0)),
        "{answer}"
    );
    assert_eq!(answer["report"]["state"], "done");
    assert!(scene.history().is_empty());
    let alone = scene.post(&json!({ "upstream": "alone", "address": scene.a.address().to_string() }));
    assert_eq!(alone.json()["report"]["plan"]["verdict"], "alone", "{alone}");
}

#[test]
fn marked_requests_find_a_dead_host_and_are_answered_elsewhere() {
    let scene = Scene::new();
    let begun = scene.begin("blackhole", &json!({ "duration": "1h", "reason": "friday" }));
    let before = scene.a.hits();
    for _ in 0..8 {
        let answer = scene.get_marked(mark(&begun));
        assert_eq!((answer.status, answer.text().as_str()), (200, "b"), "{answer}");
    }
    assert_eq!(scene.a.hits(), before, "nothing of them came there");
    let others: Vec<String> = (0..8).map(|_| scene.gateway.get("/").text()).collect();
    assert!(others.contains(&"a".to_owned()), "all others do: {others:?}");
    assert_eq!(scene.get_marked("guess").status, 200);
    let endpoint = scene.gateway.endpoint(&scene.a.address());
    assert_eq!(
        (&endpoint["state"], &endpoint["failures"]),
        (&json!("active"), &json!(0)),
        "{endpoint}"
    );
    let report = eventually_some("the count", || {
        // An answer is counted when it is over, a moment after the client has it.
        Some(scene.report(id(&begun)))
            .filter(|report| report["taken"].as_u64() >= Some(4) && report["answered"] == report["taken"])
    });
    assert_eq!(
        (&report["retried"], &report["failed"]),
        (&report["taken"], &json!(0)),
        "{report}"
    );
    assert!(
        report["detection_ms"].as_f64() >= Some(49.0),
        "the time to connect: {report}"
    );

    let path = format!("{PATH}/{}", id(&begun));
    let stopped = scene.gateway.admin_call("DELETE", &path, "", "");
    assert_eq!(
        (stopped.status, &stopped.json()["state"]),
        (200, &json!("stopped")),
        "{stopped}"
    );
    assert_eq!(scene.gateway.admin_call("DELETE", &path, "", "").status, 404);
    let texts: Vec<String> = (0..8).map(|_| scene.get_marked(mark(&begun)).text()).collect();
    assert!(
        texts.contains(&"a".to_owned()),
        "the mark is worth nothing any more: {texts:?}"
    );

    let history = scene.history();
    let first = &history[0];
    assert_eq!(
        (&first["trigger"], &first["to"]),
        (&json!("test"), &json!("blackholed")),
        "{history:?}"
    );
    assert!(
        first["retried"].as_u64() >= Some(4) && first["failed"] == 0,
        "{history:?}"
    );
    assert_eq!(history[1]["to"], "active", "{history:?}");
    let ended = scene.gateway.events("failover.test_ended");
    assert_eq!(ended.len(), 1, "{ended:?}");
    let audit = scene.gateway.admin_get("/api/v1/audit").text();
    assert!(
        audit.contains("failover.test") && audit.contains("friday"),
        "{audit}"
    );
}

#[test]
fn a_drill_ends_by_itself() {
    let scene = Scene::new();
    let begun = scene.begin("blackhole", &json!({ "duration_s": 1, "share": 0.1 }));
    let report = scene.ended(id(&begun));
    assert_eq!(report["state"], "done", "{report}");
    assert!(report["ended_at"].is_string(), "{report}");
    let texts: Vec<String> = (0..8).map(|_| scene.get_marked(mark(&begun)).text()).collect();
    assert!(texts.contains(&"a".to_owned()), "{texts:?}");
}

#[test]
fn a_share_of_all_requests_is_taken_and_nobody_fails() {
    let scene = Scene::new();
    let begun = scene.begin("blackhole", &json!({ "duration": "1h", "share": 0.1 }));
    eventually("some are taken", || {
        assert_eq!(scene.gateway.get("/").status, 200);
        scene.report(id(&begun))["taken"].as_u64() >= Some(2)
    });
    let report = scene.report(id(&begun));
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["meanwhile"]["requests"].as_u64() > Some(2), "{report}");
}

#[test]
fn where_nobody_else_is_marked_requests_fail_as_they_would() {
    let scene = Scene::new();
    let body = json!({ "upstream": "alone", "address": scene.a.address().to_string(), "mode": "blackhole",
        "duration": "1h" });
    let begun = scene.post(&body).json();
    let mark = mark(&begun);
    let marked = format!("GET /alone HTTP/1.1\r\nHost: x\r\nX-Tidegate-Drill: {mark}\r\n\r\n");
    // Connecting may take its usual time: the client is not that patient.
    let mut conn = scene.gateway.connect();
    conn.send(marked);
    assert_eq!(scene.gateway.get("/alone").status, 200, "others are answered");
    assert_eq!(conn.response().status, 504);
    assert_eq!(scene.gateway.get("/alone").status, 200, "nobody is blamed");
    for (mode, share) in [("drain", 0.0), ("blackhole", 0.1)] {
        let mut body = body.clone();
        (body["mode"], body["share"]) = (json!(mode), json!(share));
        let refused = scene.post(&body);
        assert_eq!(refused.status, 409, "{mode}: {refused}");
    }
}

#[test]
fn a_drain_gives_the_endpoint_nothing_new_and_gives_it_back() {
    let scene = Scene::new();
    let begun = scene.begin("drain", &json!({ "duration": "1s" }));
    assert!((0..8).all(|_| scene.gateway.get("/").text() == "b"));
    let endpoint = scene.gateway.endpoint(&scene.a.address());
    assert_eq!(endpoint["state"], "draining", "{endpoint}");
    assert_eq!(scene.ended(id(&begun))["state"], "done");
    eventually("it is given back", || {
        scene.gateway.endpoint(&scene.a.address())["state"] == "active"
    });
    let history = eventually_some("both entries", || {
        Some(scene.history()).filter(|all| all.len() == 2)
    });
    assert_eq!(history[0]["trigger"], "test", "{history:?}");
    assert_eq!(history[1]["to"], "active", "{history:?}");
    drop(scene.state);
}

#[test]
fn a_drain_is_ended_early() {
    let scene = Scene::new();
    let begun = scene.begin("drain", &json!({ "duration": "1h" }));
    let path = format!("{PATH}/{}", id(&begun));
    assert_eq!(scene.gateway.admin_call("DELETE", &path, "", "").status, 200);
    assert_eq!(scene.gateway.endpoint(&scene.a.address())["state"], "active");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let scene = Scene::new();
    let node = scene.node();
    let bad = [
        (json!({ "mode": "drain" }), 422),
        (json!({ "node": "app" }), 422),
        (json!({ "node": "app/10.9.9.9:1" }), 404),
        (json!({ "node": node, "mode": "explode" }), 422),
        (json!({ "node": node, "mode": "drain", "duration": "1ms" }), 422),
        (json!({ "node": node, "mode": "drain", "duration": "2h" }), 422),
        (json!({ "node": node, "mode": "blackhole", "share": 0.5 }), 422),
        (json!({ "node": node, "mode": "blackhole", "share": -1 }), 422),
        (json!({ "node": node, "mode": "drain", "share": 0.05 }), 422),
        (json!({ "node": node, "colour": "red" }), 400),
    ];
    for (body, status) in bad {
        let answer = scene.post(&body);
        assert_eq!(answer.status, status, "{body}: {answer}");
    }
    let dry = scene.gateway.admin_call(
        "POST",
        &format!("{PATH}?dry_run=true"),
        "",
        &json!({ "node": node, "mode": "drain" }).to_string(),
    );
    assert_eq!(dry.status, 200, "{dry}");
    scene.begin("blackhole", &json!({ "duration": "1h" }));
    assert_eq!(
        scene.post(&json!({ "node": node, "mode": "drain" })).status,
        409,
        "one at a time"
    );
    assert_eq!(scene.gateway.endpoint(&scene.a.address())["state"], "active");
}
