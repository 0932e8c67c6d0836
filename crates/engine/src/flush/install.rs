//! Drives flush work: builds a group's tables, then installs groups in order.

use super::{
    FlushReport, build,
    queue::{Built, FlushGroup, Work},
    rescue, triggers,
};
use crate::{
    Result,
    core::Core,
    reserve,
    stats::CfFlush,
    tables::VersionState,
    version::{CfEdit, VersionEdit},
};
use sluice_base::{Error, FileNo, Level, SeqNo};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Does one piece of flush work. Says whether there was any, or until when there is none.
pub(crate) fn run_one(core: &Arc<Core>) -> Progress {
    let log_failed = rescue::begin(core);
    let sealed = !log_failed && triggers::look(core);
    match core.flushes.take(core.env.clock.monotonic_us(), log_failed) {
        Work::Build(group) => {
            match reserve::with_room(core, group.id, || build_group(core, &group)) {
                Ok(built) => {
                    group.set_built(built);
                    install_ready(core);
                    Progress::Done
                }
                Err(error) => {
                    failed(core, &group, &error);
                    Progress::Done
                }
            }
        }
        Work::Install => {
            install_ready(core);
            Progress::Done
        }
        Work::NotBefore(us) => Progress::NotBefore(us),
        Work::Idle if log_failed => rescue::finish(core),
        // What was sealed a moment ago may be held back, or another thread's by now.
        Work::Idle if sealed => Progress::Done,
        Work::Idle => Progress::Idle,
    }
}

/// What a worker should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something was done: look again.
    Done,
    /// Look again at this moment, in monotonic microseconds.
    NotBefore(u64),
    Idle,
}

fn failed(core: &Core, group: &FlushGroup, error: &Error) {
    core.stats.flush_failures.add(1);
    core.health.background_error("flush", error);
    reserve::failed(core, group.id);
    core.flushes.fail(group, error, core.env.clock.monotonic_us(), &core.events);
    // Room that this flush was to make does not come: whoever waits for it must hear why (P6).
    core.end_turn();
}

/// Writes the tables of a group.
fn build_group(core: &Arc<Core>, group: &FlushGroup) -> Result<Built> {
    // Everything up to the cut is applied once it is visible: no writer is still inserting.
    core.ring.wait_visible(group.cut);
    core.events.flush_begin(group);
    let stripes = core.snapshots.stripes(|| core.ring.visible());
    let mut built = Built::default();
    for member in &group.members {
        let memtable = &member.sealed.memtable;
        built.bytes_in += memtable.raw_bytes();
        // Nothing is below when the family has no table and no older memtable is on its way.
        let bottom = {
            let state = core.read_state.load();
            state.cf(member.family.slot()).is_some_and(|cf| {
                cf.version.table_count() == 0
                    && cf.sealed.last().is_some_and(|oldest| oldest.group == group.id)
            })
        };
        let created = core.env.clock.unix_ms();
        let schemas = member.family.schemas().current();
        let file = || core.next_file();
        let target = build::TableTarget { file: &file, schemas: &schemas, bottom };
        let result =
            build::write_memtable(&core.store, &core.options, memtable, &target, &stripes, created);
        built.schemas.push(schemas);
        match result {
            Ok(written) => {
                built.entries += written.entries;
                built.dropped += written.dropped;
                built.bytes_out += written.tables.iter().map(|table| table.bytes).sum::<u64>();
                built.tables.push(written.tables);
            }
            Err(error) => {
                // Nothing refers to the tables made so far.
                sluice_env::probe!("flush: a group failed after some of its tables");
                for table in built.tables.iter().flatten() {
                    core.store.discard(table.file);
                }
                let context = format!("flush column family '{}'", member.family.name());
                return Err(error.context(context));
            }
        }
    }
    Ok(built)
}

/// Installs every group at the front of the queue that is built.
fn install_ready(core: &Arc<Core>) {
    loop {
        let installing = core.flushes.lock_install();
        let mut ready = core.flushes.installable(false);
        let Some(lsn) = ready.first().map(|(group, _)| group.lsn) else { return };
        // Step 2 of the order in the module's head. What the log cannot cover any more is
        // installed all at once instead: see rescue.rs.
        let together = match core.wal.sync(lsn) {
            Ok(()) => false,
            Err(_) if rescue::is_sealed(core) => true,
            Err(error) => {
                drop(installing);
                for (group, _) in &ready {
                    failed(core, group, &error);
                }
                return;
            }
        };
        if together {
            sluice_env::probe!("flush: groups installed together after the log failed");
            ready = core.flushes.installable(true);
            if ready.is_empty() {
                return; // whoever builds the last one installs them all
            }
        }
        let first = ready[0].0.id;
        match reserve::with_room(core, first, || install(core, &ready, together)) {
            Ok(reports) => {
                drop(installing);
                core.health.background_ok("flush");
                ready.iter().for_each(|(group, _)| reserve::installed(core, group.id));
                for ((group, built), report) in ready.iter().zip(reports) {
                    count(core, group, built, &report);
                    core.events.flush_end(group, &report);
                    group.finish(report);
                }
                core.end_turn();
                core.background.wake_compaction();
                core.background.wake_flush();
            }
            Err(error) => {
                drop(installing);
                for (group, _) in &ready {
                    failed(core, group, &error);
                }
                return;
            }
        }
    }
}

type Ready = (Arc<FlushGroup>, Arc<Built>);

/// Makes built groups, the oldest of the queue, durable and visible by one edit. See the order in
/// the module's head. `log_failed`: they are all there is, and no segment is let go of.
fn install(core: &Arc<Core>, ready: &[Ready], log_failed: bool) -> Result<Vec<FlushReport>> {
    let dir = &core.store.dir;
    if ready.iter().any(|(_, built)| built.tables.iter().any(|tables| !tables.is_empty())) {
        core.store.fs.sync_dir(dir).map_err(|e| Error::io("sync the database directory", e))?;
    }
    let ids: Vec<u64> = ready.iter().map(|(group, _)| group.id).collect();
    let members = || ready.iter().flat_map(|(group, _)| &group.members);
    let cut = ready.last().map(|(group, _)| group.cut);
    // What the edit says and what is released must be the same number: a family dropped in between
    // would let go of segments that the manifest still asks for.
    let needed = (!log_failed).then(|| {
        let oldest = super::oldest_without(core, &ids);
        (oldest, core.wal.first_segment_after(oldest))
    });
    let mut orphans = Vec::new();
    let edit = |state: &VersionState| {
        let mut cfs = BTreeMap::new();
        for (group, built) in ready {
            for (member, tables) in group.members.iter().zip(&built.tables) {
                let id = member.family.id();
                let Some(cf) = state.cf(id) else {
                    // Dropped since the seal: its tables go the way of the family.
                    sluice_env::probe!("flush: a family was dropped between seal and install");
                    orphans.extend(tables.iter().map(|table| table.file));
                    continue;
                };
                let (cf_edit, counters) =
                    cfs.entry(id).or_insert_with(|| (CfEdit::new(id), cf.counters.clone()));
                cf_edit.added.extend(tables.iter().map(|table| (Level(0), table.clone())));
                cf_edit.flushed_seq = cut;
                for (id, delta) in member.sealed.memtable.counter_deltas() {
                    let sum: &mut i64 = counters.entry(id).or_default();
                    *sum = sum.wrapping_add(delta);
                }
            }
        }
        let with_counters = |(mut cf_edit, counters): (CfEdit, BTreeMap<u32, i64>)| {
            cf_edit.counters.extend(counters);
            cf_edit
        };
        Ok(VersionEdit {
            last_seq: cut,
            log_first: needed.map(|(_, first)| first),
            cfs: cfs.into_values().map(with_counters).collect(),
            ..VersionEdit::default()
        })
    };
    let mut slots: Vec<usize> = members().map(|member| member.family.slot()).collect();
    slots.sort_unstable();
    slots.dedup();
    core.versions.apply_with(core, edit, |versions| {
        core.read_state.update(&slots, |_, cf| {
            cf.sealed.retain(|sealed| !ids.contains(&sealed.group));
            versions.refresh(cf);
        });
        core.checkpoints.installed(&ids, cut, &versions.state);
    })?;
    // The bytes before the groups: a writer must not find bytes with nothing left that frees them.
    for member in members() {
        core.memtable_bytes.sub(member.sealed.reserved);
    }
    for (group, _) in ready {
        core.flushes.pop(group);
    }
    orphans.into_iter().for_each(|file| core.store.discard(file));
    let released = needed.map_or(0, |(oldest, first)| release(core, oldest, first));
    Ok(ready.iter().map(|(group, built)| report(core, group, built, released)).collect())
}

/// Lets go of log segments. The data is in tables: a segment that cannot be let go of does not
/// make the flush fail, and the next one tries again.
fn release(core: &Core, oldest: SeqNo, first: FileNo) -> u64 {
    match core.wal.release_before(first, oldest) {
        Ok(bytes) => {
            core.health.background_ok("log-release");
            bytes
        }
        Err(error) => {
            core.health.background_error("log-release", &error);
            0
        }
    }
}

/// Statistics of a finished flush.
fn count(core: &Core, group: &FlushGroup, built: &Built, report: &FlushReport) {
    core.stats.flushed(report);
    let reserved = group.members.iter().map(|member| member.sealed.reserved).sum();
    // An attempt that failed before says nothing about how fast flushes are.
    if group.attempts() == 0 {
        core.brakes.flushed(reserved, report.took);
    }
    let ended_unix_ms = core.env.clock.unix_ms();
    for (member, tables) in group.members.iter().zip(&built.tables) {
        let bytes = tables.iter().map(|table| table.bytes).sum();
        let entries = member.sealed.memtable.entries();
        let (reason, took) = (report.reason, report.took);
        let flush = CfFlush { reason, bytes, entries, took, ended_unix_ms };
        core.stats.family_flushed(member.family.id(), flush);
    }
}

fn report(core: &Core, group: &FlushGroup, built: &Built, released: u64) -> FlushReport {
    let now = core.env.clock.monotonic_us();
    let started = group.started_us();
    FlushReport {
        reason: group.reason,
        cfs: group.members.iter().map(|member| member.family.name().to_owned()).collect(),
        position: core.position(group.cut),
        entries: built.entries,
        entries_dropped: built.dropped,
        bytes_in: built.bytes_in,
        bytes_out: built.bytes_out,
        files: built.tables.iter().flatten().map(|table| table.file).collect(),
        wal_bytes_released: released,
        queued: Duration::from_micros(started.saturating_sub(group.sealed_us)),
        took: Duration::from_micros(now.saturating_sub(started)),
    }
}
