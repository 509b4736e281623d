//! One access-log file, as the writer thread sees it.

use super::append::Tail;
use crate::telemetry::log::Every;
use crate::telemetry::metrics::AccessLogSeries;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Permission bits of a new log file: clients' addresses are nobody else's business.
const MODE: u32 = 0o640;

/// Trouble with a file is told this often.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// Longest wait for the reader of a named pipe.
const PIPE_PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Where records go: a file, or standard output for `-`. Shared by path.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// Open since it was first needed. Held only to take or replace the file, never while writing: the control
    /// side must not wait for a disk.
    open: Mutex<Option<Arc<Out>>>,
    /// Used by the writer thread alone.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tail: Tail,
    /// Records lost since the file was last sound.
    lost: u64,
    complaints: Every,
}

/// A file that is written without waiting for long.
#[derive(Debug)]
struct Out(File);

impl Out {
    fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self(io::stdout().as_fd().try_clone_to_owned()?.into()));
        }
        // Not to wait for the reader of a named pipe; means nothing for a file.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(MODE)
            .custom_flags(nonblocking);
        options.open(path).map(Self)
    }
}

impl Write for &Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = &self.0;
        match file.write(bytes) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&PIPE_PATIENCE))?;
                file.write(bytes)
            }
            done => done,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: Mutex::default(),
            state: Mutex::new(State {
                tail: Tail::default(),
                lost: 0,
                complaints: Every::new(COMPLAINTS),
            }),
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file now, so that a wrong path is found before it is needed. Creates it with mode 0640.
    ///
    /// # Errors
    /// Of the system: no such directory, no permission, or a named pipe that nobody reads.
    pub fn prepare(&self) -> io::Result<()> {
        self.opened().map(drop)
    }

    fn opened(&self) -> io::Result<Arc<Out>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(out) = &*open {
            return Ok(Arc::clone(out));
        }
        let out = Arc::new(Out::open(&self.path)?);
        *open = Some(Arc::clone(&out));
        Ok(out)
    }

    fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Appends a batch of `records` lines. Counts what became of it; says so in the log, not too often.
    pub(super) fn append(&self, lines: &[u8], records: u64, stats: &AccessLogSeries) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let out = match self.opened() {
            Ok(out) => out,
            Err(error) => {
                stats.records_failed.add(records);
                return state.complain(&self.path, &error, records, stats);
            }
        };
        let appended = state.tail.append(&mut &*out, lines);
        stats.bytes_written.add(appended.bytes);
        stats.records_written.add(appended.written);
        stats.records_failed.add(appended.failed);
        match appended.error {
            None => state.recovered(&self.path),
            Some(error) => {
                if error.kind() == ErrorKind::BrokenPipe {
                    // The reader of a named pipe left. Closed, the pipe forgets what it holds, and the next
                    // reader starts with a fresh line.
                    stats.records_failed.add(state.tail.abandon());
                    self.close();
                }
                state.complain(&self.path, &error, appended.failed, stats);
            }
        }
    }

    /// Opens the path anew, after it was moved away. Where that fails, the old file stays in use.
    pub(super) fn reopen(&self, stats: &AccessLogSeries) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match Out::open(&self.path) {
            Err(error) => {
                stats.errors.inc();
                tracing::error!(path = ?self.path, %error, "the access log could not be reopened; writing to the old file");
            }
            Ok(new) => {
                let old = self
                    .open
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .replace(Arc::new(new));
                // A last try to leave the old file with whole lines.
                if let (Some(old), true) = (old, state.tail.is_open()) {
                    stats
                        .records_written
                        .add(state.tail.append(&mut &*old, b"").written);
                }
                stats.records_failed.add(state.tail.abandon());
                stats.reopens.inc();
            }
        }
    }
}

impl State {
    fn complain(&mut self, path: &Path, error: &io::Error, lost: u64, stats: &AccessLogSeries) {
        stats.errors.inc();
        self.lost += lost;
        if let Some(others) = self.complaints.pass() {
            tracing::error!(?path, %error, lost = self.lost, "the access log cannot be written{others}");
        }
    }

    fn recovered(&mut self, path: &Path) {
        if self.lost > 0 {
            tracing::warn!(
                ?path,
                lost = self.lost,
                "the access log is written again; records were lost"
            );
            self.lost = 0;
        }
    }
}
