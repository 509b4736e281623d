//! Endpoints that speak HTTP/2: what reaches them, and how few connections it takes.

use crate::gateway;
use crate::h2_client::{Client, post, send_all, whole};
use crate::h2_server::{Answer, Seen, Server, opened};
use crate::h2_upstream_pool::relay;
use crate::upstream_tls::{CA, towards};
use http::HeaderMap;
use std::sync::{Arc, Mutex};
use testkit::frames::{END_STREAM, HEADERS, Peer};
use testkit::{Backend, Builder, Ca, Gate, Gateway, Reply, TlsFront, eventually};

/// One listener for both protocols, and an endpoint that speaks HTTP/2 by prior knowledge.
pub const TO_H2: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
protocols = ["h1", "h2c"]

[[routes]]
upstream = "app"

[upstreams.app]
protocol = "h2"
endpoints = [{ address = "@app@" }]
"#;

pub fn to(server: &Server) -> Builder {
    gateway(TO_H2).with("app", server.address())
}

#[test]
fn a_request_reaches_the_endpoint_as_one_of_http_2() {
    let server = Server::http(|seen| {
        Answer::ok(format!("{} {}", seen.method, seen.path))
            .header("x-mine", "1")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
    });
    let gateway = to(&server).start();
    let answer = gateway.send(
        "GET /a?b=c HTTP/1.1\r\nHost: Test.example:99\r\nCookie: a=1\r\nCookie: b=2\r\nTE: trailers\r\n\
         Connection: x-private, TE\r\nX-Private: 1\r\nX-A: 1\r\n\r\n",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /a?b=c"));
    assert_eq!(answer.header("x-mine"), Some("1"));
    assert_eq!(answer.headers.all("set-cookie"), ["a=1", "b=2"]);
    let seen = server.last_request();
    assert_eq!(
        (seen.scheme.as_str(), seen.authority.as_str()),
        ("http", "Test.example:99")
    );
    assert_eq!(
        (seen.header("x-a"), seen.header("te")),
        (Some("1"), Some("trailers"))
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    for gone in ["connection", "x-private", "host", "transfer-encoding", "upgrade"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
}

#[test]
fn a_switch_of_protocols_is_not_asked_of_an_endpoint_that_knows_none() {
    let server = Server::http(|_| Answer::ok("hi"));
    let gateway = one_worker(&server, "");
    let answer = gateway.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!((answer.status, answer.token()), (502, Some("upgrade_refused")));
    assert_eq!(gateway.get("/").text(), "hi");
    assert_eq!(gateway.endpoint(&server.address())["failure_streak"], 0);
}

#[test]
fn an_exchange_goes_both_ways_at_once() {
    let server = Server::streams(|mut stream| async move {
        let mut echo = stream
            .respond
            .send_response(http::Response::new(()), false)
            .unwrap();
        let body = stream.request.body_mut();
        while let Some(Ok(piece)) = body.data().await {
            body.flow_control().release_capacity(piece.len()).unwrap();
            send_all(&mut echo, &piece, false).await.unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        echo.send_trailers(trailers).unwrap();
    });
    let gateway = one_worker(&server, "");
    // From HTTP/2.
    let client = Client::connect(&gateway.web());
    client.run(async {
        let mut echo = client.converse().await;
        assert!(echo.data().await.is_none_or(|rest| rest.unwrap().is_empty()));
        let trailers = echo.trailers().await.unwrap().expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    });
    // From HTTP/1.1.
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    conn.read_through(b"\r\n\r\n");
    for _ in 0..3 {
        conn.send("5\r\nhello\r\n");
        assert_eq!(conn.read(10), b"5\r\nhello\r\n");
    }
    conn.send("0\r\n\r\n");
    assert_eq!(conn.read_through(b"\r\n\r\n"), b"0\r\ngrpc-status: 0\r\n\r\n");
}

#[test]
fn a_clients_slowness_is_the_endpoints_and_memory_stays() {
    let server = Server::streams(|mut stream| async move {
        let path = stream.request.uri().path().to_owned();
        let mut body = stream
            .respond
            .send_response(http::Response::new(()), false)
            .unwrap();
        if path == "/small" {
            return send_all(&mut body, b"small", true).await.unwrap();
        }
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            if send_all(&mut body, &chunk, false).await.is_err() {
                return;
            }
        }
    });
    let gateway = one_worker(&server, "");
    assert_eq!(gateway.get("/small").text(), "small");
    let before = gateway.rss_kb();
    // They ask for much and read nothing of it.
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut conn = gateway.connect();
        conn.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n");
        slow.push(conn);
    }
    eventually("all are there", || server.running() == 20);
    testkit::pace(testkit::patience() / 20);
    // Those beside them on the same connection are served.
    for _ in 0..5 {
        assert_eq!(gateway.get("/small").text(), "small");
    }
    assert_eq!(server.connections(), 1);
    let after = gateway.rss_kb();
    assert!(after < before + 24 * 1024, "{before} to {after}");
    drop(slow);
    eventually("the endpoint is told", || server.running() == 0);
}

#[test]
fn an_endpoints_slowness_is_the_clients_and_memory_stays() {
    let gate = Gate::new();
    let held = gate.clone();
    // Takes the beginning of the body, and no more until the gate opens.
    let server = Server::streams(move |mut stream| {
        let held = held.clone();
        async move {
            opened(&held).await;
            let body = stream.request.body_mut();
            let mut length = 0;
            while let Some(Ok(piece)) = body.data().await {
                body.flow_control().release_capacity(piece.len()).unwrap();
                length += piece.len();
            }
            let mut answer = stream
                .respond
                .send_response(http::Response::new(()), false)
                .unwrap();
            send_all(&mut answer, length.to_string().as_bytes(), true)
                .await
                .unwrap();
        }
    });
    let config = TO_H2.replace("\n[[routes]]", "limits = { body = \"100MB\" }\n\n[[routes]]");
    let gateway = gateway(&config).with("app", server.address()).start();
    let before = gateway.rss_kb();
    let mut conn = gateway.connect();
    let body = vec![b'x'; 32 << 20];
    conn.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    let taken = conn.send_while_taken(&body, testkit::patience() / 20);
    assert!(taken < 12 << 20, "{taken}");
    assert!(gateway.rss_kb() < before + 8 * 1024);
    gate.open();
    conn.send(&body[taken..]);
    assert_eq!(conn.response_to("PUT").text(), body.len().to_string());
}

#[test]
fn probes_speak_what_requests_do() {
    let server = Server::http(|seen| match seen.path.as_str() {
        "/health" => Answer::ok("fine"),
        _ => Answer::ok("hi"),
    });
    let health = "health = { path = \"/health\", interval = \"100ms\", body = \"fine\" }";
    let gateway = one_worker(&server, health);
    eventually("it is found well", || {
        gateway.endpoint(&server.address())["health"]["state"] == "healthy"
    });
    assert_eq!(gateway.get("/").text(), "hi");
    let probe = server.requests().into_iter().find(|seen| seen.path == "/health");
    let probe = probe.expect("a probe");
    assert_eq!(probe.header("user-agent"), Some("tidegate-health"));
    let mut server = server;
    server.down();
    eventually("it is found dead", || {
        gateway.endpoint(&server.address())["health"]["state"] == "unhealthy"
    });
}

#[test]
fn a_probe_of_an_endpoint_without_http_2_says_so() {
    // What such a server says to a preface.
    let backend = Backend::script(|conn, _| {
        let _asked = conn.try_read(24);
        let _sent = conn.try_send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        conn.wait_for_end();
    });
    let gateway = gateway(&format!(
        "{TO_H2}health = {{ path = \"/\", interval = \"100ms\", fall = 1 }}\n"
    ))
    .with("app", backend.address())
    .start();
    eventually("it is found unwell", || {
        gateway.endpoint(&backend.address())["health"]["state"] == "unhealthy"
    });
    let reason = gateway.endpoint(&backend.address())["health"]["reason"].clone();
    assert_eq!(
        reason,
        "the answer is not understood: the endpoint does not speak HTTP/2"
    );
}

pub fn one_worker(server: &Server, more: &str) -> Gateway {
    gateway(&format!("runtime = {{ workers = 1 }}\n{TO_H2}{more}\n"))
        .with("app", server.address())
        .start()
}

#[test]
fn over_tls_alpn_says_what_is_spoken() {
    let ca = Ca::default();
    let leaf = ca.leaf(&["127.0.0.1"]);
    let (h2, h1) = (Server::http(|_| Answer::ok("two")), Backend::text("one"));
    let cases = [
        ("h2", TlsFront::showing(&leaf).before(h2.address()), 200, "two"),
        ("auto", TlsFront::showing(&leaf).before(h2.address()), 200, "two"),
        (
            "auto",
            TlsFront::showing(&leaf)
                .speaking(&["http/1.1"])
                .before(h1.address()),
            200,
            "one",
        ),
        (
            "auto",
            TlsFront::showing(&leaf).speaking(&[]).before(h1.address()),
            200,
            "one",
        ),
        ("h1", TlsFront::showing(&leaf).before(h1.address()), 200, "one"),
        (
            "h2",
            TlsFront::showing(&leaf).speaking(&[]).before(h1.address()),
            502,
            "connect_failed",
        ),
        (
            "h2",
            TlsFront::showing(&leaf)
                .speaking(&["http/1.1"])
                .before(h1.address()),
            502,
            "tls_failed",
        ),
    ];
    for (protocol, front, status, text) in cases {
        let gateway = towards(&front.address(), CA, &format!("protocol = \"{protocol}\""))
            .file("ca.pem", ca.pem())
            .start();
        for _ in 0..3 {
            let answer = gateway.get("/");
            assert_eq!(answer.status, status, "{protocol}: {answer}");
            assert!(answer.text().contains(text), "{protocol}: {answer}");
        }
        if status == 200 {
            assert_eq!(
                front.sessions().len(),
                1,
                "{protocol}: one connection serves them all"
            );
            let agreed = if text == "two" { "HTTP/2.0" } else { "HTTP/1.1" };
            assert_eq!(gateway.access_record("/")["attempts"][0]["protocol"], agreed);
        }
        if text == "two" {
            assert_eq!(h2.last_request().scheme, "https");
        }
    }
}

#[test]
fn an_endpoint_that_learns_http_2_is_spoken_to_in_it_from_then_on() {
    let ca = Ca::default();
    let leaf = ca.leaf(&["127.0.0.1"]);
    let (h2, h1) = (
        Server::http(|_| Answer::ok("two")),
        Backend::http(|_| Reply::ok("one").header("Connection", "close")),
    );
    let old = TlsFront::showing(&leaf)
        .speaking(&["http/1.1"])
        .before(h1.address());
    let new = TlsFront::showing(&leaf).before(h2.address());
    let leads_to = Arc::new(Mutex::new(old.address().to_string()));
    let gateway = towards(&relay(&leads_to, None), CA, "protocol = \"auto\"")
        .file("ca.pem", ca.pem())
        .start();
    assert_eq!(gateway.get("/").text(), "one");
    *leads_to.lock().unwrap() = new.address().to_string();
    assert_eq!(gateway.get("/").text(), "two");
    assert_eq!(gateway.get("/").text(), "two");
    // The one that showed it, and the one that is shared from then on.
    assert_eq!(h2.connections(), 2);
}

#[test]
fn where_alpn_decides_a_switch_of_protocols_that_http_2_does_not_offer_is_asked_for_in_http_1() {
    let ca = Ca::default();
    let (backend, h2) = (testkit::ws::echo_backend(), Server::http(|_| Answer::ok("two")));
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"]))
        .with_http2_at(h2.address())
        .before(backend.address());
    let gateway = towards(&front.address(), CA, "protocol = \"auto\"")
        .file("ca.pem", ca.pem())
        .start();
    for _ in 0..2 {
        testkit::ws::Client::connect(gateway.connect(), "/").echo("hello");
    }
    assert_eq!(gateway.get("/").text(), "two");
    let agreed: Vec<_> = front
        .sessions()
        .into_iter()
        .filter_map(|session| session.alpn)
        .collect();
    // The first has shown what the endpoint offers, and serves everything else.
    assert_eq!(agreed, ["h2", "http/1.1", "http/1.1"]);
    assert_eq!((h2.hits(), h2.connections(), backend.hits()), (1, 1, 2));
}

#[test]
fn trailers_follow_a_body_whose_length_was_announced() {
    let server = Server::streams(|mut stream| async move {
        let mut seen = Seen::of(&stream.request, stream.connection);
        let body = stream.request.body_mut();
        while let Some(Ok(piece)) = body.data().await {
            seen.body.extend_from_slice(&piece);
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
        seen.trailers = body.trailers().await.unwrap();
        stream.hit(seen);
        let head = http::Response::builder()
            .header("content-length", 2)
            .body(())
            .unwrap();
        let mut sending = stream.respond.send_response(head, false).unwrap();
        send_all(&mut sending, b"hi", false).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        sending.send_trailers(trailers).unwrap();
    });
    let gateway = one_worker(&server, "");
    let client = Client::connect(&gateway.web());
    let answer = client.run(async {
        let mut request = post("/");
        request.headers_mut().insert("content-length", 4.into());
        let (answer, mut stream) = client.begin(request, false).await.unwrap();
        send_all(&mut stream, b"body", false).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        whole(answer.await.unwrap()).await.unwrap()
    });
    assert_eq!(
        (answer.text().as_str(), answer.header("content-length")),
        ("hi", Some("2"))
    );
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "5");
    let seen = server.last_request();
    assert_eq!(
        (seen.body.as_slice(), seen.header("content-length")),
        (&b"body"[..], Some("4"))
    );
    assert_eq!(seen.trailers.expect("trailers")["x-sum"], "42");
    // HTTP/1.1 has no place for them then; the body is whole all the same.
    assert_eq!(gateway.get("/").text(), "hi");
}

#[test]
fn a_head_that_is_all_ends_its_stream_itself() {
    let server = Server::http(|_| Answer::new(200, "").header("grpc-status", "12"));
    let gateway = one_worker(&server, "");
    let mut peer = Peer::connect(gateway.web());
    peer.get(1, "/");
    let head = peer.next_of(HEADERS);
    assert_eq!(head.flags & END_STREAM, END_STREAM, "{head:?}");
    let answer = gateway.get("/");
    assert_eq!(
        (answer.header("content-length"), answer.header("grpc-status")),
        (Some("0"), Some("12"))
    );
}
