//! P9 to the last byte: a disk with no room at all, data in memory, and what becomes of both.
//!
//! The device is a `FaultFs` over a `MemFs`, so a byte more than it holds is `ENOSPC`. Most tests
//! step the background and move the clock themselves; those about who takes the room first use
//! the engine's threads and gates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_env::{
    CrashMode, Env, Failure, FaultFs, Fs, Gate, ManualClock, MemFs, Op, OpenMode, Rng, Rule,
};
use sluicedb::{
    Ack, Background, BackgroundError, Db, ErrorKind, FlushReport, FlushRequest, Options, Result,
    WriteBatch, WriteOptions,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

/// Long enough that only a wait which never ends reaches it.
const NEVER: Duration = Duration::from_secs(30);

const MEMTABLE: u64 = 64 << 10;
/// What is kept unless something else is asked for.
const RESERVE: u64 = MEMTABLE + (1 << 20);

/// Opens a gate when the test ends, by a panic too: the database's threads can then be joined.
struct OpensAtTheEnd(Gate);

impl Drop for OpensAtTheEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

struct Run {
    disk: Arc<MemFs>,
    fs: FaultFs,
    clock: Arc<ManualClock>,
    reserve: Option<u64>,
    background: Background,
}

impl Run {
    fn new(reserve: Option<u64>) -> Run {
        Run::on(Arc::new(MemFs::new()), reserve)
    }

    fn on(disk: Arc<MemFs>, reserve: Option<u64>) -> Run {
        let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        Run { disk, fs, clock, reserve, background: Background::Stepped }
    }

    fn open(&self) -> Result<Db> {
        let options = Options {
            env: Env {
                fs: Arc::new(self.fs.clone()),
                clock: Arc::<ManualClock>::clone(&self.clock),
                threads: Env::os().threads,
            },
            background: self.background,
            memtable_bytes: MEMTABLE,
            memory_budget: 1 << 20,
            wal_segment_bytes: 64 << 10,
            wal_max_bytes: 1 << 20,
            block_bytes: 512,
            l0_compaction_trigger: 3,
            reserve_bytes: self.reserve,
            ..Options::default()
        };
        Db::open("/db", options)
    }

    /// Not a byte is left.
    fn fill_up(&self) {
        self.fs.set_capacity(Some(self.fs.used_bytes()));
        assert_eq!(self.fs.free_bytes(Path::new("/db")).unwrap(), 0);
    }

    /// What `ticket` of a flush of everything says, once the background has done its work.
    fn flush(&self, db: &Db) -> Result<FlushReport> {
        let ticket = db.flush(FlushRequest { allow_stall: true, ..FlushRequest::default() })?;
        if self.background == Background::Threads {
            return ticket.wait(Some(NEVER));
        }
        for _ in 0..1000 {
            if let Some(outcome) = ticket.poll() {
                return outcome;
            }
            assert!(db.step(), "a flush that nobody finishes");
        }
        panic!("a flush that never ends");
    }

    /// Everything the background does by itself in a while.
    fn settle(&self, db: &Db) {
        for _ in 0..4 {
            self.clock.advance_ms(70_000);
            while db.step() {}
        }
    }

    fn reserve_file(&self) -> Option<u64> {
        let files = self.disk.list();
        files.iter().find(|(path, _)| path.ends_with("RESERVE")).map(|(_, bytes)| *bytes)
    }

    /// Another process on what a crash left, on a device that is as full as it was.
    fn crashed(&self, mode: Option<CrashMode>, seed: u64) -> Run {
        let disk = match mode {
            None => self.disk.kill_clone(),
            Some(mode) => self.disk.crash_clone_as(mode, &mut Rng::new(seed)),
        };
        Run::on(Arc::new(disk), self.reserve)
    }
}

fn write(db: &Db, key: &str, value: &[u8], ack: Ack, wal: bool) -> Result<()> {
    let mut batch = WriteBatch::new();
    batch.put(&db.default_cf(), key.as_bytes(), value);
    let options = WriteOptions { ack, wal, deadline: Some(Duration::ZERO) };
    db.write(&batch, &options).map(drop)
}

fn key(n: usize) -> String {
    format!("key-{n:05}")
}

/// Bytes that do not compress.
fn value(n: usize) -> Vec<u8> {
    let mut rng = Rng::new(n as u64);
    (0..250).map(|_| rng.below(256) as u8).collect()
}

fn write_many(db: &Db, numbers: std::ops::Range<usize>, wal: bool) {
    let ack = if wal { Ack::Disk } else { Ack::Memory };
    for n in numbers {
        write(db, &key(n), &value(n), ack, wal).unwrap();
    }
}

/// Makes a table of level 0, and stops before the compaction that it may make due.
fn make_table(db: &Db, numbers: std::ops::Range<usize>) {
    write_many(db, numbers, true);
    let ticket = db.flush(FlushRequest::default()).unwrap();
    while ticket.poll().is_none() {
        assert!(db.step());
    }
}

#[track_caller]
fn assert_holds(db: &Db, numbers: std::ops::Range<usize>) {
    let cf = db.default_cf();
    for n in numbers {
        let found = db.get(&cf, key(n).as_bytes()).unwrap();
        assert!(found == Some(value(n)), "{} is gone or wrong", key(n));
    }
}

#[test]
fn p09_what_is_in_memory_gets_to_a_full_disk() {
    for wal in [true, false] {
        let run = Run::new(None);
        let db = run.open().unwrap();
        assert_eq!((db.stats().reserved_bytes, run.reserve_file()), (RESERVE, Some(RESERVE)));
        write_many(&db, 0..120, wal);
        run.fill_up();
        let report = run.flush(&db).unwrap();
        assert_eq!(report.entries, 120);
        let stats = db.stats();
        assert_eq!((stats.flush_failures, stats.flushes), (0, 1), "wal {wal}");
        assert_eq!((stats.reserved_bytes, run.reserve_file()), (0, None), "given up");
        assert_eq!(stats.background_errors, Vec::new());
        for mode in [None, Some(CrashMode::Nothing), Some(CrashMode::Subset)] {
            let after = run.crashed(mode, 7);
            assert_holds(&after.open().unwrap(), 0..120);
        }

        // Space comes back: the room is made again, and writing goes on, in the same process.
        run.fs.set_capacity(None);
        run.settle(&db);
        assert_eq!((db.stats().reserved_bytes, run.reserve_file()), (RESERVE, Some(RESERVE)));
        write_many(&db, 120..400, true);
        run.fill_up();
        run.flush(&db).unwrap();
        let after = run.crashed(Some(CrashMode::Nothing), 7);
        assert_holds(&after.open().unwrap(), 0..400);
    }
}

/// A disk with room for two thirds of the table, and a reserve of as much: what the first attempt
/// has written must be out of the way of the second.
#[test]
fn p09_the_failed_attempt_gives_its_space_back() {
    let run = Run::new(Some(20_000));
    let db = run.open().unwrap();
    write_many(&db, 0..100, true);
    run.fs.set_capacity(Some(run.fs.used_bytes() + 20_000));
    let report = run.flush(&db).unwrap();
    assert!((25_000..35_000).contains(&report.bytes_out), "{}", report.bytes_out);
    assert_eq!(db.stats().flush_failures, 0);
    assert_holds(&db, 0..100);
}

/// What the room is for: without it the same flush fails, and succeeds when there is space.
#[test]
fn p09_without_room_kept_the_flush_waits_for_space() {
    for wal in [true, false] {
        let run = Run::new(Some(0));
        let db = run.open().unwrap();
        write_many(&db, 0..120, wal);
        run.fill_up();
        assert_eq!(run.flush(&db).unwrap_err().kind(), ErrorKind::DiskFull);
        assert_eq!((db.stats().reserved_bytes, run.reserve_file()), (0, None));
        let standing = db.background_errors().remove(0);
        assert_eq!((standing.job, standing.kind), ("flush", ErrorKind::DiskFull));
        assert_eq!(standing.since_unix_ms, 1_700_000_000_000);
        assert!(!standing.blocks_writes && standing.retried && standing.attempts == 1);
        assert!(standing.to_string().starts_with("flush: flush column family 'default'"));
        run.clock.advance_ms(60_000);
        assert!(db.step() && db.background_errors()[0].attempts == 2, "tried by itself");
        assert_holds(&db, 0..120);
        run.fs.set_capacity(None);
        run.settle(&db);
        assert_eq!((db.background_errors(), db.stats().flushes), (Vec::new(), 1));
        assert_holds(&db, 0..120);
        assert_eq!(run.reserve_file(), None, "none was asked for");
    }
}

/// The table fits, the manifest's edit does not, at its write, its sync, or at the table's sync.
#[test]
fn p09_the_edit_of_the_manifest_has_room_too() {
    for (op, file) in [
        (Op::Write, "MANIFEST"),
        (Op::SyncData, "MANIFEST"),
        (Op::SyncData, ".sst"),
        (Op::SyncDir, ""),
    ] {
        let run = Run::new(None);
        let db = run.open().unwrap();
        write_many(&db, 0..50, false);
        let of_file = move |path: &Path| path.to_string_lossy().contains(file);
        let rule = run.fs.add(Rule::on(op).path(of_file).fail(Failure::ENOSPC));
        let report = run.flush(&db).unwrap_or_else(|error| panic!("{op:?} of {file}: {error}"));
        assert_eq!((report.entries, run.fs.fired(rule)), (50, 1));
        assert_eq!((db.stats().flush_failures, db.stats().reserved_bytes), (0, 0));
        assert_holds(&run.crashed(Some(CrashMode::Nothing), 3).open().unwrap(), 0..50);
        run.settle(&db);
        assert_eq!(db.stats().reserved_bytes, RESERVE, "{op:?} of {file}");
    }
}

#[test]
fn other_failures_leave_the_room_alone() {
    let run = Run::new(None);
    let db = run.open().unwrap();
    write_many(&db, 0..50, true);
    run.fs.add(Rule::on(Op::Write).path_ends_with(".sst").fail(Failure::EIO));
    assert_eq!(run.flush(&db).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(db.background_errors()[0].kind, ErrorKind::Io);
    assert_eq!((db.stats().reserved_bytes, run.reserve_file()), (RESERVE, Some(RESERVE)));
    run.flush(&db).unwrap();
}

/// The log would take the room as soon as it is there: a writer asks for a segment at the moment
/// when the flush has given it up and not used it yet.
#[test]
fn p09_writers_cannot_take_the_room_of_the_flush() {
    let mut run = Run::new(None);
    run.background = Background::Threads;
    let db = run.open().unwrap();
    write_many(&db, 0..120, true);
    run.fill_up();
    let gate = Gate::new();
    let _open = OpensAtTheEnd(gate.clone());
    // The first table is the one that finds the disk full.
    run.fs.add(Rule::on(Op::Create).path_ends_with(".sst").nth(2).hold(&gate));
    let ticket = db.flush(FlushRequest::default()).unwrap();
    gate.wait_until_reached();
    assert_eq!((db.stats().reserved_bytes, run.reserve_file()), (0, None));
    let free = run.fs.free_bytes(Path::new("/db")).unwrap();
    assert_eq!(free, RESERVE, "a segment would fit many times");
    let mut written = 120;
    let refused = loop {
        match write(&db, &key(written), &value(written), Ack::Os, true) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 2_000, "the log grows into the room of the flush");
    };
    assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused}");
    assert_eq!(run.fs.free_bytes(Path::new("/db")).unwrap(), free);
    assert_holds(&db, 0..written);
    gate.open();
    assert_eq!(ticket.wait(Some(NEVER)).unwrap().entries, 120);
    assert_eq!(db.stats().flush_failures, 0);
    // What the flush left over is anybody's now.
    write(&db, &key(written), &value(written), Ack::Disk, true).unwrap();
    let after = run.crashed(Some(CrashMode::Nothing), 1);
    assert_holds(&after.open().unwrap(), 0..written + 1);
}

#[test]
fn p09_a_compaction_gives_way_to_the_flush() {
    let mut run = Run::new(None);
    let db = run.open().unwrap();
    for _ in 0..3 {
        make_table(&db, 0..120);
    }
    // Closed before the compaction that the third table makes due. It begins as soon as the
    // database is open again, and waits with its first table open.
    db.close(false).unwrap();
    drop(db);
    run.background = Background::Threads;
    let tables = |nth| Rule::on(Op::Create).path_ends_with(".sst").nth(nth);
    let (compaction, flush) = (Gate::new(), Gate::new());
    run.fs.add(tables(1).hold(&compaction));
    let db = run.open().unwrap();
    let _open = [OpensAtTheEnd(compaction.clone()), OpensAtTheEnd(flush.clone())];
    compaction.wait_until_reached();
    write_many(&db, 200..260, true);
    run.fill_up();
    // The flush's first table finds the disk full; the second has the room, and waits before it
    // takes any of it.
    run.fs.add(tables(2).hold(&flush));
    let ticket = db.flush(FlushRequest::default()).unwrap();
    flush.wait_until_reached();
    assert_eq!(run.fs.free_bytes(Path::new("/db")).unwrap(), RESERVE);
    // The compaction goes on, with room all around it that is not for it.
    compaction.open();
    while db.stats().compaction_failures == 0 {
        std::thread::yield_now();
        assert_eq!(db.stats().compactions, 0, "it took the room of the flush");
    }
    assert_eq!(run.fs.free_bytes(Path::new("/db")).unwrap(), RESERVE);
    let error = db.background_errors().remove(0);
    assert_eq!((error.job, error.kind), ("compaction", ErrorKind::DiskFull));
    flush.open();
    assert_eq!(ticket.wait(Some(NEVER)).unwrap().entries, 60);
    assert_eq!(db.stats().flush_failures, 0);
    assert_holds(&db, 0..120);
    assert_holds(&db, 200..260);
    db.close(true).unwrap();
}

#[test]
fn p09_a_database_on_a_full_disk_opens() {
    let run = Run::new(None);
    let db = run.open().unwrap();
    write_many(&db, 0..120, true);
    for mode in [None, Some(CrashMode::Nothing), Some(CrashMode::Prefix)] {
        let after = run.crashed(mode, 11);
        // Every file is weighed as the opening finds it.
        for (path, _) in after.disk.list() {
            after.fs.open(&path, OpenMode::Read).unwrap();
        }
        let kept = after.reserve_file();
        after.fill_up();
        let db = match after.open() {
            Ok(db) => db,
            // The power cut took the file, or its size: there was nothing to give away.
            Err(error) if kept.is_none_or(|bytes| bytes < 4096) => {
                assert_eq!(error.kind(), ErrorKind::DiskFull);
                continue;
            }
            Err(error) => panic!("{mode:?}: {error}"),
        };
        assert_holds(&db, 0..120);
        // What the opening did not need of it is still there for the flush.
        after.flush(&db).unwrap();
        assert_holds(&db, 0..120);
        after.fs.set_capacity(None);
        after.settle(&db);
        assert_eq!(db.stats().reserved_bytes, RESERVE);
        write_many(&db, 120..200, true);
    }
}

#[test]
fn the_room_of_an_earlier_process_is_taken_over() {
    let run = Run::new(None);
    drop(run.open().unwrap());
    let mut again = run.crashed(None, 0);
    let allocations = again.fs.add(Rule::on(Op::Create).path_ends_with("RESERVE"));
    let db = again.open().unwrap();
    assert_eq!((db.stats().reserved_bytes, again.fs.seen(allocations)), (RESERVE, 0));
    drop(db);
    // Another size, and none at all.
    again.reserve = Some(100_000);
    assert_eq!(again.open().unwrap().stats().reserved_bytes, 100_000);
    assert_eq!(again.reserve_file(), Some(100_000));
    again.reserve = Some(0);
    assert_eq!(again.open().unwrap().stats().reserved_bytes, 0);
    assert_eq!(again.reserve_file(), None);
    // A file that was cut short is made whole.
    again.reserve = None;
    drop(again.open().unwrap());
    again.fs.open(Path::new("/db/RESERVE"), OpenMode::ReadWrite).unwrap().set_len(10).unwrap();
    assert_eq!(again.open().unwrap().stats().reserved_bytes, RESERVE);
}

#[test]
fn a_small_device_keeps_a_quarter_and_a_larger_one_more() {
    let run = Run::new(None);
    run.fs.set_capacity(Some(1_000_000));
    let db = run.open().unwrap();
    let kept = db.stats().reserved_bytes;
    assert!((200_000..250_000).contains(&kept), "{kept}");
    // A little more does not make it grow, a lot does, to the size that is wanted.
    run.fs.set_capacity(Some(1_050_000));
    run.settle(&db);
    assert_eq!(db.stats().reserved_bytes, kept);
    run.fs.set_capacity(Some(2_000_000));
    run.settle(&db);
    let more = db.stats().reserved_bytes;
    assert!(more > 2 * kept && more < RESERVE, "{more}");
    run.fs.set_capacity(None);
    run.settle(&db);
    assert_eq!((db.stats().reserved_bytes, run.reserve_file()), (RESERVE, Some(RESERVE)));
    // A larger memtable wants more.
    let tunables = sluicedb::Tunables { memtable_bytes: 2 * MEMTABLE, ..db.tunables() };
    db.set_tunables(&tunables).unwrap();
    run.settle(&db);
    assert_eq!(db.stats().reserved_bytes, RESERVE + MEMTABLE);
}

/// Keeping room fails nothing: neither the opening, nor writes, nor flushes.
#[test]
fn no_room_to_keep_is_no_error() {
    for op in [Op::Create, Op::Allocate, Op::FreeBytes] {
        let run = Run::new(None);
        let of_reserve = |path: &Path| !path.to_string_lossy().ends_with(".wal");
        let of_new = move |path: &Path| op == Op::FreeBytes || path.ends_with("RESERVE");
        let both = move |path: &Path| of_reserve(path) && of_new(path);
        let rule = run.fs.add(Rule::on(op).path(both).forever().fail(Failure::EIO));
        let db = run.open().unwrap();
        write_many(&db, 0..50, true);
        run.flush(&db).unwrap();
        run.settle(&db);
        assert_eq!((db.stats().reserved_bytes, run.reserve_file()), (0, None), "{op:?}");
        assert_eq!(db.background_errors(), Vec::new());
        let tried = run.fs.fired(rule);
        assert!((2..20).contains(&tried), "{op:?}: tried {tried} times");
        run.fs.remove(rule);
        run.settle(&db);
        assert_eq!(db.stats().reserved_bytes, RESERVE);
    }
}

/// Writers, flushes, crashes and a disk that is full again and again, for many seeds.
#[test]
fn p09_a_disk_that_fills_up_again_and_again() {
    let from = std::env::var("SLUICE_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let count = if std::env::var("SLUICE_SEED").is_ok() { 1 } else { 30 };
    for seed in from..from + count {
        println!("seed {seed}");
        fill_up_again_and_again(seed);
    }
}

fn fill_up_again_and_again(seed: u64) {
    let mut rng = Rng::new(seed);
    let run = Run::new([None, Some(20_000), Some(100_000)][rng.below(3) as usize]);
    let db = run.open().unwrap();
    let wal = !rng.one_in(3);
    let mut expected = BTreeMap::new();
    let mut refused = 0;
    for step in 0..1_500usize {
        match rng.below(100) {
            0..80 => {
                let name = key(rng.below(600) as usize);
                let ack = if !wal {
                    Ack::Memory
                } else if rng.one_in(4) {
                    Ack::Disk
                } else {
                    Ack::Os
                };
                match write(&db, &name, &value(step), ack, wal) {
                    Ok(()) => {
                        expected.insert(name, step);
                    }
                    Err(error) => {
                        let known = [ErrorKind::DiskFull, ErrorKind::Stalled];
                        assert!(known.contains(&error.kind()), "seed {seed}: {error:?}");
                        refused += 1;
                    }
                }
            }
            80..90 => drop(db.step()),
            90..96 => run.clock.advance_ms(rng.below(3_000)),
            96..98 => run.fs.set_capacity(Some(run.fs.used_bytes() + rng.below(20_000))),
            98 if rng.one_in(3) => run.fs.set_capacity(None),
            _ => {
                let free = run.fs.free_bytes(Path::new("/db")).unwrap();
                if let Err(error) = run.flush(&db) {
                    assert_eq!(error.kind(), ErrorKind::DiskFull, "seed {seed}, {free} bytes free");
                }
            }
        }
        if wal && step % 300 == 299 {
            let after = run.crashed(None, seed);
            check_model(&after.open().unwrap(), &expected, seed);
        }
    }
    check_model(&db, &expected, seed);
    run.fs.set_capacity(None);
    run.settle(&db);
    assert_eq!(db.background_errors(), Vec::<BackgroundError>::new(), "seed {seed}");
    assert!(db.stats().reserved_bytes >= 20_000, "seed {seed}");
    write(&db, "last", &value(0), if wal { Ack::Disk } else { Ack::Memory }, wal).unwrap();
    run.flush(&db).unwrap();
    let after = run.crashed(Some(CrashMode::Nothing), seed);
    check_model(&after.open().unwrap(), &expected, seed);
    assert!(refused < 1_500, "seed {seed}");
}

#[track_caller]
fn check_model(db: &Db, expected: &BTreeMap<String, usize>, seed: u64) {
    let cf = db.default_cf();
    for (name, step) in expected {
        let found = db.get(&cf, name.as_bytes()).unwrap();
        assert!(
            found == Some(value(*step)),
            "seed {seed}: {name} is not as written in step {step}"
        );
    }
}

/// The whole way over, with threads: the log is full, then memory is; reads go on; space comes
/// back, and so do writes, in the same process.
#[test]
fn p09_writing_resumes_by_itself_when_space_returns() {
    for wal in [true, false] {
        let mut run = Run::new(Some(0));
        run.background = Background::Threads;
        let db = run.open().unwrap();
        run.fs.set_capacity(Some(run.fs.used_bytes() + 100_000));
        let mut written = 0;
        let mut kinds = Vec::new();
        while written < 10_000 && !kinds.contains(&ErrorKind::DiskFull) {
            let ack = if wal { Ack::Os } else { Ack::Memory };
            match write_waiting(&db, written, ack, wal) {
                Ok(()) => written += 1,
                Err(error) => kinds.push(error.kind()),
            }
        }
        assert!(kinds.contains(&ErrorKind::DiskFull), "wal {wal}: never full");
        assert_holds(&db, 0..written);
        let (sender, receiver) = mpsc::channel();
        run.fs.set_capacity(None);
        db.on_room(Box::new(move || sender.send(()).unwrap()));
        // What waits after a failure is tried at once when a flush is asked for.
        run.flush(&db).unwrap();
        receiver.recv_timeout(NEVER).unwrap();
        write_waiting(&db, written, if wal { Ack::Disk } else { Ack::Memory }, wal).unwrap();
        run.flush(&db).unwrap();
        let after = run.crashed(Some(CrashMode::Nothing), 5);
        assert_holds(&after.open().unwrap(), 0..written + 1);
    }
}

fn write_waiting(db: &Db, n: usize, ack: Ack, wal: bool) -> Result<()> {
    let mut batch = WriteBatch::new();
    batch.put(&db.default_cf(), key(n).as_bytes(), &value(n));
    db.write(&batch, &WriteOptions { ack, wal, deadline: None }).map(drop)
}

/// A compaction that fails is left alone for longer and longer, and is tried when asked for.
#[test]
fn failed_compactions_back_off_and_a_flush_wakes_them() {
    let run = Run::new(Some(0));
    let db = run.open().unwrap();
    for _ in 0..3 {
        make_table(&db, 0..20);
    }
    // Only compactions make tables from now on.
    run.fs.add(Rule::on(Op::Create).path_ends_with(".sst").forever().fail(Failure::EIO));
    let failures = |db: &Db| {
        while db.step() {}
        db.stats().compaction_failures
    };
    assert_eq!(failures(&db), 1);
    let mut now = 0;
    let mut tried_at = Vec::new();
    let mut seen = 1;
    while tried_at.len() < 8 {
        run.clock.advance_ms(500);
        now += 500;
        let failed = failures(&db);
        if failed > seen {
            tried_at.push(now);
            seen = failed;
        }
    }
    let waits: Vec<_> = tried_at.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    assert_eq!((tried_at[0], waits), (1000, vec![2, 4, 8, 16, 32, 60, 60]));
    let error = db.background_errors().remove(0);
    assert_eq!((error.job, error.kind, error.attempts), ("compaction", ErrorKind::Io, 9));
    assert!(!error.blocks_writes && error.retried);
    // Somebody asks: tried at once.
    drop(db.flush(FlushRequest::default()).unwrap());
    assert_eq!(failures(&db), 10);
    run.fs.clear();
    drop(db.flush(FlushRequest::default()).unwrap());
    assert_eq!((failures(&db), db.stats().compactions), (10, 1));
    assert_eq!(db.background_errors(), Vec::new());
}

/// The error of a failed log: what it says, how it counts, and that it ends with the healing.
#[test]
fn a_failed_log_blocks_writes_until_it_is_healed() {
    let run = Run::new(None);
    let db = run.open().unwrap();
    write_many(&db, 0..10, true);
    run.fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").fail(Failure::EIO));
    // The log is healed in a new segment: there is no space for one.
    let full =
        run.fs.add(Rule::on(Op::Create).path_ends_with(".wal").forever().fail(Failure::ENOSPC));
    let failed = write(&db, &key(10), &value(10), Ack::Disk, true).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io);
    run.clock.advance_ms(1_000);
    while db.step() {}
    let standing = db.stats().background_errors.remove(0);
    assert_eq!((standing.job, standing.kind), ("log", ErrorKind::DiskFull), "{standing}");
    assert!(standing.blocks_writes && standing.retried && standing.attempts >= 2);
    let refused = write(&db, &key(11), &value(11), Ack::Os, true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused}");
    assert_eq!(db.stats().reserved_bytes, RESERVE, "that is for a flush");
    assert_holds(&db, 0..11);
    run.fs.remove(full);
    run.settle(&db);
    assert_eq!(db.background_errors(), Vec::new());
    write(&db, &key(11), &value(11), Ack::Disk, true).unwrap();
    let after = run.crashed(Some(CrashMode::Nothing), 2);
    assert_holds(&after.open().unwrap(), 0..12);
}

/// Installs go in order: a flush behind one that fails again and again is not done either.
#[test]
fn p06_who_waits_behind_a_failing_flush_hears_of_it() {
    let run = Run::new(Some(0));
    let db = run.open().unwrap();
    let everything = || FlushRequest { allow_stall: true, ..FlushRequest::default() };
    write_many(&db, 0..10, true);
    let first = db.flush(everything()).unwrap();
    write_many(&db, 10..20, true);
    let second = db.flush(everything()).unwrap();
    let no_tables =
        run.fs.add(Rule::on(Op::Create).path_ends_with(".sst").forever().fail(Failure::EIO));
    assert!(db.step());
    assert_eq!(first.poll().unwrap().unwrap_err().kind(), ErrorKind::Io);
    let heard = second.poll().unwrap().unwrap_err();
    assert!(heard.to_string().starts_with("an older flush comes first and failed"), "{heard}");
    // It keeps its place, and who asks again waits for the next attempt.
    let third = db.flush(everything()).unwrap();
    assert!(third.poll().is_none());
    run.fs.remove(no_tables);
    while db.step() {}
    assert_eq!(third.poll().unwrap().unwrap().position, second.position());
    assert_eq!(db.stats().flushes, 2);
}
