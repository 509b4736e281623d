//! The one thread that writes access logs, and the bounded queue in front of it.

use super::file::LogFile;
use super::sink::AccessSink;
use crate::telemetry::metrics::AccessLogSeries;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Batches that may wait for the disk, over all workers: with full buffers 4 MiB.
pub const QUEUED_BATCHES: usize = 64;

/// Records of one file on their way to it. Dropped with records in it, it counts them as lost.
pub(super) struct Batch {
    pub(super) file: Arc<LogFile>,
    pub(super) lines: Vec<u8>,
    pub(super) records: u64,
    /// Where the buffer goes back to.
    pub(super) home: SyncSender<Vec<u8>>,
    pub(super) stats: Arc<AccessLogSeries>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.records > 0 {
            self.stats.records_dropped.add(self.records);
        }
    }
}

pub(super) enum Message {
    Batch(Batch),
    /// Look at the flags.
    Wake,
    Stop,
}

/// Starts and steers the writer thread. One per process.
#[derive(Debug)]
pub struct AccessWriter {
    queue: SyncSender<Message>,
    files: Files,
    reopen: Arc<AtomicBool>,
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
        let (queue, receiver) = sync_channel(QUEUED_BATCHES);
        let (alive, ended) = sync_channel(1);
        let writer = Arc::new(Self {
            queue,
            files: Files::default(),
            reopen: Arc::default(),
            stats: Arc::clone(&stats),
            ended: Mutex::new(ended),
        });
        let thread = Thread {
            files: Arc::clone(&writer.files),
            reopen: Arc::clone(&writer.reopen),
            stats,
            _alive: alive,
        };
        thread::Builder::new()
            .name("tidegate-access".into())
            .spawn(move || thread.run(receiver))?;
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
        AccessSink::new(self.queue.clone(), Arc::clone(&self.stats))
    }

    /// Has all files opened anew soon, after log rotation moved them.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        // A full queue needs no waking.
        let _full = self.queue.try_send(Message::Wake);
    }

    /// Writes what is queued and ends the thread; to be called when the workers have flushed. Whether it was
    /// done within `deadline`: a disk that hangs is not waited for longer.
    #[must_use]
    pub fn finish(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Stop) {
            if Instant::now() >= end {
                return false;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let left = end.saturating_duration_since(Instant::now());
        matches!(
            ended.recv_timeout(left),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
        )
    }
}

struct Thread {
    files: Files,
    reopen: Arc<AtomicBool>,
    stats: Arc<AccessLogSeries>,
    _alive: SyncSender<()>,
}

impl Thread {
    fn run(self, queue: Receiver<Message>) {
        while let Ok(message) = queue.recv() {
            self.reopen_if_asked();
            match message {
                Message::Batch(batch) => self.write(batch),
                Message::Wake => {}
                Message::Stop => break,
            }
        }
        for message in queue.try_iter() {
            if let Message::Batch(batch) = message {
                self.write(batch);
            }
        }
        // Before the end is told: from here on the workers count what they lose.
        drop(queue);
    }

    fn write(&self, mut batch: Batch) {
        let records = std::mem::take(&mut batch.records);
        batch.file.append(&batch.lines, records, &self.stats);
        let mut buffer = std::mem::take(&mut batch.lines);
        buffer.clear();
        let _worker_is_gone = batch.home.try_send(buffer);
    }

    fn reopen_if_asked(&self) {
        if self.reopen.swap(false, Relaxed) {
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
