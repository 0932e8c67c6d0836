//! One field of the keys of a block: its column, and how a key's part is found in it.

use std::cmp::Ordering;

use super::{ESCAPED_END, samples::Samples};
use crate::{
    column::{Column, Dictionary, Integers, PrefixBytes, RawBytes, head},
    fault::Fault,
    format::encoding,
    schema::{FieldType, IntWidth},
};

/// One field of all rows of a block.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) of_type: FieldType,
    pub(super) values: Values,
}

/// The column of a field. Resolved when the block is loaded.
#[derive(Debug)]
pub(super) enum Values {
    Numbers(IntWidth, Integers, Samples),
    /// The samples are of the heads: [`crate::column::head`].
    Raw(RawBytes, Samples),
    /// Of the first field that is not constant, so that rows ascend: where each word begins, and
    /// behind them the number of rows. Of others nothing.
    Dictionary(Dictionary, Box<[u32]>),
    /// The samples are of the heads behind the block's prefix, one a bundle.
    Prefix(PrefixBytes, Samples),
}

impl Field {
    /// Parses the column of a field. `ascends`: all fields before are constant.
    pub(super) fn parse(
        block: &[u8],
        column: &Column,
        of_type: FieldType,
        rows: usize,
        ascends: bool,
    ) -> Result<Field, Fault> {
        let values = match (of_type, column.encoding) {
            (FieldType::Uint { width, .. }, _) => {
                let values = Integers::parse(block, column, rows)?;
                let sampled = if values.constant().is_some() { 0 } else { rows };
                let samples = Samples::of(sampled, |row| values.get(block, row));
                Values::Numbers(width, values, samples)
            }
            (_, encoding::PREFIX_BYTES) => {
                let strings = PrefixBytes::parse(block, column, rows)?;
                let samples = Samples::new(strings.bundle_heads(block), strings.shift());
                Values::Prefix(strings, samples)
            }
            (_, encoding::DICTIONARY) => {
                let dictionary = Dictionary::parse(block, column, rows)?;
                let starts =
                    if ascends { dictionary.starts(block, rows, column)? } else { Box::default() };
                Values::Dictionary(dictionary, starts)
            }
            _ => {
                let strings = RawBytes::parse(block, column, rows)?;
                let sample = |row| head(strings.get(block, row));
                Values::Raw(strings, Samples::of(rows, sample))
            }
        };
        Ok(Field { of_type, values })
    }

    /// Bytes that it holds besides the block's.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.values {
            Values::Numbers(_, _, samples)
            | Values::Raw(_, samples)
            | Values::Prefix(_, samples) => samples.memory_bytes(),
            Values::Dictionary(_, starts) => starts.len() * 4,
        }
    }

    /// The column of integers whose values differ where the field does, if there is one.
    pub(super) fn integers(&self) -> Option<&Integers> {
        match &self.values {
            Values::Numbers(_, values, _) => Some(values),
            Values::Dictionary(dictionary, _) => Some(dictionary.codes()),
            Values::Raw(..) | Values::Prefix(..) => None,
        }
    }

    /// Whether it is known to be the same in all rows.
    pub(super) fn is_constant(&self) -> bool {
        self.integers().is_some_and(|values| values.constant().is_some())
    }

    /// What stands behind the field's column bytes in a key.
    #[inline]
    fn end(&self) -> &'static [u8] {
        if self.of_type == FieldType::Escaped { &ESCAPED_END } else { &[] }
    }

    /// Appends the field's key bytes.
    #[inline]
    pub(super) fn append_to(&self, block: &[u8], row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Numbers(width, values, _) => width.store(values.get(block, row), out),
            Values::Raw(strings, _) => out.extend_from_slice(strings.get(block, row)),
            Values::Dictionary(dictionary, _) => out.extend_from_slice(dictionary.get(block, row)),
            Values::Prefix(strings, _) => strings.append_to(block, row, out),
        }
        if self.of_type == FieldType::Escaped {
            out.extend_from_slice(&ESCAPED_END);
        }
    }

    /// Hands the field's key bytes to `visit` in pieces, as long as it says true.
    pub(super) fn pieces(
        &self,
        block: &[u8],
        row: usize,
        visit: &mut impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let whole = match &self.values {
            Values::Numbers(width, values, _) => {
                let bytes = values.get(block, row).to_be_bytes();
                visit(&bytes[8 - width.bytes()..])
            }
            Values::Raw(strings, _) => visit(strings.get(block, row)),
            Values::Dictionary(dictionary, _) => visit(dictionary.get(block, row)),
            Values::Prefix(strings, _) => {
                let [block_prefix, bundle_prefix, own] = strings.parts(block, row);
                visit(block_prefix) && visit(bundle_prefix) && visit(own)
            }
        };
        whole && visit(self.end())
    }

    /// The rows of `low..high` whose field is `own` (its bytes in the key), or the first row that
    /// is behind it. When `last`, only the first of them is wanted.
    #[inline]
    pub(super) fn narrow(
        &self,
        block: &[u8],
        low: usize,
        high: usize,
        own: &[u8],
        last: bool,
    ) -> Result<(usize, usize), usize> {
        let own = own.strip_suffix(self.end()).unwrap_or(own);
        match &self.values {
            Values::Numbers(width, values, samples) => {
                let Some(wanted) = width.load(own) else { return Err(low) };
                if let Some(constant) = values.constant() {
                    return match constant.cmp(&wanted) {
                        Ordering::Equal => Ok((low, high)),
                        Ordering::Less => Err(high),
                        Ordering::Greater => Err(low),
                    };
                }
                let (from, to) = samples.narrow(low, high, wanted);
                let start = first_row(from, to, |row| values.get(block, row) < wanted);
                if start == high || values.get(block, start) != wanted {
                    return Err(start);
                }
                let equal = |row| values.get(block, row) == wanted;
                Ok((start, if last { high } else { run_end(start, high, equal) }))
            }
            Values::Dictionary(dictionary, starts) if !starts.is_empty() => {
                // All fields before are constant: `low..high` is the whole block.
                let (code, found) = dictionary.find(block, own);
                let start = |code: usize| starts[code.min(starts.len() - 1)] as usize;
                let (from, to) = (start(code as usize), start(code as usize + 1));
                if found && from < to { Ok((from, to)) } else { Err(from) }
            }
            Values::Dictionary(dictionary, _) => {
                let (code, found) = dictionary.find(block, own);
                let codes = dictionary.codes();
                let start = first_row(low, high, |row| codes.get(block, row) < code);
                let equal = |row| codes.get(block, row) == code;
                if !found || start == high || !equal(start) {
                    return Err(start);
                }
                Ok((start, if last { high } else { run_end(start, high, equal) }))
            }
            Values::Raw(strings, samples) => {
                let (from, to) = samples.narrow_heads(low, high, head(own));
                let start = first_row(from, to, |row| strings.get(block, row) < own);
                let equal = |row| strings.get(block, row) == own;
                if start == high || !equal(start) {
                    return Err(start);
                }
                Ok((start, if last { high } else { run_end(start, high, equal) }))
            }
            Values::Prefix(strings, samples) => {
                let prefix = strings.block_prefix(block);
                let Some(rest) = own.strip_prefix(prefix) else {
                    return Err(if own < prefix { low } else { high });
                };
                let (from, to) = samples.narrow_heads(low, high, head(rest));
                let order = |row| strings.compare(block, row, rest);
                let start = first_row(from, to, |row| order(row).is_lt());
                if start == high || order(start).is_ne() {
                    return Err(start);
                }
                Ok((
                    start,
                    if last { high } else { run_end(start, high, |row| order(row).is_eq()) },
                ))
            }
        }
    }
}

/// The first row of `low..high` that is not `before`, by halves.
#[inline]
fn first_row(mut low: usize, mut high: usize, before: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = (low + high) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The end of the run of `equal` rows that begins at `start`, by strides that double: runs are
/// often short.
#[inline]
fn run_end(start: usize, high: usize, equal: impl Fn(usize) -> bool) -> usize {
    let (mut known, mut stride) = (start, 1);
    while known + stride < high && equal(known + stride) {
        known += stride;
        stride *= 2;
    }
    first_row(known + 1, high.min(known + stride), equal)
}
