//! Sorted byte strings with shared prefixes, readable in place at any row.
//!
//! Rows form bundles of 16. The prefix shared by the whole column is stored once, the prefix
//! shared by a bundle once per bundle, and of each row only what follows both:
//!
//! ```text
//! +-------+-------+------------------+-----------------------+--------------+--------+
//! | shift | width | prefix bytes u32 | (slices + 1) x offset | block prefix | slices |
//! +-------+-------+------------------+-----------------------+--------------+--------+
//!
//! slices = [bundle 0 prefix][row 0][row 1]..[row 15][bundle 1 prefix][row 16]..
//! row r of bundle b = r >> shift is slice r + b + 1; its bundle's prefix is slice b * 17
//! ```
//! Worked example: `user:100`, `user:101`, `user:101`, `user:17` are the block prefix `user:1` and,
//! in one bundle, the slices ``, `00`, `01`, ``, `7`.
//!
//! A row that equals the row before it is an empty slice, unless it begins a bundle. No other row
//! but the first of a bundle can be empty, because strings ascend. So reading steps back at most
//! 15 rows, and only over duplicates.
//!
//! Key fields behind the first do not ascend. Their columns have the same bytes, and a writer that
//! leaves every row a byte of its own: all of the above but the search holds for them too.
//!
//! Search is binary over the bundles, then binary over the rows of one. For the first step the
//! owner of a column keeps the first eight bytes of each bundle's first string as an integer
//! ([`PrefixBytes::bundle_heads`]): nine of them for a block of 16 KiB, so that step touches a line
//! or two that stay in the processor's cache, and the block's memory is first touched at the
//! right bundle. Among equal heads strings are compared whole (a bundle's prefix and first row are
//! neighbours, so its first string is one slice).

use std::cmp::Ordering;

use super::{Column, Offsets, find_string, head, load_u32, lower_bound};
use crate::{
    fault::Fault,
    format::{BUNDLE_SHIFT_MAX, encoding},
};

/// Shift, width, length of the block prefix.
pub(super) const HEAD_BYTES: usize = 6;

/// A parsed column of sorted strings.
#[derive(Debug, Clone, Copy)]
pub struct PrefixBytes {
    offsets: Offsets,
    prefix_start: u32,
    /// Where the block prefix ends and slice 0 begins.
    data: u32,
    rows: u32,
    shift: u8,
}

impl PrefixBytes {
    pub fn parse(block: &[u8], column: &Column, rows: usize) -> Result<PrefixBytes, Fault> {
        if column.encoding != encoding::PREFIX_BYTES {
            return Err(column.damaged("prefix bytes", format!("encoding {}", column.encoding)));
        }
        let bytes = &block[column.start as usize..column.end as usize];
        if bytes.len() < HEAD_BYTES {
            return Err(column.short(HEAD_BYTES));
        }
        let (shift, width) = (bytes[0], bytes[1]);
        if shift == 0 || shift > BUNDLE_SHIFT_MAX {
            return Err(column.damaged(format!("bundle shift 1 to {BUNDLE_SHIFT_MAX}"), shift));
        }
        if !matches!(width, 1 | 2 | 4) {
            return Err(column.damaged("offset width 1, 2 or 4", width));
        }
        let prefix_bytes = load_u32(bytes, 2) as usize;
        let slices = rows + rows.div_ceil(1 << shift);
        let head = HEAD_BYTES + (slices + 1) * usize::from(width);
        let data_bytes = bytes
            .len()
            .checked_sub(head + prefix_bytes)
            .ok_or_else(|| column.short(head + prefix_bytes))?;
        let offsets = Offsets { at: column.start + HEAD_BYTES as u32, width };
        offsets.check(block, slices + 1, data_bytes, column)?;
        let prefix_start = column.start + head as u32;
        Ok(PrefixBytes {
            offsets,
            prefix_start,
            data: prefix_start + prefix_bytes as u32,
            rows: rows as u32,
            shift,
        })
    }

    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// Rows of a bundle, as a power of two.
    pub fn shift(&self) -> u8 {
        self.shift
    }

    /// The prefix shared by all rows.
    #[inline]
    pub fn block_prefix<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.prefix_start as usize..self.data as usize]
    }

    #[inline(always)]
    fn slice<'a>(&self, block: &'a [u8], index: usize) -> &'a [u8] {
        let (start, end) = self.offsets.pair(block, index);
        &block[self.data as usize + start..self.data as usize + end]
    }

    #[inline(always)]
    pub(super) fn bundle_of(&self, row: usize) -> usize {
        row >> self.shift
    }

    #[inline(always)]
    pub(super) fn bundle_prefix<'a>(&self, block: &'a [u8], bundle: usize) -> &'a [u8] {
        self.slice(block, (bundle << self.shift) + bundle)
    }

    /// The bundle's first string without the block prefix: two neighbouring slices as one.
    #[inline(always)]
    fn bundle_first<'a>(&self, block: &'a [u8], bundle: usize) -> &'a [u8] {
        let index = (bundle << self.shift) + bundle;
        let start = self.offsets.get(block, index);
        let end = self.offsets.get(block, index + 2);
        &block[self.data as usize + start..self.data as usize + end]
    }

    /// What row `row` has behind its bundle's prefix.
    #[inline(always)]
    fn suffix<'a>(&self, block: &'a [u8], row: usize) -> &'a [u8] {
        let (start, end) = self.suffix_range(block, self.bundle_of(row), row);
        &block[start..end]
    }

    /// Where row `row`'s own bytes begin and end behind its bundle's prefix.
    #[inline(always)]
    pub(super) fn suffix_range(
        &self,
        block: &[u8],
        bundle: usize,
        mut row: usize,
    ) -> (usize, usize) {
        let first = bundle << self.shift;
        let data = self.data as usize;
        loop {
            let (start, end) = self.offsets.pair(block, row + bundle + 1);
            if start != end || row == first {
                return (data + start, data + end);
            }
            row -= 1;
        }
    }

    /// The head of each bundle's first string behind the block prefix, for [`PrefixBytes::find`].
    pub fn bundle_heads(&self, block: &[u8]) -> Box<[u64]> {
        let bundles = self.rows().div_ceil(1 << self.shift);
        (0..bundles).map(|bundle| head(self.bundle_first(block, bundle))).collect()
    }

    /// The first row that is at or after `key`, and whether it equals `key`; `rows` when all are
    /// before it. `heads` is what [`PrefixBytes::bundle_heads`] made of this column.
    #[inline]
    pub fn find(&self, block: &[u8], heads: &[u64], key: &[u8]) -> (usize, bool) {
        let rows = self.rows as usize;
        let prefix = self.block_prefix(block);
        let Some(rest) = key.strip_prefix(prefix) else {
            return if key < prefix { (0, false) } else { (rows, false) };
        };
        self.find_among(block, Some(heads), rest, (0, rows))
    }

    /// The first row of `low..high`, among which the strings ascend, that is at or after `rest`, a
    /// string without the block prefix, and whether it equals it; `high` when all are before it.
    /// Without `heads` the bundles' first strings are compared.
    #[inline]
    pub fn find_among(
        &self,
        block: &[u8],
        heads: Option<&[u64]>,
        rest: &[u8],
        (low, high): (usize, usize),
    ) -> (usize, bool) {
        let wanted = head(rest);
        // Bundles that begin inside; `next` will be the first of them that is not before the key.
        let (mut next, mut end) = (low.div_ceil(1 << self.shift), high.div_ceil(1 << self.shift));
        if let Some(heads) = heads {
            let inside = &heads[next..end];
            let equal = next + inside.partition_point(|&head| head < wanted);
            // Equal heads say nothing.
            end = equal + heads[equal..end].iter().take_while(|&&head| head == wanted).count();
            next = equal;
        }
        let first = low.div_ceil(1 << self.shift);
        next = lower_bound(next, end, |bundle| self.bundle_first(block, bundle) < rest);
        // The key is behind the first row of the bundle before, so it can be in there.
        let from = if next > first { ((next - 1) << self.shift) + 1 } else { low };
        let to = high.min(next << self.shift);
        if from < to {
            let (row, equal) = self.find_in_bundle(block, next - 1, (from, to), rest);
            if row < to {
                return (row, equal);
            }
        }
        (to, to < high && self.bundle_first(block, next) == rest)
    }

    /// The first of the rows `low..high` of `bundle` that is at or after `rest`, and whether it
    /// equals it; `high` when there is none.
    #[inline]
    fn find_in_bundle(
        &self,
        block: &[u8],
        bundle: usize,
        (low, high): (usize, usize),
        rest: &[u8],
    ) -> (usize, bool) {
        let prefix = self.bundle_prefix(block, bundle);
        let Some(rest) = rest.strip_prefix(prefix) else {
            return (if rest < prefix { low } else { high }, false);
        };
        find_string(block, (low, high), rest, |row| self.suffix_range(block, bundle, row))
    }

    /// Compares row `row` with `rest`, a string without the block prefix.
    pub fn compare(&self, block: &[u8], row: usize, rest: &[u8]) -> Ordering {
        let prefix = self.bundle_prefix(block, self.bundle_of(row));
        match rest.strip_prefix(prefix) {
            Some(rest) => self.suffix(block, row).cmp(rest),
            // `rest` may be a proper prefix of the bundle's prefix: then the row is after it.
            None => prefix.cmp(rest),
        }
    }

    /// Where the three parts of row `row` lie: the block's prefix, the bundle's, its own bytes.
    #[inline]
    pub fn ranges(&self, block: &[u8], row: usize) -> [(usize, usize); 3] {
        let bundle = self.bundle_of(row);
        let (start, end) = self.offsets.pair(block, (bundle << self.shift) + bundle);
        let data = self.data as usize;
        [
            (self.prefix_start as usize, data),
            (data + start, data + end),
            self.suffix_range(block, bundle, row),
        ]
    }

    /// Appends row `row` to `out`.
    pub fn append_to(&self, block: &[u8], row: usize, out: &mut Vec<u8>) {
        for (start, end) in self.ranges(block, row) {
            out.extend_from_slice(&block[start..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_env::Rng;

    use super::*;
    use crate::column::{KeyCursor, PrefixBytesBuilder, common_prefix};

    fn encode(strings: &[Vec<u8>]) -> (Vec<u8>, PrefixBytes) {
        let mut builder = PrefixBytesBuilder::default();
        for (row, string) in strings.iter().enumerate() {
            let before: &[u8] = if row == 0 { &[] } else { &strings[row - 1] };
            builder.push(string, common_prefix(before, string), row > 0 && before == &string[..]);
        }
        let mut bytes = vec![0xaa; 5];
        builder.encode(&mut bytes);
        let end = bytes.len() as u32;
        let column = Column { role: 1, encoding: encoding::PREFIX_BYTES, start: 5, end };
        let parsed = PrefixBytes::parse(&bytes, &column, strings.len()).unwrap();
        (bytes, parsed)
    }

    fn check(strings: &[Vec<u8>], probes: &[Vec<u8>]) {
        let (bytes, column) = encode(strings);
        let mut cursor = KeyCursor::new();
        for (row, string) in strings.iter().enumerate() {
            let mut out = Vec::new();
            column.append_to(&bytes, row, &mut out);
            assert_eq!(&out, string, "row {row}");
            cursor.move_to(&column, &bytes, row);
            assert_eq!(cursor.key(), string);
        }
        for row in (0..strings.len()).rev() {
            cursor.move_to(&column, &bytes, row);
            assert_eq!(cursor.key(), strings[row]);
        }
        let heads = column.bundle_heads(&bytes);
        for probe in probes.iter().chain(strings) {
            let row = strings.partition_point(|string| string < probe);
            let equal = strings.get(row) == Some(probe);
            assert_eq!(
                column.find(&bytes, &heads, probe),
                (row, equal),
                "{probe:?} in {strings:?}"
            );
            let prefix = column.block_prefix(&bytes);
            if let Some(rest) = probe.strip_prefix(prefix) {
                for (row, string) in strings.iter().enumerate() {
                    assert_eq!(column.compare(&bytes, row, rest), string.cmp(probe));
                }
            }
        }
    }

    #[test]
    fn the_worked_example_has_the_bytes_of_the_picture() {
        let strings = [&b"user:100"[..], b"user:101", b"user:101", b"user:17"];
        let (bytes, _) = encode(&strings.map(|string| string.to_vec()));
        assert_eq!(&bytes[5..], b"\x04\x01\x06\0\0\0\x00\x00\x02\x04\x04\x05user:100017");
    }

    #[test]
    fn random_columns_read_and_search_like_a_sorted_list() {
        let seed = 0x5eed_0001;
        println!("seed {seed:#x}");
        let mut rng = Rng::new(seed);
        for round in 0..300 {
            let letters = 1 + rng.below(4);
            let length = 1 + rng.below(if round % 3 == 0 { 3 } else { 12 });
            let lead = vec![b'p'; rng.below(4) as usize];
            let string = |rng: &mut Rng| {
                let mut string = if rng.one_in(20) { Vec::new() } else { lead.clone() };
                for _ in 0..rng.below(length + 1) {
                    string.push(b'a' + rng.below(letters) as u8);
                }
                string
            };
            let rows = 1 + rng.below(100);
            let mut strings: Vec<_> = (0..rows).map(|_| string(&mut rng)).collect();
            if rng.one_in(3) {
                let again = strings[0].clone();
                strings.extend((0..rng.below(50)).map(|_| again.clone()));
            }
            strings.sort();
            let probes: Vec<_> = (0..40).map(|_| string(&mut rng)).collect();
            check(&strings, &probes);
        }
    }
}
