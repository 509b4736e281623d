//! When a request must be over: `timeouts.total` of its route, or the time that a call of gRPC allows, whichever is
//! sooner.

use super::context::RequestContext;
use super::error::{ProxyError, Side};
use crate::message::grpc;
use crate::message::token::Token;
use crate::snapshot::Timeouts;
use std::time::Instant;

/// See the module's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub at: Instant,
    /// Where it comes from, as the log says it.
    key: &'static str,
}

impl Deadline {
    /// The deadline of a request that these timeouts are for.
    ///
    /// # Errors
    /// `deadline` where it has passed already, so that no endpoint is bothered; `bad_request` for a `grpc-timeout`
    /// that is none.
    #[inline]
    pub fn of(context: &RequestContext, timeouts: &Timeouts) -> Result<Option<Self>, ProxyError> {
        let own = (!timeouts.total.is_zero()).then(|| Self {
            at: context.start + timeouts.total,
            key: "routes.timeouts.total",
        });
        if context.grpc {
            Self::of_call(context, own)
        } else {
            Ok(own)
        }
    }

    fn of_call(context: &RequestContext, own: Option<Self>) -> Result<Option<Self>, ProxyError> {
        let allowed = grpc::timeout(&context.head()?.buf)?;
        // What is beyond the clock's end is no deadline.
        let given = allowed
            .and_then(|allowed| context.start.checked_add(allowed))
            .map(|at| Self {
                at,
                key: grpc::TIMEOUT,
            });
        let sooner = match (own, given) {
            (Some(own), Some(given)) if given.at < own.at => Some(given),
            (own, given) => own.or(given),
        };
        match sooner {
            Some(deadline) if deadline.at <= Instant::now() => Err(deadline.late()),
            sooner => Ok(sooner),
        }
    }

    /// It has passed.
    pub const fn late(&self) -> ProxyError {
        ProxyError::late(Token::Deadline, Side::Gateway, self.key)
    }
}
