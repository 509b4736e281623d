//! Servers that come and go: health checks leave them out for longer each time.

use crate::gateway;
use crate::health_kit::{QUICK, answers, becomes, checked, config, switched, upstream};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::{Address, Backend, Gateway, eventually, eventually_some};

/// A server that answers with its name, and passes its checks or not by a switch.
struct Server {
    backend: Backend,
    well: Arc<AtomicBool>,
}

impl Server {
    fn start(name: &'static str) -> Self {
        let (backend, well) = switched(name);
        Self { backend, well }
    }

    fn address(&self) -> Address {
        self.backend.address()
    }

    fn set(&self, well: bool) {
        self.well.store(well, Ordering::SeqCst);
    }

    /// Fails until the gateway has seen it, and gives what that shows of it.
    #[track_caller]
    fn fail(&self, gateway: &Gateway) -> Value {
        self.set(false);
        self.becomes(gateway, "unhealthy")
    }

    /// Passes until the gateway has seen it.
    #[track_caller]
    fn recover(&self, gateway: &Gateway) -> Value {
        self.set(true);
        self.becomes(gateway, "healthy")
    }

    #[track_caller]
    fn becomes(&self, gateway: &Gateway, state: &str) -> Value {
        becomes(gateway, &self.address(), state)
    }
}

#[test]
fn one_that_fails_again_soon_stays_out_although_it_passes_and_all_say_until_when() {
    let (steady, shaky) = (Server::start("a"), Server::start("b"));
    let gateway = checked(QUICK, &[steady.address(), shaky.address()]).start();
    steady.becomes(&gateway, "healthy");
    shaky.becomes(&gateway, "healthy");

    let first = shaky.fail(&gateway);
    assert_eq!(
        (&first["health"]["held_until"], &first["health"]["flaps"]),
        (&Value::Null, &0.into()),
        "a restart costs nothing: {first}"
    );
    shaky.recover(&gateway);
    shaky.fail(&gateway);
    shaky.recover(&gateway);
    shaky.fail(&gateway);
    shaky.set(true);
    let held = eventually_some("it passes and is out", || {
        let endpoint = gateway.endpoint(&shaky.address());
        let passes = endpoint["health"]["passes_in_a_row"].as_u64()?;
        (passes > 4 && endpoint["health"]["state"] == "unhealthy").then_some(endpoint)
    });
    assert_eq!(
        (&held["state"], &held["ready"], &held["health"]["flaps"]),
        (&"unhealthy".into(), &false.into(), &2.into()),
        "{held}"
    );
    let until = held["health"]["held_until"].as_str().expect("until when");
    // Its time of day, to the second.
    let until = &until[11..19];
    let labels = [&*format!("endpoint=\"{}\"", shaky.address())];
    assert_eq!(gateway.metric("tidegate_endpoint_held", &labels), 1.0);
    assert_eq!(gateway.metric("tidegate_endpoint_flaps_total", &labels), 2.0);
    let status = gateway.cli(&["status"]).expect(0).stdout;
    let said = format!("app/{} is flapping, and held until {until}Z", shaky.address());
    assert!(status.contains(&said), "{status}");
    assert_eq!(answers(&gateway, 6), "aaaaaa");

    shaky.becomes(&gateway, "healthy");
    eventually("it serves again", || answers(&gateway, 4).contains('b'));
    assert_eq!(gateway.metric("tidegate_endpoint_held", &labels), 0.0);
    let status = gateway.cli(&["status"]).expect(0).stdout;
    assert!(!status.contains("held until"), "{status}");

    let told = gateway.events("endpoint.unhealthy");
    let holds: Vec<&Value> = told.iter().map(|event| &event["data"]["hold_seconds"]).collect();
    assert_eq!(holds, [&Value::Null, &1.0.into(), &2.0.into()]);
    let flaps: Vec<&Value> = told.iter().map(|event| &event["data"]["flaps"]).collect();
    assert_eq!(flaps, [&Value::Null, &1.into(), &2.into()]);
    let why = "fails its checks: status 503, accepted: 200-399";
    assert_eq!(told[0]["reason"], why);
    assert_eq!(
        told[2]["reason"],
        format!("{why}; it is flapping, and held for 2.0 s at least")
    );
    let back = gateway.events("endpoint.healthy");
    let out: Vec<u64> = back
        .iter()
        .filter_map(|event| event["data"]["down_ms"].as_u64())
        .collect();
    assert!(out.len() == 3 && out[1] >= 1_000 && out[2] >= 2_000, "{out:?}");
}

#[test]
fn without_max_hold_it_is_back_as_often_as_it_passes() {
    let shaky = Server::start("a");
    let gateway = checked(&format!("{QUICK}, max_hold = \"0s\""), &[shaky.address()]).start();
    shaky.becomes(&gateway, "healthy");
    for _ in 0..4 {
        let down = shaky.fail(&gateway);
        assert_eq!(down["health"]["held_until"], Value::Null, "{down}");
        let up = shaky.recover(&gateway);
        assert_eq!(up["health"]["flaps"], 0, "{up}");
    }
    let told = gateway.events("endpoint.unhealthy");
    assert_eq!(told.len(), 4);
    assert!(
        told.iter().all(|event| event["data"]["hold_seconds"].is_null()),
        "{told:?}"
    );
}

#[test]
fn one_that_is_held_serves_where_no_other_is_well() {
    let (shaky, other) = (Server::start("a"), Server::start("b"));
    let gateway = checked(QUICK, &[shaky.address(), other.address()]).start();
    other.becomes(&gateway, "healthy");
    shaky.becomes(&gateway, "healthy");
    for _ in 0..2 {
        shaky.fail(&gateway);
        shaky.recover(&gateway);
    }
    other.fail(&gateway);
    shaky.fail(&gateway);
    eventually("nobody passes: all are used", || {
        gateway.events("upstream.fail_open").len() == 1
    });
    shaky.set(true);
    eventually("one passes, and is not well", || {
        let upstream = upstream(&gateway);
        let out = upstream["endpoints"].as_array().into_iter().flatten();
        upstream["fail_open"] == false && out.filter(|e| e["state"] == "unhealthy").count() == 2
    });
    let told = gateway.admin_get("/api/v1/explain?url=%2F").json()["upstreams"][0].clone();
    assert_eq!(
        (&told["fail_open"], &told["pick"]),
        (&false.into(), &shaky.address().to_string().into()),
        "{told}"
    );
    assert_eq!(answers(&gateway, 8), "a".repeat(8));
    let ended = eventually_some("it is told", || gateway.events("upstream.fail_open_ended").pop());
    assert_eq!(
        ended["reason"],
        "1 of 2 endpoints pass again, and are held because they came and went: only those get requests"
    );
    shaky.becomes(&gateway, "healthy");
    assert_eq!(gateway.events("upstream.fail_open").len(), 1);
}

#[test]
fn an_operator_ends_a_hold_by_maintenance() {
    const TOKEN: &str = "operator-operator-operator";
    let shaky = Server::start("a");
    let config = config(&format!("{QUICK}, max_hold = \"1h\""), &[shaky.address()])
        + "\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{ name = \"ops\", role = \"operator\", token = \"env:OPS\" }]\n";
    let gateway = gateway(&config).env("OPS", TOKEN).token(TOKEN).start();
    shaky.becomes(&gateway, "healthy");
    for _ in 0..2 {
        shaky.fail(&gateway);
        shaky.recover(&gateway);
    }
    let held = shaky.fail(&gateway);
    assert!(held["health"]["held_until"].is_string(), "{held}");
    shaky.set(true);
    for state in ["maintenance", "active"] {
        let path = format!("/api/v1/upstreams/app/endpoints/{}", shaky.address());
        let answer = gateway.admin_call("PUT", &path, "", &format!("{{\"state\": \"{state}\"}}"));
        assert_eq!(answer.status, 200, "{answer}");
        if state == "maintenance" {
            eventually("nobody checks", || {
                gateway.endpoint(&shaky.address())["health"].is_null()
            });
        }
    }
    let back = shaky.becomes(&gateway, "healthy");
    assert_eq!(back["health"]["flaps"], 0, "nothing is known of before: {back}");
    let told = gateway.events("endpoint.healthy");
    assert_eq!(told.len(), 2, "it is new, and not back: {told:?}");
}

/// The checks come once in ten minutes here: what is seen sooner is seen because a connection ended, because a reload
/// began anew, or because a hold was over.
#[test]
fn a_hold_outlives_reloads_and_the_endpoint_is_asked_as_soon_as_it_is_over() {
    let backend = Backend::text("a");
    let rarely = |jitter: &str| {
        let health = format!(
            "interval = \"10m\", fast_interval = \"10m\", timeout = \"2s\", fall = 1, rise = 1, \
             max_hold = \"1h\", jitter = {jitter}"
        );
        config(&health, &[backend.address()])
    };
    let gateway = gateway(&rarely("0.0")).start();
    let becomes = |state: &str| {
        eventually_some(&format!("it is {state}"), || {
            let health = gateway.endpoint(&backend.address())["health"].clone();
            (health["state"] == state).then_some(health)
        })
    };
    becomes("healthy");
    for (flaps, jitter) in ["0.01", "0.02"].into_iter().enumerate() {
        backend.down();
        assert_eq!(becomes("unhealthy")["flaps"], flaps);
        backend.up();
        gateway.reload(&rarely(jitter));
        becomes("healthy");
    }
    backend.down();
    let down = becomes("unhealthy");
    backend.up();
    assert_eq!(down["flaps"], 2, "{down}");
    assert!(
        down["held_until"].is_string() && down["held_until"] == down["next_probe"],
        "{down}"
    );
    gateway.reload(&rarely("0.03"));
    let after = gateway.endpoint(&backend.address())["health"].clone();
    assert_eq!(
        (&after["held_until"], &after["since"]),
        (&down["held_until"], &down["since"]),
        "{after}"
    );
    becomes("healthy");
}
