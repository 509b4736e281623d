//! Whether a request may be tried at another endpoint.
//!
//! What was never sent may go anywhere, whatever its method. What was sent is sent again only if doing it twice is
//! as good as once, all of it is still here, there is another endpoint, and the budget allows. When one of that
//! fails, the client gets the very answer, or error, that there is.
//!
//! The client gets what the last try came to, as with nginx and Envoy: an answer that was turned down is gone, and when
//! the retry fails, that failure is told. Both stand in the log. To keep the first answer, its connection would have
//! to be held, at an endpoint that has said that it can't take more.

use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::heads;
use super::upload::Upload;
use crate::base::clock::Millis;
use crate::message::causes::Cause;
use crate::message::names::Name;
use crate::telemetry::metrics::NoRetry;
use crate::upstream::conn::Speaks;
use crate::upstream::local::{InFlight, LocalUpstream, Taken};
use crate::upstream::shared::outlier::Fault;
use smallvec::SmallVec;

/// Endpoints tried for one request. Each costs at most its connect timeout.
pub(super) const MOST_ATTEMPTS: usize = 8;

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Next {
    /// To this endpoint, with a place there.
    At(usize, InFlight),
    /// To any that was not tried.
    Anywhere,
    Nowhere,
}

/// What was tried for a request.
#[derive(Debug)]
pub(super) struct Tries {
    endpoints: SmallVec<[usize; MOST_ATTEMPTS]>,
    /// Those at which something of the request was written.
    sent: u32,
    /// Doing it twice is as good as once.
    repeatable: bool,
    /// Where it goes next, decided when an answer was turned down.
    next: Option<(usize, InFlight)>,
}

impl Tries {
    pub fn new(context: &RequestContext, upstream: &LocalUpstream) -> Self {
        Self {
            endpoints: SmallVec::new(),
            sent: 0,
            repeatable: is_repeatable(context, upstream),
            next: None,
        }
    }

    /// Whether doing it twice is as good as once: by its method, because the client says so, or by policy.
    pub const fn repeatable(&self) -> bool {
        self.repeatable
    }

    /// How much of the request's body is worth keeping.
    pub fn keep(&self, upstream: &LocalUpstream) -> u64 {
        let retry = &upstream.plan.resilience.retry;
        // A stream that the endpoint has not looked at may be repeated, whatever it asks for.
        let may_be_refused = upstream.plan.dial.speaks != Speaks::Http1;
        if self.repeatable || may_be_refused {
            retry.body
        } else {
            0
        }
    }

    /// Notes that an endpoint is tried; the one before gave the request away.
    pub fn at(&mut self, index: usize, context: &RequestContext) {
        if !self.endpoints.is_empty() {
            note_given(context);
        }
        self.endpoints.push(index);
    }

    pub fn endpoints(&self) -> &[usize] {
        &self.endpoints
    }

    /// Where it goes after its answer was turned down.
    pub fn take_next(&mut self) -> Next {
        self.next
            .take()
            .map_or(Next::Nowhere, |(index, in_flight)| Next::At(index, in_flight))
    }

    /// Where to go after this failure.
    pub fn after_failure(
        &mut self,
        context: &mut RequestContext,
        upstream: &LocalUpstream,
        upload: &Upload,
        error: &ProxyError,
    ) -> Next {
        if error.side != Side::Endpoint || context.status != 0 {
            return Next::Nowhere;
        }
        let next = if error.unsent {
            if !self.may_go_elsewhere(upstream) {
                return Next::Nowhere;
            }
            Next::Anywhere
        } else {
            match self.after_sent(context, upstream, upload, Fault::Failed(error.token)) {
                Some((index, in_flight)) => Next::At(index, in_flight),
                None => return Next::Nowhere,
            }
        };
        if let Some(response) = context.response.take() {
            heads::give(response.buf);
        }
        next
    }

    /// Whether what was never sent may be tried at another endpoint.
    pub fn may_go_elsewhere(&self, upstream: &LocalUpstream) -> bool {
        let retry = &upstream.plan.resilience.retry;
        retry.attempts >= 2 && retry.on.has(Cause::Connect) && self.may_go_on()
    }

    /// Whether to try elsewhere instead of passing on an answer that says this. Nothing of it was passed on yet.
    pub fn turns_down(
        &mut self,
        context: &RequestContext,
        upstream: &LocalUpstream,
        upload: &Upload,
        said: Fault,
    ) -> bool {
        self.next = self.after_sent(context, upstream, upload, said);
        self.next.is_some()
    }

    fn after_sent(
        &mut self,
        context: &RequestContext,
        upstream: &LocalUpstream,
        upload: &Upload,
        fault: Fault,
    ) -> Option<(usize, InFlight)> {
        let retry = &upstream.plan.resilience.retry;
        if !fault.is_of(retry.on) || retry.attempts < 2 {
            return None;
        }
        self.sent += 1;
        let next = if self.sent >= retry.attempts {
            Err(NoRetry::Attempts)
        } else if !self.repeatable {
            Err(NoRetry::Method)
        } else if !upload.is_whole() {
            Err(NoRetry::Body)
        } else if upstream.is_broken(Millis::now()) {
            Err(NoRetry::Breaker)
        } else {
            self.take_other(context, upstream)
                .ok_or(NoRetry::Endpoints)
                .and_then(|next| {
                    let taken = upstream.take_retry(Millis::now());
                    taken.then_some(next).ok_or(NoRetry::Budget)
                })
        };
        next.map_err(|why| note_refused(context, why)).ok()
    }

    /// Whether there may be one more try.
    pub fn may_go_on(&self) -> bool {
        self.endpoints.len() < MOST_ATTEMPTS
    }

    fn take_other(&self, context: &RequestContext, upstream: &LocalUpstream) -> Option<(usize, InFlight)> {
        if !self.may_go_on() || context.stay.is_bound() {
            return None;
        }
        match upstream.take(&self.endpoints, context.ask(Millis::now())) {
            Taken::At(index, in_flight) => Some((index, in_flight)),
            // A line is for those who have been nowhere yet.
            Taken::Full | Taken::Nobody => None,
        }
    }
}

fn is_repeatable(context: &RequestContext, upstream: &LocalUpstream) -> bool {
    let by_policy = upstream.plan.resilience.retry.non_idempotent;
    by_policy
        || context
            .request
            .as_ref()
            .is_some_and(|head| head.method.is_idempotent() || head.buf.has(Name::IdempotencyKey))
}

fn note_given(context: &RequestContext) {
    if let Some(attempt) = context.attempts.last() {
        attempt.endpoint.series.retries_given.inc();
    }
}

fn note_refused(context: &RequestContext, why: NoRetry) {
    if let Some(attempt) = context.attempts.last() {
        attempt.endpoint.series.retries_suppressed.inc(why);
    }
}
