//! Key schemas of families: they are durable, they change at any time, and tables under many of them
//! are one family. P11: no key changes by it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Disk, Rows, assert_rows, flush, rest, rows};
use sluice_env::Rng;
use sluicedb::{CfOptions, ColumnFamily, Db, ErrorKind, KeySchema};

const SCHEMAS: [&str; 4] = [
    "tenant escaped, ts u64 desc, rest",
    "key rest",
    "lead u8, tenant escaped, rest",
    "tenant fixed 3, end u16, ts u64",
];

fn schema(number: usize) -> KeySchema {
    KeySchema::parse("events", 1 + number as u32, SCHEMAS[number]).unwrap()
}

/// Most keys fit the first schema; all have some that do not.
fn key(rng: &mut Rng) -> Vec<u8> {
    let ts = (1_000_000 - rng.below(300)).to_be_bytes();
    let tenant = [&b"abc"[..], b"abd", b"x"][rng.below(3) as usize];
    match rng.below(8) {
        0 => vec![[0, 1, 0xff][rng.below(3) as usize]; rng.below(12) as usize],
        1 => tenant.to_vec(),
        2 => [tenant, &[0, 1], &ts, b"more"].concat(),
        _ => [tenant, &[0, 1], &ts].concat(),
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

/// How many tables of the directory are under each schema.
fn tables(disk: &Disk) -> [usize; SCHEMAS.len()] {
    let mut counts = [0; SCHEMAS.len()];
    for (path, _) in disk.mem.list() {
        if path.extension().is_some_and(|extension| extension == "sst") {
            let bytes = disk.mem.read(&path).unwrap();
            for (number, count) in counts.iter_mut().enumerate() {
                let descriptor = schema(number).encode();
                let has = bytes.windows(descriptor.len()).any(|window| *window == descriptor);
                *count += usize::from(has);
            }
        }
    }
    counts
}

#[test]
fn p11_tables_of_many_schemas_are_one_family_through_crashes_and_compactions() {
    for seed in 0..6 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut disk = Disk::new();
        let mut model = Rows::new();
        let mut expected = schema(0);
        {
            let options = CfOptions { key_schema: Some(expected.clone()), ..CfOptions::default() };
            disk.open().create_column_family("events", options).unwrap();
        }
        let mut seen = [0; SCHEMAS.len()];
        for round in 0..12 {
            let label = format!("seed {seed}, round {round}");
            let db = disk.open();
            let cf = db.column_family("events").unwrap();
            assert_eq!(*cf.key_schema(), expected, "{label}: the schema is not durable");
            assert_rows(&rows(&db, &cf), &model, &label);
            change(&db, &cf, &mut model, &mut rng, 60);
            flush(&db);
            expected = schema((seed as usize + round) % SCHEMAS.len());
            db.set_key_schema(&cf, expected.clone()).unwrap();
            change(&db, &cf, &mut model, &mut rng, 60);
            flush(&db);
            for (seen, now) in seen.iter_mut().zip(tables(&disk)) {
                *seen += now;
            }
            if rng.one_in(3) {
                db.compact(&cf, None, None).unwrap();
                rest(&db);
            }
            change(&db, &cf, &mut model, &mut rng, 20);
            assert_rows(&rows(&db, &cf), &model, &label);
            for _ in 0..50 {
                let key = key(&mut rng);
                let found = db.get(&cf, &key).unwrap();
                assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice), "{label}");
            }
            disk = if rng.one_in(2) { disk.kill() } else { disk };
        }
        assert!(seen.iter().all(|seen| *seen > 0), "seed {seed}: a schema was not met: {seen:?}");
    }
}

#[test]
fn a_compaction_leaves_tables_of_the_present_schema_only() {
    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    let (mut model, mut rng) = (Rows::new(), Rng::new(7));
    assert!(cf.key_schema().is_whole_key());
    for number in [0, 2, 3] {
        db.set_key_schema(&cf, schema(number)).unwrap();
        change(&db, &cf, &mut model, &mut rng, 100);
        flush(&db);
    }
    let before = tables(&disk);
    assert!(before[0] > 0 && before[2] > 0 && before[3] > 0, "{before:?}");
    db.set_key_schema(&cf, schema(1)).unwrap();
    db.compact(&cf, None, None).unwrap();
    rest(&db);
    let [first, present, third, fourth] = tables(&disk);
    assert!(present > 0 && first + third + fourth == 0, "{first} {present} {third} {fourth}");
    assert_rows(&rows(&db, &cf), &model, "compacted");
}

#[test]
fn a_family_that_is_gone_gets_no_schema() {
    let disk = Disk::new();
    let db = disk.open();
    let gone = db.create_column_family("gone", CfOptions::default()).unwrap();
    db.drop_column_family(&gone).unwrap();
    let error = db.set_key_schema(&gone, schema(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(gone.key_schema().is_whole_key());
}
