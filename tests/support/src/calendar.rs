//! Processes whose date is another than the machine's, while their monotonic clock goes on as it is: a library of a few
//! lines, compiled when it is needed, that comes between them and the system. (libfaketime and jemalloc wait for each
//! other at the start.)

use std::process::Command;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
  static long seconds, known;
  if (!known) {
    const char *text = getenv("CALENDAR_AHEAD");
    seconds = text ? atol(text) : 0;
    known = 1;
  }
  return seconds;
}

int clock_gettime(clockid_t id, struct timespec *at) {
  int result = syscall(SYS_clock_gettime, id, at);
  if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += ahead();
  return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  int result = syscall(SYS_gettimeofday, at, zone);
  if (result == 0 && at) at->tv_sec += ahead();
  return result;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"#;

/// The library; gone with the value.
#[derive(Debug)]
pub struct Calendar {
    dir: tempfile::TempDir,
}

impl Calendar {
    /// # Panics
    /// When there is no C compiler, which building the gateway takes too.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tidegate-calendar-")
            .tempdir()
            .expect("directory");
        std::fs::write(dir.path().join("calendar.c"), SOURCE).expect("source");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", "calendar.so", "calendar.c"])
            .current_dir(dir.path())
            .output()
            .expect("cc");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Self { dir }
    }

    /// The variables of a process whose date is so many seconds ahead, or behind.
    #[must_use]
    pub fn variables(&self, ahead: i64) -> [(&'static str, String); 2] {
        let library = self.dir.path().join("calendar.so");
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("CALENDAR_AHEAD", ahead.to_string()),
        ]
    }

    /// The words before a command that is to run so.
    #[must_use]
    pub fn runner(&self, ahead: i64) -> Vec<String> {
        let pairs = self
            .variables(ahead)
            .map(|(name, value)| format!("{name}={value}"));
        ["env".to_owned()].into_iter().chain(pairs).collect()
    }
}

impl Default for Calendar {
    fn default() -> Self {
        Self::new()
    }
}
