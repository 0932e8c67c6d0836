//! A database on a disk that crashes and fails, and the words the tests of defects are told in.
//!
//! The disk is a [`MemFs`] under a [`FaultFs`]; what a kill or a power cut leaves of it is another
//! [`Disk`]. Memtables, segments and blocks are tiny, so that a few dozen rows rotate all of them.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_env::{CrashMode, Env, FaultFs, Fs, Gate, ManualClock, MemFs, Op, Rng, Rule};
use sluicedb::{
    Ack, Background, ColumnFamily, Db, FlushRequest, FlushTicket, Options, Position, ReadOptions,
    Result, WriteBatch, WriteOptions,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Long enough that only a wait which never ends reaches it.
pub const NEVER: Duration = Duration::from_secs(30);

/// More calls than any scenario makes: a loop that gets there never ends.
const CALLS_MAX: u64 = 3_000;

/// The rows of one family.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What every opening of these tests begins with.
pub fn small(fs: Arc<dyn Fs>, background: Background) -> Options {
    Options {
        env: Env::os().with_fs(fs),
        background,
        memtable_bytes: 4096,
        memtable_count: 5,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        table_bytes: 4096,
        level_base_bytes: 8 << 10,
        block_bytes: 512,
        l0_compaction_trigger: 100,
        l0_stop: 200,
        ..Options::default()
    }
}

/// A disk, the disturbances on it, and a clock that stands still.
pub struct Disk {
    pub mem: Arc<MemFs>,
    pub fs: FaultFs,
    pub clock: Arc<ManualClock>,
}

impl Disk {
    pub fn new() -> Disk {
        Disk::of(MemFs::new())
    }

    pub fn of(mem: MemFs) -> Disk {
        let mem = Arc::new(mem);
        let fs = FaultFs::new(Arc::<MemFs>::clone(&mem));
        Disk { mem, fs, clock: Arc::new(ManualClock::new(1_700_000_000_000)) }
    }

    /// Options whose background is stepped and whose clock is the disk's.
    pub fn stepped(&self) -> Options {
        let mut options = small(Arc::new(self.fs.clone()), Background::Stepped);
        options.env.clock = Arc::<ManualClock>::clone(&self.clock);
        options
    }

    /// Options with the engine's own threads and the system's clock.
    pub fn threaded(&self) -> Options {
        small(Arc::new(self.fs.clone()), Background::Threads)
    }

    /// Opens the database, with its background stepped by the test.
    pub fn open(&self) -> Db {
        Db::open("/db", self.stepped()).unwrap()
    }

    /// Holds the calls that `rule` matches until the guard is opened or dropped.
    pub fn hold(&self, rule: Rule) -> Held {
        let gate = Gate::new();
        self.fs.add(rule.hold(&gate));
        Held(gate)
    }

    /// What the death of the process leaves.
    pub fn kill(&self) -> Disk {
        Disk::of(self.mem.kill_clone())
    }

    /// What a power cut leaves when nothing unsynced came through.
    pub fn cut(&self) -> Disk {
        Disk::of(self.mem.crash_clone_as(CrashMode::Nothing, &mut Rng::new(1)))
    }

    /// What a kill and several power cuts leave, each with its name.
    pub fn crashes(&self, seed: u64) -> Vec<(String, Disk)> {
        let mut all = vec![("kill".to_owned(), self.kill())];
        for mode in [CrashMode::Nothing, CrashMode::Prefix, CrashMode::Subset] {
            let mem = self.mem.crash_clone_as(mode, &mut Rng::new(seed));
            all.push((format!("power cut ({mode:?}, seed {seed})"), Disk::of(mem)));
        }
        all
    }

    /// Names of the files whose name ends so.
    pub fn files(&self, suffix: &str) -> Vec<String> {
        let names = self.mem.list().into_iter();
        let names = names.map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(suffix)).collect()
    }
}

/// The key of row `n`.
pub fn key(n: u64) -> Vec<u8> {
    format!("key{n:03}").into_bytes()
}

/// A value that names its key and its version, so that nothing can be taken for something else.
pub fn value(n: u64, version: u64) -> Vec<u8> {
    format!("value of {n:03} version {version:03} {}", "x".repeat(150)).into_bytes()
}

/// A closed gate that opens at the latest when it is dropped: a test that fails while it holds a
/// call must not wait for that call. Declare it behind the database, and move it into a scope of
/// threads: a scope waits for its threads before what is outside is dropped.
pub struct Held(Gate);

impl std::ops::Deref for Held {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Counts one down when it is dropped, by a panic too: what runs for as long as others work must
/// not run for ever when one of them fails.
pub struct Leaves<'a>(pub &'a AtomicU64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Calls that make a table.
pub fn tables() -> Rule {
    Rule::on(Op::Create).path_ends_with(".sst")
}

/// Whether a path is that of a log segment. One that is used again may still be known to the file
/// system by the name it had while it was free.
pub fn is_log(path: &Path) -> bool {
    path.to_string_lossy().contains(".wal")
}

/// Whether a path is that of a manifest.
pub fn is_manifest(path: &Path) -> bool {
    path.to_string_lossy().contains("MANIFEST")
}

pub fn at(ack: Ack) -> WriteOptions {
    WriteOptions { ack, ..WriteOptions::default() }
}

/// A write that fails at once where there is no room.
pub fn now() -> WriteOptions {
    WriteOptions { deadline: Some(Duration::ZERO), ..WriteOptions::default() }
}

pub fn unlogged() -> WriteOptions {
    WriteOptions { ack: Ack::Memory, wal: false, ..WriteOptions::default() }
}

/// A write that waits for room as long as it takes, unless that is for ever.
pub fn patient(ack: Ack) -> WriteOptions {
    WriteOptions { ack, deadline: Some(NEVER), ..WriteOptions::default() }
}

/// A write that waits for room without a deadline.
pub fn endless(ack: Ack) -> WriteOptions {
    WriteOptions { ack, deadline: None, ..WriteOptions::default() }
}

pub fn put(
    db: &Db,
    cf: &ColumnFamily,
    key: &[u8],
    value: &[u8],
    options: &WriteOptions,
) -> Result<Position> {
    let mut batch = WriteBatch::new();
    batch.put(cf, key, value);
    db.write(&batch, options)
}

pub fn seal(db: &Db) -> FlushTicket {
    db.flush(FlushRequest { allow_stall: true, ..FlushRequest::default() }).unwrap()
}

/// Flushes everything, stepping the background. Ends in an error when a step fails.
pub fn try_flush(db: &Db) -> Result<()> {
    let ticket = db.flush(FlushRequest { allow_stall: true, ..FlushRequest::default() })?;
    while ticket.poll().is_none() {
        assert!(db.step(), "a flush that nobody finishes");
    }
    ticket.wait(None).map(drop)
}

pub fn flush(db: &Db) {
    try_flush(db).unwrap();
}

/// Lets the background do all it can.
pub fn rest(db: &Db) {
    for step in 0.. {
        assert!(step < 10_000, "the background never rests");
        if !db.step() {
            return;
        }
    }
}

/// The rows of a family by cursor. Checks that each reads the same alone and backwards.
pub fn rows(db: &Db, cf: &ColumnFamily) -> Rows {
    let mut found = Rows::new();
    let view = db.view();
    let mut iter = view.iter(cf, ReadOptions::default()).unwrap();
    let mut on = iter.seek_to_first().unwrap();
    while on {
        let alone = view.get(cf, iter.key()).unwrap();
        assert_eq!(alone.as_deref(), Some(iter.value()), "get and cursor disagree");
        let again = found.insert(iter.key().to_vec(), iter.value().to_vec());
        assert!(again.is_none(), "a key twice");
        on = iter.next().unwrap();
    }
    let mut back = 0;
    let mut on = iter.seek_to_last().unwrap();
    while on {
        back += 1;
        on = iter.prev().unwrap();
    }
    assert_eq!(back, found.len(), "forwards and backwards disagree");
    found
}

/// Fails with the keys on which two states differ, and the values there.
pub fn assert_rows(found: &Rows, expected: &Rows, label: &str) {
    let mut keys: Vec<_> = found.keys().chain(expected.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let show = |value: Option<&Vec<u8>>| {
        value.map(|value| String::from_utf8_lossy(&value[..value.len().min(20)]).into_owned())
    };
    let differ: Vec<_> = keys
        .into_iter()
        .filter(|key| found.get(*key) != expected.get(*key))
        .map(|key| (String::from_utf8_lossy(key), show(found.get(key)), show(expected.get(key))))
        .take(8)
        .collect();
    assert!(differ.is_empty(), "{label}: (key, found, expected) {differ:?}");
}

/// Runs `act` on what `setup` makes, with the machine dying at its first changing call, then at
/// its second, and so on until a run is over before. After each death `check` gets what `setup`
/// made and the database as a kill or a power cut left it, opened again.
///
/// `act` is to note in `S` what was acknowledged to it, and to return when something fails.
pub fn dies_at_every_call<S>(
    name: &str,
    setup: impl Fn() -> (Disk, S),
    act: impl Fn(&Disk, &mut S) -> Result<()>,
    check: impl Fn(&S, &Db, &str),
) {
    for n in 1.. {
        assert!(n < CALLS_MAX, "{name}: no run without a crash");
        let (disk, mut state) = setup();
        disk.fs.kill_after(n);
        let outcome = act(&disk, &mut state);
        let died = disk.fs.is_dead();
        assert!(died || outcome.is_ok(), "{name}, call {n}: nothing failed, and yet: {outcome:?}");
        for (how, left) in disk.crashes(n * 31 + name.len() as u64) {
            let label = format!("{name}, call {n}, {how}");
            let db = Db::open("/db", left.stepped()).unwrap_or_else(|e| panic!("{label}: {e}"));
            check(&state, &db, &label);
        }
        if !died {
            println!("{name}: {} crashes", n - 1);
            // Some calls there must be, or nothing was tested.
            assert!(n > 5, "{name}: {} changing calls", n - 1);
            return;
        }
    }
}
