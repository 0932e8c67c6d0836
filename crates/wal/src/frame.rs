//! One frame: 32 bytes of header, the payload, zeros up to the next multiple of eight.
//!
//! ```text
//!   0        4             8            16      20      24        28       30      31     32
//!   +--------+-------------+------------+-------+-------+---------+--------+-------+------+
//!   | crc32c | payload_len | first_seq  | count | epoch | durable | stream | flags | zero |
//!   |  u32   |     u32     |    u64     |  u32  |  u32  |   u32   |  u16   |  u8   |  u8  |
//!   +--------+-------------+------------+-------+-------+---------+--------+-------+------+
//!   | payload, payload_len bytes ...                              | zeros to a multiple of 8 |
//!   +-------------------------------------------------------------+--------------------------+
//! ```
//!
//! The checksum runs over the payload, then over header bytes 4..32, then over the segment number
//! as eight bytes. In that order, because a committer can hash its payload before it takes any
//! lock, and only 36 bytes are left to hash inside. The segment number is the salt: a frame left
//! over from an earlier life of a recycled file differs in at most 32 adjacent bits of the hashed
//! bytes, and a CRC-32 finds every such difference, so a stale frame **never** validates.
//!
//! `flags` is never zero in a frame, so zeros are never a frame and mark a clean end.
//!
//! All functions here are total: any bytes in, a verdict out.

use std::fmt;

use sluice_base::{FileNo, SeqNo, checksum, limits};

/// Bytes in front of every payload.
pub const FRAME_HEADER_BYTES: usize = 32;

/// Frames begin at multiples of this. It lets a search for the next valid frame after a bad one
/// look at an eighth of the offsets.
pub const FRAME_ALIGN: usize = 8;

/// Longest payload.
pub const PAYLOAD_BYTES_MAX: usize = limits::BATCH_BYTES_MAX;

/// The frame carries a payload.
pub(crate) const FLAG_DATA: u8 = 1;
/// The last frame of a segment: no payload, takes no sequence number.
pub(crate) const FLAG_SEAL: u8 = 2;

/// Bytes a frame with a payload of `payload_len` bytes takes in its segment. In 64 bits, so that
/// no `u32` length can overflow it.
#[inline]
pub fn frame_bytes(payload_len: usize) -> u64 {
    (FRAME_HEADER_BYTES as u64 + payload_len as u64).next_multiple_of(FRAME_ALIGN as u64)
}

/// A frame of the log, as replay shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// The segment that holds it.
    pub segment: FileNo,
    /// Where it begins in the segment.
    pub offset: u64,
    /// Sequence number of the payload's first entry.
    pub first_seq: SeqNo,
    /// How many sequence numbers the payload takes.
    pub count: u32,
    /// Which opening of the database wrote it.
    pub epoch: u32,
    /// Which logical log it belongs to; 0 today.
    pub stream: u16,
    /// What was appended, byte for byte.
    pub payload: &'a [u8],
}

/// The fields of a frame header, without their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub payload_len: u32,
    pub first_seq: u64,
    pub count: u32,
    pub epoch: u32,
    pub durable: u32,
    pub stream: u16,
    pub flags: u8,
}

impl FrameHeader {
    /// The header's bytes with the checksum in place.
    #[inline]
    pub(crate) fn encode(&self, payload_crc: u32, segment: FileNo) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.durable.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.stream.to_le_bytes());
        bytes[30] = self.flags;
        let crc = salted_crc(payload_crc, &bytes, segment);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> (FrameHeader, u32) {
        let header = FrameHeader {
            payload_len: u32_at(bytes, 4),
            first_seq: u64_at(bytes, 8),
            count: u32_at(bytes, 16),
            epoch: u32_at(bytes, 20),
            durable: u32_at(bytes, 24),
            stream: u16::from_le_bytes([bytes[28], bytes[29]]),
            flags: bytes[30],
        };
        (header, u32_at(bytes, 0))
    }
}

/// Continues the payload's checksum over the header behind its checksum field, and the salt.
#[inline]
pub(crate) fn salted_crc(
    payload_crc: u32,
    header: &[u8; FRAME_HEADER_BYTES],
    segment: FileNo,
) -> u32 {
    let mut tail = [0; FRAME_HEADER_BYTES - 4 + 8];
    tail[..28].copy_from_slice(&header[4..]);
    tail[28..].copy_from_slice(&segment.0.to_le_bytes());
    checksum::crc32c_append(payload_crc, &tail)
}

/// Four bytes at a place that the caller knows to be inside `bytes`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Eight bytes at a place that the caller knows to be inside `bytes`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Why the bytes at some place are not what belongs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Zeros where written bytes belong.
    Zeros,
    /// The file ends inside the structure.
    Cut { need: u64, have: u64 },
    /// The length field reaches beyond the file.
    Length { len: u64, room: u64 },
    /// The checksum does not fit the bytes.
    Checksum { stored: u32, computed: u32 },
    /// A byte of the padding is not zero.
    Padding,
    /// A segment header without the magic number.
    Magic { found: u64 },
    /// The frame is whole, and its sequence number lies before that of an earlier frame.
    Backwards { first_seq: SeqNo, expected: SeqNo },
    /// The frame is whole, and uses something only a newer build knows.
    Newer { stream: u16, flags: u8, reserved: u8 },
    /// The frame is whole, and its fields contradict each other or the segment.
    Inconsistent { what: &'static str },
}

impl Fault {
    /// Whether these bytes cannot be the work of a write cut short: their checksum is right, so
    /// they were written as they are.
    pub fn is_whole(&self) -> bool {
        matches!(self, Fault::Backwards { .. } | Fault::Newer { .. } | Fault::Inconsistent { .. })
    }

    /// What should have been there, for an error message.
    pub fn expected(&self) -> String {
        match self {
            Fault::Zeros => "a frame".to_owned(),
            Fault::Cut { need, .. } => format!("{need} bytes"),
            Fault::Length { room, .. } => format!("a payload of at most {room} bytes"),
            Fault::Checksum { computed, .. } => format!("checksum {computed:#010x}"),
            Fault::Padding => "zeros between payload and next frame".to_owned(),
            Fault::Magic { .. } => "a segment header".to_owned(),
            Fault::Backwards { expected, .. } => {
                format!("a sequence number of at least {expected}")
            }
            Fault::Newer { .. } => "a frame of format version 1".to_owned(),
            Fault::Inconsistent { what } => (*what).to_owned(),
        }
    }

    /// What was there instead.
    pub fn found(&self) -> String {
        match self {
            Fault::Zeros => "zeros".to_owned(),
            Fault::Cut { have, .. } => format!("the end of the file after {have}"),
            Fault::Length { len, .. } => format!("a length of {len}"),
            Fault::Checksum { stored, .. } => format!("{stored:#010x}"),
            Fault::Padding => "other bytes".to_owned(),
            Fault::Magic { found } => format!("{found:#018x}"),
            Fault::Backwards { first_seq, .. } => first_seq.to_string(),
            Fault::Newer { stream, flags, reserved } => {
                format!("stream {stream}, flags {flags:#04x}, reserved byte {reserved:#04x}")
            }
            Fault::Inconsistent { .. } => "a whole frame that contradicts it".to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected(), self.found())
    }
}

/// What a frame must agree with besides its own checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub segment: FileNo,
    /// The epoch of the segment's header; unknown when the header is damaged.
    pub epoch: Option<u32>,
    /// No frame may begin before this.
    pub next_seq: SeqNo,
}

/// What stands at one place of a segment.
#[derive(Debug)]
pub(crate) enum Slot<'a> {
    /// Zeros, or the end of the file: nothing was written here.
    End,
    Frame(Frame<'a>),
    Bad(Fault),
}

/// A frame that validates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub view: FrameRef<'a>,
    pub seal: bool,
    /// Bytes of the segment that were durable when this frame was appended.
    pub durable: u64,
    /// Where the next frame begins.
    pub end: usize,
}

impl Frame<'_> {
    /// The first sequence number after this frame. Cannot overflow: [`slot_at`] refused that.
    pub(crate) fn next_seq(&self) -> SeqNo {
        SeqNo(self.view.first_seq.0 + u64::from(self.view.count))
    }
}

/// Reads what stands at `at`.
pub(crate) fn slot_at<'a>(bytes: &'a [u8], at: usize, context: &Context) -> Slot<'a> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(head) = rest.first_chunk::<FRAME_HEADER_BYTES>() else {
        if rest.iter().all(|&byte| byte == 0) {
            return Slot::End;
        }
        let (need, have) = (FRAME_HEADER_BYTES as u64, rest.len() as u64);
        return Slot::Bad(Fault::Cut { need, have });
    };
    if head.iter().all(|&byte| byte == 0) {
        return Slot::End;
    }
    let (header, stored) = FrameHeader::decode(head);
    let len = header.payload_len as usize;
    let body = &rest[FRAME_HEADER_BYTES..];
    // The payload is only ever a slice of what was read, so a hostile length costs nothing.
    if len > PAYLOAD_BYTES_MAX || frame_bytes(len) > rest.len() as u64 {
        return Slot::Bad(Fault::Length { len: len as u64, room: body.len() as u64 });
    }
    let payload = &body[..len];
    let computed = salted_crc(checksum::crc32c(payload), head, context.segment);
    if computed != stored {
        return Slot::Bad(Fault::Checksum { stored, computed });
    }
    let end = at + frame_bytes(len) as usize;
    if bytes[at + FRAME_HEADER_BYTES + len..end].iter().any(|&byte| byte != 0) {
        return Slot::Bad(Fault::Padding);
    }
    if let Some(fault) = fault_of_whole(&header, head[31], at, context) {
        return Slot::Bad(fault);
    }
    let view = FrameRef {
        segment: context.segment,
        offset: at as u64,
        first_seq: SeqNo(header.first_seq),
        count: header.count,
        epoch: header.epoch,
        stream: header.stream,
        payload,
    };
    let seal = header.flags == FLAG_SEAL;
    Slot::Frame(Frame { view, seal, durable: u64::from(header.durable), end })
}

/// Checks the fields of a frame whose checksum is right.
fn fault_of_whole(h: &FrameHeader, reserved: u8, at: usize, context: &Context) -> Option<Fault> {
    if (h.flags != FLAG_DATA && h.flags != FLAG_SEAL) || h.stream != 0 || reserved != 0 {
        return Some(Fault::Newer { stream: h.stream, flags: h.flags, reserved });
    }
    let wrong = |what| Some(Fault::Inconsistent { what });
    if context.epoch.is_some_and(|epoch| epoch != h.epoch) {
        return wrong("the epoch of the segment header");
    }
    if u64::from(h.durable) > at as u64 {
        return wrong("a durable offset at or before the frame");
    }
    if h.flags == FLAG_SEAL && (h.payload_len != 0 || h.count != 0) {
        return wrong("an empty seal");
    }
    if h.first_seq.checked_add(u64::from(h.count)).is_none_or(|next| next > SeqNo::MAX.0) {
        return wrong("a sequence number of at most 56 bits");
    }
    if h.first_seq < context.next_seq.0 {
        let expected = context.next_seq;
        return Some(Fault::Backwards { first_seq: SeqNo(h.first_seq), expected });
    }
    None
}

/// Whether a valid frame could begin at `at`: looks at the fields alone, no checksum. Lets a
/// search pass over zeros, payload bytes and stale frames (whose sequence numbers are older)
/// without hashing them.
pub(crate) fn is_plausible(bytes: &[u8], at: usize, context: &Context) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(head) = rest.first_chunk::<FRAME_HEADER_BYTES>() else { return false };
    // Most offsets fail on this byte.
    if head[30] != FLAG_DATA && head[30] != FLAG_SEAL {
        return false;
    }
    let (header, _) = FrameHeader::decode(head);
    let len = header.payload_len as usize;
    len <= PAYLOAD_BYTES_MAX
        && frame_bytes(len) <= rest.len() as u64
        && fault_of_whole(&header, head[31], at, context).is_none()
}
