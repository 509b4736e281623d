//! Endpoints and balancers changed at run time: what holds, for how long, and what becomes of what runs.

use crate::gateway;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use testkit::ws::Client;
use testkit::{Backend, Builder, Conn, Gate, Gateway, Load, Reply, Response, eventually, holds_for, ws};

const OPERATOR: &str = "operator-operator-operator";
const VIEWER: &str = "viewer-viewer-viewer-viewer";

pub(crate) const TWO: &str = r#"
[runtime]
workers = 2
state_dir = "@state@"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = [{ address = "@a@", weight = 2 }, { address = "@b@" }]
[log]
access = { path = "access.log", format = "json" }
[admin]
address = "127.0.0.1:0"
tokens = [
  { name = "ops", role = "operator", token = "env:OPERATOR" },
  { name = "eve", role = "viewer", token = "env:VIEWER" },
]
"#;

fn with_tokens(builder: Builder) -> Builder {
    builder
        .env("OPERATOR", OPERATOR)
        .env("VIEWER", VIEWER)
        .token(OPERATOR)
}

fn started(a: &Backend, b: &Backend, state: &Path) -> Gateway {
    with_tokens(gateway(TWO))
        .with("a", a.address())
        .with("b", b.address())
        .with("state", state.display())
        .start()
}

/// Two backends behind a gateway that keeps its state in a directory of its own.
pub(crate) struct Scene {
    pub(crate) a: Backend,
    pub(crate) b: Backend,
    pub(crate) gateway: Gateway,
    state: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn of(a: Backend, b: Backend) -> Self {
        let state = tempfile::tempdir().expect("directory");
        let gateway = started(&a, &b, state.path());
        Self { a, b, gateway, state }
    }

    pub(crate) fn plain() -> Self {
        Self::of(Backend::text("a"), Backend::text("b"))
    }

    /// Another gateway with the same file and state.
    pub(crate) fn restarted(self) -> Self {
        let Self { a, b, gateway, state } = self;
        assert_eq!(gateway.stop(), Some(0));
        let gateway = started(&a, &b, state.path());
        Self { a, b, gateway, state }
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.gateway.admin_call(method, path, "", &body)
    }

    pub(crate) fn put(&self, backend: &Backend, body: &Value) -> Response {
        self.call("PUT", &path(backend), body)
    }

    pub(crate) fn shown(&self, backend: &Backend) -> Value {
        shown(&self.gateway, backend)
    }

    /// Which backends answer these many requests.
    pub(crate) fn answers(&self, requests: usize) -> (usize, usize) {
        let mut conn = self.gateway.connect();
        let texts: Vec<String> = (0..requests).map(|_| conn.get("/").text()).collect();
        let count = |name: &str| texts.iter().filter(|text| *text == name).count();
        (count("a"), count("b"))
    }

    pub(crate) fn events(&self) -> String {
        self.gateway.admin_get("/api/v1/events?limit=1000").text()
    }
}

fn path(backend: &Backend) -> String {
    let address = backend.address().to_string().replace('/', "%2F");
    format!("/api/v1/upstreams/app/endpoints/{address}")
}

fn shown(gateway: &Gateway, backend: &Backend) -> Value {
    gateway.endpoint(&backend.address())
}

#[track_caller]
pub(crate) fn applied(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{answer}");
    let body = answer.json();
    assert_eq!(body["outcome"], "applied", "{body}");
    body
}

#[test]
fn a_weight_holds_from_the_answer_on_and_is_shown_beside_the_files() {
    let scene = Scene::plain();
    assert_eq!(scene.answers(30), (20, 10));
    let answer = applied(&scene.put(&scene.a, &json!({ "weight": 0, "reason": "too hot" })));
    assert_eq!(answer["endpoint"]["weight"], 0, "{answer}");
    assert_eq!(answer["endpoint"]["state"], "disabled", "{answer}");
    assert_eq!(scene.answers(20), (0, 20));

    let weight = scene.shown(&scene.a)["override"]["weight"].clone();
    assert_eq!(
        (&weight["value"], &weight["configured"]),
        (&json!(0), &json!(2)),
        "{weight}"
    );
    assert_eq!(
        (&weight["by"], &weight["reason"]),
        (&json!("token ops"), &json!("too hot"))
    );
    assert!(
        weight["since"].as_str().is_some_and(|since| since.ends_with('Z')),
        "{weight}"
    );
    assert_eq!(scene.shown(&scene.b)["override"], Value::Null);

    applied(&scene.call("DELETE", &path(&scene.a), &Value::Null));
    assert_eq!(scene.shown(&scene.a)["override"], Value::Null);
    assert_eq!(scene.answers(30), (20, 10));
    assert_eq!(scene.call("DELETE", &path(&scene.a), &Value::Null).status, 404);
}

#[test]
fn an_endpoint_that_drains_gets_nothing_new_and_finishes_what_runs() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = Backend::http(move |request| match request.target.as_str() {
        "/slow" => Reply::ok("slow").held_by(&held),
        _ => Reply::ok("a"),
    });
    let scene = Scene::of(a, Backend::text("b"));
    applied(&scene.put(&scene.b, &json!({ "weight": 0 })));
    let mut slow = scene.gateway.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    applied(&scene.put(&scene.b, &json!({ "weight": null })));

    let draining = json!({ "state": "draining", "reason": "new disk" });
    let answer = applied(&scene.put(&scene.a, &draining));
    let told = &answer["endpoint"];
    assert_eq!(
        (&told["state"], &told["admin_state"], &told["ready"]),
        (&json!("draining"), &json!("draining"), &json!(false))
    );
    assert!(
        told["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("ops") && reason.contains("new disk")),
        "{told}"
    );
    assert_eq!(told["drain"]["left"]["in_flight"], 1, "{told}");
    assert_eq!(told["drain"]["finished"], Value::Null, "{told}");
    assert_eq!(scene.answers(20), (0, 20));
    assert_eq!(scene.gateway.metric("tidegate_endpoint_drain_left", &[]), 1.0);

    gate.open();
    assert_eq!(slow.response().text(), "slow");
    eventually("the drain is over", || {
        scene.shown(&scene.a)["drain"]["finished"].is_string()
    });
    let drain = scene.shown(&scene.a)["drain"].clone();
    assert_eq!(
        (&drain["left"]["in_flight"], &drain["cut"]),
        (&json!(0), &Value::Null),
        "{drain}"
    );
    assert_eq!(drain["at_start"]["in_flight"], 1, "{drain}");
    let events = scene.events();
    assert!(
        events.contains("endpoint.draining") && events.contains("endpoint.drained"),
        "{events}"
    );

    applied(&scene.put(&scene.a, &json!({ "state": "active" })));
    assert_eq!(scene.answers(30), (20, 10));
    assert_eq!(scene.shown(&scene.a)["drain"], Value::Null);
}

#[test]
fn the_deadline_cuts_what_is_left_there_and_nothing_elsewhere() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = Backend::script(move |conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        let target = request.target.clone();
        visit.hit(request);
        match target.as_str() {
            "/tunnel" => conn.send(ws::accepted(&key)),
            "/stream" => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsome"),
            _ => conn,
        };
        held.wait();
    });
    let scene = Scene::of(a, ws::echo_backend());
    applied(&scene.put(&scene.a, &json!({ "weight": 0 })));
    let mut elsewhere = Client::connect(scene.gateway.connect(), "/elsewhere");
    applied(&scene.put(&scene.a, &json!({ "weight": 1 })));
    applied(&scene.put(&scene.b, &json!({ "weight": 0 })));
    let mut tunnel = Client::connect(scene.gateway.connect(), "/tunnel");
    let mut stream = scene.gateway.connect();
    stream.send("GET /stream HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.read_through(b"some");
    let mut waiting = scene.gateway.connect();
    waiting.send("GET /waiting HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("all are there", || scene.a.hits() == 3);

    let draining = json!({ "state": "draining", "deadline": "700ms" });
    let answer = applied(&scene.put(&scene.a, &draining));
    assert!(answer["endpoint"]["drain"]["deadline"].is_string(), "{answer}");
    holds_for(Duration::from_millis(300), "what runs goes on", || {
        tunnel.conn.is_quiet() && stream.is_quiet() && waiting.is_quiet()
    });
    waiting.response().expect(503, Some("draining"));
    tunnel.conn.expect_end();
    stream.wait_for_end();
    eventually("the drain is over", || {
        scene.shown(&scene.a)["drain"]["finished"].is_string()
    });
    let drain = scene.shown(&scene.a)["drain"].clone();
    assert_eq!(
        drain["cut"],
        json!({ "in_flight": 2, "open_websockets": 1 }),
        "{drain}"
    );
    for target in ["/tunnel", "/stream", "/waiting"] {
        let record = scene.gateway.access_record(target);
        assert_eq!(
            (&record["token"], &record["ended"]),
            (&json!("draining"), &json!("gateway")),
            "{record}"
        );
    }
    assert!(scene.events().contains("endpoint.drain_cut"));
    elsewhere.echo("still here");

    // Whoever is let back in is not cut by the deadline of before.
    applied(&scene.put(&scene.a, &json!({ "state": "active" })));
    let mut again = Client::connect(scene.gateway.connect(), "/tunnel");
    holds_for(Duration::from_millis(200), "the tunnel stays", || {
        again.conn.is_quiet()
    });
    gate.open();
}

#[test]
fn changes_outlive_reloads_and_restarts() {
    let scene = Scene::plain();
    applied(&scene.put(
        &scene.a,
        &json!({ "state": "maintenance", "weight": 7, "reason": "kernel" }),
    ));
    applied(&scene.call(
        "PUT",
        "/api/v1/upstreams/app/balance",
        &json!({ "balance": "least_connections" }),
    ));
    let check = |scene: &Scene| {
        let told = scene.shown(&scene.a);
        assert_eq!(
            (&told["state"], &told["weight"]),
            (&json!("maintenance"), &json!(7)),
            "{told}"
        );
        assert_eq!(told["override"]["state"]["reason"], "kernel", "{told}");
        let upstream = scene.gateway.admin_get("/api/v1/upstreams/app").json();
        assert_eq!(upstream["balance"], "least_connections", "{upstream}");
        assert_eq!(
            upstream["balance_override"]["configured"], "round_robin",
            "{upstream}"
        );
        assert_eq!(scene.answers(10), (0, 10));
    };
    check(&scene);
    scene.gateway.reload(&TWO.replace("weight = 2", "weight = 5"));
    check(&scene);
    assert_eq!(scene.shown(&scene.a)["override"]["weight"]["configured"], 5);

    let scene = scene.restarted();
    check(&scene);
    applied(&scene.call("DELETE", &path(&scene.a), &Value::Null));
    applied(&scene.call("DELETE", "/api/v1/upstreams/app/balance", &Value::Null));
    let scene = scene.restarted();
    assert_eq!(scene.answers(30), (20, 10));
    assert_eq!(
        scene.gateway.admin_get("/api/v1/overrides").json(),
        json!({ "endpoints": [], "balances": [], "thresholds": [] })
    );
}

#[test]
fn a_deadline_goes_on_over_a_restart() {
    let scene = Scene::plain();
    applied(&scene.put(&scene.a, &json!({ "state": "draining", "deadline": "1h" })));
    let deadline = scene.shown(&scene.a)["drain"]["deadline"].clone();
    let scene = scene.restarted();
    assert_eq!(scene.shown(&scene.a)["drain"]["deadline"], deadline);
}

#[test]
fn an_override_sleeps_while_the_file_has_no_such_endpoint() {
    let scene = Scene::plain();
    applied(&scene.put(&scene.a, &json!({ "state": "draining" })));
    scene
        .gateway
        .reload(&TWO.replace("{ address = \"@a@\", weight = 2 }, ", ""));
    assert_eq!(scene.answers(5), (0, 5));
    let list = scene.gateway.admin_get("/api/v1/overrides").json();
    assert_eq!(list["endpoints"][0]["in_force"], false, "{list}");
    assert_eq!(list["endpoints"][0]["state"]["value"], "draining", "{list}");
    // Nothing new can be said of it; it can be taken back.
    assert_eq!(scene.put(&scene.a, &json!({ "weight": 3 })).status, 404);

    scene.gateway.reload(TWO);
    assert_eq!(scene.shown(&scene.a)["state"], "draining");
    assert_eq!(scene.answers(5), (0, 5));

    scene
        .gateway
        .reload(&TWO.replace("{ address = \"@a@\", weight = 2 }, ", ""));
    applied(&scene.call("DELETE", &path(&scene.a), &Value::Null));
    scene.gateway.reload(TWO);
    assert_eq!(scene.answers(30), (20, 10));
}

#[test]
fn what_runs_at_an_endpoint_that_left_the_file_still_ends_at_its_deadline() {
    let scene = Scene::of(ws::echo_backend(), Backend::text("b"));
    applied(&scene.put(&scene.b, &json!({ "weight": 0 })));
    let mut tunnel = Client::connect(scene.gateway.connect(), "/tunnel");
    applied(&scene.put(&scene.a, &json!({ "state": "draining", "deadline": "800ms" })));
    scene
        .gateway
        .reload(&TWO.replace("{ address = \"@a@\", weight = 2 }, ", ""));
    tunnel.echo("still here");
    tunnel.conn.expect_end();
    assert_eq!(scene.gateway.access_record("/tunnel")["token"], "draining");
}

#[test]
fn a_damaged_file_is_put_aside_and_told() {
    let scene = Scene::plain();
    applied(&scene.put(&scene.a, &json!({ "weight": 0 })));
    let Scene { a, b, gateway, state } = scene;
    assert_eq!(gateway.stop(), Some(0));
    let file = state.path().join("overrides.json");
    let text = std::fs::read_to_string(&file).expect("the file");
    let half = text.get(..text.len() / 2).expect("half of it");
    std::fs::write(&file, half).expect("write");
    let gateway = started(&a, &b, state.path());
    let scene = Scene { a, b, gateway, state };
    assert_eq!(scene.answers(30), (20, 10));
    scene.gateway.await_log("overrides.json");
    assert!(scene.events().contains("overrides.damaged"));
    let aside = std::fs::read_to_string(scene.state.path().join("overrides.json.damaged"));
    assert_eq!(aside.expect("the damaged file"), half);
    applied(&scene.put(&scene.a, &json!({ "weight": 0 })));
    assert_eq!(scene.restarted().answers(10), (0, 10));
}

#[test]
fn a_change_that_can_not_be_kept_is_made_and_says_so() {
    let scene = Scene::plain();
    // A directory in the way of the file.
    std::fs::create_dir(scene.state.path().join("overrides.json")).expect("directory");
    let answer = applied(&scene.put(&scene.a, &json!({ "weight": 0 })));
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("state_dir"), "{answer}");
    assert_eq!(scene.answers(10), (0, 10));
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_not() {
    let scene = Scene::plain();
    let generation = scene.gateway.generation();
    let dry = format!("{}?dry_run=true", path(&scene.a));
    let answer = applied(&scene.call("PUT", &dry, &json!({ "weight": 0 })));
    assert_eq!(answer["dry_run"], true, "{answer}");
    assert_eq!(answer["changes"][0]["object"], "endpoint", "{answer}");
    assert_eq!(
        scene.call("PUT", &dry, &json!({ "weight": 9_999_999 })).status,
        422
    );
    assert_eq!(
        (scene.gateway.generation(), scene.answers(30)),
        (generation, (20, 10))
    );
    assert!(!scene.state.path().join("overrides.json").exists());
}

#[test]
fn every_change_is_an_event_and_an_audit_entry() {
    let scene = Scene::plain();
    applied(&scene.put(
        &scene.a,
        &json!({ "state": "draining", "deadline": "5m", "reason": "new disk" }),
    ));
    let audit = scene.gateway.admin_get("/api/v1/audit").json();
    let entry = &audit["audit"][0];
    let target = format!("app/{}", scene.a.address());
    assert_eq!(
        (
            &entry["action"],
            &entry["actor"],
            &entry["target"],
            &entry["reason"],
            &entry["outcome"]
        ),
        (
            &json!("endpoint.change"),
            &json!("token ops"),
            &json!(target),
            &json!("new disk"),
            &json!("applied")
        ),
        "{entry}"
    );
    assert!(
        entry["wish"]
            .as_str()
            .is_some_and(|wish| wish.contains("draining") && wish.contains("5m")),
        "{entry}"
    );
    let events = scene.gateway.admin_get("/api/v1/events?limit=1000").json();
    let events = events["events"].as_array().expect("events");
    let event = events
        .iter()
        .find(|event| event["type"] == "endpoint.draining")
        .expect("the event");
    assert_eq!(event["target"], target.as_str(), "{event}");

    // What changes nothing says so.
    let again = scene.put(&scene.a, &json!({ "state": "draining" })).json();
    assert_eq!(again["outcome"], "unchanged", "{again}");
    let history = scene
        .gateway
        .admin_get("/api/v1/clustering/failover/history")
        .json();
    let entry = &history["history"][0];
    assert_eq!(
        (&entry["trigger"], &entry["from"], &entry["to"], &entry["node"]),
        (
            &json!("manual"),
            &json!("active"),
            &json!("draining"),
            &json!(target)
        ),
        "{history}"
    );
}

#[test]
fn only_operators_change_anything() {
    let scene = Scene::plain();
    let as_viewer = format!("Authorization: Bearer {VIEWER}\r\n");
    let body = "{\"weight\":0}";
    for (method, path) in [
        ("PUT", path(&scene.a)),
        ("DELETE", path(&scene.a)),
        ("PUT", "/api/v1/upstreams/app/balance".to_owned()),
        ("DELETE", "/api/v1/upstreams/app/balance".to_owned()),
        ("PUT", "/api/v1/clustering/load-balancer/algorithm".to_owned()),
    ] {
        let viewer = scene.gateway.admin_call(method, &path, &as_viewer, body);
        assert_eq!(viewer.status, 403, "{method} {path}: {viewer}");
        let nobody = scene
            .gateway
            .admin_call(method, &path, "Authorization: none\r\n", body);
        assert_eq!(nobody.status, 401, "{method} {path}: {nobody}");
    }
    let list = scene
        .gateway
        .admin_call("GET", "/api/v1/overrides", &as_viewer, "");
    assert_eq!(list.status, 200, "{list}");
    assert_eq!(scene.answers(30), (20, 10));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let scene = Scene::plain();
    let a = path(&scene.a);
    let balance = "/api/v1/upstreams/app/balance".to_owned();
    let unknown = "/api/v1/upstreams/app/endpoints/127.0.0.1:1".to_owned();
    let elsewhere = "/api/v1/upstreams/none/balance".to_owned();
    for (path, body, status, word) in [
        (&a, "", 400, "state"),
        (&a, "{", 400, "state"),
        (&a, "[]", 400, "state"),
        (&a, "{\"wieght\":1}", 400, "wieght"),
        (&a, "{\"weight\":-1}", 400, "weight"),
        (&a, "{\"weight\":1.5}", 400, "weight"),
        (&a, "{\"weight\":1000001}", 422, "1000000"),
        (&a, "{}", 422, "nothing"),
        (&a, "{\"reason\":\"none\"}", 422, "nothing"),
        (&a, "{\"state\":\"gone\"}", 422, "maintenance"),
        (&a, "{\"state\":\"draining\",\"deadline\":\"soon\"}", 422, "5m"),
        (
            &a,
            "{\"state\":\"draining\",\"deadline\":\"-5s\"}",
            422,
            "duration",
        ),
        (&a, "{\"deadline\":\"5m\"}", 422, "draining"),
        (&a, "{\"state\":\"active\",\"deadline\":\"5m\"}", 422, "draining"),
        (&unknown, "{\"weight\":1}", 404, "127.0.0.1:1"),
        (&balance, "{}", 400, "balance"),
        (&balance, "{\"balance\":\"best\"}", 422, "round_robin"),
        (&elsewhere, "{\"balance\":\"round_robin\"}", 404, "none"),
    ] {
        let answer = scene.gateway.admin_call("PUT", path, "", body);
        assert_eq!(answer.status, status, "{path} {body}: {answer}");
        let error = answer.json()["error"].to_string();
        assert!(error.contains(word), "{path} {body}: {error}");
    }
    assert_eq!(scene.answers(30), (20, 10));
}

#[test]
fn an_algorithm_is_switched_and_taken_back() {
    let scene = Scene::plain();
    let balance = "/api/v1/upstreams/app/balance";
    applied(&scene.call(
        "PUT",
        balance,
        &json!({ "balance": "least_connections", "reason": "try" }),
    ));
    let upstream = scene.gateway.admin_get("/api/v1/upstreams/app").json();
    assert_eq!(upstream["balance"], "least_connections", "{upstream}");
    assert_eq!(upstream["balance_override"]["by"], "token ops", "{upstream}");
    let again = scene
        .call("PUT", balance, &json!({ "balance": "least_conn" }))
        .json();
    assert_eq!(again["outcome"], "unchanged", "{again}");
    applied(&scene.call("DELETE", balance, &Value::Null));
    let upstream = scene.gateway.admin_get("/api/v1/upstreams/app").json();
    assert_eq!(upstream["balance"], "round_robin", "{upstream}");
    assert_eq!(upstream["balance_override"], Value::Null, "{upstream}");
    assert_eq!(scene.call("DELETE", balance, &Value::Null).status, 404);
}

#[test]
fn taking_the_last_endpoint_away_is_warned_of_and_answered_with_503() {
    let scene = Scene::plain();
    let first = applied(&scene.put(&scene.a, &json!({ "state": "draining" })));
    assert_eq!(first["warnings"], json!([]), "{first}");
    let last = applied(&scene.put(&scene.b, &json!({ "state": "maintenance" })));
    assert!(
        last["warnings"].to_string().contains("no endpoint is left"),
        "{last}"
    );
    scene.gateway.get("/").expect(503, Some("no_endpoint"));
    applied(&scene.put(&scene.b, &json!({ "state": "active" })));
    assert_eq!(scene.answers(5), (0, 5));
}

#[test]
fn an_endpoint_on_a_unix_socket_is_named_with_its_slashes_escaped() {
    let a = Backend::http_on_unix(|_| Reply::ok("a"));
    let scene = Scene::of(a, Backend::text("b"));
    applied(&scene.put(&scene.a, &json!({ "state": "draining" })));
    assert_eq!(scene.answers(5), (0, 5));
}

#[test]
fn no_request_is_lost_while_weights_states_and_algorithms_change() {
    let scene = Scene::plain();
    let load = Load::get(scene.gateway.web(), 4, "/");
    for round in 0..15 {
        let (one, other) = if round % 2 == 0 {
            (&scene.a, &scene.b)
        } else {
            (&scene.b, &scene.a)
        };
        applied(&scene.put(one, &json!({ "state": "draining", "deadline": "1m" })));
        applied(&scene.put(other, &json!({ "weight": round + 1 })));
        let balance = if round % 2 == 0 {
            "least_connections"
        } else {
            "round_robin"
        };
        let path = "/api/v1/upstreams/app/balance";
        assert_eq!(
            scene.call("PUT", path, &json!({ "balance": balance })).status,
            200
        );
        applied(&scene.put(one, &json!({ "state": "active" })));
    }
    load.stop().expect_flawless();
    for backend in [&scene.a, &scene.b] {
        eventually("nothing is counted as running", || {
            scene.shown(backend)["in_flight"] == 0
        });
    }
}

#[test]
fn an_idle_connection_of_a_client_outlives_the_deadline_of_a_drain() {
    let scene = Scene::plain();
    let mut conns: Vec<Conn> = (0..4).map(|_| scene.gateway.connect()).collect();
    for conn in &mut conns {
        assert_eq!(conn.get("/").status, 200);
    }
    applied(&scene.put(&scene.a, &json!({ "state": "draining", "deadline": "0s" })));
    eventually("the drain is over", || {
        scene.shown(&scene.a)["drain"]["finished"].is_string()
    });
    for conn in &mut conns {
        assert_eq!(conn.get("/").text(), "b");
    }
}

#[test]
fn the_command_drains_waits_and_undrains() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = Backend::http(move |_| Reply::ok("a").held_by(&held));
    let state = tempfile::tempdir().expect("directory");
    let gateway = gateway(&TWO.replace("{ address = \"@b@\" }", ""))
        .env("OPERATOR", OPERATOR)
        .env("VIEWER", VIEWER)
        .token(OPERATOR)
        .with("a", a.address())
        .with("state", state.path().display())
        .start();
    let control = gateway.ready()["control"]
        .as_str()
        .expect("a control socket")
        .to_owned();
    let address = a.address().to_string();
    let name = format!("app/{address}");
    let ask = |args: &[&str]| gateway.cli(&[args, &["--control", &control]].concat());
    let mut slow = gateway.connect();
    slow.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();

    let ran = ask(&["drain", &address, "--deadline", "5m", "--reason", "new disk"]).expect(0);
    assert!(
        ran.stdout.contains(&format!("{name} drains: 1 in flight")),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("no endpoint is left"), "{}", ran.stdout);
    let status = ask(&["status"]).expect(0).stdout;
    for word in [
        "draining, 1 in flight",
        "by control socket",
        "new disk",
        "deadline",
    ] {
        assert!(status.contains(word), "{word}: {status}");
    }
    let again = ask(&["drain", &name, "--maintenance", "--dry-run"]).expect(0);
    assert!(again.stdout.contains("dry run"), "{}", again.stdout);
    assert_eq!(shown(&gateway, &a)["state"], "draining");

    let waited = std::thread::scope(|scope| {
        let waits = scope.spawn(|| ask(&["drain", &name, "--wait"]));
        gate.open();
        assert_eq!(slow.response().text(), "a");
        waits.join().expect("the command")
    });
    assert!(waited.expect(0).stdout.contains("is drained"));

    let _ = ask(&["undrain", &name]).expect(0);
    assert_eq!(shown(&gateway, &a)["state"], "active");
    let ran = ask(&["balance", "app", "least_connections"]).expect(0);
    assert!(
        ran.stdout.contains("app balances by least_connections now"),
        "{}",
        ran.stdout
    );
    let status = ask(&["status"]).expect(0).stdout;
    assert!(
        status.contains("least_connections (file: round_robin)"),
        "{status}"
    );
    let _ = ask(&["balance", "app", "--reset"]).expect(0);

    for (args, word) in [
        (&["drain", "127.0.0.1:1"][..], "127.0.0.1:1"),
        (&["drain", &name, "--deadline", "soon"], "soon"),
        (&["balance", "app", "best"], "round_robin"),
        (&["balance", "ap", "round_robin"], "ap"),
    ] {
        let ran = ask(args);
        assert!(
            ran.code == Some(1) && ran.stderr.contains(word),
            "{args:?}: {ran:?}"
        );
    }
}

#[test]
fn the_command_takes_back_a_drain_of_an_endpoint_that_left_the_file() {
    let scene = Scene::plain();
    applied(&scene.put(&scene.a, &json!({ "state": "draining" })));
    scene
        .gateway
        .reload(&TWO.replace("{ address = \"@a@\", weight = 2 }, ", ""));
    let control = scene.gateway.ready()["control"]
        .as_str()
        .expect("a control socket")
        .to_owned();
    let address = scene.a.address().to_string();
    let _ = scene
        .gateway
        .cli(&["undrain", &address, "--control", &control])
        .expect(0);
    scene.gateway.reload(TWO);
    assert_eq!(scene.shown(&scene.a)["state"], "active");
}
