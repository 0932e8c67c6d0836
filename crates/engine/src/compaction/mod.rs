//! Compaction: merging tables down the levels so that reads stay cheap and space comes back.
//!
//! The decision ([`picker`]) is pure; [`job`] carries it out. This file stands between: it knows
//! which tables are taken by a running job, or set aside because a job on them failed, so that a
//! damaged table neither stops the others from being compacted nor keeps a worker spinning.

mod job;
mod picker;

use crate::{core::Core, flush::Progress};
use picker::Compaction;
use sluice_base::{Error, FileNo};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

/// How long tables whose compaction failed are left alone.
const SET_ASIDE_US: u64 = 10_000_000;

#[derive(Debug, Default)]
struct State {
    /// Tables that a running job reads.
    busy: HashSet<FileNo>,
    /// Tables set aside, and until when (monotonic microseconds).
    aside: HashMap<FileNo, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Compactions(Mutex<State>);

impl Compactions {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses the most urgent compaction over all families and marks its inputs as taken.
    fn take(&self, core: &Core) -> Option<(usize, Compaction)> {
        let mut state = self.state();
        let now = core.env.clock.monotonic_us();
        state.aside.retain(|_, until| *until > now);
        let mut taken = state.busy.clone();
        taken.extend(state.aside.keys());
        let options = picker_options(core);
        let read_state = core.read_state.load_full();
        let picks = read_state.families().filter_map(|cf| {
            let pick = picker::pick(cf.family.id(), &cf.version, &options, &taken)?;
            Some((cf.family.slot(), pick))
        });
        let (slot, pick) = picks.max_by(|(_, a), (_, b)| a.score.total_cmp(&b.score))?;
        state.busy.extend(pick.input_files());
        Some((slot, pick))
    }

    fn release(&self, compaction: &Compaction, failed_at_us: Option<u64>) {
        let mut state = self.state();
        for file in compaction.input_files() {
            state.busy.remove(&file);
            if let Some(now) = failed_at_us {
                state.aside.insert(file, now + SET_ASIDE_US);
            }
        }
    }
}

fn picker_options(core: &Core) -> picker::PickerOptions {
    let options = &core.options;
    picker::PickerOptions {
        l0_trigger: options.l0_compaction_trigger as usize,
        level_base_bytes: options.level_base_bytes,
        table_bytes: options.table_bytes,
        ..Default::default()
    }
}

/// Does the most urgent compaction, if any is due.
pub(crate) fn run_one(core: &Arc<Core>) -> Progress {
    let Some((slot, compaction)) = core.compactions.take(core) else { return Progress::Idle };
    match job::run(core, slot, &compaction) {
        Ok(()) => {
            core.compactions.release(&compaction, None);
            core.stats.compactions.add(1);
            core.health.background_ok("compaction");
            core.room.end_turn();
            core.store.collect_garbage();
        }
        Err(error) => {
            core.compactions.release(&compaction, Some(core.env.clock.monotonic_us()));
            if !core.background.stopping() {
                core.stats.compaction_failures.add(1);
                core.health.background_error("compaction", &note(&compaction, error));
            }
        }
    }
    Progress::Done
}

fn note(compaction: &Compaction, error: Error) -> Error {
    error.context(format_args!("compact into {}", compaction.output_level))
}
