//! The breaker: an upstream that fails is left alone for a while, and then asked a little, to see.

use crate::gateway;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::{Backend, Gate, Gateway, Reply, eventually};

const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@app@"]
breaker = { @breaker@ }
[admin]
address = "127.0.0.1:0"
"#;

fn before(backend: &Backend, breaker: &str) -> Gateway {
    gateway(CONFIG)
        .with("app", backend.address())
        .with("breaker", breaker)
        .start()
}

fn breaker(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/upstreams/app").json()["breaker"].clone()
}

/// The kinds of its events, in their order.
fn events(gateway: &Gateway) -> Vec<String> {
    let page = gateway.admin_get("/api/v1/events?limit=1000").json();
    let all = page["events"].as_array().cloned().unwrap_or_default();
    let kinds = all.iter().filter_map(|event| event["type"].as_str());
    kinds
        .filter_map(|kind| kind.strip_prefix("breaker."))
        .map(str::to_owned)
        .collect()
}

/// Fails while the switch is on.
fn failing(switch: &Arc<AtomicBool>) -> Backend {
    let switch = Arc::clone(switch);
    Backend::http(move |_| match switch.load(Ordering::SeqCst) {
        true => Reply::new(500, "broken"),
        false => Reply::ok("fine"),
    })
}

#[test]
fn it_opens_tries_again_and_closes() {
    let broken = Arc::new(AtomicBool::new(true));
    let backend = failing(&broken);
    let rules = "error_rate = 0.5, min_requests = 10, open_for = \"2s\"";
    let gateway = before(&backend, rules);
    eventually("it opens", || gateway.get("/").token() == Some("breaker_open"));
    let hits = backend.hits();
    assert!(hits >= 10, "{hits}");
    let answer = gateway.get("/");
    answer.expect(503, Some("breaker_open"));
    let seconds: u64 = answer
        .header("retry-after")
        .and_then(|s| s.parse().ok())
        .expect("Retry-After");
    assert!((1..=2).contains(&seconds), "{seconds}");
    assert_eq!(backend.hits(), hits, "nothing gets through");
    let told = breaker(&gateway);
    assert_eq!(
        (&told["state"], &told["opened"]),
        (&"open".into(), &1.into()),
        "{told}"
    );
    assert!(
        told["reason"]
            .as_str()
            .is_some_and(|r| r.ends_with("requests failed")),
        "{told}"
    );
    assert_eq!(gateway.metric("tidegate_breaker_state", &[]), 2.0);
    assert!(gateway.metric("tidegate_breaker_refused_total", &["reason=\"open\""]) >= 2.0);

    // Still broken: one try, and it is open again.
    eventually("it lets one through", || gateway.get("/").text() == "broken");
    assert_eq!(backend.hits(), hits + 1);
    gateway.get("/").expect(503, Some("breaker_open"));
    broken.store(false, Ordering::SeqCst);
    eventually("it lets one through", || gateway.get("/").status == 200);
    for _ in 0..20 {
        assert_eq!(gateway.get("/").text(), "fine");
    }
    assert_eq!(breaker(&gateway)["state"], "closed");
    let expected = ["opened", "half_open", "opened", "half_open", "closed"];
    // Half-open for less than a look is not told.
    let seen = |kinds: &[String]| {
        let told: Vec<&str> = kinds
            .iter()
            .map(String::as_str)
            .filter(|k| *k != "half_open")
            .collect();
        told == ["opened", "opened", "closed"]
    };
    eventually("all is told", || seen(&events(&gateway)));
    assert!(events(&gateway).len() <= expected.len(), "{:?}", events(&gateway));
}

#[test]
fn without_a_rate_it_never_opens() {
    let backend = failing(&Arc::new(AtomicBool::new(true)));
    let gateway = before(&backend, "min_requests = 1");
    for _ in 0..50 {
        assert_eq!(gateway.get("/").text(), "broken");
    }
    assert_eq!(breaker(&gateway)["state"], "closed");
}

#[test]
fn no_more_requests_run_than_it_allows() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| Reply::ok("ok").held_by(&held));
    let gateway = before(&backend, "max_requests = 2");
    let mut conns: Vec<_> = (0..2)
        .map(|_| {
            let mut conn = gateway.connect();
            conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            conn
        })
        .collect();
    eventually("both are there", || gate.waiting() == 2);
    for _ in 0..3 {
        gateway.get("/").expect(503, Some("overloaded"));
    }
    gate.open();
    for conn in &mut conns {
        conn.response_to("GET").expect(200, None);
    }
    for _ in 0..5 {
        gateway.get("/").expect(200, None);
    }
    assert_eq!(breaker(&gateway)["crowded"], 3);
    assert_eq!(
        gateway.metric("tidegate_breaker_refused_total", &["reason=\"max_requests\""]),
        3.0
    );
}

#[test]
fn turned_off_by_a_reload_it_lets_everything_through() {
    let broken = Arc::new(AtomicBool::new(true));
    let backend = failing(&broken);
    let gateway = before(&backend, "error_rate = 0.5, min_requests = 5, open_for = \"10m\"");
    eventually("it opens", || gateway.get("/").token() == Some("breaker_open"));
    let config = |breaker: &str| {
        CONFIG
            .replace("@app@", &backend.address().to_string())
            .replace("@breaker@", breaker)
    };
    gateway.reload(&config("error_rate = 0.5, min_requests = 6, open_for = \"10m\""));
    gateway.get("/").expect(503, Some("breaker_open"));
    gateway.reload(&config("error_rate = 0"));
    broken.store(false, Ordering::SeqCst);
    gateway.get("/").expect(200, None);
    eventually("it is closed", || breaker(&gateway)["state"] == "closed");
}
