//! SluiceDB: an embeddable LSM storage engine whose gate between memory and disk is in your hand.
//!
//! Writes go to a log and a memtable, memtables are flushed to columnar tables, tables are merged
//! level by level. When data leaves the memtable, what an acknowledgement means and how long a
//! write may wait are explicit: [`FlushRequest`], [`Ack`], [`WriteOptions::deadline`]. What happens
//! meanwhile can be listened to: [`Db::subscribe`].
//!
//! ```
//! use sluicedb::{Db, FlushRequest, Options};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! let db = Db::open(path, Options::default())?;
//! let cf = db.default_cf();
//! db.put(&cf, b"hello", b"world")?;
//! let report = db.flush(FlushRequest::default())?.wait(None)?;
//! assert_eq!(report.entries, 1);
//! assert_eq!(db.get(&cf, b"hello")?.as_deref(), Some(&b"world"[..]));
//! # Ok::<(), sluicedb::Error>(())
//! ```
//!
//! The engine is synchronous, owns its threads, and keeps no global state. Every wait ends, and
//! has a callback form for callers that must not block. See `ARCHITECTURE.md` for the map.

mod background;
mod batch;
mod census;
mod cf;
mod checkpoint;
mod commit;
mod compaction;
mod core;
mod db;
mod events;
mod flush;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod iter;
mod log_info;
mod manifest;
mod memtable;
mod memtables;
mod options;
mod positions;
mod promise;
mod read_state;
mod recover;
mod reserve;
mod rewrite;
mod room;
mod schemas;
mod slice;
mod snapshot;
mod stats;
mod swap;
mod table_source;
mod tables;
mod version;
mod versions;
mod view;

pub use batch::WriteBatch;
pub use cf::ColumnFamily;
pub use checkpoint::{Checkpoint, CheckpointTicket};
#[doc(hidden)]
pub use compaction::bare as bare_merge;
pub use db::Db;
pub use events::{Event, EventIter, EventOptions, EventRecord, Events, Topic};
pub use flush::{FlushReason, FlushReport, FlushRequest, FlushTicket};
pub use health::BackgroundError;
pub use log_info::{LogInfo, LogSegment};
pub use memtables::{MemtableInfo, MemtableState};
pub use options::{
    Ack, Background, CfOptions, Compression, Options, ReadOptions, Tunables, WalRecovery,
    WriteOptions,
};
pub use positions::Positions;
pub use schemas::{DrainState, DrainStatus, SchemaRange, SchemaTable, SchemaUsage};
pub use slice::PinnedSlice;
pub use sluice_base::{
    CfId, Damage, Error, ErrorKind, FileNo, Level, Position, Result, SeqNo, limits,
};
pub use sluice_env as env;
pub use sluice_table::{
    FieldRef, FieldType, FieldValue, IntWidth, KeyPredicate, KeySchema, KeySchemaBuilder,
    KeySplitter, SchemaId, SplitField,
};
pub use stats::{CfFlush, CfStats, Recovery, StallCause, StallStats, Stats};
pub use view::{Iter, ReadView, Snapshot};
