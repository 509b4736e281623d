//! Every way in which TLS with an endpoint fails: 502 `tls_failed`, and which way in log, metric and API.

use crate::upstream_tls::{CA, towards};
use testkit::net::Refused;
use testkit::tls::Kind;
use testkit::{Address, Backend, Ca, Gateway, Leaf, TlsFront};

/// Asks once, and holds everything that is told of it to this reason.
#[track_caller]
fn expect(gateway: &Gateway, reason: &str, detail: &str) {
    gateway.get("/x").expect(502, Some("tls_failed"));
    let record = gateway.access_record("/x");
    assert_eq!(record["token"], "tls_failed", "{reason}");
    assert_eq!(record["detail"], detail, "{reason}");
    assert_eq!(record["attempts"][0]["token"], "tls_failed", "{reason}");
    let label = format!("reason=\"{reason}\"");
    assert_eq!(
        gateway.metric("tidegate_upstream_tls_failures_total", &[&label]),
        1.0,
        "{reason}"
    );
    let told = &gateway.stats()["upstreams"][0]["endpoints"][0];
    assert_eq!(told["tls"]["failed"], serde_json::json!({ reason: 1 }));
    assert_eq!(told["errors"]["tls_failed"], 1, "{reason}");
}

fn trusting(ca: &Ca, address: &Address) -> Gateway {
    towards(address, CA, "").file("ca.pem", ca.pem()).start()
}

#[test]
fn certificates_that_are_not_good() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let expired = ca.issue(Kind {
        names: &["127.0.0.1"],
        until: 2021,
        ..Kind::default()
    });
    let strange = Ca::new("nobody knows").leaf(&["127.0.0.1"]);
    for (leaf, reason, detail) in [
        (expired, "expired", "the endpoint's certificate has expired"),
        (
            Leaf::self_signed(&["127.0.0.1"], false),
            "self_signed",
            "the endpoint's certificate is signed by itself, and not trusted",
        ),
        (
            Leaf::self_signed(&["127.0.0.1"], true),
            "self_signed",
            "the endpoint's certificate is signed by itself, and not trusted",
        ),
        (
            strange,
            "unknown_issuer",
            "the endpoint's certificate is of an issuer that is not trusted",
        ),
        (
            ca.leaf(&["127.0.0.2"]),
            "wrong_name",
            "the endpoint's certificate is for another name",
        ),
        (
            ca.leaf(&["localhost"]),
            "wrong_name",
            "the endpoint's certificate is for another name",
        ),
    ] {
        let front = TlsFront::showing(&leaf).before(backend.address());
        let gateway = trusting(&ca, &front.address());
        expect(&gateway, reason, detail);
        gateway.await_log(&format!("reason=\"{reason}\""));
    }
    assert_eq!(
        backend.hits(),
        0,
        "nothing of a request is told to who is not believed"
    );
}

#[test]
fn endpoints_that_want_a_certificate_of_ours() {
    let (ca, clients, backend) = (Ca::default(), Ca::new("clients"), Backend::text("hi"));
    for front in [
        TlsFront::showing(&ca.leaf(&["127.0.0.1"])).wanting(&clients),
        TlsFront::showing(&ca.leaf(&["127.0.0.1"]))
            .wanting(&clients)
            .tls12(),
    ] {
        let front = front.before(backend.address());
        let detail = "the endpoint wants another client certificate, or one at all";
        expect(&trusting(&ca, &front.address()), "client_certificate", detail);
    }
    assert_eq!(backend.hits(), 0);
}

/// A server that answers the first bytes with these, and ends.
fn answering(bytes: &'static [u8]) -> Backend {
    Backend::script(move |conn, _| {
        conn.read(5);
        let _ = conn.try_send(bytes);
        conn.half_close().wait_for_end();
    })
}

#[test]
fn servers_that_refuse_or_speak_something_else() {
    let ca = Ca::default();
    for (answer, reason, detail) in [
        // Alerts (RFC 8446 section 6): handshake_failure, protocol_version, unrecognized_name.
        (
            &[21, 3, 3, 0, 2, 2, 40][..],
            "refused",
            "the endpoint refused the TLS handshake",
        ),
        (
            &[21, 3, 3, 0, 2, 2, 70],
            "incompatible",
            "the endpoint speaks no version or cipher of TLS that the gateway speaks",
        ),
        (
            &[21, 3, 3, 0, 2, 2, 112],
            "unknown_name",
            "the endpoint does not know the server name that it is asked for",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "not_tls",
            "the endpoint does not speak TLS",
        ),
        (
            b"220 mail.example ESMTP\r\n",
            "not_tls",
            "the endpoint does not speak TLS",
        ),
        (
            b"",
            "closed",
            "the endpoint closed the connection within the TLS handshake",
        ),
        (
            &[22, 3, 3, 0, 4, 2, 0],
            "closed",
            "the endpoint closed the connection within the TLS handshake",
        ),
        // A record of a type that has no place here.
        (
            &[23, 3, 3, 0, 1, 0],
            "protocol",
            "the endpoint broke the rules of TLS",
        ),
    ] {
        let backend = answering(answer);
        expect(&trusting(&ca, &backend.address()), reason, detail);
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_by_the_connect_timeout() {
    let backend = Backend::script(|conn, _| conn.wait_for_end());
    let gateway = towards(&backend.address(), "verify = false", "").start();
    gateway.reload(
        &gateway
            .read("tidegate.toml")
            .replace("connect = \"5s\"", "connect = \"150ms\""),
    );
    expect(
        &gateway,
        "timeout",
        "the TLS handshake with the endpoint took too long",
    );
    assert_eq!(gateway.access_record("/x")["timeout"], "routes.timeouts.connect");
}

#[test]
fn no_connection_at_all_is_no_matter_of_tls() {
    let refused = Refused::new();
    let gateway = towards(&refused.address(), "verify = false", "").start();
    gateway.get("/").expect(502, Some("connect_failed"));
}

#[test]
fn another_endpoint_is_tried_whatever_the_method() {
    let (ca, backend) = (Ca::default(), Backend::text("hi"));
    let good = TlsFront::showing(&ca.leaf(&["127.0.0.1"])).before(backend.address());
    let bad = TlsFront::showing(&Leaf::self_signed(&["127.0.0.1"], false)).before(backend.address());
    let both = format!("{}\", \"{}", bad.address(), good.address());
    let gateway = towards(&good.address(), CA, "balance = \"first\"")
        .file("ca.pem", ca.pem())
        .start();
    gateway.reload(
        &gateway
            .read("tidegate.toml")
            .replace(&good.address().to_string(), &both),
    );
    let post = "POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(gateway.send(post).status, 200);
    let attempts = &gateway.access_record("/x")["attempts"];
    assert_eq!(
        (&attempts[0]["token"], &attempts[1]["status"]),
        (&"tls_failed".into(), &200.into())
    );
}
