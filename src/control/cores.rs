//! How many cores this process may use: the affinity mask, cut by the cgroup's CPU quota.
//!
//! A container with a quota of two cores on a machine of 64 would otherwise get 64 workers, and be throttled
//! with most of them waiting.

use std::fs;
use std::path::{Path, PathBuf};

/// Usable cores, at least 1.
#[must_use]
pub fn usable() -> usize {
    let mask = rustix::thread::sched_getaffinity(None)
        .map_or(1, |set| set.count() as usize)
        .max(1);
    quota().map_or(mask, |quota| mask.min(quota)).max(1)
}

/// The smallest quota of this process's cgroup and those above it, in whole cores, rounded up.
fn quota() -> Option<usize> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let v2 = v2_path(&membership)
        .into_iter()
        .flat_map(|path| levels("/sys/fs/cgroup", &path))
        .filter_map(|directory| v2_quota(&fs::read_to_string(directory.join("cpu.max")).ok()?));
    let v1 = v1_path(&membership)
        .into_iter()
        .flat_map(|path| levels("/sys/fs/cgroup/cpu", &path))
        .filter_map(|directory| {
            let read = |name| fs::read_to_string(directory.join(name)).ok();
            v1_quota(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
        });
    v2.chain(v1).min()
}

/// A cgroup's directory and those above it up to the root. Inside a container the path of `/proc/self/cgroup`
/// may be the host's and not exist here; the root, which always does, is then the container's own.
fn levels(root: &str, path: &str) -> Vec<PathBuf> {
    let root = Path::new(root);
    let full = root.join(path.trim_start_matches('/'));
    full.ancestors()
        .take_while(|level| level.starts_with(root))
        .map(Path::to_path_buf)
        .collect()
}

fn v2_path(membership: &str) -> Option<String> {
    membership
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

fn v1_path(membership: &str) -> Option<String> {
    membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers
            .split(',')
            .any(|c| c == "cpu")
            .then(|| path.to_owned())
    })
}

/// `cpu.max`: quota and period in microseconds, or `max`.
fn v2_quota(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    whole_cores(quota.parse().ok()?, period.parse().ok()?)
}

/// Quota and period in microseconds; a quota of -1 is none.
fn v1_quota(quota: &str, period: &str) -> Option<usize> {
    whole_cores(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn whole_cores(quota: i64, period: i64) -> Option<usize> {
    if quota <= 0 || period <= 0 {
        return None;
    }
    usize::try_from(quota.div_euclid(period) + i64::from(quota % period != 0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_whole_cores() {
        assert_eq!(v2_quota("150000 100000\n"), Some(2));
        assert_eq!(v2_quota("200000 100000\n"), Some(2));
        assert_eq!(v2_quota("5000 100000\n"), Some(1));
        assert_eq!(v1_quota("250000\n", "100000\n"), Some(3));
    }

    #[test]
    fn no_quota_and_garbage_limit_nothing() {
        for text in ["max 100000\n", "", "x y", "100000 0", "-1 100000"] {
            assert_eq!(v2_quota(text), None, "{text:?}");
        }
        assert_eq!(v1_quota("-1\n", "100000\n"), None);
    }

    #[test]
    fn the_cgroup_is_found_in_both_hierarchies() {
        let v1 = "5:memory:/a\n4:cpu,cpuacct:/docker/abc\n0::/\n";
        assert_eq!(v1_path(v1).as_deref(), Some("/docker/abc"));
        assert_eq!(v2_path(v1).as_deref(), Some("/"));
        assert_eq!(
            v2_path("0::/user.slice/x.scope\n").as_deref(),
            Some("/user.slice/x.scope")
        );
        assert_eq!(v1_path("3:cpuset:/a\n"), None);
    }

    #[test]
    fn quotas_of_all_levels_count() {
        let found = levels("/sys/fs/cgroup", "/a/b");
        let expected = ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn there_is_always_one_core() {
        assert!(usable() >= 1);
    }
}
