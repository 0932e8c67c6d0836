//! What an operator turns while the database runs, the reserve, and a manifest that gets long, with
//! every call failing in turn.

use super::*;

#[test]
fn options_changed_while_running() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        let before = db.tunables();
        let mut small = before;
        small.memtable_bytes = 4096;
        small.wal_segment_bytes = 8192;
        small.wal_max_bytes = 64 << 10;
        for tunables in [small, before] {
            db.set_tunables(&tunables)?;
            assert_eq!(db.tunables(), tunables, "{}", run.label);
            for number in 0..12 {
                run.write(&db, [Ack::Memory, Ack::Os, Ack::Disk][number % 3])?;
                db.step();
            }
        }
        Ok(db)
    };
    every_call_fails("tunables", |run| Some(filled(run, 6, 0)), act);
}

#[test]
fn p09_a_flush_that_needs_the_reserve() {
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        // Full for one call: the flush gives the reserve up and tries again, and each of the calls
        // of both attempts fails in its turn.
        run.fs.add(Rule::on(Op::Create).path_ends_with(".sst").nth(1).fail(Failure::ENOSPC));
        run.flush(&db, Vec::new())?;
        run.write(&db, Ack::Os)?;
        run.clock.advance_ms(120_000);
        while db.step() {}
        Ok(db)
    };
    let setup = |run: &mut Run| {
        let db = filled(run, 10, 0);
        run.settle(&db);
        run.write(&db, Ack::Os).unwrap();
        assert!(db.stats().reserved_bytes > 0);
        Some(db)
    };
    every_call_fails("reserve", setup, act);
}

#[test]
fn a_manifest_that_rotates() {
    let setup = |run: &mut Run| {
        run.tweak = |options| {
            options.memtable_bytes = 4 << 20;
            options.memory_budget = 16 << 20;
            options.reserve_bytes = Some(0);
        };
        let db = run.open().unwrap();
        run.write(&db, Ack::Os).unwrap();
        // Both bounds of its table are in the edit: more than a manifest takes before it rotates.
        let big = db.create_column_family("big", CfOptions::default()).unwrap();
        db.put(&big, &vec![b'k'; 600 << 10], b"value").unwrap();
        run.flush(&db, vec![big.clone()]).unwrap();
        // The next edit takes it out of the state again, so that the snapshot is short.
        run.write(&db, Ack::Disk).unwrap();
        Some(db)
    };
    let act = |run: &mut Run, db: Option<Db>| {
        let db = db.unwrap();
        let manifests = || -> Vec<_> {
            let names = run.disk.list().into_iter().map(|(path, _)| path);
            names.filter(|path| path.to_string_lossy().contains("MANIFEST")).collect()
        };
        let before = manifests();
        db.drop_column_family(&db.column_family("big").unwrap())?;
        assert_ne!(manifests(), before, "{}: the manifest is the same", run.label);
        run.write(&db, Ack::Os)?;
        run.flush(&db, Vec::new())?;
        Ok(db)
    };
    every_call_fails("rotate", setup, act);
}
