//! What scripts and dashboards of other systems ask a gateway among others, key by key and type by type: alone, with a
//! Redis, and while that is away.

use crate::cluster_kit::{await_bus, await_members};
use crate::gateway;
use serde_json::{Value, json};
use testkit::redis::{self, Redis};
use testkit::{Backend, Gateway, Response, eventually};

const ADMIN: &str = "admin-admin-admin-admin";
const OPERATOR: &str = "operator-operator-operator";
const VIEWER: &str = "viewer-viewer-viewer-viewer";

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@app@", "127.0.0.1:1"]
health = { path = "/", interval = "100ms", fall = 1, rise = 1 }
[upstreams.other]
endpoints = ["@app@"]
[cluster]
@redis@
node = "@node@"
[runtime]
workers = 1
[admin]
address = "127.0.0.1:0"
tokens = [
  { name = "ann", role = "admin", token = "env:ADMIN" },
  { name = "ben", role = "operator", token = "env:OPERATOR" },
  { name = "eve", role = "viewer", token = "env:VIEWER" },
]
"#;

fn started(name: &str, redis: &str, app: &Backend) -> Gateway {
    let gateway = gateway(CONFIG)
        .env("ADMIN", ADMIN)
        .env("OPERATOR", OPERATOR)
        .env("VIEWER", VIEWER)
        .token(ADMIN)
        .with("redis", redis)
        .with("node", name)
        .with("app", app.address())
        .start();
    eventually("one endpoint is found down", || {
        get(&gateway, "/api/v1/clustering/overview")["active_nodes"].as_u64() >= Some(2)
    });
    gateway
}

fn get(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.admin_get(path);
    assert_eq!(answer.status, 200, "{path}: {answer}");
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{path}: {answer}");
    answer.json()
}

/// The type of each of these keys, as JSON names them.
fn types(value: &Value, keys: &[&str]) -> Vec<&'static str> {
    let kind = |key: &&str| match value.get(key) {
        None => "absent",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(number)) if number.is_u64() => "integer",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    };
    keys.iter().map(kind).collect()
}

/// What is answered however the bus is.
#[track_caller]
fn keeps_the_contract(gateway: &Gateway, nodes: u64) {
    let status = get(gateway, "/cluster/status");
    let keys = ["serverId", "status", "connections", "uptime", "clusterSize"];
    assert_eq!(
        types(&status, &keys),
        ["string", "string", "integer", "integer", "integer"],
        "{status}"
    );
    assert_eq!(
        (&status["clusterSize"], &status["status"]),
        (&json!(nodes), &json!("healthy")),
        "{status}"
    );
    let metrics = get(gateway, "/cluster/metrics");
    let keys = [
        "totalServers",
        "totalConnections",
        "recommendedAction",
        "timestamp",
    ];
    assert_eq!(
        types(&metrics, &keys),
        ["integer", "integer", "string", "string"],
        "{metrics}"
    );
    let load = metrics["averageLoad"].as_f64();
    assert!(load.is_some_and(|load| (0.0..=1.0).contains(&load)), "{metrics}");
    assert_eq!(metrics["totalServers"], nodes, "{metrics}");
    // To the millisecond at most: more is none that every reader of dates takes.
    let at = metrics["timestamp"].as_str().unwrap_or_default();
    assert!(
        at.ends_with('Z') && at.len() <= "2026-11-21T18:14:02.071Z".len(),
        "{at}"
    );
    let overview = get(gateway, "/api/v1/clustering/overview");
    let keys = [
        "total_nodes",
        "active_nodes",
        "performance_gain",
        "failover_events",
    ];
    assert_eq!(
        types(&overview, &keys),
        ["integer", "integer", "null", "integer"],
        "{overview}"
    );
    assert!(overview["cluster_load"].is_number(), "{overview}");
    let last = &overview["last_failover"];
    assert!(
        last.is_null() || last.as_str().is_some_and(|at| at.ends_with('Z')),
        "{overview}"
    );
    // Gateways, and endpoints by their address.
    assert_eq!(overview["total_nodes"], nodes + 2, "{overview}");
    let health = get(gateway, "/health");
    assert_eq!(
        types(&health["cluster"], &["mode", "workers", "active", "memory"]),
        ["boolean", "integer", "integer", "object"],
        "{health}"
    );
    let page = get(gateway, "/api/v1/clustering/nodes");
    let shown = page["nodes"].as_array().expect("nodes");
    assert_eq!(shown.len() as u64, nodes + 3, "{page}");
    for node in shown {
        assert_eq!(
            types(node, &["node_id", "kind", "state"]),
            ["string"; 3],
            "{node}"
        );
    }
}

#[test]
fn the_seeds_endpoints_answer_alike_alone_among_others_and_without_the_redis() {
    let app = Backend::text("app");
    let alone = started("gw-1", "", &app);
    keeps_the_contract(&alone, 1);
    assert_eq!(get(&alone, "/cluster/status")["serverId"], "gw-1");
    if !redis::installed() {
        return;
    }
    let mut redis = Redis::start();
    let line = format!("redis = \"{}\"", redis.url());
    let (a, b) = (started("gw-a", &line, &app), started("gw-b", &line, &app));
    for gateway in [&a, &b] {
        await_bus(gateway, "live");
        await_members(gateway, &["gw-a", "gw-b"]);
        keeps_the_contract(gateway, 2);
    }
    let before = get(&a, "/cluster/status")["uptime"].as_u64();
    redis.kill();
    await_bus(&a, "down");
    // The last that was known.
    keeps_the_contract(&a, 2);
    let after = get(&a, "/cluster/status");
    assert!(after["uptime"].as_u64() > before, "{after}");
    assert_eq!(after["bus"]["condition"], "down");
    let hint = after["bus"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("cluster.redis"), "{after}");
    // A gateway that starts without it answers too.
    let late = started("gw-c", &line, &app);
    keeps_the_contract(&late, 1);
}

fn asked(gateway: &Gateway, method: &str, path: &str, token: &str, body: &str) -> Response {
    let headers = match token {
        "" => "X-Nobody: 1\r\n".to_owned(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    gateway.admin_call(method, path, &headers, body)
}

#[test]
fn who_may_ask_and_how_is_as_the_table_says() {
    let app = Backend::text("app");
    let gateway = gateway(CONFIG)
        .env("ADMIN", ADMIN)
        .env("OPERATOR", OPERATOR)
        .env("VIEWER", VIEWER)
        .with("redis", "")
        .with("node", "gw-1")
        .with("app", app.address())
        .start();
    for path in [
        "/cluster/status",
        "/cluster/metrics",
        "/api/v1/clustering/overview",
        "/api/v1/clustering/nodes",
        "/api/v1/services",
        "/api/v1/overrides",
        "/api/v1/events",
        "/api/v1/config/versions",
    ] {
        assert_eq!(asked(&gateway, "GET", path, "", "").status, 401, "{path}");
        assert_eq!(asked(&gateway, "GET", path, "wrong", "").status, 401, "{path}");
        assert_eq!(asked(&gateway, "GET", path, VIEWER, "").status, 200, "{path}");
        assert_eq!(asked(&gateway, "HEAD", path, VIEWER, "").status, 200, "{path}");
        let wrong = asked(&gateway, "PATCH", path, ADMIN, "");
        assert_eq!(wrong.status, 405, "{path}: {wrong}");
        assert!(
            wrong.header("allow").is_some_and(|allow| allow.contains("GET")),
            "{wrong}"
        );
        let error = &wrong.json()["error"];
        assert_eq!(
            types(error, &["code", "message", "hint", "request_id"]),
            ["string"; 4],
            "{error}"
        );
        assert_eq!(error["code"], "method_not_allowed");
    }
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(asked(&gateway, "GET", path, "", "").status, 200, "{path}");
    }
    let scale = r#"{"action":"scale_up","targetInstances":4,"reason":"busy"}"#;
    let maintenance = r#"{"enabled":true}"#;
    let node = "/api/v1/clustering/nodes/127.0.0.1:1/maintenance";
    for (method, path, body, least) in [
        ("POST", "/cluster/scale", scale, ADMIN),
        ("DELETE", "/api/v1/clustering/nodes/gw-9", "", ADMIN),
        ("POST", "/api/v1/config/publish", "x", ADMIN),
        ("PUT", node, maintenance, OPERATOR),
    ] {
        assert_eq!(asked(&gateway, method, path, "", body).status, 401, "{path}");
        for token in [VIEWER, OPERATOR, ADMIN] {
            let answer = asked(&gateway, method, path, token, body);
            let enough = token == ADMIN || token == least;
            assert_eq!(answer.status != 403, enough, "{path}: {answer}");
        }
    }
}

#[test]
fn another_number_of_gateways_can_t_be_had_here_and_that_is_said() {
    let app = Backend::text("app");
    let gateway = started("gw-1", "", &app);
    for (body, status) in [
        (
            r#"{"action":"scale_up","targetInstances":4,"reason":"busy"}"#,
            501,
        ),
        (r#"{"action":"scale_down"}"#, 501),
        (r#"{"action":"explode"}"#, 422),
        (r#"{"action":"scale_up","targetInstances":0}"#, 422),
        (r#"{"action":"scale_up","targetInstances":-1}"#, 400),
        (r#"{"targetInstances":4}"#, 400),
        ("scale up", 400),
    ] {
        let answer = gateway.admin_call("POST", "/cluster/scale", "", body);
        assert_eq!(answer.status, status, "{body}: {answer}");
        assert!(answer.json()["error"]["code"].is_string(), "{answer}");
    }
}

#[test]
fn an_endpoint_goes_into_maintenance_by_its_id_among_the_nodes() {
    let app = Backend::text("app");
    let gateway = started("gw-1", "", &app);
    let address = app.address().to_string();
    let put = |node: &str, body: &Value| {
        let path = format!("/api/v1/clustering/nodes/{node}/maintenance");
        gateway.admin_call("PUT", &path, "", &body.to_string())
    };
    let state = |id: &str| {
        let page = get(&gateway, "/api/v1/clustering/nodes");
        let nodes = page["nodes"].as_array().expect("nodes").clone();
        let found = nodes.into_iter().find(|node| node["node_id"] == id);
        found.map_or(Value::Null, |node| node["state"].clone())
    };
    let of = |upstream: &str| state(&format!("{upstream}/{address}"));
    let one = put(
        &format!("app%2F{address}"),
        &json!({ "enabled": true, "drain_deadline_s": 300, "reason": "new disk" }),
    );
    assert_eq!(one.status, 200, "{one}");
    assert_eq!((of("app"), of("other")), (json!("maintenance"), json!("active")));
    let told = get(&gateway, "/api/v1/overrides")["endpoints"][0]["state"].clone();
    assert_eq!(
        (&told["reason"], &told["by"]),
        (&json!("new disk"), &json!("token ann")),
        "{told}"
    );
    assert!(told["deadline"].is_string(), "{told}");
    // By its address it is that server wherever it is.
    let trial = put(&address, &json!({ "enabled": true }));
    assert_eq!(
        trial.json()["endpoints"].as_array().map(Vec::len),
        Some(2),
        "{trial}"
    );
    assert_eq!(
        (of("app"), of("other")),
        (json!("maintenance"), json!("maintenance"))
    );
    assert_eq!(put(&address, &json!({ "enabled": false })).status, 200);
    assert_eq!((of("app"), of("other")), (json!("active"), json!("active")));
    for (node, body, status) in [
        ("gw-1", json!({ "enabled": true }), 409),
        ("gw-9", json!({ "enabled": true }), 404),
        (address.as_str(), json!({}), 400),
        (address.as_str(), json!({ "enabled": "yes" }), 400),
        (
            address.as_str(),
            json!({ "enabled": true, "drain_deadline_s": -1 }),
            422,
        ),
        (
            address.as_str(),
            json!({ "enabled": true, "drain_deadline_s": 1, "deadline": "1s" }),
            422,
        ),
    ] {
        let answer = put(node, &body);
        assert_eq!(answer.status, status, "{node} {body}: {answer}");
    }
    assert_eq!((of("app"), of("other")), (json!("active"), json!("active")));
}
