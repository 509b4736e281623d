//! The way of an access record from a worker to its file.
//!
//! The worker formats it into a buffer of its own ([`AccessSink`]); full buffers go through a bounded queue to
//! the one writer thread ([`AccessWriter`]). When disk or reader cannot follow, records are dropped and
//! counted; the worker never waits.

mod append;
mod file;
mod queue;
mod sampler;
mod sink;
mod writer;

pub use file::LogFile;
pub use queue::QUEUED_BATCHES;
pub use sampler::Sampler;
pub use sink::{AccessSink, BUFFER_BYTES, FLUSH_BYTES};
pub use writer::AccessWriter;

use super::access::AccessRecord;
use super::access_format::Format;
use std::sync::Arc;

/// A listener's access log, compiled: what is written, of which records, where to.
#[derive(Clone, Debug)]
pub struct AccessLog {
    pub format: Format,
    pub sampler: Sampler,
    pub file: Arc<LogFile>,
}

impl AccessLog {
    /// Writes the record through the worker's sink, if it is sampled.
    pub fn write(&self, sink: &AccessSink, record: &AccessRecord<'_>) {
        if self.sampler.keeps(record.status, record.token) {
            sink.record(&self.file, |lines| self.format.write(record, lines));
        }
    }
}

#[cfg(test)]
mod tests;
