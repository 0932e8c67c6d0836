//! Which tables make up the database: immutable values, swapped whole.
//!
//! A [`VersionState`] holds, for every column family, a [`CfVersion`]: seven levels of tables.
//! Nothing here is ever changed in place while others look at it: a [`VersionEdit`] applied to one
//! state makes the next, sharing every level that the edit does not touch.
//!
//! ```text
//!   VersionState ── epoch, next_file, next_cf, last_seq, log_first, key schemas by index
//!     ├─ CfState 0 "default" ── options, flushed_seq, counters, key schema map, drains
//!     │    └─ CfVersion ── L0: newest first, may overlap
//!     │                    L1..L6: by smallest key, never overlap
//!     └─ CfState 1 "meta" …                 └─ Arc<TableHandle<T>>: TableMeta + OnceLock<T>
//! ```
//!
//! The same `apply` serves the running engine and the replay of the manifest, so what a crash
//! leaves behind is rebuilt by the code that built it.
//!
//! What this module is not: it reads and writes no bytes (`manifest` does), opens no table (the
//! handle's `T` is the engine's) and takes no lock.

mod cf_version;
mod check;
mod edit;
mod options;
mod range;
mod schema_map;
mod state;
mod table;

#[cfg(test)]
mod tests;

pub use cf_version::{CfVersion, TableList, depth};
pub use edit::{CfCreate, CfEdit, SchemaDefinition, VersionEdit};
pub use options::OptionFields;
pub use range::KeyRange;
pub use schema_map::{Drain, SCHEMA_RANGES_MAX, SchemaMap};
pub use state::{CfState, SCHEMA_DESCRIPTOR_BYTES_MAX, SCHEMAS_MAX, VersionState};
pub use table::{InternalKey, TableHandle, TableMeta};
