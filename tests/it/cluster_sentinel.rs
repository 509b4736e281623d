//! A Redis behind sentinels, and a Redis Cluster: the gateway finds the master, follows it, and leaves one that is no
//! master any more.

use crate::cluster_kit::{await_bus, await_members, bus, cluster, node, serves, with};
use std::time::Duration;
use testkit::redis::Place;
use testkit::{Backend, Load, Redis, eventually, eventually_some, holds_for, redis};

/// A master with a replica and three sentinels.
pub struct Guarded {
    pub master: Redis,
    pub replica: Redis,
    pub sentinels: Vec<Redis>,
}

impl Guarded {
    pub fn start() -> Self {
        let master = Redis::start();
        let replica = master.replica();
        Self::by(master, replica, &Place::default())
    }

    /// With sentinels at this place.
    pub fn by(master: Redis, replica: Redis, sentinels: &Place) -> Self {
        let sentinels: Vec<Redis> = (0..3)
            .map(|_| master.sentinel_at(sentinels.clone(), 2, Duration::from_millis(500)))
            .collect();
        let guarded = Self {
            master,
            replica,
            sentinels,
        };
        eventually("the sentinels know each other and the replica", || {
            guarded.sentinels.iter().all(|sentinel| {
                let told = sentinel
                    .try_ask(&["SENTINEL", "MASTER", "prod"])
                    .unwrap_or_default();
                let lines: Vec<&str> = told.lines().collect();
                let of = |name: &str| {
                    let at = lines.iter().position(|line| *line == name);
                    at.and_then(|at| lines.get(at + 1)).copied().unwrap_or("0")
                };
                of("num-slaves") == "1" && of("num-other-sentinels") == "2"
            })
        });
        eventually("the replica follows", || {
            guarded
                .replica
                .ask(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        guarded
    }

    pub fn url(&self) -> String {
        let all: Vec<String> = self.sentinels.iter().map(|s| s.address().to_string()).collect();
        format!("redis+sentinel://{}/prod", all.join(","))
    }

    /// Whether a server is a replica. One that is made one ends its connections, also that which asks.
    pub fn follows(redis: &Redis) -> bool {
        let told = redis.try_ask(&["INFO", "replication"]);
        told.is_some_and(|told| told.contains("role:slave"))
    }

    pub fn server(gateway: &testkit::Gateway) -> String {
        cluster(gateway)["bus"]["server"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Row 6: kill -9 of the master.
#[test]
fn the_gateway_follows_a_fail_over_to_the_new_master() {
    if !redis::installed() {
        return;
    }
    let (mut redis, app) = (Guarded::start(), Backend::text("app"));
    let a = node("gw-a", &redis.url(), &app).start();
    let b = node("gw-b", &redis.url(), &app).start();
    await_members(&a, &["gw-a", "gw-b"]);
    await_bus(&a, "live");
    assert!(Guarded::server(&a).ends_with(&redis.master.port().to_string()));
    let load = Load::get(a.web(), 2, "/");
    redis.master.kill();
    await_bus(&a, "down");
    eventually("the new master is used", || {
        bus(&a).0 == "live" && Guarded::server(&a).ends_with(&redis.replica.port().to_string())
    });
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    assert_eq!(a.events("cluster.gone").len() + b.events("cluster.gone").len(), 0);
    load.stop().expect_flawless();
}

/// Row 7: the master stands still, another takes its place, and it comes back believing that it is the master.
#[test]
fn no_gateway_stays_with_a_master_that_was_replaced() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Guarded::start(), Backend::text("app"));
    let a = node("gw-a", &redis.url(), &app).start();
    await_bus(&a, "live");
    redis.master.pause();
    let new = redis.replica.port().to_string();
    eventually("the new master is used", || {
        bus(&a).0 == "live" && Guarded::server(&a).ends_with(&new)
    });
    redis.master.resume();
    holds_for(Duration::from_secs(2), "it stays with the new one", || {
        Guarded::server(&a).ends_with(&new)
    });
    eventually("the old one is demoted", || Guarded::follows(&redis.master));
    // Told to go to it directly, the gateway does not take a replica for a master.
    let direct = node("gw-b", &redis.master.url(), &app).start();
    eventually("a replica is refused", || {
        bus(&direct) == ("down".to_owned(), "read_only".to_owned())
    });
    serves(&direct);
}

#[test]
fn sentinels_that_know_no_such_master_are_told() {
    if !redis::installed() {
        return;
    }
    let (master, app) = (Redis::start(), Backend::text("app"));
    let sentinel = master.sentinel(1, Duration::from_secs(5));
    let a = node(
        "gw-a",
        &format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port()),
        &app,
    )
    .start();
    eventually("it is told", || {
        bus(&a) == ("down".to_owned(), "no_master".to_owned())
    });
    let b = node(
        "gw-b",
        &format!("redis+sentinel://127.0.0.1:{}/prod", master.port()),
        &app,
    )
    .start();
    eventually("a server is no sentinel", || {
        bus(&b) == ("down".to_owned(), "not_redis".to_owned())
    });
}

/// A Redis Cluster of one node with all slots.
fn one_node_cluster() -> Redis {
    let redis = Redis::with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-require-full-coverage",
        "no",
    ]);
    assert_eq!(redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    eventually("the cluster is well", || {
        redis.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    redis
}

/// The slot of `{c}`.
const SLOT: &str = "7365";

/// Three masters, of which the first serves our slot and has a replica.
struct Cluster {
    masters: Vec<Redis>,
    replica: Redis,
}

impl Cluster {
    fn start() -> Self {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let masters: Vec<Redis> = (0..3).map(|_| Redis::with(&args)).collect();
        let replica = Redis::with(&args);
        for (master, (from, to)) in
            masters
                .iter()
                .zip([("0", "9999"), ("10000", "12999"), ("13000", "16383")])
        {
            assert_eq!(master.ask(&["CLUSTER", "ADDSLOTSRANGE", from, to]), "OK");
        }
        let first = masters[0].port().to_string();
        for other in masters[1..].iter().chain([&replica]) {
            assert_eq!(other.ask(&["CLUSTER", "MEET", "127.0.0.1", &first]), "OK");
        }
        let id = masters[0].ask(&["CLUSTER", "MYID"]);
        eventually("the replica follows", || {
            replica.ask(&["CLUSTER", "REPLICATE", &id]) == "OK"
        });
        let cluster = Self { masters, replica };
        eventually("all are well", || {
            let well = |redis: &Redis| redis.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            cluster.masters.iter().all(well)
                && well(&cluster.replica)
                && cluster
                    .replica
                    .ask(&["INFO", "replication"])
                    .contains("master_link_status:up")
        });
        cluster
    }
}

/// Row 33: the master of our slot dies, and its replica takes its place.
#[test]
fn in_a_redis_cluster_the_gateway_follows_the_slot_of_its_keys() {
    if !redis::installed() {
        return;
    }
    let (mut redis, app) = (Cluster::start(), Backend::text("app"));
    let url = format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        redis.masters[1].port(),
        redis.masters[2].port()
    );
    let a = node("gw-a", &url, &app).start();
    let b = node("gw-b", &url, &app).start();
    await_bus(&a, "live");
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    assert!(Guarded::server(&a).ends_with(&redis.masters[0].port().to_string()));
    let load = Load::get(a.web(), 2, "/");
    redis.masters[0].kill();
    await_bus(&a, "down");
    let new = redis.replica.port().to_string();
    eventually("the replica is used", || {
        bus(&a).0 == "live" && Guarded::server(&a).ends_with(&new)
    });
    await_members(&a, &["gw-a", "gw-b"]);
    assert_eq!(a.events("cluster.gone").len() + b.events("cluster.gone").len(), 0);
    load.stop().expect_flawless();
}

/// Row 33: the slot of our keys goes, and comes back.
#[test]
fn a_slot_that_nobody_serves_is_told_and_waited_for() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (one_node_cluster(), Backend::text("app"));
    assert_eq!(redis.ask(&["CLUSTER", "KEYSLOT", "{c}x"]), SLOT);
    let url = redis.url().replace("redis://", "redis+cluster://");
    let a = node("gw-a", &url, &app).start();
    let b = node("gw-b", &url, &app).start();
    await_bus(&a, "live");
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    assert_eq!(redis.ask(&["CLUSTER", "DELSLOTS", SLOT]), "OK");
    eventually("it is told", || {
        bus(&a) == ("down".to_owned(), "cluster_down".to_owned())
    });
    serves(&a);
    assert_eq!(redis.ask(&["CLUSTER", "ADDSLOTS", SLOT]), "OK");
    await_bus(&a, "live");
    await_members(&a, &["gw-a", "gw-b"]);
    let c = with("gw-c", &redis.url(), &app, "").start();
    let three = eventually_some("a plain URL works too", || {
        (cluster(&c)["nodes"] == 3).then(|| cluster(&c))
    });
    assert_eq!(three["fresh"], true);
}
