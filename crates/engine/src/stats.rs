//! Counters that are always on, and the [`Stats`] a caller reads.

use crate::{
    Checkpoint, Result,
    flush::{FlushReason, FlushReport},
};
use sluice_base::{Position, SeqNo};
use sluice_env::metrics::Counter;
use std::sync::{Mutex, PoisonError};

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
    pub checkpoints: Counter,
    pub checkpoint_failures: Counter,
    last_checkpoint: Mutex<Option<Position>>,
}

impl Counters {
    pub(crate) fn flushed(&self, report: &FlushReport) {
        if let Some(index) = FlushReason::ALL.iter().position(|reason| *reason == report.reason) {
            self.flushes[index].add(1);
        }
        self.flush_bytes.add(report.bytes_out);
    }

    pub(crate) fn checkpointed(&self, outcome: &Result<Checkpoint>) {
        match outcome {
            Ok(made) => {
                self.checkpoints.add(1);
                *self.last_checkpoint.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(made.position);
            }
            Err(_) => self.checkpoint_failures.add(1),
        }
    }

    pub(crate) fn last_checkpoint(&self) -> Option<Position> {
        *self.last_checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finished flushes by reason.
    pub(crate) fn flushes_by_reason(&self) -> Vec<(FlushReason, u64)> {
        FlushReason::ALL.iter().copied().zip(self.flushes.iter().map(Counter::get)).collect()
    }
}

/// A moment's picture of a database.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// db.put(&db.default_cf(), b"key", b"value")?;
/// let stats = db.stats();
/// assert_eq!((stats.writes, stats.table_files), (1, 0));
/// assert_eq!(stats.cfs[0].active_entries, 1);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes reserved in memtables not yet in tables.
    pub memtable_bytes: u64,
    /// Sealed memtables waiting to be flushed, over all families.
    pub sealed_memtables: u64,
    /// Bytes of unpacked blocks in the cache.
    pub block_cache_bytes: u64,
    /// Lookups of a block that found it in the cache, since the opening.
    pub block_cache_hits: u64,
    /// Lookups of a block that had to read it, since the opening.
    pub block_cache_misses: u64,
    /// Bytes of indexes and filters held in memory.
    pub table_pinned_bytes: u64,
    /// Live tables, over all families and levels.
    pub table_files: u64,
    /// Their bytes on disk.
    pub table_bytes: u64,
    /// Bytes of the live log segments.
    pub wal_bytes: u64,
    /// Live log segments.
    pub wal_segments: u64,
    /// Bytes appended to the log that no sync has covered yet.
    pub wal_unsynced_bytes: u64,
    /// Syncs of the log since the opening.
    pub wal_syncs: u64,
    /// Batches committed.
    pub writes: u64,
    /// Writes that had to wait for room.
    pub stalls: u64,
    /// For how long in all, in microseconds.
    pub stalled_us: u64,
    /// Writes refused for want of room.
    pub refusals: u64,
    /// Finished flushes, whatever their reason.
    pub flushes: u64,
    /// Finished flushes by reason, in the order of [`FlushReason::ALL`].
    pub flushes_by_reason: Vec<(FlushReason, u64)>,
    /// Attempts to flush that failed; each is tried again.
    pub flush_failures: u64,
    /// Bytes of the tables that flushes made.
    pub flush_bytes: u64,
    /// Finished compactions.
    pub compactions: u64,
    /// Bytes of tables that compactions read.
    pub compaction_bytes_in: u64,
    /// Bytes of tables that compactions made.
    pub compaction_bytes_out: u64,
    /// Attempts to compact that failed; each is tried again.
    pub compaction_failures: u64,
    /// Finished checkpoints, since the opening.
    pub checkpoints: u64,
    /// Checkpoints that failed or were refused when their turn came; none is tried again.
    pub checkpoint_failures: u64,
    /// The position of the last finished checkpoint, since the opening.
    pub last_checkpoint_position: Option<Position>,
    /// Snapshots that stand.
    pub snapshots: u64,
    /// Errors of background jobs that stand, as `job: message`.
    pub background_errors: Vec<String>,
    /// Each column family.
    pub cfs: Vec<CfStats>,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// What opening the database found.
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
    /// Frames replayed from the log.
    pub log_frames: u64,
    /// Their bytes, headers and padding included.
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
    /// Its name.
    pub name: String,
    /// Bytes reserved in the active memtable.
    pub active_bytes: u64,
    /// Entries in the active memtable, tombstones included.
    pub active_entries: u64,
    /// Tombstones in the active memtable.
    pub active_tombstones: u64,
    /// Bytes the active memtable has taken from the system.
    pub active_allocated_bytes: u64,
    /// Memtables waiting to be flushed.
    pub sealed_memtables: u64,
    /// Bytes reserved in them.
    pub sealed_bytes: u64,
    /// Every entry of the family at or below it is in tables.
    pub flushed: SeqNo,
    /// The oldest entry that is not in a table; `None` when all are.
    pub oldest_unflushed: Option<SeqNo>,
    /// Tables, level by level.
    pub level_files: [u64; 7],
    /// Bytes of tables, level by level.
    pub level_bytes: [u64; 7],
    /// The most tables a point read may have to ask.
    pub read_amplification: u64,
    /// Bytes that compactions must still read and write until every level is within its target.
    pub compaction_debt_bytes: u64,
}
