//! The second list of defects found by reading other engines, part one: flushes, rewrites and the
//! index. Each test is named after its defect (V2-n) and fails for an engine that has it. The log's
//! defects are in `lotusdb_v2_log.rs`, those of threads, waits and openings in
//! `lotusdb_v2_threads.rs`.
//!
//! A comment "an engine that …" states the defect; what follows is what ours must show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, Rows, assert_rows, at, dies_at_every_call, flush, is_manifest, key, now, patient, put,
    rest, rows, seal, tables, try_flush, value,
};
use sluice_env::{Failure, Op, Rng, Rule};
use sluicedb::{Ack, Db, Options, Result, WriteBatch};

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
        // Whoever waits for it hears of it. Those behind it may too: their flushes cannot end first.
        let failed = tickets[0].poll();
        assert!(matches!(failed, Some(Err(_))), "{label}: the failure is kept from its waiter");
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
