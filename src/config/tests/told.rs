//! How problems are told: all at once, in the order of the file, with their lines, hints, and without secrets.

use super::*;

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
