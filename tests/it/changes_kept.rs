//! Changes made at run time outlive reloads and restarts, and what is wrong with their file is told.

use crate::changes_kit::{Scene, TWO, applied, path, started};
use serde_json::{Value, json};
use testkit::ws::Client;
use testkit::{Backend, ws};

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
