//! TLS to endpoints: who is believed to be one, what is shown to it, and what connections have in common.

use crate::gateway;
use testkit::tls::{Kind, der};
use testkit::{Address, Backend, Builder, Ca, Conn, Leaf, Reply, TlsFront, eventually, pattern, ws};

/// One upstream at this address, with these keys of `tls` and others.
pub fn towards(address: &Address, tls: &str, more: &str) -> Builder {
    gateway(
        r#"
        runtime = { workers = 1 }
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        timeouts = { connect = "@connect@" }
        [upstreams.app]
        endpoints = ["@app@"]
        tls = { @tls@ }
        @more@
        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("connect", "5s")
    .with("app", address)
    .with("tls", tls)
    .with("more", more)
}

/// What makes certificates of this authority good.
pub const CA: &str = r#"ca = "ca.pem""#;

#[test]
fn an_endpoint_proves_that_it_has_its_address() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"])).before(backend.address());
    let gateway = towards(&front.address(), CA, "").file("ca.pem", ca.pem()).start();
    for _ in 0..3 {
        assert_eq!(gateway.get("/").text(), "hi");
    }
    let sessions = front.sessions();
    assert_eq!(sessions.len(), 1, "one connection serves them all");
    assert_eq!(sessions[0].alpn.as_deref(), Some("http/1.1"));
    // An address is no server name (RFC 6066 section 3).
    assert_eq!(
        (&sessions[0].server_name, &sessions[0].certificate),
        (&None, &None)
    );
    let told = &gateway.stats()["upstreams"][0];
    assert_eq!(told["tls"]["verified"], true);
    assert_eq!(
        told["endpoints"][0]["tls"],
        serde_json::json!({ "full": 1, "resumed": 0, "failed": {} })
    );
    assert_eq!(gateway.metric("tidegate_upstream_tls_unverified", &[]), 0.0);
    assert_eq!(
        gateway.access_record("/")["scheme"],
        "http",
        "that is the client's side"
    );
}

#[test]
fn the_name_is_that_of_the_endpoint_or_the_one_configured() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let front = TlsFront::showing(&ca.leaf(&["localhost", "api.internal"])).before(backend.address());
    let by_name = Address::parse(&front.address().to_string());
    let port = by_name.port();
    let ask = |tls: &str, endpoint: &str| {
        let gateway = gateway(
            r#"
            [listeners.web]
            address = "127.0.0.1:0"
            [[routes]]
            upstream = "app"
            [upstreams.app]
            endpoints = ["@app@"]
            tls = { @tls@ }
            "#,
        )
        .with("app", endpoint)
        .with("tls", tls)
        .file("ca.pem", ca.pem())
        .start();
        let status = gateway.get("/").status;
        (
            status,
            front
                .sessions()
                .last()
                .and_then(|session| session.server_name.clone()),
        )
    };
    let (name, address) = (format!("localhost:{port}"), format!("127.0.0.1:{port}"));
    assert_eq!(ask(CA, &name), (200, Some("localhost".to_owned())));
    let named = format!(r#"{CA}, server_name = "api.internal""#);
    assert_eq!(ask(&named, &name), (200, Some("api.internal".to_owned())));
    assert_eq!(ask(&named, &address), (200, Some("api.internal".to_owned())));
}

#[test]
fn a_certificate_that_is_trusted_itself_is_good_for_its_name() {
    let backend = Backend::text("hi");
    for is_ca in [false, true] {
        let leaf = Leaf::self_signed(&["api.internal"], is_ca);
        let front = TlsFront::showing(&leaf).before(backend.address());
        let ask = |name: &str| {
            let tls = format!(r#"{CA}, server_name = "{name}""#);
            let gateway = towards(&front.address(), &tls, "")
                .file("ca.pem", &leaf.cert)
                .start();
            gateway.get("/")
        };
        assert_eq!(ask("api.internal").status, 200, "{is_ca}");
        ask("other.internal").expect(502, Some("tls_failed"));
    }
}

#[test]
fn the_gateway_shows_its_certificate_where_it_has_one() {
    let (ca, clients, backend) = (Ca::default(), Ca::new("clients"), Backend::text("hi"));
    let own = clients.issue(Kind {
        common_name: "gateway",
        ..Kind::default()
    });
    for front in [
        TlsFront::showing(&ca.leaf(&["127.0.0.1"])).wanting(&clients),
        TlsFront::showing(&ca.leaf(&["127.0.0.1"]))
            .wanting(&clients)
            .tls12(),
    ] {
        let front = front.before(backend.address());
        let tls = format!(r#"{CA}, cert = "own.pem", key = "own.key""#);
        let gateway = towards(&front.address(), &tls, "")
            .file("ca.pem", ca.pem())
            .file("own.pem", &own.chain)
            .file("own.key", &own.key)
            .start();
        assert_eq!(gateway.get("/").status, 200);
        assert_eq!(front.sessions()[0].certificate, Some(der(&own.cert)));
    }
}

#[test]
fn sessions_are_resumed_and_not_over_a_change_of_whom_to_trust() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    for front in [
        TlsFront::showing(&ca.leaf(&["127.0.0.1"])),
        TlsFront::showing(&ca.leaf(&["127.0.0.1"])).tls12(),
    ] {
        let front = front.before(backend.address());
        let gateway = towards(&front.address(), CA, "pool = { idle_per_worker = 0 }")
            .file("ca.pem", ca.pem())
            .file("both.pem", &format!("{}{}", ca.pem(), Ca::new("other").pem()))
            .start();
        let resumed = || front.sessions().last().is_some_and(|session| session.resumed);
        assert_eq!((gateway.get("/").status, resumed()), (200, false));
        assert_eq!((gateway.get("/").status, resumed()), (200, true));
        let kinds = |kind: &str| {
            gateway.metric(
                "tidegate_upstream_tls_handshakes_total",
                &[&format!("kind=\"{kind}\"")],
            )
        };
        assert_eq!((kinds("full"), kinds("resumed")), (1.0, 1.0));
        let config = gateway.read("tidegate.toml");
        gateway.reload(&format!("{config}\n# nothing that matters here\n"));
        assert_eq!((gateway.get("/").status, resumed()), (200, true));
        gateway.reload(&config.replace("ca.pem", "both.pem"));
        assert_eq!((gateway.get("/").status, resumed()), (200, false));
    }
}

#[test]
fn a_pooled_connection_outlives_a_reload_unless_its_identity_changes() {
    let (ca, other, backend) = (Ca::default(), Ca::new("other"), Backend::text("hi"));
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1", "api.internal"])).before(backend.address());
    let gateway = towards(&front.address(), CA, "")
        .file("ca.pem", ca.pem())
        .file("other.pem", other.pem())
        .start();
    let mut conn = gateway.connect();
    let mut ask = || (conn.get("/").status, front.sessions().len());
    assert_eq!(ask(), (200, 1));
    let config = gateway.read("tidegate.toml");
    gateway.reload(&format!("{config}\n# nothing that matters here\n"));
    assert_eq!(ask(), (200, 1));
    gateway.reload(&config.replace(CA, &format!(r#"{CA}, server_name = "api.internal""#)));
    assert_eq!(ask(), (200, 2));
    gateway.reload(&config.replace("ca.pem", "other.pem"));
    assert_eq!(
        ask(),
        (502, 2),
        "who is not trusted any more gets nothing on an old connection"
    );
    gateway.reload(&config.replace(CA, "verify = false"));
    assert_eq!(ask(), (200, 3));
    gateway.reload(&config);
    assert_eq!(
        ask(),
        (200, 4),
        "what was not verified is not used for who wants it verified"
    );
}

#[test]
fn files_that_change_are_another_identity() {
    let (ca, other, backend) = (Ca::default(), Ca::new("other"), Backend::text("hi"));
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"])).before(backend.address());
    let gateway = towards(&front.address(), CA, "")
        .file("ca.pem", other.pem())
        .start();
    gateway.get("/").expect(502, Some("tls_failed"));
    std::fs::write(gateway.path("ca.pem"), ca.pem()).unwrap();
    eventually("the new authority is believed", || gateway.get("/").status == 200);
}

#[test]
fn without_verification_anybody_is_believed_and_everybody_hears_of_it() {
    let backend = Backend::text("hi");
    let front = TlsFront::showing(&Leaf::self_signed(&["elsewhere.test"], false)).before(backend.address());
    let gateway = towards(&front.address(), "verify = false", "").start();
    assert_eq!(gateway.get("/").text(), "hi");
    gateway.await_log("certificates are not looked at");
    gateway.await_log("upstream.unverified");
    assert_eq!(gateway.metric("tidegate_upstream_tls_unverified", &[]), 1.0);
    assert_eq!(gateway.stats()["upstreams"][0]["tls"]["verified"], false);
    let events = gateway.admin_get("/api/v1/events").text();
    assert!(events.contains("upstream.unverified"), "{events}");
    let ran = gateway.cli(&["check", "-c", "tidegate.toml"]);
    assert!(
        ran.stdout.contains("verify") || ran.stderr.contains("verify"),
        "{ran:?}"
    );
}

#[test]
fn bodies_of_any_size_go_both_ways() {
    const SIZE: usize = 3_000_000;
    let ca = Ca::default();
    let backend = Backend::http(|request| match request.method.as_str() {
        "POST" => {
            let mut check = pattern::Checker::default();
            check.feed(&request.body);
            Reply::ok(check.seen().to_string())
        }
        _ => Reply::pattern(SIZE),
    });
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"])).before(backend.address());
    let gateway = towards(&front.address(), CA, "").file("ca.pem", ca.pem()).start();
    let mut conn = gateway.connect();
    for _ in 0..2 {
        let mut check = pattern::Checker::default();
        check.feed(&conn.get("/").body);
        assert_eq!(check.seen(), SIZE);
        conn.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n"
        ));
        conn.send(pattern::bytes(SIZE));
        assert_eq!(conn.response().text(), SIZE.to_string());
    }
    assert_eq!(front.sessions().len(), 1);
}

#[test]
fn tunnels_go_through_tls() {
    let (ca, backend) = (Ca::default(), ws::echo_backend());
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"])).before(backend.address());
    let gateway = towards(&front.address(), CA, "").file("ca.pem", ca.pem()).start();
    let mut client = ws::Client::connect(gateway.connect(), "/");
    client.echo("hello");
    client.echo(&"long".repeat(20_000));
}

#[test]
fn probes_speak_tls_too() {
    let (ca, other, backend) = (Ca::default(), Ca::new("other"), Backend::text("hi"));
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"])).before(backend.address());
    for kind in ["http", "tcp"] {
        let health =
            format!(r#"health = {{ kind = "{kind}", interval = "50ms", fast_interval = "20ms", fall = 2 }}"#);
        let gateway = towards(&front.address(), CA, &health)
            .file("ca.pem", ca.pem())
            .file("other.pem", other.pem())
            .start();
        let health = || gateway.stats()["upstreams"][0]["endpoints"][0]["health"].clone();
        eventually("it passes", || health()["probes"]["passed"].as_u64() > Some(1));
        let config = gateway.read("tidegate.toml");
        gateway.reload(&config.replace("ca.pem", "other.pem"));
        eventually("it fails", || health()["state"] == "unhealthy");
        let last = &health()["last_results"][0];
        assert_eq!(last["cause"], "tls_failed");
        assert!(last["reason"].as_str().unwrap().starts_with("no TLS: "), "{last}");
    }
}

#[test]
fn the_proxy_protocol_comes_before_tls() {
    let backend = Backend::script(|conn, visit| {
        let line = String::from_utf8(conn.read_through(b"\r\n")).unwrap();
        assert!(line.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{line}");
        assert_eq!(conn.read(1), [22], "a handshake follows");
        visit.hit(testkit::Request::default());
    });
    let gateway = towards(
        &backend.address(),
        "verify = false",
        r#"proxy_protocol = { send = "v1" }"#,
    )
    .start();
    gateway.get("/").expect(502, Some("tls_failed"));
    assert!(backend.hits() > 0);
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let app = Address::parse("127.0.0.1:1");
    let refused = |tls: &str, address: &Address| {
        let (ca, leaf) = (Ca::default(), Leaf::self_signed(&["a"], false));
        let started = towards(address, tls, "")
            .file("ca.pem", ca.pem())
            .file("empty.pem", "nothing here\n")
            .file("own.pem", &leaf.cert)
            .file("own.key", &leaf.key)
            .file("other.key", &Leaf::self_signed(&["a"], false).key)
            .try_start();
        started.expect_err("an error").stderr
    };
    for (tls, expected) in [
        (r#"ca = "missing.pem""#, "missing.pem"),
        (r#"ca = "empty.pem""#, "no certificate"),
        (r#"cert = "own.pem""#, "`cert` is there without `key`"),
        (r#"key = "own.key""#, "`key` is there without `cert`"),
        (
            r#"ca = "ca.pem", cert = "own.pem", key = "other.key""#,
            "does not belong",
        ),
        (
            r#"ca = "ca.pem", server_name = "no name""#,
            "found no host name and no IP address",
        ),
    ] {
        let told = refused(tls, &app);
        assert!(
            told.contains(expected) && told.contains("upstreams.app.tls"),
            "{tls}: {told}"
        );
    }
    let unix = Address::parse("unix:/run/nobody.sock");
    let told = refused(CA, &unix);
    assert!(
        told.contains("has no name that a certificate could be held to"),
        "{told}"
    );
}

#[test]
fn the_systems_authorities_are_asked_where_none_are_named() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let front = TlsFront::showing(&ca.leaf(&["127.0.0.1"])).before(backend.address());
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("system.pem");
    std::fs::write(&store, ca.pem()).unwrap();
    let believing = |file: &str| {
        towards(&front.address(), "", "")
            .env("SSL_CERT_FILE", file)
            .start()
    };
    assert_eq!(believing(store.to_str().unwrap()).get("/").status, 200);
    std::fs::write(&store, Ca::new("other").pem()).unwrap();
    believing(store.to_str().unwrap())
        .get("/")
        .expect(502, Some("tls_failed"));
}

#[test]
fn a_client_that_leaves_takes_its_half_open_handshake_along() {
    let backend = Backend::script(|conn, _| conn.wait_for_end());
    let gateway = towards(&backend.address(), "verify = false", "").start();
    let mut client = Conn::connect(gateway.web());
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the endpoint is asked", || backend.open_connections() == 1);
    client.reset();
    eventually("nobody waits any more", || backend.open_connections() == 0);
}
