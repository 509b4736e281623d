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

fn field(status: &str, name: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
