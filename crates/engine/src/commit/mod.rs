//! The commit path: from a batch to visible, logged entries.
//!
//! ```text
//! caller ─ validate, checksum ─┐
//!                              v
//!               ┌── commit lock ───────────────────────────┐
//!               │ brakes: slow down before room runs out   │──────> wait without the lock, once
//!               │ admission: room for every family touched │──no──> wait without the lock, or
//!               │   (seals a full memtable)                │        Stalled: nothing was kept (P4)
//!               │ copy the frame into the log buffer       │
//!               │ take sequence numbers, a place in line   │
//!               └──────────────────────────────────────────┘
//!                              v
//!               insert into the memtables (in parallel with other committers)
//!                              v
//!               publish in order (ring.rs) ── visible
//!                              v
//!               wait for the acknowledgement asked for (the log shares writes and syncs)
//! ```
//!
//! Inside the lock there is one memcpy and a few integers; no system call unless the log's buffer
//! is full or a segment ends. Nothing fails after sequence numbers are taken, so they stay dense.
//!
//! Lock order: commit lock, then the read state's change lock; the log has locks of its own below.

mod brakes;
mod pace;
mod ring;

pub(crate) use brakes::{Brakes, Pacing, current as current_stall, slowed};
pub(crate) use ring::Ring;

use crate::{
    Ack, Position, Result, Tunables, WriteBatch, WriteOptions,
    batch::{CfShare, Entries, Entry},
    core::Core,
    events::Stalled,
    flush,
    options::Background,
    read_state::ReadState,
    room::Stall,
    stats::StallCause,
};
use sluice_base::{Error, ErrorKind, Kind, SeqNo, Trailer, checksum};
use sluice_env::sync::{Arc, thread};
use sluice_wal::{FrameInfo, Lsn};
use std::time::Duration;

/// What a memtable entry costs besides its key and value: links, trailer and lengths, rounded up.
pub(crate) const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// What the commit lock guards.
#[derive(Debug)]
pub(crate) struct CommitState {
    /// The next sequence number to assign.
    pub next: SeqNo,
    /// The active memtables' accounts, by slot.
    pub accounts: Vec<Option<Account>>,
    /// What was written without a log since the last cut over all families. While there is any,
    /// every flush takes all families, because only a common cut keeps P1 without a log.
    pub unlogged: Option<Unlogged>,
    /// Set by close: no write may begin any more.
    pub closed: bool,
    /// Where the log ends for what has been committed.
    pub lsn: Lsn,
    /// Where the log ended when its size was last looked at.
    pub log_checked: Lsn,
    pub tunables: Tunables,
    pub pacing: Pacing,
}

/// Writes that are in no log: lost in a crash until the memtables that hold them are tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unlogged {
    /// The first of them; everything before it is logged or in tables.
    pub first: SeqNo,
    /// Monotonic microseconds of the first one.
    pub since_us: u64,
    /// What they reserve in memtables.
    pub bytes: u64,
}

impl Unlogged {
    /// Both together.
    pub(crate) fn and(self, other: Unlogged) -> Unlogged {
        Unlogged {
            first: self.first.min(other.first),
            since_us: self.since_us.min(other.since_us),
            bytes: self.bytes + other.bytes,
        }
    }
}

/// What is reserved in one active memtable. Reservation and insertion are one decision under the
/// lock, so writers cannot overshoot together.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub reserved: u64,
    /// Bytes at which the memtable is sealed.
    pub limit: u64,
    /// Whether the family chose `limit` for itself.
    pub own_limit: bool,
    /// The first sequence number in it; `None` while it is empty.
    pub first: Option<SeqNo>,
    /// Monotonic microseconds of the first write; meaningful while `first` is set.
    pub dirty_since_us: u64,
    /// Slows writes to the family.
    pub brake: pace::Brake,
}

impl Account {
    /// The account of an empty memtable of a family that chose `own`, or of any other.
    pub(crate) fn new(own: Option<u64>, default: u64) -> Account {
        Account {
            reserved: 0,
            limit: own.unwrap_or(default),
            own_limit: own.is_some(),
            first: None,
            dirty_since_us: 0,
            brake: pace::Brake::default(),
        }
    }

    /// The account of the next memtable of the same family.
    pub(crate) fn fresh(&self) -> Account {
        Account { reserved: 0, first: None, dirty_since_us: 0, ..*self }
    }
}

impl CommitState {
    /// The last sequence number assigned.
    pub(crate) fn last(&self) -> SeqNo {
        SeqNo(self.next.0 - 1)
    }
}

fn need(share: &CfShare) -> u64 {
    share.bytes as u64 + share.entries as u64 * ENTRY_OVERHEAD_BYTES
}

/// Commits `batch`. See the file's head.
pub(crate) fn write(
    core: &Arc<Core>,
    batch: &WriteBatch,
    options: &WriteOptions,
) -> Result<Position> {
    if batch.is_empty() {
        return Ok(core.position(core.ring.visible()));
    }
    batch.validate(core.owner.number())?;
    let logged = options.wal && batch.shares().iter().any(|share| share.wal);
    // Os is what nobody has chosen: a family without a log gives what it can. Disk is a demand.
    let asks_too_much = match options.wal {
        true => options.ack == Ack::Disk,
        false => options.ack != Ack::Memory,
    };
    if !logged && asks_too_much {
        return Err(Error::invalid(format!(
            "a write that is not logged cannot be acknowledged at {:?}: use Ack::Memory, and a \
             flush to make it durable",
            options.ack
        )));
    }
    let ack = if logged { options.ack } else { Ack::Memory };
    let payload_crc = logged.then(|| checksum::crc32c(batch.payload()));
    let committed = reserve(core, batch, options, payload_crc)?;
    apply(&committed.state, batch, committed.first);
    core.ring.publish(&committed.claim);
    core.ring.wait_visible(committed.last);
    core.stats.writes.add(1);
    if committed.sealed {
        core.background.wake_flush();
    }
    let acknowledged = match ack {
        Ack::Memory => Ok(()),
        Ack::Os => core.wal.write_out(committed.lsn),
        Ack::Disk => core.wal.sync(committed.lsn),
    };
    // A failed log is healed by the flusher.
    acknowledged.inspect_err(|_| core.background.wake_flush())?;
    Ok(core.position(committed.last))
}

/// A batch that has its place in history and must now be applied and published.
struct Committed {
    state: Arc<ReadState>,
    first: SeqNo,
    last: SeqNo,
    lsn: Lsn,
    claim: ring::Claim,
    sealed: bool,
}

fn reserve(
    core: &Arc<Core>,
    batch: &WriteBatch,
    options: &WriteOptions,
    payload_crc: Option<u32>,
) -> Result<Committed> {
    let mut waited = Waited::default();
    loop {
        let turn = core.room.turn();
        let mut state = core.commit.lock();
        core.check_writable(&state)?;
        let is_gone = |share: &CfShare| !matches!(state.accounts.get(share.slot), Some(Some(_)));
        if let Some(share) = batch.shares().iter().find(|share| is_gone(share)) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("column family {} has been dropped; nothing was written", share.cf),
            ));
        }
        if !waited.is_charged {
            waited.is_charged = true;
            let delay = brakes::charge(core, &mut state, batch.shares());
            if let Some((cause, us)) = delay.filter(|_| may_slow_down(core, options)) {
                drop(state);
                waited.slow_down(core, turn, cause, us, options.deadline);
                continue;
            }
        }
        let mut sealed = false;
        if let Err(stall) = admit(core, &mut state, batch.shares(), &mut sealed) {
            brakes::stalled(core, &mut state, stall.cause().0);
            drop(state);
            core.background.wake_flush();
            core.background.wake_compaction();
            sluice_env::probe!("commit: no room");
            core.room.refused(turn);
            // Room that depends on a job that fails will not come by waiting: say why (P6).
            core.health.check_job(stall.job())?;
            waited.wait(core, turn, &stall, options.deadline)?;
            continue;
        }
        brakes::admitted(core, &mut state);
        if !core.ring.has_room() {
            drop(state);
            thread::yield_now(); // a thousand committers are in flight: let them finish
            continue;
        }
        // The size of the log is looked at four times a segment: often enough to bound it, too
        // rarely to cost anything.
        if state.lsn.0 - state.log_checked.0 > state.tunables.wal_segment_bytes / 4 {
            state.log_checked = state.lsn;
            sealed |= flush::look_at_log(core, &mut state);
        }
        let first = state.next;
        let last = SeqNo(first.0 + batch.count() as u64 - 1);
        if last > SeqNo::MAX {
            return Err(Error::new(ErrorKind::ReadOnly, "sequence numbers are used up"));
        }
        if let Some(payload_crc) = payload_crc {
            let info = FrameInfo { first_seq: first, count: batch.count() as u32 };
            let appended = core.wal.append(info, batch.payload(), payload_crc);
            // What was sealed on the way is still to be flushed, and a failed log to be healed.
            state.lsn = appended.inspect_err(|_| core.background.wake_flush())?;
        } else {
            let bytes = batch.shares().iter().map(need).sum();
            let since_us = core.env.clock.monotonic_us();
            sluice_env::probe!("commit: unlogged");
            let this = Unlogged { first, since_us, bytes };
            state.unlogged = Some(state.unlogged.map_or(this, |before| before.and(this)));
        }
        state.next = last.next();
        for share in batch.shares() {
            let need = need(share);
            if let Some(Some(account)) = state.accounts.get_mut(share.slot) {
                account.reserved += need;
                if account.first.is_none() {
                    account.first = Some(first);
                    account.dirty_since_us = core.env.clock.monotonic_us();
                }
            }
            core.memtable_bytes.add(need);
        }
        let claim = core.ring.claim(last);
        // The actives cannot change while the commit lock is held, so this state's are the ones
        // the reservation was made in.
        let read_state = core.read_state.load_full();
        return Ok(Committed { state: read_state, first, last, lsn: state.lsn, claim, sealed });
    }
}

/// Finds room for every share, sealing full memtables on the way; or says why there is none.
fn admit(
    core: &Arc<Core>,
    state: &mut CommitState,
    shares: &[CfShare],
    sealed: &mut bool,
) -> std::result::Result<(), Stall> {
    let total: u64 = shares.iter().map(need).sum();
    let budget = state.tunables.memtable_budget();
    let used = core.memtable_bytes.get();
    for share in shares {
        let Some(Some(account)) = state.accounts.get(share.slot) else { continue };
        // An empty memtable takes anything: a batch larger than a memtable gets one to itself.
        if account.first.is_some() && account.reserved + need(share) > account.limit {
            flush::seal_for_room(core, state, share.slot)?;
            *sealed = true;
        }
    }
    // Over the budget nothing goes on but a batch that is larger than all of it, and that only
    // into empty memtables: it could never be written otherwise. Everything else waits for what is
    // on its way out, or else for the largest, sent off now (P7).
    if used > 0
        && used + total > budget
        && (core.flushes.pending() > 0 || flush::seal_largest(core, state))
    {
        sluice_env::probe!("commit: over the budget");
        return Err(Stall::Budget { used, max: budget });
    }
    if used + total > budget / 4 * 3 && core.flushes.pending() == 0 {
        *sealed |= flush::seal_largest(core, state);
    }
    Ok(())
}

/// Whether a delay may be slept here. A caller that must not wait asks [`crate::Db::throttle`]
/// instead; a stepped database has nobody who drains meanwhile.
fn may_slow_down(core: &Core, options: &WriteOptions) -> bool {
    options.deadline != Some(Duration::ZERO) && core.options.background == Background::Threads
}

/// What one write has waited so far.
#[derive(Default)]
struct Waited {
    since_us: Option<u64>,
    is_charged: bool,
    is_stalled: bool,
    /// For subscribers: ends with this.
    stalled: Stalled,
}

impl Waited {
    /// Since the first wait of this write.
    fn so_far(&mut self, now_us: u64) -> Duration {
        Duration::from_micros(now_us - *self.since_us.get_or_insert(now_us))
    }

    /// Waits `us`, or what there is of the deadline, or until memory has changed.
    fn slow_down(
        &mut self,
        core: &Core,
        turn: u64,
        cause: StallCause,
        us: u64,
        deadline: Option<Duration>,
    ) {
        let now = core.env.clock.monotonic_us();
        self.so_far(now);
        let delay = Duration::from_micros(us);
        core.room.wait(turn, Some(deadline.map_or(delay, |deadline| delay.min(deadline))));
        let stats = core.stats.stalls.of(cause);
        stats.delays.add(1);
        stats.delayed_us.add(core.env.clock.monotonic_us().saturating_sub(now));
    }

    /// Waits for the end of `turn` within what is left of the deadline.
    fn wait(
        &mut self,
        core: &Arc<Core>,
        turn: u64,
        stall: &Stall,
        deadline: Option<Duration>,
    ) -> Result<()> {
        self.stalled.by(core, stall);
        let stats = core.stats.stalls.of(stall.cause().0);
        let now = core.env.clock.monotonic_us();
        let waited = self.so_far(now);
        if !std::mem::replace(&mut self.is_stalled, true) {
            stats.waits.add(1);
        }
        let mut refuse = || {
            stats.refusals.add(1);
            self.stalled.refused(core);
            Err(stall.error(waited))
        };
        if deadline.is_some_and(|deadline| waited >= deadline) {
            return refuse();
        }
        if core.options.background == Background::Stepped {
            // Nobody else will make room: do a step of the background work here.
            return if core.step() { Ok(()) } else { refuse() };
        }
        core.room.wait(turn, deadline.map(|deadline| deadline - waited));
        stats.waited_us.add(core.env.clock.monotonic_us().saturating_sub(now));
        Ok(())
    }
}

/// Inserts every entry of the batch into the memtables of `state`.
fn apply(state: &ReadState, batch: &WriteBatch, first: SeqNo) {
    let mut seq = first;
    let mut last: Option<(CfShare, &crate::read_state::CfState)> = None;
    for entry in Entries::new(batch.payload()) {
        let cf = entry.cf();
        let target = match last {
            Some((share, target)) if share.cf == cf => target,
            _ => {
                let share = batch.shares().iter().find(|share| share.cf == cf);
                let share = *share.expect("invariant: every entry was counted in a share");
                // A family dropped since the batch was checked: its entries go nowhere.
                let Some(target) = state.cf(share.slot) else {
                    seq = seq.next();
                    continue;
                };
                last = Some((share, target));
                target
            }
        };
        insert(&target.active, &entry, seq);
        seq = seq.next();
    }
}

/// Puts one entry into a memtable; the replay uses it too.
pub(crate) fn insert(memtable: &crate::memtable::Memtable, entry: &Entry<'_>, seq: SeqNo) {
    match *entry {
        Entry::Put { key, value, .. } => memtable.insert(key, Trailer::new(seq, Kind::Put), value),
        Entry::Delete { key, .. } => memtable.insert(key, Trailer::new(seq, Kind::Delete), &[]),
        Entry::Counter { id, delta, .. } => memtable.add_counter(id, delta),
    }
}
