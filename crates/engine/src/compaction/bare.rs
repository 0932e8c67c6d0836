//! The merge of a compaction over bare tables, without a database: for the bench that compares both ways
//! of merging, and for the test that both give the same. Not part of the API.

use super::merge::{self, Outputs, Place, Way};
use crate::{Result, rewrite::Keeper, snapshot::SnapshotList, table_source::Source};
use sluice_base::{Error, FileNo, SeqNo, Trailer};
use sluice_env::Fs;
use sluice_table::{
    IterOptions, KeySchema, RowRun, Table, TableIter, TableOptions, TableSummary, TableWriter,
};
use std::{path::PathBuf, sync::Arc};

/// What a merge is told.
#[derive(Debug, Clone)]
pub struct Rules {
    pub fs: Arc<dyn Fs>,
    /// Where the outputs go, as `{number}.sst` from `first_file` on.
    pub dir: PathBuf,
    pub first_file: u64,
    /// All but the schema.
    pub options: TableOptions,
    /// Where outputs end, and the schemas from there on; the first begins at the empty key.
    pub ranges: Vec<(Vec<u8>, Arc<KeySchema>)>,
    pub table_bytes: u64,
    /// Outputs that are half full end behind these keys, which ascend.
    pub grandparents: Vec<Vec<u8>>,
    pub snapshots: Vec<u64>,
    pub visible: u64,
    /// Keys that older entries may lie under: from the first to before the second.
    pub below: (Vec<u8>, Vec<u8>),
    pub keeps_all: bool,
    /// Whether runs are looked for.
    pub runs: bool,
}

/// Merges `tables`, newest first.
pub fn merge_tables(tables: &[Arc<Table>], rules: &Rules) -> Result<Vec<TableSummary>> {
    let list = SnapshotList::default();
    for &seq in &rules.snapshots {
        list.register(|| SeqNo(seq));
    }
    let keeper = Keeper::new(list.stripes(|| SeqNo(rules.visible)));
    let iter = |table: &Arc<Table>| TableIter::new(Arc::clone(table), IterOptions::sequential());
    let sources = tables.iter().map(|table| Source::Table(iter(table))).collect();
    let mut outputs =
        BareOutputs { rules, range: 0, passed: 0, writer: None, next: 0, done: Vec::new() };
    let way = Way { keeps_all: rules.keeps_all, runs: rules.runs };
    merge::merge(sources, keeper, way, &mut outputs)?;
    outputs.cut()?;
    Ok(outputs.done)
}

struct BareOutputs<'a> {
    rules: &'a Rules,
    range: usize,
    /// How many grandparents end before the present key.
    passed: usize,
    writer: Option<TableWriter>,
    next: u64,
    done: Vec<TableSummary>,
}

impl BareOutputs<'_> {
    /// The table being written.
    fn writer(&mut self) -> Result<&mut TableWriter> {
        if self.writer.is_none() {
            let number = self.rules.first_file + self.next;
            self.next += 1;
            let path = self.rules.dir.join(format!("{number:06}.sst"));
            let schema = Arc::clone(&self.rules.ranges[self.range].1);
            let options = TableOptions { schema, ..self.rules.options.clone() };
            let fs = &self.rules.fs;
            self.writer = Some(TableWriter::create(fs, &path, FileNo(number), options)?);
        }
        self.writer.as_mut().ok_or_else(|| Error::invalid("a table that was begun is not there"))
    }

    fn cut(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.done.push(writer.finish()?);
        }
        Ok(())
    }
}

impl Outputs for BareOutputs<'_> {
    fn nothing_below(&mut self, key: &[u8]) -> bool {
        *key < *self.rules.below.0 || *key >= *self.rules.below.1
    }

    fn begin_key(&mut self, key: &[u8]) -> Result<()> {
        let range = self.rules.ranges.partition_point(|(start, _)| **start <= *key) - 1;
        let passed = self.rules.grandparents.partition_point(|largest| **largest < *key);
        let bytes = self.writer.as_ref().map_or(0, TableWriter::estimated_bytes);
        let half = passed != self.passed && bytes >= self.rules.table_bytes / 2;
        if range != self.range || half || bytes >= self.rules.table_bytes {
            self.cut()?;
        }
        (self.range, self.passed) = (range, passed);
        Ok(())
    }

    fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()> {
        self.writer()?.add(key, trailer, value)
    }

    fn add_run(&mut self, run: &RowRun<'_>) -> Result<()> {
        self.writer()?.add_run(run)
    }

    fn run_end(&self) -> Option<Place<'_>> {
        let last = self.rules.grandparents.get(self.passed).map(|last| (&last[..], Trailer(0)));
        let end = self.rules.ranges.get(self.range + 1);
        let end = end.map(|(start, _)| (&start[..], Trailer(u64::MAX)));
        merge::first_of(last, end)
    }

    fn check(&self, _entries: u64) -> Result<()> {
        Ok(())
    }
}
