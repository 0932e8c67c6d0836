//! Key schemas: how a user key splits into fields. A schema is data, so every table carries its own
//! ([`Schema`], the descriptor), and a build can name a schema that it does not know.
//!
//! ```text
//! text  "table u32, tenant escaped, ts u64 desc, rest"  ─┐
//! builder                                                ├─> KeySchema ── split ──> fields
//! descriptor of a table  (Schema) ───────────────────────┘            <── join ──
//! ```
//! *Invariants.* A schema never changes the order: keys sort bytewise under all of them. Fields are
//! prefix-free (none but the last takes "what is left"), so comparing keys field by field, each by
//! its key bytes, is comparing the keys. What splits joins to the same bytes: every field has
//! exactly one way to be written, and a key that was written otherwise does not split.
//! Custom schemas (`custom`) keep the first and the last of these alone: their fields need not be
//! prefix-free.

mod builtin;
mod custom;
mod descriptor;
mod field;
mod id;
mod key_schema;
#[doc(hidden)]
pub mod sample;
mod text;

pub use custom::{KeySplitter, SplitField};
pub use descriptor::{SCHEMA_FIELDS_MAX, Schema, SchemaField};
pub use field::{FieldType, FieldValue, IntWidth};
pub use id::SchemaId;
pub use key_schema::{KeySchema, KeySchemaBuilder};

/// The first bytes of `bytes` for a message.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes {shown}{}", bytes.len(), if bytes.len() > 16 { ".." } else { "" })
}
