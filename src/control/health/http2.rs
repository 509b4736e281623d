//! A probe over HTTP/2: one question on a connection of its own, which is kept for what it tells by its end.

use super::probe::{MAX_BODY, broken};
use super::websocket::close_frame;
use crate::config::model;
use crate::net::frames::as_io;
use crate::net::transport::Transport;
use crate::upstream::conn::h2::Session;
use crate::upstream::shared::health::Failure;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Connection, SendRequest};
use h2::ext::Protocol;
use http::header::SEC_WEBSOCKET_VERSION;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// A connection for probes.
pub(super) struct Asked {
    send: SendRequest<Bytes>,
    connection: Connection<Transport, Bytes>,
    bytes: u64,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// An answer, and its body, unless that went wrong.
pub(super) struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Result<Vec<u8>, Failure>,
    /// Behind the body.
    pub trailers: Option<HeaderMap>,
}

impl Asked {
    pub fn over((send, connection): Session<Transport>) -> Self {
        Self {
            send,
            connection,
            bytes: 0,
        }
    }

    /// Bytes of the answer's body that came.
    pub const fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// Sends a request and reads its answer. Bounded by the caller's deadline.
    pub async fn ask(&mut self, request: Request<Bytes>, wanted: bool) -> Result<Answered, Failure> {
        let Self {
            send,
            connection,
            bytes,
        } = self;
        let asking = async {
            let (head, question) = request.into_parts();
            let head = Request::from_parts(head, ());
            let (response, mut stream) = send.send_request(head, question.is_empty())?;
            if !question.is_empty() {
                stream.send_data(question, true)?;
            }
            let (head, mut body) = response.await?.into_parts();
            let read = read(&mut body, wanted, bytes).await;
            let trailers = match read {
                Ok(_) => body.trailers().await?,
                Err(_) => None,
            };
            Ok(Answered {
                status: head.status.as_u16(),
                headers: head.headers,
                body: read,
                trailers,
            })
        };
        carried(connection, asking).await
    }

    /// Whether the endpoint lets streams be asked for other protocols (RFC 8441 section 3).
    pub fn takes_extended_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// Asks for a WebSocket, and ends it at once if it is let in. Returns the answer's status. Bounded by the caller's
    /// deadline.
    pub async fn open_websocket(&mut self, mut request: Request<()>) -> Result<u16, Failure> {
        *request.method_mut() = Method::CONNECT;
        let version = HeaderValue::from_static("13");
        request.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        request
            .extensions_mut()
            .insert(Protocol::from_static("websocket"));
        let Self { send, connection, .. } = self;
        let asking = async {
            let (response, mut stream) = send.send_request(request, false)?;
            let status = response.await?.status();
            let goodbye = match status.is_success() {
                true => Bytes::copy_from_slice(&close_frame()),
                false => Bytes::new(),
            };
            // What it said counts, whether it takes the goodbye or not.
            let _said = stream.send_data(goodbye, true);
            Ok(status.as_u16())
        };
        carried(connection, asking).await
    }

    /// Completes when the endpoint ends the connection. May be cancelled.
    pub async fn ended(&mut self) {
        let connection = &mut self.connection;
        poll_fn(|cx| Pin::new(&mut *connection).poll(cx).map(drop)).await;
    }
}

/// What comes of asking, which nothing moves but the connection.
async fn carried<T>(
    connection: &mut Connection<Transport, Bytes>,
    asking: impl Future<Output = Result<T, h2::Error>>,
) -> Result<T, Failure> {
    let mut asking = pin!(asking);
    poll_fn(|cx| {
        // Both, every turn.
        let ended = Pin::new(&mut *connection).poll(cx).is_ready();
        match asking.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(answered.map_err(failure)),
            Poll::Pending if ended => Poll::Ready(Err(Failure::Closed)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn read(body: &mut RecvStream, wanted: bool, bytes: &mut u64) -> Result<Vec<u8>, Failure> {
    let mut kept = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(failure)?;
        *bytes += piece.len() as u64;
        if *bytes > MAX_BODY {
            return Err(Failure::TooLarge(MAX_BODY));
        }
        if wanted {
            kept.extend_from_slice(&piece);
        }
        body.flow_control()
            .release_capacity(piece.len())
            .map_err(failure)?;
    }
    Ok(kept)
}

fn failure(error: h2::Error) -> Failure {
    if error.is_io() {
        return broken(&as_io(error));
    }
    match error.is_library() {
        true => Failure::Malformed("it breaks the rules of HTTP/2"),
        // A reset, or a goodbye.
        false => Failure::Closed,
    }
}

/// What is asked.
pub(super) fn request(
    check: &model::Health,
    authority: &str,
    secure: bool,
) -> Result<Request<Bytes>, Failure> {
    let uri = Uri::builder()
        .scheme(if secure { "https" } else { "http" })
        .authority(check.host.as_deref().unwrap_or(authority))
        .path_and_query(check.path.as_str());
    let mut request = Request::builder().method(check.method.as_str());
    let given = |name: &str| check.headers.keys().any(|given| given.eq_ignore_ascii_case(name));
    for (name, value) in [("user-agent", "tidegate-health"), ("accept", "*/*")] {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in &check.headers {
        request = request.header(name.as_str(), value.as_str());
    }
    uri.build()
        .and_then(|uri| request.uri(uri).body(Bytes::new()))
        .map_err(|_| Failure::Malformed("what is to be asked can't be written in HTTP/2"))
}
