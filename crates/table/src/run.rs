//! [`RowRun`]: rows of one block that go from one table into another as they are. What a merge finds
//! while one source stays ahead of the others, and what [`crate::TableWriter::add_run`] takes.
//!
//! Invariant: no row is a tombstone, and each but perhaps the first has another user key than the one
//! before it: so whoever decides what survives has to look at the first row only.

use std::ops::Range;

use sluice_base::Trailer;

use crate::{
    block::Block,
    column::KeyCursor,
    format::{BLOCK_TRAILER_BYTES, STATISTICS_FIELDS, compression},
    index::{BlockEntry, BlockStats, Handle},
    schema::KeySchema,
    table::Table,
    two_level::IndexWalker,
};

/// See the file's head. At least one row.
#[derive(Debug)]
pub struct RowRun<'a> {
    pub(crate) table: &'a Table,
    pub(crate) block: &'a Block,
    /// The number of the block in its table.
    pub(crate) at: usize,
    pub(crate) rows: Range<usize>,
    /// The block as it is in the file, checked; none where it came from the cache.
    pub(crate) stored: Option<&'a [u8]>,
    pub(crate) walker: &'a IndexWalker,
}

impl RowRun<'_> {
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Makes `cursor`'s key that of `row` of the block.
    #[inline]
    pub(crate) fn move_cursor(&self, cursor: &mut KeyCursor, row: usize) {
        self.block.move_cursor(cursor, row);
    }

    pub(crate) fn is_under(&self, schema: &KeySchema) -> bool {
        let own = &**self.table.schema();
        std::ptr::eq(own, schema) || own == schema
    }

    /// Whether it is all that the block has.
    pub(crate) fn is_whole_block(&self) -> bool {
        self.rows == (0..self.block.rows())
    }

    /// The block as it is in the file, if it is packed as asked: `packed`, or as it is.
    pub(crate) fn stored_as(&self, packed: bool) -> Option<&[u8]> {
        let wanted = if packed { compression::LZ4 } else { compression::NONE };
        let stored = self.stored?;
        let kind = stored[stored.len() - BLOCK_TRAILER_BYTES];
        (kind == wanted).then_some(stored)
    }

    /// What the index of the table says of the whole block, which has no tombstones; `None` where it does
    /// not say all that a new table's index has to.
    pub(crate) fn entry(&self) -> Option<BlockEntry> {
        let (index, row) = self.walker.peek(self.table, self.at)?;
        let schema = self.table.schema();
        let fields = match schema.is_whole_key() {
            true => 0,
            false if !index.counts_exceptions() => return None,
            false => schema.types().len().min(STATISTICS_FIELDS),
        };
        let bounds = (0..fields).map(|field| index.field_bounds(row, field));
        let bounds = bounds.collect::<Option<Vec<_>>>()?;
        let exceptions = index.stats(row).exceptions;
        let rows = self.rows.len() as u64;
        let stats = BlockStats { rows, exceptions, ..BlockStats::default() };
        Some(BlockEntry { handle: Handle::default(), stats, bounds })
    }

    pub(crate) fn trailer(&self, row: usize) -> Trailer {
        self.block.trailer(row)
    }
}
