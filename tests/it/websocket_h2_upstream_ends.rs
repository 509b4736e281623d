//! WebSockets to endpoints that speak HTTP/2: how they end, by whom, and what becomes of the connection that they share.

use crate::h2_client;
use crate::h2_client::send_all;
use crate::h2_server::{Seen, Server, moment, opened};
use crate::h2_upstream::TO_H2;
use crate::websocket_h2::Socket;
use crate::websocket_h2_upstream::{accept, before, echo, next, offering, open, with};
use bytes::Bytes;
use h2::Reason;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::ws::{self, BINARY, CLOSE, TEXT};
use testkit::{Gate, eventually};

#[test]
fn an_endpoint_that_resets_the_stream_ends_the_tunnel_and_one_that_ends_it_may_still_be_spoken_to() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&heard);
    let server = Server::streams_with(offering(), move |mut stream| {
        let said = Arc::clone(&said);
        async move {
            let mut send = accept(&mut stream);
            match stream.request.uri().path() {
                "/reset" => {
                    assert!(next(stream.request.body_mut()).await.is_some());
                    send.send_reset(Reason::INTERNAL_ERROR);
                }
                "/ends" => {
                    send.send_data(Bytes::from_static(b"bye"), true).unwrap();
                    while let Some(piece) = next(stream.request.body_mut()).await {
                        said.lock().unwrap().extend_from_slice(&piece);
                    }
                }
                // Ends, and wants nothing more.
                _ => {
                    send.send_data(Bytes::from_static(b"bye"), true).unwrap();
                    moment().await;
                    stream.respond.send_reset(Reason::NO_ERROR);
                }
            }
        }
    });
    let gateway = before(&server);
    let mut conn = ws::Client::connect(gateway.connect(), "/reset").conn;
    conn.send(b"x");
    conn.wait_for_end();
    let record = gateway.access_record("/reset");
    assert_eq!(
        (&record["close"], &record["token"]),
        (&"endpoint".into(), &"aborted_upstream".into()),
        "{record}"
    );

    let client = h2_client::Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/reset");
    socket.say(b"x");
    let end = client.run(socket.receive.data());
    assert!(matches!(&end, Some(Err(error)) if error.is_reset()), "{end:?}");

    let mut conn = ws::Client::connect(gateway.connect(), "/ends").conn;
    assert_eq!(conn.read(3), b"bye");
    conn.send(b"still here");
    conn.half_close();
    eventually("it arrives", || *heard.lock().unwrap() == b"still here");

    let mut conn = ws::Client::connect(gateway.connect(), "/gone").conn;
    assert_eq!(conn.read(3), b"bye");
    conn.wait_for_end();
    drop(conn);
    eventually("none is left", || {
        client.turn();
        open(&gateway) == 0.0
    });
}

#[test]
fn a_client_that_ends_or_vanishes_does_the_same_to_the_stream_and_to_no_other() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ends);
    let server = Server::streams_with(offering(), move |mut stream| {
        let noted = Arc::clone(&noted);
        async move {
            let path = stream.request.uri().path().to_owned();
            let mut send = accept(&mut stream);
            send_all(&mut send, b"hello", false).await.unwrap();
            let body = stream.request.body_mut();
            let end = loop {
                match body.data().await {
                    Some(Ok(piece)) => body.flow_control().release_capacity(piece.len()).unwrap(),
                    Some(Err(error)) => break error.reason(),
                    None => break None,
                }
            };
            if end.is_none() {
                send_all(&mut send, b"after", true).await.unwrap();
            }
            noted.lock().unwrap().push((path, end));
        }
    });
    let gateway = before(&server);
    let mut stays = ws::Client::connect(gateway.connect(), "/stays").conn;
    assert_eq!(stays.read(5), b"hello");
    let mut conn = ws::Client::connect(gateway.connect(), "/ends").conn;
    assert_eq!(conn.read(5), b"hello");
    conn.half_close();
    assert_eq!(conn.read(5), b"after");
    conn.expect_end();
    let mut conn = ws::Client::connect(gateway.connect(), "/resets").conn;
    assert_eq!(conn.read(5), b"hello");
    conn.reset();
    eventually("the endpoint is told", || ends.lock().unwrap().len() == 2);
    let client = h2_client::Client::connect(&gateway.web());
    let mut socket = Socket::open(&client, "/cancels");
    socket.send.send_reset(Reason::CANCEL);
    client.turn();
    drop(socket);
    eventually("the endpoint is told", || {
        client.turn();
        ends.lock().unwrap().len() == 3
    });
    let expected = [
        ("/ends".to_owned(), None),
        ("/resets".to_owned(), Some(Reason::CANCEL)),
        ("/cancels".to_owned(), Some(Reason::CANCEL)),
    ];
    assert_eq!(*ends.lock().unwrap(), expected);
    stays.half_close();
    assert_eq!(stays.read(5), b"after");
    assert_eq!(server.connections(), 1);
}

#[test]
fn who_reads_nothing_holds_the_other_side_and_little_memory() {
    let gate = Gate::new();
    let held = gate.clone();
    let sent = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&sent);
    let mut builder = offering();
    // Otherwise a stream that is not read takes all that the connection may carry.
    builder.initial_connection_window_size(1 << 20);
    let server = Server::streams_with(builder, move |mut stream| {
        let (held, counted) = (held.clone(), Arc::clone(&counted));
        async move {
            match stream.request.uri().path() {
                // Neither reads nor speaks.
                "/deaf" => {
                    let _send = accept(&mut stream);
                    opened(&held).await;
                }
                "/floods" => {
                    let mut send = accept(&mut stream);
                    for _ in 0..1024 {
                        if send_all(&mut send, &[7; 64 * 1024], false).await.is_err() {
                            return;
                        }
                        *counted.lock().unwrap() += 64 * 1024;
                    }
                }
                _ => echo(stream).await,
            }
        }
    });
    let gateway = before(&server);
    let mut other = ws::Client::connect(gateway.connect(), "/");
    other.echo("warm");
    let before = gateway.rss_kb();
    let mut deaf = ws::Client::connect(gateway.connect(), "/deaf");
    let bytes = vec![7; 64 << 20];
    let taken = deaf.conn.send_while_taken(&bytes, Duration::from_secs(1));
    assert!(taken < bytes.len() / 2, "what nobody reads is not taken: {taken}");
    let floods = ws::Client::connect(gateway.connect(), "/floods");
    other.echo("others are served");
    testkit::holds_for(Duration::from_millis(500), "the flood is held up", || {
        *sent.lock().unwrap() < 32 << 20
    });
    let grown = gateway.rss_kb().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    other.echo("still");
    drop(floods);
    gate.open();
}

#[test]
fn frames_are_looked_at_and_whoever_is_told_to_go_hears_why() {
    let server = Server::streams_with(offering(), echo);
    let gateway = with(
        &server,
        "websocket = { max_message = \"1KiB\", max_age = \"2s\" }",
    );
    let mut client = ws::Client::connect(gateway.connect(), "/large");
    client.conn.send(ws::frame(BINARY, &[1; 1024], true));
    assert_eq!(ws::read_frame(&mut client.conn).unwrap(), (BINARY, vec![1; 1024]));
    client.conn.send(ws::frame(BINARY, &[1; 1025], true));
    let told = ws::read_frame(&mut client.conn).unwrap();
    assert_eq!(told, (CLOSE, 1009_u16.to_be_bytes().to_vec()));
    client.conn.expect_end();
    drop(client);
    eventually("the endpoint's stream ends", || server.running() == 0);
    let mut client = ws::Client::connect(gateway.connect(), "/old");
    client.echo("hello");
    let told = ws::read_frame(&mut client.conn).unwrap();
    assert_eq!(told, (CLOSE, 1001_u16.to_be_bytes().to_vec()));
    client.conn.send(ws::frame(CLOSE, &1001_u16.to_be_bytes(), true));
    client.conn.expect_end();
    drop(client);
    eventually("the endpoint's stream ends", || server.running() == 0);
    assert_eq!(
        gateway.metric("tidegate_ws_closed_total", &["reason=\"age\""]),
        1.0
    );
    assert_eq!(
        gateway.metric("tidegate_ws_closed_total", &["reason=\"limit\""]),
        1.0
    );
}

#[test]
fn tunnels_live_through_a_goodbye_and_open_as_many_connections_as_they_need() {
    let mut builder = offering();
    builder.max_concurrent_streams(2);
    let server = Server::streams_with(builder, echo);
    let gateway = before(&server);
    let mut clients: Vec<ws::Client> = (0..4)
        .map(|_| ws::Client::connect(gateway.connect(), "/"))
        .collect();
    assert_eq!(server.connections(), 2, "two on each");
    server.say_goodbye();
    clients.push(ws::Client::connect(gateway.connect(), "/"));
    eventually("the goodbye is heard", || {
        clients.push(ws::Client::connect(gateway.connect(), "/"));
        server.connections() > 3
    });
    for client in &mut clients {
        client.echo("hello");
    }
    assert_eq!(open(&gateway), clients.len() as f64);
}

#[test]
fn a_handshake_that_is_not_answered_ends_at_its_deadline_and_one_that_is_refused_goes_elsewhere() {
    let server = Server::streams_with(offering(), |mut stream| async move {
        stream.cancelled().await;
    });
    let gateway = with(&server, "websocket = { handshake_timeout = \"300ms\" }");
    let answer = gateway.connect().send(ws::handshake("/", "")).response();
    answer.expect(504, Some("response_timeout"));
    eventually("the stream is taken back", || server.running() == 0);

    let refusing = Server::streams_with(offering(), |mut stream| async move {
        let seen = Seen::of(&stream.request, stream.connection);
        stream.hit(seen);
        stream.respond.send_reset(Reason::REFUSED_STREAM);
    });
    let echoing = Server::streams_with(offering(), echo);
    let gateway = crate::gateway(&TO_H2.replace(
        "endpoints = [{ address = \"@app@\" }]",
        "balance = \"first\"\nendpoints = [\"@one@\", \"@two@\"]",
    ))
    .with("one", refusing.address())
    .with("two", echoing.address())
    .start();
    ws::Client::connect(gateway.connect(), "/").echo("hello");
    assert!(refusing.hits() > 0);
    let client = h2_client::Client::connect(&gateway.web());
    Socket::open(&client, "/").echo(TEXT, b"hello");
}
