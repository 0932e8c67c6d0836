//! What a decoder says when it does not like its bytes. Decoders know neither file nor offset;
//! whoever handed them the bytes adds both with [`Fault::at`].

use std::{fmt::Display, path::Path};

use sluice_base::{Error, ErrorKind};

/// Why bytes were refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are not what any writer wrote.
    Damaged { expected: String, found: String },
    /// A newer or other build may have written them.
    Unsupported(String),
}

impl Fault {
    #[cold]
    pub fn damaged(expected: impl Display, found: impl Display) -> Fault {
        Fault::Damaged { expected: expected.to_string(), found: found.to_string() }
    }

    #[cold]
    pub fn unsupported(what: impl Display) -> Fault {
        Fault::Unsupported(what.to_string())
    }

    /// The public error for bytes that began at `offset` of the file at `path`.
    #[cold]
    pub fn at(self, path: &Path, offset: u64) -> Error {
        match self {
            Fault::Damaged { expected, found } => Error::corruption(path, offset, expected, found),
            Fault::Unsupported(what) => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} at offset {offset}: {what} is not known to this build; \
                     open it with the build that wrote it or a newer one",
                    path.display()
                ),
            ),
        }
    }
}
