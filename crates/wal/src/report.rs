//! What recovery found, for the owner's log and its listeners.

use std::fmt;

use sluice_base::{FileNo, SeqNo};

/// The place where the log's valid prefix ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub segment: FileNo,
    /// Where the first bad byte range begins; the segment was cut here.
    pub offset: u64,
    /// Why it is bad.
    pub reason: String,
    /// Valid frames behind it in the same segment; they were dropped.
    pub frames_dropped: u64,
}

/// A segment behind a torn tail that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedSegment {
    pub segment: FileNo,
    /// Valid frames in it.
    pub frames: u64,
}

/// A bad range that [`crate::RecoveryMode::Salvage`] passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedBytes {
    pub segment: FileNo,
    pub offset: u64,
    pub bytes: u64,
    pub reason: String,
}

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read that hold frames or could have.
    pub segments: usize,
    /// Frames replayed, and their bytes with headers and padding.
    pub frames: u64,
    pub bytes: u64,
    /// Sequence numbers of the first and last replayed entry.
    pub first_seq: Option<SeqNo>,
    pub last_seq: Option<SeqNo>,
    /// The largest epoch in any segment header; the next opening must be above it.
    pub last_epoch: u32,
    /// The largest segment number found, 0 for none: the file number counter must be above it.
    pub last_segment: FileNo,
    /// The segment asked for as the first is not there. Normal when it was released and the
    /// note of that was lost in a crash; otherwise the head of the log is missing, which only the
    /// owner of the sequence numbers can tell.
    pub head_missing: Option<FileNo>,
    /// Whether the log was closed cleanly: its last segment ends with a seal.
    pub clean: bool,
    pub torn: Option<TornTail>,
    pub dropped: Vec<DroppedSegment>,
    pub skipped: Vec<SkippedBytes>,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replayed {} frames from {} segments", self.frames, self.segments)?;
        if let (Some(first), Some(last)) = (self.first_seq, self.last_seq) {
            write!(f, ", sequence numbers {first} to {last}")?;
        }
        if self.clean {
            write!(f, ", closed cleanly")?;
        }
        if let Some(torn) = &self.torn {
            write!(
                f,
                "; cut the torn tail of segment {} at offset {}: {}",
                torn.segment, torn.offset, torn.reason
            )?;
        }
        for dropped in &self.dropped {
            write!(f, "; dropped segment {} with {} frames", dropped.segment, dropped.frames)?;
        }
        for skipped in &self.skipped {
            write!(
                f,
                "; skipped {} bytes of segment {} at offset {}: {}",
                skipped.bytes, skipped.segment, skipped.offset, skipped.reason
            )?;
        }
        Ok(())
    }
}
