//! [`Registry`]: every key schema of the database, resolved, by its index in the manifest.
//!
//! All of them are resolved at the opening, before anything is served or deleted (P12): a schema that
//! this build cannot use is found then, and not by the first read of some table months later. Within
//! one opening an index is never taken back or given to another schema, so a reader that opens a
//! table of an old version late finds what the table was written under.

use crate::{
    Result,
    tables::{CfVersion, TableStore, VersionState},
    version::{SchemaDefinition, SchemaMap},
};
use sluice_base::{Error, ErrorKind};
use sluice_env::sync::{Mutex, MutexGuard, PoisonError};
use sluice_table::KeySchema;
use std::{collections::BTreeMap, sync::Arc};

/// The index of the schema of keys without structure: in every database, and defined in none.
pub(crate) const WHOLE_KEY: u32 = 0;

/// Most schemas that one opening may meet, those that nothing names any more included.
const KNOWN_MAX: usize = 65_536;

/// A leaf lock, taken when a table is opened for the first time, and by changes of schemas.
#[derive(Debug)]
pub(crate) struct Registry(Mutex<BTreeMap<u32, Arc<KeySchema>>>);

impl Default for Registry {
    fn default() -> Registry {
        Registry(Mutex::new(BTreeMap::from([(WHOLE_KEY, Arc::new(KeySchema::whole_key()))])))
    }
}

/// The schema that a descriptor of the manifest stands for. The one place where a custom schema, of
/// which the descriptor has the name only, finds its code.
///
/// # Errors
/// `Unsupported` for what this build does not know; `Corruption` for what is no descriptor.
pub(crate) fn resolve(descriptor: &[u8]) -> Result<KeySchema> {
    KeySchema::decode(descriptor)
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<KeySchema>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves every schema of `state`.
    pub(crate) fn load(&self, state: &VersionState) -> Result<()> {
        for definition in state.schemas.values() {
            let SchemaDefinition { index, hash, descriptor } = definition;
            let context = |error: Error| error.context(format_args!("key schema {index}"));
            let schema = resolve(descriptor).map_err(context)?;
            let id = schema.id();
            if id.hash != *hash {
                let text = format!("the manifest has key schema {id} under hash {hash:016x}");
                return Err(context(Error::new(ErrorKind::Corruption, text)));
            }
            self.lock().insert(*index, Arc::new(schema));
        }
        Ok(())
    }

    /// The schema of `index`, which the version state's check vouches for.
    pub(crate) fn get(&self, index: u32) -> Result<Arc<KeySchema>> {
        self.lock().get(&index).cloned().ok_or_else(|| {
            let text =
                format!("key schema {index} is not defined; this is a bug, please report it");
            Error::invalid(text)
        })
    }

    /// The index of a schema that `is_it` likes.
    pub(crate) fn find(&self, is_it: impl Fn(u32, &KeySchema) -> bool) -> Option<u32> {
        let known = self.lock();
        known.iter().find(|(index, schema)| is_it(**index, schema)).map(|(index, _)| *index)
    }

    /// All schemas that `is_it` likes, by index.
    pub(crate) fn all(
        &self,
        is_it: impl Fn(u32, &KeySchema) -> bool,
    ) -> BTreeMap<u32, Arc<KeySchema>> {
        let mut known = self.lock().clone();
        known.retain(|index, schema| is_it(*index, schema));
        known
    }

    /// Makes a schema known whose definition the manifest now has. The versions lock is held.
    pub(crate) fn define(&self, index: u32, schema: &Arc<KeySchema>) {
        self.lock().entry(index).or_insert_with(|| Arc::clone(schema));
    }

    /// The index of `schema`, and the definition that an edit must bring when it has none yet. The
    /// versions lock is held until the edit is made and [`Registry::define`] called.
    pub(crate) fn intern(
        &self,
        state: &VersionState,
        schema: &KeySchema,
    ) -> Result<(u32, Option<SchemaDefinition>)> {
        let (descriptor, hash) = (schema.encode(), schema.id().hash);
        if *schema == KeySchema::whole_key() {
            return Ok((WHOLE_KEY, None));
        }
        if let Some(index) = state.schema_index(&descriptor, hash) {
            return Ok((index, None));
        }
        let known = self.lock();
        if known.len() >= KNOWN_MAX {
            return Err(Error::invalid(format!(
                "{KNOWN_MAX} key schemas were set since the database was opened: open it anew, which \
                 forgets those that no table is under"
            )));
        }
        let index = known.last_key_value().map_or(WHOLE_KEY, |(last, _)| *last) + 1;
        Ok((index, Some(SchemaDefinition { index, hash, descriptor: descriptor.into() })))
    }
}

/// The number of the option that named a family's one schema before there were ranges.
const OLD_OPTION: u32 = crate::db::CF_KEY_SCHEMA;

/// Makes the schemas of a state that was just read ready for use: takes over what builds before
/// ranges wrote, forgets what nothing names, resolves the rest. Nothing on disk is changed.
pub(crate) fn open(state: &mut VersionState, store: &Arc<TableStore>) -> Result<()> {
    let ids: Vec<_> = state.cfs.keys().copied().collect();
    for id in ids {
        let Some(cf) = state.cf(id) else { continue };
        let Some(descriptor) = cf.options.bytes(OLD_OPTION).map(<[u8]>::to_vec) else { continue };
        let (version, name) = (Arc::clone(&cf.version), cf.name.clone());
        take_over(state, store, id, &descriptor, &version)
            .map_err(|error| error.context(format_args!("column family '{name}'")))?;
    }
    state.forget_unused_schemas();
    store.schemas.load(state)
}

/// A family whose option names the schema of new tables, while its tables say themselves what they
/// are under: each is looked into, once, and what it is under goes into the manifest that this
/// opening writes.
fn take_over(
    state: &mut VersionState,
    store: &Arc<TableStore>,
    id: sluice_base::CfId,
    descriptor: &[u8],
    version: &CfVersion,
) -> Result<()> {
    let index = adopt(state, &resolve(descriptor)?)?;
    let mut schemas = BTreeMap::new();
    for (_, handle) in version.tables().filter(|(_, handle)| handle.meta.schema == WHOLE_KEY) {
        let file = handle.meta.file;
        // A damaged table fails its readers, as it always did, and no one else.
        match store.read_schema(file) {
            Ok(schema) => drop(schemas.insert(file, adopt(state, &schema)?)),
            Err(error) if error.kind() == ErrorKind::Corruption => {}
            Err(error) => return Err(error),
        }
    }
    let Some(cf) = state.cfs.get_mut(&id) else { return Ok(()) };
    let cf = Arc::make_mut(cf);
    cf.schema_map = Arc::new(SchemaMap::whole(index));
    cf.options.remove(OLD_OPTION);
    let version = Arc::make_mut(&mut cf.version);
    version.set_schemas(|meta| schemas.get(&meta.file).copied().unwrap_or(meta.schema));
    crate::tables::adopt(version, store);
    Ok(())
}

/// The index of a schema in a state that nobody shares yet.
fn adopt(state: &mut VersionState, schema: &KeySchema) -> Result<u32> {
    if *schema == KeySchema::whole_key() {
        return Ok(WHOLE_KEY);
    }
    let (descriptor, hash) = (schema.encode(), schema.id().hash);
    if let Some(index) = state.schema_index(&descriptor, hash) {
        return Ok(index);
    }
    let index = state.schemas.last_key_value().map_or(WHOLE_KEY, |(last, _)| *last);
    let index = index.checked_add(1).ok_or_else(|| Error::invalid("key schemas are used up"))?;
    state.define(&SchemaDefinition { index, hash, descriptor: descriptor.into() })?;
    Ok(index)
}
