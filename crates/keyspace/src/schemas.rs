//! The key schemas of the server's column families: how their keys split into columns of the tables.
//!
//! | family | schema | fields |
//! |---|---|---|
//! | `meta` | `redis-meta` 1 | `ns u16, slot u16, key rest` |
//! | `data` | `redis-data` 1 | `ns u16, slot u16, key counted u32, version u64, field rest` |
//! | `score` | `redis-score` 1 | `ns u16, slot u16, key counted u32, version u64, score u64, member rest` |
//! | `expire` | `redis-expire` 1 | `at u64, ns u16, slot u16, key rest` |
//!
//! `default` has a handful of system rows and keeps the whole key, `stream` has no layout yet.
//!
//! *At open* a family that still has the default over its whole range gets its own; the engine keeps
//! that in its manifest, so a second open finds it and changes nothing. What an operator chose is not
//! touched: anything but the default is a choice, and the choice of the default itself is told from
//! "never set" by a system row, written before the choice is:
//!
//! ```text
//! default   "schema" + family name  -> empty     an operator decides about this family's schemas
//! ```
//! A crash between row and choice leaves the family as it was.
//!
//! Fields, names and order are part of the identity that tables carry: a change is a new version.

use sluicedb::{Ack, ColumnFamily, Db, KeySchema, Result, WriteBatch, WriteOptions};

use crate::keyspace::Families;

const CHOICE_ROW: &[u8] = b"schema";

/// A built-in schema of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilySchema {
    /// The column family that uses it.
    pub family: &'static str,
    pub name: &'static str,
    pub version: u32,
    /// Its fields, in the text form.
    pub text: &'static str,
}

/// All of them.
pub const FAMILY_SCHEMAS: [FamilySchema; 4] = [
    FamilySchema {
        family: "meta",
        name: "redis-meta",
        version: 1,
        text: "ns u16, slot u16, key rest",
    },
    FamilySchema {
        family: "data",
        name: "redis-data",
        version: 1,
        text: "ns u16, slot u16, key counted u32, version u64, field rest",
    },
    FamilySchema {
        family: "score",
        name: "redis-score",
        version: 1,
        text: "ns u16, slot u16, key counted u32, version u64, score u64, member rest",
    },
    FamilySchema {
        family: "expire",
        name: "redis-expire",
        version: 1,
        text: "at u64, ns u16, slot u16, key rest",
    },
];

impl FamilySchema {
    /// The schema itself.
    ///
    /// # Errors
    /// None, as long as the texts here are right; a test holds them to that.
    ///
    /// ```
    /// let meta = sluice_keyspace::FAMILY_SCHEMAS[0].schema()?;
    /// assert_eq!((meta.name(), meta.to_string().as_str()), ("redis-meta", "ns u16, slot u16, key rest"));
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    pub fn schema(&self) -> Result<KeySchema> {
        KeySchema::parse(self.name, self.version, self.text)
    }
}

fn choice_row(family: &str) -> Vec<u8> {
    [CHOICE_ROW, family.as_bytes()].concat()
}

/// Gives families their schemas where nobody has chosen another.
pub(crate) fn apply(db: &Db, families: &Families) -> Result<()> {
    for (own, (name, cf)) in FAMILY_SCHEMAS.iter().zip(families.with_schema()) {
        debug_assert_eq!(own.family, name);
        if has_default(db, cf) && db.get(&families.system, &choice_row(own.family))?.is_none() {
            db.set_key_schema(cf, own.schema()?)?;
        }
    }
    Ok(())
}

/// Whether all keys of the family are written whole.
fn has_default(db: &Db, cf: &ColumnFamily) -> bool {
    db.key_schemas(cf).iter().all(|range| *range.schema == KeySchema::whole_key())
}

/// Notes, durably, that an operator decides about `family`: no open changes its schemas from now on.
pub(crate) fn note_choice(db: &Db, families: &Families, family: &str) -> Result<()> {
    if FAMILY_SCHEMAS.iter().all(|own| own.family != family) {
        return Ok(());
    }
    let row = choice_row(family);
    if db.get(&families.system, &row)?.is_some() {
        return Ok(());
    }
    let mut batch = WriteBatch::new();
    batch.put(&families.system, &row, b"");
    db.write(&batch, &WriteOptions { ack: Ack::Disk, ..WriteOptions::default() })?;
    Ok(())
}
