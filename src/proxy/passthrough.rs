//! A connection whose TLS is not opened here: an endpoint of its name's upstream gets all of it, from the first byte on.
//! Until one is reached nothing was sent, so whoever cannot be reached is passed over.

use super::client::{Client, Link};
use super::context::{RequestContext, Text};
use super::ends::Ends;
use super::error::{ProxyError, Side};
use super::handshake::{self, Unopened};
use super::peer::Peer;
use super::retry::Tries;
use super::service::Begun;
use super::tunnel::Tunnel;
use super::upgrade::Places;
use super::view::{ListenerKey, ListenerView};
use super::worker::Worker;
use super::{hash_key, hold, judge, reach, room};
use crate::base::clock::Millis;
use crate::message::token::Token;
use crate::snapshot::PassthroughPlan;
use crate::telemetry::access::Outcome;
use crate::upstream::conn::Conn;
use crate::upstream::local::{LocalUpstream, OpenTunnel};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What the record of a tunnel that came about has as its status. There is none on the wire; nginx counts so too.
const PASSED: u16 = 200;

/// Finds the endpoint. `None`: there is none, and the client was told in the words of TLS.
pub(super) async fn pass(
    worker: &Rc<Worker>,
    listener: Rc<ListenerView>,
    unopened: Unopened,
    (ends, key, number): (Ends, ListenerKey, u64),
) -> Option<(Box<Tunnel>, Box<Client>)> {
    let rule = listener.passthrough.get(unopened.rule)?;
    let (plan, upstream, series) = (rule.plan.clone(), rule.upstream.clone(), rule.series.clone());
    let mut client = Box::new(Client::new(unopened.transport, ends, None, key, number));
    client.requests = 1;
    let hello = unopened.hello;
    if let Link::H1(wire) = &mut client.link {
        wire.bytes_read = hello.len() as u64;
    }
    let begun = Begun {
        worker: worker.clone(),
        listener,
        start: unopened.started,
        head_done: Instant::now(),
    };
    let mut context = RequestContext::new(begun, &client);
    context.host = Text::Own(unopened.name.into_bytes());
    context.hash_key = hash_key::of_connection(&upstream.plan, client.ip);
    context.upstream = Some(upstream.clone());
    context.series = Some(series);
    context.passthrough = Some(plan.clone());
    match endpoint(&mut client, &mut context, &plan, &upstream).await {
        Ok((conn, open)) => {
            context.status = PASSED;
            if let Link::H1(wire) = &mut client.link {
                // Not before: while a client is watched, what it carries is what it has sent meanwhile.
                let meanwhile = wire.take_carried();
                wire.carry(&hello);
                wire.carry(&meanwhile);
            }
            Some((Box::new(Tunnel::new(Peer::H1(conn), open, context)), client))
        }
        Err(error) => {
            context.failed(&error);
            context.status = error.token.status();
            if let Link::H1(wire) = &mut client.link {
                handshake::alert(&mut wire.transport, &handshake::INTERNAL_ERROR).await;
            }
            None
        }
    }
}

/// A connection to an endpoint that is well, or to the next one.
async fn endpoint(
    client: &mut Client,
    context: &mut RequestContext,
    plan: &Arc<PassthroughPlan>,
    upstream: &Rc<LocalUpstream>,
) -> Result<(Box<Conn>, OpenTunnel), ProxyError> {
    let mut places = Places::default();
    places.enter_listener(context)?;
    context.places = Some(Box::new(places));
    let mut now = Millis::of(context.head_done);
    upstream.note_request(now);
    let policies = &upstream.plan.resilience;
    let mut permit = policies
        .admission
        .enter(&policies.breaker, now)
        .map_err(ProxyError::turned_away)?;
    if upstream.plan.awaits_verdict(now) {
        hold::until_verdict(&upstream.plan, None).await;
        now = Millis::now();
    }
    let mut tries = Tries::new(context, upstream);
    let mut failed = ProxyError::new(Token::NoEndpoint, Side::Gateway);
    loop {
        let found = room::find(client, context, upstream, tries.endpoints(), now).await;
        let (index, in_flight) = match found {
            Ok(found) => found,
            Err(error) => {
                // Nobody else is there: what went wrong is what went wrong before.
                if error.token != Token::NoEndpoint {
                    failed = error;
                }
                break;
            }
        };
        tries.at(index, context);
        match reach::reach(
            client,
            context,
            &plan.timeouts,
            upstream,
            index,
            &upstream.plan.dial,
        )
        .await
        {
            Ok(conn) => {
                reached(context);
                permit.went(true);
                return Ok((conn, in_flight.into_tunnel()));
            }
            Err(error) => {
                judge::note_failure(context, &error);
                failed = error;
            }
        }
        if !tries.may_go_elsewhere(upstream) {
            break;
        }
        now = Millis::now();
    }
    if failed.side == Side::Endpoint {
        permit.went(false);
    }
    Err(failed)
}

/// To be reached is all that an endpoint can do well here: what it answers nobody understands.
fn reached(context: &mut RequestContext) {
    if let Some(attempt) = context.attempts.last_mut() {
        attempt.outcome = Outcome::Connected;
        attempt.endpoint.state.succeeded();
    }
    if let Some(attempt) = context.attempts.last() {
        judge::learn(context, attempt, true);
    }
}
