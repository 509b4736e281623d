//! The same against both bodies: in process, and over a real Redis.

use super::*;
use crate::cluster::configs::MAX_CONTENT;
use crate::cluster::embedded::Memory;
use crate::cluster::envelope::Key;
use crate::cluster::listener::{Cause, Heard};
use crate::cluster::redis::Options;
use crate::cluster::state::Condition;
use crate::cluster::store::{MAX_ENTRIES, MAX_REVISION};
use crate::config::model::RedisKind;
use std::future::Future;
use testkit::Redis;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(10);
const TABLE: Table = Table::named("tests");

/// Two nodes that share a store.
struct Nodes {
    a: Bus,
    b: Bus,
    redis: Option<Redis>,
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn options(redis: &Redis, key: Option<&str>) -> Options {
    Options {
        key: key.map(|key| Key::new(key.as_bytes())),
        ..Options::plain(RedisKind::Single, redis.port())
    }
}

fn beating(bus: &Bus, beat: u64) -> Beating {
    Beating {
        node: bus.node(),
        incarnation: bus.incarnation(),
        beat,
        gone_after: Duration::from_secs(3),
        leaving: false,
        record: Bytes::from_static(b"{}"),
    }
}

async fn live(bus: &Bus) {
    let mut state = bus.watch();
    let up = async {
        // One that has read what is there is live.
        while state.borrow_and_update().condition != Condition::Live {
            drop(bus.beat(&beating(bus, 1)).await);
            drop(timeout(Duration::from_millis(20), state.changed()).await);
        }
    };
    timeout(LONG, up).await.expect("the bus is live");
}

impl Nodes {
    fn embedded() -> Self {
        let memory = Memory::default();
        Self {
            a: Bus::in_process(&memory, id("a"), 1),
            b: Bus::in_process(&memory, id("b"), 2),
            redis: None,
        }
    }

    async fn redis() -> Option<Self> {
        if !testkit::redis::installed() {
            return None;
        }
        let redis = Redis::start();
        let nodes = Self {
            a: Bus::redis(options(&redis, None), id("a"), 1),
            b: Bus::redis(options(&redis, None), id("b"), 2),
            redis: Some(redis),
        };
        for bus in [&nodes.a, &nodes.b] {
            bus.start();
            live(bus).await;
        }
        Some(nodes)
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

macro_rules! on_both {
    ($($name:ident => $test:ident;)*) => {
        mod in_process {
            use super::*;
            $(#[test] fn $name() { run(async { $test(&Nodes::embedded()).await }); })*
        }
        mod over_redis {
            use super::*;
            $(#[test] fn $name() {
                run(async {
                    if let Some(nodes) = Nodes::redis().await {
                        $test(&nodes).await;
                        nodes.a.end().await;
                        nodes.b.end().await;
                    }
                });
            })*
        }
    };
}

on_both! {
    what_one_announces_the_other_hears_in_order_and_itself_does_not => announcements;
    the_last_writer_of_a_key_wins_by_revision_then_by_node => last_writer;
    tables_and_their_parts_are_bounded => bounds;
    a_lease_has_one_holder_and_a_late_one_changes_nothing => leases;
    events_are_read_from_where_one_was => events;
    of_two_who_publish_a_configuration_one_is_told_that_it_was_late => configurations;
    beats_tell_who_is_there_and_who_has_an_id => beats;
}

async fn hear(listener: &mut Listener) -> Heard {
    timeout(LONG, listener.next())
        .await
        .expect("something is heard")
        .expect("the bus goes on")
}

async fn hear_message(listener: &mut Listener) -> crate::cluster::Message {
    loop {
        match hear(listener).await {
            Heard::Message(message) => return message,
            Heard::Reset(Cause::Reconnected) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn announcements(nodes: &Nodes) {
    let mut own = nodes.a.listen(&Topic::ALL);
    let mut health = nodes.b.listen(&[Topic::Health]);
    let mut told = nodes.b.listen(&[Topic::Node]);
    for n in 0..50_u8 {
        assert!(nodes.a.announce(Topic::Control, "other", &Bytes::new()));
        assert!(
            nodes
                .a
                .announce(Topic::Health, "down", &Bytes::copy_from_slice(&[n]))
        );
    }
    assert!(nodes.a.tell(&id("b"), "hello", &Bytes::from_static(b"b")));
    assert!(nodes.a.tell(&id("c"), "hello", &Bytes::from_static(b"c")));
    for n in 0..50_u8 {
        let message = hear_message(&mut health).await;
        assert_eq!(
            (&*message.source, message.incarnation, message.seq),
            ("a", 1, u64::from(n) + 1)
        );
        assert_eq!((&*message.kind, &*message.payload), ("down", &[n][..]));
    }
    let message = hear_message(&mut told).await;
    assert_eq!((message.topic, &*message.payload), (Topic::Node, &b"b"[..]));
    assert!(
        !nodes
            .a
            .announce(Topic::Health, "large", &vec![0; MAX_PAYLOAD + 1].into())
    );
    assert!(!nodes.a.announce(Topic::Node, "to whom", &Bytes::new()));
    assert_eq!(nodes.a.counters().announce_drops.get(), 2);
    nodes.b.announce(Topic::Control, "last", &Bytes::new());
    assert_eq!(&*hear_message(&mut own).await.kind, "last");
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn last_writer(nodes: &Nodes) {
    let (a, b) = (&nodes.a, &nodes.b);
    assert_eq!(a.put(TABLE, "k/1", bytes("a1"), 1).await, Ok(Written::Stored));
    // Again: it may be that nobody knew whether it was stored.
    assert_eq!(a.put(TABLE, "k/1", bytes("a1"), 1).await, Ok(Written::Stored));
    assert_eq!(a.put(TABLE, "k/1", bytes("other"), 1).await, Ok(Written::Older));
    assert_eq!(b.put(TABLE, "k/1", bytes("b1"), 1).await, Ok(Written::Stored));
    assert_eq!(a.put(TABLE, "k/1", bytes("a1"), 1).await, Ok(Written::Older));
    assert_eq!(
        a.put(TABLE, "k/1", bytes("a10 \0\r\n x"), 10).await,
        Ok(Written::Stored)
    );
    assert_eq!(b.put(TABLE, "k/1", bytes("b9"), 9).await, Ok(Written::Older));
    let read = b.read(TABLE).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(
        (&*read[0].key, read[0].revision, &*read[0].node),
        ("k/1", 10, "a")
    );
    assert_eq!(read[0].value, Some(bytes("a10 \0\r\n x")));
    // What is removed stays so, for older values.
    assert_eq!(b.remove(TABLE, "k/1", 11).await, Ok(Written::Stored));
    assert_eq!(a.put(TABLE, "k/1", bytes("a10"), 10).await, Ok(Written::Older));
    let read = a.read(TABLE).await.unwrap();
    assert_eq!((read.len(), read[0].value.clone()), (1, None));
    a.purge(TABLE).await.unwrap();
    assert_eq!(a.read(TABLE).await, Ok(vec![]));
    assert_eq!(a.read(Table::OVERRIDES).await, Ok(vec![]));
}

async fn bounds(nodes: &Nodes) {
    let a = &nodes.a;
    for n in 0..MAX_ENTRIES {
        let written = a.put(TABLE, &format!("key-{n}"), bytes("v"), 1).await;
        assert_eq!(written, Ok(Written::Stored), "{n}");
    }
    assert_eq!(a.put(TABLE, "more", bytes("v"), 1).await, Err(StoreError::Full));
    assert_eq!(a.put(TABLE, "key-7", bytes("w"), 2).await, Ok(Written::Stored));
    assert_eq!(a.read(TABLE).await.unwrap().len(), MAX_ENTRIES);
    let long = "x".repeat(10_240);
    for key in ["", "a\nb", &long] {
        assert!(a.put(TABLE, key, bytes("v"), 1).await.is_err(), "{key:?}");
    }
    assert!(a.put(Table::named("{x}"), "k", bytes("v"), 1).await.is_err());
    assert!(a.put(TABLE, "k", vec![0; MAX_VALUE + 1].into(), 1).await.is_err());
    assert!(a.put(TABLE, "key-7", bytes("v"), MAX_REVISION + 1).await.is_err());
    assert!(a.acquire("a b", Duration::from_secs(1)).await.is_err());
    assert!(a.append(vec![0; MAX_EVENT + 1].into()).await.is_err());
}

async fn leases(nodes: &Nodes) {
    let (a, b) = (&nodes.a, &nodes.b);
    let ttl = Duration::from_secs(10);
    let held = a.acquire("chore", ttl).await.unwrap().expect("a lease");
    assert_eq!(b.acquire("chore", ttl).await, Ok(None));
    // Who has it has it; the token is the same.
    assert_eq!(
        a.acquire("chore", ttl).await.unwrap().expect("a lease").token,
        held.token
    );
    let held = a.renew(&held, ttl).await.unwrap().expect("still held");
    assert_eq!(
        a.put_fenced(TABLE, "k", bytes("a"), 1, &held).await,
        Ok(Written::Stored)
    );
    let seen = b.beat(&beating(b, 2)).await.unwrap().leases;
    assert_eq!(
        (seen.len(), &*seen[0].task, &*seen[0].holder),
        (1, "chore", "a/1")
    );
    a.release(&held).await.unwrap();
    let next = b.acquire("chore", ttl).await.unwrap().expect("it is free");
    assert!(next.token > held.token);
    // The one before does not know yet.
    assert_eq!(
        a.put_fenced(TABLE, "k", bytes("late"), 2, &held).await,
        Err(StoreError::Fenced)
    );
    assert_eq!(a.renew(&held, ttl).await, Ok(None));
    a.release(&held).await.unwrap();
    assert_eq!(
        b.put_fenced(TABLE, "k", bytes("b"), 2, &next).await,
        Ok(Written::Stored)
    );
    // Chores are few, also those that nobody does now.
    for n in 1..64 {
        let task = format!("chore-{n}");
        let lease = a.acquire(&task, ttl).await.unwrap().expect("a lease");
        a.release(&lease).await.unwrap();
    }
    assert_eq!(a.acquire("one-too-many", ttl).await, Err(StoreError::Full));
    // It lapses without its holder, who stops before.
    let short = Duration::from_millis(60);
    let lapsing = a.acquire("chore-1", short).await.unwrap().expect("a lease");
    assert!(lapsing.until < tokio::time::Instant::now() + short);
    let taken = async {
        loop {
            if let Some(lease) = b.acquire("chore-1", ttl).await.unwrap() {
                return lease;
            }
        }
    };
    let taken = timeout(LONG, taken).await.expect("it lapses");
    assert!(!lapsing.held(tokio::time::Instant::now()) && taken.token > lapsing.token);
}

async fn events(nodes: &Nodes) {
    let (a, b) = (&nodes.a, &nodes.b);
    assert_eq!(b.events(None, 10).await, Ok(vec![]));
    let mut ids = Vec::new();
    for n in 0..5_u8 {
        ids.push(a.append(Bytes::copy_from_slice(&[n])).await.unwrap());
    }
    let read = b.events(None, 3).await.unwrap();
    assert_eq!(
        read.iter().map(|event| event.id.clone()).collect::<Vec<_>>(),
        ids[..3]
    );
    let rest = b.events(Some(&ids[2]), 100).await.unwrap();
    assert_eq!(
        rest.iter().map(|event| event.payload[0]).collect::<Vec<_>>(),
        [3, 4]
    );
    assert_eq!(b.events(Some(&ids[4]), 100).await, Ok(vec![]));
    assert!(b.events(Some("x"), 1).await.is_err());
}

async fn configurations(nodes: &Nodes) {
    let (a, b) = (&nodes.a, &nodes.b);
    assert_eq!(b.config().await, Ok(None));
    let publication = |expected: u64, version: u64, text: &'static str| Publication {
        expected,
        version,
        content: bytes(text),
        about: bytes(text),
    };
    let published = a.publish_config(publication(0, 1, "one")).await;
    assert_eq!(published, Ok(Published::Version(1)));
    let published = b.publish_config(publication(0, 1, "late")).await;
    assert_eq!(published, Ok(Published::Conflict(1)));
    assert!(
        b.publish_config(publication(1, 1, "same")).await.is_err(),
        "a version is above the one that it replaces"
    );
    // Whoever knows of later ones goes on from there.
    let published = b.publish_config(publication(1, 7, "seven \0\r\n")).await;
    assert_eq!(published, Ok(Published::Version(7)));
    let config = a.config().await.unwrap().expect("a configuration");
    assert_eq!((config.mark.version, &*config.content), (7, &b"seven \0\r\n"[..]));
    assert_eq!(a.beat(&beating(a, 2)).await.unwrap().config, config.mark);
    // What went before is kept, and not for ever.
    assert_eq!(b.config_version(1).await, Ok(Some(bytes("one"))));
    assert_eq!(b.config_version(2).await, Ok(None));
    for version in 7..16 {
        let published = a.publish_config(publication(version, version + 1, "more")).await;
        assert_eq!(published, Ok(Published::Version(version + 1)));
    }
    let mut kept: Vec<u64> = b
        .config_versions()
        .await
        .unwrap()
        .iter()
        .map(|kept| kept.0)
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, (7..=16).collect::<Vec<_>>());
    assert_eq!(b.config_version(1).await, Ok(None));
    assert_eq!(b.config_version(7).await, Ok(Some(bytes("seven \0\r\n"))));
    let large = Bytes::from(vec![b'x'; MAX_CONTENT]);
    let published = a
        .publish_config(Publication {
            content: large.clone(),
            ..publication(16, 17, "")
        })
        .await;
    assert_eq!(published, Ok(Published::Version(17)));
    assert_eq!(b.config().await.unwrap().expect("it").content, large);
    let more = Bytes::from(vec![b'x'; MAX_CONTENT + 1]);
    assert!(
        a.publish_config(Publication {
            content: more,
            ..publication(17, 18, "")
        })
        .await
        .is_err()
    );
    // What is to be looked at first is nobody's configuration yet.
    a.lay_out_config("try-1", bytes("try\n")).await.unwrap();
    assert_eq!(b.laid_out_config("try-1").await, Ok(Some(bytes("try\n"))));
    assert_eq!(b.laid_out_config("try-2").await, Ok(None));
    a.lay_out_config("try-2", large).await.unwrap();
    assert_eq!(b.laid_out_config("try-1").await, Ok(None));
    assert_eq!(b.config().await.unwrap().expect("it").mark.version, 17);
}

async fn beats(nodes: &Nodes) {
    let (a, b) = (&nodes.a, &nodes.b);
    a.beat(&beating(a, 2)).await.unwrap();
    let beat = b.beat(&beating(b, 2)).await.unwrap();
    let mut there: Vec<(&str, u64)> = beat
        .members
        .iter()
        .map(|seen| (seen.node.as_str(), seen.incarnation))
        .collect();
    there.sort_unstable();
    assert_eq!(there, [("a", 1), ("b", 2)]);
    assert_eq!(beat.duplicate, None);
    let other = Beating {
        incarnation: 9,
        ..beating(a, 1)
    };
    let refused = a.beat(&other).await.unwrap();
    assert_eq!(refused.duplicate, Some(1));
    assert!(refused.members.iter().all(|seen| seen.incarnation != 9));
    let leaving = Beating {
        leaving: true,
        ..beating(a, 3)
    };
    a.beat(&leaving).await.unwrap();
    let taken = a.beat(&other).await.unwrap();
    assert_eq!(taken.duplicate, None);
    assert_eq!(taken.generation, beat.generation);
}

/// Everybody who listens is told to read anew: after a time without the store, and when the store lost what it had.
#[test]
fn a_store_that_was_away_or_lost_everything_is_told_to_those_who_listen() {
    run(async {
        let Some(mut nodes) = Nodes::redis().await else {
            return;
        };
        let mut listener = nodes.a.listen(&[Topic::Health]);
        let redis = nodes.redis.as_mut().unwrap();
        assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
        nodes.a.beat(&beating(&nodes.a, 2)).await.unwrap();
        assert_eq!(hear(&mut listener).await, Heard::Reset(Cause::Flushed));
        redis.kill();
        let mut state = nodes.a.watch();
        timeout(LONG, state.wait_for(|state| state.condition == Condition::Down))
            .await
            .unwrap()
            .unwrap();
        let error = nodes.a.put(TABLE, "k", bytes("v"), 1).await.unwrap_err();
        assert!(error.passes(), "{error:?}");
        assert!(!nodes.a.announce(Topic::Health, "x", &Bytes::new()));
        redis.start_again();
        assert_eq!(hear(&mut listener).await, Heard::Reset(Cause::Reconnected));
        live(&nodes.a).await;
        assert_eq!(nodes.a.put(TABLE, "k", bytes("v"), 1).await, Ok(Written::Stored));
    });
}

/// Announcements that never came, or came twice.
#[test]
fn what_was_missed_is_told_and_what_comes_twice_is_heard_once() {
    run(async {
        let Some(nodes) = Nodes::redis().await else { return };
        let redis = nodes.redis.as_ref().unwrap();
        let mut listener = nodes.b.listen(&[Topic::Health]);
        let say = |seq: u64| {
            let envelope = crate::cluster::envelope::Envelope {
                source: "x".into(),
                incarnation: 3,
                seq,
                kind: "k".into(),
                payload: b"p",
            };
            let bytes = envelope.encode(1, "hlt", None).unwrap();
            assert_eq!(
                redis
                    .try_ask_bytes(&[b"PUBLISH", b"tidegate:1:test:hlt", &bytes])
                    .as_deref(),
                Some("2")
            );
        };
        for seq in [1, 1, 2, 7, 7, 2] {
            say(seq);
        }
        // A gap may come before what waits.
        let mut heard = Vec::new();
        let mut gaps = 0;
        while heard.last() != Some(&7) {
            match hear(&mut listener).await {
                Heard::Message(message) => heard.push(message.seq),
                Heard::Gap => gaps += 1,
                Heard::Reset(_) => {}
            }
        }
        assert_eq!((heard, gaps), (vec![1, 2, 7], 1));
        say(8);
        assert_eq!(hear_message(&mut listener).await.seq, 8);
        assert_eq!(nodes.b.counters().duplicates.get(), 3);
        assert_eq!(nodes.b.counters().gaps.get(), 1);
    });
}
