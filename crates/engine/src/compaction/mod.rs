//! Compaction: which tables to merge, and where to.

pub mod picker;
