//! The bounded queue in front of the writer thread. There is no lock in it: std's channels take one to wake the
//! receiver, which then runs into it, and a worker into the receiver.

use super::file::LogFile;
use crate::telemetry::metrics::AccessLogSeries;
use crossbeam_queue::ArrayQueue;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

/// Batches that may wait for the disk, over all workers: with full buffers 4 MiB.
pub const QUEUED_BATCHES: usize = 64;

/// Emptied buffers of one worker, on their way back to it.
pub(super) type Buffers = Arc<ArrayQueue<Vec<u8>>>;

/// Records of one file on their way to it. Dropped with records in it, it counts them as lost.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) file: Arc<LogFile>,
    pub(super) lines: Vec<u8>,
    pub(super) records: u64,
    /// Where the buffer goes back to.
    pub(super) home: Buffers,
    pub(super) stats: Arc<AccessLogSeries>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.records > 0 {
            self.stats.records_dropped.add(self.records);
        }
    }
}

/// What the workers, the writer thread and those who steer it share.
#[derive(Debug)]
pub(super) struct Queue {
    batches: ArrayQueue<Batch>,
    writer: OnceLock<Thread>,
    reopen: AtomicBool,
    stop: AtomicBool,
    closed: AtomicBool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            batches: ArrayQueue::new(QUEUED_BATCHES),
            writer: OnceLock::new(),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Tells whom to wake.
    pub(super) fn written_by(&self, writer: Thread) {
        let _once = self.writer.set(writer);
    }

    /// Takes the batch, or gives it back when it is full or nobody writes any more. Never waits.
    pub(super) fn push(&self, batch: Batch) -> Result<(), Batch> {
        if self.closed.load(SeqCst) {
            return Err(batch);
        }
        self.batches.push(batch)?;
        self.wake();
        Ok(())
    }

    pub(super) fn pop(&self) -> Option<Batch> {
        self.batches.pop()
    }

    /// Has the writer open all files anew before the next batch.
    pub(super) fn ask_to_reopen(&self) {
        self.reopen.store(true, SeqCst);
        self.wake();
    }

    /// Whether that was asked for since the last call.
    pub(super) fn reopening(&self) -> bool {
        self.reopen.swap(false, SeqCst)
    }

    /// Has the writer end once the queue is empty.
    pub(super) fn ask_to_stop(&self) {
        self.stop.store(true, SeqCst);
        self.wake();
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(SeqCst)
    }

    /// From here on nothing is taken: the workers count what they lose.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    /// A waking is not lost when the writer is about to sleep: it then does not.
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}
