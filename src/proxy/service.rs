//! The outer shell around one request: it always ends with an answer or a cut connection, and with exactly one
//! record.

use super::client::{Client, Link};
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::flow::Flow;
use super::handle::{self, Done};
use super::tunnel::Tunnel;
use super::view::ListenerView;
use super::worker::Worker;
use super::{grpc, linger, respond};
use crate::message::head::RequestHead;
use crate::message::token::Token;
use std::rc::Rc;
use std::time::Instant;

/// What becomes of the client's connection.
#[derive(Debug)]
pub(super) enum After {
    /// The next request may come.
    KeepAlive,
    Close,
    /// Close, but the client may still be sending.
    Linger,
    Tunnel(Box<Tunnel>),
}

/// What is known of a request body that the exchange did not read to its end.
#[derive(Debug, Default)]
pub(super) enum Rest {
    /// There is none.
    #[default]
    Nothing,
    /// It may still come, and can be read and thrown away.
    Unread(Box<Flow>),
    /// The client may or may not send it (it waits for 100), or what came made no sense: nothing that follows
    /// can be taken for a request.
    Unknown,
}

/// A request that has begun to arrive.
#[derive(Debug)]
pub(super) struct Begun {
    pub worker: Rc<Worker>,
    pub listener: Rc<ListenerView>,
    /// When its first byte was read.
    pub start: Instant,
    /// When its last byte of head was.
    pub head_done: Instant,
}

/// A request and its client; however it ends, cut in the middle too, its record tells how much it moved.
struct Serving<'a> {
    client: &'a mut Client,
    context: &'a mut RequestContext,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.context.note_bytes(self.client);
    }
}

/// Serves one request.
pub(super) async fn serve(client: &mut Client, begun: Begun, head: RequestHead) -> After {
    // Made here and not by the caller: it is large, and moving it around shows in the profile.
    let mut context = RequestContext::new(begun, client);
    context.begin(head);
    let (peer, open) = {
        let context = &mut context;
        let Serving { client, context } = &mut Serving { client, context };
        match handle::handle(client, context).await {
            Ok(Done::Answered { keep_alive }) => return finish(client, context, keep_alive).await,
            Ok(Done::Switched(peer, open)) => (peer, open),
            Err(error) => return fail(client, context, &error).await,
        }
    };
    After::Tunnel(Box::new(Tunnel::new(peer, open, context)))
}

/// Answers a request whose head could not be taken.
pub(super) async fn refuse(client: &mut Client, begun: Begun, error: ProxyError) -> After {
    let mut context = RequestContext::new(begun, client);
    context.rest = Rest::Unknown;
    let context = &mut context;
    let Serving { client, context } = &mut Serving { client, context };
    fail(client, context, &error).await
}

/// Sends the error's page; cuts the connection when an answer is already on its way.
async fn fail(client: &mut Client, context: &mut RequestContext, error: &ProxyError) -> After {
    context.failed(error);
    if context.status != 0 {
        match &mut client.link {
            Link::H1(wire) if context.ends_by_close => wire.transport.reset_on_drop(),
            Link::H1(_) => {}
            Link::H2(stream) => match grpc::trailers(context, error) {
                Some(trailers) => stream.end_with(trailers),
                None => stream.fail(error),
            },
        }
        return After::Close;
    }
    if error.side == Side::Client && error.token == Token::ClientClosed {
        return After::Close;
    }
    let keep_alive = !error.token.closes() && context.may_keep_alive();
    let keep_alive = respond::error(client, context, error.token, keep_alive);
    finish(client, context, keep_alive).await
}

/// An answer of this many bytes is with the client when the socket closes: it fits into the ten segments that TCP
/// sends without waiting (RFC 6928). More may be in the kernel still, which drops it when a byte arrives after that.
const SENT_AT_ONCE: u64 = 14_600;

/// After a whole answer: a request body that nobody read is read and thrown away, if it is short.
async fn finish(client: &mut Client, context: &mut RequestContext, keep_alive: bool) -> After {
    let rest = std::mem::take(&mut context.rest);
    if let Link::H2(_) = client.link {
        // What is left of the request is the stream's, which ends here.
        linger::flush(client, &context.listener.plan).await;
        return After::Close;
    }
    match rest {
        Rest::Nothing if keep_alive => After::KeepAlive,
        Rest::Nothing => {
            linger::flush(client, &context.listener.plan).await;
            // Bytes that nobody will read, here already or still to come, must not cost the client this answer.
            context.note_bytes(client);
            let delivered = context.bytes_sent <= SENT_AT_ONCE;
            let quiet = match &client.link {
                Link::H1(wire) => wire.carried().is_empty() && !wire.transport.stirs(),
                Link::H2(_) => true,
            };
            if delivered && quiet {
                After::Close
            } else {
                After::Linger
            }
        }
        Rest::Unread(flow) => {
            let discarded = keep_alive && linger::discard(client, flow).await;
            if discarded {
                After::KeepAlive
            } else {
                After::Linger
            }
        }
        Rest::Unknown => After::Linger,
    }
}
