//! What one stored entry is besides its bytes: its [`Kind`] and its place in the commit order.
//!
//! A [`Trailer`] packs both into one `u64` as `seq << 8 | kind`, so that "newer first" is a single
//! integer comparison in the memtable, the table format and the merge.

use crate::SeqNo;

/// What an entry does to its key. The numbers are part of every on-disk format: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A tombstone: the key has no value from this sequence number on.
    Delete = 0,
    /// The key has the value stored with the entry.
    Put = 1,
    /// A column family counter changes by a delta. Lives in logs only: memtables add deltas up, and
    /// tables never hold one.
    Counter = 2,
}

impl Kind {
    /// The largest kind number in use. A seek trailer built with it sorts before every entry of
    /// the same sequence number.
    pub const MAX: u8 = Kind::Counter as u8;

    /// Decodes a kind byte, `None` when this build does not know it.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            0 => Some(Kind::Delete),
            1 => Some(Kind::Put),
            2 => Some(Kind::Counter),
            _ => None,
        }
    }
}

/// Sequence number and kind in one comparable word: `seq << 8 | kind`.
///
/// Entries of one user key sort by trailer **descending**, so the newest comes first.
///
/// ```
/// use sluice_base::{Kind, SeqNo, Trailer};
/// let newer = Trailer::new(SeqNo(8), Kind::Delete);
/// let older = Trailer::new(SeqNo(7), Kind::Put);
/// assert!(newer > older);
/// assert_eq!(newer.seq(), SeqNo(8));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trailer(pub u64);

impl Trailer {
    /// Packs both.
    #[inline]
    pub fn new(seq: SeqNo, kind: Kind) -> Trailer {
        debug_assert!(seq <= SeqNo::MAX);
        Trailer(seq.0 << 8 | kind as u64)
    }

    /// The trailer to seek with when reading at `seq`: it is at or before every entry of the same
    /// user key that `seq` may see.
    #[inline]
    pub fn seek(seq: SeqNo) -> Trailer {
        Trailer(seq.0 << 8 | u64::from(Kind::MAX))
    }

    /// The sequence number.
    #[inline]
    pub fn seq(self) -> SeqNo {
        SeqNo(self.0 >> 8)
    }

    /// The kind, `None` when the byte is one this build does not know (damage, or a newer format).
    #[inline]
    pub fn kind(self) -> Option<Kind> {
        Kind::from_byte(self.0 as u8)
    }
}
