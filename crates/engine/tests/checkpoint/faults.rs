//! Every call to the file system that changes something fails once while a checkpoint is made, as
//! `tests/faults.rs` does it for the rest of the engine.
//!
//! After every failure the target is not there or whole, after an error not there at all, in what
//! is seen and in what a kill and power cuts leave; the original works on; and the same checkpoint
//! succeeds once the cause is gone.

use super::*;
use sluice_env::{CrashMode, Failure, RuleId};

/// More failing calls than a checkpoint makes: a loop that gets there never ends.
const CALLS_MAX: u64 = 500;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Any changing call does nothing and fails.
    Fails(Failure),
    /// A write leaves some bytes and fails.
    Torn,
    /// A write moves some bytes and says so: nothing may come of it.
    Short,
    /// A call of the kind is carried out, and says that it failed.
    FailsAfter(Op),
    /// Nothing works from the call on.
    Dies,
}

const WAYS: [Way; 12] = [
    Way::Fails(Failure::EIO),
    Way::Fails(Failure::ENOSPC),
    Way::Torn,
    Way::Short,
    Way::FailsAfter(Op::Create),
    Way::FailsAfter(Op::Write),
    Way::FailsAfter(Op::SyncData),
    Way::FailsAfter(Op::CreateDir),
    Way::FailsAfter(Op::HardLink),
    Way::FailsAfter(Op::Rename),
    Way::FailsAfter(Op::SyncDir),
    Way::Dies,
];

/// What a checkpoint meets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scene {
    /// Some data in tables, some in memtables, logged.
    Links,
    /// Everything in tables.
    AtRest,
    /// No links; and the data is in no log.
    Copies,
    /// An unfinished attempt of an earlier process is in the way.
    Stale,
}

impl Way {
    fn arm(self, fs: &FaultFs, n: u64) -> Option<RuleId> {
        let rule = match self {
            Way::Fails(failure) => {
                fs.fail_nth(n, failure);
                return None;
            }
            Way::Dies => {
                fs.kill_after(n);
                return None;
            }
            Way::Torn => Rule::on(Op::Write).nth(n).torn(17, Failure::EIO),
            Way::Short => Rule::on(Op::Write).nth(n).short(5),
            Way::FailsAfter(op) => Rule::on(op).nth(n).fail_after(Failure::EIO),
        };
        Some(fs.add(rule))
    }
}

/// The target is whole or not there; the original, opened again, holds `floor` at least.
fn check_disk(disk: MemFs, model: &Model, wal: bool, must_be: Option<bool>, label: &str) {
    let disk = Arc::new(disk);
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let bench = Bench { disk, fs, clock: Arc::new(ManualClock::new(1_800_000_000_000)) };
    let is_there = bench.has("/copy");
    assert!(
        must_be.is_none_or(|must| must == is_there),
        "{label}: the target is there: {is_there}"
    );
    if is_there {
        let copy = bench.open("/copy");
        assert_same(&contents(&copy), model, &format!("{label}: the copy"));
        fill(&copy, &mut model.clone(), &mut Rng::new(1), 3, true);
        copy.close(true).unwrap();
    }
    let db = bench.open("/db");
    if wal {
        // Everything was synced before: nothing of it may be lost.
        assert_same(&contents(&db), model, &format!("{label}: the original"));
    }
    // What is left of an attempt is in nobody's way.
    db.checkpoint("/copy2").unwrap_or_else(|error| panic!("{label}: {error}"));
    if !is_there {
        db.checkpoint("/copy").unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_same(&contents(&bench.open("/copy")), &contents(&db), label);
        assert!(!bench.has("/copy.tmp-checkpoint"), "{label}");
    }
}

fn check_crashes(disk: &MemFs, model: &Model, wal: bool, must_be: Option<bool>, label: &str) {
    let killed = disk.kill_clone();
    check_disk(killed, model, wal, must_be, &format!("{label}, killed"));
    for (round, mode) in
        [CrashMode::Nothing, CrashMode::Prefix, CrashMode::Subset, CrashMode::Subset]
            .into_iter()
            .enumerate()
    {
        let seed = label.len() as u64 * 31 + round as u64;
        let cut = disk.crash_clone_as(mode, &mut Rng::new(seed));
        check_disk(cut, model, wal, must_be, &format!("{label}, {mode:?}, seed {seed}"));
    }
}

/// One failure; true when the checkpoint made fewer calls than `n`.
fn one_call_fails(scene: Scene, way: Way, n: u64) -> bool {
    let label = format!("{scene:?}, {way:?}, n {n}");
    let bench = Bench::new();
    let (mut model, mut rng) = (Model::new(), Rng::new(n));
    let db = bench.open("/db");
    let wal = scene != Scene::Copies;
    fill(&db, &mut model, &mut rng, 25, wal);
    db.flush(sluicedb::FlushRequest::default()).unwrap();
    settle(&db);
    if scene != Scene::AtRest {
        fill(&db, &mut model, &mut rng, 12, wal);
    }
    db.sync().unwrap();
    if scene == Scene::Stale {
        for name in ["CURRENT", "000002.sst", "MANIFEST-000003", "LOCK"] {
            bench.disk.write(format!("/copy.tmp-checkpoint/{name}"), b"old").unwrap();
        }
        bench.disk.sync_all();
    }
    let refuse = || {
        if scene == Scene::Copies {
            let crosses = io::ErrorKind::CrossesDevices;
            bench.fs.add(Rule::on(Op::HardLink).forever().fail(crosses));
        }
    };
    refuse();
    let rule = way.arm(&bench.fs, n);
    let outcome = db.checkpoint("/copy");
    let struck = match rule {
        Some(rule) => bench.fs.fired(rule) > 0,
        None => bench.fs.calls_seen() >= n,
    };
    if let Err(error) = &outcome
        && (!struck || way == Way::Short)
    {
        panic!("{label}: nothing failed, and yet: {error}");
    }
    if way == Way::Dies && struck {
        // The machine is gone: only what is on its disk counts.
        let must_be = outcome.is_ok().then_some(true);
        check_crashes(&bench.disk, &model, wal, must_be, &label);
        return false;
    }
    bench.fs.clear();
    check_crashes(&bench.disk, &model, wal, Some(outcome.is_ok()), &label);
    if outcome.is_err() {
        assert!(!bench.has("/copy"), "{label}: a target after an error");
        // A failure before the files leaves those of the earlier attempt where they were.
        let is_left = bench.has("/copy.tmp-checkpoint");
        assert!(!is_left || scene == Scene::Stale, "{label}: files after an error");
        refuse();
        bench.clock.advance_ms(60_000);
        settle(&db);
        fill(&db, &mut model, &mut rng, 5, true);
        let made = db.checkpoint("/copy").unwrap_or_else(|e| panic!("{label}: a retry: {e}"));
        assert_eq!(made.copied > 0, scene == Scene::Copies, "{label}");
        bench.fs.clear();
    }
    assert!(!bench.has("/copy.tmp-checkpoint"), "{label}: files after the end");
    check_crashes(&bench.disk, &model, true, Some(true), &label);
    assert_same(&contents(&db), &model, &format!("{label}: the original"));
    settle(&db);
    fill(&db, &mut model, &mut rng, 5, true);
    db.flush(sluicedb::FlushRequest::default()).unwrap();
    settle(&db);
    assert_eq!(db.stats().background_errors, Vec::new(), "{label}");
    !struck
}

fn every_call_fails(scene: Scene) {
    for way in WAYS {
        if scene == Scene::Copies && way == Way::FailsAfter(Op::HardLink) {
            continue; // no link is ever made
        }
        let n = (1..CALLS_MAX).find(|n| one_call_fails(scene, way, *n));
        let n = n.unwrap_or_else(|| panic!("{scene:?}, {way:?}: no clean pass"));
        println!("{scene:?}, {way:?}: {} failures", n - 1);
    }
}

#[test]
fn every_call_fails_once_with_links() {
    every_call_fails(Scene::Links);
}

#[test]
fn every_call_fails_once_at_rest() {
    every_call_fails(Scene::AtRest);
}

#[test]
fn every_call_fails_once_with_copies_and_without_a_log() {
    every_call_fails(Scene::Copies);
}

#[test]
fn every_call_fails_once_over_a_stale_attempt() {
    every_call_fails(Scene::Stale);
}
