//! The properties block: what a table knows about itself, as named typed values.
//!
//! ```text
//! count u32, then per property in ascending order of the names:
//!   name length u8, name, type u8 (1 number, 2 bytes), length u32, value
//!   number: length 8, u64; bytes: as many as the length says
//! ```
//! A reader takes the names it knows and skips the others, so properties may be added without a
//! new format version. The block is never compressed, and the footer repeats its checksum.

use std::collections::BTreeMap;

use sluice_base::{FileNo, SeqNo, Trailer};

use crate::{
    fault::Fault,
    schema::{Schema, hex},
};

const NUMBER: u8 = 1;
const BYTES: u8 = 2;

/// What a table knows about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    pub entries: u64,
    pub tombstones: u64,
    /// Bytes of all keys and of all values as they were added.
    pub raw_key_bytes: u64,
    pub raw_value_bytes: u64,
    pub seq_min: SeqNo,
    pub seq_max: SeqNo,
    pub smallest: (Vec<u8>, Trailer),
    pub largest: (Vec<u8>, Trailer),
    pub data_blocks: u64,
    /// Bytes of all data blocks in the file.
    pub data_bytes: u64,
    pub filter_bits_per_key: u64,
    /// Distinct user keys.
    pub keys: u64,
    pub expiry_min: u64,
    pub expiry_max: u64,
    pub file_no: FileNo,
    pub created_unix_ms: u64,
    /// Which build wrote the table, and what for.
    pub created_by: String,
    pub created_for: String,
    pub schema: Schema,
    /// Bytes of the index's partitions in the file; 0: the index has one level.
    pub partition_bytes: u64,
    /// Bytes of the filter of prefixes in the file; 0: there is none.
    pub prefix_filter_bytes: u64,
    /// How many key fields such a prefix has.
    pub prefix_filter_fields: u64,
}

impl Properties {
    /// Entries with a value.
    pub fn puts(&self) -> u64 {
        self.entries - self.tombstones
    }

    /// The unpacked payload.
    pub fn encode(&self) -> Vec<u8> {
        let schema = self.schema.encode();
        let number = |number: u64| Value::Number(number);
        let mut values = vec![
            ("count.delete", number(self.tombstones)),
            ("count.entries", number(self.entries)),
            ("count.keys", number(self.keys)),
            ("count.put", number(self.puts())),
            ("created.by", Value::Bytes(self.created_by.as_bytes())),
            ("created.for", Value::Bytes(self.created_for.as_bytes())),
            ("created.unix_ms", number(self.created_unix_ms)),
            ("data.blocks", number(self.data_blocks)),
            ("data.bytes", number(self.data_bytes)),
            ("expiry.max", number(self.expiry_max)),
            ("expiry.min", number(self.expiry_min)),
            ("file.number", number(self.file_no.0)),
            ("filter.bits_per_key", number(self.filter_bits_per_key)),
            ("key.largest", Value::Bytes(&self.largest.0)),
            ("key.largest.trailer", number(self.largest.1.0)),
            ("key.smallest", Value::Bytes(&self.smallest.0)),
            ("key.smallest.trailer", number(self.smallest.1.0)),
            ("raw.key_bytes", number(self.raw_key_bytes)),
            ("raw.value_bytes", number(self.raw_value_bytes)),
            ("schema", Value::Bytes(&schema)),
            ("seq.max", number(self.seq_max.0)),
            ("seq.min", number(self.seq_min.0)),
        ];
        // Only where they say something: a table without is one of the first build's.
        for (name, value) in [
            ("filter.prefix_bytes", self.prefix_filter_bytes),
            ("filter.prefix_fields", self.prefix_filter_fields),
            ("index.partition_bytes", self.partition_bytes),
        ] {
            if value > 0 {
                values.push((name, number(value)));
            }
        }
        values.sort_by_key(|(name, _)| *name);
        let mut out = Vec::with_capacity(1024 + self.smallest.0.len() + self.largest.0.len());
        out.extend_from_slice(&(values.len() as u32).to_le_bytes());
        for (name, value) in values {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            let (kind, bytes) = match value {
                Value::Number(number) => (NUMBER, &number.to_le_bytes()[..]),
                Value::Bytes(bytes) => (BYTES, bytes),
            };
            out.push(kind);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        out
    }

    /// Reads an unpacked payload.
    pub fn decode(bytes: &[u8]) -> Result<Properties, Fault> {
        let values = Values(take_values(bytes)?);
        let properties = Properties {
            entries: values.number("count.entries")?,
            tombstones: values.number("count.delete")?,
            keys: values.number("count.keys")?,
            raw_key_bytes: values.number("raw.key_bytes")?,
            raw_value_bytes: values.number("raw.value_bytes")?,
            seq_min: SeqNo(values.number("seq.min")?),
            seq_max: SeqNo(values.number("seq.max")?),
            smallest: values.entry("key.smallest", "key.smallest.trailer")?,
            largest: values.entry("key.largest", "key.largest.trailer")?,
            data_blocks: values.number("data.blocks")?,
            data_bytes: values.number("data.bytes")?,
            filter_bits_per_key: values.number("filter.bits_per_key")?,
            expiry_min: values.number("expiry.min")?,
            expiry_max: values.number("expiry.max")?,
            file_no: FileNo(values.number("file.number")?),
            created_unix_ms: values.number("created.unix_ms")?,
            created_by: values.text("created.by")?,
            created_for: values.text("created.for")?,
            schema: Schema::decode(values.bytes("schema")?)?,
            partition_bytes: values.optional("index.partition_bytes")?,
            prefix_filter_bytes: values.optional("filter.prefix_bytes")?,
            prefix_filter_fields: values.optional("filter.prefix_fields")?,
        };
        properties.check(values.number("count.put")?)?;
        Ok(properties)
    }

    /// The relations between the numbers.
    fn check(&self, puts: u64) -> Result<(), Fault> {
        let ordered = match self.smallest.0.cmp(&self.largest.0) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.smallest.1 >= self.largest.1,
            std::cmp::Ordering::Greater => false,
        };
        let holds = self.tombstones.checked_add(puts) == Some(self.entries)
            && self.entries > 0
            && (1..=self.entries).contains(&self.keys)
            && (1..=self.entries).contains(&self.data_blocks)
            && self.seq_min <= self.seq_max
            && self.seq_max <= SeqNo::MAX
            && (self.prefix_filter_bytes > 0) == (self.prefix_filter_fields > 0)
            && self.prefix_filter_fields <= self.schema.fields.len() as u64
            && ordered;
        if holds { Ok(()) } else { Err(Fault::damaged("properties that agree", "others")) }
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn take_values(bytes: &[u8]) -> Result<BTreeMap<&[u8], Value<'_>>, Fault> {
    let mut values = BTreeMap::new();
    let short = || Fault::damaged("a whole property", "the end of the block");
    let (count, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    for _ in 0..u32::from_le_bytes(*count) {
        let (&name_bytes, tail) = rest.split_first().ok_or_else(short)?;
        let (name, tail) = tail.split_at_checked(name_bytes.into()).ok_or_else(short)?;
        let (&kind, tail) = tail.split_first().ok_or_else(short)?;
        let (length, tail) = tail.split_first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (raw, tail) = tail.split_at_checked(length).ok_or_else(short)?;
        rest = tail;
        if values.last_key_value().is_some_and(|(&last, _)| last >= name) {
            return Err(Fault::damaged("ascending property names", hex(name)));
        }
        let value = match (kind, <[u8; 8]>::try_from(raw)) {
            (NUMBER, Ok(raw)) => Value::Number(u64::from_le_bytes(raw)),
            (NUMBER, Err(_)) => return Err(Fault::damaged("a number of 8 bytes", hex(raw))),
            (BYTES, _) => Value::Bytes(raw),
            _ => return Err(Fault::unsupported(format!("property type {kind}"))),
        };
        values.insert(name, value);
    }
    if !rest.is_empty() {
        return Err(Fault::damaged("the end of the properties", hex(rest)));
    }
    Ok(values)
}

struct Values<'a>(BTreeMap<&'a [u8], Value<'a>>);

impl<'a> Values<'a> {
    fn number(&self, name: &str) -> Result<u64, Fault> {
        match self.0.get(name.as_bytes()) {
            Some(Value::Number(number)) => Ok(*number),
            _ => Err(Fault::damaged(format!("a number property {name}"), "none")),
        }
    }

    /// 0 when it is not there.
    fn optional(&self, name: &str) -> Result<u64, Fault> {
        if self.0.contains_key(name.as_bytes()) { self.number(name) } else { Ok(0) }
    }

    fn bytes(&self, name: &str) -> Result<&'a [u8], Fault> {
        match self.0.get(name.as_bytes()) {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Err(Fault::damaged(format!("a bytes property {name}"), "none")),
        }
    }

    fn text(&self, name: &str) -> Result<String, Fault> {
        let bytes = self.bytes(name)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Fault::damaged(format!("text in property {name}"), hex(bytes)))
    }

    fn entry(&self, key: &str, trailer: &str) -> Result<(Vec<u8>, Trailer), Fault> {
        Ok((self.bytes(key)?.to_vec(), Trailer(self.number(trailer)?)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use sluice_base::Kind;

    use super::*;

    pub(crate) fn sample() -> Properties {
        Properties {
            entries: 10,
            tombstones: 3,
            raw_key_bytes: 100,
            raw_value_bytes: 1000,
            seq_min: SeqNo(5),
            seq_max: SeqNo(50),
            smallest: (b"a".to_vec(), Trailer::new(SeqNo(50), Kind::Put)),
            largest: (b"z".to_vec(), Trailer::new(SeqNo(5), Kind::Delete)),
            data_blocks: 1,
            data_bytes: 700,
            filter_bits_per_key: 10,
            keys: 9,
            expiry_min: 0,
            expiry_max: 0,
            file_no: FileNo(7),
            created_unix_ms: 1_700_000_000_000,
            created_by: "test".to_owned(),
            created_for: "flush".to_owned(),
            schema: Schema::whole_key(),
            partition_bytes: 0,
            prefix_filter_bytes: 0,
            prefix_filter_fields: 0,
        }
    }

    #[test]
    fn properties_round_trip() {
        let bytes = sample().encode();
        assert_eq!(Properties::decode(&bytes), Ok(sample()));
        let large = Properties {
            partition_bytes: 70_000,
            prefix_filter_bytes: 77,
            prefix_filter_fields: 1,
            ..sample()
        };
        assert_eq!(Properties::decode(&large.encode()), Ok(large));
        let none = Properties { prefix_filter_fields: 1, ..sample() };
        assert!(Properties::decode(&none.encode()).is_err());
    }

    #[test]
    fn unknown_properties_are_skipped_and_missing_ones_named() {
        let mut bytes = sample().encode();
        bytes[0] += 1;
        bytes.extend_from_slice(b"\x05zebra\x02\x02\0\0\0hi");
        assert_eq!(Properties::decode(&bytes), Ok(sample()));
        let mut bytes = sample().encode();
        let at = bytes.windows(7).position(|name| name == b"seq.min").unwrap();
        bytes[at + 6] = b'o'; // "seq.mio"
        let Err(Fault::Damaged { expected, .. }) = Properties::decode(&bytes) else { panic!() };
        assert!(expected.contains("seq.min"), "{expected}");
    }

    #[test]
    fn cut_properties_are_refused() {
        let bytes = sample().encode();
        for cut in 0..bytes.len() {
            assert!(Properties::decode(&bytes[..cut]).is_err());
        }
    }
}
