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
    key_columns::KeyColumns,
    layout::Layout,
    predicate::KeyPredicate,
    schema::KeySchema,
};

/// A data block, ready to be searched.
pub struct Block {
    bytes: Box<[u8]>,
    rows: usize,
    keys: Keys,
    trailers: Integers,
    same_key: Bitmap,
    values: RawBytes,
}

/// The key columns, resolved once a block.
enum Keys {
    /// One column has the whole key, the other its [`PrefixBytes::bundle_heads`].
    Whole(PrefixBytes, Box<[u64]>),
    /// Behind a pointer: it is three times as large.
    Fields(Box<KeyColumns>),
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.bytes.len();
        f.debug_struct("Block").field("rows", &self.rows).field("bytes", &bytes).finish()
    }
}

impl Keys {
    fn has_role(&self, of: u8) -> bool {
        match self {
            Keys::Whole(..) => of == role::KEY_FIELD,
            Keys::Fields(columns) => columns.has_role(of),
        }
    }
}

impl Block {
    /// Parses and checks an unpacked payload, whose keys were split by `schema`.
    pub fn parse(bytes: Box<[u8]>, schema: &KeySchema) -> Result<Block, Fault> {
        let layout = Layout::parse(&bytes, block_kind::DATA)?;
        let rows = layout.rows;
        let keys = if schema.is_whole_key() {
            let keys = PrefixBytes::parse(&bytes, layout.required(role::KEY_FIELD)?, rows)?;
            Keys::Whole(keys, keys.bundle_heads(&bytes))
        } else {
            Keys::Fields(Box::new(KeyColumns::parse(&bytes, &layout, schema)?))
        };
        let trailers = Integers::parse(&bytes, layout.required(role::TRAILER)?, rows)?;
        let values = RawBytes::parse(&bytes, layout.required(role::VALUE)?, rows)?;
        let same_key = match layout.column(role::SAME_KEY) {
            Some(column) => Bitmap::parse(&bytes, column, rows)?,
            None => Bitmap::EMPTY,
        };
        for column in layout.columns() {
            match column.role {
                role::TRAILER | role::VALUE | role::SAME_KEY => {}
                other if keys.has_role(other) => {}
                // Reserved columns may be there as long as they say "nothing".
                role::EXPIRY if Integers::parse(&bytes, column, rows)?.constant() == Some(0) => {}
                role::VALUE_POINTER if Bitmap::parse(&bytes, column, rows)?.is_empty() => {}
                other => {
                    let name = role::name(other);
                    return Err(Fault::unsupported(format!("data column {other:#04x} ({name})")));
                }
            }
        }
        let block = Block { bytes, rows, keys, trailers, same_key, values };
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
        let keys = match &self.keys {
            Keys::Whole(_, heads) => heads.len() * 8,
            Keys::Fields(columns) => size_of::<KeyColumns>() + columns.memory_bytes(),
        };
        self.bytes.len() + keys + size_of::<Block>() + 64
    }

    #[inline]
    pub fn trailer(&self, row: usize) -> Trailer {
        Trailer(self.trailers.get(&self.bytes, row))
    }

    /// Where the value of `row` lies in [`Block::bytes`].
    #[inline]
    pub fn value_range(&self, row: usize) -> (usize, usize) {
        #[cfg(debug_assertions)]
        crate::fuzzing::count_value_read();
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

    /// Makes `cursor`'s key that of `row`. Whole keys are done in place, so that a walk over them has
    /// no call.
    #[inline]
    pub fn move_cursor(&self, cursor: &mut KeyCursor, row: usize) {
        match &self.keys {
            Keys::Whole(keys, _) => cursor.move_to(keys, &self.bytes, row),
            Keys::Fields(columns) => columns.move_cursor(cursor, &self.bytes, row),
        }
    }

    /// Replaces `words` by the rows that match `predicate`, bit r for row r; false when the key is
    /// one column, which knows no fields.
    pub fn select(&self, predicate: &KeyPredicate, words: &mut Vec<u64>) -> bool {
        match &self.keys {
            Keys::Whole(..) => false,
            Keys::Fields(columns) => {
                columns.select(&self.bytes, predicate, words);
                true
            }
        }
    }

    /// Makes `cursor`'s key that of `row`, and `ends` where its fields end by the columns; false when it
    /// does not split, or the key is one column.
    pub fn split_row(&self, cursor: &mut KeyCursor, row: usize, ends: &mut Vec<usize>) -> bool {
        match &self.keys {
            Keys::Whole(..) => {
                self.move_cursor(cursor, row);
                false
            }
            Keys::Fields(columns) => columns.split_row(cursor, &self.bytes, row, ends),
        }
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

    /// The first row of `rows` that repeats a user key or is a tombstone; their end when there is none.
    pub fn first_to_decide(&self, rows: std::ops::Range<usize>) -> usize {
        let end = self.same_key.next_set(&self.bytes, rows.start, rows.end);
        let is_delete = |row: usize| self.trailer(row).0 as u8 == Kind::Delete as u8;
        (rows.start..end).find(|&row| is_delete(row)).unwrap_or(end)
    }

    /// The first row at or after (`key`, `trailer`), and whether its user key is `key`; `rows()`
    /// when all are before.
    #[inline]
    pub fn find(&self, key: &[u8], trailer: Trailer) -> (usize, bool) {
        let (row, equal) = match &self.keys {
            Keys::Whole(keys, heads) => keys.find(&self.bytes, heads, key),
            Keys::Fields(columns) => columns.find(&self.bytes, key),
        };
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
