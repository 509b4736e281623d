//! How long an HTTP/2 connection lives, and how it ends: nothing that was taken is lost, nobody is kept.

use crate::gateway;
use crate::h2_client::{Client, get, whole};
use crate::http2::{BOTH, both, limited};
use testkit::frames::{
    END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, Peer, RST_STREAM, SETTINGS,
};
use testkit::gateway::Sig;
use testkit::{Backend, Conn, Gate, Reply, eventually};

const NO_ERROR: u32 = 0;
const LAST: u32 = 0x7fff_ffff;

fn held() -> (Backend, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |r| match r.target.as_str() {
        "/held" => Reply::ok("held").held_by(&held),
        _ => Reply::ok("hi"),
    });
    (backend, gate)
}

/// What `frame` is to be sent back as an acknowledgement.
fn pong(ping: &Frame) -> Frame {
    Frame::new(PING, 1, 0, ping.payload.clone())
}

#[test]
fn a_drain_tells_first_that_it_ends_and_then_where() {
    let (backend, gate) = held();
    let mut gateway = both(&backend).start();
    let mut peer = Peer::connect(gateway.web());
    peer.get(1, "/held");
    gate.reached();
    gateway.signal(Sig::TERM);
    let first = peer.next_of(GOAWAY);
    assert_eq!((first.number(0), first.number(4)), (LAST, NO_ERROR));
    // Under way when the client heard of it: still served.
    peer.get(3, "/late");
    let answer = peer.until(|frame| frame.kind == HEADERS && frame.stream == 3);
    assert_eq!(answer.payload[0], 0x88, "200");
    // The first GOAWAY came with a PING, which may be before the answer or behind it.
    peer.send(&Frame::new(
        PING,
        1,
        0,
        [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54],
    ));
    let second = peer.next_of(GOAWAY);
    assert_eq!((second.number(0), second.number(4)), (3, NO_ERROR));
    gate.open();
    let answer = peer.until(|frame| frame.kind == HEADERS && frame.stream == 1);
    assert_eq!(answer.payload[0], 0x88);
    assert_eq!(peer.goaway(), None, "nothing more to say");
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_drain_lets_a_library_finish_what_it_asked_for() {
    let (backend, gate) = held();
    let mut gateway = both(&backend).start();
    let client = Client::connect(&gateway.web());
    let (answer, _) = client.run(async { client.begin(get("/held"), true).await.unwrap() });
    eventually("the request is at the endpoint", || {
        client.turn();
        gate.waiting() > 0
    });
    gateway.signal(Sig::TERM);
    eventually("nobody listens any more", || {
        Conn::try_connect(gateway.web()).is_err()
    });
    gate.open();
    let answer = client.run(async { whole(answer.await.unwrap()).await.unwrap() });
    assert_eq!(answer.text(), "held");
    client.end().unwrap();
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn idle_connections_do_not_hold_a_drain_up_even_if_they_say_nothing() {
    let backend = Backend::text("hi");
    let mut gateway = both(&backend).start();
    let mut silent = Peer::connect(gateway.web());
    silent.get(1, "/");
    silent.until(|frame| frame.flags & END_STREAM != 0 && frame.stream == 1);
    let mut unasked = Peer::connect(gateway.web());
    unasked.next_of(SETTINGS);
    gateway.signal(Sig::TERM);
    assert_eq!(silent.goaway(), Some(NO_ERROR));
    assert_eq!(unasked.goaway(), Some(NO_ERROR));
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_listener_that_leaves_the_configuration_ends_its_connections_in_order() {
    let (backend, gate) = held();
    let config = format!("{BOTH}\n[listeners.other]\naddress = \"127.0.0.1:0\"\n");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut peer = Peer::connect(gateway.web());
    peer.get(1, "/held");
    gate.reached();
    let without = config.replace("[listeners.web]", "[listeners.new]");
    gateway.reload(&without.replace("@app@", &backend.address().to_string()));
    assert_eq!(peer.next_of(GOAWAY).number(0), LAST);
    gate.open();
    peer.until(|frame| frame.kind == HEADERS && frame.stream == 1);
    peer.goaway();
}

#[test]
fn an_old_connection_and_one_that_served_enough_are_ended_between_requests() {
    let backend = Backend::text("hi");
    for limits in ["max_connection_age = \"300ms\"", "requests_per_connection = 2"] {
        let gateway = limited(&backend, limits);
        let mut peer = Peer::connect(gateway.web());
        peer.get(1, "/").get(3, "/");
        let ping = peer.until(|frame| frame.kind == PING && frame.flags == 0);
        peer.send(&pong(&ping));
        assert_eq!(peer.goaway(), Some(NO_ERROR), "{limits}");
        assert_eq!(backend.hits() % 2, 0, "{limits}: what was taken was served");
    }
}

#[test]
fn a_connection_without_requests_is_closed_after_the_idle_time() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, "keep_alive = \"300ms\"");
    let mut used = Peer::connect(gateway.web());
    used.get(1, "/");
    assert_eq!(used.goaway(), Some(NO_ERROR));
    let mut unused = Peer::connect(gateway.web());
    assert_eq!(unused.goaway(), Some(NO_ERROR));
    let client = Client::connect(&gateway.web());
    assert_eq!(client.get("/").text(), "hi");
    client.end().unwrap();
}

#[test]
fn a_head_that_does_not_end_and_a_preface_that_does_not_are_not_waited_for() {
    let backend = Backend::text("hi");
    let gateway = limited(&backend, "header_timeout = \"300ms\"");
    let mut peer = Peer::connect(gateway.web());
    peer.send(&Frame::new(HEADERS, END_STREAM, 1, ""));
    peer.goaway();
    let mut preface = Conn::connect(gateway.web());
    preface.send(&PREFACE[..20]).expect_end();
    assert_eq!(
        gateway.metric("tidegate_h2_abuses_total", &["kind=\"slow_head\""]),
        1.0
    );
    assert_eq!(backend.hits(), 0);
}

#[test]
fn a_silent_client_is_asked_whether_it_lives() {
    let (backend, gate) = held();
    let gateway = limited(&backend, "h2_ping = \"200ms\", h2_ping_timeout = \"300ms\"");
    let mut peer = Peer::connect(gateway.web());
    peer.get(1, "/held");
    gate.reached();
    for _ in 0..3 {
        let ping = peer.until(|frame| frame.kind == PING && frame.flags == 0);
        peer.send(&pong(&ping));
    }
    peer.next_of(PING);
    assert_eq!(peer.goaway(), None, "it is dead: there is nobody to tell");
    eventually("the request is given up", || {
        gateway.metric("tidegate_h2_streams_open", &[]) == 0.0
    });
    gate.open();
}

#[test]
fn more_requests_than_allowed_at_once_are_refused_unharmed() {
    let (backend, gate) = held();
    let gateway = limited(&backend, "h2_streams = 2");
    let mut peer = Peer::connect(gateway.web());
    peer.get(1, "/held").get(3, "/held").get(5, "/held");
    let refused = peer.next_of(RST_STREAM);
    assert_eq!((refused.stream, refused.number(0)), (5, 7), "REFUSED_STREAM");
    gate.open();
    // Both end, in whatever order.
    let end = |frame: &Frame| frame.kind != SETTINGS && frame.flags & END_STREAM != 0;
    let mut ended = [peer.until(end).stream, peer.until(end).stream];
    ended.sort_unstable();
    assert_eq!(ended, [1, 3]);
    peer.send(&Frame::new(
        HEADERS,
        END_HEADERS | END_STREAM,
        7,
        testkit::frames::get("/again"),
    ));
    peer.until(|frame| frame.kind == HEADERS && frame.stream == 7);
    assert_eq!(backend.hits(), 3);
}
