//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT becomes the handshake that endpoints know, and the stream the
//! tunnel.

use crate::gateway;
use crate::h2_client::{Client, get, send_all};
use crate::http2::BOTH;
use bytes::{Bytes, BytesMut};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use testkit::ws::{self, BINARY, CLOSE, TEXT};
use testkit::{Backend, Gateway, eventually, pattern};

/// A WebSocket on a stream.
pub struct Socket<'a> {
    client: &'a Client,
    pub send: SendStream<Bytes>,
    pub receive: RecvStream,
    pub headers: HeaderMap,
    buffer: BytesMut,
}

pub fn connect(protocol: &'static str, path: &str) -> Request<()> {
    Request::connect(format!("http://test{path}"))
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("origin", "https://app.example")
        .body(())
        .unwrap()
}

pub fn ask(client: &Client, request: Request<()>) -> (Response<RecvStream>, SendStream<Bytes>) {
    client.run(async {
        let (answer, send) = client.begin(request, false).await.expect("a stream");
        (answer.await.expect("an answer"), send)
    })
}

impl<'a> Socket<'a> {
    #[track_caller]
    pub fn open(client: &'a Client, path: &str) -> Self {
        Self::asking(client, connect("websocket", path))
    }

    #[track_caller]
    pub fn asking(client: &'a Client, request: Request<()>) -> Self {
        let (answer, send) = ask(client, request);
        assert_eq!(answer.status(), 200);
        for gone in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!answer.headers().contains_key(gone), "{gone}");
        }
        Self {
            client,
            send,
            headers: answer.headers().clone(),
            receive: answer.into_body(),
            buffer: BytesMut::new(),
        }
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.client
            .run(async { send_all(&mut self.send, bytes, false).await.unwrap() });
    }

    /// The next frame; `None` at the end of the stream.
    pub fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((frame, len)) = parse(&self.buffer) {
                let _used = self.buffer.split_to(len);
                return Some(frame);
            }
            let piece = self.client.run(self.receive.data())?.ok()?;
            self.receive.flow_control().release_capacity(piece.len()).unwrap();
            self.buffer.extend_from_slice(&piece);
        }
    }

    pub fn echo(&mut self, opcode: u8, payload: &[u8]) {
        self.say(&ws::frame(opcode, payload, true));
        assert!(
            self.hear() == Some((opcode, payload.to_vec())),
            "it came back otherwise"
        );
    }
}

fn parse(bytes: &[u8]) -> Option<((u8, Vec<u8>), usize)> {
    let short = usize::from(*bytes.get(1)? & 0x7f);
    let (len, at) = match short {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        len => (len, 2),
    };
    let payload = bytes.get(at..at + len)?;
    Some(((bytes[0] & 0x0f, payload.to_vec()), at + len))
}

fn in_front_of(backend: &Backend) -> Gateway {
    let log = "\n[log]\naccess = { path = \"access.log\", format = \"json\" }\n";
    gateway(&format!("{BOTH}{log}"))
        .with("app", backend.address())
        .start()
}

#[test]
fn an_extended_connect_holds_its_conversation() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let client = Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/chat?room=1");
    socket.echo(TEXT, b"hello");
    socket.echo(BINARY, &pattern::bytes(300_000));
    for n in 0..50 {
        socket.echo(TEXT, n.to_string().as_bytes());
    }
    let seen = backend.last_request();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str(), seen.version.as_str()),
        ("GET", "/chat?room=1", "HTTP/1.1")
    );
    assert_eq!(seen.headers.all("sec-websocket-version"), ["13"]);
    assert_eq!(seen.header("sec-websocket-key").map(str::len), Some(24));
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("origin"), Some("https://app.example"));
    assert_eq!(gateway.metric("tidegate_ws_open", &[]), 1.0);

    // Requests go on beside it, and another socket too.
    let mut other = Socket::open(&client, "/chat?room=2");
    other.echo(TEXT, b"two");
    socket.echo(TEXT, b"one");

    socket.say(&ws::frame(CLOSE, &1000_u16.to_be_bytes(), true));
    assert_eq!(socket.hear().map(|(opcode, _)| opcode), Some(CLOSE));
    assert_eq!(socket.hear(), None);
    socket.send.send_data(Bytes::new(), true).unwrap();
    client.turn();
    drop(socket);
    let record = gateway.access_record("/chat?room=1");
    assert_eq!(
        (&record["status"], &record["tunnel"], &record["version"]),
        (&200.into(), &true.into(), &"HTTP/2.0".into()),
        "{record}"
    );
    assert!(record["bytes_received"].as_u64() > Some(300_000), "{record}");
    drop(other);
    eventually("none is left", || {
        client.turn();
        gateway.metric("tidegate_ws_open", &[]) == 0.0
    });
    eventually("the endpoint's connections end", || {
        backend.open_connections() == 0
    });
}

#[test]
fn the_end_of_the_endpoint_ends_the_stream() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let client = Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/t");
    socket.echo(TEXT, b"hello");
    backend.close_connections();
    assert_eq!(socket.hear(), None);
}

#[test]
fn a_stream_that_is_taken_back_ends_the_tunnel() {
    let backend = ws::echo_backend();
    let gateway = in_front_of(&backend);
    let client = Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/t");
    socket.echo(TEXT, b"hello");
    socket.send.send_reset(h2::Reason::CANCEL);
    client.turn();
    drop(socket);
    eventually("the tunnel ends", || {
        client.turn();
        gateway.metric("tidegate_ws_open", &[]) == 0.0
    });
    eventually("the endpoint is told", || backend.open_connections() == 0);
}

#[test]
fn what_refuses_a_handshake_refuses_it_here() {
    let backend = Backend::http(|_| testkit::Reply::new(403, "not you"));
    let gateway = in_front_of(&backend);
    let client = Client::connect(&gateway.web());
    let (answer, _send) = ask(&client, connect("websocket", "/"));
    assert_eq!(answer.status(), 403);
    let answer = client.run(crate::h2_client::whole(answer)).unwrap();
    assert_eq!(answer.text(), "not you");

    // Wrong accept.
    let backend = Backend::raw(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    let gateway = in_front_of(&backend);
    let client = Client::connect(&gateway.web());
    let (answer, _send) = ask(&client, connect("websocket", "/"));
    assert_eq!(answer.status(), 502);

    // A version that there is not, a protocol that nobody lets pass.
    let mut old = connect("websocket", "/");
    old.headers_mut()
        .insert("sec-websocket-version", "8".parse().unwrap());
    let (answer, _send) = ask(&client, old);
    assert_eq!(answer.status(), 426);
    assert_eq!(answer.headers()["sec-websocket-version"], "13");
    let (answer, _send) = ask(&client, connect("connect-udp", "/"));
    assert_eq!(answer.status(), 501);
}

#[test]
fn frames_are_looked_at_on_streams_too() {
    let backend = ws::echo_backend();
    let config = BOTH.replace("[[routes]]", "[[routes]]\nwebsocket = { max_message = \"1KiB\" }");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let client = Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/");
    socket.echo(BINARY, &[1; 1024]);
    // Byte by byte: a head may be torn into frames of its own.
    for byte in ws::frame(TEXT, b"torn", true) {
        socket.say(&[byte]);
    }
    assert_eq!(socket.hear(), Some((TEXT, b"torn".to_vec())));
    socket.say(&ws::frame(BINARY, &[1; 1025], true));
    assert_eq!(socket.hear(), Some((CLOSE, 1009_u16.to_be_bytes().to_vec())));
    assert_eq!(socket.hear(), None);
}

#[test]
fn a_stream_is_told_to_go_by_a_close_frame_and_its_end() {
    let backend = ws::echo_backend();
    let config = BOTH.replace(
        "[[routes]]",
        "[[routes]]\nwebsocket = { inspect = true, max_age = \"1s\" }",
    );
    let gateway = gateway(&config).with("app", backend.address()).start();
    let client = Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/");
    socket.echo(TEXT, b"hello");
    assert_eq!(socket.hear(), Some((CLOSE, 1001_u16.to_be_bytes().to_vec())));
    assert_eq!(socket.hear(), None);
    socket.say(&ws::frame(CLOSE, &1001_u16.to_be_bytes(), true));
    eventually("the endpoint hears the goodbye and ends", || {
        client.turn();
        backend.open_connections() == 0
    });
    eventually("it is counted", || {
        client.turn();
        gateway.metric("tidegate_ws_closed_total", &["reason=\"age\""]) == 1.0
    });
}

#[test]
fn requests_are_served_beside_a_tunnel_and_a_plain_connect_is_none() {
    let backend = ws::echo_backend();
    let config = BOTH.replace(
        "[[routes]]",
        "[[routes]]\npaths = [\"/page\"]\nrespond = { body = \"page\" }\n[[routes]]",
    );
    let gateway = gateway(&config).with("app", backend.address()).start();
    let client = Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/");
    let page = client.ask(get("/page"), b"");
    assert_eq!((page.status, page.text().as_str()), (200, "page"));
    socket.echo(TEXT, b"hello");
    let plain = Request::connect("test:443").body(()).unwrap();
    assert_eq!(client.ask(plain, b"").status, 405);
}
