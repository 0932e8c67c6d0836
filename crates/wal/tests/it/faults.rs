//! The nth call fails, for n = 1, 2, 3, ... until a run is clean: whatever was acknowledged before
//! is there after recovery on the same files, and nothing panics or hangs.

use std::sync::Arc;

use sluice_base::{ErrorKind, Result, SeqNo};
use sluice_env::{Failure, FaultFs, MemFs, Rng};

use crate::support::{Rec, World, append, disk};

/// What a run achieved.
#[derive(Default)]
struct Done {
    log: Vec<Rec>,
    durable: usize,
    written: usize,
    flushed: u64,
}

fn rec(seq: u64) -> Rec {
    Rec::new(seq, &vec![seq as u8; 100 + (seq as usize * 397) % 1500])
}

/// Every kind of call a log makes, twice around.
fn run(world: &mut World, fs: &FaultFs, done: &mut Done) -> Result<()> {
    for _ in 0..2 {
        let (wal, _, seen) = world.open(Arc::new(fs.clone()))?;
        let start = done.log.iter().position(|rec| Some(rec) == seen.first());
        assert_eq!(seen, done.log[start.unwrap_or(done.log.len())..]);
        for round in 0..4 {
            for _ in 0..4 {
                let next = rec(done.log.len() as u64 + 1);
                append(&wal, &next)?;
                done.log.push(next);
            }
            wal.write_out(wal.appended_lsn())?;
            done.written = done.log.len();
            wal.tick();
            if round % 2 == 1 {
                wal.sync(wal.appended_lsn())?;
                done.durable = done.log.len();
                wal.rotate()?;
                done.flushed = done.log.len() as u64 - 5;
                wal.release(SeqNo(done.flushed))?;
            }
        }
        wal.close()?;
        done.durable = done.log.len();
    }
    Ok(())
}

fn check(world: &World, disk: Arc<MemFs>, done: &Done, acked: usize, what: &str) {
    let mut world = world.clone();
    let (_wal, report, seen) = world.open(disk).unwrap();
    let first = seen.first().map_or(done.log.len() as u64 + 1, |rec| rec.seq);
    let end = seen.last().map_or(0, |rec| rec.seq);
    assert!(end as usize >= acked, "{what}: {end} of {acked} came back: {report}");
    assert!(seen.is_empty() || first <= done.flushed + 1, "{what}: {first} is the first");
    let skipped = first as usize - 1;
    // The frame whose append failed may not be there, and is not in the list either.
    assert_eq!(seen, done.log.get(skipped..skipped + seen.len()).unwrap_or_default(), "{what}");
}

#[test]
fn every_nth_failing_call_is_survived() {
    for failure in [Failure::EIO, Failure::ENOSPC] {
        for n in 1.. {
            let disk = disk();
            let fs = FaultFs::new(disk.clone());
            fs.fail_nth(n, failure);
            let (mut world, mut done) = (World::new(), Done::default());
            let result = run(&mut world, &fs, &mut done);
            if let Err(error) = &result {
                let kinds = [ErrorKind::Io, ErrorKind::DiskFull];
                assert!(kinds.contains(&error.kind()), "call {n}: {error}");
            }
            let clean = fs.calls_seen() < n;
            fs.clear();
            check(&world, disk.clone(), &done, done.written, &format!("call {n}, killed"));
            let cut = disk.crash_clone(&mut Rng::new(n));
            check(&world, Arc::new(cut), &done, done.durable, &format!("call {n}, power cut"));
            if clean {
                result.unwrap();
                assert!(n > 50, "only {n} calls");
                break;
            }
        }
    }
}

#[test]
fn power_may_go_at_every_call() {
    for n in 1.. {
        let disk = disk();
        let fs = FaultFs::new(disk.clone());
        fs.kill_after(n);
        let (mut world, mut done) = (World::new(), Done::default());
        let result = run(&mut world, &fs, &mut done);
        for round in 0..4 {
            let cut = disk.crash_clone(&mut Rng::new(n * 4 + round));
            check(
                &world,
                Arc::new(cut),
                &done,
                done.durable,
                &format!("dead at call {n}, power cut"),
            );
        }
        if !fs.is_dead() {
            result.unwrap();
            break;
        }
        assert!(result.is_err());
        check(&world, disk.clone(), &done, done.written, &format!("dead at call {n}, killed"));
    }
}

#[test]
fn power_may_go_at_every_call_of_a_recovery() {
    // A tear in the first of five segments: four have to go, and nothing was ever synced.
    let torn = disk();
    let (wal, _, _) = World::new().open(torn.clone()).unwrap();
    for seq in 1..=14 {
        append(&wal, &Rec::new(seq, &[seq as u8; 1000])).unwrap();
    }
    wal.write_out(wal.appended_lsn()).unwrap();
    let torn = torn.kill_clone();
    torn.corrupt(crate::support::path(1), 64 + 1032 + 40, 1).unwrap();
    torn.sync_all();
    for n in 1.. {
        let disk = Arc::new(torn.kill_clone());
        let fs = FaultFs::new(disk.clone());
        fs.kill_after(n);
        let mut world = World::new();
        world.epoch = 1;
        let result = world.open(Arc::new(fs.clone()));
        for round in 0..8 {
            let cut = disk.crash_clone(&mut Rng::new(n * 8 + round));
            let (report, seen) = world.replay(&cut).unwrap();
            assert_eq!(seen.len(), 1, "dead at call {n}: {report}");
        }
        if !fs.is_dead() {
            result.unwrap();
            break;
        }
    }
}

#[test]
fn a_failing_call_during_healing_leaves_a_log_that_can_be_healed() {
    for n in 1.. {
        let disk = disk();
        let fs = FaultFs::new(disk.clone());
        let mut world = World::new();
        let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
        for seq in 1..=9 {
            append(&wal, &rec(seq)).unwrap();
            if seq == 2 {
                wal.sync(wal.appended_lsn()).unwrap();
            }
        }
        fs.add(sluice_env::Rule::on(sluice_env::Op::SyncData).nth(2).fail(Failure::EIO));
        assert!(wal.sync(wal.appended_lsn()).is_err());
        fs.fail_nth(n, Failure::EIO);
        let healed = wal.heal(SeqNo(9));
        let clean = fs.calls_seen() < n;
        assert!(healed.is_ok() || wal.poisoned().is_some());
        fs.clear();
        wal.heal(SeqNo(9)).unwrap();
        wal.sync(append(&wal, &rec(10)).unwrap()).unwrap();
        let cut = disk.crash_clone(&mut Rng::new(n));
        let (report, seen) = world.replay(&cut).unwrap();
        assert_eq!(seen, [rec(1), rec(2), rec(10)], "call {n}: {report}");
        if clean {
            healed.unwrap();
            break;
        }
    }
}

#[test]
fn a_release_that_failed_can_be_called_again() {
    for n in 1.. {
        let disk = disk();
        let fs = FaultFs::new(disk.clone());
        let mut world = World::new();
        let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
        for seq in 1..=20 {
            append(&wal, &rec(seq)).unwrap();
        }
        wal.write_out(wal.appended_lsn()).unwrap();
        fs.fail_nth(n, Failure::EIO);
        let released = wal.release(SeqNo(18));
        let clean = fs.calls_seen() < n;
        fs.clear();
        wal.release(SeqNo(18)).unwrap();
        assert!(wal.segments()[0].seqs.unwrap().1 >= SeqNo(18));
        wal.sync(append(&wal, &rec(21)).unwrap()).unwrap();
        let (report, seen) = world.replay(&disk.crash_clone(&mut Rng::new(n))).unwrap();
        assert_eq!(seen.last(), Some(&rec(21)), "call {n}: {report}");
        if clean {
            released.unwrap();
            break;
        }
    }
}
