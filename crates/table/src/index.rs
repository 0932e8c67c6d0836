//! The index block: one row per data block, columnar like the data.
//!
//! The separator of block *i* is the internal key (separator, separator trailer) with
//! `last entry of i <= separator i < first entry of i + 1`. Between different user keys it is the
//! shortest such string with trailer 0 (which sorts last); between two versions of one user key it
//! is that key with the trailer of the last version in block *i*. The last block's separator is
//! its last user key. So a search never opens a block in vain, even when the versions of a key fill
//! many blocks.
//!
//! Data blocks lie back to back from offset 0; parsing checks that. Statistics (rows, tombstones,
//! expiry, bounds of the key fields: `field_stats`) stand beside the handles for whoever skips or
//! sizes blocks.
//!
//! In memory the index also keeps the first eight bytes of each separator behind the block prefix
//! as one integer (`heads`), so that the search runs over a dense array and compares strings only
//! among equal heads.

use std::ops::Range;

use sluice_base::Trailer;

use crate::{
    column::{Integers, PrefixBytes, PrefixBytesBuilder, common_prefix, encode_integers, head},
    fault::Fault,
    field_stats::{FieldBounds, FieldStats, FieldStatsBuilder},
    format::{BLOCK_TRAILER_BYTES, block_kind, encoding, role},
    layout::{Layout, LayoutWriter},
    predicate::KeyPredicate,
    schema::KeySchema,
};

/// Where a block lies in the file; `bytes` includes the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handle {
    pub offset: u64,
    pub bytes: u64,
}

impl Handle {
    /// The first byte behind the block. Callers have checked the sum against the file's length.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// What the index says of a data block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockStats {
    pub rows: u64,
    pub tombstones: u64,
    /// Smallest and largest expiry, 0 for "none".
    pub expiry_min: u64,
    pub expiry_max: u64,
    /// Rows whose keys do not split by the table's schema.
    pub exceptions: u64,
}

impl BlockStats {
    /// Adds rows, tombstones and exceptions. Numbers from disk may be anything: they wrap.
    fn add(&mut self, other: &BlockStats) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.tombstones = self.tombstones.wrapping_add(other.tombstones);
        self.exceptions = self.exceptions.wrapping_add(other.exceptions);
    }
}

/// A parsed index.
#[derive(Debug)]
pub struct Index {
    bytes: Box<[u8]>,
    separators: PrefixBytes,
    trailers: Integers,
    offsets: Integers,
    lengths: Integers,
    rows: Integers,
    tombstones: Integers,
    expiry_min: Integers,
    expiry_max: Integers,
    exceptions: Integers,
    counts_exceptions: bool,
    fields: FieldStats,
    /// Of a top index; 0 in all rows of others.
    part_blocks: Integers,
    part_data_bytes: Integers,
    heads: Box<[u64]>,
}

impl Index {
    /// Parses and checks an unpacked index of `kind` whose blocks fill `range` of the file, of a table
    /// under `schema`.
    pub fn parse(
        bytes: Box<[u8]>,
        kind: u8,
        range: Range<u64>,
        schema: &KeySchema,
    ) -> Result<Index, Fault> {
        let layout = Layout::parse(&bytes, kind)?;
        let blocks = layout.rows;
        let separators = PrefixBytes::parse(&bytes, layout.required(role::SEPARATOR)?, blocks)?;
        let required = |role| Integers::parse(&bytes, layout.required(role)?, blocks);
        let optional = |role| match layout.column(role) {
            Some(column) => Integers::parse(&bytes, column, blocks),
            None => Ok(Integers::ZERO),
        };
        let trailers = required(role::SEPARATOR_TRAILER)?;
        let offsets = required(role::BLOCK_OFFSET)?;
        let lengths = required(role::BLOCK_BYTES)?;
        let rows = required(role::BLOCK_ROWS)?;
        let tombstones = required(role::BLOCK_TOMBSTONES)?;
        let (expiry_min, expiry_max) = (optional(role::EXPIRY_MIN)?, optional(role::EXPIRY_MAX)?);
        let exceptions = optional(role::BLOCK_EXCEPTIONS)?;
        let counts_exceptions = layout.column(role::BLOCK_EXCEPTIONS).is_some();
        let fields = FieldStats::parse(&bytes, &layout, schema)?;
        let top = kind == block_kind::TOP_INDEX;
        let (part_blocks, part_data_bytes) = if top {
            (required(role::PART_BLOCKS)?, required(role::PART_DATA_BYTES)?)
        } else {
            (Integers::ZERO, Integers::ZERO)
        };
        let known = |role| match role {
            role::PART_BLOCKS | role::PART_DATA_BYTES => top,
            role::SEPARATOR..=role::EXPIRY_MAX => true,
            role::BLOCK_EXCEPTIONS => !schema.is_whole_key(),
            other => fields.has_role(other),
        };
        if let Some(column) = layout.columns().iter().find(|column| !known(column.role)) {
            return Err(Fault::unsupported(format!("index column {:#04x}", column.role)));
        }
        let mut end = range.start;
        for block in 0..blocks {
            let (offset, length) = (offsets.get(&bytes, block), lengths.get(&bytes, block));
            if offset != end || length <= BLOCK_TRAILER_BYTES as u64 || length > range.end - end {
                return Err(Fault::damaged(
                    format!("block {block} at offset {end} and inside {} bytes", range.end),
                    format!("offset {offset}, {length} bytes"),
                ));
            }
            end += length;
        }
        if end != range.end {
            return Err(Fault::damaged(format!("blocks up to {}", range.end), end));
        }
        let prefix = separators.block_prefix(&bytes).len();
        let mut key = Vec::new();
        let heads = (0..blocks)
            .map(|block| {
                key.clear();
                separators.append_to(&bytes, block, &mut key);
                head(&key[prefix..])
            })
            .collect();
        Ok(Index {
            separators,
            trailers,
            offsets,
            lengths,
            rows,
            tombstones,
            expiry_min,
            expiry_max,
            exceptions,
            counts_exceptions,
            fields,
            part_blocks,
            part_data_bytes,
            heads,
            bytes,
        })
    }

    pub fn blocks(&self) -> usize {
        self.separators.rows()
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.heads.len() * 8 + size_of::<Index>()
    }

    #[inline]
    pub fn handle(&self, block: usize) -> Handle {
        Handle {
            offset: self.offsets.get(&self.bytes, block),
            bytes: self.lengths.get(&self.bytes, block),
        }
    }

    pub fn stats(&self, block: usize) -> BlockStats {
        BlockStats {
            rows: self.rows.get(&self.bytes, block),
            tombstones: self.tombstones.get(&self.bytes, block),
            expiry_min: self.expiry_min.get(&self.bytes, block),
            expiry_max: self.expiry_max.get(&self.bytes, block),
            exceptions: self.exceptions.get(&self.bytes, block),
        }
    }

    /// How many data blocks partition `row` of a top index has, and of how many bytes.
    pub fn part(&self, row: usize) -> (u64, u64) {
        (self.part_blocks.get(&self.bytes, row), self.part_data_bytes.get(&self.bytes, row))
    }

    /// What all blocks hold together. No expiry: nothing sums up.
    pub fn totals(&self) -> BlockStats {
        let mut sum = BlockStats::default();
        for block in 0..self.blocks() {
            sum.add(&self.stats(block));
        }
        sum
    }

    /// Whether the statistics count exceptions; tables of the first builds with schemas do not.
    pub fn counts_exceptions(&self) -> bool {
        self.counts_exceptions
    }

    /// The bounds of key field `field` in `block`, when the table has them.
    pub fn field_bounds(&self, block: usize, field: usize) -> Option<FieldBounds> {
        self.fields.get(&self.bytes, block, field)
    }

    /// False when no row of `block` can match `predicate`, which names fields of the table's schema.
    /// Rows that do not split match nothing: a block of nothing else is left out, and others by
    /// what they hold besides.
    pub fn may_match(&self, block: usize, predicate: &KeyPredicate) -> bool {
        let exceptions = self.exceptions.get(&self.bytes, block);
        if exceptions > 0 && exceptions == self.rows.get(&self.bytes, block) {
            return false;
        }
        let may = |condition| self.fields.may_match(&self.bytes, block, condition);
        predicate.conditions().iter().all(may)
    }

    /// The separator of `block`, whole.
    pub fn separator(&self, block: usize) -> (Vec<u8>, Trailer) {
        let mut key = Vec::new();
        self.separators.append_to(&self.bytes, block, &mut key);
        (key, Trailer(self.trailers.get(&self.bytes, block)))
    }

    /// The first block whose separator is at or after (`key`, `trailer`): the only one that can
    /// hold an entry of `key` at or after it. `blocks()` when all entries are before.
    #[inline]
    pub fn find(&self, key: &[u8], trailer: Trailer) -> usize {
        let prefix = self.separators.block_prefix(&self.bytes);
        let Some(rest) = key.strip_prefix(prefix) else {
            return if key < prefix { 0 } else { self.blocks() };
        };
        let wanted = head(rest);
        let mut low = self.heads.partition_point(|&head| head < wanted);
        if self.heads.get(low) != Some(&wanted) {
            return low;
        }
        // Equal heads say nothing about what follows them, nor "a" from "a\0".
        let mut high = low + self.heads[low..].partition_point(|&head| head == wanted);
        while low < high {
            let middle = (low + high) / 2;
            let order = self.separators.compare(&self.bytes, middle, rest);
            let before = order.is_lt()
                || (order.is_eq() && Trailer(self.trailers.get(&self.bytes, middle)) > trailer);
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Collects the rows of an index block.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    separators: PrefixBytesBuilder,
    trailers: Vec<u64>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    rows: Vec<u64>,
    tombstones: Vec<u64>,
    expiry_min: Vec<u64>,
    expiry_max: Vec<u64>,
    exceptions: Vec<u64>,
    fields: FieldStatsBuilder,
    /// Of a top index: data blocks of each partition, and their bytes.
    parts: Vec<(u64, u64)>,
}

/// What the index is told of a block besides its separator.
#[derive(Debug)]
pub struct BlockEntry {
    pub handle: Handle,
    pub stats: BlockStats,
    /// One a field of the schema that has statistics.
    pub bounds: Vec<FieldBounds>,
}

impl IndexBuilder {
    /// For a table under `schema`.
    pub fn new(schema: &KeySchema) -> IndexBuilder {
        IndexBuilder { fields: FieldStatsBuilder::new(schema), ..IndexBuilder::default() }
    }

    /// Adds a block; its separator is not before that of the block added last.
    pub fn push(&mut self, separator: &[u8], trailer: Trailer, entry: &BlockEntry) {
        let BlockEntry { handle, stats, bounds } = entry;
        let before = self.separators.last();
        let same = self.blocks() > 0 && before == separator;
        self.separators.push(separator, common_prefix(before, separator), same);
        self.trailers.push(trailer.0);
        self.offsets.push(handle.offset);
        self.lengths.push(handle.bytes);
        self.rows.push(stats.rows);
        self.tombstones.push(stats.tombstones);
        self.expiry_min.push(stats.expiry_min);
        self.expiry_max.push(stats.expiry_max);
        self.exceptions.push(stats.exceptions);
        self.fields.push(bounds);
    }

    pub fn blocks(&self) -> usize {
        self.offsets.len()
    }

    /// About how many bytes the index would have now.
    pub fn estimated_bytes(&self) -> usize {
        self.separators.encoded_bytes_max() + self.blocks() * (16 + self.fields.block_bytes())
    }

    /// Bytes of all separators, whole: what must stay below 4 GiB.
    pub fn separator_bytes(&self) -> usize {
        self.separators.raw_bytes()
    }

    /// Appends the payload.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        self.encode_rows(0..self.blocks(), out);
    }

    /// Appends the payload of an index of the blocks of `rows` alone.
    pub fn encode_rows(&mut self, rows: Range<usize>, out: &mut Vec<u8>) {
        let fields = self.fields.columns();
        let parts = !self.parts.is_empty();
        let columns = 8 + usize::from(fields > 0) + fields + 2 * usize::from(parts);
        let kind = if parts { block_kind::TOP_INDEX } else { block_kind::INDEX };
        let mut layout = LayoutWriter::begin(out, kind, rows.len(), columns);
        layout.column(out, role::SEPARATOR, encoding::PREFIX_BYTES);
        if rows == (0..self.blocks()) {
            self.separators.encode(out);
        } else {
            let mut separators = PrefixBytesBuilder::default();
            for row in rows.clone() {
                let (before, own) = (separators.last(), self.separators.get(row));
                let (shared, same) = (common_prefix(before, own), before == own);
                separators.push(own, shared, same && row > rows.start);
            }
            separators.encode(out);
        }
        for (role, values) in [
            (role::SEPARATOR_TRAILER, &self.trailers),
            (role::BLOCK_OFFSET, &self.offsets),
            (role::BLOCK_BYTES, &self.lengths),
            (role::BLOCK_ROWS, &self.rows),
            (role::BLOCK_TOMBSTONES, &self.tombstones),
            (role::EXPIRY_MIN, &self.expiry_min),
            (role::EXPIRY_MAX, &self.expiry_max),
            (role::BLOCK_EXCEPTIONS, &self.exceptions),
        ] {
            if role != role::BLOCK_EXCEPTIONS || fields > 0 {
                layout.column(out, role, encoding::INTEGERS);
                encode_integers(&values[rows.clone()], out);
            }
        }
        if parts {
            let (blocks, bytes): (Vec<u64>, Vec<u64>) = self.parts.iter().copied().unzip();
            layout.column(out, role::PART_BLOCKS, encoding::INTEGERS);
            encode_integers(&blocks, out);
            layout.column(out, role::PART_DATA_BYTES, encoding::INTEGERS);
            encode_integers(&bytes, out);
        }
        self.fields.encode(rows, &mut layout, out);
    }

    /// Adds to the index of a higher level that the blocks of `rows` of `below` have an index block of
    /// their own, which lies at `handle`.
    pub fn push_partition(&mut self, below: &IndexBuilder, rows: Range<usize>, handle: Handle) {
        let Some(last) = rows.clone().next_back() else { return };
        let mut stats = BlockStats::default();
        for row in rows.clone() {
            stats.add(&below.stats(row));
        }
        let counts = |row| below.exceptions[row] < below.rows[row];
        let bounds = below.fields.covered(rows.clone(), counts);
        let bytes = below.lengths[rows.clone()].iter().sum();
        self.parts.push((rows.len() as u64, bytes));
        let trailer = Trailer(below.trailers[last]);
        let entry = BlockEntry { handle, stats, bounds };
        self.push(below.separators.get(last), trailer, &entry);
    }

    fn stats(&self, row: usize) -> BlockStats {
        BlockStats {
            rows: self.rows[row],
            tombstones: self.tombstones[row],
            exceptions: self.exceptions[row],
            ..BlockStats::default()
        }
    }
}

/// Appends the shortest string `s` with `a <= s < b` to `out`. Needs `a < b`.
pub fn shortest_separator(a: &[u8], b: &[u8], out: &mut Vec<u8>) {
    let shared = common_prefix(a, b);
    if shared < a.len() && shared < b.len() {
        // a = shared x .., b = shared y .., x < y
        if shared + 1 < b.len() {
            // `shared y` is after a, and before b because b goes on.
            if shared + 1 < a.len() {
                out.extend_from_slice(&b[..=shared]);
                return;
            }
        } else if a[shared] + 1 < b[shared] {
            if shared + 1 < a.len() {
                out.extend_from_slice(&a[..shared]);
                out.push(a[shared] + 1);
                return;
            }
        } else {
            // b is `shared x+1`: only a longer string that begins with `shared x` fits.
            let tail = &a[shared + 1..];
            if let Some(at) = tail.iter().position(|&byte| byte != 0xff)
                && at + 1 < tail.len()
            {
                out.extend_from_slice(&a[..shared + 1 + at]);
                out.push(tail[at] + 1);
                return;
            }
        }
    }
    out.extend_from_slice(a);
}

#[cfg(test)]
mod tests {
    use sluice_env::Rng;

    use super::*;

    #[test]
    fn separators_lie_between_and_are_never_longer() {
        let seed = 0x5eed_5e9a;
        println!("seed {seed:#x}");
        let mut rng = Rng::new(seed);
        let letters = [0u8, 1, 2, 0xfe, 0xff];
        for _ in 0..20_000 {
            let mut string = || {
                let bytes = rng.below(6);
                (0..bytes).map(|_| letters[rng.below(5) as usize]).collect::<Vec<u8>>()
            };
            let (mut a, mut b) = (string(), string());
            if a == b {
                continue;
            }
            if a > b {
                std::mem::swap(&mut a, &mut b);
            }
            let mut separator = Vec::new();
            shortest_separator(&a, &b, &mut separator);
            assert!(a <= separator && separator < b, "{a:?} {separator:?} {b:?}");
            assert!(separator.len() <= a.len());
        }
    }

    #[test]
    fn separators_are_short_where_keys_differ_early() {
        let mut separator = Vec::new();
        shortest_separator(b"apple pie", b"banana", &mut separator);
        assert_eq!(separator, b"b");
    }
}
