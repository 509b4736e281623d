//! What is wrong only when keys are looked at together: references that lead nowhere, contradictions.

use super::*;

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
