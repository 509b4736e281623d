//! What RFC 9112 does not allow is refused, and what is refused never reaches an endpoint.

use crate::{gateway, in_front_of};
use testkit::{Backend, Broken, Conn, Gateway, Reply, eventually};

/// A request that would follow if the gateway lost count of where messages end.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

struct Refusals {
    backend: Backend,
    gateway: Gateway,
}

impl Refusals {
    fn new() -> Self {
        let backend = Backend::text("reached");
        let gateway = in_front_of(&backend);
        Self { backend, gateway }
    }

    /// Sends bytes with a further request behind them; expects one refusal, the end of the connection, and
    /// silence at the endpoint.
    #[track_caller]
    fn expect(&self, request: impl AsRef<[u8]>, status: u16, token: &str) {
        let mut bytes = request.as_ref().to_vec();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        bytes.extend_from_slice(SMUGGLED.as_bytes());
        let mut conn = self.gateway.connect();
        conn.send(bytes);
        let answer = conn
            .try_response_to("GET")
            .unwrap_or_else(|e| panic!("{e:?} instead of an answer to {shown:?}"));
        assert_eq!(
            (answer.status, answer.token()),
            (status, Some(token)),
            "to {shown:?}: {answer}"
        );
        assert!(!answer.keeps_alive(), "keeps alive after {shown:?}");
        let (rest, end) = conn.read_to_end();
        assert!(
            rest.is_empty() && end != Broken::TimedOut,
            "after {shown:?}: {rest:?} {end:?}"
        );
        assert_eq!(self.backend.hits(), 0, "{shown:?} reached the endpoint");
    }

    /// The same, and not even a connection to the endpoint was made for it.
    #[track_caller]
    fn expect_untouched(&self, request: impl AsRef<[u8]>, status: u16, token: &str) {
        self.expect(&request, status, token);
        let seen = self.backend.received_bytes();
        assert_eq!(
            seen,
            0,
            "{:?} was forwarded in part",
            String::from_utf8_lossy(request.as_ref())
        );
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    let refusals = Refusals::new();
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5;",
        "Content-Length: five",
        "Content-Length:",
        "Content-Length: 1e1",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999",
    ] {
        refusals.expect_untouched(
            format!("POST / HTTP/1.1\r\nHost: test\r\n{lines}\r\n\r\n0\r\n\r\n"),
            400,
            "bad_framing",
        );
    }
}

#[test]
fn repeated_equal_lengths_are_never_forwarded_as_they_are() {
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = in_front_of(&backend);
    for lines in ["Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3, 3"] {
        let answer = gateway.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{lines}\r\n\r\nabc"));
        if answer.status == 200 {
            assert_eq!(backend.last_request().header("content-length"), Some("3"));
        } else {
            answer.expect(400, Some("bad_framing"));
        }
    }
}

#[test]
fn transfer_codings_other_than_a_final_chunked_are_refused() {
    let refusals = Refusals::new();
    let with = |lines: &str| format!("POST / HTTP/1.1\r\nHost: test\r\n{lines}\r\n\r\n0\r\n\r\n");
    for lines in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ] {
        refusals.expect_untouched(with(lines), 501, "not_implemented");
    }
    for lines in [
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding:",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
    ] {
        let mut conn = refusals.gateway.connect();
        let answer = conn.send(with(lines)).response_to("POST");
        assert!(
            matches!(
                (answer.status, answer.token()),
                (400, Some("bad_framing")) | (501, Some("not_implemented"))
            ),
            "to {lines:?}: {answer}"
        );
        conn.expect_end();
        assert_eq!(refusals.backend.received_bytes(), 0);
    }
}

#[test]
fn transfer_coding_in_http_1_0_is_refused() {
    let refusals = Refusals::new();
    refusals.expect_untouched(
        "POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_framing",
    );
}

#[test]
fn bad_chunks_are_refused_and_the_request_never_completes() {
    for chunks in [
        "x\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "3_\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\0b\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nBad Name: x\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: a\nb\r\n\r\n",
        "3\r\nabc\r\n0\r\n folded\r\n\r\n",
    ] {
        // One gateway each: what a refused request left in the endpoint must not be hidden by the next.
        let refusals = Refusals::new();
        let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        refusals.expect(format!("{head}{chunks}"), 400, "bad_framing");
        eventually("the endpoint's connection ends", || {
            refusals.backend.open_connections() == 0
        });
        let seen = String::from_utf8_lossy(&refusals.backend.received().concat()).into_owned();
        assert!(!seen.contains("smuggled"), "{chunks:?} let bytes through: {seen}");
    }
}

#[test]
fn endless_chunk_extensions_and_trailers_are_refused() {
    let refusals = Refusals::new();
    let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        format!("3;{}", "a".repeat(100_000)),
        format!("0\r\n{}", "X-Long: aaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(10_000)),
        format!("{}3\r\nabc", "0".repeat(100_000)),
    ] {
        let mut conn = refusals.gateway.connect();
        let _ = conn.try_send(format!("{head}{body}"));
        let answer = conn.response_to("POST");
        assert!(matches!(answer.status, 400 | 413 | 431), "{answer}");
        conn.expect_end();
    }
}

#[test]
fn malformed_field_lines_are_refused() {
    let refusals = Refusals::new();
    for lines in [
        "X-A: a\r\n folded".as_bytes(),
        b"X-A: a\r\n\tfolded",
        b"X-A: a\rb",
        b"X-A: a\nX-B: b",
        b"X-A: a\0b",
        b"X-A : a",
        b"X-A\t: a",
        b"X A: a",
        b" X-A: a",
        b": a",
        b"no colon",
        b"X-\x01: a",
        b"X-A: \x01",
        b"X-A: \x7f",
        b"X-\xc3\xa9: a",
        b"X-(A): a",
        b"X-A: a\r",
    ] {
        let request = [b"GET / HTTP/1.1\r\nHost: test\r\n", lines, b"\r\n\r\n"].concat();
        refusals.expect_untouched(request, 400, "bad_request");
    }
    // Before the first field line a folded one has nothing to fold onto.
    refusals.expect_untouched("GET / HTTP/1.1\r\n Host: test\r\n\r\n", 400, "bad_request");
}

#[test]
fn bytes_above_ascii_in_values_pass_unchanged() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let answer = gateway.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-Name: caf\xe9 \xc3\xa9\tx\r\n\r\n");
    assert_eq!(answer.status, 200);
    let seen = backend.received().concat();
    let value = b"X-Name: caf\xe9 \xc3\xa9\tx\r\n";
    assert!(
        seen.windows(value.len()).any(|w| w == value),
        "{:?}",
        String::from_utf8_lossy(&seen)
    );
}

#[test]
fn malformed_request_lines_are_refused() {
    let refusals = Refusals::new();
    for line in [
        "GET /\r".as_bytes(),
        b"GET /",
        b"GET",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET\t/ HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / x HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1.1x",
        b"GET / HTTP/11",
        b"GET / HTTP/1",
        b"GET / HTTP/1.",
        b"GET / XTTP/1.1",
        b"G(T / HTTP/1.1",
        b"G\x01T / HTTP/1.1",
        b"GET /\x01 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /caf\xc3\xa9 HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET /a\"b HTTP/1.1",
        b"GET /a<b HTTP/1.1",
        b"GET /a>b HTTP/1.1",
        b"GET /a\\b HTTP/1.1",
        b"GET /a^b HTTP/1.1",
        b"GET /a`b HTTP/1.1",
        b"GET /a{b HTTP/1.1",
        b"GET /a|b HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET ?a HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET test:80 HTTP/1.1",
        b"GET http:/a HTTP/1.1",
        b"GET /%zz HTTP/1.1",
        b"GET /% HTTP/1.1",
        b"GET /%4 HTTP/1.1",
        b"GET /%00 HTTP/1.1",
    ] {
        let request = [line, b"\r\nHost: test\r\n\r\n"].concat();
        refusals.expect_untouched(request, 400, "bad_request");
    }
    let no_host = "GET http:///a HTTP/1.1\r\nHost: test\r\n\r\n";
    refusals.expect_untouched(no_host, 400, "bad_host");
}

#[test]
fn garbage_is_refused() {
    let refusals = Refusals::new();
    refusals.expect_untouched(
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        400,
        "bad_request",
    );
    refusals.expect_untouched("\0\0\0\0\r\n\r\n", 400, "bad_request");
    refusals.expect_untouched("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n\r\n", 400, "bad_request");
}

#[test]
fn bare_line_feeds_do_not_end_lines() {
    let refusals = Refusals::new();
    refusals.expect_untouched("GET / HTTP/1.1\nHost: test\n\n", 400, "bad_request");
    refusals.expect_untouched("GET / HTTP/1.1\r\nHost: test\n\r\n", 400, "bad_request");
    refusals.expect_untouched("\nGET / HTTP/1.1\r\nHost: test\r\n\r\n", 400, "bad_request");
}

#[test]
fn an_empty_line_before_a_request_is_skipped() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    assert_eq!(
        conn.send("\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .response()
            .status,
        200
    );
    // Some clients end a body with a CRLF that its length does not count.
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx\r\n");
    assert_eq!(conn.response_to("POST").status, 200);
    assert_eq!(conn.get("/").status, 200);
}

#[test]
fn other_versions_are_refused() {
    let refusals = Refusals::new();
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"] {
        refusals.expect_untouched(
            format!("GET / {version}\r\nHost: test\r\n\r\n"),
            505,
            "http_version",
        );
    }
    refusals.expect_untouched("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version");
}

#[test]
fn a_missing_doubled_or_invalid_host_is_refused() {
    let refusals = Refusals::new();
    for lines in [
        "X-A: b",
        "Host: test\r\nHost: test",
        "Host: test\r\nHost: other",
        "Host:",
        "Host: a b",
        "Host: a/b",
        "Host: a,b",
        "Host: user@test",
        "Host: test:",
        "Host: test:abc",
        "Host: test:65536",
        "Host: test:80:80",
        "Host: [::1",
        "Host: ::1",
        "Host: [::g]",
        "Host: te\"st",
        "Host: te?st",
        "Host: te#st",
        "Host: te\\st",
        "Host: test%00",
    ] {
        let line = lines.to_owned();
        // An empty port is legal in RFC 3986 and useless; both answers are defensible.
        if line == "Host: test:" {
            continue;
        }
        refusals.expect_untouched(format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n"), 400, "bad_host");
    }
    refusals.expect_untouched("GET http://one/ HTTP/1.1\r\nHost: two\r\n\r\n", 400, "bad_host");
    refusals.expect_untouched(
        "GET http://user@test/ HTTP/1.1\r\nHost: test\r\n\r\n",
        400,
        "bad_host",
    );
}

#[test]
fn ordinary_hosts_are_accepted() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    for host in [
        "test",
        "TEST.example.com",
        "a-b.c_d",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "xn--caf-dma.example",
    ] {
        let answer = gateway.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status, 200, "Host {host}: {answer}");
    }
}

#[test]
fn connect_and_trace_are_refused() {
    let refusals = Refusals::new();
    refusals.expect_untouched(
        "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n",
        405,
        "method_not_allowed",
    );
    refusals.expect_untouched(
        "TRACE / HTTP/1.1\r\nHost: test\r\n\r\n",
        405,
        "method_not_allowed",
    );
}

#[test]
fn an_upgrade_to_h2c_never_reaches_the_endpoint() {
    let refusals = Refusals::new();
    refusals.expect_untouched(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        400,
        "bad_request",
    );
}

#[test]
fn unknown_expectations_are_refused() {
    let refusals = Refusals::new();
    refusals.expect_untouched(
        "POST / HTTP/1.1\r\nHost: test\r\nExpect: a-miracle\r\nContent-Length: 0\r\n\r\n",
        417,
        "expectation_failed",
    );
}

#[test]
fn a_refused_request_does_not_harm_those_answered_before_it() {
    let backend = Backend::http(|r| Reply::ok(r.target.clone()));
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\nGET /2 HTTP/1.1\r\nHost: test\r\n\r\nGET bad\r\n\r\n");
    assert_eq!(conn.response().text(), "/1");
    assert_eq!(conn.response().text(), "/2");
    conn.response().expect(400, Some("bad_request"));
    conn.expect_end();
    assert_eq!(backend.hits(), 2);
}

#[test]
fn refusals_are_logged_and_counted_like_any_request() {
    let backend = Backend::text("hi");
    let config = format!(
        "{}\n[log]\naccess = {{ path = \"access.log\", format = \"json\" }}\n",
        crate::PLAIN
    );
    let gateway = gateway(&config).with("app", backend.address()).start();
    gateway
        .send("GET / HTTP/1.1\r\n\r\n")
        .expect(400, Some("bad_host"));
    eventually("the refusal is in the access log", || {
        gateway.read("access.log").contains("bad_host")
    });
    assert!(gateway.metrics().contains("bad_host"));
}

#[test]
fn a_request_cut_by_its_client_ends_the_endpoints_connection() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc");
    eventually("the head arrives", || backend.received_bytes() > 0);
    drop(conn);
    eventually("the endpoint's connection ends", || {
        backend.open_connections() == 0
    });
    assert_eq!(backend.hits(), 0);
    assert_eq!(Conn::connect(gateway.web()).get("/").text(), "hi");
}

#[test]
fn after_a_failure_the_body_that_a_client_never_got_leave_to_send_is_not_waited_for() {
    let backend = Backend::script(|conn, _| {
        let _head = conn.try_request_head();
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        SMUGGLED.len()
    );
    let answer = conn.send(head).response_to("POST");
    answer.expect(502, Some("upstream_reset"));
    // What the client sends next may be the body, or a request: nobody can tell.
    assert!(!answer.keeps_alive(), "{answer}");
    let _ = conn.try_send(SMUGGLED);
    conn.expect_end();
    // The same where no endpoint was asked.
    backend.down();
    let answer = gateway
        .connect()
        .send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        .response_to("POST");
    answer.expect(502, Some("connect_failed"));
    assert!(!answer.keeps_alive(), "{answer}");
}
