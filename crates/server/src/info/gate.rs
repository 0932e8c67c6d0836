//! The sections of INFO about the gate between memory and disk: memtable, wal, stall.

use std::time::Duration;

use sluicedb::{CfStats, StallStats, Stats};

use super::Section;
use crate::shared::Shared;

/// What is only in memory, family by family, and how it leaves.
pub(super) fn memtable(shared: &Shared, out: &mut Section) {
    let stats = shared.db.stats();
    let tunables = shared.db.tunables();
    out.line("memtable_bytes", stats.memtable_bytes);
    out.line("memtable_budget_bytes", tunables.memory_budget / 2);
    out.line("sealed_memtables", stats.sealed_memtables);
    out.line("flushes_paused", u8::from(stats.flushes_paused));
    // In no log: a crash loses it. Zero while every write is logged.
    out.line("at_risk_bytes", stats.unlogged_bytes);
    out.line("at_risk_seconds", stats.unlogged_age.map_or(0, |age| age.as_secs()));
    out.line("at_risk_since", since(shared, stats.unlogged_age));
    out.line("flush_drain_bytes_per_sec", stats.flush_drain_bytes_per_s);
    out.line("flushes", stats.flushes);
    out.line("flush_failures", stats.flush_failures);
    out.line("flush_bytes", stats.flush_bytes);
    for (reason, count) in &stats.flushes_by_reason {
        out.line(&format!("flushes_{}", underscored(reason.name())), count);
    }
    last_flush(&stats, out);
    for cf in &stats.cfs {
        out.line(&format!("cf_{}", cf.name), family(shared, cf));
    }
}

fn last_flush(stats: &Stats, out: &mut Section) {
    let Some(last) = &stats.last_flush else { return };
    out.line("last_flush_reason", last.reason);
    out.line("last_flush_position", last.position);
    out.line("last_flush_usec", last.took.as_micros());
    out.line("last_flush_queued_usec", last.queued.as_micros());
    out.line("last_flush_bytes", last.bytes_out);
    out.line("last_flush_wal_bytes_released", last.wal_bytes_released);
}

fn family(shared: &Shared, cf: &CfStats) -> String {
    let oldest = cf.oldest_unflushed.map_or("-".to_owned(), |seq| {
        sluicedb::Position { epoch: shared.db.positions().visible.epoch, seq }.to_string()
    });
    let age = cf.oldest_unflushed_age.map_or(0, |age| age.as_secs());
    let mut text = format!(
        "active_bytes={},active_entries={},sealed={},sealed_bytes={},sealed_entries={},\
         oldest_unflushed={oldest},unflushed_seconds={age},pinned_wal_bytes={},level0_tables={},flushes={}",
        cf.active_bytes,
        cf.active_entries,
        cf.sealed_memtables,
        cf.sealed_bytes,
        cf.sealed_entries,
        cf.pinned_wal_bytes,
        cf.level_files[0],
        cf.flushes,
    );
    if let Some(last) = &cf.last_flush {
        text.push_str(&format!(
            ",last_flush_reason={},last_flush_usec={},last_flush_bytes={},last_flush_time={}",
            last.reason,
            last.took.as_micros(),
            last.bytes,
            last.ended_unix_ms / 1000,
        ));
    }
    text
}

/// The log: how far it is on disk, and what a sync costs.
pub(super) fn wal(shared: &Shared, out: &mut Section) {
    let log = shared.db.log_info();
    out.line("wal_segments", log.segments.len());
    out.line("wal_bytes", log.segments.iter().map(|segment| segment.bytes).sum::<u64>());
    out.line("wal_max_bytes", shared.db.tunables().wal_max_bytes);
    out.line("wal_appended", log.appended);
    out.line("wal_written", log.written);
    out.line("wal_durable", log.durable);
    // What a power cut could take.
    out.line("wal_unsynced_bytes", log.unsynced_bytes);
    out.line("wal_unsynced_msec", log.unsynced_age.map_or(0, |age| age.as_millis()));
    out.line("wal_frames", log.frames);
    out.line("wal_writes", log.writes);
    out.line("wal_bytes_written", log.bytes_written);
    out.line("wal_syncs", log.syncs);
    out.line("wal_sync_usec_p50", log.sync_us.percentile(50.0));
    out.line("wal_sync_usec_p99", log.sync_us.percentile(99.0));
    out.line("wal_sync_usec_max", log.sync_us.max());
    out.line("wal_frames_per_sync", format!("{:.1}", log.group.mean()));
    out.line("wal_rotations", log.rotations);
    out.line("wal_rotations_unprepared", log.rotations_unprepared);
    out.line("wal_segments_created", log.segments_created);
    out.line("wal_segments_recycled", log.segments_recycled);
    out.line("wal_failures", log.failures);
    out.line("wal_status", if log.failed.is_some() { "err" } else { "ok" });
}

/// What slows and stops writes, by cause.
pub(super) fn stall(shared: &Shared, out: &mut Section) {
    let stats = shared.db.stats();
    out.line("stalled", stats.stalled.map_or("no", |(cause, _)| cause.name()));
    out.line("stalled_msec", stats.stalled.map_or(0, |(_, since)| since.as_millis()));
    out.line("slowed", stats.slowed.map_or("no", |cause| cause.name()));
    let stopped: Duration = stats.stall_causes.iter().map(|cause| cause.stopped).sum();
    out.line("stopped_seconds", format!("{:.3}", stopped.as_secs_f64()));
    // Here a write does not wait inside the engine: its connection does.
    out.line("refused_commits", shared.total(|worker| worker.refusals.get()));
    out.line("delayed_commits", shared.total(|worker| worker.delays.get()));
    let delayed = shared.total(|worker| worker.delayed_us.get());
    out.line("delayed_seconds", format!("{:.3}", Duration::from_micros(delayed).as_secs_f64()));
    for one in &stats.stall_causes {
        out.line(&format!("stall_{}", underscored(one.cause.name())), cause(one));
    }
}

fn cause(one: &StallStats) -> String {
    let (stops, stopped) = (one.stops, one.stopped.as_secs_f64());
    format!("stops={stops},stopped_seconds={stopped:.3}")
}

/// Unix seconds of when something began that is `age` old; 0 for nothing.
fn since(shared: &Shared, age: Option<Duration>) -> u64 {
    age.map_or(0, |age| shared.clock.unix_ms().saturating_sub(age.as_millis() as u64) / 1000)
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}
