//! Tunnels over reloads: none is closed, whatever changes; what changed holds for new ones.

use crate::{PLAIN, gateway};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use testkit::ws::{self, Client};
use testkit::{Backend, eventually, holds_for};

/// The usual gateway, with these keys of the route, and more behind it.
fn config(websocket: &str, more: &str) -> String {
    let route = format!("[[routes]]\nwebsocket = {{ {websocket} }}");
    PLAIN.replace("[[routes]]", &route) + more
}

/// What is none of the tunnels' business, another one each time: routes, upstreams, limits, logs.
fn others(round: usize) -> String {
    format!(
        r#"
[[routes]]
paths = ["/other-{round}"]
upstream = "other"
timeouts = {{ response = "{}s" }}
[upstreams.other]
balance = "{}"
endpoints = ["127.0.0.1:{}", "127.0.0.1:9"]
[log]
level = "{}"
"#,
        round + 1,
        if round.is_multiple_of(2) {
            "round_robin"
        } else {
            "least_connections"
        },
        10_000 + round,
        if round.is_multiple_of(3) { "info" } else { "warn" },
    )
}

#[test]
fn a_thousand_websockets_with_traffic_live_through_a_hundred_reloads() {
    const TUNNELS: usize = 1000;
    const THREADS: usize = 4;
    const RELOADS: usize = 100;
    testkit::net::raise_open_files();
    let backend = ws::echo_backend();
    let gateway = gateway(&config("idle = \"1h\"", &others(0)))
        .with("app", backend.address())
        .start();
    let mut clients: Vec<Client> = (0..TUNNELS)
        .map(|_| Client::connect(gateway.connect(), "/"))
        .collect();
    let (over, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for part in clients.chunks_mut(TUNNELS / THREADS) {
            let (over, echoes) = (&over, &echoes);
            scope.spawn(move || {
                // Each once more after the last reload.
                let mut last = false;
                while !last {
                    last = over.load(Ordering::SeqCst);
                    for client in &mut *part {
                        client.echo("still here");
                        echoes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 1..=RELOADS {
            // The tunnels' own route changes too, now and then.
            let idle = if round.is_multiple_of(10) {
                "idle = \"2h\""
            } else {
                "idle = \"1h\""
            };
            gateway.reload(&config(idle, &others(round)));
        }
        over.store(true, Ordering::SeqCst);
    });
    assert!(echoes.into_inner() >= 2 * TUNNELS);
    assert_eq!(gateway.metric("tidegate_ws_open", &[]), TUNNELS as f64);
    assert_eq!(gateway.metric("tidegate_ws_opened_total", &[]), TUNNELS as f64);
    assert!(
        !gateway.metrics().contains("tidegate_ws_closed_total{"),
        "none was closed"
    );
    assert_eq!(backend.hits(), TUNNELS, "nobody had to come back");
    assert!(gateway.reloads("applied") >= RELOADS as u64);
}

#[test]
fn what_changes_of_a_route_or_of_its_endpoints_holds_for_new_tunnels_only() {
    let (old, new) = (ws::echo_backend(), ws::echo_backend());
    let at = |backend: &Backend, websocket: &str| {
        config(websocket, "").replace("@app@", &backend.address().to_string())
    };
    let gateway = gateway(&at(&old, "inspect = true")).start();
    let mut first = Client::connect(gateway.connect(), "/");
    first.echo("old rules");

    gateway.reload(&at(&old, "inspect = true, max_age = \"1s\""));
    let mut second = Client::connect(gateway.connect(), "/");
    let told = ws::read_frame(&mut second.conn).unwrap();
    assert_eq!(told, (ws::CLOSE, 1001_u16.to_be_bytes().to_vec()));
    drop(second);
    first.echo("of the old one");

    // Its endpoint leaves the file, and without `drain.rate` nobody is asked to go.
    gateway.reload(&at(&new, "inspect = true"));
    let mut third = Client::connect(gateway.connect(), "/");
    third.echo("at the new one");
    assert_eq!((old.hits(), new.hits()), (2, 1));
    holds_for(Duration::from_millis(700), "the old one keeps its own", || {
        first.conn.is_quiet()
    });
    first.echo("still at the old one");

    // The route itself goes.
    gateway.reload(&at(&new, "inspect = true").replace("[[routes]]", "[[routes]]\npaths = [\"/elsewhere\"]"));
    assert_eq!(gateway.get("/").status, 404);
    first.echo("without a route");
    third.echo("without a route");
    drop((first, third));
    eventually("both end", || {
        old.open_connections() == 0 && new.open_connections() == 0
    });
}
