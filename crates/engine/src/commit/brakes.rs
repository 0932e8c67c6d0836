//! Where the brakes of `pace.rs` stand: gathers debt and drain, charges writes, keeps the clock of
//! stalls.
//!
//! The brakes are guarded by the commit lock. They are looked at again when memory or level 0 have
//! changed (an install, a compaction: [`Brakes::changed`]), when a memtable was sealed, and after
//! every [`LOOK_BYTES`] written. A write while no brake is on costs one relaxed load and a
//! subtraction.
//!
//! One brake for each family (its memtables, its level 0) and one for all (memory budget, log): a
//! family that is behind slows its own writers only.

use super::{CommitState, pace};
use crate::{batch::CfShare, core::Core, stats::StallCause};
use sluice_env::{
    Clock,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

/// Bytes written between two looks.
const LOOK_BYTES: u64 = 1 << 20;

/// What is taken for the drain until a flush or a compaction has been measured.
const DRAIN_FIRST: u64 = 128 << 20;

/// Bytes that a flush or compaction must have moved to count as a measurement.
const MEASURED_MIN: u64 = 1 << 20;

/// Longest pause between two compactions of level 0 that still counts as work under way.
const COMPACTION_GAP_US: u64 = 10_000_000;

/// What is known outside the commit lock.
#[derive(Debug)]
pub(crate) struct Brakes {
    /// Something that the brakes go by has changed.
    stale: AtomicBool,
    /// When the furthest brake lets the next write through, in monotonic microseconds; 0: now.
    until_us: AtomicU64,
    /// When room came after the last write that found none, in monotonic microseconds; 0: not yet.
    room_since_us: AtomicU64,
    /// Bytes a second that flushes take out of memtables, and compactions out of level 0.
    flush_drain: AtomicU64,
    compaction_drain: AtomicU64,
    /// When level 0 last got smaller, in monotonic microseconds.
    compacted_us: AtomicU64,
}

impl Default for Brakes {
    fn default() -> Brakes {
        Brakes {
            stale: AtomicBool::new(true),
            until_us: AtomicU64::new(0),
            room_since_us: AtomicU64::new(0),
            flush_drain: AtomicU64::new(DRAIN_FIRST),
            compaction_drain: AtomicU64::new(DRAIN_FIRST),
            compacted_us: AtomicU64::new(0),
        }
    }
}

impl Brakes {
    /// Memory or level 0 have changed: the next write looks again, and a stall is over unless a
    /// write runs into it again.
    pub(crate) fn changed(&self, now_us: u64) {
        self.stale.store(true, Ordering::Release);
        // Only the first change behind a stall ends it: a later one finds its moment there.
        let (Ok(_) | Err(_)) = self.room_since_us.compare_exchange(
            0,
            now_us.max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// A flush took `bytes` out of memtables in `took`.
    pub(crate) fn flushed(&self, bytes: u64, took: Duration) {
        measure(&self.flush_drain, bytes, took);
    }

    /// A compaction that began at `began_us` has taken `bytes` out of level 0. What counts is the
    /// time since the one before: compactions of deeper levels come in between, and as long as
    /// they are due level 0 drains that much more slowly.
    pub(crate) fn compacted(&self, bytes: u64, began_us: u64, now_us: u64) {
        let before_us = self.compacted_us.swap(now_us, Ordering::Relaxed);
        let since_us = match began_us.saturating_sub(before_us) {
            gap if before_us > 0 && gap <= COMPACTION_GAP_US => before_us,
            // Nothing was due in between.
            _ => began_us,
        };
        let took = Duration::from_micros(now_us.saturating_sub(since_us));
        measure(&self.compaction_drain, bytes, took);
    }

    pub(crate) fn flush_drain(&self) -> u64 {
        self.flush_drain.load(Ordering::Relaxed)
    }

    pub(crate) fn compaction_drain(&self) -> u64 {
        self.compaction_drain.load(Ordering::Relaxed)
    }

    /// For how long a writer should hold back now.
    pub(crate) fn throttle(&self, clock: &dyn Clock) -> Duration {
        let until_us = self.until_us.load(Ordering::Relaxed);
        if until_us == 0 {
            return Duration::ZERO;
        }
        match until_us.saturating_sub(clock.monotonic_us()) {
            us if us >= pace::DELAY_MIN_US => Duration::from_micros(us.min(pace::DELAY_MAX_US)),
            _ => Duration::ZERO,
        }
    }
}

fn measure(drain: &AtomicU64, bytes: u64, took: Duration) {
    if bytes >= MEASURED_MIN && !took.is_zero() {
        let measured = (bytes as f64 / took.as_secs_f64()) as u64;
        let before = drain.load(Ordering::Relaxed);
        // What was only assumed counts for nothing.
        let before = if before == DRAIN_FIRST { measured } else { before };
        // Two threads that measure at once may lose one of two like numbers.
        drain.store(pace::smooth(before, measured), Ordering::Relaxed);
    }
}

/// The brakes' part of the commit state.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pacing {
    /// For writes to any family.
    all: pace::Brake,
    /// Bytes that may be written before the next look.
    left: u64,
    /// Whether any brake is on, and why the strongest is.
    on: Option<StallCause>,
    /// Why writes find no room, and since when (monotonic microseconds).
    stalled: Option<(StallCause, u64)>,
}

/// Queues a write up behind the brakes that concern it: for how long it should wait, and why.
#[inline]
pub(crate) fn charge(
    core: &Core,
    state: &mut CommitState,
    shares: &[CfShare],
) -> Option<(StallCause, u64)> {
    let bytes: u64 = shares.iter().map(super::need).sum();
    let is_stale = core.brakes.stale.load(Ordering::Relaxed);
    if is_stale || state.pacing.left < bytes {
        look(core, state);
    }
    state.pacing.left = state.pacing.left.saturating_sub(bytes);
    let cause = state.pacing.on?;
    let now_us = core.env.clock.monotonic_us();
    let mut start_us = state.pacing.all.charge(bytes, now_us);
    let mut end_us = state.pacing.all.next_us;
    let mut rate = state.pacing.all.rate;
    for share in shares {
        if let Some(Some(account)) = state.accounts.get_mut(share.slot) {
            start_us = start_us.max(account.brake.charge(super::need(share), now_us));
            end_us = end_us.max(account.brake.next_us);
            rate = rate.into_iter().chain(account.brake.rate).min();
        }
    }
    core.brakes.until_us.fetch_max(end_us, Ordering::Relaxed);
    let delay_us = start_us?.saturating_sub(now_us);
    if delay_us < pace::DELAY_MIN_US {
        return None;
    }
    let delay_us = delay_us.min(pace::DELAY_MAX_US);
    core.events.write_delayed(cause, Duration::from_micros(delay_us), rate.unwrap_or(0));
    Some((cause, delay_us))
}

/// Sets every brake by the present debt.
#[cold]
fn look(core: &Core, state: &mut CommitState) {
    core.brakes.stale.store(false, Ordering::Relaxed);
    state.pacing.left = LOOK_BYTES.min(state.tunables.memtable_bytes / 16);
    let (flush, compaction) = (core.brakes.flush_drain(), core.brakes.compaction_drain());
    let tunables = &state.tunables;
    let mut strongest = (0.0, None);
    let mut note = |share: f64, cause: StallCause| {
        if share > strongest.0 {
            strongest = (share, Some(cause));
        }
        share
    };
    // The flush for the budget begins at three quarters of it.
    let budget = tunables.memtable_budget();
    let used = core.memtable_bytes.get();
    let by_budget = note(pace::share(used, budget / 8 * 7, budget), StallCause::MemoryBudget);
    let log_max = tunables.wal_max_bytes;
    let log = core.wal.total_bytes();
    let by_log = note(pace::share(log, log_max, log_max + log_max / 2), StallCause::WalBytes);
    state.pacing.all.set(pace::rate(by_budget.max(by_log), flush));
    let read_state = core.read_state.load();
    for (slot, account) in state.accounts.iter_mut().enumerate() {
        let (Some(account), Some(cf)) = (account.as_mut(), read_state.cf(slot)) else { continue };
        // All that the family's memtables may hold; slowing begins in the middle. With two
        // memtables that is when one is full and waits.
        let hard = account.limit.saturating_mul(u64::from(tunables.memtable_count));
        let used = account.reserved + cf.sealed.iter().map(|sealed| sealed.reserved).sum::<u64>();
        let memtables = match cf.sealed.is_empty() {
            // Nothing waits: however full the active one is, a flush has yet to be slow.
            true => 0.0,
            false => note(pace::share(used, hard / 2, hard), StallCause::Memtables),
        };
        let tables = cf.version.l0_depth() as u64;
        let options = &core.options;
        let stop = options.l0_stop;
        let soft = options.l0_slowdown.max(options.l0_compaction_trigger).min(stop);
        let level0 = pace::share(tables, u64::from(soft), u64::from(stop));
        let level0 = note(level0, StallCause::Level0);
        let rates = [pace::rate(memtables, flush), pace::rate(level0, compaction)];
        account.brake.set(rates.into_iter().flatten().min());
    }
    let was_on = state.pacing.on.is_some();
    state.pacing.on = strongest.1;
    if was_on && state.pacing.on.is_none() {
        core.brakes.until_us.store(0, Ordering::Relaxed);
    }
}

/// Notes that a write found no room.
pub(crate) fn stalled(core: &Core, state: &mut CommitState, cause: StallCause) {
    let now_us = core.env.clock.monotonic_us();
    let room_since_us = core.brakes.room_since_us.swap(0, Ordering::Relaxed);
    // Writers that wait come back as soon as something changes. Who comes later found no room
    // anew: nobody wrote meanwhile, and nobody was stopped.
    if room_since_us > 0 && now_us.saturating_sub(room_since_us) > pace::DELAY_MAX_US {
        end_stall(core, state, room_since_us);
    }
    if state.pacing.stalled.is_none() {
        state.pacing.stalled = Some((cause, now_us));
        core.stats.stalls.of(cause).begins.add(1);
    }
}

/// Notes that a write found room.
#[inline]
pub(crate) fn admitted(core: &Core, state: &mut CommitState) {
    if state.pacing.stalled.is_some() {
        let room_since_us = core.brakes.room_since_us.load(Ordering::Relaxed);
        let now_us = core.env.clock.monotonic_us();
        end_stall(core, state, if room_since_us > 0 { room_since_us } else { now_us });
    }
}

fn end_stall(core: &Core, state: &mut CommitState, end_us: u64) {
    if let Some((cause, since_us)) = state.pacing.stalled.take() {
        core.stats.stalls.of(cause).stopped_us.add(end_us.saturating_sub(since_us));
    }
}

/// The cause that stops writes now, and for how long it has.
pub(crate) fn current(core: &Core, state: &CommitState) -> Option<(StallCause, Duration)> {
    if core.brakes.room_since_us.load(Ordering::Relaxed) > 0 {
        return None;
    }
    let (cause, since_us) = state.pacing.stalled?;
    let us = core.env.clock.monotonic_us().saturating_sub(since_us);
    Some((cause, Duration::from_micros(us)))
}

/// The cause that slows writes now.
pub(crate) fn slowed(state: &CommitState) -> Option<StallCause> {
    state.pacing.on
}
