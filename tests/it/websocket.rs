//! WebSocket handshakes: held to their rules before an endpoint sees them, let in as far as there is room.

use crate::{PLAIN, gateway, in_front_of};
use std::time::{Duration, Instant};
use testkit::ws::{self, Client};
use testkit::{Backend, Conn, Gate, Gateway, eventually};

/// A gateway whose route has these bounds of WebSockets, and an access log.
fn bounded(backend: &Backend, websocket: &str) -> Gateway {
    let route = format!("[[routes]]\nname = \"chat\"\nwebsocket = {{ {websocket} }}");
    let log = "\n[log]\naccess = { path = \"access.log\", format = \"json\" }\n";
    let config = PLAIN.replace("[[routes]]", &route) + log;
    gateway(&config).with("app", backend.address()).start()
}

fn asks(gateway: &Gateway, handshake: &str) -> Conn {
    let mut conn = gateway.connect();
    conn.send(handshake);
    conn
}

#[test]
fn a_malformed_handshake_is_answered_before_an_endpoint_sees_it() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let good = ws::handshake("/", "");
    let without = |line: &str| {
        let lines = good.split_inclusive("\r\n");
        lines.filter(|l| !l.starts_with(line)).collect::<String>()
    };
    let changed = |from: &str, to: &str| good.replace(from, to);
    for (name, handshake, status, token) in [
        ("method", changed("GET ", "OPTIONS "), 400, "bad_handshake"),
        ("no key", without("Sec-WebSocket-Key"), 400, "bad_handshake"),
        (
            "short key",
            changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBs"),
            400,
            "bad_handshake",
        ),
        (
            "two keys",
            changed(
                "Sec-WebSocket-Version",
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version",
            ),
            400,
            "bad_handshake",
        ),
        ("no Connection", without("Connection"), 400, "bad_handshake"),
        (
            "version",
            changed("Version: 13", "Version: 8"),
            426,
            "upgrade_required",
        ),
        (
            "no version",
            without("Sec-WebSocket-Version"),
            426,
            "upgrade_required",
        ),
    ] {
        let answer = asks(&gateway, &handshake).response();
        assert_eq!(answer.status, status, "{name}");
        answer.expect(status, Some(token));
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{name}");
            assert_eq!(answer.header("upgrade"), Some("websocket"), "{name}");
        }
    }
    assert_eq!(backend.hits(), 0);
    // Names are compared without regard to case, and more may stand in Connection.
    let loose = good
        .replace("Connection: Upgrade", "connection: keep-alive, UPGRADE")
        .replace("Upgrade: websocket", "upgrade: WebSocket");
    assert_eq!(asks(&gateway, &loose).response().status, 101);
}

#[test]
fn an_answer_that_does_not_fit_the_key_is_502() {
    for answer in [
        "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        "",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Accept: x\r\n",
    ] {
        let backend = Backend::raw(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{answer}\r\nhello"
        ));
        let gateway = in_front_of(&backend);
        let answer = gateway.connect().send(ws::handshake("/", "")).response();
        answer.expect(502, Some("upgrade_refused"));
    }
}

#[test]
fn a_subprotocol_and_extensions_pass_untouched() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        visit.hit(request);
        let more = "Sec-WebSocket-Protocol: chat.v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        conn.send(ws::accepted(&key).replace("\r\n\r\n", &format!("\r\n{more}")));
    });
    let gateway = in_front_of(&backend);
    let offers = "Sec-WebSocket-Protocol: chat.v1, chat.v2\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let answer = asks(&gateway, &ws::handshake("/", offers)).response();
    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat.v2"));
    assert_eq!(
        answer.header("sec-websocket-extensions"),
        Some("permessage-deflate")
    );
    let seen = backend.last_request();
    assert_eq!(seen.header("sec-websocket-protocol"), Some("chat.v1, chat.v2"));
    assert_eq!(
        seen.header("sec-websocket-extensions"),
        Some("permessage-deflate; client_max_window_bits")
    );
}

#[test]
fn half_a_handshake_has_a_deadline_on_either_side() {
    let silent = Backend::script(|conn, visit| {
        if let Ok(request) = conn.try_request() {
            visit.hit(request);
        }
        conn.wait_for_end();
    });
    let gateway = bounded(&silent, "handshake_timeout = \"300ms\"");
    let begun = Instant::now();
    let answer = asks(&gateway, &ws::handshake("/t", "")).response();
    answer.expect(504, Some("response_timeout"));
    assert!(begun.elapsed() < Duration::from_secs(8));
    let record = gateway.access_record("/t");
    assert_eq!(
        record["timeout"], "routes.websocket.handshake_timeout",
        "{record}"
    );

    let config = PLAIN.replace(
        "[[routes]]",
        "limits = { header_timeout = \"300ms\" }\n[[routes]]",
    );
    let gateway = gateway_for(&config, &silent);
    let whole = ws::handshake("/", "");
    asks(&gateway, &whole[..whole.len() - 2])
        .response()
        .expect(408, Some("request_timeout"));
}

fn gateway_for(config: &str, backend: &Backend) -> Gateway {
    gateway(config).with("app", backend.address()).start()
}

#[test]
fn only_pages_that_may_open_websockets() {
    let backend = ws::echo_backend();
    let gateway = bounded(
        &backend,
        "origins = [\"https://app.example\", \"https://*.example.org\"]",
    );
    let from = |origin: &str| {
        asks(&gateway, &ws::handshake("/", &format!("Origin: {origin}\r\n")))
            .response()
            .status
    };
    assert_eq!(from("https://app.example"), 101);
    assert_eq!(from("https://a.b.example.org"), 101);
    for other in [
        "http://app.example",
        "https://evil.example",
        "https://example.org",
        "null",
    ] {
        assert_eq!(from(other), 403, "{other}");
    }
    assert_eq!(asks(&gateway, &ws::handshake("/", "")).response().status, 101);
    // It is about WebSockets alone.
    let plain = asks(
        &gateway,
        "GET / HTTP/1.1\r\nHost: test\r\nOrigin: https://evil.example\r\n\r\n",
    );
    drop(plain);
    assert_eq!(
        backend
            .requests()
            .iter()
            .filter(|r| r.headers.has("upgrade"))
            .count(),
        3
    );
}

#[test]
fn tunnels_are_bounded_by_route_by_client_and_by_listener() {
    for (limits, websocket, status, token) in [
        ("", "connections = 2", 503, "overloaded"),
        ("", "connections_per_ip = 2", 429, "rate_limited"),
        ("limits = { tunnels = 2 }\n", "", 503, "overloaded"),
    ] {
        let backend = ws::echo_backend();
        let route = format!("{limits}[[routes]]\nwebsocket = {{ {websocket} }}");
        let gateway = gateway_for(&PLAIN.replace("[[routes]]", &route), &backend);
        let mut first = Client::connect(gateway.connect(), "/");
        let second = Client::connect(gateway.connect(), "/");
        let mut conn = gateway.connect();
        let answer = conn.send(ws::handshake("/", "")).response();
        answer.expect(status, Some(token));
        assert!(answer.header("retry-after").is_some(), "{answer}");
        assert_eq!(backend.hits(), 2, "the endpoint did not see it");
        drop(second);
        eventually("a place is free", || {
            gateway.connect().send(ws::handshake("/", "")).response().status == 101
        });
        first.echo("still here");
        // A refused handshake keeps no place.
        let plain = Backend::text("no");
        let gateway = gateway_for(&PLAIN.replace("[[routes]]", &route), &plain);
        for _ in 0..5 {
            assert_eq!(
                gateway.connect().send(ws::handshake("/", "")).response().status,
                200
            );
        }
    }
}

#[test]
fn handshakes_come_no_faster_than_they_may_and_those_beyond_are_told_when() {
    const RATE: usize = 20;
    let backend = ws::echo_backend();
    let gateway = bounded(&backend, &format!("accept_rate = {RATE}"));
    let begun = Instant::now();
    let mut waiting: Vec<Conn> = (0..RATE * 4)
        .map(|_| asks(&gateway, &ws::handshake("/", "")))
        .collect();
    let answers: Vec<_> = waiting.iter_mut().map(Conn::response).collect();
    let took = begun.elapsed();
    let admitted = answers.iter().filter(|answer| answer.status == 101).count();
    // A second's worth may wait; how long this took is at least what that many turns take.
    assert!(admitted >= RATE, "{admitted}");
    let turns = Duration::from_secs(1) * (admitted as u32 - 1) / RATE as u32;
    assert!(
        took + Duration::from_millis(5) >= turns,
        "{admitted} within {took:?}"
    );
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 101).collect();
    assert!(!refused.is_empty());
    for answer in refused {
        answer.expect(503, Some("overloaded"));
        assert!(answer.header("retry-after").is_some(), "{answer}");
    }
    assert_eq!(backend.hits(), admitted, "the others were not seen");
}

#[test]
fn a_record_tells_who_closed_a_tunnel_and_one_may_tell_that_it_opened() {
    let backend = ws::echo_backend();
    let gateway = bounded(&backend, "log_open = true");
    let mut client = Client::connect(gateway.connect(), "/t");
    client.echo("hello");
    let opened = gateway.access_record("/t");
    assert_eq!((&opened["ended"], &opened["close"]), (&"open".into(), &().into()));
    drop(client);
    let records = || {
        let log = gateway.access_log();
        log.into_iter()
            .filter(|r| r["target"] == "/t")
            .collect::<Vec<_>>()
    };
    eventually("the end is told", || records().len() == 2);
    let ended = &records()[1];
    assert_eq!(
        (&ended["ended"], &ended["close"], &ended["close_code"]),
        (&"done".into(), &"client".into(), &().into()),
        "{ended}"
    );

    let mut client = Client::connect(gateway.connect(), "/u");
    client.echo("hello");
    backend.close_connections();
    client.conn.expect_end();
    drop(client);
    eventually("it is counted", || {
        gateway.metric("tidegate_ws_closed_total", &["reason=\"endpoint\""]) == 1.0
    });
    assert_eq!(
        gateway.metric("tidegate_ws_closed_total", &["reason=\"client\""]),
        1.0
    );
}

#[test]
fn a_silent_side_is_cut_however_much_the_other_says() {
    for (key, websocket) in [
        ("client_idle", "client_idle = \"1s\""),
        ("endpoint_idle", "endpoint_idle = \"1s\""),
    ] {
        // One talks all the time, the other never.
        let talks = key == "client_idle";
        let backend = Backend::script(move |conn, visit| {
            let Ok(request) = conn.try_request() else { return };
            let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
            visit.hit(request);
            conn.send(ws::accepted(&key));
            if talks {
                while conn.try_send(ws::frame(ws::TEXT, b"tick", false)).is_ok() {
                    testkit::pace(Duration::from_millis(50));
                }
            }
            conn.wait_for_end();
        });
        let gateway = bounded(&backend, websocket);
        let mut client = Client::connect(gateway.connect(), "/t");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            let ended = if talks {
                ws::read_frame(&mut client.conn).is_err()
            } else {
                let sent = client.conn.try_send(ws::frame(ws::TEXT, b"tick", true));
                testkit::pace(Duration::from_millis(50));
                sent.is_err() || !client.conn.is_quiet()
            };
            if ended {
                break;
            }
        }
        drop(client);
        let record = gateway.access_record("/t");
        assert_eq!(
            (&record["close"], &record["timeout"]),
            (&"idle".into(), &format!("routes.websocket.{key}").into()),
            "{record}"
        );
    }
}

#[test]
fn an_endpoint_that_stops_reading_holds_the_client_and_no_memory() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        let deaf = request.target == "/deaf";
        visit.hit(request);
        conn.send(ws::accepted(&key));
        if deaf {
            held.wait();
        } else if let Ok((opcode, payload)) = ws::read_frame(conn) {
            conn.send(ws::frame(opcode, &payload, false));
        }
    });
    let gateway = in_front_of(&backend);
    let mut client = Client::connect(gateway.connect(), "/deaf");
    let before = gateway.rss_kb();
    let bytes = ws::frame(ws::BINARY, &vec![7; 96 << 20], true);
    let taken = client.conn.send_while_taken(&bytes, Duration::from_secs(1));
    assert!(taken < bytes.len(), "what nobody reads is not taken");
    let grown = gateway.rss_kb().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    Client::connect(gateway.connect(), "/").echo("others are served");
    gate.open();
}
