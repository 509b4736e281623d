//! The table against the plainest statement of the documented order.

use super::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

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
