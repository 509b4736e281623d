//! The three gateways of `docker/`, with its configurations, in front of its sample servers, on a Redis with sentinels,
//! scraped by a real Prometheus with its configuration: every panel of the dashboard has something to show, and shows
//! what happens.

use crate::cluster_kit::await_members;
use crate::cluster_sentinel::Guarded;
use crate::gateway;
use serde_json::{Value, json};
use std::path::Path;
use testkit::{Address, Backend, Gateway, Load, Prometheus, eventually, prometheus, redis};

const NODES: [&str; 3] = ["gateway-1", "gateway-2", "gateway-3"];
const APPS: [&str; 3] = ["app-1", "app-2", "app-3"];
const OPS: &str = "operator-operator-operator-000000";
const SERVERS: &str = "register-register-register-000000";
const KEY: &str = "0123456789abcdef0123456789abcdef";

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the compose file starts, without its images.
struct Composed {
    redis: Guarded,
    apps: Vec<Gateway>,
    gateways: Vec<Gateway>,
    prometheus: Prometheus,
}

impl Composed {
    fn start() -> Self {
        let redis = Guarded::start();
        let app = || {
            let config = read("app.toml").replace("0.0.0.0:8080", "127.0.0.1:0");
            gateway(&config).start()
        };
        let apps: Vec<Gateway> = APPS.iter().map(|_| app()).collect();
        let gateways: Vec<Gateway> = NODES
            .iter()
            .map(|node| Self::gateway(node, &redis, &apps))
            .collect();
        let mut scrape = read("prometheus.yml")
            .replace("5s", "1s")
            .replace(SECRET, &gateways[0].path("scrape_token").display().to_string());
        for (node, gateway) in NODES.iter().zip(&gateways) {
            scrape = scrape.replace(&format!("{node}:9900"), &gateway.admin().to_string());
        }
        Self {
            prometheus: Prometheus::start(&scrape),
            redis,
            apps,
            gateways,
        }
    }

    fn gateway(node: &str, redis: &Guarded, apps: &[Gateway]) -> Gateway {
        let mut config = read("gateway.toml")
            .replace("0.0.0.0:8080", "127.0.0.1:0")
            .replace("0.0.0.0:9900", "127.0.0.1:0")
            .replace("/var/lib/tidegate", "@dir@/state")
            .replace(SECRET, "@dir@/scrape_token");
        let at_sentinels = config
            .split('"')
            .find(|word| word.starts_with("redis+sentinel://"))
            .expect("a Redis with sentinels")
            .to_owned();
        config = config.replace(&at_sentinels, &redis.url());
        for (name, app) in APPS.iter().zip(apps) {
            config = config.replace(&format!("{name}:8080"), &app.web().to_string());
        }
        gateway(&config)
            .env("NODE_ID", node)
            .env("TIDEGATE_ADMIN_TOKEN", OPS)
            .env("TIDEGATE_REGISTER_TOKEN", SERVERS)
            .env("TIDEGATE_CLUSTER_KEY", KEY)
            .token(OPS)
            .file("scrape_token", &read("scrape_token"))
            .start()
    }

    /// Waits until this is all that a panel shows.
    fn shows(&self, panels: &[(String, String)], title: &str, value: f64) {
        let query = query(panels, title);
        eventually(&format!("{title}: {value}"), || {
            let shown = self.shown(query);
            !shown.is_empty() && shown.iter().all(|shown| (shown - value).abs() < 1e-9)
        });
    }

    fn registers_a_server(&self) {
        let server = Backend::text("one more");
        let body = json!({ "name": "registered", "address": server.address().to_string() });
        let token = format!("Authorization: Bearer {SERVERS}\r\n");
        let answer = self.gateways[0].admin_call("POST", "/api/v1/services", &token, &body.to_string());
        assert_eq!(answer.status, 201, "{answer}");
    }

    fn drains(&self, app: &Gateway) {
        let path = format!("/api/v1/upstreams/app/endpoints/{}", app.web());
        let wish = json!({ "state": "draining", "deadline": "10m" }).to_string();
        let answer = self.gateways[1].admin_call("PUT", &path, "", &wish);
        assert_eq!(answer.status, 200, "{answer}");
    }

    /// The values that a panel shows.
    fn shown(&self, query: &str) -> Vec<f64> {
        let query = query.replace("$instance", ".+");
        self.prometheus
            .query(&query)
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}

const SECRET: &str = "/run/secrets/scrape_token";

/// Title and query of all that the dashboard shows.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/tidegate.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let query = |target: &Value| target["expr"].as_str().expect("a query").to_owned();
        let queries: Vec<String> = targets.iter().map(query).collect();
        queries.into_iter().map(move |query| (title.clone(), query))
    };
    panels.flat_map(of).collect()
}

fn query<'a>(panels: &'a [(String, String)], title: &str) -> &'a str {
    let found = panels.iter().find(|(name, _)| name == title);
    &found.unwrap_or_else(|| panic!("no panel {title}")).1
}

/// What a panel shows where everything is well and where it is not, in the order of `docker/`'s own advice: kill what you
/// like.
#[test]
fn every_panel_of_the_dashboard_shows_what_happens() {
    if !redis::installed() || !prometheus::installed() {
        return;
    }
    let mut composed = Composed::start();
    for gateway in &composed.gateways {
        await_members(gateway, &NODES);
    }
    let panels = panels();
    assert!(panels.len() > 20, "{panels:?}");
    let web: Vec<Address> = composed.gateways.iter().map(Gateway::web).collect();
    let loads: Vec<Load> = web.iter().map(|web| Load::get(web.clone(), 1, "/")).collect();
    composed.shows(&panels, "Endpoints ready", 3.0);
    composed.shows(&panels, "Gateways, as each sees them", 3.0);

    composed.gateways[0]
        .get("/registered")
        .expect(503, Some("no_endpoint"));
    composed.registers_a_server();
    composed.drains(&composed.apps[0]);
    composed.gateways[0]
        .send("GET / HTTP/1.1\r\n\r\n")
        .expect(400, Some("bad_host"));
    let _ended = composed.redis.master.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    drop(composed.apps.pop());
    composed.shows(&panels, "Endpoints ready", 2.0);
    let mut empty = panels.clone();
    eventually("all panels have something to show", || {
        // A chore is somebody's for ten seconds at a time.
        empty.retain(|(_, query)| {
            composed
                .shown(&format!("last_over_time(({query})[2m:1s])"))
                .is_empty()
        });
        if let Some((title, query)) = empty.first() {
            eprintln!("nothing yet: {title}: {query}");
        }
        empty.is_empty()
    });
    for load in loads {
        load.stop().expect_flawless();
    }

    drop(composed.gateways.pop());
    composed.shows(&panels, "Gateways, as each sees them", 2.0);
    composed.shows(&panels, "Gateways up", 2.0);
}
