//! [`Source`]: one child of a merge, of whichever kind.

use super::{Cursor, LevelIter, Run, Selected};
use crate::memtable::MemtableIter;
use sluice_base::{Result, Trailer};
use sluice_table::RowRun;

/// One sorted source. `R` says what tables are and how they are opened.
#[derive(Debug)]
pub(crate) enum Source<R: Run> {
    Memtable(MemtableIter),
    /// A memtable, of which a predicate shows a part.
    Selected(Selected<MemtableIter>),
    /// One table of level 0, which overlaps others.
    Table(R::Cursor),
    /// A level below, whose tables do not overlap.
    Level(LevelIter<R>),
}

/// The same call on whatever the source is.
macro_rules! each {
    ($source:expr, $cursor:ident => $call:expr) => {
        match $source {
            Source::Memtable($cursor) => $call,
            Source::Selected($cursor) => $call,
            Source::Table($cursor) => $call,
            Source::Level($cursor) => $call,
        }
    };
}

impl<R: Run> Cursor for Source<R> {
    #[inline]
    fn seek_to_first(&mut self) -> Result<bool> {
        each!(self, cursor => Cursor::seek_to_first(cursor))
    }

    #[inline]
    fn seek_to_last(&mut self) -> Result<bool> {
        each!(self, cursor => Cursor::seek_to_last(cursor))
    }

    #[inline]
    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        each!(self, cursor => Cursor::seek(cursor, key, trailer))
    }

    #[inline]
    fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        each!(self, cursor => Cursor::seek_for_prev(cursor, key, trailer))
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        each!(self, cursor => Cursor::next(cursor))
    }

    #[inline]
    fn prev(&mut self) -> Result<bool> {
        each!(self, cursor => Cursor::prev(cursor))
    }

    #[inline]
    fn key(&self) -> &[u8] {
        each!(self, cursor => Cursor::key(cursor))
    }

    #[inline]
    fn trailer(&self) -> Trailer {
        each!(self, cursor => Cursor::trailer(cursor))
    }

    #[inline]
    fn value(&self) -> &[u8] {
        each!(self, cursor => Cursor::value(cursor))
    }

    #[inline]
    fn begins_block(&self) -> bool {
        each!(self, cursor => Cursor::begins_block(cursor))
    }

    fn run(&self, until: Option<(&[u8], Trailer)>) -> Option<RowRun<'_>> {
        each!(self, cursor => Cursor::run(cursor, until))
    }

    fn advance(&mut self, entries: usize) {
        each!(self, cursor => Cursor::advance(cursor, entries));
    }
}
