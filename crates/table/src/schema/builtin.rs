//! The key schemas that every build knows by name. Data as all others are: a table under one of them
//! carries its descriptor, so the names here are for people who choose one, not for readers.
//!
//! | name | version | text |
//! |---|---|---|
//! | `default` | 1 | `key rest` |
//! | `mvcc` | 1 | `key escaped, ts u64 desc` |
//!
//! *`default`* is what is written when nothing else is asked for. Tables call it `whole-key`: that name
//! is part of its identity, which old files have, and so it stays there. Beside them it is `default`.
//!
//! *`mvcc`* keeps several versions of a key beside each other, the newest first, as CockroachDB does: a
//! read at time t seeks to (key, t) and finds the version that was in force. For example (`k`, 00; ts 7),
//! and the same key at 6, which sorts behind it:
//!
//! ```text
//! 6b 00 ff 00 01 | ff ff ff ff ff ff ff f8
//! 6b 00 ff 00 01 | ff ff ff ff ff ff ff f9
//! ```
//! A key without a timestamp (an intent beside the versions) does not split. It is kept whole and
//! sorts before the versions of the same key.

use super::{IntWidth, KeySchema, SchemaId};

/// The public name of the schema that tables call `whole-key`.
const DEFAULT: &str = "default";

impl KeySchema {
    /// The names that [`KeySchema::builtin`] knows.
    pub const BUILTIN_NAMES: [&'static str; 2] = [DEFAULT, "mvcc"];

    /// The built-in schema of this name, `None` where there is none. The whole key goes by both of
    /// its names.
    ///
    /// ```
    /// use sluice_table::{FieldValue, KeySchema};
    ///
    /// # fn main() -> sluice_base::Result<()> {
    /// let mvcc = KeySchema::builtin("mvcc").expect("every build knows it");
    /// assert_eq!(mvcc.to_string(), "key escaped, ts u64 desc");
    /// let at = |ts| mvcc.join(&[FieldValue::Bytes(b"k"[..].into()), FieldValue::Number(ts)]);
    /// assert!(at(7)? < at(6)?, "the newest first");
    /// assert_eq!(KeySchema::builtin("default"), Some(KeySchema::whole_key()));
    /// assert_eq!(KeySchema::builtin("other"), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builtin(name: &str) -> Option<KeySchema> {
        match name {
            DEFAULT | "whole-key" => Some(KeySchema::whole_key()),
            "mvcc" => KeySchema::builder("mvcc", 1)
                .escaped("key")
                .uint_desc("ts", IntWidth::Eight)
                .build()
                .ok(),
            _ => None,
        }
    }

    /// The name for people: `default` for the schema that tables call `whole-key`, else the name.
    pub fn public_name(&self) -> &str {
        if *self.descriptor() == super::Schema::whole_key() { DEFAULT } else { self.name() }
    }
}

impl SchemaId {
    /// As [`KeySchema::public_name`].
    pub fn public_name(&self) -> &str {
        if *self == super::Schema::whole_key().id() { DEFAULT } else { &self.name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldValue;

    /// The bytes of the lines of the head comment's example.
    fn example() -> Vec<Vec<u8>> {
        let head = include_str!("builtin.rs").split("use super").next().unwrap();
        let is_hex = |word: &&str| word.len() == 2 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let lines = head.lines().filter_map(|line| line.strip_prefix("//! "));
        let lines = lines.filter(|line| line.contains(" | ff"));
        let byte = |word: &str| u8::from_str_radix(word, 16).unwrap();
        lines.map(|line| line.split(' ').filter(is_hex).map(byte).collect()).collect()
    }

    #[test]
    fn p11_mvcc_keys_have_the_bytes_of_the_example_and_the_newest_comes_first() {
        let mvcc = KeySchema::builtin("mvcc").unwrap();
        let key = |ts| {
            let fields = [FieldValue::Bytes(b"k\0"[..].into()), FieldValue::Number(ts)];
            let key = mvcc.join(&fields).unwrap();
            assert_eq!(mvcc.split(&key).as_deref(), Some(&fields[..]));
            key
        };
        assert_eq!(example(), [key(7), key(6)]);
        assert!([key(u64::MAX), key(7), key(6), key(0)].is_sorted());
        let intent = b"k\0\xff\0\x01";
        assert_eq!(mvcc.split(intent), None);
        assert!(intent[..] < key(u64::MAX)[..]);
    }

    #[test]
    fn p12_names_and_identities_of_built_in_schemas_never_change() {
        let all: Vec<String> = KeySchema::BUILTIN_NAMES
            .iter()
            .map(|name| {
                let schema = KeySchema::builtin(name).unwrap();
                assert_eq!((schema.public_name(), schema.id().public_name()), (*name, *name));
                let (version, hash) = (schema.version(), schema.descriptor().hash());
                format!("{name} v{version} {hash:016x} {schema}")
            })
            .collect();
        assert_eq!(
            all,
            [
                "default v1 bbb40ac16e289528 key rest",
                "mvcc v1 e89c8a42a8dc900e key escaped, ts u64 desc",
            ]
        );
        // Same fields under another name are another schema.
        let other = KeySchema::parse("default", 1, "key rest").unwrap();
        assert_ne!(other.id(), KeySchema::whole_key().id());
        assert_eq!((other.public_name(), other.id().public_name()), ("default", "default"));
    }
}
