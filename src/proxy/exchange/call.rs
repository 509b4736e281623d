//! The endpoint's side of an exchange where it is a stream of HTTP/2. Apart from what HTTP/1.1 does, whose turns it
//! must not make longer.

use super::head::MOST_INTERIM;
use super::{Down, Exchange, RESPONSE_HEAD};
use crate::message::flatten::{self, Most};
use crate::message::framing::BodyKind;
use crate::message::head::ResponseHead;
use crate::net::frames::Inbound;
use crate::proxy::client::Link;
use crate::proxy::error::ProxyError;
use crate::proxy::flow::{Flow, FlowError};
use crate::proxy::heads;
use crate::proxy::peer::{self, Peer};
use crate::upstream::conn::h2::Call;
use http::HeaderMap;
use std::io;
use std::task::{Context, Poll, ready};

const MOST: Most = Most {
    head_bytes: RESPONSE_HEAD.head_bytes,
    fields: RESPONSE_HEAD.fields,
    target_bytes: 0,
};

impl Exchange<'_> {
    /// Has what another endpoint was sent of the body go first. Nothing else is left to send of a request whose head
    /// has begun its stream.
    pub fn send_first(&mut self) {
        let sent_before = self.upload.sent_before();
        if let Peer::H2(call) = &mut *self.peer
            && !sent_before.is_empty()
        {
            call.send_first(sent_before, self.upload.flow.is_none());
        }
    }

    /// Whether the endpoint's side is a stream of HTTP/2.
    pub const fn is_stream(&self) -> bool {
        matches!(self.peer, Peer::H2(_))
    }

    /// How the response's body follows that was announced like this: a stream may be over with its head.
    #[inline]
    pub fn body_of(&self, announced: BodyKind) -> BodyKind {
        match (&*self.peer, announced) {
            (Peer::H2(call), BodyKind::UntilClose | BodyKind::Length(0)) => match call.is_over() {
                true => BodyKind::Length(0),
                // Trailers may follow.
                false => BodyKind::UntilClose,
            },
            (_, announced) => announced,
        }
    }

    #[inline(never)]
    pub(super) fn poll_call_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ProxyError>> {
        loop {
            let (Peer::H2(call), Down::Head { interim, .. }) = (&mut *self.peer, &mut self.down) else {
                return Poll::Pending;
            };
            let next = match ready!(call.poll_interim(cx)) {
                Ok(Some(head)) => Some(head),
                Ok(None) => None,
                Err(ended) => return Poll::Ready(Err(peer::unanswered(ended))),
            };
            let Some(head) = next else {
                let parts = match ready!(call.poll_response(cx)) {
                    Ok(parts) => parts,
                    Err(ended) => return Poll::Ready(Err(peer::unanswered(ended))),
                };
                self.answered = true;
                let status = match self.switches {
                    // Here it is what 101 is in HTTP/1.1 (RFC 8441 section 5).
                    true if parts.status.is_success() => http::StatusCode::SWITCHING_PROTOCOLS,
                    true => {
                        // It is an ordinary answer, and nothing more comes from us.
                        call.outbound.end(HeaderMap::new()).map_or_else(drop, drop);
                        parts.status
                    }
                    false => parts.status,
                };
                let head = flat(status, &parts.headers)?;
                call.head_read += head.buf.bytes.len() as u64;
                return Poll::Ready(Ok(head));
            };
            self.answered = true;
            *interim += 1;
            if *interim > MOST_INTERIM {
                return Poll::Ready(Err(ProxyError::bad_response("too many interim responses")));
            }
            if head.status() == http::StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(ProxyError::bad_response("101 in HTTP/2")));
            }
            let head = flat(head.status(), head.headers())?;
            call.head_read += head.buf.bytes.len() as u64;
            self.send_interim(cx, head)?;
        }
    }
}

fn flat(status: http::StatusCode, headers: &HeaderMap) -> Result<ResponseHead, ProxyError> {
    flatten::response(status.as_u16(), headers, MOST, heads::take()).map_err(|(reject, buf)| {
        heads::give(buf);
        ProxyError::bad_response(reject.detail)
    })
}

/// Takes what is there of a response's body already, so that it leaves with its head.
#[inline(never)]
pub(super) fn take_arrived(
    cx: &mut Context<'_>,
    flow: &mut Flow,
    call: &mut Call,
    out: &mut Vec<u8>,
) -> Result<usize, FlowError> {
    if let Some(inbound) = &mut call.inbound {
        flow.take_arrived(cx, inbound, out)?;
    }
    Ok(0)
}

#[inline(never)]
pub(super) fn poll_up(
    cx: &mut Context<'_>,
    flow: &mut Flow,
    link: &mut Link,
    call: &mut Call,
) -> Poll<Result<(), FlowError>> {
    let first = call.poll_first(cx);
    flow.held_up = first.is_pending();
    ready!(first).map_err(FlowError::Write)?;
    match link {
        Link::H1(wire) => flow.poll_to_stream(cx, wire, &mut call.outbound),
        Link::H2(stream) => flow.poll_to_stream(cx, &mut stream.inbound, &mut call.outbound),
    }
}

#[inline(never)]
pub(super) fn poll_down(
    cx: &mut Context<'_>,
    flow: &mut Flow,
    call: &mut Call,
    link: &mut Link,
) -> Poll<Result<(), FlowError>> {
    let not_there = |what: fn(io::Error) -> FlowError| what(io::ErrorKind::NotConnected.into());
    let Some(inbound): Option<&mut Inbound> = call.inbound.as_mut() else {
        return Poll::Ready(Err(not_there(FlowError::Read)));
    };
    match link {
        Link::H1(wire) => flow.poll(cx, inbound, wire),
        Link::H2(stream) => match stream.outbound() {
            Some(outbound) => flow.poll_to_stream(cx, inbound, outbound),
            None => Poll::Ready(Err(not_there(FlowError::Write))),
        },
    }
}
