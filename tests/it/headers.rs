//! What is taken from heads, what is added to them, and whose word about the client counts.

use crate::{gateway, in_front_of};
use testkit::{Backend, Gateway, Reply, Request};

/// A gateway whose listener carries these further keys.
fn listener(backend: &Backend, keys: &str) -> Gateway {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        @keys@

        [[routes]]
        upstream = "app"

        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("keys", keys)
    .with("app", backend.address())
    .start()
}

/// What the backend sees of a GET with these header lines.
#[track_caller]
fn seen(gateway: &Gateway, backend: &Backend, lines: &str) -> Request {
    let answer = gateway.send(format!("GET /p HTTP/1.1\r\nHost: test:81\r\n{lines}\r\n"));
    assert_eq!(answer.status, 200, "{answer}");
    backend.last_request()
}

#[test]
fn hop_by_hop_fields_end_at_the_gateway() {
    let backend = Backend::http(|_| {
        Reply::ok("x")
            .header("Connection", "X-Private, keep-alive")
            .header("X-Private", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Connection", "keep-alive")
            .header("X-Public", "2")
    });
    let gateway = in_front_of(&backend);
    let answer = gateway.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, X-Mine , x-OTHER\r\nX-Mine: 1\r\nX-Other: 2\r\n\
         X-Other: 3\r\nKeep-Alive: 300\r\nProxy-Connection: close\r\nTE: gzip\r\nUpgrade: something/1\r\nX-Kept: 4\r\n\r\n",
    );
    let request = backend.last_request().headers;
    for name in ["x-mine", "x-other", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!request.has(name), "{name} was forwarded");
    }
    assert!(!request.lists("te", "gzip") && !request.lists("connection", "x-mine"));
    assert_eq!(request.get("x-kept"), Some("4"));
    for name in ["x-private", "keep-alive", "proxy-connection"] {
        assert!(!answer.headers.has(name), "{name} was forwarded");
    }
    assert!(!answer.headers.lists("connection", "x-private"));
    assert_eq!(answer.header("x-public"), Some("2"));
}

#[test]
fn connection_cannot_nominate_away_what_matters() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let request = seen(
        &gateway,
        &backend,
        "Connection: close, Host, X-Forwarded-For, X-Real-IP, Content-Length, Authorization, X-Request-Id\r\n\
         Authorization: Basic eDp5\r\n",
    );
    assert_eq!(request.header("host"), Some("test:81"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-real-ip"), Some("127.0.0.1"));
    assert!(request.headers.has("x-request-id"));
}

#[test]
fn forwarding_fields_of_a_client_that_nobody_trusts_are_replaced() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let request = seen(
        &gateway,
        &backend,
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n",
    );
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("test:81"));
    assert_ne!(request.header("x-forwarded-port"), Some("443"));
    assert!(
        !request
            .headers
            .all("forwarded")
            .iter()
            .any(|v| v.contains("6.6.6.6"))
    );
}

#[test]
fn names_that_spoof_by_underscore_are_dropped() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let request = seen(
        &gateway,
        &backend,
        "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nX_Real_IP: 6.6.6.6\r\nContent_Length: 4\r\n\
         Transfer_Encoding: chunked\r\n",
    );
    let names: Vec<&str> = request.headers.0.iter().map(|(n, _)| n.as_str()).collect();
    assert!(!names.iter().any(|n| n.contains('_')), "{names:?}");
}

#[test]
fn trusted_proxies_are_walked_from_right_to_left() {
    let backend = Backend::text("hi");
    let gateway = listener(&backend, r#"trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8"]"#);
    for (lines, client) in [
        ("X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n", "1.2.3.4"),
        ("X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.1\r\n", "1.2.3.4"),
        (
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4,10.9.9.9\r\n",
            "1.2.3.4",
        ),
        ("X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "10.0.0.1"),
        ("X-Forwarded-For: 2001:db8::1, 10.0.0.2\r\n", "2001:db8::1"),
        ("X-Forwarded-For: 1.2.3.4:5678\r\n", "1.2.3.4"),
        ("", "127.0.0.1"),
    ] {
        let request = seen(&gateway, &backend, lines);
        assert_eq!(request.header("x-real-ip"), Some(client), "{lines:?}");
    }
    let request = seen(
        &gateway,
        &backend,
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
    );
    assert_eq!(request.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
}

#[test]
fn garbage_in_a_trusted_list_ends_the_walk() {
    let backend = Backend::text("hi");
    let gateway = listener(&backend, r#"trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8"]"#);
    for lines in [
        "X-Forwarded-For: 6.6.6.6, garbage, 10.0.0.7\r\n",
        "X-Forwarded-For: 6.6.6.6, , unknown, 10.0.0.7\r\n",
    ] {
        let request = seen(&gateway, &backend, lines);
        assert_eq!(request.header("x-real-ip"), Some("10.0.0.7"), "{lines:?}");
    }
}

#[test]
fn a_peer_outside_the_trusted_networks_is_not_believed() {
    let backend = Backend::text("hi");
    let gateway = listener(&backend, r#"trusted_proxies = ["10.0.0.0/8"]"#);
    let request = seen(
        &gateway,
        &backend,
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
    );
    assert_eq!(request.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
}

#[test]
fn forwarded_is_read_from_trusted_proxies_and_written_when_asked_for() {
    let backend = Backend::text("hi");
    let keys = "trusted_proxies = [\"127.0.0.0/8\"]\nforwarded = { forwarded = true, x_forwarded = false }";
    let gateway = listener(&backend, keys);
    let request = seen(
        &gateway,
        &backend,
        "Forwarded: for=\"[2001:db8::7]:99\";proto=https\r\n",
    );
    let value = request.headers.all("forwarded").join(", ");
    assert!(
        value.starts_with("for=\"[2001:db8::7]:99\";proto=https"),
        "{value}"
    );
    assert!(value.contains("127.0.0.1"), "{value}");
    assert!(!request.headers.has("x-forwarded-for"));

    let gateway = listener(&backend, "forwarded = { forwarded = true }");
    let value = seen(&gateway, &backend, "Forwarded: for=6.6.6.6\r\n")
        .headers
        .all("forwarded")
        .join(", ");
    assert!(
        value.contains("for=127.0.0.1") && value.contains("proto=http") && !value.contains("6.6.6.6"),
        "{value}"
    );
    assert!(value.contains("host=\"test:81\""), "{value}");
}

#[test]
fn via_is_added_both_ways_when_asked_for() {
    let backend = Backend::http(|_| Reply::ok("x").header("Via", "1.1 inner"));
    let gateway = listener(&backend, "forwarded = { via = true }");
    let answer = gateway.send("GET / HTTP/1.1\r\nHost: test\r\nVia: 1.0 outer\r\n\r\n");
    let request = backend.last_request().headers.all("via").join(", ");
    assert!(request.starts_with("1.0 outer, 1.1 "), "{request}");
    let answer = answer.headers.all("via").join(", ");
    assert!(answer.starts_with("1.1 inner, 1.1 "), "{answer}");

    let plain = in_front_of(&backend);
    let _ = plain.get("/");
    assert!(!backend.last_request().headers.has("via"));
}

#[test]
fn forwarding_fields_can_be_left_out() {
    let backend = Backend::text("hi");
    let gateway = listener(&backend, "forwarded = { x_forwarded = false }");
    let request = seen(&gateway, &backend, "X-Forwarded-For: 6.6.6.6\r\n");
    assert!(
        !request.headers.all("x-forwarded-for").contains(&"6.6.6.6"),
        "a client's word passed as ours"
    );
}

#[test]
fn a_request_id_is_made_and_told_to_all_sides() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/bad" => Reply::raw("garbage\r\n\r\n").then_close(),
        _ => Reply::ok("x"),
    });
    let keys = "request_id = \"generate\"\naccess_log = { path = \"access.log\", format = \"json\" }";
    let gateway = listener(&backend, keys);
    let ask = |target: &str| {
        gateway.send(format!(
            "GET {target} HTTP/1.1\r\nHost: test\r\nX-Request-Id: mine\r\n\r\n"
        ))
    };
    let _ = ask("/ok");
    let id = backend
        .last_request()
        .header("x-request-id")
        .unwrap_or_default()
        .to_owned();
    assert!(id.len() >= 16 && id != "mine", "{id:?}");
    assert_eq!(gateway.access_record("/ok")["request_id"], id.as_str());
    let page = ask("/bad");
    let failed = backend
        .last_request()
        .header("x-request-id")
        .unwrap_or_default()
        .to_owned();
    assert_ne!(failed, id);
    assert!(page.status == 502 && page.text().contains(&failed), "{page}");
}

#[test]
fn a_request_id_is_kept_by_policy() {
    let backend = Backend::text("hi");
    let id = |keys: &str| {
        let request = seen(&listener(&backend, keys), &backend, "X-Request-Id: mine-123\r\n");
        request.header("x-request-id").map(ToOwned::to_owned)
    };
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]\n";
    assert_eq!(id("request_id = \"always_keep\"").as_deref(), Some("mine-123"));
    assert_ne!(id("request_id = \"if_trusted\"").as_deref(), Some("mine-123"));
    assert_eq!(
        id(&format!("{trusted}request_id = \"if_trusted\"")).as_deref(),
        Some("mine-123")
    );
    assert_ne!(
        id(&format!("{trusted}request_id = \"generate\"")).as_deref(),
        Some("mine-123")
    );
}

#[test]
fn an_unusable_request_id_is_replaced() {
    let backend = Backend::text("hi");
    let gateway = listener(&backend, "request_id = \"always_keep\"");
    for bad in ["a b", "caf\u{e9}", &"z".repeat(300)] {
        let request = seen(&gateway, &backend, &format!("X-Request-Id: {bad}\r\n"));
        let id = request.header("x-request-id").unwrap_or_default();
        assert!(id != bad && !id.is_empty(), "{id:?}");
    }
}

#[test]
fn the_host_is_preserved_replaced_by_the_endpoints_or_fixed() {
    let backend = Backend::text("hi");
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        paths = ["/preserve"]
        upstream = "app"
        [[routes]]
        paths = ["/endpoint"]
        host = "endpoint"
        upstream = "app"
        [[routes]]
        paths = ["/fixed"]
        host = "fixed.example.com"
        upstream = "app"
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("app", backend.address())
    .start();
    let endpoint = backend.address().to_string();
    for (target, host) in [
        ("/preserve", "Test.Example:81"),
        ("/endpoint", &endpoint),
        ("/fixed", "fixed.example.com"),
    ] {
        gateway.send(format!("GET {target} HTTP/1.1\r\nHost: Test.Example:81\r\n\r\n"));
        let request = backend.last_request();
        assert_eq!(request.header("host"), Some(host), "{target}");
        assert_eq!(
            request.header("x-forwarded-host"),
            Some("Test.Example:81"),
            "{target}"
        );
    }
}

#[test]
fn header_edits_of_route_and_listener_apply_with_variables() {
    let backend = Backend::http(|r| {
        Reply::ok("x")
            .header("X-Saw", r.headers.all("x-set").join("|"))
            .header("Server", "secret/1.0")
            .header("X-Twice", "1")
    });
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        response_headers = { set = { "X-From" = "tidegate" } }

        [[routes]]
        name = "edited"
        paths = ["~^/item/(?P<id>[0-9]+)$"]
        upstream = "app"
        request_headers = { set = { "X-Set" = "${client_ip} ${host} ${route} ${path.id} ${header.x-in}" }, add = { "X-Add" = "b" }, remove = ["X-Gone"] }
        response_headers = { set = { "X-Twice" = "2" }, remove = ["Server"] }

        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("app", backend.address())
    .start();
    let answer = gateway.send(
        "GET /item/42 HTTP/1.1\r\nHost: Test.example:80\r\nX-In: in\r\nX-Set: spoof\r\nX-Add: a\r\nX-Gone: 1\r\n\r\n",
    );
    assert_eq!(
        answer.header("x-saw"),
        Some("127.0.0.1 test.example edited 42 in")
    );
    assert_eq!(
        (answer.header("x-twice"), answer.header("server")),
        (Some("2"), None)
    );
    assert_eq!(answer.header("x-from"), Some("tidegate"));
    let request = backend.last_request().headers;
    assert_eq!(
        (request.all("x-add"), request.has("x-gone")),
        (vec!["a", "b"], false)
    );
}

#[test]
fn a_variable_cannot_inject_a_line() {
    let backend = Backend::text("hi");
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        request_headers = { set = { "X-Arg" = "${arg.q}", "X-Path" = "${path}" } }
        [upstreams.app]
        endpoints = [{ address = "@app@" }]
        "#,
    )
    .with("app", backend.address())
    .start();
    let _ = gateway.get("/a%0d%0aX-Evil:%201?q=b%0d%0aX-Evil:%202");
    assert!(!backend.last_request().headers.has("x-evil"));
}

#[test]
fn upgrade_required_says_to_what() {
    let backend = Backend::http(|_| Reply::new(426, "no").header("Upgrade", "example/2"));
    let gateway = listener(&backend, "");
    let answer = gateway.get("/");
    assert_eq!(
        (answer.status, answer.header("upgrade")),
        (426, Some("example/2"))
    );
    assert!(answer.headers.lists("connection", "upgrade"));
}
