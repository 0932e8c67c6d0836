//! The first list of defects found by reading other engines, part two: what the log holds, and what
//! its replay makes of it. Each test is named after its defect (V1-n) and fails for an engine that
//! has it.
//!
//! A comment "an engine that …" states the defect; what follows is what ours must show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Disk, Rows, assert_rows, at, flush, is_log, key, now, put, rest, rows, value};
use sluice_env::{Failure, MemFs, Op, Rng, Rule};
use sluicedb::{Ack, CfOptions, Db, ErrorKind, Options, Result, WriteBatch};

/// An engine that makes the oldest log the active one at a reopening lets old values win over new
/// ones, now or at a later flush. Ours replays by sequence number: with four unflushed memtables the
/// newest value of each key wins, before and after further writes, flushes and reopenings, whatever
/// the size of a memtable is by then.
#[test]
fn v1_04_unflushed_memtables_come_back_in_their_order() {
    for memtable_bytes in [4096, 5000, 64 << 10] {
        let label = format!("reopened with memtables of {memtable_bytes} bytes");
        let disk = Disk::new();
        let db = disk.open();
        let cf = db.default_cf();
        let mut expected = Rows::new();
        for version in 1.. {
            // The same keys in every memtable, some of them deleted in between.
            let n = version % 7;
            let mut batch = WriteBatch::new();
            match version % 5 {
                0 => {
                    batch.delete(&cf, &key(n));
                    expected.remove(&key(n));
                }
                _ => {
                    batch.put(&cf, &key(n), &value(n, version));
                    expected.insert(key(n), value(n, version));
                }
            }
            db.write(&batch, &now()).unwrap();
            if db.stats().sealed_memtables == 4 {
                break;
            }
        }
        let disk = disk.kill();
        let open =
            |disk: &Disk| Db::open("/db", Options { memtable_bytes, ..disk.stepped() }).unwrap();
        let db = open(&disk);
        assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
        put(&db, &db.default_cf(), &key(3), b"newest", &at(Ack::Disk)).unwrap();
        expected.insert(key(3), b"newest".to_vec());
        assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
        // With some of the memtables in tables and others not.
        db.step();
        assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
        let half = disk.kill();
        let again = open(&half);
        assert_rows(&rows(&again, &again.default_cf()), &expected, &label);
        flush(&db);
        assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
        db.close(false).unwrap();
        let db = open(&disk);
        assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
        db.compact(&db.default_cf(), None, None).unwrap();
        assert_rows(&rows(&db, &db.default_cf()), &expected, &label);
    }
}

/// A log of twelve batches, batch n putting key n.
fn log_of_twelve() -> (MemFs, std::path::PathBuf, Vec<u8>) {
    let disk = Disk::new();
    let db = disk.open();
    for n in 1..=12 {
        put(&db, &db.default_cf(), &key(n), &[n as u8; 40], &at(Ack::Os)).unwrap();
    }
    let left = disk.mem.kill_clone();
    let logs = left.list().into_iter().filter(|(path, _)| is_log(path));
    let [(path, _)] = &logs.collect::<Vec<_>>()[..] else { panic!("one segment is enough") };
    let bytes = left.read(path).unwrap();
    (left, path.clone(), bytes)
}

/// Opens a disk whose log was changed: it holds a prefix of the twelve, which is returned. Then
/// writes one shorter batch and checks that nothing behind it ever comes back.
fn prefix_for_good(mem: MemFs, label: &str) -> Result<u64> {
    let disk = Disk::of(mem);
    let db = Db::open("/db", disk.stepped())?;
    let cf = db.default_cf();
    let found = rows(&db, &cf);
    let count = found.len() as u64;
    let mut expected: Rows = (1..=count).map(|n| (key(n), vec![n as u8; 40])).collect();
    assert_rows(&found, &expected, label);
    put(&db, &cf, b"short", b"", &at(Ack::Disk)).unwrap();
    expected.insert(b"short".to_vec(), Vec::new());
    for (how, left) in disk.crashes(1) {
        let db = left.open();
        assert_rows(&rows(&db, &db.default_cf()), &expected, &format!("{label}, then {how}"));
    }
    Ok(count)
}

/// An engine that meets a torn tail, a hole of zeros or a length of garbage may refuse to open,
/// allocate gigabytes, or drop the rest and let its bytes come back behind later writes. Ours: a
/// tail cut anywhere leaves the longest prefix, garbage ends it, a hole in the middle is an error or
/// a prefix, and what was cut off stays away.
#[test]
fn v1_09_torn_tails_holes_and_garbage_lengths_leave_a_prefix_for_good() {
    let (left, path, bytes) = log_of_twelve();
    // Frames begin at multiples of 8, and zeros fill the space before the next.
    let end = (bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1).next_multiple_of(8);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mem = left.kill_clone();
        let mut bytes = bytes.clone();
        change(&mut bytes);
        mem.write(&path, &bytes).unwrap();
        mem.sync_all();
        mem
    };
    let mut counts = Vec::new();
    for at in (0..=end).rev() {
        let label = format!("cut at {at} of {end}");
        let cut = prefix_for_good(with(&|bytes| bytes.truncate(at)), &label).unwrap();
        let zeroed = prefix_for_good(with(&|bytes| bytes[at..].fill(0)), &label).unwrap();
        assert!(cut <= zeroed, "{label}: {cut} batches, and with zeros behind it {zeroed}");
        counts.push(cut);
    }
    assert!(counts[0] == 12 && counts.windows(2).all(|two| two[1] <= two[0]), "{counts:?}");
    let mut seen = counts.clone();
    seen.dedup();
    assert_eq!(seen.len(), 13, "every prefix: {seen:?}");
    for at in (64..end).step_by(8) {
        for (what, fill) in [("0xff", Some(0xff)), ("random bytes", None)] {
            let label = format!("{what} from {at} on");
            let garbage = with(&|bytes| match fill {
                Some(fill) => bytes[at..].fill(fill),
                None => Rng::new(at as u64).fill(&mut bytes[at..]),
            });
            match prefix_for_good(garbage, &label) {
                Ok(count) => assert!(count < 12, "{label}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{label}: {error}"),
            }
        }
        let label = format!("a hole of 8 bytes at {at}");
        match prefix_for_good(with(&|bytes| bytes[at..at + 8].fill(0)), &label) {
            Ok(count) => assert!(count < 12 || bytes[at..at + 8] == [0; 8], "{label}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{label}: {error}"),
        }
    }
}

/// An engine that syncs only its newest log can keep a later write and lose an earlier one from a
/// rotated log, or lose the name of a log that no directory sync covered. Ours: a sync is a barrier
/// over all segments and their names, and so is a write at `Disk` and a close.
#[test]
fn v1_10_a_sync_covers_every_segment_before_it() {
    type Barrier = fn(&Db);
    let barriers: [(&str, Barrier); 4] = [
        ("sync", |db| assert!(db.sync().is_ok())),
        ("write", |db| {
            put(db, &db.default_cf(), b"last", b"", &at(Ack::Disk)).unwrap();
        }),
        ("close", |db| db.close(false).unwrap()),
        ("flush of an empty family", |db| {
            let empty = db.create_column_family("empty", CfOptions::default()).unwrap();
            let request = sluicedb::FlushRequest { cfs: vec![empty], ..Default::default() };
            db.flush(request).unwrap().wait(None).unwrap();
        }),
    ];
    for (name, barrier) in barriers {
        let disk = Disk::new();
        let options = Options { memtable_bytes: 1 << 20, ..disk.stepped() };
        let db = Db::open("/db", options).unwrap();
        let cf = db.default_cf();
        let mut expected = Rows::new();
        for n in 0..80 {
            let ack = [Ack::Memory, Ack::Os][n as usize % 2];
            put(&db, &cf, &key(n), &value(n, 1), &at(ack)).unwrap();
            expected.insert(key(n), value(n, 1));
        }
        assert!(db.stats().wal_segments > 3, "{:?}", db.stats());
        barrier(&db);
        let after = disk.cut().open();
        let mut found = rows(&after, &after.default_cf());
        found.remove(&b"last"[..]);
        assert_rows(&found, &expected, name);
    }
    // Without one, what a power cut leaves is a prefix all the same: no hole before a later write.
    for seed in 0..200 {
        let disk = Disk::new();
        let options = Options { memtable_bytes: 1 << 20, ..disk.stepped() };
        let db = Db::open("/db", options).unwrap();
        for n in 0..60 {
            put(&db, &db.default_cf(), &key(n), &value(n, 1), &at(Ack::Os)).unwrap();
        }
        let left = Disk::of(disk.mem.crash_clone(&mut Rng::new(seed))).open();
        let found = rows(&left, &left.default_cf());
        let expected = (0..found.len() as u64).map(|n| (key(n), value(n, 1))).collect();
        assert_rows(&found, &expected, &format!("seed {seed}"));
    }
}

/// An engine that retires its memtable before the next log is open has, when that fails, one table
/// that is active and retired at once. Ours: whichever call for the next segment fails, every
/// visible key reads right, each memtable is in one place, and the next flush writes each row once.
#[test]
fn v1_14_a_failed_switch_to_the_next_segment_leaves_one_active_memtable() {
    let ops = [Op::Create, Op::Allocate, Op::Write, Op::SyncData, Op::SyncDir, Op::SetLen];
    let mut failures = 0;
    for (op, nth) in ops.into_iter().flat_map(|op| (1..12).map(move |nth| (op, nth))) {
        let label = format!("{op:?} {nth}");
        let disk = Disk::new();
        let db = disk.open();
        let cf = db.default_cf();
        // Segments, and the directory that their names are in.
        let is_directory = |path: &std::path::Path| path.ends_with("db");
        let rule = Rule::on(op).path(move |path| is_log(path) || is_directory(path));
        disk.fs.add(rule.nth(nth).fail(Failure::EIO));
        let mut visible = Rows::new();
        for n in 0..60 {
            let before = db.positions().visible;
            let outcome = put(&db, &cf, &key(n), &value(n, 1), &at(Ack::Disk));
            if outcome.is_ok() || db.positions().visible > before {
                visible.insert(key(n), value(n, 1));
            }
            failures += u32::from(outcome.is_err());
            assert_rows(&rows(&db, &cf), &visible, &label);
            disk.clock.advance_ms(1_000);
            db.step();
        }
        disk.fs.clear();
        disk.clock.advance_ms(20_000);
        rest(&db);
        flush(&db);
        let stats = db.stats();
        assert_eq!((stats.memtable_bytes, stats.sealed_memtables), (0, 0), "{label}");
        assert!(stats.background_errors.is_empty(), "{:?}", stats.background_errors);
        assert_rows(&rows(&db, &cf), &visible, &label);
        db.close(true).unwrap();
        let db = disk.open();
        assert_eq!(db.stats().memtable_bytes, 0, "{label}: not everything was in tables");
        assert_rows(&rows(&db, &db.default_cf()), &visible, &label);
    }
    assert!(failures > 5, "{failures} writes failed: the rules strike nowhere");
}
