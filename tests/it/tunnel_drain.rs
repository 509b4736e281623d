//! Tunnels asked to go in slices: by the drain of an endpoint, of the gateway, and when an endpoint leaves the file.

use crate::gateway;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::gateway::Sig;
use testkit::ws::{self, Client};
use testkit::{Backend, Gateway, eventually, holds_for};

const CONFIG: &str = r#"
[runtime]
workers = 2
drain_timeout = "8s"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
websocket = { inspect = true }
[[routes]]
paths = ["/opaque"]
upstream = "app"
[upstreams.app]
balance = "round_robin"
endpoints = [@list@]
drain = { @drain@ }
[log]
access = { path = "access.log", format = "json" }
[admin]
address = "127.0.0.1:0"
tokens = [{ name = "ops", role = "operator", token = "env:OPERATOR" }]
"#;

const OPERATOR: &str = "operator-operator-operator";

fn started(backends: &[&Backend], drain: &str) -> Gateway {
    gateway(CONFIG)
        .env("OPERATOR", OPERATOR)
        .token(OPERATOR)
        .with("list", Backend::list(backends))
        .with("drain", drain)
        .start()
}

fn drain(gateway: &Gateway, backend: &Backend, wish: &Value) {
    let path = format!("/api/v1/upstreams/app/endpoints/{}", backend.address());
    let answer = gateway.admin_call("PUT", &path, "", &wish.to_string());
    assert_eq!(answer.status, 200, "{answer}");
}

/// Whether a client was told to go, with which code; he says goodbye too.
fn told_to_go(client: &mut Client) -> Option<u16> {
    if client.conn.is_quiet() {
        return None;
    }
    let (opcode, payload) = ws::read_frame(&mut client.conn).ok()?;
    assert_eq!(opcode, ws::CLOSE);
    let code = [payload[0], payload[1]];
    let _ = client.conn.try_send(ws::frame(ws::CLOSE, &code, true));
    Some(u16::from_be_bytes(code))
}

fn tunnels_at(gateway: &Gateway, backend: &Backend) -> u64 {
    let shown = gateway.endpoint(&backend.address());
    shown["open_websockets"].as_u64().unwrap_or(0)
}

#[test]
fn a_drain_asks_tunnels_to_go_at_its_rate_and_those_elsewhere_stay() {
    const TUNNELS: usize = 40;
    let (a, b) = (ws::echo_backend(), ws::echo_backend());
    let gateway = started(&[&a, &b], "rate = 10, jitter = 0.2");
    let mut clients: Vec<Client> = (0..TUNNELS)
        .map(|_| Client::connect(gateway.connect(), "/"))
        .collect();
    // Each worker counts by itself, so that one has a little more than the other.
    let there = tunnels_at(&gateway, &a) as usize;
    assert!((15..=25).contains(&there), "{there}");
    assert_eq!(there + tunnels_at(&gateway, &b) as usize, TUNNELS);
    let begun = Instant::now();
    drain(&gateway, &a, &json!({ "state": "draining" }));
    let mut gone = 0;
    let mut progress = Value::Null;
    while gone < there {
        assert!(begun.elapsed() < Duration::from_secs(20), "{gone} have gone");
        clients.retain_mut(|client| match told_to_go(client) {
            None => true,
            Some(code) => {
                assert_eq!(code, 1012);
                gone += 1;
                false
            }
        });
        // Never faster than the rate, a slice more or less.
        let most = 10.0 * begun.elapsed().as_secs_f64() * 1.2 + 3.0;
        assert!(gone as f64 <= most, "{gone} after {:?}", begun.elapsed());
        if gone > 0 && progress.is_null() {
            progress = gateway.endpoint(&a.address())["drain"].clone();
            assert!(gateway.metric("tidegate_endpoint_drain_seconds", &[]) > 0.0);
        }
    }
    assert_eq!(progress["rate"], 10, "{progress}");
    assert!(progress["estimated_end"].is_string(), "{progress}");
    assert_eq!(progress["at_start"]["open_websockets"], there, "{progress}");
    eventually("the drain is over", || {
        gateway.endpoint(&a.address())["drain"]["finished"].is_string()
    });
    for client in &mut clients {
        client.echo("elsewhere");
    }
    assert_eq!(
        gateway.metric("tidegate_ws_closed_total", &["reason=\"drain\""]),
        there as f64
    );
    // Whoever comes back lands elsewhere.
    for _ in 0..4 {
        clients.push(Client::connect(gateway.connect(), "/"));
    }
    assert_eq!(tunnels_at(&gateway, &a), 0);
}

#[test]
fn without_a_rate_they_are_spread_over_the_time_to_the_deadline_and_an_undrain_ends_the_asking() {
    let a = ws::echo_backend();
    let gateway = started(&[&a], "deadline = \"0s\"");
    let mut clients: Vec<Client> = (0..30).map(|_| Client::connect(gateway.connect(), "/")).collect();
    drain(&gateway, &a, &json!({ "state": "draining" }));
    holds_for(
        Duration::from_millis(500),
        "nobody is asked without a deadline",
        || clients.iter_mut().all(|client| client.conn.is_quiet()),
    );
    drain(&gateway, &a, &json!({ "state": "draining", "deadline": "9s" }));
    eventually("some are asked", || {
        clients.retain_mut(|client| told_to_go(client).is_none());
        clients.len() < 25
    });
    assert!(clients.len() > 5, "they do not all go at once: {}", clients.len());
    drain(&gateway, &a, &json!({ "state": "active" }));
    // What was on its way.
    testkit::pace(Duration::from_millis(600));
    clients.retain_mut(|client| told_to_go(client).is_none());
    assert!(!clients.is_empty());
    holds_for(Duration::from_secs(1), "nobody else is asked", || {
        clients.iter_mut().all(|client| client.conn.is_quiet())
    });
    for client in &mut clients {
        client.echo("back in");
    }
}

#[test]
fn an_opaque_tunnel_is_ended_cleanly_and_what_the_client_still_says_arrives() {
    let a = ws::echo_backend();
    let gateway = started(&[&a], "rate = 100");
    let mut client = Client::connect(gateway.connect(), "/opaque");
    client.echo("hello");
    drain(&gateway, &a, &json!({ "state": "draining" }));
    eventually("it ends", || !client.conn.is_quiet());
    assert!(client.conn.try_read(1).is_err(), "nothing but the end comes");
    let last = ws::frame(ws::TEXT, b"last words", true);
    client.conn.send(&last);
    client.conn.half_close();
    eventually("they arrive", || {
        a.received().iter().any(|bytes| bytes.ends_with(&last))
    });
    drop(client);
    let record = gateway.access_record("/opaque");
    assert_eq!(
        (&record["close"], &record["token"], &record["close_code"]),
        (&json!("drain"), &json!("draining"), &Value::Null),
        "{record}"
    );
}

#[test]
fn an_endpoint_that_leaves_the_file_drains_and_without_rules_its_tunnels_stay() {
    for (rules, goes) in [("rate = 100", true), ("rate = 0", false)] {
        let (a, b) = (ws::echo_backend(), ws::echo_backend());
        // One worker, so that they are given one each.
        let config = CONFIG.replace("workers = 2", "workers = 1");
        let gateway = gateway(&config)
            .env("OPERATOR", OPERATOR)
            .token(OPERATOR)
            .with("list", Backend::list(&[&a, &b]))
            .with("drain", rules)
            .start();
        let mut first = Client::connect(gateway.connect(), "/");
        let mut second = Client::connect(gateway.connect(), "/");
        let left = |backends: &[&Backend]| {
            config
                .replace("@list@", &Backend::list(backends))
                .replace("@drain@", rules)
        };
        gateway.reload(&left(&[&b]));
        let (at_a, at_b) = if a.open_connections() == 1 && goes {
            (&mut first, &mut second)
        } else {
            (&mut second, &mut first)
        };
        if goes {
            let mut both = [at_a, at_b];
            eventually("one is asked", || {
                both.iter_mut().any(|client| told_to_go(client) == Some(1012))
            });
            eventually("it is gone", || a.open_connections() == 0);
            assert_eq!(b.open_connections(), 1);
        } else {
            holds_for(Duration::from_millis(700), "both stay", || {
                at_a.conn.is_quiet() && at_b.conn.is_quiet()
            });
            at_a.echo("here");
            at_b.echo("here");
        }
    }
}

#[test]
fn the_end_of_the_gateway_asks_its_tunnels_to_go_and_is_clean_when_they_do() {
    let a = ws::echo_backend();
    let mut gateway = started(&[&a], "rate = 0");
    let mut clients: Vec<Client> = (0..30).map(|_| Client::connect(gateway.connect(), "/")).collect();
    gateway.signal(Sig::TERM);
    let begun = Instant::now();
    let mut halfway = None;
    while !clients.is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(12),
            "{} are left",
            clients.len()
        );
        clients.retain_mut(|client| match told_to_go(client) {
            Some(code) => {
                assert_eq!(code, 1001);
                false
            }
            None => true,
        });
        if clients.len() <= 15 {
            halfway.get_or_insert_with(|| begun.elapsed());
        }
    }
    assert!(
        halfway > Some(Duration::from_secs(1)),
        "{halfway:?}: not all at once"
    );
    assert_eq!(gateway.wait(), Some(0), "nothing was cut");
}

#[test]
fn the_gateway_s_own_rate_and_order_hold_for_its_end() {
    const TUNNELS: usize = 24;
    let a = ws::echo_backend();
    for workers in [1, 2] {
        let own = format!("workers = {workers}\ndrain = {{ rate = 8, jitter = 0.0, order = \"oldest\" }}");
        let config = CONFIG
            .replace("workers = 2", &own)
            .replace("drain_timeout = \"8s\"", "drain_timeout = \"40s\"");
        let mut gateway = gateway(&config)
            .env("OPERATOR", OPERATOR)
            .token(OPERATOR)
            .with("list", Backend::list(&[&a]))
            .with("drain", "rate = 0")
            .start();
        let mut clients: Vec<Client> = (0..TUNNELS)
            .map(|_| Client::connect(gateway.connect(), "/"))
            .collect();
        gateway.signal(Sig::TERM);
        let begun = Instant::now();
        let mut gone: Vec<usize> = Vec::new();
        while gone.len() < TUNNELS {
            assert!(begun.elapsed() < Duration::from_secs(30), "{gone:?} have gone");
            for (number, client) in clients.iter_mut().enumerate() {
                if !gone.contains(&number) && told_to_go(client) == Some(1001) {
                    gone.push(number);
                }
            }
            let most = 8.0 * begun.elapsed().as_secs_f64() + 4.0;
            assert!(gone.len() as f64 <= most, "{gone:?} after {:?}", begun.elapsed());
        }
        if workers == 1 {
            assert!(gone.is_sorted(), "{gone:?}");
        }
        assert_eq!(gateway.wait(), Some(0), "nothing was cut");
    }
}

#[test]
fn a_storm_stays_away_while_a_backend_drains() {
    const TUNNELS: usize = 60;
    const RATE: f64 = 20.0;
    let backends = [ws::echo_backend(), ws::echo_backend(), ws::echo_backend()];
    let [a, b, c] = &backends;
    let config = CONFIG.replace(
        "websocket = { inspect = true }",
        "websocket = { inspect = true, accept_rate = 40 }",
    );
    let gateway = gateway(&config)
        .env("OPERATOR", OPERATOR)
        .token(OPERATOR)
        .with("list", Backend::list(&[a, b, c]))
        .with("drain", "rate = 20")
        .start();
    let mut clients: Vec<Client> = Vec::new();
    while clients.len() < TUNNELS {
        clients.push(Client::connect(gateway.connect(), "/"));
    }
    let before = b.hits() + c.hits();
    let begun = Instant::now();
    drain(&gateway, a, &json!({ "state": "draining" }));
    let (mut returned, mut slowest) = (0, Duration::ZERO);
    while tunnels_at(&gateway, a) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{returned} came back");
        for client in &mut clients {
            if told_to_go(client).is_some() {
                // Back at once, as clients do.
                let asked = Instant::now();
                *client = Client::connect(gateway.connect(), "/");
                slowest = slowest.max(asked.elapsed());
                returned += 1;
            }
        }
    }
    // Nobody was refused (`connect` sees to that), and they came no faster than they were asked.
    let took = begun.elapsed().as_secs_f64();
    let came = (b.hits() + c.hits() - before) as f64;
    assert_eq!(came, returned as f64);
    assert!(came <= RATE * 1.5 * took + 5.0, "{came} within {took} s");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(returned >= TUNNELS / 6, "{returned}");
    eventually("nobody is left there", || a.open_connections() == 0);
}
