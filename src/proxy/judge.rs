//! What an answer, or a failure, says about the endpoint that it came from, and about the upstream: balancers learn
//! from it, and one too many of the wrong sort ejects the endpoint.

use super::context::{Attempt, RequestContext};
use super::error::{ProxyError, Side};
use crate::base::clock::Millis;
use crate::message::head::ResponseHead;
use crate::telemetry::access::Outcome;
use crate::upstream::shared::outlier::{self, Fault, Reason};
use crate::upstream::shared::resilience::Resilience;
use std::time::Instant;

pub(super) fn note_answer(context: &mut RequestContext, response: &ResponseHead, said: Fault) {
    let Some(attempt) = context.attempts.last_mut() else {
        return;
    };
    let now = Instant::now();
    attempt.head = Some(now);
    attempt.outcome = Outcome::Answered(response.status);
    attempt.endpoint.series.responses.inc(response.status);
    attempt
        .endpoint
        .series
        .response_seconds
        .record(now.saturating_duration_since(attempt.connected.unwrap_or(now)));
    if let Some(attempt) = context.attempts.last() {
        learn(context, attempt, response.status < 500);
        judge(context, attempt, said);
    }
}

/// Notes how an attempt failed, with the endpoint where it is the endpoint's fault.
pub(super) fn note_failure(context: &mut RequestContext, error: &ProxyError) {
    if let Some(attempt) = context.attempts.last()
        && error.blames_endpoint()
    {
        attempt.endpoint.series.failures.inc(error.token);
        if let Some(fault) = error.tls {
            attempt.endpoint.series.tls_failed.inc(fault);
        }
        learn(context, attempt, false);
        judge(context, attempt, Fault::Failed(error.token));
    }
    let outcome = match (error.side, context.response.is_some()) {
        // The head of the answer is what the attempt came to.
        (_, true) => None,
        (Side::Endpoint, false) => Some(Outcome::Failed(error.token)),
        (_, false) => Some(Outcome::Cancelled),
    };
    context.end_attempt(outcome, Instant::now());
}

/// Whether an answer that was passed on speaks for the upstream, as its breaker counts.
pub(super) fn did_well(context: &RequestContext, policies: &Resilience) -> bool {
    let failed = policies.outlier.on.has_status(context.status)
        || context
            .grpc_status
            .is_some_and(|status| policies.outlier.on.has_grpc(status));
    !failed
}

/// Tells the balancers of all workers how an endpoint answers, if they learn from that.
pub(super) fn learn(context: &RequestContext, attempt: &Attempt, well: bool) {
    if !context
        .upstream
        .as_ref()
        .is_some_and(|upstream| upstream.plan.learns())
    {
        return;
    }
    let end = attempt.head.unwrap_or_else(Instant::now);
    let took = end.saturating_duration_since(attempt.started);
    let latency = &attempt.endpoint.state.latency;
    if well {
        latency.answered(took, Millis::of(end));
    } else {
        latency.failed(took, Millis::of(end));
    }
}

/// Counts an outcome for or against the endpoint, and ejects it when it was one too many.
fn judge(context: &RequestContext, attempt: &Attempt, outcome: Fault) {
    let Some(upstream) = &context.upstream else { return };
    let rules = &upstream.plan.resilience.outlier;
    let (state, series) = (&attempt.endpoint.state, &attempt.endpoint.series);
    let at_fault = outcome.is_of(rules.on);
    if at_fault || matches!(outcome, Fault::Failed(_)) {
        state.last_fault.note(outcome, Millis::now());
    }
    match (at_fault, outcome) {
        (true, _) => {
            series.faults.inc();
            let now = Millis::now();
            let failures = state.failed(now);
            // A request from before an ejection is no news after it.
            let fresh = Millis::of(attempt.started) >= state.standing.ejected_until();
            if rules.consecutive_failures > 0 && failures >= rules.consecutive_failures && fresh {
                let reason = Reason::InARow {
                    failures,
                    last: outcome,
                };
                outlier::eject(&upstream.plan, attempt.index, reason, now);
            }
        }
        (false, Fault::Answered(_) | Fault::Grpc(_)) => state.succeeded(),
        (false, Fault::Failed(_)) => {}
    }
}
