//! A failed write or sync: everybody hears of it (P6), nothing claims to be durable that may not
//! be, and healing goes on without what is in doubt (P9).

use std::sync::{Arc, Barrier, mpsc};

use sluice_base::{ErrorKind, SeqNo};
use sluice_env::{Failure, FaultFs, Gate, Op, Rng, Rule};

use crate::support::{Rec, World, append, disk, seeds};

#[test]
fn p06_a_failed_sync_reaches_every_waiter() {
    let fs = FaultFs::new(disk());
    let mut world = World::new();
    world.options.background = true;
    let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
    let gate = Gate::new();
    let rule = fs.add(Rule::on(Op::SyncData).hold(&gate).fail(Failure::EIO));
    let (send, receive) = mpsc::channel();
    let (wal, ready) = (&wal, &Barrier::new(5));
    std::thread::scope(|scope| {
        let first = append(wal, &Rec::new(1, b"x")).unwrap();
        scope.spawn(move || assert_eq!(wal.sync(first).unwrap_err().kind(), ErrorKind::Io));
        gate.wait_until_reached();
        for seq in 2..6 {
            let lsn = append(wal, &Rec::new(seq, b"x")).unwrap();
            scope.spawn(move || {
                ready.wait();
                let error = wal.sync(lsn).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io);
                assert!(error.to_string().contains("poisoned since 1700000000000"), "{error}");
            });
            let send = send.clone();
            wal.request_sync(lsn, Box::new(move |result| send.send(result).unwrap()));
        }
        ready.wait();
        gate.open();
    });
    for _ in 2..6 {
        assert_eq!(receive.recv().unwrap().unwrap_err().kind(), ErrorKind::Io);
    }
    // The disk works again, and that changes nothing: no sync is tried again.
    fs.remove(rule);
    let syncs = fs.calls(Op::SyncData);
    assert_eq!(wal.sync(wal.appended_lsn()).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(append(wal, &Rec::new(6, b"x")).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(wal.rotate().unwrap_err().kind(), ErrorKind::Io);
    let send = send.clone();
    wal.request_sync(wal.appended_lsn(), Box::new(move |result| send.send(result).unwrap()));
    assert!(receive.recv().unwrap().is_err());
    assert_eq!((fs.calls(Op::SyncData), wal.durable_seq()), (syncs, SeqNo(0)));
    assert!(wal.poisoned().is_some());
    assert!(wal.close().is_err());
}

#[test]
fn p09_a_full_disk_is_healed_from() {
    let disk = disk();
    let fs = FaultFs::new(disk.clone());
    let mut world = World::new();
    let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
    let (kept, lost) = (Rec::new(1, b"kept"), Rec::new(2, b"in a table"));
    wal.sync(append(&wal, &kept).unwrap()).unwrap();
    fs.add(Rule::on(Op::Write).torn(20, Failure::ENOSPC));
    let lsn = append(&wal, &lost).unwrap();
    assert_eq!(wal.write_out(lsn).unwrap_err().kind(), ErrorKind::DiskFull);
    assert_eq!(append(&wal, &Rec::new(3, b"no")).unwrap_err().kind(), ErrorKind::DiskFull);
    assert_eq!(wal.heal(SeqNo(1)).unwrap_err().kind(), ErrorKind::Invalid, "2 is in no table");

    wal.heal(SeqNo(2)).unwrap();
    assert!(wal.poisoned().is_none());
    assert_eq!(wal.unsynced_bytes(), 0);
    wal.sync(lsn).unwrap();
    let next = Rec::new(3, b"goes on");
    wal.sync(append(&wal, &next).unwrap()).unwrap();
    for seed in seeds(20) {
        let (report, seen) = world.replay(&disk.crash_clone(&mut Rng::new(seed))).unwrap();
        assert_eq!(seen, [kept.clone(), next.clone()], "{report}");
    }
}

#[test]
fn healing_gives_up_whole_segments_that_were_never_synced() {
    let disk = disk();
    let fs = FaultFs::new(disk.clone());
    let mut world = World::new();
    let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
    for seq in 1..=2 {
        append(&wal, &Rec::new(seq, &[seq as u8; 1000])).unwrap();
    }
    wal.sync(wal.appended_lsn()).unwrap();
    for seq in 3..=12 {
        append(&wal, &Rec::new(seq, &[seq as u8; 1000])).unwrap();
    }
    wal.write_out(wal.appended_lsn()).unwrap();
    fs.add(Rule::on(Op::SyncData).nth(2).fail(Failure::EIO));
    assert!(wal.sync(wal.appended_lsn()).is_err());
    assert_eq!(wal.durable_seq(), SeqNo(2), "the second segment failed: nothing of it counts");
    wal.heal(SeqNo(12)).unwrap();
    assert_eq!(wal.segments().len(), 2);
    wal.sync(append(&wal, &Rec::new(13, b"new")).unwrap()).unwrap();
    let (report, seen) = world.replay(&disk).unwrap();
    let seqs: Vec<u64> = seen.iter().map(|rec| rec.seq).collect();
    assert_eq!(seqs, [1, 2, 13], "{report}");
}

#[test]
fn p04_an_append_that_finds_no_room_for_a_segment_leaves_no_trace() {
    let disk = disk();
    let fs = FaultFs::new(disk.clone());
    let mut world = World::new();
    let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
    let recs: Vec<Rec> = (1..=4).map(|seq| Rec::new(seq, &[seq as u8; 1000])).collect();
    for rec in &recs[..3] {
        append(&wal, rec).unwrap();
    }
    fs.set_capacity(Some(fs.used_bytes()));
    let refused = Rec::new(4, &[9; 1000]);
    assert_eq!(append(&wal, &refused).unwrap_err().kind(), ErrorKind::DiskFull);
    assert!(wal.poisoned().is_none(), "the log is sound");
    wal.sync(wal.appended_lsn()).unwrap();
    fs.set_capacity(None);
    wal.sync(append(&wal, &recs[3]).unwrap()).unwrap();
    let (_, seen) = world.replay(&disk).unwrap();
    assert_eq!(seen, recs);
}

#[test]
fn appends_out_of_order_or_beyond_the_limits_are_refused() {
    let (wal, _, _) = World::new().open(disk()).unwrap();
    append(&wal, &Rec { seq: 5, count: 3, payload: b"x".to_vec() }).unwrap();
    for (seq, count) in [(7, 1), (0, 0), (SeqNo::MAX.0, 1), (u64::MAX, 1)] {
        let error = append(&wal, &Rec { seq, count, payload: Vec::new() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    append(&wal, &Rec { seq: 8, count: 0, payload: Vec::new() }).unwrap();
    let never = sluice_wal::Lsn(wal.appended_lsn().0 + 1);
    assert_eq!(wal.sync(never).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(wal.write_out(never).unwrap_err().kind(), ErrorKind::Invalid);
}
