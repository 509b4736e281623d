//! Calls of gRPC over TLS, on both sides of the gateway.

use crate::gateway;
use crate::grpc_kit::{Client, Server};
use testkit::{Ca, pattern};

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
tls = { certificates = [{ cert = "web.pem", key = "web.key" }] }
[[routes]]
upstream = "app"
body_limit = "0"
[upstreams.app]
protocol = "@protocol@"
tls = { server_name = "app.test", ca = "ca.pem" }
endpoints = ["@app@"]
"#;

#[test]
fn all_kinds_of_calls_go_over_tls() {
    let ca = Ca::new("test");
    let server = Server::start_tls(&ca.leaf(&["app.test"]));
    let web = ca.leaf(&["web.test"]);
    for protocol in ["h2", "auto"] {
        let gateway = gateway(&CONFIG.replace("@protocol@", protocol))
            .with("app", server.address())
            .file("ca.pem", ca.pem())
            .file("web.pem", &web.chain)
            .file("web.key", &web.key)
            .start();
        let client = Client::connect_tls(&gateway.web(), &ca, "web.test");
        assert_eq!(client.unary("Unary", "hi").unwrap().into_inner(), "hi");
        assert_eq!(
            client.unary("Fail", "9").unwrap_err().code(),
            tonic::Code::FailedPrecondition
        );
        assert_eq!(client.count("100").0.len(), 100);
        let large = bytes::Bytes::from(pattern::bytes(3 << 20));
        assert!(client.unary("Unary", large.clone()).unwrap().into_inner() == large);
        let mut chat = client.chat().unwrap();
        client.run(async {
            chat.echo("a").await;
            chat.echo("b").await;
            chat.done();
            assert!(chat.hear().await.unwrap().is_none());
        });
    }
}
