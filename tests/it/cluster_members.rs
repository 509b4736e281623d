//! Who is there: gateways find each other over a real Redis, and find out who went.

use crate::cluster_kit::{await_bus, await_members, bus, cluster, events_about, node, serves, with};
use std::time::Duration;
use testkit::gateway::Sig;
use testkit::{Backend, Gateway, Redis, eventually, eventually_some, holds_for, redis};

#[test]
fn gateways_that_share_a_redis_see_each_other_join_and_leave_once() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = node("gw-a", &redis.url(), &app).start();
    await_bus(&a, "live");
    await_members(&a, &["gw-a"]);
    let b = with(
        "gw-b",
        &redis.url(),
        &app,
        "labels = { role = \"backup\", region = \"r1\", zone = \"z1\" }",
    )
    .start();
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    let seen = cluster(&a);
    let b_seen = seen["members"]
        .as_array()
        .expect("members")
        .iter()
        .find(|m| m["node"] == "gw-b");
    let b_seen = b_seen.expect("gw-b");
    assert_eq!(
        (&b_seen["role"], &b_seen["region"], &b_seen["zone"]),
        (&"backup".into(), &"r1".into(), &"z1".into()),
        "{b_seen}"
    );
    assert_eq!(b_seen["voting"], true, "{b_seen}");

    // It says that it goes: nobody waits for it to be missed.
    assert_eq!(b.stop(), Some(0));
    let left = await_members(&a, &["gw-a"]);
    assert!(left < Duration::from_millis(2500), "{left:?}");
    assert_eq!(events_about(&a, "cluster.joined", "gw-b"), 1);
    assert_eq!(events_about(&a, "cluster.left", "gw-b"), 1);
    assert_eq!(events_about(&a, "cluster.gone", "gw-b"), 0);
    // Its record does not bring it back.
    holds_for(Duration::from_millis(1500), "gw-b stays away", || {
        events_about(&a, "cluster.joined", "gw-b") == 1
    });
}

/// Row 13 of the failure matrix.
#[test]
fn a_gateway_that_is_killed_is_missed_after_its_time() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = node("gw-a", &redis.url(), &app).start();
    let b = node("gw-b", &redis.url(), &app).start();
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    b.signal(Sig::KILL);
    let gone = await_members(&a, &["gw-a"]);
    assert!(
        gone > Duration::from_millis(1500),
        "it had no time to be late: {gone:?}"
    );
    assert!(gone < Duration::from_secs(6), "{gone:?}");
    let events = a.events("cluster.gone");
    assert_eq!(events.len(), 1, "{events:?}");
    let silent = events[0]["data"]["silent_ms"].as_u64().expect("silent_ms");
    assert!((3000..9000).contains(&silent), "{silent}");
    assert_eq!(events_about(&a, "cluster.suspected", "gw-b"), 1);
    serves(&a);
    drop(b);
}

/// Row 15: a gateway that stands still for longer than it may.
#[test]
fn one_that_stood_still_comes_back_as_itself() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let quick = "heartbeat = \"200ms\"\ngone_after = \"800ms\"";
    let a = with("gw-a", &redis.url(), &app, quick).start();
    let b = with("gw-b", &redis.url(), &app, quick).start();
    await_members(&a, &["gw-a", "gw-b"]);
    b.signal(Sig::STOP);
    await_members(&a, &["gw-a"]);
    holds_for(Duration::from_millis(500), "it stands still", || {
        cluster(&a)["nodes"] == 1
    });
    b.signal(Sig::CONT);
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    // It knows that it was away, and took nobody else for gone.
    eventually("it says so", || !b.events("cluster.woke").is_empty());
    assert_eq!(events_about(&b, "cluster.gone", "gw-a"), 0);
    assert_eq!(events_about(&a, "cluster.joined", "gw-b"), 2);
    serves(&b);
}

/// Row 24.
#[test]
fn the_second_gateway_of_an_id_is_known_by_another_until_the_id_is_free() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let first = node("gw", &redis.url(), &app).start();
    await_bus(&first, "live");
    await_members(&first, &["gw"]);
    let second = node("gw", &redis.url(), &app).start();
    eventually("both are there", || cluster(&first)["nodes"] == 2);
    let name = cluster(&second)["node"].as_str().expect("node").to_owned();
    assert!(name.starts_with("gw~"), "{name}");
    assert_eq!(second.events("cluster.duplicate").len(), 1);
    assert_eq!(first.events("cluster.duplicate").len(), 0);
    assert_eq!(cluster(&first)["node"], "gw");
    serves(&second);
    // The first dies without a word.
    first.signal(Sig::KILL);
    eventually("the id is free", || cluster(&second)["node"] == "gw");
    await_members(&second, &["gw"]);
    assert_eq!(second.events("cluster.id_regained").len(), 1);
    drop(first);

    let strict = with("gw", &redis.url(), &app, "duplicate = \"refuse\"").start();
    eventually("it says why it stays out", || {
        !strict.events("cluster.duplicate").is_empty()
    });
    assert_eq!(cluster(&strict)["duplicate"], true);
    holds_for(Duration::from_millis(1200), "it stays out", || {
        cluster(&second)["nodes"] == 1
    });
    serves(&strict);
}

#[test]
fn clusters_of_different_names_share_a_redis_and_see_nothing_of_each_other() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = with("gw-a", &redis.url(), &app, "name = \"one\"").start();
    let b = with("gw-b", &redis.url(), &app, "name = \"two\"").start();
    await_bus(&a, "live");
    await_bus(&b, "live");
    holds_for(Duration::from_millis(1500), "they are apart", || {
        cluster(&a)["nodes"] == 1 && cluster(&b)["nodes"] == 1
    });
    let keys = redis.ask(&["KEYS", "*"]);
    for key in keys.lines() {
        assert!(
            key.starts_with("tidegate:1:one:{c}") || key.starts_with("tidegate:1:two:{c}"),
            "{key}"
        );
    }
}

#[test]
fn without_a_redis_it_is_a_cluster_of_one_with_the_same_answers() {
    let app = Backend::text("app");
    let gateway = crate::gateway(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"\n[upstreams.app]\nendpoints = [\"@app@\"]\n",
    )
    .with("app", app.address())
    .start();
    eventually("it knows itself", || cluster(&gateway)["fresh"] == true);
    assert_eq!(bus(&gateway), ("embedded".to_owned(), String::new()));
    let status = gateway.admin_get("/cluster/status").json();
    assert_eq!(status["clusterSize"], 1, "{status}");
    assert_eq!(status["status"], "healthy", "{status}");
    assert!(
        status["serverId"].is_string() && status["uptime"].is_u64() && status["connections"].is_u64(),
        "{status}"
    );
    let metrics = gateway.admin_get("/cluster/metrics").json();
    assert_eq!(metrics["totalServers"], 1, "{metrics}");
    assert_eq!(metrics["recommendedAction"], "maintain", "{metrics}");
    let overview = gateway.admin_get("/api/v1/clustering/overview").json();
    assert_eq!(
        (&overview["total_nodes"], &overview["active_nodes"]),
        (&2.into(), &2.into()),
        "{overview}"
    );
    assert!(
        overview["performance_gain"].is_null() && overview["last_failover"].is_null(),
        "{overview}"
    );
    assert_eq!(overview["failover_events"], 0, "{overview}");
    let nodes = gateway.admin_get("/api/v1/clustering/nodes").json();
    let kinds: Vec<&str> = nodes["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter_map(|n| n["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["endpoint", "gateway"], "{nodes}");
    assert_eq!(gateway.metric("tidegate_bus_state", &[]), 0.0);
    let ready = gateway.admin_get("/readyz").json();
    assert_eq!(
        (&ready["cluster"]["bus"], &ready["cluster"]["nodes"]),
        (&"embedded".into(), &1.into()),
        "{ready}"
    );
}

/// The parts of an id in the form of other systems.
fn parts(id: &str, kind: &str) -> Option<Vec<String>> {
    let parts: Vec<String> = id.split('-').map(str::to_owned).collect();
    (parts.len() == 4 && parts[0] == kind).then_some(parts)
}

#[test]
fn the_cluster_and_its_gateways_have_ids_in_the_form_of_other_systems_which_stay() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = (
        node("gw-a", &redis.url(), &app).start(),
        node("gw-b", &redis.url(), &app).start(),
    );
    let ids = |gateway: &Gateway| {
        eventually_some("it has ids", || {
            let status = gateway.admin_get("/cluster/status").json();
            let cluster = parts(status["clusterId"].as_str()?, "cluster")?;
            let node = parts(status["nodeId"].as_str()?, "node")?;
            (node[1] == cluster[3]).then_some((cluster, node))
        })
    };
    for gateway in [&a, &b] {
        await_members(gateway, &["gw-a", "gw-b"]);
    }
    let ((cluster, of_a), (same, of_b)) = (ids(&a), ids(&b));
    assert_eq!(cluster, same);
    assert!(
        cluster[2].parse::<u64>().is_ok_and(|at| at > 1_700_000_000),
        "{cluster:?}"
    );
    assert_ne!(of_a[2], of_b[2], "each has a number of its own");
    eventually("each knows the other's", || {
        let nodes = a.admin_get("/api/v1/clustering/nodes").json();
        let nodes = nodes["nodes"].as_array().expect("nodes").clone();
        let other = nodes.iter().find(|node| node["node_id"] == "gw-b");
        other.is_some_and(|other| other["id"] == of_b.join("-").as_str())
    });
    // They are kept, and brought back to a Redis that lost them.
    let kept = |gateway: &Gateway| {
        let path = gateway.dir().join("state/cluster_identity");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    for gateway in [&a, &b] {
        eventually("it is kept", || kept(gateway).contains(&cluster.join("-")));
    }
    let state = tempfile::tempdir().expect("directory");
    std::fs::write(state.path().join("cluster_identity"), kept(&a)).expect("written");
    assert_eq!((a.stop(), b.stop()), (Some(0), Some(0)));
    let _gone = redis.ask(&["FLUSHALL"]);
    let again = node("gw-a", &redis.url(), &app)
        .env("TIDEGATE_RUNTIME__STATE_DIR", &state.path().display().to_string())
        .start();
    assert_eq!(ids(&again), (cluster.clone(), of_a));
    let late = node("gw-c", &redis.url(), &app).start();
    assert_eq!(ids(&late).0, cluster);
}
