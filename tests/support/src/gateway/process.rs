//! A gateway as the operating system sees it: signals, its end, and what it uses.

use super::Gateway;
use crate::cli;
use crate::eventually::patience;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

impl Gateway {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn os_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.os_pid(), signal);
    }

    /// TERM, and the exit code.
    #[track_caller]
    #[must_use]
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// The exit code, once it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let ended = cli::wait(&mut self.child, patience() * 2);
        let code = ended.unwrap_or_else(|| panic!("the gateway does not end"));
        self.code = code;
        code
    }

    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Open file descriptors.
    #[must_use]
    pub fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Resident memory.
    #[must_use]
    pub fn rss_kb(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    #[must_use]
    pub fn threads(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// CPU time used so far, user and system, all threads.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The command's name stands in parentheses and may hold anything; times are fields 14 and 15.
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|t| t.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    fn status_number(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    }
}
