//! Checkpoints: a second directory that holds the database as it was at one position.
//!
//! ```text
//! start ─> asked ─begin─> flushing ─installed, ticket done─> write ─> renamed to its name, done
//!                │ seal all families at one cut   │ hard links, a manifest of the captured state
//!                └ nothing to wait for: captured at once
//! ```
//!
//! What makes the copy a state of one position S: all families are sealed at one cut, and groups
//! install strictly in the order of their cuts. So when the edit of the last group that was queued
//! at the cut is applied, every entry at or below S is in tables and none above S is. That version
//! state is captured right there, under the versions lock ([`Checkpoints::installed`]). It holds
//! its tables: while it is held, no compaction and no drop of a family deletes their files.
//!
//! Invariants:
//! 1. One checkpoint at a time is worked on, the others wait in order, at most [`ASKED_MAX`].
//! 2. Nothing of it is done on the caller's thread, and nothing on a thread that flushes or
//!    compacts: a copy of all tables may take long.
//! 3. No file operation of it runs under the install, versions or commit lock.
//! 4. Every checkpoint ends: done, failed, or `Closed` (P6). A failed attempt to flush fails it.
//!
//! It is no backup of the log: what was written after S is not in it. Files: `queue` has the
//! stages, `directory` writes the files and knows what a crash leaves.
//!
//! Lock order: the queue's lock is one of the innermost (see `core.rs`).

mod directory;
mod queue;

pub(crate) use queue::Checkpoints;

use crate::{
    Background, Position, Result,
    core::Core,
    flush::{self, FlushReason, FlushReport, FlushTicket, Progress},
    promise::Promise,
};
use directory::Place;
use queue::{Capture, Captured, Flushing, Job, Work};
use sluice_base::{Error, ErrorKind};
use std::{fmt, path::Path, sync::Arc, time::Duration};

/// Checkpoints that may wait for their turn.
const ASKED_MAX: usize = 16;

/// What a finished checkpoint made.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options};
/// let db = Db::open(dir.path().join("db"), Options::default())?;
/// let written = db.put(&db.default_cf(), b"key", b"value")?;
/// let made = db.checkpoint(dir.path().join("copy"))?;
/// assert!(made.position >= written);
/// assert_eq!(made.files, made.linked + made.copied);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The copy holds every entry at or below it, and none above.
    pub position: Position,
    /// Tables in the copy.
    pub files: u64,
    /// Bytes of these tables.
    pub bytes: u64,
    /// Tables that share their bytes on the disk with the original.
    pub linked: u64,
    /// Tables that were copied, because the file system makes no hard link there.
    pub copied: u64,
    /// From the call to the end, the wait for other checkpoints included.
    pub took: Duration,
    /// The flush that the checkpoint waited for; without entries when everything was in tables.
    pub flush: FlushReport,
}

/// A checkpoint under way: wait for it, poll it, or let go of it. Dropping a ticket or giving up a
/// wait never cancels the checkpoint. Every wait ends: done, failed, deadline, or closed (P6).
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options};
/// use std::sync::mpsc;
/// let db = Db::open(dir.path().join("db"), Options::default())?;
/// let (done, outcome) = mpsc::channel();
/// // For callers that must not wait: the callback runs on a thread of the engine.
/// let ticket = db.start_checkpoint(dir.path().join("copy"))?;
/// ticket.on_done(move |made| drop(done.send(made)));
/// assert_eq!(outcome.recv().unwrap()?.files, 0);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Clone)]
pub struct CheckpointTicket {
    promise: Promise<Checkpoint>,
}

impl fmt::Debug for CheckpointTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointTicket").finish_non_exhaustive()
    }
}

impl CheckpointTicket {
    /// Waits for the end of the checkpoint, at most `deadline`; `None`: without limit. Not to be
    /// called from a callback of the engine, nor for a database whose background is stepped.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, while the checkpoint goes on; otherwise those of
    /// [`crate::Db::checkpoint`].
    pub fn wait(&self, deadline: Option<Duration>) -> Result<Checkpoint> {
        self.promise.wait(deadline, "checkpoint")
    }

    /// The outcome, when there is one.
    pub fn poll(&self) -> Option<Result<Checkpoint>> {
        self.promise.poll()
    }

    /// Runs `callback` when the checkpoint ends, on the thread that ended it; at once when it has.
    pub fn on_done(&self, callback: impl FnOnce(Result<Checkpoint>) + Send + 'static) {
        self.promise.on_done(callback);
    }
}

/// Asks for a checkpoint in `dir`. Does no file operation and waits for nothing.
pub(crate) fn start(core: &Arc<Core>, dir: &Path) -> Result<CheckpointTicket> {
    let place = Place::new(dir)?;
    core.check_open(&core.commit.lock())?;
    let promise = Promise::default();
    core.checkpoints.ask(place, promise.clone(), core.env.clock.monotonic_us())?;
    core.background.wake_checkpoint();
    Ok(CheckpointTicket { promise })
}

/// Makes a checkpoint in `dir` and waits for its end.
pub(crate) fn make(core: &Arc<Core>, dir: &Path) -> Result<Checkpoint> {
    let ticket = start(core, dir)?;
    if core.options.background == Background::Stepped {
        while ticket.poll().is_none() && core.step() {}
        return ticket.poll().unwrap_or_else(|| {
            // Nobody else takes a step: waiting would be waiting for nothing.
            Err(Error::new(
                ErrorKind::TimedOut,
                "the checkpoint stands still, and goes on with the next steps of the background",
            ))
        });
    }
    ticket.wait(None)
}

/// Does one piece of work on checkpoints, if there is any.
pub(crate) fn run_one(core: &Arc<Core>) -> Progress {
    match core.checkpoints.take() {
        Some(Work::Begin(job)) => {
            if let Err((job, error)) = begin(core, job) {
                end(core, job, Err(error));
            }
        }
        Some(Work::Write(job, captured)) => {
            let Captured { capture, flush } = *captured;
            let outcome = write(core, &job, &capture, flush);
            // The tables that only the capture held can go now.
            drop(capture);
            end(core, job, outcome);
        }
        Some(Work::Fail(job, error)) => end(core, job, Err(error)),
        None => return Progress::Idle,
    }
    Progress::Done
}

/// Seals all families at one cut and notes which group's install to wait for; or captures at once
/// when everything is in tables. Gives the job back when it cannot be done.
fn begin(core: &Arc<Core>, job: Job) -> std::result::Result<(), (Job, Error)> {
    if let Err(error) = job.place.check(&*core.store.fs) {
        return Err((job, error));
    }
    let id = job.id;
    // With it no group is half done: published, and still in the queue.
    let installing = core.flushes.lock_install();
    let groups = core.versions.look(|state| {
        let mut commit = core.commit.lock();
        if let Err(error) = core.check_open(&commit) {
            return Err((job, error));
        }
        let all: Vec<usize> = (0..commit.accounts.len()).collect();
        flush::seal(core, &mut commit, &all, FlushReason::Checkpoint);
        let seq = commit.last();
        let groups = core.flushes.queued();
        let mut flushing =
            Flushing { job, seq, group: groups.last().map(|g| g.id), capture: None, flushed: None };
        if groups.is_empty() {
            let report = FlushReport::empty(FlushReason::Checkpoint, core.position(seq));
            flushing.capture = Some(Capture::new(seq, state));
            flushing.flushed = Some(Ok(report));
        }
        core.checkpoints.set_flushing(flushing);
        Ok(groups)
    })?;
    drop(installing);
    // A group in front that keeps failing holds up the last one: each of them is listened to.
    for (index, group) in groups.iter().enumerate() {
        let is_last = index + 1 == groups.len();
        let ticket = FlushTicket::new(core.position(group.cut));
        let weak = Arc::downgrade(core);
        ticket.on_done(move |outcome| {
            if let Some(core) = weak.upgrade()
                && (is_last || outcome.is_err())
            {
                core.checkpoints.flushed(id, outcome);
                core.background.wake_checkpoint();
            }
        });
        group.attach(&ticket);
    }
    core.flushes.retry_now();
    core.background.wake_flush();
    Ok(())
}

fn write(core: &Core, job: &Job, capture: &Capture, flush: FlushReport) -> Result<Checkpoint> {
    let stopping = || core.background.stopping();
    let written = directory::write(&core.store, &job.place, &capture.state, &stopping)
        .map_err(|error| error.context(format_args!("checkpoint to {}", job.place)))?;
    let now = core.env.clock.monotonic_us();
    Ok(Checkpoint {
        position: core.position(capture.seq),
        files: written.linked + written.copied,
        bytes: written.bytes,
        linked: written.linked,
        copied: written.copied,
        took: Duration::from_micros(now.saturating_sub(job.asked_us)),
        flush,
    })
}

fn end(core: &Core, job: Job, outcome: Result<Checkpoint>) {
    core.stats.checkpointed(&outcome);
    core.checkpoints.free();
    job.promise.keep(outcome);
}
