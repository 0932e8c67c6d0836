//! Questions a running merge asks key by key: cut the output here? can this tombstone go?
//!
//! Both walk along with the merge: keys come in ascending order and each cursor only moves forward,
//! so a whole merge costs one pass over the tables below.

use std::sync::Arc;

use sluice_base::Level;

use super::{Compaction, CompactionKind, PickerOptions};
use crate::version::{CfVersion, TableHandle, TableList};

/// Says where an output ends.
#[derive(Debug)]
pub struct OutputCutter<T> {
    grandparents: Vec<Arc<TableHandle<T>>>,
    /// Grandparents before this index end before the current key.
    index: usize,
    /// Bytes of grandparents that the current output has passed.
    passed_bytes: u64,
    table_bytes: u64,
    grandparent_bytes_max: u64,
}

impl<T> OutputCutter<T> {
    pub fn new(compaction: &Compaction<T>, options: &PickerOptions) -> OutputCutter<T> {
        // A merge inside L0 exists to make one table of many.
        let is_cut = compaction.kind != CompactionKind::IntraL0;
        OutputCutter {
            grandparents: compaction.grandparents.clone(),
            index: 0,
            passed_bytes: 0,
            table_bytes: if is_cut { options.table_bytes } else { u64::MAX },
            grandparent_bytes_max: options.grandparent_bytes_max,
        }
    }

    /// Ask before the first entry of each user key (never between two entries of one key), with
    /// the bytes of the output so far; on true, finish that output and begin the next with `key`.
    ///
    /// Cuts at the size limit, when the output overlaps too much two levels down, and, once it is
    /// half full, where a grandparent ends: tables that end where those below end overlap fewer of
    /// them in the next compaction.
    pub fn cut_before(&mut self, key: &[u8], output_bytes: u64) -> bool {
        let before = self.index;
        while let Some(table) = self.grandparents.get(self.index)
            && *table.meta.largest.key < *key
        {
            self.passed_bytes = self.passed_bytes.saturating_add(table.meta.bytes);
            self.index += 1;
        }
        let crossed = self.index > before;
        let cut = output_bytes > 0
            && (output_bytes >= self.table_bytes
                || crossed && output_bytes >= self.table_bytes / 2
                || self.passed_bytes > self.grandparent_bytes_max);
        if cut || output_bytes == 0 {
            // What the last output passed does not burden the next one.
            self.passed_bytes = 0;
        }
        cut
    }

    /// The key behind which the next grandparent begins: entries up to it need no question, as far as
    /// grandparents go.
    pub fn grandparent_end(&self) -> Option<&[u8]> {
        self.grandparents.get(self.index).map(|table| &*table.meta.largest.key)
    }
}

/// Says whether anything older than a compaction's inputs may lie under a key.
#[derive(Debug)]
pub struct BaseLevelCheck<T> {
    /// The levels below the output, and how far each was walked.
    levels: Vec<(TableList<T>, usize)>,
    /// A merge inside L0: older tables of L0 may hold anything.
    is_inside_l0: bool,
}

impl<T> BaseLevelCheck<T> {
    /// `version` is the one the compaction was picked from. That later versions differ does not
    /// matter: data only moves down, and what moves below these outputs meanwhile came from the
    /// output level outside the inputs' hull.
    pub fn new(compaction: &Compaction<T>, version: &CfVersion<T>) -> BaseLevelCheck<T> {
        let below = compaction.output_level.0 + 1..Level::COUNT as u8;
        BaseLevelCheck {
            levels: below.map(|level| (version.level_list(Level(level)), 0)).collect(),
            is_inside_l0: compaction.kind == CompactionKind::IntraL0,
        }
    }

    /// True when no table below the output level covers `key`: a tombstone of it that no snapshot
    /// needs can go. Keys must come in ascending order.
    pub fn is_base_level_for(&mut self, key: &[u8]) -> bool {
        if self.is_inside_l0 {
            return false;
        }
        self.levels.iter_mut().all(|(tables, index)| {
            while tables.get(*index).is_some_and(|table| *table.meta.largest.key < *key) {
                *index += 1;
            }
            tables.get(*index).is_none_or(|table| *key < *table.meta.smallest.key)
        })
    }
}
