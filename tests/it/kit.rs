//! The test tools themselves: a client that talks straight to a backend, and through the relay.

use std::time::Duration;
use testkit::net::{Blackhole, Refused};
use testkit::{Backend, Broken, Conn, Fault, Gate, Load, Relay, Reply, pattern, ws};

#[test]
fn a_backend_answers_and_remembers_what_it_saw() {
    let backend = Backend::http(|request| Reply::ok(format!("{} {}", request.method, request.target)));
    let mut conn = Conn::connect(backend.address());
    let sent =
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nSum: 1\r\n\r\n";
    assert_eq!(conn.send(sent).response().text(), "POST /a");
    assert_eq!(conn.get("/b").text(), "GET /b");
    assert_eq!((backend.hits(), backend.connections()), (2, 1));
    assert!(backend.received()[0].starts_with(sent.as_bytes()));
    let first = &backend.requests()[0];
    assert_eq!(
        (first.body.as_slice(), first.trailers.get("sum")),
        (b"hi".as_slice(), Some("1"))
    );
}

#[test]
fn a_backend_goes_down_and_comes_back_on_its_port() {
    let backend = Backend::text("hi");
    let mut open = Conn::connect(backend.address());
    assert_eq!(open.get("/").status, 200);
    backend.down();
    open.expect_end();
    assert!(Conn::try_connect(backend.address()).is_err());
    backend.up();
    assert_eq!(Conn::connect(backend.address()).get("/").status, 200);
}

#[test]
fn a_gate_holds_an_answer_back() {
    let gate = Gate::new();
    let backend = {
        let gate = gate.clone();
        Backend::http(move |_| Reply::ok("late").held_by(&gate))
    };
    let mut conn = Conn::connect(backend.address());
    conn.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.reached();
    assert!(conn.is_quiet());
    gate.open();
    assert_eq!(conn.response().text(), "late");
}

#[test]
fn a_response_that_ends_early_is_told_from_a_complete_one() {
    let backend = Backend::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort");
    let answer = Conn::connect(backend.address())
        .send("GET / HTTP/1.1\r\n\r\n")
        .try_response_to("GET");
    let answer = answer.expect("a head");
    assert_eq!(
        (answer.text().as_str(), answer.cut.as_deref()),
        ("short", Some("Closed"))
    );
}

#[test]
fn nobody_listens_at_a_refused_address_and_nobody_accepts_at_a_blackhole() {
    let refused = Refused::new();
    assert!(Conn::try_connect(refused.address()).is_err());
    let blackhole = Blackhole::new();
    let address = blackhole.address().to_string().parse().unwrap();
    let error = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn the_relay_carries_cuts_resets_and_refuses() {
    let backend = Backend::http(|_| Reply::pattern(100_000));
    let relay = Relay::to(backend.address());
    let mut check = pattern::Checker::default();
    check.feed(&Conn::connect(relay.address()).get("/").body);
    assert_eq!(check.seen(), 100_000);

    relay.set(Fault::CutAfter(1000));
    let mut conn = Conn::connect(relay.address());
    let cut = conn
        .send("GET / HTTP/1.1\r\n\r\n")
        .try_response_to("GET")
        .expect("a head");
    assert_eq!(cut.cut.as_deref(), Some("Closed"));

    relay.set(Fault::ResetAfter(0));
    let mut conn = Conn::connect(relay.address());
    assert_eq!(
        conn.send("GET / HTTP/1.1\r\n\r\n")
            .try_response_to("GET")
            .unwrap_err(),
        Broken::Reset
    );

    relay.refuse();
    assert!(Conn::try_connect(relay.address()).is_err());
    relay.set(Fault::None);
    relay.accept();
    assert_eq!(Conn::connect(relay.address()).get("/").status, 200);
}

#[test]
fn websocket_peers_hold_a_conversation() {
    let backend = ws::echo_backend();
    let mut client = ws::Client::connect(Conn::connect(backend.address()), "/");
    client.echo("hello");
    client.echo(&"long".repeat(100));
}

#[test]
fn a_load_counts_what_worked_and_what_did_not() {
    let backend = Backend::text("hi");
    let load = Load::get(backend.address(), 2, "/");
    testkit::eventually("some answers", || load.done() > 20);
    load.stop().expect_flawless();

    let load = Load::get(backend.address(), 2, "/");
    testkit::eventually("some answers", || load.done() > 20);
    backend.close_connections();
    let before = load.done();
    testkit::eventually("more answers", || load.done() > before + 20);
    let report = load.stop();
    assert!(report.closed == 2 && report.ok > 20, "{report:?}");
}
