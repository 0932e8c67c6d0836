//! Compaction: merging tables down the levels so that reads stay cheap and space comes back.
//!
//! The decision ([`picker`]) is pure; [`job`] carries it out. This file stands between: it knows
//! which tables are taken by a running job, or set aside because a job on them failed, so that a
//! damaged table neither stops the others from being compacted nor keeps a worker spinning.

#[doc(hidden)]
pub mod bare;
mod job;
mod merge;
mod picker;

use crate::{
    Background, ColumnFamily, Result,
    core::Core,
    events::CompactionFacts,
    flush::Progress,
    read_state::CfState,
    schemas::{self, RangeMap},
    tables::{CfVersion, TableFile},
    version::KeyRange,
};
use picker::{InProgress, PickInput, PickerOptions, RangePick};
use sluice_base::{Error, ErrorKind, FileNo, Level};
use sluice_env::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{collections::HashMap, time::Duration};

type Compaction = picker::Compaction<TableFile>;

/// How long tables whose compaction failed are left alone: doubled with each failure on the same
/// tables, from the first to the last. A disk that was full for a moment is noticed soon, and a
/// damaged table is not read over and over.
const SET_ASIDE_FIRST_US: u64 = 1_000_000;
const SET_ASIDE_LAST_US: u64 = 60_000_000;

/// Most tables whose failures are counted. More means that everything fails; counting may then
/// begin again.
const COUNTED_MAX: usize = 1024;

/// Compactions in a row, while a drain has work, before it gets a turn: full levels never end under
/// load, and a drain must.
const DRAIN_TURN: u32 = 3;

/// From this score on L0 goes before a drain's turn: writers are next to wait for it.
const URGENT_SCORE: f64 = 2.0;

/// Longest sleep of a manual compaction before it looks again.
const BUSY_WAIT: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct State {
    /// What running jobs hold, and what is set aside.
    in_progress: InProgress,
    /// Compactions that failed; they stay in progress until the given moment (monotonic
    /// microseconds), so that no other touches their tables.
    aside: Vec<(u64, Compaction)>,
    /// How often a compaction failed since it last succeeded, by the number of its oldest input.
    failures: HashMap<FileNo, u32>,
    /// Compactions taken since a drain's last turn.
    since_drain: u32,
}

/// A compaction to be done.
#[derive(Debug)]
struct Job {
    family: ColumnFamily,
    /// The version it was picked from.
    version: Arc<CfVersion>,
    compaction: Compaction,
    /// Where its outputs end, and their schemas. Held until they are installed.
    schemas: Arc<RangeMap>,
    /// The key schema of the drain that it is a step of.
    drain: Option<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Compactions(Mutex<State>);

impl Compactions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses the most urgent compaction over all families and marks its inputs as taken.
    fn take(&self, core: &Core) -> Option<Job> {
        let mut state = self.state();
        let now = core.env.clock.monotonic_us();
        let State { in_progress, aside, since_drain, .. } = &mut *state;
        aside.retain(|(until, compaction)| {
            if *until <= now {
                in_progress.finish(compaction);
            }
            *until > now
        });
        let options = picker_options(core);
        let oldest_snapshot = core.snapshots.stripes(|| core.ring.visible()).oldest();
        let read_state = core.read_state.load_full();
        let pick = |cf: &CfState, drain: Option<u32>| {
            let schemas = cf.family.schemas().current();
            let input = PickInput {
                cf: cf.family.id(),
                version: &cf.version,
                options: &options,
                schemas: schemas.map(),
                in_progress: &*in_progress,
                oldest_snapshot,
            };
            let compaction = match drain {
                Some(schema) => picker::pick_drain(&input, schema),
                None => picker::pick(&input),
            }?;
            let version = Arc::clone(&cf.version);
            Some(Job { family: cf.family.clone(), version, compaction, schemas, drain })
        };
        let jobs = read_state.families().filter_map(|cf| pick(cf, None));
        let job = jobs.max_by(|a, b| a.compaction.score.total_cmp(&b.compaction.score));
        let is_urgent =
            |job: &Job| job.compaction.level == Level(0) && job.compaction.score >= URGENT_SCORE;
        let is_drains_turn = match &job {
            None => true,
            Some(job) => *since_drain >= DRAIN_TURN && !is_urgent(job),
        };
        let drain_job = || {
            read_state.families().find_map(|cf| {
                let drains = cf.family.schemas().drains();
                drains
                    .iter()
                    .filter(|drain| !drain.is_paused)
                    .find_map(|d| pick(cf, Some(d.schema)))
            })
        };
        let job = match is_drains_turn.then(drain_job).flatten() {
            Some(drain) => {
                if job.is_some() {
                    sluice_env::probe!("drain: a turn before compactions that were due");
                }
                *since_drain = 0;
                drain
            }
            None => {
                *since_drain = since_drain.saturating_add(1);
                job?
            }
        };
        state.in_progress.start(&job.compaction);
        Some(job)
    }

    /// The next step of a manual compaction, marked as taken.
    fn take_range(
        &self,
        core: &Core,
        slot: usize,
        range: KeyRange<'_>,
        level: Level,
    ) -> Result<RangePick<Job>> {
        let mut state = self.state();
        let read_state = core.read_state.load_full();
        let Some(cf) = read_state.cf(slot) else {
            return Err(Error::new(ErrorKind::NotFound, "the column family has been dropped"));
        };
        let schemas = cf.family.schemas().current();
        let input = PickInput {
            cf: cf.family.id(),
            version: &cf.version,
            options: &picker_options(core),
            schemas: schemas.map(),
            in_progress: &state.in_progress,
            oldest_snapshot: core.snapshots.stripes(|| core.ring.visible()).oldest(),
        };
        Ok(match picker::pick_range(&input, range, level) {
            RangePick::Done => RangePick::Done,
            RangePick::Busy => RangePick::Busy,
            RangePick::Compact(compaction) => {
                state.in_progress.start(&compaction);
                let version = Arc::clone(&cf.version);
                let family = cf.family.clone();
                RangePick::Compact(Job { family, version, compaction, schemas, drain: None })
            }
        })
    }

    fn finish(&self, compaction: &Compaction) {
        let mut state = self.state();
        state.in_progress.finish(compaction);
        state.failures.remove(&oldest_input(compaction));
    }

    /// Leaves the tables of a failed compaction alone for a while.
    fn set_aside(&self, compaction: Compaction, now_us: u64) {
        let mut state = self.state();
        if state.failures.len() >= COUNTED_MAX {
            state.failures.clear();
        }
        let failures = state.failures.entry(oldest_input(&compaction)).or_default();
        let wait = (SET_ASIDE_FIRST_US << (*failures).min(10)).min(SET_ASIDE_LAST_US);
        *failures += 1;
        state.aside.push((now_us + wait, compaction));
    }

    /// Lets whatever was set aside be tried at once: somebody asks for it.
    pub(crate) fn retry_now(&self) {
        for (until, _) in &mut self.state().aside {
            *until = 0;
        }
    }
}

/// What stands for a compaction from one attempt to the next. New tables may join the next one,
/// the oldest stays: a failed compaction changes nothing.
fn oldest_input(compaction: &Compaction) -> FileNo {
    let inputs = compaction.inputs.iter().flat_map(|(_, handles)| handles);
    inputs.map(|handle| handle.meta.file).min().unwrap_or(FileNo(0))
}

fn picker_options(core: &Core) -> PickerOptions {
    let options = &core.options;
    PickerOptions {
        l0_trigger: options.l0_compaction_trigger as usize,
        level_base_bytes: options.level_base_bytes,
        table_bytes: options.table_bytes,
        grandparent_bytes_max: 10 * options.table_bytes,
        compaction_bytes_max: 25 * options.table_bytes,
        ..PickerOptions::default()
    }
}

/// Bytes that compactions must still read and write until the family is in shape.
pub(crate) fn debt_bytes(core: &Core, cf: &CfState) -> u64 {
    let schemas = cf.family.schemas().current();
    picker::pressure(&cf.version, schemas.map(), &picker_options(core)).debt_bytes
}

/// Compacts what `range` covers of one family, level by level, on the calling thread.
pub(crate) fn compact_range(core: &Arc<Core>, slot: usize, range: KeyRange<'_>) -> Result<()> {
    for level in 0..Level::COUNT as u8 {
        loop {
            core.check_open(&core.commit.lock())?;
            let turn = core.room.turn();
            match core.compactions.take_range(core, slot, range, Level(level))? {
                RangePick::Done => break,
                RangePick::Busy if core.options.background == Background::Stepped => {
                    if !core.step() {
                        break;
                    }
                }
                // The running compaction that is in the way ends a turn when it is done.
                RangePick::Busy => {
                    core.room.wait(turn, Some(BUSY_WAIT));
                }
                RangePick::Compact(job) => {
                    let outcome = run(core, &job);
                    core.compactions.finish(&job.compaction);
                    core.end_turn();
                    outcome.map_err(|error| note(&job.compaction, error))?;
                    core.stats.compactions.add(1);
                    if level == 0 {
                        break; // newer flushes need not go along
                    }
                }
            }
        }
    }
    core.store.collect_garbage();
    Ok(())
}

/// Does the most urgent compaction, if any is due.
pub(crate) fn run_one(core: &Arc<Core>) -> Progress {
    if core.reserve.is_given_up() {
        return Progress::Idle; // what room there is belongs to a flush: see reserve.rs
    }
    // First: under load there is always a compaction to do.
    if schemas::end_ready(core) {
        return Progress::Done;
    }
    let Some(job) = core.compactions.take(core) else { return Progress::Idle };
    let Job { family, drain, .. } = &job;
    match run(core, &job) {
        Ok(()) => {
            core.compactions.finish(&job.compaction);
            if let Some(schema) = *drain {
                schemas::progress(core, family, schema);
            }
            core.stats.compactions.add(1);
            core.health.background_ok("compaction");
            core.end_turn();
            // Another worker may have found everything blocked by this job.
            core.background.wake_compaction();
            core.store.collect_garbage();
        }
        Err(error) => {
            if !core.background.stopping() {
                core.stats.compaction_failures.add(1);
                core.health.background_error("compaction", &note(&job.compaction, error));
            }
            core.compactions.set_aside(job.compaction, core.env.clock.monotonic_us());
            // Writers may wait for the level that this was to empty.
            core.end_turn();
        }
    }
    Progress::Done
}

/// Carries the job out and tells subscribers.
fn run(core: &Arc<Core>, job: &Job) -> Result<()> {
    let Compaction { level, output_level, .. } = job.compaction;
    let facts = CompactionFacts {
        cf: job.family.name(),
        level,
        output_level,
        files: job.compaction.tables().count() as u64,
        bytes: job.compaction.input_bytes(),
    };
    let started_us = core.env.clock.monotonic_us();
    core.events.compaction_begin(&facts);
    match job::run(core, job) {
        Ok(made) => {
            let took_us = core.env.clock.monotonic_us() - started_us;
            let took = Duration::from_micros(took_us);
            core.events.compaction_end(&facts, made.files, made.bytes, took);
            Ok(())
        }
        Err(error) => {
            core.events.compaction_failed(&facts, &error);
            Err(error)
        }
    }
}

fn note(compaction: &Compaction, error: Error) -> Error {
    let Compaction { level, output_level, reason, .. } = compaction;
    error.context(format_args!("compact {level} into {output_level} ({reason:?})"))
}
