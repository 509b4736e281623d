//! Rows 12 and 16 to 19 of the failure matrix: servers that die, stand still, come and go, or fail their checks only,
//! with several gateways in front of them. Times are the gateways' own, and held to several times the goal.

use crate::app_server::Server;
use crate::cluster_kit::serves;
use crate::matrix_kit::{Cluster, blank, out, state};
use jiff::Timestamp;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::{
    Address, Backend, Gateway, Load, NameServer, Redis, Relay, Reply, eventually, eventually_some, holds_for,
    redis,
};

/// How long after the first gateway all know.
const GOAL: Duration = Duration::from_millis(100);
/// On a machine that has other things to do.
const FACTOR: u32 = 10;

/// From the first gateway's verdict to the last one's.
fn spread(nodes: &[Gateway], endpoint: &Address) -> Duration {
    let times: Vec<Timestamp> = nodes.iter().map(|node| out(node, endpoint).0).collect();
    let (first, last) = (
        times.iter().min().expect("first"),
        times.iter().max().expect("last"),
    );
    let spread = last.duration_since(*first);
    eprintln!(
        "figure: from the first verdict to the last: {} ms",
        spread.as_millis()
    );
    spread.unsigned_abs()
}

fn all_see(nodes: &[Gateway], endpoint: &Address, wanted: &str) {
    for node in nodes {
        eventually(&format!("it is {wanted}"), || state(node, endpoint) == wanted);
    }
}

/// Settings: checks once an hour with three failures in a row, so that what is found within a second is found because
/// the connection ended, or because another gateway said so.
#[test]
fn row_16_a_server_that_is_killed_is_avoided_by_all_within_a_moment_and_costs_no_request() {
    if !redis::installed() {
        return;
    }
    let (redis, mut servers) = (Redis::start(), ["a", "b", "c"].map(Server::start));
    let addresses = [0, 1, 2].map(|n| servers[n].address());
    let rules =
        "health = { path = \"/whoami\", interval = \"1h\", jitter = 0.0, timeout = \"1s\", fall = 3 }";
    let nodes = Cluster::new(&redis, &addresses, rules).three();
    for address in &addresses {
        all_see(&nodes, address, "active");
    }
    let loads: Vec<Load> = nodes[..2]
        .iter()
        .map(|node| Load::get(node.web(), 2, "/whoami"))
        .collect();
    eventually("load runs", || loads.iter().all(|load| load.done() > 100));
    servers[0].kill();
    let spread = spread(&nodes, &addresses[0]);
    assert!(spread <= FACTOR * GOAL, "{spread:?}");
    let done: Vec<u64> = loads.iter().map(Load::done).collect();
    eventually("load goes on", || {
        loads
            .iter()
            .zip(&done)
            .all(|(load, done)| load.done() > done + 100)
    });
    for load in loads {
        load.stop().expect_flawless();
    }
    serves(&nodes[2]);
}

/// Settings: the first gateway checks ten times a second and wants two failures, the others once an hour and three.
/// They have no requests either: what they know they know from the first, and one look of their own.
#[test]
fn row_17_a_server_that_stands_still_is_avoided_by_all_within_a_moment_and_costs_no_request() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    if !redis::installed() {
        return;
    }
    let (redis, servers) = (Redis::start(), ["a", "b"].map(Server::start));
    let addresses = [0, 1].map(|n| servers[n].address());
    let checks = |every: &str, fall: u8| {
        format!(
            "health = {{ path = \"/whoami\", interval = \"{every}\", jitter = 0.0, timeout = \"300ms\", fall = {fall}, rise = 1 }}"
        )
    };
    let cluster = Cluster::new(&redis, &addresses, &checks("1h", 3));
    let first = cluster
        .complete(blank().with("rules", checks("100ms", 2)), "gw-1")
        .start();
    let nodes = [first, cluster.node("gw-2").start(), cluster.node("gw-3").start()];
    for node in &nodes {
        crate::cluster_kit::await_members(node, &crate::matrix_kit::NAMES);
    }
    for address in &addresses {
        all_see(&nodes, address, "active");
    }
    let load = Load::get(nodes[0].web(), 2, "/whoami");
    eventually("load runs", || load.done() > 50);
    servers[0].pause();
    let spread = spread(&nodes, &addresses[0]);
    assert!(spread <= TIMEOUT + FACTOR * GOAL, "{spread:?}");
    let labels = [&*format!("endpoint=\"{}\"", addresses[0])];
    for node in &nodes[1..] {
        for _ in 0..6 {
            node.get("/whoami").expect(200, None);
        }
        assert_eq!(
            node.metric("tidegate_lb_picks_total", &labels),
            0.0,
            "nobody had to find out"
        );
        assert_eq!(node.events("endpoint.unhealthy").len(), 1);
    }
    load.stop().expect_flawless();
    servers[0].go_on();
    // Whoever checks says that it is back; the others look, and do not wait for their hour.
    eventually("the first has it back", || {
        state(&nodes[0], &addresses[0]) == "active"
    });
}

/// Settings: by traffic alone, three failures in a row; half a second at first, and twice as long each time, up to
/// four seconds. The server is there and away in turns of 0.2 s.
#[test]
fn row_18_a_server_that_comes_and_goes_is_left_alone_for_longer_each_time() {
    const TURN: Duration = Duration::from_millis(200);
    const WATCHED: Duration = Duration::from_secs(7);
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let (steady, flapping) = (Backend::text("steady"), Backend::text("flapping"));
    let rules =
        "outlier = { consecutive_failures = 3, eject = \"500ms\", max_eject = \"4s\", error_rate = 0 }";
    let addresses = [steady.address(), flapping.address()];
    let nodes = Cluster::new(&redis, &addresses, rules).three();
    let loads: Vec<Load> = nodes.iter().map(|node| Load::get(node.web(), 1, "/")).collect();
    let begin = Instant::now();
    let mut turns = 0;
    while begin.elapsed() < WATCHED {
        flapping.down();
        testkit::pace(TURN);
        flapping.up();
        testkit::pace(TURN);
        turns += 1;
    }
    for load in loads {
        let report = load.stop();
        assert!(report.failed.is_empty() && report.ok > 0, "{report:?}");
    }
    for node in &nodes {
        let out: Vec<f64> = node
            .events("endpoint.ejected")
            .iter()
            .map(|event| event["data"]["seconds"].as_f64().expect("seconds"))
            .collect();
        // 0.5 + 1 + 2 + 4: four fit, and one more that has just begun.
        assert!(
            (2..=5).contains(&out.len()) && out.len() < turns,
            "{out:?} in {turns} turns"
        );
        assert!(
            out.windows(2)
                .all(|pair| pair[1] > 1.5 * pair[0] || pair[1] >= 3.9),
            "{out:?}"
        );
    }
    let last = eventually_some("the log of all tells of it", || {
        let log = nodes[0].admin_get("/api/v1/events?scope=cluster&type=endpoint.ejected&limit=100");
        let events = log.json()["events"].as_array()?.clone();
        let names = |name: &str| events.iter().filter(|event| event["node"] == name).count();
        crate::matrix_kit::NAMES
            .iter()
            .all(|name| names(name) >= 2)
            .then_some(events)
    });
    assert!(last.len() <= 15, "{}", last.len());
}

/// Settings: checks ten times a second, two failures in a row, a hold of four seconds at most. The server is there and
/// away in turns of 0.4 s: often enough for twenty turns of each gateway's verdict in every ten seconds.
#[test]
fn row_18_verdicts_of_checks_on_a_server_that_comes_and_goes_turn_seldom_on_all_gateways() {
    const TURN: Duration = Duration::from_millis(400);
    const WATCHED: Duration = Duration::from_secs(11);
    const MOST: f64 = 4.0;
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let (steady, flapping) = (Backend::text("steady"), Backend::text("flapping"));
    let rules = "outlier = { consecutive_failures = 0, error_rate = 0 }\n\
        health = { interval = \"100ms\", fast_interval = \"50ms\", timeout = \"1s\", fall = 2, rise = 1, max_hold = \"4s\" }";
    let addresses = [steady.address(), flapping.address()];
    let nodes = Cluster::new(&redis, &addresses, rules).three();
    for address in &addresses {
        all_see(&nodes, address, "active");
    }
    let loads: Vec<Load> = nodes.iter().map(|node| Load::get(node.web(), 1, "/")).collect();
    let begin = Instant::now();
    while begin.elapsed() < WATCHED {
        flapping.down();
        testkit::pace(TURN);
        flapping.up();
        testkit::pace(TURN);
    }
    for load in loads {
        let report = load.stop();
        assert!(report.failed.is_empty() && report.ok > 0, "{report:?}");
    }
    for node in &nodes {
        let events = node.events("endpoint.unhealthy");
        let held: Vec<f64> = events
            .iter()
            .map(|event| event["data"]["hold_seconds"].as_f64().unwrap_or(0.0))
            .collect();
        assert!(held.len() >= 4, "{held:?}");
        assert_eq!(held[..4], [0.0, 1.0, 2.0, MOST]);
        assert!(held[4..].iter().all(|hold| *hold == MOST), "{held:?}");
        // What begins with the last of these is still going on.
        let bound = 3 + (begin.elapsed().as_secs_f64() / MOST).ceil() as usize;
        assert!(held.len() <= bound, "{held:?}");
        let back = node.events("endpoint.healthy").len();
        assert!(back <= held.len(), "{back}");
        let reason = events[1]["reason"].as_str().unwrap_or_default();
        assert!(
            reason.ends_with("; it is flapping, and held for 1.0 s at least"),
            "{reason}"
        );
        let down: Vec<f64> = node
            .events("endpoint.healthy")
            .iter()
            .map(|event| event["data"]["down_ms"].as_f64().expect("down_ms") / 1000.0)
            .collect();
        let kept = held.iter().zip(&down).all(|(hold, down)| down >= hold);
        assert!(kept, "{held:?} {down:?}");
        let labels = [&*format!("endpoint=\"{}\"", addresses[1])];
        let flaps = node.metric("tidegate_endpoint_flaps_total", &labels);
        assert!(flaps >= (held.len() - 1) as f64, "{flaps}");
    }
    eventually("the log of all tells of it", || {
        let log = nodes[0].admin_get("/api/v1/events?scope=cluster&type=endpoint.unhealthy&limit=100");
        let log = log.json();
        let held = log["events"].as_array().into_iter().flatten();
        let held: Vec<_> = held
            .filter(|event| event["data"]["hold_seconds"] == MOST)
            .collect();
        crate::matrix_kit::NAMES
            .iter()
            .all(|name| held.iter().any(|event| event["node"] == *name))
    });
    // Who stays is back as soon as the hold is over.
    all_see(&nodes, &addresses[1], "active");
}

/// Settings: checks ten times a second of a path that answers `500`.
#[test]
fn row_19_servers_that_only_fail_their_checks_go_on_serving_on_all_gateways() {
    if !redis::installed() {
        return;
    }
    let (redis, well) = (Redis::start(), Arc::new(AtomicBool::new(true)));
    let server = |name: &'static str| {
        let well = Arc::clone(&well);
        Backend::http(move |request| match request.target.as_str() {
            "/health" if !well.load(Ordering::SeqCst) => Reply::new(500, "no"),
            _ => Reply::ok(name),
        })
    };
    let servers = [server("a"), server("b")];
    let addresses = [servers[0].address(), servers[1].address()];
    let rules = "health = { path = \"/health\", interval = \"100ms\", timeout = \"1s\", fall = 2, rise = 1 }";
    let nodes = Cluster::new(&redis, &addresses, rules).three();
    for address in &addresses {
        all_see(&nodes, address, "active");
    }
    let loads: Vec<Load> = nodes.iter().map(|node| Load::get(node.web(), 1, "/")).collect();
    well.store(false, Ordering::SeqCst);
    for node in &nodes {
        eventually("it is told", || node.events("upstream.fail_open").len() == 1);
    }
    holds_for(Duration::from_secs(2), "all are used", || {
        nodes
            .iter()
            .all(|node| node.metric("tidegate_upstream_fail_open", &[]) == 1.0)
    });
    let texts: String = (0..8).map(|_| nodes[1].get("/").text()).collect();
    assert!(texts.contains('a') && texts.contains('b'), "{texts}");
    well.store(true, Ordering::SeqCst);
    for node in &nodes {
        eventually("it is over", || {
            node.events("upstream.fail_open_ended").len() == 1
        });
        assert_eq!(node.events("upstream.fail_open").len(), 1, "told once");
    }
    for load in loads {
        load.stop().expect_flawless();
    }
}

/// Settings: checks ten times a second. One name for all, which leads the first gateway through a relay.
#[test]
fn row_12_a_server_that_one_gateway_cannot_reach_is_avoided_by_that_one_alone() {
    const NAME: &str = "app.test";
    if !redis::installed() {
        return;
    }
    let (redis, server, other) = (Redis::start(), Backend::text("a"), Backend::text("b"));
    let port = server.address().port();
    let relay = Relay::at((Ipv4Addr::new(127, 0, 0, 77), port).into(), server.address());
    let rules = "health = { interval = \"100ms\", jitter = 0.0, timeout = \"1s\", fall = 2, rise = 1 }\n[dns]\nservers = [\"@dns@\"]\n";
    let cluster = Cluster {
        endpoints: vec![format!("{NAME}:{port}"), other.address().to_string()],
        ..Cluster::new(&redis, &[], rules)
    };
    let names = [77, 1, 1].map(|last| {
        let names = NameServer::start();
        names.addresses(NAME, 60, &[IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))]);
        names
    });
    let nodes: Vec<Gateway> = crate::matrix_kit::NAMES
        .iter()
        .zip(&names)
        .map(|(name, names)| cluster.node(name).with("dns", names.address()).start())
        .collect();
    for node in &nodes {
        crate::cluster_kit::await_members(node, &crate::matrix_kit::NAMES);
    }
    let shown = |node: &Gateway| {
        let upstream = node.admin_get("/api/v1/upstreams/app").json();
        upstream["endpoints"][0]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for node in &nodes {
        eventually("it is well", || shown(node) == "active");
    }
    relay.set(testkit::Fault::Blackhole);
    eventually("the first finds it", || shown(&nodes[0]) == "unhealthy");
    let votes = eventually_some("the others hear of it, and all vote", || {
        let told = nodes[2].admin_get("/api/v1/clustering/verdicts").json();
        let votes = told["verdicts"].as_array()?.first().cloned()?;
        (votes["voters"] == 3).then_some(votes)
    });
    assert_eq!(
        (&votes["down"], &votes["needed"]),
        (&json!(["gw-1"]), &json!(2)),
        "{votes}"
    );
    holds_for(Duration::from_secs(1), "they use it all the same", || {
        nodes[1..].iter().all(|node| shown(node) == "active")
    });
    for node in &nodes[1..] {
        assert_eq!(node.events("endpoint.unhealthy").len(), 0);
        let texts: String = (0..8).map(|_| node.get("/").text()).collect();
        assert!(texts.contains('a') && texts.contains('b'), "{texts}");
    }
    assert!((0..6).all(|_| nodes[0].get("/").text() == "b"));
    relay.set(testkit::Fault::None);
    relay.reset_connections();
    eventually("the first has it back", || shown(&nodes[0]) == "active");
}
