use super::*;
use crate::h1::parse::tests::request;
use crate::h1::parse::{HeadLimits, Parsed, parse_response};
use crate::message::framing::{request_body, response_body};
use crate::message::head::Method;
use crate::message::hop::drop_hop_by_hop;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: 32 * 1024,
    fields: 100,
    target_bytes: 8 * 1024,
};

fn response(text: &str) -> ResponseHead {
    let mut buf = Box::<HeadBuf>::default();
    match parse_response(text.as_bytes(), &LIMITS, &mut 0, &mut buf) {
        Parsed::Complete { head, .. } => head.with(buf),
        other => panic!("{other:?}"),
    }
}

fn written_request(head: &RequestHead, edits: &Edits) -> String {
    let mut out = Vec::new();
    request_head(head, edits, request_body(head).unwrap(), &mut out);
    String::from_utf8(out).unwrap()
}

fn written_response(text: &str, method: Method) -> String {
    let head = response(text);
    let mut out = Vec::new();
    response_head(
        &head,
        &Edits::default(),
        response_body(&head, method).unwrap(),
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

#[test]
fn a_head_without_edits_is_written_as_it_came() {
    let text = "POST /a?b=c HTTP/1.1\r\nHOST:a\r\nX-Odd:   kept \r\ncontent-length: 5\r\nlast: 1\r\n\r\n";
    assert_eq!(written_request(&request(text), &Edits::default()), text);
    let text = "HTTP/1.1 200 \r\nServer: x\r\nTransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(written_response(text, Method::Get), text);
    assert_eq!(
        written_request(&request("GET / HTTP/1.1\r\n\r\n"), &Edits::default()),
        "GET / HTTP/1.1\r\n\r\n"
    );
}

#[test]
fn an_empty_line_before_the_request_is_not_passed_on() {
    let text = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(
        written_request(&request(&format!("\r\n{text}")), &Edits::default()),
        text
    );
}

#[test]
fn dropped_lines_are_left_out_and_added_ones_come_last() {
    let head = request(
        "GET / HTTP/1.1\r\nconnection: x-a, close\r\nhost: a\r\nx-a: 1\r\nte: trailers\r\naccept: b\r\nkeep-alive: 1\r\n\r\n",
    );
    let mut edits = Edits::default();
    drop_hop_by_hop(&head.buf, &mut edits);
    edits.add(b"x-b", b"2");
    edits.add(b"x-c", b"3");
    edits.drop_named(&head.buf, b"X-B");
    edits.add(b"x-d", b"4");
    assert_eq!(
        written_request(&head, &edits),
        "GET / HTTP/1.1\r\nhost: a\r\naccept: b\r\nx-c: 3\r\nx-d: 4\r\n\r\n"
    );
}

#[test]
fn any_set_of_dropped_lines_leaves_exactly_the_others() {
    let names: Vec<String> = (0..130).map(|i| format!("n{i}: {i}\r\n")).collect();
    let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", names.concat());
    let limits = HeadLimits {
        fields: 200,
        ..LIMITS
    };
    let mut buf = Box::<HeadBuf>::default();
    let Parsed::Complete { head, .. } = parse_response(text.as_bytes(), &limits, &mut 0, &mut buf) else {
        panic!("refused")
    };
    let head = head.with(buf);
    for step in [1, 2, 3, 63, 64, 65] {
        let mut edits = Edits::default();
        (0..names.len())
            .step_by(step)
            .for_each(|index| edits.drop_index(index));
        let kept: String = names
            .iter()
            .enumerate()
            .filter(|(i, _)| i % step != 0)
            .map(|(_, line)| line.as_str())
            .collect();
        let mut out = Vec::new();
        response_head(&head, &edits, BodyKind::UntilClose, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("HTTP/1.1 200 OK\r\n{kept}\r\n")
        );
    }
}

#[test]
fn a_new_target_is_written_and_cannot_break_the_line() {
    let head = request("GET /old HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut edits = Edits::default();
    edits.set_target(b"/new?x=%20 HTTP/1.1\r\nevil: 1\xff");
    assert_eq!(
        written_request(&head, &edits),
        "GET /new?x=%20%20HTTP/1.1%0D%0Aevil:%201%FF HTTP/1.1\r\nhost: a\r\n\r\n"
    );
}

#[test]
fn a_new_target_keeps_in_its_query_what_browsers_send_there_and_nowhere_else() {
    let head = request("GET /old HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut edits = Edits::default();
    edits.set_target(b"/a|b?{c}|^`<#");
    assert_eq!(edits.target(), Some(&b"/a%7Cb?{c}|^`%3C%23"[..]));
    let written = written_request(&head, &edits);
    assert!(
        written.starts_with("GET /a%7Cb?{c}|^`%3C%23 HTTP/1.1\r\n"),
        "{written}"
    );
}

#[test]
fn an_added_value_cannot_break_its_line() {
    let head = request("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut edits = Edits::default();
    edits.add(b"x", b"1\r\nevil: 2\0\t3");
    assert_eq!(
        written_request(&head, &edits),
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1  evil: 2 \t3\r\n\r\n"
    );
}

#[test]
fn a_client_of_1_0_is_spoken_for_in_1_1() {
    let head = request("POST /x HTTP/1.0\r\nhost: a\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(
        written_request(&head, &Edits::default()),
        "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
    );
    assert_eq!(
        written_response("HTTP/1.0 404 Gone fishing\r\na: b\r\n\r\n", Method::Get),
        "HTTP/1.1 404 Gone fishing\r\na: b\r\n\r\n"
    );
}

#[test]
fn framing_is_written_anew_where_it_does_not_say_what_is_sent() {
    let cases = [
        // head, framing to be sent, expected lines
        (
            "content-length: 5\r\n",
            BodyKind::Length(5),
            "content-length: 5\r\n",
        ),
        (
            "content-length: 005\r\n",
            BodyKind::Length(5),
            "Content-Length: 5\r\n",
        ),
        (
            "content-length: 5\r\n",
            BodyKind::Length(6),
            "Content-Length: 6\r\n",
        ),
        (
            "content-length: 5\r\n",
            BodyKind::Chunked,
            "Transfer-Encoding: chunked\r\n",
        ),
        ("content-length: 5\r\n", BodyKind::None, ""),
        (
            "content-length: 0\r\n",
            BodyKind::Length(0),
            "content-length: 0\r\n",
        ),
        (
            "transfer-encoding: chunked\r\n",
            BodyKind::Chunked,
            "transfer-encoding: chunked\r\n",
        ),
        (
            "transfer-encoding: chunked\r\n",
            BodyKind::Length(7),
            "Content-Length: 7\r\n",
        ),
        ("transfer-encoding: chunked\r\n", BodyKind::UntilClose, ""),
        ("", BodyKind::Chunked, "Transfer-Encoding: chunked\r\n"),
        ("", BodyKind::Length(0), "Content-Length: 0\r\n"),
        // Refused when read; written right all the same.
        (
            "content-length: 5\r\ncontent-length: 5\r\n",
            BodyKind::Length(5),
            "content-length: 5\r\n",
        ),
        (
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            BodyKind::Length(5),
            "content-length: 5\r\n",
        ),
        (
            "transfer-encoding: gzip, chunked\r\n",
            BodyKind::Chunked,
            "Transfer-Encoding: chunked\r\n",
        ),
    ];
    for (lines, framing, expected) in cases {
        let head = request(&format!("POST / HTTP/1.1\r\n{lines}\r\n"));
        let mut out = Vec::new();
        request_head(&head, &Edits::default(), framing, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("POST / HTTP/1.1\r\n{expected}\r\n"),
            "{lines:?} sent as {framing:?}"
        );
    }
}

#[test]
fn a_dropped_framing_field_is_replaced() {
    let head = request("POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n");
    let mut edits = Edits::default();
    edits.drop_known(&head.buf, Name::ContentLength);
    assert_eq!(
        written_request(&head, &edits),
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
    );
}

#[test]
fn answers_without_a_body_keep_a_length_only_where_it_means_something() {
    let with = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
    let without = |status: &str| format!("HTTP/1.1 {status}\r\n\r\n");
    assert_eq!(written_response(&with("200 OK"), Method::Head), with("200 OK"));
    assert_eq!(
        written_response(&with("304 Not Modified"), Method::Get),
        with("304 Not Modified")
    );
    assert_eq!(
        written_response(&with("204 No Content"), Method::Get),
        without("204 No Content")
    );
    assert_eq!(
        written_response(&with("103 Early Hints"), Method::Get),
        without("103 Early Hints")
    );
    assert_eq!(
        written_response(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Method::Head
        ),
        without("200 OK")
    );
}

#[test]
fn own_answers_are_complete_and_cannot_be_split() {
    let mut out = Vec::new();
    simple_response(
        308,
        &[("Location", b"https://a/\r\nx: y"), ("Connection", b"close")],
        b"moved",
        true,
        &mut out,
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://a/  x: y\r\nConnection: close\r\nContent-Length: 5\r\n\r\nmoved"
    );
    let mut out = Vec::new();
    simple_response(200, &[], b"hello", false, &mut out);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let mut out = Vec::new();
    simple_response(204, &[], b"", true, &mut out);
    assert_eq!(out, b"HTTP/1.1 204 No Content\r\n\r\n");
    let mut out = Vec::new();
    simple_response(299, &[], b"", true, &mut out);
    assert_eq!(out, b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn chunk_sizes_are_plain_hexadecimal() {
    for size in [0, 1, 9, 10, 15, 16, 255, 256, 0xabc_def, u64::MAX] {
        let mut out = Vec::new();
        chunk_size(size, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{size:x}\r\n"));
    }
}
