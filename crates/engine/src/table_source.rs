//! Tables as the iterators see them: the seam between [`crate::iter`], which knows no tables, and
//! [`crate::tables`].

use crate::{
    Result, iter,
    iter::{Cursor, Run},
    tables::{self, TableHandle},
};
use sluice_base::Trailer;
use sluice_table::{IterOptions, RowRun, TableIter};
use std::sync::Arc;

/// A child of a merge over this engine's tables.
pub(crate) type Source = iter::Source<TableRun>;
pub(crate) type MergeIter = iter::MergeIter<Source>;
pub(crate) type DbIter = iter::DbIter<Source>;

/// The tables of one level, in key order.
#[derive(Debug)]
pub(crate) struct TableRun {
    tables: Arc<Vec<Arc<TableHandle>>>,
    options: IterOptions,
}

impl TableRun {
    pub(crate) fn new(tables: Arc<Vec<Arc<TableHandle>>>, options: IterOptions) -> TableRun {
        TableRun { tables, options }
    }
}

impl Run for TableRun {
    type Cursor = TableIter;

    fn len(&self) -> usize {
        self.tables.len()
    }

    fn smallest(&self, index: usize) -> &[u8] {
        &self.tables[index].meta.smallest.key
    }

    fn largest(&self, index: usize) -> &[u8] {
        &self.tables[index].meta.largest.key
    }

    fn open(&self, index: usize) -> Result<TableIter> {
        table_iter(&self.tables[index], &self.options)
    }
}

/// A cursor over one table, standing nowhere.
pub(crate) fn table_iter(handle: &TableHandle, options: &IterOptions) -> Result<TableIter> {
    Ok(TableIter::new(Arc::clone(tables::opened(handle)?), options.clone()))
}

impl Cursor for TableIter {
    #[inline]
    fn seek_to_first(&mut self) -> Result<bool> {
        TableIter::seek_to_first(self)
    }

    #[inline]
    fn seek_to_last(&mut self) -> Result<bool> {
        TableIter::seek_to_last(self)
    }

    #[inline]
    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        TableIter::seek(self, key, trailer)
    }

    #[inline]
    fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        TableIter::seek_for_prev(self, key, trailer)
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        TableIter::next(self)
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        TableIter::prev(self)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        TableIter::key(self)
    }

    #[inline]
    fn trailer(&self) -> Trailer {
        TableIter::trailer(self)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        TableIter::value(self)
    }

    #[inline]
    fn begins_block(&self) -> bool {
        TableIter::begins_block(self)
    }

    fn run(&self, until: Option<(&[u8], Trailer)>) -> Option<RowRun<'_>> {
        TableIter::run(self, until)
    }

    fn advance(&mut self, entries: usize) {
        TableIter::advance(self, entries);
    }
}
