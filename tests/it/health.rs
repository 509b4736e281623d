//! Active checks: who gets requests while endpoints fail and recover, and over reloads.

use crate::gateway;
use crate::health_kit::{QUICK, answers, becomes, checked, config, named, served, switched, upstream};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::net::Refused;
use testkit::{Address, Backend, Gate, Reply, eventually, holds_for};

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_passes_again() {
    let ((a, _), (b, b_well)) = (switched("a"), switched("b"));
    let gateway = checked(QUICK, &[a.address(), b.address()]).start();
    becomes(&gateway, &b.address(), "healthy");
    eventually("both serve", || answers(&gateway, 4).contains("ab"));

    b_well.store(false, Ordering::SeqCst);
    let down = becomes(&gateway, &b.address(), "unhealthy");
    assert_eq!(answers(&gateway, 10), "a".repeat(10));
    assert_eq!(
        (&down["state"], &down["ready"]),
        (&"unhealthy".into(), &false.into())
    );
    assert_eq!(down["health"]["reason"], "status 503, accepted: 200-399");
    let last = &down["health"]["last_results"][0];
    assert_eq!((&last["passed"], &last["status"]), (&false.into(), &503.into()));
    assert_eq!(last["cause"], "status");
    let told = &gateway.events("endpoint.unhealthy")[0];
    assert_eq!(told["target"], format!("app/{}", b.address()));
    assert_eq!(told["reason"], "fails its checks: status 503, accepted: 200-399");
    assert_eq!(
        (&told["data"]["trigger"], &told["data"]["cause"]),
        (&"active".into(), &"status".into())
    );
    assert!(told["data"]["detection_ms"].is_u64(), "{told}");

    b_well.store(true, Ordering::SeqCst);
    let up = becomes(&gateway, &b.address(), "healthy");
    assert_eq!(
        (&up["state"], &up["health"]["reason"]),
        (&"active".into(), &Value::Null)
    );
    eventually("it serves again", || answers(&gateway, 4).contains('b'));
    assert_eq!(gateway.events("endpoint.healthy").len(), 1);
    let recovered = &gateway.events("endpoint.healthy")[0];
    assert!(recovered["data"]["down_ms"].is_u64(), "{recovered}");
}

#[test]
fn pauses_shorter_than_the_fall_do_no_harm() {
    // Two probes meet a runtime that stops the world, and again and again two meet one that is out of breath.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = named("a", move |_| match count.fetch_add(1, Ordering::SeqCst) {
        2 | 3 => Reply::hang(),
        n if n % 4 > 1 => Reply::new(503, "no"),
        _ => Reply::ok("ok"),
    });
    // Time enough for the probes that are answered, however busy the machine.
    let health = r#"path = "/health", interval = "20ms", fast_interval = "20ms", timeout = "1s", fall = 3"#;
    let gateway = checked(health, &[backend.address()]).start();
    eventually("many pauses", || asked.load(Ordering::SeqCst) > 40);
    let endpoint = gateway.endpoint(&backend.address());
    assert_eq!(endpoint["health"]["state"], "healthy", "{endpoint}");
    assert!(gateway.events("endpoint.unhealthy").is_empty());
    let probes = &endpoint["health"]["probes"];
    assert!(
        probes["timeout"] == 2 && probes["status"].as_u64() > Some(15),
        "{endpoint}"
    );
}

#[test]
fn when_all_are_down_requests_are_sent_all_the_same_and_everybody_is_told() {
    let ((a, a_well), (b, b_well)) = (switched("a"), switched("b"));
    let gateway = checked(QUICK, &[a.address(), b.address()]).start();
    becomes(&gateway, &a.address(), "healthy");
    becomes(&gateway, &b.address(), "healthy");
    assert_eq!(upstream(&gateway)["fail_open"], false);

    a_well.store(false, Ordering::SeqCst);
    b_well.store(false, Ordering::SeqCst);
    eventually("it fails open", || upstream(&gateway)["fail_open"] == true);
    let both = answers(&gateway, 10);
    assert!(both.contains('a') && both.contains('b'), "{both}");
    assert_eq!(
        gateway.metric("tidegate_upstream_fail_open", &["upstream=\"app\""]),
        1.0
    );
    eventually("it is told", || gateway.events("upstream.fail_open").len() == 1);

    a_well.store(true, Ordering::SeqCst);
    eventually("it is over", || upstream(&gateway)["fail_open"] == false);
    assert_eq!(answers(&gateway, 6), "aaaaaa");
    eventually("that is told too", || {
        gateway.events("upstream.fail_open_ended").len() == 1
    });
    assert_eq!(gateway.metric("tidegate_upstream_fail_open", &[]), 0.0);
}

#[test]
fn requests_wait_for_the_first_verdict() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = named("a", move |_| Reply::ok("ok").held_by(&held));
    let b = named("b", |_| Reply::new(500, "no"));
    let health = r#"path = "/health", interval = "10s", timeout = "10s""#;
    // One that fails is no reason to go on: the other may be well.
    let gateway = checked(health, &[a.address(), b.address()]).start();
    gate.reached();
    let mut conn = gateway.connect();
    conn.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(conn.is_quiet());
    assert_eq!((served(&a), served(&b)), (0, 0));
    gate.open();
    assert_eq!(conn.response().text(), "a");
    assert_eq!(answers(&gateway, 10), "a".repeat(10));
}

#[test]
fn nobody_waits_long_for_a_verdict_that_does_not_come() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = named("a", move |_| Reply::ok("ok").held_by(&held));
    let gateway = checked(r#"path = "/health", timeout = "60s""#, &[a.address()]).start();
    // Answered while the probe still hangs.
    assert_eq!(gateway.get("/").text(), "a");
    assert_eq!(gateway.endpoint(&a.address())["health"]["state"], "pending");
    eventually("that it fails open is told", || {
        upstream(&gateway)["fail_open"] == true
    });
    gate.open();
    becomes(&gateway, &a.address(), "healthy");
}

#[test]
fn the_total_time_of_a_request_goes_on_while_it_waits() {
    let gate = Gate::new();
    let held = gate.clone();
    let a = named("a", move |_| Reply::ok("ok").held_by(&held));
    let config = config(r#"path = "/health", timeout = "60s""#, &[a.address()]);
    let config = config.replace("[[routes]]", "[[routes]]\ntimeouts = { total = \"50ms\" }");
    let gateway = gateway(&config).start();
    gateway.get("/").expect(504, Some("deadline"));
    gate.open();
}

#[test]
fn what_is_presumed_of_a_new_endpoint_is_configurable() {
    let gate = Gate::new();
    let backend = |name| {
        let held = gate.clone();
        named(name, move |_| Reply::ok("ok").held_by(&held))
    };
    let (a, b) = (backend("a"), backend("b"));
    for (initial, state) in [("healthy", "active"), ("unhealthy", "unhealthy")] {
        let health = format!(r#"path = "/health", timeout = "60s", initial = "{initial}""#);
        let gateway = checked(&health, &[a.address(), b.address()]).start();
        gate.reached();
        assert_eq!(gateway.endpoint(&a.address())["state"], state);
        // Neither holds requests up, though all are presumed unwell: it fails open.
        let both = answers(&gateway, 4);
        assert!(both.contains('a') && both.contains('b'), "{both}");
        assert_eq!(upstream(&gateway)["fail_open"] == true, initial == "unhealthy");
    }
    gate.open();
}

#[test]
fn a_reload_keeps_what_is_known() {
    let ((a, _), (b, b_well)) = (switched("a"), switched("b"));
    let addresses = [a.address(), b.address()];
    let gateway = checked(QUICK, &addresses).start();
    becomes(&gateway, &b.address(), "healthy");
    b_well.store(false, Ordering::SeqCst);
    let before = becomes(&gateway, &b.address(), "unhealthy");
    let before_served = served(&b);

    // Something else, then the checks themselves: slower ones, that could not have found it out by now.
    let other = format!(
        "{}\n[[routes]]\npaths = [\"/x\"]\nrespond = {{}}\n",
        config(QUICK, &addresses)
    );
    let slower = config(r#"path = "/health", interval = "60s""#, &addresses);
    for text in [other, slower] {
        gateway.reload(&text);
        let after = gateway.endpoint(&b.address());
        assert_eq!(after["health"]["state"], "unhealthy", "{after}");
        assert_eq!(after["health"]["since"], before["health"]["since"]);
        assert_eq!(answers(&gateway, 10), "a".repeat(10));
    }
    assert_eq!(served(&b), before_served);
    assert_eq!(gateway.events("endpoint.unhealthy").len(), 1);
}

#[test]
fn an_endpoint_that_a_reload_adds_gets_nothing_before_its_first_pass() {
    let gate = Gate::new();
    let held = gate.clone();
    let (a, _) = switched("a");
    let b = named("b", move |_| Reply::ok("ok").held_by(&held));
    let gateway = checked(QUICK, &[a.address()]).start();
    becomes(&gateway, &a.address(), "healthy");
    gateway.reload(&config(QUICK, &[a.address(), b.address()]));
    gate.reached();
    assert_eq!(answers(&gateway, 20), "a".repeat(20));
    assert_eq!(gateway.endpoint(&b.address())["state"], "pending");
    gate.open();
    eventually("it serves", || answers(&gateway, 4).contains('b'));
}

#[test]
fn checks_come_and_go_with_reloads_and_no_request_notices() {
    let (a, well) = switched("a");
    let plain = config(QUICK, &[a.address()]).replace("health =", "pool = {} #");
    let gateway = gateway(&plain).start();
    assert_eq!(answers(&gateway, 2), "aa");
    assert_eq!(gateway.endpoint(&a.address())["health"], Value::Null);
    assert_eq!(a.requests().len(), served(&a), "nobody probes");

    gateway.reload(&config(QUICK, &[a.address()]));
    assert_eq!(
        gateway.endpoint(&a.address())["ready"],
        true,
        "it served, so it serves on"
    );
    well.store(false, Ordering::SeqCst);
    becomes(&gateway, &a.address(), "unhealthy");

    gateway.reload(&plain);
    eventually("nobody checks", || {
        gateway.endpoint(&a.address())["health"] == Value::Null
    });
    assert_eq!(gateway.endpoint(&a.address())["state"], "active");
    let asked = a.hits();
    // One may have been on its way.
    holds_for(Duration::from_millis(200), "no probe comes", || {
        a.hits() <= asked + 1
    });
    assert_eq!(gateway.metric("tidegate_health_probes_total", &[]), 0.0);
}

#[test]
fn probes_of_endpoints_that_left_end_and_leave_nothing() {
    let (a, b) = (Backend::text("a"), Backend::text("b"));
    let gateway = checked(QUICK, &[a.address(), b.address()]).start();
    becomes(&gateway, &b.address(), "healthy");
    gateway.reload(&config(QUICK, &[a.address()]));
    eventually("its connections end", || b.open_connections() == 0);
    let asked = b.hits();
    // One may have been on its way.
    holds_for(Duration::from_millis(200), "no probe comes", || {
        b.hits() <= asked + 1
    });
    let fds = gateway.fds();
    for _ in 0..10 {
        gateway.reload(&config(QUICK, &[a.address(), b.address()]));
        gateway.reload(&config(QUICK, &[a.address()]));
    }
    eventually("no descriptor is lost", || gateway.fds() <= fds + 1);
}

#[test]
fn what_is_known_is_measured() {
    let ((a, well), refused) = (switched("a"), Refused::new());
    let gateway = checked(QUICK, &[a.address(), refused.address()]).start();
    becomes(&gateway, &refused.address(), "unhealthy");
    becomes(&gateway, &a.address(), "healthy");
    let label = |address: &Address| format!("endpoint=\"{address}\"");
    let (of_a, of_refused) = (label(&a.address()), label(&refused.address()));
    assert_eq!(gateway.metric("tidegate_endpoint_health", &[&of_a]), 1.0);
    assert_eq!(gateway.metric("tidegate_endpoint_health", &[&of_refused]), 0.0);
    let probes = |labels: &[&str]| gateway.metric("tidegate_health_probes_total", labels);
    eventually("passes are counted", || {
        probes(&[&of_a, "result=\"passed\""]) > 2.0
    });
    eventually("failures are counted", || {
        probes(&[&of_refused, "result=\"connect_failed\""]) > 2.0
    });
    assert!(gateway.metric("tidegate_health_probe_seconds_count", &[&of_a]) > 2.0);
    well.store(false, Ordering::SeqCst);
    eventually("by their cause", || probes(&[&of_a, "result=\"status\""]) > 0.0);
}

#[test]
fn an_endpoint_in_maintenance_is_left_alone_and_asked_anew_before_it_serves_again() {
    let gate = Gate::new();
    let (held, hold) = (gate.clone(), Arc::new(AtomicBool::new(false)));
    let holding = Arc::clone(&hold);
    let (a, _) = switched("a");
    let b = named("b", move |_| match holding.load(Ordering::SeqCst) {
        true => Reply::ok("ok").held_by(&held),
        false => Reply::ok("ok"),
    });
    let config = config(QUICK, &[a.address(), b.address()])
        + "\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{ name = \"ops\", role = \"operator\", token = \"env:OPS\" }]\n";
    let token = "operator-operator-operator";
    let gateway = gateway(&config).env("OPS", token).token(token).start();
    becomes(&gateway, &b.address(), "healthy");
    let put = |state: &str| {
        let path = format!("/api/v1/upstreams/app/endpoints/{}", b.address());
        let body = format!("{{\"state\": \"{state}\"}}");
        let answer = gateway.admin_call("PUT", &path, "", &body);
        assert_eq!(answer.status, 200, "{answer}");
    };

    put("maintenance");
    eventually("nobody checks", || {
        gateway.endpoint(&b.address())["health"] == Value::Null
    });
    let asked = b.hits();
    // One may have been on its way.
    holds_for(Duration::from_millis(200), "no probe comes", || {
        b.hits() <= asked + 1
    });
    b.down();
    b.up();
    assert!(gateway.events("endpoint.unhealthy").is_empty());

    hold.store(true, Ordering::SeqCst);
    put("active");
    gate.reached();
    assert_eq!(gateway.endpoint(&b.address())["state"], "pending");
    assert_eq!(answers(&gateway, 10), "a".repeat(10));
    gate.open();
    eventually("it serves again", || answers(&gateway, 4).contains('b'));
}

#[test]
fn a_draining_endpoint_is_checked_all_the_same() {
    let ((a, _), (b, well)) = (switched("a"), switched("b"));
    let gateway = checked(QUICK, &[a.address(), b.address()]).start();
    becomes(&gateway, &b.address(), "healthy");
    let name = format!("app/{}", b.address());
    let _ = gateway.cli(&["drain", &name]).expect(0);
    well.store(false, Ordering::SeqCst);
    let down = becomes(&gateway, &b.address(), "unhealthy");
    assert_eq!(down["state"], "draining", "what was asked for is what is shown");
}
