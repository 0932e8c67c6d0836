//! What is left of a log after a write or sync failed: the cause, and since when.
//!
//! After a failed `fdatasync` the kernel may have dropped the dirty pages and marked them clean;
//! a second call then succeeds and means nothing. So no sync is ever tried again on a segment in
//! doubt: the log refuses, the first cause is kept, and only [`crate::Wal::heal`], which gives up
//! the bytes in doubt, or a new recovery, goes on.

use sluice_base::{Error, ErrorKind};

#[derive(Debug)]
pub(crate) struct Poison {
    cause: Error,
    since_unix_ms: u64,
}

impl Poison {
    pub(crate) fn new(cause: Error, since_unix_ms: u64) -> Poison {
        Poison { cause, since_unix_ms }
    }

    /// The error for one more caller. [`ErrorKind::DiskFull`] stays what it is, everything else
    /// is [`ErrorKind::Io`].
    pub(crate) fn error(&self) -> Error {
        let kind = match self.cause.kind() {
            ErrorKind::DiskFull => ErrorKind::DiskFull,
            _ => ErrorKind::Io,
        };
        self.cause.duplicate().with_kind(kind).context(format!(
            "the write-ahead log is poisoned since {} ms after 1970 and takes no writes; flush \
             and heal it, or reopen the database",
            self.since_unix_ms
        ))
    }
}
