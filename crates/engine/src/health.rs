//! What is wrong with the database right now: the last error of each background job, and whether
//! writes must be refused because of one.

use crate::{Result, events::Hub};
use sluice_base::{Error, ErrorKind};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

#[derive(Debug)]
pub(crate) struct Health {
    /// Fast path of [`Health::check_writable`].
    read_only: AtomicBool,
    state: Mutex<State>,
    /// Told under the state's lock, so that what subscribers hear is in the order it happened in.
    events: Arc<Hub>,
}

#[derive(Debug, Default)]
struct State {
    /// Why writes are refused.
    cause: Option<Error>,
    /// Why they are refused until the log is healed.
    log: Option<Error>,
    /// The last error of each job that has not succeeded since.
    jobs: BTreeMap<&'static str, Error>,
}

impl Health {
    pub(crate) fn new(events: Arc<Hub>) -> Health {
        Health { read_only: AtomicBool::new(false), state: Mutex::default(), events }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        if !self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.state();
        match state.cause.as_ref().or(state.log.as_ref()) {
            Some(cause) => Err(cause.duplicate()),
            None => Ok(()),
        }
    }

    /// Refuses writes from now on, with `cause`.
    pub(crate) fn set_read_only(&self, cause: &Error) {
        let message = format!("writes are refused: {cause}");
        let mut state = self.state();
        state.cause = Some(Error::new(ErrorKind::ReadOnly, message));
        self.read_only.store(true, Ordering::Release);
    }

    /// The log failed, or could not be healed: refuses writes until [`Health::log_healed`]. A full
    /// disk stays [`ErrorKind::DiskFull`].
    pub(crate) fn log_failed(&self, cause: &Error) {
        let kind = match cause.kind() {
            ErrorKind::DiskFull => ErrorKind::DiskFull,
            _ => ErrorKind::ReadOnly,
        };
        let message = format!(
            "writes are refused until everything in memory is in tables and the log is healed, \
             which is tried again and again: {cause}"
        );
        let error = Error::new(kind, message);
        let mut state = self.state();
        // Said again and again while it lasts; subscribers hear it once.
        if state.log.is_none() {
            self.events.log_failed(&error);
        }
        state.log = Some(error);
        self.read_only.store(true, Ordering::Release);
    }

    pub(crate) fn is_log_failed(&self) -> bool {
        self.state().log.is_some()
    }

    /// The log takes writes again.
    pub(crate) fn log_healed(&self) {
        let mut state = self.state();
        if state.log.take().is_some() {
            self.events.log_healed();
        }
        if state.jobs.remove("log").is_some() {
            self.events.recovered("log");
        }
        self.read_only.store(state.cause.is_some(), Ordering::Release);
    }

    /// A job failed. Damage found by one stops writes: going on could spread it.
    pub(crate) fn background_error(&self, job: &'static str, error: &Error) {
        let is_damage = matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported);
        let stops_writes = is_damage && job == "flush";
        {
            let mut state = self.state();
            state.jobs.insert(job, error.duplicate());
            self.events.background_error(job, error, stops_writes);
        }
        if stops_writes {
            self.set_read_only(error);
        }
    }

    /// Refuses a write that depends on a job whose last attempt failed: with the kind of what made
    /// it fail (a full disk stays a full disk), and a word about what happens next.
    pub(crate) fn check_job(&self, job: &'static str) -> Result<()> {
        match self.state().jobs.get(job) {
            None => Ok(()),
            Some(error) => Err(Error::new(
                error.kind(),
                format!(
                    "no room for the write, and the {job} that would make it fails: {error}; it is retried, and reads go on"
                ),
            )),
        }
    }

    /// The job succeeded: its last error is history.
    pub(crate) fn background_ok(&self, job: &'static str) {
        let mut state = self.state();
        if state.jobs.remove(job).is_some() {
            self.events.recovered(job);
        }
    }

    /// The errors that stand, each with its job.
    pub(crate) fn errors(&self) -> Vec<(&'static str, Error)> {
        let state = self.state();
        let jobs = state.jobs.iter().map(|(job, error)| (*job, error.duplicate()));
        jobs.chain(state.log.iter().map(|error| ("log", error.duplicate()))).collect()
    }
}
