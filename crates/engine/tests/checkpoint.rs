//! A checkpoint is the database at one position: in a directory of its own, whatever happens to the
//! original before, meanwhile and after.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "checkpoint/faults.rs"]
mod faults;
#[path = "checkpoint/stages.rs"]
mod stages;

use sluice_env::{Env, FaultFs, Fs, ManualClock, MemFs, Op, Rng, Rule};
use sluicedb::{
    Ack, Background, CfOptions, ColumnFamily, Db, Error, ErrorKind, FlushReason, Options,
    ReadOptions, WriteBatch, WriteOptions,
};
use std::{
    collections::BTreeMap,
    io, iter,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

const FAMILIES: [&str; 3] = ["default", "one", "two"];
const COUNTER: u32 = 5;

/// Long enough that only a wait which never ends reaches it.
const NEVER: Duration = Duration::from_secs(30);

fn options(env: Env, background: Background) -> Options {
    Options {
        env,
        background,
        memtable_bytes: 16 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        table_bytes: 4096,
        level_base_bytes: 8 << 10,
        block_bytes: 512,
        l0_compaction_trigger: 3,
        ..Options::default()
    }
}

/// A database whose background and clock the test moves, on a disk that can fail and crash.
struct Bench {
    disk: Arc<MemFs>,
    fs: FaultFs,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Bench {
        let disk = Arc::new(MemFs::new());
        let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
        Bench { disk, fs, clock: Arc::new(ManualClock::new(1_700_000_000_000)) }
    }

    fn open(&self, dir: &str) -> Db {
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let env = Env { fs, clock, threads: Env::os().threads };
        let db = Db::open(dir, options(env, Background::Stepped)).unwrap();
        families(&db);
        db
    }

    fn has(&self, path: &str) -> bool {
        self.disk.exists(Path::new(path)).unwrap()
    }
}

fn families(db: &Db) -> Vec<ColumnFamily> {
    let make = |name: &&str| match db.column_family(name) {
        Some(cf) => cf,
        None => db.create_column_family(name, CfOptions::default()).unwrap(),
    };
    FAMILIES.iter().map(make).collect()
}

/// What a database holds, each counter under a name of its own.
type Model = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

fn contents(db: &Db) -> Model {
    let mut found = Model::new();
    for (index, name) in FAMILIES.iter().enumerate() {
        let Some(cf) = db.column_family(name) else { continue };
        let mut iter = db.iter(&cf, ReadOptions::default()).unwrap();
        let mut on = iter.seek_to_first().unwrap();
        while on {
            found.insert((index, iter.key().to_vec()), iter.value().to_vec());
            on = iter.next().unwrap();
        }
        count(&mut found, index, db.counter(&cf, COUNTER));
    }
    found
}

fn count(model: &mut Model, cf: usize, delta: i64) {
    let key = (cf, b"~counter".to_vec());
    let sum = delta + model.get(&key).map_or(0, |v| i64::from_le_bytes(v[..].try_into().unwrap()));
    match sum {
        0 => drop(model.remove(&key)),
        _ => drop(model.insert(key, sum.to_le_bytes().to_vec())),
    }
}

/// Says which rows differ, not what two maps look like.
#[track_caller]
fn assert_same(found: &Model, wanted: &Model, label: &str) {
    let keys = found.keys().chain(wanted.keys());
    let odd: Vec<_> = keys.filter(|key| found.get(*key) != wanted.get(*key)).take(3).collect();
    let (is, should) = (found.len(), wanted.len());
    assert!(odd.is_empty(), "{label}: {is} rows of {should}, differing at {odd:?}");
}

/// One batch, as the model keeps it.
#[derive(Clone)]
struct Change {
    rows: Vec<(usize, Vec<u8>, Option<Vec<u8>>)>,
    delta: i64,
}

impl Change {
    fn random(rng: &mut Rng) -> Change {
        let row = |rng: &mut Rng| {
            let key = format!("k{:03}", rng.below(150)).into_bytes();
            let value = (!rng.one_in(4)).then(|| {
                let mut value = vec![0; rng.below(200) as usize];
                rng.fill(&mut value);
                value
            });
            (rng.below(3) as usize, key, value)
        };
        let count = 1 + rng.below(6);
        let rows = iter::repeat_with(|| row(rng)).take(count as usize).collect();
        Change { rows, delta: rng.below(9) as i64 - 4 }
    }

    fn apply(&self, model: &mut Model) {
        for (cf, key, value) in &self.rows {
            match value {
                Some(value) => model.insert((*cf, key.clone()), value.clone()),
                None => model.remove(&(*cf, key.clone())),
            };
        }
        count(model, 1, self.delta);
    }

    /// Writes it; the sequence number of its last entry.
    fn write(&self, db: &Db, cfs: &[ColumnFamily], wal: bool) -> u64 {
        let mut batch = WriteBatch::new();
        for (cf, key, value) in &self.rows {
            match value {
                Some(value) => batch.put(&cfs[*cf], key, value),
                None => batch.delete(&cfs[*cf], key),
            }
        }
        batch.add_counter(&cfs[1], COUNTER, self.delta);
        let ack = if wal { Ack::Os } else { Ack::Memory };
        db.write(&batch, &WriteOptions { ack, wal, deadline: None }).unwrap().seq.0
    }
}

/// Writes `count` batches and applies them to `model`.
fn fill(db: &Db, model: &mut Model, rng: &mut Rng, count: usize, wal: bool) {
    let cfs = families(db);
    for _ in 0..count {
        let change = Change::random(rng);
        change.write(db, &cfs, wal);
        change.apply(model);
    }
}

fn settle(db: &Db) {
    while db.step() {}
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// On the real file system, with real links: what is in the copies is what was written up to their
/// positions, while three writers go on, log on and off, and tables are compacted.
#[test]
fn a_copy_is_the_state_at_its_position_while_writers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let db = Db::open(path("db"), options(Env::os(), Background::Threads)).unwrap();
    let cfs = families(&db);
    let history: Mutex<BTreeMap<u64, Change>> = Mutex::default();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let seed = 77;
    let made: Vec<_> = std::thread::scope(|scope| {
        for writer in 0..3 {
            let (db, cfs, history, stop, written) = (&db, &cfs, &history, &stop, &written);
            scope.spawn(move || {
                let mut rng = Rng::new(seed + writer);
                while !stop.load(SeqCst) {
                    let change = Change::random(&mut rng);
                    // The last one: what it writes is in no log.
                    let seq = change.write(db, cfs, writer < 2);
                    history.lock().unwrap().insert(seq, change);
                    written.fetch_add(1, SeqCst);
                }
            });
        }
        // Whatever happens here, the writers end.
        let _stop = Stop(&stop);
        let made = (0..6u64).map(|round| {
            while written.load(SeqCst) < (round + 1) * 150 {
                std::thread::yield_now();
            }
            let seen = db.positions().visible;
            let made = db.checkpoint(path(&format!("copy{round}"))).unwrap();
            assert!(made.position >= seen, "round {round}");
            made
        });
        made.collect()
    });
    let history = history.into_inner().unwrap();
    assert!(made.last().unwrap().position.seq.0 < *history.keys().last().unwrap(), "nobody wrote");
    for (round, made) in made.iter().enumerate() {
        let mut wanted = Model::new();
        let last = made.position.seq.0;
        history.range(..=last).for_each(|(_, change)| change.apply(&mut wanted));
        let copy = path(&format!("copy{round}"));
        let copy = Db::open(copy, options(Env::os(), Background::Threads)).unwrap();
        assert_same(&contents(&copy), &wanted, &format!("seed {seed}, round {round}"));
        let stats = copy.stats();
        assert_eq!((made.copied, made.linked), (0, made.files), "round {round}");
        assert!(made.files > 0 && made.bytes > 0);
        assert_eq!(stats.recovery.log_frames, 0, "a copy has no log");
        assert!(!stats.recovery.log_summary.contains("missing"), "{}", stats.recovery.log_summary);
        assert_eq!(copy.positions().visible.seq, made.position.seq, "round {round}");
    }
    let stats = db.stats();
    let position = Some(made.last().unwrap().position);
    assert_eq!((stats.checkpoints, stats.last_checkpoint_position), (6, position));
    let by_reason: BTreeMap<_, _> =
        stats.flushes_by_reason.iter().map(|(reason, count)| (reason.name(), *count)).collect();
    assert!(by_reason[FlushReason::Checkpoint.name()] > 0, "{by_reason:?}");
    let all = history.values().fold(Model::new(), |mut model, change| {
        change.apply(&mut model);
        model
    });
    assert_same(&contents(&db), &all, "the original");
}

#[test]
fn the_copy_and_the_original_do_not_need_each_other() {
    for removed in ["db", "copy"] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let open =
            |name: &str| Db::open(path(name), options(Env::os(), Background::Stepped)).unwrap();
        let (mut model, mut rng) = (Model::new(), Rng::new(3));
        let db = open("db");
        fill(&db, &mut model, &mut rng, 300, true);
        let made = db.checkpoint(path("copy")).unwrap();
        assert!(made.files > 0);
        db.close(false).unwrap();
        drop(db);
        std::fs::remove_dir_all(path(removed)).unwrap();
        let left = open(if removed == "db" { "copy" } else { "db" });
        assert_same(&contents(&left), &model, &format!("without {removed}"));
        fill(&left, &mut model, &mut rng, 300, true);
        for cf in families(&left) {
            left.compact(&cf, None, None).unwrap();
        }
        assert_same(&contents(&left), &model, &format!("without {removed}, compacted"));
    }
}

/// Both write on, flush, compact and are killed: file numbers collide, bytes must not.
#[test]
fn the_copy_is_a_whole_database_and_goes_its_own_way() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let bench = Bench::new();
        let label = format!("seed {seed}");
        let mut model = Model::new();
        let db = bench.open("/db");
        let rare = CfOptions { memtable_bytes: Some(12_345), wal: false, ..CfOptions::default() };
        let rare = db.create_column_family("rare", rare).unwrap();
        let unlogged = WriteOptions { ack: Ack::Memory, ..WriteOptions::default() };
        let mut batch = WriteBatch::new();
        batch.put(&rare, b"k", b"v");
        db.write(&batch, &unlogged).unwrap();
        fill(&db, &mut model, &mut rng, 200, seed % 2 == 0);
        settle(&db);
        fill(&db, &mut model, &mut rng, 20, seed % 3 == 0);
        db.checkpoint("/copy").unwrap();
        let copy = bench.open("/copy");
        let rare = copy.column_family("rare").unwrap();
        assert_eq!(copy.get(&rare, b"k").unwrap().as_deref(), Some(&b"v"[..]), "{label}");
        // The families' options go along: this one is still not logged.
        let logged = copy.stats().wal_bytes + copy.stats().wal_unsynced_bytes;
        copy.write(&batch, &unlogged).unwrap_err(); // a handle of the original
        batch.clear();
        batch.put(&rare, b"k", b"w");
        copy.write(&batch, &unlogged).unwrap();
        assert_eq!(copy.stats().wal_bytes + copy.stats().wal_unsynced_bytes, logged, "{label}");
        assert!(copy.stats().unlogged_bytes > 0, "{label}");
        assert_same(&contents(&copy), &model, &label);
        let mut other = model.clone();
        for _ in 0..4 {
            fill(&db, &mut model, &mut rng, 60, true);
            fill(&copy, &mut other, &mut rng, 60, true);
            for db in [&db, &copy] {
                let cf = &families(db)[rng.below(3) as usize];
                db.compact(cf, None, None).unwrap();
                settle(db);
                db.clear_block_cache();
            }
        }
        assert_same(&contents(&db), &model, &format!("{label}, original"));
        assert_same(&contents(&copy), &other, &format!("{label}, copy"));
        // Killed together, both come back; a copy of the copy is as good as the copy.
        copy.checkpoint("/again").unwrap();
        let disk = bench.disk.kill_clone();
        let bench = Bench { fs: FaultFs::new(Arc::new(disk)), ..bench };
        for (dir, wanted) in [("/db", &model), ("/copy", &other), ("/again", &other)] {
            assert_same(&contents(&bench.open(dir)), wanted, &format!("{label}, {dir} killed"));
        }
    }
}

#[test]
fn a_place_that_cannot_be_used_is_refused_and_left_alone() {
    let bench = Bench::new();
    let db = bench.open("/db");
    let mut model = Model::new();
    fill(&db, &mut model, &mut Rng::new(1), 30, true);
    let kind = |path: &str| db.checkpoint(path).unwrap_err().kind();
    assert_eq!(kind("/"), ErrorKind::Invalid);
    assert_eq!(kind(".."), ErrorKind::Invalid);
    assert_eq!(kind("/nowhere/copy"), ErrorKind::NotFound);
    assert!(!bench.has("/nowhere"));
    assert_eq!(kind("/db"), ErrorKind::Exists);
    bench.disk.write("/file", b"mine").unwrap();
    assert_eq!(kind("/file"), ErrorKind::Exists);
    db.checkpoint("/copy").unwrap();
    let before = bench.disk.list();
    assert_eq!(kind("/copy"), ErrorKind::Exists);
    assert_eq!(bench.disk.list(), before);
    // Somebody else's files under the temporary name stay, and are spoken of.
    bench.disk.write("/next.tmp-checkpoint/notes.txt", b"mine").unwrap();
    bench.disk.write("/next.tmp-checkpoint/000001.sst", b"mine").unwrap();
    let error = db.checkpoint("/next").unwrap_err();
    assert!(error.kind() == ErrorKind::Exists && error.to_string().contains("notes.txt"));
    assert!(bench.has("/next.tmp-checkpoint/000001.sst"));
    // What an unfinished checkpoint left is cleared away, unless one is at work there.
    for name in ["CURRENT.tmp", "CURRENT", "000001.sst", "MANIFEST-000009", "LOCK"] {
        bench.disk.write(format!("/stale.tmp-checkpoint/{name}"), b"old").unwrap();
    }
    let lock = bench.disk.lock(Path::new("/stale.tmp-checkpoint/LOCK")).unwrap();
    assert_eq!(kind("/stale"), ErrorKind::Locked);
    drop(lock);
    db.checkpoint("/stale").unwrap();
    assert!(!bench.has("/stale.tmp-checkpoint"));
    assert_same(&contents(&bench.open("/stale")), &model, "over a stale attempt");
    assert_eq!((db.stats().checkpoints, db.stats().checkpoint_failures), (2, 6));
}

#[test]
fn tables_are_copied_where_no_link_can_be_made() {
    for kind in [
        io::ErrorKind::CrossesDevices,
        io::ErrorKind::Unsupported,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::TooManyLinks,
    ] {
        let bench = Bench::new();
        let db = bench.open("/db");
        let mut model = Model::new();
        fill(&db, &mut model, &mut Rng::new(9), 200, true);
        // One table larger than a copy's buffer.
        let large = vec![7; 3 << 20];
        db.put(&db.default_cf(), b"large", &large).unwrap();
        model.insert((0, b"large".to_vec()), large);
        // The first is linked: each table is decided for itself.
        bench.fs.add(Rule::on(Op::HardLink).nth(2).forever().fail(kind));
        let made = db.checkpoint("/copy").unwrap();
        assert_eq!((made.linked, made.copied), (1, made.files - 1), "{kind}");
        assert!(made.copied > 1 && made.bytes > 3 << 20, "{kind}: {made:?}");
        let cut = bench.disk.crash_clone_as(sluice_env::CrashMode::Nothing, &mut Rng::new(1));
        let bench = Bench { fs: FaultFs::new(Arc::new(cut)), ..bench };
        assert_same(&contents(&bench.open("/copy")), &model, &format!("{kind}"));
    }
}
