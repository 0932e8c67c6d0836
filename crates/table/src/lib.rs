//! SSTables made of columnar blocks: sorted, immutable files of entries.
//!
//! An entry is a user key, a [`Trailer`](sluice_base::Trailer) (sequence number and kind) and a
//! value. Entries sort bytewise by key, then by trailer descending, so the newest version of a key
//! comes first. This crate knows files and blocks; it knows no database, no levels, and does not
//! decide what is live.
//!
//! ```text
//! TableWriter                                     Table (Arc, pinned index and filter)
//!   rows -> block_builder -> columns                get: filter -> index -> BlockCache -> Block
//!        -> envelope (LZ4, CRC) -> file             TableIter: both ways, readahead if asked
//! ```
//! ```
//! use std::{path::Path, sync::Arc};
//!
//! use sluice_base::{FileNo, Kind, SeqNo, Trailer};
//! use sluice_env::{Fs, MemFs};
//! use sluice_table::{
//!     BlockCache, IterOptions, Table, TableIter, TableOptions, TableWriter, filter_hash,
//! };
//!
//! # fn main() -> sluice_base::Result<()> {
//! let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
//! let path = Path::new("/000001.sst");
//! let mut writer = TableWriter::create(&fs, path, FileNo(1), TableOptions::default())?;
//! writer.add(b"apple", Trailer::new(SeqNo(2), Kind::Put), b"red")?;
//! writer.add(b"apple", Trailer::new(SeqNo(1), Kind::Put), b"green")?;
//! writer.add(b"pear", Trailer::new(SeqNo(3), Kind::Delete), b"")?;
//! assert_eq!(writer.finish()?.entries, 3);
//!
//! let cache = BlockCache::new(1 << 20);
//! let table = Arc::new(Table::open(&fs, path, FileNo(1), &cache)?);
//! let (trailer, value) = table
//!     .get(b"apple", filter_hash(b"apple"), Trailer::seek(SeqNo(1)))?
//!     .expect("the version that a read at 1 sees");
//! assert_eq!((trailer.seq(), &value[..]), (SeqNo(1), &b"green"[..]));
//!
//! let mut iter = TableIter::new(table, IterOptions::default());
//! assert!(iter.seek_to_last()?);
//! assert_eq!(iter.key(), b"pear");
//! # Ok(())
//! # }
//! ```
//! Where to read first: `format` (the numbers), `layout` and `column` (the bytes of a block),
//! `table` (the read path), `writer`. `docs/format/table.md` is the specification.
//!
//! *Invariants.* Bytes from disk are checked when they are loaded: checksum, then structure. After
//! that reads index without decoding and without failing; no bytes make this crate panic. Every
//! refusal names file and offset. There is no `unsafe` here.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod bare;
mod block;
mod block_builder;
mod cache;
mod column;
mod envelope;
mod fault;
mod field_stats;
mod filter;
mod footer;
pub mod format;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod inspect;
mod iter;
mod key_columns;
mod layout;
mod output;
mod predicate;
mod properties;
mod readahead;
mod run;
mod schema;
mod selection;
mod table;
mod two_level;
mod verify;
mod writer;

pub use cache::{BlockCache, CacheStats};
pub use envelope::Compression;
pub use filter::filter_hash;
pub use index::BlockStats;
pub use inspect::{
    BlockFacts, ColumnFacts, ColumnTotal, ColumnTotals, FieldRange, FilePart, FilterFacts,
    InspectedRow, Inspection, open_to_inspect,
};
pub use iter::{IterOptions, TableIter};
pub use predicate::{FieldRef, KeyPredicate};
pub use properties::Properties;
pub use run::RowRun;
pub use schema::{
    FieldType, FieldValue, IntWidth, KeySchema, KeySchemaBuilder, KeySplitter, SCHEMA_FIELDS_MAX,
    Schema, SchemaField, SchemaId, SplitField,
};
pub use selection::{SkipCounters, SkipStats};
pub use table::{PinnedValue, Table};
pub use verify::VerifyReport;
pub use writer::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, TableOptions, TableSummary, TableWriter};
