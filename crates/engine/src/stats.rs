//! Counters that are always on, and the [`Stats`] a caller reads.

use crate::{
    BackgroundError, Checkpoint, Result,
    flush::{FlushReason, FlushReport},
};
use sluice_base::{CfId, Position, SeqNo};
use sluice_env::{
    metrics::Counter,
    sync::{Mutex, PoisonError},
};
use std::{collections::BTreeMap, time::Duration};

/// What the engine counts while it runs. Relaxed counters: each is exact, together they are a
/// moment's picture.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub writes: Counter,
    pub stalls: StallCounters,
    pub flush_failures: Counter,
    flushes: [Counter; FlushReason::ALL.len()],
    pub flush_bytes: Counter,
    last_flush: Mutex<Option<FlushReport>>,
    /// By family: how many flushes, and the last one.
    cf_flushes: Mutex<BTreeMap<CfId, (u64, CfFlush)>>,
    pub compactions: Counter,
    pub compaction_bytes_in: Counter,
    pub compaction_bytes_out: Counter,
    pub compaction_failures: Counter,
    pub checkpoints: Counter,
    pub checkpoint_failures: Counter,
    last_checkpoint: Mutex<Option<Position>>,
}

/// What can slow or stop writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StallCause {
    /// A family's memtables are full or nearly so: flushes are behind.
    Memtables,
    /// All memtables together approach their share of the budget.
    MemoryBudget,
    /// A family's level 0 is too deep: compactions are behind.
    Level0,
    /// Unflushed data pins more log than it may: slows writes, never stops them.
    WalBytes,
}

impl StallCause {
    /// Every cause, in the order of [`Stats::stall_causes`].
    pub const ALL: [StallCause; 4] =
        [StallCause::Memtables, StallCause::MemoryBudget, StallCause::Level0, StallCause::WalBytes];

    /// The name in statistics and events.
    pub fn name(self) -> &'static str {
        match self {
            StallCause::Memtables => "memtables",
            StallCause::MemoryBudget => "memory-budget",
            StallCause::Level0 => "level0",
            StallCause::WalBytes => "wal-bytes",
        }
    }
}

/// Counters of one cause.
#[derive(Debug, Default)]
pub(crate) struct CauseCounters {
    pub begins: Counter,
    pub stopped_us: Counter,
    pub waits: Counter,
    pub waited_us: Counter,
    pub refusals: Counter,
    pub delays: Counter,
    pub delayed_us: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct StallCounters([CauseCounters; StallCause::ALL.len()]);

impl StallCounters {
    pub(crate) fn of(&self, cause: StallCause) -> &CauseCounters {
        &self.0[cause as usize]
    }

    pub(crate) fn total(&self, of: impl Fn(&CauseCounters) -> &Counter) -> u64 {
        self.0.iter().map(|cause| of(cause).get()).sum()
    }

    pub(crate) fn snapshot(&self) -> Vec<StallStats> {
        let us = |counter: &Counter| Duration::from_micros(counter.get());
        let one = |cause: &StallCause| {
            let counters = self.of(*cause);
            StallStats {
                cause: *cause,
                stops: counters.begins.get(),
                stopped: us(&counters.stopped_us),
                waits: counters.waits.get(),
                waited: us(&counters.waited_us),
                refusals: counters.refusals.get(),
                delays: counters.delays.get(),
                delayed: us(&counters.delayed_us),
            }
        };
        StallCause::ALL.iter().map(one).collect()
    }
}

/// How much one cause has slowed and stopped writes since the opening.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StallStats {
    /// The cause.
    pub cause: StallCause,
    /// Times that writes began to find no room.
    pub stops: u64,
    /// For how long they found none, in all; a stop under way counts when it ends.
    pub stopped: Duration,
    /// Writes that had to wait for room.
    pub waits: u64,
    /// Their waits added up.
    pub waited: Duration,
    /// Writes refused for want of room.
    pub refusals: u64,
    /// Writes held back a little before room ran out.
    pub delays: u64,
    /// Their delays added up.
    pub delayed: Duration,
}

impl Counters {
    pub(crate) fn flushed(&self, report: &FlushReport) {
        if let Some(index) = FlushReason::ALL.iter().position(|reason| *reason == report.reason) {
            self.flushes[index].add(1);
        }
        self.flush_bytes.add(report.bytes_out);
        *self.last_flush.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
    }

    pub(crate) fn family_flushed(&self, cf: CfId, flush: CfFlush) {
        let mut flushes = self.cf_flushes.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = flushes.entry(cf).or_insert((0, flush));
        *count += 1;
        *last = flush;
    }

    pub(crate) fn cf_flushes(&self, cf: CfId) -> Option<(u64, CfFlush)> {
        self.cf_flushes.lock().unwrap_or_else(PoisonError::into_inner).get(&cf).copied()
    }

    pub(crate) fn last_flush(&self) -> Option<FlushReport> {
        self.last_flush.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    /// Data blocks that readers with a predicate did not load, because the statistics in the table's
    /// index excluded a match, since the opening.
    pub predicate_blocks_skipped: u64,
    /// Rows that such readers met and passed over, since the opening.
    pub predicate_rows_skipped: u64,
    /// Tables whose filter of key prefixes spared an iterator the search, since the opening.
    pub prefix_tables_skipped: u64,
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
    /// The same by cause, with delays, in the order of [`StallCause::ALL`].
    pub stall_causes: Vec<StallStats>,
    /// What stops writes at this moment, and for how long it has.
    pub stalled: Option<(StallCause, Duration)>,
    /// What slows writes at this moment.
    pub slowed: Option<StallCause>,
    /// Bytes a second that flushes have lately taken out of memtables.
    pub flush_drain_bytes_per_s: u64,
    /// Bytes in memtables that are in no log: lost in a crash until they are flushed.
    pub unlogged_bytes: u64,
    /// For how long the oldest of them has been there.
    pub unlogged_age: Option<Duration>,
    /// Whether automatic flushes are held back: [`crate::Db::pause_flushes`].
    pub flushes_paused: bool,
    /// The last finished flush that wrote something.
    pub last_flush: Option<FlushReport>,
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
    /// Bytes on the device kept for a flush that finds it full: see
    /// [`crate::Options::reserve_bytes`]. 0 while they are given up.
    pub reserved_bytes: u64,
    /// Finished checkpoints, since the opening.
    pub checkpoints: u64,
    /// Checkpoints that failed or were refused when their turn came; none is tried again.
    pub checkpoint_failures: u64,
    /// The position of the last finished checkpoint, since the opening.
    pub last_checkpoint_position: Option<Position>,
    /// Snapshots that stand.
    pub snapshots: u64,
    /// Errors of background jobs that stand: see [`crate::Db::background_errors`].
    pub background_errors: Vec<BackgroundError>,
    /// Each column family.
    pub cfs: Vec<CfStats>,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// What opening the database found.
    pub recovery: Recovery,
}

/// One family's part of a finished flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CfFlush {
    /// Why.
    pub reason: FlushReason,
    /// Bytes of the table made; 0 when nothing was left to write.
    pub bytes: u64,
    /// Entries that were in its memtable.
    pub entries: u64,
    /// From the start of the writing to the end of the install, of the whole group.
    pub took: Duration,
    /// When it ended, in Unix milliseconds.
    pub ended_unix_ms: u64,
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
    /// How long reading and replaying the log took.
    pub log_took: Duration,
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
    /// For how long it has been in memory only.
    pub oldest_unflushed_age: Option<Duration>,
    /// Log bytes from its segment on: what the family keeps from being let go of.
    pub pinned_wal_bytes: u64,
    /// Entries in sealed memtables.
    pub sealed_entries: u64,
    /// The family's last finished flush that wrote something.
    pub last_flush: Option<CfFlush>,
    /// Finished flushes of the family.
    pub flushes: u64,
    /// Tables, level by level.
    pub level_files: [u64; 7],
    /// Bytes of tables, level by level.
    pub level_bytes: [u64; 7],
    /// The most tables a point read may have to ask.
    pub read_amplification: u64,
    /// Bytes that compactions must still read and write until every level is within its target.
    pub compaction_debt_bytes: u64,
}
