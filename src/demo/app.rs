//! One app server: a page, a JSON answer, a WebSocket chat and an SSE clock, each saying which server it is.

use super::chat::{self, Room};
use super::loopback;
use anyhow::Context;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, interval};

/// Response header with the app server's name, for the load and for `curl -i`.
pub const SERVER_HEADER: &str = "x-demo-server";
const PAGE: &str = include_str!("page.html");

/// `tidegate demo-app`: what the demo passes to an app server.
#[derive(Debug, clap::Args)]
pub struct AppArgs {
    /// Port on loopback; 0: any.
    #[arg(long)]
    port: u16,
    #[arg(long)]
    name: String,
}

pub struct AppState {
    pub name: String,
    pub room: Room,
    requests: AtomicU64,
    started: Instant,
}

impl AppState {
    pub fn new(name: &str) -> Self {
        let (room, requests, started) = (Room::new(), AtomicU64::new(0), Instant::now());
        Self {
            name: name.to_owned(),
            room,
            requests,
            started,
        }
    }
}

/// Serves until standard input closes, which is how the demo says that it is over.
pub async fn serve(args: &AppArgs) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(loopback(args.port)).await;
    let listener = listener.with_context(|| format!("cannot listen on port {}", args.port))?;
    let state = Arc::new(AppState::new(&args.name));
    println!("{}", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, router(Arc::clone(&state))) => served?,
        read = chat::hear_others(&state.room) => read?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn router(state: Arc<AppState>) -> Router {
    let name = HeaderValue::from_str(&state.name).unwrap_or_else(|_| HeaderValue::from_static("app"));
    let counted = Arc::clone(&state);
    let say_who = move |mut response: Response| {
        counted.requests.fetch_add(1, Ordering::Relaxed);
        response.headers_mut().insert(SERVER_HEADER, name.clone());
        std::future::ready(response)
    };
    Router::new()
        .route("/", get(page))
        .route("/whoami", get(who_am_i))
        .route("/clock", get(clock))
        .route("/chat", get(chat_socket))
        .layer(axum::middleware::map_response(say_who))
        .with_state(state)
}

async fn page(State(state): State<Arc<AppState>>) -> Html<String> {
    Html(PAGE.replace("{{server}}", &state.name))
}

async fn who_am_i(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Json<Value> {
    let seen = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Json(json!({
        "server": state.name,
        "pid": std::process::id(),
        "requests": state.requests.load(Ordering::Relaxed) + 1,
        "up_seconds": state.started.elapsed().as_secs(),
        "client": seen("x-forwarded-for"),
        "request_id": seen("x-request-id"),
    }))
}

/// Time since the server started, each second, for as long as somebody listens.
async fn clock(State(state): State<Arc<AppState>>) -> impl IntoResponse {
    Sse::new(ticks(state)).keep_alive(KeepAlive::default())
}

fn ticks(state: Arc<AppState>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(
        (interval(Duration::from_secs(1)), state),
        |(mut every, state)| async move {
            every.tick().await;
            let tick = json!({ "server": state.name, "up_seconds": state.started.elapsed().as_secs() });
            Some((Ok(Event::default().data(tick.to_string())), (every, state)))
        },
    )
}

async fn chat_socket(State(state): State<Arc<AppState>>, request: Request) -> Response {
    chat::upgrade(state, request)
}

#[cfg(test)]
mod tests;
