//! How requests share connections to endpoints that speak HTTP/2: how many there are, and when they end.

use crate::gateway;
use crate::h2_client::Client;
use crate::h2_server::{Answer, Seen, Server, Stream, opened};
use crate::h2_upstream::{TO_H2, one_worker};
use std::io::Read;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use testkit::frames::{HEADERS, PING, Served};
use testkit::{Address, Backend, Conn, Gate, Gateway, eventually};

#[test]
fn a_burst_shares_a_connection_that_is_opened_once() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::streams(move |stream| hold(stream, held.clone()));
    let gateway = one_worker(&server, "");
    let conns = burst(&gateway, 60);
    eventually("all are there", || server.hits() == 60);
    assert_eq!((server.connections(), server.running()), (1, 60));
    assert_eq!(gateway.stats()["upstreams"][0]["protocol"], "h2");
    let endpoint = gateway.endpoint(&server.address());
    assert_eq!(endpoint["in_flight"], 60);
    let pool = &endpoint["connections"];
    assert_eq!((&pool["http2"], &pool["http2_streams"]), (&1.into(), &60.into()));
    assert_eq!(gateway.metric("tidegate_upstream_http2_streams", &[]), 60.0);
    gate.open();
    answered(conns);
    assert_eq!(gateway.endpoint(&server.address())["in_flight"], 0);
    assert_eq!(gateway.metric("tidegate_upstream_http2_connections", &[]), 1.0);
}

#[test]
fn more_requests_than_streams_open_another_connection() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::streams(move |stream| hold(stream, held.clone()));
    let gateway = one_worker(&server, "http2 = { streams = 10 }");
    let conns = burst(&gateway, 35);
    eventually("all are there", || server.hits() == 35);
    assert_eq!(server.connections(), 4);
    gate.open();
    answered(conns);
}

#[test]
fn max_connections_counts_requests_and_the_queue_takes_the_rest() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::streams(move |stream| hold(stream, held.clone()));
    let config = TO_H2.replace(
        "{ address = \"@app@\" }",
        "{ address = \"@app@\", max_connections = 5 }",
    );
    let gateway = gateway(&config).with("app", server.address()).start();
    let conns = burst(&gateway, 12);
    eventually("as many as may be are there", || server.hits() == 5);
    assert_eq!(server.running(), 5);
    gate.open();
    answered(conns);
    assert!(server.most_running() <= 5, "{}", server.most_running());
}

#[test]
fn connections_that_nobody_uses_are_closed_and_so_are_worn_out_ones() {
    let server = Server::http(|_| Answer::ok("hi"));
    let gateway = one_worker(&server, "pool = { idle_timeout = \"1s\", max_requests = 3 }");
    for _ in 0..4 {
        assert_eq!(gateway.get("/").text(), "hi");
    }
    let numbers: Vec<_> = server.requests().iter().map(|seen| seen.connection).collect();
    assert_eq!(numbers, [0, 0, 0, 1]);
    eventually("the idle one is closed too", || server.open() == 0);
    assert_eq!(gateway.get("/").text(), "hi");
    assert_eq!(server.connections(), 3);
}

#[test]
fn an_endpoint_that_says_goodbye_gets_its_next_requests_on_another_connection() {
    let server = Server::http(|_| Answer::ok("hi"));
    let gateway = one_worker(&server, "");
    for n in 1..5 {
        assert_eq!(gateway.get("/").text(), "hi");
        assert_eq!(server.connections(), n);
        server.say_goodbye();
        eventually("it is closed", || server.open() == 0);
    }
    assert_eq!(
        gateway.endpoint(&server.address())["errors"],
        serde_json::json!({})
    );
}

#[test]
fn a_silent_endpoint_is_sent_a_ping_and_given_up_without_an_answer() {
    let backend = Backend::script(|conn, visit| {
        let Ok(mut served) = Served::accept(conn, &[]) else {
            return;
        };
        if served.next_of(HEADERS).is_ok() {
            visit.hit(testkit::Request::default());
        }
        // It goes on to live, and says nothing.
        if served.next_of(PING).is_ok() {
            visit.hit(testkit::Request::default());
        }
        conn_is_held(&mut served);
    });
    let gateway = gateway(&format!(
        "{TO_H2}http2 = {{ ping = \"200ms\", ping_timeout = \"200ms\" }}\n"
    ))
    .with("app", backend.address())
    .start();
    let answer = gateway.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((answer.status, answer.token()), (502, Some("upstream_reset")));
    assert_eq!(backend.hits(), 2);
}

/// Reads nothing any more, until the other side closes.
fn conn_is_held(served: &mut Served<'_>) {
    while served.conn.try_read(1).is_ok() {}
}

#[test]
fn whose_connection_it_is_shares_it_with_nobody_else() {
    let (sent, server) = (
        Arc::<Mutex<Vec<u8>>>::default(),
        Server::http(|_| Answer::ok("hi")),
    );
    let leads_to = Arc::new(Mutex::new(server.address().to_string()));
    let front = relay(&leads_to, Some(&sent));
    let gateway = gateway(&format!(
        "runtime = {{ workers = 1 }}\n{TO_H2}proxy_protocol = {{ send = \"v1\" }}\n"
    ))
    .with("app", front)
    .start();
    let (first, second) = (Client::connect(&gateway.web()), Client::connect(&gateway.web()));
    for _ in 0..2 {
        assert_eq!(first.get("/").text(), "hi");
        assert_eq!(second.get("/").text(), "hi");
    }
    assert_eq!(server.connections(), 2);
    let said = String::from_utf8(sent.lock().unwrap().clone()).unwrap();
    assert_eq!(said.matches("PROXY TCP4 127.0.0.1").count(), 2, "{said}");
    drop(first);
    eventually("with its client it goes", || server.open() == 1);
}

/// Carries each connection to where this leads now. `lines`: takes the line before each off, and notes it.
pub fn relay(leads_to: &Arc<Mutex<String>>, lines: Option<&Arc<Mutex<Vec<u8>>>>) -> Address {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().into();
    let (leads_to, lines) = (Arc::clone(leads_to), lines.cloned());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Some(lines) = &lines {
                let (mut line, mut from) = (Vec::new(), client.try_clone().unwrap());
                let mut byte = [0];
                while !line.ends_with(b"\r\n") && from.read(&mut byte).unwrap_or(0) > 0 {
                    line.push(byte[0]);
                }
                lines.lock().unwrap().extend_from_slice(&line);
            }
            let to = TcpStream::connect(&*leads_to.lock().unwrap()).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), to.try_clone().unwrap()),
                (to, client),
            ] {
                thread::spawn(move || {
                    let _ended = std::io::copy(&mut from, &mut to);
                    let _ended = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

/// Notes a request, and answers once the gate is open.
async fn hold(mut stream: Stream, gate: Gate) {
    let seen = Seen::of(&stream.request, stream.connection);
    stream.hit(seen);
    opened(&gate).await;
    let sent = stream.respond.send_response(http::Response::new(()), true);
    assert!(sent.is_ok(), "{sent:?}");
}

/// So many requests at once.
fn burst(gateway: &Gateway, requests: usize) -> Vec<Conn> {
    let mut conns: Vec<Conn> = (0..requests).map(|_| gateway.connect()).collect();
    for conn in &mut conns {
        conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    conns
}

#[track_caller]
fn answered(conns: Vec<Conn>) {
    for mut conn in conns {
        assert_eq!(conn.response_to("GET").status, 200);
    }
}

#[test]
fn a_reload_keeps_connections_that_nothing_changed_for_and_finishes_on_others() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::streams(move |mut stream| {
        let held = held.clone();
        async move {
            match stream.request.uri().path() {
                "/held" => hold(stream, held).await,
                _ => drop(stream.respond.send_response(http::Response::new(()), true)),
            }
        }
    });
    let config =
        format!("runtime = {{ workers = 1 }}\n{TO_H2}").replace("@app@", &server.address().to_string());
    let gateway = gateway(&config).start();
    assert_eq!(gateway.get("/").status, 200);
    gateway.reload(&config.replace("[[routes]]", "[[routes]]\nname = \"other\""));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(server.connections(), 1);
    let mut conn = gateway.connect();
    conn.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is there", || server.running() == 1);
    gateway.reload(&format!("{config}http2 = {{ streams = 50 }}\n"));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(server.connections(), 2, "connections of another kind are others");
    gate.open();
    assert_eq!(conn.response_to("GET").status, 200);
    eventually("the old one is closed", || server.open() == 1);
}

#[test]
fn a_drain_of_the_gateway_finishes_what_runs() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::streams(move |stream| hold(stream, held.clone()));
    let gateway = one_worker(&server, "");
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is there", || server.running() == 1);
    gateway.signal(rustix::process::Signal::TERM);
    gate.open();
    assert_eq!(conn.response_to("GET").status, 200);
    let mut gateway = gateway;
    assert_eq!(gateway.wait(), Some(0));
    eventually("its connection is closed", || server.open() == 0);
}

#[test]
fn old_connections_take_no_more_requests() {
    let server = Server::http(|_| Answer::ok("hi"));
    let gateway = one_worker(&server, "pool = { max_age = \"1ms\" }");
    for _ in 0..3 {
        testkit::pace(std::time::Duration::from_millis(2));
        assert_eq!(gateway.get("/").text(), "hi");
    }
    assert_eq!(server.connections(), 3);
}
