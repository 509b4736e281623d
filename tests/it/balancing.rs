//! Which endpoint gets a request.

use crate::gateway;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::{Backend, Gate, Gateway, Reply, eventually};

fn named(name: &'static str) -> Backend {
    Backend::text(name)
}

fn one_worker(upstream: &str, backends: &[(&str, &Backend)]) -> Gateway {
    let config = r#"
        runtime = { workers = 1 }
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        @upstream@
        "#;
    let builder = gateway(config).with("upstream", upstream);
    backends
        .iter()
        .fold(builder, |builder, (name, backend)| {
            builder.with(name, backend.address())
        })
        .start()
}

/// Who answered each of so many requests over one connection.
fn answers(gateway: &Gateway, n: usize) -> String {
    let mut conn = gateway.connect();
    (0..n).map(|_| conn.get("/").text()).collect()
}

#[test]
fn equal_endpoints_take_turns() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let gateway = one_worker(
        r#"endpoints = [{ address = "@a@" }, { address = "@b@" }, { address = "@c@" }]"#,
        &[("a", &a), ("b", &b), ("c", &c)],
    );
    let order = answers(&gateway, 30);
    // From any start, every three in a row are the same three.
    assert_eq!(order[..3].repeat(10), order);
    assert_eq!((a.hits(), b.hits(), c.hits()), (10, 10, 10));
}

#[test]
fn weights_are_kept_smoothly() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let gateway = one_worker(
        r#"
        balance = "weighted"
        endpoints = [{ address = "@a@", weight = 5 }, { address = "@b@", weight = 1 }, { address = "@c@", weight = 1 }]
        "#,
        &[("a", &a), ("b", &b), ("c", &c)],
    );
    let order = answers(&gateway, 70);
    assert_eq!((a.hits(), b.hits(), c.hits()), (50, 10, 10), "{order}");
    // Smooth: the light ones are spread, never six of the heavy one in a row.
    assert!(
        !order.contains("aaaaaa") && !order.contains("bb") && !order.contains("cc"),
        "{order}"
    );
}

#[test]
fn an_endpoint_of_weight_zero_gets_nothing() {
    let (a, b) = (named("a"), named("b"));
    let gateway = one_worker(
        r#"endpoints = [{ address = "@a@", weight = 0 }, { address = "@b@" }]"#,
        &[("a", &a), ("b", &b)],
    );
    assert_eq!(answers(&gateway, 20), "b".repeat(20));
}

#[test]
fn least_connections_avoids_the_busy() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow_hits = std::sync::Arc::new(AtomicUsize::new(0));
    let count = slow_hits.clone();
    let slow = Backend::http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::ok("slow").held_by(&held)
    });
    let quick = named("quick");
    let gateway = one_worker(
        r#"
        balance = "least_connections"
        endpoints = [{ address = "@slow@" }, { address = "@quick@" }]
        "#,
        &[("slow", &slow), ("quick", &quick)],
    );
    // The first request that meets the slow endpoint hangs there.
    let mut waiting = Vec::new();
    while gate.waiting() == 0 {
        let mut conn = gateway.connect();
        conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let before = quick.hits();
        eventually("it reaches one of them", || {
            gate.waiting() == 1 || quick.hits() > before
        });
        waiting.push(conn);
    }
    for _ in 0..20 {
        assert_eq!(gateway.get("/").text(), "quick");
    }
    assert_eq!(slow_hits.load(Ordering::SeqCst), 1);
    gate.open();
}

#[test]
fn a_backup_is_used_only_when_nobody_else_is_left() {
    let (main, backup) = (named("main"), named("backup"));
    let gateway = one_worker(
        r#"endpoints = [{ address = "@main@" }, { address = "@backup@", backup = true }]"#,
        &[("main", &main), ("backup", &backup)],
    );
    assert_eq!(answers(&gateway, 10), "main".repeat(10));
    main.down();
    assert_eq!(answers(&gateway, 3), "backup".repeat(3));
}

#[test]
fn every_worker_serves_all_endpoints_fairly() {
    let (a, b) = (named("a"), named("b"));
    let gateway = gateway(
        r#"
        runtime = { workers = 2 }
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@a@" }, { address = "@b@" }]
        "#,
    )
    .with("a", a.address())
    .with("b", b.address())
    .start();
    for _ in 0..40 {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert!(
        (14..=26).contains(&a.hits()) && a.hits() + b.hits() == 40,
        "{} {}",
        a.hits(),
        b.hits()
    );
}
