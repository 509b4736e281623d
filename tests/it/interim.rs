//! What comes before an answer, or before its request is complete: informational responses, leave to send a body, and
//! answers that do not wait for it.

use crate::in_front_of;
use std::time::Duration;
use testkit::{Backend, Gate, Reply, holds_for, pattern};

#[test]
fn informational_responses_are_forwarded_in_order() {
    let backend = Backend::raw(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let hints = conn.get("/");
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>")));
    assert_eq!(conn.response().status, 102);
    assert_eq!(conn.response().text(), "ok");
}

#[test]
fn an_early_hint_reaches_the_client_before_the_answer_exists() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| {
        Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
            .then_hold(&held)
            .then("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/").status, 103);
    gate.open();
    assert_eq!(conn.response().text(), "ok");
}

#[test]
fn informational_responses_never_reach_http_1_0_clients() {
    let backend = Backend::raw(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = in_front_of(&backend);
    let answer = gateway.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[test]
fn endless_informational_responses_are_a_bad_response() {
    let many = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40);
    let backend = Backend::raw(format!("{many}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let mut interim = 0;
    let last = loop {
        let answer = if interim == 0 {
            conn.get("/")
        } else {
            conn.response()
        };
        if answer.status >= 200 {
            break answer;
        }
        interim += 1;
    };
    last.expect(502, Some("bad_response"));
    assert!(interim <= 16, "{interim} interim responses passed");
}

#[test]
fn expect_continue_lets_the_body_follow_the_endpoints_word() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(mut request) = conn.try_request_head() else {
            return;
        };
        assert!(request.headers.lists("expect", "100-continue"));
        held.wait();
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        conn.try_request_body(&mut request).expect("the body");
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        ));
        conn.send(&request.body);
        visit.hit(request);
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    gate.reached();
    holds_for(
        Duration::from_millis(100),
        "no word before the endpoint's",
        || conn.is_quiet(),
    );
    gate.open();
    assert_eq!(conn.response().status, 100);
    assert_eq!(conn.send("body").response_to("PUT").text(), "body");
}

#[test]
fn an_endpoint_may_refuse_before_the_body_was_sent() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request_head() else {
            return;
        };
        visit.hit(request);
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        conn.wait_for_end();
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n");
    let answer = conn.response_to("PUT");
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    // The client may still send the body or not: the connection can't be used again.
    conn.expect_end();
    assert!(!answer.keeps_alive());
}

#[test]
fn an_early_answer_arrives_while_the_upload_continues() {
    let backend = Backend::script(|conn, visit| {
        let Ok(mut request) = conn.try_request_head() else {
            return;
        };
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n");
        conn.try_request_body(&mut request).expect("the body");
        let len = format!("{}", request.body.len());
        visit.hit(request);
        conn.send(format!("{:x}\r\n{len}\r\n0\r\n\r\n", len.len()));
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    conn.read_through(b"early");
    conn.send("3\r\ndef\r\n0\r\n\r\n");
    conn.read_through(b"\r\n0\r\n\r\n");
    assert_eq!(backend.last_request().body, b"abcdef");
}

#[test]
fn an_answer_that_ends_before_the_upload_ends_the_connection_but_is_not_lost() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request_head() else {
            return;
        };
        visit.hit(request);
        conn.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3000000\r\n\r\n");
    // The client goes on sending for a while, as clients do.
    conn.send_while_taken(&pattern::bytes(200_000), Duration::from_millis(200));
    let answer = conn.response_to("POST");
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
}
