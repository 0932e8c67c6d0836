//! Who does the background work: threads of the engine, or the caller step by step.
//!
//! A worker sleeps on one condition and is woken by whoever made work. The `pending` flags make a
//! wake-up that comes before the sleep count.
//!
//! Every kind of worker yields the processor to the threads that serve commands (see [`Role::nice`]).
//! The log's threads do not: replies wait for them.

use crate::{
    Result, checkpoint, compaction,
    core::Core,
    flush::{self, Progress},
    reserve,
};
use sluice_base::Error;
use sluice_env::{
    JoinHandle,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
};
use std::{fmt, time::Duration};

/// How long an idle worker sleeps before it looks by itself: bounds the damage of a wake-up that
/// nobody thought of, and paces the deletion of files that lost their last reader.
const IDLE_WAIT: Duration = Duration::from_millis(500);

/// How far a flush yields the processor. Building a table is seconds of pure computation, and on a
/// machine whose processors are all busy it would otherwise take its full share from the commands.
/// It is not starved by that: memtables that wait for it fill up and hold writers back, and what
/// writers do not use is the flush's. The step is small because a flush is also what ends that.
const FLUSH_NICE: u8 = 5;

/// How far a compaction yields. More than a flush: the debt of a late compaction grows slowly and
/// stops nobody before `l0_stop`, and what it gives up goes to flushes as well as to commands.
const COMPACTION_NICE: u8 = 10;

#[derive(Debug, Default)]
struct State {
    flush: u64,
    compaction: u64,
    checkpoint: u64,
    stopping: bool,
    /// Flush threads that there shall be, and that there are.
    flush_wanted: u32,
    flush_running: u32,
    /// Flush threads started so far: for their names.
    flush_started: u32,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Flush,
    Compaction,
    /// Its own thread, whatever the options say: a copy of all tables must hold up neither.
    Checkpoint,
}

impl Role {
    /// How far its threads yield the processor.
    fn nice(self) -> u8 {
        match self {
            Role::Flush => FLUSH_NICE,
            // Who asked for a checkpoint waits for it, and for nothing else.
            Role::Compaction | Role::Checkpoint => COMPACTION_NICE,
        }
    }
}

impl Background {
    fn state(&self) -> MutexGuard<'_, State> {
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
        self.set_flush_threads(core, core.options.flush_threads)?;
        for index in 0..core.options.compaction_threads {
            self.spawn(core, Role::Compaction, index)?;
        }
        self.spawn(core, Role::Checkpoint, 0)
    }

    /// Changes how many threads flush. Missing ones are started; one too many ends when it next
    /// looks for work.
    pub(crate) fn set_flush_threads(&self, core: &Arc<Core>, count: u32) -> Result<()> {
        self.state().flush_wanted = count;
        loop {
            let index = {
                let mut state = self.state();
                if state.stopping || state.flush_running >= state.flush_wanted {
                    break;
                }
                state.flush_running += 1;
                state.flush_started += 1;
                state.flush_started - 1
            };
            self.spawn(core, Role::Flush, index).inspect_err(|_| {
                self.state().flush_running -= 1;
            })?;
        }
        self.wake.notify_all();
        Ok(())
    }

    fn spawn(&self, core: &Arc<Core>, role: Role, index: u32) -> Result<()> {
        let name = match role {
            Role::Flush => format!("sluice-flush-{index}"),
            Role::Compaction => format!("sluice-comp-{index}"),
            Role::Checkpoint => "sluice-ckpt".to_owned(),
        };
        let weak = Arc::downgrade(core);
        let body = Box::new(move || work(&weak, role));
        let thread = core.env.threads.spawn_background(&name, role.nice(), body);
        let thread = thread.map_err(|error| Error::io(format!("start thread {name}"), error))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Whether the calling flush thread is one too many; it must end then.
    fn is_surplus(&self) -> bool {
        let mut state = self.state();
        let surplus = state.flush_running > state.flush_wanted;
        if surplus {
            state.flush_running -= 1;
        }
        surplus
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
        if core.background.stopping() || (role == Role::Flush && core.background.is_surplus()) {
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
                reserve::restore(&core);
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
            let surplus = role == Role::Flush && state.flush_running > state.flush_wanted;
            now == seen && !state.stopping && !surplus
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
        self.events.step()
            || flush::run_one(self) == Progress::Done
            || checkpoint::run_one(self) == Progress::Done
            || compaction::run_one(self) == Progress::Done
            || self.store.collect_garbage()
            || reserve::restore(self)
    }
}
