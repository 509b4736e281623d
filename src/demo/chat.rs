//! The chat of one app server, and its line to the others.
//!
//! A message goes to everybody on this server and, as one line of JSON on standard output, to the demo, which
//! writes it to the other servers' standard input.

use super::app::AppState;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Messages that a session may be behind before it misses some.
const BACKLOG: usize = 64;
/// Sessions of one server; more are asked to come back later.
const MAX_SESSIONS: usize = 1000;
const MAX_MESSAGE: usize = 4096;
const MAX_NAME: usize = 24;
const MAX_TEXT: usize = 500;

/// What a client sends.
#[derive(Deserialize)]
struct Said {
    name: String,
    text: String,
}

/// What everybody gets.
#[derive(Serialize)]
struct Heard<'a> {
    server: &'a str,
    name: String,
    text: String,
}

/// Everybody on this server.
pub struct Room(broadcast::Sender<Arc<str>>);

impl Room {
    pub fn new() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }

    fn tell(&self, line: &str) {
        // It fails only when nobody is here.
        drop(self.0.send(Arc::from(line)));
    }
}

/// Takes lines of the other servers, until standard input closes.
pub async fn hear_others(room: &Room) -> anyhow::Result<()> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut lines = BufReader::new(pipe::Receiver::from_owned_fd(input)?).lines();
    while let Some(line) = lines.next_line().await? {
        room.tell(&line);
    }
    Ok(())
}

/// Answers an upgrade and leaves the session to a task.
pub fn upgrade(state: Arc<AppState>, request: Request) -> Response {
    if state.room.0.receiver_count() >= MAX_SESSIONS {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let headers = request.headers();
    let asks = |name, value: &str| {
        headers
            .get(name)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    if !asks(UPGRADE, "websocket") || !asks(SEC_WEBSOCKET_VERSION, "13") {
        return (StatusCode::UPGRADE_REQUIRED, [(UPGRADE, "websocket")]).into_response();
    }
    let accept = headers
        .get(SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()));
    let Some(accept) = accept.and_then(|accept| HeaderValue::from_str(&accept).ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    crate::base::task::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE));
            let stream = TokioIo::new(upgraded);
            session(
                WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await,
                &state,
            )
            .await;
        }
    });
    let fixed = |text| HeaderValue::from_static(text);
    let lines = [
        (UPGRADE, fixed("websocket")),
        (CONNECTION, fixed("Upgrade")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, lines).into_response()
}

/// One client, until it leaves or the connection breaks.
async fn session(mut socket: WebSocketStream<TokioIo<Upgraded>>, state: &AppState) {
    let mut room = state.room.0.subscribe();
    let hello = Heard {
        server: &state.name,
        name: String::new(),
        text: format!("connected to {}", state.name),
    };
    let mut to_send = serde_json::to_string(&hello).ok();
    loop {
        if let Some(text) = to_send.take()
            && socket.send(Message::text(text)).await.is_err()
        {
            return;
        }
        tokio::select! {
            heard = room.recv() => match heard {
                Ok(line) => to_send = Some(line.to_string()),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            said = socket.next() => match said {
                Some(Ok(Message::Text(text))) => say(state, &text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

/// A message of a client goes to everybody here and, as a line, to the other servers. What is not a message is
/// dropped.
fn say(state: &AppState, text: &str) {
    let Ok(Said { name, text }) = serde_json::from_str(text) else {
        return;
    };
    let cut = |text: String, most| text.chars().take(most).collect();
    let heard = Heard {
        server: &state.name,
        name: cut(name, MAX_NAME),
        text: cut(text, MAX_TEXT),
    };
    let Ok(line) = serde_json::to_string(&heard) else {
        return;
    };
    state.room.tell(&line);
    let mut out = std::io::stdout().lock();
    // It fails only when the demo is gone, and then standard input ends this server.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
