//! The rules of RFC 9113, frame by frame: what breaks one is answered with an error of the stream or of the
//! connection, what only looks odd is not, and the connection of nobody else suffers.
//!
//! Codes are those of the engine. Where the RFC names another one it says so: frames of a wrong size and blocks that
//! cannot be unpacked are PROTOCOL_ERROR here, not FRAME_SIZE_ERROR and COMPRESSION_ERROR, and what comes on a stream
//! that ended is a matter of the connection more often than it need be. To the other side it is the same: a connection
//! that ends.

use crate::http2::both;
use testkit::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, PRIORITY, Peer,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, get,
};
use testkit::{Backend, Conn, Gateway};

const PUSH_PROMISE: u8 = 5;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// The connection, with this code.
    Connection(u32),
    /// The stream, with this code; the connection goes on.
    Stream(u32),
    /// Nothing: the next request is served.
    Nothing,
}
use Ends::{Connection, Nothing, Stream};

/// What came of these frames, the last of them a request on stream 101.
fn try_out(gateway: &Gateway, frames: &[Frame]) -> Ends {
    let mut peer = Peer::connect(gateway.web());
    peer.next_of(SETTINGS);
    peer.send(&Frame::new(SETTINGS, ACK, 0, ""));
    // At once, so that none comes after the connection has ended.
    let request = Frame::new(HEADERS, END_HEADERS | END_STREAM, 101, get("/"));
    let all: Vec<u8> = frames.iter().chain([&request]).flat_map(Frame::bytes).collect();
    peer.conn.send(all);
    let mut reset = None;
    loop {
        let said = peer.until(|frame| matches!(frame.kind, GOAWAY | RST_STREAM | HEADERS));
        match said.kind {
            GOAWAY => return Connection(said.number(4)),
            RST_STREAM if said.number(0) != 0 => reset = Some(said.number(0)),
            HEADERS if said.stream == 101 => return reset.map_or(Nothing, Stream),
            _ => {}
        }
    }
}

/// A request without a body, by default on stream 1.
fn ask() -> Frame {
    Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, get("/"))
}

/// The head of a request whose body follows.
fn post(path: &str) -> Frame {
    let head = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
    ]);
    Frame::new(HEADERS, END_HEADERS, 1, head)
}

fn setting(id: u16, value: u32) -> Frame {
    let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    Frame::new(SETTINGS, 0, 0, payload)
}

fn padded(kind: u8, flags: u8, pad: u8, payload: &[u8], padding: usize) -> Frame {
    let payload = [&[pad][..], payload, &vec![0; padding]].concat();
    Frame::new(kind, flags | PADDED, 1, payload)
}

fn end_of(stream: u32) -> Frame {
    Frame::new(DATA, END_STREAM, stream, "")
}

fn holds(cases: Vec<(&str, Vec<Frame>, Ends)>) {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let mut wrong = Vec::new();
    for (what, frames, wanted) in cases {
        let came = try_out(&gateway, &frames);
        if came != wanted {
            wrong.push(format!("{what}: {came:?}, not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(gateway.metric("tidegate_panics_total", &[]), 0.0);
    assert_eq!(gateway.get("/").text(), "hi");
}

#[test]
fn what_is_unknown_or_reserved_is_passed_over() {
    let reserved = Frame::new(HEADERS, END_HEADERS | END_STREAM, 0x8000_0001, get("/"));
    holds(vec![
        (
            "a frame of no known kind",
            vec![Frame::new(0xbe, 0xff, 0, "what?")],
            Nothing,
        ),
        (
            "the same on a stream",
            vec![Frame::new(0xbe, 0, 77, "what?")],
            Nothing,
        ),
        (
            "flags that PING does not have",
            vec![Frame::new(PING, 0xfe, 0, [0; 8])],
            Nothing,
        ),
        ("the reserved bit of a stream's number", vec![reserved], Nothing),
        (
            "the reserved bit of an increment",
            vec![Frame::new(WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 1])],
            Nothing,
        ),
        ("a setting of no known kind", vec![setting(0xbeef, 1)], Nothing),
        (
            "an acknowledged PING that nobody sent",
            vec![Frame::new(PING, ACK, 0, [9; 8])],
            Nothing,
        ),
        (
            "a priority for a stream to come",
            vec![Frame::new(PRIORITY, 0, 33, [0, 0, 0, 0, 9])],
            Nothing,
        ),
        ("a priority in a head", vec![with_priority(0)], Nothing),
        (
            "padding",
            vec![padded(HEADERS, END_HEADERS | END_STREAM, 9, &get("/"), 9)],
            Nothing,
        ),
        (
            "padding of a body",
            vec![
                post("/"),
                padded(DATA, 0, 3, b"body", 3),
                padded(DATA, END_STREAM, 0, b"", 0),
            ],
            Nothing,
        ),
        (
            "a head in many frames",
            vec![
                Frame::new(HEADERS, END_STREAM, 1, &get("/")[..5]),
                Frame::new(CONTINUATION, 0, 1, &get("/")[5..9]),
                Frame::new(CONTINUATION, 0, 1, ""),
                Frame::new(CONTINUATION, END_HEADERS, 1, &get("/")[9..]),
            ],
            Nothing,
        ),
        (
            "a window update for a stream that ended",
            vec![
                ask(),
                Frame::new(RST_STREAM, 0, 1, [0, 0, 0, 8]),
                Frame::new(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]),
            ],
            Nothing,
        ),
        (
            "a stream taken back twice",
            vec![
                ask(),
                Frame::new(RST_STREAM, 0, 1, [0, 0, 0, 8]),
                Frame::new(RST_STREAM, 0, 1, [0, 0, 0, 8]),
            ],
            Nothing,
        ),
        (
            "the last that we may ask for",
            vec![Frame::new(GOAWAY, 0, 0, [0; 8])],
            Nothing,
        ),
    ]);
}

fn with_priority(depends_on: u32) -> Frame {
    let head = [&depends_on.to_be_bytes()[..], &[15], &get("/")].concat();
    Frame::new(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, head)
}

#[test]
fn frames_of_a_wrong_size_or_place_end_the_connection() {
    let broken = Connection(PROTOCOL_ERROR);
    holds(vec![
        (
            "DATA larger than allowed",
            vec![post("/"), Frame::new(DATA, 0, 1, vec![0; 16_385])],
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "a head larger than a frame may be",
            vec![Frame::new(HEADERS, END_HEADERS, 1, vec![0; 16_385])],
            Connection(FRAME_SIZE_ERROR),
        ),
        ("DATA on no stream", vec![Frame::new(DATA, 0, 0, "x")], broken),
        (
            "a head on no stream",
            vec![Frame::new(HEADERS, END_HEADERS, 0, get("/"))],
            broken,
        ),
        (
            "a priority on no stream",
            vec![Frame::new(PRIORITY, 0, 0, [0, 0, 0, 3, 9])],
            broken,
        ),
        (
            "a reset of no stream",
            vec![Frame::new(RST_STREAM, 0, 0, [0, 0, 0, 8])],
            broken,
        ),
        (
            "SETTINGS on a stream",
            vec![Frame::new(SETTINGS, 0, 1, "")],
            broken,
        ),
        ("PING on a stream", vec![Frame::new(PING, 0, 1, [0; 8])], broken),
        (
            "GOAWAY on a stream",
            vec![Frame::new(GOAWAY, 0, 1, [0; 8])],
            broken,
        ),
        (
            "a CONTINUATION of nothing",
            vec![Frame::new(CONTINUATION, END_HEADERS, 1, get("/"))],
            broken,
        ),
        (
            "a CONTINUATION of a whole head",
            vec![ask(), Frame::new(CONTINUATION, END_HEADERS, 1, "")],
            broken,
        ),
        (
            "a CONTINUATION of another stream",
            vec![
                Frame::new(HEADERS, 0, 1, get("/")),
                Frame::new(CONTINUATION, END_HEADERS, 3, ""),
            ],
            broken,
        ),
        (
            "an unknown frame within a head",
            vec![Frame::new(HEADERS, 0, 1, get("/")), Frame::new(0xbe, 0, 1, "")],
            broken,
        ),
        (
            "a promise",
            vec![Frame::new(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])],
            broken,
        ),
        (
            "more padding than frame",
            vec![post("/"), padded(DATA, 0, 9, b"body", 3)],
            broken,
        ),
        (
            "more padding than head",
            vec![padded(HEADERS, END_HEADERS, 200, b"", 3)],
            broken,
        ),
        // FRAME_SIZE_ERROR, all of them (sections 6.3 to 6.9).
        (
            "a priority of 4 bytes",
            vec![Frame::new(PRIORITY, 0, 1, [0; 4])],
            broken,
        ),
        (
            "a reset of 3 bytes",
            vec![ask(), Frame::new(RST_STREAM, 0, 1, [0; 3])],
            broken,
        ),
        (
            "SETTINGS of 7 bytes",
            vec![Frame::new(SETTINGS, 0, 0, [0; 7])],
            broken,
        ),
        (
            "an acknowledgement that says more",
            vec![Frame::new(SETTINGS, ACK, 0, [0; 6])],
            broken,
        ),
        ("PING of 7 bytes", vec![Frame::new(PING, 0, 0, [0; 7])], broken),
        (
            "GOAWAY of 7 bytes",
            vec![Frame::new(GOAWAY, 0, 0, [0; 7])],
            broken,
        ),
        (
            "a window update of 5 bytes",
            vec![Frame::new(WINDOW_UPDATE, 0, 0, [0; 5])],
            broken,
        ),
        // COMPRESSION_ERROR, all of them (section 4.3).
        (
            "an index of no field",
            vec![Frame::new(HEADERS, END_HEADERS, 1, [0x80])],
            broken,
        ),
        (
            "an index beyond the table",
            vec![Frame::new(HEADERS, END_HEADERS, 1, [0xc8])],
            broken,
        ),
        (
            "a table larger than allowed",
            vec![Frame::new(HEADERS, END_HEADERS, 1, [0x3f, 0xff, 0xff, 0x7f])],
            broken,
        ),
        (
            "a number without end",
            vec![Frame::new(HEADERS, END_HEADERS, 1, [0xff; 20])],
            broken,
        ),
        (
            "a text that is cut",
            vec![Frame::new(HEADERS, END_HEADERS, 1, [0x00, 0x05, b'a'])],
            broken,
        ),
    ]);
}

#[test]
fn streams_go_through_their_states_and_no_others() {
    let broken = Connection(PROTOCOL_ERROR);
    let on = |kind, flags, payload: &[u8]| Frame::new(kind, flags, 1, payload);
    holds(vec![
        ("DATA before its head", vec![on(DATA, 0, b"x")], broken),
        (
            "a reset before its head",
            vec![on(RST_STREAM, 0, &[0, 0, 0, 8])],
            broken,
        ),
        (
            "a window update before its head",
            vec![on(WINDOW_UPDATE, 0, &[0, 0, 0, 1])],
            broken,
        ),
        (
            "an even stream",
            vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, 2, get("/"))],
            broken,
        ),
        (
            "a lower stream than the last",
            vec![
                Frame::new(HEADERS, END_HEADERS | END_STREAM, 5, get("/")),
                Frame::new(HEADERS, END_HEADERS | END_STREAM, 3, get("/")),
            ],
            broken,
        ),
        // STREAM_CLOSED (section 5.1), the next three.
        (
            "DATA behind the end",
            vec![post("/"), end_of(1), on(DATA, 0, b"x")],
            broken,
        ),
        ("a head behind the end", vec![ask(), ask()], broken),
        (
            "trailers behind the end",
            vec![post("/"), end_of(1), on(HEADERS, END_HEADERS | END_STREAM, b"")],
            broken,
        ),
        (
            "trailers that are not the end",
            vec![post("/"), on(HEADERS, END_HEADERS, &block(&[("x-sum", "1")]))],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "a head that depends on itself",
            vec![with_priority(1)],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "a stream that depends on itself",
            vec![ask(), on(PRIORITY, 0, &[0, 0, 0, 1, 9])],
            Stream(PROTOCOL_ERROR),
        ),
    ]);
}

#[test]
fn settings_and_windows_hold_their_bounds() {
    let broken = Connection(PROTOCOL_ERROR);
    holds(vec![
        ("push that is neither on nor off", vec![setting(2, 2)], broken),
        // FLOW_CONTROL_ERROR (section 6.5.2).
        (
            "a window beyond all bounds",
            vec![setting(4, 0x8000_0000)],
            broken,
        ),
        (
            "frames smaller than all must take",
            vec![setting(5, 16_383)],
            broken,
        ),
        ("frames larger than can be", vec![setting(5, 1 << 24)], broken),
        (
            "no window at all, and then one",
            vec![setting(4, 0), setting(4, 65_535)],
            Nothing,
        ),
        ("no table", vec![setting(1, 0)], Nothing),
        ("a table of all memory", vec![setting(1, u32::MAX)], Nothing),
        (
            "an increment of nothing",
            vec![Frame::new(WINDOW_UPDATE, 0, 0, [0; 4])],
            broken,
        ),
        // An error of the stream (section 6.9).
        (
            "the same on a stream",
            vec![ask(), Frame::new(WINDOW_UPDATE, 0, 1, [0; 4])],
            broken,
        ),
        (
            "the connection's window beyond all bounds",
            vec![Frame::new(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff])],
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "a stream's window beyond all bounds",
            vec![
                post("/"),
                Frame::new(WINDOW_UPDATE, 0, 1, [0x7f, 0xff, 0xff, 0xff]),
            ],
            Stream(FLOW_CONTROL_ERROR),
        ),
    ]);
}

#[test]
fn a_window_below_nothing_is_waited_out() {
    let backend = Backend::text("hello");
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    peer.send(&setting(4, 3)).get(1, "/");
    let data = peer.next_of(DATA);
    assert_eq!((data.payload.as_slice(), data.flags), (&b"hel"[..], 0));
    // Three bytes are out, so that the window is now three below nothing.
    peer.send(&setting(4, 0));
    peer.send(&Frame::new(WINDOW_UPDATE, 0, 1, [0, 0, 0, 3]));
    peer.send(&Frame::new(PING, 0, 0, [1; 8]));
    peer.until(|frame| frame.kind == PING && frame.flags == ACK);
    peer.send(&Frame::new(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]));
    assert_eq!(peer.next_of(DATA).payload, b"l");
    peer.send(&Frame::new(WINDOW_UPDATE, 0, 1, [0, 0, 0, 9]));
    let data = peer.next_of(DATA);
    assert_eq!((data.payload.as_slice(), data.flags), (&b"o"[..], END_STREAM));
}

#[test]
fn what_asks_for_an_answer_gets_it() {
    let backend = Backend::text("hi");
    let gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    let ours = peer.next_of(SETTINGS);
    assert_eq!((ours.flags, ours.stream), (0, 0));
    let ack = peer.next_of(SETTINGS);
    assert_eq!((ack.flags, ack.payload.len()), (ACK, 0));
    peer.send(&Frame::new(PING, 0, 0, *b"whoswho?"));
    let pong = peer.next_of(PING);
    assert_eq!((pong.flags, pong.payload.as_slice()), (ACK, &b"whoswho?"[..]));
    // The engine's own PING has no meaning before it is sent.
    peer.send(&Frame::new(
        PING,
        ACK,
        0,
        [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54],
    ));
    peer.get(1, "/");
    assert_eq!(peer.next_of(HEADERS).stream, 1);
    for wrong in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"[..],
        &[PREFACE, b"no frame"].concat(),
    ] {
        let mut conn = Conn::connect(gateway.web());
        conn.send(wrong);
        conn.half_close();
        conn.read_to_end();
    }
    assert_eq!(gateway.get("/").text(), "hi");
}
