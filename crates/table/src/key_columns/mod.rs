//! The key of a data block under a key schema of several fields: one column a field, and whole keys
//! for the rows that do not split. `builder` writes them.
//!
//! ```text
//!   role 0x01        role 0x02         role 0x03             role 0x3f (only when needed)
//!   table u32        tenant escaped    ts u64 desc           exceptions
//!   integers         dictionary        integers              bitmap + prefix bytes
//! ```
//! Columns hold the key bytes of their fields, so that they order as the key does: an integer is
//! what stands in the key (descending ones are not turned), an escaped field is without its end
//! (00 01), a counted one has its length. An exception's row repeats some other row's fields, which
//! mean nothing.
//!
//! *Beside the block* ([`KeyColumns`] is built when a block is loaded): every 16th value of a column
//! (of strings: their first eight bytes), so that a search touches a line or two of the column itself; where each word of the
//! first dictionary begins; and at which rows the leading fields that rarely change do, so that a
//! walk appends the others only.
//!
//! *Search.* Without exceptions: field by field, each a binary search inside the rows that the
//! fields before left; a key that ends inside a field, or does not split, is compared bytewise with
//! those rows from that field on. With exceptions: one binary search over the rows, each compared
//! piece by piece. No key is built for either.

mod builder;
mod field;
mod samples;
mod select;
mod strings;

use std::cmp::Ordering;

pub use builder::KeyColumnsBuilder;
use field::Field;

use crate::{
    column::{Exceptions, KeyCursor},
    fault::Fault,
    format::role,
    layout::Layout,
    schema::KeySchema,
};

/// How an escaped field ends in the key; its column is without.
pub const ESCAPED_END: [u8; 2] = [0, 1];

/// The parsed key columns of a block.
#[derive(Debug)]
pub struct KeyColumns {
    rows: usize,
    fields: Box<[Field]>,
    exceptions: Option<Exceptions>,
    /// How many leading fields are the same in most neighbours.
    stable_fields: usize,
    /// Bit r: one of them differs between rows r and r - 1. Empty when all rows agree.
    changes: Box<[u64]>,
}

impl KeyColumns {
    /// Parses the key columns of a block whose keys split by `schema`.
    pub fn parse(block: &[u8], layout: &Layout, schema: &KeySchema) -> Result<KeyColumns, Fault> {
        let rows = layout.rows;
        // Rows differ in key or trailer, so one column of a sound block has a byte a row. Without
        // this a few bytes could claim four billion rows.
        if rows > block.len() {
            return Err(Fault::damaged("a byte a row at least", format!("{rows} rows")));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(schema.types().len());
        let mut ascends = true;
        for (index, &of_type) in schema.types().iter().enumerate() {
            let column = layout.required(role::KEY_FIELD + index as u8)?;
            let field = Field::parse(block, column, of_type, rows, ascends)?;
            ascends &= field.is_constant();
            fields.push(field);
        }
        let exceptions = match layout.column(role::EXCEPTION) {
            Some(column) => Some(Exceptions::parse(block, column, rows)?),
            None => None,
        };
        let (stable_fields, changes) = stable_fields(block, &fields, rows);
        Ok(KeyColumns { rows, fields: fields.into(), exceptions, stable_fields, changes })
    }

    /// Whether a column of this role belongs to the keys.
    pub fn has_role(&self, of: u8) -> bool {
        let fields = self.fields.len() as u8;
        (role::KEY_FIELD..role::KEY_FIELD + fields).contains(&of) || of == role::EXCEPTION
    }

    /// Bytes that it holds besides the block's.
    pub fn memory_bytes(&self) -> usize {
        self.fields.iter().map(Field::memory_bytes).sum::<usize>()
            + self.fields.len() * size_of::<Field>()
            + self.changes.len() * 8
            + self.exceptions.as_ref().map_or(0, Exceptions::memory_bytes)
    }

    /// Makes `cursor`'s key that of `row`.
    #[inline]
    pub fn move_cursor(&self, cursor: &mut KeyCursor, block: &[u8], row: usize) {
        if let Some(exceptions) = &self.exceptions
            && let Some(index) = exceptions.index(block, row)
        {
            cursor.rebuild(|key| exceptions.append_to(block, index, key));
            return;
        }
        let (stable, own) = self.fields.split_at(self.stable_fields);
        let kept = |before: usize| {
            self.changes.is_empty()
                || (before.abs_diff(row) == 1 && {
                    let later = before.max(row);
                    self.changes[later / 64] >> (later % 64) & 1 == 0
                })
        };
        cursor.complete(
            row,
            kept,
            |key| stable.iter().for_each(|field| field.append_to(block, row, key)),
            |key| own.iter().for_each(|field| field.append_to(block, row, key)),
        );
    }

    /// The first row whose key is at or after `key`, and whether it is `key`; the number of rows
    /// when all are before.
    #[inline]
    pub fn find(&self, block: &[u8], key: &[u8]) -> (usize, bool) {
        if self.exceptions.is_some() {
            return self.search(block, 0, self.rows, 0, key);
        }
        let (mut low, mut high, mut rest) = (0, self.rows, key);
        for (index, field) in self.fields.iter().enumerate() {
            let Some(bytes) = field.of_type.take(rest) else {
                return self.search(block, low, high, index, rest);
            };
            let (own, behind) = rest.split_at(bytes);
            let last = behind.is_empty() && index + 1 == self.fields.len();
            match field.narrow(block, low, high, own, last) {
                Ok(rows) => (low, high) = rows,
                Err(row) => return (row, false),
            }
            rest = behind;
        }
        // What goes on behind the last field is after every row that is a prefix of it.
        if rest.is_empty() { (low, true) } else { (high, false) }
    }

    /// [`KeyColumns::find`] among `low..high`, whose rows agree with the key in the fields before
    /// `first`; `rest` is the key from there on. Rows before `low` are before the key, those from
    /// `high` on are after it.
    fn search(
        &self,
        block: &[u8],
        mut low: usize,
        mut high: usize,
        first: usize,
        rest: &[u8],
    ) -> (usize, bool) {
        let mut equal = false;
        while low < high {
            let middle = (low + high) / 2;
            match self.compare(block, middle, first, rest) {
                Ordering::Less => low = middle + 1,
                order => {
                    equal = order == Ordering::Equal;
                    high = middle;
                }
            }
        }
        (low, equal)
    }

    /// Compares the fields of `row` from `first` on with `rest`, as bytes.
    fn compare(&self, block: &[u8], row: usize, first: usize, mut rest: &[u8]) -> Ordering {
        if let Some(exceptions) = &self.exceptions
            && let Some(index) = exceptions.index(block, row)
        {
            // Blocks with exceptions are searched from field 0: `rest` is the whole key.
            return exceptions.compare(block, index, rest);
        }
        let mut order = Ordering::Equal;
        let mut piece = |piece: &[u8]| {
            let shared = piece.len().min(rest.len());
            order = piece[..shared].cmp(&rest[..shared]);
            if order == Ordering::Equal && piece.len() > shared {
                order = Ordering::Greater;
            }
            rest = &rest[shared..];
            order == Ordering::Equal
        };
        let same = self.fields[first..].iter().all(|field| field.pieces(block, row, &mut piece));
        match same {
            true if rest.is_empty() => Ordering::Equal,
            true => Ordering::Less,
            false => order,
        }
    }
}

/// Most changes of fields that count as stable: one in so many rows.
const STABLE_ROWS: usize = 4;

/// How many leading fields rarely change from row to row, and where they do.
fn stable_fields(block: &[u8], fields: &[Field], rows: usize) -> (usize, Box<[u64]>) {
    let mut changes: Box<[u64]> = Box::default();
    for (index, field) in fields.iter().enumerate() {
        let Some(values) = field.integers() else { return (index, changes) };
        if values.constant().is_some() {
            continue;
        }
        let mut words = vec![0u64; rows.div_ceil(64)];
        words[..changes.len()].copy_from_slice(&changes);
        let mut before = values.get(block, 0);
        for row in 1..rows {
            let value = values.get(block, row);
            words[row / 64] |= u64::from(value != before) << (row % 64);
            before = value;
        }
        let count: usize = words.iter().map(|word| word.count_ones() as usize).sum();
        if count * STABLE_ROWS > rows {
            return (index, changes);
        }
        changes = words.into();
    }
    (fields.len(), changes)
}
