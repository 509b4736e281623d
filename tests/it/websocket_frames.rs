//! WebSockets whose frames are looked at: bounded messages, close codes, pings, and goodbyes between frames.

use crate::{PLAIN, gateway};
use serde_json::json;
use std::time::Duration;
use testkit::ws::{self, Client};
use testkit::{Backend, Conn, Gateway, eventually, holds_for, pattern};

fn inspected(backend: &Backend, websocket: &str) -> Gateway {
    let route = format!("[[routes]]\nname = \"chat\"\nwebsocket = {{ {websocket} }}");
    let log = "\n[log]\naccess = { path = \"access.log\", format = \"json\" }\n";
    let config = PLAIN.replace("[[routes]]", &route) + log;
    gateway(&config).with("app", backend.address()).start()
}

/// An endpoint that accepts, says these bytes, and then keeps what it is told.
fn says(bytes: Vec<u8>) -> Backend {
    Backend::script(move |conn, visit| {
        let Ok(request) = conn.try_request() else { return };
        let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
        visit.hit(request);
        conn.send(ws::accepted(&key));
        let _ = conn.try_send(&bytes);
        conn.wait_for_end();
    })
}

/// The code of the close frame that comes next.
#[track_caller]
fn close_code(conn: &mut Conn) -> u16 {
    let (opcode, payload) = ws::read_frame(conn).expect("a frame");
    assert_eq!(opcode, ws::CLOSE, "{payload:?}");
    u16::from_be_bytes([payload[0], payload[1]])
}

#[test]
fn frames_pass_whole_however_they_are_torn() {
    let backend = ws::echo_backend();
    let gateway = inspected(&backend, "inspect = true");
    let mut client = Client::connect(gateway.connect(), "/");
    client.echo("hello");
    client
        .conn
        .send_bytewise(ws::frame(ws::TEXT, b"byte by byte", true));
    assert_eq!(client.receive(), "byte by byte");
    for len in [0, 125, 126, 65_535, 65_536, 3 << 20] {
        let body = pattern::bytes(len);
        client.conn.send(ws::frame(ws::BINARY, &body, true));
        let (_, back) = ws::read_frame(&mut client.conn).expect("the message");
        assert!(back == body, "a message of {len} changed");
    }
    eventually("they are counted", || {
        gateway.metric("tidegate_ws_messages_total", &["from=\"client\""]) == 8.0
            && gateway.metric("tidegate_ws_messages_total", &["from=\"endpoint\""]) == 8.0
    });
}

#[test]
fn a_close_is_told_with_its_code_and_by_whom() {
    let backend = ws::echo_backend();
    let gateway = inspected(&backend, "inspect = true");
    let mut client = Client::connect(gateway.connect(), "/t");
    client.echo("hello");
    client
        .conn
        .send(ws::frame(ws::CLOSE, &4000_u16.to_be_bytes(), true));
    assert_eq!(close_code(&mut client.conn), 4000);
    client.conn.expect_end();
    drop(client);
    let record = gateway.access_record("/t");
    assert_eq!(
        (
            &record["close"],
            &record["close_code"],
            &record["messages_received"],
            &record["messages_sent"]
        ),
        (&json!("client"), &json!(4000), &json!(1), &json!(1)),
        "{record}"
    );
    assert_eq!(
        gateway.metric("tidegate_ws_close_codes_total", &["code=\"4xxx\""]),
        1.0
    );

    let backend = says(ws::frame(ws::CLOSE, &1011_u16.to_be_bytes(), false));
    let gateway = inspected(&backend, "inspect = true");
    let mut client = Client::connect(gateway.connect(), "/t");
    assert_eq!(close_code(&mut client.conn), 1011);
    drop(client);
    let record = gateway.access_record("/t");
    assert_eq!(
        (&record["close"], &record["close_code"]),
        (&json!("endpoint"), &json!(1011)),
        "{record}"
    );
}

#[test]
fn a_message_that_is_too_large_is_not_passed_on() {
    let backend = ws::echo_backend();
    let gateway = inspected(&backend, "max_message = \"1KiB\"");
    let mut client = Client::connect(gateway.connect(), "/t");
    client.echo(&"x".repeat(1024));
    client.conn.send(ws::frame(ws::BINARY, &[7; 1025], true));
    assert_eq!(close_code(&mut client.conn), 1009);
    client.conn.expect_end();
    drop(client);
    let record = gateway.access_record("/t");
    assert_eq!(
        (&record["close"], &record["close_code"], &record["timeout"]),
        (
            &json!("limit"),
            &json!(1009),
            &json!("routes.websocket.max_message")
        ),
        "{record}"
    );
    eventually("the endpoint is told", || backend.open_connections() == 0);

    // In pieces, and from the endpoint.
    let large = [
        vec![0x02, 126, 2, 0],
        vec![1; 512],
        vec![0x00, 126, 2, 1],
        vec![2; 513],
    ]
    .concat();
    let backend = says(large);
    let gateway = inspected(&backend, "max_message = \"1KiB\"");
    let mut client = Client::connect(gateway.connect(), "/t");
    client.conn.read(4 + 512);
    assert_eq!(close_code(&mut client.conn), 1014);
    drop(client);
    assert_eq!(gateway.access_record("/t")["close"], "limit");
}

#[test]
fn a_client_that_floods_is_cut_with_1008() {
    let backend = ws::echo_backend();
    for (websocket, message) in [("message_rate = 10", 1), ("byte_rate = \"10KiB\"", 1024)] {
        let gateway = inspected(&backend, websocket);
        let mut client = Client::connect(gateway.connect(), "/t");
        let flood: Vec<u8> = (0..12)
            .flat_map(|_| ws::frame(ws::BINARY, &vec![0; message], true))
            .collect();
        client.conn.send(flood);
        let mut echoed = 0;
        let code = loop {
            let (opcode, payload) = ws::read_frame(&mut client.conn).expect("a frame");
            if opcode == ws::CLOSE {
                break u16::from_be_bytes([payload[0], payload[1]]);
            }
            echoed += 1;
        };
        assert_eq!(code, 1008, "{websocket}");
        // What is echoed may be overtaken by the goodbye.
        assert!(echoed <= 10, "{websocket}: {echoed}");
        drop(client);
        assert_eq!(gateway.access_record("/t")["close"], "limit");
    }
}

#[test]
fn what_is_no_frame_ends_the_tunnel() {
    let backend = ws::echo_backend();
    let gateway = inspected(&backend, "inspect = true");
    for bad in [
        ws::frame(ws::TEXT, b"not masked", false),
        ws::frame(0x03, b"unknown", true),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut client = Client::connect(gateway.connect(), "/t");
        client.echo("fine");
        client.conn.send(&bad);
        assert_eq!(close_code(&mut client.conn), 1002);
        client.conn.expect_end();
    }
    eventually("they are counted", || {
        gateway.metric("tidegate_ws_closed_total", &["reason=\"protocol\""]) == 3.0
    });
}

#[test]
fn a_silent_client_is_pinged_and_one_that_answers_stays() {
    let backend = ws::echo_backend();
    let gateway = inspected(&backend, "ping = \"1s\"");
    let mut stays = Client::connect(gateway.connect(), "/stays");
    let mut gone = Client::connect(gateway.connect(), "/gone");
    for _ in 0..4 {
        let (opcode, payload) = ws::read_frame(&mut stays.conn).expect("a ping");
        assert_eq!((opcode, payload.len()), (ws::PING, 0));
        stays.conn.send(ws::frame(ws::PONG, b"", true));
        // What answers goes on to the endpoint, and this one returns all that it hears.
        let (opcode, _) = ws::read_frame(&mut stays.conn).expect("the echo");
        assert_eq!(opcode, ws::PONG);
    }
    stays.echo("still here");
    let (opcode, _) = ws::read_frame(&mut gone.conn).expect("a ping");
    assert_eq!(opcode, ws::PING);
    assert_eq!(close_code(&mut gone.conn), 1001);
    drop(gone);
    let record = gateway.access_record("/gone");
    assert_eq!(
        (&record["close"], &record["timeout"]),
        (&json!("lost"), &json!("routes.websocket.ping")),
        "{record}"
    );
}

#[test]
fn a_ping_and_a_goodbye_wait_for_the_end_of_a_frame() {
    // Half a message, then silence.
    let whole = ws::frame(ws::BINARY, &[1; 1000], false);
    let half = whole[..600].to_vec();
    let backend = says(half.clone());
    let gateway = inspected(&backend, "ping = \"500ms\", max_age = \"3s\", idle = \"0s\"");
    let mut client = Client::connect(gateway.connect(), "/t");
    assert_eq!(client.conn.read(600), half);
    // The client answers nothing and is asked nothing: nothing may stand within the frame.
    let keep_alive = ws::frame(ws::PONG, b"", true);
    holds_for(Duration::from_millis(2500), "nothing comes", || {
        client.conn.send(&keep_alive);
        client.conn.is_quiet()
    });
    client.conn.expect_end();
}

#[test]
fn the_goodbye_of_age_is_a_close_frame_and_the_clients_answer_reaches_the_endpoint() {
    let backend = ws::echo_backend();
    let gateway = inspected(&backend, "inspect = true, max_age = \"1s\"");
    let mut client = Client::connect(gateway.connect(), "/t");
    client.echo("hello");
    assert_eq!(close_code(&mut client.conn), 1001);
    client
        .conn
        .send(ws::frame(ws::CLOSE, &1001_u16.to_be_bytes(), true));
    client.conn.expect_end();
    drop(client);
    let record = gateway.access_record("/t");
    assert_eq!(
        (&record["close"], &record["close_code"], &record["timeout"]),
        (&json!("age"), &json!(1001), &json!("routes.websocket.max_age")),
        "{record}"
    );
    let heard = backend.received().pop().unwrap_or_default();
    let goodbye = ws::frame(ws::CLOSE, &1001_u16.to_be_bytes(), true);
    assert!(heard.ends_with(&goodbye), "{}", heard.escape_ascii());
}
