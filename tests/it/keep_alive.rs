//! How long a client's connection lives on, in which order it is used, and what its end means.

use crate::{PLAIN, gateway, in_front_of};
use std::time::Duration;
use testkit::{Backend, Conn, Gate, Reply, eventually, pattern};

#[test]
fn http_1_0_clients_get_a_body_they_understand_and_a_closed_connection() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n";
    let backend = Backend::http(move |_| Reply::raw(chunked));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let answer = conn.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n").response();
    assert_eq!(
        (answer.text().as_str(), answer.headers.chunked()),
        ("abcde", false)
    );
    conn.expect_end();
    assert_eq!(backend.last_request().version, "HTTP/1.1");
}

#[test]
fn http_1_0_clients_may_ask_for_keep_alive() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let ask = "GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n";
    let answer = conn.send(ask).response();
    assert!(answer.headers.lists("connection", "keep-alive"), "{answer}");
    assert_eq!(conn.send(ask).response().text(), "hi");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let mut pipeline = String::new();
    for n in 0..50 {
        pipeline += &match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!(
                "POST /{n} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n"
            ),
        };
    }
    conn.send(pipeline);
    for n in 0..50 {
        assert_eq!(conn.response().text(), format!("/{n}"));
    }
}

#[test]
fn connection_close_of_the_client_is_honoured_and_kept_from_the_endpoint() {
    let backend = Backend::text("hi");
    // Each worker has a pool of its own.
    let gateway = gateway(&format!("runtime = {{ workers = 1 }}\n{PLAIN}"))
        .with("app", backend.address())
        .start();
    let mut conn = gateway.connect();
    let answer = conn
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .response();
    assert!(!answer.keeps_alive());
    conn.expect_end();
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(
        backend.connections(),
        1,
        "the client's close ended the endpoint's connection"
    );
}

#[test]
fn connection_close_of_the_endpoint_is_kept_from_the_client() {
    let backend = Backend::http(|_| Reply::ok("x").header("Connection", "close").then_close());
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert!(conn.get("/").keeps_alive());
    }
    assert_eq!(backend.connections(), 3);

    // One that says so and stays open is not used again either.
    let slow = Backend::http(|_| Reply::ok("x").header("Connection", "close"));
    let gateway = in_front_of(&slow);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert_eq!(conn.get("/").status, 200);
    }
    assert_eq!(slow.connections(), 3);
}

#[test]
fn a_client_that_ends_its_sending_direction_still_gets_its_answer() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |r| Reply::ok(r.body.clone()).held_by(&held));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc")
        .half_close();
    gate.reached();
    gate.open();
    assert_eq!(conn.response_to("POST").text(), "abc");
    conn.expect_end();
}

#[test]
fn a_client_that_leaves_frees_the_endpoint_at_once() {
    let backend = Backend::http(|_| Reply::hang());
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request arrives", || backend.hits() == 1);
    conn.reset();
    eventually("the endpoint's connection ends", || {
        backend.open_connections() == 0
    });
}

#[test]
fn what_a_client_sends_behind_its_last_request_costs_it_nothing_of_the_answer() {
    let backend = Backend::http(|_| Reply::pattern(1 << 20));
    let gateway = in_front_of(&backend);
    for _ in 0..3 {
        let mut conn = Conn::connect(gateway.web()).with_receive_buffer(32 << 10);
        conn.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        conn.send_while_taken(&pattern::bytes(100_000), Duration::from_millis(200));
        let answer = conn.response();
        assert_eq!((answer.cut, answer.body.len()), (None, 1 << 20));
    }
}
