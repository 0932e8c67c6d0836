//! Integer columns: constant, or a base plus a delta of 1, 2, 4 or 8 bytes a row.
//!
//! ```text
//! +-----------------------------+------------------+------------------------+
//! | width 0|1|2|4|8, 0x80 = base | base u64, if 0x80 | rows x delta of width |
//! +-----------------------------+------------------+------------------------+
//! ```
//! Width 0 is a constant column: 1 byte for all zeros, 9 for anything else. Access is one load and
//! one addition. The addition wraps, so no bytes can make it fail.

use super::{Column, extend_by, load_u16, load_u32, load_u64, lower_bound};
use crate::{fault::Fault, format::encoding};

const HAS_BASE: u8 = 0x80;

/// A parsed integer column.
#[derive(Debug, Clone, Copy)]
pub struct Integers {
    base: u64,
    at: u32,
    width: u8,
}

impl Integers {
    /// What an absent column reads as.
    pub const ZERO: Integers = Integers { base: 0, at: 0, width: 0 };

    pub fn parse(block: &[u8], column: &Column, rows: usize) -> Result<Integers, Fault> {
        if column.encoding != encoding::INTEGERS {
            return Err(column.damaged("integers", format!("encoding {}", column.encoding)));
        }
        let bytes = &block[column.start as usize..column.end as usize];
        let &head = bytes.first().ok_or_else(|| column.short(1))?;
        let width = head & !HAS_BASE;
        if !matches!(width, 0 | 1 | 2 | 4 | 8) {
            return Err(column.damaged("integer width 0, 1, 2, 4 or 8", width));
        }
        let (base, head_bytes) = if head & HAS_BASE != 0 {
            if bytes.len() < 9 {
                return Err(column.short(9));
            }
            (load_u64(bytes, 1), 9)
        } else {
            (0, 1)
        };
        // rows < 2^32 and width <= 8: no overflow in 64 bits.
        let needed = head_bytes as u64 + rows as u64 * u64::from(width);
        if bytes.len() as u64 != needed {
            return Err(column.damaged(format!("{needed} bytes"), bytes.len()));
        }
        Ok(Integers { base, at: column.start + head_bytes, width })
    }

    #[inline(always)]
    pub fn get(&self, block: &[u8], row: usize) -> u64 {
        let at = self.at as usize;
        let delta = match self.width {
            0 => 0,
            1 => u64::from(block[at + row]),
            2 => load_u16(block, at + row * 2),
            4 => load_u32(block, at + row * 4),
            _ => load_u64(block, at + row * 8),
        };
        self.base.wrapping_add(delta)
    }

    /// The first row of `low..high`, in which the values ascend, that is not below `wanted`; `high`
    /// when all are.
    #[inline]
    pub fn lower_bound(&self, block: &[u8], low: usize, high: usize, wanted: u64) -> usize {
        let bytes = self.rows(block, low, high - low);
        let base = self.base;
        let less = |delta: u64| base.wrapping_add(delta) < wanted;
        let count = high - low;
        low + match self.width {
            0 => return if self.base < wanted { high } else { low },
            1 => lower_bound(0, count, |row| less(bytes[row].into())),
            2 => lower_bound(0, count, |row| less(load_u16(bytes, row * 2))),
            4 => lower_bound(0, count, |row| less(load_u32(bytes, row * 4))),
            _ => lower_bound(0, count, |row| less(load_u64(bytes, row * 8))),
        }
    }

    /// The bytes of `count` rows from `first` on.
    #[inline(always)]
    fn rows<'a>(&self, block: &'a [u8], first: usize, count: usize) -> &'a [u8] {
        let width = usize::from(self.width);
        let start = self.at as usize + first * width;
        &block[start..start + count * width]
    }

    /// The value of every row, when the column is constant.
    pub fn constant(&self) -> Option<u64> {
        (self.width == 0).then_some(self.base)
    }
}

/// Appends `values` in the smallest form.
pub fn encode_integers(values: &[u64], out: &mut Vec<u8>) {
    let min = values.iter().copied().min().unwrap_or(0);
    let max = values.iter().copied().max().unwrap_or(0);
    let width = width_of(max - min);
    // A base that does not make the deltas narrower only costs its eight bytes.
    let base = if width_of(max) == width { 0 } else { min };
    if base == 0 {
        out.push(width);
    } else {
        out.push(width | HAS_BASE);
        out.extend_from_slice(&base.to_le_bytes());
    }
    match width {
        0 => {}
        1 => out.extend(values.iter().map(|value| (value - base) as u8)),
        2 => extend_by(out, values, |value| ((value - base) as u16).to_le_bytes()),
        4 => extend_by(out, values, |value| ((value - base) as u32).to_le_bytes()),
        _ => extend_by(out, values, |value| (value - base).to_le_bytes()),
    }
}

/// The bytes of a delta that holds values up to `value`.
pub fn width_of(value: u64) -> u8 {
    match value {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(values: &[u64]) -> usize {
        let mut bytes = Vec::new();
        encode_integers(values, &mut bytes);
        let column =
            Column { role: 0x40, encoding: encoding::INTEGERS, start: 0, end: bytes.len() as u32 };
        let parsed = Integers::parse(&bytes, &column, values.len()).unwrap();
        for (row, &value) in values.iter().enumerate() {
            assert_eq!(parsed.get(&bytes, row), value, "{values:?}");
        }
        bytes.len()
    }

    #[test]
    fn every_width_round_trips_in_its_size() {
        assert_eq!(round_trip(&[0, 0, 0]), 1);
        assert_eq!(round_trip(&[7, 7, 7]), 9);
        assert_eq!(round_trip(&[1, 2, 255]), 1 + 3);
        assert_eq!(round_trip(&[1000, 1255]), 9 + 2);
        assert_eq!(round_trip(&[0, 65535]), 1 + 4);
        assert_eq!(round_trip(&[1 << 40, (1 << 40) + 70_000]), 9 + 8);
        assert_eq!(round_trip(&[0, u64::MAX]), 1 + 16);
        assert_eq!(round_trip(&[u64::MAX, u64::MAX - 1]), 9 + 2);
    }
}
