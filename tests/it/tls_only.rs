//! Getting clients to HTTPS and keeping them there, and a gateway that serves it without any file.

use crate::{binary, gateway};
use testkit::cli::command;
use testkit::gateway::Running;
use testkit::{Backend, Ca, Gateway, Reply, TlsClient, eventually};

fn start(backend: &Backend) -> (Gateway, Ca) {
    let ca = Ca::default();
    let leaf = ca.leaf(&["a.test"]);
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        redirect_https = true
        trusted_proxies = ["127.0.0.2/32"]
        [listeners.secure]
        address = "127.0.0.1:0"
        hsts = "180d"
        [listeners.secure.tls]
        certificates = [{ cert = "a.pem", key = "a.key" }]
        [[routes]]
        upstream = "app"
        [[routes]]
        paths = ["/own"]
        respond = { body = "own" }
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("app", backend.address())
    .file("a.pem", &leaf.chain)
    .file("a.key", &leaf.key)
    .start();
    (gateway, ca)
}

#[test]
fn plain_http_is_redirected_with_its_path_and_method() {
    let backend = Backend::text("hi");
    let (gateway, _ca) = start(&backend);
    let answer =
        gateway.send("POST /a/../b?c=d HTTP/1.1\r\nHost: A.test:8080\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("Location"), Some("https://a.test/b?c=d"));
    assert!(!answer.headers.has("Strict-Transport-Security"));
    gateway
        .send("GET / HTTP/1.0\r\n\r\n")
        .expect(400, Some("bad_host"));
    // Who came to a trusted proxy by HTTPS is where he should be; who only says so is not.
    let forged = gateway.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(forged.status, 308);
    let mut proxy = testkit::Conn::connect_from(std::net::Ipv4Addr::new(127, 0, 0, 2), gateway.web());
    proxy.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(proxy.response().text(), "hi");
    assert_eq!(backend.hits(), 1);
}

#[test]
fn every_answer_over_https_tells_to_come_back_by_it() {
    let backend = Backend::http(|_| Reply::ok("hi").header("Strict-Transport-Security", "max-age=1"));
    let (gateway, ca) = start(&backend);
    let client = TlsClient::trusting(&ca).build();
    let mut conn = client.connect(gateway.addr("secure"), "a.test");
    for (target, status) in [("/", 200), ("/own", 200), ("/%zz", 400)] {
        conn.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let answer = conn.response();
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.headers.all("Strict-Transport-Security"),
            ["max-age=15552000"],
            "{target}"
        );
    }
}

#[test]
fn a_gateway_without_a_file_serves_https_with_a_certificate_of_its_own() {
    let backend = Backend::text("hi");
    let state = tempfile::tempdir().unwrap();
    let ready = state.path().join("ready");
    let run = || {
        let mut proxy = command(binary());
        proxy
            .args(["proxy", "--listen", "127.0.0.1:0", "--tls-self-signed", "--to"])
            .arg(backend.address().to_string())
            .arg("--ready-file")
            .arg(&ready)
            .env("XDG_STATE_HOME", state.path())
            .env("HOME", state.path());
        Running::start(proxy)
    };
    let fetch = || {
        eventually("it serves", || ready.exists());
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let address = told["listeners"]["proxy"].as_str().unwrap().to_owned();
        let mut curl = command("curl");
        curl.args(["-ksS", "--max-time", "10", &format!("https://{address}/")]);
        testkit::cli::finish(curl).expect(0).stdout
    };
    let mut first = run();
    assert_eq!(fetch(), "hi");
    let fingerprint = |running: &Running| {
        let said = running.stderr();
        let at = said.find("SHA-256 ").expect("the fingerprint is told");
        said[at..at + 72].to_owned()
    };
    let one = fingerprint(&first);
    first.signal(testkit::gateway::Sig::TERM);
    first.wait();
    std::fs::remove_file(&ready).ok();
    let mut second = run();
    assert_eq!(fetch(), "hi");
    assert_eq!(fingerprint(&second), one, "browsers are asked once");
    second.signal(testkit::gateway::Sig::TERM);
    second.wait();
}
