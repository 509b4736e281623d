//! What an operator of several gateways reads on a terminal.

use crate::cluster_kit::{await_bus, node};
use crate::cluster_operator::{TOKEN, change, overrides, pair, started};
use serde_json::{Value, json};
use testkit::redis::{self, Redis};
use testkit::{Backend, eventually, eventually_some};

#[test]
fn status_and_log_tell_where_the_redis_is_missed_and_what_to_look_at() {
    let app = Backend::text("app");
    let a = node("gw-a", "redis://127.0.0.1:1", &app).start();
    await_bus(&a, "down");
    let status = a.cli(&["status"]).expect(0).stdout;
    for told in [
        "  bus down since ",
        "): refused\n",
        "127.0.0.1:1: Connection refused",
        "are host and port in cluster.redis right?",
        "LATEST WARNINGS",
    ] {
        assert!(status.contains(told), "{told}: {status}");
    }
    a.await_log("this gateway serves by what it knows and goes on trying");
}

/// What people read has no moment that is longer than a second is short.
#[track_caller]
fn reads_well(text: &str) {
    let fraction = |word: &str| word.contains('T') && word.contains('.') && word.ends_with('Z');
    let bad = text.split_whitespace().find(|word| fraction(word));
    assert!(bad.is_none(), "{bad:?} in:\n{text}");
}

#[test]
fn what_an_operator_reads_fits_a_terminal_and_has_times_for_people() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = pair(&redis, &app);
    for (address, wish) in [
        (
            "127.0.0.1:1",
            json!({ "state": "draining", "reason": "disk", "deadline": "5m" }),
        ),
        ("127.0.0.1:1", json!({ "weight": 4, "for": "2h" })),
    ] {
        change(&a, address, &wish);
    }
    eventually("it holds on the other", || {
        overrides(&b)["endpoints"][0]["weight"]["value"] == 4
    });
    let status = b.cli(&["status"]).expect(0).stdout;
    reads_well(&status);
    assert!(status.contains("by token ann on gw-a at "), "{status}");
    assert!(
        status.contains("    until ") && status.contains("(in 2 h)"),
        "{status}"
    );
    let wide: Vec<&str> = status.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let drained = a.cli(&["drain", &app.address().to_string(), "--deadline", "5m"]);
    reads_well(&drained.expect(0).stdout);
    // What is in the log comes there a moment after it happened.
    let events = eventually_some("it is in the log", || {
        let ran = b.cli(&["events", "--cluster", "--type", "endpoint"]).expect(0);
        ran.stdout.contains("endpoint.draining").then_some(ran.stdout)
    });
    reads_well(&events);
    assert!(
        events.contains("Z INFO  gw-a endpoint.draining app/127.0.0.1:1"),
        "{events}"
    );
    let of_b = eventually_some("those of one gateway are in the log", || {
        let ran = b.cli(&["events", "--cluster", "--node", "gw-b"]).expect(0);
        ran.stdout.contains(" gw-b ").then_some(ran.stdout)
    });
    assert!(!of_b.contains("  gw-a "), "{of_b}");
    let others = b.admin_get("/api/v1/events?node=gw-a");
    assert!(
        others.status == 400 && others.text().contains("scope=cluster"),
        "{others}"
    );
    assert_eq!(b.admin_get("/api/v1/events?node=gw-b").status, 200);
    assert_eq!(b.cli(&["events", "-n", "1"]).expect(0).stdout.lines().count(), 1);
    let quiet = b.cli(&["events", "--type", "nothing.such"]).expect(0).stdout;
    assert_eq!(quiet, "nothing happened\n");
    assert_eq!(b.cli(&["services"]).expect(0).stdout, "nothing is registered\n");
    let service = json!({ "id": "api-1", "name": "api", "address": "10.0.0.1", "port": 80, "tags": ["x"] });
    let answer = a.admin_call("POST", "/api/v1/services", "", &service.to_string());
    assert_eq!(answer.status, 201, "{answer}");
    let shown = eventually_some("it is known on the other", || {
        let shown = b.cli(&["services", "api", "--tag", "x"]).expect(0).stdout;
        shown.contains("api-1").then_some(shown)
    });
    reads_well(&shown);
    assert!(shown.contains("10.0.0.1:80") && shown.contains("(in "), "{shown}");
    let json: Value = serde_json::from_str(&b.cli(&["services", "--json"]).expect(0).stdout).expect("JSON");
    assert_eq!(json["services"][0]["id"], "api-1");
}

#[test]
fn events_are_followed_on_the_command_line_and_an_unknown_token_is_told_what_to_do() {
    let app = Backend::text("app");
    let alone = started("gw-1", "", &app);
    let mut command = testkit::cli::command(crate::binary());
    command
        .args(["events", "--follow", "-n", "0", "--type", "endpoint", "--admin"])
        .arg(alone.admin().to_string())
        .env("TIDEGATE_ADMIN_TOKEN", TOKEN);
    let running = testkit::gateway::Running::start(command);
    let told = |kind: &str| eventually(&format!("{kind} is told"), || running.stdout().contains(kind));
    // It begins to follow at some moment: what is told before that is not waited for.
    let mut weight = 2;
    eventually("it follows", || {
        weight += 1;
        change(&alone, "127.0.0.1:1", &json!({ "weight": weight }));
        running.stdout().contains("endpoint.weighed app/127.0.0.1:1")
    });
    change(
        &alone,
        "127.0.0.1:1",
        &json!({ "state": "draining", "reason": "disk" }),
    );
    told("endpoint.draining app/127.0.0.1:1");
    let refused = alone.cli(&[
        "status",
        "--admin",
        &alone.admin().to_string(),
        "--token",
        "wrong",
    ]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("TIDEGATE_ADMIN_TOKEN"),
        "{refused:?}"
    );
}
