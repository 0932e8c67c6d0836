//! What surrounds every block in the file: compression and checksum.
//!
//! ```text
//! +----------------------+----------------+---------------------------------+
//! | stored payload       | compression u8 | crc32c u32 of payload and kind  |
//! +----------------------+----------------+---------------------------------+
//! compression 0: the payload itself
//! compression 1: raw length u32, then one LZ4 block
//! ```
//! The checksum covers the stored bytes, so it is checked before anything is unpacked.

use sluice_base::checksum;

use crate::{
    fault::Fault,
    format::{BLOCK_TRAILER_BYTES, LZ4_RAW_BYTES_MAX, compression},
};

/// How a table's blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    None,
    /// LZ4, kept for a block when it saves at least an eighth.
    #[default]
    Lz4,
}

/// Smaller payloads are not worth a try.
const LZ4_RAW_BYTES_MIN: usize = 64;

/// After this many blocks in a row that did not shrink, only every [`TRY_EVERY`]th is tried:
/// random or already compressed values should not pay for LZ4 on every block.
const MISSES_MAX: u32 = 4;
const TRY_EVERY: u32 = 8;

/// Compresses payloads; keeps the tables and buffers that this needs.
pub struct Sealer {
    compression: Compression,
    small: lz4_flex::block::CompressTable,
    /// For payloads of 64 KiB and more; made when the first one comes.
    large: Option<lz4_flex::block::CompressTable>,
    packed: Vec<u8>,
    misses: u32,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl Sealer {
    pub fn new(compression: Compression) -> Sealer {
        Sealer {
            compression,
            small: lz4_flex::block::CompressTable::small(),
            large: None,
            packed: Vec::new(),
            misses: 0,
        }
    }

    /// Appends `payload` with its envelope to `out` and returns how many bytes that took.
    pub fn seal(&mut self, payload: &[u8], out: &mut Vec<u8>) -> usize {
        let (stored, kind) = match self.pack(payload) {
            Some(packed) => (packed, compression::LZ4),
            None => (payload, compression::NONE),
        };
        out.extend_from_slice(stored);
        out.extend_from_slice(&trailer(checksum::crc32c(stored), kind));
        stored.len() + BLOCK_TRAILER_BYTES
    }

    fn pack(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let raw = payload.len();
        if self.compression == Compression::None
            || !(LZ4_RAW_BYTES_MIN..=LZ4_RAW_BYTES_MAX).contains(&raw)
        {
            return None;
        }
        if self.misses >= MISSES_MAX && !(self.misses - MISSES_MAX + 1).is_multiple_of(TRY_EVERY) {
            self.misses = self.misses.wrapping_add(1).max(MISSES_MAX);
            return None;
        }
        let room = 4 + lz4_flex::block::get_maximum_output_size(raw);
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        self.packed[..4].copy_from_slice(&(raw as u32).to_le_bytes());
        let table = if raw < usize::from(u16::MAX) {
            &mut self.small
        } else {
            self.large.get_or_insert_with(lz4_flex::block::CompressTable::large)
        };
        let packed =
            lz4_flex::block::compress_into_with_table(payload, &mut self.packed[4..], table);
        match packed {
            Ok(bytes) if bytes + 4 <= raw - raw / 8 => {
                self.misses = 0;
                Some(&self.packed[..bytes + 4])
            }
            _ => {
                self.misses = self.misses.wrapping_add(1).max(1);
                None
            }
        }
    }
}

/// The five bytes behind a payload whose stored form has the checksum `crc`.
pub fn trailer(crc: u32, kind: u8) -> [u8; BLOCK_TRAILER_BYTES] {
    let crc = checksum::crc32c_append(crc, &[kind]).to_le_bytes();
    [kind, crc[0], crc[1], crc[2], crc[3]]
}

/// Checks the envelope around `stored` and returns the payload.
pub fn open(stored: &[u8]) -> Result<Box<[u8]>, Fault> {
    let (payload, kind) = check(stored)?;
    match kind {
        compression::NONE => Ok(payload.into()),
        compression::LZ4 => unpack(payload),
        other => Err(Fault::unsupported(format!("compression kind {other}"))),
    }
}

/// [`open`] for a caller that gives the buffer away: an uncompressed payload is not copied.
pub fn open_owned(mut stored: Vec<u8>) -> Result<Box<[u8]>, Fault> {
    let (payload, kind) = check(&stored)?;
    match kind {
        compression::NONE => {
            let bytes = payload.len();
            stored.truncate(bytes);
            Ok(stored.into_boxed_slice())
        }
        compression::LZ4 => unpack(payload),
        other => Err(Fault::unsupported(format!("compression kind {other}"))),
    }
}

fn check(stored: &[u8]) -> Result<(&[u8], u8), Fault> {
    let Some(bytes) = stored.len().checked_sub(BLOCK_TRAILER_BYTES) else {
        return Err(Fault::damaged("a block of at least 5 bytes", stored.len()));
    };
    let (payload, tail) = stored.split_at(bytes);
    let expected = u32::from_le_bytes([tail[1], tail[2], tail[3], tail[4]]);
    let found = checksum::crc32c(&stored[..bytes + 1]);
    if expected != found {
        return Err(Fault::damaged(
            format!("block checksum {expected:08x}"),
            format!("{found:08x}"),
        ));
    }
    Ok((payload, tail[0]))
}

/// Unpacks an LZ4 payload. Does not trust a single byte of it.
pub fn unpack(packed: &[u8]) -> Result<Box<[u8]>, Fault> {
    let Some((head, packed)) = packed.split_first_chunk::<4>() else {
        return Err(Fault::damaged("the raw length of an LZ4 block", packed.len()));
    };
    let raw = u32::from_le_bytes(*head) as usize;
    // One LZ4 byte yields at most 255 raw bytes, so a larger claim is a lie that must not allocate.
    if raw > LZ4_RAW_BYTES_MAX || raw > packed.len().saturating_mul(255) {
        return Err(Fault::damaged(format!("a raw length that {} bytes hold", packed.len()), raw));
    }
    let mut payload = vec![0; raw];
    match lz4_flex::block::decompress_into(packed, &mut payload) {
        Ok(bytes) if bytes == raw => Ok(payload.into_boxed_slice()),
        Ok(bytes) => Err(Fault::damaged(format!("{raw} bytes of LZ4 data"), bytes)),
        Err(error) => Err(Fault::damaged("valid LZ4 data", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_round_trip_and_shrink_when_that_pays() {
        let mut sealer = Sealer::new(Compression::Lz4);
        for payload in [vec![], vec![1; 10], vec![2; 1000], vec![3; 100_000]] {
            let mut out = Vec::new();
            let bytes = sealer.seal(&payload, &mut out);
            assert_eq!(bytes, out.len());
            assert!(payload.len() < 64 || bytes < payload.len());
            assert_eq!(&open(&out).unwrap()[..], payload);
            assert_eq!(&open_owned(out).unwrap()[..], payload);
        }
    }

    #[test]
    fn incompressible_payloads_are_stored_and_soon_no_longer_tried() {
        let mut rng = sluice_env::Rng::new(1);
        let mut noise = vec![0; 4096];
        let mut sealer = Sealer::new(Compression::Lz4);
        for _ in 0..100 {
            rng.fill(&mut noise);
            let mut out = Vec::new();
            assert_eq!(sealer.seal(&noise, &mut out), noise.len() + BLOCK_TRAILER_BYTES);
        }
        // Payloads that shrink again are noticed within TRY_EVERY blocks.
        let shrunk =
            (0..TRY_EVERY + 1).filter(|_| sealer.seal(&[7; 4096], &mut Vec::new()) < 4096).count();
        assert!(shrunk >= 1);
    }

    #[test]
    fn a_lying_raw_length_does_not_allocate() {
        for raw in [u32::MAX, 32 << 20, 11 * 255] {
            let mut stored = raw.to_le_bytes().to_vec();
            stored.extend_from_slice(&[0; 10]);
            let crc = checksum::crc32c(&stored);
            stored.extend_from_slice(&trailer(crc, compression::LZ4));
            assert!(open(&stored).is_err());
        }
    }
}
