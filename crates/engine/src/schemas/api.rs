//! The methods of [`Db`] on key schemas.

use super::{FamilySchemas, RangeMap, SchemaRange};
use crate::{
    ColumnFamily, Db, Result,
    core::Core,
    tables::VersionState,
    version::{CfEdit, SchemaMap, VersionEdit},
};
use sluice_base::{CfId, Error, ErrorKind};
use sluice_table::KeySchema;
use std::sync::Arc;

impl Db {
    /// Changes how tables of `cf` are written from now on, whatever their keys; returns once the
    /// manifest says so. Tables that are there stay as they are and readable, until compaction
    /// rewrites them. Costs no reader or writer a pause.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use sluicedb::{Db, KeySchema, Options};
    /// let db = Db::open(dir.path(), Options::default())?;
    /// let schema = KeySchema::parse("events", 1, "tenant escaped, ts u64 desc, rest")?;
    /// db.set_key_schema(&db.default_cf(), schema.clone())?;
    /// assert_eq!(*db.default_cf().key_schema(), schema);
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Db::set_key_schema_in`].
    pub fn set_key_schema(&self, cf: &ColumnFamily, schema: KeySchema) -> Result<()> {
        set_range(self.core(), cf, b"", None, schema)
    }

    /// As [`Db::set_key_schema`], for the keys from `start` to before `end` (`None`: all from
    /// `start` on). The other keys' schemas stay. No table written from now on straddles an end of
    /// a range.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use sluicedb::{Db, KeySchema, Options};
    /// let db = Db::open(dir.path(), Options::default())?;
    /// let cf = db.default_cf();
    /// let orders = KeySchema::parse("orders", 1, "table u32, rest")?;
    /// db.set_key_schema_in(&cf, b"o", Some(b"p"), orders)?;
    /// let names: Vec<_> = db.key_schemas(&cf).iter().map(|r| r.schema.name().to_owned()).collect();
    /// assert_eq!(names, ["whole-key", "orders", "whole-key"]);
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a range without keys, for more than 1024 ranges in the family, for a schema that
    /// is being drained from the family, and for a custom one that was not given at the opening
    /// ([`crate::Options::key_splitters`]); `NotFound` when the family has been dropped; `Closed`;
    /// those of the manifest's write, after which the schemas are as they were, and may be the new
    /// ones once the database has crashed.
    pub fn set_key_schema_in(
        &self,
        cf: &ColumnFamily,
        start: &[u8],
        end: Option<&[u8]>,
        schema: KeySchema,
    ) -> Result<()> {
        set_range(self.core(), cf, start, end, schema)
    }

    /// How tables of `cf` are written now: ranges that cover every key, in key order, each as large
    /// as it can be. Never empty.
    pub fn key_schemas(&self, cf: &ColumnFamily) -> Vec<SchemaRange> {
        cf.schemas().current().ranges()
    }
}

fn set_range(
    core: &Arc<Core>,
    cf: &ColumnFamily,
    start: &[u8],
    end: Option<&[u8]>,
    schema: KeySchema,
) -> Result<()> {
    core.check_family(cf)?;
    core.check_open(&core.commit.lock())?;
    let registry = &core.store.schemas;
    let schema = Arc::new(registry.admit(schema)?);
    let edit = |state: &VersionState| {
        let family = state.cf(cf.id()).ok_or_else(|| gone(cf))?;
        let (index, definition) = registry.intern(state, &schema)?;
        if family.drains.iter().any(|drain| drain.schema == index) {
            return Err(Error::invalid(format!(
                "key schema {} is being drained from column family '{}': cancel the drain to use it \
                 again",
                schema.id(),
                cf.name()
            )));
        }
        let map = family.schema_map.with(start, end, index)?;
        Ok(VersionEdit {
            schemas: definition.into_iter().collect(),
            ..CfEdit { schema_map: Some(map), ..CfEdit::new(cf.id()) }.into()
        })
    };
    core.versions.apply_with(core, edit, |versions| {
        let Some(family) = versions.state.cf(cf.id()) else { return };
        let fields = cf.schemas().current().filter_fields();
        cf.schemas().set_map(resolve(core, &versions.state, &family.schema_map, &schema, fields));
        // Written again: that it was drained once says nothing any more.
        core.drains.forget(cf.id(), &schema.id());
    })
}

/// The schemas of a family that was just created under `schema`.
pub(crate) fn of_new_family(
    core: &Core,
    id: CfId,
    state: &VersionState,
    schema: &Arc<KeySchema>,
    filter_fields: Option<u8>,
) -> FamilySchemas {
    let map = state.cf(id).map(|family| Arc::clone(&family.schema_map)).unwrap_or_default();
    FamilySchemas::new(resolve(core, state, &map, schema, filter_fields), Vec::new())
}

/// A family's map after an edit that may have brought the definition of `schema`. The versions lock
/// is held.
fn resolve(
    core: &Core,
    state: &VersionState,
    map: &Arc<SchemaMap>,
    schema: &Arc<KeySchema>,
    filter_fields: Option<u8>,
) -> Arc<RangeMap> {
    let registry = &core.store.schemas;
    if let Some(index) = state.schema_index(&schema.encode(), schema.id().hash) {
        registry.define(index, schema);
    }
    RangeMap::resolve(map, registry, filter_fields)
        .expect("invariant: the state is checked, and the registry has all that it defines")
}

pub(super) fn gone(cf: &ColumnFamily) -> Error {
    Error::new(ErrorKind::NotFound, format!("column family '{}' is gone", cf.name()))
}
