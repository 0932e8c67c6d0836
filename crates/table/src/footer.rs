//! The footer: the last 80 bytes of a table, from which everything else is found.
//!
//! ```text
//!  0  index block       offset u64, bytes u64   (bytes include the envelope)
//! 16  filter block      offset u64, bytes u64   (0, 0: the table has none)
//! 32  properties block  offset u64, bytes u64
//! 48  schema hash u64
//! 56  crc32c u32 of the properties payload
//! 60  flags u32: 1 index in two levels, 2 a filter of key prefixes
//! 64  format version u32
//! 68  crc32c u32 of bytes 0..68
//! 72  magic "SLUICSST"
//! ```
//! Magic, version and checksum keep their places and their meaning in every later version, so any
//! build can tell "newer" from "damaged".

use sluice_base::checksum;

use crate::{
    fault::Fault,
    format::{FOOTER_BYTES, FORMAT_VERSION, MAGIC, footer_flag},
    index::Handle,
    properties::Properties,
};

/// A table's footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footer {
    pub index: Handle,
    pub filter: Handle,
    pub properties: Handle,
    pub schema_hash: u64,
    pub properties_crc: u32,
    /// Of [`footer_flag`].
    pub flags: u32,
}

/// Where everything before the footer's own blocks lies, which takes the properties to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents {
    /// Where the data blocks end and the partitions of the index begin, if there are any.
    pub data_end: u64,
    pub partitions_end: u64,
    /// No bytes: none.
    pub prefix_filter: Handle,
}

impl Footer {
    pub fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        for (slot, number) in [
            self.index.offset,
            self.index.bytes,
            self.filter.offset,
            self.filter.bytes,
            self.properties.offset,
            self.properties.bytes,
            self.schema_hash,
        ]
        .into_iter()
        .enumerate()
        {
            out[slot * 8..slot * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        out[56..60].copy_from_slice(&self.properties_crc.to_le_bytes());
        out[60..64].copy_from_slice(&self.flags.to_le_bytes());
        out[64..68].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let crc = checksum::crc32c(&out[..68]);
        out[68..72].copy_from_slice(&crc.to_le_bytes());
        out[72..].copy_from_slice(&MAGIC);
        out
    }

    /// Reads the footer of a file of `file_bytes` bytes, and checks that its blocks lie back to
    /// back between the data and the footer: filter (if any), index, properties.
    pub fn decode(bytes: &[u8; FOOTER_BYTES], file_bytes: u64) -> Result<Footer, Fault> {
        if bytes[72..] != MAGIC {
            return Err(Fault::damaged(
                "the magic SLUICSST at the end of a table",
                crate::schema::hex(&bytes[72..]),
            ));
        }
        let crc = u32_at(bytes, 68);
        let found = checksum::crc32c(&bytes[..68]);
        if crc != found {
            return Err(Fault::damaged(
                format!("footer checksum {crc:08x}"),
                format!("{found:08x}"),
            ));
        }
        let version = u32_at(bytes, 64);
        if version != FORMAT_VERSION {
            return Err(Fault::unsupported(format!("table format version {version}")));
        }
        let flags = u32_at(bytes, 60);
        if flags & !(footer_flag::TWO_LEVELS | footer_flag::PREFIX_FILTER) != 0 {
            return Err(Fault::unsupported(format!("footer flags {flags:#x}")));
        }
        let handle = |at| Handle { offset: u64_at(bytes, at), bytes: u64_at(bytes, at + 8) };
        let footer = Footer {
            index: handle(0),
            filter: handle(16),
            properties: handle(32),
            schema_hash: u64_at(bytes, 48),
            properties_crc: u32_at(bytes, 56),
            flags,
        };
        footer.check(file_bytes)?;
        Ok(footer)
    }

    fn check(&self, file_bytes: u64) -> Result<(), Fault> {
        let no_filter = self.filter == Handle::default();
        let holds = (no_filter || joins(self.filter, self.index.offset))
            && joins(self.index, self.properties.offset)
            && file_bytes
                .checked_sub(FOOTER_BYTES as u64)
                .is_some_and(|end| joins(self.properties, end));
        if holds {
            return Ok(());
        }
        Err(Fault::damaged(
            format!("filter, index and properties that end at the footer of {file_bytes} bytes"),
            format!("{:?} {:?} {:?}", self.filter, self.index, self.properties),
        ))
    }

    /// What lies in front of the blocks that the footer names, back to back: the data, the index's
    /// partitions, the filter of prefixes. The properties say how long the last two are.
    pub fn extents(&self, properties: &Properties) -> Result<Extents, Fault> {
        let end = if self.filter.bytes == 0 { self.index.offset } else { self.filter.offset };
        let (prefix, partitions) = (properties.prefix_filter_bytes, properties.partition_bytes);
        let flags = u32::from(partitions > 0) * footer_flag::TWO_LEVELS
            + u32::from(prefix > 0) * footer_flag::PREFIX_FILTER;
        if flags != self.flags {
            let expected = format!("properties of the flags {:#x}", self.flags);
            return Err(Fault::damaged(expected, format!("of {flags:#x}")));
        }
        let partitions_end = end.checked_sub(prefix);
        let data_end = partitions_end.and_then(|end| end.checked_sub(partitions));
        match (partitions_end, data_end) {
            (Some(partitions_end), Some(data_end)) if data_end > 0 => Ok(Extents {
                data_end,
                partitions_end,
                prefix_filter: Handle { offset: partitions_end, bytes: prefix },
            }),
            _ => Err(Fault::damaged(
                format!("partitions and filter of prefixes within {end} bytes"),
                format!("{partitions} and {prefix} bytes"),
            )),
        }
    }
}

/// Whether a block ends where the next structure begins.
fn joins(handle: Handle, next: u64) -> bool {
    handle.bytes > 0 && handle.offset.checked_add(handle.bytes) == Some(next)
}

fn u32_at(bytes: &[u8; FOOTER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; FOOTER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Footer {
        Footer {
            filter: Handle { offset: 1000, bytes: 100 },
            index: Handle { offset: 1100, bytes: 50 },
            properties: Handle { offset: 1150, bytes: 300 },
            schema_hash: 0x0123_4567_89ab_cdef,
            properties_crc: 77,
            flags: 0,
        }
    }

    #[test]
    fn a_footer_round_trips_and_finds_every_flipped_bit() {
        let bytes = sample().encode();
        let file_bytes = 1450 + FOOTER_BYTES as u64;
        assert_eq!(Footer::decode(&bytes, file_bytes), Ok(sample()));
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[at / 8] ^= 1 << (at % 8);
            assert!(matches!(Footer::decode(&bad, file_bytes), Err(Fault::Damaged { .. })));
        }
        assert!(Footer::decode(&bytes, file_bytes - 1).is_err());
    }

    #[test]
    fn a_newer_version_is_unsupported_and_not_damage() {
        let mut bytes = sample().encode();
        bytes[64] = 2;
        let crc = checksum::crc32c(&bytes[..68]);
        bytes[68..72].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Footer::decode(&bytes, 1530), Err(Fault::Unsupported(_))));
    }
}
