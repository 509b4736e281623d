//! Rows 13, 15 and 34 of the failure matrix: gateways that are killed or stand still while they have something to do,
//! and a subscription that the server ends because it grew too long.

use crate::cluster_kit::{await_bus, await_members, cluster};
use crate::matrix_kit::{Cluster, GONE_AFTER, Retrying, weigh, weight};
use crate::sticky::Browser;
use std::time::{Duration, Instant};
use testkit::gateway::Sig;
use testkit::{Backend, Fault, Gateway, Redis, Relay, eventually, redis};

fn has_the_clusters_secret(gateway: &Gateway) {
    eventually("the cluster's secret is in use", || {
        !gateway.events("keys.sticky").is_empty()
    });
}

/// Row 13: kill -9 of a gateway in the middle of its clients' requests.
#[test]
fn row_13_clients_of_a_gateway_that_is_killed_lose_nothing_and_land_where_they_were() {
    const CLIENTS: usize = 8;
    if !redis::installed() {
        return;
    }
    let (redis, servers) = (Redis::start(), ["a", "b", "c"].map(Backend::text));
    let addresses = [0, 1, 2].map(|n| servers[n].address());
    let [one, two, three] = Cluster::new(&redis, &addresses, "sticky = { cookie = \"at\" }").three();
    for node in [&one, &two, &three] {
        has_the_clusters_secret(node);
    }
    let (first, others) = (one.web(), [two.web(), three.web()]);
    let mut clients: Vec<(Browser, String, Retrying<'_>)> = (0..CLIENTS)
        .map(|n| {
            let mut browser = Browser::default();
            let home = browser.get(&first, "/").text();
            let retrying = Retrying {
                gateways: vec![&first, &others[n % 2], &others[(n + 1) % 2]],
                moved: 0,
            };
            (browser, home, retrying)
        })
        .collect();
    let mut ask_all = || {
        for (browser, home, retrying) in &mut clients {
            let answer = retrying.get(&browser.header()).expect("an answer");
            assert_eq!((answer.status, &answer.text()), (200, &*home));
            browser.note(&answer);
        }
        clients
            .iter()
            .map(|(_, _, retrying)| retrying.moved)
            .sum::<usize>()
    };
    assert_eq!(ask_all(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            testkit::pace(Duration::from_millis(50));
            one.signal(Sig::KILL);
        });
        eventually("all have moved", || ask_all() >= CLIENTS);
    });
    for _ in 0..20 {
        assert_eq!(ask_all(), CLIENTS, "each moved once");
    }
    for node in [&two, &three] {
        await_members(node, &["gw-2", "gw-3"]);
        let silent = node.events("cluster.gone")[0]["data"]["silent_ms"].as_u64();
        let silent = Duration::from_millis(silent.expect("silent_ms"));
        assert!((GONE_AFTER..GONE_AFTER * 4).contains(&silent), "{silent:?}");
    }
    for outcome in ["gone", "unwell", "failed", "foreign", "tampered", "expired"] {
        for node in [&two, &three] {
            assert_eq!(crate::sticky::counted(node, outcome), 0.0, "{outcome}");
        }
    }
    drop(one);
}

/// The entry of a table as the store has it: revision, node, whether it is there, since when, and the value.
fn stored(redis: &Redis, table: &str, key: &str) -> Option<Vec<String>> {
    let entry = redis.ask(&["HGET", &format!("tidegate:1:default:{{c}}t:{table}"), key]);
    let words: Vec<String> = entry.split(' ').map(str::to_owned).collect();
    (words.len() > 3).then_some(words)
}

/// Who has the lease, and with which token.
fn lease(redis: &Redis, task: &str) -> Option<(String, u64)> {
    let held = redis.ask(&["HGET", "tidegate:1:default:{c}l", task]);
    let words: Vec<&str> = held.split(' ').collect();
    let node = words.first()?.split('/').next()?.to_owned();
    Some((node, words.get(1)?.parse().ok()?))
}

/// Row 15: a gateway that holds the lease for the cluster's secrets stands still with its write under way. When the
/// write arrives somebody else has the lease.
#[test]
fn row_15_what_a_gateway_wrote_before_it_stood_still_is_refused_when_another_has_its_lease() {
    // In every write to a table.
    const WRITE: &str = "return 'fenced'";
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let relays = [0, 1].map(|_| Relay::to(redis.address()));
    let cluster_of = |relay: &Relay| Cluster {
        redis: format!("redis://{}", relay.address()),
        ..Cluster::new(&redis, &[app.address()], "sticky = { cookie = \"at\" }")
    };
    relays[0].set(Fault::HoldBack(WRITE));
    let one = cluster_of(&relays[0]).node("gw-1").start();
    eventually("its write is under way", || relays[0].held() == 1);
    one.signal(Sig::STOP);
    assert_eq!(lease(&redis, "tickets"), Some(("gw-1".to_owned(), 1)));
    assert_eq!(stored(&redis, "keys", "tickets"), None);
    // Its time passes: here at once.
    let leases = "tidegate:1:default:{c}l";
    let held = redis.ask(&["HGET", leases, "tickets"]);
    let (holder, _) = held.rsplit_once(' ').expect("a lease");
    let _ = redis.ask(&["HSET", leases, "tickets", &format!("{holder} 1")]);

    relays[1].set(Fault::HoldBack(WRITE));
    let two = cluster_of(&relays[1]).node("gw-2").start();
    eventually("the other has the lease, and writes", || relays[1].held() >= 1);
    assert_eq!(lease(&redis, "tickets"), Some(("gw-2".to_owned(), 2)));
    relays[0].set(Fault::None);
    eventually("the old write is refused", || {
        relays[0].answers().contains("fenced")
    });
    assert_eq!(stored(&redis, "keys", "tickets"), None, "nothing of it is there");

    relays[1].set(Fault::None);
    eventually("the new one is taken", || {
        stored(&redis, "keys", "tickets").is_some()
    });
    let tickets = stored(&redis, "keys", "tickets").expect("tickets");
    assert_eq!(tickets[1], "gw-2");
    // Longer than a gateway may be silent.
    testkit::pace(GONE_AFTER + Duration::from_millis(300));
    one.signal(Sig::CONT);
    eventually("it knows that it stood still", || {
        !one.events("cluster.woke").is_empty()
    });
    eventually("it goes by what the other wrote", || {
        !one.events("keys.tickets").is_empty()
    });
    for node in [&one, &two] {
        await_members(node, &["gw-1", "gw-2"]);
        has_the_clusters_secret(node);
    }
    assert_eq!(
        stored(&redis, "keys", "tickets"),
        Some(tickets),
        "nobody wrote it again"
    );
}

/// Row 34: the server ends a subscription that takes nothing any more, because what waits for it grows too long.
#[test]
fn row_34_a_subscription_that_grew_too_long_is_made_again_and_misses_nothing() {
    const LIMIT: &str = "client-output-buffer-limit";
    const PIECE: usize = 60_000;
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let relay = Relay::to(redis.address());
    assert_eq!(redis.ask(&["CONFIG", "SET", LIMIT, "pubsub 1mb 256kb 1"]), "OK");
    let direct = Cluster::new(&redis, &[app.address()], "");
    let behind = Cluster {
        redis: format!("redis://{}", relay.address()),
        ..Cluster::new(&redis, &[app.address()], "")
    };
    let (one, two) = (behind.node("gw-1").start(), direct.node("gw-2").start());
    for node in [&one, &two] {
        await_bus(node, "live");
        await_members(node, &["gw-1", "gw-2"]);
    }
    let deaf = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        one.metric("tidegate_bus_reconnects_total", &[&label])
    };
    assert_eq!(deaf("closed"), 0.0);
    relay.set(Fault::Stall("tidegate-subscription"));
    weigh(&two, &app.address(), 7);
    // More than the sockets on the way hold, before the gateway finds out by itself that it hears nothing.
    let piece = vec![b'x'; PIECE];
    let begin = Instant::now();
    let said = || redis.log().contains("overcoming of output buffer limits");
    while !said() {
        assert!(begin.elapsed() < testkit::patience(), "the server never minds");
        for _ in 0..50 {
            let _ = redis.try_ask_bytes(&[b"PUBLISH", b"tidegate:1:default:mem", &piece]);
        }
    }
    relay.set(Fault::None);
    eventually("it is noticed", || deaf("closed") + deaf("deaf") >= 1.0);
    await_bus(&one, "live");
    eventually("what was said meanwhile is known", || {
        weight(&one, &app.address()) == 7
    });
    // And it hears.
    let heard = || one.metric("tidegate_bus_messages_total", &["result=\"received\""]);
    let before = heard();
    weigh(&two, &app.address(), 9);
    eventually("it hears again", || {
        heard() > before && weight(&one, &app.address()) == 9
    });
    assert_eq!(
        one.events("cluster.gone").len() + two.events("cluster.gone").len(),
        0
    );
    assert_eq!(cluster(&two)["nodes"], 2);
}
