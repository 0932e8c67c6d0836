//! Latches: striped locks that writers hold from before their view is taken until their batch is
//! visible. Two writers of one key therefore run one after the other; writers of different keys
//! almost never meet.
//!
//! A stripe is chosen by the user key alone, not by its database: commands that name a second
//! database (MOVE, COPY) then need no latch beyond those of their keys, and SWAPDB cannot change
//! which latch covers a key.
//!
//! Why not `std::sync::Mutex`: a transaction owns its latches without borrowing them (it is kept
//! and reused by an event loop), and 4096 guards would be 4096 lifetimes. One word a stripe:
//!
//! ```text
//! FREE ──lock──▶ HELD ──contender──▶ CONTENDED ──unlock──▶ FREE + wake
//! ```
//!
//! Deadlock freedom: one acquisition takes its stripes in ascending order, and a thread must not
//! acquire while it holds (see [`crate::Txn`]).

use std::{
    hash::BuildHasher,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

/// How many stripes: with 64 writers at once, two meet by chance in about 64²/2/4096 = half of the
/// moments, and then only one of them waits, for microseconds.
pub(crate) const STRIPE_COUNT: u16 = 4096;

/// Where contenders sleep. Few, since contention is rare; a wake-up re-checks its own stripe.
const PARKING_COUNT: usize = 64;

const FREE: u8 = 0;
const HELD: u8 = 1;
const CONTENDED: u8 = 2;

/// The latches a transaction needs. Reuse one per event loop: `clear` keeps its memory.
#[derive(Debug, Clone, Default)]
pub struct LatchSet {
    stripes: Vec<u16>,
    all: bool,
}

impl LatchSet {
    pub fn new() -> LatchSet {
        LatchSet::default()
    }

    /// Adds the latch of `key`.
    pub fn add_key(&mut self, key: &[u8]) {
        self.stripes.push(stripe_of(key));
    }

    /// Adds every latch: for commands that change whole databases.
    pub fn add_all(&mut self) {
        self.all = true;
    }

    pub fn clear(&mut self) {
        self.stripes.clear();
        self.all = false;
    }

    pub fn is_empty(&self) -> bool {
        !self.all && self.stripes.is_empty()
    }

    pub(crate) fn covers_all(&self) -> bool {
        self.all
    }

    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.all || self.stripes.contains(&stripe_of(key))
    }

    pub(crate) fn copy_from(&mut self, other: &LatchSet) {
        self.clear();
        self.all = other.all;
        self.stripes.extend_from_slice(&other.stripes);
        if self.stripes.len() > 1 {
            self.stripes.sort_unstable();
            self.stripes.dedup();
        }
    }
}

pub(crate) fn stripe_of(key: &[u8]) -> u16 {
    // Fixed keys: an attacker who aims at one stripe gains contention, nothing more.
    let hash = foldhash::fast::FixedState::default().hash_one(key);
    (hash >> 32) as u16 % STRIPE_COUNT
}

#[derive(Debug)]
pub(crate) struct Latches {
    stripes: Box<[AtomicU8]>,
    parking: Box<[Parking]>,
}

#[derive(Debug, Default)]
struct Parking {
    mutex: Mutex<()>,
    wake: Condvar,
}

impl Latches {
    pub(crate) fn new() -> Latches {
        Latches {
            stripes: (0..STRIPE_COUNT).map(|_| AtomicU8::new(FREE)).collect(),
            parking: (0..PARKING_COUNT).map(|_| Parking::default()).collect(),
        }
    }

    /// Takes every latch of `set`, which must be sorted and without duplicates (`copy_from` does
    /// both).
    pub(crate) fn acquire(&self, set: &LatchSet) {
        if set.all {
            (0..STRIPE_COUNT).for_each(|stripe| self.lock(stripe));
        } else {
            set.stripes.iter().for_each(|&stripe| self.lock(stripe));
        }
    }

    /// Gives back what `acquire` took.
    pub(crate) fn release(&self, set: &LatchSet) {
        if set.all {
            (0..STRIPE_COUNT).for_each(|stripe| self.unlock(stripe));
        } else {
            set.stripes.iter().for_each(|&stripe| self.unlock(stripe));
        }
    }

    fn lock(&self, stripe: u16) {
        let word = &self.stripes[usize::from(stripe)];
        if word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.lock_slow(stripe);
        }
    }

    #[cold]
    fn lock_slow(&self, stripe: u16) {
        let word = &self.stripes[usize::from(stripe)];
        let parking = &self.parking[usize::from(stripe) % PARKING_COUNT];
        let mut guard = parking.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        // CONTENDED is stored under the parking mutex. An unlocker that swaps it out must take the
        // same mutex before it wakes, so it cannot wake between our swap and our wait.
        while word.swap(CONTENDED, AcqRel) != FREE {
            guard = parking.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        // We may have become the holder in state CONTENDED without anyone behind us: our unlock
        // then wakes nobody, which costs little.
    }

    fn unlock(&self, stripe: u16) {
        let word = &self.stripes[usize::from(stripe)];
        let before = word.swap(FREE, AcqRel);
        debug_assert_ne!(before, FREE, "latch {stripe} released without being held");
        if before == CONTENDED {
            let parking = &self.parking[usize::from(stripe) % PARKING_COUNT];
            drop(parking.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            parking.wake.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn overlapping_sets_exclude_each_other_and_never_deadlock() {
        let latches = Latches::new();
        let counts: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (latches, counts) = (&latches, &counts);
                scope.spawn(move || {
                    let mut rng = sluicedb::env::Rng::new(thread);
                    for _ in 0..2_000 {
                        let picks = [rng.below(8), rng.below(8)];
                        let mut wanted = LatchSet::new();
                        if rng.one_in(500) {
                            wanted.add_all();
                        }
                        picks.iter().for_each(|p| wanted.add_key(&p.to_be_bytes()));
                        let mut set = LatchSet::new();
                        set.copy_from(&wanted);
                        latches.acquire(&set);
                        let mut distinct = picks.to_vec();
                        distinct.dedup();
                        for pick in distinct {
                            // Not an atomic increment: only mutual exclusion makes it exact.
                            let count = &counts[pick as usize];
                            count.store(count.load(Relaxed) + 1, Relaxed);
                        }
                        latches.release(&set);
                    }
                });
            }
        });
        let mut expected = [0u64; 8];
        for thread in 0..4u64 {
            let mut rng = sluicedb::env::Rng::new(thread);
            for _ in 0..2_000 {
                let picks = [rng.below(8), rng.below(8)];
                rng.one_in(500);
                expected[picks[0] as usize] += 1;
                expected[picks[1] as usize] += u64::from(picks[0] != picks[1]);
            }
        }
        for (count, expected) in counts.iter().zip(expected) {
            assert_eq!(count.load(Relaxed), expected);
        }
    }
}
