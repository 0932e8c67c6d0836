//! Which key schema the tables of a family are written under, by key range; and the family's drains.
//! Pure values: schemas are named by their index in [`super::VersionState::schemas`].
//!
//! ```text
//!   starts   ""          "m"            "t"
//!            ├── 0 ──────┤├── 3 ────────┤├── 1 ──────…      each range ends where the next begins
//! ```
//! *Invariants.* The first range begins at the empty key, so that every key is in exactly one range;
//! starts ascend strictly; neighbours differ, because an end that divides nothing would only cut
//! tables; there are at most [`SCHEMA_RANGES_MAX`] ranges.

use sluice_base::{Error, Result, limits};

use super::TableMeta;

/// Most key ranges of a family. Each is up to one table of every flush, and looked through by each
/// change; an end may be as long as a key.
pub const SCHEMA_RANGES_MAX: usize = 1024;

/// Most bytes of all the ends of one map: it must fit one manifest edit with much room to spare.
const START_BYTES_MAX: usize = 16 << 20;

/// Key ranges and the index of the schema of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaMap {
    /// Where each range begins, and its schema.
    ranges: Vec<(Box<[u8]>, u32)>,
}

impl Default for SchemaMap {
    /// The default schema everywhere.
    fn default() -> SchemaMap {
        SchemaMap::whole(0)
    }
}

impl SchemaMap {
    /// One schema everywhere.
    pub fn whole(schema: u32) -> SchemaMap {
        SchemaMap { ranges: vec![(Box::default(), schema)] }
    }

    /// The map of these ranges, as [`SchemaMap::ranges`] gives them.
    pub fn from_ranges(ranges: Vec<(Box<[u8]>, u32)>) -> Result<SchemaMap> {
        let map = SchemaMap { ranges };
        map.check()?;
        Ok(map)
    }

    /// Where each range begins, and its schema.
    pub fn ranges(&self) -> &[(Box<[u8]>, u32)] {
        &self.ranges
    }

    /// The number of the range that `key` is in.
    pub fn range_of(&self, key: &[u8]) -> usize {
        // The first range begins at or before every key.
        self.ranges.partition_point(|(start, _)| **start <= *key).saturating_sub(1)
    }

    /// The schema of `key`.
    pub fn schema_of(&self, key: &[u8]) -> u32 {
        self.ranges.get(self.range_of(key)).map_or(0, |(_, schema)| *schema)
    }

    /// Where range `index` ends; `None` for the last.
    pub fn end(&self, index: usize) -> Option<&[u8]> {
        self.ranges.get(index + 1).map(|(start, _)| &**start)
    }

    /// Whether some range writes `schema`.
    pub fn writes(&self, schema: u32) -> bool {
        self.ranges.iter().any(|(_, of_range)| *of_range == schema)
    }

    /// Whether the table is as one written now would be: inside one range, under its schema.
    pub fn fits(&self, meta: &TableMeta) -> bool {
        let index = self.range_of(&meta.smallest.key);
        index == self.range_of(&meta.largest.key)
            && self.ranges.get(index).is_some_and(|(_, schema)| *schema == meta.schema)
    }

    /// The map with `schema` in the range from `start` to before `end` (`None`: all that follows).
    ///
    /// # Errors
    /// `Invalid` for a range that holds no key, and for a map with too many ranges or too long ends.
    pub fn with(&self, start: &[u8], end: Option<&[u8]>, schema: u32) -> Result<SchemaMap> {
        if end.is_some_and(|end| end <= start) {
            return Err(Error::invalid(
                "a key schema's range ends at or before its start: give an end above the start, or \
                 none",
            ));
        }
        let longest = start.len().max(end.map_or(0, <[u8]>::len));
        if longest > limits::KEY_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a key schema's range ends at {longest} bytes; a key has at most {}",
                limits::KEY_BYTES_MAX
            )));
        }
        let mut ranges: Vec<(Box<[u8]>, u32)> = Vec::with_capacity(self.ranges.len() + 2);
        let before = self.ranges.iter().take_while(|(at, _)| **at < *start);
        ranges.extend(before.cloned());
        ranges.push((start.into(), schema));
        if let Some(end) = end {
            ranges.push((end.into(), self.schema_of(end)));
            ranges.extend(self.ranges.iter().filter(|(at, _)| **at > *end).cloned());
        }
        ranges.dedup_by(|next, before| next.1 == before.1);
        if ranges.len() > SCHEMA_RANGES_MAX {
            return Err(Error::invalid(format!(
                "the column family would have {} ranges of key schemas; {SCHEMA_RANGES_MAX} is the \
                 most: join neighbours under one schema first",
                ranges.len()
            )));
        }
        SchemaMap::from_ranges(ranges)
    }

    /// Checks the invariants of the file's head.
    pub fn check(&self) -> Result<()> {
        if self.ranges.len() > SCHEMA_RANGES_MAX {
            return Err(Error::invalid("a key schema map has too many ranges"));
        }
        if self.ranges.first().is_none_or(|(start, _)| !start.is_empty()) {
            return Err(Error::invalid("a key schema map does not begin at the empty key"));
        }
        let in_order = |pair: &[(Box<[u8]>, u32)]| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1;
        if !self.ranges.windows(2).all(in_order) {
            return Err(Error::invalid("ranges of a key schema map are out of order, or are one"));
        }
        if self.ranges.iter().any(|(start, _)| start.len() > limits::KEY_BYTES_MAX) {
            return Err(Error::invalid("a range of a key schema map begins at no possible key"));
        }
        let bytes: usize = self.ranges.iter().map(|(start, _)| start.len()).sum();
        if bytes > START_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the ends of a family's key schema ranges take {bytes} bytes; {START_BYTES_MAX} is \
                 the most: use shorter ends"
            )));
        }
        Ok(())
    }
}

/// A drain that was begun and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// The schema whose tables are rewritten.
    pub schema: u32,
    pub is_paused: bool,
    /// Tables under it when the drain was begun, and their bytes.
    pub tables: u64,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn text(map: &SchemaMap) -> String {
        let part = |(start, schema): &(Box<[u8]>, u32)| {
            format!("{}:{schema}", String::from_utf8_lossy(start))
        };
        map.ranges().iter().map(part).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ranges_are_split_replaced_and_joined() {
        let map = SchemaMap::default().with(b"c", Some(b"m"), 1).unwrap();
        assert_eq!(text(&map), ":0 c:1 m:0");
        let map = map.with(b"f", Some(b"h"), 2).unwrap();
        assert_eq!(text(&map), ":0 c:1 f:2 h:1 m:0");
        assert_eq!(text(&map.with(b"c", Some(b"m"), 0).unwrap()), ":0");
        assert_eq!(text(&map.with(b"h", None, 2).unwrap()), ":0 c:1 f:2");
        assert_eq!(text(&map.with(b"", None, 3).unwrap()), ":3");
        assert_eq!(text(&map.with(b"a", Some(b"g"), 2).unwrap()), ":0 a:2 h:1 m:0");
        for (start, end) in [("b", "b"), ("b", "a"), ("", "")] {
            assert!(map.with(start.as_bytes(), Some(end.as_bytes()), 1).is_err());
        }
    }

    #[test]
    fn there_are_only_so_many_ranges() {
        let mut map = SchemaMap::default();
        for number in 1..SCHEMA_RANGES_MAX as u32 {
            map = map.with(&number.to_be_bytes(), None, number).unwrap();
        }
        assert_eq!(map.ranges().len(), SCHEMA_RANGES_MAX);
        let error = map.with(&[0xff], None, 0).unwrap_err();
        assert!(error.to_string().contains("1024 is the most"), "{error}");
    }

    proptest! {
        #[test]
        fn every_key_has_the_schema_that_was_set_last(
            steps in vec((0u8..20, 0u8..24, 0u32..4), 1..20),
        ) {
            let mut map = SchemaMap::default();
            let mut model = [0; 26];
            for (start, end, schema) in steps {
                let end = (end < 20).then_some(end);
                let Ok(next) = map.with(&[start], end.as_ref().map(std::slice::from_ref), schema)
                else { continue };
                map = next;
                model[usize::from(start)..end.map_or(26, usize::from)].fill(schema);
            }
            map.check().unwrap();
            for (key, schema) in model.into_iter().enumerate() {
                prop_assert_eq!(map.schema_of(&[key as u8]), schema);
                prop_assert_eq!(map.schema_of(&[key as u8, 7]), schema);
            }
            prop_assert_eq!(map.schema_of(b""), 0);
        }
    }
}
