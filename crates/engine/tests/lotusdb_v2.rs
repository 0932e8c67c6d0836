//! The second list of defects found by reading other engines, part one: what is on disk and what
//! comes back. Each test is named after its defect (V2-n) and fails for an engine that has it. The
//! defects of threads, waits and openings are in `lotusdb_v2_threads.rs`.
//!
//! A comment "an engine that …" states the defect; what follows is what ours must show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, Rows, assert_rows, at, dies_at_every_call, flush, is_manifest, key, now, patient, put,
    rest, rows, seal, tables, try_flush, unlogged, value,
};
use sluice_env::{Failure, Op, Rng, Rule};
use sluicedb::{Ack, Db, Error, ErrorKind, Options, Result, WriteBatch};

/// Whether any log file on the disk holds these bytes.
fn is_logged(disk: &Disk, needle: &[u8]) -> bool {
    let is_log = |path: &std::path::Path| path.to_string_lossy().contains(".wal");
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
    let is_log = |path: &std::path::Path| path.extension().is_some_and(|e| e == "wal");
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

/// A database with two layers of rows and tombstones in tables, nothing compacted yet.
fn layered(disk: &Disk) -> (Db, Rows) {
    let db = disk.open();
    let cf = db.default_cf();
    let mut expected = Rows::new();
    for round in 1..4 {
        for n in (0..36).step_by(round) {
            put(&db, &cf, &key(n), &value(n, round as u64), &now()).unwrap();
            expected.insert(key(n), value(n, round as u64));
        }
        for n in (round as u64..36).step_by(7) {
            db.delete(&cf, &key(n)).unwrap();
            expected.remove(&key(n));
        }
        flush(&db);
    }
    (db, expected)
}

/// An engine that points its index at a rewritten file before that file is in place loses data to a
/// mere kill in the middle, and reads the wrong file meanwhile. Ours: killed, or without power, at
/// any call of a compaction, the same rows come back; and while it is held at any call, reads and
/// scans give the right values.
#[test]
fn v2_03_a_rewrite_can_be_killed_and_read_beside_at_every_call() {
    let setup = || {
        let disk = Disk::new();
        let state = layered(&disk);
        (disk, state)
    };
    let act = |_: &Disk, (db, _): &mut (Db, Rows)| {
        db.compact(&db.default_cf(), None, None)?;
        rest(db);
        Ok(())
    };
    dies_at_every_call("compaction", setup, act, |(_, expected), db, label| {
        assert_rows(&rows(db, &db.default_cf()), expected, label);
    });
    // Held at every call, reading ones too.
    let mut held = 0;
    for nth in 1.. {
        let disk = Disk::new();
        let (db, expected) = layered(&disk);
        db.clear_block_cache();
        let gate = disk.hold(Rule::on_any().nth(nth));
        let reached = std::thread::scope(|scope| {
            let gate = gate;
            let compaction = scope.spawn(|| db.compact(&db.default_cf(), None, None));
            while gate.reached() == 0 && !compaction.is_finished() {
                std::thread::yield_now();
            }
            let reached = gate.reached() > 0;
            if !reached {
                gate.open(); // or the reads below would come to it
            }
            assert_rows(&rows(&db, &db.default_cf()), &expected, &format!("held at {nth}"));
            gate.open();
            compaction.join().unwrap().unwrap();
            reached
        });
        assert_rows(&rows(&db, &db.default_cf()), &expected, &format!("behind {nth}"));
        held += u32::from(reached);
        if !reached {
            break;
        }
    }
    assert!(held > 10, "{held} calls");
}

/// An engine whose index answers a write of a new key with its neighbour's entry counts the
/// neighbour as dead, and drops it at the next rewrite; ascending inserts hide that. Ours: whatever
/// the order of inserts, overwrites and deletes, and however close the keys, compactions keep
/// exactly the live rows.
#[test]
fn v2_04_live_neighbours_survive_every_rewrite() {
    // Neighbours in every sense: prefixes of each other, one byte apart, with zeros behind.
    let names: Vec<Vec<u8>> = (0..12u8)
        .flat_map(|n| [vec![b'k', n], vec![b'k', n, 0], vec![b'k', n, 0, 0], vec![b'k', n, 0xff]])
        .collect();
    let mut compactions = 0;
    for seed in 1..40u64 {
        let label = format!("seed {seed}");
        let mut rng = Rng::new(seed);
        let disk = Disk::new();
        let db = Db::open("/db", Options { l0_compaction_trigger: 2, ..disk.stepped() }).unwrap();
        let cf = db.default_cf();
        let mut expected = Rows::new();
        let mut order: Vec<_> = (0..names.len()).collect();
        for round in 0..4 {
            match seed % 3 {
                0 => order.reverse(),
                1 => order.sort_by_cached_key(|_| rng.next_u64()),
                _ => {}
            }
            for &index in &order {
                if rng.one_in(3) {
                    continue;
                }
                let name = &names[index];
                if rng.one_in(4) {
                    db.delete(&cf, name).unwrap();
                    expected.remove(name);
                } else {
                    let value = format!("{index} {round} {}", "x".repeat(rng.below(80) as usize));
                    put(&db, &cf, name, value.as_bytes(), &now()).unwrap();
                    expected.insert(name.clone(), value.into_bytes());
                }
                if rng.one_in(12) {
                    flush(&db);
                }
                if rng.one_in(12) {
                    rest(&db);
                    assert_rows(&rows(&db, &cf), &expected, &label);
                }
            }
            db.compact(&cf, None, None).unwrap();
            assert_rows(&rows(&db, &cf), &expected, &label);
        }
        compactions += db.stats().compactions;
        let again = disk.kill().open();
        assert_rows(&rows(&again, &again.default_cf()), &expected, &label);
    }
    assert!(compactions > 200, "{compactions} compactions");
}

/// An engine that loses a record's identity in a rewrite cannot mark it dead later, and so brings
/// deleted keys back; a failed flush leaves such records as well. Ours: rows that were compacted
/// before they were deleted stay deleted through every further compaction, crash and failed flush.
#[test]
fn v2_05_deleted_keys_stay_deleted_through_every_rewrite() {
    let setup = || {
        let disk = Disk::new();
        let (db, mut expected) = layered(&disk);
        let cf = db.default_cf();
        db.compact(&cf, None, None).unwrap();
        // A failed flush of rows that are deleted later leaves nothing that counts.
        put(&db, &cf, b"orphan", b"of a failed flush", &at(Ack::Disk)).unwrap();
        let rule = disk.fs.add(Rule::on(Op::SyncData).path_ends_with(".sst").fail(Failure::EIO));
        try_flush(&db).unwrap_err();
        disk.fs.remove(rule);
        for n in 0..18 {
            db.delete(&cf, &key(n)).unwrap();
            expected.remove(&key(n));
        }
        let mut batch = WriteBatch::new();
        batch.delete(&cf, b"orphan");
        db.write(&batch, &at(Ack::Disk)).unwrap();
        (disk, (db, expected))
    };
    let act = |_: &Disk, (db, _): &mut (Db, Rows)| {
        try_flush(db)?;
        let cf = db.default_cf();
        // Parts first: a tombstone must not go before what it hides.
        db.compact(&cf, None, Some(&key(9)))?;
        db.compact(&cf, Some(&key(5)), Some(&key(25)))?;
        db.compact(&cf, None, None)?;
        rest(db);
        Ok(())
    };
    dies_at_every_call("deleted", setup, act, |(_, expected), db, label| {
        let cf = db.default_cf();
        assert_rows(&rows(db, &cf), expected, label);
        flush(db);
        db.compact(&cf, None, Some(&key(12))).unwrap();
        assert_rows(&rows(db, &cf), expected, &format!("{label}, compacted in part"));
        db.compact(&cf, None, None).unwrap();
        assert_rows(&rows(db, &cf), expected, &format!("{label}, compacted"));
    });
}

/// An engine that creates a file empty at its first opening and fills it only when it closes cannot
/// be opened again after a crash in its first session. Ours: whatever call of the first session the
/// crash comes at, the next opening works, with everything that was acknowledged.
#[test]
fn v2_06_a_crash_in_the_first_session_leaves_something_that_opens() {
    struct First {
        db: Option<Db>,
        safe: u64,
    }
    let setup = || (Disk::new(), First { db: None, safe: 0 });
    let act = |disk: &Disk, first: &mut First| {
        let db = Db::open("/db", disk.stepped())?;
        first.db = Some(db.clone());
        for n in 0..6 {
            put(&db, &db.default_cf(), &key(n), &value(n, 1), &at(Ack::Disk))?;
            first.safe = n + 1;
            if n == 3 {
                try_flush(&db)?;
            }
        }
        db.close(true)
    };
    dies_at_every_call("first session", setup, act, |first, db, label| {
        let cf = db.default_cf();
        let found = rows(db, &cf);
        assert!((first.safe..=first.safe + 1).contains(&(found.len() as u64)), "{label}");
        let expected = (0..found.len() as u64).map(|n| (key(n), value(n, 1))).collect();
        assert_rows(&found, &expected, label);
        put(db, &cf, b"second session", b"", &at(Ack::Disk)).unwrap();
        db.close(true).unwrap_or_else(|error| panic!("{label}: {error}"));
    });
}

/// An engine that only logs a failed flush, and takes the wrong table off its list at the next
/// success, hides data until a restart and lets old values win after it. Ours: of three memtables
/// the first fails; the others do not overtake it, nothing is hidden at any moment, and after every
/// crash the newest value wins.
#[test]
fn v2_08_a_failed_flush_keeps_its_memtable_and_its_place() {
    for (is_built, failure) in [
        (false, tables()),
        (false, Rule::on(Op::SyncData).path_ends_with(".sst")),
        (true, Rule::on(Op::SyncData).path(is_manifest)),
        (true, Rule::on(Op::Write).path(is_manifest)),
    ] {
        let disk = Disk::new();
        let db = disk.open();
        let cf = db.default_cf();
        let label = format!("{failure:?}");
        let check = |expected: &Rows, moment: &str| {
            let label = format!("{label}, {moment}");
            assert_rows(&rows(&db, &cf), expected, &label);
            for (how, left) in disk.crashes(7) {
                let db = left.open();
                assert_rows(&rows(&db, &db.default_cf()), expected, &format!("{label}, {how}"));
            }
        };
        let mut expected = Rows::new();
        let mut tickets = Vec::new();
        for version in 1..4 {
            for n in 0..version + 1 {
                put(&db, &cf, &key(n), &value(n, version), &at(Ack::Disk)).unwrap();
                expected.insert(key(n), value(n, version));
            }
            tickets.push(seal(&db));
            check(&expected, "sealed");
        }
        disk.fs.add(failure.fail(Failure::EIO));
        let mut steps = 0;
        while db.step() {
            steps += 1;
            check(&expected, &format!("step {steps}"));
        }
        let failed = tickets.iter().filter(|ticket| matches!(ticket.poll(), Some(Err(_)))).count();
        assert_eq!(failed, 1, "{label}: the failure reaches the one who waits for it");
        if !is_built {
            // The two behind it are built, and wait for its next attempt.
            let stats = db.stats();
            assert_eq!((stats.sealed_memtables, stats.flushes), (3, 0), "{label}: overtaken");
        }
        disk.clock.advance_ms(20_000);
        while db.step() {
            check(&expected, "retried");
        }
        let stats = db.stats();
        assert_eq!((stats.sealed_memtables, stats.flushes), (0, 3), "{label}");
        check(&expected, "done");
        put(&db, &cf, &key(0), b"newest", &at(Ack::Disk)).unwrap();
        expected.insert(key(0), b"newest".to_vec());
        flush(&db);
        check(&expected, "flushed again");
    }
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

/// An engine that switches off its index's syncs lets go of logs and files that only an unsynced
/// index makes superfluous. Ours: while the manifest's sync is held, every log segment and every
/// table that the older manifest needs is still there, and a power cut at that moment loses nothing.
#[test]
fn v2_11_nothing_goes_before_the_index_that_replaces_it_is_synced() {
    type Job = fn(&Db) -> Result<()>;
    let jobs: [(&str, &str, Job); 2] = [
        (".wal", "flush", try_flush),
        (".sst", "compaction", |db| db.compact(&db.default_cf(), None, None)),
    ];
    for (suffix, name, job) in jobs {
        let disk = Disk::new();
        let (db, mut expected) = layered(&disk);
        let cf = db.default_cf();
        for n in 0..40 {
            put(&db, &cf, &key(n), &value(n, 9), &patient(Ack::Disk)).unwrap();
            expected.insert(key(n), value(n, 9));
        }
        let mut needed = disk.files(suffix);
        let gate = disk.hold(Rule::on(Op::SyncData).path(is_manifest));
        std::thread::scope(|scope| {
            let gate = gate;
            let working = scope.spawn(|| job(&db));
            while gate.reached() == 0 {
                assert!(!working.is_finished(), "{name}: no manifest was synced");
                std::thread::yield_now();
            }
            let present = disk.files(suffix);
            let gone: Vec<_> = needed.iter().filter(|file| !present.contains(file)).collect();
            assert!(gone.is_empty(), "{name}: {gone:?} went before the manifest was synced");
            for (how, left) in disk.crashes(5) {
                let db = left.open();
                let label = format!("{name}, {how}");
                assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
            }
            gate.open();
            working.join().unwrap().unwrap();
        });
        rest(&db);
        needed.retain(|file| !disk.files(suffix).contains(file));
        assert!(!needed.is_empty(), "{name}: nothing went at all, so nothing was tested");
        assert_rows(&rows(&db, &cf), &expected, name);
    }
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
        let log = Rule::on(Op::Write).path(|path| path.extension().is_some_and(|e| e == "wal"));
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
