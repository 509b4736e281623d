//! Runs a command to its end.

use crate::eventually::patience;
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// # Panics
    /// When the exit code is another.
    #[track_caller]
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A command with nothing of the test's own environment that could configure the gateway.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("RUST_BACKTRACE", "1");
    command
}

/// Runs a program with arguments until it ends.
///
/// # Panics
/// When it can't be started, or does not end in time.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Ran {
    let mut command = command(program);
    command.args(args);
    finish(command)
}

/// Runs a prepared command until it ends.
///
/// # Panics
/// When it can't be started, or does not end in time.
#[track_caller]
#[must_use]
pub fn finish(mut command: Command) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let code = wait(&mut child, patience() * 2);
    let killed = code.is_none();
    if killed {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (
        stdout.join().unwrap_or_default(),
        stderr.join().unwrap_or_default(),
    );
    assert!(
        !killed,
        "{command:?} did not end\nstdout:\n{stdout}\nstderr:\n{stderr}"
    );
    Ran {
        code: code.flatten(),
        stdout,
        stderr,
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end of a child: `Some(exit code)`, or `None` when it did not end in time.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> Option<Option<i32>> {
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}
