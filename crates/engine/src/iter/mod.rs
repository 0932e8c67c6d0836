//! Iterators: from sorted sources of versions to the one order a reader sees.
//!
//! ```text
//! DbIter      each user key once, as of one sequence number, inside bounds
//!   MergeIter   every entry of every source in internal order, both ways
//!     Source      one sorted source:
//!       MemtableIter
//!       Selected                 a memtable under a predicate
//!       TableIter                one table (level 0)
//!       LevelIter                a run of tables that do not overlap, opened one at a time
//! ```
//!
//! Internal order is user key bytewise ascending, then trailer descending. Everything below
//! [`DbIter`] shows raw entries; only [`DbIter`] knows what a tombstone or a sequence number means.
//!
//! The sources are dispatched by `match` and by type, never through a box: a step of a scan is a
//! few inlined comparisons.

mod bounds;
mod cursor;
mod db_iter;
mod level;
mod merge;
mod selected;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use bounds::Bounds;
pub(crate) use cursor::Cursor;
pub(crate) use db_iter::DbIter;
pub(crate) use level::{LevelIter, Run};
pub(crate) use merge::MergeIter;
pub(crate) use selected::Selected;
pub(crate) use source::Source;
