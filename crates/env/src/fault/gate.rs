//! A door in the middle of a call: the call waits in front of it until the test opens it.

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Holds calls until opened, and tells the test when one has arrived. Clones are the same gate.
///
/// ```
/// use sluice_env::{FaultFs, Fs, Gate, MemFs, Op, OpenMode, Rule};
/// use std::{path::Path, sync::Arc};
///
/// let fs = FaultFs::new(Arc::new(MemFs::new()));
/// let gate = Gate::new();
/// fs.add(Rule::on(Op::SyncData).hold(&gate));
/// let file = fs.open(Path::new("/a"), OpenMode::CreateNew)?;
///
/// std::thread::scope(|scope| {
///     let syncing = scope.spawn(|| file.sync_data());
///     gate.wait_until_reached();
///     // The sync is under way and cannot end: look at what others may do meanwhile.
///     gate.open();
///     syncing.join().unwrap()
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Calls that have come to the gate, whether they have passed or not.
    reached: u64,
    open: bool,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, mut condition: impl FnMut(&mut State) -> bool) {
        let state = self.state();
        drop(
            self.shared
                .changed
                .wait_while(state, |state| condition(state))
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Returns when a call has come to the gate; at once when one came before.
    pub fn wait_until_reached(&self) {
        self.wait_until_reached_by(1);
    }

    /// Returns when `count` calls have come to the gate since it was made.
    pub fn wait_until_reached_by(&self, count: u64) {
        self.wait_while(|state| state.reached < count);
    }

    /// How many calls have come to the gate since it was made.
    pub fn reached(&self) -> u64 {
        self.state().reached
    }

    /// Lets the waiting calls and all later ones pass.
    pub fn open(&self) {
        self.state().open = true;
        self.shared.changed.notify_all();
    }

    /// Holds later calls again. Calls that were waiting when it was opened have passed.
    pub fn close(&self) {
        self.state().open = false;
    }

    /// Called by the faulty file system, without any lock held.
    pub(super) fn pass(&self) {
        self.state().reached += 1;
        self.shared.changed.notify_all();
        self.wait_while(|state| !state.open);
    }
}
