//! [`run`]: a plan from its first opening to its last crash.
//!
//! ```text
//! Disk: MemFs ──crash──> what is left ──> next epoch
//!         ^
//! FaultFs, one for each opening <── engine
//! ```
//!
//! A database whose machine died is dropped only after the crash was taken: what its closing does
//! then happens on a disk that nobody looks at any more.

use crate::{
    copies::Copies,
    model::{Crash, Family, Model, State},
    plan::{Act, End, Epoch, Opening, Plan},
    session::Session,
    settings::Settings,
};
use sluice_env::{Env, Failure, FaultFs, ManualClock, MemFs, Op, Rng, Rule};
use sluicedb::{ColumnFamily, Db, ReadOptions};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

/// Where the database lives.
pub const DIR: &str = "/db";
/// Ids of the counters that are used.
pub const COUNTERS: [u32; 2] = [1, 9];
/// Openings that may die in a row.
const DOOMED_OPENINGS: u64 = 3;

/// What a run has done, for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub openings: u64,
    /// Recoveries that were compared with the model, after a kill, after a power cut.
    pub kills: u64,
    pub power_cuts: u64,
    /// Machines that died while a database opened.
    pub deaths_in_opening: u64,
    pub writes: u64,
    pub flushes: u64,
    pub copies: u64,
    pub healed: u64,
    /// Of all files at the end: a run that did the same left the same bytes.
    pub digest: u64,
}

impl Tally {
    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Tally) -> Tally {
        Tally {
            openings: self.openings + other.openings,
            kills: self.kills + other.kills,
            power_cuts: self.power_cuts + other.power_cuts,
            deaths_in_opening: self.deaths_in_opening + other.deaths_in_opening,
            writes: self.writes + other.writes,
            flushes: self.flushes + other.flushes,
            copies: self.copies + other.copies,
            healed: self.healed + other.healed,
            digest: self.digest ^ other.digest,
        }
    }

    /// Crashes after which everything was compared.
    pub fn crash_recoveries(&self) -> u64 {
        self.kills + self.power_cuts
    }
}

/// What lives longer than one opening.
#[derive(Debug)]
pub struct World {
    pub mem: Arc<MemFs>,
    /// Moved by the plan alone, so that ages and intervals are part of the seed.
    pub clock: Arc<ManualClock>,
    pub model: Model,
    pub copies: Copies,
    /// Families whose creation failed, so that they may be there after the next opening.
    pub maybe_created: Vec<(String, bool)>,
    pub tally: Tally,
    /// What happened since the model was last compared.
    crash: Crash,
}

/// Runs a plan to its end.
///
/// # Panics
/// When a promise is violated.
pub fn run(plan: &Plan) -> Tally {
    let mut world = World {
        mem: Arc::new(MemFs::new()),
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        model: Model::default(),
        copies: Copies::default(),
        maybe_created: Vec::new(),
        tally: Tally::default(),
        crash: Crash::None,
    };
    for epoch in &plan.epochs {
        world.epoch(epoch);
    }
    let settings = plan.epochs.last().map_or(0, |epoch| epoch.settings);
    world.epoch(&Epoch {
        settings: settings + 1,
        open: (Opening::Clean, 0),
        steps: vec![(Act::Scan, 0)],
        end: (End::CloseWithFlush, 0),
    });
    let mut hasher = DefaultHasher::new();
    for (path, _) in world.mem.list() {
        let bytes = world.mem.read(&path).unwrap();
        (path, bytes).hash(&mut hasher);
    }
    Tally { digest: hasher.finish(), ..world.tally }
}

/// An environment on `fs` with the world's clock.
pub fn env(fs: Arc<dyn sluice_env::Fs>, clock: &Arc<ManualClock>) -> Env {
    let mut env = Env::os().with_fs(fs);
    env.clock = Arc::<ManualClock>::clone(clock);
    env
}

impl World {
    fn epoch(&mut self, epoch: &Epoch) {
        let rng = &mut Rng::new(epoch.open.1);
        let (mut opening, mut deaths) = (epoch.open.0, 0);
        let (db, fault, settings) = loop {
            let fault = FaultFs::new(Arc::<MemFs>::clone(&self.mem));
            self.mem.lose_at_sync(0);
            let mut read_fault = None;
            match opening {
                Opening::Clean => {}
                Opening::Doom => fault.kill_after(1 + rng.below(60)),
                Opening::Fault => {
                    let failure = [Failure::EIO, Failure::ENOSPC][rng.below(2) as usize];
                    if rng.one_in(3) {
                        let nth = 1 + rng.below(30);
                        read_fault = Some(fault.add(Rule::on(Op::Read).nth(nth).fail(failure)));
                    } else {
                        fault.fail_nth(1 + rng.below(40), failure);
                    }
                }
            }
            let env = env(Arc::new(fault.clone()), &self.clock);
            let settings = Settings::new(epoch.settings, env);
            self.tally.openings += 1;
            match Db::open(DIR, settings.options.clone()) {
                Ok(db) if !fault.is_dead() => {
                    // What comes next reads everything, and is no part of the opening.
                    read_fault.into_iter().for_each(|rule| fault.remove(rule));
                    break (db, fault, settings);
                }
                outcome => {
                    if let Err(error) = &outcome {
                        assert!(opening != Opening::Clean, "an opening failed: {error}");
                    }
                    if fault.is_dead() {
                        self.tally.deaths_in_opening += 1;
                        self.crash(rng.one_in(2), rng);
                    }
                }
            }
            deaths += 1;
            if deaths >= DOOMED_OPENINGS || rng.one_in(2) {
                opening = Opening::Clean;
            }
        };
        self.meet(&db);
        self.copies.check_all(&self.mem, &self.clock);
        let mut session = Session::new(self, db, fault, settings, opening != Opening::Clean);
        for (act, seed) in &epoch.steps {
            if session.is_dead() {
                break;
            }
            session.act(*act, &mut Rng::new(*seed));
        }
        let rng = &mut Rng::new(epoch.end.1);
        let dead = session.is_dead();
        match epoch.end.0 {
            end @ (End::Close | End::CloseWithFlush) if !dead => {
                let closed = session.close(end == End::CloseWithFlush);
                if !closed {
                    // It died, or failed, on the way: what is left is as after a kill.
                    self.crash = self.crash_of(false);
                }
            }
            end => {
                let db = session.leave();
                self.crash(end == End::Power || (end != End::Kill && rng.one_in(2)), rng);
                drop(db);
            }
        }
    }

    fn crash_of(&self, power: bool) -> Crash {
        if power || self.crash == Crash::Power { Crash::Power } else { Crash::Kill }
    }

    /// The machine loses its power, or the process is killed.
    fn crash(&mut self, power: bool, rng: &mut Rng) {
        let left = if power { self.mem.crash_clone(rng) } else { self.mem.kill_clone() };
        self.mem = Arc::new(left);
        self.crash = self.crash_of(power);
    }

    /// Compares an opened database with the model.
    fn meet(&mut self, db: &Db) {
        let listed = db.list_column_families();
        for cf in &listed {
            if let Some(family) = self.model.families.get_mut(&cf.id()) {
                assert_eq!((cf.name(), cf.wal()), (&family.name[..], family.wal));
                family.sure = true;
                let schemas = db.key_schemas(cf);
                match &family.schemas {
                    Some(known) => assert_eq!(schemas, *known, "P10: {}'s key schemas", cf.name()),
                    None => family.schemas = Some(schemas),
                }
                let left: Vec<_> = db
                    .schema_usage()
                    .into_iter()
                    .filter(|usage| usage.cf == cf.name() && family.drained.contains(&usage.id))
                    .collect();
                assert!(left.is_empty(), "P10: back after its drain: {left:?}");
                continue;
            }
            let created = (cf.name().to_owned(), cf.wal());
            assert!(
                self.maybe_created.contains(&created)
                    || (cf.name() == "default" && !self.knows("default")),
                "P10: family '{}' ({}) is there, and was dropped or never made",
                cf.name(),
                cf.id()
            );
            let family = Family {
                name: created.0,
                wal: created.1,
                schemas: Some(db.key_schemas(cf)),
                drained: Default::default(),
                sure: true,
            };
            self.model.families.insert(cf.id(), family);
        }
        let gone: Vec<_> = self
            .model
            .families
            .iter()
            .filter(|(id, _)| !listed.iter().any(|cf| cf.id() == **id))
            .map(|(id, family)| (*id, family.clone()))
            .collect();
        for (id, family) in gone {
            assert!(!family.sure, "P1: family '{}' ({id}) is lost", family.name);
            self.model.forget_family(id);
        }
        self.maybe_created.clear();
        let found = read_all(db, &listed);
        match self.crash {
            Crash::None => {}
            Crash::Kill => self.tally.kills += 1,
            Crash::Power => self.tally.power_cuts += 1,
        }
        self.model.recovered(&found, std::mem::replace(&mut self.crash, Crash::None));
    }

    fn knows(&self, name: &str) -> bool {
        self.model.families.values().any(|family| family.name == name)
    }
}

/// Everything in a database.
///
/// # Panics
/// When something cannot be read.
pub fn read_all(db: &Db, families: &[ColumnFamily]) -> State {
    let mut state = State::default();
    for cf in families {
        let mut iter = db.iter(cf, ReadOptions::default()).unwrap();
        let rows = Arc::make_mut(state.rows.entry(cf.id()).or_default());
        let mut on = iter.seek_to_first().unwrap();
        while on {
            rows.insert(iter.key().to_vec(), iter.value().to_vec());
            on = iter.next().unwrap();
        }
        for id in COUNTERS {
            state.counters.insert((cf.id(), id), db.counter(cf, id));
        }
    }
    state
}
