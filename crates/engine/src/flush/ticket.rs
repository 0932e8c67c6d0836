//! [`FlushTicket`] and [`FlushReport`]: how a caller waits for a flush and what it learns.

use crate::{Position, Result, flush::FlushReason, promise::Promise};
use sluice_base::FileNo;
use std::{fmt, time::Duration};

/// What a finished flush did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushReport {
    /// Why.
    pub reason: FlushReason,
    /// Names of the column families whose memtables were written.
    pub cfs: Vec<String>,
    /// Every later crash recovers at least this position.
    pub position: Position,
    /// Entries written to tables, tombstones included.
    pub entries: u64,
    /// Entries left out because a newer one hides them from every reader.
    pub entries_dropped: u64,
    /// Key and value bytes in the memtables.
    pub bytes_in: u64,
    /// Bytes of the tables made.
    pub bytes_out: u64,
    /// The tables made.
    pub files: Vec<FileNo>,
    /// Log bytes that the flush made releasable.
    pub wal_bytes_released: u64,
    /// From the seal to the start of the writing.
    pub queued: Duration,
    /// From the start of the writing to the end of the install.
    pub took: Duration,
}

impl FlushReport {
    /// The report of a flush that found nothing to write.
    pub(crate) fn empty(reason: FlushReason, position: Position) -> FlushReport {
        FlushReport {
            reason,
            cfs: Vec::new(),
            position,
            entries: 0,
            entries_dropped: 0,
            bytes_in: 0,
            bytes_out: 0,
            files: Vec::new(),
            wal_bytes_released: 0,
            queued: Duration::ZERO,
            took: Duration::ZERO,
        }
    }
}

/// A flush under way: wait for it, poll it, or let go of it. Dropping a ticket or giving up a wait
/// never cancels the flush. Every wait ends: done, failed, deadline, or closed (P6).
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, FlushRequest, Options};
/// use std::sync::mpsc;
/// let db = Db::open(dir.path(), Options::default())?;
/// db.put(&db.default_cf(), b"key", b"value")?;
/// let (done, outcome) = mpsc::channel();
/// // For callers that must not wait: the callback runs on the flush thread.
/// db.flush(FlushRequest::default())?.on_done(move |report| drop(done.send(report)));
/// assert_eq!(outcome.recv().unwrap()?.entries, 1);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Clone)]
pub struct FlushTicket {
    promise: Promise<FlushReport>,
    position: Position,
}

impl fmt::Debug for FlushTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlushTicket").field("position", &self.position).finish_non_exhaustive()
    }
}

impl FlushTicket {
    pub(crate) fn new(position: Position) -> FlushTicket {
        FlushTicket { promise: Promise::default(), position }
    }

    /// Everything written up to here is covered once the ticket is done.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Waits for the end of the flush, at most `deadline`; `None`: without limit.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, while the flush goes on; `Closed` when the database closed
    /// without it; otherwise what made the attempt fail, while the engine keeps the memtable and
    /// tries again.
    pub fn wait(&self, deadline: Option<Duration>) -> Result<FlushReport> {
        self.promise.wait(deadline, "flush")
    }

    /// The outcome, when there is one.
    pub fn poll(&self) -> Option<Result<FlushReport>> {
        self.promise.poll()
    }

    /// Runs `callback` when the flush ends, on the thread that ended it (one of the flusher's, or
    /// the log's when there was nothing to write); at once when it has. It must not block.
    pub fn on_done(&self, callback: impl FnOnce(Result<FlushReport>) + Send + 'static) {
        self.promise.on_done(callback);
    }

    /// Ends the wait. Only the first outcome counts.
    pub(crate) fn finish(&self, outcome: Result<FlushReport>) {
        self.promise.keep(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_base::{Error, ErrorKind};
    use std::sync::mpsc;

    #[test]
    fn a_ticket_ends_once_for_waiters_pollers_and_callbacks() {
        let ticket = FlushTicket::new(Position::default());
        assert!(ticket.poll().is_none());
        let error = ticket.wait(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let (sender, receiver) = mpsc::channel();
        let late = sender.clone();
        ticket.on_done(move |outcome| sender.send(outcome.is_ok()).unwrap());
        let report = FlushReport::empty(FlushReason::Manual, Position::default());
        ticket.finish(Ok(report.clone()));
        ticket.finish(Err(Error::invalid("too late")));
        assert_eq!(ticket.wait(None).unwrap(), report);
        ticket.on_done(move |outcome| late.send(outcome.is_ok()).unwrap());
        assert!(receiver.recv().unwrap() && receiver.recv().unwrap());
    }
}
