//! The block cache: unpacked, parsed data blocks and partitions of indexes, bounded in bytes, shared by all tables.
//!
//! A thin face over `quick_cache` (a sharded S3-FIFO-like cache). Keys are (table, offset), where
//! the table's number is given out by the cache when the table is opened: file numbers are unique
//! only inside one directory, and a cache may serve several databases.
//!
//! Holds no filter, no index of one level and no top of one in two; tables pin theirs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use foldhash::fast::FixedState;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use crate::{block::Block, index::Index};

/// Expected size of a block, from which the cache sizes its own tables.
const BLOCK_BYTES_TYPICAL: u64 = 16 << 10;

/// Counters are striped over cache lines, so that threads that hit different blocks do not fight
/// over one.
const STRIPES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BlockKey {
    table: u64,
    offset: u64,
}

/// What lies at an offset of a table: always the same of both.
#[derive(Debug, Clone)]
enum Cached {
    Block(Arc<Block>),
    Partition(Arc<Index>),
}

impl Cached {
    #[inline]
    fn block(self) -> Option<Arc<Block>> {
        match self {
            Cached::Block(block) => Some(block),
            Cached::Partition(_) => None,
        }
    }

    fn partition(self) -> Option<Arc<Index>> {
        match self {
            Cached::Block(_) => None,
            Cached::Partition(index) => Some(index),
        }
    }
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<BlockKey, Cached> for Bytes {
    fn weight(&self, _: &BlockKey, cached: &Cached) -> u64 {
        match cached {
            Cached::Block(block) => block.memory_bytes() as u64,
            Cached::Partition(index) => index.memory_bytes() as u64,
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How a cache did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub bytes: u64,
    pub capacity_bytes: u64,
    pub blocks: u64,
}

/// A cache of data blocks.
pub struct BlockCache {
    /// Hashed in the same way in every run: which blocks are dropped decides which reads reach the
    /// disk, and a test that is to repeat itself must read the same. Nobody outside chooses keys.
    blocks: Cache<BlockKey, Cached, Bytes, FixedState>,
    capacity_bytes: AtomicU64,
    tables: AtomicU64,
    stripes: [Stripe; STRIPES],
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BlockCache").field(&self.stats()).finish()
    }
}

impl BlockCache {
    /// A cache of at most `capacity_bytes` of unpacked blocks; 0 keeps none.
    pub fn new(capacity_bytes: u64) -> Arc<BlockCache> {
        let items = (capacity_bytes / BLOCK_BYTES_TYPICAL).max(64) as usize;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(capacity_bytes)
            .build();
        let blocks = match options {
            Ok(options) => {
                Cache::with_options(options, Bytes, FixedState::default(), Default::default())
            }
            // Both sizes are set above; this is what the builder would have made of them.
            Err(_) => {
                Cache::with(items, capacity_bytes, Bytes, FixedState::default(), Default::default())
            }
        };
        Arc::new(BlockCache {
            blocks,
            capacity_bytes: AtomicU64::new(capacity_bytes),
            tables: AtomicU64::new(0),
            stripes: Default::default(),
        })
    }

    /// Changes the most bytes it holds; what is over a smaller size goes at once.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.capacity_bytes.store(capacity_bytes, Ordering::Relaxed);
        self.blocks.set_capacity(capacity_bytes);
    }

    /// A number for a table that opens, never given out twice.
    pub(crate) fn next_table(&self) -> u64 {
        self.tables.fetch_add(1, Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn get(&self, table: u64, offset: u64) -> Option<Arc<Block>> {
        self.counted(table, offset).and_then(Cached::block)
    }

    /// The partition of an index at `offset`.
    pub(crate) fn get_partition(&self, table: u64, offset: u64) -> Option<Arc<Index>> {
        self.counted(table, offset).and_then(Cached::partition)
    }

    #[inline]
    fn counted(&self, table: u64, offset: u64) -> Option<Cached> {
        let found = self.blocks.get(&BlockKey { table, offset });
        let stripe = &self.stripes[(offset / BLOCK_BYTES_TYPICAL) as usize % STRIPES];
        let counter = if found.is_some() { &stripe.hits } else { &stripe.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// [`BlockCache::get`] for scans: neither counted nor taken for a sign of interest.
    pub(crate) fn peek(&self, table: u64, offset: u64) -> Option<Arc<Block>> {
        self.blocks.peek(&BlockKey { table, offset }).and_then(Cached::block)
    }

    pub(crate) fn peek_partition(&self, table: u64, offset: u64) -> Option<Arc<Index>> {
        self.blocks.peek(&BlockKey { table, offset }).and_then(Cached::partition)
    }

    pub(crate) fn insert(&self, table: u64, offset: u64, block: &Arc<Block>) {
        self.blocks.insert(BlockKey { table, offset }, Cached::Block(Arc::clone(block)));
    }

    pub(crate) fn insert_partition(&self, table: u64, offset: u64, index: &Arc<Index>) {
        self.blocks.insert(BlockKey { table, offset }, Cached::Partition(Arc::clone(index)));
    }

    /// Drops every block. Readers keep those they hold.
    pub fn clear(&self) {
        self.blocks.clear();
    }

    pub fn stats(&self) -> CacheStats {
        let sum = |counter: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| counter(stripe).load(Ordering::Relaxed)).sum()
        };
        CacheStats {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            bytes: self.blocks.weight(),
            capacity_bytes: self.capacity_bytes.load(Ordering::Relaxed),
            blocks: self.blocks.len() as u64,
        }
    }
}
