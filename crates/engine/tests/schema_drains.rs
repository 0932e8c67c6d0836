//! Drains of key schemas among everything else that writes tables: a drain that says it is done is
//! right for good, whatever began before it, whatever fails and whenever the machine dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, NEVER, Rows, assert_rows, dies_at_every_call, flush, is_manifest, key, rest, rows,
    tables, try_flush, value,
};
use sluice_env::{Failure, Op, Rule};
use sluicedb::{
    ColumnFamily, Db, DrainState, DrainStatus, ErrorKind, Event, EventOptions, KeySchema, Options,
    Result, SchemaId, Topic,
};

fn schema(version: u32) -> KeySchema {
    KeySchema::parse("rows", version, "word fixed 3, rest").unwrap()
}

/// Options under which nothing is compacted by its size.
fn wide(disk: &Disk) -> Options {
    Options { level_base_bytes: 1 << 30, ..disk.stepped() }
}

fn put(db: &Db, from: u64, to: u64, version: u64) {
    for n in from..to {
        db.put(&db.default_cf(), &key(n), &value(n, version)).unwrap();
    }
}

fn expected(from: u64, to: u64, version: u64) -> Rows {
    (from..to).map(|n| (key(n), value(n, version))).collect()
}

fn under(db: &Db, id: &SchemaId) -> usize {
    db.schema_tables(&id.name).iter().filter(|table| table.id == *id).count()
}

fn state(db: &Db, cf: &ColumnFamily, id: &SchemaId) -> Option<DrainStatus> {
    db.drains().into_iter().find(|status| status.cf == cf.name() && status.id == *id)
}

#[test]
fn a_drain_waits_for_a_flush_that_was_built_before_the_schema_was_replaced() {
    let disk = Disk::new();
    let db = disk.open();
    let (cf, old) = (db.default_cf(), schema(1).id());
    db.set_key_schema(&cf, schema(1)).unwrap();
    put(&db, 0, 10, 1);
    // The tables are written, and the edit that would install them fails.
    let rule = disk.fs.add(Rule::on(Op::SyncData).path(is_manifest).fail(Failure::EIO));
    try_flush(&db).unwrap_err();
    assert_eq!(disk.fs.fired(rule), 1);
    db.set_key_schema(&cf, schema(2)).unwrap();
    let begun = db.drain_schema(&cf, &old).unwrap();
    assert_eq!((begun.state, begun.tables_left), (DrainState::Running, 0));
    // The clock stands still, so the flush is not tried again yet.
    rest(&db);
    assert_eq!(under(&db, &old), 0);
    assert_eq!(state(&db, &cf, &old).unwrap().state, DrainState::Running);
    assert!(!disk.files(".sst").is_empty(), "nothing was built");

    flush(&db);
    assert_eq!(under(&db, &old), 1, "the flush was not installed as it was built");
    rest(&db);
    assert_eq!(state(&db, &cf, &old).unwrap().state, DrainState::Done);
    assert_eq!(under(&db, &old), 0);
    assert_eq!(under(&db, &schema(2).id()), 1);
    assert_rows(&rows(&db, &cf), &expected(0, 10, 1), "drained");
}

#[test]
fn a_drain_waits_for_a_compaction_that_began_before_the_schema_was_replaced() {
    let disk = Disk::new();
    let db = Db::open("/db", disk.threaded()).unwrap();
    let (cf, old) = (db.default_cf(), schema(1).id());
    for version in 1..4 {
        put(&db, 0, 20, version);
        db.flush(Default::default()).unwrap().wait(Some(NEVER)).unwrap();
    }
    db.set_key_schema(&cf, schema(1)).unwrap();
    let held = disk.hold(tables());
    std::thread::scope(|scope| {
        let held = held;
        let compacting = scope.spawn(|| db.compact(&cf, None, None));
        held.wait_until_reached();
        db.set_key_schema(&cf, schema(2)).unwrap();
        db.drain_schema(&cf, &old).unwrap();
        // Whatever it does meanwhile, it must not end: looks at it are made by its thread.
        for _ in 0..50 {
            assert_eq!(state(&db, &cf, &old).unwrap().state, DrainState::Running);
            std::thread::yield_now();
        }
        let events =
            db.subscribe(EventOptions { topics: vec![Topic::Compaction], ..Default::default() });
        held.open();
        compacting.join().unwrap().unwrap();
        let ended = loop {
            if let Event::DrainEnd { status } = events.recv(Some(NEVER)).unwrap().event {
                break status;
            }
        };
        assert_eq!((ended.state, ended.id), (DrainState::Done, old.clone()));
    });
    assert_eq!(under(&db, &old), 0);
    assert_rows(&rows(&db, &cf), &expected(0, 20, 3), "drained");
    db.close(false).unwrap();
}

#[test]
fn a_drain_tells_how_far_it_is_and_is_steered() {
    let disk = Disk::new();
    let db = Db::open("/db", wide(&disk)).unwrap();
    let (cf, old) = (db.default_cf(), schema(1).id());
    let options = EventOptions { topics: vec![Topic::Compaction], ..Default::default() };
    let events = db.subscribe(options);
    db.set_key_schema(&cf, schema(1)).unwrap();
    let refused = db.drain_schema(&cf, &old).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let text = "keys from \"\" on of column family 'default' are written under key schema rows v1";
    assert!(refused.to_string().contains(text), "{refused}");
    for part in 0..4 {
        put(&db, part * 10, part * 10 + 10, 1);
        flush(&db);
    }
    db.set_key_schema(&cf, schema(2)).unwrap();
    let begun = db.drain_schema(&cf, &old).unwrap();
    assert_eq!((begun.tables_left, begun.tables_done, begun.bytes_done), (4, 0, 0));
    assert!(db.step());
    let paused = db.pause_drain(&cf, &old).unwrap();
    assert_eq!((paused.state, paused.tables_left, paused.tables_done), (DrainState::Paused, 3, 1));
    assert_eq!(paused.bytes_left + paused.bytes_done, begun.bytes_left);
    rest(&db);
    assert_eq!(under(&db, &old), 3, "a paused drain goes on");
    assert_eq!(db.drain_schema(&cf, &old).unwrap().state, DrainState::Paused, "found, not begun");
    let refused = db.set_key_schema_in(&cf, b"x", None, schema(1)).unwrap_err();
    assert!(refused.to_string().contains("cancel the drain"), "{refused}");

    drop(db);
    let db = Db::open("/db", wide(&disk)).unwrap();
    let cf = db.default_cf();
    assert_eq!(state(&db, &cf, &old).unwrap(), paused, "after a restart");
    assert_eq!(db.resume_drain(&cf, &old).unwrap().state, DrainState::Running);
    drop(db);
    let db = Db::open("/db", wide(&disk)).unwrap();
    let cf = db.default_cf();
    let more = db.subscribe(EventOptions { topics: vec![Topic::Compaction], ..Default::default() });
    rest(&db);
    let done = state(&db, &cf, &old).unwrap();
    assert_eq!((done.state, done.tables_left, done.bytes_left), (DrainState::Done, 0, 0));
    assert_eq!((done.tables_done, done.bytes_done), (4, begun.bytes_left));
    assert_eq!(db.pause_drain(&cf, &old).unwrap(), done, "what has ended stays so");
    assert_eq!(db.cancel_drain(&cf, &old).unwrap(), done);
    assert_eq!(db.drains(), []);
    let unknown = db.cancel_drain(&cf, &old).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");

    let names = |events: sluicedb::Events| -> Vec<String> {
        let drains = |name: &&'static str| name.starts_with("drain");
        let names = std::iter::from_fn(|| events.try_recv());
        names.map(|record| record.event.name()).filter(drains).map(str::to_owned).collect()
    };
    assert_eq!(names(events), ["drain-begin", "drain-progress"]);
    assert_eq!(
        names(more),
        ["drain-progress"; 3].into_iter().chain(["drain-end"]).collect::<Vec<_>>()
    );
    assert_rows(&rows(&db, &cf), &expected(0, 40, 1), "drained");
}

#[test]
fn a_drain_ends_although_compactions_are_always_due() {
    let disk = Disk::new();
    let options = Options { l0_compaction_trigger: 1, ..disk.stepped() };
    let db = Db::open("/db", options).unwrap();
    let (cf, old) = (db.default_cf(), schema(1).id());
    db.set_key_schema(&cf, schema(1)).unwrap();
    put(&db, 500, 700, 1);
    flush(&db);
    rest(&db);
    let tables = under(&db, &old);
    assert!(tables > 4, "{tables} tables");
    db.set_key_schema(&cf, schema(2)).unwrap();
    db.drain_schema(&cf, &old).unwrap();
    for round in 0.. {
        assert!(round < 200, "{:?}", state(&db, &cf, &old));
        // One flush and one more step: the flushed table is always there to be compacted.
        put(&db, 0, 5, round);
        flush(&db);
        db.step();
        if state(&db, &cf, &old).unwrap().state == DrainState::Done {
            break;
        }
    }
    assert_eq!(under(&db, &old), 0);
}

#[test]
fn a_flush_of_many_ranges_is_as_deep_as_one() {
    let disk = Disk::new();
    let options = Options { l0_compaction_trigger: 3, ..wide(&disk) };
    let db = Db::open("/db", options).unwrap();
    let cf = db.default_cf();
    for range in 0..8 {
        db.set_key_schema_in(&cf, &key(range * 2), None, schema(range as u32)).unwrap();
    }
    let in_level0 =
        |db: &Db| (db.stats().cfs[0].level_files[0], db.stats().cfs[0].read_amplification);
    put(&db, 0, 16, 1);
    flush(&db);
    rest(&db);
    assert_eq!(in_level0(&db), (8, 1), "compacted for nothing");
    put(&db, 0, 16, 2);
    flush(&db);
    rest(&db);
    assert_eq!(in_level0(&db), (16, 2));
    put(&db, 0, 16, 3);
    flush(&db);
    rest(&db);
    let (tables, depth) = in_level0(&db);
    assert!(tables < 24 && depth <= 3, "nothing was compacted: {tables} tables");
    assert_rows(&rows(&db, &cf), &expected(0, 16, 3), "compacted");
}

/// Rows under version 1, partly compacted, with the family's keys about to go to three ranges.
fn before() -> (Disk, Rows) {
    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    db.set_key_schema(&cf, schema(1)).unwrap();
    put(&db, 0, 30, 1);
    flush(&db);
    db.compact(&cf, None, None).unwrap();
    put(&db, 10, 20, 1);
    flush(&db);
    (disk, expected(0, 30, 1))
}

fn replace(db: &Db) -> Result<()> {
    let cf = db.default_cf();
    db.set_key_schema_in(&cf, &key(10), Some(&key(20)), schema(2))?;
    db.set_key_schema_in(&cf, b"", Some(&key(10)), schema(3))?;
    db.set_key_schema_in(&cf, &key(20), None, KeySchema::whole_key())?;
    db.drain_schema(&cf, &schema(1).id())?;
    Ok(())
}

/// What must be so once the work is done, however often it was begun.
fn check_replaced(db: &Db, rows_expected: &Rows, label: &str) {
    let cf = db.default_cf();
    let old = schema(1).id();
    assert_rows(&rows(db, &cf), rows_expected, label);
    assert_eq!(under(db, &old), 0, "{label}");
    assert!(db.schema_usage().iter().all(|usage| usage.id != old), "{label}");
    let names: Vec<String> =
        db.key_schemas(&cf).iter().map(|range| range.schema.id().to_string()).collect();
    let expected = [schema(3), schema(2), KeySchema::whole_key()].map(|s| s.id().to_string());
    assert_eq!(names, expected, "{label}");
    for table in db.schema_tables("rows") {
        let version = table.id.version;
        let (low, high) = if version == 2 { (10, 20) } else { (0, 10) };
        assert!(key(low) <= table.smallest && table.largest < key(high), "{label}: {table:?}");
    }
}

#[test]
fn p10_ranges_and_drains_survive_a_crash_at_every_call() {
    dies_at_every_call(
        "ranges and a drain",
        before,
        |disk, _| {
            let db = Db::open("/db", disk.stepped())?;
            replace(&db)?;
            for _ in 0..200 {
                if !db.step() {
                    break;
                }
            }
            Ok(())
        },
        |expected, db, label| {
            let cf = db.default_cf();
            assert_rows(&rows(db, &cf), expected, label);
            rest(db);
            // Whatever came of it, it can be done again; the drain may be over, or not begun.
            match replace(db) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{label}: {error}"),
            }
            rest(db);
            check_replaced(db, expected, label);
        },
    );
}

#[test]
fn p09_ranges_and_drains_survive_any_failing_call() {
    for failure in [Failure::EIO, Failure::ENOSPC] {
        for n in 1.. {
            let label = format!("call {n} fails with {failure:?}");
            assert!(n < 1000, "no run without a failure");
            let (disk, expected) = before();
            let db = disk.open();
            disk.fs.fail_nth(n, failure);
            let first = replace(&db);
            rest(&db);
            assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
            let failed = disk.fs.calls_seen() >= n;
            disk.fs.clear();
            // Once the cause is gone all of it succeeds. What was set aside waits for the clock.
            if let Err(error) = first {
                assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull), "{error}");
                replace(&db).unwrap_or_else(|error| panic!("{label}: {error}"));
            }
            disk.clock.advance_ms(120_000);
            rest(&db);
            let done = state(&db, &db.default_cf(), &schema(1).id()).unwrap();
            assert_eq!(done.state, DrainState::Done, "{label}: {done:?}");
            check_replaced(&db, &expected, &label);
            drop(db);
            check_replaced(&disk.open(), &expected, &label);
            if !failed {
                println!("{failure:?}: {} calls", n - 1);
                assert!(n > 10, "{} failing calls", n - 1);
                break;
            }
        }
    }
}
