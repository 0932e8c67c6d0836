//! [`ColumnFamily`]: a caller's handle on a named key space. A name and two numbers; the state it
//! stands for lives in [`crate::read_state`].

use crate::schemas::FamilySchemas;
use sluice_base::CfId;
use sluice_table::{KeySchema, SkipCounters};
use std::sync::Arc;

/// A handle on one column family: cheap to clone, valid as long as its [`crate::Db`] is open.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use sluicedb::{CfOptions, Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let users = db.create_column_family("users", CfOptions::default())?;
/// db.put(&users, b"1", b"ada")?;
/// assert_eq!(db.get(&db.default_cf(), b"1")?, None);
/// assert_eq!(db.column_family("users").map(|cf| cf.id()), Some(users.id()));
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ColumnFamily(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: CfId,
    name: String,
    slot: usize,
    wal: bool,
    /// How the next tables are written.
    schemas: FamilySchemas,
    owner: Arc<DbId>,
}

/// One open database's identity: its address. Handles keep it alive, so that no later database
/// can get the same.
#[derive(Debug, Default)]
pub(crate) struct DbId {
    /// What predicates spared its readers. Here because every family has the way to it.
    skips: Arc<SkipCounters>,
}

impl DbId {
    #[inline]
    pub(crate) fn number(self: &Arc<DbId>) -> u64 {
        Arc::as_ptr(self) as u64
    }

    /// What predicates spared the readers of this database.
    pub(crate) fn skips(&self) -> &Arc<SkipCounters> {
        &self.skips
    }
}

impl ColumnFamily {
    pub(crate) fn new(
        id: CfId,
        name: &str,
        slot: usize,
        wal: bool,
        schemas: FamilySchemas,
        owner: &Arc<DbId>,
    ) -> ColumnFamily {
        ColumnFamily(Arc::new(Inner {
            id,
            name: name.to_owned(),
            slot,
            wal,
            schemas,
            owner: Arc::clone(owner),
        }))
    }

    /// How tables of the family are written now: those of the lowest keys, where
    /// [`crate::Db::key_schemas`] has several ranges.
    pub fn key_schema(&self) -> Arc<KeySchema> {
        self.0.schemas.current().first()
    }

    pub(crate) fn schemas(&self) -> &FamilySchemas {
        &self.0.schemas
    }

    /// Whether its writes are logged: [`crate::CfOptions::wal`].
    #[inline]
    pub fn wal(&self) -> bool {
        self.0.wal
    }

    /// The family's number: never reused in the life of the database.
    pub fn id(&self) -> CfId {
        self.0.id
    }

    /// The name it was created with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Index into the read state's families. Unlike the id it is dense, and private to this
    /// opening of the database.
    #[inline]
    pub(crate) fn slot(&self) -> usize {
        self.0.slot
    }

    /// The [`crate::Db`] it belongs to: a handle of another database must be refused, not
    /// mistaken for the family that has the same slot here.
    #[inline]
    pub(crate) fn owner(&self) -> u64 {
        self.0.owner.number()
    }

    pub(crate) fn skips(&self) -> &Arc<SkipCounters> {
        self.0.owner.skips()
    }

    #[cfg(test)]
    pub(crate) fn for_test(id: u32, slot: usize, owner: &Arc<DbId>) -> ColumnFamily {
        ColumnFamily::new(CfId(id), "test", slot, true, FamilySchemas::for_test(), owner)
    }
}
