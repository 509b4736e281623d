//! Why a request goes where it goes: the steps that serve one, told instead of taken.
//!
//! A worker answers, from its own view and its own place in the balancers, with the functions that serve. What it
//! tells is what it would do now; another worker may be at another place in the same round.

mod tls;

use self::tls::Greeted;
pub use self::tls::{Connection, Handshake};
use super::admit;
use super::client_ip;
use super::context::Text;
use super::handle;
use super::hash_key;
use super::respond;
use super::sticky::{self, Stay};
use super::view::View;
use crate::base::clock::Millis;
use crate::h1::parse::{Parsed, parse_request};
use crate::message::head::{HeadBuf, RequestHead};
use crate::message::host::Scheme;
use crate::message::token::{Reject, Token};
use crate::routing::split::Split;
use crate::routing::{RouteInput, Verdict};
use crate::snapshot::{ActionPlan, RoutePlan};
use crate::telemetry::metrics::Sticky;
use crate::upstream::local::LocalUpstream;
use crate::upstream::shared::balancer::score::{ScoreShown, scores};
use crate::upstream::shared::standing::Health;
use crate::upstream::shared::sticky::{Missing, keeps};
use crate::upstream::shared::{AdminState, Ask, EndpointPlan, Fallback, StickyPlan, UpstreamPlan};
use serde::Serialize;
use std::net::IpAddr;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Name of the listener that the request would come to.
    pub listener: String,
    /// Address that it would come from.
    pub peer: IpAddr,
    pub connection: Connection,
    /// Its head, as on the wire.
    pub head: Vec<u8>,
}

/// What would become of the request.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub worker: usize,
    pub generation: u64,
    pub listener: String,
    pub peer: IpAddr,
    /// `http` or `https`: how the client comes, to us or to a proxy that announces it.
    pub scheme: &'static str,
    /// `null` in the clear.
    pub tls: Option<Handshake>,
    /// Why it would be answered by the gateway itself with an error; `null` when it would not.
    pub refused: Option<Refused>,
    pub request: Option<Understood>,
    /// Every host and path of every route, in the order they are asked.
    pub routes: Vec<Asked>,
    /// The route that serves it.
    pub route: Option<String>,
    /// `forward`, `redirect`, `respond`, `redirect_https` (of the listener, before any route), or `passthrough`.
    pub action: Option<&'static str>,
    /// Where `redirect_https` leads.
    pub location: Option<String>,
    /// Strict-Transport-Security, which goes with every answer.
    pub hsts: Option<String>,
    /// Where it may go: one, or each choice of a split.
    pub upstreams: Vec<UpstreamChoice>,
}

#[derive(Debug, Serialize)]
pub struct Refused {
    pub status: u16,
    pub token: &'static str,
    pub detail: &'static str,
}

/// The request in the normal form that routes see.
#[derive(Debug, Serialize)]
pub struct Understood {
    pub method: String,
    pub host: String,
    pub path: String,
    pub query: Option<String>,
    pub client: IpAddr,
    /// Whether the peer is a trusted proxy, so that its word on the client counted.
    pub peer_trusted: bool,
}

/// What one entry of the route table said.
#[derive(Debug, Serialize)]
pub struct Asked {
    pub route: String,
    /// `chosen`, `shadowed` (it would, had none before it), `host`, `path`, or the condition that does not hold,
    /// as its key: `methods`, `headers.x-beta`.
    pub verdict: String,
}

#[derive(Debug, Serialize)]
pub struct UpstreamChoice {
    pub upstream: String,
    /// Of the split, from 0 to 1; all or nothing where the request's session is at one of them.
    pub share: f64,
    pub balance: &'static str,
    /// What decides, where that is a part of the request; the hash is `null` when this request has none.
    pub hash_key: Option<HashKeyChoice>,
    /// Where the upstream keeps sessions: what is known of that of this request.
    pub session: Option<SessionChoice>,
    /// Probes and traffic speak against all endpoints, so they are not heeded.
    pub fail_open: bool,
    /// Nobody is picked just now: the first verdict of the checks is waited for, a second at most.
    pub awaits_verdict: bool,
    pub endpoints: Vec<EndpointChoice>,
    /// The endpoint that the worker would pick now; `null` when none can be.
    pub pick: Option<String>,
}

/// What a request is known by.
#[derive(Debug, Serialize)]
pub struct HashKeyChoice {
    /// As the configuration has it.
    pub of: String,
    pub hash: Option<String>,
}

/// The session of a request.
#[derive(Debug, Serialize)]
pub struct SessionChoice {
    /// What it is known by: `cookie tidegate_app`, `learn cookie:sid`, `hash client_ip`.
    pub by: String,
    /// What would be counted; `null` where a hash decides.
    pub outcome: Option<&'static str>,
    /// The endpoint that it belongs to.
    pub endpoint: Option<String>,
    /// It is picked for that.
    pub kept: bool,
    /// Its endpoint can't be used, and another one is not to do (`on_missing = "reject"`).
    pub refused: bool,
}

#[derive(Debug, Serialize)]
pub struct EndpointChoice {
    pub address: String,
    pub weight: u32,
    /// Less than `weight` while it starts slowly.
    pub weight_now: f64,
    pub backup: bool,
    pub in_flight: u32,
    pub tunnels: u32,
    /// What speaks for and against it, where the algorithm learns; the lowest score is best.
    pub score: Option<ScoreShown>,
    /// Why it is not among those that are picked from; `null` when it is.
    pub passed_over: Option<&'static str>,
}

/// Tells what would become of a request, or that there is no such listener.
pub(super) fn explain(view: &View, worker: usize, question: &Question, now: Millis) -> Option<Explanation> {
    let listener = view.listener_named(&question.listener)?;
    let mut told = Explanation {
        worker,
        generation: view.snapshot.generation,
        listener: question.listener.clone(),
        peer: question.peer,
        scheme: Scheme::Http.text(),
        tls: None,
        refused: None,
        request: None,
        routes: Vec::new(),
        route: None,
        action: None,
        location: None,
        hsts: None,
        upstreams: Vec::new(),
    };
    let plan = &listener.plan;
    let (scheme, served) = match tls::greet(listener, &question.connection) {
        Greeted::Clear => {
            // Where a proxy in front announces clients, it also says whether it ended their TLS.
            let announced = plan.proxy_protocol.as_ref().and(question.connection.scheme);
            (announced.unwrap_or(Scheme::Http), None)
        }
        Greeted::Opened(handshake, served) => {
            told.tls = Some(handshake);
            (Scheme::Https, Some(served))
        }
        Greeted::PlainHttp => {
            let detail = "plain HTTP on a port for HTTPS";
            told.refused = Some(refused(&Reject::new(Token::BadRequest, detail)));
            return Some(told);
        }
        Greeted::PassedOn(handshake, rule) => {
            told.tls = Some(handshake);
            told.scheme = "tls";
            told.action = Some("passthrough");
            let rule = listener.passthrough.get(rule)?;
            let key = hash_key::of_connection(&rule.upstream.plan, question.peer);
            told.upstreams = vec![choice(&rule.upstream, 1.0, (Stay::default(), key), now)];
            return Some(told);
        }
        Greeted::Refused(handshake) => {
            told.tls = Some(handshake);
            return Some(told);
        }
    };
    told.scheme = scheme.text();
    told.hsts = plan.hsts.as_deref().map(str::to_owned);
    let read = read(&question.head, &plan.head_limits)
        .and_then(|head| admit::inspect(&head, &plan.path_policy).map(|found| (head, found)))
        .and_then(|(head, found)| {
            if let (Some(served), Some(tls)) = (&served, &plan.tls) {
                admit::is_directed(tls, served, found.host.of(&head))?;
            }
            Ok((head, found))
        });
    let (head, found) = match read {
        Ok(read) => read,
        Err(reject) => {
            told.refused = Some(refused(&reject));
            return Some(told);
        }
    };
    let (client, peer_trusted) = client_ip::asker(&head, question.peer, &plan.trusted_proxies);
    let query = found.query.map(|query| query.of(&head.buf.bytes));
    told.request = Some(understood(
        &head,
        &found.host,
        &found.path,
        query,
        client,
        peer_trusted,
    ));
    if found.asterisk {
        told.action = Some("respond");
        return Some(told);
    }
    if plan.redirect_https && !handle::came_by_https(scheme, peer_trusted, &head) {
        let location = respond::over_https(found.host.of(&head), found.path.of(&head), query);
        told.action = Some("redirect_https");
        told.location = Some(String::from_utf8_lossy(&location).into_owned());
        return Some(told);
    }
    let input = RouteInput {
        listener: listener.index,
        host: found.host.of(&head),
        path: found.path.of(&head),
        query,
        head: &head,
        client,
    };
    told.routes = asked(view, &input);
    match view.snapshot.table.lookup(&input) {
        Some(matched) => follow(
            view,
            &view.routes[matched.route as usize].plan,
            &input,
            now,
            &mut told,
        ),
        None => told.refused = Some(refused(&Reject::new(Token::NoRoute, "no route matches"))),
    }
    Some(told)
}

fn read(head: &[u8], limits: &crate::h1::parse::HeadLimits) -> Result<RequestHead, Reject> {
    let mut buf = Box::<HeadBuf>::default();
    match parse_request(head, limits, &mut 0, &mut buf) {
        Parsed::Complete { head, .. } => Ok(head.with(buf)),
        Parsed::Partial => Err(Reject::new(Token::BadRequest, "the head is not complete")),
        Parsed::Reject(reject) => Err(reject),
    }
}

fn refused(reject: &Reject) -> Refused {
    Refused {
        status: reject.token.status(),
        token: reject.token.name(),
        detail: reject.detail,
    }
}

fn understood(
    head: &RequestHead,
    host: &Text,
    path: &Text,
    query: Option<&[u8]>,
    client: IpAddr,
    peer_trusted: bool,
) -> Understood {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Understood {
        method: text(head.method_text()),
        host: text(host.of(head)),
        path: text(path.of(head)),
        query: query.map(text),
        client,
        peer_trusted,
    }
}

fn asked(view: &View, input: &RouteInput<'_>) -> Vec<Asked> {
    let steps = view.snapshot.table.trace(input).into_iter();
    steps
        .map(|step| Asked {
            route: view.routes[step.route as usize].plan.name.to_string(),
            verdict: match step.verdict {
                Verdict::Chosen => "chosen".to_owned(),
                Verdict::Shadowed => "shadowed".to_owned(),
                Verdict::HostDiffers => "hosts".to_owned(),
                Verdict::PathDiffers => "paths".to_owned(),
                Verdict::Fails(failure) => failure.to_string(),
            },
        })
        .collect()
}

fn follow(view: &View, route: &RoutePlan, input: &RouteInput<'_>, now: Millis, told: &mut Explanation) {
    told.route = Some(route.name.to_string());
    told.action = Some(match &route.action {
        ActionPlan::Forward(_) => "forward",
        ActionPlan::Redirect(_) => "redirect",
        ActionPlan::Respond(_) => "respond",
    });
    if let ActionPlan::Forward(split) = &route.action {
        let mut shares: Vec<(usize, f64)> = match split {
            None => vec![(0, 1.0)],
            Some(split) => split.shares().map(|(target, share)| (*target, share)).collect(),
        };
        let plan = |target: usize| &view.upstreams[route.targets()[target].upstream].plan;
        let mut targets = split.iter().flat_map(Split::iter);
        let home = targets.find(|target| sticky::is_at_home(plan(**target), input));
        if let Some(home) = home {
            for (target, share) in &mut shares {
                *share = f64::from(u8::from(target == home));
            }
        }
        told.upstreams = shares
            .into_iter()
            .map(|(target, share)| {
                let upstream = &view.upstreams[route.targets()[target].upstream];
                let known_by = match &upstream.plan.sticky {
                    None => {
                        let key = upstream.plan.hash_key().and_then(|key| hash_key::of(key, input));
                        (Stay::default(), key)
                    }
                    Some(sticky) => sticky::recognise(&upstream.plan, sticky, input, false),
                };
                choice(upstream, share, known_by, now)
            })
            .collect();
    }
}

fn choice(
    upstream: &LocalUpstream,
    share: f64,
    (stay, key): (Stay, Option<u64>),
    now: Millis,
) -> UpstreamChoice {
    let plan = &upstream.plan;
    let awaits_verdict = plan.awaits_verdict(now);
    let session = plan
        .sticky
        .as_ref()
        .map(|sticky| session(plan, sticky, stay, now));
    let refused = session.as_ref().is_some_and(|session| session.refused);
    let kept = stay
        .home()
        .filter(|_| session.as_ref().is_some_and(|session| session.kept));
    let pick = kept
        .or_else(|| upstream.preview(Ask { now, key }))
        .filter(|_| !awaits_verdict && !refused);
    let scores = if plan.learns() {
        scores(plan, now)
    } else {
        Vec::new()
    };
    let fallback = match plan.fallback(now) {
        // The first verdict is waited for.
        Fallback::All if awaits_verdict => Fallback::None,
        fallback => fallback,
    };
    let others_can = plan
        .endpoints
        .iter()
        .any(|endpoint| !endpoint.backup && why_not(endpoint, fallback, now).is_none());
    let endpoints = plan
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| EndpointChoice {
            address: endpoint.state.key.address.to_string(),
            weight: endpoint.weight,
            weight_now: plan.weight_now(endpoint, now),
            backup: endpoint.backup,
            in_flight: endpoint.state.in_flight(),
            tunnels: endpoint.state.tunnels(),
            score: scores.get(index).copied().map(Into::into),
            passed_over: why_not(endpoint, fallback, now)
                .or_else(|| (endpoint.backup && others_can).then_some("a backup, and others can")),
        });
    UpstreamChoice {
        upstream: plan.name.to_string(),
        share,
        balance: plan.balance_name(),
        hash_key: plan.hash_key().map(|of| HashKeyChoice {
            of: of.to_string(),
            hash: key.map(|hash| format!("{hash:016x}")),
        }),
        session,
        fail_open: fallback == Fallback::All,
        awaits_verdict,
        endpoints: endpoints.collect(),
        pick: pick.map(|index| plan.endpoints[index].state.key.address.to_string()),
    }
}

fn session(plan: &UpstreamPlan, sticky: &StickyPlan, mut stay: Stay, now: Millis) -> SessionChoice {
    let home = stay.home().map(|index| &plan.endpoints[index]);
    if let Some(home) = home {
        let room = |()| home.has_room().then_some(()).ok_or(Missing::Full);
        if let Err(why) = keeps(home, || plan.fallback(now), now).and_then(room) {
            stay.lose(why);
        }
    }
    let kept = home.is_some() && !stay.is_lost();
    SessionChoice {
        by: sticky.describe(),
        outcome: stay.outcome(stay.home().filter(|_| kept)).map(Sticky::name),
        endpoint: home.map(|home| home.state.key.address.to_string()),
        kept,
        refused: !kept && stay.is_bound(),
    }
}

fn why_not(endpoint: &EndpointPlan, fallback: Fallback, now: Millis) -> Option<&'static str> {
    let standing = &endpoint.state.standing;
    match (endpoint.admin, standing.health()) {
        (AdminState::Draining, _) => Some("draining"),
        (AdminState::Maintenance, _) => Some("in maintenance"),
        _ if endpoint.weight == 0 => Some("its weight is 0"),
        _ if fallback.admits(standing, now) && !endpoint.has_room() => Some("it has its max_connections"),
        _ if fallback.admits(standing, now) => None,
        (_, Health::Unhealthy) => Some("its checks fail"),
        (_, Health::Held) => Some("held: its checks passed and failed by turns"),
        (_, Health::Pending) => Some("its checks have come to no verdict"),
        _ => Some("ejected: requests failed at it"),
    }
}
