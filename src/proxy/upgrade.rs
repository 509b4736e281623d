//! Requests that ask for another protocol: whether they may, whether there is room, and whether the endpoint did
//! what was asked.
//!
//! A WebSocket handshake is checked before any endpoint sees it (RFC 6455 section 4.2.1), so that an endpoint that is
//! lax about it and a client that is at odds with it cannot take the same bytes for different things.

use super::board::{ClientPermit, Tally, TunnelPermit};
use super::client::Client;
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use crate::message::edits::Edits;
use crate::message::framing::{connection_has, upgrade_protocol};
use crate::message::head::{Method, RequestHead, ResponseHead, Version};
use crate::message::names::Name;
use crate::message::token::{Reject, Token};
use crate::snapshot::RoutePlan;
use crate::ws::handshake;
use h2::ext::Protocol;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Longest wait for a handshake's turn under `websocket.accept_rate`.
const ACCEPT_WAIT: Duration = Duration::from_secs(1);

const WEBSOCKET: &[u8] = b"websocket";

/// Whether a protocol by this name is WebSocket.
pub(super) fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(WEBSOCKET)
}

/// The protocol that a request asks for and may have; `None`: it is served as if it had not asked.
///
/// A body and a switch at once leave open where the one ends and the other begins. Upgrade may be ignored (RFC 9110
/// section 7.8), so such a request has not asked.
pub(super) fn asked<'a>(
    head: &'a RequestHead,
    route: &RoutePlan,
    bodiless: bool,
) -> Result<Option<&'a [u8]>, ProxyError> {
    let Some(protocol) = upgrade_protocol(head) else {
        // What is in every respect a handshake but for Connection was spoilt on its way, and fails one way or another:
        // better here, in plain words.
        let spoilt = head.buf.get(Name::Upgrade).is_some_and(is_websocket)
            && head.buf.has(Name::SecWebsocketKey)
            && !connection_has(&head.buf, b"upgrade");
        return match spoilt {
            true => Err(malformed("Upgrade: websocket without Connection: Upgrade")),
            false => Ok(None),
        };
    };
    if !bodiless {
        return Ok(None);
    }
    if is_websocket(protocol) {
        check(head)?;
        return Ok(Some(protocol));
    }
    let allowed = |allowed: &String| protocol.eq_ignore_ascii_case(allowed.as_bytes());
    match route.upgrades.iter().any(allowed) {
        true => Ok(Some(protocol)),
        // An extended CONNECT means nothing but that, so that there is no other way to serve it.
        false if head.version == Version::H2 => Err(ProxyError::refused(Reject::new(
            Token::NotImplemented,
            "an extended CONNECT for a protocol that is not in `upgrades`",
        ))),
        false => Ok(None),
    }
}

/// Holds a WebSocket handshake to its rules.
fn check(head: &RequestHead) -> Result<(), ProxyError> {
    if head.method != Method::Get {
        return Err(malformed("a WebSocket handshake is a GET"));
    }
    let mut keys = head.buf.all(Name::SecWebsocketKey);
    if !keys.next().is_some_and(handshake::is_key) || keys.next().is_some() {
        return Err(malformed("Sec-WebSocket-Key is not 16 bytes in base64"));
    }
    let mut versions = head.buf.all(Name::SecWebsocketVersion);
    if versions.next() != Some(handshake::VERSION) || versions.next().is_some() {
        return Err(ProxyError::refused(Reject::new(
            Token::UpgradeRequired,
            "Sec-WebSocket-Version is not 13",
        )));
    }
    Ok(())
}

const fn malformed(detail: &'static str) -> ProxyError {
    ProxyError::refused(Reject::new(Token::BadHandshake, detail))
}

/// Whether an endpoint switched to the protocol that the client asked for (RFC 9110 section 7.8), and, if that is
/// WebSocket, understood the handshake.
pub(super) fn check_answer(asked: &RequestHead, response: &ResponseHead) -> Result<(), ProxyError> {
    let refused = |detail| ProxyError {
        detail: Some(detail),
        ..ProxyError::new(Token::UpgradeRefused, Side::Endpoint)
    };
    let (Some(wanted), Some(switched)) = (asked.buf.get(Name::Upgrade), response.buf.get(Name::Upgrade))
    else {
        return Err(refused("Upgrade is missing"));
    };
    if !wanted.eq_ignore_ascii_case(switched) {
        return Err(refused("it switched to another protocol"));
    }
    if !is_websocket(switched) {
        return Ok(());
    }
    let key = asked.buf.get(Name::SecWebsocketKey).unwrap_or_default();
    let mut accepts = response.buf.all(Name::SecWebsocketAccept);
    if accepts.next() != Some(handshake::accept_of(key).as_bytes()) || accepts.next().is_some() {
        return Err(refused("Sec-WebSocket-Accept does not fit the key"));
    }
    Ok(())
}

/// The protocol that a request asks for, as an extended CONNECT has it.
pub(super) fn protocol(asked: &RequestHead) -> Protocol {
    let named = asked.buf.get(Name::Upgrade).unwrap_or_default();
    match std::str::from_utf8(named) {
        // Its name is that, however it is written (RFC 6455 section 11.2).
        Ok(named) if !is_websocket(named.as_bytes()) => Protocol::from(named),
        Ok(_) | Err(_) => Protocol::from_static("websocket"),
    }
}

/// What an endpoint that took an extended CONNECT is to have said in HTTP/1.1: that it switched, and that it understood
/// the handshake, whose key it never saw.
pub(super) fn answer(asked: &RequestHead, edits: &mut Edits) {
    let Some(protocol) = asked.buf.get(Name::Upgrade) else {
        return;
    };
    edits.add(b"Upgrade", protocol);
    if is_websocket(protocol) {
        let key = asked.buf.get(Name::SecWebsocketKey).unwrap_or_default();
        edits.add(b"Sec-WebSocket-Accept", handshake::accept_of(key).as_bytes());
    }
}

/// A tunnel's places in the counts, given up when it ends.
#[derive(Debug, Default)]
pub(super) struct Places {
    _counted: SmallVec<[TunnelPermit; 2]>,
    _client: Option<ClientPermit>,
}

impl Places {
    /// A place among the tunnels of the listener that it came by.
    pub fn enter_listener(&mut self, context: &RequestContext) -> Result<(), ProxyError> {
        let listener = &context.listener.plan;
        let most = listener.limits.tunnels;
        if most > 0 {
            let board = &context.worker.context.board;
            let place = board.tally("listener", &listener.name).enter(most);
            self._counted
                .push(place.ok_or_else(|| full("`limits.tunnels` are open"))?);
        }
        Ok(())
    }
}

/// Lets a handshake in: its page may, there is room for one more, and its turn has come.
pub(super) async fn admit(
    client: &mut Client,
    context: &mut RequestContext,
    route: &RoutePlan,
) -> Result<(), ProxyError> {
    let rules = &route.websocket;
    let head = context.head()?;
    if !rules.origins.is_empty()
        && let Some(origin) = head.buf.get(Name::Origin)
        && !rules.origins.iter().any(|allowed| fits(allowed, origin))
    {
        return Err(ProxyError::refused(Reject::new(
            Token::Denied,
            "the origin is none of `websocket.origins`",
        )));
    }
    let board = context.worker.context.board.clone();
    let mut places = Places::default();
    places.enter_listener(context)?;
    if rules.connections > 0 {
        let place = board.tally("route", &route.name).enter(rules.connections);
        let place = place.ok_or_else(|| full("`websocket.connections` are open"))?;
        places._counted.push(place);
    }
    if rules.connections_per_ip > 0 {
        let permit = board.admit_tunnel(&route.name, context.client_ip, rules.connections_per_ip);
        places._client = Some(permit.ok_or(ProxyError {
            detail: Some("the client has `websocket.connections_per_ip` open"),
            retry_after: 1,
            ..ProxyError::new(Token::RateLimited, Side::Client)
        })?);
    }
    context.places = Some(Box::new(places));
    if rules.accept_rate > 0 {
        let tally = board.tally("route", &route.name);
        let begun = Instant::now();
        wait_for_turn(client, &tally, rules.accept_rate, begun).await?;
        context.queued += begun.elapsed();
    }
    Ok(())
}

fn full(detail: &'static str) -> ProxyError {
    ProxyError {
        detail: Some(detail),
        retry_after: 1,
        ..ProxyError::new(Token::Overloaded, Side::Gateway)
    }
}

async fn wait_for_turn(
    client: &mut Client,
    tally: &Tally,
    rate: u32,
    now: Instant,
) -> Result<(), ProxyError> {
    let interval = Duration::from_secs(1) / rate;
    let wait = match tally.turn(now, interval, ACCEPT_WAIT) {
        Ok(wait) if wait.is_zero() => return Ok(()),
        Ok(wait) => wait,
        Err(wait) => {
            return Err(ProxyError {
                detail: Some("more handshakes than `websocket.accept_rate`"),
                retry_after: u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX),
                ..ProxyError::new(Token::Overloaded, Side::Gateway)
            });
        }
    };
    poll_fn(|cx| {
        if let Err(error) = client.watch(cx, true) {
            return Poll::Ready(Err(error));
        }
        match client.alarm.passed(cx, now + wait) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await
}

/// Whether an origin as sent is one of these, written in lower case with `*.` for any name below.
fn fits(allowed: &str, origin: &[u8]) -> bool {
    let Some((scheme, below)) = allowed.split_once("://*.") else {
        return origin.eq_ignore_ascii_case(allowed.as_bytes());
    };
    let Some(separator) = memchr::memmem::find(origin, b"://") else {
        return false;
    };
    let host = &origin[separator + 3..];
    origin[..separator].eq_ignore_ascii_case(scheme.as_bytes())
        && host.len() > below.len() + 1
        && host[host.len() - below.len()..].eq_ignore_ascii_case(below.as_bytes())
        && host[host.len() - below.len() - 1] == b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_a_whole_or_by_the_names_above() {
        for (allowed, origin, fit) in [
            ("https://a.test", "https://a.test", true),
            ("https://a.test", "HTTPS://A.test", true),
            ("https://a.test", "http://a.test", false),
            ("https://a.test", "https://a.test:8443", false),
            ("https://a.test", "https://a.test.evil.example", false),
            ("https://*.a.test", "https://x.a.test", true),
            ("https://*.a.test", "https://x.y.A.test", true),
            ("https://*.a.test", "https://a.test", false),
            ("https://*.a.test", "https://evila.test", false),
            ("https://*.a.test", "http://x.a.test", false),
            ("https://*.a.test:8443", "https://x.a.test:8443", true),
            ("null", "null", true),
            ("https://*.a.test", "null", false),
        ] {
            assert_eq!(fits(allowed, origin.as_bytes()), fit, "{allowed} {origin}");
        }
    }
}
