//! [`Memtable`]: the entries of one column family that are not in a table yet, sorted, in memory.
//! Knows no log, no column family and no flush: those above decide when it is sealed, flushed and
//! dropped.
//!
//! ```text
//! committers ──insert──> SkipList (nodes in an Arena) <──seek, next, prev── readers
//!                        Tally: counts, sizes, sequence range
//!                        counters: sums of Kind::Counter deltas
//! ```
//!
//! An insert and its tally are two steps, so the numbers lag behind the entries while writers are
//! in flight. They are exact once everything that was ever reserved in the memtable is visible, which
//! the flusher waits for.

mod arena;
mod iter;
mod node;
mod skiplist;
mod sync;
#[cfg(test)]
mod tests;

pub use iter::MemtableIter;
pub(crate) use node::key_prefix;

use self::{
    skiplist::SkipList,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering},
};
#[cfg(test)]
use sluice_base::SeqNo;
use sluice_base::{Kind, Trailer};
use sluice_env::sync::PoisonError;
use std::{collections::BTreeMap, fmt, mem::size_of};

/// Entries on their way to a table. See the file's head.
pub struct Memtable {
    id: u64,
    list: SkipList,
    tally: Tally,
    counters: Mutex<BTreeMap<u32, i64>>,
}

/// What was inserted so far. On one cache line of its own: every insert writes to it, and no search
/// should wait for that.
#[repr(align(64))]
struct Tally {
    entries: AtomicU64,
    tombstones: AtomicU64,
    raw_bytes: AtomicU64,
    /// `u64::MAX` while nothing was inserted.
    seq_min: AtomicU64,
    seq_max: AtomicU64,
}

impl Memtable {
    /// An empty memtable. `id` tells it from others; it also varies the shape of the skiplist.
    pub fn new(id: u64) -> Memtable {
        Memtable {
            id,
            list: SkipList::new(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            tally: Tally {
                entries: AtomicU64::new(0),
                tombstones: AtomicU64::new(0),
                raw_bytes: AtomicU64::new(0),
                seq_min: AtomicU64::new(u64::MAX),
                seq_max: AtomicU64::new(0),
            },
            counters: Mutex::new(BTreeMap::new()),
        }
    }

    /// The number it was made with.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Adds an entry; any number of threads may do so at once. The very same key and trailer a
    /// second time changes nothing. Deltas of counters go to [`Memtable::add_counter`] instead.
    ///
    /// Panics when key or value is over the engine's limits, which batches refuse long before.
    #[inline]
    pub fn insert(&self, key: &[u8], trailer: Trailer, value: &[u8]) {
        if !self.list.insert(key, trailer, value) {
            return;
        }
        // Relaxed throughout: the numbers order nothing; who needs them exact waits for the writers
        // first, and that wait synchronises.
        let tally = &self.tally;
        tally.entries.fetch_add(1, Ordering::Relaxed);
        tally.raw_bytes.fetch_add((key.len() + value.len()) as u64, Ordering::Relaxed);
        if trailer.kind() == Some(Kind::Delete) {
            tally.tombstones.fetch_add(1, Ordering::Relaxed);
        }
        let seq = trailer.seq().0;
        // A look before the write: most inserts leave the minimum alone.
        if seq < tally.seq_min.load(Ordering::Relaxed) {
            tally.seq_min.fetch_min(seq, Ordering::Relaxed);
        }
        if seq > tally.seq_max.load(Ordering::Relaxed) {
            tally.seq_max.fetch_max(seq, Ordering::Relaxed);
        }
    }

    /// The newest entry of `key` at or before `seek`, of any kind: a tombstone is an answer too.
    #[inline]
    pub fn get(&self, key: &[u8], seek: Trailer) -> Option<(Trailer, &[u8])> {
        let node = self.list.seek(key, seek)?;
        (node.key() == key).then(|| (node.trailer(), node.value()))
    }

    /// Adds `delta` to counter `id`. Sums wrap, so that any order of the same deltas gives the same
    /// sum.
    pub fn add_counter(&self, id: u32, delta: i64) {
        let mut counters = self.lock_counters();
        let sum = counters.entry(id).or_insert(0);
        *sum = sum.wrapping_add(delta);
    }

    /// What was added to counter `id` in this memtable; 0 when nothing was.
    pub fn counter_delta(&self, id: u32) -> i64 {
        self.lock_counters().get(&id).copied().unwrap_or(0)
    }

    /// Every counter that was touched in this memtable, and by how much.
    pub fn counter_deltas(&self) -> BTreeMap<u32, i64> {
        self.lock_counters().clone()
    }

    fn lock_counters(&self) -> MutexGuard<'_, BTreeMap<u32, i64>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries in the list; counter deltas are not entries.
    pub fn entries(&self) -> u64 {
        self.tally.entries.load(Ordering::Relaxed)
    }

    /// How many of the entries are tombstones.
    pub fn tombstones(&self) -> u64 {
        self.tally.tombstones.load(Ordering::Relaxed)
    }

    /// Bytes of all keys and values.
    pub fn raw_bytes(&self) -> u64 {
        self.tally.raw_bytes.load(Ordering::Relaxed)
    }

    /// The smallest and the largest sequence number among the entries, `None` when there are none.
    #[cfg(test)]
    pub fn seq_range(&self) -> Option<(SeqNo, SeqNo)> {
        let min = self.tally.seq_min.load(Ordering::Relaxed);
        let max = self.tally.seq_max.load(Ordering::Relaxed);
        (min <= max).then_some((SeqNo(min), SeqNo(max)))
    }

    /// Whether there is neither an entry nor a counter delta, and so nothing to flush.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.list.first().is_none() && self.lock_counters().is_empty()
    }

    /// Bytes that entries take in memory: keys, values, links and lengths.
    pub fn approximate_bytes(&self) -> usize {
        self.list.arena().used_bytes()
    }

    /// Bytes taken from the system: what dropping this memtable gives back. At least
    /// [`Memtable::approximate_bytes`].
    pub fn allocated_bytes(&self) -> usize {
        self.list.arena().allocated_bytes() + size_of::<Memtable>()
    }

    fn list(&self) -> &SkipList {
        &self.list
    }
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable")
            .field("id", &self.id)
            .field("entries", &self.entries())
            .field("bytes", &self.approximate_bytes())
            .finish_non_exhaustive()
    }
}
