//! Every limit and deadline of a listener: where it lies, what the client is told, that nobody else pays.

use crate::gateway;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use testkit::{Backend, Broken, Conn, Gateway, Reply, eventually, eventually_some, holds_for, pace, pattern};

/// One listener with these limits in front of a backend.
fn limited(backend: &Backend, limits: &str) -> Gateway {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        limits = { @limits@ }

        [[routes]]
        upstream = "app"

        [upstreams.app]
        endpoints = [{ address = "@app@" }]

        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("limits", limits)
    .with("app", backend.address())
    .start()
}

#[test]
fn a_head_over_its_bytes_is_refused() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"header_bytes = "1KiB""#);
    let with = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: test\r\nX-Long: {}\r\n\r\n",
            "a".repeat(n)
        )
    };
    assert_eq!(gateway.send(with(800)).status, 200);
    let mut conn = gateway.connect();
    conn.send(with(1100))
        .response()
        .expect(431, Some("headers_too_large"));
    conn.expect_end();
    // Also when the head never ends.
    let mut conn = gateway.connect();
    conn.send(&with(4000)[..3000])
        .response()
        .expect(431, Some("headers_too_large"));
    conn.expect_end();
    assert_eq!(backend.hits(), 1);
}

#[test]
fn too_many_fields_are_refused() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, "headers = 10");
    let with = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: test\r\n{}\r\n",
            "X-A: b\r\n".repeat(n - 1)
        )
    };
    assert_eq!(gateway.send(with(10)).status, 200);
    gateway.send(with(11)).expect(431, Some("headers_too_large"));
}

#[test]
fn a_target_over_its_length_is_refused() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"uri_bytes = "64B""#);
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(63))).status, 200);
    let mut conn = gateway.connect();
    conn.get(&format!("/{}", "a".repeat(64)))
        .expect(414, Some("uri_too_long"));
    conn.expect_end();
}

#[test]
fn a_declared_body_over_the_limit_is_refused_before_an_endpoint_hears_of_it() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"body = "1KiB""#);
    let post = |n: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {n}\r\n\r\n{}",
            "a".repeat(n)
        )
    };
    assert_eq!(gateway.send(post(1024)).status, 200);
    let connections = backend.connections();
    let mut conn = gateway.connect();
    conn.send(post(1025))
        .response_to("POST")
        .expect(413, Some("body_too_large"));
    conn.expect_end();
    // The client that asks first is spared the upload.
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n");
    conn.response_to("POST").expect(413, Some("body_too_large"));
    assert_eq!((backend.hits(), backend.connections()), (1, connections));
}

#[test]
fn the_answer_to_a_body_too_large_reaches_a_client_that_goes_on_sending() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"body = "1KiB""#);
    for _ in 0..5 {
        let mut conn = gateway.connect();
        conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n");
        conn.send_while_taken(&pattern::bytes(200_000), Duration::from_millis(500));
        conn.response_to("POST").expect(413, Some("body_too_large"));
    }
}

#[test]
fn a_chunked_body_that_outgrows_the_limit_is_refused_and_never_completes() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"body = "1KiB""#);
    let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("200\r\n{}\r\n", "a".repeat(512));
    assert_eq!(gateway.send(format!("{head}{chunk}{chunk}0\r\n\r\n")).status, 200);
    let mut conn = gateway.connect();
    conn.send(format!("{head}{chunk}{chunk}1\r\na\r\n0\r\n\r\n"));
    conn.response_to("POST").expect(413, Some("body_too_large"));
    conn.expect_end();
    let mut conn = gateway.connect();
    conn.send(format!("{head}7fffffffffffffff\r\n"))
        .response_to("POST")
        .expect(413, Some("body_too_large"));
    assert_eq!(backend.hits(), 1);
}

#[test]
fn a_head_begun_must_end_in_time_whatever_trickles_in() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"header_timeout = "400ms""#);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: te")
        .response()
        .expect(408, Some("request_timeout"));
    conn.expect_end();

    let mut slow = gateway.connect();
    let begun = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        if slow.try_send([*byte]).is_err() || !slow.is_quiet() {
            break;
        }
        pace(Duration::from_millis(20));
    }
    slow.response().expect(408, Some("request_timeout"));
    assert!(
        begun.elapsed() >= Duration::from_millis(350),
        "cut too early: {:?}",
        begun.elapsed()
    );
    assert_eq!(backend.hits(), 0);
    let record = eventually_some("an access record", || gateway.access_log().pop());
    assert_eq!(record["timeout"], "listeners.limits.header_timeout", "{record}");
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_an_answer() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"header_timeout = "300ms", keep_alive = "300ms""#);
    gateway.connect().expect_end();
}

#[test]
fn an_idle_connection_is_closed_after_keep_alive_and_not_before() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"keep_alive = "700ms", header_timeout = "100ms""#);
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/").status, 200);
    // Longer than the head's deadline, which starts with the first byte.
    holds_for(Duration::from_millis(400), "idle and open", || conn.is_quiet());
    assert_eq!(conn.get("/").status, 200);
    conn.expect_end();
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"body_idle = "300ms", min_rate = "0B""#);
    let mut conn = gateway.connect();
    conn.send("POST /stalls HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nabc");
    conn.response_to("POST").expect(408, Some("request_timeout"));
    conn.expect_end();
    eventually("the endpoint's connection ends", || {
        backend.open_connections() == 0
    });
    assert_eq!(backend.hits(), 0);
    assert_eq!(
        gateway.access_record("/stalls")["timeout"],
        "listeners.limits.body_idle"
    );
}

#[test]
fn a_body_that_keeps_coming_is_not_given_up() {
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = limited(
        &backend,
        r#"body_idle = "400ms", header_timeout = "400ms", min_rate = "0B""#,
    );
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\n");
    for byte in b"12345678" {
        pace(Duration::from_millis(100));
        conn.send([*byte]);
    }
    assert_eq!(conn.response_to("POST").text(), "12345678");
}

#[test]
fn a_client_below_the_least_rate_is_cut() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"min_rate = "10KB", body_idle = "600ms""#);
    let mut conn = gateway.connect();
    conn.send("POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    eventually("the slow client is answered", || {
        let _ = conn.try_send("a");
        !conn.is_quiet()
    });
    conn.response_to("POST").expect(408, Some("request_timeout"));
    assert_eq!(
        gateway.access_record("/slow")["timeout"],
        "listeners.limits.min_rate"
    );
}

#[test]
fn a_client_that_stops_reading_is_cut() {
    let backend = Backend::http(|_| Reply::pattern(32 << 20));
    let gateway = limited(&backend, r#"send_timeout = "300ms", min_rate = "0B""#);
    let mut conn = Conn::connect(gateway.web()).with_receive_buffer(32 << 10);
    conn.send("GET /unread HTTP/1.1\r\nHost: test\r\n\r\n");
    let record = gateway.access_record("/unread");
    assert_eq!(record["timeout"], "listeners.limits.send_timeout", "{record}");
    assert_eq!(record["token"], "aborted_client", "{record}");
    let answer = conn.try_response_to("GET").expect("a head");
    assert!(answer.cut.is_some());
    eventually("the endpoint's connection ends", || {
        backend.open_connections() == 0
    });
}

/// A listener with these limits that answers everything itself, with so many bytes.
fn answering(body: usize, limits: &str) -> Gateway {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        limits = { @limits@ }

        [[routes]]
        respond = { body = "@body@" }

        [admin]
        address = "127.0.0.1:0"
        "#,
    )
    .with("limits", limits)
    .with("body", "x".repeat(body))
    .start()
}

#[test]
fn a_client_that_asks_on_and_on_and_reads_nothing_is_cut_and_costs_no_memory() {
    const REQUESTS: usize = 2000;
    const BODY: usize = 30_000;
    let gateway = answering(BODY, r#"send_timeout = "300ms", min_rate = "0B""#);
    let mut conn = Conn::connect(gateway.web()).with_receive_buffer(32 << 10);
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(REQUESTS));
    eventually("a request is served", || {
        gateway.metric("tidegate_requests_total", &[]) > 0.0
    });
    eventually("it is cut", || gateway.open_connections() == 0);
    let served = gateway.metric("tidegate_requests_total", &[]);
    assert!(served < REQUESTS as f64 / 2.0, "{served} requests were served");
}

#[test]
fn who_asks_on_and_on_and_reads_in_the_end_gets_every_answer() {
    const REQUESTS: usize = 500;
    let gateway = answering(30_000, r#"send_timeout = "20s""#);
    let mut conn = Conn::connect(gateway.web()).with_receive_buffer(32 << 10);
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(REQUESTS));
    for _ in 0..REQUESTS {
        assert_eq!(conn.response().body.len(), 30_000);
    }
}

#[test]
fn a_connection_serves_its_number_of_requests_and_says_which_is_the_last() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, "requests_per_connection = 3");
    let mut conn = gateway.connect();
    assert!(conn.get("/").keeps_alive());
    assert!(conn.get("/").keeps_alive());
    assert!(!conn.get("/").keeps_alive());
    conn.expect_end();
}

#[test]
fn a_connection_over_its_age_is_ended_after_an_answer() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, r#"max_connection_age = "300ms""#);
    let mut conn = gateway.connect();
    let last = eventually_some("an answer that ends the connection", || {
        pace(Duration::from_millis(20));
        match conn
            .try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .map(|()| conn.try_response_to("GET"))
        {
            Ok(Ok(answer)) if answer.keeps_alive() => None,
            end => Some(end),
        }
    });
    if let Ok(Ok(answer)) = last {
        assert_eq!(answer.status, 200);
        conn.expect_end();
    }
}

/// Whether a new connection is served.
fn served(mut conn: Conn) -> Option<Conn> {
    conn.set_timeout(Duration::from_millis(500));
    conn.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").ok()?;
    match conn.try_response_to("GET") {
        Ok(answer) => (answer.status == 200).then_some(conn),
        Err(Broken::Closed | Broken::Reset | Broken::TimedOut) => None,
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn a_listener_holds_its_number_of_connections_and_takes_new_ones_when_some_leave() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, "connections = 2");
    let first = served(gateway.connect()).expect("the first");
    let second = served(gateway.connect()).expect("the second");
    assert!(
        served(gateway.connect()).is_none(),
        "a third connection was served"
    );
    drop(first);
    let third = eventually_some("a new one is served", || served(gateway.connect()));
    assert!(served(gateway.connect()).is_none());
    drop((second, third));
}

#[test]
fn one_client_address_holds_its_number_of_connections_others_are_served() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, "connections_per_ip = 2");
    let from = |last: u8| served(Conn::connect_from(Ipv4Addr::new(127, 0, 0, last), gateway.web()));
    let first = from(1).expect("the first");
    let second = from(1).expect("the second");
    assert!(from(1).is_none(), "a third connection of one address was served");
    let other = from(2).expect("another address");
    let refused = gateway.metric("tidegate_connections_refused_total", &[r#"limit="client""#]);
    assert!(refused >= 1.0, "{refused}");
    drop(first);
    let third = eventually_some("a new one is served", || from(1));
    drop((second, third, other));
}

#[test]
fn the_process_holds_its_number_of_connections() {
    let backend = Backend::text("hi");
    let gateway = gateway(
        r#"
        runtime = { max_connections = 3, workers = 1 }
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("app", backend.address())
    .start();
    let held: Vec<Conn> = (0..3)
        .map(|_| served(gateway.connect()).expect("served"))
        .collect();
    assert!(
        served(gateway.connect()).is_none(),
        "a fourth connection was served"
    );
    drop(held);
    eventually("a new one is served", || served(gateway.connect()).is_some());
}

#[test]
fn a_limit_of_zero_is_no_limit_where_that_is_allowed() {
    let backend = Backend::http(|r| Reply::ok(r.body.len().to_string()));
    let gateway = limited(&backend, r#"body = "0B", min_rate = "0B""#);
    let body = pattern::bytes(12_000_000);
    let mut conn = gateway.connect();
    conn.send(format!(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ))
    .send(&body);
    assert_eq!(conn.response_to("POST").text(), body.len().to_string());
}
