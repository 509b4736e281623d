//! A stream as the client of one request: what an exchange says and hears on it.

use crate::message::framing::BodyKind;
use crate::message::token::Token;
use crate::net::alarm::Alarm;
use crate::net::frames::{Inbound, Outbound, as_io};
use crate::proxy::error::{ProxyError, Side};
use crate::proxy::linger;
use crate::proxy::pace::Pace;
use crate::snapshot::ListenerPlan;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Response, StatusCode};
use std::task::{Context, Poll};

/// See the module's text.
#[derive(Debug)]
pub(in crate::proxy) struct Stream {
    pub inbound: Inbound,
    respond: SendResponse<Bytes>,
    outbound: Option<Outbound>,
    /// Of an answer of our own, what was not sent yet.
    own: Bytes,
    /// It was cut because the client took nothing of it.
    stalled: bool,
    /// The request is a call of gRPC.
    pub grpc: bool,
    /// What heads took, as text.
    head_read: u64,
    head_written: u64,
}

impl Stream {
    pub fn new(body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self {
            inbound: Inbound::new(body),
            respond,
            outbound: None,
            own: Bytes::new(),
            stalled: false,
            grpc: false,
            head_read: 0,
            head_written: 0,
        }
    }

    /// Notes what the request's head takes as text.
    pub const fn note_head(&mut self, bytes: u64) {
        self.head_read = bytes;
    }

    pub const fn bytes_read(&self) -> u64 {
        self.head_read + self.inbound.bytes_read
    }

    pub fn bytes_written(&self) -> u64 {
        self.head_written
            + self
                .outbound
                .as_ref()
                .map_or(0, |outbound| outbound.bytes_written)
    }

    /// How the body's end is known, given what the head says of its length.
    pub fn body(&self, declared: BodyKind) -> BodyKind {
        match declared {
            _ if self.inbound.is_end() => BodyKind::None,
            BodyKind::Length(length) => BodyKind::Length(length),
            BodyKind::None | BodyKind::Chunked | BodyKind::UntilClose => BodyKind::UntilClose,
        }
    }

    /// Where the response's body goes, once its head was sent.
    pub const fn outbound(&mut self) -> Option<&mut Outbound> {
        self.outbound.as_mut()
    }

    /// Notices that the client took the stream back, or is gone.
    pub fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), ProxyError> {
        // Each may be asked only in its time.
        let reset = match &mut self.outbound {
            Some(outbound) => outbound.poll_reset(cx),
            None => self.respond.poll_reset(cx).map_err(as_io),
        };
        match reset {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(_)) => Err(ProxyError {
                detail: Some("the client reset the stream"),
                ..ProxyError::new(Token::ClientClosed, Side::Client)
            }),
            Poll::Ready(Err(error)) => Err(ProxyError::client_gone(&error)),
        }
    }

    /// Sends an interim response.
    pub fn send_interim(&mut self, status: u16, fields: HeaderMap) -> Result<(), ProxyError> {
        self.respond
            .send_informational(head(status, fields))
            .map_err(gone)
    }

    /// Sends the response's head, which took so many bytes as text; with `end` there is no body.
    pub fn send_head(
        &mut self,
        status: u16,
        fields: HeaderMap,
        bytes: u64,
        end: bool,
    ) -> Result<(), ProxyError> {
        let sent = self
            .respond
            .send_response(head(status, fields), end)
            .map_err(gone)?;
        self.outbound = Some(Outbound::new(sent, end));
        self.head_written = bytes;
        Ok(())
    }

    /// Sends a whole answer; its body follows by [`Self::poll_flush`].
    pub fn answer(
        &mut self,
        status: u16,
        fields: HeaderMap,
        bytes: u64,
        body: &[u8],
    ) -> Result<(), ProxyError> {
        self.send_head(status, fields, bytes, body.is_empty())?;
        self.own = Bytes::copy_from_slice(body);
        Ok(())
    }

    /// Sends what is left of an answer of our own. Ready when nothing is, or the client takes it too slowly, or is gone.
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        pace: &mut Pace,
        plan: &ListenerPlan,
    ) -> Poll<()> {
        let Some(outbound) = &mut self.outbound else {
            return Poll::Ready(());
        };
        while !self.own.is_empty() {
            match outbound.poll_room(cx, self.own.len()) {
                Poll::Ready(Ok(room)) => {
                    let piece = self.own.split_to(room);
                    if outbound.send(piece, self.own.is_empty()).is_err() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    if linger::is_too_slow(cx, outbound.bytes_written, alarm, pace, plan) {
                        outbound.reset(Reason::CANCEL);
                        self.stalled = true;
                        return Poll::Ready(());
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    /// Whether it was cut because the client took nothing of it.
    pub const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Ends a stream whose response cannot be completed with these fields, which say so.
    pub fn end_with(&mut self, trailers: HeaderMap) {
        if let Some(outbound) = &mut self.outbound
            && outbound.end(trailers).is_err()
        {
            outbound.reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Ends a stream whose response cannot be completed.
    pub fn fail(&mut self, error: &ProxyError) {
        let reason = match error.side {
            Side::Client if error.token == Token::BadFraming => Reason::PROTOCOL_ERROR,
            Side::Client => Reason::CANCEL,
            Side::Endpoint | Side::Gateway => Reason::INTERNAL_ERROR,
        };
        self.stalled =
            error.side == Side::Client && error.token == Token::AbortedClient && error.timeout.is_some();
        match &mut self.outbound {
            Some(outbound) => outbound.reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

/// A response's head for sending.
fn head(status: u16, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    // Three digits, as every status here: the parser and the configuration see to it.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = fields;
    response
}

fn gone(error: h2::Error) -> ProxyError {
    ProxyError::client_gone(&as_io(error))
}
