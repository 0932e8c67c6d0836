//! [`Keeper`]: which entries survive when a memtable or a set of tables is rewritten.
//!
//! The entries of one key come newest first. Of each stripe between two snapshots only the newest
//! can be seen by anyone, so the others go. A tombstone goes too once every reader sees it and
//! nothing older of its key can be left below the output (P10: not one moment earlier).

use crate::snapshot::Stripes;
use sluice_base::{Kind, Trailer};

#[derive(Debug)]
pub(crate) struct Keeper {
    stripes: Stripes,
    key: Vec<u8>,
    /// The stripe of the last entry of `key` that was seen; `None` before the first key.
    stripe: Option<u64>,
}

impl Keeper {
    pub(crate) fn new(stripes: Stripes) -> Keeper {
        Keeper { stripes, key: Vec::new(), stripe: None }
    }

    /// Whether the entry must be written. Entries come in internal order; `nothing_below` says
    /// whether no older entry of the key can exist outside the rewrite.
    #[inline]
    pub(crate) fn keep(
        &mut self,
        key: &[u8],
        trailer: Trailer,
        nothing_below: impl FnOnce(&[u8]) -> bool,
    ) -> bool {
        let stripe = self.stripes.of(trailer.seq());
        let same_key = self.stripe.is_some() && self.key == key;
        if same_key && self.stripe == Some(stripe) {
            return false; // a newer entry of the same stripe hides it
        }
        if !same_key {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        self.stripe = Some(stripe);
        let is_tombstone = trailer.kind() == Some(Kind::Delete);
        if is_tombstone && !self.stripes.seen_by_all(trailer.seq()) {
            sluice_env::probe!("rewrite: a tombstone that a snapshot does not see was kept");
        } else if is_tombstone && nothing_below(key) {
            sluice_env::probe!("rewrite: a tombstone was dropped");
            // The older entries of its stripe, the oldest one there is, are dropped above.
            return false;
        }
        true
    }

    /// Whether `key` is not that of the last entry that was seen.
    #[inline]
    pub(crate) fn is_new(&self, key: &[u8]) -> bool {
        self.stripe.is_none() || self.key != key
    }

    /// Takes note of an entry that was kept without being asked about: a put, the newest of its key.
    #[inline]
    pub(crate) fn pass(&mut self, key: &[u8], trailer: Trailer) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.stripe = Some(self.stripes.of(trailer.seq()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SnapshotList;
    use sluice_base::SeqNo;

    /// Keeps of `entries` (key, seq, put) with snapshots at `snaps`, visible at 100.
    fn kept(snaps: &[u64], bottom: bool, entries: &[(&str, u64, bool)]) -> Vec<(String, u64)> {
        let list = SnapshotList::default();
        for &snap in snaps {
            list.register(|| SeqNo(snap));
        }
        let mut keeper = Keeper::new(list.stripes(|| SeqNo(100)));
        let mut out = Vec::new();
        for &(key, seq, put) in entries {
            let kind = if put { Kind::Put } else { Kind::Delete };
            if keeper.keep(key.as_bytes(), Trailer::new(SeqNo(seq), kind), |_| bottom) {
                out.push((key.to_owned(), seq));
            }
        }
        out
    }

    #[test]
    fn only_the_newest_of_a_stripe_survives() {
        let entries = [("a", 9, true), ("a", 7, true), ("a", 3, true), ("b", 8, true)];
        assert_eq!(kept(&[], false, &entries), [("a".into(), 9), ("b".into(), 8)]);
        let with_snapshot = [("a".into(), 9), ("a".into(), 7), ("b".into(), 8)];
        assert_eq!(kept(&[7], false, &entries), with_snapshot);
    }

    #[test]
    fn p10_a_tombstone_outlives_what_it_hides() {
        let entries = [("a", 9, false), ("a", 7, true), ("b", 5, false)];
        assert_eq!(kept(&[], false, &entries), [("a".into(), 9), ("b".into(), 5)]);
        assert_eq!(kept(&[], true, &entries), []);
        // A snapshot below the tombstone still sees the put, so both stay.
        let both = [("a".into(), 9), ("a".into(), 7)];
        assert_eq!(kept(&[8], true, &entries), both);
    }

    #[test]
    fn entries_not_visible_yet_are_all_kept() {
        let entries = [("a", 103, true), ("a", 102, true), ("a", 99, true), ("a", 98, true)];
        let all = [("a".into(), 103), ("a".into(), 102), ("a".into(), 99)];
        assert_eq!(kept(&[], true, &entries), all);
    }
}
