//! The path of one attempt after another: pick an endpoint, connect or reuse, ask it, and perhaps another one.

use super::admit::Admitted;
use super::client::Client;
use super::context::RequestContext;
use super::deadline::Deadline;
use super::drill::{self, Drilled};
use super::error::{ProxyError, Side};
use super::handle::Done;
use super::peer::Peer;
use super::prepare::{self, Prepared};
use super::retry::{Next, Tries};
use super::upload::{self, Upload};
use super::{grpc, hold, judge, reach, room, round_trip, shared, upgrade};
use crate::base::clock::Millis;
use crate::message::token::Token;
use crate::routing::Match;
use crate::snapshot::RoutePlan;
use crate::telemetry::access::Outcome;
use crate::upstream::conn::Speaks;
use crate::upstream::local::{InFlight, LocalUpstream};
use std::time::Instant;

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
        .map_err(ProxyError::turned_away)?;
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
    let mut drilled = Drilled::default();
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
        let tried = match drilled.takes(context, &upstream, index) {
            None => try_endpoint(client, context, &mut attempt, in_flight).await,
            Some(drill) => Err(Box::pin(drill::swallow(client, context, &attempt, in_flight, drill)).await),
        };
        match tried {
            Ok(Tried::Done(done)) => {
                drilled.ended(true);
                permit.went(judge::did_well(context, policies));
                return Ok(done);
            }
            Ok(Tried::TurnedDown) => next = tries.take_next(),
            Err(error) => {
                judge::note_failure(context, &error);
                next = tries.after_failure(context, &upstream, &upload, &error);
                if error.drill && !matches!(next, Next::Nowhere) {
                    drilled.goes_on();
                }
                failed = error;
            }
        }
        now = Millis::now();
    }
    drilled.ended(false);
    if failed.blames_endpoint() {
        permit.went(false);
    }
    if let Some(flow) = upload.flow {
        upload::put_back(context, flow);
    }
    Err(failed)
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
        reach::begin_attempt(context, &endpoint, index, true);
        endpoint.series.reuses.inc();
        match round_trip::exchange(client, context, attempt, Peer::H1(conn)).await {
            Err(stale) if stale.may_repeat => {
                context.end_attempt(Some(Outcome::Failed(stale.error.token)), Instant::now());
            }
            Err(failed) => return Err(failed.error),
            Ok(answered) => return Ok(answered.done(in_flight)),
        }
    }
    let timeouts = &attempt.route.timeouts;
    let conn = reach::reach(client, context, timeouts, attempt.upstream, index, dial).await?;
    let answer = round_trip::exchange(client, context, attempt, Peer::H1(conn)).await;
    let answered = answer.map_err(|failed| failed.error)?;
    Ok(answered.done(in_flight))
}
