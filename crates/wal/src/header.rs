//! The 64 bytes at the front of every segment: which segment this is, and which one came before.
//!
//! ```text
//!   0        8         12     16        24     32         40            48      52    60     64
//!   +--------+---------+------+---------+------+----------+-------------+-------+-----+------+
//!   | magic  | version | zero | segment | prev | prev_end | prev_durable| epoch | 0.. | crc  |
//!   |  u64   |   u32   | u32  |   u64   | u64  |   u64    |     u64     |  u32  |     | u32  |
//!   +--------+---------+------+---------+------+----------+-------------+-------+-----+------+
//! ```
//!
//! `prev` is 0 for a log's first segment. `prev_end` is where the previous segment's last frame
//! ends, `prev_durable` how much of that segment was durable when this header was made: a bad
//! frame below it is damage and not a torn tail.

use sluice_base::{FileNo, checksum};

use crate::frame::{Fault, u32_at, u64_at};

/// Bytes of a segment header. The first frame begins here.
pub const SEGMENT_HEADER_BYTES: usize = 64;

/// `SLUICWAL` in the file's byte order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SLUICWAL");

/// The format this build writes, and the newest one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's own number, as in its file name.
    pub segment: FileNo,
    /// The segment before it in the log; 0 when it was the first.
    pub prev: FileNo,
    /// Where the previous segment's last frame ends.
    pub prev_end: u64,
    /// How much of the previous segment was durable when this one was begun.
    pub prev_durable: u64,
    /// Which opening of the database wrote the segment.
    pub epoch: u32,
}

/// What stands where a segment header belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderState {
    Valid(SegmentHeader),
    /// Zeros, or an empty file: created and not yet written. Normal after a crash.
    Empty,
    /// Bytes that are no header.
    Bad(Fault),
    /// A sound header of another segment: the file was renamed or copied by someone else.
    Foreign(SegmentHeader),
    /// A sound header of a format this build does not know.
    Newer {
        version: u32,
    },
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.prev.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.prev_end.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.prev_durable.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = checksum::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Reads the header of what should be segment `segment`. Total.
pub(crate) fn read_header(bytes: &[u8], segment: FileNo) -> HeaderState {
    let head = &bytes[..bytes.len().min(SEGMENT_HEADER_BYTES)];
    if head.iter().all(|&byte| byte == 0) {
        return HeaderState::Empty;
    }
    if head.len() < SEGMENT_HEADER_BYTES {
        let (need, have) = (SEGMENT_HEADER_BYTES as u64, head.len() as u64);
        return HeaderState::Bad(Fault::Cut { need, have });
    }
    if u64_at(head, 0) != MAGIC {
        return HeaderState::Bad(Fault::Magic { found: u64_at(head, 0) });
    }
    let (stored, computed) = (u32_at(head, 60), checksum::crc32c(&head[..60]));
    if stored != computed {
        return HeaderState::Bad(Fault::Checksum { stored, computed });
    }
    // Magic, version, own number and checksum keep their places in every format to come, so that
    // this build can tell a newer file from a damaged one.
    let version = u32_at(head, 8);
    if version != FORMAT_VERSION {
        return HeaderState::Newer { version };
    }
    let header = SegmentHeader {
        segment: FileNo(u64_at(head, 16)),
        prev: FileNo(u64_at(head, 24)),
        prev_end: u64_at(head, 32),
        prev_durable: u64_at(head, 40),
        epoch: u32_at(head, 48),
    };
    if header.segment == segment {
        HeaderState::Valid(header)
    } else {
        HeaderState::Foreign(header)
    }
}
