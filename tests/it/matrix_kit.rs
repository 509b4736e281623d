//! Gateways that share a Redis and everything else, for the rows of the failure matrix (`config/CLUSTER.md` lists them).

use crate::cluster_kit::await_members;
use crate::gateway;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{Address, Builder, Gateway, Redis, Response, eventually_some};

const TOKEN: &str = "operator-operator-operator";
const KEY: &str = "0123456789abcdef0123456789abcdef";

const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "@host@:0"
[[routes]]
upstream = "app"
timeouts = { connect = "300ms", response = "500ms" }
[upstreams.app]
endpoints = [@endpoints@]
@rules@
[cluster]
redis = "@redis@"
node = "@node@"
key = "env:CLUSTER_KEY"
heartbeat = "200ms"
gone_after = "@gone@"
[admin]
address = "@host@:0"
tokens = [{ name = "ops", role = "operator", token = "env:TOKEN" }]
"#;

/// How long they may be silent.
pub const GONE_AFTER: Duration = Duration::from_secs(2);

/// What gateways of a cluster have in common.
pub struct Cluster {
    pub redis: String,
    pub endpoints: Vec<String>,
    /// Further keys of the upstream.
    pub rules: String,
}

impl Cluster {
    pub fn new(redis: &Redis, endpoints: &[Address], rules: &str) -> Self {
        Self {
            redis: redis.url(),
            endpoints: endpoints.iter().map(Address::to_string).collect(),
            rules: rules.to_owned(),
        }
    }

    /// One of its gateways; what is given by [`Builder::with`] before this counts instead.
    pub fn complete(&self, builder: Builder, name: &str) -> Builder {
        let endpoints: Vec<String> = self.endpoints.iter().map(|e| format!("\"{e}\"")).collect();
        builder
            .env("TOKEN", TOKEN)
            .env("CLUSTER_KEY", KEY)
            .token(TOKEN)
            .with("endpoints", endpoints.join(", "))
            .with("rules", &self.rules)
            .with("redis", &self.redis)
            .with("node", name)
            .with("host", "127.0.0.1")
            .with("gone", format!("{}s", GONE_AFTER.as_secs()))
    }

    pub fn node(&self, name: &str) -> Builder {
        self.complete(gateway(CONFIG), name)
    }

    /// Three of them that know of each other.
    pub fn three(&self) -> [Gateway; 3] {
        let nodes = NAMES.map(|name| self.node(name).start());
        for node in &nodes {
            await_members(node, &NAMES);
        }
        nodes
    }
}

pub const NAMES: [&str; 3] = ["gw-1", "gw-2", "gw-3"];

/// A gateway that does not exist yet, of whom a test wants to say more before [`Cluster::complete`].
pub fn blank() -> Builder {
    gateway(CONFIG)
}

pub fn state(gateway: &Gateway, endpoint: &Address) -> String {
    let shown = gateway.endpoint(endpoint);
    shown["state"].as_str().unwrap_or_default().to_owned()
}

pub fn weight(gateway: &Gateway, endpoint: &Address) -> u64 {
    gateway.endpoint(endpoint)["weight"].as_u64().unwrap_or_default()
}

/// An operator's change of an endpoint.
#[track_caller]
pub fn change(gateway: &Gateway, endpoint: &Address, body: &Value) {
    let path = format!("/api/v1/upstreams/app/endpoints/{endpoint}");
    let answer = gateway.admin_call("PUT", &path, "", &body.to_string());
    assert_eq!(answer.status, 200, "{answer}");
}

#[track_caller]
pub fn weigh(gateway: &Gateway, endpoint: &Address, weight: u64) {
    change(gateway, endpoint, &json!({ "weight": weight }));
}

/// When an endpoint first stopped getting requests, by the gateway's own history: the moment, and what that says.
#[track_caller]
pub fn out(gateway: &Gateway, endpoint: &Address) -> (Timestamp, Value) {
    let address = endpoint.to_string();
    eventually_some("it is in the history", || {
        let history = gateway.admin_get("/api/v1/clustering/failover/history").json();
        let mut entries = history["history"].as_array()?.clone();
        entries.retain(|entry| entry["address"] == address.as_str() && entry["to"] != "active");
        entries.sort_by_key(|entry| entry["id"].as_u64());
        let first = entries.first()?.clone();
        Some((first["time"].as_str()?.parse().ok()?, first))
    })
}

/// A client that goes to another gateway when the first fails it, as those do that may repeat what they ask.
pub struct Retrying<'a> {
    pub gateways: Vec<&'a Address>,
    pub moved: usize,
}

impl Retrying<'_> {
    /// The answer to a GET; `None` when no gateway gave one.
    pub fn get(&mut self, headers: &str) -> Option<Response> {
        for _ in 0..self.gateways.len() {
            let asked = testkit::Conn::try_connect(self.gateways[0])
                .ok()
                .and_then(|mut conn| {
                    conn.try_send(format!("GET / HTTP/1.1\r\nHost: test\r\n{headers}\r\n"))
                        .ok()?;
                    conn.try_response_to("GET")
                        .ok()
                        .filter(|answer| answer.cut.is_none())
                });
            match asked {
                Some(answer) if answer.status < 500 => return Some(answer),
                Some(_) | None => {
                    self.gateways.rotate_left(1);
                    self.moved += 1;
                }
            }
        }
        None
    }
}

/// The table of faults in `config/CLUSTER.md` names tests that there are, and all that have a row's number.
#[test]
fn the_table_of_faults_names_tests_that_exist_and_every_one_with_a_number() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let page = read("config/CLUSTER.md");
    let rows = page.lines().filter(|line| {
        let first = line.split('|').nth(1).map(str::trim);
        first.is_some_and(|number| number.parse::<u8>().is_ok())
    });
    let mut named = std::collections::BTreeSet::new();
    for row in rows {
        let number = row.split('|').nth(1).map(str::trim).expect("a number");
        for name in row
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|text| text.contains("::"))
        {
            let (module, test) = name.split_once("::").expect("a test");
            let exists = read(&format!("tests/it/{module}.rs")).contains(&format!("fn {test}()"));
            assert!(exists, "{name}");
            if let Some(rest) = test.strip_prefix("row_") {
                assert!(rest.starts_with(&format!("{number}_")), "{name} in row {number}");
            }
            named.insert(test.to_owned());
        }
    }
    assert!(named.len() > 20, "{named:?}");
    let files = std::fs::read_dir(root.join("tests/it")).expect("the tests");
    for file in files.flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        for test in text.lines().filter_map(|line| line.strip_prefix("fn ")) {
            let test = test.split('(').next().unwrap_or_default();
            let numbered = test
                .strip_prefix("row_")
                .is_some_and(|rest| rest.starts_with(char::is_numeric));
            assert!(
                !numbered || named.contains(test),
                "{test} is not in config/CLUSTER.md"
            );
        }
    }
}
