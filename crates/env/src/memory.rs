//! How much memory this process may use: the tightest of the machine's and its control groups'.
//!
//! A container's limit is in a control group, and the machine's size says nothing about it: an
//! engine that sizes itself by the machine is killed in a small container.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes of memory that the process may use; `None` where the system does not say.
///
/// ```
/// if let Some(bytes) = sluice_env::memory_limit() {
///     assert!(bytes > 0);
/// }
/// ```
pub fn memory_limit() -> Option<u64> {
    limit_under(Path::new("/"))
}

/// As [`memory_limit`], with the system's files below `root`.
fn limit_under(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|t| total(&t));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| group_limit(root, line));
    machine.into_iter().chain(limits).min()
}

/// `MemTotal:       24576000 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The tightest limit on the way from one line's group up to the root of its hierarchy. Version 2:
/// `0::/path`; version 1: `9:memory:/path`.
fn group_limit(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (base, file) = if number == "0" && controllers.is_empty() {
        (root.join("sys/fs/cgroup"), "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        (root.join("sys/fs/cgroup/memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    let below: PathBuf = base.join(path.trim_start_matches('/'));
    // Inside a container the path may be that of the host, and not exist: its root is looked at
    // all the same.
    let limit = |dir: &Path| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
    below.ancestors().take_while(|dir| dir.starts_with(&base)).filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        let limit = || limit_under(dir.path());
        assert_eq!(limit(), None);
        put("proc/meminfo", "MemFree: 5 kB\nMemTotal:       8192 kB\n");
        assert_eq!(limit(), Some(8 << 20));
        put("proc/self/cgroup", "0::/a/b\n");
        assert_eq!(limit(), Some(8 << 20), "no such group");
        put("sys/fs/cgroup/a/memory.max", "4194304\n");
        put("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(limit(), Some(4 << 20), "from the group above");
        put("sys/fs/cgroup/a/b/memory.max", "nonsense");
        assert_eq!(limit(), Some(4 << 20));
        put("proc/self/cgroup", "3:cpu,memory:/x\n0::/a/b\n2:memory\n");
        put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576");
        assert_eq!(limit(), Some(1 << 20), "the root of version 1");
    }
}
