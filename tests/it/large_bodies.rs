//! Large bodies pass byte for byte, at the pace of whoever takes them, and cost no memory.

use crate::{PLAIN, gateway, in_front_of};
use std::time::Duration;
use testkit::{Backend, Conn, Gate, Reply, holds_for, pattern};

const MIB: usize = 1 << 20;

#[test]
fn large_bodies_pass_both_ways_byte_for_byte() {
    const LEN: usize = 48 * MIB;
    let backend = Backend::http(|r| {
        if r.method == "GET" {
            return Reply::pattern(LEN);
        }
        let mut check = pattern::Checker::default();
        check.feed(&r.body);
        Reply::ok(check.seen().to_string())
    });
    let config = PLAIN.replace("[[routes]]", "limits = { body = \"1GiB\" }\n[[routes]]");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut conn = gateway.connect();
    let mut check = pattern::Checker::default();
    check.feed(&conn.get("/").body);
    assert_eq!(check.seen(), LEN);
    conn.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {LEN}\r\n\r\n"
    ))
    .send(pattern::bytes(LEN));
    assert_eq!(conn.response_to("PUT").text(), LEN.to_string());
    conn.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let body = pattern::bytes(8 * MIB);
    for chunk in body.chunks(77_777) {
        conn.send(format!("{:X}\r\n", chunk.len()))
            .send(chunk)
            .send("\r\n");
    }
    assert_eq!(
        conn.send("0\r\n\r\n").response_to("PUT").text(),
        body.len().to_string()
    );
}

/// Starts a download, reads nothing for a while, then the rest.
#[track_caller]
fn expect_back_pressure(reply: fn(usize) -> Reply, head_end: &[u8]) {
    const LEN: usize = 64 * MIB;
    let backend = Backend::http(move |r| {
        if r.target == "/small" {
            Reply::ok("x")
        } else {
            reply(LEN)
        }
    });
    let gateway = in_front_of(&backend);
    assert_eq!(gateway.get("/small").status, 200);
    let before = gateway.rss_kb();
    let mut conn = Conn::connect(gateway.web()).with_receive_buffer(64 << 10);
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    conn.read_through(head_end);
    holds_for(Duration::from_millis(700), "the gateway buffers little", || {
        gateway.rss_kb() < before + 8 * 1024
    });
    // And all of it arrives once the client reads.
    let mut check = pattern::Checker::default();
    while check.seen() < LEN {
        let some = conn.try_read_some().expect("the rest of the body");
        let payload = some.len().min(LEN - check.seen());
        check.feed(&some[..payload]);
    }
}

#[test]
fn a_client_that_does_not_read_slows_the_endpoint_and_costs_no_memory() {
    expect_back_pressure(Reply::pattern, b"\r\n\r\n");
}

#[test]
fn a_client_that_does_not_read_chunks_slows_the_endpoint_and_costs_no_memory() {
    expect_back_pressure(Reply::chunked_pattern, b"4000000\r\n");
}

#[test]
fn large_bodies_leave_both_connections_fit_for_the_next_request() {
    let backend = Backend::http(|r| {
        if r.method == "GET" {
            Reply::pattern(3 * MIB)
        } else {
            Reply::ok(r.body.len().to_string())
        }
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert_eq!(conn.get("/").body.len(), 3 * MIB);
        conn.send(format!(
            "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {MIB}\r\n\r\n"
        ))
        .send(pattern::bytes(MIB));
        assert_eq!(conn.response_to("PUT").text(), MIB.to_string());
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_endpoint_that_does_not_read_slows_the_client_and_costs_no_memory() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(mut request) = conn.try_request_head() else {
            return;
        };
        held.wait();
        conn.try_request_body(&mut request).expect("the body");
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Len: {}\r\n\r\n",
            request.body.len()
        ));
        visit.hit(request);
    });
    let config = PLAIN.replace("[[routes]]", "limits = { body = \"1GiB\" }\n[[routes]]");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let before = gateway.rss_kb();
    let mut conn = gateway.connect();
    let body = pattern::bytes(64 * MIB);
    conn.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    let taken = conn.send_while_taken(&body, Duration::from_millis(500));
    assert!(
        taken < 32 * MIB,
        "{taken} bytes were taken though the endpoint read nothing"
    );
    assert!(
        gateway.rss_kb() < before + 8 * 1024,
        "the gateway grew from {before} to {} KiB",
        gateway.rss_kb()
    );
    gate.open();
    conn.send(&body[taken..]);
    let answer = conn.response_to("PUT");
    assert_eq!(answer.header("x-len"), Some(body.len().to_string().as_str()));
}
