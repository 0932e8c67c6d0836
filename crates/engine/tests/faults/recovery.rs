//! Openings that have something to put right, with every call of theirs failing in turn.

use super::*;

/// Leaves of the running database what a kill leaves, and lets `harm` change that.
fn killed(run: &mut Run, db: Db, harm: impl FnOnce(&mut Run)) -> Option<Db> {
    run.disk = Arc::new(run.disk.kill_clone());
    run.fs = FaultFs::new(Arc::<MemFs>::clone(&run.disk));
    drop(db);
    harm(run);
    None
}

fn open_and_count(run: &mut Run, _: Option<Db>) -> Result<Db> {
    let db = run.open()?;
    run.written = mark(&contents(&db)?);
    assert!(run.written >= run.kill_floor, "{}: {} batches", run.label, run.written);
    Ok(db)
}

/// Cuts the last frame of the log in two and puts noise behind the cut.
fn tear(run: &mut Run) {
    let logs =
        run.disk.list().into_iter().filter(|(path, _)| path.to_string_lossy().ends_with(".wal"));
    let (path, mut bytes) = logs
        .map(|(path, _)| (path.clone(), run.disk.read(&path).unwrap()))
        .rfind(|(_, bytes)| bytes[64..].iter().any(|&byte| byte != 0))
        .unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    bytes[end - 60..end].fill(0);
    bytes[end - 90..end - 60].fill(0xa5);
    run.disk.write(&path, &bytes).unwrap();
    // It must not be what a sync has covered; the torn batch is the last one only.
    run.kill_floor -= 1;
    run.power_floor = run.power_floor.min(run.kill_floor);
}

#[test]
fn recovery_with_a_torn_tail() {
    let setup = |run: &mut Run| {
        let db = filled(run, 14, 5);
        run.write(&db, Ack::Disk).unwrap();
        run.write(&db, Ack::Os).unwrap();
        killed(run, db, tear)
    };
    every_call_fails("torn", setup, open_and_count);
}

#[test]
fn recovery_of_many_segments() {
    let setup = |run: &mut Run| {
        let db = filled(run, 80, 0);
        run.write(&db, Ack::Os).unwrap();
        assert!(db.stats().wal_segments > 3, "{}", db.stats().wal_segments);
        killed(run, db, |_| {})
    };
    every_call_fails("segments", setup, open_and_count);
}

#[test]
fn p01_recovery_that_flushes_while_it_replays() {
    let setup = |run: &mut Run| {
        let db = filled(run, 130, 0);
        run.write(&db, Ack::Os).unwrap();
        killed(run, db, |run| {
            run.tweak = |options| {
                options.memtable_bytes = 4096;
                options.memory_budget = 64 << 10;
            };
        })
    };
    let act = |run: &mut Run, db: Option<Db>| {
        let db = open_and_count(run, db)?;
        assert!(db.stats().table_files > 0, "{}: nothing was flushed", run.label);
        Ok(db)
    };
    every_call_fails("replay flush", setup, act);
}

#[test]
fn p09_opening_that_finds_the_disk_full_and_gives_the_reserve_away() {
    let setup = |run: &mut Run| {
        let db = filled(run, 20, 9);
        run.write(&db, Ack::Os).unwrap();
        run.settle(&db);
        assert!(run.disk.exists(Path::new("/db/RESERVE")).unwrap(), "no reserve");
        killed(run, db, |run| {
            let full =
                Rule::on(Op::Create).path(|path| path.to_string_lossy().contains("MANIFEST"));
            run.fs.add(full.nth(1).fail(Failure::ENOSPC));
        })
    };
    every_call_fails("full at first", setup, open_and_count);
}
