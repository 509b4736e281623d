//! The admin listener: what it tells, to whom, and what it lets them do.

use crate::{PLAIN, gateway, in_front_of};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use testkit::{Backend, Conn, Gateway, eventually};

#[test]
fn health_has_the_shape_that_dashboards_know() {
    let backend = Backend::text("hi");
    let gateway = gateway(&format!("{PLAIN}\n[runtime]\nworkers = 2\n"))
        .with("app", backend.address())
        .start();
    let health = gateway.admin_get("/health");
    assert_eq!(
        health
            .header("content-type")
            .unwrap_or_default()
            .split(';')
            .next(),
        Some("application/json")
    );
    let health = health.json();
    assert_eq!(health["status"], "healthy", "{health}");
    let cluster = &health["cluster"];
    assert_eq!(
        (&cluster["workers"], &cluster["active"]),
        (&2.into(), &2.into()),
        "{health}"
    );
    assert!(cluster["mode"].is_boolean(), "{health}");
    for key in ["total", "used"] {
        let text = cluster["memory"][key].as_str().unwrap_or_default();
        assert!(
            text.strip_suffix("MB").is_some_and(|n| n.parse::<u64>().is_ok()),
            "{health}"
        );
    }
    assert_eq!(gateway.admin_get("/livez").status, 200);
    assert_eq!(gateway.admin_get("/readyz").status, 200);
}

#[test]
fn workers_are_told_one_by_one() {
    let gateway = in_front_of(&Backend::text("hi"));
    let workers = gateway.admin_get("/health/workers").json();
    let workers = workers["workers"].as_array().expect("workers").clone();
    assert!(!workers.is_empty());
    for worker in workers {
        for key in ["connections", "requests", "restarts"] {
            assert!(worker[key].is_number(), "{key} in {worker}");
        }
    }
}

#[test]
fn stats_tell_everything_at_a_glance_at_both_paths() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    for _ in 0..5 {
        let _ = gateway.get("/");
    }
    let stats = gateway.stats();
    for key in ["listeners", "routes", "upstreams"] {
        assert!(!stats[key].is_null(), "{key} in {stats}");
    }
    let text = stats.to_string();
    assert!(
        text.contains(&backend.address().to_string()) && text.contains("\"web\""),
        "{text}"
    );
    let keys = |v: &serde_json::Value| v.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(&stats), keys(&gateway.admin_get("/api/stats").json()));
}

#[test]
fn upstreams_and_routes_are_told_with_their_live_state() {
    let backend = Backend::text("hi");
    let config = PLAIN.replace("[[routes]]", "[[routes]]\nname = \"main\"");
    let gateway = gateway(&config).with("app", backend.address()).start();
    for _ in 0..3 {
        assert_eq!(gateway.get("/").status, 200);
    }
    let address = backend.address().to_string();
    let list = gateway.admin_get("/api/v1/upstreams");
    assert!(
        list.status == 200 && list.text().contains("\"app\"") && list.text().contains(&address),
        "{list}"
    );
    let one = gateway.admin_get("/api/v1/upstreams/app");
    assert!(one.status == 200 && one.text().contains(&address), "{one}");
    let routes = gateway.admin_get("/api/v1/routes");
    assert!(
        routes.status == 200 && routes.text().contains("\"main\""),
        "{routes}"
    );
    let missing = gateway.admin_get("/api/v1/upstreams/none");
    assert_eq!(missing.status, 404, "{missing}");
    let error = &missing.json()["error"];
    assert!(
        error["code"].is_string() && error["message"].is_string(),
        "{error}"
    );
    assert_eq!(gateway.admin_get("/no/such/path").status, 404);
}

/// Names of the metrics in the documentation.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../config/METRICS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    assert_eq!(gateway.get("/").status, 200);
    gateway
        .send("GET / HTTP/1.1\r\n\r\n")
        .expect(400, Some("bad_host"));
    let page = gateway.metrics();
    let documented = documented();
    let mut served = BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap_or_default();
            served.insert(name.to_owned());
        }
    }
    assert!(!served.is_empty(), "{page}");
    let unknown: Vec<_> = served.iter().filter(|name| !documented.contains(*name)).collect();
    let missing: Vec<_> = documented.iter().filter(|name| !served.contains(*name)).collect();
    assert!(
        unknown.is_empty() && missing.is_empty(),
        "undocumented: {unknown:?}; not served: {missing:?}"
    );
}

#[test]
fn metrics_are_well_formed_and_count() {
    let backend = Backend::text("hello");
    let config = PLAIN.replace("[[routes]]", "[[routes]]\nname = \"main\"");
    let gateway = gateway(&config).with("app", backend.address()).start();
    let mut conn = gateway.connect();
    for _ in 0..9 {
        assert_eq!(conn.get("/").status, 200);
    }
    let labels = [r#"route="main""#, r#"upstream="app""#];
    eventually("requests are counted", || {
        gateway.metric("tidegate_requests_total", &labels) == 9.0
    });
    assert_eq!(
        gateway.metric("tidegate_connections_open", &[r#"listener="web""#]),
        1.0
    );
    assert_eq!(gateway.metric("tidegate_upstream_connects_total", &[]), 1.0);
    assert_eq!(gateway.metric("tidegate_upstream_reuses_total", &[]), 8.0);
    assert_eq!(
        gateway.metric("tidegate_request_duration_seconds_count", &labels),
        9.0
    );
    assert_eq!(gateway.metric("tidegate_panics_total", &[]), 0.0);
    for line in gateway
        .metrics()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(
            value.parse::<f64>().is_ok() && name.starts_with("tidegate_"),
            "{line}"
        );
    }
    let metrics = Conn::connect(gateway.admin())
        .send(
            "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n",
        )
        .response();
    assert!(
        metrics
            .header("content-type")
            .unwrap_or_default()
            .contains("openmetrics"),
        "{metrics}"
    );
    assert!(metrics.text().trim_end().ends_with("# EOF"));
}

#[test]
fn labels_never_come_from_clients() {
    let backend = Backend::text("hi");
    let gateway = in_front_of(&backend);
    for n in 0..50 {
        gateway.send(format!(
            "X{n} /unique-{n} HTTP/1.1\r\nHost: unique-{n}.test\r\n\r\n"
        ));
    }
    let page = gateway.metrics();
    assert!(!page.contains("unique"), "{page}");
}

const READER: &str = "reader-reader-reader";
const ADMIN: &str = "admin-admin-admin-admin";

fn with_tokens() -> Gateway {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        respond = { body = "one" }
        [admin]
        address = "127.0.0.1:0"
        tokens = [
          { name = "reader", role = "viewer", token = "env:READER" },
          { name = "ops", role = "admin", token = "file:ops.token" },
        ]
        "#,
    )
    .file("ops.token", &format!("{ADMIN}\n"))
    .env("READER", READER)
    .token(ADMIN)
    .start()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn tokens_open_what_their_role_may() {
    let gateway = with_tokens();
    let reload = "/api/v1/config/reload";
    let wrong = bearer("wrong-wrong-wrong-wrong");
    for (method, target, auth, status) in [
        ("GET", "/stats", "Authorization: none\r\n", 401),
        ("GET", "/stats", wrong.as_str(), 401),
        ("GET", "/metrics", wrong.as_str(), 401),
        ("GET", "/stats", &bearer(READER), 200),
        ("GET", "/metrics", &bearer(READER), 200),
        ("POST", reload, wrong.as_str(), 401),
        ("POST", reload, &bearer(READER), 403),
        ("POST", reload, &bearer(ADMIN), 200),
    ] {
        let answer = gateway.admin_call(method, target, auth, "");
        assert_eq!(answer.status, status, "{method} {target} {auth}: {answer}");
        if status >= 400 {
            assert!(answer.json()["error"]["code"].is_string(), "{answer}");
        }
    }
    assert!(gateway.metric("tidegate_admin_denied_total", &[]) >= 5.0);
    // Probes carry no token.
    for probe in ["/livez", "/readyz"] {
        assert_eq!(
            gateway
                .admin_call("GET", probe, "Authorization: none\r\n", "")
                .status,
            200,
            "{probe}"
        );
    }
}

#[test]
fn secrets_are_told_nowhere() {
    let gateway = with_tokens();
    let shown = gateway.cli(&["config", "show", "--effective"]);
    let everything = format!(
        "{}{}{}{}{}",
        gateway.stats(),
        gateway.metrics(),
        gateway.log(),
        shown.stdout,
        shown.stderr
    );
    assert!(
        !everything.contains(READER) && !everything.contains(ADMIN),
        "{everything}"
    );
}

#[test]
fn without_tokens_it_is_read_only() {
    let gateway = in_front_of(&Backend::text("hi"));
    assert_eq!(gateway.admin_get("/stats").status, 200);
    let answer = gateway.admin_call("POST", "/api/v1/config/reload", "", "");
    assert!(matches!(answer.status, 401 | 403), "{answer}");
}

#[test]
fn without_tokens_it_is_served_on_loopback_only() {
    let ran = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        respond = { body = "one" }
        [admin]
        address = "0.0.0.0:0"
        "#,
    )
    .try_start()
    .expect_err("it must not start");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("tokens"), "{}", ran.stderr);
}

#[test]
fn a_dry_run_tells_what_would_change_and_changes_nothing() {
    let gateway = with_tokens();
    let generation = gateway.generation();
    // By the command line of the other file system: written where nothing is watched.
    let text = gateway.read("tidegate.toml");
    let dry = |gateway: &Gateway| gateway.admin_call("POST", "/api/v1/config/reload?dry_run=true", "", "");
    assert_eq!(dry(&gateway).status, 200);
    gateway.write_config(&text.replace("[[routes]]", "[[routes]]\nupstream = 7"));
    let refused = dry(&gateway);
    assert!(
        (400..500).contains(&refused.status) && refused.text().contains("upstream"),
        "{refused}"
    );
    assert_eq!(
        (gateway.generation(), gateway.get("/").text().as_str()),
        (generation, "one")
    );
}

#[test]
fn every_change_leaves_an_audit_entry_with_its_actor() {
    let gateway = with_tokens();
    assert_eq!(
        gateway.admin_call("POST", "/api/v1/config/reload", "", "").status,
        200
    );
    let audit = gateway.admin_get("/api/v1/audit");
    assert_eq!(audit.status, 200, "{audit}");
    assert!(
        audit.text().contains("config.reload") && audit.text().contains("ops"),
        "{audit}"
    );
    gateway.await_log("ops");
}

#[test]
fn the_control_socket_is_for_its_owner_alone() {
    let gateway = in_front_of(&Backend::text("hi"));
    let state = gateway.path("state");
    let entries = std::fs::read_dir(&state)
        .expect("the state directory")
        .filter_map(Result::ok);
    let sockets: Vec<_> = entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_socket()))
        .collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    let mode = sockets[0].metadata().expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_never_reaches_a_handler_is_a_problem_as_json_too() {
    const TOKEN: &str = "administrator-administrator";
    let backend = Backend::text("hi");
    let admin = "\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{ name = \"a\", role = \"admin\", token = \"env:A\" }]\n";
    let gateway = gateway(&format!("{PLAIN}{admin}"))
        .env("A", TOKEN)
        .token(TOKEN)
        .with("app", backend.address())
        .start();
    let long = "x".repeat(65 * 1024);
    for (method, target, body, status, code, word) in [
        ("POST", "/api/v1/services", &*long, 413, "too_large", "too long"),
        (
            "POST",
            "/api/v1/config/publish?expected=now",
            "",
            400,
            "bad_request",
            "expected",
        ),
        (
            "POST",
            "/api/v1/config/versions/last/rollback",
            "",
            400,
            "bad_request",
            "last",
        ),
    ] {
        let answer = gateway.admin_call(method, target, "", body);
        assert_eq!(answer.status, status, "{target}: {answer}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{answer}"
        );
        let told = answer.json();
        let error = &told["error"];
        assert_eq!(error["code"], code, "{target}: {told}");
        assert!(
            error["message"].as_str().is_some_and(|text| text.contains(word)),
            "{target}: {told}"
        );
        assert_eq!(
            error["request_id"].as_str(),
            answer.header("x-request-id"),
            "{told}"
        );
    }
}

#[test]
fn bad_requests_to_it_are_answered_not_fatal() {
    let gateway = in_front_of(&Backend::text("hi"));
    for bytes in [
        "garbage\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "POST /stats HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{{{",
    ] {
        let mut conn = Conn::connect(gateway.admin());
        let answer = conn.send(bytes).try_response_to("GET");
        assert!(
            answer.as_ref().is_ok_and(|a| (400..500).contains(&a.status)),
            "{bytes:?}: {answer:?}"
        );
    }
    // Somebody who never finishes asking does not keep others from it.
    let mut stuck: Vec<Conn> = (0..50).map(|_| Conn::connect(gateway.admin())).collect();
    for conn in &mut stuck {
        conn.send("GET /stats HT");
    }
    assert_eq!(gateway.admin_get("/livez").status, 200);
}
