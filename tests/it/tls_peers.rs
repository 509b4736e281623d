//! TLS with clients that others wrote: OpenSSL's own, and curl with nghttp2. A machine without them skips.

use crate::gateway;
use std::process::{Command, Stdio};
use testkit::cli::{command, finish};
use testkit::{Backend, Ca, Gateway, Reply, pattern};

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[listeners.web.limits]
body = "20MB"
[listeners.web.tls]
certificates = [{ cert = "a.pem", key = "a.key" }, { cert = "b.pem", key = "b.key" }]

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = [{ address = "@app@" }]
"#;

fn start(backend: &Backend) -> (Gateway, Ca) {
    let ca = Ca::default();
    let (a, b) = (ca.leaf(&["a.test", "*.a.test"]), ca.leaf(&["b.test"]));
    let gateway = gateway(CONFIG)
        .with("app", backend.address())
        .file("a.pem", &a.chain)
        .file("a.key", &a.key)
        .file("b.pem", &b.chain)
        .file("b.key", &b.key)
        .file("ca.pem", ca.pem())
        .start();
    (gateway, ca)
}

fn is_there(program: &str) -> bool {
    let there = Command::new(program)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        eprintln!("skipped: there is no {program}");
    }
    there
}

/// What curl prints; `{port}` in the arguments is the gateway's.
fn curl(gateway: &Gateway, arguments: &[&str]) -> String {
    let port = gateway.web().to_string().rsplit_once(':').unwrap().1.to_owned();
    let mut curl = command("curl");
    curl.args(["-sS", "--max-time", "20", "--cacert"])
        .arg(gateway.path("ca.pem"));
    for name in ["a.test", "www.a.test", "b.test"] {
        curl.args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
    }
    curl.args(arguments.iter().map(|argument| argument.replace("{port}", &port)));
    finish(curl).expect(0).stdout
}

#[test]
fn curl_is_served_in_both_versions_of_http() {
    if !is_there("curl") {
        return;
    }
    let backend = Backend::text("hi");
    let (gateway, _ca) = start(&backend);
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1"), ("--tls-max=1.2", "2")] {
        let flag: Vec<&str> = flag.split('=').collect();
        let mut arguments = flag.clone();
        arguments.extend(["-w", " %{http_version}", "https://a.test:{port}/"]);
        if flag[0].contains("tls-max") {
            arguments = vec![
                "--tls-max",
                "1.2",
                "-w",
                " %{http_version}",
                "https://a.test:{port}/",
            ];
        }
        assert_eq!(curl(&gateway, &arguments), format!("hi {version}"), "{flag:?}");
    }
    assert_eq!(backend.last_request().header("X-Forwarded-Proto"), Some("https"));
}

#[test]
fn bodies_pass_whole_over_http_2_in_tls() {
    if !is_there("curl") {
        return;
    }
    const SIZE: usize = 5_000_000;
    let backend = Backend::http(|r| match r.body.len() {
        0 => Reply::pattern(SIZE),
        _ if r.body == pattern::bytes(SIZE) => Reply::ok("whole"),
        n => Reply::ok(format!("damaged, {n}")),
    });
    let (gateway, _ca) = start(&backend);
    let body = gateway.path("body");
    std::fs::write(&body, pattern::bytes(SIZE)).unwrap();
    let body = body.display().to_string();
    let got = gateway.path("got").display().to_string();
    for version in ["--http2", "--http1.1"] {
        curl(&gateway, &[version, "-o", &got, "https://a.test:{port}/"]);
        assert!(std::fs::read(&got).unwrap() == pattern::bytes(SIZE), "{version}");
        let told = curl(
            &gateway,
            &[
                version,
                "-H",
                "Expect:",
                "--data-binary",
                &format!("@{body}"),
                "https://a.test:{port}/",
            ],
        );
        assert_eq!(told, "whole", "{version}");
    }
}

#[test]
fn a_connection_that_is_shared_too_far_is_misdirected_in_http_2_too() {
    if !is_there("curl") {
        return;
    }
    let backend = Backend::text("hi");
    let (gateway, _ca) = start(&backend);
    let status = |host: &str| {
        let host = format!("Host: {host}");
        curl(
            &gateway,
            &[
                "--http2",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                &host,
                "https://a.test:{port}/",
            ],
        )
    };
    assert_eq!(status("www.a.test"), "200");
    assert_eq!(status("b.test"), "421");
    assert_eq!(status("other.test"), "421");
}

#[test]
fn openssl_resumes_its_sessions() {
    if !is_there("openssl") {
        return;
    }
    let backend = Backend::text("hi");
    let (gateway, _ca) = start(&backend);
    let (web, session) = (
        gateway.web().to_string(),
        gateway.path("session").display().to_string(),
    );
    let connect = |version: &str, keep: &str| {
        let mut openssl = command("sh");
        let script = format!(
            "(printf 'GET / HTTP/1.1\\r\\nHost: a.test\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | openssl s_client \
             -connect {web} -servername a.test -{version} {keep} {session} -CAfile {} -verify_return_error",
            gateway.path("ca.pem").display()
        );
        openssl.args(["-c", &script]);
        finish(openssl).expect(0).stdout
    };
    for version in ["tls1_2", "tls1_3"] {
        let first = connect(version, "-sess_out");
        assert!(
            first.contains("New, TLSv1.") && first.ends_with("hi") || first.contains("\r\n\r\nhi"),
            "{first}"
        );
        let second = connect(version, "-sess_in");
        assert!(second.contains("Reused, TLSv1."), "{second}");
    }
}
