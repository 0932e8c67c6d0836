//! The second list of defects found by reading other engines, part three: threads, waits, and what an
//! opening takes from the directory. Each test is named after its defect (V2-n) and fails for an
//! engine that has it.
//!
//! A comment "an engine that …" states the defect; what follows is what ours must show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, NEVER, Rows, assert_rows, at, endless, flush, key, patient, put, rest, rows, seal,
    tables, value,
};
use sluice_env::Rng;
use sluicedb::{
    Ack, CfOptions, Compression, Db, ErrorKind, FlushRequest, Options, ReadOptions, WriteBatch,
    WriteOptions,
};
use std::sync::{
    atomic::{AtomicU64, Ordering::SeqCst},
    mpsc,
};

/// An engine whose flusher ends at a signal waits for it for ever when it closes, and panics at a
/// writer or a second close meanwhile. Ours: closed under load, by two at once, every call returns,
/// writers hear `Closed` (those that wait without a deadline too), and what was acknowledged is there.
#[test]
fn v2_07_a_close_under_load_ends_and_so_does_everyone_else() {
    for flush in [false, true] {
        let disk = Disk::new();
        let options = Options { memtable_count: 2, ..disk.threaded() };
        let db = Db::open("/db", options).unwrap();
        let cf = db.default_cf();
        let done: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let (sender, ended) = mpsc::channel();
        std::thread::scope(|scope| {
            for (writer, done) in done.iter().enumerate() {
                let (db, cf, sender) = (&db, &cf, sender.clone());
                scope.spawn(move || {
                    let error = (1u64..).find_map(|version| {
                        let key = format!("writer {writer}");
                        let value = value(writer as u64, version % 1000).repeat(3);
                        let mut batch = WriteBatch::new();
                        batch.put(cf, key.as_bytes(), &version.to_be_bytes());
                        batch.put(cf, format!("{key} bulk").as_bytes(), &value);
                        let outcome = db.write(&batch, &endless(Ack::Os));
                        if outcome.is_ok() {
                            done.store(version, SeqCst);
                        }
                        outcome.err()
                    });
                    sender.send(error.map(|error| error.kind())).unwrap();
                });
            }
            let has_begun = |done: &AtomicU64| done.load(SeqCst) > 0;
            while db.stats().flushes < 5 || !done.iter().all(has_begun) {
                std::thread::yield_now();
            }
            for _ in 0..2 {
                let (db, sender) = (&db, sender.clone());
                scope.spawn(move || {
                    db.close(flush).unwrap();
                    sender.send(None).unwrap();
                });
            }
            let mut ends: Vec<_> = (0..6)
                .map(|_| ended.recv_timeout(NEVER).expect("somebody waits for ever"))
                .collect();
            ends.retain(Option::is_some);
            assert_eq!(ends, [Some(ErrorKind::Closed); 4]);
        });
        db.close(flush).unwrap();
        let db = disk.open();
        for (writer, done) in done.iter().enumerate() {
            let found = db.get(&db.default_cf(), format!("writer {writer}").as_bytes()).unwrap();
            let found = u64::from_be_bytes(found.unwrap().try_into().unwrap());
            assert_eq!(found, done.load(SeqCst), "writer {writer}, close({flush})");
        }
    }
}

/// An engine whose compaction holds the flusher's lock cannot flush for as long as it runs, and
/// writers time out. Ours: with a compaction held in the middle of its first output, flushes end,
/// writers get room many times over, and the compaction goes on unharmed.
#[test]
fn v2_09_flushes_and_writes_go_on_beside_a_compaction() {
    let disk = Disk::new();
    let db = Db::open("/db", Options { memtable_count: 2, ..disk.threaded() }).unwrap();
    let cf = db.default_cf();
    let mut expected = Rows::new();
    let mut write = |n: u64, version: u64| {
        put(&db, &cf, &key(n), &value(n, version), &patient(Ack::Os)).unwrap();
        expected.insert(key(n), value(n, version));
    };
    for version in 1..3 {
        (0..10).for_each(|n| write(n, version));
        seal(&db).wait(Some(NEVER)).unwrap();
    }
    let gate = disk.hold(tables());
    std::thread::scope(|scope| {
        let gate = gate;
        let compaction = scope.spawn(|| db.compact(&cf, None, None));
        gate.wait_until_reached();
        let flushes = db.stats().flushes;
        write(100, 1);
        seal(&db).wait(Some(NEVER)).expect("the flush waits for the compaction");
        // Ten memtables' worth, and only two may stand at a time.
        (0..200).for_each(|n| write(n % 20, 3 + n));
        seal(&db).wait(Some(NEVER)).unwrap();
        assert!(db.stats().flushes > flushes + 5, "{:?}", db.stats());
        assert!(!compaction.is_finished());
        gate.open();
        compaction.join().unwrap().unwrap();
    });
    assert_rows(&rows(&db, &cf), &expected, "afterwards");
    let again = disk.kill().open();
    assert_rows(&rows(&again, &again.default_cf()), &expected, "recovered");
}

/// An engine whose batch holds the database's lock from its making to its commit, and whose iterator
/// does until it is closed, is stopped by one that somebody forgot. Ours: forgotten iterators, views,
/// snapshots, batches and tickets stop neither writes nor flushes, compactions, drops or the close,
/// and the next opening starts clean.
#[test]
fn v2_14_what_somebody_forgot_stops_nobody() {
    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    let extra = db.create_column_family("extra", CfOptions::default()).unwrap();
    let mut expected = Rows::new();
    for version in 1..30 {
        for n in 0..10 {
            put(&db, &cf, &key(n), &value(n, version), &patient(Ack::Os)).unwrap();
            expected.insert(key(n), value(n, version));
        }
        let mut batch = WriteBatch::new();
        batch.put(&cf, &key(3), b"never written");
        batch.put(&extra, &key(3), b"never written");
        let mut iter = db.iter(&cf, ReadOptions::default()).unwrap();
        assert!(iter.seek(&key(5)).unwrap());
        std::mem::forget((batch, iter, db.view(), db.snapshot(), seal(&db)));
        if version % 7 == 0 {
            flush(&db);
            db.compact(&cf, None, None).unwrap();
            rest(&db);
        }
    }
    assert_rows(&rows(&db, &cf), &expected, "with forgotten readers");
    db.drop_column_family(&extra).unwrap();
    db.close(true).unwrap();
    // Forgotten clones of the database do not matter either: it is closed.
    std::mem::forget(db.clone());
    let again = disk.open();
    assert_rows(&rows(&again, &again.default_cf()), &expected, "reopened");
    rest(&again);
    let stats = again.stats();
    assert_eq!(disk.files(".sst").len() as u64, stats.table_files, "files that nobody needs");
    assert_eq!(stats.snapshots, 0);
}

/// An engine that does not record how it spreads its keys hides data when it is opened with other
/// options. Ours has no partitions; column families take their place: their names, their rows and
/// their own options are in the manifest, and no option of an opening hides anything.
#[test]
fn v2_15_other_options_at_the_next_opening_hide_nothing() {
    let disk = Disk::new();
    let db = disk.open();
    let own = CfOptions { memtable_bytes: Some(16 << 10), ..CfOptions::default() };
    let one = db.create_column_family("one", own).unwrap();
    let two = db.create_column_family("two", CfOptions::default()).unwrap();
    let ids: Vec<_> = db.list_column_families().iter().map(|cf| cf.id()).collect();
    let mut expected = vec![Rows::new(); 3];
    let mut rng = Rng::new(15);
    for n in 0..150 {
        for (index, cf) in [db.default_cf(), one.clone(), two.clone()].iter().enumerate() {
            let n = n * 3 % 100 + index as u64;
            let value = value(n, rng.below(900));
            put(&db, cf, &key(n), &value, &patient(Ack::Os)).unwrap();
            expected[index].insert(key(n), value);
        }
        if n % 40 == 0 {
            db.step();
        }
    }
    db.compact(&one, None, None).unwrap();
    db.close(false).unwrap();
    type Change = fn(&mut Options);
    let changes: [(&str, Change); 12] = [
        ("memtable_bytes", |o| o.memtable_bytes = 64 << 10),
        ("memtable_count", |o| o.memtable_count = 2),
        ("memory_budget", |o| o.memory_budget = 64 << 10),
        ("wal_segment_bytes", |o| o.wal_segment_bytes = 16 << 10),
        ("wal_max_bytes", |o| o.wal_max_bytes = o.wal_segment_bytes),
        ("block_bytes", |o| o.block_bytes = 4096),
        ("filter_bits_per_key", |o| o.filter_bits_per_key = 0),
        ("compression_upper", |o| o.compression_upper = Compression::Lz4),
        ("compression_lower", |o| o.compression_lower = Compression::None),
        ("table_bytes", |o| o.table_bytes = 64 << 10),
        ("level_base_bytes", |o| o.level_base_bytes = 1 << 20),
        ("l0_compaction_trigger", |o| o.l0_compaction_trigger = 1),
    ];
    let check = |db: &Db, label: &str| {
        let families = db.list_column_families();
        let names: Vec<_> = families.iter().map(|cf| cf.name().to_owned()).collect();
        assert_eq!(names, ["default", "one", "two"], "{label}");
        assert_eq!(families.iter().map(|cf| cf.id()).collect::<Vec<_>>(), ids, "{label}");
        for (cf, expected) in families.iter().zip(&expected) {
            assert_rows(&rows(db, cf), expected, &format!("{label}, family {}", cf.name()));
        }
    };
    for (name, change) in changes {
        let mut options = disk.stepped();
        change(&mut options);
        let db = Db::open("/db", options).unwrap();
        check(&db, name);
        // New tables of the new kind beside the old ones.
        for cf in db.list_column_families() {
            put(&db, &cf, b"extra", b"", &patient(Ack::Os)).unwrap();
        }
        flush(&db);
        rest(&db);
        for cf in db.list_column_families() {
            db.delete(&cf, b"extra").unwrap();
        }
        check(&db, &format!("{name}, rewritten"));
        db.close(name.len() % 2 == 0).unwrap();
    }
    // The family that chose a size for itself still has it.
    let db = disk.open();
    let sealed = |name: &str| {
        let cf = db.column_family(name).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(&cf, b"filler", &[0; 3000]);
        for _ in 0..3 {
            db.write(&batch, &WriteOptions::default()).unwrap();
        }
        db.stats().cfs.iter().find(|cf| cf.name == name).unwrap().sealed_memtables
    };
    assert_eq!((sealed("one"), sealed("two")), (0, 2));
}

/// An engine that finds its log files by a prefix of their names takes `.10` for `.1`, and deletes or
/// replays what is not its own; one whose opening fails keeps the lock. Ours: names that merely look
/// like ours are neither read nor deleted by openings, flushes and compactions, and an opening that
/// was refused leaves the directory free.
#[test]
fn v2_16_files_with_similar_names_are_left_alone() {
    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    let mut expected = Rows::new();
    for n in 0..60 {
        put(&db, &cf, &key(n), &value(n, 1), &patient(Ack::Disk)).unwrap();
        expected.insert(key(n), value(n, 1));
    }
    flush(&db);
    drop(db);
    // For every file of ours, names that begin or end as its does, with its very bytes.
    let ours = disk.mem.list();
    let mut foreign = Vec::new();
    for (path, _) in &ours {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = disk.mem.read(path).unwrap();
        let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
        let longer =
            if ending.is_empty() { format!("{name}.0") } else { format!("{stem}.0.{ending}") };
        for name in [
            format!("{name}.bak"),
            format!("{name}0"),
            format!("0{name}"),
            format!("x{name}"),
            format!("{name}~"),
            longer,
        ] {
            let path = path.with_file_name(name);
            disk.mem.write(&path, &bytes).unwrap();
            foreign.push((path, bytes.clone()));
        }
    }
    for name in
        ["1.wal", "1.sst", "MANIFEST", "MANIFEST-1", "000001", "CURRENT.old", ".wal", ".sst"]
    {
        let path = std::path::Path::new("/db").join(name);
        disk.mem.write(&path, b"not ours").unwrap();
        foreign.push((path, b"not ours".to_vec()));
    }
    disk.mem.sync_all();
    let check = |label: &str| {
        for (path, bytes) in &foreign {
            let found = disk.mem.read(path);
            let found =
                found.unwrap_or_else(|e| panic!("{label}: {} is gone: {e}", path.display()));
            assert_eq!(found.len(), bytes.len(), "{label}: {} was changed", path.display());
            assert!(found == *bytes, "{label}: {} was changed", path.display());
        }
    };
    // A refused opening first: it must not hold the directory.
    let nonsense = Options { block_bytes: 0, ..disk.stepped() };
    assert_eq!(Db::open("/db", nonsense).unwrap_err().kind(), ErrorKind::Invalid);
    for round in 2..5 {
        let db = disk.open();
        let cf = db.default_cf();
        assert_rows(&rows(&db, &cf), &expected, "opened beside them");
        check("opened");
        for n in 0..60 {
            put(&db, &cf, &key(n), &value(n, round), &at(Ack::Disk)).unwrap_or_else(|_| {
                flush(&db);
                put(&db, &cf, &key(n), &value(n, round), &at(Ack::Disk)).unwrap()
            });
            expected.insert(key(n), value(n, round));
        }
        db.flush(FlushRequest { allow_stall: true, ..FlushRequest::default() }).unwrap();
        rest(&db);
        db.compact(&cf, None, None).unwrap();
        rest(&db);
        check("flushed and compacted");
        assert_rows(&rows(&db, &cf), &expected, "compacted beside them");
        db.close(round % 2 == 0).unwrap();
        check("closed");
    }
}
