//! Writes the key columns of a data block under a key schema of several fields;
//! the parent reads them and has the picture.
//!
//! Per row: what the key shares with the one before says how many leading fields are the same (the
//! row's *depth*); the fields behind them are split off, and each goes into its column. So a column
//! has one value for each row whose depth is not above it, and the depths say which row has which.
//! What is grouped, and how a column of strings is encoded, is decided at the end of the block.
//!
//! In debug builds each block is read back before it is written: every key is built again and
//! compared, and searched for.

use std::sync::Arc;

use super::{ESCAPED_END, strings::Strings};
use crate::{
    column::{ExceptionsBuilder, GROUPED_ROWS_MAX, encode_groups, encode_integers, integer_width},
    field_stats::FieldBounds,
    format::{encoding, role},
    layout::LayoutWriter,
    schema::{FieldType, IntWidth, KeySchema, SCHEMA_FIELDS_MAX},
};

/// Rows of a group, on average, from which grouping pays: a row's bit and a group's start in memory
/// are less than a field's value, and searches become shorter.
const GROUP_ROWS_MIN: usize = 2;

/// Collects the keys of one data block.
#[derive(Debug)]
pub struct KeyColumnsBuilder {
    schema: Arc<KeySchema>,
    fields: Vec<FieldBuilder>,
    exceptions: ExceptionsBuilder,
    /// How many leading fields each row shares with the one before; all of them when it is an
    /// exception.
    depths: Vec<u8>,
    /// How many rows have each depth.
    depth_counts: [u32; SCHEMA_FIELDS_MAX + 1],
    /// Whether the row before is an exception.
    exception: bool,
    last: Vec<u8>,
    /// Bit r: row r has the key of row r - 1.
    same: Vec<u64>,
    ends: Vec<usize>,
    /// Where the fields of the row before end, under a custom schema, and scratch.
    before: Vec<usize>,
    again: Vec<usize>,
    /// Scratch of [`KeyColumnsBuilder::encode`].
    picks: Vec<u32>,
    words: Vec<u64>,
    #[cfg(debug_assertions)]
    kept: Vec<Vec<u8>>,
}

impl KeyColumnsBuilder {
    pub fn new(schema: Arc<KeySchema>) -> KeyColumnsBuilder {
        KeyColumnsBuilder {
            fields: schema.types().iter().map(|&of_type| FieldBuilder::new(of_type)).collect(),
            schema,
            exceptions: ExceptionsBuilder::default(),
            depths: Vec::new(),
            depth_counts: [0; SCHEMA_FIELDS_MAX + 1],
            exception: false,
            last: Vec::new(),
            same: Vec::new(),
            ends: Vec::new(),
            before: Vec::new(),
            again: Vec::new(),
            picks: Vec::new(),
            words: Vec::new(),
            #[cfg(debug_assertions)]
            kept: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.fields.iter_mut().for_each(FieldBuilder::clear);
        self.exceptions.clear();
        self.depths.clear();
        self.depth_counts = [0; SCHEMA_FIELDS_MAX + 1];
        self.exception = false;
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
        let nothing = self.depth_counts[0] == 0;
        // Behind fields that are the same in all rows a field ascends, as the keys do.
        // Not where fields are not prefix-free, as a splitter's need not be.
        let mut ascends = !self.schema.is_custom();
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
        self.fields.len()
            + usize::from(self.grouped().0 > 0)
            + usize::from(!self.exceptions.is_empty())
    }

    /// How many leading fields will have one value a group, and how many groups there are.
    fn grouped(&self) -> (usize, usize) {
        let rows = self.depths.len();
        let mut best = (0, rows);
        if rows > GROUPED_ROWS_MAX {
            return best;
        }
        // Row 0 begins a group whatever its depth.
        let mut groups = 1;
        let counted = usize::from(self.depths.first() == Some(&0));
        // What is shared must say where it ends, or a key could begin with what another's group has.
        let fields = self.schema.delimited_fields();
        for (depth, &count) in self.depth_counts[..fields].iter().enumerate() {
            groups += count as usize - if depth == 0 { counted } else { 0 };
            if groups * GROUP_ROWS_MIN > rows {
                break;
            }
            // One group: the fields are constant, and cost nothing as they are.
            if groups > 1 {
                best = (depth + 1, groups);
            }
        }
        best
    }

    /// About how many bytes the columns would have now; not much less than they will.
    pub fn encoded_bytes_max(&self) -> usize {
        let rows = self.depths.len();
        let (grouped, groups) = self.grouped();
        let places = |index: usize| if index < grouped { groups } else { rows };
        let bytes = |(index, field): (usize, &FieldBuilder)| field.encoded_bytes_max(places(index));
        self.fields.iter().enumerate().map(bytes).sum::<usize>()
            + rows / 8
            + self.exceptions.encoded_bytes_max(rows)
    }

    /// Adds the next key, which shares its first `shared` bytes with the one before; `same` says
    /// whether it is that.
    #[inline]
    pub fn push(&mut self, key: &[u8], shared: usize, same: bool) {
        let row = self.depths.len();
        let same = same && row > 0;
        if row.is_multiple_of(64) {
            self.same.push(0);
        }
        #[cfg(debug_assertions)]
        self.kept.push(key.to_vec());
        let mut depth = self.fields.len();
        if same {
            self.same[row / 64] |= 1 << (row % 64);
        } else {
            self.last.clear();
            self.last.extend_from_slice(key);
            if row == 0 || self.exception {
                self.ends.clear();
            }
            depth = if self.schema.is_custom() {
                self.split_custom(key, shared)
            } else {
                // Delimited fields that end inside the shared bytes end there in both keys.
                let known = self.ends.iter().take(self.schema.delimited_fields());
                let depth = known.take_while(|&&end| end <= shared).count();
                self.exception = !self.schema.split_rest(key, depth, &mut self.ends);
                depth
            };
            if !self.exception {
                let mut start = depth.checked_sub(1).map_or(0, |last| self.ends[last]);
                for (field, &end) in self.fields.iter_mut().zip(&self.ends).skip(depth) {
                    field.push(&key[start..end]);
                    start = end;
                }
            }
        }
        if self.exception {
            depth = self.fields.len();
            self.exceptions.push(row, key);
        }
        self.depths.push(depth as u8);
        self.depth_counts[depth] += 1;
    }

    /// Splits by a splitter, which looks at the whole key: what it says of the key before says nothing
    /// of this one. The depth is how many leading fields are the same bytes at the same place.
    fn split_custom(&mut self, key: &[u8], shared: usize) -> usize {
        std::mem::swap(&mut self.before, &mut self.ends);
        self.exception = !self.schema.split_twice(key, &mut self.ends, &mut self.again);
        let both = self.before.iter().zip(&self.ends);
        both.take_while(|(before, end)| before == end && **end <= shared).count()
    }

    /// Appends the columns.
    pub fn encode(&mut self, layout: &mut LayoutWriter, out: &mut Vec<u8>) {
        let rows = self.depths.len();
        let (grouped, _) = self.grouped();
        if self.depth_counts[0] == 0 {
            // No key splits: columns of nothing.
            self.fields.iter_mut().for_each(FieldBuilder::push_nothing);
        }
        if grouped > 0 {
            self.words.clear();
            self.words.resize(rows.div_ceil(64), 0);
            self.words[0] = 1;
            for (row, &depth) in self.depths.iter().enumerate() {
                self.words[row / 64] |= u64::from(usize::from(depth) < grouped) << (row % 64);
            }
            layout.column(out, role::GROUPS, encoding::GROUPS);
            encode_groups(grouped as u8, &self.words, out);
        }
        for (index, field) in self.fields.iter_mut().enumerate() {
            let begins = |row: usize, depth: u8| {
                index >= grouped || row == 0 || usize::from(depth) < grouped
            };
            // Which value each row, or group, has. Rows in front of the first that splits take its.
            let mut pushed = 0u32;
            self.picks.clear();
            for (row, &depth) in self.depths.iter().enumerate() {
                pushed += u32::from(usize::from(depth) <= index);
                if begins(row, depth) {
                    self.picks.push(pushed.saturating_sub(1));
                }
            }
            field.encode(index, &self.picks, layout, out);
        }
        if !self.exceptions.is_empty() {
            layout.column(out, role::EXCEPTION, encoding::EXCEPTIONS);
            self.exceptions.encode(rows, out);
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

/// One field: its values, without those that a row shares with the one before.
#[derive(Debug)]
enum FieldBuilder {
    Numbers {
        width: IntWidth,
        values: Vec<u64>,
        min: u64,
        max: u64,
        /// Scratch: the value of each row.
        placed: Vec<u64>,
    },
    /// `escaped`: without the end that they have in the key.
    Strings { escaped: bool, strings: Strings },
}

impl FieldBuilder {
    fn new(of_type: FieldType) -> FieldBuilder {
        match of_type {
            FieldType::Uint { width, .. } => FieldBuilder::Numbers {
                width,
                values: Vec::new(),
                min: u64::MAX,
                max: 0,
                placed: Vec::new(),
            },
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

    /// Adds a value that has these bytes in its key.
    #[inline]
    fn push(&mut self, own: &[u8]) {
        match self {
            FieldBuilder::Numbers { width, values, min, max, .. } => {
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

    fn encoded_bytes_max(&self, places: usize) -> usize {
        match self {
            FieldBuilder::Numbers { min, max, .. } => {
                9 + places * usize::from(integer_width(max.saturating_sub(*min)))
            }
            FieldBuilder::Strings { strings, .. } => strings.encoded_bytes_max(places),
        }
    }

    /// Appends the column in which place `p` has value `picks[p]`.
    fn encode(
        &mut self,
        index: usize,
        picks: &[u32],
        layout: &mut LayoutWriter,
        out: &mut Vec<u8>,
    ) {
        let role = role::KEY_FIELD + index as u8;
        match self {
            FieldBuilder::Numbers { values, placed, .. } => {
                layout.column(out, role, encoding::INTEGERS);
                if values.len() == 1 {
                    return encode_integers(values, out); // constant, whatever the number of places
                }
                placed.clear();
                placed.extend(picks.iter().map(|&pick| values[pick as usize]));
                encode_integers(placed, out);
            }
            FieldBuilder::Strings { strings, .. } => {
                let (of, bytes) = strings.encode(picks);
                layout.column(out, role, of);
                out.extend_from_slice(bytes);
            }
        }
    }
}
