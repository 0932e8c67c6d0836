//! Numbers with a meaning. Each is its own type so that the compiler refuses a mix-up.

use std::fmt;

/// A place in the commit order. Dense: every entry of every batch takes one. Zero is "before the
/// first write". At most 56 bits, because a [`crate::Trailer`] keeps the kind beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// Before the first write.
    pub const ZERO: SeqNo = SeqNo(0);
    /// The largest there can be: 56 bits, all set.
    pub const MAX: SeqNo = SeqNo((1 << 56) - 1);

    /// The one after it.
    #[inline]
    pub fn next(self) -> SeqNo {
        SeqNo(self.0 + 1)
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a write stands: the `epoch` counts the openings of the database (a new one begins after
/// each recovery), `seq` is dense inside the whole history. Compared by `seq` first in practice,
/// because a later epoch never reuses a surviving sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Which opening of the database; the first is 1.
    pub epoch: u64,
    /// The place in the whole history.
    pub seq: SeqNo,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

/// The number in a file's name. One counter serves logs, tables and manifests, so no number is
/// ever used twice in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileNo(pub u64);

impl fmt::Display for FileNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// A column family's number: never reused, so a dropped family's log entries stay recognisable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CfId(pub u32);

impl fmt::Display for CfId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A level of the tree, 0 (newest) to 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Level(pub u8);

impl Level {
    /// How many levels a column family has.
    pub const COUNT: usize = 7;
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}
