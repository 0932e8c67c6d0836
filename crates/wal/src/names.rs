//! The log's file names: `000007.wal` is segment 7, `000007.wal.free` a released file that waits
//! to become another segment. A name counts only when it is exactly what this module would print,
//! so a backup copy, an editor's leavings or another program's file is never taken for ours.

use std::path::{Path, PathBuf};

use sluice_base::FileNo;

/// The path of segment `number`.
pub fn segment_path(dir: &Path, number: FileNo) -> PathBuf {
    dir.join(format!("{number}.wal"))
}

/// The path of the file that was segment `number` and is free now.
pub(crate) fn free_path(dir: &Path, number: FileNo) -> PathBuf {
    dir.join(format!("{number}.wal.free"))
}

/// What a file name means to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(FileNo),
    Free(FileNo),
}

/// Reads a file name; `None` when it is not one of ours.
pub(crate) fn parse(name: &str) -> Option<Name> {
    let digits = name.split('.').next()?;
    // 18 digits are `FILE_NO_MAX`; zero is "no segment" in a header.
    if !(6..=18).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = FileNo(digits.parse().ok().filter(|&number| number != 0)?);
    if name == format!("{number}.wal") {
        Some(Name::Segment(number))
    } else if name == format!("{number}.wal.free") {
        Some(Name::Free(number))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_count() {
        assert_eq!(parse("000007.wal"), Some(Name::Segment(FileNo(7))));
        assert_eq!(parse("12345678.wal"), Some(Name::Segment(FileNo(12_345_678))));
        assert_eq!(parse("000007.wal.free"), Some(Name::Free(FileNo(7))));
        for other in [
            "7.wal",
            "0000007.wal",
            "000000.wal",
            "000007.wal.bak",
            "000007.walx",
            "x000007.wal",
            "000007.wal.free.1",
            "+00007.wal",
            "1000000000000000000.wal",
            "99999999999999999999.wal",
            ".wal",
            "000007.sst",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
