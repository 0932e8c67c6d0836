//! Drives flush work: builds a group's tables, then installs groups in order.

use super::{
    FlushReport, build,
    queue::{Built, FlushGroup, Work},
};
use crate::{
    Result,
    core::Core,
    tables::VersionState,
    version::{CfEdit, VersionEdit},
};
use sluice_base::{Error, Level};
use std::{sync::Arc, time::Duration};

/// Does one piece of flush work. Says whether there was any, or until when there is none.
pub(crate) fn run_one(core: &Arc<Core>) -> Progress {
    match core.flushes.take(core.env.clock.monotonic_us()) {
        Work::Build(group) => match build_group(core, &group) {
            Ok(built) => {
                group.set_built(built);
                install_ready(core);
                Progress::Done
            }
            Err(error) => {
                failed(core, &group, &error);
                Progress::Done
            }
        },
        Work::Install => {
            install_ready(core);
            Progress::Done
        }
        Work::NotBefore(us) => Progress::NotBefore(us),
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
    group.fail(error, core.env.clock.monotonic_us());
    // Room that this flush was to make does not come: whoever waits for it must hear why (P6).
    core.room.end_turn();
}

/// Writes the tables of a group.
fn build_group(core: &Arc<Core>, group: &FlushGroup) -> Result<Built> {
    // Everything up to the cut is applied once it is visible: no writer is still inserting.
    core.ring.wait_visible(group.cut);
    let stripes = core.snapshots.stripes(|| core.ring.visible());
    let mut built = Built::default();
    for member in &group.members {
        let memtable = &member.sealed.memtable;
        built.bytes_in += memtable.raw_bytes();
        let file = core.next_file();
        // Nothing is below when the family has no table and no older memtable is on its way.
        let bottom = {
            let state = core.read_state.load();
            state.cf(member.family.slot()).is_some_and(|cf| {
                cf.version.table_count() == 0
                    && cf.sealed.last().is_some_and(|oldest| oldest.group == group.id)
            })
        };
        let created = core.env.clock.unix_ms();
        let result = build::write_memtable(
            &core.store,
            &core.options,
            memtable,
            file,
            &stripes,
            bottom,
            created,
        );
        match result {
            Ok(written) => {
                built.entries += written.entries;
                built.dropped += written.dropped;
                built.bytes_out += written.table.as_ref().map_or(0, |table| table.bytes);
                built.tables.push(written.table);
            }
            Err(error) => {
                // Nothing refers to the tables made so far.
                for table in built.tables.iter().flatten() {
                    core.store.discard(table.file);
                }
                return Err(error.context(format!(
                    "flush column family '{}' to table {file}",
                    member.family.name()
                )));
            }
        }
    }
    Ok(built)
}

/// Installs every group at the front of the queue that is built.
fn install_ready(core: &Arc<Core>) {
    loop {
        let installing = core.flushes.lock_install();
        let Some(group) = core.flushes.installable() else { return };
        let Some(built) = group.built() else { return };
        match install(core, &group, &built) {
            Ok(report) => {
                drop(installing);
                core.stats.flushed(&report);
                core.health.background_ok("flush");
                group.finish(report);
                core.room.end_turn();
                core.background.wake_compaction();
                core.background.wake_flush();
            }
            Err(error) => {
                drop(installing);
                failed(core, &group, &error);
                return;
            }
        }
    }
}

/// Makes a built group durable and visible. See the order in the module's head.
fn install(core: &Arc<Core>, group: &FlushGroup, built: &Built) -> Result<FlushReport> {
    let dir = &core.store.dir;
    if built.tables.iter().any(Option::is_some) {
        core.store.fs.sync_dir(dir).map_err(|e| Error::io("sync the database directory", e))?;
    }
    if core.wal.poisoned().is_none() {
        core.wal.sync(group.lsn)?;
    }
    // What the edit says and what is released must be the same number: a family dropped in between
    // would let go of segments that the manifest still asks for.
    let oldest = super::oldest_without(core, group.id);
    let mut orphans = Vec::new();
    let edit = |state: &VersionState| {
        let mut edit = VersionEdit { last_seq: Some(group.cut), ..VersionEdit::default() };
        for (member, table) in group.members.iter().zip(&built.tables) {
            let Some(cf) = state.cf(member.family.id()) else {
                // Dropped since the seal: its table goes the way of the family.
                orphans.extend(table.iter().map(|table| table.file));
                continue;
            };
            let mut cf_edit = CfEdit::new(member.family.id());
            cf_edit.added.extend(table.iter().map(|table| (Level(0), table.clone())));
            cf_edit.flushed_seq = Some(group.cut);
            for (id, delta) in member.sealed.memtable.counter_deltas() {
                let base = cf.counters.get(&id).copied().unwrap_or(0);
                cf_edit.counters.push((id, base.wrapping_add(delta)));
            }
            edit.cfs.push(cf_edit);
        }
        edit.log_first = Some(core.wal.first_segment_after(oldest));
        Ok(edit)
    };
    let slots: Vec<usize> = group.members.iter().map(|member| member.family.slot()).collect();
    core.versions.apply_with(core, edit, |versions| {
        core.read_state.update(&slots, |_, cf| {
            cf.sealed.retain(|sealed| sealed.group != group.id);
            versions.refresh(cf);
        });
    })?;
    core.flushes.pop(group);
    for member in &group.members {
        core.memtable_bytes.sub(member.sealed.reserved);
    }
    orphans.into_iter().for_each(|file| core.store.discard(file));
    // The data is in tables: that a segment could not be let go of does not make the flush fail.
    // The next one tries again.
    let released = match core.wal.release(oldest) {
        Ok(bytes) => {
            core.health.background_ok("log");
            bytes
        }
        Err(error) => {
            core.health.background_error("log", &error);
            0
        }
    };
    let now = core.env.clock.monotonic_us();
    let started = group.started_us();
    Ok(FlushReport {
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
    })
}
