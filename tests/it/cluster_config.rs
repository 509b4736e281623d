//! How a gateway is told of its cluster: URLs, passwords, TLS, variables, and what a reload changes of it.

use crate::cluster_kit::{CONFIG, await_bus, await_members, bus, cluster, node, serves, with};
use testkit::{Backend, Ca, Redis, eventually, redis};

/// Row 32 of the failure matrix: the password changes, and the gateway is told of the new one with a reload.
#[test]
fn another_password_is_taken_with_a_reload_and_another_name_is_refused() {
    if !redis::installed() {
        return;
    }
    let (mut redis, app) = (
        Redis::with(&["--requirepass", "one-one-one"]),
        Backend::text("app"),
    );
    let config = CONFIG.replace("@more@", "redis_password = \"file:password\"");
    let a = crate::gateway(&config)
        .with("node", "gw-a")
        .with("redis", redis.url())
        .with("app", app.address())
        .file("password", "one-one-one\n")
        .start();
    await_bus(&a, "live");
    redis.change_password("two-two-two");
    eventually("it is not let in any more", || {
        bus(&a) == ("down".to_owned(), "auth".to_owned())
    });
    std::fs::write(a.path("password"), "two-two-two\n").expect("password");
    a.reload(&config);
    await_bus(&a, "live");
    // What would make it another member is not changed under way.
    a.reload_refused(&config.replace("[cluster]", "[cluster]\nname = \"other\""));
    a.await_log("cluster.name");
    let alone = config.split("[cluster]").next().expect("a configuration");
    a.reload_refused(&format!("{alone}[cluster]\nnode = \"gw-a\"\n"));
    a.await_log("cluster.redis");
    assert_eq!(bus(&a).0, "live");
}

/// Over TLS, with an authority of one's own.
#[test]
fn a_redis_over_tls_has_to_show_a_certificate_that_is_trusted() {
    if !redis::installed() {
        return;
    }
    let app = Backend::text("app");
    let dir = tempfile::tempdir().expect("directory");
    let ca = Ca::new("cluster");
    let leaf = ca.leaf(&["127.0.0.1"]);
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("file");
        path.display().to_string()
    };
    let (cert, key, roots) = (
        file("cert.pem", &leaf.chain),
        file("key.pem", &leaf.key),
        file("ca.pem", ca.pem()),
    );
    let redis = Redis::with_tls(&cert, &key, &roots);
    let url = format!("rediss://127.0.0.1:{}", redis.tls_port());
    let trusting = with("gw-a", &url, &app, &format!("redis_tls = {{ ca = \"{roots}\" }}")).start();
    await_bus(&trusting, "live");
    let other = file("other.pem", Ca::new("other").pem());
    let doubting = with("gw-b", &url, &app, &format!("redis_tls = {{ ca = \"{other}\" }}")).start();
    eventually("it is not trusted", || {
        bus(&doubting) == ("down".to_owned(), "tls".to_owned())
    });
    serves(&doubting);
}

#[test]
fn what_is_wrong_with_a_url_is_said_before_the_start_and_without_the_password() {
    let app = Backend::text("app");
    let told = |url: &str| {
        let ran = node("gw-a", url, &app).try_start().expect_err(url);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        ran.stderr
    };
    for (url, says) in [
        ("localhost:6379", "redis://localhost:6379"),
        ("redis://user:hunter2@", "it names no host"),
        ("redis+sentinel://:hunter2@a,b", "which master"),
        ("env:NO_SUCH_VARIABLE", "no variable NO_SUCH_VARIABLE"),
    ] {
        let stderr = told(url);
        assert!(
            stderr.contains(says) && stderr.contains("cluster.redis"),
            "{stderr}"
        );
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
    let hasty = "heartbeat = \"2s\"\ngone_after = \"3s\"";
    let ran = with("gw-a", "redis://a", &app, hasty)
        .try_start()
        .expect_err("too short");
    assert!(ran.stderr.contains("twice the heartbeat"), "{}", ran.stderr);
}

#[test]
fn variables_that_systems_carry_already_make_it_a_member() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let plain = CONFIG.split("[cluster]").next().expect("a configuration");
    let a = crate::gateway(plain)
        .with("app", app.address())
        .env("REDIS_URL", &redis.url())
        .env("REDIS_KEY_PREFIX", "mine:")
        .env("NODE_ID", "from-env")
        .env("ROLE", "backup")
        .env("HEARTBEAT_INTERVAL", "100")
        .env("FAILURE_DETECTION_TIMEOUT", "400")
        .start();
    await_bus(&a, "live");
    await_members(&a, &["from-env"]);
    assert_eq!(cluster(&a)["members"][0]["role"], "backup");
    eventually("keys have the prefix", || {
        redis.ask(&["KEYS", "*"]).contains("mine:1:default:{c}mi")
    });
    let record = redis.ask(&["HGET", "mine:1:default:{c}mi", "from-env"]);
    assert_eq!(record.split(' ').nth(4), Some("400"), "{record}");
}

#[test]
fn variables_that_switch_clustering_off_leave_one_gateway_alone() {
    let app = Backend::text("app");
    // Nobody is there, and nobody is looked for.
    let redis = "redis://127.0.0.1:1";
    let mode = |variables: &[(&str, &str)]| {
        let mut builder = node("gw-a", redis, &app).env("CLUSTER_WORKERS", "3");
        for (name, value) in variables {
            builder = builder.env(name, value);
        }
        let gateway = builder.start();
        let stats = gateway.stats();
        let workers = stats["workers"].as_array().map_or(0, Vec::len);
        (stats["cluster"]["mode"] == true, workers)
    };
    assert_eq!(mode(&[]), (true, 3));
    assert_eq!(mode(&[("ENABLE_CLUSTERING", "true")]), (true, 3));
    assert_eq!(mode(&[("ENABLE_CLUSTERING", "false")]), (false, 3));
    assert_eq!(mode(&[("CLUSTER_MODE", "true")]), (true, 3));
    assert_eq!(mode(&[("CLUSTER_MODE", "false")]), (false, 1));
    assert_eq!(
        mode(&[("CLUSTER_MODE", "true"), ("ENABLE_CLUSTERING", "0")]),
        (false, 3)
    );
    for name in ["ENABLE_CLUSTERING", "CLUSTER_MODE"] {
        let ran = node("gw-a", redis, &app)
            .env(name, "perhaps")
            .try_start()
            .expect_err("no answer");
        assert!(
            ran.stderr.contains(name) && ran.stderr.contains("true or false"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn mistakes_in_the_cluster_are_told_with_what_to_write() {
    let app = Backend::text("app");
    for (keys, says) in [
        ("redis_url = \"redis://h\"", "there is `cluster.redis`"),
        ("node_id = \"a\"", "there is `cluster.node`"),
        ("peers = []", "find each other through `cluster.redis`"),
        ("redis = \"h:6379\"", "write \"redis://h:6379\""),
        ("redis = \"tls://h\"", "write rediss://HOST"),
        (
            "redis = \"sentinel://h/m\"",
            "write redis+sentinel://HOST,HOST/MASTER",
        ),
        ("redis = \"redis://:pa#ss@h\"", "%23"),
        ("redis = \"redis://h\"\nheartbeat = 30000", "\"30000ms\""),
        (
            "redis = \"redis://h\"\nheartbeat = \"2s\"\ngone_after = \"3s\"",
            "three heartbeats",
        ),
        (
            "redis = \"redis://h\"\nping = true",
            "key = \"env:TIDEGATE_CLUSTER_KEY\"",
        ),
    ] {
        let config = CONFIG.split("[cluster]").next().expect("a configuration");
        let ran = crate::gateway(&format!("{config}[cluster]\n{keys}\n"))
            .with("app", app.address())
            .try_start()
            .expect_err(keys);
        let told = &ran.stderr;
        assert!(ran.code == Some(2) && told.contains(says), "{keys}:\n{told}");
        assert!(
            told.contains("--> ") && !told.contains("pa#ss"),
            "{keys}:\n{told}"
        );
    }
}
