//! Row 26 of the failure matrix: gateways and masters whose date is wrong. Who is there, what was given a time, and what
//! clients hold does not depend on it.

use crate::cluster_kit::{await_bus, await_members, cluster, with};
use crate::cluster_sentinel::Guarded;
use crate::matrix_kit::{Cluster, NAMES, blank, change, weight};
use crate::sticky::Browser;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::time::Duration;
use testkit::redis::{self, Place};
use testkit::{
    Backend, Ca, Calendar, Gateway, Load, Redis, TlsClient, eventually, eventually_some, holds_for,
};

const HOUR: i64 = 3600;

/// How far this gateway's date is ahead, by what it writes down.
fn ahead(gateway: &Gateway) -> SignedDuration {
    let joined = eventually_some("an event", || gateway.events("cluster.joined").pop());
    let told: Timestamp = joined["ts"].as_str().expect("ts").parse().expect("a moment");
    told.duration_since(Timestamp::now())
}

/// Whether it is about so many seconds.
fn about(told: SignedDuration, seconds: i64) -> bool {
    (told.as_secs() - seconds).abs() < 120
}

/// Three gateways: one in time, one an hour ahead, one an hour behind.
fn three(cluster: &Cluster, calendar: &Calendar, ca: &Ca) -> [Gateway; 3] {
    let leaf = ca.leaf(&["a.test"]);
    let nodes = [(NAMES[0], 0), (NAMES[1], HOUR), (NAMES[2], -HOUR)].map(|(name, ahead)| {
        let builder = blank().file("a.pem", &leaf.chain).file("a.key", &leaf.key);
        let variables = calendar.variables(ahead);
        let builder = variables
            .iter()
            .fold(builder, |builder, (name, value)| builder.env(name, value));
        cluster.complete(builder, name).start()
    });
    for node in &nodes {
        await_members(node, &NAMES);
    }
    nodes
}

fn nobody_went(nodes: &[Gateway]) {
    for node in nodes {
        for kind in ["cluster.gone", "cluster.left", "cluster.suspected"] {
            assert_eq!(node.events(kind).len(), 0, "{kind}");
        }
        assert_eq!(node.events("cluster.joined").len(), nodes.len() - 1);
    }
}

const SECURE: &str = r#"sticky = { cookie = "at", ttl = "10m" }
[listeners.secure]
address = "127.0.0.1:0"
[listeners.secure.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
"#;

#[test]
fn row_26_gateways_whose_clocks_are_an_hour_off_take_part_like_any_other() {
    if !redis::installed() {
        return;
    }
    let (redis, calendar, ca) = (Redis::start(), Calendar::new(), Ca::default());
    let servers = ["a", "b", "c"].map(Backend::text);
    let addresses = [0, 1, 2].map(|n| servers[n].address());
    let cluster_of = Cluster::new(&redis, &addresses, SECURE);
    let nodes = three(&cluster_of, &calendar, &ca);
    // Their dates are really wrong, and they know it.
    for (node, seconds) in nodes.iter().zip([0, HOUR, -HOUR]) {
        assert!(about(ahead(node), seconds), "{:?} for {seconds}", ahead(node));
        let told = node.events("cluster.clock").len();
        assert_eq!(
            told,
            usize::from(seconds != 0),
            "{:?}",
            node.events("cluster.clock")
        );
    }

    // Cookies, which say when they were made: whoever made them, they lead to the same server everywhere.
    for node in &nodes {
        eventually("the cluster's secret is in use", || {
            !node.events("keys.sticky").is_empty()
        });
    }
    let secrets = |node: &Gateway| node.events("keys.sticky").len();
    eventually("each has brought its own", || {
        nodes.iter().map(secrets).sum::<usize>() >= 3
    });
    for made in &nodes {
        let mut browser = Browser::default();
        let home = browser.get(&made.web(), "/").text();
        for used in &nodes {
            eventually("it is honoured", || {
                browser.clone().get(&used.web(), "/").text() == home
            });
            for _ in 0..4 {
                assert_eq!(browser.get(&used.web(), "/").text(), home);
            }
        }
    }
    for (node, outcome) in nodes
        .iter()
        .flat_map(|node| [(node, "expired"), (node, "tampered")])
    {
        assert_eq!(crate::sticky::counted(node, outcome), 0.0, "{outcome}");
    }

    // Tickets of TLS sessions.
    for node in &nodes {
        eventually("the cluster's keys are in use", || {
            !node.events("keys.tickets").is_empty()
        });
    }
    for (from, to) in [(1, 2), (2, 1), (0, 1), (2, 0)] {
        let client = TlsClient::trusting(&ca).build();
        let visit = |node: &Gateway| {
            let mut conn = client.connect(node.addr("secure"), "a.test");
            conn.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_eq!(conn.response().status, 200);
            conn.agreed().resumed
        };
        assert!(!visit(&nodes[from]));
        assert!(visit(&nodes[to]), "from {from} to {to}");
    }

    // What an operator gave ten minutes holds on all, and what was given three seconds ends on all.
    for (n, node) in nodes.iter().enumerate() {
        let weight_of = 10 + n as u64;
        change(node, &addresses[n], &json!({ "weight": weight_of, "for": "10m" }));
        for other in &nodes {
            eventually("it is known", || weight(other, &addresses[n]) == weight_of);
        }
    }
    // One comparison with the store more.
    holds_for(Duration::from_secs(6), "it holds", || {
        nodes
            .iter()
            .all(|node| (0..3).all(|n| weight(node, &addresses[n]) == 10 + n as u64))
    });
    for (n, node) in nodes.iter().enumerate() {
        change(node, &addresses[n], &json!({ "weight": 20, "for": "3s" }));
        let other = &nodes[(n + 1) % 3];
        eventually("it is known", || weight(other, &addresses[n]) == 20);
        eventually("it ends", || {
            nodes.iter().all(|node| weight(node, &addresses[n]) != 20)
        });
    }

    // A drain with a deadline cuts nobody before it is over.
    change(
        &nodes[2],
        &addresses[0],
        &json!({ "state": "draining", "deadline": "10m" }),
    );
    for node in &nodes {
        eventually("it drains", || {
            node.endpoint(&addresses[0])["state"] == "draining"
        });
        assert_eq!(node.events("endpoint.drain_cut").len(), 0);
        let left = node.endpoint(&addresses[0]);
        assert!(left["drain"]["cut"].is_null(), "{left}");
    }
    change(&nodes[1], &addresses[0], &json!({ "state": "active" }));
    for node in &nodes {
        eventually("the later word counts", || {
            node.endpoint(&addresses[0])["state"] == "active"
        });
    }
    nobody_went(&nodes);
}

#[test]
fn row_26_a_new_master_whose_clock_is_ahead_makes_nobody_come_or_go() {
    if !redis::installed() {
        return;
    }
    let (calendar, app) = (Calendar::new(), Backend::text("app"));
    let master = Redis::start();
    let replica = master.replica_at(Place {
        runner: calendar.runner(10),
        ..Place::default()
    });
    let mut redis = Guarded::by(master, replica, &Place::default());
    let date = |redis: &Redis| -> i64 {
        let time = redis.ask(&["TIME"]);
        time.lines()
            .next()
            .and_then(|at| at.parse().ok())
            .expect("a date")
    };
    let apart = date(&redis.replica) - date(&redis.master);
    assert!((8..=12).contains(&apart), "{apart}");
    let quick = "heartbeat = \"200ms\"\ngone_after = \"1s\"";
    let nodes = ["gw-1", "gw-2"].map(|name| with(name, &redis.url(), &app, quick).start());
    for node in &nodes {
        await_bus(node, "live");
        await_members(node, &["gw-1", "gw-2"]);
    }
    let load = Load::get(nodes[0].web(), 1, "/");
    redis.master.kill();
    let port = redis.replica.port().to_string();
    for node in &nodes {
        eventually("the new master is used", || {
            cluster(node)["bus"]["condition"] == "live" && Guarded::server(node).ends_with(&port)
        });
    }
    holds_for(Duration::from_secs(3), "both are there", || {
        nodes.iter().all(|node| cluster(node)["nodes"] == 2)
    });
    for node in &nodes {
        await_members(node, &["gw-1", "gw-2"]);
        assert!(node.events("cluster.gone").is_empty() && node.events("cluster.joined").len() == 1);
        eventually("it goes by the new date, and says so", || {
            node.events("cluster.clock").len() == 1
        });
    }
    load.stop().expect_flawless();
}
