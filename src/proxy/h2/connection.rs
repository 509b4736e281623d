//! The task of an HTTP/2 connection.

use super::guard::{Allowed, Guard, PREFACE};
use super::io::{FrameIo, Watch};
use super::job::{Job, Running, Shared};
use super::stream::Stream;
use crate::message::flatten::{self, Extended, Most};
use crate::message::grpc::is_grpc;
use crate::message::head::RequestHead;
use crate::message::names::Name;
use crate::net::alarm::Alarm;
use crate::net::scratch::FIRST_READ;
use crate::net::wire::Wire;
use crate::proxy::client::{Client, Link, Who};
use crate::proxy::connection::FIRST_REQUEST_GRACE;
use crate::proxy::error::ProxyError;
use crate::proxy::heads;
use crate::proxy::service::Begun;
use crate::proxy::view::ListenerView;
use crate::proxy::worker::{Entry, Worker};
use crate::snapshot::ListenerPlan;
use crate::telemetry::metrics::{Abuse, ListenerSeries};
use crate::ws::handshake::new_key;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Connection, Handshake, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long a client may take to understand that the connection ends, and we to tell.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a field counts for beside its text in SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Pseudo-fields of a request.
const PSEUDO_FIELDS: usize = 5;
/// Bytes of a head in a frame, at least: what is left of it follows in CONTINUATION frames.
const HEAD_FRAME: usize = 16 * 1024;
/// CONTINUATION frames that any head may come in.
const LEAST_CONTINUATIONS: usize = 4;
/// Streams reset before we took them that the engine keeps.
const MOST_PENDING_RESETS: usize = 4096;
/// Streams of one connection that we may have to reset for what the client made of them. The guard counts those that
/// went out, and ends the connection at far fewer in a row; this holds for those that cannot go out, because the client
/// reads nothing, and have to be remembered. It counts as long as the connection lasts, so one that comes near it in
/// honest years makes place for another.
const MOST_PROVOKED_RESETS: u32 = 4096;
/// Streams of one connection cut because the client took nothing, before it is taken for an attack: so many more than
/// were taken to their end.
const MOST_STALLED: u32 = 16;

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Preface {
    H1,
    H2,
    /// The client left, or said nothing for too long.
    Gone,
}

/// Reads until it is clear which protocol a new connection speaks. What was read stays on the wire.
pub(in crate::proxy) async fn preface(worker: &Worker, client: &mut Client, plan: &ListenerPlan) -> Preface {
    let opened = client.opened;
    let patience = plan.limits.keep_alive.min(plan.limits.header_timeout);
    let Client {
        link: Link::H1(wire),
        alarm,
        ..
    } = client
    else {
        return Preface::Gone;
    };
    poll_fn(|cx| {
        let patience = match worker.draining.get() {
            true => patience.min(FIRST_REQUEST_GRACE),
            false => patience,
        };
        loop {
            let judged = |bytes: &[u8]| {
                if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) {
                    None
                } else if bytes.starts_with(PREFACE) {
                    Some(Preface::H2)
                } else {
                    Some(Preface::H1)
                }
            };
            match wire.poll_more(cx, FIRST_READ, |bytes| (0, judged(bytes))) {
                Poll::Ready(Ok(Some(Some(spoken)))) => return Poll::Ready(spoken),
                Poll::Ready(Ok(Some(None))) => {}
                // The beginning of something: it is HTTP/1.1's to say what is wrong with it.
                Poll::Ready(Ok(None)) if !wire.carried().is_empty() => return Poll::Ready(Preface::H1),
                Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Preface::Gone),
                Poll::Pending if alarm.passed(cx, opened + patience) => return Poll::Ready(Preface::Gone),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Serves a connection that speaks HTTP/2, from its preface on, to its end.
pub(in crate::proxy) async fn serve(worker: &Rc<Worker>, entry: &Rc<Entry>, client: Client) {
    let Client {
        link: Link::H1(wire),
        who,
        ..
    } = client
    else {
        return;
    };
    let Some(listener) = worker.view().listener(who.listener).cloned() else {
        return;
    };
    entry.served_here().await;
    listener.series.h2_connections.inc();
    let now = Instant::now();
    let watch = Rc::new(Watch::new(Guard::new(allowed(&listener.plan), now), now));
    let series = listener.series.clone();
    let counted = Counted {
        watch: watch.clone(),
        series: series.clone(),
    };
    let mut alarm = Alarm::default();
    let mut handshake = handshake(wire, &listener.plan, &watch);
    let by = who.opened + listener.plan.limits.header_timeout;
    drop(listener);
    let begun = poll_fn(|cx| {
        counted.watch.begin_turn();
        match Pin::new(&mut handshake).poll(cx) {
            Poll::Ready(done) => Poll::Ready(done.inspect_err(|error| failed(&who, error)).ok()),
            Poll::Pending if alarm.passed(cx, by) => {
                series.h2_abuses.inc(Abuse::SlowHead);
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    });
    let Some(mut connection) = begun.await else { return };
    let mut driver = Driver {
        worker,
        watch: &counted.watch,
        pings: connection.ping_pong(),
        shared: Rc::new(Shared {
            entry: entry.clone(),
            who,
            watch: counted.watch.clone(),
            running: Cell::new(0),
            stalled: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        }),
        alarm,
        requests: 0,
        ping_sent: None,
        leaving: None,
        closing: None,
    };
    poll_fn(|cx| driver.poll(cx, &mut connection)).await;
}

fn handshake(mut wire: Wire, plan: &ListenerPlan, watch: &Rc<Watch>) -> Handshake<FrameIo, Bytes> {
    let limits = &plan.limits.h2;
    let carried = Bytes::from(wire.take_carried());
    let io = FrameIo::new(wire.transport, carried, watch.clone());
    h2::server::Builder::new()
        .max_concurrent_streams(limits.streams)
        .initial_window_size(limits.window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(limits.frame_bytes)
        .max_header_list_size(u32::try_from(header_list(plan)).unwrap_or(u32::MAX))
        .max_send_buffer_size(limits.send_buffer)
        .max_concurrent_reset_streams(limits.streams as usize)
        // The guard's to judge, which ends the connection long before.
        .max_pending_accept_reset_streams(MOST_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MOST_PROVOKED_RESETS as usize))
        .enable_connect_protocol()
        .handshake(io)
}

/// A list of fields that passes the listener's own limits passes this.
fn header_list(plan: &ListenerPlan) -> usize {
    let head = &plan.head_limits;
    let fields = head.fields.saturating_add(PSEUDO_FIELDS);
    head.head_bytes
        .saturating_add(FIELD_OVERHEAD.saturating_mul(fields))
}

fn allowed(plan: &ListenerPlan) -> Allowed {
    let continuations = LEAST_CONTINUATIONS + header_list(plan) / HEAD_FRAME;
    Allowed {
        streams: plan.limits.h2.streams,
        continuations: u32::try_from(continuations).unwrap_or(u32::MAX),
    }
}

/// Error codes are counted when the connection ends too, however it does.
struct Counted {
    watch: Rc<Watch>,
    series: Arc<ListenerSeries>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        count_codes(&self.watch, &self.series);
    }
}

fn count_codes(watch: &Watch, series: &ListenerSeries) {
    if let Some(codes) = watch.take_codes() {
        series.h2_resets_received.add(&codes.resets_received);
        series.h2_resets_sent.add(&codes.resets_sent);
        series.h2_errors_received.add(&codes.ends_received);
        series.h2_errors_sent.add(&codes.ends_sent);
    }
}

fn failed(who: &Who, error: &h2::Error) {
    tracing::debug!(client = %who.ip, connection = who.number, %error, "an HTTP/2 connection failed");
}

/// Why a connection is closed at once.
enum Verdict {
    Abuse(Abuse),
    /// In order: nothing is lost.
    Done,
    /// The client does not answer any more.
    Dead,
}

struct Driver<'a> {
    worker: &'a Rc<Worker>,
    watch: &'a Watch,
    pings: Option<PingPong>,
    shared: Rc<Shared>,
    alarm: Alarm,
    requests: u64,
    ping_sent: Option<Instant>,
    /// Since when the client knows that no more requests are taken.
    leaving: Option<Instant>,
    /// When the connection is dropped, said goodbye or not.
    closing: Option<Instant>,
}

impl Driver<'_> {
    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>, connection: &mut Connection<FrameIo, Bytes>) -> Poll<()> {
        self.watch.begin_turn();
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    self.ended(&error);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {
                    let before = (self.leaving, self.closing);
                    if self.poll_around(cx, connection).is_ready() {
                        return Poll::Ready(());
                    }
                    // What was decided has to be written.
                    if before == (self.leaving, self.closing) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// The engine gave the connection up.
    fn ended(&self, error: &h2::Error) {
        if let (Some(what), None) = (self.watch.found(), self.closing)
            && let Some(listener) = self.worker.view().listener(self.shared.who.listener)
        {
            listener.series.h2_abuses.inc(what);
        }
        failed(&self.shared.who, error);
    }

    /// A stream was opened.
    fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        // A client that heard of the end goes elsewhere. One that does not acknowledge it would never be told where the
        // end is, and could go on for ever.
        if self.leaving.is_some_and(|since| since.elapsed() > FAREWELL) {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let shared = &self.shared;
        let view = self.worker.view();
        let Some(listener) = view.listener(shared.who.listener) else {
            return;
        };
        self.requests += 1;
        // When it came.
        let now = self.watch.last_read();
        let running = Running::new(shared, &listener.series, now);
        let (parts, body) = request.into_parts();
        let mut stream = Stream::new(body, respond);
        let head = flat(&parts, &listener.plan);
        stream.grpc = match &head {
            Ok(head) => head.buf.get(Name::ContentType).is_some_and(is_grpc),
            Err(_) => parts
                .headers
                .get(CONTENT_TYPE)
                .is_some_and(|kind| is_grpc(kind.as_bytes())),
        };
        if let Ok(head) = &head {
            stream.note_head(head.buf.bytes.len() as u64);
        }
        let mut client = Client::speaking(Link::H2(Box::new(stream)), shared.who.clone());
        client.requests = self.requests;
        let begun = Begun {
            worker: self.worker.clone(),
            listener: listener.clone(),
            start: now,
            head_done: now,
        };
        self.worker
            .register_stream(shared.who.listener, |entry, registered| Job {
                entry,
                registered,
                running,
                client,
                begun,
                head,
            });
    }

    /// Looks at everything but frames: is it time to go, is somebody there?
    fn poll_around(&mut self, cx: &mut Context<'_>, connection: &mut Connection<FrameIo, Bytes>) -> Poll<()> {
        let view = self.worker.view();
        let Some(listener) = view.listener(self.shared.who.listener) else {
            return Poll::Ready(());
        };
        count_codes(self.watch, &listener.series);
        if let Some(by) = self.closing {
            return if self.alarm.passed(cx, by) {
                Poll::Ready(())
            } else {
                Poll::Pending
            };
        }
        if self.leaving.is_none() && self.should_leave(listener) {
            connection.graceful_shutdown();
            self.leaving = Some(Instant::now());
        }
        self.poll_pong(cx);
        let verdict = match self.judge(listener) {
            Some(verdict) => verdict,
            None => match self.next_deadline(listener, connection.has_streams()) {
                Some((by, verdict)) if self.alarm.passed(cx, by) => match verdict {
                    Some(verdict) => verdict,
                    None => {
                        // Due is a PING, or to leave.
                        self.ping(listener);
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                },
                _ => return Poll::Pending,
            },
        };
        let reason = match verdict {
            Verdict::Abuse(what) => {
                listener.series.h2_abuses.inc(what);
                tracing::debug!(
                    client = %self.shared.who.ip,
                    kind = what.name(),
                    "closed an HTTP/2 connection for what its client did"
                );
                match what {
                    Abuse::SlowHead | Abuse::WindowStall => Reason::NO_ERROR,
                    _ => Reason::ENHANCE_YOUR_CALM,
                }
            }
            Verdict::Done => Reason::NO_ERROR,
            Verdict::Dead => return Poll::Ready(()),
        };
        connection.abrupt_shutdown(reason);
        self.closing = Some(Instant::now() + FAREWELL);
        Poll::Pending
    }

    /// Whether no more requests are to be taken.
    fn should_leave(&self, listener: &ListenerView) -> bool {
        let limits = &listener.plan.limits;
        let worn_out = limits.requests_per_connection > 0 && self.requests >= limits.requests_per_connection;
        let old = !limits.max_connection_age.is_zero()
            && self.shared.who.opened.elapsed() >= limits.max_connection_age;
        // A new connection's first request is likely to be on its way.
        let fresh = self.requests == 0 && self.shared.who.opened.elapsed() < FAREWELL;
        let often_reset = self.watch.provoked() >= MOST_PROVOKED_RESETS / 2;
        worn_out || often_reset || old || (self.worker.draining.get() || listener.removed) && !fresh
    }

    /// What there is to object to.
    fn judge(&self, listener: &ListenerView) -> Option<Verdict> {
        if let Some(found) = self.watch.found() {
            return Some(Verdict::Abuse(found));
        }
        if self.shared.stalled.get() >= MOST_STALLED.min(listener.plan.limits.h2.streams) {
            return Some(Verdict::Abuse(Abuse::WindowStall));
        }
        None
    }

    /// The deadline that comes first, and what it means when it passes; `None`: the time to look again.
    ///
    /// `unsent`: of some stream not all has gone to the client.
    fn next_deadline(&self, listener: &ListenerView, unsent: bool) -> Option<(Instant, Option<Verdict>)> {
        let limits = &listener.plan.limits;
        let mut first: Option<(Instant, Option<Verdict>)> = None;
        let mut offer = |at: Instant, verdict| {
            if first.as_ref().is_none_or(|(by, _)| at < *by) {
                first = Some((at, verdict));
            }
        };
        if let Some(since) = self.watch.head_since() {
            offer(
                since + limits.header_timeout,
                Some(Verdict::Abuse(Abuse::SlowHead)),
            );
        }
        if let Some(since) = self.watch.stalled_since() {
            offer(
                since + limits.send_timeout,
                Some(Verdict::Abuse(Abuse::WindowStall)),
            );
        }
        let idle = self.shared.running.get() == 0 && !unsent;
        let idle_since = self.shared.idle_since.get();
        match self.leaving {
            Some(leaving) if idle => offer(leaving.max(idle_since) + FAREWELL, Some(Verdict::Done)),
            Some(_) => {}
            None => {
                if idle {
                    offer(idle_since + limits.keep_alive, Some(Verdict::Done));
                }
                if !limits.max_connection_age.is_zero() {
                    offer(self.shared.who.opened + limits.max_connection_age, None);
                }
                if (self.worker.draining.get() || listener.removed) && self.requests == 0 {
                    offer(self.shared.who.opened + FAREWELL, None);
                }
            }
        }
        let h2 = &limits.h2;
        match self.ping_sent {
            Some(sent) => offer(sent + h2.ping_timeout, Some(Verdict::Dead)),
            None if !h2.ping.is_zero() => offer(self.watch.last_read() + h2.ping, None),
            None => {}
        }
        first
    }

    /// Sends a PING where the client was silent for long enough.
    fn ping(&mut self, listener: &ListenerView) {
        let every = listener.plan.limits.h2.ping;
        let due = !every.is_zero() && self.watch.last_read().elapsed() >= every;
        if let (Some(pings), true, None) = (&mut self.pings, due, self.ping_sent) {
            // Fails where the connection is gone, and then it is not answered.
            let _sent = pings.send_ping(Ping::opaque());
            self.ping_sent = Some(Instant::now());
        }
    }

    fn poll_pong(&mut self, cx: &mut Context<'_>) {
        if let (Some(pings), Some(_)) = (&mut self.pings, self.ping_sent)
            && pings.poll_pong(cx).is_ready()
        {
            self.ping_sent = None;
        }
    }
}

/// The head of a request as all are read.
fn flat(parts: &Parts, plan: &ListenerPlan) -> Result<RequestHead, ProxyError> {
    let limits = &plan.head_limits;
    let most = Most {
        head_bytes: limits.head_bytes,
        fields: limits.fields,
        target_bytes: limits.target_bytes,
    };
    let key = parts.extensions.get::<Protocol>().map(|_| new_key());
    let extended = parts.extensions.get::<Protocol>().zip(key.as_deref());
    let extended = extended.map(|(protocol, key)| Extended {
        protocol: protocol.as_str(),
        key,
    });
    flatten::request(parts, extended, most, heads::take()).map_err(|(reject, buf)| {
        heads::give(buf);
        ProxyError::refused(reject)
    })
}
