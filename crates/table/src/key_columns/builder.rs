//! Writes the key columns of a data block under a key schema of several fields;
//! the parent reads them and has the picture.
//!
//! Per row: the key is split, and each field goes into its column. A string that equals the one
//! before it in its column is not stored again. How a column of strings is encoded is decided at
//! the end of the block (`strings`).
//!
//! In debug builds each block is read back before it is written: every key is built again and
//! compared, and searched for.

use std::sync::Arc;

use super::{ESCAPED_END, strings::Strings};
use crate::{
    column::{ExceptionsBuilder, encode_integers, integer_width},
    field_stats::FieldBounds,
    format::{encoding, role},
    layout::LayoutWriter,
    schema::{FieldType, IntWidth, KeySchema},
};

/// Collects the keys of one data block.
#[derive(Debug)]
pub struct KeyColumnsBuilder {
    schema: Arc<KeySchema>,
    fields: Vec<FieldBuilder>,
    exceptions: ExceptionsBuilder,
    rows: usize,
    /// Rows in front of the first that splits: they take its fields.
    leading: usize,
    /// Whether the row before is an exception.
    exception: bool,
    last: Vec<u8>,
    /// Bit r: row r has the key of row r - 1.
    same: Vec<u64>,
    ends: Vec<usize>,
    #[cfg(debug_assertions)]
    kept: Vec<Vec<u8>>,
}

impl KeyColumnsBuilder {
    pub fn new(schema: Arc<KeySchema>) -> KeyColumnsBuilder {
        KeyColumnsBuilder {
            fields: schema.types().iter().map(|&of_type| FieldBuilder::new(of_type)).collect(),
            schema,
            exceptions: ExceptionsBuilder::default(),
            rows: 0,
            leading: 0,
            exception: false,
            last: Vec::new(),
            same: Vec::new(),
            ends: Vec::new(),
            #[cfg(debug_assertions)]
            kept: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.fields.iter_mut().for_each(FieldBuilder::clear);
        self.exceptions.clear();
        (self.rows, self.leading, self.exception) = (0, 0, false);
        self.last.clear();
        self.same.clear();
        #[cfg(debug_assertions)]
        self.kept.clear();
    }

    pub fn last(&self) -> &[u8] {
        &self.last
    }

    /// The words of the bitmap "equals the row before".
    pub fn same_words(&self) -> &[u64] {
        &self.same
    }

    /// Rows whose keys do not split.
    pub fn exceptions(&self) -> usize {
        self.exceptions.len()
    }

    /// The smallest and the largest of each field, exceptions apart.
    pub fn bounds(&self) -> impl Iterator<Item = FieldBounds> {
        let nothing = self.leading == self.rows;
        // Behind fields that are the same in all rows a field ascends, as the keys do.
        let mut ascends = true;
        self.fields.iter().zip(self.schema.types()).map(move |(field, &of_type)| match field {
            _ if nothing => FieldBounds::nothing(of_type),
            FieldBuilder::Numbers { min, max, .. } => {
                ascends &= min == max;
                FieldBounds::Numbers(*min, *max)
            }
            FieldBuilder::Strings { strings, .. } => {
                let (min, max) = strings.min_max(ascends).unwrap_or_default();
                ascends &= strings.is_constant();
                FieldBounds::of_strings(min, max)
            }
        })
    }

    /// How many columns it will write.
    pub fn columns(&self) -> usize {
        self.fields.len() + usize::from(!self.exceptions.is_empty())
    }

    /// About how many bytes the columns would have now; not less than they will.
    pub fn encoded_bytes_max(&self) -> usize {
        self.fields.iter().map(|field| field.encoded_bytes_max(self.rows)).sum::<usize>()
            + self.exceptions.encoded_bytes_max(self.rows)
    }

    /// Adds the next key, which shares its first `shared` bytes with the one before; `same` says
    /// whether it is that.
    #[inline]
    pub fn push(&mut self, key: &[u8], shared: usize, same: bool) {
        let row = self.rows;
        let mut kept = 0;
        self.rows += 1;
        if row.is_multiple_of(64) {
            self.same.push(0);
        }
        if same && row > 0 {
            self.same[row / 64] |= 1 << (row % 64);
        } else {
            self.last.clear();
            self.last.extend_from_slice(key);
            if row == 0 || self.exception {
                self.ends.clear();
            }
            // Delimited fields that end inside the shared bytes end there in both keys.
            let known = self.ends.iter().take(self.schema.delimited_fields());
            kept = known.take_while(|&&end| end <= shared).count();
            self.exception = !self.schema.split_rest(key, kept, &mut self.ends);
        }
        #[cfg(debug_assertions)]
        self.kept.push(key.to_vec());
        if same && row > 0 && !self.exception {
            kept = self.fields.len();
        }
        if self.exception {
            self.exceptions.push(row, key);
            if self.leading == row {
                self.leading += 1;
            } else {
                self.fields.iter_mut().for_each(FieldBuilder::repeat);
            }
            return;
        }
        self.fields[..kept].iter_mut().for_each(FieldBuilder::repeat);
        let mut start = kept.checked_sub(1).map_or(0, |last| self.ends[last]);
        for (field, &end) in self.fields.iter_mut().zip(&self.ends).skip(kept) {
            field.push(&key[start..end]);
            start = end;
        }
        if self.leading == row {
            for field in &mut self.fields {
                (0..row).for_each(|_| field.repeat());
            }
        }
    }

    /// Appends the columns.
    pub fn encode(&mut self, layout: &mut LayoutWriter, out: &mut Vec<u8>) {
        if self.leading == self.rows {
            // No key splits: columns of nothing.
            for field in &mut self.fields {
                field.push_nothing();
                (1..self.rows).for_each(|_| field.repeat());
            }
        }
        for (index, field) in self.fields.iter().enumerate() {
            field.encode(index, self.rows, layout, out);
        }
        if !self.exceptions.is_empty() {
            layout.column(out, role::EXCEPTION, encoding::EXCEPTIONS);
            self.exceptions.encode(self.rows, out);
        }
    }

    /// Proves P11 for an encoded block: every key comes back and is found.
    #[cfg(debug_assertions)]
    pub fn check(&self, block: &[u8]) {
        use super::KeyColumns;
        use crate::{column::KeyCursor, format::block_kind, layout::Layout};

        let layout = Layout::parse(block, block_kind::DATA).expect("invariant: a sound head");
        let columns =
            KeyColumns::parse(block, &layout, &self.schema).expect("invariant: sound columns");
        let mut cursor = KeyCursor::new();
        let mut first = 0;
        for (row, key) in self.kept.iter().enumerate() {
            columns.move_cursor(&mut cursor, block, row);
            let schema = &self.schema;
            assert_eq!(cursor.key(), key, "row {row} of a block under {schema}");
            if row > 0 && *key != self.kept[row - 1] {
                assert!(*key > self.kept[row - 1], "row {row} ascends");
                first = row;
            }
            assert_eq!(columns.find(block, key), (first, true), "row {row} under {schema}");
        }
    }
}

/// One field of all rows.
#[derive(Debug)]
enum FieldBuilder {
    Numbers {
        width: IntWidth,
        values: Vec<u64>,
        min: u64,
        max: u64,
    },
    /// `escaped`: without the end that they have in the key.
    Strings {
        escaped: bool,
        strings: Strings,
    },
}

impl FieldBuilder {
    fn new(of_type: FieldType) -> FieldBuilder {
        match of_type {
            FieldType::Uint { width, .. } => {
                FieldBuilder::Numbers { width, values: Vec::new(), min: u64::MAX, max: 0 }
            }
            _ => FieldBuilder::Strings {
                escaped: of_type == FieldType::Escaped,
                strings: Strings::default(),
            },
        }
    }

    fn clear(&mut self) {
        match self {
            FieldBuilder::Numbers { values, min, max, .. } => {
                values.clear();
                (*min, *max) = (u64::MAX, 0);
            }
            FieldBuilder::Strings { strings, .. } => strings.clear(),
        }
    }

    /// Adds a row whose field has these bytes in its key.
    #[inline]
    fn push(&mut self, own: &[u8]) {
        match self {
            FieldBuilder::Numbers { width, values, min, max } => {
                let value = width.load(own).unwrap_or(0);
                values.push(value);
                (*min, *max) = (value.min(*min), value.max(*max));
            }
            FieldBuilder::Strings { escaped, strings } => {
                let end = if *escaped { &ESCAPED_END[..] } else { &[] };
                strings.push(own.strip_suffix(end).unwrap_or(own));
            }
        }
    }

    fn push_nothing(&mut self) {
        match self {
            FieldBuilder::Numbers { values, min, max, .. } => {
                values.push(0);
                (*min, *max) = (0, 0);
            }
            FieldBuilder::Strings { strings, .. } => strings.push(&[]),
        }
    }

    /// Adds a row with the field of the row before, which there is.
    fn repeat(&mut self) {
        match self {
            FieldBuilder::Numbers { values, .. } => values.extend_from_within(values.len() - 1..),
            FieldBuilder::Strings { strings, .. } => strings.repeat(),
        }
    }

    fn encoded_bytes_max(&self, rows: usize) -> usize {
        match self {
            FieldBuilder::Numbers { min, max, .. } => {
                9 + rows * usize::from(integer_width(max.saturating_sub(*min)))
            }
            FieldBuilder::Strings { strings, .. } => strings.encoded_bytes_max(),
        }
    }

    fn encode(&self, index: usize, rows: usize, layout: &mut LayoutWriter, out: &mut Vec<u8>) {
        let role = role::KEY_FIELD + index as u8;
        match self {
            FieldBuilder::Numbers { values, .. } => {
                layout.column(out, role, encoding::INTEGERS);
                encode_integers(&values[..rows], out);
            }
            FieldBuilder::Strings { strings, .. } => {
                let (of, bytes) = strings.encode();
                layout.column(out, role, of);
                out.extend_from_slice(&bytes);
            }
        }
    }
}
