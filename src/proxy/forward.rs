//! Attempts at endpoints: pick, connect or reuse, send, wait for the answer, and perhaps another one.

use super::admit::Admitted;
use super::client::Client;
use super::context::{Attempt, RequestContext};
use super::deadline::Deadline;
use super::drill;
use super::error::{ProxyError, Side};
use super::exchange::{Bounds, Exchange};
use super::flow::{Flow, Framing};
use super::grpc;
use super::handle::Done;
use super::heads;
use super::hold;
use super::peer::Peer;
use super::prepare::{self, Prepared};
use super::respond;
use super::retry::{Next, Tries};
use super::room;
use super::service::Rest;
use super::shared;
use super::upgrade;
use super::upload::Upload;
use crate::base::clock::Millis;
use crate::h1::write;
use crate::message::framing::{self, BodyKind};
use crate::message::head::{ResponseHead, Version};
use crate::message::names::Name;
use crate::message::token::Token;
use crate::routing::Match;
use crate::snapshot::{RoutePlan, Timeouts};
use crate::telemetry::access::{EndedBy, Outcome};
use crate::telemetry::log::Every;
use crate::tls::client_fault::TlsFault;
use crate::upstream::conn::{BeginError, Caller, Conn, Dial, Speaks};
use crate::upstream::local::{InFlight, LocalEndpoint, LocalUpstream};
use crate::upstream::shared::admission::Refused;
use crate::upstream::shared::drill::Drill;
use crate::upstream::shared::outlier::{self, Fault, Reason};
use rustls::pki_types::ServerName;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sends a request to an endpoint of its upstream and its answer to the client.
pub(super) async fn forward(
    client: &mut Client,
    context: &mut RequestContext,
    route: &RoutePlan,
    matched: &Match,
    admitted: Admitted,
) -> Result<Done, ProxyError> {
    let Some(upstream) = context.upstream.clone() else {
        return Err(ProxyError::new(Token::Internal, Side::Gateway));
    };
    context.deadline = Deadline::of(context, &route.timeouts)?;
    let mut prepared = prepare::request(client, context, route, matched, admitted.absolute)?;
    if prepared.upgrade {
        Box::pin(upgrade::admit(client, context, route)).await?;
    }
    let mut now = Millis::of(context.head_done);
    upstream.note_request(now);
    let policies = &upstream.plan.resilience;
    let mut permit = policies
        .admission
        .enter(&policies.breaker, now)
        .map_err(turned_away)?;
    if upstream.plan.awaits_verdict(now) {
        Box::pin(hold::until_verdict(
            &upstream.plan,
            context.deadline.map(|deadline| deadline.at),
        ))
        .await;
        now = Millis::now();
    }
    let mut tries = Tries::new(context, &upstream);
    let mut upload = Upload::new(context, tries.keep(&upstream));
    let mut next = Next::Anywhere;
    let mut drilled: Option<Arc<Drill>> = None;
    let mut failed = ProxyError::new(Token::NoEndpoint, Side::Gateway);
    loop {
        let (index, in_flight) = match next {
            Next::At(index, in_flight) => (index, in_flight),
            Next::Anywhere => {
                match room::find(client, context, &upstream, tries.endpoints(), now).await {
                    Ok(found) => found,
                    Err(error) => {
                        // Nobody else is there: what went wrong is what went wrong before.
                        if error.token != Token::NoEndpoint {
                            failed = error;
                        }
                        break;
                    }
                }
            }
            Next::Nowhere => break,
        };
        tries.at(index, context);
        let mut attempt = Try {
            route,
            matched,
            upstream: &upstream,
            index,
            prepared: &mut prepared,
            tries: &mut tries,
            upload: &mut upload,
        };
        let drill = drill::taking(context, &upstream, index);
        let tried = match &drill {
            None => try_endpoint(client, context, &mut attempt, in_flight).await,
            Some(drill) => Err(Box::pin(drill::swallow(client, context, &attempt, in_flight, drill)).await),
        };
        drilled = drill.or(drilled);
        match tried {
            Ok(Tried::Done(done)) => {
                if let Some(drill) = drilled {
                    drill.ended(true);
                }
                let failed = policies.outlier.on.has_status(context.status)
                    || context
                        .grpc_status
                        .is_some_and(|status| policies.outlier.on.has_grpc(status));
                permit.went(!failed);
                return Ok(done);
            }
            Ok(Tried::TurnedDown) => next = tries.take_next(),
            Err(error) => {
                note_failure(context, &error);
                next = tries.after_failure(context, &upstream, &upload, &error);
                if error.drill && !matches!(next, Next::Nowhere) {
                    drill::goes_on(drilled.as_deref());
                }
                failed = error;
            }
        }
        now = Millis::now();
    }
    if let Some(drill) = drilled {
        drill.ended(false);
    }
    if failed.side == Side::Endpoint && !failed.drill {
        permit.went(false);
    }
    if let Some(flow) = upload.flow {
        put_back(context, flow);
    }
    Err(failed)
}

/// What a client is told whom the upstream does not let in.
pub(super) fn turned_away(refused: Refused) -> ProxyError {
    match refused {
        Refused::Open(left) => ProxyError {
            retry_after: u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
            ..ProxyError::new(Token::BreakerOpen, Side::Gateway)
        },
        Refused::Crowded => ProxyError {
            detail: Some("breaker.max_requests of the upstream are running"),
            ..ProxyError::new(Token::Overloaded, Side::Gateway)
        },
    }
}

/// One try at an endpoint: for what, where, and what lives on to the next.
pub(super) struct Try<'a> {
    pub route: &'a RoutePlan,
    pub matched: &'a Match,
    pub upstream: &'a LocalUpstream,
    pub index: usize,
    pub prepared: &'a mut Prepared,
    pub tries: &'a mut Tries,
    pub upload: &'a mut Upload,
}

/// What a try came to, if it did not fail.
pub(super) enum Tried {
    Done(Done),
    /// Its answer was not passed on: another endpoint is asked.
    TurnedDown,
}

/// Notes how an attempt failed, with the endpoint where it is the endpoint's fault.
pub(super) fn note_failure(context: &mut RequestContext, error: &ProxyError) {
    if let Some(attempt) = context.attempts.last()
        && error.side == Side::Endpoint
        && !error.drill
    {
        attempt.endpoint.series.failures.inc(error.token);
        if let Some(fault) = error.tls {
            attempt.endpoint.series.tls_failed.inc(fault);
        }
        learn(context, attempt, false);
        judge(context, attempt, Fault::Failed(error.token));
    }
    let outcome = match (error.side, context.response.is_some()) {
        // The head of the answer is what the attempt came to.
        (_, true) => None,
        (Side::Endpoint, false) => Some(Outcome::Failed(error.token)),
        (_, false) => Some(Outcome::Cancelled),
    };
    context.end_attempt(outcome, Instant::now());
}

/// One endpoint: on a pooled connection first, and if that turns out to be dead, on a new one.
async fn try_endpoint(
    client: &mut Client,
    context: &mut RequestContext,
    attempt: &mut Try<'_>,
    in_flight: InFlight,
) -> Result<Tried, ProxyError> {
    let index = attempt.index;
    if attempt.upstream.plan.dial.speaks != Speaks::Http1 {
        return Box::pin(shared::try_endpoint(client, context, attempt, in_flight)).await;
    }
    let endpoint = attempt.upstream.endpoints[index].clone();
    prepare::set_host(
        context.head()?,
        &attempt.upstream.plan.endpoints[index].authority,
        attempt.prepared,
    );
    grpc::allow(context, attempt.prepared)?;
    let dial = &attempt.upstream.plan.dial;
    let behalf = client.behalf(dial);
    if let Some(conn) = endpoint.checkout(dial, behalf.as_ref()) {
        begin_attempt(context, &endpoint, index, true);
        endpoint.series.reuses.inc();
        match exchange(client, context, attempt, Peer::H1(conn)).await {
            Err(stale) if stale.may_repeat => {
                context.end_attempt(Some(Outcome::Failed(stale.error.token)), Instant::now());
            }
            Err(failed) => return Err(failed.error),
            Ok(answered) => return Ok(answered.done(in_flight)),
        }
    }
    let timeouts = &attempt.route.timeouts;
    let conn = reach(client, context, timeouts, attempt.upstream, index, dial).await?;
    let answer = exchange(client, context, attempt, Peer::H1(conn)).await;
    let answered = answer.map_err(|failed| failed.error)?;
    Ok(answered.done(in_flight))
}

/// A new connection to an endpoint.
pub(super) async fn reach(
    client: &mut Client,
    context: &mut RequestContext,
    timeouts: &Timeouts,
    upstream: &LocalUpstream,
    index: usize,
    dial: &Arc<Dial>,
) -> Result<Box<Conn>, ProxyError> {
    begin_attempt(context, &upstream.endpoints[index], index, false);
    open(client, context, timeouts, upstream, index, dial).await
}

/// The same for an attempt that has begun.
pub(super) async fn open(
    client: &mut Client,
    context: &mut RequestContext,
    timeouts: &Timeouts,
    upstream: &LocalUpstream,
    index: usize,
    dial: &Arc<Dial>,
) -> Result<Box<Conn>, ProxyError> {
    let endpoint = &upstream.endpoints[index];
    let behalf = client.behalf(dial);
    let dialling = Dialling {
        dial,
        caller: Caller::Client(behalf.as_ref()),
        server_name: upstream.plan.endpoints[index].server_name.as_ref(),
    };
    connect(client, context, timeouts, endpoint, dialling)
        .await
        .map_err(ProxyError::unsent)
}

pub(super) fn begin_attempt(
    context: &mut RequestContext,
    endpoint: &Rc<LocalEndpoint>,
    index: usize,
    reused: bool,
) {
    let now = if context.attempts.is_empty() {
        context.head_done
    } else {
        Instant::now()
    };
    endpoint.series.attempts.inc();
    if !context.attempts.is_empty() {
        endpoint.series.retries.inc();
    }
    context.attempts.push(Attempt {
        endpoint: endpoint.clone(),
        index,
        outcome: Outcome::Cancelled,
        reused,
        version: Version::H11,
        started: now,
        connected: reused.then_some(now),
        head: None,
        ended: None,
    });
}

/// How a connection is to begin.
struct Dialling<'a> {
    dial: &'a Arc<Dial>,
    caller: Caller<'a>,
    /// The endpoint's own name, for TLS.
    server_name: Option<&'a ServerName<'static>>,
}

/// Opens a connection within the connect timeout and the request's own deadline.
async fn connect(
    client: &mut Client,
    context: &mut RequestContext,
    timeouts: &Timeouts,
    endpoint: &LocalEndpoint,
    Dialling {
        dial,
        caller,
        server_name,
    }: Dialling<'_>,
) -> Result<Box<Conn>, ProxyError> {
    let series = &endpoint.series;
    let started = Instant::now();
    let targets = endpoint.state.targets();
    if targets.list.is_empty() {
        series.connects_failed.inc();
        return Err(ProxyError::new(Token::DnsFailed, Side::Endpoint));
    }
    let first = endpoint.state.turn(targets.list.len());
    let connect_by = Bounds::after(started, timeouts.connect);
    let late = late(connect_by, context);
    let reached = Cell::new(false);
    let mut opening = std::pin::pin!(async {
        let conn = Conn::open_any(&targets.list, first, dial).await?;
        reached.set(true);
        conn.begin(caller, server_name).await
    });
    let opened = std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(opened) = opening.as_mut().poll(cx) {
            return std::task::Poll::Ready(Ok(opened));
        }
        if let Err(gone) = room::watch_client(cx, client, context) {
            return std::task::Poll::Ready(Err(gone));
        }
        match late {
            Some((by, error)) if client.alarm.passed(cx, by) => std::task::Poll::Ready(Err(error)),
            _ => std::task::Poll::Pending,
        }
    })
    .await;
    let now = Instant::now();
    match opened {
        Ok(Ok(conn)) => {
            series.connects.inc();
            series.connect_seconds.record(now - started);
            match conn.is_resumed() {
                Some(true) => series.tls_resumed.inc(),
                Some(false) => series.tls_full.inc(),
                None => {}
            }
            if let Some(attempt) = context.attempts.last_mut() {
                attempt.connected = Some(now);
            }
            Ok(Box::new(conn))
        }
        Ok(Err(BeginError::Io(error))) => {
            series.connects_failed.inc();
            Err(ProxyError::io(Token::ConnectFailed, Side::Endpoint, &error))
        }
        Ok(Err(BeginError::NotHttp2(_))) => {
            series.connects_failed.inc();
            Err(ProxyError::new(Token::ConnectFailed, Side::Endpoint))
        }
        Ok(Err(error @ BeginError::Tls { fault, .. })) => {
            series.connects_failed.inc();
            complain(endpoint, fault, &error.reason());
            Err(ProxyError::tls(fault))
        }
        Err(gone) if gone.side == Side::Client => Err(gone),
        Err(late) => {
            series.connects_failed.inc();
            if reached.get() && dial.tls.is_some() && late.token == Token::ConnectTimeout {
                return Err(ProxyError {
                    timeout: late.timeout,
                    ..ProxyError::tls(TlsFault::Timeout)
                });
            }
            Err(late)
        }
    }
}

/// What exactly is wrong with an endpoint's TLS, in one line of so many.
pub(super) fn complain(endpoint: &LocalEndpoint, fault: TlsFault, error: &str) {
    static COMPLAINTS: Every = Every::new(Duration::from_secs(1));
    if let Some(others) = COMPLAINTS.pass() {
        let (key, reason) = (&endpoint.state.key, fault.name());
        let target = format!("{}/{}", key.upstream, key.address);
        tracing::warn!(endpoint = target, reason, "TLS failed: {error}{others}");
    }
}

/// Which deadline of connecting comes first, and what it means when it passes.
pub(super) fn late(connect_by: Option<Instant>, context: &RequestContext) -> Option<(Instant, ProxyError)> {
    match (connect_by, context.deadline) {
        (Some(connect), Some(total)) if total.at < connect => Some((total.at, total.late())),
        (Some(connect), _) => Some((connect, late_connect(context))),
        (None, total) => total.map(|total| (total.at, total.late())),
    }
}

const fn late_connect(context: &RequestContext) -> ProxyError {
    let key = match context.passthrough {
        Some(_) => "listeners.passthrough.connect",
        None => "routes.timeouts.connect",
    };
    ProxyError::late(Token::ConnectTimeout, Side::Endpoint, key)
}

/// An exchange that failed, and whether a pooled connection was just found dead: nothing of the request can have
/// been acted on, or acting on it twice does no harm.
pub(super) struct Failed {
    pub error: ProxyError,
    pub may_repeat: bool,
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            may_repeat: false,
        }
    }
}

/// What an exchange came to.
pub(super) enum Answered {
    Whole { keep_alive: bool },
    Switched(Peer),
    TurnedDown,
}

impl Answered {
    /// The request's place at the endpoint is given up, or becomes the tunnel's.
    pub fn done(self, in_flight: InFlight) -> Tried {
        match self {
            Self::Whole { keep_alive } => Tried::Done(Done::Answered { keep_alive }),
            Self::Switched(peer) => Tried::Done(Done::Switched(peer, in_flight.into_tunnel())),
            Self::TurnedDown => Tried::TurnedDown,
        }
    }
}

/// One request and its answer on one connection.
pub(super) async fn exchange(
    client: &mut Client,
    context: &mut RequestContext,
    attempt: &mut Try<'_>,
    mut peer: Peer,
) -> Result<Answered, Failed> {
    let version = context.head()?.version;
    let (reused, read_before, written_before) = match &mut peer {
        Peer::H1(conn) => {
            conn.requests += 1;
            (conn.requests > 1, conn.wire.bytes_read, conn.wire.bytes_written)
        }
        Peer::H2(call) => (!call.is_first(), 0, 0),
    };
    let bounds = bounds(context, attempt.route, attempt.prepared.upgrade);
    let mut exchange = Exchange::new(client, &mut peer, attempt.upload, version, bounds);
    exchange.switches = attempt.prepared.upgrade;
    exchange.endpoint = context.attempts.last().map(|attempt| attempt.endpoint.clone());
    // From here on the body is the exchange's to read.
    context.rest = Rest::Nothing;
    let asked = Asked {
        route: attempt.route,
        matched: attempt.matched,
        upstream: attempt.upstream,
        prepared: attempt.prepared,
    };
    let result = drive(&mut exchange, context, &asked, attempt.tries).await;
    let (answered, up_broken) = (exchange.answered, exchange.up_broken);
    if let Some(attempt) = context.attempts.last() {
        let series = &attempt.endpoint.series;
        series.bytes_sent.add(peer.bytes_written() - written_before);
        series.bytes_received.add(peer.bytes_read() - read_before);
    }
    let driven = match result {
        Ok(driven) => driven,
        Err(error) if matches!(peer, Peer::H2(_)) => {
            return Err(failed_stream(error, attempt, reused && !answered));
        }
        Err(error) => {
            let harmless = error.unsent || attempt.tries.repeatable() && attempt.upload.is_whole();
            let may_repeat = reused && !answered && error.token == Token::UpstreamReset && harmless;
            return Err(Failed { error, may_repeat });
        }
    };
    match driven {
        Driven::Switched => Ok(Answered::Switched(peer)),
        Driven::TurnedDown => {
            context.end_attempt(None, Instant::now());
            Ok(Answered::TurnedDown)
        }
        Driven::Whole {
            keep_alive,
            endpoint_keeps,
        } => {
            let now = Instant::now();
            context.end_attempt(None, now);
            context.ended = EndedBy::Done;
            context.ended_at = Some(now);
            let rest = attempt.upload.flow.take();
            if endpoint_keeps
                && rest.is_none()
                && !up_broken
                && let (Some(attempt), Peer::H1(conn)) = (context.attempts.last(), peer)
            {
                attempt.endpoint.checkin(conn, now);
            }
            if let Some(flow) = rest {
                put_back(context, flow);
            }
            Ok(Answered::Whole { keep_alive })
        }
    }
}

/// A stream that ended. What the endpoint has not looked at may be repeated, if all of it is still here, and so may
/// what a connection did not live to answer.
#[inline(never)]
fn failed_stream(mut error: ProxyError, attempt: &Try<'_>, stale: bool) -> Failed {
    let whole = attempt.upload.is_whole();
    error.unsent &= whole;
    let lost = stale && error.token == Token::UpstreamReset && !error.reset && attempt.tries.repeatable();
    Failed {
        may_repeat: error.unsent || lost && whole,
        error,
    }
}

/// What is left of the request's body is the connection's again.
fn put_back(context: &mut RequestContext, flow: Box<Flow>) {
    // Who asked for leave to send a body, and got a final answer instead, may send it or not.
    context.rest = match expects(context) {
        true => Rest::Unknown,
        false => Rest::Unread(flow),
    };
}

fn bounds(context: &RequestContext, route: &RoutePlan, upgrade: bool) -> Bounds {
    let limits = &context.listener.plan.limits;
    let timeouts = &route.timeouts;
    let (response, response_key) = match upgrade {
        true => (
            route.websocket.handshake_timeout,
            "routes.websocket.handshake_timeout",
        ),
        false => (timeouts.response, "routes.timeouts.response"),
    };
    Bounds {
        response,
        response_key,
        idle: timeouts.idle,
        total: context.deadline,
        body_idle: limits.body_idle,
        send: limits.send_timeout,
        min_rate: limits.min_rate,
        conversation: context.grpc && context.body == BodyKind::UntilClose,
    }
}

enum Driven {
    Whole { keep_alive: bool, endpoint_keeps: bool },
    Switched,
    TurnedDown,
}

/// What a request is asked by, and where.
struct Asked<'a> {
    route: &'a RoutePlan,
    matched: &'a Match,
    upstream: &'a LocalUpstream,
    prepared: &'a Prepared,
}

async fn drive(
    exchange: &mut Exchange<'_>,
    context: &mut RequestContext,
    asked: &Asked<'_>,
    tries: &mut Tries,
) -> Result<Driven, ProxyError> {
    let prepared = asked.prepared;
    {
        let head = context.head()?;
        let body = match context.body {
            BodyKind::UntilClose => BodyKind::Chunked,
            body => body,
        };
        exchange.send_first();
        exchange
            .send_head(|out| write::request_head(head, &prepared.edits, body, out))
            .await?;
    }
    let mut response = exchange.response_head().await?;
    let said = grpc::said(context, &response);
    note_answer(context, &response, said);
    framing::check_response(&response).map_err(|reject| ProxyError::bad_response(reject.detail))?;
    if tries.turns_down(context, asked.upstream, exchange.upload, said) {
        heads::give(response.buf);
        return Ok(Driven::TurnedDown);
    }
    let method = context.head()?.method;
    let body = framing::response_body(&response, method)
        .map_err(|reject| ProxyError::bad_response(reject.detail))?;
    let mut body = exchange.body_of(body);
    let switched = response.status == 101;
    if switched {
        let checked = match prepared.upgrade {
            // There it is the status that says so.
            true if exchange.is_stream() => Ok(()),
            true => upgrade::check_answer(context.head()?, &response),
            false => Err(ProxyError::new(Token::UpgradeRefused, Side::Endpoint)),
        };
        if let Err(error) = checked {
            context.response = Some(response);
            return Err(error);
        }
        if context.head()?.version == Version::H2 {
            // There it is an ordinary answer that does not end (RFC 8441 section 5).
            (response.status, body) = (200, BodyKind::UntilClose);
        }
    }
    let framing = client_framing(context, body);
    context.ends_by_close = framing == Framing::Plain
        && matches!(body, BodyKind::UntilClose | BodyKind::Chunked)
        && context.head()?.version < Version::H2;
    let keep_alive =
        context.may_keep_alive() && !context.ends_by_close && (exchange.request_done() || !expects(context));
    exchange.end_means_gone = is_event_stream(&response);
    let endpoint_keeps = framing::persistent(response.version, &response.buf) && body != BodyKind::UntilClose;
    let mut edits = respond::edits(
        context,
        asked.route,
        asked.matched,
        prepared,
        &response,
        keep_alive,
    )?;
    if switched {
        let over_http1 = response.status == 101;
        if !over_http1 || exchange.is_stream() {
            edits.drop_known(&response.buf, Name::SecWebsocketAccept);
        }
        if over_http1 && exchange.is_stream() {
            upgrade::answer(context.head()?, &mut edits);
        }
    }
    context.status = response.status;
    context.head_bytes_sent = exchange.send_response(&response, &edits, body, framing).await?;
    context.response = Some(response);
    if switched {
        return Ok(Driven::Switched);
    }
    exchange.relay().await?;
    grpc::ended(context, exchange.grpc_status());
    Ok(Driven::Whole {
        keep_alive,
        endpoint_keeps,
    })
}

/// How the answer's body goes to this client: chunked where its length is not known, if the client knows that; in
/// HTTP/2 frames tell of the end.
fn client_framing(context: &RequestContext, body: BodyKind) -> Framing {
    let knows_chunked = context
        .request
        .as_ref()
        .is_some_and(|head| head.version == Version::H11);
    match body {
        BodyKind::Chunked | BodyKind::UntilClose if knows_chunked => Framing::Chunked,
        _ => Framing::Plain,
    }
}

/// Whether the client may be waiting for leave to send its body.
fn expects(context: &RequestContext) -> bool {
    let head = context.request.as_ref();
    head.is_some_and(|head| head.buf.has(Name::Expect))
}

fn is_event_stream(response: &ResponseHead) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    response.buf.get(Name::ContentType).is_some_and(|kind| {
        kind.len() >= EVENT_STREAM.len() && kind[..EVENT_STREAM.len()].eq_ignore_ascii_case(EVENT_STREAM)
    })
}

/// Counts an outcome for or against the endpoint, and ejects it when it was one too many.
fn judge(context: &RequestContext, attempt: &Attempt, outcome: Fault) {
    let Some(upstream) = &context.upstream else { return };
    let rules = &upstream.plan.resilience.outlier;
    let (state, series) = (&attempt.endpoint.state, &attempt.endpoint.series);
    let at_fault = outcome.is_of(rules.on);
    if at_fault || matches!(outcome, Fault::Failed(_)) {
        state.last_fault.note(outcome, Millis::now());
    }
    match (at_fault, outcome) {
        (true, _) => {
            series.faults.inc();
            let now = Millis::now();
            let failures = state.failed(now);
            // A request from before an ejection is no news after it.
            let fresh = Millis::of(attempt.started) >= state.standing.ejected_until();
            if rules.consecutive_failures > 0 && failures >= rules.consecutive_failures && fresh {
                let reason = Reason::InARow {
                    failures,
                    last: outcome,
                };
                outlier::eject(&upstream.plan, attempt.index, reason, now);
            }
        }
        (false, Fault::Answered(_) | Fault::Grpc(_)) => state.succeeded(),
        (false, Fault::Failed(_)) => {}
    }
}

fn note_answer(context: &mut RequestContext, response: &ResponseHead, said: Fault) {
    let Some(attempt) = context.attempts.last_mut() else {
        return;
    };
    let now = Instant::now();
    attempt.head = Some(now);
    attempt.outcome = Outcome::Answered(response.status);
    attempt.endpoint.series.responses.inc(response.status);
    attempt
        .endpoint
        .series
        .response_seconds
        .record(now.saturating_duration_since(attempt.connected.unwrap_or(now)));
    if let Some(attempt) = context.attempts.last() {
        learn(context, attempt, response.status < 500);
        judge(context, attempt, said);
    }
}

/// Tells the balancers of all workers how an endpoint answers, if they learn from that.
pub(super) fn learn(context: &RequestContext, attempt: &Attempt, well: bool) {
    if !context
        .upstream
        .as_ref()
        .is_some_and(|upstream| upstream.plan.learns())
    {
        return;
    }
    let end = attempt.head.unwrap_or_else(Instant::now);
    let took = end.saturating_duration_since(attempt.started);
    let latency = &attempt.endpoint.state.latency;
    if well {
        latency.answered(took, Millis::of(end));
    } else {
        latency.failed(took, Millis::of(end));
    }
}
