//! Passing TLS on unopened: who is told of whom, what passes through it, who may leave when, and how many there may be.

use crate::gateway;
use crate::passthrough::{CONFIG, Server, get, record, to, with};
use crate::tls_bad_input::hello;
use serde_json::json;
use std::process::{Command, Stdio};
use testkit::gateway::Running;
use testkit::net::{Blackhole, free_port};
use testkit::{Address, Backend, Ca, Conn, Gateway, TlsClient, eventually};

/// A fatal alert in the clear.
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

#[test]
fn a_client_that_leaves_while_an_endpoint_is_connected_is_let_go() {
    let ca = Ca::default();
    for half in [false, true] {
        let nowhere = Blackhole::new();
        let rule = ("rule", ", connect = \"1m\"");
        let gateway = with(&[nowhere.address()], &[rule]).start();
        let mut conn = Conn::connect(gateway.web());
        conn.send(hello(&ca));
        let tried = || gateway.metric("tidegate_lb_picks_total", &[]);
        eventually("it is being connected", || tried() == 1.0);
        if half {
            conn.half_close();
        } else {
            drop(conn);
        }
        eventually("nobody waits any more", || gateway.open_connections() == 0);
        let told = record(&gateway, "a.test");
        assert_eq!(
            (&told["status"], &told["token"], &told["ended"]),
            (&json!(499), &json!("client_closed"), &json!("client")),
            "{told}"
        );
        assert_eq!(
            told["attempts"][0]["outcome"], "cancelled",
            "it is not the endpoint's fault"
        );
    }
}

/// One connection at a time, and a line of one.
fn narrow(endpoint: &Address) -> Gateway {
    gateway(CONFIG)
        .with(
            "endpoints",
            format!("{{ address = \"{endpoint}\", max_connections = 1 }}"),
        )
        .with("rule", "")
        .with("listener", "")
        .with("upstream", "queue = { max = 1, timeout = \"1m\" }")
        .start()
}

#[test]
fn connections_count_against_what_an_endpoint_takes_and_wait_for_a_place() {
    let ca = Ca::default();
    let server = Server::showing(&ca.leaf(&["a.test"]));
    let gateway = narrow(&server.address());
    let waiting = || gateway.metric("tidegate_queue_waiting", &[]);
    let client = TlsClient::trusting(&ca).build();
    let mut first = client.connect(gateway.web(), "a.test");
    get(&mut first, 10);
    let mut second = Conn::connect(gateway.web());
    second.send(hello(&ca));
    eventually("it is in line", || waiting() == 1.0);
    let mut third = Conn::connect(gateway.web());
    third.send(hello(&ca));
    assert_eq!(third.read_to_end().0, INTERNAL_ERROR, "the line is full");
    assert_eq!(record(&gateway, "a.test")["token"], "overloaded");
    drop(second);
    eventually("who left is in no line", || waiting() == 0.0);
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| client.connect(gateway.web(), "a.test"));
        eventually("the next is in line", || waiting() == 1.0);
        get(&mut first, 10);
        drop(first);
        late.join()
    });
    get(&mut late.expect("a connection"), 1000);
    eventually("all places are given back", || {
        gateway.endpoint(&server.address())["open_websockets"] == 0
    });
}

#[test]
fn a_proxy_in_front_is_passed_on_to_the_endpoint() {
    let ca = Ca::default();
    let backend = Backend::script(|conn, _| while conn.try_read_some().is_ok() {});
    let own = [
        ("listener", "proxy_protocol = { trusted = [\"127.0.0.1\"] }"),
        ("upstream", "proxy_protocol = { send = \"v2\" }"),
    ];
    let gateway = with(&[backend.address()], &own).start();
    // 203.0.113.9:5000 at 198.51.100.1:443.
    let addresses = [203, 0, 113, 9, 198, 51, 100, 1, 0x13, 0x88, 0x01, 0xbb];
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat();
    let hello = hello(&ca);
    let mut conn = Conn::connect(gateway.web());
    conn.send(&header).send(&hello);
    let expected = [header, hello].concat();
    eventually("header and hello", || backend.received() == [expected.clone()]);
    drop(conn);
    assert_eq!(record(&gateway, "a.test")["client"], "203.0.113.9");
}

#[test]
fn a_clients_certificate_reaches_a_server_that_others_wrote() {
    let there = Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no openssl");
        return;
    }
    let (ca, clients, dir, port) = (
        Ca::default(),
        Ca::new("clients"),
        tempfile::tempdir().unwrap(),
        free_port(),
    );
    let leaf = ca.leaf(&["a.test"]);
    for (name, content) in [
        ("cert.pem", leaf.chain.as_str()),
        ("key.pem", &leaf.key),
        ("clients.pem", clients.pem()),
    ] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let mut openssl = Command::new("openssl");
    openssl.current_dir(dir.path()).args([
        "s_server",
        "-accept",
        &format!("127.0.0.1:{port}"),
        "-cert",
        "cert.pem",
        "-key",
        "key.pem",
        "-CAfile",
        "clients.pem",
        "-Verify",
        "2",
        "-verify_return_error",
        "-www",
        "-quiet",
    ]);
    let _openssl = Running::start(openssl);
    let at = Address::parse(&format!("127.0.0.1:{port}"));
    eventually("it listens", || Conn::try_connect(&at).is_ok());
    let gateway = to(&[at]).start();
    let own = clients.leaf(&["me.test"]);
    let answered = |client: TlsClient| {
        let mut conn = client.try_connect(gateway.web(), "a.test").ok()?;
        conn.try_send("GET / HTTP/1.0\r\n\r\n").ok()?;
        conn.try_response_to("GET").ok()
    };
    let page = answered(TlsClient::trusting(&ca).showing(&own).build()).expect("an answer");
    assert_eq!(page.status, 200);
    assert!(
        page.text().contains("CN=test") || page.text().contains("CN = test"),
        "{}",
        page.text()
    );
    assert!(answered(TlsClient::trusting(&ca).build()).is_none());
    let stranger = Ca::new("strangers").leaf(&["me.test"]);
    assert!(answered(TlsClient::trusting(&ca).showing(&stranger).build()).is_none());
}

#[test]
fn a_direction_ends_by_itself() {
    let ca = Ca::default();
    let backend = Backend::script(|conn, _| {
        while conn.try_read_some().is_ok() {}
        conn.send("last words");
    });
    let gateway = to(&[backend.address()]).start();
    let mut conn = Conn::connect(gateway.web());
    let hello = hello(&ca);
    conn.send(&hello);
    eventually("it has arrived", || backend.received() == [hello.clone()]);
    conn.half_close();
    assert_eq!(conn.read_to_end().0, b"last words");
    eventually("all is over", || gateway.open_connections() == 0);
    assert_eq!(record(&gateway, "a.test")["ended"], "done");
}

#[test]
fn the_listeners_limits_hold_before_any_name_is_known() {
    let ca = Ca::default();
    let server = Server::showing(&ca.leaf(&["a.test"]));
    let config = CONFIG.replace("handshake_timeout", "connections_per_ip = 1, handshake_timeout");
    let gateway = gateway(&config)
        .with("endpoints", format!("\"{}\"", server.address()))
        .with("rule", "")
        .with("listener", "")
        .with("upstream", "")
        .start();
    let client = TlsClient::trusting(&ca).build();
    let mut first = client.connect(gateway.web(), "a.test");
    get(&mut first, 10);
    let mut second = Conn::connect(gateway.web());
    assert_eq!(second.read_to_end().0, b"", "no answer in HTTP to who speaks TLS");
    get(&mut first, 10);
    drop(first);
    eventually("the next may come", || {
        client.try_connect(gateway.web(), "a.test").is_ok()
    });
}

#[test]
fn it_counts_among_the_tunnels_of_its_listener() {
    let ca = Ca::default();
    let server = Server::showing(&ca.leaf(&["a.test"]));
    let limited = CONFIG.replace("handshake_timeout = \"2s\"", "tunnels = 1");
    let gateway = to(&[server.address()]).config(&limited).start();
    let client = TlsClient::trusting(&ca).alpn(&["http/1.1"]).build();
    let mut first = client.connect(gateway.web(), "a.test");
    get(&mut first, 1);
    assert!(client.try_connect(gateway.web(), "a.test").is_err());
    let told = record(&gateway, "a.test");
    assert_eq!(
        (&told["status"], &told["token"]),
        (&503.into(), &"overloaded".into()),
        "{told}"
    );
    get(&mut first, 1000);
    drop(first);
    eventually("its place is free", || {
        client.try_connect(gateway.web(), "a.test").is_ok()
    });
}
