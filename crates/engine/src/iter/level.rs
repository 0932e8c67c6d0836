//! [`LevelIter`]: one sorted source made of the tables of a run, which are in key order and do not
//! overlap. Tables are opened when the iterator comes to them, so seeking in a level of a thousand
//! tables touches one.
//!
//! Versions of one user key may lie on both sides of a border between two tables, even in several
//! tables: a search begins in the first (or last) table that may hold the key, and goes on through
//! its neighbours for as long as they may hold it too.

use super::{Bounds, Cursor};
use sluice_base::{Result, Trailer};
use sluice_table::RowRun;
use std::sync::Arc;

/// The tables of a run. Implemented by the owner of tables; this module opens none itself.
pub(crate) trait Run {
    type Cursor: Cursor;

    fn len(&self) -> usize;
    /// The smallest user key of the table at `index`, which is below `len`.
    fn smallest(&self, index: usize) -> &[u8];
    /// The largest user key of the table at `index`.
    fn largest(&self, index: usize) -> &[u8];
    /// A cursor over the table at `index`, standing nowhere.
    fn open(&self, index: usize) -> Result<Self::Cursor>;
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct LevelIter<R: Run> {
    run: R,
    /// Tables wholly outside are not opened; entries outside may still be shown.
    bounds: Arc<Bounds>,
    /// The open table and its index; kept when the iterator runs off it, for the next seek.
    open: Option<(usize, R::Cursor)>,
    /// Whether the iterator stands on an entry, which is then the open table's.
    valid: bool,
}

impl<R: Run> LevelIter<R> {
    pub(crate) fn new(run: R) -> LevelIter<R> {
        LevelIter::bounded(run, Arc::default())
    }

    /// For a reader that will not look outside `bounds`.
    pub(crate) fn bounded(run: R, bounds: Arc<Bounds>) -> LevelIter<R> {
        LevelIter { run, bounds, open: None, valid: false }
    }

    /// The cursor over the table at `index`.
    fn table(&mut self, index: usize) -> Result<&mut R::Cursor> {
        let open = match self.open.take() {
            Some(open) if open.0 == index => open,
            _ => (index, self.run.open(index)?),
        };
        Ok(&mut self.open.insert(open).1)
    }

    /// Ends a forward move that began in the table at `index` and found an entry there or not:
    /// then the next tables are tried.
    fn forward(&mut self, mut index: usize, found: bool) -> Result<bool> {
        self.valid = found;
        while !self.valid {
            index += 1;
            if index >= self.run.len() || !self.bounds.below_upper(self.run.smallest(index)) {
                return Ok(false);
            }
            self.valid = self.table(index)?.seek_to_first()?;
        }
        Ok(true)
    }

    /// As [`LevelIter::forward`], the other way.
    fn backward(&mut self, mut index: usize, found: bool) -> Result<bool> {
        self.valid = found;
        while !self.valid {
            if index == 0 || !self.bounds.above_lower(self.run.largest(index - 1)) {
                return Ok(false);
            }
            index -= 1;
            self.valid = self.table(index)?.seek_to_last()?;
        }
        Ok(true)
    }

    fn on(&self) -> Option<&R::Cursor> {
        self.open.as_ref().filter(|_| self.valid).map(|open| &open.1)
    }
}

/// How many of `0..len` fulfil `is_before`, which holds for a first part and for none after it.
fn partition(len: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

impl<R: Run> Cursor for LevelIter<R> {
    fn seek_to_first(&mut self) -> Result<bool> {
        self.valid = false;
        if self.run.len() == 0 || !self.bounds.below_upper(self.run.smallest(0)) {
            return Ok(false);
        }
        let found = self.table(0)?.seek_to_first()?;
        self.forward(0, found)
    }

    fn seek_to_last(&mut self) -> Result<bool> {
        self.valid = false;
        self.backward(self.run.len(), false)
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        // Not `<=`: the table whose largest key is this one may hold an older version of it.
        let len = self.run.len();
        let mut index = partition(len, |index| self.run.largest(index) < key);
        if index == len || !self.bounds.below_upper(self.run.smallest(index)) {
            return Ok(false);
        }
        let mut found = self.table(index)?.seek(key, trailer)?;
        while !found && index + 1 < len && self.run.smallest(index + 1) == key {
            index += 1;
            found = self.table(index)?.seek(key, trailer)?;
        }
        self.forward(index, found)
    }

    fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        let until = partition(self.run.len(), |index| self.run.smallest(index) <= key);
        let Some(mut index) = until.checked_sub(1) else { return Ok(false) };
        if !self.bounds.above_lower(self.run.largest(index)) {
            return Ok(false);
        }
        let mut found = self.table(index)?.seek_for_prev(key, trailer)?;
        while !found && index > 0 && self.run.largest(index - 1) == key {
            index -= 1;
            found = self.table(index)?.seek_for_prev(key, trailer)?;
        }
        self.backward(index, found)
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        let Some((index, cursor)) = self.open.as_mut().filter(|_| self.valid) else {
            return Ok(false);
        };
        // Off until the move has worked: an error leaves the iterator nowhere.
        self.valid = false;
        let (index, found) = (*index, cursor.next()?);
        self.forward(index, found)
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        let Some((index, cursor)) = self.open.as_mut().filter(|_| self.valid) else {
            return Ok(false);
        };
        self.valid = false;
        let (index, found) = (*index, cursor.prev()?);
        self.backward(index, found)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.on().map_or(&[], |cursor| cursor.key())
    }

    #[inline]
    fn trailer(&self) -> Trailer {
        self.on().map_or(Trailer(0), |cursor| cursor.trailer())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.on().map_or(&[], |cursor| cursor.value())
    }

    #[inline]
    fn begins_block(&self) -> bool {
        self.on().is_some_and(Cursor::begins_block)
    }

    fn run(&self, until: Option<(&[u8], Trailer)>) -> Option<RowRun<'_>> {
        self.on()?.run(until)
    }

    fn advance(&mut self, entries: usize) {
        if let Some((_, cursor)) = self.open.as_mut().filter(|_| self.valid) {
            cursor.advance(entries);
        }
    }
}
