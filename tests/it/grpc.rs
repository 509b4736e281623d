//! Calls of gRPC through the gateway, with a real client and a real server.

use crate::grpc_kit::{Client, Server};

#[test]
fn the_tools_work_without_a_gateway() {
    let mut server = Server::start();
    let client = Client::connect(&server.address());
    assert_eq!(client.unary("Unary", "hi").unwrap().into_inner(), "hi");
    assert_eq!(
        client.unary("Fail", "14").unwrap_err().code(),
        tonic::Code::Unavailable
    );
    let (messages, failed) = client.count("3 8");
    assert_eq!(
        (messages.len(), failed.unwrap().code()),
        (3, tonic::Code::ResourceExhausted)
    );
    let mut chat = client.chat().unwrap();
    client.run(chat.echo("a"));
    assert_eq!(server.running(), 1);
    server.shut_down();
    client.run(async {
        chat.echo("b").await;
        chat.done();
        assert!(chat.hear().await.unwrap().is_none());
    });
    assert_eq!(server.connections(), 1);
}
