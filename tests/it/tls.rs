//! TLS on listeners: who is answered by which certificate, what is refused, and that requests come and go.

use crate::gateway;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use testkit::tls::{Kind, der};
use testkit::{Backend, Broken, Builder, Ca, Conn, Gateway, Leaf, Reply, TlsClient, eventually, pattern};

/// One TLS listener, `web`, with these lines in its `tls` table.
const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
@listener@
[listeners.web.tls]
@tls@

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = [{ address = "@app@" }]

[log]
access = { path = "access.log", format = "json" }
"#;

fn listener(backend: &Backend, tls: &str) -> Builder {
    gateway(CONFIG)
        .with("listener", "")
        .with("tls", tls)
        .with("app", backend.address())
}

trait WithLeaf {
    fn leaf(self, name: &str, leaf: &Leaf) -> Self;
}

impl WithLeaf for Builder {
    fn leaf(self, name: &str, leaf: &Leaf) -> Self {
        self.file(&format!("{name}.pem"), &leaf.chain)
            .file(&format!("{name}.key"), &leaf.key)
    }
}

const ONE: &str = r#"certificates = [{ cert = "a.pem", key = "a.key" }]"#;
const FIRST: &str = "certificates = [{ cert = \"a.pem\", key = \"a.key\" }]\ndefault = \"first\"";

fn one(backend: &Backend, ca: &Ca) -> Gateway {
    listener(backend, ONE).leaf("a", &ca.leaf(&["a.test"])).start()
}

fn failures(gateway: &Gateway, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    gateway.metric(
        "tidegate_tls_handshake_failures_total",
        &["listener=\"web\"", &reason],
    )
}

fn ask(conn: &mut Conn, host: &str) -> testkit::Response {
    conn.send(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    conn.response()
}

#[test]
fn requests_come_and_go_over_tls() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let gateway = one(&backend, &ca);
    let client = TlsClient::trusting(&ca).alpn(&["http/1.1"]).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    let agreed = conn.agreed();
    assert_eq!(agreed.version, "1.3");
    assert_eq!(agreed.alpn.as_deref(), Some("http/1.1"));
    assert_eq!(
        agreed.group, "X25519MLKEM768",
        "safe from later quantum computers"
    );
    for _ in 0..3 {
        assert_eq!(ask(&mut conn, "a.test").text(), "hi");
    }
    let seen = backend.last_request();
    assert_eq!(seen.header("X-Forwarded-Proto"), Some("https"));
    let record = gateway.access_record("/x");
    assert_eq!(record["scheme"], "https");
    let count = ["listener=\"web\"", "version=\"1.3\"", "resumed=\"no\""];
    assert_eq!(gateway.metric("tidegate_tls_handshakes_total", &count), 1.0);
}

#[test]
fn http2_is_agreed_on_by_alpn() {
    if !curl_speaks_http2() {
        return;
    }
    let ca = Ca::default();
    let backend = Backend::http(|r| {
        Reply::ok(format!(
            "{} {}",
            r.method,
            r.header("X-Forwarded-Proto").unwrap_or("-")
        ))
    });
    let gateway = listener(&backend, ONE)
        .leaf("a", &ca.leaf(&["a.test"]))
        .file("ca.pem", ca.pem())
        .start();
    let port = gateway.web().port();
    let url = |path: &str| format!("https://a.test:{port}{path}");
    let curl = std::process::Command::new("curl")
        .args(["--http2", "-sS", "--max-time", "10", "--cacert"])
        .arg(gateway.path("ca.pem"))
        .args(["--resolve", &format!("a.test:{port}:127.0.0.1")])
        .args([
            "-w",
            " %{http_version}\n",
            "--data",
            "body",
            &url("/one"),
            &url("/two"),
        ])
        .output()
        .expect("curl");
    let said = String::from_utf8_lossy(&curl.stdout);
    assert_eq!(
        said,
        "POST https 2\nPOST https 2\n",
        "{}",
        String::from_utf8_lossy(&curl.stderr)
    );
    let record = gateway.access_record("/two");
    assert_eq!(record["version"], "HTTP/2.0");
    assert_eq!(record["tls"]["alpn"], "h2");
}

/// Not every build of curl does, and not every machine has one.
fn curl_speaks_http2() -> bool {
    let version = std::process::Command::new("curl").arg("--version").output();
    let speaks = version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("HTTP2"));
    if !speaks {
        eprintln!("skipped: no curl that speaks HTTP/2");
    }
    speaks
}

#[test]
fn bodies_of_every_size_pass_whole_both_ways() {
    let ca = Ca::default();
    let backend = Backend::http(|r| match r.target.strip_prefix("/down/") {
        Some(n) => Reply::pattern(n.parse().unwrap()),
        None => Reply::ok(r.body.len().to_string()),
    });
    let gateway = listener(&backend, ONE)
        .with("listener", "")
        .leaf("a", &ca.leaf(&["a.test"]))
        .start();
    for client in [TlsClient::trusting(&ca), TlsClient::trusting(&ca).tls12()] {
        let mut conn = client.build().connect(gateway.web(), "a.test");
        for size in [0, 1, 1000, 16_383, 16_384, 16_385, 70_000, 3_000_000] {
            conn.send(format!("GET /down/{size} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            let response = conn.response();
            assert_eq!(response.body.len(), size);
            assert!(response.body == pattern::bytes(size), "{size}");
            let body = vec![b'x'; size];
            conn.send(format!(
                "POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n"
            ));
            conn.send(&body);
            assert_eq!(conn.response().text(), size.to_string());
        }
    }
}

#[test]
fn an_upload_that_pauses_is_passed_on_as_far_as_it_came() {
    const WHOLE: usize = 4 << 20;
    let ca = Ca::default();
    let arrived = Arc::new(AtomicUsize::new(0));
    let counted = arrived.clone();
    let backend = Backend::script(move |conn, _| {
        while let Ok(head) = conn.try_request_head() {
            let length = head
                .header("content-length")
                .map_or(0, |length| length.parse().unwrap());
            counted.store(0, SeqCst);
            while counted.load(SeqCst) < length {
                let Ok(some) = conn.try_read_some() else { return };
                counted.fetch_add(some.len(), SeqCst);
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
    let gateway = one(&backend, &ca);
    let mut conn = TlsClient::trusting(&ca).build().connect(gateway.web(), "a.test");
    // The second upload finds the connection as the first one left it.
    for _ in 0..2 {
        conn.send(format!(
            "POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {WHOLE}\r\n\r\n"
        ));
        let mut sent = 0;
        for piece in [1 << 20, 1, 70_000, 1 << 20, 1000] {
            conn.send(vec![b'x'; piece]);
            sent += piece;
            eventually("the endpoint has all that was sent", || {
                arrived.load(SeqCst) == sent
            });
        }
        conn.send(vec![b'x'; WHOLE - sent]);
        assert_eq!(conn.response().text(), "hi");
        assert_eq!(ask(&mut conn, "a.test").text(), "hi");
    }
}

#[test]
fn a_client_that_reads_late_gets_everything_and_is_not_buffered_for() {
    let ca = Ca::default();
    let backend = Backend::http(|_| Reply::pattern(32 << 20));
    let gateway = one(&backend, &ca);
    let before = gateway.rss_kb();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    conn.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let unsent = || gateway.metric("tidegate_unsent_bytes", &[]);
    eventually("the socket takes no more", || unsent() > 0.0);
    assert!(unsent() <= f64::from(400 << 10), "{}", unsent());
    testkit::pace(std::time::Duration::from_millis(300));
    assert!(
        gateway.rss_kb() < before + (12 << 10),
        "{} -> {}",
        before,
        gateway.rss_kb()
    );
    let response = conn.response();
    assert_eq!(response.body.len(), 32 << 20);
    assert!(response.body == pattern::bytes(32 << 20));
    eventually("all of it is gone", || unsent() == 0.0);
}

#[test]
fn the_name_decides_on_the_certificate() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let (exact, wild) = (
        ca.leaf(&["a.test"]),
        ca.leaf(&["*.wild.test", "a.test", "b.example"]),
    );
    let gateway = listener(
        &backend,
        r#"certificates = [{ cert = "a.pem", key = "a.key" }, { cert = "wild.pem", key = "wild.key" }]"#,
    )
    .leaf("a", &exact)
    .leaf("wild", &wild)
    .start();
    let client = TlsClient::trusting(&ca).build();
    let served = |name: &str| client.connect(gateway.web(), name).agreed().certificate;
    assert_eq!(served("a.test"), der(&exact.cert), "the first that has the name");
    assert_eq!(served("A.TEST"), der(&exact.cert));
    assert_eq!(served("c.wild.test"), der(&wild.cert));
    assert_eq!(served("b.example"), der(&wild.cert));
    assert!(
        client.try_connect(gateway.web(), "x.y.wild.test").is_err(),
        "a wildcard is one label"
    );
}

#[test]
fn ecdsa_goes_to_all_who_can_and_rsa_to_the_others() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let rsa = ca.issue(Kind {
        names: &["a.test"],
        rsa: true,
        ..Kind::default()
    });
    let ecdsa = ca.leaf(&["a.test"]);
    let gateway = listener(
        &backend,
        r#"certificates = [{ cert = "rsa.pem", key = "rsa.key" }, { cert = "ec.pem", key = "ec.key" }]"#,
    )
    .leaf("rsa", &rsa)
    .leaf("ec", &ecdsa)
    .start();
    let served = |client: TlsClient| client.try_connect(gateway.web(), "a.test");
    let modern = served(TlsClient::trusting(&ca).build()).unwrap();
    assert_eq!(modern.agreed().certificate, der(&ecdsa.cert));
    for old in [
        TlsClient::trusting(&ca).rsa_only(),
        TlsClient::trusting(&ca).rsa_only().tls12(),
    ] {
        let old = served(old.build()).unwrap();
        assert_eq!(old.agreed().certificate, der(&rsa.cert));
    }
}

#[test]
fn an_unknown_name_is_refused_or_served_by_the_first() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let client = TlsClient::trusting(&ca).build();
    let nameless = TlsClient::trusting(&ca).without_name().build();
    let rejecting = one(&backend, &ca);
    let refused = client.try_connect(rejecting.web(), "other.test").unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    assert!(nameless.try_connect(rejecting.web(), "a.test").is_err());
    eventually("both counted", || failures(&rejecting, "unknown_name") == 2.0);
    // Of two that come together, whichever is first.
    rejecting.await_log("no certificate is for this ");

    let serving = listener(&backend, FIRST).leaf("a", &ca.leaf(&["a.test"])).start();
    let mut conn = nameless.connect(serving.web(), "a.test");
    assert_eq!(ask(&mut conn, "a.test").status, 200);
    assert_eq!(ask(&mut conn, "10.0.0.1").status, 200, "nobody else is for it");
}

#[test]
fn an_address_in_a_certificate_serves_who_asks_for_no_name() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let gateway = listener(&backend, ONE)
        .leaf("a", &ca.leaf(&["a.test", "127.0.0.1"]))
        .start();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "127.0.0.1");
    assert_eq!(ask(&mut conn, "127.0.0.1").text(), "hi");
}

#[test]
fn a_host_of_another_certificate_is_misdirected() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let gateway = listener(
        &backend,
        r#"certificates = [{ cert = "a.pem", key = "a.key" }, { cert = "b.pem", key = "b.key" }]"#,
    )
    .leaf("a", &ca.leaf(&["a.test", "also.test"]))
    .leaf("b", &ca.leaf(&["b.test"]))
    .start();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    ask(&mut conn, "b.test").expect(421, Some("misdirected"));
    ask(&mut conn, "unknown.test").expect(421, Some("misdirected"));
    assert_eq!(
        ask(&mut conn, "ALSO.test:443").text(),
        "hi",
        "and the connection goes on"
    );
    conn.send("GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n");
    conn.response().expect(421, Some("misdirected"));
    assert_eq!(backend.hits(), 1);
}

#[test]
fn policies_speak_their_versions() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let old = TlsClient::trusting(&ca).tls12().build();
    let gateway = one(&backend, &ca);
    assert_eq!(old.connect(gateway.web(), "a.test").agreed().version, "1.2");
    let modern = listener(&backend, &format!("{ONE}\npolicy = \"modern\""))
        .leaf("a", &ca.leaf(&["a.test"]))
        .start();
    let refused = old.try_connect(modern.web(), "a.test").unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    eventually("counted", || failures(&modern, "incompatible") == 1.0);
}

#[test]
fn a_protocol_that_nobody_shares_is_refused() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let gateway = one(&backend, &ca);
    let client = TlsClient::trusting(&ca).alpn(&["spdy/3"]).build();
    let refused = client.try_connect(gateway.web(), "a.test").unwrap_err();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    eventually("counted", || failures(&gateway, "alpn") == 1.0);
}

#[test]
fn the_end_of_a_connection_is_said_in_tls() {
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let gateway = one(&backend, &ca);
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    conn.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert_eq!(conn.response().text(), "hi");
    assert_eq!(conn.try_read_some().unwrap_err(), Broken::Closed);
    // And ours is understood.
    let mut conn = client.connect(gateway.web(), "a.test");
    assert_eq!(ask(&mut conn, "a.test").text(), "hi");
    conn.close_notify();
    assert_eq!(conn.try_read_some().unwrap_err(), Broken::Closed);
    eventually("all are gone", || gateway.open_connections() == 0);
}

#[test]
fn a_cut_answer_is_never_taken_for_a_whole_one() {
    let ca = Ca::default();
    let backend =
        Backend::http(|_| Reply::raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf").then_reset());
    let gateway = one(&backend, &ca);
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    conn.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let (_, end) = conn.read_to_end();
    assert_ne!(end, Broken::Closed);
}

#[test]
fn websockets_run_over_tls() {
    let ca = Ca::default();
    let backend = Backend::script(|conn, visit| {
        let request = conn.request();
        visit.hit(request);
        conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
        while let Ok(bytes) = conn.try_read_some() {
            conn.send(bytes);
        }
    });
    let gateway = gateway(&CONFIG.replace(
        "upstream = \"app\"\n",
        "upstream = \"app\"\nupgrades = [\"echo\"]\n",
    ))
    .with("listener", "")
    .with("tls", ONE)
    .with("app", backend.address())
    .leaf("a", &ca.leaf(&["a.test"]))
    .start();
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.web(), "a.test");
    conn.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly");
    assert_eq!(conn.response().status, 101);
    assert_eq!(conn.read(5), b"early");
    let bytes = pattern::bytes(300_000);
    conn.send(&bytes[..100]);
    assert_eq!(conn.read(100), &bytes[..100]);
    conn.send(&bytes);
    assert!(conn.read(bytes.len()) == bytes);
}

#[test]
fn an_idle_connection_costs_little() {
    const CONNECTIONS: usize = 800;
    let ca = Ca::default();
    let backend = Backend::text("hi");
    let gateway = one(&backend, &ca);
    let client = TlsClient::trusting(&ca).build();
    let open = |count: usize| -> Vec<Conn> {
        let each = |_| {
            let mut conn = client.connect(gateway.web(), "a.test");
            assert_eq!(ask(&mut conn, "a.test").status, 200);
            conn
        };
        (0..count).map(each).collect()
    };
    // Once, so that everything that is shared is there.
    drop(open(20));
    eventually("all are gone", || gateway.open_connections() == 0);
    let before = gateway.rss_kb();
    let held = open(CONNECTIONS);
    let each = gateway.rss_kb().saturating_sub(before) * 1024 / CONNECTIONS as u64;
    eprintln!("{each} bytes per idle connection");
    assert!(each < 20_000, "{each} bytes each");
    drop(held);
}
