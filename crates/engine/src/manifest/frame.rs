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

    /// The index, in the 12 bytes, of the byte in which turning back one bit makes the header
    /// valid; `None` when no single bit does.
    pub(super) fn flipped_byte(&self) -> Option<usize> {
        let syndrome = self.stored_crc ^ self.computed_crc;
        if syndrome.count_ones() == 1 {
            return Some(8 + syndrome.trailing_zeros() as usize / 8);
        }
        find_flip(syndrome, 8)
    }
}

/// The longest payload in which a flipped bit is looked for. Bounds the time (half a million
/// steps) and the odds that arbitrary bytes look like one: 2^19 positions in 2^32.
const FLIP_SEARCH_BYTES_MAX: usize = 64 << 10;

/// The index of the byte of `payload` in which turning back one bit makes it agree with
/// `true_crc`; `None` when no single bit does.
///
/// A crash tears an append at the device's write unit: it leaves a hole of zeros or a missing end,
/// never one wrong bit among right ones. So a last frame that is one bit away from valid was whole
/// once, and dropping it as "torn" would silently lose an edit. See [`is_lost_sector`] for the one
/// hole that looks like a flipped bit.
pub(super) fn flipped_byte(payload: &[u8], true_crc: u32) -> Option<usize> {
    if payload.len() > FLIP_SEARCH_BYTES_MAX {
        return None;
    }
    find_flip(true_crc ^ checksum::crc32c(payload), payload.len())
}

/// CRC is linear: flipping a bit changes the CRC by an amount that depends only on how many bits
/// follow it. This walks from the last bit of a message of `len` bytes to the first, comparing
/// that amount with `syndrome`.
fn find_flip(syndrome: u32, len: usize) -> Option<usize> {
    /// CRC32C's polynomial, bits reflected: what the last bit of a message adds.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut amount = POLYNOMIAL;
    for bits_from_end in 0..len * 8 {
        if amount == syndrome {
            return Some(len - 1 - bits_from_end / 8);
        }
        amount = (amount >> 1) ^ (POLYNOMIAL & (amount & 1).wrapping_neg());
    }
    None
}

/// The smallest unit a device writes whole.
const SECTOR_BYTES: u64 = 512;

/// True when the part of `bytes` (which lie at `offset` of the file) that shares a sector with the
/// byte at `index` is all zeros: the sector may never have been written, and if only one bit of it
/// was to be set, losing it looks like flipping that bit.
pub(super) fn is_lost_sector(bytes: &[u8], offset: u64, index: usize) -> bool {
    let sector = |index: usize| (offset + index as u64) / SECTOR_BYTES;
    let wanted = sector(index);
    bytes.iter().enumerate().filter(|(at, _)| sector(*at) == wanted).all(|(_, byte)| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_bit_of_a_payload_is_found() {
        let payload: Vec<u8> = (0..100u8).map(|byte| byte.wrapping_mul(37)).collect();
        let crc = checksum::crc32c(&payload);
        for bit in 0..payload.len() * 8 {
            let mut bad = payload.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(flipped_byte(&bad, crc), Some(bit / 8));
            let other = (bit + 100) % 800;
            bad[other / 8] ^= 1 << (other % 8);
            assert_eq!(flipped_byte(&bad, crc), None, "bits {bit} and {other}");
        }
        assert_eq!(flipped_byte(&[0; 100], crc), None);
    }

    #[test]
    fn a_lost_sector_is_not_a_flipped_bit() {
        // The frame's payload begins at 500, so its bytes from 12 on lie in another sector.
        let mut payload = vec![7; 12];
        payload.extend([0, 0, 0x40]);
        let crc = checksum::crc32c(&payload);
        payload[14] = 0;
        assert_eq!(flipped_byte(&payload, crc), Some(14));
        assert!(is_lost_sector(&payload, 500, 14));
        payload[13] = 1;
        assert!(!is_lost_sector(&payload, 500, 14));
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
            assert!(!header.is_valid());
            assert_eq!(header.flipped_byte(), Some(bit / 8));
        }
        assert_eq!(FrameHeader::parse(&[0; 12], FileNo(3), 24).flipped_byte(), None);
    }
}
