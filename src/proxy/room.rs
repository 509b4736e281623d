//! A place at an endpoint: picked at once, or waited for in the upstream's line.

use super::client::{Client, Link};
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::{hold, sticky};
use crate::base::clock::Millis;
use crate::message::framing::BodyKind;
use crate::message::token::Token;
use crate::upstream::local::{InFlight, LocalUpstream, Taken};
use crate::upstream::shared::queue::Place;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

/// An endpoint that was not tried, with a place at it.
pub(super) async fn find(
    client: &mut Client,
    context: &mut RequestContext,
    upstream: &LocalUpstream,
    tried: &[usize],
    now: Millis,
) -> Result<(usize, InFlight), ProxyError> {
    if upstream.plan.sticky.is_some() {
        match at_home(context, upstream, tried, now).await {
            Some(in_flight) => return Ok(in_flight),
            None if context.stay.is_bound() => return Err(sticky::refused(&context.stay)),
            None => {}
        }
    }
    let policies = &upstream.plan.resilience;
    // Those who wait already come first.
    let others_wait = policies.limited && policies.admission.queue.waiting() > 0;
    if !others_wait {
        match upstream.take(tried, context.ask(now)) {
            Taken::At(index, in_flight) => return Ok((index, in_flight)),
            Taken::Nobody => return Err(ProxyError::new(Token::NoEndpoint, Side::Gateway)),
            Taken::Full => {}
        }
    }
    let begun = Instant::now();
    // Rare, and not small: out of the way of those who need not wait.
    let found = Box::pin(wait(client, context, upstream, tried)).await;
    context.queued += begun.elapsed();
    found
}

/// A place at the endpoint that the request's session belongs to, unless it was tried. Who is at home there goes before
/// those who wait for any place.
async fn at_home(
    context: &mut RequestContext,
    upstream: &LocalUpstream,
    tried: &[usize],
    now: Millis,
) -> Option<(usize, InFlight)> {
    let home = context.stay.home().filter(|_| tried.is_empty())?;
    let standing = &upstream.endpoints.get(home)?.state.standing;
    let mut now = now;
    // After a start, endpoints are known one by one; that others are known sooner is no reason to leave.
    if standing.awaits_verdict(now) {
        let deadline = context.deadline.map(|deadline| deadline.at);
        Box::pin(hold::until_known(standing, deadline)).await;
        now = Millis::now();
    }
    match upstream.take_home(home, now) {
        Ok(in_flight) => Some((home, in_flight)),
        Err(why) => {
            context.stay.lose(why);
            None
        }
    }
}

async fn wait(
    client: &mut Client,
    context: &RequestContext,
    upstream: &LocalUpstream,
    tried: &[usize],
) -> Result<(usize, InFlight), ProxyError> {
    let policies = &upstream.plan.resilience;
    let begun = Instant::now();
    let Some(place) = policies.admission.queue.join(policies.queue.max) else {
        return Err(ProxyError {
            detail: Some("every endpoint is at its max_connections, and the queue is full"),
            ..ProxyError::new(Token::Overloaded, Side::Gateway)
        });
    };
    let mut may_look = place.is_first();
    loop {
        if may_look {
            place.again();
            match upstream.take(tried, context.ask(Millis::now())) {
                Taken::At(index, in_flight) => {
                    place.served(begun.elapsed());
                    return Ok((index, in_flight));
                }
                Taken::Nobody => return Err(ProxyError::new(Token::NoEndpoint, Side::Gateway)),
                Taken::Full => {}
            }
        }
        let over = begun + policies.queue.timeout;
        let late = match context.deadline {
            Some(total) if total.at < over => (total.at, total.late()),
            _ => (
                over,
                ProxyError::late(Token::Overloaded, Side::Gateway, "upstreams.queue.timeout"),
            ),
        };
        if let Err(error) = poll_fn(|cx| poll_turn(cx, client, context, &place, late)).await {
            if error.timeout.is_some() {
                place.late();
            }
            return Err(error);
        }
        may_look = true;
    }
}

/// Ready when its turn has come, or will not.
fn poll_turn(
    cx: &mut Context<'_>,
    client: &mut Client,
    context: &RequestContext,
    place: &Place<'_>,
    (by, late): (Instant, ProxyError),
) -> Poll<Result<(), ProxyError>> {
    if place.poll_called(cx).is_ready() {
        return Poll::Ready(Ok(()));
    }
    if let Err(error) = watch_client(cx, client, context) {
        return Poll::Ready(Err(error));
    }
    if client.alarm.passed(cx, by) {
        return Poll::Ready(Err(late));
    }
    Poll::Pending
}

/// Notices a client that leaves, where what it sends is not the body: nobody has asked for that yet. A stream of
/// HTTP/2 is watched without reading.
pub(super) fn watch_client(
    cx: &mut Context<'_>,
    client: &mut Client,
    context: &RequestContext,
) -> Result<(), ProxyError> {
    let bodiless = matches!(context.body, BodyKind::None | BodyKind::Length(0));
    match client.link {
        Link::H1(_) if !bodiless => Ok(()),
        // Who says no more within a handshake says nothing at all.
        _ => client.watch(cx, context.passthrough.is_some()),
    }
}
