//! Too few file descriptors: accepting pauses and recovers, nothing spins, nothing dies.

use crate::{PLAIN, gateway};
use std::time::{Duration, Instant};
use testkit::{Backend, Conn, eventually, holds_for};

#[test]
fn accepting_pauses_when_descriptors_run_out_and_recovers() {
    let backend = Backend::text("hi");
    let mut gateway = gateway(PLAIN).with("app", backend.address()).nofile(100).start();
    let mut admin = Conn::connect(gateway.admin());
    assert_eq!(admin.get("/livez").status, 200);
    let held: Vec<Conn> = (0..200)
        .filter_map(|_| Conn::try_connect(gateway.web()).ok())
        .collect();
    assert!(held.len() > 100, "the kernel's queue takes the rest");
    let (cpu, begun) = (gateway.cpu(), Instant::now());
    holds_for(Duration::from_secs(1), "it runs", || gateway.is_running());
    let spent = gateway.cpu().checked_sub(cpu).unwrap_or_default();
    assert!(
        spent < begun.elapsed() / 2,
        "it spins: {spent:?} of {:?}",
        begun.elapsed()
    );
    // Who was there before is served all the while.
    assert_eq!(admin.get("/livez").status, 200);
    drop(held);
    eventually("new connections are served again", || {
        let Ok(mut conn) = Conn::try_connect(gateway.web()) else {
            return false;
        };
        conn.set_timeout(Duration::from_secs(1));
        let sent = conn.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        sent.is_ok()
            && conn
                .try_response_to("GET")
                .is_ok_and(|answer| answer.status == 200)
    });
    assert!(
        gateway.metric("tidegate_accept_pauses_total", &[]) >= 1.0,
        "{}",
        gateway.metrics()
    );
    assert!(
        gateway.log().lines().count() < 40,
        "the log is flooded: {}",
        gateway.log()
    );
}

#[test]
fn endpoints_can_still_be_reached_when_clients_took_all_they_may() {
    let backend = Backend::text("hi");
    let gateway = gateway(PLAIN).with("app", backend.address()).nofile(100).start();
    let mut first = gateway.connect();
    let held: Vec<Conn> = (0..200)
        .filter_map(|_| Conn::try_connect(gateway.web()).ok())
        .collect();
    assert_eq!(
        first.get("/").status,
        200,
        "no descriptor was left for the endpoint"
    );
    drop(held);
}

#[test]
fn a_limit_too_low_for_the_configuration_is_warned_of() {
    let gateway = gateway(&format!("{PLAIN}\n[runtime]\nmax_connections = 5000\n"))
        .with("app", "127.0.0.1:1")
        .nofile(1000)
        .start();
    gateway.await_log("max_connections");
}
