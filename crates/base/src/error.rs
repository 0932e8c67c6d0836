//! The one error type. A caller branches on [`ErrorKind`]; a person reads the message, which says
//! what happened, where, and what to do next; the source chain keeps the cause.

use std::{fmt, io, path::PathBuf};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can act on. New kinds may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or option that can never work: fix the call.
    Invalid,
    /// The named thing (column family, snapshot, ticket) does not exist.
    NotFound,
    /// The named thing exists already.
    Exists,
    /// The directory is in use by another process or another `Db`.
    Locked,
    /// The write found no room within its deadline; nothing of it was kept. Retry later.
    Stalled,
    /// A wait ended at its deadline; what was waited for goes on.
    TimedOut,
    /// The database is closed or closing.
    Closed,
    /// Writes are refused until the cause named in the message is gone; reads go on.
    ReadOnly,
    /// No space is left on the device; nothing of the write was kept. Free some space.
    DiskFull,
    /// A transaction's read set changed before its commit. Retry it.
    Conflict,
    /// Bytes on disk are not what was written; see [`Damage`]. Everything undamaged stays readable.
    Corruption,
    /// The files were written by a newer build, or need a schema or option this one does not know.
    Unsupported,
    /// The operating system refused an operation.
    Io,
}

impl ErrorKind {
    /// The name in statistics, logs and events.
    ///
    /// ```
    /// assert_eq!(sluice_base::ErrorKind::DiskFull.name(), "disk-full");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Invalid => "invalid",
            ErrorKind::NotFound => "not-found",
            ErrorKind::Exists => "exists",
            ErrorKind::Locked => "locked",
            ErrorKind::Stalled => "stalled",
            ErrorKind::TimedOut => "timed-out",
            ErrorKind::Closed => "closed",
            ErrorKind::ReadOnly => "read-only",
            ErrorKind::DiskFull => "disk-full",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Corruption => "corruption",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Io => "io",
        }
    }
}

/// Where damaged bytes were found, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file.
    pub file: PathBuf,
    /// Byte offset of the damaged structure in the file.
    pub offset: u64,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
}

/// An error: its kind, what was being done, the damage when there is one, and the cause.
///
/// ```
/// use sluice_base::{Error, ErrorKind};
/// let error = Error::corruption("000007.sst", 4096, "checksum 1", "checksum 2");
/// assert_eq!(error.kind(), ErrorKind::Corruption);
/// assert_eq!(error.damage().map(|damage| damage.offset), Some(4096));
/// assert!(error.to_string().starts_with("000007.sst is damaged at offset 4096"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    damage: Option<Damage>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what happened and what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), damage: None, source: None }))
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    /// Damaged bytes: the message is built from the [`Damage`], so that it always names file,
    /// offset, expected and found.
    pub fn corruption(
        file: impl Into<PathBuf>,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        let damage =
            Damage { file: file.into(), offset, expected: expected.into(), found: found.into() };
        Error(Box::new(Inner {
            kind: ErrorKind::Corruption,
            message: format!(
                "{} is damaged at offset {}: expected {}, found {}",
                damage.file.display(),
                damage.offset,
                damage.expected,
                damage.found
            ),
            damage: Some(damage),
            source: None,
        }))
    }

    /// An operating system error while doing `what` (for example `"write wal segment 000007"`).
    /// A full disk becomes [`ErrorKind::DiskFull`].
    pub fn io(what: impl Into<String>, source: io::Error) -> Error {
        let full =
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let kind = if full { ErrorKind::DiskFull } else { ErrorKind::Io };
        Error(Box::new(Inner {
            kind,
            message: what.into(),
            damage: None,
            source: Some(Box::new(source)),
        }))
    }

    /// The same error with `what` in front of the message.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Error {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// The same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    /// What a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where the damage is, for [`ErrorKind::Corruption`].
    pub fn damage(&self) -> Option<&Damage> {
        self.0.damage.as_ref()
    }

    /// A copy for a second waiter: kind, message (with the causes written out) and damage carry
    /// over; the source chain, which cannot be cloned, does not.
    pub fn duplicate(&self) -> Error {
        Error(Box::new(Inner {
            kind: self.0.kind,
            message: self.to_string(),
            damage: self.0.damage.clone(),
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
