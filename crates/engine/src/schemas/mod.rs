//! Key schemas of the families: which keys' tables are written under which schema, what is under
//! each now, and the rewriting of what is left of an old one.
//!
//! ```text
//!   manifest     definitions by index ──> Registry: Arc<KeySchema> by index     (registry.rs)
//!                map of each family   ──> RangeMap, in the family's handle      (map.rs, family.rs)
//!                drains of each family ─> compaction takes their tables         (drain.rs)
//!   flush, compaction: take the RangeMap once, cut tables at range ends, install, let go of it
//! ```
//! *Invariants.*
//! 1. A table lies in one range of the map that its writer began with, under that range's schema,
//!    and `TableMeta::schema` is its index. Later maps may cut through it.
//! 2. Every index that a table, a map or a drain names is defined in the same manifest, and resolved
//!    in the registry before anything is served.
//! 3. A drain ends only when no table is under the schema, no range writes it, and no writer goes by
//!    a map of before that does: then none can come back (see [`FamilySchemas`]).
//!
//! Changes go through the versions lock, so they are in one order with the installs.

mod api;
mod drain;
mod family;
mod map;
mod registry;
mod usage;

#[cfg(test)]
mod tests;

pub(crate) use api::of_new_family;
pub use drain::{DrainState, DrainStatus};
pub(crate) use drain::{Drains, end_ready, progress};
pub(crate) use family::FamilySchemas;
pub use map::SchemaRange;
pub(crate) use map::{RangeCursor, RangeMap};
pub(crate) use registry::{Registry, WHOLE_KEY, named, open};
pub use usage::{SchemaTable, SchemaUsage};
