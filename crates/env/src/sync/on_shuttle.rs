//! shuttle's primitives under the standard library's names, and the time and the threads that
//! belong to them. Works inside a shuttle execution only.
//!
//! # Time
//!
//! shuttle has none: its timed waits never end. Here they do. A timed wait that nobody notifies
//! gives way to the other threads a random number of times, and then ends with its limit; by that
//! the clock ([`VirtualClock`]) leaps to the moment the wait was for. Any order of expiries is
//! possible, as it is for threads that the system runs when it likes; a longer limit is a little
//! more patient. What follows:
//!
//! - a thread that wakes up every now and then keeps the execution alive, so a wait that never
//!   ends shows as an execution over its step limit where such threads are about, and as shuttle's
//!   deadlock report where all others wait without a limit;
//! - no deadline is too short or too long to be met or missed: a test must allow for both.
//!
//! Time and everything random come from the execution alone, so a schedule replays exactly.

pub use shuttle::{
    hint,
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, atomic},
    thread,
};

use crate::{Clock, JoinHandle, Threads};
use shuttle::rand::{RngCore, thread_rng};
use std::{
    cell::Cell,
    fmt, io,
    ops::{Deref, DerefMut},
    sync::{Arc, LockResult, PoisonError},
    time::Duration,
};

/// How often a timed wait gives way at most, for each bit of its limit in microseconds.
const PATIENCE: u64 = 8;

std::thread_local! {
    /// All threads of one execution run on one thread of the system.
    static NOW_US: Cell<u64> = const { Cell::new(0) };
}

/// The clock that stands still until a timed wait ends by its limit. See the file's head.
///
/// The one moment is shared by all clocks of an execution.
#[derive(Debug, Default)]
pub struct VirtualClock(());

impl VirtualClock {
    /// A clock for a new execution: time begins again.
    pub fn start() -> VirtualClock {
        NOW_US.set(0);
        VirtualClock(())
    }
}

impl Clock for VirtualClock {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + NOW_US.get() / 1000
    }

    fn monotonic_us(&self) -> u64 {
        NOW_US.get()
    }
}

/// Threads that run when the schedule says so.
#[derive(Debug, Default)]
pub struct ScheduledThreads;

impl Threads for ScheduledThreads {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle> {
        let handle = thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(JoinHandle::new(move || {
            if handle.thread().id() != thread::current().id() {
                drop(handle.join());
            }
        }))
    }
}

/// shuttle's mutex; its guard knows where it came from, which a condition variable needs.
#[derive(Default)]
pub struct Mutex<T: ?Sized>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    #[track_caller]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub fn into_inner(self) -> LockResult<T> {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.0.lock() {
            Ok(guard) => Ok(MutexGuard { mutex: self, guard }),
            Err(poisoned) => {
                Err(PoisonError::new(MutexGuard { mutex: self, guard: poisoned.into_inner() }))
            }
        }
    }

    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex { .. }")
    }
}

/// The right to use what a [`Mutex`] holds.
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

/// One sleeping thread. Not `thread::park`: shuttle lets that return at any time, and so takes no
/// parked thread for a blocked one.
#[derive(Default)]
struct Waiter {
    woken: shuttle::sync::Mutex<bool>,
    wake: shuttle::sync::Condvar,
}

impl Waiter {
    fn is_woken(&self) -> bool {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            woken = self.wake.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A condition variable whose timed waits end. Which of several waiters one notification wakes is
/// random; nobody wakes without one, because code that needs more wake-ups than it gets is what
/// the schedules are to find.
#[derive(Default)]
pub struct Condvar {
    /// Held for a push or a removal, never where another thread could run.
    waiters: std::sync::Mutex<Vec<Arc<Waiter>>>,
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar { .. }")
    }
}

/// Whether a wait ended by its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// One that nobody waits for.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enlist(&self) -> Arc<Waiter> {
        let waiter = Arc::<Waiter>::default();
        self.waiters().push(Arc::clone(&waiter));
        waiter
    }

    pub fn notify_one(&self) {
        let woken = {
            let mut waiters = self.waiters();
            match waiters.len() as u64 {
                0 => return,
                count => waiters.swap_remove((thread_rng().next_u64() % count) as usize),
            }
        };
        woken.wake();
    }

    pub fn notify_all(&self) {
        let woken = std::mem::take(&mut *self.waiters());
        for waiter in woken {
            waiter.wake();
        }
    }

    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex;
        // On the list before the mutex is let go: no notification is lost in between.
        let waiter = self.enlist();
        drop(guard);
        waiter.sleep();
        mutex.lock()
    }

    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let end_us = NOW_US.get().saturating_add(limit_us);
        let mutex = guard.mutex;
        let waiter = self.enlist();
        drop(guard);
        if limit == Duration::MAX {
            waiter.sleep(); // for ever is what is meant
        }
        let most = PATIENCE * u64::from(u64::BITS - limit_us.leading_zeros()) + 1;
        for _ in 0..thread_rng().next_u64() % most {
            if waiter.is_woken() {
                break;
            }
            thread::yield_now();
        }
        // Whoever takes a waiter off the list wakes it, and only once.
        let timed_out = {
            let mut waiters = self.waiters();
            let at = waiters.iter().position(|other| Arc::ptr_eq(other, &waiter));
            at.map(|at| waiters.swap_remove(at)).is_some()
        };
        if timed_out {
            NOW_US.set(NOW_US.get().max(end_us));
        }
        let result = WaitTimeoutResult(timed_out);
        match mutex.lock() {
            Ok(guard) => Ok((guard, result)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), result))),
        }
    }

    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let began_us = NOW_US.get();
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let passed = Duration::from_micros(NOW_US.get() - began_us);
            let left = match limit {
                Duration::MAX => limit,
                limit => limit.saturating_sub(passed),
            };
            if left.is_zero() {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            guard = self.wait_timeout(guard, left)?.0;
        }
    }
}

/// What the engine uses of channels, with timed waits that end.
pub mod mpsc {
    pub use std::sync::mpsc::{RecvTimeoutError, TrySendError};

    use super::{Arc, Condvar, Duration, Mutex, PoisonError};
    use std::collections::VecDeque;

    #[derive(Debug)]
    struct State<T> {
        values: VecDeque<T>,
        bound: usize,
        has_sender: bool,
        has_receiver: bool,
    }

    #[derive(Debug)]
    struct Shared<T> {
        state: Mutex<State<T>>,
        changed: Condvar,
    }

    impl<T> Shared<T> {
        fn state(&self) -> super::MutexGuard<'_, State<T>> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// The end that values are put into.
    #[derive(Debug)]
    pub struct SyncSender<T>(Arc<Shared<T>>);

    /// The end that values come out of.
    #[derive(Debug)]
    pub struct Receiver<T>(Arc<Shared<T>>);

    /// A channel that holds `bound` values.
    pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
        let values = VecDeque::new();
        let state = State { values, bound, has_sender: true, has_receiver: true };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        (SyncSender(Arc::clone(&shared)), Receiver(shared))
    }

    impl<T> SyncSender<T> {
        pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let mut state = self.0.state();
            if !state.has_receiver {
                return Err(TrySendError::Disconnected(value));
            }
            if state.values.len() >= state.bound {
                return Err(TrySendError::Full(value));
            }
            state.values.push_back(value);
            drop(state);
            self.0.changed.notify_all();
            Ok(())
        }
    }

    impl<T> Drop for SyncSender<T> {
        fn drop(&mut self) {
            self.0.state().has_sender = false;
            self.0.changed.notify_all();
        }
    }

    impl<T> Receiver<T> {
        pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
            let empty = |state: &mut State<T>| state.values.is_empty() && state.has_sender;
            let waited = self.0.changed.wait_timeout_while(self.0.state(), limit, empty);
            let (mut state, result) = waited.unwrap_or_else(PoisonError::into_inner);
            match state.values.pop_front() {
                Some(value) => Ok(value),
                None if result.timed_out() => Err(RecvTimeoutError::Timeout),
                None => Err(RecvTimeoutError::Disconnected),
            }
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.state().has_receiver = false;
        }
    }
}
