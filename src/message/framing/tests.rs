use super::*;
use crate::message::head::Span;

/// A head with these fields. Only fields are looked at here, so the start line is left out.
fn fields(lines: &[(&str, &str)]) -> Box<HeadBuf> {
    let mut buf = Box::<HeadBuf>::default();
    buf.push_lines(lines);
    buf
}

fn request(version: Version, lines: &[(&str, &str)]) -> RequestHead {
    RequestHead {
        buf: fields(lines),
        method: Method::Get,
        method_text: Span::default(),
        target: Span::default(),
        version,
    }
}

fn response(status: u16, lines: &[(&str, &str)]) -> ResponseHead {
    ResponseHead {
        buf: fields(lines),
        version: Version::H11,
        status,
        reason: Span::default(),
    }
}

#[test]
fn lengths_are_digits_within_bounds() {
    assert_eq!(parse_length(b"0"), Some(0));
    assert_eq!(parse_length(b"0042"), Some(42));
    assert_eq!(parse_length(b"9223372036854775807"), Some(MAX_LENGTH));
    let bad = [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1,1",
        "0x1",
        "1_0",
        "9223372036854775808",
        "99999999999999999999",
    ];
    for text in bad {
        assert_eq!(parse_length(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn the_body_of_a_request_is_what_its_head_says() {
    let body = |lines: &[(&str, &str)]| request_body(&request(Version::H11, lines)).map_err(|r| r.token);
    assert_eq!(body(&[]), Ok(BodyKind::None));
    assert_eq!(body(&[("Content-Length", "5")]), Ok(BodyKind::Length(5)));
    assert_eq!(body(&[("Content-Length", "0")]), Ok(BodyKind::Length(0)));
    assert_eq!(body(&[("Transfer-Encoding", "Chunked")]), Ok(BodyKind::Chunked));
    assert_eq!(body(&[("Transfer-Encoding", "br")]), Err(Token::NotImplemented));
    assert_eq!(
        body(&[("Transfer-Encoding", "chunked, br")]),
        Err(Token::BadFraming)
    );
    assert_eq!(
        body(&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")]),
        Err(Token::BadFraming)
    );
    let old = request_body(&request(Version::H10, &[("Transfer-Encoding", "chunked")]));
    assert_eq!(old.unwrap_err().token, Token::BadFraming);
}

#[test]
fn the_body_of_a_response_depends_on_method_and_status() {
    let length = [("Content-Length", "5")];
    let body = |status, method, lines: &[(&str, &str)]| response_body(&response(status, lines), method);
    assert_eq!(body(200, Method::Get, &length), Ok(BodyKind::Length(5)));
    assert_eq!(body(200, Method::Get, &[]), Ok(BodyKind::UntilClose));
    for (status, method) in [
        (200, Method::Head),
        (100, Method::Get),
        (199, Method::Get),
        (204, Method::Get),
        (304, Method::Get),
    ] {
        assert_eq!(
            body(status, method, &length),
            Ok(BodyKind::None),
            "{status} to {method:?}"
        );
    }
    let bad = body(304, Method::Get, &[("Content-Length", "x")]);
    assert_eq!(bad.unwrap_err().token, Token::BadResponse);
}

#[test]
fn connections_last_as_their_version_and_options_say() {
    let cases = [
        (Version::H11, "", true),
        (Version::H11, "close", false),
        (Version::H11, "keep-alive, CLOSE", false),
        (Version::H11, "x", true),
        (Version::H10, "", false),
        (Version::H10, "Keep-Alive", true),
        (Version::H10, "keep-alive, close", false),
        (Version::H10, "x,keep-alive", true),
    ];
    for (version, options, expected) in cases {
        let lines = [("Connection", options)];
        let head = fields(if options.is_empty() { &[] } else { &lines });
        assert_eq!(persistent(version, &head), expected, "{options:?} in {version:?}");
    }
    let two = fields(&[("connection", "x"), ("a", "b"), ("connection", "close")]);
    assert!(wants_close(&two));
}

#[test]
fn an_upgrade_needs_both_fields_and_1_1() {
    let lines = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")];
    assert_eq!(
        upgrade_protocol(&request(Version::H11, &lines)),
        Some(&b"websocket"[..])
    );
    assert_eq!(upgrade_protocol(&request(Version::H10, &lines)), None);
    assert_eq!(upgrade_protocol(&request(Version::H11, &lines[..1])), None);
    assert_eq!(upgrade_protocol(&request(Version::H11, &lines[1..])), None);
}

#[test]
fn only_one_expectation_is_understood() {
    let expects = |version, value| expects_continue(&request(version, &[("Expect", value)]));
    assert_eq!(expects(Version::H11, "100-CONTINUE"), Ok(true));
    assert_eq!(
        expects(Version::H11, "other").unwrap_err().token,
        Token::ExpectationFailed
    );
    assert_eq!(
        expects(Version::H11, "").unwrap_err().token,
        Token::ExpectationFailed
    );
    assert_eq!(expects(Version::H10, "other"), Ok(false));
    assert_eq!(expects_continue(&request(Version::H11, &[])), Ok(false));
}
