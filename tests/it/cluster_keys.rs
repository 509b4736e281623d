//! The key of a cluster: the same on all gateways, another on one, another on all.

use crate::cluster_kit::{await_bus, await_members, with};
use std::time::Duration;
use testkit::redis::{self, Redis};
use testkit::{Backend, Gateway, eventually, eventually_some, holds_for};

const SEALED: &str = "key = \"env:SECRET\"";

fn sealed(name: &str, redis: &Redis, secret: &str, app: &Backend) -> Gateway {
    with(name, &redis.url(), app, SEALED)
        .env("SECRET", secret)
        .start()
}

#[test]
fn the_key_of_cookies_is_told_once_on_each_gateway() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = sealed("gw-a", &redis, "one-secret-for-all-of-them", &app);
    eventually("it has a key", || !a.events("keys.sticky").is_empty());
    let b = sealed("gw-b", &redis, "one-secret-for-all-of-them", &app);
    let c = sealed("gw-c", &redis, "one-secret-for-all-of-them", &app);
    let kept = |gateway: &Gateway| {
        let path = gateway.dir().join("state/cluster_secrets");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str::<Vec<String>>(&text).map_or(0, |secrets| secrets.len())
    };
    for gateway in [&a, &b, &c] {
        eventually("it honours what all brought along", || kept(gateway) == 3);
        let events = gateway.events("keys.sticky");
        assert_eq!(events.len(), 1, "{events:?}");
    }
}

#[test]
fn a_gateway_with_another_key_is_told_in_the_status_of_each() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = sealed("gw-a", &redis, "one-secret-for-all-of-them", &app);
    await_bus(&a, "live");
    assert!(!a.cli(&["status"]).expect(0).stdout.contains("cluster.key"));
    let b = sealed("gw-b", &redis, "another-secret-for-this-one", &app);
    for gateway in [&a, &b] {
        await_members(gateway, &["gw-a", "gw-b"]);
        let told = eventually_some("what is not signed is told", || {
            let status = gateway.cli(&["status"]).expect(0).stdout;
            status
                .contains("is cluster.key the same on all gateways?")
                .then_some(status)
        });
        assert!(
            told.contains("were not signed by its key") && told.contains("alive, other key"),
            "{told}"
        );
        eventually("it is an event", || {
            !gateway.events("cluster.other_key").is_empty()
        });
    }
}

#[test]
fn another_key_on_all_gateways_makes_what_is_shared_anew_and_on_some_nothing() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let old = sealed("gw-old", &redis, "one-secret-for-all-of-them", &app);
    eventually("it shares", || !old.events("keys.tickets").is_empty());
    let new: Vec<Gateway> = ["gw-a", "gw-b"]
        .iter()
        .map(|name| sealed(name, &redis, "another-secret-for-all-new-ones", &app))
        .collect();
    for gateway in &new {
        eventually("it says what it can't open", || {
            !gateway.events("keys.unreadable").is_empty()
        });
    }
    // While one is there who can open it nothing is taken from it: longer than the others wait.
    holds_for(Duration::from_secs(14), "they go by their own", || {
        new.iter()
            .all(|gateway| gateway.events("keys.tickets").is_empty())
    });
    assert_eq!(old.stop(), Some(0));
    for gateway in &new {
        eventually("all have the same again", || {
            !gateway.events("keys.tickets").is_empty() && !gateway.events("keys.sticky").is_empty()
        });
    }
}
