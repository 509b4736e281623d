//! The deadlines of an exchange: which comes first, and what it means when it passes.

use super::{Down, Exchange};
use crate::message::token::Token;
use crate::proxy::client::Link;
use crate::proxy::deadline::Deadline;
use crate::proxy::error::{ProxyError, Side};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Times that bound an exchange, and where each is configured. Zero: no bound.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Bounds {
    pub response: Duration,
    pub response_key: &'static str,
    pub idle: Duration,
    /// When the whole request must be over.
    pub total: Option<Deadline>,
    pub body_idle: Duration,
    pub send: Duration,
    /// Bytes per second.
    pub min_rate: u64,
    /// Both sides speak when they like: it is silent only when nobody does.
    pub conversation: bool,
}

impl Bounds {
    /// Zero means no bound.
    pub fn after(since: Instant, allowed: Duration) -> Option<Instant> {
        (!allowed.is_zero()).then(|| since + allowed)
    }
}

impl Exchange<'_> {
    /// Nothing can move: may this go on, is the client still there, and is there time?
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<ProxyError> {
        if self
            .endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.state.standing.is_cut())
        {
            return Poll::Ready(ProxyError::cut());
        }
        if let Err(error) = self.watch_client(cx) {
            return Poll::Ready(error);
        }
        let Some((deadline, late)) = self.next_deadline(Instant::now()) else {
            return Poll::Pending;
        };
        if self.client.alarm.passed(cx, deadline) {
            Poll::Ready(late)
        } else {
            Poll::Pending
        }
    }

    /// With the request read, the client's side tells of its end. A stream of HTTP/2 does at any time: also while its
    /// body waits for the endpoint and is not read.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), ProxyError> {
        match (&self.upload.flow, &self.client.link) {
            (Some(_), Link::H1(_)) => Ok(()),
            _ => self.client.watch(cx, self.end_means_gone),
        }
    }

    /// The deadline that comes first, and what it means when it passes.
    fn next_deadline(&mut self, now: Instant) -> Option<(Instant, ProxyError)> {
        let bounds = self.bounds;
        let (read, written) = (self.client.link.bytes_read(), self.client.link.bytes_written());
        let mut first = First::default();
        if let Some(total) = bounds.total {
            first.offer(Some(total.at), || total.late());
        }
        if bounds.conversation {
            self.offer_silence(&mut first, now);
            return first.0;
        }
        let up_since = self.up_pace.note(read + self.peer.bytes_written(), now);
        let waits_for_client = self
            .upload
            .flow
            .as_ref()
            .is_some_and(|up| !up.held_up && !self.up_broken);
        if waits_for_client {
            first.offer(Bounds::after(up_since, bounds.body_idle), || {
                ProxyError::late(Token::RequestTimeout, Side::Client, "listeners.limits.body_idle")
            });
            first.offer(
                self.up_pace
                    .too_slow_at(read, bounds.min_rate, bounds.body_idle, now),
                || ProxyError::late(Token::RequestTimeout, Side::Client, "listeners.limits.min_rate"),
            );
        } else {
            self.up_pace.excused();
        }
        match &self.down {
            Down::Head { .. } if !waits_for_client => {
                first.offer(Bounds::after(up_since, bounds.response), || {
                    ProxyError::late(Token::ResponseTimeout, Side::Endpoint, bounds.response_key)
                });
            }
            Down::Head { .. } => {}
            Down::Body(flow) => {
                let since = self.down_pace.note(self.peer.bytes_read() + written, now);
                if flow.held_up {
                    first.offer(Bounds::after(since, bounds.send), late_send);
                    first.offer(
                        self.down_pace
                            .too_slow_at(written, bounds.min_rate, bounds.send, now),
                        || ProxyError::late(Token::AbortedClient, Side::Client, "listeners.limits.min_rate"),
                    );
                } else {
                    self.down_pace.excused();
                    first.offer(Bounds::after(since, bounds.idle), || {
                        ProxyError::late(Token::AbortedUpstream, Side::Endpoint, "routes.timeouts.idle")
                    });
                }
            }
        }
        first.0
    }

    /// The deadlines of a conversation. Whoever may speak may also be silent, as long as not both are; a side that takes
    /// nothing is not silent.
    fn offer_silence(&mut self, first: &mut First, now: Instant) {
        let bounds = self.bounds;
        let (read, written) = (self.client.link.bytes_read(), self.client.link.bytes_written());
        let up_since = self.up_pace.note(read + self.peer.bytes_written(), now);
        let down_since = self.down_pace.note(self.peer.bytes_read() + written, now);
        let client_speaks = self
            .upload
            .flow
            .as_ref()
            .is_some_and(|up| !up.held_up && !self.up_broken);
        match &self.down {
            Down::Body(flow) if flow.held_up => {
                first.offer(Bounds::after(down_since, bounds.send), late_send);
            }
            Down::Head { .. } if !client_speaks => {
                first.offer(Bounds::after(up_since, bounds.response), || {
                    ProxyError::late(Token::ResponseTimeout, Side::Endpoint, "routes.timeouts.response")
                });
            }
            // Nobody is to blame for it.
            Down::Head { .. } | Down::Body(_) => {
                first.offer(Bounds::after(up_since.max(down_since), bounds.idle), || {
                    ProxyError::late(Token::Deadline, Side::Gateway, "routes.timeouts.idle")
                });
            }
        }
    }
}

/// The earliest of several deadlines.
#[derive(Default)]
struct First(Option<(Instant, ProxyError)>);

impl First {
    fn offer(&mut self, at: Option<Instant>, late: impl FnOnce() -> ProxyError) {
        if let Some(at) = at
            && self.0.as_ref().is_none_or(|(first, _)| at < *first)
        {
            self.0 = Some((at, late()));
        }
    }
}

const fn late_send() -> ProxyError {
    ProxyError::late(
        Token::AbortedClient,
        Side::Client,
        "listeners.limits.send_timeout",
    )
}
