//! Key schemas of which the rule is code: [`KeySplitter`], and how its descriptor is read.
//!
//! A table names such a schema, as any other, by its descriptor. All its fields are of kind 7:
//!
//! ```text
//!   parameter of field 0  = contract << 4 | width      contract: the low 60 bits of XXH3 of the text
//!   of the fields behind  = width                      width: 0 bytes, or 1, 2, 4, 8 of an integer
//! ```
//! so the contract is part of the descriptor's hash, and with that of the identity.
//!
//! *Invariants.* The key is the bytes of its fields, one behind the other: whatever a splitter says,
//! nothing is lost. What it says is checked ([`is_split`]), and a key for which it is wrong does not
//! split. Nothing else is asked of it: fields of bytes need not be prefix-free, so their order is not
//! that of the keys, and a search compares whole rows from the first of them on. Columns say themselves where fields end, so a
//! table is read and searched without the splitter; only who splits a key needs it.

use std::{fmt, sync::Arc};

use sluice_base::{Error, Result, checksum};

use super::{FieldType, IntWidth, KeySchema, Schema, SchemaField, key_schema::check_names};

/// How many bits of a parameter say the width.
const WIDTH_BITS: u32 = 4;

/// A rule by which keys split that no declarative [`KeySchema`] says. For keys that exist already;
/// who may choose how keys are made has no need of it.
///
/// The name, the version, the fields and the contract are the identity. A database that was written
/// under a splitter opens only where the same is given again (`Options::key_splitters` of the engine).
///
/// It is called by every flush and compaction, twice for each key, and by reads with a predicate, from
/// any thread and under locks: it must be fast, must not panic, and must say the same of a key every
/// time. A key for which it is wrong is kept whole. One that says different things of a key at
/// different times costs no byte of it, but predicates then answer by what it said last.
///
/// ```
/// use std::sync::Arc;
///
/// use sluice_table::{FieldValue, IntWidth, KeySchema, KeySplitter, SplitField};
///
/// /// `user/000017`: up to the last slash, then the rest.
/// #[derive(Debug)]
/// struct Paths;
///
/// impl KeySplitter for Paths {
///     fn name(&self) -> &str {
///         "paths"
///     }
///     fn version(&self) -> u32 {
///         1
///     }
///     fn fields(&self) -> Vec<SplitField> {
///         vec![SplitField::bytes("folder"), SplitField::bytes("file")]
///     }
///     fn contract(&self) -> &str {
///         "the folder ends with the last slash, which is there"
///     }
///     fn split(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
///         let Some(slash) = key.iter().rposition(|&byte| byte == b'/') else { return false };
///         ends.extend([slash + 1, key.len()]);
///         true
///     }
/// }
///
/// # fn main() -> sluice_base::Result<()> {
/// let schema = KeySchema::custom(Arc::new(Paths))?;
/// let bytes = |bytes: &'static [u8]| FieldValue::Bytes(bytes.into());
/// assert_eq!(schema.split(b"a/b/c"), Some(vec![bytes(b"a/b/"), bytes(b"c")]));
/// assert_eq!(schema.split(b"no slash"), None);
/// assert_eq!(schema.to_string(), "folder custom, file custom");
/// # Ok(())
/// # }
/// ```
pub trait KeySplitter: fmt::Debug + Send + Sync {
    /// 1 to 64 letters, digits, `_` and `-`, a letter first. The fields' names are such too.
    fn name(&self) -> &str;

    /// Which rule of this name it is. A splitter whose answers change gets another.
    fn version(&self) -> u32;

    /// The fields, in the order in which they stand in keys; at least one.
    fn fields(&self) -> Vec<SplitField>;

    /// The rule, in words that change when an answer does: "up to the last slash". Of any length; its
    /// hash is in the descriptor.
    fn contract(&self) -> &str;

    /// Appends to `ends`, which is empty, where each field of `key` ends, the last one at its end;
    /// false when the key does not split. A field of an integer has exactly the bytes of its width.
    fn split(&self, key: &[u8], ends: &mut Vec<usize>) -> bool;
}

/// A field that a [`KeySplitter`] finds in keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitField {
    pub name: String,
    /// `None`: bytes of any number. Else a big-endian integer of this width, small values first.
    pub width: Option<IntWidth>,
}

impl SplitField {
    /// Bytes, as many as the splitter says.
    pub fn bytes(name: &str) -> SplitField {
        SplitField { name: name.to_owned(), width: None }
    }

    /// A big-endian integer, which has a column of integers.
    pub fn uint(name: &str, width: IntWidth) -> SplitField {
        SplitField { name: name.to_owned(), width: Some(width) }
    }

    fn of_type(&self) -> FieldType {
        match self.width {
            Some(width) => FieldType::Uint { width, desc: false },
            None => FieldType::Custom,
        }
    }
}

/// Who splits the keys of a schema.
#[derive(Clone)]
pub(super) enum Code {
    /// The types of the fields.
    Declared,
    /// A splitter that is not here: only its descriptor is.
    Unknown,
    Splitter(Arc<dyn KeySplitter>),
}

impl KeySchema {
    /// The schema by which `splitter` splits. Names, fields and contract are asked for once, here.
    ///
    /// # Errors
    /// [`sluice_base::ErrorKind::Invalid`] for names that are none or are taken, and for no fields or
    /// more than [`super::SCHEMA_FIELDS_MAX`].
    pub fn custom(splitter: Arc<dyn KeySplitter>) -> Result<KeySchema> {
        let contract = checksum::xxh3(splitter.contract().as_bytes()) << WIDTH_BITS;
        let mut fields = Vec::new();
        for (index, field) in splitter.fields().into_iter().enumerate() {
            let width = field.width.map_or(0, |width| width.bytes() as u64);
            let parameter = if index == 0 { contract | width } else { width };
            fields.push(SchemaField { kind: SchemaField::CUSTOM, parameter, name: field.name });
        }
        let name = splitter.name().to_owned();
        let descriptor = Schema { name, version: splitter.version(), fields };
        check_names(&descriptor)?;
        let types = types(&descriptor)
            .map_err(|what| Error::invalid(format!("key schema {:?}: {what}", descriptor.name)))?;
        Ok(KeySchema { descriptor, types, code: Code::Splitter(splitter) })
    }

    /// Whether a [`KeySplitter`] splits its keys, be it here or not.
    #[inline]
    pub fn is_custom(&self) -> bool {
        !matches!(self.code, Code::Declared)
    }

    /// Whether it can split keys: not a custom schema that was made of its descriptor alone. Tables
    /// under such a one are read all the same.
    pub fn can_split(&self) -> bool {
        !matches!(self.code, Code::Unknown)
    }

    /// Whether the columns of a table under `other` hold what this schema calls its fields.
    pub(crate) fn splits_as(&self, other: &KeySchema) -> bool {
        match self.is_custom() || other.is_custom() {
            false => self.types == other.types,
            true => self == other && self.can_split(),
        }
    }

    /// [`KeySchema::split_ends`] that asks twice; `again` is scratch. Of what is written, for a
    /// splitter that does not know its own mind.
    pub(crate) fn split_twice(
        &self,
        key: &[u8],
        ends: &mut Vec<usize>,
        again: &mut Vec<usize>,
    ) -> bool {
        self.split_ends(key, ends) && self.split_ends(key, again) && ends == again
    }
}

/// Asks `splitter` for the ends of `key`'s fields, and believes nothing.
pub(super) fn split(
    splitter: &dyn KeySplitter,
    types: &[FieldType],
    key: &[u8],
    ends: &mut Vec<usize>,
) -> bool {
    ends.clear();
    splitter.split(key, ends) && is_split(types, key, ends)
}

/// Whether `ends` cut `key` into fields of these types, all of it.
fn is_split(types: &[FieldType], key: &[u8], ends: &[usize]) -> bool {
    let mut start = 0;
    ends.len() == types.len()
        && ends.last() == Some(&key.len())
        && types.iter().zip(ends).all(|(of_type, &end)| {
            let bytes = end.checked_sub(std::mem::replace(&mut start, end));
            match of_type {
                FieldType::Uint { width, .. } => bytes == Some(width.bytes()),
                _ => bytes.is_some(),
            }
        })
}

/// The types of the fields of a custom schema; what a build to come means with others is not known.
pub(super) fn types(descriptor: &Schema) -> Result<Vec<FieldType>, String> {
    let mut types = Vec::with_capacity(descriptor.fields.len());
    for (index, field) in descriptor.fields.iter().enumerate() {
        let SchemaField { kind, parameter, name } = field;
        let low = parameter & ((1 << WIDTH_BITS) - 1);
        let width = if index == 0 { low } else { *parameter };
        let width = match (*kind, width) {
            (SchemaField::CUSTOM, 0) => Some(None),
            (SchemaField::CUSTOM, width) => IntWidth::of_bytes(width).map(Some),
            _ => None,
        };
        let Some(width) = width else {
            return Err(format!(
                "field {name:?} of kind {kind}, parameter {parameter}, in a custom key schema"
            ));
        };
        types.push(SplitField { name: String::new(), width }.of_type());
    }
    Ok(types)
}

#[cfg(test)]
#[path = "custom_tests.rs"]
mod tests;
