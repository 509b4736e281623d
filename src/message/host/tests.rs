use super::*;
use proptest::prelude::*;

fn normal(value: &str) -> String {
    let mut buf = Vec::new();
    let host = parse_host(value.as_bytes()).unwrap();
    String::from_utf8(host.normal(&mut buf).to_vec()).unwrap()
}

fn refused(value: &[u8]) -> &'static str {
    let reject = parse_host(value).unwrap_err();
    assert_eq!(reject.token, Token::BadHost, "{value:?}");
    reject.detail
}

#[test]
fn a_lower_case_host_is_borrowed_and_others_are_written_once() {
    let mut buf = Vec::new();
    assert_eq!(
        parse_host(b"example.com:8080").unwrap().normal(&mut buf),
        b"example.com"
    );
    assert_eq!(buf.capacity(), 0, "nothing was written");
    assert_eq!(normal("EXAMPLE.com."), "example.com");
    assert_eq!(normal("under_score.local"), "under_score.local");
    assert_eq!(normal("[2001:DB8:0:0::1]:443"), "[2001:db8::1]");
    assert_eq!(normal("127.0.0.1"), "127.0.0.1");
}

#[test]
fn ports_are_read_and_checked() {
    let port = |v: &str| parse_host(v.as_bytes()).map(|h| h.port());
    assert_eq!(port("a"), Ok(None));
    assert_eq!(port("a:"), Ok(None));
    assert_eq!(port("a:1"), Ok(Some(1)));
    assert_eq!(port("[::1]:65535"), Ok(Some(65535)));
    for bad in [
        "a:0",
        "a:65536",
        "a:99999999999",
        "a:8x",
        "a:+1",
        "a:1:2",
        "[::1]:x",
        "[::1]x",
    ] {
        assert!(port(bad).is_err(), "{bad}");
    }
}

#[test]
fn hosts_with_two_readings_are_refused() {
    for bad in [
        "",
        ":80",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a,b",
        "user@a",
        "u:p@a",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a%41",
        "a\tb",
        "256.1.1.1",
        "1.2.3.400",
        "[",
        "[]",
        "[::1",
        "[::g]",
        "[[::1]",
        "[[::1]]",
        "[v1.a]",
        "[fe80::1%25eth0]",
        "::1",
        "a\"b",
    ] {
        refused(bad.as_bytes());
    }
    refused(b"caf\xc3\xa9.fr");
    refused(b"\xff");
    refused("a".repeat(256).as_bytes());
}

#[test]
fn dotted_names_of_digits_that_are_no_quad_stay_names() {
    assert_eq!(parse_host(b"web.1").unwrap().kind(), HostKind::Name);
    assert_eq!(
        parse_host(b"10.0.0.1").unwrap().kind(),
        HostKind::V4(Ipv4Addr::new(10, 0, 0, 1))
    );
}

#[test]
fn each_target_form_belongs_to_its_method() {
    let origin = |path, query| Ok(Target::Origin { path, query });
    assert_eq!(parse_target(Method::Get, b"/a?b?c"), origin(b"/a", Some(b"b?c")));
    assert_eq!(parse_target(Method::Get, b"//a"), origin(b"//a", None));
    assert_eq!(parse_target(Method::Get, b"/?"), origin(b"/", Some(b"")));
    assert_eq!(parse_target(Method::Options, b"*"), Ok(Target::Asterisk));
    assert!(parse_target(Method::Get, b"*").is_err());
    assert!(parse_target(Method::Options, b"**").is_err());
    assert!(
        matches!(parse_target(Method::Connect, b"a:443"), Ok(Target::Authority(h)) if h.port() == Some(443))
    );
    assert!(parse_target(Method::Connect, b"a").is_err());
    assert!(parse_target(Method::Connect, b"/a").is_err());
    assert!(parse_target(Method::Get, b"a:443").is_err());
    assert!(parse_target(Method::Get, b"a").is_err());
    assert!(parse_target(Method::Get, b"ftp://a/").is_err());
    assert!(parse_target(Method::Get, b"").is_err());
}

#[test]
fn absolute_form_is_taken_apart() {
    let read = |method, target: &'static str| match parse_target(method, target.as_bytes()).unwrap() {
        Target::Absolute {
            scheme,
            host,
            path,
            query,
        } => (scheme.text(), host.text().to_vec(), host.port(), path, query),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        read(Method::Get, "HTTP://A.b:81/x?y"),
        ("http", b"A.b".to_vec(), Some(81), &b"/x"[..], Some(&b"y"[..]))
    );
    assert_eq!(
        read(Method::Get, "https://a"),
        ("https", b"a".to_vec(), None, &b"/"[..], None)
    );
    assert_eq!(
        read(Method::Get, "http://a?q"),
        ("http", b"a".to_vec(), None, &b"/"[..], Some(&b"q"[..]))
    );
    assert_eq!(
        read(Method::Options, "http://a"),
        ("http", b"a".to_vec(), None, &b"*"[..], None)
    );
    for bad in [
        "http://",
        "http:///x",
        "http://u@a/",
        "http://a:x/",
        "http:/a",
        "http:a",
    ] {
        assert!(parse_target(Method::Get, bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn characters_that_no_uri_has_are_refused() {
    for byte in 0..=255u8 {
        let allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&byte);
        let in_query = allowed || b"^`{|}".contains(&byte);
        for (target, allowed) in [
            (&[b'/', byte][..], allowed),
            (&[b'/', b'?', byte], in_query),
            (&[b'/', byte, b'?'], allowed),
        ] {
            let result = parse_target(Method::Get, target);
            assert_eq!(result.is_ok(), allowed, "{byte:#x}");
            if let Err(reject) = result {
                assert_eq!(reject.token, Token::BadRequest);
            }
        }
    }
}

#[test]
fn the_target_wins_over_an_equal_host_and_a_different_one_is_refused() {
    let host = |h: &'static str| Some(parse_host(h.as_bytes()).unwrap());
    let absolute = parse_target(Method::Get, b"http://A.com/").unwrap();
    assert_eq!(absolute.effective_host(None).unwrap().text(), b"A.com");
    assert_eq!(
        absolute.effective_host(host("a.com:80")).unwrap().text(),
        b"A.com"
    );
    assert_eq!(
        absolute.effective_host(host("b.com")).unwrap_err().token,
        Token::BadHost
    );
    assert_eq!(
        absolute.effective_host(host("a.com:81")).unwrap_err().token,
        Token::BadHost
    );
    let origin = parse_target(Method::Get, b"/").unwrap();
    assert_eq!(origin.effective_host(host("b")).unwrap().text(), b"b");
    assert_eq!(origin.effective_host(None).unwrap_err().token, Token::BadHost);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_the_normal_form_is_stable(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(host) = parse_host(&value) {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let once = host.normal(&mut first).to_owned();
            prop_assert_eq!(parse_host(&once).unwrap().normal(&mut second), &once[..]);
            prop_assert!(!once.iter().any(u8::is_ascii_uppercase));
        }
        let _result = parse_target(Method::Get, &value).is_ok();
        let _result = parse_target(Method::Connect, &value).is_ok();
    }

    #[test]
    fn hosts_made_of_host_characters_have_one_form(value in "[a-zA-Z0-9._:\\[\\]-]{1,20}") {
        if let Ok(host) = parse_host(value.as_bytes()) {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let upper = value.to_ascii_uppercase();
            prop_assert_eq!(
                host.normal(&mut first),
                parse_host(upper.as_bytes()).unwrap().normal(&mut second)
            );
        }
    }
}
