//! Walks a table in both directions.
//!
//! States: *on a row* (`block` is there and `valid`), or *nowhere* (before the first move, past
//! either end, after an error). Moves on an iterator that is nowhere do nothing and say false.
//!
//! The key lies in a buffer of the iterator's own, of which a move rewrites only the suffix; under a
//! key schema of several fields it is built when it is asked for first. The value is borrowed from
//! the block, and not touched before it is asked for.
//!
//! With a predicate the iterator is one over the entries that match, as if there were no others:
//! `selection` says which rows those are, and which blocks need not be loaded.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use sluice_base::{Result, Trailer};

use crate::{
    block::Block,
    column::KeyCursor,
    predicate::KeyPredicate,
    readahead::Readahead,
    selection::{Selection, SkipCounters},
    table::Table,
    two_level::{IndexWalker, PartitionSource},
};

/// How an iterator reads blocks.
#[derive(Debug, Clone)]
pub struct IterOptions {
    /// Whether blocks read from the file enter the cache. Off for scans and compactions, which
    /// would push out what point reads need.
    pub fill_cache: bool,
    /// Read the file in pieces of this size ahead of a forward walk; 0 reads block by block.
    pub readahead_bytes: usize,
    /// Show only entries whose key matches.
    pub predicate: Option<Arc<KeyPredicate>>,
    /// With a predicate: nobody looks at keys before `lower`, nor at `upper` and behind. The search for
    /// a match ends there; entries outside may still be shown.
    pub lower: Option<Arc<[u8]>>,
    pub upper: Option<Arc<[u8]>>,
    /// Nobody looks at keys that do not begin so: a table whose filter of prefixes does not know it
    /// shows nothing.
    pub prefix: Option<Arc<[u8]>>,
    /// Where to count what the predicate spared.
    pub skips: Option<Arc<SkipCounters>>,
}

impl IterOptions {
    /// For compaction inputs: 256 KiB reads, nothing enters the cache.
    pub fn sequential() -> IterOptions {
        IterOptions { fill_cache: false, readahead_bytes: 256 << 10, ..IterOptions::default() }
    }
}

impl Default for IterOptions {
    fn default() -> Self {
        IterOptions {
            fill_cache: true,
            readahead_bytes: 0,
            predicate: None,
            lower: None,
            upper: None,
            prefix: None,
            skips: None,
        }
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
    /// With a predicate: which rows are shown.
    selection: Option<Box<Selection>>,
    /// Nothing is there to be shown: nothing is read.
    nothing: bool,
    /// With a predicate: the range of keys, and the blocks that can hold them, once they were looked
    /// for.
    lower: Option<Arc<[u8]>>,
    upper: Option<Arc<[u8]>>,
    blocks: Option<(usize, usize)>,
    walker: IndexWalker,
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
        let skips = options.skips.unwrap_or_default();
        let wanted = options.predicate.as_ref().map(|predicate| predicate.key_prefix());
        let mut prefixes = wanted.into_iter().chain(options.prefix.as_deref());
        let absent = prefixes.any(|prefix| !table.may_contain_prefix(prefix));
        if absent {
            skips.add_table();
        }
        let nothing =
            absent || options.predicate.as_ref().is_some_and(|predicate| predicate.is_never());
        let select = |predicate| Box::new(Selection::new(predicate, table.schema(), skips));
        TableIter {
            fields: !table.schema().is_whole_key(),
            selection: options.predicate.map(select),
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
            nothing,
            lower: options.lower,
            upper: options.upper,
            blocks: None,
            walker: IndexWalker::new(match options.fill_cache {
                true => PartitionSource::Cache,
                false => PartitionSource::Peek,
            }),
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
        if self.nothing {
            return Ok(false);
        }
        if self.selection.is_some() {
            return self.select_from(0);
        }
        self.enter(0)?;
        Ok(self.settle(0))
    }

    /// Goes to the last entry.
    pub fn seek_to_last(&mut self) -> Result<bool> {
        if self.nothing {
            return Ok(false);
        }
        let blocks = self.table.blocks();
        if self.selection.is_some() {
            return self.select_before(blocks);
        }
        self.enter(blocks - 1)?;
        Ok(self.settle(self.rows - 1))
    }

    /// Goes to the first entry at or after (`key`, `trailer`).
    pub fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        if self.nothing {
            return Ok(false);
        }
        if self.selection.is_some() {
            return self.seek_selected(key, trailer);
        }
        Ok(self.seek_found(key, trailer)?.is_some())
    }

    /// Goes to the last entry at or before (`key`, `trailer`).
    pub fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        if self.nothing {
            return Ok(false);
        }
        if self.selection.is_some() {
            return self.seek_selected_for_prev(key, trailer);
        }
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
        if self.valid && self.row + 1 < self.rows && self.selection.is_none() {
            return Ok(self.settle(self.row + 1));
        }
        self.next_block()
    }

    /// Goes to the entry before.
    #[inline]
    pub fn prev(&mut self) -> Result<bool> {
        if self.valid && self.row > 0 && self.selection.is_none() {
            return Ok(self.settle(self.row - 1));
        }
        self.prev_block()
    }

    /// Goes to the first entry of the next user key, over all older versions of this one.
    pub fn next_key(&mut self) -> Result<bool> {
        while self.valid {
            let Some(block) = &self.block else { return Ok(false) };
            let row = block.next_key_row(self.row);
            let row = match &self.selection {
                Some(selection) => selection.at_or_after(row).unwrap_or(self.rows),
                None => row,
            };
            if row < self.rows {
                return Ok(self.settle(row));
            }
            // The block's end cannot tell: the next block may begin with the same key.
            let before = self.key().to_vec();
            self.row = self.rows - 1;
            if !self.next_block()? || self.key() != before {
                return Ok(self.valid);
            }
        }
        Ok(false)
    }

    /// Seeks, and says whether the entry found has the user key `key`; `None` past the end.
    fn seek_found(&mut self, key: &[u8], trailer: Trailer) -> Result<Option<bool>> {
        self.valid = false;
        let at = self.find(key, trailer)?;
        if at == self.table.blocks() {
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
        if at + 1 == self.table.blocks() {
            return Ok(None);
        }
        self.enter(at + 1)?;
        self.settle(0);
        Ok(Some(false))
    }

    /// The next entry is not the next row.
    #[cold]
    fn next_block(&mut self) -> Result<bool> {
        if !self.valid {
            return Ok(false);
        }
        if self.selection.is_some() {
            return self.select_forward(self.row + 1);
        }
        if self.at + 1 == self.table.blocks() {
            self.valid = false;
            return Ok(false);
        }
        self.enter(self.at + 1)?;
        Ok(self.settle(0))
    }

    #[cold]
    fn prev_block(&mut self) -> Result<bool> {
        if !self.valid {
            return Ok(false);
        }
        if self.selection.is_some() {
            return self.select_backward(self.row);
        }
        if self.at == 0 {
            self.valid = false;
            return Ok(false);
        }
        self.enter(self.at - 1)?;
        Ok(self.settle(self.rows - 1))
    }

    /// Goes to the first row from `row` of the current block on that is shown.
    fn select_forward(&mut self, row: usize) -> Result<bool> {
        match self.selection.as_ref().and_then(|selection| selection.at_or_after(row)) {
            Some(row) => Ok(self.settle(row)),
            None => self.select_from(self.at + 1),
        }
    }

    /// Goes to the last row before `row` of the current block that is shown.
    fn select_backward(&mut self, row: usize) -> Result<bool> {
        match self.selection.as_ref().and_then(|selection| selection.before(row)) {
            Some(row) => Ok(self.settle(row)),
            None => self.select_before(self.at),
        }
    }

    /// Goes to the first shown row of the blocks from `at` on.
    fn select_from(&mut self, mut at: usize) -> Result<bool> {
        self.valid = false;
        loop {
            at = self.skip_forward(at)?;
            if at == self.table.blocks() {
                return Ok(false);
            }
            self.enter(at)?;
            if let Some(row) = self.selection.as_ref().and_then(|shown| shown.at_or_after(0)) {
                return Ok(self.settle(row));
            }
            at += 1;
        }
    }

    /// Goes to the last shown row of the blocks before `end`.
    fn select_before(&mut self, mut end: usize) -> Result<bool> {
        self.valid = false;
        loop {
            end = self.skip_backward(end)?;
            let Some(at) = end.checked_sub(1) else { return Ok(false) };
            self.enter(at)?;
            if let Some(row) = self.selection.as_ref().and_then(|shown| shown.before(self.rows)) {
                return Ok(self.settle(row));
            }
            end = at;
        }
    }

    fn seek_selected(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        let wanted = self.find(key, trailer)?;
        let at = self.skip_forward(wanted)?;
        if at != wanted || at == self.table.blocks() {
            return self.select_from(at);
        }
        self.enter(at)?;
        let Some(block) = &self.block else { return Ok(false) };
        let (row, _) = block.find(key, trailer);
        self.select_forward(row)
    }

    fn seek_selected_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        let wanted = self.find(key, trailer)?;
        if wanted == self.table.blocks() {
            return self.select_before(wanted);
        }
        let end = self.skip_backward(wanted + 1)?;
        if end != wanted + 1 {
            return self.select_before(end);
        }
        self.enter(wanted)?;
        let (Some(block), Some(selection)) = (&self.block, &self.selection) else {
            return Ok(false);
        };
        let (row, equal) = block.find(key, trailer);
        if row < self.rows && equal && block.trailer(row) == trailer && selection.has(row) {
            return Ok(self.settle(row));
        }
        self.select_backward(row)
    }

    /// The first block from `at` on that may have a row to show; the number of blocks if none has.
    fn skip_forward(&mut self, at: usize) -> Result<usize> {
        let blocks = self.table.blocks();
        let (first, end) = self.range()?;
        let Some(selection) = &self.selection else { return Ok(at) };
        let at = at.max(first);
        let found = match selection.by_statistics() {
            Some(predicate) => self.walker.first_match(&self.table, predicate, at..end)?,
            None => (at < end).then_some(at),
        };
        let until = found.unwrap_or(end.max(at));
        selection.count_skipped((until - at) as u64);
        Ok(found.unwrap_or(blocks))
    }

    /// The last such block before `end`, plus one; 0 if there is none.
    fn skip_backward(&mut self, end: usize) -> Result<usize> {
        let (first, last) = self.range()?;
        let Some(selection) = &self.selection else { return Ok(end) };
        let end = end.min(last);
        let found = match selection.by_statistics() {
            Some(predicate) => self.walker.last_match(&self.table, predicate, first..end)?,
            None => end.checked_sub(1).filter(|&at| at >= first),
        };
        let until = found.map_or(first.min(end), |at| at + 1);
        selection.count_skipped((end - until) as u64);
        Ok(found.map_or(0, |at| at + 1))
    }

    /// The blocks that can hold a key of the wanted range: the first, and the one behind the last.
    fn range(&mut self) -> Result<(usize, usize)> {
        if let Some(range) = self.blocks {
            return Ok(range);
        }
        let mut range = (0, self.table.blocks());
        if let Some(lower) = self.lower.clone() {
            range.0 = self.find(&lower, Trailer(u64::MAX))?.min(range.1);
        }
        if let Some(upper) = self.upper.clone() {
            // Its block is the last that can hold a smaller key.
            range.1 = range.1.min(self.find(&upper, Trailer(u64::MAX))? + 1);
        }
        self.blocks = Some(range);
        Ok(range)
    }

    /// The first block that can hold an entry at or after (`key`, `trailer`).
    #[inline]
    fn find(&mut self, key: &[u8], trailer: Trailer) -> Result<usize> {
        self.walker.find(&self.table, key, trailer)
    }

    /// Makes `at` the current block. Blocks are never empty.
    fn enter(&mut self, at: usize) -> Result<()> {
        self.valid = false;
        if self.block.is_some() && self.at == at {
            return Ok(());
        }
        self.block = None;
        let handle = self.walker.handle(&self.table, at)?;
        let block = match &mut self.readahead {
            Some(readahead) => readahead.block(&self.table, handle)?,
            None => self.table.block_at(handle, self.fill_cache)?,
        };
        self.rows = block.rows();
        if let Some(selection) = &mut self.selection {
            selection.load(&block);
        }
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
