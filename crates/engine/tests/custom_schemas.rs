//! Custom key schemas in a database: beside declarative ones every key reads as it was written, through
//! flushes, compactions, crashes and reopenings (P11); a directory that needs a splitter opens with
//! that one only, and a refusal leaves it as it is (P12). And filters of prefixes that a family asks for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Disk, Rows, assert_rows, flush, rest, rows, seal, try_flush};
use sluice_env::Rng;
use sluice_table::fuzzing::sample::splitters::{self, Framed, LastLetter};
use sluicedb::{
    CfOptions, ColumnFamily, Db, DrainState, ErrorKind, FieldValue, KeyPredicate, KeySchema,
    KeySplitter, Options, ReadOptions,
};
use std::{path::PathBuf, sync::Arc};

fn framed(version: u32, contract: &'static str) -> Arc<dyn KeySplitter> {
    Arc::new(Framed { version, contract })
}

/// The splitters of the model; the third says of a key now this, now that.
fn given() -> Vec<Arc<dyn KeySplitter>> {
    vec![Arc::new(LastLetter), Arc::new(Framed::default()), splitters::fickle_splitter()]
}

fn with(disk: &Disk, key_splitters: Vec<Arc<dyn KeySplitter>>) -> Options {
    Options { key_splitters, l0_compaction_trigger: 4, l0_stop: 40, ..disk.stepped() }
}

fn open(disk: &Disk) -> Db {
    Db::open("/db", with(disk, given())).unwrap()
}

fn custom(splitter: impl KeySplitter + 'static) -> KeySchema {
    KeySchema::custom(Arc::new(splitter)).unwrap()
}

fn schema(rng: &mut Rng) -> KeySchema {
    match rng.below(6) {
        0 => KeySchema::whole_key(),
        1 => KeySchema::parse("rows", 1, "lead u8, rest").unwrap(),
        2 | 3 => custom(LastLetter),
        4 => custom(Framed::default()),
        _ => splitters::fickle(),
    }
}

fn key(rng: &mut Rng) -> Vec<u8> {
    let letters = |rng: &mut Rng, most| -> Vec<u8> {
        (0..rng.below(most)).map(|_| b"ab\x00\xff"[rng.below(4) as usize]).collect()
    };
    [vec![b'a' + rng.below(6) as u8], letters(rng, 6)].concat()
}

fn predicate(rng: &mut Rng) -> KeyPredicate {
    let bytes = |rng: &mut Rng| FieldValue::Bytes(key(rng).into());
    let number = |rng: &mut Rng| FieldValue::Number(u64::from(b'a') * 256 + rng.below(700));
    let letter = KeyPredicate::new(Arc::new(custom(LastLetter)));
    let framed = KeyPredicate::new(Arc::new(custom(Framed::default())));
    match rng.below(5) {
        0 => letter.range("lead", bytes(rng)..).unwrap(),
        1 => letter.equal("lead", FieldValue::Bytes(b"ba"[..].into())).unwrap(),
        2 => letter.range("tail", bytes(rng)..=FieldValue::Bytes(b"d"[..].into())).unwrap(),
        3 => framed.range("id", number(rng)..).unwrap(),
        _ => framed.equal("kind", FieldValue::Number(98)).unwrap(),
    }
}

fn check(db: &Db, cf: &ColumnFamily, model: &Rows, rng: &mut Rng, label: &str) {
    assert_rows(&rows(db, cf), model, label);
    for _ in 0..20 {
        let key = key(rng);
        assert_eq!(
            db.get(cf, &key).unwrap().as_deref(),
            model.get(&key).map(|v| &v[..]),
            "{label}"
        );
    }
    for _ in 0..6 {
        let predicate = predicate(rng);
        let wanted = model.keys().filter(|key| predicate.matches(key));
        let options =
            ReadOptions { predicate: Some(Arc::new(predicate.clone())), ..Default::default() };
        let mut iter = db.iter(cf, options).unwrap();
        let (mut found, mut on) = (Vec::new(), iter.seek_to_first().unwrap());
        while on {
            found.push(iter.key().to_vec());
            on = iter.next().unwrap();
        }
        assert!(wanted.eq(&found), "{label}: {predicate:?} shows {} keys", found.len());
    }
}

#[test]
fn p11_custom_and_declared_schemas_side_by_side_read_like_a_map() {
    let (mut side_by_side, mut skipped) = (0, 0);
    for seed in 0..6 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let (mut disk, mut model) = (Disk::new(), Rows::new());
        let mut db = open(&disk);
        for round in 0..50 {
            let label = format!("seed {seed}, round {round}");
            let cf = db.default_cf();
            for _ in 0..rng.below(40) {
                let key = key(&mut rng);
                if rng.one_in(4) {
                    db.delete(&cf, &key).unwrap();
                    model.remove(&key);
                } else {
                    let value = rng.next_u64().to_be_bytes();
                    db.put(&cf, &key, &value).unwrap();
                    model.insert(key, value.to_vec());
                }
            }
            match rng.below(8) {
                0 => db.set_key_schema(&cf, schema(&mut rng)).unwrap(),
                1 | 2 => {
                    let start = key(&mut rng);
                    let end = Some(vec![start[0] + 1]).filter(|_| !rng.one_in(4));
                    db.set_key_schema_in(&cf, &start, end.as_deref(), schema(&mut rng)).unwrap();
                }
                3 => {
                    flush(&db);
                    db.compact(&cf, None, None).unwrap();
                    rest(&db);
                }
                4 => drop(seal(&db)),
                5 => flush(&db),
                6 => {
                    drop((db, cf));
                    db = open(&disk);
                }
                _ => {
                    // What was acknowledged at Os outlives the process.
                    disk = disk.kill();
                    drop((db, cf));
                    db = open(&disk);
                }
            }
            let under = db.schema_usage();
            let custom = under.iter().filter(|usage| usage.tables > 0 && is_custom(&usage.id.name));
            let custom = custom.count();
            side_by_side += u64::from(custom > 0 && under.len() > custom);
            check(&db, &db.default_cf(), &model, &mut rng, &label);
        }
        skipped += db.stats().predicate_rows_skipped;
    }
    assert!(side_by_side > 60 && skipped > 1000, "{side_by_side} {skipped}");
}

fn is_custom(name: &str) -> bool {
    ["last-letter", "framed", "fickle"].contains(&name)
}

/// The machine dies at every changing call of a flush and a compaction under two custom schemas.
#[test]
fn p01_a_crash_while_custom_tables_are_written_loses_nothing_that_was_kept() {
    for n in 1.. {
        assert!(n < 500, "no run without a crash");
        let disk = Disk::new();
        let db = open(&disk);
        let cf = db.default_cf();
        db.set_key_schema(&cf, custom(LastLetter)).unwrap();
        db.set_key_schema_in(&cf, b"c", None, custom(Framed::default())).unwrap();
        let (mut model, mut rng) = (Rows::new(), Rng::new(5));
        for round in 0..3u64 {
            for _ in 0..20 {
                let key = key(&mut rng);
                db.put(&cf, &key, &round.to_be_bytes()).unwrap();
                model.insert(key, round.to_be_bytes().to_vec());
            }
            if round < 2 {
                flush(&db);
            }
        }
        db.sync().unwrap();
        disk.fs.kill_after(n);
        let act = || {
            try_flush(&db)?;
            db.compact(&cf, None, None)
        };
        let outcome = act();
        let died = disk.fs.is_dead();
        assert!(died || outcome.is_ok(), "call {n}: nothing failed, and yet: {outcome:?}");
        for (how, left) in disk.crashes(n) {
            let label = format!("call {n}, {how}");
            let db = open(&left);
            check(&db, &db.default_cf(), &model, &mut rng, &label);
            flush(&db);
            db.compact(&db.default_cf(), None, None).unwrap();
            check(&db, &db.default_cf(), &model, &mut rng, &label);
        }
        if !died {
            assert!(n > 20, "{} changing calls", n - 1);
            return;
        }
    }
}

fn files(disk: &Disk) -> Vec<(PathBuf, u64)> {
    let is_lock = |path: &PathBuf| path.ends_with("LOCK");
    disk.mem.list().into_iter().filter(|(path, _)| !is_lock(path)).collect()
}

fn assert_refused(disk: &Disk, given: Vec<Arc<dyn KeySplitter>>, kind: ErrorKind, texts: &[&str]) {
    let before = files(disk);
    let error = Db::open("/db", with(disk, given)).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for text in texts {
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(files(disk), before, "a refused opening changed files");
}

#[test]
fn p12_a_directory_opens_with_the_splitter_it_was_written_with_and_no_other() {
    let disk = Disk::new();
    let db = Db::open("/db", with(&disk, vec![framed(1, "a")])).unwrap();
    let cf = db.default_cf();
    let first = KeySchema::custom(framed(1, "a")).unwrap();
    let id = first.id().to_string();
    db.set_key_schema_in(&cf, b"a", Some(b"b"), first.clone()).unwrap();
    db.put(&cf, b"abc", b"1").unwrap();
    flush(&db);
    db.close(false).unwrap();
    drop((db, cf));
    disk.mem.write("/db/000999.sst", b"of nobody").unwrap();

    let unsupported = ErrorKind::Unsupported;
    let way_out = "must be in Options::key_splitters";
    assert_refused(&disk, vec![], unsupported, &[&id, way_out, "none of this name"]);
    assert_refused(&disk, vec![Arc::new(LastLetter)], unsupported, &[&id, "none of this name"]);
    let second = KeySchema::custom(framed(2, "a")).unwrap().id().to_string();
    assert_refused(&disk, vec![framed(2, "a")], unsupported, &[&id, &second, way_out]);
    let changed = KeySchema::custom(framed(1, "b")).unwrap().id().to_string();
    let texts = [&id[..], &changed, "another contract", "a new version"];
    assert_refused(&disk, vec![framed(2, "a"), framed(1, "b")], unsupported, &texts);

    // Several versions beside each other, and then the old one is not needed any more.
    let both = || vec![framed(1, "a"), framed(2, "b")];
    let db = Db::open("/db", with(&disk, both())).unwrap();
    let cf = db.default_cf();
    assert!(!disk.files(".sst").iter().any(|name| name.contains("000999")));
    assert_eq!(db.get(&cf, b"abc").unwrap().as_deref(), Some(&b"1"[..]));
    db.set_key_schema(&cf, KeySchema::custom(framed(2, "b")).unwrap()).unwrap();
    assert_eq!(db.drain_schema(&cf, &first.id()).unwrap().state, DrainState::Running);
    rest(&db);
    drop((db, cf));
    let db = Db::open("/db", with(&disk, vec![framed(2, "b")])).unwrap();
    let cf = db.default_cf();
    assert_eq!(db.get(&cf, b"abc").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!((cf.key_schema().version(), cf.key_schema().can_split()), (2, true));
}

#[test]
fn p12_splitters_that_share_an_identity_are_refused() {
    let disk = Disk::new();
    let db = disk.open();
    let declared = KeySchema::parse("last-letter", 1, "lead u8, rest").unwrap();
    db.set_key_schema(&db.default_cf(), declared.clone()).unwrap();
    db.close(false).unwrap();
    drop(db);
    let invalid = ErrorKind::Invalid;
    let text = "has the name and version of framed v1";
    assert_refused(&disk, vec![framed(1, "a"), framed(1, "a")], invalid, &[text, "key_splitters"]);
    assert_refused(&disk, vec![framed(1, "a"), framed(1, "b")], invalid, &[text]);
    let texts = [&declared.id().to_string()[..], "another name"];
    assert_refused(&disk, vec![Arc::new(LastLetter)], invalid, &texts);
    for (name, wanted) in [("mvcc", "mvcc v1"), ("default", "whole-key v1"), ("a b", "not a name")]
    {
        assert_refused(&disk, vec![Arc::new(Named(name))], invalid, &[wanted, "key_splitters"]);
        let nowhere = Disk::new();
        assert_refused(&nowhere, vec![Arc::new(Named(name))], invalid, &[wanted]);
    }

    // While it runs: what the next opening would refuse is refused now.
    let db = Db::open("/db", with(&disk, vec![framed(1, "a")])).unwrap();
    let cf = db.default_cf();
    let named = KeySchema::parse("framed", 1, "kind u8, rest").unwrap();
    let foreign = [custom(LastLetter), KeySchema::custom(framed(1, "b")).unwrap(), named];
    for schema in foreign {
        let error = db.set_key_schema(&cf, schema.clone()).unwrap_err();
        assert_eq!(error.kind(), invalid);
        assert!(error.to_string().contains("Options::key_splitters"), "{error}");
        let options = CfOptions { key_schema: Some(schema), ..CfOptions::default() };
        assert_eq!(db.create_column_family("other", options).unwrap_err().kind(), invalid);
    }
    assert_eq!(*cf.key_schema(), declared);
    // By its descriptor alone it is the one that was given.
    let read = KeySchema::decode(&KeySchema::custom(framed(1, "a")).unwrap().encode()).unwrap();
    db.set_key_schema(&cf, read).unwrap();
    assert!(cf.key_schema().can_split());
}

#[derive(Debug)]
struct Named(&'static str);

impl KeySplitter for Named {
    fn name(&self) -> &str {
        self.0
    }

    fn version(&self) -> u32 {
        1
    }

    fn fields(&self) -> Vec<sluicedb::SplitField> {
        LastLetter.fields()
    }

    fn contract(&self) -> &str {
        ""
    }

    fn split(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
        LastLetter.split(key, ends)
    }
}

#[test]
fn a_family_that_asks_for_filters_of_prefixes_searches_fewer_tables() {
    for fields in [None, Some(1), Some(9)] {
        let disk = Disk::new();
        let splitters = vec![Arc::new(LastLetter) as Arc<dyn KeySplitter>];
        let options = Options { key_splitters: splitters, ..disk.stepped() };
        let options = Options { l0_compaction_trigger: 100, l0_stop: 200, ..options };
        let schema = Arc::new(KeySchema::parse("t", 1, "tenant escaped, id u8, rest").unwrap());
        let db = Db::open("/db", options.clone()).unwrap();
        let cf_options = CfOptions {
            filter_fields: fields,
            key_schema: Some((*schema).clone()),
            ..CfOptions::default()
        };
        let zero = CfOptions { filter_fields: Some(0), ..CfOptions::default() };
        assert_eq!(db.create_column_family("x", zero).unwrap_err().kind(), ErrorKind::Invalid);
        let cf = db.create_column_family("events", cf_options).unwrap();
        // A range without such fields, and one of code, have none, and are written all the same.
        db.set_key_schema_in(&cf, b"x", Some(b"y"), KeySchema::whole_key()).unwrap();
        db.set_key_schema_in(&cf, b"y", None, custom(LastLetter)).unwrap();
        let tenant = |number: u64| FieldValue::Bytes(format!("t{number:02}").into_bytes().into());
        let key = |number: u64, id: u64| {
            let rest = FieldValue::Bytes(b"r"[..].into());
            schema.join(&[tenant(number), FieldValue::Number(id), rest]).unwrap()
        };
        // Every second tenant in each table, so that all cover the same range.
        let write = |db: &Db, cf: &ColumnFamily, tables: std::ops::Range<u64>| {
            for table in tables {
                for n in (table % 2..40).step_by(2) {
                    db.put(cf, &key(n, table), b"v").unwrap();
                }
                db.put(cf, b"xa", b"v").unwrap();
                db.put(cf, b"ya", b"v").unwrap();
                flush(db);
            }
        };
        write(&db, &cf, 0..4);
        drop((db, cf));
        // The choice is in the manifest.
        let db = Db::open("/db", options).unwrap();
        let cf = db.column_family("events").unwrap();
        write(&db, &cf, 4..8);
        let seen = |predicate: KeyPredicate| {
            let before = db.stats().prefix_tables_skipped;
            let options =
                ReadOptions { predicate: Some(Arc::new(predicate)), ..ReadOptions::default() };
            let mut iter = db.iter(&cf, options).unwrap();
            let (mut count, mut on) = (0, iter.seek_to_first().unwrap());
            while on {
                count += 1;
                on = iter.next().unwrap();
            }
            (count, db.stats().prefix_tables_skipped - before)
        };
        let of = || KeyPredicate::new(Arc::clone(&schema));
        let (count, skipped) = seen(of().equal("tenant", tenant(6)).unwrap());
        // A filter on two fields says nothing of one.
        assert_eq!((count, skipped >= 4), (4, fields == Some(1)), "{fields:?}: {skipped}");
        let both = of().equal("tenant", tenant(6)).unwrap().equal("id", FieldValue::Number(4));
        let (count, skipped) = seen(both.unwrap());
        // On two fields of three, though nine were asked for: seven tables have no such prefix.
        let least = match fields {
            None => 0,
            Some(1) => 4,
            Some(_) => 7,
        };
        assert!(count == 1 && skipped >= least && (skipped > 0) == (least > 0), "{skipped}");
        db.compact(&cf, None, None).unwrap();
        rest(&db);
        let (count, skipped) = seen(of().equal("tenant", tenant(41)).unwrap());
        assert_eq!((count, skipped > 0), (0, false), "no table reaches so far");
        assert_eq!(seen(of().equal("tenant", tenant(6)).unwrap()).0, 4);
        // Inside the range and in no table: what compaction wrote has a filter, too.
        let absent = FieldValue::Bytes(b"t06x"[..].into());
        let absent = of().equal("tenant", absent).unwrap().equal("id", FieldValue::Number(4));
        let (count, skipped) = seen(absent.unwrap());
        assert_eq!((count, skipped > 0), (0, fields.is_some()), "{fields:?}");
        assert_eq!(db.get(&cf, b"xa").unwrap().as_deref(), Some(&b"v"[..]));
        assert_eq!(db.get(&cf, b"ya").unwrap().as_deref(), Some(&b"v"[..]));
    }
}
