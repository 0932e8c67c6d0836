//! [`Registry`]: every key schema of the database, resolved, by its index in the manifest.
//!
//! All of them are resolved at the opening, before anything is served or deleted (P12): a schema that
//! this build cannot use is found then, and not by the first read of some table months later. Within
//! one opening an index is never taken back or given to another schema, so a reader that opens a
//! table of an old version late finds what the table was written under.
//!
//! A custom schema has its name in the manifest and its rule in code. The code is given at the opening
//! and found by identity; a name and version mean one schema here, so that no one mistakes a changed
//! rule for the old one.

use crate::{
    Result,
    tables::{CfVersion, TableStore, VersionState},
    version::{SchemaDefinition, SchemaMap},
};
use sluice_base::{Error, ErrorKind};
use sluice_env::sync::{Mutex, MutexGuard, PoisonError};
use sluice_table::{KeySchema, KeySplitter, SchemaId};
use std::{collections::BTreeMap, sync::Arc};

/// The index of the schema of keys without structure: in every database, and defined in none.
pub(crate) const WHOLE_KEY: u32 = 0;

/// Most schemas that one opening may meet, those that nothing names any more included.
const KNOWN_MAX: usize = 65_536;

/// A leaf lock, taken when a table is opened for the first time, and by changes of schemas.
#[derive(Debug)]
pub(crate) struct Registry {
    known: Mutex<BTreeMap<u32, Arc<KeySchema>>>,
    /// The custom schemas that were given at the opening.
    custom: Vec<KeySchema>,
}

impl Default for Registry {
    fn default() -> Registry {
        let known = BTreeMap::from([(WHOLE_KEY, Arc::new(KeySchema::whole_key()))]);
        Registry { known: Mutex::new(known), custom: Vec::new() }
    }
}

/// The custom schemas of `splitters`, of which no two, and none and a built-in one, have the same name
/// and version.
///
/// # Errors
/// `Invalid`, naming the splitter.
pub(crate) fn named(splitters: &[Arc<dyn KeySplitter>]) -> Result<Vec<KeySchema>> {
    let mut schemas: Vec<KeySchema> = Vec::with_capacity(splitters.len());
    for splitter in splitters {
        let option = |error: Error| error.context("option key_splitters");
        let schema = KeySchema::custom(Arc::clone(splitter)).map_err(option)?;
        let builtin = KeySchema::BUILTIN_NAMES.into_iter().filter_map(KeySchema::builtin);
        for other in builtin.chain(schemas.iter().cloned()) {
            let names = [other.name(), other.public_name()];
            if names.contains(&schema.name()) && other.version() == schema.version() {
                let (given, taken) = (schema.id(), other.id());
                let text = format!("{given} has the name and version of {taken}: give it another");
                return Err(option(Error::invalid(text)));
            }
        }
        schemas.push(schema);
    }
    Ok(schemas)
}

impl Registry {
    /// With the custom schemas of `splitters`, as [`named`] checks them.
    pub(crate) fn new(splitters: &[Arc<dyn KeySplitter>]) -> Result<Registry> {
        Ok(Registry { custom: named(splitters)?, ..Registry::default() })
    }

    /// The schema that a descriptor of the manifest stands for. The one place where a custom schema, of
    /// which the descriptor has the name only, finds its code.
    ///
    /// # Errors
    /// `Unsupported` for what this build does not know, and for a custom schema that was not given;
    /// `Corruption` for what is no descriptor; `Invalid` when a splitter has the name of a declared one.
    fn resolve(&self, descriptor: &[u8]) -> Result<KeySchema> {
        let schema = KeySchema::decode(descriptor)?;
        self.with_code(schema).map_err(|(error, id)| match error {
            Misnamed::Taken => misnamed(&id),
            Misnamed::NotGiven(given) => {
                let help = match given {
                    Some(given) if given.version == id.version => format!(
                        "what was given there is {given}, with other fields or another contract: give the \
                         one that the directory was written with, and the changed one a new version"
                    ),
                    Some(given) => format!("what was given there is {given}; more than one may be"),
                    None => "none of this name was given there".to_owned(),
                };
                let text = format!(
                    "tables are written under custom key schema {id}, whose splitter must be in \
                     Options::key_splitters; {help}"
                );
                Error::new(ErrorKind::Unsupported, text)
            }
        })
    }

    /// `schema`, to be set by a caller; a custom one with the code that the next opening will be asked
    /// for.
    ///
    /// # Errors
    /// `Invalid` for a custom schema that was not given at the opening, and for one with a splitter's
    /// name and version.
    pub(crate) fn admit(&self, schema: KeySchema) -> Result<KeySchema> {
        self.with_code(schema).map_err(|(error, id)| match error {
            Misnamed::Taken => misnamed(&id),
            Misnamed::NotGiven(_) => Error::invalid(format!(
                "the splitter of custom key schema {id} was not given at the opening: open the database \
                 with it in Options::key_splitters, as every later opening must"
            )),
        })
    }

    fn with_code(&self, schema: KeySchema) -> Result<KeySchema, (Misnamed, SchemaId)> {
        let of_name = |given: &&KeySchema| given.name() == schema.name();
        let mut of_name = self.custom.iter().filter(of_name);
        if !schema.is_custom() {
            return match of_name.any(|given| given.version() == schema.version()) {
                true => Err((Misnamed::Taken, schema.id())),
                false => Ok(schema),
            };
        }
        if let Some(given) = self.custom.iter().find(|given| **given == schema) {
            return Ok(given.clone());
        }
        // The one that comes closest.
        let given = of_name.max_by_key(|given| given.version() == schema.version());
        Err((Misnamed::NotGiven(given.map(KeySchema::id)), schema.id()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<KeySchema>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves every schema of `state`.
    pub(crate) fn load(&self, state: &VersionState) -> Result<()> {
        for definition in state.schemas.values() {
            let SchemaDefinition { index, hash, descriptor } = definition;
            let context = |error: Error| error.context(format_args!("key schema {index}"));
            let schema = self.resolve(descriptor).map_err(context)?;
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

/// Why a schema cannot be used here.
enum Misnamed {
    /// It is declared, and a splitter has its name and version.
    Taken,
    /// It is custom; what was given instead.
    NotGiven(Option<SchemaId>),
}

fn misnamed(id: &SchemaId) -> Error {
    Error::invalid(format!(
        "a splitter of Options::key_splitters has the name and version of key schema {id}, which needs \
         none: give the splitter another name"
    ))
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
    let index = adopt(state, &store.schemas.resolve(descriptor)?)?;
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
