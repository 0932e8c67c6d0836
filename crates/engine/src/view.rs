//! Reading: [`ReadView`], [`Snapshot`] and [`Iter`].

use crate::{
    ColumnFamily, ReadOptions, Result, SeqNo,
    core::Core,
    iter::{Bounds, LevelIter, Selected},
    memtable::MemtableIter,
    read_state::{CfState, ReadState},
    slice::PinnedSlice,
    table_source::{DbIter, Source, TableRun, table_iter},
    tables,
};
use sluice_base::{Error, ErrorKind, Kind, Level, Trailer};
use sluice_table::{IterOptions, PinnedValue};
use std::{fmt, sync::Arc};

/// A consistent view of **all** column families, as of the moment it was taken. Taking one takes
/// no lock and registers nothing; in exchange it pins the memtables and tables it reads, so keep
/// it short. For a view that lives long take a [`Snapshot`].
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = sluicedb::Db::open(dir.path(), sluicedb::Options::default())?;
/// let cf = db.default_cf();
/// db.put(&cf, b"key", b"old")?;
/// let view = db.view();
/// db.put(&cf, b"key", b"new")?;
/// assert_eq!(view.get(&cf, b"key")?.as_deref(), Some(&b"old"[..]));
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Clone)]
pub struct ReadView {
    state: Arc<ReadState>,
    seq: SeqNo,
    owner: u64,
}

impl fmt::Debug for ReadView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadView").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl ReadView {
    /// A view of the present.
    #[inline]
    pub(crate) fn new(core: &Core) -> ReadView {
        let (state, seq) = core.read_state.cut(&core.ring);
        ReadView { state, seq, owner: core.owner.number() }
    }

    /// A view of the past that a snapshot has kept readable.
    fn at(core: &Core, seq: SeqNo) -> ReadView {
        ReadView { state: core.read_state.load_full(), seq, owner: core.owner.number() }
    }

    /// The last sequence number this view sees.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    #[inline]
    fn cf(&self, cf: &ColumnFamily) -> Result<&Arc<CfState>> {
        if cf.owner() == self.owner
            && let Some(state) = self.state.cf(cf.slot())
        {
            return Ok(state);
        }
        Err(Error::new(
            ErrorKind::NotFound,
            format!("column family '{}' does not exist in this view of this Db", cf.name()),
        ))
    }

    /// The value of `key`, without a copy.
    ///
    /// # Errors
    /// `NotFound` for a family that this view does not have; `Corruption` or `Io` when the value,
    /// or the search for it, needs a block that cannot be read.
    pub fn get(&self, cf: &ColumnFamily, key: &[u8]) -> Result<Option<PinnedSlice<'_>>> {
        get(self.cf(cf)?, key, self.seq)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// Those of [`ReadView::get`].
    pub fn exists(&self, cf: &ColumnFamily, key: &[u8]) -> Result<bool> {
        Ok(self.get(cf, key)?.is_some())
    }

    /// A cursor over one column family. It keeps what it reads alive by itself.
    ///
    /// # Errors
    /// As [`ReadView::get`], for what is read to begin with.
    pub fn iter(&self, cf: &ColumnFamily, options: ReadOptions) -> Result<Iter> {
        let cf_state = self.cf(cf)?;
        let prefix = options.prefix.as_deref().map(Arc::from);
        let counted = prefix.is_some() || options.predicate.is_some();
        let mut bounds = Bounds::new(options.lower, options.upper, options.prefix);
        if let Some(predicate) = &options.predicate {
            // What matches begins so: tables and memtables are not searched elsewhere.
            bounds = bounds.within(predicate.key_prefix());
        }
        let table_options = IterOptions {
            fill_cache: !options.skip_cache_fill,
            prefix,
            skips: counted.then(|| Arc::clone(cf.skips())),
            lower: options.predicate.as_ref().and(bounds.lower()).map(Arc::from),
            upper: options.predicate.as_ref().and(bounds.upper()).map(Arc::from),
            predicate: options.predicate,
            ..Default::default()
        };
        let bounds = Arc::new(bounds);
        let children = children(cf_state, &bounds, &table_options)?;
        let inner = DbIter::new(children, self.seq, bounds).keys_only(options.keys_only);
        Ok(Iter { inner })
    }
}

/// Point lookup in one family at `seq`: newest source first, and the first entry found decides.
#[inline]
fn get<'v>(cf: &'v CfState, key: &[u8], seq: SeqNo) -> Result<Option<PinnedSlice<'v>>> {
    let seek = Trailer::seek(seq);
    let memtables = std::iter::once(&cf.active).chain(cf.sealed.iter().map(|s| &s.memtable));
    for memtable in memtables {
        if let Some((trailer, value)) = memtable.get(key, seek) {
            return Ok((trailer.kind() == Some(Kind::Put)).then(|| PinnedSlice::memtable(value)));
        }
    }
    if cf.version.table_count() == 0 {
        return Ok(None);
    }
    match get_from_tables(cf, key, seek)? {
        Some((trailer, value)) if trailer.kind() == Some(Kind::Put) => {
            Ok(Some(PinnedSlice::block(value)))
        }
        _ => Ok(None),
    }
}

fn get_from_tables(
    cf: &CfState,
    key: &[u8],
    seek: Trailer,
) -> Result<Option<(Trailer, PinnedValue)>> {
    let hash = sluice_table::filter_hash(key);
    for handle in cf.version.l0_candidates(key) {
        if let Some(found) = tables::opened(handle)?.get(key, hash, seek)? {
            return Ok(Some(found));
        }
    }
    for level in 1..Level::COUNT as u8 {
        if let Some(handle) = cf.version.level_candidate(Level(level), key)
            && let Some(found) = tables::opened(handle)?.get(key, hash, seek)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The sorted sources of one family, newest first.
fn children(cf: &CfState, bounds: &Arc<Bounds>, options: &IterOptions) -> Result<Vec<Source>> {
    let memtables = std::iter::once(&cf.active).chain(cf.sealed.iter().map(|s| &s.memtable));
    let mut children: Vec<Source> = memtables
        .map(|memtable| {
            let iter = MemtableIter::new(Arc::clone(memtable));
            match (&options.predicate, &options.skips) {
                (Some(predicate), Some(skips)) => {
                    let (predicate, skips) = (Arc::clone(predicate), Arc::clone(skips));
                    Source::Selected(Selected::new(iter, predicate, Arc::clone(bounds), skips))
                }
                _ => Source::Memtable(iter),
            }
        })
        .collect();
    for handle in cf.version.level(Level(0)) {
        children.push(Source::Table(table_iter(handle, options)?));
    }
    for level in 1..Level::COUNT as u8 {
        let tables = cf.version.level_list(Level(level));
        if !tables.is_empty() {
            let run = TableRun::new(tables, options.clone());
            children.push(Source::Level(LevelIter::bounded(run, Arc::clone(bounds))));
        }
    }
    Ok(children)
}

/// A registered view: its sequence number stays readable, in every column family, until it is
/// dropped. It pins no memtable and no file by itself.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let cf = db.default_cf();
/// db.put(&cf, b"key", b"old")?;
/// let snapshot = db.snapshot();
/// db.put(&cf, b"key", b"new")?;
/// assert_eq!(snapshot.view().get(&cf, b"key")?.as_deref(), Some(&b"old"[..]));
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug)]
pub struct Snapshot {
    core: Arc<Core>,
    seq: SeqNo,
}

impl Snapshot {
    pub(crate) fn new(core: &Arc<Core>) -> Snapshot {
        let seq = core.snapshots.register(|| core.ring.visible());
        Snapshot { core: Arc::clone(core), seq }
    }

    /// The last sequence number the snapshot sees.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    /// A view to read through, as cheap as any other.
    pub fn view(&self) -> ReadView {
        ReadView::at(&self.core, self.seq)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.core.snapshots.release(self.seq);
    }
}

/// A cursor over one column family in key order, both ways. Unpositioned at first. Each move
/// returns whether the cursor stands on an entry, or fails with `Corruption` or `Io` when it needs a
/// block that cannot be read.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options, ReadOptions};
/// # let db = Db::open(dir.path(), Options::default())?;
/// let cf = db.default_cf();
/// for key in ["a", "b", "c"] {
///     db.put(&cf, key.as_bytes(), b"")?;
/// }
/// let mut iter = db.iter(&cf, ReadOptions::default())?;
/// assert!(iter.seek_for_prev(b"bb")?);
/// assert_eq!(iter.key(), b"b");
/// assert!(iter.next()? && iter.key() == b"c" && !iter.next()?);
/// # Ok::<(), sluicedb::Error>(())
/// ```
pub struct Iter {
    inner: DbIter,
}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("valid", &self.valid()).finish_non_exhaustive()
    }
}

impl Iter {
    /// Moves to the first entry of the range.
    pub fn seek_to_first(&mut self) -> Result<bool> {
        self.inner.seek_to_first()
    }

    /// Moves to the last entry of the range.
    pub fn seek_to_last(&mut self) -> Result<bool> {
        self.inner.seek_to_last()
    }

    /// Moves to the first entry at or after `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.inner.seek(key)
    }

    /// Moves to the last entry at or before `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<bool> {
        self.inner.seek_for_prev(key)
    }

    /// Moves one entry on. From an unpositioned cursor: nowhere, `false`.
    #[allow(clippy::should_implement_trait, reason = "a cursor, not an Iterator: it borrows")]
    pub fn next(&mut self) -> Result<bool> {
        self.inner.next()
    }

    /// Moves one entry back.
    pub fn prev(&mut self) -> Result<bool> {
        self.inner.prev()
    }

    /// Whether the cursor stands on an entry.
    pub fn valid(&self) -> bool {
        self.inner.valid()
    }

    /// The entry's key.
    ///
    /// # Panics
    /// When the cursor does not stand on an entry.
    pub fn key(&self) -> &[u8] {
        self.inner.key()
    }

    /// The entry's value.
    ///
    /// # Panics
    /// When the cursor does not stand on an entry.
    pub fn value(&self) -> &[u8] {
        self.inner.value()
    }
}
