//! Endpoints that speak HTTP/2: what reaches them, and how few connections it takes.

use crate::gateway;
use crate::h2_server::{Answer, Server};
use testkit::{Builder, Gateway};

/// One listener for both protocols, and an endpoint that speaks HTTP/2 by prior knowledge.
pub const TO_H2: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
protocols = ["h1", "h2c"]

[[routes]]
upstream = "app"

[upstreams.app]
protocol = "h2"
endpoints = [{ address = "@app@" }]
"#;

pub fn to(server: &Server) -> Builder {
    gateway(TO_H2).with("app", server.address())
}

/// The same with more about the upstream.
pub fn with(server: &Server, more: &str) -> Gateway {
    gateway(&format!("{TO_H2}{more}\n"))
        .with("app", server.address())
        .start()
}

#[test]
fn a_request_reaches_the_endpoint_as_one_of_http_2() {
    let server = Server::http(|seen| {
        Answer::ok(format!("{} {}", seen.method, seen.path))
            .header("x-mine", "1")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
    });
    let gateway = to(&server).start();
    let answer = gateway.send(
        "GET /a?b=c HTTP/1.1\r\nHost: Test.example:99\r\nCookie: a=1\r\nCookie: b=2\r\nTE: trailers\r\n\
         Connection: x-private, TE\r\nX-Private: 1\r\nX-A: 1\r\n\r\n",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /a?b=c"));
    assert_eq!(answer.header("x-mine"), Some("1"));
    assert_eq!(answer.headers.all("set-cookie"), ["a=1", "b=2"]);
    let seen = server.last_request();
    assert_eq!(
        (seen.scheme.as_str(), seen.authority.as_str()),
        ("http", "Test.example:99")
    );
    assert_eq!(
        (seen.header("x-a"), seen.header("te")),
        (Some("1"), Some("trailers"))
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    for gone in ["connection", "x-private", "host", "transfer-encoding", "upgrade"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
}
