//! The task of a connection: moves frames, sees whether the endpoint is still there, and when it wants no more.

use super::Mux;
use super::io::{FrameIo, Watch};
use crate::net::alarm::Alarm;
use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long an endpoint may take to take our goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// See the module's text. Ready when the connection has ended.
#[derive(Debug)]
pub struct Driver {
    connection: Connection<FrameIo, Bytes>,
    mux: Rc<Mux>,
    watch: Rc<Watch>,
    pings: Option<PingPong>,
    ping_sent: Option<Instant>,
    alarm: Alarm,
}

impl Driver {
    pub(super) fn new(mut connection: Connection<FrameIo, Bytes>, mux: Rc<Mux>, watch: Rc<Watch>) -> Self {
        Self {
            pings: connection.ping_pong(),
            connection,
            mux,
            watch,
            ping_sent: None,
            alarm: Alarm::default(),
        }
    }

    /// Takes no more requests once the endpoint takes none.
    fn notice_goodbye(&self, cx: &mut Context<'_>) {
        let gone = {
            let mut send = self.mux.send.borrow_mut();
            send.as_mut()
                .is_some_and(|send| matches!(send.poll_ready(cx), Poll::Ready(Err(_))))
        };
        if gone {
            self.mux.leave();
        }
    }

    /// The deadline that comes first.
    fn next_deadline(&self) -> Option<Instant> {
        if self.mux.streams() == 0 && !self.mux.is_open() {
            return Some(self.mux.idle_since.get() + FAREWELL);
        }
        let bounds = &self.mux.dial.http2;
        match self.ping_sent {
            Some(sent) => Some(sent + bounds.ping_timeout),
            None if bounds.ping.is_zero() || self.mux.streams() == 0 => None,
            None => Some(self.watch.last_read() + bounds.ping),
        }
    }

    /// Whether the endpoint is given up.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let (Some(pings), Some(_)) = (&mut self.pings, self.ping_sent)
            && pings.poll_pong(cx).is_ready()
        {
            self.ping_sent = None;
        }
        loop {
            match self.next_deadline() {
                Some(by) if self.alarm.passed(cx, by) => {}
                _ => return false,
            }
            let leaves = self.mux.streams() == 0 && !self.mux.is_open();
            let Some(pings) = (!leaves && self.ping_sent.is_none())
                .then_some(self.pings.as_mut())
                .flatten()
            else {
                return true;
            };
            // Fails where the connection is gone, and then it is not answered.
            let _sent = pings.send_ping(Ping::opaque());
            self.ping_sent = Some(Instant::now());
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        *this.mux.waker.borrow_mut() = Some(cx.waker().clone());
        let polled = Pin::new(&mut this.connection).poll(cx);
        let ended = match polled {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, target = ?this.mux.target, "an HTTP/2 connection to an endpoint failed");
                true
            }
            Poll::Pending => {
                this.notice_goodbye(cx);
                this.is_over(cx)
            }
        };
        if !ended {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.mux.closed.set(true);
        self.mux.leave();
    }
}
