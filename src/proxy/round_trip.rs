//! One request and its answer on one connection: sent, judged by its head, and passed on, or turned down for another
//! try.

use super::client::Client;
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::exchange::{Bounds, Exchange};
use super::flow::Framing;
use super::forward::{Tried, Try};
use super::handle::Done;
use super::peer::Peer;
use super::prepare::Prepared;
use super::retry::Tries;
use super::service::Rest;
use super::{grpc, heads, judge, respond, upgrade, upload};
use crate::h1::write;
use crate::message::framing::{self, BodyKind};
use crate::message::head::{ResponseHead, Version};
use crate::message::names::Name;
use crate::message::token::Token;
use crate::routing::Match;
use crate::snapshot::RoutePlan;
use crate::telemetry::access::EndedBy;
use crate::upstream::local::{InFlight, LocalUpstream};
use std::time::Instant;

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
                upload::put_back(context, flow);
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
    judge::note_answer(context, &response, said);
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
    let keep_alive = context.may_keep_alive()
        && !context.ends_by_close
        && (exchange.request_done() || !upload::expects(context));
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

fn is_event_stream(response: &ResponseHead) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    response.buf.get(Name::ContentType).is_some_and(|kind| {
        kind.len() >= EVENT_STREAM.len() && kind[..EVENT_STREAM.len()].eq_ignore_ascii_case(EVENT_STREAM)
    })
}
