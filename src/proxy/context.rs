//! What is known about one request while it runs. When the context drops, however that comes about, the request
//! is counted and its access record is written: exactly one per request.

use super::client::{Client, Link, Who};
use super::deadline::Deadline;
use super::error::{ProxyError, Side};
use super::heads;
use super::secured::Secured;
use super::service::{Begun, Rest};
use super::sticky::Stay;
use super::upgrade::Places;
use super::view::{ListenerView, RouteView};
use super::worker::Worker;
use crate::base::clock::Millis;
use crate::message::framing::{self, BodyKind};
use crate::message::grpc::{self, Code};
use crate::message::head::{RequestHead, ResponseHead, Span, Version};
use crate::message::names::Name;
use crate::message::token::Token;
use crate::snapshot::PassthroughPlan;
use crate::telemetry::access::{AccessRecord, AttemptRecord, EndedBy, Outcome, TunnelRecord};
use crate::telemetry::metrics::{RouteSeries, Sticky};
use crate::upstream::local::{LocalEndpoint, LocalUpstream};
use crate::upstream::shared::Ask;
use crate::upstream::shared::sticky::By;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Text that is a piece of the head as received, or had to be made.
#[derive(Debug)]
pub(super) enum Text {
    Head(Span),
    Own(Vec<u8>),
}

impl Text {
    pub fn of<'a>(&'a self, head: &'a RequestHead) -> &'a [u8] {
        match self {
            Self::Head(span) => span.of(&head.buf.bytes),
            Self::Own(text) => text,
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::Head(Span::default())
    }
}

/// One try at an endpoint.
#[derive(Debug)]
pub(super) struct Attempt {
    pub endpoint: Rc<LocalEndpoint>,
    /// The endpoint's place in the upstream.
    pub index: usize,
    pub outcome: Outcome,
    pub reused: bool,
    /// What the endpoint is spoken to in.
    pub version: Version,
    pub started: Instant,
    pub connected: Option<Instant>,
    pub head: Option<Instant>,
    pub ended: Option<Instant>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct RequestContext {
    pub worker: Rc<Worker>,
    pub listener: Rc<ListenerView>,
    pub route: Option<Rc<RouteView>>,
    pub upstream: Option<Rc<LocalUpstream>>,
    /// Of what the request is known by, where the upstream asks for it.
    pub hash_key: Option<u64>,
    /// Where its session belongs.
    pub stay: Stay,
    pub series: Option<Arc<RouteSeries>>,
    /// First byte read.
    pub start: Instant,
    /// Head complete.
    pub head_done: Instant,
    pub who: Rc<Who>,
    /// Resolved through trusted proxies.
    pub client_ip: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    pub connection_requests: u64,
    pub request: Option<RequestHead>,
    pub response: Option<ResponseHead>,
    /// Normal form without port.
    pub host: Text,
    /// Normal form without query.
    pub path: Text,
    pub query: Option<Span>,
    pub request_id: SmallVec<[u8; 32]>,
    pub attempts: SmallVec<[Attempt; 1]>,
    /// The request is a call of gRPC: errors are told in its terms.
    pub grpc: bool,
    /// How the call ended, as far as its client was told.
    pub grpc_status: Option<Code>,
    /// When all must be over.
    pub deadline: Option<Deadline>,
    /// Time in the upstream's line.
    pub queued: Duration,
    /// 0 until an answer's head was written.
    pub status: u16,
    pub token: Option<Token>,
    pub detail: Option<&'static str>,
    pub timeout: Option<&'static str>,
    /// Seconds after which it may go better; 0: nobody knows.
    pub retry_after: u32,
    pub ended: EndedBy,
    /// When the answer was complete; `None` while it is not.
    pub ended_at: Option<Instant>,
    /// Client byte counts when the request began; the counts at the end are noted by `finish`.
    read_before: u64,
    written_before: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub head_bytes_sent: u64,
    pub tunnel: Option<TunnelRecord>,
    /// Its places in the counts of tunnels.
    pub places: Option<Box<Places>>,
    /// The connection goes on unopened: there is no request.
    pub passthrough: Option<Arc<PassthroughPlan>>,
    /// The request's body as announced.
    pub body: BodyKind,
    /// What is left of it when the exchange is over.
    pub rest: Rest,
    /// The answer ends where the connection ends.
    pub ends_by_close: bool,
}

impl RequestContext {
    #[inline]
    pub fn new(begun: Begun, client: &Client) -> Self {
        let Begun {
            worker,
            listener,
            start,
            head_done,
        } = begun;
        Self {
            worker,
            listener,
            route: None,
            upstream: None,
            hash_key: None,
            stay: Stay::default(),
            series: None,
            start,
            head_done,
            who: client.who.clone(),
            client_ip: client.ip,
            trusted: false,
            connection_requests: client.requests,
            request: None,
            response: None,
            host: Text::default(),
            path: Text::default(),
            query: None,
            request_id: SmallVec::new(),
            attempts: SmallVec::new(),
            grpc: client.link.is_grpc(),
            grpc_status: None,
            deadline: None,
            queued: Duration::ZERO,
            status: 0,
            token: None,
            detail: None,
            timeout: None,
            retry_after: 0,
            ended: EndedBy::Client,
            ended_at: None,
            read_before: client.counted_read,
            written_before: client.link.bytes_written(),
            bytes_received: 0,
            bytes_sent: 0,
            head_bytes_sent: 0,
            tunnel: None,
            places: None,
            passthrough: None,
            body: BodyKind::None,
            rest: Rest::Nothing,
            ends_by_close: false,
        }
    }

    /// The head has arrived.
    #[inline]
    pub fn begin(&mut self, head: RequestHead) {
        self.grpc = head.buf.get(Name::ContentType).is_some_and(grpc::is_grpc);
        self.request = Some(head);
    }

    /// The request's head. There is one from `begin` on; who asks before gets an internal error, not a panic.
    pub fn head(&self) -> Result<&RequestHead, ProxyError> {
        self.request
            .as_ref()
            .ok_or(ProxyError::new(Token::Internal, Side::Gateway))
    }

    /// Bytes of request body allowed; 0: any.
    pub fn body_limit(&self) -> u64 {
        let own = self.route.as_ref().and_then(|route| route.plan.body_limit);
        own.unwrap_or(self.listener.plan.limits.body)
    }

    pub fn host_bytes(&self) -> &[u8] {
        match (&self.host, &self.request) {
            (Text::Own(text), _) => text,
            (text, Some(head)) => text.of(head),
            (Text::Head(_), None) => b"",
        }
    }

    pub fn path_bytes(&self) -> &[u8] {
        self.request.as_ref().map_or(&b""[..], |head| self.path.of(head))
    }

    pub fn query_bytes(&self) -> Option<&[u8]> {
        Some(self.query?.of(&self.request.as_ref()?.buf.bytes))
    }

    /// Whether who sent it would come back to the same endpoint: a session, or a key, says where it belongs.
    pub fn has_home(&self) -> bool {
        let sticky = self.upstream.as_ref().and_then(|it| it.plan.sticky.as_ref());
        self.hash_key.is_some() || sticky.is_some_and(|sticky| matches!(sticky.by, By::Cookie(_)))
    }

    /// What an endpoint is picked by.
    pub const fn ask(&self, now: Millis) -> Ask {
        Ask {
            now,
            key: self.hash_key,
        }
    }

    /// Whether this connection may carry another request, as far as it is ours and the head's to say.
    pub fn may_keep_alive(&self) -> bool {
        let limits = &self.listener.plan.limits;
        let worn_out =
            limits.requests_per_connection > 0 && self.connection_requests >= limits.requests_per_connection;
        let wanted = self
            .request
            .as_ref()
            .is_some_and(|head| framing::persistent(head.version, &head.buf));
        // What follows a body of which nothing is known cannot be taken for a request.
        let clear = !matches!(self.rest, Rest::Unknown);
        wanted && clear && !worn_out && !self.listener.removed && !self.worker.draining.get()
    }

    /// The request goes on for long, as a tunnel: keeps of the heads what the record wants, in no more memory than
    /// that takes.
    pub fn settle(&mut self) {
        let heads = [
            self.request.as_mut().map(|head| &mut head.buf),
            self.response.as_mut().map(|head| &mut head.buf),
        ];
        for buf in heads.into_iter().flatten() {
            buf.bytes.shrink_to_fit();
            buf.fields.shrink_to_fit();
        }
        if self.listener.plan.access.is_none() {
            self.give_heads();
        }
    }

    fn give_heads(&mut self) {
        if let Some(head) = self.request.take() {
            heads::give(head.buf);
        }
        if let Some(head) = self.response.take() {
            heads::give(head.buf);
        }
    }

    /// Notes why the request failed.
    pub fn failed(&mut self, error: &ProxyError) {
        self.token = Some(error.token);
        self.detail = error.detail;
        self.timeout = error.timeout;
        self.retry_after = error.retry_after;
        self.ended = match error.side {
            Side::Client => EndedBy::Client,
            Side::Endpoint => EndedBy::Endpoint,
            Side::Gateway => EndedBy::Gateway,
        };
    }

    /// Notes the bytes that the request moved on the client's side so far.
    pub fn note_bytes(&mut self, client: &mut Client) {
        let wire = match &client.link {
            Link::H1(wire) => wire,
            Link::H2(stream) => {
                self.bytes_received = stream.bytes_read();
                self.bytes_sent = stream.bytes_written();
                return;
            }
        };
        // What is carried belongs to the next request.
        let read = wire.bytes_read - wire.carried().len() as u64;
        self.bytes_received = read - self.read_before.min(read);
        // The rest of an own answer goes out before the next request is looked at.
        self.bytes_sent = wire.bytes_written - self.written_before + wire.unsent();
        client.counted_read = read;
    }

    /// Ends the attempt that runs, if one does.
    pub fn end_attempt(&mut self, outcome: Option<Outcome>, now: Instant) {
        let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.ended.is_none()) else {
            return;
        };
        attempt.ended = Some(now);
        if let Some(outcome) = outcome {
            attempt.outcome = outcome;
        }
    }

    fn record(&self, now: Instant, attempts: &[AttemptRecord<'_>], write: impl FnOnce(&AccessRecord<'_>)) {
        let head = self.request.as_ref();
        let who = &*self.who;
        write(&AccessRecord {
            start: self.start,
            head_done: self.head_done,
            end: now,
            time: SystemTime::now(),
            client: self.client_ip,
            peer: who
                .announced
                .as_ref()
                .map_or(who.peer, |announced| announced.peer),
            server: who.server,
            announced: who.announced.as_ref().map(|announced| announced.record()),
            listener: &self.listener.plan.name,
            scheme: match self.passthrough {
                Some(_) => "tls",
                None => who.scheme.text(),
            },
            tls: who.tls.as_deref().map(Secured::record),
            connection: who.number,
            connection_requests: self.connection_requests,
            request: head,
            host: self.host_bytes(),
            path: head.map_or(&b""[..], |head| self.path.of(head)),
            request_id: &self.request_id,
            route: self.route.as_ref().map(|route| &*route.plan.name),
            upstream: self.upstream.as_ref().map(|upstream| &*upstream.plan.name),
            status: self.logged_status(),
            grpc_status: self.grpc_status,
            token: self.token,
            detail: self.detail,
            timeout: self.timeout,
            ended: self.ended,
            response: self.response.as_ref(),
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            body_bytes_sent: self.bytes_sent.saturating_sub(self.head_bytes_sent),
            queued: self.queued,
            sticky: self.sticky().map(Sticky::name),
            attempts,
            tunnel: self.tunnel,
        });
    }

    /// What became of its session; `None` where the upstream keeps none.
    fn sticky(&self) -> Option<Sticky> {
        self.stay
            .outcome(self.attempts.last().map(|attempt| attempt.index))
    }

    /// As sent; 499 when the client left before anything was.
    fn logged_status(&self) -> u16 {
        if self.status == 0 {
            Token::ClientClosed.status()
        } else {
            self.status
        }
    }

    /// Writes a record of a tunnel that has just opened.
    pub fn record_opening(&mut self) {
        let ended = std::mem::replace(&mut self.ended, EndedBy::Open);
        self.write_record(Instant::now());
        self.ended = ended;
    }

    fn write_record(&self, now: Instant) {
        let Some(access) = &self.listener.plan.access else {
            return;
        };
        if !access.sampler.keeps(self.logged_status(), self.token) {
            return;
        }
        let attempts: SmallVec<[AttemptRecord<'_>; 2]> = self
            .attempts
            .iter()
            .map(|attempt| AttemptRecord {
                endpoint: &attempt.endpoint.state.key.address,
                outcome: attempt.outcome,
                reused: attempt.reused,
                version: attempt.version,
                started: attempt.started,
                connected: attempt.connected,
                head: attempt.head,
                ended: attempt.ended.unwrap_or(now),
            })
            .collect();
        self.record(now, &attempts, |record| {
            self.worker
                .access
                .record(&access.file, |lines| access.format.write(record, lines));
        });
    }

    fn count(&self, duration: Duration) {
        let listener = &self.listener.series;
        if self.passthrough.is_none() {
            listener.requests.inc();
            self.worker.metrics.worker.requests.inc();
        }
        listener.bytes_received.add(self.bytes_received);
        listener.bytes_sent.add(self.bytes_sent);
        match &self.series {
            Some(route) => {
                route.requests.inc(self.logged_status());
                route.bytes_received.add(self.bytes_received);
                route.bytes_sent.add(self.bytes_sent);
                if self.tunnel.is_none() {
                    route.duration.record(duration);
                }
                if let Some(token) = self.token {
                    route.errors.inc(token);
                }
                if let Some(outcome) = self.sticky() {
                    route.sessions.inc(outcome);
                }
            }
            None => {
                if let Some(token) = self.token {
                    listener.heads_refused.inc(token);
                }
            }
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        let now = self.ended_at.unwrap_or_else(Instant::now);
        if self.ended != EndedBy::Done && self.token.is_none() {
            if std::thread::panicking() {
                self.failed(&ProxyError::new(Token::Internal, Side::Gateway));
            } else if self.worker.stopped.get() {
                self.failed(&ProxyError::new(Token::Draining, Side::Gateway));
            } else if self.status == 0 {
                self.token = Some(Token::ClientClosed);
            }
        }
        self.end_attempt(None, now);
        self.write_record(now);
        self.count(now.duration_since(self.start));
        self.give_heads();
    }
}
