//! What becomes of certificates when their authority is down, refuses, limits, or answers nonsense.

use crate::acme::{
    Bed, CONFIG, await_served, configured, events, failures, found_at, kept, orders, seconds, served,
};
use crate::gateway;
use serde_json::json;
use std::time::Duration;
use testkit::acme::Ports;
use testkit::{Backend, NameServer, Reply, eventually, holds_for};

#[test]
fn the_old_certificate_serves_while_the_authority_is_down() {
    let bed = Bed::new();
    bed.authority
        .change(|script| script.lifetime = Duration::from_secs(18));
    // Renewed as soon as it is no longer quite new, which is a third of its life.
    let gateway = bed.start("renew_before = \"17s\"");
    let first = await_served(&gateway, &bed.authority, "a.test");
    bed.authority.down();
    eventually("a renewal fails", || failures(&gateway, "unreachable") >= 2.0);
    let now = await_served(&gateway, &bed.authority, "a.test");
    assert_eq!(now, first);
    let event = events(&gateway, "certificate.failed").pop().unwrap();
    assert_eq!(event["severity"], "warning");
    let shown = gateway.admin_get("/api/v1/tls").json();
    assert_eq!(
        shown["orders"][0]["last_failure"]["kind"], "unreachable",
        "{shown}"
    );
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.contains("the former certificate serves until"), "{reason}");
    bed.authority.up();
    eventually("it is back", || orders(&gateway, "renewed") == 1.0);
}

#[test]
fn whatever_the_authority_answers_is_survived_and_told() {
    for (reply, reason) in [
        (Reply::ok("\u{0}garbage"), "server"),
        (Reply::new(200, "{}"), "server"),
        (Reply::new(500, "<html>"), "server"),
        (
            Reply::new(302, "").header("Location", "http://127.0.0.1:1/"),
            "server",
        ),
        (
            Reply::new(429, "slow down").header("Retry-After", "1"),
            "rate_limited",
        ),
        (Reply::ok(vec![b' '; 3 << 20]), "server"),
        (
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"),
            "server",
        ),
        (Reply::raw("SSH-2.0-nonsense\r\n"), "unreachable"),
        (Reply::close(), "unreachable"),
    ] {
        let bed = Bed::new();
        bed.authority.change(|script| script.answers = Some(reply));
        let gateway = bed.start("");
        eventually(reason, || failures(&gateway, reason) >= 1.0);
        bed.authority.change(|script| script.answers = None);
        await_served(&gateway, &bed.authority, "a.test");
    }
}

#[test]
fn a_rate_limit_is_waited_for_as_long_as_the_authority_says() {
    let bed = Bed::new();
    let limit = json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many of those", "status": 429 });
    bed.authority
        .change(|script| script.refuses = Some((429, limit, Some(3600))));
    let gateway = bed.start("");
    eventually("it is told", || failures(&gateway, "rate_limited") == 1.0);
    let event = events(&gateway, "certificate.failed").pop().unwrap();
    assert_eq!(event["severity"], "error", "there is none to serve");
    assert!(
        event["reason"]
            .as_str()
            .unwrap()
            .contains("too many of those (rateLimited)"),
        "{event}"
    );
    let due = gateway.metric(
        "tidegate_acme_next_order_timestamp_seconds",
        &["certificate=\"a.test\""],
    ) as i64;
    assert!(due > seconds() + 3000, "{due}");
    holds_for(Duration::from_secs(1), "nobody asks again", || {
        failures(&gateway, "rate_limited") == 1.0
    });
}

#[test]
fn a_refusal_is_told_in_the_authoritys_words_and_tried_again_more_and_more_rarely() {
    let bed = Bed::new();
    let no = json!({ "type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not that name", "status": 400 });
    bed.authority
        .change(|script| script.refuses = Some((400, no, None)));
    let gateway = bed.start("");
    eventually("three times", || failures(&gateway, "refused") >= 3.0);
    gateway.await_log("not that name (rejectedIdentifier)");
    let row = gateway.metric("tidegate_acme_failures_in_a_row", &["certificate=\"a.test\""]);
    assert!(row >= 3.0);
    let requests = bed.authority.requests();
    assert!(requests < 30, "{requests}");
    bed.authority.change(|script| script.refuses = None);
    await_served(&gateway, &bed.authority, "a.test");
    // It is served before it is counted.
    eventually("the row is over", || {
        gateway.metric("tidegate_acme_failures_in_a_row", &["certificate=\"a.test\""]) == 0.0
    });
}

#[test]
fn a_name_that_the_authority_can_not_see_is_told_with_why() {
    let bed = Bed::new();
    let gateway = configured(&bed.authority, &bed.backend, bed.state.path(), "").start();
    bed.authority.looks_at(Ports {
        http: None,
        tls: None,
    });
    eventually("it fails", || failures(&gateway, "challenge") >= 1.0);
    gateway.await_log("a.test: the authority says: nowhere to look for tls-alpn-01 (unauthorized)");
    found_at(&bed.authority, &gateway);
    await_served(&gateway, &bed.authority, "a.test");
}

#[test]
fn a_challenge_that_is_not_offered_is_told_with_those_that_are() {
    let bed = Bed::new();
    bed.authority
        .change(|script| script.offers = vec!["http-01", "dns-01"]);
    let gateway = bed.start("");
    eventually("it fails", || failures(&gateway, "challenge") >= 1.0);
    gateway.await_log("does not offer tls-alpn-01 for a.test, but http-01, dns-01");
}

#[test]
fn what_is_issued_for_another_name_is_not_taken() {
    let bed = Bed::new();
    bed.authority
        .change(|script| script.issues_for = Some("evil.test".to_owned()));
    let gateway = bed.start("");
    eventually("it fails", || failures(&gateway, "certificate") >= 1.0);
    assert!(served(&gateway, &bed.authority, "evil.test").is_none());
    let left = kept(bed.state.path())
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|it| it == "new" || it == "pem"));
    assert_eq!(left.count(), 0);
}

#[test]
fn one_order_finds_out_whether_an_authority_is_back() {
    let bed = Bed::new();
    let down =
        json!({ "type": "urn:ietf:params:acme:error:serverInternal", "detail": "on fire", "status": 500 });
    bed.authority
        .change(|script| script.refuses = Some((500, down, None)));
    let names: Vec<String> = (0..40).map(|n| format!("\"n{n}.test\"")).collect();
    let gateway = bed.start(&format!("names = [{}]", names.join(",")));
    eventually("it fails three times", || failures(&gateway, "server") >= 7.0);
    let count = failures(&gateway, "server");
    assert!(
        count < 15.0,
        "{count}: the first few that began together, then one at a time"
    );
    bed.authority.change(|script| script.refuses = None);
    eventually("all are issued", || bed.authority.issued() == 40);
}

#[test]
fn the_authority_is_looked_up_as_dns_says() {
    let (server, state, backend) = (
        NameServer::start(),
        tempfile::tempdir().unwrap(),
        Backend::text("hi"),
    );
    let config = format!("{CONFIG}\n[dns]\nservers = [\"{}\"]\n", server.address());
    let gateway = gateway(&config)
        .with("state", state.path().display())
        .with("directory", "https://ca.example.test:1/directory")
        .with("acme", "")
        .with("app", backend.address())
        .start();
    let told = |words: &str| {
        let failed = events(&gateway, "certificate.failed");
        failed.iter().any(|event| {
            event["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains(words))
        })
    };
    eventually("it has no address", || {
        told("ca.example.test:1 can't be looked up: there is no such name")
    });
    server.addresses("ca.example.test", 1, &["127.0.0.1".parse().unwrap()]);
    eventually("it has one, where nobody listens", || {
        told("ca.example.test:1 can't be reached")
    });
    assert!(server.queries("ca.example.test") >= 2);
}
