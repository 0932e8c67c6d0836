//! All column families together: what the manifest records and its replay rebuilds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sluice_base::{CfId, Error, ErrorKind, FileNo, Level, Result, SeqNo, limits};

use super::{
    CfCreate, CfEdit, CfVersion, Drain, OptionFields, SchemaDefinition, SchemaMap, VersionEdit,
};

/// The whole version state of a database. Cheap to clone: families and levels are shared.
#[derive(Debug)]
pub struct VersionState<T> {
    /// Counts the openings of the database.
    pub epoch: u64,
    /// No file of this number or a higher one is named by this state.
    pub next_file: FileNo,
    /// The id of the next column family. Ids are never reused.
    pub next_cf: CfId,
    /// No table and no family is ahead of this sequence number.
    pub last_seq: SeqNo,
    /// Log segments below this one are not needed for recovery.
    pub log_first: FileNo,
    /// The key schemas that tables, maps and drains name, by index.
    pub schemas: Arc<BTreeMap<u32, SchemaDefinition>>,
    pub cfs: BTreeMap<CfId, Arc<CfState<T>>>,
}

/// One column family.
#[derive(Debug)]
pub struct CfState<T> {
    pub id: CfId,
    pub name: String,
    pub options: OptionFields,
    /// Every entry of the family at or below this number is in tables.
    pub flushed_seq: SeqNo,
    /// Absolute counter values as of `flushed_seq`.
    pub counters: BTreeMap<u32, i64>,
    /// Under which key schema tables are written.
    pub schema_map: Arc<SchemaMap>,
    /// Key schemas whose tables are being rewritten; at most one drain each.
    pub drains: Vec<Drain>,
    pub version: Arc<CfVersion<T>>,
}

/// Most key schemas that one database knows at a time. Those that nothing names go at the next
/// opening.
pub const SCHEMAS_MAX: usize = 4096;

/// Most bytes of a descriptor: far above what the most fields with the longest names take.
pub const SCHEMA_DESCRIPTOR_BYTES_MAX: usize = 64 << 10;

impl<T> VersionState<T> {
    /// A database without families. File numbers begin at 1: 0 is "none".
    pub fn empty() -> VersionState<T> {
        VersionState {
            epoch: 0,
            next_file: FileNo(1),
            next_cf: CfId(0),
            last_seq: SeqNo::ZERO,
            log_first: FileNo(0),
            schemas: Arc::default(),
            cfs: BTreeMap::new(),
        }
    }

    pub fn cf(&self, id: CfId) -> Option<&Arc<CfState<T>>> {
        self.cfs.get(&id)
    }

    pub fn cf_by_name(&self, name: &str) -> Option<&Arc<CfState<T>>> {
        self.cfs.values().find(|cf| cf.name == name)
    }

    /// Every live table: its family, its level, its file.
    pub fn files(&self) -> impl Iterator<Item = (CfId, Level, FileNo)> {
        self.cfs.values().flat_map(|cf| {
            cf.version.tables().map(|(level, table)| (cf.id, level, table.meta.file))
        })
    }

    /// The state after `edit`. This one stays as it is, whatever the outcome.
    pub fn apply(&self, edit: &VersionEdit) -> Result<VersionState<T>> {
        let mut next = self.clone();
        next.apply_in_place(edit)?;
        Ok(next)
    }

    /// Applies `edit` here, without copying what nobody else shares: replay is linear in the size
    /// of the manifest. After an error this value is half changed and must be thrown away.
    pub(crate) fn apply_in_place(&mut self, edit: &VersionEdit) -> Result<()> {
        self.epoch = self.epoch.max(edit.epoch.unwrap_or(0));
        self.next_file = self.next_file.max(edit.next_file.unwrap_or_default());
        self.next_cf = self.next_cf.max(edit.next_cf.unwrap_or_default());
        self.last_seq = self.last_seq.max(edit.last_seq.unwrap_or_default());
        self.log_first = self.log_first.max(edit.log_first.unwrap_or_default());
        for definition in &edit.schemas {
            self.define(definition)?;
        }
        for id in &edit.dropped {
            if self.cfs.remove(id).is_none() {
                return Err(unknown_cf(*id));
            }
        }
        for create in &edit.created {
            self.create(create)?;
        }
        for cf_edit in &edit.cfs {
            self.change(cf_edit)?;
        }
        if cfg!(debug_assertions) {
            self.check()?;
        }
        Ok(())
    }

    /// The index of the schema with this descriptor and hash, if it is known.
    pub fn schema_index(&self, descriptor: &[u8], hash: u64) -> Option<u32> {
        let known = |definition: &&SchemaDefinition| {
            definition.hash == hash && *definition.descriptor == *descriptor
        };
        self.schemas.values().find(known).map(|definition| definition.index)
    }

    /// Forgets the key schemas that nothing names. Only at the opening: nobody may be about to name
    /// one, and an index must not pass to another schema while somebody reads a table under it.
    pub fn forget_unused_schemas(&mut self) {
        let mut used: BTreeSet<u32> = BTreeSet::new();
        for cf in self.cfs.values() {
            used.extend(cf.schema_map.ranges().iter().map(|(_, schema)| *schema));
            used.extend(cf.drains.iter().map(|drain| drain.schema));
            used.extend(cf.version.tables().map(|(_, table)| table.meta.schema));
        }
        if self.schemas.keys().any(|index| !used.contains(index)) {
            Arc::make_mut(&mut self.schemas).retain(|index, _| used.contains(index));
        }
    }

    pub(crate) fn define(&mut self, definition: &SchemaDefinition) -> Result<()> {
        let SchemaDefinition { index, descriptor, .. } = definition;
        if *index == 0 || descriptor.len() > SCHEMA_DESCRIPTOR_BYTES_MAX {
            return Err(Error::invalid(format!("key schema {index} cannot be defined")));
        }
        if self.schemas.get(index).is_some_and(|known| known != definition) {
            return Err(Error::invalid(format!("key schema {index} is another one already")));
        }
        if self.schemas.len() >= SCHEMAS_MAX {
            return Err(Error::invalid(format!("there are {SCHEMAS_MAX} key schemas already")));
        }
        Arc::make_mut(&mut self.schemas).insert(*index, definition.clone());
        Ok(())
    }

    fn create(&mut self, create: &CfCreate) -> Result<()> {
        let CfCreate { id, name, options } = create;
        if name.len() > limits::CF_NAME_BYTES_MAX {
            let max = limits::CF_NAME_BYTES_MAX;
            return Err(Error::invalid(format!("a column family's name is at most {max} bytes")));
        }
        if self.cfs.len() >= limits::CF_COUNT_MAX {
            let max = limits::CF_COUNT_MAX;
            return Err(Error::invalid(format!("there are {max} column families already")));
        }
        if self.cfs.contains_key(id) || self.cf_by_name(name).is_some() {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("a column family {name:?} or with id {id} exists already"),
            ));
        }
        let Some(next_cf) = id.0.checked_add(1) else {
            return Err(Error::invalid("no column family ids are left"));
        };
        self.next_cf = self.next_cf.max(CfId(next_cf));
        let state = CfState {
            id: *id,
            name: name.clone(),
            options: options.clone(),
            flushed_seq: SeqNo::ZERO,
            counters: BTreeMap::new(),
            schema_map: Arc::default(),
            drains: Vec::new(),
            version: Arc::new(CfVersion::empty()),
        };
        self.cfs.insert(*id, Arc::new(state));
        Ok(())
    }

    fn change(&mut self, edit: &CfEdit) -> Result<()> {
        let cf = self.cfs.get_mut(&edit.cf).ok_or_else(|| unknown_cf(edit.cf))?;
        let cf = Arc::make_mut(cf);
        if let Some(flushed) = edit.flushed_seq {
            if flushed < cf.flushed_seq || flushed > SeqNo::MAX {
                return Err(Error::invalid(format!(
                    "column family {:?} is flushed up to {}, an edit says {flushed}",
                    cf.name, cf.flushed_seq
                )));
            }
            cf.flushed_seq = flushed;
            self.last_seq = self.last_seq.max(flushed);
        }
        cf.counters.extend(edit.counters.iter().copied());
        if let Some(options) = &edit.options {
            cf.options = options.clone();
        }
        if let Some(map) = &edit.schema_map {
            map.check()?;
            cf.schema_map = Arc::new(map.clone());
        }
        if let Some(drains) = &edit.drains {
            cf.drains = drains.clone();
        }
        if edit.added.is_empty() && edit.removed.is_empty() {
            return Ok(());
        }
        Arc::make_mut(&mut cf.version)
            .apply_in_place(edit)
            .map_err(|error| error.context(format_args!("column family {:?}", cf.name)))?;
        for (_, meta) in &edit.added {
            let Some(next) = meta.file.0.checked_add(1) else {
                return Err(Error::invalid("no file numbers are left"));
            };
            self.next_file = self.next_file.max(FileNo(next));
            self.last_seq = self.last_seq.max(meta.max_seq);
        }
        Ok(())
    }
}

fn unknown_cf(id: CfId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no column family with id {id}"))
}

// By hand: deriving would ask for `T: Clone`.
impl<T> Clone for VersionState<T> {
    fn clone(&self) -> Self {
        VersionState {
            epoch: self.epoch,
            next_file: self.next_file,
            next_cf: self.next_cf,
            last_seq: self.last_seq,
            log_first: self.log_first,
            schemas: Arc::clone(&self.schemas),
            cfs: self.cfs.clone(),
        }
    }
}

impl<T> Clone for CfState<T> {
    fn clone(&self) -> Self {
        CfState {
            id: self.id,
            name: self.name.clone(),
            options: self.options.clone(),
            flushed_seq: self.flushed_seq,
            counters: self.counters.clone(),
            schema_map: Arc::clone(&self.schema_map),
            drains: self.drains.clone(),
            version: self.version.clone(),
        }
    }
}

/// States are equal when they name the same things; whether a table is open does not count.
impl<T> PartialEq for VersionState<T> {
    fn eq(&self, other: &Self) -> bool {
        let facts = |s: &Self| (s.epoch, s.next_file, s.next_cf, s.last_seq, s.log_first);
        facts(self) == facts(other)
            && self.schemas == other.schemas
            && self.cfs.len() == other.cfs.len()
            && self.cfs.values().zip(other.cfs.values()).all(|(a, b)| a == b)
    }
}

impl<T> PartialEq for CfState<T> {
    fn eq(&self, other: &Self) -> bool {
        let tables = |s: &Self| s.version.table_count();
        (self.id, &self.name, &self.options, self.flushed_seq, &self.counters, tables(self))
            == (
                other.id,
                &other.name,
                &other.options,
                other.flushed_seq,
                &other.counters,
                tables(other),
            )
            && (&self.schema_map, &self.drains) == (&other.schema_map, &other.drains)
            && (self.version.tables().zip(other.version.tables()))
                .all(|(a, b)| a.0 == b.0 && a.1.meta == b.1.meta)
    }
}
