//! Changes that end by themselves, and the deadline that a drain has when nobody names one.

use crate::changes_kit::{Scene, TWO, applied};
use serde_json::{Value, json};
use testkit::{Response, eventually};

const BALANCE: &str = "/api/v1/upstreams/app/balance";
const THRESHOLDS: &str = "/api/v1/clustering/failover/thresholds";

fn balance(scene: &Scene) -> Value {
    scene.gateway.admin_get("/api/v1/upstreams/app").json()["balance"].clone()
}

fn fall(scene: &Scene) -> Value {
    let config = scene
        .gateway
        .admin_get("/api/v1/clustering/failover/config")
        .json();
    config["upstreams"][0]["max_attempts"].clone()
}

fn control(scene: &Scene) -> String {
    let ready = scene.gateway.ready();
    ready["control"].as_str().expect("a control socket").to_owned()
}

#[test]
fn what_is_told_for_a_time_is_taken_back_when_it_is_over() {
    let scene = Scene::plain();
    let answer = scene.put(
        &scene.a,
        &json!({ "state": "draining", "weight": 9, "for": "4s" }),
    );
    applied(&answer);
    assert_eq!(
        scene
            .call("PUT", BALANCE, &json!({ "balance": "first", "for": "4s" }))
            .status,
        200
    );
    assert_eq!(
        scene
            .call("PUT", THRESHOLDS, &json!({ "max_attempts": 1, "for": "4s" }))
            .status,
        200
    );
    let shown = scene.shown(&scene.a);
    assert!(shown["override"]["state"]["until"].is_string(), "{shown}");
    assert!(shown["override"]["weight"]["until"].is_string(), "{shown}");
    assert_eq!((balance(&scene), fall(&scene)), (json!("first"), json!(1)));
    let listed = scene.gateway.admin_get("/api/v1/overrides").json();
    assert!(listed["balances"][0]["until"].is_string(), "{listed}");
    assert!(listed["thresholds"][0]["until"].is_string(), "{listed}");

    eventually("all of it is taken back", || {
        let listed = scene.gateway.admin_get("/api/v1/overrides").json();
        listed == json!({ "endpoints": [], "balances": [], "thresholds": [] })
    });
    let shown = scene.shown(&scene.a);
    assert_eq!(
        (&shown["state"], &shown["weight"], &shown["override"]),
        (&json!("active"), &json!(2), &Value::Null),
        "{shown}"
    );
    assert_eq!((balance(&scene), fall(&scene)), (json!("round_robin"), json!(2)));
    let (a, b) = scene.answers(9);
    assert_eq!((a, b), (6, 3));

    let audit = scene.gateway.admin_get("/api/v1/audit?limit=1000").json();
    let last = audit["audit"].as_array().and_then(|all| all.last()).cloned();
    let last = last.unwrap_or_else(|| panic!("{audit}"));
    assert_eq!(
        (&last["actor"], &last["action"]),
        (&json!("expiry"), &json!("overrides.expire")),
        "{audit}"
    );
    assert!(scene.events().contains("overrides.expired"));
    let history = scene
        .gateway
        .admin_get("/api/v1/clustering/failover/history")
        .text();
    assert!(history.contains("the time it was given is over"), "{history}");
}

#[test]
fn a_time_goes_on_over_a_restart_and_ends_what_ended_meanwhile() {
    let scene = Scene::plain();
    applied(&scene.put(&scene.a, &json!({ "state": "draining", "for": "1s" })));
    applied(&scene.put(&scene.b, &json!({ "weight": 5, "for": "1h" })));
    let until = scene.shown(&scene.b)["override"]["weight"]["until"].clone();
    let scene = scene.restarted();
    assert_eq!(scene.shown(&scene.b)["override"]["weight"]["until"], until);
    eventually("it is taken back", || scene.shown(&scene.a)["state"] == "active");
    let scene = scene.restarted();
    assert_eq!(scene.shown(&scene.a)["override"], Value::Null, "for good");
    assert_eq!(scene.shown(&scene.b)["weight"], 5);
}

#[test]
fn an_end_that_makes_no_sense_is_refused() {
    let scene = Scene::plain();
    let drain = |end: &Value| -> Response {
        let mut wish = json!({ "state": "draining" });
        wish.as_object_mut()
            .expect("an object")
            .extend(end.as_object().expect("an object").clone());
        scene.put(&scene.a, &wish)
    };
    for (end, word) in [
        (json!({ "for": "soon" }), "soon"),
        (json!({ "for": "0s" }), "not before now"),
        (json!({ "for": "366d" }), "366d"),
        (json!({ "until": "tomorrow" }), "no moment"),
        (json!({ "until": "2001-01-01T00:00:00Z" }), "not before now"),
        (json!({ "until": "9999-01-01T00:00:00Z" }), "365 days"),
        (json!({ "for": "1h", "until": "2999-01-01T00:00:00Z" }), "which"),
        (json!({ "state": "active", "for": "1h" }), "goes back to the file"),
    ] {
        let answer = drain(&end);
        assert_eq!(answer.status, 422, "{end}: {answer}");
        assert!(answer.text().contains(word), "{end}: {answer}");
    }
    assert_eq!(scene.shown(&scene.a)["override"], Value::Null);
}

#[test]
fn the_commands_tell_a_time_too() {
    let scene = Scene::plain();
    let (control, address) = (control(&scene), scene.a.address().to_string());
    let ask = |args: &[&str]| {
        scene
            .gateway
            .cli(&[args, &["--control", &control]].concat())
            .expect(0)
    };
    let _ = ask(&["drain", &address, "--for", "1h"]);
    let _ = ask(&["balance", "app", "first", "--for", "1h"]);
    let shown = scene.shown(&scene.a);
    let until = shown["override"]["state"]["until"]
        .as_str()
        .expect("an end")
        .to_owned();
    let status = ask(&["status"]).stdout;
    // Its time of day, to the second.
    assert!(
        status.contains(&format!("until {}Z (in", &until[11..19])),
        "{status}"
    );
    let upstream = scene.gateway.admin_get("/api/v1/upstreams/app").json();
    assert!(upstream["balance_override"]["until"].is_string(), "{upstream}");
}

#[test]
fn a_drain_without_a_deadline_has_that_of_the_upstream() {
    let scene = Scene::plain();
    let usual = TWO.replace("[log]", "drain = { deadline = \"10m\" }\n[log]");
    scene.gateway.reload(&usual);
    let deadline = |scene: &Scene| scene.shown(&scene.a)["drain"]["deadline"].clone();
    let seconds = |deadline: &Value| -> i64 {
        let at: jiff::Timestamp = deadline
            .as_str()
            .and_then(|at| at.parse().ok())
            .expect("a moment");
        at.duration_since(jiff::Timestamp::now()).as_secs()
    };
    applied(&scene.put(&scene.a, &json!({ "state": "draining" })));
    let told = deadline(&scene);
    assert!((500..=600).contains(&seconds(&told)), "{told}");
    // Saying it again gives no more time.
    scene.put(&scene.a, &json!({ "state": "maintenance", "reason": "disk" }));
    assert_eq!(deadline(&scene), told);
    applied(&scene.put(&scene.a, &json!({ "state": "active" })));
    applied(&scene.put(&scene.a, &json!({ "state": "draining", "deadline": "1h" })));
    assert!(seconds(&deadline(&scene)) > 3000);
    applied(&scene.put(&scene.a, &json!({ "deadline": null })));
    assert_eq!(deadline(&scene), Value::Null);
    applied(&scene.put(&scene.a, &json!({ "state": "active" })));

    let (control, address) = (control(&scene), scene.a.address().to_string());
    let never = ["drain", &address, "--deadline", "never", "--control", &control];
    let _ = scene.gateway.cli(&never).expect(0);
    assert_eq!(deadline(&scene), Value::Null);
}
