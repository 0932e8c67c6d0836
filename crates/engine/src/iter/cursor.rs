//! [`Cursor`]: what every sorted source of entries can do. A seam for generic code and tests;
//! nothing calls it through a pointer.

use crate::memtable::MemtableIter;
use sluice_base::{Result, Trailer};
use sluice_table::RowRun;

/// Stands on one entry, or on none. Moves say whether it stands on one afterwards; `next` and `prev`
/// from nowhere lead nowhere. After an error it stands on none until a seek succeeds.
pub(crate) trait Cursor {
    fn seek_to_first(&mut self) -> Result<bool>;
    fn seek_to_last(&mut self) -> Result<bool>;
    /// To the first entry at or after (`key`, `trailer`).
    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool>;
    /// To the last entry at or before (`key`, `trailer`).
    fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool>;
    fn next(&mut self) -> Result<bool>;
    fn prev(&mut self) -> Result<bool>;

    /// The user key; empty when it stands on no entry, as the value then is.
    fn key(&self) -> &[u8];
    fn trailer(&self) -> Trailer;
    fn value(&self) -> &[u8];

    /// Whether it stands on the first entry of a block.
    fn begins_block(&self) -> bool {
        false
    }
    /// The entries from the present one on that lie in its block, as far as [`RowRun`] allows and before
    /// `until`. `None` for sources without blocks.
    fn run(&self, _until: Option<(&[u8], Trailer)>) -> Option<RowRun<'_>> {
        None
    }
    /// Goes forward by `entries` of a run, its length less one at most.
    fn advance(&mut self, _entries: usize) {}
}

impl Cursor for MemtableIter {
    #[inline]
    fn seek_to_first(&mut self) -> Result<bool> {
        Ok(MemtableIter::seek_to_first(self))
    }

    #[inline]
    fn seek_to_last(&mut self) -> Result<bool> {
        Ok(MemtableIter::seek_to_last(self))
    }

    #[inline]
    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        Ok(MemtableIter::seek(self, key, trailer))
    }

    #[inline]
    fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        Ok(MemtableIter::seek_for_prev(self, key, trailer))
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        Ok(MemtableIter::next(self))
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        Ok(MemtableIter::prev(self))
    }

    #[inline]
    fn key(&self) -> &[u8] {
        MemtableIter::key(self)
    }

    #[inline]
    fn trailer(&self) -> Trailer {
        MemtableIter::trailer(self)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        MemtableIter::value(self)
    }
}
