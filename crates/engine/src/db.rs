//! [`Db`]: the public face. Each method is a few lines that hand over to the part that does it.

use crate::{
    BackgroundError, CfOptions, Checkpoint, CheckpointTicket, ColumnFamily, EventOptions, Events,
    FlushRequest, FlushTicket, Iter, LogInfo, MemtableInfo, Options, Position, ReadOptions,
    ReadView, Result, Snapshot, Stats, Tunables, WriteBatch, WriteOptions, census, checkpoint,
    commit::{self, Account},
    compaction,
    core::Core,
    flush, log_info,
    memtable::Memtable,
    memtables,
    options::{Background, resolve_budget},
    read_state::CfState,
    recover, reserve, schemas,
    tables::{CfVersion, VersionState},
    version::{CfCreate, CfEdit, KeyRange, OptionFields, SchemaMap, VersionEdit},
};
use sluice_base::{Error, ErrorKind, SeqNo, limits};
use sluice_env::sync::{Arc, PoisonError};
use sluice_table::KeySchema;
use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

/// The name of the family that every database has.
const DEFAULT_CF: &str = "default";

/// An open database. Cheap to clone and to share between threads; closed by [`Db::close`], or
/// when the last clone is dropped (without a flush then: the log keeps what is not in tables).
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use sluicedb::{Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let cf = db.default_cf();
/// db.put(&cf, b"key", b"value")?;
/// let other_thread = db.clone();
/// assert!(other_thread.view().exists(&cf, b"key")?);
/// db.close(true)?; // flushes first, so that the next opening has nothing to replay
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Clone)]
pub struct Db(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to tell; what the log could not write is in its error state.
        let _ = close(&self.core, false);
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("dir", &self.core().store.dir).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database in directory `path`, recovering whatever an earlier process left.
    ///
    /// # Errors
    /// `Invalid` for options that cannot work; `Locked` when the directory is in use; `NotFound`
    /// when there is no database and `create_if_missing` is false; `Unsupported` for files of a
    /// newer build; `Corruption` when manifest or log are damaged where they had been synced; `Io`.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Db> {
        let core = recover::open(path.as_ref(), options)?;
        let db = Db(Arc::new(Handle { core }));
        if db.column_family(DEFAULT_CF).is_none() {
            db.create_column_family(DEFAULT_CF, CfOptions::default())?;
        }
        reserve::begin(db.core());
        if db.core().options.background == Background::Threads {
            db.core().background.start(db.core())?;
        }
        db.core().background.wake_flush();
        db.core().background.wake_compaction();
        Ok(db)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// Makes a column family.
    ///
    /// # Errors
    /// `Exists` when there is one of that name; `Invalid` for an empty or overlong name, and as
    /// [`CfOptions::validate`] says it.
    pub fn create_column_family(&self, name: &str, options: CfOptions) -> Result<ColumnFamily> {
        create_family(self.core(), name, &options)
    }

    /// The column family called `name`.
    pub fn column_family(&self, name: &str) -> Option<ColumnFamily> {
        self.list_column_families().into_iter().find(|cf| cf.name() == name)
    }

    /// The family called `default`, which every database has.
    pub fn default_cf(&self) -> ColumnFamily {
        self.column_family(DEFAULT_CF).expect("invariant: made at open, and never dropped")
    }

    /// Every column family, oldest first.
    pub fn list_column_families(&self) -> Vec<ColumnFamily> {
        let state = self.core().read_state.load();
        let mut families: Vec<_> = state.families().map(|cf| cf.family.clone()).collect();
        families.sort_by_key(ColumnFamily::id);
        families
    }

    /// Drops a column family with everything in it. Views and iterators taken before keep reading.
    ///
    /// # Errors
    /// `NotFound` when it is gone already; `Invalid` for the default family.
    pub fn drop_column_family(&self, cf: &ColumnFamily) -> Result<()> {
        drop_family(self.core(), cf)
    }

    /// Commits a batch: atomic over all its column families.
    ///
    /// # Errors
    /// `Invalid`, `Stalled`, `Closed`, `ReadOnly`: nothing of the batch was kept. `Io` or
    /// `DiskFull` from the log: the batch is visible, but the acknowledgement asked for was not
    /// reached, and the log accepts nothing more.
    pub fn write(&self, batch: &WriteBatch, options: &WriteOptions) -> Result<Position> {
        commit::write(self.core(), batch, options)
    }

    /// Sets one key, with the default [`WriteOptions`].
    ///
    /// # Errors
    /// Those of [`Db::write`].
    pub fn put(&self, cf: &ColumnFamily, key: &[u8], value: &[u8]) -> Result<Position> {
        let mut batch = WriteBatch::new();
        batch.put(cf, key, value);
        self.write(&batch, &WriteOptions::default())
    }

    /// Removes one key, with the default [`WriteOptions`].
    ///
    /// # Errors
    /// Those of [`Db::write`].
    pub fn delete(&self, cf: &ColumnFamily, key: &[u8]) -> Result<Position> {
        let mut batch = WriteBatch::new();
        batch.delete(cf, key);
        self.write(&batch, &WriteOptions::default())
    }

    /// A consistent view of the present.
    #[inline]
    pub fn view(&self) -> ReadView {
        ReadView::new(self.core())
    }

    /// A registered snapshot of the present.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.core())
    }

    /// The value of `key`, copied. [`ReadView::get`] does not copy.
    ///
    /// # Errors
    /// Those of [`ReadView::get`].
    pub fn get(&self, cf: &ColumnFamily, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.view().get(cf, key)?.map(|value| value.to_vec()))
    }

    /// A cursor over the present state of a column family.
    ///
    /// # Errors
    /// Those of [`ReadView::iter`].
    pub fn iter(&self, cf: &ColumnFamily, options: ReadOptions) -> Result<Iter> {
        self.view().iter(cf, options)
    }

    /// The value of counter `id` of a column family, as of now: see [`WriteBatch::add_counter`]. 0
    /// for a counter that was never changed, and for a family that is gone or of another `Db`.
    pub fn counter(&self, cf: &ColumnFamily, id: u32) -> i64 {
        if cf.owner() != self.core().owner.number() {
            return 0;
        }
        self.core().read_state.load().cf(cf.slot()).map_or(0, |cf| cf.counter(id))
    }

    /// Hands everything logged so far to the operating system: one system call, none when there
    /// is nothing to hand over. What was visible before the call then survives `kill -9`.
    ///
    /// # Errors
    /// `Io` or `DiskFull` when the log cannot be written, now or since an earlier failure.
    pub fn flush_log(&self) -> Result<Position> {
        let core = self.core();
        let (lsn, last) = {
            let state = core.commit.lock();
            (state.lsn, state.last())
        };
        core.wal.write_out(lsn)?;
        Ok(core.position(last))
    }

    /// A barrier: returns when everything logged before the call survives a power cut.
    ///
    /// # Errors
    /// `Io` or `DiskFull` when the log cannot be synced, now or since an earlier failure.
    pub fn sync(&self) -> Result<Position> {
        let core = self.core();
        let (lsn, last) = {
            let state = core.commit.lock();
            (state.lsn, state.last())
        };
        core.wal.sync(lsn)?;
        Ok(core.position(last))
    }

    /// The options in force that can change while running.
    pub fn tunables(&self) -> Tunables {
        self.core().commit.lock().tunables
    }

    /// For how long a writer should hold back before its next write: zero while there is room
    /// enough. For callers whose writes must not wait ([`WriteOptions::deadline`] zero): they are
    /// never delayed here, and whoever ignores this runs into [`ErrorKind::Stalled`] sooner.
    pub fn throttle(&self) -> Duration {
        self.core().brakes.throttle(&*self.core().env.clock)
    }

    /// Changes options while running. The next write sees them; a memtable that is over a smaller
    /// size is sealed by the next write to it.
    ///
    /// # Errors
    /// `Invalid`, as [`Options::validate`] says it; nothing is changed then.
    pub fn set_tunables(&self, tunables: &Tunables) -> Result<()> {
        let core = self.core();
        core.options.with_tunables(tunables).validate()?;
        let budget = resolve_budget(tunables.memory_budget);
        let tunables = &Tunables { memory_budget: budget, ..*tunables };
        // What can fail comes first.
        core.check_open(&core.commit.lock())?;
        if core.options.background == Background::Threads {
            core.background.set_flush_threads(core, tunables.flush_threads)?;
        }
        core.wal.set_segment_bytes(tunables.wal_segment_bytes)?;
        {
            let mut state = core.commit.lock();
            state.tunables = *tunables;
            for account in state.accounts.iter_mut().flatten().filter(|a| !a.own_limit) {
                account.limit = tunables.memtable_bytes;
            }
        }
        core.wal.set_sync_interval(tunables.wal_sync_interval);
        let resized = Options { memory_budget: budget, ..core.options.clone() };
        core.store.cache.set_capacity(resized.block_cache_bytes());
        // A larger count may be room for those who wait.
        core.end_turn();
        Ok(())
    }

    /// Runs `callback` on the log's thread once everything logged up to `position` is durable, or
    /// cannot become so. Never blocks; all requests that wait share the next sync. What was written
    /// without a log is not waited for: [`Db::wait_durable`] and [`Db::on_flushed`] do that.
    pub fn on_durable(
        &self,
        position: Position,
        callback: Box<dyn FnOnce(Result<Position>) + Send>,
    ) {
        let core = self.core();
        let lsn = core.lsn();
        let done = move |outcome: Result<()>| callback(outcome.map(|()| position));
        core.wal.request_sync(lsn, Box::new(done));
    }

    /// Seals memtables and starts writing them to tables. The ticket says when, and what came of
    /// it.
    ///
    /// # Errors
    /// `Stalled` when there is no room for another sealed memtable within the deadline and
    /// `allow_stall` is false; `Closed`; `NotFound` for a dropped family.
    pub fn flush(&self, request: FlushRequest) -> Result<FlushTicket> {
        flush::flush(self.core(), &request)
    }

    /// Listens to what happens from now on. See [`Events`] for how to wait, and [`crate::Event`]
    /// for what there is. Nobody is ever waited for: a subscriber that does not keep up loses
    /// events, which are counted.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use sluicedb::{Db, FlushRequest, Options};
    /// use sluicedb::{Event, EventOptions, Topic};
    /// let db = Db::open(dir.path(), Options::default())?;
    /// let events = db.subscribe(EventOptions { topics: vec![Topic::Flush], ..Default::default() });
    /// let written = db.put(&db.default_cf(), b"key", b"value")?;
    /// db.flush(FlushRequest::default())?;
    /// let report = loop {
    ///     match events.recv(None)?.event {
    ///         Event::FlushEnd { report, .. } => break report,
    ///         other => println!("{other}"),
    ///     }
    /// };
    /// assert!(report.position >= written);
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    pub fn subscribe(&self, options: EventOptions) -> Events {
        self.core().events.subscribe(&options)
    }

    /// Holds automatic flushes back: what they would write stays in memory until
    /// [`Db::resume_flushes`], an explicit [`Db::flush`] or a checkpoint, which go on as always.
    /// Memtables still have their bounds: once they are full, writes stall. For an operator's
    /// short maintenance window; not recorded, a new opening flushes again.
    pub fn pause_flushes(&self) {
        self.core().flushes.set_paused(true);
    }

    /// Lets automatic flushes go on.
    pub fn resume_flushes(&self) {
        self.core().flushes.set_paused(false);
        self.core().background.wake_flush();
    }

    /// Whether automatic flushes are held back.
    pub fn flushes_paused(&self) -> bool {
        self.core().flushes.is_paused()
    }

    /// Ends the active log segment and begins the next. What the segment holds can be let go of as
    /// soon as tables cover it.
    ///
    /// # Errors
    /// `Io` or `DiskFull` when no segment can be made; `Closed`.
    pub fn rotate_log(&self) -> Result<()> {
        self.core().wal.rotate()
    }

    /// A moment's picture of the log.
    pub fn log_info(&self) -> LogInfo {
        log_info::log_info(self.core())
    }

    /// Every memtable in memory, family by family, the active one of each first.
    pub fn memtables(&self) -> Vec<MemtableInfo> {
        memtables::list(self.core())
    }

    /// Runs `callback` once, when memtable room may have come: after [`ErrorKind::Stalled`] from
    /// a write with deadline zero, this is when to try again.
    pub fn on_room(&self, callback: Box<dyn FnOnce() + Send>) {
        self.core().room.on_change(callback);
    }

    /// Compacts every table of `cf` that overlaps the keys from `first` to `last` (both included;
    /// `None`: no bound), down to the last level, and returns when it is done. Memtables are not
    /// part of it: flush before, where they should be.
    ///
    /// # Errors
    /// `NotFound` for a dropped family, `Closed`, or what made a step fail; the steps before it
    /// stay done.
    pub fn compact(
        &self,
        cf: &ColumnFamily,
        first: Option<&[u8]>,
        last: Option<&[u8]>,
    ) -> Result<()> {
        self.core().check_family(cf)?;
        compaction::compact_range(self.core(), cf.slot(), KeyRange { first, last })
    }

    /// Makes `dir`, a directory that [`Db::open`] opens and that holds the database as it is at one
    /// position, at or after everything visible at the call: all column families, unlogged data
    /// included. Writers go on meanwhile. Tables share their bytes with this database where the
    /// file system has hard links; either database may be changed or deleted without the other.
    ///
    /// `dir` must not exist, its parent must. A crash leaves all of it or nothing of it (but for
    /// `<dir>.tmp-checkpoint`, which the next checkpoint to the same place clears away). Waits for
    /// the end: not to be called from a callback of the engine; [`Db::start_checkpoint`] may be.
    ///
    /// # Errors
    /// `Invalid` for a path without a name; `Exists` when `dir` is there; `NotFound` when its
    /// parent is not; `Locked` when another process makes a checkpoint there; `Stalled` when too
    /// many checkpoints wait; `Closed` when the database closes before the end; `Io` and
    /// `DiskFull` from the flush or the writing. After an error there is no `dir`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use sluicedb::{Db, Options};
    /// let db = Db::open(dir.path().join("db"), Options::default())?;
    /// db.put(&db.default_cf(), b"key", b"then")?;
    /// let made = db.checkpoint(dir.path().join("copy"))?;
    /// db.put(&db.default_cf(), b"key", b"now")?;
    /// let copy = Db::open(dir.path().join("copy"), Options::default())?;
    /// assert_eq!(copy.get(&copy.default_cf(), b"key")?.as_deref(), Some(&b"then"[..]));
    /// assert_eq!(db.stats().last_checkpoint_position, Some(made.position));
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<Checkpoint> {
        checkpoint::make(self.core(), dir.as_ref())
    }

    /// As [`Db::checkpoint`], without a wait: the ticket says when it is done, and what came of it.
    /// Checkpoints are made one after the other, each as of the moment its turn comes.
    ///
    /// # Errors
    /// `Invalid`, `Stalled` and `Closed`, as [`Db::checkpoint`]; the others come by the ticket.
    pub fn start_checkpoint(&self, dir: impl AsRef<Path>) -> Result<CheckpointTicket> {
        checkpoint::start(self.core(), dir.as_ref())
    }

    /// Empties the block cache of everything nobody is reading.
    pub fn clear_block_cache(&self) {
        self.core().store.cache.clear();
    }

    /// Does one piece of background work on this thread, for a database opened with
    /// [`Background::Stepped`]; false when there is nothing to do.
    pub fn step(&self) -> bool {
        self.core().wal.tick();
        self.core().step()
    }

    /// A moment's picture.
    pub fn stats(&self) -> Stats {
        census::stats(self.core())
    }

    /// The errors of background jobs that stand; empty when all is well.
    pub fn background_errors(&self) -> Vec<BackgroundError> {
        self.core().health.errors()
    }

    /// Ends the database: no write begins any more, `flush` decides whether memtables go to
    /// tables first, the log is synced, threads are joined, the directory is unlocked. Later calls
    /// answer `Closed`; closing again does nothing.
    ///
    /// # Errors
    /// What the last flush or the log's sync ran into. The database is closed all the same.
    pub fn close(&self, flush: bool) -> Result<()> {
        close(self.core(), flush)
    }
}

fn create_family(core: &Arc<Core>, name: &str, options: &CfOptions) -> Result<ColumnFamily> {
    if name.is_empty() || name.len() > limits::CF_NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a column family's name has 1 to {} bytes, not {}",
            limits::CF_NAME_BYTES_MAX,
            name.len()
        )));
    }
    options.validate()?;
    core.check_open(&core.commit.lock())?;
    let fields = options.to_fields();
    let schema = options.key_schema.clone().unwrap_or_else(KeySchema::whole_key);
    let schema = Arc::new(core.store.schemas.admit(schema)?);
    let create = |state: &VersionState| {
        let id = state.next_cf;
        let create = CfCreate { id, name: name.to_owned(), options: fields };
        let (index, definition) = core.store.schemas.intern(state, &schema)?;
        let map = (index != 0).then(|| SchemaMap::whole(index));
        Ok(VersionEdit {
            created: vec![create],
            schemas: definition.into_iter().collect(),
            ..CfEdit { schema_map: map, ..CfEdit::new(id) }.into()
        })
    };
    let mut family = None;
    core.versions.apply_with(core, create, |versions| {
        let id = versions.state.cf_by_name(name).expect("invariant: just created").id;
        let mut state = core.commit.lock();
        let slot = state.accounts.len();
        let default = state.tunables.memtable_bytes;
        state.accounts.push(Some(Account::new(options.memtable_bytes, default)));
        let schemas =
            schemas::of_new_family(core, id, &versions.state, &schema, options.filter_fields);
        let cf = ColumnFamily::new(id, name, slot, options.wal, schemas, &core.owner);
        core.read_state.add_family(CfState {
            family: cf.clone(),
            active: Arc::new(Memtable::new(core.next_memtable_id())),
            sealed: Vec::new(),
            version: Arc::new(CfVersion::empty()),
            counters: Arc::new(BTreeMap::new()),
            flushed: SeqNo::ZERO,
        });
        family = Some(cf);
    })?;
    Ok(family.expect("invariant: apply runs its closure before it returns Ok"))
}

fn drop_family(core: &Arc<Core>, cf: &ColumnFamily) -> Result<()> {
    core.check_family(cf)?;
    if cf.name() == DEFAULT_CF {
        return Err(Error::invalid("the default column family cannot be dropped"));
    }
    let gone = || {
        Error::new(ErrorKind::NotFound, format!("column family '{}' is gone already", cf.name()))
    };
    if core.read_state.load().cf(cf.slot()).is_none() {
        return Err(gone());
    }
    core.check_open(&core.commit.lock())?;
    // Looked at again under the lock: of two who drop it at once, one is late.
    let edit = |state: &VersionState| match state.cf(cf.id()) {
        Some(_) => Ok(VersionEdit { dropped: vec![cf.id()], ..VersionEdit::default() }),
        None => Err(gone()),
    };
    core.versions.apply_with(core, edit, |_| {
        let mut state = core.commit.lock();
        if let Some(Some(account)) = state.accounts.get(cf.slot()) {
            core.memtable_bytes.sub(account.reserved);
            state.accounts[cf.slot()] = None;
        }
        core.read_state.drop_family(cf.slot());
    })?;
    // Its memtables' room, and what its entries held back.
    core.end_turn();
    Ok(())
}

fn close(core: &Arc<Core>, flush: bool) -> Result<()> {
    let mut outcome = Ok(());
    if flush && !core.commit.lock().closed {
        let request = FlushRequest {
            reason: crate::FlushReason::Shutdown,
            allow_stall: true,
            ..FlushRequest::default()
        };
        outcome = flush::flush(core, &request).and_then(|ticket| {
            if core.options.background == Background::Stepped {
                while ticket.poll().is_none() && core.step() {}
                if ticket.poll().is_none() {
                    // Nobody else takes a step: waiting would be waiting for nothing.
                    return Err(Error::new(ErrorKind::TimedOut, "the flush at close stands still"));
                }
            }
            // A flush that keeps failing must not keep the process: one attempt, one minute.
            ticket.wait(Some(Duration::from_secs(60))).map(|_| flush::heal_log(core))
        });
    }
    if std::mem::replace(&mut core.commit.lock().closed, true) {
        return Ok(());
    }
    core.background.stop();
    core.end_turn();
    core.background.join();
    let closed = Error::new(ErrorKind::Closed, "the database closed before the flush was done");
    core.flushes.abandon_all(&closed);
    let closed =
        Error::new(ErrorKind::Closed, "the database closed before the checkpoint was done");
    core.checkpoints.abandon_all(&closed);
    core.versions.close();
    let logged = core.wal.close();
    core.store.collect_garbage();
    core.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    core.events.close();
    outcome.and(logged)
}

/// Option numbers in the manifest. Even: a build that does not know it may open the family; an odd
/// number would forbid that.
const CF_MEMTABLE_BYTES: u32 = 2;
/// 0: writes are not logged. A build that does not know it logs them, which is safe.
const CF_WAL: u32 = 4;
/// A build that does not know it writes tables without filters of prefixes.
const CF_FILTER_FIELDS: u32 = 6;
/// The descriptor of the schema that new tables were written under before there were ranges. Read,
/// never written: see `schemas/registry.rs`.
pub(crate) const CF_KEY_SCHEMA: u32 = 5;

impl CfOptions {
    fn to_fields(&self) -> OptionFields {
        let mut fields = OptionFields::new();
        if let Some(bytes) = self.memtable_bytes {
            fields.set_number(CF_MEMTABLE_BYTES, bytes);
        }
        if !self.wal {
            fields.set_number(CF_WAL, 0);
        }
        if let Some(count) = self.filter_fields {
            fields.set_number(CF_FILTER_FIELDS, count.into());
        }
        fields
    }

    pub(crate) fn from_fields(fields: &OptionFields) -> Result<CfOptions> {
        fields.require_known(&[CF_MEMTABLE_BYTES, CF_WAL, CF_FILTER_FIELDS])?;
        // More than this build's bound: it filters as many as there are.
        let filter_fields = fields.number(CF_FILTER_FIELDS)?.filter(|fields| *fields > 0);
        Ok(CfOptions {
            memtable_bytes: fields.number(CF_MEMTABLE_BYTES)?,
            wal: fields.number(CF_WAL)? != Some(0),
            // In the manifest, but not an option: it changes, and by range.
            key_schema: None,
            filter_fields: filter_fields.map(|fields| u8::try_from(fields).unwrap_or(u8::MAX)),
        })
    }
}
