//! gRPC's own implementation (in C, under Python) as client and as server, and its health service.

use crate::gateway;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use testkit::eventually;

const PEER: &str = include_str!("grpc_peer.py");

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
protocols = ["h2c"]
[[routes]]
paths = ["/test.Echo"]
upstream = "app"
[[routes]]
paths = ["/short.Echo"]
upstream = "app"
rewrite = { regex = "^/short", to = "/test" }
timeouts = { total = "300ms" }
[[routes]]
paths = ["/page.Service"]
respond = { status = 503, body = "<h1>no</h1>", headers = { Content-Type = "text/html" } }
[upstreams.app]
protocol = "h2"
endpoints = ["127.0.0.1:@port@"]
health = { kind = "grpc", service = "shop.v1.Orders", interval = "50ms", fast_interval = "20ms" }
"#;

/// An interpreter that has it.
fn python() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-python/bin/python");
    let named = std::env::var("TIDEGATE_TEST_GRPC_PYTHON").ok();
    let candidates = named
        .into_iter()
        .chain([root.display().to_string(), "python3".to_owned()]);
    candidates.into_iter().find(|python| {
        let asked = Command::new(python)
            .args(["-c", "import grpc, grpc_health"])
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    })
}

/// The server, which ends with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(python: &str) -> Self {
        let mut process = Command::new(python)
            .args(["-c", PEER, "serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut line = String::new();
        let said = process.stdout.take().expect("its output");
        BufReader::new(said).read_line(&mut line).expect("a line");
        Self {
            port: line.trim().parse().expect("a port"),
            process,
        }
    }

    /// Has its health service say this.
    fn say(&mut self, service: &str, word: &str) {
        let input = self.process.stdin.as_mut().expect("its input");
        writeln!(input, "{service} {word}").expect("it listens");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn grpcs_own_implementation_is_served_and_asked_how_it_is() {
    let Some(python) = python() else {
        eprintln!("not done: grpcio is not there (tests/run installs it)");
        return;
    };
    let mut server = Server::start(&python);
    let gateway = gateway(CONFIG).with("port", server.port).start();
    let address = format!("127.0.0.1:{}", server.port)
        .parse::<std::net::SocketAddr>()
        .unwrap();
    let health = || gateway.endpoint(&address.into())["health"].clone();
    eventually("it does not know the service", || {
        let reason = health()["reason"].as_str().unwrap_or_default().to_owned();
        reason.starts_with("NOT_FOUND: the server does not know the service shop.v1.Orders")
    });
    server.say("shop.v1.Orders", "SERVING");
    eventually("it serves", || health()["state"] == "healthy");

    let called = Command::new(&python)
        .args(["-c", PEER, "call", &gateway.web().to_string()])
        .output()
        .expect("python");
    let complaint = String::from_utf8_lossy(&called.stderr);
    assert!(called.status.success(), "{complaint}\n{}", gateway.log());

    server.say("shop.v1.Orders", "NOT_SERVING");
    eventually("it does not serve", || {
        health()["reason"] == "the service shop.v1.Orders says NOT_SERVING"
    });
}
