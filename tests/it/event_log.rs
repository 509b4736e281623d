//! The log of events: asked for with filters, and followed as server-sent events over gaps and restarts.

use crate::{PLAIN, gateway, in_front_of};
use serde_json::Value;
use testkit::{Backend, Conn, Gateway, eventually_some};

fn events(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.admin_get(&format!("/api/v1/events?{query}")).json();
    page["events"].as_array().expect("events").clone()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

/// One who follows the events.
pub struct Follower(Conn);

/// One frame: its fields by name; comments have none.
#[derive(Debug, Default)]
pub struct Frame {
    pub id: String,
    pub event: String,
    pub data: Value,
}

impl Follower {
    pub fn of(gateway: &Gateway, target: &str, headers: &str) -> Self {
        let mut conn = Conn::connect(gateway.admin());
        conn.send(format!("GET {target} HTTP/1.1\r\nHost: admin\r\n{headers}\r\n"));
        let head = String::from_utf8(conn.read_through(b"\r\n\r\n")).expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
        assert!(head.contains("no-store"), "{head}");
        Self(conn)
    }

    /// The next frame with data.
    pub fn next(&mut self) -> Frame {
        loop {
            // Chunks: a size line, the frame, an empty line. Frames of ours come one to a chunk.
            let size = String::from_utf8(self.0.read_through(b"\r\n")).expect("a size");
            let size = usize::from_str_radix(size.trim(), 16).expect("a size");
            let text = String::from_utf8(self.0.read(size)).expect("text");
            self.0.read(2);
            let mut frame = Frame::default();
            for line in text.lines() {
                match line.split_once(':') {
                    Some(("id", value)) => frame.id = value.trim().to_owned(),
                    Some(("event", value)) => frame.event = value.trim().to_owned(),
                    Some(("data", value)) => frame.data = serde_json::from_str(value).expect("JSON"),
                    _ => {}
                }
            }
            if !frame.data.is_null() {
                return frame;
            }
        }
    }
}

fn reload_with(gateway: &Gateway, n: usize) {
    gateway.reload(&format!(
        "{PLAIN}\n[[routes]]\nname = \"r{n}\"\npaths = [\"/{n}\"]\nupstream = \"app\"\n"
    ));
}

#[test]
fn events_are_found_by_type_severity_target_and_time() {
    let gateway = in_front_of(&Backend::text("hi"));
    reload_with(&gateway, 1);
    gateway.reload_refused("nonsense");
    // The watch may look once more, in vain.
    let mut config = events(&gateway, "type=config");
    config.retain(|event| event["type"] != "config.unchanged");
    assert_eq!(kinds(&config), ["config.applied", "config.rejected"]);
    let bad = events(&gateway, "type=config.*&severity=warning");
    assert_eq!(kinds(&bad), ["config.rejected"]);
    assert!(events(&gateway, "type=conf").is_empty(), "types end at a dot");
    let both = events(&gateway, "type=gateway,config.applied");
    assert_eq!(kinds(&both), ["gateway.ready", "config.applied"]);
    let at = bad[0]["ts"].as_str().expect("a time");
    assert!(events(&gateway, &format!("since={at}&type=config.rejected")).is_empty());
    assert!(!events(&gateway, "since=2026-01-01T00:00:00Z&type=config").is_empty());
    assert!(events(&gateway, "target=nothing").is_empty());
    for wrong in ["severity=loud", "since=yesterday", "limit=x", "typ=config"] {
        let answer = gateway.admin_get(&format!("/api/v1/events?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}: {answer}");
    }
}

#[test]
fn pages_of_a_filtered_list_are_the_whole_list() {
    let gateway = in_front_of(&Backend::text("hi"));
    (0..4).for_each(|n| reload_with(&gateway, n));
    let whole = events(&gateway, "type=config.applied");
    assert!(whole.len() >= 4, "{whole:?}");
    let (mut seen, mut cursor) = (Vec::new(), String::from("0"));
    loop {
        let page = gateway
            .admin_get(&format!(
                "/api/v1/events?type=config.applied&limit=1&cursor={cursor}"
            ))
            .json();
        let events = page["events"].as_array().expect("events");
        if events.is_empty() {
            break;
        }
        seen.extend(events.iter().cloned());
        cursor = page["next"].to_string();
    }
    assert_eq!(seen, whole);
}

#[test]
fn a_follower_sees_what_comes_and_goes_on_where_it_stopped() {
    let gateway = in_front_of(&Backend::text("hi"));
    let mut follower = Follower::of(&gateway, "/api/v1/events/stream?type=config.applied", "");
    reload_with(&gateway, 1);
    let first = follower.next();
    assert_eq!(first.data["type"], "config.applied", "{first:?}");
    drop(follower);
    reload_with(&gateway, 2);
    reload_with(&gateway, 3);
    let back = format!("Accept: text/event-stream\r\nLast-Event-ID: {}\r\n", first.id);
    let mut follower = Follower::of(&gateway, "/api/v1/events?type=config.applied", &back);
    let (second, third) = (follower.next(), follower.next());
    let numbers = [&first, &second, &third].map(|frame| frame.data["id"].as_u64().expect("a number"));
    assert!(numbers.is_sorted() && numbers[0] < numbers[1], "{numbers:?}");
    assert_eq!((&second.event, &third.event), (&String::new(), &String::new()));
    assert_eq!(third.data["type"], "config.applied");
}

#[test]
fn a_follower_from_before_a_restart_is_told_and_begins_anew() {
    let gateway = in_front_of(&Backend::text("hi"));
    let headers = "Last-Event-ID: 1000-77\r\n";
    let mut follower = Follower::of(&gateway, "/api/v1/events/stream", headers);
    let reset = follower.next();
    assert_eq!(reset.event, "reset", "{reset:?}");
    assert!(reset.data["run"].is_i64());
    assert!(!follower.next().id.is_empty(), "the events of this run follow");
}

#[test]
fn a_follower_who_was_away_too_long_learns_how_many_it_missed() {
    let gateway = in_front_of(&Backend::text("hi"));
    let first = events(&gateway, "limit=1")[0]["id"].as_u64().expect("a number");
    // More than are kept.
    let log = |n: usize| {
        let body = format!(
            "{{\"level\":\"{}\"}}",
            if n.is_multiple_of(2) { "info" } else { "warn" }
        );
        let request = format!(
            "PUT /api/v1/log HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        request.into_bytes()
    };
    let mut control = Conn::connect(control(&gateway));
    for n in 0..1100 {
        assert_eq!(control.send(log(n)).response().status, 200);
    }
    let mut follower = Follower::of(&gateway, &format!("/api/v1/events/stream?since={first}"), "");
    let lost = follower.next();
    assert_eq!(lost.event, "lost", "{lost:?}");
    assert!(
        lost.data["lost"].as_u64().is_some_and(|lost| lost > 50),
        "{lost:?}"
    );
    let page = gateway.admin_get("/api/v1/events?since=1&limit=1").json();
    assert!(page["lost"].as_u64().is_some_and(|lost| lost > 50), "{page}");
}

#[test]
fn more_followers_than_there_are_places_are_refused_and_a_place_becomes_free() {
    let gateway = gateway(PLAIN).with("app", Backend::text("hi").address()).start();
    let mut followers: Vec<Follower> = (0..32)
        .map(|_| Follower::of(&gateway, "/api/v1/events/stream", ""))
        .collect();
    assert_eq!(gateway.admin_get("/api/v1/events/stream").status, 503);
    assert_eq!(
        gateway.admin_get("/api/v1/events").status,
        200,
        "the list is answered"
    );
    followers.pop();
    let free = || {
        let mut conn = Conn::connect(gateway.admin());
        conn.send("GET /api/v1/events/stream HTTP/1.1\r\nHost: admin\r\n\r\n");
        let head = String::from_utf8(conn.read_through(b"\r\n\r\n")).expect("a head");
        head.starts_with("HTTP/1.1 200").then_some(())
    };
    eventually_some("a place", free);
}

fn control(gateway: &Gateway) -> testkit::Address {
    testkit::Address::Unix(gateway.path("state").join("control.sock"))
}
