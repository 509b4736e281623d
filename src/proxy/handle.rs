//! The inner story of one request, from its head to its answer.

use super::client::Client;
use super::context::RequestContext;
use super::error::ProxyError;
use super::peer::Peer;
use super::sticky::Stay;
use super::{admit, forward, hash_key, respond, sticky};
use crate::message::head::RequestHead;
use crate::message::host::Scheme;
use crate::message::names::Name;
use crate::message::token::{Reject, Token};
use crate::routing::{Match, RouteInput};
use crate::snapshot::ActionPlan;
use crate::tls::acme::challenge::PATH;
use crate::upstream::local::OpenTunnel;
use std::sync::Arc;

/// How a request was served.
#[derive(Debug)]
pub(super) enum Done {
    /// A whole answer is on its way; the connection may carry another request, as far as the answer is concerned.
    Answered { keep_alive: bool },
    /// The endpoint switched protocols.
    Switched(Peer, OpenTunnel),
}

/// Serves a request whose head is in the context.
pub(super) async fn handle(client: &mut Client, context: &mut RequestContext) -> Result<Done, ProxyError> {
    let admitted = admit::admit(client, context)?;
    #[cfg(feature = "faults")]
    super::faults::inject(context);
    if let Some(answer) = challenge(context) {
        return Ok(respond::challenge(client, context, answer.as_bytes()));
    }
    if admitted.about_the_server {
        return Ok(respond::options(client, context));
    }
    if context.listener.plan.redirect_https
        && !came_by_https(context.who.scheme, context.trusted, context.head()?)
    {
        return respond::to_https(client, context);
    }
    let matched = route(context)?;
    limit_body(context)?;
    let Some(route) = context.route.clone() else {
        return Err(no_route());
    };
    match &route.plan.action {
        ActionPlan::Forward(_) => {
            client.still_asks().await?;
            forward::forward(client, context, &route.plan, &matched, admitted).await
        }
        ActionPlan::Redirect(redirect) => respond::redirect(client, context, &route.plan, redirect, &matched),
        ActionPlan::Respond(fixed) => respond::fixed(client, context, &route.plan, fixed, &matched),
    }
}

/// What an authority looks for that is about to issue a certificate, before anything that a route may say. Whoever
/// asks for a token that no order of ours waits for is served like anybody else: an endpoint may have its own.
fn challenge(context: &RequestContext) -> Option<Arc<str>> {
    let path = context.path_bytes();
    if !path.starts_with(PATH) {
        return None;
    }
    context.worker.view().snapshot.challenges.http(path)
}

/// Whether the client came by HTTPS, to us or, by its word, to a proxy that is trusted.
pub(super) fn came_by_https(scheme: Scheme, trusted: bool, head: &RequestHead) -> bool {
    let told = || head.buf.get(Name::XForwardedProto);
    scheme == Scheme::Https || (trusted && told().is_some_and(|proto| proto.eq_ignore_ascii_case(b"https")))
}

/// Finds the route and, where it has several targets, the one for this request.
fn route(context: &mut RequestContext) -> Result<Match, ProxyError> {
    let view = context.worker.view();
    let input = RouteInput {
        listener: context.listener.index,
        host: context.host_bytes(),
        path: context.path_bytes(),
        query: context.query_bytes(),
        head: context.head()?,
        client: context.client_ip,
    };
    let matched = view.snapshot.table.lookup(&input).ok_or_else(no_route)?;
    let route = &view.routes[matched.route as usize];
    let mut target = 0;
    if let ActionPlan::Forward(split) = &route.plan.action {
        if let Some(split) = split {
            // Whose session is at one of them stays there.
            let plan = |target: usize| &view.upstreams[route.plan.targets()[target].upstream].plan;
            let home = split
                .iter()
                .find(|target| sticky::is_at_home(plan(**target), &input));
            target = *home.unwrap_or_else(|| split.choose(fastrand::u64(..)));
        }
        let upstream = &view.upstreams[route.plan.targets()[target].upstream];
        let (stay, key) = match &upstream.plan.sticky {
            None => (
                Stay::default(),
                upstream.plan.hash_key().and_then(|key| hash_key::of(key, &input)),
            ),
            Some(sticky) => sticky::recognise(&upstream.plan, sticky, &input, true),
        };
        context.hash_key = key;
        context.stay = stay;
        context.upstream = Some(upstream.clone());
    }
    context.series = Some(route.series(target).clone());
    context.route = Some(route.clone());
    Ok(matched)
}

const fn no_route() -> ProxyError {
    ProxyError::new(Token::NoRoute, super::error::Side::Gateway)
}

/// Refuses a body that announces more than is allowed; one that does not announce is counted as it comes.
fn limit_body(context: &RequestContext) -> Result<(), ProxyError> {
    let limit = context.body_limit();
    match context.body {
        crate::message::framing::BodyKind::Length(length) if limit > 0 && length > limit => {
            Err(Reject::new(Token::BodyTooLarge, "Content-Length is larger than `limits.body`").into())
        }
        _ => Ok(()),
    }
}
