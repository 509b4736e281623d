//! What is different for calls of gRPC: endpoints are told how much time is left, and clients are told of errors in
//! gRPC's terms, because they would make something vaguer of an error page.

use super::context::RequestContext;
use super::deadline::Deadline;
use super::error::{ProxyError, Side};
use super::prepare::Prepared;
use crate::message::grpc::{self, Code};
use crate::message::head::ResponseHead;
use crate::message::names::Name;
use crate::message::token::Token;
use crate::upstream::shared::outlier::Fault;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Instant;

/// The error's token, as in the heads of other answers.
const TOKEN: HeaderName = HeaderName::from_static("x-tidegate-error");

/// Tells an endpoint how much of the time allowed is left for it, where the request has a deadline.
#[inline]
pub(super) fn allow(context: &RequestContext, prepared: &mut Prepared) -> Result<(), ProxyError> {
    match context.deadline {
        Some(deadline) if context.grpc => allow_until(deadline, context, prepared),
        _ => Ok(()),
    }
}

fn allow_until(
    deadline: Deadline,
    context: &RequestContext,
    prepared: &mut Prepared,
) -> Result<(), ProxyError> {
    let left = deadline.at.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(deadline.late());
    }
    let name = grpc::TIMEOUT.as_bytes();
    prepared.edits.drop_named(&context.head()?.buf, name);
    prepared
        .edits
        .add_with(name, |out| grpc::write_timeout(left, out));
    Ok(())
}

/// What an endpoint's answer says, by its head: a call of gRPC may be over with it, whatever its status is.
#[inline]
pub(super) fn said(context: &RequestContext, response: &ResponseHead) -> Fault {
    if context.grpc {
        said_by_head(response)
    } else {
        Fault::Answered(response.status)
    }
}

fn said_by_head(response: &ResponseHead) -> Fault {
    let status = response.buf.find(grpc::STATUS.as_bytes()).next();
    match status.map(Code::of_text) {
        Some(code) if code != Code::Ok => Fault::Grpc(code),
        _ => Fault::Answered(response.status),
    }
}

/// Notes how a call ended whose answer is complete: by its trailers, or by the head where that was all.
#[inline]
pub(super) fn ended(context: &mut RequestContext, by_trailers: Option<Code>) {
    if context.grpc {
        note_end(context, by_trailers);
    }
}

fn note_end(context: &mut RequestContext, by_trailers: Option<Code>) {
    let Some(head) = &context.response else { return };
    let by_head = || head.buf.find(grpc::STATUS.as_bytes()).next().map(Code::of_text);
    let status = by_trailers.or_else(by_head);
    let answers_grpc = head.buf.get(Name::ContentType).is_some_and(grpc::is_grpc);
    if (answers_grpc || status.is_some())
        && let Some(attempt) = context.attempts.last()
    {
        attempt.endpoint.series.grpc.inc(status);
    }
    context.grpc_status = status;
}

/// What the client reads of an error: for people.
pub(super) fn message(token: Token) -> String {
    grpc::message(&format!("{}: {}", token.name(), token.text()))
}

/// What ends an answer that cannot be completed, where the client understands that: a call of gRPC whose answer began
/// as one, and which is not the client's to blame for.
pub(super) fn trailers(context: &mut RequestContext, error: &ProxyError) -> Option<HeaderMap> {
    let began = |name| context.response.as_ref().and_then(|head| head.buf.get(name));
    let tells = context.grpc
        && error.side != Side::Client
        && began(Name::ContentType).is_some_and(grpc::is_grpc)
        // An end that comes early would be at odds with it.
        && began(Name::ContentLength).is_none();
    if !tells {
        return None;
    }
    let code = Code::of_token(error.token);
    let mut trailers = HeaderMap::with_capacity(3);
    trailers.insert(grpc::STATUS, HeaderValue::from(u16::from(code.number())));
    if let Ok(text) = HeaderValue::from_str(&message(error.token)) {
        trailers.insert(grpc::MESSAGE, text);
    }
    if context.listener.plan.error_header {
        trailers.insert(TOKEN, HeaderValue::from_static(error.token.name()));
    }
    context.grpc_status = Some(code);
    Some(trailers)
}
