//! What the index says of the key fields of each block: the smallest and the largest of a field, so
//! that a reader with a predicate leaves out blocks that cannot have a match.
//!
//! ```text
//!   role 0xa0 + 2n  min of field n     role 0xa1 + 2n  max of field n     for n < 32
//!   integers: exact, encoding integers; all others: the first 16 bytes, raw bytes or a dictionary
//! ```
//! Values are those of the field's column in a data block (`docs/format/table.md`, Keys), so they
//! order as the field does in keys. The first 16 bytes of a string order as the strings do, or are
//! equal: so the cut minimum is at or below every string, and the first 16 bytes of every string are
//! at or below the cut maximum. Rows whose keys do not split count for nothing; the bounds of a block
//! of nothing else are 0 or empty, and mean nothing.
//!
//! Both columns of a field are there or none is; a table may have them for some fields only.

use std::ops::{Bound, Range};

use crate::{
    column::{
        Column, Dictionary, Integers, RawBytes, encode_dictionary, encode_integers,
        encode_raw_bytes_head,
    },
    fault::Fault,
    format::{STATISTICS_BYTES, STATISTICS_FIELDS, encoding, role},
    key_columns::ESCAPED_END,
    layout::{Layout, LayoutWriter},
    predicate::{Condition, Wanted},
    schema::{FieldType, KeySchema},
};

/// The smallest and the largest of a field among the rows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldBounds {
    Numbers(u64, u64),
    /// Cut as the parent says.
    Strings(Box<[u8]>, Box<[u8]>),
}

impl FieldBounds {
    /// The bounds of strings, whole or cut.
    pub fn of_strings(min: &[u8], max: &[u8]) -> FieldBounds {
        FieldBounds::Strings(cut(min).into(), cut(max).into())
    }

    /// The bounds of one row whose field has the bytes `own` in its key.
    pub fn of_key(of_type: FieldType, own: &[u8]) -> FieldBounds {
        match of_type {
            FieldType::Uint { width, .. } => {
                let number = width.load(own).unwrap_or(0);
                FieldBounds::Numbers(number, number)
            }
            FieldType::Escaped => {
                let own = own.strip_suffix(&ESCAPED_END).unwrap_or(own);
                FieldBounds::of_strings(own, own)
            }
            _ => FieldBounds::of_strings(own, own),
        }
    }

    /// What a block gets that has no row that splits.
    pub fn nothing(of_type: FieldType) -> FieldBounds {
        match of_type {
            FieldType::Uint { .. } => FieldBounds::Numbers(0, 0),
            _ => FieldBounds::Strings(Box::default(), Box::default()),
        }
    }

    /// Widens `self` to what both cover. They are of one field.
    pub fn cover(&mut self, other: &FieldBounds) {
        match (self, other) {
            (FieldBounds::Numbers(min, max), FieldBounds::Numbers(low, high)) => {
                (*min, *max) = ((*min).min(*low), (*max).max(*high));
            }
            (FieldBounds::Strings(min, max), FieldBounds::Strings(low, high)) => {
                if *low < *min {
                    min.clone_from(low);
                }
                if *high > *max {
                    max.clone_from(high);
                }
            }
            _ => {}
        }
    }
}

/// What the statistics keep of a string.
pub fn cut(string: &[u8]) -> &[u8] {
    &string[..string.len().min(STATISTICS_BYTES)]
}

/// The parsed statistics of an index: one entry a field of the schema, as far as there are any.
#[derive(Debug, Default)]
pub struct FieldStats(Vec<Option<[Bounds; 2]>>);

/// One column of bounds.
#[derive(Debug, Clone, Copy)]
enum Bounds {
    Numbers(Integers),
    Raw(RawBytes),
    Dictionary(Dictionary),
}

impl Bounds {
    fn parse(block: &[u8], column: &Column, of: FieldType, rows: usize) -> Result<Bounds, Fault> {
        Ok(match (of, column.encoding) {
            (FieldType::Uint { .. }, _) => Bounds::Numbers(Integers::parse(block, column, rows)?),
            (_, encoding::DICTIONARY) => {
                Bounds::Dictionary(Dictionary::parse(block, column, rows)?)
            }
            _ => Bounds::Raw(RawBytes::parse(block, column, rows)?),
        })
    }

    fn number(&self, block: &[u8], row: usize) -> Option<u64> {
        match self {
            Bounds::Numbers(values) => Some(values.get(block, row)),
            _ => None,
        }
    }

    fn string<'a>(&self, block: &'a [u8], row: usize) -> Option<&'a [u8]> {
        match self {
            Bounds::Numbers(_) => None,
            Bounds::Raw(strings) => Some(strings.get(block, row)),
            Bounds::Dictionary(strings) => Some(strings.get(block, row)),
        }
    }
}

impl FieldStats {
    /// Parses the statistics of an index block of `layout` over tables under `schema`.
    pub fn parse(block: &[u8], layout: &Layout, schema: &KeySchema) -> Result<FieldStats, Fault> {
        if schema.is_whole_key() {
            return Ok(FieldStats::default());
        }
        let mut fields = Vec::new();
        for (field, &of_type) in schema.types().iter().take(STATISTICS_FIELDS).enumerate() {
            let [min, max] = role::field_bounds(field);
            let bounds = match (layout.column(min), layout.column(max)) {
                (None, None) => None,
                (Some(min), Some(max)) => Some([
                    Bounds::parse(block, min, of_type, layout.rows)?,
                    Bounds::parse(block, max, of_type, layout.rows)?,
                ]),
                (min, _) => {
                    let there = if min.is_some() { "the smallest" } else { "the largest" };
                    let expected = format!("both bounds of key field {field}");
                    return Err(Fault::damaged(expected, format!("{there} alone")));
                }
            };
            fields.push(bounds);
        }
        Ok(FieldStats(fields))
    }

    /// Whether a column of this role belongs to the statistics.
    pub fn has_role(&self, of: u8) -> bool {
        let fields = self.0.len();
        of.checked_sub(role::FIELD_BOUNDS).is_some_and(|at| usize::from(at) / 2 < fields)
    }

    /// The bounds of `field` in block `row`; `None` when there are none.
    pub fn get(&self, block: &[u8], row: usize, field: usize) -> Option<FieldBounds> {
        let [min, max] = self.0.get(field)?.as_ref()?;
        Some(match (min.number(block, row), max.number(block, row)) {
            (Some(min), Some(max)) => FieldBounds::Numbers(min, max),
            _ => {
                FieldBounds::Strings(min.string(block, row)?.into(), max.string(block, row)?.into())
            }
        })
    }

    /// False when no row of block `row` can fulfil `condition`.
    pub fn may_match(&self, block: &[u8], row: usize, condition: &Condition) -> bool {
        let Some(Some([min, max])) = self.0.get(condition.field) else { return true };
        match &condition.wanted {
            Wanted::Numbers { from, to } => {
                min.number(block, row).is_none_or(|min| min <= *to)
                    && max.number(block, row).is_none_or(|max| max >= *from)
            }
            Wanted::Strings { from, to } => {
                let (Some(min), Some(max)) = (min.string(block, row), max.string(block, row))
                else {
                    return true;
                };
                // A maximum below the cut is the whole string.
                let whole = max.len() < STATISTICS_BYTES;
                let reaches = match from {
                    Bound::Unbounded => true,
                    Bound::Included(from) => cut(max) >= cut(from),
                    Bound::Excluded(from) if whole => max > &from[..],
                    Bound::Excluded(from) => cut(max) >= cut(from),
                };
                reaches
                    && match to {
                        Bound::Unbounded => true,
                        Bound::Included(to) => min <= &to[..],
                        Bound::Excluded(to) => min < &to[..],
                    }
            }
        }
    }
}

/// Collects the bounds of one field, block by block.
#[derive(Debug, Default)]
pub struct FieldStatsBuilder {
    /// One list a field.
    fields: Vec<Vec<FieldBounds>>,
}

impl FieldStatsBuilder {
    /// For tables under `schema`.
    pub fn new(schema: &KeySchema) -> FieldStatsBuilder {
        let fields = match schema.is_whole_key() {
            true => 0,
            false => schema.types().len().min(STATISTICS_FIELDS),
        };
        FieldStatsBuilder { fields: vec![Vec::new(); fields] }
    }

    /// Adds a block with these bounds, one a field.
    pub fn push(&mut self, bounds: &[FieldBounds]) {
        for (field, bounds) in self.fields.iter_mut().zip(bounds) {
            field.push(bounds.clone());
        }
    }

    /// How many columns it writes.
    pub fn columns(&self) -> usize {
        self.fields.len() * 2
    }

    /// About how many bytes a block adds.
    pub fn block_bytes(&self) -> usize {
        self.fields.len() * 16
    }

    /// What the blocks of `rows` cover together; `counts` says whether one counts.
    pub fn covered(&self, rows: Range<usize>, counts: impl Fn(usize) -> bool) -> Vec<FieldBounds> {
        let cover = |field: &Vec<FieldBounds>| {
            let mut counted = rows.clone().filter(|&row| counts(row));
            let mut all = field[counted.next().unwrap_or(rows.start)].clone();
            counted.for_each(|row| all.cover(&field[row]));
            all
        };
        self.fields.iter().map(cover).collect()
    }

    /// Appends the columns of the blocks of `rows`.
    pub fn encode(&self, rows: Range<usize>, layout: &mut LayoutWriter, out: &mut Vec<u8>) {
        for (field, bounds) in self.fields.iter().enumerate() {
            let bounds = &bounds[rows.clone()];
            for (side, role) in role::field_bounds(field).into_iter().enumerate() {
                if let Some(FieldBounds::Numbers(..)) = bounds.first() {
                    let values: Vec<u64> = bounds
                        .iter()
                        .map(|bounds| match (bounds, side) {
                            (FieldBounds::Numbers(min, _), 0) => *min,
                            (FieldBounds::Numbers(_, max), _) => *max,
                            _ => 0,
                        })
                        .collect();
                    layout.column(out, role, encoding::INTEGERS);
                    encode_integers(&values, out);
                } else {
                    let values: Vec<&[u8]> = bounds
                        .iter()
                        .map(|bounds| match (bounds, side) {
                            (FieldBounds::Strings(min, _), 0) => &min[..],
                            (FieldBounds::Strings(_, max), _) => &max[..],
                            _ => &[],
                        })
                        .collect();
                    encode_strings(&values, role, layout, out);
                }
            }
        }
    }
}

/// Appends the smaller of both forms.
fn encode_strings(values: &[&[u8]], role: u8, layout: &mut LayoutWriter, out: &mut Vec<u8>) {
    let mut end = 0;
    let ends: Vec<u32> = values
        .iter()
        .map(|value| {
            end += value.len() as u32;
            end
        })
        .collect();
    let mut raw = Vec::new();
    encode_raw_bytes_head(&ends, &mut raw);
    let mut words = values.to_vec();
    words.sort_unstable();
    words.dedup();
    let code = |value: &&[u8]| words.partition_point(|word| word < value) as u64;
    let codes: Vec<u64> = values.iter().map(code).collect();
    let mut dictionary = Vec::new();
    encode_dictionary(&words, &codes, &mut dictionary);
    if dictionary.len() < raw.len() + end as usize {
        layout.column(out, role, encoding::DICTIONARY);
        out.extend_from_slice(&dictionary);
    } else {
        layout.column(out, role, encoding::RAW_BYTES);
        out.extend_from_slice(&raw);
        values.iter().for_each(|value| out.extend_from_slice(value));
    }
}
