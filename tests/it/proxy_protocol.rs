//! PROXY protocol headers from proxies in front: whose connection it is from then on, and what is refused.

use crate::gateway;
use std::net::Ipv4Addr;
use testkit::{Backend, Broken, Builder, Ca, Conn, Gateway, Reply, Request, TlsClient};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const GET: &str = "GET /x HTTP/1.1\r\nHost: test\r\n\r\n";

/// A version 2 header.
fn v2(version_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [V2, &[version_command, family], &length, payload].concat()
}

/// One for 203.0.113.9:5000 at 198.51.100.1:443.
fn announced(more: &[u8]) -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 198, 51, 100, 1, 0x13, 0x88, 0x01, 0xbb];
    v2(0x21, 0x11, &[&addresses, more].concat())
}

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 5000 443\r\n";

/// Answers with what it is told of the client.
fn told(request: &Request) -> Reply {
    let of = |name| request.header(name).unwrap_or("-").to_owned();
    Reply::ok(format!(
        "{} {} {}",
        of("x-forwarded-for"),
        of("x-real-ip"),
        of("x-forwarded-port")
    ))
}

fn behind(proxy_protocol: &str, more: &str, backend: &Backend) -> Builder {
    gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        proxy_protocol = { @proxy_protocol@ }
        @more@

        [[routes]]
        name = "office"
        paths = ["/office"]
        client_ip = ["203.0.113.0/24"]
        respond = { body = "hello" }

        [[routes]]
        upstream = "app"

        [upstreams.app]
        endpoints = ["@app@"]

        [log]
        access = { path = "access.log", format = "json" }
        "#,
    )
    .with("proxy_protocol", proxy_protocol)
    .with("more", more)
    .with("app", backend.address())
}

fn trusting(backend: &Backend) -> Gateway {
    behind(r#"trusted = ["127.0.0.1"]"#, "", backend).start()
}

fn faults(gateway: &Gateway, fault: &str) -> f64 {
    gateway.metric(
        "tidegate_proxy_protocol_refused_total",
        &[&format!("fault=\"{fault}\"")],
    )
}

#[test]
fn the_announced_address_is_the_clients_from_then_on() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    for (version, header) in [(1, LINE.to_vec()), (2, announced(b""))] {
        let mut conn = gateway.connect();
        conn.send(&header);
        let port = conn.local().rsplit(':').next().unwrap().to_owned();
        let path = format!("/v{version}");
        assert_eq!(conn.get(&path).text(), "203.0.113.9 203.0.113.9 443");
        assert_eq!(
            conn.get("/office").text(),
            "hello",
            "routes see it, on later requests too"
        );
        let record = gateway.access_record(&path);
        assert_eq!(record["client"], "203.0.113.9");
        // The proxy itself stays known.
        assert_eq!(record["peer"], format!("127.0.0.1:{port}"));
        assert_eq!(record["server"], "198.51.100.1:443");
        let told = &record["proxy_protocol"];
        assert_eq!(told["source"], "203.0.113.9:5000");
        assert_eq!(told["version"], version);
    }
}

#[test]
fn ipv6_addresses_are_announced_in_both_versions() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    let v6 = |last: u8| [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
    let binary = v2(0x21, 0x21, &[&v6(1)[..], &v6(2), &[0, 80, 1, 187]].concat());
    for header in [b"PROXY TCP6 2001:db8::1 2001:db8::2 80 443\r\n".to_vec(), binary] {
        assert_eq!(
            gateway.connect().send(header).get("/x").text(),
            "2001:db8::1 2001:db8::1 443"
        );
    }
}

#[test]
fn it_does_not_matter_how_the_bytes_come() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    for header in [LINE.to_vec(), announced(b"\x04\x00\x02\0\0")] {
        let all = [&header[..], GET.as_bytes()].concat();
        assert_eq!(
            gateway.connect().send(&all).response().text(),
            "203.0.113.9 203.0.113.9 443"
        );
        assert_eq!(
            gateway.connect().send_bytewise(&all).response().text(),
            "203.0.113.9 203.0.113.9 443"
        );
        let mut conn = gateway.connect();
        conn.send(&header[..header.len() - 1]);
        assert!(conn.is_quiet());
        conn.send(&all[header.len() - 1..]);
        assert_eq!(conn.response().text(), "203.0.113.9 203.0.113.9 443");
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_or_for_nobody_it_knows_is_the_client_itself() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    let port = gateway.web().port();
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x20, 0x00, b""),
        v2(0x20, 0x11, &[9; 12]),
        v2(0x21, 0x00, b""),
        v2(0x21, 0x31, &[b'a'; 216]),
    ] {
        let answer = gateway.connect().send(&header).get("/x").text();
        assert_eq!(
            answer,
            format!("127.0.0.1 127.0.0.1 {port}"),
            "{}",
            header.escape_ascii()
        );
    }
}

#[test]
fn headers_of_peers_that_are_not_trusted_are_not_even_read() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    let mut stranger = Conn::connect_from(Ipv4Addr::new(127, 0, 0, 2), gateway.web());
    let _ = stranger.try_send([LINE, GET.as_bytes()].concat());
    assert!(stranger.try_read(1).is_err());
    gateway.await_log("only proxies of proxy_protocol.trusted connect here");
    assert!(gateway.log().contains("127.0.0.2"));
    assert_eq!((faults(&gateway, "untrusted"), backend.hits()), (1.0, 0));
}

#[test]
fn connections_that_break_a_rule_are_closed_counted_and_told() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    let long = format!("PROXY TCP4 {}", "1".repeat(200));
    let sum = announced(b"\x03\x00\x04\x01\x02\x03\x04");
    for (bytes, fault, rule) in [
        (
            GET.as_bytes().to_vec(),
            "missing",
            "does not begin with a PROXY protocol header",
        ),
        (vec![0x16, 3, 1, 2, 0, 1, 0, 1], "missing", "does not begin"),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n".to_vec(),
            "malformed",
            "a port is a number",
        ),
        (
            announced(&[1, 0, 200, 0]),
            "malformed",
            "values end where the header ends",
        ),
        (
            v2(0x31, 0x11, &[0; 12]),
            "malformed",
            "the version behind the signature is 2",
        ),
        (long.into_bytes(), "too_large", "107 bytes"),
        (v2(0x21, 0x11, &[0; 4081]), "too_large", "4096 bytes"),
        (sum, "checksum", "the CRC32C is that of the header"),
    ] {
        let before = faults(&gateway, fault);
        let mut conn = gateway.connect();
        let _ = conn.try_send(&bytes);
        let end = conn.try_read(1);
        assert!(
            matches!(end, Err(Broken::Closed | Broken::Reset)),
            "{end:?}: {}",
            bytes.escape_ascii()
        );
        assert_eq!(faults(&gateway, fault), before + 1.0, "{fault}");
        if before == 0.0 {
            gateway.await_log(rule);
        }
    }
    assert_eq!(backend.hits(), 0);
    assert_eq!(
        gateway.connect().send(LINE).get("/x").status,
        200,
        "others are served"
    );
}

#[test]
fn a_connection_that_ends_before_its_header_does_is_counted_and_a_check_of_the_port_not_told() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    gateway.connect().half_close().expect_end();
    gateway.connect().send(&LINE[..10]).half_close().expect_end();
    assert_eq!((faults(&gateway, "empty"), faults(&gateway, "ended")), (1.0, 1.0));
    gateway.await_log("a connection does not end within its header");
    assert!(!gateway.log().contains("says something"));
}

#[test]
fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let backend = Backend::http(told);
    let keys = r#"trusted = ["127.0.0.1"], timeout = "100ms""#;
    let gateway = behind(keys, "", &backend).start();
    let mut silent = gateway.connect();
    let mut slow = gateway.connect();
    slow.send(&LINE[..20]);
    silent.expect_end();
    slow.expect_end();
    assert_eq!(faults(&gateway, "timeout"), 2.0);
    gateway.await_log("proxy_protocol.timeout");
}

#[test]
fn connections_are_counted_for_the_client_and_not_for_the_proxy() {
    let backend = Backend::http(told);
    let gateway = behind(
        r#"trusted = ["127.0.0.1"]"#,
        "limits = { connections_per_ip = 1 }",
        &backend,
    )
    .start();
    let of = |last: u8| {
        let mut conn = gateway.connect();
        conn.send(format!(
            "PROXY TCP4 203.0.113.{last} 198.51.100.1 5000 443\r\n{GET}"
        ));
        (conn.response().status, conn)
    };
    let (first, _first) = of(1);
    let (again, _again) = of(1);
    let (other, _other) = of(2);
    assert_eq!((first, again, other), (200, 503, 200));
}

#[test]
fn forwarded_headers_are_believed_by_the_announced_address() {
    let backend = Backend::http(told);
    let more = r#"trusted_proxies = ["203.0.113.9"]"#;
    let gateway = behind(r#"trusted = ["127.0.0.1"]"#, more, &backend).start();
    let ask = |header: &[u8]| {
        let mut conn = gateway.connect();
        conn.send(header)
            .send("GET /x HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
        conn.response().text()
    };
    assert_eq!(ask(LINE), "192.0.2.7, 203.0.113.9 192.0.2.7 443");
    let other = b"PROXY TCP4 203.0.113.8 198.51.100.1 5000 443\r\n";
    assert_eq!(ask(other), "203.0.113.8 203.0.113.8 443");
}

#[test]
fn keys_are_hashed_by_the_announced_address() {
    let backends = Backend::replicas(&["a", "b", "c"]);
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "127.0.0.1:0"
        proxy_protocol = { trusted = ["127.0.0.0/8"] }
        [[routes]]
        upstream = "app"
        [upstreams.app]
        balance = "ip_hash"
        endpoints = [@list@]
        "#,
    )
    .with("list", Backend::list(&backends))
    .start();
    let served_by = |last: u8| {
        let mut conn = gateway.connect();
        conn.send(format!("PROXY TCP4 203.0.113.{last} 198.51.100.1 5000 443\r\n"));
        conn.get("/").text()
    };
    let first: Vec<String> = (0..20).map(served_by).collect();
    assert!(
        first.iter().any(|name| *name != first[0]),
        "clients spread: {first:?}"
    );
    assert_eq!(
        first,
        (0..20).map(served_by).collect::<Vec<_>>(),
        "each to its own"
    );
}

#[test]
fn unix_sockets_take_headers_too() {
    let backend = Backend::http(told);
    let gateway = gateway(
        r#"
        [listeners.web]
        address = "unix:@dir@/web.sock"
        proxy_protocol = { trusted = ["127.0.0.1"] }
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = ["@app@"]
        "#,
    )
    .with("app", backend.address())
    .start();
    let mut conn = Conn::connect(gateway.web());
    assert_eq!(conn.send(LINE).get("/x").text(), "203.0.113.9 203.0.113.9 443");
}

#[test]
fn tls_begins_behind_the_header() {
    let (ca, backend) = (Ca::default(), Backend::http(told));
    let leaf = ca.leaf(&["a.test"]);
    let tls = r#"tls = { certificates = [{ cert = "a.pem", key = "a.key" }] }"#;
    let gateway = behind(r#"trusted = ["127.0.0.1"]"#, tls, &backend)
        .file("a.pem", &leaf.chain)
        .file("a.key", &leaf.key)
        .start();
    for header in [LINE.to_vec(), announced(b"")] {
        let mut conn = gateway.connect();
        conn.send(&header);
        let client = TlsClient::trusting(&ca).build();
        let mut conn = client.try_over(conn, "a.test").expect("a handshake");
        assert_eq!(
            conn.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n")
                .response()
                .text(),
            "203.0.113.9 203.0.113.9 443"
        );
    }
    let conn = gateway.connect();
    let without = TlsClient::trusting(&ca).build().try_over(conn, "a.test");
    assert!(without.is_err());
    assert_eq!(faults(&gateway, "missing"), 1.0);
}

#[test]
fn who_spoke_tls_to_the_proxy_came_by_https() {
    // SSL: the flags of the client, the verdict on its certificate, and the version as a value within.
    let spoken = announced(b"\x20\x00\x0f\x01\0\0\0\0\x21\x00\x07TLSv1.3");
    let denied = announced(b"\x20\x00\x05\x00\0\0\0\0");
    let local = v2(0x20, 0x11, b"");
    let backend = Backend::http(|request| {
        let of = |name| request.header(name).unwrap_or("-").to_owned();
        Reply::ok(format!("{} {}", of("x-forwarded-proto"), of("forwarded")))
    });
    let more = "redirect_https = true\nforwarded = { x_forwarded = true, forwarded = true }";
    let gateway = behind(r#"trusted = ["127.0.0.1"]"#, more, &backend).start();
    for path in ["/first", "/second"] {
        let mut conn = gateway.connect();
        let response = conn.send(&spoken).get(path);
        assert_eq!(response.text(), "https for=203.0.113.9;proto=https;host=\"test\"");
        let record = gateway.access_record(path);
        assert_eq!(record["scheme"], "https");
        assert_eq!(record["proxy_protocol"]["tls_version"], "TLSv1.3");
        assert!(record["tls"].is_null(), "it is the proxy's, not ours");
    }
    for header in [announced(b""), denied, local, LINE.to_vec()] {
        let response = gateway.connect().send(header).get("/x");
        assert_eq!(
            (response.status, response.header("location")),
            (308, Some("https://test/x"))
        );
    }
}

#[test]
fn where_no_header_is_expected_one_is_a_bad_request() {
    let backend = Backend::http(told);
    let gateway = crate::in_front_of(&backend);
    for header in [LINE.to_vec(), announced(b"")] {
        let mut conn = gateway.connect();
        conn.send([&header[..], GET.as_bytes()].concat());
        conn.response().expect(400, Some("bad_request"));
        conn.expect_end();
    }
    assert_eq!(backend.hits(), 0);
}

#[test]
fn a_reload_changes_what_new_connections_begin_with() {
    let backend = Backend::http(told);
    let gateway = trusting(&backend);
    let mut before = gateway.connect();
    assert_eq!(before.send(LINE).get("/x").status, 200);
    gateway.reload(&crate::PLAIN.replace("@app@", &backend.address().to_string()));
    assert!(gateway.get("/x").text().starts_with("127.0.0.1 "));
    assert_eq!(
        before.get("/x").text(),
        "203.0.113.9 203.0.113.9 443",
        "what was announced stands"
    );
}

#[test]
fn a_listener_that_trusts_nobody_is_refused_and_one_that_trusts_everybody_told() {
    let backend = Backend::http(told);
    let ran = behind("trusted = []", "", &backend)
        .try_start()
        .expect_err("an error");
    assert!(
        ran.stderr
            .contains("nobody is trusted to send PROXY protocol headers"),
        "{}",
        ran.stderr
    );
    let gateway = behind(r#"trusted = ["0.0.0.0/0"]"#, "", &backend).start();
    gateway.await_log("trusts everybody");
}
