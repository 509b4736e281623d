//! Whole records through whole formats.

use super::*;
use crate::message::grpc::Code;
use crate::message::head::{Field, HeadBuf, Method, RequestHead, ResponseHead, Span, Version};
use crate::message::names::Name;
use crate::message::token::Token;
use crate::telemetry::access::{
    AnnouncedRecord, AttemptRecord, EndedBy, Outcome, TlsClientRecord, TlsRecord,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

/// So many milliseconds after the requests of these tests began.
fn after(ms: u64) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_millis(ms)
}

/// A head made of any bytes, also such as no parser would let through.
fn head(start: &[&[u8]], fields: &[(&[u8], &[u8])]) -> (Box<HeadBuf>, Vec<Span>) {
    let mut buf = HeadBuf::default();
    let push = |buf: &mut HeadBuf, bytes: &[u8]| {
        let from = buf.bytes.len();
        buf.bytes.extend_from_slice(bytes);
        Span::new(from, buf.bytes.len())
    };
    let spans = start.iter().map(|part| push(&mut buf, part)).collect();
    for (name, value) in fields {
        let lower = name.to_ascii_lowercase();
        let id = Name::ALL
            .iter()
            .find_map(|(id, text)| (text.as_bytes() == lower).then_some(*id))
            .unwrap_or(Name::Other);
        let name = push(&mut buf, name);
        let value = push(&mut buf, value);
        buf.push(Field { name, value, id });
    }
    (Box::new(buf), spans)
}

fn request(method: &[u8], target: &[u8], fields: &[(&[u8], &[u8])]) -> RequestHead {
    let (buf, spans) = head(&[method, target], fields);
    RequestHead {
        buf,
        method: Method::recognise(method),
        method_text: spans[0],
        target: spans[1],
        version: Version::H11,
    }
}

fn response(fields: &[(&[u8], &[u8])]) -> ResponseHead {
    let (buf, spans) = head(&[b"OK"], fields);
    ResponseHead {
        buf,
        version: Version::H11,
        status: 200,
        reason: spans[0],
    }
}

fn record<'a>(request: Option<&'a RequestHead>, attempts: &'a [AttemptRecord<'a>]) -> AccessRecord<'a> {
    AccessRecord {
        start: after(0),
        head_done: after(1),
        end: after(123),
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_677_801_023),
        client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        peer: Some("10.0.0.9:5432".parse().unwrap()),
        server: Some("[::1]:8080".parse().unwrap()),
        announced: None,
        listener: "web",
        scheme: "http",
        tls: None,
        connection: 7,
        connection_requests: 2,
        request,
        host: b"example.com",
        path: b"/a/b",
        request_id: b"0123abcd",
        route: Some("api"),
        upstream: Some("app"),
        status: 200,
        grpc_status: None,
        token: None,
        detail: None,
        timeout: None,
        ended: EndedBy::Done,
        response: None,
        bytes_received: 400,
        bytes_sent: 900,
        body_bytes_sent: 612,
        queued: Duration::from_millis(250),
        sticky: Some("kept"),
        attempts,
        tunnel: None,
    }
}

fn two_attempts() -> [AttemptRecord<'static>; 2] {
    [
        AttemptRecord {
            endpoint: "10.0.0.1:80",
            outcome: Outcome::Failed(Token::ConnectFailed),
            reused: false,
            version: Version::H11,
            started: after(1),
            connected: None,
            head: None,
            ended: after(3),
        },
        AttemptRecord {
            endpoint: "10.0.0.2:80",
            outcome: Outcome::Answered(200),
            reused: true,
            version: Version::H2,
            started: after(3),
            connected: Some(after(4)),
            head: Some(after(100)),
            ended: after(120),
        },
    ]
}

fn line(format: &Format, record: &AccessRecord<'_>) -> String {
    let mut out = Vec::new();
    format.write(record, &mut out);
    String::from_utf8(out).unwrap()
}

fn written(template: &str, record: &AccessRecord<'_>) -> String {
    let mut line = line(&Format::template(template).unwrap(), record);
    assert_eq!(line.pop(), Some('\n'));
    line
}

#[test]
fn combined_is_the_line_that_analysers_read() {
    let request = request(
        b"GET",
        b"/a/b?x=1",
        &[
            (b"Referer", b"https://here/"),
            (b"User-Agent", b"curl/8 \"x\""),
            (b"Authorization", b"Basic YWxpY2U6czNjcmV0"),
        ],
    );
    let line = line(&Format::combined(), &record(Some(&request), &[]));
    let pattern = r#"^203\.0\.113\.9 - alice \[2\d/Nov/2025:\d\d:\d\d:01 [+-]\d{4}\] "GET /a/b\?x=1 HTTP/1\.1" 200 612 "https://here/" "curl/8 \\x22x\\x22"\n$"#;
    assert!(regex::Regex::new(pattern).unwrap().is_match(&line), "{line}");
}

#[test]
fn without_a_head_combined_has_dashes() {
    let line = line(&Format::combined(), &record(None, &[]));
    assert!(line.contains(r#"] "-" 200 612 "-" "-""#), "{line}");
}

#[test]
fn each_variable_has_its_value() {
    let request = request(
        b"POST",
        b"http://Example.com/a/b?x=1&Y=two",
        &[
            (b"Cookie", b"sid=abc; theme=dark"),
            (b"X-Two", b"1"),
            (b"x-two", b"2"),
            (b"Content-Length", b"5"),
        ],
    );
    let response = response(&[(b"X-Cache", b"HIT")]);
    let attempts = two_attempts();
    let record = AccessRecord {
        response: Some(&response),
        grpc_status: Some(Code::DeadlineExceeded),
        token: Some(Token::Deadline),
        timeout: Some("routes.timeouts.total"),
        detail: Some("why"),
        ..record(Some(&request), &attempts)
    };
    for (template, expected) in [
        ("$remote_addr:$remote_port", "203.0.113.9:5432"),
        ("$realip_remote_addr", "10.0.0.9"),
        ("$msec", "1763677801.023"),
        ("$request", "POST http://Example.com/a/b?x=1&Y=two HTTP/1.1"),
        ("$request_method $request_uri", "POST /a/b?x=1&Y=two"),
        ("$uri$is_args$args", "/a/b?x=1&Y=two"),
        ("$arg_x $arg_y $arg_z", "1 two -"),
        ("$cookie_theme $cookie_sid $cookie_none", "dark abc -"),
        ("$http_x_two $http_none", "1, 2 -"),
        ("$upstream_http_x_cache", "HIT"),
        (
            "$scheme $https $host $server_protocol",
            "http - example.com HTTP/1.1",
        ),
        ("$ssl_protocol $ssl_session_reused $ssl_client_verify", "- - -"),
        ("$content_length $content_type", "5 -"),
        (
            "$status $bytes_sent $body_bytes_sent $request_length",
            "200 900 612 400",
        ),
        (
            "$request_time $request_id $request_completion",
            "0.123 0123abcd OK",
        ),
        ("$connection/$connection_requests$pipe", "7/2."),
        ("$server_addr $server_port $server_name", "::1 8080 web"),
        ("$upstream_addr", "10.0.0.1:80, 10.0.0.2:80"),
        ("$upstream_status", "502, 200"),
        ("$tidegate_upstream_protocol", "HTTP/1.1, HTTP/2.0"),
        ("$upstream_connect_time", "-, 0.001"),
        ("$upstream_header_time", "-, 0.097"),
        ("$upstream_response_time", "0.002, 0.117"),
        ("$upstream_queue_time $tidegate_queue_time", "0.250 0.250"),
        ("$tidegate_sticky", "kept"),
        (
            "$tidegate_route $tidegate_upstream $tidegate_listener",
            "api app web",
        ),
        (
            "$tidegate_grpc_status $tidegate_token $tidegate_timeout $tidegate_detail",
            "4 deadline routes.timeouts.total why",
        ),
        (
            "$tidegate_ended $tidegate_attempts $tidegate_client",
            "done 2 203.0.113.9",
        ),
    ] {
        assert_eq!(written(template, &record), expected, "{template}");
    }
    assert_eq!(written("$pid", &record), std::process::id().to_string());
    assert_ne!(written("$hostname", &record), "-");
}

#[test]
fn no_variable_is_left_out_or_panics_without_a_request() {
    let empty = AccessRecord {
        peer: None,
        server: None,
        route: None,
        upstream: None,
        ..record(None, &[])
    };
    for (name, _) in variables::PLAIN {
        assert!(!written(&format!("${name}"), &empty).is_empty(), "{name}");
    }
}

#[test]
fn the_json_line_has_every_field() {
    let request = request(
        b"GET",
        b"/a?x=1",
        &[(b"User-Agent", b"a\"b"), (b"Referer", b"/r")],
    );
    let response = response(&[(b"Content-Type", b"text/html")]);
    let attempts = two_attempts();
    let record = AccessRecord {
        response: Some(&response),
        ..record(Some(&request), &attempts)
    };
    let line = line(&Format::json(), &record);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected: serde_json::Value = serde_json::from_str(
        r#"{
        "time": "2025-11-20T22:30:00.900000Z", "duration_ms": 123.0, "head_ms": 1.0,
        "client": "203.0.113.9", "peer": "10.0.0.9:5432", "server": "[::1]:8080",
        "proxy_protocol": null, "listener": "web", "scheme": "http", "tls": null,
        "connection": 7, "connection_requests": 2,
        "method": "GET", "target": "/a?x=1", "version": "HTTP/1.1", "host": "example.com", "path": "/a/b",
        "referer": "/r", "user_agent": "a\"b", "request_id": "0123abcd", "route": "api", "upstream": "app",
        "status": 200, "upstream_status": 200, "content_type": "text/html",
        "grpc_status": null, "token": null, "detail": null, "timeout": null, "ended": "done",
        "bytes_received": 400, "bytes_sent": 900, "body_bytes_sent": 612, "tunnel": false,
        "close": null, "close_code": null, "messages_received": null, "messages_sent": null,
        "queue_ms": 250.0, "sticky": "kept", "attempts": [
            { "endpoint": "10.0.0.1:80", "outcome": "failed", "status": null, "token": "connect_failed",
              "reused": false, "protocol": "HTTP/1.1", "started_ms": 1.0, "connected_ms": null, "head_ms": null, "ended_ms": 3.0 },
            { "endpoint": "10.0.0.2:80", "outcome": "answered", "status": 200, "token": null,
              "reused": true, "protocol": "HTTP/2.0", "started_ms": 3.0, "connected_ms": 4.0, "head_ms": 100.0, "ended_ms": 120.0 }
        ]
    }"#,
    )
    .unwrap();
    assert_eq!(value, expected);
}

#[test]
fn secrets_in_a_query_appear_in_no_format() {
    let secret = b"/a?token=SECRET&next=/b?token=SECRET".as_slice();
    let request = request(b"GET", secret, &[(b"Referer", b"https://h/?x=1;token=SECRET")]);
    let response = response(&[(b"Location", secret)]);
    let record = AccessRecord {
        response: Some(&response),
        ..record(Some(&request), &[])
    };
    let redact = Redact::new(&["token".into()]);
    let everything = "$request $request_uri $args $query_string $arg_token $arg_next $http_referer $upstream_http_location";
    for format in [
        Format::combined(),
        Format::json(),
        Format::template(everything).unwrap(),
        Format::template(&format!("escape=json {everything}")).unwrap(),
    ] {
        assert!(
            line(&format, &record).contains("SECRET"),
            "the test shows nothing"
        );
        let line = line(&format.redacting(redact.clone()), &record);
        assert!(!line.contains("SECRET"), "{line}");
        assert!(line.contains("token=***"), "{line}");
    }
}

#[test]
fn credentials_that_are_none_leave_the_user_empty() {
    for value in [
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Bearer YWxpY2U6cw==",
        "Basic YWxpY2U=",
        "Basicé",
    ] {
        let request = request(b"GET", b"/", &[(b"Authorization", value.as_bytes())]);
        assert_eq!(
            written("$remote_user", &record(Some(&request), &[])),
            "-",
            "{value}"
        );
    }
    let long = format!("basic {}", "YWFh".repeat(1000));
    let request = request(b"GET", b"/", &[(b"Authorization", long.as_bytes())]);
    assert_eq!(written("$remote_user", &record(Some(&request), &[])), "-");
}

proptest! {
    /// The fields that carry a client's or an endpoint's bytes, with any bytes at all.
    #[test]
    fn no_request_can_forge_or_break_a_line(
        method: Vec<u8>, target: Vec<u8>, value: Vec<u8>, path: Vec<u8>, id: Vec<u8>, host: Vec<u8>, endpoint: String,
    ) {
        let fields: [(&[u8], &[u8]); 6] = [
            (b"Referer", &value), (b"User-Agent", &value), (b"Cookie", &value),
            (b"X-Any", &value), (b"Authorization", &value), (b"Content-Type", &value),
        ];
        let request = request(&method, &target, &fields);
        let response = response(&fields);
        let mut attempts = two_attempts();
        attempts[0].endpoint = &endpoint;
        let record = AccessRecord {
            path: &path, request_id: &id, host: &host, response: Some(&response),
            ..record(Some(&request), &attempts)
        };
        let all: String = variables::PLAIN.iter().map(|(name, _)| format!("${name} ")).collect();
        let quoted: String = variables::PLAIN.iter().map(|(name, _)| format!("\"{name}\":\"${name}\",")).collect();
        let named = "$http_x_any $http_cookie $upstream_http_x_any $cookie_a $arg_a";
        for redact in [Redact::default(), Redact::new(&["a".into()])] {
            for text in [COMBINED, &all, named] {
                let line = line(&Format::template(text).unwrap().redacting(redact.clone()), &record);
                prop_assert_eq!(line.lines().count(), 1);
                prop_assert!(line.trim_end_matches('\n').bytes().all(|b| (0x20..0x7f).contains(&b)));
            }
            let own = line(&Format::json().redacting(redact.clone()), &record);
            let template = format!("escape=json {{{quoted}\"end\":\"$http_x_any\"}}");
            let theirs = line(&Format::template(&template).unwrap().redacting(redact.clone()), &record);
            for line in [own, theirs] {
                prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
                let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                prop_assert!(value.is_object());
            }
        }
    }
}

#[test]
fn what_a_proxy_announces_stands_beside_its_own_address() {
    let record = AccessRecord {
        announced: Some(AnnouncedRecord {
            version: 2,
            source: Some("203.0.113.9:5000".parse().unwrap()),
            authority: Some(b"a\"b"),
            unique_id: Some(b"id-1"),
            ..AnnouncedRecord::default()
        }),
        ..record(None, &[])
    };
    assert_eq!(
        written(
            "$remote_port $realip_remote_addr $proxy_protocol_addr:$proxy_protocol_port",
            &record
        ),
        "5000 10.0.0.9 203.0.113.9:5000"
    );
    assert_eq!(
        written(
            "$proxy_protocol_server_addr $proxy_protocol_tlv_unique_id $proxy_protocol_tlv_alpn",
            &record
        ),
        "- id-1 -"
    );
    let value: serde_json::Value = serde_json::from_str(&line(&Format::json(), &record)).unwrap();
    let expected = serde_json::json!({
        "version": 2, "source": "203.0.113.9:5000", "destination": null, "alpn": null, "authority": "a\"b",
        "unique_id": "id-1", "tls_version": null, "tls_common_name": null, "tls_cipher": null,
    });
    assert_eq!(value["proxy_protocol"], expected);
    assert_eq!(value["peer"], "10.0.0.9:5432");
}

#[test]
fn an_unusual_peer_is_still_an_address() {
    let peer: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    let record = AccessRecord {
        client: peer.ip(),
        peer: Some(peer),
        ..record(None, &[])
    };
    assert_eq!(written("$remote_addr $remote_port", &record), "2001:db8::1 1");
    assert!(line(&Format::json(), &record).contains(r#""peer":"[2001:db8::1]:1""#));
}

#[test]
fn a_session_is_told_in_nginxs_words() {
    let attempts = two_attempts();
    let client = TlsClientRecord {
        subject: "CN=me",
        issuer: "CN=us",
        serial: "7f",
        fingerprint: "ab12",
    };
    let tls = TlsRecord {
        protocol: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        group: "X25519",
        alpn: Some(b"http/1.1"),
        server_name: Some("a.test"),
        resumed: true,
        client: Some(client),
    };
    let record = AccessRecord {
        tls: Some(tls),
        ..record(None, &attempts)
    };
    for (template, expected) in [
        (
            "$ssl_protocol $ssl_cipher $ssl_curve",
            "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519",
        ),
        (
            "$ssl_server_name $ssl_alpn_protocol $ssl_session_reused",
            "a.test http/1.1 r",
        ),
        (
            "$ssl_client_verify $ssl_client_s_dn $ssl_client_i_dn",
            "SUCCESS CN=me CN=us",
        ),
        ("$ssl_client_serial $ssl_client_fingerprint", "7f ab12"),
    ] {
        assert_eq!(
            line(&Format::template(template).unwrap(), &record),
            format!("{expected}\n")
        );
    }
}
