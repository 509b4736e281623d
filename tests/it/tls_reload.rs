//! What outlives a reload and what it changes: sessions, certificates, files that are replaced under way.

use crate::gateway;
use testkit::tls::{Kind, der};
use testkit::{Backend, Builder, Ca, Conn, Gateway, Leaf, TlsClient, eventually};

const CONFIG: &str = r#"
[runtime]
workers = 2
[listeners.web]
address = "127.0.0.1:0"
[listeners.web.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
[listeners.other]
address = "127.0.0.1:0"
[listeners.other.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = [{ address = "@app@" }]
"#;

fn start(backend: &Backend, leaf: &Leaf) -> Gateway {
    builder(backend, leaf).start()
}

fn builder(backend: &Backend, leaf: &Leaf) -> Builder {
    gateway(CONFIG)
        .with("app", backend.address())
        .file("a.pem", &leaf.chain)
        .file("a.key", &leaf.key)
}

fn ask(conn: &mut Conn) -> u16 {
    conn.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    conn.response().status
}

/// Makes a connection, asks once, so that a ticket is there, and says whether it was resumed.
fn visit(client: &TlsClient, address: testkit::Address) -> bool {
    let mut conn = client.connect(address, "a.test");
    assert_eq!(ask(&mut conn), 200);
    conn.agreed().resumed
}

#[test]
fn a_session_is_resumed_by_any_worker_and_after_a_reload() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let gateway = start(&backend, &ca.leaf(&["a.test"]));
    for client in [
        TlsClient::trusting(&ca).build(),
        TlsClient::trusting(&ca).tls12().build(),
    ] {
        assert!(!visit(&client, gateway.web()));
        for _ in 0..10 {
            assert!(visit(&client, gateway.web()), "at whichever worker");
        }
        let before = gateway.generation();
        gateway.write_config(&format!("{CONFIG}# {before}\n"));
        eventually("reloaded", || gateway.generation() > before);
        assert!(visit(&client, gateway.web()), "after a reload");
    }
    let resumed = gateway.metric(
        "tidegate_tls_handshakes_total",
        &["listener=\"web\"", "version=\"1.3\"", "resumed=\"yes\""],
    );
    assert_eq!(resumed, 11.0);
}

#[test]
fn a_session_of_one_listener_is_none_of_another() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let gateway = start(&backend, &ca.leaf(&["a.test"]));
    let client = TlsClient::trusting(&ca).build();
    assert!(!visit(&client, gateway.web()));
    assert!(!visit(&client, gateway.addr("other")));
}

#[test]
fn without_tickets_nothing_is_resumed() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let leaf = ca.leaf(&["a.test"]);
    let gateway = gateway(&CONFIG.replace(
        "key = \"a.key\" }]",
        "key = \"a.key\" }]\nsession_tickets = false",
    ))
    .with("app", backend.address())
    .file("a.pem", &leaf.chain)
    .file("a.key", &leaf.key)
    .start();
    let client = TlsClient::trusting(&ca).build();
    assert!(!visit(&client, gateway.web()));
    assert!(!visit(&client, gateway.web()));
}

#[test]
fn a_new_pair_of_files_is_served_without_a_break() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let (old, new) = (ca.leaf(&["a.test"]), ca.leaf(&["a.test"]));
    let gateway = start(&backend, &old);
    let client = || TlsClient::trusting(&ca).build();
    let mut open = client().connect(gateway.web(), "a.test");
    assert_eq!(open.agreed().certificate, der(&old.cert));
    assert_eq!(ask(&mut open), 200);
    // One after the other, as tools do it: in between the pair does not fit, and the old one serves.
    std::fs::write(gateway.path("a.pem"), &new.chain).unwrap();
    eventually("the half of it is refused", || gateway.reloads("rejected") >= 1);
    gateway.await_log("does not belong to the certificate");
    assert_eq!(
        client().connect(gateway.web(), "a.test").agreed().certificate,
        der(&old.cert)
    );
    std::fs::write(gateway.path("a.key"), &new.key).unwrap();
    eventually("the new one is served", || {
        client().connect(gateway.web(), "a.test").agreed().certificate == der(&new.cert)
    });
    assert_eq!(ask(&mut open), 200, "who was connected stays");
}

#[test]
fn check_tells_everything_about_certificates_with_its_place() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let leaf = ca.issue(Kind {
        names: &["a.test"],
        until: 2021,
        ..Kind::default()
    });
    let refused = builder(&backend, &leaf)
        .file("a.key", &ca.leaf(&["a.test"]).key)
        .try_start()
        .unwrap_err();
    assert_eq!(refused.code, Some(2));
    for words in [
        "listeners.web.tls.certificates[0].key",
        "listeners.other.tls.certificates[0].key",
        "tidegate.toml:7:",
        "does not belong to the certificate",
    ] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    let gateway = start(&backend, &leaf);
    gateway.await_log("expired on 2021-01-01");
}

#[test]
fn certificates_alone_are_read_anew_on_request() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let (old, new) = (ca.leaf(&["a.test"]), ca.leaf(&["a.test"]));
    // A configuration that no file watch follows, so that nobody but us asks.
    let dir = tempfile::tempdir().unwrap();
    let put = |leaf: &Leaf| {
        std::fs::write(dir.path().join("a.pem"), &leaf.chain).unwrap();
        std::fs::write(dir.path().join("a.key"), &leaf.key).unwrap();
    };
    put(&old);
    let at = |name: &str| dir.path().join(name).display().to_string();
    let gateway = gateway(
        &(CONFIG
            .replace("\"a.pem\"", "\"@cert@\"")
            .replace("\"a.key\"", "\"@key@\"")
            + "\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{ name = \"ops\", role = \"admin\", token = \"env:OPS\" }]\n"),
    )
    .env("OPS", "a-token-of-some-length-0123456789")
    .token("a-token-of-some-length-0123456789")
    .with("app", backend.address())
    .with("cert", at("a.pem"))
    .with("key", at("a.key"))
    .start();
    let served = || {
        let client = TlsClient::trusting(&ca).build();
        client.connect(gateway.web(), "a.test").agreed().certificate
    };
    let unchanged = gateway.admin_call("POST", "/api/v1/tls/reload", "", "");
    assert_eq!(unchanged.json()["outcome"], "unchanged");
    put(&new);
    let ran = gateway.cli(&["reload", "--tls", "--dry-run"]).expect(0);
    assert!(!ran.stdout.is_empty());
    let answer = gateway.admin_call("POST", "/api/v1/tls/reload", "", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually("the new one is served", || served() == der(&new.cert));
    // Another key: refused, and the one that works stays.
    std::fs::write(dir.path().join("a.key"), &old.key).unwrap();
    let refused = gateway.admin_call("POST", "/api/v1/tls/reload", "", "");
    assert_eq!(refused.status, 422);
    let told = refused.text();
    assert!(told.contains("does not belong to the certificate"), "{told}");
    assert!(told.contains("listeners.web.tls.certificates[0].key"), "{told}");
    assert_eq!(served(), der(&new.cert));
    let events = gateway.admin_get("/api/v1/events?limit=100").text();
    assert!(events.contains("tls.rejected"), "{events}");
    assert_eq!(gateway.reloads("rejected"), 1);
    assert_eq!(
        gateway.metric("tidegate_tls_certificates_refused_total", &[]),
        2.0,
        "of both listeners"
    );
    gateway.await_log("event=\"tls.rejected\"");
    let log = gateway.log();
    for listener in ["web", "other"] {
        let key = format!("listeners.{listener}.tls.certificates[0].key: the key");
        assert_eq!(log.matches(&key).count(), 1, "each is told once: {log}");
    }
}

#[test]
fn the_end_of_a_certificate_is_told_before_it_comes() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let leaf = ca.issue(Kind {
        names: &["a.test"],
        until: 2021,
        ..Kind::default()
    });
    let gateway = start(&backend, &leaf);
    eventually("the event is there", || {
        let events = gateway.admin_get("/api/v1/events?limit=100").text();
        events.contains("certificate.expired")
    });
    let labels = ["listener=\"web\"", "a.pem\""];
    let end = gateway.metric("tidegate_tls_certificate_expiry_timestamp_seconds", &labels);
    assert_eq!(end, 1_609_459_200.0);
}
