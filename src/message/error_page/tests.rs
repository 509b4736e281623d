use super::*;
use proptest::prelude::*;

fn kind(accept: &str) -> &'static str {
    let given = (!accept.is_empty()).then_some(accept.as_bytes());
    let content_type = render(502, Token::ConnectFailed, b"id", given, &mut Vec::new());
    content_type.split(';').next().unwrap()
}

#[test]
fn the_kind_follows_the_accept_field() {
    for (accept, expected) in [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html",
        ),
        ("application/json, text/plain, */*", "application/json"),
        ("application/json", "application/json"),
        ("APPLICATION/JSON;charset=utf-8", "application/json"),
        ("text/html;q=0.5, application/json;q=0.6", "application/json"),
        ("text/html; q=0.9 , application/json;level=1;q=0.8", "text/html"),
        ("application/*", "application/json"),
        ("text/*", "text/plain"),
        ("text/plain;q=0, */*", "text/html"),
        ("text/*;q=0, */*;q=0.1", "application/json"),
        ("text/html;q=0", "text/plain"),
        ("image/png", "text/plain"),
        ("text/html;q=7", "text/plain"),
        ("text/html;q=NaN", "text/plain"),
        (",;/,,q=1", "text/plain"),
    ] {
        assert_eq!(kind(accept), expected, "{accept}");
    }
}

#[test]
fn every_token_has_a_page_of_every_kind() {
    for &token in Token::ALL {
        for accept in ["text/plain", "text/html", "application/json"] {
            let mut out = b"old".to_vec();
            render(token.status(), token, b"id-7", Some(accept.as_bytes()), &mut out);
            let page = String::from_utf8(out).unwrap();
            assert!(!page.starts_with("old"));
            assert!(page.contains(token.name()) && page.contains("id-7"), "{page}");
            assert!(!page.contains("<script") && !page.contains("://"), "{page}");
            if accept != "application/json" {
                assert!(page.contains(&token.status().to_string()));
            }
        }
    }
}

#[test]
fn the_json_page_has_the_four_members() {
    let mut out = Vec::new();
    render(
        404,
        Token::NoRoute,
        b"a\"b\\c\x01<",
        Some(b"application/json"),
        &mut out,
    );
    let page: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let error = page["error"].as_object().unwrap();
    assert_eq!(error["code"], "no_route");
    assert_eq!(error["message"], Token::NoRoute.text());
    assert_eq!(error["hint"], "Check the host name and the path.");
    assert_eq!(error["request_id"], "a\"b\\c<");
    assert_eq!(error.len(), 4);
}

#[test]
fn own_pages_are_served_by_their_extension_with_variables() {
    let own = |name: &str, text: &str| {
        let mut out = b"old".to_vec();
        let page = OwnPage::new(Path::new(name), text.as_bytes().to_vec());
        let content_type = page.render(503, Token::NoEndpoint, b"<\"&>", &mut out);
        (content_type, String::from_utf8(out).unwrap())
    };
    let all = "${status} ${token} ${request_id} ${other} $ $${status}";
    assert_eq!(
        own("errors/502.HTML", all),
        (
            HTML,
            "503 no_endpoint &lt;&quot;&amp;&gt; ${other} $ $503".to_owned()
        )
    );
    assert_eq!(
        own("a.json", "\"${request_id}\""),
        (JSON, "\"\\u003c\\\"&>\"".to_owned())
    );
    assert_eq!(own("a.txt", "${request_id}"), (TEXT, "<\"&>".to_owned()));
    assert_eq!(
        own("a.bin", "${status}"),
        ("application/octet-stream", "${status}".to_owned())
    );
    assert_eq!(own("a", "x").0, "application/octet-stream");
}

proptest! {
    #[test]
    fn no_request_id_gets_out_of_its_place(id in proptest::collection::vec(any::<u8>(), 0..30)) {
        let mut out = Vec::new();
        render(500, Token::Internal, &id, Some(b"text/html"), &mut out);
        let mut plain = Vec::new();
        render(500, Token::Internal, b"x", Some(b"text/html"), &mut plain);
        let tags = |page: &[u8]| page.iter().filter(|&&b| b == b'<').count();
        prop_assert_eq!(tags(&out), if id.is_empty() { tags(&plain) - 2 } else { tags(&plain) });
        render(500, Token::Internal, &id, Some(b"application/json"), &mut out);
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    }

    #[test]
    fn no_accept_field_makes_it_panic(accept in "[a-z*/;,=.0-9 ]{0,40}") {
        prop_assert!(!kind(&accept).is_empty());
    }
}
