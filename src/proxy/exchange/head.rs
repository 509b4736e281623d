//! The head of a response: waited for, with the interim ones before it passed on.

use super::{Down, Exchange, RESPONSE_HEAD};
use crate::h1::parse::{self, Parsed};
use crate::h1::write;
use crate::message::fields;
use crate::message::framing::BodyKind;
use crate::message::head::ResponseHead;
use crate::message::hop;
use crate::message::token::{Reject, Token};
use crate::net::scratch::{self, FIRST_READ};
use crate::proxy::client::Link;
use crate::proxy::error::{ProxyError, Side};
use crate::proxy::heads;
use crate::proxy::peer::Peer;
use std::task::{Context, Poll, ready};

/// Interim responses passed on before an endpoint is taken for broken.
pub(super) const MOST_INTERIM: u32 = 16;

impl Exchange<'_> {
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ProxyError>> {
        loop {
            let Down::Head { scanned, interim } = &mut self.down else {
                return Poll::Pending;
            };
            let Peer::H1(conn) = &mut *self.peer else {
                return self.poll_call_head(cx);
            };
            let parsed = if !conn.wire.carried().is_empty() && *scanned == 0 {
                let (used, parsed) = parse_head(conn.wire.carried(), scanned);
                conn.wire.consume(used);
                parsed
            } else {
                match ready!(
                    conn.wire
                        .poll_more(cx, FIRST_READ, |bytes| parse_head(bytes, scanned))
                ) {
                    Ok(Some(parsed)) => parsed,
                    Ok(None) => return Poll::Ready(Err(self.cut_short())),
                    Err(error) => return Poll::Ready(Err(ProxyError::endpoint_gone(&error))),
                }
            };
            self.answered = true;
            match parsed {
                None => {}
                Some(Err(reject)) => return Poll::Ready(Err(ProxyError::bad_response(reject.detail))),
                Some(Ok(head)) if !(100..200).contains(&head.status) || head.status == 101 => {
                    return Poll::Ready(Ok(head));
                }
                Some(Ok(head)) => {
                    *scanned = 0;
                    *interim += 1;
                    if *interim > MOST_INTERIM {
                        return Poll::Ready(Err(ProxyError::bad_response("too many interim responses")));
                    }
                    self.send_interim(cx, head)?;
                }
            }
        }
    }

    /// The endpoint ended the connection instead of answering.
    fn cut_short(&self) -> ProxyError {
        if self.answered {
            ProxyError::bad_response("the response ends within its head")
        } else {
            ProxyError::new(Token::UpstreamReset, Side::Endpoint)
        }
    }

    pub(super) fn send_interim(
        &mut self,
        cx: &mut Context<'_>,
        head: ResponseHead,
    ) -> Result<(), ProxyError> {
        if !self.interim {
            heads::give(head.buf);
            return Ok(());
        }
        let mut edits = heads::edits();
        hop::drop_hop_by_hop(&head.buf, &mut edits);
        let sent = match &mut self.client.link {
            Link::H1(wire) => scratch::with_out(|out| {
                write::response_head(&head, &edits, BodyKind::None, out);
                wire.send(cx, &[out])
                    .map(drop)
                    .map_err(|error| ProxyError::client_gone(&error))
            }),
            Link::H2(stream) => {
                let (fields, _) = fields::of_response(&head, &edits, BodyKind::None);
                stream.send_interim(head.status, fields)
            }
        };
        heads::give(head.buf);
        sent
    }
}

type ParsedHead = Option<Result<ResponseHead, Reject>>;

fn parse_head(bytes: &[u8], scanned: &mut usize) -> (usize, ParsedHead) {
    let mut buf = heads::take();
    match parse::parse_response(bytes, &RESPONSE_HEAD, scanned, &mut buf) {
        Parsed::Complete { head, len } => (len, Some(Ok(head.with(buf)))),
        Parsed::Partial => {
            heads::give(buf);
            (0, None)
        }
        Parsed::Reject(reject) => {
            heads::give(buf);
            (bytes.len(), Some(Err(reject)))
        }
    }
}
