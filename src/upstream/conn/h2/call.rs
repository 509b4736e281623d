//! One request on a shared connection.

use super::Seat;
use crate::net::frames::{self, Inbound, Outbound, as_io};
use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Why a stream ended before its response did.
#[derive(Debug)]
pub enum Ended {
    /// The endpoint has not looked at the request: it said goodbye before its turn.
    Unprocessed(&'static str),
    /// The same, because it takes no more of them now.
    Refused(&'static str),
    /// The endpoint took the stream back.
    Reset(&'static str),
    /// What came on the stream breaks the rules of HTTP/2.
    Malformed,
    /// The connection is gone.
    Broken(io::Error),
}

/// See the module's text. Dropping it takes the stream back, if it has not ended, and leaves the connection as it is.
#[derive(Debug)]
pub struct Call {
    response: ResponseFuture,
    pub outbound: Outbound,
    /// The response's body, once its head is there.
    pub inbound: Option<Inbound>,
    /// Body that goes first.
    first: Bytes,
    /// Nothing follows it.
    first_is_all: bool,
    /// What heads took, as text.
    pub head_written: u64,
    pub head_read: u64,
    seat: Seat,
}

impl Call {
    /// Sends a request's head; with `end` there is no body.
    ///
    /// # Errors
    /// The connection takes no more requests: nothing was sent.
    pub fn begin(seat: Seat, request: Request<()>, end: bool) -> Result<Self, Ended> {
        let sent = match &mut *seat.mux.send.borrow_mut() {
            Some(send) => send.send_request(request, end),
            None => return Err(Ended::Unprocessed("the connection takes no more requests")),
        };
        match sent {
            Ok((response, outbound)) => Ok(Self {
                response,
                outbound: Outbound::new(outbound, end),
                inbound: None,
                first: Bytes::new(),
                first_is_all: false,
                head_written: 0,
                head_read: 0,
                seat,
            }),
            Err(error) => {
                tracing::debug!(%error, "a request could not be put on an HTTP/2 connection");
                seat.mux.leave();
                Err(Ended::Unprocessed("the connection takes no more requests"))
            }
        }
    }

    /// Whether it is the first request on its connection.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.seat.mux.requests() == 1
    }

    /// Has these bytes go before the rest of the body; `all`: there is no rest.
    pub fn send_first(&mut self, bytes: &[u8], all: bool) {
        self.first = Bytes::copy_from_slice(bytes);
        self.first_is_all = all;
    }

    /// Sends what has to go first. Ready when it is gone.
    ///
    /// # Errors
    /// The endpoint takes no more.
    pub fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.first.is_empty() {
            let room = ready!(self.outbound.poll_room(cx, self.first.len()))?;
            let piece = self.first.split_to(room);
            let end = self.first_is_all && !self.first.has_remaining();
            self.outbound.send(piece, end)?;
        }
        Poll::Ready(Ok(()))
    }

    /// An interim response, if one comes next; `None`: what comes next is the final one.
    ///
    /// # Errors
    /// The stream ended.
    pub fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Response<()>>, Ended>> {
        self.response
            .poll_informational(cx)
            .map(Option::transpose)
            .map_err(|error| self.ended(error))
    }

    /// The final response; its body is [`Self::inbound`] then.
    ///
    /// # Errors
    /// The stream ended.
    pub fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<http::response::Parts, Ended>> {
        let response: Response<RecvStream> = match ready!(Pin::new(&mut self.response).poll(cx)) {
            Ok(response) => response,
            Err(error) => return Poll::Ready(Err(self.ended(error))),
        };
        let (parts, body) = response.into_parts();
        self.inbound = Some(Inbound::new(body));
        Poll::Ready(Ok(parts))
    }

    /// Whether its response, begun, has ended: a head may be all of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.inbound.as_ref().is_some_and(Inbound::is_end)
    }

    /// Bytes of the request so far, its head as text.
    #[must_use]
    pub const fn bytes_written(&self) -> u64 {
        self.head_written + self.outbound.bytes_written
    }

    /// Bytes of the response so far, its head as text.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.head_read + self.inbound.as_ref().map_or(0, |inbound| inbound.bytes_read)
    }

    fn ended(&self, error: h2::Error) -> Ended {
        let reason = error.reason();
        if error.is_remote() && error.is_go_away() {
            // Only streams that it names as not looked at are ended by a goodbye.
            return Ended::Unprocessed("the endpoint said goodbye (GOAWAY) before the request's turn");
        }
        if error.is_remote() && reason == Some(Reason::REFUSED_STREAM) {
            return Ended::Refused(frames::detail(&error));
        }
        if error.is_remote() {
            return Ended::Reset(frames::detail(&error));
        }
        tracing::debug!(%error, "a stream to an endpoint failed");
        if error.is_library() && !self.seat.mux.is_broken() {
            return Ended::Malformed;
        }
        Ended::Broken(as_io(error))
    }
}
