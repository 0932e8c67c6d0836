//! The promises that no other file keeps an eye on: P5, reads never wait, with every background
//! call held in turn; and P7, one byte budget, under a load that pushes against it.
//!
//! P1 to P3 are in `crash.rs`, P4 in `waits.rs`, P6 in `waits.rs` and `gate.rs`, P8 in `damage.rs`,
//! P9 in `faults.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, Leaves, NEVER, Rows, assert_rows, is_log, is_manifest, key, patient, put, rows, seal,
    tables, value,
};
use sluice_env::{Failure, Op, Rng, Rule};
use sluicedb::{Ack, CfOptions, Db, ErrorKind, Options, Stats, WriteBatch};
use std::sync::{
    atomic::{AtomicU64, Ordering::SeqCst},
    mpsc,
};

/// Holds one call of each kind that the background makes, with a writer stalled or waiting for the
/// log as well, and reads everything meanwhile: by key, by cursor both ways, by view and snapshot.
#[test]
fn p05_reads_go_on_while_any_other_call_is_held() {
    let holds: [(&str, Rule); 8] = [
        ("making a table", tables()),
        ("writing a table", Rule::on(Op::Write).path_ends_with(".sst")),
        ("syncing a table", Rule::on(Op::SyncData).path_ends_with(".sst")),
        ("writing the manifest", Rule::on(Op::Write).path(is_manifest)),
        ("syncing the manifest", Rule::on(Op::SyncData).path(is_manifest)),
        ("syncing the directory", Rule::on(Op::SyncDir)),
        ("writing the log", Rule::on(Op::Write).path(is_log)),
        ("syncing the log", Rule::on(Op::SyncData).path(is_log)),
    ];
    for (what, rule) in holds {
        let disk = Disk::new();
        let options = Options { memtable_count: 2, ..disk.threaded() };
        let db = Db::open("/db", options).unwrap();
        let cf = db.default_cf();
        let mut expected = Rows::new();
        for n in 0..50 {
            put(&db, &cf, &key(n % 30), &value(n, 1), &patient(Ack::Os)).unwrap();
            expected.insert(key(n % 30), value(n, 1));
        }
        seal(&db).wait(Some(NEVER)).unwrap();
        db.clear_block_cache();
        std::thread::scope(|scope| {
            let gate = disk.hold(rule);
            let (db, cf, expected) = (&db, &cf, &expected);
            // Writes under other keys until something stops them, and a flush of it all.
            let writer = scope.spawn(move || {
                for n in 0..60 {
                    put(db, cf, format!("other {n}").as_bytes(), &[0; 200], &patient(Ack::Disk))?;
                }
                seal(db).wait(Some(NEVER)).map(drop)
            });
            while gate.reached() == 0 {
                let is_over = writer.is_finished() && gate.reached() == 0;
                assert!(!is_over, "{what} never happens: {:?}", writer.join());
                std::thread::yield_now();
            }
            let (sender, read) = mpsc::channel();
            scope.spawn(move || {
                let mine = |mut found: Rows| {
                    found.retain(|key, _| key.starts_with(b"key"));
                    found
                };
                assert_rows(&mine(rows(db, cf)), expected, what);
                let snapshot = db.snapshot();
                for (key, value) in expected {
                    let found = snapshot.view().get(cf, key).unwrap().map(|found| found.to_vec());
                    assert_eq!(found.as_ref(), Some(value), "{what}");
                    assert!(db.view().exists(cf, key).unwrap(), "{what}");
                }
                assert_eq!(db.get(cf, b"missing").unwrap(), None);
                sender.send(()).unwrap();
            });
            read.recv_timeout(NEVER).unwrap_or_else(|_| panic!("reads wait for {what}"));
            gate.open();
            writer.join().unwrap().unwrap();
        });
    }
}

/// Random writers and readers over several families push against a small budget, with flushes that
/// fail now and then, and families of which none is large while all together are. At every look
/// memtables hold at most their half of the budget, or one batch alone that is larger than that; the
/// block cache holds at most its quarter.
#[test]
fn p07_memtables_and_cache_stay_inside_the_budget() {
    /// Small enough that a few hundred rows fill it. Some batches are larger than its half.
    const BUDGET: u64 = 512 << 10;
    const WRITERS: u64 = 3;
    const BATCHES: u64 = 400;
    /// What an entry takes beside its key and value, by the engine's own account.
    const ENTRY: u64 = 64;
    for (faults, families, huge) in [(false, 4, false), (true, 4, true), (false, 40, true)] {
        let disk = Disk::new();
        let options = Options {
            memory_budget: BUDGET,
            memtable_bytes: 96 << 10,
            memtable_count: 8,
            wal_segment_bytes: 64 << 10,
            table_bytes: 64 << 10,
            level_base_bytes: 256 << 10,
            block_bytes: 4096,
            l0_compaction_trigger: 4,
            ..disk.threaded()
        };
        let db = Db::open("/db", options).unwrap();
        for number in 1..families {
            let own = CfOptions { memtable_bytes: Some(200 << 10), ..CfOptions::default() };
            db.create_column_family(&number.to_string(), own).unwrap();
        }
        let cfs = db.list_column_families();
        let (largest, peak, cached) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let check = |stats: &Stats| {
            // Read behind the look: a batch is noted before it is written.
            let most = largest.load(SeqCst).max(BUDGET / 2);
            let (memtables, cache) = (stats.memtable_bytes, stats.block_cache_bytes);
            assert!(memtables <= most, "{memtables} in memtables, at most {most}");
            assert!(cache <= BUDGET / 4, "{cache} in the cache");
            peak.fetch_max(memtables, SeqCst);
            cached.fetch_max(cache, SeqCst);
        };
        let writing = AtomicU64::new(WRITERS);
        std::thread::scope(|scope| {
            let (db, cfs, check, largest, writing) = (&db, &cfs, &check, &largest, &writing);
            for writer in 0..WRITERS {
                scope.spawn(move || {
                    let _leaves = Leaves(writing);
                    let mut rng = Rng::new(700 + writer);
                    for _ in 0..BATCHES {
                        let mut batch = WriteBatch::new();
                        // Most are small; some are larger than a memtable or than the budget.
                        let bytes = match rng.below(60) {
                            0 if huge => 300_000,
                            1..=3 => 150_000,
                            _ => 1 + rng.below(4_000),
                        };
                        let mut need = 0;
                        while need < bytes {
                            let cf = &cfs[rng.below(cfs.len() as u64) as usize];
                            let mut value = vec![0; rng.below(bytes.min(20_000)) as usize];
                            rng.fill(&mut value);
                            batch.put(cf, &key(rng.below(900)), &value);
                            need += value.len() as u64 + 6 + ENTRY;
                        }
                        largest.fetch_max(need, SeqCst);
                        while let Err(error) = db.write(&batch, &patient(Ack::Memory)) {
                            let io = error.kind() == ErrorKind::Io;
                            assert!(faults && io, "{error:?}");
                            check(&db.stats());
                            std::thread::yield_now();
                        }
                        check(&db.stats());
                    }
                });
            }
            scope.spawn(move || {
                let mut rng = Rng::new(70);
                while writing.load(SeqCst) > 0 {
                    let cf = &cfs[rng.below(cfs.len() as u64) as usize];
                    db.get(cf, &key(rng.below(900))).unwrap();
                    check(&db.stats());
                }
            });
            if faults {
                scope.spawn(move || {
                    while writing.load(SeqCst) > 0 {
                        let rule = disk.fs.add(tables().fail(Failure::EIO));
                        while disk.fs.fired(rule) == 0 && writing.load(SeqCst) > 0 {
                            std::thread::yield_now();
                        }
                        disk.fs.remove(rule);
                        let flushes = db.stats().flushes;
                        while db.stats().flushes < flushes + 3 && writing.load(SeqCst) > 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        let (peak, cached) = (peak.load(SeqCst), cached.load(SeqCst));
        println!(
            "peaks: memtables {peak}, cache {cached}, budget {BUDGET}; {} stalls",
            db.stats().stalls
        );
        // It was pushed against, or the test shows nothing.
        assert!(peak > BUDGET / 3 && cached > BUDGET / 16, "{peak} {cached}");
        assert!(!faults || db.stats().flush_failures > 0);
        seal(&db).wait(Some(NEVER)).unwrap();
        assert_eq!(db.stats().memtable_bytes, 0, "bytes that nobody gives back");
        db.clear_block_cache();
        assert_eq!(db.stats().block_cache_bytes, 0);
    }
}
