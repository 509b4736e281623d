//! A place at an endpoint: picked at once, or waited for in the upstream's line.

use super::client::{Client, Link};
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::exchange::Bounds;
use crate::base::clock::Millis;
use crate::message::framing::BodyKind;
use crate::message::token::Token;
use crate::snapshot::Timeouts;
use crate::upstream::local::{InFlight, LocalUpstream, Taken};
use crate::upstream::shared::queue::Place;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

/// An endpoint that was not tried, with a place at it.
pub(super) async fn find(
    client: &mut Client,
    context: &mut RequestContext,
    timeouts: &Timeouts,
    upstream: &LocalUpstream,
    tried: &[usize],
    now: Millis,
) -> Result<(usize, InFlight), ProxyError> {
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
    let found = Box::pin(wait(client, context, timeouts, upstream, tried)).await;
    context.queued += begun.elapsed();
    found
}

async fn wait(
    client: &mut Client,
    context: &RequestContext,
    timeouts: &Timeouts,
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
    let total = Bounds::after(context.start, timeouts.total);
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
        let late = match total {
            Some(total) if total < over => (
                total,
                ProxyError::late(Token::Deadline, Side::Gateway, "routes.timeouts.total"),
            ),
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
fn watch_client(
    cx: &mut Context<'_>,
    client: &mut Client,
    context: &RequestContext,
) -> Result<(), ProxyError> {
    let bodiless = matches!(context.body, BodyKind::None | BodyKind::Length(0));
    match client.link {
        Link::H1(_) if !bodiless => Ok(()),
        _ => client.watch(cx, false),
    }
}
