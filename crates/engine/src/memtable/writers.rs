//! [`Writers`]: counts who is inserting into a memtable, lets the flusher wait until nobody is, and
//! lets nobody in after the seal.
//!
//! ```text
//! word = writers << 1 | sealed
//! begin  word += 2; was it sealed? then word -= 2 and refuse
//! end    word -= 2; sealed and the last one? then wake the waiter
//! ```
//!
//! One word holds both facts, so "sealed, and no writer left" is one atomic observation: either
//! the last writer sees the seal in the value it decrements, or the waiter sees the zero. The lock
//! and the condition variable are touched only around that moment, never while the memtable is
//! active.

use super::sync::{AtomicU64, Condvar, Mutex, Ordering};
use std::sync::PoisonError;

const SEALED: u64 = 1;
const WRITER: u64 = 2;

/// See the file's head.
pub(super) struct Writers {
    word: AtomicU64,
    /// Guards nothing but the step from looking at `word` to sleeping.
    lock: Mutex<()>,
    ended: Condvar,
}

impl Writers {
    pub(super) fn new() -> Writers {
        Writers { word: AtomicU64::new(0), lock: Mutex::new(()), ended: Condvar::new() }
    }

    #[inline]
    pub(super) fn begin(&self) -> bool {
        let before = self.word.fetch_add(WRITER, Ordering::Acquire);
        if before & SEALED == 0 {
            return true;
        }
        self.end();
        false
    }

    #[inline]
    pub(super) fn end(&self) {
        // Release: what this writer inserted is visible to whoever sees the count fall.
        let before = self.word.fetch_sub(WRITER, Ordering::Release);
        debug_assert!(before >= WRITER, "end without begin");
        if before == WRITER | SEALED {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // A waiter that saw a writer holds the lock until it sleeps, so it cannot miss this.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.ended.notify_all();
    }

    pub(super) fn count(&self) -> u64 {
        self.word.load(Ordering::Acquire) / WRITER
    }

    pub(super) fn seal(&self) {
        self.word.fetch_or(SEALED, Ordering::AcqRel);
    }

    pub(super) fn wait(&self) {
        self.seal();
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Acquire in `count`: pairs with the Release of every `end`.
        while self.count() > 0 {
            guard = self.ended.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn nobody_begins_after_the_seal() {
        let writers = Writers::new();
        assert!(writers.begin());
        writers.seal();
        assert!(!writers.begin());
        assert_eq!(writers.count(), 1);
        writers.end();
        writers.wait();
        assert!(!writers.begin());
        assert_eq!(writers.count(), 0);
    }

    #[test]
    fn the_waiter_sees_everything_that_was_written() {
        for _ in 0..200 {
            let writers = Writers::new();
            let written = AtomicUsize::new(0);
            let seen = std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while writers.begin() {
                            written.fetch_add(1, Ordering::Relaxed);
                            writers.end();
                        }
                    });
                }
                writers.wait();
                written.load(Ordering::Relaxed)
            });
            assert_eq!(seen, written.load(Ordering::Relaxed), "written after the wait");
        }
    }
}
