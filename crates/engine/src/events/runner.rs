//! Runs the callbacks of subscribers: the one place where their code runs, and it holds no lock.
//!
//! See the module's head for why this is a thread of its own. It holds neither the hub nor the
//! database, so it ends whenever [`Runner::finish`] says so. A callback may close the database or
//! drop its last handle: `finish` then runs on the thread itself, and does not wait for it.

use crate::Result;
use sluice_base::Error;
use sluice_env::{
    JoinHandle, Threads,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        thread::{self, ThreadId},
    },
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A callback of a subscriber.
pub(super) type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Staged {
    callbacks: Vec<Callback>,
    stopping: bool,
    /// The thread, once it runs.
    thread: Option<ThreadId>,
}

#[derive(Default)]
struct Shared {
    staged: Mutex<Staged>,
    wake: Condvar,
}

impl Shared {
    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of `sluice-events`.
    fn work(&self) {
        self.staged().thread = Some(thread::current().id());
        loop {
            let idle = |staged: &mut Staged| staged.callbacks.is_empty() && !staged.stopping;
            let staged = self.wake.wait_while(self.staged(), idle);
            let mut staged = staged.unwrap_or_else(PoisonError::into_inner);
            let callbacks = std::mem::take(&mut staged.callbacks);
            if callbacks.is_empty() {
                return; // stopping, and nothing is left
            }
            drop(staged);
            run(callbacks);
        }
    }
}

/// Who runs callbacks, and those that wait to be run.
#[derive(Default)]
pub(super) struct Runner {
    shared: Arc<Shared>,
    /// Taken to start and to join the thread; never while anything is staged.
    thread: Mutex<Option<JoinHandle>>,
}

impl Runner {
    /// Starts the thread unless it runs.
    pub(super) fn start(&self, threads: &dyn Threads) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() || self.shared.staged().stopping {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let handle = threads.spawn("sluice-events", Box::new(move || shared.work()));
        *thread = Some(handle.map_err(|e| Error::io("start thread sluice-events", e))?);
        Ok(())
    }

    /// Leaves callbacks to the thread, or to the next step. Called under the hub's lock.
    pub(super) fn stage(&self, callbacks: Vec<Callback>) {
        if !callbacks.is_empty() {
            self.shared.staged().callbacks.extend(callbacks);
            self.shared.wake.notify_one();
        }
    }

    /// Runs on this thread what is staged; false when nothing is.
    pub(super) fn run_staged(&self) -> bool {
        let callbacks = std::mem::take(&mut self.shared.staged().callbacks);
        let any = !callbacks.is_empty();
        run(callbacks);
        any
    }

    /// Returns when every callback staged so far has been run. Nothing may be staged any more.
    pub(super) fn finish(&self) {
        let is_own = {
            let mut staged = self.shared.staged();
            staged.stopping = true;
            staged.thread == Some(thread::current().id())
        };
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|_| !is_own) {
            thread.join();
        }
        self.run_staged();
    }
}

/// A callback that panics must not keep the others waiting for ever. The panic hook has reported
/// it.
pub(super) fn run(callbacks: Vec<Callback>) {
    for callback in callbacks {
        drop(catch_unwind(AssertUnwindSafe(callback)));
    }
}
