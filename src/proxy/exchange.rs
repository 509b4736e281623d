//! One request and its response between a client and an endpoint, both directions driven by one task.
//!
//! Every turn polls the request body upward and the response downward, so early answers, 100 (Continue) and
//! bidirectional streams need no special case.

mod call;
mod head;
mod late;

pub(super) use late::Bounds;

use super::client::{Client, Link};
use super::error::{ProxyError, Side};
use super::flow::{Flow, FlowError, Framing};
use super::pace::Pace;
use super::peer::Peer;
use super::upload::Upload;
use crate::h1::body::ChunkLimits;
use crate::h1::parse::HeadLimits;
use crate::h1::write;
use crate::message::edits::Edits;
use crate::message::fields;
use crate::message::framing::BodyKind;
use crate::message::grpc::Code;
use crate::message::head::{ResponseHead, Version};
use crate::message::token::Token;
use crate::net::scratch;
use crate::upstream::local::LocalEndpoint;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bounds of a response head; an endpoint is configured, not hostile, but may be broken.
pub(super) const RESPONSE_HEAD: HeadLimits = HeadLimits {
    head_bytes: 256 * 1024,
    fields: 512,
    target_bytes: 0,
};

/// Which way the response is.
#[derive(Debug)]
enum Down {
    Head { scanned: usize, interim: u32 },
    Body(Flow),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    client: &'a mut Client,
    peer: &'a mut Peer,
    bounds: Bounds,
    /// The client understands interim responses.
    interim: bool,
    /// The request's body.
    pub upload: &'a mut Upload,
    /// The request body could not be written to its end; the endpoint may have answered all the same.
    pub up_broken: bool,
    down: Down,
    /// The request asks for another protocol.
    pub switches: bool,
    /// Whose drain may end the exchange.
    pub endpoint: Option<Rc<LocalEndpoint>>,
    /// Some byte of the response arrived.
    pub answered: bool,
    /// The client is gone when it ends its direction: nobody waits for an endless stream.
    pub end_means_gone: bool,
    up_pace: Pace,
    down_pace: Pace,
}

impl<'a> Exchange<'a> {
    /// An exchange whose request head has not been sent yet.
    pub fn new(
        client: &'a mut Client,
        peer: &'a mut Peer,
        upload: &'a mut Upload,
        version: Version,
        bounds: Bounds,
    ) -> Self {
        Self {
            client,
            peer,
            bounds,
            interim: version >= Version::H11,
            upload,
            up_broken: false,
            down: Down::Head {
                scanned: 0,
                interim: 0,
            },
            switches: false,
            endpoint: None,
            answered: false,
            end_means_gone: false,
            up_pace: Pace::default(),
            down_pace: Pace::default(),
        }
    }

    /// Sends the request's head with what has arrived of its body, in one send where it fits; what another endpoint
    /// was sent of it comes first. Returns without waiting; what was not taken goes first when the exchange is polled.
    pub async fn send_head(&mut self, head: impl FnOnce(&mut Vec<u8>)) -> Result<(), ProxyError> {
        let mut head = Some(head);
        poll_fn(|cx| {
            let (Some(head), Peer::H1(conn)) = (head.take(), &mut *self.peer) else {
                return Poll::Ready(Ok(()));
            };
            scratch::with_out(|out| {
                head(out);
                let body_from = out.len();
                out.extend_from_slice(self.upload.sent_before());
                match (&mut self.upload.flow, &mut self.client.link) {
                    (None, _) => {}
                    (Some(up), Link::H1(wire)) => {
                        let used = up.feed(wire.carried(), out).map_err(up_error)?;
                        wire.consume(used);
                    }
                    (Some(up), Link::H2(stream)) => {
                        up.take_arrived(cx, &mut stream.inbound, out).map_err(up_error)?;
                    }
                }
                let before = conn.wire.bytes_written;
                match conn.wire.send(cx, &[out]) {
                    Ok(_) => Poll::Ready(Ok(())),
                    Err(error) if conn.wire.bytes_written == before => {
                        self.upload.not_sent(&out[body_from..]);
                        Poll::Ready(Err(ProxyError::endpoint_gone(&error).unsent()))
                    }
                    Err(error) => Poll::Ready(Err(ProxyError::endpoint_gone(&error))),
                }
            })
        })
        .await
    }

    /// Waits for the final response head, passing interim ones on.
    pub async fn response_head(&mut self) -> Result<ResponseHead, ProxyError> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_up(cx) {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(head) = self.poll_head(cx) {
                return Poll::Ready(head);
            }
            self.poll_late(cx).map(Err)
        })
        .await
    }

    /// Sends the response's head, with what has arrived of its body where both go into one send. Returns how many
    /// bytes the head took.
    pub async fn send_response(
        &mut self,
        response: &ResponseHead,
        edits: &Edits,
        body: BodyKind,
        framing: Framing,
    ) -> Result<u64, ProxyError> {
        let source = match (body, &*self.peer, &self.client.link) {
            // Trailers may follow what was announced; the engine sees to the length.
            (BodyKind::Length(1..), Peer::H2(_), Link::H2(_)) => BodyKind::UntilClose,
            (body, _, _) => body,
        };
        let mut flow = Flow::new(source, framing, ChunkLimits::response(&RESPONSE_HEAD));
        let sent = match &mut self.client.link {
            Link::H1(wire) => {
                let announced = match (body, framing) {
                    (_, Framing::Chunked) => BodyKind::Chunked,
                    // A body without length goes to the end of the connection.
                    (BodyKind::Chunked, Framing::Plain) => BodyKind::UntilClose,
                    (body, Framing::Plain) => body,
                };
                let peer = &mut *self.peer;
                poll_fn(|cx| {
                    Poll::Ready(scratch::with_out(|out| {
                        write::response_head(response, edits, announced, out);
                        let head_bytes = out.len() as u64;
                        let fed = match peer {
                            Peer::H1(conn) => flow.feed(conn.wire.carried(), out),
                            Peer::H2(call) => call::take_arrived(cx, &mut flow, call, out),
                        };
                        let sent = wire
                            .send(cx, &[out])
                            .map_err(|error| ProxyError::client_gone(&error));
                        let used = fed.map_err(down_error)?;
                        if let Peer::H1(conn) = peer {
                            conn.wire.consume(used);
                        }
                        sent.map(|_| head_bytes)
                    }))
                })
                .await?
            }
            Link::H2(stream) => {
                let (fields, head_bytes) = fields::of_response(response, edits, body);
                stream.send_head(response.status, fields, head_bytes, flow.is_end())?;
                head_bytes
            }
        };
        self.down = Down::Body(flow);
        Ok(sent)
    }

    /// Moves the response's body, and what is left of the request's, until the response is complete.
    pub async fn relay(&mut self) -> Result<(), ProxyError> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_up(cx) {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(done) = self.poll_down(cx) {
                return Poll::Ready(done);
            }
            self.poll_late(cx).map(Err)
        })
        .await
    }

    /// How a call of gRPC ended, if the trailers behind its answer said so.
    pub const fn grpc_status(&self) -> Option<Code> {
        match &self.down {
            Down::Head { .. } => None,
            Down::Body(flow) => flow.grpc_status,
        }
    }

    /// Whether the whole request body was read and written.
    pub const fn request_done(&self) -> bool {
        self.upload.flow.is_none()
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        let Some(up) = &mut self.upload.flow else {
            return self.flush_head(cx);
        };
        if self.up_broken {
            return Poll::Pending;
        }
        let polled = match (&mut *self.peer, &mut self.client.link) {
            (Peer::H1(conn), Link::H1(wire)) => up.poll(cx, wire, &mut conn.wire),
            (Peer::H1(conn), Link::H2(stream)) => up.poll(cx, &mut stream.inbound, &mut conn.wire),
            (Peer::H2(call), link) => call::poll_up(cx, up, link, call),
        };
        match ready!(polled) {
            Ok(()) => {
                self.upload.finish();
                Poll::Ready(Ok(()))
            }
            // The endpoint takes no more. It may have answered before it closed: read on.
            Err(FlowError::Write(_)) => {
                self.up_broken = true;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(up_error(error))),
        }
    }

    /// A head that the socket did not take at once.
    fn flush_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        match &mut *self.peer {
            Peer::H1(conn) if conn.wire.has_unsent() && !self.up_broken => {
                self.up_broken = ready!(conn.wire.poll_flush(cx)).is_err();
            }
            Peer::H2(call) if !self.up_broken => self.up_broken = ready!(call.poll_first(cx)).is_err(),
            Peer::H1(_) | Peer::H2(_) => {}
        }
        Poll::Ready(Ok(()))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        let Down::Body(flow) = &mut self.down else {
            return Poll::Pending;
        };
        match (&mut *self.peer, &mut self.client.link) {
            (Peer::H1(conn), Link::H1(wire)) => flow.poll(cx, &mut conn.wire, wire),
            (Peer::H1(conn), Link::H2(stream)) => match stream.outbound() {
                Some(outbound) => flow.poll_to_stream(cx, &mut conn.wire, outbound),
                None => Poll::Ready(Err(FlowError::Write(io::ErrorKind::NotConnected.into()))),
            },
            (Peer::H2(call), link) => call::poll_down(cx, flow, call, link),
        }
        .map_err(down_error)
    }
}

fn up_error(error: FlowError) -> ProxyError {
    match error {
        FlowError::Malformed(reject) if reject.token == Token::AbortedClient => ProxyError {
            detail: Some(reject.detail),
            ..ProxyError::new(Token::ClientClosed, Side::Client)
        },
        FlowError::Malformed(reject) => ProxyError::refused(reject),
        FlowError::Read(error) => ProxyError::client_gone(&error),
        FlowError::Write(error) => ProxyError::endpoint_gone(&error),
    }
}

fn down_error(error: FlowError) -> ProxyError {
    match error {
        FlowError::Malformed(reject) => ProxyError {
            detail: Some(reject.detail),
            ..ProxyError::new(Token::AbortedUpstream, Side::Endpoint)
        },
        FlowError::Read(error) => ProxyError::io(Token::AbortedUpstream, Side::Endpoint, &error),
        FlowError::Write(error) => ProxyError::io(Token::AbortedClient, Side::Client, &error),
    }
}
