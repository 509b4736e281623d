//! Who may not publish a configuration to a cluster, who comes too late, and what is none.

use crate::cluster_published::{TOKEN, VIEWER, WITH_KEY, node, saying};
use crate::gateway;
use testkit::redis::{self, Redis};
use testkit::{Backend, Response, eventually};

#[test]
fn who_may_not_or_comes_too_late_is_told_so() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let (a, b) = (node("gw-a", &redis.url(), ""), node("gw-b", &redis.url(), ""));
    a.sees(2);
    b.sees(2);
    let eyes = format!("Authorization: Bearer {VIEWER}\r\n");
    for path in ["publish", "unpublish", "versions/1/rollback"] {
        let path = format!("/api/v1/config/{path}");
        let answer = a.gateway.admin_call("POST", &path, &eyes, &saying("one"));
        assert_eq!(answer.status, 403, "{answer}");
    }
    let text = a
        .gateway
        .admin_call("GET", "/api/v1/config/versions/1", &eyes, "");
    assert_eq!(text.status, 403, "a text may have secrets in it: {text}");
    let list = a.gateway.admin_call("GET", "/api/v1/config/versions", &eyes, "");
    assert_eq!(list.status, 200, "{list}");

    // Two at once: one is late, and what it would have replaced is not what it thinks.
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let threads =
            [(&a, "one"), (&b, "two")].map(|(node, body)| scope.spawn(move || node.publish(&saying(body))));
        threads
            .into_iter()
            .map(|thread| thread.join().expect("an answer"))
            .collect()
    });
    let mut done: Vec<u64> = Vec::new();
    for answer in &answers {
        match answer.status {
            200 => done.push(answer.json()["version"].as_u64().expect("version")),
            409 => assert_eq!(answer.json()["error"]["code"], "conflict", "{answer}"),
            _ => panic!("{answer}"),
        }
    }
    done.sort_unstable();
    assert!(done == [1] || done == [1, 2], "{answers:?}");
    let late = a
        .gateway
        .admin_call("POST", "/api/v1/config/publish?expected=0", "", &saying("three"));
    assert_eq!(
        (late.status, &late.json()["error"]["code"]),
        (409, &"conflict".into()),
        "{late}"
    );

    // Somebody else is at it.
    let now = redis.ask(&["TIME"]);
    let now: u64 = now.lines().next().expect("seconds").parse().expect("seconds");
    let held = format!("gw-z/1 7 {}", (now + 15) * 1000);
    let _ = redis.ask(&["HSET", "tidegate:1:default:{c}l", "config", &held]);
    let busy = a.publish(&saying("three"));
    assert_eq!(busy.status, 409, "{busy}");
    assert!(busy.text().contains("is publishing right now"), "{busy}");
}

#[test]
fn what_is_no_configuration_is_refused_before_anybody_has_it() {
    if !redis::installed() {
        return;
    }
    let redis = Redis::start();
    let a = node("gw-a", &redis.url(), "");
    a.live();
    let large = format!("{}#{}", saying("one"), "x".repeat(1 << 20));
    let answer = a.publish(&large);
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (413, &"too_large".into()),
        "{answer}"
    );
    let fits = format!(
        "{}#{}",
        saying("one"),
        "x".repeat((1 << 20) - saying("one").len() - 1)
    );
    assert_eq!((fits.len(), a.publish(&fits).status), (1 << 20, 200));
    a.serves("one");
    let two = a.publish("this is = = no TOML");
    assert_eq!(
        (two.status, &two.json()["error"]["code"]),
        (422, &"config_rejected".into()),
        "{two}"
    );
    assert_eq!(a.publish("").status, 400);
    for version in ["x", "-1", "99999999999999999999"] {
        let answer = a.gateway.admin_get(&format!("/api/v1/config/versions/{version}"));
        assert_eq!(answer.status, 400, "{answer}");
    }
    assert_eq!(a.gateway.admin_get("/api/v1/config/versions/7").status, 404);
    // Without a key it would lie open.
    let app = Backend::text("app");
    let secret = format!(
        "[listeners.web]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"app\"\n[upstreams.app]\nendpoints = [\"{}\"]\nsticky = {{ cookie = \"at\", keys = [\"literally-a-secret-of-some-length\"] }}\n",
        app.address()
    );
    let refused = a.publish(&secret);
    assert_eq!(refused.status, 422, "{refused}");
    assert!(
        refused.text().contains("would lie open") && !refused.text().contains("literally"),
        "{refused}"
    );
    let sealed = node("gw-s", &redis.url(), &format!("{WITH_KEY}\nname = \"sealed\""));
    sealed.live();
    sealed.published(&secret);
    sealed.serves("app");
    // Who does not follow publishes nothing.
    let file = a
        .gateway
        .read("tidegate.toml")
        .replace("config = \"follow\"", "config = \"off\"");
    let off = gateway(&file)
        .env("TOKEN", TOKEN)
        .env("VIEWER", VIEWER)
        .token(TOKEN)
        .start();
    let refused = off.admin_call("POST", "/api/v1/config/publish", "", &saying("two"));
    assert_eq!(refused.status, 409, "{refused}");
    assert!(refused.text().contains("follow"), "{refused}");
    assert_eq!(off.get("/").text(), "own");
    // The store away: nobody knows what is in force.
    drop(redis);
    eventually("it can't be published", || {
        a.publish(&saying("two")).status == 503
    });
    assert_eq!(a.gateway.get("/").text(), "one");
}
