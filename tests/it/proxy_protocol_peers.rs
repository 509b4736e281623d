//! The PROXY protocol with programs that others wrote: HAProxy in front, HAProxy and nginx behind.

use crate::gateway;
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::gateway::Running;
use testkit::net::free_port;
use testkit::{Address, Backend, Ca, Conn, Reply, TlsClient, eventually};

pub fn is_installed(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = tried.is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: no {program}");
    }
    there
}

/// HAProxy with these sections.
pub fn haproxy(dir: &Path, port: u16, sections: &str) -> Running {
    let file = dir.join("haproxy.cfg");
    let defaults = "defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n";
    std::fs::write(&file, format!("{defaults}{sections}")).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    listening(command, port)
}

pub fn nginx(dir: &Path, port: u16, server: &str) -> Running {
    let file = dir.join("nginx.conf");
    let text = format!(
        "daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path {0}/t;\nproxy_temp_path {0}/t;\nfastcgi_temp_path {0}/t;\n\
         uwsgi_temp_path {0}/t;\nscgi_temp_path {0}/t;\nserver {{\n{server}\n}}\n}}\n",
        dir.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&file)
        .args(["-e", "stderr"]);
    listening(command, port)
}

/// Node with a script that listens on the port it is told; `None`: it is not installed.
pub fn node(script: &str) -> Option<(Running, u16)> {
    if !is_installed("node") {
        return None;
    }
    let port = free_port();
    let mut command = Command::new("node");
    command.args(["-e", script, &port.to_string()]);
    Some((listening(command, port), port))
}

pub fn listening(command: Command, port: u16) -> Running {
    let running = Running::start(command);
    eventually("it listens", || Conn::try_connect(at(port)).is_ok());
    running
}

pub fn at(port: u16) -> Address {
    Address::parse(&format!("127.0.0.1:{port}"))
}

#[test]
fn haproxy_announces_clients_to_us() {
    if !is_installed("haproxy") {
        return;
    }
    let backend = Backend::http(|r| Reply::ok(r.header("x-forwarded-for").unwrap_or("-").to_owned()));
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        proxy_protocol = { trusted = ["127.0.0.1"] }
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = ["@app@"]
        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("app", backend.address())
    .start();
    let to = gateway.web();
    for (name, option) in [
        ("v1", "send-proxy"),
        ("v2", "send-proxy-v2"),
        (
            "tlvs",
            "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
        ),
    ] {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let _haproxy = haproxy(
            dir.path(),
            port,
            &format!(
                "listen in\n  mode tcp\n  bind 127.0.0.1:{port}\n  unique-id-format id-%Ts\n  server s {to} {option}\n"
            ),
        );
        let mut conn = Conn::connect_from(std::net::Ipv4Addr::new(127, 0, 0, 4), at(port));
        let path = format!("/{name}");
        assert_eq!(conn.get(&path).text(), "127.0.0.4", "{name}");
        let told = &gateway.access_record(&path)["proxy_protocol"];
        assert_eq!(told["source"], conn.local(), "{name}");
        assert_eq!(told["destination"], format!("127.0.0.1:{port}"), "{name}");
        let id = told["unique_id"].as_str().unwrap_or_default();
        assert_eq!(id.starts_with("id-"), name == "tlvs", "{told}");
    }
    let refused = gateway
        .metrics()
        .lines()
        .any(|line| line.starts_with("tidegate_proxy_protocol_refused_total") && line.contains("malformed"));
    assert!(!refused);
}

#[test]
fn haproxy_tells_us_of_the_tls_that_it_ends() {
    if !is_installed("haproxy") {
        return;
    }
    let backend = Backend::http(|r| Reply::ok(r.header("x-forwarded-proto").unwrap_or("-").to_owned()));
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        proxy_protocol = { trusted = ["127.0.0.1"] }
        redirect_https = true
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = ["@app@"]
        "#,
    )
    .with("app", backend.address())
    .start();
    let (port, dir, ca) = (free_port(), tempfile::tempdir().unwrap(), Ca::default());
    let leaf = ca.leaf(&["a.test"]);
    let pair = dir.path().join("a.pem");
    std::fs::write(&pair, leaf.chain + &leaf.key).unwrap();
    let (pair, to) = (pair.display(), gateway.web());
    let bind = format!("  bind 127.0.0.1:{port} ssl crt {pair}");
    let section = format!("listen in\n  mode tcp\n{bind}\n  server s {to} send-proxy-v2-ssl\n");
    let _haproxy = haproxy(dir.path(), port, &section);
    let mut conn = TlsClient::trusting(&ca).build().connect(at(port), "a.test");
    assert_eq!(conn.get("/").text(), "https");
}

/// A gateway that announces clients to this port, and what a server there answers.
fn heard_at(port: u16, version: &str) -> (String, Conn) {
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = ["127.0.0.1:@port@"]
        proxy_protocol = { send = "@version@" }
        health = { path = "/health", interval = "50ms" }
        "#,
    )
    .with("port", port)
    .with("version", version)
    .start();
    let mut conn = Conn::connect_from(std::net::Ipv4Addr::new(127, 0, 0, 5), gateway.web());
    let heard = conn.get("/").text();
    assert_eq!(heard, format!("{} {}", conn.local(), gateway.web()), "{version}");
    let passed = || gateway.metric("tidegate_health_probes_total", &[r#"result="passed""#]) > 1.0;
    eventually("probes pass", passed);
    (heard, conn)
}

#[test]
fn haproxy_hears_our_clients_addresses() {
    if !is_installed("haproxy") {
        return;
    }
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let told = r#"http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]""#;
    let section = format!("frontend in\n  mode http\n  bind 127.0.0.1:{port} accept-proxy\n  {told}\n");
    let _haproxy = haproxy(dir.path(), port, &section);
    for version in ["v1", "v2"] {
        heard_at(port, version);
    }
}

#[test]
fn nginx_hears_our_clients_addresses() {
    if !is_installed("nginx") {
        return;
    }
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let told =
        "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port";
    let server = format!("listen 127.0.0.1:{port} proxy_protocol;\nlocation / {{ return 200 \"{told}\"; }}");
    let _nginx = nginx(dir.path(), port, &server);
    for version in ["v1", "v2"] {
        heard_at(port, version);
    }
}
