//! What may come between the call and the end of a checkpoint, step by step.

use super::*;
use sluice_env::{Failure, Gate};
use sluicedb::{Checkpoint, CheckpointTicket, FlushRequest};
use std::sync::mpsc;

/// Steps until the checkpoint ends; time passes when no step is left.
fn finish(bench: &Bench, db: &Db, ticket: &CheckpointTicket) -> Result<Checkpoint, Error> {
    for _ in 0..1000 {
        if let Some(outcome) = ticket.poll() {
            return outcome;
        }
        if !db.step() {
            bench.clock.advance_ms(10_000);
        }
    }
    panic!("a checkpoint that never ends (P6)");
}

fn flush(db: &Db, cfs: &[ColumnFamily]) -> sluicedb::FlushTicket {
    let cfs = cfs.to_vec();
    db.flush(FlushRequest { cfs, allow_stall: true, ..FlushRequest::default() }).unwrap()
}

/// The start of a checkpoint, and one step: the cut is made.
fn begun(db: &Db, dir: &str) -> CheckpointTicket {
    let ticket = db.start_checkpoint(dir).unwrap();
    assert!(db.step() && ticket.poll().is_none());
    ticket
}

#[test]
fn what_comes_after_the_cut_is_not_in_the_copy() {
    for wal in [true, false] {
        let bench = Bench::new();
        let db = bench.open("/db");
        let (mut model, mut rng) = (Model::new(), Rng::new(5));
        // Nothing at all, something to seal, something on its way, everything in tables.
        for (round, how) in ["empty", "active", "queued", "tables"].iter().enumerate() {
            match *how {
                "active" => fill(&db, &mut model, &mut rng, 20, wal),
                "queued" => {
                    fill(&db, &mut model, &mut rng, 20, wal);
                    drop(flush(&db, &[]));
                }
                "tables" => drop(flush(&db, &[])),
                _ => {}
            }
            if *how != "queued" {
                settle(&db);
            }
            let copy = format!("/copy{round}");
            let seen = db.positions().visible;
            let ticket = db.start_checkpoint(&copy).unwrap();
            let (done, outcome) = mpsc::channel();
            ticket.on_done(move |made| done.send(made.unwrap().position).unwrap());
            if *how == "queued" {
                // Flushes go first: let this one fail until the cut is made.
                bench.fs.add(Rule::on(Op::Create).path_ends_with(".sst").fail(Failure::EIO));
            }
            db.step();
            if *how == "queued" {
                db.step();
            }
            let wanted = model.clone();
            fill(&db, &mut model, &mut rng, 15, wal);
            let made = finish(&bench, &db, &ticket).unwrap();
            assert_eq!(outcome.try_recv().unwrap(), made.position);
            assert_eq!(made.position, seen, "{how}, wal {wal}");
            assert_same(&contents(&bench.open(&copy)), &wanted, &format!("{how}, wal {wal}"));
            assert_eq!(made.flush.entries > 0, matches!(*how, "active" | "queued"), "{how}");
            let manual =
                if *how == "queued" { FlushReason::Manual } else { FlushReason::Checkpoint };
            assert_eq!(made.flush.reason, manual, "{how}");
        }
    }
}

#[test]
fn unlogged_data_is_in_the_copy() {
    let bench = Bench::new();
    let db = bench.open("/db");
    let (mut model, mut rng) = (Model::new(), Rng::new(6));
    for round in 0..4 {
        fill(&db, &mut model, &mut rng, 10, round % 2 == 0);
    }
    db.checkpoint("/copy").unwrap();
    drop(db);
    let cut = bench.disk.crash_clone_as(sluice_env::CrashMode::Nothing, &mut Rng::new(1));
    let bench = Bench { fs: FaultFs::new(Arc::new(cut)), ..bench };
    assert_same(&contents(&bench.open("/copy")), &model, "after a power cut");
}

#[test]
fn compactions_after_the_capture_do_not_take_its_tables() {
    let bench = Bench::new();
    let db = bench.open("/db");
    let (mut model, mut rng) = (Model::new(), Rng::new(7));
    fill(&db, &mut model, &mut rng, 150, true);
    settle(&db);
    // Everything is in tables: captured at the first step, written at the second.
    let ticket = begun(&db, "/copy");
    let wanted = model.clone();
    fill(&db, &mut model, &mut rng, 150, true);
    for cf in families(&db) {
        flush(&db, &[]);
        db.compact(&cf, None, None).unwrap();
    }
    let made = finish(&bench, &db, &ticket).unwrap();
    assert!(made.files > 0);
    assert_same(&contents(&bench.open("/copy")), &wanted, "the copy");
    settle(&db);
    let tables = |dir: &str| {
        let names = bench.disk.read_dir(Path::new(dir)).unwrap();
        names.iter().filter(|name| name.ends_with(".sst")).count() as u64
    };
    assert_eq!(tables("/db"), db.stats().table_files, "the capture is let go of");
    assert_eq!(tables("/copy"), made.files);
    assert_same(&contents(&db), &model, "the original");
}

#[test]
fn families_that_come_and_go_meanwhile() {
    let bench = Bench::new();
    let db = bench.open("/db");
    let (mut model, mut rng) = (Model::new(), Rng::new(8));
    fill(&db, &mut model, &mut rng, 40, true);
    let gone = db.create_column_family("gone", CfOptions::default()).unwrap();
    let late = db.create_column_family("late", CfOptions::default()).unwrap();
    db.put(&gone, b"k", b"v").unwrap();
    db.put(&late, b"k", b"v").unwrap();
    let ticket = begun(&db, "/copy");
    // Between the cut and the install: it is not in the state that is captured.
    db.drop_column_family(&gone).unwrap();
    db.create_column_family("new", CfOptions::default()).unwrap();
    while !bench.has("/copy.tmp-checkpoint") && db.stats().sealed_memtables > 0 {
        assert!(db.step());
    }
    // Between the capture and the writing: it is, with its tables.
    db.drop_column_family(&late).unwrap();
    finish(&bench, &db, &ticket).unwrap();
    let copy = bench.open("/copy");
    assert_same(&contents(&copy), &model, "the copy");
    assert!(copy.column_family("gone").is_none());
    let late = copy.column_family("late").unwrap();
    assert_eq!(copy.get(&late, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    settle(&db);
    assert_same(&contents(&db), &model, "the original");
}

#[test]
fn entries_of_a_dropped_family_count_in_the_position() {
    let bench = Bench::new();
    let db = bench.open("/db");
    let gone = db.create_column_family("gone", CfOptions::default()).unwrap();
    let last = db.put(&gone, b"k", b"v").unwrap();
    db.drop_column_family(&gone).unwrap();
    let made = db.checkpoint("/copy").unwrap();
    assert_eq!(made.position, last);
    let copy = bench.open("/copy");
    assert!(copy.put(&copy.default_cf(), b"k", b"v").unwrap().seq > last.seq);
}

#[test]
fn a_failed_flush_fails_the_checkpoint_and_leaves_nothing() {
    // The checkpoint's own flush, and one in front of it that would hold it up for ever.
    for in_front in [false, true] {
        let bench = Bench::new();
        let db = bench.open("/db");
        let (mut model, mut rng) = (Model::new(), Rng::new(9));
        fill(&db, &mut model, &mut rng, 20, true);
        let sst = || Rule::on(Op::Create).path_ends_with(".sst");
        if in_front {
            bench.fs.add(sst().forever().fail(Failure::ENOSPC));
            drop(flush(&db, &[]));
            assert!(db.step());
            bench.fs.clear();
            fill(&db, &mut model, &mut rng, 20, true);
            bench.fs.add(sst().fail(Failure::ENOSPC));
        } else {
            bench.fs.add(sst().forever().fail(Failure::ENOSPC));
        }
        let error = db.checkpoint("/copy").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{in_front}: {error}");
        assert!(!bench.has("/copy") && !bench.has("/copy.tmp-checkpoint"));
        assert_eq!(db.stats().checkpoint_failures, 1);
        bench.fs.clear();
        // Late words about the failed one's flush mean nothing to the next.
        db.checkpoint("/copy").unwrap();
        assert_same(&contents(&bench.open("/copy")), &model, "the second attempt");
        assert_same(&contents(&db), &model, "the original");
    }
}

#[test]
fn a_pause_of_automatic_flushes_holds_up_no_checkpoint() {
    let bench = Bench::new();
    let db = bench.open("/db");
    db.pause_flushes();
    let (mut model, mut rng) = (Model::new(), Rng::new(14));
    // More than a memtable: one is sealed by its size, and waits.
    while db.stats().sealed_memtables == 0 {
        fill(&db, &mut model, &mut rng, 10, true);
    }
    settle(&db);
    assert_eq!(db.stats().table_files, 0, "the pause is in force");
    db.checkpoint("/copy").unwrap();
    assert_same(&contents(&bench.open("/copy")), &model, "the copy");
}

/// With a failed log the whole queue is installed by one edit.
#[test]
fn a_failed_log_does_not_spoil_the_copy() {
    let bench = Bench::new();
    let db = bench.open("/db");
    let cfs = families(&db);
    let (mut model, mut rng) = (Model::new(), Rng::new(10));
    for cf in &cfs {
        fill(&db, &mut model, &mut rng, 10, true);
        drop(flush(&db, std::slice::from_ref(cf)));
    }
    fill(&db, &mut model, &mut rng, 10, true);
    let visible = db.positions().visible;
    bench.fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").forever().fail(Failure::EIO));
    bench.fs.add(Rule::on(Op::Create).path_ends_with(".wal").forever().fail(Failure::EIO));
    db.sync().unwrap_err();
    let made = db.checkpoint("/copy").unwrap();
    assert_eq!(made.position, visible);
    assert!(db.put(&cfs[0], b"k", b"v").is_err(), "the log is not healed yet");
    assert_same(&contents(&bench.open_copy()), &model, "the copy");
    // As one that waits for a group in the middle: what is installed with it counts.
    bench.fs.clear();
    bench.clock.advance_ms(60_000);
    settle(&db);
    fill(&db, &mut model, &mut rng, 10, true);
    let ticket = begun(&db, "/middle");
    fill(&db, &mut model, &mut rng, 10, true);
    let visible = db.positions().visible;
    bench.fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").forever().fail(Failure::EIO));
    db.sync().unwrap_err();
    let made = finish(&bench, &db, &ticket).unwrap();
    assert_eq!(made.position, visible);
    bench.fs.clear();
    assert_same(&contents(&bench.open("/middle")), &model, "the copy of the middle");
    bench.clock.advance_ms(60_000);
    settle(&db);
    fill(&db, &mut model, &mut rng, 10, true);
    assert_same(&contents(&db), &model, "the original");
}

impl Bench {
    /// Opens the copy on a disk of its own: this one's log files fail.
    fn open_copy(&self) -> Db {
        let fs = FaultFs::new(Arc::new(self.disk.kill_clone()));
        let clock = Arc::<ManualClock>::clone(&self.clock);
        Bench { disk: Arc::clone(&self.disk), fs, clock }.open("/copy")
    }
}

#[test]
fn p06_closing_ends_every_checkpoint() {
    let bench = Bench::new();
    let db = bench.open("/db");
    fill(&db, &mut Model::new(), &mut Rng::new(11), 20, true);
    let first = begun(&db, "/first");
    let second = db.start_checkpoint("/second").unwrap();
    let (done, outcome) = mpsc::channel();
    for ticket in [&first, &second] {
        let done = done.clone();
        ticket.on_done(move |made| done.send(made.unwrap_err().kind()).unwrap());
    }
    db.close(false).unwrap();
    assert_eq!(outcome.try_iter().collect::<Vec<_>>(), [ErrorKind::Closed; 2]);
    assert_eq!(db.start_checkpoint("/third").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(db.checkpoint("/third").unwrap_err().kind(), ErrorKind::Closed);
    assert!(!db.step());
    for dir in ["/first", "/second", "/third"] {
        assert!(!bench.has(dir) && !bench.has(&format!("{dir}.tmp-checkpoint")), "{dir}");
    }
}

#[test]
fn p06_closing_ends_a_checkpoint_whose_files_are_being_written() {
    let bench = Bench::new();
    let db = bench.open("/db");
    fill(&db, &mut Model::new(), &mut Rng::new(12), 20, true);
    let gate = Gate::new();
    bench.fs.add(Rule::on(Op::HardLink).hold(&gate));
    let ticket = db.start_checkpoint("/copy").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| while db.step() {});
        gate.wait_until_reached();
        assert!(bench.has("/copy.tmp-checkpoint"));
        db.close(false).unwrap();
        gate.open();
    });
    assert_eq!(ticket.wait(Some(NEVER)).unwrap_err().kind(), ErrorKind::Closed);
    assert!(!bench.has("/copy") && !bench.has("/copy.tmp-checkpoint"));
}

/// The writing of a checkpoint holds up neither writes nor flushes nor compactions nor reads.
#[test]
fn the_database_works_on_while_files_are_written() {
    let disk = Arc::new(MemFs::new());
    let fs = FaultFs::new(Arc::<MemFs>::clone(&disk));
    let env = || Env::os().with_fs(Arc::new(fs.clone()));
    let db = Db::open("/db", options(env(), Background::Threads)).unwrap();
    let (mut model, mut rng) = (Model::new(), Rng::new(13));
    fill(&db, &mut model, &mut rng, 20, true);
    let gate = Gate::new();
    fs.add(Rule::on(Op::HardLink).hold(&gate));
    let ticket = db.start_checkpoint("/copy").unwrap();
    gate.wait_until_reached();
    let wanted = model.clone();
    fill(&db, &mut model, &mut rng, 400, true);
    flush(&db, &[]).wait(Some(NEVER)).unwrap();
    for cf in families(&db) {
        db.compact(&cf, None, None).unwrap();
    }
    assert_same(&contents(&db), &model, "the original");
    assert!(ticket.poll().is_none());
    let timed_out = ticket.wait(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
    // Those that wait for it are few.
    let more: Vec<_> = (0..16).map(|n| db.start_checkpoint(format!("/{n}")).unwrap()).collect();
    assert_eq!(db.start_checkpoint("/16").unwrap_err().kind(), ErrorKind::Stalled);
    gate.open();
    ticket.wait(Some(NEVER)).unwrap();
    for ticket in more {
        ticket.wait(Some(NEVER)).unwrap();
    }
    let copy = |dir: &str| Db::open(dir, options(env(), Background::Threads)).unwrap();
    assert_same(&contents(&copy("/copy")), &wanted, "the copy");
    assert_same(&contents(&copy("/15")), &model, "the last copy");
    assert_eq!(db.stats().checkpoints, 17);
}
