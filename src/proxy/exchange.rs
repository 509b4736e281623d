//! One request and its response between a client and an endpoint, both directions driven by one task.
//!
//! Every turn polls the request body upward and the response downward, so early answers, 100 (Continue) and
//! bidirectional streams need no special case.

mod call;

use super::client::{Client, Link};
use super::deadline::Deadline;
use super::error::{ProxyError, Side};
use super::flow::{Flow, FlowError, Framing};
use super::heads;
use super::pace::Pace;
use super::peer::Peer;
use super::upload::Upload;
use crate::h1::body::ChunkLimits;
use crate::h1::parse::{self, HeadLimits, Parsed};
use crate::h1::write;
use crate::message::edits::Edits;
use crate::message::fields;
use crate::message::framing::BodyKind;
use crate::message::grpc::Code;
use crate::message::head::{ResponseHead, Version};
use crate::message::token::{Reject, Token};
use crate::net::scratch::{self, FIRST_READ};
use crate::upstream::local::LocalEndpoint;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Interim responses passed on before an endpoint is taken for broken.
const MOST_INTERIM: u32 = 16;
/// Bounds of a response head; an endpoint is configured, not hostile, but may be broken.
pub(super) const RESPONSE_HEAD: HeadLimits = HeadLimits {
    head_bytes: 256 * 1024,
    fields: 512,
    target_bytes: 0,
};

/// Times that bound an exchange, and where each is configured. Zero: no bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub response: Duration,
    pub response_key: &'static str,
    pub idle: Duration,
    /// When the whole request must be over.
    pub total: Option<Deadline>,
    pub body_idle: Duration,
    pub send: Duration,
    /// Bytes per second.
    pub min_rate: u64,
    /// Both sides speak when they like: it is silent only when nobody does.
    pub conversation: bool,
}

impl Bounds {
    /// Zero means no bound.
    pub fn after(since: Instant, allowed: Duration) -> Option<Instant> {
        (!allowed.is_zero()).then(|| since + allowed)
    }
}

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

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ProxyError>> {
        loop {
            let Down::Head { scanned, interim } = &mut self.down else {
                return Poll::Pending;
            };
            let Peer::H1(conn) = &mut *self.peer else {
                return self.poll_call_head(cx);
            };
            let parsed = if !conn.wire.carried().is_empty() && *scanned == 0 {
                let (used, parsed) = parse_head(conn.wire.carried(), scanned);
                conn.wire.consume(used);
                parsed
            } else {
                match ready!(
                    conn.wire
                        .poll_more(cx, FIRST_READ, |bytes| parse_head(bytes, scanned))
                ) {
                    Ok(Some(parsed)) => parsed,
                    Ok(None) => return Poll::Ready(Err(self.cut_short())),
                    Err(error) => return Poll::Ready(Err(ProxyError::endpoint_gone(&error))),
                }
            };
            self.answered = true;
            match parsed {
                None => {}
                Some(Err(reject)) => return Poll::Ready(Err(ProxyError::bad_response(reject.detail))),
                Some(Ok(head)) if !(100..200).contains(&head.status) || head.status == 101 => {
                    return Poll::Ready(Ok(head));
                }
                Some(Ok(head)) => {
                    *scanned = 0;
                    *interim += 1;
                    if *interim > MOST_INTERIM {
                        return Poll::Ready(Err(ProxyError::bad_response("too many interim responses")));
                    }
                    self.send_interim(cx, head)?;
                }
            }
        }
    }

    /// The endpoint ended the connection instead of answering.
    fn cut_short(&self) -> ProxyError {
        if self.answered {
            ProxyError::bad_response("the response ends within its head")
        } else {
            ProxyError::new(Token::UpstreamReset, Side::Endpoint)
        }
    }

    fn send_interim(&mut self, cx: &mut Context<'_>, head: ResponseHead) -> Result<(), ProxyError> {
        if !self.interim {
            heads::give(head.buf);
            return Ok(());
        }
        let mut edits = heads::edits();
        crate::message::hop::drop_hop_by_hop(&head.buf, &mut edits);
        let sent = match &mut self.client.link {
            Link::H1(wire) => scratch::with_out(|out| {
                write::response_head(&head, &edits, BodyKind::None, out);
                wire.send(cx, &[out])
                    .map(drop)
                    .map_err(|error| ProxyError::client_gone(&error))
            }),
            Link::H2(stream) => {
                let (fields, _) = fields::of_response(&head, &edits, BodyKind::None);
                stream.send_interim(head.status, fields)
            }
        };
        heads::give(head.buf);
        sent
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

    /// Nothing can move: may this go on, is the client still there, and is there time?
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<ProxyError> {
        if self
            .endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.state.standing.is_cut())
        {
            return Poll::Ready(ProxyError::cut());
        }
        if let Err(error) = self.watch_client(cx) {
            return Poll::Ready(error);
        }
        let Some((deadline, late)) = self.next_deadline(Instant::now()) else {
            return Poll::Pending;
        };
        if self.client.alarm.passed(cx, deadline) {
            Poll::Ready(late)
        } else {
            Poll::Pending
        }
    }

    /// With the request read, the client's side tells of its end. A stream of HTTP/2 does at any time: also while its
    /// body waits for the endpoint and is not read.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), ProxyError> {
        match (&self.upload.flow, &self.client.link) {
            (Some(_), Link::H1(_)) => Ok(()),
            _ => self.client.watch(cx, self.end_means_gone),
        }
    }

    /// The deadline that comes first, and what it means when it passes.
    fn next_deadline(&mut self, now: Instant) -> Option<(Instant, ProxyError)> {
        let bounds = self.bounds;
        let (read, written) = (self.client.link.bytes_read(), self.client.link.bytes_written());
        let mut first = First::default();
        if let Some(total) = bounds.total {
            first.offer(Some(total.at), || total.late());
        }
        if bounds.conversation {
            self.offer_silence(&mut first, now);
            return first.0;
        }
        let up_since = self.up_pace.note(read + self.peer.bytes_written(), now);
        let waits_for_client = self
            .upload
            .flow
            .as_ref()
            .is_some_and(|up| !up.held_up && !self.up_broken);
        if waits_for_client {
            first.offer(Bounds::after(up_since, bounds.body_idle), || {
                ProxyError::late(Token::RequestTimeout, Side::Client, "listeners.limits.body_idle")
            });
            first.offer(
                self.up_pace
                    .too_slow_at(read, bounds.min_rate, bounds.body_idle, now),
                || ProxyError::late(Token::RequestTimeout, Side::Client, "listeners.limits.min_rate"),
            );
        } else {
            self.up_pace.excused();
        }
        match &self.down {
            Down::Head { .. } if !waits_for_client => {
                first.offer(Bounds::after(up_since, bounds.response), || {
                    ProxyError::late(Token::ResponseTimeout, Side::Endpoint, bounds.response_key)
                });
            }
            Down::Head { .. } => {}
            Down::Body(flow) => {
                let since = self.down_pace.note(self.peer.bytes_read() + written, now);
                if flow.held_up {
                    first.offer(Bounds::after(since, bounds.send), late_send);
                    first.offer(
                        self.down_pace
                            .too_slow_at(written, bounds.min_rate, bounds.send, now),
                        || ProxyError::late(Token::AbortedClient, Side::Client, "listeners.limits.min_rate"),
                    );
                } else {
                    self.down_pace.excused();
                    first.offer(Bounds::after(since, bounds.idle), || {
                        ProxyError::late(Token::AbortedUpstream, Side::Endpoint, "routes.timeouts.idle")
                    });
                }
            }
        }
        first.0
    }
}

const fn late_send() -> ProxyError {
    ProxyError::late(
        Token::AbortedClient,
        Side::Client,
        "listeners.limits.send_timeout",
    )
}

/// The earliest of several deadlines.
#[derive(Default)]
struct First(Option<(Instant, ProxyError)>);

impl First {
    fn offer(&mut self, at: Option<Instant>, late: impl FnOnce() -> ProxyError) {
        if let Some(at) = at
            && self.0.as_ref().is_none_or(|(first, _)| at < *first)
        {
            self.0 = Some((at, late()));
        }
    }
}

type ParsedHead = Option<Result<ResponseHead, Reject>>;

fn parse_head(bytes: &[u8], scanned: &mut usize) -> (usize, ParsedHead) {
    let mut buf = heads::take();
    match parse::parse_response(bytes, &RESPONSE_HEAD, scanned, &mut buf) {
        Parsed::Complete { head, len } => (len, Some(Ok(head.with(buf)))),
        Parsed::Partial => {
            heads::give(buf);
            (0, None)
        }
        Parsed::Reject(reject) => {
            heads::give(buf);
            (bytes.len(), Some(Err(reject)))
        }
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
