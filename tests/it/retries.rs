//! When a request goes on to another endpoint, and when the first answer is the last.

use crate::gateway;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::net::Refused;
use testkit::{Backend, Gate, Gateway, Reply, eventually, ws};

/// Endpoints `@list@` that are never ejected.
const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
timeouts = { connect = "500ms", response = "300ms" }
[upstreams.app]
endpoints = [@list@]
outlier = { max_ejected = 0 }
retry = { @retry@ }
[admin]
address = "127.0.0.1:0"
[log]
access = { path = "access.log", format = "json" }
"#;

fn over(addresses: &[String], retry: &str) -> testkit::Builder {
    let list: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    gateway(CONFIG).with("list", list.join(", ")).with("retry", retry)
}

/// A gateway in front of these, the first one first.
fn between(backends: &[&Backend], retry: &str) -> Gateway {
    let addresses: Vec<String> = backends.iter().map(|b| b.address().to_string()).collect();
    let gateway = over(&addresses, retry).start();
    start_at(&gateway, backends[0]);
    gateway
}

/// Sends requests until the next one is for this endpoint: turns begin anywhere.
fn start_at(gateway: &Gateway, backend: &Backend) {
    let address = backend.address().to_string();
    eventually("its turn comes", || {
        let told = gateway.admin_get("/api/v1/explain?url=/").json();
        let pick = told["upstreams"][0]["pick"].clone();
        pick == address.as_str() || gateway.get("/turn").status == 0
    });
}

/// Answers `/turn` with 200, whatever else it does.
fn backend(answer: impl Fn(&testkit::Request) -> Reply + Send + Sync + 'static) -> Backend {
    Backend::http(move |r| match r.target.as_str() {
        "/turn" => Reply::ok(""),
        _ => answer(r),
    })
}

fn hits(backend: &Backend) -> usize {
    let requests = backend.requests();
    requests.iter().filter(|r| r.target != "/turn").count()
}

fn request(method: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} /it HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

fn outcomes(gateway: &Gateway) -> Vec<String> {
    let record = gateway.access_record("/it");
    let attempts = record["attempts"].as_array().cloned().unwrap_or_default();
    let outcome = |a: &serde_json::Value| match a["status"].as_u64() {
        Some(status) => status.to_string(),
        None => a["token"].as_str().unwrap_or("?").to_owned(),
    };
    attempts.iter().map(outcome).collect()
}

#[test]
fn a_request_that_may_be_done_twice_goes_on_when_the_endpoint_closes_on_it() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let (a, b) = (backend(|_| Reply::close()), backend(|_| Reply::ok("b")));
        let gateway = between(&[&a, &b], "");
        let mut conn = gateway.connect();
        conn.send(request(method, "", ""))
            .response_to(method)
            .expect(200, None);
        assert_eq!((hits(&a) > 0, hits(&b)), (true, 1), "{method}");
        assert_eq!(outcomes(&gateway).last().map(String::as_str), Some("200"));
        let given = [&*format!("endpoint=\"{}\"", a.address())];
        let taken = [&*format!("endpoint=\"{}\"", b.address())];
        assert_eq!(gateway.metric("tidegate_retries_given_total", &given), 1.0);
        assert_eq!(gateway.metric("tidegate_retries_total", &taken), 1.0);
    }
}

#[test]
fn a_post_is_never_sent_twice_unless_it_says_that_it_may_be() {
    let (a, b) = (backend(|_| Reply::close()), backend(|_| Reply::ok("b")));
    let gateway = between(&[&a, &b], "");
    let answer = gateway.send(request("POST", "", "order"));
    answer.expect(502, Some("upstream_reset"));
    assert_eq!((hits(&a), hits(&b)), (1, 0));
    assert_eq!(
        gateway.metric("tidegate_retries_suppressed_total", &["reason=\"method\""]),
        1.0
    );

    let gateway = between(&[&a, &b], "");
    let answer = gateway.send(request("POST", "Idempotency-Key: 7\r\n", "order"));
    answer.expect(200, None);
    assert_eq!(b.last_request().body, b"order");
    let gateway = between(&[&a, &b], "non_idempotent = true");
    gateway.send(request("POST", "", "order")).expect(200, None);
}

#[test]
fn an_answer_that_is_turned_down_is_replaced_by_another_endpoints() {
    for status in [502, 503, 504] {
        let (a, b) = (
            backend(move |_| Reply::new(status, "a")),
            backend(|_| Reply::ok("b")),
        );
        let gateway = between(&[&a, &b], "");
        assert_eq!(gateway.get("/it").text(), "b");
        assert_eq!(outcomes(&gateway), [status.to_string(), "200".to_owned()]);
    }
    let (a, b) = (backend(|_| Reply::new(500, "a")), backend(|_| Reply::ok("b")));
    let gateway = between(&[&a, &b], "");
    assert_eq!(
        gateway.get("/it").status,
        500,
        "what the application says is an answer"
    );
    let gateway = between(&[&a, &b], "on = [\"5xx\"]");
    assert_eq!(gateway.get("/it").text(), "b");
}

#[test]
fn when_a_retry_is_refused_the_very_answer_is_passed_on() {
    let refuse = |body: &'static str| {
        backend(move |_| {
            Reply::new(503, body)
                .header("Retry-After", "7")
                .header("X-From", body)
        })
    };
    let (a, b) = (refuse("a"), refuse("b"));
    let gateway = between(&[&a, &b], "");
    let answer = gateway.get("/it");
    assert_eq!((answer.status, answer.text().as_str()), (503, "b"));
    assert_eq!(
        (answer.header("retry-after"), answer.header("x-from")),
        (Some("7"), Some("b"))
    );
    assert_eq!(answer.token(), None, "it is not the gateway's");
    assert_eq!(
        gateway.metric("tidegate_retries_suppressed_total", &["reason=\"attempts\""]),
        1.0
    );

    let gateway = between(&[&a, &b], "attempts = 1");
    assert_eq!(gateway.get("/it").text(), "a");
    let gateway = between(&[&a, &b], "on = []");
    assert_eq!(gateway.get("/it").text(), "a");
    let gateway = between(&[&a], "");
    assert_eq!(gateway.get("/it").text(), "a");
    assert_eq!(
        gateway.metric("tidegate_retries_suppressed_total", &["reason=\"endpoints\""]),
        1.0
    );
    let gateway = between(&[&a, &b], "");
    assert_eq!(gateway.send(request("POST", "", "x")).text(), "a");
}

#[test]
fn when_a_retry_fails_the_client_learns_of_that_and_the_log_of_both() {
    let a = backend(|_| Reply::new(503, "busy").header("Retry-After", "7"));
    let refused = Refused::new();
    let (closes, hangs) = (backend(|_| Reply::close()), backend(|_| Reply::hang()));
    for (other, status, token) in [
        (refused.address(), 502, "connect_failed"),
        (closes.address(), 502, "upstream_reset"),
        (hangs.address(), 504, "response_timeout"),
    ] {
        let config = CONFIG.replace("outlier =", "balance = \"first\"\noutlier =");
        let list = format!("\"{}\", \"{other}\"", a.address());
        let gateway = gateway(&config).with("list", list).with("retry", "").start();
        let answer = gateway.get("/it");
        answer.expect(status, Some(token));
        assert_eq!(answer.header("retry-after"), None, "{answer}");
        let outcomes = outcomes(&gateway);
        assert_eq!(outcomes[0], "503", "{outcomes:?}");
        // A kept connection that turns out to be dead is followed by a new one to the same endpoint.
        assert!(
            outcomes[1..].iter().all(|outcome| outcome == token),
            "{outcomes:?}"
        );
    }
}

#[test]
fn attempts_are_counted_with_the_first_and_have_names_that_systems_carry() {
    let refusing: Vec<Backend> = (0..3).map(|_| backend(|_| Reply::new(503, "no"))).collect();
    let good = backend(|_| Reply::ok("yes"));
    let backends: Vec<&Backend> = refusing.iter().chain([&good]).collect();
    let tried = || refusing.iter().map(hits).sum::<usize>();
    for (retry, variable, served) in [
        ("attempts = 3", None, false),
        ("attempts = 4", None, true),
        ("", Some(("LB_RETRY_ATTEMPTS", "3")), true),
        ("", Some(("LB_RETRY_ATTEMPTS", "2")), false),
        ("", Some(("FAILOVER_MAX_ATTEMPTS", "4")), true),
        ("", Some(("FAILOVER_MAX_ATTEMPTS", "3")), false),
        ("attempts = 4", Some(("LB_RETRY_ATTEMPTS", "0")), true),
    ] {
        let addresses: Vec<String> = backends.iter().map(|b| b.address().to_string()).collect();
        let mut builder = over(&addresses, retry);
        if let Some((name, value)) = variable {
            builder = builder.env(name, value);
        }
        let gateway = builder.start();
        start_at(&gateway, &refusing[0]);
        let before = tried();
        let answer = gateway.get("/it");
        assert_eq!(answer.status == 200, served, "{retry} {variable:?}");
        assert_eq!(tried() - before, 3, "{retry} {variable:?}");
    }
}

#[test]
fn what_was_never_sent_goes_anywhere_beyond_attempts_and_budget_until_that_is_turned_off() {
    let refused: Vec<Refused> = (0..4).map(|_| Refused::new()).collect();
    let good = backend(|r| Reply::ok(r.body.clone()));
    let mut addresses: Vec<String> = refused.iter().map(|r| r.address().to_string()).collect();
    addresses.push(good.address().to_string());
    let gateway = over(&addresses, "budget = 0").start();
    for _ in 0..60 {
        assert_eq!(gateway.send(request("POST", "", "body")).text(), "body");
    }
    for off in ["attempts = 1", "on = [\"reset\"]"] {
        let gateway = over(&addresses, off).start();
        let failed = (0..10)
            .filter(|_| gateway.send(request("POST", "", "")).status == 502)
            .count();
        assert_eq!(failed, 8, "{off}");
    }
}

#[test]
fn a_body_is_sent_again_as_it_was_and_one_too_long_is_sent_once() {
    let body = "0123456789".repeat(1000);
    let chunked = format!(
        "PUT /it HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n5;x=y\r\nabcde\r\n0\r\nX-T: 1\r\n\r\n",
        body.len()
    );
    for (sent, expected) in [
        (request("PUT", "", &body), body.clone()),
        (chunked, format!("{body}abcde")),
    ] {
        let (a, b) = (backend(|_| Reply::new(503, "a")), backend(|_| Reply::ok("b")));
        let gateway = between(&[&a, &b], "body = \"32KiB\"");
        assert_eq!(gateway.send(&sent).text(), "b");
        assert_eq!(b.last_request().body, expected.as_bytes());
        assert_eq!(a.last_request().body, expected.as_bytes());
        let gateway = between(&[&a, &b], "body = \"9KiB\"");
        let before = hits(&b);
        assert_eq!(gateway.send(&sent).text(), "a");
        assert_eq!(hits(&b), before);
        assert_eq!(
            gateway.metric("tidegate_retries_suppressed_total", &["reason=\"body\""]),
            1.0
        );
    }
}

#[test]
fn a_body_that_is_still_coming_goes_on_to_the_next_endpoint() {
    // Answers before it has read the body.
    let early = Backend::script(|conn, visit| {
        if let Ok(request) = conn.try_request_head() {
            visit.hit(request);
            let _ = conn.try_send("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let b = backend(|r| Reply::ok(r.body.clone()));
    let addresses = [early.address().to_string(), b.address().to_string()];
    let gateway = over(&addresses, "").start();
    for n in 0..4 {
        let mut conn = gateway.connect();
        conn.send("PUT /it HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234");
        if n % 2 == 1 {
            eventually("the first half arrived somewhere", || {
                early.hits() + b.received_bytes() > 0
            });
        }
        conn.send("56789");
        let answer = conn.response_to("PUT");
        assert_eq!((answer.status, answer.text().as_str()), (200, "0123456789"));
        assert_eq!(conn.get("/turn").status, 200, "the connection goes on");
    }
    assert!(early.hits() > 0);
}

#[test]
fn an_endpoint_that_accepts_and_says_nothing_costs_its_tries_deadline() {
    let (a, b) = (backend(|_| Reply::hang()), backend(|_| Reply::ok("b")));
    let gateway = between(&[&a, &b], "");
    let begun = Instant::now();
    assert_eq!(gateway.get("/it").text(), "b");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(outcomes(&gateway), ["response_timeout", "200"]);
    let gateway = between(&[&a, &b], "");
    gateway
        .send(request("POST", "", "x"))
        .expect(504, Some("response_timeout"));
}

#[test]
fn an_answer_that_has_begun_is_never_replaced() {
    let half = backend(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").then_close());
    let b = backend(|_| Reply::ok("b"));
    let gateway = between(&[&half, &b], "attempts = 3");
    let mut conn = gateway.connect();
    conn.send("GET /it HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = conn.try_response_to("GET").expect("a head");
    assert!(answer.status == 200 && answer.cut.is_some());
    assert_eq!(hits(&b), 0);
}

#[test]
fn a_handshake_that_is_turned_down_goes_to_another_endpoint() {
    let (a, b) = (
        backend(|_| Reply::new(503, "")),
        backend(|request| {
            let key = request.header("sec-websocket-key").unwrap_or_default();
            Reply::raw(ws::accepted(key) + "hello").then_hang()
        }),
    );
    let gateway = between(&[&a, &b], "");
    let mut conn = gateway.connect();
    conn.send(ws::handshake("/it", ""));
    let head = conn.read_through(b"\r\n\r\n");
    assert!(
        head.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&head)
    );
    assert_eq!(conn.read(5), b"hello");
}

#[test]
fn a_storm_is_held_by_the_budget_and_every_client_gets_an_answer() {
    const REQUESTS: usize = 1500;
    let answer = |_: &testkit::Request| Reply::new(503, "busy");
    let backends: Vec<Backend> = (0..3).map(|_| backend(answer)).collect();
    let refs: Vec<&Backend> = backends.iter().collect();
    let gateway = between(&refs, "attempts = 3, budget = 0.1");
    let begun = Instant::now();
    let mut conn = gateway.connect();
    for _ in 0..REQUESTS {
        let answer = conn.get("/it");
        assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    }
    let seconds = begun.elapsed().as_secs() as usize + 2;
    let retries = backends.iter().map(hits).sum::<usize>() - REQUESTS;
    assert!(
        retries <= REQUESTS / 10 + 10 * seconds + 10,
        "{retries} in {seconds} s"
    );
    assert!(retries >= REQUESTS / 20, "{retries}");
    assert!(gateway.metric("tidegate_retries_suppressed_total", &["reason=\"budget\""]) > 100.0);
    let upstream = gateway.admin_get("/api/v1/upstreams/app").json();
    assert!(
        upstream["endpoints"][0]["retries"]["suppressed"]["budget"].as_u64() > Some(10),
        "{upstream}"
    );
}

#[test]
fn requests_under_way_when_an_endpoint_dies_are_served_by_the_others() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = backend(move |_| Reply::ok("a").held_by(&held));
    let b = backend(|_| Reply::ok("b"));
    let gateway = over(&[a.address().to_string(), b.address().to_string()], "").start();
    let slow = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (gateway, slow) = (&gateway, &slow);
            scope.spawn(move || {
                let answer = gateway.get("/it");
                assert_eq!(answer.text(), "b", "{answer}");
                slow.fetch_add(1, Ordering::SeqCst);
            });
        }
        eventually("half of them wait", || gate.waiting() == 4);
        a.down();
        gate.open();
    });
    assert_eq!(slow.load(Ordering::SeqCst), 8);
}
