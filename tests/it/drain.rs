//! The orderly end: readiness first, then the listeners, then what is under way, and a deadline for all.

use crate::{PLAIN, gateway};
use std::time::{Duration, Instant};
use testkit::gateway::Sig;
use testkit::ws::Client;
use testkit::{Backend, Conn, Gate, Gateway, Reply, eventually, holds_for, ws};

fn draining(backend: &Backend, runtime: &str) -> Gateway {
    gateway(&format!("{PLAIN}\n[runtime]\n{runtime}\n"))
        .with("app", backend.address())
        .start()
}

fn slow() -> (Backend, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    (Backend::http(move |_| Reply::ok("slow").held_by(&held)), gate)
}

#[test]
fn term_lets_requests_under_way_finish_and_exits_0() {
    let (backend, gate) = slow();
    let mut gateway = draining(&backend, "");
    let web = gateway.web();
    let mut busy = gateway.connect();
    let mut idle = gateway.connect();
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    gateway.signal(Sig::TERM);
    eventually("nobody listens any more", || Conn::try_connect(&web).is_err());
    idle.expect_end();
    assert!(gateway.is_running());
    gate.open();
    let answer = busy.response();
    assert_eq!(answer.text(), "slow");
    assert!(
        !answer.keeps_alive(),
        "the client must not send another request: {answer}"
    );
    busy.expect_end();
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn int_ends_it_the_same_way() {
    let backend = Backend::text("hi");
    let mut gateway = draining(&backend, "");
    gateway.signal(Sig::INT);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn readiness_fails_while_everything_else_still_serves() {
    let backend = Backend::text("hi");
    let mut gateway = draining(&backend, "drain_delay = \"1500ms\"");
    assert_eq!(
        (
            gateway.admin_get("/readyz").status,
            gateway.admin_get("/livez").status
        ),
        (200, 200)
    );
    let begun = Instant::now();
    gateway.signal(Sig::TERM);
    eventually("readyz fails", || gateway.admin_get("/readyz").status == 503);
    assert_eq!(gateway.admin_get("/livez").status, 200);
    assert_eq!(gateway.metric("tidegate_draining", &[]), 1.0);
    while begun.elapsed() < Duration::from_millis(1000) {
        assert_eq!(gateway.get("/").status, 200);
    }
    assert_eq!(gateway.wait(), Some(0));
    assert!(
        begun.elapsed() >= Duration::from_millis(1400),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn work_cut_by_the_deadline_is_exit_3() {
    let (backend, gate) = slow();
    let mut gateway = draining(&backend, "drain_timeout = \"400ms\"");
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    let begun = Instant::now();
    gateway.signal(Sig::TERM);
    assert_eq!(gateway.wait(), Some(3));
    assert!(
        begun.elapsed() >= Duration::from_millis(350),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_tunnel_is_given_until_the_deadline() {
    let backend = ws::echo_backend();
    let mut gateway = draining(&backend, "drain_timeout = \"600ms\"");
    let mut client = Client::connect(gateway.connect(), "/");
    gateway.signal(Sig::TERM);
    holds_for(Duration::from_millis(300), "the tunnel stays", || {
        client.conn.is_quiet()
    });
    client.echo("still here");
    assert_eq!(gateway.wait(), Some(3));
}

#[test]
fn a_second_term_ends_it_at_once() {
    let (backend, gate) = slow();
    let mut gateway = draining(&backend, "drain_timeout = \"60s\"");
    let web = gateway.web();
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    gateway.signal(Sig::TERM);
    eventually("nobody listens any more", || Conn::try_connect(&web).is_err());
    gateway.signal(Sig::TERM);
    assert_eq!(gateway.wait(), Some(3));
}

#[test]
fn an_upload_under_way_finishes() {
    let backend = Backend::http(|r| Reply::ok(r.body.len().to_string()));
    let mut gateway = draining(&backend, "");
    let web = gateway.web();
    let mut conn = gateway.connect();
    conn.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345");
    eventually("the head arrives", || backend.received_bytes() > 0);
    gateway.signal(Sig::TERM);
    eventually("nobody listens any more", || Conn::try_connect(&web).is_err());
    assert_eq!(conn.send("67890").response_to("POST").text(), "10");
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn under_load_the_end_costs_no_answered_request() {
    let backend = Backend::text("hi");
    let mut gateway = draining(&backend, "");
    let web = gateway.web();
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let web = web.clone();
            std::thread::spawn(move || {
                let mut served = 0;
                while let Ok(mut conn) = Conn::try_connect(&web) {
                    loop {
                        if conn.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").is_err() {
                            break;
                        }
                        match conn.try_response_to("GET") {
                            Ok(answer) => {
                                assert!(answer.status == 200 && answer.cut.is_none(), "{answer}");
                                served += 1;
                                if !answer.keeps_alive() {
                                    break;
                                }
                            }
                            // Closed between two requests, or refused: never in the middle of an answer.
                            Err(_) => break,
                        }
                    }
                }
                served
            })
        })
        .collect();
    eventually("the load runs", || backend.hits() > 200);
    gateway.signal(Sig::TERM);
    assert_eq!(gateway.wait(), Some(0));
    let served: usize = clients.into_iter().map(|c| c.join().expect("a client")).sum();
    // What the backend answered, the clients got.
    assert_eq!(served, backend.hits());
}

#[test]
fn the_end_cuts_no_answer_that_the_gateway_gives_itself() {
    const BODY: usize = 60_000;
    // More than all buffers of the kernel take, so that the end always comes before the last answer.
    const REQUESTS: usize = 1000;
    let config = r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        respond = { body = "@body@" }
        "#;
    let mut gateway = gateway(config).with("body", "x".repeat(BODY)).start();
    let web = gateway.web();
    let mut conn = Conn::connect(&web).with_receive_buffer(32 << 10);
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(REQUESTS));
    assert_eq!(conn.response().body.len(), BODY);
    gateway.signal(Sig::TERM);
    eventually("nobody listens any more", || Conn::try_connect(&web).is_err());
    // One that says it is the last; unless all were on their way before the end was known.
    for _ in 1..REQUESTS {
        let answer = conn.response();
        assert_eq!((answer.cut.as_ref(), answer.body.len()), (None, BODY));
        if !answer.keeps_alive() {
            break;
        }
    }
    conn.expect_end();
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn what_the_deadline_cuts_is_logged_as_cut_by_the_gateway() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::script(move |conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        visit.hit(request);
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
        conn.send("x".repeat(3000));
        held.wait();
    });
    let runtime = "drain_timeout = \"300ms\"\n[log]\naccess = { path = \"access.log\", format = \"json\" }";
    let mut gateway = draining(&backend, runtime);
    let mut conn = gateway.connect();
    let request = "GET /cut HTTP/1.1\r\nHost: test\r\n\r\n";
    conn.send(request);
    let begun = conn.read_through(b"\r\n\r\n").len() + conn.read(3000).len();
    gate.reached();
    gateway.signal(Sig::TERM);
    assert_eq!(gateway.wait(), Some(3));
    let record = gateway.access_record("/cut");
    assert_eq!(
        (&record["token"], &record["ended"]),
        (&"draining".into(), &"gateway".into()),
        "{record}"
    );
    assert_eq!(
        (
            &record["bytes_received"],
            &record["bytes_sent"],
            &record["body_bytes_sent"]
        ),
        (&request.len().into(), &begun.into(), &3000.into()),
        "{record}"
    );

    let backend = ws::echo_backend();
    let mut gateway = draining(&backend, runtime);
    let mut client = Client::connect(gateway.connect(), "/tunnel");
    client.echo(&"x".repeat(5000));
    gateway.signal(Sig::TERM);
    assert_eq!(gateway.wait(), Some(3));
    let record = gateway.access_record("/tunnel");
    assert_eq!(
        (&record["token"], &record["ended"]),
        (&"draining".into(), &"gateway".into()),
        "{record}"
    );
    assert!(record["bytes_sent"].as_u64() > Some(5000), "{record}");
}
