//! Builds the payload of a data block. Rows arrive in order; keys and values go into one arena
//! each, which is the final form of the value column already.
//!
//! Per row: two copies, a few integers, no allocation. Columns are written at the end of the block.

use std::sync::Arc;

use sluice_base::{Kind, Trailer};

use crate::{
    column::{PrefixBytesBuilder, encode_bitmap, encode_integers, encode_raw_bytes_head},
    field_stats::FieldBounds,
    format::{STATISTICS_FIELDS, block_kind, encoding, role},
    key_columns::KeyColumnsBuilder,
    layout::LayoutWriter,
    schema::KeySchema,
};

/// Upper bound of what a row costs besides its key and value: trailer delta (8 bytes at most, 4 in
/// practice), two offsets (2 bytes each up to 64 KiB), one bit.
const ROW_BYTES: usize = 9;

/// Header, directory of four columns, column heads, one bundle more than rows / 16.
const FIXED_BYTES: usize = 80;

/// The keys of a block; which it is, the table's schema says once.
#[derive(Debug)]
enum Keys {
    Whole(PrefixBytesBuilder),
    Fields(Box<KeyColumnsBuilder>),
}

/// Collects the rows of one data block.
#[derive(Debug)]
pub struct BlockBuilder {
    keys: Keys,
    trailers: Vec<u64>,
    values: Vec<u8>,
    value_ends: Vec<u32>,
    tombstones: u64,
    /// Bytes that may be pushed before the estimate is made again; see [`BlockBuilder::has_room`].
    unasked: usize,
    /// The last estimate.
    known_bytes: usize,
}

impl BlockBuilder {
    /// A builder of blocks whose keys are split by `schema`.
    pub fn new(schema: &Arc<KeySchema>) -> BlockBuilder {
        BlockBuilder {
            keys: if schema.is_whole_key() {
                Keys::Whole(PrefixBytesBuilder::default())
            } else {
                Keys::Fields(Box::new(KeyColumnsBuilder::new(Arc::clone(schema))))
            },
            trailers: Vec::new(),
            values: Vec::new(),
            value_ends: Vec::new(),
            tombstones: 0,
            unasked: 0,
            known_bytes: 0,
        }
    }

    pub fn clear(&mut self) {
        match &mut self.keys {
            Keys::Whole(keys) => keys.clear(),
            Keys::Fields(columns) => columns.clear(),
        }
        self.trailers.clear();
        self.values.clear();
        self.value_ends.clear();
        (self.tombstones, self.unasked, self.known_bytes) = (0, 0, 0);
        // A huge value must not hold its memory for the rest of the table.
        self.values.shrink_to(1 << 20);
    }

    pub fn rows(&self) -> usize {
        self.trailers.len()
    }

    pub fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// Rows whose keys do not split.
    pub fn exceptions(&self) -> u64 {
        match &self.keys {
            Keys::Whole(_) => 0,
            Keys::Fields(columns) => columns.exceptions() as u64,
        }
    }

    /// The smallest and the largest of each key field; none under a schema of one field.
    pub fn field_bounds(&self) -> Vec<FieldBounds> {
        match &self.keys {
            Keys::Whole(_) => Vec::new(),
            Keys::Fields(columns) => columns.bounds().take(STATISTICS_FIELDS).collect(),
        }
    }

    pub fn last_key(&self) -> &[u8] {
        match &self.keys {
            Keys::Whole(keys) => keys.last(),
            Keys::Fields(columns) => columns.last(),
        }
    }

    /// About how many bytes the payload would have now. Never far below the truth.
    #[inline]
    pub fn estimated_bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Whole(keys) => keys.encoded_bytes_max(),
            // A directory entry each; the offsets of a key in ROW_BYTES are not needed.
            Keys::Fields(columns) => columns.columns() * 8 + columns.encoded_bytes_max(),
        };
        FIXED_BYTES + keys + self.values.len() + self.rows() * ROW_BYTES
    }

    /// [`BlockBuilder::estimated_bytes`], perhaps of a while ago.
    #[inline]
    pub fn known_bytes(&self) -> usize {
        match self.keys {
            Keys::Whole(_) if self.rows() > 0 => self.estimated_bytes(),
            _ => self.known_bytes,
        }
    }

    /// Whether a row of `more` bytes of key and value fits into a block of `target` bytes.
    ///
    /// The estimate of several columns costs more than the row. So after each as many bytes as half of
    /// what was left go in unasked; a column that grows wider by one row may make a block larger than
    /// its target by as much as that.
    #[inline]
    pub fn has_room(&mut self, more: usize, target: usize) -> bool {
        if let Keys::Whole(_) = self.keys {
            return self.estimated_bytes() + more <= target;
        }
        match self.unasked.checked_sub(more + ROW_BYTES) {
            Some(left) => {
                self.unasked = left;
                true
            }
            None => self.has_room_now(more, target),
        }
    }

    #[inline(never)]
    fn has_room_now(&mut self, more: usize, target: usize) -> bool {
        self.known_bytes = self.estimated_bytes();
        let left = target.checked_sub(self.known_bytes + more);
        self.unasked = left.unwrap_or(0) / 2;
        left.is_some()
    }

    /// Adds a row. `shared` is how many bytes its key shares with the key before, `same` whether
    /// both are equal.
    #[inline]
    pub fn push(&mut self, key: &[u8], shared: usize, same: bool, trailer: Trailer, value: &[u8]) {
        self.push_without_value(key, shared, same, trailer, value.len());
        self.values.extend_from_slice(value);
    }

    /// Adds the last row of a block whose value the caller writes behind the encoded block.
    #[inline]
    pub fn push_without_value(
        &mut self,
        key: &[u8],
        shared: usize,
        same: bool,
        trailer: Trailer,
        value_bytes: usize,
    ) {
        match &mut self.keys {
            Keys::Whole(keys) => keys.push(key, shared, same),
            Keys::Fields(columns) => columns.push(key, shared, same),
        }
        self.trailers.push(trailer.0);
        self.value_ends.push((self.values.len() + value_bytes) as u32);
        self.tombstones += u64::from(trailer.0 as u8 == Kind::Delete as u8);
    }

    /// Appends the payload.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        #[cfg(debug_assertions)]
        let start = out.len();
        let columns = match &self.keys {
            Keys::Whole(_) => 1,
            Keys::Fields(columns) => columns.columns(),
        };
        let rows = self.rows();
        let mut layout = LayoutWriter::begin(out, block_kind::DATA, rows, columns + 3);
        match &mut self.keys {
            Keys::Whole(keys) => {
                layout.column(out, role::KEY_FIELD, encoding::PREFIX_BYTES);
                keys.encode(out);
            }
            Keys::Fields(columns) => columns.encode(&mut layout, out),
        }
        layout.column(out, role::TRAILER, encoding::INTEGERS);
        encode_integers(&self.trailers, out);
        layout.column(out, role::SAME_KEY, encoding::BITMAP);
        let same = match &self.keys {
            Keys::Whole(keys) => keys.same_words(),
            Keys::Fields(columns) => columns.same_words(),
        };
        encode_bitmap(same, out);
        layout.column(out, role::VALUE, encoding::RAW_BYTES);
        encode_raw_bytes_head(&self.value_ends, out);
        out.extend_from_slice(&self.values);
        #[cfg(debug_assertions)]
        if let Keys::Fields(columns) = &self.keys {
            columns.check(&out[start..]);
        }
    }
}
