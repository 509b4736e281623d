//! Certificates of clients: who gets in, what endpoints are told, and that there is no way around.

use crate::gateway;
use std::time::Duration;
use testkit::tls::Kind;
use testkit::{Backend, Builder, Ca, Conn, Leaf, Response, TlsClient, eventually};

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[listeners.web.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
@auth@

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = [{ address = "@app@" }]

[log]
access = { path = "access.log", format = "json" }
"#;

struct Scene {
    servers: Ca,
    clients: Ca,
    backend: Backend,
    own: Leaf,
}

impl Scene {
    fn new() -> Self {
        let clients = Ca::new("clients");
        let own = clients.issue(Kind {
            names: &["me.clients.test", "spiffe://test/me"],
            common_name: "me, myself",
            serial: 77,
            ..Kind::default()
        });
        Self {
            servers: Ca::new("servers"),
            clients,
            backend: Backend::text("hi"),
            own,
        }
    }

    fn gateway(&self, auth: &str) -> Builder {
        let leaf = self.servers.leaf(&["a.test", "admin.test"]);
        gateway(CONFIG)
            .with("auth", auth)
            .with("app", self.backend.address())
            .file("a.pem", &leaf.chain)
            .file("a.key", &leaf.key)
            .file("clients.pem", self.clients.pem())
    }

    fn showing(&self, leaf: &Leaf) -> TlsClient {
        TlsClient::trusting(&self.servers).showing(leaf).build()
    }

    fn nobody(&self) -> TlsClient {
        TlsClient::trusting(&self.servers).build()
    }
}

fn ask(conn: &mut Conn, host: &str) -> Response {
    conn.send(format!(
        "GET /x HTTP/1.1\r\nHost: {host}\r\nX-Tidegate-Client-Subject: CN=root\r\n\
         x-tidegate-client-verified: yes\r\nClient-Cert: :Zm9yZ2Vk:\r\nX_Tidegate_Client_Subject: CN=root\r\n\r\n"
    ));
    conn.response()
}

/// Whether a client gets an answer. In TLS 1.3 a server's refusal comes after the client's part of the handshake.
fn gets_in(client: &TlsClient, gateway: &testkit::Gateway, name: &str) -> bool {
    client.try_connect(gateway.web(), name).is_ok_and(|mut conn| {
        let sent = conn.try_send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"));
        sent.is_ok()
            && conn
                .try_response_to("GET")
                .is_ok_and(|response| response.status == 200)
    })
}

#[test]
fn a_required_certificate_is_required_and_told() {
    let scene = Scene::new();
    let gateway = scene.gateway(r#"client_auth = { ca = "clients.pem" }"#).start();
    let mut conn = scene.showing(&scene.own).connect(gateway.web(), "a.test");
    assert_eq!(ask(&mut conn, "a.test").status, 200);
    let seen = scene.backend.last_request();
    assert_eq!(seen.headers.all("X-Tidegate-Client-Verified"), ["yes"]);
    assert_eq!(seen.headers.all("X-Tidegate-Client-Subject"), ["CN=me, myself"]);
    assert_eq!(seen.header("X-Tidegate-Client-Issuer"), Some("CN=clients"));
    assert_eq!(seen.header("X-Tidegate-Client-Serial"), Some("4d"));
    assert_eq!(
        seen.header("X-Tidegate-Client-Names"),
        Some("DNS:me.clients.test, URI:spiffe://test/me")
    );
    assert_eq!(seen.headers.all("Client-Cert").len(), 1);
    assert_ne!(seen.header("Client-Cert"), Some(":Zm9yZ2Vk:"));
    let record = gateway.access_record("/x");
    assert_eq!(record["tls"]["client_subject"], "CN=me, myself");

    let stranger = Ca::new("strangers").leaf(&["x.test"]);
    assert!(!gets_in(&scene.nobody(), &gateway, "a.test"));
    assert!(!gets_in(&scene.showing(&stranger), &gateway, "a.test"));
    let old = scene.clients.issue(Kind {
        until: 2020,
        ..Kind::default()
    });
    assert!(!gets_in(&scene.showing(&old), &gateway, "a.test"));
    eventually("all three are counted", || {
        gateway.metric(
            "tidegate_tls_handshake_failures_total",
            &["reason=\"client_certificate\""],
        ) == 3.0
    });
    gateway.await_log("reason=\"client_certificate\"");
}

#[test]
fn an_optional_certificate_may_be_missing_and_not_be_bad() {
    let scene = Scene::new();
    let gateway = scene
        .gateway(r#"client_auth = { mode = "optional", ca = "clients.pem" }"#)
        .start();
    let mut conn = scene.nobody().connect(gateway.web(), "a.test");
    assert_eq!(ask(&mut conn, "a.test").status, 200);
    let seen = scene.backend.last_request();
    assert_eq!(seen.headers.all("X-Tidegate-Client-Verified"), ["no"]);
    assert!(!seen.headers.has("X-Tidegate-Client-Subject") && !seen.headers.has("Client-Cert"));
    assert!(gets_in(&scene.showing(&scene.own), &gateway, "a.test"));
    let stranger = Ca::new("strangers").leaf(&["x.test"]);
    assert!(!gets_in(&scene.showing(&stranger), &gateway, "a.test"));
}

#[test]
fn a_claim_of_identity_is_dropped_where_nobody_is_asked() {
    let scene = Scene::new();
    let secure = scene.gateway("").start();
    let mut conn = scene.nobody().connect(secure.web(), "a.test");
    ask(&mut conn, "a.test");
    let plain = crate::in_front_of(&scene.backend);
    ask(&mut plain.connect(), "a.test");
    for seen in scene.backend.requests() {
        for (name, _) in &seen.headers.0 {
            let name = name.to_ascii_lowercase().replace('_', "-");
            assert!(
                !name.starts_with("x-tidegate-client") && name != "client-cert",
                "{name}"
            );
        }
    }
    assert_eq!(scene.backend.hits(), 2);
}

#[test]
fn a_revoked_certificate_is_refused() {
    let scene = Scene::new();
    let good = scene.clients.issue(Kind {
        serial: 78,
        ..Kind::default()
    });
    let gateway = scene
        .gateway(r#"client_auth = { ca = "clients.pem", crl = ["revoked.pem"] }"#)
        .file("revoked.pem", &scene.clients.revocations(&[&scene.own], 4000))
        .start();
    assert!(gets_in(&scene.showing(&good), &gateway, "a.test"));
    assert!(!gets_in(&scene.showing(&scene.own), &gateway, "a.test"));
}

#[test]
fn what_one_name_asks_neither_host_nor_resumption_gets_around() {
    let scene = Scene::new();
    let gateway = scene
        .gateway(r#"client_auth_by_name = [{ names = ["admin.test"], ca = "clients.pem" }]"#)
        .start();
    // The name without terms: anybody; and its connection is not one for the other name, though the certificate is.
    let nobody = scene.nobody();
    let mut conn = nobody.connect(gateway.web(), "a.test");
    assert_eq!(ask(&mut conn, "a.test").status, 200);
    ask(&mut conn, "admin.test").expect(421, Some("misdirected"));
    // A session of the one name is none of the other's.
    assert!(!gets_in(&nobody, &gateway, "admin.test"));
    let known = scene.showing(&scene.own);
    assert!(gets_in(&known, &gateway, "admin.test"));
    let mut again = known.connect(gateway.web(), "admin.test");
    assert!(again.agreed().resumed);
    assert_eq!(ask(&mut again, "admin.test").status, 200);
    let seen = scene.backend.last_request();
    assert_eq!(
        seen.header("X-Tidegate-Client-Subject"),
        Some("CN=me, myself"),
        "a resumed session knows who it was made by"
    );
    ask(&mut again, "a.test").expect(421, Some("misdirected"));
}

#[test]
fn terms_that_change_hold_for_open_connections_and_old_sessions() {
    let scene = Scene::new();
    let gateway = scene
        .gateway(r#"client_auth = { ca = "clients.pem", crl = ["revoked.pem"] }"#)
        .file("revoked.pem", &scene.clients.revocations(&[], 4000))
        .start();
    let client = scene.showing(&scene.own);
    let mut open = client.connect(gateway.web(), "a.test");
    assert_eq!(ask(&mut open, "a.test").status, 200);
    let mut resumed = client.connect(gateway.web(), "a.test");
    assert_eq!(ask(&mut resumed, "a.test").status, 200);
    assert!(resumed.agreed().resumed);
    // The certificate is revoked.
    std::fs::write(
        gateway.path("revoked.pem"),
        scene.clients.revocations(&[&scene.own], 4000),
    )
    .unwrap();
    eventually("the new list is in force", || gateway.generation() == 2);
    ask(&mut open, "a.test").expect(421, Some("misdirected"));
    assert!(
        !gets_in(&client, &gateway, "a.test"),
        "its tickets are worth nothing now"
    );
}

#[test]
fn a_session_is_not_resumed_beyond_the_certificate_that_it_was_made_with() {
    let scene = Scene::new();
    let gateways = ["optional", "required"].map(|mode| {
        let auth = format!("client_auth = {{ mode = \"{mode}\", ca = \"clients.pem\" }}");
        scene
            .gateway(&format!("policy = \"intermediate\"\n{auth}"))
            .start()
    });
    let clients: Vec<_> = gateways
        .iter()
        .flat_map(|gateway| [(gateway, false), (gateway, true)])
        .map(|(gateway, tls12)| {
            let brief = scene.clients.issue(Kind {
                lasts: Some(Duration::from_secs(5)),
                ..Kind::default()
            });
            let client = TlsClient::trusting(&scene.servers).showing(&brief);
            let client = if tls12 { client.tls12() } else { client }.build();
            assert!(gets_in(&client, gateway, "a.test"));
            let mut again = client.connect(gateway.web(), "a.test");
            assert!(again.agreed().resumed);
            assert_eq!(ask(&mut again, "a.test").status, 200);
            let seen = scene.backend.last_request();
            assert_eq!(seen.headers.all("X-Tidegate-Client-Verified"), ["yes"]);
            (gateway, client)
        })
        .collect();
    for (gateway, client) in clients {
        // Each try resumes the one before, whose ticket is no better for it.
        eventually("it has run out, and opens nothing", || {
            !gets_in(&client, gateway, "a.test")
        });
        let failures = "tidegate_tls_handshake_failures_total";
        // The client may see the end before it is counted.
        eventually("the reason is counted", || {
            gateway.metric(failures, &["reason=\"client_certificate\""]) >= 1.0
        });
    }
}

#[test]
fn a_bundle_of_many_authorities_breaks_no_handshake() {
    let scene = Scene::new();
    let long = "an authority with a name that takes its space in the handshake ".repeat(2);
    let others: String = (0..700)
        .map(|n| Ca::new(&format!("{long}{n}")).pem().to_owned())
        .collect();
    let gateway = scene
        .gateway("policy = \"intermediate\"\nclient_auth = { ca = \"clients.pem\" }")
        .file("clients.pem", &(others + scene.clients.pem()))
        .start();
    assert!(gets_in(&scene.showing(&scene.own), &gateway, "a.test"));
    let old = TlsClient::trusting(&scene.servers)
        .showing(&scene.own)
        .tls12()
        .build();
    assert!(gets_in(&old, &gateway, "a.test"));
    assert!(!gets_in(&scene.nobody(), &gateway, "a.test"));
}
