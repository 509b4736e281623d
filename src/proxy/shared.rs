//! An attempt at an endpoint that is, or may be, spoken to in HTTP/2: on a connection that other requests are on.

use super::client::Client;
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::exchange::Bounds;
use super::forward::{Tried, Try};
use super::peer::{self, Peer};
use super::{grpc, prepare, reach, round_trip, upgrade};
use crate::message::fields;
use crate::message::head::Version;
use crate::message::token::Token;
use crate::telemetry::access::Outcome;
use crate::tls::client_fault::TlsFault;
use crate::upstream::conn::h2::{Call, Ended, Seat};
use crate::upstream::conn::{BeginError, Conn};
use crate::upstream::local::{InFlight, Joined, LocalEndpoint, Opened, Opening};
use http::Request;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

/// Goodbyes that a request may come too late for, at one endpoint. Who says it after so many requests each time says it
/// to others as well that wait for the same connection.
const MOST_GOODBYES: u32 = 5;

/// One endpoint. What it has not looked at, and what a connection that was there before did not live to answer, is sent
/// once more, on another.
pub(super) async fn try_endpoint(
    client: &mut Client,
    context: &mut RequestContext,
    attempt: &mut Try<'_>,
    in_flight: InFlight,
) -> Result<Tried, ProxyError> {
    let mut left = MOST_GOODBYES;
    loop {
        let peer = connection(client, context, attempt).await?;
        match round_trip::exchange(client, context, attempt, peer).await {
            Err(stale) if stale.may_repeat && left > 0 => {
                let goodbye = stale.error.unsent && !stale.error.reset;
                left = if goodbye { left - 1 } else { 0 };
                context.end_attempt(Some(Outcome::Failed(stale.error.token)), Instant::now());
            }
            Err(failed) => return Err(failed.error),
            Ok(answered) => return Ok(answered.done(in_flight)),
        }
    }
}

/// A connection for this request, its head sent where that begins a stream.
async fn connection(
    client: &mut Client,
    context: &mut RequestContext,
    attempt: &mut Try<'_>,
) -> Result<Peer, ProxyError> {
    let (upstream, index) = (attempt.upstream, attempt.index);
    let endpoint = upstream.endpoints[index].clone();
    let plan = &upstream.plan.endpoints[index];
    prepare::set_host(context.head()?, &plan.authority, attempt.prepared);
    grpc::allow(context, attempt.prepared)?;
    let dial = &upstream.plan.dial;
    let behalf = client.behalf(dial);
    let started = Instant::now();
    let mut waited = false;
    loop {
        match endpoint.join(dial, behalf.as_ref()) {
            Joined::Seated(seat) if attempt.prepared.upgrade && !seat.takes_extended_connect() => {
                drop(seat);
                if !waited {
                    reach::begin_attempt(context, &endpoint, index, false);
                }
                let Some(apart) = &dial.apart else {
                    return Err(no_extended_connect());
                };
                let timeouts = &attempt.route.timeouts;
                let conn = reach::open(client, context, timeouts, upstream, index, apart).await;
                return alone(attempt, conn.map_err(ProxyError::unsent)?);
            }
            Joined::Seated(seat) => {
                if !waited {
                    reach::begin_attempt(context, &endpoint, index, true);
                    endpoint.series.reuses.inc();
                }
                match call(context, attempt, seat)? {
                    Some(call) => return Ok(Peer::H2(Box::new(call))),
                    // It has just said goodbye.
                    None => waited = true,
                }
            }
            Joined::Alone => {
                let timeouts = &attempt.route.timeouts;
                let conn = match endpoint.checkout(dial, behalf.as_ref()) {
                    Some(conn) => {
                        reach::begin_attempt(context, &endpoint, index, true);
                        endpoint.series.reuses.inc();
                        conn
                    }
                    None => reach::reach(client, context, timeouts, upstream, index, dial).await?,
                };
                if conn.speaks_http2().is_ok_and(|http2| !http2) {
                    return alone(attempt, conn);
                }
                // It has changed its mind, as one does that was updated: the next connection is shared.
                endpoint.speaks_http2();
                waited = true;
            }
            Joined::Full => {
                if !waited {
                    reach::begin_attempt(context, &endpoint, index, false);
                    waited = true;
                }
                let opening = endpoint.open_another(dial, behalf.as_ref(), plan.server_name.as_ref());
                let opened = wait(client, context, attempt, &endpoint, opening, started).await;
                if let Opened::Alone(conn) = opened.map_err(ProxyError::unsent)?
                    && let Some(conn) = conn.take()
                {
                    return alone(attempt, conn);
                }
            }
        }
    }
}

/// Begins the request's stream. `None`: the connection takes no more of them.
fn call(context: &mut RequestContext, attempt: &mut Try<'_>, seat: Seat) -> Result<Option<Call>, ProxyError> {
    // Waiting for the connection took some of the time.
    grpc::allow(context, attempt.prepared)?;
    let prepared = &*attempt.prepared;
    // Its engine holds the body to what was announced.
    let of_http2 = context.head()?.version == Version::H2;
    if !attempt.upload.goes_plain(of_http2) {
        return Err(ProxyError {
            detail: Some("what was sent of the body to another endpoint can't be sent in HTTP/2"),
            ..ProxyError::new(Token::UpstreamReset, Side::Endpoint)
        });
    }
    let secure = attempt.upstream.plan.dial.tls.is_some();
    let head = context.head()?;
    let sent = match prepared.upgrade {
        true => fields::of_connect(head, &prepared.edits, secure),
        false => fields::of_request(head, &prepared.edits, context.body, secure),
    };
    let Some(sent) = sent else {
        return Err(ProxyError {
            detail: Some("Host, or the target, can't be written in HTTP/2"),
            ..ProxyError::new(Token::BadRequest, Side::Client)
        });
    };
    let mut request = Request::new(());
    *request.method_mut() = sent.method;
    *request.uri_mut() = sent.uri;
    *request.headers_mut() = sent.fields;
    if prepared.upgrade {
        request.extensions_mut().insert(upgrade::protocol(head));
    }
    let is_all = attempt.upload.is_over() && !prepared.upgrade;
    match Call::begin(seat, request, is_all) {
        Ok(mut call) => {
            call.head_written = sent.bytes;
            if let Some(attempt) = context.attempts.last_mut() {
                attempt.version = Version::H2;
            }
            Ok(Some(call))
        }
        Err(Ended::Unprocessed(_)) => Ok(None),
        Err(ended) => Err(peer::unanswered(ended)),
    }
}

const fn no_extended_connect() -> ProxyError {
    ProxyError {
        detail: Some("the endpoint speaks HTTP/2 and does not offer extended CONNECT (RFC 8441)"),
        ..ProxyError::new(Token::UpgradeRefused, Side::Gateway)
    }
}

/// A connection in HTTP/1.1, with an endpoint that might have spoken HTTP/2.
fn alone(attempt: &mut Try<'_>, conn: Box<Conn>) -> Result<Peer, ProxyError> {
    if !attempt.upload.goes_as_http1() {
        return Err(ProxyError {
            detail: Some("what was sent of the body to another endpoint can't be sent in HTTP/1.1"),
            ..ProxyError::new(Token::UpstreamReset, Side::Endpoint)
        });
    }
    Ok(Peer::H1(conn))
}

/// Waits for a connection that is being opened, within the connect timeout and the request's own deadline.
async fn wait(
    client: &mut Client,
    context: &mut RequestContext,
    attempt: &Try<'_>,
    endpoint: &Rc<LocalEndpoint>,
    mut opening: Opening,
    started: Instant,
) -> Result<Opened, ProxyError> {
    if endpoint.state.targets().list.is_empty() {
        endpoint.series.connects_failed.inc();
        return Err(ProxyError::new(Token::DnsFailed, Side::Endpoint));
    }
    let timeouts = &attempt.route.timeouts;
    let late = reach::late(Bounds::after(started, timeouts.connect), context);
    let opened = poll_fn(|cx| {
        if let Poll::Ready(opened) = Pin::new(&mut opening.outcome).poll(cx) {
            return Poll::Ready(Ok(opened));
        }
        match late {
            Some((by, error)) if client.alarm.passed(cx, by) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    })
    .await;
    match opened {
        Ok(Ok(opened)) => {
            if let Some(attempt) = context.attempts.last_mut() {
                attempt.connected = Some(Instant::now());
            }
            Ok(opened)
        }
        Ok(Err(error)) => Err(match &*error {
            BeginError::Io(error) => ProxyError::io(Token::ConnectFailed, Side::Endpoint, error),
            BeginError::Tls { fault, .. } => {
                reach::complain(endpoint, *fault, &error.reason());
                ProxyError::tls(*fault)
            }
            BeginError::NotHttp2(_) => ProxyError {
                detail: Some("the endpoint does not speak HTTP/2"),
                ..ProxyError::new(Token::ConnectFailed, Side::Endpoint)
            },
        }),
        Err(late) => {
            // Nobody else is left who would count it.
            if opening.is_last() {
                endpoint.series.connects_failed.inc();
            }
            if opening.is_in_handshake() && late.token == Token::ConnectTimeout {
                return Err(ProxyError {
                    timeout: late.timeout,
                    ..ProxyError::tls(TlsFault::Timeout)
                });
            }
            Err(late)
        }
    }
}
