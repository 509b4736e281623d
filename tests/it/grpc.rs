//! Calls of gRPC through the gateway, with a real client and a real server.

use crate::gateway;
use crate::grpc_kit::{Client, Raw, Server, all, path};
use bytes::Bytes;
use futures_util::stream;
use std::time::Duration;
use testkit::{Address, Builder, Gateway, eventually, eventually_some, holds_for, pace, pattern};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

pub const CALLS: &str = r#"
[log]
access = { path = "access.log", format = "json" }
[listeners.web]
address = "127.0.0.1:0"
protocols = ["h2c"]
[[routes]]
upstream = "app"
timeouts = { @timeouts@ }
body_limit = "0"
[upstreams.app]
protocol = "h2"
endpoints = [{ address = "@app@" }]
"#;

pub fn calling(app: &Address, timeouts: &str) -> Builder {
    gateway(&CALLS.replace("@timeouts@", timeouts)).with("app", app)
}

/// A server, a gateway in front of it and a client.
pub fn all_three() -> (Server, Gateway, Client) {
    all_three_within("")
}

pub fn all_three_within(timeouts: &str) -> (Server, Gateway, Client) {
    let server = Server::start();
    let gateway = calling(&server.address(), timeouts).start();
    let client = Client::connect(&gateway.web());
    (server, gateway, client)
}

#[test]
fn one_message_for_one_goes_through() {
    let (server, gateway, client) = all_three();
    let answer = client.unary("Unary", "hello").unwrap();
    assert_eq!(answer.get_ref(), "hello");
    assert_eq!(client.unary("Unary", "").unwrap().into_inner(), "");
    assert_eq!((server.calls(), server.connections()), (2, 1));
    let metadata = server.metadata();
    assert_eq!(metadata.get("te").unwrap(), "trailers");
    assert_eq!(metadata.get("x-forwarded-for").unwrap(), "127.0.0.1");
    let record = gateway.access_record("/test.Echo/Unary");
    for (key, value) in [("status", 200), ("upstream_status", 200), ("grpc_status", 0)] {
        assert_eq!(record[key], value, "{key} in {record}");
    }
    assert_eq!(record["ended"], "done");
}

#[test]
fn metadata_goes_both_ways_binary_too() {
    let (server, _gateway, client) = all_three();
    let mut request = Request::new(Bytes::from("hi"));
    let metadata = request.metadata_mut();
    metadata.insert("x-token", "a b,c=\"d\"".parse().unwrap());
    metadata.append("x-many", "1".parse().unwrap());
    metadata.append("x-many", "2".parse().unwrap());
    let bytes: Vec<u8> = (0..=255).collect();
    metadata.insert_bin("x-data-bin", MetadataValue::from_bytes(&bytes));
    let answer = client.unary_with("Unary", request).unwrap();
    for metadata in [&server.metadata(), answer.metadata()] {
        assert_eq!(metadata.get("x-token").unwrap(), "a b,c=\"d\"");
        let many: Vec<_> = metadata.get_all("x-many").iter().collect();
        assert_eq!(many, ["1", "2"]);
        assert_eq!(metadata.get_bin("x-data-bin").unwrap().to_bytes().unwrap(), bytes);
    }
}

#[test]
fn a_failed_call_is_told_as_the_server_tells_it() {
    let (server, gateway, client) = all_three();
    for code in 1..=16 {
        let failed = client.unary("Fail", code.to_string()).unwrap_err();
        assert_eq!(failed.code(), Code::from_i32(code));
        assert_eq!(failed.message(), "told so: 100%\n\u{e9}");
        assert_eq!(failed.metadata().get("x-why").unwrap(), "because");
        assert!(failed.metadata().get("x-tidegate-error").is_none());
    }
    assert_eq!(client.unary("None", "").unwrap_err().code(), Code::Unimplemented);
    let labels = ["upstream=\"app\"", "grpc_status=\"UNIMPLEMENTED\""];
    assert_eq!(
        gateway.metric("tidegate_upstream_grpc_responses_total", &labels),
        2.0
    );
    assert_eq!(gateway.access_record("/test.Echo/None")["grpc_status"], 12);
    assert_eq!(server.connections(), 1);
}

#[test]
fn many_messages_for_one_end_as_the_server_ends_them() {
    let (_server, gateway, client) = all_three();
    let (messages, failed) = client.count("1000");
    assert_eq!(messages, (0..1000).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(client.count("0").0.len(), 0);
    // Behind messages, in trailers.
    let (messages, failed) = client.count("3 8");
    let failed = failed.unwrap();
    assert_eq!((messages.len(), failed.code()), (3, Code::ResourceExhausted));
    assert_eq!(failed.message(), "told so: 100%\n\u{e9}");
    assert_eq!(failed.metadata().get("x-why").unwrap(), "because");
    eventually("each is counted", || {
        let count = |status: &str| {
            let labels = ["upstream=\"app\"", &format!("grpc_status=\"{status}\"")];
            gateway.metric("tidegate_upstream_grpc_responses_total", &labels)
        };
        (count("OK"), count("RESOURCE_EXHAUSTED")) == (2.0, 1.0)
    });
}

#[test]
fn one_message_for_many() {
    let (_server, _gateway, client) = all_three();
    let sum = |messages: Vec<Bytes>| {
        client.run(async {
            let request = Request::new(stream::iter(messages));
            let mut grpc = client.grpc().await;
            grpc.client_streaming(request, path("Sum"), Raw)
                .await
                .unwrap()
                .into_inner()
        })
    };
    assert_eq!(sum(vec![Bytes::from_static(b"abc"); 1000]), "1000 3000");
    assert_eq!(sum(Vec::new()), "0 0");
}

#[test]
fn large_messages_pass_unchanged() {
    let (_server, _gateway, client) = all_three();
    let large = Bytes::from(pattern::bytes(20 << 20));
    let answer = client.unary("Unary", large.clone()).unwrap().into_inner();
    assert!(answer == large, "{} bytes", answer.len());
}

#[test]
fn each_message_of_a_conversation_flows_at_once() {
    let (server, gateway, client) = all_three();
    let mut chat = client.chat().unwrap();
    client.run(async {
        for i in 0..100 {
            chat.echo(&i.to_string()).await;
        }
    });
    assert_eq!(server.running(), 1);
    chat.done();
    client.run(async { assert!(chat.hear().await.unwrap().is_none()) });
    eventually("it is logged", || {
        gateway
            .access_log()
            .iter()
            .any(|record| record["grpc_status"] == 0)
    });
    eventually("it is over at the server", || server.running() == 0);
}

#[test]
fn a_call_that_is_cancelled_is_cancelled_at_the_server() {
    let (server, gateway, client) = all_three();
    let mut chat = client.chat().unwrap();
    client.run(chat.echo("hi"));
    assert_eq!(server.running(), 1);
    drop(chat);
    eventually("it is over at the server", || {
        client.turn();
        server.running() == 0
    });
    // One that was asked, and does not answer.
    client.run(async {
        let mut grpc = client.grpc().await;
        let call = grpc.unary(Request::new(Bytes::new()), path("Hang"), Raw);
        tokio::select! {
            _ = call => panic!("an answer"),
            () = async {
                while server.running() == 0 {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    });
    eventually("it is over at the server", || {
        client.turn();
        server.running() == 0
    });
    assert_eq!(gateway.access_record("/test.Echo/Hang")["token"], "client_closed");
    // The connections are none the worse for it.
    assert_eq!(client.unary("Unary", "hi").unwrap().into_inner(), "hi");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_server_that_goes_away_in_the_middle_is_unavailable() {
    let (server, gateway, client) = all_three();
    let mut chat = client.chat().unwrap();
    client.run(chat.echo("hi"));
    let at = server.kill();
    let failed = client.run(chat.hear()).unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert!(failed.message().starts_with("aborted_upstream: "), "{failed:?}");
    assert_eq!(
        failed.metadata().get("x-tidegate-error").unwrap(),
        "aborted_upstream"
    );
    let record = gateway.access_record("/test.Echo/Chat");
    assert_eq!(
        (&record["grpc_status"], &record["token"]),
        (&14.into(), &"aborted_upstream".into())
    );
    assert_eq!(client.unary("Unary", "hi").unwrap_err().code(), Code::Unavailable);
    let server = Server::with(at, tonic::transport::Server::builder());
    eventually("it is back", || client.unary("Unary", "hi").is_ok());
    drop(server);
}

#[test]
fn a_hundred_calls_at_once_share_few_connections() {
    let (server, _gateway, client) = all_three();
    client.run(async {
        let mut chats = Vec::new();
        for _ in 0..100 {
            chats.push(client.begin_chat().await.unwrap());
        }
        for round in 0..3 {
            for (i, chat) in chats.iter_mut().enumerate() {
                chat.echo(&format!("{i} {round}")).await;
            }
        }
        assert_eq!(server.running(), 100);
        // In any order.
        for mut chat in chats.into_iter().rev() {
            chat.done();
            assert!(chat.hear().await.unwrap().is_none());
        }
    });
    // The gateway has two workers at most here, and the client one connection.
    assert!(server.connections() <= 2, "{}", server.connections());
}

#[test]
fn calls_live_on_over_a_reload() {
    let (server, gateway, client) = all_three();
    let mut chat = client.chat().unwrap();
    client.run(chat.echo("before"));
    let config = CALLS.replace("@timeouts@", "connect = \"5s\"");
    gateway.reload(&config.replace("@app@", &server.address().to_string()));
    client.run(chat.echo("after"));
    assert_eq!(client.unary("Unary", "hi").unwrap().into_inner(), "hi");
    chat.done();
    client.run(async { assert!(chat.hear().await.unwrap().is_none()) });
}

#[test]
fn a_gateway_that_shuts_down_lets_calls_end() {
    let (_server, mut gateway, client) = all_three();
    let mut chat = client.chat().unwrap();
    client.run(chat.echo("before"));
    gateway.signal(rustix::process::Signal::TERM);
    gateway.await_log("drain");
    client.run(async {
        chat.echo("after").await;
        chat.done();
        assert!(chat.hear().await.unwrap().is_none());
    });
    drop(client);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_server_that_says_goodbye_finishes_what_runs_and_gets_nothing_new() {
    let (mut server, _gateway, client) = all_three();
    let mut chat = client.chat().unwrap();
    client.run(chat.echo("before"));
    server.shut_down();
    client.run(async {
        chat.echo("after").await;
        chat.done();
        assert!(chat.hear().await.unwrap().is_none());
    });
    eventually("nobody is there", || client.unary("Unary", "hi").is_err());
    assert_eq!(client.unary("Unary", "hi").unwrap_err().code(), Code::Unavailable);
}

#[test]
fn a_silent_conversation_ends_when_its_route_says_so() {
    let (server, gateway, client) = all_three_within("idle = \"300ms\", response = \"10s\"");
    let mut chat = client.chat().unwrap();
    let failed = client.run(async {
        // Either side's word keeps it alive.
        for _ in 0..8 {
            pace(Duration::from_millis(60));
            chat.echo("still here").await;
        }
        chat.hear().await.unwrap_err()
    });
    assert_eq!(failed.code(), Code::DeadlineExceeded);
    let record = gateway.access_record("/test.Echo/Chat");
    assert_eq!(record["timeout"], "routes.timeouts.idle");
    eventually("it is over at the server", || server.running() == 0);
    // Nobody holds it against the endpoint.
    let labels = ["upstream=\"app\""];
    assert_eq!(gateway.metric("tidegate_endpoint_ejections_total", &labels), 0.0);
}

#[test]
fn limits_of_slow_uploads_are_not_for_conversations() {
    let server = Server::start();
    let config = CALLS.replace("@timeouts@", "").replace(
        "protocols = [\"h2c\"]",
        "protocols = [\"h2c\"]\nlimits = { body_idle = \"100ms\", min_rate = \"1MiB\" }",
    );
    let gateway = gateway(&config).with("app", server.address()).start();
    let client = Client::connect(&gateway.web());
    let mut chat = client.chat().unwrap();
    client.run(chat.echo("a"));
    holds_for(Duration::from_millis(400), "the call runs", || {
        client.turn();
        server.running() == 1
    });
    client.run(chat.echo("b"));
}

#[test]
fn a_deadline_ends_a_call_whose_answer_is_under_way() {
    let (server, gateway, client) = all_three_within("total = \"300ms\"");
    let mut chat = client.chat().unwrap();
    let failed = client.run(async {
        chat.echo("hi").await;
        chat.hear().await.unwrap_err()
    });
    assert!(
        matches!(failed.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{failed:?}"
    );
    eventually("it is over at the server", || server.running() == 0);
    let record = gateway.access_record("/test.Echo/Chat");
    assert_eq!(record["status"], 200);
}

#[test]
fn a_call_goes_to_another_server_where_statuses_of_grpc_say_so() {
    let (good, at) = (Server::start(), Server::start().kill());
    let config = CALLS.replace("@timeouts@", "").replace(
        "[{ address = \"@app@\" }]",
        "[{ address = \"@bad@\" }, { address = \"@app@\" }]\nbalance = \"first\"",
    );
    let gateway = gateway(&config)
        .with("app", good.address())
        .with("bad", Address::from(at))
        .start();
    let client = Client::connect(&gateway.web());
    // What was never sent may go anywhere.
    assert_eq!(client.unary("Unary", "hi").unwrap().into_inner(), "hi");
}

#[test]
fn a_status_of_grpc_can_be_tried_elsewhere_and_speak_against_an_endpoint() {
    use crate::h2_server::{Answer, Server as H2};
    let told = |code: &'static str| {
        H2::http(move |_| {
            Answer::ok("")
                .header("content-type", "application/grpc")
                .header("grpc-status", code)
        })
    };
    let (bad, good) = (told("14"), Server::start());
    let config = CALLS.replace("@timeouts@", "").replace(
        "[{ address = \"@app@\" }]",
        "[{ address = \"@bad@\" }, { address = \"@app@\" }]\nbalance = \"first\"\n\
         retry = { on = [\"grpc_unavailable\"], non_idempotent = true }\n\
         outlier = { consecutive_failures = 3, on = [\"grpc_unavailable\"], eject = \"1h\" }",
    );
    let gateway = gateway(&config)
        .with("app", good.address())
        .with("bad", bad.address())
        .start();
    let client = Client::connect(&gateway.web());
    for _ in 0..6 {
        assert_eq!(client.unary("Unary", "hi").unwrap().into_inner(), "hi");
    }
    assert_eq!(bad.hits(), 3);
    let ejected = eventually_some("it is told", || gateway.events("endpoint.ejected").pop());
    assert_eq!(
        ejected["reason"],
        "3 failures in a row, the last: gRPC status UNAVAILABLE; left alone for 3600.0 s"
    );
    // An application's own word is not.
    let failed = client.unary("Fail", "13").unwrap_err();
    assert_eq!((failed.code(), good.calls()), (Code::Internal, 7));
}

#[test]
fn messages_may_wait_for_a_slow_reader_without_end() {
    let (_server, gateway, client) = all_three();
    let before = gateway.rss_kb();
    client.run(async {
        let request = Request::new(Bytes::from("500000"));
        let mut grpc = client.grpc().await;
        let answer = grpc.server_streaming(request, path("Count"), Raw).await.unwrap();
        // Nothing of it is read for a while.
        let mut other = client.begin_chat().await.unwrap();
        other.echo("meanwhile").await;
        let (messages, failed) = all(answer.into_inner()).await;
        assert!(failed.is_none(), "{failed:?}");
        assert_eq!(messages.len(), 500_000);
    });
    assert!(gateway.rss_kb() < before + 32 * 1024);
}
