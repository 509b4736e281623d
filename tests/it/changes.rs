//! Endpoints and balancers changed at run time: what holds, for how long, and what becomes of what runs.

use crate::changes_kit::{Scene, applied, path};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::ws::Client;
use testkit::{Backend, Conn, Gate, Load, Reply, eventually, holds_for, ws};

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
