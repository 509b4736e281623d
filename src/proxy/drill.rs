//! Attempts that a fail-over drill swallows: they go nowhere and end as those at a dead host do, when the time to
//! connect is over. The endpoint is not blamed; everything else is as it would be.

use super::client::Client;
use super::context::RequestContext;
use super::error::{ProxyError, Side};
use super::exchange::Bounds;
use super::forward::Try;
use super::{reach, room};
use crate::base::clock::Millis;
use crate::message::token::Token;
use crate::upstream::local::{InFlight, LocalUpstream};
use crate::upstream::shared::drill::{Drill, HEADER};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Longest wait where nothing bounds connecting.
const LONGEST: Duration = Duration::from_secs(10);

/// The drill that took an attempt of a request last, which is told how the request goes on.
#[derive(Debug, Default)]
pub(super) struct Drilled(Option<Arc<Drill>>);

impl Drilled {
    /// The drill that takes an attempt at this endpoint, if one does.
    pub fn takes(
        &mut self,
        context: &RequestContext,
        upstream: &LocalUpstream,
        index: usize,
    ) -> Option<&Drill> {
        let drill = upstream.endpoints[index].state.drill()?;
        let head = context.request.as_ref()?;
        let mark = head.buf.find(HEADER.as_bytes()).next();
        if !drill.takes(mark, fastrand::f64(), Millis::now()) {
            return None;
        }
        Some(self.0.insert(drill))
    }

    /// The request is tried elsewhere.
    pub fn goes_on(&self) {
        if let Some(drill) = &self.0 {
            drill.went_elsewhere();
        }
    }

    /// The request is over.
    pub fn ended(self, answered: bool) {
        if let Some(drill) = self.0 {
            drill.ended(answered);
        }
    }
}

/// Waits as for a host that does not answer. The place at the endpoint is taken meanwhile, as it would be.
pub(super) async fn swallow(
    client: &mut Client,
    context: &mut RequestContext,
    attempt: &Try<'_>,
    _in_flight: InFlight,
    drill: &Drill,
) -> ProxyError {
    let endpoint = attempt.upstream.endpoints[attempt.index].clone();
    reach::begin_attempt(context, &endpoint, attempt.index, false);
    let started = Instant::now();
    let bound = Bounds::after(started, attempt.route.timeouts.connect);
    let (by, late) = reach::late(bound, context).unwrap_or((
        started + LONGEST,
        ProxyError::new(Token::ConnectTimeout, Side::Endpoint),
    ));
    let error = poll_fn(|cx| {
        if let Err(gone) = room::watch_client(cx, client, context) {
            return Poll::Ready(gone);
        }
        if client.alarm.passed(cx, by) {
            return Poll::Ready(late);
        }
        Poll::Pending
    })
    .await;
    drill.swallowed(started.elapsed());
    ProxyError {
        drill: true,
        ..error.unsent()
    }
}
