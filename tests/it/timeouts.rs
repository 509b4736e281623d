//! Each timeout on the upstream side cuts where it says, and the log names its key.

use crate::gateway;
use std::time::{Duration, Instant};
use testkit::net::Blackhole;
use testkit::{Backend, Gateway, Reply};

const SHORT: &str = "300ms";

fn with_timeouts(address: impl std::fmt::Display, timeouts: &str) -> Gateway {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        timeouts = { @timeouts@ }
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("timeouts", timeouts.replace("SHORT", SHORT))
    .with("app", address)
    .start()
}

#[track_caller]
fn expect_logged(gateway: &Gateway, target: &str, key: &str) {
    let record = gateway.access_record(target);
    assert_eq!(record["timeout"], key, "{record}");
}

#[test]
fn connecting_too_long_is_504() {
    let blackhole = Blackhole::new();
    let gateway = with_timeouts(blackhole.address(), r#"connect = "SHORT""#);
    let begun = Instant::now();
    gateway.get("/").expect(504, Some("connect_timeout"));
    assert!(
        begun.elapsed() >= Duration::from_millis(250),
        "{:?}",
        begun.elapsed()
    );
    expect_logged(&gateway, "/", "routes.timeouts.connect");
}

#[test]
fn answering_too_late_is_504_and_frees_the_endpoint() {
    let backend = Backend::http(|_| Reply::hang());
    let gateway = with_timeouts(backend.address(), r#"response = "SHORT""#);
    let mut conn = gateway.connect();
    conn.get("/").expect(504, Some("response_timeout"));
    expect_logged(&gateway, "/", "routes.timeouts.response");
    testkit::eventually("the endpoint's connection ends", || {
        backend.open_connections() == 0
    });
    // The client's connection is unharmed.
    conn.get("/").expect(504, Some("response_timeout"));
}

#[test]
fn a_trickling_response_head_does_not_put_the_deadline_off() {
    let backend = Backend::http(|_| {
        let trickle = |reply: Reply| reply.then_pause(Duration::from_millis(100)).then("a");
        (0..50).fold(Reply::raw("HTTP/1.1 200 OK\r\nX-Slow: "), |reply, _| {
            trickle(reply)
        })
    });
    let gateway = with_timeouts(backend.address(), r#"response = "SHORT""#);
    gateway.get("/").expect(504, Some("response_timeout"));
}

#[test]
fn the_response_timeout_starts_when_the_request_is_sent() {
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = with_timeouts(backend.address(), r#"response = "SHORT""#);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n");
    for byte in b"slowly" {
        testkit::pace(Duration::from_millis(100));
        conn.send([*byte]);
    }
    assert_eq!(conn.response_to("POST").text(), "slowly");
}

#[test]
fn a_response_body_that_stops_is_cut() {
    let backend =
        Backend::http(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then_hang());
    let gateway = with_timeouts(backend.address(), r#"idle = "SHORT""#);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = conn.try_response_to("GET").expect("a head");
    assert!(
        answer.status == 200 && answer.cut.is_some() && answer.text() == "half",
        "{answer}"
    );
    expect_logged(&gateway, "/", "routes.timeouts.idle");
    let record = gateway.access_record("/");
    assert_eq!(record["token"], "aborted_upstream", "{record}");
}

#[test]
fn a_response_body_that_keeps_coming_is_not_cut() {
    let backend = Backend::http(|_| {
        let slow = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
        (0..6).fold(slow, |reply, _| {
            reply.then_pause(Duration::from_millis(100)).then("x")
        })
    });
    let gateway = with_timeouts(backend.address(), r#"idle = "SHORT", response = "SHORT""#);
    assert_eq!(gateway.get("/").text(), "xxxxxx");
}

#[test]
fn the_total_time_cuts_what_every_other_timeout_lets_pass() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/late" => Reply::hang(),
        _ => {
            let slow = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
            (0..100).fold(slow, |reply, _| {
                reply.then_pause(Duration::from_millis(50)).then("x")
            })
        }
    });
    let gateway = with_timeouts(backend.address(), r#"total = "SHORT""#);
    gateway.get("/late").expect(504, Some("deadline"));
    expect_logged(&gateway, "/late", "routes.timeouts.total");
    let mut conn = gateway.connect();
    conn.send("GET /long HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = conn.try_response_to("GET").expect("a head");
    assert!(answer.cut.is_some());
    expect_logged(&gateway, "/long", "routes.timeouts.total");
}

#[test]
fn zero_is_no_timeout() {
    let backend = Backend::http(|_| {
        Reply::raw("")
            .then_pause(Duration::from_millis(600))
            .then("HTTP/1.1 204 No\r\n\r\n")
    });
    let gateway = with_timeouts(
        backend.address(),
        r#"response = "0s", total = "0s", idle = "0s", connect = "1s""#,
    );
    assert_eq!(gateway.get("/").status, 204);
}
