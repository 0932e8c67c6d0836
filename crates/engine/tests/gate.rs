//! The gate's own surface: positions and their waits, pausing, what can be seen of memtables and
//! the log.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_env::{Env, FaultFs, Fs, Gate, MemFs, Op, Rule};
use sluicedb::{
    Ack, Background, CfOptions, ColumnFamily, Db, ErrorKind, FlushReason, FlushRequest,
    MemtableState, Options, Position, WriteBatch, WriteOptions,
};
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

/// Long enough that only a wait which never ends reaches it.
const NEVER: Duration = Duration::from_secs(30);

fn options(fs: Arc<dyn Fs>, background: Background) -> Options {
    Options {
        env: Env::os().with_fs(fs),
        background,
        memtable_bytes: 4096,
        memtable_count: 3,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        ..Options::default()
    }
}

fn open(background: Background) -> (Arc<MemFs>, Db) {
    let disk = Arc::new(MemFs::new());
    let db = Db::open("/db", options(Arc::<MemFs>::clone(&disk), background)).unwrap();
    (disk, db)
}

fn put(db: &Db, cf: &ColumnFamily, key: &[u8], value: &[u8], wal: bool) -> Position {
    let mut batch = WriteBatch::new();
    batch.put(cf, key, value);
    let ack = Ack::Memory;
    db.write(&batch, &WriteOptions { ack, wal, ..WriteOptions::default() }).unwrap()
}

fn step_all(db: &Db) {
    while db.step() {}
}

#[test]
fn p06_a_wait_for_the_flushed_position_ends_with_the_flush_the_deadline_or_the_close() {
    let (_disk, db) = open(Background::Threads);
    let cf = db.default_cf();
    let first = put(&db, &cf, b"a", b"1", true);
    let early = db.wait_flushed(first, Some(Duration::ZERO)).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::TimedOut);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| db.wait_flushed(first, Some(NEVER)));
        db.flush(FlushRequest::default()).unwrap().wait(Some(NEVER)).unwrap();
        waiter.join().unwrap().unwrap();
    });
    db.wait_flushed(first, Some(Duration::ZERO)).unwrap();

    let second = put(&db, &cf, b"b", b"2", true);
    let (sender, told) = mpsc::channel();
    let late = sender.clone();
    db.on_flushed(first, Box::new(move |result| sender.send(result.is_ok()).unwrap()));
    assert!(told.recv_timeout(NEVER).unwrap(), "reached already: at once");
    db.on_flushed(second, Box::new(move |r| late.send(r.is_ok()).unwrap()));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| db.wait_flushed(second, None));
        db.close(false).unwrap();
        assert!(!told.recv_timeout(NEVER).unwrap(), "closed without the flush");
        assert_eq!(waiter.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_position_that_nobody_has_written_is_refused_at_once() {
    let (_disk, db) = open(Background::Threads);
    let written = put(&db, &db.default_cf(), b"a", b"1", true);
    let ahead = Position { seq: written.seq.next(), ..written };
    for error in [db.wait_flushed(ahead, None), db.wait_durable(ahead, None)] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let later = Position { epoch: written.epoch + 1, ..written };
    assert_eq!(db.wait_flushed(later, None).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn p06_a_wait_for_durability_syncs_the_log_and_ends_at_its_deadline() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let mut options = options(Arc::new(fs.clone()), Background::Threads);
    options.wal_sync_interval = Duration::ZERO;
    let db = Db::open("/db", options).unwrap();
    let cf = db.default_cf();
    let first = put(&db, &cf, b"a", b"1", true);
    assert!(db.positions().durable < first);
    db.wait_durable(first, Some(NEVER)).unwrap();
    assert!(db.positions().durable >= first);
    // A device that does not answer: the deadline ends the wait, the sync goes on.
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).hold(&gate));
    let second = put(&db, &cf, b"b", b"2", true);
    let late = db.wait_durable(second, Some(Duration::from_millis(1))).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    gate.open();
    db.wait_durable(second, Some(NEVER)).unwrap();
}

#[test]
fn what_no_log_has_is_durable_with_its_flush_and_not_before() {
    let (_disk, db) = open(Background::Stepped);
    let cf = db.default_cf();
    let logged = put(&db, &cf, b"a", b"1", true);
    let unlogged = put(&db, &cf, b"b", b"2", false);
    let after = put(&db, &cf, b"c", b"3", true);
    db.sync().unwrap();
    // The log covers what came before the unlogged entry, and nothing behind it counts.
    assert_eq!(db.positions().durable, logged);
    db.wait_durable(logged, Some(Duration::ZERO)).unwrap();
    assert_eq!(
        db.wait_durable(unlogged, Some(NEVER)).unwrap_err().kind(),
        ErrorKind::TimedOut,
        "no flush is under way"
    );
    db.flush(FlushRequest::default()).unwrap();
    db.wait_durable(after, Some(NEVER)).unwrap();
    assert_eq!(db.positions().durable, after);
}

#[test]
fn each_family_has_a_flushed_position_of_its_own() {
    let (_disk, db) = open(Background::Stepped);
    let (cf, other) =
        (db.default_cf(), db.create_column_family("other", CfOptions::default()).unwrap());
    let first = put(&db, &cf, b"a", b"1", true);
    let second = put(&db, &other, b"b", b"2", true);
    assert_eq!(db.flushed(&other).unwrap(), first, "what came before is none of its entries");
    db.flush(FlushRequest { cfs: vec![other.clone()], ..FlushRequest::default() }).unwrap();
    step_all(&db);
    assert_eq!(db.flushed(&other).unwrap(), second);
    assert!(db.flushed(&cf).unwrap() < first);
    assert!(db.positions().flushed < first, "overall the laggard counts");
    db.drop_column_family(&other).unwrap();
    assert_eq!(db.flushed(&other).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn paused_flushes_wait_and_asked_for_ones_go_on() {
    let (_disk, db) = open(Background::Stepped);
    let cf = db.default_cf();
    db.pause_flushes();
    assert!(db.flushes_paused());
    let value = vec![7; 1500];
    for key in 0..4_u8 {
        put(&db, &cf, &[key], &value, true);
    }
    step_all(&db);
    let sealed = |db: &Db| {
        db.memtables().iter().filter(|memtable| memtable.state == MemtableState::Sealed).count()
    };
    assert_eq!((sealed(&db), db.stats().flushes), (1, 0), "held back");
    // An explicit flush takes everything before it along.
    let ticket = db.flush(FlushRequest::default()).unwrap();
    step_all(&db);
    assert!(ticket.poll().unwrap().is_ok());
    assert_eq!((sealed(&db), db.stats().flushes), (0, 2));
    // Full memtables stall writes, and the text says what to do.
    let refused = (0..20_u8).find_map(|key| {
        let mut batch = WriteBatch::new();
        batch.put(&cf, &[key], &value);
        db.write(&batch, &WriteOptions { deadline: Some(Duration::ZERO), ..Default::default() })
            .err()
    });
    let refused = refused.unwrap();
    assert_eq!(refused.kind(), ErrorKind::Stalled);
    assert!(refused.to_string().contains("paused"), "{refused}");
    db.resume_flushes();
    step_all(&db);
    assert_eq!(sealed(&db), 0);
    put(&db, &cf, b"again", &value, true);
}

#[test]
fn every_memtable_is_listed_with_its_state() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Threads)).unwrap();
    let cf = db.default_cf();
    let gate = Gate::new();
    fs.add(
        Rule::on(Op::SyncData)
            .path(|path| path.extension().is_some_and(|extension| extension == "sst"))
            .hold(&gate),
    );
    let first = put(&db, &cf, b"a", b"1", true);
    let ticket = db.flush(FlushRequest::default()).unwrap();
    gate.wait_until_reached();
    let second = put(&db, &cf, b"b", b"22", true);
    let list = db.memtables();
    let brief: Vec<_> =
        list.iter().map(|one| (one.state, one.first, one.cut, one.reason)).collect();
    assert_eq!(
        brief,
        [
            (MemtableState::Active, Some(second), None, None),
            (MemtableState::Flushing, Some(first), Some(first), Some(FlushReason::Manual)),
        ]
    );
    assert!(list.iter().all(|one| one.entries == 1 && one.bytes > 0 && one.age.is_some()));
    gate.open();
    ticket.wait(Some(NEVER)).unwrap();
    assert_eq!(db.memtables().len(), 1);
}

#[test]
fn a_rotated_log_lets_go_of_what_tables_cover() {
    let (_disk, db) = open(Background::Threads);
    let cf = db.default_cf();
    put(&db, &cf, b"a", b"1", true);
    let before = db.log_info();
    assert_eq!(before.segments.len(), 1);
    db.rotate_log().unwrap();
    let rotated = db.log_info();
    assert_eq!(rotated.segments.len(), 2);
    assert!(rotated.segments[0].sealed && !rotated.segments[1].sealed);
    db.rotate_log().unwrap();
    assert_eq!(db.log_info().segments.len(), 2, "an empty segment stays the active one");
    let report = db.flush(FlushRequest::default()).unwrap().wait(Some(NEVER)).unwrap();
    assert!(report.wal_bytes_released > 0);
    assert_eq!(db.log_info().segments.len(), 1);
}

#[test]
fn p06_a_ticket_behind_a_flush_that_keeps_failing_hears_of_it() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Stepped)).unwrap();
    let cf = db.default_cf();
    put(&db, &cf, b"a", b"1", true);
    let first = db.flush(FlushRequest::default()).unwrap();
    put(&db, &cf, b"b", b"2", true);
    let second = db.flush(FlushRequest::default()).unwrap();
    // Only the first group's table fails, again and again; the second one is built and waits.
    let rule = fs.add(
        Rule::on(Op::Create)
            .path_ends_with(".sst")
            .nth(1)
            .fail(std::io::ErrorKind::PermissionDenied),
    );
    step_all(&db);
    assert!(first.poll().unwrap().is_err());
    assert!(second.poll().unwrap().is_err(), "it cannot be installed before the first");
    fs.remove(rule);
    let third = db.flush(FlushRequest::default()).unwrap();
    step_all(&db);
    assert!(third.poll().unwrap().unwrap().position >= second.position());
}

#[test]
fn p06_a_flush_that_is_asked_for_while_paused_makes_its_own_room() {
    for background in [Background::Stepped, Background::Threads] {
        let (_disk, db) = open(background);
        let cf = db.default_cf();
        db.pause_flushes();
        let no_wait = WriteOptions { deadline: Some(Duration::ZERO), ..WriteOptions::default() };
        let full = (0..100_u8).any(|key| {
            let mut batch = WriteBatch::new();
            batch.put(&cf, &[key], &[7; 1500]);
            db.write(&batch, &no_wait).is_err()
        });
        assert!(full && db.stats().flushes == 0);
        let request = FlushRequest { deadline: Some(NEVER), ..FlushRequest::default() };
        let ticket = db.flush(request).unwrap();
        if background == Background::Stepped {
            step_all(&db);
        }
        ticket.wait(Some(NEVER)).unwrap();
        assert!(db.flushes_paused());
    }
}

#[test]
fn what_was_unlogged_in_a_dropped_family_is_forgotten_with_the_next_flush() {
    let (_disk, db) = open(Background::Stepped);
    let scratch = CfOptions { wal: false, ..CfOptions::default() };
    let scratch = db.create_column_family("scratch", scratch).unwrap();
    put(&db, &scratch, b"a", b"1", true);
    db.drop_column_family(&scratch).unwrap();
    db.flush(FlushRequest::default()).unwrap();
    step_all(&db);
    assert_eq!((db.stats().unlogged_bytes, db.stats().unlogged_age), (0, None));
}

/// The log has failed and one thread builds what it was to keep: another finds nothing to do.
#[test]
fn a_second_flush_thread_does_not_spin_while_the_first_rescues_a_failed_log() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let db = Db::open("/db", options(Arc::new(fs.clone()), Background::Stepped)).unwrap();
    let cf = db.default_cf();
    put(&db, &cf, b"a", b"1", true);
    step_all(&db);
    let ends = |end: &'static str| {
        move |path: &std::path::Path| path.extension().is_some_and(|e| e == end)
    };
    fs.add(Rule::on(Op::SyncData).path(ends("wal")).fail(sluice_env::Failure::EIO));
    assert!(db.sync().is_err());
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path(ends("sst")).hold(&gate));
    std::thread::scope(|scope| {
        let builder = scope.spawn(|| db.step());
        gate.wait_until_reached();
        let idle = (0..1000).any(|_| !db.step());
        gate.open();
        assert!(builder.join().unwrap());
        assert!(idle, "there was nothing to do");
    });
}

#[test]
fn p06_a_position_whose_frame_was_lost_with_the_log_is_not_waited_for_for_ever() {
    let (disk, db) = open(Background::Stepped);
    let cf = db.default_cf();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    put(&db, &cf, b"a", b"1", true);
    db.rotate_log().unwrap();
    put(&db, &other, b"b", b"2", true);
    db.flush(FlushRequest { cfs: vec![other], ..FlushRequest::default() }).unwrap();
    step_all(&db);
    let segments = db.log_info().segments;
    assert_eq!(segments.len(), 2);
    db.close(false).unwrap();
    let last = segments.last().unwrap().number;
    disk.remove_file(std::path::Path::new(&format!("/db/{last}.wal"))).unwrap();
    let options = Options {
        wal_recovery: sluicedb::WalRecovery::Salvage,
        ..options(Arc::<MemFs>::clone(&disk), Background::Threads)
    };
    let db = Db::open("/db", options).unwrap();
    let positions = db.positions();
    assert!(positions.durable < positions.visible, "{positions:?}");
    db.wait_durable(positions.visible, Some(NEVER)).unwrap();
}

#[test]
fn a_stall_that_nobody_comes_back_to_ends_with_the_room() {
    let (_disk, db) = open(Background::Stepped);
    let cf = db.default_cf();
    db.pause_flushes();
    let no_wait = WriteOptions { deadline: Some(Duration::ZERO), ..WriteOptions::default() };
    let full = (0..100_u8).any(|key| {
        let mut batch = WriteBatch::new();
        batch.put(&cf, &[key], &[7; 1500]);
        db.write(&batch, &no_wait).is_err()
    });
    assert!(full && db.stats().stalled.is_some());
    db.resume_flushes();
    step_all(&db);
    assert_eq!(db.stats().stalled, None);
}

/// The last handle may be dropped by a callback: on a thread that the close would wait for.
#[test]
fn p06_a_callback_may_drop_the_last_handle() {
    type Ask = fn(&Db, Position, Box<dyn FnOnce() + Send>);
    let ways: [Ask; 3] = [
        |db, at, run| db.on_flushed(at, Box::new(move |_| run())),
        |db, at, run| db.on_durable(at, Box::new(move |_| run())),
        |db, _, run| db.flush(FlushRequest::default()).unwrap().on_done(move |_| run()),
    ];
    for (way, ask) in ways.into_iter().enumerate() {
        let (disk, db) = open(Background::Threads);
        let written = put(&db, &db.default_cf(), b"a", b"1", true);
        let events = db.subscribe(sluicedb::EventOptions::default());
        let (last, (go, gone), (done, ended)) = (db.clone(), mpsc::channel(), mpsc::channel());
        let run = move || {
            gone.recv_timeout(NEVER).unwrap();
            drop(last);
            done.send(()).unwrap();
        };
        ask(&db, written, Box::new(run));
        if way == 0 {
            db.flush(FlushRequest::default()).unwrap();
        }
        drop(db);
        go.send(()).unwrap();
        ended.recv_timeout(NEVER).unwrap_or_else(|_| panic!("way {way}: the callback panicked"));
        assert!(events.iter().count() > 0, "way {way}: and the subscription ends");
        Db::open("/db", options(disk, Background::Stepped)).unwrap();
    }
}
