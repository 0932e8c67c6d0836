//! Every relation that holds in a version, in one place. Run after each edit in tests and debug
//! builds, and once after each recovery in every build.

use std::collections::HashSet;

use sluice_base::{Error, Level, Result, limits};

use super::{
    CfVersion, KeyRange, VersionState,
    cf_version::{depth, l0_is_before},
};

impl<T> CfVersion<T> {
    /// Checks, and names the first relation that does not hold:
    /// 1. each table's facts agree ([`super::TableMeta::check`]);
    /// 2. no file number appears twice in the family;
    /// 3. L0 is in order, newest first, and as deep as it says;
    /// 4. of two tables of L0 that share a key, one is strictly newer;
    /// 5. L1..L6 are in key order, and no user key is inside two tables of a level;
    /// 6. a level's bytes are the sum of its tables'.
    pub fn check(&self) -> Result<()> {
        let mut files = HashSet::new();
        for (level, table) in self.tables() {
            table.meta.check()?;
            if !files.insert(table.meta.file) {
                return Err(broken(level, format!("table {} is there twice", table.meta.file)));
            }
        }
        self.check_l0()?;
        for (index, tables) in self.levels.iter().enumerate() {
            let level = Level(index as u8);
            for pair in tables.windows(2).filter(|_| index > 0) {
                let (a, b) = (&pair[0].meta, &pair[1].meta);
                if a.largest.key >= b.smallest.key {
                    return Err(broken(
                        level,
                        format!("tables {} and {} overlap or are out of order", a.file, b.file),
                    ));
                }
            }
            let sum: u128 = tables.iter().map(|table| u128::from(table.meta.bytes)).sum();
            if sum != u128::from(self.bytes[index]) {
                return Err(broken(
                    level,
                    format!("sum of {} bytes, not {sum}", self.bytes[index]),
                ));
            }
        }
        Ok(())
    }

    fn check_l0(&self) -> Result<()> {
        let tables = &self.levels[0];
        let depth = depth(tables.iter().map(|table| &table.meta));
        if depth != self.l0_depth {
            return Err(broken(Level(0), format!("depth {}, not {depth}", self.l0_depth)));
        }
        for pair in tables.windows(2) {
            let (newer, older) = (&pair[0].meta, &pair[1].meta);
            if !l0_is_before(newer, older) {
                let text = format!("tables {} and {} are out of order", newer.file, older.file);
                return Err(broken(Level(0), text));
            }
        }
        // Quadratic in the tables of L0: a handful, or some hundreds when compaction lags.
        for (index, newer) in tables.iter().enumerate() {
            for older in &tables[index + 1..] {
                let (newer, older) = (&newer.meta, &older.meta);
                if KeyRange::of(newer).overlaps_table(older) && newer.max_seq <= older.max_seq {
                    let text = format!("neither of {} and {} is newer", newer.file, older.file);
                    return Err(broken(Level(0), text));
                }
            }
        }
        Ok(())
    }
}

impl<T> VersionState<T> {
    /// Checks, and names the first relation that does not hold:
    /// 1. each family's version holds together ([`CfVersion::check`]);
    /// 2. family ids are below `next_cf`, names are unique and of legal length;
    /// 3. no file number appears twice in the database, and all are below `next_file`;
    /// 4. no table and no family is ahead of `last_seq`;
    /// 5. there are numbers left for files;
    /// 6. every key schema that a table, a map or a drain names is defined; a drain is of a schema
    ///    that no range writes, and the only one of it.
    pub fn check(&self) -> Result<()> {
        if self.next_file.0 > limits::FILE_NO_MAX {
            let text = format!("the next file number is {}", self.next_file.0);
            return Err(Error::invalid(text));
        }
        let mut names = HashSet::new();
        let mut files = HashSet::new();
        for (id, cf) in &self.cfs {
            let context = |error: Error| error.context(format_args!("column family {:?}", cf.name));
            cf.version.check().map_err(context)?;
            if cf.id != *id || *id >= self.next_cf {
                return Err(context(Error::invalid(format!("id {id} was never given out"))));
            }
            if !names.insert(&cf.name) || cf.name.len() > limits::CF_NAME_BYTES_MAX {
                return Err(context(Error::invalid("the name is taken or too long")));
            }
            if cf.flushed_seq > self.last_seq {
                return Err(context(Error::invalid("flushed beyond the last sequence number")));
            }
            cf.schema_map.check().map_err(context)?;
            let known = |index: &u32| *index == 0 || self.schemas.contains_key(index);
            let in_map = cf.schema_map.ranges().iter().map(|(_, schema)| *schema);
            let in_drains = cf.drains.iter().map(|drain| drain.schema);
            if let Some(index) = in_map.chain(in_drains).find(|index| !known(index)) {
                return Err(context(Error::invalid(format!("key schema {index} is not defined"))));
            }
            let mut drained = HashSet::new();
            for drain in &cf.drains {
                if !drained.insert(drain.schema) || cf.schema_map.writes(drain.schema) {
                    let text = format!("key schema {} is drained twice or in use", drain.schema);
                    return Err(context(Error::invalid(text)));
                }
            }
            for (level, table) in cf.version.tables() {
                let meta = &table.meta;
                if !files.insert(meta.file) || meta.file >= self.next_file {
                    let text = format!("the number of table {} is not its own", meta.file);
                    return Err(context(broken(level, text)));
                }
                if !known(&meta.schema) {
                    let text = format!("the key schema of table {} is not defined", meta.file);
                    return Err(context(broken(level, text)));
                }
                if meta.max_seq > self.last_seq {
                    let text = format!("table {} is ahead of the database", meta.file);
                    return Err(context(broken(level, text)));
                }
            }
        }
        Ok(())
    }
}

fn broken(level: Level, what: String) -> Error {
    Error::invalid(format!("{level}: {what}"))
}
