//! Row 29 of the failure matrix: gateways of two versions, while one after another is replaced. There is one version of
//! announcements so far: the next is one that a gateway built with its test hooks understands when it is told to.

#[cfg(feature = "faults")]
use crate::cluster_kit::await_members;
use crate::cluster_kit::{await_bus, cluster};
use crate::matrix_kit::{Cluster, weigh, weight};
#[cfg(feature = "faults")]
use testkit::Gateway;
use testkit::{Backend, Redis, eventually, redis};

/// Announcements that came to this.
#[cfg(feature = "faults")]
fn counted(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("tidegate_bus_messages_total", &[&format!("result=\"{result}\"")])
}

#[cfg(feature = "faults")]
#[test]
fn row_29_gateways_that_are_replaced_one_by_one_hear_each_other_all_the_time() {
    use crate::matrix_kit::NAMES;
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let cluster_of = Cluster::new(&redis, &[app.address()], "");
    let old = |name: &str| cluster_of.node(name).start();
    let new = |name: &str| {
        let builder = cluster_of.node(name);
        builder.env("TIDEGATE_FAULT_ENVELOPES", "1-2").start()
    };
    let speaks = |gateway: &Gateway| cluster(gateway)["speaks"].as_u64();
    let mut weighed = 1;
    let mut all_hear_all = |nodes: &[Gateway]| {
        for node in nodes {
            await_members(node, &NAMES);
            await_bus(node, "live");
        }
        for from in nodes {
            weighed += 1;
            let heard: Vec<f64> = nodes.iter().map(|node| counted(node, "received")).collect();
            weigh(from, &app.address(), weighed);
            for (to, heard) in nodes.iter().zip(heard) {
                eventually("it is known", || weight(to, &app.address()) == weighed);
                let itself = std::ptr::eq(from, to);
                eventually("it was heard", || itself || counted(to, "received") > heard);
            }
        }
        for node in nodes {
            let lost = ["unknown_version", "garbage", "forged"].map(|what| counted(node, what));
            assert_eq!((lost, counted(node, "gap")), ([0.0; 3], 0.0));
        }
    };
    let mut nodes = NAMES.map(old);
    all_hear_all(&nodes);
    for (n, name) in NAMES.iter().enumerate() {
        let replaced = std::mem::replace(&mut nodes[n], new(name));
        // Both at once for a moment: the new one has another name until the old one is gone.
        assert_eq!(replaced.stop(), Some(0));
        for node in &nodes {
            await_members(node, &NAMES);
        }
        if n < 2 {
            assert!(
                nodes.iter().all(|node| speaks(node) == Some(1)),
                "as long as one knows no other"
            );
        }
        all_hear_all(&nodes);
    }
    // All have to know it for five times as long as one may be silent.
    testkit::pace(crate::matrix_kit::GONE_AFTER * 4);
    eventually("the new version is spoken", || {
        nodes.iter().all(|node| speaks(node) == Some(2))
    });
    all_hear_all(&nodes);
    // One is taken back.
    let replaced = std::mem::replace(&mut nodes[1], old(NAMES[1]));
    assert_eq!(replaced.stop(), Some(0));
    for node in &nodes {
        eventually("all are there", || cluster(node)["nodes"] == 3);
        eventually("the old version is spoken", || speaks(node) == Some(1));
    }
    weigh(&nodes[0], &app.address(), 99);
    for node in &nodes {
        eventually("it is known", || weight(node, &app.address()) == 99);
        assert_eq!(node.events("cluster.gone").len(), 0);
    }
}

#[cfg(feature = "faults")]
#[test]
fn row_29_gateways_that_have_no_version_in_common_are_members_and_agree_by_what_is_stored() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let cluster_of = Cluster::new(&redis, &[app.address()], "");
    let one = cluster_of.node("gw-1").start();
    let later = cluster_of
        .node("gw-2")
        .env("TIDEGATE_FAULT_ENVELOPES", "2-3")
        .start();
    for node in [&one, &later] {
        await_members(node, &["gw-1", "gw-2"]);
        eventually("what is not understood is counted", || {
            counted(node, "unknown_version") > 0.0
        });
    }
    for (from, weighed) in [(&one, 5), (&later, 6)] {
        weigh(from, &app.address(), weighed);
        for node in [&one, &later] {
            eventually("it is read", || weight(node, &app.address()) == weighed);
        }
    }
    one.await_log("version 2 is not understood");
    assert_eq!(
        one.log().matches("version 2 is not understood").count(),
        1,
        "told once"
    );
}

/// What a later version stored is left alone, and told.
#[test]
fn row_29_what_a_later_version_stored_is_left_alone_and_told() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let one = Cluster::new(&redis, &[app.address()], "").node("gw-1").start();
    await_bus(&one, "live");
    weigh(&one, &app.address(), 3);
    let (overrides, services) = (
        "tidegate:1:default:{c}t:overrides",
        "tidegate:1:default:{c}t:services",
    );
    let weight_key = format!("weight|app|{}", app.address());
    eventually("it is stored", || {
        !redis.ask(&["HGET", overrides, &weight_key]).is_empty()
    });
    // Later than anything that is said today.
    let later = "4102444800000 gw-later 1 4102444800000";
    let written = [
        (
            overrides,
            weight_key.as_str(),
            format!("{later} {{\"version\":9,\"weigh\":{{\"as\":[1,2]}}}}"),
        ),
        (overrides, "affinity|app", format!("{later} {{\"version\":9}}")),
        (
            services,
            "s-1",
            format!("{later} {{\"version\":9,\"ids\":[\"s-1\"]}}"),
        ),
    ];
    for (table, key, entry) in &written {
        assert_eq!(redis.ask(&["HSET", table, key, entry]).len(), 1);
    }
    let told = [
        "an override of another gateway can't be taken",
        "a registration that can't be read is left alone",
    ];
    for words in told {
        one.await_log(words);
    }
    // Over one comparison more, and a restart.
    let looks = || one.metric("tidegate_bus_messages_total", &["result=\"announced\""]);
    assert!(looks() >= 0.0);
    testkit::holds_for(std::time::Duration::from_secs(6), "it is as it was", || {
        let stays = |(table, key, entry): &(&str, &str, String)| redis.ask(&["HGET", table, key]) == *entry;
        written.iter().all(stays) && weight(&one, &app.address()) == 3
    });
    assert_eq!(one.get("/").status, 200);
    for words in told {
        assert!(one.log().matches(words).count() <= 3, "told once for each");
    }
    assert_eq!(cluster(&one)["bus"]["condition"], "live");
}
