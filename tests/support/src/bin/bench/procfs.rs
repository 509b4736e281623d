//! What a process has cost so far, read from /proc.

use std::fs;

/// CPU time of all threads of these processes, in nanoseconds, as the scheduler counts it.
pub fn cpu_ns(pids: &[u32]) -> u64 {
    let tasks = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten()
        .flatten();
    let first_number = |text: String| text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    tasks
        .filter_map(|task| {
            fs::read_to_string(task.path().join("schedstat"))
                .ok()
                .and_then(first_number)
        })
        .sum()
}

/// Resident memory of these processes, in KiB.
pub fn rss_kib(pids: &[u32]) -> u64 {
    let status = pids
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    status.filter_map(|text| field(&text, "VmRSS:")).sum()
}

/// What the kernel holds for all sockets of the machine, in KiB: their own structures (counted with all of its small
/// objects) and the pages of what waits in them.
pub fn sockets_kib() -> u64 {
    const PAGE_KIB: u64 = 4;
    let slab = fs::read_to_string("/proc/meminfo").ok();
    let slab = slab.and_then(|text| field(&text, "Slab:")).unwrap_or(0);
    let stat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = stat
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .unwrap_or_default();
    let pages = tcp
        .split(" mem ")
        .nth(1)
        .and_then(|rest| rest.trim().parse::<u64>().ok());
    slab + pages.unwrap_or(0) * PAGE_KIB
}

fn field(status: &str, name: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
