use super::*;
use crate::h1::parse::HeadLimits;
use crate::net::transport::Transport;
use std::future::poll_fn;
use std::io::Write;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const LIMITS: ChunkLimits = ChunkLimits::request(&HeadLimits {
    head_bytes: 1024,
    fields: 10,
    target_bytes: 0,
});
/// Small, so that a body of some hundred KiB does not fit between two peers.
const BUFFER: u32 = 16 * 1024;

/// Both ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BUFFER).unwrap();
    let near = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let far = listener.accept().await.unwrap().0;
    socket2::SockRef::from(&far)
        .set_send_buffer_size(BUFFER as usize)
        .unwrap();
    (near, far)
}

#[tokio::test]
async fn a_large_body_that_nobody_takes_is_thrown_away_to_its_end_and_no_further() {
    const BODY: usize = 800_000;
    let (client, near) = pair().await;
    let mut from = Wire::new(Transport::Tcp(near));
    let mut client = client.into_std().unwrap();
    client.set_nonblocking(false).unwrap();
    let sending = std::thread::spawn(move || {
        client.write_all(&[b'b'; BODY]).unwrap();
        client.write_all(b"next").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        client
    });
    // The endpoint reads nothing, so that the body stops halfway.
    let (_endpoint, near) = pair().await;
    let mut to = Wire::new(Transport::Tcp(near));
    let mut flow = Flow::new(BodyKind::Length(BODY as u64), Framing::Plain, LIMITS);
    poll_fn(|cx| {
        assert!(flow.poll(cx, &mut from, &mut to).is_pending());
        if flow.held_up {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    assert!(flow.in_pipe > 0 && from.bytes_read < BODY as u64);

    while !flow.is_end() {
        poll_fn(|cx| flow.poll_discard(cx, &mut from)).await.unwrap();
    }
    let mut next = from.take_carried();
    while next.len() < 4 {
        let more = poll_fn(|cx| from.poll_more(cx, FIRST_READ, |bytes| (bytes.len(), bytes.to_vec()))).await;
        next.extend(more.unwrap().unwrap());
    }
    assert_eq!(next, b"next");
    drop(sending.join().unwrap());
}

#[tokio::test]
async fn a_body_over_its_limit_passes_nothing_of_what_is_too_much() {
    let body = b"4\r\nfour\r\n1\r\n!\r\n0\r\n\r\n";
    let mut out = Vec::new();
    let flow = || Flow::new(BodyKind::Chunked, Framing::Chunked, LIMITS);
    let refused = flow().limited(4).feed(body, &mut out);
    assert!(matches!(refused, Err(FlowError::Malformed(reject)) if reject.token == Token::BodyTooLarge));
    assert!(!out.ends_with(b"0\r\n\r\n"), "the body looks complete");
    out.clear();
    assert_eq!(flow().limited(5).feed(body, &mut out).unwrap(), body.len());
    assert_eq!(out, body);
}

#[tokio::test]
async fn a_sink_that_fails_costs_nothing_of_what_follows_the_body() {
    let (mut client, near) = pair().await;
    let mut from = Wire::new(Transport::Tcp(near));
    let (endpoint, near) = pair().await;
    let mut to = Wire::new(Transport::Tcp(near));
    socket2::SockRef::from(&endpoint)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(endpoint);
    poll_fn(|cx| to.poll_more(cx, FIRST_READ, |_| (0, ())))
        .await
        .unwrap_err();

    let body = b"4\r\nfour\r\n1;x\r\n!\r\n0\r\n\r\nGET /next";
    tokio::io::AsyncWriteExt::write_all(&mut client, body)
        .await
        .unwrap();
    let mut flow = Flow::new(BodyKind::Chunked, Framing::Chunked, LIMITS);
    let moved = poll_fn(|cx| flow.poll(cx, &mut from, &mut to)).await;
    assert!(matches!(moved, Err(FlowError::Write(_))), "{moved:?}");
    while !flow.is_end() {
        poll_fn(|cx| flow.poll_discard(cx, &mut from)).await.unwrap();
    }
    assert_eq!(from.carried(), b"GET /next");
}
