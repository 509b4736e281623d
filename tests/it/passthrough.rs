//! TLS that is passed on unopened, by the name that clients ask for: endpoints show their own certificates.

use crate::tls_bad_input::hello;
use crate::{binary, gateway};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::tls::der;
use testkit::{
    Address, Backend, Broken, Builder, Ca, Conn, Gateway, Leaf, Reply, TlsClient, TlsFront, eventually,
    eventually_some, holds_for, pattern, run,
};

/// One listener, `web`, that passes two names on to `app`.
pub const CONFIG: &str = r#"
runtime = { workers = 1 }
[listeners.web]
address = "127.0.0.1:0"
limits = { handshake_timeout = "2s" }
passthrough = [
  { sni = "a.test", upstream = "app" @rule@ },
  { sni = "*.wild.test", upstream = "app" },
]
@listener@

[upstreams.app]
endpoints = [@endpoints@]
@upstream@

[log]
access = { path = "access.log", format = "json" }
"#;

/// With these endpoints.
pub fn to(endpoints: &[Address]) -> Builder {
    with(endpoints, &[])
}

/// With these endpoints, and this in place of what is there.
pub fn with(endpoints: &[Address], own: &[(&str, &str)]) -> Builder {
    let quoted: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let builder = gateway(CONFIG).with("endpoints", quoted.join(", "));
    let usual = [
        ("rule", ""),
        ("listener", ""),
        ("upstream", "balance = \"first\""),
    ];
    // What is filled first stays.
    let all = own.iter().chain(&usual);
    all.fold(builder, |builder, (name, value)| builder.with(name, value))
}

/// A server of its own with this certificate, which answers `GET /N` with N bytes.
pub struct Server {
    front: TlsFront,
    backend: Backend,
}

impl Server {
    pub fn showing(leaf: &Leaf) -> Self {
        let backend = Backend::http(|request| {
            let size = request.target.trim_start_matches('/').parse().unwrap_or(0);
            Reply::pattern(size)
        });
        let front = TlsFront::showing(leaf).before(backend.address());
        Self { front, backend }
    }

    pub fn address(&self) -> Address {
        self.front.address()
    }
}

pub fn get(conn: &mut Conn, size: usize) {
    conn.send(format!("GET /{size} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    assert!(conn.response().body == pattern::bytes(size), "{size}");
}

fn count(gateway: &Gateway, metric: &str) -> f64 {
    gateway.metric(metric, &["route=\"passthrough:web\"", "upstream=\"app\""])
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    gateway.metric(
        "tidegate_tls_handshake_failures_total",
        &["listener=\"web\"", &reason],
    )
}

/// The access record of the connection that asked for this name.
pub fn record(gateway: &Gateway, name: &str) -> Value {
    eventually_some("its record", || {
        gateway
            .access_log()
            .into_iter()
            .find(|record| record["host"] == name)
    })
}

#[test]
fn the_endpoint_shows_its_own_certificate_and_serves() {
    let ca = Ca::default();
    let leaf = ca.leaf(&["a.test", "*.wild.test"]);
    let server = Server::showing(&leaf);
    let gateway = to(&[server.address()]).start();
    for client in [TlsClient::trusting(&ca), TlsClient::trusting(&ca).tls12()] {
        let client = client.alpn(&["http/1.1"]).build();
        for name in ["a.test", "b.wild.test"] {
            let mut conn = client.connect(gateway.web(), name);
            assert_eq!(conn.agreed().certificate, der(&leaf.cert));
            for size in [0, 1, 100_000, 3_000_000] {
                get(&mut conn, size);
            }
        }
    }
    let sessions = server.front.sessions();
    let asked: Vec<_> = sessions.iter().filter_map(|s| s.server_name.as_deref()).collect();
    assert_eq!(asked, ["a.test", "b.wild.test", "a.test", "b.wild.test"]);
    assert_eq!(
        sessions[0].alpn.as_deref(),
        Some("http/1.1"),
        "agreed on with the endpoint"
    );
    assert_eq!(server.backend.hits(), 16);
}

#[test]
fn a_connection_is_an_open_tunnel_and_one_record_at_its_end() {
    let ca = Ca::default();
    let server = Server::showing(&ca.leaf(&["a.test"]));
    let gateway = to(&[server.address()]).start();
    let mut conn = TlsClient::trusting(&ca).build().connect(gateway.web(), "a.test");
    get(&mut conn, 50_000);
    assert_eq!(count(&gateway, "tidegate_ws_open"), 1.0);
    assert_eq!(gateway.endpoint(&server.address())["open_websockets"], 1);
    assert_eq!(gateway.access_log(), [] as [Value; 0]);
    conn.close_notify();
    assert!(conn.try_read_some().is_err());
    drop(conn);
    let told = record(&gateway, "a.test");
    assert_eq!(
        (&told["status"], &told["method"], &told["target"], &told["tunnel"]),
        (&json!(200), &Value::Null, &Value::Null, &json!(true)),
        "{told}"
    );
    assert_eq!(told["scheme"], "tls");
    assert_eq!((&told["upstream"], &told["route"]), (&json!("app"), &Value::Null));
    assert_eq!((&told["ended"], &told["token"]), (&json!("done"), &Value::Null));
    assert_eq!(told["attempts"][0]["outcome"], "connected");
    assert!(told["bytes_sent"].as_u64().unwrap() > 50_000, "{told}");
    assert!(
        told["bytes_received"].as_u64().unwrap() > 200,
        "the ClientHello too"
    );
    assert_eq!(gateway.access_log().len(), 1);
    assert_eq!(count(&gateway, "tidegate_ws_open"), 0.0);
    assert_eq!(count(&gateway, "tidegate_ws_opened_total"), 1.0);
    assert_eq!(gateway.endpoint(&server.address())["open_websockets"], 0);
    let requests = gateway.metric("tidegate_listener_requests_total", &["listener=\"web\""]);
    assert_eq!(requests, 0.0, "nothing was requested of the gateway");
    assert_eq!(gateway.open_connections(), 0);
}

#[test]
fn a_hello_that_comes_byte_by_byte_arrives_as_it_was_sent() {
    let ca = Ca::default();
    let backend = Backend::script(|conn, _| {
        conn.send("welcome");
        while conn.try_read_some().is_ok() {}
    });
    let gateway = to(&[backend.address()]).start();
    let mut sent = hello(&ca);
    for cut in [sent.len(), sent.len() - 1] {
        let mut conn = Conn::connect(gateway.web());
        let (slowly, at_once) = sent.split_at(cut);
        conn.send_bytewise(slowly).send(at_once);
        assert_eq!(conn.read(7), b"welcome");
        conn.half_close();
        conn.wait_for_end();
        let expected = sent.clone();
        eventually("all is there", || backend.received().last() == Some(&expected));
        // What comes with the hello goes along.
        sent.extend(b"and early data");
    }
}

#[test]
fn who_cannot_be_reached_is_passed_over() {
    let ca = Ca::default();
    let dead = Backend::text("never");
    dead.down();
    let server = Server::showing(&ca.leaf(&["a.test"]));
    let gateway = to(&[dead.address(), server.address()]).start();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    get(&mut conn, 10);
    drop(conn);
    let told = record(&gateway, "a.test");
    let outcomes: Vec<_> = (0..2).map(|n| &told["attempts"][n]["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "connected"], "{told}");

    let nobody = to(&[dead.address()]).start();
    let error = client.try_connect(nobody.web(), "a.test").unwrap_err();
    assert!(error.contains("InternalError"), "{error}");
    let told = record(&nobody, "a.test");
    assert_eq!(
        (&told["status"], &told["token"], &told["tunnel"]),
        (&json!(502), &json!("connect_failed"), &json!(false)),
        "{told}"
    );
    let failed = ["route=\"passthrough:web\"", "token=\"connect_failed\""];
    assert_eq!(nobody.metric("tidegate_request_errors_total", &failed), 1.0);
    assert_eq!(count(&nobody, "tidegate_ws_opened_total"), 0.0);
}

/// A server that is a process of its own, and can be killed as one.
fn process(leaf: &Leaf) -> Gateway {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        tls = { certificates = [{ cert = "a.pem", key = "a.key" }] }
        [[routes]]
        respond = { status = 200, body = "@name@" }
        "#,
    )
    .with("name", "here")
    .file("a.pem", &leaf.chain)
    .file("a.key", &leaf.key)
    .start()
}

fn ask(conn: &mut Conn) -> String {
    conn.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    conn.response().text()
}

#[test]
fn a_killed_endpoint_ends_its_connections_and_the_next_goes_elsewhere() {
    let ca = Ca::default();
    let (one, two) = (ca.leaf(&["a.test"]), ca.leaf(&["a.test"]));
    let (mut first, second) = (process(&one), process(&two));
    let upstream = r#"
        balance = "first"
        health = { kind = "tcp", interval = "50ms", fast_interval = "20ms", fall = 2 }
    "#;
    let gateway = with(&[first.web(), second.web()], &[("upstream", upstream)]).start();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    assert_eq!(conn.agreed().certificate, der(&one.cert));
    assert_eq!(ask(&mut conn), "here");
    first.signal(Signal::KILL);
    first.wait();
    assert!(
        conn.try_read_some().is_err(),
        "cut, and never taken for a whole end"
    );
    let mut other = client.connect(gateway.web(), "a.test");
    assert_eq!(other.agreed().certificate, der(&two.cert));
    assert_eq!(ask(&mut other), "here");
    eventually("its probes fail", || {
        gateway.endpoint(&first.web())["state"] != gateway.endpoint(&second.web())["state"]
    });
    let attempts = gateway.metric("tidegate_retries_total", &[]);
    let third = client.connect(gateway.web(), "a.test");
    assert_eq!(third.agreed().certificate, der(&two.cert));
    assert_eq!(
        gateway.metric("tidegate_retries_total", &[]),
        attempts,
        "who is known to be down is not tried"
    );
}

#[test]
fn other_names_are_served_here_or_refused() {
    let ca = Ca::default();
    let (own, passed) = (ca.leaf(&["own.test", "a.test"]), ca.leaf(&["a.test"]));
    let server = Server::showing(&passed);
    let tls = "tls = { certificates = [{ cert = \"own.pem\", key = \"own.key\" }] }\n[[routes]]\nrespond = { status = 200, body = \"own\" }";
    let both = with(&[server.address()], &[("listener", tls)])
        .file("own.pem", &own.chain)
        .file("own.key", &own.key)
        .start();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(both.web(), "own.test");
    assert_eq!(conn.agreed().certificate, der(&own.cert));
    conn.send("GET / HTTP/1.1\r\nHost: own.test\r\n\r\n");
    assert_eq!(conn.response().text(), "own");
    let conn = client.connect(both.web(), "A.test");
    assert_eq!(
        conn.agreed().certificate,
        der(&passed.cert),
        "passing on comes first"
    );

    let alone = to(&[server.address()]).start();
    let sessions = server.front.sessions().len();
    for name in ["own.test", "wild.test", "x.a.test"] {
        let error = client.try_connect(alone.web(), name).unwrap_err();
        assert!(error.contains("UnrecognisedName"), "{error}");
    }
    let nameless = TlsClient::trusting(&ca).without_name().build();
    assert!(nameless.try_connect(alone.web(), "a.test").is_err());
    eventually("all counted", || refused(&alone, "unknown_name") == 4.0);
    alone.await_log("no `passthrough` is for this name");
    assert_eq!(server.front.sessions().len(), sessions);
    assert_eq!(alone.access_log(), [] as [Value; 0]);
    eventually("all are gone", || alone.open_connections() == 0);
}

#[test]
fn what_is_no_tls_reaches_nobody() {
    let backend = Backend::text("never");
    let gateway = to(&[backend.address()]).start();
    for garbage in [&b"\0\0\0\0\0\0"[..], b"SSH-2.0-OpenSSH\r\n", &[0xff; 5000]] {
        let mut conn = Conn::connect(gateway.web());
        let _refused = conn.try_send(garbage);
        conn.wait_for_end();
    }
    let mut malformed = Conn::connect(gateway.web());
    malformed.send([22, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    malformed.wait_for_end();
    let mut silent = Conn::connect(gateway.web());
    assert_eq!(silent.try_read_some().unwrap_err(), Broken::Closed);
    gateway.connect().get("/").expect(400, Some("bad_request"));
    for (reason, times) in [
        ("not_tls", 3.0),
        ("protocol", 1.0),
        ("timeout", 1.0),
        ("plain_http", 1.0),
    ] {
        eventually(reason, || refused(&gateway, reason) == times);
    }
    assert_eq!(backend.connections(), 0);
    eventually("all are gone", || gateway.open_connections() == 0);
}

#[test]
fn the_endpoint_is_told_who_connects() {
    let ca = Ca::default();
    let backend = Backend::script(|conn, _| while conn.try_read_some().is_ok() {});
    let v1 = ("upstream", "proxy_protocol = { send = \"v1\" }");
    let gateway = with(&[backend.address()], &[v1]).start();
    let hello = hello(&ca);
    let mut conn = Conn::connect(gateway.web());
    conn.send(&hello);
    let (from, to) = (conn.local(), gateway.web());
    let word = |address: &str| address.replace(':', " ");
    let (from, to) = (word(&from), word(&to.to_string()));
    let (from, to): (Vec<_>, Vec<_>) = (from.split(' ').collect(), to.split(' ').collect());
    let header = format!("PROXY TCP4 {} {} {} {}\r\n", from[0], to[0], from[1], to[1]);
    let expected = [header.as_bytes(), &hello].concat();
    eventually("header and hello", || backend.received() == [expected.clone()]);
}

#[test]
fn silence_and_age_end_a_connection() {
    let ca = Ca::default();
    let server = Server::showing(&ca.leaf(&["a.test"]));
    let client = TlsClient::trusting(&ca).build();
    for (key, rule) in [
        ("idle", ", idle = \"400ms\""),
        ("max_age", ", idle = \"0s\", max_age = \"700ms\""),
    ] {
        let gateway = with(&[server.address()], &[("rule", rule)]).start();
        let mut conn = client.connect(gateway.web(), "a.test");
        get(&mut conn, 10);
        assert!(conn.try_read_some().is_err());
        let told = record(&gateway, "a.test");
        assert_eq!(told["timeout"], format!("listeners.passthrough.{key}"), "{told}");
        assert_eq!(told["ended"], "gateway");
    }
}

#[test]
fn a_connection_outlives_its_rule_and_drains_until_the_deadline() {
    let ca = Ca::default();
    let server = Server::showing(&ca.leaf(&["a.test", "b.wild.test"]));
    let timeout = "runtime = { workers = 1, drain_timeout = \"2s\" }";
    let config = CONFIG.replace("runtime = { workers = 1 }", timeout);
    let mut gateway = gateway(&config)
        .with("rule", "")
        .with("listener", "")
        .with("upstream", "")
        .with("endpoints", format!("\"{}\"", server.address()))
        .start();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    get(&mut conn, 10);
    gateway.reload(&config.replace("\"a.test\"", "\"other.test\""));
    assert!(
        client.try_connect(gateway.web(), "a.test").is_err(),
        "it is known no more"
    );
    get(&mut conn, 70_000);
    gateway.signal(Signal::TERM);
    holds_for(Duration::from_millis(300), "it stays", || {
        get(&mut conn, 10);
        true
    });
    assert!(conn.try_read_some().is_err(), "cut at the deadline");
    gateway.wait();
    let told = record(&gateway, "a.test");
    assert_eq!(told["token"], "draining", "{told}");
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.toml");
    let config = r#"
        [listeners.web]
        address = "127.0.0.1:0"
        passthrough = [
          { sni = "a.test", upstream = "db" },
          { sni = "A.test", upstream = "db" },
          { sni = "~^b", upstream = "db" },
          { sni = "c.test", upstream = "bd" },
          { sni = "d.test", upstream = "tls" },
        ]
        [upstreams.db]
        endpoints = ["127.0.0.1:3000"]
        [upstreams.tls]
        endpoints = ["127.0.0.1:3000"]
        tls = { server_name = "d.test" }
    "#;
    std::fs::write(&path, config).unwrap();
    let check = || run(&binary(), &["check", "-c", &path.display().to_string()]);
    let ran = check().expect(2);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    for words in [
        "listeners.web.passthrough[1].sni: this name is taken by listeners.web.passthrough[0]",
        "listeners.web.passthrough[2].sni: found a regex",
        "listeners.web.passthrough[3].upstream: found upstream `bd`",
        "listeners.web.passthrough[4].upstream: upstreams.tls has `tls`",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let lines: Vec<&str> = config.lines().collect();
    let good = [&lines[..5], &lines[9..12]].concat().join("\n");
    std::fs::write(&path, good).unwrap();
    let ran = check().expect(0);
    assert!(ran.stdout.contains("0 warnings"), "{}{}", ran.stdout, ran.stderr);
}
