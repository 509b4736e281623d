//! The response as the client sees it: an endpoint's with its edits, or our own.

use super::client::{Client, Link};
use super::context::RequestContext;
use super::error::ProxyError;
use super::grpc;
use super::handle::Done;
use super::heads::{self, BorrowedEdits};
use super::prepare::{self, Prepared};
use super::sticky;
use crate::h1::write;
use crate::message::error_page;
use crate::message::fields;
use crate::message::framing::is_bodiless;
use crate::message::grpc::{CONTENT_TYPE, Code, MESSAGE, STATUS};
use crate::message::head::{HeadBuf, Method, ResponseHead, Version};
use crate::message::hop;
use crate::message::host::parse_host;
use crate::message::names::Name;
use crate::message::token::{Reject, Token};
use crate::net::scratch;
use crate::routing::Match;
use crate::routing::redirect::Redirect;
use crate::routing::rewrite::{Backward, Seen};
use crate::snapshot::{FixedResponse, RoutePlan};
use crate::telemetry::access::EndedBy;
use crate::ws::handshake::VERSION;
use std::task::{Context, Waker};

/// RFC 6797.
const HSTS: &str = "Strict-Transport-Security";

/// What changes in an endpoint's response: hop-by-hop fields go, paths are put back, then the route's edits, then
/// the listener's.
pub(super) fn edits(
    context: &RequestContext,
    route: &RoutePlan,
    matched: &Match,
    prepared: &Prepared,
    response: &ResponseHead,
    keep_alive: bool,
) -> Result<BorrowedEdits, ProxyError> {
    let mut edits = heads::edits();
    hop::drop_hop_by_hop(&response.buf, &mut edits);
    let sticky = context.upstream.as_ref().and_then(|it| it.plan.sticky.as_deref());
    if let Some(plan) = sticky {
        sticky::drop_namesakes(plan, response, &mut edits);
    }
    if response.status == 101 {
        edits.add(b"Connection", b"upgrade");
        if let Some(protocol) = response.buf.get(Name::Upgrade) {
            edits.add(b"Upgrade", protocol);
        }
    } else {
        connection(context, keep_alive, |value| edits.add(b"Connection", value));
        if response.status == 426 {
            name_protocols(&response.buf, &mut edits);
        }
    }
    if context.listener.plan.forwarded.via {
        prepare::via(response.version, &mut edits);
    }
    if let (Some(rewrite), Some(applied)) = (&route.rewrite, prepared.rewritten)
        && let Some(backward) = rewrite.backward(applied)
    {
        put_back(context, &response.buf, &backward, &mut edits)?;
    }
    let listener = &context.listener.plan;
    if let Some(hsts) = &listener.hsts {
        edits.drop_named(&response.buf, HSTS.as_bytes());
        edits.add(HSTS.as_bytes(), hsts.as_bytes());
    }
    if !route.response_headers.is_empty() || !listener.response_headers.is_empty() {
        let variables = prepare::variables(context, matched)?;
        route
            .response_headers
            .apply(&response.buf, &variables, &mut edits);
        listener
            .response_headers
            .apply(&response.buf, &variables, &mut edits);
    }
    if let Some(plan) = sticky {
        sticky::answered(context, plan, response, &mut edits);
    }
    Ok(edits)
}

/// 426 (Upgrade Required) has to say to what (RFC 9110 section 15.5.22).
fn name_protocols(head: &HeadBuf, edits: &mut BorrowedEdits) {
    if let Some(protocols) = head.get(Name::Upgrade) {
        edits.add(b"Upgrade", protocols);
        edits.add(b"Connection", b"upgrade");
    }
}

/// What Connection has to say: nothing where it is the version's default.
fn connection(context: &RequestContext, keep_alive: bool, say: impl FnOnce(&[u8])) {
    let version = context.request.as_ref().map_or(Version::H11, |head| head.version);
    match (keep_alive, version) {
        // It has no such field.
        (_, Version::H2) => {}
        (false, _) => say(b"close"),
        (true, Version::H10) => say(b"keep-alive"),
        (true, _) => {}
    }
}

/// Location, Refresh and the paths of cookies, from the endpoint's view to the client's.
fn put_back(
    context: &RequestContext,
    head: &HeadBuf,
    backward: &Backward<'_>,
    edits: &mut BorrowedEdits,
) -> Result<(), ProxyError> {
    let Some(host) = context
        .head()?
        .buf
        .get(Name::Host)
        .and_then(|host| parse_host(host).ok())
    else {
        return Ok(());
    };
    let endpoint = context
        .attempts
        .last()
        .map_or("", |attempt| &attempt.endpoint.state.key.address);
    let sent_host = context.route.as_ref().and_then(|route| match &route.plan.host {
        crate::snapshot::HostHeader::Name(name) => Some(name.as_bytes()),
        _ => None,
    });
    let authorities = [endpoint.as_bytes(), sent_host.unwrap_or(endpoint.as_bytes())];
    let seen = Seen {
        scheme: context.who.scheme,
        host,
        endpoint: &authorities,
    };
    let mut value = Vec::new();
    for index in 0..head.fields.len() {
        let (id, given) = (head.fields[index].id, head.value(index));
        if edits.is_dropped(index) {
            continue;
        }
        let changed = match id {
            Name::Location => backward.location(given, &seen, &mut value),
            Name::Refresh => backward.refresh(given, &seen, &mut value),
            Name::SetCookie => backward.set_cookie(given, &mut value),
            _ => continue,
        };
        if changed {
            edits.drop_index(index);
            edits.add(head.name(index), &value);
        }
    }
    Ok(())
}

/// A response of our own.
struct Own<'a> {
    status: u16,
    fields: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
    keep_alive: bool,
}

/// Sends it as far as the socket takes it at once; the rest goes out before the next request is read, or while
/// the connection closes.
fn send(client: &mut Client, context: &mut RequestContext, own: Own<'_>) -> Done {
    let Own {
        status,
        mut fields,
        body,
        keep_alive,
    } = own;
    let is_head = context
        .request
        .as_ref()
        .is_some_and(|head| head.method == Method::Head);
    let date = crate::base::http_date::now();
    fields.push(("Date", date.as_bytes()));
    let listener = context.listener.clone();
    if let Some(hsts) = &listener.plan.hsts
        && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(HSTS))
    {
        fields.push((HSTS, hsts.as_bytes()));
    }
    connection(context, keep_alive, |value| {
        fields.push((
            "Connection",
            if value == b"close" {
                b"close"
            } else {
                b"keep-alive"
            },
        ))
    });
    let sends_body = !is_head && !is_bodiless(status);
    let wire = match &mut client.link {
        Link::H1(wire) => wire,
        Link::H2(stream) => {
            // An answer that is nothing but its end has no length.
            let tells_length = !(is_bodiless(status) || context.grpc && body.is_empty());
            let length = tells_length.then_some(body.len());
            let (fields, head_bytes) = fields::of_own(&fields, length);
            context.head_bytes_sent = head_bytes;
            let sent = stream.answer(status, fields, head_bytes, if sends_body { body } else { b"" });
            return sent_own(context, status, sent.is_ok(), keep_alive);
        }
    };
    let written = scratch::with_out(|out| {
        write::simple_response(status, &fields, body, !is_head, out);
        context.head_bytes_sent = (out.len() - if sends_body { body.len() } else { 0 }) as u64;
        // The task is polled again for whatever comes next on this connection.
        wire.send(&mut Context::from_waker(Waker::noop()), &[out])
    });
    sent_own(context, status, written.is_ok(), keep_alive)
}

/// Notes an answer of our own.
fn sent_own(context: &mut RequestContext, status: u16, sent: bool, keep_alive: bool) -> Done {
    context.status = status;
    if !sent {
        context.ended = EndedBy::Client;
        return Done::Answered { keep_alive: false };
    }
    if context.token.is_none() {
        context.ended = EndedBy::Done;
    }
    Done::Answered { keep_alive }
}

/// The page for a failed request. Returns whether the connection may be kept.
pub(super) fn error(
    client: &mut Client,
    context: &mut RequestContext,
    token: Token,
    keep_alive: bool,
) -> bool {
    let listener = context.listener.clone();
    let plan = &listener.plan;
    let request_id = context.request_id.clone();
    if context.grpc {
        return grpc_error(client, context, token, &request_id, keep_alive);
    }
    let status = token.status();
    let accept = context
        .request
        .as_ref()
        .and_then(|head| head.buf.get(Name::Accept))
        .map(<[u8]>::to_vec);
    let mut body = Vec::new();
    let content_type = match plan.error_pages.get(&status) {
        Some(page) => page.render(status, token, &request_id, &mut body),
        None => error_page::render(status, token, &request_id, accept.as_deref(), &mut body),
    };
    let mut fields: Vec<(&str, &[u8])> = vec![("Content-Type", content_type.as_bytes())];
    if plan.error_header {
        fields.push(("X-Tidegate-Error", token.name().as_bytes()));
    }
    if !request_id.is_empty() {
        fields.push(("X-Request-Id", &request_id));
    }
    let mut seconds = itoa::Buffer::new();
    if status == 426 {
        fields.extend([
            ("Upgrade", &b"websocket"[..]),
            ("Connection", b"upgrade"),
            ("Sec-WebSocket-Version", VERSION),
        ]);
    }
    if status == 503 || context.retry_after > 0 {
        let seconds = seconds.format(context.retry_after.max(1));
        fields.push(("Retry-After", seconds.as_bytes()));
    }
    matches!(
        send(
            client,
            context,
            Own {
                status,
                fields,
                body: &body,
                keep_alive
            }
        ),
        Done::Answered { keep_alive: true }
    )
}

/// The same for a call of gRPC: an answer that is nothing but its end. In the log it keeps the error's own status.
fn grpc_error(
    client: &mut Client,
    context: &mut RequestContext,
    token: Token,
    request_id: &[u8],
    keep_alive: bool,
) -> bool {
    let code = Code::of_token(token);
    let mut number = itoa::Buffer::new();
    let message = grpc::message(token);
    let mut fields: Vec<(&str, &[u8])> = vec![
        ("Content-Type", CONTENT_TYPE.as_bytes()),
        (STATUS, number.format(code.number()).as_bytes()),
        (MESSAGE, message.as_bytes()),
    ];
    if context.listener.plan.error_header {
        fields.push(("X-Tidegate-Error", token.name().as_bytes()));
    }
    if !request_id.is_empty() {
        fields.push(("X-Request-Id", request_id));
    }
    let own = Own {
        status: 200,
        fields,
        body: b"",
        keep_alive,
    };
    let sent = send(client, context, own);
    context.status = token.status();
    context.grpc_status = Some(code);
    matches!(sent, Done::Answered { keep_alive: true })
}

/// `OPTIONS *`: what the gateway as a whole understands.
pub(super) fn options(client: &mut Client, context: &mut RequestContext) -> Done {
    let keep_alive = context.may_keep_alive();
    let fields: Vec<(&str, &[u8])> = vec![("Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")];
    send(
        client,
        context,
        Own {
            status: 200,
            fields,
            body: b"",
            keep_alive,
        },
    )
}

/// The answer that an authority looks for (RFC 8555 section 8.3).
pub(super) fn challenge(client: &mut Client, context: &mut RequestContext, authorization: &[u8]) -> Done {
    let keep_alive = context.may_keep_alive();
    let fields: Vec<(&str, &[u8])> = vec![
        ("Content-Type", b"application/octet-stream"),
        ("Cache-Control", b"no-store"),
    ];
    send(
        client,
        context,
        Own {
            status: 200,
            fields,
            body: authorization,
            keep_alive,
        },
    )
}

/// The same over HTTPS, on its usual port.
pub(super) fn to_https(client: &mut Client, context: &mut RequestContext) -> Result<Done, ProxyError> {
    if context.host_bytes().is_empty() {
        return Err(Reject::new(Token::BadHost, "without a host there is nowhere to redirect to").into());
    }
    let location = over_https(context.host_bytes(), context.path_bytes(), context.query_bytes());
    let keep_alive = context.may_keep_alive();
    let fields: Vec<(&str, &[u8])> = vec![("Location", &location)];
    let own = Own {
        status: 308,
        fields,
        body: b"",
        keep_alive,
    };
    Ok(send(client, context, own))
}

/// Where the same is over HTTPS.
pub(super) fn over_https(host: &[u8], path: &[u8], query: Option<&[u8]>) -> Vec<u8> {
    let mut location = [b"https://", host, path].concat();
    if let Some(query) = query {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    location
}

pub(super) fn redirect(
    client: &mut Client,
    context: &mut RequestContext,
    route: &RoutePlan,
    redirect: &Redirect,
    matched: &Match,
) -> Result<Done, ProxyError> {
    let mut location = Vec::new();
    redirect.location(&prepare::variables(context, matched)?, &mut location);
    let own = vec![("Location".into(), location)];
    answer(client, context, route, matched, redirect.status, &own, &[])
}

pub(super) fn fixed(
    client: &mut Client,
    context: &mut RequestContext,
    route: &RoutePlan,
    fixed: &FixedResponse,
    matched: &Match,
) -> Result<Done, ProxyError> {
    let variables = prepare::variables(context, matched)?;
    let mut body = Vec::new();
    fixed.body.render(&variables, &mut body);
    let mut own: Vec<(Box<str>, Vec<u8>)> = Vec::with_capacity(fixed.headers.len() + 1);
    for (name, value) in &fixed.headers {
        let mut rendered = Vec::new();
        value.render(&variables, &mut rendered);
        own.push((name.clone(), rendered));
    }
    if !body.is_empty()
        && !own
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        own.push(("Content-Type".into(), b"text/plain; charset=utf-8".to_vec()));
    }
    answer(client, context, route, matched, fixed.status, &own, &body)
}

/// Sends an answer of a route, with the route's and the listener's edits of response headers.
fn answer(
    client: &mut Client,
    context: &mut RequestContext,
    route: &RoutePlan,
    matched: &Match,
    status: u16,
    own: &[(Box<str>, Vec<u8>)],
    body: &[u8],
) -> Result<Done, ProxyError> {
    let mut edits = heads::edits();
    for (name, value) in own {
        edits.add(name.as_bytes(), value);
    }
    let variables = prepare::variables(context, matched)?;
    let none = HeadBuf::default();
    route.response_headers.apply(&none, &variables, &mut edits);
    context
        .listener
        .plan
        .response_headers
        .apply(&none, &variables, &mut edits);
    let fields = edits.lines().filter_map(field).collect();
    let keep_alive = context.may_keep_alive();
    Ok(send(
        client,
        context,
        Own {
            status,
            fields,
            body,
            keep_alive,
        },
    ))
}

/// Name and value of an added line.
fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let value = line.get(colon + 2..line.len() - 2)?;
    Some((std::str::from_utf8(line.get(..colon)?).ok()?, value))
}
