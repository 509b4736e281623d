//! Against both bodies of the bus, the second over a real Redis that is paused, killed, filled, and not ours.

use super::take::{Take, Taken, step};
use super::*;
use crate::base::task;
use crate::cluster::embedded::Memory;
use crate::cluster::names::NodeId;
use crate::cluster::redis::Options;
use crate::cluster::state::Condition;
use crate::cluster::store::MAX_BUCKETS;
use crate::config::model::RedisKind;
use std::future::Future;
use testkit::Redis;

const LONG: Duration = Duration::from_secs(20);
/// So slow that nothing comes back during a test.
const HOUR: Duration = Duration::from_secs(3600);

fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn over(redis: &Redis, kind: RedisKind, node: &str) -> Bus {
    Bus::redis(Options::plain(kind, redis.port()), id(node), 1)
}

async fn up(bus: &Bus) {
    bus.start();
    let mut state = bus.watch();
    let up = state.wait_for(|state| state.condition != Condition::Down);
    timeout(LONG, up)
        .await
        .expect("the bus is up")
        .expect("the bus goes on");
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// Limits of a gateway among so many.
fn limits(bus: &Bus, gateways: u32) -> Limits {
    let (limits, keeper) = Limits::new(bus.clone());
    limits.gateways(gateways);
    task::spawn(keeper.run());
    limits
}

fn in_process() -> (Bus, Bus) {
    let memory = Memory::default();
    (
        Bus::in_process(&memory, id("a"), 1),
        Bus::in_process(&memory, id("b"), 2),
    )
}

async fn over_redis(redis: &Redis) -> (Bus, Bus) {
    let buses = (
        over(redis, RedisKind::Single, "a"),
        over(redis, RedisKind::Single, "b"),
    );
    up(&buses.0).await;
    up(&buses.1).await;
    buses
}

macro_rules! on_both {
    ($($name:ident => $test:ident;)*) => {
        mod in_one_process {
            use super::*;
            $(#[test] fn $name() { run(async { let (a, b) = in_process(); $test(&a, &b).await }); })*
        }
        mod with_a_redis {
            use super::*;
            $(#[test] fn $name() {
                if !testkit::redis::installed() {
                    return;
                }
                let redis = Redis::start();
                run(async { let (a, b) = over_redis(&redis).await; $test(&a, &b).await });
            })*
        }
    };
}

on_both! {
    the_store_does_what_the_pure_step_does => steps;
    strict_limits_grant_exactly_what_is_allowed_on_all_gateways_together => strict;
    shared_limits_give_one_alone_everything_and_two_not_twice => shared;
    keys_may_be_anything_and_are_apart => hostile;
}

async fn steps(a: &Bus, b: &Bus) {
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..20_u8 {
        let bucket = BucketId::of("steps", &[round]);
        let rate = Rate {
            interval: HOUR,
            burst: rng.u32(1..20),
        };
        let mut free_at = Duration::ZERO;
        for _ in 0..20 {
            let take = Take {
                rate,
                owed: if rng.bool() { rng.u32(..4) } else { 0 },
                wanted: rng.u32(..5),
                credit: 3,
            };
            let bus = if rng.bool() { a } else { b };
            let taken = bus.take(bucket, &take).await.expect("an answer");
            let (after, expected) = step(free_at, Duration::ZERO, &take);
            free_at = after;
            assert_eq!(taken.granted, expected.granted, "{take:?} at {free_at:?}");
            // Time goes on meanwhile.
            let wait = expected.wait.abs_diff(taken.wait);
            assert!(wait < Duration::from_secs(60), "{taken:?} {expected:?}");
        }
    }
}

async fn count(limiter: &Arc<Limiter>, key: &[u8], requests: usize) -> usize {
    let mut granted = 0;
    for _ in 0..requests {
        granted += usize::from(limiter.admit(key).await == Verdict::Admitted);
    }
    granted
}

/// A decision that came in time; what did not is the gateway's own.
async fn strict(a: &Bus, b: &Bus) {
    let limit = Limit::new(1, HOUR, 10).unwrap();
    let both = [a, b].map(|bus| limits(bus, 2).limiter("strict", limit, Mode::Strict));
    let mut granted = 0;
    for n in 0..40 {
        granted += count(&both[n % 2], b"somebody", 1).await;
    }
    // On a machine that is busy elsewhere an answer may be late: 6 is what a gateway may grant by itself.
    assert!((10..=10 + 2 * 6).contains(&granted), "{granted}");
    if both.iter().all(|limiter| limiter.mode() == Mode::Strict) && a.is_embedded() {
        assert_eq!(granted, 10);
        let Verdict::Refused { retry_after } = both[0].admit(b"somebody").await else {
            panic!("refused before");
        };
        assert!(
            retry_after > HOUR - LONG && retry_after <= HOUR,
            "{retry_after:?}"
        );
    }
}

async fn shared(a: &Bus, b: &Bus) {
    let limit = Limit::new(1, HOUR, 20).unwrap();
    let [a, b] = [a, b].map(|bus| limits(bus, 2).limiter("shared", limit, Mode::Shared));
    // Its own share is 12; the other 8 it can have only from the store.
    let mut granted = 0;
    let all = async {
        while granted < 20 {
            granted += count(&a, b"somebody", 1).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, all).await.expect("one alone gets all of it");
    let mut more = 0;
    for _ in 0..100 {
        more += count(&b, b"somebody", 1).await + count(&a, b"somebody", 1).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The other one grants on credit until it is told, a's last token may be left.
    assert!(more <= 12 + 1, "{more}");
    assert_eq!(
        count(&a, b"somebody", 10).await + count(&b, b"somebody", 10).await,
        0
    );
    // A lease that came late, on a machine that is busy elsewhere, is forgotten.
    let again = async {
        while (a.mode(), b.mode()) != (Mode::Shared, Mode::Shared) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, again).await.expect("tokens are leased");
}

async fn hostile(a: &Bus, _b: &Bus) {
    let limit = Limit::new(1, HOUR, 1).unwrap();
    let limits = limits(a, 1);
    let limiter = limits.limiter("strict", limit, Mode::Strict);
    let long = vec![b'x'; 1 << 20];
    let keys: [&[u8]; 7] = [
        b"",
        b"\0",
        b"{c}gen",
        b"}\r\nFLUSHALL\r\n",
        b"\xff\xfe",
        b"*",
        &long,
    ];
    // An answer that is late on a machine that is busy elsewhere is the gateway's own, once.
    let most = if a.is_embedded() { 1 } else { 2 };
    for key in keys {
        let granted = count(&limiter, key, 3).await;
        assert!((1..=most).contains(&granted), "{granted} of {:?}", key.get(..20));
    }
    let other = limits.limiter("other", limit, Mode::Strict);
    let granted = count(&other, b"*", 3).await;
    assert!(
        (1..=most).contains(&granted),
        "limits of other names share nothing: {granted}"
    );
}

/// Everything that a limit put there.
fn buckets(redis: &Redis) -> Vec<String> {
    let found = redis.ask(&["KEYS", "*rl:*"]);
    found.lines().map(str::to_owned).collect()
}

#[test]
fn keys_in_a_redis_are_hashes_under_the_clusters_tag_and_expire() {
    if !testkit::redis::installed() {
        return;
    }
    let redis = Redis::start();
    run(async {
        let (a, _b) = over_redis(&redis).await;
        let slow = BucketId::of("slow", b"10.1.2.3");
        let rate = Rate {
            interval: Duration::from_secs(60),
            burst: 5,
        };
        let take = Take {
            rate,
            owed: 0,
            wanted: 1,
            credit: 0,
        };
        a.take(slow, &take).await.unwrap();
        let key = format!("tidegate:1:test:{{c}}rl:{}", slow.text());
        assert_eq!(buckets(&redis), [key.as_str()]);
        let left: u64 = redis.ask(&["PTTL", &key]).parse().unwrap();
        assert!((1..=60_000).contains(&left), "as long as it matters: {left}");
        // One that asks for nothing writes nothing.
        a.take(BucketId::of("slow", b"x"), &Take { wanted: 0, ..take })
            .await
            .unwrap();
        assert_eq!(buckets(&redis).len(), 1);
        let quick = Take {
            rate: Rate {
                interval: Duration::from_millis(1),
                burst: 5,
            },
            ..take
        };
        for n in 0..200_u8 {
            a.take(BucketId::of("quick", &[n]), &quick).await.unwrap();
        }
        let gone = async {
            while buckets(&redis).len() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, gone).await.expect("what is over is gone");
    });
}

#[test]
fn a_bucket_that_can_not_be_as_it_is_keeps_nobody_out_for_long() {
    if !testkit::redis::installed() {
        return;
    }
    let redis = Redis::start();
    run(async {
        let (a, _b) = over_redis(&redis).await;
        let bucket = BucketId::of("odd", b"k");
        let key = format!("tidegate:1:test:{{c}}rl:{}", bucket.text());
        let rate = Rate {
            interval: Duration::from_millis(20),
            burst: 5,
        };
        let take = Take {
            rate,
            owed: 0,
            wanted: 1,
            credit: 2,
        };
        for odd in ["1e300", "inf", "9007199254740992"] {
            assert_eq!(redis.ask(&["SET", &key, odd]), "OK");
            let taken = a.take(bucket, &take).await.unwrap();
            let most = rate.interval * 3;
            assert!(taken.granted == 0 && taken.wait <= most, "{odd}: {taken:?}");
            let ends = async {
                while a.take(bucket, &take).await.unwrap().granted == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(LONG, ends).await.expect("it is over");
        }
        for odd in ["", "nan", "-inf", "-5", "hello", "0x"] {
            assert_eq!(redis.ask(&["SET", &key, odd]), "OK");
            let taken = a.take(bucket, &take).await.unwrap();
            assert_eq!(
                taken,
                Taken {
                    granted: 1,
                    wait: Duration::ZERO
                },
                "{odd:?}"
            );
        }
    });
}

/// The store stands still: whoever has a limit goes by itself at once, says so, and goes back.
#[test]
fn a_redis_that_stands_still_makes_limits_local_and_refuses_nobody() {
    if !testkit::redis::installed() {
        return;
    }
    let redis = Redis::start();
    run(async {
        let (a, _b) = over_redis(&redis).await;
        let limits = limits(&a, 2);
        let limit = Limit::new(1, Duration::from_secs(60), 1000).unwrap();
        let strict = limits.limiter("strict", limit, Mode::Strict);
        let shared = limits.limiter("shared", limit, Mode::Shared);
        let asks = async {
            while redis.try_ask(&["EXISTS", &bucket_key("shared", b"k")]).as_deref() != Some("1") {
                assert_eq!(count(&shared, b"k", 1).await, 1);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, asks).await.expect("tokens are leased");
        assert_eq!(count(&strict, b"k", 1).await, 1);
        redis.pause();
        // So many wait for it, each for 5 ms, and nobody after them.
        let waiting = STRICT_FAILURES as usize;
        assert_eq!(count(&strict, b"new", waiting).await, waiting, "by its own count");
        assert_eq!(strict.mode(), Mode::Local);
        let local = async {
            while shared.mode() != Mode::Local {
                assert_eq!(
                    count(&shared, b"new", 1).await,
                    1,
                    "not refused for want of an answer"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, local).await.expect("leases are not had any more");
        assert_eq!(
            count(&strict, b"other", 700).await,
            600,
            "a gateway's share of two, and no more"
        );
        assert_eq!(count(&shared, b"other", 700).await, 600);
        redis.resume();
        // Nobody asks for anything meanwhile.
        let back = async {
            while (strict.mode(), shared.mode()) != (Mode::Strict, Mode::Shared) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, back).await.expect("it heals");
    });
}

fn bucket_key(limit: &str, key: &[u8]) -> String {
    format!("tidegate:1:test:{{c}}rl:{}", BucketId::of(limit, key).text())
}

#[test]
fn a_redis_that_is_away_full_or_holds_something_else_refuses_nobody() {
    if !testkit::redis::installed() {
        return;
    }
    let mut redis = Redis::start();
    run(async {
        let (a, _b) = over_redis(&redis).await;
        let limits = limits(&a, 1);
        let limit = Limit::new(1, HOUR, 10).unwrap();
        let strict = limits.limiter("strict", limit, Mode::Strict);
        let shared = limits.limiter("shared", limit, Mode::Shared);
        assert_eq!(redis.ask(&["LPUSH", &bucket_key("strict", b"list"), "x"]), "1");
        assert_eq!(
            count(&strict, b"list", 12).await,
            10,
            "its own count, and that is kept to"
        );
        assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
        assert_eq!(count(&strict, b"full", 12).await, 10);
        assert_eq!(count(&shared, b"full", 10).await, 10);
        assert_eq!(redis.ask(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
        redis.kill();
        let mut state = a.watch();
        let down = state.wait_for(|state| state.condition == Condition::Down);
        timeout(LONG, down).await.expect("down").expect("the bus goes on");
        assert_eq!(count(&strict, b"away", 12).await, 10);
        assert_eq!(strict.mode(), Mode::Local);
        assert_eq!(count(&shared, b"away", 12).await, 10);
    });
}

#[test]
fn in_a_redis_cluster_one_master_counts() {
    if !testkit::redis::installed() {
        return;
    }
    let redis = Redis::with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-require-full-coverage",
        "no",
    ]);
    assert_eq!(redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    testkit::eventually("the cluster is well", || {
        redis.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    run(async {
        let a = over(&redis, RedisKind::Cluster, "a");
        up(&a).await;
        let take = Take {
            rate: Rate {
                interval: HOUR,
                burst: 3,
            },
            owed: 0,
            wanted: 2,
            credit: 0,
        };
        for n in 0..50_u8 {
            let bucket = BucketId::of("cluster", &[n]);
            assert_eq!(a.take(bucket, &take).await.unwrap().granted, 2);
            assert_eq!(a.take(bucket, &take).await.unwrap().granted, 1);
        }
        assert_eq!(buckets(&redis).len(), 50);
    });
}

#[test]
fn the_memory_of_a_cluster_of_one_is_bounded() {
    run(async {
        let (a, _b) = in_process();
        let take = |interval| Take {
            rate: Rate { interval, burst: 1 },
            owed: 0,
            wanted: 1,
            credit: 0,
        };
        for n in 0..MAX_BUCKETS as u64 {
            let bucket = BucketId::of("many", &n.to_be_bytes());
            a.take(bucket, &take(HOUR)).await.unwrap();
        }
        let one_more = BucketId::of("many", b"one more");
        assert_eq!(a.take(one_more, &take(HOUR)).await, Err(StoreError::Full));
        // Those who have a limit go on by their own count.
        let limiter = limits(&a, 1).limiter("many", Limit::new(1, HOUR, 2).unwrap(), Mode::Strict);
        assert_eq!(count(&limiter, b"one more", 5).await, 2);
    });
}
