//! The one place the memtable takes its atomics and locks from: the engine's (`sluice_env::sync`),
//! with which loom tries every interleaving.
//!
//! Not for schedules of the whole engine: shuttle knows no weak ordering, which is all there is to
//! find here, and every step of a search would dilute the schedules of everything else. There the
//! standard library's are used, and a search or an insert is one step.

pub(super) use sluice_env::sync::Arc;
#[cfg(not(sluice_shuttle))]
pub(super) use sluice_env::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(sluice_shuttle)]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
