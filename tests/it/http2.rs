//! HTTP/2 by prior knowledge, on the port of HTTP/1.1: one exchange behind both, so one routing, one policy, one log.

use crate::gateway;
use crate::h2_client::{Client, get, post, send_all, whole};
use h2::Reason;
use http::{HeaderMap, Request};
use std::future::poll_fn;
use testkit::{Backend, Broken, Builder, Conn, Gate, Gateway, Reply, eventually, pattern};

/// One listener for both protocols.
pub const BOTH: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
protocols = ["h1", "h2c"]

[[routes]]
upstream = "app"

[upstreams.app]
endpoints = [{ address = "@app@" }]
"#;

pub fn both(backend: &Backend) -> Builder {
    gateway(BOTH).with("app", backend.address())
}

pub fn limited(backend: &Backend, limits: &str) -> Gateway {
    let config = BOTH.replace("\n[[routes]]", &format!("limits = {{ {limits} }}\n\n[[routes]]"));
    gateway(&config).with("app", backend.address()).start()
}

#[test]
fn a_request_reaches_the_endpoint_as_one_of_http_1() {
    let backend = Backend::http(|r| {
        Reply::ok(format!("{} {}", r.method, r.target))
            .header("X-Mine", "1")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2")
            .header("Connection", "x-private")
            .header("X-Private", "for the hop")
            .header("Keep-Alive", "timeout=9")
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    let request = Request::get("http://Test.example:99/a?b=c")
        .header("x-a", "1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let answer = client.ask(request, b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /a?b=c"));
    assert_eq!(
        (answer.header("x-mine"), answer.header("content-length")),
        (Some("1"), Some("10"))
    );
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    for gone in ["connection", "keep-alive", "x-private", "transfer-encoding"] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
    let seen = backend.last_request();
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(seen.headers.all("host"), ["Test.example:99"]);
    assert_eq!(seen.headers.all("cookie"), ["a=1; b=2"]);
    assert_eq!(
        (
            seen.header("x-a"),
            seen.header("te"),
            seen.header("x-forwarded-for")
        ),
        (Some("1"), Some("trailers"), Some("127.0.0.1"))
    );
    assert!(!seen.headers.has("transfer-encoding") && !seen.headers.has("content-length"));
}

#[test]
fn both_protocols_are_spoken_on_one_port_each_where_it_is_allowed() {
    let backend = Backend::text("hi");
    let both = both(&backend).start();
    assert_eq!(both.get("/").text(), "hi");
    assert_eq!(Client::connect(&both.web()).get("/").text(), "hi");
    // What only begins like the other protocol's preface.
    let mut conn = both.connect();
    conn.send_bytewise("PRINT / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(conn.response_to("PRINT").status, 200);

    let only_2 = gateway(&BOTH.replace("\"h1\", ", ""))
        .with("app", backend.address())
        .start();
    assert_eq!(Client::connect(&only_2.web()).get("/").text(), "hi");
    let mut conn = only_2.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect_end();

    let only_1 = gateway(&BOTH.replace(", \"h2c\"", ""))
        .with("app", backend.address())
        .start();
    let answer = only_1.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(answer.token(), Some("http_version"));
}

#[test]
fn many_requests_run_at_once_on_one_connection() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |r| match r.target.as_str() {
        "/slow" => Reply::ok("slow").held_by(&held),
        path => Reply::ok(path),
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    client.run(async {
        let (slow, _) = client.begin(get("/slow"), true).await.unwrap();
        let mut running = Vec::new();
        for n in 0..100 {
            running.push((n, client.begin(get(&format!("/{n}")), true).await.unwrap().0));
        }
        for (n, answer) in running {
            assert_eq!(
                whole(answer.await.unwrap()).await.unwrap().text(),
                format!("/{n}")
            );
        }
        gate.open();
        assert_eq!(whole(slow.await.unwrap()).await.unwrap().text(), "slow");
    });
    assert_eq!(gateway.open_connections(), 1);
}

#[test]
fn bodies_pass_both_ways_with_and_without_a_length() {
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = limited(&backend, "body = \"10MB\"");
    let client = Client::connect(&gateway.web());
    for len in [1, 4095, 16_384, 16_385, 300_000, 3_000_000] {
        let body = pattern::bytes(len);
        let answer = client.ask(post("/"), &body);
        assert!(answer.body == body, "a body of {len} bytes changed");
        let seen = backend.last_request();
        assert!(seen.headers.chunked() && !seen.headers.has("content-length"));
        let mut with_length = post("/");
        with_length.headers_mut().insert("content-length", len.into());
        assert!(client.ask(with_length, &body).body == body);
        let seen = backend.last_request();
        assert_eq!(seen.header("content-length"), Some(len.to_string().as_str()));
        assert!(!seen.headers.chunked());
    }
    assert!(
        backend.connections() <= 2,
        "connections to the endpoint are reused: {}",
        backend.connections()
    );
}

#[test]
fn responses_of_every_framing_pass() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/length" => Reply::pattern(1_000_000),
        "/chunked" => Reply::chunked_pattern(1_000_000),
        "/close" => Reply::raw("HTTP/1.1 200 OK\r\n\r\n")
            .then(pattern::bytes(1_000_000))
            .then_close(),
        _ => Reply::new(204, ""),
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    for path in ["/length", "/chunked", "/close"] {
        let answer = client.get(path);
        assert!(answer.body == pattern::bytes(1_000_000), "{path}");
        assert_eq!(answer.header("content-length").is_some(), path == "/length");
    }
    let answer = client.get("/none");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    let head = Request::head("http://test/length").body(()).unwrap();
    let answer = client.ask(head, b"");
    assert_eq!(
        (answer.header("content-length"), answer.body.len()),
        (Some("1000000"), 0)
    );
}

#[test]
fn trailers_pass_both_ways() {
    let backend = Backend::http(|r| {
        let sum = r.trailers.get("x-sum").unwrap_or("none").to_owned();
        Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nGrpc-Status: {sum}\r\nContent-Length: 7\r\n\r\n"
        ))
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    let answer = client.run(async {
        let (answer, mut stream) = client.begin(post("/"), false).await.unwrap();
        send_all(&mut stream, b"body", false).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        trailers.insert("host", "forged".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        whole(answer.await.unwrap()).await.unwrap()
    });
    assert_eq!(answer.text(), "hi");
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers.get("grpc-status").unwrap(), "42");
    assert!(!trailers.contains_key("content-length"));
    assert_eq!(backend.last_request().body, b"body");
    assert!(!backend.last_request().trailers.has("host"));
}

#[test]
fn an_exchange_goes_both_ways_at_once() {
    let backend = Backend::script(|conn, visit| {
        let mut request = conn.try_request_head().expect("a head");
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..5 {
            // Each chunk is answered before the next one is sent.
            let line = conn.read_through(b"\r\n");
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            let len = usize::from_str_radix(&text, 16).expect("a size");
            let chunk = conn.read(len + 2);
            request.body.extend_from_slice(&chunk[..len]);
            conn.send(format!("{len:x}\r\n")).send(&chunk);
        }
        conn.read_through(b"0\r\n\r\n");
        conn.send("0\r\n\r\n");
        visit.hit(request);
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    client.run(async {
        let mut echo = client.converse().await;
        while let Some(rest) = echo.data().await {
            assert!(rest.unwrap().is_empty());
        }
    });
    assert_eq!(backend.last_request().body.len(), 45);
}

#[test]
fn an_early_answer_ends_the_upload_in_order() {
    let backend = Backend::script(|conn, _| {
        conn.try_request_head().expect("a head");
        conn.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
        conn.wait_for_end();
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    client.run(async {
        let (answer, mut stream) = client.begin(post("/"), false).await.unwrap();
        send_all(&mut stream, b"the beginning", false).await.unwrap();
        let answer = whole(answer.await.unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
        let reason = poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::NO_ERROR);
    });
}

#[test]
fn interim_responses_pass() {
    let backend = Backend::raw(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    );
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    client.run(async {
        let (mut answer, _) = client.begin(get("/"), true).await.unwrap();
        let hint = poll_fn(|cx| answer.poll_informational(cx))
            .await
            .expect("a hint")
            .unwrap();
        assert_eq!(hint.status(), 103);
        assert_eq!(hint.headers()["link"], "</a.css>");
        assert_eq!(whole(answer.await.unwrap()).await.unwrap().text(), "hi");
    });
}

#[test]
fn a_client_that_takes_its_request_back_cancels_it_at_the_endpoint() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/held" => Reply::hang(),
        _ => Reply::ok("hi"),
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    let (answer, mut stream) = client.run(async { client.begin(get("/held"), true).await.unwrap() });
    eventually("the request is at the endpoint", || {
        client.turn();
        backend.hits() == 1
    });
    stream.send_reset(Reason::CANCEL);
    assert_eq!(client.run(answer).unwrap_err().reason(), Some(Reason::CANCEL));
    eventually("its connection there is closed", || {
        client.turn();
        backend.open_connections() == 0
    });
    assert_eq!(client.get("/").text(), "hi");
}

#[test]
fn an_answer_that_breaks_off_is_a_reset_and_no_end() {
    let backend = Backend::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    let failed = client.try_ask(get("/"), b"").unwrap_err();
    assert_eq!(failed.reason(), Some(Reason::INTERNAL_ERROR));
    // The connection is none the worse for it.
    assert_eq!(
        client.try_ask(get("/"), b"").unwrap_err().reason(),
        Some(Reason::INTERNAL_ERROR)
    );
}

#[test]
fn errors_are_answered_on_their_stream_and_the_connection_goes_on() {
    let backend = Backend::text("hi");
    let config = BOTH
        .replace(
            "\n[[routes]]",
            "limits = { body = \"1KiB\", uri_bytes = \"100B\", header_bytes = \"1KiB\" }\n\n[[routes]]",
        )
        .replace("upstream = \"app\"\n", "upstream = \"app\"\npaths = [\"/app\"]\n");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let client = Client::connect(&gateway.web());
    let with = |path: &str, name: &'static str, value: &str| {
        let mut request = get(path);
        request.headers_mut().append(name, value.parse().unwrap());
        request
    };
    let twice = {
        let mut request = with("/app", "host", "test");
        request.headers_mut().append("host", "test".parse().unwrap());
        request
    };
    let long = "x".repeat(1000);
    for (request, status, token) in [
        (get("/nowhere"), 404, "no_route"),
        (get(&format!("/app/{long}")), 414, "uri_too_long"),
        (with("/app", "x-long", &long), 431, "headers_too_large"),
        (with("/app", "host", "other"), 400, "bad_host"),
        (twice, 400, "bad_host"),
        (get("/app/%zz"), 400, "bad_request"),
        (
            Request::get("http://user@test/app").body(()).unwrap(),
            400,
            "bad_host",
        ),
        (with("/app", "expect", "the moon"), 417, "expectation_failed"),
    ] {
        let answer = client.ask(request, b"");
        assert_eq!((answer.status, answer.token()), (status, Some(token)));
        assert!(answer.text().contains(token));
    }
    let connect = Request::connect("test:443").body(()).unwrap();
    assert_eq!(client.ask(connect, b"").token(), Some("method_not_allowed"));
    // Announced, and not.
    let mut announced = post("/app");
    announced.headers_mut().insert("content-length", 5000.into());
    assert_eq!(
        client.ask(announced, &[b'x'; 5000]).token(),
        Some("body_too_large")
    );
    assert_eq!(
        client.ask(post("/app"), &[b'x'; 5000]).token(),
        Some("body_too_large")
    );
    assert_eq!(client.get("/app").text(), "hi");
}

#[test]
fn a_request_that_finds_its_endpoint_dead_goes_to_another_one_with_its_body() {
    let (first, second) = (
        Backend::http(|_| Reply::close()),
        Backend::http(|r| Reply::ok(r.body.clone())),
    );
    let config = BOTH.replace(
        "endpoints = [{ address = \"@app@\" }]",
        "endpoints = [{ address = \"@app@\" }, { address = \"@other@\" }]\nbalance = \"first\"",
    );
    let gateway = gateway(&config)
        .with("app", first.address())
        .with("other", second.address())
        .start();
    let client = Client::connect(&gateway.web());
    let put = Request::put("http://test/").body(()).unwrap();
    assert_eq!(client.ask(put, b"again").text(), "again");
    assert_eq!((first.hits(), second.hits()), (1, 1));
}

#[test]
fn a_client_that_does_not_read_holds_up_its_endpoint_and_nobody_else() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/large" => Reply::pattern(64 << 20),
        _ => Reply::ok("small"),
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    let before = gateway.rss_kb();
    client.run(async {
        let mut held = Vec::new();
        for _ in 0..8 {
            // Nothing of them is read, so they stop when their windows are full.
            held.push(client.begin(get("/large"), true).await.unwrap().0.await.unwrap());
        }
        drop(held);
    });
    assert!(
        gateway.rss_kb() < before + 32 * 1024,
        "{} of {before}",
        gateway.rss_kb()
    );
    assert_eq!(client.get("/small").text(), "small");
}

#[test]
fn streams_without_anything_to_send_leave_the_window_to_others() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |r| match r.target.as_str() {
        "/silent" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
            .then_hold(&held)
            .then("end"),
        _ => Reply::pattern(300_000),
    });
    let gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    client.run(async {
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(client.begin(get("/silent"), true).await.unwrap().0.await.unwrap());
        }
        let (large, _) = client.begin(get("/large"), true).await.unwrap();
        let large = whole(large.await.unwrap()).await.unwrap();
        assert!(large.body == pattern::bytes(300_000));
        gate.open();
        for answer in silent {
            assert_eq!(whole(answer).await.unwrap().text(), "end");
        }
    });
}

#[test]
fn an_endpoint_that_does_not_read_holds_up_the_client() {
    let never = Gate::new();
    let held = never.clone();
    let slow = Backend::script(move |conn, _| {
        conn.try_request_head().expect("a head");
        held.wait();
    });
    let gateway = limited(
        &slow,
        "body = \"0\", h2_window = \"64KiB\", h2_connection_window = \"64KiB\"",
    );
    let client = Client::connect(&gateway.web());
    let sent = client.run(async {
        let (_answer, mut stream) = client.begin(post("/"), false).await.unwrap();
        let mut sent = 0;
        let piece = vec![b'x'; 16 * 1024];
        loop {
            let more = tokio::time::timeout(
                std::time::Duration::from_secs(1),
                send_all(&mut stream, &piece, false),
            );
            match more.await {
                Ok(done) => done.unwrap(),
                // Held up.
                Err(_) => return sent,
            }
            sent += piece.len();
            assert!(sent < 64 << 20, "nothing holds the client up");
        }
    });
    assert!(sent >= 64 * 1024, "{sent}");
    never.open();
}

#[test]
fn each_stream_is_a_record_and_is_counted() {
    let backend = Backend::text("hello");
    let config = format!("{BOTH}\n[log]\naccess = {{ path = \"access.log\", format = \"json\" }}\n");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let client = Client::connect(&gateway.web());
    client.ask(post("/first"), b"abc");
    client.get("/second");
    let record = gateway.access_record("/first");
    for (key, value) in [
        ("version", "HTTP/2.0"),
        ("method", "POST"),
        ("host", "test"),
        ("ended", "done"),
    ] {
        assert_eq!(record[key], value, "{key} in {record}");
    }
    assert_eq!(record["body_bytes_sent"], 5);
    assert!(record["bytes_received"].as_u64() > Some(20) && record["bytes_sent"].as_u64() > Some(20));
    assert_eq!(record["connection_requests"], 1);
    let second = gateway.access_record("/second");
    assert_eq!(second["connection_requests"], 2);
    assert_eq!(second["connection"], record["connection"]);
    assert_eq!(
        gateway.metric("tidegate_h2_connections_total", &["listener=\"web\""]),
        1.0
    );
    assert_eq!(
        gateway.metric("tidegate_h2_streams_total", &["listener=\"web\""]),
        2.0
    );
    assert_eq!(
        gateway.metric("tidegate_listener_requests_total", &["listener=\"web\""]),
        2.0
    );
    let (_answer, mut stream) = client.run(async { client.begin(post("/third"), false).await.unwrap() });
    eventually("the third runs", || {
        client.turn();
        gateway.metric("tidegate_h2_streams_open", &["listener=\"web\""]) == 1.0
    });
    stream.send_reset(Reason::CANCEL);
    eventually("the reset is counted", || {
        client.turn();
        let by_client = ["by=\"client\"", "code=\"cancel\""];
        gateway.metric("tidegate_h2_resets_total", &by_client) == 1.0
    });
    assert_eq!(gateway.access_record("/third")["status"], 499);
}

#[test]
fn curl_and_nghttp_are_served() {
    let backend = Backend::http(|r| Reply::ok(format!("{} {}", r.method, r.body.len())));
    let gateway = both(&backend).start();
    let url = format!("http://{}/", gateway.web());
    let run = |program: &str, args: &[&str]| match std::process::Command::new(program).args(args).output() {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            eprintln!("{program} is not here: {error}");
            None
        }
    };
    let args = ["-s", "--http2-prior-knowledge", "-w", " %{http_version}", &url];
    if let Some(said) = run("curl", &args) {
        assert_eq!(said, "GET 0 2");
        let with_body = ["-s", "--http2-prior-knowledge", "--data-binary", "abc", &url];
        assert_eq!(run("curl", &with_body).as_deref(), Some("POST 3"));
    }
    if let Some(said) = run("nghttp", &[&url]) {
        assert_eq!(said, "GET 0");
    }
}

#[test]
fn a_client_that_says_nothing_or_leaves_holds_nothing() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, "header_timeout = \"300ms\", keep_alive = \"300ms\"");
    let mut silent = gateway.connect();
    silent.expect_end();
    let mut half = gateway.connect();
    half.send("PRI * HTTP/2.0\r\n").expect_end();
    let mut gone = gateway.connect();
    gone.send("PRI * HT");
    gone.half_close();
    assert!(matches!(gone.try_response_to("GET"), Ok(_) | Err(Broken::Closed)));
    drop(Conn::connect(gateway.web()));
    eventually("no connection is open", || gateway.open_connections() == 0);
}
