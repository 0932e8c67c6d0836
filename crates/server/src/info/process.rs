//! Numbers about the process, from `/proc`. On a system without it they read as zero.

/// User and system time, in seconds.
pub(super) struct CpuTime {
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) children_user: f64,
    pub(super) children_system: f64,
}

pub(super) fn cpu_time() -> CpuTime {
    // Fields 14 to 17 of the line; the name in field 2 may contain blanks, so count from behind it.
    // Linux reports these times in ticks of 10 ms on every architecture.
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let seconds: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|word| word.parse::<f64>().unwrap_or(0.0) / 100.0)
        .collect();
    let at = |index: usize| seconds.get(index).copied().unwrap_or(0.0);
    CpuTime { user: at(0), system: at(1), children_user: at(2), children_system: at(3) }
}

fn kib_field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Resident memory of this process, in bytes.
pub(super) fn resident_bytes() -> u64 {
    kib_field("/proc/self/status", "VmRSS:")
}

/// The machine's memory, in bytes.
pub(super) fn machine_bytes() -> u64 {
    kib_field("/proc/meminfo", "MemTotal:")
}

/// `Linux 6.1.0 x86_64`.
pub(super) fn system() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}
