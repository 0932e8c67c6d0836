//! Opening a database: from files to a [`Core`].
//!
//! 1. Lock the directory.
//! 2. Read the manifest, or begin a new database.
//! 3. Start a new manifest with the next epoch: a file whose tail a crash may have torn is never
//!    appended to.
//! 4. Delete tables that the manifest does not name: a crash left them before they were installed,
//!    or before they were deleted.
//! 5. Replay the log in sequence order into memtables, skipping what tables already hold.
//! 6. Put the parts together.
//!
//! When steps 2 to 5 find the disk full, the room kept for a flush (reserve.rs) is given away and
//! they are begun again.
//!
//! Replay never refuses for want of memory: a memtable that is full is sealed, and when all of
//! them together reach their budget everything replayed so far is flushed on the spot, all
//! families at one cut, so that a crash during recovery recovers to the same place (P1).

use crate::{
    CfOptions, ColumnFamily, Options, Result, WalRecovery,
    batch::Entries,
    cf::DbId,
    commit::{self, Account, CommitState, ENTRY_OVERHEAD_BYTES},
    core::{Core, FileNumbers, Parts},
    events::{Hub, LogEvents},
    flush::{self, FlushReason, TableTarget},
    manifest::{self, FileName, ManifestWriter},
    memtable::Memtable,
    options::Background,
    read_state::{CfState, ReadState, ReadStateCell, Sealed},
    reserve,
    schemas::{self, FamilySchemas, RangeMap},
    snapshot::SnapshotList,
    stats::Recovery,
    tables::{self, TableStore, VersionState},
    version::{CfEdit, VersionEdit},
    versions::Versions,
};
use sluice_base::{CfId, Error, ErrorKind, FileNo, Level, SeqNo};
use sluice_env::{
    FileLock, Fs,
    sync::{Arc, PoisonError},
};
use sluice_wal::{FrameRef, RecoveryMode, Wal, WalOptions};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Opens the database in `dir`. Background threads are not started yet.
pub(crate) fn open(dir: &Path, options: Options) -> Result<Arc<Core>> {
    options.validate()?;
    let options = options.resolved();
    let fs = &*options.env.fs;
    let lock = prepare_directory(fs, dir, options.create_if_missing)?;
    let core = match assemble(dir, &options) {
        // A failed attempt is to the next one what a crash is: it leaves a prefix of its steps.
        Err(error) if error.kind() == ErrorKind::DiskFull && reserve::give_away(fs, dir) => {
            assemble(dir, &options)
        }
        assembled => assembled,
    }?;
    *core.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
    Ok(core)
}

/// Steps 2 to 6.
fn assemble(dir: &Path, options: &Options) -> Result<Arc<Core>> {
    let fs = Arc::clone(&options.env.fs);
    let recovered = manifest::read(&*fs, dir)?;
    if recovered.is_none() && !options.create_if_missing {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no database in {}", dir.display()),
        ));
    }
    let mut recovery = Recovery::default();
    let mut state = match recovered {
        Some(recovered) => {
            recovery.manifest_edits = recovered.edits;
            recovery.manifest_torn_bytes = recovered.torn.map_or(0, |torn| torn.bytes);
            recovered.state
        }
        None => VersionState { next_file: unused_number(&*fs, dir)?, ..VersionState::empty() },
    };
    // Frames of the log carry the epoch in 32 bits.
    let epoch = state.epoch.checked_add(1).filter(|epoch| u32::try_from(*epoch).is_ok());
    let used_up = "epochs are used up: copy the data into a new directory";
    state.epoch = epoch.ok_or_else(|| Error::new(ErrorKind::Unsupported, used_up))?;
    let store = TableStore::new(Arc::clone(&fs), dir, options)?;
    let strays = check_tables(&*fs, dir, &state, &store)?;
    schemas::open(&mut state, &store)?;
    let files = Arc::new(FileNumbers::new(state.next_file));
    let manifest_no = files.next();
    state.next_file = files.peek();
    let manifest = ManifestWriter::create(Arc::clone(&fs), dir, manifest_no, &state)?;
    // Not earlier: the last edits may have been read from the page cache alone, and what they let go
    // of is what a power cut would need again. One that stays is removed by the next opening.
    strays.iter().for_each(|path| drop(fs.remove_file(path)));
    let replay = Replay::new(options, store, Arc::clone(&files), state, manifest, recovery)?;
    replay.run(dir)
}

/// A file number above every one in the directory. A creation that failed or crashed before
/// `CURRENT` was there leaves a manifest behind, and the next attempt must not stumble over it.
fn unused_number(fs: &dyn Fs, dir: &Path) -> Result<FileNo> {
    let names = fs.read_dir(dir).map_err(|e| Error::io(format!("list {}", dir.display()), e))?;
    let files: Vec<FileName> = names.iter().filter_map(|name| FileName::parse(name)).collect();
    Ok(FileName::number_above(&files).max(VersionState::empty().next_file))
}

/// Makes the directory where allowed and takes its lock.
fn prepare_directory(fs: &dyn Fs, dir: &Path, create: bool) -> Result<Box<dyn FileLock>> {
    let shown = dir.display();
    if create {
        fs.create_dir_all(dir)
            .map_err(|e| Error::io(format!("create the database directory {shown}"), e))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // A new directory's name is in its parent, and not durable before that is synced.
            fs.sync_dir(parent).map_err(|e| Error::io(format!("sync {}", parent.display()), e))?;
        }
    } else if !fs.exists(dir).map_err(|e| Error::io(format!("look for {shown}"), e))? {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no directory {shown}")));
    }
    fs.lock(&dir.join(FileName::Lock.to_string())).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::Locked,
            format!("the database in {shown} is in use by another process or another Db"),
        ),
        _ => Error::io(format!("lock the database directory {shown}"), error),
    })
}

/// Gives every table its file, refuses when one is missing, and finds those that nobody names.
fn check_tables(
    fs: &dyn Fs,
    dir: &Path,
    state: &VersionState,
    store: &Arc<TableStore>,
) -> Result<Vec<PathBuf>> {
    let names = fs.read_dir(dir).map_err(|e| Error::io(format!("list {}", dir.display()), e))?;
    let mut present: BTreeMap<_, _> = names
        .iter()
        .filter_map(|name| match FileName::parse(name) {
            Some(FileName::Table(file)) => Some((file, name)),
            _ => None,
        })
        .collect();
    for (_, _, file) in state.files() {
        if present.remove(&file).is_none() {
            return Err(Error::corruption(
                store.path(file),
                0,
                "a table that the manifest names",
                "no file",
            ));
        }
    }
    for cf in state.cfs.values() {
        tables::adopt(&cf.version, store);
    }
    // A crash came between writing it and naming it, or before deleting it.
    let strays: Vec<PathBuf> = present.values().map(|name| dir.join(name)).collect();
    if !strays.is_empty() {
        sluice_env::probe!("recovery: a table that nobody names");
    }
    Ok(strays)
}

/// One family while the log is replayed.
struct Family {
    handle: ColumnFamily,
    active: Arc<Memtable>,
    account: Account,
    /// Oldest first, each with its cut.
    sealed: Vec<(Sealed, SeqNo)>,
    /// Entries at or below it are in tables.
    flushed: SeqNo,
}

struct Replay<'a> {
    options: &'a Options,
    store: Arc<TableStore>,
    files: Arc<FileNumbers>,
    state: VersionState,
    manifest: ManifestWriter,
    owner: Arc<DbId>,
    families: Vec<Family>,
    slots: HashMap<CfId, usize>,
    last: SeqNo,
    /// How far the replay has come. Behind `last` at first: the manifest may know of more.
    replayed: SeqNo,
    reserved: u64,
    memtable_ids: u64,
    groups: u64,
    recovery: Recovery,
}

impl<'a> Replay<'a> {
    fn new(
        options: &'a Options,
        store: Arc<TableStore>,
        files: Arc<FileNumbers>,
        state: VersionState,
        manifest: ManifestWriter,
        recovery: Recovery,
    ) -> Result<Replay<'a>> {
        let owner = Arc::new(DbId::default());
        let mut replay = Replay {
            options,
            store,
            files,
            last: state.last_seq,
            replayed: SeqNo::ZERO,
            state,
            manifest,
            owner: Arc::clone(&owner),
            families: Vec::new(),
            slots: HashMap::new(),
            reserved: 0,
            memtable_ids: 0,
            groups: 0,
            recovery,
        };
        for cf in replay.state.cfs.values() {
            let cf_options = CfOptions::from_fields(&cf.options)
                .map_err(|e| e.context(format_args!("column family '{}'", cf.name)))?;
            let slot = replay.families.len();
            let own = cf_options.memtable_bytes;
            let fields = cf_options.filter_fields;
            let map = RangeMap::resolve(&cf.schema_map, &replay.store.schemas, fields)?;
            let schemas = FamilySchemas::new(map, cf.drains.clone());
            replay.slots.insert(cf.id, slot);
            replay.families.push(Family {
                handle: ColumnFamily::new(cf.id, &cf.name, slot, cf_options.wal, schemas, &owner),
                active: Arc::new(Memtable::new(slot as u64)),
                account: Account::new(own, options.memtable_bytes),
                sealed: Vec::new(),
                flushed: cf.flushed_seq,
            });
        }
        replay.memtable_ids = replay.families.len() as u64;
        Ok(replay)
    }

    fn run(mut self, dir: &Path) -> Result<Arc<Core>> {
        let options = self.options;
        let events = Hub::new(options, self.state.epoch);
        let wal_options = WalOptions {
            segment_bytes: options.wal_segment_bytes,
            sync_interval: options.wal_sync_interval,
            recovery: match options.wal_recovery {
                WalRecovery::Tolerant => RecoveryMode::Tolerant,
                WalRecovery::Absolute => RecoveryMode::Absolute,
                WalRecovery::Salvage => RecoveryMode::Salvage,
            },
            background: options.background == Background::Threads,
            observer: Some(Arc::new(LogEvents(Arc::clone(&events)))),
            ..WalOptions::default()
        };
        let files = Arc::clone(&self.files);
        let numbers = Arc::new(move || files.next());
        let epoch = u32::try_from(self.state.epoch)
            .map_err(|_| Error::new(ErrorKind::Unsupported, "epochs are used up"))?;
        let log_first = self.state.log_first;
        let started_us = options.env.clock.monotonic_us();
        let (wal, report) = Wal::recover(
            &options.env,
            dir,
            wal_options,
            log_first,
            numbers,
            epoch,
            &mut |frame: FrameRef<'_>| self.frame(&frame),
        )?;
        if report.head_missing.is_some() && options.wal_recovery != WalRecovery::Salvage {
            // The manifest names the first segment that unflushed data may be in before older
            // ones are released, so it can only be missing because somebody took it away.
            return Err(Error::corruption(
                sluice_wal::segment_path(dir, log_first),
                0,
                "the oldest log segment that the manifest needs",
                "no file",
            ));
        }
        self.recovery.log_frames = report.frames;
        self.recovery.log_bytes = report.bytes;
        let took_us = options.env.clock.monotonic_us().saturating_sub(started_us);
        self.recovery.log_took = Duration::from_micros(took_us);
        self.recovery.log_clean = report.clean;
        self.recovery.log_summary = report.to_string();
        self.into_core(wal, events)
    }

    /// Replays one frame.
    fn frame(&mut self, frame: &FrameRef<'_>) -> Result<()> {
        let mut seq = frame.first_seq;
        let mut entries = Entries::new(frame.payload);
        for entry in entries.by_ref() {
            if let Some(&slot) = self.slots.get(&entry.cf()) {
                let family = &mut self.families[slot];
                sluice_env::probe!("recovery: an entry for a family that is there");
                if seq > family.flushed {
                    commit::insert(&family.active, &entry, seq);
                    let need = entry.bytes() as u64 + ENTRY_OVERHEAD_BYTES;
                    family.account.reserved += need;
                    if family.account.first.is_none() {
                        family.account.first = Some(seq);
                        // When it was written is not recorded: its age counts from the opening.
                        family.account.dirty_since_us = self.options.env.clock.monotonic_us();
                    }
                    self.reserved += need;
                }
            } else if entry.cf() >= self.state.next_cf {
                return Err(self.lost_family(entry.cf(), frame.first_seq));
            }
            seq = seq.next();
        }
        if !entries.finished() || seq.0 - frame.first_seq.0 != u64::from(frame.count) {
            // The frame's checksum was right, so a build that encodes otherwise wrote it.
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the log frame at sequence number {} holds an entry that this build does not \
                     know: open the directory with the newer build that wrote it",
                    frame.first_seq
                ),
            ));
        }
        self.replayed = SeqNo(seq.0 - 1);
        self.last = self.last.max(self.replayed);
        if self.reserved > self.options.memtable_budget() {
            sluice_env::probe!("recovery: the log did not fit and was flushed");
            return self.flush_all();
        }
        for slot in 0..self.families.len() {
            let account = &self.families[slot].account;
            if account.reserved > account.limit {
                self.seal(slot);
            }
        }
        Ok(())
    }

    /// A family is in the manifest before the first write to it is in the log. One that the
    /// manifest has never heard of means that the manifest lost its end, and more with it.
    fn lost_family(&self, cf: CfId, first_seq: SeqNo) -> Error {
        Error::corruption(
            self.store.dir.join(FileName::Current.to_string()),
            0,
            format!(
                "a manifest that knows column family {cf}, which log frame {first_seq} writes to"
            ),
            format!("one that has made families below {} only", self.state.next_cf),
        )
    }

    fn seal(&mut self, slot: usize) {
        let family = &mut self.families[slot];
        let Some(first) = family.account.first else { return };
        let fresh = Arc::new(Memtable::new(self.memtable_ids));
        self.memtable_ids += 1;
        let sealed = Sealed {
            memtable: std::mem::replace(&mut family.active, fresh),
            group: self.groups,
            reserved: family.account.reserved,
            first,
            dirty_since_us: family.account.dirty_since_us,
        };
        self.groups += 1;
        family.account = family.account.fresh();
        family.sealed.push((sealed, self.replayed));
    }

    /// Writes everything replayed so far to tables, all families at one cut.
    fn flush_all(&mut self) -> Result<()> {
        let cut = self.replayed;
        let stripes = SnapshotList::default().stripes(|| cut);
        let mut edit = VersionEdit { last_seq: Some(cut), ..VersionEdit::default() };
        for slot in 0..self.families.len() {
            self.seal(slot);
            let family = &mut self.families[slot];
            let Some(cf) = self.state.cf(family.handle.id()) else { continue };
            let mut cf_edit = CfEdit::new(family.handle.id());
            let mut counters = cf.counters.clone();
            let mut bottom = cf.version.table_count() == 0;
            for (sealed, _) in family.sealed.drain(..) {
                let created = self.options.env.clock.unix_ms();
                let (store, options) = (&self.store, self.options);
                let table = &sealed.memtable;
                let (files, schemas) = (&self.files, family.handle.schemas().current());
                let file = || files.next();
                let target = TableTarget { file: &file, schemas: &schemas, bottom };
                let written =
                    flush::write_memtable(store, options, table, &target, &stripes, created)?;
                bottom &= written.tables.is_empty();
                cf_edit.added.extend(written.tables.into_iter().map(|table| (Level(0), table)));
                for (id, delta) in sealed.memtable.counter_deltas() {
                    let sum: &mut i64 = counters.entry(id).or_default();
                    // Sums wrap, as in memtables: what a damaged or hostile log adds up to must
                    // not be a panic.
                    *sum = sum.wrapping_add(delta);
                }
            }
            cf_edit.counters = counters.into_iter().collect();
            // A family that flushed before the crash may be ahead of the replay.
            family.flushed = family.flushed.max(cut);
            cf_edit.flushed_seq = Some(family.flushed);
            edit.cfs.push(cf_edit);
        }
        let dir = &self.store.dir;
        self.store.fs.sync_dir(dir).map_err(|e| Error::io(format!("sync {}", dir.display()), e))?;
        edit.next_file = Some(self.files.peek());
        self.manifest.append(&edit)?;
        self.state = self.state.apply(&edit)?;
        for cf in self.state.cfs.values() {
            tables::adopt(&cf.version, &self.store);
        }
        self.reserved = 0;
        Ok(())
    }

    /// Puts the parts together and queues what replay sealed.
    fn into_core(self, wal: Wal, events: Arc<Hub>) -> Result<Arc<Core>> {
        let mut cfs = Vec::with_capacity(self.families.len());
        let mut accounts = Vec::with_capacity(self.families.len());
        let mut groups = Vec::new();
        for family in self.families {
            let Some(cf) = self.state.cf(family.handle.id()) else { continue };
            let sealed: Vec<Sealed> = family.sealed.iter().rev().map(|(s, _)| s.clone()).collect();
            for (sealed, cut) in family.sealed {
                groups.push((sealed.group, cut, family.handle.clone(), sealed));
            }
            cfs.push(Some(Arc::new(CfState {
                family: family.handle,
                active: family.active,
                sealed,
                version: Arc::clone(&cf.version),
                counters: Arc::new(cf.counters.clone()),
                flushed: cf.flushed_seq,
            })));
            accounts.push(Some(family.account));
        }
        groups.sort_by_key(|(id, ..)| *id);
        let lsn = wal.appended_lsn();
        let commit = CommitState {
            next: self.last.next(),
            accounts,
            unlogged: None,
            closed: false,
            lsn,
            log_checked: lsn,
            tunables: self.options.tunables(),
            pacing: commit::Pacing::default(),
        };
        let core = Arc::new(Core::new(Parts {
            options: self.options.clone(),
            owner: self.owner,
            epoch: self.state.epoch,
            store: self.store,
            wal,
            commit,
            read_state: ReadStateCell::new(ReadState::new(cfs)),
            versions: Versions::new(self.state, self.manifest),
            files: self.files,
            memtable_bytes: self.reserved,
            memtable_ids: self.memtable_ids,
            recovery: self.recovery,
            events,
        }));
        core.flushes.skip_ids(self.groups);
        for (id, cut, family, sealed) in groups {
            let members = vec![flush::Member { family, sealed }];
            let now_us = core.env.clock.monotonic_us();
            let reason = FlushReason::Recovery;
            core.flushes.push(flush::FlushGroup::new(id, cut, lsn, reason, members, now_us));
        }
        Ok(core)
    }
}
