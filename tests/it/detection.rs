//! How fast a server that dies or stands still is noticed, and what that costs. The times are the gateway's own; a busy
//! machine makes them longer, so that they are held to several times the goal, which is still far from what they would
//! be without the mechanism. `benches/failover` publishes them.

use crate::app_server::Server;
use crate::gateway;
use jiff::Timestamp;
use serde_json::Value;
use std::time::{Duration, Instant};
use testkit::{Gateway, Load, eventually, eventually_some};

const CONFIG: &str = r#"
[runtime]
workers = 2
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
timeouts = { connect = "500ms", response = "@response@" }
[upstreams.app]
endpoints = [@list@]
@rules@
[admin]
address = "127.0.0.1:0"
"#;

fn in_front_of(servers: &[Server], response: &str, rules: &str) -> Gateway {
    let list: Vec<String> = servers.iter().map(|s| format!("\"{}\"", s.address())).collect();
    gateway(CONFIG)
        .with("list", list.join(", "))
        .with("response", response)
        .with("rules", rules)
        .start()
}

#[track_caller]
fn becomes(gateway: &Gateway, server: &Server, state: &str) -> Value {
    eventually_some(&format!("{} is {state}", server.address()), || {
        let endpoint = gateway.endpoint(&server.address());
        (endpoint["state"] == state).then_some(endpoint)
    })
}

/// What the history says of how the server left: the first time, in milliseconds.
#[track_caller]
fn detection(gateway: &Gateway, server: &Server, to: &str) -> Duration {
    let address = server.address().to_string();
    let ms = eventually_some("it is in the history", || {
        let history = gateway.admin_get("/api/v1/clustering/failover/history").json();
        let entries = history["history"].as_array()?;
        let left = entries
            .iter()
            .find(|e| e["address"] == address.as_str() && e["to"] == to)?;
        left["detection_ms"].as_f64()
    });
    Duration::from_secs_f64(ms / 1000.0)
}

/// A line for `benches/failover`: how long it took from the first sign, and from the signal to the server.
fn publish(what: &str, detection: Duration, signalled: Timestamp, verdict: &Value) {
    let at: Timestamp = verdict.as_str().and_then(|at| at.parse().ok()).expect("a moment");
    let all = at.duration_since(signalled).as_millis();
    eprintln!("figure: {what}: {} ms, {all} ms", detection.as_millis());
}

#[test]
fn killing_one_of_three_under_load_fails_no_request_that_may_be_repeated() {
    const GOAL: Duration = Duration::from_millis(50);
    let mut servers: Vec<Server> = ["a", "b", "c"].map(Server::start).into();
    let rules = "outlier = { eject = \"500ms\" }\nslow_start = \"4s\"";
    let gateway = in_front_of(&servers, "5s", rules);
    let load = Load::get(gateway.web(), 8, "/whoami");
    eventually("load runs", || load.done() > 500);
    let signalled = Timestamp::now();
    servers[0].kill();
    let took = detection(&gateway, &servers[0], "ejected");
    let ejected = gateway.endpoint(&servers[0].address())["last_ejection"].clone();
    publish("kill -9 under load", took, signalled, &ejected["since"]);
    // Without ejection in the workers it would be up to the looks at error rates: the window fills, or nothing comes.
    assert!(took <= 10 * GOAL, "{took:?}");
    let done = load.done();
    eventually("load goes on", || load.done() > done + 500);

    servers[0].restart();
    let labels = [
        &*format!("endpoint=\"{}\"", servers[0].address()),
        "code_class=\"2xx\"",
    ];
    let served = || gateway.metric("tidegate_upstream_responses_total", &labels);
    let before = served();
    eventually("it is back", || served() > before);
    let weight = |server: &Server| gateway.endpoint(&server.address())["weight_now"].as_f64();
    let (back, other) = (weight(&servers[0]), weight(&servers[1]));
    assert!(back < other, "it starts slowly: {back:?}, {other:?}");
    eventually("it gets its part", || served() > before + 50.0);
    load.stop().expect_flawless();
}

#[test]
fn an_idle_server_that_is_killed_is_out_long_before_its_next_probe() {
    const GOAL: Duration = Duration::from_secs(1);
    let mut servers: Vec<Server> = ["a", "b"].map(Server::start).into();
    let rules =
        "health = { interval = \"5m\", jitter = 0.0, fast_interval = \"200ms\", timeout = \"1s\", fall = 3 }";
    let gateway = in_front_of(&servers, "5s", rules);
    for server in &servers {
        becomes(&gateway, server, "active");
    }
    let signalled = Timestamp::now();
    servers[0].kill();
    let down = becomes(&gateway, &servers[0], "unhealthy");
    assert_eq!(down["health"]["reason"], "no connection: connection refused");
    let took = detection(&gateway, &servers[0], "unhealthy");
    publish("kill -9 idle", took, signalled, &down["health"]["since"]);
    assert!(took <= 5 * GOAL, "{took:?}");

    servers[0].restart();
    becomes(&gateway, &servers[0], "active");
}

#[test]
fn a_server_that_accepts_and_never_answers_is_out_in_time_and_back_when_it_goes_on() {
    const FALL: u32 = 4;
    const INTERVAL: Duration = Duration::from_secs(2);
    const TIMEOUT: Duration = Duration::from_millis(100);
    // From the first probe that fails on: the interval before it has passed already.
    const GOAL: Duration = Duration::from_millis(4 * 100 + 100);
    let servers: Vec<Server> = ["a", "b"].map(Server::start).into();
    let rules = "health = { interval = \"2s\", jitter = 0.0, timeout = \"100ms\", fall = 4, rise = 1 }";
    let gateway = in_front_of(&servers, "5s", rules);
    for server in &servers {
        becomes(&gateway, server, "active");
    }
    let signalled = Timestamp::now();
    servers[0].pause();
    let down = becomes(&gateway, &servers[0], "unhealthy");
    assert_eq!(down["health"]["last_results"][0]["cause"], "timeout", "{down}");
    let took = detection(&gateway, &servers[0], "unhealthy");
    publish("SIGSTOP idle", took, signalled, &down["health"]["since"]);
    // Probes that came no faster after the first failure would need three more intervals.
    assert!(took >= (FALL - 1) * TIMEOUT && took <= 5 * GOAL, "{took:?}");
    assert!(5 * GOAL < (FALL - 1) * INTERVAL, "or it would tell nothing");
    for _ in 0..4 {
        gateway.get("/whoami").expect(200, None);
    }
    servers[0].go_on();
    becomes(&gateway, &servers[0], "active");
}

#[test]
fn a_process_that_stands_still_costs_each_request_its_deadline_until_it_is_ejected() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let servers: Vec<Server> = ["a", "b"].map(Server::start).into();
    let rules = "outlier = { consecutive_failures = 2, eject = \"60s\" }";
    let gateway = in_front_of(&servers, "300ms", rules);
    let signalled = Timestamp::now();
    servers[0].pause();
    let mut slow = 0;
    eventually("it is ejected", || {
        let begun = Instant::now();
        gateway.get("/whoami").expect(200, None);
        slow += u32::from(begun.elapsed() >= DEADLINE);
        gateway.endpoint(&servers[0].address())["state"] == "ejected"
    });
    assert!(slow >= 2, "those that failed there");
    let took = detection(&gateway, &servers[0], "ejected");
    let ejected = gateway.endpoint(&servers[0].address())["last_ejection"].clone();
    publish(
        "SIGSTOP, one request after another",
        took,
        signalled,
        &ejected["since"],
    );
    let labels = [&*format!("endpoint=\"{}\"", servers[0].address())];
    let picks = || gateway.metric("tidegate_lb_picks_total", &labels);
    for _ in 0..10 {
        gateway.get("/whoami").expect(200, None);
    }
    assert_eq!(picks(), 2.0, "it is left alone");
}
