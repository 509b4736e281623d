//! Active checks: what passes, what fails and why, and who gets requests meanwhile.

use crate::gateway;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::net::Refused;
use testkit::{
    Address, Backend, Builder, Gate, Gateway, Reply, Request, eventually, eventually_some, holds_for, ws,
};

/// Quick enough for a test, slow enough for a busy machine.
const QUICK: &str =
    r#"path = "/health", interval = "60ms", fast_interval = "20ms", timeout = "2s", rise = 2, fall = 2"#;

/// One upstream with these checks and endpoints.
fn config(health: &str, endpoints: &[Address]) -> String {
    let mut list = String::new();
    for endpoint in endpoints {
        write!(list, "\"{endpoint}\", ").unwrap();
    }
    format!(
        r#"
        runtime = {{ workers = 1 }}
        [listeners.web]
        address = "127.0.0.1:0"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = [{list}]
        health = {{ {health} }}
        "#
    )
}

fn checked(health: &str, endpoints: &[Address]) -> Builder {
    gateway(&config(health, endpoints))
}

/// Answers `/health` as told, and everything else with its name.
fn named(name: &'static str, health: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Backend {
    Backend::http(move |request| match request.target.as_str() {
        "/health" => health(request),
        _ => Reply::ok(name),
    })
}

/// The same, well or not by a switch.
fn switched(name: &'static str) -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&well);
    let backend = named(name, move |_| match now.load(Ordering::SeqCst) {
        true => Reply::ok("ok"),
        false => Reply::new(503, "no"),
    });
    (backend, well)
}

fn upstream(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/upstreams/app").json()
}

#[track_caller]
fn becomes(gateway: &Gateway, address: &Address, state: &str) -> Value {
    eventually_some(&format!("{address} is {state}"), || {
        let endpoint = gateway.endpoint(address);
        (endpoint["health"]["state"] == state).then_some(endpoint)
    })
}

/// Who answered each of so many requests.
fn answers(gateway: &Gateway, n: usize) -> String {
    let mut conn = gateway.connect();
    (0..n).map(|_| conn.get("/").text()).collect()
}

/// Requests that were no probes.
fn served(backend: &Backend) -> usize {
    backend.requests().iter().filter(|r| r.target == "/").count()
}

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
fn a_probe_asks_what_the_configuration_says() {
    let backend = Backend::text("fine");
    let health = r#"
        path = "/deep/health?full=1", method = "OPTIONS", host = "app.example.com", interval = "50ms",
        headers = { X-Probe = "yes", User-Agent = "mine" }"#
        .replace('\n', " ");
    let gateway = checked(&health, &[backend.address()]).start();
    becomes(&gateway, &backend.address(), "healthy");
    let asked = backend.requests().remove(0);
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("OPTIONS", "/deep/health?full=1")
    );
    assert_eq!(asked.headers.all("host"), ["app.example.com"]);
    assert_eq!(asked.headers.all("x-probe"), ["yes"]);
    assert_eq!(asked.headers.all("user-agent"), ["mine"]);
}

#[test]
fn without_a_word_the_probe_is_a_get_of_the_root_for_the_endpoint_s_address() {
    let backend = Backend::text("fine");
    let gateway = checked("", &[backend.address()]).start();
    becomes(&gateway, &backend.address(), "healthy");
    let asked = backend.requests().remove(0);
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/"));
    assert_eq!(asked.header("host"), Some(backend.address().to_string().as_str()));
}

/// What one probe of a backend with this answer comes to: its cause, or nothing when it passes.
#[track_caller]
fn outcome(health: &str, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Value {
    let backend = Backend::http(reply);
    let health = format!(r#"path = "/health", timeout = "400ms", interval = "10s", {health}"#);
    let gateway = checked(&health, &[backend.address()]).start();
    let endpoint = eventually_some("a verdict", || {
        let endpoint = gateway.endpoint(&backend.address());
        (endpoint["health"]["state"] != "pending").then_some(endpoint)
    });
    let last = &endpoint["health"]["last_results"][0];
    assert_eq!(
        last["passed"] == true,
        endpoint["health"]["state"] == "healthy",
        "{endpoint}"
    );
    last["cause"].clone()
}

#[test]
fn the_status_decides_as_configured() {
    for (set, status, cause) in [
        (r#"status = "200-399""#, 302, None),
        (r#"status = "200-399""#, 404, Some("status")),
        (r#"status = "200,404""#, 404, None),
        (r#"status = "200,404""#, 204, Some("status")),
        ("status = 204", 204, None),
    ] {
        assert_eq!(
            outcome(set, move |_| Reply::new(status, "")),
            Value::from(cause),
            "{set} {status}"
        );
    }
}

#[test]
fn the_body_decides_as_configured() {
    let answer = |body: &'static str| move |_: &Request| Reply::ok(body);
    assert_eq!(outcome(r#"body = "ready""#, answer("all ready now")), Value::Null);
    assert_eq!(outcome(r#"body = "ready""#, answer("starting")), "body");
    assert_eq!(outcome(r#"body = "~^(ok|fine)$""#, answer("fine")), Value::Null);
    assert_eq!(outcome(r#"body = "~^(ok|fine)$""#, answer("not fine")), "body");
    // In pieces, and where an answer to HEAD has none.
    let chunked = |_: &Request| {
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n")
    };
    assert_eq!(outcome(r#"body = "ready""#, chunked), Value::Null);
    let until_close = |_: &Request| Reply::raw("HTTP/1.0 200 OK\r\n\r\nready").then_close();
    assert_eq!(outcome(r#"body = "ready""#, until_close), Value::Null);
}

#[test]
fn answers_that_are_none_are_failures_with_their_reason() {
    let raw = |bytes: &'static str| move |_: &Request| Reply::raw(bytes).then_close();
    let cause = |bytes| outcome("", raw(bytes));
    assert_eq!(cause("SSH-2.0-OpenSSH_9.2\r\n"), "malformed");
    assert_eq!(cause("\0\u{1}\u{2}\u{3}garbage\r\n\r\n"), "malformed");
    assert_eq!(
        cause("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        "malformed"
    );
    assert_eq!(
        cause("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "malformed"
    );
    assert_eq!(cause(""), "closed");
    assert_eq!(cause("HTTP/1.1 200 OK\r\nConte"), "closed");
    assert_eq!(
        cause("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        "closed"
    );
    assert_eq!(outcome("", |_| Reply::reset()), "closed");
    assert_eq!(
        outcome("", |_| Reply::raw("HTTP/1.1 100 Continue\r\n\r\n".repeat(20))),
        "malformed"
    );
    assert_eq!(
        outcome("", |_| Reply::raw(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        )),
        Value::Null
    );
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert_eq!(outcome("", move |_| Reply::raw(&long).then_close()), "malformed");
}

#[test]
fn an_endpoint_that_hangs_or_dribbles_fails_in_time() {
    assert_eq!(outcome("", |_| Reply::hang()), "timeout");
    let half = |_: &Request| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then_hang();
    assert_eq!(outcome("", half), "timeout");
    let dribbling = |_: &Request| {
        let head = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n");
        (0..60).fold(head, |reply, _| {
            reply.then("x").then_pause(Duration::from_millis(100))
        })
    };
    assert_eq!(outcome("", dribbling), "timeout");
}

#[test]
fn a_gigabyte_is_no_answer_and_costs_no_memory() {
    const PIECE: usize = 256 << 10;
    let endless = Backend::script(|conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        visit.hit(request);
        let framing = [
            "Content-Length: 1073741824",
            "Transfer-Encoding: chunked",
            "Connection: close",
        ];
        let framing = framing[visit.connection % 3];
        let _ = conn.try_send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        let chunk = [
            format!("{PIECE:x}\r\n").into_bytes(),
            vec![b'x'; PIECE],
            b"\r\n".to_vec(),
        ]
        .concat();
        for _ in 0..(1 << 30) / PIECE {
            if conn.try_send(&chunk).is_err() {
                return;
            }
        }
    });
    let well = Backend::text("well");
    let health = r#"body = "never there", status = "200", interval = "30ms", fast_interval = "30ms""#;
    let gateway = checked(health, &[endless.address(), well.address()]).start();
    let before = gateway.rss_kb();
    let down = becomes(&gateway, &endless.address(), "unhealthy");
    eventually("it was asked often", || endless.hits() > 12);
    assert!(
        gateway.rss_kb() < before + (24 << 10),
        "{} then {} KiB",
        before,
        gateway.rss_kb()
    );
    assert!(endless.open_connections() <= 2, "{}", endless.open_connections());
    assert_eq!(down["health"]["last_results"][0]["cause"], "too_large", "{down}");
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
fn the_checks_may_have_a_port_of_their_own() {
    let (app, (checks, well)) = (Backend::text("app"), switched("checks"));
    let health = format!("{QUICK}, port = {}", checks.address().port());
    let gateway = checked(&health, &[app.address()]).start();
    becomes(&gateway, &app.address(), "healthy");
    assert_eq!((app.hits(), answers(&gateway, 2).as_str()), (0, "appapp"));
    well.store(false, Ordering::SeqCst);
    becomes(&gateway, &app.address(), "unhealthy");
}

#[test]
fn a_connection_is_enough_where_only_that_is_asked_for() {
    let silent = Backend::script(|conn, _| conn.wait_for_end());
    let health = r#"kind = "tcp", interval = "50ms", fast_interval = "20ms", fall = 2"#;
    let gateway = checked(health, &[silent.address()]).start();
    becomes(&gateway, &silent.address(), "healthy");
    silent.down();
    let down = becomes(&gateway, &silent.address(), "unhealthy");
    assert_eq!(down["health"]["reason"], "no connection: connection refused");
    silent.up();
    becomes(&gateway, &silent.address(), "healthy");
}

#[test]
fn a_websocket_check_wants_the_handshake_answered_rightly() {
    let echo = ws::echo_backend();
    let plain = Backend::text("no sockets here");
    let liar = Backend::raw(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n",
    );
    let health = r#"kind = "websocket", path = "/chat", interval = "50ms""#;
    let addresses = [echo.address(), plain.address(), liar.address()];
    let gateway = checked(health, &addresses).start();
    becomes(&gateway, &echo.address(), "healthy");
    let down = becomes(&gateway, &plain.address(), "unhealthy");
    assert_eq!(down["health"]["reason"], "status 200, accepted: 101");
    let down = becomes(&gateway, &liar.address(), "unhealthy");
    assert_eq!(down["health"]["last_results"][0]["cause"], "handshake");
    let asked = echo.requests().remove(0);
    assert_eq!(
        (asked.target.as_str(), asked.header("upgrade")),
        ("/chat", Some("websocket"))
    );
    // Sessions of probes do not pile up.
    eventually("many probes", || echo.connections() > 10);
    eventually("they are gone", || echo.open_connections() <= 1);
}

#[test]
fn endpoints_behind_unix_sockets_and_names_are_checked_like_any_other() {
    let on_unix = Backend::http_on_unix(|_| Reply::ok("unix"));
    let named = Backend::text("name");
    // May stand for two addresses, of which one answers.
    let name = format!("localhost:{}", named.address().port());
    let config =
        config(QUICK, &[on_unix.address()]).replace("endpoints = [", &format!("endpoints = [\"{name}\", "));
    let gateway = gateway(&config).start();
    eventually("both are well", || upstream(&gateway)["ready_endpoints"] == 2);
    assert_eq!(on_unix.requests()[0].header("host"), Some("localhost"));
    assert_eq!(named.requests()[0].header("host"), Some(name.as_str()));
    named.down();
    eventually("the name is out", || upstream(&gateway)["ready_endpoints"] == 1);
    named.up();
    eventually("the name is back", || upstream(&gateway)["ready_endpoints"] == 2);
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
fn a_server_that_hangs_up_after_each_answer_is_not_asked_without_end() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| {
        let answer = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let answer = answer.then_hold(&held);
        answer.then_pause(Duration::from_millis(20)).then_close()
    });
    // The second probe comes at any time within the interval, so that all gateways spread theirs.
    let gateway = checked(r#"interval = "300d""#, &[backend.address()]).start();
    becomes(&gateway, &backend.address(), "healthy");
    gate.open();
    eventually("it is asked once out of turn", || backend.hits() == 2);
    holds_for(Duration::from_millis(300), "and no more", || backend.hits() == 2);
    assert_eq!(gateway.endpoint(&backend.address())["health"]["state"], "healthy");
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
