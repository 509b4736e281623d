//! Closing a connection on which the client may still be sending.
//!
//! Closing a socket with unread bytes makes the kernel reset the connection, and the reset can overtake the
//! answer on its way: the client would see an error instead of our 413. So our direction is ended, what still
//! comes is read and thrown away for a while, and then the socket is closed (RFC 9112 section 9.6).

use super::client::{Client, Link};
use super::flow::Flow;
use super::pace::Pace;
use crate::net::alarm::Alarm;
use crate::net::scratch::FIRST_READ;
use crate::net::wire::Wire;
use crate::snapshot::ListenerPlan;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_secs(2);
/// Bytes thrown away at most.
const MOST_BYTES: u64 = 256 * 1024;

/// Flushes, ends our direction, and drains the client's.
pub(super) async fn close(client: &mut Client) {
    let Client {
        link: Link::H1(wire),
        alarm,
        ..
    } = client
    else {
        return;
    };
    let _carried = wire.take_carried();
    let deadline = Instant::now() + LONGEST;
    let limit = wire.bytes_read + MOST_BYTES;
    poll_fn(|cx| {
        if alarm.passed(cx, deadline) {
            return Poll::Ready(());
        }
        poll_close(cx, wire, limit)
    })
    .await;
}

/// Flushes what is left of the last answer, for a client that owes nothing. It may take as long as any answer.
pub(super) async fn flush(client: &mut Client, plan: &ListenerPlan) {
    let mut pace = Pace::default();
    let Client { link, alarm, .. } = client;
    match link {
        Link::H1(wire) => poll_fn(|cx| poll_flush(cx, wire, alarm, &mut pace, plan).map(drop)).await,
        Link::H2(stream) => poll_fn(|cx| stream.poll_flush(cx, alarm, &mut pace, plan)).await,
    }
}

/// Writes what is left of the last answer. Ready with false when the client is gone, or takes it too slowly.
pub(super) fn poll_flush(
    cx: &mut Context<'_>,
    wire: &mut Wire,
    alarm: &mut Alarm,
    pace: &mut Pace,
    plan: &ListenerPlan,
) -> Poll<bool> {
    if let Poll::Ready(flushed) = wire.poll_flush(cx) {
        return Poll::Ready(flushed.is_ok());
    }
    if is_too_slow(cx, wire.bytes_written, alarm, pace, plan) {
        return Poll::Ready(false);
    }
    Poll::Pending
}

/// Whether a client that was sent so many bytes of an answer takes the rest of it too slowly.
pub(super) fn is_too_slow(
    cx: &mut Context<'_>,
    written: u64,
    alarm: &mut Alarm,
    pace: &mut Pace,
    plan: &ListenerPlan,
) -> bool {
    let (now, limits) = (Instant::now(), &plan.limits);
    let silent = pace.note(written, now) + limits.send_timeout;
    let slow = pace.too_slow_at(written, limits.min_rate, limits.send_timeout, now);
    alarm.passed(cx, slow.map_or(silent, |slow| slow.min(silent)))
}

fn poll_close(cx: &mut Context<'_>, wire: &mut Wire, limit: u64) -> Poll<()> {
    if ready!(wire.poll_flush(cx)).is_err() || ready!(wire.transport.poll_shutdown(cx)).is_err() {
        return Poll::Ready(());
    }
    while wire.bytes_read < limit {
        match ready!(wire.poll_more(cx, FIRST_READ, |bytes| (bytes.len(), ()))) {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => break,
        }
    }
    Poll::Ready(())
}

/// Reads the rest of a request body and throws it away, so that the connection can carry the next request.
/// Returns whether the body ended, soon and in order.
pub(super) async fn discard(client: &mut Client, mut rest: Box<Flow>) -> bool {
    let Client {
        link: Link::H1(wire),
        alarm,
        ..
    } = client
    else {
        return false;
    };
    let deadline = Instant::now() + LONGEST;
    let limit = wire.bytes_read + MOST_BYTES;
    poll_fn(|cx| {
        if alarm.passed(cx, deadline) {
            return Poll::Ready(false);
        }
        // The answer goes out meanwhile; whether it could is found out by the next request.
        let _sent = wire.poll_flush(cx);
        while !rest.is_end() && wire.bytes_read < limit {
            match ready!(rest.poll_discard(cx, wire)) {
                Ok(()) => {}
                Err(_) => return Poll::Ready(false),
            }
        }
        Poll::Ready(rest.is_end())
    })
    .await
}
