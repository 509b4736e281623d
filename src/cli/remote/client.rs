//! One request to a running gateway.

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header;
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
    let mut request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(header::HOST, host);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(Bytes::copy_from_slice(question.body)))
        .context("the request can't be made")?;
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
