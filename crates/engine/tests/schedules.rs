//! Random schedules of the whole engine: every thread of it, writers, readers, flushes,
//! compactions, checkpoints, a power cut and a close in the middle, on a file system in memory and
//! a clock that moves when a wait ends. Which thread runs next is decided at every lock and every
//! atomic, by a seed.
//!
//! ```text
//! RUSTFLAGS="--cfg sluice_shuttle" cargo test --profile checked --target-dir target/shuttle \
//!     -p sluicedb --test schedules
//!
//! SLUICE_SCHEDULES=n   how many seeds for each test (200)
//! SLUICE_FIRST=n       the first of them (1)
//! SLUICE_SEED=n        this one alone: what a failure prints
//! ```
//!
//! Each schedule checks: a batch is seen whole or not at all, and a refused one never (P4); what a
//! reader has seen, and what was acknowledged before it looked, it sees; a snapshot does not
//! change; every wait ends (P6: shuttle reports a deadlock, and an execution that goes on for ever
//! runs into its limit of steps); a checkpoint holds what was visible when it began; after a power
//! cut there is what was acknowledged at `Disk`, durable or flushed (P1 to P3); after the close
//! everything acknowledged is there that was logged, or flushed.
//!
//! What they cannot show: reorderings by the processor, which loom's models are for, and anything
//! inside the block cache and the memtable, which are one step each here.
//!
//! Empty in a plain build.

#![cfg(sluice_shuttle)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "schedules/model.rs"]
mod model;
#[path = "schedules/stalls.rs"]
mod stalls;

use model::{Ledger, Writer, writer_in};
use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    rand::{Rng, thread_rng},
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
    thread,
};
use sluice_env::{
    Env, MemFs,
    sync::{ScheduledThreads, VirtualClock},
};
use sluicedb::{
    Ack, CfOptions, Db, Error, ErrorKind, FlushRequest, Options, Position, WriteBatch, WriteOptions,
};
use stalls::StallingScheduler;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// Far more than any schedule needs.
const STEPS_MAX: usize = 3_000_000;

/// Executions for each seed of the second scheduler, whose first one is always the same.
const PCT_EXECUTIONS: usize = 8;

/// Writers 0 and 1 are logged. In every other execution 2 is not, for it asks for no log, and 3 is
/// not, for its families have none.
const WRITERS: u64 = 4;
const VERSIONS: u64 = 5;

const LONG: Duration = Duration::from_secs(10);

fn env(fs: &Arc<MemFs>) -> Env {
    Env {
        fs: Arc::<MemFs>::clone(fs),
        clock: Arc::new(VirtualClock::default()),
        threads: Arc::new(ScheduledThreads),
    }
}

/// A database so small that a few batches fill a memtable, a level and a segment.
fn options(fs: &Arc<MemFs>) -> Options {
    Options {
        env: env(fs),
        memtable_bytes: 4 << 10,
        memtable_count: 2,
        memory_budget: 64 << 10,
        wal_segment_bytes: 8 << 10,
        wal_max_bytes: 32 << 10,
        flush_threads: 2,
        block_bytes: 512,
        table_bytes: 8 << 10,
        level_base_bytes: 16 << 10,
        l0_compaction_trigger: 2,
        l0_slowdown: 3,
        l0_stop: 4,
        ..Options::default()
    }
}

/// What one execution shares.
struct World {
    fs: Arc<MemFs>,
    db: Db,
    writers: Vec<Writer>,
    ledger: Ledger,
    /// Callbacks left with the engine, and how many were called.
    asked: Arc<AtomicU64>,
    called: Arc<AtomicU64>,
    /// Whether values are small: then a memtable holds many versions of a row, and flushes are
    /// those that somebody asks for.
    is_small: bool,
    /// Whether the database is closed while all this goes on.
    closes_early: bool,
    /// The highest position that was flushed before the power cut, and the disk after it.
    flushed: Mutex<Option<Position>>,
    cut: Mutex<Option<PowerCut>>,
}

struct PowerCut {
    disk: MemFs,
    least: BTreeMap<u64, u64>,
}

fn chance(one_in: u32) -> bool {
    thread_rng().gen_ratio(1, one_in)
}

/// Lets others go first for a while, so that work begins at any moment.
fn linger(most: u32) {
    for _ in 0..thread_rng().gen_range(0..=most) {
        thread::yield_now();
    }
}

fn deadline() -> Option<Duration> {
    match thread_rng().gen_range(0..4) {
        0 => Some(Duration::ZERO),
        1 => Some(Duration::from_millis(20)),
        2 => Some(LONG),
        _ => None,
    }
}

/// What may come of a call on a database that closes and has little room.
fn is_expected(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Stalled | ErrorKind::TimedOut)
}

/// Says whether the flush at the close, if one was asked for, was done in time.
fn close(db: &Db, flush: bool) -> bool {
    let outcome = db.close(flush);
    if let Err(error) = &outcome {
        assert!(flush && is_expected(error), "{error}");
    }
    outcome.is_ok()
}

impl World {
    fn new() -> Arc<World> {
        let fs = Arc::new(MemFs::new());
        VirtualClock::start();
        let db = Db::open("/db", options(&fs)).unwrap();
        let family = |name: &str, wal: bool| {
            db.create_column_family(name, CfOptions { wal, ..CfOptions::default() }).unwrap()
        };
        // While anything is unlogged, all families are sealed together.
        let all_logged = chance(2);
        let (one, two) = (family("one", true), family("two", true));
        let (three, four) = (family("three", all_logged), family("four", all_logged));
        let writers = (0..WRITERS).map(|name| Writer {
            name,
            families: match name {
                3 => [three.clone(), four.clone()],
                0 => [one.clone(), db.default_cf()],
                _ => [one.clone(), two.clone()],
            },
            is_logged: all_logged || name < 2,
        });
        let writers = writers.collect();
        let (ledger, asked, called, flushed, cut) = Default::default();
        let (is_small, closes_early) = (chance(2), chance(2));
        Arc::new(World {
            fs,
            db,
            writers,
            ledger,
            asked,
            called,
            is_small,
            closes_early,
            flushed,
            cut,
        })
    }

    fn write(&self, writer: &Writer) {
        for version in 1..=VERSIONS {
            for attempt in 0.. {
                let ack = match thread_rng().gen_range(0..3) {
                    _ if !writer.is_logged => Ack::Memory,
                    0 => Ack::Memory,
                    1 => Ack::Os,
                    _ => Ack::Disk,
                };
                // Always waits in the end, or a writer that finds no room would try for ever.
                let deadline = deadline().filter(|_| attempt < 3);
                let options = WriteOptions { ack, wal: writer.is_logged, deadline };
                let bytes = match self.is_small {
                    true => 10,
                    false => [10, 700, 1500][thread_rng().gen_range(0..3)],
                };
                let batch = writer.batch((version, attempt), bytes);
                match self.db.write(&batch, &options) {
                    Ok(end) => {
                        let name = writer.name;
                        self.ledger.note(name, |h| {
                            h.acknowledged.insert(version, (ack, end));
                        });
                        assert_eq!(
                            writer.version(&self.db.view(), &self.ledger),
                            version,
                            "writer {name} reads what it wrote"
                        );
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Stalled => {
                        self.ledger.note(writer.name, |h| {
                            h.refused.insert((version, attempt));
                        });
                    }
                    Err(error) => {
                        assert!(is_expected(&error), "{error}");
                        return self.ledger.note(writer.name, |h| h.doubtful = Some(version));
                    }
                }
            }
        }
    }

    fn read(&self) {
        let mut before = [0; WRITERS as usize];
        for _ in 0..8 {
            let least = |writer: &Writer| self.ledger.of(writer.name).least_visible();
            let least: Vec<u64> = self.writers.iter().map(least).collect();
            let snapshot = chance(2).then(|| self.db.snapshot());
            let view = snapshot.as_ref().map_or_else(|| self.db.view(), |held| held.view());
            let see = |view| -> Vec<u64> {
                self.writers.iter().map(|writer| writer.version(view, &self.ledger)).collect()
            };
            let seen = see(&view);
            for (name, &version) in seen.iter().enumerate() {
                let least = before[name].max(least[name]);
                assert!(version >= least, "writer {name}: {version} after {least}");
                before[name] = version;
            }
            linger(10);
            assert_eq!(see(&view), seen, "a view changed");
            if let Some(snapshot) = snapshot {
                assert_eq!(see(&snapshot.view()), seen, "a snapshot changed");
            }
        }
    }

    fn flush(&self) {
        for _ in 0..4 {
            linger(100);
            let families = match chance(2) {
                true => Vec::new(),
                false => vec![self.writers[thread_rng().gen_range(0..4)].families[0].clone()],
            };
            let is_all = families.is_empty();
            let request = FlushRequest {
                cfs: families,
                allow_stall: chance(2),
                deadline: deadline(),
                ..FlushRequest::default()
            };
            match self.db.flush(request).and_then(|ticket| ticket.wait(None)) {
                Ok(report) if is_all => {
                    let mut flushed = self.flushed.lock().unwrap();
                    *flushed = (*flushed).max(Some(report.position));
                }
                Ok(_) => {}
                Err(error) => assert!(is_expected(&error), "{error}"),
            }
        }
    }

    fn compact(&self) {
        linger(500);
        let family = &self.writers[thread_rng().gen_range(0..4)].families[0];
        if let Err(error) = self.db.compact(family, None, None) {
            assert!(is_expected(&error), "{error}");
        }
    }

    /// Waits for what others do, with a deadline and without.
    fn wait(&self) {
        for _ in 0..2 {
            linger(100);
            let position = self.db.positions().visible;
            let outcome = match thread_rng().gen_range(0..4) {
                0 => self.db.sync().map(drop),
                1 => self.db.wait_flushed(position, Some(Duration::from_millis(300))),
                // What is not logged becomes durable by a flush, and nobody need ask for one.
                2 => self.db.wait_durable(position, Some(Duration::from_millis(300))),
                _ => {
                    let events = self.db.subscribe(Default::default());
                    loop {
                        // Without a limit only where a close ends it.
                        let limit = deadline().or_else(|| (!self.closes_early).then_some(LONG));
                        match events.recv(limit) {
                            Ok(_) if chance(4) => break Ok(()),
                            Ok(_) => {}
                            Err(error) => break Err(error),
                        }
                    }
                }
            };
            if let Err(error) = outcome {
                assert!(is_expected(&error), "{error}");
            }
        }
    }

    /// What an operator does while all this goes on: changes sizes and counts, holds flushes back
    /// for a while, ends segments, makes and drops a family, looks at everything.
    fn operate(&self) {
        for _ in 0..4 {
            linger(150);
            let outcome = match thread_rng().gen_range(0..6) {
                0 => {
                    let mut tunables = self.db.tunables();
                    tunables.flush_threads = thread_rng().gen_range(1..=3);
                    tunables.memtable_count = thread_rng().gen_range(2..=3);
                    tunables.memtable_bytes = thread_rng().gen_range(1..=2) * (4 << 10);
                    self.db.set_tunables(&tunables)
                }
                1 => {
                    self.db.pause_flushes();
                    linger(50);
                    self.db.resume_flushes();
                    Ok(())
                }
                2 => self.db.rotate_log(),
                3 => self.passing_family(),
                4 => {
                    self.db.stats();
                    self.db.memtables();
                    self.db.log_info();
                    Ok(())
                }
                _ => {
                    self.callbacks();
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                assert!(is_expected(&error), "{error}");
            }
        }
    }

    /// A family that is written to, read and dropped.
    fn passing_family(&self) -> Result<(), Error> {
        let family = self.db.create_column_family("passing", CfOptions::default())?;
        let mut batch = WriteBatch::new();
        batch.put(&family, b"key", &[7; 1000]);
        let options = WriteOptions { deadline: Some(LONG), ..WriteOptions::default() };
        let written = self.db.write(&batch, &options);
        if written.is_ok() {
            assert!(self.db.get(&family, b"key")?.is_some());
        }
        let view = self.db.view();
        self.db.drop_column_family(&family)?;
        // Who held a view before goes on reading.
        assert_eq!(view.exists(&family, b"key")?, written.is_ok());
        written.map(drop)
    }

    /// Callbacks are called, once, whatever happens.
    fn callbacks(&self) {
        let (asked, called) = (Arc::clone(&self.asked), Arc::clone(&self.called));
        asked.fetch_add(2, SeqCst);
        let note = Arc::clone(&called);
        let position = self.db.positions().visible;
        self.db.on_durable(
            position,
            Box::new(move |_| {
                note.fetch_add(1, SeqCst);
            }),
        );
        match self.db.flush(FlushRequest { allow_stall: true, ..FlushRequest::default() }) {
            Ok(ticket) => ticket.on_done(move |_| {
                called.fetch_add(1, SeqCst);
            }),
            Err(_) => {
                called.fetch_add(1, SeqCst);
            }
        }
    }

    fn checkpoint(&self) {
        linger(300);
        let least = self.ledger.all().clone();
        match self.db.checkpoint("/copy") {
            Ok(made) => {
                let copy = Db::open("/copy", options(&self.fs)).unwrap();
                for writer in &self.writers {
                    let history = least.get(&writer.name).cloned().unwrap_or_default();
                    let found = writer_in(&copy, writer).version(&copy.view(), &self.ledger);
                    let least = history.least_visible();
                    assert!(found >= least, "checkpoint {made:?}: {found}, acknowledged {least}");
                }
                assert!(close(&copy, false));
            }
            Err(error) => assert!(is_expected(&error), "{error}"),
        }
    }

    /// Takes the disk as a power cut at this moment would leave it.
    fn cut_power(&self) {
        linger(800);
        let flushed = *self.flushed.lock().unwrap();
        let durable = self.db.positions().durable;
        let holds = |ack, end| {
            ack == Ack::Disk || end <= durable || flushed.is_some_and(|flushed| end <= flushed)
        };
        let histories = self.ledger.all().clone();
        let least = histories.iter().map(|(&name, history)| (name, history.least(holds))).collect();
        let disk = self.fs.crash_clone(&mut sluice_env::Rng::new(thread_rng().r#gen()));
        *self.cut.lock().unwrap() = Some(PowerCut { disk, least });
    }

    /// Opens what is left, and expects at least `least` of each writer and nothing unheard of.
    fn recover(&self, fs: Arc<MemFs>, least: &BTreeMap<u64, u64>, what: &str) {
        let db = Db::open("/db", options(&fs)).unwrap();
        for writer in &self.writers {
            let history = self.ledger.of(writer.name);
            let found = writer_in(&db, writer).version(&db.view(), &self.ledger);
            let (least, most) = (
                least.get(&writer.name).copied().unwrap_or(0),
                history.doubtful.unwrap_or(history.least_visible()),
            );
            let name = writer.name;
            assert!(
                (least..=most).contains(&found),
                "{what}: writer {name} at {found}, not {least} to {most}"
            );
        }
        close(&db, chance(2));
    }
}

fn execution() {
    let world = World::new();
    let mut threads = Vec::new();
    let mut run = |work: Box<dyn Fn(&World) + Send>| {
        let world = Arc::clone(&world);
        threads.push(thread::spawn(move || work(&world)));
    };
    for at in 0..WRITERS as usize {
        run(Box::new(move |world| world.write(&world.writers[at])));
    }
    run(Box::new(World::read));
    run(Box::new(World::read));
    run(Box::new(World::flush));
    run(Box::new(World::compact));
    run(Box::new(World::wait));
    run(Box::new(World::operate));
    run(Box::new(World::checkpoint));
    run(Box::new(World::cut_power));
    let flush = chance(2);
    if world.closes_early {
        linger(2000);
        close(&world.db, flush);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let is_flushed = close(&world.db, flush) && flush && !world.closes_early;
    world.ledger.check();
    assert_eq!(world.asked.load(SeqCst), world.called.load(SeqCst), "P6: a callback was forgotten");
    let cut = world.cut.lock().unwrap().take();
    if let Some(PowerCut { disk, least }) = cut {
        world.recover(Arc::new(disk), &least, "after the power cut");
    }
    let flushed = *world.flushed.lock().unwrap();
    let least = world.writers.iter().map(|writer| {
        let history = world.ledger.of(writer.name);
        let least = match writer.is_logged || is_flushed {
            true => history.least_visible(),
            false => history.least(|_, end| flushed.is_some_and(|flushed| end <= flushed)),
        };
        (writer.name, least)
    });
    world.recover(Arc::clone(&world.fs), &least.collect(), "after the close");
    world.ledger.check();
    if std::env::var_os("SLUICE_VERBOSE").is_some() {
        eprintln!("{} switches", shuttle::current::context_switches());
    }
}

/// Says which seed failed.
struct Seed(u64, &'static str);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: SLUICE_SEED={} ... --test schedules {}", self.0, self.1);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn explore<S: Scheduler + 'static>(
    test: &'static str,
    execution: fn(),
    scheduler: impl Fn(u64) -> S,
) {
    let first = number("SLUICE_FIRST").unwrap_or(1);
    let seeds = match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("SLUICE_SCHEDULES").unwrap_or(200),
    };
    for seed in seeds {
        let _seed = Seed(seed, test);
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
        // A schedule has so many steps that its seed is all that can be printed.
        config.failure_persistence = FailurePersistence::None;
        config.silence_warnings = true;
        Runner::new(scheduler(seed), config).run(execution);
    }
}

/// Any thread may be next, each as likely as another.
#[test]
fn random_order() {
    explore("random_order", execution, |seed| RandomScheduler::new_from_seed(seed, 1));
}

/// The thread with the highest priority runs, and priorities change at a few random steps: finds
/// what needs one thread to be held up for long.
#[test]
fn random_priorities() {
    explore("random_priorities", execution, |seed| {
        PctScheduler::new_from_seed(seed, 4, PCT_EXECUTIONS)
    });
}

/// Any thread may be next, and now and then one is held up for long: see `schedules/stalls.rs`.
#[test]
fn random_stalls() {
    explore("random_stalls", execution, |seed| StallingScheduler::new(seed, 4));
}

/// Readers, one logged writer, and flushes of one of its two families, and nothing else that
/// could take their turns: a read across a seal, and one across a flush that drops old versions.
#[test]
fn reads_across_seals() {
    let execution = || {
        let world = World::new();
        let mut threads = Vec::new();
        let mut run = |work: fn(&World)| {
            let world = Arc::clone(&world);
            threads.push(thread::spawn(move || work(&world)));
        };
        run(|world| world.write(&world.writers[1]));
        run(|world| {
            for _ in 0..VERSIONS {
                linger(60);
                let cfs = vec![world.writers[1].families[0].clone()];
                let request = FlushRequest { cfs, allow_stall: true, ..FlushRequest::default() };
                world.db.flush(request).unwrap().wait(None).unwrap();
            }
        });
        run(World::read);
        run(World::read);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        close(&world.db, false);
        world.ledger.check();
    };
    explore("reads_across_seals", execution, |seed| StallingScheduler::new(seed, 20));
}

/// A durable position covers nothing that is in no log and in no table, whoever writes, logged and
/// synced or not, while it is asked for.
#[test]
fn durable_covers_nothing_unlogged() {
    let execution = || {
        VirtualClock::start();
        let fs = Arc::new(MemFs::new());
        // Nothing is flushed here.
        let options = Options { memtable_bytes: 1 << 20, memory_budget: 16 << 20, ..options(&fs) };
        let db = Db::open("/db", options).unwrap();
        let write = |ack: Ack, wal: bool| {
            let db = db.clone();
            thread::spawn(move || {
                let mut batch = WriteBatch::new();
                batch.put(&db.default_cf(), b"key", b"value");
                db.write(&batch, &WriteOptions { ack, wal, deadline: None }).unwrap()
            })
        };
        let unlogged = write(Ack::Memory, false);
        let logged = write(Ack::Disk, true);
        let asked: Vec<_> = (0..4).map(|_| db.positions()).collect();
        let unlogged = unlogged.join().unwrap();
        logged.join().unwrap();
        for positions in asked.into_iter().chain([db.positions()]) {
            assert!(positions.durable < unlogged, "{unlogged:?} is in no log: {positions:?}");
        }
        db.close(false).unwrap();
    };
    explore("durable_covers_nothing_unlogged", execution, |seed| {
        PctScheduler::new_from_seed(seed, 3, 20)
    });
}
