//! The types of a key's fields: how many key bytes each takes, and what they mean.
//!
//! | text | key bytes |
//! |---|---|
//! | `u8` .. `u64` | big-endian; `desc`: of the complement, so that large values sort first |
//! | `fixed N` | N bytes |
//! | `escaped` | the bytes with 00 written as 00 ff, then 00 01 |
//! | `counted u8`, `u16`, `u32` | the length, big-endian, then the bytes: short ones sort first |
//! | `rest` | all that is left; the last field only |
//!
//! Fields of custom schemas (`super::custom`) take what their splitter says.
//!
//! `escaped` keeps the order of the bytes it holds: the end, 00 01, is below 00 ff, a zero that
//! goes on, and below every other byte. Any other byte behind 00 is not canonical and not taken.

use std::borrow::Cow;

use sluice_base::{Error, Result};

use super::SchemaField;

/// Most bytes of a fixed field.
const FIXED_BYTES_MAX: u64 = 4096;

const ESCAPED_ZERO: u8 = 0xff;
const ESCAPED_END: u8 = 0x01;

/// Bytes of an integer in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntWidth {
    One,
    Two,
    Four,
    Eight,
}

impl IntWidth {
    /// The width in bytes.
    pub fn bytes(self) -> usize {
        match self {
            IntWidth::One => 1,
            IntWidth::Two => 2,
            IntWidth::Four => 4,
            IntWidth::Eight => 8,
        }
    }

    pub(super) fn of_bytes(bytes: u64) -> Option<IntWidth> {
        match bytes {
            1 => Some(IntWidth::One),
            2 => Some(IntWidth::Two),
            4 => Some(IntWidth::Four),
            8 => Some(IntWidth::Eight),
            _ => None,
        }
    }

    /// The largest value.
    pub(crate) fn max(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }

    /// The big-endian integer in the first bytes of `bytes`, if there are enough.
    #[inline]
    pub(crate) fn load(self, bytes: &[u8]) -> Option<u64> {
        Some(match self {
            IntWidth::One => u64::from(*bytes.first()?),
            IntWidth::Two => u64::from(u16::from_be_bytes(*bytes.first_chunk()?)),
            IntWidth::Four => u64::from(u32::from_be_bytes(*bytes.first_chunk()?)),
            IntWidth::Eight => u64::from_be_bytes(*bytes.first_chunk()?),
        })
    }

    /// Appends the low bytes of `value`, big-endian.
    #[inline]
    pub(crate) fn store(self, value: u64, out: &mut Vec<u8>) {
        match self {
            IntWidth::One => out.push(value as u8),
            IntWidth::Two => out.extend_from_slice(&(value as u16).to_be_bytes()),
            IntWidth::Four => out.extend_from_slice(&(value as u32).to_be_bytes()),
            IntWidth::Eight => out.extend_from_slice(&value.to_be_bytes()),
        }
    }
}

/// What a field of a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// All bytes that are left; only as the last field.
    Rest,
    /// So many bytes, 1 to 4096.
    Fixed(u16),
    /// A big-endian integer; `desc`: the key holds its complement.
    Uint { width: IntWidth, desc: bool },
    /// Bytes of any length, escaped and terminated, in their own order.
    Escaped,
    /// Bytes behind their length, which sorts first. At most as many as the width can count.
    Counted(IntWidth),
    /// Bytes up to where a [`super::KeySplitter`] says; only in its schema.
    Custom,
}

/// The value of a field: what an application put into the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Of integer fields, not inverted.
    Number(u64),
    /// Of all others, without escapes and length.
    Bytes(Cow<'a, [u8]>),
}

impl FieldType {
    /// The type of a descriptor's field; `None` when this build does not know it.
    pub(super) fn of(field: &SchemaField) -> Option<FieldType> {
        let width = || IntWidth::of_bytes(field.parameter);
        match (field.kind, field.parameter) {
            (SchemaField::REST_PREFIX_BYTES, 0) => Some(FieldType::Rest),
            (SchemaField::FIXED, 1..=FIXED_BYTES_MAX) => {
                Some(FieldType::Fixed(field.parameter as u16))
            }
            (SchemaField::UINT_ASC, _) => {
                width().map(|width| FieldType::Uint { width, desc: false })
            }
            (SchemaField::UINT_DESC, _) => {
                width().map(|width| FieldType::Uint { width, desc: true })
            }
            (SchemaField::ESCAPED, 0) => Some(FieldType::Escaped),
            (SchemaField::COUNTED, 1 | 2 | 4) => width().map(FieldType::Counted),
            _ => None,
        }
    }

    /// Kind and parameter for a descriptor.
    pub(super) fn code(self) -> (u8, u64) {
        match self {
            FieldType::Rest => (SchemaField::REST_PREFIX_BYTES, 0),
            FieldType::Fixed(bytes) => (SchemaField::FIXED, u64::from(bytes)),
            FieldType::Uint { width, desc: false } => (SchemaField::UINT_ASC, width.bytes() as u64),
            FieldType::Uint { width, desc: true } => (SchemaField::UINT_DESC, width.bytes() as u64),
            FieldType::Escaped => (SchemaField::ESCAPED, 0),
            FieldType::Counted(width) => (SchemaField::COUNTED, width.bytes() as u64),
            FieldType::Custom => (SchemaField::CUSTOM, 0),
        }
    }

    /// How many bytes at the start of `key` are this field; `None` when it does not begin with
    /// one.
    #[inline]
    pub(crate) fn take(self, key: &[u8]) -> Option<usize> {
        let bytes = match self {
            FieldType::Rest => key.len(),
            FieldType::Fixed(bytes) => usize::from(bytes),
            FieldType::Uint { width, .. } => width.bytes(),
            FieldType::Escaped => return take_escaped(key),
            // Its bytes do not say; nor need they order as the keys do, so no search may go by them.
            FieldType::Custom => return None,
            FieldType::Counted(width) => {
                width.bytes().checked_add(usize::try_from(width.load(key)?).ok()?)?
            }
        };
        (bytes <= key.len()).then_some(bytes)
    }

    /// The value of a field whose key bytes are `bytes`, which [`FieldType::take`] has measured.
    pub(super) fn value(self, bytes: &[u8]) -> Option<FieldValue<'_>> {
        let bytes = match self {
            FieldType::Rest | FieldType::Fixed(_) | FieldType::Custom => Cow::Borrowed(bytes),
            FieldType::Uint { width, desc } => {
                let raw = width.load(bytes)?;
                return Some(FieldValue::Number(if desc { width.max() - raw } else { raw }));
            }
            FieldType::Escaped => unescape(bytes.get(..bytes.len().checked_sub(2)?)?),
            FieldType::Counted(width) => Cow::Borrowed(bytes.get(width.bytes()..)?),
        };
        Some(FieldValue::Bytes(bytes))
    }

    /// Appends the key bytes of `value`; `name` is for the message.
    pub(crate) fn put(self, name: &str, value: &FieldValue<'_>, out: &mut Vec<u8>) -> Result<()> {
        let wrong = |what: String| Err(Error::invalid(format!("key field {name}: {what}")));
        match (self, value) {
            (FieldType::Uint { width, desc }, FieldValue::Number(number)) => {
                let max = width.max();
                if *number > max {
                    return wrong(format!("{number} does not fit; values up to {max} do"));
                }
                width.store(if desc { max - number } else { *number }, out);
            }
            (FieldType::Uint { .. }, FieldValue::Bytes(_)) => {
                return wrong("bytes for an integer; give a number".to_owned());
            }
            (_, FieldValue::Number(_)) => {
                return wrong("a number for bytes; give bytes".to_owned());
            }
            (FieldType::Rest | FieldType::Custom, FieldValue::Bytes(bytes)) => {
                out.extend_from_slice(bytes);
            }
            (FieldType::Fixed(wanted), FieldValue::Bytes(bytes)) => {
                if bytes.len() != usize::from(wanted) {
                    return wrong(format!("{} bytes; it holds exactly {wanted}", bytes.len()));
                }
                out.extend_from_slice(bytes);
            }
            (FieldType::Escaped, FieldValue::Bytes(bytes)) => {
                for &byte in bytes.iter() {
                    out.push(byte);
                    if byte == 0 {
                        out.push(ESCAPED_ZERO);
                    }
                }
                out.extend_from_slice(&[0, ESCAPED_END]);
            }
            (FieldType::Counted(width), FieldValue::Bytes(bytes)) => {
                let (length, max) = (bytes.len() as u64, width.max());
                if length > max {
                    return wrong(format!("{length} bytes; its length counts up to {max}"));
                }
                width.store(length, out);
                out.extend_from_slice(bytes);
            }
        }
        Ok(())
    }
}

/// How many bytes the escaped field at the start of `key` takes, with its end.
#[inline]
fn take_escaped(key: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += key.get(at..)?.iter().position(|&byte| byte == 0)?;
        match key.get(at + 1) {
            Some(&ESCAPED_END) => return Some(at + 2),
            Some(&ESCAPED_ZERO) => at += 2,
            _ => return None,
        }
    }
}

fn unescape(escaped: &[u8]) -> Cow<'_, [u8]> {
    if !escaped.contains(&0) {
        return Cow::Borrowed(escaped);
    }
    let mut out = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        out.push(byte);
        if byte == 0 {
            bytes.next(); // the ff that marks it as one of the field's own
        }
    }
    Cow::Owned(out)
}
