//! One request to a running gateway.

use crate::base::task;
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest wait for an answer; a reload reads files and opens sockets.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that an answer may have.
const MAX_ANSWER: usize = 64 << 20;

/// Where to ask.
#[derive(Debug)]
pub(super) enum Target {
    /// The first of these that somebody listens on.
    Control(Vec<PathBuf>),
    Admin {
        address: String,
        token: Option<String>,
    },
}

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// As it is.
    pub body: &'a [u8],
}

/// Status and body.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Value,
}

/// Asks once.
pub(super) async fn ask(target: &Target, question: &Question<'_>) -> anyhow::Result<Answer> {
    let asked = async {
        match target {
            Target::Control(paths) => exchange(connect(paths).await?, "localhost", None, question).await,
            Target::Admin { address, token } => {
                let stream = TcpStream::connect(address)
                    .await
                    .with_context(|| format!("no gateway answers at {address}"))?;
                exchange(stream, address, token.as_deref(), question).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .context("the gateway does not answer")?
}

/// One thing that came on a stream of server-sent events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Empty where the gateway names none.
    pub event: String,
    pub data: String,
    id: Option<String>,
}

/// Bytes of one frame at most.
const MAX_FRAME: usize = 1 << 20;

/// Follows a stream of events to its end. `place` is that of the last one, and where it begins.
pub(super) async fn follow(
    target: &Target,
    path: &str,
    place: &mut Option<String>,
    mut hear: impl FnMut(Frame),
) -> anyhow::Result<()> {
    let question = Question {
        method: "GET",
        path,
        body: b"",
    };
    let opened = async {
        match target {
            Target::Control(paths) => {
                open(
                    connect(paths).await?,
                    "localhost",
                    None,
                    &question,
                    place.as_deref(),
                )
                .await
            }
            Target::Admin { address, token } => {
                let stream = TcpStream::connect(address)
                    .await
                    .with_context(|| format!("no gateway answers at {address}"))?;
                open(stream, address, token.as_deref(), &question, place.as_deref()).await
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, opened)
        .await
        .context("the gateway does not answer")??;
    if answer.status() != StatusCode::OK {
        let status = answer.status().as_u16();
        let told = Limited::new(answer.into_body(), MAX_FRAME).collect().await;
        let told = told.map(|told| told.to_bytes()).unwrap_or_default();
        let told = serde_json::from_slice::<Value>(&told).unwrap_or_default();
        let message = told["error"]["message"].as_str().unwrap_or_default().to_owned();
        bail!("the gateway answers {status}: {message}");
    }
    let mut body = answer.into_body();
    let mut lines = Vec::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, body.frame())
        .await
        .context("the gateway has gone silent")?
    {
        let Ok(piece) = piece?.into_data() else { continue };
        lines.extend_from_slice(&piece);
        while let Some(end) = lines.windows(2).position(|pair| pair == b"\n\n") {
            let text: Vec<u8> = lines.drain(..end + 2).collect();
            if let Some(frame) = frame(&String::from_utf8_lossy(&text)) {
                place.clone_from(&frame.id.clone().or_else(|| place.clone()));
                hear(frame);
            }
        }
        if lines.len() > MAX_FRAME {
            bail!("the gateway sends something that is no event");
        }
    }
    Ok(())
}

/// Nothing where it only says that it lives.
fn frame(text: &str) -> Option<Frame> {
    let mut frame = Frame::default();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut frame.event),
            "id" => frame.id = Some(value.to_owned()),
            "data" => frame.data.push_str(value),
            _ => {}
        }
    }
    (!frame.data.is_empty()).then_some(frame)
}

async fn connect(paths: &[PathBuf]) -> anyhow::Result<UnixStream> {
    let mut tried = Vec::new();
    for path in paths {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
    }
    bail!(
        "no running gateway found (name one with -c, --control or --admin)\n  {}",
        tried.join("\n  ")
    )
}

async fn exchange<S>(
    stream: S,
    host: &str,
    token: Option<&str>,
    question: &Question<'_>,
) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = request(host, token, question)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?
            .to_bytes();
        let body = serde_json::from_slice(&body).context("the answer is not JSON")?;
        anyhow::Ok(Answer { status, body })
    };
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection may end with its last answer already read.
        _ = connection => answered.await,
    }
}

fn request(host: &str, token: Option<&str>, question: &Question<'_>) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(header::HOST, host);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request
        .body(Full::new(Bytes::copy_from_slice(question.body)))
        .context("the request can't be made")
}

/// An answer whose body is still to come, after `place`.
async fn open<S>(
    stream: S,
    host: &str,
    token: Option<&str>,
    question: &Question<'_>,
    place: Option<&str>,
) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = request(host, token, question)?;
    if let Some(place) = place.and_then(|place| header::HeaderValue::from_str(place).ok()) {
        request.headers_mut().insert("last-event-id", place);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the body, which is all that keeps it.
    drop(task::spawn(async move {
        drop(connection.await);
    }));
    Ok(sender.send_request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_has_data() {
        let told = frame("id: 7\nevent: lost\ndata: {}\n\n").unwrap();
        assert_eq!((told.event.as_str(), told.data.as_str()), ("lost", "{}"));
        assert_eq!(told.id.as_deref(), Some("7"));
        assert_eq!(frame(": events\nretry: 1000\n\n"), None);
    }
}
