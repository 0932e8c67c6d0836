//! A data block in memory: unpacked bytes and the parsed descriptors of their columns. This is
//! what the block cache holds, so a cache hit decodes nothing.
//!
//! Built by [`crate::block_builder`]. Knows no file and no cache.
//!
//! Invariant: [`Block::parse`] has checked every count and offset, and that every entry kind is
//! one that tables hold. Methods that take a row need `row < rows()`.

use sluice_base::{Kind, Trailer};

use crate::{
    column::{Bitmap, Integers, KeyCursor, PrefixBytes, RawBytes},
    fault::Fault,
    format::{block_kind, role},
    layout::Layout,
};

/// A data block, ready to be searched.
pub struct Block {
    bytes: Box<[u8]>,
    rows: usize,
    /// See [`PrefixBytes::bundle_heads`].
    heads: Box<[u64]>,
    keys: PrefixBytes,
    trailers: Integers,
    same_key: Bitmap,
    values: RawBytes,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.bytes.len();
        f.debug_struct("Block").field("rows", &self.rows).field("bytes", &bytes).finish()
    }
}

impl Block {
    /// Parses and checks an unpacked payload.
    pub fn parse(bytes: Box<[u8]>) -> Result<Block, Fault> {
        let layout = Layout::parse(&bytes, block_kind::DATA)?;
        let rows = layout.rows;
        let keys = PrefixBytes::parse(&bytes, layout.required(role::KEY_FIELD)?, rows)?;
        let trailers = Integers::parse(&bytes, layout.required(role::TRAILER)?, rows)?;
        let values = RawBytes::parse(&bytes, layout.required(role::VALUE)?, rows)?;
        let same_key = match layout.column(role::SAME_KEY) {
            Some(column) => Bitmap::parse(&bytes, column, rows)?,
            None => Bitmap::EMPTY,
        };
        for column in layout.columns() {
            match column.role {
                role::KEY_FIELD | role::TRAILER | role::VALUE | role::SAME_KEY => {}
                // Reserved columns may be there as long as they say "nothing".
                role::EXPIRY if Integers::parse(&bytes, column, rows)?.constant() == Some(0) => {}
                role::VALUE_POINTER if Bitmap::parse(&bytes, column, rows)?.is_empty() => {}
                other => {
                    let name = role::name(other);
                    return Err(Fault::unsupported(format!("data column {other:#04x} ({name})")));
                }
            }
        }
        let heads = keys.bundle_heads(&bytes);
        let block = Block { bytes, rows, heads, keys, trailers, same_key, values };
        let checked = if trailers.constant().is_some() { 1 } else { rows };
        for row in 0..checked {
            let trailer = block.trailer(row);
            if !matches!(trailer.kind(), Some(Kind::Delete | Kind::Put)) {
                return Err(Fault::unsupported(format!("entry kind {}", trailer.0 as u8)));
            }
        }
        if same_key.get(&block.bytes, 0) {
            return Err(Fault::damaged("a first row that begins a key", "one that repeats it"));
        }
        Ok(block)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the block weighs in a cache: its bytes and the descriptors.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.heads.len() * 8 + size_of::<Block>() + 64
    }

    #[inline]
    pub fn trailer(&self, row: usize) -> Trailer {
        Trailer(self.trailers.get(&self.bytes, row))
    }

    /// Where the value of `row` lies in [`Block::bytes`].
    #[inline]
    pub fn value_range(&self, row: usize) -> (usize, usize) {
        self.values.range(&self.bytes, row)
    }

    #[inline]
    pub fn value(&self, row: usize) -> &[u8] {
        let (start, end) = self.value_range(row);
        &self.bytes[start..end]
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub fn move_cursor(&self, cursor: &mut KeyCursor, row: usize) {
        cursor.move_to(&self.keys, &self.bytes, row);
    }

    /// Whether `row` has the user key of the row before it.
    #[inline]
    pub fn is_same_key(&self, row: usize) -> bool {
        self.same_key.get(&self.bytes, row)
    }

    /// The first row behind `row` with another user key; `rows()` when there is none.
    #[inline]
    pub fn next_key_row(&self, row: usize) -> usize {
        self.same_key.next_clear(&self.bytes, row + 1, self.rows)
    }

    /// The first row at or after (`key`, `trailer`), and whether its user key is `key`; `rows()`
    /// when all are before.
    #[inline]
    pub fn find(&self, key: &[u8], trailer: Trailer) -> (usize, bool) {
        let (row, equal) = self.keys.find(&self.bytes, &self.heads, key);
        if !equal || self.trailer(row) <= trailer {
            return (row, equal);
        }
        // The newest version is too new: search the older ones.
        let end = self.next_key_row(row);
        let (mut low, mut high) = (row + 1, end);
        while low < high {
            let middle = (low + high) / 2;
            if self.trailer(middle) > trailer {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low, low < end)
    }
}
