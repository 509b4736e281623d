//! `explain`: what the gateway says it would do is what it does.

use crate::gateway;
use serde_json::Value;
use std::fmt::Write as _;
use testkit::{Backend, Gate, Gateway, Reply, eventually};

const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
[upstreams.turns]
endpoints = ["@a@", { address = "@b@", weight = 2 }, "@c@"]
[upstreams.fewest]
balance = "least_connections"
endpoints = ["@a@", "@b@", { address = "@c@", backup = true }]
[upstreams.keyed]
balance = "hash"
key = "header:x-forwarded-for"
endpoints = ["@a@", "@b@", "@c@"]
[upstreams.by-client]
balance = "ip_hash"
bounded_load = 1.25
endpoints = ["@a@", "@b@", { address = "@c@", weight = 2 }]
[upstreams.learnt]
balance = "adaptive"
endpoints = ["@a@", "@b@", "@c@"]
[upstreams.timed]
balance = "least_time"
slow_start = "1h"
endpoints = ["@a@", { address = "@b@", weight = 2 }, "@c@"]
[upstreams.two]
balance = "random_two"
endpoints = ["@a@", "@b@", "@c@"]
[upstreams.off]
endpoints = [{ address = "@a@", weight = 0 }]

[[routes]]
name = "api"
hosts = ["api.test"]
paths = ["/v1"]
upstream = "turns"
[[routes]]
name = "api-post"
hosts = ["api.test"]
paths = ["/v1/items"]
methods = ["POST"]
upstream = "fewest"
[[routes]]
name = "beta"
hosts = ["*.test"]
headers = { X-Beta = "yes" }
upstream = "fewest"
[[routes]]
name = "inside"
paths = ["/inside"]
client_ip = ["10.0.0.0/8"]
upstream = "turns"
[[routes]]
name = "users"
paths = ["~^/users/[0-9]+$"]
upstream = "fewest"
[[routes]]
name = "keyed"
paths = ["/keyed"]
upstream = "keyed"
[[routes]]
name = "by-client"
paths = ["/by-client"]
upstream = "by-client"
[[routes]]
name = "learnt"
paths = ["/learnt"]
upstream = "learnt"
[[routes]]
name = "timed"
paths = ["/timed"]
upstream = "timed"
[[routes]]
name = "two"
paths = ["/two"]
upstream = "two"
[[routes]]
name = "off"
paths = ["/off"]
upstream = "off"
[[routes]]
name = "old"
paths = ["=/old"]
redirect = { to = "/new" }
[[routes]]
name = "query"
query = { page = "7" }
upstream = "turns"
"#;

struct Bench {
    gateway: Gateway,
    backends: Vec<Backend>,
}

fn bench() -> Bench {
    let backends: Vec<Backend> = ["a", "b", "c"]
        .map(|name| Backend::http(move |_| Reply::ok(name)))
        .into();
    let gateway = gateway(CONFIG)
        .with("a", backends[0].address())
        .with("b", backends[1].address())
        .with("c", backends[2].address())
        .start();
    Bench { gateway, backends }
}

impl Bench {
    /// The name of the backend at this address.
    fn name_of(&self, address: &str) -> &'static str {
        let at = self
            .backends
            .iter()
            .position(|b| b.address().to_string() == address);
        ["a", "b", "c"][at.expect("a backend of ours")]
    }

    /// Whether the scores that were told lie at the very edge between the pick and the one that answered: they move
    /// with the clock, which goes on between the question and the request.
    fn is_close_call(&self, told: &Value, answered: &str) -> bool {
        let score = |name: &str| {
            let all = told["endpoints"].as_array().expect("endpoints");
            let of_it = |e: &&Value| self.name_of(e["address"].as_str().expect("an address")) == name;
            all.iter().find(of_it).and_then(|e| e["score"]["score"].as_f64())
        };
        let picked = self.name_of(told["pick"].as_str().expect("a pick"));
        let (Some(picked), Some(answered)) = (score(picked), score(answered)) else {
            return false;
        };
        let ratio = picked.max(answered) / picked.min(answered);
        // A rival is taken when it is better by a quarter, and the better of two rivals.
        [1.0, 1.25]
            .iter()
            .any(|edge| (ratio / edge - 1.0_f64).abs() < 0.02)
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

/// A request out of pieces that meet routes and miss them.
fn random_request(rng: &mut fastrand::Rng) -> (String, String, Vec<(String, String)>) {
    let method = ["GET", "POST", "PUT", "OPTIONS"][rng.usize(..4)];
    let host = ["api.test", "API.test:80", "x.test", "other.example", ""][rng.usize(..5)];
    let paths = [
        "/v1",
        "/v1/items",
        "/v1/../v1//items",
        "/inside",
        "/users/42",
        "/users/me",
        "/keyed",
        "/by-client",
        "/learnt",
        "/learnt/more",
        "/timed",
        "/two/x",
        "/off",
        "/old",
        "/",
        "/v1%2Fx",
        "/nothing?page=7",
        "/nothing?page=8",
        "/%zz",
        "/v1/items/x?page=7",
    ];
    let mut headers = vec![("Host".to_owned(), host.to_owned())];
    if rng.bool() {
        headers.push(("X-Beta".to_owned(), ["yes", "no"][rng.usize(..2)].to_owned()));
    }
    if rng.bool() {
        headers.push((
            "X-Forwarded-For".to_owned(),
            ["10.1.2.3", "8.8.8.8"][rng.usize(..2)].to_owned(),
        ));
    }
    (
        method.to_owned(),
        paths[rng.usize(..paths.len())].to_owned(),
        headers,
    )
}

#[test]
fn what_is_explained_is_what_happens_for_ten_thousand_requests() {
    const REQUESTS: usize = 10_000;
    let bench = bench();
    let mut rng = fastrand::Rng::with_seed(20_261_121);
    let mut admin = testkit::Conn::connect(bench.gateway.admin());
    let mut conn = bench.gateway.connect();
    let (mut forwarded, mut refused) = (0, 0);
    for _ in 0..REQUESTS {
        let (method, target, headers) = random_request(&mut rng);
        let mut question = format!(
            "/api/v1/explain?method={method}&url={}&listener=web",
            encoded(&target)
        );
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in &headers {
            let _ = write!(question, "&header={}", encoded(&format!("{name}: {value}")));
            let _ = write!(request, "{name}: {value}\r\n");
        }
        request.push_str("\r\n");
        let told = admin.get(&question).json();
        let answer = conn.send(&request).response_to(&method);
        if let Some(status) = told["refused"]["status"].as_u64() {
            refused += 1;
            answer.expect(status as u16, told["refused"]["token"].as_str());
        } else if told["action"] == "forward" {
            let pick = told["upstreams"][0]["pick"].as_str();
            match pick {
                Some(address) => {
                    forwarded += 1;
                    let as_told = answer.text() == bench.name_of(address);
                    assert!(
                        as_told || bench.is_close_call(&told["upstreams"][0], &answer.text()),
                        "{request}{answer}{told:#}"
                    );
                }
                None => answer.expect(503, Some("no_endpoint")),
            }
        } else {
            assert_eq!(
                (told["route"].as_str(), answer.status),
                (Some("old"), 308),
                "{told:#}"
            );
        }
        if !answer.keeps_alive() {
            conn = bench.gateway.connect();
        }
    }
    assert!(
        forwarded > REQUESTS / 4 && refused > REQUESTS / 10,
        "{forwarded} {refused}"
    );
}

#[test]
fn every_route_says_why_it_is_not_the_one() {
    let bench = bench();
    let told = bench
        .gateway
        .admin_get("/api/v1/explain?method=GET&url=http%3A%2F%2Fapi.test%2Fv1%2Fitems&header=X-Beta%3A%20no")
        .json();
    let said: Vec<(&str, &str)> = told["routes"]
        .as_array()
        .expect("routes")
        .iter()
        .map(|asked| {
            (
                asked["route"].as_str().expect("a name"),
                asked["verdict"].as_str().expect("a verdict"),
            )
        })
        .collect();
    for expected in [
        ("api", "chosen"),
        ("api-post", "methods"),
        ("beta", "headers.x-beta"),
        ("inside", "paths"),
        ("users", "paths"),
        ("query", "query.page"),
    ] {
        assert!(said.contains(&expected), "{expected:?} not in {said:?}");
    }
    assert_eq!(told["request"]["client"], "127.0.0.1");
    assert_eq!(
        told["upstreams"][0]["endpoints"].as_array().map(Vec::len),
        Some(3)
    );
}

#[test]
fn the_command_line_tells_it_in_words() {
    let bench = bench();
    let text = bench
        .gateway
        .cli(&["explain", "GET", "http://x.test/v1", "-H", "X-Beta: yes"])
        .expect(0)
        .stdout;
    for expected in [
        "GET x.test/v1 on listener web from 127.0.0.1",
        "route beta: chosen",
        "route api: hosts does not match",
        "upstream fewest (least_connections)",
        "passed over: a backup, and others can",
        "picked",
    ] {
        assert!(text.contains(expected), "{expected:?} not in:\n{text}");
    }
    let text = bench.gateway.cli(&["explain", "GET", "/off"]).expect(0).stdout;
    assert!(
        text.contains("its weight is 0") && text.contains("503 no_endpoint"),
        "{text}"
    );
}

#[test]
fn a_question_without_sense_is_told_what_is_wrong_with_it() {
    let bench = bench();
    for (query, expected) in [
        ("url=nonsense", "begins with http"),
        ("url=%2F&header=X", "Name: value"),
        ("url=%2F&header=X%3A%20a%0D%0Ab", "control character"),
        ("url=%2F&listener=nobody", "no listener"),
        ("url=%2F&client=me", "client cannot be"),
        ("url=%2F&colour=red", "no parameter"),
    ] {
        let answer = bench.gateway.admin_get(&format!("/api/v1/explain?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(answer.text().contains(expected), "{query}: {}", answer.text());
    }
    assert_eq!(
        bench.gateway.admin_get("/api/v1/explain?url=%2F&worker=9").status,
        503
    );
}

#[test]
fn who_starts_slowly_is_told_with_its_weight_of_now() {
    let bench = bench();
    let told = bench.gateway.admin_get("/api/v1/explain?url=%2Ftimed").json();
    let endpoints = told["upstreams"][0]["endpoints"].as_array().expect("endpoints");
    let weights = |key: &str| -> Vec<f64> { endpoints.iter().filter_map(|e| e[key].as_f64()).collect() };
    assert_eq!(weights("weight"), [1.0, 2.0, 1.0], "{told:#}");
    assert_eq!(weights("weight_now"), [0.1, 0.2, 0.1], "{told:#}");
    let text = bench.gateway.cli(&["explain", "GET", "/timed"]).expect(0).stdout;
    assert!(text.contains("weight 2 (0.20 now: it starts slowly)"), "{text}");
}

#[test]
fn while_the_first_verdict_is_waited_for_that_is_told_and_nobody_is_picked() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| Reply::ok("ok").held_by(&held));
    let config = format!("{}health = {{ timeout = \"60s\" }}\n", crate::PLAIN);
    let gateway = gateway(&config).with("app", backend.address()).start();
    gate.reached();
    // Whether it is still waited for or has been for long enough, all say the same of it.
    eventually("requests are sent all the same", || {
        let choice = gateway.admin_get("/api/v1/explain?url=%2F").json()["upstreams"][0].clone();
        let waits = choice["awaits_verdict"] == true;
        assert_eq!(choice["fail_open"] == true, !waits, "{choice}");
        assert_eq!(choice["pick"].is_null(), waits, "{choice}");
        !waits
    });
    let upstream = gateway.admin_get("/api/v1/upstreams/app").json();
    assert_eq!(upstream["fail_open"], true, "{upstream}");
    gate.open();
}
