//! Every way a request ends badly has its status and its token, in a form that the client asked for.

use crate::{PLAIN, gateway};
use std::time::Duration;
use testkit::net::{Blackhole, Refused};
use testkit::{Backend, Gateway, Reply, eventually};

/// A row of the status table: what is sent, and what comes back.
#[track_caller]
fn row(gateway: &Gateway, request: &str, status: u16, token: &str) {
    let answer = gateway.send(request);
    assert_eq!(
        (answer.status, answer.token()),
        (status, Some(token)),
        "to {request:?}: {answer}"
    );
}

#[test]
fn each_refusal_of_a_request_has_its_row() {
    let backend = Backend::text("hi");
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        limits = { body = "10B", uri_bytes = "100B", header_bytes = "1KiB", header_timeout = "200ms" }
        [[routes]]
        paths = ["/app"]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("app", backend.address())
    .start();
    let host = "Host: test\r\n";
    row(
        &gateway,
        &format!("GET /a b HTTP/1.1\r\n{host}\r\n"),
        400,
        "bad_request",
    );
    row(&gateway, "GET / HTTP/1.1\r\n\r\n", 400, "bad_host");
    row(
        &gateway,
        &format!("GET / HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n"),
        400,
        "bad_framing",
    );
    row(
        &gateway,
        &format!("GET /nowhere HTTP/1.1\r\n{host}\r\n"),
        404,
        "no_route",
    );
    row(
        &gateway,
        &format!("TRACE /app HTTP/1.1\r\n{host}\r\n"),
        405,
        "method_not_allowed",
    );
    row(&gateway, "GET /app HTTP/1.1\r\nHost", 408, "request_timeout");
    row(
        &gateway,
        &format!("PUT /app HTTP/1.1\r\n{host}Content-Length: 11\r\n\r\n"),
        413,
        "body_too_large",
    );
    row(
        &gateway,
        &format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100)),
        414,
        "uri_too_long",
    );
    row(
        &gateway,
        &format!("GET /app HTTP/1.1\r\n{host}Expect: x\r\n\r\n"),
        417,
        "expectation_failed",
    );
    row(
        &gateway,
        &format!("GET /app HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(1000)),
        431,
        "headers_too_large",
    );
    row(
        &gateway,
        &format!("GET /app HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
        501,
        "not_implemented",
    );
    row(
        &gateway,
        &format!("GET /app HTTP/2.0\r\n{host}\r\n"),
        505,
        "http_version",
    );
    assert_eq!(backend.hits(), 0);
}

#[test]
fn each_failure_of_an_endpoint_has_its_row() {
    let refused = Refused::new();
    let blackhole = Blackhole::new();
    let backend = Backend::http(|r| match r.target.as_str() {
        "/close" => Reply::close(),
        "/reset" => Reply::reset(),
        "/garbage" => Reply::raw("what?\r\n\r\n").then_close(),
        "/upgrade" => {
            Reply::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        }
        _ => Reply::hang(),
    });
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        timeouts = { response = "300ms" }
        [[routes]]
        paths = ["/total"]
        upstream = "app"
        timeouts = { total = "300ms" }
        [[routes]]
        paths = ["/refused"]
        upstream = "refused"
        [[routes]]
        paths = ["/blackhole"]
        upstream = "blackhole"
        timeouts = { connect = "300ms" }
        [[routes]]
        paths = ["/none"]
        upstream = "none"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        [upstreams.refused]
        endpoints = [{ address = "@refused@" }]
        [upstreams.blackhole]
        endpoints = [{ address = "@blackhole@" }]
        [upstreams.none]
        endpoints = [{ address = "@app@", weight = 0 }]
        "#,
    )
    .with("app", backend.address())
    .with("refused", refused.address())
    .with("blackhole", blackhole.address())
    .start();
    for (target, status, token) in [
        ("/refused", 502, "connect_failed"),
        ("/close", 502, "upstream_reset"),
        ("/reset", 502, "upstream_reset"),
        ("/garbage", 502, "bad_response"),
        ("/upgrade", 502, "upgrade_refused"),
        ("/none", 503, "no_endpoint"),
        ("/blackhole", 504, "connect_timeout"),
        ("/hang", 504, "response_timeout"),
        ("/total", 504, "deadline"),
    ] {
        let mut conn = gateway.connect();
        let answer = conn.get(target);
        assert_eq!(
            (answer.status, answer.token()),
            (status, Some(token)),
            "{target}: {answer}"
        );
        // What an endpoint did wrong is no reason to end the client's connection.
        assert!(answer.keeps_alive(), "{target}: {answer}");
        assert_eq!(conn.get(target).status, status);
    }
    let metrics = gateway.metrics();
    for token in [
        "connect_failed",
        "upstream_reset",
        "bad_response",
        "connect_timeout",
        "response_timeout",
    ] {
        assert!(
            metrics.contains(&format!("token=\"{token}\"")),
            "no metric of {token}"
        );
    }
}

#[test]
fn a_name_that_does_not_resolve_fails_its_requests_and_nothing_else() {
    let backend = Backend::text("hi");
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        paths = ["/unknown"]
        upstream = "unknown"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        [upstreams.unknown]
        endpoints = [{ address = "no-such-host.invalid:80" }]
        "#,
    )
    .with("app", backend.address())
    .start();
    assert_eq!(gateway.get("/").status, 200);
    eventually("the failure has its token", || {
        let answer = gateway.get("/unknown");
        (answer.status, answer.token()) == (502, Some("dns_failed"))
    });
}

#[test]
fn names_are_resolved() {
    let backend = Backend::text("hi");
    let gateway = gateway(PLAIN)
        .with("app", format!("localhost:{}", backend.address().port()))
        .start();
    eventually("the name is known", || gateway.get("/").status == 200);
}

#[test]
fn error_pages_come_in_the_form_that_the_client_accepts() {
    let backend = Backend::text("hi");
    let gateway = gateway(&PLAIN.replace("[[routes]]", "[[routes]]\npaths = [\"/app\"]"))
        .with("app", backend.address())
        .start();
    let ask = |accept: &str| gateway.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{accept}\r\n"));
    for (accept, kind) in [
        ("", "text/plain"),
        ("Accept: */*\r\n", "text/plain"),
        (
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n",
            "text/html",
        ),
        ("Accept: application/json\r\n", "application/json"),
        (
            "Accept: text/html;q=0.1, application/json;q=0.9\r\n",
            "application/json",
        ),
        ("Accept: application/json;q=0, text/plain\r\n", "text/plain"),
        ("Accept: image/png\r\n", "text/plain"),
    ] {
        let page = ask(accept);
        page.expect(404, Some("no_route"));
        let got = page.header("content-type").unwrap_or_default().to_owned();
        assert!(got.starts_with(kind), "{accept:?}: {got}");
        assert!(
            page.text().contains("no_route") || page.text().contains("No route"),
            "{page}"
        );
    }
    let json = ask("Accept: application/json\r\n").json();
    assert_eq!(json["error"]["code"], "no_route", "{json}");
    assert!(json["error"]["request_id"].is_string(), "{json}");
}

#[test]
fn the_answer_to_head_has_the_head_of_the_page_and_no_body() {
    let backend = Backend::text("hi");
    let gateway = gateway(&PLAIN.replace("[[routes]]", "[[routes]]\npaths = [\"/app\"]"))
        .with("app", backend.address())
        .start();
    let mut conn = gateway.connect();
    let page = conn
        .send("HEAD /x HTTP/1.1\r\nHost: test\r\n\r\n")
        .response_to("HEAD");
    assert_eq!((page.status, page.token()), (404, Some("no_route")));
    assert_eq!(conn.get("/app").text(), "hi");
}

#[test]
fn pages_of_the_operator_replace_ours() {
    let backend = Backend::http(|_| Reply::close());
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        error_pages = { 502 = "pages/502.html", 404 = "pages/404.json" }
        [[routes]]
        paths = ["/app"]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .file("pages/502.html", "<h1>our own page</h1>")
    .file("pages/404.json", "{\"own\":true}")
    .with("app", backend.address())
    .start();
    let page = gateway.get("/app");
    page.expect(502, Some("upstream_reset"));
    assert_eq!(page.text(), "<h1>our own page</h1>");
    assert!(
        page.header("content-type")
            .unwrap_or_default()
            .starts_with("text/html")
    );
    let page = gateway.get("/none");
    assert_eq!((page.status, page.text().as_str()), (404, "{\"own\":true}"));
    assert!(
        page.header("content-type")
            .unwrap_or_default()
            .starts_with("application/json")
    );
}

#[test]
fn errors_of_the_application_pass_untouched() {
    let backend = Backend::http(|_| Reply::new(502, "the app's own").header("X-App", "1"));
    let gateway = gateway(&PLAIN.replace("[[routes]]", "error_pages = { 502 = \"page.html\" }\n[[routes]]"))
        .file("page.html", "ours")
        .with("app", backend.address())
        .start();
    let answer = gateway.get("/");
    answer.expect(502, None);
    assert_eq!(
        (answer.text().as_str(), answer.header("x-app")),
        ("the app's own", Some("1"))
    );
}

#[test]
fn the_token_header_can_be_turned_off() {
    let backend = Backend::text("hi");
    let config = PLAIN.replace(
        "[[routes]]",
        "error_header = false\n[[routes]]\npaths = [\"/app\"]",
    );
    let gateway = gateway(&config).with("app", backend.address()).start();
    gateway.get("/none").expect(404, None);
}

#[test]
fn a_page_reflects_nothing_of_the_request() {
    let backend = Backend::text("hi");
    let gateway = gateway(&PLAIN.replace("[[routes]]", "[[routes]]\npaths = [\"/app\"]"))
        .with("app", backend.address())
        .start();
    let page = gateway
        .send("GET /%3Cscript%3Ealert(1)%3C/script%3E?<x HTTP/1.1\r\nHost: test\r\nAccept: text/html\r\n\r\n")
        .text();
    assert!(!page.contains("<script>") && !page.contains("alert(1)"), "{page}");
}

#[test]
fn a_failing_endpoint_is_answered_promptly() {
    let backend = Backend::http(|_| Reply::close());
    let gateway = gateway(PLAIN).with("app", backend.address()).start();
    let begun = std::time::Instant::now();
    gateway.get("/").expect(502, Some("upstream_reset"));
    assert!(begun.elapsed() < Duration::from_secs(3));
}
