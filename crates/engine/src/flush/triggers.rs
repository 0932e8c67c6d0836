//! Carries out what `picker.rs` decides: looks at memtables, log and clock, and seals.
//!
//! Two callers. A write that has just added a quarter of a segment to the log looks at the log
//! only, so that the log stays bounded however fast it grows. A flush thread looks at everything a
//! few times a second, before its other work.
//!
//! Whether a family is idle is found out here, by comparing two looks: the write path keeps no
//! clock for it.

use super::picker::{self, Family, Limits, Segment};
use crate::{commit::CommitState, core::Core};
use sluice_base::SeqNo;
use sluice_env::sync::{Arc, Mutex, PoisonError};

/// Between two looks of the flush threads.
const LOOK_US: u64 = 250_000;

/// Log bytes replayed in a second where no opening of this database has measured it: a little
/// below what one core replays of small entries.
const REPLAY_BYTES_PER_S: u64 = 100 << 20;

/// Log bytes that must have been replayed for a measurement to count.
const REPLAY_MEASURED_MIN: u64 = 16 << 20;

/// What the last look saw of one family's active memtable.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first: SeqNo,
    reserved: u64,
    since_us: u64,
}

/// The flush threads' memory from look to look.
#[derive(Debug, Default)]
pub(crate) struct Clerk(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    next_look_us: u64,
    /// By slot.
    seen: Vec<Option<Seen>>,
}

/// Looks at everything, when it is time. True: something was sealed.
pub(super) fn look(core: &Arc<Core>) -> bool {
    let now_us = core.env.clock.monotonic_us();
    let mut notes = core.flush_clerk.0.lock().unwrap_or_else(PoisonError::into_inner);
    if now_us < notes.next_look_us || core.flushes.is_paused() {
        return false;
    }
    notes.next_look_us = now_us + LOOK_US;
    // An active segment is never let go of: where little replay is allowed, or the log was made
    // smaller than the segment is, it must end first.
    let replay_bytes = replay_bytes(core);
    let log_bytes = core.commit.lock().tunables.wal_max_bytes;
    let active_max = replay_bytes.map_or(log_bytes, |max| log_bytes.min(max / 4));
    let ends = core.wal.segments().last().is_some_and(|active| active.bytes > active_max);
    if ends && let Err(error) = core.wal.rotate() {
        core.health.background_error("log-release", &error);
    }
    let mut state = core.commit.lock();
    if state.closed {
        return false;
    }
    notes.note(&state, now_us);
    let families = families(core, &state, now_us, Some(&notes));
    let limits = limits(&state, replay_bytes);
    seal(core, &mut state, &families, &limits)
}

/// Looks at the size of the log only. True: something was sealed.
pub(crate) fn look_at_log(core: &Arc<Core>, state: &mut CommitState) -> bool {
    if core.flushes.is_paused() || core.wal.total_bytes() <= state.tunables.wal_max_bytes / 2 {
        return false;
    }
    let families = families(core, state, 0, None);
    let only_log = Limits {
        log_bytes: state.tunables.wal_max_bytes,
        replay_bytes: None,
        age_us: None,
        idle_us: None,
        tombstones: None,
    };
    seal(core, state, &families, &only_log)
}

fn seal(core: &Arc<Core>, state: &mut CommitState, families: &[Family], limits: &Limits) -> bool {
    let segment = |segment: &sluice_wal::SegmentInfo| Segment {
        bytes: segment.bytes,
        last: segment.seqs.map(|(_, last)| last),
    };
    let segments: Vec<Segment> = core.wal.segments().iter().map(segment).collect();
    match picker::pick(&segments, families, limits) {
        Some((reason, slots)) => super::seal(core, state, &slots, reason).is_some(),
        None => false,
    }
}

fn limits(state: &CommitState, replay_bytes: Option<u64>) -> Limits {
    let tunables = &state.tunables;
    let some = |us: u128| (us > 0).then(|| u64::try_from(us).unwrap_or(u64::MAX));
    Limits {
        log_bytes: tunables.wal_max_bytes,
        replay_bytes,
        age_us: some(tunables.flush_age.as_micros()),
        idle_us: some(tunables.flush_idle.as_micros()),
        tombstones: (tunables.flush_tombstones > 0).then_some(tunables.flush_tombstones),
    }
}

/// Log bytes that fit the time recovery may take, at the speed of the last replay.
fn replay_bytes(core: &Core) -> Option<u64> {
    let target = core.commit.lock().tunables.recovery_time_target;
    if target.is_zero() {
        return None;
    }
    let recovery = &core.recovery;
    let rate = match recovery.log_took.as_secs_f64() {
        took if took > 0.0 && recovery.log_bytes >= REPLAY_MEASURED_MIN => {
            recovery.log_bytes as f64 / took
        }
        _ => REPLAY_BYTES_PER_S as f64,
    };
    Some((rate * target.as_secs_f64()) as u64)
}

/// The families with something to flush.
fn families(core: &Core, state: &CommitState, now_us: u64, notes: Option<&Notes>) -> Vec<Family> {
    let read_state = core.read_state.load();
    let count_max = state.tunables.memtable_count as usize;
    let one = |(slot, account): (usize, &Option<crate::commit::Account>)| {
        let account = account.as_ref()?;
        let cf = read_state.cf(slot)?;
        let seen = notes.and_then(|notes| notes.seen.get(slot).copied().flatten());
        Some(Family {
            slot,
            first: account.first?,
            dirty_us: now_us.saturating_sub(account.dirty_since_us),
            idle_us: seen.map_or(0, |seen| now_us.saturating_sub(seen.since_us)),
            entries: cf.active.entries(),
            tombstones: cf.active.tombstones(),
            has_room: cf.sealed.len() + 1 < count_max,
        })
    };
    state.accounts.iter().enumerate().filter_map(one).collect()
}

impl Notes {
    /// Notes which families were written to since the last look.
    fn note(&mut self, state: &CommitState, now_us: u64) {
        self.seen.resize(state.accounts.len(), None);
        for (seen, account) in self.seen.iter_mut().zip(&state.accounts) {
            let now = account.as_ref().and_then(|a| Some((a.first?, a.reserved)));
            *seen = match (now, *seen) {
                (None, _) => None,
                (Some((first, reserved)), Some(before))
                    if before.first == first && before.reserved == reserved =>
                {
                    Some(before)
                }
                (Some((first, reserved)), _) => Some(Seen { first, reserved, since_us: now_us }),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::FlushReason;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let mut names: Vec<&str> = FlushReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FlushReason::ALL.len());
    }
}
