//! What is wrong with a key or a value by itself, with its place, what was found and what is accepted.

use super::*;

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
