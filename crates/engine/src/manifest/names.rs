//! The names of the files in a database directory.

use std::fmt;

use sluice_base::{FileNo, limits};

/// A file of the database, by its name in the directory.
///
/// ```text
///   CURRENT   CURRENT.tmp   LOCK   RESERVE   MANIFEST-000012   000007.sst   000009.wal
/// ```
/// Numbers have at least six digits and no more than they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// Names the live manifest.
    Current,
    /// The next `CURRENT` before its rename; left over by a crash.
    CurrentTmp,
    /// Held locked while the database is open.
    Lock,
    /// Room for a flush that finds the disk full; holds nothing.
    Reserve,
    Manifest(FileNo),
    Table(FileNo),
    Wal(FileNo),
}

impl FileName {
    /// The file `name` stands for; `None` when it is not one of ours.
    pub fn parse(name: &str) -> Option<FileName> {
        let parsed = match name {
            "CURRENT" => FileName::Current,
            "CURRENT.tmp" => FileName::CurrentTmp,
            "LOCK" => FileName::Lock,
            "RESERVE" => FileName::Reserve,
            _ => {
                if let Some(digits) = name.strip_prefix("MANIFEST-") {
                    FileName::Manifest(file_no(digits)?)
                } else if let Some(digits) = name.strip_suffix(".sst") {
                    FileName::Table(file_no(digits)?)
                } else {
                    FileName::Wal(file_no(name.strip_suffix(".wal")?)?)
                }
            }
        };
        Some(parsed)
    }

    /// The number in the name.
    pub fn file_no(self) -> Option<FileNo> {
        match self {
            FileName::Manifest(no) | FileName::Table(no) | FileName::Wal(no) => Some(no),
            FileName::Current | FileName::CurrentTmp | FileName::Lock | FileName::Reserve => None,
        }
    }

    /// A number above those of all `files`, but for the absurd: see `FILE_NO_FOUND_MAX`.
    pub fn number_above(files: &[FileName]) -> FileNo {
        let numbers = files.iter().filter_map(|file| file.file_no());
        let highest = numbers.filter(|number| number.0 <= limits::FILE_NO_FOUND_MAX).max();
        highest.map_or(FileNo(0), |highest| FileNo(highest.0 + 1))
    }
}

fn file_no(digits: &str) -> Option<FileNo> {
    let number = FileNo(digits.parse().ok()?);
    // One number, one name: `+7`, `0000007` or `7` are not ours.
    (number.to_string() == digits && number.0 <= limits::FILE_NO_MAX).then_some(number)
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Current => f.write_str("CURRENT"),
            FileName::CurrentTmp => f.write_str("CURRENT.tmp"),
            FileName::Lock => f.write_str("LOCK"),
            FileName::Reserve => f.write_str("RESERVE"),
            FileName::Manifest(no) => write!(f, "MANIFEST-{no}"),
            FileName::Table(no) => write!(f, "{no}.sst"),
            FileName::Wal(no) => write!(f, "{no}.wal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_and_nothing_else_does() {
        for name in [
            "CURRENT",
            "CURRENT.tmp",
            "LOCK",
            "RESERVE",
            "MANIFEST-000012",
            "1234567.sst",
            "000001.wal",
        ] {
            assert_eq!(FileName::parse(name).unwrap().to_string(), name);
        }
        for name in [
            "",
            "current",
            "MANIFEST-12",
            "MANIFEST-",
            "0000012.sst",
            "+00012.sst",
            "1000000000000000000.sst",
            "MANIFEST-18446744073709551615",
            "000001.log",
            "000001.sst.tmp",
        ] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }
}
