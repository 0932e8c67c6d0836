//! [`Event`]: what can happen. Values only; who makes them is in `emit.rs`, their text in `text.rs`.

use crate::{DrainStatus, FlushReport, StallCause, flush::FlushReason};
use sluice_base::{ErrorKind, FileNo, Level, Position};
use std::time::Duration;

/// What a subscriber can choose to hear about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Topic {
    /// Memtables sealed, flushes begun, ended and failed.
    Flush,
    /// Writes that wait, are delayed, or are refused for want of room.
    Stall,
    /// Background jobs that fail and recover; the log failing and healed.
    Error,
    /// Segments of the log, and its syncs: thousands a second with durable writes.
    Wal,
    /// Compactions, and drains of key schemas.
    Compaction,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 5] =
        [Topic::Flush, Topic::Stall, Topic::Error, Topic::Wal, Topic::Compaction];

    /// The name in texts and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Flush => "flush",
            Topic::Stall => "stall",
            Topic::Error => "error",
            Topic::Wal => "wal",
            Topic::Compaction => "compaction",
        }
    }

    /// Its place in a set of topics.
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Something that happened in a database.
///
/// Its text ([`std::fmt::Display`]) is one line: the name, then `key=value` for each field.
/// Durations are in microseconds there, and text with spaces, quotes or control characters is
/// quoted and escaped.
///
/// ```
/// use sluicedb::{Event, Topic};
/// let event = Event::Recovered { job: "flush" };
/// assert_eq!((event.name(), event.topic()), ("recovered", Topic::Error));
/// assert_eq!(event.to_string(), "recovered job=flush");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A memtable takes no more writes and waits to be flushed. One for each column family of a
    /// group; the group's flush follows.
    MemtableSealed {
        /// The column family.
        cf: String,
        /// Number of the group: memtables sealed at one cut, flushed and installed together.
        group: u64,
        /// Why.
        reason: FlushReason,
        /// Bytes reserved in it.
        bytes: u64,
        /// Entries in it; those that committed writers are still inserting are not counted.
        entries: u64,
        /// The cut: everything in it is at or below this.
        position: Position,
    },
    /// A flush begins to write tables. Comes again when a failed attempt to write them is repeated.
    FlushBegin {
        /// Number of the group.
        group: u64,
        /// Why.
        reason: FlushReason,
        /// The column families whose memtables are written.
        cfs: Vec<String>,
        /// Key and value bytes in the memtables.
        bytes: u64,
        /// The cut.
        position: Position,
    },
    /// A flush is done: its tables are durable and visible. Queued before the tickets that wait
    /// for it end.
    FlushEnd {
        /// Number of the group.
        group: u64,
        /// What it did.
        report: FlushReport,
    },
    /// An attempt to flush failed. The memtables keep their place, and the flush is tried again.
    FlushFailed {
        /// Number of the group.
        group: u64,
        /// Why it was flushed.
        reason: FlushReason,
        /// The column families concerned.
        cfs: Vec<String>,
        /// The kind of the error.
        kind: ErrorKind,
        /// The error.
        message: String,
        /// Attempts so far, this one included.
        attempts: u32,
        /// When the next one is due, unless somebody asks for a flush before.
        retry_in: Duration,
        /// The cut.
        position: Position,
    },
    /// The first write found no room, for a cause that did not stand before.
    StallBegin {
        /// Why.
        cause: StallCause,
        /// The column family; `None` when the cause is not about one.
        cf: Option<String>,
        /// A sentence for people.
        detail: String,
    },
    /// Nobody waits for the cause any more: the last writer that did got in or gave up, and where
    /// writes were refused, room has changed since.
    StallEnd {
        /// As in the beginning.
        cause: StallCause,
        /// As in the beginning.
        cf: Option<String>,
        /// From the beginning to now.
        waited: Duration,
        /// Writes that found no room meanwhile.
        writes: u64,
        /// How many of them were refused.
        refused: u64,
    },
    /// Writes are slowed down so that they need not stop. At most one a second.
    WriteDelayed {
        /// What is running out.
        cause: StallCause,
        /// How long the write that is reported had to wait.
        delay: Duration,
        /// Bytes a second that writes are held to.
        rate_bytes_per_s: u64,
    },
    /// A new segment file of the log is ready for use.
    WalSegmentCreated {
        /// Its number.
        number: FileNo,
        /// Size of the file.
        bytes: u64,
    },
    /// The file of a released segment is ready for use as a new one.
    WalSegmentRecycled {
        /// The number of the new segment.
        number: FileNo,
        /// The number of the old one.
        from: FileNo,
        /// Size of the file.
        bytes: u64,
    },
    /// A segment is not part of the log any more: tables hold what was in it.
    WalSegmentReleased {
        /// Its number.
        number: FileNo,
        /// Size of the file.
        bytes: u64,
        /// Whether the file is kept for reuse; it is removed otherwise.
        kept: bool,
    },
    /// A sync of the log ended well. Two that follow closely may come in either order.
    WalSynced {
        /// Everything logged up to here survives a power cut.
        position: Position,
        /// Bytes that it made durable.
        bytes: u64,
        /// Batches that it made durable.
        batches: u64,
        /// How long writing out and syncing took.
        took: Duration,
    },
    /// A background job failed. It is tried again.
    BackgroundError {
        /// As [`crate::BackgroundError::job`]: `flush`, `compaction`, or `log-release`.
        job: &'static str,
        /// The kind of the error.
        kind: ErrorKind,
        /// The error.
        message: String,
        /// Whether writes are refused from now on because of it.
        read_only: bool,
    },
    /// A background job that had failed succeeded.
    Recovered {
        /// As in the error.
        job: &'static str,
    },
    /// The log could not be written or synced. Writes are refused until it is healed, which the
    /// engine tries again and again.
    LogFailed {
        /// The kind of the error that refused writes get.
        kind: ErrorKind,
        /// The error.
        message: String,
    },
    /// The log takes writes again.
    LogHealed,
    /// A compaction begins.
    CompactionBegin {
        /// The column family.
        cf: String,
        /// The level its upper inputs are on.
        level: Level,
        /// The level its outputs go to.
        output_level: Level,
        /// Tables that go in.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A compaction is done: its tables are durable and visible.
    CompactionEnd {
        /// The column family.
        cf: String,
        /// The level its upper inputs were on.
        level: Level,
        /// The level its outputs are on.
        output_level: Level,
        /// Tables that went in.
        files_in: u64,
        /// Their bytes.
        bytes_in: u64,
        /// Tables that came out; those that were only moved included.
        files_out: u64,
        /// Their bytes.
        bytes_out: u64,
        /// How long it took.
        took: Duration,
    },
    /// The rewriting of what is under a key schema begins: [`crate::Db::drain_schema`]. Not told of
    /// again after a restart.
    DrainBegin {
        /// What there is to do.
        status: DrainStatus,
    },
    /// A drain rewrote a table. Each is a compaction as well, which is told of before.
    DrainProgress {
        /// How far it has come.
        status: DrainStatus,
    },
    /// A drain is done, or was cancelled: its state says which.
    DrainEnd {
        /// How far it came.
        status: DrainStatus,
    },
    /// A compaction failed, or was ended by the close. Its inputs stay as they were.
    CompactionFailed {
        /// The column family.
        cf: String,
        /// The level its upper inputs are on.
        level: Level,
        /// The level its outputs were to go to.
        output_level: Level,
        /// The kind of the error.
        kind: ErrorKind,
        /// The error.
        message: String,
    },
}

/// An event, and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Counts the events of this opening of the database, from 1. A subscriber to some topics sees
    /// gaps where others were told of something; [`crate::Events::dropped`] says what it missed.
    pub serial: u64,
    /// When, in milliseconds since 1970. The order is that of the serials: an operator may set the
    /// clock back.
    pub at_unix_ms: u64,
    /// What happened.
    pub event: Event,
}
