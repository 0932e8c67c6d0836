//! One field of the keys of a block: its column, and how a key's part is found in it.
//!
//! A *place* is a row, or for the fields that groups share a group.

use std::cmp::Ordering;

use super::{
    ESCAPED_END,
    samples::{Samples, takes_all},
};
use crate::{
    column::{
        Column, Dictionary, Integers, KeyCursor, PrefixBytes, RawBytes, find_string, head,
        lower_bound, run_end,
    },
    fault::Fault,
    format::encoding,
    schema::{FieldType, IntWidth},
};

/// One field of all rows, or groups, of a block.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) of_type: FieldType,
    pub(super) values: Values,
}

/// The column of a field. Resolved when the block is loaded.
#[derive(Debug)]
pub(super) enum Values {
    Numbers(IntWidth, Integers),
    Raw(RawBytes),
    /// With the heads of its words.
    Dictionary(Dictionary, Box<[u64]>),
    Prefix(PrefixBytes),
}

impl Field {
    /// Parses the column of a field with one value each for `places`.
    pub(super) fn parse(
        block: &[u8],
        column: &Column,
        of_type: FieldType,
        places: usize,
    ) -> Result<Field, Fault> {
        let values = match (of_type, column.encoding) {
            (FieldType::Uint { width, .. }, _) => {
                Values::Numbers(width, Integers::parse(block, column, places)?)
            }
            (_, encoding::PREFIX_BYTES) => {
                Values::Prefix(PrefixBytes::parse(block, column, places)?)
            }
            (_, encoding::DICTIONARY) => {
                let strings = Dictionary::parse(block, column, places)?;
                let heads = strings.heads(block);
                Values::Dictionary(strings, heads)
            }
            _ => Values::Raw(RawBytes::parse(block, column, places)?),
        };
        Ok(Field { of_type, values })
    }

    /// Samples of the field, for one by which `places` are searched first: of numbers the values,
    /// of strings their heads, of prefix bytes those behind the block's prefix.
    pub(super) fn samples(&self, block: &[u8], places: usize) -> Option<Samples> {
        if places <= 1 {
            return None;
        }
        Some(match &self.values {
            Values::Numbers(_, values) => Samples::of(places, |at| values.get(block, at)),
            Values::Raw(strings) => Samples::of(places, |at| head(strings.get(block, at))),
            // Found by its words.
            Values::Dictionary(..) => return None,
            Values::Prefix(strings) if takes_all(places) => {
                let (prefix, mut key) = (strings.block_prefix(block).len(), Vec::new());
                Samples::of(places, |at| {
                    key.clear();
                    strings.append_to(block, at, &mut key);
                    head(&key[prefix..])
                })
            }
            Values::Prefix(strings) => Samples::new(strings.bundle_heads(block), strings.shift()),
        })
    }

    /// Bytes that it holds besides the block's.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.values {
            Values::Dictionary(_, heads) => heads.len() * 8,
            _ => 0,
        }
    }

    /// Whether it is known to be the same everywhere.
    pub(super) fn is_constant(&self) -> bool {
        match &self.values {
            Values::Numbers(_, values) => values.constant().is_some(),
            Values::Dictionary(dictionary, _) => dictionary.codes().constant().is_some(),
            Values::Raw(_) | Values::Prefix(_) => false,
        }
    }

    /// What stands behind the field's column bytes in a key.
    #[inline]
    fn end(&self) -> &'static [u8] {
        if self.of_type == FieldType::Escaped { &ESCAPED_END } else { &[] }
    }

    /// Appends the field's key bytes.
    #[inline(always)]
    pub(super) fn append_to(&self, block: &[u8], at: usize, key: &mut KeyCursor) {
        let (start, end) = match &self.values {
            // No end follows a number.
            Values::Numbers(width, values) => {
                return key.append_number(values.get(block, at), width.bytes());
            }
            Values::Raw(strings) => strings.range(block, at),
            Values::Dictionary(strings, _) => strings.range(block, at),
            Values::Prefix(strings) => {
                let [block_prefix, bundle_prefix, own] = strings.ranges(block, at);
                for (start, end) in [block_prefix, bundle_prefix] {
                    if start < end {
                        key.append(block, start, end);
                    }
                }
                own
            }
        };
        key.append(block, start, end);
        if self.of_type == FieldType::Escaped {
            key.append_number(u64::from(u16::from_be_bytes(ESCAPED_END)), ESCAPED_END.len());
        }
    }

    /// What `key` has behind the field's bytes at `at`, or how these compare with it.
    #[inline]
    pub(super) fn strip<'k>(
        &self,
        block: &[u8],
        at: usize,
        key: &'k [u8],
    ) -> Result<&'k [u8], Ordering> {
        if let Values::Numbers(width, values) = &self.values
            && let Some(wanted) = width.load(key)
        {
            return match values.get(block, at).cmp(&wanted) {
                Ordering::Equal => Ok(&key[width.bytes()..]),
                order => Err(order),
            };
        }
        let (mut order, mut rest) = (Ordering::Equal, key);
        self.pieces(block, at, &mut |piece| match rest.strip_prefix(piece) {
            Some(behind) => {
                rest = behind;
                true
            }
            None => {
                order = piece.cmp(rest);
                false
            }
        });
        if order == Ordering::Equal { Ok(rest) } else { Err(order) }
    }

    /// Hands the field's key bytes to `visit` in pieces, as long as it says true.
    pub(super) fn pieces(
        &self,
        block: &[u8],
        at: usize,
        visit: &mut impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let whole = match &self.values {
            Values::Numbers(width, values) => {
                let bytes = values.get(block, at).to_be_bytes();
                visit(&bytes[8 - width.bytes()..])
            }
            Values::Raw(strings) => visit(strings.get(block, at)),
            Values::Dictionary(dictionary, _) => visit(dictionary.get(block, at)),
            Values::Prefix(strings) => {
                strings.ranges(block, at).iter().all(|&(start, end)| visit(&block[start..end]))
            }
        };
        whole && visit(self.end())
    }

    /// The places of `low..high`, in which the field ascends, where it is `own` (its bytes in the
    /// key), or the first that is behind it. When `last`, only the first of them is wanted.
    /// `samples` are the field's, if it has any.
    #[inline]
    pub(super) fn narrow<'a>(
        &self,
        block: &[u8],
        (low, high): (usize, usize),
        own: &[u8],
        samples: Option<&'a Samples>,
        last: bool,
    ) -> Result<(usize, usize), usize> {
        if high - low == 1 {
            return self.check(block, low, own);
        }
        let few = |of: Option<&'a Samples>| of.filter(|of| high - low > 1 << of.shift());
        if let Values::Numbers(width, values) = &self.values {
            let Some(wanted) = width.load(own) else { return Err(low) };
            let (from, to) = few(samples).map_or((low, high), |of| of.narrow(low, high, wanted));
            let start = values.lower_bound(block, from, to, wanted);
            let equal = |at| values.get(block, at) == wanted;
            return found(start, high, last, equal);
        }
        let own = self.without_end(own);
        if let Values::Prefix(strings) = &self.values {
            let prefix = strings.block_prefix(block);
            let Some(rest) = own.strip_prefix(prefix) else {
                return Err(if own < prefix { low } else { high });
            };
            let equal = |at| strings.compare(block, at, rest).is_eq();
            let samples = few(samples);
            if let Some(samples) = samples.filter(|samples| samples.shift() == 0) {
                let (from, to) = samples.narrow_heads(low, high, head(rest));
                let start = lower_bound(from, to, |at| strings.compare(block, at, rest).is_lt());
                return found(start, high, last, equal);
            }
            let heads = samples.map(Samples::values);
            return match strings.find_among(block, heads, rest, (low, high)) {
                (start, true) if last || start + 1 == high => Ok((start, high)),
                (start, true) => Ok((start, run_end(start, high, equal))),
                (start, false) => Err(start),
            };
        }
        match &self.values {
            Values::Dictionary(strings, heads) => {
                // Comparing codes costs less than comparing words, once the code is known.
                let (code, is_word) = strings.find(block, heads, own);
                let codes = strings.codes();
                let start = codes.lower_bound(block, low, high, code);
                found(start, high, last, |at| is_word && codes.get(block, at) == code)
            }
            Values::Raw(strings) => {
                let (from, to) =
                    few(samples).map_or((low, high), |of| of.narrow_heads(low, high, head(own)));
                let range = |at| strings.range(block, at);
                let (start, _) = find_string(block, (from, to), own, range);
                found(start, high, last, |at| strings.get(block, at) == own)
            }
            Values::Numbers(..) | Values::Prefix(_) => Err(low), // seen above
        }
    }

    /// [`Field::narrow`] where one place is left.
    #[inline]
    fn check(&self, block: &[u8], at: usize, own: &[u8]) -> Result<(usize, usize), usize> {
        let order = match &self.values {
            Values::Numbers(width, values) => match width.load(own) {
                Some(wanted) => values.get(block, at).cmp(&wanted),
                None => Ordering::Greater,
            },
            Values::Raw(strings) => strings.get(block, at).cmp(self.without_end(own)),
            Values::Dictionary(strings, _) => strings.get(block, at).cmp(self.without_end(own)),
            Values::Prefix(strings) => {
                let (own, prefix) = (self.without_end(own), strings.block_prefix(block));
                match own.strip_prefix(prefix) {
                    Some(rest) => strings.compare(block, at, rest),
                    None => prefix.cmp(own),
                }
            }
        };
        match order {
            Ordering::Less => Err(at + 1),
            Ordering::Equal => Ok((at, at + 1)),
            Ordering::Greater => Err(at),
        }
    }

    /// A field's bytes in a key as its column has them.
    #[inline]
    fn without_end<'a>(&self, own: &'a [u8]) -> &'a [u8] {
        own.strip_suffix(self.end()).unwrap_or(own)
    }
}

/// What [`Field::narrow`] says of `start`, the first place that is not less.
#[inline]
fn found(
    start: usize,
    high: usize,
    last: bool,
    equal: impl Fn(usize) -> bool,
) -> Result<(usize, usize), usize> {
    if start == high || !equal(start) {
        return Err(start);
    }
    if last || start + 1 == high {
        return Ok((start, high));
    }
    Ok((start, run_end(start, high, equal)))
}
