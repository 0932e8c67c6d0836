//! Whole keys of the rows that do not split under the block's key schema.
//!
//! ```text
//! +----------+-------------------------+---------------------------------+
//! | keys u32 | ceil(rows / 64) x u64   | the keys, as prefix bytes       |
//! +----------+-------------------------+---------------------------------+
//!              bit r: row r is one
//! ```
//! There is no such column when all keys split. With it, key `k` belongs to the `k`-th set bit; a
//! reader keeps the number of bits before each word.

use std::cmp::Ordering;

use super::{Bitmap, Column, PrefixBytes, PrefixBytesBuilder, load_u32, load_u64};
use crate::{fault::Fault, format::encoding};

/// A parsed exceptions column.
#[derive(Debug, Clone)]
pub struct Exceptions {
    bitmap: Bitmap,
    /// Where the words begin.
    words: u32,
    /// How many bits are set before each word.
    ranks: Box<[u32]>,
    keys: PrefixBytes,
}

impl Exceptions {
    pub fn parse(block: &[u8], column: &Column, rows: usize) -> Result<Exceptions, Fault> {
        if column.encoding != encoding::EXCEPTIONS {
            return Err(column.damaged("exceptions", format!("encoding {}", column.encoding)));
        }
        let bytes = &block[column.start as usize..column.end as usize];
        let words = rows.div_ceil(64);
        if bytes.len() < 4 + words * 8 {
            return Err(column.short(4 + words * 8));
        }
        let count = load_u32(bytes, 0) as usize;
        let mut ranks = Vec::with_capacity(words);
        let mut rank = 0;
        for word in 0..words {
            ranks.push(rank);
            rank += load_u64(bytes, 4 + word * 8).count_ones();
        }
        if count == 0 || rank as usize != count {
            return Err(column.damaged(format!("{count} bits, at least one"), rank));
        }
        let start = column.start + 4;
        let bitmap = Bitmap::of_words(block, start, rows, column)?;
        let keys_at = start + (words * 8) as u32;
        let keys = Column { encoding: encoding::PREFIX_BYTES, start: keys_at, ..*column };
        let keys = PrefixBytes::parse(block, &keys, count)?;
        Ok(Exceptions { bitmap, words: start, ranks: ranks.into(), keys })
    }

    /// Bytes that it holds besides the block's.
    pub fn memory_bytes(&self) -> usize {
        self.ranks.len() * 4
    }

    /// Word `at` of the bitmap of exceptions.
    #[inline]
    pub fn word(&self, block: &[u8], at: usize) -> u64 {
        load_u64(block, self.words as usize + at * 8)
    }

    /// The number of the exception that `row` is, if it is one.
    #[inline]
    pub fn index(&self, block: &[u8], row: usize) -> Option<usize> {
        if !self.bitmap.get(block, row) {
            return None;
        }
        let word = load_u64(block, self.words as usize + row / 64 * 8);
        let before = word & ((1 << (row % 64)) - 1);
        Some((self.ranks[row / 64] + before.count_ones()) as usize)
    }

    /// Compares exception `index` with `key`.
    pub fn compare(&self, block: &[u8], index: usize, key: &[u8]) -> Ordering {
        let prefix = self.keys.block_prefix(block);
        match key.strip_prefix(prefix) {
            Some(rest) => self.keys.compare(block, index, rest),
            None => prefix.cmp(key),
        }
    }

    /// Appends exception `index` to `out`.
    pub fn append_to(&self, block: &[u8], index: usize, out: &mut Vec<u8>) {
        self.keys.append_to(block, index, out);
    }
}

/// Collects the exceptions of a block.
#[derive(Debug, Default)]
pub struct ExceptionsBuilder {
    words: Vec<u64>,
    keys: PrefixBytesBuilder,
}

impl ExceptionsBuilder {
    pub fn clear(&mut self) {
        self.words.clear();
        self.keys.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.keys.rows() == 0
    }

    pub fn len(&self) -> usize {
        self.keys.rows()
    }

    /// About how many bytes the column would have for `rows` rows; not less than it will.
    pub fn encoded_bytes_max(&self, rows: usize) -> usize {
        if self.is_empty() {
            return 0;
        }
        // An offset a key (2 bytes up to 64 KiB), one more a bundle; a bundle's prefix is part of
        // the bytes of its first key.
        16 + rows / 8 + self.keys.encoded_bytes_max() + self.keys.rows() * 3
    }

    /// Makes `row`, behind all rows pushed before, an exception.
    pub fn push(&mut self, row: usize, key: &[u8]) {
        self.words.resize(row / 64 + 1, 0);
        self.words[row / 64] |= 1 << (row % 64);
        let last = self.keys.last();
        let shared = super::common_prefix(last, key);
        let same = !self.is_empty() && last == key;
        self.keys.push(key, shared, same);
    }

    /// Appends the column of a block of `rows` rows.
    pub fn encode(&mut self, rows: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.keys.rows() as u32).to_le_bytes());
        self.words.resize(rows.div_ceil(64), 0);
        out.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        self.keys.encode(out);
    }
}
