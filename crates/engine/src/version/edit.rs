//! One atomic change of the version state. Plain values: the manifest turns them into bytes, the
//! version applies them.

use sluice_base::{CfId, FileNo, Level, SeqNo};

use super::{Drain, OptionFields, SchemaMap, TableMeta};

/// One atomic change: after a crash it has happened whole or not at all.
///
/// The facts at the top only ever grow, and each states something true on its own; two jobs may
/// therefore finish in either order, and applying takes the larger. Families are dropped first,
/// then created, then changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// The current opening of the database.
    pub epoch: Option<u64>,
    /// No file of this number or a higher one exists.
    pub next_file: Option<FileNo>,
    /// No column family of this id or a higher one was ever created.
    pub next_cf: Option<CfId>,
    /// At least this sequence number has been given out.
    pub last_seq: Option<SeqNo>,
    /// Log segments below this one are not needed for recovery.
    pub log_first: Option<FileNo>,
    /// Key schemas that tables, maps and drains of this edit and of later ones may name. Before all
    /// that follows.
    pub schemas: Vec<SchemaDefinition>,
    pub dropped: Vec<CfId>,
    pub created: Vec<CfCreate>,
    /// At most one entry a family is customary; several are applied in order.
    pub cfs: Vec<CfEdit>,
}

/// A key schema and the index that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDefinition {
    /// Not 0, which is the default schema; never given to another schema while anything names it.
    pub index: u32,
    /// The hash of the schema's identity. For schemas that are data it is that of the descriptor.
    pub hash: u64,
    /// The canonical descriptor; not looked into here.
    pub descriptor: Box<[u8]>,
}

/// The birth of a column family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CfCreate {
    /// Never used before, not even by a dropped family.
    pub id: CfId,
    pub name: String,
    pub options: OptionFields,
}

/// What changes in one column family. Removals come before additions, so that a table that moves
/// to another level appears in both under one file number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CfEdit {
    pub cf: CfId,
    pub added: Vec<(Level, TableMeta)>,
    pub removed: Vec<(Level, FileNo)>,
    /// Every entry of the family at or below this number is in tables. Never goes back: flushes of
    /// one family install oldest first.
    pub flushed_seq: Option<SeqNo>,
    /// Absolute values of the family's counters as of its `flushed_seq`.
    pub counters: Vec<(u32, i64)>,
    /// The family's options from now on, all of them.
    pub options: Option<OptionFields>,
    /// The family's key schemas from now on.
    pub schema_map: Option<SchemaMap>,
    /// The family's drains from now on, all of them.
    pub drains: Option<Vec<Drain>>,
}

impl CfEdit {
    pub fn new(cf: CfId) -> CfEdit {
        CfEdit { cf, ..CfEdit::default() }
    }
}

impl From<CfEdit> for VersionEdit {
    fn from(edit: CfEdit) -> VersionEdit {
        VersionEdit { cfs: vec![edit], ..VersionEdit::default() }
    }
}
