//! Gateways that ask each other whether they live, while their Redis is away: with real ones, killed and paused.

use crate::cluster_kit::{CONFIG, await_bus, await_members, cluster, events_about, members, serves};
use crate::gateway;
use serde_json::Value;
use std::time::Duration;
use testkit::gateway::Sig;
use testkit::redis::{self, Redis};
use testkit::{Backend, Builder, Gateway, eventually, holds_for};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const TERMS: &str = "ping = true\nkey = \"env:CLUSTER_KEY\"\nheartbeat = \"300ms\"\ngone_after = \"2500ms\"";
const GONE_AFTER: Duration = Duration::from_millis(2500);
const NODES: [&str; 3] = ["gw-a", "gw-b", "gw-c"];

fn node(name: &str, redis: &Redis, app: &Backend, more: &str) -> Builder {
    gateway(CONFIG)
        .env("CLUSTER_KEY", KEY)
        .with("more", more)
        .with("node", name)
        .with("redis", redis.url())
        .with("app", app.address())
}

fn three(redis: &Redis, app: &Backend) -> [Gateway; 3] {
    let gateways = NODES.map(|name| node(name, redis, app, TERMS).start());
    for gateway in &gateways {
        await_members(gateway, &NODES);
        // Each has heard each other one.
        eventually("they answer each other", || pings(gateway, "answered") >= 4.0);
    }
    gateways
}

fn pings(gateway: &Gateway, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    gateway.metric("tidegate_cluster_pings_total", &[&label])
}

/// What a gateway says of another.
fn member(gateway: &Gateway, name: &str) -> Value {
    let cluster = cluster(gateway);
    let members = cluster["members"].as_array().expect("members");
    let found = members.iter().find(|member| member["node"] == name);
    found.cloned().unwrap_or_default()
}

/// Joins and ends that a gateway wrote down.
fn changes(gateway: &Gateway) -> usize {
    let kinds = ["cluster.joined", "cluster.left", "cluster.gone"];
    kinds.iter().map(|kind| gateway.events(kind).len()).sum()
}

fn known_by_ping(gateway: &Gateway, others: &[&str]) -> bool {
    others.iter().all(|other| {
        let member = member(gateway, other);
        member["via"] == "ping" && member["state"] == "alive"
    })
}

#[test]
fn while_redis_stands_still_members_are_known_by_their_answers() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let gateways = three(&redis, &app);
    assert_eq!(member(&gateways[0], "gw-b")["via"], "redis");
    let before: Vec<usize> = gateways.iter().map(changes).collect();
    redis.pause();
    for (n, gateway) in gateways.iter().enumerate() {
        await_bus(gateway, "down");
        let others: Vec<&str> = NODES.iter().filter(|name| **name != NODES[n]).copied().collect();
        eventually("the others answer", || known_by_ping(gateway, &others));
    }
    let same = || gateways.iter().map(changes).collect::<Vec<_>>() == before;
    holds_for(2 * GONE_AFTER, "nobody comes or goes", same);
    for gateway in &gateways {
        // By what the store said last they would have been silent for longer.
        eventually("they have answered since", || {
            let silent = |name: &&str| member(gateway, name)["silent_ms"].as_u64();
            NODES
                .iter()
                .filter_map(silent)
                .all(|ms| u128::from(ms) < GONE_AFTER.as_millis())
        });
    }
    assert_eq!(cluster(&gateways[0])["fresh"], false);
    serves(&gateways[0]);
    redis.resume();
    for gateway in &gateways {
        await_bus(gateway, "live");
        eventually("the store is believed again", || {
            member(gateway, "gw-a")["self"] == true || member(gateway, "gw-a")["via"] == "redis"
        });
    }
    holds_for(2 * GONE_AFTER, "nobody came or went", same);
}

#[test]
fn one_that_dies_while_redis_is_dead_is_gone_in_its_time_and_does_not_come_back_with_it() {
    if !redis::installed() {
        return;
    }
    let (mut redis, app) = (Redis::start(), Backend::text("app"));
    let [a, b, c] = three(&redis, &app);
    redis.kill();
    for gateway in [&a, &b] {
        await_bus(gateway, "down");
        eventually("the others answer", || known_by_ping(gateway, &["gw-c"]));
    }
    c.signal(Sig::KILL);
    for gateway in [&a, &b] {
        await_members(gateway, &NODES[..2]);
        let events = gateway.events("cluster.gone");
        assert_eq!(events.len(), 1, "{events:?}");
        let silent = events[0]["data"]["silent_ms"].as_u64().expect("silent_ms");
        // A busy machine makes it longer.
        let silent = Duration::from_millis(silent);
        assert!(silent >= GONE_AFTER && silent <= 3 * GONE_AFTER, "{silent:?}");
        assert_eq!(events_about(gateway, "cluster.suspected", "gw-c"), 1);
        assert!(pings(gateway, "refused") >= 2.0);
    }
    redis.start_again();
    for gateway in [&a, &b] {
        await_bus(gateway, "live");
    }
    holds_for(2 * GONE_AFTER, "it stays away, and nobody else goes", || {
        [&a, &b]
            .iter()
            .all(|gateway| members(gateway) == NODES[..2] && gateway.events("cluster.gone").len() == 1)
    });
    drop(c);
}

#[test]
fn one_that_stands_still_while_redis_does_is_back_with_its_next_answer() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let [a, b, c] = three(&redis, &app);
    redis.pause();
    await_bus(&a, "down");
    eventually("the others answer", || known_by_ping(&a, &["gw-b", "gw-c"]));
    c.signal(Sig::STOP);
    await_members(&a, &NODES[..2]);
    await_members(&b, &NODES[..2]);
    assert!(pings(&a, "silent") >= 2.0);
    c.signal(Sig::CONT);
    for gateway in [&a, &b] {
        await_members(gateway, &NODES);
    }
    // It was the one that stood still: it took nobody for gone.
    holds_for(2 * GONE_AFTER, "it knows the others", || members(&c) == NODES);
    assert_eq!(c.events("cluster.gone").len(), 0);
    redis.resume();
    for gateway in [&a, &b, &c] {
        await_bus(gateway, "live");
    }
    holds_for(2 * GONE_AFTER, "nobody flaps", || {
        [&a, &b].iter().all(|gateway| {
            events_about(gateway, "cluster.joined", "gw-c") == 2
                && events_about(gateway, "cluster.gone", "gw-c") == 1
        })
    });
}

#[test]
fn who_can_reach_nobody_judges_nobody() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = node("gw-a", &redis, &app, TERMS).start();
    let b = node("gw-b", &redis, &app, TERMS).start();
    for gateway in [&a, &b] {
        await_members(gateway, &NODES[..2]);
        eventually("they answer each other", || pings(gateway, "answered") >= 2.0);
    }
    redis.pause();
    await_bus(&a, "down");
    // It accepts and says nothing: from here that looks as a network that is cut.
    b.signal(Sig::STOP);
    let silent = pings(&a, "silent");
    eventually("questions stay without an answer", || {
        pings(&a, "silent") >= silent + 6.0
    });
    assert_eq!(members(&a), NODES[..2]);
    assert_eq!(events_about(&a, "cluster.gone", "gw-b"), 0);
    b.signal(Sig::CONT);
}

#[test]
fn what_is_not_signed_by_the_key_is_neither_answered_nor_believed() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = node("gw-a", &redis, &app, TERMS).start();
    await_bus(&a, "live");
    let garbage = [
        String::new(),
        "{}".to_owned(),
        "x".repeat(100_000),
        "{\"version\":1,\"cluster\":\"default\",\"from\":\"gw-b\",\"to\":\"gw-a\",\"nonce\":\"AAAA\",\"tag\":\"AAAA\"}"
            .to_owned(),
    ];
    for (n, bytes) in garbage.iter().enumerate() {
        let answer = a.admin_call("POST", "/cluster/ping", "", bytes);
        assert!(matches!(answer.status, 403 | 413), "{n}: {answer}");
        assert!(!answer.text().contains("incarnation"), "{answer}");
    }
    assert_eq!(pings(&a, "rejected"), 3.0, "the longest was not even read");
    assert_eq!(pings(&a, "served"), 0.0);

    // Somebody who has the store, and not the key: its answers are not believed.
    let liar = Backend::http(|request| match request.target.as_str() {
        "/cluster/ping" => {
            testkit::Reply::ok("{\"version\":1,\"incarnation\":7,\"record\":\"{}\",\"tag\":\"AAAA\"}")
        }
        _ => testkit::Reply::ok("?"),
    });
    let other =
        TERMS.replace("env:CLUSTER_KEY", "env:OTHER_KEY") + &format!("\nadvertise = \"{}\"", liar.address());
    let b = node("gw-b", &redis, &app, &other)
        .env("OTHER_KEY", "another-key-another-key-another")
        .start();
    await_members(&a, &NODES[..2]);
    eventually("it is asked", || pings(&a, "forged") >= 2.0);
    // What it asks itself with its other key is not answered.
    eventually("it asks", || pings(&a, "rejected") >= 5.0);
    eventually("and gets nothing", || pings(&b, "garbage") >= 2.0);
    assert_eq!(pings(&a, "answered"), 0.0);
    assert_eq!(pings(&b, "answered"), 0.0);
}

#[test]
fn without_the_key_nobody_asks_and_nobody_is_answered() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = node("gw-a", &redis, &app, "").start();
    await_bus(&a, "live");
    assert_eq!(a.admin_call("POST", "/cluster/ping", "", "{}").status, 404);
    assert!(
        !a.admin_get("/metrics")
            .text()
            .contains("tidegate_cluster_pings_total{")
    );
    let terms = "ping = true\nadvertise = \"0.0.0.0:0\"\n";
    let Err(refused) = node("gw-b", &redis, &app, terms).try_start() else {
        panic!("it starts");
    };
    for text in [
        "cluster.ping: there is no `key`",
        "cluster.advertise: an address that stands for all",
    ] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
}
