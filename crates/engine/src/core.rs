//! [`Core`]: what all parts of one open database share.
//!
//! Lock order, outermost first; a thread that holds one takes only those below it:
//! 0. the notes of the flush clerk;
//! 1. the install lock of the flush queue;
//! 2. the versions lock (manifest; held across its sync);
//! 3. the commit lock;
//! 4. the read state's change lock, the locks of the flush queue, the compaction set and the
//!    checkpoints, the room's, the reserve's (held across its file's calls: only background work
//!    takes it);
//! 5. the log's own locks;
//! 6. those of `events/`, held for pushes only, and those of `schemas/`: a look or a store.
//!
//! Readers take none of them.

use crate::{
    ColumnFamily, Options, Position, Result,
    background::Background,
    cf::DbId,
    checkpoint::Checkpoints,
    commit::{Brakes, CommitState, Ring},
    compaction::Compactions,
    events::Hub,
    flush::{Clerk, FlushQueue},
    health::Health,
    positions::FlushWatch,
    read_state::ReadStateCell,
    reserve::Reserve,
    room::Room,
    schemas::Drains,
    snapshot::SnapshotList,
    stats::{Counters, Recovery},
    tables::TableStore,
    versions::Versions,
};
use sluice_base::{Error, ErrorKind, FileNo, SeqNo};
use sluice_env::{
    Env, FileLock,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use sluice_wal::{Lsn, Wal};

/// The commit lock.
#[derive(Debug)]
pub(crate) struct CommitLock(Mutex<CommitState>);

impl CommitLock {
    pub(crate) fn new(state: CommitState) -> CommitLock {
        CommitLock(Mutex::new(state))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, CommitState> {
        // A panic under the lock leaves plain integers behind: they are consistent at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sum of bytes that many threads change. Changed under the commit lock where a decision rests
/// on it, so relaxed order is enough.
#[derive(Debug, Default)]
pub(crate) struct ByteCount(AtomicU64);

impl ByteCount {
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hands out file numbers; shared with the log.
#[derive(Debug)]
pub(crate) struct FileNumbers(AtomicU64);

impl FileNumbers {
    pub(crate) fn new(next: FileNo) -> FileNumbers {
        FileNumbers(AtomicU64::new(next.0))
    }

    pub(crate) fn next(&self) -> FileNo {
        FileNo(self.0.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn peek(&self) -> FileNo {
        FileNo(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    pub env: Env,
    pub options: Options,
    /// Tells the handles of this database from those of another.
    pub owner: Arc<DbId>,
    pub epoch: u64,
    pub store: Arc<TableStore>,
    pub wal: Wal,
    pub commit: CommitLock,
    pub ring: Ring,
    pub brakes: Brakes,
    pub read_state: ReadStateCell,
    pub versions: Versions,
    pub flushes: FlushQueue,
    pub flush_clerk: Clerk,
    pub compactions: Compactions,
    pub checkpoints: Checkpoints,
    /// Drains of key schemas, as far as they are not in the manifest.
    pub drains: Drains,
    pub room: Room,
    /// The room on disk kept for a flush.
    pub reserve: Reserve,
    pub flush_watch: FlushWatch,
    pub snapshots: SnapshotList,
    pub health: Health,
    pub events: Arc<Hub>,
    pub background: Background,
    pub stats: Counters,
    pub files: Arc<FileNumbers>,
    /// Bytes reserved in memtables that are not yet installed as tables.
    pub memtable_bytes: ByteCount,
    /// What opening the database found and did.
    pub recovery: Recovery,
    memtable_ids: AtomicU64,
    /// Held from the opening, which puts it here once it has succeeded, until the close.
    pub lock: Mutex<Option<Box<dyn FileLock>>>,
}

/// The parts that recovery makes, to be put together.
#[derive(Debug)]
pub(crate) struct Parts {
    pub options: Options,
    pub owner: Arc<DbId>,
    pub epoch: u64,
    pub store: Arc<TableStore>,
    pub wal: Wal,
    pub commit: CommitState,
    pub read_state: ReadStateCell,
    pub versions: Versions,
    pub files: Arc<FileNumbers>,
    pub memtable_bytes: u64,
    pub memtable_ids: u64,
    pub recovery: Recovery,
    pub events: Arc<Hub>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Core {
        let visible = parts.commit.last();
        let memtable_bytes = ByteCount::default();
        memtable_bytes.add(parts.memtable_bytes);
        Core {
            env: parts.options.env.clone(),
            owner: parts.owner,
            epoch: parts.epoch,
            store: parts.store,
            wal: parts.wal,
            commit: CommitLock::new(parts.commit),
            ring: Ring::new(visible),
            brakes: Brakes::default(),
            read_state: parts.read_state,
            versions: parts.versions,
            flushes: FlushQueue::default(),
            flush_clerk: Clerk::default(),
            compactions: Compactions::default(),
            checkpoints: Checkpoints::default(),
            drains: Drains::default(),
            room: Room::default(),
            reserve: Reserve::default(),
            flush_watch: FlushWatch::default(),
            snapshots: SnapshotList::default(),
            health: Health::new(Arc::clone(&parts.options.env.clock), Arc::clone(&parts.events)),
            events: parts.events,
            background: Background::default(),
            stats: Counters::default(),
            files: parts.files,
            memtable_bytes,
            memtable_ids: AtomicU64::new(parts.memtable_ids),
            lock: Mutex::new(None),
            recovery: parts.recovery,
            options: parts.options,
        }
    }

    pub(crate) fn position(&self, seq: SeqNo) -> Position {
        Position { epoch: self.epoch, seq }
    }

    pub(crate) fn next_file(&self) -> FileNo {
        self.files.next()
    }

    pub(crate) fn next_memtable_id(&self) -> u64 {
        self.memtable_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Where the log ends for everything committed so far.
    pub(crate) fn lsn(&self) -> Lsn {
        self.commit.lock().lsn
    }

    /// Refuses a handle of another database.
    #[inline]
    pub(crate) fn check_family(&self, cf: &ColumnFamily) -> Result<()> {
        if cf.owner() == self.owner.number() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the handle of column family '{}' belongs to another Db",
            cf.name()
        )))
    }

    /// Lets everything that waits after a failure be tried at once: somebody asks for it.
    pub(crate) fn retry_now(&self) {
        self.flushes.retry_now();
        self.compactions.retry_now();
        self.drains.retry_now();
        self.reserve.retry_now();
        self.background.wake_flush();
        self.background.wake_compaction();
    }

    pub(crate) fn check_open(&self, state: &CommitState) -> Result<()> {
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        Ok(())
    }

    /// Something about the room in memory has changed: wakes whoever waits for it, and for the
    /// flushed position. Called with no lock held.
    pub(crate) fn end_turn(&self) {
        self.brakes.changed(self.env.clock.monotonic_us());
        self.room.end_turn();
        self.flush_watch.look(self);
    }

    pub(crate) fn check_writable(&self, state: &CommitState) -> Result<()> {
        self.check_open(state)?;
        self.health.check_writable()
    }
}
