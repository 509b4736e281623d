//! Ejection: an endpoint at which requests fail is left alone for a while.

use crate::gateway;
use testkit::net::Refused;
use testkit::{Backend, Gateway, Reply, eventually, eventually_some, holds_for};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Two endpoints and what the upstream says of outliers.
fn two(first: impl std::fmt::Display, second: impl std::fmt::Display, outlier: &str) -> Gateway {
    gateway(CONFIG)
        .with("first", first)
        .with("second", second)
        .with("outlier", outlier)
        .start()
}

const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@first@", "@second@"]
outlier = { @outlier@ }
[admin]
address = "127.0.0.1:0"
"#;

#[test]
fn failures_in_a_row_eject_at_once_and_the_endpoint_comes_back() {
    let (bad, good) = (Backend::http(|_| Reply::new(500, "no")), Backend::text("ok"));
    let settings = "consecutive_failures = 3, error_rate = 0, eject = '2s'";
    let gateway = two(bad.address(), good.address(), settings);
    let statuses: Vec<u16> = (0..20).map(|_| gateway.get("/").status).collect();
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert_eq!(failed, 3, "{statuses:?}");
    assert_eq!(bad.hits(), 3);

    let state = gateway.endpoint(&bad.address());
    assert_eq!(
        (&state["state"], &state["ready"]),
        (&"ejected".into(), &false.into()),
        "{state}"
    );
    let last = &state["last_ejection"];
    assert_eq!(
        last["reason"], "3 failures in a row, the last: status 500",
        "{state}"
    );
    assert_eq!(last["over"], false, "{state}");
    assert_eq!(state["last_error"], "status 500", "{state}");
    assert!(state["last_error_at"].is_string(), "{state}");
    let event = eventually_some("it is told", || gateway.events("endpoint.ejected").pop());
    assert_eq!(event["target"], format!("app/{}", bad.address()), "{event}");
    assert_eq!(event["data"]["seconds"], 2.0, "{event}");
    let labels = [&*format!("endpoint=\"{}\"", bad.address())];
    assert_eq!(gateway.metric("tidegate_endpoint_ejected", &labels), 1.0);
    assert_eq!(gateway.metric("tidegate_endpoint_ejections_total", &labels), 1.0);
    assert_eq!(gateway.metric("tidegate_endpoint_ready", &labels), 0.0);

    // What it cost is counted up a moment later.
    let entry = eventually_some("it is in the history with its cost", || {
        let history = gateway.admin_get("/api/v1/clustering/failover/history").json();
        let all = history["history"].as_array()?;
        let ejected = all.iter().find(|entry| entry["to"] == "ejected")?;
        (ejected["failed"].as_u64()? > 0).then(|| ejected.clone())
    });
    assert_eq!(
        (&entry["trigger"], &entry["from"], &entry["to"]),
        (&"passive".into(), &"active".into(), &"ejected".into()),
        "{entry}"
    );
    assert!(entry["detection_ms"].is_number(), "{entry}");
    assert_eq!(
        (&entry["failed"], &entry["retried"]),
        (&3.into(), &0.into()),
        "{entry}"
    );

    eventually("it is tried again", || {
        let _any = gateway.get("/");
        bad.hits() == 4
    });
    // On probation one failure is enough, and it is out for longer.
    let event = eventually_some("it is ejected again", || {
        gateway.events("endpoint.ejected").into_iter().nth(1)
    });
    assert_eq!(event["data"]["seconds"], 4.0, "{event}");
    assert_eq!(event["data"]["times"], 2, "{event}");
    assert_eq!(gateway.events("endpoint.readmitted").len(), 1);
}

#[test]
fn an_endpoint_that_fails_half_of_the_time_is_ejected_by_its_rate() {
    let count = AtomicUsize::new(0);
    let shaky = Backend::http(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        Reply::new(if n.is_multiple_of(2) { 500 } else { 200 }, "")
    });
    let good = Backend::text("ok");
    let settings = "consecutive_failures = 3, error_rate = 0.4, min_requests = 10, eject = '60s'";
    let gateway = two(shaky.address(), good.address(), settings);
    eventually("it is ejected", || {
        for _ in 0..10 {
            let _any = gateway.get("/");
        }
        gateway.endpoint(&shaky.address())["state"] == "ejected"
    });
    let reason = gateway.endpoint(&shaky.address())["last_ejection"]["reason"].clone();
    assert!(
        reason.as_str().is_some_and(|r| r.contains(" requests failed")),
        "{reason}"
    );
    let hits = shaky.hits();
    assert!(hits >= 10, "{hits}");
    for _ in 0..20 {
        gateway.get("/").expect(200, None);
    }
    assert_eq!(shaky.hits(), hits);
}

#[test]
fn what_clients_do_wrong_ejects_nobody() {
    let strict = Backend::http(|r| match r.target.as_str() {
        "/missing" => Reply::new(404, ""),
        "/odd" => Reply::new(501, ""),
        _ => Reply::new(505, ""),
    });
    let good = Backend::text("ok");
    let gateway = two(strict.address(), good.address(), "min_requests = 5");
    for target in ["/missing", "/odd", "/old"] {
        for _ in 0..20 {
            let _any = gateway.get(target);
        }
    }
    holds_for(Duration::from_millis(300), "it stays", || {
        gateway.endpoint(&strict.address())["state"] == "active"
    });
    assert_eq!(strict.hits(), 30);
}

#[test]
fn the_only_endpoint_is_never_ejected() {
    let bad = Backend::http(|_| Reply::new(500, "no"));
    let gateway = crate::in_front_of(&bad);
    for _ in 0..30 {
        gateway.get("/").expect(500, None);
    }
    assert_eq!(bad.hits(), 30);
}

#[test]
fn when_all_fail_no_more_than_the_share_is_out() {
    let bad: Vec<Backend> = (0..4).map(|_| Backend::http(|_| Reply::new(500, "no"))).collect();
    let config = CONFIG.replace("\"@first@\", \"@second@\"", &Backend::list(&bad));
    let gateway = gateway(&config)
        .with("outlier", "consecutive_failures = 2")
        .start();
    for _ in 0..40 {
        gateway.get("/").expect(500, None);
    }
    let upstream = gateway.admin_get("/api/v1/upstreams/app").json();
    let states = upstream["endpoints"].as_array().expect("endpoints");
    let out = states.iter().filter(|e| e["state"] == "ejected").count();
    assert_eq!((out, &upstream["ready_endpoints"]), (2, &2.into()), "{upstream}");
}

#[test]
fn an_ejection_and_its_record_outlive_a_reload() {
    let (bad, good) = (Backend::http(|_| Reply::new(500, "no")), Backend::text("ok"));
    let settings = "consecutive_failures = 2, eject = '60s'";
    let gateway = two(bad.address(), good.address(), settings);
    eventually("it is ejected", || {
        let _any = gateway.get("/");
        gateway.endpoint(&bad.address())["state"] == "ejected"
    });
    let before = gateway.endpoint(&bad.address())["ejections"].clone();
    gateway.reload(
        &CONFIG
            .replace("@first@", &bad.address().to_string())
            .replace("@second@", &good.address().to_string())
            .replace("@outlier@", "consecutive_failures = 2, eject = '61s'"),
    );
    let hits = bad.hits();
    for _ in 0..10 {
        gateway.get("/").expect(200, None);
    }
    assert_eq!(bad.hits(), hits);
    let state = gateway.endpoint(&bad.address());
    assert_eq!(
        (&state["ejections"], &state["state"]),
        (&before, &"ejected".into()),
        "{state}"
    );
}

#[test]
fn one_that_refuses_connections_is_not_knocked_at_forever() {
    let (refused, good) = (Refused::new(), Backend::text("ok"));
    let gateway = two(
        refused.address(),
        good.address(),
        "consecutive_failures = 5, eject = '60s'",
    );
    for _ in 0..30 {
        gateway.get("/").expect(200, None);
    }
    let labels = [&*format!("endpoint=\"{}\"", refused.address())];
    assert_eq!(gateway.metric("tidegate_lb_picks_total", &labels), 5.0);
}

#[test]
fn the_time_out_has_a_name_that_systems_carry_already() {
    let (bad, good) = (Backend::http(|_| Reply::new(500, "no")), Backend::text("ok"));
    let gateway = gateway(CONFIG)
        .with("first", bad.address())
        .with("second", good.address())
        .with("outlier", "consecutive_failures = 1")
        .env("FAILOVER_RECOVERY_TIMEOUT", "7")
        .start();
    let event = eventually_some("it is ejected", || {
        let _any = gateway.get("/");
        gateway.events("endpoint.ejected").pop()
    });
    assert_eq!(event["data"]["seconds"], 7.0, "{event}");
}
