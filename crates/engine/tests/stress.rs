//! Everything at once, with real threads: writers of batches over all families, flushes, snapshots,
//! families that come and go, compactions, a log that fails now and then, and readers that check
//! that no batch is ever seen in part. At the end the database is killed and recovered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_env::{Clock, Env, Failure, FaultFs, MemFs, Op, Rng, Rule, SystemClock};
use sluicedb::{
    Ack, CfOptions, ColumnFamily, Db, ErrorKind, FlushRequest, Options, ReadView, WriteBatch,
    WriteOptions,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

const RUN_US: u64 = 2_500_000;
const WRITERS: u64 = 3;
/// A wait that is longer does not end (P6).
const NEVER: Duration = Duration::from_secs(20);

fn options(fs: Arc<dyn sluice_env::Fs>) -> Options {
    Options {
        env: Env::os().with_fs(fs),
        memtable_bytes: 32 << 10,
        memtable_count: 4,
        memory_budget: 1 << 20,
        wal_segment_bytes: 64 << 10,
        wal_max_bytes: 1 << 20,
        table_bytes: 32 << 10,
        level_base_bytes: 128 << 10,
        flush_threads: 2,
        compaction_threads: 2,
        ..Options::default()
    }
}

/// Each writer has one key, with the same number under it in every family.
fn check(view: &ReadView, cfs: &[ColumnFamily]) -> Vec<u64> {
    (0..WRITERS)
        .map(|writer| {
            let of = |cf| {
                let value = view.get(cf, &writer.to_be_bytes()).unwrap();
                value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
            };
            let first = of(&cfs[0]);
            for cf in &cfs[1..] {
                assert_eq!(of(cf), first, "a batch of writer {writer} is visible in part");
            }
            first
        })
        .collect()
}

fn run(faults: bool) {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let db = Db::open("/db", options(Arc::new(fs.clone()))).unwrap();
    for name in ["one", "two"] {
        db.create_column_family(name, CfOptions::default()).unwrap();
    }
    let cfs = db.list_column_families();
    let (stop, clock) = (AtomicBool::new(false), SystemClock::new());
    let until = clock.monotonic_us() + RUN_US;
    // The last number that each writer was told is on disk.
    let safe: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (db, cfs, stop, safe) = (&db, &cfs, &stop, &safe);
            scope.spawn(move || {
                let mut rng = Rng::new(writer + 1);
                let mut number = 0u64;
                while !stop.load(SeqCst) {
                    number += 1;
                    let mut batch = WriteBatch::new();
                    for cf in cfs {
                        batch.put(cf, &writer.to_be_bytes(), &number.to_be_bytes());
                        let key = (100 + rng.below(2_000)).to_be_bytes();
                        batch.put(cf, &key, &vec![7; rng.below(200) as usize]);
                    }
                    let ack = [Ack::Memory, Ack::Os, Ack::Disk][rng.below(3) as usize];
                    let options = WriteOptions { ack, deadline: None, ..WriteOptions::default() };
                    match db.write(&batch, &options) {
                        Ok(_) if ack == Ack::Disk => safe[writer as usize].store(number, SeqCst),
                        Ok(_) => {}
                        Err(error) => {
                            assert!(faults, "{error:?}");
                            std::thread::yield_now();
                        }
                    }
                }
            });
        }
        let (db, cfs, stop, fs) = (&db, &cfs, &stop, &fs);
        scope.spawn(move || {
            let mut last = vec![0; WRITERS as usize];
            while !stop.load(SeqCst) {
                let view = db.view();
                let seen = check(&view, cfs);
                assert_eq!(check(&view, cfs), seen, "the view moved");
                assert!(seen.iter().zip(&last).all(|(now, then)| now >= then), "time went back");
                last = seen;
            }
        });
        scope.spawn(move || {
            while !stop.load(SeqCst) {
                let snapshot = db.snapshot();
                let then = check(&snapshot.view(), cfs);
                for cf in cfs {
                    db.compact(cf, None, None).ok();
                }
                assert_eq!(check(&snapshot.view(), cfs), then, "the snapshot moved");
            }
        });
        scope.spawn(move || {
            let mut rng = Rng::new(77);
            while !stop.load(SeqCst) {
                let one = cfs[rng.below(cfs.len() as u64) as usize].clone();
                let cfs = if rng.one_in(2) { vec![one] } else { Vec::new() };
                let request = FlushRequest { cfs, ..FlushRequest::default() };
                match db.flush(request).and_then(|ticket| ticket.wait(Some(NEVER))) {
                    Ok(_) => {}
                    Err(error) => {
                        assert!(error.kind() != ErrorKind::TimedOut, "{error}");
                        assert!(faults, "{error:?}");
                    }
                }
            }
        });
        scope.spawn(move || {
            for turn in 0u64.. {
                if stop.load(SeqCst) {
                    break;
                }
                let name = format!("extra{turn}");
                let Ok(cf) = db.create_column_family(&name, CfOptions::default()) else { continue };
                let mut batch = WriteBatch::new();
                batch.put(&cf, b"k", &[1; 500]);
                db.write(&batch, &WriteOptions::default()).ok();
                if turn % 2 == 0 {
                    db.flush(FlushRequest { cfs: vec![cf.clone()], ..Default::default() }).ok();
                }
                while db.drop_column_family(&cf).is_err() && !stop.load(SeqCst) {
                    assert!(faults, "a family cannot be dropped");
                }
            }
        });
        if faults {
            scope.spawn(move || {
                let mut rng = Rng::new(5);
                while !stop.load(SeqCst) {
                    let op = [Op::SyncData, Op::Write, Op::Create, Op::SyncDir];
                    let op = op[rng.below(4) as usize];
                    let rule = fs.add(Rule::on(op).nth(1 + rng.below(200)).fail(Failure::EIO));
                    while fs.fired(rule) == 0 && !stop.load(SeqCst) {
                        std::thread::yield_now();
                    }
                    fs.remove(rule);
                }
            });
        }
        while clock.monotonic_us() < until {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        stop.store(true, SeqCst);
    });
    fs.clear();
    let stats = db.stats();
    println!(
        "{} batches, {} flushes ({} failed), {} compactions ({} failed)",
        stats.writes,
        stats.flushes,
        stats.flush_failures,
        stats.compactions,
        stats.compaction_failures
    );
    assert!(stats.flushes > 5, "{stats:?}");
    let after = disk.crash_clone(&mut Rng::new(9));
    let recovered = Db::open("/db", options(Arc::new(after))).unwrap();
    let cfs_after = recovered.list_column_families();
    let main: Vec<_> = cfs_after.into_iter().filter(|cf| !cf.name().starts_with("extra")).collect();
    for (number, safe) in check(&recovered.view(), &main).iter().zip(&safe) {
        assert!(*number >= safe.load(SeqCst), "an acknowledged batch is gone");
    }
    // What is still wrong heals by itself.
    let ticket = db.flush(FlushRequest { allow_stall: true, ..FlushRequest::default() });
    ticket.unwrap().wait(Some(NEVER)).ok();
    let started = clock.monotonic_us();
    while let Err(error) = db.put(&cfs[0], b"after", b"it") {
        let waited = clock.monotonic_us() - started;
        assert!(waited < NEVER.as_micros() as u64, "no writing: {error:?}\n{:#?}", db.stats());
        std::thread::yield_now();
    }
    db.close(true).unwrap();
}

#[test]
fn p01_p05_p06_everything_at_once() {
    run(false);
}

#[test]
fn p01_p06_everything_at_once_on_a_disk_that_fails() {
    run(true);
}
