//! loom's primitives under the standard library's names. Models are the files called
//! `loom_tests.rs`; nothing else may run in such a build, because these primitives work inside
//! `loom::model` only.
//!
//! Time does not pass: a timed wait never times out. What must end without a notification is
//! left to the schedules of shuttle, where timed waits end.
//!
//! `SeqCst` in loom: an access is `AcqRel`, and in addition never reads an older `SeqCst` store
//! than the newest one. That is weaker than the real thing, so loom may show what cannot happen,
//! and does not hide what can.
//!
//! loom tries the orders of two accesses by the *last* access to an atomic before the second. A
//! thread that loads an atomic and then changes it hides that another had loaded it before. So in
//! models a reader is the thread spawned last: its loads come after all changes at first, and loom
//! tries every older value for them that the orderings allow.

pub use loom::{
    hint,
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic},
    thread,
};
/// loom has no bounded channel; no model uses one.
pub use std::sync::mpsc;

use std::{sync::LockResult, time::Duration};

/// loom's, with the calls that loom's lacks.
#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

/// Whether a wait ended by its limit: never.
#[derive(Debug)]
pub struct WaitTimeoutResult(());

impl WaitTimeoutResult {
    /// False; see the file's head.
    pub fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    /// One that nobody waits for.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    #[track_caller]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    #[track_caller]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    #[track_caller]
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        match self.wait(guard) {
            Ok(guard) => Ok((guard, WaitTimeoutResult(()))),
            // loom poisons nothing.
            Err(poisoned) => Ok((poisoned.into_inner(), WaitTimeoutResult(()))),
        }
    }

    #[track_caller]
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        while condition(&mut guard) {
            guard = self.wait_timeout(guard, limit)?.0;
        }
        Ok((guard, WaitTimeoutResult(())))
    }
}

/// Runs `body` in every interleaving with at most `preemptions` switches of a thread that could go
/// on; `LOOM_MAX_PREEMPTIONS` takes precedence. Says how many interleavings there were.
pub fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        body();
    });
    println!("{} interleavings", runs.load(std::sync::atomic::Ordering::Relaxed));
}
