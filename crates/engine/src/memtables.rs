//! [`MemtableInfo`]: what an operator can see of each memtable in memory.

use crate::{FlushReason, Position, core::Core};
use std::{collections::HashMap, time::Duration};

/// Where a memtable stands on its way to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemtableState {
    /// Takes writes.
    Active,
    /// Takes no more writes, and waits for a flush thread.
    Sealed,
    /// Being written as a table.
    Flushing,
    /// Written; waits for its turn to be installed, or for another attempt to install it.
    Written,
}

impl MemtableState {
    /// The name in lists.
    pub fn name(self) -> &'static str {
        match self {
            MemtableState::Active => "active",
            MemtableState::Sealed => "sealed",
            MemtableState::Flushing => "flushing",
            MemtableState::Written => "written",
        }
    }
}

/// One memtable in memory, at one moment.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, MemtableState, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let written = db.put(&db.default_cf(), b"key", b"value")?;
/// let memtable = &db.memtables()[0];
/// assert_eq!((memtable.cf.as_str(), memtable.state), ("default", MemtableState::Active));
/// assert_eq!((memtable.entries, memtable.first), (1, Some(written)));
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemtableInfo {
    /// Name of its column family.
    pub cf: String,
    /// Its number, never used twice while the database is open.
    pub id: u64,
    /// Where it stands.
    pub state: MemtableState,
    /// Bytes reserved in it.
    pub bytes: u64,
    /// Bytes it has taken from the system.
    pub allocated_bytes: u64,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Its oldest entry; `None` while it is empty.
    pub first: Option<Position>,
    /// The position it was sealed at; `None` while it is active.
    pub cut: Option<Position>,
    /// Since its first write; `None` while it is empty.
    pub age: Option<Duration>,
    /// Why it was sealed; `None` while it is active.
    pub reason: Option<FlushReason>,
}

/// Every memtable, family by family, the active one first, then from the newest to the oldest.
pub(crate) fn list(core: &Core) -> Vec<MemtableInfo> {
    // Under the commit lock no memtable is sealed between the looks. Groups may be installed: one
    // that is gone from the queue is in tables already.
    let (accounts, read_state, stages) = {
        let state = core.commit.lock();
        (state.accounts.clone(), core.read_state.load_full(), core.flushes.stages())
    };
    let stages: HashMap<u64, _> =
        stages.into_iter().map(|(id, cut, reason, state)| (id, (cut, reason, state))).collect();
    let now_us = core.env.clock.monotonic_us();
    let age = |since_us: u64| Some(Duration::from_micros(now_us.saturating_sub(since_us)));
    let mut all = Vec::new();
    for cf in read_state.families() {
        let name = cf.family.name();
        let account = accounts.get(cf.family.slot()).cloned().flatten();
        let memtable = &cf.active;
        let first = account.as_ref().and_then(|account| account.first);
        all.push(MemtableInfo {
            cf: name.to_owned(),
            id: memtable.id(),
            state: MemtableState::Active,
            bytes: account.as_ref().map_or(0, |account| account.reserved),
            allocated_bytes: memtable.allocated_bytes() as u64,
            entries: memtable.entries(),
            tombstones: memtable.tombstones(),
            first: first.map(|first| core.position(first)),
            cut: None,
            age: account.filter(|_| first.is_some()).and_then(|a| age(a.dirty_since_us)),
            reason: None,
        });
        for sealed in &cf.sealed {
            let Some(&(cut, reason, state)) = stages.get(&sealed.group) else { continue };
            let memtable = &sealed.memtable;
            all.push(MemtableInfo {
                cf: name.to_owned(),
                id: memtable.id(),
                state,
                bytes: sealed.reserved,
                allocated_bytes: memtable.allocated_bytes() as u64,
                entries: memtable.entries(),
                tombstones: memtable.tombstones(),
                first: Some(core.position(sealed.first)),
                cut: Some(core.position(cut)),
                age: age(sealed.dirty_since_us),
                reason: Some(reason),
            });
        }
    }
    all
}
