//! How much memory this process may use: the cgroup's limit, or all that the machine has.

use std::fs;

/// Bytes that may be used; `None` when nothing tells.
#[must_use]
pub fn total() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total_of_machine(&text));
    let files = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limit = files
        .iter()
        .find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    // Without a limit cgroup v1 names a number close to 2^63.
    [machine, limit].into_iter().flatten().min()
}

fn total_of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_kib() {
        assert_eq!(
            total_of_machine("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(total_of_machine("nothing\n"), None);
    }

    #[test]
    fn there_is_some_memory() {
        assert!(total().is_some_and(|bytes| bytes > 1 << 20));
    }
}
