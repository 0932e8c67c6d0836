//! What a database holds, as a text that can be compared and read.

use sluice_base::checksum::crc32c;
use sluicedb::{Db, ReadOptions};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Counters are looked for up to this id.
pub const COUNTERS: u32 = 8;

/// One column family.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Family {
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub counters: BTreeMap<u32, i64>,
    /// Keys that were there once: P10.
    pub gone: BTreeSet<Vec<u8>>,
}

/// A database at one position.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Content {
    /// Sequence number of the last write that is visible.
    pub seq: u64,
    pub families: BTreeMap<String, Family>,
}

impl Content {
    pub fn put(&mut self, family: &str, key: &[u8], value: &[u8]) {
        let family = self.families.get_mut(family).unwrap();
        family.gone.remove(key);
        family.rows.insert(key.to_vec(), value.to_vec());
    }

    pub fn delete(&mut self, family: &str, key: &[u8]) {
        let family = self.families.get_mut(family).unwrap();
        family.rows.remove(key);
        family.gone.insert(key.to_vec());
    }

    pub fn count(&mut self, family: &str, id: u32, delta: i64) {
        *self.families.get_mut(family).unwrap().counters.entry(id).or_default() += delta;
    }

    /// The text. Long values are told by length and checksum.
    pub fn render(&self) -> String {
        let mut out = format!("visible {}\n", self.seq);
        for (name, family) in &self.families {
            writeln!(out, "family {name}").unwrap();
            for (id, value) in family.counters.iter().filter(|(_, value)| **value != 0) {
                writeln!(out, "  counter {id} = {value}").unwrap();
            }
            for (key, value) in &family.rows {
                let shown = match value.len() {
                    0..=24 => format!("\"{}\"", value.escape_ascii()),
                    len => format!("{len} bytes crc32c {:08x}", crc32c(value)),
                };
                writeln!(out, "  \"{}\" = {shown}", key.escape_ascii()).unwrap();
            }
            for key in &family.gone {
                writeln!(out, "  gone {}", String::from_utf8(key.clone()).unwrap()).unwrap();
            }
        }
        out
    }

    /// What `db` holds: every row by cursor in both directions and by a get, counters, and whether
    /// the keys that `text` (of [`Content::render`]) calls gone are gone.
    pub fn read(db: &Db, text: &str) -> Content {
        let mut found = Content { seq: db.positions().visible.seq.0, ..Content::default() };
        for cf in db.list_column_families() {
            let family = found.families.entry(cf.name().to_owned()).or_default();
            let mut iter = db.iter(&cf, ReadOptions::default()).unwrap();
            let mut on = iter.seek_to_first().unwrap();
            while on {
                let (key, value) = (iter.key().to_vec(), iter.value().to_vec());
                assert_eq!(db.get(&cf, &key).unwrap(), Some(value.clone()));
                family.rows.insert(key, value);
                on = iter.next().unwrap();
            }
            let mut back = 0;
            let mut on = iter.seek_to_last().unwrap();
            while on {
                back += 1;
                on = iter.prev().unwrap();
            }
            assert_eq!(back, family.rows.len());
            for id in 0..COUNTERS {
                family.counters.insert(id, db.counter(&cf, id));
            }
        }
        let mut family = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("family ") {
                family = name;
            } else if let Some(key) = line.strip_prefix("  gone ") {
                let cf = db.column_family(family).unwrap();
                assert_eq!(db.get(&cf, key.as_bytes()).unwrap(), None, "{family}: {key} is back");
                let family = found.families.get_mut(family).unwrap();
                family.gone.insert(key.as_bytes().to_vec());
            }
        }
        found
    }
}

/// Fails with the first lines that differ.
pub fn assert_same(found: &str, expected: &str, label: &str) {
    let differ: Vec<_> = found
        .lines()
        .zip(expected.lines().chain(std::iter::repeat("(end)")))
        .filter(|(found, expected)| found != expected)
        .take(5)
        .collect();
    assert!(
        found == expected,
        "{label}: {} lines, expected {}; (found, expected) {differ:#?}",
        found.lines().count(),
        expected.lines().count()
    );
}
