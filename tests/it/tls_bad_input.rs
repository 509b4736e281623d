//! What is no handshake, or a bad one: closed in time, with a reason in log and metrics, and nothing left behind.

use crate::gateway;
use std::time::Duration;
use testkit::{Backend, Broken, Ca, Conn, Gateway, TlsClient, eventually, holds_for};

fn start(more: &str) -> (Gateway, Ca, Backend) {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let leaf = ca.leaf(&["a.test"]);
    let gateway = gateway(
        r#"
        @runtime@
        [listeners.web]
        address = "127.0.0.1:0"
        limits = { handshake_timeout = "700ms" }
        [listeners.web.tls]
        certificates = [{ cert = "a.pem", key = "a.key" }]
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("runtime", more)
    .with("app", backend.address())
    .file("a.pem", &leaf.chain)
    .file("a.key", &leaf.key)
    .start();
    (gateway, ca, backend)
}

fn failed(gateway: &Gateway, reason: &str, times: f64) {
    let label = format!("reason=\"{reason}\"");
    eventually(&format!("{reason} counted"), || {
        gateway.metric(
            "tidegate_tls_handshake_failures_total",
            &["listener=\"web\"", &label],
        ) == times
    });
    eventually("the connection is gone", || gateway.open_connections() == 0);
}

/// A ClientHello for `a.test` as a real client writes it.
pub fn hello(ca: &Ca) -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taking = std::thread::spawn(move || {
        use std::io::Read as _;
        let (mut socket, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 65_536];
        let n = socket.read(&mut bytes).unwrap();
        bytes.truncate(n);
        bytes
    });
    let _never = TlsClient::trusting(ca).build().try_connect(address, "a.test");
    taking.join().unwrap()
}

#[test]
fn plain_http_is_answered_in_plain_http() {
    let (gateway, _ca, _backend) = start("");
    let mut conn = Conn::connect(gateway.web());
    conn.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\nbody that is on its way");
    let response = conn.response();
    response.expect(400, Some("bad_request"));
    assert!(response.text().contains("use https://"), "{}", response.text());
    conn.expect_end();
    drop(conn);
    failed(&gateway, "plain_http", 1.0);
    gateway.await_log("plain HTTP on a port for HTTPS");
}

#[test]
fn garbage_is_closed_and_counted() {
    let (gateway, _ca, _backend) = start("");
    for garbage in [&b"\0\0\0\0\0\0"[..], b"SSH-2.0-OpenSSH\r\n", &[0xff; 5000]] {
        let mut conn = Conn::connect(gateway.web());
        let _refused = conn.try_send(garbage);
        conn.wait_for_end();
    }
    failed(&gateway, "not_tls", 3.0);
    let mut conn = Conn::connect(gateway.web());
    conn.send([22, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    conn.wait_for_end();
    failed(&gateway, "protocol", 1.0);
    gateway.await_log("the ClientHello is malformed");
}

#[test]
fn an_oversized_hello_is_cut_before_it_is_all_there() {
    let (gateway, _ca, _backend) = start("");
    let mut conn = Conn::connect(gateway.web());
    conn.send([22, 3, 1, 0x40, 0, 1, 1, 0, 0]);
    let _cut = conn.try_send([0; 1000]);
    conn.wait_for_end();
    failed(&gateway, "too_large", 1.0);
    let mut conn = Conn::connect(gateway.web());
    conn.send([22, 3, 1, 0xff, 0xff]);
    conn.wait_for_end();
    failed(&gateway, "too_large", 2.0);
}

#[test]
fn silence_and_half_a_hello_run_into_the_deadline() {
    let (gateway, ca, _backend) = start("");
    let hello = hello(&ca);
    let mut silent = Conn::connect(gateway.web());
    let mut half = Conn::connect(gateway.web());
    half.send(&hello[..hello.len() / 2]);
    let mut whole = Conn::connect(gateway.web());
    whole.send(&hello);
    assert_eq!(silent.try_read_some().unwrap_err(), Broken::Closed);
    half.wait_for_end();
    assert!(
        !whole.try_read_some().unwrap().is_empty(),
        "the server's part of it"
    );
    whole.wait_for_end();
    failed(&gateway, "timeout", 3.0);
    gateway.await_log("limits.handshake_timeout");
}

#[test]
fn who_leaves_early_is_counted_as_that() {
    let (gateway, ca, _backend) = start("");
    let hello = hello(&ca);
    drop(Conn::connect(gateway.web()));
    let mut half = Conn::connect(gateway.web());
    half.send(&hello[..50]);
    drop(half);
    let mut reset = Conn::connect(gateway.web());
    reset.send(&hello);
    reset.reset();
    failed(&gateway, "closed", 3.0);
}

#[test]
fn a_hello_byte_by_byte_is_a_hello() {
    let (gateway, ca, _backend) = start("");
    let mut conn = Conn::connect(gateway.web());
    conn.send_bytewise(hello(&ca));
    let first = conn.read(1);
    assert_eq!(first, [22], "a ServerHello");
}

#[test]
fn damaged_records_end_the_connection_and_no_other() {
    let (gateway, ca, _backend) = start("");
    let client = TlsClient::trusting(&ca).build();
    let mut good = client.connect(gateway.web(), "a.test");
    let mut socket = Conn::connect(gateway.web());
    let mut bytes = hello(&ca);
    bytes.extend([23, 3, 3, 0, 40]);
    bytes.extend([9; 40]);
    socket.send(bytes);
    socket.wait_for_end();
    good.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(good.response().text(), "hi");
}

#[test]
fn handshakes_over_the_limit_wait_their_turn() {
    let (gateway, ca, _backend) = start("[runtime]\nworkers = 1\nmax_handshakes = 1");
    let client = TlsClient::trusting(&ca).build();
    let mut first = Conn::connect(gateway.web());
    first.send(hello(&ca));
    assert!(!first.try_read_some().unwrap().is_empty());
    assert_eq!(gateway.metric("tidegate_tls_handshakes_running", &[]), 1.0);
    let mut second = Conn::connect(gateway.web());
    second.send(hello(&ca));
    holds_for(Duration::from_millis(100), "the second waits", || {
        second.is_quiet()
    });
    // The first one's deadline gives the turn to who waits, in order.
    first.wait_for_end();
    drop(second);
    let mut third = client.connect(gateway.web(), "a.test");
    third.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(third.response().text(), "hi");
    eventually("none is left", || {
        gateway.metric("tidegate_tls_handshakes_running", &[]) == 0.0
    });
}
