//! Gathers [`Stats`]: one walk over everything that counts or holds bytes. Each number is exact,
//! together they are a moment's picture: no lock is held from one part to the next.

use crate::{Stats, commit, compaction, core::Core, positions, stats::CfStats};
use sluice_base::Level;
use std::{sync::Arc, time::Duration};

/// The picture as of now.
pub(crate) fn stats(core: &Arc<Core>) -> Stats {
    let state = core.read_state.load_full();
    let (accounts, unlogged, stalled, slowed) = {
        let state = core.commit.lock();
        let unlogged = positions::unlogged(core, &state);
        let stalled = commit::current_stall(core, &state);
        (state.accounts.clone(), unlogged, stalled, commit::slowed(&state))
    };
    let now_us = core.env.clock.monotonic_us();
    let age = |since_us: u64| Duration::from_micros(now_us.saturating_sub(since_us));
    let counters = &core.stats;
    let stalls = &counters.stalls;
    let segments = core.wal.segments();
    let wal = core.wal.stats();
    let cache = core.store.cache.stats();
    let skips = core.owner.skips().get();
    let mut stats = Stats {
        memtable_bytes: core.memtable_bytes.get(),
        block_cache_bytes: cache.bytes,
        block_cache_hits: cache.hits,
        block_cache_misses: cache.misses,
        predicate_blocks_skipped: skips.blocks,
        predicate_rows_skipped: skips.rows,
        prefix_tables_skipped: skips.tables,
        wal_bytes: segments.iter().map(|segment| segment.bytes).sum(),
        wal_segments: segments.len() as u64,
        wal_unsynced_bytes: core.wal.unsynced_bytes(),
        wal_syncs: wal.syncs,
        writes: counters.writes.get(),
        stalls: stalls.total(|cause| &cause.waits),
        stalled_us: stalls.total(|cause| &cause.waited_us),
        refusals: stalls.total(|cause| &cause.refusals),
        stall_causes: stalls.snapshot(),
        stalled,
        slowed,
        flush_drain_bytes_per_s: core.brakes.flush_drain(),
        unlogged_bytes: unlogged.map_or(0, |unlogged| unlogged.bytes),
        unlogged_age: unlogged.map(|unlogged| age(unlogged.since_us)),
        flushes_paused: core.flushes.is_paused(),
        last_flush: counters.last_flush(),
        flushes_by_reason: counters.flushes_by_reason(),
        flush_failures: counters.flush_failures.get(),
        flush_bytes: counters.flush_bytes.get(),
        compactions: counters.compactions.get(),
        compaction_bytes_in: counters.compaction_bytes_in.get(),
        compaction_bytes_out: counters.compaction_bytes_out.get(),
        compaction_failures: counters.compaction_failures.get(),
        reserved_bytes: core.reserve.bytes(),
        checkpoints: counters.checkpoints.get(),
        checkpoint_failures: counters.checkpoint_failures.get(),
        last_checkpoint_position: counters.last_checkpoint(),
        snapshots: core.snapshots.count() as u64,
        manifest_bytes: core.versions.manifest_bytes(),
        recovery: core.recovery.clone(),
        ..Stats::default()
    };
    stats.flushes = stats.flushes_by_reason.iter().map(|(_, count)| count).sum();
    stats.background_errors = core.health.errors();
    for cf in state.families() {
        let account = accounts.get(cf.family.slot()).cloned().flatten();
        let (reserved, active) = account
            .map_or((0, None), |a| (a.reserved, a.first.map(|first| (first, a.dirty_since_us))));
        let sealed = cf.sealed.last().map(|sealed| (sealed.first, sealed.dirty_since_us));
        let oldest = sealed.or(active);
        let pinned = oldest.map_or(0, |(first, _)| {
            let is_pinned = |segment: &&sluice_wal::SegmentInfo| {
                segment.seqs.is_some_and(|(_, last)| last >= first)
            };
            segments.iter().filter(is_pinned).map(|segment| segment.bytes).sum()
        });
        let flushes = counters.cf_flushes(cf.family.id());
        let mut one = CfStats {
            name: cf.family.name().to_owned(),
            active_bytes: reserved,
            active_entries: cf.active.entries(),
            active_tombstones: cf.active.tombstones(),
            active_allocated_bytes: cf.active.allocated_bytes() as u64,
            read_amplification: cf.version.read_amplification() as u64,
            sealed_memtables: cf.sealed.len() as u64,
            sealed_bytes: cf.sealed.iter().map(|sealed| sealed.reserved).sum(),
            flushed: cf.flushed,
            oldest_unflushed: oldest.map(|(first, _)| first),
            oldest_unflushed_age: oldest.map(|(_, since_us)| age(since_us)),
            pinned_wal_bytes: pinned,
            sealed_entries: cf.sealed.iter().map(|sealed| sealed.memtable.entries()).sum(),
            last_flush: flushes.map(|(_, last)| last),
            flushes: flushes.map_or(0, |(count, _)| count),
            compaction_debt_bytes: compaction::debt_bytes(core, cf),
            ..CfStats::default()
        };
        for level in 0..Level::COUNT {
            let tables = cf.version.level(Level(level as u8));
            one.level_files[level] = tables.len() as u64;
            one.level_bytes[level] = cf.version.level_bytes(Level(level as u8));
            stats.table_pinned_bytes += tables
                .iter()
                .filter_map(|table| table.table.get())
                .map(|file| file.pinned_bytes())
                .sum::<u64>();
        }
        stats.sealed_memtables += one.sealed_memtables;
        stats.table_files += one.level_files.iter().sum::<u64>();
        stats.table_bytes += one.level_bytes.iter().sum::<u64>();
        stats.cfs.push(one);
    }
    stats
}
