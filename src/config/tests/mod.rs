//! The loader as a whole.

mod every_key;

mod errors;
mod files;

mod properties;
mod shown;
mod sticky;
mod told;
mod values;
mod variables;

use super::*;

/// A listener, a route and an upstream with nothing wrong.
const GOOD: &str = "\
[listeners.web]
address = '127.0.0.1:8080'
[[routes]]
upstream = 'app'
[upstreams.app]
endpoints = ['127.0.0.1:3000']
";

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::from_vars(
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn load_good(text: &str) -> Loaded {
    match load_text("test.toml", text, &Environment::default()) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{}", render::text(&rejected.diagnostics, false)),
    }
}

fn load_bad(text: &str) -> Vec<Diagnostic> {
    match load_text("test.toml", text, &Environment::default()) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(rejected) => rejected.diagnostics,
    }
}

/// The one problem of a text.
fn only(text: &str) -> Diagnostic {
    let all = load_bad(text);
    assert_eq!(all.len(), 1, "{:#?}", shorts(&all));
    all.into_iter().next().unwrap()
}

/// The warnings of an accepted text.
fn warnings(text: &str) -> Vec<String> {
    shorts(&load_good(text).warnings)
}

/// A good configuration with a line after its listener.
fn listener(line: &str) -> String {
    GOOD.replace("[[routes]]", &format!("{line}\n[[routes]]"))
}

/// A good configuration with a line in its route.
fn route(line: &str) -> String {
    GOOD.replace("upstream = 'app'", &format!("upstream = 'app'\n{line}"))
}

/// A good configuration with another action in its route.
fn action(line: &str) -> String {
    GOOD.replace("upstream = 'app'", line)
}

/// As [`only`], leaving out warnings.
fn only_error(text: &str) -> Diagnostic {
    let mut all = load_bad(text);
    all.retain(|told| told.severity == Severity::Error);
    assert_eq!(all.len(), 1, "{:#?}", shorts(&all));
    all.remove(0)
}

/// The hint of the one problem of a text.
fn hint(text: &str) -> String {
    only(text).hint.unwrap_or_default()
}

/// `line:column key: message`, or without what is not known.
fn short(told: &Diagnostic) -> String {
    let place = told
        .location
        .as_ref()
        .map(|at| format!("{}:{} ", at.line, at.column))
        .unwrap_or_default();
    let key = if told.key.is_empty() {
        String::new()
    } else {
        format!("{}: ", told.key)
    };
    format!("{place}{key}{}", told.message)
}

fn shorts(told: &[Diagnostic]) -> Vec<String> {
    told.iter().map(short).collect()
}

#[test]
fn defaults_are_those_of_the_field() {
    use std::time::Duration;
    let config = load_good(GOOD).config;
    assert_eq!(config.runtime.workers, model::Workers::Auto);
    assert_eq!(config.runtime.max_connections, 100_000);
    assert_eq!(config.runtime.drain_timeout, Duration::from_secs(30));
    let web = &config.listeners["web"];
    assert_eq!((web.backlog, web.error_header), (4096, true));
    assert_eq!(web.request_id, model::RequestIdPolicy::IfTrusted);
    let limits = model::Limits {
        header_bytes: 32_768,
        headers: 100,
        uri_bytes: 8_192,
        body: 10_000_000,
        header_timeout: Duration::from_secs(10),
        body_idle: Duration::from_secs(30),
        send_timeout: Duration::from_secs(60),
        keep_alive: Duration::from_secs(75),
        requests_per_connection: 0,
        min_rate: 100,
        handshake_timeout: Duration::from_secs(10),
        connections: 0,
        connections_per_ip: 0,
        tunnels: 0,
        max_connection_age: Duration::ZERO,
        h2: model::Http2Bounds {
            streams: 128,
            window: 256 << 10,
            connection_window: 1 << 20,
            send_buffer: 64 << 10,
            frame_bytes: 16 << 10,
            ping: Duration::ZERO,
            ping_timeout: Duration::from_secs(20),
        },
    };
    let protocols = model::Protocols { h1: true, h2c: false };
    assert_eq!(web.protocols, protocols);
    assert_eq!(web.limits, limits);
    let forwarded = model::Forwarded {
        x_forwarded: true,
        forwarded: false,
        via: false,
    };
    assert_eq!(web.forwarded, forwarded);
    let route = &config.routes[0];
    assert_eq!(
        (route.name.as_str(), &route.host),
        ("route-1", &model::HostHeader::Preserve)
    );
    let timeouts = model::Timeouts {
        connect: Duration::from_secs(1),
        response: Duration::from_secs(30),
        idle: Duration::from_secs(60),
        total: Duration::ZERO,
    };
    assert_eq!(route.timeouts, timeouts);
    let app = &config.upstreams["app"];
    assert_eq!(app.balance, model::Balance::RoundRobin);
    let pool = model::Pool {
        idle_per_worker: 64,
        idle_timeout: Duration::from_secs(55),
        max_requests: 0,
        max_age: Duration::ZERO,
    };
    assert_eq!(app.pool, pool);
    assert_eq!((app.endpoints[0].weight, app.endpoints[0].backup), (1, false));
    assert_eq!(config.log.access, None);
    assert_eq!(config.admin, None);
}

#[test]
fn everything_that_can_be_written_is_read() {
    let text = "
        [listeners.web]
        address = 'unix:/run/x.sock'
        mode = 0o600
        protocols = ['h1', 'h2c']
        trusted_proxies = ['10.0.0.0/8', '::1']
        [[routes]]
        name = 'a'
        hosts = ['Example.com', '*.example.com', '~^x[0-9]$']
        paths = ['/p', '=/e', '~^/r$']
        methods = ['GET']
        headers = { X-A = 'v', X-B = '~v', X-C = '*', X-D = '!' }
        split = { app = 95, other = 5 }
        rewrite = { regex = '^/a', to = '/b' }
        host = 'endpoint'
        [[routes]]
        redirect = { to = 'https://${host}${uri}' }
        [[routes]]
        respond = { status = 204, headers = { X-A = 'b' } }
        [upstreams.app]
        endpoints = [{ address = 'unix:/run/app.sock', weight = 0 }, 'app.internal:80']
        [upstreams.other]
        endpoints = ['[::1]:3000']
        pool.max_requests = 10";
    let config = load_good(text).config;
    let web = &config.listeners["web"];
    assert_eq!(web.mode, Some(0o600));
    let protocols = model::Protocols { h1: true, h2c: true };
    assert_eq!(web.protocols, protocols);
    assert_eq!(web.address, model::ListenAddress::Unix("/run/x.sock".into()));
    let route = &config.routes[0];
    let hosts = [
        model::HostPattern::Exact("example.com".into()),
        model::HostPattern::Wildcard("example.com".into()),
        model::HostPattern::Regex("^x[0-9]$".into()),
    ];
    assert_eq!(route.hosts, hosts);
    assert_eq!(route.paths[1], model::PathPattern::Exact("/e".into()));
    assert_eq!(route.headers["X-C"], model::ValuePattern::Present);
    assert_eq!(route.headers["X-D"], model::ValuePattern::Absent);
    assert_eq!(route.host, model::HostHeader::Endpoint);
    assert_eq!(route.rewrite.regex, Some(("^/a".into(), "/b".into())));
    let split = [("app".to_owned(), 95), ("other".to_owned(), 5)];
    assert_eq!(route.action, model::Action::Split(split.into()));
    let redirect = model::Action::Redirect {
        to: "https://${host}${uri}".into(),
        status: 308,
    };
    assert_eq!(config.routes[1].action, redirect);
    let headers = [("X-A".to_owned(), "b".to_owned())].into();
    let respond = model::Action::Respond {
        status: 204,
        body: String::new(),
        headers,
    };
    assert_eq!(config.routes[2].action, respond);
    assert_eq!(config.routes[2].name, "route-3");
    assert_eq!(config.upstreams["app"].endpoints[0].text, "unix:/run/app.sock");
    assert_eq!(config.upstreams["other"].pool.max_requests, 10);
}

#[test]
fn problems_of_later_stages_are_placed_by_their_key() {
    let loaded = load_good(GOOD);
    let place = |key: &str| {
        let mut told = Diagnostic::error(key, "wrong");
        loaded.origins.place(&mut told);
        told.location.map(|at| (at.line, at.column))
    };
    assert_eq!(place("upstreams.app.endpoints[0].address"), Some((6, 14)));
    assert_eq!(
        place("upstreams.app.balance"),
        Some((5, 1)),
        "a default stands where its table does"
    );
    assert_eq!(place("routes[0].paths[3]"), Some((3, 1)));
    assert_eq!(place("nothing.of.this"), None);
    assert_eq!(loaded.origins.describe("listeners.web.address"), "test.toml:2");
    assert_eq!(loaded.origins.describe("listeners.web.backlog"), "default");
}

#[test]
fn names_with_dots_are_placed_with_and_without_quotes() {
    let text = GOOD
        .replace("upstreams.app]", "upstreams.\"a.b\"]")
        .replace("'app'", "'a.b'");
    let loaded = load_good(&text);
    for key in ["upstreams.\"a.b\".endpoints", "upstreams.a.b.endpoints"] {
        let mut told = Diagnostic::error(key, "wrong");
        loaded.origins.place(&mut told);
        assert_eq!(told.location.map(|at| at.line), Some(6), "{key}");
    }
}

#[test]
fn the_fingerprint_follows_what_is_said() {
    let of = |text: &str, env: &[(&str, &str)]| {
        load_text("test.toml", text, &environment(env))
            .unwrap()
            .fingerprint
    };
    assert_eq!(of(GOOD, &[]), of(GOOD, &[("PATH", "/bin")]));
    assert_ne!(of(GOOD, &[]), of(&format!("{GOOD}# x"), &[]));
    assert_ne!(of(GOOD, &[]), of(GOOD, &[("TIDEGATE_LOG__LEVEL", "debug")]));
    assert_ne!(of(GOOD, &[("LB_TIMEOUT", "1")]), of(GOOD, &[("LB_TIMEOUT", "2")]));
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let old = load_good(GOOD);
    let new = load_good(&format!(
        "[runtime]\nworkers = 3\nuser = 'x'\ndrain_delay = '1s'\n{GOOD}# x"
    ));
    assert_eq!(new.restart_keys(&old), ["runtime.workers", "runtime.user"]);
    assert_eq!(old.restart_keys(&load_good(GOOD)), Vec::<String>::new());
}

#[test]
fn keys_with_the_same_default_are_not_mixed_up() {
    let text = GOOD
        .replace(
            "[[routes]]",
            "limits = { connections = 1, connections_per_ip = 2, requests_per_connection = 3 }
             forwarded = { forwarded = true, via = false }
             request_headers.set = { X-A = 'request' }
             response_headers.set = { X-A = 'response' }
             [[routes]]
             request_headers.add = { X-A = 'request' }
             response_headers.add = { X-A = 'response' }
             headers = { a = 'header' }
             query = { a = 'query' }
             cookies = { a = 'cookie' }",
        )
        .replace(
            "[upstreams",
            "strip_prefix = '/strip'\nadd_prefix = '/add'\n[upstreams",
        );
    let config = load_good(&text).config;
    let (web, route) = (&config.listeners["web"], &config.routes[0]);
    assert_eq!(
        (
            web.limits.connections,
            web.limits.connections_per_ip,
            web.limits.requests_per_connection
        ),
        (1, 2, 3)
    );
    assert!(web.forwarded.forwarded && !web.forwarded.via);
    assert_eq!(web.request_headers.set["X-A"], "request");
    assert_eq!(web.response_headers.set["X-A"], "response");
    assert_eq!(route.request_headers.add["X-A"], "request");
    assert_eq!(route.response_headers.add["X-A"], "response");
    let exact = |text: &str| model::ValuePattern::Exact(text.to_owned());
    assert_eq!(route.headers["a"], exact("header"));
    assert_eq!(route.query["a"], exact("query"));
    assert_eq!(route.cookies["a"], exact("cookie"));
    assert_eq!(route.rewrite.strip_prefix.as_deref(), Some("/strip"));
    assert_eq!(route.rewrite.add_prefix.as_deref(), Some("/add"));
}
