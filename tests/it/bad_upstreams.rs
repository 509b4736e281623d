//! Upstreams that can't serve, in every way: each request gets its documented answer at once, and nothing stays behind.

use crate::gateway;
use std::fmt::Write as _;
use testkit::net::Refused;
use testkit::{Backend, Conn, Gate, Gateway, Reply, eventually};

const ALGORITHMS: [&str; 9] = [
    "round_robin",
    "weighted",
    "least_connections",
    "random_two",
    "least_time",
    "adaptive",
    "ip_hash",
    "hash",
    "first",
];

/// A route by its name to an upstream by its name.
fn upstream(name: &str, rest: &str) -> String {
    format!("[[routes]]\npaths = [\"/{name}\"]\nupstream = \"{name}\"\n[upstreams.{name}]\n{rest}\n")
}

const LISTENER: &str = "runtime = { workers = 2 }\n[listeners.web]\naddress = \"127.0.0.1:0\"\n";

#[test]
fn weights_that_are_all_zero_and_an_upstream_that_is_all_draining_have_no_endpoint_whatever_the_algorithm() {
    let backends: Vec<Backend> = (0..2).map(|_| Backend::text("never")).collect();
    let [a, b] = [0, 1].map(|n| backends[n].address());
    let mut config = LISTENER.to_owned();
    for balance in ALGORITHMS {
        let zero = format!(
            "balance = \"{balance}\"\nendpoints = [{{ address = \"{a}\", weight = 0 }}, {{ address = \"{b}\", weight = 0, backup = true }}]"
        );
        let drained =
            format!("balance = \"{balance}\"\nendpoints = [\"{a}\", {{ address = \"{b}\", backup = true }}]");
        let _ = write!(
            config,
            "{}{}",
            upstream(&format!("zero-{balance}"), &zero),
            upstream(&format!("drained-{balance}"), &drained)
        );
    }
    let gateway = gateway(&config).start();
    for balance in ALGORITHMS {
        gateway
            .get(&format!("/zero-{balance}"))
            .expect(503, Some("no_endpoint"));
        for backend in [&a, &b] {
            let _ = gateway
                .cli(&["drain", &format!("drained-{balance}/{backend}")])
                .expect(0);
        }
        gateway
            .get(&format!("/drained-{balance}"))
            .expect(503, Some("no_endpoint"));
    }
    assert!(backends.iter().all(|backend| backend.hits() == 0));
}

struct Scene {
    gateway: Gateway,
    gate: Gate,
    _servers: (Refused, Refused, Vec<Backend>),
}

fn scene() -> Scene {
    let (refused, other) = (Refused::new(), Refused::new());
    let gate = Gate::new();
    let held = gate.clone();
    let full = Backend::http(move |r| match r.target.as_str() {
        "/full" => Reply::ok("at last").held_by(&held),
        _ => Reply::ok("ok"),
    });
    let busy = |_: &testkit::Request| Reply::new(503, "busy").header("Retry-After", "1");
    let servers = vec![
        full,
        Backend::http(busy),
        Backend::http(busy),
        Backend::http(|_| Reply::reset()),
        Backend::http(|_| Reply::close()),
    ];
    let at = |n: usize| servers[n].address().to_string();
    let config = [
        LISTENER.to_owned(),
        upstream(
            "down",
            &format!(
                "endpoints = [\"{}\", \"{}\"]\nhealth = {{ interval = \"50ms\", timeout = \"1s\" }}",
                refused.address(),
                other.address()
            ),
        ),
        upstream(
            "full",
            &format!(
                "endpoints = [{{ address = \"{}\", max_connections = 1 }}]\nqueue = {{ max = 0 }}",
                at(0)
            ),
        ),
        upstream(
            "storm",
            &format!(
                "endpoints = [\"{}\", \"{}\"]\nretry = {{ attempts = 8 }}\noutlier = {{ eject = \"20ms\" }}",
                at(1),
                at(2)
            ),
        ),
        upstream(
            "dying",
            &format!(
                "endpoints = [\"{}\", \"{}\"]\noutlier = {{ eject = \"20ms\" }}",
                at(3),
                at(4)
            ),
        ),
    ]
    .concat();
    Scene {
        gateway: gateway(&config).start(),
        gate,
        _servers: (refused, other, servers),
    }
}

impl Scene {
    /// Each once; the client's connection goes on.
    fn round(&self, conn: &mut Conn) {
        conn.get("/down").expect(502, Some("connect_failed"));
        let storm = conn.get("/storm");
        assert_eq!(
            (storm.status, storm.text().as_str(), storm.token()),
            (503, "busy", None)
        );
        conn.get("/dying").expect(502, Some("upstream_reset"));
        conn.get("/full").expect(503, Some("overloaded"));
        assert!(conn.get("/dying").keeps_alive());
    }
}

#[test]
fn servers_that_are_all_down_full_busy_or_dying_leave_nothing_behind() {
    let scene = scene();
    let mut fills = scene.gateway.connect();
    fills.send("GET /full HTTP/1.1\r\nHost: test\r\n\r\n");
    scene.gate.reached();
    let mut conn = scene.gateway.connect();
    for _ in 0..20 {
        scene.round(&mut conn);
    }
    let (fds, threads, memory) = (
        scene.gateway.fds(),
        scene.gateway.threads(),
        scene.gateway.rss_kb(),
    );
    let generation = scene.gateway.generation();
    for _ in 0..200 {
        scene.round(&mut conn);
    }
    scene.gate.open();
    assert_eq!(fills.response_to("GET").text(), "at last");
    eventually("the place is free again", || {
        scene.gateway.get("/full").status == 200
    });
    eventually("nothing is in flight", || {
        scene.gateway.metric("tidegate_endpoint_in_flight", &[]) == 0.0
    });
    assert_eq!(scene.gateway.metric("tidegate_queue_waiting", &[]), 0.0);
    eventually("descriptors return", || scene.gateway.fds() <= fds + 2);
    assert!(scene.gateway.threads() <= threads + 4);
    assert!(scene.gateway.rss_kb() < memory + (8 << 10), "from {memory} KiB");
    assert_eq!(
        scene.gateway.generation(),
        generation,
        "no verdict makes a generation"
    );
}
