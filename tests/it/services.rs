//! Application servers that register themselves: endpoints that come and go with their registrations, who may
//! register what, and what outlives a restart.

use crate::gateway;
use serde_json::{Value, json};
use testkit::{Backend, Gateway, Response, eventually};

const OPS: &str = "operator-operator-operator";
const APP: &str = "only-for-api-servers-000000";

const CONFIG: &str = r#"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
discover = { registry = { service = "api", tags = ["production"] } }
[runtime]
workers = 1
state_dir = "@state@"
[admin]
address = "127.0.0.1:0"
tokens = [
  { name = "ops", role = "operator", token = "env:OPS" },
  { name = "api", role = "register:app", token = "env:APP" },
]
"#;

struct Scene {
    state: tempfile::TempDir,
    gateway: Gateway,
}

fn started(state: &tempfile::TempDir) -> Gateway {
    gateway(CONFIG)
        .env("OPS", OPS)
        .env("APP", APP)
        .token(OPS)
        .with("state", state.path().display())
        .start()
}

impl Scene {
    fn new() -> Self {
        let state = tempfile::tempdir().expect("directory");
        let gateway = started(&state);
        Self { state, gateway }
    }

    fn restarted(self) -> Self {
        assert_eq!(self.gateway.stop(), Some(0));
        let gateway = started(&self.state);
        Self { gateway, ..self }
    }

    fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Response {
        let token = format!("Authorization: Bearer {token}\r\n");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.gateway
            .admin_call(method, &format!("/api/v1/services{path}"), &token, &body)
    }

    fn register(&self, id: &str, backend: &Backend, more: &Value) -> Response {
        let mut body = json!({
            "id": id, "name": "api", "address": backend.address().to_string(), "tags": ["production"],
        });
        let more = more.as_object().cloned().unwrap_or_default();
        body.as_object_mut().expect("an object").extend(more);
        self.call("POST", "", APP, &body)
    }

    fn ids(&self, query: &str) -> Vec<String> {
        let answer = self.gateway.admin_get(&format!("/api/v1/services?{query}"));
        assert_eq!(answer.status, 200, "{answer}");
        let list = answer.json();
        let services = list["services"].as_array().expect("services");
        services
            .iter()
            .filter_map(|service| service["id"].as_str().map(str::to_owned))
            .collect()
    }

    fn answers_with(&self, text: &str) {
        eventually(&format!("{text} answers"), || {
            self.gateway.get("/").text() == text
        });
    }

    fn has_nobody(&self) {
        eventually("nobody is there", || self.gateway.get("/").status == 503);
    }
}

#[test]
fn a_server_is_an_endpoint_while_it_is_registered() {
    let scene = Scene::new();
    let backend = Backend::text("one");
    scene.has_nobody();
    let answer = scene.register("one", &backend, &Value::Null);
    assert_eq!(answer.status, 201, "{answer}");
    let answer = answer.json();
    assert_eq!(answer["service"]["ttl_s"], 30.0, "{answer}");
    scene.answers_with("one");
    let endpoint = scene.gateway.endpoint(&backend.address());
    assert_eq!(endpoint["discovered"], true, "{endpoint}");
    assert_eq!(
        scene.gateway.metric("tidegate_services", &["service=\"api\""]),
        1.0
    );
    assert_eq!(scene.call("DELETE", "/one", APP, &Value::Null).status, 200);
    scene.has_nobody();
    assert_eq!(scene.call("DELETE", "/one", APP, &Value::Null).status, 404);
    for kind in ["service.registered", "service.deregistered"] {
        let events = scene.gateway.events(kind);
        assert_eq!(events.len(), 1, "{kind}");
        assert_eq!(events[0]["target"], "api/one");
    }
    let audit = scene.gateway.admin_get("/api/v1/audit").text();
    assert!(
        audit.contains("service.register") && audit.contains("token api"),
        "{audit}"
    );
}

#[test]
fn a_registration_that_is_not_renewed_ends_and_one_that_is_stays() {
    let scene = Scene::new();
    let (kept, left) = (Backend::text("kept"), Backend::text("left"));
    let ttl = json!({ "ttl": "1s" });
    assert_eq!(scene.register("kept", &kept, &ttl).status, 201);
    assert_eq!(scene.register("left", &left, &ttl).status, 201);
    eventually("the other one ends", || {
        let renewed = scene.call("POST", "/kept/heartbeat", APP, &Value::Null);
        assert_eq!(renewed.status, 200, "{renewed}");
        scene.ids("") == ["kept"]
    });
    let events = scene.gateway.events("service.expired");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["target"], "api/left");
    let late = scene.call("POST", "/left/heartbeat", APP, &Value::Null);
    assert_eq!(late.status, 404, "{late}");
    assert!(late.text().contains("register it anew"), "{late}");
    let heartbeats = scene.gateway.admin_get("/api/v1/audit?limit=1000").text();
    assert_eq!(
        heartbeats.matches("\"service.register\"").count(),
        2,
        "heartbeats are no news: {heartbeats}"
    );
}

#[test]
fn only_fitting_services_are_endpoints() {
    let scene = Scene::new();
    let (fitting, other, ill) = (
        Backend::text("fits"),
        Backend::text("other"),
        Backend::text("ill"),
    );
    scene.register("other", &other, &json!({ "tags": ["staging"] }));
    scene.register("ill", &ill, &json!({ "health": "critical" }));
    scene.register("fits", &fitting, &json!({ "tags": ["x", "production"] }));
    scene.answers_with("fits");
    assert!((0..10).all(|_| scene.gateway.get("/").text() == "fits"));
    let well = scene.call("POST", "/ill/heartbeat", APP, &json!({ "health": "warning" }));
    assert_eq!(well.status, 200, "{well}");
    scene.answers_with("ill");
    assert_eq!(scene.gateway.events("service.health_changed").len(), 1);
    assert_eq!(other.hits(), 0);
}

#[test]
fn services_are_found_by_name_health_tags_and_metadata() {
    let scene = Scene::new();
    let backend = Backend::text("hi");
    scene.register(
        "a",
        &backend,
        &json!({ "metadata": { "region": "eu" }, "version": "2" }),
    );
    scene.register(
        "b",
        &backend,
        &json!({ "tags": ["production", "fast"], "health": "warning" }),
    );
    assert_eq!(scene.ids(""), ["a", "b"]);
    assert_eq!(scene.ids("name=api&tag=production&tag=fast"), ["b"]);
    assert_eq!(scene.ids("healthy=true"), ["a"]);
    assert_eq!(scene.ids("health=warning"), ["b"]);
    assert_eq!(scene.ids("meta.region=eu"), ["a"]);
    assert_eq!(scene.ids("version=3"), Vec::<String>::new());
    assert_eq!(scene.ids("limit=1"), ["a"]);
    assert_eq!(scene.ids("limit=1&cursor=a"), ["b"]);
    assert_eq!(scene.gateway.admin_get("/api/v1/services?tga=x").status, 400);
    assert_eq!(
        scene.gateway.admin_get("/api/v1/services/b").json()["tags"][1],
        "fast"
    );
    assert_eq!(scene.gateway.admin_get("/api/v1/services/c").status, 404);
}

#[test]
fn a_key_to_register_is_good_for_its_own_service_and_nothing_else() {
    let scene = Scene::new();
    let body = json!({ "name": "billing", "address": "10.0.0.1", "port": 80 });
    let foreign = scene.call("POST", "", APP, &body);
    assert_eq!(foreign.status, 403, "{foreign}");
    let by_ops = scene.call("POST", "", OPS, &body);
    assert_eq!(by_ops.status, 201, "{by_ops}");
    let id = by_ops.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(id, "billing-10.0.0.1:80");
    for (method, path) in [("DELETE", format!("/{id}")), ("POST", format!("/{id}/heartbeat"))] {
        assert_eq!(
            scene.call(method, &path, APP, &Value::Null).status,
            403,
            "{method} {path}"
        );
    }
    let stolen = json!({ "id": id, "name": "api", "address": "10.0.0.2", "port": 80 });
    assert_eq!(scene.call("POST", "", APP, &stolen).status, 409);
    for path in ["/stats", "/api/v1/services", "/api/v1/config", "/metrics"] {
        let header = format!("Authorization: Bearer {APP}\r\n");
        assert_eq!(
            scene.gateway.admin_call("GET", path, &header, "").status,
            403,
            "{path}"
        );
    }
    assert_eq!(scene.call("POST", "", "wrong", &body).status, 401);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_registered() {
    let scene = Scene::new();
    let good = json!({ "name": "api", "address": "10.0.0.1", "port": 80 });
    let broken = [
        ("address", json!("api.internal"), 422),
        ("address", json!("0.0.0.0"), 422),
        ("port", json!(0), 422),
        ("port", json!(70_000), 400),
        ("id", json!("a/b"), 422),
        ("id", json!("x".repeat(10_000)), 422),
        ("name", json!("{c}"), 422),
        ("ttl", json!("1ms"), 422),
        ("ttl", json!("forever"), 422),
        ("ttl_s", json!(-1), 422),
        ("health", json!("fine"), 400),
        ("tags", json!(vec!["t"; 100]), 422),
        ("metadata", json!({ "a": "b\nc" }), 422),
        ("colour", json!("red"), 400),
    ];
    for (key, value, status) in broken {
        let mut body = good.clone();
        body[key] = value;
        let answer = scene.call("POST", "", OPS, &body);
        assert_eq!(answer.status, status, "{key}: {answer}");
    }
    assert_eq!(scene.ids(""), Vec::<String>::new());
    let dry = scene.call("POST", "?dry_run=true", OPS, &good);
    assert_eq!((dry.status, scene.ids("").len()), (200, 0), "{dry}");
}

#[test]
fn registrations_outlive_a_restart_until_their_time() {
    let scene = Scene::new();
    let (long, short) = (Backend::text("long"), Backend::text("short"));
    scene.register("long", &long, &json!({ "ttl": "1h" }));
    scene.register("short", &short, &json!({ "ttl": "1s" }));
    scene.answers_with("long");
    let scene = scene.restarted();
    assert_ne!(
        scene.gateway.get("/").status,
        503,
        "it serves with them from the first request on"
    );
    eventually("the short one ends", || scene.ids("") == ["long"]);
    assert_eq!(scene.gateway.get("/").text(), "long");
    let again = scene.register("long", &long, &json!({ "ttl": "1h" }));
    assert_eq!((again.status, &again.json()["outcome"]), (200, &json!("renewed")));
}

#[test]
fn a_damaged_file_costs_the_registrations_and_nothing_else() {
    let scene = Scene::new();
    let backend = Backend::text("hi");
    scene.register("a", &backend, &Value::Null);
    assert_eq!(scene.gateway.stop(), Some(0));
    std::fs::write(scene.state.path().join("services.json"), "{ nonsense").expect("written");
    let gateway = started(&scene.state);
    let scene = Scene { gateway, ..scene };
    assert_eq!(scene.ids(""), Vec::<String>::new());
    assert_eq!(scene.register("a", &backend, &Value::Null).status, 201);
    scene.answers_with("hi");
}
