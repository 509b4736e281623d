//! What endpoints answer against RFC 9112 never reaches a client, and what they cut short never looks complete.

use crate::in_front_of;
use testkit::{Backend, Broken, Reply, pace};

#[track_caller]
fn expect_refused_answer(bytes: impl AsRef<[u8]>) {
    let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    let backend = Backend::raw(bytes);
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    let answer = conn.get("/");
    assert_eq!(
        (answer.status, answer.token()),
        (502, Some("bad_response")),
        "to {shown:?}: {answer}"
    );
    assert!(!answer.text().contains("evil"), "{shown:?} leaked");
    // The client's side is unharmed.
    assert_eq!(conn.get("/").status, 502);
}

#[test]
fn ambiguous_answers_become_502() {
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: +4",
        "Content-Length: x",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "X-A: a\nX-B: b",
        "X-A: a\0b",
        "X-A : b",
        "X-A: a\rb",
        "X A: b",
        "no colon",
    ] {
        expect_refused_answer(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nevil"));
    }
    expect_refused_answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n");
}

#[test]
fn malformed_status_lines_become_502() {
    for line in [
        "garbage",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1  200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1 099 Low",
        "ICY 200 OK",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 O\0K",
    ] {
        expect_refused_answer(format!("{line}\r\nContent-Length: 4\r\n\r\nevil"));
    }
    expect_refused_answer("HTTP/1.1 200 OK\nContent-Length: 4\n\nevil");
}

#[test]
fn an_answer_head_without_end_becomes_502() {
    let backend = Backend::raw(format!("HTTP/1.1 200 OK\r\nX-Long: {}", "a".repeat(3_000_000)));
    in_front_of(&backend).get("/").expect(502, Some("bad_response"));
}

#[test]
fn an_endpoint_that_closes_before_or_within_its_head_becomes_502() {
    for (bytes, token) in [
        ("", "upstream_reset"),
        ("HT", "bad_response"),
        ("HTTP/1.1 200 OK\r\n", "bad_response"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "bad_response"),
    ] {
        let backend = Backend::raw(bytes);
        in_front_of(&backend).get("/").expect(502, Some(token));
    }
}

/// Expects a `200` whose body is cut, and the connection ended.
#[track_caller]
fn expect_cut(backend: &Backend) {
    let gateway = in_front_of(backend);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    match conn.try_response_to("GET") {
        Ok(answer) => {
            assert_eq!(answer.status, 200);
            assert!(answer.cut.is_some(), "a short body looks complete: {answer}");
            conn.expect_end();
        }
        // Cut inside a chunk's framing.
        Err(e) => assert!(matches!(e, Broken::Closed | Broken::Reset), "{e:?}"),
    }
}

#[test]
fn a_truncated_body_is_cut_never_made_to_look_complete() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    ] {
        expect_cut(&Backend::raw(bytes));
    }
    let large = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}",
        "a".repeat(1_000_000)
    );
    expect_cut(&Backend::raw(large));
    let reset =
        Backend::http(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").then_reset());
    expect_cut(&reset);
}

#[test]
fn a_reset_within_a_body_delimited_by_close_is_cut() {
    let backend = Backend::http(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\n\r\nsome of it")
            .then_pause(std::time::Duration::from_millis(100))
            .then_reset()
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = conn.try_response_to("GET").expect("a head");
    assert!(answer.cut.is_some(), "a reset body looks complete: {answer}");
}

#[test]
fn bytes_behind_an_answer_poison_no_later_request() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for answer in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{evil}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{evil}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n{evil}"),
    ] {
        let shown = answer.clone();
        let backend = Backend::http(move |r| match r.target.as_str() {
            "/poison" => Reply::raw(&answer),
            _ => Reply::ok("good"),
        });
        let gateway = in_front_of(&backend);
        let mut conn = gateway.connect();
        for _ in 0..3 {
            let poison = conn.get("/poison");
            assert!(
                poison.status < 400 && !poison.text().contains("evil"),
                "{shown:?}: {poison}"
            );
            assert_eq!(conn.get("/").text(), "good", "after {shown:?}");
        }
    }
}

#[test]
fn bytes_that_arrive_while_a_connection_idles_poison_no_later_request() {
    let backend = Backend::script(|conn, visit| {
        while let Ok(request) = conn.try_request() {
            visit.hit(request);
            let sent = conn.try_send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
            pace(std::time::Duration::from_millis(50));
            if sent.is_err()
                || conn
                    .try_send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                    .is_err()
            {
                return;
            }
        }
    });
    let gateway = in_front_of(&backend);
    let mut conn = gateway.connect();
    for _ in 0..4 {
        assert_eq!(conn.get("/").text(), "good");
        pace(std::time::Duration::from_millis(120));
    }
}
