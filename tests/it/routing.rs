//! Which route serves a request: hosts, paths, predicates, order, and the one normal form of the path.

use crate::gateway;
use testkit::{Backend, Gateway, Reply};

/// A gateway of routes that only tell their name. Each line: `name | keys of the route`.
fn telling(routes: &str) -> Gateway {
    telling_with("", routes)
}

fn telling_with(listener: &str, routes: &str) -> Gateway {
    let mut config = format!("[listeners.web]\naddress = \"127.0.0.1:0\"\n{listener}\n");
    for line in routes.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, keys) = line.split_once('|').expect("name | keys");
        let (name, keys) = (name.trim(), keys.replace(';', "\n"));
        config += &format!("[[routes]]\nname = \"{name}\"\nrespond = {{ body = \"{name}\" }}\n{keys}\n");
    }
    gateway(&config).start()
}

/// The name of the route that answers this request line and header lines, or the error token.
#[track_caller]
fn who(gateway: &Gateway, target: &str, headers: &str) -> String {
    let host = if headers.to_ascii_lowercase().contains("host:") {
        ""
    } else {
        "Host: test\r\n"
    };
    let request = format!("GET {target} HTTP/1.1\r\n{host}{headers}\r\n");
    let answer = gateway.send(request);
    answer.token().map_or_else(|| answer.text(), ToOwned::to_owned)
}

#[track_caller]
fn expect(gateway: &Gateway, rows: &[(&str, &str, &str)]) {
    for (target, headers, route) in rows {
        assert_eq!(who(gateway, target, headers), *route, "{target} {headers:?}");
    }
}

#[test]
fn hosts_match_exactly_then_by_wildcard_then_by_regex_then_any() {
    let gateway = telling(
        r#"
        any      |
        regex    | hosts = ["~^.*\\.example\\.com$"]
        wild     | hosts = ["*.example.com"]
        deeper   | hosts = ["*.b.example.com"]
        exact    | hosts = ["a.example.com"]
        "#,
    );
    expect(
        &gateway,
        &[
            ("/", "Host: a.example.com\r\n", "exact"),
            ("/", "Host: A.EXAMPLE.com:8080\r\n", "exact"),
            ("/", "Host: a.example.com.\r\n", "exact"),
            ("/", "Host: x.example.com\r\n", "wild"),
            ("/", "Host: x.y.example.com\r\n", "wild"),
            ("/", "Host: a.b.example.com\r\n", "deeper"),
            ("/", "Host: b.example.com\r\n", "wild"),
            ("/", "Host: example.com\r\n", "any"),
            ("/", "Host: a.example.com.evil\r\n", "any"),
            ("/", "Host: [::1]:80\r\n", "any"),
        ],
    );
}

#[test]
fn a_regex_of_hosts_matches_after_wildcards() {
    let gateway = telling(
        r#"
        regex | hosts = ["~^app-[0-9]+\\.test$"]
        any   |
        "#,
    );
    expect(
        &gateway,
        &[
            ("/", "Host: app-17.test\r\n", "regex"),
            ("/", "Host: app-x.test\r\n", "any"),
        ],
    );
}

#[test]
fn paths_match_exactly_then_by_longest_prefix_then_by_regex_then_any() {
    let gateway = telling(
        r#"
        any    |
        regex  | paths = ["~^/api/v[0-9]+$"]
        digits | paths = ["~^/[0-9]+$"]
        api    | paths = ["/api"]
        v1     | paths = ["/api/v1"]
        exact  | paths = ["=/api/v1"]
        "#,
    );
    expect(
        &gateway,
        &[
            ("/api/v1", "", "exact"),
            ("/api/v1/", "", "v1"),
            ("/api/v1/x", "", "v1"),
            ("/api/v1?x=/y", "", "exact"),
            ("/api/v12", "", "api"),
            ("/api", "", "api"),
            ("/api/", "", "api"),
            ("/apis", "", "any"),
            ("/123", "", "digits"),
            ("/", "", "any"),
        ],
    );
}

#[test]
fn a_more_specific_host_wins_over_a_more_specific_path() {
    let gateway = telling(
        r#"
        path | paths = ["=/a/b"]
        host | hosts = ["test"]
        "#,
    );
    expect(
        &gateway,
        &[
            ("/a/b", "Host: test\r\n", "host"),
            ("/a/b", "Host: other\r\n", "path"),
        ],
    );
}

#[test]
fn predicates_on_everything_a_request_has() {
    let gateway = telling(
        r#"
        query    | paths = ["/q"]; query = { v = "2" }
        present  | paths = ["/q"]; query = { flag = "*" }
        header   | paths = ["/h"]; headers = { "X-Version" = "~^2\\." }
        absent   | paths = ["/h"]; headers = { "X-Version" = "!" }
        cookie   | paths = ["/c"]; cookies = { canary = "yes" }
        client   | paths = ["/ip"]; client_ip = ["127.0.0.0/8"]
        stranger | paths = ["/other-ip"]; client_ip = ["10.0.0.0/8"]
        plain    | paths = ["/q", "/h", "/c", "/ip", "/other-ip"]
        "#,
    );
    expect(
        &gateway,
        &[
            ("/q?v=2", "", "query"),
            ("/q?a=1&v=2", "", "query"),
            ("/q?v=%32", "", "query"),
            ("/q?v=3", "", "plain"),
            ("/q?flag", "", "present"),
            ("/q?xflag=1", "", "plain"),
            ("/h", "X-Version: 2.1\r\n", "header"),
            ("/h", "x-version: 1.0\r\n", "plain"),
            ("/h", "", "absent"),
            ("/c", "Cookie: a=b; canary=yes\r\n", "cookie"),
            ("/c", "Cookie: canary=no\r\n", "plain"),
            ("/c", "Cookie: xcanary=yes\r\n", "plain"),
            ("/ip", "", "client"),
            ("/other-ip", "", "plain"),
        ],
    );
}

#[test]
fn methods_choose_between_routes() {
    let gateway = telling(
        r#"
        write | methods = ["POST", "PUT"]
        read  |
        "#,
    );
    assert_eq!(
        gateway
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            .text(),
        "write"
    );
    assert_eq!(
        gateway
            .send("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            .text(),
        "write"
    );
    assert_eq!(who(&gateway, "/", ""), "read");
}

#[test]
fn listeners_choose_between_routes() {
    let gateway = telling_with(
        "[listeners.inner]\naddress = \"127.0.0.1:0\"",
        r#"
        inside  | listeners = ["inner"]
        outside |
        "#,
    );
    assert_eq!(gateway.get("/").text(), "outside");
    assert_eq!(
        testkit::Conn::connect(gateway.addr("inner")).get("/").text(),
        "inside"
    );
}

#[test]
fn more_predicates_win_then_the_order_of_the_file() {
    let gateway = telling(
        r#"
        first  | paths = ["/x"]; headers = { a = "*" }
        second | paths = ["/x"]; headers = { b = "*" }
        both   | paths = ["/x"]; headers = { a = "*", b = "*" }
        "#,
    );
    expect(
        &gateway,
        &[
            ("/x", "a: 1\r\nb: 1\r\n", "both"),
            ("/x", "a: 1\r\n", "first"),
            ("/x", "b: 1\r\n", "second"),
            ("/x", "", "no_route"),
        ],
    );
}

#[test]
fn priority_comes_before_all_else() {
    let gateway = telling(
        r#"
        exact  | hosts = ["test"]; paths = ["=/a"]
        urgent | priority = 1
        last   | priority = -1; hosts = ["test"]
        "#,
    );
    expect(&gateway, &[("/a", "", "urgent")]);
}

#[test]
fn no_route_is_404_whether_the_host_or_the_path_is_unknown() {
    let gateway = telling("only | hosts = [\"known\"]; paths = [\"/a\"]");
    expect(
        &gateway,
        &[
            ("/a", "Host: known\r\n", "only"),
            ("/b", "Host: known\r\n", "no_route"),
            ("/a", "Host: unknown\r\n", "no_route"),
        ],
    );
}

#[test]
fn what_is_matched_is_what_is_forwarded() {
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        paths = ["/admin"]
        respond = { status = 403, body = "no" }
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("app", backend.address())
    .start();
    for sneaky in [
        "/admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/%2E./admin",
        "//admin",
        "/%61dmin",
        "/%61%64min/x",
        "/../../admin",
        "http://test/x/../admin",
    ] {
        assert_eq!(gateway.get(sneaky).status, 403, "{sneaky}");
    }
    for (sent, forwarded) in [
        ("/a/./b/../c", "/a/c"),
        ("/a//b", "/a/b"),
        ("/a%7Eb/%41", "/a~b/A"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b?q=%2F//../x", "/a%20b?q=%2F//../x"),
        ("/a?", "/a?"),
        ("/a/..", "/"),
        ("/a;p=1/b,c", "/a;p=1/b,c"),
    ] {
        assert_eq!(gateway.get(sent).text(), forwarded, "{sent}");
    }
    for refused in ["/a%2fb", "/a%2Fb", "/a%5cb", "/%2e%2e%2fadmin"] {
        assert_eq!(gateway.get(refused).token(), Some("bad_request"), "{refused}");
    }
}

#[test]
fn the_path_policy_is_the_operators() {
    let policy =
        r#"path_policy = { dot_segments = "reject", double_slash = "keep", encoded_slash = "keep" }"#;
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = gateway(&crate::PLAIN.replace("[[routes]]", &format!("{policy}\n[[routes]]")))
        .with("app", backend.address())
        .start();
    assert_eq!(gateway.get("/a/../b").token(), Some("bad_request"));
    assert_eq!(gateway.get("/a//b").text(), "/a//b");
    assert_eq!(gateway.get("/a%2fb").text(), "/a%2Fb");
}

#[test]
fn a_split_sends_its_shares_to_its_upstreams() {
    let (blue, green) = (Backend::text("blue"), Backend::text("green"));
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        split = { blue = 80, green = 20 }
        [upstreams.blue]
        endpoints = [{ address = "@blue@" }]
        [upstreams.green]
        endpoints = [{ address = "@green@" }]
        "#,
    )
    .with("blue", blue.address())
    .with("green", green.address())
    .start();
    let mut conn = gateway.connect();
    for _ in 0..500 {
        assert_eq!(conn.get("/").status, 200);
    }
    // 100 of 500 by weight; a fair coin of 20 % falls outside once in a million runs.
    assert!((55..=145).contains(&green.hits()), "{} of 500", green.hits());
    assert_eq!(blue.hits() + green.hits(), 500);
}

#[test]
fn a_fixed_answer_carries_its_status_headers_and_body() {
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        respond = { status = 418, body = "tea", headers = { "Content-Type" = "text/tea", "X-A" = "b" } }
        "#,
    )
    .start();
    let mut conn = gateway.connect();
    let answer = conn.get("/");
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.token()),
        (418, "tea", None)
    );
    assert_eq!(
        (answer.header("content-type"), answer.header("x-a")),
        (Some("text/tea"), Some("b"))
    );
    let head = conn
        .send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
        .response_to("HEAD");
    assert_eq!(head.header("content-length"), Some("3"));
    // A body that nobody wants is read away, so that the connection lives on.
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabcde");
    assert_eq!(conn.response_to("POST").status, 418);
    assert_eq!(conn.get("/").status, 418);
}

#[test]
fn a_redirect_builds_its_target() {
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        paths = ["/old"]
        redirect = { to = "https://new.example.com${uri}", status = 301 }
        [[routes]]
        paths = ["~^/user/(?P<name>[^/]+)$"]
        redirect = { to = "https://${host}/people/${path.name}" }
        "#,
    )
    .start();
    let answer = gateway.get("/old/x?y=z");
    assert_eq!(
        (answer.status, answer.header("location")),
        (301, Some("https://new.example.com/old/x?y=z"))
    );
    let answer = gateway.get("/user/ann");
    assert_eq!(
        (answer.status, answer.header("location")),
        (308, Some("https://test/people/ann"))
    );
}

#[test]
fn a_thousand_routes_are_found() {
    let mut config = "[listeners.web]\naddress = \"127.0.0.1:0\"\n".to_owned();
    for n in 0..1000 {
        config += &format!(
            "[[routes]]\nhosts = [\"h{}.test\"]\npaths = [\"/p{n}\"]\nrespond = {{ body = \"{n}\" }}\n",
            n % 50
        );
    }
    let gateway = gateway(&config).start();
    for n in [0, 1, 499, 999] {
        let request = format!("GET /p{n}/x HTTP/1.1\r\nHost: h{}.test\r\n\r\n", n % 50);
        assert_eq!(gateway.send(request).text(), n.to_string());
    }
}

#[test]
fn a_status_without_body_drops_the_one_that_is_configured() {
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        respond = { status = 204, body = "@body@" }
        "#,
    )
    .with("body", "x".repeat(1000))
    .start();
    let mut conn = gateway.connect();
    for _ in 0..2 {
        let answer = conn.get("/");
        assert_eq!((answer.status, answer.body.len()), (204, 0));
    }
}

#[test]
fn a_long_fixed_body_arrives_whole() {
    let body = "0123456789abcde\n".repeat(8 * 1024);
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        respond = { body = """@body@""" }
        "#,
    )
    .with("body", &body)
    .start();
    assert_eq!(gateway.get("/").text(), body);
}
