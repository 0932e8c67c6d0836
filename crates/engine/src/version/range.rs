//! A range of user keys, both ends included, either end open.

use super::TableMeta;

/// User keys from `first` to `last`, both included; `None` is "no bound on this side".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyRange<'a> {
    pub first: Option<&'a [u8]>,
    pub last: Option<&'a [u8]>,
}

impl<'a> KeyRange<'a> {
    /// Every key.
    pub const ALL: KeyRange<'static> = KeyRange { first: None, last: None };

    pub fn new(first: &'a [u8], last: &'a [u8]) -> KeyRange<'a> {
        KeyRange { first: Some(first), last: Some(last) }
    }

    /// The keys a table may hold.
    pub fn of(meta: &'a TableMeta) -> KeyRange<'a> {
        KeyRange::new(&meta.smallest.key, &meta.largest.key)
    }

    /// The smallest range around all of `tables`; `None` when there are none. It includes the
    /// gaps between them: a merge of these tables may write an output across a gap.
    pub fn hull(tables: impl IntoIterator<Item = &'a TableMeta>) -> Option<KeyRange<'a>> {
        tables.into_iter().map(KeyRange::of).reduce(KeyRange::union)
    }

    /// The smallest range around both.
    pub fn union(self, other: KeyRange<'a>) -> KeyRange<'a> {
        KeyRange {
            // `None` sorts below every key: right for a first key, wrong for a last one.
            first: self.first.min(other.first),
            last: match (self.last, other.last) {
                (Some(mine), Some(theirs)) => Some(mine.max(theirs)),
                _ => None,
            },
        }
    }

    /// True when `key` sorts before the whole range.
    #[inline]
    pub fn is_after(&self, key: &[u8]) -> bool {
        self.first.is_some_and(|first| key < first)
    }

    /// True when `key` sorts after the whole range.
    #[inline]
    pub fn is_before(&self, key: &[u8]) -> bool {
        self.last.is_some_and(|last| last < key)
    }

    pub fn overlaps(&self, other: &KeyRange<'_>) -> bool {
        !other.last.is_some_and(|last| self.is_after(last))
            && !other.first.is_some_and(|first| self.is_before(first))
    }

    pub fn overlaps_table(&self, meta: &TableMeta) -> bool {
        self.overlaps(&KeyRange::of(meta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_included_and_open_ends_reach_everywhere() {
        let range = KeyRange::new(b"c", b"f");
        assert!(range.overlaps(&KeyRange::new(b"f", b"g")));
        assert!(range.overlaps(&KeyRange::new(b"a", b"c")));
        assert!(!range.overlaps(&KeyRange::new(b"fa", b"g")));
        assert!(!range.overlaps(&KeyRange::new(b"a", b"bz")));
        assert!(KeyRange::ALL.overlaps(&range));
        assert_eq!(range.union(KeyRange::ALL), KeyRange::ALL);
        assert_eq!(range.union(KeyRange::new(b"a", b"d")), KeyRange::new(b"a", b"f"));
    }
}
