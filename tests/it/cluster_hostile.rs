//! Somebody writes right into the Redis of a cluster, or says things on its channels: whatever it is, and however much,
//! gateways go on knowing of each other, say what is wrong, and need nobody to heal.

use crate::cluster_kit::{CONFIG, await_bus, await_members, bus, cluster, serves};
use crate::gateway;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::redis::{self, Redis};
use testkit::{Backend, Builder, Gateway, eventually, holds_for};

const TOKEN: &str = "operator-operator-operator";

/// Who may change something.
const ADMIN: &str = r#"
[admin]
address = "127.0.0.1:0"
tokens = [{ name = "ops", role = "operator", token = "env:TOKEN" }]
"#;

fn node(name: &str, redis: &str, app: &Backend) -> Builder {
    gateway(&format!("{CONFIG}{ADMIN}"))
        .env("TOKEN", TOKEN)
        .token(TOKEN)
        .with("more", "")
        .with("node", name)
        .with("redis", redis)
        .with("app", app.address())
}

const PREFIX: &str = "tidegate:1:default:";

fn key(name: &str) -> String {
    format!("{PREFIX}{{c}}{name}")
}

/// A Redis, and two gateways that see each other by it.
fn scene() -> Option<(Redis, Backend, Gateway, Gateway)> {
    if !redis::installed() {
        return None;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let (a, b) = (
        node("gw-a", &redis.url(), &app).start(),
        node("gw-b", &redis.url(), &app).start(),
    );
    await_members(&a, &["gw-a", "gw-b"]);
    await_members(&b, &["gw-a", "gw-b"]);
    await_bus(&a, "live");
    Some((redis, app, a, b))
}

/// Runs a script in the Redis over one of its cluster's keys.
fn run(redis: &Redis, script: &str, name: &str) {
    let done = redis.try_ask(&["EVAL", &format!("{script} return 'done'"), "1", &key(name)]);
    assert_eq!(done.as_deref(), Some("done"), "{script}");
}

fn weigh(gateway: &Gateway, app: &Backend, weight: u32) {
    let path = format!("/api/v1/upstreams/app/endpoints/{}", app.address());
    let answer = gateway.admin_call("PUT", &path, "", &json!({ "weight": weight }).to_string());
    assert_eq!(answer.status, 200, "{answer}");
}

fn await_weight(gateway: &Gateway, app: &Backend, weight: u32) {
    eventually("the weight is known", || {
        gateway.endpoint(&app.address())["weight"] == weight
    });
}

/// The two are a cluster: one that is new finds them, and what is said on one holds on the other.
fn works(redis: &Redis, app: &Backend, a: &Gateway, b: &Gateway) {
    let c = node("gw-c", &redis.url(), app).start();
    for gateway in [a, b, &c] {
        await_members(gateway, &["gw-a", "gw-b", "gw-c"]);
    }
    assert_eq!(c.stop(), Some(0));
    for gateway in [a, b] {
        await_members(gateway, &["gw-a", "gw-b"]);
        await_bus(gateway, "live");
        serves(gateway);
        assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    }
}

/// Connections that were given up for an answer that was too long.
fn given_up(gateway: &Gateway) -> bool {
    gateway
        .admin_get("/metrics")
        .text()
        .contains("tidegate_bus_reconnects_total{reason=\"too_large\"}")
}

const TIME: &str = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)
    local function whole(n) return string.format('%.0f', n) end";

#[test]
fn members_that_nobody_is_take_no_room_from_those_that_are() {
    let Some((redis, app, a, b)) = scene() else { return };
    // Thousands that look alive, of now, of a far future, and such as would never be gone.
    let fakes = format!(
        "{TIME} for i = 1, 3000 do
            redis.call('HSET', KEYS[1], 'now'..i, '5 7 '..whole(now)..' 0 3000 {{}}')
            redis.call('HSET', KEYS[1], 'ahead'..i, '5 7 '..whole(now + 1e15)..' 0 3000 {{}}')
            redis.call('HSET', KEYS[1], 'lasting'..i, '5 7 '..whole(now)..' 0 999999999999 {{}}')
            redis.call('HSET', KEYS[1], 'id\\n{{'..i..'}}', '5 7 '..whole(now)..' 0 3000 {{}}')
            redis.call('HSET', KEYS[1], 'odd'..i, 'nan nan inf 0 -1 x')
        end
        redis.call('HSET', KEYS[1], string.rep('n', 10240), '5 7 '..whole(now)..' 0 3000 {{}}')
        redis.call('HSET', KEYS[1], 'long', '5 7 '..whole(now)..' 0 3000 '..string.rep('x', 5000000))
        redis.call('HSET', KEYS[1], 'digits', '5 7 '..string.rep('9', 400)..' 0 3000 {{}}')
        redis.call('HDEL', KEYS[1], 'gw-b')"
    );
    run(&redis, &fakes, "mi");
    works(&redis, &app, &a, &b);
    assert!(!given_up(&a), "no connection was lost for it");
    let left: usize = redis.ask(&["HLEN", &key("mi")]).parse().unwrap();
    assert!(left <= 256, "{left}");
}

#[test]
fn values_longer_than_any_of_ours_cost_no_connection() {
    let Some((redis, app, a, b)) = scene() else { return };
    let long = "string.rep('9', 3000000)";
    for (name, command) in [
        ("gen", format!("redis.call('SET', KEYS[1], {long})")),
        ("cfg", format!("redis.call('HSET', KEYS[1], 'version', {long})")),
        ("l", format!("redis.call('HSET', KEYS[1], {long}, {long})")),
        (
            "t:overrides",
            format!("redis.call('HSET', KEYS[1], 'k', {long}, {long}, 'v')"),
        ),
        (
            "t:services",
            format!("for i = 1, 4 do redis.call('HSET', KEYS[1], 'k'..i, {long}) end"),
        ),
        ("ev", format!("redis.call('XADD', KEYS[1], '*', 'd', {long})")),
    ] {
        run(&redis, &command, name);
    }
    let said = vec![b'x'; 3_000_000];
    let heard = redis.try_ask_bytes(&[b"PUBLISH", format!("{PREFIX}hlt").as_bytes(), &said]);
    assert_eq!(heard.as_deref(), Some("2"));
    eventually("it is counted", || {
        a.metric("tidegate_bus_messages_total", &["result=\"too_large\""]) == 1.0
    });
    weigh(&a, &app, 7);
    await_weight(&b, &app, 7);
    // Those after it are read too.
    eventually("events are told", || {
        let told = b.admin_get("/api/v1/events?scope=cluster&limit=1000").json();
        let events = told["events"].as_array().into_iter().flatten();
        events.clone().any(|event| event["type"] == "overrides.shared")
    });
    // What is that long is nobody's, and gone.
    for (table, left) in [("t:overrides", "1"), ("t:services", "0")] {
        eventually("it is taken out", || redis.ask(&["HLEN", &key(table)]) == left);
    }
    works(&redis, &app, &a, &b);
    assert!(!given_up(&a) && !given_up(&b), "{}", a.log());
}

#[test]
fn leases_that_nobody_holds_are_neither_shown_nor_in_the_way() {
    let Some((redis, app, a, b)) = scene() else { return };
    let fakes = format!(
        "{TIME} for i = 1, 3000 do
            redis.call('HSET', KEYS[1], 't'..i, 'gw-z/1 5 '..whole(now + 60000))
            redis.call('HSET', KEYS[1], 'quoted\"\\n'..i, 'x '..i..' '..whole(now + 1e15))
        end"
    );
    run(&redis, &fakes, "l");
    run(
        &redis,
        "for i = 1, 100 do redis.call('HSET', KEYS[1], 'task'..i, 'garbage') end",
        "lt",
    );
    works(&redis, &app, &a, &b);
    let leases = cluster(&a)["leases"].as_array().expect("leases").len();
    assert!(leases <= 64, "{leases}");
    assert!(!a.admin_get("/metrics").text().contains("quoted"));
}

/// An id that none is greater than, as of a clock that is set to the end of time.
#[test]
fn an_event_at_the_end_of_all_ids_is_not_the_last_one() {
    let Some((redis, app, a, b)) = scene() else { return };
    let last = "18446744073709551615-18446744073709551615";
    assert_eq!(redis.ask(&["XADD", &key("ev"), last, "d", "x"]), last);
    weigh(&a, &app, 5);
    eventually("what came after it is told", || {
        let told = b.admin_get("/api/v1/events?scope=cluster&limit=1000").text();
        told.contains("endpoint.weighed")
    });
    works(&redis, &app, &a, &b);
}

/// It stays told until it is mended, and the operator needs not guess which key it is.
#[test]
fn a_table_of_another_kind_is_told_by_its_name_for_as_long_as_it_is_one() {
    let Some((redis, app, a, b)) = scene() else { return };
    let table = key("t:overrides");
    let _ = redis.ask(&["DEL", &table]);
    let _ = redis.ask(&["SET", &table, "not a hash"]);
    let told = ("degraded".to_owned(), "wrong_type".to_owned());
    eventually("it is told", || bus(&a) == told);
    holds_for(Duration::from_secs(6), "it stays told", || bus(&a) == told);
    let detail = cluster(&a)["bus"]["detail"].clone();
    let detail = detail.as_str().expect("a detail");
    assert!(
        detail.contains(&table) && detail.contains("delete it"),
        "{detail}"
    );
    eventually("an event tells of it", || !a.events("bus.degraded").is_empty());
    assert_eq!(a.events("bus.degraded").len(), 1, "once");
    let _ = redis.ask(&["DEL", &table]);
    works(&redis, &app, &a, &b);
}

#[test]
fn a_command_that_a_script_may_not_run_is_called_a_matter_of_permission() {
    if !redis::installed() {
        return;
    }
    let (redis, app) = (Redis::start(), Backend::text("app"));
    let _ = redis.ask(&["ACL", "SETUSER", "gw", "on", ">pw", "~*", "&*", "+@all"]);
    let url = redis.url().replace("redis://", "redis://gw:pw@");
    let a = node("gw-a", &url, &app).start();
    await_bus(&a, "live");
    for command in ["hgetall", "hset", "time", "publish"] {
        let _ = redis.ask(&["ACL", "SETUSER", "gw", &format!("-{command}")]);
        eventually(command, || {
            bus(&a) == ("degraded".to_owned(), "permission".to_owned())
        });
        serves(&a);
        let _ = redis.ask(&["ACL", "SETUSER", "gw", "+@all"]);
        await_bus(&a, "live");
    }
}

/// There is no other server to look for, and what is announced still gets to everybody.
#[test]
fn a_redis_that_wants_replicas_is_told_and_goes_on_carrying_what_it_can() {
    let Some((redis, app, a, b)) = scene() else { return };
    assert_eq!(redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    let told = ("degraded".to_owned(), "no_replicas".to_owned());
    eventually("it is told", || bus(&a) == told && bus(&b) == told);
    weigh(&a, &app, 6);
    await_weight(&b, &app, 6);
    holds_for(Duration::from_secs(3), "it stays so", || bus(&a) == told);
    assert_eq!(redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    works(&redis, &app, &a, &b);
}

/// Revisions are moments: one that no clock comes to would stand for ever.
#[test]
fn an_override_of_a_revision_beyond_all_clocks_keeps_nobody_from_changing_it() {
    let Some((redis, app, a, b)) = scene() else { return };
    weigh(&a, &app, 3);
    await_weight(&b, &app, 3);
    let piece = format!("weight|app|{}", app.address());
    eventually("it is in the store", || {
        !redis.ask(&["HGET", &key("t:overrides"), &piece]).is_empty()
    });
    for revision in ["18446744073709551615", "9007199254740991", "32503680000001"] {
        let entry = format!("{revision} gw-z 0 1 ");
        let _ = redis.ask(&["HSET", &key("t:overrides"), &piece, &entry]);
        let entry = format!("{revision} gw\u{1b}[31m 1 1 garbage");
        let _ = redis.ask(&["HSET", &key("t:services"), "id", &entry]);
    }
    holds_for(Duration::from_secs(6), "it stays in force", || {
        a.endpoint(&app.address())["weight"] == 3
    });
    weigh(&b, &app, 4);
    await_weight(&a, &app, 4);
    eventually("it is in the store again", || {
        redis
            .ask(&["HGET", &key("t:overrides"), &piece])
            .contains(" gw-b 1 ")
    });
    works(&redis, &app, &a, &b);
}

#[test]
fn thousands_of_entries_that_can_not_be_read_are_a_few_lines_of_the_log() {
    let Some((redis, app, a, b)) = scene() else { return };
    let before = a.log().lines().count();
    let fakes = "for i = 1, 2000 do
        redis.call('HSET', KEYS[1], 'state|app|10.0.0.1:'..i, '5 gw-z 1 5 garbage')
        end";
    run(&redis, fakes, "t:overrides");
    run(&redis, fakes, "t:services");
    a.await_log("an override of another gateway can't be taken");
    a.await_log("a registration that can't be read is left alone");
    weigh(&b, &app, 9);
    await_weight(&a, &app, 9);
    works(&redis, &app, &a, &b);
    let lines = a.log().lines().count() - before;
    assert!(lines < 40, "{lines} lines");
}

/// A name that somebody else speaks in, with a number that the one who has it will never come to.
#[test]
fn one_in_whose_name_another_spoke_is_heard_again() {
    let Some((redis, app, a, b)) = scene() else { return };
    let members = cluster(&a)["members"].clone();
    let of_b = |member: &&Value| member["node"] == "gw-b";
    let incarnation = members.as_array().unwrap().iter().find(of_b).unwrap()["incarnation"].clone();
    let incarnation = incarnation.as_u64().unwrap();
    let mut header = b"\xa5\x63src\x64gw-b\x63inc\x1b".to_vec();
    header.extend(incarnation.to_be_bytes());
    header.extend(b"\x63seq\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x63typ\x61x\x63top\x63hlt");
    let mut envelope = b"TG\x01\x00".to_vec();
    envelope.extend(u16::try_from(header.len()).unwrap().to_be_bytes());
    envelope.extend(header);
    let received = || a.metric("tidegate_bus_messages_total", &["result=\"received\""]);
    let before = received();
    let _ = redis.try_ask_bytes(&[b"PUBLISH", format!("{PREFIX}hlt").as_bytes(), &envelope]);
    eventually("it is taken for the other", || {
        a.metric("tidegate_bus_messages_total", &["result=\"duplicate\""]) >= 1.0
    });
    let since = received();
    assert!(since > before);
    eventually("the other is heard again", || received() >= since + 2.0);
    works(&redis, &app, &a, &b);
}

#[test]
fn a_connection_that_is_killed_again_and_again_is_a_line_of_the_log_and_not_a_hundred() {
    let Some((redis, app, a, b)) = scene() else { return };
    for _ in 0..60 {
        let _ = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        holds_for(Duration::from_millis(50), "it serves", || {
            a.get("/").status == 200
        });
    }
    let lines = a.log().matches("connection=\"subscription\"").count();
    assert!((1..=4).contains(&lines), "{lines} lines: {}", a.log());
    works(&redis, &app, &a, &b);
}
