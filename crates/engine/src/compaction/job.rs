//! Carries out one compaction: merge, write, install.
//!
//! Inputs are read past the cache, in large pieces. Outputs are cut at their target size and at the
//! ends of key schema ranges, and only between two user keys, because below level 0 a user key must
//! lie in one table of a level.
//! Nothing is visible or named before the one edit that swaps inputs for outputs is durable; a
//! crash before it leaves files that the next opening deletes.

use super::{
    Compaction, Job,
    picker::{BaseLevelCheck, CompactionKind, OutputCutter},
    picker_options,
};
use crate::{
    Result,
    core::Core,
    flush,
    iter::LevelIter,
    rewrite::Keeper,
    schemas::RangeCursor,
    table_source::{MergeIter, Source, TableRun, table_iter},
    tables::VersionState,
    version::{TableMeta, VersionEdit},
};
use sluice_base::{Error, ErrorKind, FileNo, Level, Trailer};
use sluice_table::{IterOptions, TableWriter};
use std::sync::Arc;

/// Entries merged between two looks at whether the database is closing.
const STOP_CHECK_ENTRIES: u64 = 4096;

/// What came out of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub files: u64,
    pub bytes: u64,
}

pub(super) fn run(core: &Arc<Core>, job: &Job) -> Result<Made> {
    let compaction = &job.compaction;
    let mut made = Vec::new();
    let began_us = core.env.clock.monotonic_us();
    let edit = if compaction.kind == CompactionKind::Move {
        sluice_env::probe!("compaction: a table was moved");
        compaction.move_edit()
    } else {
        let outputs = merge(core, job)?;
        if !outputs.is_empty() {
            let dir = &core.store.dir;
            if let Err(error) = core.store.fs.sync_dir(dir) {
                sluice_env::probe!("compaction: the directory sync failed");
                outputs.iter().for_each(|meta| core.store.discard(meta.file));
                return Err(Error::io("sync the database directory", error));
            }
        }
        core.stats.compaction_bytes_in.add(compaction.input_bytes());
        core.stats.compaction_bytes_out.add(outputs.iter().map(|meta| meta.bytes).sum());
        made.extend(outputs.iter().map(|meta| meta.file));
        compaction.edit(outputs)
    };
    let outcome = Made {
        files: edit.added.len() as u64,
        bytes: edit.added.iter().map(|(_, meta)| meta.bytes).sum(),
    };
    let mut is_dropped = false;
    let edit = |state: &VersionState| {
        is_dropped = state.cf(compaction.cf).is_none();
        match is_dropped {
            true => Err(Error::new(ErrorKind::NotFound, "the column family has been dropped")),
            false => Ok(VersionEdit::from(edit)),
        }
    };
    let applied = core.versions.apply_with(core, edit, |versions| {
        core.read_state.update(&[job.family.slot()], |_, cf| versions.refresh(cf));
    });
    if applied.is_err() {
        sluice_env::probe!("compaction: its edit failed");
        core.versions.forsake(&core.store, made.into_iter());
    } else if compaction.level == Level(0) {
        let from_level0 = compaction.tables().filter(|(level, _)| *level == Level(0));
        let bytes = from_level0.map(|(_, table)| table.meta.bytes).sum();
        core.brakes.compacted(bytes, began_us, core.env.clock.monotonic_us());
    }
    // Its tables went with it: there is nothing left to do.
    if is_dropped { Ok(Made { files: 0, bytes: 0 }) } else { applied.map(|()| outcome) }
}

/// The outputs written so far; discards them when the job fails.
struct Outputs<'a> {
    core: &'a Core,
    cursor: RangeCursor,
    level: Level,
    /// The number, the index of the schema.
    writer: Option<(FileNo, u32, TableWriter)>,
    done: Vec<TableMeta>,
}

impl Outputs<'_> {
    fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()> {
        self.give_way()?;
        if self.writer.is_none() {
            let file = self.core.next_file();
            let (index, schema) = self.cursor.schema();
            let fields = self.cursor.filter_fields();
            let options = flush::table_options(&self.core.options, self.level.0, schema, fields);
            let store = &self.core.store;
            let writer = TableWriter::create(&store.fs, &store.path(file), file, options)?;
            self.writer = Some((file, index, writer));
        }
        match &mut self.writer {
            Some((_, _, writer)) => writer.add(key, trailer, value),
            None => Ok(()),
        }
    }

    /// Fails while a flush on a full disk uses the room that was kept for it.
    fn give_way(&self) -> Result<()> {
        match self.core.reserve.is_given_up() {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::DiskFull,
                "the disk is full, and what room there is belongs to a flush; free some space",
            )),
        }
    }

    fn is_empty(&self) -> bool {
        self.writer.is_none() && self.done.is_empty()
    }

    fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, _, writer)| writer.estimated_bytes())
    }

    fn cut(&mut self) -> Result<()> {
        self.give_way()?;
        if let Some((file, schema, writer)) = self.writer.take() {
            match writer.finish() {
                Ok(summary) => {
                    let created = self.core.env.clock.unix_ms();
                    self.done.push(flush::table_meta(file, schema, &summary, created));
                }
                Err(error) => {
                    self.core.store.discard(file);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn discard(&mut self) {
        if let Some((file, _, writer)) = self.writer.take() {
            sluice_env::probe!("compaction: failed half way through a table");
            drop(writer);
            self.core.store.discard(file);
        }
        for meta in self.done.drain(..) {
            self.core.store.discard(meta.file);
        }
    }
}

fn merge(core: &Arc<Core>, job: &Job) -> Result<Vec<TableMeta>> {
    let level = job.compaction.output_level;
    let cursor = RangeCursor::new(&job.schemas);
    let mut outputs = Outputs { core, cursor, level, writer: None, done: Vec::new() };
    match merge_into(core, job, &mut outputs) {
        Ok(()) => Ok(outputs.done),
        Err(error) => {
            outputs.discard();
            Err(error)
        }
    }
}

fn merge_into(core: &Arc<Core>, job: &Job, outputs: &mut Outputs<'_>) -> Result<()> {
    let compaction = &job.compaction;
    let mut merged = MergeIter::new(sources(compaction)?);
    let stripes = core.snapshots.stripes(|| core.ring.visible());
    let mut keeper = Keeper::new(stripes);
    let mut below = BaseLevelCheck::new(compaction, &job.version);
    let mut cutter = OutputCutter::new(compaction, &picker_options(core));
    // A table of L0 that is rewritten for a drain keeps its place in L0's order by keeping what it has.
    let keeps_all = job.drain.is_some() && compaction.level == Level(0);
    let mut last_key: Vec<u8> = Vec::new();
    let mut entries = 0u64;
    let mut more = merged.seek_to_first()?;
    while more {
        let (key, trailer) = (merged.key(), merged.trailer());
        let nothing_below = |key: &[u8]| compaction.is_bottommost || below.is_base_level_for(key);
        if keeps_all || keeper.keep(key, trailer, nothing_below) {
            let is_new_key = last_key != key || outputs.is_empty();
            if is_new_key {
                if outputs.cursor.advance(key) {
                    outputs.cut()?;
                }
                if cutter.cut_before(key, outputs.bytes()) {
                    outputs.cut()?;
                }
                last_key.clear();
                last_key.extend_from_slice(key);
            }
            outputs.add(key, trailer, merged.value())?;
        }
        entries += 1;
        if entries.is_multiple_of(STOP_CHECK_ENTRIES) && core.background.stopping() {
            return Err(Error::new(ErrorKind::Closed, "the database is closing"));
        }
        more = merged.next()?;
    }
    outputs.cut()
}

fn sources(compaction: &Compaction) -> Result<Vec<Source>> {
    let options = IterOptions::sequential();
    let mut sources = Vec::new();
    for (level, inputs) in &compaction.inputs {
        if *level == Level(0) {
            for handle in inputs {
                sources.push(Source::Table(table_iter(handle, &options)?));
            }
        } else {
            let run = TableRun::new(Arc::new(inputs.clone()), options.clone());
            sources.push(Source::Level(LevelIter::new(run)));
        }
    }
    Ok(sources)
}
