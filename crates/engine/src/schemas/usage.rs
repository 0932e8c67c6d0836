//! What is written under each key schema: counted from the version that readers have, without opening
//! a table and without the versions lock, which a write to the manifest holds.

use crate::{Db, core::Core, read_state::CfState, version::TableMeta};
use sluice_base::{FileNo, Level};
use sluice_table::{KeySchema, SchemaId};
use std::{collections::BTreeMap, sync::Arc};

/// What one column family has under one key schema: see [`Db::schema_usage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaUsage {
    /// The column family.
    pub cf: String,
    pub id: SchemaId,
    pub schema: Arc<KeySchema>,
    /// Key ranges whose new tables are written under it.
    pub ranges: u64,
    /// Tables that are there.
    pub tables: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Their entries, tombstones included.
    pub entries: u64,
}

/// A table under a key schema: see [`Db::schema_tables`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaTable {
    /// The column family.
    pub cf: String,
    pub level: Level,
    /// The number in the file's name.
    pub file: FileNo,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its entries, tombstones included.
    pub entries: u64,
    /// Its first and its last key.
    pub smallest: Vec<u8>,
    pub largest: Vec<u8>,
    pub id: SchemaId,
}

impl Db {
    /// What each column family has under each key schema, in the order of the families' ids: those
    /// that a range or a table is under, those that are being drained, and those under which a flush or
    /// a compaction may still bring a table that began before the schema was replaced.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use sluicedb::{Db, FlushRequest, KeySchema, Options};
    /// let db = Db::open(dir.path(), Options::default())?;
    /// db.put(&db.default_cf(), b"key", b"value")?;
    /// db.flush(FlushRequest::default())?.wait(None)?;
    /// db.set_key_schema(&db.default_cf(), KeySchema::parse("events", 1, "day u32, rest")?)?;
    /// let usage = db.schema_usage();
    /// let seen: Vec<_> = usage.iter().map(|u| (u.id.name.as_str(), u.ranges, u.tables)).collect();
    /// assert_eq!(seen, [("whole-key", 0, 1), ("events", 1, 0)]);
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    pub fn schema_usage(&self) -> Vec<SchemaUsage> {
        let core = self.core();
        // Each family by itself: a change may come between two of them.
        let read_state = core.read_state.load_full();
        read_state.families().flat_map(|cf| usage_of(core, cf)).collect()
    }

    /// Every key schema that this opening of the database has met: those of its manifest, and those
    /// that were set since. One that nothing is under any more stays until the next opening.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use sluicedb::{Db, KeySchema, Options};
    /// let db = Db::open(dir.path(), Options::default())?;
    /// db.set_key_schema(&db.default_cf(), KeySchema::parse("events", 1, "day u32, rest")?)?;
    /// let known: Vec<_> = db.known_schemas().iter().map(|schema| schema.id().name).collect();
    /// assert_eq!(known, ["whole-key", "events"]);
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    pub fn known_schemas(&self) -> Vec<Arc<KeySchema>> {
        self.core().store.schemas.all(|_, _| true).into_values().collect()
    }

    /// Every table under the key schemas called `name`, whatever their version: by family, then from
    /// level 0 down.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use sluicedb::{Db, FlushRequest, Options};
    /// let db = Db::open(dir.path(), Options::default())?;
    /// db.put(&db.default_cf(), b"key", b"value")?;
    /// db.flush(FlushRequest::default())?.wait(None)?;
    /// let tables = db.schema_tables("whole-key");
    /// assert_eq!((tables.len(), &tables[0].smallest[..]), (1, &b"key"[..]));
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    pub fn schema_tables(&self, name: &str) -> Vec<SchemaTable> {
        let core = self.core();
        let read_state = core.read_state.load_full();
        let registry = &core.store.schemas;
        let indexes = registry.all(|_, schema| schema.name() == name);
        read_state.families().flat_map(|cf| tables_under(&indexes, cf)).collect()
    }
}

fn usage_of(core: &Core, cf: &CfState) -> Vec<SchemaUsage> {
    #[derive(Default)]
    struct Sum {
        ranges: u64,
        tables: u64,
        bytes: u64,
        entries: u64,
    }
    let mut sums: BTreeMap<u32, Sum> = BTreeMap::new();
    let schemas = cf.family.schemas();
    for drain in schemas.drains() {
        sums.entry(drain.schema).or_default();
    }
    for schema in schemas.in_old_maps() {
        sums.entry(schema).or_default();
    }
    for (_, schema) in schemas.current().map().ranges() {
        sums.entry(*schema).or_default().ranges += 1;
    }
    for (_, handle) in cf.version.tables() {
        let sum = sums.entry(handle.meta.schema).or_default();
        sum.tables += 1;
        sum.bytes = sum.bytes.saturating_add(handle.meta.bytes);
        sum.entries = sum.entries.saturating_add(handle.meta.entries);
    }
    let usage = |(index, sum): (u32, Sum)| {
        let schema = core.store.schemas.get(index).ok()?;
        let Sum { ranges, tables, bytes, entries } = sum;
        let (cf, id) = (cf.family.name().to_owned(), schema.id());
        Some(SchemaUsage { cf, id, schema, ranges, tables, bytes, entries })
    };
    sums.into_iter().filter_map(usage).collect()
}

fn tables_under(indexes: &BTreeMap<u32, Arc<KeySchema>>, cf: &CfState) -> Vec<SchemaTable> {
    let table = |(level, handle): (Level, &Arc<crate::tables::TableHandle>)| {
        let TableMeta { file, bytes, entries, smallest, largest, schema, .. } = &handle.meta;
        Some(SchemaTable {
            cf: cf.family.name().to_owned(),
            level,
            file: *file,
            bytes: *bytes,
            entries: *entries,
            smallest: smallest.key.to_vec(),
            largest: largest.key.to_vec(),
            id: indexes.get(schema)?.id(),
        })
    };
    cf.version.tables().filter_map(table).collect()
}
