//! Counters that are always on, and the [`Stats`] a caller reads.

use crate::flush::{FlushReason, FlushReport};
use sluice_base::SeqNo;
use sluice_env::metrics::Counter;

/// What the engine counts while it runs. Relaxed counters: each is exact, together they are a
/// moment's picture.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub writes: Counter,
    pub stalls: Counter,
    pub stalled_us: Counter,
    pub refusals: Counter,
    pub flush_failures: Counter,
    flushes: [Counter; FlushReason::ALL.len()],
    pub flush_bytes: Counter,
    pub compactions: Counter,
    pub compaction_bytes_in: Counter,
    pub compaction_bytes_out: Counter,
    pub compaction_failures: Counter,
}

impl Counters {
    pub(crate) fn flushed(&self, report: &FlushReport) {
        if let Some(index) = FlushReason::ALL.iter().position(|reason| *reason == report.reason) {
            self.flushes[index].add(1);
        }
        self.flush_bytes.add(report.bytes_out);
    }

    /// Finished flushes by reason.
    pub(crate) fn flushes_by_reason(&self) -> Vec<(FlushReason, u64)> {
        FlushReason::ALL.iter().copied().zip(self.flushes.iter().map(Counter::get)).collect()
    }
}

/// A moment's picture of a database.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes reserved in memtables not yet in tables.
    pub memtable_bytes: u64,
    /// Sealed memtables waiting to be flushed, over all families.
    pub sealed_memtables: u64,
    pub block_cache_bytes: u64,
    pub block_cache_hits: u64,
    pub block_cache_misses: u64,
    /// Bytes of indexes and filters held in memory.
    pub table_pinned_bytes: u64,
    pub table_files: u64,
    pub table_bytes: u64,
    pub wal_bytes: u64,
    pub wal_segments: u64,
    pub wal_unsynced_bytes: u64,
    pub wal_syncs: u64,
    /// Batches committed.
    pub writes: u64,
    /// Writes that had to wait for room, and for how long in all, in microseconds.
    pub stalls: u64,
    pub stalled_us: u64,
    /// Writes refused for want of room.
    pub refusals: u64,
    pub flushes: u64,
    pub flushes_by_reason: Vec<(FlushReason, u64)>,
    pub flush_failures: u64,
    pub flush_bytes: u64,
    pub compactions: u64,
    pub compaction_bytes_in: u64,
    pub compaction_bytes_out: u64,
    pub compaction_failures: u64,
    pub snapshots: u64,
    /// Errors of background jobs that stand, as `job: message`.
    pub background_errors: Vec<String>,
    pub cfs: Vec<CfStats>,
    pub manifest_bytes: u64,
    pub recovery: Recovery,
}

/// What opening the database found and did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Edits replayed after the manifest's snapshot.
    pub manifest_edits: u64,
    /// Bytes of an edit that a crash tore off the manifest's end.
    pub manifest_torn_bytes: u64,
    /// Frames replayed from the log, and their bytes.
    pub log_frames: u64,
    pub log_bytes: u64,
    /// Whether the log had been closed cleanly.
    pub log_clean: bool,
    /// A sentence for people: what was replayed, cut, dropped or skipped.
    pub log_summary: String,
}

/// A moment's picture of one column family.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CfStats {
    pub name: String,
    /// Bytes reserved in the active memtable.
    pub active_bytes: u64,
    pub active_entries: u64,
    pub active_tombstones: u64,
    /// Bytes the active memtable has taken from the system.
    pub active_allocated_bytes: u64,
    pub sealed_memtables: u64,
    pub sealed_bytes: u64,
    /// Every entry of the family at or below it is in tables.
    pub flushed: SeqNo,
    /// The oldest entry that is not in a table; `None` when all are.
    pub oldest_unflushed: Option<SeqNo>,
    /// Tables and their bytes, level by level.
    pub level_files: [u64; 7],
    pub level_bytes: [u64; 7],
    /// The most tables a point read may have to ask.
    pub read_amplification: u64,
    /// Bytes that compactions must still read and write until every level is within its target.
    pub compaction_debt_bytes: u64,
}
