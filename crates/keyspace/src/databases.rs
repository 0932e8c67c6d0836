//! Which namespace each database has, so that FLUSHDB, FLUSHALL and SWAPDB are O(1): they change
//! this mapping, and what an abandoned namespace holds is deleted in the background.
//!
//! System rows, in column family `default`:
//!
//! ```text
//! "db"    + database u32 BE    → namespace u16 BE    only when it is not the database's number
//! "purge" + namespace u16 BE   → empty               abandoned, rows may be left
//! ```
//!
//! Namespaces below [`FIRST_FRESH`] belong to the database of the same number and are never handed
//! out; fresh ones come from above it and are used again once they are purged.
//!
//! Consistency with views: a reader takes its view first and the mapping second, and takes the view
//! again when the mapping is newer than it. A purge starts after the mapping was published, so a
//! reader that still has the old mapping has a view from before the purge and sees the namespace
//! whole. Writers hold a latch, and the mapping changes only under all of them.

use crate::{keyspace::Shared, layout::Namespace, row::Head};
use arc_swap::ArcSwap;
use sluicedb::{
    ColumnFamily, Db, Error, ErrorKind, ReadOptions, Result, SeqNo, WriteBatch, WriteOptions,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Databases there can be: the identity part of the namespaces.
pub(crate) const FIRST_FRESH: Namespace = 16384;
/// 0xffff is left for system rows in `meta`, should they ever be needed.
const LAST_FRESH: Namespace = 0xfffe;

const DB_ROW: &[u8] = b"db";
const PURGE_ROW: &[u8] = b"purge";

/// The namespace of every database, as of one position.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The write that made it. Views before it must not be read through it.
    pub(crate) since: SeqNo,
    pub(crate) namespaces: Box<[Namespace]>,
}

/// One pending change of a transaction: `db` gets `namespace`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) db: u32,
    pub(crate) namespace: Namespace,
}

/// What one call of [`crate::Keyspace::maintenance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maintenance {
    /// Rows of abandoned namespaces deleted.
    pub removed: usize,
    /// Whether there is more to do now.
    pub more: bool,
}

#[derive(Debug)]
pub(crate) struct Databases {
    mapping: ArcSwap<Mapping>,
    /// Abandoned namespaces, oldest first. Each has its purge row.
    queue: Mutex<Vec<Namespace>>,
    /// Held for a whole maintenance step: one purger at a time.
    cursor: Mutex<PurgeCursor>,
    /// Where the search for a fresh namespace goes on.
    next: Mutex<Namespace>,
}

/// Where the purge stands, so that a step does not walk over the tombstones of the one before.
/// Lost at a restart, which only costs that walk.
#[derive(Debug, Default)]
struct PurgeCursor {
    namespace: Option<Namespace>,
    family: usize,
    after: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics half way through a change; a poisoned lock guards whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn db_row(db: u32) -> [u8; 6] {
    let mut key = [0; 6];
    key[..2].copy_from_slice(DB_ROW);
    key[2..].copy_from_slice(&db.to_be_bytes());
    key
}

fn purge_row(namespace: Namespace) -> [u8; 7] {
    let mut key = [0; 7];
    key[..5].copy_from_slice(PURGE_ROW);
    key[5..].copy_from_slice(&namespace.to_be_bytes());
    key
}

/// A namespace as system rows have it: none above [`LAST_FRESH`] is ever given to a database, and
/// walks end at the namespace behind theirs.
fn known_namespace(bytes: &[u8]) -> Option<Namespace> {
    let namespace = Namespace::from_be_bytes(bytes.try_into().ok()?);
    (namespace <= LAST_FRESH).then_some(namespace)
}

impl Databases {
    /// Reads the system rows.
    pub(crate) fn load(db: &Db, system: &ColumnFamily, count: u32) -> Result<Databases> {
        if count == 0 || count > u32::from(FIRST_FRESH) {
            return Err(Error::invalid(format!(
                "databases is {count}, it must be between 1 and {FIRST_FRESH}"
            )));
        }
        let view = db.view();
        let mut namespaces = Vec::with_capacity(count as usize);
        for database in 0..count {
            let namespace = match view.get(system, &db_row(database))? {
                None => database as Namespace,
                Some(value) => known_namespace(&value)
                    .ok_or_else(|| damaged("namespace of a database", &value))?,
            };
            namespaces.push(namespace);
        }
        let mut queue = Vec::new();
        let options = ReadOptions { prefix: Some(PURGE_ROW.to_vec()), ..ReadOptions::default() };
        let mut rows = view.iter(system, options)?;
        let mut more = rows.seek_to_first()?;
        while more {
            let key = rows.key();
            let namespace = key
                .get(PURGE_ROW.len()..)
                .and_then(known_namespace)
                .ok_or_else(|| damaged("purge row", key))?;
            queue.push(namespace);
            more = rows.next()?;
        }
        let mapping = Mapping { since: SeqNo::ZERO, namespaces: namespaces.into() };
        Ok(Databases {
            mapping: ArcSwap::from_pointee(mapping),
            queue: Mutex::new(queue),
            cursor: Mutex::default(),
            next: Mutex::new(FIRST_FRESH),
        })
    }

    /// The mapping now. `cached` is what the caller had before; it comes back unchanged, without
    /// touching a shared reference count, when it is still the current one.
    pub(crate) fn refresh(&self, cached: &mut Arc<Mapping>) {
        let current = self.mapping.load();
        if !Arc::ptr_eq(&current, cached) {
            *cached = Arc::clone(&current);
        }
    }

    pub(crate) fn current(&self) -> Arc<Mapping> {
        self.mapping.load_full()
    }

    /// The database that has `namespace`; `None` once it is abandoned.
    pub(crate) fn database_of(&self, namespace: Namespace) -> Option<u32> {
        let mapping = self.mapping.load();
        mapping.namespaces.iter().position(|&n| n == namespace).map(|db| db as u32)
    }

    /// A namespace without rows. The caller holds every latch, and so does whoever publishes.
    pub(crate) fn fresh(&self, pending: &[Change]) -> Result<Namespace> {
        let mapping = self.mapping.load();
        let queue = lock(&self.queue);
        let mut next = lock(&self.next);
        for _ in FIRST_FRESH..=LAST_FRESH {
            let candidate = *next;
            *next = if candidate == LAST_FRESH { FIRST_FRESH } else { candidate + 1 };
            let taken = mapping.namespaces.contains(&candidate)
                || queue.contains(&candidate)
                || pending.iter().any(|change| change.namespace == candidate);
            if !taken {
                return Ok(candidate);
            }
        }
        Err(Error::new(
            ErrorKind::Stalled,
            "every namespace waits to be purged; flush again when the background has caught up",
        ))
    }

    /// Adds the rows of `changes` to a batch. What `abandoned` gets is to be given to `publish`.
    pub(crate) fn write_changes(
        &self,
        batch: &mut WriteBatch,
        system: &ColumnFamily,
        changes: &[Change],
        abandoned: &mut Vec<Namespace>,
    ) {
        let before = self.mapping.load();
        let after = apply(&before, changes);
        for (database, (&old, &new)) in before.namespaces.iter().zip(&after).enumerate() {
            if old != new {
                batch.put(system, &db_row(database as u32), &new.to_be_bytes());
            }
            if !after.contains(&old) {
                batch.put(system, &purge_row(old), b"");
                abandoned.push(old);
            }
        }
        // A fresh namespace that was given up inside the same transaction may hold its rows.
        for change in changes {
            let known = before.namespaces.contains(&change.namespace)
                || after.contains(&change.namespace)
                || abandoned.contains(&change.namespace);
            if !known {
                batch.put(system, &purge_row(change.namespace), b"");
                abandoned.push(change.namespace);
            }
        }
    }

    /// Makes `changes`, written at `since`, the current mapping, and queues the purges.
    pub(crate) fn publish(&self, since: SeqNo, changes: &[Change], abandoned: &[Namespace]) {
        let namespaces = apply(&self.mapping.load(), changes).into();
        self.mapping.store(Arc::new(Mapping { since, namespaces }));
        lock(&self.queue).extend_from_slice(abandoned);
    }

    /// Whether namespaces wait to be purged.
    pub(crate) fn purge_is_pending(&self) -> bool {
        !lock(&self.queue).is_empty()
    }
}

fn apply(mapping: &Mapping, changes: &[Change]) -> Vec<Namespace> {
    let mut namespaces = mapping.namespaces.to_vec();
    for change in changes {
        if let Some(slot) = namespaces.get_mut(change.db as usize) {
            *slot = change.namespace;
        }
    }
    namespaces
}

fn damaged(what: &str, found: &[u8]) -> Error {
    Error::new(
        ErrorKind::Corruption,
        format!("a system row is damaged: {what} is {found:02x?}, two bytes of namespace expected"),
    )
}

/// Deletes up to `limit` rows of abandoned namespaces, oldest namespace first.
pub(crate) fn purge(shared: &Shared, limit: usize, options: &WriteOptions) -> Result<Maintenance> {
    let databases = &shared.databases;
    let mut cursor = lock(&databases.cursor);
    let Some(namespace) = lock(&databases.queue).first().copied() else {
        return Ok(Maintenance { removed: 0, more: false });
    };
    if cursor.namespace != Some(namespace) {
        *cursor = PurgeCursor { namespace: Some(namespace), ..PurgeCursor::default() };
    }
    let families = shared.families.by_namespace();
    let view = shared.db.view();
    let mut batch = WriteBatch::new();
    let mut removed = 0;
    // The cursor moves only when the batch is in: a refused write repeats the step.
    let (mut family_index, mut after) = (cursor.family, cursor.after.clone());
    while let Some(&family) = families.get(family_index) {
        let range = ReadOptions {
            lower: Some(namespace.to_be_bytes().to_vec()),
            upper: Some((namespace + 1).to_be_bytes().to_vec()),
            skip_cache_fill: true,
            ..ReadOptions::default()
        };
        let mut rows = view.iter(family, range)?;
        let mut more = if after.is_empty() { rows.seek_to_first()? } else { rows.seek(&after)? };
        while more && removed < limit.max(1) {
            delete_row(shared, family, rows.key(), rows.value(), &mut batch);
            after.clear();
            after.extend_from_slice(rows.key());
            removed += 1;
            more = rows.next()?;
        }
        if more {
            break;
        }
        family_index += 1;
        after.clear();
    }
    let done = family_index == families.len();
    if done {
        // No writer can reach the namespace, so what its counters still say is what was purged.
        for family in [&shared.families.meta, &shared.families.expire] {
            let left = shared.db.counter(family, u32::from(namespace));
            if left != 0 {
                batch.add_counter(family, u32::from(namespace), left.wrapping_neg());
            }
        }
        batch.delete(&shared.families.system, &purge_row(namespace));
    }
    if !batch.is_empty() {
        shared.db.write(&batch, options)?;
    }
    if !done {
        cursor.family = family_index;
        cursor.after = after;
        return Ok(Maintenance { removed, more: true });
    }
    *cursor = PurgeCursor::default();
    let mut queue = lock(&databases.queue);
    queue.retain(|&queued| queued != namespace);
    Ok(Maintenance { removed, more: !queue.is_empty() })
}

fn delete_row(
    shared: &Shared,
    family: &ColumnFamily,
    key: &[u8],
    value: &[u8],
    batch: &mut WriteBatch,
) {
    batch.delete(family, key);
    let is_meta = family.id() == shared.families.meta.id();
    // A row that cannot be decoded leaves its index row, if any, to the expiry scan.
    if let (true, Ok((Head { expire_at: Some(at), .. }, _))) = (is_meta, Head::decode(value)) {
        let mut index = Vec::new();
        crate::layout::index_key(&mut index, at, key);
        batch.delete(&shared.families.expire, &index);
    }
}
