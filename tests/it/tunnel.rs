//! Upgraded connections: a checked handshake, then bytes both ways until one side ends.

use crate::{PLAIN, gateway, in_front_of};
use std::time::Duration;
use testkit::ws::{self, Client};
use testkit::{Backend, Reply, eventually, holds_for, pace, pattern};

#[test]
fn a_websocket_holds_its_conversation() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let mut client = Client::connect(gateway.connect(), "/chat?room=1");
    client.echo("hello");
    client.echo(&"x".repeat(70_000));
    for n in 0..100 {
        client.echo(&n.to_string());
    }
    let request = backend.last_request();
    assert_eq!(
        (request.target.as_str(), request.header("upgrade")),
        ("/chat?room=1", Some("websocket"))
    );
    assert!(request.headers.lists("connection", "upgrade"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn bytes_sent_along_with_the_handshake_are_not_lost() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        visit.hit(request);
        // The endpoint speaks first, in the same segment as its 101.
        let mut bytes = ws::accepted(&key).into_bytes();
        bytes.extend(ws::frame(ws::TEXT, b"welcome", false));
        conn.send(bytes);
        while let Ok((opcode, payload)) = ws::read_frame(conn) {
            if conn.try_send(ws::frame(opcode, &payload, false)).is_err() {
                return;
            }
        }
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let mut bytes = ws::handshake("/", "").into_bytes();
    // Clients must wait for the 101; bytes that come early belong to the tunnel all the same.
    bytes.extend(ws::frame(ws::TEXT, b"early", true));
    conn.send(bytes);
    assert_eq!(conn.response().status, 101);
    assert_eq!(ws::read_frame(&mut conn), Ok((ws::TEXT, b"welcome".to_vec())));
    assert_eq!(ws::read_frame(&mut conn), Ok((ws::TEXT, b"early".to_vec())));
}

#[test]
fn a_large_message_passes_under_back_pressure() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let mut client = Client::connect(gateway.connect(), "/");
    let body = pattern::bytes(8 << 20);
    client.conn.send(ws::frame(ws::BINARY, &body, true));
    let (_, back) = ws::read_frame(&mut client.conn).expect("the message");
    assert!(back == body, "the message changed");
}

#[test]
fn a_refused_handshake_passes_as_an_ordinary_answer() {
    let backend = Backend::http(|_| Reply::new(403, "not you"));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let answer = conn.send(ws::handshake("/", "")).response();
    answer.expect(403, None);
    assert_eq!(answer.text(), "not you");
    assert_eq!(conn.get("/").status, 403);
}

#[test]
fn a_switch_that_nobody_asked_for_is_502() {
    let backend = Backend::raw(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nevil",
    );
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.get("/").expect(502, Some("upgrade_refused"));
    conn.get("/").expect(502, Some("upgrade_refused"));
}

#[test]
fn a_switch_to_another_protocol_than_asked_for_is_502() {
    let backend =
        Backend::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    let gateway = in_front_of(&backend);
    let answer = gateway.connect().send(ws::handshake("/", "")).response();
    answer.expect(502, Some("upgrade_refused"));
}

#[test]
fn a_request_with_a_body_is_served_without_a_switch() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let asking = ws::handshake("/", "Transfer-Encoding: chunked\r\n");
    let mut conn = gateway.connect();
    conn.send(asking).send("5\r\nhello\r\n0\r\n\r\n");
    // What comes after such a body could be taken for the tunnel's: the endpoint must not learn of the wish.
    conn.response().expect(502, Some("upgrade_refused"));
    let request = backend.last_request();
    assert_eq!(request.header("upgrade"), None);
    assert!(!request.headers.lists("connection", "upgrade"), "{request:?}");

    let empty = ws::handshake("/", "Content-Length: 0\r\n");
    assert_eq!(gateway.connect().send(empty).response().status, 101);
}

#[test]
fn other_protocols_are_switched_only_where_a_route_allows_it() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let asked = request.headers.has("upgrade");
        visit.hit(request);
        if asked {
            conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: custom/1\r\n\r\n");
            while let Ok(bytes) = conn.try_read_some() {
                if conn.try_send(bytes).is_err() {
                    return;
                }
            }
        } else {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
        }
    });
    let ask = "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: custom/1\r\n\r\n";
    assert_eq!(in_front_of(&backend).send(ask).text(), "plain");

    let config = PLAIN.replace("[[routes]]", "[[routes]]\nupgrades = [\"custom/1\"]");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut conn = gateway.connect();
    assert_eq!(conn.send(ask).response().status, 101);
    assert_eq!(conn.send("raw bytes").read(9), b"raw bytes");
}

#[test]
fn the_end_of_either_side_ends_the_other() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let mut client = Client::connect(gateway.connect(), "/");
    client.echo("x");
    drop(client);
    eventually("the endpoint's connection ends", || {
        backend.open_connections() == 0
    });

    let mut client = Client::connect(gateway.connect(), "/");
    client.echo("x");
    backend.close_connections();
    client.conn.expect_end();
    drop(client);
    eventually("no tunnel is left", || gateway.open_connections() == 0);
}

#[test]
fn a_peer_that_ignores_the_end_does_not_keep_the_tunnel() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let mut client = Client::connect(gateway.connect(), "/");
    client.echo("x");
    backend.close_connections();
    client.conn.expect_end();
    // It may still be told something for half a minute.
    pace(Duration::from_secs(25));
    assert!(gateway.open_connections() == 1);
    eventually("the tunnel is given up", || gateway.open_connections() == 0);
}

#[test]
fn a_tunnel_is_one_record_and_counted_while_it_is_open() {
    let backend = ws::echo_backend();
    let config = format!("{PLAIN}\n[log]\naccess = {{ path = \"access.log\", format = \"json\" }}\n");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut client = Client::connect(gateway.connect(), "/t");
    client.echo("hello");
    eventually("the tunnel is counted", || {
        gateway.metric("tidegate_ws_open", &[]) == 1.0
    });
    assert_eq!(gateway.metric("tidegate_endpoint_tunnels", &[]), 1.0);
    assert!(
        gateway.access_log().is_empty(),
        "the record is written at the end"
    );
    drop(client);
    let record = gateway.access_record("/t");
    assert_eq!(
        (&record["status"], &record["tunnel"]),
        (&101.into(), &true.into()),
        "{record}"
    );
    assert!(
        record["bytes_received"].as_u64() > Some(100) && record["bytes_sent"].as_u64() > Some(100),
        "{record}"
    );
    eventually("the tunnel is gone", || {
        gateway.metric("tidegate_ws_open", &[]) == 0.0
    });
}

#[test]
fn a_silent_tunnel_outlives_the_times_that_bound_requests() {
    let backend = ws::echo_backend();
    let config = PLAIN.replace(
        "[[routes]]",
        "limits = { keep_alive = \"500ms\", body_idle = \"500ms\" }\n[[routes]]\ntimeouts = { response = \"500ms\", idle = \"500ms\", total = \"1s\" }",
    );
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut client = Client::connect(gateway.connect(), "/");
    holds_for(Duration::from_millis(1500), "the tunnel stays", || {
        client.conn.is_quiet()
    });
    client.echo("still here");
}

#[test]
fn a_tunnel_is_cut_when_it_is_silent_or_old() {
    for (key, bound) in [
        ("idle", "idle = \"1s\""),
        ("max_age", "idle = \"0s\", max_age = \"1s\""),
    ] {
        let backend = ws::echo_backend();
        let route = format!("[[routes]]\nwebsocket = {{ {bound} }}");
        let log = "\n[log]\naccess = { path = \"access.log\", format = \"json\" }\n";
        let config = PLAIN.replace("[[routes]]", &route) + log;
        let gateway = gateway(&config).with("app", backend.address()).start();
        let mut client = Client::connect(gateway.connect(), "/t");
        client.echo("hello");
        client.conn.expect_end();
        let record = gateway.access_record("/t");
        assert_eq!(record["timeout"], format!("routes.websocket.{key}"), "{record}");
        eventually("the endpoint is told", || backend.open_connections() == 0);
    }
}

#[test]
fn many_tunnels_are_open_at_once() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let mut clients: Vec<Client> = (0..200)
        .map(|_| Client::connect(gateway.connect(), "/"))
        .collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.echo(&format!("client {n}"));
    }
    eventually("all are counted", || {
        gateway.metric("tidegate_ws_open", &[]) == 200.0
    });
    drop(clients);
    eventually("none is left", || gateway.metric("tidegate_ws_open", &[]) == 0.0);
}
