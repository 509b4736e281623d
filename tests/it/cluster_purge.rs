//! What a cluster that is no more leaves in its Redis, and how it is taken away.

use crate::binary;
use crate::cluster_kit::{await_bus, await_members, node, with};
use testkit::gateway::Sig;
use testkit::redis::{self, Redis};
use testkit::{Backend, Ran, eventually, run};

fn purge(name: &str, url: &str, more: &[&str]) -> Ran {
    let args = [&["cluster", "purge", name, "--redis", url][..], more].concat();
    run(&binary(), &args)
}

fn keys(redis: &Redis, pattern: &str) -> usize {
    let found = redis.ask(&["KEYS", pattern]);
    found.lines().filter(|line| !line.is_empty()).count()
}

#[test]
fn a_dead_cluster_is_taken_away_and_a_living_one_and_all_else_stays() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = with("gw-a", &redis.url(), &app, "name = \"old\"\nprefix = \"app\"").start();
    let other = with("gw-o", &redis.url(), &app, "name = \"older\"\nprefix = \"app\"").start();
    for gateway in [&a, &other] {
        await_bus(gateway, "live");
        eventually("events are there", || keys(&redis, "*ev") == 2);
        eventually("it has its ids", || {
            gateway.admin_get("/cluster/status").json()["nodeId"] != ""
        });
    }
    for n in 0..700 {
        let bucket = format!("app:1:old:{{c}}rl:{n:032x}");
        assert_eq!(redis.ask(&["SET", &bucket, "1", "PX", "600000"]), "OK");
    }
    assert_eq!(redis.ask(&["SET", "app:1:oldies", "mine"]), "OK");
    let yes = ["--prefix", "app", "--yes"];
    let refused = purge("old", &redis.url(), &yes).expect(1);
    assert!(
        refused.stderr.contains("gateways live in it: gw-a"),
        "{refused:?}"
    );
    let before = keys(&redis, "*");
    assert!(keys(&redis, "app:1:old:*") > 700);
    // One that stands still gives no sign of life, and would write everything again.
    a.signal(Sig::STOP);
    eventually("its record is old", || {
        let refused = purge("old", &redis.url(), &yes).expect(1);
        refused.stderr.contains("1 connections listen")
    });
    a.signal(Sig::CONT);
    await_members(&a, &["gw-a"]);
    a.signal(Sig::KILL);
    drop(a);
    eventually("it is gone", || {
        purge("old", &redis.url(), &yes[..2]).code == Some(0)
    });
    assert_eq!(keys(&redis, "*"), before, "nothing is taken without --yes");
    let found = purge("old", &redis.url(), &yes[..2]).expect(0).stdout;
    for told in ["700 limits", "1 members", "1 generation", "1 events", "--yes"] {
        assert!(found.contains(told), "{told:?} is not in {found}");
    }
    let removed = purge("old", &redis.url(), &yes).expect(0).stdout;
    assert!(
        removed.contains("removed 70") && removed.contains("700 limits"),
        "{removed}"
    );
    assert_eq!(keys(&redis, "app:1:old:*"), 0);
    assert_eq!(redis.ask(&["GET", "app:1:oldies"]), "mine");
    assert!(keys(&redis, "app:1:older:*") > 2, "another cluster is left alone");
    assert!(
        purge("old", &redis.url(), &yes)
            .expect(0)
            .stdout
            .contains("removed 0 keys")
    );
    await_bus(&other, "live");
    assert_eq!(other.metric("tidegate_bus_flushes_total", &[]), 0.0);
}

#[test]
fn the_user_of_a_gateway_may_do_it_and_one_who_may_not_is_told_why() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let rules = [
        "on",
        ">gate-gate-gate",
        "~tidegate:1:old:*",
        "&tidegate:1:old:*",
        "+@all",
        "-@dangerous",
        "-@admin",
    ];
    assert_eq!(
        redis.ask(&[&["ACL", "SETUSER", "gate"][..], &rules].concat()),
        "OK"
    );
    assert_eq!(
        redis.ask(&[
            "ACL",
            "SETUSER",
            "weak",
            "on",
            ">weak-weak",
            "~*",
            "+hello",
            "+client"
        ]),
        "OK"
    );
    assert_eq!(
        redis.ask(&["HSET", "tidegate:1:old:{c}mi", "gw-a", "1 9 1000 0 3000 {}"]),
        "1"
    );
    assert_eq!(redis.ask(&["SET", "tidegate:1:new:{c}gen", "x"]), "OK");
    let url = |login: &str| redis.url().replace("://", &format!("://{login}@"));
    let weak = purge("old", &url("weak:weak-weak"), &["--yes"]).expect(1);
    assert!(
        weak.stderr.contains("permission") && !weak.stderr.contains("weak-weak"),
        "{weak:?}"
    );
    let wrong = purge("old", &url("gate:wrong"), &[]).expect(1);
    assert!(wrong.stderr.contains("auth"), "{wrong:?}");
    // With what the configuration says of the Redis.
    let config = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[cluster]\nname = \"else\"\nredis = \"{}\"\nredis_user = \"gate\"\nredis_password = \"file:secret\"\n",
        redis.url()
    );
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("secret"), "gate-gate-gate\n").expect("secret");
    let path = directory.path().join("gate.toml");
    std::fs::write(&path, config).expect("configuration");
    let path = path.display().to_string();
    let ran = run(&binary(), &["cluster", "purge", "old", "--yes", "-c", &path]).expect(0);
    assert!(ran.stdout.contains("removed 1 keys"), "{ran:?}");
    assert_eq!(redis.ask(&["KEYS", "*"]), "tidegate:1:new:{c}gen");
}

#[test]
fn every_master_of_a_redis_cluster_is_looked_at() {
    if !redis::installed() {
        return;
    }
    let args = ["--cluster-enabled", "yes"];
    let masters = [Redis::with(&args), Redis::with(&args)];
    for (master, (from, to)) in masters.iter().zip([("0", "9999"), ("10000", "16383")]) {
        assert_eq!(master.ask(&["CLUSTER", "ADDSLOTSRANGE", from, to]), "OK");
    }
    let first = masters[0].port().to_string();
    assert_eq!(masters[1].ask(&["CLUSTER", "MEET", "127.0.0.1", &first]), "OK");
    eventually("all are well", || {
        masters
            .iter()
            .all(|redis| redis.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    });
    let app = Backend::text("app");
    let url = format!("redis+cluster://127.0.0.1:{}", masters[1].port());
    let a = node("gw-a", &url, &app).start();
    await_bus(&a, "live");
    // One of a later version, that the other master has.
    let mut names = (0..).map(|n| format!("tidegate:1:default:{{p{n}}}x"));
    let theirs = names.find(|name| {
        let slot: u32 = masters[1]
            .ask(&["CLUSTER", "KEYSLOT", name])
            .parse()
            .expect("a slot");
        slot >= 10_000
    });
    assert_eq!(masters[1].ask(&["SET", &theirs.expect("a name"), "1"]), "OK");
    assert!(
        purge("default", &url, &["--yes"])
            .expect(1)
            .stderr
            .contains("gw-a")
    );
    assert_eq!(a.stop(), Some(0));
    let removed = purge("default", &url, &["--yes"]).expect(0).stdout;
    assert!(
        removed.contains("1 others") && removed.contains("1 members"),
        "{removed}"
    );
    for redis in &masters {
        assert_eq!(keys(redis, "*"), 0);
    }
}

#[test]
fn behind_sentinels_the_master_is_asked() {
    if !redis::installed() {
        return;
    }
    let master = Redis::start();
    let sentinel = master.sentinel(1, std::time::Duration::from_secs(5));
    assert_eq!(master.ask(&["SET", "tidegate:1:old:{c}gen", "x"]), "OK");
    let url = format!("redis+sentinel://127.0.0.1:{}/prod", sentinel.port());
    assert!(purge("old", &url, &[]).expect(0).stdout.contains("1 generation"));
    assert!(
        purge("old", &url, &["--yes"])
            .expect(0)
            .stdout
            .contains("removed 1 keys")
    );
    assert_eq!(keys(&master, "*"), 0);
}

#[test]
fn names_and_urls_that_are_none_are_refused() {
    for (name, url, code) in [
        ("a*", "redis://127.0.0.1:1", 2),
        ("{c}", "redis://127.0.0.1:1", 2),
        ("old", "127.0.0.1", 2),
        ("old", "env:NO_SUCH_VARIABLE", 1),
        ("old", "redis://127.0.0.1:1", 1),
    ] {
        let ran = purge(name, url, &["--yes"]).expect(code);
        assert!(!ran.stderr.trim().is_empty(), "{name} {url}");
    }
}
