//! What a caller can choose, with defaults, and the check that refuses nonsense at once.

use crate::schemas;
use sluice_base::{Error, Result};
use sluice_env::Env;
use sluice_table::{KeyPredicate, KeySchema, KeySplitter};
use std::{sync::Arc, time::Duration};

const MIB: u64 = 1 << 20;

/// How a [`crate::Db`] is opened. Plain data: print it, compare it, keep it in a file.
///
/// ```
/// let options = sluicedb::Options { memtable_bytes: 8 << 20, ..Default::default() };
/// assert!(options.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// The world: files, clock, threads. Default: the operating system's.
    pub env: Env,
    /// Make a new database where there is none. Default: true.
    pub create_if_missing: bool,
    /// Bytes in a memtable, keys, values and links together, before it is sealed. Default: 64 MiB.
    pub memtable_bytes: u64,
    /// Most memtables of one column family, the active one included; a write that would need one
    /// more waits. Default: 5.
    pub memtable_count: u32,
    /// Bytes for memtables and block cache together: half and a quarter of it; the last quarter
    /// is for filters, indexes and writes in flight. 0: a quarter of the memory that the process
    /// may use (its control group's limit, or the machine's), 64 MiB to 1 GiB. Default: 0.
    pub memory_budget: u64,
    /// Bytes in a log segment. Default: 64 MiB.
    pub wal_segment_bytes: u64,
    /// Bytes of log that unflushed data may pin; from half of it on the column families whose data
    /// is in the oldest segments are flushed, past it writes slow down.
    /// Default: 512 MiB.
    pub wal_max_bytes: u64,
    /// Longest time that data stays in memory only, however little it is. Zero: without limit.
    /// Default: 3600 s.
    pub flush_age: Duration,
    /// A memtable that nobody has written to for so long is flushed. Zero: never for that reason.
    /// Default: 0 s.
    pub flush_idle: Duration,
    /// An active memtable with so many tombstones, where they are at least half of its entries,
    /// is flushed: reads wade through them. 0: never for that reason. Default: 100000.
    pub flush_tombstones: u64,
    /// Longest time that replaying the log may take at the next opening, at the speed of the last
    /// replay: what would take longer is flushed. Zero: only `wal_max_bytes` bounds it.
    /// Default: 0 s.
    pub recovery_time_target: Duration,
    /// Longest time that a write acknowledged at [`crate::Ack::Os`] stays unsynced. Zero: the
    /// background never syncs. Default: 1 s.
    pub wal_sync_interval: Duration,
    /// What recovery does with a log that does not read to its end. Default: tolerate a torn tail.
    pub wal_recovery: WalRecovery,
    /// Threads that flush memtables. Default: 1.
    pub flush_threads: u32,
    /// Threads that compact tables. Default: 1.
    pub compaction_threads: u32,
    /// Who runs background work. Default: the engine's own threads.
    pub background: Background,
    /// Target bytes of a data block before compression. Default: 16 KiB.
    pub block_bytes: u32,
    /// Filter bits per key; 0 for none. Default: 10.
    pub filter_bits_per_key: u32,
    /// Compression of levels 0 and 1. Default: none, because those tables live too briefly to
    /// pay for it.
    pub compression_upper: Compression,
    /// Compression of level 2 and below. Default: LZ4.
    pub compression_lower: Compression,
    /// Target bytes of a compaction's output table. Default: 64 MiB.
    pub table_bytes: u64,
    /// Bytes of the first level below level 0 at most. Default: 256 MiB.
    pub level_base_bytes: u64,
    /// Depth of level 0, the most of its tables that cover one key, that starts a compaction; as many
    /// tables for each range of key schemas do so too. Default: 4.
    pub l0_compaction_trigger: u32,
    /// Depth of level 0 from which on writes slow down; not below `l0_compaction_trigger`, and
    /// without effect from `l0_stop` on. Default: 20.
    pub l0_slowdown: u32,
    /// Depth of level 0 at which no memtable is sealed any more, so that writes wait. Default: 36.
    pub l0_stop: u32,
    /// Bytes on the device kept for a flush that finds it full, so that what is in memory gets to
    /// disk all the same; at most a quarter of what is free, none where that is less than 64 KiB.
    /// 0: none. Default: the largest memtable and 1 MiB.
    pub reserve_bytes: Option<u64>,
    /// The splitters of the custom key schemas that this database may be written under. An opening
    /// refuses a directory that was written under another one, or under one of these with other
    /// fields, version or contract. Default: none.
    pub key_splitters: Vec<Arc<dyn KeySplitter>>,
}

fn range(name: &str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("option {name} is {value}; it must be {min} to {max}")))
}

fn memtable_bytes_in_range(bytes: u64) -> Result<()> {
    range("memtable_bytes", bytes, 4 << 10, 64 << 30)
}

/// The options that can change while the database runs: [`crate::Db::set_tunables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunables {
    /// As [`Options::memtable_bytes`]; families with a size of their own keep it.
    pub memtable_bytes: u64,
    /// As [`Options::memtable_count`].
    pub memtable_count: u32,
    /// As [`Options::memory_budget`].
    pub memory_budget: u64,
    /// As [`Options::wal_segment_bytes`]; segments that stand keep their size.
    pub wal_segment_bytes: u64,
    /// As [`Options::wal_max_bytes`].
    pub wal_max_bytes: u64,
    /// As [`Options::flush_age`].
    pub flush_age: Duration,
    /// As [`Options::flush_idle`].
    pub flush_idle: Duration,
    /// As [`Options::flush_tombstones`].
    pub flush_tombstones: u64,
    /// As [`Options::recovery_time_target`].
    pub recovery_time_target: Duration,
    /// As [`Options::wal_sync_interval`].
    pub wal_sync_interval: Duration,
    /// As [`Options::flush_threads`]; a thread too many ends after the flush it is at.
    pub flush_threads: u32,
}

impl Tunables {
    /// Bytes for all memtables together: half the budget.
    pub(crate) fn memtable_budget(&self) -> u64 {
        self.memory_budget / 2
    }
}

/// The budget that `bytes` stands for: 0 is a share of what the process may use.
pub(crate) fn resolve_budget(bytes: u64) -> u64 {
    match (bytes, sluice_env::memory_limit()) {
        (0, Some(limit)) => (limit / 4).clamp(64 * MIB, 1024 * MIB),
        (0, None) => 512 * MIB,
        (bytes, _) => bytes,
    }
}

/// What recovery does with a log that does not read to its end.
///
/// ```
/// use sluicedb::{Options, WalRecovery};
/// // Where losing the last unsynced writes of a crash must be a decision of an operator.
/// let options = Options { wal_recovery: WalRecovery::Absolute, ..Options::default() };
/// # assert!(options.validate().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WalRecovery {
    /// Keep the longest valid prefix: a torn tail is what a crash leaves. Damage inside what had
    /// been synced is an error.
    #[default]
    Tolerant,
    /// Refuse to open unless the log reads to its very end.
    Absolute,
    /// Skip what cannot be read and keep everything else. For rescue only: the result is not a
    /// prefix of history.
    Salvage,
}

/// Who runs flushes, compactions and log syncs.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use sluicedb::{Background, Db, FlushRequest, Options};
/// let options = Options { background: Background::Stepped, ..Options::default() };
/// let db = Db::open(dir.path(), options)?;
/// db.put(&db.default_cf(), b"key", b"value")?;
/// let ticket = db.flush(FlushRequest::default())?;
/// assert!(ticket.poll().is_none());
/// while db.step() {}
/// assert!(ticket.poll().is_some());
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// The engine's own threads.
    #[default]
    Threads,
    /// Nobody, until [`crate::Db::step`] is called: what makes a simulated run reproducible.
    Stepped,
}

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Stored as they are.
    None,
    /// LZ4, where it saves at least an eighth of the block.
    #[default]
    Lz4,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            env: Env::os(),
            create_if_missing: true,
            memtable_bytes: 64 * MIB,
            memtable_count: 5,
            memory_budget: 0,
            wal_segment_bytes: 64 * MIB,
            wal_max_bytes: 512 * MIB,
            flush_age: Duration::from_secs(3600),
            flush_idle: Duration::ZERO,
            flush_tombstones: 100_000,
            recovery_time_target: Duration::ZERO,
            wal_sync_interval: Duration::from_secs(1),
            wal_recovery: WalRecovery::Tolerant,
            flush_threads: 1,
            compaction_threads: 1,
            background: Background::Threads,
            block_bytes: 16 << 10,
            filter_bits_per_key: 10,
            compression_upper: Compression::None,
            compression_lower: Compression::Lz4,
            table_bytes: 64 * MIB,
            level_base_bytes: 256 * MIB,
            l0_compaction_trigger: 4,
            l0_slowdown: 20,
            l0_stop: 36,
            reserve_bytes: None,
            key_splitters: Vec::new(),
        }
    }
}

impl Options {
    /// Refuses combinations that cannot work, each with the reason.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`], naming the option, its value and its range; of splitters what is
    /// wrong with their names, or who else has them.
    pub fn validate(&self) -> Result<()> {
        schemas::named(&self.key_splitters)?;
        memtable_bytes_in_range(self.memtable_bytes)?;
        range("memtable_count", u64::from(self.memtable_count), 2, 1024)?;
        if self.memory_budget != 0 {
            range("memory_budget", self.memory_budget, 64 << 10, 1 << 50)?;
        }
        range("wal_segment_bytes", self.wal_segment_bytes, 4 << 10, 1 << 30)?;
        if !self.wal_segment_bytes.is_multiple_of(8) {
            return Err(Error::invalid(format!(
                "option wal_segment_bytes is {}; it must be a multiple of 8",
                self.wal_segment_bytes
            )));
        }
        range("wal_max_bytes", self.wal_max_bytes, self.wal_segment_bytes, 1 << 50)?;
        range("flush_threads", u64::from(self.flush_threads), 1, 64)?;
        range("compaction_threads", u64::from(self.compaction_threads), 1, 64)?;
        range("block_bytes", u64::from(self.block_bytes), 512, 4 << 20)?;
        range("filter_bits_per_key", u64::from(self.filter_bits_per_key), 0, 64)?;
        range("table_bytes", self.table_bytes, 4 << 10, 1 << 40)?;
        range("level_base_bytes", self.level_base_bytes, 4 << 10, 1 << 44)?;
        range("l0_compaction_trigger", u64::from(self.l0_compaction_trigger), 1, 1000)?;
        let trigger = u64::from(self.l0_compaction_trigger);
        range("l0_stop", u64::from(self.l0_stop), trigger, 10_000)?;
        range("l0_slowdown", u64::from(self.l0_slowdown), 1, 10_000)?;
        range("reserve_bytes", self.reserve_bytes.unwrap_or(0), 0, 1 << 40)
    }

    /// These options with what depends on the machine filled in.
    pub(crate) fn resolved(mut self) -> Options {
        self.memory_budget = resolve_budget(self.memory_budget);
        self
    }

    /// The part that can change while running.
    pub fn tunables(&self) -> Tunables {
        Tunables {
            memtable_bytes: self.memtable_bytes,
            memtable_count: self.memtable_count,
            memory_budget: self.memory_budget,
            wal_segment_bytes: self.wal_segment_bytes,
            wal_max_bytes: self.wal_max_bytes,
            flush_age: self.flush_age,
            flush_idle: self.flush_idle,
            flush_tombstones: self.flush_tombstones,
            recovery_time_target: self.recovery_time_target,
            wal_sync_interval: self.wal_sync_interval,
            flush_threads: self.flush_threads,
        }
    }

    /// These options with `tunables` in their place.
    pub fn with_tunables(&self, tunables: &Tunables) -> Options {
        Options {
            memtable_bytes: tunables.memtable_bytes,
            memtable_count: tunables.memtable_count,
            memory_budget: tunables.memory_budget,
            wal_segment_bytes: tunables.wal_segment_bytes,
            wal_max_bytes: tunables.wal_max_bytes,
            flush_age: tunables.flush_age,
            flush_idle: tunables.flush_idle,
            flush_tombstones: tunables.flush_tombstones,
            recovery_time_target: tunables.recovery_time_target,
            wal_sync_interval: tunables.wal_sync_interval,
            flush_threads: tunables.flush_threads,
            ..self.clone()
        }
    }

    /// Bytes for all memtables together: half the budget.
    pub(crate) fn memtable_budget(&self) -> u64 {
        self.memory_budget / 2
    }

    /// Bytes for the block cache: a quarter of the budget.
    pub(crate) fn block_cache_bytes(&self) -> u64 {
        self.memory_budget / 4
    }
}

/// What one column family chooses for itself; recorded in the manifest.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{CfOptions, Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let small = CfOptions { memtable_bytes: Some(1 << 20), ..CfOptions::default() };
/// db.create_column_family("index", small)?;
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CfOptions {
    /// Overrides [`Options::memtable_bytes`]. Default: none.
    pub memtable_bytes: Option<u64>,
    /// False: what is written to the family is not logged, and is lost in a crash back to its last
    /// flush. A batch that also writes to a family with a log is logged whole. A write that is not
    /// logged is acknowledged at [`Ack::Memory`] whatever was asked for, except that
    /// [`Ack::Disk`] is refused. Default: true.
    pub wal: bool,
    /// How the family's keys split into columns in the tables written at first; it changes size and
    /// speed, never the order or a byte of a key. Each table knows its own, so
    /// [`crate::Db::set_key_schema`] and [`crate::Db::set_key_schema_in`] may change it at any time,
    /// also for a range of keys alone. A build that does not know
    /// key schemas does not open a database in which one was ever set. Default: none, keys are written whole.
    pub key_schema: Option<KeySchema>,
    /// Tables get a second filter, over the first so many fields of their keys (1 to 62): an iterator
    /// that wants the keys of one such prefix ([`ReadOptions::predicate`], [`ReadOptions::prefix`])
    /// leaves out tables that have none. Under a schema with fewer fields that say where they end it is
    /// over those, and there is none under the whole key. Default: none.
    pub filter_fields: Option<u8>,
}

impl Default for CfOptions {
    fn default() -> CfOptions {
        CfOptions { memtable_bytes: None, wal: true, key_schema: None, filter_fields: None }
    }
}

impl CfOptions {
    /// Refuses what cannot work, as [`Options::validate`] does.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`], naming the option, its value and its range.
    pub fn validate(&self) -> Result<()> {
        self.memtable_bytes.map_or(Ok(()), memtable_bytes_in_range)?;
        let most = sluice_table::SCHEMA_FIELDS_MAX as u64;
        self.filter_fields.map_or(Ok(()), |fields| range("filter_fields", fields.into(), 1, most))
    }
}

/// What a successful write promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Ack {
    /// Applied and visible; logged in the process only. Lost with the process, unless
    /// [`crate::Db::flush_log`], a sync or a flush came after it.
    Memory,
    /// Handed to the operating system: survives `kill -9`, not a power cut.
    #[default]
    Os,
    /// Synced to the device: survives a power cut.
    Disk,
}

/// How one batch is written.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options, WriteBatch};
/// use sluicedb::{Ack, WriteOptions};
/// let db = Db::open(dir.path(), Options::default())?;
/// let mut batch = WriteBatch::new();
/// batch.put(&db.default_cf(), b"order", b"paid");
/// // Returns once the log is on the device, or fails; waits for memtable room as long as it takes.
/// let options = WriteOptions { ack: Ack::Disk, deadline: None, ..WriteOptions::default() };
/// let position = db.write(&batch, &options)?;
/// assert!(db.positions().durable >= position);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// What the call waits for. Default: [`Ack::Os`].
    pub ack: Ack,
    /// False: not logged. Such a write is lost in a crash until a flush has covered it, and its
    /// `ack` must be [`Ack::Memory`]. Default: true.
    pub wal: bool,
    /// Longest wait for memtable room. `None`: without limit. Zero: fail at once. Default: 100 ms.
    pub deadline: Option<Duration>,
}

impl Default for WriteOptions {
    fn default() -> WriteOptions {
        WriteOptions { ack: Ack::Os, wal: true, deadline: Some(Duration::from_millis(100)) }
    }
}

/// What an iterator covers.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options, ReadOptions};
/// let db = Db::open(dir.path(), Options::default())?;
/// let cf = db.default_cf();
/// for key in ["a:1", "b:1", "b:2", "c:1"] {
///     db.put(&cf, key.as_bytes(), b"")?;
/// }
/// let options = ReadOptions { prefix: Some(b"b:".to_vec()), ..ReadOptions::default() };
/// let mut iter = db.iter(&cf, options)?;
/// let mut count = 0;
/// let mut more = iter.seek_to_first()?;
/// while more {
///     count += 1;
///     more = iter.next()?;
/// }
/// assert_eq!(count, 2);
/// # Ok::<(), sluicedb::Error>(())
/// ```
///
/// By fields of the key, under a key schema:
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{CfOptions, Db, FieldValue, KeyPredicate, KeySchema, Options, ReadOptions};
/// # use std::sync::Arc;
/// let db = Db::open(dir.path(), Options::default())?;
/// let schema = KeySchema::parse("events", 1, "tenant escaped, ts u64 desc")?;
/// let options = CfOptions { key_schema: Some(schema.clone()), ..CfOptions::default() };
/// let events = db.create_column_family("events", options)?;
/// for ts in [10, 20, 30] {
///     let fields = [FieldValue::Bytes(b"acme"[..].into()), FieldValue::Number(ts)];
///     db.put(&events, &schema.join(&fields)?, b"value")?;
/// }
/// let since = KeyPredicate::new(Arc::new(schema)).range("ts", FieldValue::Number(15)..)?;
/// let options = ReadOptions { predicate: Some(Arc::new(since)), ..ReadOptions::default() };
/// let mut iter = db.iter(&events, options)?;
/// assert!(iter.seek_to_first()? && iter.next()? && !iter.next()?);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// First key of the range, included.
    pub lower: Option<Vec<u8>>,
    /// End of the range, excluded.
    pub upper: Option<Vec<u8>>,
    /// Only keys that begin with these bytes.
    pub prefix: Option<Vec<u8>>,
    /// Blocks read for this do not displace others from the cache. For long scans.
    pub skip_cache_fill: bool,
    /// Only keys whose fields fulfil its conditions; a key that does not split by its schema does not.
    /// The schema is the predicate's own: entries in memory and in tables under any schema are judged
    /// alike. Tables under its schema are not read where their statistics exclude a match.
    pub predicate: Option<Arc<KeyPredicate>>,
    /// Values are not asked for: [`crate::Iter::value`] is empty, and no value is read in a table's
    /// block or copied.
    pub keys_only: bool,
}
