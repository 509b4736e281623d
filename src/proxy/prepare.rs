//! The request as the endpoint sees it: what is left out, what is added, and where it is sent to.
//!
//! In this order: hop-by-hop fields go, what tells of the client is replaced, then the route's edits, then the
//! listener's. Framing is the writer's.

use super::client::Client;
use super::context::{RequestContext, Text};
use super::error::ProxyError;
use super::heads::{self, BorrowedEdits};
use super::sticky;
use super::upgrade;
use crate::message::bytes::list;
use crate::message::edits::Edits;
use crate::message::framing::BodyKind;
use crate::message::head::{RequestHead, Version};
use crate::message::hop;
use crate::message::names::Name;
use crate::routing::Match;
use crate::routing::rewrite::Applied;
use crate::routing::variables::RequestVariables;
use crate::snapshot::HostHeader;
use crate::snapshot::RoutePlan;
use crate::tls::client_auth::tells_identity;
use std::io::Write;

/// A prepared request.
#[derive(Debug)]
pub(super) struct Prepared {
    pub edits: BorrowedEdits,
    /// The client wants to switch protocols, and may.
    pub upgrade: bool,
    /// Host depends on the endpoint that is tried.
    host_of_endpoint: bool,
    /// What the route's rewrite did to the path; `None` without one.
    pub rewritten: Option<Applied>,
}

/// Prepares a request for the endpoints of its route. What depends on the endpoint is left to [`set_host`].
pub(super) fn request(
    client: &Client,
    context: &RequestContext,
    route: &RoutePlan,
    matched: &Match,
    absolute: bool,
) -> Result<Prepared, ProxyError> {
    let head = context.head()?;
    let mut edits = heads::edits();
    hop::drop_hop_by_hop(&head.buf, &mut edits);
    hop::drop_underscored(&head.buf, &mut edits);
    if let Some(upstream) = &context.upstream {
        sticky::conceal(&upstream.plan, head, &mut edits);
    }
    let bodiless = matches!(context.body, BodyKind::None | BodyKind::Length(0));
    let upgrade = upgrade::asked(head, route, bodiless)?;
    if let Some(protocol) = upgrade {
        edits.add(b"Connection", b"upgrade");
        edits.add(b"Upgrade", protocol);
    }
    if head.buf.has(Name::Te)
        && list(head.buf.all(Name::Te)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    {
        edits.add(b"TE", b"trailers");
        edits.add(b"Connection", b"TE");
    }
    let listener = &context.listener.plan;
    let edited = !route.request_headers.is_empty() || !listener.request_headers.is_empty();
    drop_forgeries(head, context.trusted, &mut edits);
    forwarded(client, context, head, edited, &mut edits);
    identity(context, &mut edits);
    request_id(context, head, &mut edits);
    let rewritten = set_target(context, route, matched, absolute, &mut edits)?;
    if let HostHeader::Name(name) = &route.host {
        replace_host(head, name.as_bytes(), &mut edits);
    } else if !head.buf.has(Name::Host) && !context.host_bytes().is_empty() {
        edits.add(b"Host", context.host_bytes());
    }
    if edited {
        let variables = variables(context, matched)?;
        route.request_headers.apply(&head.buf, &variables, &mut edits);
        listener.request_headers.apply(&head.buf, &variables, &mut edits);
    }
    let host_missing = !head.buf.has(Name::Host) && !edits.adds(b"host");
    Ok(Prepared {
        host_of_endpoint: route.host == HostHeader::Endpoint || host_missing,
        edits,
        upgrade: upgrade.is_some(),
        rewritten,
    })
}

/// What templates see of a request.
pub(super) fn variables<'a>(
    context: &'a RequestContext,
    matched: &'a Match,
) -> Result<RequestVariables<'a>, ProxyError> {
    Ok(RequestVariables {
        head: context.head()?,
        client: context.client_ip,
        request_id: &context.request_id,
        host: context.host_bytes(),
        path: context.path_bytes(),
        query: context.query_bytes(),
        scheme: context.who.scheme.text(),
        listener: &context.listener.plan.name,
        route: context.route.as_ref().map_or("", |route| &route.plan.name),
        upstream: context
            .upstream
            .as_ref()
            .map_or("", |upstream| &upstream.plan.name),
        captures: matched.captures.as_deref(),
    })
}

/// The Host field where it names the endpoint: where the route says so, and for a request that came without any.
pub(super) fn set_host(head: &RequestHead, authority: &str, prepared: &mut Prepared) {
    if prepared.host_of_endpoint {
        replace_host(head, authority.as_bytes(), &mut prepared.edits);
    }
}

fn replace_host(head: &RequestHead, host: &[u8], edits: &mut Edits) {
    edits.drop_named(&head.buf, b"host");
    edits.add(b"Host", host);
}

/// X-Forwarded-*, X-Real-IP, Forwarded and Via. From a peer that is not trusted whatever it says of itself is
/// replaced; from a trusted one the chain is continued.
///
/// `edited`: more edits follow, which must find each line by its name.
fn forwarded(client: &Client, context: &RequestContext, head: &RequestHead, edited: bool, edits: &mut Edits) {
    let plan = &context.listener.plan;
    let trusted = context.trusted;
    if trusted {
        for (name, continued) in [
            (Name::XForwardedFor, plan.forwarded.x_forwarded),
            (Name::XRealIp, plan.forwarded.x_forwarded),
            (Name::Forwarded, plan.forwarded.forwarded),
        ] {
            if continued {
                edits.drop_known(&head.buf, name);
            }
        }
    }
    if plan.forwarded.x_forwarded && !trusted && !edited {
        edits.add_block(&client.forwarded_lines);
        forwarded_host(head, edits);
    } else if plan.forwarded.x_forwarded {
        x_forwarded(client, context, head, edits);
    }
    if plan.forwarded.forwarded {
        edits.add_with(b"Forwarded", |out| forwarded_element(client, context, head, out));
    }
    if plan.forwarded.via {
        via(head.version, edits);
    }
}

/// Our entry in the list of who passed a message on, after those before us (RFC 9110 section 7.6.3).
pub(super) fn via(received: Version, edits: &mut Edits) {
    let entry: &[u8] = match received {
        Version::H10 => b"1.0 tidegate",
        Version::H11 => b"1.1 tidegate",
        Version::H2 => b"2 tidegate",
    };
    edits.add(b"Via", entry);
}

/// Drops whatever a client says of itself in the name of the gateway, or of a proxy that it is not: also names that we
/// do not write ourselves (X-Forwarded-Prefix, X-Forwarded-Ssl …).
fn drop_forgeries(head: &RequestHead, trusted: bool, edits: &mut Edits) {
    const CLAIMS: [Name; 6] = [
        Name::XForwardedFor,
        Name::XForwardedHost,
        Name::XForwardedPort,
        Name::XForwardedProto,
        Name::XRealIp,
        Name::Forwarded,
    ];
    if !trusted {
        for name in CLAIMS {
            edits.drop_known(&head.buf, name);
        }
    }
    for (index, field) in head.buf.fields.iter().enumerate() {
        // Nearly every other name can be told by its first letter not to be meant.
        let first = head.buf.bytes.get(field.name.start as usize);
        let may_be = field.id == Name::Other && matches!(first, Some(b'x' | b'X' | b'c' | b'C'));
        if may_be && is_forgery(head.buf.name(index), trusted) {
            edits.drop_index(index);
        }
    }
}

fn is_forgery(name: &[u8], trusted: bool) -> bool {
    const CLAIM: &[u8] = b"x-forwarded-";
    let claims = || name.len() > CLAIM.len() && name[..CLAIM.len()].eq_ignore_ascii_case(CLAIM);
    tells_identity(name) || !trusted && claims()
}

/// What the client's certificate says of it, where it was asked for one.
fn identity(context: &RequestContext, edits: &mut Edits) {
    if let Some(session) = &context.who.tls {
        for (name, value) in &session.told {
            edits.add(name, value);
        }
    }
}

fn x_forwarded(client: &Client, context: &RequestContext, head: &RequestHead, edits: &mut Edits) {
    let trusted = context.trusted;
    edits.add_with(b"X-Forwarded-For", |out| {
        if trusted {
            for value in head.buf.all(Name::XForwardedFor) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(&client.ip_text);
    });
    edits.add_with(b"X-Real-IP", |out| {
        if trusted {
            let _ok = write!(out, "{}", context.client_ip);
        } else {
            out.extend_from_slice(&client.ip_text);
        }
    });
    // A trusted proxy knows better than we do how the client came to it.
    let given = |name| trusted && head.buf.has(name);
    if !given(Name::XForwardedProto) {
        edits.add(b"X-Forwarded-Proto", context.who.scheme.text().as_bytes());
    }
    if !given(Name::XForwardedHost) {
        forwarded_host(head, edits);
    }
    if !given(Name::XForwardedPort)
        && let Some(server) = client.server
    {
        edits.add_with(b"X-Forwarded-Port", |out| {
            out.extend_from_slice(itoa::Buffer::new().format(server.port()).as_bytes());
        });
    }
}

fn forwarded_host(head: &RequestHead, edits: &mut Edits) {
    if let Some(host) = head.buf.get(Name::Host) {
        edits.add(b"X-Forwarded-Host", host);
    }
}

/// One element of RFC 7239; after those of a trusted peer.
fn forwarded_element(client: &Client, context: &RequestContext, head: &RequestHead, out: &mut Vec<u8>) {
    if context.trusted {
        for value in head.buf.all(Name::Forwarded) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
    let proto = context.who.scheme.text();
    // Writing to memory cannot fail.
    let _ok = match client.ip {
        std::net::IpAddr::V4(v4) => write!(out, "for={v4};proto={proto}"),
        std::net::IpAddr::V6(v6) => write!(out, "for=\"[{v6}]\";proto={proto}"),
    };
    if let Some(host) = head.buf.get(Name::Host) {
        // Valid hosts have no quote and no backslash.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
}

fn request_id(context: &RequestContext, head: &RequestHead, edits: &mut Edits) {
    if context.request_id.is_empty() {
        return;
    }
    if head.buf.get(Name::XRequestId) == Some(&context.request_id) {
        return;
    }
    edits.drop_known(&head.buf, Name::XRequestId);
    edits.add(b"X-Request-Id", &context.request_id);
}

/// The target in origin form, with the path that was matched and the route's rewrite of it.
fn set_target(
    context: &RequestContext,
    route: &RoutePlan,
    matched: &Match,
    absolute: bool,
    edits: &mut Edits,
) -> Result<Option<Applied>, ProxyError> {
    let path = context.path_bytes();
    if let Some(rewrite) = &route.rewrite {
        let mut target = Vec::with_capacity(path.len() + 64);
        let applied = rewrite.apply(
            path,
            context.query_bytes(),
            &variables(context, matched)?,
            &mut target,
        )?;
        edits.set_target(&target);
        return Ok(Some(applied));
    }
    let as_received = matches!(context.path, Text::Head(_)) && !absolute;
    if !as_received {
        let mut target = path.to_vec();
        if let Some(query) = context.query_bytes() {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        edits.set_target(&target);
    }
    Ok(None)
}
