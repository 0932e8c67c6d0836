//! Walks a table in both directions.
//!
//! States: *on a row* (`block` is there and `valid`), or *nowhere* (before the first move, past
//! either end, after an error). Moves on an iterator that is nowhere do nothing and say false.
//!
//! The key lies in a buffer of the iterator's own, of which a move rewrites only the suffix; under a
//! key schema of several fields it is built when it is asked for first. The value is borrowed from
//! the block, and not touched before it is asked for.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use sluice_base::{Result, Trailer};

use crate::{block::Block, column::KeyCursor, readahead::Readahead, table::Table};

/// How an iterator reads blocks.
#[derive(Debug, Clone)]
pub struct IterOptions {
    /// Whether blocks read from the file enter the cache. Off for scans and compactions, which
    /// would push out what point reads need.
    pub fill_cache: bool,
    /// Read the file in pieces of this size ahead of a forward walk; 0 reads block by block.
    pub readahead_bytes: usize,
}

impl IterOptions {
    /// For compaction inputs: 256 KiB reads, nothing enters the cache.
    pub fn sequential() -> IterOptions {
        IterOptions { fill_cache: false, readahead_bytes: 256 << 10 }
    }
}

impl Default for IterOptions {
    fn default() -> Self {
        IterOptions { fill_cache: true, readahead_bytes: 0 }
    }
}

/// An iterator over the entries of a table.
#[derive(Debug)]
pub struct TableIter {
    table: Arc<Table>,
    fill_cache: bool,
    readahead: Option<Readahead>,
    /// The current block and its number; kept while nowhere, so that a seek back costs nothing.
    block: Option<Arc<Block>>,
    at: usize,
    row: usize,
    rows: usize,
    valid: bool,
    /// The table's schema has several fields, so `late` has the key, else `cursor`.
    fields: bool,
    cursor: KeyCursor,
    late: LateKey,
}

/// The key of a row, built when it is asked for. The buffer is kept from row to row.
#[derive(Default)]
struct LateKey {
    built: OnceCell<Box<KeyCursor>>,
    /// Behind a pointer, as it goes to and fro.
    spare: Cell<Option<Box<KeyCursor>>>,
}

impl std::fmt::Debug for LateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateKey").field("built", &self.built).finish_non_exhaustive()
    }
}

impl LateKey {
    /// Forgets the key, and keeps its buffer.
    #[inline]
    fn forget(&mut self) {
        if let Some(cursor) = self.built.take() {
            self.spare.set(Some(cursor));
        }
    }

    fn leave_block(&mut self) {
        self.forget();
        if let Some(cursor) = self.spare.get_mut() {
            cursor.leave_block();
        }
    }

    #[inline]
    fn get(&self, block: &Block, row: usize) -> &[u8] {
        let build = || {
            let mut cursor = self.spare.take().unwrap_or_default();
            block.move_cursor(&mut cursor, row);
            cursor
        };
        self.built.get_or_init(build).key()
    }
}

impl TableIter {
    /// An iterator that is nowhere yet.
    pub fn new(table: Arc<Table>, options: IterOptions) -> TableIter {
        TableIter {
            fields: !table.schema().is_whole_key(),
            table,
            fill_cache: options.fill_cache,
            readahead: (options.readahead_bytes > 0)
                .then(|| Readahead::new(options.readahead_bytes)),
            block: None,
            at: 0,
            row: 0,
            rows: 0,
            valid: false,
            cursor: KeyCursor::new(),
            late: LateKey::default(),
        }
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Whether the iterator is on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.valid
    }

    /// The user key; empty when nowhere.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match &self.block {
            _ if !self.valid => &[],
            Some(block) if self.fields => self.late.get(block, self.row),
            _ => self.cursor.key(),
        }
    }

    /// The trailer; 0 when nowhere.
    #[inline]
    pub fn trailer(&self) -> Trailer {
        match &self.block {
            Some(block) if self.valid => block.trailer(self.row),
            _ => Trailer(0),
        }
    }

    /// The value; empty when nowhere.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match &self.block {
            Some(block) if self.valid => block.value(self.row),
            _ => &[],
        }
    }

    /// Goes to the first entry.
    pub fn seek_to_first(&mut self) -> Result<bool> {
        self.enter(0)?;
        Ok(self.settle(0))
    }

    /// Goes to the last entry.
    pub fn seek_to_last(&mut self) -> Result<bool> {
        self.enter(self.table.index().blocks() - 1)?;
        Ok(self.settle(self.rows - 1))
    }

    /// Goes to the first entry at or after (`key`, `trailer`).
    pub fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        Ok(self.seek_found(key, trailer)?.is_some())
    }

    /// Goes to the last entry at or before (`key`, `trailer`).
    pub fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        match self.seek_found(key, trailer)? {
            Some(true) if self.trailer() == trailer => Ok(true),
            Some(_) => self.prev(),
            None => self.seek_to_last(),
        }
    }

    /// Goes to the next entry.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "it moves a cursor; std's yields items")]
    pub fn next(&mut self) -> Result<bool> {
        if self.valid && self.row + 1 < self.rows {
            return Ok(self.settle(self.row + 1));
        }
        self.next_block()
    }

    /// Goes to the entry before.
    #[inline]
    pub fn prev(&mut self) -> Result<bool> {
        if self.valid && self.row > 0 {
            return Ok(self.settle(self.row - 1));
        }
        self.prev_block()
    }

    /// Goes to the first entry of the next user key, over all older versions of this one.
    pub fn next_key(&mut self) -> Result<bool> {
        while self.valid {
            let row = match &self.block {
                Some(block) => block.next_key_row(self.row),
                None => return Ok(false),
            };
            if row < self.rows {
                return Ok(self.settle(row));
            }
            // The block's end cannot tell: the next block may begin with the same key.
            let before = self.key().to_vec();
            if !self.next_block()? || self.key() != before {
                return Ok(self.valid);
            }
        }
        Ok(false)
    }

    /// Seeks, and says whether the entry found has the user key `key`; `None` past the end.
    fn seek_found(&mut self, key: &[u8], trailer: Trailer) -> Result<Option<bool>> {
        self.valid = false;
        let at = self.table.index().find(key, trailer);
        if at == self.table.index().blocks() {
            return Ok(None);
        }
        self.enter(at)?;
        let Some(block) = &self.block else { return Ok(None) };
        let (row, equal) = block.find(key, trailer);
        if row < self.rows {
            self.settle(row);
            return Ok(Some(equal));
        }
        // Between this block's last entry and its separator.
        if at + 1 == self.table.index().blocks() {
            return Ok(None);
        }
        self.enter(at + 1)?;
        self.settle(0);
        Ok(Some(false))
    }

    #[cold]
    fn next_block(&mut self) -> Result<bool> {
        if !self.valid || self.at + 1 == self.table.index().blocks() {
            self.valid = false;
            return Ok(false);
        }
        self.enter(self.at + 1)?;
        Ok(self.settle(0))
    }

    #[cold]
    fn prev_block(&mut self) -> Result<bool> {
        if !self.valid || self.at == 0 {
            self.valid = false;
            return Ok(false);
        }
        self.enter(self.at - 1)?;
        Ok(self.settle(self.rows - 1))
    }

    /// Makes `at` the current block. Blocks are never empty.
    fn enter(&mut self, at: usize) -> Result<()> {
        self.valid = false;
        if self.block.is_some() && self.at == at {
            return Ok(());
        }
        self.block = None;
        let block = match &mut self.readahead {
            Some(readahead) => readahead.block(&self.table, at)?,
            None => self.table.block(at, self.fill_cache)?,
        };
        self.rows = block.rows();
        self.block = Some(block);
        self.at = at;
        self.cursor.leave_block();
        self.late.leave_block();
        Ok(())
    }

    /// Makes `row` of the current block the current entry.
    #[inline]
    fn settle(&mut self, row: usize) -> bool {
        self.valid = match &self.block {
            Some(block) => {
                if self.fields {
                    self.late.forget();
                } else {
                    block.move_whole_key(&mut self.cursor, row);
                }
                self.row = row;
                true
            }
            None => false,
        };
        self.valid
    }
}
