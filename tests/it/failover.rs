//! What happens to a request when the first choice of endpoint can't have it, and when it must not be repeated.

use crate::gateway;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::net::{Blackhole, Refused};
use testkit::{Backend, Gateway, Reply, eventually};

fn two(first: impl std::fmt::Display, second: impl std::fmt::Display) -> Gateway {
    gateway(
        r#"
        runtime = { workers = 1 }
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        timeouts = { connect = "300ms" }
        [upstreams.app]
        endpoints = [{ address = "@first@" }, { address = "@second@" }]
        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("first", first)
    .with("second", second)
    .start()
}

fn post(target: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody")
}

#[test]
fn a_request_that_an_endpoint_refuses_to_take_goes_to_another_whatever_its_method() {
    let refused = Refused::new();
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = two(refused.address(), backend.address());
    for n in 0..6 {
        let answer = gateway.send(post(&format!("/{n}")));
        assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
    }
    assert_eq!(backend.hits(), 6);
    eventually("all are logged", || gateway.access_log().len() == 6);
    let log = gateway.access_log();
    let repeated = log
        .iter()
        .find(|r| r["attempts"].as_array().is_some_and(|a| a.len() == 2));
    let attempts = &repeated.expect("a record with two attempts")["attempts"];
    assert_eq!(attempts[0]["endpoint"], refused.address().to_string().as_str());
    assert_eq!(
        (&attempts[0]["outcome"], &attempts[0]["token"]),
        (&"failed".into(), &"connect_failed".into())
    );
    assert_eq!(
        (&attempts[1]["outcome"], &attempts[1]["status"]),
        (&"answered".into(), &200.into())
    );
}

#[test]
fn an_endpoint_that_never_accepts_is_passed_over_after_the_connect_timeout() {
    let blackhole = Blackhole::new();
    let backend = Backend::text("hi");
    let gateway = two(blackhole.address(), backend.address());
    for _ in 0..4 {
        assert_eq!(gateway.send(post("/")).status, 200);
    }
}

#[test]
fn when_no_endpoint_takes_it_the_client_learns_of_the_last_cause() {
    let (one, two_) = (Refused::new(), Refused::new());
    two(one.address(), two_.address())
        .get("/")
        .expect(502, Some("connect_failed"));
}

#[test]
fn a_pooled_connection_that_died_meanwhile_costs_nobody_a_request() {
    let backend = Backend::text("hi");
    let gateway = crate::in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..10 {
        assert_eq!(conn.get("/").status, 200);
        backend.close_connections();
    }
}

#[test]
fn a_get_on_a_connection_that_dies_under_it_is_tried_again_elsewhere() {
    // Takes the second request of each connection and closes: the race every pool runs.
    let backend = Backend::http(|r| {
        if r.number % 2 == 1 {
            Reply::close()
        } else {
            Reply::ok("hi")
        }
    });
    let gateway = crate::in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..10 {
        assert_eq!(conn.get("/").status, 200);
    }
}

#[test]
fn a_post_on_a_connection_that_dies_under_it_is_never_sent_twice() {
    let posts = std::sync::Arc::new(AtomicUsize::new(0));
    let count = posts.clone();
    let backend = Backend::http(move |r| {
        if r.method == "POST" {
            count.fetch_add(1, Ordering::SeqCst);
            return Reply::close();
        }
        Reply::ok("hi")
    });
    let gateway = crate::in_front_of(&backend);
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/").status, 200);
    conn.send(post("/"))
        .response_to("POST")
        .expect(502, Some("upstream_reset"));
    assert_eq!(posts.load(Ordering::SeqCst), 1);
}

#[test]
fn an_endpoint_that_comes_back_gets_requests_again() {
    let (a, b) = (Backend::text("a"), Backend::text("b"));
    let gateway = two(a.address(), b.address());
    a.down();
    for _ in 0..6 {
        assert_eq!(gateway.get("/").text(), "b");
    }
    a.up();
    eventually("it is chosen again", || gateway.get("/").text() == "a");
}

#[test]
fn an_answer_that_failed_after_its_head_is_not_tried_again() {
    let backend = Backend::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
    let other = Backend::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
    let gateway = two(backend.address(), other.address());
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = conn.try_response_to("GET").expect("a head");
    assert!(answer.status == 200 && answer.cut.is_some());
    assert_eq!(backend.hits() + other.hits(), 1);
    let record = gateway.access_record("/");
    assert_eq!(
        (&record["token"], &record["status"]),
        (&"aborted_upstream".into(), &200.into()),
        "{record}"
    );
}

#[test]
fn the_total_time_is_not_spent_on_one_endpoint_after_another() {
    let (first, second) = (Blackhole::new(), Blackhole::new());
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        timeouts = { connect = "10s", total = "300ms" }
        [upstreams.app]
        endpoints = [{ address = "@first@" }, { address = "@second@" }]
        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("first", first.address())
    .with("second", second.address())
    .start();
    gateway.get("/late").expect(504, Some("deadline"));
    let record = gateway.access_record("/late");
    assert_eq!(record["attempts"].as_array().map(Vec::len), Some(1), "{record}");
}

#[test]
fn a_request_without_host_names_the_endpoint_that_gets_it() {
    let refused = Refused::new();
    let backend = Backend::text("hi");
    let gateway = two(refused.address(), backend.address());
    for _ in 0..4 {
        assert_eq!(gateway.send("GET / HTTP/1.0\r\n\r\n").status, 200);
        let host = backend.last_request().header("host").map(str::to_owned);
        assert_eq!(host, Some(backend.address().to_string()));
    }
}
