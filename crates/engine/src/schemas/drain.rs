//! Drains: the rewriting of what is left under a key schema that no range writes any more.
//!
//! ```text
//!   drain_schema ──> Running <──resume/pause──> Paused        in the manifest: a restart goes on
//!                       │ no table, no writer                 cancel_drain: out of it, at any time
//!                       ▼
//!                     Done                                    out of the manifest, told for a while
//! ```
//! The work is compactions of one table each (`compaction/picker/drain.rs`), in their turn among the
//! others; ordinary compactions convert tables as well. So a drain counts what is left, not what it
//! did: done is what it began with, less that.
//!
//! The race: a flush or a compaction that began with a map of before may install a table under the
//! schema after the last one was rewritten. A drain therefore ends under the versions lock, with a
//! look at the version and at who has a map of before (see [`super::FamilySchemas`]).

use super::api::gone;
use crate::{
    ColumnFamily, Db, Result,
    core::Core,
    tables::{CfVersion, TableFile, VersionState},
    version::{CfEdit, CfState, Drain},
};
use sluice_base::{CfId, Error, ErrorKind};
use sluice_env::sync::{Mutex, MutexGuard, PoisonError};
use sluice_table::SchemaId;
use std::{cell::RefCell, collections::VecDeque, sync::Arc};

/// Most drains that have ended and are still told of.
const ENDED_MAX: usize = 256;

/// How long the end of a drain that could not be written waits for its next attempt.
const RETRY_US: u64 = 1_000_000;

/// Where a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DrainState {
    /// Tables are rewritten, or it is waited for writers that began before the schema was replaced.
    Running,
    /// Held back by [`Db::pause_drain`], also across restarts. Ordinary compactions go on.
    Paused,
    /// No table is under the schema, and none will be.
    Done,
}

impl DrainState {
    /// The name in texts.
    pub fn name(self) -> &'static str {
        match self {
            DrainState::Running => "running",
            DrainState::Paused => "paused",
            DrainState::Done => "done",
        }
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainStatus {
    /// The column family.
    pub cf: String,
    /// The key schema that is to be left by every table of the family.
    pub id: SchemaId,
    pub state: DrainState,
    /// Tables under the schema, and their bytes.
    pub tables_left: u64,
    pub bytes_left: u64,
    /// What was under it when the drain was begun, less what is left.
    pub tables_done: u64,
    pub bytes_done: u64,
}

/// What the running engine knows of drains besides the manifest.
#[derive(Debug, Default)]
pub(crate) struct Drains(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Those that ended since the opening, oldest first.
    ended: VecDeque<(CfId, DrainStatus)>,
    /// No end is written before this moment, in monotonic microseconds.
    not_before_us: u64,
    /// The last attempt to write an end failed.
    has_failed: bool,
}

impl Drains {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, cf: CfId, status: DrainStatus) {
        let mut inner = self.lock();
        inner.ended.retain(|(id, other)| (*id, &other.id) != (cf, &status.id));
        if inner.ended.len() >= ENDED_MAX {
            inner.ended.pop_front();
        }
        inner.ended.push_back((cf, status));
    }

    pub(super) fn forget(&self, cf: CfId, id: &SchemaId) {
        self.lock().ended.retain(|(of, other)| (*of, &other.id) != (cf, id));
    }

    pub(crate) fn retry_now(&self) {
        self.lock().not_before_us = 0;
    }
}

impl Db {
    /// Begins to rewrite every table of `cf` that is under the key schema `id`, in the background,
    /// each under the schema of its keys' range; or finds that it is being done. Survives a restart.
    /// Costs what compacting those tables once costs; readers and writers go on.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use sluicedb::{Background, Db, DrainState, FlushRequest, KeySchema, Options};
    /// let options = Options { background: Background::Stepped, ..Options::default() };
    /// let db = Db::open(dir.path(), options)?;
    /// let (cf, old) = (db.default_cf(), db.default_cf().key_schema().id());
    /// db.put(&cf, b"key", b"value")?;
    /// db.flush(FlushRequest::default())?;
    /// while db.step() {}
    /// db.set_key_schema(&cf, KeySchema::parse("events", 1, "day u16, rest")?)?;
    /// assert_eq!(db.drain_schema(&cf, &old)?.tables_left, 1);
    /// while db.step() {}
    /// assert_eq!(db.drains()[0].state, DrainState::Done);
    /// assert!(db.schema_tables(&old.name).is_empty());
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` while a range of the family writes the schema; `NotFound` for a schema that the
    /// database does not know, and for a family that has been dropped; `Closed`; those of the
    /// manifest's write.
    pub fn drain_schema(&self, cf: &ColumnFamily, id: &SchemaId) -> Result<DrainStatus> {
        start(self.core(), cf, id)
    }

    /// Every drain that was begun and not cancelled, by family; those that ended are told of until
    /// the database is closed.
    pub fn drains(&self) -> Vec<DrainStatus> {
        // Without the versions lock, which a write to the manifest holds. A drain that ends in between
        // is found in both places: the second says how it ended.
        let core = self.core();
        let read_state = core.read_state.load_full();
        let mut all: Vec<DrainStatus> = Vec::new();
        for cf in read_state.families() {
            let drains = cf.family.schemas().drains();
            let name = cf.family.name();
            all.extend(drains.iter().filter_map(|drain| status(core, name, &cf.version, drain)));
        }
        for (of, status) in &core.drains.lock().ended {
            if read_state.families().any(|cf| cf.family.id() == *of) {
                all.retain(|running| (&running.cf, &running.id) != (&status.cf, &status.id));
                all.push(status.clone());
            }
        }
        all
    }

    /// Holds a drain back until [`Db::resume_drain`]; the table that is being rewritten is finished.
    /// A drain that has ended stays as it is.
    ///
    /// # Errors
    /// `NotFound` when there is no such drain; `Closed`; those of the manifest's write.
    pub fn pause_drain(&self, cf: &ColumnFamily, id: &SchemaId) -> Result<DrainStatus> {
        set_paused(self.core(), cf, id, true)
    }

    /// Lets a drain go on.
    ///
    /// # Errors
    /// As [`Db::pause_drain`].
    pub fn resume_drain(&self, cf: &ColumnFamily, id: &SchemaId) -> Result<DrainStatus> {
        set_paused(self.core(), cf, id, false)
    }

    /// Ends a drain where it is, and returns how far it had come. What was rewritten stays so. One
    /// that has ended is told of no more.
    ///
    /// # Errors
    /// As [`Db::pause_drain`].
    pub fn cancel_drain(&self, cf: &ColumnFamily, id: &SchemaId) -> Result<DrainStatus> {
        cancel(self.core(), cf, id)
    }
}

/// What a family has under a schema.
fn left(version: &CfVersion, schema: u32) -> (u64, u64) {
    let tables = version.tables().filter(|(_, handle)| handle.meta.schema == schema);
    tables.fold((0, 0), |(tables, bytes), (_, handle)| {
        (tables + 1, bytes.saturating_add(handle.meta.bytes))
    })
}

fn status(core: &Core, cf: &str, version: &CfVersion, drain: &Drain) -> Option<DrainStatus> {
    let (tables_left, bytes_left) = left(version, drain.schema);
    Some(DrainStatus {
        cf: cf.to_owned(),
        id: core.store.schemas.get(drain.schema).ok()?.id(),
        state: if drain.is_paused { DrainState::Paused } else { DrainState::Running },
        tables_left,
        bytes_left,
        tables_done: drain.tables.saturating_sub(tables_left),
        bytes_done: drain.bytes.saturating_sub(bytes_left),
    })
}

/// The index of a schema that the manifest defines.
fn index_of(core: &Core, state: &VersionState, id: &SchemaId) -> Option<u32> {
    core.store.schemas.find(|index, schema| {
        (index == super::registry::WHOLE_KEY || state.schemas.contains_key(&index))
            && schema.id() == *id
    })
}

fn family<'a>(state: &'a VersionState, cf: &ColumnFamily) -> Result<&'a CfState<TableFile>> {
    state.cf(cf.id()).map(|cf| &**cf).ok_or_else(|| gone(cf))
}

fn start(core: &Arc<Core>, cf: &ColumnFamily, id: &SchemaId) -> Result<DrainStatus> {
    core.check_family(cf)?;
    core.check_open(&core.commit.lock())?;
    let mut begun = None;
    let outcome = change(core, cf, |state, family| {
        let index = index_of(core, state, id).ok_or_else(|| {
            let text = format!("no table and no range of the database is under key schema {id}");
            Error::new(ErrorKind::NotFound, text)
        })?;
        refuse_written(family, index, id)?;
        if let Some(drain) = family.drains.iter().find(|drain| drain.schema == index) {
            return Ok(Change::None(status(core, &family.name, &family.version, drain)));
        }
        let (tables, bytes) = left(&family.version, index);
        let drain = Drain { schema: index, is_paused: false, tables, bytes };
        let now = status(core, &family.name, &family.version, &drain);
        begun = now.clone();
        let drains = family.drains.iter().copied().chain([drain]).collect();
        Ok(Change::To(drains, now))
    })?;
    if let Some(status) = &begun {
        core.events.drain_begin(status);
    }
    core.background.wake_compaction();
    outcome.ok_or_else(|| none(cf, id))
}

/// A drain of a schema that is still written would never end.
fn refuse_written(family: &CfState<TableFile>, index: u32, id: &SchemaId) -> Result<()> {
    let ranges = family.schema_map.ranges();
    let Some(range) = ranges.iter().position(|(_, schema)| *schema == index) else {
        return Ok(());
    };
    let start = ranges[range].0.escape_ascii();
    let end = match family.schema_map.end(range) {
        Some(end) => format!("to before \"{}\"", end.escape_ascii()),
        None => "on".to_owned(),
    };
    Err(Error::invalid(format!(
        "keys from \"{start}\" {end} of column family '{}' are written under key schema {id}: set \
         another schema for them first, then drain",
        family.name
    )))
}

fn set_paused(
    core: &Arc<Core>,
    cf: &ColumnFamily,
    id: &SchemaId,
    is_paused: bool,
) -> Result<DrainStatus> {
    if let Some(ended) = find_ended(core, cf, id) {
        return Ok(ended);
    }
    let outcome = change(core, cf, |state, family| {
        let index = index_of(core, state, id);
        let mut drains = family.drains.clone();
        let Some(drain) = drains.iter_mut().find(|drain| Some(drain.schema) == index) else {
            return Ok(Change::None(None));
        };
        drain.is_paused = is_paused;
        let now = status(core, &family.name, &family.version, drain);
        Ok(Change::To(drains, now))
    })?;
    core.background.wake_compaction();
    outcome.ok_or_else(|| none(cf, id))
}

fn cancel(core: &Arc<Core>, cf: &ColumnFamily, id: &SchemaId) -> Result<DrainStatus> {
    if let Some(ended) = find_ended(core, cf, id) {
        core.drains.forget(cf.id(), id);
        return Ok(ended);
    }
    let outcome = change(core, cf, |state, family| {
        let index = index_of(core, state, id);
        let Some(drain) = family.drains.iter().find(|drain| Some(drain.schema) == index) else {
            return Ok(Change::None(None));
        };
        let drains = family.drains.iter().filter(|other| other.schema != drain.schema);
        Ok(Change::To(
            drains.copied().collect(),
            status(core, &family.name, &family.version, drain),
        ))
    })?;
    let status = outcome.ok_or_else(|| none(cf, id))?;
    core.events.drain_end(&status);
    Ok(status)
}

fn find_ended(core: &Core, cf: &ColumnFamily, id: &SchemaId) -> Option<DrainStatus> {
    let drains = core.drains.lock();
    let of = |(of, status): &&(CfId, DrainStatus)| *of == cf.id() && status.id == *id;
    drains.ended.iter().find(of).map(|(_, status)| status.clone())
}

fn none(cf: &ColumnFamily, id: &SchemaId) -> Error {
    let text = format!("key schema {id} is not being drained from column family '{}'", cf.name());
    Error::new(ErrorKind::NotFound, text)
}

/// What becomes of a family's drains, and the status to tell.
enum Change {
    None(Option<DrainStatus>),
    To(Vec<Drain>, Option<DrainStatus>),
}

/// Changes the drains of a family by one edit, unless nothing changes.
fn change(
    core: &Arc<Core>,
    cf: &ColumnFamily,
    decide: impl FnOnce(&VersionState, &CfState<TableFile>) -> Result<Change>,
) -> Result<Option<DrainStatus>> {
    core.check_family(cf)?;
    core.check_open(&core.commit.lock())?;
    let told = RefCell::new(None);
    core.versions.apply_if(
        core,
        |state| {
            let (drains, status) = match decide(state, family(state, cf)?)? {
                Change::None(status) => (None, status),
                Change::To(drains, status) => (Some(drains), status),
            };
            told.replace(status);
            Ok(drains.map(|drains| CfEdit { drains: Some(drains), ..CfEdit::new(cf.id()) }.into()))
        },
        |versions| {
            // In this order: whoever looks finds a drain that ends among those that ended, or still
            // among the others, and one that begins in one place only.
            match &*told.borrow() {
                Some(status) if status.state == DrainState::Done => {
                    core.drains.ended(cf.id(), status.clone());
                }
                Some(status) => core.drains.forget(cf.id(), &status.id),
                None => {}
            }
            if let Some(family) = versions.state.cf(cf.id()) {
                cf.schemas().set_drains(family.drains.clone());
            }
        },
    )?;
    Ok(told.into_inner())
}

/// Ends the drains that have nothing left to do and nobody to wait for; says whether there was one.
pub(crate) fn end_ready(core: &Arc<Core>) -> bool {
    let now_us = core.env.clock.monotonic_us();
    if core.drains.lock().not_before_us > now_us {
        return false;
    }
    let read_state = core.read_state.load_full();
    let mut any = false;
    for cf in read_state.families() {
        for drain in cf.family.schemas().drains() {
            // Looked at again under the lock; here only to leave the lock alone.
            let has_tables = cf.version.tables().any(|(_, h)| h.meta.schema == drain.schema);
            if drain.is_paused || has_tables {
                continue;
            }
            match end(core, &cf.family, drain.schema) {
                Ok(ended) => any |= ended,
                Err(error) => {
                    core.health.background_error("drain", &error);
                    let mut inner = core.drains.lock();
                    (inner.not_before_us, inner.has_failed) = (now_us + RETRY_US, true);
                    return any;
                }
            }
        }
    }
    // Also when what failed was cancelled or went with its family: nothing is wrong any more.
    if std::mem::take(&mut core.drains.lock().has_failed) {
        sluice_env::probe!("drain: its end was written at another attempt, or not needed");
        core.health.background_ok("drain");
    }
    any
}

fn end(core: &Arc<Core>, cf: &ColumnFamily, schema: u32) -> Result<bool> {
    let status = change(core, cf, |_, family| {
        let drain = family.drains.iter().find(|drain| drain.schema == schema);
        let Some(drain) = drain.filter(|drain| !drain.is_paused) else {
            return Ok(Change::None(None));
        };
        if left(&family.version, schema).0 > 0 {
            return Ok(Change::None(None));
        }
        if cf.schemas().is_written_by_an_old_map(schema) {
            sluice_env::probe!("drain: waited for a writer that began before");
            return Ok(Change::None(None));
        }
        let rest = family.drains.iter().filter(|other| other.schema != schema);
        let status = status(core, &family.name, &family.version, drain);
        let status = status.map(|status| DrainStatus { state: DrainState::Done, ..status });
        Ok(Change::To(rest.copied().collect(), status))
    })?;
    if let Some(status) = &status {
        sluice_env::probe!("drain: ended");
        core.events.drain_end(status);
    }
    Ok(status.is_some())
}

/// Tells of a table that a drain rewrote.
pub(crate) fn progress(core: &Core, cf: &ColumnFamily, schema: u32) {
    let status = core.versions.look(|state| {
        let cf = state.cf(cf.id())?;
        let drain = cf.drains.iter().find(|drain| drain.schema == schema)?;
        status(core, &cf.name, &cf.version, drain)
    });
    if let Some(status) = status {
        core.events.drain_progress(&status);
    }
}
