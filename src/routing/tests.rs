use super::*;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{
    Action, HostHeader, HostPattern, PathPattern, Rewrite, Route, Timeouts, ValuePattern, WebSocket,
};
use crate::message::head::{Field, HeadBuf, Method, Span, Version};
use crate::message::names::Name;
use crate::message::template::Group;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::time::Duration;

/// A head as the parser would make it.
pub(super) fn head(method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut buf = Box::new(HeadBuf::default());
    buf.bytes.extend_from_slice(method.as_bytes());
    let method_text = Span::new(0, buf.bytes.len());
    buf.bytes.extend_from_slice(b" / HTTP/1.1\r\n");
    for (name, value) in fields {
        let start = buf.bytes.len();
        buf.bytes
            .extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        let value_start = start + name.len() + 2;
        buf.push(Field {
            name: Span::new(start, start + name.len()),
            value: Span::new(value_start, value_start + value.len()),
            id: Name::recognise(name.as_bytes()),
        });
    }
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

/// The documented order, in the plainest words: number all pairs of host and path, sort, take the first that
/// holds in every respect.
fn oracle(routes: &[Route], input: &RouteInput<'_>) -> Option<u32> {
    let path = std::str::from_utf8(input.path).unwrap();
    let mut held = Vec::new();
    for (index, r) in routes.iter().enumerate() {
        if !predicates_hold(r, input) {
            continue;
        }
        let predicates = r.methods.len().min(1)
            + r.client_ip.len().min(1)
            + r.listeners.len().min(1)
            + r.headers.len()
            + r.query.len()
            + r.cookies.len();
        let hosts = r
            .hosts
            .iter()
            .filter_map(|h| host_specificity(h, std::str::from_utf8(input.host).unwrap()));
        let hosts: Vec<_> = if r.hosts.is_empty() {
            vec![(0, 0)]
        } else {
            hosts.collect()
        };
        let paths = r.paths.iter().filter_map(|p| path_specificity(p, path));
        let paths: Vec<_> = if r.paths.is_empty() {
            vec![(0, 0)]
        } else {
            paths.collect()
        };
        if let (Some(host), Some(path)) = (hosts.into_iter().max(), paths.into_iter().max()) {
            held.push((r.priority, host, path, predicates, std::cmp::Reverse(index)));
        }
    }
    held.into_iter().max().map(|found| found.4.0 as u32)
}

fn host_specificity(pattern: &HostPattern, host: &str) -> Option<(u32, usize)> {
    match pattern {
        HostPattern::Exact(name) => (name == host).then_some((3, 0)),
        HostPattern::Wildcard(suffix) => host.ends_with(&format!(".{suffix}")).then_some((2, suffix.len())),
        HostPattern::Regex(text) => regex::Regex::new(text).unwrap().is_match(host).then_some((1, 0)),
    }
}

fn path_specificity(pattern: &PathPattern, path: &str) -> Option<(u32, usize)> {
    match pattern {
        PathPattern::Exact(text) => (text == path).then_some((3, 0)),
        PathPattern::Prefix(text) => {
            let under = path == text
                || path.starts_with(&format!("{text}/"))
                || (text.ends_with('/') && path.starts_with(text.as_str()));
            under.then_some((2, text.len()))
        }
        PathPattern::Regex(text) => regex::Regex::new(text).unwrap().is_match(path).then_some((1, 0)),
    }
}

fn predicates_hold(r: &Route, input: &RouteInput<'_>) -> bool {
    let method = std::str::from_utf8(input.head.method_text()).unwrap();
    let fits = |pattern: &ValuePattern, value: Option<&[u8]>| match (pattern, value) {
        (ValuePattern::Present, value) => value.is_some(),
        (ValuePattern::Absent, value) => value.is_none(),
        (ValuePattern::Exact(text), Some(value)) => text.as_bytes() == value,
        (ValuePattern::Regex(text), Some(value)) => regex::Regex::new(text)
            .unwrap()
            .is_match(std::str::from_utf8(value).unwrap()),
        (ValuePattern::Exact(_) | ValuePattern::Regex(_), None) => false,
    };
    let query = |name: &str| {
        let pairs = input.query?.split(|b| *b == b'&');
        pairs
            .filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .next()
    };
    (r.methods.is_empty() || r.methods.iter().any(|m| m == method))
        && (r.listeners.is_empty() || r.listeners.iter().any(|l| listener(l) == Some(input.listener)))
        && (r.client_ip.is_empty() || r.client_ip.iter().any(|net| net.contains(&input.client)))
        && r.headers
            .iter()
            .all(|(name, p)| fits(p, input.head.buf.find(name.as_bytes()).next()))
        && r.query.iter().all(|(name, p)| fits(p, query(name)))
}

const HOSTS: [&str; 9] = [
    "a.com",
    "b.a.com",
    "b.com",
    "*.com",
    "*.a.com",
    "*.b.a.com",
    "~^b\\.",
    "~com$",
    "~^[ac]\\.",
];
const PATHS: [&str; 18] = [
    "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "=/", "=/a", "=/a/b", "=/ab", "~^/a", "~b$", "~/b/",
    "~^/[ab]$", "~c", "~^/a/.*c", "~/ab",
];

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let values = || select(vec!["1", "2", "~^1", "*", "!"]).prop_map(value_pattern);
    let conditions = (
        subsequence(vec!["GET".to_owned(), "POST".into()], 0..=1),
        subsequence(vec!["web".to_owned(), "secure".into()], 0..=1),
        proptest::option::weighted(0.2, select(vec!["127.0.0.0/8", "10.0.0.0/8"])),
        proptest::option::weighted(0.2, values()),
        proptest::option::weighted(0.2, values()),
    );
    let one = (
        subsequence(HOSTS.to_vec(), 0..=2),
        subsequence(PATHS.to_vec(), 0..=3),
        select(vec![0, 0, 0, 1, -1]),
        proptest::option::weighted(0.5, conditions),
    );
    let one = one.prop_map(|(hosts, paths, priority, conditions)| {
        let mut built = Route {
            priority,
            ..on(&hosts, &paths)
        };
        if let Some((methods, listeners, net, header, query)) = conditions {
            built.methods = methods;
            built.listeners = listeners;
            built.client_ip = net.into_iter().map(|n| n.parse().unwrap()).collect();
            built.headers = header.into_iter().map(|p| ("x-a".to_owned(), p)).collect();
            built.query = query.into_iter().map(|p| ("q".to_owned(), p)).collect();
        }
        built
    });
    proptest::collection::vec(one, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn lookup_agrees_with_the_linear_oracle(
        routes in routes(),
        requests in proptest::collection::vec((
            select(vec!["a.com", "b.a.com", "c.b.a.com", "b.com", "c.org", "com"]),
            "(/[abc]{0,2}){1,4}",
            select(vec!["GET", "POST"]),
            select(vec![None, Some("1"), Some("2")]),
            select(vec![None, Some("q=1"), Some("x=1&q=2")]),
            0u32..2,
            select(vec!["127.0.0.1", "10.0.0.1"]),
        ), 1..8),
    ) {
        let table = build(&routes);
        let warned: Vec<u32> = warnings(&routes)
            .iter()
            .map(|w| w.split(['[', ']']).nth(1).unwrap().parse().unwrap())
            .collect();
        for (host, path, method, header, query, listener, client) in &requests {
            let fields: Vec<_> = header.iter().map(|v| ("x-a", *v)).collect();
            let request = head(method, &fields);
            let input = RouteInput {
                listener: *listener,
                query: query.map(str::as_bytes),
                client: client.parse().unwrap(),
                ..input(host, path, &request)
            };
            let found = table.lookup(&input).map(|m| m.route);
            prop_assert_eq!(found, oracle(&routes, &input), "{} {}", host, path);
            prop_assert!(found.is_none_or(|route| !warned.contains(&route)), "warned of a route that matches");
            let traced = table.trace(&input);
            let chosen = traced.iter().position(|s| s.verdict == Verdict::Chosen);
            prop_assert_eq!(chosen.map(|at| traced[at].route), found);
            let before = &traced[..chosen.unwrap_or(traced.len())];
            prop_assert!(before.iter().all(|s| s.verdict != Verdict::Shadowed), "an earlier entry holds");
        }
    }

    #[test]
    fn no_path_or_host_makes_it_panic(routes in routes(), host in "[a-c.]{0,12}", path in proptest::collection::vec(any::<u8>(), 0..20)) {
        let request = head("GET", &[]);
        let found = build(&routes).lookup(&RouteInput { path: &path, ..input(&host, "/", &request) });
        prop_assert!(found.is_none_or(|m| (m.route as usize) < routes.len()));
    }
}
