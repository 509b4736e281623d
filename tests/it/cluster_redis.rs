//! A Redis that is gone, paused, emptied, full or not ours: what is proxied does not notice, the gateway says what is
//! the matter, and it heals by itself.

use crate::cluster_kit::{await_bus, await_members, bus, cluster, node, serves, with};
use std::io::{Read, Write};
use std::time::Duration;
use testkit::gateway::Sig;
use testkit::{Backend, Fault, Gate, Gateway, Load, Redis, Relay, Reply, eventually, holds_for, redis};

/// Two gateways on one Redis, both live.
fn pair(url: &str, app: &Backend) -> (Gateway, Gateway) {
    let a = node("gw-a", url, app).start();
    let b = node("gw-b", url, app).start();
    for gateway in [&a, &b] {
        await_bus(gateway, "live");
        await_members(gateway, &["gw-a", "gw-b"]);
    }
    (a, b)
}

/// A gateway, live on a Redis that it reaches through a relay. `None` where there is no Redis to test with.
fn behind_a_relay() -> Option<(Redis, Backend, Relay, Gateway)> {
    if !redis::installed() {
        return None;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let relay = Relay::to(redis.address());
    let a = node("gw-a", &format!("redis://{}", relay.address()), &app).start();
    await_bus(&a, "live");
    Some((redis, app, relay, a))
}

/// Row 1: kill -9 of a Redis without persistence, and its return.
#[test]
fn a_redis_that_dies_and_comes_back_empty_costs_no_request_and_no_member() {
    if !redis::installed() {
        return;
    }
    let (mut redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = pair(&redis.url(), &app);
    let load = Load::get(a.web(), 2, "/");
    redis.kill();
    let down = await_bus(&a, "down");
    assert!(down < Duration::from_secs(3), "{down:?}");
    assert!(
        ["refused", "closed"].contains(&bus(&a).1.as_str()),
        "{:?}",
        bus(&a)
    );
    // What was known stays known, and is told to be old.
    holds_for(Duration::from_secs(4), "members are kept", || {
        cluster(&a)["nodes"] == 2
    });
    assert_eq!(cluster(&a)["fresh"], false);
    for gateway in [&a, &b] {
        let late = gateway.events("cluster.suspected");
        assert!(late.is_empty(), "nobody could have been heard: {late:?}");
    }
    let ready = a.admin_get("/readyz");
    assert_eq!(ready.status, 200, "{ready}");
    assert_eq!(ready.json()["cluster"]["bus"], "down");
    redis.start_again();
    for gateway in [&a, &b] {
        await_bus(gateway, "live");
        await_members(gateway, &["gw-a", "gw-b"]);
        assert_eq!(gateway.events("cluster.gone").len(), 0);
        assert_eq!(gateway.events("cluster.joined").len(), 1);
        assert!(!gateway.events("bus.down").is_empty() && gateway.events("bus.live").len() >= 2);
    }
    let done = load.stop();
    done.expect_flawless();
}

/// Row 3: connections stand and nothing is answered.
#[test]
fn a_redis_that_stands_still_is_noticed_and_blocks_nobody() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, _b) = pair(&redis.url(), &app);
    let threads = a.threads();
    let load = Load::get(a.web(), 2, "/");
    redis.pause();
    let down = await_bus(&a, "down");
    assert!(down < Duration::from_secs(4), "{down:?}");
    assert_eq!(bus(&a).1, "timeout");
    holds_for(Duration::from_secs(3), "the admin side answers too", || {
        a.admin_get("/health").status == 200
    });
    assert!(a.threads() <= threads + 4, "{} of {threads}", a.threads());
    redis.resume();
    await_bus(&a, "live");
    await_members(&a, &["gw-a", "gw-b"]);
    let done = load.stop();
    done.expect_flawless();
}

/// Row 4: answers come 100 ms late.
#[test]
fn a_slow_redis_is_told_and_harms_nobody() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let relay = Relay::to(redis.address());
    let url = format!("redis://{}", relay.address());
    let (a, _b) = pair(&url, &app);
    relay.set(Fault::Delay(Duration::from_millis(60)));
    await_bus(&a, "degraded");
    eventually("it is slow", || bus(&a).1 == "slow");
    serves(&a);
    holds_for(Duration::from_secs(2), "members stay", || {
        cluster(&a)["nodes"] == 2
    });
    relay.set(Fault::None);
    await_bus(&a, "live");
    eventually("answers are quick", || {
        a.metric("tidegate_bus_rtt_seconds", &[]) < 0.05
    });
}

/// Row 5.
#[test]
fn a_flush_is_noticed_and_what_gateways_know_is_written_again() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = pair(&redis.url(), &app);
    assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
    for gateway in [&a, &b] {
        eventually("the flush is noticed", || {
            gateway.metric("tidegate_bus_flushes_total", &[]) == 1.0
        });
    }
    eventually("the records are there again", || {
        redis.ask(&["HKEYS", "tidegate:1:default:{c}mi"]).lines().count() == 2
    });
    assert_eq!(a.events("cluster.gone").len() + b.events("cluster.gone").len(), 0);
    assert_eq!(bus(&a).0, "live");
}

/// Row 8: the first connections after an end are refused.
#[test]
fn refused_connections_are_tried_again_for_as_long_as_it_takes() {
    let Some((_redis, _app, relay, a)) = behind_a_relay() else {
        return;
    };
    relay.refuse();
    relay.reset_connections();
    eventually("it is refused", || {
        bus(&a) == ("down".to_owned(), "refused".to_owned())
    });
    eventually("it tries again", || {
        a.metric("tidegate_bus_reconnects_total", &["reason=\"refused\""]) > 6.0
    });
    relay.accept();
    await_bus(&a, "live");
}

/// Row 9: half open, nothing is carried and nothing ends.
#[test]
fn a_connection_that_carries_nothing_is_given_up() {
    let Some((_redis, _app, relay, a)) = behind_a_relay() else {
        return;
    };
    relay.set(Fault::Blackhole);
    let down = await_bus(&a, "down");
    assert!(down < Duration::from_secs(4), "{down:?}");
    relay.set(Fault::None);
    await_bus(&a, "live");
}

/// Row 11: one gateway is cut off from the Redis; it serves, the others miss it, and it comes back.
#[test]
fn a_gateway_that_is_cut_off_serves_and_judges_nobody() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let relay = Relay::to(redis.address());
    let a = node("gw-a", &redis.url(), &app).start();
    let b = node("gw-b", &format!("redis://{}", relay.address()), &app).start();
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    relay.set(Fault::Blackhole);
    let gone = await_members(&a, &["gw-a"]);
    assert!(gone < Duration::from_secs(6), "{gone:?}");
    assert_eq!(bus(&b).0, "down");
    serves(&b);
    assert_eq!(cluster(&b)["nodes"], 2, "it judges nobody");
    relay.set(Fault::None);
    relay.reset_connections();
    await_members(&a, &["gw-a", "gw-b"]);
    await_bus(&b, "live");
    assert_eq!(b.events("cluster.gone").len(), 0);
}

/// Row 30: garbage, forgeries, other versions and replays on our channels.
#[test]
fn what_others_put_on_our_channels_is_counted_and_passed_over() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let key = "key = \"env:CLUSTER_KEY\"";
    let start = |name: &str| {
        with(name, &redis.url(), &app, key)
            .env("CLUSTER_KEY", "0123456789abcdef0123456789abcdef")
            .start()
    };
    let a = start("gw-a");
    await_bus(&a, "live");
    let channel = "tidegate:1:default:mem";
    let publish = |bytes: &[u8]| {
        let answer = redis.try_ask_bytes(&[b"PUBLISH", channel.as_bytes(), bytes]);
        assert_eq!(answer.as_deref(), Some("1"));
    };
    publish(b"hello");
    publish(b"");
    publish(&[0xff; 200_000]);
    publish(b"TG\x09\x00\x00\x00");
    publish(b"TG\x01\x00\x00\x02\xa0\xa0");
    let counted = |result: &str| {
        let label = format!("result=\"{result}\"");
        a.metric("tidegate_bus_messages_total", &[&label])
    };
    eventually("all are counted", || {
        counted("garbage") >= 2.0
            && counted("too_large") == 1.0
            && counted("unknown_version") == 1.0
            && counted("forged") >= 1.0
    });
    // Those who have the key are heard all the same.
    let b = start("gw-b");
    await_members(&a, &["gw-a", "gw-b"]);
    assert_eq!(bus(&a).0, "live");
    eventually("an announcement is heard", || counted("received") >= 1.0);
    drop(b);
}

/// Row 31.
#[test]
fn a_full_redis_degrades_the_bus_and_says_why() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, _b) = pair(&redis.url(), &app);
    assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    eventually("it is full", || {
        bus(&a) == ("degraded".to_owned(), "out_of_memory".to_owned())
    });
    serves(&a);
    assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    await_bus(&a, "live");
}

/// Row 32.
#[test]
fn a_password_that_is_not_taken_is_told_and_a_changed_one_works_again() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (
        Redis::with(&["--requirepass", "hunter2-hunter2"]),
        Backend::text("app"),
    );
    let wrong = node("gw-a", &redis.url().replace("://", "://:wrong@"), &app).start();
    eventually("it is not let in", || {
        bus(&wrong) == ("down".to_owned(), "auth".to_owned())
    });
    serves(&wrong);
    let right = with(
        "gw-b",
        &redis.url(),
        &app,
        "redis_password = \"env:REDIS_PASSWORD\"",
    )
    .env("REDIS_PASSWORD", "hunter2-hunter2")
    .start();
    await_bus(&right, "live");
    let log = right.log() + &wrong.log() + &right.stats().to_string();
    assert!(!log.contains("hunter2"), "the password is told");
    // One that needs none any more, or again.
    assert_eq!(redis.ask(&["ACL", "SETUSER", "default", ">wrong"]), "OK");
    await_bus(&wrong, "live");
}

/// What answers is no Redis at all.
#[test]
fn something_else_than_redis_is_called_that() {
    let app = Backend::text("app");
    let web = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = web.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in web.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = (&stream).read(&mut [0; 512]);
        }
    });
    let a = node("gw-a", &format!("redis://{address}"), &app).start();
    eventually("it is told", || {
        bus(&a) == ("down".to_owned(), "not_redis".to_owned())
    });
    serves(&a);
}

#[test]
fn a_key_of_another_kind_is_told_and_harms_nobody() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let _ = redis.ask(&["SET", "tidegate:1:default:{c}mi", "not a hash"]);
    let a = node("gw-a", &redis.url(), &app).start();
    eventually("it is told", || {
        bus(&a) == ("degraded".to_owned(), "wrong_type".to_owned())
    });
    serves(&a);
    let _ = redis.ask(&["DEL", "tidegate:1:default:{c}mi"]);
    await_bus(&a, "live");
}

/// Row 10: what is announced stops coming, and everything else works.
#[test]
fn a_subscription_that_hears_nothing_is_found_out_though_pings_are_answered() {
    let Some((_redis, _app, relay, a)) = behind_a_relay() else {
        return;
    };
    relay.set(Fault::Mute("tidegate-subscription"));
    eventually("it is found out", || {
        a.metric("tidegate_bus_probe_failures_total", &[]) >= 1.0
    });
    // The others are used all the while.
    let page = a.metrics();
    let others = page.lines().filter(|line| {
        line.starts_with("tidegate_bus_reconnects_total{")
            && !line.contains("reason=\"deaf\"")
            && !line.contains("reason=\"timeout\"")
    });
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
    eventually("it is told", || bus(&a).0 == "degraded");
    serves(&a);
    relay.set(Fault::None);
    await_bus(&a, "live");
}

/// Row 32 again: the user may do less than it did.
#[test]
fn a_user_that_may_not_listen_any_more_is_told_and_let_in_again() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let rules = [
        "ACL",
        "SETUSER",
        "gate",
        "on",
        ">gate-gate-gate",
        "~tidegate:1:default:*",
        "+@all",
        "-@dangerous",
        "-@admin",
    ];
    let may_listen = [&rules[..], &["&tidegate:1:default:*"]].concat();
    assert_eq!(redis.ask(&may_listen), "OK");
    let a = with(
        "gw-a",
        &redis.url(),
        &app,
        "redis_user = \"gate\"\nredis_password = \"env:PASSWORD\"",
    )
    .env("PASSWORD", "gate-gate-gate")
    .start();
    await_bus(&a, "live");
    assert_eq!(redis.ask(&["ACL", "SETUSER", "gate", "resetchannels"]), "OK");
    eventually("it is told", || bus(&a).1 == "permission");
    assert_ne!(bus(&a).0, "live");
    serves(&a);
    assert_eq!(redis.ask(&may_listen), "OK");
    await_bus(&a, "live");
}

/// Row 2: what a Redis kept on its disk is there again, and is known to be the same.
#[test]
fn a_redis_that_keeps_what_it_has_is_not_taken_for_a_new_one() {
    if !redis::installed() {
        return;
    }
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let app = Backend::text("app");
    let (a, _b) = pair(&redis.url(), &app);
    redis.kill();
    await_bus(&a, "down");
    redis.start_again();
    await_bus(&a, "live");
    await_members(&a, &["gw-a", "gw-b"]);
    assert_eq!(a.metric("tidegate_bus_flushes_total", &[]), 0.0);
}

/// Row 14: TERM.
#[test]
fn one_that_is_told_to_end_leaves_at_once_and_finishes_what_it_has() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let gate = Gate::new();
    let held = gate.clone();
    let app = Backend::http(move |_| Reply::ok("slow").held_by(&held));
    let (a, mut b) = pair(&redis.url(), &app);
    let mut client = b.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request is there", || gate.waiting() == 1);
    b.signal(Sig::TERM);
    let left = await_members(&a, &["gw-a"]);
    assert!(left < Duration::from_millis(2500), "{left:?}");
    gate.open();
    assert_eq!(client.response().status, 200);
    drop(client);
    assert_eq!(b.wait(), Some(0));
    assert_eq!(a.events("cluster.left").len(), 1);
    assert_eq!(a.events("cluster.gone").len(), 0);
}

/// Row 34: the server ends a subscription, as it does when its output grows too large.
#[test]
fn a_subscription_that_the_server_ends_is_made_again_and_hears_again() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = pair(&redis.url(), &app);
    let killed = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_ne!(killed, "0");
    eventually("it is noticed", || {
        a.metric("tidegate_bus_reconnects_total", &["reason=\"closed\""]) >= 1.0
    });
    await_bus(&a, "live");
    let before = a.metric("tidegate_bus_messages_total", &["result=\"received\""]);
    assert_eq!(b.stop(), Some(0));
    await_members(&a, &["gw-a"]);
    assert!(a.metric("tidegate_bus_messages_total", &["result=\"received\""]) > before);
}
