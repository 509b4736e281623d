//! Workers: connections spread over them, and a bug in one connection stays in it.

use crate::gateway;
use testkit::{Conn, Gateway, eventually};

const TWO: &str = r#"
[runtime]
workers = 2
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
respond = { body = "hi" }
"#;

/// Connections of each worker, as `/health/workers` tells.
fn connections(gateway: &Gateway) -> Vec<u64> {
    let health = gateway.admin_get("/health/workers").json();
    let workers = health["workers"]
        .as_array()
        .unwrap_or_else(|| panic!("no workers in {health}"));
    workers
        .iter()
        .map(|w| w["connections"].as_u64().unwrap_or_else(|| panic!("{w}")))
        .collect()
}

fn expect_even(gateway: &Gateway, total: u64) {
    eventually("all connections are counted", || {
        connections(gateway).iter().sum::<u64>() == total
    });
    let loads = connections(gateway);
    let mean = total as f64 / loads.len() as f64;
    let most = loads.iter().copied().max().unwrap_or(0) as f64;
    assert!(most / mean < 1.3, "{loads:?}");
}

#[test]
fn thousands_of_connections_spread_over_the_workers() {
    const MANY: usize = 10_000;
    testkit::net::raise_open_files();
    let gateway = gateway(TWO).start();
    let mut held: Vec<Conn> = (0..MANY).map(|_| gateway.connect()).collect();
    expect_even(&gateway, MANY as u64);
    for conn in held.iter_mut().step_by(97) {
        assert_eq!(conn.get("/").status, 200);
    }
    // Half of them leave, others come: the balance holds.
    held.truncate(MANY / 2);
    eventually("those that left are gone", || {
        connections(&gateway).iter().sum::<u64>() == MANY as u64 / 2
    });
    held.extend((0..MANY / 2).map(|_| gateway.connect()));
    expect_even(&gateway, MANY as u64);
}

#[test]
fn every_worker_takes_part() {
    let gateway = gateway(TWO).start();
    let held: Vec<Conn> = (0..200).map(|_| gateway.connect()).collect();
    eventually("all connections are counted", || {
        connections(&gateway).iter().sum::<u64>() == 200
    });
    let loads = connections(&gateway);
    assert!(loads.len() == 2 && loads.iter().all(|n| *n > 40), "{loads:?}");
    drop(held);
    eventually("all are gone", || connections(&gateway).iter().sum::<u64>() == 0);
}

/// These need the binary to be built with its test hooks.
#[cfg(feature = "faults")]
mod with_faults {
    use super::TWO;
    use crate::gateway;
    use std::time::{Duration, Instant};
    use testkit::{Broken, Conn, eventually, pace};

    fn fault(what: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: test\r\nX-Tidegate-Fault: {what}\r\n\r\n")
    }

    #[test]
    fn a_panic_ends_its_connection_and_no_other() {
        let gateway = gateway(TWO).start();
        let mut others: Vec<Conn> = (0..20).map(|_| gateway.connect()).collect();
        for conn in &mut others {
            assert_eq!(conn.get("/").status, 200);
        }
        for n in 1..=5 {
            let mut conn = gateway.connect();
            match conn.send(fault("panic")).try_response_to("GET") {
                Ok(answer) => assert_eq!(answer.status, 500, "{answer}"),
                Err(e) => assert!(matches!(e, Broken::Closed | Broken::Reset), "{e:?}"),
            }
            eventually("the panic is counted", || {
                gateway.metric("tidegate_panics_total", &[]) == f64::from(n)
            });
        }
        for conn in &mut others {
            assert_eq!(conn.get("/").status, 200);
        }
        assert_eq!(gateway.get("/").status, 200);
        drop(others);
        eventually("no connection is left counted", || {
            gateway.open_connections() == 0
        });
    }

    #[test]
    fn the_record_of_a_panic_tells_what_was_received() {
        let log = "[log]\naccess = { path = \"access.log\", format = \"json\" }";
        let gateway = gateway(&format!("{TWO}{log}\n")).start();
        let request = fault("panic");
        let _cut = gateway.connect().send(&request).try_response_to("GET");
        let record = gateway.access_record("/");
        assert_eq!(
            (&record["token"], &record["ended"], &record["bytes_received"]),
            (&"internal".into(), &"gateway".into(), &request.len().into()),
            "{record}"
        );
    }

    #[test]
    fn a_worker_that_stands_still_is_noticed_and_replaced() {
        let gateway = gateway(TWO).start();
        let mut stuck = gateway.connect();
        stuck.send(fault("stall=15s"));
        // Some connections land on the worker that stands still; nobody may wait longer than its replacement.
        let begun = Instant::now();
        let mut conns: Vec<Conn> = (0..8)
            .map(|_| gateway.connect().with_timeout(Duration::from_secs(18)))
            .collect();
        for conn in &mut conns {
            conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("the stall is counted", || {
            gateway.metric("tidegate_workers_stalled_total", &[]) >= 1.0
        });
        while gateway.metric("tidegate_workers_replaced_total", &[]) < 1.0 {
            assert!(
                begun.elapsed() < Duration::from_secs(14),
                "it was not replaced: {}",
                gateway.log()
            );
            pace(Duration::from_millis(100));
        }
        // From now on every new connection is served at once.
        for _ in 0..20 {
            let mut conn = gateway.connect().with_timeout(Duration::from_secs(1));
            assert_eq!(conn.get("/").status, 200);
        }
        for conn in &mut conns {
            assert_eq!(conn.response().status, 200);
        }
    }
}
