//! Sessions that the application names, and those that a hash keeps.

use crate::sticky::{Browser, counted, expect_counted, keeping, servers};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::{Backend, Conn, Gateway, Reply, eventually, ws};

static NEXT: AtomicU64 = AtomicU64::new(1);

fn number() -> u64 {
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// A server that gives who comes without a cookie `sid` one, and says whether it knows it.
fn application(name: &'static str) -> Backend {
    let known = Mutex::new(HashSet::new());
    Backend::http(move |request| {
        let mut known = known.lock().unwrap();
        let cookies = request.header("cookie").unwrap_or_default();
        match cookies.split("; ").find_map(|pair| pair.strip_prefix("sid=")) {
            Some(sid) if known.contains(sid) => Reply::ok(name),
            Some(_) => Reply::new(409, format!("{name} does not know it")),
            None => {
                let sid = format!("{name}-{}", number());
                known.insert(sid.clone());
                Reply::ok(name).header("Set-Cookie", format!("sid={sid}; Path=/; HttpOnly"))
            }
        }
    })
}

fn applications() -> [Backend; 3] {
    ["a", "b", "c"].map(application)
}

#[test]
fn a_session_stays_where_the_application_named_it() {
    let servers = applications();
    let gateway = keeping("learn = { cookie = \"sid\" }", &servers).start();
    let mut homes = HashSet::new();
    for _ in 0..6 {
        let mut browser = Browser::default();
        let home = browser.get(&gateway.web(), "/").text();
        for _ in 0..5 {
            assert_eq!(browser.get(&gateway.web(), "/").text(), home);
        }
        assert_eq!(browser.told, 1, "no cookie is ours");
        homes.insert(home);
    }
    assert_eq!(homes.len(), 3, "new sessions are balanced");
    expect_counted(&gateway, "new", 6.0);
    expect_counted(&gateway, "kept", 30.0);
    let seen = servers[0].last_request();
    assert!(
        seen.header("cookie").unwrap().starts_with("sid=a-"),
        "it is passed on"
    );
}

#[test]
fn a_header_names_a_session_as_well() {
    let server = |name: &'static str| {
        Backend::http(move |request| match request.header("mcp-session-id") {
            Some(id) if id.starts_with(name) => Reply::ok(name),
            Some(_) => Reply::new(404, name),
            None => Reply::ok(name).header("Mcp-Session-Id", format!("{name}-{}", number())),
        })
    };
    let servers = ["a", "b", "c"].map(server);
    let gateway = keeping("learn = { header = \"mcp-session-id\" }", &servers).start();
    for _ in 0..6 {
        let first = gateway.get("/");
        let id = first.header("mcp-session-id").unwrap();
        for _ in 0..3 {
            let again = gateway.send(format!(
                "GET / HTTP/1.1\r\nHost: test\r\nMCP-Session-Id: {id}\r\n\r\n"
            ));
            assert_eq!((again.status, again.text()), (200, first.text()));
        }
    }
}

#[test]
fn names_that_nobody_learned_go_to_one_place_and_stay_there() {
    let servers = servers();
    let gateway = keeping("learn = { cookie = \"sid\" }", &servers).start();
    let other = keeping("learn = { cookie = \"sid\" }", &servers).start();
    let mut homes = HashSet::new();
    for n in 0..20 {
        let mut browser = Browser::with("sid", &format!("session-{n}"));
        let home = browser.get(&gateway.web(), "/").text();
        assert_eq!(browser.get(&gateway.web(), "/").text(), home);
        assert_eq!(browser.get(&other.web(), "/").text(), home, "gateways agree");
        homes.insert(home);
    }
    assert_eq!(homes.len(), 3, "they are spread");
    expect_counted(&gateway, "unknown", 20.0);
    expect_counted(&gateway, "kept", 20.0);
}

#[test]
fn a_refusal_speaks_for_no_place() {
    let servers = applications();
    let gateway = keeping("learn = { cookie = \"sid\" }", &servers).start();
    for _ in 0..3 {
        assert_eq!(
            Browser::with("sid", "made-up").get(&gateway.web(), "/").status,
            409
        );
    }
    expect_counted(&gateway, "unknown", 3.0);
    expect_counted(&gateway, "kept", 0.0);
}

#[test]
fn a_session_whose_endpoint_fails_is_learned_anew() {
    let servers = servers();
    let gateway = keeping("learn = { cookie = \"sid\" }", &servers).start();
    let mut browser = Browser::with("sid", "x");
    let home = browser.get(&gateway.web(), "/").text();
    let at = ["a", "b", "c"].iter().position(|name| *name == home).unwrap();
    servers[at].down();
    let next = browser.get(&gateway.web(), "/").text();
    assert_ne!(next, home);
    servers[at].up();
    for _ in 0..3 {
        assert_eq!(browser.get(&gateway.web(), "/").text(), next);
    }
    expect_counted(&gateway, "failed", 1.0);
}

#[test]
fn sessions_are_known_over_a_reload_and_only_so_many() {
    let servers = applications();
    let gateway = keeping("learn = { cookie = \"sid\", max_sessions = 128 }", &servers).start();
    let mut kept = Browser::default();
    let home = kept.get(&gateway.web(), "/").text();
    gateway.reload(
        &crate::sticky::THREE.replace("[upstreams.app]", "[upstreams.app]\nbalance = \"random_two\""),
    );
    assert_eq!(kept.get(&gateway.web(), "/").text(), home);
    for n in 0..400 {
        let mut conn = gateway.connect();
        assert_eq!(conn.get("/").status, 200);
        if n % 40 == 0 {
            assert_eq!(kept.get(&gateway.web(), "/").text(), home, "what is used stays");
        }
    }
    let upstream = gateway.admin_get("/api/v1/upstreams/app").json();
    let known = upstream["sticky"]["sessions"].as_u64().unwrap();
    assert!((64..=128).contains(&known), "{upstream}");
}

#[test]
fn a_session_that_is_not_used_is_forgotten() {
    let servers = servers();
    let gateway = keeping("learn = { cookie = \"sid\" }, ttl = \"1s\"", &servers).start();
    let mut browser = Browser::with("sid", "x");
    browser.get(&gateway.web(), "/");
    eventually("it is forgotten", || {
        testkit::pace(std::time::Duration::from_millis(1500));
        browser.get(&gateway.web(), "/");
        counted(&gateway, "unknown") >= 2.0
    });
}

#[test]
fn a_hash_keeps_clients_whatever_the_others_are_balanced_by() {
    let servers = servers();
    let gateway = keeping("hash = \"header:x-user\"", &servers).start();
    let of = |user: usize| {
        let answer = gateway.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-User: {user}\r\n\r\n"));
        answer.text()
    };
    let homes: Vec<String> = (0..20).map(of).collect();
    assert_eq!((0..20).map(of).collect::<Vec<_>>(), homes);
    assert_eq!(homes.iter().collect::<HashSet<_>>().len(), 3);
    let without: HashSet<String> = (0..3).map(|_| gateway.get("/").text()).collect();
    assert_eq!(without.len(), 3, "by turns");
    assert!(gateway.get("/").header("set-cookie").is_none());
}

#[test]
fn a_clients_address_keeps_it_at_one_endpoint() {
    let servers = servers();
    let gateway = keeping("hash = \"client_ip\"", &servers).start();
    let home = gateway.get("/").text();
    assert!((0..10).all(|_| gateway.get("/").text() == home));
    let homes: HashSet<String> = (2..30)
        .map(|n| {
            let source = std::net::Ipv4Addr::new(127, 0, 0, n);
            Conn::connect_from(source, gateway.web()).get("/").text()
        })
        .collect();
    assert_eq!(homes.len(), 3);
}

/// A server that speaks as much Engine.IO as it takes: the session begins with a request without `sid`, and nobody else
/// knows it.
fn engine_io() -> Backend {
    let known: Mutex<HashSet<String>> = Mutex::default();
    Backend::script(move |conn, visit| {
        while let Ok(request) = conn.try_request() {
            let sid = request
                .target
                .split(['?', '&'])
                .find_map(|pair| pair.strip_prefix("sid="))
                .map(str::to_owned);
            let key = request.header("sec-websocket-key").map(str::to_owned);
            visit.hit(request);
            let mut known = known.lock().unwrap();
            let (status, body) = match sid {
                None => {
                    let sid = format!("sid{}", number());
                    known.insert(sid.clone());
                    (
                        "200 OK",
                        format!("0{{\"sid\":\"{sid}\",\"upgrades\":[\"websocket\"]}}"),
                    )
                }
                Some(sid) if known.contains(&sid) => match key {
                    Some(key) => {
                        drop(known);
                        let _ = conn.try_send(ws::accepted(&key));
                        while let Ok((opcode, payload)) = ws::read_frame(conn) {
                            if conn.try_send(ws::frame(opcode, &payload, false)).is_err() {
                                return;
                            }
                        }
                        return;
                    }
                    None => ("200 OK", "6".to_owned()),
                },
                Some(_) => (
                    "400 Bad Request",
                    "{\"code\":1,\"message\":\"Session ID unknown\"}".to_owned(),
                ),
            };
            drop(known);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if conn.try_send(head).is_err() {
                return;
            }
        }
    })
}

/// Polls, polls again, and upgrades, as Socket.IO's client does; all of it must be at one server.
fn socket_io(gateway: &Gateway, mut browser: Browser) {
    let base = "/socket.io/?EIO=4&transport=polling";
    let opened = browser.get(&gateway.web(), base);
    let text = opened.text();
    let sid = text.split('"').nth(3).unwrap().to_owned();
    for _ in 0..3 {
        let polled = browser.get(&gateway.web(), &format!("{base}&sid={sid}"));
        assert_eq!(polled.status, 200, "{polled}");
    }
    let mut conn = gateway.connect();
    let target = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let answer = conn.send(ws::handshake(&target, &browser.header())).response();
    assert_eq!(answer.status, 101, "{answer}");
    conn.send(ws::frame(ws::TEXT, b"2probe", true));
    assert_eq!(ws::read_frame(&mut conn).unwrap().1, b"2probe");
}

#[test]
fn socket_io_polls_and_upgrades_at_one_endpoint() {
    let servers = [engine_io(), engine_io(), engine_io()];
    for sticky in ["cookie = \"io\"", "hash = \"client_ip\""] {
        let gateway = keeping(sticky, &servers).start();
        for _ in 0..6 {
            socket_io(&gateway, Browser::default());
        }
    }
    assert!(servers.iter().filter(|server| server.hits() > 0).count() > 1);
}
