//! Iterators with a predicate: over memtables, tables of several schemas and snapshots they show what a
//! filter over all rows shows, in both directions; and reads of keys touch no value.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{Disk, Rows, flush, rest};
use sluice_env::Rng;
use sluicedb::{
    CfOptions, ColumnFamily, Db, FieldValue, FlushRequest, Iter, KeyPredicate, KeySchema,
    ReadOptions, Snapshot,
};

const SCHEMAS: [&str; 4] = [
    "tenant escaped, ts u64 desc, rest",
    "key rest",
    "lead u8, tenant escaped, rest",
    "tenant escaped, ts u64 desc",
];

fn schema(number: usize) -> Arc<KeySchema> {
    Arc::new(KeySchema::parse("events", 1 + number as u32, SCHEMAS[number]).unwrap())
}

/// Most keys fit the first schema; all have some that do not.
fn key(rng: &mut Rng) -> Vec<u8> {
    let ts = (!(1000 + rng.below(40))).to_be_bytes();
    let tenant = [&b"abc"[..], b"abd", b"x", b""][rng.below(4) as usize];
    match rng.below(10) {
        0 => vec![[0, 1, 0xff][rng.below(3) as usize]; rng.below(12) as usize],
        1 => tenant.to_vec(),
        2 => [tenant, &[0, 1], &ts, b"more"].concat(),
        _ => [tenant, &[0, 1], &ts].concat(),
    }
}

fn predicate(rng: &mut Rng) -> KeyPredicate {
    let tenant = |rng: &mut Rng| {
        FieldValue::Bytes([&b"abc"[..], b"abd", b"x", b"zzz"][rng.below(4) as usize].into())
    };
    let number = |rng: &mut Rng| FieldValue::Number(995 + rng.below(50));
    let of = |schema_number| KeyPredicate::new(schema(schema_number));
    match rng.below(7) {
        0 => of(0).equal("tenant", tenant(rng)).unwrap(),
        1 => of(0).range("ts", number(rng)..number(rng)).unwrap(),
        2 => {
            let of = of(0).equal("tenant", tenant(rng)).unwrap();
            of.range("ts", ..=number(rng)).unwrap()
        }
        3 => of(3).range("ts", number(rng)..).unwrap(),
        4 => of(1).range("key", tenant(rng)..).unwrap(),
        5 => of(2).equal(0, FieldValue::Number(u64::from(b'a'))).unwrap(),
        _ => of(0).range("rest", FieldValue::Bytes(b"a"[..].into())..).unwrap(),
    }
}

fn change(db: &Db, cf: &ColumnFamily, model: &mut Rows, rng: &mut Rng, count: u64) {
    for _ in 0..count {
        let key = key(rng);
        if rng.one_in(4) {
            db.delete(cf, &key).unwrap();
            model.remove(&key);
        } else {
            let value = rng.next_u64().to_be_bytes();
            db.put(cf, &key, &value).unwrap();
            model.insert(key, value.to_vec());
        }
    }
}

fn check(iter: &mut Iter, shown: &Rows, keys_only: bool, rng: &mut Rng, label: &str) {
    let value = |value: &Vec<u8>| if keys_only { Vec::new() } else { value.clone() };
    let wanted: Vec<_> = shown.iter().map(|(key, v)| (key.clone(), value(v))).collect();
    let now = |iter: &Iter| (iter.key().to_vec(), iter.value().to_vec());
    let mut found = Vec::new();
    let mut on = iter.seek_to_first().unwrap();
    while on {
        found.push(now(iter));
        on = iter.next().unwrap();
    }
    assert_eq!(found, wanted, "{label}: forward");
    let mut on = iter.seek_to_last().unwrap();
    for row in wanted.iter().rev() {
        assert!(on && now(iter) == *row, "{label}: backward");
        on = iter.prev().unwrap();
    }
    assert!(!on, "{label}");
    for _ in 0..20 {
        let key = key(rng);
        let at = wanted.partition_point(|row| row.0 < key);
        assert_eq!(iter.seek(&key).unwrap(), at < wanted.len(), "{label}");
        if at < wanted.len() {
            assert_eq!(now(iter), wanted[at], "{label}");
            match rng.below(3) {
                0 if iter.next().unwrap() => assert_eq!(now(iter), wanted[at + 1], "{label}"),
                1 if iter.prev().unwrap() => assert_eq!(now(iter), wanted[at - 1], "{label}"),
                _ => {}
            }
        }
        let upto = wanted.partition_point(|row| row.0 <= key);
        assert_eq!(iter.seek_for_prev(&key).unwrap(), upto > 0, "{label}");
        if upto > 0 {
            assert_eq!(now(iter), wanted[upto - 1], "{label}");
        }
    }
}

#[test]
fn predicates_hold_over_memtables_tables_of_many_schemas_and_snapshots() {
    for seed in 0..5 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let disk = Disk::new();
        let db = disk.open();
        let options = CfOptions { key_schema: Some((*schema(0)).clone()), ..CfOptions::default() };
        let cf = db.create_column_family("events", options).unwrap();
        let mut model = Rows::new();
        let mut past: Vec<(Snapshot, Rows)> = Vec::new();
        for round in 0..10 {
            db.set_key_schema(&cf, (*schema(rng.below(4) as usize)).clone()).unwrap();
            change(&db, &cf, &mut model, &mut rng, 60);
            match rng.below(4) {
                0 => drop(db.flush(FlushRequest::default())), // a sealed memtable stays
                1 => {
                    flush(&db);
                    db.compact(&cf, None, None).unwrap();
                    rest(&db);
                }
                _ => flush(&db),
            }
            past.push((db.snapshot(), model.clone()));
            change(&db, &cf, &mut model, &mut rng, 15);
            for ask in 0..12 {
                let predicate = predicate(&mut rng);
                let bound = |rng: &mut Rng| rng.one_in(3).then(|| key(rng));
                let keys_only = rng.one_in(3);
                let options = ReadOptions {
                    lower: bound(&mut rng),
                    upper: bound(&mut rng),
                    prefix: rng.one_in(6).then(|| b"ab".to_vec()),
                    skip_cache_fill: rng.one_in(2),
                    keys_only,
                    predicate: Some(Arc::new(predicate.clone())),
                };
                let inside = |key: &[u8]| {
                    options.lower.as_deref().is_none_or(|lower| key >= lower)
                        && options.upper.as_deref().is_none_or(|upper| key < upper)
                        && options.prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix))
                        && predicate.matches(key)
                };
                let label = format!("seed {seed}, round {round}, ask {ask}: {options:?}");
                let filtered = |rows: &Rows| -> Rows {
                    let rows = rows.iter().filter(|row| inside(row.0));
                    rows.map(|(key, value)| (key.clone(), value.clone())).collect()
                };
                let mut iter = db.iter(&cf, options.clone()).unwrap();
                check(&mut iter, &filtered(&model), keys_only, &mut rng, &label);
                let (snapshot, rows) = &past[rng.below(past.len() as u64) as usize];
                let mut iter = snapshot.view().iter(&cf, options.clone()).unwrap();
                check(&mut iter, &filtered(rows), keys_only, &mut rng, &label);
            }
        }
        let stats = db.stats();
        let (blocks, rows) = (stats.predicate_blocks_skipped, stats.predicate_rows_skipped);
        assert!(blocks > 100 && rows > 1000, "seed {seed}: {blocks} blocks, {rows} rows");
    }
}

#[cfg(debug_assertions)]
#[test]
fn reads_of_keys_touch_no_value() {
    use sluice_table::fuzzing::values_read;

    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    let (mut model, mut rng) = (Rows::new(), Rng::new(3));
    db.set_key_schema(&cf, (*schema(0)).clone()).unwrap();
    for _ in 0..3 {
        change(&db, &cf, &mut model, &mut rng, 60);
        flush(&db);
    }
    let walk = |keys_only: bool| {
        let before = values_read();
        let options = ReadOptions { keys_only, ..ReadOptions::default() };
        let mut iter = db.iter(&cf, options).unwrap();
        let (mut rows, mut bytes) = (0, 0);
        let mut on = iter.seek_to_first().unwrap();
        while on {
            rows += 1;
            bytes += iter.value().len();
            on = iter.next().unwrap();
        }
        on = iter.seek_to_last().unwrap();
        while on {
            bytes += iter.value().len();
            on = iter.prev().unwrap();
        }
        assert_eq!(rows, model.len());
        (bytes, values_read() - before)
    };
    assert_eq!(walk(true), (0, 0));
    let (bytes, read) = walk(false);
    assert!(bytes == model.len() * 16 && read >= model.len() as u64 * 2, "{bytes} {read}");
}
