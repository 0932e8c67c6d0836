//! [`MemtableIter`]: stands on one entry of a memtable, or on none, and keeps the memtable alive.
//!
//! Entries inserted while it stands somewhere are met or not met; what was there before is always
//! met, in order, in both directions.

use super::{Memtable, skiplist::Cursor, sync::Arc};
use sluice_base::Trailer;
use std::fmt;

/// See the file's head. All moves say whether the iterator stands on an entry afterwards.
pub struct MemtableIter(Cursor);

impl MemtableIter {
    /// Stands on nothing yet.
    pub fn new(memtable: Arc<Memtable>) -> MemtableIter {
        MemtableIter(Cursor::new(memtable))
    }

    pub fn seek_to_first(&mut self) -> bool {
        self.0.go(|list, _| list.first())
    }

    pub fn seek_to_last(&mut self) -> bool {
        self.0.go(|list, _| list.last())
    }

    /// To the first entry at or after (`key`, `trailer`).
    #[inline]
    pub fn seek(&mut self, key: &[u8], trailer: Trailer) -> bool {
        self.0.go(|list, _| list.seek(key, trailer))
    }

    /// To the last entry at or before (`key`, `trailer`).
    #[inline]
    pub fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> bool {
        self.0.go(|list, _| list.seek_for_prev(key, trailer))
    }

    /// Nothing happens when it stands on no entry.
    #[inline]
    pub fn next(&mut self) -> bool {
        self.0.go(|list, at| list.next(at?))
    }

    /// Nothing happens when it stands on no entry.
    #[inline]
    pub fn prev(&mut self) -> bool {
        self.0.go(|list, at| list.prev(at?))
    }

    #[inline]
    pub fn valid(&self) -> bool {
        self.0.node().is_some()
    }

    /// The user key; empty when the iterator stands on no entry.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.0.node().map_or(&[], |node| node.key())
    }

    /// `Trailer(0)` when the iterator stands on no entry.
    #[inline]
    pub fn trailer(&self) -> Trailer {
        self.0.node().map_or(Trailer(0), |node| node.trailer())
    }

    /// Empty when the iterator stands on no entry.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.0.node().map_or(&[], |node| node.value())
    }
}

impl fmt::Debug for MemtableIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("MemtableIter");
        if self.valid() {
            out.field("key", &self.key()).field("trailer", &self.trailer());
        }
        out.finish_non_exhaustive()
    }
}
