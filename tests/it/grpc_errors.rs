//! What callers of gRPC are told when the gateway fails them, and how long their calls may take.

use crate::gateway;
use crate::grpc_kit::{Client, ending};
use crate::h2_client;
use crate::h2_server::{Answer, Server as H2};
use bytes::Bytes;
use http::{HeaderMap, Request};
use testkit::net::{Blackhole, Refused};
use testkit::{Address, Backend, Builder, Gate, Gateway, Reply, eventually};
use tonic::Code;

const CALLS: &str = r#"
[log]
access = { path = "access.log", format = "json" }
[listeners.web]
address = "127.0.0.1:0"
protocols = ["h1", "h2c"]
limits = { body = "64KiB" }
[[routes]]
paths = ["/test.Echo"]
upstream = "app"
timeouts = { @timeouts@ }
[upstreams.app]
endpoints = [{ address = "@app@" }]
retry = { attempts = 1 }
"#;

fn calling(app: &Address, timeouts: &str) -> Builder {
    gateway(&CALLS.replace("@timeouts@", timeouts)).with("app", app)
}

fn call(path: &str, fields: &[(&'static str, &str)]) -> Request<()> {
    let mut request = h2_client::post(path);
    let headers = request.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("te", "trailers".parse().unwrap());
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    request
}

/// A message as it goes over the wire.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.to_str().unwrap())
}

/// An answer of ours: nothing but its end.
#[track_caller]
fn is_told(answer: &h2_client::Answer, code: &str, token: &str) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status"), Some(code), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert_eq!(answer.token(), Some(token));
    assert!(
        answer
            .header("grpc-message")
            .unwrap()
            .starts_with(&format!("{token}: "))
    );
    assert_eq!(answer.header("content-length"), None);
    assert!(answer.body.is_empty() && answer.trailers.is_none());
}

#[test]
fn a_real_client_reads_our_errors() {
    let refused = Refused::new();
    let gateway = calling(&refused.address(), "").start();
    let client = Client::connect(&gateway.web());
    let failed = client.unary("Unary", "hi").unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert_eq!(
        failed.message(),
        "connect_failed: The endpoint could not be reached."
    );
    assert_eq!(
        failed.metadata().get("x-tidegate-error").unwrap(),
        "connect_failed"
    );
    assert!(failed.metadata().get("x-request-id").is_some());
    let record = gateway.access_record("/test.Echo/Unary");
    assert_eq!(
        (&record["status"], &record["grpc_status"], &record["token"]),
        (&502.into(), &14.into(), &"connect_failed".into())
    );
    let (route, class) = ("upstream=\"app\"", "code_class=\"5xx\"");
    assert_eq!(gateway.metric("tidegate_requests_total", &[route, class]), 1.0);
}

#[test]
fn each_error_is_a_status_of_grpc() {
    let blackhole = Blackhole::new();
    let gateway = calling(&blackhole.address(), "connect = \"200ms\"").start();
    let client = h2_client::Client::connect(&gateway.web());
    let ask = |request, body: &[u8]| client.ask(request, body);
    is_told(&ask(call("/other.Service/Method", &[]), b""), "12", "no_route");
    is_told(&ask(call("/test.Echo/A", &[]), b""), "14", "connect_timeout");
    is_told(&ask(call("/test.Echo/%zz", &[]), b""), "13", "bad_request");
    is_told(
        &ask(call("/test.Echo/A", &[("host", "elsewhere")]), b""),
        "13",
        "bad_host",
    );
    let long = "x".repeat(33_000);
    is_told(
        &ask(call("/test.Echo/A", &[("x-long", &long)]), b""),
        "8",
        "headers_too_large",
    );
    is_told(
        &ask(
            call("/test.Echo/A", &[("content-length", "100000")]),
            &[0; 100_000],
        ),
        "8",
        "body_too_large",
    );
    for suffix in ["application/grpc+proto", "Application/gRPC; x=y"] {
        let mut request = call("/other", &[]);
        request
            .headers_mut()
            .insert("content-type", suffix.parse().unwrap());
        assert_eq!(ask(request, b"").header("grpc-status"), Some("12"));
    }
}

#[test]
fn everybody_else_gets_a_page() {
    let refused = Refused::new();
    let gateway = calling(&refused.address(), "").start();
    let client = h2_client::Client::connect(&gateway.web());
    for kind in [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/json",
    ] {
        let mut request = call("/test.Echo/A", &[]);
        request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
        let answer = client.ask(request, b"");
        assert_eq!(
            (answer.status, answer.token()),
            (502, Some("connect_failed")),
            "{kind}"
        );
        assert_eq!(answer.header("grpc-status"), None);
        assert!(!answer.body.is_empty());
    }
}

#[test]
fn in_http_1_too_a_call_is_answered_in_its_own_terms() {
    let refused = Refused::new();
    let gateway = calling(&refused.address(), "").start();
    let mut conn = gateway.connect();
    for _ in 0..2 {
        let answer = conn
            .send("POST /test.Echo/A HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n")
            .response();
        assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")));
        assert_eq!(answer.header("content-length"), Some("0"));
    }
}

#[test]
fn a_time_allowed_that_is_none_is_refused() {
    let backend = Backend::text("never asked");
    let gateway = calling(&backend.address(), "").start();
    let client = h2_client::Client::connect(&gateway.web());
    for value in ["", "1", "S", "1s", "-1S", "123456789S", "1.5S"] {
        let answer = client.ask(call("/test.Echo/A", &[("grpc-timeout", value)]), b"");
        is_told(&answer, "13", "bad_request");
    }
    let twice = call("/test.Echo/A", &[("grpc-timeout", "1S"), ("grpc-timeout", "2S")]);
    is_told(&client.ask(twice, b""), "13", "bad_request");
    assert_eq!(backend.hits(), 0);
    assert_eq!(
        gateway.access_record("/test.Echo/A")["detail"],
        "grpc-timeout is malformed"
    );
    // Of no concern to anybody else.
    let mut plain = h2_client::post("/test.Echo/A");
    plain
        .headers_mut()
        .insert("grpc-timeout", "nonsense".parse().unwrap());
    assert_eq!(client.ask(plain, b"").text(), "never asked");
}

#[test]
fn no_endpoint_is_bothered_when_the_time_is_over_already() {
    let backend = Backend::text("never asked");
    let gateway = calling(&backend.address(), "").start();
    let client = h2_client::Client::connect(&gateway.web());
    for value in ["0S", "1n"] {
        let answer = client.ask(call("/test.Echo/A", &[("grpc-timeout", value)]), b"");
        is_told(&answer, "4", "deadline");
    }
    assert_eq!(backend.hits(), 0);
}

fn hung(timeouts: &str) -> (Backend, Gateway) {
    let backend = Backend::http(|_| Reply::hang());
    let gateway = calling(&backend.address(), timeouts).start();
    (backend, gateway)
}

#[test]
fn whichever_deadline_is_sooner_ends_a_call() {
    for (timeouts, allowed, token, key) in [
        ("total = \"0s\"", "200m", "deadline", "grpc-timeout"),
        ("total = \"1h\"", "200m", "deadline", "grpc-timeout"),
        ("total = \"200ms\"", "1H", "deadline", "routes.timeouts.total"),
        (
            "response = \"200ms\"",
            "1H",
            "response_timeout",
            "routes.timeouts.response",
        ),
    ] {
        let (backend, gateway) = hung(timeouts);
        let client = h2_client::Client::connect(&gateway.web());
        let answer = client.ask(call("/test.Echo/A", &[("grpc-timeout", allowed)]), &framed(b"x"));
        is_told(&answer, "4", token);
        assert_eq!(backend.hits(), 1, "{timeouts} {allowed}");
        let record = gateway.access_record("/test.Echo/A");
        assert_eq!(
            (&record["timeout"], &record["status"]),
            (&key.into(), &504.into())
        );
        eventually("the endpoint is let go", || backend.open_connections() == 0);
    }
}

/// What an endpoint was told of the time left, in microseconds.
fn left(backend: &Backend) -> Option<u64> {
    let request = backend.requests().pop().unwrap();
    let value = request.header("grpc-timeout")?.to_owned();
    let (digits, unit) = value.split_at(value.len() - 1);
    let number: u64 = digits.parse().unwrap();
    Some(match unit {
        "n" => number / 1000,
        "u" => number,
        "m" => number * 1000,
        "S" => number * 1_000_000,
        _ => panic!("{value}"),
    })
}

#[test]
fn endpoints_are_told_how_much_time_is_left() {
    const MINUTE: u64 = 60_000_000;
    let backend = Backend::text("hi");
    let told = |timeouts: &str, allowed: Option<&str>| {
        let gateway = calling(&backend.address(), timeouts).start();
        let client = h2_client::Client::connect(&gateway.web());
        let fields: Vec<_> = allowed.iter().map(|value| ("grpc-timeout", *value)).collect();
        assert_eq!(client.ask(call("/test.Echo/A", &fields), b"").text(), "hi");
        left(&backend)
    };
    for (timeouts, allowed) in [
        ("", Some("1M")),
        ("total = \"1h\"", Some("1M")),
        ("total = \"60s\"", Some("1H")),
        ("total = \"60s\"", None),
    ] {
        let told = told(timeouts, allowed).unwrap();
        assert!(
            told < MINUTE && told > MINUTE / 2,
            "{told} of {timeouts} {allowed:?}"
        );
    }
    assert_eq!(told("", None), None);
}

#[test]
fn a_second_endpoint_is_told_what_the_first_has_left() {
    let gate = Gate::new();
    let held = gate.clone();
    let first = Backend::http(move |_| Reply::new(503, "no").held_by(&held));
    let second = Backend::text("hi");
    let config = CALLS
        .replace("@timeouts@", "")
        .replace(
            "endpoints = [{ address = \"@app@\" }]",
            "endpoints = [{ address = \"@app@\" }, { address = \"@other@\" }]\nbalance = \"first\"",
        )
        .replace("attempts = 1", "attempts = 2, non_idempotent = true");
    let gateway = gateway(&config)
        .with("app", first.address())
        .with("other", second.address())
        .start();
    let client = h2_client::Client::connect(&gateway.web());
    let call = call("/test.Echo/A", &[("grpc-timeout", "30S")]);
    let answer = client.run(async {
        let (answer, mut stream) = client.begin(call, false).await.unwrap();
        stream.send_data(Bytes::from(framed(b"x")), true).unwrap();
        let opened = std::thread::spawn(move || {
            gate.reached();
            testkit::pace(std::time::Duration::from_millis(5));
            gate.open();
        });
        let answer = h2_client::whole(answer.await.unwrap()).await.unwrap();
        opened.join().unwrap();
        answer
    });
    assert_eq!(answer.text(), "hi");
    assert!(
        left(&second) < left(&first),
        "{:?} {:?}",
        left(&second),
        left(&first)
    );
    assert_eq!(second.requests()[0].headers.all("grpc-timeout").len(), 1);
}

#[test]
fn an_answer_of_something_else_passes_as_it_is() {
    let backend = Backend::http(|_| Reply::new(503, "<h1>no</h1>").header("Content-Type", "text/html"));
    let gateway = calling(&backend.address(), "").start();
    let client = h2_client::Client::connect(&gateway.web());
    let answer = client.ask(call("/test.Echo/A", &[]), b"");
    assert_eq!((answer.status, answer.text().as_str()), (503, "<h1>no</h1>"));
    assert_eq!(answer.header("grpc-status"), None);
}

#[test]
fn an_answer_that_is_nothing_but_its_end_stays_one() {
    let server = H2::http(|seen| {
        let answer = Answer::ok("").header("content-type", "application/grpc");
        match seen.path.as_str() {
            "/test.Echo/Empty" => ending(answer, &[("grpc-status", "0"), ("x_under_score", "kept")]),
            _ => answer
                .header("grpc-status", "5")
                .header("grpc-message", "not here"),
        }
    });
    let config = CALLS
        .replace("@timeouts@", "")
        .replace("[upstreams.app]", "[upstreams.app]\nprotocol = \"h2\"");
    let gateway = gateway(&config).with("app", server.address()).start();
    let client = h2_client::Client::connect(&gateway.web());
    client.run(async {
        let (answer, _) = client.begin(call("/test.Echo/Fail", &[]), true).await.unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(text(answer.headers(), "grpc-status"), Some("5"));
        assert!(answer.body().is_end_stream());
    });
    let empty = client.ask(call("/test.Echo/Empty", &[]), b"");
    assert_eq!(empty.header("grpc-status"), None);
    let trailers = empty.trailers.unwrap();
    assert_eq!(text(&trailers, "grpc-status"), Some("0"));
    assert_eq!(text(&trailers, "x_under_score"), Some("kept"));
    // To HTTP/1.1 it goes with a length, or nobody would know its end.
    let mut conn = gateway.connect();
    let answer = conn
        .send("POST /test.Echo/Fail HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .response();
    assert_eq!(
        (answer.header("grpc-status"), answer.header("content-length")),
        (Some("5"), Some("0"))
    );
}
