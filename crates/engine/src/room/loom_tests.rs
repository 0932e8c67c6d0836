//! The room and the sum of bytes under loom: writers that share one place, and a caller that does
//! not wait but leaves a callback. How to run it: `memtable/skiplist/loom_tests.rs`.
//!
//! The loop around [`Room::wait`] is that of `commit::reserve`, and [`Budget::release`] what the
//! end of a flush does; both need a whole database, so their steps are repeated here.

use super::*;
use crate::core::ByteCount;
use sluice_env::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    model, thread,
};

struct Budget {
    max: u64,
    commit: Mutex<()>,
    used: ByteCount,
    room: Room,
}

impl Budget {
    fn new(max: u64) -> Arc<Budget> {
        let (commit, used, room) = Default::default();
        Arc::new(Budget { max, commit, used, room })
    }

    /// One look, under the commit lock; what was found is reserved.
    fn admit(&self) -> bool {
        let _commit = self.commit.lock().unwrap();
        let has_room = self.used.get() < self.max;
        if has_room {
            self.used.add(1);
            assert!(self.used.get() <= self.max, "over the budget");
        }
        has_room
    }

    fn reserve(&self) {
        loop {
            let turn = self.room.turn();
            if self.admit() {
                return;
            }
            self.room.refused(turn);
            assert!(self.room.wait(turn, None));
        }
    }

    fn release(&self) {
        self.used.sub(1);
        self.room.end_turn();
    }
}

fn writers(count: usize, max: u64, preemptions: usize, poll: bool) {
    model(preemptions, move || {
        let budget = Budget::new(max);
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let budget = Arc::clone(&budget);
                thread::spawn(move || {
                    budget.reserve();
                    budget.release();
                })
            })
            .collect();
        let runs = Arc::new(AtomicU64::new(0));
        if poll {
            let turn = budget.room.turn();
            if budget.admit() {
                runs.fetch_add(1, Ordering::Relaxed);
                budget.release();
            } else {
                budget.room.refused(turn);
                let runs = Arc::clone(&runs);
                budget.room.on_change(Box::new(move || {
                    runs.fetch_add(1, Ordering::Relaxed);
                }));
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(budget.used.get(), 0);
        assert_eq!(runs.load(Ordering::Relaxed), u64::from(poll), "the callback runs once");
    });
}

#[test]
fn loom_two_writers_share_one_place() {
    writers(2, 1, 4, false);
}

#[test]
fn loom_three_writers_share_two_places() {
    writers(3, 2, 3, false);
}

#[test]
fn loom_a_writer_and_one_that_does_not_wait() {
    writers(1, 1, 4, true);
}

#[test]
fn loom_two_writers_and_one_that_does_not_wait() {
    writers(2, 1, 3, true);
}
