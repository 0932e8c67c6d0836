//! Numbers with a meaning. Each is its own type so that the compiler refuses a mix-up.

use crate::Error;
use std::{fmt, str::FromStr};

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
///
/// ```
/// use sluice_base::{Position, SeqNo};
/// let position = Position { epoch: 3, seq: SeqNo(1024) };
/// assert_eq!(position.to_string(), "3:1024");
/// assert_eq!("3:1024".parse::<Position>()?, position);
/// # Ok::<(), sluice_base::Error>(())
/// ```
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

/// Reads what `Display` writes, and nothing else: no sign, no blank.
impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Position, Error> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| plain)
        };
        text.split_once(':')
            .and_then(|(epoch, seq)| Some((number(epoch)?, number(seq)?)))
            .filter(|(_, seq)| *seq <= SeqNo::MAX.0)
            .map(|(epoch, seq)| Position { epoch, seq: SeqNo(seq) })
            .ok_or_else(|| {
                Error::invalid("a position is written epoch:seq, two decimal numbers such as 1:42")
            })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written_and_nothing_else_is() {
        for position in [
            Position::default(),
            Position { epoch: 1, seq: SeqNo(42) },
            Position { epoch: u64::MAX, seq: SeqNo::MAX },
        ] {
            assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
        for text in [
            "",
            ":",
            "1",
            "1:",
            ":1",
            "1:2:3",
            "+1:2",
            "1:-2",
            " 1:2",
            "1:2 ",
            "1: 2",
            "a:b",
            "1-2",
            "18446744073709551616:1",
            "1:72057594037927936",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }
}
