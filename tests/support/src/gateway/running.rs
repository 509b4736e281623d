//! Commands of the binary that run for long, beside the gateway itself.

use super::follow;
use crate::cli;
use crate::eventually::patience;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A long-running command of the binary other than `run`, such as `demo`.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Running {
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (stdout, stderr) = (Arc::default(), Arc::default());
        follow(child.stdout.take(), &stdout);
        follow(child.stderr.take(), &stderr);
        Self {
            child,
            stdout,
            stderr,
        }
    }

    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.lock().map(|out| out.clone()).unwrap_or_default()
    }

    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().map(|out| out.clone()).unwrap_or_default()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// The exit code, once it ends.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        cli::wait(&mut self.child, patience() * 2).unwrap_or_else(|| panic!("it does not end"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "--- stdout ---\n{}--- stderr ---\n{}---",
                self.stdout(),
                self.stderr()
            );
        }
    }
}
