//! Which endpoint gets a request.

use crate::gateway;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::{Backend, Gate, Gateway, Load, Reply, eventually};

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
        let before = quick.hits();
        let mut conn = gateway.connect();
        conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
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

/// Who answers a request with this field, at a gateway that asks for it.
fn answer_to(gateway: &Gateway, field: &str) -> String {
    gateway
        .send(format!("GET / HTTP/1.1\r\nHost: test\r\n{field}\r\n\r\n"))
        .text()
}

#[test]
fn a_key_stays_with_its_endpoint_on_every_gateway_and_moves_only_when_that_is_lost() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let backends = [("a", &a), ("b", &b), ("c", &c)];
    let upstream = r#"
        balance = "hash"
        key = "header:X-User"
        endpoints = ["@a@", "@b@", "@c@"]
        "#;
    let turned = upstream.replace(r#""@a@", "@b@", "@c@""#, r#""@c@", "@b@", "@a@""#);
    let (one, other) = (one_worker(upstream, &backends), one_worker(&turned, &backends));
    let users: Vec<String> = (0..60).map(|n| format!("X-User: {n}")).collect();
    let homes: Vec<String> = users.iter().map(|user| answer_to(&one, user)).collect();
    let used: BTreeSet<&String> = homes.iter().collect();
    assert_eq!(used.len(), 3, "{homes:?}");
    for (user, home) in users.iter().zip(&homes) {
        assert_eq!(answer_to(&one, user), *home);
        assert_eq!(answer_to(&other, user), *home, "the order of the file has no say");
    }
    b.down();
    for (user, home) in users.iter().zip(&homes) {
        let now = answer_to(&one, user);
        assert!(
            if home == "b" { now != "b" } else { now == *home },
            "{user}: {home} {now}"
        );
    }
}

#[test]
fn a_client_address_stays_with_its_endpoint() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        trusted_proxies = ["127.0.0.1"]
        [[routes]]
        upstream = "app"
        [upstreams.app]
        balance = "ip_hash"
        endpoints = ["@a@", "@b@", "@c@"]
        "#,
    )
    .with("a", a.address())
    .with("b", b.address())
    .with("c", c.address())
    .start();
    let homes: Vec<BTreeSet<String>> = (1..40)
        .map(|n| {
            (0..3)
                .map(|_| answer_to(&gateway, &format!("X-Forwarded-For: 203.0.113.{n}")))
                .collect()
        })
        .collect();
    assert!(homes.iter().all(|home| home.len() == 1), "{homes:?}");
    let used: BTreeSet<&String> = homes.iter().flatten().collect();
    assert_eq!(used.len(), 3);
    // Whom the connection comes from counts where no proxy is believed.
    assert_eq!(answers(&gateway, 5).chars().collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn cookies_parameters_and_uris_are_keys_too() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let cookie: fn(u32) -> String = |n| format!("GET / HTTP/1.1\r\nHost: t\r\nCookie: x=1; sid={n}\r\n\r\n");
    let query: fn(u32) -> String = |n| format!("GET /?a=1&user={n} HTTP/1.1\r\nHost: t\r\n\r\n");
    let uri: fn(u32) -> String = |n| format!("GET /item/{n}?x HTTP/1.1\r\nHost: t\r\n\r\n");
    for (key, request) in [("cookie:sid", cookie), ("query:user", query), ("uri", uri)] {
        let gateway = one_worker(
            &format!("balance = \"hash\"\nkey = \"{key}\"\nendpoints = [\"@a@\", \"@b@\", \"@c@\"]"),
            &[("a", &a), ("b", &b), ("c", &c)],
        );
        let mut conn = gateway.connect();
        let mut answer = |n: u32| conn.send(request(n)).response().text();
        let homes: Vec<String> = (0..30).map(&mut answer).collect();
        let again: Vec<String> = (0..30).map(&mut answer).collect();
        assert_eq!(homes, again, "{key}");
        assert_eq!(homes.iter().collect::<BTreeSet<_>>().len(), 3, "{key}");
    }
}

#[test]
fn a_hot_key_overflows_to_the_next_endpoint_only_where_load_is_bounded() {
    // Six at three: two each on average, and a quarter more is three.
    for (bounded_load, most) in [("0", 6), ("1.25", 3)] {
        let gate = Gate::new();
        let backends: Vec<Backend> = (0..3)
            .map(|_| {
                let gate = gate.clone();
                Backend::http(move |_| Reply::ok("").held_by(&gate))
            })
            .collect();
        let gateway = one_worker(
            &format!(
                "balance = \"hash\"\nkey = \"uri\"\nbounded_load = {bounded_load}\nendpoints = [\"@a@\", \"@b@\", \"@c@\"]"
            ),
            &[("a", &backends[0]), ("b", &backends[1]), ("c", &backends[2])],
        );
        let mut waiting = Vec::new();
        for n in 1..=6 {
            let mut conn = gateway.connect();
            conn.send("GET /hot HTTP/1.1\r\nHost: test\r\n\r\n");
            eventually("it is held", || gate.waiting() == n);
            waiting.push(conn);
        }
        let hits = backends.iter().map(Backend::hits).max();
        assert_eq!(hits, Some(most), "bounded_load = {bounded_load}");
        gate.open();
    }
}

#[test]
fn the_first_in_the_file_takes_all_while_it_can() {
    let (a, b) = (named("a"), named("b"));
    let gateway = one_worker(
        "balance = \"first\"\nendpoints = [\"@a@\", { address = \"@b@\", weight = 9 }]",
        &[("a", &a), ("b", &b)],
    );
    assert_eq!(answers(&gateway, 20), "a".repeat(20));
    a.down();
    assert_eq!(answers(&gateway, 3), "bbb");
}

#[test]
fn whoever_is_full_is_passed_over() {
    for balance in ["first", "hash", "adaptive", "least_time", "random_two"] {
        let gate = Gate::new();
        let backends: Vec<Backend> = (0..2)
            .map(|_| {
                let gate = gate.clone();
                Backend::http(move |_| Reply::ok("").held_by(&gate))
            })
            .collect();
        let gateway = one_worker(
            &format!(
                r#"
                balance = "{balance}"
                key = "uri"
                endpoints = [{{ address = "@a@", max_connections = 2 }}, {{ address = "@b@", max_connections = 2 }}]
                "#
            ),
            &[("a", &backends[0]), ("b", &backends[1])],
        );
        let mut waiting = Vec::new();
        for n in 1..=4 {
            let mut conn = gateway.connect();
            conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            eventually("it is held", || gate.waiting() == n);
            waiting.push(conn);
        }
        assert_eq!((backends[0].hits(), backends[1].hits()), (2, 2), "{balance}");
        gate.open();
    }
}

#[test]
fn random_two_avoids_the_busy_one() {
    let gate = Gate::new();
    let held = gate.clone();
    let (a, b) = (named("a"), named("b"));
    let busy = Backend::http(move |request| match &*request.target {
        "/hold" => Reply::ok("busy").held_by(&held),
        _ => Reply::ok("busy"),
    });
    let gateway = one_worker(
        "balance = \"random_two\"\nendpoints = [\"@busy@\", \"@a@\", \"@b@\"]",
        &[("busy", &busy), ("a", &a), ("b", &b)],
    );
    let mut holding = Vec::new();
    while gate.waiting() == 0 {
        let before = a.hits() + b.hits();
        let mut conn = gateway.connect();
        conn.send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("it reaches one of them", || {
            gate.waiting() == 1 || a.hits() + b.hits() > before
        });
        holding.push(conn);
    }
    let order = answers(&gateway, 40);
    assert!(
        !order.contains("busy") && order.contains('a') && order.contains('b'),
        "{order}"
    );
    gate.open();
}

/// The endpoint's share of what it and two others were asked, and its entry in the stats.
fn share_of_the_third(balance: &str, third: &Backend) -> (f64, serde_json::Value) {
    let quick = || Backend::http(|_| paused(Duration::from_millis(2)));
    let (a, b) = (quick(), quick());
    let gateway = gateway(
        r#"
        runtime = { workers = 2 }
        [listeners.web]
        address = "127.0.0.1:0"
        [admin]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        balance = "@balance@"
        endpoints = ["@a@", "@b@", "@third@"]
        "#,
    )
    .with("balance", balance)
    .with("a", a.address())
    .with("b", b.address())
    .with("third", third.address())
    .start();
    let load = Load::get(gateway.web(), 6, "/");
    eventually("six hundred answers", || a.hits() + b.hits() + third.hits() > 600);
    drop(load.stop());
    let hits = [&a, &b, third].map(|backend| backend.hits() as f64);
    assert!(hits[2] > 0.0, "nobody is judged without being asked");
    let endpoint = gateway.stats()["upstreams"][0]["endpoints"][2].clone();
    (hits[2] / hits.iter().sum::<f64>(), endpoint)
}

fn paused(time: Duration) -> Reply {
    Reply::raw("")
        .then_pause(time)
        .then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn what_answers_slowly_is_asked_less_and_the_scores_say_why() {
    for balance in ["adaptive", "least_time"] {
        let slow = Backend::http(|_| paused(Duration::from_millis(60)));
        let (share, endpoint) = share_of_the_third(balance, &slow);
        assert!(share < 0.2, "{balance}: {share}");
        let latency = endpoint["score"]["latency_ms"].as_f64().unwrap();
        assert!(latency > 20.0, "{balance}: {endpoint:#}");
    }
    let slow = Backend::http(|_| paused(Duration::from_millis(60)));
    let (_, endpoint) = share_of_the_third("round_robin", &slow);
    assert!(endpoint["score"].is_null(), "turns are not taken by score");
}

#[test]
fn what_fails_quickly_attracts_nobody() {
    let failing = Backend::http(|_| Reply::new(500, ""));
    let (share, endpoint) = share_of_the_third("adaptive", &failing);
    assert!(share < 0.1, "{share}");
    assert!(
        endpoint["score"]["penalty"].as_f64().unwrap() > 1.5,
        "{endpoint:#}"
    );
}

#[test]
fn the_environment_chooses_for_upstreams_that_do_not() {
    let a = named("a");
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [admin]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = ["@a@"]
        "#,
    )
    .with("a", a.address())
    .env("LB_ALGORITHM", "ai_optimized")
    .start();
    assert_eq!(gateway.stats()["upstreams"][0]["balance"], "adaptive");
}

#[test]
fn a_reload_to_another_algorithm_keeps_what_was_learnt() {
    let (a, b) = (named("a"), named("b"));
    let config = r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [admin]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        balance = "adaptive"
        endpoints = ["@a@", "@b@"]
        "#;
    let gateway = gateway(config)
        .with("a", a.address())
        .with("b", b.address())
        .start();
    answers(&gateway, 10);
    let score = |gateway: &Gateway| gateway.stats()["upstreams"][0]["endpoints"][0]["score"].clone();
    assert!(score(&gateway)["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    let config = config
        .replace("@a@", &a.address().to_string())
        .replace("@b@", &b.address().to_string());
    for balance in [
        "least_connections",
        "random_two",
        "least_time",
        "hash",
        "ip_hash",
        "first",
        "round_robin",
    ] {
        gateway.reload(&config.replace("adaptive", balance));
        assert_eq!(gateway.get("/").status, 200, "{balance}");
        assert_eq!(gateway.stats()["upstreams"][0]["balance"], balance);
    }
}
