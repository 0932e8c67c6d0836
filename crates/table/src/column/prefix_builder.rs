//! Writes a column of sorted strings; [`super::PrefixBytes`] reads it and has the picture.

use super::{Offsets, prefix_bytes::HEAD_BYTES};
use crate::format::BUNDLE_SHIFT;

/// Collects sorted strings and writes them as a column.
///
/// The prefix of a bundle is the least of the prefixes that neighbours in it share, because the
/// strings ascend; the caller knows each from its order check, so nothing is compared twice.
#[derive(Debug, Default)]
pub struct PrefixBytesBuilder {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Bit r: row r equals row r - 1.
    same: Vec<u64>,
    same_count: usize,
    /// Length of the prefix of each bundle, from the start of the string.
    bundles: Vec<u32>,
    /// Length of the prefix of all strings.
    prefix: usize,
    /// Scratch of [`PrefixBytesBuilder::encode`].
    offsets: Vec<u32>,
}

impl PrefixBytesBuilder {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.same.clear();
        self.same_count = 0;
        self.bundles.clear();
        self.prefix = 0;
    }

    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all strings, whole.
    pub fn raw_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that the strings take in the column at most, offsets apart.
    pub fn encoded_bytes_max(&self) -> usize {
        self.bytes.len() - self.prefix * self.rows().saturating_sub(1)
    }

    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.bytes[start..self.ends[row] as usize]
    }

    pub fn last(&self) -> &[u8] {
        self.rows().checked_sub(1).map_or(&[], |row| self.get(row))
    }

    /// The words of the bitmap "equals the row before".
    pub fn same_words(&self) -> &[u64] {
        &self.same
    }

    fn is_same(&self, row: usize) -> bool {
        self.same_count > 0 && self.same[row / 64] >> (row % 64) & 1 != 0
    }

    /// Adds the next string, which shares its first `shared` bytes with the one before, and `same`
    /// says whether it equals it.
    #[inline]
    pub fn push(&mut self, string: &[u8], shared: usize, same: bool) {
        let row = self.ends.len();
        if row == 0 {
            self.prefix = string.len();
        } else {
            self.prefix = self.prefix.min(shared);
        }
        if row & ((1 << BUNDLE_SHIFT) - 1) == 0 {
            self.bundles.push(string.len() as u32);
        } else if let Some(bundle) = self.bundles.last_mut() {
            *bundle = (*bundle).min(shared as u32);
        }
        if row.is_multiple_of(64) {
            self.same.push(0);
        }
        if same && row > 0 {
            self.same[row / 64] |= 1 << (row % 64);
            self.same_count += 1;
        }
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Appends the column.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        self.offsets.clear();
        self.offsets.push(0);
        let (mut start, mut total) = (0usize, 0usize);
        for (row, &end) in self.ends.iter().enumerate() {
            let bundle = self.bundles[row >> BUNDLE_SHIFT] as usize;
            let first = row & ((1 << BUNDLE_SHIFT) - 1) == 0;
            if first {
                total += bundle - self.prefix;
                self.offsets.push(total as u32);
            }
            if first || !self.is_same(row) {
                total += end as usize - start - bundle;
            }
            self.offsets.push(total as u32);
            start = end as usize;
        }
        let width = Offsets::width_for(total);
        out.reserve(HEAD_BYTES + self.offsets.len() * usize::from(width) + self.prefix + total);
        out.push(BUNDLE_SHIFT);
        out.push(width);
        out.extend_from_slice(&(self.prefix as u32).to_le_bytes());
        Offsets::encode(&self.offsets, width, out);
        if self.rows() > 0 {
            out.extend_from_slice(&self.get(0)[..self.prefix]);
        }
        start = 0;
        for (row, &end) in self.ends.iter().enumerate() {
            let string = &self.bytes[start..end as usize];
            start = end as usize;
            let bundle = self.bundles[row >> BUNDLE_SHIFT] as usize;
            if row & ((1 << BUNDLE_SHIFT) - 1) == 0 {
                out.extend_from_slice(&string[self.prefix..]);
            } else if !self.is_same(row) {
                out.extend_from_slice(&string[bundle..]);
            }
        }
    }
}
