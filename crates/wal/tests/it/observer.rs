//! What an observer is told, and that no lock is held while it is.

use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};

use sluice_base::{FileNo, SeqNo};
use sluice_env::{Failure, FaultFs, Op, Rule};
use sluice_wal::{Wal, WalEvent, WalObserver};

use crate::support::{Rec, World, append, disk};

/// Long enough that only a deadlock reaches it.
const NEVER: std::time::Duration = std::time::Duration::from_secs(30);

/// Keeps what it is told, and takes every lock of the log on the way.
#[derive(Debug, Default)]
struct Seen {
    events: Mutex<Vec<WalEvent>>,
    wal: OnceLock<Weak<Wal>>,
}

impl Seen {
    fn take(&self) -> Vec<WalEvent> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

impl WalObserver for Seen {
    fn wal_event(&self, event: WalEvent) {
        self.events.lock().unwrap().push(event);
        // Owners are told not to. Here it shows that no lock is held: healing takes the names'
        // lock, both batons and the state's lock before it finds that there is nothing to do.
        let Some(wal) = self.wal.get().and_then(Weak::upgrade) else { return };
        wal.heal(SeqNo(0)).unwrap();
    }
}

/// Runs `body` and fails when it does not end.
fn must_end(body: impl FnOnce() + Send + 'static) {
    let (sender, ended) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().spawn(move || {
        let _ends = sender;
        body();
    });
    assert_eq!(ended.recv_timeout(NEVER), Err(mpsc::RecvTimeoutError::Disconnected), "a deadlock");
    thread.unwrap().join().unwrap();
}

fn full(seq: u64) -> Rec {
    Rec::new(seq, &[seq as u8; 1000])
}

#[test]
fn an_observer_hears_of_segments_and_syncs() {
    let seen = Arc::new(Seen::default());
    let mut world = World::new();
    world.options.observer = Some(Arc::<Seen>::clone(&seen));
    world.options.recycle_max = 1;
    let (wal, _, _) = world.open(disk()).unwrap();
    assert_eq!(seen.take(), [], "nothing of the opening");
    let first = wal.first_segment();
    let wal_bytes = append(&wal, &full(1)).unwrap();
    append(&wal, &full(2)).unwrap();
    let before = wal.durable_lsn();
    wal.sync(wal.appended_lsn()).unwrap();
    let [WalEvent::Synced { up_to, bytes, frames, .. }] = seen.take()[..] else {
        panic!("one round of sync")
    };
    assert!(wal_bytes > before);
    assert_eq!((up_to, bytes, frames), (SeqNo(2), wal.durable_lsn().0 - before.0, 2));
    wal.sync(wal.appended_lsn()).unwrap();
    assert_eq!(seen.take(), [], "nothing was left to sync");

    for seq in 3..=9 {
        append(&wal, &full(seq)).unwrap();
    }
    wal.tick();
    let [second, third, ahead] = [1, 2, 3].map(|more| FileNo(first.0 + more));
    let made = |number, recycled| WalEvent::SegmentMade { number, bytes: 4096, recycled };
    assert_eq!(seen.take(), [made(second, None), made(third, None), made(ahead, None)]);
    wal.rotate().unwrap();
    wal.sync(wal.appended_lsn()).unwrap();
    seen.take();
    let free = |number, kept| WalEvent::SegmentReleased { number, bytes: 4096, kept };
    wal.release(SeqNo(10)).unwrap();
    let gone = [free(first, true), free(second, false), free(third, false)];
    assert_eq!(seen.take(), gone, "one is kept for reuse");
    for seq in 10..=16 {
        append(&wal, &full(seq)).unwrap();
        wal.tick();
    }
    let again = |event: &WalEvent| matches!(event, WalEvent::SegmentMade { recycled, .. } if *recycled == Some(first));
    assert!(seen.take().iter().any(again), "the first file came back");
    wal.close().unwrap();
    assert!(matches!(seen.take().last(), Some(WalEvent::Synced { up_to: SeqNo(16), .. })));
}

#[test]
fn an_observer_is_told_with_no_lock_held() {
    must_end(|| {
        let seen = Arc::new(Seen::default());
        let fs = FaultFs::new(disk());
        let mut world = World::new();
        world.options.observer = Some(Arc::<Seen>::clone(&seen));
        let (wal, _, _) = world.open(Arc::new(fs.clone())).unwrap();
        let wal = Arc::new(wal);
        seen.wal.set(Arc::downgrade(&wal)).unwrap();
        for seq in 1..=12 {
            append(&wal, &full(seq)).unwrap();
            wal.tick();
        }
        wal.sync(wal.appended_lsn()).unwrap();
        wal.release(SeqNo(13)).unwrap();
        let events = seen.take();
        for (what, count) in [
            ("made", events.iter().filter(|e| matches!(e, WalEvent::SegmentMade { .. })).count()),
            (
                "released",
                events.iter().filter(|e| matches!(e, WalEvent::SegmentReleased { .. })).count(),
            ),
            ("synced", events.iter().filter(|e| matches!(e, WalEvent::Synced { .. })).count()),
        ] {
            assert!(count > 0, "{what}: {events:?}");
        }
        // Healing too.
        fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").fail(Failure::EIO));
        append(&wal, &full(13)).unwrap();
        wal.sync(wal.appended_lsn()).unwrap_err();
        append(&wal, &full(14)).unwrap_err();
        assert_eq!(seen.take(), [], "a failed sync is no sync");
        wal.heal(SeqNo(13)).unwrap();
        assert!(seen.take().iter().any(|e| matches!(e, WalEvent::SegmentMade { .. })));
    });
}
