//! How changes at run time are asked for: who may, what makes sense, and what is written down of them.

use crate::changes_kit::{OPERATOR, Scene, TWO, VIEWER, applied, path, shown};
use crate::gateway;
use serde_json::json;
use testkit::{Backend, Gate, Reply};

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
