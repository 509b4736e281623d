//! HTTP/2 to servers that others wrote.

use crate::gateway;
use crate::h2_upstream::TO_H2;
use crate::proxy_protocol_peers::{at, haproxy, is_installed, nginx, node};
use testkit::net::free_port;
use testkit::{Backend, Conn, Gateway, Reply, pattern};

fn before(port: u16) -> Gateway {
    gateway(&format!("runtime = {{ workers = 1 }}\n{TO_H2}"))
        .with("app", at(port))
        .start()
}

/// So many requests, ten at once.
fn all_answered(gateway: &Gateway, requests: usize, path: &str, text: &str) {
    for _ in 0..requests / 10 {
        let mut conns: Vec<Conn> = (0..10).map(|_| gateway.connect()).collect();
        for conn in &mut conns {
            conn.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        for mut conn in conns {
            let answer = conn.response_to("GET");
            assert_eq!((answer.status, answer.text().as_str()), (200, text), "{answer}");
        }
    }
}

#[test]
fn nginx_says_goodbye_every_few_requests_and_none_is_lost() {
    if !is_installed("nginx") {
        return;
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    std::fs::write(dir.path().join("large"), pattern::bytes(3_000_000)).unwrap();
    let server = format!(
        "listen 127.0.0.1:{port} http2;\nkeepalive_requests 7;\nroot {};\n\
         location = /hi {{ return 200 \"$server_protocol $request_method $http_x_a\"; }}",
        dir.path().display()
    );
    let _nginx = nginx(dir.path(), port, &server);
    let gateway = before(port);
    let answer = gateway.send("GET /hi HTTP/1.1\r\nHost: test\r\nX-A: 1\r\n\r\n");
    assert_eq!(answer.text(), "HTTP/2.0 GET 1");
    all_answered(&gateway, 200, "/hi", "HTTP/2.0 GET ");
    let answer = gateway.get("/large");
    assert!(answer.body == pattern::bytes(3_000_000), "{}", answer.status);
    assert_eq!(gateway.get("/nowhere").status, 404);
    assert_eq!(gateway.endpoint(&at(port))["errors"], serde_json::json!({}));
}

#[test]
fn haproxy_takes_bodies_and_gives_them_back() {
    if !is_installed("haproxy") {
        return;
    }
    let backend = Backend::http(|request| Reply::ok(request.body.clone()));
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let sections = format!(
        "frontend in\n  mode http\n  bind 127.0.0.1:{port} proto h2\n  default_backend out\n\
         backend out\n  mode http\n  server s {}\n",
        backend.address()
    );
    let _haproxy = haproxy(dir.path(), port, &sections);
    let gateway = before(port);
    let body = pattern::bytes(2_000_000);
    for (framing, body) in [
        (format!("Content-Length: {}\r\n\r\n", body.len()), body.clone()),
        (
            "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            [
                format!("{:x}\r\n", body.len()).as_bytes(),
                &body,
                b"\r\n0\r\n\r\n",
            ]
            .concat(),
        ),
    ] {
        let mut conn = gateway.connect();
        conn.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}"));
        conn.send(&body);
        let answer = conn.response_to("POST");
        assert!(answer.body == pattern::bytes(2_000_000), "{}", answer.status);
    }
    all_answered(&gateway, 100, "/", "");
}

/// Echoes bodies as they come, with trailers behind them.
const NODE: &str = "
const server = require('http2').createServer({ settings: { maxConcurrentStreams: 3 } });
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  stream.respond({ ':status': 200, 'x-path': headers[':path'], 'x-scheme': headers[':scheme'] }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.pipe(stream);
});
server.listen(Number(process.argv[1]), '127.0.0.1');
";

#[test]
fn node_echoes_as_it_goes_with_few_streams_and_trailers() {
    let Some((_node, port)) = node(NODE) else { return };
    let gateway = before(port);
    let mut conns: Vec<Conn> = (0..10).map(|_| gateway.connect()).collect();
    for conn in &mut conns {
        conn.send("POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    }
    for conn in &mut conns {
        let head = String::from_utf8(conn.read_through(b"\r\n\r\n")).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("x-path: /a\r\n"),
            "{head}"
        );
        assert_eq!(conn.read(10), b"5\r\nhello\r\n");
        conn.send("0\r\n\r\n");
        assert_eq!(conn.read_through(b"\r\n\r\n"), b"0\r\ngrpc-status: 0\r\n\r\n");
    }
}
