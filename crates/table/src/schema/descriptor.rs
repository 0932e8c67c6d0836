//! The descriptor of a key schema: what tables store and what the identity is made of. It may name
//! field kinds that this build does not know; [`super::KeySchema`] is one that it does.
//!
//! Canonical bytes, of which [`Schema::hash`] is the XXH3 (all numbers varints, strings behind
//! their length): `version, name, field count, then per field: kind, parameter, name`.

use sluice_base::{checksum, varint};

use crate::{fault::Fault, schema::hex};

/// Most fields of a schema: their columns take the roles below [`crate::format::role::TRAILER`].
pub const SCHEMA_FIELDS_MAX: usize = 62;

/// One field of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaField {
    /// What the field holds: one of the constants here, or of a newer build.
    pub kind: u8,
    /// A number that belongs to the kind, such as a width; 0 when it needs none.
    pub parameter: u64,
    pub name: String,
}

impl SchemaField {
    /// All bytes that are left of the key. As the only field: the whole key, as prefix bytes.
    pub const REST_PREFIX_BYTES: u8 = 1;
    /// As many bytes as the parameter says.
    pub const FIXED: u8 = 2;
    /// A big-endian integer of 1, 2, 4 or 8 bytes (the parameter).
    pub const UINT_ASC: u8 = 3;
    /// The same, of which the key holds the complement: large values come first.
    pub const UINT_DESC: u8 = 4;
    /// Bytes in which 00 is written as 00 ff, behind them 00 01. The parameter is 0.
    pub const ESCAPED: u8 = 5;
    /// A big-endian length of 1, 2 or 4 bytes (the parameter), then as many bytes.
    pub const COUNTED: u8 = 6;
    /// What a [`super::KeySplitter`] says. All fields of its schema are such.
    pub const CUSTOM: u8 = 7;
}

/// A key schema's descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub name: String,
    pub version: u32,
    pub fields: Vec<SchemaField>,
}

impl Schema {
    /// The schema of keys without known structure: one field, the whole key.
    pub fn whole_key() -> Schema {
        Schema {
            name: "whole-key".to_owned(),
            version: 1,
            fields: vec![SchemaField {
                kind: SchemaField::REST_PREFIX_BYTES,
                parameter: 0,
                name: "key".to_owned(),
            }],
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put_u32(&mut out, self.version);
        varint::put_bytes(&mut out, self.name.as_bytes());
        varint::put_u64(&mut out, self.fields.len() as u64);
        for field in &self.fields {
            out.push(field.kind);
            varint::put_u64(&mut out, field.parameter);
            varint::put_bytes(&mut out, field.name.as_bytes());
        }
        out
    }

    /// The identity besides name and version: two layouts never pass for each other.
    pub fn hash(&self) -> u64 {
        checksum::xxh3(&self.encode())
    }

    /// Reads canonical bytes, of known and unknown schemas alike.
    pub fn decode(bytes: &[u8]) -> Result<Schema, Fault> {
        Schema::take(&mut &bytes[..])
            .filter(|schema| schema.encode() == bytes)
            .ok_or_else(|| Fault::damaged("a canonical schema descriptor", hex(bytes)))
    }

    fn take(input: &mut &[u8]) -> Option<Schema> {
        let version = varint::take_u32(input)?;
        let name = take_string(input)?;
        let count = varint::take_u64(input)?;
        if count > SCHEMA_FIELDS_MAX as u64 {
            return None;
        }
        let mut fields = Vec::new();
        for _ in 0..count {
            let (&kind, rest) = input.split_first()?;
            *input = rest;
            let parameter = varint::take_u64(input)?;
            fields.push(SchemaField { kind, parameter, name: take_string(input)? });
        }
        Some(Schema { name, version, fields })
    }
}

fn take_string(input: &mut &[u8]) -> Option<String> {
    let bytes = varint::take_bytes(input)?;
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_round_trips_and_its_hash_is_part_of_the_format() {
        let schema = Schema::whole_key();
        assert_eq!(Schema::decode(&schema.encode()), Ok(schema.clone()));
        assert_eq!(schema.encode(), b"\x01\x09whole-key\x01\x01\x00\x03key");
    }

    #[test]
    fn cut_or_padded_descriptors_are_refused() {
        let mut bytes = Schema::whole_key().encode();
        for cut in 0..bytes.len() {
            assert!(Schema::decode(&bytes[..cut]).is_err());
        }
        bytes.push(0);
        assert!(Schema::decode(&bytes).is_err());
    }
}
