//! The options of a column family as the manifest keeps them: numbered fields it does not interpret.
//!
//! The engine gives each option a number and reads it back; this map keeps every field byte for
//! byte, known or not, so that a build which does not know an option hands it on when it writes a
//! new manifest. An odd number says "who does not know this option must not open the family".

use std::collections::BTreeMap;

use sluice_base::{Error, ErrorKind, Result, varint};

/// Numbered option values. The lowest bit of a number is the "must understand" bit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionFields(BTreeMap<u32, Vec<u8>>);

impl OptionFields {
    pub fn new() -> OptionFields {
        OptionFields::default()
    }

    /// The option as a number; `None` when it is not set, an error when it is not a number.
    pub fn number(&self, tag: u32) -> Result<Option<u64>> {
        let Some(mut body) = self.bytes(tag) else { return Ok(None) };
        match varint::take_u64(&mut body) {
            Some(value) if body.is_empty() => Ok(Some(value)),
            _ => Err(Error::new(
                ErrorKind::Corruption,
                format!("column family option {tag} is not a number"),
            )),
        }
    }

    pub fn set_number(&mut self, tag: u32, value: u64) {
        let mut body = Vec::with_capacity(varint::len_u64(value));
        varint::put_u64(&mut body, value);
        self.0.insert(tag, body);
    }

    pub fn bytes(&self, tag: u32) -> Option<&[u8]> {
        self.0.get(&tag).map(Vec::as_slice)
    }

    pub fn set_bytes(&mut self, tag: u32, value: impl Into<Vec<u8>>) {
        self.0.insert(tag, value.into());
    }

    pub fn remove(&mut self, tag: u32) {
        self.0.remove(&tag);
    }

    /// All fields by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.0.iter().map(|(tag, body)| (*tag, body.as_slice()))
    }

    /// Fails with [`ErrorKind::Unsupported`] when a "must understand" option is not in `known`.
    pub fn require_known(&self, known: &[u32]) -> Result<()> {
        match self.0.keys().find(|tag| **tag & 1 == 1 && !known.contains(tag)) {
            None => Ok(()),
            Some(tag) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "column family option {tag} is unknown to this build and may not be ignored: \
                     open the directory with the newer build that set it"
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_options_are_kept_and_the_required_ones_refuse() {
        let mut fields = OptionFields::new();
        fields.set_number(2, 64 << 20);
        fields.set_bytes(8, *b"lz4");
        assert_eq!(fields.number(2).unwrap(), Some(64 << 20));
        assert_eq!(fields.number(4).unwrap(), None);
        assert_eq!(fields.number(8).unwrap_err().kind(), ErrorKind::Corruption);
        fields.require_known(&[2]).unwrap();
        fields.set_number(11, 1);
        assert_eq!(fields.require_known(&[2]).unwrap_err().kind(), ErrorKind::Unsupported);
        fields.require_known(&[11]).unwrap();
    }
}
