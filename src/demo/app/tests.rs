use super::*;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// An app server on a free port, for as long as the runtime of the test lives.
async fn start(name: &str) -> std::net::SocketAddr {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(Arc::new(AppState::new(name)));
    crate::base::task::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// Sends a request and reads until the answer holds this text.
async fn ask(address: std::net::SocketAddr, lines: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{lines}\r\nHost: demo\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    while !answer.contains(until) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "ended early: {answer}");
        answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    answer
}

#[tokio::test]
async fn every_answer_names_the_server() {
    let address = start("app-7").await;
    let page = ask(address, "GET / HTTP/1.1", "</html>").await;
    assert!(page.contains("x-demo-server: app-7") && !page.contains("{{server}}"));
    let answer = ask(address, "GET /whoami HTTP/1.1", "}").await;
    assert!(answer.contains("\"server\":\"app-7\""), "{answer}");
    let missing = ask(address, "GET /nothing HTTP/1.1", "\r\n\r\n").await;
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("x-demo-server: app-7"));
}

#[tokio::test]
async fn the_clock_ticks_as_an_event_stream() {
    let address = start("app-7").await;
    let answer = ask(address, "GET /clock HTTP/1.1", "\"up_seconds\":").await;
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
}

#[tokio::test]
async fn a_chat_message_reaches_everybody_with_the_name_of_the_server() {
    let address = start("app-7").await;
    let (mut one, mut two) = (join(address).await, join(address).await);
    let said = r#"{"name":"Ada","text":"hello"}"#;
    one.send(Message::text(said)).await.unwrap();
    for socket in [&mut one, &mut two] {
        let heard = next_text(socket).await;
        assert_eq!(heard, r#"{"server":"app-7","name":"Ada","text":"hello"}"#);
    }
    one.send(Message::text("no JSON")).await.unwrap();
    one.send(Message::text(said)).await.unwrap();
    assert!(
        next_text(&mut two).await.contains("hello"),
        "what is no message is passed over"
    );
}

#[tokio::test]
async fn an_upgrade_without_a_key_is_refused() {
    let address = start("app-7").await;
    let plain = ask(address, "GET /chat HTTP/1.1", "\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 426"), "{plain}");
    let lines =
        "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13";
    let keyless = ask(address, lines, "\r\n\r\n").await;
    assert!(keyless.starts_with("HTTP/1.1 400"), "{keyless}");
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

/// A session that has had its greeting, so it hears what is said from now on.
async fn join(address: std::net::SocketAddr) -> Socket {
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/chat");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    assert!(next_text(&mut socket).await.contains("connected to app-7"));
    socket
}

async fn next_text(socket: &mut Socket) -> String {
    socket
        .next()
        .await
        .unwrap()
        .unwrap()
        .into_text()
        .unwrap()
        .to_string()
}
