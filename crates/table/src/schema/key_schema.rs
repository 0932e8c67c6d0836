//! A key schema that this build can use: made once, from text, by the builder or from a table's
//! descriptor, and then shared.

use std::fmt;

use sluice_base::{Error, ErrorKind, Result};

use super::{
    FieldType, FieldValue, IntWidth, SCHEMA_FIELDS_MAX, Schema, SchemaField,
    custom::{self, Code},
};

/// Most bytes of the name of a schema or a field that is made here.
const NAME_BYTES_MAX: usize = 64;

/// How keys split into fields. Two schemas are one when name, version and fields are the same.
///
/// ```
/// use sluice_table::{FieldValue, KeySchema};
///
/// # fn main() -> sluice_base::Result<()> {
/// let schema = KeySchema::parse("events", 1, "tenant escaped, ts u64 desc, rest")?;
/// let fields =
///     [FieldValue::Bytes(b"acme"[..].into()), FieldValue::Number(7), FieldValue::Bytes(b"x"[..].into())];
/// let key = schema.join(&fields)?;
/// assert_eq!(key, b"acme\x00\x01\xff\xff\xff\xff\xff\xff\xff\xf8x");
/// assert_eq!(schema.split(&key).as_deref(), Some(&fields[..]));
/// assert_eq!(schema.split(b"acme\x00\x01\xff"), None);
/// assert_eq!(schema.to_string(), "tenant escaped, ts u64 desc, rest");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KeySchema {
    pub(super) descriptor: Schema,
    /// What the descriptor says of each field.
    pub(super) types: Vec<FieldType>,
    pub(super) code: Code,
}

impl PartialEq for KeySchema {
    fn eq(&self, other: &KeySchema) -> bool {
        self.descriptor == other.descriptor
    }
}

impl Eq for KeySchema {}

impl fmt::Debug for KeySchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, text) = (self.id().to_string(), self.to_string());
        f.debug_struct("KeySchema").field("id", &id).field("fields", &text).finish()
    }
}

impl KeySchema {
    /// The schema of keys without known structure: one field, the whole key.
    pub fn whole_key() -> KeySchema {
        let (descriptor, types) = (Schema::whole_key(), vec![FieldType::Rest]);
        KeySchema { descriptor, types, code: Code::Declared }
    }

    /// Begins a schema without fields.
    ///
    /// ```
    /// use sluice_table::{IntWidth, KeySchema};
    ///
    /// # fn main() -> sluice_base::Result<()> {
    /// let built = KeySchema::builder("orders", 2)
    ///     .uint("table", IntWidth::Four)
    ///     .escaped("tenant")
    ///     .uint_desc("ts", IntWidth::Eight)
    ///     .rest("rest")
    ///     .build()?;
    /// let parsed = KeySchema::parse("orders", 2, "table u32, tenant escaped, ts u64 desc, rest")?;
    /// assert_eq!(built, parsed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(name: &str, version: u32) -> KeySchemaBuilder {
        KeySchemaBuilder {
            descriptor: Schema { name: name.to_owned(), version, fields: Vec::new() },
        }
    }

    /// Reads the text form: fields apart by commas, each a name and a type ([`KeySchema`]'s example
    /// shows it, `docs/format/table.md` lists the types). Refusals are [`ErrorKind::Invalid`] and
    /// name the field.
    pub fn parse(name: &str, version: u32, text: &str) -> Result<KeySchema> {
        let mut builder = KeySchema::builder(name, version);
        for (field, of_type) in super::text::parse(text)? {
            builder = builder.field(&field, of_type);
        }
        builder.build()
    }

    /// The schema that a table or a manifest describes. [`ErrorKind::Unsupported`] when it has
    /// fields that this build does not know. Of a custom schema it is what can be had without the
    /// splitter: it reads tables, and splits no key.
    pub fn from_descriptor(descriptor: Schema) -> Result<KeySchema> {
        let unsupported = |what: String| {
            let Schema { name, version, .. } = &descriptor;
            let message = format!("key schema {name:?} version {version}: {what}");
            Error::new(ErrorKind::Unsupported, message)
        };
        let custom = descriptor.fields.iter().any(|field| field.kind == SchemaField::CUSTOM);
        if custom {
            let types = custom::types(&descriptor).map_err(unsupported)?;
            return Ok(KeySchema { descriptor, types, code: Code::Unknown });
        }
        let mut types = Vec::with_capacity(descriptor.fields.len());
        for (index, field) in descriptor.fields.iter().enumerate() {
            let SchemaField { kind, parameter, name } = field;
            let of_type = FieldType::of(field).ok_or_else(|| {
                unsupported(format!("field {name:?} of kind {kind}, parameter {parameter}"))
            })?;
            if of_type == FieldType::Rest && index + 1 < descriptor.fields.len() {
                return Err(unsupported(format!("field {name:?} takes the rest, yet is not last")));
            }
            types.push(of_type);
        }
        if types.is_empty() || types.len() > SCHEMA_FIELDS_MAX {
            return Err(unsupported(format!("{} fields", types.len())));
        }
        Ok(KeySchema { descriptor, types, code: Code::Declared })
    }

    /// The schema whose canonical descriptor is `bytes`, as [`KeySchema::encode`] makes it.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] when they are none; as [`KeySchema::from_descriptor`] otherwise.
    pub fn decode(bytes: &[u8]) -> Result<KeySchema> {
        let descriptor = Schema::decode(bytes).map_err(|_| {
            let found = super::hex(bytes);
            let message = format!("expected a canonical key schema descriptor, found {found}");
            Error::new(ErrorKind::Corruption, message)
        })?;
        KeySchema::from_descriptor(descriptor)
    }

    /// The canonical descriptor: what tables and manifest store.
    pub fn encode(&self) -> Vec<u8> {
        self.descriptor.encode()
    }

    /// What tables store of it.
    pub fn descriptor(&self) -> &Schema {
        &self.descriptor
    }

    /// Name, for people and messages.
    pub fn name(&self) -> &str {
        &self.descriptor.name
    }

    pub fn version(&self) -> u32 {
        self.descriptor.version
    }

    /// The types of the fields, in key order; at least one.
    pub fn types(&self) -> &[FieldType] {
        &self.types
    }

    /// Whether the whole key is one field, whatever the names.
    pub fn is_whole_key(&self) -> bool {
        self.types == [FieldType::Rest]
    }

    /// Replaces `ends` by where each field of `key` ends; false when the key does not split, as all
    /// do that a splitter would have to split which is not here.
    #[inline]
    pub fn split_ends(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
        match &self.code {
            Code::Declared => self.split_rest(key, 0, ends),
            Code::Unknown => false,
            Code::Splitter(splitter) => custom::split(&**splitter, &self.types, key, ends),
        }
    }

    /// How many leading fields say themselves where they end, so that groups and a filter of prefixes
    /// may have so many: all but `rest`; of a custom schema those in front of the first of bytes.
    #[inline]
    pub fn delimited_fields(&self) -> usize {
        let is_code = |of_type: &FieldType| *of_type == FieldType::Custom;
        if let (true, Some(first)) = (self.is_custom(), self.types.iter().position(is_code)) {
            return first;
        }
        self.types.len() - usize::from(self.types.last() == Some(&FieldType::Rest))
    }

    /// How many bytes of `key` its first `fields` fields are; `None` when it does not begin with so many.
    /// What comes behind them does not matter.
    pub(crate) fn prefix_end(&self, key: &[u8], fields: usize) -> Option<usize> {
        let mut at = 0;
        for of_type in self.types.get(..fields)? {
            at += of_type.take(&key[at..])?;
        }
        Some(at)
    }

    /// [`KeySchema::split_ends`] of a key whose first `kept` fields, which must be delimited, are
    /// known to end as the first `kept` of `ends` say. Not of custom schemas.
    #[inline]
    pub(crate) fn split_rest(&self, key: &[u8], kept: usize, ends: &mut Vec<usize>) -> bool {
        ends.truncate(kept);
        let mut at = ends.last().copied().unwrap_or(0);
        for of_type in &self.types[ends.len()..] {
            let Some(bytes) = of_type.take(&key[at..]) else { return false };
            at += bytes;
            ends.push(at);
        }
        at == key.len()
    }

    /// The values of the fields of `key`; `None` when it does not split. [`KeySchema::join`] makes
    /// the same bytes of them.
    pub fn split<'a>(&self, key: &'a [u8]) -> Option<Vec<FieldValue<'a>>> {
        let mut ends = Vec::with_capacity(self.types.len());
        self.split_ends(key, &mut ends).then(|| self.values(key, &ends)).flatten()
    }

    /// The values of the fields of `key` that end at `ends`.
    pub(crate) fn values<'a>(&self, key: &'a [u8], ends: &[usize]) -> Option<Vec<FieldValue<'a>>> {
        let mut start = 0;
        let value = |(of_type, &end): (&FieldType, &usize)| {
            let bytes = &key[start..end];
            start = end;
            of_type.value(bytes)
        };
        self.types.iter().zip(ends).map(value).collect()
    }

    /// The key whose fields have these values, one for each field. A value that the field's type
    /// cannot hold is [`ErrorKind::Invalid`]; so are values that a splitter finds elsewhere in it.
    pub fn join(&self, values: &[FieldValue<'_>]) -> Result<Vec<u8>> {
        if values.len() != self.types.len() {
            let (found, wanted) = (values.len(), self.types.len());
            let text = format!("{found} values for a key of {wanted} fields ({self})");
            return Err(Error::invalid(text));
        }
        let mut key = Vec::new();
        for ((of_type, field), value) in self.types.iter().zip(&self.descriptor.fields).zip(values)
        {
            of_type.put(&field.name, value, &mut key)?;
        }
        if self.is_custom() && self.split(&key).as_deref() != Some(values) {
            let text = format!("the splitter of key schema {} does not split it so", self.id());
            return Err(Error::invalid(format!("{}: {text}", super::hex(&key))));
        }
        Ok(key)
    }
}

/// The text form of the fields.
impl fmt::Display for KeySchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (of_type, field)) in self.types.iter().zip(&self.descriptor.fields).enumerate()
        {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match self.is_custom() {
                true => super::text::print_custom(f, &field.name, *of_type)?,
                false => super::text::print(f, &field.name, *of_type)?,
            }
        }
        Ok(())
    }
}

/// Collects the fields of a [`KeySchema`], in key order.
#[derive(Debug, Clone)]
pub struct KeySchemaBuilder {
    descriptor: Schema,
}

impl KeySchemaBuilder {
    /// Adds a field.
    pub fn field(mut self, name: &str, of_type: FieldType) -> KeySchemaBuilder {
        let (kind, parameter) = of_type.code();
        self.descriptor.fields.push(SchemaField { kind, parameter, name: name.to_owned() });
        self
    }

    /// Adds an integer, small values first.
    pub fn uint(self, name: &str, width: IntWidth) -> KeySchemaBuilder {
        self.field(name, FieldType::Uint { width, desc: false })
    }

    /// Adds an integer, large values first.
    pub fn uint_desc(self, name: &str, width: IntWidth) -> KeySchemaBuilder {
        self.field(name, FieldType::Uint { width, desc: true })
    }

    /// Adds exactly `bytes` bytes.
    pub fn fixed(self, name: &str, bytes: u16) -> KeySchemaBuilder {
        self.field(name, FieldType::Fixed(bytes))
    }

    /// Adds bytes of any length in their own order.
    pub fn escaped(self, name: &str) -> KeySchemaBuilder {
        self.field(name, FieldType::Escaped)
    }

    /// Adds bytes behind their length.
    pub fn counted(self, name: &str, length: IntWidth) -> KeySchemaBuilder {
        self.field(name, FieldType::Counted(length))
    }

    /// Adds what is left of the key; nothing may follow.
    pub fn rest(self, name: &str) -> KeySchemaBuilder {
        self.field(name, FieldType::Rest)
    }

    /// Checks names and fields. What is wrong is [`ErrorKind::Invalid`] and named.
    pub fn build(self) -> Result<KeySchema> {
        check_names(&self.descriptor)?;
        let name = &self.descriptor.name;
        if self.descriptor.fields.iter().any(|field| field.kind == SchemaField::CUSTOM) {
            let text = "a custom field comes of a KeySplitter: use KeySchema::custom";
            return Err(Error::invalid(format!("key schema {name:?}: {text}")));
        }
        match KeySchema::from_descriptor(self.descriptor) {
            Ok(schema) => Ok(schema),
            // Not of a newer build, but of this caller: `fixed 0`, a length of 8 bytes.
            Err(error) => Err(Error::invalid(format!("{error}; see the limits of the types"))),
        }
    }
}

/// Checks the names of a schema that is made here, and the number and place of its fields.
pub(super) fn check_names(descriptor: &Schema) -> Result<()> {
    let Schema { name, fields, .. } = descriptor;
    let wrong = |what: String| Err(Error::invalid(format!("key schema {name:?}: {what}")));
    if !is_name(name) {
        return wrong(format!("not a name; {NAME_RULE}"));
    }
    if fields.is_empty() || fields.len() > SCHEMA_FIELDS_MAX {
        let count = fields.len();
        return wrong(format!("{count} fields; give 1 to {SCHEMA_FIELDS_MAX}"));
    }
    for (index, SchemaField { name, kind, .. }) in fields.iter().enumerate() {
        let number = index + 1;
        if !is_name(name) {
            return wrong(format!("field {number}, {name:?}: not a name; {NAME_RULE}"));
        }
        if fields[..index].iter().any(|before| before.name == *name) {
            return wrong(format!("field {number}, {name:?}: the name is taken; rename one"));
        }
        if *kind == SchemaField::REST_PREFIX_BYTES && number < fields.len() {
            return wrong(format!(
                "field {number}, {name:?}: the rest leaves nothing for later fields; make it \
                 the last, or escaped"
            ));
        }
    }
    Ok(())
}

const NAME_RULE: &str = "use 1 to 64 letters, digits, _ and -, and begin with a letter";

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
#[path = "key_schema_tests.rs"]
mod tests;
