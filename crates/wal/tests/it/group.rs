//! Many who wait, few syncs; and the background thread that syncs for those who do not wait.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use sluice_base::SeqNo;
use sluice_env::{FaultFs, Gate, Op, Rule};
use sluice_wal::Wal;

use crate::support::{Rec, World, append, disk};

/// Appends under a commit lock, as the engine does.
fn commit(wal: &Wal, next: &Mutex<u64>) -> sluice_wal::Lsn {
    let mut next = next.lock().unwrap();
    let rec = Rec::new(*next, &next.to_le_bytes());
    *next += 1;
    append(wal, &rec).unwrap()
}

#[test]
fn all_who_come_during_a_sync_share_the_next_one() {
    const OTHERS: usize = 7;
    let fs = FaultFs::new(disk());
    let (wal, _, _) = World::new().open(Arc::new(fs.clone())).unwrap();
    let before = fs.calls(Op::SyncData);
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).hold(&gate));
    let (wal, next, appended) = (&wal, &Mutex::new(1), &Barrier::new(OTHERS + 1));
    std::thread::scope(|scope| {
        scope.spawn(move || wal.sync(commit(wal, next)).unwrap());
        gate.wait_until_reached();
        for _ in 0..OTHERS {
            scope.spawn(move || {
                let lsn = commit(wal, next);
                appended.wait();
                wal.sync(lsn).unwrap();
                assert!(wal.durable_lsn() >= lsn);
            });
        }
        appended.wait();
        gate.open();
    });
    assert_eq!(fs.calls(Op::SyncData) - before, 2, "one for the first, one for all others");
    assert_eq!(wal.stats().group_frames.max(), OTHERS as u64);
    assert_eq!(wal.durable_seq(), SeqNo(8));
}

#[test]
fn concurrent_committers_lose_nothing_and_share_syncs() {
    const THREADS: u64 = 8;
    const COMMITS: u64 = 200;
    let disk = disk();
    let mut world = World::new();
    world.options.background = true;
    world.options.segment_bytes = 8192;
    let (wal, _, _) = world.open(disk.clone()).unwrap();
    let (shared, next) = (&wal, &Mutex::new(1));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                for _ in 0..COMMITS {
                    let lsn = commit(shared, next);
                    shared.sync(lsn).unwrap();
                }
            });
        }
    });
    assert_eq!(wal.durable_seq(), SeqNo(THREADS * COMMITS));
    let rounds = wal.stats().group_frames.count();
    assert!(rounds <= THREADS * COMMITS, "{rounds} rounds of sync");
    let (_, seen) = world.replay(&disk).unwrap();
    assert_eq!(seen.len() as u64, THREADS * COMMITS);
}

#[test]
fn requests_are_answered_by_one_sync() {
    let fs = FaultFs::new(disk());
    let mut world = World::new();
    world.options.background = true;
    let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).hold(&gate));
    let (send, receive) = mpsc::channel();
    let request = |seq: u64| {
        let lsn = append(&wal, &Rec::new(seq, b"x")).unwrap();
        let send = send.clone();
        wal.request_sync(lsn, Box::new(move |result| send.send((seq, result)).unwrap()));
    };
    request(1);
    gate.wait_until_reached();
    (2..=20).for_each(request);
    gate.open();
    for seq in 1..=20 {
        let (answered, result) = receive.recv().unwrap();
        assert_eq!(answered, seq);
        result.unwrap();
    }
    assert_eq!(wal.stats().syncs, 2);
    // What is durable already is answered on the spot.
    let send = send.clone();
    wal.request_sync(wal.durable_lsn(), Box::new(move |result| send.send((0, result)).unwrap()));
    assert_eq!(receive.try_recv().unwrap().0, 0);
}

#[test]
fn the_interval_bounds_the_age_of_unsynced_bytes() {
    let disk = disk();
    let mut world = World::new();
    world.options.sync_interval = Duration::from_millis(1000);
    let clock = world.clock.clone();
    let (wal, _, _) = world.open(disk).unwrap();
    assert_eq!(wal.oldest_unsynced_us(), None);
    append(&wal, &Rec::new(1, b"x")).unwrap();
    clock.advance_ms(999);
    wal.tick();
    assert_eq!(wal.oldest_unsynced_us(), Some(999_000));
    assert_eq!((wal.unsynced_bytes(), wal.durable_seq()), (40, SeqNo(0)));
    clock.advance_ms(1);
    wal.tick();
    assert_eq!((wal.unsynced_bytes(), wal.durable_seq()), (0, SeqNo(1)));
    assert_eq!(wal.oldest_unsynced_us(), None);

    wal.set_sync_interval(Duration::ZERO);
    append(&wal, &Rec::new(2, b"x")).unwrap();
    clock.advance_ms(100_000);
    wal.tick();
    assert_eq!(wal.durable_seq(), SeqNo(1));
    wal.set_sync_interval(Duration::from_millis(5));
    wal.tick();
    assert_eq!(wal.durable_seq(), SeqNo(2));
}

#[test]
fn appends_go_on_while_a_write_is_under_way() {
    let fs = FaultFs::new(disk());
    let (wal, _, _) = World::new().open(Arc::new(fs.clone())).unwrap();
    let gate = Gate::new();
    fs.add(Rule::on(Op::Write).hold(&gate));
    let (wal, done) = (&wal, &AtomicU64::new(0));
    std::thread::scope(|scope| {
        let lsn = append(wal, &Rec::new(1, b"one")).unwrap();
        scope.spawn(move || {
            wal.write_out(lsn).unwrap();
            done.store(1, Ordering::SeqCst);
        });
        gate.wait_until_reached();
        append(wal, &Rec::new(2, b"two")).unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 0);
        gate.open();
    });
    assert_eq!((wal.written_seq(), wal.appended_seq()), (SeqNo(1), SeqNo(2)));
}
