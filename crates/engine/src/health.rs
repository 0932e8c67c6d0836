//! What is wrong with the database right now: the error of each background job that has not
//! succeeded since, and whether writes must be refused because of one.
//!
//! | job | who | what it does to writes | ends |
//! |---|---|---|---|
//! | `flush` | a flush failed | nothing while memtables have room, then they fail with its kind | with the next flush |
//! | `flush`, damaged | a flush found damage | all refused: going on could spread it | with a new opening |
//! | `compaction` | a compaction failed | nothing before level 0 is too deep | with the next compaction |
//! | `log` | the log failed | all refused: nothing can be acknowledged | when the log is healed |
//! | `log-release` | log that is not needed could not be let go of, or a segment not be ended for it | nothing | with the next release |
//!
//! What is not here: the room kept for a flush. That there is none is no error; `Stats` shows it.

use crate::{Result, events::Hub};
use sluice_base::{Error, ErrorKind};
use sluice_env::{
    Clock,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use std::{collections::BTreeMap, fmt};

/// A background job that fails now.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, ErrorKind, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// for error in db.background_errors() {
///     match error.kind {
///         ErrorKind::DiskFull => eprintln!("free some space: {error}"),
///         _ if !error.retried => eprintln!("restore a copy: {error}"),
///         _ => eprintln!("attempt {} failed: {error}", error.attempts),
///     }
/// }
/// # assert!(db.background_errors().is_empty());
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackgroundError {
    /// What fails: `flush`, `compaction`, `log` (it cannot be written) or `log-release` (what is
    /// not needed of it cannot be let go of).
    pub job: &'static str,
    /// The kind of the latest failure.
    pub kind: ErrorKind,
    /// The latest failure, and what happens next.
    pub message: String,
    /// When the first of these failures was, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Failures since then, without a success in between.
    pub attempts: u64,
    /// Every write is refused until the error is gone. False: writes go on while there is room in
    /// memory.
    pub blocks_writes: bool,
    /// The job is tried again until it succeeds, and that ends the error. False: only opening the
    /// database again does.
    pub retried: bool,
}

/// `job: message`.
impl fmt::Display for BackgroundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.job, self.message)
    }
}

#[derive(Debug)]
pub(crate) struct Health {
    clock: Arc<dyn Clock>,
    /// Fast path of [`Health::check_writable`].
    read_only: AtomicBool,
    /// By job, so that a damaged flush comes before a failed log.
    jobs: Mutex<BTreeMap<&'static str, Standing>>,
    /// Told under the lock, so that what subscribers hear is in the order it happened in.
    events: Arc<Hub>,
}

/// The error of one job.
#[derive(Debug)]
struct Standing {
    shown: BackgroundError,
    /// What every write is refused with.
    refusal: Option<Error>,
}

/// When writes are taken again.
enum Ends {
    WithSuccess,
    WithOpening,
}

type Jobs = BTreeMap<&'static str, Standing>;

impl Health {
    pub(crate) fn new(clock: Arc<dyn Clock>, events: Arc<Hub>) -> Health {
        Health { clock, read_only: AtomicBool::new(false), jobs: Mutex::default(), events }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        if !self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.jobs().values().find_map(|standing| standing.refusal.as_ref()) {
            Some(refusal) => Err(refusal.duplicate()),
            None => Ok(()),
        }
    }

    /// Counts one more failure of `job`. `refusal`: what writes are refused with from now on, and
    /// whether that ends when the job succeeds. `tell` tells the subscribers; true: it is the first
    /// of a row.
    fn failed(
        &self,
        job: &'static str,
        kind: ErrorKind,
        message: String,
        refusal: Option<(Error, Ends)>,
        tell: impl FnOnce(&Hub, bool),
    ) {
        let now = self.clock.unix_ms();
        let mut jobs = self.jobs();
        tell(&self.events, !jobs.contains_key(job));
        let standing = jobs.entry(job).or_insert_with(|| Standing {
            shown: BackgroundError {
                job,
                kind,
                message: String::new(),
                since_unix_ms: now,
                attempts: 0,
                blocks_writes: false,
                retried: true,
            },
            refusal: None,
        });
        standing.shown.attempts += 1;
        if !standing.shown.retried {
            return; // what refuses the writes stays what is said
        }
        standing.shown.kind = kind;
        standing.shown.message = message;
        standing.shown.blocks_writes = refusal.is_some();
        standing.shown.retried = !matches!(refusal, Some((_, Ends::WithOpening)));
        standing.refusal = refusal.map(|(refusal, _)| refusal);
        self.note_refusals(&jobs);
    }

    /// Called under the lock by whoever changed a refusal.
    fn note_refusals(&self, jobs: &Jobs) {
        let refused = jobs.values().any(|standing| standing.refusal.is_some());
        self.read_only.store(refused, Ordering::Release);
    }

    /// A job failed. Damage found by a flush stops writes: going on could spread it.
    pub(crate) fn background_error(&self, job: &'static str, error: &Error) {
        let damaged = job == "flush"
            && matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported);
        let refusal = damaged.then(|| {
            let message = format!("writes are refused until the database is opened again: {error}");
            (Error::new(ErrorKind::ReadOnly, message), Ends::WithOpening)
        });
        self.failed(job, error.kind(), error.to_string(), refusal, |events, _| {
            events.background_error(job, error, damaged);
        });
    }

    /// The log failed: refuses writes until [`Health::log_healed`]. Said again for the same
    /// failure it changes nothing.
    pub(crate) fn log_failed(&self, cause: &Error) {
        if !self.is_log_failed() {
            self.heal_failed(cause);
        }
    }

    /// The log failed and could not be healed. A full disk stays [`ErrorKind::DiskFull`].
    pub(crate) fn heal_failed(&self, cause: &Error) {
        let kind = match cause.kind() {
            ErrorKind::DiskFull => ErrorKind::DiskFull,
            _ => ErrorKind::ReadOnly,
        };
        let message = format!(
            "writes are refused until everything in memory is in tables and the log is healed, \
             which is tried again and again: {cause}"
        );
        let refusal = Error::new(kind, message.clone());
        let shown = refusal.duplicate();
        // Said again and again while it lasts; subscribers hear it once.
        let tell = |events: &Hub, is_first: bool| {
            if is_first {
                events.log_failed(&shown);
            }
        };
        self.failed("log", cause.kind(), message, Some((refusal, Ends::WithSuccess)), tell);
    }

    pub(crate) fn is_log_failed(&self) -> bool {
        self.jobs().contains_key("log")
    }

    /// The log takes writes again, in a new segment.
    pub(crate) fn log_healed(&self) {
        self.succeeded("log", Hub::log_healed);
        self.background_ok("log-release");
    }

    /// Whether the last attempt of `job` failed.
    pub(crate) fn is_failing(&self, job: &'static str) -> bool {
        self.jobs().contains_key(job)
    }

    /// Refuses a write that depends on a job whose last attempt failed: with the kind of what made
    /// it fail (a full disk stays a full disk), and a word about what happens next.
    pub(crate) fn check_job(&self, job: &'static str) -> Result<()> {
        match self.jobs().get(job) {
            None => Ok(()),
            Some(Standing { shown, .. }) => Err(Error::new(
                shown.kind,
                format!(
                    "no room for the write, and the {job} that would make it fails: {}; it is retried, and reads go on",
                    shown.message
                ),
            )),
        }
    }

    /// The job succeeded: its last error is history, unless it is one that stays.
    pub(crate) fn background_ok(&self, job: &'static str) {
        self.succeeded(job, |events| events.recovered(job));
    }

    fn succeeded(&self, job: &'static str, tell: impl FnOnce(&Hub)) {
        let mut jobs = self.jobs();
        if jobs.get(job).is_some_and(|standing| standing.shown.retried) {
            jobs.remove(job);
            self.note_refusals(&jobs);
            tell(&self.events);
        }
    }

    /// The errors that stand.
    pub(crate) fn errors(&self) -> Vec<BackgroundError> {
        self.jobs().values().map(|standing| standing.shown.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_env::ManualClock;

    fn health() -> (Arc<ManualClock>, Health) {
        let clock = Arc::new(ManualClock::new(1_000));
        let events = Hub::new(&crate::Options::default(), 1);
        (Arc::clone(&clock), Health::new(clock, events))
    }

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, format!("{kind:?}"))
    }

    #[test]
    fn failures_of_a_job_count_until_it_succeeds() {
        let (clock, health) = health();
        health.background_error("flush", &error(ErrorKind::Io));
        clock.advance_ms(500);
        health.background_error("flush", &error(ErrorKind::DiskFull));
        let standing = health.errors().remove(0);
        assert_eq!((standing.job, standing.kind), ("flush", ErrorKind::DiskFull), "the latest");
        assert_eq!((standing.since_unix_ms, standing.attempts), (1_000, 2));
        assert!(!standing.blocks_writes && standing.retried);
        assert_eq!(standing.to_string(), "flush: DiskFull");
        assert!(health.check_writable().is_ok());
        assert_eq!(health.check_job("flush").unwrap_err().kind(), ErrorKind::DiskFull);
        health.background_ok("flush");
        assert!(health.errors().is_empty() && health.check_job("flush").is_ok());
        health.background_error("flush", &error(ErrorKind::Io));
        let again = health.errors().remove(0);
        assert_eq!((again.since_unix_ms, again.attempts), (1_500, 1), "a new row of failures");
    }

    #[test]
    fn a_failed_log_refuses_writes_until_it_is_healed() {
        let (_, health) = health();
        health.log_failed(&error(ErrorKind::Io));
        health.log_failed(&error(ErrorKind::Io));
        let standing = health.errors().remove(0);
        assert_eq!((standing.job, standing.attempts, standing.kind), ("log", 1, ErrorKind::Io));
        assert!(standing.blocks_writes && standing.retried);
        assert_eq!(health.check_writable().unwrap_err().kind(), ErrorKind::ReadOnly);
        health.heal_failed(&error(ErrorKind::DiskFull));
        assert_eq!(health.errors()[0].attempts, 2);
        assert_eq!(health.check_writable().unwrap_err().kind(), ErrorKind::DiskFull);
        health.background_error("log-release", &error(ErrorKind::Io));
        health.log_healed();
        assert!(health.check_writable().is_ok() && health.errors().is_empty());
    }

    #[test]
    fn damage_found_by_a_flush_refuses_writes_for_good_and_says_so() {
        let (_, health) = health();
        health.background_error("compaction", &error(ErrorKind::Corruption));
        assert!(health.check_writable().is_ok(), "a compaction that fails harms nobody yet");
        health.background_error("flush", &error(ErrorKind::Corruption));
        health.background_ok("flush");
        health.background_error("flush", &error(ErrorKind::DiskFull));
        health.log_failed(&error(ErrorKind::DiskFull));
        health.log_healed();
        assert_eq!(health.check_writable().unwrap_err().kind(), ErrorKind::ReadOnly);
        let standing = health.errors().into_iter().find(|error| error.job == "flush").unwrap();
        assert_eq!((standing.kind, standing.attempts), (ErrorKind::Corruption, 2));
        assert!(standing.blocks_writes && !standing.retried);
    }
}
