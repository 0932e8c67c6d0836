//! The key of a data block under a key schema of several fields: one column a field, and whole keys
//! for the rows that do not split. `builder` writes them.
//!
//! ```text
//!   role 0x00             role 0x01    role 0x02         role 0x03      role 0x3f (if needed)
//!   groups (if any)       table u32    tenant escaped    ts u64 desc    exceptions
//!   bitmap                integers     dictionary        integers       bitmap + prefix bytes
//!   2 fields: ───────────▶ one value a group ◀───────┘    one value a row
//! ```
//! Columns hold the key bytes of their fields, so that they order as the key does: an integer is
//! what stands in the key (descending ones are not turned), an escaped field is without its end
//! (00 01), a counted one has its length. An exception's row repeats some other row's fields, which
//! mean nothing.
//!
//! *Groups.* Neighbours often agree in their leading fields: the rows of a tenant, of a hash. Then
//! these fields have one value for each run of such rows, and a bitmap says where the runs begin
//! ([`crate::column::Groups`]). That is smaller, a search goes over the groups first, and a walk
//! appends only what lies behind them.
//!
//! *Beside the block* ([`KeyColumns`] is built when a block is loaded): the bytes of the leading
//! fields that are the same in all rows (`lead`); of the groups what all begin with (`prefix`) and
//! the sixteen bytes behind that (of each of 256 groups, of every 16th of more); every 16th value of
//! the first column that decides among the rows of a group (of strings: their first eight bytes).
//! So a search touches a line or two of the columns themselves.
//!
//! *Search.* Without exceptions: the group by those bytes and then, bytewise, by what its
//! rows share; then field by field, each a binary search inside the rows that the fields before
//! left; a key that ends inside a field, or does not split, is compared bytewise with those rows
//! from that field on. With exceptions: one binary search over the rows, each compared piece by
//! piece. No key is built for either. A custom field of bytes does not order as the keys do: groups
//! end before it, and from it on rows are compared bytewise.

mod builder;
mod field;
mod samples;
mod select;
mod strings;

use std::cmp::Ordering;

pub use builder::KeyColumnsBuilder;
use field::Field;
use samples::{Samples, long_head};

use crate::{
    column::{Exceptions, Groups, KeyCursor, common_prefix},
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
    /// Key bytes of the leading fields that are the same in all rows, and how many they are.
    lead: Box<[u8]>,
    lead_fields: usize,
    /// How many leading fields a row has in common with all others or its group.
    own_fields: usize,
    groups: Option<Groups>,
    /// What the keys of all groups begin with, and the heads of what groups share behind it.
    prefix: Box<[u8]>,
    group_heads: Option<Samples<u128>>,
    /// Of the first field that a row has of its own.
    row_samples: Option<Samples>,
    exceptions: Option<Exceptions>,
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
        let types = schema.types();
        let groups = match layout.column(role::GROUPS) {
            Some(column) => Some(Groups::parse(block, column, rows, schema.delimited_fields())?),
            None => None,
        };
        let (grouped, groups_count) =
            groups.as_ref().map_or((0, 0), |groups| (groups.fields(), groups.count()));
        let places = |index: usize| if index < grouped { groups_count } else { rows };
        let mut fields: Vec<Field> = Vec::with_capacity(types.len());
        for (index, &of_type) in types.iter().enumerate() {
            let column = layout.required(role::KEY_FIELD + index as u8)?;
            fields.push(Field::parse(block, column, of_type, places(index))?);
        }
        let lead_fields = fields.iter().take_while(|field| field.is_constant()).count();
        let mut lead = KeyCursor::new();
        fields[..lead_fields].iter().for_each(|field| field.append_to(block, 0, &mut lead));
        let own_fields = grouped.max(lead_fields);
        let row_samples = fields.get(own_fields).and_then(|field| field.samples(block, rows));
        let exceptions = match layout.column(role::EXCEPTION) {
            Some(column) => Some(Exceptions::parse(block, column, rows)?),
            None => None,
        };
        let mut columns = KeyColumns {
            rows,
            fields: fields.into(),
            lead: lead.key().into(),
            lead_fields,
            own_fields,
            groups,
            prefix: Box::default(),
            group_heads: None,
            row_samples,
            exceptions,
        };
        columns.sample_groups(block, groups_count);
        Ok(columns)
    }

    /// Keeps what all groups begin with, and samples of what they have behind it.
    fn sample_groups(&mut self, block: &[u8], count: usize) {
        let Some(last) = count.checked_sub(1) else { return };
        if self.exceptions.is_some() {
            return; // searched by rows
        }
        let mut key = KeyCursor::new();
        let mut shared = |group| {
            key.begin();
            self.append_shared(&mut key, block, group);
            key.key().to_vec()
        };
        let (first, last) = (shared(0), shared(last));
        let prefix = common_prefix(&first, &last);
        let heads = Samples::of(count, |group| {
            key.begin();
            self.append_shared(&mut key, block, group);
            // Hostile groups need not ascend, nor have the prefix.
            long_head(key.key().get(prefix..).unwrap_or_default())
        });
        self.prefix = first[..prefix].into();
        self.group_heads = Some(heads);
    }

    /// Whether a column of this role belongs to the keys.
    pub fn has_role(&self, of: u8) -> bool {
        let fields = self.fields.len() as u8;
        (role::KEY_FIELD..role::KEY_FIELD + fields).contains(&of)
            || of == role::EXCEPTION
            || of == role::GROUPS
    }

    /// Bytes that it holds besides the block's.
    pub fn memory_bytes(&self) -> usize {
        self.group_heads.as_ref().map_or(0, Samples::memory_bytes)
            + self.row_samples.as_ref().map_or(0, Samples::memory_bytes)
            + self.fields.len() * size_of::<Field>()
            + self.fields.iter().map(Field::memory_bytes).sum::<usize>()
            + self.lead.len()
            + self.prefix.len()
            + self.groups.as_ref().map_or(0, Groups::memory_bytes)
            + self.exceptions.as_ref().map_or(0, Exceptions::memory_bytes)
    }

    /// How many leading fields have one value a group.
    fn grouped(&self) -> usize {
        self.groups.as_ref().map_or(0, Groups::fields)
    }

    /// Makes `cursor`'s key that of `row`.
    #[inline(never)]
    pub fn move_cursor(&self, cursor: &mut KeyCursor, block: &[u8], row: usize) {
        if self.exceptions.is_some() && self.move_to_exception(cursor, block, row) {
            return;
        }
        let group = match &self.groups {
            None => 0,
            Some(groups) => match cursor.place_before(row) {
                Some(group) => group + usize::from(groups.begins(row)),
                None => groups.of(row),
            },
        };
        cursor.enter(group, row, |key| self.append_shared(key, block, group));
        for field in &self.fields[self.own_fields..] {
            field.append_to(block, row, cursor);
        }
    }

    /// Makes `cursor`'s key that of `row`, and `ends` where its fields end; false when it does not
    /// split. As the columns say, whoever split it.
    pub fn split_row(
        &self,
        cursor: &mut KeyCursor,
        block: &[u8],
        row: usize,
        ends: &mut Vec<usize>,
    ) -> bool {
        ends.clear();
        if self.move_to_exception(cursor, block, row) {
            return false;
        }
        let (grouped, group) = match &self.groups {
            Some(groups) => (groups.fields(), groups.of(row)),
            None => (0, 0),
        };
        cursor.begin();
        for (index, field) in self.fields.iter().enumerate() {
            field.append_to(block, if index < grouped { group } else { row }, cursor);
            ends.push(cursor.key().len());
        }
        true
    }

    /// Does [`KeyColumns::move_cursor`] for a row whose key does not split; false when it does.
    #[cold]
    fn move_to_exception(&self, cursor: &mut KeyCursor, block: &[u8], row: usize) -> bool {
        let Some(exceptions) = &self.exceptions else { return false };
        let Some(index) = exceptions.index(block, row) else { return false };
        cursor.begin();
        for (start, end) in exceptions.ranges(block, index) {
            cursor.append(block, start, end);
        }
        true
    }

    /// Appends what the rows of `group` share.
    #[inline(never)]
    fn append_shared(&self, key: &mut KeyCursor, block: &[u8], group: usize) {
        key.append_slice(&self.lead);
        for field in self.fields.iter().take(self.own_fields).skip(self.lead_fields) {
            field.append_to(block, group, key);
        }
    }

    /// The first row whose key is at or after `key`, and whether it is `key`; the number of rows
    /// when all are before.
    #[inline]
    pub fn find(&self, block: &[u8], key: &[u8]) -> (usize, bool) {
        if self.exceptions.is_some() {
            return self.search(block, 0, self.rows, 0, key);
        }
        let (mut low, mut high, mut rest) = match &self.groups {
            Some(groups) => match self.find_group(block, groups, key) {
                Ok((group, rest)) => (groups.start(group), groups.start(group + 1), rest),
                Err(group) => return (groups.start(group), false),
            },
            None => match key.strip_prefix(&*self.lead) {
                Some(rest) => (0, self.rows, rest),
                None => return (if key < &*self.lead { 0 } else { self.rows }, false),
            },
        };
        let first = self.own_fields;
        let mut samples = self.row_samples.as_ref();
        for (index, field) in self.fields.iter().enumerate().skip(first) {
            let Some(bytes) = field.of_type.take(rest) else {
                return self.search(block, low, high, index, rest);
            };
            let (own, behind) = rest.split_at(bytes);
            let last = index + 1 == self.fields.len();
            let last = last && behind.is_empty();
            match field.narrow(block, (low, high), own, samples.take(), last) {
                Ok(found) => (low, high) = found,
                Err(row) => return (row, false),
            }
            rest = behind;
        }
        // What goes on behind the last field is after every row that is a prefix of it.
        if rest.is_empty() { (low, true) } else { (high, false) }
    }

    /// The group whose rows `key` would be among and what the key has behind the fields that they
    /// share, or the first group behind it. No two groups share the same.
    #[inline]
    fn find_group<'k>(
        &self,
        block: &[u8],
        groups: &Groups,
        key: &'k [u8],
    ) -> Result<(usize, &'k [u8]), usize> {
        let count = groups.count();
        let Some(rest) = key.strip_prefix(&*self.prefix) else {
            return Err(if key < &*self.prefix { 0 } else { count });
        };
        let (mut low, mut high) = match &self.group_heads {
            Some(heads) => heads.narrow_heads(0, count, long_head(rest)),
            None => (0, count),
        };
        // What is shared may end within its head; the key goes on, and so has a greater one. No
        // other group lies between the two.
        low = low.saturating_sub(1);
        while low < high {
            let middle = (low + high) / 2;
            match self.compare_group(block, middle, &key[self.lead.len()..]) {
                Ok(behind) => return Ok((middle, behind)),
                Err(Ordering::Less) => low = middle + 1,
                Err(_) => high = middle,
            }
        }
        Err(low)
    }

    /// What `rest` has behind the fields that the rows of `group` share, or how these compare with
    /// it. The lead is left out on both sides.
    #[inline]
    fn compare_group<'k>(
        &self,
        block: &[u8],
        group: usize,
        mut rest: &'k [u8],
    ) -> Result<&'k [u8], Ordering> {
        for field in &self.fields[self.lead_fields..self.own_fields] {
            rest = field.strip(block, group, rest)?;
        }
        Ok(rest)
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
        let grouped = self.grouped();
        let group = self.groups.as_ref().map_or(0, |groups| groups.of(row));
        let same = self.fields.iter().enumerate().skip(first).all(|(index, field)| {
            let place = if index < grouped { group } else { row };
            field.pieces(block, place, &mut piece)
        });
        match same {
            true if rest.is_empty() => Ordering::Equal,
            true => Ordering::Less,
            false => order,
        }
    }
}
