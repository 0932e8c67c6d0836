//! The Redis data model on the engine's keys: databases, keys with a type and an expiry, latches,
//! transactions, WATCH, SCAN. Knows no sockets, no replies and no command names.
//!
//! What a caller holds:
//!
//! ```text
//! Keyspace   one per engine, cheap to clone      open, expire_due, maintenance, INFO numbers
//!   └ Txn    one per event loop, reused           begin_* → lookup / put / delete … → commit / end
//!   └ WatchList   one per client that uses WATCH
//! ```
//!
//! Column families:
//!
//! | name      | key                                          | value                        |
//! |-----------|----------------------------------------------|------------------------------|
//! | `default` | system rows, see the `databases` module      |                              |
//! | `meta`    | namespace u16, slot u16, user key            | one row a key, see [`Head`]  |
//! | `expire`  | expire_at ms u64, namespace, slot, user key  | empty                        |
//! | `data`, `score` | see the `element` module               | not used yet                 |
//! | `stream`  | none yet                                     | not used yet                 |
//!
//! All integers in keys are big endian, so that engine order is numeric order. [`FAMILY_SCHEMAS`] are
//! the key schemas of these families.
//!
//! Invariants:
//! - a `meta` row with an expiry has exactly one `expire` row, with the same moment; both change in
//!   one batch;
//! - counter `namespace` of `meta` is the number of its `meta` rows, counter `namespace` of
//!   `expire` the number of those with an expiry; both change in the batch that changes the rows;
//! - a writer holds the latches of its keys from before its view is taken until after its batch is
//!   visible and the watchers of its keys know. Readers hold none.
//!
//! Lock order: latches (ascending stripe) → purge cursor → purge queue → watch stripe → scan table.
//! The engine's own locks are below all of these.

mod databases;
pub mod element;
mod expiry;
#[doc(hidden)]
pub mod fuzzing;
pub mod glob;
mod keyspace;
mod latch;
mod layout;
mod overlay;
mod row;
mod scan;
mod schemas;
pub mod slot;
mod txn;
mod watch;

pub use databases::Maintenance;
pub use expiry::Expired;
pub use keyspace::{DatabaseStats, Keyspace, KeyspaceOptions};
pub use latch::LatchSet;
pub use layout::USER_KEY_BYTES_MAX;
pub use row::{Head, Repr, Row, ValueType};
pub use schemas::{FAMILY_SCHEMAS, FamilySchema};
pub use txn::{Savepoint, Txn};
pub use watch::WatchList;

/// The examples of the guide compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/key-schemas.md")]
struct KeySchemasGuide;
