//! The groups on their way to disk, oldest first.

use super::{
    FlushReason,
    ticket::{FlushReport, FlushTicket},
};
use crate::{
    Result, cf::ColumnFamily, commit::Unlogged, events::Hub, memtables::MemtableState,
    promise::copy, read_state::Sealed, schemas::RangeMap, version::TableMeta,
};
use sluice_base::{Error, SeqNo};
use sluice_env::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use sluice_wal::Lsn;
use std::collections::VecDeque;

/// Waits after a failed attempt: doubled from the first to the last.
const BACKOFF_FIRST_US: u64 = 50_000;
const BACKOFF_LAST_US: u64 = 5_000_000;

/// One family's part of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub family: ColumnFamily,
    pub sealed: Sealed,
}

/// What building a group made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    /// For each member its tables: none when nothing was left to write.
    pub tables: Vec<Vec<TableMeta>>,
    /// What the members' tables were written by. Kept until they are installed, so that no drain
    /// takes them for gone: see `schemas/family.rs`.
    pub schemas: Vec<Arc<RangeMap>>,
    pub entries: u64,
    pub dropped: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Debug)]
enum Stage {
    Queued,
    Building,
    Built(Arc<Built>),
}

#[derive(Debug)]
struct Progress {
    stage: Stage,
    attempts: u32,
    not_before_us: u64,
    started_us: u64,
    tickets: Vec<FlushTicket>,
    /// Somebody waits for what it makes room for.
    asked_for: bool,
    /// Set when nobody will work on the group any more, because it is installed or the database
    /// is closed: a ticket that comes later ends at once.
    outcome: Option<Result<FlushReport>>,
}

/// Memtables sealed at one cut; flushed and installed together.
#[derive(Debug)]
pub(crate) struct FlushGroup {
    pub id: u64,
    /// The last sequence number that may be in the memtables.
    pub cut: SeqNo,
    /// Where the log ended at the cut.
    pub lsn: Lsn,
    pub reason: FlushReason,
    pub members: Vec<Member>,
    pub sealed_us: u64,
    /// What in it is in no log: nothing but its install makes that durable.
    pub unlogged: Option<Unlogged>,
    progress: Mutex<Progress>,
}

impl FlushGroup {
    pub(crate) fn new(
        id: u64,
        cut: SeqNo,
        lsn: Lsn,
        reason: FlushReason,
        members: Vec<Member>,
        sealed_us: u64,
    ) -> FlushGroup {
        let progress = Mutex::new(Progress {
            stage: Stage::Queued,
            attempts: 0,
            not_before_us: 0,
            started_us: 0,
            tickets: Vec::new(),
            asked_for: false,
            outcome: None,
        });
        FlushGroup { id, cut, lsn, reason, members, sealed_us, unlogged: None, progress }
    }

    pub(crate) fn with_unlogged(self, unlogged: Option<Unlogged>) -> FlushGroup {
        FlushGroup { unlogged, ..self }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `ticket` end with this group.
    pub(crate) fn attach(&self, ticket: &FlushTicket) {
        let outcome = {
            let mut progress = self.progress();
            if progress.outcome.is_none() {
                progress.tickets.push(ticket.clone());
            }
            progress.outcome.as_ref().map(copy)
        };
        if let Some(outcome) = outcome {
            ticket.finish(outcome);
        }
    }

    /// Whether somebody asked for it: a pause of automatic flushes does not hold it back.
    fn is_asked_for(&self) -> bool {
        if !self.reason.is_automatic() {
            return true;
        }
        let progress = self.progress();
        progress.asked_for || !progress.tickets.is_empty()
    }

    fn state(&self) -> MemtableState {
        match &self.progress().stage {
            Stage::Queued => MemtableState::Sealed,
            Stage::Building => MemtableState::Flushing,
            Stage::Built(_) => MemtableState::Written,
        }
    }

    /// Attempts that have failed.
    pub(crate) fn attempts(&self) -> u32 {
        self.progress().attempts
    }

    pub(crate) fn started_us(&self) -> u64 {
        self.progress().started_us
    }

    pub(crate) fn set_built(&self, built: Built) {
        self.progress().stage = Stage::Built(Arc::new(built));
    }

    /// What was built, once it is.
    pub(crate) fn built(&self) -> Option<Arc<Built>> {
        match &self.progress().stage {
            Stage::Built(built) => Some(Arc::clone(built)),
            _ => None,
        }
    }

    /// Reports a failed attempt to everyone who waits, and puts the group back in its place for
    /// another one. What was built stays built: only the install is tried again then.
    fn fail(&self, error: &Error, now_us: u64, events: &Hub) {
        let (tickets, attempts, wait) = {
            let mut progress = self.progress();
            if matches!(progress.stage, Stage::Building) {
                progress.stage = Stage::Queued;
            }
            let wait = (BACKOFF_FIRST_US << progress.attempts.min(10)).min(BACKOFF_LAST_US);
            progress.attempts += 1;
            progress.not_before_us = now_us + wait;
            (std::mem::take(&mut progress.tickets), progress.attempts, wait)
        };
        events.flush_failed(self, error, attempts, wait);
        for ticket in tickets {
            ticket.finish(Err(error.duplicate()));
        }
    }

    /// Ends every ticket with the report.
    pub(crate) fn finish(&self, report: FlushReport) {
        let tickets = {
            let mut progress = self.progress();
            progress.outcome = Some(Ok(report.clone()));
            std::mem::take(&mut progress.tickets)
        };
        for ticket in tickets {
            ticket.finish(Ok(report.clone()));
        }
    }

    /// Ends every ticket with `error`: the database closes without this flush.
    pub(crate) fn abandon(&self, error: &Error) {
        let tickets = {
            let mut progress = self.progress();
            progress.outcome = Some(Err(error.duplicate()));
            std::mem::take(&mut progress.tickets)
        };
        for ticket in tickets {
            ticket.finish(Err(error.duplicate()));
        }
    }
}

/// The next thing a worker can do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write this group's tables.
    Build(Arc<FlushGroup>),
    /// The oldest group is built: install it.
    Install,
    /// Nothing before this moment (monotonic microseconds): a retry is due then.
    NotBefore(u64),
    /// Nothing at all.
    Idle,
}

#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    groups: Mutex<VecDeque<Arc<FlushGroup>>>,
    ids: AtomicU64,
    /// Held while a group is installed, so that installs are one at a time and in order.
    installing: Mutex<()>,
    /// Groups that nobody asked for wait.
    paused: AtomicBool,
    /// When the log may be healed again after a failed attempt, in monotonic microseconds.
    heal_not_before_us: AtomicU64,
}

impl FlushQueue {
    fn groups(&self) -> MutexGuard<'_, VecDeque<Arc<FlushGroup>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Recovery has used the first `count` numbers.
    pub(crate) fn skip_ids(&self, count: u64) {
        self.ids.store(count, Ordering::Relaxed);
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues a group. Called under the commit lock, so the queue is in the order of the cuts.
    pub(crate) fn push(&self, group: FlushGroup) -> Arc<FlushGroup> {
        let group = Arc::new(group);
        self.groups().push_back(Arc::clone(&group));
        group
    }

    /// Groups not installed yet.
    pub(crate) fn pending(&self) -> usize {
        self.groups().len()
    }

    /// The newest group that must be installed before the families' data, and everything that is
    /// in no log, is durable.
    pub(crate) fn last_needed(&self, slots: &[usize]) -> Option<Arc<FlushGroup>> {
        let is_needed = |group: &&Arc<FlushGroup>| {
            group.unlogged.is_some()
                || group.members.iter().any(|member| slots.contains(&member.family.slot()))
        };
        self.groups().iter().rev().find(is_needed).cloned()
    }

    /// The newest group.
    pub(crate) fn last(&self) -> Option<Arc<FlushGroup>> {
        self.groups().back().cloned()
    }

    /// Every group, oldest first.
    pub(crate) fn queued(&self) -> Vec<Arc<FlushGroup>> {
        self.groups().iter().cloned().collect()
    }

    /// What waits here and is in no log.
    pub(crate) fn unlogged(&self) -> Option<Unlogged> {
        self.groups().iter().filter_map(|group| group.unlogged).reduce(Unlogged::and)
    }

    /// Stops automatic flushes, or lets them go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Lets every queued group go on in spite of a pause: a flush that was asked for waits for the
    /// room that they make.
    pub(crate) fn ask_for_all(&self) {
        for group in self.groups().iter() {
            group.progress().asked_for = true;
        }
    }

    /// How far each queued group has come, with its number.
    pub(crate) fn stages(&self) -> Vec<(u64, SeqNo, FlushReason, MemtableState)> {
        let one = |group: &Arc<FlushGroup>| (group.id, group.cut, group.reason, group.state());
        self.groups().iter().map(one).collect()
    }

    /// Chooses the next work; a group handed out to build is marked so.
    /// `together`: nothing is installed before everything is built, and nothing is held back.
    /// While automatic flushes are paused only what a group that was asked for waits for is done:
    /// itself and all before it, because installs go in order.
    pub(crate) fn take(&self, now_us: u64, together: bool) -> Work {
        let groups = self.groups();
        let count = if self.is_paused() && !together {
            groups.iter().rposition(|group| group.is_asked_for()).map_or(0, |last| last + 1)
        } else {
            groups.len()
        };
        let is_ready = !together || groups.iter().all(|group| group.built().is_some());
        let mut not_before = u64::MAX;
        for (index, group) in groups.iter().take(count).enumerate() {
            let mut progress = group.progress();
            let due = progress.not_before_us <= now_us;
            match &progress.stage {
                Stage::Queued if due => {
                    progress.stage = Stage::Building;
                    progress.started_us = now_us;
                    return Work::Build(Arc::clone(group));
                }
                Stage::Built(_) if index == 0 && due && is_ready => return Work::Install,
                Stage::Queued | Stage::Built(_) if !due => {
                    not_before = not_before.min(progress.not_before_us);
                }
                _ => {}
            }
        }
        if not_before == u64::MAX { Work::Idle } else { Work::NotBefore(not_before) }
    }

    /// Takes the right to install. Held across the manifest's sync; never taken with the commit
    /// lock held.
    pub(crate) fn lock_install(&self) -> MutexGuard<'_, ()> {
        self.installing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest group, when it is built; `together`: all groups, when all are. With each what
    /// was built.
    pub(crate) fn installable(&self, together: bool) -> Vec<(Arc<FlushGroup>, Arc<Built>)> {
        let groups = self.groups();
        let count = if together { groups.len() } else { 1 };
        let ready = |group: &Arc<FlushGroup>| Some((Arc::clone(group), group.built()?));
        groups.iter().take(count).map(ready).collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    pub(crate) fn heal_not_before_us(&self) -> u64 {
        self.heal_not_before_us.load(Ordering::Relaxed)
    }

    pub(crate) fn set_heal_not_before_us(&self, us: u64) {
        self.heal_not_before_us.store(us, Ordering::Relaxed);
    }

    /// Takes an installed group off the front.
    pub(crate) fn pop(&self, group: &FlushGroup) {
        let front = self.groups().pop_front();
        assert!(front.is_some_and(|front| front.id == group.id), "installs go in order");
    }

    /// Reports a failed attempt of `group` to those who wait for it and for younger groups: none of
    /// these is installed before it, however often that has to be tried (P6).
    pub(crate) fn fail(&self, group: &FlushGroup, error: &Error, now_us: u64, events: &Hub) {
        // Taken before anybody hears: who hears and asks again must not hear of the old failure.
        let behind: Vec<FlushTicket> = {
            let groups = self.groups();
            let behind = groups.iter().filter(|other| other.id > group.id);
            behind.flat_map(|other| std::mem::take(&mut other.progress().tickets)).collect()
        };
        group.fail(error, now_us, events);
        for ticket in behind {
            sluice_env::probe!("flush: a younger ticket failed with an older flush");
            ticket.finish(Err(error.duplicate().context("an older flush comes first and failed")));
        }
    }

    /// Lets whatever waits after a failed attempt be tried at once: somebody asks for it.
    pub(crate) fn retry_now(&self) {
        for group in self.groups().iter() {
            group.progress().not_before_us = 0;
        }
        self.set_heal_not_before_us(0);
    }

    /// Ends every wait: the database is closed. The callbacks run without the queue's lock.
    pub(crate) fn abandon_all(&self, error: &Error) {
        let groups: Vec<_> = self.groups().iter().cloned().collect();
        for group in groups {
            group.abandon(error);
        }
    }
}
