//! Answers that come piece by piece: events and long polls are passed on as they come, never gathered, never packed.

use crate::h2_client::{Client, get};
use crate::http2::both;
use std::time::Duration;
use testkit::{Backend, Gate, Reply, holds_for};

/// An endpoint that sends its next event only when the one before was seen by the client.
fn events(framing: &'static str) -> (Backend, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        visit.hit(request);
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n"
        ));
        let event = |text: &str| match framing {
            "" => format!("data: {text}\n\n"),
            _ => format!("{:x}\r\ndata: {text}\n\n\r\n", text.len() + 8),
        };
        conn.send(event("one"));
        held.wait();
        conn.send(event("two"));
        conn.wait_for_end();
    });
    (backend, gate)
}

#[test]
fn an_event_reaches_the_client_before_the_next_is_made() {
    for framing in ["Transfer-Encoding: chunked\r\n", ""] {
        let (backend, gate) = events(framing);
        let gateway = both(&backend).start();
        let mut conn = gateway.connect();
        conn.send("GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip, br\r\n\r\n");
        let head = conn.read_through(b"\r\n\r\n");
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(!head.contains("content-encoding"), "{head}");
        // It goes on in chunks, however it came.
        conn.read_through(b"data: one\n\n\r\n");
        holds_for(Duration::from_millis(100), "nothing else comes", || {
            conn.is_quiet()
        });
        gate.open();
        conn.read_through(b"data: two\n\n");
    }
}

#[test]
fn an_event_reaches_a_stream_before_the_next_is_made() {
    let (backend, gate) = events("Transfer-Encoding: chunked\r\n");
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    client.run(async {
        let (answer, _send) = client.begin(get("/"), true).await.unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(&body.data().await.unwrap().unwrap()[..], b"data: one\n\n");
        gate.open();
        assert_eq!(&body.data().await.unwrap().unwrap()[..], b"data: two\n\n");
    });
}

#[test]
fn a_long_poll_is_answered_when_there_is_something_to_say() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| Reply::ok("news").held_by(&held));
    let gateway = both(&backend).start();
    let mut conn = gateway.connect();
    conn.send("GET /poll HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    holds_for(Duration::from_millis(200), "it waits", || conn.is_quiet());
    gate.open();
    assert_eq!(conn.response().text(), "news");
}
