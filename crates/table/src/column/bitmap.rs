//! One bit a row.
//!
//! ```text
//! +---+                            no bit is set
//! | 0 |
//! +---+-------------------------+
//! | 1 | ceil(rows / 64) x u64   |  row r is bit r % 64 of word r / 64; bits behind the rows are 0
//! +---+-------------------------+
//! ```
//! Blocks have some hundreds of rows, a handful of words: a summary level over the words would
//! cost more than it saves.

use super::{Column, extend_by, load_u64};
use crate::{fault::Fault, format::encoding};

/// A parsed bitmap column.
#[derive(Debug, Clone, Copy)]
pub struct Bitmap {
    /// Where the words begin; 0 when no bit is set.
    at: u32,
}

impl Bitmap {
    /// What an absent column reads as.
    pub const EMPTY: Bitmap = Bitmap { at: 0 };

    pub fn parse(block: &[u8], column: &Column, rows: usize) -> Result<Bitmap, Fault> {
        if column.encoding != encoding::BITMAP {
            return Err(column.damaged("bitmap", format!("encoding {}", column.encoding)));
        }
        let bytes = &block[column.start as usize..column.end as usize];
        let &mode = bytes.first().ok_or_else(|| column.short(1))?;
        let words = match mode {
            0 => 0,
            1 => rows.div_ceil(64),
            _ => return Err(column.damaged("bitmap mode 0 or 1", mode)),
        };
        if bytes.len() != 1 + words * 8 {
            return Err(column.damaged(format!("{} bytes", 1 + words * 8), bytes.len()));
        }
        if words == 0 {
            return Ok(Bitmap::EMPTY);
        }
        Bitmap::of_words(block, column.start + 1, rows, column)
    }

    /// The bitmap whose words begin at `at`, where the caller has seen enough of them. `at` is not
    /// 0 and there is a row.
    pub fn of_words(block: &[u8], at: u32, rows: usize, column: &Column) -> Result<Bitmap, Fault> {
        let last = load_u64(block, at as usize + (rows.div_ceil(64) - 1) * 8);
        if !rows.is_multiple_of(64) && last >> (rows % 64) != 0 {
            return Err(column.damaged("no bits behind the last row", format!("{last:#x}")));
        }
        Ok(Bitmap { at })
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    #[inline(always)]
    pub fn get(&self, block: &[u8], row: usize) -> bool {
        !self.is_empty() && block[self.at as usize + row / 8] >> (row % 8) & 1 != 0
    }

    /// The first row from `from` on whose bit is clear; `rows` when there is none.
    #[inline]
    pub fn next_clear(&self, block: &[u8], from: usize, rows: usize) -> usize {
        if self.is_empty() || from >= rows {
            return from.min(rows);
        }
        let mut word = from / 64;
        // Bits below `from` count as set.
        let mut bits = load_u64(block, self.at as usize + word * 8) | ((1 << (from % 64)) - 1);
        while bits == u64::MAX {
            word += 1;
            if word * 64 >= rows {
                return rows;
            }
            bits = load_u64(block, self.at as usize + word * 8);
        }
        (word * 64 + bits.trailing_ones() as usize).min(rows)
    }

    /// The first row from `from` on whose bit is set; `rows` when there is none.
    pub fn next_set(&self, block: &[u8], from: usize, rows: usize) -> usize {
        if self.is_empty() || from >= rows {
            return rows;
        }
        let mut word = from / 64;
        // Bits below `from` count as clear.
        let mut bits = load_u64(block, self.at as usize + word * 8) & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            if word * 64 >= rows {
                return rows;
            }
            bits = load_u64(block, self.at as usize + word * 8);
        }
        (word * 64 + bits.trailing_zeros() as usize).min(rows)
    }
}

/// Appends the bitmap whose words are `words`.
pub fn encode_bitmap(words: &[u64], out: &mut Vec<u8>) {
    if words.iter().all(|&word| word == 0) {
        out.push(0);
        return;
    }
    out.push(1);
    extend_by(out, words, |word| word.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use sluice_env::Rng;

    use super::*;

    #[test]
    fn next_clear_and_next_set_agree_with_a_walk_over_the_bits() {
        let seed = 0x5eed_b175;
        println!("seed {seed:#x}");
        let mut rng = Rng::new(seed);
        for rows in [1usize, 2, 63, 64, 65, 127, 128, 129, 200] {
            for density in [0u64, 1, 2, 10, 100] {
                let mut words = vec![0u64; rows.div_ceil(64)];
                for row in 0..rows {
                    if density == 100 || rng.below(10) < density {
                        words[row / 64] |= 1 << (row % 64);
                    }
                }
                let mut bytes = vec![0; 8];
                encode_bitmap(&words, &mut bytes);
                let end = bytes.len() as u32;
                let column = Column { role: 0x41, encoding: encoding::BITMAP, start: 8, end };
                let bitmap = Bitmap::parse(&bytes, &column, rows).unwrap();
                let bit = |row: usize| words[row / 64] >> (row % 64) & 1 != 0;
                for from in 0..=rows {
                    let expected = (from..rows).find(|&row| !bit(row)).unwrap_or(rows);
                    assert_eq!(bitmap.next_clear(&bytes, from, rows), expected);
                    for end in [rows, rows / 2, from] {
                        let expected = (from..end).find(|&row| bit(row)).unwrap_or(end);
                        assert_eq!(bitmap.next_set(&bytes, from, end), expected);
                    }
                    assert!(from == rows || bitmap.get(&bytes, from) == bit(from));
                }
            }
        }
    }
}
