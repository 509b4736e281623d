//! The one thread that writes access logs.

use super::file::LogFile;
use super::queue::{Batch, Queue};
use super::sink::AccessSink;
use crate::telemetry::metrics::AccessLogSeries;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Starts and steers the writer thread. One per process; the thread ends with it.
#[derive(Debug)]
pub struct AccessWriter {
    queue: Arc<Queue>,
    files: Files,
    stats: Arc<AccessLogSeries>,
    /// Tells by hanging up that the thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// Files by path, as long as somebody logs to them.
type Files = Arc<Mutex<Vec<Weak<LogFile>>>>;

impl AccessWriter {
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(stats: Arc<AccessLogSeries>) -> io::Result<Arc<Self>> {
        let (alive, ended) = sync_channel(1);
        let writer = Arc::new(Self {
            queue: Arc::new(Queue::new()),
            files: Files::default(),
            stats: Arc::clone(&stats),
            ended: Mutex::new(ended),
        });
        let thread = Thread {
            queue: Arc::clone(&writer.queue),
            files: Arc::clone(&writer.files),
            stats,
            _alive: alive,
        };
        let handle = thread::Builder::new()
            .name("tidegate-access".into())
            .spawn(move || thread.run())?;
        writer.queue.written_by(handle.thread().clone());
        Ok(writer)
    }

    /// The file at this path, the same for all who ask; `-` is standard output. Opened by
    /// [`LogFile::prepare`] or with its first record, closed when nobody holds it any more.
    #[must_use]
    pub fn file(&self, path: &Path) -> Arc<LogFile> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.iter().filter_map(Weak::upgrade).find(|f| f.path() == path);
        known.unwrap_or_else(|| {
            let file = Arc::new(LogFile::new(path.to_owned()));
            files.retain(|f| f.strong_count() > 0);
            files.push(Arc::downgrade(&file));
            file
        })
    }

    /// The buffers of one worker.
    #[must_use]
    pub fn sink(&self) -> AccessSink {
        AccessSink::new(Arc::clone(&self.queue), Arc::clone(&self.stats))
    }

    /// Has all files opened anew soon, after log rotation moved them.
    pub fn reopen(&self) {
        self.queue.ask_to_reopen();
    }

    /// Writes what is queued and ends the thread; to be called when the workers have flushed. Whether it was
    /// done within `deadline`: a disk that hangs is not waited for longer.
    #[must_use]
    pub fn finish(&self, deadline: Duration) -> bool {
        self.queue.ask_to_stop();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ended.recv_timeout(deadline), Err(RecvTimeoutError::Disconnected))
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.queue.ask_to_stop();
    }
}

struct Thread {
    queue: Arc<Queue>,
    files: Files,
    stats: Arc<AccessLogSeries>,
    _alive: SyncSender<()>,
}

impl Thread {
    fn run(self) {
        loop {
            self.reopen_if_asked();
            match self.queue.pop() {
                Some(batch) => self.write(batch),
                None if self.queue.stopping() => break,
                None => thread::park(),
            }
        }
        self.queue.close();
        while let Some(batch) = self.queue.pop() {
            self.write(batch);
        }
    }

    fn write(&self, mut batch: Batch) {
        let records = std::mem::take(&mut batch.records);
        batch.file.append(&batch.lines, records, &self.stats);
        let mut buffer = std::mem::take(&mut batch.lines);
        buffer.clear();
        let _enough_are_spare = batch.home.push(buffer);
    }

    fn reopen_if_asked(&self) {
        if self.queue.reopening() {
            let files: Vec<_> = {
                let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
                files.iter().filter_map(Weak::upgrade).collect()
            };
            for file in files {
                file.reopen(&self.stats);
            }
        }
    }
}
