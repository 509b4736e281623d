//! Endpoints that speak HTTP/2 badly: refuse, leave, break off, or flood. Each request is repeated or fails properly,
//! and nothing hangs or grows.

use crate::gateway;
use crate::h2_upstream::TO_H2;
use testkit::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, Served,
};
use testkit::{Backend, Conn, Gateway, eventually, patience};

const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// A server that reads requests frame by frame: the closure gets the number of the connection, of the request on it,
/// and its stream.
fn scripted(
    settings: &'static [(u16, u32)],
    each: impl Fn(&mut Served<'_>, usize, usize, u32) + Send + Sync + 'static,
) -> Backend {
    Backend::script(move |conn, visit| {
        let Ok(mut served) = Served::accept(conn, settings) else {
            return;
        };
        for number in 0.. {
            let Ok(head) = served.next_of(HEADERS) else { return };
            visit.hit(testkit::Request::default());
            each(&mut served, visit.connection, number, head.stream);
        }
    })
}

fn before(backend: &Backend, more: &str) -> Gateway {
    gateway(&format!(
        "runtime = {{ workers = 1 }}\n{TO_H2}{more}\n[log]\naccess = {{ path = \"access.log\", format = \"json\" }}\n"
    ))
    .with("app", backend.address())
    .start()
}

fn get(gateway: &Gateway, path: &str, status: u16, token: Option<&str>) {
    let answer = gateway.get(path);
    assert_eq!((answer.status, answer.token()), (status, token), "{answer}");
}

#[test]
fn a_refused_stream_is_repeated_whatever_it_asks_for() {
    let backend = scripted(&[], |served, _, number, stream| {
        match number {
            0 => served.reset(stream, REFUSED_STREAM),
            _ => served.answer(stream, 200, b"hi"),
        };
    });
    let gateway = before(&backend, "");
    let answer = gateway.send("POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    assert_eq!((backend.hits(), backend.connections()), (2, 1));
    assert_eq!(gateway.endpoint(&backend.address())["failure_streak"], 0);
    let record = gateway.access_record("/a");
    assert_eq!(record["attempts"][0]["token"], "upstream_reset");
    assert_eq!(record["attempts"][1]["protocol"], "HTTP/2.0");
}

#[test]
fn who_refuses_everything_fails_once_for_each_request() {
    let backend = scripted(&[], |served, _, _, stream| {
        served.reset(stream, REFUSED_STREAM);
    });
    let gateway = before(&backend, "");
    get(&gateway, "/a", 502, Some("upstream_reset"));
    assert_eq!(backend.hits(), 2, "once more, and not for ever");
    assert_eq!(gateway.endpoint(&backend.address())["failure_streak"], 1);
    let detail = gateway.access_record("/a")["detail"].clone();
    assert_eq!(detail, "the stream was refused (REFUSED_STREAM)");
}

#[test]
fn a_goodbye_before_the_requests_turn_sends_it_to_another_connection() {
    let backend = scripted(&[], |served, connection, _, stream| match connection {
        0 => {
            served.goaway(0, NO_ERROR);
            served.drain();
        }
        _ => _ = served.answer(stream, 200, b"hi"),
    });
    let gateway = before(&backend, "");
    let answer = gateway.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    assert_eq!((backend.hits(), backend.connections()), (2, 2));
    assert_eq!(gateway.endpoint(&backend.address())["failure_streak"], 0);
}

#[test]
fn what_runs_when_the_endpoint_says_goodbye_is_finished() {
    let backend = scripted(&[], |served, connection, _, stream| {
        if connection == 0 {
            served.goaway(stream, NO_ERROR);
            // What comes from now on goes elsewhere.
            testkit::pace(patience() / 50);
        }
        served.answer(stream, 200, format!("{connection}").as_bytes());
    });
    let gateway = before(&backend, "");
    assert_eq!(gateway.get("/").text(), "0");
    assert_eq!(gateway.get("/").text(), "1");
    assert_eq!(gateway.get("/").text(), "1");
    eventually("the first is closed", || backend.open_connections() == 1);
}

#[test]
fn resets_are_told_by_their_code_and_the_connection_goes_on() {
    let backend = scripted(&[], |served, _, number, stream| {
        match number {
            0 => served.reset(stream, INTERNAL_ERROR),
            1 => served.reset(stream, CANCEL),
            _ => served.answer(stream, 200, b"hi"),
        };
    });
    let gateway = before(&backend, "");
    for (path, code) in [("/a", "INTERNAL_ERROR"), ("/b", "CANCEL")] {
        get(&gateway, path, 502, Some("upstream_reset"));
        let detail = gateway.access_record(path)["detail"].clone();
        assert_eq!(detail, format!("the stream was reset ({code})"));
    }
    assert_eq!(gateway.get("/").text(), "hi");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_whole_answer_stands_though_the_stream_is_reset_behind_it() {
    let backend = scripted(&[], |served, _, _, stream| {
        served.answer(stream, 403, b"no").reset(stream, NO_ERROR);
    });
    let gateway = before(&backend, "");
    let mut conn = gateway.connect();
    // The rest of the body never comes.
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nthe beginning");
    let answer = conn.response_to("POST");
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.cut),
        (403, "no", None::<String>)
    );
}

#[test]
fn an_answer_that_breaks_the_rules_is_not_passed_on() {
    let cases: [&[u8]; 6] = [
        &frames::status(200, &[("Upper", "1")]),
        &frames::status(200, &[("connection", "close")]),
        &frames::status(200, &[("transfer-encoding", "chunked")]),
        &frames::block(&[("x-a", "1")]),
        &frames::block(&[("x-a", "1"), (":status", "200")]),
        &frames::block(&[(":status", "abc")]),
    ];
    for (n, block) in cases.into_iter().enumerate() {
        let block = block.to_vec();
        let backend = scripted(&[], move |served, connection, number, stream| {
            if (connection, number) == (0, 0) {
                served.send(&Frame::new(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    stream,
                    block.clone(),
                ));
            } else {
                served.answer(stream, 200, b"hi");
            }
        });
        let gateway = before(&backend, "");
        let answer = gateway.get("/a");
        // What can't even be decoded ends the connection.
        let token = if matches!(n, 0 | 5) {
            "upstream_reset"
        } else {
            "bad_response"
        };
        assert_eq!(
            (answer.status, answer.token()),
            (502, Some(token)),
            "{n}: {answer}"
        );
        assert_eq!(gateway.get("/").text(), "hi", "{n}");
    }
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_no_whole_answer() {
    for sent in [&b"short"[..], b"much longer than announced"] {
        let backend = scripted(&[], move |served, _, _, stream| {
            let head = frames::status(200, &[("content-length", "10")]);
            served.send(&Frame::new(HEADERS, END_HEADERS, stream, head));
            served.send(&Frame::new(DATA, END_STREAM, stream, sent));
        });
        let gateway = before(&backend, "");
        let mut conn = gateway.connect();
        conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        match conn.try_response_to("GET") {
            Ok(answer) => assert!(answer.status == 502 || answer.cut.is_some(), "{answer}"),
            Err(broken) => eprintln!("cut: {broken:?}"),
        }
    }
}

#[test]
fn who_speaks_no_http_2_is_not_sent_a_request() {
    // What such a server says to a preface.
    let backend = Backend::script(|conn, _| {
        let _asked = conn.try_read(24);
        conn.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        conn.wait_for_end();
    });
    let gateway = before(&backend, "");
    get(&gateway, "/a", 502, Some("connect_failed"));
    let detail = gateway.access_record("/a")["detail"].clone();
    assert_eq!(detail, "the endpoint does not speak HTTP/2");
}

#[test]
fn who_never_says_what_it_takes_counts_as_not_connected() {
    let backend = Backend::script(|conn, _| conn.wait_for_end());
    let config = TO_H2.replace(
        "upstream = \"app\"\n",
        "upstream = \"app\"\ntimeouts = { connect = \"300ms\" }\n",
    );
    let gateway = gateway(&config).with("app", backend.address()).start();
    get(&gateway, "/", 504, Some("connect_timeout"));
    eventually("nobody waits for it", || backend.open_connections() == 0);
}

#[test]
fn an_endpoint_that_opens_no_window_is_given_up_in_time() {
    let backend = scripted(&[(INITIAL_WINDOW_SIZE, 0)], |served, _, _, _| served.drain());
    let config = TO_H2.replace(
        "upstream = \"app\"\n",
        "upstream = \"app\"\ntimeouts = { response = \"300ms\" }\n",
    );
    let gateway = gateway(&config).with("app", backend.address()).start();
    let body = "x".repeat(200_000);
    let length = body.len();
    let answer = gateway.send(format!(
        "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    assert_eq!((answer.status, answer.token()), (504, Some("response_timeout")));
}

#[test]
fn the_endpoints_own_bound_on_streams_is_kept_by_opening_connections() {
    let backend = Backend::script(|conn, visit| {
        let Ok(mut served) = Served::accept(conn, &[(MAX_CONCURRENT_STREAMS, 2)]) else {
            return;
        };
        // Two at a time; a third would be one too many.
        let mut held = Vec::new();
        while let Ok(head) = served.next_of(HEADERS) {
            visit.hit(testkit::Request::default());
            held.push(head.stream);
            assert!(held.len() <= 2, "a third stream");
            if held.len() == 2 {
                for stream in held.drain(..) {
                    served.answer(stream, 200, b"hi");
                }
            }
        }
    });
    let gateway = gateway(&format!("runtime = {{ workers = 1 }}\n{TO_H2}"))
        .with("app", backend.address())
        .start();
    let mut conns: Vec<Conn> = (0..8).map(|_| gateway.connect()).collect();
    for conn in &mut conns {
        conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    for mut conn in conns {
        assert_eq!(conn.response_to("GET").text(), "hi");
    }
    assert_eq!(backend.hits(), 8);
    let connections = backend.connections();
    assert!((2..=8).contains(&connections), "{connections}");
}

#[test]
fn fifty_requests_on_a_connection_that_dies_are_each_judged_once() {
    let backend = Backend::script(|conn, visit| {
        let Ok(mut served) = Served::accept(conn, &[]) else {
            return;
        };
        for number in 1.. {
            if served.next_of(HEADERS).is_err() {
                return;
            }
            visit.hit(testkit::Request::default());
            if number == 50 {
                return;
            }
        }
    });
    let gateway = gateway(&format!(
        "runtime = {{ workers = 1 }}\n{TO_H2}outlier = {{ consecutive_failures = 0 }}\n"
    ))
    .with("app", backend.address())
    .start();
    let mut conns: Vec<Conn> = (0..50).map(|_| gateway.connect()).collect();
    for conn in &mut conns {
        conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    }
    for mut conn in conns {
        let answer = conn.response_to("POST");
        assert_eq!((answer.status, answer.token()), (502, Some("upstream_reset")));
    }
    let endpoint = gateway.endpoint(&backend.address());
    assert_eq!(
        (&endpoint["failure_streak"], &endpoint["in_flight"]),
        (&50.into(), &0.into())
    );
    assert_eq!(backend.hits(), 50);
}

#[test]
fn frames_that_nobody_needs_end_the_connection_and_not_the_gateway() {
    let ping = Frame::new(PING, 0, 0, [0; 8]).bytes().repeat(1000);
    let settings = Frame::new(frames::SETTINGS, 0, 0, "").bytes().repeat(1000);
    let unknown = Frame::new(0xbb, 0, 0, "what").bytes().repeat(1000);
    for flood in [ping, settings, unknown] {
        let backend = Backend::script(move |conn, visit| {
            let Ok(mut served) = Served::accept(conn, &[]) else {
                return;
            };
            let Ok(head) = served.next_of(HEADERS) else { return };
            visit.hit(testkit::Request::default());
            if visit.connection > 0 {
                served.answer(head.stream, 200, b"hi").drain();
                return;
            }
            for _ in 0..200 {
                if served.conn.try_send(&flood).is_err() {
                    return;
                }
            }
            served.drain();
        });
        let gateway = before(&backend, "");
        let before = gateway.rss_kb();
        get(&gateway, "/a", 502, Some("upstream_reset"));
        assert!(gateway.rss_kb() < before + 16 * 1024);
        get(&gateway, "/", 200, None);
    }
}

#[test]
fn heads_without_end_are_cut() {
    let field = frames::block(&[("x-flood", &"x".repeat(1000))]);
    for continued in [true, false] {
        let field = field.clone();
        let backend = Backend::script(move |conn, visit| {
            let Ok(mut served) = Served::accept(conn, &[]) else {
                return;
            };
            let Ok(head) = served.next_of(HEADERS) else { return };
            visit.hit(testkit::Request::default());
            if continued {
                served.send(&Frame::new(HEADERS, 0, head.stream, frames::status(200, &[])));
                for _ in 0..10_000 {
                    let more = Frame::new(frames::CONTINUATION, 0, head.stream, field.clone());
                    if served.conn.try_send(more.bytes()).is_err() {
                        return;
                    }
                }
            } else {
                for _ in 0..10_000 {
                    let interim = Frame::new(
                        HEADERS,
                        END_HEADERS,
                        head.stream,
                        frames::status(103, &[("x", "y")]),
                    );
                    if served.conn.try_send(interim.bytes()).is_err() {
                        return;
                    }
                }
            }
            served.drain();
        });
        let gateway = before(&backend, "");
        let before = gateway.rss_kb();
        let mut conn = gateway.connect();
        conn.send("POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        let answer = std::iter::repeat_with(|| conn.response_to("POST")).find(|answer| answer.status >= 200);
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 502, "{answer}");
        assert!(gateway.rss_kb() < before + 16 * 1024);
    }
}

#[test]
fn garbage_ends_the_connection_and_the_request_is_told() {
    let backend = Backend::script(|conn, visit| {
        let Ok(mut served) = Served::accept(conn, &[]) else {
            return;
        };
        if served.next_of(HEADERS).is_err() {
            return;
        }
        visit.hit(testkit::Request::default());
        let _sent = served.conn.try_send([0xff; 4096]);
        served.drain();
    });
    let gateway = before(&backend, "");
    let answer = gateway.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        (answer.status, answer.token()),
        (502, Some("upstream_reset")),
        "{answer}"
    );
}

#[test]
fn a_client_that_leaves_resets_its_stream_and_nothing_else() {
    let backend = Backend::script(|conn, visit| {
        let Ok(mut served) = Served::accept(conn, &[]) else {
            return;
        };
        let Ok(head) = served.next_of(HEADERS) else { return };
        visit.hit(testkit::Request::default());
        let Ok(reset) = served.next_of(RST_STREAM) else {
            return;
        };
        assert_eq!((reset.stream, reset.number(0)), (head.stream, CANCEL));
        visit.hit(testkit::Request::default());
        let Ok(head) = served.next_of(HEADERS) else { return };
        served.answer(head.stream, 200, b"hi");
        assert!(served.next_of(GOAWAY).is_err(), "the connection stays");
    });
    let gateway = gateway(&format!("runtime = {{ workers = 1 }}\n{TO_H2}"))
        .with("app", backend.address())
        .start();
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request is there", || backend.hits() == 1);
    conn.reset();
    eventually("it was taken back", || backend.hits() == 2);
    assert_eq!(gateway.get("/").text(), "hi");
    assert_eq!(backend.connections(), 1);
}
