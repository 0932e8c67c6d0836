//! The log's own work, and databases without one, with every call failing in turn.

use super::*;

#[test]
fn log_rotation_by_request_and_recycled_segments() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        let renames = run.fs.calls(Op::Rename);
        for round in 0..4 {
            for number in 0..4 {
                run.write(&db, [Ack::Os, Ack::Disk, Ack::Memory][(number + round) % 3])?;
            }
            db.rotate_log()?;
            db.step();
            run.write(&db, Ack::Os)?;
            run.flush(&db, Vec::new())?;
            while db.step() {}
        }
        // A segment that is released is renamed, and renamed again when it is used.
        assert!(run.fs.calls(Op::Rename) > renames + 4, "{}: nothing is recycled", run.label);
        Ok(db)
    };
    every_call_fails("recycle", |run| Some(filled(run, 12, 6)), act);
}

#[test]
fn p03_flushes_without_a_log() {
    let setup = |run: &mut Run| {
        let db = run.open().unwrap();
        run.logged = false;
        for _ in 0..8 {
            run.write(&db, Ack::Memory).unwrap();
        }
        run.flush(&db, Vec::new()).unwrap();
        for _ in 0..8 {
            run.write(&db, Ack::Memory).unwrap();
        }
        Some(db)
    };
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        run.flush(&db, Vec::new())?;
        run.write(&db, Ack::Memory)?;
        run.flush(&db, Vec::new())?;
        run.write(&db, Ack::Memory)?;
        Ok(db)
    };
    every_call_fails("unlogged", setup, act);
}
