//! The first list of defects found by reading other engines, part one: flushes, rewrites, the index
//! and the values. Each test is named after its defect (V1-n) and fails for an engine that has it.
//! The log's defects are in `lotusdb_v1_log.rs`, those of threads and calls in
//! `lotusdb_v1_threads.rs`.
//!
//! A comment "an engine that …" states the defect; what follows is what ours must show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, Rows, assert_rows, at, dies_at_every_call, flush, key, now, patient, put, rest, rows,
    seal, try_flush, unlogged, value,
};
use sluice_env::{Failure, Op, Rule};
use sluicedb::{Ack, CfOptions, Db, ErrorKind, Result, WriteBatch};

/// An open database, and what was acknowledged at `Disk`.
struct Acknowledged {
    db: Db,
    rows: Rows,
}

impl Acknowledged {
    fn put(&mut self, n: u64, version: u64) -> Result<()> {
        let cf = self.db.default_cf();
        put(&self.db, &cf, &key(n), &value(n, version), &at(Ack::Disk))?;
        self.rows.insert(key(n), value(n, version));
        Ok(())
    }

    fn delete(&mut self, n: u64) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete(&self.db.default_cf(), &key(n));
        self.db.write(&batch, &at(Ack::Disk))?;
        self.rows.remove(&key(n));
        Ok(())
    }
}

/// An engine that syncs only its index at a flush, and then removes the log, loses synced writes
/// in a power cut behind the flush, or reads them as empty. Ours: whatever call the machine dies
/// at, everything acknowledged at `Disk` is there, byte for byte.
#[test]
fn v1_01_synced_writes_survive_power_loss_at_every_call_of_a_flush() {
    let setup = || {
        let disk = Disk::new();
        let mut state = Acknowledged { db: disk.open(), rows: Rows::new() };
        (0..12).for_each(|n| state.put(n, 1).unwrap());
        flush(&state.db);
        (6..30).for_each(|n| state.put(n, 2).unwrap());
        (disk, state)
    };
    let act = |_: &Disk, state: &mut Acknowledged| {
        let segments = state.db.stats().wal_segments;
        try_flush(&state.db)?;
        assert!(segments > 2 && state.db.stats().wal_segments < segments, "no log was let go of");
        (28..34).try_for_each(|n| state.put(n, 3))?;
        try_flush(&state.db)
    };
    dies_at_every_call("flush", setup, act, |state, db, label| {
        let mut found = rows(db, &db.default_cf());
        // The write that the crash came into may be there as well.
        found.retain(|key, _| state.rows.contains_key(key));
        let newer = |key: &Vec<u8>| found.get(key).is_some_and(|now| *now > state.rows[key]);
        let in_flight: Vec<_> = state.rows.keys().filter(|key| newer(key)).cloned().collect();
        assert!(in_flight.len() <= 1, "{label}: {} in flight", in_flight.len());
        let mut expected = state.rows.clone();
        in_flight.iter().for_each(|key| drop(expected.insert(key.clone(), found[key].clone())));
        assert_rows(&found, &expected, label);
    });
}

/// An engine that deletes the old file of a collection before the moved values are synced loses old,
/// durable data. Ours has no value files; compaction moves values: it loses nothing and brings
/// nothing back at any call.
#[test]
fn v1_02_a_rewrite_syncs_what_it_moved_before_the_old_file_goes() {
    let setup = || {
        let disk = Disk::new();
        let mut state = Acknowledged { db: disk.open(), rows: Rows::new() };
        for round in 1..4 {
            (round..30).for_each(|n| state.put(n, round).unwrap());
            (0..5).for_each(|n| state.delete(n * 4 + round).unwrap());
            flush(&state.db);
        }
        (disk, state)
    };
    let act = |disk: &Disk, state: &mut Acknowledged| {
        let before = disk.files(".sst");
        let cf = state.db.default_cf();
        state.db.compact(&cf, None, None)?;
        rest(&state.db);
        let kept = disk.files(".sst").iter().filter(|file| before.contains(file)).count();
        assert!(disk.fs.is_dead() || kept == 0, "{kept} of the old tables are still there");
        Ok(())
    };
    dies_at_every_call("rewrite", setup, act, |state, db, label| {
        assert_rows(&rows(db, &db.default_cf()), &state.rows, label);
        db.compact(&db.default_cf(), None, None).unwrap();
        assert_rows(&rows(db, &db.default_cf()), &state.rows, label);
    });
}

/// An engine that commits its index in several unsynced pieces a flush can find it unreadable, or
/// half a flush in it, and has nothing to rebuild it from. Ours: a flush of three families is one
/// edit of a checksummed manifest, so without a log the flush is there as a whole or not at all,
/// and every opening reads it.
#[test]
fn v1_03_the_index_is_readable_after_every_crash_and_has_whole_flushes_only() {
    struct State {
        db: Option<Db>,
        flushed: u64,
        begun: u64,
    }
    let round = |db: &Db, round: u64| {
        for cf in db.list_column_families() {
            for n in 0..4 {
                put(db, &cf, &key(n), &value(n, round), &unlogged()).unwrap();
            }
        }
    };
    let setup = || {
        let disk = Disk::new();
        let db = disk.open();
        for name in ["one", "two"] {
            db.create_column_family(name, CfOptions::default()).unwrap();
        }
        round(&db, 1);
        flush(&db);
        (disk, State { db: Some(db), flushed: 1, begun: 1 })
    };
    let act = |disk: &Disk, state: &mut State| {
        for number in 2..5 {
            let db = match state.db.take() {
                Some(db) => db,
                None => Db::open("/db", disk.stepped())?,
            };
            state.begun = number;
            round(&db, number);
            try_flush(&db)?;
            state.flushed = number;
            // The next opening writes a manifest of its own and switches to it.
            db.close(false)?;
        }
        Ok(())
    };
    dies_at_every_call("index", setup, act, |state, db, label| {
        let families = db.list_column_families();
        assert_eq!(families.len(), 3, "{label}");
        let first = rows(db, &families[0]);
        assert!(
            [state.flushed, state.begun].iter().any(|&round| first[&key(0)] == value(0, round)),
            "{label}: an older flush"
        );
        for cf in &families {
            assert_rows(&rows(db, cf), &first, &format!("{label}, family {}", cf.name()));
        }
        let versions: Vec<_> = first.values().map(|value| value[13..24].to_vec()).collect();
        assert!(versions.windows(2).all(|two| two[0] == two[1]), "{label}: half a flush");
    });
}

/// An engine whose flusher ends for good at its first error lets every later write time out, and
/// tells nobody. Ours: whoever waits hears of the failure, it stands in the statistics, a write
/// that finds no room is told the cause, and writing comes back by itself when the cause is gone.
#[test]
fn v1_08_a_failing_flusher_says_so_and_comes_back() {
    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    disk.fs.add(Rule::on(Op::Create).path_ends_with(".sst").forever().fail(Failure::EIO));
    let mut expected = Rows::new();
    put(&db, &cf, &key(0), &value(0, 1), &now()).unwrap();
    expected.insert(key(0), value(0, 1));
    let error = try_flush(&db).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let refused = (1..).find_map(|n| {
        let outcome = put(&db, &cf, &key(n), &value(n, 1), &now());
        if outcome.is_ok() {
            expected.insert(key(n), value(n, 1));
        }
        // Time for the retries, all of which fail.
        disk.clock.advance_ms(20_000);
        db.step();
        outcome.err()
    });
    let refused = refused.unwrap();
    assert!(refused.to_string().contains("flush"), "{refused}");
    let stats = db.stats();
    assert!(stats.flush_failures > 3, "{} failures", stats.flush_failures);
    assert!(stats.background_errors.iter().any(|error| error.job == "flush"), "{stats:?}");
    assert_rows(&rows(&db, &cf), &expected, "while flushes fail");
    // Nobody calls for a flush: the clock and the background alone bring it back.
    disk.fs.clear();
    disk.clock.advance_ms(20_000);
    rest(&db);
    put(&db, &cf, &key(900), &value(900, 1), &now()).unwrap();
    expected.insert(key(900), value(900, 1));
    rest(&db);
    let stats = db.stats();
    assert!(stats.background_errors.is_empty(), "{:?}", stats.background_errors);
    assert!(stats.flushes > 0 && stats.sealed_memtables == 0, "{stats:?}");
    assert_rows(&rows(&db, &cf), &expected, "afterwards");
    let left = disk.kill().open();
    assert_rows(&rows(&left, &left.default_cf()), &expected, "recovered");
}

/// An engine to which an empty value is the same as none answers with an older value of the key.
/// Ours: found-empty, deleted and missing are three answers, for the empty key too, wherever the
/// newer and the older entry are: in the active or a sealed memtable, in a table, compacted.
#[test]
fn v1_11_an_empty_value_is_not_a_missing_one_at_any_level() {
    const STAGES: [&str; 4] = ["compacted", "table", "sealed", "active"];
    let kinds = [None, Some(None), Some(Some(&b""[..])), Some(Some(&b"full"[..]))];
    for key in [&b""[..], b"k", b"\0"] {
        for (older_stage, newer_stage) in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            for (older, newer) in kinds.iter().flat_map(|a| kinds.iter().map(move |b| (a, b))) {
                let label = format!(
                    "key {key:?}: {newer:?} {} over {older:?} {}",
                    STAGES[newer_stage], STAGES[older_stage]
                );
                let disk = Disk::new();
                let db = disk.open();
                let cf = db.default_cf();
                let write = |entry: &Option<Option<&[u8]>>| {
                    let mut batch = WriteBatch::new();
                    match entry {
                        None => return,
                        Some(None) => batch.delete(&cf, key),
                        Some(Some(value)) => batch.put(&cf, key, value),
                    }
                    db.write(&batch, &at(Ack::Os)).unwrap();
                };
                let bring_to = |stage| match STAGES[stage] {
                    "compacted" => {
                        flush(&db);
                        db.compact(&cf, None, None).unwrap();
                    }
                    "table" => flush(&db),
                    "sealed" => drop(seal(&db)),
                    _ => {}
                };
                write(older);
                bring_to(older_stage);
                write(newer);
                bring_to(newer_stage);
                let expected = newer.or(*older).flatten();
                assert_eq!(db.get(&cf, key).unwrap().as_deref(), expected, "{label}");
                assert_eq!(db.view().exists(&cf, key).unwrap(), expected.is_some(), "{label}");
                let expected: Rows =
                    expected.iter().map(|value| (key.to_vec(), value.to_vec())).collect();
                assert_rows(&rows(&db, &cf), &expected, &label);
                let again = disk.kill().open();
                assert_rows(&rows(&again, &again.default_cf()), &expected, &label);
            }
        }
    }
}

/// An engine that counts garbage by what its index says was there before, and gets the neighbour's
/// entry for a new key, takes live data for dead. Ours has no value files to count for; the sums it
/// keeps beside the rows are exact after every crash, whatever the order of the keys.
#[test]
fn v1_15_sums_kept_beside_the_rows_are_exact_after_every_crash() {
    const COUNT: u32 = 1;
    const BYTES: u32 = 2;
    fn change(db: &Db, n: u64, version: Option<u64>) -> Result<()> {
        let cf = db.default_cf();
        let old = db.get(&cf, &key(n))?;
        let new = version.map(|version| vec![b'v'; (version * 37 % 190) as usize]);
        let mut batch = WriteBatch::new();
        match &new {
            Some(new) => batch.put(&cf, &key(n), new),
            None => batch.delete(&cf, &key(n)),
        }
        let count = i64::from(new.is_some()) - i64::from(old.is_some());
        let len = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| value.len() as i64);
        batch.add_counter(&cf, COUNT, count);
        batch.add_counter(&cf, BYTES, len(&new) - len(&old));
        db.write(&batch, &patient(Ack::Os)).map(drop)
    }
    let setup = || {
        let disk = Disk::new();
        let db = disk.open();
        // Descending, so that each new key has a neighbour above it.
        (0..20).rev().for_each(|n| change(&db, n, Some(n)).unwrap());
        (disk, db)
    };
    let act = |_: &Disk, db: &mut Db| {
        try_flush(db)?;
        for n in (0..30).rev() {
            change(db, n * 7 % 30, (n % 4 != 0).then_some(n + 50))?;
            if n % 8 == 0 {
                try_flush(db)?;
            }
        }
        db.compact(&db.default_cf(), None, None)?;
        rest(db);
        Ok(())
    };
    dies_at_every_call("sums", setup, act, |_, db, label| {
        let cf = db.default_cf();
        let exact = |label: &str| {
            let found = rows(db, &cf);
            let bytes: usize = found.values().map(Vec::len).sum();
            let sums = (db.counter(&cf, COUNT), db.counter(&cf, BYTES));
            assert_eq!(sums, (found.len() as i64, bytes as i64), "{label}");
        };
        exact(label);
        change(db, 3, Some(99)).unwrap();
        change(db, 500, Some(5)).unwrap();
        flush(db);
        exact(&format!("{label}, flushed"));
    });
}
