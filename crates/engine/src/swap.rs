//! [`Swap`]: one shared pointer that many threads load and few replace.
//!
//! It is `arc_swap::ArcSwap`. That crate is not under test, and its atomics are its own, so the two
//! builds that decide which thread runs when (`sluice_env::sync`) have something else with the same
//! contract: a load is at least an acquire and gives the pointer of some store that is not older
//! than what happened before; a store is at least a release and frees what nobody holds any more.

#[cfg(not(any(sluice_loom, sluice_shuttle)))]
pub(crate) use arc_swap::{ArcSwap as Swap, Guard};

#[cfg(any(sluice_loom, sluice_shuttle))]
pub(crate) use stand_in::{Guard, Swap};

/// Every pointer ever stored, and which is the newest: with loom a load may give an older one
/// wherever the orderings allow it, and nothing but that one number makes threads happen one after
/// the other. Nothing is freed before the end, which is soon in a model.
#[cfg(sluice_loom)]
mod stand_in {
    use sluice_env::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};

    pub(crate) type Guard<T> = T;

    pub(crate) struct Swap<T> {
        newest: AtomicUsize,
        /// Changed by every call, in no order: loom remembers the last access to an atomic alone,
        /// so a thread that loads `newest` and then stores it would hide from it that another
        /// thread's load came before.
        calls: AtomicUsize,
        stored: Mutex<Vec<Arc<T>>>,
    }

    impl<T> Swap<T> {
        pub(crate) fn from_pointee(value: T) -> Swap<T> {
            Swap {
                newest: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
                stored: Mutex::new(vec![Arc::new(value)]),
            }
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let at = self.newest.load(Ordering::Acquire);
            Arc::clone(&self.stored.lock().unwrap_or_else(PoisonError::into_inner)[at])
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            let at = {
                let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
                stored.push(value);
                stored.len() - 1
            };
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.newest.swap(at, Ordering::AcqRel);
        }
    }
}

/// The real one, with a point before each call at which another thread may run. It runs on one
/// thread of the system there and lets no other run inside.
#[cfg(sluice_shuttle)]
mod stand_in {
    use sluice_env::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::Arc;

    pub(crate) use arc_swap::Guard;

    pub(crate) struct Swap<T> {
        inner: arc_swap::ArcSwap<T>,
        point: AtomicUsize,
    }

    impl<T> Swap<T> {
        pub(crate) fn from_pointee(value: T) -> Swap<T> {
            Swap { inner: arc_swap::ArcSwap::from_pointee(value), point: AtomicUsize::new(0) }
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            self.point.load(SeqCst);
            self.inner.load()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.point.load(SeqCst);
            self.inner.load_full()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            self.point.load(SeqCst);
            self.inner.store(value);
        }
    }
}
