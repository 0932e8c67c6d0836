//! Carries out one compaction: merge, write, install.
//!
//! Inputs are read past the cache, in large pieces. Outputs are cut at their target size, and only
//! between two user keys, because below level 0 a user key must lie in one table of a level.
//! Nothing is visible or named before the one edit that swaps inputs for outputs is durable; a
//! crash before it leaves files that the next opening deletes.

use super::picker::{Compaction, CompactionKind};
use crate::{
    Result,
    core::Core,
    flush,
    iter::{LevelRun, MergeIter, Source},
    rewrite::Keeper,
    tables,
    version::{CfEdit, TableMeta, VersionEdit},
};
use sluice_base::{Error, ErrorKind, FileNo, Level, Trailer};
use sluice_table::{IterOptions, TableIter, TableWriter};
use std::sync::Arc;

/// Bytes an input table is read ahead by: two of these a second core-second of merging, so that
/// the disk sees large reads and the memory cost stays below 1 MiB for four inputs.
const READAHEAD_BYTES: usize = 256 << 10;

/// Entries merged between two looks at whether the database is closing.
const STOP_CHECK_ENTRIES: u64 = 4096;

pub(super) fn run(core: &Arc<Core>, slot: usize, compaction: &Compaction) -> Result<()> {
    let mut edit = CfEdit::new(compaction.cf);
    for (level, handle) in compaction.input_tables() {
        edit.removed.push((level, handle.meta.file));
    }
    let outputs = match compaction.kind {
        CompactionKind::Move => compaction.input_tables().map(|(_, h)| h.meta.clone()).collect(),
        _ => merge(core, compaction)?,
    };
    let made: Vec<FileNo> = match compaction.kind {
        CompactionKind::Move => Vec::new(),
        _ => outputs.iter().map(|meta| meta.file).collect(),
    };
    let bytes_out: u64 = outputs.iter().map(|meta| meta.bytes).sum();
    edit.added.extend(outputs.into_iter().map(|meta| (compaction.output_level, meta)));
    if !made.is_empty() {
        let dir = &core.store.dir;
        core.store.fs.sync_dir(dir).map_err(|e| Error::io("sync the database directory", e))?;
        core.stats.compaction_bytes_in.add(compaction.input_bytes());
        core.stats.compaction_bytes_out.add(bytes_out);
    }
    core.versions.apply(core, VersionEdit::from(edit), |versions| {
        core.read_state.update(&[slot], |_, cf| versions.refresh(cf));
    })
}

/// The outputs written so far; discards them when the job fails.
struct Outputs<'a> {
    core: &'a Core,
    level: Level,
    writer: Option<(FileNo, TableWriter)>,
    done: Vec<TableMeta>,
}

impl Outputs<'_> {
    fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()> {
        if self.writer.is_none() {
            let file = self.core.next_file();
            let options = flush::table_options(&self.core.options, self.level.0);
            let store = &self.core.store;
            let writer = TableWriter::create(&store.fs, &store.path(file), file, options)?;
            self.writer = Some((file, writer));
        }
        match &mut self.writer {
            Some((_, writer)) => writer.add(key, trailer, value),
            None => Ok(()),
        }
    }

    fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, writer)| writer.estimated_bytes())
    }

    fn cut(&mut self) -> Result<()> {
        if let Some((file, writer)) = self.writer.take() {
            match writer.finish() {
                Ok(summary) => {
                    let created = self.core.env.clock.unix_ms();
                    self.done.push(flush::table_meta(file, &summary, created));
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
        if let Some((file, writer)) = self.writer.take() {
            drop(writer);
            self.core.store.discard(file);
        }
        for meta in self.done.drain(..) {
            self.core.store.discard(meta.file);
        }
    }
}

fn merge(core: &Arc<Core>, compaction: &Compaction) -> Result<Vec<TableMeta>> {
    let level = compaction.output_level;
    let mut outputs = Outputs { core, level, writer: None, done: Vec::new() };
    match merge_into(core, compaction, &mut outputs) {
        Ok(()) => Ok(outputs.done),
        Err(error) => {
            outputs.discard();
            Err(error)
        }
    }
}

fn merge_into(core: &Arc<Core>, compaction: &Compaction, outputs: &mut Outputs<'_>) -> Result<()> {
    let mut merged = MergeIter::new(sources(compaction)?);
    let stripes = core.snapshots.stripes(|| core.ring.visible());
    let mut keeper = Keeper::new(stripes);
    let mut below = compaction.below();
    let mut last_key: Vec<u8> = Vec::new();
    let mut merged_entries = 0u64;
    let mut more = merged.seek_to_first()?;
    while more {
        let (key, trailer) = (merged.key(), merged.trailer());
        if keeper.keep(key, trailer, |key| below.is_nothing_left(key)) {
            let full = outputs.bytes() >= core.options.table_bytes;
            if full && last_key != key {
                outputs.cut()?;
            }
            outputs.add(key, trailer, merged.value())?;
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        merged_entries += 1;
        if merged_entries.is_multiple_of(STOP_CHECK_ENTRIES) && core.background.stopping() {
            return Err(Error::new(ErrorKind::Closed, "the database is closing"));
        }
        more = merged.next()?;
    }
    outputs.cut()
}

fn sources(compaction: &Compaction) -> Result<Vec<Source>> {
    let options = IterOptions {
        fill_cache: false,
        readahead_bytes: READAHEAD_BYTES,
        ..IterOptions::default()
    };
    let mut sources = Vec::new();
    for input in &compaction.inputs {
        if input.level == Level(0) {
            for handle in &input.tables {
                let table = Arc::clone(tables::opened(handle)?);
                sources.push(Source::Table(TableIter::new(table, options)));
            }
        } else {
            let run = Arc::new(input.tables.clone());
            sources.push(Source::Level(LevelRun::new(run, options)));
        }
    }
    Ok(sources)
}
