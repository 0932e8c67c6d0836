//! P1, P2 and P3 under power cuts and kills: random histories on the crashable file system, with
//! the background stepped by the test, so that a seed reproduces a run exactly.
//!
//! Every batch writes its own number under one key of each column family, so the recovered prefix
//! can be read off, and the families can be held against each other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_env::{Env, ManualClock, MemFs, Rng};
use sluicedb::{
    Ack, Background, CfOptions, ColumnFamily, Db, FlushRequest, Options, ReadOptions, Tunables,
    WriteBatch, WriteOptions,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const FAMILIES: [&str; 3] = ["default", "one", "two"];
const MARK: &[u8] = b"mark";
const COUNTER: u32 = 9;

type Model = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// One batch as the model keeps it: puts and deletes by family, and a counter delta.
#[derive(Clone)]
struct Change {
    rows: Vec<(usize, Vec<u8>, Option<Vec<u8>>)>,
    delta: i64,
}

struct Run {
    fs: Arc<MemFs>,
    /// Moved by the run itself, so that ages and intervals are part of the seed.
    clock: Arc<ManualClock>,
    rng: Rng,
    history: Vec<Change>,
    logged: bool,
    /// How many batches a kill, respectively a power cut, must leave.
    kill_floor: usize,
    power_floor: usize,
}

fn options(fs: &Arc<MemFs>, clock: &Arc<ManualClock>, rng: &mut Rng) -> Options {
    let memtable_bytes = 4096 << rng.below(3);
    let mut env = Env::os().with_fs(Arc::<MemFs>::clone(fs));
    env.clock = Arc::<ManualClock>::clone(clock);
    Options {
        env,
        background: Background::Stepped,
        memtable_bytes,
        memtable_count: 2 + rng.below(4) as u32,
        memory_budget: 64 << 10 << rng.below(4),
        wal_segment_bytes: 4096 << rng.below(4),
        wal_max_bytes: 1 << 20,
        table_bytes: 4096 << rng.below(3),
        level_base_bytes: 16 << 10,
        block_bytes: 512,
        l0_compaction_trigger: 2 + rng.below(3) as u32,
        ..Options::default()
    }
}

fn families(db: &Db) -> Vec<ColumnFamily> {
    FAMILIES
        .iter()
        .map(|name| match db.column_family(name) {
            Some(cf) => cf,
            None => db.create_column_family(name, CfOptions::default()).unwrap(),
        })
        .collect()
}

impl Run {
    fn change(&mut self) -> Change {
        let number = self.history.len() + 1;
        let mark = number.to_string().into_bytes();
        let mut rows: Vec<_> =
            (0..FAMILIES.len()).map(|cf| (cf, MARK.to_vec(), Some(mark.clone()))).collect();
        for _ in 0..self.rng.below(6) {
            let cf = self.rng.below(FAMILIES.len() as u64) as usize;
            let key = format!("k{:03}", self.rng.below(120)).into_bytes();
            let value = match self.rng.below(4) {
                0 => None,
                _ => {
                    let mut value = vec![0; self.rng.below(300) as usize];
                    self.rng.fill(&mut value);
                    Some(value)
                }
            };
            rows.push((cf, key, value));
        }
        Change { rows, delta: self.rng.below(9) as i64 - 4 }
    }

    fn write(&mut self, db: &Db, cfs: &[ColumnFamily]) {
        let change = self.change();
        let mut batch = WriteBatch::new();
        for (cf, key, value) in &change.rows {
            match value {
                Some(value) => batch.put(&cfs[*cf], key, value),
                None => batch.delete(&cfs[*cf], key),
            }
        }
        batch.add_counter(&cfs[1], COUNTER, change.delta);
        let ack = match self.rng.below(6) {
            _ if !self.logged => Ack::Memory,
            0 => Ack::Disk,
            1..=3 => Ack::Os,
            _ => Ack::Memory,
        };
        let options = WriteOptions { ack, wal: self.logged, deadline: None };
        db.write(&batch, &options).unwrap();
        self.history.push(change);
        let floor = self.history.len();
        if ack >= Ack::Os {
            self.kill_floor = floor;
        }
        if ack == Ack::Disk {
            self.power_floor = floor;
        }
    }

    /// Does something at random.
    fn act(&mut self, db: &Db, cfs: &[ColumnFamily]) {
        match self.rng.below(40) {
            0 => {
                let some = self.rng.one_in(2);
                let request = FlushRequest {
                    cfs: if some { vec![cfs[self.rng.below(3) as usize].clone()] } else { vec![] },
                    allow_stall: true,
                    ..FlushRequest::default()
                };
                let ticket = db.flush(request).unwrap();
                while ticket.poll().is_none() {
                    assert!(db.step(), "a flush that nobody finishes");
                }
                ticket.wait(None).unwrap();
                // P3: with a log or without one, everything before the call is safe.
                self.kill_floor = self.history.len();
                self.power_floor = self.history.len();
            }
            1 if self.logged => {
                db.sync().unwrap();
                self.kill_floor = self.history.len();
                self.power_floor = self.history.len();
            }
            2 if self.logged => {
                db.flush_log().unwrap();
                self.kill_floor = self.history.len();
            }
            3..=12 => {
                db.step();
            }
            // Time passes: triggers by age and idleness, syncs by interval, retries.
            13 | 14 => self.clock.advance_ms(self.rng.below(2000)),
            15 => {
                let some = |rng: &mut Rng, of: u64| Duration::from_millis(rng.below(3) * of);
                let tunables = Tunables {
                    flush_age: some(&mut self.rng, 1500),
                    flush_idle: some(&mut self.rng, 700),
                    flush_tombstones: self.rng.below(4) * 5,
                    // At the assumed 100 MiB a second a millisecond of the log is 100 KiB.
                    recovery_time_target: some(&mut self.rng, 1),
                    wal_segment_bytes: 4096 << self.rng.below(4),
                    wal_max_bytes: 64 << 10 << self.rng.below(4),
                    memory_budget: 64 << 10 << self.rng.below(4),
                    ..db.tunables()
                };
                db.set_tunables(&tunables).unwrap();
            }
            16 => {
                db.pause_flushes();
                while db.step() {}
                db.resume_flushes();
            }
            17 => db.rotate_log().unwrap(),
            _ => self.write(db, cfs),
        }
    }

    fn model(&self, count: usize) -> (Model, i64) {
        let mut model = Model::new();
        let mut counter = 0;
        for change in &self.history[..count] {
            for (cf, key, value) in &change.rows {
                match value {
                    Some(value) => model.insert((*cf, key.clone()), value.clone()),
                    None => model.remove(&(*cf, key.clone())),
                };
            }
            counter += change.delta;
        }
        (model, counter)
    }

    /// Checks that `db` shows a prefix of the history of at least `floor` batches; returns it.
    fn check(&self, db: &Db, floor: usize) -> usize {
        let cfs = families(db);
        let marks: Vec<usize> = cfs
            .iter()
            .map(|cf| {
                let mark = db.get(cf, MARK).unwrap().unwrap_or_else(|| b"0".to_vec());
                String::from_utf8(mark).unwrap().parse().unwrap()
            })
            .collect();
        let count = marks[0];
        assert!(marks.iter().all(|mark| *mark == count), "families at different points: {marks:?}");
        assert!(count >= floor, "recovered {count} batches of at least {floor}");
        let (model, counter) = self.model(count);
        let mut found = Model::new();
        for (index, cf) in cfs.iter().enumerate() {
            let mut iter = db.iter(cf, ReadOptions::default()).unwrap();
            let mut on = iter.seek_to_first().unwrap();
            while on {
                assert_eq!(db.get(cf, iter.key()).unwrap().as_deref(), Some(iter.value()));
                found.insert((index, iter.key().to_vec()), iter.value().to_vec());
                on = iter.next().unwrap();
            }
        }
        let differs = difference(&found, &model);
        assert!(differs.is_empty(), "the state is not that of batch {count}: {differs:?}");
        assert_eq!(db.counter(&cfs[1], COUNTER), counter, "the counter is not that of {count}");
        count
    }
}

/// The keys on which two states differ, each with the lengths of its values there.
fn difference(found: &Model, model: &Model) -> Vec<(usize, String, Option<usize>, Option<usize>)> {
    let keys: std::collections::BTreeSet<_> = found.keys().chain(model.keys()).collect();
    keys.into_iter()
        .filter(|key| found.get(*key) != model.get(*key))
        .map(|key| {
            let len = |state: &Model| state.get(key).map(Vec::len);
            (key.0, String::from_utf8_lossy(&key.1).into_owned(), len(found), len(model))
        })
        .collect()
}

/// One history with several crashes in it.
fn run(seed: u64, logged: bool) {
    let mut rng = Rng::new(seed);
    let fs = Arc::new(MemFs::new());
    let mut run = Run {
        fs,
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        rng: Rng::new(rng.next_u64()),
        history: Vec::new(),
        logged,
        kill_floor: 0,
        power_floor: 0,
    };
    for _ in 0..4 {
        let options = options(&run.fs, &run.clock, &mut rng);
        let db = Db::open("/db", options).unwrap();
        let cfs = families(&db);
        run.check(&db, run.history.len());
        for _ in 0..rng.below(300) {
            run.act(&db, &cfs);
        }
        let power = rng.one_in(2);
        let (fs, floor) = if power {
            (run.fs.crash_clone(&mut rng), run.power_floor)
        } else {
            (run.fs.kill_clone(), run.kill_floor)
        };
        drop(db);
        run.fs = Arc::new(fs);
        let options = self::options(&run.fs, &run.clock, &mut rng);
        let db = Db::open("/db", options.clone()).unwrap();
        let count = run.check(&db, floor);
        // What was lost is lost for good: history goes on from the recovered point.
        run.history.truncate(count);
        run.kill_floor = count.min(run.kill_floor.max(floor));
        run.power_floor = count.min(run.power_floor);
        db.close(run.rng.one_in(2) || !logged).unwrap();
        // A clean close loses nothing, with the log as with a flush.
        run.kill_floor = count;
        run.power_floor = count;
    }
}

fn seeds(default_count: u64) -> std::ops::Range<u64> {
    match std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => {
            let first = std::env::var("SLUICE_SEEDS_FROM").ok().and_then(|s| s.parse().ok());
            let first = first.unwrap_or(1);
            let count = std::env::var("SLUICE_SEEDS").ok().and_then(|s| s.parse().ok());
            first..first + count.unwrap_or(default_count)
        }
    }
}

fn all(logged: bool, count: u64) {
    for seed in seeds(count) {
        let outcome = std::panic::catch_unwind(|| run(seed, logged));
        if let Err(panic) = outcome {
            eprintln!("failed: rerun with SLUICE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn p01_p02_p03_recovery_is_a_prefix_with_every_acknowledged_batch() {
    all(true, 150);
}

#[test]
fn p01_p03_without_a_log_the_last_flush_is_the_floor() {
    all(false, 100);
}
