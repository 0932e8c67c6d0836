//! Registered snapshots: sequence numbers that compaction must keep readable.
//!
//! A [`crate::ReadView`] needs no registration: it pins the very memtables and tables it reads. A
//! [`crate::Snapshot`] may live for long, so it pins a *number* instead of files, and every rewrite
//! keeps what that number sees.

use sluice_base::SeqNo;
use sluice_env::sync::{Mutex, PoisonError};
use std::collections::BTreeMap;

/// How many snapshots stand at each sequence number.
#[derive(Debug, Default)]
pub(crate) struct SnapshotList {
    counts: Mutex<BTreeMap<SeqNo, usize>>,
}

impl SnapshotList {
    /// Registers a snapshot at what `visible` says. The number is read under the list's lock, so
    /// a [`SnapshotList::stripes`] taken at any time either sees the snapshot or has a bound at or
    /// below it.
    pub(crate) fn register(&self, visible: impl FnOnce() -> SeqNo) -> SeqNo {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = visible();
        *counts.entry(seq).or_default() += 1;
        seq
    }

    pub(crate) fn release(&self, seq: SeqNo) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&seq);
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// The boundaries a rewrite that starts now must respect.
    pub(crate) fn stripes(&self, visible: impl FnOnce() -> SeqNo) -> Stripes {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = visible();
        let mut bounds: Vec<SeqNo> = counts.keys().copied().filter(|&seq| seq < now).collect();
        bounds.push(now);
        Stripes { bounds }
    }
}

/// Sequence numbers cut into stripes by the snapshots: within a stripe only the newest version of
/// a key can be seen by anyone.
///
/// ```text
///   stripe 0          stripe 1        last stripe   above: kept always
/// ----------- snap 17 -------- snap 40 ----- now -------------------->  seq
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Stripes {
    /// Ascending; the last is what was visible when the rewrite began.
    bounds: Vec<SeqNo>,
}

impl Stripes {
    /// The stripe of `seq`: the index of the first bound that sees it; past the last bound every
    /// number is a stripe of its own.
    #[inline]
    pub(crate) fn of(&self, seq: SeqNo) -> u64 {
        // No snapshots is the common case: one bound.
        match self.bounds.iter().position(|&bound| seq <= bound) {
            Some(index) => index as u64,
            None => self.bounds.len() as u64 + seq.0,
        }
    }

    /// No reader, present or to come, needs a state older than this.
    pub(crate) fn oldest(&self) -> SeqNo {
        self.bounds[0]
    }

    /// Whether every reader, present or to come, sees `seq`: a tombstone that old may go once
    /// nothing below it is left to hide.
    #[inline]
    pub(crate) fn seen_by_all(&self, seq: SeqNo) -> bool {
        seq <= self.bounds[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_follow_the_snapshots_alive() {
        let list = SnapshotList::default();
        let old = list.register(|| SeqNo(17));
        list.register(|| SeqNo(40));
        let stripes = list.stripes(|| SeqNo(60));
        assert_eq!([1, 17, 18, 40, 41, 60].map(|s| stripes.of(SeqNo(s))), [0, 0, 1, 1, 2, 2]);
        assert_ne!(stripes.of(SeqNo(61)), stripes.of(SeqNo(62)));
        assert!(stripes.seen_by_all(SeqNo(17)) && !stripes.seen_by_all(SeqNo(18)));
        list.release(old);
        assert_eq!(list.count(), 1);
        assert_eq!(list.stripes(|| SeqNo(60)).of(SeqNo(17)), 0);
        assert!(list.stripes(|| SeqNo(60)).seen_by_all(SeqNo(40)));
    }

    #[test]
    fn a_snapshot_at_the_visible_position_adds_no_stripe() {
        let list = SnapshotList::default();
        list.register(|| SeqNo(60));
        let stripes = list.stripes(|| SeqNo(60));
        assert_eq!(stripes.of(SeqNo(60)), 0);
    }
}
