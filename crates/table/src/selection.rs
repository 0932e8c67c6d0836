//! What an iterator with a predicate knows: which rows of the current block it shows, and which
//! blocks it need not load. [`crate::TableIter`] moves, this says where to.
//!
//! Where the predicate's fields are those of the table's schema, rows are chosen over the columns and
//! blocks by the statistics of the index. Under any other schema the keys of a block are built and split,
//! once a block, and every block is loaded.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{block::Block, column::KeyCursor, predicate::KeyPredicate, schema::KeySchema};

/// What predicates spared. Shared by the iterators of a database; each number only grows.
#[derive(Debug, Default)]
pub struct SkipCounters {
    blocks: AtomicU64,
    rows: AtomicU64,
    tables: AtomicU64,
}

/// A moment's picture of [`SkipCounters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SkipStats {
    /// Data blocks that were not loaded, because the statistics of the index said no.
    pub blocks: u64,
    /// Rows of blocks that were loaded, and of memtables, that did not match.
    pub rows: u64,
    /// Tables not searched, because their filter of prefixes said no.
    pub tables: u64,
}

impl SkipCounters {
    pub(crate) fn add_blocks(&self, count: u64) {
        self.blocks.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_table(&self) {
        self.tables.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts rows that did not match.
    pub fn add_rows(&self, count: u64) {
        self.rows.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> SkipStats {
        SkipStats {
            blocks: self.blocks.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            tables: self.tables.load(Ordering::Relaxed),
        }
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Selection {
    predicate: Arc<KeyPredicate>,
    /// The table's fields are the predicate's.
    columns: bool,
    counters: Arc<SkipCounters>,
    /// The rows of the block loaded last that match.
    words: Vec<u64>,
    cursor: KeyCursor,
    ends: Vec<usize>,
}

impl Selection {
    /// For a table under `schema`.
    pub fn new(
        predicate: Arc<KeyPredicate>,
        schema: &KeySchema,
        counters: Arc<SkipCounters>,
    ) -> Selection {
        Selection {
            columns: !schema.is_whole_key() && predicate.schema().splits_as(schema),
            predicate,
            counters,
            words: Vec::new(),
            cursor: KeyCursor::new(),
            ends: Vec::new(),
        }
    }

    /// The predicate, where the statistics of the table's index can answer it.
    #[inline]
    pub fn by_statistics(&self) -> Option<&KeyPredicate> {
        self.columns.then_some(&*self.predicate)
    }

    pub fn count_skipped(&self, blocks: u64) {
        if blocks > 0 {
            self.counters.add_blocks(blocks);
        }
    }

    /// Chooses the rows of `block`.
    pub fn load(&mut self, block: &Block) {
        let rows = block.rows();
        if !self.columns || !block.select(&self.predicate, &mut self.words) {
            self.words.clear();
            self.words.resize(rows.div_ceil(64), 0);
            self.cursor.leave_block();
            let mut matches = false;
            for row in 0..rows {
                if !block.is_same_key(row) {
                    block.move_cursor(&mut self.cursor, row);
                    matches = self.predicate.matches_with(self.cursor.key(), &mut self.ends);
                }
                self.words[row / 64] |= u64::from(matches) << (row % 64);
            }
        }
        let kept: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        self.counters.add_rows(rows as u64 - kept);
    }

    /// The first row from `row` on that matches.
    #[inline]
    pub fn at_or_after(&self, row: usize) -> Option<usize> {
        let mut at = row / 64;
        let mut word = self.words.get(at)? & u64::MAX << (row % 64);
        while word == 0 {
            at += 1;
            word = *self.words.get(at)?;
        }
        Some(at * 64 + word.trailing_zeros() as usize)
    }

    /// The last row before `row` that matches.
    #[inline]
    pub fn before(&self, row: usize) -> Option<usize> {
        let mut at = row.checked_sub(1)? / 64;
        let mut word = self.words.get(at)? & u64::MAX >> (63 - (row - 1) % 64);
        while word == 0 {
            at = at.checked_sub(1)?;
            word = self.words[at];
        }
        Some(at * 64 + 63 - word.leading_zeros() as usize)
    }

    #[inline]
    pub fn has(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 != 0)
    }
}
