//! Frames that no honest client sends: each attack is cut with its code, counted by its kind, and costs little.

use crate::http2::{both, limited};
use testkit::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PRIORITY, Peer, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, get, text,
};
use testkit::{Backend, Gateway, Reply, eventually};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

#[track_caller]
fn counted(gateway: &Gateway, kind: &str) {
    eventually("its connection is gone", || gateway.open_connections() == 0);
    let label = format!("kind=\"{kind}\"");
    let counted = gateway.metric("tidegate_h2_abuses_total", &[&label]);
    let page = gateway.metrics();
    let told: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("tidegate_h2_") && !line.ends_with(" 0"))
        .collect();
    assert!(counted >= 1.0, "{kind} in {told:#?}");
    assert_eq!(gateway.get("/").text(), "hi");
}

/// The kind is counted, and the code is the right one where it could be told.
#[track_caller]
fn cut(gateway: &Gateway, kind: &str, code: Option<u32>) {
    counted(gateway, kind);
    // A flood may fill the socket so that the farewell is lost with the reset.
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{kind}: {code:?}");
}

#[test]
fn streams_opened_and_reset_at_once() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/" => Reply::ok("hi"),
        _ => Reply::hang(),
    });
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    for n in 0..5000 {
        let stream = 2 * n + 1;
        let open = Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/x")).bytes();
        let reset = Frame::new(RST_STREAM, 0, stream, [0, 0, 0, 8]).bytes();
        if peer.conn.try_send([open, reset].concat()).is_err() {
            break;
        }
    }
    let code = peer.goaway();
    cut(&gateway, "rapid_reset", code);
}

#[test]
fn streams_that_we_are_made_to_reset() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    for n in 0..5000 {
        let stream = 2 * n + 1;
        let open = Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/x")).bytes();
        // A window beyond all bounds is an error of the stream.
        let wrong = Frame::new(WINDOW_UPDATE, 0, stream, [0x7f, 0xff, 0xff, 0xff]).bytes();
        if peer.conn.try_send([open, wrong].concat()).is_err() {
            break;
        }
    }
    let code = peer.goaway();
    cut(&gateway, "made_you_reset", code);
}

#[test]
fn heads_that_grow_when_they_are_unpacked() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let before = gateway.rss_kb();
    let mut peer = Peer::connect(gateway.web());
    for n in 0..2000 {
        let mut head = get("/");
        if n == 0 {
            // Enters the table, and is then named by a byte each time.
            head.push(0x40);
            text("x-bomb", &mut head);
            text(&"b".repeat(3900), &mut head);
        }
        head.extend_from_slice(&[0x80 | 62; 12_000]);
        let frame = Frame::new(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, head);
        if peer.conn.try_send(frame.bytes()).is_err() {
            break;
        }
    }
    let code = peer.goaway();
    cut(&gateway, "header_bomb", code);
    assert_eq!(backend.hits(), 1, "none of them passed");
    assert!(
        gateway.rss_kb() < before + 20 * 1024,
        "{} of {before} KiB",
        gateway.rss_kb()
    );
}

#[test]
fn a_head_without_end() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(HEADERS, END_STREAM, 1, get("/")));
    let more = Frame::new(CONTINUATION, 0, 1, block(&[("x-more", "and more")]));
    let code = peer.flood(&more.bytes(), 100_000);
    cut(&gateway, "continuation", code);
}

#[test]
fn floods_of_frames_that_want_an_answer_or_none() {
    let backend = Backend::text("hi");
    for (kind, frame) in [
        ("settings", Frame::new(SETTINGS, 0, 0, "")),
        ("ping", Frame::new(PING, 0, 0, [7; 8])),
        ("control_frames", Frame::new(PRIORITY, 0, 1, [0, 0, 0, 0, 1])),
        ("control_frames", Frame::new(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])),
        ("control_frames", Frame::new(0xbb, 0, 0, "unknown")),
    ] {
        let gateway = both(&backend).start();
        let code = Peer::connect(gateway.web()).flood(&frame.bytes(), 20_000);
        cut(&gateway, kind, code);
    }
}

#[test]
fn a_body_of_nothing_and_heads_of_nothing() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/" => Reply::ok("hi"),
        _ => Reply::hang(),
    });
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(HEADERS, END_HEADERS, 1, get("/x")));
    let code = peer.flood(&Frame::new(DATA, 0, 1, "").bytes(), 20_000);
    cut(&gateway, "empty_frames", code);

    // Fields without name and value (CVE-2019-9516).
    let mut peer = Peer::connect(gateway.web());
    let head = [get("/"), [0, 0, 0].repeat(5000)].concat();
    peer.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, head));
    let refused = peer.until(|frame| frame.kind == RST_STREAM || frame.kind == 7);
    assert!(
        refused.kind == RST_STREAM
            || refused.number(4) == COMPRESSION_ERROR
            || refused.number(4) == PROTOCOL_ERROR,
        "{refused:?}"
    );
    drop(peer);
    eventually("its connection is gone", || gateway.open_connections() == 0);
}

#[test]
fn a_body_in_crumbs_that_nobody_takes() {
    let backend = Backend::script(|conn, _| {
        let request = conn.try_request_head().expect("a head");
        if request.target == "/" {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
        testkit::Gate::new().wait();
    });
    let gateway = limited(
        &backend,
        "h2_window = \"2MiB\", h2_connection_window = \"4MiB\", body = \"0\"",
    );
    let before = gateway.rss_kb();
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(HEADERS, END_HEADERS, 1, get("/x")));
    let crumbs = Frame::new(DATA, 0, 1, "x").bytes().repeat(1000);
    for _ in 0..2000 {
        if peer
            .conn
            .send_while_taken(&crumbs, std::time::Duration::from_millis(300))
            < crumbs.len()
        {
            break;
        }
    }
    // Either the engine found them to be too many, or they wait for the endpoint within the window.
    assert!(
        gateway.rss_kb() < before + 64 * 1024,
        "{} of {before} KiB",
        gateway.rss_kb()
    );
}

#[test]
fn answers_asked_for_and_never_taken() {
    let backend = Backend::http(|r| match r.target.as_str() {
        "/" => Reply::ok("hi"),
        _ => Reply::pattern(1 << 20),
    });
    let gateway = limited(&backend, "send_timeout = \"300ms\", min_rate = \"0B\"");
    let mut peer = Peer::connect(gateway.web());
    // No window at all.
    peer.send(&Frame::new(SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0]));
    for n in 0..100 {
        peer.get(2 * n + 1, "/large");
    }
    let code = peer.goaway();
    assert_eq!(code, Some(0));
    counted(&gateway, "window_stall");
    eventually("nothing runs at the endpoint", || backend.open_connections() <= 2);
}

#[test]
fn what_breaks_the_rules_of_the_connection_ends_it_with_the_rule() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let upper = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "t"),
        (":path", "/"),
        ("X-Upper", "1"),
    ]);
    let connection = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        ("connection", "close"),
    ]);
    let late = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        ("x", "1"),
        (":path", "/"),
    ]);
    let twice = block(&[
        (":method", "GET"),
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
    ]);
    let unknown = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":odd", "1"),
    ]);
    let no_path = block(&[(":method", "GET"), (":scheme", "http"), (":authority", "t")]);
    let te = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        ("te", "gzip"),
    ]);
    let crlf = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        ("x", "a\r\nb: c"),
    ]);
    for (what, head) in [
        ("upper case", upper),
        ("a field of the connection", connection),
        ("a pseudo-field behind a field", late),
        ("a pseudo-field twice", twice),
        ("an unknown pseudo-field", unknown),
        ("no path", no_path),
        ("TE other than trailers", te),
        ("a line in a value", crlf),
    ] {
        let mut peer = Peer::connect(gateway.web());
        peer.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, head));
        peer.get(3, "/");
        let refused = peer.until(|frame| matches!(frame.kind, RST_STREAM | 7 | HEADERS));
        let code = match refused.kind {
            RST_STREAM => refused.number(0),
            7 => refused.number(4),
            _ => panic!("{what} was taken: {refused:?}"),
        };
        assert_eq!(code, PROTOCOL_ERROR, "{what}");
    }
    assert_eq!(
        backend
            .requests()
            .iter()
            .filter(|r| r.header("x").is_some())
            .count(),
        0
    );
    for (what, frames, code) in [
        (
            "data before a head",
            vec![Frame::new(DATA, 0, 1, "x")],
            PROTOCOL_ERROR,
        ),
        (
            "a frame within a head",
            vec![
                Frame::new(HEADERS, 0, 1, get("/")),
                Frame::new(PING, 0, 0, [0; 8]),
            ],
            PROTOCOL_ERROR,
        ),
        (
            "an even stream",
            vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, 2, get("/"))],
            PROTOCOL_ERROR,
        ),
        (
            // The engine calls it so; the RFC would have COMPRESSION_ERROR.
            "a block that is none",
            vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 8])],
            PROTOCOL_ERROR,
        ),
        (
            "a window beyond all bounds",
            vec![Frame::new(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff])],
            FLOW_CONTROL_ERROR,
        ),
    ] {
        let mut peer = Peer::connect(gateway.web());
        for frame in &frames {
            peer.send(frame);
        }
        assert_eq!(peer.goaway(), Some(code), "{what}");
    }
    assert_eq!(gateway.metric("tidegate_panics_total", &[]), 0.0);
    eventually("each end is counted", || {
        let by_us = ["by=\"gateway\"", "code=\"flow_control_error\""];
        gateway.metric("tidegate_h2_errors_total", &by_us) == 1.0
    });
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_no_body() {
    let backend = Backend::http(|r| Reply::ok(r.body.clone()));
    let gateway = both(&backend).start();
    let head = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", "/"),
        ("content-length", "5"),
    ]);
    for body in ["abc", "abcdefgh"] {
        let mut peer = Peer::connect(gateway.web());
        peer.send(&Frame::new(HEADERS, END_HEADERS, 1, head.clone()));
        peer.send(&Frame::new(DATA, END_STREAM, 1, body));
        let reset = peer.next_of(RST_STREAM);
        assert_eq!((reset.stream, reset.number(0)), (1, PROTOCOL_ERROR), "{body}");
    }
    assert_eq!(backend.hits(), 0);
}
