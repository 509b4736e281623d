//! Names of endpoints: how they are resolved, followed, and what happens when nobody answers for them.

use crate::gateway;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use testkit::dns::{Failure, Service};
use testkit::{
    Address, Backend, Builder, Gate, Gateway, Load, NameServer, Reply, eventually, eventually_some, holds_for,
};

const NAME: &str = "app.test";
const SERVICE: &str = "_http._tcp.app.test";

/// One endpoint by its name. Answers are asked for again after a tenth of a second.
const BY_NAME: &str = r#"
    runtime = { workers = 1 }
    [dns]
    servers = ["@dns@"]
    hosts_file = "@dir@/hosts"
    min_ttl = "100ms"
    max_ttl = "60s"
    timeout = "400ms"
    [listeners.web]
    address = "127.0.0.1:0"
    [[routes]]
    upstream = "app"
    [upstreams.app]
    endpoints = ["app.test:@port@"]
"#;

/// The same, where each request has a connection of its own and is tried once: what works then works by itself.
fn connecting_once() -> String {
    format!("{BY_NAME}\n    retry = {{ attempts = 1 }}\n    pool = {{ idle_per_worker = 0 }}\n")
}

/// Endpoints that a name stands for.
fn discovering(discover: &str) -> String {
    BY_NAME.replace(
        r#"endpoints = ["app.test:@port@"]"#,
        &format!("discover = {{ {discover} }}"),
    )
}

fn by_dns() -> String {
    discovering(r#"dns = "app.test:@port@""#)
}

fn with(config: &str, server: &NameServer, port: u16) -> Builder {
    gateway(config).with("dns", server.address()).with("port", port)
}

fn ips(backends: &[&Backend]) -> Vec<IpAddr> {
    let ip = |backend: &&Backend| socket(backend).ip();
    backends.iter().map(ip).collect()
}

fn socket(backend: &Backend) -> SocketAddr {
    match backend.address() {
        Address::Tcp(address) => address,
        Address::Unix(path) => panic!("{}", path.display()),
    }
}

fn upstream(gateway: &Gateway) -> Value {
    gateway.admin_get("/api/v1/upstreams/app").json()
}

/// The addresses of the endpoints, in their order.
fn endpoints(gateway: &Gateway) -> Vec<String> {
    let upstream = upstream(gateway);
    let list = upstream["endpoints"].as_array().expect("endpoints");
    list.iter()
        .map(|e| e["address"].as_str().expect("address").to_owned())
        .collect()
}

fn resolutions(gateway: &Gateway, result: &str) -> u64 {
    let label = format!("result=\"{result}\"");
    gateway.metric("tidegate_dns_resolutions_total", &[&label]) as u64
}

/// Where the one endpoint leads.
fn resolved(gateway: &Gateway) -> Vec<String> {
    let upstream = upstream(gateway);
    let list = upstream["endpoints"][0]["resolved"]
        .as_array()
        .expect("resolved")
        .clone();
    list.iter()
        .map(|a| a.as_str().expect("address").to_owned())
        .collect()
}

#[test]
fn a_name_that_moves_under_load_costs_nobody_a_request() {
    let replicas = Backend::replicas(&["a", "b"]);
    let (a, b) = (&replicas[0], &replicas[1]);
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[a]));
    let gateway = with(BY_NAME, &server, a.address().port()).start();
    let load = Load::get(gateway.web(), 4, "/");
    for (to, from) in [(b, a), (a, b), (b, a), (a, b)] {
        let before = to.hits();
        server.addresses(NAME, 0, &ips(&[to]));
        eventually("requests go to the new address", || to.hits() > before + 20);
        let left = from.hits();
        eventually("and none to the old one", || from.open_connections() == 0);
        assert!(from.hits() < left + 50, "the old address is let go at once");
        // What nobody is sent to any more may end.
        from.down();
        from.up();
    }
    load.stop().expect_flawless();
}

#[test]
fn a_dead_address_of_several_costs_nobody_a_request() {
    let replicas = Backend::replicas(&["a", "b"]);
    let server = NameServer::start();
    server.addresses(NAME, 3600, &ips(&[&replicas[0], &replicas[1]]));
    let gateway = with(&connecting_once(), &server, replicas[0].address().port()).start();
    replicas[1].down();
    for _ in 0..10 {
        let post = "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(gateway.send(post).text(), "a");
    }
}

#[test]
fn a_name_that_nobody_knows_at_the_start_is_told_and_asked_for_again() {
    let backend = Backend::text("hi");
    let server = NameServer::start();
    let gateway = with(BY_NAME, &server, backend.address().port()).start();
    gateway.get("/").expect(502, Some("dns_failed"));
    gateway.await_log("there is no such name; it gets no requests until it resolves");
    let endpoint = upstream(&gateway)["endpoints"][0].clone();
    assert_eq!(endpoint["state"], "unresolved", "{endpoint}");
    assert_eq!(endpoint["resolve_error"], "there is no such name");
    assert!(resolutions(&gateway, "no_such_name") > 0);
    server.addresses(NAME, 1, &ips(&[&backend]));
    eventually("it is found", || gateway.get("/").status == 200);
    gateway.await_log("resolves to 127.0.0.1");
    assert_eq!(upstream(&gateway)["endpoints"][0]["resolve_error"], Value::Null);
}

#[test]
fn the_gateway_is_ready_only_when_its_names_have_been_looked_up_or_take_too_long() {
    let backend = Backend::text("hi");
    let server = NameServer::start();
    server.addresses(NAME, 60, &ips(&[&backend]));
    server.delay(NAME, Duration::from_millis(200));
    let gateway = with(BY_NAME, &server, backend.address().port()).start();
    assert_eq!(gateway.get("/").status, 200);
    let silent = NameServer::start();
    silent.down();
    let gateway = with(BY_NAME, &silent, backend.address().port()).start();
    gateway.get("/").expect(502, Some("dns_failed"));
}

#[test]
fn the_last_good_answer_is_kept_whatever_the_servers_say() {
    let backend = Backend::text("hi");
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&backend]));
    let gateway = with(BY_NAME, &server, backend.address().port()).start();
    assert_eq!(gateway.get("/").status, 200);
    for (failure, result) in [
        (Failure::ServFail, "server_failed"),
        (Failure::Refused, "server_failed"),
        (Failure::NoSuchName, "no_such_name"),
        (Failure::Silence, "timeout"),
    ] {
        server.fails(NAME, failure);
        let before = resolutions(&gateway, result);
        eventually("it fails", || resolutions(&gateway, result) > before);
        assert_eq!(gateway.get("/").status, 200, "{failure:?}");
        server.recovers(NAME);
        let ok = resolutions(&gateway, "ok");
        eventually("it recovers", || resolutions(&gateway, "ok") > ok);
    }
    server.addresses(NAME, 0, &[]);
    eventually("it has no address", || resolutions(&gateway, "no_address") > 0);
    assert_eq!(gateway.get("/").status, 200);
    let endpoint = upstream(&gateway)["endpoints"][0].clone();
    assert_eq!(endpoint["state"], "active");
    assert_eq!(endpoint["resolve_error"], "the name has no address");
    gateway.await_log("the last answer stays in use");
}

#[test]
fn a_name_server_that_comes_back_is_heard_again() {
    let replicas = Backend::replicas(&["a", "b"]);
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&replicas[0]]));
    let gateway = with(BY_NAME, &server, replicas[0].address().port()).start();
    server.down();
    eventually("two look-ups fail", || resolutions(&gateway, "timeout") > 1);
    server.addresses(NAME, 0, &ips(&[&replicas[1]]));
    server.up();
    eventually("the new answer is followed", || gateway.get("/").text() == "b");
}

#[test]
fn answers_are_kept_no_shorter_and_no_longer_than_configured() {
    let replicas = Backend::replicas(&["a", "b"]);
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&replicas[0]]));
    let slow = BY_NAME.replace("100ms", "60s");
    let gateway = with(&slow, &server, replicas[0].address().port()).start();
    let asked = server.queries(NAME);
    holds_for(Duration::from_millis(500), "nobody asks again", || {
        server.queries(NAME) == asked
    });
    drop(gateway);

    server.addresses(NAME, 86_400, &ips(&[&replicas[0]]));
    let quick = BY_NAME.replace("60s", "200ms");
    let gateway = with(&quick, &server, replicas[0].address().port()).start();
    server.addresses(NAME, 86_400, &ips(&[&replicas[1]]));
    eventually("the answer of a day is asked for again", || {
        gateway.get("/").text() == "b"
    });
}

#[test]
fn that_there_is_nothing_is_believed_as_long_as_the_zone_says_within_the_limits() {
    // (what the zone says, the limits, whether it is asked for again at once)
    for (seconds, limits, at_once) in [
        (3600, ("100ms", "60s"), false),
        (3600, ("100ms", "200ms"), true),
        (0, ("100ms", "60s"), true),
        (0, ("30s", "60s"), false),
    ] {
        let server = NameServer::start();
        server.nothing_holds_for(seconds);
        let config = BY_NAME
            .replace("\"100ms\"", &format!("\"{}\"", limits.0))
            .replace("\"60s\"", &format!("\"{}\"", limits.1));
        let gateway = with(&config, &server, 1).start();
        eventually("it was asked for", || resolutions(&gateway, "no_such_name") > 0);
        if at_once {
            eventually("again and again", || server.queries(NAME) > 12);
        } else {
            // Both families of the first time; without the zone's word it would be tried again after a second.
            holds_for(Duration::from_millis(1500), "not again", || {
                server.queries(NAME) == 2
            });
        }
    }
}

#[test]
fn the_hosts_file_comes_first_and_is_followed() {
    let replicas = Backend::replicas(&["a", "b"]);
    let server = NameServer::start();
    let quick = BY_NAME.replace("60s", "200ms");
    let gateway = with(&quick, &server, replicas[0].address().port())
        .file("hosts", "127.0.0.1 app.test # here")
        .start();
    assert_eq!(gateway.get("/").text(), "a");
    std::fs::write(gateway.path("hosts"), "127.0.0.2 app.test").expect("hosts");
    eventually("the file is read again", || gateway.get("/").text() == "b");
    assert_eq!(server.all_queries(), 0);
}

#[test]
fn this_host_by_its_name_is_reached_on_whichever_loopback_it_listens() {
    let backend = Backend::text("hi");
    let server = NameServer::start();
    let config = connecting_once().replace("app.test:", "localhost:");
    let gateway = with(&config, &server, backend.address().port()).start();
    for _ in 0..6 {
        let post = "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(gateway.send(post).status, 200);
    }
    assert_eq!(resolved(&gateway).len(), 2, "both loopbacks");
    assert_eq!(server.all_queries(), 0);
}

#[test]
fn an_idle_connection_to_an_address_that_is_gone_is_closed() {
    let replicas = Backend::replicas(&["a", "b"]);
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&replicas[0]]));
    let gateway = with(BY_NAME, &server, replicas[0].address().port()).start();
    assert_eq!(gateway.get("/").text(), "a");
    assert_eq!(replicas[0].open_connections(), 1);
    server.addresses(NAME, 0, &ips(&[&replicas[1]]));
    eventually("it is closed", || replicas[0].open_connections() == 0);
}

#[test]
fn each_address_of_a_name_is_an_endpoint_and_they_come_and_go_with_it() {
    let replicas = Backend::replicas(&["a", "b", "c"]);
    let all: Vec<String> = replicas.iter().map(|r| r.address().to_string()).collect();
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&replicas[0], &replicas[1]]));
    let gateway = with(&by_dns(), &server, replicas[0].address().port()).start();
    assert_eq!(endpoints(&gateway), all[..2]);
    let answers: Vec<String> = (0..4).map(|_| gateway.get("/").text()).collect();
    assert!(
        answers.contains(&"a".to_owned()) && answers.contains(&"b".to_owned()),
        "{answers:?}"
    );
    let discovery = upstream(&gateway)["discovery"].clone();
    assert_eq!(
        discovery["name"],
        format!("app.test:{}", replicas[0].address().port())
    );
    assert_eq!(
        (&discovery["found"], &discovery["left_out"]),
        (&2.into(), &0.into())
    );

    let (applied, generation) = (gateway.reloads("applied"), gateway.generation());
    let served = upstream(&gateway)["endpoints"][1]["requests"].as_u64();
    server.addresses(NAME, 0, &ips(&[&replicas[1], &replicas[2]]));
    eventually("the third has come for the first", || {
        endpoints(&gateway) == all[1..]
    });
    eventually("it is sent requests", || gateway.get("/").text() == "c");
    assert!(gateway.generation() > generation);
    assert_eq!(gateway.reloads("applied"), applied, "that is no reload");
    assert!(
        upstream(&gateway)["endpoints"][0]["requests"].as_u64() >= served,
        "who stays keeps its counts"
    );
    assert_eq!(upstream(&gateway)["endpoints"][0]["discovered"], true);
    eventually("what is gone leaves no series", || {
        !gateway.metrics().contains(&format!("endpoint=\"{}\"", all[0]))
    });

    server.fails(NAME, Failure::NoSuchName);
    eventually("it fails", || resolutions(&gateway, "no_such_name") > 0);
    assert_eq!(endpoints(&gateway), all[1..], "the last good answer stays");
    assert_eq!(upstream(&gateway)["discovery"]["error"], "there is no such name");
}

#[test]
fn discovery_under_load_costs_nobody_a_request() {
    let replicas = Backend::replicas(&["a", "b", "c"]);
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&replicas[0], &replicas[1]]));
    let gateway = with(&by_dns(), &server, replicas[0].address().port()).start();
    let load = Load::get(gateway.web(), 4, "/");
    for (here, gone) in [([1, 2], 0), ([2, 0], 1), ([0, 1], 2), ([1, 2], 0)] {
        server.addresses(NAME, 0, &ips(&here.map(|n| &replicas[n])));
        eventually("the one that is gone is let go", || {
            replicas[gone].open_connections() == 0
        });
        let before = replicas[here[1]].hits();
        eventually("those that are here serve", || {
            replicas[here[1]].hits() > before + 10
        });
    }
    load.stop().expect_flawless();
}

#[test]
fn services_bring_their_ports_weights_and_backups() {
    let (a, b, spare) = (Backend::text("a"), Backend::text("b"), Backend::text("spare"));
    let server = NameServer::start();
    server.addresses("host.test", 0, &ips(&[&a]));
    let service = |backend: &Backend, priority, weight| Service {
        priority,
        weight,
        port: backend.address().port(),
        target: "host.test".to_owned(),
    };
    server.services(
        SERVICE,
        0,
        &[service(&a, 10, 3), service(&b, 10, 1), service(&spare, 20, 9)],
    );
    let config = discovering(&format!("srv = \"{SERVICE}\""));
    let gateway = with(&config, &server, 1).start();
    let mut shown: Vec<(String, u64, bool)> = upstream(&gateway)["endpoints"]
        .as_array()
        .expect("endpoints")
        .iter()
        .map(|e| {
            let address = e["address"].as_str().expect("address").to_owned();
            (
                address,
                e["weight"].as_u64().expect("weight"),
                e["backup"] == true,
            )
        })
        .collect();
    let of = |backend: &Backend, weight, backup| (backend.address().to_string(), weight, backup);
    let mut expected = [of(&a, 3, false), of(&b, 1, false), of(&spare, 9, true)];
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected);
    let mut conn = gateway.connect();
    for _ in 0..40 {
        conn.get("/");
    }
    assert_eq!((a.hits(), b.hits(), spare.hits()), (30, 10, 0));
    a.down();
    b.down();
    eventually("the backup is used", || gateway.get("/").text() == "spare");
}

#[test]
fn a_thousand_addresses_are_used_and_those_beyond_the_limit_are_told() {
    let server = NameServer::start();
    let many: Vec<IpAddr> = (0..1000_u32)
        .map(|n| Ipv4Addr::from(0x7f01_0000 + n).into())
        .collect();
    server.addresses(NAME, 60, &many);
    let gateway = with(&by_dns(), &server, 9).start();
    eventually("all are there", || endpoints(&gateway).len() == 1000);
    let few = by_dns().replace("\" }", "\", max_endpoints = 10 }");
    gateway.reload(&few);
    eventually("ten are used", || endpoints(&gateway).len() == 10);
    let discovery = upstream(&gateway)["discovery"].clone();
    assert_eq!(
        (&discovery["found"], &discovery["left_out"]),
        (&1000.into(), &990.into())
    );
    gateway.await_log("app.test:9 stands for 1000 endpoints, of which discover.max_endpoints lets in 10");
}

#[test]
fn a_name_that_flips_all_the_time_leaves_nothing_behind() {
    let server = NameServer::start();
    let address = |n: u32| IpAddr::from(Ipv4Addr::from(0x7f02_0000 + n));
    server.addresses(NAME, 0, &[address(0)]);
    let fast = by_dns().replace("100ms", "10ms");
    let gateway = with(&fast, &server, 9).start();
    let mut told = 0;
    for n in 1..120 {
        server.addresses(NAME, 0, &[address(n)]);
        eventually("it is followed", || {
            endpoints(&gateway) == [format!("{}:9", address(n))]
        });
        told = gateway.log().matches("endpoint.resolved").count();
    }
    assert!(told < 20, "told {told} times");
    eventually("one endpoint has series", || {
        let metrics = gateway.metrics();
        let series = metrics
            .lines()
            .filter(|line| line.starts_with("tidegate_lb_picks_total"));
        series.count() <= 1
    });
}

#[test]
fn a_written_endpoint_that_is_discovered_too_is_there_once_as_written() {
    let replicas = Backend::replicas(&["a", "b"]);
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&replicas[0], &replicas[1]]));
    let config = by_dns().replace(
        "discover =",
        "endpoints = [{ address = \"@own@\", weight = 7, zone = \"z1\" }]\n    discover =",
    );
    let gateway = with(&config, &server, replicas[0].address().port())
        .with("own", replicas[1].address())
        .start();
    let upstream = upstream(&gateway);
    let list = upstream["endpoints"].as_array().expect("endpoints");
    assert_eq!(list.len(), 2, "{upstream}");
    let own = list
        .iter()
        .find(|e| e["address"] == replicas[1].address().to_string());
    let own = own.expect("the written one");
    assert_eq!(
        (&own["weight"], &own["zone"], &own["discovered"]),
        (&7.into(), &"z1".into(), &false.into())
    );
    assert_eq!(list.iter().filter(|e| e["discovered"] == true).count(), 1);
}

#[test]
fn a_reload_that_discovers_what_was_written_costs_nobody_a_request() {
    let backend = Backend::text("hi");
    let server = NameServer::start();
    server.addresses(NAME, 60, &ips(&[&backend]));
    server.delay(NAME, Duration::from_millis(150));
    let port = backend.address().port();
    let written = BY_NAME.replace("app.test:", "127.0.0.1:");
    let gateway = with(&written, &server, port).start();
    let load = Load::get(gateway.web(), 2, "/");
    for config in [by_dns(), written, BY_NAME.to_owned(), by_dns()] {
        gateway.reload(&config);
        let done = load.done();
        eventually("requests are served", || load.done() > done + 20);
    }
    load.stop().expect_flawless();
    eventually("nothing waits", || upstream(&gateway)["in_flight"] == 0);
}

#[test]
fn other_name_servers_are_asked_at_once() {
    let replicas = Backend::replicas(&["a", "b"]);
    let (one, other) = (NameServer::start(), NameServer::start());
    one.addresses(NAME, 3600, &ips(&[&replicas[0]]));
    other.addresses(NAME, 3600, &ips(&[&replicas[1]]));
    let gateway = with(BY_NAME, &one, replicas[0].address().port())
        .with("other", other.address())
        .start();
    assert_eq!(gateway.get("/").text(), "a");
    gateway.reload(&BY_NAME.replace("@dns@", "@other@"));
    eventually("the other server's answer is followed", || {
        gateway.get("/").text() == "b"
    });
}

#[test]
fn an_upstream_whose_name_stands_for_nothing_answers_for_itself() {
    let server = NameServer::start();
    let gateway = with(&by_dns(), &server, 80).start();
    gateway.get("/").expect(503, Some("no_endpoint"));
    assert_eq!(endpoints(&gateway).len(), 0);
    assert_eq!(upstream(&gateway)["discovery"]["error"], "there is no such name");
    let backend = Backend::text("hi");
    let port = backend.address().port();
    gateway.reload(&by_dns().replace("@port@", &port.to_string()));
    server.addresses(NAME, 0, &ips(&[&backend]));
    let answer = eventually_some("it is found", || {
        Some(gateway.get("/")).filter(|a| a.status == 200)
    });
    assert_eq!(answer.text(), "hi");
}

#[test]
fn discovered_endpoints_are_probed_like_any_other() {
    let replicas = Backend::replicas(&["a", "b", "c"]);
    let server = NameServer::start();
    server.addresses(NAME, 0, &ips(&[&replicas[0], &replicas[1]]));
    let config = by_dns() + "\n    health = { kind = \"tcp\", interval = \"100ms\", fall = 1, rise = 1 }\n";
    let gateway = with(&config, &server, replicas[0].address().port()).start();
    let states = || -> Vec<String> {
        let upstream = upstream(&gateway);
        let list = upstream["endpoints"].as_array().expect("endpoints").clone();
        list.iter()
            .map(|e| e["state"].as_str().expect("state").to_owned())
            .collect()
    };
    eventually("both are well", || states() == ["active", "active"]);
    replicas[1].down();
    eventually("one is not", || states() == ["active", "unhealthy"]);
    // What is known of those that stay is kept.
    server.addresses(NAME, 0, &ips(&[&replicas[0], &replicas[1], &replicas[2]]));
    eventually("the new one is well", || {
        states() == ["active", "unhealthy", "active"]
    });
    replicas[1].up();
    eventually("all are well", || states() == ["active", "active", "active"]);
}

#[test]
fn discovered_endpoints_have_the_limit_of_their_discovery() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Backend::http(move |_| Reply::ok("late").held_by(&held));
    let server = NameServer::start();
    server.addresses(NAME, 60, &ips(&[&backend]));
    let config = discovering(r#"dns = "app.test:@port@", max_connections = 1"#);
    let gateway = with(
        &(config + "\n    queue = { max = 0 }\n"),
        &server,
        backend.address().port(),
    )
    .start();
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    gate.reached();
    gateway.get("/").expect(503, Some("overloaded"));
    gate.open();
    assert_eq!(first.response().text(), "late");
}
