//! The checkpoints asked for, and the stage of the one that is worked on.

use super::{ASKED_MAX, Checkpoint, directory::Place};
use crate::{Result, flush::FlushReport, promise::Promise, tables::VersionState};
use sluice_base::{Error, ErrorKind, SeqNo};
use sluice_env::sync::{Mutex, MutexGuard, PoisonError};
use std::{collections::VecDeque, fmt};

/// One checkpoint, from the call to the end.
pub(super) struct Job {
    /// Tells a late word about the flush of an earlier job from one about this.
    pub id: u64,
    pub place: Place,
    pub promise: Promise<Checkpoint>,
    /// When it was asked for, in monotonic microseconds.
    pub asked_us: u64,
}

/// The version state at one position. Its tables' files stay while it is held.
pub(super) struct Capture {
    pub seq: SeqNo,
    pub state: VersionState,
}

impl Capture {
    pub(super) fn new(seq: SeqNo, state: &VersionState) -> Capture {
        let mut state = state.clone();
        // Entries of a dropped family count as well: their numbers are never given out again.
        state.last_seq = state.last_seq.max(seq);
        Capture { seq, state }
    }
}

/// A checkpoint whose cut is made and whose tables are on their way.
pub(super) struct Flushing {
    pub job: Job,
    /// The last sequence number given out at the cut.
    pub seq: SeqNo,
    /// The last group that was queued at the cut; `None`: everything was in tables.
    pub group: Option<u64>,
    pub capture: Option<Capture>,
    pub flushed: Option<Result<FlushReport>>,
}

/// What is to be written, and the flush that made it.
pub(super) struct Captured {
    pub capture: Capture,
    pub flush: FlushReport,
}

/// The next thing to do.
pub(super) enum Work {
    Begin(Job),
    Write(Job, Box<Captured>),
    Fail(Job, Error),
}

#[derive(Default)]
enum Stage {
    /// The next one may begin.
    #[default]
    Free,
    /// A thread works on one and has it in its hands.
    Busy,
    Flushing(Box<Flushing>),
}

#[derive(Default)]
struct State {
    asked: VecDeque<Job>,
    stage: Stage,
    ids: u64,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Checkpoints(Mutex<State>);

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checkpoints")
    }
}

impl Checkpoints {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ask(
        &self,
        place: Place,
        promise: Promise<Checkpoint>,
        asked_us: u64,
    ) -> Result<()> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        if state.asked.len() >= ASKED_MAX {
            return Err(Error::new(
                ErrorKind::Stalled,
                format!("{ASKED_MAX} checkpoints wait already: ask again when one of them is done"),
            ));
        }
        state.ids += 1;
        let id = state.ids;
        state.asked.push_back(Job { id, place, promise, asked_us });
        Ok(())
    }

    /// Hands out the next piece of work. Whoever gets it ends it with `set_flushing` or `free`.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        match std::mem::replace(&mut state.stage, Stage::Busy) {
            Stage::Busy => None,
            Stage::Free => {
                let job = state.asked.pop_front();
                if job.is_none() {
                    state.stage = Stage::Free;
                }
                job.map(Work::Begin)
            }
            Stage::Flushing(flushing) if flushing.flushed.is_none() => {
                state.stage = Stage::Flushing(flushing);
                None
            }
            Stage::Flushing(flushing) => {
                let Flushing { job, capture, flushed, .. } = *flushing;
                Some(match (flushed?, capture) {
                    (Ok(flush), Some(capture)) => {
                        Work::Write(job, Box::new(Captured { capture, flush }))
                    }
                    (Err(error), _) => Work::Fail(job, error),
                    (Ok(_), None) => Work::Fail(
                        job,
                        Error::invalid(
                            "the flush ended and no state was captured; this is a bug, please \
                             report it",
                        ),
                    ),
                })
            }
        }
    }

    /// The cut is made. Called under the commit lock, so no group of the cut is installed before.
    pub(super) fn set_flushing(&self, flushing: Flushing) {
        self.state().stage = Stage::Flushing(Box::new(flushing));
    }

    /// `groups` were just installed by one edit that made `version`; `cut` is the last one's. Called
    /// under the versions lock. Where the log failed, groups sealed later come by the same edit:
    /// the position is then theirs.
    pub(crate) fn installed(&self, groups: &[u64], cut: Option<SeqNo>, version: &VersionState) {
        let mut state = self.state();
        if let Stage::Flushing(flushing) = &mut state.stage
            && flushing.group.is_some_and(|group| groups.contains(&group))
        {
            let seq = cut.map_or(flushing.seq, |cut| flushing.seq.max(cut));
            flushing.capture = Some(Capture::new(seq, version));
        }
    }

    /// What came of the flush that checkpoint `id` waits for. Only the first word counts.
    pub(super) fn flushed(&self, id: u64, outcome: Result<FlushReport>) {
        let mut state = self.state();
        if let Stage::Flushing(flushing) = &mut state.stage
            && flushing.job.id == id
        {
            flushing.flushed.get_or_insert(outcome);
        }
    }

    /// The checkpoint that was worked on has ended.
    pub(super) fn free(&self) {
        self.state().stage = Stage::Free;
    }

    /// Ends every wait: the database is closed. One that a thread has in its hands is ended by that
    /// thread. The callbacks run without the lock.
    pub(crate) fn abandon_all(&self, error: &Error) {
        let jobs: Vec<Job> = {
            let mut state = self.state();
            state.closed = true;
            let asked = std::mem::take(&mut state.asked);
            let begun = match std::mem::replace(&mut state.stage, Stage::Busy) {
                Stage::Flushing(flushing) => Some(flushing.job),
                Stage::Free | Stage::Busy => None,
            };
            begun.into_iter().chain(asked).collect()
        };
        for job in jobs {
            job.promise.keep(Err(error.duplicate()));
        }
    }
}
