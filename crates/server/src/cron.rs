//! The periodic task, on worker 0, ten times a second: rates for INFO, keys whose time is over, rows
//! that FLUSHDB left behind. Each step is bounded, so that it delays its worker's connections by
//! little; what remains is done at the next tick.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicedb::{Ack, WriteOptions};

use crate::log::Level;
use crate::shared::WorkerContext;

/// Keys deleted in one step: 200 small deletes take well under a millisecond.
const EXPIRE_STEP: usize = 200;
/// Steps of a tick: at most 20,000 keys a second expire actively, more when they are read.
const EXPIRE_STEPS_MAX: usize = 10;
/// Rows purged in a tick.
const PURGE_STEP: usize = 2000;

pub(crate) fn run(cx: &mut WorkerContext) {
    sample(cx);
    note_errors(cx);
    let options =
        WriteOptions { ack: Ack::Memory, wal: cx.settings.log, deadline: Some(Duration::ZERO) };
    for _ in 0..EXPIRE_STEPS_MAX {
        // A stalled or failed step is tried again at the next tick.
        let Ok(step) = cx.shared.keyspace.expire_due(cx.now_ms, EXPIRE_STEP, &options) else {
            break;
        };
        cx.ran_data |= step.removed > 0;
        cx.shared.expired_keys.fetch_add(step.removed as u64, Ordering::Relaxed);
        if !step.more {
            break;
        }
    }
    if cx.shared.keyspace.maintenance_is_due() {
        cx.ran_data = true;
        let _ = cx.shared.keyspace.maintenance(PURGE_STEP, &options);
    }
}

/// Writes errors of background jobs into the log when they begin, change their kind or end. Not
/// with each attempt, whose message may name another file: a full disk must not fill the log.
fn note_errors(cx: &WorkerContext) {
    let errors = cx.shared.db.background_errors();
    let mut noted = crate::lock(&cx.shared.noted_errors);
    let kinds: Vec<_> = errors.iter().map(|error| (error.job, error.kind)).collect();
    if *noted == kinds {
        return;
    }
    for error in errors.iter().filter(|error| !noted.contains(&(error.job, error.kind))) {
        cx.shared.note(Level::Warning, &format!("background job failed: {error}"));
    }
    if errors.is_empty() {
        cx.shared.note(Level::Notice, "background jobs work again");
    }
    *noted = kinds;
}

fn sample(cx: &WorkerContext) {
    let shared = &cx.shared;
    shared.ops.sample(cx.now_us, shared.total(|stats| stats.processed.get()));
    shared.input_rate.sample(cx.now_us, shared.total(|stats| stats.input_bytes.get()));
    shared.output_rate.sample(cx.now_us, shared.total(|stats| stats.output_bytes.get()));
}
