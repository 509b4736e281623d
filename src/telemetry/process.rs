//! What the kernel says of this process: memory, processor time, descriptors. A few small reads of `/proc`,
//! cheap enough for every scrape; what cannot be read is `None`.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::Duration;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// User and system time of all threads.
    pub cpu: Option<Duration>,
    /// Resident memory in bytes, now and at its highest.
    pub resident: Option<u64>,
    pub peak: Option<u64>,
    pub threads: Option<u64>,
    pub open_fds: Option<u64>,
    /// `None` also when unlimited.
    pub max_fds: Option<u64>,
}

impl ProcessStats {
    /// User and system time of all threads alone, which costs next to nothing.
    #[must_use]
    pub fn cpu_time() -> Option<Duration> {
        Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
    }

    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu: Self::cpu_time(),
            resident: status_field(&status, "VmRSS:").map(|kib| kib * 1024),
            peak: status_field(&status, "VmHWM:").map(|kib| kib * 1024),
            threads: status_field(&status, "Threads:"),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Since Linux 6.2 the directory's size is the number of descriptors; before, they are counted.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| entries.count() as u64),
        n => Some(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_all_of_it() {
        let stats = ProcessStats::read();
        assert!(stats.resident.unwrap() > 100_000);
        assert!(stats.peak >= stats.resident);
        assert!(stats.open_fds.unwrap() >= 3);
        assert!(stats.threads.unwrap() >= 1);
        assert!(stats.cpu.unwrap() > Duration::ZERO);
    }

    #[test]
    fn an_opened_file_counts() {
        let before = ProcessStats::read().open_fds.unwrap();
        let held: Vec<_> = (0..200).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(ProcessStats::read().open_fds.unwrap() > before + 100);
        drop(held);
    }
}
