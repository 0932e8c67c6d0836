//! Decides what to compact next. A pure function: a version, options and what is running go in, one
//! compaction or nothing comes out. No files, no clock, no threads; the scripts in
//! `testdata/compaction` are its specification.
//!
//! The strategy is leveled with a dynamic base, as RocksDB's `level_compaction_dynamic_level_bytes`
//! (Dong et al., CIDR 2017) does it:
//!
//! ```text
//!   L0   flushed tables, newest first          score = depth / 4, or bytes / target of the base
//!    │      (L1, L2 … empty)
//!   Lb   base level: 256 MiB at most           score = bytes / target
//!   …    each level ten times the one above
//!   L6   most of the data; sets all targets    no score: nowhere to go
//! ```
//! Space amplification stays near 1.1 because the last level always holds about nine tenths.
//!
//! Rules every pick keeps, and why they keep reads right:
//! 1. An input is in no other running compaction.
//! 2. Of L0, a pick takes tables oldest first: whatever an input overlaps and is older comes along.
//! 3. In the output level everything inside the inputs' hull comes along, and no running compaction
//!    writes into that hull: outputs of two compactions never interleave.
//! 4. A merge inside L0 takes neighbours in age, so its output can take their place.
//!
//! Order of attempts: levels by score while the score is at least 1 (a blocked L0 may merge inside
//! itself), then tables full of tombstones. Every pick makes progress: bytes move to a deeper level,
//! L0 gets fewer tables, or tombstones disappear; so a quiet database becomes quiet.

mod build;
mod drain;
mod in_progress;
mod level;
mod outputs;
mod range;
mod targets;
mod zero;

#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod simulation_tests;

use std::sync::Arc;

use sluice_base::{CfId, Level, SeqNo};

pub use drain::pick_drain;
pub use in_progress::InProgress;
pub use outputs::{BaseLevelCheck, OutputCutter};
pub use range::{RangePick, pick_range};
pub use targets::{LevelTargets, pressure};

use crate::version::{CfEdit, CfVersion, KeyRange, SchemaMap, TableHandle, TableMeta};

/// What the picker may be told. One set a column family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickerOptions {
    /// L0 is compacted from this depth on, or from this many tables for each range of schemas.
    pub l0_trigger: usize,
    /// Most bytes the base level aims at.
    pub level_base_bytes: u64,
    /// How many times larger each level is than the one above.
    pub level_ratio: u64,
    /// Size a compaction's outputs aim at.
    pub table_bytes: u64,
    /// An output is cut, and a move refused, beyond this much overlap two levels down: it would
    /// make the next compaction of that table too large.
    pub grandparent_bytes_max: u64,
    /// Inputs are not widened beyond this much, and L0 is taken in pieces of about this much.
    pub compaction_bytes_max: u64,
    /// Fewest tables worth a merge inside L0.
    pub intra_l0_tables_min: usize,
    /// From this share of tombstones on, a table is compacted when nothing else needs to be.
    pub tombstone_percent: u64,
}

impl Default for PickerOptions {
    fn default() -> Self {
        let table_bytes = 64 << 20;
        PickerOptions {
            l0_trigger: 4,
            level_base_bytes: 256 << 20,
            level_ratio: 10,
            table_bytes,
            grandparent_bytes_max: 10 * table_bytes,
            compaction_bytes_max: 25 * table_bytes,
            intra_l0_tables_min: 4,
            tombstone_percent: 50,
        }
    }
}

/// All that a decision depends on.
#[derive(Debug)]
pub struct PickInput<'a, T> {
    pub cf: CfId,
    pub version: &'a CfVersion<T>,
    pub options: &'a PickerOptions,
    /// Under which key schema tables are written now.
    pub schemas: &'a SchemaMap,
    /// Every compaction of the database that was picked and has neither been installed nor given up.
    pub in_progress: &'a InProgress,
    /// No reader needs a state older than this: the oldest snapshot, or the visible sequence number
    /// when there is none. Tombstones at or below it can disappear when nothing lies under them.
    pub oldest_snapshot: SeqNo,
}

/// What a compaction does with its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompactionKind {
    /// Inputs are merged into new tables of `output_level`.
    Merge,
    /// The inputs become part of `output_level` as they are: an edit and no I/O. Only for tables
    /// that are as they would be written now. Moving others too would be cheaper, but a table that
    /// is only ever moved would keep its old schema to the last level, where nothing but a drain
    /// gets it; so each is rewritten once on its way down, which is what a change of schema costs.
    Move,
    /// Neighbours of L0 become one table of L0. Nothing may be elided.
    IntraL0,
}

/// Why a compaction was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompactionReason {
    /// L0 is too deep, or has too many bytes.
    L0Full,
    /// The level is over its target.
    LevelFull,
    /// Tombstones are most of a table.
    Tombstones,
    /// Somebody asked for it.
    Manual,
    /// A key schema is to be left by every table: see `schemas/drain.rs`.
    Drain,
}

/// A decision.
#[derive(Debug)]
pub struct Compaction<T> {
    pub cf: CfId,
    pub kind: CompactionKind,
    pub reason: CompactionReason,
    /// Where the upper inputs are.
    pub level: Level,
    /// Where the outputs go. Equal to `level` when a table is rewritten in its place to lose its
    /// tombstones, and for [`CompactionKind::IntraL0`].
    pub output_level: Level,
    /// Tables by level, in the levels' order; never empty, and no level in it is.
    pub inputs: Vec<(Level, Vec<Arc<TableHandle<T>>>)>,
    /// What the outputs overlap one level below `output_level`.
    pub grandparents: Vec<Arc<TableHandle<T>>>,
    /// How urgent it is: at least 1 for full levels, 0 for tombstones and manual picks.
    pub score: f64,
    /// Nothing older lies under any key of the inputs: every tombstone that no snapshot needs can
    /// go. When false, ask [`BaseLevelCheck`] key by key.
    pub is_bottommost: bool,
}

impl<T> Compaction<T> {
    /// Every input, with its level.
    pub fn tables(&self) -> impl Iterator<Item = (Level, &Arc<TableHandle<T>>)> {
        self.inputs.iter().flat_map(|(level, tables)| tables.iter().map(|table| (*level, table)))
    }

    pub fn input_bytes(&self) -> u64 {
        sum_bytes(self.tables().map(|(_, table)| table))
    }

    /// The range of keys the outputs may lie in.
    pub fn hull(&self) -> KeyRange<'_> {
        KeyRange::hull(self.tables().map(|(_, table)| &table.meta)).unwrap_or(KeyRange::ALL)
    }

    /// The edit that installs the result: inputs out, `outputs` in.
    pub fn edit(&self, outputs: impl IntoIterator<Item = TableMeta>) -> CfEdit {
        CfEdit {
            removed: self.tables().map(|(level, table)| (level, table.meta.file)).collect(),
            added: outputs.into_iter().map(|meta| (self.output_level, meta)).collect(),
            ..CfEdit::new(self.cf)
        }
    }

    /// The edit of a [`CompactionKind::Move`].
    pub fn move_edit(&self) -> CfEdit {
        debug_assert_eq!(self.kind, CompactionKind::Move);
        self.edit(self.tables().map(|(_, table)| table.meta.clone()))
    }
}

/// The most urgent compaction of a column family; `None` when there is nothing to do, or nothing
/// that can be done beside what is running.
pub fn pick<T>(input: &PickInput<'_, T>) -> Option<Compaction<T>> {
    let targets = LevelTargets::new(input.version, input.options);
    let mut scores = targets.scores(input);
    scores.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    for (level, score) in scores.into_iter().take_while(|(_, score)| *score >= 1.0) {
        let picked = if level.0 == 0 {
            zero::pick_l0(input, targets.base_level, score)
        } else {
            level::pick_level(input, level, score)
        };
        if picked.is_some() {
            return picked;
        }
    }
    level::pick_tombstones(input, targets.base_level)
}

fn sum_bytes<'a, T: 'a>(tables: impl IntoIterator<Item = &'a Arc<TableHandle<T>>>) -> u64 {
    tables.into_iter().fold(0, |sum, table| sum.saturating_add(table.meta.bytes))
}
