//! What a probe asks, what passes, and what fails and why.

use crate::gateway;
use crate::health_kit::{QUICK, answers, becomes, checked, config, switched, upstream};
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::time::Duration;
use testkit::{Backend, Gate, Reply, Request, eventually, eventually_some, holds_for, ws};

#[test]
fn a_probe_asks_what_the_configuration_says() {
    let backend = Backend::text("fine");
    let health = r#"
        path = "/deep/health?full=1", method = "OPTIONS", host = "app.example.com", interval = "50ms",
        headers = { X-Probe = "yes", User-Agent = "mine" }"#
        .replace('\n', " ");
    let gateway = checked(&health, &[backend.address()]).start();
    becomes(&gateway, &backend.address(), "healthy");
    let asked = backend.requests().remove(0);
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("OPTIONS", "/deep/health?full=1")
    );
    assert_eq!(asked.headers.all("host"), ["app.example.com"]);
    assert_eq!(asked.headers.all("x-probe"), ["yes"]);
    assert_eq!(asked.headers.all("user-agent"), ["mine"]);
}

#[test]
fn without_a_word_the_probe_is_a_get_of_the_root_for_the_endpoint_s_address() {
    let backend = Backend::text("fine");
    let gateway = checked("", &[backend.address()]).start();
    becomes(&gateway, &backend.address(), "healthy");
    let asked = backend.requests().remove(0);
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/"));
    assert_eq!(asked.header("host"), Some(backend.address().to_string().as_str()));
}

/// What one probe of a backend with this answer comes to: its cause, or nothing when it passes.
#[track_caller]
fn outcome(health: &str, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Value {
    let backend = Backend::http(reply);
    let health = format!(r#"path = "/health", timeout = "400ms", interval = "10s", {health}"#);
    let gateway = checked(&health, &[backend.address()]).start();
    let endpoint = eventually_some("a verdict", || {
        let endpoint = gateway.endpoint(&backend.address());
        (endpoint["health"]["state"] != "pending").then_some(endpoint)
    });
    let last = &endpoint["health"]["last_results"][0];
    assert_eq!(
        last["passed"] == true,
        endpoint["health"]["state"] == "healthy",
        "{endpoint}"
    );
    last["cause"].clone()
}

#[test]
fn the_status_decides_as_configured() {
    for (set, status, cause) in [
        (r#"status = "200-399""#, 302, None),
        (r#"status = "200-399""#, 404, Some("status")),
        (r#"status = "200,404""#, 404, None),
        (r#"status = "200,404""#, 204, Some("status")),
        ("status = 204", 204, None),
    ] {
        assert_eq!(
            outcome(set, move |_| Reply::new(status, "")),
            Value::from(cause),
            "{set} {status}"
        );
    }
}

#[test]
fn the_body_decides_as_configured() {
    let answer = |body: &'static str| move |_: &Request| Reply::ok(body);
    assert_eq!(outcome(r#"body = "ready""#, answer("all ready now")), Value::Null);
    assert_eq!(outcome(r#"body = "ready""#, answer("starting")), "body");
    assert_eq!(outcome(r#"body = "~^(ok|fine)$""#, answer("fine")), Value::Null);
    assert_eq!(outcome(r#"body = "~^(ok|fine)$""#, answer("not fine")), "body");
    // In pieces, and where an answer to HEAD has none.
    let chunked = |_: &Request| {
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n")
    };
    assert_eq!(outcome(r#"body = "ready""#, chunked), Value::Null);
    let until_close = |_: &Request| Reply::raw("HTTP/1.0 200 OK\r\n\r\nready").then_close();
    assert_eq!(outcome(r#"body = "ready""#, until_close), Value::Null);
}

#[test]
fn answers_that_are_none_are_failures_with_their_reason() {
    let raw = |bytes: &'static str| move |_: &Request| Reply::raw(bytes).then_close();
    let cause = |bytes| outcome("", raw(bytes));
    assert_eq!(cause("SSH-2.0-OpenSSH_9.2\r\n"), "malformed");
    assert_eq!(cause("\0\u{1}\u{2}\u{3}garbage\r\n\r\n"), "malformed");
    assert_eq!(
        cause("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        "malformed"
    );
    assert_eq!(
        cause("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "malformed"
    );
    assert_eq!(cause(""), "closed");
    assert_eq!(cause("HTTP/1.1 200 OK\r\nConte"), "closed");
    assert_eq!(
        cause("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        "closed"
    );
    assert_eq!(outcome("", |_| Reply::reset()), "closed");
    assert_eq!(
        outcome("", |_| Reply::raw("HTTP/1.1 100 Continue\r\n\r\n".repeat(20))),
        "malformed"
    );
    assert_eq!(
        outcome("", |_| Reply::raw(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        )),
        Value::Null
    );
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert_eq!(outcome("", move |_| Reply::raw(&long).then_close()), "malformed");
}

#[test]
fn an_endpoint_that_hangs_or_dribbles_fails_in_time() {
    assert_eq!(outcome("", |_| Reply::hang()), "timeout");
    let half = |_: &Request| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then_hang();
    assert_eq!(outcome("", half), "timeout");
    let dribbling = |_: &Request| {
        let head = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n");
        (0..60).fold(head, |reply, _| {
            reply.then("x").then_pause(Duration::from_millis(100))
        })
    };
    assert_eq!(outcome("", dribbling), "timeout");
}

#[test]
fn a_gigabyte_is_no_answer_and_costs_no_memory() {
    const PIECE: usize = 256 << 10;
    let endless = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        visit.hit(request);
        let framing = [
            "Content-Length: 1073741824",
            "Transfer-Encoding: chunked",
            "Connection: close",
        ];
        let framing = framing[visit.connection % 3];
        let _ = conn.try_send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        let chunk = [
            format!("{PIECE:x}\r\n").into_bytes(),
            vec![b'x'; PIECE],
            b"\r\n".to_vec(),
        ]
        .concat();
        for _ in 0..(1 << 30) / PIECE {
            if conn.try_send(&chunk).is_err() {
                return;
            }
        }
    });
    let well = Backend::text("well");
    let health = r#"body = "never there", status = "200", interval = "30ms", fast_interval = "30ms""#;
    let gateway = checked(health, &[endless.address(), well.address()]).start();
    let before = gateway.rss_kb();
    let down = becomes(&gateway, &endless.address(), "unhealthy");
    eventually("it was asked often", || endless.hits() > 12);
    assert!(
        gateway.rss_kb() < before + (24 << 10),
        "{} then {} KiB",
        before,
        gateway.rss_kb()
    );
    assert!(endless.open_connections() <= 2, "{}", endless.open_connections());
    assert_eq!(down["health"]["last_results"][0]["cause"], "too_large", "{down}");
}

#[test]
fn the_checks_may_have_a_port_of_their_own() {
    let (app, (checks, well)) = (Backend::text("app"), switched("checks"));
    let health = format!("{QUICK}, port = {}", checks.address().port());
    let gateway = checked(&health, &[app.address()]).start();
    becomes(&gateway, &app.address(), "healthy");
    assert_eq!((app.hits(), answers(&gateway, 2).as_str()), (0, "appapp"));
    well.store(false, Ordering::SeqCst);
    becomes(&gateway, &app.address(), "unhealthy");
}

#[test]
fn a_connection_is_enough_where_only_that_is_asked_for() {
    let silent = Backend::script(|conn, _| conn.wait_for_end());
    let health = r#"kind = "tcp", interval = "50ms", fast_interval = "20ms", fall = 2"#;
    let gateway = checked(health, &[silent.address()]).start();
    becomes(&gateway, &silent.address(), "healthy");
    silent.down();
    let down = becomes(&gateway, &silent.address(), "unhealthy");
    assert_eq!(down["health"]["reason"], "no connection: connection refused");
    silent.up();
    becomes(&gateway, &silent.address(), "healthy");
}

#[test]
fn a_websocket_check_wants_the_handshake_answered_rightly() {
    let echo = ws::echo_backend();
    let plain = Backend::text("no sockets here");
    let liar = Backend::raw(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n",
    );
    let health = r#"kind = "websocket", path = "/chat", interval = "50ms""#;
    let addresses = [echo.address(), plain.address(), liar.address()];
    let gateway = checked(health, &addresses).start();
    becomes(&gateway, &echo.address(), "healthy");
    let down = becomes(&gateway, &plain.address(), "unhealthy");
    assert_eq!(down["health"]["reason"], "status 200, accepted: 101");
    let down = becomes(&gateway, &liar.address(), "unhealthy");
    assert_eq!(down["health"]["last_results"][0]["cause"], "handshake");
    let asked = echo.requests().remove(0);
    assert_eq!(
        (asked.target.as_str(), asked.header("upgrade")),
        ("/chat", Some("websocket"))
    );
    // Sessions of probes do not pile up.
    eventually("many probes", || echo.connections() > 10);
    eventually("they are gone", || echo.open_connections() <= 1);
}

#[test]
fn endpoints_behind_unix_sockets_and_names_are_checked_like_any_other() {
    let on_unix = Backend::http_on_unix(|_| Reply::ok("unix"));
    let named = Backend::text("name");
    // May stand for two addresses, of which one answers.
    let name = format!("localhost:{}", named.address().port());
    let config =
        config(QUICK, &[on_unix.address()]).replace("endpoints = [", &format!("endpoints = [\"{name}\", "));
    let gateway = gateway(&config).start();
    eventually("both are well", || upstream(&gateway)["ready_endpoints"] == 2);
    assert_eq!(on_unix.requests()[0].header("host"), Some("localhost"));
    assert_eq!(named.requests()[0].header("host"), Some(name.as_str()));
    named.down();
    eventually("the name is out", || upstream(&gateway)["ready_endpoints"] == 1);
    named.up();
    eventually("the name is back", || upstream(&gateway)["ready_endpoints"] == 2);
}

#[test]
fn a_server_that_hangs_up_after_each_answer_is_not_asked_without_end() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| {
        let answer = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = answer.then_hold(&held);
        answer.then_pause(Duration::from_millis(20)).then_close()
    });
    // The second probe comes at any time within the interval, so that all gateways spread theirs.
    let gateway = checked(r#"interval = "300d""#, &[backend.address()]).start();
    becomes(&gateway, &backend.address(), "healthy");
    gate.open();
    eventually("it is asked once out of turn", || backend.hits() == 2);
    holds_for(Duration::from_millis(300), "and no more", || backend.hits() == 2);
    assert_eq!(gateway.endpoint(&backend.address())["health"]["state"], "healthy");
}
