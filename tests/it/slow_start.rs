//! Slow start: an endpoint that is new, or back, gets its share little by little.

use crate::gateway;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::{Backend, Gateway, Reply, eventually};

const CONFIG: &str = r#"
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = [@list@]
slow_start = "@window@"
outlier = { consecutive_failures = 2, error_rate = 0, eject = "300ms" }
[admin]
address = "127.0.0.1:0"
"#;

fn config(backends: &[&Backend], window: &str) -> String {
    CONFIG
        .replace("@list@", &Backend::list(backends))
        .replace("@window@", window)
}

/// The share of these requests that the endpoint got.
fn share(gateway: &Gateway, backend: &Backend, requests: usize) -> f64 {
    let before = backend.hits();
    let mut conn = gateway.connect();
    for _ in 0..requests {
        conn.get("/").expect(200, None);
    }
    (backend.hits() - before) as f64 / requests as f64
}

fn weight_now(gateway: &Gateway, backend: &Backend) -> f64 {
    gateway.endpoint(&backend.address())["weight_now"]
        .as_f64()
        .expect("a number")
}

/// Follows an endpoint of weight 1 among two from its cold beginning to its full share.
fn follow(gateway: &Gateway, cold: &Backend) {
    let (mut least, mut begun) = (1.0_f64, weight_now(gateway, cold));
    assert!(begun < 0.3, "{begun}");
    while begun < 0.4 {
        let share = share(gateway, cold, 50);
        let ended = weight_now(gateway, cold);
        // Half of its part of the weight, because there are two; with room for chance.
        assert!(share <= ended / 2.0 + 0.25, "{share} between {begun} and {ended}");
        least = least.min(share);
        begun = ended;
    }
    assert!(least < 0.25, "{least}");
    eventually("it is warm", || weight_now(gateway, cold) == 1.0);
    let even = share(gateway, cold, 100);
    assert!((0.45..=0.55).contains(&even), "{even}");
}

#[test]
fn an_endpoint_that_is_back_from_an_ejection_gets_little_at_first_and_its_share_in_the_end() {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let shaky = Backend::http(move |_| match switch.load(Ordering::SeqCst) {
        true => Reply::new(500, ""),
        false => Reply::ok("ok"),
    });
    let good = Backend::text("ok");
    let gateway = gateway(&config(&[&shaky, &good], "2s")).start();
    eventually("both are warm", || weight_now(&gateway, &good) == 1.0);
    broken.store(true, Ordering::SeqCst);
    eventually("it is ejected", || {
        let _any = gateway.get("/");
        gateway.endpoint(&shaky.address())["state"] == "ejected"
    });
    broken.store(false, Ordering::SeqCst);
    eventually("it is back", || {
        gateway.endpoint(&shaky.address())["state"] == "active"
    });
    follow(&gateway, &shaky);
}

#[test]
fn an_endpoint_that_a_reload_adds_gets_little_at_first() {
    let (old, new) = (Backend::text("old"), Backend::text("new"));
    let gateway = gateway(&config(&[&old], "2s")).start();
    eventually("the old one is warm", || weight_now(&gateway, &old) == 1.0);
    gateway.reload(&config(&[&old, &new], "2s"));
    follow(&gateway, &new);
}

#[test]
fn an_endpoint_that_passes_its_checks_again_gets_little_at_first() {
    let (old, sick) = (Backend::text("old"), Backend::text("new"));
    let health =
        "slow_start = \"2s\"\nhealth = { interval = \"50ms\", fast_interval = \"50ms\", rise = 1, fall = 1 }";
    let text = config(&[&old, &sick], "2s").replace("slow_start = \"2s\"", health);
    let gateway = gateway(&text).start();
    eventually("both are warm", || weight_now(&gateway, &old) == 1.0);
    sick.down();
    eventually("it is out", || {
        gateway.endpoint(&sick.address())["state"] == "unhealthy"
    });
    sick.up();
    eventually("it is back", || {
        gateway.endpoint(&sick.address())["state"] == "active"
    });
    assert!(weight_now(&gateway, &sick) < 0.3);
    eventually("it is warm", || weight_now(&gateway, &sick) == 1.0);
}

#[test]
fn where_there_is_no_other_it_gets_all_at_once() {
    let (only, spare) = (Backend::text("only"), Backend::text("spare"));
    let list = format!(
        "\"{}\", {{ address = \"{}\", backup = true }}",
        only.address(),
        spare.address()
    );
    let text = CONFIG.replace("@list@", &list).replace("@window@", "10m");
    let gateway = gateway(&text).start();
    assert_eq!(weight_now(&gateway, &only), 0.1);
    assert_eq!(share(&gateway, &only, 50), 1.0);
    assert_eq!(spare.hits(), 0);
}

#[test]
fn without_a_window_nobody_starts_slowly() {
    let (old, new) = (Backend::text("old"), Backend::text("new"));
    let gateway = gateway(&config(&[&old], "0s")).start();
    gateway.reload(&config(&[&old, &new], "0s"));
    assert_eq!(share(&gateway, &new, 40), 0.5);
}
