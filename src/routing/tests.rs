mod oracle;

use super::*;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{
    Action, HostHeader, HostPattern, PathPattern, Rewrite, Route, Timeouts, ValuePattern, WebSocket,
};
use crate::message::head::{HeadBuf, Method, Span, Version};
use crate::message::template::Group;
use std::time::Duration;

/// A head as the parser would make it.
pub(super) fn head(method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut buf = Box::new(HeadBuf::default());
    buf.bytes.extend_from_slice(method.as_bytes());
    let method_text = Span::new(0, buf.bytes.len());
    buf.bytes.extend_from_slice(b" / HTTP/1.1\r\n");
    buf.push_lines(fields);
    buf.bytes.extend_from_slice(b"\r\n");
    RequestHead {
        buf,
        method: Method::recognise(method.as_bytes()),
        method_text,
        target: Span::new(method.len() + 1, method.len() + 2),
        version: Version::H11,
    }
}

/// A route without conditions.
fn route() -> Route {
    Route {
        name: "r".into(),
        hosts: Vec::new(),
        paths: Vec::new(),
        methods: Vec::new(),
        headers: Default::default(),
        query: Default::default(),
        cookies: Default::default(),
        client_ip: Vec::new(),
        listeners: Vec::new(),
        priority: 0,
        action: Action::Upstream("u".into()),
        rewrite: Rewrite::default(),
        host: HostHeader::Preserve,
        request_headers: Default::default(),
        response_headers: Default::default(),
        timeouts: Timeouts {
            connect: Duration::ZERO,
            response: Duration::ZERO,
            idle: Duration::ZERO,
            total: Duration::ZERO,
        },
        websocket: WebSocket::default(),
        body_limit: None,
        upgrades: Vec::new(),
    }
}

fn host_pattern(text: &str) -> HostPattern {
    if let Some(regex) = text.strip_prefix('~') {
        HostPattern::Regex(regex.into())
    } else if let Some(rest) = text.strip_prefix("*.") {
        HostPattern::Wildcard(rest.into())
    } else {
        HostPattern::Exact(text.into())
    }
}

fn path_pattern(text: &str) -> PathPattern {
    if let Some(regex) = text.strip_prefix('~') {
        PathPattern::Regex(regex.into())
    } else if let Some(rest) = text.strip_prefix('=') {
        PathPattern::Exact(rest.into())
    } else {
        PathPattern::Prefix(text.into())
    }
}

fn value_pattern(text: &str) -> ValuePattern {
    match text {
        "*" => ValuePattern::Present,
        "!" => ValuePattern::Absent,
        text => match text.strip_prefix('~') {
            Some(regex) => ValuePattern::Regex(regex.into()),
            None => ValuePattern::Exact(text.into()),
        },
    }
}

fn on(hosts: &[&str], paths: &[&str]) -> Route {
    Route {
        hosts: hosts.iter().map(|h| host_pattern(h)).collect(),
        paths: paths.iter().map(|p| path_pattern(p)).collect(),
        ..route()
    }
}

fn listener(name: &str) -> Option<u32> {
    ["web", "secure"]
        .iter()
        .position(|l| *l == name)
        .map(|i| i as u32)
}

fn build(routes: &[Route]) -> RouteTable {
    RouteTable::build(routes, listener).unwrap().0
}

fn warnings(routes: &[Route]) -> Vec<String> {
    let (_, diagnostics) = RouteTable::build(routes, listener).unwrap();
    diagnostics
        .into_iter()
        .map(|d| format!("{}: {}", d.key, d.message))
        .collect()
}

fn errors(routes: &[Route]) -> Vec<Diagnostic> {
    RouteTable::build(routes, listener).unwrap_err()
}

fn input<'a>(host: &'a str, path: &'a str, head: &'a RequestHead) -> RouteInput<'a> {
    RouteInput {
        listener: 0,
        host: host.as_bytes(),
        path: path.as_bytes(),
        query: None,
        head,
        client: IpAddr::from([127, 0, 0, 1]),
    }
}

fn find(table: &RouteTable, host: &str, path: &str) -> Option<u32> {
    table
        .lookup(&input(host, path, &head("GET", &[])))
        .map(|m| m.route)
}

#[test]
fn hosts_go_from_exact_over_longer_wildcards_and_regexes_to_any() {
    let table = build(&[
        on(&[], &[]),
        on(&["~^[a-z]+\\.example\\.com$"], &[]),
        on(&["*.com"], &[]),
        on(&["*.example.com"], &[]),
        on(&["A.Example.Com."], &[]),
    ]);
    assert_eq!(find(&table, "a.example.com", "/"), Some(4));
    assert_eq!(find(&table, "b.example.com", "/"), Some(3));
    assert_eq!(find(&table, "x.b.example.com", "/"), Some(3));
    assert_eq!(find(&table, "example.com", "/"), Some(2));
    assert_eq!(find(&table, "other.org", "/"), Some(0));
    let table = build(&[on(&[], &[]), on(&["~^[A-Z]+\\.example"], &[])]);
    assert_eq!(
        find(&table, "a.example.org", "/"),
        Some(1),
        "host regexes ignore case"
    );
}

#[test]
fn paths_go_from_exact_over_longer_prefixes_and_regexes_to_any() {
    let table = build(&[
        on(&[], &[]),
        on(&[], &["~^/[a-z]+/7$"]),
        on(&[], &["/a"]),
        on(&[], &["/a/b"]),
        on(&[], &["=/a/b"]),
        on(&[], &["/a/b/"]),
    ]);
    for (path, route) in [
        ("/a/b", 4),
        ("/a/b/", 5),
        ("/a/b/c", 5),
        ("/a/bc", 2),
        ("/a", 2),
        ("/a/7", 2),
        ("/x/7", 1),
        ("/ab", 0),
        ("/", 0),
    ] {
        assert_eq!(find(&table, "h", path), Some(route), "{path}");
    }
}

#[test]
fn priority_comes_before_everything() {
    let low = on(&["a"], &["=/x"]);
    let high = Route {
        priority: 1,
        ..on(&[], &["~x"])
    };
    let negative = Route {
        priority: -1,
        ..on(&["a"], &["=/y"])
    };
    let table = build(&[low, high, negative, on(&[], &[])]);
    assert_eq!(find(&table, "a", "/x"), Some(1));
    assert_eq!(find(&table, "a", "/y"), Some(3));
}

#[test]
fn a_failing_predicate_falls_to_the_next_entry_even_of_another_host() {
    let post = Route {
        methods: vec!["POST".into()],
        ..on(&["a"], &["=/x"])
    };
    let table = build(&[post, on(&[], &["/x"])]);
    assert_eq!(find(&table, "a", "/x"), Some(1));
    let request = head("POST", &[]);
    assert_eq!(table.lookup(&input("a", "/x", &request)).unwrap().route, 0);
}

#[test]
fn without_a_match_there_is_none() {
    let table = build(&[on(&["a"], &["/x"])]);
    assert_eq!(find(&table, "b", "/x"), None);
    assert_eq!(find(&table, "a", "/y"), None);
    assert_eq!(find(&build(&[]), "a", "/"), None);
}

#[test]
fn every_predicate_is_asked() {
    let one = |change: fn(&mut Route)| {
        let mut conditional = route();
        change(&mut conditional);
        build(&[conditional])
    };
    let request = head(
        "GET",
        &[
            ("X-User", "ann"),
            ("cookie", "sid=1; theme=dark"),
            ("Accept", "a"),
            ("X_Team", "red"),
        ],
    );
    let base = RouteInput {
        query: Some(b"a=1&b=%78+y&flag"),
        ..input("h", "/", &request)
    };
    let holds = |change: fn(&mut Route)| one(change).lookup(&base).is_some();
    assert!(holds(|r| r.methods = vec!["GET".into()]));
    assert!(!holds(|r| r.methods = vec!["get".into()]));
    assert!(holds(|r| r.listeners = vec!["secure".into(), "web".into()]));
    assert!(!holds(|r| r.listeners = vec!["secure".into()]));
    assert!(holds(|r| r.client_ip = vec!["127.0.0.0/8".parse().unwrap()]));
    assert!(holds(
        |r| r.client_ip = vec!["::ffff:127.0.0.0/104".parse().unwrap()]
    ));
    assert!(!holds(
        |r| r.client_ip = vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()]
    ));
    let mapped = RouteInput {
        client: "::ffff:10.1.2.3".parse().unwrap(),
        ..base
    };
    assert!(
        one(|r| r.client_ip = vec!["10.0.0.0/8".parse().unwrap()])
            .lookup(&mapped)
            .is_some()
    );

    for (name, pattern, expected) in [
        ("x-USER", "ann", true),
        ("x-user", "Ann", false),
        ("x-user", "~^a", true),
        ("x-user", "*", true),
        ("x-user", "!", false),
        ("x-none", "*", false),
        ("x-none", "!", true),
        ("accept", "a", true),
        ("accept", "b", false),
        ("x_team", "*", true),
        ("x_other", "*", false),
    ] {
        let mut conditional = route();
        conditional.headers.insert(name.into(), value_pattern(pattern));
        assert_eq!(
            build(&[conditional]).lookup(&base).is_some(),
            expected,
            "{name} {pattern}"
        );
    }
    for (name, pattern, expected) in [
        ("b", "x y", true),
        ("b", "~^x", true),
        ("flag", "*", true),
        ("flag", "", true),
        ("c", "!", true),
        ("a", "2", false),
    ] {
        let mut conditional = route();
        conditional.query.insert(name.into(), value_pattern(pattern));
        assert_eq!(
            build(&[conditional]).lookup(&base).is_some(),
            expected,
            "{name} {pattern}"
        );
    }
    for (name, pattern, expected) in [
        ("sid", "1", true),
        ("theme", "~^d", true),
        ("x", "*", false),
        ("Sid", "!", true),
    ] {
        let mut conditional = route();
        conditional.cookies.insert(name.into(), value_pattern(pattern));
        assert_eq!(
            build(&[conditional]).lookup(&base).is_some(),
            expected,
            "{name} {pattern}"
        );
    }
}

#[test]
fn the_match_tells_the_prefix_and_the_groups() {
    let table = build(&[
        on(&["~^(?<tenant>[a-z]+)\\.x$"], &["~^/u/([0-9]+)(/z)?"]),
        on(&[], &["/ws"]),
        on(&[], &["/cut/"]),
        on(&[], &["=/exact"]),
        on(&[], &["/"]),
        on(&[], &["~nogroup"]),
    ]);
    let request = head("GET", &[]);
    let found = table.lookup(&input("acme.x", "/u/42", &request)).unwrap();
    let captures = found.captures.unwrap();
    let (path, host) = (captures.path.unwrap(), captures.host.unwrap());
    assert_eq!(path.get(&Group::Number(1)), Some(&b"42"[..]));
    assert_eq!(path.get(&Group::Number(2)), None);
    assert_eq!(path.get(&Group::Number(3)), None);
    assert_eq!(host.get(&Group::Name("tenant".into())), Some(&b"acme"[..]));
    assert_eq!(host.get(&Group::Name("none".into())), None);
    let len = |path: &str| table.lookup(&input("h", path, &request)).unwrap().prefix_len;
    assert_eq!(
        (len("/ws/x"), len("/cut/x"), len("/exact"), len("/other")),
        (3, 4, 6, 0)
    );
    assert!(
        table
            .lookup(&input("h", "/nogroup", &request))
            .unwrap()
            .captures
            .is_none()
    );
}

#[test]
fn patterns_are_brought_to_the_form_that_requests_have() {
    let table = build(&[
        on(&["[2001:DB8:0::1]"], &["/caf\u{e9}"]),
        on(&["Example.COM."], &["=/%7euser"]),
    ]);
    assert_eq!(find(&table, "[2001:db8::1]", "/caf%C3%A9/x"), Some(0));
    assert_eq!(find(&table, "example.com", "/~user"), Some(1));
}

#[test]
fn all_mistakes_are_reported_with_their_keys() {
    let mut bad = on(&["a:80", "~(", "x.*.y", "b\u{fc}cher.de"], &["x", "~(", "/%zz"]);
    bad.listeners = vec!["wbe".into()];
    bad.headers.insert("x-a".into(), ValuePattern::Regex("[".into()));
    bad.paths.push(PathPattern::Regex("(?:a{1000}){1000}".into()));
    let found = errors(&[route(), bad]);
    let keys: Vec<&str> = found.iter().map(|d| d.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "routes[1].headers.x-a",
            "routes[1].listeners[0]",
            "routes[1].hosts[0]",
            "routes[1].hosts[1]",
            "routes[1].hosts[2]",
            "routes[1].hosts[3]",
            "routes[1].paths[0]",
            "routes[1].paths[1]",
            "routes[1].paths[2]",
            "routes[1].paths[3]",
        ]
    );
    assert_eq!(found[3].message, "`(` is not a regex: unclosed group");
    assert!(found.iter().all(|d| !d.message.contains('\n')));
}

#[test]
fn a_route_that_can_never_match_is_named() {
    let named = |name: &str, r: Route| Route {
        name: name.into(),
        ..r
    };
    let never = |routes: &[Route]| warnings(routes);
    assert_eq!(
        never(&[
            named("one", on(&["a"], &["/x"])),
            named("two", on(&["A"], &["/x"]))
        ]),
        ["routes[1]: route `two` can never match because of routes[0] (`one`)"]
    );
    // A higher priority covers what is more specific; fewer predicates cover more.
    let mut api = on(&[], &["/api"]);
    api.priority = 5;
    let mut get = on(&["*.b"], &["=/api/v1"]);
    get.methods = vec!["GET".into()];
    assert_eq!(never(&[get.clone(), api.clone()]).len(), 1);
    api.methods = vec!["POST".into()];
    assert!(never(&[get.clone(), api.clone()]).is_empty());
    api.methods.push("GET".into());
    assert_eq!(never(&[get, api]).len(), 1);
    // One of two paths is still free; other predicates differ; nothing overlaps.
    assert!(never(&[on(&[], &["/x"]), on(&[], &["/x", "/y"])]).is_empty());
    let mut header = on(&[], &["/x"]);
    header.headers.insert("a".into(), ValuePattern::Present);
    assert!(never(&[header.clone(), on(&[], &["/x"])]).is_empty());
    let mut exact = on(&[], &["/x"]);
    exact.headers.insert("A".into(), ValuePattern::Exact("1".into()));
    assert_eq!(never(&[header, exact]).len(), 1);
    assert!(never(&[on(&[], &[]), on(&["a"], &["/x"]), on(&[], &["~x"])]).is_empty());
    assert!(
        never(&[on(&["a", "a"], &["/x", "/x"])]).is_empty(),
        "a route does not cover itself"
    );
}

#[test]
fn paths_and_methods_that_do_not_arrive_are_warned_of() {
    let mut lower = on(&[], &["/a/../b", "/c//d", "/e%2ff", "/fine"]);
    lower.methods = vec!["get".into()];
    let found = warnings(&[lower]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("routes[0].methods[0]: `get` is not `GET`"));
    assert!(found[3].starts_with("routes[0].paths[2]"));
}

#[test]
fn variables_of_groups_that_no_regex_has_are_warned_of() {
    let mut one = on(&["~^(?<tenant>.*)\\.x$"], &["~^/(a)", "/b"]);
    for (name, text) in [
        ("x-a", "${1}${host.tenant}"),
        ("x-b", "${2}"),
        ("x-c", "${path.tenant}"),
    ] {
        one.request_headers.set.insert(name.into(), text.into());
    }
    one.action = Action::Redirect {
        to: "${host.2}".into(),
        status: 301,
    };
    let keys: Vec<String> = warnings(&[one])
        .into_iter()
        .map(|w| w.split(": ").next().unwrap().into())
        .collect();
    assert_eq!(
        keys,
        [
            "routes[0].request_headers.set.x-b",
            "routes[0].request_headers.set.x-c",
            "routes[0].redirect.to"
        ]
    );
}

#[test]
fn a_trace_tells_what_every_entry_said() {
    let mut header = on(&["a"], &["/x"]);
    header.headers.insert("x-b".into(), ValuePattern::Present);
    let table = build(&[
        on(&[], &[]),
        on(&["b"], &[]),
        on(&["a"], &["/y"]),
        header,
        on(&["a"], &["/x"]),
    ]);
    let request = head("GET", &[]);
    let steps = table.trace(&input("a", "/x", &request));
    let told: Vec<(u32, Verdict<'_>)> = steps.iter().map(|s| (s.route, s.verdict)).collect();
    assert_eq!(
        told,
        [
            (3, Verdict::Fails(Failure::Header("x-b"))),
            (2, Verdict::PathDiffers),
            (4, Verdict::Chosen),
            (1, Verdict::HostDiffers),
            (0, Verdict::Shadowed),
        ]
    );
    assert_eq!(Failure::Header("x-b").to_string(), "headers.x-b");
}

#[test]
fn a_deep_path_and_a_host_of_many_labels_find_their_route() {
    let mut routes: Vec<Route> = (0..500)
        .map(|i| on(&["*.example.com"], &[&"/a".repeat(i + 1)]))
        .collect();
    routes.push(on(&["*.x"], &[]));
    let table = build(&routes);
    assert_eq!(find(&table, "h.example.com", &"/a".repeat(4000)), Some(499));
    assert_eq!(find(&table, &format!("{}x", "a.".repeat(120)), "/"), Some(500));
}
