//! Who does the background work: threads of the engine, or the caller step by step.
//!
//! A worker sleeps on one condition and is woken by whoever made work. The `pending` flags make a
//! wake-up that comes before the sleep count.

use crate::{
    Result, checkpoint, compaction,
    core::Core,
    flush::{self, Progress},
};
use sluice_base::Error;
use sluice_env::JoinHandle;
use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::Duration,
};

/// How long an idle worker sleeps before it looks by itself: bounds the damage of a wake-up that
/// nobody thought of, and paces the deletion of files that lost their last reader.
const IDLE_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct State {
    flush: u64,
    compaction: u64,
    checkpoint: u64,
    stopping: bool,
}

#[derive(Default)]
pub(crate) struct Background {
    state: Mutex<State>,
    wake: Condvar,
    threads: Mutex<Vec<JoinHandle>>,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Background")
    }
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Flush,
    Compaction,
    /// Its own thread, whatever the options say: a copy of all tables must hold up neither.
    Checkpoint,
}

impl Background {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake_flush(&self) {
        self.state().flush += 1;
        self.wake.notify_all();
    }

    pub(crate) fn wake_compaction(&self) {
        self.state().compaction += 1;
        self.wake.notify_all();
    }

    pub(crate) fn wake_checkpoint(&self) {
        self.state().checkpoint += 1;
        self.wake.notify_all();
    }

    /// Starts the threads. They hold the core weakly: a database dropped without `close` ends.
    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let roles = (0..core.options.flush_threads)
            .map(|index| (Role::Flush, format!("sluice-flush-{index}")))
            .chain(
                (0..core.options.compaction_threads)
                    .map(|index| (Role::Compaction, format!("sluice-comp-{index}"))),
            )
            .chain([(Role::Checkpoint, "sluice-ckpt".to_owned())]);
        for (role, name) in roles {
            let weak = Arc::downgrade(core);
            let body = Box::new(move || work(&weak, role));
            let thread = core.env.threads.spawn(&name, body);
            threads.push(thread.map_err(|error| Error::io(format!("start thread {name}"), error))?);
        }
        Ok(())
    }

    /// Tells every worker to end after the piece of work it is at.
    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.wake.notify_all();
    }

    pub(crate) fn stopping(&self) -> bool {
        self.state().stopping
    }

    /// Waits for the workers. Must not be called by one.
    pub(crate) fn join(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            thread.join();
        }
    }
}

fn work(weak: &Weak<Core>, role: Role) {
    let mut seen = 0;
    loop {
        let Some(core) = weak.upgrade() else { return };
        if core.background.stopping() {
            return;
        }
        let progress = match role {
            Role::Flush => flush::run_one(&core),
            Role::Compaction => compaction::run_one(&core),
            Role::Checkpoint => checkpoint::run_one(&core),
        };
        let wait = match progress {
            Progress::Done => continue,
            Progress::NotBefore(us) => {
                Duration::from_micros(us.saturating_sub(core.env.clock.monotonic_us()))
            }
            Progress::Idle => {
                core.store.collect_garbage();
                IDLE_WAIT
            }
        };
        let background = &core.background;
        let state = background.state();
        let unchanged = |state: &mut State| {
            let now = match role {
                Role::Flush => state.flush,
                Role::Compaction => state.compaction,
                Role::Checkpoint => state.checkpoint,
            };
            now == seen && !state.stopping
        };
        let waited = background.wake.wait_timeout_while(state, wait, unchanged);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        seen = match role {
            Role::Flush => state.flush,
            Role::Compaction => state.compaction,
            Role::Checkpoint => state.checkpoint,
        };
        drop(state);
    }
}

impl Core {
    /// Does one piece of background work on the calling thread; false when there is none.
    pub(crate) fn step(self: &Arc<Self>) -> bool {
        if self.background.stopping() {
            return false;
        }
        flush::run_one(self) == Progress::Done
            || checkpoint::run_one(self) == Progress::Done
            || compaction::run_one(self) == Progress::Done
            || self.store.collect_garbage()
    }
}
