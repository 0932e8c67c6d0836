//! Locks, condition variables and atomics: the one place the engine takes them from, so that a test
//! can decide which thread runs when.
//!
//! ```text
//! plain build            the standard library's, re-exported: no wrapper, no cost
//! --cfg sluice_loom      loom's: every interleaving, and every value a weak ordering may read
//! --cfg sluice_shuttle   shuttle's: random schedules of the whole engine
//! ```
//!
//! The names of the two flags are our own, because `--cfg loom` would reach dependencies that know
//! a flag of that name as well.
//!
//! `Arc`, `Weak`, `OnceLock` and `PoisonError` are the standard library's in every build: reference
//! counts are not what is under test, loom's `Arc` cannot hold a `dyn Trait`, and nothing is done
//! inside `OnceLock::get_or_init` that could let another thread run. `metrics` and clocks do not
//! come here either: their numbers order nothing.

#[cfg(sluice_loom)]
mod on_loom;
#[cfg(sluice_shuttle)]
mod on_shuttle;

#[cfg(not(any(sluice_loom, sluice_shuttle)))]
pub use std::{
    hint,
    sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
        atomic, mpsc,
    },
    thread,
};

#[cfg(sluice_loom)]
pub use on_loom::*;
#[cfg(sluice_shuttle)]
pub use on_shuttle::*;

pub use std::sync::{Arc, LockResult, OnceLock, PoisonError, Weak};
