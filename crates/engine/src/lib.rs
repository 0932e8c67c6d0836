//! placeholder
#![allow(dead_code, unused_imports, missing_debug_implementations)]
mod iter;
mod memtable;
#[doc(hidden)]
pub mod bench_access {
    pub use crate::memtable::{Memtable, MemtableIter};
}
