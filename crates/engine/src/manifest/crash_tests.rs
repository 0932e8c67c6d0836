//! Power cuts and failing calls at every point of a manifest's life.
//!
//! Each run plays a history of legal edits and rotations that its seed determines. Whatever
//! happens, what is read back is the state at the last success, or that with the one edit that was
//! under way.

use std::{path::Path, sync::Arc};

use sluice_base::{FileNo, Result};
use sluice_env::{Failure, FaultFs, Fs, MemFs, Op, Rng, Rule};

use super::{ManifestWriter, read, sample::legal_edit};
use crate::version::{VersionEdit, VersionState};

type State = VersionState<()>;

const DIR: &str = "/db";
const EDITS: usize = 12;

/// A database directory on a fresh disk, behind calls that can fail.
struct World {
    disk: Arc<MemFs>,
    fs: FaultFs,
}

impl World {
    fn new() -> World {
        let disk = Arc::new(MemFs::new());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_all();
        World { fs: FaultFs::new(disk.clone()), disk }
    }

    fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.fs.clone())
    }

    /// Cuts the power a few times and reads what each cut leaves.
    fn after_crashes(&self, rng: &mut Rng) -> Vec<Option<State>> {
        (0..4).map(|_| read_state(&self.disk.crash_clone(rng))).collect()
    }
}

fn read_state(disk: &MemFs) -> Option<State> {
    match read::<()>(disk, Path::new(DIR)) {
        Ok(recovered) => recovered.map(|recovered| recovered.state),
        Err(error) => panic!("{error:?}; files: {:?}", disk.list()),
    }
}

/// File numbers are allowed to run ahead: a crash may leave files that no state knows.
fn is_same(found: &State, wanted: &State) -> bool {
    let mut found = found.clone();
    found.next_file = wanted.next_file;
    found == *wanted
}

/// What a history has reached.
struct History {
    rng: Rng,
    /// The state that every success so far adds up to; `None` before the database exists.
    done: Option<State>,
    /// That state with the edit under way.
    under_way: Option<State>,
    next_file: u64,
}

impl History {
    fn new(seed: u64) -> History {
        History { rng: Rng::new(seed), done: None, under_way: None, next_file: 1 }
    }

    fn file(&mut self) -> FileNo {
        self.next_file = self.next_file.max(self.state().next_file.0) + 1;
        FileNo(self.next_file - 1)
    }

    fn state(&self) -> State {
        self.done.clone().unwrap_or_else(State::empty)
    }

    fn create(&mut self, fs: Arc<dyn Fs>) -> Result<ManifestWriter> {
        self.under_way = Some(self.state());
        let file = self.file();
        let writer = ManifestWriter::create(fs, Path::new(DIR), file, &self.state())?;
        self.done = self.under_way.take();
        Ok(writer)
    }

    fn append(&mut self, writer: &mut ManifestWriter, edit: &VersionEdit) -> Result<()> {
        let next = self.state().apply(edit).unwrap();
        self.under_way = Some(next);
        writer.append(edit)?;
        self.done = self.under_way.take();
        Ok(())
    }

    fn rotate(&mut self, writer: &mut ManifestWriter) -> Result<()> {
        let file = self.file();
        writer.rotate(file, &self.state())?;
        self.under_way = None; // settled: it did not happen
        Ok(())
    }

    /// Plays everything; stops at the first error unless `goes_on`, which repairs and goes on.
    fn play(&mut self, world: &World, goes_on: bool) -> Result<()> {
        let mut writer = match self.create(world.fs()) {
            Ok(writer) => writer,
            Err(error) if !goes_on => return Err(error),
            Err(_) => {
                self.check(world);
                self.create(world.fs())?
            }
        };
        for _ in 0..EDITS {
            let state = self.state();
            let edit = legal_edit(&mut self.rng, &state);
            let mut result = self.append(&mut writer, &edit);
            assert_eq!(result.is_ok(), writer.is_usable());
            if result.is_ok() && self.rng.one_in(4) {
                result = self.rotate(&mut writer);
            }
            if let Err(error) = result {
                if !goes_on {
                    return Err(error);
                }
                self.check(world);
                if !writer.is_usable() {
                    assert!(writer.append(&edit).is_err(), "appended to a broken file");
                    self.rotate(&mut writer)?;
                }
                assert!(writer.is_usable());
            }
        }
        Ok(())
    }

    /// A crash now leaves one of the states it may leave.
    fn check(&self, world: &World) {
        let mut rng = self.rng.clone();
        for found in world.after_crashes(&mut rng) {
            match (&found, &self.done) {
                (None, None) => {}
                (None, Some(_)) => panic!("the database is gone"),
                (Some(found), _) => {
                    let allowed = [&self.done, &self.under_way];
                    let is_allowed = |state: &&Option<State>| {
                        state.as_ref().is_some_and(|state| is_same(found, state))
                    };
                    assert!(allowed.iter().any(is_allowed), "{found:?} is none of {allowed:?}");
                }
            }
        }
    }
}

#[test]
fn p02_a_power_cut_at_any_call_leaves_what_was_appended() {
    for seed in 0..20 {
        for n in 1.. {
            let world = World::new();
            world.fs.kill_after(n);
            let mut history = History::new(seed);
            println!("seed {seed}, call {n}");
            let result = history.play(&world, false);
            history.check(&world);
            // And the database goes on from whatever was left.
            let rng = &mut Rng::new(seed ^ n);
            let survivor = World { disk: Arc::new(world.disk.crash_clone(rng)), ..World::new() };
            let survivor = World { fs: FaultFs::new(survivor.disk.clone()), ..survivor };
            let state = read_state(&survivor.disk);
            let mut second = History::new(seed + 1000);
            second.next_file = state.as_ref().map_or(100, |state| state.next_file.0);
            second.done = state;
            second.play(&survivor, false).unwrap();
            second.check(&survivor);
            if !world.fs.is_dead() {
                result.unwrap();
                break;
            }
        }
    }
}

#[test]
fn p06_a_failing_call_anywhere_is_reported_and_repaired_by_a_rotation() {
    for seed in 0..20 {
        for n in 1.. {
            let world = World::new();
            let failure = if n % 2 == 0 { Failure::EIO } else { Failure::ENOSPC };
            world.fs.fail_nth(n, failure);
            let mut history = History::new(seed);
            println!("seed {seed}, call {n}");
            history.play(&world, true).unwrap();
            history.check(&world);
            if world.fs.calls_seen() < n {
                break;
            }
        }
    }
}

#[test]
fn calls_that_are_torn_or_fail_although_they_worked_lose_nothing() {
    let ops = [Op::Create, Op::Write, Op::SyncData, Op::SetLen, Op::Rename, Op::SyncDir];
    for (index, op) in ops.into_iter().cycle().take(ops.len() * 8).enumerate() {
        for n in 1.. {
            let world = World::new();
            let rule = Rule::on(op).nth(n);
            let torn = index / ops.len() * 9;
            let is_torn = op == Op::Write && index % 2 == 1;
            let rule =
                if is_torn { rule.torn(torn, Failure::EIO) } else { rule.fail_after(Failure::EIO) };
            let id = world.fs.add(rule);
            println!("{op:?} {n}, run {index}");
            let mut history = History::new(index as u64);
            // A name that was created although the call failed is never used again.
            history.play(&world, true).unwrap();
            history.check(&world);
            if world.fs.fired(id) == 0 {
                break;
            }
        }
    }
}

#[test]
fn rotation_is_due_when_edits_outgrow_the_snapshot_and_removes_the_old_file() {
    let world = World::new();
    let mut history = History::new(1);
    let mut writer = history.create(world.fs()).unwrap();
    assert!(!writer.should_rotate());
    let mut edits = 0;
    while !writer.should_rotate() {
        let state = history.state();
        let mut edit = legal_edit(&mut history.rng, &state);
        // Padded with counters, or a mebibyte would take all day.
        for cf in &mut edit.cfs {
            cf.counters = (0..2000).map(|id| (id, i64::MAX)).collect();
        }
        history.append(&mut writer, &edit).unwrap();
        edits += 1;
    }
    assert!(edits > 10 && writer.bytes() > 1 << 20);
    let old = writer.file_no();
    history.rotate(&mut writer).unwrap();
    assert!(writer.file_no() > old && !writer.should_rotate());
    let manifests = world.disk.list().iter().filter(|(path, _)| is_manifest(path)).count();
    assert_eq!(manifests, 1);
    assert!(is_same(&read_state(&world.disk).unwrap(), &history.state()));
}

fn is_manifest(path: &Path) -> bool {
    path.to_string_lossy().contains("MANIFEST-")
}
