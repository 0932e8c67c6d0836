//! [`SchemaId`]: what tells one key schema from all others.

use std::fmt;

use super::{KeySchema, Schema};

/// The identity of a key schema: two schemas are one exactly when all three are the same.
///
/// ```
/// use sluice_table::KeySchema;
///
/// # fn main() -> sluice_base::Result<()> {
/// let id = KeySchema::parse("events", 2, "tenant escaped, rest")?.id();
/// assert_eq!((id.name.as_str(), id.version), ("events", 2));
/// assert_eq!(id.to_string(), format!("events v2 ({:016x})", id.hash));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId {
    pub name: String,
    pub version: u32,
    /// Of the canonical descriptor: two layouts never pass for each other, whatever they are called.
    pub hash: u64,
}

impl Schema {
    /// The identity of what is described.
    pub fn id(&self) -> SchemaId {
        SchemaId { name: self.name.clone(), version: self.version, hash: self.hash() }
    }
}

impl KeySchema {
    /// The schema's identity.
    pub fn id(&self) -> SchemaId {
        self.descriptor().id()
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SchemaId { name, version, hash } = self;
        write!(f, "{name} v{version} ({hash:016x})")
    }
}
