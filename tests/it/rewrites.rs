//! The path on its way to the endpoint, and what comes back with the endpoint's idea of its paths.

use crate::gateway;
use testkit::{Backend, Gateway, Reply};

fn rewriting(backend: &Backend, route: &str) -> Gateway {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        @route@
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("route", route)
    .with("app", backend.address())
    .start()
}

#[track_caller]
fn expect_targets(route: &str, rows: &[(&str, &str)]) {
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = rewriting(&backend, route);
    for (sent, forwarded) in rows {
        assert_eq!(gateway.get(sent).text(), *forwarded, "{sent} with {route}");
    }
}

#[test]
fn a_prefix_is_stripped_by_segments() {
    expect_targets(
        "paths = [\"/app\"]\nstrip_prefix = \"/app\"",
        &[
            ("/app/x?q=1", "/x?q=1"),
            ("/app", "/"),
            ("/app/", "/"),
            ("/app?q", "/?q"),
            ("/app/app/x", "/app/x"),
        ],
    );
}

#[test]
fn a_prefix_is_added() {
    expect_targets("add_prefix = \"/v2\"", &[("/x?q=1", "/v2/x?q=1"), ("/", "/v2/")]);
}

#[test]
fn strip_and_add_work_together() {
    expect_targets(
        "paths = [\"/old\"]\nstrip_prefix = \"/old\"\nadd_prefix = \"/new\"",
        &[("/old/x", "/new/x"), ("/old/x?a=/old/", "/new/x?a=/old/")],
    );
}

#[test]
fn a_regex_rewrites_the_path_with_its_groups() {
    expect_targets(
        r#"rewrite = { regex = "^/u/([0-9]+)/(.*)$", to = "/users/${1}/${2}" }"#,
        &[("/u/7/posts?x=1", "/users/7/posts?x=1"), ("/other", "/other")],
    );
}

#[test]
fn a_rewrite_cannot_break_the_request_line() {
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = rewriting(&backend, r#"rewrite = { regex = "^/(.*)$", to = "/x/${1}" }"#);
    for target in ["/a%20b%0d%0aX:%20y", "/a%3Fb%23c"] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 200);
        assert!(answer.text().starts_with("/x/a%"), "{answer}");
    }
}

/// What the client sees of an answer's header through a stripped prefix.
#[track_caller]
fn through_prefix(name: &'static str, rows: &[(&'static str, &str)]) {
    for (sent, seen) in rows {
        let value = *sent;
        let backend = Backend::http(move |_| Reply::new(302, "").header(name, value));
        let gateway = rewriting(&backend, "paths = [\"/app\"]\nstrip_prefix = \"/app\"");
        let answer = gateway.send("GET /app/x HTTP/1.1\r\nHost: test:81\r\n\r\n");
        assert_eq!(answer.header(name), Some(*seen), "{name}: {sent}");
    }
}

#[test]
fn locations_are_rewritten_back() {
    through_prefix(
        "Location",
        &[
            ("/login?next=/x", "/app/login?next=/x"),
            ("http://test:81/login", "/app/login"),
            (
                "https://elsewhere.example/login",
                "https://elsewhere.example/login",
            ),
            ("relative", "relative"),
            ("//elsewhere.example/x", "//elsewhere.example/x"),
        ],
    );
}

#[test]
fn refresh_is_rewritten_back() {
    through_prefix("Refresh", &[("5; url=/next", "5; url=/app/next"), ("5", "5")]);
}

#[test]
fn cookie_paths_are_rewritten_back() {
    through_prefix(
        "Set-Cookie",
        &[
            ("a=b; Path=/; HttpOnly", "a=b; Path=/app; HttpOnly"),
            ("a=b; Path=/sub; Secure", "a=b; Path=/app/sub; Secure"),
            ("a=b; HttpOnly", "a=b; HttpOnly"),
            ("a=/b; Max-Age=1", "a=/b; Max-Age=1"),
        ],
    );
}

#[test]
fn without_a_stripped_prefix_answers_pass_unchanged() {
    let backend = Backend::http(|_| {
        Reply::new(302, "")
            .header("Location", "/login")
            .header("Set-Cookie", "a=b; Path=/")
    });
    let answer = rewriting(&backend, "").get("/");
    assert_eq!(
        (answer.header("location"), answer.header("set-cookie")),
        (Some("/login"), Some("a=b; Path=/"))
    );
}

#[test]
fn several_cookies_stay_several() {
    let backend = Backend::http(|_| {
        Reply::ok("")
            .header("Set-Cookie", "a=1; Path=/")
            .header("Set-Cookie", "b=2; Path=/x")
    });
    let gateway = rewriting(&backend, "paths = [\"/app\"]\nstrip_prefix = \"/app\"");
    let answer = gateway.get("/app/");
    assert_eq!(
        answer.headers.all("set-cookie"),
        ["a=1; Path=/app", "b=2; Path=/app/x"]
    );
}
