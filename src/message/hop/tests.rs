use super::*;
use proptest::prelude::*;

fn fields(lines: &[(&str, &str)]) -> HeadBuf {
    let mut buf = HeadBuf::default();
    buf.push_lines(lines);
    buf
}

fn kept<'a>(lines: &[(&'a str, &str)]) -> Vec<&'a str> {
    let head = fields(lines);
    let mut edits = Edits::default();
    drop_hop_by_hop(&head, &mut edits);
    (0..lines.len())
        .filter(|&i| !edits.is_dropped(i))
        .map(|i| lines[i].0)
        .collect()
}

#[test]
fn fields_for_one_hop_end_here() {
    let lines = [
        ("Host", "a"),
        ("Connection", "close"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
        ("Proxy-Authorization", "x"),
        ("Proxy-Authenticate", "x"),
        ("TE", "trailers"),
        ("Upgrade", "x"),
        ("HTTP2-Settings", "x"),
        ("Trailer", "x"),
        ("Accept", "x"),
    ];
    assert_eq!(kept(&lines), ["Host", "Trailer", "Accept"]);
}

#[test]
fn nominated_fields_end_here_too() {
    let lines = [
        ("X-A", "1"),
        ("connection", "x-a, , X-B"),
        ("x-b", "2"),
        ("X-C", "3"),
        ("Connection", "x-d"),
        ("x-A", "4"),
        ("X-D", "5"),
    ];
    assert_eq!(kept(&lines), ["X-C"]);
}

#[test]
fn fields_that_carry_framing_routing_or_identity_cannot_be_nominated_away() {
    let names = [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "Forwarded",
        "Cookie",
        "Authorization",
        "X-Request-Id",
    ];
    for name in names {
        assert_eq!(
            kept(&[(name, "1"), ("Connection", &format!("close, {name}"))]),
            [name]
        );
    }
}

#[test]
fn look_alikes_with_underscores_are_dropped() {
    let head = fields(&[
        ("X_Forwarded_For", "1"),
        ("X-Forwarded-For", "1"),
        ("_", "1"),
        ("a_b", "1"),
    ]);
    let mut edits = Edits::default();
    drop_underscored(&head, &mut edits);
    let dropped: Vec<usize> = edits.dropped(4).collect();
    assert_eq!(dropped, [0, 2, 3]);
}

#[test]
fn only_harmless_trailers_are_passed_on() {
    for name in [
        "grpc-status",
        "Server-Timing",
        "X-Checksum",
        "Digest",
        "ETag",
        "user_id",
    ] {
        assert!(is_forwardable_trailer(name.as_bytes()), "{name}");
    }
    let meaningful = [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "Set-Cookie",
        "Content-Encoding",
        "X-Forwarded-Host",
        "X_Forwarded_Host",
        "content_length",
        "Sec-WebSocket-Key",
        "Proxy-Status",
        "WWW-Authenticate",
        "Trailer",
        "Cache-Control",
    ];
    for name in meaningful {
        assert!(!is_forwardable_trailer(name.as_bytes()), "{name}");
    }
}

proptest! {
    #[test]
    fn stripping_twice_is_stripping_once(
        lines in proptest::collection::vec(
            (prop_oneof![Just("Connection"), Just("Host"), Just("x-a"), Just("X-B"), Just("te"), Just("Cookie")],
             "(close|x-a|host|te|,| ){0,4}"), 0..8),
    ) {
        let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let head = fields(&lines);
        let mut edits = Edits::default();
        drop_hop_by_hop(&head, &mut edits);
        let once: Vec<usize> = edits.dropped(lines.len()).collect();
        drop_hop_by_hop(&head, &mut edits);
        prop_assert_eq!(edits.dropped(lines.len()).collect::<Vec<_>>(), once);
        let rest: Vec<(&str, &str)> = (0..lines.len()).filter(|&i| !edits.is_dropped(i)).map(|i| lines[i]).collect();
        prop_assert_eq!(kept(&rest).len(), rest.len());
    }
}
