//! Carries out one compaction: merge, write, install.
//!
//! Which entries go where is [`merge`]'s loop. Inputs are read past the cache, in large pieces.
//! Outputs are cut at their target size and at the ends of key schema ranges, and only between two user keys, because below level 0 a user key must
//! lie in one table of a level.
//! Nothing is visible or named before the one edit that swaps inputs for outputs is durable; a
//! crash before it leaves files that the next opening deletes.

use super::{
    Compaction, Job,
    merge::{self, Outputs, Place, Way},
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
    table_source::{Source, TableRun, table_iter},
    tables::{TableFile, VersionState},
    version::{TableMeta, VersionEdit},
};
use sluice_base::{Error, ErrorKind, FileNo, Level, Trailer};
use sluice_table::{IterOptions, RowRun, TableWriter};
use std::{cell::Cell, sync::Arc};

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
struct JobOutputs<'a> {
    core: &'a Core,
    compaction: &'a Compaction,
    below: BaseLevelCheck<TableFile>,
    cutter: OutputCutter<TableFile>,
    cursor: RangeCursor,
    level: Level,
    /// The number, the index of the schema.
    writer: Option<(FileNo, u32, TableWriter)>,
    done: Vec<TableMeta>,
    entries: Cell<u64>,
}

impl Outputs for JobOutputs<'_> {
    #[inline]
    fn nothing_below(&mut self, key: &[u8]) -> bool {
        self.compaction.is_bottommost || self.below.is_base_level_for(key)
    }

    fn begin_key(&mut self, key: &[u8]) -> Result<()> {
        if self.cursor.advance(key) {
            self.cut()?;
        }
        if self.cutter.cut_before(key, self.bytes()) {
            self.cut()?;
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()> {
        self.writer()?.add(key, trailer, value)
    }

    fn add_run(&mut self, run: &RowRun<'_>) -> Result<()> {
        self.writer()?.add_run(run)
    }

    fn run_end(&self) -> Option<Place<'_>> {
        // Behind a grandparent's last key its output may be cut; a range's end is not in it.
        let behind = self.cutter.grandparent_end().map(|last| (last, Trailer(0)));
        let end = self.cursor.end().map(|end| (end, Trailer(u64::MAX)));
        merge::first_of(behind, end)
    }

    #[inline]
    fn check(&self, entries: u64) -> Result<()> {
        let before = self.entries.get();
        self.entries.set(before + entries);
        let is_due = (before + entries) / STOP_CHECK_ENTRIES > before / STOP_CHECK_ENTRIES;
        if is_due && self.core.background.stopping() {
            return Err(Error::new(ErrorKind::Closed, "the database is closing"));
        }
        Ok(())
    }
}

impl JobOutputs<'_> {
    /// The table being written; begins one where there is none.
    #[inline]
    fn writer(&mut self) -> Result<&mut TableWriter> {
        self.give_way()?;
        if self.writer.is_none() {
            self.begin_table()?;
        }
        match &mut self.writer {
            Some((_, _, writer)) => Ok(writer),
            None => Err(Error::invalid("a table that was begun is not there; please report it")),
        }
    }

    fn begin_table(&mut self) -> Result<()> {
        let file = self.core.next_file();
        let (index, schema) = self.cursor.schema();
        let fields = self.cursor.filter_fields();
        let options = flush::table_options(&self.core.options, self.level.0, schema, fields);
        let store = &self.core.store;
        let writer = TableWriter::create(&store.fs, &store.path(file), file, options)?;
        self.writer = Some((file, index, writer));
        Ok(())
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
    let compaction = &job.compaction;
    let mut outputs = JobOutputs {
        core,
        compaction,
        below: BaseLevelCheck::new(compaction, &job.version),
        cutter: OutputCutter::new(compaction, &picker_options(core)),
        cursor: RangeCursor::new(&job.schemas),
        level: compaction.output_level,
        writer: None,
        done: Vec::new(),
        entries: Cell::new(0),
    };
    match merge_into(core, job, &mut outputs) {
        Ok(()) => Ok(outputs.done),
        Err(error) => {
            outputs.discard();
            Err(error)
        }
    }
}

fn merge_into(core: &Arc<Core>, job: &Job, outputs: &mut JobOutputs<'_>) -> Result<()> {
    let sources = sources(&job.compaction)?;
    let keeper = Keeper::new(core.snapshots.stripes(|| core.ring.visible()));
    // A table of L0 that is rewritten for a drain keeps its place in L0's order by keeping what it has.
    let keeps_all = job.drain.is_some() && job.compaction.level == Level(0);
    merge::merge(sources, keeper, Way { keeps_all, runs: true }, outputs)?;
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
