use super::*;
use crate::config::{Environment, load_text};
use testkit::NameServer;
use testkit::dns::{Failure, Service as Srv};

const HOST: &str = "api.test";

fn dns(server: Option<&NameServer>, more: &str) -> Dns {
    let servers = server.map_or_else(String::new, |server| {
        format!("servers = ['{}']\n", server.address())
    });
    let text = format!(
        "[dns]\n{servers}{more}\n[listeners.web]\naddress = '127.0.0.1:0'\n[[routes]]\nrespond = {{}}\n"
    );
    load_text("test", &text, &Environment::default())
        .unwrap()
        .config
        .dns
}

fn asker(server: &NameServer) -> Asker {
    Asker::new(&dns(Some(server), "timeout = '2s'"), "", "").unwrap()
}

fn host() -> DnsName {
    DnsName::Host {
        host: HOST.to_owned(),
        port: 80,
    }
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn shown(found: &Found) -> Vec<String> {
    found
        .places
        .iter()
        .map(|place| place.address.to_string())
        .collect()
}

async fn ask(asker: &Asker, name: &DnsName) -> Result<Found, LookupError> {
    asker.look_up(name, &Known::new()).await
}

#[tokio::test]
async fn a_name_gives_the_addresses_of_both_families_and_says_how_long_they_hold() {
    let server = NameServer::start();
    server.addresses(HOST, 7, &ips(&["10.0.0.2", "10.0.0.1", "fd00::1"]));
    let found = ask(&asker(&server), &host()).await.unwrap();
    assert_eq!(shown(&found), ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]);
    assert!(
        found.ttl <= Duration::from_secs(7) && found.ttl > Duration::from_secs(5),
        "{:?}",
        found.ttl
    );
}

#[tokio::test]
async fn nothing_is_remembered_between_look_ups() {
    let server = NameServer::start();
    server.addresses(HOST, 3600, &ips(&["10.0.0.1"]));
    let asker = asker(&server);
    assert_eq!(shown(&ask(&asker, &host()).await.unwrap()), ["10.0.0.1:80"]);
    server.addresses(HOST, 3600, &ips(&["10.0.0.2"]));
    assert_eq!(shown(&ask(&asker, &host()).await.unwrap()), ["10.0.0.2:80"]);
}

#[tokio::test]
async fn an_alias_is_followed_and_its_shorter_life_counts() {
    let server = NameServer::start();
    server.addresses("real.test", 3600, &ips(&["10.0.0.1"]));
    server.alias(HOST, 5, "real.test");
    let found = ask(&asker(&server), &host()).await.unwrap();
    assert_eq!(shown(&found), ["10.0.0.1:80"]);
    assert!(found.ttl <= Duration::from_secs(5), "{:?}", found.ttl);
}

#[tokio::test]
async fn each_kind_of_failure_is_told_apart() {
    let server = NameServer::start();
    let asker = asker(&server);
    assert_eq!(
        ask(&asker, &host()).await.unwrap_err(),
        LookupError::NoSuchName(None)
    );
    server.addresses(HOST, 1, &[]);
    assert_eq!(
        ask(&asker, &host()).await.unwrap_err(),
        LookupError::NoAddress(None)
    );
    for failure in [Failure::ServFail, Failure::Refused] {
        server.fails(HOST, failure);
        let error = ask(&asker, &host()).await.unwrap_err();
        assert!(
            matches!(error, LookupError::ServerFailed(_)),
            "{failure:?}: {error:?}"
        );
    }
    server.fails(HOST, Failure::Silence);
    assert_eq!(ask(&asker, &host()).await.unwrap_err(), LookupError::Timeout);
    server.fails(HOST, Failure::Garbage);
    let error = ask(&asker, &host()).await.unwrap_err();
    assert!(
        matches!(error, LookupError::Failed(_) | LookupError::Timeout),
        "{error:?}"
    );
    server.recovers(HOST);
    server.addresses(HOST, 1, &ips(&["10.0.0.1"]));
    assert!(ask(&asker, &host()).await.is_ok(), "nothing is held against it");
}

#[tokio::test]
async fn a_thousand_addresses_come_over_tcp() {
    let server = NameServer::start();
    let many: Vec<IpAddr> = (0..1000_u32)
        .map(|n| Ipv4Addr::from(0x0a00_0000 + n).into())
        .collect();
    server.addresses(HOST, 1, &many);
    assert_eq!(ask(&asker(&server), &host()).await.unwrap().places.len(), 1000);
    assert!(server.queries_over_tcp() > 0);
}

#[tokio::test]
async fn a_server_that_never_answers_for_ipv6_does_not_hold_up_ipv4() {
    let server = NameServer::start();
    server.addresses(HOST, 1, &ips(&["10.0.0.1", "fd00::1"]));
    let before = Known::from([(HOST.to_owned(), ips(&["10.0.0.9", "fd00::9"]))]);
    let asker = Asker::new(&dns(Some(&server), "timeout = '60s'"), "", "").unwrap();
    for failure in [Failure::Silence, Failure::ServFail] {
        server.fails_for_ipv6(HOST, failure);
        let began = Instant::now();
        let found = asker.look_up(&host(), &before).await.unwrap();
        assert_eq!(
            shown(&found),
            ["10.0.0.1:80", "[fd00::9]:80"],
            "what failed keeps what it had"
        );
        assert!(began.elapsed() < Duration::from_secs(30), "{failure:?}");
    }
}

#[tokio::test]
async fn one_family_alone_is_asked_for_when_the_configuration_says_so() {
    let server = NameServer::start();
    server.addresses(HOST, 1, &ips(&["10.0.0.1", "fd00::1"]));
    for (family, expected) in [("ipv4", "10.0.0.1:80"), ("ipv6", "[fd00::1]:80")] {
        let before = server.all_queries();
        let asker = Asker::new(&dns(Some(&server), &format!("family = '{family}'")), "", "").unwrap();
        assert_eq!(shown(&ask(&asker, &host()).await.unwrap()), [expected]);
        assert_eq!(server.all_queries() - before, 1, "{family}");
    }
}

#[tokio::test]
async fn the_hosts_file_answers_before_anybody_is_asked() {
    let server = NameServer::start();
    server.addresses(HOST, 1, &ips(&["10.0.0.1"]));
    let asker = Asker::new(
        &dns(Some(&server), ""),
        "",
        "10.9.9.9 api.test\n127.0.0.1 localhost",
    )
    .unwrap();
    assert_eq!(shown(&ask(&asker, &host()).await.unwrap()), ["10.9.9.9:80"]);
    let local = DnsName::Host {
        host: "localhost".to_owned(),
        port: 80,
    };
    assert_eq!(shown(&ask(&asker, &local).await.unwrap()), ["127.0.0.1:80"]);
    assert_eq!(server.all_queries(), 0);
}

#[tokio::test]
async fn services_have_their_own_ports_and_their_hosts_are_looked_up() {
    let server = NameServer::start();
    let service = |priority, weight, port, target: &str| Srv {
        priority,
        weight,
        port,
        target: target.to_owned(),
    };
    server.services(
        "_http._tcp.test",
        9,
        &[service(1, 5, 8001, "a.test"), service(2, 0, 8002, "b.test")],
    );
    server.addresses("a.test", 4, &ips(&["10.0.0.1"]));
    server.addresses("b.test", 9, &ips(&["10.0.0.2"]));
    let asker = asker(&server);
    let name = DnsName::Service("_http._tcp.test".to_owned());
    let found = ask(&asker, &name).await.unwrap();
    assert_eq!(shown(&found), ["10.0.0.1:8001", "10.0.0.2:8002"]);
    assert_eq!((found.places[0].weight, found.places[1].backup), (5, true));
    assert!(
        found.ttl <= Duration::from_secs(4),
        "the shortest of all: {:?}",
        found.ttl
    );

    server.fails("b.test", Failure::ServFail);
    let again = asker.look_up(&name, &found.known).await.unwrap();
    assert_eq!(
        shown(&again),
        ["10.0.0.1:8001", "10.0.0.2:8002"],
        "a host that failed keeps what it had"
    );
    server.fails("b.test", Failure::NoSuchName);
    let again = asker.look_up(&name, &found.known).await.unwrap();
    assert_eq!(shown(&again), ["10.0.0.1:8001"], "a host that is gone is gone");

    server.enclose_addresses();
    server.recovers("b.test");
    let before = server.queries("a.test") + server.queries("b.test");
    assert_eq!(shown(&ask(&asker, &name).await.unwrap()).len(), 2);
    assert_eq!(
        server.queries("a.test") + server.queries("b.test"),
        before,
        "the answer carried them"
    );

    server.services("_http._tcp.test", 9, &[service(0, 0, 0, ".")]);
    assert_eq!(
        ask(&asker, &name).await.unwrap_err(),
        LookupError::NoAddress(None),
        "decidedly not offered"
    );
}

#[tokio::test]
async fn a_server_that_is_gone_is_noticed_in_time_and_another_answers_for_it() {
    let (dead, alive) = (NameServer::start(), NameServer::start());
    alive.addresses(HOST, 1, &ips(&["10.0.0.1"]));
    dead.down();
    let mut dns = dns(Some(&dead), "timeout = '2s'");
    let alone = Asker::new(&dns, "", "").unwrap();
    let began = Instant::now();
    assert_eq!(ask(&alone, &host()).await.unwrap_err(), LookupError::Timeout);
    assert!(began.elapsed() < Duration::from_secs(10));
    dns.servers.push(alive.address());
    let both = Asker::new(&dns, "", "").unwrap();
    assert_eq!(shown(&ask(&both, &host()).await.unwrap()), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn a_name_without_a_dot_at_its_end_is_looked_for_in_the_search_domains() {
    let server = NameServer::start();
    server.addresses("api.one.test", 1, &ips(&["10.0.0.1"]));
    let mut asker = asker(&server);
    asker.search = vec!["none.test".to_owned(), "one.test.".to_owned()];
    let name = DnsName::Host {
        host: "api".to_owned(),
        port: 80,
    };
    assert_eq!(shown(&ask(&asker, &name).await.unwrap()), ["10.0.0.1:80"]);
    let whole = DnsName::Host {
        host: "api.".to_owned(),
        port: 80,
    };
    assert_eq!(
        ask(&asker, &whole).await.unwrap_err(),
        LookupError::NoSuchName(None)
    );
}

#[test]
fn names_with_enough_dots_are_taken_as_they_stand_first() {
    let search = ["a.test".to_owned(), "b.test.".to_owned()];
    assert_eq!(candidates("x", &search, 1), ["x.a.test.", "x.b.test.", "x."]);
    assert_eq!(
        candidates("x.y", &search, 1),
        ["x.y.", "x.y.a.test.", "x.y.b.test."]
    );
    assert_eq!(
        candidates("x.y", &search, 5),
        ["x.y.a.test.", "x.y.b.test.", "x.y."]
    );
    assert_eq!(candidates("x.", &search, 5), ["x."]);
    assert_eq!(candidates("x", &[], 1), ["x."]);
}

#[tokio::test]
async fn the_systems_servers_and_search_domains_are_taken_unless_servers_are_named() {
    let resolv = "nameserver 192.0.2.1\nsearch corp.test\noptions ndots:3\n";
    let system = Asker::new(&dns(None, ""), resolv, "").unwrap();
    assert_eq!((system.search.len(), system.ndots), (1, 3));
    let server = NameServer::start();
    let own = Asker::new(&dns(Some(&server), ""), resolv, "").unwrap();
    assert!(own.search.is_empty());
    for nothing in ["", "nonsense\0", "nameserver x"] {
        assert!(Asker::new(&dns(None, ""), nothing, "").is_ok(), "{nothing:?}");
    }
}
