//! [`ReadState`]: everything a read needs, behind one atomic load.
//!
//! ```text
//! ReadStateCell ──load──> ReadState ──> CfState (slot 0) ──> active memtable
//!                             │                              sealed memtables, newest first
//!                             │                              version: the tables
//!                             └───> CfState (slot 1) ...
//! ```
//!
//! A state is never changed: a seal, a flush, a compaction or a new column family builds the next
//! one and swaps the pointer, so readers wait for nobody (P5) and whoever holds a state keeps its
//! memtables and tables alive.
//!
//! # Why one load gives one consistent cut over all column families
//!
//! A reader loads the state, then the visible sequence number s, then the state's *ceiling* c, and
//! reads at min(s, c). Between the first two loads the active memtables may have been sealed and
//! newer entries put into memtables that this state does not hold; without the ceiling half of a
//! batch could be seen. A seal stores the last number assigned so far into the ceiling of the
//! state it retires *before* anything can be written to the new memtables, under the commit lock
//! that assigns numbers. So if s covers an entry of a newer memtable, that entry was published
//! after the ceiling was stored, the reader's later load sees it, and c lies below the entry. The
//! ceiling is shared by all states with the same active memtables, because a flush in between
//! makes a new state without retiring them.

use crate::{
    cf::ColumnFamily,
    commit::Ring,
    memtable::Memtable,
    swap::{Guard, Swap},
    tables::CfVersion,
};
use sluice_base::SeqNo;
use sluice_env::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::{collections::BTreeMap, fmt};

/// A sealed memtable on its way to a table.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub memtable: Arc<Memtable>,
    /// The flush group it belongs to.
    pub group: u64,
    /// What it counts against the memtable budget, in bytes.
    pub reserved: u64,
    /// The first sequence number that may be in it.
    pub first: SeqNo,
    /// Monotonic microseconds of the first write.
    pub dirty_since_us: u64,
}

/// One column family as a reader sees it.
#[derive(Debug, Clone)]
pub(crate) struct CfState {
    pub family: ColumnFamily,
    pub active: Arc<Memtable>,
    /// Newest first.
    pub sealed: Vec<Sealed>,
    pub version: Arc<CfVersion>,
    /// Counter values as of the flushed position; the memtables hold what came after.
    pub counters: Arc<BTreeMap<u32, i64>>,
    /// Everything of this family at or below it is in tables.
    pub flushed: SeqNo,
}

impl CfState {
    /// The value of a counter: the flushed sum and every delta since.
    pub(crate) fn counter(&self, id: u32) -> i64 {
        let base = self.counters.get(&id).copied().unwrap_or(0);
        let memtables = self.sealed.iter().map(|sealed| &sealed.memtable).chain([&self.active]);
        memtables.fold(base, |sum, memtable| sum.wrapping_add(memtable.counter_delta(id)))
    }
}

/// Everything a read needs. See the file's head.
#[derive(Debug)]
pub(crate) struct ReadState {
    /// By slot; `None` where a family was dropped.
    pub cfs: Vec<Option<Arc<CfState>>>,
    ceiling: Arc<AtomicU64>,
}

impl ReadState {
    pub(crate) fn new(cfs: Vec<Option<Arc<CfState>>>) -> ReadState {
        ReadState { cfs, ceiling: Arc::new(AtomicU64::new(SeqNo::MAX.0)) }
    }

    #[inline]
    pub(crate) fn cf(&self, slot: usize) -> Option<&Arc<CfState>> {
        self.cfs.get(slot)?.as_ref()
    }

    pub(crate) fn families(&self) -> impl Iterator<Item = &Arc<CfState>> {
        self.cfs.iter().flatten()
    }

    /// The number to read this state at. `visible` must have been loaded after the state was.
    #[inline]
    fn read_seq(&self, visible: SeqNo) -> SeqNo {
        visible.min(SeqNo(self.ceiling.load(Ordering::SeqCst)))
    }

    /// The next state with one family replaced and the same active memtables elsewhere.
    fn with(&self, slot: usize, cf: CfState) -> ReadState {
        let mut cfs = self.cfs.clone();
        cfs[slot] = Some(Arc::new(cf));
        ReadState { cfs, ceiling: Arc::clone(&self.ceiling) }
    }
}

/// The place the current state is loaded from.
pub(crate) struct ReadStateCell {
    current: Swap<ReadState>,
    /// Serialises those who build the next state. Held for a few pointer copies; the innermost
    /// lock of the engine.
    change: Mutex<()>,
}

impl fmt::Debug for ReadStateCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadStateCell")
    }
}

impl ReadStateCell {
    pub(crate) fn new(state: ReadState) -> ReadStateCell {
        ReadStateCell { current: Swap::from_pointee(state), change: Mutex::new(()) }
    }

    /// For a read that ends soon: no reference count is touched.
    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<ReadState>> {
        self.current.load()
    }

    /// For a read that outlives the call.
    #[inline]
    pub(crate) fn load_full(&self) -> Arc<ReadState> {
        self.current.load_full()
    }

    /// A state and the number to read it at: a consistent cut over all families.
    #[inline]
    pub(crate) fn cut(&self, ring: &Ring) -> (Arc<ReadState>, SeqNo) {
        // The order of these loads is what makes the cut consistent: see the file's head.
        let state = self.load_full();
        let seq = state.read_seq(ring.visible());
        (state, seq)
    }

    /// Adds a family and returns nothing changed elsewhere.
    pub(crate) fn add_family(&self, cf: CfState) {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current.load_full();
        let mut cfs = old.cfs.clone();
        let slot = cf.family.slot();
        if cfs.len() <= slot {
            cfs.resize(slot + 1, None);
        }
        cfs[slot] = Some(Arc::new(cf));
        let ceiling = Arc::clone(&old.ceiling);
        self.current.store(Arc::new(ReadState { cfs, ceiling }));
    }

    /// Takes a family out; those who hold older states keep reading it.
    pub(crate) fn drop_family(&self, slot: usize) {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current.load_full();
        let mut cfs = old.cfs.clone();
        cfs[slot] = None;
        let ceiling = Arc::clone(&old.ceiling);
        self.current.store(Arc::new(ReadState { cfs, ceiling }));
    }

    /// Replaces the tables, sealed memtables or counters of families; their active memtables stay.
    pub(crate) fn update(&self, slots: &[usize], mut change: impl FnMut(usize, &mut CfState)) {
        let _guard = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state: Option<ReadState> = None;
        let old = self.current.load_full();
        for &slot in slots {
            let base = state.as_ref().unwrap_or(&old);
            let Some(cf) = base.cf(slot) else { continue };
            let mut next = CfState::clone(cf);
            let active = Arc::as_ptr(&next.active);
            change(slot, &mut next);
            assert!(std::ptr::eq(active, Arc::as_ptr(&next.active)), "only a seal swaps memtables");
            state = Some(base.with(slot, next));
        }
        if let Some(state) = state {
            self.current.store(Arc::new(state));
        }
    }

    /// Retires the active memtables of `slots`. The caller holds the commit lock; `last` is the
    /// last sequence number assigned.
    pub(crate) fn seal(
        &self,
        slots: &[usize],
        last: SeqNo,
        mut fresh: impl FnMut(&CfState) -> (Sealed, Arc<Memtable>),
    ) {
        let _guard = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current.load_full();
        let mut cfs = old.cfs.clone();
        for &slot in slots {
            let Some(cf) = old.cf(slot) else { continue };
            let (sealed, active) = fresh(cf);
            let mut next = CfState::clone(cf);
            next.sealed.insert(0, sealed);
            next.active = active;
            cfs[slot] = Some(Arc::new(next));
        }
        old.ceiling.store(last.0, Ordering::SeqCst);
        self.current.store(Arc::new(ReadState::new(cfs)));
    }
}

#[cfg(all(test, sluice_loom))]
mod loom_tests;
