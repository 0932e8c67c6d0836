//! The key of a row, put together in a buffer of its own of which a move rewrites only what changed.
//!
//! Inside a bundle of prefix bytes that is the suffix; under a key schema of several fields, the
//! fields that the row's group does not share. Pieces are short, so they are copied as sixteen bytes
//! whatever their length: no call, no loop. The buffer is longer than the key for that; what stands
//! behind the key means nothing.
//!
//! Sixteen keys at once, column by column, were tried and cost more: each then needs its own copy
//! of what all share.

use super::PrefixBytes;

/// What is copied at once.
const CHUNK: usize = 16;

/// No row and no place.
const NOWHERE: usize = usize::MAX;

#[derive(Debug)]
pub struct KeyCursor {
    buffer: Vec<u8>,
    /// The key is `buffer[..bytes]`.
    bytes: usize,
    /// How many bytes at the start the rows of `place` share.
    shared: usize,
    /// The bundle or group that the key is from; [`NOWHERE`] when nothing may be kept.
    place: usize,
    /// The row that the key is from, as its mover wants to know it.
    row: usize,
}

impl Default for KeyCursor {
    fn default() -> Self {
        KeyCursor::new()
    }
}

impl KeyCursor {
    pub fn new() -> KeyCursor {
        let buffer = vec![0; 8 * CHUNK];
        KeyCursor { buffer, bytes: 0, shared: 0, place: NOWHERE, row: NOWHERE }
    }

    /// Forgets the block that the key came from; to be called before a move to another one.
    pub fn leave_block(&mut self) {
        (self.place, self.row) = (NOWHERE, NOWHERE);
    }

    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }

    /// The place that the key is from, if `row` is the row behind the key's.
    #[inline(always)]
    pub fn place_before(&self, row: usize) -> Option<usize> {
        (self.row.wrapping_add(1) == row && self.place != NOWHERE).then_some(self.place)
    }

    /// Begins a key of which nothing is kept for later rows.
    #[inline]
    pub fn begin(&mut self) {
        self.leave_block();
        self.bytes = 0;
    }

    /// Goes to the end of what the rows of `place` share, which `share` appends if it is not there.
    /// `row` is one of them, and the one whose own bytes will be appended.
    #[inline(always)]
    pub fn enter(&mut self, place: usize, row: usize, share: impl FnOnce(&mut KeyCursor)) {
        if self.place != place {
            self.bytes = 0;
            share(self);
            (self.shared, self.place) = (self.bytes, place);
        }
        (self.bytes, self.row) = (self.shared, row);
    }

    /// Makes the key row `row` of a column that has whole keys.
    #[inline(always)]
    pub fn move_to(&mut self, column: &PrefixBytes, block: &[u8], row: usize) {
        let bundle = column.bundle_of(row);
        self.enter(bundle, row, |key| key.append_prefixes(column, block, bundle));
        let (start, end) = column.suffix_range(block, bundle, row);
        self.append(block, start, end);
    }

    #[inline(never)]
    fn append_prefixes(&mut self, column: &PrefixBytes, block: &[u8], bundle: usize) {
        self.append_slice(column.block_prefix(block));
        self.append_slice(column.bundle_prefix(block, bundle));
    }

    /// Appends `block[start..end]`.
    #[inline(always)]
    pub fn append(&mut self, block: &[u8], start: usize, end: usize) {
        let bytes = end - start;
        if bytes <= CHUNK
            && let Some(from) = block.get(start..start + CHUNK)
            && let Some(to) = self.buffer.get_mut(self.bytes..self.bytes + CHUNK)
        {
            to.copy_from_slice(from);
            self.bytes += bytes;
        } else {
            self.append_slice(&block[start..end]);
        }
    }

    /// Appends the low `bytes` bytes of `value`, big-endian.
    #[inline(always)]
    pub fn append_number(&mut self, value: u64, bytes: usize) {
        let raw = (value << (64 - 8 * bytes)).to_be_bytes();
        if let Some(to) = self.buffer.get_mut(self.bytes..self.bytes + 8) {
            to.copy_from_slice(&raw);
            self.bytes += bytes;
        } else {
            self.append_slice(&raw[..bytes]);
        }
    }

    #[inline(never)]
    pub fn append_slice(&mut self, slice: &[u8]) {
        let end = self.bytes + slice.len();
        if end + CHUNK > self.buffer.len() {
            self.buffer.resize((end + CHUNK).next_power_of_two(), 0);
        }
        self.buffer[self.bytes..end].copy_from_slice(slice);
        self.bytes = end;
    }
}
