//! [`KeyPredicate`]: conditions on the fields of a key, for readers that want some rows only.
//!
//! A condition is kept in the form of the field's column (`docs/format/table.md`, Keys): a range of the
//! integers that stand in keys, or of key bytes without the end of escaped ones. So one form serves
//! statistics, columns and whole keys, and a descending field is nothing special: its range is turned
//! once, when the condition is made. Fields of a custom schema are their bytes. A key begins with its
//! leading fields under every schema, so the prefix of a predicate narrows under all of them.
//!
//! *Why rows may be left out below a merge.* A predicate looks at the user key alone, by a schema
//! of its own, whatever the schema of the table or the memtable that holds it. So all versions of a
//! user key agree, in all sources: either every one of them is shown or none is. What decides about a key
//! at a snapshot (a newer version, a tombstone) is left out only together with what it hides.

use std::{
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use sluice_base::{Error, Result};

use crate::schema::{FieldType, FieldValue, KeySchema};

/// What must hold for the fields of a key. Conditions are joined by "and"; a key that does not split by
/// the schema matches nothing. A range of integers is one of values, whichever way they sort; any
/// other range is one of key order: `counted` fields sort by their length first.
///
/// ```
/// use std::sync::Arc;
///
/// use sluice_table::{FieldValue, KeyPredicate, KeySchema};
///
/// # fn main() -> sluice_base::Result<()> {
/// let schema = Arc::new(KeySchema::parse("events", 1, "tenant escaped, ts u64 desc, rest")?);
/// let tenant = || FieldValue::Bytes(b"acme"[..].into());
/// let predicate = KeyPredicate::new(Arc::clone(&schema))
///     .equal("tenant", tenant())?
///     .range("ts", FieldValue::Number(100)..FieldValue::Number(200))?;
/// let key = |ts| schema.join(&[tenant(), FieldValue::Number(ts), FieldValue::Bytes(b"x"[..].into())]);
/// assert!(predicate.matches(&key(100)?) && predicate.matches(&key(199)?));
/// assert!(!predicate.matches(&key(200)?) && !predicate.matches(b"does not split"));
/// assert_eq!(predicate.key_prefix(), b"acme\x00\x01");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPredicate {
    schema: Arc<KeySchema>,
    /// At most one a field, fields ascend.
    conditions: Vec<Condition>,
    /// The conditions exclude each other.
    never: bool,
    key_prefix: Vec<u8>,
}

/// What must hold for one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub field: usize,
    pub wanted: Wanted,
}

/// A range of the values of a field's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Both included.
    Numbers {
        from: u64,
        to: u64,
    },
    Strings {
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    },
}

/// A field of a schema, by its name or its place from 0.
#[derive(Debug, Clone, Copy)]
pub enum FieldRef<'a> {
    /// By name.
    Name(&'a str),
    /// By place: 0 is the first.
    Number(usize),
}

impl<'a> From<&'a str> for FieldRef<'a> {
    fn from(name: &'a str) -> FieldRef<'a> {
        FieldRef::Name(name)
    }
}

impl From<usize> for FieldRef<'_> {
    fn from(number: usize) -> Self {
        FieldRef::Number(number)
    }
}

impl KeyPredicate {
    /// The predicate of every key that splits by `schema`.
    pub fn new(schema: Arc<KeySchema>) -> KeyPredicate {
        KeyPredicate { schema, conditions: Vec::new(), never: false, key_prefix: Vec::new() }
    }

    /// Adds that a field has this value.
    ///
    /// # Errors
    /// [`sluice_base::ErrorKind::Invalid`] for a field that the schema does not have, a value that
    /// the field cannot hold, and a custom schema whose splitter is not there.
    pub fn equal<'a>(
        self,
        field: impl Into<FieldRef<'a>>,
        value: FieldValue<'_>,
    ) -> Result<KeyPredicate> {
        self.range(field, value.clone()..=value)
    }

    /// Adds that a field lies in a range. Of two ranges of one field what they share is left.
    ///
    /// # Errors
    /// As [`KeyPredicate::equal`], for both ends.
    pub fn range<'a, 'v>(
        mut self,
        field: impl Into<FieldRef<'a>>,
        range: impl RangeBounds<FieldValue<'v>>,
    ) -> Result<KeyPredicate> {
        if !self.schema.can_split() {
            return Err(Error::invalid(format!(
                "key schema {} has no splitter here, so no key can be asked for its fields: make it with \
                 KeySchema::custom",
                self.schema.id()
            )));
        }
        let field = self.find(field.into())?;
        let of_type = self.schema.types()[field];
        let mut from = self.end(field, range.start_bound())?;
        let mut to = self.end(field, range.end_bound())?;
        let wanted = match of_type {
            FieldType::Uint { width, desc } => {
                if desc {
                    std::mem::swap(&mut from, &mut to);
                }
                let number = |end: &[u8]| width.load(end).unwrap_or(0);
                let from = match &from {
                    Bound::Unbounded => Some(0),
                    Bound::Included(from) => Some(number(from)),
                    Bound::Excluded(from) => number(from).checked_add(1),
                };
                let to = match &to {
                    Bound::Unbounded => Some(width.max()),
                    Bound::Included(to) => Some(number(to)),
                    Bound::Excluded(to) => number(to).checked_sub(1),
                };
                match (from, to) {
                    (Some(from), Some(to)) => Wanted::Numbers { from, to },
                    _ => Wanted::Numbers { from: 1, to: 0 },
                }
            }
            _ => Wanted::Strings { from, to },
        };
        match self.conditions.binary_search_by_key(&field, |condition| condition.field) {
            Ok(at) => {
                let shared = self.conditions[at].wanted.clone().and(wanted);
                self.conditions[at].wanted = shared;
            }
            Err(at) => self.conditions.insert(at, Condition { field, wanted }),
        }
        self.never = self.conditions.iter().any(|condition| condition.wanted.is_empty());
        self.key_prefix.clear();
        for (field, condition) in self.conditions.iter().enumerate() {
            if condition.field != field
                || !condition.wanted.append_only(self.schema.types()[field], &mut self.key_prefix)
            {
                break;
            }
        }
        Ok(self)
    }

    /// The schema whose fields it names.
    pub fn schema(&self) -> &Arc<KeySchema> {
        &self.schema
    }

    /// What every key that matches begins with: the leading fields of which one value is wanted.
    pub fn key_prefix(&self) -> &[u8] {
        &self.key_prefix
    }

    /// Whether `key` splits by the schema and fulfils every condition.
    pub fn matches(&self, key: &[u8]) -> bool {
        self.matches_with(key, &mut Vec::new())
    }

    /// [`KeyPredicate::matches`] with room for where the fields end, kept by who asks for many keys.
    pub fn matches_with(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
        if self.never || !key.starts_with(&self.key_prefix) || !self.schema.split_ends(key, ends) {
            return false;
        }
        self.conditions.iter().all(|condition| {
            let start = condition.field.checked_sub(1).map_or(0, |before| ends[before]);
            let own = &key[start..ends[condition.field]];
            match (self.schema.types()[condition.field], &condition.wanted) {
                (FieldType::Uint { width, .. }, wanted) => {
                    width.load(own).is_some_and(|number| wanted.has_number(number))
                }
                (FieldType::Escaped, wanted) => wanted.has_string(&own[..own.len() - 2]),
                (_, wanted) => wanted.has_string(own),
            }
        })
    }

    /// Whether no key can match.
    pub(crate) fn is_never(&self) -> bool {
        self.never
    }

    pub(crate) fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn find(&self, field: FieldRef<'_>) -> Result<usize> {
        let fields = &self.schema.descriptor().fields;
        let found = match field {
            FieldRef::Name(name) => fields.iter().position(|field| field.name == name),
            FieldRef::Number(number) => (number < fields.len()).then_some(number),
        };
        found.ok_or_else(|| {
            let schema = &self.schema;
            let text = match field {
                FieldRef::Name(name) => format!("no key field {name:?} in {schema}"),
                FieldRef::Number(number) => format!("no key field {number} (from 0) in {schema}"),
            };
            Error::invalid(text)
        })
    }

    /// The end of a range in the form of the field's column.
    fn end(&self, field: usize, end: Bound<&FieldValue<'_>>) -> Result<Bound<Vec<u8>>> {
        let of_type = self.schema.types()[field];
        let name = &self.schema.descriptor().fields[field].name;
        let column = |value: &FieldValue<'_>| {
            let mut own = Vec::new();
            of_type.put(name, value, &mut own)?;
            if of_type == FieldType::Escaped {
                own.truncate(own.len() - 2);
            }
            Ok(own)
        };
        Ok(match end {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(value) => Bound::Included(column(value)?),
            Bound::Excluded(value) => Bound::Excluded(column(value)?),
        })
    }
}

impl Wanted {
    #[inline]
    pub fn has_number(&self, number: u64) -> bool {
        matches!(self, Wanted::Numbers { from, to } if (*from..=*to).contains(&number))
    }

    #[inline]
    pub fn has_string(&self, string: &[u8]) -> bool {
        let Wanted::Strings { from, to } = self else { return false };
        let above = match from {
            Bound::Unbounded => true,
            Bound::Included(from) => string >= &from[..],
            Bound::Excluded(from) => string > &from[..],
        };
        above
            && match to {
                Bound::Unbounded => true,
                Bound::Included(to) => string <= &to[..],
                Bound::Excluded(to) => string < &to[..],
            }
    }

    /// What both want. They are of one field.
    fn and(self, other: Wanted) -> Wanted {
        match (self, other) {
            (Wanted::Numbers { from, to }, Wanted::Numbers { from: low, to: high }) => {
                Wanted::Numbers { from: from.max(low), to: to.min(high) }
            }
            (Wanted::Strings { from, to }, Wanted::Strings { from: low, to: high }) => {
                Wanted::Strings { from: tighter(from, low, true), to: tighter(to, high, false) }
            }
            (wanted, _) => wanted,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Wanted::Numbers { from, to } => from > to,
            Wanted::Strings { from: Bound::Included(from), to: Bound::Included(to) } => from > to,
            Wanted::Strings {
                from: Bound::Included(from) | Bound::Excluded(from),
                to: Bound::Included(to) | Bound::Excluded(to),
            } => from >= to,
            Wanted::Strings { .. } => false,
        }
    }

    /// Appends the key bytes of the only value wanted; false when there may be others.
    fn append_only(&self, of_type: FieldType, out: &mut Vec<u8>) -> bool {
        match (self, of_type) {
            (Wanted::Numbers { from, to }, FieldType::Uint { width, .. }) if from == to => {
                width.store(*from, out);
                true
            }
            (Wanted::Strings { from: Bound::Included(from), to: Bound::Included(to) }, _)
                if from == to =>
            {
                out.extend_from_slice(from);
                if of_type == FieldType::Escaped {
                    out.extend_from_slice(&crate::key_columns::ESCAPED_END);
                }
                true
            }
            _ => false,
        }
    }
}

/// The bound that leaves less, of two lower or two upper ones.
fn tighter(a: Bound<Vec<u8>>, b: Bound<Vec<u8>>, lower: bool) -> Bound<Vec<u8>> {
    let (value_a, value_b) = match (&a, &b) {
        (Bound::Unbounded, _) => return b,
        (_, Bound::Unbounded) => return a,
        (
            Bound::Included(value_a) | Bound::Excluded(value_a),
            Bound::Included(value_b) | Bound::Excluded(value_b),
        ) => (value_a, value_b),
    };
    match value_a.cmp(value_b) {
        std::cmp::Ordering::Equal => {
            if matches!(a, Bound::Excluded(_)) {
                a
            } else {
                b
            }
        }
        order if order.is_gt() == lower => a,
        _ => b,
    }
}
