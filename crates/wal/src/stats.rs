//! The log's numbers: what it counts while it runs, and what it says about a segment.

use sluice_base::{FileNo, SeqNo};
use sluice_env::metrics::{Counter, Histogram, HistogramSnapshot};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub writes: Counter,
    pub bytes_written: Counter,
    pub sync_us: Histogram,
    pub group_frames: Histogram,
    pub failures: Counter,
    pub rotations: Counter,
    pub rotations_unprepared: Counter,
    pub segments_created: Counter,
    pub segments_recycled: Counter,
    pub prepare_failures: Counter,
}

/// A log's numbers since it was opened. Each is right by itself; two of them may be a moment apart.
#[derive(Debug, Clone)]
pub struct WalStats {
    pub frames_appended: u64,
    /// Calls that handed bytes to the operating system, and the bytes.
    pub writes: u64,
    pub bytes_written: u64,
    /// Calls of `fdatasync`.
    pub syncs: u64,
    /// What each of them took, in microseconds.
    pub sync_us: HistogramSnapshot,
    /// How many frames each round of group sync made durable. A round is one `fdatasync`, or one
    /// for each segment when a rotation fell into it.
    pub group_frames: HistogramSnapshot,
    /// Failed writes and syncs.
    pub failures: u64,
    /// Segments begun by appends or [`crate::Wal::rotate`], and how many times the next one was
    /// not ready, so that the caller made it.
    pub rotations: u64,
    pub rotations_unprepared: u64,
    pub segments_created: u64,
    pub segments_recycled: u64,
    /// Failed attempts to have the next segment ready.
    pub prepare_failures: u64,
}

impl Counters {
    pub(crate) fn snapshot(&self, frames_appended: u64) -> WalStats {
        let sync_us = self.sync_us.snapshot();
        WalStats {
            frames_appended,
            writes: self.writes.get(),
            bytes_written: self.bytes_written.get(),
            syncs: sync_us.count(),
            sync_us,
            group_frames: self.group_frames.snapshot(),
            failures: self.failures.get(),
            rotations: self.rotations.get(),
            rotations_unprepared: self.rotations_unprepared.get(),
            segments_created: self.segments_created.get(),
            segments_recycled: self.segments_recycled.get(),
            prepare_failures: self.prepare_failures.get(),
        }
    }
}

/// A segment that the log still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    pub number: FileNo,
    /// Bytes appended to it, its header included.
    pub bytes: u64,
    /// Size of the file.
    pub capacity: u64,
    /// The first and last sequence number in it; `None` while it has no frame.
    pub seqs: Option<(SeqNo, SeqNo)>,
    /// Whether it takes no more frames.
    pub sealed: bool,
}
