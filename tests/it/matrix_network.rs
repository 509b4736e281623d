//! Rows 11, 12 and 25 of the failure matrix: gateways that are cut off from others without a word, by cables that are
//! pulled between network namespaces. Where the system gives none, row 11 is done by a relay, row 12 is in
//! [`super::matrix_backends`], and row 25 says that it was not done.

use crate::cluster_kit::{await_bus, await_members, bus, cluster, events_about, serves};
use crate::cluster_sentinel::Guarded;
use crate::matrix_kit::{Cluster, NAMES, blank, state, weigh, weight};
use std::time::Duration;
use testkit::netns::{self, Host, Wire};
use testkit::redis::{self, Place};
use testkit::{Address, Backend, Fault, Gateway, Redis, Relay, eventually, eventually_some, holds_for};

/// What the test's own machine is on a wire.
fn here(wire: &Wire) -> Place {
    Place {
        bind: "0.0.0.0",
        known_as: wire.here(),
        ..Place::default()
    }
}

/// An address of a backend that machines on this wire reach.
fn reached_by(wire: &Wire, backend: &Backend) -> Relay {
    let address = format!("{}:0", wire.here()).parse().expect("an address");
    Relay::at(address, backend.address())
}

/// Three wires: one by which the test reaches everybody, whose cables stay in, one to the Redis, one to the servers.
struct Wires {
    test: Wire,
    redis: Wire,
    app: Wire,
}

impl Wires {
    fn new() -> Self {
        let [test, redis, app] = [80, 81, 82].map(Wire::new);
        Self { test, redis, app }
    }

    fn host(&self, number: u8) -> Host {
        Host::new(number, &[&self.test, &self.redis, &self.app])
    }

    /// A gateway of the cluster on this machine.
    fn node(&self, cluster: &Cluster, host: &Host, name: &str) -> Gateway {
        let builder = blank().under(&host.runner()).with("host", host.on(&self.test));
        cluster.complete(builder, name).start()
    }
}

/// The third of three gateways is cut off from the Redis, and let in again.
fn cut_off(nodes: &[Gateway; 3], app: &Address, cut: impl Fn(), heal: impl Fn()) {
    let [one, two, three] = nodes;
    for node in nodes {
        await_members(node, &NAMES);
        await_bus(node, "live");
    }
    cut();
    for node in [one, two] {
        await_members(node, &NAMES[..2]);
        assert_eq!(events_about(node, "cluster.gone", "gw-3"), 1);
    }
    eventually("it knows that it hears nothing", || bus(three).0 == "down");
    serves(three);
    let view = cluster(three);
    assert_eq!(
        (&view["nodes"], &view["fresh"]),
        (&3.into(), &false.into()),
        "it judges nobody"
    );
    weigh(one, app, 7);
    eventually("those who hear each other agree", || weight(two, app) == 7);
    assert_eq!(weight(three, app), 1);
    heal();
    for node in nodes {
        await_members(node, &NAMES);
        await_bus(node, "live");
        eventually("what it missed is known", || weight(node, app) == 7);
    }
    assert_eq!(three.events("cluster.gone").len(), 0);
    assert_eq!(events_about(one, "cluster.joined", "gw-3"), 2);
    assert_eq!(events_about(one, "cluster.gone", "gw-2"), 0);
}

#[test]
fn row_11_a_gateway_that_is_cut_off_from_the_redis_serves_judges_nobody_and_comes_back() {
    if !redis::installed() {
        return;
    }
    if netns::inside() {
        let wires = Wires::new();
        let (redis, backend) = (Redis::at(here(&wires.redis), &[]), Backend::text("app"));
        let app = reached_by(&wires.app, &backend);
        let cluster = Cluster::new(&redis, &[app.address()], "");
        let host = wires.host(11);
        let nodes = [
            cluster.node("gw-1").start(),
            cluster.node("gw-2").start(),
            wires.node(&cluster, &host, "gw-3"),
        ];
        let (cut, heal) = (|| host.pull(&wires.redis), || host.plug_in(&wires.redis));
        return cut_off(&nodes, &app.address(), cut, heal);
    }
    let name =
        "matrix_network::row_11_a_gateway_that_is_cut_off_from_the_redis_serves_judges_nobody_and_comes_back";
    if netns::run_again(name) {
        return;
    }
    eprintln!("no network namespaces here: by a relay");
    let (redis, backend) = (Redis::start(), Backend::text("app"));
    let relay = Relay::to(redis.address());
    let direct = Cluster::new(&redis, &[backend.address()], "");
    let behind = Cluster {
        redis: format!("redis://{}", relay.address()),
        ..Cluster::new(&redis, &[backend.address()], "")
    };
    let nodes = [
        direct.node("gw-1").start(),
        direct.node("gw-2").start(),
        behind.node("gw-3").start(),
    ];
    let heal = || {
        relay.set(Fault::None);
        relay.reset_connections();
    };
    cut_off(&nodes, &backend.address(), || relay.set(Fault::Blackhole), heal);
}

/// Settings: checks ten times a second, two failures in a row.
#[test]
fn row_12_a_pulled_cable_between_one_gateway_and_the_servers_concerns_that_one_alone() {
    if !redis::installed() {
        return;
    }
    if !netns::inside() {
        let name = "matrix_network::row_12_a_pulled_cable_between_one_gateway_and_the_servers_concerns_that_one_alone";
        if !netns::run_again(name) {
            eprintln!("no network namespaces here: matrix_backends does it by a relay");
        }
        return;
    }
    let wires = Wires::new();
    let redis = Redis::at(here(&wires.redis), &[]);
    let (a, b) = (Backend::text("a"), Backend::text("b"));
    // The second server is on the wire whose cables stay in.
    let (a, b) = (reached_by(&wires.app, &a), reached_by(&wires.test, &b));
    let rules = "health = { interval = \"100ms\", jitter = 0.0, timeout = \"1s\", fall = 2, rise = 1 }";
    let cluster = Cluster::new(&redis, &[a.address(), b.address()], rules);
    let hosts = [11, 12].map(|number| wires.host(number));
    let nodes = [
        wires.node(&cluster, &hosts[0], "gw-1"),
        wires.node(&cluster, &hosts[1], "gw-2"),
        cluster.node("gw-3").start(),
    ];
    let one_sees = |wanted: &str| {
        eventually(&format!("it is {wanted}"), || {
            state(&nodes[0], &a.address()) == wanted
        });
    };
    for node in &nodes {
        await_members(node, &NAMES);
        eventually("it is well", || state(node, &a.address()) == "active");
    }
    hosts[0].pull(&wires.app);
    one_sees("unhealthy");
    let votes = eventually_some("the others hear of it", || {
        let told = nodes[1].admin_get("/api/v1/clustering/verdicts").json();
        told["verdicts"].as_array()?.first().cloned()
    });
    assert_eq!(votes["down"], serde_json::json!(["gw-1"]), "{votes}");
    assert!((0..6).all(|_| nodes[0].get("/").text() == "b"));
    holds_for(Duration::from_secs(1), "the others use it", || {
        nodes[1..]
            .iter()
            .all(|node| state(node, &a.address()) == "active")
    });
    for node in &nodes[1..] {
        let texts: String = (0..8).map(|_| node.get("/").text()).collect();
        assert!(texts.contains('a') && texts.contains('b'), "{texts}");
        assert_eq!(node.events("endpoint.unhealthy").len(), 0);
        await_members(node, &NAMES);
    }
    hosts[0].plug_in(&wires.app);
    one_sees("active");
}

/// Row 25: a machine with the master and a gateway is cut off from the replica, the sentinels, and the other gateway.
#[test]
fn row_25_of_two_halves_the_one_with_the_old_master_changes_nothing_and_yields_when_they_meet() {
    if !redis::installed() {
        return;
    }
    if !netns::inside() {
        let name = "matrix_network::row_25_of_two_halves_the_one_with_the_old_master_changes_nothing_and_yields_when_they_meet";
        if !netns::run_again(name) {
            eprintln!("not done: no network namespaces can be had here");
        }
        return;
    }
    let wires = Wires::new();
    let (host, backend) = (wires.host(11), Backend::text("app"));
    let app = reached_by(&wires.app, &backend);
    let master = Redis::at(
        host.place(&wires.redis, &wires.test),
        &["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"],
    );
    let replica = master.replica_at(here(&wires.redis));
    let redis = Guarded::by(master, replica, &here(&wires.redis));
    let cluster_of = Cluster {
        redis: redis.url(),
        ..Cluster::new(&redis.master, &[app.address()], "sticky = { cookie = \"at\" }")
    };
    // Longer than the master takes to notice that it is alone: till then its half believes it.
    let patient = || blank().with("gone", "4s");
    let there = patient().under(&host.runner()).with("host", host.on(&wires.test));
    let (old, new) = (
        cluster_of.complete(there, "gw-1").start(),
        cluster_of.complete(patient(), "gw-2").start(),
    );
    for node in [&old, &new] {
        await_members(node, &NAMES[..2]);
        await_bus(node, "live");
    }
    weigh(&old, &app.address(), 3);
    eventually("they agree", || weight(&new, &app.address()) == 3);

    host.pull(&wires.redis);
    // The half that is cut off: nothing is written there once the replica's silence is noticed.
    eventually("writes are refused", || {
        redis.master.ask(&["SET", "x", "1"]).starts_with("NOREPLICAS")
    });
    eventually("it says so", || bus(&old).0 != "live");
    weigh(&old, &app.address(), 4);
    serves(&old);
    // The half with the others: a new master, and one gateway less.
    let port = redis.replica.port().to_string();
    eventually("the new master is used", || {
        bus(&new).0 == "live" && Guarded::server(&new).ends_with(&port)
    });
    await_members(&new, &["gw-2"]);
    assert_eq!(
        weight(&new, &app.address()),
        3,
        "what was said in the other half is not known"
    );
    weigh(&new, &app.address(), 5);
    serves(&new);
    let view = cluster(&old);
    assert_eq!(
        (&view["nodes"], &view["fresh"]),
        (&2.into(), &false.into()),
        "it judges nobody"
    );
    let overrides = "tidegate:1:default:{c}t:overrides";
    let key = format!("weight|app|{}", app.address());
    let in_store = |redis: &Redis| redis.ask(&["HGET", overrides, &key]);
    assert!(
        in_store(&redis.master).contains(":3"),
        "{}",
        in_store(&redis.master)
    );

    host.plug_in(&wires.redis);
    for node in [&old, &new] {
        eventually("both are with the new master", || {
            bus(node).0 == "live" && Guarded::server(node).ends_with(&port)
        });
        await_members(node, &NAMES[..2]);
        eventually("the later of two changes holds", || {
            weight(node, &app.address()) == 5
        });
    }
    assert_eq!(old.events("cluster.gone").len(), 0);
    assert_eq!(events_about(&new, "cluster.joined", "gw-1"), 2);
    // Sentinels give a master that is back eight seconds before they make it a replica.
    holds_for(Duration::from_secs(6), "nobody goes back", || {
        [&old, &new]
            .iter()
            .all(|node| Guarded::server(node).ends_with(&port))
    });
    eventually("the old master is demoted", || Guarded::follows(&redis.master));
    let leases = |node: &Gateway| {
        let leases = cluster(node)["leases"].as_array().cloned().unwrap_or_default();
        leases
            .iter()
            .map(|lease| (lease["holder"].clone(), lease["token"].clone()))
            .collect::<Vec<_>>()
    };
    eventually("they see the same leases", || leases(&old) == leases(&new));
    eventually("one truth, in the replica too", || {
        redis.master.try_ask(&["PING"]).is_some() && in_store(&redis.master) == in_store(&redis.replica)
    });
    assert!(
        in_store(&redis.master).contains(":5"),
        "{}",
        in_store(&redis.master)
    );
}
