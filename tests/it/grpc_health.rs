//! Checks of kind grpc: what passes, what fails and why.

use crate::gateway;
use crate::grpc_kit::{self, ending};
use crate::h2_server::{Answer, Server};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use testkit::{Address, Backend, Ca, Gateway, eventually, eventually_some};

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
protocols = ["h2c"]
[[routes]]
upstream = "app"
[upstreams.app]
protocol = "h2"
endpoints = [@endpoints@]
health = { kind = "grpc", interval = "60ms", fast_interval = "20ms", timeout = "2s", @more@ }
"#;

fn checking(endpoints: &[&Address], more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    CONFIG
        .replace("@endpoints@", &endpoints.join(", "))
        .replace("@more@", more)
}

/// The answer to a check: a message that says this state.
fn state(number: u8) -> Answer {
    let answer = Answer::ok(vec![0, 0, 0, 0, 2, 8, number]);
    ending(
        answer.header("content-type", "application/grpc+proto"),
        &[("grpc-status", "0")],
    )
}

/// Says what it is by a switch.
fn switched() -> (Server, Arc<AtomicU8>) {
    let now = Arc::new(AtomicU8::new(1));
    let says = Arc::clone(&now);
    let server = Server::http(move |seen| match seen.path.as_str() {
        "/grpc.health.v1.Health/Check" => state(says.load(Ordering::SeqCst)),
        _ => Answer::ok("served"),
    });
    (server, now)
}

#[track_caller]
fn becomes(gateway: &Gateway, address: &Address, state: &str) -> Value {
    eventually_some(&format!("{address} is {state}"), || {
        let endpoint = gateway.endpoint(address);
        (endpoint["health"]["state"] == state).then_some(endpoint)
    })
}

#[track_caller]
fn fails_because(address: &Address, config: &str, reason: &str) {
    let gateway = gateway(config).start();
    let down = becomes(&gateway, address, "unhealthy");
    assert_eq!(down["health"]["reason"], reason);
}

#[test]
fn a_server_gets_requests_while_it_says_that_it_serves() {
    let ((a, a_says), (b, _)) = (switched(), switched());
    let gateway = gateway(&checking(&[&a.address(), &b.address()], "rise = 2, fall = 2")).start();
    becomes(&gateway, &a.address(), "healthy");
    let asked = a.requests().remove(0);
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/grpc.health.v1.Health/Check")
    );
    assert_eq!(asked.authority, a.address().to_string());
    assert_eq!(
        (asked.header("te"), asked.header("content-type")),
        (Some("trailers"), Some("application/grpc"))
    );
    assert_eq!(asked.header("user-agent"), Some("tidegate-health"));
    assert!(asked.header("grpc-timeout").is_some());
    assert_eq!(asked.body, [0, 0, 0, 0, 0]);

    a_says.store(2, Ordering::SeqCst);
    let down = becomes(&gateway, &a.address(), "unhealthy");
    assert_eq!(down["health"]["reason"], "the server says NOT_SERVING");
    let last = &down["health"]["last_results"][0];
    assert_eq!((&last["cause"], &last["status"]), (&"grpc".into(), &200.into()));
    let served = |server: &Server| server.requests().iter().filter(|r| r.path == "/").count();
    let client = crate::h2_client::Client::connect(&gateway.web());
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "served");
    }
    assert_eq!((served(&a), served(&b)), (0, 10));

    a_says.store(1, Ordering::SeqCst);
    becomes(&gateway, &a.address(), "healthy");
    eventually("it serves again", || {
        client.get("/");
        served(&a) > 0
    });
    let labels = ["upstream=\"app\"", "result=\"grpc\""];
    assert!(gateway.metric("tidegate_health_probes_total", &labels) >= 2.0);
}

#[test]
fn one_service_of_a_server_can_be_asked_for() {
    let server = Server::http(|seen| match &seen.body[5..] {
        b"\x0a\x0dshop.v1.Carts" => state(1),
        b"\x0a\x0eshop.v1.Orders" => state(3),
        _ => Answer::ok("")
            .header("content-type", "application/grpc")
            .header("grpc-status", "5")
            .header("grpc-message", "no%20such%20service"),
    });
    let address = server.address();
    let gateway = gateway(&checking(
        &[&address],
        "service = \"shop.v1.Carts\", host = \"shop.example\"",
    ))
    .start();
    becomes(&gateway, &address, "healthy");
    assert_eq!(server.last_request().authority, "shop.example");
    fails_because(
        &address,
        &checking(&[&address], "service = \"shop.v1.Orders\""),
        "the service shop.v1.Orders says SERVICE_UNKNOWN",
    );
    fails_because(
        &address,
        &checking(&[&address], "service = \"x\""),
        "NOT_FOUND: the server does not know the service x (no such service)",
    );
}

#[test]
fn a_real_server_without_the_service_is_told_what_is_missing() {
    let server = grpc_kit::Server::start();
    fails_because(
        &server.address(),
        &checking(&[&server.address()], ""),
        "UNIMPLEMENTED: there is no grpc.health.v1.Health: register it in the server (no such method)",
    );
}

#[test]
fn what_is_no_grpc_server_fails_with_its_reason() {
    let page = Server::http(|_| Answer::new(404, "no"));
    fails_because(
        &page.address(),
        &checking(&[&page.address()], ""),
        "status 404, accepted: 200, as every answer of gRPC has",
    );
    let hung = Server::streams(|mut stream| async move {
        stream.cancelled().await;
    });
    let config = checking(&[&hung.address()], "").replace("timeout = \"2s\"", "timeout = \"100ms\"");
    fails_because(
        &hung.address(),
        &config,
        "no whole answer within 100 ms, 0 bytes of it came",
    );
    let http1 = Backend::script(|conn, _| {
        conn.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let gateway = gateway(&checking(&[&http1.address()], "")).start();
    let down = becomes(&gateway, &http1.address(), "unhealthy");
    let reason = down["health"]["reason"].as_str().unwrap().to_owned();
    assert!(!reason.is_empty(), "{down}");
}

#[test]
fn a_server_that_dies_is_noticed_at_once() {
    let (mut server, _) = switched();
    let config = checking(&[&server.address()], "").replace("\"60ms\"", "\"1h\"");
    let gateway = gateway(&config).start();
    becomes(&gateway, &server.address(), "healthy");
    server.down();
    becomes(&gateway, &server.address(), "unhealthy");
}

#[test]
fn servers_with_tls_are_asked_over_tls() {
    let ca = Ca::new("test");
    let server = grpc_kit::Server::start_tls(&ca.leaf(&["localhost"]));
    let config = format!(
        "{}tls = {{ server_name = \"localhost\", ca = \"ca.pem\" }}\n",
        checking(&[&server.address()], "")
    );
    let gateway = gateway(&config).file("ca.pem", ca.pem()).start();
    let down = becomes(&gateway, &server.address(), "unhealthy");
    // It was understood.
    assert!(
        down["health"]["reason"]
            .as_str()
            .unwrap()
            .starts_with("UNIMPLEMENTED: "),
        "{down}"
    );
}
