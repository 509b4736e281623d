//! Sessions that stay at their endpoints, as written.

use super::*;
use crate::config::model::{
    HashKey, OnMissing, SameSite, Secure, SessionName, Sticky, StickyBy, StickyCookie,
};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn text(sticky: &str) -> String {
    format!(
        "[listeners.web]\naddress = '127.0.0.1:1'\n[[routes]]\nupstream = 'app'\n[upstreams.app]\nendpoints = ['a:1']\n{sticky}\n"
    )
}

fn load(sticky: &str) -> Result<Loaded, Rejected> {
    load_text(
        "test.toml",
        &text(sticky),
        &environment(&[("KEY", KEY), ("SHORT", "short")]),
    )
}

fn sticky(text: &str) -> Sticky {
    let loaded = load(text).unwrap_or_else(|rejected| panic!("{rejected}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config.upstreams["app"].sticky.clone().unwrap()
}

fn cookie(text: &str) -> StickyCookie {
    match sticky(text).by {
        StickyBy::Cookie(cookie) => cookie,
        StickyBy::Learn(_) | StickyBy::Hash(_) => panic!("{text}"),
    }
}

/// Where and what is told.
fn told(text: &str) -> Vec<String> {
    let diagnostics = match load(text) {
        Ok(loaded) => loaded.warnings,
        Err(rejected) => rejected.diagnostics,
    };
    let shown = diagnostics
        .iter()
        .map(|told| format!("{}: {}", told.key, told.message));
    shown.collect()
}

#[test]
fn a_cookie_needs_no_more_than_a_name() {
    let cookie = cookie("sticky = { cookie = 'tg' }");
    assert_eq!((cookie.name.as_str(), cookie.path.as_str()), ("tg", "/"));
    assert_eq!((cookie.ttl.as_secs(), cookie.keys.len()), (86_400, 0));
    assert_eq!((cookie.secure, cookie.same_site), (Secure::Auto, SameSite::Lax));
    assert!(cookie.http_only && cookie.private && !cookie.partitioned && cookie.domain.is_none());
}

#[test]
fn everything_about_a_cookie_can_be_said() {
    let text = "sticky = { cookie = 'tg', ttl = '1h', on_missing = 'reject', keys = ['env:KEY'], path = '/a', \
                domain = '.Example.com', secure = 'always', http_only = false, same_site = 'none', \
                partitioned = true, private = false }";
    assert_eq!(sticky(text).on_missing, OnMissing::Reject);
    let cookie = cookie(text);
    assert_eq!(cookie.keys, [model::Secret(KEY.to_owned())]);
    assert_eq!(
        (cookie.path.as_str(), cookie.domain.as_deref()),
        ("/a", Some("example.com"))
    );
    assert_eq!(
        (cookie.secure, cookie.same_site),
        (Secure::Always, SameSite::None)
    );
}

#[test]
fn sessions_are_also_learned_or_hashed() {
    let StickyBy::Learn(learn) = sticky("sticky = { learn = { header = 'Mcp-Session-Id' }, ttl = '5m' }").by
    else {
        panic!()
    };
    assert!(matches!(learn.name, SessionName::Header(name) if name.eq_ignore_ascii_case("mcp-session-id")));
    assert_eq!((learn.max_sessions, learn.idle.as_secs()), (100_000, 300));
    assert_eq!(
        sticky("sticky = { hash = 'client_ip' }").by,
        StickyBy::Hash(HashKey::ClientIp)
    );
}

#[test]
fn a_session_is_known_by_one_thing() {
    for (text, found) in [
        ("sticky = {}", "found none; accepted: one of cookie, learn, hash"),
        ("sticky = { cookie = 'a', hash = 'uri' }", "found cookie and hash"),
        (
            "sticky = { learn = {} }",
            "found none; accepted: one of cookie, header",
        ),
        (
            "sticky = { learn = { cookie = 'a', header = 'b' } }",
            "found cookie and header",
        ),
    ] {
        let told = told(text);
        assert!(told.len() == 1 && told[0].contains(found), "{told:?}");
    }
}

#[test]
fn cookies_that_browsers_would_drop_are_refused() {
    for (text, at, what) in [
        (
            "cookie = 'a', same_site = 'none', secure = 'never'",
            "secure",
            "not Secure",
        ),
        (
            "cookie = 'a', partitioned = true, secure = 'never'",
            "secure",
            "not Secure",
        ),
        ("cookie = '__Secure-a'", "secure", "always"),
        (
            "cookie = '__Host-a', secure = 'always', domain = 'a.test'",
            "domain",
            "with a domain",
        ),
        (
            "cookie = '__host-a', secure = 'always', path = '/a'",
            "path",
            "unless `path`",
        ),
        ("cookie = 'a b'", "cookie", "not the name of a cookie"),
        ("cookie = ''", "cookie", "not the name of a cookie"),
        ("cookie = 'a', path = '/;x'", "path", "no ';'"),
        ("cookie = 'a', path = 'x'", "path", "begins with /"),
        (
            "cookie = 'a', domain = 'a.test; x'",
            "domain",
            "no character of a host name",
        ),
        (
            "cookie = 'a', keys = ['env:NOWHERE']",
            "keys[0]",
            "no variable NOWHERE",
        ),
    ] {
        let told = told(&format!("sticky = {{ {text} }}"));
        let expected = format!("upstreams.app.sticky.{at}: ");
        let found = told
            .iter()
            .any(|told| told.starts_with(&expected) && told.contains(what));
        assert!(found, "{text}: {told:?}");
    }
    assert!(told("sticky = { cookie = '__Host-a', secure = 'always' }").is_empty());
}

#[test]
fn what_has_no_effect_is_told() {
    for (text, at) in [
        ("learn = { cookie = 'a' }, keys = ['env:KEY']", "keys"),
        ("learn = { cookie = 'a' }, same_site = 'lax'", "same_site"),
        ("hash = 'uri', on_missing = 'reject'", "on_missing"),
        ("hash = 'uri', ttl = '1h'", "ttl"),
    ] {
        let told = told(&format!("sticky = {{ {text} }}"));
        assert!(
            told.len() == 1 && told[0].starts_with(&format!("upstreams.app.sticky.{at}: ")),
            "{told:?}"
        );
    }
    let both = told("balance = 'hash'\nsticky = { hash = 'uri' }");
    assert!(both[0].contains("two can't both decide"), "{both:?}");
}

#[test]
fn a_key_that_can_be_guessed_is_told_and_none_is_shown() {
    let told = told("sticky = { cookie = 'a', keys = ['env:KEY', 'env:SHORT'] }");
    assert!(
        told.len() == 1 && told[0].starts_with("upstreams.app.sticky.keys[1]"),
        "{told:?}"
    );
    for wrong in [
        "keys = 'my own secret'",
        "keys = ['my own secret', 'my own secret']",
        "kys = ['my own secret']",
    ] {
        let found = match load(&format!("sticky = {{ cookie = 'a', {wrong} }}")) {
            Ok(loaded) => {
                assert!(!effective::toml(&loaded).contains("my own secret"), "{wrong}");
                loaded.warnings
            }
            Err(rejected) => rejected.diagnostics,
        };
        assert!(!found.is_empty());
        let shown = render::text(&found, false);
        assert!(!shown.contains("my own secret"), "{wrong}: {shown}");
    }
}

#[test]
fn a_string_is_no_table_and_what_was_meant_is_told() {
    let rejected = load("sticky = 'tg'").unwrap_err();
    let hint = rejected.diagnostics[0].hint.clone().unwrap();
    assert!(hint.contains("{ cookie = \"tg\" }"), "{hint}");
}
