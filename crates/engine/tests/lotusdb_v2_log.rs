//! The second list of defects found by reading other engines, part two: what a write asks of the
//! log, and what its replay makes of it. Each test is named after its defect (V2-n) and fails for an
//! engine that has it.
//!
//! A comment "an engine that …" states the defect; what follows is what ours must show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, Rows, assert_rows, at, flush, is_log, key, now, patient, put, rest, rows, unlogged, value,
};
use sluice_env::{Failure, Op, Rule};
use sluicedb::{Ack, Db, Error, ErrorKind, Options, WriteBatch};

/// Whether any log file on the disk holds these bytes.
fn is_logged(disk: &Disk, needle: &[u8]) -> bool {
    let files = disk.mem.list().into_iter().filter(|(path, _)| is_log(path));
    let mut logs = files.map(|(path, _)| disk.mem.read(&path).unwrap());
    logs.any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}

/// An engine that makes a fresh batch inside a write and forgets the caller's options writes with
/// none of them. Ours: each write has exactly what it asked for, in any order: `Disk` survives a
/// power cut, `Os` a kill, and what is not to be logged is in no log.
#[test]
fn v2_01_each_write_gets_the_durability_it_asked_for() {
    // In three orders, because an option must not stick to the next write either.
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let disk = Disk::new();
        let db = disk.open();
        let cf = db.default_cf();
        for kind in order {
            let (name, options) = match kind {
                0 => ("disk", at(Ack::Disk)),
                1 => ("os", at(Ack::Os)),
                _ => ("unlogged", unlogged()),
            };
            let syncs = db.stats().wal_syncs;
            let mut batch = WriteBatch::new();
            batch.put(&cf, format!("{name} put").as_bytes(), b"v");
            batch.delete(&cf, format!("{name} delete").as_bytes());
            db.write(&batch, &options).unwrap();
            let label = format!("{name} in {order:?}");
            assert_eq!(db.stats().wal_syncs - syncs, u64::from(kind == 0), "{label}: syncs");
            for entry in ["put", "delete"] {
                let needle = format!("{name} {entry}");
                assert_eq!(is_logged(&disk, needle.as_bytes()), kind != 2, "{label}: {entry}");
            }
            // Unlogged writes are behind nothing that survives a crash without a flush.
            let after = |disk: Disk| {
                let db = disk.open();
                db.get(&db.default_cf(), format!("{name} put").as_bytes()).unwrap().is_some()
            };
            assert_eq!(after(disk.cut()), kind == 0, "{label}: power cut");
            assert_eq!(after(disk.kill()), kind < 2, "{label}: kill");
        }
        flush(&db);
        let left = disk.cut().open();
        assert_eq!(rows(&left, &left.default_cf()).len(), 3, "{order:?}: flushed");
    }
    // What cannot be had is refused, not silently weakened.
    let disk = Disk::new();
    let db = disk.open();
    for ack in [Ack::Os, Ack::Disk] {
        let options = sluicedb::WriteOptions { ack, ..unlogged() };
        let error = put(&db, &db.default_cf(), b"k", b"v", &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

/// An engine that trusts a lower layer to sync, which does not, never syncs at all. Ours: a write at
/// `Disk` returns only behind a sync of the log that covers it, also when many share one; and with
/// no such write the background syncs by its interval.
#[test]
fn v2_02_a_write_at_disk_is_synced_when_it_returns() {
    let disk = Disk::new();
    let syncs = disk.fs.add(Rule::on(Op::SyncData).path(is_log).nth(u64::MAX));
    let db = disk.open();
    let cf = db.default_cf();
    for n in 0..40 {
        let before = disk.fs.seen(syncs);
        put(&db, &cf, &key(n), &value(n, 1), &at(Ack::Disk)).unwrap();
        assert!(disk.fs.seen(syncs) > before, "write {n} was not synced");
        let after = disk.cut().open();
        assert_eq!(rows(&after, &after.default_cf()).len() as u64, n + 1);
        db.step();
    }
    // The background's interval: not before, but then.
    put(&db, &cf, &key(40), &value(40, 1), &at(Ack::Os)).unwrap();
    let is_safe = || {
        let after = disk.cut().open();
        after.get(&after.default_cf(), &key(40)).unwrap().is_some()
    };
    rest(&db);
    assert!(!is_safe(), "synced though nobody asked for it");
    disk.clock.advance_ms(1_001);
    rest(&db);
    assert!(is_safe(), "the background did not sync after its interval");
    drop(db);
    // Many at once, each looking at the disk at the moment its own write returns.
    let disk = Disk::new();
    let db = Db::open("/db", disk.threaded()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (db, disk) = (&db, &disk);
            scope.spawn(move || {
                for n in (writer * 15)..(writer * 15 + 15) {
                    put(db, &db.default_cf(), &key(n), b"v", &patient(Ack::Disk)).unwrap();
                    let after = disk.cut().open();
                    let found = after.get(&after.default_cf(), &key(n)).unwrap();
                    assert!(found.is_some(), "write {n} was acknowledged, and is gone");
                }
            });
        }
    });
}

/// An engine whose arena has some slack panics at a batch beyond it, after the log has the batch, and
/// again at every replay. Ours: a batch of any size relative to memtable, segment and budget is
/// written whole and replayed whole, with smaller memtables too; one over a hard limit is refused
/// before the log.
#[test]
fn v2_10_a_batch_larger_than_a_memtable_is_written_and_replayed_whole() {
    for bytes in [3_000, 4_096, 6_200, 20_000, 600_000, 1_200_000] {
        let label = format!("a batch of {bytes} bytes");
        let disk = Disk::new();
        let open = |disk: &Disk| {
            let options = Options { memtable_bytes: 8192, ..disk.stepped() };
            Db::open("/db", options).unwrap()
        };
        let db = open(&disk);
        let cf = db.default_cf();
        let mut expected = Rows::new();
        put(&db, &cf, b"before", b"it", &now()).unwrap();
        expected.insert(b"before".to_vec(), b"it".to_vec());
        let mut batch = WriteBatch::new();
        for n in 0..10 {
            batch.put(&cf, &key(n), &vec![n as u8; bytes / 10]);
            expected.insert(key(n), vec![n as u8; bytes / 10]);
        }
        db.write(&batch, &patient(Ack::Disk)).unwrap();
        put(&db, &cf, b"behind", b"it", &patient(Ack::Disk)).unwrap();
        expected.insert(b"behind".to_vec(), b"it".to_vec());
        assert_rows(&rows(&db, &cf), &expected, &label);
        for (how, left) in disk.crashes(3) {
            let label = format!("{label}, {how}");
            let smallest =
                Options { memtable_bytes: 4096, memory_budget: 64 << 10, ..left.stepped() };
            let db = Db::open("/db", smallest).unwrap();
            assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
            put(&db, &db.default_cf(), b"again", b"", &patient(Ack::Disk)).unwrap();
            flush(&db);
            assert_eq!(rows(&db, &db.default_cf()).len(), expected.len() + 1, "{label}");
        }
        flush(&db);
        assert_rows(&rows(&db, &cf), &expected, &format!("{label}, flushed"));
    }
    let disk = Disk::new();
    let db = disk.open();
    let before = (db.positions(), db.stats().memtable_bytes, disk.mem.list());
    let long = vec![b'k'; sluicedb::limits::KEY_BYTES_MAX + 1];
    let error = put(&db, &db.default_cf(), &long, b"", &at(Ack::Disk)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!((db.positions(), db.stats().memtable_bytes, disk.mem.list()), before);
}

/// An engine that rewinds its offset after a partial write, in a file opened for appending, gets
/// every later position wrong, and cannot open its torn log. Ours: however many bytes of a write
/// stay behind before the device is full, what was acknowledged before and after is there, and the
/// failed batch as a whole or not at all.
#[test]
fn v2_12_a_torn_write_on_a_full_disk_moves_no_later_position() {
    for (torn, nth) in
        [1, 7, 8, 31, 32, 33, 64, 200, 4000].into_iter().flat_map(|t| [(t, 1), (t, 3)])
    {
        let label = format!("write {nth} torn after {torn} bytes");
        let disk = Disk::new();
        let db = disk.open();
        let cf = db.default_cf();
        let write = |n: u64| -> Result<(), Error> {
            let mut batch = WriteBatch::new();
            batch.put(&cf, &key(n), &value(n, 1));
            batch.put(&cf, &key(100 + n), &value(n, 2));
            db.write(&batch, &at(Ack::Disk)).map(drop)
        };
        (0..4).for_each(|n| write(n).unwrap());
        let log = Rule::on(Op::Write).path(is_log);
        let rule = disk.fs.add(log.nth(nth).torn(torn, Failure::ENOSPC));
        let mut acknowledged: Vec<u64> = (0..4).collect();
        let mut failed = Vec::new();
        for n in 4..30 {
            match write(n) {
                Ok(()) => acknowledged.push(n),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::DiskFull, "{label}: {error}");
                    failed.push(n);
                }
            }
            for (how, left) in disk.crashes(n) {
                let label = format!("{label}, behind {n}, {how}");
                let db = Db::open("/db", left.stepped()).unwrap_or_else(|e| panic!("{label}: {e}"));
                let found = rows(&db, &db.default_cf());
                for n in 0..=n {
                    let both = (found.get(&key(n)), found.get(&key(100 + n)));
                    match both {
                        (Some(one), Some(two)) => {
                            assert_eq!((one, two), (&value(n, 1), &value(n, 2)), "{label}");
                        }
                        (None, None) => assert!(!acknowledged.contains(&n), "{label}: {n} lost"),
                        _ => panic!("{label}: half of batch {n}"),
                    }
                }
            }
            disk.clock.advance_ms(1_000);
            rest(&db);
        }
        assert!(disk.fs.fired(rule) == 1 && !failed.is_empty(), "{label}: nothing failed");
        assert!(acknowledged.contains(&29), "{label}: writing did not come back");
        db.close(false).unwrap();
        let db = disk.open();
        let found = rows(&db, &db.default_cf());
        assert!(acknowledged.iter().all(|&n| found[&key(n)] == value(n, 1)), "{label}");
    }
}

/// An engine to which an empty value is the same as none lets it fall through to older tables. Ours,
/// through the log (V1-11 has the levels): an empty value that is replayed over an older one in a
/// table, in a batch, or twice over, is found and empty, and a tombstone over it is neither.
#[test]
fn v2_13_a_replayed_empty_value_hides_what_is_older() {
    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    for name in ["emptied", "deleted", "refilled"] {
        put(&db, &cf, name.as_bytes(), b"old", &now()).unwrap();
    }
    flush(&db);
    db.compact(&cf, None, None).unwrap();
    let mut batch = WriteBatch::new();
    for name in ["emptied", "deleted", "refilled", "new"] {
        batch.put_parts(&cf, name.as_bytes(), &[b"", b""]);
    }
    batch.delete(&cf, b"deleted");
    db.write(&batch, &at(Ack::Disk)).unwrap();
    put(&db, &cf, b"refilled", b"again", &at(Ack::Disk)).unwrap();
    let expected: Rows = [("emptied", ""), ("new", ""), ("refilled", "again")]
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .into();
    let check = |db: &Db, label: &str| {
        let cf = db.default_cf();
        assert_rows(&rows(db, &cf), &expected, label);
        assert_eq!(db.get(&cf, b"emptied").unwrap().as_deref(), Some(&b""[..]), "{label}");
        assert!(db.view().exists(&cf, b"new").unwrap(), "{label}");
        assert_eq!(db.get(&cf, b"deleted").unwrap(), None, "{label}");
        assert!(!db.view().exists(&cf, b"missing").unwrap(), "{label}");
    };
    check(&db, "written");
    for (how, left) in disk.crashes(1) {
        let db = left.open();
        check(&db, &how);
        flush(&db);
        check(&db, &format!("{how}, flushed"));
        db.compact(&db.default_cf(), None, None).unwrap();
        check(&db, &format!("{how}, compacted"));
    }
}
