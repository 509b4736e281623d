//! WebSocket to endpoints that speak HTTP/2 (RFC 8441), for clients of HTTP/1.1 and of HTTP/2.

use crate::gateway;
use crate::h2_client::{self, send_all};
use crate::h2_server::{Seen, Server, Stream};
use crate::h2_upstream::TO_H2;
use crate::proxy_protocol_peers::{at, node};
use crate::upstream_tls::{CA, towards};
use crate::websocket_h2::{Socket, ask, connect};
use bytes::Bytes;
use h2::server::Builder;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use std::time::Duration;
use testkit::ws::{self, BINARY, CLOSE, TEXT};
use testkit::{Ca, Gateway, TlsFront, eventually, pattern};

/// A server that offers extended CONNECT.
pub fn offering() -> Builder {
    let mut builder = Builder::new();
    builder.enable_connect_protocol();
    builder
}

/// Lets a WebSocket in, with the first subprotocol that is offered.
pub fn accept(stream: &mut Stream) -> SendStream<Bytes> {
    let seen = Seen::of(&stream.request, stream.connection);
    let protocol = stream.request.extensions().get::<h2::ext::Protocol>();
    let mut response = Response::builder().header("x-asked", protocol.map_or("", |name| name.as_str()));
    if let Some(offered) = seen.header("sec-websocket-protocol") {
        let first = offered.split(',').next().unwrap_or_default().trim().to_owned();
        response = response.header("sec-websocket-protocol", first);
    }
    stream.hit(seen);
    stream
        .respond
        .send_response(response.body(()).unwrap(), false)
        .unwrap()
}

/// The next piece of what the client says; `None` at its end.
pub async fn next(body: &mut RecvStream) -> Option<Bytes> {
    let piece = body.data().await?.ok()?;
    body.flow_control().release_capacity(piece.len()).ok()?;
    Some(piece)
}

/// Returns each message as a server does; after a close frame, or the client's end, it ends too.
pub async fn echo(mut stream: Stream) {
    let mut send = accept(&mut stream);
    let mut bytes = Vec::new();
    let body = stream.request.body_mut();
    while let Some(piece) = next(body).await {
        bytes.extend_from_slice(&piece);
        while let Some((opcode, payload, len)) = frame(&bytes) {
            bytes.drain(..len);
            let back = ws::frame(opcode, &payload, false);
            let end = opcode == CLOSE;
            if send_all(&mut send, &back, end).await.is_err() || end {
                return;
            }
        }
    }
    send.send_data(Bytes::new(), true).ok();
}

/// A masked frame at the beginning of these bytes.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (len, at) = match bytes.get(1)? & 0x7f {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        len => (usize::from(len), 2),
    };
    let mask = bytes.get(at..at + 4)?;
    let payload = bytes.get(at + 4..at + 4 + len)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
    Some((bytes[0] & 0x0f, payload.collect(), at + 4 + len))
}

pub fn before(server: &Server) -> Gateway {
    with(server, "")
}

/// With these keys of the route.
pub fn with(server: &Server, route: &str) -> Gateway {
    let config = TO_H2.replace("[[routes]]", &format!("[[routes]]\n{route}"));
    gateway(&format!("runtime = {{ workers = 1 }}\n{config}\n[log]\naccess = {{ path = \"access.log\", format = \"json\" }}\n"))
        .with("app", server.address())
        .start()
}

pub fn open(gateway: &Gateway) -> f64 {
    gateway.metric("tidegate_ws_open", &[])
}

#[test]
fn a_handshake_of_http_1_becomes_an_extended_connect_and_its_answer_a_101() {
    let server = Server::streams_with(offering(), echo);
    let gateway = before(&server);
    let mut conn = gateway.connect();
    // What comes with the handshake is not lost.
    let extra = "Sec-WebSocket-Protocol: chat, other\r\nSec-WebSocket-Extensions: permessage-deflate\r\nCookie: a=1\r\n";
    let mut glued = ws::handshake("/chat?room=1", extra).into_bytes();
    glued.extend_from_slice(&ws::frame(TEXT, b"glued", true));
    conn.send(glued);
    let head = String::from_utf8(conn.read_through(b"\r\n\r\n")).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n",
        "sec-websocket-protocol: chat\r\n",
        "x-asked: websocket\r\n",
    ] {
        assert!(head.to_lowercase().contains(line), "{line} in {head}");
    }
    assert_eq!(ws::read_frame(&mut conn).unwrap(), (TEXT, b"glued".to_vec()));
    for payload in [&b"hello"[..], &pattern::bytes(300_000)] {
        conn.send(ws::frame(BINARY, payload, true));
        assert!(ws::read_frame(&mut conn).unwrap() == (BINARY, payload.to_vec()));
    }
    let seen = server.last_request();
    assert_eq!(
        (&*seen.method, &*seen.scheme, &*seen.authority, &*seen.path),
        ("CONNECT", "http", "test", "/chat?room=1")
    );
    assert_eq!(seen.header("sec-websocket-version"), Some("13"));
    assert_eq!(
        seen.header("sec-websocket-extensions"),
        Some("permessage-deflate")
    );
    assert_eq!(seen.header("cookie"), Some("a=1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    for gone in [
        "connection",
        "upgrade",
        "sec-websocket-key",
        "host",
        "content-length",
    ] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(open(&gateway), 1.0);
    assert_eq!(gateway.endpoint(&server.address())["open_websockets"], 1);
    conn.send(ws::frame(CLOSE, &1000_u16.to_be_bytes(), true));
    assert_eq!(ws::read_frame(&mut conn).unwrap().0, CLOSE);
    conn.expect_end();
    drop(conn);
    eventually("the stream ends", || {
        server.running() == 0 && open(&gateway) == 0.0
    });
    let record = gateway.access_record("/chat?room=1");
    assert_eq!(
        (&record["status"], &record["tunnel"], &record["close"]),
        (&101.into(), &true.into(), &"endpoint".into()),
        "{record}"
    );
    assert_eq!(record["attempts"][0]["protocol"], "HTTP/2.0", "{record}");
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_extended_connect_goes_on_as_one_and_shares_the_connection_with_requests() {
    let server = Server::streams_with(offering(), |stream| async move {
        if stream.request.method() == http::Method::CONNECT {
            return echo(stream).await;
        }
        let mut stream = stream;
        let sent = stream.respond.send_response(Response::new(()), true);
        assert!(sent.is_ok());
    });
    let gateway = before(&server);
    let client = h2_client::Client::connect(&gateway.web());
    let mut request = connect("websocket", "/t");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "b".parse().unwrap());
    let mut socket = Socket::asking(&client, request);
    assert_eq!(socket.headers["sec-websocket-protocol"], "b");
    socket.echo(TEXT, b"hello");
    socket.echo(BINARY, &pattern::bytes(300_000));
    assert_eq!(client.get("/page").status, 200);
    let mut other = Socket::open(&client, "/u");
    other.echo(TEXT, b"two");
    socket.echo(TEXT, b"one");
    assert_eq!(server.connections(), 1);
    socket.say(&ws::frame(CLOSE, &1000_u16.to_be_bytes(), true));
    assert_eq!(socket.hear().map(|(opcode, _)| opcode), Some(CLOSE));
    assert_eq!(socket.hear(), None);
    drop((socket, other));
    eventually("both streams end", || {
        client.turn();
        server.running() == 0 && open(&gateway) == 0.0
    });
}

#[test]
fn an_endpoint_that_does_not_offer_it_is_told_of_in_plain_words() {
    let server = Server::http(|_| crate::h2_server::Answer::ok("hi"));
    let gateway = before(&server);
    let answer = gateway.connect().send(ws::handshake("/ws", "")).response();
    answer.expect(502, Some("upgrade_refused"));
    let client = h2_client::Client::connect(&gateway.web());
    let (answer, _send) = ask(&client, connect("websocket", "/ws"));
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["x-tidegate-error"], "upgrade_refused");
    assert_eq!(server.hits(), 0, "it was not asked");
    let record = gateway.access_record("/ws");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("does not offer extended CONNECT"), "{record}");
    assert_eq!(gateway.get("/").text(), "hi");
}

#[test]
fn where_alpn_decides_extended_connect_is_taken_if_it_is_offered() {
    let ca = Ca::default();
    let (server, backend) = (Server::streams_with(offering(), echo), ws::echo_backend());
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"]))
        .with_http2_at(server.address())
        .before(backend.address());
    let gateway = towards(&front.address(), CA, "protocol = \"auto\"")
        .file("ca.pem", ca.pem())
        .start();
    let mut clients: Vec<ws::Client> = (0..3)
        .map(|_| ws::Client::connect(gateway.connect(), "/"))
        .collect();
    for client in &mut clients {
        client.echo("hello");
    }
    assert_eq!(server.last_request().scheme, "https");
    assert_eq!((front.sessions().len(), backend.hits()), (1, 0));
}

#[test]
fn a_refusal_passes_with_its_body_and_leaves_both_connections_usable() {
    let server = Server::streams_with(offering(), |mut stream| async move {
        let seen = Seen::of(&stream.request, stream.connection);
        stream.hit(seen);
        let refusal = Response::builder().status(403).body(()).unwrap();
        let mut send = stream.respond.send_response(refusal, false).unwrap();
        send_all(&mut send, b"not you", true).await.unwrap();
        // The client ends its side too, and takes nothing back.
        assert!(next(stream.request.body_mut()).await.is_none());
        let reset = tokio::time::timeout(Duration::from_millis(20), stream.cancelled()).await;
        assert!(
            !matches!(reset, Ok(Some(reason)) if reason != Reason::NO_ERROR),
            "{reset:?}"
        );
    });
    let gateway = before(&server);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        let answer = conn.send(ws::handshake("/", "")).response();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (403, "not you"),
            "{answer}"
        );
    }
    let client = h2_client::Client::connect(&gateway.web());
    for _ in 0..3 {
        let (answer, _send) = ask(&client, connect("websocket", "/"));
        assert_eq!(answer.status(), 403);
        let answer = client.run(h2_client::whole(answer)).unwrap();
        assert_eq!(answer.text(), "not you");
    }
    assert_eq!((server.hits(), server.connections()), (6, 1));
    assert_eq!(open(&gateway), 0.0);
}

#[test]
fn another_protocol_that_may_pass_is_asked_for_by_its_name() {
    let server = Server::streams_with(offering(), |mut stream| async move {
        let mut send = accept(&mut stream);
        while let Some(piece) = next(stream.request.body_mut()).await {
            send_all(&mut send, &piece, false).await.unwrap();
        }
    });
    let gateway = with(&server, "upgrades = [\"thing\"]");
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: thing\r\n\r\nabc");
    let head = String::from_utf8(conn.read_through(b"\r\n\r\n"))
        .unwrap()
        .to_lowercase();
    assert!(
        head.starts_with("http/1.1 101 ") && head.contains("\r\nupgrade: thing\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nx-asked: thing\r\n") && !head.contains("accept"),
        "{head}"
    );
    assert_eq!(conn.read(3), b"abc");
}

const NODE: &str = "
const server = require('http2').createServer({ settings: { enableConnectProtocol: true } });
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  if (headers[':method'] === 'CONNECT' && headers[':protocol'] === 'websocket') {
    stream.respond({ ':status': 200, 'x-version': headers['sec-websocket-version'] });
    stream.pipe(stream);
  } else {
    stream.respond({ ':status': 200 });
    stream.end('page');
  }
});
server.listen(Number(process.argv[1]), '127.0.0.1');
";

#[test]
fn node_holds_websockets_over_http_2() {
    let Some((_node, port)) = node(NODE) else { return };
    let gateway = gateway(TO_H2).with("app", at(port)).start();
    let mut client = ws::Client::connect(gateway.connect(), "/");
    assert_eq!(client.answer.header("x-version"), Some("13"));
    client.echo("hello");
    client
        .conn
        .send(ws::frame(BINARY, &pattern::bytes(200_000), true));
    assert!(ws::read_frame(&mut client.conn).unwrap() == (BINARY, pattern::bytes(200_000)));
    assert_eq!(gateway.get("/page").text(), "page");
    client.conn.half_close();
    client.conn.expect_end();
}

#[test]
fn probes_of_kind_websocket_ask_as_clients_requests_are_asked() {
    let state = |gateway: &Gateway, address: &testkit::Address, state: &str| {
        testkit::eventually_some(state, || {
            let shown = gateway.endpoint(address)["health"].clone();
            (shown["state"] == state).then_some(shown)
        })
    };
    let health = "health = { kind = \"websocket\", path = \"/chat\", interval = \"50ms\" }";
    let offers = Server::streams_with(offering(), echo);
    let refuses = Server::streams_with(offering(), |mut stream| async move {
        let refusal = Response::builder().status(503).body(()).unwrap();
        let _sent = stream.respond.send_response(refusal, true);
    });
    let lacks = Server::http(|_| crate::h2_server::Answer::ok("hi"));
    let config = TO_H2.replace("protocol =", &format!("{health}\nprotocol ="));
    for (server, wanted, reason) in [
        (&offers, "healthy", ""),
        (&refuses, "unhealthy", "status 503"),
        (&lacks, "unhealthy", "does not offer extended CONNECT"),
    ] {
        let gateway = gateway(&config).with("app", server.address()).start();
        let shown = state(&gateway, &server.address(), wanted);
        let told = shown["reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{shown}");
    }
    let asked = offers.last_request();
    assert_eq!((&*asked.method, &*asked.path), ("CONNECT", "/chat"));
    assert_eq!(asked.header("sec-websocket-version"), Some("13"));
    eventually("sessions of probes do not pile up", || offers.running() <= 1);

    // Where ALPN decides and HTTP/2 does not offer it.
    let (ca, backend) = (Ca::default(), ws::echo_backend());
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"]))
        .with_http2_at(lacks.address())
        .before(backend.address());
    let gateway = towards(&front.address(), CA, &format!("protocol = \"auto\"\n{health}"))
        .file("ca.pem", ca.pem())
        .start();
    state(&gateway, &front.address(), "healthy");
    assert!(backend.hits() > 0 && lacks.hits() == 0);
}

/// A server whose tunnels say its name first.
pub fn named(name: &'static str) -> Server {
    Server::streams_with(offering(), move |mut stream| async move {
        if stream.request.method() != http::Method::CONNECT {
            let mut send = stream.respond.send_response(Response::new(()), false).unwrap();
            send_all(&mut send, name.as_bytes(), true).await.ok();
            return;
        }
        let mut send = accept(&mut stream);
        send_all(&mut send, &ws::frame(TEXT, name.as_bytes(), false), false)
            .await
            .ok();
        while next(stream.request.body_mut()).await.is_some() {}
    })
}
