//! What is known of a table without opening it, and the handle that carries it when opened.

use sluice_env::sync::{Arc, OnceLock};
use std::{cmp::Ordering, fmt};

use sluice_base::{Error, FileNo, Result, SeqNo, Trailer, limits};

/// A key as tables hold it: the user's bytes and their place in the commit order. Sorts by bytes
/// ascending, then by trailer descending, so that the newest entry of a key comes first.
#[derive(Clone, PartialEq, Eq)]
pub struct InternalKey {
    pub key: Box<[u8]>,
    pub trailer: Trailer,
}

impl InternalKey {
    pub fn new(key: impl Into<Box<[u8]>>, trailer: Trailer) -> InternalKey {
        InternalKey { key: key.into(), trailer }
    }
}

impl Ord for InternalKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| other.trailer.cmp(&self.trailer))
    }
}

impl PartialOrd for InternalKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = (self.trailer.0 & 0xff) as u8;
        write!(f, "{}#{},{kind}", self.key.escape_ascii(), self.trailer.seq())
    }
}

/// The facts of one table that the manifest records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// The number in the file's name. Never used twice in a directory.
    pub file: FileNo,
    /// Size of the file.
    pub bytes: u64,
    /// Entries of every kind, tombstones included.
    pub entries: u64,
    /// Those of `entries` that are tombstones.
    pub tombstones: u64,
    /// The first entry.
    pub smallest: InternalKey,
    /// The last entry.
    pub largest: InternalKey,
    /// The lowest and highest sequence number of any entry.
    pub min_seq: SeqNo,
    pub max_seq: SeqNo,
    /// The key schema the table is written in; 0 is the default schema.
    pub schema: u32,
    /// When the table was written, in milliseconds since the Unix epoch; 0 when unknown.
    pub created_ms: u64,
}

impl TableMeta {
    /// The relations that hold between the facts of every table.
    pub fn check(&self) -> Result<()> {
        let broken = |what: &str| Err(Error::invalid(format!("table {}: {what}", self.file)));
        if self.entries == 0 {
            return broken("holds no entry");
        }
        if self.tombstones > self.entries {
            return broken("has more tombstones than entries");
        }
        if self.smallest > self.largest {
            return broken("its smallest key sorts after its largest");
        }
        if self.smallest.key.len().max(self.largest.key.len()) > limits::KEY_BYTES_MAX {
            return broken("a bound is longer than any key may be");
        }
        if self.min_seq > self.max_seq || self.max_seq > SeqNo::MAX {
            return broken("its sequence numbers are out of order or out of range");
        }
        let inside = |key: &InternalKey| (self.min_seq..=self.max_seq).contains(&key.trailer.seq());
        if !inside(&self.smallest) || !inside(&self.largest) {
            return broken("a bound's sequence number is outside the table's");
        }
        Ok(())
    }

    /// True when `key` lies between the bounds.
    #[inline]
    pub fn covers(&self, key: &[u8]) -> bool {
        *self.smallest.key <= *key && *key <= *self.largest.key
    }

    /// True when tombstones are at least `percent` of the entries.
    pub fn is_tombstone_heavy(&self, percent: u64) -> bool {
        u128::from(self.tombstones) * 100 >= u128::from(self.entries) * u128::from(percent)
            && self.tombstones > 0
    }
}

/// A table of a version: its facts, and the opened table once somebody needed it.
///
/// `T` is the engine's opened table; this module never looks at it. A handle is shared by all
/// versions that contain the table, and a move to another level keeps it, so that a table is
/// opened once in its life.
pub struct TableHandle<T> {
    pub meta: TableMeta,
    /// Set at most once, by the first reader that opens the table (or by the job that wrote it).
    pub table: OnceLock<T>,
}

impl<T> TableHandle<T> {
    pub fn new(meta: TableMeta) -> Arc<TableHandle<T>> {
        Arc::new(TableHandle { meta, table: OnceLock::new() })
    }
}

impl<T> fmt::Debug for TableHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TableMeta { file, smallest, largest, bytes, .. } = &self.meta;
        write!(f, "{file}:[{smallest:?}-{largest:?}] {bytes}B")
    }
}
