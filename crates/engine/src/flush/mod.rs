//! Flushing: how data leaves the memtable. The product's heart.
//!
//! A *seal* retires the active memtables of some families at one sequence number, the *cut*, and
//! queues them as one [`FlushGroup`]. Workers build the groups' tables side by side; groups are
//! *installed* strictly in the order of their cuts, each by one manifest edit. So the flushed
//! positions of a family only ever grow, and families sealed together become durable together.
//!
//! ```text
//! active ──seal──> sealed (Queued ─> Building ─> Built) ──install──> table ──> memtable freed
//! ```
//!
//! Order of an install, each step done before the next begins:
//! 1. tables written and synced (build), their directory synced;
//! 2. the log synced up to the cut: otherwise a power cut could keep this family's table and lose
//!    an earlier write of another family that is only in the log (P1);
//! 3. the manifest edit appended and synced;
//! 4. the read state swapped;
//! 5. log segments before the one that the edit names released, waiters and writers woken.
//!
//! A build or an install that finds the disk full is run once more with the room that is kept for
//! it (reserve.rs). What fails keeps its place and is tried again with backoff, and everyone who
//! waits for it, or for a younger group, hears of it.
//!
//! Without a log nothing but tables survives, so while unlogged data exists every seal takes all
//! families: one edit installs the whole cut, and P1 holds with the log off as well.

mod build;
mod install;
mod picker;
mod queue;
mod rescue;
mod ticket;
mod triggers;

pub(crate) use build::{TableTarget, meta as table_meta, table_options, write_memtable};
pub(crate) use install::{Progress, run_one};
pub(crate) use queue::{FlushGroup, FlushQueue, Member};
pub(crate) use rescue::heal_log;
pub use ticket::{FlushReport, FlushTicket};
pub(crate) use triggers::{Clerk, look_at_log};

use crate::{
    Result, cf::ColumnFamily, commit::CommitState, core::Core, memtable::Memtable,
    read_state::Sealed, room::Stall,
};
use sluice_base::{Error, SeqNo};
use std::{fmt, sync::Arc, time::Duration};

/// What to flush, and how long to wait for it.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, FlushRequest, Options};
/// use std::time::Duration;
/// let db = Db::open(dir.path(), Options::default())?;
/// let cf = db.default_cf();
/// let written = db.put(&cf, b"key", b"value")?;
/// // One family, and an error instead of a long wait when its memtables are all in use.
/// let request = FlushRequest {
///     cfs: vec![cf],
///     deadline: Some(Duration::from_millis(50)),
///     ..FlushRequest::default()
/// };
/// assert!(db.flush(request)?.wait(None)?.position >= written);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FlushRequest {
    /// The column families; empty means all of them.
    pub cfs: Vec<ColumnFamily>,
    /// What the report and the statistics will say.
    pub reason: FlushReason,
    /// Go beyond `memtable_count` when the family has no room for another sealed memtable.
    /// False: wait for room first, at most until `deadline`.
    pub allow_stall: bool,
    /// Longest wait for room; `None`: without limit.
    pub deadline: Option<Duration>,
}

/// Why memtables were flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FlushReason {
    /// Asked for by a caller.
    #[default]
    Manual,
    /// A memtable reached its size.
    MemtableBytes,
    /// All memtables together reached their budget.
    MemoryBudget,
    /// Unflushed data pinned too much log.
    WalBytes,
    /// Replaying the log would have taken too long.
    RecoveryTime,
    /// The oldest entry had been in memory only for long enough.
    Age,
    /// Nobody had written to the family for a while.
    Idle,
    /// Half of what the memtable held was tombstones.
    Tombstones,
    /// The database is closing.
    Shutdown,
    /// A checkpoint needs everything in tables.
    Checkpoint,
    /// The log that was replayed did not fit the memtables.
    Recovery,
    /// The log failed, and only tables make data durable until it is healed.
    LogFailure,
}

impl FlushReason {
    /// Every reason, in the order of [`crate::Stats::flushes_by_reason`].
    pub const ALL: [FlushReason; 12] = [
        FlushReason::Manual,
        FlushReason::MemtableBytes,
        FlushReason::MemoryBudget,
        FlushReason::WalBytes,
        FlushReason::RecoveryTime,
        FlushReason::Age,
        FlushReason::Idle,
        FlushReason::Tombstones,
        FlushReason::Shutdown,
        FlushReason::Checkpoint,
        FlushReason::Recovery,
        FlushReason::LogFailure,
    ];

    /// Whether the engine began it by itself: such flushes wait while
    /// [`crate::Db::pause_flushes`] is in force.
    pub fn is_automatic(self) -> bool {
        !matches!(
            self,
            FlushReason::Manual
                | FlushReason::Shutdown
                | FlushReason::Checkpoint
                | FlushReason::LogFailure
        )
    }

    /// The name in statistics and events.
    pub fn name(self) -> &'static str {
        match self {
            FlushReason::Manual => "manual",
            FlushReason::MemtableBytes => "memtable-bytes",
            FlushReason::MemoryBudget => "memory-budget",
            FlushReason::WalBytes => "wal-bytes",
            FlushReason::RecoveryTime => "recovery-time",
            FlushReason::Age => "age",
            FlushReason::Idle => "idle",
            FlushReason::Tombstones => "tombstones",
            FlushReason::Shutdown => "shutdown",
            FlushReason::Checkpoint => "checkpoint",
            FlushReason::Recovery => "recovery",
            FlushReason::LogFailure => "log-failure",
        }
    }
}

impl fmt::Display for FlushReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Seals the full memtable of `slot` so that a write fits, or says why it cannot be.
pub(crate) fn seal_for_room(
    core: &Arc<Core>,
    state: &mut CommitState,
    slot: usize,
) -> std::result::Result<(), Stall> {
    {
        let read_state = core.read_state.load();
        let Some(cf) = read_state.cf(slot) else { return Ok(()) };
        let count = state.tunables.memtable_count;
        if cf.sealed.len() + 1 >= count as usize {
            let (cf, sealed) = (cf.family.name().to_owned(), cf.sealed.len() + 1);
            let paused = core.flushes.is_paused();
            return Err(Stall::Memtables { cf, sealed, count, paused });
        }
        let tables = cf.version.l0_depth();
        let max = core.options.l0_stop;
        if tables >= max as usize {
            return Err(Stall::Level0 { cf: cf.family.name().to_owned(), tables, max });
        }
    }
    seal(core, state, &[slot], FlushReason::MemtableBytes);
    Ok(())
}

/// Seals the family with the most reserved bytes; false when every memtable is empty.
pub(crate) fn seal_largest(core: &Arc<Core>, state: &mut CommitState) -> bool {
    let largest = state
        .accounts
        .iter()
        .enumerate()
        .filter_map(|(slot, account)| Some((slot, account.as_ref()?)))
        .filter(|(_, account)| account.first.is_some())
        .max_by_key(|(_, account)| account.reserved)
        .map(|(slot, _)| slot);
    match largest {
        Some(slot) => seal(core, state, &[slot], FlushReason::MemoryBudget).is_some(),
        None => false,
    }
}

/// Retires the non-empty active memtables of `slots` (of all families while unlogged data exists)
/// and queues them as one group. `None` when there was nothing to retire. The caller holds the
/// commit lock and wakes the flusher once it has let go.
pub(crate) fn seal(
    core: &Arc<Core>,
    state: &mut CommitState,
    slots: &[usize],
    reason: FlushReason,
) -> Option<Arc<queue::FlushGroup>> {
    let all: Vec<usize> = (0..state.accounts.len()).collect();
    let wanted = if state.unlogged.is_some() { &all[..] } else { slots };
    let slots: Vec<usize> = wanted
        .iter()
        .copied()
        .filter(|&slot| matches!(state.accounts.get(slot), Some(Some(a)) if a.first.is_some()))
        .collect();
    if slots.is_empty() {
        sluice_env::probe!("flush: unlogged data went with its family");
        // With unlogged data all families were looked at: what there was went with its family.
        state.unlogged = None;
        return None;
    }
    let cut = state.last();
    let id = core.flushes.next_id();
    let mut members = Vec::with_capacity(slots.len());
    core.read_state.seal(&slots, cut, |cf| {
        let slot = cf.family.slot();
        let account = state.accounts[slot].as_mut().expect("invariant: filtered above");
        let first = account.first.expect("invariant: filtered above");
        let sealed = Sealed {
            memtable: Arc::clone(&cf.active),
            group: id,
            reserved: account.reserved,
            first,
            dirty_since_us: account.dirty_since_us,
        };
        *account = account.fresh();
        members.push(queue::Member { family: cf.family.clone(), sealed: sealed.clone() });
        (sealed, Arc::new(Memtable::new(core.next_memtable_id())))
    });
    // All families were cut: what comes from now on is logged until somebody says otherwise.
    let unlogged = std::mem::take(&mut state.unlogged);
    let now_us = core.env.clock.monotonic_us();
    let group =
        queue::FlushGroup::new(id, cut, state.lsn, reason, members, now_us).with_unlogged(unlogged);
    core.events.sealed(&group);
    Some(core.flushes.push(group))
}

/// The column families of a request, as slots.
fn slots_of(core: &Core, state: &CommitState, cfs: &[ColumnFamily]) -> Result<Vec<usize>> {
    if cfs.is_empty() {
        return Ok((0..state.accounts.len()).collect());
    }
    let mut slots = cfs
        .iter()
        .map(|cf| {
            core.check_family(cf)?;
            match state.accounts.get(cf.slot()) {
                Some(Some(_)) => Ok(cf.slot()),
                _ => Err(Error::new(
                    sluice_base::ErrorKind::NotFound,
                    format!("column family '{}' has been dropped", cf.name()),
                )),
            }
        })
        .collect::<Result<Vec<usize>>>()?;
    // A family named twice is sealed once.
    slots.sort_unstable();
    slots.dedup();
    Ok(slots)
}

/// Starts a flush and hands out the ticket to wait for it with.
///
/// # Errors
/// `Stalled` when `allow_stall` is false and no room for the sealed memtable came in time.
pub(crate) fn flush(core: &Arc<Core>, request: &FlushRequest) -> Result<FlushTicket> {
    let started_us = core.env.clock.monotonic_us();
    // An attempt that failed before this call says nothing about the one that this call asks for.
    let failures = core.stats.flush_failures.get();
    // With a failed log only a common cut is durable.
    let log_failed = rescue::begin(core);
    loop {
        let turn = core.room.turn();
        let mut state = core.commit.lock();
        core.check_open(&state)?;
        let slots = slots_of(core, &state, &request.cfs)?;
        if !request.allow_stall
            && let Some(stall) = no_room(core, &state, &slots)
        {
            drop(state);
            if core.stats.flush_failures.get() > failures {
                core.health.check_job(stall.job())?;
            }
            core.flushes.ask_for_all();
            core.flushes.retry_now();
            core.background.wake_flush();
            let waited = Duration::from_micros(core.env.clock.monotonic_us() - started_us);
            let left = request.deadline.map(|deadline| deadline.saturating_sub(waited));
            if left == Some(Duration::ZERO) {
                return Err(stall.error(waited));
            }
            if core.options.background == crate::Background::Stepped {
                if !core.step() {
                    return Err(stall.error(waited));
                }
            } else {
                core.room.wait(turn, left);
            }
            continue;
        }
        let (cut, lsn) = (state.last(), state.lsn);
        let sealed = seal(core, &mut state, &slots, request.reason);
        // Data sealed earlier is on its way: the last queued group that holds some of the wanted
        // families, or anything that no log has, ends the wait. Groups install in order, so it
        // covers all before it.
        let group = match &sealed {
            Some(group) => Some(Arc::clone(group)),
            None if log_failed => core.flushes.last(),
            None => core.flushes.last_needed(&slots),
        };
        drop(state);
        let ticket = FlushTicket::new(core.position(cut));
        let ended = ticket.clone();
        let report = FlushReport::empty(request.reason, core.position(cut));
        let synced = move |outcome: Result<()>| match (outcome, group) {
            (Err(error), _) => ended.finish(Err(error)),
            (Ok(()), Some(group)) => group.attach(&ended),
            (Ok(()), None) => ended.finish(Ok(report)),
        };
        if sealed.is_some() || log_failed {
            synced(Ok(()));
        } else if core.options.background == crate::Background::Stepped {
            synced(core.wal.sync(lsn));
        } else {
            // The promise "every crash recovers at least S" must hold for what other families
            // keep in the log, and for what they wrote since the older group was sealed. The
            // log's thread syncs and goes on from there: a caller that only wants the ticket does
            // not wait for a disk. The closure must not hold the core, which would then close
            // the log from the log's own thread.
            core.wal.request_sync(lsn, Box::new(synced));
        }
        core.retry_now();
        return Ok(ticket);
    }
}

fn no_room(core: &Core, state: &CommitState, slots: &[usize]) -> Option<Stall> {
    let read_state = core.read_state.load();
    let count = state.tunables.memtable_count;
    slots.iter().find_map(|&slot| {
        let account = state.accounts.get(slot)?.as_ref()?;
        let cf = read_state.cf(slot)?;
        let sealed = cf.sealed.len() + 1;
        (account.first.is_some() && sealed >= count as usize).then(|| Stall::Memtables {
            cf: cf.family.name().to_owned(),
            sealed,
            count,
            // This flush is asked for: a pause does not hold it back.
            paused: false,
        })
    })
}

/// The oldest sequence number that only the log holds. Segments wholly below it can go.
pub(crate) fn oldest_unflushed(core: &Core, state: &CommitState) -> SeqNo {
    oldest(core, state, &[])
}

/// As [`oldest_unflushed`], once `groups` are installed.
fn oldest_without(core: &Core, groups: &[u64]) -> SeqNo {
    oldest(core, &core.commit.lock(), groups)
}

fn oldest(core: &Core, state: &CommitState, without: &[u64]) -> SeqNo {
    let read_state = core.read_state.load();
    let active = state.accounts.iter().flatten().filter_map(|account| account.first);
    let sealed = read_state
        .families()
        .flat_map(|cf| cf.sealed.iter())
        .filter(|sealed| !without.contains(&sealed.group))
        .map(|sealed| sealed.first);
    active.chain(sealed).min().unwrap_or(state.next)
}
