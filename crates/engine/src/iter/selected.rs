//! [`Selected`]: a sorted source of whole keys, reduced to those that match a predicate. For memtables;
//! tables know better ways (`sluice_table::IterOptions`).
//!
//! Why this may happen below the merge: all versions of a user key match or none does, in every
//! source, because a predicate asks the key alone, by its own schema. `sluice_table::KeyPredicate` has
//! the argument.

use super::{Bounds, Cursor};
use sluice_base::{Result, Trailer};
use sluice_table::{KeyPredicate, SkipCounters};
use std::sync::Arc;

/// See the file's head. Stands on a matching entry of the inner source, or nowhere.
#[derive(Debug)]
pub(crate) struct Selected<C> {
    inner: C,
    predicate: Arc<KeyPredicate>,
    /// Nobody looks outside: the search for a match ends there.
    bounds: Arc<Bounds>,
    skips: Arc<SkipCounters>,
    ends: Vec<usize>,
    valid: bool,
}

impl<C: Cursor> Selected<C> {
    pub(crate) fn new(
        inner: C,
        predicate: Arc<KeyPredicate>,
        bounds: Arc<Bounds>,
        skips: Arc<SkipCounters>,
    ) -> Selected<C> {
        Selected { inner, predicate, bounds, skips, ends: Vec::new(), valid: false }
    }

    /// Goes on to a match after a move that found an entry or not.
    fn forward(&mut self, mut found: bool) -> Result<bool> {
        let mut passed = 0;
        while found && !self.predicate.matches_with(self.inner.key(), &mut self.ends) {
            if !self.bounds.below_upper(self.inner.key()) {
                found = false;
                break;
            }
            passed += 1;
            found = self.inner.next()?;
        }
        self.settle(passed, found)
    }

    fn backward(&mut self, mut found: bool) -> Result<bool> {
        let mut passed = 0;
        while found && !self.predicate.matches_with(self.inner.key(), &mut self.ends) {
            if !self.bounds.above_lower(self.inner.key()) {
                found = false;
                break;
            }
            passed += 1;
            found = self.inner.prev()?;
        }
        self.settle(passed, found)
    }

    fn settle(&mut self, passed: u64, found: bool) -> Result<bool> {
        if passed > 0 {
            self.skips.add_rows(passed);
        }
        self.valid = found;
        Ok(found)
    }
}

impl<C: Cursor> Cursor for Selected<C> {
    fn seek_to_first(&mut self) -> Result<bool> {
        self.valid = false;
        let found = self.inner.seek_to_first()?;
        self.forward(found)
    }

    fn seek_to_last(&mut self) -> Result<bool> {
        self.valid = false;
        let found = self.inner.seek_to_last()?;
        self.backward(found)
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        let found = self.inner.seek(key, trailer)?;
        self.forward(found)
    }

    fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        let found = self.inner.seek_for_prev(key, trailer)?;
        self.backward(found)
    }

    fn next(&mut self) -> Result<bool> {
        if !std::mem::take(&mut self.valid) {
            return Ok(false);
        }
        let found = self.inner.next()?;
        self.forward(found)
    }

    fn prev(&mut self) -> Result<bool> {
        if !std::mem::take(&mut self.valid) {
            return Ok(false);
        }
        let found = self.inner.prev()?;
        self.backward(found)
    }

    fn key(&self) -> &[u8] {
        if self.valid { self.inner.key() } else { &[] }
    }

    fn trailer(&self) -> Trailer {
        if self.valid { self.inner.trailer() } else { Trailer(0) }
    }

    fn value(&self) -> &[u8] {
        if self.valid { self.inner.value() } else { &[] }
    }
}
