//! `max_connections`: an endpoint never has more, and who finds all of them at their limit waits in line.

use crate::gateway;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::{Backend, Conn, Gate, Gateway, Load, Reply, eventually, holds_for, ws};

const CONFIG: &str = r#"
[runtime]
workers = 2
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = [@list@]
queue = { @queue@ }
[admin]
address = "127.0.0.1:0"
[log]
access = { path = "access.log", format = "json" }
"#;

fn one(backend: &Backend, most: usize, queue: &str) -> Gateway {
    let endpoint = format!(
        "{{ address = \"{}\", max_connections = {most} }}",
        backend.address()
    );
    gateway(CONFIG)
        .with("list", endpoint)
        .with("queue", queue)
        .start()
}

fn held(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::http(move |_| Reply::ok("ok").held_by(&gate))
}

fn queue(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/upstreams/app").json()["queue"].clone()
}

fn ask(gateway: &Gateway, target: &str) -> Conn {
    let mut conn = gateway.connect();
    conn.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    conn
}

#[test]
fn no_more_than_its_limit_reaches_an_endpoint_and_the_rest_is_served_in_order() {
    let gate = Gate::new();
    let backend = held(&gate);
    let gateway = one(&backend, 1, "");
    let mut conns = vec![ask(&gateway, "/0")];
    gate.reached();
    for n in 1..6 {
        conns.push(ask(&gateway, &format!("/{n}")));
        eventually("it is in line", || queue(&gateway)["waiting"] == n);
    }
    assert_eq!(gateway.metric("tidegate_queue_waiting", &[]), 5.0);
    holds_for(Duration::from_millis(250), "only one is there", || {
        gate.waiting() == 1
    });
    gate.open();
    for conn in &mut conns {
        assert_eq!(conn.response_to("GET").status, 200);
    }
    let targets: Vec<String> = backend.requests().iter().map(|r| r.target.clone()).collect();
    assert_eq!(targets, ["/0", "/1", "/2", "/3", "/4", "/5"]);
    let told = queue(&gateway);
    assert_eq!(
        (&told["waiting"], &told["served"]),
        (&0.into(), &5.into()),
        "{told}"
    );
}

#[test]
fn a_full_line_and_one_that_does_not_move_are_told_at_once_and_in_time() {
    let gate = Gate::new();
    let backend = held(&gate);
    let gateway = one(&backend, 1, "max = 1, timeout = \"300ms\"");
    let mut first = ask(&gateway, "/first");
    gate.reached();
    let begun = Instant::now();
    let mut second = ask(&gateway, "/second");
    eventually("it is in line", || queue(&gateway)["waiting"] == 1);
    let third = gateway.get("/third");
    third.expect(503, Some("overloaded"));
    assert_eq!(third.header("retry-after"), Some("1"));
    second.response_to("GET").expect(503, Some("overloaded"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let late = gateway.access_record("/second");
    assert_eq!(late["timeout"], "upstreams.queue.timeout", "{late}");
    assert_eq!(late["attempts"].as_array().map(Vec::len), Some(0), "{late}");
    assert!(late["queue_ms"].as_f64() >= Some(300.0), "{late}");
    let told = queue(&gateway);
    assert_eq!((&told["full"], &told["late"]), (&1.into(), &1.into()), "{told}");
    assert_eq!(
        gateway.metric("tidegate_queue_requests_total", &["result=\"late\""]),
        1.0
    );
    gate.open();
    first.response_to("GET").expect(200, None);
    assert_eq!(gateway.access_record("/first")["queue_ms"], 0.0);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(backend.hits(), 2);
}

#[test]
fn where_nobody_may_wait_nobody_does() {
    let gate = Gate::new();
    let backend = held(&gate);
    let gateway = one(&backend, 1, "max = 0");
    let mut first = ask(&gateway, "/");
    gate.reached();
    gateway.get("/").expect(503, Some("overloaded"));
    gate.open();
    first.response_to("GET").expect(200, None);
}

#[test]
fn who_leaves_the_line_is_out_of_it() {
    let gate = Gate::new();
    let backend = held(&gate);
    let gateway = one(&backend, 1, "timeout = \"60s\"");
    let mut first = ask(&gateway, "/first");
    gate.reached();
    let gone = ask(&gateway, "/gone");
    eventually("it is in line", || queue(&gateway)["waiting"] == 1);
    let mut stays = ask(&gateway, "/stays");
    eventually("so is the other", || queue(&gateway)["waiting"] == 2);
    gone.reset();
    eventually("it left", || queue(&gateway)["waiting"] == 1);
    gate.open();
    first.response_to("GET").expect(200, None);
    stays.response_to("GET").expect(200, None);
    assert_eq!(gateway.access_record("/gone")["status"], 499);
    assert_eq!(backend.hits(), 2);
}

#[test]
fn another_endpoint_is_better_than_waiting() {
    let gate = Gate::new();
    let (small, large) = (held(&gate), Backend::text("large"));
    let list = format!(
        "{{ address = \"{}\", max_connections = 1, weight = 100 }}, \"{}\"",
        small.address(),
        large.address()
    );
    let gateway = gateway(CONFIG).with("list", list).with("queue", "").start();
    let mut first = ask(&gateway, "/");
    gate.reached();
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "large");
    }
    let told = gateway.admin_get("/api/v1/explain?url=/").json();
    let why = &told["upstreams"][0]["endpoints"][0]["passed_over"];
    assert_eq!(why, "it has its max_connections", "{told}");
    gate.open();
    first.response_to("GET").expect(200, None);
}

#[test]
fn a_tunnel_takes_a_place_for_as_long_as_it_lives() {
    let backend = Backend::http(|r| match r.header("sec-websocket-key") {
        Some(key) => Reply::raw(ws::accepted(key)).then_hang(),
        None => Reply::ok("ok"),
    });
    let gateway = one(&backend, 1, "timeout = \"60s\"");
    let mut tunnel = gateway.connect();
    tunnel.send(ws::handshake("/", ""));
    tunnel.read_through(b"\r\n\r\n");
    let mut waits = ask(&gateway, "/");
    eventually("it is in line", || queue(&gateway)["waiting"] == 1);
    drop(tunnel);
    backend.close_connections();
    waits.response_to("GET").expect(200, None);
}

#[test]
fn a_reload_that_makes_room_serves_those_who_wait() {
    let gate = Gate::new();
    let backend = held(&gate);
    let config = |most: usize| {
        let endpoint = format!(
            "{{ address = \"{}\", max_connections = {most} }}",
            backend.address()
        );
        CONFIG
            .replace("@list@", &endpoint)
            .replace("@queue@", "timeout = \"60s\"")
    };
    let gateway = gateway(&config(2)).start();
    let mut conns: Vec<Conn> = (0..2).map(|n| ask(&gateway, &format!("/{n}"))).collect();
    eventually("both are there", || gate.waiting() == 2);
    conns.push(ask(&gateway, "/waits"));
    eventually("it is in line", || queue(&gateway)["waiting"] == 1);
    gateway.reload(&config(5));
    conns.push(ask(&gateway, "/new"));
    eventually("the new one is there", || gate.waiting() >= 3);
    gate.open();
    for conn in &mut conns {
        conn.response_to("GET").expect(200, None);
    }
}

#[test]
fn under_load_from_all_workers_the_limit_holds_and_everybody_is_served() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counting, highest) = (Arc::clone(&now), Arc::clone(&most));
    let backend = Backend::http(move |_| {
        highest.fetch_max(counting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        counting.fetch_sub(1, Ordering::SeqCst);
        Reply::ok("ok")
    });
    let gateway = one(&backend, 3, "");
    let load = Load::get(gateway.web(), 24, "/");
    eventually("much is served", || load.done() > 3_000);
    load.stop().expect_flawless();
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most}");
    let told = queue(&gateway);
    assert!(
        told["served"].as_u64() > Some(0) && told["waiting"] == 0,
        "{told}"
    );
}
