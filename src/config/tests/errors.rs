//! Every kind of problem, with its place, what was found and what is accepted.

use super::*;

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

#[test]
fn an_unknown_key_is_refused_with_what_was_meant() {
    let told = only(&listener("adress = 'x'"));
    assert!(short(&told).starts_with("3:1 listeners.web.adress: unknown key `adress`; accepted: address, "));
    assert_eq!(told.hint.as_deref(), Some("did you mean `address`?"));
    let told = only(&listener("keep_alive = '5s'"));
    assert_eq!(
        told.hint.as_deref(),
        Some("there is `listeners.*.limits.keep_alive`")
    );
    let told = only(&listener("zzz = {}"));
    assert_eq!(told.hint, None);
}

#[test]
fn a_misspelt_required_key_is_told_once() {
    let told = only(&GOOD.replace("address =", "adress ="));
    assert_eq!(told.hint.as_deref(), Some("did you mean `address`?"));
}

#[test]
fn a_missing_key_is_told_at_its_table() {
    let told = only(&GOOD.replace("address = '127.0.0.1:8080'", ""));
    assert!(
        short(&told).starts_with("1:1 listeners.web.address: `address` is missing; accepted: \"IP:PORT\"")
    );
}

#[test]
fn values_of_the_wrong_type_say_what_was_found() {
    for (line, expected) in [
        (
            "backlog = '5'",
            "found \"5\"; accepted: an integer from 1 to 65535",
        ),
        (
            "backlog = 0",
            "found 0: it is out of range; accepted: an integer from 1 to 65535",
        ),
        (
            "backlog = 99999999999999999999999999999999999999999",
            "found 9999999999",
        ),
        ("error_header = 1", "found 1; accepted: true or false"),
        ("error_header = nan", "found nan; accepted: true or false"),
        (
            "error_header = 2020-01-01",
            "found 2020-01-01; accepted: true or false",
        ),
        ("limits = 5", "found 5; accepted: a table"),
        ("limits = []", "found an array; accepted: a table"),
        (
            "trusted_proxies = '10.0.0.0/8'",
            "found \"10.0.0.0/8\"; accepted: an array, each an IP",
        ),
        (
            "error_pages = []",
            "found an array; accepted: a table from a status to a path",
        ),
        ("mode = 0o1777", "found 1023: it is not permission bits"),
        ("protocols = ['h3']", "found \"h3\"; accepted: \"h1\" or \"h2c\""),
    ] {
        let told = only(&listener(line));
        assert!(told.message.starts_with(expected), "{line}: {}", told.message);
        assert_eq!(told.location.as_ref().map(|at| at.line), Some(3), "{line}");
    }
    let told = only(&listener("trusted_proxies = '10.0.0.0/8'"));
    assert_eq!(told.hint.as_deref(), Some("write [\"10.0.0.0/8\"]"));
}

#[test]
fn sections_of_the_wrong_shape_are_refused() {
    for (text, expected) in [
        ("listeners = 5", "found 5; accepted: tables by name"),
        ("listeners = { web = 5 }", "found 5; accepted: a table"),
        (
            "routes = { upstream = 'a' }",
            "found a table; accepted: an array of tables",
        ),
        ("routes = ['a']", "found \"a\"; accepted: a table"),
        ("[upstreams.a]\nendpoints = [5]", "found 5; accepted: a table"),
        (
            "[upstreams.a]\nendpoints = 'a:1'",
            "found \"a:1\"; accepted: an array of tables, or of strings for `address`",
        ),
        ("include = 'x'", "found \"x\"; accepted: an array of paths"),
        ("include = [5]", "found 5; accepted: a path"),
        ("include = ['']", "found \"\"; accepted: a path"),
    ] {
        let all = load_bad(text);
        assert!(
            all.iter().any(|told| told.message == expected),
            "{text}: {:#?}",
            shorts(&all)
        );
    }
}

#[test]
fn limits_that_hold_a_gateway_up_cannot_be_turned_off() {
    for key in ["header_timeout", "body_idle", "send_timeout", "keep_alive"] {
        let told = only(&listener(&format!("limits.{key} = '0s'")));
        assert!(
            told.message.contains("this limit can't be turned off"),
            "{}",
            told.message
        );
    }
    assert!(
        only(&listener("limits.headers = 1001"))
            .message
            .contains("from 1 to 1000")
    );
}

#[test]
fn a_uri_cannot_be_larger_than_its_head() {
    let told = only(&listener("limits = { uri_bytes = '64KiB' }"));
    assert!(
        short(&told)
            .starts_with("3:24 listeners.web.limits.uri_bytes: uri_bytes is larger than header_bytes")
    );
    // A default that nobody wrote contradicts nothing.
    assert!(warnings(&listener("limits = { header_bytes = '1KiB' }")).is_empty());
}

#[test]
fn names_are_held_to_their_characters() {
    let told = only(&GOOD.replace("listeners.web", "listeners.\"we b\""));
    assert!(short(&told).starts_with("1:12 listeners.\"we b\": found \"we b\"; accepted: a name of 1 to 64"));
    assert!(
        only(&route("name = 'a b'"))
            .message
            .starts_with("found \"a b\"; accepted: a name")
    );
}

#[test]
fn names_of_routes_are_unique() {
    let text = format!("{GOOD}[[routes]]\nname = 'route-1'\npaths = ['/x']\nupstream = 'app'\n");
    let told = only(&text);
    let expected = "8:8 routes[1].name: the name `route-1` is taken by routes[0] (at test.toml:3)";
    assert_eq!(short(&told), expected);
}

#[test]
fn references_must_lead_somewhere() {
    let told = only(
        &GOOD
            .replace("endpoints", "balance = 'weighted'\nendpoints")
            .replace("= 'app'", "= 'ap'"),
    );
    assert_eq!(
        short(&told),
        "4:12 routes[0].upstream: found upstream `ap`; accepted: app"
    );
    assert_eq!(told.hint.as_deref(), Some("did you mean `app`?"));
}

/// As [`only`], leaving out warnings.
fn only_error(text: &str) -> Diagnostic {
    let mut all = load_bad(text);
    all.retain(|told| told.severity == Severity::Error);
    assert_eq!(all.len(), 1, "{:#?}", shorts(&all));
    all.remove(0)
}

#[test]
fn references_in_splits_and_to_listeners_are_held_too() {
    let told = only_error(&action("split = { app = 1, elsewhere = 1 }"));
    assert_eq!(
        short(&told),
        "4:32 routes[0].split.elsewhere: found upstream `elsewhere`; accepted: app"
    );
    assert_eq!(told.hint.as_deref(), Some("add a table [upstreams.elsewhere]"));
    let told = only_error(&route("listeners = ['webb']"));
    assert_eq!(
        short(&told),
        "5:14 routes[0].listeners[0]: found listener `webb`; accepted: web"
    );
    assert_eq!(told.hint.as_deref(), Some("did you mean `web`?"));
}

#[test]
fn a_reference_to_what_is_wrong_itself_is_not_told() {
    let told = only(&GOOD.replace("endpoints", "balance = 'x'\nendpoints"));
    assert_eq!(told.key, "upstreams.app.balance");
    let told = only(&route("listeners = ['web']").replace("127.0.0.1:8080", "here"));
    assert_eq!(told.key, "listeners.web.address");
}

#[test]
fn a_route_has_exactly_one_action() {
    let told = only_error(&action("paths = ['/x']"));
    let accepted = "accepted: one of upstream, split, redirect, respond";
    assert_eq!(
        short(&told),
        format!("3:1 routes[0]: a route has one action; found none; {accepted}")
    );
    let told = only(&route("respond = {}"));
    let expected =
        format!("5:11 routes[0].respond: a route has one action; found upstream and respond; {accepted}");
    assert_eq!(short(&told), expected);
}

#[test]
fn a_split_has_weight() {
    for split in ["{ app = 0 }", "{}"] {
        let told = only_error(&action(&format!("split = {split}")));
        assert!(short(&told).starts_with("4:9 routes[0].split: no upstream has a weight above 0"));
    }
    assert!(
        only_error(&action("split = { app = -1 }"))
            .message
            .contains("out of range")
    );
}

#[test]
fn statuses_are_those_of_their_kind() {
    for status in [300, 304, 305, 306, 309] {
        only_error(&action(&format!("redirect = {{ to = '/x', status = {status} }}")));
    }
    for status in [101, 199, 600] {
        only_error(&action(&format!("respond = {{ status = {status} }}")));
    }
    for status in ["399", "600", "x"] {
        let told = only(&listener(&format!("error_pages = {{ {status} = 'x' }}")));
        assert!(
            told.message.ends_with("accepted: a status from 400 to 599"),
            "{}",
            told.message
        );
    }
    assert!(
        only_error(&action("redirect = {}"))
            .message
            .starts_with("`to` is missing")
    );
}

#[test]
fn regexes_must_compile() {
    for line in [
        "hosts = ['~(']",
        "paths = ['~(']",
        "headers = { a = '~(' }",
        "rewrite = { regex = '(', to = '/' }",
    ] {
        let told = only(&route(line));
        assert!(
            told.message.contains("does not compile: unclosed group"),
            "{line}: {}",
            told.message
        );
        assert_eq!(told.location.as_ref().map(|at| at.line), Some(5));
    }
}

#[test]
fn headers_must_be_headers() {
    for (line, expected) in [
        (
            "request_headers.set = { 'a b' = 'c' }",
            "it is not the name of a header",
        ),
        (
            "request_headers.set = { Content-Length = '5' }",
            "is written by the gateway",
        ),
        (
            "request_headers.add = { Host = 'x' }",
            "the host has a key of its own",
        ),
        (
            "request_headers.remove = ['Transfer-Encoding']",
            "is written by the gateway",
        ),
        (
            "response_headers.set = { X-A = \"b\\r\\nc\" }",
            "the value of a header has no '\\r'",
        ),
        (
            "response_headers.set = { X-A = 'b', x-a = 'c' }",
            "is written twice; case does not matter",
        ),
        ("headers = { 'a:b' = '*' }", "it is not the name of a header"),
        ("cookies = { 'a;b' = '*' }", "it is not the name of a cookie"),
        ("query = { '' = '*' }", "the name is empty"),
        ("methods = ['get']", "methods are case-sensitive"),
        ("upgrades = ['h2c']", "h2c by Upgrade"),
    ] {
        let told = only(&route(line));
        assert!(told.message.contains(expected), "{line}: {}", told.message);
    }
}

#[test]
fn an_upstream_has_endpoints_and_each_once() {
    let told = only(&GOOD.replace("['127.0.0.1:3000']", "[]"));
    assert_eq!(short(&told), "5:1 upstreams.app: the upstream has no endpoint");
    let told = only(&GOOD.replace("['127.0.0.1:3000']", "['[::1]:80', 'a:80', '[0:0::1]:80']"));
    let expected = "upstreams.app.endpoints[2].address: the endpoint [0:0::1]:80 is endpoints[0] already";
    assert_eq!(short(&told), format!("6:34 {expected}"));
}

#[test]
fn addresses_of_listeners_do_not_collide() {
    for (first, second) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::1]:80", "[::]:80"),
        ("unix:/run/x", "unix:/run/x"),
    ] {
        let text = format!("{GOOD}[listeners.a]\naddress = '{first}'\n[listeners.b]\naddress = '{second}'\n");
        let told = only(&text);
        assert_eq!(
            short(&told),
            "10:11 listeners.b.address: this address is taken by listeners.a"
        );
    }
    let text = format!("{GOOD}[admin]\naddress = '127.0.0.1:8080'\n");
    assert_eq!(
        short(&only(&text)),
        "8:11 admin.address: this address is taken by listeners.web"
    );
    let text =
        format!("{GOOD}[listeners.a]\naddress = '127.0.0.1:0'\n[listeners.b]\naddress = '127.0.0.1:0'\n");
    assert_eq!(
        warnings(&text),
        Vec::<String>::new(),
        "port 0 is another one each time"
    );
}

#[test]
fn a_configuration_without_listeners_is_refused() {
    let told = only("");
    assert_eq!(
        short(&told),
        "listeners: there is no listener: nothing would be served"
    );
}

#[test]
fn lifetimes_of_answers_are_in_order() {
    let told = only(&format!("dns = {{ min_ttl = '2m' }}\n{GOOD}"));
    assert_eq!(
        short(&told),
        "1:19 dns.min_ttl: dns.min_ttl is longer than dns.max_ttl"
    );
}

#[test]
fn an_open_admin_api_needs_tokens() {
    for address in ["0.0.0.0:9900", "[::]:9900", "10.0.0.1:9900"] {
        let told = only(&format!("{GOOD}[admin]\naddress = '{address}'\n"));
        assert!(short(&told).starts_with("8:11 admin.address: an admin API without tokens may only be on"));
    }
    for address in [
        "127.0.0.1:9900",
        "[::1]:9900",
        "unix:/run/admin.sock",
        "[::ffff:127.0.0.1]:9900",
    ] {
        load_good(&format!("{GOOD}[admin]\naddress = '{address}'\n"));
    }
    let token = "{ name = 'a', token = 'secret' }";
    load_good(&format!(
        "{GOOD}[admin]\naddress = '0.0.0.0:9900'\ntokens = [{token}]\n"
    ));
    let told = only_error(&format!(
        "{GOOD}[admin]\naddress = '127.0.0.1:9900'\ntokens = [{token}, {token}]\n"
    ));
    assert!(
        short(&told).contains("admin.tokens[1].name: the name `a` is taken"),
        "{}",
        short(&told)
    );
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let unused = format!("{GOOD}[upstreams.spare]\nendpoints = ['a:1']\n");
    assert_eq!(
        warnings(&unused),
        ["7:1 upstreams.spare: no route uses the upstream `spare`"]
    );
    let lonely = format!("{GOOD}[listeners.x]\naddress = '127.0.0.1:1'\n")
        .replace("= 'app'", "= 'app'\nlisteners = ['web']");
    assert_eq!(
        warnings(&lonely),
        ["8:1 listeners.x: no route is for the listener `x`: it answers everything with 404"]
    );
    assert_eq!(
        warnings(&listener("mode = '0660'")),
        ["3:8 listeners.web.mode: mode is for unix sockets and has no effect here"]
    );
    let strip = route("paths = ['/apis']\nstrip_prefix = '/app'");
    assert_eq!(
        warnings(&strip),
        ["6:16 routes[0].strip_prefix: /apis does not begin with /app: nothing is taken off such paths"]
    );
    let answers = format!("{GOOD}[[routes]]\npaths = ['/x']\nrespond = {{}}\nadd_prefix = '/x'\n");
    assert_eq!(
        warnings(&answers),
        ["10:14 routes[1].add_prefix: `add_prefix` has no effect: the route does not forward"]
    );
    let idle = GOOD.replace("'127.0.0.1:3000'", "{ address = 'a:1', weight = 0 }");
    assert_eq!(
        warnings(&idle),
        ["6:13 upstreams.app.endpoints: no endpoint has a weight above 0: none takes requests"]
    );
    assert_eq!(
        warnings(&route("methods = ['GET', 'GET']")),
        ["5:19 routes[0].methods[1]: \"GET\" is listed twice"]
    );
}

#[test]
fn checks_that_contradict_themselves_are_told() {
    let health = |text: &str| format!("{GOOD}health = {{ {text} }}\n");
    let error = |text: &str| only(&health(text)).message;
    let head = error("method = 'HEAD', body = 'ok'");
    assert_eq!(head, "an answer to HEAD has no body to look into");
    let connect = error("method = 'CONNECT'");
    assert_eq!(connect, "CONNECT asks for a tunnel, and no probe wants one");
    assert_eq!(
        warnings(&health("kind = 'tcp', path = '/x', status = '200', port = 81")),
        [
            "7:33 upstreams.app.health.path: `path` has no effect on probes of kind tcp",
            "7:48 upstreams.app.health.status: `status` has no effect on probes of kind tcp"
        ]
    );
    assert_eq!(
        warnings(&health("kind = 'websocket', path = '/x', body = 'y'")),
        ["7:52 upstreams.app.health.body: `body` has no effect on probes of kind websocket"]
    );
    assert_eq!(
        error("kind = 'grpc'"),
        "gRPC is spoken over HTTP/2, and endpoints are spoken to in HTTP/1.1"
    );
    assert_eq!(
        warnings(&health("service = 'x'")),
        ["7:22 upstreams.app.health.service: `service` has no effect on probes of kind http"]
    );
    assert_eq!(
        warnings(&health("share = true")),
        ["7:20 upstreams.app.health.share: there is no `cluster.redis`, and nobody to share probes with"]
    );
    assert_eq!(
        warnings(&health("interval = '1s', fast_interval = '2s'")),
        [
            "7:45 upstreams.app.health.fast_interval: fast_interval is longer than interval, which is kept to then"
        ]
    );
    let no_hold = "max_hold is over before `rise` probes can have passed, and holds nobody up";
    assert_eq!(
        warnings(&health("max_hold = '500ms', rise = 2")),
        [format!("7:23 upstreams.app.health.max_hold: {no_hold}")]
    );
    for held in ["max_hold = '501ms', rise = 2", "max_hold = '0s'", "rise = 1000"] {
        assert!(warnings(&health(held)).is_empty(), "{held}");
    }
    assert!(
        warnings(&health("interval = '100ms'")).is_empty(),
        "the default is kept to it in silence"
    );
    for text in [
        "interval = '0s'",
        "rise = 0",
        "fall = 0",
        "port = 0",
        "path = 'x'",
        "host = 'a b'",
    ] {
        assert!(error(text).contains("accepted: "), "{text}");
    }
    assert_eq!(hint(&health("kind = 'ws'")), "it is called `websocket` here");
    assert_eq!(
        hint(&health("initial = 'pending'")),
        "it is called `probing` here"
    );
    assert_eq!(
        hint(&format!("{GOOD}health = '/up'\n")),
        "write { path = \"/up\" }"
    );
    assert!(hint(&format!("{GOOD}health_uri = '/up'\n")).contains("health = {"));
}

#[test]
fn a_literal_secret_is_warned_of_and_never_shown() {
    let text = format!(
        "{GOOD}[admin]\naddress = '127.0.0.1:9900'\ntokens = [{{ name = 'a', token = 'hunter2' }}]\n"
    );
    let loaded = load_good(&text);
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.config.admin.as_ref().unwrap().tokens[0].token.0, "hunter2");
    let told = render::text(&loaded.warnings, false);
    assert!(
        told.contains("the secret itself stands in the configuration"),
        "{told}"
    );
    for shown in [
        told,
        format!("{loaded:?}"),
        effective::toml(&loaded),
        effective::json(&loaded),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_secret_is_not_shown_beside_other_problems_either() {
    for token in [
        "{ nam = 'a', token = 'hunter2' }",
        "{ name = 'a', tokn = 'hunter2' }",
        "{ name = 'a', token = 4711 }",
    ] {
        let text = format!("{GOOD}[admin]\naddress = '127.0.0.1:9900'\ntokens = [{token}]\nx = 1\n");
        let told = load_bad(&text);
        for shown in [
            render::text(&told, true),
            render::json(&told).to_string(),
            format!("{told:?}"),
        ] {
            assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
        }
    }
}

#[test]
fn every_error_of_syntax_is_told_and_the_rest_is_still_looked_at() {
    let text = "\
[listeners.web
address = '127.0.0.1:8080'
[[routes]]
upstream = 'app
[upstreams.app]
balance = 'x'
balance = 'y'
";
    let all = shorts(&load_bad(text));
    let starts = |prefix: &str| all.iter().any(|told| told.starts_with(prefix));
    assert!(starts("1:15 ") && starts("4:16 "), "{all:#?}");
    assert!(
        starts("7:1 not TOML: the key balance is written twice"),
        "{all:#?}"
    );
    assert!(starts("6:11 upstreams.app.balance: found \"x\""), "{all:#?}");
    assert!(
        !all.iter()
            .any(|told| told.contains("missing") || told.contains("no endpoint")),
        "{all:#?}"
    );
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = "\
[runtime]
worker = 2
[listeners.web]
address = 'x'
[[routes]]
upstream = 'nowhere'
timeouts = { connect = '1 parsec', respons = '1s' }
[upstreams.app]
balance = 'roundrobin'
endpoints = ['a:1', 'a:1']
";
    let all = shorts(&load_bad(text));
    let places: Vec<&str> = all.iter().map(|told| told.split(' ').next().unwrap()).collect();
    assert_eq!(
        places,
        ["2:1", "4:11", "6:12", "7:24", "7:36", "9:11", "10:21"],
        "{all:#?}"
    );
}

#[test]
fn a_flood_of_problems_is_cut_and_counted() {
    let text: String = (0..2_000).map(|n| format!("key{n} = 1\n")).collect();
    let all = load_bad(&text);
    assert_eq!(all.len(), problems::MAX_PROBLEMS + 1);
    assert_eq!(all.last().unwrap().message, "and 1501 more problems");
}

#[test]
fn problems_are_drawn_with_their_line() {
    let told = load_bad(&GOOD.replace("endpoints", "balance = 'wieghted'\nendpoints"));
    let expected = "\
error: upstreams.app.balance: found \"wieghted\"; accepted: \"round_robin\", \"weighted\", \"least_connections\", \"random_two\", \"least_time\", \"adaptive\", \"ip_hash\", \"hash\" or \"first\"
 --> test.toml:6:11
  |
6 | balance = 'wieghted'
  |           ^^^^^^^^^^
  |
  = help: did you mean `weighted`?

1 error, 0 warnings
";
    assert_eq!(render::text(&told, false), expected);
    assert!(render::text(&told, true).contains("\u{1b}["));
    let json = render::json(&told);
    assert_eq!(json[0]["severity"], "error");
    assert_eq!((&json[0]["line"], &json[0]["column"]), (&6.into(), &11.into()));
    assert_eq!(json[0]["hint"], "did you mean `weighted`?");
}

#[test]
fn columns_count_characters() {
    let told = only(
        &route("respond.body = 'äöü' # x")
            .replace("respond.body", "ä.x")
            .replace("ä.x", "\"ä\""),
    );
    assert_eq!(
        told.location.as_ref().map(|at| (at.line, at.column)),
        Some((5, 1))
    );
    let told = only(&route("headers = { 'x' = 'ä', 'ü' = 'b' }"));
    assert_eq!(
        told.location.as_ref().map(|at| (at.line, at.column)),
        Some((5, 24))
    );
    let drawn = render::text(&[told], false);
    assert!(drawn.contains("test.toml:5:24"), "{drawn}");
}

#[test]
fn long_lines_and_control_characters_do_not_spoil_the_drawing() {
    let told = load_bad(&route(&format!(
        "paths = ['/{}', 'x\\u001b[31m']",
        "a".repeat(5_000)
    )));
    let drawn = render::text(&told, false);
    assert!(
        drawn.len() < 2_000 && drawn.contains("--> test.toml:5:"),
        "{drawn}"
    );
    assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
}

/// The hint of the one problem of a text.
fn hint(text: &str) -> String {
    only(text).hint.unwrap_or_default()
}

#[test]
fn habits_from_elsewhere_are_translated() {
    assert!(hint(&GOOD.replace("address =", "proxy_pass = 'x'\naddress =")).contains("upstream ="));
    assert_eq!(
        hint(&GOOD.replace("endpoints", "balance = 'leastconn'\nendpoints")),
        "it is called `least_connections` here"
    );
    let hints: Vec<String> = load_bad("server {\n  listen 80;\n}\n")
        .into_iter()
        .filter_map(|told| told.hint)
        .collect();
    assert!(
        matches!(&hints[..], [one] if one.contains("nginx")),
        "told once: {hints:#?}"
    );
}

#[test]
fn a_value_of_the_wrong_shape_is_shown_in_the_right_one() {
    assert_eq!(
        hint(&GOOD.replace("[[routes]]", "[routes]")),
        "each of them begins with [[routes]]"
    );
    assert_eq!(
        hint(&GOOD.replace("['127.0.0.1:3000']", "'127.0.0.1:3000'")),
        "write [\"127.0.0.1:3000\"]"
    );
    assert_eq!(
        hint(&format!("{GOOD}[log]\naccess = '/x.log'\n")),
        "write { path = \"/x.log\" }"
    );
    assert_eq!(
        hint(&GOOD.replace("'127.0.0.1:3000'", "'3000'")),
        "write \"127.0.0.1:3000\""
    );
    assert_eq!(
        hint(&GOOD.replace("'127.0.0.1:8080'", "127.0.0.1:8080")),
        "text stands in quotes: address = \"…\""
    );
    for (written, meant) in [
        ("10 megs", "10MB"),
        ("10m", "10MB"),
        ("1g", "1GB"),
        ("5x", "5KiB"),
    ] {
        let text = format!("{GOOD}[listeners.web.limits]\nbody = '{written}'\n");
        assert_eq!(hint(&text), format!("write \"{meant}\""));
    }
    for (written, meant) in [
        ("5 minutes", "5m"),
        ("20 msec", "20ms"),
        ("30 sec", "30s"),
        ("2 days", "2d"),
    ] {
        let text = format!("{GOOD}[runtime]\ndrain_timeout = '{written}'\n");
        assert_eq!(hint(&text), format!("write \"{meant}\""));
    }
}

#[test]
fn what_is_spoken_to_endpoints_must_fit_what_else_is_said() {
    let app = |more: &str| format!("{GOOD}\n{more}\n");
    for (more, warned) in [
        ("protocol = 'h2'", None),
        ("protocol = 'h2'\nhealth = { kind = 'websocket' }", None),
        ("protocol = 'auto'", Some("`auto` is HTTP/1.1")),
        ("protocol = 'h2'\nhttp2 = { streams = 200 }", Some("26214400B")),
        ("http2 = { streams = 200 }", None),
    ] {
        let told = warnings(&app(more));
        let told: Vec<_> = told
            .iter()
            .filter(|told| told.contains("protocol") || told.contains("http2"))
            .collect();
        match warned {
            None => assert!(told.is_empty(), "{told:?}"),
            Some(words) => assert!(told.len() == 1 && told[0].contains(words), "{told:?}"),
        }
    }
}
