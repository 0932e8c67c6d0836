//! P3 and P6 where threads, failures and the end of the database meet: every wait ends, and what a
//! ticket promised is there after a crash.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_env::{CrashMode, Env, Failure, FaultFs, Fs, Gate, ManualClock, MemFs, Op, Rng, Rule};
use sluicedb::{
    Ack, Background, CfOptions, ColumnFamily, Db, ErrorKind, FlushRequest, FlushTicket, Options,
    WriteBatch, WriteOptions,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

/// Long enough that only a wait which never ends reaches it.
const NEVER: Duration = Duration::from_secs(30);

fn options(fs: Arc<dyn Fs>, background: Background) -> Options {
    Options {
        env: Env::os().with_fs(fs),
        background,
        memtable_bytes: 4096,
        memtable_count: 2,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        ..Options::default()
    }
}

fn stepped() -> (Arc<MemFs>, Db) {
    let disk = Arc::new(MemFs::new());
    let db = Db::open("/db", options(Arc::<MemFs>::clone(&disk), Background::Stepped)).unwrap();
    (disk, db)
}

fn put(db: &Db, cf: &ColumnFamily, key: &[u8], ack: Ack, wal: bool) {
    let mut batch = WriteBatch::new();
    batch.put(cf, key, b"v");
    db.write(&batch, &WriteOptions { ack, wal, ..WriteOptions::default() }).unwrap();
}

fn flush(db: &Db, cf: &ColumnFamily) -> FlushTicket {
    db.flush(FlushRequest { cfs: vec![cf.clone()], ..FlushRequest::default() }).unwrap()
}

fn finish(db: &Db, ticket: &FlushTicket) {
    while ticket.poll().is_none() {
        assert!(db.step(), "a flush that nobody finishes");
    }
    ticket.wait(None).unwrap();
}

/// What is left after the worst power cut.
fn cut(disk: &MemFs) -> Db {
    let disk = disk.crash_clone_as(CrashMode::Nothing, &mut Rng::new(1));
    Db::open("/db", options(Arc::new(disk), Background::Stepped)).unwrap()
}

#[test]
fn p03_a_flush_of_a_family_waits_for_what_no_log_has_in_another() {
    let (disk, db) = stepped();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    put(&db, &other, b"unlogged", Ack::Memory, false);
    let first = flush(&db, &db.default_cf());
    // Sealed, not installed: nothing to seal any more, and nothing durable either.
    let durable = db.positions().durable;
    let second = flush(&db, &db.default_cf());
    assert!(durable < second.position(), "{durable:?} is said to be durable");
    finish(&db, &second);
    let after = cut(&disk);
    let other = after.column_family("other").unwrap();
    assert_eq!(after.get(&other, b"unlogged").unwrap().as_deref(), Some(&b"v"[..]));
    finish(&db, &first);
}

#[test]
fn positions_do_not_count_an_unlogged_batch_that_is_on_its_way() {
    let (_disk, db) = stepped();
    let cf = db.default_cf();
    put(&db, &cf, b"unlogged", Ack::Memory, false);
    let ticket = flush(&db, &cf);
    put(&db, &cf, b"logged", Ack::Disk, true);
    let positions = db.positions();
    assert!(positions.durable < ticket.position(), "{positions:?}");
    finish(&db, &ticket);
    assert_eq!(db.positions().durable, db.positions().visible);
}

#[test]
fn p03_a_ticket_for_a_flush_under_way_covers_its_own_position() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Threads)).unwrap();
    let cf = db.default_cf();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    put(&db, &cf, b"one", Ack::Memory, true);
    // The manifest's sync comes behind the log's: hold the install there.
    let gate = Gate::new();
    let is_manifest = |path: &std::path::Path| path.to_string_lossy().contains("MANIFEST");
    fs.add(Rule::on(Op::SyncData).path(is_manifest).hold(&gate));
    let first = flush(&db, &cf);
    gate.wait_until_reached();
    put(&db, &other, b"two", Ack::Memory, true);
    let second = flush(&db, &cf);
    gate.open();
    first.wait(Some(NEVER)).unwrap();
    second.wait(Some(NEVER)).unwrap();
    assert!(second.position() > first.position());
    let after = cut(&disk);
    let other = after.column_family("other").unwrap();
    assert!(after.get(&other, b"two").unwrap().is_some(), "the ticket's position is not safe");
}

#[test]
fn a_family_named_twice_is_flushed_once() {
    let (_disk, db) = stepped();
    let cf = db.default_cf();
    put(&db, &cf, b"k", Ack::Os, true);
    let cfs = vec![cf.clone(), cf.clone()];
    let ticket = db.flush(FlushRequest { cfs, ..FlushRequest::default() }).unwrap();
    finish(&db, &ticket);
    assert_eq!(ticket.wait(None).unwrap().cfs, ["default"]);
}

#[test]
fn p06_a_writer_without_a_deadline_hears_of_a_flush_that_fails() {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Threads)).unwrap();
    let cf = db.default_cf();
    let gate = Gate::new();
    let tables = Rule::on(Op::Create).path_ends_with(".sst");
    fs.add(tables.forever().hold(&gate).fail(Failure::EIO));
    let (sender, outcome) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut batch = WriteBatch::new();
            batch.put(&cf, b"k", &[0; 1000]);
            let patient = WriteOptions { deadline: None, ..WriteOptions::default() };
            let error = loop {
                if let Err(error) = db.write(&batch, &patient) {
                    break error;
                }
            };
            sender.send(error).unwrap();
        });
        gate.wait_until_reached();
        while db.stats().stalls == 0 {
            std::thread::yield_now();
        }
        gate.open();
        let error = outcome.recv_timeout(NEVER).expect("the writer waits for ever");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("flush"), "{error}");
    });
    // Once the cause is gone everything goes on.
    fs.clear();
    db.flush(FlushRequest::default()).unwrap().wait(Some(NEVER)).unwrap();
    db.put(&cf, b"after", b"it").unwrap();
}

#[test]
fn p06_on_room_is_called_when_the_flush_fails_and_when_the_database_closes() {
    let (_disk, db) = stepped();
    let cf = db.default_cf();
    let now = WriteOptions { deadline: Some(Duration::ZERO), ..WriteOptions::default() };
    let fill = |db: &Db| {
        let mut batch = WriteBatch::new();
        batch.put(&cf, b"k", &[0; 1000]);
        while db.write(&batch, &now).is_ok() {}
    };
    fill(&db);
    let calls = Arc::new(AtomicU64::new(0));
    let count = || {
        let calls = Arc::clone(&calls);
        let count = move || {
            calls.fetch_add(1, Ordering::SeqCst);
        };
        Box::new(count) as Box<dyn FnOnce() + Send>
    };
    db.on_room(count());
    assert_eq!(calls.load(Ordering::SeqCst), 0, "there is no room yet");
    db.step();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    fill(&db);
    db.on_room(count());
    db.close(false).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    db.on_room(count());
    assert_eq!(calls.load(Ordering::SeqCst), 3, "after the close nobody else will call");
}

#[test]
fn p06_tickets_end_at_the_close_and_their_callbacks_may_ask_the_database() {
    let (_disk, db) = stepped();
    let cf = db.default_cf();
    put(&db, &cf, b"k", Ack::Os, true);
    let ticket = flush(&db, &cf);
    let (sender, outcome) = mpsc::channel();
    let asking = db.clone();
    ticket.on_done(move |outcome| {
        // No lock of the engine is held here.
        asking.on_room(Box::new(|| ()));
        sender.send((asking.stats().sealed_memtables, outcome.unwrap_err().kind())).unwrap();
    });
    db.close(false).unwrap();
    assert_eq!(outcome.recv_timeout(NEVER).unwrap(), (1, ErrorKind::Closed));
    assert!(!db.step(), "a closed database does no work");
}

#[test]
fn a_close_right_behind_a_failed_flush_tries_it_again() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let mut options = options(Arc::new(fs.clone()), Background::Stepped);
    options.env.clock = clock;
    let db = Db::open("/db", options).unwrap();
    put(&db, &db.default_cf(), b"k", Ack::Os, true);
    fs.add(Rule::on(Op::Create).path_ends_with(".sst").fail(Failure::EIO));
    let ticket = flush(&db, &db.default_cf());
    db.step();
    ticket.wait(None).unwrap_err();
    db.close(true).unwrap();
    assert!(disk.list().iter().any(|(path, _)| path.to_string_lossy().ends_with(".sst")));
}

#[test]
fn a_family_dropped_during_an_install_does_not_take_the_log_of_others() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let options = |fs, background| Options { memtable_bytes: 64 << 10, ..options(fs, background) };
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Threads)).unwrap();
    let cf = db.default_cf();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    put(&db, &other, b"pins the first segment", Ack::Disk, true);
    for _ in 0..3 {
        let mut batch = WriteBatch::new();
        batch.put(&cf, b"k", &[0; 2000]);
        db.write(&batch, &WriteOptions { ack: Ack::Disk, ..WriteOptions::default() }).unwrap();
    }
    let gate = Gate::new();
    let is_manifest = |path: &std::path::Path| path.to_string_lossy().contains("MANIFEST");
    let held = fs.add(Rule::on(Op::SyncData).path(is_manifest).hold(&gate));
    let ticket = flush(&db, &cf);
    gate.wait_until_reached();
    std::thread::scope(|scope| {
        let drop_it = scope.spawn(|| db.drop_column_family(&other));
        gate.open();
        drop_it.join().unwrap().unwrap();
    });
    ticket.wait(Some(NEVER)).unwrap();
    fs.remove(held);
    for mode in [CrashMode::Nothing, CrashMode::Everything] {
        let after = disk.crash_clone_as(mode, &mut Rng::new(1));
        let after = Db::open("/db", options(Arc::new(after), Background::Stepped)).unwrap();
        assert_eq!(after.get(&after.default_cf(), b"k").unwrap().unwrap().len(), 2000);
    }
}

#[test]
fn a_compaction_whose_edit_fails_again_and_again_does_not_fill_the_disk() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Stepped)).unwrap();
    let cf = db.default_cf();
    for _ in 0..2 {
        put(&db, &cf, b"k", Ack::Os, true);
        let ticket = flush(&db, &cf);
        finish(&db, &ticket);
    }
    let is_manifest = |path: &std::path::Path| path.to_string_lossy().contains("MANIFEST");
    for _ in 0..6 {
        let rule = fs.add(Rule::on(Op::SyncData).path(is_manifest).fail(Failure::EIO));
        db.compact(&cf, None, None).unwrap_err();
        fs.remove(rule);
    }
    db.compact(&cf, None, None).unwrap();
    while db.step() {}
    let is_table = |path: &std::path::Path| path.extension().is_some_and(|e| e == "sst");
    let tables = disk.list().iter().filter(|(path, _)| is_table(path)).count() as u64;
    assert_eq!(tables, db.stats().table_files, "tables that nothing names");
}

#[test]
fn a_close_ends_a_manual_compaction_before_the_directory_is_let_go_of() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Stepped)).unwrap();
    let cf = db.default_cf();
    for _ in 0..2 {
        put(&db, &cf, b"k", Ack::Os, true);
        let ticket = flush(&db, &cf);
        finish(&db, &ticket);
    }
    // Hold the compaction in the middle of its output.
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".sst").hold(&gate));
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| db.compact(&cf, None, None));
        gate.wait_until_reached();
        db.close(false).unwrap();
        let manifests = |disk: &MemFs| disk.list().into_iter().collect::<Vec<_>>();
        let before = manifests(&disk).iter().find(|(p, _)| is_named(p, "MANIFEST")).cloned();
        gate.open();
        assert_eq!(compaction.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        let after = manifests(&disk).iter().find(|(p, _)| is_named(p, "MANIFEST")).cloned();
        assert_eq!(before, after, "the manifest was written after the close");
    });
    let again = Db::open("/db", options(Arc::<MemFs>::clone(&disk), Background::Stepped)).unwrap();
    assert!(again.get(&again.default_cf(), b"k").unwrap().is_some());
}

fn is_named(path: &std::path::Path, name: &str) -> bool {
    path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name))
}

#[test]
fn p04_a_batch_to_a_dropped_family_is_refused_whole() {
    let (_disk, db) = stepped();
    let gone = db.create_column_family("gone", CfOptions::default()).unwrap();
    db.drop_column_family(&gone).unwrap();
    let before = (db.positions(), db.stats().memtable_bytes);
    let mut batch = WriteBatch::new();
    batch.put(&db.default_cf(), b"k", b"v");
    batch.put(&gone, b"k", b"v");
    let error = db.write(&batch, &WriteOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!((db.positions(), db.stats().memtable_bytes), before);
}

#[test]
fn p03_a_flush_with_nothing_to_write_leaves_the_sync_to_the_log() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let options = Options {
        wal_sync_interval: Duration::ZERO,
        ..options(Arc::new(fs.clone()), Background::Threads)
    };
    let db = Db::open("/db", options).unwrap();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    put(&db, &other, b"logged", Ack::Memory, true);
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").hold(&gate));
    // Nothing of the default family is in memory. This thread would stand at the gate if it
    // synced the log itself.
    let ticket = flush(&db, &db.default_cf());
    gate.wait_until_reached();
    assert!(ticket.poll().is_none(), "the log is not synced yet");
    let early = ticket.wait(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::TimedOut);
    gate.open();
    let report = ticket.wait(Some(NEVER)).unwrap();
    assert_eq!((report.entries, report.position), (0, ticket.position()));
    let after = cut(&disk);
    let other = after.column_family("other").unwrap();
    assert!(after.get(&other, b"logged").unwrap().is_some(), "the ticket's position is not safe");
}

#[test]
fn p06_a_sync_that_fails_reaches_the_ticket_of_an_empty_flush() {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let options = Options {
        wal_sync_interval: Duration::ZERO,
        ..options(Arc::new(fs.clone()), Background::Threads)
    };
    let db = Db::open("/db", options).unwrap();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    put(&db, &other, b"logged", Ack::Memory, true);
    fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").fail(Failure::EIO));
    let error = flush(&db, &db.default_cf()).wait(Some(NEVER)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}
