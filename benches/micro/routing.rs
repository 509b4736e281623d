//! Finding the route, and the path's normal form before it.

use criterion::{BenchmarkId, Criterion};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;
use tidegate::config::model::{
    Action, HeaderEdits, HostHeader, HostPattern, PathPattern, PathPolicy, Rewrite, Route, Timeouts,
    WebSocket,
};
use tidegate::message::head::{HeadBuf, Method, RequestHead, Span, Version};
use tidegate::message::path::normalise;
use tidegate::routing::{RouteInput, RouteTable};

fn route(host: Option<HostPattern>, path: Option<PathPattern>) -> Route {
    Route {
        name: "r".into(),
        hosts: host.into_iter().collect(),
        paths: path.into_iter().collect(),
        methods: Vec::new(),
        headers: BTreeMap::new(),
        query: BTreeMap::new(),
        cookies: BTreeMap::new(),
        client_ip: Vec::new(),
        listeners: Vec::new(),
        priority: 0,
        action: Action::Upstream("u".into()),
        rewrite: Rewrite::default(),
        host: HostHeader::Preserve,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
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

fn table(routes: &[Route]) -> RouteTable {
    match RouteTable::build(routes, |_| None) {
        Ok((table, _)) => table,
        Err(errors) => panic!("{errors:?}"),
    }
}

fn head() -> RequestHead {
    let mut buf = Box::new(HeadBuf::default());
    buf.bytes.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    RequestHead {
        buf,
        method: Method::Get,
        method_text: Span::new(0, 3),
        target: Span::new(4, 5),
        version: Version::H11,
    }
}

/// Looks up each of the requests in turn.
fn bench(c: &mut Criterion, kind: &str, count: usize, routes: &[Route], requests: &[(String, String)]) {
    let table = table(routes);
    let head = head();
    let inputs: Vec<RouteInput<'_>> = requests
        .iter()
        .map(|(host, path)| RouteInput {
            listener: 0,
            host: host.as_bytes(),
            path: path.as_bytes(),
            query: None,
            head: &head,
            client: IpAddr::from([127, 0, 0, 1]),
        })
        .collect();
    for input in &inputs {
        assert!(table.lookup(input).is_some(), "{input:?}");
    }
    let mut next = inputs.iter().cycle();
    c.benchmark_group("route_match")
        .bench_function(BenchmarkId::new(kind, count), |b| {
            b.iter(|| next.next().map(|input| table.lookup(black_box(input))));
        });
}

fn service(i: usize) -> String {
    format!("/api/v1/service-{i}/items")
}

pub fn route_match(c: &mut Criterion) {
    for count in [3, 100, 1000] {
        let any = || "shop.example.com".to_owned();
        let exact: Vec<_> = (0..count)
            .map(|i| route(None, Some(PathPattern::Exact(service(i)))))
            .collect();
        let at: Vec<_> = (0..count).map(|i| (any(), service(i))).collect();
        bench(c, "exact path", count, &exact, &at);

        let prefix: Vec<_> = (0..count)
            .map(|i| route(None, Some(PathPattern::Prefix(service(i)))))
            .collect();
        let under: Vec<_> = (0..count)
            .map(|i| (any(), format!("{}/42/edit", service(i))))
            .collect();
        bench(c, "prefix path", count, &prefix, &under);

        let name = |i: usize| format!("tenant-{i}.example.com");
        let hosts: Vec<_> = (0..count)
            .map(|i| {
                route(
                    Some(HostPattern::Exact(name(i))),
                    Some(PathPattern::Prefix("/app".into())),
                )
            })
            .collect();
        let tenants: Vec<_> = (0..count).map(|i| (name(i), "/app/x".to_owned())).collect();
        bench(c, "host and prefix", count, &hosts, &tenants);
    }
    let regex: Vec<_> = (0..100)
        .map(|i| {
            route(
                None,
                Some(PathPattern::Regex(format!("^/svc-{i}/[0-9]+/[a-z]+$"))),
            )
        })
        .collect();
    let numbered: Vec<_> = (0..100)
        .map(|i| ("h".to_owned(), format!("/svc-{i}/4711/edit")))
        .collect();
    bench(c, "regex path", 100, &regex, &numbered);

    let groups: Vec<_> = (0..100)
        .map(|i| {
            route(
                None,
                Some(PathPattern::Regex(format!("^/svc-{i}/([0-9]+)/([a-z]+)$"))),
            )
        })
        .collect();
    bench(c, "regex path with groups", 100, &groups, &numbered);

    normal_path(c);
}

fn normal_path(c: &mut Criterion) {
    let policy = PathPolicy::default();
    let mut out = Vec::new();
    let mut group = c.benchmark_group("normal_path");
    for (name, path) in [
        ("as it is", "/api/v1/service-7/items/42/edit"),
        ("rewritten", "/api/v1/./service%2d7//items/x/../42/edit"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| normalise(black_box(path.as_bytes()), &policy, &mut out));
        });
    }
}
