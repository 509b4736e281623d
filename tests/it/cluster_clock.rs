//! Clocks that are wrong, for gateways and for the Redis.

use crate::cluster_kit::{await_bus, await_members, cluster, node, serves};
use std::process::Command;
use std::time::Duration;
use testkit::{Backend, Redis, holds_for, redis};

/// The library that shows a process another time, where it is installed. The monotonic clock stays.
fn faketime() -> Option<String> {
    let found = Command::new("faketime").args(["-f", "+1h", "env"]).output().ok();
    let env = found
        .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
        .unwrap_or_default();
    let library = env.lines().find_map(|line| line.strip_prefix("LD_PRELOAD="));
    if library.is_none() {
        eprintln!("skipped: faketime is not installed (tests/run says how)");
    }
    library.map(str::to_owned)
}

/// Row 26: membership and leases go by the Redis's clock and by monotonic ones.
#[test]
fn a_gateway_whose_clock_is_an_hour_off_is_a_member_like_any_other() {
    if !redis::installed() {
        return;
    }
    let Some(library) = faketime() else { return };
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let a = node("gw-a", &redis.url(), &app).start();
    for (name, offset) in [("gw-b", "+3600"), ("gw-c", "-3600")] {
        let b = node(name, &redis.url(), &app)
            .env("LD_PRELOAD", &library)
            .env("FAKETIME", offset)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .start();
        await_bus(&b, "live");
        await_members(&a, &["gw-a", name]);
        await_members(&b, &["gw-a", name]);
        holds_for(Duration::from_secs(4), "both stay", || {
            cluster(&a)["nodes"] == 2 && cluster(&b)["nodes"] == 2
        });
        serves(&b);
        assert_eq!(b.stop(), Some(0));
        await_members(&a, &["gw-a"]);
    }
    assert_eq!(
        a.events("cluster.gone").len() + a.events("cluster.suspected").len(),
        0
    );
}
