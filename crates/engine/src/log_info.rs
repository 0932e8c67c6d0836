//! [`LogInfo`]: what an operator can see of the log.

use crate::{FileNo, Position, core::Core};
use sluice_env::metrics::HistogramSnapshot;
use std::time::Duration;

/// One segment of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSegment {
    /// The number in its file's name.
    pub number: FileNo,
    /// Bytes appended to it.
    pub bytes: u64,
    /// Size of the file.
    pub capacity: u64,
    /// The first and the last entry in it; `None` while it has none.
    pub positions: Option<(Position, Position)>,
    /// Whether it takes no more entries.
    pub sealed: bool,
}

/// A moment's picture of the log.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let written = db.put(&db.default_cf(), b"key", b"value")?;
/// db.sync()?;
/// let log = db.log_info();
/// assert_eq!((log.durable, log.unsynced_bytes), (written, 0));
/// assert_eq!(log.segments.last().map(|segment| segment.sealed), Some(false));
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogInfo {
    /// The segments held, oldest first; the last one is active.
    pub segments: Vec<LogSegment>,
    /// The last entry appended.
    pub appended: Position,
    /// The last entry that the operating system has: it survives the death of the process.
    pub written: Position,
    /// The last entry that was synced: it survives a power cut.
    pub durable: Position,
    /// Bytes appended and not synced.
    pub unsynced_bytes: u64,
    /// For how long the oldest of them has waited; `None` when there are none.
    pub unsynced_age: Option<Duration>,
    /// Batches appended since the opening.
    pub frames: u64,
    /// Calls that handed bytes to the operating system, and the bytes.
    pub writes: u64,
    /// See [`LogInfo::writes`].
    pub bytes_written: u64,
    /// Syncs since the opening.
    pub syncs: u64,
    /// What each took, in microseconds.
    pub sync_us: HistogramSnapshot,
    /// How many batches each sync made durable.
    pub group: HistogramSnapshot,
    /// Failed writes and syncs.
    pub failures: u64,
    /// Segments begun; how many of them had to be made by a writer because none was ready.
    pub rotations: u64,
    /// See [`LogInfo::rotations`].
    pub rotations_unprepared: u64,
    /// Segment files made, and files used again.
    pub segments_created: u64,
    /// See [`LogInfo::segments_created`].
    pub segments_recycled: u64,
    /// Why the log refuses writes, if it does.
    pub failed: Option<String>,
}

pub(crate) fn log_info(core: &Core) -> LogInfo {
    let wal = &core.wal;
    let stats = wal.stats();
    let segments = wal.segments();
    LogInfo {
        segments: segments
            .iter()
            .map(|segment| LogSegment {
                number: segment.number,
                bytes: segment.bytes,
                capacity: segment.capacity,
                positions: segment
                    .seqs
                    .map(|(first, last)| (core.position(first), core.position(last))),
                sealed: segment.sealed,
            })
            .collect(),
        appended: core.position(wal.appended_seq()),
        written: core.position(wal.written_seq()),
        durable: core.position(wal.durable_seq()),
        unsynced_bytes: wal.unsynced_bytes(),
        unsynced_age: wal.oldest_unsynced_us().map(Duration::from_micros),
        frames: stats.frames_appended,
        writes: stats.writes,
        bytes_written: stats.bytes_written,
        syncs: stats.syncs,
        sync_us: stats.sync_us,
        group: stats.group_frames,
        failures: stats.failures,
        rotations: stats.rotations,
        rotations_unprepared: stats.rotations_unprepared,
        segments_created: stats.segments_created,
        segments_recycled: stats.segments_recycled,
        failed: wal.poisoned().map(|error| error.to_string()),
    }
}
