//! Waiting for memtable room: the only wait on the write path, and how it ends.
//!
//! A stalled writer holds no lock (P5) and has reserved nothing (P4). It waits for the *turn* of
//! the room to change: flushes and compactions end a turn when they free something. Taking the
//! turn's number before looking for room means that no wake-up is lost in between.

use crate::stats::StallCause;
use sluice_base::{Error, ErrorKind};
use sluice_env::sync::{Condvar, Mutex, PoisonError};
use std::{fmt, time::Duration};

/// Why a write finds no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stall {
    /// The family has as many memtables as it may.
    Memtables { cf: String, sealed: usize, count: u32, paused: bool },
    /// All memtables together fill their share of the budget.
    Budget { used: u64, max: u64 },
    /// Level 0 is too deep to take another flush.
    Level0 { cf: String, tables: usize, max: u32 },
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stall::Memtables { cf, sealed, count, paused: false } => write!(
                f,
                "memtable of column family '{cf}' is full ({sealed} of {count} waiting to flush); \
                 retry, or raise memtable-count or memtable-wait-timeout"
            ),
            Stall::Memtables { cf, sealed, count, paused: true } => write!(
                f,
                "memtable of column family '{cf}' is full ({sealed} of {count} waiting to flush) \
                 while automatic flushes are paused; resume them, or flush explicitly"
            ),
            Stall::Budget { used, max } => write!(
                f,
                "memtables hold {used} of {max} bytes; retry, or raise memory-budget or \
                 memtable-wait-timeout"
            ),
            Stall::Level0 { cf, tables, max } => write!(
                f,
                "level 0 of column family '{cf}' has {tables} of {max} tables; retry when \
                 compaction has caught up"
            ),
        }
    }
}

impl Stall {
    /// What statistics and events call it, and the column family it is about.
    pub(crate) fn cause(&self) -> (StallCause, Option<&str>) {
        match self {
            Stall::Memtables { cf, .. } => (StallCause::Memtables, Some(cf)),
            Stall::Budget { .. } => (StallCause::MemoryBudget, None),
            Stall::Level0 { cf, .. } => (StallCause::Level0, Some(cf)),
        }
    }

    /// The background job that makes the room.
    pub(crate) fn job(&self) -> &'static str {
        match self {
            Stall::Memtables { .. } | Stall::Budget { .. } => "flush",
            Stall::Level0 { .. } => "compaction",
        }
    }

    pub(crate) fn error(&self, waited: Duration) -> Error {
        let waited = match waited.as_millis() {
            0 => String::new(),
            ms => format!(" (waited {ms} ms)"),
        };
        Error::new(ErrorKind::Stalled, format!("{self}{waited}"))
    }
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    turn: u64,
    /// The latest turn in which a write was refused or began to wait.
    refused: Option<u64>,
    callbacks: Vec<Callback>,
}

#[derive(Default)]
pub(crate) struct Room {
    state: Mutex<State>,
    wake: Condvar,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

impl Room {
    /// The number of the present turn. Take it before looking for room.
    pub(crate) fn turn(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).turn
    }

    /// Ends the turn: wakes every waiter and runs every callback, outside the lock.
    pub(crate) fn end_turn(&self) {
        let callbacks = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.turn += 1;
            std::mem::take(&mut state.callbacks)
        };
        self.wake.notify_all();
        for callback in callbacks {
            callback();
        }
    }

    /// Waits until `turn` is over or `limit` has passed; says whether it is over.
    pub(crate) fn wait(&self, turn: u64, limit: Option<Duration>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match limit {
            None => {
                while state.turn == turn {
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
            Some(limit) => {
                let (after, _) = self
                    .wake
                    .wait_timeout_while(state, limit, |state| state.turn == turn)
                    .unwrap_or_else(PoisonError::into_inner);
                state = after;
            }
        }
        state.turn != turn
    }

    /// Notes that `turn` had no room for some write.
    pub(crate) fn refused(&self, turn: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused = state.refused.max(Some(turn));
    }

    /// Runs `callback` once room may have come since the last refusal: at the end of the present
    /// turn, or at once when a turn has ended since. Never runs it while nothing has changed, or
    /// a caller that tries again each time would spin.
    pub(crate) fn on_change(&self, callback: Callback) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.refused == Some(state.turn) {
                state.callbacks.push(callback);
                return;
            }
        }
        callback();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    fn counting(runs: &Arc<AtomicUsize>) -> Callback {
        let runs = Arc::clone(runs);
        Box::new(move || {
            runs.fetch_add(1, SeqCst);
        })
    }

    #[test]
    fn a_callback_runs_at_the_end_of_the_turn_that_refused() {
        let (room, runs) = (Room::default(), Arc::default());
        room.on_change(counting(&runs));
        assert_eq!(runs.load(SeqCst), 1, "nothing was refused: at once");
        room.refused(room.turn());
        room.on_change(counting(&runs));
        assert_eq!(runs.load(SeqCst), 1, "nothing has changed since the refusal");
        room.end_turn();
        assert_eq!(runs.load(SeqCst), 2);
        room.end_turn();
        assert_eq!(runs.load(SeqCst), 2, "once");
        room.refused(room.turn());
        room.end_turn();
        room.on_change(counting(&runs));
        assert_eq!(runs.load(SeqCst), 3, "room came between the refusal and the call: at once");
    }

    #[test]
    fn a_wait_ends_with_its_turn_or_its_limit() {
        let room = Arc::new(Room::default());
        let turn = room.turn();
        assert!(!room.wait(turn, Some(Duration::ZERO)));
        let waker = Arc::clone(&room);
        std::thread::scope(|scope| {
            scope.spawn(move || waker.end_turn());
            assert!(room.wait(turn, None));
        });
    }
}

#[cfg(all(test, sluice_loom))]
mod loom_tests;
