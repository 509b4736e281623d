//! The application log: lines on stderr, as text or JSON, with level and form that a reload can change.
//!
//! A thread of its own writes them, so that a stuck reader of stderr stalls no worker: its queue is bounded,
//! and what does not fit is dropped and counted. `RUST_LOG` is not read; the configuration decides.
//!
//! Whatever comes from a client is logged with `?` (debug), which quotes control characters.

mod json;

use self::json::JsonLine;
use super::metrics::SharedCounter;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, reload};

/// Lines that may wait for stderr.
const QUEUED_LINES: usize = 1024;

/// Longest wait for stderr when the process ends.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// Counts of the application log. Of the process, like the log itself.
#[derive(Debug)]
pub struct LogCounts {
    /// Lines left out by an [`Every`].
    pub suppressed: SharedCounter,
    /// Lines dropped because stderr took none.
    pub dropped: SharedCounter,
}

/// The one set of [`LogCounts`].
pub static COUNTS: LogCounts = LogCounts {
    suppressed: SharedCounter::new(),
    dropped: SharedCounter::new(),
};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Text,
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("the log's thread could not be started: {0}")]
    Thread(#[from] io::Error),
    #[error("a log is already set up in this process")]
    AlreadySet(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Changes the log at run time. Dropping it waits a moment for the last lines.
#[derive(Debug)]
pub struct LogControl {
    level: reload::Handle<LevelFilter, Registry>,
    json: Arc<AtomicBool>,
    queue: LineQueue,
}

/// Sets up the log of the process.
///
/// # Errors
/// When it is set up already, or no thread can be started.
pub fn init(level: LevelFilter, style: Style) -> Result<LogControl, LogError> {
    let queue = LineQueue::start(io::stderr())?;
    let json = Arc::new(AtomicBool::new(style == Style::Json));
    let (level, level_handle) = reload::Layer::new(level);
    let colours = io::stderr().is_terminal();
    let subscriber = Registry::default()
        .with(level)
        .with(text_layer(&queue, colours).with_filter(when(&json, false)))
        .with(json_layer(&queue).with_filter(when(&json, true)));
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(LogControl {
        level: level_handle,
        json,
        queue,
    })
}

fn text_layer<S>(queue: &LineQueue, colours: bool) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_target(false)
        .with_writer(queue.clone())
}

fn json_layer<S>(queue: &LineQueue) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .event_format(JsonLine)
        .with_writer(queue.clone())
}

/// Lets events through while `json` is `wanted`. Asked for each event: the answer may change.
fn when<S>(json: &Arc<AtomicBool>, wanted: bool) -> impl tracing_subscriber::layer::Filter<S> + use<S> {
    let json = Arc::clone(json);
    tracing_subscriber::filter::dynamic_filter_fn(move |event, _| {
        json.load(Relaxed) == wanted && !is_a_clients_doing(event)
    })
}

/// The engine of HTTP/2 warns of frames that clients should not send, each time and without saying whose they are: any
/// client could fill the log. We count what it does and say so ourselves; at `debug` the engine tells of each frame.
fn is_a_clients_doing(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::WARN && event.target().starts_with("h2::")
}

impl LogControl {
    /// Changes level and form for the lines to come.
    pub fn set(&self, level: LevelFilter, style: Style) {
        self.json.store(style == Style::Json, Relaxed);
        if let Err(error) = self.level.reload(level) {
            tracing::error!(%error, "the log level could not be changed");
        }
    }

    /// Waits until the lines so far are written, or for `deadline`. Whether they were.
    pub fn flush(&self, deadline: Duration) -> bool {
        self.queue.flush(deadline)
    }
}

impl Drop for LogControl {
    fn drop(&mut self) {
        self.queue.flush(LAST_FLUSH);
    }
}

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Carries finished lines to the thread that writes them.
#[derive(Clone, Debug)]
struct LineQueue {
    sender: SyncSender<Message>,
}

impl LineQueue {
    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUED_LINES);
        thread::Builder::new()
            .name("tidegate-log".into())
            .spawn(move || write_lines(&receiver, out))?;
        Ok(Self { sender })
    }

    fn flush(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            match self.sender.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < end => message = back,
                Err(_) => return false,
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        written
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .is_ok()
    }
}

/// A line that cannot be written is lost: there is nobody left to tell.
fn write_lines(receiver: &Receiver<Message>, mut out: impl Write) {
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Line(line) => {
                let _lost = out.write_all(&line);
            }
            Message::Flush(done) => {
                let _nobody_waits = out
                    .flush()
                    .and_then(|()| done.try_send(()).map_err(io::Error::other));
            }
        }
    }
}

/// One line in the making; sent when dropped.
struct Line<'a> {
    text: Vec<u8>,
    queue: &'a LineQueue,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.text);
        if !line.is_empty() && self.queue.sender.try_send(Message::Line(line)).is_err() {
            COUNTS.dropped.inc();
        }
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            text: Vec::new(),
            queue: self,
        }
    }
}

/// Lets one of many similar lines through per interval and counts the others.
///
/// ```ignore
/// static NO_DESCRIPTORS: Every = Every::new(Duration::from_secs(10));
/// if let Some(others) = NO_DESCRIPTORS.pass() {
///     tracing::warn!("out of file descriptors{others}");
/// }
/// ```
#[derive(Debug)]
pub struct Every {
    interval: Duration,
    /// Milliseconds since [`origin`] of the last line, plus one; 0 before the first.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl Every {
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether a line may be written now, and how many were not since the last one.
    pub fn pass(&self) -> Option<Suppressed> {
        self.pass_at(origin().elapsed())
    }

    fn pass_at(&self, now: Duration) -> Option<Suppressed> {
        let now = millis(now).saturating_add(1);
        let last = self.last.load(Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= millis(self.interval);
        if due && self.last.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            return Some(Suppressed(self.suppressed.swap(0, Relaxed)));
        }
        self.suppressed.fetch_add(1, Relaxed);
        COUNTS.suppressed.inc();
        None
    }
}

/// The moment from which [`Every`] counts.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How many lines were left out; displays as ` (3 similar suppressed)`, or as nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppressed(pub u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} similar suppressed)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A stderr that can be read, and stuck.
    #[derive(Clone, Default)]
    struct Terminal {
        text: Arc<Mutex<Vec<u8>>>,
        stuck: Arc<AtomicBool>,
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            while self.stuck.load(Relaxed) {
                thread::park_timeout(Duration::from_millis(1));
            }
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Terminal {
        fn text(&self) -> String {
            String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn level_and_form_change_while_it_runs() {
        let terminal = Terminal::default();
        let queue = LineQueue::start(terminal.clone()).unwrap();
        let json = Arc::new(AtomicBool::new(false));
        let (level, handle) = reload::Layer::new(LevelFilter::INFO);
        let subscriber = Registry::default()
            .with(level)
            .with(text_layer(&queue, false).with_filter(when(&json, false)))
            .with(json_layer(&queue).with_filter(when(&json, true)));
        let control = LogControl {
            level: handle,
            json,
            queue,
        };
        tracing::subscriber::with_default(subscriber, || {
            let say = |n: u32| {
                tracing::debug!(n, "quiet");
                let data = tracing::field::display("{\"n\":1}");
                tracing::warn!(n, client = ?"a\nb", data, "loud");
            };
            say(1);
            control.set(LevelFilter::DEBUG, Style::Json);
            say(2);
            control.set(LevelFilter::ERROR, Style::Text);
            say(3);
        });
        assert!(control.flush(PATIENCE));
        let text = terminal.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0].ends_with(r#" WARN loud n=1 client="a\nb" data={"n":1}"#),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
        assert_eq!(
            (&json["level"], &json["message"]),
            (&"WARN".into(), &"loud".into())
        );
        assert_eq!((&json["n"], &json["client"]), (&2.into(), &"\"a\\nb\"".into()));
        assert_eq!(json["data"]["n"], 1, "an object, and no text");
        assert!(json["timestamp"].as_str().unwrap().ends_with('Z') && !json["target"].is_null());
        assert!(lines[1].contains("quiet"));
    }

    #[test]
    fn a_stuck_terminal_stalls_nobody() {
        let terminal = Terminal::default();
        terminal.stuck.store(true, Relaxed);
        let queue = LineQueue::start(terminal.clone()).unwrap();
        let before = COUNTS.dropped.get();
        for _ in 0..QUEUED_LINES * 2 {
            queue.make_writer().write_all(b"line\n").unwrap();
        }
        let dropped = COUNTS.dropped.get() - before;
        assert!(dropped >= QUEUED_LINES as u64 - 1);
        assert!(!queue.flush(Duration::from_millis(20)));
        terminal.stuck.store(false, Relaxed);
        assert!(queue.flush(PATIENCE));
        let written = terminal.text().lines().count();
        assert_eq!(written as u64 + dropped, QUEUED_LINES as u64 * 2);
    }

    #[test]
    fn one_line_passes_per_interval_and_names_the_others() {
        let every = Every::new(Duration::from_secs(10));
        let at = |s| every.pass_at(Duration::from_secs(s));
        assert_eq!(at(0), Some(Suppressed(0)));
        assert_eq!(at(1), None);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(Suppressed(2)));
        assert_eq!(at(25), Some(Suppressed(0)));
        assert_eq!(Suppressed(2).to_string(), " (2 similar suppressed)");
        assert_eq!(Suppressed(0).to_string(), "");
    }
}
