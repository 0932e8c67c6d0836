//! The bytes around edits: the file's header, the frame of each record, and the question that
//! decides between "a crash" and "damage": is this bad frame the end of a torn append?
//!
//! ```text
//!   file    header (24) │ frame │ frame │ …
//!   header  magic "SLUICMAN" │ format u32 │ file number u64 │ crc32c u32 of the 20 bytes before
//!   frame   payload crc32c u32 │ payload length u32 │ header crc32c u32 │ payload
//! ```
//! All integers are little-endian. The frame's header CRC covers the file number and the frame's
//! offset (neither is stored) and then the two words before it. So a frame is valid in one place of
//! one file only: neither a stale block nor a frame inside a key can pass for another. And the
//! length is verified on its own: a damaged length cannot hide what follows it.
//!
//! The header keeps its 24 bytes in every format version, so that any build can tell a newer file
//! from a damaged one.

use sluice_base::{FileNo, checksum, limits};

/// The manifest format this build writes, and the newest it reads.
pub const FORMAT: u32 = 1;

pub(super) const MAGIC: [u8; 8] = *b"SLUICMAN";
pub(super) const FILE_HEADER_BYTES: usize = 24;
pub(super) const FRAME_HEADER_BYTES: usize = 12;

/// Longest frame: one kind byte and the longest edit behind the header.
pub(super) const PAYLOAD_BYTES_MAX: usize = limits::MANIFEST_EDIT_BYTES_MAX + 1;
pub(super) const FRAME_BYTES_MAX: u64 = (FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX) as u64;

/// What a frame's payload is: its first byte. Snapshot parts come first in a file, the last of
/// them ends the snapshot, and only edits follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameKind {
    Edit = 0,
    /// A part of the snapshot, with more to come.
    SnapshotPart = 1,
    /// The last part of the snapshot.
    SnapshotEnd = 2,
}

impl FrameKind {
    pub(super) fn from_byte(byte: u8) -> Option<FrameKind> {
        match byte {
            0 => Some(FrameKind::Edit),
            1 => Some(FrameKind::SnapshotPart),
            2 => Some(FrameKind::SnapshotEnd),
            _ => None,
        }
    }
}

/// The file header of manifest `file`.
pub(super) fn file_header(file: FileNo, format: u32) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&format.to_le_bytes());
    header[12..20].copy_from_slice(&file.0.to_le_bytes());
    let crc = checksum::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Appends to `out` the frame of `payload`, which will lie at `offset` of manifest `file`.
pub(super) fn put_frame(out: &mut Vec<u8>, file: FileNo, offset: u64, payload: &[u8]) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    let mut words = [0; 8];
    words[..4].copy_from_slice(&checksum::crc32c(payload).to_le_bytes());
    words[4..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&words);
    out.extend_from_slice(&header_crc(file, offset, &words).to_le_bytes());
    out.extend_from_slice(payload);
}

fn header_crc(file: FileNo, offset: u64, words: &[u8; 8]) -> u32 {
    let mut covered = [0; 24];
    covered[..8].copy_from_slice(&file.0.to_le_bytes());
    covered[8..16].copy_from_slice(&offset.to_le_bytes());
    covered[16..].copy_from_slice(words);
    checksum::crc32c(&covered)
}

/// A frame's header as found on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    pub(super) payload_crc: u32,
    pub(super) payload_len: u32,
    pub(super) stored_crc: u32,
    pub(super) computed_crc: u32,
}

impl FrameHeader {
    pub(super) fn parse(bytes: &[u8; FRAME_HEADER_BYTES], file: FileNo, offset: u64) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        FrameHeader {
            payload_crc: u32::from_le_bytes([a, b, c, d]),
            payload_len: u32::from_le_bytes([e, f, g, h]),
            stored_crc: u32::from_le_bytes([i, j, k, l]),
            computed_crc: header_crc(file, offset, &[a, b, c, d, e, f, g, h]),
        }
    }

    pub(super) fn is_valid(&self) -> bool {
        self.stored_crc == self.computed_crc && self.payload_len as usize <= PAYLOAD_BYTES_MAX
    }

    /// True when turning back one bit of the 12 bytes makes the header valid.
    pub(super) fn is_one_bit_off(&self) -> bool {
        let syndrome = self.stored_crc ^ self.computed_crc;
        syndrome.count_ones() == 1 || is_single_bit_syndrome(syndrome, 8)
    }
}

/// The longest payload in which a flipped bit is looked for. Bounds the time (half a million
/// steps) and the odds that arbitrary bytes look like one: 2^19 positions in 2^32.
const FLIP_SEARCH_BYTES_MAX: usize = 64 << 10;

/// True when turning back one bit of `payload` (or of the stored CRC) makes the two agree.
///
/// A crash tears an append at the device's write unit: it leaves a hole or a missing end, never
/// one wrong bit. So a last frame that is a bit away from valid was once synced, and dropping it
/// as "torn" would silently lose an edit.
pub(super) fn is_one_bit_off(payload: &[u8], stored_crc: u32) -> bool {
    let syndrome = stored_crc ^ checksum::crc32c(payload);
    syndrome.count_ones() == 1
        || payload.len() <= FLIP_SEARCH_BYTES_MAX && is_single_bit_syndrome(syndrome, payload.len())
}

/// CRC is linear: flipping a bit changes the CRC by an amount that depends only on how many bits
/// follow it. This walks from the last bit of a message back to bit 0 of its byte
/// `len - bytes_from_end`, comparing that amount with `syndrome`.
fn is_single_bit_syndrome(syndrome: u32, bytes_from_end: usize) -> bool {
    /// CRC32C's polynomial, bits reflected: what the last bit of a message adds.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut amount = POLYNOMIAL;
    for _ in 0..bytes_from_end * 8 {
        if amount == syndrome {
            return true;
        }
        amount = (amount >> 1) ^ (POLYNOMIAL & (amount & 1).wrapping_neg());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_bit_of_a_payload_is_recognised_as_one() {
        let payload: Vec<u8> = (0..100u8).map(|byte| byte.wrapping_mul(37)).collect();
        let crc = checksum::crc32c(&payload);
        for bit in 0..payload.len() * 8 {
            let mut bad = payload.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(is_one_bit_off(&bad, crc), "bit {bit}");
            let other = (bit + 100) % 800;
            bad[other / 8] ^= 1 << (other % 8);
            assert!(!is_one_bit_off(&bad, crc), "bits {bit} and {other}");
        }
        for bit in 0..32 {
            assert!(is_one_bit_off(&payload, crc ^ 1 << bit));
        }
        assert!(!is_one_bit_off(&[0; 100], crc));
    }

    #[test]
    fn a_frame_is_valid_in_its_place_only() {
        let mut out = Vec::new();
        put_frame(&mut out, FileNo(3), 24, b"payload");
        let bytes: [u8; FRAME_HEADER_BYTES] = out[..FRAME_HEADER_BYTES].try_into().unwrap();
        assert!(FrameHeader::parse(&bytes, FileNo(3), 24).is_valid());
        assert!(!FrameHeader::parse(&bytes, FileNo(3), 25).is_valid());
        assert!(!FrameHeader::parse(&bytes, FileNo(4), 24).is_valid());
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            let header = FrameHeader::parse(&bad, FileNo(3), 24);
            assert!(!header.is_valid() && header.is_one_bit_off(), "bit {bit}");
        }
        assert!(!FrameHeader::parse(&[0; 12], FileNo(3), 24).is_one_bit_off());
    }
}
