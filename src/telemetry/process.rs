//! What the kernel says of this process: memory, processor time, descriptors. A few small reads of `/proc`,
//! cheap enough for every scrape; what cannot be read is `None`.

use rustix::process::{Resource, getrlimit};
use std::fs;
use std::time::Duration;

/// Clock ticks per second in `/proc`: 100 on every Linux that a program can meet.
const TICKS: u64 = 100;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// User and system time of all threads, in steps of 10 ms.
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
    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu: fs::read_to_string("/proc/self/stat")
                .ok()
                .and_then(|s| cpu_of(&s)),
            resident: status_field(&status, "VmRSS:").map(|kib| kib * 1024),
            peak: status_field(&status, "VmHWM:").map(|kib| kib * 1024),
            threads: status_field(&status, "Threads:"),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Processor time of the calling thread. A worker reads it for itself, about once a second.
#[must_use]
pub fn thread_cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Fields 14 and 15 of `/proc/self/stat`, counted behind the program's name, which may hold anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * (1000 / TICKS)))
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
        assert!(stats.cpu.is_some());
        assert!(thread_cpu().is_some());
    }

    #[test]
    fn an_opened_file_counts() {
        let before = ProcessStats::read().open_fds.unwrap();
        let held: Vec<_> = (0..200).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(ProcessStats::read().open_fds.unwrap() > before + 100);
        drop(held);
    }

    #[test]
    fn a_hostile_program_name_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 97 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("garbage"), None);
    }
}
