//! Messages of every framing pass in both directions, byte for byte, streamed.

use crate::{PLAIN, gateway, in_front_of};
use std::time::Duration;
use testkit::{Backend, Conn, Gate, Reply, eventually, holds_for, pattern};

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
fn informational_responses_are_forwarded_in_order() {
    let backend = Backend::raw(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let hints = conn.get("/");
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>")));
    assert_eq!(conn.response().status, 102);
    assert_eq!(conn.response().text(), "ok");
}

#[test]
fn an_early_hint_reaches_the_client_before_the_answer_exists() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| {
        Reply::raw("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
            .then_hold(&held)
            .then("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/").status, 103);
    gate.open();
    assert_eq!(conn.response().text(), "ok");
}

#[test]
fn informational_responses_never_reach_http_1_0_clients() {
    let backend = Backend::raw(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = in_front_of(&backend);
    let answer = gateway.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[test]
fn endless_informational_responses_are_a_bad_response() {
    let many = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40);
    let backend = Backend::raw(format!("{many}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let mut interim = 0;
    let last = loop {
        let answer = if interim == 0 {
            conn.get("/")
        } else {
            conn.response()
        };
        if answer.status >= 200 {
            break answer;
        }
        interim += 1;
    };
    last.expect(502, Some("bad_response"));
    assert!(interim <= 16, "{interim} interim responses passed");
}

#[test]
fn expect_continue_lets_the_body_follow_the_endpoints_word() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(mut request) = conn.try_request_head() else {
            return;
        };
        assert!(request.headers.lists("expect", "100-continue"));
        held.wait();
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        conn.try_request_body(&mut request).expect("the body");
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        ));
        conn.send(&request.body);
        visit.hit(request);
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    gate.reached();
    holds_for(
        Duration::from_millis(100),
        "no word before the endpoint's",
        || conn.is_quiet(),
    );
    gate.open();
    assert_eq!(conn.response().status, 100);
    assert_eq!(conn.send("body").response_to("PUT").text(), "body");
}

#[test]
fn an_endpoint_may_refuse_before_the_body_was_sent() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request_head() else {
            return;
        };
        visit.hit(request);
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        conn.wait_for_end();
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n");
    let answer = conn.response_to("PUT");
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    // The client may still send the body or not: the connection can't be used again.
    conn.expect_end();
    assert!(!answer.keeps_alive());
}

#[test]
fn an_early_answer_arrives_while_the_upload_continues() {
    let backend = Backend::script(|conn, visit| {
        let Ok(mut request) = conn.try_request_head() else {
            return;
        };
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n");
        conn.try_request_body(&mut request).expect("the body");
        let len = format!("{}", request.body.len());
        visit.hit(request);
        conn.send(format!("{:x}\r\n{len}\r\n0\r\n\r\n", len.len()));
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    conn.read_through(b"early");
    conn.send("3\r\ndef\r\n0\r\n\r\n");
    conn.read_through(b"\r\n0\r\n\r\n");
    assert_eq!(backend.last_request().body, b"abcdef");
}

#[test]
fn an_answer_that_ends_before_the_upload_ends_the_connection_but_is_not_lost() {
    let backend = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request_head() else {
            return;
        };
        visit.hit(request);
        conn.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3000000\r\n\r\n");
    // The client goes on sending for a while, as clients do.
    conn.send_while_taken(&pattern::bytes(200_000), Duration::from_millis(200));
    let answer = conn.response_to("POST");
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
}

#[test]
fn http_1_0_clients_get_a_body_they_understand_and_a_closed_connection() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n";
    let backend = Backend::http(move |_| Reply::raw(chunked));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let answer = conn.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n").response();
    assert_eq!(
        (answer.text().as_str(), answer.headers.chunked()),
        ("abcde", false)
    );
    conn.expect_end();
    assert_eq!(backend.last_request().version, "HTTP/1.1");
}

#[test]
fn http_1_0_clients_may_ask_for_keep_alive() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let ask = "GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n";
    let answer = conn.send(ask).response();
    assert!(answer.headers.lists("connection", "keep-alive"), "{answer}");
    assert_eq!(conn.send(ask).response().text(), "hi");
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
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let mut pipeline = String::new();
    for n in 0..50 {
        pipeline += &match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!(
                "POST /{n} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n"
            ),
        };
    }
    conn.send(pipeline);
    for n in 0..50 {
        assert_eq!(conn.response().text(), format!("/{n}"));
    }
}

#[test]
fn connection_close_of_the_client_is_honoured_and_kept_from_the_endpoint() {
    let backend = Backend::text("hi");
    // Each worker has a pool of its own.
    let gateway = gateway(&format!("runtime = {{ workers = 1 }}\n{PLAIN}"))
        .with("app", backend.address())
        .start();
    let mut conn = gateway.connect();
    let answer = conn
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .response();
    assert!(!answer.keeps_alive());
    conn.expect_end();
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(
        backend.connections(),
        1,
        "the client's close ended the endpoint's connection"
    );
}

#[test]
fn connection_close_of_the_endpoint_is_kept_from_the_client() {
    let backend = Backend::http(|_| Reply::ok("x").header("Connection", "close").then_close());
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert!(conn.get("/").keeps_alive());
    }
    assert_eq!(backend.connections(), 3);

    // One that says so and stays open is not used again either.
    let slow = Backend::http(|_| Reply::ok("x").header("Connection", "close"));
    let gateway = in_front_of(&slow);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert_eq!(conn.get("/").status, 200);
    }
    assert_eq!(slow.connections(), 3);
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
fn a_client_that_ends_its_sending_direction_still_gets_its_answer() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |r| Reply::ok(r.body.clone()).held_by(&held));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc")
        .half_close();
    gate.reached();
    gate.open();
    assert_eq!(conn.response_to("POST").text(), "abc");
    conn.expect_end();
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

const MIB: usize = 1 << 20;

#[test]
fn large_bodies_pass_both_ways_byte_for_byte() {
    const LEN: usize = 48 * MIB;
    let backend = Backend::http(|r| {
        if r.method == "GET" {
            return Reply::pattern(LEN);
        }
        let mut check = pattern::Checker::default();
        check.feed(&r.body);
        Reply::ok(check.seen().to_string())
    });
    let config = PLAIN.replace("[[routes]]", "limits = { body = \"1GiB\" }\n[[routes]]");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut conn = gateway.connect();
    let mut check = pattern::Checker::default();
    check.feed(&conn.get("/").body);
    assert_eq!(check.seen(), LEN);
    conn.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {LEN}\r\n\r\n"
    ))
    .send(pattern::bytes(LEN));
    assert_eq!(conn.response_to("PUT").text(), LEN.to_string());
    conn.send("PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let body = pattern::bytes(8 * MIB);
    for chunk in body.chunks(77_777) {
        conn.send(format!("{:X}\r\n", chunk.len()))
            .send(chunk)
            .send("\r\n");
    }
    assert_eq!(
        conn.send("0\r\n\r\n").response_to("PUT").text(),
        body.len().to_string()
    );
}

/// Starts a download, reads nothing for a while, then the rest.
#[track_caller]
fn expect_back_pressure(reply: fn(usize) -> Reply, head_end: &[u8]) {
    const LEN: usize = 64 * MIB;
    let backend = Backend::http(move |r| {
        if r.target == "/small" {
            Reply::ok("x")
        } else {
            reply(LEN)
        }
    });
    let gateway = in_front_of(&backend);
    assert_eq!(gateway.get("/small").status, 200);
    let before = gateway.rss_kb();
    let mut conn = Conn::connect(gateway.web()).with_receive_buffer(64 << 10);
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    conn.read_through(head_end);
    holds_for(Duration::from_millis(700), "the gateway buffers little", || {
        gateway.rss_kb() < before + 8 * 1024
    });
    // And all of it arrives once the client reads.
    let mut check = pattern::Checker::default();
    while check.seen() < LEN {
        let some = conn.try_read_some().expect("the rest of the body");
        let payload = some.len().min(LEN - check.seen());
        check.feed(&some[..payload]);
    }
}

#[test]
fn a_client_that_does_not_read_slows_the_endpoint_and_costs_no_memory() {
    expect_back_pressure(Reply::pattern, b"\r\n\r\n");
}

#[test]
fn a_client_that_does_not_read_chunks_slows_the_endpoint_and_costs_no_memory() {
    expect_back_pressure(Reply::chunked_pattern, b"4000000\r\n");
}

#[test]
fn large_bodies_leave_both_connections_fit_for_the_next_request() {
    let backend = Backend::http(|r| {
        if r.method == "GET" {
            Reply::pattern(3 * MIB)
        } else {
            Reply::ok(r.body.len().to_string())
        }
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert_eq!(conn.get("/").body.len(), 3 * MIB);
        conn.send(format!(
            "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {MIB}\r\n\r\n"
        ))
        .send(pattern::bytes(MIB));
        assert_eq!(conn.response_to("PUT").text(), MIB.to_string());
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_endpoint_that_does_not_read_slows_the_client_and_costs_no_memory() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(mut request) = conn.try_request_head() else {
            return;
        };
        held.wait();
        conn.try_request_body(&mut request).expect("the body");
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Len: {}\r\n\r\n",
            request.body.len()
        ));
        visit.hit(request);
    });
    let config = PLAIN.replace("[[routes]]", "limits = { body = \"1GiB\" }\n[[routes]]");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let before = gateway.rss_kb();
    let mut conn = gateway.connect();
    let body = pattern::bytes(64 * MIB);
    conn.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    let taken = conn.send_while_taken(&body, Duration::from_millis(500));
    assert!(
        taken < 32 * MIB,
        "{taken} bytes were taken though the endpoint read nothing"
    );
    assert!(
        gateway.rss_kb() < before + 8 * 1024,
        "the gateway grew from {before} to {} KiB",
        gateway.rss_kb()
    );
    gate.open();
    conn.send(&body[taken..]);
    let answer = conn.response_to("PUT");
    assert_eq!(answer.header("x-len"), Some(body.len().to_string().as_str()));
}

#[test]
fn a_client_that_leaves_frees_the_endpoint_at_once() {
    let backend = Backend::http(|_| Reply::hang());
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request arrives", || backend.hits() == 1);
    conn.reset();
    eventually("the endpoint's connection ends", || {
        backend.open_connections() == 0
    });
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

#[test]
fn what_a_client_sends_behind_its_last_request_costs_it_nothing_of_the_answer() {
    let backend = Backend::http(|_| Reply::pattern(1 << 20));
    let gateway = in_front_of(&backend);
    for _ in 0..3 {
        let mut conn = Conn::connect(gateway.web()).with_receive_buffer(32 << 10);
        conn.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        conn.send_while_taken(&pattern::bytes(100_000), Duration::from_millis(200));
        let answer = conn.response();
        assert_eq!((answer.cut, answer.body.len()), (None, 1 << 20));
    }
}
