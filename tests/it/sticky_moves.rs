//! Sessions whose endpoint is gone, unwell, full or leaving, and what the client is told.

use crate::gateway;
use crate::sticky::{Browser, THREE, expect_counted, keeping, place, servers};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use testkit::{Address, Backend, Conn, Gate, Gateway, Reply, eventually, eventually_some};

/// A client that was at this gateway once, and the place of its server.
fn settled(gateway: &Gateway) -> (Browser, usize) {
    let mut browser = Browser::default();
    let home = browser.get(&gateway.web(), "/").text();
    (browser, place(&home))
}

/// Asks three times: the endpoint is another one from the first time on, and the client is told once.
fn moves_once(browser: &mut Browser, gateway: &Gateway, home: usize) {
    let told = browser.told;
    let at: Vec<usize> = (0..3)
        .map(|_| place(&browser.get(&gateway.web(), "/").text()))
        .collect();
    assert_eq!(browser.told, told + 1);
    assert!(
        at[0] != home && at.iter().all(|place| *place == at[0]),
        "{at:?} from {home}"
    );
}

fn tell(gateway: &Gateway, address: &Address, change: &str) {
    let path = format!("/api/v1/upstreams/app/endpoints/{address}");
    let answer = gateway.admin_call("PUT", &path, "", change);
    assert_eq!(answer.status, 200, "{answer}");
}

/// Tokens let the test change things.
fn operated(sticky: &str, servers: &[Backend; 3]) -> Gateway {
    let config = format!(
        "{THREE}\nhealth = {{ interval = \"50ms\" }}\n[admin]\naddress = \"127.0.0.1:0\"\ntokens = [{{ name = \"t\", role = \"admin\", token = \"env:T\" }}]\n"
    );
    keeping(sticky, servers)
        .config(&config)
        .env("T", "token")
        .token("token")
        .start()
}

#[test]
fn an_endpoint_that_refuses_loses_its_sessions_within_the_request() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let (mut browser, home) = settled(&gateway);
    servers[home].down();
    let response = browser.get(&gateway.web(), "/");
    assert_eq!(
        (response.status, browser.told),
        (200, 2),
        "retried, and told on the final answer"
    );
    moves_to(&mut browser, &gateway, &response.text());
    expect_counted(&gateway, "failed", 1.0);
    assert_eq!(
        gateway.metric("tidegate_sticky_cookies_total", &["reason=\"moved\""]),
        1.0
    );
    // Who is back gets nobody back.
    servers[home].up();
    moves_to(&mut browser, &gateway, &response.text());
}

fn moves_to(browser: &mut Browser, gateway: &Gateway, home: &str) {
    let told = browser.told;
    for _ in 0..4 {
        assert_eq!(browser.get(&gateway.web(), "/").text(), home);
    }
    assert_eq!(browser.told, told);
}

#[test]
fn an_answer_that_is_turned_down_moves_the_session_with_the_retry() {
    let status = Arc::new(AtomicU16::new(200));
    let failing = |name: &'static str| {
        let status = Arc::clone(&status);
        Backend::http(move |request| match request.target.as_str() {
            "/fail" if name == "a" => Reply::new(status.load(Ordering::SeqCst), "no"),
            _ => Reply::ok(name),
        })
    };
    let servers = [failing("a"), failing("b"), failing("c")];
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let mut browser = loop {
        let mut browser = Browser::default();
        if browser.get(&gateway.web(), "/").text() == "a" {
            break browser;
        }
    };
    status.store(503, Ordering::SeqCst);
    let response = browser.get(&gateway.web(), "/fail");
    assert_eq!((response.status, browser.told), (200, 2), "{response}");
    moves_to(&mut browser, &gateway, &response.text());
}

#[test]
fn an_endpoint_that_fails_its_checks_loses_its_sessions() {
    let servers = servers();
    let gateway = operated("cookie = \"tg\"", &servers);
    let (mut browser, home) = settled(&gateway);
    servers[home].down();
    let address = servers[home].address();
    eventually("its checks fail", || {
        gateway.endpoint(&address)["health"]["state"] == "unhealthy"
    });
    moves_once(&mut browser, &gateway, home);
    expect_counted(&gateway, "unwell", 1.0);
}

#[test]
fn an_endpoint_that_left_the_configuration_loses_its_sessions() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let (mut browser, home) = settled(&gateway);
    let mark = ["@a@", "@b@", "@c@"][home];
    let left: Vec<&str> = ["@a@", "@b@", "@c@"]
        .into_iter()
        .filter(|it| *it != mark)
        .collect();
    let config = THREE.replace(
        "\"@a@\", \"@b@\", \"@c@\"",
        &format!("\"{}\", \"{}\"", left[0], left[1]),
    );
    gateway.reload(&config);
    moves_once(&mut browser, &gateway, home);
    expect_counted(&gateway, "gone", 1.0);
}

#[test]
fn an_endpoint_that_is_full_sends_sessions_elsewhere() {
    let gate = Gate::new();
    let server = |name: &'static str| {
        let gate = gate.clone();
        Backend::http(move |request| match request.target.as_str() {
            "/slow" => Reply::ok(name).held_by(&gate),
            _ => Reply::ok(name),
        })
    };
    let servers = [server("a"), server("b"), server("c")];
    let config = THREE.replace(
        "[\"@a@\", \"@b@\", \"@c@\"]",
        "[{ address = \"@a@\", max_connections = 1 }, { address = \"@b@\", max_connections = 1 }, { address = \"@c@\", max_connections = 1 }]",
    );
    let gateway = keeping("cookie = \"tg\"", &servers).config(&config).start();
    let (mut browser, _) = settled(&gateway);
    let home = browser.get(&gateway.web(), "/").text();
    let mut busy = gateway.connect();
    busy.send(format!(
        "GET /slow HTTP/1.1\r\nHost: test\r\n{}\r\n",
        browser.header()
    ));
    gate.reached();
    let elsewhere = browser.get(&gateway.web(), "/").text();
    assert_ne!(elsewhere, home);
    assert_eq!(browser.told, 2);
    expect_counted(&gateway, "full", 1.0);
    gate.open();
    assert_eq!(busy.response().text(), home);
    assert_eq!(browser.get(&gateway.web(), "/").text(), elsewhere);
}

#[test]
fn who_is_not_to_move_is_told_that_its_endpoint_is_missing() {
    let servers = servers();
    let gateway = operated("cookie = \"tg\", on_missing = \"reject\"", &servers);
    let (mut browser, home) = settled(&gateway);
    let address = servers[home].address();
    servers[home].down();
    let refused = |browser: &mut Browser| {
        let answer = browser.get(&gateway.web(), "/");
        answer.expect(503, Some("sticky_missing"));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("set-cookie"), None);
    };
    refused(&mut browser);
    eventually("its checks fail", || {
        gateway.endpoint(&address)["health"]["state"] == "unhealthy"
    });
    refused(&mut browser);
    assert_eq!(
        Browser::default().get(&gateway.web(), "/").status,
        200,
        "new sessions go on"
    );
    servers[home].up();
    eventually("it is well again", || {
        gateway.endpoint(&address)["health"]["state"] == "healthy"
    });
    assert_eq!(browser.get(&gateway.web(), "/").status, 200);
    assert_eq!(browser.told, 1);
    tell(&gateway, &address, r#"{"state":"maintenance"}"#);
    refused(&mut browser);
    eventually("three were refused", || {
        gateway.metric("tidegate_request_errors_total", &["token=\"sticky_missing\""]) == 3.0
    });
}

#[test]
fn who_is_not_to_move_gets_the_failure_of_its_own_endpoint() {
    let server = |name: &'static str| {
        Backend::http(move |request| match request.target.as_str() {
            "/fail" => Reply::new(503, "mine"),
            _ => Reply::ok(name),
        })
    };
    let servers = ["a", "b", "c"].map(server);
    let gateway = keeping("cookie = \"tg\", on_missing = \"reject\"", &servers).start();
    let (mut browser, home) = settled(&gateway);
    let response = browser.get(&gateway.web(), "/fail");
    assert_eq!((response.status, response.text().as_str()), (503, "mine"));
    assert_eq!(servers[home].hits(), 2);
    assert_eq!(
        servers.iter().map(Backend::hits).sum::<usize>(),
        2,
        "no other was asked"
    );
}

#[test]
fn a_drain_keeps_sessions_until_its_deadline_and_takes_no_new_ones() {
    let servers = servers();
    let gateway = operated("cookie = \"tg\"", &servers);
    let (mut browser, home) = settled(&gateway);
    // Each worker has a turn of its own: the next one need not go elsewhere.
    let (mut other, other_home) = eventually_some("one that is elsewhere", || {
        let (other, its) = settled(&gateway);
        (its != home).then_some((other, its))
    });
    let address = servers[home].address();
    tell(&gateway, &address, r#"{"state":"draining","deadline":"2s"}"#);
    for _ in 0..6 {
        assert_eq!(
            place(&browser.get(&gateway.web(), "/").text()),
            home,
            "holders stay"
        );
        assert_ne!(settled(&gateway).1, home, "new sessions go elsewhere");
    }
    assert_eq!(browser.told, 1);
    assert!(
        gateway.events("endpoint.drained").is_empty(),
        "they may come back still"
    );
    eventually("the deadline passes", || {
        browser.get(&gateway.web(), "/");
        browser.told == 2
    });
    eventually("that is the end of it", || {
        gateway.events("endpoint.drained").len() == 1
    });
    for _ in 0..4 {
        assert_ne!(place(&browser.get(&gateway.web(), "/").text()), home);
    }
    assert_eq!(browser.told, 2);
    assert_eq!(place(&other.get(&gateway.web(), "/").text()), other_home);
    assert_eq!(other.told, 1, "nobody else is moved");
}

#[test]
fn an_endpoint_of_weight_0_keeps_its_sessions() {
    let servers = servers();
    let gateway = operated("cookie = \"tg\"", &servers);
    let (mut browser, home) = settled(&gateway);
    tell(&gateway, &servers[home].address(), r#"{"weight":0}"#);
    for _ in 0..4 {
        assert_eq!(place(&browser.get(&gateway.web(), "/").text()), home);
        assert_ne!(settled(&gateway).1, home);
    }
    assert_eq!(browser.told, 1);
}

#[test]
fn sessions_survive_reloads_that_change_other_things() {
    let servers = servers();
    let gateway = keeping("cookie = \"tg\"", &servers).start();
    let mut browsers: Vec<(Browser, String)> = (0..9)
        .map(|_| {
            let mut browser = Browser::default();
            let home = browser.get(&gateway.web(), "/").text();
            (browser, home)
        })
        .collect();
    let fourth = Backend::text("d");
    let more = THREE.replace("\"@a@\", ", &format!("\"{}\", \"@a@\", ", fourth.address()));
    for config in [
        more.as_str(),
        &THREE.replace(
            "[upstreams.app]",
            "[upstreams.app]
balance = \"random_two\"",
        ),
    ] {
        gateway.reload(config);
        for (browser, home) in &mut browsers {
            assert_eq!(browser.get(&gateway.web(), "/").text(), *home);
            assert_eq!(browser.told, 1);
        }
    }
}

#[test]
fn all_unwell_at_once_is_no_reason_to_move() {
    let servers = servers();
    let config =
        format!("{THREE}\nhealth = {{ path = \"/health\", interval = \"50ms\", body = \"never\" }}\n");
    let gateway = keeping("cookie = \"tg\"", &servers).config(&config).start();
    eventually("nobody is well", || {
        gateway.metric("tidegate_upstream_fail_open", &[]) == 1.0
    });
    let mut browser = Browser::default();
    let home = browser.get(&gateway.web(), "/").text();
    moves_to(&mut browser, &gateway, &home);
}

#[test]
fn a_session_of_no_endpoint_at_all_is_an_error_as_any() {
    let server = Backend::text("a");
    let gateway =
        gateway(&crate::PLAIN.replace("[upstreams.app]", "[upstreams.app]\nsticky = { cookie = \"tg\" }"))
            .with("app", server.address())
            .start();
    let mut browser = Browser::default();
    browser.get(&gateway.web(), "/");
    server.down();
    browser
        .get(&gateway.web(), "/")
        .expect(502, Some("connect_failed"));
    server.up();
    let answer = browser.ask(&mut Conn::connect(gateway.web()), "HEAD", "/");
    assert_eq!((answer.status, browser.told), (200, 1));
}
