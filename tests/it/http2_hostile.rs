//! Clients of HTTP/2 that do what the rules allow, or nearly, in order to cost more than they pay: what they leave
//! behind is given up at once and bounded, and no endpoint suffers for them.

use crate::gateway;
use crate::http2::{BOTH, both, limited};
use std::time::Duration;
use testkit::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, Peer, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, get,
};
use testkit::{Backend, Gate, Reply, eventually, eventually_some};

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "test"),
    (":path", "/post"),
];

#[test]
fn resets_that_nobody_reads_do_not_gather() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/" => Reply::ok("hi"),
        _ => Reply::pattern(64 << 20),
    });
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(SETTINGS, 0, 0, [0, 4, 0x7f, 0xff, 0xff, 0xff]));
    peer.send(&Frame::new(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0, 0]));
    for n in 0..4 {
        peer.get(2 * n + 1, "/large");
    }
    eventually("all are answered", || backend.hits() == 4);
    // As much of it as the sockets take.
    testkit::pace(Duration::from_millis(500));
    let before = gateway.rss_kb();
    let wrong = block(&[("connection", "")]);
    for batch in 0..150 {
        let frames: Vec<u8> = (0..1000)
            .flat_map(|n| {
                let stream = 101 + 2 * (batch * 1000 + n);
                Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, wrong.clone()).bytes()
            })
            .collect();
        if peer.conn.send_while_taken(&frames, Duration::from_millis(500)) < frames.len() {
            break;
        }
    }
    let after = gateway.rss_kb();
    assert!(after < before + 32 * 1024, "{after} of {before} KiB");
    assert_eq!(gateway.get("/").text(), "hi");
}

#[test]
fn a_body_that_waits_for_its_endpoint_is_given_up_with_its_stream() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        visit.hit(conn.try_request_head().expect("a head"));
        held.wait();
    });
    let gateway = limited(
        &backend,
        "body = \"0\", h2_window = \"32MiB\", h2_connection_window = \"32MiB\"",
    );
    let mut peer = Peer::connect(gateway.web());
    peer.next_of(SETTINGS);
    peer.send(&Frame::new(SETTINGS, ACK, 0, ""));
    peer.send(&Frame::new(HEADERS, END_HEADERS, 1, block(&POST)));
    let piece = Frame::new(DATA, 0, 1, vec![b'x'; 16 * 1024]).bytes();
    for _ in 0..1500 {
        peer.conn.send(&piece);
    }
    gate.reached();
    peer.send(&Frame::new(RST_STREAM, 0, 1, CANCEL));
    eventually("the request is given up", || {
        gateway.metric("tidegate_h2_streams_open", &[]) == 0.0
    });
    gate.open();
}

#[test]
fn requests_taken_back_in_the_same_breath_reach_no_endpoint() {
    let backend = Backend::text("hi");
    let config = format!("{BOTH}\n[log]\naccess = {{ path = \"access.log\", format = \"json\" }}\n");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut peer = Peer::connect(gateway.web());
    let both: Vec<u8> = (0..50)
        .flat_map(|n| {
            let open = Frame::new(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, get("/taken-back"));
            let back = Frame::new(RST_STREAM, 0, 2 * n + 1, CANCEL);
            [open.bytes(), back.bytes()].concat()
        })
        .collect();
    peer.conn.send(both);
    eventually("all are on record", || {
        gateway.metric("tidegate_listener_requests_total", &["listener=\"web\""]) == 50.0
    });
    assert_eq!(backend.hits(), 0);
    let record = gateway.access_record("/taken-back");
    assert_eq!(
        (&record["status"], &record["token"]),
        (&499.into(), &"client_closed".into())
    );
    peer.get(101, "/");
    assert_eq!(peer.next_of(HEADERS).stream, 101);
}

#[test]
fn a_client_that_will_not_hear_of_the_end_is_refused() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |r| match r.target.as_str() {
        "/held" => Reply::ok("held").held_by(&held),
        _ => Reply::ok("hi"),
    });
    let gateway = limited(&backend, "max_connection_age = \"300ms\"");
    let mut peer = Peer::connect(gateway.web());
    // Keeps the connection from being idle.
    peer.get(1, "/held");
    peer.next_of(GOAWAY);
    let mut stream = 1;
    let code = eventually_some("new streams are refused", || {
        stream += 2;
        peer.get(stream, "/");
        let said = peer.until(|frame| frame.stream == stream && frame.kind != DATA);
        (said.kind == RST_STREAM).then(|| said.number(0))
    });
    assert_eq!(code, REFUSED_STREAM);
    gate.open();
    peer.until(|frame| frame.kind == HEADERS && frame.stream == 1);
    peer.goaway();
    eventually("it is gone", || gateway.open_connections() == 0);
}

#[test]
fn requests_taken_back_after_a_while_and_answers_left_lying_now_and_then_are_none_of_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |r| match r.target.as_str() {
        "/held" => Reply::ok("held").held_by(&held),
        "/large" => Reply::pattern(200_000),
        _ => Reply::ok("hi"),
    });
    let gateway = limited(&backend, "send_timeout = \"300ms\", min_rate = \"0B\"");
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(WINDOW_UPDATE, 0, 0, [0x7f, 0, 0, 0]));
    let mut streams = (0..).map(|n| 2 * n + 1);
    // Clients whose deadline passes, at a rate that would be an attack if they were not in earnest.
    for _ in 0..4 {
        let asked: Vec<u32> = streams.by_ref().take(100).collect();
        for &stream in &asked {
            peer.get(stream, "/held");
        }
        testkit::pace(Duration::from_millis(1100));
        for stream in asked {
            peer.send(&Frame::new(RST_STREAM, 0, stream, CANCEL));
        }
    }
    // Twelve answers that nobody takes, and then twelve that are taken.
    for _ in 0..2 {
        let asked: Vec<u32> = streams.by_ref().take(12).collect();
        for &stream in &asked {
            peer.get(stream, "/large");
        }
        for _ in asked {
            assert_eq!(peer.next_of(RST_STREAM).payload, CANCEL);
        }
        for stream in streams.by_ref().take(12) {
            peer.get(stream, "/");
            peer.until(|frame| frame.stream == stream && frame.kind == DATA);
        }
    }
    assert_eq!(gateway.open_connections(), 1);
    gate.open();
}

#[test]
fn nobody_writes_into_the_log_by_frames() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    let unasked = Frame::new(PING, ACK, 0, [9; 8]).bytes();
    peer.conn.send(unasked.repeat(50));
    peer.get(1, "/");
    peer.next_of(HEADERS);
    assert!(!gateway.log().contains("WARN"), "{}", gateway.log());
}

#[test]
fn a_head_in_crumbs_is_found_for_what_it_is_whoever_finds_it() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(HEADERS, END_STREAM, 1, get("/")));
    for _ in 0..20 {
        // Apart, so that the engine is never behind us.
        testkit::pace(Duration::from_millis(20));
        let more = Frame::new(CONTINUATION, 0, 1, block(&[("x", "more")]));
        if peer.conn.try_send(more.bytes()).is_err() {
            break;
        }
    }
    peer.goaway();
    eventually("it is counted", || {
        gateway.metric("tidegate_h2_abuses_total", &["kind=\"continuation\""]) == 1.0
    });
}

/// What came of a request: a status, or the code of a reset or of the connection's end.
#[derive(Debug, PartialEq)]
enum Came {
    Status(String),
    Refused(u32),
}

fn came(peer: &mut Peer) -> Came {
    let said = peer.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY | HEADERS));
    match said.kind {
        RST_STREAM => Came::Refused(said.number(0)),
        GOAWAY => Came::Refused(said.number(4)),
        // A status from the static table, or one of its names with three digits compressed.
        _ => Came::Status(match said.payload[0] {
            0x88 => "200".to_owned(),
            0x8c => "400".to_owned(),
            other => format!("{other:#x}"),
        }),
    }
}

#[test]
fn what_another_parser_could_read_in_another_way_reaches_no_endpoint() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let usual = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", "/"),
    ];
    let with = |place: usize, value: &'static str| {
        let mut fields = usual.to_vec();
        fields[place].1 = value;
        fields
    };
    let without = |place: usize| {
        let mut fields = usual.to_vec();
        fields.remove(place);
        fields
    };
    let and = |more: &[(&'static str, &'static str)]| [&usual[..], more].concat();
    let (answered, reset) = (Came::Status("400".to_owned()), Came::Refused(PROTOCOL_ERROR));
    for (what, fields, end) in [
        ("a name with a quotation mark", and(&[("x\"y", "1")]), &answered),
        ("a name with a colon", and(&[("x:y", "1")]), &reset),
        ("a name with a space", and(&[("x y", "1")]), &reset),
        ("a name with a line end", and(&[("x\r\ny", "1")]), &reset),
        ("no name", and(&[("", "1")]), &reset),
        ("NUL in a value", and(&[("x", "a\0b")]), &reset),
        ("LF in a value", and(&[("x", "a\nb")]), &reset),
        ("a space before a value", and(&[("x", " a")]), &answered),
        ("a tab behind a value", and(&[("x", "a\t")]), &answered),
        ("a path with a space", with(3, "/a b"), &reset),
        ("a path with a line", with(3, "/ HTTP/1.1\r\nx: y"), &reset),
        ("a path in absolute form", with(3, "http://other/"), &reset),
        ("a path without a slash", with(3, "a/b"), &reset),
        ("a query without a path", with(3, "?a"), &answered),
        ("a path that is empty", with(3, ""), &reset),
        ("an asterisk in a GET", with(3, "*"), &answered),
        ("a path beyond ASCII", with(3, "/\u{e9}"), &answered),
        ("a path with an encoded NUL", with(3, "/%00"), &answered),
        ("two hosts in one", with(2, "a, b"), &reset),
        ("a comma in a host", with(2, "a,b"), &answered),
        ("a path in a host", with(2, "a/b"), &reset),
        ("a user in a host", with(2, "u@test"), &answered),
        ("a host that is empty", with(2, ""), &reset),
        ("a port beyond all ports", with(2, "a:99999"), &answered),
        ("no host at all", without(2), &answered),
        ("no scheme", without(1), &reset),
        ("no method", without(0), &reset),
        ("a method with a space", with(0, "GE T"), &reset),
        ("a method that is empty", with(0, ""), &reset),
        ("another Host", and(&[("host", "other")]), &answered),
        (
            "Host twice",
            and(&[("host", "test"), ("host", "test")]),
            &answered,
        ),
        ("a length with a sign", and(&[("content-length", "+0")]), &reset),
        ("a length of nothing", and(&[("content-length", "")]), &answered),
        ("a list of lengths", and(&[("content-length", "0, 0")]), &reset),
        (
            "a length twice",
            and(&[("content-length", "0"), ("content-length", "0")]),
            &answered,
        ),
        (
            "two lengths",
            and(&[("content-length", "0"), ("content-length", "1")]),
            &reset,
        ),
        ("a length and no body", and(&[("content-length", "5")]), &reset),
        ("chunks", and(&[("transfer-encoding", "chunked")]), &reset),
        ("an upgrade", and(&[("upgrade", "h2c")]), &reset),
        ("a connection kept", and(&[("keep-alive", "1")]), &reset),
        (
            "a proxy's connection",
            and(&[("proxy-connection", "close")]),
            &reset,
        ),
        (
            "settings in a field",
            and(&[("http2-settings", "AAMAAABk")]),
            &answered,
        ),
        ("a status", and(&[(":status", "200")]), &reset),
        (
            "a protocol, which nobody offered",
            and(&[(":protocol", "websocket")]),
            &reset,
        ),
    ] {
        let mut peer = Peer::connect(gateway.web());
        peer.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, block(&fields)));
        assert_eq!(&came(&mut peer), end, "{what}");
    }
    // The engine takes any text for a protocol (RFC 8441).
    let connect = |protocol: &'static str| {
        let extended = [(":method", "CONNECT"), (":protocol", protocol)];
        [&extended[..], &usual[1..], &[("sec-websocket-version", "13")]].concat()
    };
    for protocol in [
        "websocket\r\nx-y: 1",
        "websocket\r\n\r\nGET /admin HTTP/1.1",
        "web socket",
        "",
        " websocket",
        "a\0",
    ] {
        let mut peer = Peer::connect(gateway.web());
        peer.send(&Frame::new(HEADERS, END_HEADERS, 1, block(&connect(protocol))));
        assert_eq!(came(&mut peer), answered, "{protocol:?}");
    }
    assert_eq!(backend.hits(), 0);
    // A trailer may come into a head on its way.
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(HEADERS, END_HEADERS, 1, block(&POST)));
    peer.send(&Frame::new(DATA, 0, 1, "body"));
    let trailers = block(&[
        ("x\"y", "1"),
        ("x-sum", "1"),
        ("x_forwarded_for", "1"),
        ("transfer-encoding2", "1"),
        ("te", "trailers"),
    ]);
    peer.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, trailers));
    assert_eq!(came(&mut peer), Came::Status("200".to_owned()));
    let seen = backend.last_request();
    assert_eq!(seen.trailers.get("x-sum"), Some("1"));
    assert!(!seen.trailers.has("x\"y") && !seen.trailers.has("x_forwarded_for") && !seen.trailers.has("te"));
}
