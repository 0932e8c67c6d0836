//! Fields: the tagged, length-prefixed pieces that edits are made of.
//!
//! ```text
//!   tag varint │ length varint │ body (length bytes)
//!   tag = number << 1 | must_understand
//! ```
//! A reader that meets an unknown tag skips the body when the bit is clear and refuses the edit
//! when it is set. A build may therefore add facts that older builds can live without, and facts
//! that they must not ignore, without a new format version.
//!
//! Decoding is total: every read is bounds-checked by `sluice_base::varint`, bodies are borrowed,
//! and nothing is allocated from a length that was not checked against the bytes at hand.

use std::fmt;

use sluice_base::varint;

/// Why bytes are not an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes break the format. `at` counts from the start of what was decoded.
    Malformed { at: usize, expected: &'static str },
    /// A field or kind that a newer build wrote and that must not be ignored.
    Unknown { at: usize, what: &'static str, number: u64 },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Malformed { at, expected } => {
                write!(f, "malformed at byte {at}: expected {expected}")
            }
            DecodeError::Unknown { at, what, number } => {
                write!(f, "{what} {number} at byte {at} is unknown to this build")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// The tag of field `number` that a reader may skip when it does not know it.
pub(super) const fn optional(number: u32) -> u32 {
    number << 1
}

/// The tag of field `number` that a reader must know.
pub(super) const fn required(number: u32) -> u32 {
    number << 1 | 1
}

/// Appends a field.
pub(super) fn put_field(out: &mut Vec<u8>, tag: u32, body: &[u8]) {
    varint::put_u32(out, tag);
    varint::put_bytes(out, body);
}

/// Appends a field whose body is one number.
pub(super) fn put_number(out: &mut Vec<u8>, tag: u32, value: u64) {
    varint::put_u32(out, tag);
    varint::put_u64(out, varint::len_u64(value) as u64);
    varint::put_u64(out, value);
}

/// Bytes being decoded, and where they lie in the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
    /// Where the end of `rest` lies in the whole.
    end: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes, end: bytes.len() }
    }

    pub(super) fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes as they are.
    pub(super) fn raw(
        &mut self,
        len: usize,
        expected: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(self.malformed(expected))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn malformed(&self, expected: &'static str) -> DecodeError {
        DecodeError::Malformed { at: self.at(), expected }
    }

    pub(super) fn u8(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.malformed(expected))?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn u32(&mut self, expected: &'static str) -> Result<u32, DecodeError> {
        varint::take_u32(&mut self.rest).ok_or_else(|| self.malformed(expected))
    }

    pub(super) fn u64(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        varint::take_u64(&mut self.rest).ok_or_else(|| self.malformed(expected))
    }

    pub(super) fn bytes(&mut self, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        varint::take_bytes(&mut self.rest).ok_or_else(|| self.malformed(expected))
    }

    /// The bytes of a length-prefixed part, as an input of its own.
    pub(super) fn part(&mut self, expected: &'static str) -> Result<Input<'a>, DecodeError> {
        let bytes = self.bytes(expected)?;
        Ok(Input { rest: bytes, end: self.at() })
    }

    /// The next field: where it begins, its tag, its body.
    pub(super) fn field(&mut self) -> Result<Field<'a>, DecodeError> {
        let at = self.at();
        let tag = self.u32("a field tag")?;
        let body = self.part("a field body inside its surroundings")?;
        Ok(Field { at, tag, body })
    }

    /// Fails unless everything was decoded.
    pub(super) fn end(self, expected: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed(expected)) }
    }
}

/// One field of an input.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) at: usize,
    pub(super) tag: u32,
    pub(super) body: Input<'a>,
}

impl Field<'_> {
    /// What to do with a tag that no arm knows: skip it, or refuse.
    pub(super) fn skip(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.tag & 1 == 0 {
            return Ok(());
        }
        Err(DecodeError::Unknown { at: self.at, what, number: u64::from(self.tag >> 1) })
    }

    /// The body as one number.
    pub(super) fn number(mut self) -> Result<u64, DecodeError> {
        let value = self.body.u64("a number")?;
        self.body.end("the end of a number")?;
        Ok(value)
    }
}
