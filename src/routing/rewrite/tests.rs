use super::*;
use crate::message::host::{Scheme, parse_host};
use proptest::prelude::*;

fn written(strip: &str, regex: Option<(&str, &str)>, add: &str) -> Rewrite {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Rewrite {
        strip_prefix: given(strip),
        add_prefix: given(add),
        regex: regex.map(|(regex, to)| (regex.to_owned(), to.to_owned())),
    }
}

fn rewrite(strip: &str, regex: Option<(&str, &str)>, add: &str) -> PathRewrite {
    PathRewrite::build(&written(strip, regex, add), "routes[0]")
        .unwrap()
        .unwrap()
}

/// Every variable of the request is `a b?c`.
struct Hostile;
impl Variables for Hostile {
    fn write(&self, _: &Variable, out: &mut Vec<u8>) {
        out.extend_from_slice(b"a b?c");
    }
}

fn apply(rewrite: &PathRewrite, path: &str, query: Option<&str>) -> Result<String, Token> {
    let mut out = b"old".to_vec();
    rewrite
        .apply(path.as_bytes(), query.map(str::as_bytes), &Hostile, &mut out)
        .map(|_| String::from_utf8(out).unwrap())
        .map_err(|reject| reject.token)
}

#[test]
fn nothing_to_change_is_no_rewrite() {
    assert!(PathRewrite::build(&Rewrite::default(), "r").unwrap().is_none());
    assert!(
        PathRewrite::build(&written("/", None, "/"), "r")
            .unwrap()
            .is_none()
    );
}

#[test]
fn prefixes_are_stripped_by_segment_and_added() {
    let strip = rewrite("/ws/", None, "");
    for (path, target) in [
        ("/ws", "/"),
        ("/ws/", "/"),
        ("/ws/x/y", "/x/y"),
        ("/wsx", "/wsx"),
        ("/", "/"),
    ] {
        assert_eq!(apply(&strip, path, None).as_deref(), Ok(target), "{path}");
    }
    assert_eq!(apply(&strip, "/ws", Some("a=1")).as_deref(), Ok("/?a=1"));
    let add = rewrite("", None, "/app/");
    assert_eq!(apply(&add, "/", None).as_deref(), Ok("/app/"));
    assert_eq!(apply(&add, "/x", Some("")).as_deref(), Ok("/app/x?"));
    let both = rewrite("/v1", None, "/api/caf\u{e9}");
    assert_eq!(
        apply(&both, "/v1/x", Some("q")).as_deref(),
        Ok("/api/caf%C3%A9/x?q")
    );
}

#[test]
fn a_regex_replaces_every_match_with_its_groups() {
    let one = |regex, to, path, query| apply(&rewrite("", Some((regex, to)), ""), path, query);
    assert_eq!(
        one(
            "^/u/(?<id>[0-9]+)/(.*)$",
            "/users/${path.id}/${2}",
            "/u/7/x",
            None
        )
        .unwrap(),
        "/users/7/x"
    );
    assert_eq!(
        one("/old", "/new", "/old/a/old", Some("q")).unwrap(),
        "/new/a/new?q"
    );
    assert_eq!(one("^/x$", "/y", "/z", Some("q")).unwrap(), "/z?q");
    assert_eq!(one("^/x", "", "/x", None).unwrap(), "/");
    assert_eq!(one("^/x/", "", "/x/y", None).unwrap(), "/y");
    assert_eq!(
        one("^/i/([0-9]+)$", "/item?id=${1}", "/i/7", Some("a=1")).unwrap(),
        "/item?id=7&a=1"
    );
    assert_eq!(
        one("^/i/([0-9]+)$", "/item/${1}?", "/i/7", Some("a=1")).unwrap(),
        "/item/7"
    );
    assert_eq!(
        one("^/t$", "/${host}", "/t", None).unwrap(),
        "/a%20b%3Fc",
        "no variable starts a query"
    );
    let all = rewrite("/s", Some(("^/(.*)$", "/r/${1}")), "/a");
    assert_eq!(
        apply(&all, "/s/x", None).as_deref(),
        Ok("/a/r/x"),
        "strip, then regex, then add"
    );
}

#[test]
fn pieces_of_a_path_cannot_be_put_together_to_something_else() {
    let files = rewrite("", Some(("^/x(.*)$", "/data/${1}")), "");
    assert_eq!(apply(&files, "/x../secret", None), Err(Token::BadRequest));
    assert_eq!(apply(&files, "/x.hidden", None).as_deref(), Ok("/data/.hidden"));
    let cut = rewrite("", Some(("^/(.)(.*)$", "/${1}")), "");
    assert_eq!(apply(&cut, "/%C3%A9", None), Err(Token::BadRequest));
    let nul = rewrite("", Some(("a", "")), "");
    assert_eq!(apply(&nul, "/%0a0", None), Err(Token::BadRequest));
}

#[test]
fn a_rewritten_path_has_a_bound() {
    let grow = rewrite("", Some(("(?<all>a)", &"${path.all}".repeat(1000))), "");
    assert_eq!(
        apply(&grow, &format!("/{}", "a".repeat(8000)), None),
        Err(Token::UriTooLong)
    );
}

#[test]
fn mistakes_have_keys() {
    let keys = |w: Rewrite| -> Vec<String> {
        let errors = PathRewrite::build(&w, "routes[2]").unwrap_err();
        errors.into_iter().map(|d| d.key).collect()
    };
    assert_eq!(
        keys(written("ws", Some(("(", "/")), "/a?b")),
        [
            "routes[2].strip_prefix",
            "routes[2].add_prefix",
            "routes[2].rewrite.regex"
        ]
    );
    assert_eq!(
        keys(written("", Some(("(a)", "/${2}")), "")),
        ["routes[2].rewrite.to"]
    );
    assert_eq!(
        keys(written("", Some(("(a)", "/${path.id}")), "")),
        ["routes[2].rewrite.to"]
    );
    assert_eq!(
        keys(written("", Some(("a", "/$1")), "")),
        ["routes[2].rewrite.to"]
    );
    assert_eq!(
        keys(written("", Some(("a", "/100%")), "")),
        ["routes[2].rewrite.to"]
    );
}

/// The client asked `http://public.example/ws/…`, the endpoint is `10.0.0.1:3001` and was sent `internal`.
fn seen<'a>(scheme: Scheme, endpoint: &'a [&'a [u8]]) -> Seen<'a> {
    Seen {
        scheme,
        host: parse_host(b"public.example").unwrap(),
        endpoint,
    }
}

fn location(strip: &str, add: &str, value: &str) -> Option<String> {
    let rewrite = rewrite(strip, None, add);
    let back = rewrite.backward(Applied { stripped: true }).unwrap();
    let endpoint: [&[u8]; 2] = [b"10.0.0.1:3001", b"internal"];
    let mut out = b"old".to_vec();
    back.location(value.as_bytes(), &seen(Scheme::Http, &endpoint), &mut out)
        .then(|| String::from_utf8(out).unwrap())
}

#[test]
fn locations_regain_the_stripped_prefix() {
    for (value, expected) in [
        ("/x?y#z", Some("/ws/x?y#z")),
        ("/", Some("/ws/")),
        ("/?q", Some("/ws/?q")),
        ("http://public.example/x", Some("/ws/x")),
        ("HTTP://Public.Example:80", Some("/ws/")),
        ("//public.example/x", Some("/ws/x")),
        ("http://10.0.0.1:3001/x", Some("/ws/x")),
        ("http://internal/x?y", Some("/ws/x?y")),
        ("https://public.example/x", Some("https://public.example/ws/x")),
        ("http://public.example:81/x", None),
        ("http://10.0.0.1:3002/x", None),
        ("https://elsewhere.example/x", None),
        ("x", None),
        ("?q", None),
        ("", None),
        ("mailto:a@b", None),
        ("http://", None),
    ] {
        assert_eq!(location("/ws", "", value).as_deref(), expected, "{value}");
    }
}

#[test]
fn locations_lose_the_added_prefix() {
    for (value, expected) in [
        ("/app/x", Some("/x")),
        ("/app", Some("/")),
        ("/app?q", Some("/?q")),
        ("/apple", None),
        ("/other", None),
        ("http://internal/app/x", Some("/x")),
        ("/app//evil.example/x", Some("/evil.example/x")),
        ("/app/\\evil.example", Some("/evil.example")),
    ] {
        assert_eq!(location("", "/app", value).as_deref(), expected, "{value}");
    }
    assert_eq!(location("/ws", "/app", "/app/x").as_deref(), Some("/ws/x"));
}

#[test]
fn a_way_back_exists_only_where_there_was_a_way() {
    assert!(
        rewrite("/ws", None, "")
            .backward(Applied { stripped: false })
            .is_none()
    );
    assert!(
        rewrite("/ws", None, "/a")
            .backward(Applied { stripped: false })
            .is_some()
    );
    assert!(
        rewrite("/ws", Some(("a", "b")), "")
            .backward(Applied { stripped: true })
            .is_none()
    );
}

#[test]
fn refresh_is_rewritten_in_all_its_spellings() {
    let rewrite = rewrite("/ws", None, "");
    let back = rewrite.backward(Applied { stripped: true }).unwrap();
    let refresh = |value: &str| {
        let mut out = Vec::new();
        back.refresh(value.as_bytes(), &seen(Scheme::Https, &[]), &mut out)
            .then(|| String::from_utf8(out).unwrap())
    };
    for (value, expected) in [
        ("5; url=/x", Some("5; url=/ws/x")),
        ("0;URL='/x y'; z", Some("0;URL='/ws/x y'; z")),
        ("0,url = \"https://public.example/x\"", Some("0,url = \"/ws/x\"")),
        ("5; /x", Some("5; /ws/x")),
        ("5", None),
        ("5;", None),
        ("5; url=", None),
        ("5; url=https://elsewhere.example/", None),
    ] {
        assert_eq!(refresh(value).as_deref(), expected, "{value}");
    }
}

#[test]
fn cookie_paths_follow_the_prefixes() {
    let cookie = |strip: &str, add: &str, value: &str| {
        let rewrite = rewrite(strip, None, add);
        let back = rewrite.backward(Applied { stripped: true }).unwrap();
        let mut out = Vec::new();
        back.set_cookie(value.as_bytes(), &mut out)
            .then(|| String::from_utf8(out).unwrap())
    };
    for (strip, add, value, expected) in [
        ("/ws", "", "a=b; Path=/; Secure", Some("a=b; Path=/ws; Secure")),
        (
            "/ws",
            "",
            "a=b;path = /x ;HttpOnly",
            Some("a=b;path = /ws/x;HttpOnly"),
        ),
        ("/ws", "", "a=b", None),
        ("/ws", "", "a=b; Path=x", None),
        ("/ws", "", "path=/x", None),
        ("/ws", "", "__Host-a=b; Path=/; Secure", None),
        ("", "/app", "a=b; Path=/app/x", Some("a=b; Path=/x")),
        ("", "/app", "a=b; Path=/app", Some("a=b; Path=/")),
        ("", "/app/v1", "a=b; Path=/app", Some("a=b; Path=/")),
        ("/ws", "/app", "a=b; Path=/", Some("a=b; Path=/ws")),
        ("/ws", "/app", "a=b; Path=/other", None),
    ] {
        assert_eq!(
            cookie(strip, add, value).as_deref(),
            expected,
            "{strip} {add} {value}"
        );
    }
}

proptest! {
    #[test]
    fn a_target_always_begins_with_a_slash_and_can_be_sent(
        path in "(/[ab.]{0,3}|%20){1,5}",
        regex in proptest::option::of(proptest::sample::select(vec![
            ("^/(.)(.*)$", "${2}${1}"), ("a+", "/x y/"), (".", ""), ("/", "?"), ("b", "#é"), ("^", "//"),
        ])),
        strip in proptest::sample::select(vec!["", "/a"]),
        add in proptest::sample::select(vec!["", "/p"]),
    ) {
        let path = format!("/{path}");
        if let Ok(Some(rewrite)) = PathRewrite::build(&written(strip, regex, add), "r")
            && let Ok(target) = apply(&rewrite, &path, Some("q=1"))
        {
            prop_assert!(target.starts_with('/'));
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
        }
    }

    #[test]
    fn what_went_forward_comes_back(
        path in "(/[a-c]{1,3}){0,4}/?", strip in proptest::sample::select(vec!["", "/a", "/a/b"]),
        add in proptest::sample::select(vec!["/p", "/p/q"]),
    ) {
        let path = format!("{strip}{path}");
        prop_assume!(path.starts_with('/'));
        let rewrite = rewrite(strip, None, add);
        let mut forward = Vec::new();
        let applied = rewrite.apply(path.as_bytes(), None, &Hostile, &mut forward).unwrap();
        let back = rewrite.backward(applied).unwrap();
        let mut out = Vec::new();
        prop_assert!(back.location(&forward, &seen(Scheme::Http, &[]), &mut out));
        let returned = String::from_utf8(out).unwrap();
        prop_assert_eq!(returned.trim_end_matches('/'), path.trim_end_matches('/'));
    }

    #[test]
    fn no_answer_makes_it_panic_or_adds_a_control_character(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        let rewrite = rewrite("/ws", None, "/app");
        let back = rewrite.backward(Applied { stripped: true }).unwrap();
        let mut out = Vec::new();
        for prefix in ["", "/app", "5; url=/app/", "a=b; Path=/app", "http://public.example/app"] {
            let value = [prefix.as_bytes(), &value].concat();
            let controls = |text: &[u8]| text.iter().filter(|b| b.is_ascii_control()).count();
            let seen = seen(Scheme::Http, &[]);
            for changed in [
                back.location(&value, &seen, &mut out).then(|| out.clone()),
                back.refresh(&value, &seen, &mut out).then(|| out.clone()),
                back.set_cookie(&value, &mut out).then(|| out.clone()),
            ].into_iter().flatten() {
                prop_assert!(controls(&changed) <= controls(&value));
            }
        }
    }
}
