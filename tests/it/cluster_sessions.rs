//! Clients who come to another gateway than before, and endpoints that no gateway checks: TLS sessions that are resumed
//! elsewhere, and the majority's word where a gateway knows nothing itself.

use crate::gateway;
use serde_json::json;
use testkit::redis::{self, Redis};
use testkit::{Backend, Ca, Gateway, Leaf, TlsClient, eventually, eventually_some};

const KEY: &str = "0123456789abcdef0123456789abcdef";

const TLS: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[listeners.web.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@app@"]
[cluster]
redis = "@redis@"
node = "@node@"
key = "env:CLUSTER_KEY"
[admin]
address = "127.0.0.1:0"
"#;

fn node(name: &str, redis: &Redis, app: &Backend, leaf: &Leaf, key: &str) -> Gateway {
    gateway(TLS)
        .env("CLUSTER_KEY", key)
        .with("app", app.address())
        .with("redis", redis.url())
        .with("node", name)
        .file("a.pem", &leaf.chain)
        .file("a.key", &leaf.key)
        .start()
}

/// Makes a connection, asks once, so that a ticket is there, and says whether it was resumed.
fn visit(client: &TlsClient, gateway: &Gateway) -> bool {
    let mut conn = client.connect(gateway.web(), "a.test");
    conn.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(conn.response().status, 200);
    conn.agreed().resumed
}

fn has_the_clusters_keys(gateway: &Gateway) {
    eventually("the cluster's keys are in use", || {
        !gateway.events("keys.tickets").is_empty()
    });
}

#[test]
fn a_tls_session_begun_on_one_gateway_is_resumed_on_another_and_not_on_a_stranger() {
    if !redis::installed() {
        return;
    }
    let (redis, ca, backend) = (Redis::start(), Ca::default(), Backend::text("hi"));
    let leaf = ca.leaf(&["a.test"]);
    let one = node("gw-1", &redis, &backend, &leaf, KEY);
    has_the_clusters_keys(&one);
    let client = TlsClient::trusting(&ca).build();
    assert!(!visit(&client, &one));
    let two = node("gw-2", &redis, &backend, &leaf, KEY);
    has_the_clusters_keys(&two);
    assert!(visit(&client, &two), "resumed on a gateway that it never was at");
    assert!(visit(&client, &one), "and on the first with what the second gave");
    let stored = redis.ask(&["KEYS", "*"]);
    assert!(!stored.is_empty());
    let stranger = node("gw-3", &redis, &backend, &leaf, &KEY.replace('0', "f"));
    eventually("it says that it can't open them, or hears nothing", || {
        !stranger.events("keys.unreadable").is_empty()
    });
    assert!(!visit(&client, &stranger), "another key opens nothing");
}

const UNCHECKED: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@a@", "@b@"]
outlier = { consecutive_failures = 1, eject = "1m", max_eject = "1m" }
[cluster]
redis = "@redis@"
node = "@node@"
[admin]
address = "127.0.0.1:0"
"#;

#[test]
fn what_most_gateways_find_down_is_avoided_where_nothing_is_known_of_it() {
    if !redis::installed() {
        return;
    }
    let (redis, a, b) = (Redis::start(), Backend::text("a"), Backend::text("b"));
    let start = |name: &str| {
        gateway(UNCHECKED)
            .with("a", a.address())
            .with("b", b.address())
            .with("redis", redis.url())
            .with("node", name)
            .start()
    };
    let nodes = ["gw-1", "gw-2", "gw-3"].map(start);
    for node in &nodes {
        eventually("all are there", || {
            node.stats()["cluster"]["members"]
                .as_array()
                .is_some_and(|members| members.len() == 3)
        });
    }
    a.down();
    let state = |node: &Gateway| node.endpoint(&a.address())["state"].clone();
    let [one, two, three] = &nodes;
    eventually("the first finds it", || {
        one.get("/").status == 200 && state(one) == "ejected"
    });
    assert_eq!(state(three), json!("active"), "one voice is not enough");
    eventually("the second finds it", || {
        two.get("/").status == 200 && state(two) == "ejected"
    });
    eventually("the third believes them", || state(three) == "ejected");
    let why = eventually_some("it says why", || three.events("endpoint.ejected").pop());
    assert_eq!(why["data"]["trigger"], "cluster", "{why}");
    assert!((0..4).all(|_| three.get("/").text() == "b"));
    let told = one.admin_get("/api/v1/clustering/verdicts").json();
    let down = told["verdicts"][0]["down"].as_array().expect("votes").len();
    assert_eq!(down, 2, "who believes others has no vote of its own: {told}");
}
