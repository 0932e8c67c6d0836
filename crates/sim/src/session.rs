//! [`Session`]: one opening, step by step, with the model beside it.
//!
//! An error is a violation unless something was done to the disk that excuses it: from the first
//! fault on the session is *disturbed*, until [`Act::Heal`] has shown that the database works again
//! by itself. Refusals that belong to the contract (`Stalled`, `Exists`) are always allowed, and
//! must leave no trace (P4).

use crate::{
    held::Held,
    model::{Change, Family, MARK_LOGGED, MARK_UNLOGGED, same},
    plan::Act,
    schemas,
    settings::{Logging, Settings, tunables},
    world::{COUNTERS, World, read_all},
};
use sluice_env::{Failure, FaultFs, Op, Rng, Rule};
use sluicedb::{
    Ack, CfId, CfOptions, CheckpointTicket, ColumnFamily, Db, Error, ErrorKind, FlushRequest,
    FlushTicket, Position, WriteBatch, WriteOptions,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

/// Names of families that come and go.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// More steps than any settling takes.
const STEPS_MAX: usize = 20_000;
/// Seconds of simulated time in which a database must have healed: retries back off to a minute.
const HEAL_S: usize = 600;

#[derive(Debug)]
pub struct Session<'w> {
    world: &'w mut World,
    db: Db,
    fault: FaultFs,
    settings: Settings,
    /// Something was done that excuses errors.
    disturbed: bool,
    paused: bool,
    closed: bool,
    held: Held,
    /// Handles of families that were dropped in this session.
    dropped: Vec<ColumnFamily>,
    /// Flushes under way, each with the number of the last write before it.
    flushes: Vec<(FlushTicket, u64)>,
    /// Calls that were asked for.
    waits: Vec<Wait>,
    /// One under way: its directory, and the families there were when it was asked for.
    checkpoint: Option<(CheckpointTicket, String, BTreeSet<CfId>)>,
}

/// A call that was asked for, for the moment when everything up to a write is safe.
#[derive(Debug)]
struct Wait {
    number: u64,
    /// In tables; otherwise in the log, which says nothing of what is in no log.
    flushed: bool,
    answer: Arc<Mutex<Option<sluicedb::Result<Position>>>>,
}

impl<'w> Session<'w> {
    pub fn new(
        world: &'w mut World,
        db: Db,
        fault: FaultFs,
        settings: Settings,
        disturbed: bool,
    ) -> Session<'w> {
        Session {
            world,
            db,
            fault,
            settings,
            disturbed,
            paused: false,
            closed: false,
            held: Held::default(),
            dropped: Vec::new(),
            flushes: Vec::new(),
            waits: Vec::new(),
            checkpoint: None,
        }
    }

    pub fn is_dead(&self) -> bool {
        self.fault.is_dead()
    }

    /// Does one step; its number decides the details.
    pub fn act(&mut self, act: Act, rng: &mut Rng) {
        match act {
            Act::Write => self.write(rng),
            Act::Burst => (0..rng.below(25)).for_each(|_| self.write(rng)),
            Act::Work => drop(self.db.step()),
            Act::Settle => self.settle(),
            Act::Flush => self.flush(rng, true),
            Act::FlushAsk => self.flush(rng, false),
            Act::Sync => {
                let number = self.world.model.number;
                if self.may_fail("sync", self.db.sync()).is_some() {
                    self.world.model.synced(number);
                }
            }
            Act::FlushLog => {
                let number = self.world.model.number;
                if self.may_fail("flush_log", self.db.flush_log()).is_some() {
                    self.world.model.written_out(number);
                }
            }
            Act::Await => self.ask_to_be_told(rng),
            Act::Time => self.world.clock.advance_ms(rng.below(2000)),
            Act::Tune => {
                self.may_fail("set_tunables", self.db.set_tunables(&tunables(rng)));
            }
            Act::Pause => {
                self.db.pause_flushes();
                self.paused = true;
            }
            Act::Resume => self.resume(),
            Act::Rotate => drop(self.may_fail("rotate_log", self.db.rotate_log())),
            Act::Create => self.create(rng),
            Act::Drop => self.drop_family(rng),
            Act::Schema => schemas::change(self, rng),
            Act::Drain => schemas::drain(self, rng),
            Act::Steer => schemas::steer(self, rng),
            Act::Compact => {
                let cf = self.family(rng);
                let bounds = [b"k030".as_slice(), b"k090"].map(|key| rng.one_in(2).then_some(key));
                self.may_fail("compact", self.db.compact(&cf, bounds[0], bounds[1]));
            }
            Act::Checkpoint => self.checkpoint(rng),
            Act::Snapshot => self.held.take_moment(&self.db, &self.world.model.now, rng),
            Act::Iterate => {
                let (cf, now) = (self.family(rng), &self.world.model.now);
                self.held.open_cursor(&self.db, &cf, now, self.disturbed, rng);
            }
            Act::Move => self.held.move_cursor(self.disturbed, rng),
            Act::Release => self.held.release(rng),
            Act::Get => (0..8).for_each(|_| self.get(rng)),
            Act::Scan => self.scan(rng),
            Act::ClearCache => self.db.clear_block_cache(),
            Act::Refused => self.refused(rng),
            Act::Fault => self.arm(rng),
            Act::LossySync => {
                self.disturbed = true;
                self.world.mem.lose_at_sync(1 + rng.below(4));
            }
            Act::ReadFault => {
                self.disturbed = true;
                self.fault.add(Rule::on(Op::Read).nth(1 + rng.below(6)).fail(Failure::EIO));
            }
            Act::Full => {
                self.disturbed = true;
                self.fault.set_capacity(Some(self.fault.used_bytes() + rng.below(8192)));
            }
            Act::Room => self.fault.set_capacity(None),
            Act::Doom => {
                self.disturbed = true;
                self.fault.kill_after(1 + rng.below(80));
            }
            Act::Heal => self.heal(),
        }
        self.look();
    }

    fn resume(&mut self) {
        self.db.resume_flushes();
        self.paused = false;
    }

    /// The value, or nothing for an error that the disturbance excuses.
    fn may_fail<T>(&self, what: &str, outcome: sluicedb::Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(self.excused(&error), "{what} failed: {error}");
                None
            }
        }
    }

    pub(crate) fn excused(&self, error: &Error) -> bool {
        if error.kind() == ErrorKind::Closed {
            return self.closed;
        }
        // No disturbance changes a byte, so nothing may be called damaged.
        self.disturbed && error.kind() != ErrorKind::Corruption
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// The families as the model knows them.
    pub(crate) fn families(&mut self) -> &mut BTreeMap<CfId, Family> {
        &mut self.world.model.families
    }

    pub(crate) fn family(&self, rng: &mut Rng) -> ColumnFamily {
        let mut all = self.db.list_column_families();
        all.swap_remove(rng.below(all.len() as u64) as usize)
    }

    /// One failing call that changes the disk.
    fn arm(&mut self, rng: &mut Rng) {
        self.disturbed = true;
        let failure = [Failure::EIO, Failure::ENOSPC][rng.below(2) as usize];
        let nth = 1 + rng.below(30);
        match rng.below(9) {
            8 => drop(
                self.fault
                    .add(Rule::on(Op::HardLink).forever().fail(std::io::ErrorKind::Unsupported)),
            ),
            0..=3 => self.fault.fail_nth(nth, failure),
            4 => drop(
                self.fault.add(Rule::on(Op::Write).nth(nth).torn(rng.below(600) as usize, failure)),
            ),
            5 => drop(
                self.fault.add(Rule::on(Op::Write).nth(nth).short(1 + rng.below(600) as usize)),
            ),
            6 => drop(self.fault.add(Rule::on(Op::SyncData).nth(1 + nth / 4).fail(failure))),
            _ => drop(self.fault.add(Rule::on(Op::Rename).nth(1 + nth / 16).fail_after(failure))),
        }
    }

    fn write(&mut self, rng: &mut Rng) {
        if self.is_dead() {
            return;
        }
        let number = self.world.model.number + 1;
        let all = self.db.list_column_families();
        let mut families: Vec<&ColumnFamily> = all.iter().filter(|_| rng.one_in(2)).collect();
        if families.is_empty() {
            families.push(&all[rng.below(all.len() as u64) as usize]);
        }
        let wal = match self.settings.logging {
            Logging::All => true,
            Logging::None => false,
            Logging::Some => rng.one_in(2),
        };
        let logged = wal && families.iter().any(|cf| cf.wal());
        let mark = if logged { MARK_LOGGED } else { MARK_UNLOGGED };
        let stamp = number.to_string().into_bytes();
        let mut rows: Vec<_> =
            families.iter().map(|cf| (cf.id(), mark.to_vec(), Some(stamp.clone()))).collect();
        for _ in 0..rng.below(6) {
            let cf = families[rng.below(families.len() as u64) as usize].id();
            let value = (!rng.one_in(4)).then(|| value(number, rng));
            rows.push((cf, key(rng), value));
        }
        let mut counters = Vec::new();
        if rng.one_in(3) {
            let id = COUNTERS[rng.below(COUNTERS.len() as u64) as usize];
            counters.push((families[0].id(), id, rng.below(9) as i64 - 4));
        }
        let mut batch = WriteBatch::new();
        let handle = |id| *families.iter().find(|cf| cf.id() == id).unwrap();
        for (cf, key, value) in &rows {
            match value {
                Some(value) => batch.put(handle(*cf), key, value),
                None => batch.delete(handle(*cf), key),
            }
        }
        for (cf, id, delta) in &counters {
            batch.add_counter(handle(*cf), *id, *delta);
        }
        let acks = &self.settings.acks;
        let ack = match acks[rng.below(acks.len() as u64) as usize] {
            _ if !logged => Ack::Memory,
            ack => ack,
        };
        // Without a deadline a write waits for a flush, which nobody makes when it cannot be made.
        let patient = !self.disturbed && !self.paused && rng.one_in(2);
        let deadline = (!patient).then_some(Duration::ZERO);
        let visible = self.db.positions().visible;
        let outcome = self.db.write(&batch, &WriteOptions { ack, wal, deadline });
        self.world.model.number = number;
        self.world.tally.writes += 1;
        let seen = self.db.get(families[0], mark);
        let seen = seen.ok().flatten().as_deref() == Some(&stamp[..]);
        let change = |seq| Change { number, logged, seq, rows: rows.clone(), counters };
        match outcome {
            Ok(position) => {
                assert!(seen, "a write that was acknowledged cannot be read");
                let last = self.world.model.changes.last();
                assert!(last.is_none_or(|last| last.seq < position.seq), "positions must grow");
                // What is larger than all of the budget may go into empty memtables.
                let alone = batch.byte_len() as u64 + 100 * batch.count() as u64;
                let holds = self.db.stats().memtable_bytes;
                let budget = self.db.tunables().memory_budget / 2;
                assert!(
                    holds <= budget.max(alone),
                    "P7: memtables of {holds} bytes, of {budget} at most"
                );
                self.world.model.applied(change(position.seq));
                if ack >= Ack::Os {
                    self.world.model.written_out(number);
                }
                if ack == Ack::Disk {
                    self.world.model.synced(number);
                }
            }
            Err(error) if error.kind() == ErrorKind::Stalled => {
                assert!(!seen, "P4: write {number} was refused and is there: {error}");
                assert_eq!(
                    self.db.positions().visible,
                    visible,
                    "P4: a refused write took a number"
                );
                self.db.step();
            }
            Err(error) => {
                assert!(self.excused(&error), "a write failed: {error}");
                if seen {
                    self.world.model.applied(change(self.db.positions().visible.seq));
                }
            }
        }
    }

    /// Writes that cannot be meant.
    fn refused(&mut self, rng: &mut Rng) {
        let cf = self.db.default_cf();
        let mut batch = WriteBatch::new();
        batch.put(&cf, MARK_LOGGED, b"refused");
        let mut options =
            WriteOptions { deadline: Some(Duration::ZERO), ..WriteOptions::default() };
        match (rng.below(3), self.dropped.last()) {
            (0, Some(gone)) => batch.put(gone, b"k", b"into a dropped family"),
            (1, _) => options = WriteOptions { wal: false, ack: Ack::Disk, ..options },
            _ => batch.put(&cf, &vec![b'k'; sluicedb::limits::KEY_BYTES_MAX + 1], b""),
        }
        let error = self.db.write(&batch, &options).expect_err("nonsense was written");
        let kind = error.kind();
        assert!(
            self.disturbed || matches!(kind, ErrorKind::Invalid | ErrorKind::NotFound),
            "P4: {error}"
        );
    }

    fn flush(&mut self, rng: &mut Rng, wait: bool) {
        let cfs = if rng.one_in(2) { vec![self.family(rng)] } else { vec![] };
        let number = self.world.model.number;
        let request = FlushRequest {
            cfs,
            allow_stall: rng.one_in(2),
            deadline: Some(Duration::ZERO),
            ..FlushRequest::default()
        };
        let ticket = match self.db.flush(request) {
            Err(error) if error.kind() == ErrorKind::Stalled => return,
            outcome => match self.may_fail("flush", outcome) {
                Some(ticket) => ticket,
                None => return,
            },
        };
        self.flushes.push((ticket.clone(), number));
        let mut tries = 0;
        while wait && ticket.poll().is_none() && tries < 200 {
            if !self.db.step() {
                assert!(self.disturbed, "P6: a flush that nobody finishes");
                self.world.clock.advance_ms(100);
                tries += 1;
            }
        }
    }

    fn ask_to_be_told(&mut self, rng: &mut Rng) {
        let wait = Wait {
            number: self.world.model.number,
            flushed: rng.one_in(2),
            answer: Arc::default(),
        };
        let answer = Arc::clone(&wait.answer);
        let tell = Box::new(move |outcome| *answer.lock().unwrap() = Some(outcome));
        let position = self.db.positions().visible;
        match wait.flushed {
            true => self.db.on_flushed(position, tell),
            false => self.db.on_durable(position, tell),
        }
        self.waits.push(wait);
    }

    fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.db.step() {
                return;
            }
        }
        panic!("P6: the background work has no end");
    }

    fn create(&mut self, rng: &mut Rng) {
        let name = NAMES[rng.below(NAMES.len() as u64) as usize];
        let options = CfOptions {
            memtable_bytes: rng.one_in(3).then(|| 4096 << rng.below(3)),
            wal: !rng.one_in(4),
            key_schema: rng.one_in(2).then(|| schemas::any(rng)),
            filter_fields: rng.one_in(3).then(|| 1 + rng.below(4) as u8),
        };
        let wal = options.wal;
        let there = self.db.column_family(name).is_some();
        match self.db.create_column_family(name, options) {
            Ok(cf) => {
                assert!(!there, "two families called {name}");
                let family = Family {
                    name: name.to_owned(),
                    wal,
                    schemas: Some(self.db.key_schemas(&cf)),
                    drained: Default::default(),
                    sure: true,
                };
                self.world.model.families.insert(cf.id(), family);
                self.world.model.now.rows.insert(cf.id(), Default::default());
            }
            Err(error) if there => {
                assert!(error.kind() == ErrorKind::Exists || self.excused(&error), "{error}");
            }
            Err(error) => {
                assert!(self.excused(&error), "a family was not created: {error}");
                assert!(self.db.column_family(name).is_none(), "and is there: {error}");
                self.world.maybe_created.push((name.to_owned(), wal));
            }
        }
    }

    fn drop_family(&mut self, rng: &mut Rng) {
        let cf = self.family(rng);
        if cf.name() == "default" {
            let refused = self.db.drop_column_family(&cf).expect_err("the default family is gone");
            assert_eq!(refused.kind(), ErrorKind::Invalid);
            return;
        }
        match self.db.drop_column_family(&cf) {
            Ok(()) => {
                self.world.model.forget_family(cf.id());
                self.held.dropped(cf.id());
                self.dropped.push(cf);
            }
            Err(error) => {
                assert!(self.excused(&error), "a family was not dropped: {error}");
                self.world.model.families.get_mut(&cf.id()).unwrap().sure = false;
            }
        }
    }

    fn checkpoint(&mut self, rng: &mut Rng) {
        if self.world.copies.is_full() {
            self.world.mem.lose_at_sync(0);
            self.world.copies.use_up(&self.world.mem, &self.world.clock, rng);
        } else if self.checkpoint.is_none() {
            let dir = self.world.copies.next_name();
            let ticket = self.may_fail("checkpoint", self.db.start_checkpoint(&dir));
            let before = self.world.model.families.keys().copied().collect();
            self.checkpoint = ticket.map(|ticket| (ticket, dir, before));
            if rng.one_in(2) {
                // What was dropped earlier in this session must not come back in the copy.
                self.dropped.clear();
            }
        }
    }

    fn get(&self, rng: &mut Rng) {
        let (cf, key) = (self.family(rng), key(rng));
        if let Some(found) = self.may_fail("get", self.db.get(&cf, &key)) {
            let rows = self.world.model.now.rows(cf.id());
            assert!(found.as_ref() == rows.get(&key), "P1: a get of '{}'", key.escape_ascii());
        }
    }

    fn scan(&mut self, rng: &mut Rng) {
        let families = self.db.list_column_families();
        if self.disturbed {
            // Reads may fail, and then say so.
            return (0..30).for_each(|_| self.get(rng));
        }
        same(&read_all(&self.db, &families), &self.world.model.now, "P1: a scan");
        let all: Vec<_> = families.into_iter().chain(self.dropped.iter().cloned()).collect();
        self.held.read_moment(&all, self.disturbed, rng);
    }

    /// Takes all faults away: within some time, without being reopened, everything works again.
    fn heal(&mut self) {
        if self.is_dead() {
            return;
        }
        self.fault.clear();
        self.fault.set_capacity(None);
        self.world.mem.lose_at_sync(0);
        self.resume();
        if !self.disturbed {
            return;
        }
        for second in 0.. {
            assert!(second < HEAL_S, "P9: not healed: {:?}", self.db.background_errors());
            self.settle();
            let writes = self.world.model.changes.len();
            self.settings.acks.push(Ack::Disk);
            self.write(&mut Rng::new(second as u64));
            self.settings.acks.pop();
            let wrote = self.world.model.changes.len() > writes;
            if wrote && self.db.background_errors().is_empty() && self.db.sync().is_ok() {
                break;
            }
            self.world.clock.advance_ms(1000);
        }
        // What ended meanwhile had its excuse.
        self.look();
        self.disturbed = false;
        self.world.tally.healed += 1;
        self.world.model.synced(self.world.model.number);
    }

    /// Looks at what has ended meanwhile.
    fn look(&mut self) {
        let flushes = std::mem::take(&mut self.flushes);
        for (ticket, number) in flushes {
            match ticket.poll() {
                None => self.flushes.push((ticket, number)),
                Some(Ok(_)) => {
                    self.world.model.flushed(number);
                    self.world.tally.flushes += 1;
                }
                Some(Err(error)) => assert!(self.excused(&error), "a flush failed: {error}"),
            }
        }
        for wait in std::mem::take(&mut self.waits) {
            let answer = wait.answer.lock().unwrap().take();
            match answer {
                None => self.waits.push(wait),
                Some(Ok(_)) if wait.flushed => self.world.model.flushed(wait.number),
                Some(Ok(_)) => self.world.model.synced(wait.number),
                Some(Err(error)) => assert!(self.excused(&error), "a wait failed: {error}"),
            }
        }
        if let Some((ticket, dir, before)) = self.checkpoint.take() {
            match ticket.poll() {
                None => self.checkpoint = Some((ticket, dir, before)),
                Some(Ok(made)) => {
                    let number = self.world.model.number_at(made.position.seq);
                    self.world.model.flushed(number);
                    let state = self.world.model.state_at(made.position.seq);
                    let dropped = self.dropped.iter().map(ColumnFamily::id);
                    let after = self.world.model.families.keys().copied();
                    let seen = after.clone().chain(dropped).collect();
                    self.world.copies.made(&dir, state, &before, &seen, &after.collect());
                    self.world.tally.copies += 1;
                }
                Some(Err(error)) => assert!(self.excused(&error), "a checkpoint failed: {error}"),
            }
        }
    }

    /// What the database claims to be safe is so.
    fn believe(&mut self) {
        let positions = self.db.positions();
        let model = &mut self.world.model;
        model.flushed(model.number_at(positions.flushed.seq));
        model.flushed(model.number_at(positions.durable.seq));
    }

    /// The database at the moment of a crash: the caller takes the crash, then drops it.
    pub fn leave(mut self) -> Db {
        self.look();
        self.believe();
        self.db
    }

    /// Closes. False when that failed, or the machine died on the way.
    pub fn close(mut self, flush: bool) -> bool {
        self.look();
        let number = self.world.model.number;
        let outcome = self.db.close(flush);
        self.closed = true;
        for (ticket, _) in &self.flushes {
            assert!(ticket.poll().is_some(), "P6: a flush has no outcome after the close");
        }
        if let Some((ticket, ..)) = &self.checkpoint {
            assert!(ticket.poll().is_some(), "P6: a checkpoint has no outcome after the close");
        }
        self.look();
        assert!(self.waits.is_empty(), "P6: somebody is never told what came of a wait");
        if self.may_fail("close", outcome).is_none() {
            return false;
        }
        self.world.model.synced(number);
        if flush {
            self.world.model.flushed(number);
        }
        true
    }
}

/// A key: mostly one of a few, sometimes an awkward one.
fn key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(16) {
        0 => {
            let mut key = vec![0; 1 + rng.below(3) as usize];
            rng.fill(&mut key);
            key.iter_mut().for_each(|byte| *byte = [0, 1, b'k', 0xff][usize::from(*byte) % 4]);
            key
        }
        1 => {
            let mut key = format!("k0{}", rng.below(10)).into_bytes();
            key.resize(200 + rng.below(400) as usize, 0xff);
            key
        }
        _ => format!("k{:03}", rng.below(120)).into_bytes(),
    }
}

/// A value that names its write; some compress, some do not, a few fill a memtable.
fn value(number: u64, rng: &mut Rng) -> Vec<u8> {
    let mut value = format!("{number}/{}/", rng.below(1000)).into_bytes();
    let at = value.len();
    let more = match rng.below(60) {
        0 => rng.below(6000),
        1..=10 => 0,
        _ => rng.below(300),
    };
    value.resize(at + more as usize, b'a' + (number % 26) as u8);
    if rng.one_in(2) {
        rng.fill(&mut value[at..]);
    }
    if rng.one_in(20) {
        value.clear();
    }
    value
}
