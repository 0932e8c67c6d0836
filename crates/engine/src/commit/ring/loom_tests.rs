//! The ring under loom: committers that finish in any order, a reader, and the ring going round.
//! How to run it: `memtable/skiplist/loom_tests.rs`.
//!
//! What a batch writes is a cell that loom watches: reading it before its write has happened, for
//! this reader, fails the model.

use super::*;
use loom::cell::UnsafeCell;
use sluice_env::sync::{Arc, model, thread};

struct Commits {
    ring: Ring,
    /// The commit lock: the next sequence number.
    next: Mutex<u64>,
    /// What batch n wrote, at n - 1.
    written: [UnsafeCell<bool>; 3],
}

// SAFETY: loom's cells find out whether they are shared without order.
unsafe impl Sync for Commits {}
// SAFETY: as above.
unsafe impl Send for Commits {}

impl Commits {
    fn new() -> Arc<Commits> {
        let ring = Ring::new(SeqNo::ZERO);
        // loom takes the value that an atomic begins with for a store that is not sequentially
        // consistent, and lets a load that is return it too late.
        for word in ring.slots.iter().chain([&ring.head, &ring.tail, &ring.visible, &ring.sleepers])
        {
            word.store(0, SeqCst);
        }
        Arc::new(Commits {
            ring,
            next: Mutex::new(1),
            written: std::array::from_fn(|_| UnsafeCell::new(false)),
        })
    }

    /// As `commit::write` does it: a place in line under the lock, the batch outside it.
    fn commit(&self) {
        let claim = loop {
            let mut next = self.next.lock().unwrap();
            if self.ring.has_room() {
                *next += 1;
                break self.ring.claim(SeqNo(*next - 1));
            }
            drop(next);
            thread::yield_now();
        };
        // SAFETY: nobody else writes this batch's cell, and loom watches for readers.
        self.written[claim.last.0 as usize - 1].with_mut(|cell| unsafe { *cell = true });
        self.ring.publish(&claim);
        self.ring.wait_visible(claim.last);
        self.read();
    }

    /// Everything visible is there.
    fn read(&self) -> u64 {
        let visible = self.ring.visible().0;
        for cell in &self.written[..visible as usize] {
            // SAFETY: loom watches for writers.
            assert!(cell.with(|cell| unsafe { *cell }), "visible before it was applied");
        }
        visible
    }
}

fn committers(count: usize, preemptions: usize, has_reader: bool) {
    model(preemptions, move || {
        let commits = Commits::new();
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let commits = Arc::clone(&commits);
                thread::spawn(move || commits.commit())
            })
            .collect();
        let reader = has_reader.then(|| {
            let commits = Arc::clone(&commits);
            thread::spawn(move || {
                let first = commits.read();
                assert!(commits.read() >= first, "visible went back");
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        if let Some(reader) = reader {
            reader.join().unwrap();
        }
        assert_eq!(commits.read(), count as u64, "a finished batch was left behind");
    });
}

#[test]
fn loom_two_committers() {
    committers(2, 3, true);
}

/// One more than the ring has slots; each is a reader in the end.
#[test]
fn loom_three_committers_go_round() {
    committers(3, 3, false);
}
