//! What makes memtables leave by themselves, on a clock that the test moves; how writes are slowed
//! before they are stopped; families without a log; options changed while running.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_env::{CrashMode, Env, FaultFs, Fs, Gate, ManualClock, MemFs, Op, Rng, Rule};
use sluicedb::{
    Ack, Background, CfOptions, ColumnFamily, Db, ErrorKind, FlushReason, FlushRequest, Options,
    StallCause, Tunables, WriteBatch, WriteOptions,
};
use std::{sync::Arc, time::Duration};

fn options(fs: Arc<dyn Fs>) -> Options {
    Options {
        env: Env::os().with_fs(fs),
        background: Background::Stepped,
        memtable_bytes: 64 << 10,
        memtable_count: 4,
        memory_budget: 4 << 20,
        wal_segment_bytes: 8 << 10,
        wal_max_bytes: 1 << 20,
        flush_age: Duration::ZERO,
        flush_tombstones: 0,
        ..Options::default()
    }
}

struct Stage {
    disk: Arc<MemFs>,
    clock: Arc<ManualClock>,
    db: Db,
}

fn stage(change: impl FnOnce(&mut Options)) -> Stage {
    let disk = Arc::new(MemFs::new());
    let clock = Arc::new(ManualClock::new(1_000_000));
    let mut options = options(Arc::<MemFs>::clone(&disk));
    options.env.clock = Arc::<ManualClock>::clone(&clock);
    change(&mut options);
    let db = Db::open("/db", options).unwrap();
    Stage { disk, clock, db }
}

fn put(db: &Db, cf: &ColumnFamily, key: &[u8], bytes: usize, wal: bool) {
    let mut batch = WriteBatch::new();
    batch.put(cf, key, &vec![7; bytes]);
    db.write(&batch, &WriteOptions { ack: Ack::Memory, wal, ..Default::default() }).unwrap();
}

/// Lets a look of the flush thread come due, and runs everything.
fn look(stage: &Stage, after: Duration) {
    stage.clock.advance_ms(after.max(Duration::from_secs(1)).as_millis() as u64);
    while stage.db.step() {}
}

fn flushes(db: &Db) -> Vec<(FlushReason, u64)> {
    db.stats().flushes_by_reason.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn data_stays_in_memory_no_longer_than_the_age() {
    let stage = stage(|options| options.flush_age = Duration::from_secs(60));
    let (cf, db) = (stage.db.default_cf(), &stage.db);
    put(db, &cf, b"a", 10, true);
    look(&stage, Duration::from_secs(58));
    put(db, &cf, b"b", 10, true);
    assert_eq!(flushes(db), []);
    look(&stage, Duration::from_secs(2));
    assert_eq!(flushes(db), [(FlushReason::Age, 1)], "a write does not make the others younger");
    look(&stage, Duration::from_secs(1000));
    assert_eq!(flushes(db), [(FlushReason::Age, 1)], "nothing is left to flush");
}

#[test]
fn an_idle_memtable_leaves_and_a_busy_one_stays() {
    let stage = stage(|options| options.flush_idle = Duration::from_secs(5));
    let db = &stage.db;
    let busy = db.create_column_family("busy", CfOptions::default()).unwrap();
    put(db, &db.default_cf(), b"a", 10, true);
    for key in 0..20_u8 {
        put(db, &busy, &[key], 10, true);
        look(&stage, Duration::from_secs(1));
    }
    assert_eq!(flushes(db), [(FlushReason::Idle, 1)]);
    assert_eq!(db.flushed(&db.default_cf()).unwrap(), db.positions().visible);
    assert!(db.flushed(&busy).unwrap() < db.positions().visible);
}

#[test]
fn tombstones_that_fill_a_memtable_leave_it() {
    let stage = stage(|options| options.flush_tombstones = 100);
    let (cf, db) = (stage.db.default_cf(), &stage.db);
    for key in 0..100_u32 {
        put(db, &cf, &key.to_be_bytes(), 1, true);
    }
    for key in 0..99_u32 {
        db.delete(&cf, &key.to_be_bytes()).unwrap();
    }
    look(&stage, Duration::ZERO);
    assert_eq!(flushes(db), []);
    db.delete(&cf, &99_u32.to_be_bytes()).unwrap();
    look(&stage, Duration::ZERO);
    assert_eq!(flushes(db), [(FlushReason::Tombstones, 1)]);
    assert_eq!(db.stats().table_files, 0, "nothing was below: the tombstones are gone too");
}

#[test]
fn a_recovery_time_target_bounds_what_must_be_replayed() {
    // A hundred MiB a second are assumed: 10 ms are a megabyte.
    let stage = stage(|options| {
        options.recovery_time_target = Duration::from_millis(10);
        options.memtable_bytes = 4 << 20;
        options.memory_budget = 64 << 20;
        options.wal_max_bytes = 64 << 20;
    });
    let (cf, db) = (stage.db.default_cf(), &stage.db);
    for key in 0..300_u32 {
        put(db, &cf, &key.to_be_bytes(), 7000, true);
        look(&stage, Duration::ZERO);
        assert!(db.stats().wal_bytes < 1100 << 10, "{}", db.stats().wal_bytes);
    }
    assert!(flushes(db).iter().all(|(reason, _)| *reason == FlushReason::RecoveryTime));
    assert!(!flushes(db).is_empty());
}

#[test]
fn a_cold_family_pins_no_more_log_than_it_may_while_another_is_busy() {
    let stage = stage(|options| options.wal_max_bytes = 256 << 10);
    let db = &stage.db;
    let hot = db.create_column_family("hot", CfOptions::default()).unwrap();
    put(db, &db.default_cf(), b"cold", 10, true);
    let mut most = 0;
    // Forty times the limit; the background keeps up, and always has something queued.
    for key in 0..10_000_u32 {
        put(db, &hot, &key.to_be_bytes(), 1000, true);
        if key % 64 == 0 {
            while db.step() {}
        }
        most = most.max(db.stats().wal_bytes);
    }
    assert!(most <= 256 << 10, "{most}");
    let cold = flushes(db).iter().find(|(r, _)| *r == FlushReason::WalBytes).map(|(_, c)| *c);
    assert_eq!(cold, Some(1), "the cold family is flushed once, the hot one never for the log");
}

#[test]
fn a_paused_database_is_left_alone_by_every_trigger() {
    let stage = stage(|options| options.flush_age = Duration::from_secs(1));
    let (cf, db) = (stage.db.default_cf(), &stage.db);
    put(db, &cf, b"a", 10, true);
    db.pause_flushes();
    look(&stage, Duration::from_secs(100));
    assert_eq!(flushes(db), []);
    db.resume_flushes();
    look(&stage, Duration::ZERO);
    assert_eq!(flushes(db), [(FlushReason::Age, 1)]);
}

#[test]
fn p01_p03_a_family_without_a_log_is_lost_back_to_its_flush_and_no_other_is() {
    let stage = stage(|_| ());
    let db = &stage.db;
    let scratch = CfOptions { wal: false, ..CfOptions::default() };
    let scratch = db.create_column_family("scratch", scratch).unwrap();
    let kept = db.default_cf();
    // The default acknowledgement is for families with a log; Disk cannot be had without one.
    db.put(&scratch, b"early", b"1").unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&scratch, b"never", b"1");
    let disk = WriteOptions { ack: Ack::Disk, ..WriteOptions::default() };
    assert_eq!(db.write(&batch, &disk).unwrap_err().kind(), ErrorKind::Invalid);
    db.flush(FlushRequest::default()).unwrap();
    while db.step() {}
    db.put(&scratch, b"late", b"2").unwrap();
    assert!(db.stats().unlogged_bytes > 0 && db.stats().unlogged_age.is_some());
    db.put(&kept, b"logged", b"3").unwrap();
    // A batch over both is one batch: logged.
    let mut both = WriteBatch::new();
    both.put(&scratch, b"both", b"4");
    both.put(&kept, b"both", b"4");
    db.write(&both, &disk).unwrap();
    let crashed = stage.disk.crash_clone_as(CrashMode::Nothing, &mut Rng::new(1));
    let after = Db::open("/db", options(Arc::new(crashed))).unwrap();
    let (scratch, kept) = (after.column_family("scratch").unwrap(), after.default_cf());
    assert!(!scratch.wal() && kept.wal(), "the choice is in the manifest");
    let has = |cf, key: &[u8]| after.view().exists(cf, key).unwrap();
    assert!(has(&scratch, b"early") && has(&scratch, b"both"));
    assert!(!has(&scratch, b"late") && !has(&scratch, b"never"));
    assert!(has(&kept, b"logged") && has(&kept, b"both"));
}

#[test]
fn writes_slow_down_before_they_stop() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let mut options = options(Arc::new(fs.clone()));
    // A clock that stands still: how long writers should hold back does not melt away meanwhile.
    options.env.clock = Arc::new(ManualClock::new(1_000_000));
    options.background = Background::Threads;
    options.memtable_bytes = 1 << 20;
    options.memory_budget = 64 << 20;
    options.wal_segment_bytes = 1 << 20;
    options.wal_max_bytes = 64 << 20;
    let db = Db::open("/db", options).unwrap();
    let cf = db.default_cf();
    let gate = Gate::new();
    let is_table = |path: &std::path::Path| path.extension().is_some_and(|e| e == "sst");
    fs.add(Rule::on(Op::SyncData).path(is_table).hold(&gate));
    assert_eq!((db.throttle(), db.stats().slowed), (Duration::ZERO, None));
    let mut refused = None;
    let mut causes = Vec::new();
    for key in 0..200_u32 {
        let mut batch = WriteBatch::new();
        batch.put(&cf, &key.to_be_bytes(), &[7; 50_000]);
        let now = WriteOptions { ack: Ack::Memory, deadline: Some(Duration::ZERO), wal: true };
        // A writer that must not wait is never delayed, and told how long it should hold back.
        if let Err(error) = db.write(&batch, &now) {
            refused = Some((key, error));
            break;
        }
        causes.extend(db.stats().slowed);
    }
    let (throttle, stalled) = (db.throttle(), db.stats().stalled);
    // Before anything is asserted: a failure must not wait for the gate.
    gate.open();
    assert!(causes.iter().all(|cause| *cause == StallCause::Memtables), "{causes:?}");
    assert!((20..=60).contains(&causes.len()), "slow from the middle on: {}", causes.len());
    let (key, error) = refused.unwrap();
    assert!((60..=84).contains(&key), "four memtables of 1 MiB take {key} values");
    assert_eq!(error.kind(), ErrorKind::Stalled);
    assert_eq!(
        error.to_string(),
        "memtable of column family 'default' is full (4 of 4 waiting to flush); retry, or raise \
         memtable-count or memtable-wait-timeout"
    );
    assert!(throttle > Duration::ZERO);
    assert_eq!(stalled.map(|(cause, _)| cause), Some(StallCause::Memtables));
    db.flush(FlushRequest::default()).unwrap().wait(None).unwrap();
    put(&db, &cf, b"again", 10, true);
    let stats = db.stats();
    assert_eq!((stats.stalled, stats.slowed), (None, None));
    let memtables = &stats.stall_causes[0];
    assert_eq!(
        (memtables.cause, memtables.stops, memtables.refusals),
        (StallCause::Memtables, 1, 1)
    );
}

#[test]
fn options_change_while_the_database_runs() {
    let stage = stage(|_| ());
    let (cf, db) = (stage.db.default_cf(), &stage.db);
    let before = db.tunables();
    let wrong = Tunables { wal_segment_bytes: 8 << 20, ..before };
    let error = db.set_tunables(&wrong).unwrap_err();
    assert!(error.to_string().contains("wal_max_bytes"), "{error}");
    assert_eq!(db.tunables(), before);
    let after = Tunables {
        wal_segment_bytes: 32 << 10,
        flush_age: Duration::from_secs(7),
        memory_budget: 8 << 20,
        flush_threads: 3,
        ..before
    };
    db.set_tunables(&after).unwrap();
    assert_eq!(db.tunables(), after);
    for key in 0..100_u32 {
        put(db, &cf, &key.to_be_bytes(), 2000, true);
    }
    let sizes: Vec<u64> = db.log_info().segments.iter().map(|one| one.capacity).collect();
    assert_eq!((sizes.first(), sizes.last()), (Some(&(8 << 10)), Some(&(32 << 10))), "{sizes:?}");
    // The first look finds the queue full.
    look(&stage, Duration::from_secs(7));
    look(&stage, Duration::ZERO);
    assert!(flushes(db).contains(&(FlushReason::Age, 1)), "{:?}", flushes(db));
}

#[test]
fn flush_threads_come_and_go_while_writes_go_on() {
    let mut options = options(Arc::new(MemFs::new()));
    options.background = Background::Threads;
    let db = Db::open("/db", options).unwrap();
    let cf = db.default_cf();
    for round in 0..20_u32 {
        db.set_tunables(&Tunables { flush_threads: 1 + round % 4, ..db.tunables() }).unwrap();
        for key in 0..50_u32 {
            let mut batch = WriteBatch::new();
            batch.put(&cf, &key.to_be_bytes(), &[7; 5000]);
            db.write(&batch, &WriteOptions { deadline: None, ..Default::default() }).unwrap();
        }
    }
    db.flush(FlushRequest::default()).unwrap().wait(None).unwrap();
    db.close(true).unwrap();
}

/// A segment may be as large as the whole log. While it is the active one, no flush lets go of it.
#[test]
fn an_active_segment_that_fills_the_log_does_not_seal_at_every_look() {
    let stage = stage(|options| {
        options.memtable_bytes = 1 << 20;
        (options.wal_segment_bytes, options.wal_max_bytes) = (64 << 10, 64 << 10);
    });
    let (cf, db) = (stage.db.default_cf(), &stage.db);
    for key in 0..52_u32 {
        put(db, &cf, &key.to_be_bytes(), 1000, true);
    }
    for key in 0..20_u32 {
        put(db, &cf, &key.to_be_bytes(), 10, true);
        look(&stage, Duration::from_secs(1));
    }
    assert_eq!(flushes(db), []);
    let mut most = 0;
    for key in 0..1000_u32 {
        put(db, &cf, &key.to_be_bytes(), 1000, true);
        look(&stage, Duration::from_secs(1));
        most = most.max(db.stats().wal_bytes);
    }
    assert!(most <= 128 << 10, "the log stays bounded: {most}");
    let count: u64 = flushes(db).iter().map(|(_, count)| count).sum();
    assert!((10..=20).contains(&count), "one flush a segment: {count}");
}

#[test]
fn a_log_made_smaller_than_its_active_segment_slows_nobody_down_for_long() {
    let stage = stage(|options| {
        options.memtable_bytes = 1 << 20;
        (options.wal_segment_bytes, options.wal_max_bytes) = (1 << 20, 4 << 20);
    });
    let (cf, db) = (stage.db.default_cf(), &stage.db);
    for key in 0..300_u32 {
        put(db, &cf, &key.to_be_bytes(), 1000, true);
    }
    let tunables =
        Tunables { wal_segment_bytes: 8 << 10, wal_max_bytes: 16 << 10, ..db.tunables() };
    db.set_tunables(&tunables).unwrap();
    for key in 0..20_u32 {
        put(db, &cf, &key.to_be_bytes(), 10, true);
        look(&stage, Duration::from_secs(1));
    }
    put(db, &cf, b"last", 10, true);
    assert_eq!((db.stats().slowed, db.throttle()), (None, Duration::ZERO));
    assert_eq!(flushes(db), [(FlushReason::WalBytes, 1)]);
}
