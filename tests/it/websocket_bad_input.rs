//! What hostile or broken peers of WebSockets send: a clear answer, the right counter, bounded memory.

use crate::{PLAIN, gateway};
use std::time::Duration;
use testkit::ws::{self, Client};
use testkit::{Backend, Gateway, eventually};

/// Frames are looked at under `/inspected` and nowhere else.
fn before(backend: &Backend) -> Gateway {
    let config = PLAIN.replace(
        "[[routes]]",
        "limits = { header_timeout = \"300ms\" }\n[[routes]]\npaths = [\"/inspected\"]\nupstream = \"app\"\n\
         websocket = { max_message = \"64KiB\" }\n[[routes]]\nname = \"plain\"",
    );
    gateway(&config).with("app", backend.address()).start()
}

/// Requests that ended with this error.
fn errors(gateway: &Gateway, token: &str) -> f64 {
    gateway.metric("tidegate_request_errors_total", &[&format!("token=\"{token}\"")])
}

fn closed(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("tidegate_ws_closed_total", &[&format!("reason=\"{reason}\"")])
}

#[track_caller]
fn counted(what: &str, wanted: f64, count: impl Fn() -> f64) {
    eventually(&format!("{wanted} of {what}"), || count() == wanted);
}

#[test]
fn each_bad_handshake_is_counted_under_its_name_and_reaches_no_endpoint() {
    let backend = ws::echo_backend();
    let gateway = before(&backend);
    let good = ws::handshake("/", "");
    let without = |line: &str| {
        let lines = good.split_inclusive("\r\n");
        lines.filter(|l| !l.starts_with(line)).collect::<String>()
    };
    for bad in [
        without("Connection"),
        without("Sec-WebSocket-Key"),
        good.replace("dGhlIHNhbXBsZSBub25jZQ==", "AAAA"),
        good.replace("GET ", "PUT "),
    ] {
        gateway
            .connect()
            .send(bad)
            .response()
            .expect(400, Some("bad_handshake"));
    }
    for bad in [
        without("Sec-WebSocket-Version"),
        good.replace("Version: 13", "Version: 12"),
    ] {
        gateway
            .connect()
            .send(bad)
            .response()
            .expect(426, Some("upgrade_required"));
    }
    counted("bad_handshake", 4.0, || errors(&gateway, "bad_handshake"));
    counted("upgrade_required", 2.0, || errors(&gateway, "upgrade_required"));
    // Half of one, cut at any place, is no request.
    for len in [1, 20, good.len() / 2, good.len() - 1] {
        gateway
            .connect()
            .send(&good[..len])
            .response()
            .expect(408, Some("request_timeout"));
    }
    counted("request_timeout", 4.0, || {
        gateway.metric("tidegate_heads_refused_total", &["token=\"request_timeout\""])
    });
    assert_eq!(backend.hits(), 0);
    assert_eq!(gateway.metric("tidegate_ws_opened_total", &[]), 0.0);
    Client::connect(gateway.connect(), "/").echo("others are served");
}

#[test]
fn an_endpoint_that_switches_wrongly_is_counted_as_failed() {
    let wrong = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\nevil";
    let backend = Backend::raw(wrong);
    let gateway = before(&backend);
    // Asked for, with an accept that fits no key; and not asked for at all.
    gateway
        .connect()
        .send(ws::handshake("/", ""))
        .response()
        .expect(502, Some("upgrade_refused"));
    gateway.get("/").expect(502, Some("upgrade_refused"));
    counted("upgrade_refused", 2.0, || errors(&gateway, "upgrade_refused"));
    let failures = || gateway.metric("tidegate_upstream_failures_total", &["token=\"upgrade_refused\""]);
    counted("failures", 2.0, failures);
    assert_eq!(gateway.metric("tidegate_ws_opened_total", &[]), 0.0);
    eventually("its connections are closed", || backend.open_connections() == 0);
}

#[test]
fn lengths_without_measure_cost_nothing_and_are_told_apart() {
    let backend = ws::echo_backend();
    let gateway = before(&backend);
    Client::connect(gateway.connect(), "/inspected").echo("warm");
    counted("the end of it", 1.0, || closed(&gateway, "client"));
    let rss = gateway.rss_kb();
    for (length, code) in [
        // Announced, not sent.
        (64 * 1024 + 1, 1009_u16),
        (u64::MAX >> 1, 1009),
        // The highest bit must not be set (RFC 6455 section 5.2).
        (u64::MAX, 1002),
    ] {
        let mut client = Client::connect(gateway.connect(), "/inspected");
        client.echo("fine");
        let mut head = vec![0x82, 0x80 | 127];
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&[1, 2, 3, 4]);
        // Torn at every byte.
        client.conn.send_bytewise(head);
        let told = ws::read_frame(&mut client.conn).expect("a close frame");
        assert_eq!(told, (ws::CLOSE, code.to_be_bytes().to_vec()), "{length}");
        client.conn.expect_end();
    }
    counted("limit", 2.0, || closed(&gateway, "limit"));
    counted("protocol", 1.0, || closed(&gateway, "protocol"));
    let grown = gateway.rss_kb().saturating_sub(rss);
    assert!(grown < 4 * 1024, "{grown} KiB");
}

#[test]
fn a_client_that_sends_without_end_and_reads_nothing_is_held_and_so_is_the_endpoint() {
    let backend = ws::echo_backend();
    let gateway = before(&backend);
    Client::connect(gateway.connect(), "/").echo("warm");
    let rss = gateway.rss_kb();
    for path in ["/", "/inspected"] {
        let mut client = Client::connect(gateway.connect(), path);
        let flood = ws::frame(ws::BINARY, &vec![7; 32 * 1024], true).repeat(1500);
        let taken = client.conn.send_while_taken(&flood, Duration::from_secs(1));
        assert!(taken < flood.len(), "what nobody reads is not taken");
        Client::connect(gateway.connect(), path).echo("others are served");
    }
    let grown = gateway.rss_kb().saturating_sub(rss);
    assert!(grown < 8 * 1024, "{grown} KiB");
    eventually("all have ended", || {
        gateway.metric("tidegate_ws_open", &[]) == 0.0
    });
}

#[test]
fn a_peer_that_breaks_off_in_the_middle_of_a_frame_ends_the_other_side_and_is_named() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        visit.hit(request);
        conn.send(ws::accepted(&key));
        // Half a frame, and gone, as soon as the client has said something.
        if conn.try_read(1).is_ok() {
            let _ = conn.try_send(&ws::frame(ws::TEXT, &[b'x'; 100], false)[..50]);
            conn.reset_on_close();
        }
    });
    let gateway = before(&backend);
    for path in ["/", "/inspected"] {
        let mut client = Client::connect(gateway.connect(), path).conn;
        client.send(ws::frame(ws::TEXT, b"go", true));
        client.wait_for_end();
        let client = Client::connect(gateway.connect(), path).conn;
        client.reset_on_close();
        drop(client);
    }
    for reason in ["endpoint", "client"] {
        counted(reason, 2.0, || closed(&gateway, reason));
    }
    eventually("nothing is left", || {
        gateway.metric("tidegate_ws_open", &[]) == 0.0 && backend.open_connections() == 0
    });
}
