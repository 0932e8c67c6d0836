//! Builds the payload of a data block. Rows arrive in order; keys and values go into one arena
//! each, which is the final form of the value column already.
//!
//! Per row: two copies, a few integers, no allocation. Columns are written at the end of the block.

use sluice_base::{Kind, Trailer};

use crate::{
    column::{PrefixBytesBuilder, encode_bitmap, encode_integers, encode_raw_bytes_head},
    format::{block_kind, encoding, role},
    layout::LayoutWriter,
};

/// Upper bound of what a row costs besides its key and value: trailer delta (8 bytes at most, 4 in
/// practice), two offsets (2 bytes each up to 64 KiB), one bit.
const ROW_BYTES: usize = 9;

/// Header, directory of four columns, column heads, one bundle more than rows / 16.
const FIXED_BYTES: usize = 80;

/// Collects the rows of one data block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    keys: PrefixBytesBuilder,
    trailers: Vec<u64>,
    values: Vec<u8>,
    value_ends: Vec<u32>,
    tombstones: u64,
}

impl BlockBuilder {
    pub fn clear(&mut self) {
        self.keys.clear();
        self.trailers.clear();
        self.values.clear();
        self.value_ends.clear();
        self.tombstones = 0;
        // A huge value must not hold its memory for the rest of the table.
        self.values.shrink_to(1 << 20);
    }

    pub fn rows(&self) -> usize {
        self.trailers.len()
    }

    pub fn tombstones(&self) -> u64 {
        self.tombstones
    }

    pub fn last_key(&self) -> &[u8] {
        self.keys.last()
    }

    /// About how many bytes the payload would have now. Never far below the truth.
    #[inline]
    pub fn estimated_bytes(&self) -> usize {
        FIXED_BYTES + self.keys.encoded_bytes_max() + self.values.len() + self.rows() * ROW_BYTES
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
        self.keys.push(key, shared, same);
        self.trailers.push(trailer.0);
        self.value_ends.push((self.values.len() + value_bytes) as u32);
        self.tombstones += u64::from(trailer.0 as u8 == Kind::Delete as u8);
    }

    /// Appends the payload.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        let mut layout = LayoutWriter::begin(out, block_kind::DATA, self.rows(), 4);
        layout.column(out, role::KEY_FIELD, encoding::PREFIX_BYTES);
        self.keys.encode(out);
        layout.column(out, role::TRAILER, encoding::INTEGERS);
        encode_integers(&self.trailers, out);
        layout.column(out, role::SAME_KEY, encoding::BITMAP);
        encode_bitmap(self.keys.same_words(), out);
        layout.column(out, role::VALUE, encoding::RAW_BYTES);
        encode_raw_bytes_head(&self.value_ends, out);
        out.extend_from_slice(&self.values);
    }
}
