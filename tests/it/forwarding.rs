//! Messages of every framing pass in both directions, byte for byte, streamed.

use crate::in_front_of;
use testkit::{Backend, Gate, Reply, pattern};

#[test]
fn a_get_is_answered_over_a_connection_that_stays_open() {
    let backend = Backend::http(|r| Reply::ok(format!("you asked {}", r.target)).header("X-Mine", "1"));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let first = conn.get("/a?b=c");
    assert_eq!((first.status, first.text().as_str()), (200, "you asked /a?b=c"));
    assert_eq!(
        (first.header("x-mine"), first.header("content-length")),
        (Some("1"), Some("16"))
    );
    assert_eq!(conn.get("/second").text(), "you asked /second");
    assert_eq!(backend.last_request().version, "HTTP/1.1");
}

#[test]
fn requests_of_one_client_reuse_the_endpoints_connection() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..20 {
        assert_eq!(conn.get("/").status, 200);
    }
    assert_eq!((backend.hits(), backend.connections()), (20, 1));
}

#[test]
fn header_names_keep_their_case_and_order() {
    let backend =
        Backend::raw("HTTP/1.1 200 OK\r\nZ-Last: 1\r\nx-LOWER: 2\r\nA-First: 3\r\nContent-Length: 0\r\n\r\n");
    let gateway = in_front_of(&backend);
    let answer = gateway.send("GET / HTTP/1.1\r\nhOST: test\r\nZZ-x: 1\r\nAA-y: 2\r\nMM-Z: 3\r\n\r\n");
    let order = |names: &[&str], fields: &testkit::message::Fields| {
        let mine = fields
            .0
            .iter()
            .map(|(n, _)| n.as_str())
            .filter(|n| names.contains(n));
        assert_eq!(mine.collect::<Vec<_>>(), names);
    };
    order(&["Z-Last", "x-LOWER", "A-First"], &answer.headers);
    order(&["ZZ-x", "AA-y", "MM-Z"], &backend.last_request().headers);
}

#[test]
fn the_reason_phrase_and_unusual_statuses_pass() {
    for status in ["200 Fine", "299 ", "418 I'm a teapot", "599 Odd one"] {
        let backend = Backend::raw(format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\nx"));
        let answer = in_front_of(&backend).get("/");
        assert_eq!(format!("{} {}", answer.status, answer.reason), status);
        assert_eq!(answer.token(), None);
    }
}

#[test]
fn a_body_with_content_length_passes_unchanged() {
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for len in [0, 1, 4095, 16_384, 16_385, 300_000] {
        let body = pattern::bytes(len);
        conn.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {len}\r\n\r\n"
        ))
        .send(&body);
        let answer = conn.response_to("POST");
        assert!(answer.body == body, "body of {len} bytes changed");
        assert_eq!(
            backend.last_request().header("content-length"),
            Some(len.to_string().as_str())
        );
    }
}

#[test]
fn a_chunked_body_passes_with_its_trailers_and_without_its_extensions() {
    let backend = Backend::http(|r| {
        Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x};ext=\"a b\"\r\n{}\r\n0;x=y\r\nX-Sum: 7\r\n\r\n",
            r.body.len(),
            String::from_utf8_lossy(&r.body)
        ))
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let chunks = "5;a=b;c=\"d;e\"\r\nhello\r\n1\r\n \r\n0005\r\nworld\r\n00\r\nX-Check: 42\r\n\r\n";
    conn.send("POST /x HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = conn.send(chunks).response_to("POST");
    assert_eq!(answer.text(), "hello world");
    assert_eq!(answer.trailers.get("x-sum"), Some("7"));
    let request = backend.last_request();
    assert_eq!(
        (request.body.as_slice(), request.trailers.get("x-check")),
        (b"hello world".as_slice(), Some("42"))
    );
    assert!(request.headers.chunked() && !request.headers.has("content-length"));
    let bytes = String::from_utf8_lossy(&backend.received()[0]).into_owned();
    assert!(
        !bytes.contains("a=b") && !bytes.contains("d;e"),
        "extensions were forwarded: {bytes}"
    );
    assert_eq!(conn.get("/again").status, 200);
}

#[test]
fn a_chunked_message_may_arrive_byte_by_byte() {
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send_bytewise(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(conn.response_to("POST").text(), "abc");
    conn.send_bytewise("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(conn.response().status, 200);
}

#[test]
fn trailers_that_would_change_the_message_are_not_forwarded() {
    let backend = Backend::http(|_| Reply::ok("x"));
    let gateway = in_front_of(&backend);
    let trailers = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\nX-Ok: 1";
    gateway.send(format!(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{trailers}\r\n\r\n"
    ));
    let seen = backend.last_request().trailers;
    for name in ["content-length", "transfer-encoding", "host", "x-forwarded-for"] {
        assert!(!seen.has(name), "{name} was forwarded as a trailer");
    }
}

#[test]
fn a_response_delimited_by_close_reaches_http_1_1_clients_on_a_connection_that_lives_on() {
    let backend = Backend::raw("HTTP/1.1 200 OK\r\n\r\nuntil I close");
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let answer = conn.get("/");
    assert_eq!(answer.text(), "until I close");
    if answer.keeps_alive() {
        assert!(answer.headers.chunked());
        assert_eq!(conn.get("/").text(), "until I close");
    } else {
        conn.expect_end();
    }
}

#[test]
fn head_204_and_304_have_no_body_and_keep_both_connections_in_step() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/204" => Reply::new(204, ""),
        "/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1000\r\n\r\n"),
        "/chunked" if r.method == "HEAD" => {
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        }
        _ => Reply::ok("twelve bytes"),
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..2 {
        let head = conn
            .send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
            .response_to("HEAD");
        assert_eq!((head.status, head.header("content-length")), (200, Some("12")));
        assert_eq!(
            conn.send("HEAD /chunked HTTP/1.1\r\nHost: test\r\n\r\n")
                .response_to("HEAD")
                .status,
            200
        );
        let none = conn.get("/204");
        assert_eq!(
            (
                none.status,
                none.headers.has("content-length"),
                none.headers.chunked()
            ),
            (204, false, false)
        );
        let same = conn.get("/304");
        assert_eq!((same.status, same.header("etag")), (304, Some("\"a\"")));
        assert_eq!(conn.get("/").text(), "twelve bytes");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn http_1_0_clients_need_no_host() {
    let backend = Backend::text("hi");
    let answer = in_front_of(&backend).send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert!(
        backend.last_request().headers.has("host"),
        "HTTP/1.1 to the endpoint needs a Host"
    );
}

#[test]
fn http_1_0_backends_are_understood() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/sized" => Reply::raw("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").then_close(),
        _ => Reply::raw("HTTP/1.0 200 OK\r\n\r\nuntil close").then_close(),
    });
    let gateway = in_front_of(&backend);
    assert_eq!(gateway.get("/").text(), "until close");
    let sized = gateway.get("/sized");
    assert_eq!(
        (sized.text().as_str(), sized.version.as_str()),
        ("ok", "HTTP/1.1")
    );
}

#[test]
fn absolute_form_is_forwarded_in_origin_form_with_its_host() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let answer = gateway.send("GET http://test/a?b HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(answer.status, 200);
    let seen = backend.last_request();
    assert_eq!(
        (seen.target.as_str(), seen.header("host")),
        ("/a?b", Some("test"))
    );
    assert_eq!(
        gateway
            .send("GET http://test HTTP/1.1\r\nHost: test\r\n\r\n")
            .status,
        200
    );
    assert_eq!(backend.last_request().target, "/");
}

#[test]
fn options_asterisk_is_answered() {
    let backend = Backend::text("hi");
    let answer = in_front_of(&backend).send("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(matches!(answer.status, 200 | 204), "{answer}");
}

#[test]
fn bodies_pass_with_any_method() {
    let backend = Backend::http(|r| Reply::ok(format!("{} {}", r.method, r.body.len())));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for method in [
        "GET", "DELETE", "OPTIONS", "PATCH", "PUT", "POST", "PROPFIND", "X-OWN",
    ] {
        conn.send(format!(
            "{method} / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody"
        ));
        assert_eq!(conn.response_to(method).text(), format!("{method} 4"));
    }
}

#[test]
fn a_get_without_body_is_forwarded_without_a_length() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let _ = gateway.get("/");
    let seen = backend.last_request();
    assert!(!seen.headers.has("content-length") && !seen.headers.has("transfer-encoding"));
}

#[test]
fn a_response_is_streamed_as_it_is_made() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .then_hold(&held)
            .then("6\r\nsecond\r\n0\r\n\r\n")
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    conn.read_through(b"first");
    gate.open();
    conn.read_through(b"second");
}

#[test]
fn a_response_head_is_sent_before_its_body_exists() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            .then_hold(&held)
            .then("body")
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    conn.read_through(b"\r\n\r\n");
    gate.open();
    assert_eq!(conn.read(4), b"body");
}

#[test]
fn endpoints_on_unix_sockets_are_served() {
    let backend = Backend::http_on_unix(|r| Reply::ok(r.target.clone()));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/one").text(), "/one");
    assert_eq!(conn.get("/two").text(), "/two");
    assert_eq!(backend.connections(), 1);
}
