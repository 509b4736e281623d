//! A worker's buffers: records gather here and leave in batches, so that the queue is touched once per some
//! hundred requests.

use super::file::LogFile;
use super::queue::{Batch, Buffers, Queue};
use crate::telemetry::metrics::AccessLogSeries;
use crossbeam_queue::ArrayQueue;
use std::cell::RefCell;
use std::sync::Arc;

/// A buffer leaves when it holds so much.
pub const FLUSH_BYTES: usize = 32 * 1024;

/// A buffer that the queue does not take is dropped when it holds so much.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that come back from the writer and are kept.
const SPARE_BUFFERS: usize = 4;

#[derive(Debug)]
struct Buffer {
    file: Arc<LogFile>,
    lines: Vec<u8>,
    records: u64,
}

/// The access-log buffers of one worker, one per file. Flushed by [`AccessSink::flush`], which the worker calls
/// on its tick, when they are full, and when dropped.
#[derive(Debug)]
pub struct AccessSink {
    buffers: RefCell<Vec<Buffer>>,
    queue: Arc<Queue>,
    stats: Arc<AccessLogSeries>,
    spare: Buffers,
}

impl AccessSink {
    pub(super) fn new(queue: Arc<Queue>, stats: Arc<AccessLogSeries>) -> Self {
        Self {
            buffers: RefCell::default(),
            queue,
            stats,
            spare: Arc::new(ArrayQueue::new(SPARE_BUFFERS)),
        }
    }

    /// Adds one record to `file`'s buffer: `write` appends one line, line feed included. Never waits. `write`
    /// must not come back to the sink.
    pub fn record(&self, file: &Arc<LogFile>, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffers = self.buffers.borrow_mut();
        let at = match buffers.iter().position(|b| Arc::ptr_eq(&b.file, file)) {
            Some(at) => at,
            None => {
                buffers.push(Buffer {
                    file: Arc::clone(file),
                    lines: self.fresh(),
                    records: 0,
                });
                buffers.len() - 1
            }
        };
        let buffer = &mut buffers[at];
        write(&mut buffer.lines);
        buffer.records += 1;
        if buffer.lines.len() >= FLUSH_BYTES {
            self.send(buffer);
        }
    }

    /// Sends what is there on its way, and lets go of files that had nothing since the last call.
    pub fn flush(&self) {
        self.buffers.borrow_mut().retain_mut(|buffer| {
            let used = buffer.records > 0;
            if used {
                self.send(buffer);
            }
            used
        });
    }

    fn send(&self, buffer: &mut Buffer) {
        let batch = Batch {
            file: Arc::clone(&buffer.file),
            lines: std::mem::take(&mut buffer.lines),
            records: std::mem::take(&mut buffer.records),
            home: Arc::clone(&self.spare),
            stats: Arc::clone(&self.stats),
        };
        let Err(mut batch) = self.queue.push(batch) else {
            buffer.lines = self.fresh();
            return;
        };
        let mut lines = std::mem::take(&mut batch.lines);
        if lines.len() < BUFFER_BYTES {
            // There is room for more, and later perhaps in the queue.
            buffer.records = std::mem::take(&mut batch.records);
        } else {
            lines.clear();
            lines = reusable(lines);
        }
        buffer.lines = lines;
    }

    fn fresh(&self) -> Vec<u8> {
        self.spare.pop().map(reusable).unwrap_or_default()
    }
}

/// The buffer, unless one monstrous line made it grow.
fn reusable(buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > 2 * BUFFER_BYTES {
        return Vec::new();
    }
    buffer
}

impl Drop for AccessSink {
    fn drop(&mut self) {
        self.flush();
        // What the queue did not take is lost with the buffers.
        let left: u64 = self.buffers.get_mut().iter().map(|b| b.records).sum();
        self.stats.records_dropped.add(left);
    }
}
