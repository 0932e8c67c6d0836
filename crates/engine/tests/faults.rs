//! Every call to the file system that changes something, and every read, fails once, at every place
//! where it can.
//!
//! Each scenario is run with the first such call failing, then the second, and so on, until a run
//! makes fewer calls than that. After every failure: what was visible still reads right, every
//! wait has ended, what a kill and what a power cut leave is a prefix with everything that was
//! acknowledged in it, the same work succeeds once the cause is gone, and the next opening leaves
//! no file behind that nothing names.
//!
//! The background is stepped by the test and the clock is moved by it, so a failure is found again
//! by the scenario's name, the way of failing and n, which every message carries.
//!
//! | scenario | where | ways of failing |
//! |---|---|---|
//! | open: a new directory | here | all of [`WAYS`] |
//! | open: after a kill; with a torn tail; with many segments; flushing while it replays; on a disk that is full at first | here, `faults/recovery.rs` | all |
//! | first writes, log rotation by size; by request, with recycled segments | here, `faults/log.rs` | all |
//! | flush of all families, of one, by themselves under load; without a log; using the reserve | here, `faults/log.rs`, `faults/gate.rs` | all |
//! | compaction | here | all |
//! | families made and dropped | here | all |
//! | manifest that rotates | `faults/gate.rs` | all |
//! | options changed while running | `faults/gate.rs` | all |
//! | close, with a flush and without | here | all |
//! | checkpoint: by links, at rest, by copies, over a stale attempt | `checkpoint/faults.rs` | all, and links and directories |
//! | a disk that fills up, stays full, gets room back | here, `disk_full.rs` | ENOSPC for as long as it lasts |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "faults/gate.rs"]
mod gate;
#[path = "faults/log.rs"]
mod log;
#[path = "faults/recovery.rs"]
mod recovering;

use sluice_env::{CrashMode, Env, Failure, FaultFs, Fs, ManualClock, MemFs, Op, Rng, Rule};
use sluicedb::{
    Ack, Background, CfOptions, ColumnFamily, Db, Error, ErrorKind, FlushRequest, FlushTicket,
    Options, ReadOptions, Result, WriteBatch, WriteOptions,
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

const FAMILIES: [&str; 3] = ["default", "one", "two"];
const MARK: &[u8] = b"mark";
const COUNTER: u32 = 3;

/// More failing calls than any scenario makes: a loop that gets there never ends.
const CALLS_MAX: u64 = 2_000;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Any changing call does nothing and fails.
    Fails(Failure),
    /// A read fails.
    ReadFails,
    /// A write leaves some bytes and fails.
    Torn,
    /// A write moves some bytes and says so: nothing may come of it.
    Short,
    /// A call of the kind is carried out, and says that it failed.
    FailsAfter(Op),
    /// Nothing works from the call on.
    Dies,
}

const WAYS: [Way; 14] = [
    Way::Fails(Failure::EIO),
    Way::Fails(Failure::ENOSPC),
    Way::ReadFails,
    Way::Torn,
    Way::Short,
    Way::FailsAfter(Op::Create),
    Way::FailsAfter(Op::Write),
    Way::FailsAfter(Op::Allocate),
    Way::FailsAfter(Op::SetLen),
    Way::FailsAfter(Op::SyncData),
    Way::FailsAfter(Op::Rename),
    Way::FailsAfter(Op::RemoveFile),
    Way::FailsAfter(Op::SyncDir),
    Way::Dies,
];

/// A database on a disk that fails, and what it must hold: batch `n` is a function of `n`.
struct Run {
    disk: Arc<MemFs>,
    fs: FaultFs,
    clock: Arc<ManualClock>,
    /// Batches that are visible.
    written: u64,
    /// Batches that a kill, and that a power cut, must leave.
    kill_floor: u64,
    power_floor: u64,
    /// The directory holds a database: a failed creation may leave none.
    created: bool,
    /// False: batches are not logged, and only a flush keeps them.
    logged: bool,
    /// What this run changes in the options.
    tweak: fn(&mut Options),
    label: String,
}

fn options(fs: Arc<dyn Fs>, clock: Arc<ManualClock>) -> Options {
    let os = Env::os();
    Options {
        env: Env { fs, clock, threads: os.threads },
        background: Background::Stepped,
        memtable_bytes: 16 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        table_bytes: 4096,
        level_base_bytes: 8 << 10,
        block_bytes: 512,
        l0_compaction_trigger: 3,
        // As much as a memtable: a disk that fills up is full soon after it was given up.
        reserve_bytes: Some(16 << 10),
        ..Options::default()
    }
}

fn families(db: &Db) -> Result<Vec<ColumnFamily>> {
    let find = |name: &&str| match db.column_family(name) {
        Some(cf) => Ok(cf),
        None => db.create_column_family(name, CfOptions::default()),
    };
    FAMILIES.iter().map(find).collect()
}

/// The puts and deletes of batch `n`, by family.
fn rows(n: u64) -> Vec<(usize, Vec<u8>, Option<Vec<u8>>)> {
    let mark = n.to_string().into_bytes();
    let mut rows: Vec<_> = (0..3).map(|cf| (cf, MARK.to_vec(), Some(mark.clone()))).collect();
    let key = |n: u64| format!("k{:02}", n * 7 % 23).into_bytes();
    rows.push(((n % 3) as usize, key(n), Some(vec![n as u8; 180])));
    if n.is_multiple_of(4) {
        rows.push(((n / 4 % 3) as usize, key(n / 4), None));
    }
    rows
}

type Model = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

fn model(count: u64) -> Model {
    let mut model = Model::new();
    for (cf, key, value) in (1..=count).flat_map(rows) {
        match value {
            Some(value) => model.insert((cf, key), value),
            None => model.remove(&(cf, key)),
        };
    }
    model
}

/// What `db` holds. Checks that every key reads the same through the cursor, backwards, and alone.
fn contents(db: &Db) -> Result<Model> {
    let mut found = Model::new();
    for (index, name) in FAMILIES.iter().enumerate() {
        let Some(cf) = db.column_family(name) else { continue };
        let mut iter = db.iter(&cf, ReadOptions::default())?;
        let mut on = iter.seek_to_first()?;
        while on {
            assert_eq!(db.get(&cf, iter.key())?.as_deref(), Some(iter.value()));
            found.insert((index, iter.key().to_vec()), iter.value().to_vec());
            on = iter.next()?;
        }
        let mut back = 0;
        let mut on = iter.seek_to_last()?;
        while on {
            back += 1;
            on = iter.prev()?;
        }
        assert_eq!(back, found.keys().filter(|(cf, _)| *cf == index).count());
    }
    Ok(found)
}

fn mark(found: &Model) -> u64 {
    let of = |cf| found.get(&(cf, MARK.to_vec())).map_or("0", |v| std::str::from_utf8(v).unwrap());
    let marks: Vec<u64> = (0..3).map(|cf| of(cf).parse().unwrap()).collect();
    assert!(marks.iter().all(|mark| *mark == marks[0]), "families at different points: {marks:?}");
    marks[0]
}

impl Run {
    fn new(label: String) -> Run {
        let disk = Arc::new(MemFs::new());
        let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        Run {
            disk,
            fs,
            clock,
            written: 0,
            kill_floor: 0,
            power_floor: 0,
            created: false,
            logged: true,
            tweak: |_| {},
            label,
        }
    }

    fn options(&self, fs: Arc<dyn Fs>, clock: Arc<ManualClock>) -> Options {
        let mut options = options(fs, clock);
        (self.tweak)(&mut options);
        options
    }

    fn open(&mut self) -> Result<Db> {
        let clock = Arc::clone(&self.clock);
        let db = Db::open("/db", self.options(Arc::new(self.fs.clone()), clock))?;
        families(&db)?;
        self.created = true;
        Ok(db)
    }

    /// Writes the next batch.
    fn write(&mut self, db: &Db, ack: Ack) -> Result<()> {
        let cfs = families(db)?;
        let number = self.written + 1;
        let mut batch = WriteBatch::new();
        for (cf, key, value) in rows(number) {
            match value {
                Some(value) => batch.put(&cfs[cf], &key, &value),
                None => batch.delete(&cfs[cf], &key),
            }
        }
        batch.add_counter(&cfs[1], COUNTER, 1);
        let ack = if self.logged { ack } else { Ack::Memory };
        let options = WriteOptions { ack, wal: self.logged, ..WriteOptions::default() };
        let outcome = db.write(&batch, &options);
        let visible = db.counter(&cfs[1], COUNTER) as u64;
        match &outcome {
            Ok(_) => assert_eq!(visible, number, "{}", self.label),
            Err(error) => {
                assert!(visible == number || visible == self.written, "{}", self.label);
                let refused = [ErrorKind::Stalled, ErrorKind::Closed, ErrorKind::ReadOnly];
                if refused.contains(&error.kind()) {
                    assert_eq!(visible, self.written, "{}: P4, {error}", self.label);
                }
            }
        }
        self.written = visible;
        outcome?;
        if ack >= Ack::Os {
            self.kill_floor = number;
        }
        if ack == Ack::Disk {
            self.power_floor = number;
        }
        Ok(())
    }

    fn all_safe(&mut self) {
        self.kill_floor = self.written;
        self.power_floor = self.written;
    }

    /// Steps until the ticket has ended. Once no step is left, time passes; and when that does not
    /// end the wait either, nothing would.
    fn finish(&self, db: &Db, ticket: &FlushTicket) -> Result<()> {
        for _ in 0..1000 {
            if let Some(outcome) = ticket.poll() {
                return outcome.map(|report| assert!(report.position >= ticket.position()));
            }
            if !db.step() {
                self.clock.advance_ms(10_000);
            }
        }
        panic!("{}: a flush that never ends (P6)", self.label);
    }

    fn flush(&mut self, db: &Db, cfs: Vec<ColumnFamily>) -> Result<()> {
        let ticket = db.flush(FlushRequest { cfs, allow_stall: true, ..Default::default() })?;
        self.finish(db, &ticket)?;
        self.all_safe();
        Ok(())
    }

    /// Lets the background do everything it can, retries included.
    fn settle(&self, db: &Db) {
        for _ in 0..4 {
            self.clock.advance_ms(20_000);
            for step in 0.. {
                assert!(step < 10_000, "{}: the background never rests", self.label);
                if !db.step() {
                    break;
                }
            }
        }
    }

    /// What is visible reads right.
    fn check(&self, db: &Db) {
        let found = contents(db).unwrap_or_else(|error| panic!("{}: {error}", self.label));
        assert_eq!(found, model(self.written), "{}: at batch {}", self.label, self.written);
    }

    /// Opens what a kill and what power cuts leave of the disk as it is now.
    fn check_crashes(&self, rng: &mut Rng) {
        let label = &self.label;
        self.check_recovery(self.disk.kill_clone(), self.kill_floor, "kill");
        for mode in [CrashMode::Nothing, CrashMode::Prefix, CrashMode::Subset] {
            let seed = rng.next_u64();
            let disk = self.disk.crash_clone_as(mode, &mut Rng::new(seed));
            self.check_recovery(disk, self.power_floor, &format!("{mode:?} seed {seed}"));
        }
        assert!(!label.is_empty());
    }

    fn check_recovery(&self, disk: MemFs, floor: u64, how: &str) {
        let label = format!("{}, after {how}", self.label);
        let disk = Arc::new(disk);
        let clock = Arc::new(ManualClock::new(1_800_000_000_000));
        let again = self.options(Arc::<MemFs>::clone(&disk), clock);
        let db = Db::open("/db", again).unwrap_or_else(|error| panic!("{label}: {error}"));
        let found = contents(&db).unwrap_or_else(|error| panic!("{label}: {error}"));
        let count = mark(&found);
        assert!(count >= floor, "{label}: {count} batches of at least {floor}");
        assert!(count <= self.written, "{label}: batch {count} was never written");
        assert_eq!(found, model(count), "{label}: not the state after batch {count}");
        if let Some(cf) = db.column_family("one") {
            assert_eq!(db.counter(&cf, COUNTER) as u64, count, "{label}: the counter");
        }
        assert!(db.column_family("default").is_some(), "{label}: no default family");
        check_files(&db, &disk, &label);
        // It is a whole database: it takes writes, flushes and closes.
        let cf = db.default_cf();
        db.put(&cf, b"after", b"it").unwrap_or_else(|error| panic!("{label}: {error}"));
        db.close(true).unwrap_or_else(|error| panic!("{label}: {error}"));
    }
}

/// After an opening every file is one that something names.
fn check_files(db: &Db, disk: &MemFs, label: &str) {
    while db.step() {}
    let names: Vec<String> =
        disk.list().iter().map(|(path, _)| path.display().to_string()).collect();
    let count = |what: &dyn Fn(&str) -> bool| names.iter().filter(|name| what(name)).count() as u64;
    let tables = count(&|name| name.ends_with(".sst"));
    assert_eq!(tables, db.stats().table_files, "{label}: tables that nothing names: {names:?}");
    assert_eq!(count(&|name| name.contains("MANIFEST")), 1, "{label}: {names:?}");
    assert_eq!(count(&|name| name.contains(".tmp")), 0, "{label}: {names:?}");
    let logs = count(&|name| name.ends_with(".wal"));
    assert!(logs <= db.stats().wal_segments + 1, "{label}: {names:?}");
}

impl Way {
    fn arm(self, fs: &FaultFs, n: u64) -> Option<sluice_env::RuleId> {
        match self {
            Way::Fails(failure) => fs.fail_nth(n, failure),
            Way::Dies => fs.kill_after(n),
            Way::ReadFails => return Some(fs.add(Rule::on(Op::Read).nth(n).fail(Failure::EIO))),
            Way::Torn => return Some(fs.add(Rule::on(Op::Write).nth(n).torn(17, Failure::EIO))),
            Way::Short => return Some(fs.add(Rule::on(Op::Write).nth(n).short(5))),
            Way::FailsAfter(op) => {
                return Some(fs.add(Rule::on(op).nth(n).fail_after(Failure::EIO)));
            }
        }
        None
    }
}

/// Runs `act` behind `setup`, with every changing call of `act` failing in turn.
///
/// `act` gets the open database, or `None` when it is to open it itself.
fn every_call_fails(
    name: &str,
    setup: impl Fn(&mut Run) -> Option<Db>,
    act: impl Fn(&mut Run, Option<Db>) -> Result<Db>,
) {
    for way in WAYS {
        let mut n = 0;
        loop {
            n += 1;
            assert!(n < CALLS_MAX, "{name}, {way:?}: no clean pass");
            if one_call_fails(name, way, n, &setup, &act) {
                break;
            }
        }
        println!("{name}, {way:?}: {} failures", n - 1);
    }
}

/// One failure; true when the scenario made fewer calls than `n`.
fn one_call_fails(
    name: &str,
    way: Way,
    n: u64,
    setup: &impl Fn(&mut Run) -> Option<Db>,
    act: &impl Fn(&mut Run, Option<Db>) -> Result<Db>,
) -> bool {
    let mut run = Run::new(format!("{name}, {way:?}, n {n}"));
    let mut rng = Rng::new(n * 31 + name.len() as u64);
    let label = run.label.clone();
    let db = setup(&mut run);
    let keep = db.clone();
    let rule = way.arm(&run.fs, n);
    let outcome = act(&mut run, db);
    let struck = match rule {
        Some(rule) => run.fs.fired(rule) > 0,
        None => run.fs.calls_seen() >= n,
    };
    if let Err(error) = &outcome
        && (!struck || way == Way::Short)
    {
        panic!("{label}: nothing failed, and yet: {error}");
    }
    let closed = |error: &Error| error.kind() == ErrorKind::Closed;
    if way == Way::Dies && struck {
        // The machine is gone: only what is on its disk counts.
        run.check_crashes(&mut rng);
        return false;
    }
    run.fs.clear();
    run.check_crashes(&mut rng);
    // The process that saw the failure goes on.
    let db = match outcome {
        Ok(db) => Some(db),
        Err(_) => keep,
    };
    if let Some(db) = db {
        run.check(&db);
        // With half of the healing done as well as with all of it.
        for _ in 0..4 {
            db.step();
            run.check_crashes(&mut rng);
        }
        run.settle(&db);
        run.check(&db);
        let alive = match run.write(&db, Ack::Disk) {
            Ok(()) => true,
            Err(error) => {
                assert!(closed(&error), "{label}: writing does not come back: {error}");
                false
            }
        };
        if alive {
            run.flush(&db, Vec::new())
                .unwrap_or_else(|error| panic!("{label}: a retry fails: {error}"));
            assert_eq!(db.stats().background_errors, Vec::new(), "{label}");
            assert_eq!(db.stats().sealed_memtables, 0, "{label}");
        }
        run.check(&db);
        run.check_crashes(&mut rng);
        if alive {
            db.close(false).unwrap_or_else(|error| panic!("{label}: {error}"));
        }
    }
    let db = run.open().unwrap_or_else(|error| panic!("{label}: reopen: {error}"));
    let count = mark(&contents(&db).unwrap());
    assert!(count >= run.kill_floor && count <= run.written, "{label}: reopened at {count}");
    run.written = count;
    run.check(&db);
    check_files(&db, &run.disk, &label);
    for ack in [Ack::Memory, Ack::Os, Ack::Disk] {
        run.write(&db, ack).unwrap_or_else(|error| panic!("{label}: reopened: {error}"));
    }
    run.check_crashes(&mut rng);
    db.close(true).unwrap_or_else(|error| panic!("{label}: {error}"));
    !struck
}

/// A database with `batches` in it, some of them in tables.
fn filled(run: &mut Run, batches: u64, flush_every: u64) -> Db {
    let db = run.open().unwrap();
    for number in 1..=batches {
        let ack = [Ack::Memory, Ack::Os, Ack::Disk][number as usize % 3];
        run.write(&db, ack).unwrap();
        if flush_every > 0 && number % flush_every == 0 {
            run.flush(&db, Vec::new()).unwrap();
        }
    }
    db
}

#[test]
fn opening_a_new_database() {
    every_call_fails("create", |_| None, |run, _| run.open());
}

#[test]
fn first_writes_and_log_rotations() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        for number in 0..24 {
            run.write(&db, [Ack::Memory, Ack::Os, Ack::Disk][number % 3])?;
            // What a write of the log's background would do.
            db.step();
        }
        db.sync()?;
        run.all_safe();
        Ok(db)
    };
    every_call_fails("write", |run| Some(run.open().unwrap()), act);
}

#[test]
fn flush_of_all_families() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        run.flush(&db, Vec::new())?;
        Ok(db)
    };
    every_call_fails("flush", |run| Some(filled(run, 17, 0)), act);
}

#[test]
fn flush_of_one_family_while_others_stay_in_memory() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        let cfs = families(&db)?;
        run.flush(&db, vec![cfs[1].clone()])?;
        run.write(&db, Ack::Memory)?;
        run.flush(&db, vec![cfs[2].clone()])?;
        Ok(db)
    };
    every_call_fails("flush one", |run| Some(filled(run, 11, 0)), act);
}

#[test]
fn flushes_by_themselves_under_writes() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        for number in 0..70 {
            run.write(&db, if number % 9 == 0 { Ack::Disk } else { Ack::Memory })?;
            db.step();
        }
        Ok(db)
    };
    every_call_fails("load", |run| Some(filled(run, 2, 0)), act);
}

#[test]
fn compaction() {
    let act = |_: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        let cfs = families(&db)?;
        for cf in &cfs {
            db.compact(cf, None, None)?;
        }
        Ok(db)
    };
    every_call_fails("compact", |run| Some(filled(run, 24, 12)), act);
}

#[test]
fn recovery() {
    let setup = |run: &mut Run| {
        let db = filled(run, 30, 13);
        run.disk = Arc::new(run.disk.kill_clone());
        run.written = mark(&contents(&db).unwrap());
        drop(db);
        run.fs = FaultFs::new(Arc::<MemFs>::clone(&run.disk));
        // The last batches were acknowledged at `Memory`: the process took them with it.
        run.written = run.written.max(run.kill_floor);
        None
    };
    every_call_fails("recover", setup, |run, _| {
        let db = run.open()?;
        run.written = mark(&contents(&db)?);
        Ok(db)
    });
}

#[test]
fn families_come_and_go() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        let extra = match db.column_family("extra") {
            Some(cf) => cf,
            None => db.create_column_family("extra", CfOptions::default())?,
        };
        db.put(&extra, b"k", b"v")?;
        run.flush(&db, vec![extra.clone()])?;
        db.put(&extra, b"k", b"w")?;
        assert_eq!(db.get(&extra, b"k")?.as_deref(), Some(&b"w"[..]));
        db.drop_column_family(&extra)?;
        assert!(db.column_family("extra").is_none());
        run.write(&db, Ack::Os)?;
        Ok(db)
    };
    every_call_fails("families", |run| Some(filled(run, 5, 0)), act);
}

#[test]
fn closing() {
    for flush in [false, true] {
        let act = move |run: &mut Run, db: Option<Db>| {
            let db = db.unwrap();
            db.close(flush)?;
            run.all_safe();
            Ok(db)
        };
        every_call_fails(&format!("close({flush})"), |run| Some(filled(run, 9, 0)), act);
    }
}

/// Writes until the disk is full and on, then gives room back.
#[test]
fn p09_a_full_disk_refuses_writes_and_comes_back_by_itself() {
    for room in [0, 100, 3_000, 5_000, 20_000] {
        let mut run = Run::new(format!("full disk, {room} bytes left"));
        let label = run.label.clone();
        let db = filled(&mut run, 20, 9);
        run.fs.set_capacity(Some(run.fs.used_bytes() + room));
        let mut refused = 0;
        for number in 0..400u64 {
            let ack = [Ack::Memory, Ack::Os, Ack::Disk][number as usize % 3];
            if let Err(error) = run.write(&db, ack) {
                let kinds = [ErrorKind::DiskFull, ErrorKind::Stalled];
                assert!(kinds.contains(&error.kind()), "{label}: {error:?}");
                refused += 1;
                run.clock.advance_ms(1_000);
            }
            db.step();
            if number % 50 == 0 {
                run.check(&db);
            }
        }
        assert!(refused > 0, "{label}: never full");
        run.check(&db);
        run.check_crashes(&mut Rng::new(room));
        run.fs.set_capacity(None);
        run.settle(&db);
        run.write(&db, Ack::Disk).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!(db.stats().background_errors, Vec::new(), "{label}");
        run.check(&db);
        run.check_crashes(&mut Rng::new(room));
        db.close(true).unwrap();
        let db = run.open().unwrap();
        run.check(&db);
        check_files(&db, &run.disk, &label);
    }
}

#[test]
fn the_lock_file_is_let_go_of_by_a_failed_opening() {
    let mut run = Run::new("lock".into());
    run.fs.fail_nth(5, Failure::EIO);
    run.open().unwrap_err();
    run.fs.clear();
    let db = run.open().unwrap();
    assert!(run.disk.exists(Path::new("/db/LOCK")).unwrap());
    assert_eq!(run.open().unwrap_err().kind(), ErrorKind::Locked);
    drop(db);
    run.open().unwrap();
}
