//! What the parameters mean to the engine: at the start, and while it runs.

use std::time::Duration;

use sluicedb::{Options, Tunables};

use super::Config;

/// How long the log may stay unsynced: a second, as Redis's `everysec`; with `always` the interval
/// covers what nobody waits for.
fn sync_interval(config: &Config) -> Duration {
    match config.get("appendfsync") {
        "no" => Duration::ZERO,
        _ => Duration::from_secs(1),
    }
}

/// The engine's options that can change while it runs.
pub(crate) fn tunables(config: &Config) -> Tunables {
    let number = |name: &str| config.get(name).parse::<u64>().unwrap_or(0);
    Tunables {
        memtable_bytes: number("memtable-bytes"),
        memtable_count: number("memtable-count") as u32,
        memory_budget: number("memory-budget"),
        wal_segment_bytes: number("wal-segment-bytes"),
        wal_max_bytes: number("wal-max-bytes"),
        flush_age: Duration::from_secs(number("flush-age")),
        flush_idle: Duration::from_secs(number("flush-idle")),
        flush_tombstones: number("flush-tombstones"),
        recovery_time_target: Duration::from_secs(number("recovery-time-target")),
        wal_sync_interval: sync_interval(config),
        flush_threads: number("flush-threads") as u32,
    }
}

/// All of the engine's options.
pub(crate) fn options(config: &Config) -> Options {
    let number = |name: &str| config.get(name).parse::<u64>().unwrap_or(0);
    Options { compaction_threads: number("compaction-threads") as u32, ..Options::default() }
        .with_tunables(&tunables(config))
}
