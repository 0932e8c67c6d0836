//! The tables of one column family, level by level: an immutable value.
//!
//! Order inside a level is what lookups rest on:
//! - L0: **newest first**, by highest sequence number. Tables may overlap; a reader that goes
//!   through them in this order meets the newest entry of a key first.
//! - L1..L6: by smallest key. No user key lies inside the bounds of two tables of one level, so
//!   binary search finds the only table that can hold a key. It also means that a compaction's
//!   outputs are cut between user keys, never between two entries of one key.
//!
//! Why L0's order by `max_seq` alone is right: flushes of one family install oldest first, so of
//! two tables that both hold a key the later flush has the higher numbers. A flush may write
//! several tables (one for each range of key schemas); they share no key, so their order is free.
//! A merge inside L0 takes neighbours in this order, and its outputs take their place: cut at the
//! ends of ranges, each key's newest entry among the inputs is in one of them, so that one is newer
//! than any table the merge left out that holds the key. The same goes for a table of L0 that is
//! rewritten in pieces with all its entries.
//!
//! Each level is an `Arc`: an edit clones only the lists it changes.

use std::{fmt, sync::Arc};

use sluice_base::{Error, FileNo, Level, Result};

use super::{CfEdit, KeyRange, TableHandle, TableMeta};

/// The tables of one level, in the level's order.
pub type TableList<T> = Arc<Vec<Arc<TableHandle<T>>>>;

/// Seven levels of tables.
pub struct CfVersion<T> {
    pub(super) levels: [TableList<T>; Level::COUNT],
    /// Sum of the tables' bytes, level by level.
    pub(super) bytes: [u64; Level::COUNT],
    /// See [`CfVersion::l0_depth`].
    pub(super) l0_depth: usize,
}

impl<T> CfVersion<T> {
    /// No tables at all.
    pub fn empty() -> CfVersion<T> {
        CfVersion {
            levels: std::array::from_fn(|_| Arc::new(Vec::new())),
            bytes: [0; Level::COUNT],
            l0_depth: 0,
        }
    }

    /// The tables of `level`; empty for a level that does not exist.
    pub fn level(&self, level: Level) -> &[Arc<TableHandle<T>>] {
        self.levels.get(usize::from(level.0)).map_or(&[], |tables| tables.as_slice())
    }

    /// The same, to keep: shares the list.
    pub fn level_list(&self, level: Level) -> TableList<T> {
        self.levels.get(usize::from(level.0)).cloned().unwrap_or_default()
    }

    pub fn level_bytes(&self, level: Level) -> u64 {
        self.bytes.get(usize::from(level.0)).copied().unwrap_or(0)
    }

    pub fn table_count(&self) -> usize {
        self.levels.iter().map(|tables| tables.len()).sum()
    }

    /// Every table with its level, L0 first.
    pub fn tables(&self) -> impl Iterator<Item = (Level, &Arc<TableHandle<T>>)> {
        self.levels
            .iter()
            .enumerate()
            .flat_map(|(level, tables)| tables.iter().map(move |table| (Level(level as u8), table)))
    }

    /// The most tables of L0 that cover one key. What L0 costs a reader, and so what decisions
    /// about it count: the tables that one flush writes side by side, one for each range of key
    /// schemas, count as one.
    pub fn l0_depth(&self) -> usize {
        self.l0_depth
    }

    /// The most tables a point read may have to ask: the depth of L0, and one a level below.
    pub fn read_amplification(&self) -> usize {
        let below = self.levels[1..].iter().filter(|tables| !tables.is_empty()).count();
        self.l0_depth + below
    }

    /// The tables of L0 that may hold `key`, newest first.
    pub fn l0_candidates(&self, key: &[u8]) -> impl Iterator<Item = &Arc<TableHandle<T>>> {
        self.levels[0].iter().filter(move |table| table.meta.covers(key))
    }

    /// The one table of `level` (L1 or deeper) that may hold `key`.
    pub fn level_candidate(&self, level: Level, key: &[u8]) -> Option<&Arc<TableHandle<T>>> {
        debug_assert!(level.0 > 0, "L0 has many candidates");
        let tables = self.level(level);
        let index = tables.partition_point(|table| *table.meta.largest.key < *key);
        tables.get(index).filter(|table| *table.meta.smallest.key <= *key)
    }

    /// The tables of L1 or deeper that share a key with `range`: always neighbours.
    pub fn overlapping_run(&self, level: Level, range: KeyRange<'_>) -> &[Arc<TableHandle<T>>] {
        debug_assert!(level.0 > 0, "tables of L0 that overlap a range need not be neighbours");
        let tables = self.level(level);
        let from = tables.partition_point(|table| range.is_after(&table.meta.largest.key));
        let tables = &tables[from..];
        let count = tables.partition_point(|table| !range.is_before(&table.meta.smallest.key));
        &tables[..count]
    }

    /// True when some table deeper than `level` shares a key with `range`.
    pub fn overlaps_below(&self, level: Level, range: KeyRange<'_>) -> bool {
        (level.0 + 1..Level::COUNT as u8)
            .any(|deeper| !self.overlapping_run(Level(deeper), range).is_empty())
    }

    /// The version after `edit`. This one stays as it is, whatever the outcome.
    #[cfg(test)]
    pub fn apply(&self, edit: &CfEdit) -> Result<CfVersion<T>> {
        let mut next = self.clone();
        next.apply_in_place(edit)?;
        if cfg!(debug_assertions) {
            next.check()?;
        }
        Ok(next)
    }

    /// Applies `edit` here. After an error this value is half changed and must be thrown away:
    /// only `apply` and the replay of a manifest (which ends at the first error) may call it.
    pub(super) fn apply_in_place(&mut self, edit: &CfEdit) -> Result<()> {
        let mut taken = self.remove_all(&edit.removed)?;
        for (level, meta) in &edit.added {
            // A move keeps the opened table.
            let handle = match taken.iter().position(|table| table.meta == *meta) {
                Some(index) => taken.swap_remove(index),
                None => TableHandle::new(meta.clone()),
            };
            self.insert(*level, handle)?;
        }
        let is_l0 = |level: &Level| *level == Level(0);
        if edit.added.iter().any(|(level, _)| is_l0(level))
            || edit.removed.iter().any(|(level, _)| is_l0(level))
        {
            self.l0_depth = depth(self.levels[0].iter().map(|table| &table.meta));
        }
        Ok(())
    }

    /// Gives every table the schema that `schema` says, at the opening, before anybody has the
    /// handles.
    pub fn set_schemas(&mut self, schema: impl Fn(&TableMeta) -> u32) {
        for level in &mut self.levels {
            for handle in Arc::make_mut(level) {
                let schema = schema(&handle.meta);
                if schema != handle.meta.schema {
                    *handle = TableHandle::new(TableMeta { schema, ..handle.meta.clone() });
                }
            }
        }
    }

    /// Takes tables out; one pass over each level that loses any.
    fn remove_all(&mut self, removed: &[(Level, FileNo)]) -> Result<Vec<Arc<TableHandle<T>>>> {
        let mut taken = Vec::with_capacity(removed.len());
        for index in 0..Level::COUNT {
            let level = Level(index as u8);
            let mut files: Vec<FileNo> =
                removed.iter().filter(|(at, _)| *at == level).map(|(_, file)| *file).collect();
            if files.is_empty() {
                continue;
            }
            files.sort_unstable();
            let before = taken.len();
            Arc::make_mut(&mut self.levels[index]).retain(|table| {
                let goes = files.binary_search(&table.meta.file).is_ok();
                if goes {
                    taken.push(table.clone());
                }
                !goes
            });
            for table in &taken[before..] {
                self.bytes[index] = self.bytes[index].saturating_sub(table.meta.bytes);
            }
        }
        if taken.len() == removed.len() {
            return Ok(taken);
        }
        // Rare and fatal to the edit: now find out which one to name.
        let gone = |file: &FileNo| taken.iter().any(|table| table.meta.file == *file);
        match removed.iter().find(|(_, file)| !gone(file)) {
            Some((level, file)) => {
                Err(Error::invalid(format!("an edit removes table {file}, which {level} lacks")))
            }
            None => Err(Error::invalid("an edit removes one table twice")),
        }
    }

    /// Puts a table in its place, after checking it against its neighbours there.
    fn insert(&mut self, level: Level, table: Arc<TableHandle<T>>) -> Result<()> {
        let meta = &table.meta;
        meta.check()?;
        let index = usize::from(level.0);
        let Some(list) = self.levels.get_mut(index) else {
            return Err(Error::invalid(format!("an edit adds table {} to {level}", meta.file)));
        };
        let Some(bytes) = self.bytes[index].checked_add(meta.bytes) else {
            return Err(Error::invalid(format!("the bytes of {level} overflow at {}", meta.file)));
        };
        let place = if level.0 == 0 {
            list.partition_point(|other| l0_is_before(&other.meta, meta))
        } else {
            list.partition_point(|other| other.meta.smallest.key < meta.smallest.key)
        };
        if level.0 > 0 {
            let below = place.checked_sub(1).and_then(|index| list.get(index));
            for other in [below, list.get(place)].into_iter().flatten() {
                if KeyRange::of(meta).overlaps_table(&other.meta) {
                    return Err(Error::invalid(format!(
                        "an edit adds table {} to {level}, where table {} overlaps it",
                        meta.file, other.meta.file
                    )));
                }
            }
        }
        self.bytes[index] = bytes;
        Arc::make_mut(list).insert(place, table);
        Ok(())
    }
}

/// The most of `tables` that cover one key. A sweep from the lowest key up: where a table begins,
/// those that ended before it are over.
pub fn depth<'a>(tables: impl Iterator<Item = &'a TableMeta>) -> usize {
    let (mut firsts, mut lasts): (Vec<&[u8]>, Vec<&[u8]>) =
        tables.map(|meta| (&*meta.smallest.key, &*meta.largest.key)).unzip();
    firsts.sort_unstable();
    lasts.sort_unstable();
    let (mut over, mut most) = (0, 0);
    for (begun, first) in firsts.iter().enumerate() {
        while lasts.get(over).is_some_and(|last| last < first) {
            over += 1;
        }
        most = most.max(begun + 1 - over);
    }
    most
}

/// L0's order: newest first. Equal numbers only occur between tables that share no key.
pub(super) fn l0_is_before(a: &TableMeta, b: &TableMeta) -> bool {
    (a.max_seq, a.file) > (b.max_seq, b.file)
}

// By hand, because deriving would ask for `T: Clone` although only `Arc`s are cloned.
impl<T> Clone for CfVersion<T> {
    fn clone(&self) -> Self {
        CfVersion { levels: self.levels.clone(), bytes: self.bytes, l0_depth: self.l0_depth }
    }
}

impl<T> fmt::Debug for CfVersion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (level, tables) in self.levels.iter().enumerate() {
            if !tables.is_empty() {
                map.entry(&Level(level as u8), tables);
            }
        }
        map.finish()
    }
}
