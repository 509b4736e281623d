//! The configuration of a cluster while its Redis loses it, goes back in time, holds something else, or is not there;
//! and what comes by other ways than a gateway's API.

use crate::cluster_published::{KEY, Node, OWN, TOKEN, WITH_KEY, builder, node, saying};
use crate::gateway;
use crate::sticky::Browser;
use aws_lc_rs::digest::{SHA256, digest};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;
use testkit::redis::{self, Redis};
use testkit::{Backend, Relay, eventually, holds_for};

const CFG: &str = "tidegate:1:default:{c}cfg";

fn sha256(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A version as a gateway without a key writes it.
fn written(version: u64, cluster: &str, text: &str) -> String {
    let about = json!({ "version": version, "cluster": cluster, "sha256": sha256(text), "bytes": text.len(),
        "there": true, "author": "somebody", "node": "gw-z", "at": "2026-11-21T16:00:00Z" });
    format!("{about}\n{text}")
}

/// Puts a version where gateways look, and tells nobody.
fn put(redis: &Redis, version: u64, content: &str) {
    let _ = redis.ask(&[
        "HSET",
        CFG,
        "version",
        &version.to_string(),
        "content",
        content,
        "sha256",
        &sha256(content),
        "about",
        "",
    ]);
}

/// Row 36 of the failure matrix: nobody is told of a new version, and a bad one gets into the store.
#[test]
fn row_36_a_version_that_nobody_announced_comes_with_a_beat_and_a_bad_one_leaves_all_as_it_was() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let nodes = [node("gw-a", &redis.url(), ""), node("gw-b", &redis.url(), "")];
    nodes[0].sees(2);
    nodes[0].published(&saying("one"));
    for node in &nodes {
        node.serves("one");
    }
    let announced = |node: &Node| {
        node.gateway
            .metric("tidegate_bus_announcements_total", &["result=\"sent\""])
    };
    let before = announced(&nodes[0]) + announced(&nodes[1]);
    put(&redis, 2, &written(2, "default", &saying("two")));
    for node in &nodes {
        node.serves("two");
        assert_eq!(node.config()["published"]["author"], "somebody");
    }
    assert_eq!(
        announced(&nodes[0]) + announced(&nodes[1]),
        before,
        "nobody said anything"
    );
    put(
        &redis,
        3,
        &written(3, "default", &saying("bad").replace("respond", "respnod")),
    );
    for node in &nodes {
        eventually("it is refused", || node.config()["refused"]["version"] == 3);
        assert_eq!(
            (node.gateway.get("/").text(), node.config()["version"].clone()),
            ("two".into(), json!(2))
        );
        let told = node.gateway.events("config.rejected");
        assert!(
            told[0]["reason"].as_str().expect("reason").contains("routes[0]"),
            "{told:?}"
        );
        eventually("it is behind", || {
            node.gateway.metric("tidegate_cfg_lag_seconds", &[]) > 0.0
        });
    }
    // The next good one ends that.
    assert_eq!(nodes[1].published(&saying("four")), 4);
    for node in &nodes {
        node.serves("four");
        eventually("nothing is refused", || node.config()["refused"].is_null());
    }
}

/// Row 28: Redis loses everything, and all gateways start anew, at first without it.
#[test]
fn row_28_all_gateways_start_from_what_they_kept_and_give_it_back_to_an_empty_redis() {
    if !redis::installed() {
        return;
    }
    let mut redis = Redis::start();
    let servers = [Backend::text("x"), Backend::text("y")];
    let shared = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"\n[upstreams.app]\nendpoints = [\"{}\", \"{}\"]\nsticky = {{ cookie = \"at\" }}\n",
        servers[0].address(),
        servers[1].address()
    );
    let names = ["gw-a", "gw-b"];
    let mut nodes = names.map(|name| node(name, &redis.url(), WITH_KEY));
    nodes[0].sees(2);
    nodes[0].published(&saying("one"));
    assert_eq!(nodes[1].published(&shared), 2);
    for node in &nodes {
        eventually("it has it", || node.config()["version"] == 2);
        // The secrets of cookies are the cluster's by now, and all bring their own.
        eventually("the secrets are shared", || {
            let kept = std::fs::read_to_string(node.state.path().join("cluster_secrets"));
            kept.is_ok_and(|kept| kept.split(',').count() == 2)
        });
    }
    let mut browsers: Vec<(Browser, String)> = (0..8)
        .map(|n| {
            let mut browser = Browser::default();
            let home = browser.get(&nodes[n % 2].gateway.web(), "/").text();
            (browser, home)
        })
        .collect();
    redis.kill();
    nodes = nodes
        .map(|node| {
            assert_eq!(node.gateway.stop(), Some(0));
            node.state
        })
        .into_iter()
        .zip(names)
        .map(|(state, name)| Node {
            gateway: builder(name, &redis.url(), WITH_KEY, &state).start(),
            state,
        })
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .expect("two");
    for node in &nodes {
        assert_eq!(node.config()["version"], 2, "from the first moment on");
        for (browser, home) in &mut browsers {
            assert_eq!(&browser.get(&node.gateway.web(), "/").text(), home);
        }
    }
    redis.start_again();
    for node in &nodes {
        node.live();
    }
    eventually("the store has it again", || {
        redis.try_ask(&["HGET", CFG, "version"]).as_deref() == Some("2")
    });
    let told: usize = nodes
        .iter()
        .map(|node| node.gateway.events("config.restored").len())
        .sum();
    assert_eq!(told, 1, "one of them gave it back");
    for node in &nodes {
        for (browser, home) in &mut browsers {
            assert_eq!(&browser.get(&node.gateway.web(), "/").text(), home);
        }
    }
    // Flushed under way it is not empty either.
    let _ = redis.ask(&["FLUSHALL"]);
    eventually("the store has it again", || {
        redis.ask(&["HGET", CFG, "version"]) == "2"
    });
    assert_eq!(nodes[0].published(&saying("three")), 3);
    nodes[1].serves("three");
}

/// The configuration's half of row 25: two parts of a cluster publish apart, each to a master of its own.
#[test]
fn row_25_of_versions_that_were_published_apart_the_highest_wins() {
    if !redis::installed() {
        return;
    }
    let mut old = Redis::start();
    let new = old.replica();
    eventually("the replica follows", || {
        new.ask(&["INFO", "replication"])
            .contains("master_link_status:up")
    });
    let to_old = Relay::to(old.address());
    let a = node("gw-a", &format!("{},{}", old.url(), new.address()), WITH_KEY);
    let b = node(
        "gw-b",
        &format!("redis://{},{}", to_old.address(), new.address()),
        WITH_KEY,
    );
    a.sees(2);
    b.sees(2);
    a.published(&saying("one"));
    b.serves("one");
    eventually("the replica has it", || new.ask(&["HGET", CFG, "version"]) == "1");
    // The split: B goes with the new master, A stays with the old one.
    let _ = new.ask(&["REPLICAOF", "NO", "ONE"]);
    to_old.refuse();
    to_old.reset_connections();
    eventually("they are apart", || {
        let alone = |node: &Node| node.gateway.stats()["cluster"]["nodes"] == 1;
        alone(&a) && alone(&b)
    });
    assert_eq!(b.published(&saying("theirs")), 2);
    assert_eq!(a.published(&saying("two")), 2);
    assert_eq!(a.published(&saying("three")), 3);
    assert_eq!(
        (a.gateway.get("/").text(), b.gateway.get("/").text()),
        ("three".into(), "theirs".into())
    );
    // It heals: the old master is no more.
    old.kill();
    a.sees(2);
    b.serves("three");
    assert_eq!(b.config()["version"], 3);
    assert_eq!(a.gateway.get("/").text(), "three");
    eventually("the store has the highest", || {
        new.ask(&["HGET", CFG, "version"]) == "3"
    });
    assert_eq!(a.gateway.events("config.restored").len(), 1);
    assert_eq!(b.published(&saying("four")), 4);
    a.serves("four");
}

#[test]
fn one_that_is_there_and_says_nothing_is_not_waited_for_without_end_and_has_it_later() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    // Time enough for the other to count as there.
    let patient = format!("{WITH_KEY}\ngone_after = \"30s\"");
    let own = OWN.replace("gone_after = \"1s\"\n", "");
    let start = |name: &str| {
        let state = tempfile::tempdir().expect("directory");
        let gateway = builder(name, &redis.url(), &patient, &state).config(&own).start();
        Node { gateway, state }
    };
    let (a, b) = (start("gw-a"), start("gw-b"));
    a.sees(2);
    b.gateway.signal(Signal::STOP);
    let answer = a.publish(&saying("one"));
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(
        answer.json()["gateways"],
        json!([{ "node": "gw-b", "verdict": "silent" }])
    );
    assert_eq!(a.gateway.get("/").text(), "one");
    b.gateway.signal(Signal::CONT);
    b.serves("one");
}

#[test]
fn what_is_in_the_store_and_no_gateway_of_this_cluster_wrote_is_told_once_and_not_served() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let a = node("gw-a", &redis.url(), WITH_KEY);
    a.live();
    a.published(&saying("one"));
    let sealed = redis.ask(&["HGET", CFG, "content"]);
    let unreadable = |version: u64, content: &str, why: &str| {
        put(&redis, version, content);
        eventually(why, || {
            a.config()["refused"]["why"]
                .as_str()
                .is_some_and(|told| told.contains(why))
        });
        assert_eq!(a.gateway.get("/").text(), "one");
    };
    let text = saying("forged");
    unreadable(2, &written(2, "default", &text), "not sealed");
    // What was in force once, under a later number.
    unreadable(3, &sealed, "another cluster.key");
    unreadable(4, "1:garbage", "another cluster.key");
    assert_eq!(
        a.gateway.events("config.unreadable").len(),
        2,
        "once for each cause in a row"
    );
    // It heals with the next that is published, whatever number the other had.
    assert_eq!(a.published(&saying("two")), 5);
    // Something of another kind.
    let _ = redis.ask(&["DEL", CFG]);
    let _ = redis.ask(&["SET", CFG, "x"]);
    eventually("it can't be published", || {
        let answer = a.publish(&saying("three"));
        answer.status == 503 && answer.text().contains("delete the key")
    });
    holds_for(Duration::from_millis(600), "beats go on", || {
        a.gateway.stats()["cluster"]["bus"]["condition"] == "live" && a.gateway.get("/").text() == "two"
    });
    let _ = redis.ask(&["DEL", CFG]);
    eventually("it is there again", || {
        redis.ask(&["HGET", CFG, "version"]) == "5"
    });
    for field in ["version", "sha256"] {
        let _ = redis.ask(&["HSET", CFG, field, "nonsense"]);
        eventually("it can't be published", || {
            a.publish(&saying("three")).status == 503
        });
        assert_eq!(a.gateway.get("/").text(), "two");
        let _ = redis.ask(&["DEL", CFG]);
        eventually("it is there again", || {
            redis.ask(&["HGET", CFG, "version"]) == "5"
        });
    }
    assert_eq!(a.published(&saying("three")), 6);
}

#[test]
fn what_another_cluster_published_is_not_taken() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let a = node("gw-a", &redis.url(), "");
    a.live();
    a.published(&saying("one"));
    put(&redis, 2, &written(2, "other", &saying("two")));
    eventually("it is refused", || {
        let told = a.config()["refused"]["why"].to_string();
        told.contains("that of the cluster")
    });
    assert_eq!(a.gateway.get("/").text(), "one");
    // Nor is what was kept before a gateway was moved to another cluster.
    let state = a.state;
    assert_eq!(a.gateway.stop(), Some(0));
    let moved = builder("gw-a", &redis.url(), "name = \"moved\"", &state).start();
    assert_eq!(moved.get("/").text(), "own");
    moved.await_log("it is that of the cluster");
}

#[test]
fn what_was_kept_and_can_not_be_used_any_more_leaves_the_gateways_own_file() {
    let state = tempfile::tempdir().expect("directory");
    let alone = OWN.replace("redis = \"@redis@\"\n", "");
    let start = |secret: bool| {
        let builder = gateway(&alone)
            .env("TOKEN", TOKEN)
            .env("VIEWER", KEY)
            .token(TOKEN)
            .with("node", "gw-a")
            .with("more", "")
            .with("state", state.path().display());
        let name = if secret { "SECRET" } else { "NO_SECRET" };
        builder.env(name, "a-secret-of-thirty-two-characters").start()
    };
    let app = Backend::text("app");
    let shared = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"\n[upstreams.app]\nendpoints = [\"{}\"]\nsticky = {{ cookie = \"at\", keys = [\"env:SECRET\"] }}\n",
        app.address()
    );
    let with = start(true);
    let answer = with.admin_call("POST", "/api/v1/config/publish", "", &shared);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(with.get("/").text(), "app");
    assert_eq!(with.stop(), Some(0));
    let without = start(false);
    assert_eq!(without.get("/").text(), "own");
    let told = without.events("config.rejected");
    assert!(
        told[0]["reason"]
            .as_str()
            .expect("reason")
            .contains("no variable SECRET"),
        "{told:?}"
    );
    assert_eq!(without.stop(), Some(0));
    // Nothing is lost by that.
    let with = start(true);
    assert_eq!(with.get("/").text(), "app");
    assert_eq!(with.stop(), Some(0));
    std::fs::write(state.path().join("cluster_config"), "{\"version\":").expect("file");
    let damaged = start(true);
    assert_eq!(damaged.get("/").text(), "own");
    damaged.await_log("the gateway starts with its own file alone");
}
