//! Tunnels that are moved to an endpoint that was added, or came back.

use crate::gateway;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::gateway::Sig;
use testkit::ws::{self, Client};
use testkit::{Backend, Gateway, eventually, holds_for};

const CONFIG: &str = r#"
[runtime]
workers = @workers@
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
websocket = { inspect = true }
[[routes]]
paths = ["/opaque"]
upstream = "app"
[upstreams.app]
balance = "least_connections"
endpoints = [@list@]
@rules@
[log]
access = { path = "access.log", format = "json" }
[admin]
address = "127.0.0.1:0"
tokens = [{ name = "ops", role = "operator", token = "env:OPERATOR" }]
"#;

const OPERATOR: &str = "operator-operator-operator";

struct Scene {
    gateway: Gateway,
    config: String,
}

impl Scene {
    fn new(workers: usize, rules: &str, backends: &[&Backend]) -> Self {
        let config = CONFIG
            .replace("@workers@", &workers.to_string())
            .replace("@rules@", rules);
        let gateway = gateway(&config)
            .env("OPERATOR", OPERATOR)
            .token(OPERATOR)
            .with("list", Backend::list(backends))
            .start();
        Self { gateway, config }
    }

    fn connect(&self, count: usize, target: &str) -> Vec<Client> {
        (0..count)
            .map(|_| Client::connect(self.gateway.connect(), target))
            .collect()
    }

    fn endpoints(&self, backends: &[&Backend]) {
        self.gateway
            .reload(&self.config.replace("@list@", &Backend::list(backends)));
    }

    fn tell(&self, backend: &Backend, state: &str) {
        let path = format!("/api/v1/upstreams/app/endpoints/{}", backend.address());
        let wish = json!({ "state": state }).to_string();
        let answer = self.gateway.admin_call("PUT", &path, "", &wish);
        assert_eq!(answer.status, 200, "{answer}");
    }

    fn tunnels_at(&self, backend: &Backend) -> u64 {
        let shown = self.gateway.endpoint(&backend.address());
        shown["open_websockets"].as_u64().unwrap_or(0)
    }

    fn round(&self) -> Value {
        self.gateway.stats()["upstreams"][0]["rebalance"].clone()
    }

    fn closed(&self) -> f64 {
        self.gateway
            .metric("tidegate_ws_closed_total", &["reason=\"rebalance\""])
    }
}

/// Whether a client was told to go; he says goodbye too.
fn told_to_go(client: &mut Client) -> bool {
    if client.conn.is_quiet() {
        return false;
    }
    let (opcode, payload) = ws::read_frame(&mut client.conn).expect("a frame");
    assert_eq!((opcode, payload), (ws::CLOSE, 1012_u16.to_be_bytes().to_vec()));
    let goodbye = ws::frame(ws::CLOSE, &1012_u16.to_be_bytes(), true);
    let _ = client.conn.try_send(goodbye);
    true
}

#[test]
fn an_endpoint_that_is_added_gets_the_newest_of_the_surplus_at_the_set_rate() {
    const TUNNELS: usize = 40;
    // Of 40, half is an endpoint's share, and a fifth more may stay.
    const MOVED: usize = TUNNELS - 24;
    let (a, b) = (ws::echo_backend(), ws::echo_backend());
    let scene = Scene::new(1, "rebalance = { rate = 10, threshold = 0.2 }", &[&a]);
    let mut clients = scene.connect(TUNNELS, "/");
    assert_eq!(scene.round(), Value::Null);
    scene.endpoints(&[&a, &b]);
    let mut begun = None;
    let mut shown = Value::Null;
    let (mut back, mut gone) = (Vec::new(), Vec::new());
    let patience = Instant::now() + testkit::patience();
    while gone.len() < MOVED {
        assert!(Instant::now() < patience, "{gone:?} have gone");
        for (number, client) in clients.iter_mut().enumerate() {
            if !gone.contains(&number) && told_to_go(client) {
                gone.push(number);
                back.extend(scene.connect(1, "/"));
            }
        }
        let begun = *begun.get_or_insert_with(Instant::now);
        let most = 10.0 * begun.elapsed().as_secs_f64() + 6.0;
        assert!(gone.len() as f64 <= most, "{gone:?} after {:?}", begun.elapsed());
        if !gone.is_empty() && shown.is_null() {
            shown = scene.round();
            let surplus = scene.gateway.metric("tidegate_upstream_rebalance_surplus", &[]);
            assert!(surplus <= MOVED as f64, "{surplus}");
        }
    }
    assert_eq!(
        (&shown["at_start"], &shown["rate"]),
        (&40.into(), &10.into()),
        "{shown}"
    );
    assert!(shown["asked"].as_u64() > Some(0), "{shown}");
    assert!(
        shown["estimated_end"].is_string() && shown["since"].is_string(),
        "{shown}"
    );
    gone.sort_unstable();
    assert_eq!(
        gone,
        (24..TUNNELS).collect::<Vec<_>>(),
        "the newest, and no others"
    );
    holds_for(Duration::from_secs(1), "nobody else is asked", || {
        let stay = clients[..24].iter_mut().chain(&mut back);
        stay.into_iter().all(|client| client.conn.is_quiet())
    });
    for client in clients[..24].iter_mut().chain(&mut back) {
        client.echo("here");
    }
    assert_eq!((scene.tunnels_at(&a), scene.tunnels_at(&b)), (24, 16));
    assert_eq!(scene.closed(), MOVED as f64);
    eventually("the round is over, and says so", || {
        scene.round().is_null() && scene.gateway.events("upstream.rebalanced").len() == 1
    });
    assert_eq!(scene.gateway.events("upstream.rebalance_began").len(), 1);
    let record = scene
        .gateway
        .access_log()
        .into_iter()
        .find(|record| record["close"] == "rebalance");
    let record = record.expect("a record");
    assert_eq!(record["close_code"], 1012, "{record}");
}

#[test]
fn one_that_comes_back_gets_its_share_over_all_workers_and_an_opaque_tunnel_is_just_ended() {
    let (a, b) = (ws::echo_backend(), ws::echo_backend());
    let scene = Scene::new(2, "rebalance = { rate = 100, threshold = 0.1 }", &[&a, &b]);
    scene.tell(&b, "maintenance");
    let mut clients = scene.connect(20, "/opaque");
    eventually("all are there", || scene.tunnels_at(&a) == 20);
    // It is seen to be away before it is back.
    testkit::pace(Duration::from_millis(1500));
    scene.tell(&b, "active");
    // Of 20, a tenth above half is 11.
    eventually("the surplus is asked", || {
        clients.retain_mut(|client| {
            let quiet = client.conn.is_quiet();
            if !quiet {
                client.conn.expect_end();
            }
            quiet
        });
        clients.len() <= 11
    });
    assert_eq!(clients.len(), 11);
    holds_for(Duration::from_millis(700), "the others stay", || {
        clients.iter_mut().all(|client| client.conn.is_quiet())
    });
}

#[test]
fn who_would_come_back_to_the_same_endpoint_is_not_asked() {
    for rules in [
        "rebalance = {}\nsticky = { cookie = \"place\" }",
        "rebalance = {}\nsticky = { hash = \"client_ip\" }",
        // And who was not told to move anybody moves nobody.
        "",
    ] {
        let (a, b) = (ws::echo_backend(), ws::echo_backend());
        let scene = Scene::new(1, rules, &[&a]);
        let mut clients = scene.connect(12, "/");
        scene.endpoints(&[&a, &b]);
        holds_for(Duration::from_millis(2500), "all stay", || {
            clients.iter_mut().all(|client| client.conn.is_quiet())
        });
        assert_eq!(scene.closed(), 0.0, "{rules}");
        scene.gateway.signal(Sig::TERM);
    }
}
