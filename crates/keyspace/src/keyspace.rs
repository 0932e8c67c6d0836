//! The keyspace as a whole: what all transactions share, and what is done for all keys at once.

use crate::{
    databases::{self, Databases, Maintenance},
    expiry::{self, Expired},
    latch::Latches,
    layout,
    row::Head,
    scan::ScanTable,
    schemas,
    txn::Txn,
    watch::{WatchList, Watches},
};
use sluicedb::{CfOptions, ColumnFamily, Db, ErrorKind, KeySchema, Result, WriteOptions};
use std::sync::Arc;

/// What [`Keyspace::open`] needs to know.
#[derive(Debug, Clone)]
pub struct KeyspaceOptions {
    /// How many databases there are: 1 to 16384.
    pub databases: u32,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        KeyspaceOptions { databases: 16 }
    }
}

/// A line of INFO's keyspace section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatabaseStats {
    /// Keys stored, those that are due and not deleted yet included.
    pub keys: u64,
    /// How many of them have an expiry.
    pub expires: u64,
}

#[derive(Debug)]
pub(crate) struct Families {
    pub(crate) system: ColumnFamily,
    pub(crate) meta: ColumnFamily,
    pub(crate) expire: ColumnFamily,
    pub(crate) data: ColumnFamily,
    pub(crate) score: ColumnFamily,
    pub(crate) stream: ColumnFamily,
}

impl Families {
    /// Those whose keys begin with a namespace.
    pub(crate) fn by_namespace(&self) -> [&ColumnFamily; 4] {
        [&self.meta, &self.data, &self.score, &self.stream]
    }

    /// Those that have a key schema of their own.
    pub(crate) fn with_schema(&self) -> [(&'static str, &ColumnFamily); 4] {
        [
            ("meta", &self.meta),
            ("data", &self.data),
            ("score", &self.score),
            ("expire", &self.expire),
        ]
    }
}

/// What every transaction, watch list and background task has in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) families: Families,
    pub(crate) databases: Databases,
    pub(crate) latches: Latches,
    pub(crate) watches: Watches,
    pub(crate) scans: ScanTable,
}

impl Shared {
    /// Reads outside a transaction whether a key is stored although its time is over. The caller
    /// holds the key's latch, so the mapping cannot change.
    pub(crate) fn is_stored_and_due(&self, db: u32, key: &[u8], now_ms: u64) -> Result<bool> {
        let mapping = self.databases.current();
        let Some(&namespace) = mapping.namespaces.get(db as usize) else { return Ok(false) };
        if key.len() > layout::USER_KEY_BYTES_MAX {
            return Ok(false);
        }
        let mut engine_key = Vec::new();
        layout::meta_key(&mut engine_key, namespace, key);
        let view = self.db.view();
        match view.get(&self.families.meta, &engine_key)? {
            None => Ok(false),
            Some(row) => Ok(Head::decode(&row)?.0.is_due(now_ms)),
        }
    }
}

/// The Redis data model over one engine. Clones share everything.
///
/// ```
/// # fn main() -> sluicedb::Result<()> {
/// use sluice_keyspace::{Head, Keyspace, KeyspaceOptions, LatchSet};
/// let dir = std::env::temp_dir().join("sluice-keyspace-example");
/// let db = sluicedb::Db::open(&dir, sluicedb::Options::default())?;
/// let keyspace = Keyspace::open(db, KeyspaceOptions::default())?;
///
/// let mut txn = keyspace.transaction();
/// let mut latches = LatchSet::new();
/// latches.add_key(b"greeting");
/// txn.begin_write(1_000, &latches);
/// txn.put(0, b"greeting", Head::string(None), &[b"hello"])?;
/// txn.commit(&sluicedb::WriteOptions::default())?;
///
/// txn.begin_read(1_001);
/// assert_eq!(txn.lookup(0, b"greeting")?.unwrap().payload(), b"hello");
/// txn.end();
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Keyspace {
    shared: Arc<Shared>,
}

impl Keyspace {
    /// Opens the data model in `db`, creating its column families in a new one. Families get their
    /// key schemas ([`crate::FAMILY_SCHEMAS`]) unless others were chosen for them.
    ///
    /// # Errors
    /// `Invalid` for a database count out of range, `Corruption` for system rows that cannot be
    /// read, and whatever the engine refuses with.
    pub fn open(db: Db, options: KeyspaceOptions) -> Result<Keyspace> {
        let families = Families {
            system: family(&db, "default")?,
            meta: family(&db, "meta")?,
            expire: family(&db, "expire")?,
            data: family(&db, "data")?,
            score: family(&db, "score")?,
            stream: family(&db, "stream")?,
        };
        schemas::apply(&db, &families)?;
        let databases = Databases::load(&db, &families.system, options.databases)?;
        let (latches, watches, scans) = (Latches::new(), Watches::new(), ScanTable::new());
        let shared = Shared { db, families, databases, latches, watches, scans };
        Ok(Keyspace { shared: Arc::new(shared) })
    }

    /// Changes how keys in `start..end` of the column family `cf` are written from now on (`end:
    /// None`: to the last key). For an operator: from then on no open gives the family another
    /// schema, not even when this one is the default. Waits for the disk.
    ///
    /// # Errors
    /// `Invalid` for an empty range, and those of the engine. Nothing has changed then.
    pub fn choose_key_schema(
        &self,
        cf: &ColumnFamily,
        start: &[u8],
        end: Option<&[u8]>,
        schema: KeySchema,
    ) -> Result<()> {
        schemas::note_choice(&self.shared.db, &self.shared.families, cf.name())?;
        self.shared.db.set_key_schema_in(cf, start, end, schema)
    }

    /// An idle transaction. Its buffers grow to what commands need and stay: keep one per event
    /// loop.
    pub fn transaction(&self) -> Txn {
        Txn::new(Arc::clone(&self.shared))
    }

    /// An empty watch list for a client.
    pub fn watch_list(&self) -> WatchList {
        WatchList::new(Arc::clone(&self.shared))
    }

    /// The engine underneath.
    pub fn db(&self) -> &Db {
        &self.shared.db
    }

    pub fn database_count(&self) -> u32 {
        self.shared.databases.current().namespaces.len() as u32
    }

    /// The numbers of one database; zeros for one that does not exist.
    pub fn stats(&self, db: u32) -> DatabaseStats {
        let mapping = self.shared.databases.current();
        let Some(&namespace) = mapping.namespaces.get(db as usize) else {
            return DatabaseStats::default();
        };
        let count = |family| self.shared.db.counter(family, u32::from(namespace)).max(0) as u64;
        DatabaseStats {
            keys: count(&self.shared.families.meta),
            expires: count(&self.shared.families.expire),
        }
    }

    /// Deletes keys whose time is over, at most `limit` of them, oldest first. For the server's
    /// periodic task; the calling thread holds no latch.
    ///
    /// # Errors
    /// Those of the engine; nothing of the step was kept then.
    pub fn expire_due(&self, now_ms: u64, limit: usize, options: &WriteOptions) -> Result<Expired> {
        expiry::expire_due(&self.shared, now_ms, limit, options)
    }

    /// Deletes up to `limit` rows that FLUSHDB and FLUSHALL left behind. For the server's periodic
    /// task; goes on where it was after a restart.
    ///
    /// # Errors
    /// Those of the engine; nothing of the step was kept then.
    pub fn maintenance(&self, limit: usize, options: &WriteOptions) -> Result<Maintenance> {
        databases::purge(&self.shared, limit, options)
    }

    /// Whether [`Keyspace::maintenance`] has something to do.
    pub fn maintenance_is_due(&self) -> bool {
        self.shared.databases.purge_is_pending()
    }
}

fn family(db: &Db, name: &str) -> Result<ColumnFamily> {
    if let Some(found) = db.column_family(name) {
        return Ok(found);
    }
    match db.create_column_family(name, CfOptions::default()) {
        // Someone else was faster.
        Err(e) if e.kind() == ErrorKind::Exists => db.column_family(name).ok_or(e),
        other => other,
    }
}
