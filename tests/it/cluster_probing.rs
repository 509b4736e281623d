//! Probes that gateways make for each other, over a real Redis: how many there are, who makes them, and that whatever
//! happens everybody looks for itself.

use crate::app_server::Server;
use crate::cluster_kit::{await_bus, await_members};
use crate::gateway;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use testkit::gateway::Sig;
use testkit::redis::{self, Redis};
use testkit::{Address, Backend, Gateway, Reply, eventually, eventually_some, holds_for, pace};

const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = ["@app@"]
health = { path = "/whoami", interval = "200ms", jitter = 0.0, timeout = "1s", fall = 3, share = @share@ }
[cluster]
redis = "@redis@"
node = "@node@"
heartbeat = "200ms"
gone_after = "2s"
"#;

const NODES: [&str; 5] = ["gw-1", "gw-2", "gw-3", "gw-4", "gw-5"];
const INTERVAL: Duration = Duration::from_millis(200);

/// A server that breaks requests for `/reset`.
fn server() -> Backend {
    Backend::http(|request| match request.target.as_str() {
        "/reset" => Reply::reset(),
        _ => Reply::ok("app"),
    })
}

struct Scene {
    redis: Redis,
    app: Address,
    gateways: Vec<Gateway>,
}

impl Scene {
    /// So many gateways in front of one server; `None` where there is no Redis to test with.
    fn of(count: usize, share: bool, app: Address) -> Option<Self> {
        if !redis::installed() {
            return None;
        }
        let mut scene = Self {
            redis: Redis::start(),
            app,
            gateways: Vec::new(),
        };
        for node in &NODES[..count] {
            let gateway = scene.node(node, share);
            scene.gateways.push(gateway);
        }
        for gateway in &scene.gateways {
            await_members(gateway, &NODES[..count]);
        }
        Some(scene)
    }

    fn node(&self, node: &str, share: bool) -> Gateway {
        gateway(CONFIG)
            .with("app", &self.app)
            .with("share", share)
            .with("redis", self.redis.url())
            .with("node", node)
            .start()
    }

    /// Who of those that are there probes.
    fn probers(&self) -> Vec<usize> {
        let here = |gateway: &Gateway| probing(gateway)["here"] == true;
        (0..self.gateways.len())
            .filter(|n| here(&self.gateways[*n]))
            .collect()
    }

    /// Waits until all is quiet: two probe, and everybody knows which.
    #[track_caller]
    fn settles(&self) -> Vec<usize> {
        eventually("two of them probe", || self.probers().len() == 2);
        let chosen = self.probers();
        let names: Vec<&str> = chosen.iter().map(|n| NODES[*n]).collect();
        for gateway in &self.gateways {
            eventually("everybody knows which", || {
                let mut by: Vec<String> =
                    serde_json::from_value(probing(gateway)["by"].clone()).expect("names");
                by.sort();
                by == names
            });
        }
        chosen
    }

    fn all_probe(&self) {
        eventually("all of them probe", || {
            self.probers().len() == self.gateways.len()
        });
    }
}

/// Requests for this that reached the server.
fn asked(server: &Backend, path: &str) -> usize {
    let requests = server.requests();
    requests.iter().filter(|request| request.target == path).count()
}

/// Probes that reach the server within so many intervals.
fn probes_in(server: &Backend, intervals: u32) -> usize {
    let before = asked(server, "/whoami");
    pace(INTERVAL * intervals);
    asked(server, "/whoami") - before
}

/// What a gateway says of who probes the one endpoint.
fn probing(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/clustering/verdicts").json()["probing"][0].clone()
}

fn probes_made(gateway: &Gateway) -> f64 {
    gateway.metric("tidegate_health_probes_total", &["result=\"passed\""])
}

fn probes_skipped(gateway: &Gateway) -> f64 {
    gateway.metric("tidegate_health_probes_skipped_total", &[])
}

#[test]
fn a_server_gets_about_as_many_probes_from_five_gateways_as_from_two() {
    const INTERVALS: u32 = 15;
    let app = server();
    let Some(scene) = Scene::of(1, true, app.address()) else {
        return;
    };
    let alone = probes_in(&app, INTERVALS);
    assert!(alone <= INTERVALS as usize + 2, "{alone}");
    drop(scene);
    for count in [3, 5] {
        let Some(scene) = Scene::of(count, true, app.address()) else {
            return;
        };
        let chosen = scene.settles();
        let resting = || {
            let all = (0..count).filter(|n| !chosen.contains(n));
            all.map(|n| probes_made(&scene.gateways[n])).collect::<Vec<_>>()
        };
        // On a busy machine one is late now and then, and then all of them look.
        let probes = eventually_some("all is quiet for a while", || {
            let before = resting();
            let probes = probes_in(&app, INTERVALS);
            (resting() == before).then_some(probes)
        });
        // A busy machine makes fewer, and never more.
        assert!(probes <= 2 * INTERVALS as usize + 3, "{count} gateways: {probes}");
        assert!(probes > INTERVALS as usize / 3, "{count} gateways: {probes}");
        assert_eq!(scene.settles(), chosen, "nobody takes turns without need");
        for (n, gateway) in scene.gateways.iter().enumerate() {
            let (made, skipped) = (probes_made(gateway), probes_skipped(gateway));
            let rests = !chosen.contains(&n);
            assert_eq!(
                skipped > 0.0,
                rests,
                "{}: {made} made, {skipped} skipped",
                NODES[n]
            );
            let endpoint = gateway.endpoint(&scene.app);
            assert_eq!(endpoint["state"], "active");
            assert!(endpoint["health"]["probes_skipped"].as_u64() >= Some(skipped as u64));
        }
    }
}

#[test]
fn without_the_key_everybody_probes() {
    let app = server();
    let Some(scene) = Scene::of(3, false, app.address()) else {
        return;
    };
    let probing = scene.gateways[0].admin_get("/api/v1/clustering/verdicts").json()["probing"].clone();
    assert_eq!(probing, serde_json::json!([]));
    let made = |gateway: &Gateway| probes_made(gateway);
    let before: Vec<f64> = scene.gateways.iter().map(made).collect();
    eventually("each probes", || {
        let all = scene.gateways.iter().zip(&before);
        all.into_iter()
            .all(|(gateway, before)| made(gateway) >= before + 20.0)
    });
    assert!(
        scene
            .gateways
            .iter()
            .all(|gateway| probes_skipped(gateway) == 0.0)
    );
}

#[test]
fn when_one_who_probes_is_killed_all_do_until_two_others_are_agreed_on() {
    let app = server();
    let Some(mut scene) = Scene::of(4, true, app.address()) else {
        return;
    };
    let chosen = scene.settles();
    let dead = scene.gateways.remove(chosen[0]);
    let left: Vec<&str> = NODES[..4]
        .iter()
        .filter(|name| **name != NODES[chosen[0]])
        .copied()
        .collect();
    dead.signal(Sig::KILL);
    let made: Vec<f64> = scene.gateways.iter().map(probes_made).collect();
    eventually("all look for themselves", || {
        let all = scene.gateways.iter().zip(&made);
        all.into_iter()
            .all(|(gateway, before)| probes_made(gateway) > *before)
    });
    for gateway in &scene.gateways {
        await_members(gateway, &left);
    }
    eventually("two of them probe", || scene.probers().len() == 2);
    for gateway in &scene.gateways {
        assert_eq!(gateway.endpoint(&scene.app)["state"], "active");
        assert!(gateway.events("endpoint.unhealthy").is_empty());
    }
    drop(dead);
}

#[test]
fn when_the_server_dies_those_who_rested_see_it_themselves_and_at_once() {
    let mut app = Server::start("app");
    let Some(scene) = Scene::of(4, true, app.address()) else {
        return;
    };
    let chosen = scene.settles();
    app.kill();
    let mut decided: Vec<Timestamp> = Vec::new();
    for (n, gateway) in scene.gateways.iter().enumerate() {
        let event = eventually_some("it is out", || gateway.events("endpoint.unhealthy").pop());
        assert_eq!(event["data"]["trigger"], "active", "by its own eyes: {event}");
        decided.push(event["ts"].as_str().and_then(|at| at.parse().ok()).expect("ts"));
        let what = format!("{} of {chosen:?} probes", NODES[n]);
        eventually(&what, || probing(gateway)["here"] == true);
    }
    decided.sort_unstable();
    let spread = decided[3].duration_since(decided[0]);
    // Ten times the goal. Those who only wait for the others' word to become old take two seconds and more.
    assert!(spread.as_millis() <= 1_000, "{spread:?}");
    // As long as it is down all of them look for it to come back.
    holds_for(Duration::from_millis(1500), "nobody rests", || {
        scene.probers().len() == 4
    });
    app.restart();
    for gateway in &scene.gateways {
        eventually("it is back", || gateway.endpoint(&scene.app)["state"] == "active");
    }
    scene.settles();
}

#[test]
fn while_redis_is_away_everybody_probes_and_nobody_else_does_it_for_them() {
    let app = server();
    let Some(mut scene) = Scene::of(3, true, app.address()) else {
        return;
    };
    scene.settles();
    scene.redis.kill();
    scene.all_probe();
    assert!(
        scene
            .gateways
            .iter()
            .all(|gateway| probing(gateway)["why"] == "apart")
    );
    let skipped: Vec<f64> = scene.gateways.iter().map(probes_skipped).collect();
    pace(INTERVAL * 5);
    assert_eq!(
        scene.gateways.iter().map(probes_skipped).collect::<Vec<_>>(),
        skipped
    );
    scene.redis.start_again();
    for gateway in &scene.gateways {
        await_bus(gateway, "live");
    }
    scene.settles();
    // Paused it is no other.
    scene.redis.pause();
    scene.all_probe();
    scene.redis.resume();
    scene.settles();
}

#[test]
fn one_that_fails_requests_is_probed_by_whom_they_fail() {
    let app = server();
    let Some(scene) = Scene::of(3, true, app.address()) else {
        return;
    };
    let chosen = scene.settles();
    let resting = (0..3).find(|n| !chosen.contains(n)).expect("one rests");
    let gateway = &scene.gateways[resting];
    assert_eq!(gateway.get("/reset").status, 502);
    eventually("it looks for itself", || {
        let told = probing(gateway);
        told["here"] == true && told["why"] == "unwell"
    });
    assert_eq!(gateway.get("/").status, 200);
    scene.settles();
}

#[test]
fn gateways_that_ask_another_question_do_not_answer_for_each_other() {
    let app = server();
    let Some(mut scene) = Scene::of(2, true, app.address()) else {
        return;
    };
    let other = gateway(&CONFIG.replace("/whoami", "/ready"))
        .with("app", &scene.app)
        .with("share", true)
        .with("redis", scene.redis.url())
        .with("node", NODES[2])
        .start();
    scene.gateways.push(other);
    for gateway in &scene.gateways {
        await_members(gateway, &NODES[..3]);
    }
    let begin = asked(&app, "/ready");
    eventually("it asks its own", || asked(&app, "/ready") > begin + 20);
    assert_eq!(scene.probers().len(), 3);
    assert!(
        scene
            .gateways
            .iter()
            .all(|gateway| probes_skipped(gateway) == 0.0)
    );
}
