//! The ring that publishes commits in order.
//!
//! Committers get their sequence numbers one after another under the commit lock, then fill the
//! memtables side by side and finish in any order. A reader must never see sequence number n while
//! a smaller one is still being inserted, so `visible` may only move over a *finished prefix*.
//!
//! ```text
//!            head                      tail
//!             v                         v
//!   ... | 0 | 0 | 118 | 0 | 131 | 140 | 0 | ...     0: claimed and still applying, or free
//!                                                   n: applied, last sequence number n
//! ```
//!
//! [`Ring::claim`] (under the commit lock) takes the slot at `tail`. [`Ring::publish`] stores the
//! batch's last sequence number there and then moves `head` over every finished slot, raising
//! `visible` as it goes. Whoever finishes the oldest batch publishes for those behind it.
//!
//! Why no finished slot is left behind. A publisher stores its slot and then looks at the head
//! slot; the one that moves the head stores the new head and then looks at the slot there. Both
//! use sequentially consistent operations, so at least one of the two sees the other's store: the
//! head never rests on a finished slot after the last publisher has left its loop. Taking the
//! head slot's value by compare-exchange lets exactly one thread move the head at a time.

use sluice_base::SeqNo;
use sluice_env::sync::{
    Condvar, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::SeqCst},
    hint,
};

/// Committers at one time. Each occupies a slot from its claim to its publication, which is the
/// time of some memtable inserts; a claim beyond it is refused and the committer tries again.
const SLOTS: usize = match cfg!(any(sluice_loom, sluice_shuttle)) {
    false => 1024,
    true => 2, // so that the ring goes round in a model
};

/// Turns to spin for an older committer before sleeping: inserts take a microsecond or so, a sleep
/// and wake-up more than ten.
const SPINS: usize = match cfg!(any(sluice_loom, sluice_shuttle)) {
    false => 64,
    true => 0, // a turn there is as dear as a sleep
};

#[derive(Debug)]
pub(crate) struct Ring {
    slots: Box<[AtomicU64]>,
    /// Ticket of the oldest slot not published.
    head: AtomicU64,
    /// Ticket of the next claim. Changed under the commit lock only.
    tail: AtomicU64,
    visible: AtomicU64,
    /// Sleepers in `wait_visible`; publishers touch the lock only when there are any.
    sleepers: AtomicU64,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// A claimed slot. Must be published: the head waits for it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Claim {
    ticket: u64,
    last: SeqNo,
}

impl Ring {
    /// A ring whose readers see everything up to `visible`.
    pub(crate) fn new(visible: SeqNo) -> Ring {
        Ring {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            visible: AtomicU64::new(visible.0),
            sleepers: AtomicU64::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    #[inline]
    pub(crate) fn visible(&self) -> SeqNo {
        SeqNo(self.visible.load(SeqCst))
    }

    /// Whether [`Ring::claim`] would succeed. The caller holds the commit lock.
    pub(crate) fn has_room(&self) -> bool {
        self.tail.load(SeqCst) - self.head.load(SeqCst) < SLOTS as u64
    }

    /// Takes the next place in line for a batch that ends at `last`. The caller holds the commit
    /// lock and has seen [`Ring::has_room`].
    pub(crate) fn claim(&self, last: SeqNo) -> Claim {
        assert!(self.has_room(), "a claim follows has_room under the same lock");
        assert!(last > SeqNo::ZERO, "zero marks an unfinished slot");
        let ticket = self.tail.load(SeqCst);
        self.tail.store(ticket + 1, SeqCst);
        Claim { ticket, last }
    }

    /// Marks the claim's batch as applied and publishes every finished batch at the front.
    pub(crate) fn publish(&self, claim: &Claim) {
        self.slot(claim.ticket).store(claim.last.0, SeqCst);
        let mut moved = false;
        loop {
            let head = self.head.load(SeqCst);
            let slot = self.slot(head);
            let last = slot.load(SeqCst);
            if last == 0 || slot.compare_exchange(last, 0, SeqCst, SeqCst).is_err() {
                break; // unfinished, or another thread is moving the head and will look again
            }
            if self.head.load(SeqCst) != head {
                // Between the two loads the ring went round: what was taken belongs to a later
                // ticket. Put it back and look at the head of now, so that it is not overlooked.
                slot.store(last, SeqCst);
                continue;
            }
            // The slot is the head's: ticket `head + SLOTS` cannot be claimed before the head has
            // moved on. And the head is ours: nobody else can move it while its slot reads 0.
            self.visible.store(last, SeqCst);
            self.head.store(head + 1, SeqCst);
            moved = true;
        }
        if moved && self.sleepers.load(SeqCst) > 0 {
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Returns when everything up to `seq` is visible. Every claimed batch publishes after a
    /// bounded number of inserts, so this ends.
    pub(crate) fn wait_visible(&self, seq: SeqNo) {
        for _ in 0..SPINS {
            if self.visible() >= seq {
                return;
            }
            hint::spin_loop();
        }
        self.sleepers.fetch_add(1, SeqCst);
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while self.visible() < seq {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, SeqCst);
    }

    #[inline]
    fn slot(&self, ticket: u64) -> &AtomicU64 {
        &self.slots[ticket as usize % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_later_batch_waits_for_an_earlier_one() {
        let ring = Ring::new(SeqNo(10));
        let first = ring.claim(SeqNo(12));
        let second = ring.claim(SeqNo(15));
        ring.publish(&second);
        assert_eq!(ring.visible(), SeqNo(10));
        ring.publish(&first);
        assert_eq!(ring.visible(), SeqNo(15));
    }

    #[test]
    fn many_committers_publish_everything_in_order() {
        let ring = Arc::new(Ring::new(SeqNo::ZERO));
        let commit = Arc::new(Mutex::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (ring, commit) = (Arc::clone(&ring), Arc::clone(&commit));
                std::thread::Builder::new()
                    .spawn(move || {
                        for _ in 0..20_000 {
                            let claim = {
                                let mut next = commit.lock().unwrap();
                                if !ring.has_room() {
                                    continue;
                                }
                                *next += 1;
                                ring.claim(SeqNo(*next))
                            };
                            let last = claim.last;
                            ring.publish(&claim);
                            ring.wait_visible(last);
                            assert!(ring.visible() >= last);
                        }
                    })
                    .unwrap()
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(ring.visible().0, *commit.lock().unwrap());
    }
}

#[cfg(all(test, sluice_loom))]
mod loom_tests;
