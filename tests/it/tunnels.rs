//! Open tunnels by API and command line: who is there, and closing them.

use crate::gateway;
use serde_json::{Value, json};
use testkit::ws::{self, Client};
use testkit::{Backend, Conn, Gateway, eventually};

const OPERATOR: &str = "operator-operator-operator";
const VIEWER: &str = "viewer-viewer-viewer-viewer";

const CONFIG: &str = r#"
[runtime]
workers = 2
[listeners.web]
address = "127.0.0.1:0"
trusted_proxies = ["127.0.0.0/8"]
[[routes]]
name = "chat"
paths = ["/chat"]
upstream = "app"
websocket = { inspect = true }
[[routes]]
name = "feed"
upstream = "app"
[upstreams.app]
endpoints = ["@app@"]
[log]
access = { path = "access.log", format = "json" }
[admin]
address = "127.0.0.1:0"
tokens = [
  { name = "ops", role = "operator", token = "env:OPERATOR" },
  { name = "eve", role = "viewer", token = "env:VIEWER" },
]
"#;

fn scene() -> (Backend, Gateway) {
    let backend = ws::echo_backend();
    let gateway = gateway(CONFIG)
        .env("OPERATOR", OPERATOR)
        .env("VIEWER", VIEWER)
        .token(OPERATOR)
        .with("app", backend.address())
        .start();
    (backend, gateway)
}

/// A client at this address, as a trusted proxy says.
fn client(gateway: &Gateway, target: &str, ip: &str) -> Client {
    let mut conn = gateway.connect();
    let answer = conn
        .send(ws::handshake(target, &format!("X-Forwarded-For: {ip}\r\n")))
        .response();
    assert_eq!(answer.status, 101, "{answer}");
    let mut client = Client { conn, answer };
    client.echo("hello");
    client
}

fn list(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.admin_get(&format!("/api/v1/tunnels{query}")).json();
    page["tunnels"].as_array().cloned().unwrap_or_default()
}

fn close_code(conn: &mut Conn) -> u16 {
    let (opcode, payload) = ws::read_frame(conn).expect("a frame");
    assert_eq!(opcode, ws::CLOSE);
    u16::from_be_bytes([payload[0], payload[1]])
}

#[test]
fn open_tunnels_are_told_with_who_where_how_long_and_how_much() {
    let (backend, gateway) = scene();
    assert!(list(&gateway, "").is_empty());
    let mut chat = client(&gateway, "/chat", "203.0.113.9");
    let _feed = client(&gateway, "/feed", "203.0.113.77");
    let all = list(&gateway, "");
    assert_eq!(all.len(), 2, "{all:?}");
    let told = &list(&gateway, "?route=chat")[0];
    for (key, value) in [
        ("kind", json!("websocket")),
        ("route", json!("chat")),
        ("listener", json!("web")),
        ("upstream", json!("app")),
        ("endpoint", json!(backend.address().to_string())),
        ("client", json!("203.0.113.9")),
        ("messages_received", json!(1)),
        ("messages_sent", json!(1)),
        ("leaving", Value::Null),
    ] {
        assert_eq!(told[key], value, "{key}: {told}");
    }
    assert!(told["age_seconds"].as_f64() > Some(0.0) && told["bytes_received"].as_u64() > Some(10));
    assert_eq!(list(&gateway, "?route=feed")[0]["messages_sent"], Value::Null);
    assert_eq!(list(&gateway, "?client=203.0.113.0/26").len(), 1);
    assert_eq!(list(&gateway, "?client=203.0.113.0/24&upstream=app").len(), 2);
    assert_eq!(list(&gateway, "?endpoint=none").len(), 0);
    let id = told["id"].as_u64().unwrap();
    let one = gateway.admin_get(&format!("/api/v1/tunnels/{id}"));
    assert_eq!((one.status, &one.json()["id"]), (200, &json!(id)));
    assert_eq!(gateway.admin_get("/api/v1/tunnels/999999").status, 404);
    assert_eq!(gateway.admin_get("/api/v1/tunnels/none").status, 404);
    assert_eq!(gateway.admin_get("/api/v1/tunnels?client=nobody").status, 400);
    chat.echo("still here");
}

#[test]
fn pages_together_are_all_tunnels() {
    let (_backend, gateway) = scene();
    let clients: Vec<Client> = (0..7).map(|_| client(&gateway, "/feed", "203.0.113.1")).collect();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gateway
            .admin_get(&format!("/api/v1/tunnels?limit=3{cursor}"))
            .json();
        seen.extend(
            page["tunnels"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t["id"].as_u64()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), clients.len(), "{seen:?}");
}

#[test]
fn a_tunnel_is_closed_by_number_client_or_route_and_nobody_else_is() {
    let (_backend, gateway) = scene();
    let mut kept = client(&gateway, "/chat", "203.0.113.1");
    let mut one = client(&gateway, "/chat", "203.0.113.2");
    let mut abuser = client(&gateway, "/chat", "198.51.100.3");
    let mut feed = client(&gateway, "/feed", "203.0.113.4");
    let id = list(&gateway, "?client=203.0.113.2")[0]["id"].clone();
    let delete = |query: &str| {
        let path = format!("/api/v1/tunnels/{id}{query}");
        gateway.admin_call("DELETE", &path, "", "")
    };
    assert_eq!(delete("?dry_run=true").json()["tunnels"], 1);
    one.echo("still here");
    assert_eq!(delete("").json()["tunnels"], 1);
    assert_eq!(close_code(&mut one.conn), 1001);
    one.conn.send(ws::frame(ws::CLOSE, &1001_u16.to_be_bytes(), true));
    one.conn.expect_end();
    eventually("it is gone", || list(&gateway, "?client=203.0.113.2").is_empty());
    assert_eq!(delete("").status, 404);

    let close = |body: &Value| gateway.admin_call("POST", "/api/v1/tunnels/close", "", &body.to_string());
    let answer = close(&json!({ "client": "198.51.100.0/24", "code": 1008, "reason": "abuse" }));
    assert_eq!(answer.json()["tunnels"], 1, "{answer}");
    assert_eq!(close_code(&mut abuser.conn), 1008);
    drop(abuser);
    // Without frames there is nothing to say but the end.
    assert_eq!(close(&json!({ "route": "feed" })).json()["tunnels"], 1);
    feed.conn.expect_end();
    drop(feed);
    kept.echo("still here");
    eventually("they are counted", || {
        gateway.metric("tidegate_ws_closed_total", &["reason=\"kicked\""]) == 3.0
    });
    let record = gateway.access_record("/feed");
    assert_eq!(
        (&record["close"], &record["ended"]),
        (&json!("kicked"), &json!("gateway")),
        "{record}"
    );

    let audit = gateway.admin_get("/api/v1/audit").json();
    let kicked = audit["audit"]
        .as_array()
        .or_else(|| audit["entries"].as_array())
        .unwrap()
        .iter();
    let abuse = kicked
        .clone()
        .find(|entry| entry["reason"] == "abuse")
        .expect("an entry");
    assert_eq!(
        (
            &abuse["action"],
            &abuse["actor"],
            &abuse["target"],
            &abuse["wish"]
        ),
        (
            &json!("tunnels.close"),
            &json!("token ops"),
            &json!("client 198.51.100.0/24"),
            &json!("1 closed with 1008")
        ),
        "{abuse}"
    );
    assert!(!gateway.events("tunnels.closed").is_empty());
}

#[test]
fn who_may_not_or_does_not_say_which_closes_nothing() {
    let (_backend, gateway) = scene();
    let mut client = client(&gateway, "/chat", "203.0.113.1");
    let viewer = format!("Authorization: Bearer {VIEWER}\r\n");
    let id = list(&gateway, "")[0]["id"].clone();
    let path = format!("/api/v1/tunnels/{id}");
    assert_eq!(gateway.admin_call("DELETE", &path, &viewer, "").status, 403);
    let close = |headers: &str, body: &str| {
        gateway
            .admin_call("POST", "/api/v1/tunnels/close", headers, body)
            .status
    };
    assert_eq!(close(&viewer, "{\"route\":\"chat\"}"), 403);
    assert_eq!(close("", "{}"), 422);
    assert_eq!(close("", "{\"route\":\"chat\",\"code\":1005}"), 422);
    assert_eq!(close("", "{\"client\":\"x\"}"), 400);
    assert_eq!(close("", "{\"rout\":\"chat\"}"), 400);
    assert_eq!(
        gateway.admin_call("GET", "/api/v1/tunnels", &viewer, "").status,
        200
    );
    client.echo("still here");
}

#[test]
fn the_command_lists_and_closes() {
    let (_backend, gateway) = scene();
    let mut chat = client(&gateway, "/chat", "203.0.113.1");
    let _feed = client(&gateway, "/feed", "203.0.113.2");
    let admin = format!("http://{}", gateway.admin());
    let ask = |args: &[&str]| gateway.cli(&[args, &["--admin", &admin, "--token", OPERATOR]].concat());
    let listed = ask(&["tunnels"]).expect(0);
    assert_eq!(listed.stdout.lines().count(), 3, "{}", listed.stdout);
    let chats = ask(&["tunnels", "--route", "chat"]).expect(0).stdout;
    assert!(
        chats.contains("203.0.113.1") && !chats.contains("203.0.113.2"),
        "{chats}"
    );
    let trial = ask(&["tunnels", "--route", "chat", "--close", "--dry-run"]).expect(0);
    assert!(
        trial.stdout.contains("1 tunnel would be closed"),
        "{}",
        trial.stdout
    );
    let closed = ask(&["tunnels", "--route", "chat", "--close", "--code", "1012"]).expect(0);
    assert!(closed.stdout.contains("1 tunnel closed"), "{}", closed.stdout);
    assert_eq!(close_code(&mut chat.conn), 1012);
    assert_ne!(ask(&["tunnels", "--close"]).code, Some(0));
}
