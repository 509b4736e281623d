//! Sinks, queue and writer thread together, on real files.

use super::*;
use crate::telemetry::metrics::AccessLogSeries;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    dir: tempfile::TempDir,
    stats: Arc<AccessLogSeries>,
    writer: Arc<AccessWriter>,
}

impl Bench {
    fn new() -> Self {
        let stats = Arc::new(AccessLogSeries::default());
        Self {
            dir: tempfile::tempdir().unwrap(),
            writer: AccessWriter::start(Arc::clone(&stats)).unwrap(),
            stats,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        path
    }
}

fn say(sink: &AccessSink, file: &Arc<LogFile>, line: &str) {
    sink.record(file, |out| out.extend_from_slice(format!("{line}\n").as_bytes()));
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::yield_now();
    }
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn records_of_all_workers_reach_their_files_whole() {
    let bench = Bench::new();
    let (a, b) = (bench.path("a.log"), bench.path("b.log"));
    let lines = 5_000;
    thread::scope(|scope| {
        for worker in 0..3 {
            let (bench, a, b) = (&bench, &a, &b);
            scope.spawn(move || {
                let sink = bench.writer.sink();
                let files = [bench.writer.file(a), bench.writer.file(b)];
                for i in 0..lines {
                    say(
                        &sink,
                        &files[i % 2],
                        &format!("{worker} {i} {}", "x".repeat(i % 90)),
                    );
                    if i % 1_000 == 0 {
                        // The disk may be slower than this loop.
                        sink.flush();
                        eventually("room", || bench.stats.records_written.get() + 4_000 > i as u64);
                    }
                }
            });
        }
    });
    assert!(bench.writer.finish(PATIENCE));
    let all = content(&a) + &content(&b);
    let written = bench.stats.records_written.get();
    assert_eq!(all.lines().count() as u64, written);
    assert_eq!(written + bench.stats.records_dropped.get(), 3 * lines as u64);
    assert_eq!(bench.stats.bytes_written.get(), all.len() as u64);
    assert!(all.lines().all(|l| l.ends_with('x') || l.ends_with(' ')));
}

#[test]
fn a_flush_brings_a_single_record_to_disk() {
    let bench = Bench::new();
    let path = bench.path("access.log");
    let sink = bench.writer.sink();
    say(&sink, &bench.writer.file(&path), "one");
    assert_eq!(content(&path), "");
    sink.flush();
    eventually("the record", || content(&path) == "one\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
}

#[test]
fn the_same_path_is_the_same_file_as_long_as_it_is_held() {
    let bench = Bench::new();
    let path = bench.path("access.log");
    let file = bench.writer.file(&path);
    assert!(Arc::ptr_eq(&file, &bench.writer.file(&path)));
    assert!(!Arc::ptr_eq(&file, &bench.writer.file(&bench.path("other.log"))));
}

#[test]
fn a_moved_file_is_reopened_and_nothing_is_lost() {
    let bench = Bench::new();
    let (path, moved) = (bench.path("access.log"), bench.path("access.log.1"));
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&path));
    say(&sink, &file, "before");
    sink.flush();
    eventually("the first record", || content(&path) == "before\n");
    fs::rename(&path, &moved).unwrap();
    bench.writer.reopen();
    eventually("the new file", || path.exists());
    say(&sink, &file, "after");
    sink.flush();
    assert!(bench.writer.finish(PATIENCE));
    assert_eq!(
        (content(&moved), content(&path)),
        ("before\n".into(), "after\n".into())
    );
    assert_eq!(bench.stats.reopens.get(), 1);
}

#[test]
fn a_failed_reopen_keeps_the_old_file() {
    let bench = Bench::new();
    let path = bench.path("access.log");
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&path));
    file.prepare().unwrap();
    let moved = bench.path("access.log.1");
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    bench.writer.reopen();
    eventually("the failure", || bench.stats.errors.get() == 1);
    say(&sink, &file, "kept");
    drop(sink);
    assert!(bench.writer.finish(PATIENCE));
    assert_eq!(content(&moved), "kept\n");
}

#[test]
fn a_wrong_path_is_found_by_preparing() {
    let bench = Bench::new();
    assert!(
        bench
            .writer
            .file(&bench.path("none/access.log"))
            .prepare()
            .is_err()
    );
    assert!(bench.writer.file(bench.dir.path()).prepare().is_err());
}

#[test]
fn a_full_disk_costs_records_but_never_the_writer() {
    let bench = Bench::new();
    let path = bench.path("access.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&path));
    for _ in 0..3 {
        say(&sink, &file, "lost");
    }
    sink.flush();
    eventually("the failure", || bench.stats.records_failed.get() == 3);
    assert_eq!(bench.stats.errors.get(), 1);
    // Room again: the operator gives the log another place.
    let roomy = bench.path("roomy.log");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&roomy, &path).unwrap();
    bench.writer.reopen();
    say(&sink, &file, "kept");
    drop(sink);
    assert!(bench.writer.finish(PATIENCE));
    assert_eq!(content(&roomy), "kept\n");
    assert_eq!(bench.stats.records_written.get(), 1);
}

#[test]
fn a_missing_directory_that_appears_is_written_to() {
    let bench = Bench::new();
    let path = bench.path("logs/access.log");
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&path));
    say(&sink, &file, "lost");
    sink.flush();
    eventually("the failure", || bench.stats.records_failed.get() == 1);
    fs::create_dir(bench.path("logs")).unwrap();
    say(&sink, &file, "kept");
    drop(sink);
    assert!(bench.writer.finish(PATIENCE));
    assert_eq!(content(&path), "kept\n");
}

fn silent_reader(path: &Path) -> fs::File {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .unwrap()
        .into()
}

#[test]
fn a_pipe_that_nobody_reads_stalls_neither_worker_nor_end() {
    let bench = Bench::new();
    let path = bench.fifo("access.pipe");
    // A reader that holds the pipe open and never reads: the kernel takes 64 KiB, then nothing.
    let reader = silent_reader(&path);
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&path));
    let line = "x".repeat(1_023);
    let records = 3 * (QUEUED_BATCHES * FLUSH_BYTES / 1_024) as u64;
    for _ in 0..records {
        say(&sink, &file, &line);
    }
    drop(sink);
    let stats = &bench.stats;
    assert!(stats.records_dropped.get() > 0, "nothing was dropped");
    assert!(
        !bench.writer.finish(Duration::from_millis(50)),
        "the pipe took everything"
    );
    drop(reader);
}

#[test]
fn a_pipe_gets_whole_lines_from_its_next_reader_on() {
    let bench = Bench::new();
    let path = bench.fifo("access.pipe");
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&path));
    say(&sink, &file, "lost");
    sink.flush();
    eventually("the failure", || bench.stats.records_failed.get() == 1);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    let end = Instant::now() + PATIENCE;
    while bench.stats.records_written.get() == 0 && Instant::now() < end {
        say(&sink, &file, "kept");
        sink.flush();
        thread::yield_now();
    }
    drop(sink);
    assert!(bench.writer.finish(PATIENCE));
    drop((file, bench));
    let text = reader.join().unwrap();
    assert!(!text.is_empty() && text.lines().all(|l| l == "kept"), "{text}");
}

#[test]
fn a_line_that_one_reader_left_unfinished_does_not_reach_the_next() {
    let bench = Bench::new();
    let path = bench.fifo("access.pipe");
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&path));
    let reader = silent_reader(&path);
    // Longer than the pipe is deep, so that it stops within a line.
    say(&sink, &file, &"x".repeat(100_000));
    sink.flush();
    eventually("a full pipe", || bench.stats.errors.get() == 1);
    drop(reader);
    say(&sink, &file, "lost");
    sink.flush();
    eventually("a broken pipe", || bench.stats.errors.get() == 2);
    assert_eq!(bench.stats.records_failed.get(), 2);
    let mut reader = silent_reader(&path);
    say(&sink, &file, "kept");
    drop((sink, file));
    assert!(bench.writer.finish(PATIENCE));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text == "kept\n", "{} bytes", text.len());
}

#[test]
fn a_sink_that_outlives_the_writer_counts_what_it_drops() {
    let bench = Bench::new();
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&bench.path("access.log")));
    assert!(bench.writer.finish(PATIENCE));
    say(&sink, &file, "late");
    drop(sink);
    assert_eq!(bench.stats.records_dropped.get(), 1);
}

#[test]
fn idle_files_are_let_go_by_the_sink() {
    let bench = Bench::new();
    let (sink, file) = (bench.writer.sink(), bench.writer.file(&bench.path("access.log")));
    say(&sink, &file, "one");
    sink.flush();
    eventually("the record", || bench.stats.records_written.get() == 1);
    sink.flush();
    eventually("one holder", || Arc::strong_count(&file) == 1);
}
