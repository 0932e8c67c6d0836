//! What running compactions hold: their inputs, and the ranges they will write into.

use std::collections::HashSet;

use sluice_base::{CfId, FileNo, Level};

use super::Compaction;
use crate::version::{KeyRange, TableMeta};

/// The compactions that were picked and are not finished. The engine starts and finishes them here
/// under the lock under which it picks.
#[derive(Debug, Default)]
pub struct InProgress {
    inputs: HashSet<FileNo>,
    outputs: Vec<Output>,
}

/// Where a running compaction writes. Its inputs do not say it all: a merge of two tables with a gap
/// between them may write one output across the gap.
#[derive(Debug)]
struct Output {
    /// Identifies the compaction: no other has this input.
    first_input: Option<FileNo>,
    cf: CfId,
    level: Level,
    first: Option<Box<[u8]>>,
    last: Option<Box<[u8]>>,
}

impl InProgress {
    #[cfg(test)]
    pub fn new() -> InProgress {
        InProgress::default()
    }

    /// Takes the inputs and the output range of `compaction` until it is finished.
    pub fn start<T>(&mut self, compaction: &Compaction<T>) {
        let hull = compaction.hull();
        for (_, table) in compaction.tables() {
            let is_new = self.inputs.insert(table.meta.file);
            debug_assert!(is_new, "table {} is compacted twice", table.meta.file);
        }
        self.outputs.push(Output {
            first_input: first_input(compaction),
            cf: compaction.cf,
            level: compaction.output_level,
            first: hull.first.map(Box::from),
            last: hull.last.map(Box::from),
        });
    }

    /// Gives them back, after the edit was applied or the compaction given up.
    pub fn finish<T>(&mut self, compaction: &Compaction<T>) {
        for (_, table) in compaction.tables() {
            self.inputs.remove(&table.meta.file);
        }
        let first = first_input(compaction);
        self.outputs.retain(|output| output.first_input != first);
    }

    pub fn contains(&self, meta: &TableMeta) -> bool {
        self.inputs.contains(&meta.file)
    }

    /// Holds one table as if some compaction had it.
    #[cfg(test)]
    pub(super) fn hold(&mut self, file: FileNo) {
        self.inputs.insert(file);
    }

    /// True when a running compaction may write a table into `range` of `level`.
    pub(super) fn writes_into(&self, cf: CfId, level: Level, range: KeyRange<'_>) -> bool {
        self.outputs.iter().any(|output| {
            let hull = KeyRange { first: output.first.as_deref(), last: output.last.as_deref() };
            output.cf == cf && output.level == level && hull.overlaps(&range)
        })
    }
}

fn first_input<T>(compaction: &Compaction<T>) -> Option<FileNo> {
    compaction.tables().next().map(|(_, table)| table.meta.file)
}
