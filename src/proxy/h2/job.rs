//! A request of an HTTP/2 connection, from its head to the end of its stream.

use super::io::Watch;
use crate::message::head::RequestHead;
use crate::proxy::client::{Client, Link, Who};
use crate::proxy::connection::in_a_box;
use crate::proxy::error::ProxyError;
use crate::proxy::service::{self, After, Begun};
use crate::proxy::tunnel;
use crate::proxy::worker::{Entry, RegisteredStream};
use crate::telemetry::metrics::ListenerSeries;
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that ran for so long was not asked for in order to be taken back.
const IN_EARNEST: Duration = Duration::from_secs(1);

/// What the tasks of a connection and of its streams share.
#[derive(Debug)]
pub(super) struct Shared {
    pub entry: Rc<Entry>,
    pub who: Rc<Who>,
    pub watch: Rc<Watch>,
    pub running: Cell<u32>,
    /// Streams cut because the client took nothing of them, less those that ended otherwise.
    pub stalled: Cell<u32>,
    /// Since when none runs.
    pub idle_since: Cell<Instant>,
}

/// Counts a running stream, until dropped.
#[derive(Debug)]
pub(super) struct Running {
    shared: Rc<Shared>,
    series: Arc<ListenerSeries>,
    since: Instant,
}

impl Running {
    pub fn new(shared: &Rc<Shared>, series: &Arc<ListenerSeries>, since: Instant) -> Self {
        shared.running.set(shared.running.get() + 1);
        series.h2_streams.inc();
        series.h2_streams_open.inc();
        Self {
            shared: shared.clone(),
            series: series.clone(),
            since,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.since.elapsed() >= IN_EARNEST {
            self.shared.watch.excuse_reset();
        }
        self.series.h2_streams_open.dec();
        let left = self.shared.running.get() - 1;
        self.shared.running.set(left);
        if left == 0 {
            self.shared.idle_since.set(Instant::now());
            // It has to know when to stop waiting for another.
            self.shared.entry.wake();
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(in crate::proxy) struct Job {
    pub(super) entry: Rc<Entry>,
    pub(super) registered: RegisteredStream,
    pub(super) running: Running,
    pub(super) client: Client,
    pub(super) begun: Begun,
    pub(super) head: Result<RequestHead, ProxyError>,
}

/// Serves it. A block, because a function would hold what it is given twice.
#[allow(clippy::manual_async_fn)]
pub(in crate::proxy) fn run(mut job: Job) -> impl Future<Output = ()> {
    async move {
        job.entry.served_here().await;
        let after = match job.head {
            // Boxed, so that a tunnel does not hold the room of the request that began it.
            Ok(head) => in_a_box(|| service::serve(&mut job.client, job.begun, head)).await,
            Err(error) => Box::pin(service::refuse(&mut job.client, job.begun, error)).await,
        };
        if let After::Tunnel(tunnel) = after {
            let held = (job.running, job.registered);
            Box::pin(tunnel::run(tunnel, Box::new(job.client), job.entry, held)).await;
        } else {
            drop(job.entry);
            note_end(&job.running, &job.client);
            drop(job.client);
            drop(job.running);
            drop(job.registered);
        }
    }
}

/// Notes whether the client took what it was sent on a stream.
fn note_end(running: &Running, client: &Client) {
    let stalled = &running.shared.stalled;
    match &client.link {
        Link::H2(stream) if stream.is_stalled() => {
            stalled.set(stalled.get() + 1);
            running.shared.entry.wake();
        }
        _ => stalled.set(stalled.get().saturating_sub(1)),
    }
}
