//! Which rows begin a group, and how many key fields the rows of a group share.
//!
//! ```text
//! +-----------+-------------------------+
//! | fields u8 | ceil(rows / 64) x u64   |  bit r: row r begins a group; bit 0 is set
//! +-----------+-------------------------+
//! ```
//! The columns of the first `fields` key fields have one value a group, those behind one a row. There
//! is no such column when nothing is shared. With a million rows of ten to a group a row costs one
//! bit for it, and the fields of its group a tenth.
//!
//! A reader keeps where each group begins, and the number of groups before each word.

use super::{Column, extend_by, load_u64};
use crate::{fault::Fault, format::encoding};

/// Most rows of a block with groups: where they begin is kept in 16 bits.
pub const GROUPED_ROWS_MAX: usize = 1 << 16;

/// The parsed column.
#[derive(Debug)]
pub struct Groups {
    fields: u8,
    rows: u32,
    starts: Box<[u16]>,
    words: Box<[Word]>,
}

#[derive(Debug, Clone, Copy)]
struct Word {
    bits: u64,
    /// How many groups begin before its rows.
    rank: u32,
}

impl Groups {
    /// Parses the column of a block whose keys have `fields_max` fields.
    pub fn parse(
        block: &[u8],
        column: &Column,
        rows: usize,
        fields_max: usize,
    ) -> Result<Groups, Fault> {
        if column.encoding != encoding::GROUPS {
            return Err(column.damaged("groups", format!("encoding {}", column.encoding)));
        }
        let bytes = &block[column.start as usize..column.end as usize];
        if rows > GROUPED_ROWS_MAX {
            return Err(column.damaged(format!("at most {GROUPED_ROWS_MAX} rows"), rows));
        }
        let needed = 1 + rows.div_ceil(64) * 8;
        if bytes.len() != needed {
            return Err(column.damaged(format!("{needed} bytes"), bytes.len()));
        }
        let fields = bytes[0];
        if fields == 0 || usize::from(fields) > fields_max {
            return Err(column.damaged(format!("1 to {fields_max} fields"), fields));
        }
        let mut starts = Vec::with_capacity(rows / 2);
        let mut words = Vec::with_capacity(rows.div_ceil(64));
        for word in 0..rows.div_ceil(64) {
            let bits = load_u64(bytes, 1 + word * 8);
            words.push(Word { bits, rank: starts.len() as u32 });
            let mut left = bits;
            while left != 0 {
                let row = word * 64 + left.trailing_zeros() as usize;
                if row >= rows {
                    return Err(column.damaged("no bits behind the last row", row));
                }
                starts.push(row as u16);
                left &= left - 1;
            }
        }
        if starts.first() != Some(&0) {
            return Err(column.damaged("a group that begins at row 0", "none"));
        }
        Ok(Groups { fields, rows: rows as u32, starts: starts.into(), words: words.into() })
    }

    /// How many leading fields the rows of a group share.
    pub fn fields(&self) -> usize {
        self.fields.into()
    }

    /// How many groups there are; at least one.
    #[inline]
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Bytes that it holds besides the block's.
    pub fn memory_bytes(&self) -> usize {
        self.starts.len() * 2 + self.words.len() * size_of::<Word>()
    }

    /// The first row of `group`; the number of rows for the one behind the last.
    #[inline]
    pub fn start(&self, group: usize) -> usize {
        self.starts.get(group).map_or(self.rows as usize, |&row| row.into())
    }

    /// The group of `row`.
    #[inline]
    pub fn of(&self, row: usize) -> usize {
        let word = self.words[row / 64];
        // Bits up to and with the row's; bit 0 of the first word is set, so there is one.
        let upto = word.bits & (u64::MAX >> (63 - row % 64));
        (word.rank + upto.count_ones()).saturating_sub(1) as usize
    }

    /// Whether `row` and the one before it are in different groups.
    #[inline]
    pub fn begins(&self, row: usize) -> bool {
        self.words[row / 64].bits >> (row % 64) & 1 != 0
    }
}

/// Appends the column of groups that share `fields` fields; bit r of `words`: row r begins one.
pub fn encode_groups(fields: u8, words: &[u64], out: &mut Vec<u8>) {
    out.push(fields);
    extend_by(out, words, |word| word.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8], rows: usize) -> Result<Groups, Fault> {
        let end = bytes.len() as u32;
        let column = Column { role: 0, encoding: encoding::GROUPS, start: 0, end };
        Groups::parse(bytes, &column, rows, 3)
    }

    #[test]
    fn rows_know_their_group_and_groups_their_rows() {
        for rows in [1usize, 63, 64, 65, 200] {
            for stride in [1usize, 2, 7, 64, 100, 1000] {
                let mut words = vec![0u64; rows.div_ceil(64)];
                (0..rows).step_by(stride).for_each(|row| words[row / 64] |= 1 << (row % 64));
                let mut bytes = Vec::new();
                encode_groups(2, &words, &mut bytes);
                let groups = parse(&bytes, rows).unwrap();
                assert_eq!((groups.fields(), groups.count()), (2, rows.div_ceil(stride)));
                for row in 0..rows {
                    assert_eq!(groups.of(row), row / stride, "row {row} of {rows} by {stride}");
                    assert_eq!(groups.begins(row), row % stride == 0);
                    assert_eq!(groups.start(row / stride), row / stride * stride);
                }
                assert_eq!(groups.start(groups.count()), rows);
            }
        }
    }

    #[test]
    fn what_is_no_grouping_is_damage() {
        let good = b"\x02\x05\0\0\0\0\0\0\0";
        assert!(parse(good, 3).is_ok());
        assert!(parse(good, 2).is_err(), "a bit behind the rows");
        assert!(parse(good, 65).is_err(), "too short");
        assert!(parse(b"\x00\x05\0\0\0\0\0\0\0", 3).is_err(), "no fields");
        assert!(parse(b"\x04\x05\0\0\0\0\0\0\0", 3).is_err(), "more fields than there are");
        assert!(parse(b"\x02\x04\0\0\0\0\0\0\0", 3).is_err(), "row 0 is in no group");
    }
}
