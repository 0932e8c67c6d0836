//! Byte strings without compression between rows: offsets, then the bytes back to back.
//!
//! ```text
//! +---------+--------------------------+-------+
//! | 0       | stride u32               | bytes |   every row has `stride` bytes
//! | 1|2|4   | (rows + 1) x offset      | bytes |   row r is bytes[offset r .. offset r + 1]
//! +---------+--------------------------+-------+
//! ```
//! The first offset is 0 and the last is the number of bytes. They are neighbours, so one load
//! yields both ends of a row.

use super::{Column, Offsets, load_u32};
use crate::{fault::Fault, format::encoding};

/// A parsed column of byte strings.
#[derive(Debug, Clone, Copy)]
pub struct RawBytes {
    offsets: Offsets,
    /// Bytes of every row when the offsets' width is 0.
    stride: u32,
    data: u32,
}

impl RawBytes {
    pub fn parse(block: &[u8], column: &Column, rows: usize) -> Result<RawBytes, Fault> {
        if column.encoding != encoding::RAW_BYTES {
            return Err(column.damaged("raw bytes", format!("encoding {}", column.encoding)));
        }
        let bytes = &block[column.start as usize..column.end as usize];
        let &width = bytes.first().ok_or_else(|| column.short(1))?;
        let offsets = Offsets { at: column.start + 1, width };
        if width == 0 {
            if bytes.len() < 5 {
                return Err(column.short(5));
            }
            let stride = load_u32(bytes, 1);
            let needed = 5 + stride * rows as u64;
            if bytes.len() as u64 != needed {
                return Err(column.damaged(format!("{needed} bytes"), bytes.len()));
            }
            return Ok(RawBytes { offsets, stride: stride as u32, data: column.start + 5 });
        }
        if !matches!(width, 1 | 2 | 4) {
            return Err(column.damaged("offset width 0, 1, 2 or 4", width));
        }
        let head = 1 + (rows + 1) * usize::from(width);
        if bytes.len() < head {
            return Err(column.short(head));
        }
        offsets.check(block, rows + 1, bytes.len() - head, column)?;
        Ok(RawBytes { offsets, stride: 0, data: column.start + head as u32 })
    }

    /// Row `row`.
    #[inline(always)]
    pub fn get<'a>(&self, block: &'a [u8], row: usize) -> &'a [u8] {
        let (start, end) = self.range(block, row);
        &block[start..end]
    }

    /// Where row `row` begins and ends in the block.
    #[inline(always)]
    pub fn range(&self, block: &[u8], row: usize) -> (usize, usize) {
        let (start, end) = if self.offsets.width == 0 {
            let start = row * self.stride as usize;
            (start, start + self.stride as usize)
        } else {
            self.offsets.pair(block, row)
        };
        (self.data as usize + start, self.data as usize + end)
    }
}

/// Appends everything of the column but its bytes, which the caller appends right after: they may
/// be huge and need not be copied here. `ends[r]` is where row `r` ends.
pub fn encode_raw_bytes_head(ends: &[u32], out: &mut Vec<u8>) {
    let stride = ends.first().copied().unwrap_or(0);
    let mut expected = 0u64;
    let constant = ends.iter().all(|&end| {
        expected += u64::from(stride);
        u64::from(end) == expected
    });
    if constant {
        out.push(0);
        out.extend_from_slice(&stride.to_le_bytes());
        return;
    }
    let width = Offsets::width_for(ends.last().map_or(0, |&last| last as usize));
    out.push(width);
    Offsets::encode(&[0], width, out);
    Offsets::encode(ends, width, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(rows: &[&[u8]]) -> usize {
        let mut ends = Vec::new();
        let mut data = Vec::new();
        for row in rows {
            data.extend_from_slice(row);
            ends.push(data.len() as u32);
        }
        let mut bytes = vec![0xee; 3]; // a column rarely begins at 0
        encode_raw_bytes_head(&ends, &mut bytes);
        bytes.extend_from_slice(&data);
        let column =
            Column { role: 0x7f, encoding: encoding::RAW_BYTES, start: 3, end: bytes.len() as u32 };
        let parsed = RawBytes::parse(&bytes, &column, rows.len()).unwrap();
        for (index, row) in rows.iter().enumerate() {
            let (start, end) = parsed.range(&bytes, index);
            assert_eq!(&&bytes[start..end], row);
        }
        bytes.len() - 3
    }

    #[test]
    fn strings_round_trip_and_equal_lengths_need_no_offsets() {
        assert_eq!(round_trip(&[b"", b"", b""]), 5);
        assert_eq!(round_trip(&[b"abc", b"def"]), 5 + 6);
        assert_eq!(round_trip(&[b"abc", b"", b"de"]), 1 + 4 + 5);
        let long = vec![7u8; 300];
        assert_eq!(round_trip(&[&long, b"x"]), 1 + 3 * 2 + 301);
        let huge = vec![7u8; 70_000];
        assert_eq!(round_trip(&[&huge, b"x"]), 1 + 3 * 4 + 70_001);
    }
}
