//! PROXY protocol headers to endpoints: whose connection they are told it is, and that it stays that client's.

use crate::gateway;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use testkit::backend::Visit;
use testkit::{Address, Backend, Builder, Conn, eventually, ws};

/// The header with which a connection begins, as `SOURCE DESTINATION`, or `local`, or `unknown`.
fn header(conn: &mut Conn) -> Option<String> {
    let first = conn.try_read(1).ok()?;
    if first == b"P" {
        let line = String::from_utf8(conn.try_read_through(b"\r\n").ok()?).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        return Some(match words[..] {
            ["ROXY", "UNKNOWN"] => "unknown".to_owned(),
            ["ROXY", "TCP4", source, destination, source_port, destination_port] => {
                format!("{source}:{source_port} {destination}:{destination_port}")
            }
            _ => panic!("{line:?}"),
        });
    }
    let fixed = conn.try_read(15).ok()?;
    assert_eq!(&fixed[..11], b"\n\r\n\0\r\nQUIT\n");
    let payload = conn
        .try_read(u16::from_be_bytes([fixed[13], fixed[14]]).into())
        .ok()?;
    Some(match (fixed[11], fixed[12], &payload[..]) {
        (0x20, _, []) => "local".to_owned(),
        (0x21, 0, []) => "unknown".to_owned(),
        (0x21, 0x11, [a, b, c, d, e, f, g, h, ports @ ..]) => {
            let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
            format!("{a}.{b}.{c}.{d}:{} {e}.{f}.{g}.{h}:{}", port(0), port(2))
        }
        other => panic!("{other:?}"),
    })
}

/// A server that wants a header on each connection and answers requests with it and the connection's number.
fn announced_to(play: impl Fn(&str, &mut Conn, &Visit) + Send + Sync + 'static) -> Backend {
    Backend::script(move |conn, visit| {
        if let Some(header) = header(conn) {
            play(&header, conn, visit);
        }
    })
}

fn answering() -> Backend {
    announced_to(|header, conn, visit| {
        while let Ok(request) = conn.try_request() {
            visit.hit(request);
            let body = format!("{header} #{}", visit.connection);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if conn.try_send(answer).is_err() {
                return;
            }
        }
    })
}

fn telling(version: &str, more: &str, backend: &Backend) -> Builder {
    gateway(
        r#"
        runtime = { workers = 1 }
        [listeners.web]
        address = "127.0.0.1:0"
        [listeners.announced]
        address = "127.0.0.1:0"
        proxy_protocol = { trusted = ["127.0.0.1"] }
        [listeners.local]
        address = "unix:@dir@/web.sock"
        [[routes]]
        upstream = "app"
        [upstreams.app]
        endpoints = ["@app@"]
        proxy_protocol = { send = "@version@" }
        @more@
        "#,
    )
    .with("version", version)
    .with("more", more)
    .with("app", backend.address())
}

#[test]
fn endpoints_are_told_the_clients_address_and_ours() {
    let backend = answering();
    for version in ["v1", "v2"] {
        let gateway = telling(version, "", &backend).start();
        let mut conn = Conn::connect_from(Ipv4Addr::new(127, 0, 0, 3), gateway.addr("web"));
        let (from, to) = (conn.local(), gateway.addr("web"));
        assert!(from.starts_with("127.0.0.3:"));
        let answer = conn.get("/").text();
        assert!(answer.starts_with(&format!("{from} {to} #")), "{answer}");
    }
}

#[test]
fn a_connection_is_used_again_by_its_client_and_by_nobody_else() {
    let backend = answering();
    let gateway = telling("v2", "", &backend).start();
    let mut first = gateway_conn(&gateway.addr("web"));
    let mut second = gateway_conn(&gateway.addr("web"));
    let firsts: Vec<String> = (0..3).map(|_| first.get("/").text()).collect();
    let seconds: Vec<String> = (0..3).map(|_| second.get("/").text()).collect();
    assert!(firsts.iter().all(|answer| *answer == firsts[0]), "{firsts:?}");
    assert!(seconds.iter().all(|answer| *answer == seconds[0]), "{seconds:?}");
    assert!(firsts[0].starts_with(&first.local()) && seconds[0].starts_with(&second.local()));
    assert_eq!(first.get("/").text(), firsts[0], "after others were served");
    assert_eq!(backend.connections(), 2);
    drop((first, second));
    eventually("connections of clients that left are closed", || {
        backend.open_connections() == 0
    });
}

fn gateway_conn(address: &Address) -> Conn {
    Conn::connect(address.clone())
}

#[test]
fn connections_of_clients_that_left_do_not_fill_the_pool() {
    let backend = answering();
    let gateway = telling("v1", "pool = { idle_per_worker = 2 }", &backend).start();
    for _ in 0..4 {
        assert_eq!(gateway_conn(&gateway.addr("web")).get("/").status, 200);
    }
    let mut client = gateway_conn(&gateway.addr("web"));
    let before = client.get("/").text();
    assert_eq!(client.get("/").text(), before);
}

#[test]
fn what_a_proxy_in_front_announces_is_passed_on() {
    let backend = answering();
    let gateway = telling("v2", "", &backend).start();
    let mut conn = gateway_conn(&gateway.addr("announced"));
    conn.send("PROXY TCP4 203.0.113.9 198.51.100.1 5000 443\r\n");
    let answer = conn.get("/").text();
    assert!(
        answer.starts_with("203.0.113.9:5000 198.51.100.1:443 #"),
        "{answer}"
    );
    // The same address with another connection is another client.
    let mut conn = gateway_conn(&gateway.addr("announced"));
    conn.send("PROXY TCP4 203.0.113.9 198.51.100.1 5000 443\r\n");
    assert_ne!(conn.get("/").text(), answer);
}

#[test]
fn a_client_without_an_address_is_told_to_be_unknown() {
    let backend = answering();
    for version in ["v1", "v2"] {
        let gateway = telling(version, "", &backend).start();
        let answer = gateway_conn(&gateway.addr("local")).get("/").text();
        assert!(answer.starts_with("unknown #"), "{answer}");
    }
}

#[test]
fn tunnels_begin_with_the_header_too() {
    let backend = announced_to(|header, conn, _| {
        let request = conn.request();
        assert_eq!(request.header("upgrade"), Some("websocket"));
        conn.send(ws::accepted(
            request.header("sec-websocket-key").unwrap_or_default(),
        ));
        conn.send(format!("{header}\n"));
        let said = conn.read(4);
        conn.send(said);
    });
    let gateway = telling("v2", "", &backend).start();
    let mut conn = gateway_conn(&gateway.addr("web"));
    conn.send(ws::handshake("/ws", ""));
    let head = conn.read_through(b"\r\n\r\n");
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
    let told = String::from_utf8(conn.read_through(b"\n")).unwrap();
    assert!(told.starts_with(&conn.local()), "{told}");
    conn.send("ping");
    assert_eq!(conn.read(4), b"ping");
}

#[test]
fn probes_say_that_they_are_the_gateways_own() {
    for (version, said) in [("v1", "unknown"), ("v2", "local")] {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let backend = {
            let heard = Arc::clone(&heard);
            announced_to(move |header, conn, _| {
                heard.lock().unwrap().push(header.to_owned());
                while conn.try_request().is_ok() {
                    conn.send("HTTP/1.1 204 No Content\r\n\r\n");
                }
            })
        };
        let health = r#"health = { interval = "50ms", timeout = "2s" }"#;
        let gateway = telling(version, health, &backend).start();
        let healthy = || gateway.metric("tidegate_endpoint_health", &[]) == 1.0;
        eventually("the endpoint is well", || {
            healthy() && heard.lock().unwrap().len() > 2
        });
        assert!(heard.lock().unwrap().iter().all(|header| header == said));
    }
}

#[test]
fn a_reload_that_changes_the_header_leaves_no_connection_of_the_old_way() {
    let backend = answering();
    let gateway = telling("v1", "", &backend).start();
    let mut conn = gateway_conn(&gateway.addr("web"));
    let before = conn.get("/").text();
    let config = gateway.read("tidegate.toml");
    gateway.reload(&format!("{config}\n# nothing that matters here\n"));
    assert_eq!(conn.get("/").text(), before, "the pool outlives a reload");
    gateway.reload(&config.replace("send = \"v1\"", "send = \"v2\""));
    let after = conn.get("/").text();
    assert!(after.starts_with(&conn.local()) && after != before, "{after}");
    let idle = || gateway.metric("tidegate_upstream_connections", &[r#"state="idle""#]);
    eventually("that of the old way is gone, and the new one is kept", || {
        idle() == 1.0
    });
}
