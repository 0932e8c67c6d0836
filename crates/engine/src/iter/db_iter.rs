//! [`DbIter`]: what a reader sees. Each user key at most once, with the newest value that the
//! reader's sequence number may see; tombstones, what they hide, older versions, newer versions and
//! counter entries are passed over. Knows nothing of where entries come from.
//!
//! ```text
//! standing Forward:  the merge stands on the entry shown; the value is borrowed from it
//! standing Backward: the merge stands before all versions of the shown key, because walking
//!                    backward meets the oldest version first: the value was copied on the way
//! ```
//!
//! Invariant while standing: `key` is the shown user key, inside the bounds.
//!
//! A key that was overwritten thousands of times (a counter in a memtable) must not cost thousands
//! of steps: after [`STEPS_MAX`] versions of one key a seek jumps over the rest.

use super::{Bounds, Cursor, MergeIter};
use sluice_base::{Error, ErrorKind, Kind, Result, SeqNo, Trailer};
use std::sync::Arc;

/// Versions of one key that are stepped over before a seek is tried. A seek in memory costs about
/// as much as this many steps.
const STEPS_MAX: usize = 8;

/// A place before every version of a key.
const NEWEST: Trailer = Trailer(u64::MAX);

/// A place at or after every version of a key.
const OLDEST: Trailer = Trailer(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Nowhere,
    Forward,
    Backward,
}

/// See the file's head. After an error it stands nowhere; `next` and `prev` repeat the error until a
/// seek succeeds, so that a reader may step around what is damaged.
#[derive(Debug)]
pub(crate) struct DbIter<C> {
    merge: MergeIter<C>,
    seq: SeqNo,
    bounds: Arc<Bounds>,
    standing: Standing,
    key: Vec<u8>,
    /// The value when standing Backward.
    value: Vec<u8>,
    error: Option<Error>,
    /// Values are not asked for, and not touched.
    keys_only: bool,
}

impl<C: Cursor> DbIter<C> {
    /// Shows what `seq` may see of `children` inside `bounds`. Stands nowhere yet.
    pub(crate) fn new(children: Vec<C>, seq: SeqNo, bounds: impl Into<Arc<Bounds>>) -> DbIter<C> {
        DbIter {
            merge: MergeIter::new(children),
            seq,
            bounds: bounds.into(),
            standing: Standing::Nowhere,
            key: Vec::new(),
            value: Vec::new(),
            error: None,
            keys_only: false,
        }
    }

    /// Shows keys without their values, which are empty then.
    pub(crate) fn keys_only(mut self, keys_only: bool) -> DbIter<C> {
        self.keys_only = keys_only;
        self
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<bool> {
        self.attempt(|iter| {
            let bounds = Arc::clone(&iter.bounds);
            match bounds.lower() {
                Some(lower) => iter.merge.seek(lower, NEWEST)?,
                None => iter.merge.seek_to_first()?,
            };
            iter.find_forward(false)
        })
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<bool> {
        self.attempt(|iter| {
            let bounds = Arc::clone(&iter.bounds);
            match bounds.upper() {
                Some(upper) => iter.merge.seek_for_prev(upper, NEWEST)?,
                None => iter.merge.seek_to_last()?,
            };
            iter.find_backward()
        })
    }

    /// To the first key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool> {
        if !self.bounds.above_lower(key) {
            return self.seek_to_first();
        }
        self.attempt(|iter| {
            if !iter.bounds.below_upper(key) {
                return Ok(false);
            }
            // Newer versions of this very key need not be met.
            iter.merge.seek(key, Trailer::seek(iter.seq))?;
            iter.find_forward(false)
        })
    }

    /// To the last key at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8]) -> Result<bool> {
        if !self.bounds.below_upper(key) {
            return self.seek_to_last();
        }
        self.attempt(|iter| {
            if !iter.bounds.above_lower(key) {
                return Ok(false);
            }
            iter.merge.seek_for_prev(key, OLDEST)?;
            iter.find_backward()
        })
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool> {
        let moved = match self.standing {
            Standing::Nowhere => return self.nowhere(),
            Standing::Forward => self.merge.next(),
            Standing::Backward => self.merge.seek(&self.key, OLDEST),
        };
        let found = moved.and_then(|_| self.find_forward(true));
        self.keep_error(found)
    }

    #[inline]
    pub(crate) fn prev(&mut self) -> Result<bool> {
        let moved = match self.standing {
            Standing::Nowhere => return self.nowhere(),
            Standing::Forward => self.merge.seek_for_prev(&self.key, NEWEST),
            Standing::Backward => Ok(true),
        };
        let found = moved.and_then(|_| self.find_backward());
        self.keep_error(found)
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.standing != Standing::Nowhere
    }

    /// The user key; empty when the iterator stands nowhere.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        if self.valid() { &self.key } else { &[] }
    }

    /// The value; empty when the iterator stands nowhere.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match self.standing {
            Standing::Nowhere => &[],
            Standing::Forward if self.keys_only => &[],
            Standing::Forward => self.merge.value(),
            Standing::Backward => &self.value,
        }
    }

    /// From where the merge stands on to the first entry to show. `passed`: entries of `self.key`
    /// are not shown any more.
    #[inline]
    fn find_forward(&mut self, passed: bool) -> Result<bool> {
        self.standing = Standing::Nowhere;
        // Whether `self.key` is the key being looked at, and whether its remaining versions are
        // hidden by one that was met.
        let (mut known, mut hidden) = (passed, passed);
        let mut steps = 0;
        while self.merge.valid() {
            let key = self.merge.key();
            if !known || key != self.key {
                if !self.bounds.below_upper(key) {
                    return Ok(false);
                }
                self.key.clear();
                self.key.extend_from_slice(key);
                (known, hidden, steps) = (true, false, 0);
            }
            let trailer = self.merge.trailer();
            if hidden || trailer.seq() > self.seq {
                steps += 1;
                if steps > STEPS_MAX {
                    steps = 0;
                    let target = if hidden { OLDEST } else { Trailer::seek(self.seq) };
                    self.merge.seek(&self.key, target)?;
                } else {
                    self.merge.next()?;
                }
                continue;
            }
            match kind(trailer)? {
                Kind::Put => {
                    self.standing = Standing::Forward;
                    return Ok(true);
                }
                Kind::Delete => hidden = true,
                Kind::Counter => {}
            }
            self.merge.next()?;
        }
        Ok(false)
    }

    /// From where the merge stands, at the oldest version of some key or nowhere, back to the first
    /// key to show.
    fn find_backward(&mut self) -> Result<bool> {
        self.standing = Standing::Nowhere;
        while self.merge.valid() {
            let key = self.merge.key();
            if !self.bounds.above_lower(key) {
                return Ok(false);
            }
            self.key.clear();
            self.key.extend_from_slice(key);
            if self.pass_backward()? {
                self.standing = Standing::Backward;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Walks back over all versions of `self.key`; true when it has a value, which is then in
    /// `self.value`.
    fn pass_backward(&mut self) -> Result<bool> {
        let mut found = false;
        for _ in 0..STEPS_MAX {
            let trailer = self.merge.trailer();
            // Each version met is newer than the last: it decides until the next one.
            if trailer.seq() <= self.seq {
                found = self.take_version(trailer)?.unwrap_or(found);
            }
            self.merge.prev()?;
            if !self.merge.valid() || self.merge.key() != self.key {
                return Ok(found);
            }
        }
        // Many versions: straight to the one that decides, then before them all. What was met so
        // far is older than it.
        self.merge.seek(&self.key, Trailer::seek(self.seq))?;
        while self.merge.valid() && self.merge.key() == self.key {
            if let Some(decided) = self.take_version(self.merge.trailer())? {
                found = decided;
                break;
            }
            self.merge.next()?;
        }
        self.merge.seek_for_prev(&self.key, NEWEST)?;
        Ok(found)
    }

    /// Takes the value of the version the merge stands on: false for a tombstone, `None` for what
    /// is neither.
    fn take_version(&mut self, trailer: Trailer) -> Result<Option<bool>> {
        match kind(trailer)? {
            Kind::Put => {
                self.value.clear();
                if !self.keys_only {
                    self.value.extend_from_slice(self.merge.value());
                }
                Ok(Some(true))
            }
            Kind::Delete => Ok(Some(false)),
            Kind::Counter => Ok(None),
        }
    }

    /// A move that does not depend on where the iterator stands: a past error is forgotten.
    fn attempt(&mut self, go: impl FnOnce(&mut Self) -> Result<bool>) -> Result<bool> {
        self.standing = Standing::Nowhere;
        self.error = None;
        let found = go(self);
        self.keep_error(found)
    }

    #[inline]
    fn keep_error(&mut self, found: Result<bool>) -> Result<bool> {
        if let Err(error) = &found {
            self.standing = Standing::Nowhere;
            self.error = Some(error.duplicate());
        }
        found
    }

    #[cold]
    fn nowhere(&self) -> Result<bool> {
        self.error.as_ref().map_or(Ok(false), |error| Err(error.duplicate()))
    }
}

#[inline]
fn kind(trailer: Trailer) -> Result<Kind> {
    trailer.kind().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "the entry at sequence number {} has kind {}, which this build does not know: \
                 open the database with the build that wrote it",
                trailer.seq(),
                trailer.0 as u8
            ),
        )
    })
}
