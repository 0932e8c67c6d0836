//! Data blocks without a table around them, for block benchmarks: what a table does with its blocks,
//! and nothing else. Not a stable interface.

use std::sync::Arc;

use sluice_base::Trailer;

use crate::{
    block::Block, block_builder::BlockBuilder, column::KeyCursor, column::common_prefix,
    schema::KeySchema,
};

/// Builds one block after another.
#[derive(Debug)]
pub struct BareBuilder {
    block: BlockBuilder,
}

impl BareBuilder {
    pub fn new(schema: &Arc<KeySchema>) -> BareBuilder {
        BareBuilder { block: BlockBuilder::new(schema) }
    }

    /// Adds the next row. Rows must ascend.
    #[inline]
    pub fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) {
        let last = self.block.last_key();
        let shared = common_prefix(last, key);
        let same = shared == key.len() && shared == last.len() && self.block.rows() > 0;
        self.block.push(key, shared, same, trailer, value);
    }

    /// Whether the next row fits into a block of `target` bytes.
    #[inline]
    pub fn has_room(&mut self, key: &[u8], value: &[u8], target: usize) -> bool {
        self.block.has_room(key.len() + value.len(), target)
    }

    /// Appends the block and begins the next.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.block.encode(out);
        self.block.clear();
    }
}

/// A block as the cache holds it.
#[derive(Debug)]
pub struct BareBlock(Block);

impl BareBlock {
    /// `None` when the bytes are no block under `schema`.
    pub fn parse(bytes: &[u8], schema: &KeySchema) -> Option<BareBlock> {
        Block::parse(bytes.into(), schema).ok().map(BareBlock)
    }

    pub fn rows(&self) -> usize {
        self.0.rows()
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    /// The first row at or after (`key`, `trailer`).
    #[inline]
    pub fn find(&self, key: &[u8], trailer: Trailer) -> usize {
        self.0.find(key, trailer).0
    }

    #[inline]
    pub fn trailer(&self, row: usize) -> Trailer {
        self.0.trailer(row)
    }

    #[inline]
    pub fn value(&self, row: usize) -> &[u8] {
        self.0.value(row)
    }
}

/// The key of a row of some block; keeps what neighbours share.
#[derive(Debug, Default)]
pub struct BareCursor(KeyCursor);

impl BareCursor {
    /// To be called before the first row of another block.
    pub fn leave_block(&mut self) {
        self.0.leave_block();
    }

    #[inline]
    pub fn key(&mut self, block: &BareBlock, row: usize) -> &[u8] {
        block.0.move_cursor(&mut self.0, row);
        self.0.key()
    }
}
