//! What writers wrote, what readers saw, and what of it may be true.
//!
//! Each writer has rows of its own in two families and writes versions 1, 2, 3 ...: a batch puts
//! `latest` and a row of the version into both, and deletes the row of the version before the last.
//! So one look at a writer's rows says which version it stands at, and whether a batch was seen
//! whole. A version that was refused is tried again as another *attempt*, which its rows name: a
//! refused attempt that is ever seen is a trace (P4).

use sluicedb::{Ack, ColumnFamily, Db, Position, ReadOptions, ReadView, WriteBatch};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

/// A version and the attempt at it; (0, 0) before the first.
pub type Version = (u64, u64);

pub struct Writer {
    pub name: u64,
    pub families: [ColumnFamily; 2],
    pub is_logged: bool,
}

#[derive(Default, Clone)]
pub struct History {
    /// The last version acknowledged, at which level, and where its batch ends.
    pub acknowledged: BTreeMap<u64, (Ack, Position)>,
    pub refused: BTreeSet<Version>,
    /// The version that failed in another way: it may be there or not.
    pub doubtful: Option<u64>,
    pub seen: BTreeSet<Version>,
}

impl History {
    /// The highest version that readers must see from now on.
    pub fn least_visible(&self) -> u64 {
        self.acknowledged.last_key_value().map_or(0, |(version, _)| *version)
    }

    /// The highest version in batches that fulfil `holds`.
    pub fn least(&self, holds: impl Fn(Ack, Position) -> bool) -> u64 {
        let holding = self.acknowledged.iter().rev().find(|(_, (ack, end))| holds(*ack, *end));
        holding.map_or(0, |(version, _)| *version)
    }
}

/// Every writer's history. The lock is held for a look or a note; nothing runs meanwhile.
#[derive(Default)]
pub struct Ledger(Mutex<BTreeMap<u64, History>>);

impl Ledger {
    pub fn all(&self) -> MutexGuard<'_, BTreeMap<u64, History>> {
        self.0.lock().unwrap()
    }

    pub fn of(&self, writer: u64) -> History {
        self.all().get(&writer).cloned().unwrap_or_default()
    }

    pub fn note(&self, writer: u64, note: impl FnOnce(&mut History)) {
        note(self.all().entry(writer).or_default());
    }

    /// Nothing refused was seen by anybody at any time.
    pub fn check(&self) {
        for (writer, history) in self.all().iter() {
            let traces: Vec<_> = history.seen.intersection(&history.refused).collect();
            assert!(traces.is_empty(), "P4: writer {writer}: refused, and seen: {traces:?}");
        }
    }
}

fn latest(writer: u64) -> Vec<u8> {
    format!("{writer}-latest").into_bytes()
}

fn row(writer: u64, version: u64) -> Vec<u8> {
    format!("{writer}-row-{version:04}").into_bytes()
}

fn value((version, attempt): Version, bytes: usize) -> Vec<u8> {
    let mut value = [version.to_be_bytes(), attempt.to_be_bytes()].concat();
    value.resize(16 + bytes, version as u8);
    value
}

fn parse(value: &[u8]) -> Version {
    let word = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().unwrap());
    assert!(value[16..].iter().all(|&byte| byte == word(0) as u8), "P8: a value is damaged");
    (word(0), word(8))
}

impl Writer {
    pub fn batch(&self, (version, attempt): Version, bytes: usize) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for family in &self.families {
            let value = value((version, attempt), bytes);
            batch.put(family, &latest(self.name), &value);
            batch.put(family, &row(self.name, version), &value);
            if version > 2 {
                batch.delete(family, &row(self.name, version - 2));
            }
        }
        batch
    }

    /// The version that `view` sees. It must be whole: the same in both families, with exactly the
    /// rows that belong to it, by lookups and by a walk.
    pub fn version(&self, view: &ReadView, ledger: &Ledger) -> u64 {
        let found = self.families.each_ref().map(|family| {
            let found = view.get(family, &latest(self.name)).unwrap();
            found.map_or((0, 0), |value| parse(&value))
        });
        let name = self.name;
        assert_eq!(found[0], found[1], "P1: writer {name}: half a batch at {:?}", view.seq());
        let version = found[0].0;
        let expected: Vec<u64> = (version.saturating_sub(1).max(1)..=version).collect();
        for family in &self.families {
            let prefix = format!("{name}-row-").into_bytes();
            let options = ReadOptions { prefix: Some(prefix), ..ReadOptions::default() };
            let mut iter = view.iter(family, options).unwrap();
            let mut rows = Vec::new();
            let mut on = iter.seek_to_first().unwrap();
            while on {
                let row = parse(iter.value());
                ledger.note(name, |history| {
                    history.seen.insert(row);
                });
                rows.push(row.0);
                on = iter.next().unwrap();
            }
            assert_eq!(rows, expected, "writer {name}: rows at version {version}");
            for &version in &expected {
                assert!(view.exists(family, &row(name, version)).unwrap());
            }
            assert!(!view.exists(family, &row(name, version + 1)).unwrap());
        }
        if version > 0 {
            ledger.note(name, |history| {
                history.seen.insert(found[0]);
            });
        }
        version
    }
}

/// The same writer's rows in another database: a copy, or the same one after it was opened again.
pub fn writer_in(db: &Db, writer: &Writer) -> Writer {
    let families =
        writer.families.each_ref().map(|family| db.column_family(family.name()).unwrap());
    Writer { families, ..*writer }
}
